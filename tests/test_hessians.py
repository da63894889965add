"""The Riemannian Hessian against the second derivative of the factors' loss, and against Christoffel symbols."""

import numpy as np
import pytest
from cases import STARTS, Start, completion, least_squares
from oracles import EPS, chain, fitted_slope, polynomial_derivative, product_rule_operator, sides

import lowrankflow as lrf
from lowrankflow.geometry.hessians import RiemannianHessian, embedded_hessian, geodesic_acceleration

DIFFERENTIABLE = [
    pytest.param(metric, id=name)
    for name, metric in {
        **{f"depth{d:g}": lrf.DepthMetric(d) for d in (1.5, 2, 2.7, 3, 5)},
        "embedded": lrf.EmbeddedMetric(),
        "scaledgd": lrf.metrics.ScaledGDMetric(),
        "twofactor": lrf.metrics.TwoFactorMetric(),
        "kappa": lrf.metrics.KappaBalancedMetric((0.3, -0.4)),
    }.items()
]


def tangent(w, metric, rng):
    """A tangent vector whose P = A^{-1} Z has moderate entries, whatever the singular values."""
    p = lrf.project(w, rng.standard_normal(w.shape))
    p = p.symmetrised() if getattr(metric, "symmetric", False) else p
    return metric.coefficients(w.s).apply(p), p


def hessian(w, loss, metric):
    g = loss.gradient(w)
    h = RiemannianHessian(w, lrf.project(w, g), metric)
    return lambda z: h(z, embedded_hessian(w, z, g, loss.hessian(w, z.at(w))))


# ---------------------------------------------------------------------------------------------------------------------
# whole depths: the factors


def rooted_factors(w, depth):
    root = np.diag(w.s ** (1 / depth))
    return [root @ w.vt, *[root] * (depth - 2), w.u @ root]


@pytest.mark.parametrize("make", [least_squares, completion])
@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("case", STARTS)
def test_hessian_is_the_second_derivative_of_the_factors_loss_along_the_lift(case, depth, make, rng):
    """flow.md 1.11: g(Hess f[Z], Z) = D^2 L(W_N ... W_1) on the horizontal lift of Z, a polynomial in the step."""
    w, loss = case.draw(rng), make(case.m, case.n, rng)
    metric = lrf.DepthMetric(depth)
    z, p = tangent(w, metric, rng)
    got = hessian(w, loss, metric)(z).dot(p)  # <Hess f[Z], A^-1 Z>
    factors, dense = rooted_factors(w, depth), p.at(w).to_dense()
    lift = [left.T @ dense @ right.T for left, right in (sides(factors, j) for j in range(depth))]
    scale = 1 / max(np.linalg.norm(e) for e in lift)

    def along(h, net=factors):
        return loss.value(chain([f + h * scale * e for f, e in zip(net, lift, strict=True)]))

    want = polynomial_derivative(along, 2 * depth, 2) / scale**2
    # interpolation at 2N + 1 nodes loses (2N)^4 eps of the largest value in taking two derivatives
    values = max(abs(along(h)) for h in (-1, 0, 1))
    assert abs(got - want) < 10 * (2 * depth) ** 4 * EPS * values / scale**2
    other = hessian(w, loss, lrf.DepthMetric(depth + 1))(z).dot(p)
    assert abs(other - want) > 1e-5 * abs(want)  # control: the connection of another depth


@pytest.mark.parametrize("metric", DIFFERENTIABLE)
@pytest.mark.parametrize("case", STARTS)
def test_hessian_is_self_adjoint(metric, case, rng):
    """g(Hess[X], Y) = g(X, Hess[Y]); not so for the Hessian under the connection of another metric."""
    w, loss = case.draw(rng), least_squares(case.m, case.n, rng)
    (x, p), (y, q) = tangent(w, metric, rng), tangent(w, metric, rng)
    h = hessian(w, loss, metric)
    hx, hy = h(x), h(y)
    size = hx.norm() * q.norm() + hy.norm() * p.norm()
    close = 1000 * EPS * size
    assert abs(hx.dot(q) - hy.dot(p)) < close
    other = hessian(w, loss, lrf.EmbeddedMetric())  # control
    constant = isinstance(metric, lrf.metrics.ScaledGDMetric) and case.m == case.n == case.rank  # then A = 2 at every W
    if not (isinstance(metric, lrf.EmbeddedMetric) or constant):
        assert abs(other(x).dot(q) - other(y).dot(p)) > 10 * close


