"""Claims as values: verdicts, JSON, text."""

import json
import math
import pickle

import numpy as np
import pytest

import lowrankflow as lrf
from lowrankflow.cli.output import show
from lowrankflow.findings import holds
from lowrankflow.pymanopt_manifold import FixedRank
from lowrankflow.report import Claim, ClaimFailed, Control, Curve, Figure, Hypothesis, Report, Table


def claim(measured=0.5, relation="<=", bound=1.0, met=True, control=2.0, name="c"):
    return Claim(
        name, "A statement.", "derived: docs/theory.md#numerics", measured, relation, bound,
        (Hypothesis("h", met, 0.25),), (Control("changed", control, bound, relation),),
    )  # fmt: skip


@pytest.mark.parametrize(
    "measured, relation, bound, expected",
    [
        (1.0, "<=", 1.0, True),
        (1.1, "<=", 1.0, False),
        (math.nan, "<=", 1.0, False),
        (math.inf, "<=", 1.0, False),
        (0.7, ">=", 0.7, True),
        (math.nan, ">=", 0.7, False),
        (1.0, "in", (0.9, 1.1), True),
        (1.2, "in", (0.9, 1.1), False),
        (math.nan, "in", (0.9, 1.1), False),
    ],
)
def test_relations(measured, relation, bound, expected):
    assert holds(measured, relation, bound) is expected


@pytest.mark.parametrize(
    "options, verdict",
    [
        ({}, "passed"),
        ({"measured": 3.0}, "failed"),
        ({"measured": math.nan}, "failed"),
        ({"control": 0.1}, "failed"),  # a control that slips through is a failure of the claim
        ({"control": math.nan}, "passed"),
        ({"met": False}, "not claimed"),
        ({"met": False, "measured": 3.0}, "not claimed"),
    ],
)
def test_verdicts(options, verdict):
    assert claim(**options).verdict == verdict


@pytest.mark.parametrize(
    "claims, passed, message",
    [
        ([claim()], True, None),
        ([claim(), claim(met=False)], True, None),
        (
            [claim(), claim(measured=3.0, name="bad")],
            False,
            "^Claim bad: 3 <= 1 is not so, or a control was not caught.$",
        ),
        ([claim(met=False)], False, "^Nothing could be claimed: no claim has all its hypotheses met.$"),
        ([], False, "Nothing could be claimed"),
    ],
)
def test_a_report_passes_if_nothing_failed_and_something_was_claimed(claims, passed, message):
    report = Report("verify", {}, claims)
    assert report.passed is passed
    if message:
        with pytest.raises(ClaimFailed, match=message) as caught:
            report.raise_if_failed()
        assert caught.value.report is report and isinstance(caught.value, AssertionError)  # as before 1.0
    else:
        report.raise_if_failed()


WORDS = {"title": "Is it so?", "lead": "It was asked.", "headline": "x [2]: W is 2 x 3\nslow", "repeats": "lowrankflow verify"}


def full_report():
    figure = Figure("f", "t", "c", "x", "y", [Curve("a", [1.0, 2.0], [math.inf, math.nan], "gap", True)], "log", "log")
    claims = [claim(measured=math.inf), claim(relation="in", bound=(0.9, 1.1), measured=1.0, name="order")]
    problem = {"shape": (2, 3), "condition": np.float64(5.0), "values": np.arange(3), "bad": -math.inf}
    return Report("verify", problem, claims, [figure], version="1", **WORDS)


def wide_table(columns):
    heads = ("metric", *(f"a long name {i}" for i in range(1, columns)))
    return Table("wide", "Wide", "All digits stay.", heads, (("depth 3", *(-1.23456e-10 for _ in range(1, columns))),))


def test_tables_are_printed_written_and_read_back(tmp_path):
    cells = ("depth [3]", 3, 0.25, math.inf, math.nan, None, "gradient")
    table = Table("t", "A title", "A caption [of] it.", ("metric", "n", "x", "y", "z", "none", "why"), (cells,))
    report = Report("compare", {}, [claim()], tables=[table])
    text = str(report)
    for word in ("A title", "A caption [of] it.", "depth [3]", "0.25", "inf", "nan", "gradient", "1 passed"):
        assert word in text
    assert text.index("A title") < text.index("A statement")  # what was seen before what is claimed
    data = json.loads(report.to_json(tmp_path / "r.json"))
    assert data["tables"][0]["rows"] == [["depth [3]", 3, 0.25, "inf", "nan", None, "gradient"]]
    again = Report.from_json(tmp_path / "r.json").table("t")
    assert again.column("y") == (math.inf,) and math.isnan(again.column("z")[0]) and again.column("n") == (3,)
    assert str(Report("compare", {}, tables=[table])).count("A title") == 1
    with pytest.raises(KeyError, match="`name` must be a table of this report, which has t; got 'u'"):
        report.table("u")
    with pytest.raises(ValueError, match="`name` must be one of metric, n, x, y, z, none, why; got 'w'"):
        table.column("w")


@pytest.mark.parametrize("columns", [3, 8, 13])
def test_numbers_of_a_wide_table_keep_their_digits(columns):
    text = str(Report("compare", {}, tables=[wide_table(columns)]))
    assert text.count("-1.23e-10") == columns - 1 and "…" not in text


