"""In a notebook: what a cell shows, and that a text is a text there too."""

import re
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest

import lowrankflow as lrf

NOTEBOOK = Path(__file__).parents[1] / "examples" / "notebook.ipynb"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What each cell of the example shows, by its last line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        patch.setenv("JUPYTER_PLATFORM_DIRS", "1")
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return {cell.source.splitlines()[-1]: cell.outputs for cell in cells}


@pytest.mark.filterwarnings("ignore")  # of the kernel's own libraries
def test_the_notebook_of_the_examples(shown):
    texts = ["".join(out.get("text", "") for out in outputs if out.output_type == "stream") for outputs in shown.values()]
    told = re.search(r"told of progress (\d+) times", texts[0])
    assert "0 failed" in texts[0] and 10 < int(told[1]) < 400
    # a report as text: all of its table, the summary at the end, and nothing displayed beside it
    (printed,) = shown['print(len(f"{report}"))']
    assert printed.output_type == "stream" and "controls caught." in printed.text and int(printed.text.split()[-1]) > 10_000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("line", ["report", "report.tables[0]", "path"])
def test_values_are_shown_as_tables_and_their_repr_is_short(shown, line):
    (output,) = shown[line]
    assert "<table" in output.data["text/html"] and len(output.data["text/plain"]) < 1000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("line", ["lrf.render.Picture(report)", "lrf.render.Picture(path)"])
def test_one_line_draws(shown, line):
    (output,) = shown[line]
    assert "image/png" in output.data and output.metadata["image/png"]["width"] == 720


def small_report():
    control = lrf.Control("a <change>", 0.5, 0.1)
    hypotheses = (lrf.Hypothesis("a & b", False, "no <b>"),)
    claims = [
        lrf.Claim("one", "1 < 2.", "derived", 1e-9, "<=", 1e-6, controls=(control,)),
        lrf.Claim("two", "W_2", "derived", 0.5, "in", (0.1, 0.2), hypotheses=hypotheses),
    ]
    table = lrf.report.Table("t", "A <title>", "caption", ("name", "x"), (("<i>", 1.5), ("b", None)))
    return lrf.Report("verify", {"n": 3}, claims, tables=[table], headline="data <x>\nmore", repeats="lowrankflow verify")


def test_a_report_as_html_says_what_its_text_says_and_no_markup_of_a_users():
    html = small_report()._repr_html_()
    assert "PASSED" in html and "1.00e-09" in html and "&lt;= 1.00e-06" in html and "in [0.1, 0.2]" in html
    assert "not met: a &amp; b (no &lt;b&gt;)" in html and "1 of 1" in html and "A &lt;title&gt;" in html
    assert not re.search(r"<(title|change|i|x)>", html)
    assert html.count("<table") == html.count("</table>") == 3  # what it is of, its claims, its table


def test_a_repr_is_a_summary():
    text = repr(small_report())
    assert text.splitlines()[0] == "Report of verify: PASSED"
    assert "1 passed, 0 failed, 1 not claimed" in text and "more" not in text
    assert repr(small_report().tables[0]) == "Table t: A <title>, 2 rows of name, x"
    curve = lrf.report.Curve("c", list(range(10_000)), list(range(10_000)))
    assert len(repr(curve)) < 200
    assert repr(lrf.Report("", {})).splitlines()[0] == "Report of a check: NOT CLAIMED"


def test_a_trajectory_as_html_has_the_lines_of_its_repr():
    loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    path = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(2)), lrf.random_point(3, 3, 2, rng=0), t_span=(0, 1))
    html = path._repr_html_()
    for line in repr(path).splitlines()[1:]:
        name, text = re.split(r"\s{2,}", line.strip(), maxsplit=1)
        assert f">{name}</th>" in html and f">{text}</td>" in html
    data, size = lrf.render.Picture(path)._repr_png_()
    assert data.startswith(PNG) and size == {"width": 720}


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_no_setting_of_a_terminal_colours_a_text(variable, monkeypatch):
    plain = str(small_report())
    monkeypatch.setenv(variable, "1")
    assert str(small_report()) == plain and "\x1b" not in plain
