"""The headline: every claim of the report on every kind of problem, and every control caught."""

import math

import numpy as np
import pytest

import lowrankflow as lrf
from lowrankflow.checks import Tampered
from lowrankflow.claims import ABOUT_THE_LIMIT, VERIFIED, sides
from lowrankflow.claims.gaps import unbalanced
from lowrankflow.claims.sides import HORIZON
from lowrankflow.compare import CLAIMS, Interrupted

FLOW_CLAIMS = [claim.name for claim in VERIFIED if claim not in ABOUT_THE_LIMIT]


def least_squares(m, n, seed, samples=40):
    rng = np.random.default_rng(seed)
    return lrf.losses.LeastSquares(
        rng.standard_normal((n, samples)), rng.standard_normal((m, samples)), reduction="mean"
    )


def completion(m, n, seed, share=0.6):
    rng = np.random.default_rng(seed)
    observed = rng.permutation(m * n)[: int(share * m * n)]
    values = rng.standard_normal((m, 2)) @ rng.standard_normal((2, n))
    return lrf.losses.Completion(observed // n, observed % n, values.ravel()[observed], (m, n), reduction="mean")


def start(loss, rank, seed=1, scale=0.3):
    m, n = loss.shape
    return lrf.random_point(m, n, rank, rng=np.random.default_rng(seed), singular_values=np.full(rank, scale))


PROBLEMS = {
    "depth3-tall": (least_squares(7, 5, 0), 2, dict(depth=3, t_end=2.0)),
    "depth3-wide-layers": (least_squares(5, 7, 1), 3, dict(depth=3, widths=(9, 6), t_end=3.0)),
    "depth2": (least_squares(6, 6, 2), 2, dict(depth=2, t_end=2.0)),
    "depth5-full-rank": (least_squares(3, 4, 3), 3, dict(depth=5, t_end=5.0)),
    "depth4-rank1": (least_squares(4, 6, 4), 1, dict(depth=4, t_end=4.0)),
    "depth3-completion": (completion(8, 6, 5), 2, dict(depth=3, t_end=8.0)),
}


@pytest.fixture(scope="module", params=PROBLEMS, ids=list(PROBLEMS))
def report(request):
    loss, rank, options = PROBLEMS[request.param]
    return lrf.verify_equivalence(loss, start(loss, rank), **options)


def test_every_claim_about_the_flow_passes_and_every_control_is_caught(report):
    verdicts = {name: report[name].verdict for name in FLOW_CLAIMS}
    assert verdicts == dict.fromkeys(FLOW_CLAIMS, "passed"), str(report)
    missed = [(name, k.change) for name in FLOW_CLAIMS for k in report[name].controls if not k.caught]
    assert not missed


def test_controls_of_the_trajectory_break_the_bound_by_orders_of_magnitude(report):
    claim = report["trajectory"]
    assert len(claim.controls) == 3
    assert min(k.measured for k in claim.controls) > 1e3 * claim.bound


def test_identities_hold_to_a_hundred_roundoffs_per_factor(report):
    bound = 100 * report.problem["depth"] * np.finfo(float).eps
    for name in ("pointwise", "one_step"):
        assert report[name].bound == pytest.approx(bound)
        assert report[name].measured <= bound


@pytest.mark.parametrize("depth", [2, 3])
def test_without_an_end_time_the_run_goes_to_the_best_matrix(depth):
    loss = least_squares(5, 4, 6)
    claims = ["trajectory", "rank", "stationarity", "index_set", "best_loss"]
    report = lrf.verify_equivalence(loss, start(loss, 2), depth=depth, claims=claims)
    report.raise_if_failed()
    for name in ("stationarity", "index_set", "best_loss"):
        assert report[name].verdict == "passed"
    assert "{1, 2}" in report["index_set"].detail
    # the oracle: brute force over the whitened problem by a dense SVD, from the definition
    end = report.attachments["trajectory"].points[-1]
    assert loss.value(end) == pytest.approx(loss.best_value(2), abs=report["best_loss"].bound)


def test_a_wrong_gradient_is_caught_by_the_gradient_claim_alone():
    """Both flows follow any field: only a fresh differentiation of the value can see that it is wrong."""
    loss = Tampered(least_squares(5, 4, 7), 1.01)
    claims = ["gradient", "trajectory", "pointwise", "one_step", "tolerance"]
    report = lrf.verify_equivalence(loss, start(loss, 2), depth=3, t_end=8.0, claims=claims)
    assert report["gradient"].verdict == "failed"
    assert report["gradient"].measured == pytest.approx(0.01 / 1.0, rel=0.02)
    for name in ("trajectory", "pointwise", "one_step", "tolerance"):
        assert report[name].verdict == "passed"
    assert not report.passed


def test_unbalanced_factors_are_measured_and_not_claimed():
    loss = least_squares(5, 4, 8)
    w = start(loss, 2)
    net = unbalanced(lrf.LinearNetwork.balanced(w, 3, widths=4, rng=np.random.default_rng(0)), 0.5)
    claims = ["gradient", "trajectory", "conservation"]
    good = lrf.verify_equivalence(loss, w, depth=3, t_end=2.0, claims=claims)["trajectory"]
    report = lrf.verify_equivalence(loss, w, depth=3, t_end=2.0, network=net, claims=claims)
    claim = report["trajectory"]
    assert claim.verdict == "not claimed"
    assert claim.measured > 1e3 * good.bound
    assert not claim.hypotheses[0].met and claim.hypotheses[0].value > 0.1
    # what does not need balance is claimed all the same
    assert report["conservation"].verdict == report["gradient"].verdict == "passed"


def test_depth_2_with_wide_layers_stops_at_the_horizon_and_claims_the_departure():
    rng = np.random.default_rng(9)
    loss = lrf.losses.LeastSquares(np.eye(12), rng.standard_normal((12, 12)) * 2)
    claims = ["trajectory", "rank", "departure", "stationarity"]
    report = lrf.verify_equivalence(loss, start(loss, 3, scale=0.1), depth=2, widths=12, claims=claims)
    assert report.problem["time"]["ended by"] == "validity horizon"
    assert report["trajectory"].verdict == "passed"
    assert report["rank"].verdict == "passed"
    departure = report["departure"]
    assert departure.verdict == "passed", departure
    assert departure.measured == pytest.approx(1, abs=0.1)
    with pytest.raises(KeyError, match="stationarity"):
        report["stationarity"]
    # the horizon is where the integral of ||(I - UU^T) G (I - VV^T)||_2 reaches half the digits: a dense oracle
    end = report.problem["time"]["end"]
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(2))
    path = lrf.integrate(flow, start(loss, 3, scale=0.1), t_span=(0, end), save=lrf.Save(times=np.linspace(0, end, 400)))
    rates = []
    for w in path.points:
        g = loss.gradient(w).to_dense()
        rates.append(np.linalg.norm((np.eye(12) - w.u @ w.u.T) @ g @ (np.eye(12) - w.vt.T @ w.vt), 2))
    # trapezoids on the scouting run's own steps against 400 of them: a few parts in a thousand
    assert np.trapezoid(rates, path.t) == pytest.approx(HORIZON, rel=0.02)


