"""Independent answers: no formula, no decomposition and no ill-conditioning shared with the library.

Everything here works on dense arrays. The operator A_W of depth N comes from the product rule on balanced
factors (`product_rule_operator`), never from powers of W W^T on a rank-deficient W, which lose up to
(roundoff)^(1/N).
"""

from functools import reduce
from itertools import pairwise

import mpmath
import numpy as np
from scipy import linalg
from scipy.integrate import solve_ivp

EPS = np.finfo(float).eps

# ---------------------------------------------------------------------------------------------------------------------
# factors


def chain(factors):
    """W_N ... W_1."""
    return reduce(lambda acc, f: f @ acc, factors)


def balanced_factors(w, depth):
    """Balanced factors of inner width r, by hand: V^T rooted, roots, U rooted."""
    root = np.diag(w.s ** (1 / depth))
    return [root @ w.vt, *[root] * (depth - 2), w.u @ root]


def sides(factors, j):
    """(W_N ... W_{j+2}, W_j ... W_1) around factors[j], identities at the ends."""
    right = reduce(lambda acc, f: f @ acc, factors[:j], np.eye(factors[0].shape[1]))
    left = reduce(lambda acc, f: f @ acc, factors[j + 1 :], np.eye(factors[j].shape[0]))
    return left, right


def product_rule_operator(factors, z):
    """sum_j (W_N..W_{j+1})(W_N..W_{j+1})^T Z (W_{j-1}..W_1)^T (W_{j-1}..W_1), for any factors."""
    total = 0
    for j in range(len(factors)):
        left, right = sides(factors, j)
        total = total + left @ (left.T @ z @ right.T) @ right
    return total


def product_derivative(factors, directions):
    """The derivative of the product along factor directions."""
    return sum(left @ e @ right for j, e in enumerate(directions) for left, right in [sides(factors, j)])


def depth_operator(w, z, depth):
    """A_W(Z) of whole depth N."""
    return product_rule_operator(balanced_factors(w, depth), z)


def product_jacobian(factors):
    """The Jacobian of (W_1, ..., W_N) -> vec(W), row-major, one block a factor."""
    blocks = []
    for j in range(len(factors)):
        left, right = sides(factors, j)
        blocks.append(np.kron(left, right.T))
    return np.hstack(blocks)


def imbalances(factors):
    return [b.T @ b - a @ a.T for a, b in pairwise(factors)]


# ---------------------------------------------------------------------------------------------------------------------
# total spaces: W as a function of factors in an arbitrary gauge, under the metric of the factors
#
# Each returns the dense derivative J of the factors -> vec W (row-major), the directions in coordinates that are
# orthonormal for the metric of the factors, and the shape of W. Then the gradient moves W by J J^T vec(G), and g(Z, Z)
# is the least |e|^2 with J e = vec Z: no formula of a quotient is used. All gauges M have a condition of at most 4.


def orthogonal(n, rng):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def _gauge(k, rng):
    return (orthogonal(k, rng) * rng.uniform(0.5, 2.0, k)) @ orthogonal(k, rng)


def _columns(terms):
    """The matrix of E -> sum of left @ E @ right, one block a pair."""
    return np.hstack([np.kron(left, right.T) for left, right in terms])


def _transposed(left, right):
    """The matrix of E -> left @ E^T @ right."""
    rows, cols = right.shape[0], left.shape[1]
    swap = np.eye(rows * cols).reshape(rows, cols, -1).transpose(1, 0, 2).reshape(rows * cols, -1)
    return np.kron(left, right.T) @ swap


def _directions(basis, push):
    return np.column_stack([push(e).ravel() for e in basis])


def _symmetric_basis(k):
    for i in range(k):
        for j in range(i + 1):
            e = np.zeros((k, k))
            e[i, j] = e[j, i] = 1.0 if i == j else np.sqrt(0.5)
            yield e


def _stiefel_basis(q):
    """An orthonormal basis of the tangent space at a frame: Q times skew matrices, and what is orthogonal to Q."""
    k, normal = q.shape[1], linalg.null_space(q.T)
    for i in range(k):
        for j in range(i):
            e = np.zeros((k, k))
            e[i, j], e[j, i] = np.sqrt(0.5), -np.sqrt(0.5)
            yield q @ e
        for column in normal.T:
            yield np.outer(column, np.eye(k)[i])


