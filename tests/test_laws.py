"""Laws over every metric, start and depth: what makes the operator a metric, and what a flow conserves."""

import numpy as np
import pytest
from cases import (
    ALL_METRICS,
    DEPTHS,
    IMBALANCED_METRICS,
    METRICS,
    MIXED_METRICS,
    STARTS,
    TAME_STARTS,
    Start,
    completion,
    every_value,
    least_squares,
)
from hypothesis import given
from hypothesis import strategies as st
from oracles import EPS, chain, dense_operator, fitted_slope, imbalances, tangent_projection

import lowrankflow as lrf

SEEDS = st.integers(0, 2**32 - 1)


def operator(w, z, metric):
    """A_W(Z) as the library gives it, dense."""
    return lrf.riemannian_gradient(w, z, metric).at(w).to_dense()


def size(metric, w):
    """A bound on the norm of A_W, for tolerances."""
    c = metric.coefficients(w.s)
    return max(1.0, np.abs(c.core).max(), c.up.max(), c.vp.max())


# ---------------------------------------------------------------------------------------------------------------------
# pointwise


@pytest.mark.parametrize("metric", ALL_METRICS)
@pytest.mark.parametrize("case", STARTS)
def test_operator(metric, case, rng):
    """The ambient operator block by block; self-adjoint, positive, tangent-valued, zero on the normal space."""
    w = case.draw(rng)
    z1, z2 = rng.standard_normal((2, *w.shape))
    close = {"rtol": 0, "atol": 500 * EPS * size(metric, w)}
    a = operator(w, z1, metric)
    np.testing.assert_allclose(a, dense_operator(w, z1, metric.coefficients(w.s)), **close)
    np.testing.assert_allclose(a, tangent_projection(w, a), **close)
    np.testing.assert_allclose(operator(w, z1 - tangent_projection(w, z1), metric), 0 * z1, **close)
    np.testing.assert_allclose(
        np.vdot(a, z2), np.vdot(z1, operator(w, z2, metric)), rtol=0, atol=1e-12 * size(metric, w)
    )
    assert np.vdot(a, z1) > 0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", TAME_STARTS)
def test_gradient_represents_the_derivative(metric, case, rng):
    """Claim 7: g(A_W G, Z) = <G, Z> for tangent Z."""
    w = case.draw(rng)
    g, z = rng.standard_normal(w.shape), lrf.project(w, rng.standard_normal(w.shape))
    want = np.vdot(g, z.at(w).to_dense())
    got = lrf.gradients.inner_product(w, lrf.riemannian_gradient(w, g, metric), z, metric)
    # A^-1 A: the condition of A, up to N (s_1/s_r)^2 = 280 at depth 20
    assert abs(got - want) < 1e-12 * max(1.0, size(metric, w) / min(case.s) ** 2) * np.linalg.norm(g) * z.norm()
    embedded = isinstance(metric, (lrf.EmbeddedMetric, lrf.metrics.R3MCMetric))  # which are one at rank 1
    other = lrf.DepthMetric(2) if embedded else lrf.EmbeddedMetric()
    wrong = lrf.gradients.inner_product(w, lrf.riemannian_gradient(w, g, other), z, metric)
    assert abs(wrong - want) > 1e-6  # control: the gradient of another metric


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", TAME_STARTS)
def test_inner_product(metric, case, rng):
    """Symmetric, bilinear, positive."""
    w = case.draw(rng)
    a, b, c = (lrf.project(w, rng.standard_normal(w.shape)) for _ in range(3))

    def g(x, y):
        return lrf.gradients.inner_product(w, x, y, metric)

    tolerance = 1000 * EPS * np.sqrt(g(a, a) * g(b, b))
    assert g(a, a) > 0
    assert abs(g(a, b) - g(b, a)) < tolerance
    assert abs(g(2 * a + c, b) - 2 * g(a, b) - g(c, b)) < 10 * (tolerance + 1000 * EPS * np.sqrt(g(c, c) * g(b, b)))
    assert g(a, b) ** 2 <= g(a, a) * g(b, b)


