"""Losses of the singular values: against all factorisations, dense square roots, and the flows that they have."""

import numpy as np
import pytest
from oracles import EPS, balanced_factors, central, chain, factor_flow, fitted_slope, sides
from scipy import linalg
from scipy.integrate import solve_ivp
from scipy.optimize import minimize

import lowrankflow as lrf
from lowrankflow.losses import (
    BuresWasserstein,
    Completion,
    Inputs,
    LeastSquares,
    Measured,
    Scaled,
    Schatten,
    Squared,
    Sum,
)

DEPTHS = pytest.mark.parametrize("depth", [1, 1.5, 2, 3, 5, 20])
WHOLE = pytest.mark.parametrize("depth", [2, 3, 5])
SHAPES = pytest.mark.parametrize("shape", [(5, 4), (4, 6), (4, 4)], ids=str)


def forms_of(w, rng):
    """One W in every representation, and as an array."""
    return [w, lrf.Product(*w.split()), lrf.LinearNetwork.balanced(w, 3, widths=4, rng=rng), w.to_dense()]


def curve(w, rng):
    """W(h) = L(h) R(h) of the rank of W, curved, and its velocity at 0."""
    (left, right), (a, b) = w.split(), (rng.standard_normal((m, w.rank)) for m in w.shape)

    def at(h):
        return lrf.Product(left + h * a, right + h * b.T)

    return at, a @ right + left @ b.T


def slope_law(loss, w, rng):
    """L(W(h)) - L - h <G, W'> over five halvings along a curve of fixed rank, with a gradient times `factor`."""
    at, velocity = curve(w, rng)
    size = linalg.norm(velocity)
    steps = 1e-3 / size * 2.0 ** -np.arange(6)
    derivative = np.vdot(loss.gradient(w).to_dense(), velocity)

    def slope(factor):
        rest = [loss.value(at(h)) - loss.value(w) - factor * h * derivative for h in steps]
        return fitted_slope(steps, np.abs(rest))

    return slope


# ---------------------------------------------------------------------------------------------------------------------
# weight decay from downstairs


def decay(factors, strength):
    return 0.5 * strength * sum(linalg.norm(f) ** 2 for f in factors)


@SHAPES
@WHOLE
def test_schatten_is_the_least_weight_decay(shape, depth, rng):
    """Attained by balanced factors; no change of gauge has less, and a large one has visibly more."""
    w, gamma = lrf.random_point(*shape, 3, rng=rng, singular_values=[1.7, 0.8, 0.2]), 0.3
    loss = Schatten(shape, depth=depth, strength=gamma)
    least = loss.value(w)
    np.testing.assert_allclose(decay(balanced_factors(w, depth), gamma), least, rtol=20 * EPS)
    np.testing.assert_allclose(
        decay(lrf.LinearNetwork.balanced(w, depth, widths=4, rng=rng).factors, gamma), least, rtol=1e-13
    )
    more = []
    for size in np.repeat([1e-3, 0.03, 0.3], 5):
        factors = balanced_factors(w, depth)
        for j in range(depth - 1):
            gauge = linalg.expm(size * rng.standard_normal((3, 3)))
            factors[j], factors[j + 1] = gauge @ factors[j], factors[j + 1] @ linalg.inv(gauge)
        np.testing.assert_allclose(chain(factors), w.to_dense(), rtol=0, atol=1e-12)  # the same W
        more.append(decay(factors, gamma) - least)
    assert min(more) > -1e-14
    assert min(more[10:]) > 1e-3 * least  # control: unbalanced factors decay otherwise
    # control: another depth has another least
    assert abs(Schatten(shape, depth=depth + 1, strength=gamma).value(w) - least) > 0.01 * least


@WHOLE
def test_schatten_by_direct_minimisation(depth, rng):
    """An optimiser over the gauges of one diagonal mode, started away from balance, finds the closed form."""
    s, gamma = 0.37, 0.8
    # factors of a 1 x 1 matrix: the last is s over the others; the logarithms keep the signs
    found = minimize(
        lambda x: 0.5 * gamma * (np.exp(2 * x).sum() + s**2 * np.exp(-2 * x.sum())),
        rng.standard_normal(depth - 1),
        tol=1e-12,
    )
    # the least value is quadratic in the error of its place, 1e-6
    np.testing.assert_allclose(
        Schatten((1, 1), depth=depth, strength=gamma).value(np.array([[s]])), found.fun, rtol=1e-10
    )