def _two_factors(w, rng):
    m = _gauge(w.rank, rng)
    return w.u @ m, (w.vt.T * w.s) @ np.linalg.inv(m).T


def scaled_space(w, rng):
    """W = L R^T under tr(R^T R L'^T L') + tr(L^T L R'^T R')."""
    a, b = _two_factors(w, rng)
    p, q = np.linalg.qr(a)[1], np.linalg.qr(b)[1]
    # |L' Q^T|^2 with R^T R = Q^T Q
    return _columns(
        [(np.eye(len(a)), np.linalg.solve(q.T, b.T)), (np.linalg.solve(p.T, a.T).T, np.eye(len(b)))]
    ), w.shape


def two_factor_space(w, rng):
    """W = L R^T under tr((L^T L)^-1 L'^T L') + tr((R^T R)^-1 R'^T R')."""
    a, b = _two_factors(w, rng)
    p, q = np.linalg.qr(a)[1], np.linalg.qr(b)[1]
    return _columns([(np.eye(len(a)), p @ b.T), (a @ q.T, np.eye(len(b)))]), w.shape


def subspace_space(w, rng):
    """W = L R^T, L^T L = I, under |L'|^2 + tr((R^T R)^-1 R'^T R')."""
    a, b = _framed(w, rng)
    moved = _columns([(a @ np.linalg.qr(b)[1].T, np.eye(len(b)))])
    return np.hstack([_directions(_stiefel_basis(a), lambda e: e @ b.T), moved]), w.shape


def mn_space(w, rng):
    """W = M N^T, M^T M = I, under |M'|^2 + |N'|^2."""
    a, b = _framed(w, rng)
    return np.hstack([_directions(_stiefel_basis(a), lambda e: e @ b.T), _columns([(a, np.eye(len(b)))])]), w.shape


def _framed(w, rng):
    turn = orthogonal(w.rank, rng)
    return w.u @ turn, (w.vt.T * w.s) @ turn


def polar_space(w, rng):
    """W = L B R^T, L and R on Stiefel manifolds, B positive definite, under |L'|^2 + |B^-1/2 B' B^-1/2|^2 + |R'|^2."""
    turn = orthogonal(w.rank, rng)
    a, core, root, b = w.u @ turn, (turn.T * w.s) @ turn, (turn.T * np.sqrt(w.s)) @ turn, w.vt.T @ turn
    blocks = [
        _directions(_stiefel_basis(a), lambda e: e @ core @ b.T),
        _directions(_symmetric_basis(w.rank), lambda e: a @ root @ e @ root @ b.T),
        _directions(_stiefel_basis(b), lambda e: a @ core @ e.T),
    ]
    return np.hstack(blocks), w.shape


def three_factor_space(w, rng):
    """W = L B R^T, L and R on Stiefel manifolds, under tr(B B^T L'^T L') + |B'|^2 + tr(B^T B R'^T R')."""
    x, y = orthogonal(w.rank, rng), orthogonal(w.rank, rng)
    a, core, b = w.u @ x, (x.T * w.s) @ y, w.vt.T @ y
    # the weights are diagonal in the frames (L x^T)' and (R y^T)': skew moves weigh s_i^2 + s_j^2, normal ones s_k^2
    heavy = [e @ x for e in _weighted_stiefel_basis(w.u, w.s)], [e @ y for e in _weighted_stiefel_basis(w.vt.T, w.s)]
    return np.hstack([
        _directions(heavy[0], lambda e: e @ core @ b.T),
        _columns([(a, b.T)]),
        _directions(heavy[1], lambda e: a @ core @ e.T),
    ]), w.shape  # fmt: skip


def _weighted_stiefel_basis(q, s):
    """That of `_stiefel_basis`, of unit length under tr(diag(s)^2 E^T E)."""
    return [e / np.linalg.norm(e * s) for e in _stiefel_basis(q)]