@pytest.mark.parametrize("metric", METRICS)
def test_gradient_by_slope(metric, rng):
    """Along the truncated SVD, L(R(hZ)) - L - h g(grad L, Z) falls like h^2; with another metric's gradient like h."""
    w, loss = Start(6, 5, (1.2, 0.9, 0.5)).draw(rng), least_squares(6, 5, rng)
    z = lrf.project(w, rng.standard_normal(w.shape))
    z = z / z.norm()
    steps = 0.02 * 2.0 ** -np.arange(7)

    def slope(gradient):
        linear = lrf.gradients.inner_product(w, gradient, z, metric)
        rest = [
            loss.value((lrf.Product(*w.split()) + h * z.at(w)).to_low_rank(3)) - loss.value(w) - h * linear
            for h in steps
        ]
        return fitted_slope(steps, np.abs(rest))

    right = lrf.riemannian_gradient(w, loss.gradient(w), metric)
    assert abs(slope(right) - 2) < 0.15
    assert slope(2 * right) < 1.5  # control


def orthogonal(k, rng):
    return np.linalg.qr(rng.standard_normal((k, k)))[0]


@pytest.mark.parametrize("metric", ALL_METRICS)
@given(seed=SEEDS)
def test_orthogonal_change_of_frame(metric, seed):
    """A_{PWQ}(PZQ) = P A_W(Z) Q."""
    rng = np.random.default_rng(seed)
    w = lrf.random_point(5, 6, 3, rng=rng)
    z, p, q = rng.standard_normal((5, 6)), orthogonal(5, rng), orthogonal(6, rng)
    turned = lrf.LowRankMatrix(p @ w.u, w.s, w.vt @ q)
    np.testing.assert_allclose(
        operator(turned, p @ z @ q, metric), p @ operator(w, z, metric) @ q, rtol=0, atol=1000 * EPS * size(metric, w)
    )


@pytest.mark.parametrize("metric", ALL_METRICS)
@given(seed=SEEDS)
def test_singular_pairs_in_any_order_and_sign(metric, seed):
    """A_W depends on W, not on the order or the signs of its singular pairs."""
    rng = np.random.default_rng(seed)
    w = lrf.random_point(5, 6, 3, rng=rng)
    z, p, signs = rng.standard_normal((5, 6)), rng.permutation(3), rng.choice([-1.0, 1.0], 3)
    other = lrf.LowRankMatrix(w.u[:, p] * signs, w.s[p], signs[:, None] * w.vt[p])
    np.testing.assert_allclose(
        operator(other, z, metric), operator(w, z, metric), rtol=0, atol=500 * EPS * size(metric, w)
    )


@pytest.mark.parametrize("metric", ALL_METRICS)
def test_gauge_at_a_tie(metric, rng):
    """Equal singular values: any basis of their space gives the same operator."""
    w = Start(6, 5, (1.0, 1.0, 0.5)).draw(rng)
    turn = np.eye(3)
    turn[:2, :2] = orthogonal(2, rng)
    z, other = rng.standard_normal(w.shape), lrf.LowRankMatrix(w.u @ turn, w.s, turn.T @ w.vt)
    np.testing.assert_allclose(
        operator(other, z, metric), operator(w, z, metric), rtol=0, atol=500 * EPS * size(metric, w)
    )


def transpose_gap(metric, w, z):
    return np.abs(operator(w.T, z.T, metric) - operator(w, z, metric).T).max()


@pytest.mark.parametrize("metric", ALL_METRICS)
@given(seed=SEEDS)
def test_transpose(metric, seed):
    """A_{W^T}(Z^T) = A_W(Z)^T where the metric says so; the others are the control."""
    rng = np.random.default_rng(seed)
    w = lrf.random_point(5, 6, 3, rng=rng)
    gap, z = 500 * EPS * size(metric, w), rng.standard_normal((5, 6))
    assert (transpose_gap(metric, w, z) < gap) == metric.transposable


# ---------------------------------------------------------------------------------------------------------------------
# along the flow


