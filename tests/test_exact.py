"""Closed forms and benchmarks: what the flow must give to many digits."""

from functools import reduce

import numpy as np
import pytest
from oracles import EPS, balanced_factors, chain, fukumizu, polynomial_derivative, scalar_mode

import lowrankflow as lrf

# ---------------------------------------------------------------------------------------------------------------------
# aligned modes


def aligned(start, target):
    """W(0) = diag(start), L = |W - diag(target)|^2 / 2: every mode moves alone."""
    k = len(start)
    return lrf.losses.LeastSquares(np.eye(k), np.diag(target)), lrf.LowRankMatrix(np.eye(k), start, np.eye(k))


@pytest.mark.parametrize("chart", [None, lrf.SingularFrame(root=1), lrf.Lifted()], ids=str)
@pytest.mark.parametrize("scale", [1e-1, 1e-8])
def test_scalar_modes_of_depth_two(chart, scale):
    """s(t) = s0 s* e^(2 s* t) / (s* - s0 + s0 e^(2 s* t)): through the plateau and the sharp rise of each mode."""
    start, target = scale * np.array([1.0, 0.8, 0.5]), np.array([2.0, 1.0, 0.6])
    loss, w = aligned(start, target)
    times = np.linspace(0, 12, 13)
    path = lrf.integrate(
        lrf.RiemannianFlow(loss, lrf.DepthMetric(2)),
        w,
        t_span=(0, 12),
        rtol=1e-11,
        chart=chart,
        save=lrf.Save(times=times),
    )
    want = np.array([scalar_mode(start, target, 1.0, t) for t in times])
    # rtol is of the largest mode: one that starts at s0 carries an error of rtol ||T|| = rtol s_max^(1/2), which grows
    # with the mode by up to s*/s0 in W and so e.g. to 1e-11 / 1e-4 where it passes the middle of its rise
    got = np.array([np.sort(np.diag(p.to_dense()))[::-1] for p in path.points])
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-9 / np.sqrt(scale))
    # control: depth 3 takes another time
    other = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), w, t_span=(0, 3), save=lrf.Save(times=[3]))
    assert np.abs(other.points[-1].s - scalar_mode(start, target, 1.0, 3.0)).max() > 0.1 * scale


@pytest.mark.parametrize(("depth", "exact"), [(3, 1e-15), (4, 2.5e-11)])
def test_slow_collapse(depth, exact):
    """flow.md 1.6: W(0) = -0.8 u u^T, target the identity: s ~ ((N-2) t)^(-N/(N-2)), at t = 1e5 to 1e-3."""
    loss, _ = aligned([1.0], [1.0])
    w = lrf.LowRankMatrix([[-1.0]], [0.8], [[1.0]])
    path = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), w, t_span=(0, 1e5), rtol=1e-10)
    assert path.status is lrf.Status.FINISHED
    assert ((depth - 2) * 1e5) ** (-depth / (depth - 2)) == pytest.approx(exact)
    assert path.singular_values[-1, 0] == pytest.approx(exact, rel=1e-3)


def test_fast_collapse():
    """Depth 2 from the same start: s' = -2 s (1 + s), in closed form."""
    loss, _ = aligned([1.0], [1.0])
    w = lrf.LowRankMatrix([[-1.0]], [0.8], [[1.0]])
    path = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(2)), w, t_span=(0, 8), rtol=1e-12)
    # s = l^2 with l of order one at the start: an error of rtol in l
    np.testing.assert_allclose(path.singular_values[:, 0], scalar_mode(0.8, -1.0, 1.0, path.t), rtol=0, atol=1e-11)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_speed_of_the_singular_values(depth, rng):
    """Arora, Cohen, Hazan: ds_i/dt = -N s_i^(2 - 2/N) <u_i v_i^T, G>, by differences along the flow."""
    w = lrf.random_point(6, 5, 3, rng=rng, singular_values=[1.5, 0.9, 0.4])
    loss = lrf.losses.LeastSquares(np.eye(5), rng.standard_normal((6, 5)))
    h = 1e-4
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(depth))
    s = [p.s for p in lrf.integrate(flow, w, t_span=(0, 2 * h), rtol=1e-13, save=lrf.Save(times=[h])).points]
    measured = (-3 * s[0] + 4 * s[1] - s[2]) / (2 * h)  # h^2 s''' / 3, and rtol / h
    g = loss.gradient(w).to_dense()
    want = np.array([-depth * x ** (2 - 2 / depth) * u @ g @ v for u, x, v in zip(w.u.T, w.s, w.vt, strict=True)])
    np.testing.assert_allclose(measured, want, rtol=0, atol=1e-4 * np.abs(want).max())
    assert np.abs(measured - want * (depth + 0.1) / depth).max() > 1e-2 * np.abs(want).max()  # control


