"""ROCK4: orthogonal polynomials for the stability, a four-stage finish for the order.

The stability polynomial is R(x) = w(x) P(x) with a positive quartic w and P of degree s - 4 orthogonal to
lower degrees under w^2 / sqrt(1 - x^2). Its three-term recurrence gives s - 4 stages. Four more realise w
and are chosen so that the whole has order 4 on nonlinear problems too. Everything here follows from these
two sentences; nothing is tabulated but the start of a Newton iteration.
"""

from __future__ import annotations

from functools import lru_cache
from math import factorial
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg, optimize

from ..validation import Array
from .chebyshev import SAFETY, Stabilised
from .protocol import Velocity, times

__all__ = ["ROCK4"]

_RIPPLE = 0.95  # |R| on the oscillating part of the interval
_ORIGIN = -1.25  # z = 0 lies at x = 1 + _ORIGIN / s^2: where no ripple is higher than at the end of the interval
_C3 = 0.55  # the third node of the finish, in units of its length: small fifth-order terms and weights, by a scan
_RIDGE = 1.0
_ESTIMATE = 1 / 120  # size of the error estimate, h^4 y'''' times this on linear problems
#: where Newton's method starts: the five unknowns of `_defects` as a fit c_0 + c_1 (5/s) + c_2 (5/s)^2
_START = np.array(
    [[-3.06, 20.4, -15.5, 7.49, 0.176], [0.77, -1.2, 0.65, -0.16, 0.0], [-0.67, 3.8, -2.67, 1.49, -0.054]]
)
#: numbers of stages for which coefficients are made: at most 7 % more than asked for
_LADDER = sorted({*range(5, 30), *(int(30 * 1.07**k) for k in range(20))})


class _Family(NamedTuple):
    """Orthonormal polynomials: e_{j+1} p_{j+1} = (x - b_j) p_j - e_j p_{j-1}, and w about x = a."""

    a: float
    scale: float  #: z = scale (x - a)
    b: Array
    e: Array
    quartic: Array  #: Taylor coefficients of w about a


def _family(unknowns: Array, s: int) -> _Family:
    """Return the polynomials for w with the roots 1 + (u_0 +- i u_1)/s^2, 1 + (u_2 +- i u_3)/s^2."""
    a = 1 + _ORIGIN / s**2
    roots = 1 + unknowns[[0, 2]] / s**2
    heights = unknowns[[1, 3]] / s**2
    # Gauss-Chebyshev quadrature: exact, since w^2 times two polynomials has degree below 2 (s + 8)
    x = np.cos((np.arange(s + 8) + 0.5) * np.pi / (s + 8))
    weight = np.prod(((x[:, None] - roots) ** 2 + heights**2) * s**4, axis=1) ** 2
    weight /= weight.sum()
    n = s - 4
    b, e = np.empty(n), np.zeros(n + 1)
    before, now = np.zeros_like(x), np.ones_like(x)
    for j in range(n):
        b[j] = weight @ (x * now**2)
        new = (x - b[j]) * now - e[j] * before
        e[j + 1] = np.sqrt(weight @ new**2)
        before, now = now, new / e[j + 1]
    quadratics = [np.array([(a - r) ** 2 + q**2, 2 * (a - r), 1.0]) * s**2 for r, q in zip(roots, heights, strict=True)]
    return _Family(a, float(unknowns[4]) * s**2, b, e, np.convolve(quadratics[0], quadratics[1]))


def _defects(unknowns: Array, s: int) -> Array:
    """Return R^(i)(z = 0) - 1 for i = 1..4, and |R| - ripple at the far end x = -1."""
    family = _family(unknowns, s)
    # the Taylor coefficients of p_j about a, and the values at -1
    before, now = np.zeros(5), np.array([1.0, 0, 0, 0, 0])
    far_before, far = 0.0, 1.0
    for j in range(s - 4):
        new = (family.a - family.b[j]) * now - family.e[j] * before
        new[1:] += now[:-1]
        before, now = now, new / family.e[j + 1]
        far_before, far = far, ((-1 - family.b[j]) * far - family.e[j] * far_before) / family.e[j + 1]
    taylor = np.convolve(family.quartic, now)[:5]
    size = taylor[0]
    derivatives = [taylor[i] / size * factorial(i) / family.scale**i for i in range(1, 5)]
    end = np.polyval(family.quartic[::-1], -1 - family.a) * far / size
    return np.array([*derivatives, abs(end) / _RIPPLE]) - 1


#: the trees of orders one to four: t, [t], [tt], [[t]], [ttt], [t[t]], [[tt]], [[[t]]]
_DENSITIES = np.array([1, 2, 3, 6, 4, 8, 12, 24])


def _grafted(p: Array) -> Array:
    """Return the elementary weights of f(g) for those p of g."""
    return np.array([1, p[0], p[0] ** 2, p[1], p[0] ** 3, p[0] * p[1], p[2], p[3]])