@pytest.mark.parametrize(
    "metric",
    [lrf.DepthMetric(3), lrf.EmbeddedMetric(), *MIXED_METRICS, *IMBALANCED_METRICS],
    ids=lambda m: type(m).__name__,
)
def test_flow_of_the_transpose(metric, rng):
    """The same steps of RK4 on the transposed problem give the transposed path, to roundoff; not without the law."""
    w, loss = Start(5, 6, (1.0, 0.6)).draw(rng), completion(5, 6, rng)
    flipped = lrf.losses.Completion(loss.cols, loss.rows, loss.values, (6, 5))
    ends = [
        lrf.integrate(lrf.RiemannianFlow(x, metric), y, t_span=(0, 1), method="RK4", step_size=0.05)
        .points[-1]
        .to_dense()
        for x, y in ((loss, w), (flipped, w.T))
    ]
    # twenty contracting steps
    assert (np.abs(ends[0] - ends[1].T).max() < 1e-12) == metric.transposable


def gaussian(depth, rng, m=5, n=4):
    widths = [int(d) for d in rng.integers(3, 7, depth - 1)]
    return lrf.LinearNetwork.gaussian((m, n), depth, widths=widths, rng=rng)


def drift(loss, net, **options):
    path = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 3), **options)
    assert path.status is lrf.Status.FINISHED
    start = imbalances(net.factors)
    return max(np.linalg.norm(a - b) for w in path.points for a, b in zip(imbalances(w.factors), start, strict=True))


@every_value(depth=[2, 3, 4, 5], make=[least_squares, completion])
def test_imbalances_are_conserved(depth, make, rng):
    """Claim 1, unbalanced factors at rtol = 1e-10: the drift is the integrator's alone, within a few rtol ||W_j||^2."""
    net, loss = gaussian(depth, rng), make(5, 4, rng)
    assert net.imbalance() > 0.1
    assert drift(loss, net, rtol=1e-10) < 1e-10 * max(1.0, max(np.linalg.norm(f, 2) for f in net.factors) ** 2)
    # control: Euler conserves only to O(h), as the drift identity says
    assert drift(loss, net, method="Euler", step_size=0.01) > 1e-4


@every_value(sizes=[(2, None), (3, (6, 5)), (4, (5, 7, 4))], case=TAME_STARTS)
def test_factor_flow_is_the_riemannian_flow(sizes, case, rng):
    """Claim 2, T = 5, full widths (at depth 2 the rank): the largest gap over time within 3 (e_a + e_b) + roundoff.

    Each error is that side at rtol = 1e-11 against itself at 1e-13; the gap at 1e-13 is then about 1e-12.
    """
    (depth, widths), w, loss = sizes, case.draw(rng), least_squares(case.m, case.n, rng)
    net = lrf.LinearNetwork.balanced(w, depth, widths=widths and [max(d, case.rank) for d in widths], rng=rng)
    save = lrf.Save(times=np.linspace(0, 5, 6))

    def run(flow, start, rtol):
        path = lrf.integrate(flow, start, t_span=(0, 5), rtol=rtol, save=save)
        assert path.status is lrf.Status.FINISHED
        return [x.to_dense() for x in path.points], 100 * EPS * np.sqrt(path.nfev)

    def gap(a, b):
        return max(np.linalg.norm(x - y) / np.linalg.norm(y) for x, y in zip(a, b, strict=True))

    sides = [(lrf.FactorFlow(loss), net), (lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), w)]
    (factor, _), (riemannian, roundoff) = (run(*side, 1e-11) for side in sides)
    (factor_fine, _), (riemannian_fine, _) = (run(*side, 1e-13) for side in sides)
    bound = 3 * (gap(factor, factor_fine) + gap(riemannian, riemannian_fine)) + roundoff
    assert gap(factor, riemannian) < bound < 1e-8
    assert gap(factor_fine, riemannian_fine) < bound / 10 + roundoff
    if depth == 3:
        # controls from the same W(0): unbalanced factors, and the wrong depth on one side
        a = np.diag(np.linspace(0.7, 1.5, net.factors[0].shape[0]))
        bad = lrf.LinearNetwork([a @ net.factors[0], net.factors[1] @ np.linalg.inv(a), *net.factors[2:]])
        assert gap(run(lrf.FactorFlow(loss), bad, 1e-8)[0], riemannian) > 1e4 * bound
        assert gap(run(lrf.RiemannianFlow(loss, lrf.DepthMetric(3.01)), w, 1e-8)[0], riemannian) > 1e4 * bound