# ---------------------------------------------------------------------------------------------------------------------
# Fukumizu's solution (claim 18)


def fukumizu_case(rng, shape, rank):
    m, n = shape
    q, w = rng.standard_normal(shape), lrf.random_point(m, n, rank, rng=rng)
    return q, w, lrf.losses.LeastSquares(np.eye(n), q)


@pytest.mark.parametrize(("shape", "rank"), [((5, 4), 3), ((3, 6), 3), ((4, 4), 4), ((5, 4), 1)])
def test_fukumizu(shape, rank, rng):
    """Depth 2, XX^T = I, balanced: W(t) from the matrix Riccati equation with 50 digits; both flows to 1e-9."""
    q, w, loss = fukumizu_case(rng, shape, rank)
    w1, w2 = balanced_factors(w, 2)
    times = [0.3, 1.0, 3.0]
    net, save = lrf.LinearNetwork([w1, w2]), lrf.Save(times=times)
    factor = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 3), rtol=1e-12, save=save)
    frame = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(2)), w, t_span=(0, 3), rtol=1e-12, save=save)
    for i, t in enumerate(times, start=1):
        exact = fukumizu(q, w1, w2, t)
        np.testing.assert_allclose(chain(factor.points[i].factors), exact, rtol=0, atol=1e-9)
        np.testing.assert_allclose(frame.points[i].to_dense(), exact, rtol=0, atol=1e-9)


def test_fukumizu_needs_balance(rng):
    """Control: the same product from unbalanced factors does not follow it."""
    q, w, loss = fukumizu_case(rng, (5, 4), 3)
    w1, w2 = balanced_factors(w, 2)
    a = np.diag([0.7, 1.0, 1.5])
    net = lrf.LinearNetwork([a @ w1, w2 @ np.linalg.inv(a)])
    end = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 1), rtol=1e-10).points[-1]
    assert np.abs(chain(end.factors) - fukumizu(q, w1, w2, 1.0)).max() > 1e-3
    np.testing.assert_allclose(fukumizu(q, w1, w2, 0.0), w.to_dense(), rtol=0, atol=20 * EPS)


# ---------------------------------------------------------------------------------------------------------------------
# the linear autoencoder, flow.md 2.1 (claim 14)


def autoencoder():
    """d = 20, m = 60: X, its eigenvectors and eigenvalues, decreasing."""
    x = np.random.default_rng(2021).standard_normal((20, 60)) / np.sqrt(20)
    values, vectors = np.linalg.eigh(x @ x.T)
    return x, vectors[:, ::-1], values[::-1]


def test_the_benchmark_is_the_one_of_the_note():
    np.testing.assert_allclose(autoencoder()[2][:4], [6.698, 5.699, 5.083, 4.92], atol=5e-4)


def check_optimum(end, r, loss):
    _, vectors, values = autoencoder()
    projection = vectors[:, :r] @ vectors[:, :r].T
    assert np.linalg.norm(end.to_dense() - projection) <= 1e-6
    optimum = values[r:].sum() / 2
    assert abs(loss.value(end) - optimum) <= 1e-10
    np.testing.assert_allclose(loss.best_value(r), optimum, rtol=1e-13)
    # control: the projection on other eigenvectors is a critical point too, and is told apart
    other = vectors[:, 1 : r + 1] @ vectors[:, 1 : r + 1].T
    assert np.linalg.norm(end.to_dense() - other) > 1
    assert abs(loss.value(other) - optimum) > 0.1