def test_schatten_of_known_depths(rng):
    """Depth 1 is half the squared Frobenius norm, depth 2 the nuclear norm, times the strength."""
    w = lrf.random_point(5, 6, 3, rng=rng)
    dense = w.to_dense()
    np.testing.assert_allclose(
        Schatten((5, 6), depth=1, strength=0.7).value(w), 0.35 * linalg.norm(dense) ** 2, rtol=1e-13
    )
    np.testing.assert_allclose(
        Schatten((5, 6), depth=2, strength=0.7).value(w), 0.7 * linalg.norm(dense, "nuc"), rtol=1e-13
    )
    assert Schatten((5, 6), depth=2).convex
    assert not Schatten((5, 6), depth=2.1).convex


def test_schatten_beyond_depth_two_is_not_convex():
    """Between two matrices of rank 1 the quasi-norm is above its mean; the nuclear norm is not."""
    a, b = np.diag([1.0, 0.0]), np.diag([0.0, 1.0])
    for depth, convex in ((1, True), (2, True), (3, False)):
        loss = Schatten((2, 2), depth=depth)
        middle, ends = loss.value((a + b) / 2), 0.5 * (loss.value(a) + loss.value(b))
        assert (middle <= ends + 4 * EPS) == convex == loss.convex


@DEPTHS
@SHAPES
def test_schatten_along_curves_of_fixed_rank(shape, depth, rng):
    w = lrf.random_point(*shape, 3, rng=rng, singular_values=[1.7, 0.8, 0.3])
    loss = Schatten(shape, depth=depth, strength=0.4)
    slope = slope_law(loss, w, rng)
    assert abs(slope(1.0) - 2) < 0.15
    assert slope(1.01) < 1.5  # control: one per cent too much
    want = 0.4 * (w.u * w.s ** (2 / depth - 1)) @ w.vt
    for form in forms_of(w, rng):
        np.testing.assert_allclose(loss.value(form), 0.2 * depth * (w.s ** (2 / depth)).sum(), rtol=1e-12)
        got = loss.gradient(form)
        assert isinstance(got, lrf.Product)
        # a power of singular values known to eps / s
        np.testing.assert_allclose(got.to_dense(), want, rtol=0, atol=1e-13)
        np.testing.assert_allclose(got.T @ np.eye(shape[0]), want.T, rtol=0, atol=1e-13)
    # no part in the normal space
    normal = (np.eye(shape[0]) - w.u @ w.u.T) @ loss.gradient(w).to_dense() @ (np.eye(shape[1]) - w.vt.T @ w.vt)
    assert np.abs(normal).max() < 20 * EPS


@WHOLE
def test_the_flow_of_weight_decay_alone_is_exponential(depth, rng):
    """W' = -gamma N W: W(t) = e^(-gamma N t) W(0), at rtol = 1e-10 over a contracting run."""
    w, gamma, t = lrf.random_point(5, 4, 2, rng=rng, singular_values=[1.0, 0.4]), 0.5, 0.6
    loss = Schatten((5, 4), depth=depth, strength=gamma)
    velocity = lrf.riemannian_gradient(w, loss.gradient(w), lrf.DepthMetric(depth)).at(w).to_dense()
    np.testing.assert_allclose(velocity, gamma * depth * w.to_dense(), rtol=0, atol=1e-13)
    want = np.exp(-gamma * depth * t) * w.to_dense()
    start = lrf.LinearNetwork.balanced(w, depth)
    for flow, w0 in ((lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), w), (lrf.FactorFlow(loss), start)):
        end = lrf.integrate(flow, w0, t_span=(0, t), rtol=1e-10).points[-1]
        np.testing.assert_allclose(end.to_dense(), want, rtol=0, atol=1e-8)
    # control: the loss of another depth does not scale W
    other = Schatten((5, 4), depth=depth + 1, strength=gamma * depth / (depth + 1))
    end = lrf.integrate(lrf.RiemannianFlow(other, lrf.DepthMetric(depth)), w, t_span=(0, t), rtol=1e-10).points[-1]
    assert np.abs(end.to_dense() - want).max() > 1e-3