def test_reports_are_the_same_at_every_call():
    loss = least_squares(4, 3, 10)
    claims = ["gradient", "pointwise", "lift", "rank", "trajectory"]  # all that draw, and one that does not
    a, b = (lrf.verify_equivalence(loss, start(loss, 2), depth=3, t_end=0.1, claims=claims) for _ in range(2))
    assert [c.measured for c in a] == [c.measured for c in b]


def test_a_tighter_tolerance_sharpens_the_claim():
    loss = least_squares(4, 3, 11)
    loose, tight = (
        lrf.verify_equivalence(loss, start(loss, 2), depth=3, t_end=20.0, rtol=rtol, claims=["trajectory"])["trajectory"].bound
        for rtol in (1e-5, 1e-10)
    )
    # not by five decades: both land on the same times, which caps the steps of the loose run
    assert tight < 0.03 * loose


def test_progress_is_told_and_ctrl_c_keeps_the_claims_so_far():
    loss = least_squares(4, 3, 12)
    stages = []

    def progress(stage, fraction):
        stages.append(stage)
        assert 0 <= fraction <= 1
        if stage == "dissipation":
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        lrf.verify_equivalence(loss, start(loss, 2), depth=3, t_end=1.0, progress=progress)
    report = caught.value.report
    assert report.interrupted
    assert [c.name for c in report][:5] == ["gradient", "pointwise", "one_step", "lift", "trajectory"]
    assert "dissipation" not in [c.name for c in report]
    assert "trajectory" in report.attachments
    assert len(set(stages)) > 5