@pytest.mark.parametrize(("depth", "r"), [(2, 1), (2, 10), (3, 5), (5, 2), (10, 1), (10, 5)])
def test_autoencoder(depth, r):
    """W(200) = U_r U_r^T within 1e-6, from partial isometries; rtol = 1e-7 holds the stable fixed point to that.

    Stiff: explicit steps are limited by N lambda_1. With few unknowns an implicit method is up to ten times faster.
    """
    x, _, _ = autoencoder()
    loss = lrf.losses.LeastSquares(x, x)
    start = lrf.random_point(20, 20, r, rng=np.random.default_rng(1000 * depth + r), singular_values=np.ones(r))
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(depth))
    method = "LSODA" if r <= 5 else "DOP853"
    path = lrf.integrate(flow, start, t_span=(0, 200), rtol=1e-7, method=method, save=lrf.Save(steps=False))
    check_optimum(path.points[-1], r, loss)


@pytest.mark.parametrize(("depth", "widths"), [(2, (5,)), (3, (5, 12))])
def test_autoencoder_by_its_factors(depth, widths):
    """The widths of the note: d_1 = r, rising to d."""
    x, _, _ = autoencoder()
    loss = lrf.losses.LeastSquares(x, x)
    net = lrf.LinearNetwork.orthogonal((20, 20), depth, widths=widths, rng=np.random.default_rng(1000 * depth + 5))
    path = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 200), rtol=1e-7, save=lrf.Save(steps=False))
    check_optimum(path.points[-1], 5, loss)
    assert path.points[-1].imbalance() < 1e-5


# ---------------------------------------------------------------------------------------------------------------------
# the Hessian identity (claim 24)


def metric_matrix(a, depth):
    """The metric on GL(2) as a 4 x 4 matrix: the inverse of sum_j (WW^T)^((N-j)/N) (x) (W^TW)^((j-1)/N)."""
    (x, p), (y, q) = np.linalg.eigh(a @ a.T), np.linalg.eigh(a.T @ a)
    total = sum(
        np.kron((p * x ** ((depth - j) / depth)) @ p.T, (q * y ** ((j - 1) / depth)) @ q.T) for j in range(1, depth + 1)
    )
    return np.linalg.inv(total)


def hessian_by_christoffel(a, z, gradient, hessian, depth, h=1e-4):
    """D^2 f[Z, Z] - df(Gamma(Z, Z)), Gamma by differences of order 4 of the metric."""

    def along(d):
        def value(t):
            return metric_matrix(a + t * d, depth)

        return (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)

    basis = [e.reshape(2, 2) for e in np.eye(4)]
    zv = z.ravel()
    covector = along(z) @ zv - 0.5 * np.array([zv @ along(e) @ zv for e in basis])
    return np.vdot(z, hessian(z)) - gradient.ravel() @ np.linalg.solve(metric_matrix(a, depth), covector)


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("draw", range(3))
def test_hessian_is_the_second_derivative_along_the_horizontal_lift(depth, draw, rng):
    """At any point of GL(2): Levi-Civita by Christoffel symbols against the plain factor loss, to 1e-6."""
    a, z = np.array([[1.3, 0.2], [-0.3, 0.8]]) + 0.1 * rng.standard_normal((2, 2)), rng.standard_normal((2, 2))
    loss = lrf.losses.LeastSquares(rng.standard_normal((2, 6)), rng.standard_normal((2, 6)))
    want = hessian_by_christoffel(a, z, loss.gradient(a).to_dense(), lambda x: loss.hessian(a, x), depth)
    net = lrf.LinearNetwork.balanced(lrf.LowRankMatrix.from_dense(a), depth)

    def second(lift):
        def value(t):
            return loss.value(lrf.LinearNetwork([f + t * e for f, e in zip(net.factors, lift, strict=True)]))

        return polynomial_derivative(value, degree=2 * depth, order=2, radius=0.5)  # exact: a polynomial in t

    lift = lrf.horizontal_lift(net, z)
    # differences of order 4 at h = 1e-4: eps / h = 1e-11 times the condition of the metric
    assert second(lift) == pytest.approx(want, rel=1e-6)
    # controls: the Euclidean Hessian, and another lift of the same Z
    assert abs(np.vdot(z, loss.hessian(a, z)) - want) > 1e-3 * abs(want)
    omega = rng.standard_normal((2, 2))
    other = [lift[0] + omega @ net.factors[0], lift[1] - net.factors[1] @ omega, *lift[2:]]
    assert abs(second(other) - want) > 1e-3 * abs(want)


