"""The place of a network as a report: claims on random critical points, faults, the command line."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from test_landscape import Drawn

import lowrankflow as lrf
from lowrankflow.claims.landscape import LANDSCAPE, Point
from lowrankflow.cli import main
from lowrankflow.compare import place_problem, place_report

NAMES = ["critical", "critical value", "canonical form", "class", "way out"]
LOSS = lrf.losses.LeastSquares(np.eye(4), np.diag([4.0, 3.0, 2.0, 1.0]))


def brought(seed):
    """A network at a critical point, moved from one, or far from any; in a unit between 1e-8 and 1e8."""
    p, rng = Drawn(seed), np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-8, 8)
    loss = lrf.losses.LeastSquares(p.inputs * scale, p.targets * scale**2)
    root = scale ** (1 / p.depth)
    off = [0.0, 10.0 ** rng.uniform(-8, -2), 1.0][seed % 3]
    kept = float(seed % 3 < 2)
    factors = [root * (kept * f + off * rng.standard_normal(f.shape)) for f in p.network.factors]
    return loss, lrf.LinearNetwork(factors)


def test_no_claim_fails_and_every_claim_has_its_control():
    counts = dict.fromkeys(NAMES, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(150):
            loss, network = brought(seed)
            for c in place_report(network, loss):
                counts[c.name] += c.verdict == "passed"
                unmet = {h.name for h in c.hypotheses if not h.met}
                assert c.verdict == "passed" or (c.verdict == "not claimed" and unmet == {"an active part"}), (seed, c)
                assert c.controls
    assert min(counts.values()) > 50


def test_what_is_said_wrongly_of_any_point_is_seen():
    """The other class, a wrong value, another index set: each reads failed wherever it is said."""
    claims, sets = {one.name: one for one in LANDSCAPE}, 0
    for seed in range(150):
        p = Drawn(seed)
        place = lrf.landscape.classify(p.network, p.loss)
        strict = place.kind == "strict saddle"
        free = [i + 1 for i in range(p.problem.target_rank) if i + 1 not in place.index_set]
        value = place.critical_value + 1e-3 * float(p.loss.value(np.zeros(p.loss.shape)))
        wrong = {
            "class": replace(place, kind="global minimiser" if strict else "strict saddle"),
            "critical value": replace(place, critical_value=value),
        }
        if free and place.index_set:
            sets += 1
            wrong["canonical form"] = replace(place, index_set=tuple(sorted([*place.index_set[1:], free[0]])))
        for name, said in wrong.items():
            assert claims[name](Point(p.loss, p.network, said, 0, 100)).verdict == "failed", (seed, name)
    assert sets > 20


def test_a_saddle_that_curves_alone_leave_is_placed_all_the_same():
    """No line leaves it: the way out is not claimed."""
    loss = lrf.losses.LeastSquares(np.eye(2), np.diag([3.0, 0.0]))
    network = lrf.LinearNetwork([[[0.0, 1.0]], [[0.0]], [[0.0], [1.0]]])
    with pytest.raises(ValueError, match="`network` must be at a saddle that a line leaves"):
        lrf.landscape.escape(network, loss)
    report = place_report(network, loss)
    assert report.attachments["place"].order == 3 and "way out" not in [c.name for c in report]


def verdicts(loss, network, place):
    found = [one(Point(loss, network, place, 0, 100)) for one in LANDSCAPE]
    return {c.name: c.verdict for c in found if c is not None}


@pytest.mark.parametrize(
    ("change", "fails"),
    [
        ({"index_set": (1, 3)}, {"critical value", "canonical form"}),
        ({"kind": "non-strict saddle", "order": 3}, {"class"}),
        ({"critical_value": 5.1}, {"critical value"}),
        ({"gradient": 1e-5}, {"critical"}),
    ],
)
def test_what_is_said_wrongly_is_seen(change, fails):
    network = lrf.landscape.saddle(LOSS, 3, widths=4, rank=2, spread=0.5, rng=0)
    place = lrf.landscape.classify(network, LOSS)
    assert set(verdicts(LOSS, network, place).values()) == {"passed"}
    wrong = replace(place, **change)
    if "index_set" in change:
        wrong = replace(wrong, critical_value=LOSS.spectrum.floor + 0.5 * (9 + 1))
    point = Point(LOSS, network, wrong, 0, 100)
    assert {one.name for one in LANDSCAPE[:4] if one(point).verdict == "failed"} == fails


def test_a_network_beside_a_critical_point_is_verified_there():
    network = lrf.landscape.saddle(LOSS, 3, widths=4, rank=1, order=3)
    rng = np.random.default_rng(0)
    moved = lrf.LinearNetwork([f + 1e-4 * rng.standard_normal(f.shape) for f in network.factors])
    report = place_report(moved, LOSS)
    place = report.attachments["place"]
    assert report.passed and place.kind == "not critical" and place.nearby.kind == "non-strict saddle"
    assert "Nearest critical point found: non-strict saddle, at distance" in report.headline
    assert report.problem["nearby"]["index set"] == [1] and report.problem["nearby"]["distance"] < 1e-3
    assert [f.name for f in report.figures] == ["place", "hessian"]
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()


def test_other_losses_are_placed_and_nothing_is_claimed():
    loss = lrf.losses.from_function(lambda w: ((w - 1.0) ** 4).sum(), shape=(2, 3), convex=True)
    report = place_report(lrf.LinearNetwork([np.zeros((2, 3)), np.zeros((2, 2))]), loss)
    assert len(list(report)) == 0 and report.attachments["place"].kind == "strict saddle"
    assert "no exact theory for this loss" in report.headline


def test_of_a_problem_the_end_of_its_run():
    problem = lrf.Problem(data="iris", natural_end=30.0)
    report = place_problem(problem)
    again = place_problem(lrf.Problem.from_dict(report.given))
    assert report.to_dict() == again.to_dict()
    assert report.repeats == "lowrankflow landscape --data iris --natural-end 30.0"
    assert report.attachments["trajectory"].t[-1] > 1 and report.attachments["place"].nearby.index_set == (1,)


def test_at_the_command_line(tmp_path, capsys):
    assert main(["landscape", "--data", "iris", "--depth", "2", "--rank", "2", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "Nearest critical point found: global minimiser" in out and "0 failed" in out
    page = json.loads((tmp_path / "out" / "report.json").read_text())
    assert page["command"] == "landscape" and page["problem"]["nearby"]["kind"] == "global minimiser"
    assert {"report.html", "place.png"} <= {p.name for p in (tmp_path / "out").iterdir()}
    saddle = lrf.landscape.saddle(LOSS, 3, widths=4, rank=2)
    np.savez(tmp_path / "net.npz", W1=saddle.factors[0], W2=saddle.factors[1], W3=saddle.factors[2])
    np.save(tmp_path / "x.npy", np.eye(4))
    np.save(tmp_path / "y.npy", np.diag([4.0, 3.0, 2.0, 1.0]))
    data = ["--inputs", str(tmp_path / "x.npy"), "--targets", str(tmp_path / "y.npy"), "--preprocess", "none"]
    assert main(["landscape", *data, "--reduction", "sum", "--factors", str(tmp_path / "net.npz")]) == 0
    assert "Strict saddle" in capsys.readouterr().out
    assert main(["landscape", "--data", "iris", "--factors", str(tmp_path / "x.npy")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