def test_ctrl_c_within_the_shared_runs_keeps_the_best_path_so_far():
    """The stages stand in one visible order, and what was there before the one that was broken off is in the report."""
    loss, points = least_squares(4, 3, 12), []
    for stop in ("Riemannian flow", "Riemannian flow, reference", "factor flow"):

        def progress(stage, fraction, stop=stop):
            if stage == stop:
                raise KeyboardInterrupt

        with pytest.raises(Interrupted) as caught:
            lrf.verify_equivalence(loss, start(loss, 2), depth=3, t_end=1.0, progress=progress)
        report = caught.value.report
        assert report.interrupted and not report.claims and report.problem["time"]["end"] == 1.0
        points.append(report.attachments["trajectory"].points[-1].to_dense())
    scouted, path, reference = points  # 1e-6, 1e-8 and 1e-10
    assert np.linalg.norm(path - reference) < np.linalg.norm(scouted - reference)


def test_the_shared_runs_come_first_and_then_claim_after_claim():
    loss, stages = least_squares(4, 3, 12), []
    lrf.verify_equivalence(loss, start(loss, 2), depth=3, t_end=0.1, progress=lambda stage, fraction: stages.append(stage))
    first = list(dict.fromkeys(stages))
    assert first[:8] == [
        "finding the end of the run", "Riemannian flow", "Riemannian flow, reference", "factor flow",
        "factor flow, reference", "control: wrong depth", "sharpness along the path", "gradient",
    ]  # fmt: skip
    assert [stage for stage in first if stage in FLOW_CLAIMS] == FLOW_CLAIMS


def numbers(report):
    """What was measured, by claim, with the controls."""
    return {c.name: (c.measured, c.bound, [(k.change, k.measured) for k in c.controls]) for c in report}


def test_no_claim_depends_on_which_others_are_measured(monkeypatch):
    loss = least_squares(5, 4, 21)
    options = dict(depth=3, t_end=0.1)
    whole = numbers(lrf.verify_equivalence(loss, start(loss, 2), **options))
    drawing = ["rank", "lift", "pointwise"]  # which draw: hidden frames, one rank more
    some = numbers(lrf.verify_equivalence(loss, start(loss, 2), claims=drawing, **options))
    assert list(some) == drawing and some == {name: whole[name] for name in drawing}
    # another generator of the caller's draws other numbers
    rng = np.random.default_rng(1)
    other = numbers(lrf.verify_equivalence(loss, start(loss, 2), claims=drawing, rng=rng, **options))
    assert all(other[name] != whole[name] for name in drawing)
    # the control: one generator for all of them, where leaving one out moves what the next ones draw
    found = []
    for claims in (["gradient", *drawing], drawing):
        shared = np.random.default_rng(0)
        monkeypatch.setattr(sides, "generator", lambda seed, name, shared=shared: shared)
        found.append(numbers(lrf.verify_equivalence(loss, start(loss, 2), claims=claims, **options)))
    assert any(found[0][name] != found[1][name] for name in drawing)


def test_a_spent_budget_is_said_and_nothing_is_claimed_from_half_a_run():
    loss = least_squares(6, 5, 13)
    claims = ["trajectory", "stationarity"]
    report = lrf.verify_equivalence(loss, start(loss, 2), depth=3, max_evaluations=400, claims=claims)
    assert "max_evaluations" in report.problem["time"]["ended by"]
    assert report["stationarity"].verdict == "not claimed"


def test_problem_and_figures_say_what_was_done():
    loss = least_squares(4, 3, 14)
    report = lrf.verify_equivalence(loss, start(loss, 2), depth=3, t_end=0.5, about={"name": "mine"})
    p = report.problem
    assert (p["shape"], p["rank"], p["depth"], p["widths"]) == ([4, 3], 2, 3, [3, 3])
    assert p["data"] == {"name": "mine"} and "/ 40" in p["loss"]
    # 1 / (N lambda_1 sigma_1^(2-2/N)), from the definition
    lambda_1, sigma_1 = loss.spectrum.eigenvalues[0], loss.minimiser(2).s[0]
    assert p["time"]["natural unit"] == pytest.approx(1 / (3 * lambda_1 * sigma_1 ** (4 / 3)))
    names = {f.name for f in report.figures}
    assert {"gap", "singular_values", "tolerance", "discrete", "imbalance", "conservation", "loss"} <= names
    for figure in report.figures:
        assert figure.caption and all(len(c.x) == len(c.y) for c in figure.curves)