@WHOLE
def test_weight_decay_upstairs_is_schatten_downstairs(depth, rng):
    """Factors with a decay of their own, by hand, against the Riemannian flow of the sum."""
    w, gamma = lrf.random_point(5, 4, 2, rng=rng, singular_values=[0.8, 0.4]), 0.2
    rows, cols = np.nonzero(rng.random((5, 4)) < 0.7)
    fit = Completion(rows, cols, rng.standard_normal(rows.size), (5, 4))
    total = Sum(fit, Schatten((5, 4), depth=depth, strength=gamma))
    path = lrf.integrate(lrf.RiemannianFlow(total, lrf.DepthMetric(depth)), w, t_span=(0, 1), rtol=1e-10)

    def split(y):
        parts = np.split(y, np.cumsum([f.size for f in start])[:-1])
        return [part.reshape(f.shape) for part, f in zip(parts, start, strict=True)]

    def velocity(_, y):
        factors = split(y)
        g = fit.gradient(chain(factors)).toarray()
        moved = []
        for j in range(depth):
            left, right = sides(factors, j)
            moved.append(-(left.T @ g @ right.T) - gamma * factors[j])
        return np.concatenate([f.ravel() for f in moved])

    start = balanced_factors(w, depth)
    y0 = np.concatenate([f.ravel() for f in start])
    y = solve_ivp(velocity, (0, 1), y0, method="DOP853", rtol=1e-11, atol=1e-13).y[:, -1]
    factors = split(y)
    np.testing.assert_allclose(path.points[-1].to_dense(), chain(factors), rtol=0, atol=1e-7)
    without = factor_flow(lambda x: fit.gradient(x).toarray(), start, [1.0])[-1]
    assert np.abs(chain(without) - chain(factors)).max() > 1e-2  # control: without the decay


# ---------------------------------------------------------------------------------------------------------------------
# Bures and Wasserstein


def covariance(m, rng, smallest=0.2):
    q = np.linalg.qr(rng.standard_normal((m, m)))[0]
    return (q * np.linspace(2.0, smallest, m)) @ q.T


def distance_by_roots(a, b):
    """tr A + tr B - 2 tr (A^(1/2) B A^(1/2))^(1/2), by dense square roots."""
    root = linalg.sqrtm(a)
    return np.trace(a) + np.trace(b) - 2 * np.trace(linalg.sqrtm(root @ b @ root)).real


@SHAPES
def test_bures_wasserstein_by_dense_square_roots(shape, rng):
    """Of full row rank, where square roots have their digits; in every representation."""
    m, n = shape
    k = min(shape)
    sigma = covariance(m, rng)
    loss = BuresWasserstein(sigma, n)
    assert loss.shape == shape
    assert loss.convex is False
    w = lrf.random_point(m, n, k, rng=rng, singular_values=np.linspace(1.5, 0.5, k))
    want = distance_by_roots(sigma, w.to_dense() @ w.to_dense().T)
    for form in forms_of(w, rng):
        # square roots of a rank-deficient W W^T (m > n): sqrt(eps) without the known sum; else eps times the condition
        np.testing.assert_allclose(loss.value(form), want, rtol=0, atol=1e-6 if m > n else 1e-12)
    assert abs(loss.value(1.01 * w.to_dense()) - want) > 1e-3  # control
    # independent of sqrtm: the nuclear norm, at any rank
    root = linalg.cholesky(sigma, lower=True)  # any root serves: a rotation from the left
    nuclear = linalg.norm(w.to_dense()) ** 2 + np.trace(sigma) - 2 * linalg.norm(root.T @ w.to_dense(), "nuc")
    np.testing.assert_allclose(loss.value(w), nuclear, rtol=0, atol=1e-13)


@SHAPES
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_bures_wasserstein_along_curves_of_fixed_rank(shape, rank, rng):
    loss = BuresWasserstein(covariance(shape[0], rng), shape[1])
    w = lrf.random_point(*shape, rank, rng=rng, singular_values=np.linspace(1.5, 0.5, rank))
    slope = slope_law(loss, w, rng)
    assert abs(slope(1.0) - 2) < 0.15
    assert slope(1.01) < 1.5  # control
    want = loss.gradient(w).to_dense()
    for form in forms_of(w, rng):
        np.testing.assert_allclose(loss.gradient(form).to_dense(), want, rtol=0, atol=1e-12)
    at, velocity = curve(w, rng)
    derivative = np.vdot(want, velocity)
    # h = 1e-5: third derivatives of order 10^2
    assert abs(central(lambda h: loss.value(at(h))) - derivative) < 1e-7


