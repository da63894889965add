"""Separable classification: normalised time, margins, and what verify says instead of a limit."""

import numpy as np
import pytest
from oracles import fitted_slope

import lowrankflow as lrf
from lowrankflow import losses as ls


def separable(rng, classes=3, n=6, samples=40, separate=True):
    """A classification loss whose labels are those of a linear map of rank two, or are drawn blindly."""
    x = rng.standard_normal((n, samples))
    scores = rng.standard_normal((classes, 2)) @ rng.standard_normal((2, n)) @ x
    labels = scores.argmax(axis=0) if separate else rng.integers(0, classes, samples)
    return ls.Measured(ls.Inputs(x, classes), ls.Softmax(labels, classes), reduction="mean"), x, labels


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_normalised_time_follows_the_same_path(depth, rng):
    """The flow of ln L meets the same W where the loss is the same: two clocks on one path."""
    loss, _, _ = separable(rng)
    start = lrf.random_point(3, 6, 2, rng=rng, singular_values=[0.3, 0.2])
    found = lrf.separation.follow_margin(loss, start, lrf.DepthMetric(depth), loss_end=0.2, rtol=1e-9)
    level = found.loss[-1]
    event = lrf.Event("level", lambda t, w: loss.value(w) - level, terminal=True)
    path = lrf.integrate(
        lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), start, t_span=(0, 1e6), rtol=1e-9, events=event, method="auto"
    )
    a, b = found.path.points[-1].to_dense(), path.points[-1].to_dense()
    assert np.linalg.norm(a - b) < 1e-6 * np.linalg.norm(b)  # rtol a step, a few hundred steps, ROCK4's and DOP853's
    other = lrf.separation.follow_margin(loss, start, lrf.DepthMetric(depth + 1), loss_end=0.2, rtol=1e-9).path.points[-1]
    assert np.linalg.norm(other.to_dense() - b) > 1e-3 * np.linalg.norm(b)  # control: another metric
    # d tau = L dt along the path
    tau = np.trapezoid(path.loss, path.t)
    assert abs(tau - found.tau[-1]) < 0.02 * tau  # the trapezoidal rule over the solver's own steps


def test_margins_against_a_loop(rng):
    loss, x, labels = separable(rng)
    w = lrf.random_point(3, 6, 2, rng=rng)
    z = w.to_dense() @ x
    want = [z[y, i] - max(z[c, i] for c in range(3) if c != y) for i, y in enumerate(labels)]
    np.testing.assert_allclose(loss.margins(w), want, rtol=0, atol=1e-13)
    assert abs(lrf.separation.least_margin(loss, w) - min(want)) < 1e-13
    signs = np.where(labels > 0, 1.0, -1.0)
    binary = ls.Measured(ls.Inputs(x, 1), ls.Logistic(signs[None]))
    v = lrf.random_point(1, 6, 1, rng=rng)
    np.testing.assert_allclose(binary.margins(v), signs[None] * (v @ x), rtol=0, atol=1e-14)


def test_softmax_keeps_its_digits_where_samples_are_classified(rng):
    """The loss of a sample is e^{-margin} there, 1e-300 for a margin of 690: to roundoff, gradient too."""
    link = ls.Softmax([0, 1], classes=2)
    for margin in (1.0, 40.0, 300.0, 690.0):
        z = np.array([[margin, 0.0], [0.0, margin]])
        want = 2 * np.log1p(np.exp(-margin))
        assert abs(link.value(z) / want - 1) < 1e-12
        p = 1 / (1 + np.exp(margin))
        np.testing.assert_allclose(link.gradient(z), p * np.array([[-1, 1], [1, -1]]), rtol=1e-12)