def embedded_space(w, rng):
    """The tangent space itself, as the range of (L', R') -> L' R^T + L R'^T, under the Frobenius metric."""
    a, b = (np.linalg.qr(x)[0] for x in _two_factors(w, rng))
    spanned = _columns([(np.eye(len(a)), b.T), (a, np.eye(len(b)))])
    return np.linalg.svd(spanned, full_matrices=False)[0][:, : w.rank * (sum(w.shape) - w.rank)], w.shape


def root_space(w, rng):
    """W = Y Y^T under |Y'|^2."""
    y = (w.u * np.sqrt(w.s)) @ orthogonal(w.rank, rng)
    n = len(y)
    return np.kron(np.eye(n), y) + _transposed(y, np.eye(n)), w.shape


def depth_space(w, rng, depth):
    """W = W_N ... W_1, balanced, of arbitrary hidden widths and frames, under the sum of |W_j'|^2."""
    frames = [
        linalg.qr(rng.standard_normal((w.rank + int(d), w.rank)), mode="economic")[0]
        for d in rng.integers(0, 3, depth - 1)
    ]
    return product_jacobian(layers([w.vt.T, *frames, w.u], w.s ** (2 / depth), np.zeros(depth))), w.shape


def layers(frames, x, shifts):
    """Factors with the squared singular values x + kappa_l in the given frames."""
    return [(b * np.sqrt(x + shift)) @ a.T for a, b, shift in zip(frames[:-1], frames[1:], shifts, strict=True)]


def kappa_roots(s, shifts):
    """The largest root x of prod_l (x + kappa_l) = s^2 of the very floats given, by bisection with 80 digits."""
    with mpmath.workdps(80):
        return [_kappa_root(mpmath.mpf(float(value)), [mpmath.mpf(float(k)) for k in shifts]) for value in s]


def _kappa_root(value, shifts):
    low, high = mpmath.mpf(0), value ** (mpmath.mpf(2) / len(shifts))
    for _ in range(300):
        middle = (low + high) / 2
        if mpmath.fprod(middle + k for k in shifts) < value**2:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def imbalanced_factors(w, gaps, rng, hidden="square"):
    """Factors of W with W_{j+1}^T W_{j+1} - W_j W_j^T = gaps[j] I, in arbitrary hidden frames.

    `hidden` is the width: the rank, the rows or the columns of W; "square": W is bordered by zeros to be square.
    """
    (m, n), k = w.shape, w.rank
    width = {"square": max(m, n), "rank": k, "rows": m, "columns": n}[hidden]
    if hidden == "square":
        m = n = width
    shifts = np.concatenate([[0.0], np.cumsum(gaps)])
    shifts -= shifts.min()
    x = np.concatenate([[float(v) for v in kappa_roots(w.s, shifts)], np.zeros(width - k)])

    def outer(frame, rows):
        """Completed to an orthogonal matrix where the width is that of the side, else by zeros, which weigh nothing."""
        frame = np.pad(frame, ((0, rows - len(frame)), (0, 0)))
        rest = linalg.null_space(frame.T) if rows == width else np.zeros((rows, width - k))
        return np.hstack([frame, rest])

    frames = [outer(w.vt.T, n), *(orthogonal(width, rng) for _ in gaps), outer(w.u, m)]
    factors = layers(frames, x, shifts)
    # what is asked for, measured: neither p nor its roots need be trusted
    for got, gap in zip(imbalances(factors), gaps, strict=True):
        np.testing.assert_allclose(got, gap * np.eye(width), rtol=0, atol=1e-13)
    np.testing.assert_allclose(chain(factors)[: w.shape[0], : w.shape[1]], w.to_dense(), rtol=0, atol=1e-13)
    return factors


def imbalanced_space(w, rng, gaps, hidden="square"):
    """W = W_N ... W_1 with imbalances that are multiples of the identity, under the sum of |W_j'|^2."""
    factors = imbalanced_factors(w, gaps, rng, hidden)
    return product_jacobian(factors), (factors[-1].shape[0], factors[0].shape[1])