# ---------------------------------------------------------------------------------------------------------------------
# any metric: Christoffel symbols by finite differences in a chart of the manifold


def graph_chart(w):
    """Coordinates of rank-r matrices [[A, A X], [Y A, Y A X]] about w, its rows and columns of full rank."""
    (m, n), r = w.shape, w.rank
    sizes = np.cumsum([r * r, r * (n - r), (m - r) * r])
    dense = w.to_dense()
    a = dense[:r, :r]
    q0 = np.concatenate(
        [a.ravel(), np.linalg.solve(a, dense[:r, r:]).ravel(), (dense[r:, :r] @ np.linalg.inv(a)).ravel()]
    )

    def point(q):
        b, x, y = (part for part in np.split(q, sizes[:2]))
        b, x, y = b.reshape(r, r), x.reshape(r, n - r), y.reshape(m - r, r)
        left, right = np.vstack([np.eye(r), y]), np.hstack([np.eye(r), x])
        return left @ b @ right

    return q0, point


def symmetric_chart(w):
    """Coordinates of [[A, A X], [X^T A, X^T A X]], A symmetric."""
    n, r = w.shape[0], w.rank
    upper = np.triu_indices(r)
    dense = w.to_dense()
    a = dense[:r, :r]
    q0 = np.concatenate([a[upper], np.linalg.solve(a, dense[:r, r:]).ravel()])

    def point(q):
        b = np.zeros((r, r))
        b[upper] = q[: upper[0].size]
        b = b + np.triu(b, 1).T
        right = np.hstack([np.eye(r), q[upper[0].size :].reshape(r, n - r)])
        return right.T @ b @ right

    return q0, point


def gradient4(f, q, h):
    """Derivatives of an array-valued f along each coordinate, of order 4."""
    columns = []
    for e in np.eye(q.size):
        near, far = f(q + h * e) - f(q - h * e), f(q + 2 * h * e) - f(q - 2 * h * e)
        columns.append((8 * near - far) / (12 * h))
    return np.array(columns)


def hessian_by_christoffel(w, loss, metric, chart, h=2e-3):
    """The covariant Hessian in a chart, and the chart's basis of the tangent space as dense matrices."""
    q0, point = chart(w)
    symmetric = getattr(metric, "symmetric", False)

    def low_rank(dense):
        if not symmetric:
            return lrf.LowRankMatrix.from_dense(dense, w.rank)
        s, u = np.linalg.eigh(dense)
        keep = slice(-1, -1 - w.rank, -1)
        return lrf.LowRankMatrix(u[:, keep], s[keep], u[:, keep].T)

    def gram(q):
        at, basis = low_rank(point(q)), gradient4(point, q, 1e-2)  # polynomial of degree 2 a coordinate: exact
        z = [lrf.project(at, e) for e in basis]
        z = [v.symmetrised() for v in z] if symmetric else z
        p = [metric.coefficients(at.s).solve(v) for v in z]
        return np.array([[a.dot(b) for b in z] for a in p])

    def value(q):
        return loss.value(lrf.Product(point(q), np.eye(w.shape[1])))

    g, dg = gram(q0), gradient4(gram, q0, h)
    first = 0.5 * (np.einsum("acb->cab", dg) + np.einsum("bca->cab", dg) - dg)  # (d_a g_cb + d_b g_ca - d_c g_ab) / 2
    df = gradient4(value, q0, h)
    ddf = gradient4(lambda q: gradient4(value, q, h), q0, h)
    covariant = ddf - np.einsum("cab,c->ab", first, np.linalg.solve(g, df))
    return covariant, gradient4(point, q0, 1e-2)


CHRISTOFFEL = [
    *[pytest.param(p.values[0], graph_chart, id=p.id) for p in DIFFERENTIABLE],
    pytest.param(lrf.metrics.BuresWassersteinMetric(), symmetric_chart, id="bures-wasserstein"),
]