@pytest.mark.parametrize("depth", [2, 3])
def test_separable_data_have_no_limit(depth, rng):
    loss, _, _ = separable(rng)
    start = lrf.random_point(3, 6, 2, rng=rng, singular_values=[0.1, 0.1])
    found = lrf.separation.follow_margin(loss, start, lrf.DepthMetric(depth), loss_end=1e-9)
    assert found.separable and found.margin[-1] > 0 > found.margin[0]
    assert found.loss[-1] < 2e-9 * found.loss[0]
    assert found.norm[-1] > 10 * found.norm[0]
    # in the end ln(1/L) is the margin times the norm, so that they grow together
    late = found.loss < 1e-4
    assert abs(fitted_slope(found.norm[late], -np.log(found.loss[late])) - 1) < 0.2
    assert found.alignment[-1] > 0.95 > found.alignment[0]  # in the end it is the norm that grows


def test_alignment_is_that_of_the_velocity(rng):
    """At depth 3 only the norm grows where -grad L = s^(2/3 - 1): the cosine with -grad L itself is 0.906."""
    metric, w = lrf.DepthMetric(3), lrf.LowRankMatrix(np.eye(2), [2.0, 1.0], np.eye(2))
    g = -np.diag(w.s ** (2 / 3 - 1))
    velocity = -lrf.riemannian_gradient(w, g, metric).at(w).to_dense()
    np.testing.assert_allclose(velocity, 3 * w.to_dense(), rtol=1e-14)

    class Fixed:
        shape = (2, 2)

        def value(self, w):
            return 1.0

        def gradient(self, w):
            return g

        def margins(self, w):
            return np.ones(1)

    found = lrf.separation.follow_margin(Fixed(), w, metric, max_evaluations=1)
    assert abs(found.alignment[0] - 1) < 1e-14


def test_data_that_are_not_separable_come_to_rest(rng):
    loss, _, _ = separable(rng, separate=False)
    start = lrf.random_point(3, 6, 2, rng=rng, singular_values=[0.1, 0.1])
    found = lrf.separation.follow_margin(loss, start, lrf.DepthMetric(3), loss_end=1e-9)
    assert not found.separable
    assert "at rest" in found.path.message
    assert found.loss[-1] > 0.1 * found.loss[0]


def test_the_budget_ends_it(rng):
    loss, _, _ = separable(rng)
    start = lrf.random_point(3, 6, 2, rng=rng, singular_values=[0.1, 0.1])
    found = lrf.separation.follow_margin(loss, start, lrf.DepthMetric(3), max_evaluations=100)
    assert found.path.status is lrf.Status.MAX_EVALUATIONS


def test_logarithm(rng):
    loss, _, _ = separable(rng)
    w = lrf.random_point(3, 6, 2, rng=rng)
    report = lrf.check_loss(ls.Logarithm(loss), w)
    assert report.passed and report["shared"].verdict == "passed"


def test_verify_reports_a_margin_where_there_is_no_limit(rng):
    loss, _, _ = separable(rng, n=4, samples=25)
    start = lrf.random_point(3, 4, 2, rng=rng, singular_values=[0.1, 0.1])
    report = lrf.verify_equivalence(loss, start, depth=3, claims=["trajectory", "stationarity", "margin"])
    names = [c.name for c in report]
    assert "stationarity" not in names and names[-1] == "margin"
    assert report["margin"].verdict == "passed" and all(k.caught for k in report["margin"].controls)
    table = report.table("normalised time")
    margins, losses = table.column("margin"), table.column("loss")
    assert margins[-1] > 0 and losses[-1] < 1e-5 * losses[0]
    assert "here none does" in report.table("theory").caption


def test_a_loss_that_is_attained_is_not_called_separable(rng):
    """The squared hinge reaches zero: its claims are those about a limit."""
    x = rng.standard_normal((4, 25))
    signs = np.sign(rng.standard_normal((1, 4)) @ x)
    loss = ls.Measured(ls.Inputs(x, 1), ls.SquaredHinge(signs), reduction="mean")
    start = lrf.random_point(1, 4, 1, rng=rng, singular_values=[0.1])
    report = lrf.verify_equivalence(loss, start, depth=2, claims=["stationarity", "margin"])
    assert "margin" not in [c.name for c in report] and "here none does" not in report.table("theory").caption

    class WithMargins(ls.Measured):
        """The same, and it says its margins: they do not make a loss one that is never attained."""

        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.margins = lambda w: signs * (w @ x)

    loss = WithMargins(ls.Inputs(x, 1), ls.SquaredHinge(signs), reduction="mean")
    report = lrf.verify_equivalence(loss, start, depth=2, claims=["stationarity", "margin"])
    assert "margin" not in [c.name for c in report] and "here none does" not in report.table("theory").caption