def tangent_basis(w, symmetric=False):
    """An orthonormal basis of the tangent space (of the symmetric matrices), a column each, from completed frames."""
    left, right = (np.hstack([f, linalg.null_space(f.T)]) for f in (w.u, w.vt.T))
    k, units = w.rank, []
    for i in range(left.shape[1]):
        for j in range(right.shape[1]):
            unit = np.outer(left[:, i], right[:, j])
            if min(i, j) < k and (i <= j or not symmetric):
                unit = unit if not symmetric or i == j else (unit + unit.T) * np.sqrt(0.5)
                units.append(unit.ravel())
    return np.column_stack(units)


# ---------------------------------------------------------------------------------------------------------------------
# coefficients with 50 digits


def coefficient(a, b, depth):
    """(a^2 - b^2) / (a^(2/N) - b^(2/N)) of the very floats given, correctly rounded."""
    with mpmath.workdps(50):
        a, b, n = mpmath.mpf(float(a)), mpmath.mpf(float(b)), mpmath.mpf(float(depth))
        if a == b:
            return float(n * a ** (2 - 2 / n))
        if a == 0 or b == 0:
            return float((a + b) ** (2 - 2 / n))
        return float((a**2 - b**2) / (a ** (2 / n) - b ** (2 / n)))


def coefficient_naive(a, b, depth):
    """The same divided difference in float64: what must not be used."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(a**2 - b**2, a ** (2 / depth) - b ** (2 / depth))


def difference(coefficient, a, b, k):
    """(c(a, k) - c(b, k)) / (a^2 - b^2) of the very floats given; c(0, 0) = 0, and 0 where it multiplies nothing.

    With 120 digits; ties are parted by 1e-25, which changes the quotient in the 25th digit.
    """
    if a == b == 0:
        return 0.0
    with mpmath.workdps(120):
        a, b, k, nudge = mpmath.mpf(float(a)), mpmath.mpf(float(b)), mpmath.mpf(float(k)), 1 + mpmath.mpf(10) ** -25
        b = b * nudge if a == b else b
        k = k * nudge**2 if k == a else k
        k = k * nudge**3 if k == b else k
        values = [mpmath.mpf(0) if x == k == 0 else coefficient(x, k) for x in (a, b)]
        return float((values[0] - values[1]) / (a**2 - b**2))


def exact_depth(depth):
    """c(a, b) of real depth N, a != b, in the precision that is set."""
    n = mpmath.mpf(float(depth))
    return lambda a, b: (a**2 - b**2) / (a ** (2 / n) - b ** (2 / n))


def exact_kappa(shifts):
    """c(a, b) = p[x_a, x_b] = (a^2 - b^2) / (x_a - x_b), a != b, in the precision that is set; its roots by Newton."""
    shifts = [mpmath.mpf(float(k)) for k in shifts]

    def root(value):
        if value == 0:
            return mpmath.mpf(0)
        x = value ** (mpmath.mpf(2) / len(shifts))
        for _ in range(2000):
            p = mpmath.fprod(x + k for k in shifts)
            step = (p - value**2) / (p * mpmath.fsum(1 / (x + k) for k in shifts))
            x -= step
            if abs(step) < abs(x) * mpmath.mpf(10) ** (5 - mpmath.mp.dps):
                return x
        raise AssertionError

    return lambda a, b: (a**2 - b**2) / (root(a) - root(b))


def logarithmic_mean(a, b):
    """(a - b) / (ln a - ln b) of the very floats given, correctly rounded."""
    with mpmath.workdps(50):
        a, b = mpmath.mpf(float(a)), mpmath.mpf(float(b))
        return float(a if a == b else (a - b) / (mpmath.log(a) - mpmath.log(b)))


# ---------------------------------------------------------------------------------------------------------------------
# metrics on dense matrices


def tangent_projection(w, z):
    """U U^T Z + Z V V^T - U U^T Z V V^T."""
    p, q = w.u @ w.u.T, w.vt.T @ w.vt
    return p @ z + z @ q - p @ z @ q


def dense_operator(w, z, coefficients):
    """A_W(Z) in completed orthogonal frames, the blocks written out one by one."""
    k = w.rank
    u, v = linalg.null_space(w.u.T), linalg.null_space(w.vt)
    total = np.zeros(w.shape)
    zt = w.u.T @ z @ w.vt.T
    for i in range(k):
        for j in range(k):
            entry = coefficients.core[i, j] * zt[i, j]
            if coefficients.mix is not None:
                entry += coefficients.mix[i, j] * zt[j, i]
            total += entry * np.outer(w.u[:, i], w.vt[j])
        total += coefficients.up[i] * np.outer(u @ (u.T @ z @ w.vt[i]), w.vt[i])
        total += coefficients.vp[i] * np.outer(w.u[:, i], v @ (v.T @ z.T @ w.u[:, i]))
    return total


def metric_by_spectral_quadrature(w, z1, z2, depth):
    """(1/pi) sin(pi/N) int_0^inf tr[(tI + WW^T)^-1 Z1 (tI + W^TW)^-1 Z2^T] t^(1/N) dt in the eigenframe.

    With t = e^x the integrand is analytic in |Im x| < pi, so the trapezoidal rule at step h errs by
    exp(-2 pi^2 / h): 5e-35 at h = 1/4. It decays like e^(x/N) to the left where one singular value vanishes, hence
    down to x = -36 N, and like e^(-(1 - 1/N) x) to the right. The normal block is zero by construction:
    there the integral diverges.
    """
    u, s, vt = np.linalg.svd(w.to_dense())
    k = w.rank
    left, right = np.zeros(w.shape[0]), np.zeros(w.shape[1])
    left[:k], right[:k] = s[:k] ** 2, s[:k] ** 2
    a, b = u.T @ z1 @ vt.T, u.T @ z2 @ vt.T
    weight = a * b
    weight[k:, k:] = 0
    x = np.arange(-38 * depth, 40 / (1 - 1 / depth), 0.25)
    t = np.exp(x)
    kernel = np.einsum("t,ti,tj->ij", t ** (1 + 1 / depth), 1 / (t[:, None] + left), 1 / (t[:, None] + right))
    return np.sin(np.pi / depth) / np.pi * 0.25 * float((weight * kernel).sum())


def metric_by_resolvents(w, z1, z2, depth):
    """The same integral by linear solves with the dense W, for square W of full rank."""
    dense, eye = w.to_dense(), np.eye(w.shape[0])
    total = 0.0
    for x in np.arange(-36 / (1 + 1 / depth), 40 / (1 - 1 / depth), 0.5):  # exp(-2 pi^2 / 0.5) = 7e-18
        t = np.exp(x)
        a = np.linalg.solve(t * eye + dense @ dense.T, z1)
        b = np.linalg.solve(t * eye + dense.T @ dense, z2.T)
        total += 0.5 * t ** (1 + 1 / depth) * np.trace(a @ b)
    return np.sin(np.pi / depth) / np.pi * total


def metric_by_exponentials(w, z1, z2):
    """tr int_0^inf exp(-t (WW^T)^1/2) Z1 exp(-t (W^TW)^1/2) Z2^T dt for tangent Z1, Z2 (depth 2), t = e^x."""
    p, q = w.u @ np.diag(w.s) @ w.u.T, w.vt.T @ np.diag(w.s) @ w.vt
    total = 0.0
    for x in np.arange(-38, np.log(45 / w.s.min()), 0.125):  # e^-t is analytic in |Im x| < pi/2: exp(-pi^2 / h)
        t = np.exp(x)
        total += 0.125 * t * np.trace(linalg.expm(-t * p) @ z1 @ linalg.expm(-t * q) @ z2.T)
    return total


def infinite_depth_operator(dense, z, nodes=60):
    """int_0^1 (WW^T)^(1-x) Z (W^TW)^x dx by Gauss-Legendre, for square W of full rank."""
    x, weights = np.polynomial.legendre.leggauss(nodes)
    (a, p), (b, q) = np.linalg.eigh(dense @ dense.T), np.linalg.eigh(dense.T @ dense)
    return sum(
        0.5 * c * (p * a ** (1 - t)) @ p.T @ z @ (q * b**t) @ q.T for t, c in zip((x + 1) / 2, weights, strict=True)
    )


# ---------------------------------------------------------------------------------------------------------------------
# flows


def dense_flow(velocity, w0, times, rtol=1e-12):
    """Integrate dW/dt = velocity(W) on the dense matrix with LSODA, a multistep method unlike the library's default."""
    end = solve_ivp(
        lambda t, y: velocity(y.reshape(w0.shape)).ravel(),
        (0, times[-1]),
        w0.ravel(),
        method="LSODA",
        t_eval=times,
        rtol=rtol,
        atol=rtol,
    )
    assert end.success
    return [y.reshape(w0.shape) for y in end.y.T]


