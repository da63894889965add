"""Pictures of a report: by role, never covering data, whatever the numbers are."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from lowrankflow import render
from lowrankflow.cli.output import write
from lowrankflow.findings import position
from lowrankflow.report import Claim, Control, Curve, Figure, Hypothesis, Report

SPECIAL = '<b>5 > 4</b> & "quoted" </script><script>alert(1)</script>'


def sample_report() -> Report:
    """A report as `verify` would write it, with everything that can go wrong in its values."""
    t = np.linspace(0, 6, 241)
    limits = np.geomspace(3.0, 0.15, 10)
    sigma = limits[:, None] / (1 + (limits[:, None] / 0.1 - 1) * np.exp(-2 * limits[:, None] * t))
    loss = (limits**2 / 2).sum() - (limits[:, None] * sigma - sigma**2 / 2).sum(axis=0)
    gap = 2e-12 * (1 + np.sin(3 * t) ** 2) * (1 - np.exp(-t))
    h = 0.02 / 2.0 ** np.arange(6)
    rtol = 10.0 ** -np.arange(6, 12, 2)
    unshown = [math.nan, math.inf, 0.0, -1.0]  # on a logarithmic axis
    figures = [
        Figure(
            "singular-values", "Two computations, one flow",
            "Singular values of the product of the factors (line) and of the Riemannian flow (rings), from one start.",
            "flow time, in units of 1 / (N lambda_1 sigma_1^(2 - 2/N))", "singular values",
            [Curve("Riemannian flow, singular frame", list(t), list(sigma[0]), "a")]
            + [Curve("", list(t), list(s), "a") for s in sigma[1:]]
            + [Curve("factor flow, 64 x 64 x 64", list(t), list(s), "b") for s in sigma],
        ),
        Figure(
            "gap", "How far apart the two flows are",
            "Relative distance of the two products over time; controls start from the same product.",
            "flow time", "||W_a - W_b|| / max ||W||",
            [
                Curve("gap", list(t), list(gap), "gap"),
                Curve("bound: 3 (e_a + e_b) + roundoff", [0.0, 6.0], [3e-11, 3e-11], "bound"),
                Curve("control: unbalanced factors", list(t), list(0.05 * t / (1 + t)), "control"),
                Curve("control: wrong depth", list(t), list(0.3 * t / (1 + t)), "control"),
                Curve("control: wrong sign", list(t), [*(0.6 * t / (1 + t))[:-4], *unshown], "control"),
            ],
            yscale="log",
        ),
        Figure(
            "loss", "Loss along both sides", "The loss above its best value at this rank.", "flow time", "excess loss",
            [Curve("Riemannian flow", list(t), list(loss), "a"), Curve("factor flow", list(t), list(loss), "b")],
            yscale="log",
        ),
        Figure(
            "descent", "Gradient descent approaches the flow with order 1",
            "Largest gap between k steps of size h and the flow at time k h; the fitted order is 0.997.",
            "step size h", "largest gap",
            [
                Curve("measured", list(h), list(1.3 * h**0.997), "gap", points=True),
                Curve("slope 1", list(h), list(1.3 * h), "guide"),
                Curve("control: wrong sign", list(h), list(0.9 + 0 * h), "control", points=True),
            ],
            xscale="log", yscale="log",
        ),
        Figure(
            "tolerance", "The gap follows the tolerance", "Largest gap against rtol.", "rtol", "largest gap",
            [
                Curve("measured", list(rtol), list(3 * rtol**0.93), "gap", points=True),
                Curve("slope 0.7", list(rtol), list(3 * rtol**0.7), "guide"),
                Curve("roundoff", list(rtol), [2e-14] * 3, "bound"),
            ],
            xscale="log", yscale="log",
        ),
        Figure(
            "shades", "Several curves of one role", "Twenty labels of one side: lighter shades, a short legend.",
            "t", "s", [Curve(f"s_{i}", list(t), list((1 + i) * np.exp(-t / (1 + i))), "a") for i in range(20)],
        ),
        Figure(
            "strange", SPECIAL, f"Costs $5 or $\\nonsense$: {SPECIAL}", "x $", "y in µ",
            [Curve("", [], [], "a"), Curve("all nan", [1.0, 2.0], [math.nan, math.inf], "b"),
             Curve(SPECIAL, [1.0, math.nan, 3.0], [1.0, 2.0, 0.5], "guide"), Curve("one point", [2.0], [0.7], "a")],
        ),
    ]  # fmt: skip
    balanced = Hypothesis("balanced start", True, 3.1e-16)
    fixed_rank = Hypothesis("full rank along the path", True, 0.1)
    derived = "derived, docs/theory.md"
    claims = [
        Claim("gradient", "Factor gradients differentiate the loss.", derived, 4.2e-10, "<=", 1e-6,
              controls=(Control("gradient of the loss times 1.001", 1e-3, 1e-6),),
              detail="Central differences along 16 random factor directions."),
        Claim("pointwise", "Factor gradients move the product along -A_W(gradient).", "Bah et al., 2022", 3.3e-15, "<=",
              6.7e-14, (balanced,), (Control("wrong depth", 0.31, 6.7e-14), Control("wrong sign", 2.0, 6.7e-14))),
        Claim("trajectory", "The two flows are the same curve of matrices up to the horizon.", "Bah et al., 2022",
              4.1e-12, "<=", 3e-11, (balanced, fixed_rank),
              (Control("unbalanced factors, same product", 4.4e-2, 3e-11),
               Control("wrong depth on one side", 0.27, 3e-11), Control("wrong sign on one side", math.inf, 3e-11)),
              "bound = 3 (e_a + e_b) + 100 eps ||W|| sqrt(evaluations), each side against itself at rtol / 100."),
        Claim("tolerance", "The gap shrinks with the tolerance.", derived, 0.93, ">=", 0.7,
              controls=(Control("unbalanced factors", 0.004, 0.7, ">="),)),
        Claim("descent", "Gradient descent approaches the flow with order 1.", derived, 0.997, "in", (0.9, 1.1),
              (balanced,), (Control("wrong sign", 0.02, (0.9, 1.1), "in"),)),
        Claim("rank", "The rank does not change.", "Bah et al., 2022", 0.0, "<=", 0.0, (fixed_rank,)),
        Claim("balance", "W_{j+1}^T W_{j+1} - W_j W_j^T does not change.", derived, 2.2e-13, "<=", 1e-12,
              controls=(Control("one factor scaled at half time", 8e-13, 1e-12),)),
        Claim("dissipation", "The loss falls by the integral of g(W', W').", derived, math.nan, "<=", 1e-8),
        Claim("limit", "The flow ends at a best rank-r matrix.", "Bah et al., 2022", math.inf, "<=", 1e-6,
              (Hypothesis("stationary at the end", False, 0.31),), (Control("rank lowered by one", 0.44, 1e-6),),
              "Ended at the evaluation budget, before the projected gradient fell to 1e-4 of its start."),
        Claim(SPECIAL, SPECIAL, SPECIAL, 1.0, "<=", 2.0, (Hypothesis(SPECIAL, True, SPECIAL),),
              (Control(SPECIAL, 7.0, 2.0),), SPECIAL),
    ]  # fmt: skip
    problem = {
        "data": {"name": "digits", "samples": 1797, "features": 64, "task": "autoencoding", "note": SPECIAL},
        "preparation": {"centred": True, "scale": 6.0164, "numerical rank": 61, "dropped directions": 3},
        "loss": "LeastSquares", "normalisation": "mean over samples, 1/2 ||W X - Y||^2 / n",
        "shape": [64, 64], "depth": 3, "rank": 10, "widths": [64, 64], "seed": 0,
        "start": {"singular_values": [0.1] * 10, "kind": "balanced"},
        "tolerances": {"rtol": 1e-10, "atol": 1e-13}, "t_end": None, "horizon": math.inf,
        "many": list(range(100)), "runs": [{"h": 0.01, "steps": 100}, {"h": 0.005, "steps": 200}], "empty": {},
    }  # fmt: skip
    return Report("verify --data digits --depth 3", problem, claims, figures, version="0.1.0")


def _fresh():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Page

    page = Page(figsize=(7.2, 4.5), layout="constrained")
    FigureCanvasAgg(page)
    return page.add_subplot()


@pytest.fixture
def ax():
    return _fresh()


def _named(name: str) -> Figure:
    return next(f for f in sample_report().figures if f.name == name)


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _size(data: bytes) -> tuple[int, int]:
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR"
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])


@pytest.mark.parametrize("name", ["singular-values", "gap", "loss", "descent", "tolerance", "shades"])
def test_a_figure_has_as_many_lines_as_curves(ax, name):
    figure = _named(name)
    render.draw_figure(ax, figure)
    assert len(ax.lines) == len(figure.curves)
    assert (ax.get_xscale(), ax.get_yscale()) == (figure.xscale, figure.yscale)
    assert (ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel()) == (figure.title, figure.xlabel, figure.ylabel)


@pytest.mark.parametrize("figure", sample_report().figures, ids=lambda f: f.name)
def test_the_legend_never_covers_data(ax, figure):
    render.draw_figure(ax, figure)
    ax.figure.canvas.draw()
    legend = ax.get_legend().get_window_extent()
    assert legend.y1 < ax.bbox.y0  # below the axes,
    assert legend.y1 <= ax.xaxis.get_label().get_window_extent().y0  # below its label,
    assert legend.y0 >= 0 and legend.x1 <= ax.figure.bbox.x1  # and on the page


def test_repeated_and_empty_labels_stand_once(ax):
    render.draw_figure(ax, _named("singular-values"))
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "Riemannian flow, singular frame", "factor flow, 64 x 64 x 64",
    ]  # fmt: skip
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in ax.lines}
    assert len(looks) == 2


def test_a_long_legend_is_counted(ax):
    render.draw_figure(ax, _named("shades"))
    texts = [t.get_text() for t in ax.get_legend().get_texts()]
    assert len(texts) == 12 and texts[-1] == "and 9 more"
    assert len({line.get_color() for line in ax.lines}) == 20


def test_the_look_of_a_role_is_the_same_in_every_figure(ax):
    roles = ["a", "b", "gap", "bound", "control", "guide"]
    render.draw_figure(ax, Figure("f", "t", "c", "x", "y", [Curve(r, [1.0, 2.0], [1.0, 2.0], r) for r in roles]))
    looks = {r: (line.get_color(), line.get_linestyle()) for r, line in zip(roles, ax.lines, strict=True)}
    assert len(set(looks.values())) == 6 and len({colour for colour, _ in looks.values()}) == 6
    a, b = ax.lines[0], ax.lines[1]
    assert a.get_linestyle() == "-" and a.get_marker() == "None"
    # side b: hollow markers, no line, drawn on top of all others
    assert b.get_linestyle() == "None" and b.get_markerfacecolor() == "none"
    assert b.get_zorder() == max(line.get_zorder() for line in ax.lines)


def test_names_of_lines_stand_beside_the_axes_and_apart(ax):
    heights = [1.0, 1.0001, 2.0, 5.0, math.nan]
    lines = [Curve("", [1.0, 2.0], [y, y], "guide", mark=f"rank {i}") for i, y in enumerate(heights)]
    render.draw_figure(ax, Figure("f", "t", "c", "x", "y", [Curve("loss", [1.0, 2.0], [5.0, 1.0]), *lines]))
    names = {text.get_text(): text for text in ax.texts}
    assert set(names) == {"rank 0", "rank 1", "rank 2", "rank 3"}  # no line, no name
    ax.figure.canvas.draw()
    boxes = [names[f"rank {i}"].get_window_extent() for i in (3, 2, 1, 0)]  # from the top
    assert all(box.x0 >= ax.bbox.x1 for box in boxes)
    assert all(above.y0 >= below.y1 for above, below in pairwise(boxes))


def test_values_that_cannot_be_shown_are_left_out(ax):
    render.draw_figure(ax, _named("gap"))
    wrong_sign = np.asarray(ax.lines[-1].get_ydata())
    assert np.isnan(wrong_sign[-4:]).all() and np.isnan(wrong_sign[0])  # nan, inf, 0, -1; and 0 at t = 0
    assert np.isfinite(wrong_sign[1:-4]).all()
    low, high = ax.get_ylim()
    assert 0 < low < high < 10


def test_curves_without_a_value_are_skipped(ax):
    render.draw_figure(ax, _named("strange"))
    assert len(ax.lines) == 2  # of four: one is empty, one has no finite value
    assert ax.get_title(loc="left") == SPECIAL


def test_a_figure_without_any_value_says_so():
    figure = Figure("f", "t", "c", "x", "y", [Curve("a", [1.0], [-1.0])], xscale="log", yscale="log")
    _size(render.image(figure))
    assert b"<svg" in render.image(figure, "svg")


def test_values_near_the_limits_of_a_float_are_survived():
    curve = Curve("a", [1e-300, 1.0, 1e300], [1e300, 1.0, 1e-300])
    for scale in ("linear", "log"):
        _size(render.image(Figure("f", "t", "c", "x", "y", [curve], scale, scale)))
    _size(render.image(Report("v", {}, [Claim("c", "s", "d", np.float64(1e300), "<=", np.float64(1e-300))])))


def test_dollars_that_are_no_mathematics_are_drawn_literally():
    curve = Curve(r"$\frac{1}$", [0.0, 1.0], [0.0, 1.0])
    figure = Figure("f", r"$\nonsense$ and $x$", "c", "a $", r"$\sigma_1$", [curve])
    _size(render.image(figure))


def test_pictures_are_the_same_bytes_each_time():
    figure = _named("descent")
    assert render.image(figure) == render.image(figure)
    assert render.image(figure, "svg") == render.image(figure, "svg")


@pytest.mark.parametrize(
    ("measured", "relation", "bound", "expected"),
    [
        (1.0, "<=", 2.0, 0.5), (0.0, "<=", 0.0, 0.0), (1e-9, "<=", 0.0, math.inf), (-3.0, "<=", 1.0, 0.0),
        (-4.0, "<=", -2.0, 0.5), (1.0, "<=", -2.0, math.inf), (math.inf, "<=", 1.0, math.inf),
        (1.0, "<=", math.inf, 0.0), (math.inf, "<=", math.inf, 1.0),
        (0.9, ">=", 0.45, 0.5), (0.0, ">=", 0.7, math.inf), (-1.0, ">=", 0.7, math.inf), (math.inf, ">=", 0.7, 0.0),
        (1.0, "in", (0.5, 1.5), 0.0), (1.25, "in", (0.5, 1.5), 0.5), (0.0, "in", (0.5, 1.5), 2.0),
        (3.0, "in", (3.0, 3.0), 0.0),
    ],
)  # fmt: skip
def test_the_position_is_on_the_side_of_the_verdict(measured, relation, bound, expected):
    claim, control = Claim("c", "s", "d", measured, relation, bound), Control("c", measured, bound, relation)
    assert position(measured, relation, bound) == claim.position == control.position == pytest.approx(expected)
    assert (expected <= 1) == claim.holds == (not control.caught)


def test_the_overview_puts_claims_left_and_controls_right(ax):
    report = sample_report()
    render.draw_report(ax, report)
    markers = {"o": [], "X": [], "s": [], "D": []}
    for line in ax.lines:
        if line.get_marker() in markers:
            markers[line.get_marker()].append((line.get_ydata()[0], line.get_xdata()[0]))
    # one marker a claim, its form the verdict; one diamond a control, right of 1 exactly if it is caught
    verdicts = {"o": "passed", "X": "failed", "s": "not claimed"}
    for marker, verdict in verdicts.items():
        assert sorted(row for row, _ in markers[marker]) == [i for i, c in enumerate(report) if c.verdict == verdict]
    assert all(x < 1 for _, x in markers["o"])
    caught = [k.caught for c in report for k in c.controls]
    assert [x > 1 for _, x in markers["D"]] == caught and not all(caught)
    low, high = ax.get_xlim()
    assert all(low < x < high for marks in markers.values() for _, x in marks)
    assert [t.get_text().split()[0] for t in ax.get_yticklabels()][:3] == ["gradient", "pointwise", "trajectory"]
    assert [t.get_text() for t in ax.texts].count("passed: 0.93 ≥ 0.7") == 1


def _legend(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_controls_of_what_is_not_claimed_are_neither_caught_nor_missed(ax):
    """The title counts them as little; to read "NOT caught" beside "all caught" is what went wrong."""
    unmet = (Hypothesis("h", False, "no"),)
    missed = Control("changed", 0.5, 1.0)
    made = Claim("made", "s", "d", 0.1, "<=", 1.0, controls=(Control("changed", 2.0, 1.0),))
    not_made = Claim("not made", "s", "d", 0.1, "<=", 1.0, unmet, (missed,))
    report = Report("verify", {}, [made, not_made])
    render.draw_report(ax, report)
    assert "1 of 1 controls caught" in ax.get_title(loc="left")
    assert _legend(ax) == ["passed", "not claimed", "control, caught", "control, not counted"]
    for shown in (str(report), render.to_html(report)):
        assert "not caught" not in shown.lower().split('id="reading"')[0]
    # control: of a claim that is made, it is missed everywhere
    report, other = Report("verify", {}, [Claim("made", "s", "d", 0.1, "<=", 1.0, (), (missed,))]), _fresh()
    render.draw_report(other, report)
    assert "0 of 1 controls caught" in other.get_title(loc="left") and "control, NOT caught" in _legend(other)
    for shown in (str(report), render.to_html(report)):
        assert "not caught" in shown.lower().split('id="reading"')[0]


def test_an_overview_without_claims():
    _size(render.image(Report("verify", {})))


def test_save_figures_writes_one_png_a_figure(tmp_path):
    report = sample_report()
    report = replace(report, figures=[report.figures[0], report.figures[-1]])
    paths = render.save_figures(report, tmp_path / "new" / "figures")
    assert [p.name for p in paths] == ["overview.png", *(f"{f.name}.png" for f in report.figures)]
    assert sorted(paths) == sorted((tmp_path / "new" / "figures").iterdir())
    for path in paths:
        width, height = _size(path.read_bytes())
        large = path.stem in ("overview", report.figures[0].name)
        assert width == (1598 if large else 1088) and height > 500  # 9.4 and 6.4 inches at 170 dpi


@pytest.fixture
def drawn(monkeypatch):
    """The subjects of all drawings that are made."""
    seen = []
    for name in ("draw_figure", "draw_report"):
        original = getattr(render, name)

        def draw(ax, subject, original=original):
            seen.append(subject)
            original(ax, subject)

        monkeypatch.setattr(f"lowrankflow.render.pictures.{name}", draw)
    return seen


def test_each_picture_is_drawn_once_for_its_file_and_for_the_page(tmp_path, drawn):
    report = sample_report()
    report = replace(report, figures=report.figures[3:5])
    write(report, tmp_path, None)
    assert drawn == [report, *report.figures]
    # control: who does not hand them over draws them twice
    render.save_figures(report, tmp_path)
    render.write_html(report, tmp_path / "report.html")
    assert len(drawn) == 3 * (1 + len(report.figures))


def test_a_picture_without_its_title_is_the_rest_of_it():
    picture = render.Picture(_named("loss"))
    (width, height), (same, lower) = _size(picture.png()), _size(picture.png(title=False))
    assert same == width and 20 < height - lower < 80  # 11 points and 10 of distance at 150 dpi are 44
    whole, rest = picture.svg(), picture.svg(title=False)
    assert b'id="title"' in whole and b'id="title"' not in rest and b'id="title"' in picture.svg()
    assert picture.svg() == whole == render.image(_named("loss"), "svg")


def test_a_kind_of_file_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"^`kind` must be one of png, svg; got 'pdf'\.$"):
        render.image(_named("loss"), "pdf")


def test_names_of_figures_never_leave_the_folder(tmp_path):
    curve = [Curve("a", [0.0, 1.0], [0.0, 1.0])]
    names = ["../../escaped", "overview", "overview", "", "a/b"]
    report = Report("verify", {}, figures=[Figure(n, "t", "c", "x", "y", curve) for n in names])
    paths = render.save_figures(report, tmp_path / "figures")
    assert [p.stem for p in paths] == ["overview", "escaped", "overview-2", "overview-3", "figure", "a-b"]
    assert [p.name for p in tmp_path.iterdir()] == ["figures"]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    report = Report("verify", {}, figures=[_named("loss")])
    with pytest.raises(ValueError, match=r"^`folder` must be a folder that can be written, got .* Choose another\.$"):
        render.save_figures(report, tmp_path / "file")
    (tmp_path / "loss.png").mkdir()
    with pytest.raises(ValueError, match="can be written"):
        render.save_figures(report, tmp_path)
    assert not list(tmp_path.glob(".*"))  # no temporary file stays


def test_settings_of_the_user_are_left_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 31.0}):
        render.image(_named("loss"))
        assert matplotlib.rcParams["font.size"] == 31.0
    assert dict(matplotlib.rcParams) == before


def test_importing_is_light_and_pyplot_is_never_used():
    code = "import sys, lowrankflow.render; print([m for m in ('matplotlib', 'jinja2') if m in sys.modules])"
    assert _run(code).strip() == "[]"
    code = (
        "import sys; from lowrankflow import render; from lowrankflow.report import *; "
        "f = Figure('f', 't', 'c', 'x', 'y', [Curve('a', [0.0, 1.0], [0.0, 1.0])]); "
        "render.image(f); render.image(f, 'svg'); render.image(Report('verify', {}, [], [f])); "
        "print('matplotlib.pyplot' in sys.modules)"
    )
    assert _run(code).strip() == "False"


def test_drawing_works_on_an_axes_of_pyplot():
    code = (
        "import matplotlib; matplotlib.use('Agg'); import matplotlib.pyplot as plt; import sys; "
        "from lowrankflow import render; from lowrankflow.report import *; "
        "fig, axes = plt.subplots(1, 2, layout='constrained'); "
        "render.draw_figure(axes[0], Figure('f', 't', 'c', 'x', 'y', [Curve('a', [0.0, 1.0], [0.0, 1.0])])); "
        "render.draw_report(axes[1], Report('verify', {})); fig.savefig(sys.stdout.buffer)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr
    _size(done.stdout)


def test_ones_of_many_differ_in_colour_dashes_and_marker(ax):
    labels = [f"metric {i}" for i in range(12)]
    t = list(np.linspace(0, 1, 50))
    curves = [Curve(label, t, [i + v for v in t], "one") for i, label in enumerate(labels)]
    curves[3] = Curve(labels[3], [], [], "one")  # nothing to draw, but the others keep their looks
    render.draw_figure(ax, Figure("f", "t", "c", "x", "y", curves))
    seen = {(line.get_color(), str(line._dash_pattern), line.get_marker()) for line in ax.lines}
    assert len(ax.lines) == len(seen) == 11
    assert [len(set(parts)) for parts in zip(*seen, strict=True)] == [7, 5, 8]  # the fourth of nine markers is the one left out
    other = _fresh()  # all twelve drawn: the fifth has the look it had without the fourth
    whole = [Curve(label, t, t, "one") for label in labels]
    render.draw_figure(other, Figure("f", "t", "c", "x", "y", whole))
    assert other.lines[4].get_color() == ax.lines[3].get_color()
    assert other.lines[4].get_marker() == ax.lines[3].get_marker()


@pytest.mark.parametrize(("last", "whole"), [(2.0, True), (2.5, False)])
def test_what_is_counted_has_whole_ticks(ax, last, whole):
    render.draw_figure(ax, Figure("f", "t", "c", "mode", "y", [Curve("a", [1.0, last], [1.0, 2.0], "one")]))
    assert all(float(tick).is_integer() for tick in ax.get_xticks()) is whole


def test_the_modes_of_one_of_many_look_alike_and_stand_once_in_the_legend(ax):
    t = list(np.linspace(0, 1, 50))
    curves = [Curve(name if k == 0 else "", t, [k + v for v in t], "one") for name in "ab" for k in range(3)]
    render.draw_figure(ax, Figure("f", "t", "c", "x", "y", curves))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert len({line.get_color() for line in ax.lines}) == 2
    # marks are few on a long line, so that they do not cover it
    assert all(line.get_markevery() is not None for line in ax.lines)