class _Coefficients(NamedTuple):
    """ROCK4 with s stages."""

    beta: float  #: stable on [-beta, 0]
    mu: Array  #: the s - 4 stages of the recurrence
    kappa: Array
    c: Array  #: nodes of all s stages
    a: Array  #: (4, 4) finish, relative to the last stage of the recurrence
    b: Array  #: (4,)
    e: Array  #: (s + 1,) error estimate on the slopes of all stages and the one at the end
    rounding: float  #: what one error of size one in the argument of every stage becomes


def _finish(p: Array, node: float) -> tuple[Array, Array]:
    """Return (a, b) of four stages that follow a method with elementary weights p and make the whole order 4.

    The second node is free, in units of the length of the finish.
    """
    t, q, tt, tall = p[:4]
    total = 1 - t
    bc = 1 / 2 - q - t * total
    bcc = 1 / 3 - tt - t**2 * total - 2 * t * bc
    bac = 1 / 6 - tall - q * total - t * bc
    bccc = 1 / 4 - p[4] - t**3 * total - 3 * t**2 * bc - 3 * t * bcc
    bcac = 1 / 8 - p[5] - (t * q * total + t**2 * bc + t * bac + q * bc + t * bcc)
    bacc = 1 / 12 - p[6] - (tt * total + t**2 * bc + 2 * t * bac)
    baac = 1 / 24 - p[7] - (tall * total + q * bc + t * bac)
    c2, c3 = node * total, _C3 * total

    def solve(c4: float) -> tuple[float, Array, Array]:
        """Fulfil seven conditions; what is missing from the eighth, sum b c a c, decides on c4."""
        c = np.array([c2, c3, c4])
        b = np.linalg.solve(np.vander(c, 3, increasing=True).T * c, [bc, bcc, bccc])
        d = np.linalg.solve(np.vander(c[:2], 2, increasing=True).T * c[:2], [bac, bacc])  # sum_i b_i a_ij
        a43, a32 = d[1] / b[2], baac / (d[1] * c2)
        a42 = (d[0] - b[1] * a32) / b[2]
        a = np.zeros((4, 4))
        a[1, 0], a[2, :2], a[3, :3] = c2, (c3 - a32, a32), (c4 - a42 - a43, a42, a43)
        missing = b[1] * c3 * a32 * c2 + b[2] * c4 * (a42 * c2 + a43 * c3) - bcac
        return missing, a, np.array([total - b.sum(), *b])

    c4 = optimize.newton(lambda x: solve(x)[0], 1.03 * total, tol=1e-14)
    return solve(c4)[1:]


@lru_cache(maxsize=256)
def _coefficients(s: int) -> _Coefficients:
    """Return the coefficients for s >= 5 stages; some milliseconds the first time."""
    start = np.array([1, 5 / s, (5 / s) ** 2]) @ _START
    family = _family(optimize.root(_defects, start, args=(s,), tol=1e-14).x, s)
    # P_j = p_j / p_j(a), so that P_j(z = 0) = 1, in the variable z
    values = [0.0, 1.0]
    for j in range(s - 4):
        values.append(((family.a - family.b[j]) * values[-1] - family.e[j] * values[-2]) / family.e[j + 1])
    v = np.array(values)
    mu = v[1:-1] / (family.e[1:] * v[2:] * family.scale)
    kappa = family.e[:-1] * v[:-2] / (family.e[1:] * v[2:])
    weights = [np.zeros(8)]  # elementary weights, first of the stages of the recurrence
    before = weights[0]
    for m, k in zip(mu, kappa, strict=True):
        weights.append(m * _grafted(weights[-1]) + (1 + k) * weights[-1] - k * before)
        before = weights[-2]
    beta = family.scale * (1 + family.a)
    # the finish amplifies what drives a stiff component by z^3; one node makes the leading term vanish
    node = optimize.newton(lambda x: _driven(mu, kappa, *_finish(weights[s - 4], x), -beta), 0.135, tol=1e-12)
    a, b = _finish(weights[-1], node)
    for i in range(1, 4):
        weights.append(weights[s - 4] + a[i, :i] @ np.array([_grafted(w) for w in weights[s - 4 :]]))
    weights.append(1 / _DENSITIES)  # the end
    c = np.array([w[0] for w in weights])
    z = -beta / 2 * (1 + np.cos((np.arange(2 * s) + 0.5) * np.pi / (2 * s)))
    e = _estimate(np.array(weights), _stages(mu, kappa, a, b, z))
    return _Coefficients(beta, mu, kappa, c, a, b, e, _rounding(mu, kappa, a, b, -beta / SAFETY))


def _stages(mu: Array, kappa: Array, a: Array, b: Array, z: Array) -> Array:
    """Return z Q_j(z), (s + 1, ...): h times the slopes of y' = z y / h from y = 1, at the stages and the end."""
    before, q = np.zeros_like(z), [np.ones_like(z)]
    for m, k in zip(mu, kappa, strict=True):
        q.append((m * z + 1 + k) * q[-1] - k * before)
        before = q[-2]
    n = len(q) - 1
    for i in range(1, 4):
        q.append(q[n] + z * (a[i, :i] @ np.array(q[n:])))
    q.append(q[n] + z * (b @ np.array(q[n:])))
    return z * np.array(q)