def flow_of_parts(velocity, parts, times, rtol=1e-12):
    """Integrate a list of arrays, with `velocity` from such a list to another; returns one list a time."""
    shapes = [a.shape for a in parts]
    cuts = np.cumsum([a.size for a in parts])[:-1]

    def unpack(y):
        return [a.reshape(s) for a, s in zip(np.split(y, cuts), shapes, strict=True)]

    def flat(arrays):
        return np.concatenate([a.ravel() for a in arrays])

    end = solve_ivp(
        lambda t, y: flat(velocity(unpack(y))),
        (0, times[-1]),
        flat(parts),
        method="LSODA",
        t_eval=times,
        rtol=rtol,
        atol=rtol,
    )
    assert end.success
    return [unpack(y) for y in end.y.T]


def factor_flow(gradient, factors, times, rtol=1e-12):
    """W_j' = -(W_N..W_{j+1})^T G (W_{j-1}..W_1)^T; returns lists of factors."""

    def velocity(fs):
        g = gradient(chain(fs))
        return [-left.T @ g @ right.T for left, right in (sides(fs, j) for j in range(len(fs)))]

    return flow_of_parts(velocity, factors, times, rtol)


def embedded_flow(gradient, w, times):
    """W' = -P_W(G) on the dense matrix, its frames from numpy's SVD cut at the rank."""

    def velocity(dense):
        u, _, vt = np.linalg.svd(dense)
        p, q, g = u[:, : w.rank] @ u[:, : w.rank].T, vt[: w.rank].T @ vt[: w.rank], gradient(dense)
        return -(p @ g + g @ q - p @ g @ q)

    return dense_flow(velocity, w.to_dense(), times)