def test_reports_from_before_there_were_tables_and_words_can_be_read(tmp_path):
    data = full_report().to_dict()
    for name in ("tables", "given", *WORDS):
        del data[name]
    assert set(data) == {"schema", "command", "version", "environment", "interrupted", "problem", "claims", "figures"}
    (tmp_path / "r.json").write_text(json.dumps(data))
    read = Report.from_json(tmp_path / "r.json")
    assert read.tables == [] and {getattr(read, name) for name in WORDS} == {""}
    assert read.to_dict() == data | {"tables": [], "given": None} | dict.fromkeys(WORDS, "")


def test_a_report_survives_a_pickle_and_one_from_before_there_were_words(tmp_path):
    report = full_report()
    assert pickle.loads(pickle.dumps(report)).to_dict() == report.to_dict()
    for name in WORDS:
        del vars(report)[name]  # as in the pickle of an older one
    assert pickle.loads(pickle.dumps(report)).to_dict() == report.to_dict() | dict.fromkeys(WORDS, "")


def test_json_is_valid_and_reads_back(tmp_path):
    report = full_report()
    text = report.to_json(tmp_path / "r.json")
    data = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert data["schema"] == 1 and data["claims"][0]["measured"] == "inf"
    assert data["problem"] == {"shape": [2, 3], "condition": 5.0, "values": [0, 1, 2], "bad": "-inf"}
    assert data["claims"][0]["controls"][0]["caught"] is True
    again = Report.from_json(tmp_path / "r.json")
    assert [c.verdict for c in again] == [c.verdict for c in report]
    assert again.to_dict() == report.to_dict() and {name: getattr(again, name) for name in WORDS} == WORDS
    assert list(tmp_path.iterdir()) == [tmp_path / "r.json"]  # no temporary file is left


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "[" * 100_000, '{"claims": [{}]}', '{"claims": [3]}'])
def test_a_damaged_file_is_refused_in_one_line(text, tmp_path):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^`path` must ") as caught:
        Report.from_json(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("relation", "=<"), ("bound", []), ("bound", "x"), ("measured", None), ("controls", [1]), ("hypotheses", 2)],
)
def test_a_claim_that_is_none_is_refused(key, value, tmp_path):
    path = tmp_path / "r.json"
    data = full_report().to_dict()
    data["claims"][1][key] = value
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"^`path` must be a report written by Report.to_json, got .*\.$"):
        Report.from_json(path)


def test_the_table_says_everything():
    text = str(full_report())
    for word in ("order", "inf", "<= 1", "in [0.9, 1.1]", "failed", "passed", "changed", "NOT CAUGHT", "caught"):
        assert word in text or word == "NOT CAUGHT"
    assert "1 passed, 1 failed, 0 not claimed; 2 of 2 controls caught." in text
    assert "not met: h (0.25)" in str(Report("verify", {}, [claim(met=False)]))
    assert "NOT CAUGHT" in str(Report("verify", {}, [claim(control=0.1)]))


def test_brackets_in_texts_are_not_markup():
    report = Report("verify", {}, [claim(name="[red]x[/red]"), claim(name="[A W_1, W_2]")])
    assert "[red]x[/red]" in str(report) and "[A W_1, W_2]" in str(report)


def test_looking_up_a_claim():
    report = full_report()
    assert report["order"].measured == 1.0 and len(report) == 2
    with pytest.raises(KeyError, match="which has c, order; got 'ordr'"):
        report["ordr"]


LOSS = lrf.losses.LeastSquares(np.eye(4), np.diag([4.0, 3.0, 2.0, 1.0])[:3])
START = lrf.random_point(3, 4, 2, rng=0, singular_values=[0.5, 0.4])
MAKERS = {
    "verify": (
        lambda: lrf.verify_equivalence(LOSS, START, depth=3, t_end=0.1, claims=["pointwise"], about={"name": "mine"}),
        "mine: W is 3 x 4, rank 2, depth 3, hidden widths 3, 3; loss 1/2 ||W X - Y||_F^2, samples in columns\ntime 0 .. 0.1 = ",
    ),
    "compare": (
        lambda: lrf.compare_metrics(LOSS, START, [2], clock_end=0.1),
        "W is 3 x 4, rank 2; loss 1/2 ||W X - Y||_F^2, samples in columns\nclock operator: flow time multiplied by",
    ),
    "check-loss": (lambda: lrf.check_loss(LOSS, START), "LeastSquares: W is 3 x 4, rank 2"),
    "check-metric": (lambda: lrf.check_metric(lrf.DepthMetric(3), START), "DepthMetric: W is 3 x 4, rank 2"),
    "check-manifold": (
        lambda: lrf.check_manifold(FixedRank(3, 4, 2, rng=0)),
        "3 x 4 real matrices of rank 2 under EmbeddedMetric(), of dimension 10",  # (3 + 4 - 2) 2
    ),
}  # fmt: skip


@pytest.mark.parametrize("command", MAKERS)
def test_who_makes_a_report_says_what_was_asked_and_of_what(command):
    make, headline = MAKERS[command]
    report = make()
    assert report.command == command and report.version == lrf.__version__
    assert report.title.endswith("?") and report.lead.endswith(".") and "<" not in report.lead
    assert report.headline.startswith(headline), report.headline
    assert report.repeats == ""


def test_the_command_line_shows_the_words(capsys):
    report = full_report()
    show(report, [], quiet=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["x [2]: W is 2 x 3", "slow"] and lines[-1] == "to repeat it: lowrankflow verify"
    show(report, [], quiet=True)
    assert capsys.readouterr().out == f"{report.summary()}\n"
    show(Report("mine", {}, [claim()]), [], quiet=False)
    shown = capsys.readouterr().out
    assert "repeat" not in shown and shown.startswith("┏")