def test_a_loss_of_fixed_rank_is_not_differentiable_for_theory(rng):
    loss = ls.Sum(ls.LeastSquares(rng.standard_normal((3, 30)), rng.standard_normal((4, 30))), ls.Schatten((4, 3), depth=2))
    report = lrf.verify_equivalence(loss, lrf.random_point(4, 3, 2, rng=rng), depth=3, t_end=0.05, claims=["gradient"])
    applies, _ = theory(report)
    assert applies[LAURENT] == NO
    assert "in general a saddle" in report.table("theory").caption


def theory(report):
    table = report.table("theory")
    return {row[0].split(" (")[0]: row[-1] for row in table.rows if row[0]}, {row[1]: row[3] for row in table.rows}


LAURENT, NGUEGNANG = "Laurent, von Brecht", "Nguegnang et al."
YES, NO = "applies", "not claimed"


@pytest.mark.parametrize(
    ("make", "widths", "expected"),
    [
        (lambda x, y: ls.LeastSquares(x, y), None, {LAURENT: YES, NGUEGNANG: YES}),
        (lambda x, y: ls.LeastSquares(x, y), (2, 2), {LAURENT: NO, NGUEGNANG: YES}),
        (lambda x, y: ls.LeastSquares(x[:, :2], y[:, :2]), None, {LAURENT: YES, NGUEGNANG: NO}),
        (lambda x, y: ls.Measured(ls.Inputs(x, 4), ls.Huber(y)), None, {LAURENT: YES, NGUEGNANG: NO}),
        (lambda x, y: ls.BuresWasserstein(y @ y.T, 3), None, {LAURENT: NO}),
    ],
    ids=["square", "narrow", "deficient", "huber", "not convex"],
)
def test_what_theory_says(make, widths, expected, rng):
    x, y = rng.standard_normal((3, 30)), rng.standard_normal((4, 30))
    start = lrf.random_point(4, 3, 2, rng=rng, singular_values=[0.3, 0.3])
    report = lrf.verify_equivalence(make(x, y), start, depth=3, widths=widths, t_end=0.05, claims=["gradient"])
    applies, _ = theory(report)
    assert {key: applies[key] for key in expected} == expected
    assert "theory" in report.to_json()


def test_unbalanced_factors_are_not_claimed(rng):
    x, y = rng.standard_normal((3, 30)), rng.standard_normal((4, 30))
    net = lrf.LinearNetwork.gaussian((4, 3), 3, widths=3, rng=rng)
    report = lrf.verify_equivalence(ls.LeastSquares(x, y), network=net, t_end=0.01, claims=["gradient"])
    table = report.table("theory")
    row = next(row for row in table.rows if "Riemannian" in str(row[0]))
    assert row[-1] == "not claimed"


class Negative:
    shape = (3, 6)

    def value(self, w):
        return -1.0

    def gradient(self, w):
        return np.zeros((3, 6))


def test_bad_input(rng):
    start = lrf.random_point(3, 6, 2, rng=rng)
    square = ls.LeastSquares(rng.standard_normal((6, 9)), rng.standard_normal((3, 9)))
    with pytest.raises(TypeError, match=r"`loss` must have margins\(w\), got LeastSquares"):
        lrf.separation.follow_margin(square, start, lrf.DepthMetric(2))
    with pytest.raises(ValueError, match="`loss` must be positive to be followed in normalised time, got -1"):
        ls.Logarithm(Negative()).value(start)
    with pytest.raises(ValueError, match="`loss_end` must be below 1"):
        lrf.separation.follow_margin(separable(rng)[0], start, lrf.DepthMetric(2), loss_end=2)
    with pytest.raises(ValueError, match="`loss_end` must be positive"):
        lrf.separation.follow_margin(separable(rng)[0], start, lrf.DepthMetric(2), loss_end=0)