def two_factor_flow(gradient, w, times):
    """W' = -(W W^T G + G W^T W), a polynomial in W."""
    return dense_flow(lambda x: -(x @ x.T @ gradient(x) + gradient(x) @ x.T @ x), w.to_dense(), times)


def infinite_depth_flow(gradient, w, times):
    """W' = -int_0^1 (WW^T)^(1-x) G (W^TW)^x dx, square W of full rank."""
    return dense_flow(lambda x: -infinite_depth_operator(x, gradient(x), nodes=20), w.to_dense(), times)


def scaled_flow(gradient, w, times):
    """W = L R^T under tr(R^T R L'^T L') + tr(L^T L R'^T R'): L' = -G R (R^T R)^-1, R' = -G^T L (L^T L)^-1."""

    def velocity(parts):
        a, b = parts
        g = gradient(a @ b.T)
        return [-np.linalg.solve(b.T @ b, (g @ b).T).T, -np.linalg.solve(a.T @ a, (g.T @ a).T).T]

    return [a @ b.T for a, b in flow_of_parts(velocity, [w.u * w.s, w.vt.T], times)]


def subspace_flow(gradient, w, times):
    """W = L R^T, L^T L = I, under |L'|^2 + tr((R^T R)^-1 R'^T R').

    L' = -(G R - L sym(L^T G R)), R' = -G^T L (R^T R): no singular value decomposition anywhere.
    """

    def velocity(parts):
        a, b = parts
        g = gradient(a @ b.T)
        return [-_on_stiefel(a, g @ b), -g.T @ a @ (b.T @ b)]

    return [a @ b.T for a, b in flow_of_parts(velocity, [w.u, w.vt.T * w.s], times)]


def polar_flow(gradient, w, times):
    """W = L B R^T, L and R on Stiefel manifolds, B positive definite, under |L'|^2 + |B^-1/2 B' B^-1/2|^2 + |R'|^2."""

    def velocity(parts):
        a, c, b = parts
        g = gradient(a @ c @ b.T)
        core = a.T @ g @ b
        return [-_on_stiefel(a, g @ b @ c), -c @ (core + core.T) @ c / 2, -_on_stiefel(b, g.T @ a @ c)]

    return [a @ c @ b.T for a, c, b in flow_of_parts(velocity, [w.u, np.diag(w.s), w.vt.T], times)]