@pytest.mark.parametrize(("metric", "chart"), CHRISTOFFEL)
@pytest.mark.parametrize("repeated", [False, True])
def test_hessian_is_the_covariant_one(metric, chart, repeated, rng):
    """Claim 24, for any depth, rank-deficient too: Hess f_ab = d_a d_b f - Gamma^c_ab d_c f."""
    symmetric = chart is symmetric_chart
    s = (1.0, 1.0) if repeated else (1.3, 0.8)
    n = 3 if symmetric else 4
    # frames near the first unit vectors, where the chart is well-conditioned
    u = np.linalg.qr(np.vstack([np.eye(2), 0.3 * rng.standard_normal((1, 2))]))[0]
    v = u if symmetric else np.linalg.qr(np.vstack([np.eye(2), 0.3 * rng.standard_normal((2, 2))]))[0]
    w = lrf.LowRankMatrix(u, s, v.T)
    x, y = rng.standard_normal((n, 9)) / 3, rng.standard_normal((3, 9)) / 3
    loss = lrf.losses.LeastSquares(x, y)
    want, basis = hessian_by_christoffel(w, loss, metric, chart)

    def form(used, connection=metric):
        z = [lrf.project(w, e) for e in basis]
        z = [v.symmetrised() for v in z] if symmetric else z
        h, a = hessian(w, loss, connection), used.coefficients(w.s)
        return np.array([[h(v).dot(a.solve(u)) for u in z] for v in z])

    size = np.linalg.norm(want)
    # differences of order 4 with step 2e-3: h^4 = 2e-11 times derivatives of the metric up to 1e3, and eps / h^2 = 6e-11
    assert np.linalg.norm(form(metric) - want) < 1e-6 * size
    other = lrf.EmbeddedMetric() if not isinstance(metric, lrf.EmbeddedMetric) else lrf.DepthMetric(3)
    assert np.linalg.norm(form(other, other) - want) > 1e-3 * size  # control: the connection of another metric


# ---------------------------------------------------------------------------------------------------------------------
# geodesics


@pytest.mark.parametrize("depth", [1.5, 2, 2.7, 3, 5])
def test_aligned_geodesics(depth, rng):
    """s_i(t) = (s_i^(1/N) + t v_i)^N: its second derivative is N (N - 1) s^(1-2/N) v^2."""
    w = Start(5, 4, (1.2, 0.9, 0.5)).draw(rng)
    v = rng.standard_normal(3)
    zero = lrf.project(w, np.zeros(w.shape))
    z = lrf.Tangent(zero.up, np.diag(depth * w.s ** (1 - 1 / depth) * v), zero.vp)
    got = geodesic_acceleration(w, z, lrf.DepthMetric(depth))
    want = depth * (depth - 1) * w.s ** (1 - 2 / depth) * v**2
    np.testing.assert_allclose(got.core, np.diag(want), rtol=0, atol=1000 * EPS * np.abs(want).max())
    assert np.linalg.norm(got.up) + np.linalg.norm(got.vp) == 0
    wrong = geodesic_acceleration(w, z, lrf.DepthMetric(depth + 1))
    assert np.abs(wrong.core - np.diag(want)).max() > 1e-2 * np.abs(want).max()  # control


@pytest.mark.parametrize("metric", DIFFERENTIABLE)
def test_speed_is_constant_to_second_order(metric, rng):
    """g(W', W') is conserved along geodesics: along the second-order curve it changes like t^2, else like t."""
    w = Start(5, 4, (1.2, 0.9, 0.5)).draw(rng)
    z, _ = tangent(w, metric, rng)
    z = z / lrf.gradients.tangent_norm(w, z, metric)
    times = 0.02 * 2.0 ** -np.arange(6)

    def slope(acceleration):
        def curve(t):
            return (lrf.Product(*w.split()) + (t * z + 0.5 * t * t * acceleration).at(w)).to_low_rank(w.rank)

        def speed(t):
            h = 1e-4
            far = (curve(t - 2 * h).to_dense() - curve(t + 2 * h).to_dense()) / (12 * h)
            near = (curve(t + h).to_dense() - curve(t - h).to_dense()) * 8 / (12 * h)
            at = curve(t)
            velocity = lrf.project(at, near + far)
            return lrf.gradients.tangent_norm(at, velocity, metric) ** 2

        # the odd part in t: even terms of either curve are left out
        return fitted_slope(times, [abs(speed(t) - speed(-t)) for t in times])

    right = geodesic_acceleration(w, z, metric)
    assert slope(right) > 1.85  # t^3 where W''' is that of the geodesic too; t^2 drops out of the odd part
    assert slope(right + 0.3 * z) < 1.15  # control


def test_operator_of_the_lift_agrees(rng):
    """A_W = d phi d phi^T at the same factors: the oracle of this file stands on the point it claims."""
    w = Start(5, 4, (1.2, 0.9, 0.5)).draw(rng)
    g = rng.standard_normal((5, 4))
    want = product_rule_operator(rooted_factors(w, 3), g)
    np.testing.assert_allclose(lrf.riemannian_gradient(w, g, lrf.DepthMetric(3)).at(w).to_dense(), want, atol=1e-13)