def _driven(mu: Array, kappa: Array, a: Array, b: Array, z: float) -> float:
    """Return the error of a step of y' = z (y - t^2 / 2) + t from y = 0 with h = 1, whose solution is t^2 / 2."""
    c, y = [0.0, 0.0], [0.0, 0.0]  # twice: the recurrence reaches back two stages
    for m, k in zip(mu, kappa, strict=True):
        y.append(m * (z * (y[-1] - c[-1] ** 2 / 2) + c[-1]) + (1 + k) * y[-1] - k * y[-2])
        c.append(m + (1 + k) * c[-1] - k * c[-2])
    slopes = np.zeros(4)
    for i in range(4):
        t = c[-1] + a[i].sum()
        slopes[i] = z * (y[-1] + a[i] @ slopes - t**2 / 2) + t
    return float(y[-1] + b @ slopes - 1 / 2)


def _rounding(mu: Array, kappa: Array, a: Array, b: Array, z: float) -> float:
    """Return the norm of the errors in a step of y' = z y / h by an error of one in the argument of each stage.

    The finish makes z^4 of what the recurrence leaves, so that this grows like s^8: 76 for 5 stages, 1e10 for 48. The
    slopes of the estimate see a tenth of it.
    """
    argument = np.eye(len(mu) + 4)
    before, now = np.zeros(len(argument)), mu[0] * z * argument[0]
    for j in range(1, len(mu)):
        before, now = now, mu[j] * z * (now + argument[j]) + (1 + kappa[j]) * now - kappa[j] * before
    slopes = np.zeros((4, len(argument)))
    for i in range(4):
        slopes[i] = z * (now + a[i] @ slopes + argument[len(mu) + i])
    return float(np.linalg.norm(now + b @ slopes))


def _estimate(weights: Array, slopes: Array) -> Array:
    """Return weights of all slopes whose sum is O(h^4) and stays small on the whole interval of stability.

    With fewer slopes than all the sum would grow with |z|, and stiff components long at rest would
    decide on the step.
    """
    grafted = np.array([_grafted(w) for w in weights])
    conditions = np.column_stack([grafted[:, :4], grafted[:, 7]]).T
    particular = np.linalg.lstsq(conditions, np.array([0, 0, 0, 0, _ESTIMATE]), rcond=None)[0]
    null = linalg.null_space(conditions)
    # a little of the weights themselves, so that roundoff in the slopes is not amplified
    rows = np.vstack([slopes.T, _RIDGE * np.eye(len(weights))])
    return particular - null @ np.linalg.lstsq(rows @ null, rows @ particular, rcond=None)[0]


class ROCK4(Stabilised):
    r"""A stabilised method of order 4, stable on about [-0.35 s^2, 0] with s stages.

    The stability polynomial is :math:`R = w P`, P of degree s - 4 orthogonal under
    :math:`w(x)^2 / \sqrt{1 - x^2}`: a three-term recurrence, then a finish of four stages. The estimate, of
    order :math:`O(h^4)`, combines the slopes of all stages and the one at the end. From 5 to 108 stages.

    Parameters
    ----------
    bound, estimate
        How the spectral radius is found, see `Stabilised`.

    Notes
    -----
    The construction is Abdulle's; the coefficients are computed here and differ from the published tables
    in the free parameters, so evaluations will not agree with other codes to the last one.

    References
    ----------
    .. [1] A. Abdulle, Fourth order Chebyshev methods with recurrence relation,
       SIAM J. Sci. Comput. 23(6), 2002.
    """

    order = 4
    error_order = 4
    most: int = _LADDER[
        -1
    ]  # the finish amplifies roundoff by w(-beta) / w(0), like s^8: with 130 stages |R| would pass 1

    def interval(self, stages: int) -> float:
        return _coefficients(stages).beta

    def rounding(self, stages: int) -> float:
        return _coefficients(stages).rounding

    def stages(self, z: float) -> int:
        if not np.isfinite(z):
            return self.most
        # beta lies between 0.2 and 0.36 s^2: begin where it may suffice
        candidates = [s for s in _LADDER if 0.36 * s**2 >= z]
        return next((s for s in candidates if _coefficients(s).beta >= z), self.most)

    def _advance(self, f: Velocity, t: Any, y: Array, h: Any, slope: Array, s: int) -> tuple[Array, Array, Array]:
        k = _coefficients(s)
        # differences from y, so that roundoff is relative to the step
        first = times(h, slope)
        before, now, error = np.zeros_like(y), k.mu[0] * first, k.e[0] * first
        for j in range(1, s - 4):
            stage = times(h, f(t + k.c[j] * h, y + now))
            before, now = now, k.mu[j] * stage + (1 + k.kappa[j]) * now - k.kappa[j] * before
            error += k.e[j] * stage
        slopes: list[Array] = []
        for i in range(4):
            inside = sum((k.a[i, j] * slopes[j] for j in range(i)), now)
            slopes.append(times(h, f(t + k.c[s - 4 + i] * h, y + inside)))
            error += k.e[s - 4 + i] * slopes[-1]
        new = y + sum((b * x for b, x in zip(k.b, slopes, strict=True)), now)
        end = f(t + h, new)
        return new, end, error + k.e[s] * times(h, end)
