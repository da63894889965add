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