@pytest.mark.parametrize("n", [4, 6])
def test_bures_wasserstein_vanishes_where_the_covariance_is_met(n, rng):
    """W W^T = Sigma: zero to eps^2, not to eps, with a zero gradient; never negative nearby."""
    sigma = covariance(4, rng)
    frame = np.linalg.qr(rng.standard_normal((n, 4)))[0].T
    w = lrf.LowRankMatrix.from_dense(linalg.cholesky(sigma, lower=True) @ frame)
    loss = BuresWasserstein(sigma, n)
    assert 0 <= loss.value(w) < 1e-28
    assert np.abs(loss.gradient(w).to_dense()).max() < 1e-13
    for size in np.logspace(-12, 0, 13):
        moved = w.to_dense() + size * rng.standard_normal((4, n))
        # 1e-16 of roundoff in W costs its square
        assert loss.value(moved) > 0
        assert loss.value(moved) < 100 * size**2 + 1e-28


def test_least_bures_wasserstein_of_a_rank(rng):
    """At rank k: the sum of the eigenvalues left out, at the leading eigenvectors; other choices are worse."""
    sigma = covariance(5, rng)
    values, vectors = linalg.eigh(sigma)
    loss = BuresWasserstein(sigma, 3)
    best = lrf.LowRankMatrix(vectors[:, 3:], np.sqrt(values[3:]), np.eye(3)[:2])
    np.testing.assert_allclose(loss.value(best), values[:3].sum(), rtol=1e-13)
    assert lrf.project(best, loss.gradient(best)).norm() < 1e-13
    left, right = best.split()
    for size in np.logspace(-4, 1, 20):
        other = lrf.Product(
            left + size * rng.standard_normal(left.shape), right + size * rng.standard_normal(right.shape)
        )
        assert loss.value(other) > values[:3].sum() - 1e-13
    wrong = lrf.LowRankMatrix(vectors[:, :2], np.sqrt(values[:2]), np.eye(3)[:2])
    assert loss.value(wrong) > values[:3].sum() + 0.5  # control: the trailing ones


def test_bures_wasserstein_of_the_zero_covariance(rng):
    w = lrf.random_point(3, 4, 2, rng=rng)
    loss = BuresWasserstein(np.zeros((3, 3)), 4)
    np.testing.assert_allclose(loss.value(w), w.norm() ** 2, rtol=1e-14)
    np.testing.assert_allclose(loss.gradient(w).to_dense(), 2 * w.to_dense(), rtol=0, atol=1e-14)


# ---------------------------------------------------------------------------------------------------------------------
# in the flows


def decayed_fit(rng):
    x, y = rng.standard_normal((4, 12)) / 3, rng.standard_normal((5, 12)) / 3
    return Sum(Measured(Inputs(x, 5), Squared(y)), Schatten((5, 4), depth=3, strength=0.1))


def generative(rng):
    return Scaled(BuresWasserstein(covariance(5, rng), 4), 0.5)


@pytest.mark.parametrize("make", [decayed_fit, generative], ids=lambda f: f.__name__)
def test_both_flows_agree(make, rng):
    loss, start = make(rng), lrf.random_point(5, 4, 2, rng=rng, singular_values=[0.8, 0.4])
    # the rank, so that trial steps stay near the matrices of rank 2
    claims = ["pointwise", "trajectory"]
    report = lrf.verify_equivalence(loss, start, depth=3, widths=2, t_end=1.0, rtol=1e-7, rng=rng, claims=claims)
    for name in ("trajectory", "pointwise"):
        claim = report[name]
        assert claim.verdict == "passed", claim
        assert claim.measured < claim.bound < 1e-3


def test_a_sum_with_least_squares_keeps_both_gradients(rng):
    """The sum is that of dense arrays, at a network too."""
    fit, decay_ = LeastSquares(rng.standard_normal((4, 9)), rng.standard_normal((5, 9))), Schatten((5, 4), depth=3)
    w = lrf.random_point(5, 4, 2, rng=rng)
    for form in forms_of(w, rng):
        want = fit.gradient(w).to_dense() + 0.5 * decay_.gradient(w).to_dense()
        got = Sum(fit, decay_, weights=[1.0, 0.5]).gradient(form).to_dense()
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
        assert np.abs(want - fit.gradient(w).to_dense()).max() > 0.1  # control