@pytest.mark.parametrize(("depth", "extra"), [(2, 0), (3, 2), (5, 1)])
@pytest.mark.parametrize("case", STARTS)
def test_rank_and_spectra_of_the_factors(depth, extra, case, rng):
    """Claim 8: along the factor flow rank W stays k, and the leading singular values of every factor are s^(1/N)."""
    w, loss = case.draw(rng), least_squares(case.m, case.n, rng)
    net = lrf.LinearNetwork.balanced(w, depth, widths=case.rank + extra, rng=rng)
    save, k = lrf.Save(times=[0.5, 1.5, 3.0]), case.rank
    path = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 3), rtol=1e-12, save=save)
    for x in path.points:
        s = np.linalg.svd(chain(x.factors))[1]
        assert s[k - 1] > 0
        assert (s[k:] < 1e-12).all()
        for f in x.factors:
            own = np.linalg.svd(f)[1][:k]
            # compared as own^N = s: the root of a tiny s would amplify the roundoff of W
            np.testing.assert_allclose(own**depth, s[:k], rtol=0, atol=1e-10)
            if s[k - 1] > 0.01:
                np.testing.assert_allclose(own, s[:k] ** (1 / depth), rtol=0, atol=1e-10)


def test_spectra_of_unbalanced_factors_differ(rng):
    """Control of the test above."""
    net = gaussian(3, rng)
    own, s = np.linalg.svd(net.factors[0])[1][:3], np.linalg.svd(chain(net.factors))[1][:3]
    assert np.abs(own**3 - s).max() > 0.01


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_weights_stay_bounded(depth, rng):
    """Claim 9: ||W_j(t)||^2 <= M^(2/N) + N(N-1)/2 delta, M = (sqrt(2 L(0)) + ||Y||)/sigma_min(X), X of full rank."""
    x, y = rng.standard_normal((4, 8)), rng.standard_normal((5, 8))
    loss, net = lrf.losses.LeastSquares(x, y), gaussian(depth, rng)
    delta = max(np.linalg.norm(d, 2) for d in imbalances(net.factors))
    m = (np.sqrt(2 * loss.value(net)) + np.linalg.norm(y, 2)) / np.linalg.svd(x)[1][-1]
    bound = m ** (2 / depth) + depth * (depth - 1) / 2 * delta
    path = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 3), rtol=1e-6)
    assert path.status is lrf.Status.FINISHED
    # rtol of the integrator against ratios of 0.1 to 0.5
    largest = max(np.linalg.norm(f, 2) ** 2 for w in path.points for f in w.factors)
    assert largest < bound
    assert max(np.linalg.norm(chain(w.factors), 2) for w in path.points) < m


def test_weight_bound_needs_the_imbalance(rng):
    """Control: with one factor blown up at the same product, M^(2/N) alone is broken, the full bound is not."""
    x, y = rng.standard_normal((4, 8)), rng.standard_normal((5, 8))
    loss, net = lrf.losses.LeastSquares(x, y), gaussian(3, rng)
    net = lrf.LinearNetwork([10 * net.factors[0], net.factors[1] / 10, net.factors[2]])
    delta = max(np.linalg.norm(d, 2) for d in imbalances(net.factors))
    m = (np.sqrt(2 * loss.value(net)) + np.linalg.norm(y, 2)) / np.linalg.svd(x)[1][-1]
    path = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 0.5), rtol=1e-6)
    largest = max(np.linalg.norm(f, 2) ** 2 for w in path.points for f in w.factors)
    assert m ** (2 / 3) < largest < m ** (2 / 3) + 3 * delta


@every_value(depth=DEPTHS, case=STARTS)
def test_loss_falls(depth, case, rng):
    w, loss = case.draw(rng), completion(case.m, case.n, rng)
    path = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), w, t_span=(0, 3))
    assert (np.diff(path.loss) <= 0).all()
    assert path.loss[-1] < path.loss[0]
    assert (path.singular_values[:, -1] > 0).all()