def mn_flow(gradient, w, times):
    """W = M N^T, M^T M = I, under |M'|^2 + |N'|^2: M' = -(G N - M sym(M^T G N)), N' = -G^T M."""

    def velocity(parts):
        a, b = parts
        g = gradient(a @ b.T)
        return [-_on_stiefel(a, g @ b), -g.T @ a]

    return [a @ b.T for a, b in flow_of_parts(velocity, [w.u, w.vt.T * w.s], times)]


def root_flow(gradient, w, times):
    """W = Y Y^T under |Y'|^2: Y' = -(G + G^T) Y."""

    def velocity(parts):
        (y,) = parts
        g = gradient(y @ y.T)
        return [-(g + g.T) @ y]

    return [y @ y.T for (y,) in flow_of_parts(velocity, [w.u * np.sqrt(w.s)], times)]


def bures_distance(a, b):
    """sqrt(tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2) of positive definite matrices."""
    root = linalg.sqrtm(a)
    return np.sqrt(np.trace(a) + np.trace(b) - 2 * np.trace(linalg.sqrtm(root @ b @ root)).real)


def _on_stiefel(q, e):
    """The gradient on the Stiefel manifold under the Frobenius metric."""
    core = q.T @ e
    return e - q @ (core + core.T) / 2


def scalar_mode(s0, target, rate, t):
    """Depth 2, aligned mode: s(t) for s' = -2 s rate (s - target)."""
    growth = np.exp(2 * rate * target * t)
    return s0 * target * growth / (target - s0 + s0 * growth)


def fukumizu(q, w1, w2, t):
    """Depth 2, XX^T = I, balanced: the exact W(t) for L = |W - Q|^2 / 2, from the Riccati form with 50 digits."""
    m, n = q.shape
    with mpmath.workdps(50):
        f = mpmath.zeros(m + n)
        f[:n, n:], f[n:, :n] = mpmath.matrix(q.T.tolist()), mpmath.matrix(q.tolist())
        r0 = mpmath.matrix(np.vstack([w1.T, w2]).tolist())
        growth = mpmath.expm(f * t) if t else mpmath.eye(m + n)
        # F^-1 (e^(2Ft) - I), also for singular F: the integral of 2 e^(2Fx) by its series through expm
        block = mpmath.zeros(2 * (m + n))
        block[: m + n, : m + n], block[: m + n, m + n :] = 2 * f, 2 * mpmath.eye(m + n)
        integral = mpmath.expm(block * t)[: m + n, m + n :]
        k = r0.cols
        middle = (mpmath.eye(k) + r0.T * integral * r0 / 2) ** -1
        rr = growth * r0 * middle * r0.T * growth
        return np.array(rr[n:, :n].tolist(), dtype=float)


# ---------------------------------------------------------------------------------------------------------------------
# derivatives


def central(f, h=1e-5):
    """f'(0): error h^2 |f'''| / 6 + eps |f| / h."""
    return (f(h) - f(-h)) / (2 * h)


def jacobian(f, y, h):
    """The dense Jacobian of f at y, a column a component, by differences of order 4: h^4 |f^(5)| / 30 + eps |f| / h."""

    def column(e):
        return (4 * central(lambda x: f(y + x * e), h) - central(lambda x: f(y + x * e), 2 * h)) / 3

    return np.column_stack([column(e) for e in np.eye(y.size)])


def polynomial_derivative(f, degree, order, radius=1.0):
    """The derivative at 0 of a polynomial of known degree, by interpolation at Chebyshev nodes: exact to roundoff."""
    x = radius * np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    fit = np.polynomial.Polynomial.fit(x, [f(t) for t in x], degree, domain=[-radius, radius])
    return fit.deriv(order)(0.0)


def fitted_slope(h, errors):
    """Least-squares slope of log error against log h."""
    return float(np.polyfit(np.log(h), np.log(errors), 1)[0])