# ---------------------------------------------------------------------------------------------------------------------
# gradient descent: claim 26


def _rebalanced(product, depth, rank):
    """Balanced factors of a dense product by numpy's SVD: the oracle of one rebalancing."""
    u, s, vt = np.linalg.svd(product)
    root = np.diag(s[:rank] ** (1 / depth))
    return [root @ vt[:rank], *[root] * (depth - 2), u[:, :rank] @ root]


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_one_descent_step_is_one_riemannian_step(depth, rng):
    """W_j + lift_j(-h A_W(G)) multiplied out is the product after one descent step, whatever the step."""
    loss = lrf.losses.LeastSquares(rng.standard_normal((5, 30)), rng.standard_normal((4, 30)), reduction="mean")
    w = lrf.random_point(4, 5, 2, rng=rng, singular_values=[0.9, 0.4])
    net = lrf.LinearNetwork.balanced(w, depth, widths=6, rng=rng)
    h = 0.7
    step = lrf.gradient_descent(loss, net, step_size=h, steps=1).points[-1].to_dense()

    def retraction(metric_depth):
        z = lrf.riemannian_gradient(w, loss.gradient(w), lrf.DepthMetric(metric_depth)) * (-h)
        moved = [f + e for f, e in zip(net.factors, lrf.horizontal_lift(net, z.at(w)), strict=True)]
        return reduce(lambda a, f: f @ a, moved)

    # roundoff of chains of N products of norm one
    assert np.abs(retraction(depth) - step).max() < 100 * depth * np.finfo(float).eps
    assert np.abs(retraction(depth + 1) - step).max() > 1e-3


@pytest.mark.parametrize("depth", [2, 3])
def test_rebalancing_every_step_changes_descent_by_order_h(depth, rng):
    loss = lrf.losses.LeastSquares(rng.standard_normal((5, 30)), rng.standard_normal((4, 30)), reduction="mean")
    w = lrf.random_point(4, 5, 2, rng=rng, singular_values=[0.9, 0.4])
    net = lrf.LinearNetwork.balanced(w, depth)
    gaps = []
    for k in range(6):
        steps, h = 8 * 2**k, 0.1 / 2**k
        plain = lrf.gradient_descent(loss, net, step_size=h, steps=steps).points[-1].to_dense()
        factors = list(net.factors)
        for _ in range(steps):
            grads = lrf.factor_gradients(loss, lrf.LinearNetwork(factors))
            moved = [f - h * g for f, g in zip(factors, grads, strict=True)]
            factors = _rebalanced(reduce(lambda a, f: f @ a, moved), depth, 2)
        gaps.append(np.linalg.norm(plain - reduce(lambda a, f: f @ a, factors)))
    orders = np.log2(np.array(gaps[:-1]) / gaps[1:])
    # the gap is c h + O(h^2); the coarsest halving still feels the second term
    assert np.abs(orders - 1).max() < 0.15 and abs(orders[-1] - 1) < 0.02
    assert gaps[0] > 1e-6  # the control: the two differ, and would not at order 2