def test_every_claim_is_explained():
    for name, words in CLAIMS.items():
        text = lrf.explain(name)
        assert words.meaning in text and words.source in text and words.controls in text
    with pytest.raises(ValueError, match=r"`claim` must be one of gradient, pointwise"):
        lrf.explain("trajctory")


@pytest.mark.parametrize("count", [1, 3])
def test_imbalance_scales_the_gap_linearly(count):
    """Claim 27 without the report: a gap halves with the imbalance, and does not at another depth."""
    loss = least_squares(4, 5, 15 + count)
    w = start(loss, count)
    net = lrf.LinearNetwork.balanced(w, 3, widths=5, rng=np.random.default_rng(0))
    kept = lrf.Save(times=[1.0], exact=True, steps=False)
    end = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), w, t_span=(0, 1), rtol=1e-11, save=kept).points[-1]
    found = []
    for c in 0.02 / 2.0 ** np.arange(6):
        path = lrf.integrate(lrf.FactorFlow(loss), unbalanced(net, c), t_span=(0, 1), rtol=1e-11, save=kept)
        found.append(np.linalg.norm(path.points[-1].to_dense() - end.to_dense()))
    orders = np.log2(np.array(found[:-1]) / found[1:])
    # the gap is c + O(c^2) with c = 0.02 .. 6e-4: a per cent or two at the coarsest, less further on
    assert np.abs(orders - 1).max() < 0.1 and abs(orders[-1] - 1) < 0.02
    assert math.isfinite(found[-1])


def test_a_grid_finer_than_the_tolerance_does_not_fool_the_error_estimate():
    """Both runs of a side land on the compared times; a reference that landed on no others would share their error."""
    loss = least_squares(4, 3, 11)
    claims = ["trajectory", "conservation"]
    report = lrf.verify_equivalence(loss, start(loss, 2), depth=3, t_end=10.0, rtol=1e-5, claims=claims)
    assert report["trajectory"].verdict == report["conservation"].verdict == "passed"
    assert report["trajectory"].bound < 1e-8  # the grid decides: far below the tolerance


def test_a_constant_in_the_loss_changes_no_verdict():
    """L(start) = 0 or a large constant: only differences of the loss are measured."""

    class Shifted(lrf.losses.LeastSquares):
        shift = 0.0

        def value(self, w):
            return super().value(w) + self.shift

    rng = np.random.default_rng(20)
    loss = Shifted(rng.standard_normal((4, 40)), rng.standard_normal((3, 40)), reduction="mean")
    w = start(loss, 2)
    plain = float(loss.value(w))
    for shift in (-plain, 1e3):
        loss.shift = shift
        report = lrf.verify_equivalence(loss, w, depth=3, t_end=4.0, claims=["dissipation"])
        assert report["dissipation"].verdict == "passed"


def test_a_problem_that_is_diagonal_in_the_frames_of_the_start(rng):
    """The geometric means are no control where U^T G V is diagonal: the identity is claimed with the others."""
    loss = lrf.losses.LeastSquares(np.eye(4), np.diag([3.0, 2.0, 1.0, 0.5]))
    start = lrf.LowRankMatrix(np.eye(4)[:, :2], [0.3, 0.1], np.eye(4)[:2])
    options = dict(depth=3, t_end=0.1, claims=["pointwise"])
    claim = lrf.verify_equivalence(loss, start, **options)["pointwise"]
    assert claim.verdict == "passed" and not any("geometric" in k.change for k in claim.controls)
    turned = lrf.random_point(4, 4, 2, rng=rng, singular_values=[0.3, 0.1])
    claim = lrf.verify_equivalence(loss, turned, **options)["pointwise"]
    assert claim.verdict == "passed" and any("geometric" in k.change for k in claim.controls)


def test_a_loss_is_never_asked_at_a_matrix_that_is_not_finite(rng):
    """The wrong sign blows up; a loss that raises there does not end the report."""

    class Strict(lrf.losses.LeastSquares):
        def look(self, w):
            left, right = w.split() if hasattr(w, "split") else (w, np.zeros(1))
            if not (np.isfinite(left).all() and np.isfinite(right).all()):
                raise np.linalg.LinAlgError("not finite")

        def gradient(self, w):
            self.look(w)
            return super().gradient(w)

    loss = Strict(rng.standard_normal((4, 20)), rng.standard_normal((3, 20)))
    start = lrf.random_point(3, 4, 2, rng=rng)
    report = lrf.verify_equivalence(loss, start, depth=3, t_end=0.5, claims=["trajectory"])
    assert report["trajectory"].verdict == "passed"
