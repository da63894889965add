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
        "r3mc": lrf.metrics.R3MCMetric(),
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
    constant |= isinstance(metric, lrf.metrics.R3MCMetric) and case.rank == 1  # which is then the embedded metric
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
# three factors: geodesics of the total space


def horizontal_lift(w, z):
    """The shortest (L', S', R') under the weights of R3MC that moves L S R^T by z, with L and R on Stiefel manifolds."""
    (m, n), r = w.shape, w.rank
    s, lower = np.diag(w.s), [(i, j) for i in range(r) for j in range(i)]
    skew = [np.outer(np.eye(r)[i], np.eye(r)[j]) - np.outer(np.eye(r)[j], np.eye(r)[i]) for i, j in lower]

    def frame(q):
        normal = np.linalg.qr(q, mode="complete")[0][:, r:]
        return [q @ e for e in skew] + [np.outer(x, e) for x in normal.T for e in np.eye(r)]

    zero = np.zeros((m, r)), np.zeros((r, r)), np.zeros((n, r))
    basis = [(e, *zero[1:]) for e in frame(w.u)] + [(*zero[:2], e) for e in frame(w.vt.T)]
    basis += [(zero[0], np.outer(a, b), zero[2]) for a in np.eye(r) for b in np.eye(r)]
    # the basis is orthogonal under the weights tr(S S^T L'^T L') + |S'|^2 + tr(S^T S R'^T R'), S being diagonal
    size = [np.sqrt(sum(np.sum((e * c) ** 2) for e, c in zip(b, (w.s, 1.0, w.s), strict=True))) for b in basis]
    basis = [tuple(e / c for e in b) for b, c in zip(basis, size, strict=True)]
    v = w.vt.T
    j = np.array([(a @ s @ v.T + w.u @ b @ v.T + w.u @ s @ c.T).ravel() for a, b, c in basis]).T
    x = np.linalg.lstsq(j, z.at(w).to_dense().ravel(), rcond=1e-10)[0]  # the least norm, hence horizontal
    return [sum(c * e[k] for c, e in zip(x, basis, strict=True)) for k in range(3)], basis


def three_factor_bend(w, lift, basis):
    """W'' of the geodesic upstairs: Euler and Lagrange's equations on L^T L = R^T R = I, by least squares."""
    (u, s, v), (l1, s1, r1) = (w.u, np.diag(w.s), w.vt.T), lift
    forces = [  # what the varying weights add to (L'' S S^T, S'', R'' S^T S)
        l1 @ (s1 @ s.T + s @ s1.T), -(l1.T @ l1 @ s + s @ r1.T @ r1), r1 @ (s1.T @ s + s.T @ s1),
    ]  # fmt: skip
    free = [np.zeros_like(part) for part in (u, s, v)]
    units = []
    for k, part in enumerate(free):
        for i in np.ndindex(part.shape):
            e = [x.copy() for x in free]
            e[k][i] = 1.0 if k == 1 else 1 / w.s[i[1]]  # all columns and rows of size one, whatever that of W
            units.append(e)
    weights = (np.diag(w.s**2), np.eye(w.rank), np.diag(w.s**2))
    rows = [
        np.concatenate([
            [sum(np.vdot(t, x @ g) for t, x, g in zip(b, e, weights, strict=True)) for b in basis],
            w.s[0] * (u.T @ e[0] + e[0].T @ u).ravel(), w.s[0] * (v.T @ e[2] + e[2].T @ v).ravel(),
        ])
        for e in units
    ]  # fmt: skip
    right = np.concatenate([
        [-sum(np.vdot(t, f) for t, f in zip(b, forces, strict=True)) for b in basis],
        -2 * w.s[0] * (l1.T @ l1).ravel(), -2 * w.s[0] * (r1.T @ r1).ravel(),
    ])  # fmt: skip
    x = np.linalg.lstsq(np.array(rows).T, right, rcond=None)[0]
    l2, s2, r2 = (sum(c * e[k] for c, e in zip(x, units, strict=True)) for k in range(3))
    twice = l1 @ s1 @ v.T + l1 @ s @ r1.T + u @ s1 @ r1.T
    return l2 @ s @ v.T + u @ s2 @ v.T + u @ s @ r2.T + 2 * twice


@pytest.mark.parametrize("s", [(1.3, 0.8, 0.5), (1.0, 1.0, 0.4), (0.9,), (1e-4, 3e-5)], ids=["apart", "equal", "one", "small"])
def test_r3mc_hessian_is_that_of_three_factors(s, rng):
    """Along horizontal geodesics of L S R^T under the preconditioned weights, f'' = g(Hess f[Z], Z), polarised too."""
    w = lrf.random_point(5, 4, len(s), rng=rng, singular_values=s)
    loss, metric = least_squares(5, 4, rng), lrf.metrics.R3MCMetric()
    g = loss.gradient(w)
    solve = metric.coefficients(w.s).solve
    z1, z2 = (tangent(w, metric, rng)[0] * w.norm() for _ in range(2))

    def second(z):
        lift, basis = horizontal_lift(w, z)
        # the length of the shortest lift is that of the metric
        length = sum(np.sum((e * c) ** 2) for e, c in zip(lift, (w.s, 1.0, w.s), strict=True))
        assert abs(solve(z).dot(z) - length) < 1e-12 * length
        bend, dense = three_factor_bend(w, lift, basis), z.at(w)
        return np.vdot(g @ np.eye(4), bend) + np.vdot(loss.hessian(w, dense) @ np.eye(4), dense.to_dense())

    def gap(h):
        size, worst = abs(second(z1)) + abs(second(z2)), 0.0
        for a, b, want in ((z1, z1, second(z1)), (z1, z2, (second(z1 + z2) - second(z1 - z2)) / 4)):
            worst = max(worst, abs(h(a).dot(solve(b)) - want))
        return worst / size

    assert gap(hessian(w, loss, metric)) < 1e-12  # some 60 equations of condition 10
    wrong = lrf.EmbeddedMetric() if len(s) > 1 else lrf.metrics.ScaledGDMetric()
    assert gap(hessian(w, loss, wrong)) > 1e-3  # control: the connection of another metric


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
