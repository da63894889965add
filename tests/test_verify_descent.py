"""`verify_descent`: no true claim fails, planted faults are caught, the command line shows it."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from test_descent_bounds import drawn

import lowrankflow as lrf
from lowrankflow import cli
from lowrankflow.claims import training
from lowrankflow.compare import verify_descent
from lowrankflow.descent import Certificate, Gradient

NAMES = [claim.name for claim in training.TRAINING]


def brought(seed):
    """A random problem, some of them at the optimum, at zero, or tiny."""
    loss, net, *_ = drawn(seed, (1e-8, 1e-4, 1.0, 1e4, 1e8)[seed % 5])
    if seed % 7 == 0:
        q = min(*loss.shape, *net.widths)
        net = lrf.LinearNetwork.balanced(loss.minimiser(q), net.depth, widths=net.widths, rng=seed)
    if seed % 7 in (1, 2):
        net = lrf.LinearNetwork([(1e-9, 0.0)[seed % 7 - 1] * f for f in net.factors])
    return loss, net


def test_no_true_claim_fails():
    """At any start, in any unit, with any number of updates; 300 such were run for docs/theory.md."""
    seen = Counter()
    for seed in range(24):
        loss, net = brought(seed)
        for claim in verify_descent(loss, network=net, steps=1 + seed, rng=seed).claims:
            seen[claim.name, claim.verdict] += 1
            assert claim.verdict != "failed", (seed, claim)
    assert all(seen[name, "passed"] >= 6 for name in NAMES), seen


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((4, 12)), rng.standard_normal((3, 12))
    loss = lrf.losses.LeastSquares(x, y, reduction="mean")
    loss.flatter = lrf.losses.LeastSquares(0.9 * x, y, reduction="mean")
    return loss, lrf.random_point(3, 4, 2, rng=rng, singular_values=[0.4, 0.2])


def verdicts(problem, **options):
    return {claim.name: claim.verdict for claim in verify_descent(*problem, steps=100, **options).claims}


def test_all_claims_pass_on_a_plain_problem(problem):
    assert verdicts(problem) == dict.fromkeys(NAMES, "passed")


FAULTS = {
    "sufficient_decrease": lambda patch: bound(patch, step=3e4, sigma=1.0),
    "monotone": lambda patch: bound(patch, step=3e4),
    "bounded_imbalance": lambda patch: bound(patch, delta=1e-6),
    "bounded_factors": lambda patch: bound(patch, factor=1e-3),
    "drift": lambda patch: patch.setattr(Gradient, "directions", lambda self, k, g, f, m: ([1.01 * g[0], *g[1:]], m)),
    "shadow": lambda patch: shadowed(patch),

}


def bound(patch, **factors):
    right = training.StepBound.__init__

    def wrong(self, *args):
        right(self, *args)
        for name, factor in factors.items():
            object.__setattr__(self, name, factor * getattr(self, name))

    patch.setattr(training.StepBound, "__init__", wrong)


def shadowed(patch):
    right = training.certificate

    def wrong(*args, **options):
        found = right(*args, **options)
        return Certificate(found.t, 0.7 * found.bound, found.networks)

    patch.setattr(training, "certificate", wrong)


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_planted_fault_is_seen(name, problem, monkeypatch):
    FAULTS[name](monkeypatch)
    assert verdicts(problem)[name] == "failed"


def test_a_wrong_sharpness_is_seen(problem, monkeypatch):
    """A step a fifth too long is no longer below the edge."""
    right = training.factor_hessian
    monkeypatch.setattr(training, "factor_hessian", lambda loss, net: right(loss.flatter, net))
    assert verdicts(problem)["edge"] == "failed"


def test_the_report_says_how_cautious_the_step_is(problem):
    report = verify_descent(*problem, steps=100)
    found, largest = report.attachments["bound"], report.problem["largest monotone step"]
    assert found == lrf.descent.step_bound(problem[0], lrf.LinearNetwork.balanced(problem[1], 3, widths=3, rng=0))
    assert f"{largest / found.step:.3g} times that" in report.headline
    net = lrf.LinearNetwork.balanced(problem[1], 3, widths=3, rng=0)
    for step, rises in ((largest, False), (1.06 * largest, True)):
        path = lrf.gradient_descent(problem[0], net, step_size=step, steps=100, keep_every=1)
        assert (not path.status.finished or (np.diff(path.loss) > 1e-12 * path.loss[0]).any()) == rises
    assert {f.name for f in report.figures} == {"descent", "bounds"}


def test_interruption_keeps_the_claims_so_far(problem):
    def stop(stage, fraction):
        if stage.startswith("drift"):
            raise KeyboardInterrupt

    with pytest.raises(lrf.Interrupted) as caught:
        verify_descent(*problem, steps=100, progress=stop)
    assert [c.name for c in caught.value.report.claims] == NAMES[:4] and caught.value.report.interrupted


def test_at_the_command_line(tmp_path, capsys):
    out = tmp_path / "report"
    assert cli.main(["verify", "--descent", "--steps", "50", "--data", "iris", "--out", str(out), "--quiet"]) == 0
    assert "7 passed" in capsys.readouterr().out
    found = json.loads((out / "report.json").read_text())
    assert [c["name"] for c in found["claims"]] == NAMES and (out / "descent.png").exists()
    again = tmp_path / "again.json"
    argv = ["verify", "--problem", str(out / "report.json"), "--descent", "--steps", "50", "--json", str(again), "--quiet"]
    assert cli.main(argv) == 0
    assert json.loads(again.read_text())["claims"] == found["claims"]
    assert cli.main(["verify", "--explain", "descent drift"]) == 0


@pytest.mark.parametrize(
    "words, says",
    [
        (["--steps", "5"], "`--steps` are updates of descent, got 5 without it. Add --descent."),
        (["--descent", "--rtol", "1e-6"], "`--rtol` is of flows, got 1e-06 for descent. Use --steps."),
        (["--descent", "--steps", "0"], "`--steps` must be at least 1, got 0."),
        (["--descent", "--loss", "huber"], "`--loss` must be the square loss, for which the theorem is"),
        (["--descent", "--preprocess", "none", "--data", "digits"], "inputs of full row rank, got rank 61 of 64"),
    ],
)
def test_bad_usage_is_one_line(words, says, capsys):
    argv = ["verify", *words] + ([] if "--data" in words else ["--data", "iris"])
    assert cli.main(argv) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1


def test_a_saddle_at_the_start_claims_nothing_of_the_run():
    loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    report = verify_descent(loss, network=lrf.landscape.saddle(loss, 3, widths=3, rank=1), steps=20)
    assert {c.verdict for c in report.claims if c.name != "edge"} == {"not claimed"}
    assert report["edge"].verdict == "passed"
    with pytest.raises(TypeError, match="`network` must be a LinearNetwork"):
        verify_descent(loss, network=[np.eye(3)])
    assert replace(report.attachments["bound"]).alpha < 1


# ---------------------------------------------------------------------------------------------------------------------
# what once read "failed", or did not come to an end


@pytest.mark.parametrize("scale", [1e-2, 1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("steps", [1, 3])
def test_an_update_that_makes_factors_much_larger_has_their_roundoff(scale, steps):
    """A tenth of the largest step multiplies a tiny start by thousands: the drift is told to the roundoff of what comes out."""
    loss = lrf.losses.LeastSquares(np.eye(2), np.diag([2.0, 1.0]))
    for rank, depth in ((1, 2), (2, 2), (2, 3)):
        start = lrf.random_point(2, 2, rank, rng=0, singular_values=np.full(rank, scale))
        assert verify_descent(loss, start, depth=depth, steps=steps)["drift"].verdict != "failed"


def test_a_bound_that_is_nearly_attained_is_compared_up_to_roundoff():
    one = lrf.losses.LeastSquares(np.eye(1), np.eye(1))
    for k in range(-8, 1):
        for depth in (2, 4, 7):
            start = lrf.LowRankMatrix(np.eye(1), [10.0**k], np.eye(1))
            assert verify_descent(one, start, depth=depth, steps=20)["shadow"].verdict != "failed", (k, depth)


def test_unbalanced_minimisers_have_a_step():
    loss = lrf.losses.LeastSquares(np.eye(2), np.diag([2.0, 1.0]))
    for seed in range(8):
        net = lrf.landscape.random_minimiser(loss, 2 + seed % 3, widths=2, rng=seed)
        found = lrf.descent.step_bound(loss, net)
        assert 0 < found.step < 2 / lrf.sharpness(loss, net) and found.delta > found.start_imbalance
        report = verify_descent(loss, network=net, steps=5)
        assert not report.failed and "does not fall by more than roundoff" in report.headline
        assert report.problem["largest monotone step"] is None


def test_a_report_of_descent_repeats_itself(tmp_path, capsys):
    argv = ["verify", "--descent", "--data", "iris", "--steps", "37", "--seed", "3", "--quiet"]
    assert cli.main([*argv, "--json", str(tmp_path / "a.json")]) == 0
    assert cli.main(["verify", "--problem", str(tmp_path / "a.json"), "--json", str(tmp_path / "b.json"), "--quiet"]) == 0
    a, b = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert a == b and a["repeats"].endswith("--seed 3 --descent --steps 37") and a["problem"]["steps"] == 37
    assert "descent" not in lrf.Problem(data="iris").to_dict()
    argv = ["verify", "--problem", str(tmp_path / "a.json"), "--rtol", "1e-6"]
    assert cli.main(argv) == 2 and "`--rtol` is of flows" in capsys.readouterr().err
