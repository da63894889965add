"""Divided differences of powers and products, without a difference of close numbers.

All coefficients of the depth-N metrics are of this kind: f[x, y] with f(x) = x^N for balanced factors, and
f = prod_l (x + kappa_l) where the imbalances are multiples of the identity. Their derivatives are f[x, y, z].
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..validation import Array

__all__ = [
    "logarithmic_mean",
    "over",
    "positive_sum",
    "product_differences",
    "second_difference_of_power",
    "step_differences",
]

TINY = float(np.finfo(np.float64).tiny)
_SUM_TERMS = 64  # whole depths up to this are summed term by term; beyond, the closed form costs less


def positive_sum(a: Array, depth: float, powers: float) -> Array:
    r"""Return :math:`\sum_{j=1}^{N} a_i^{N-j} a_k^{j-1}` with ``a ** powers`` already rooted, stably.

    For a small whole N the terms are summed as they are: all positive. Else, with hi >= lo, the sum is
    hi^(N-1) (q^N - 1)/(q - 1), q = lo/hi, evaluated as a ratio of expm1's: no cancellation at close or
    equal values, and a cost that does not depend on N. `a` holds the values whose `powers`-th power
    enters: x = a^powers.
    """
    if depth <= _SUM_TERMS and depth == int(depth):
        terms = a[:, None] ** (powers * np.arange(int(depth)))
        return terms[:, ::-1] @ terms.T
    hi, lo = np.maximum(a[:, None], a), np.minimum(a[:, None], a)
    with np.errstate(divide="ignore", invalid="ignore"):
        # log1p keeps the digits of a ratio near 1; log those of a small ratio
        ratio = np.where(lo > hi / 2, np.log1p((lo - hi) / hi), np.log(lo / hi))
        d = powers * ratio
        quotient = np.expm1(depth * d) / np.expm1(d)
    quotient = np.where(d == 0, depth, quotient)  # lo == hi
    quotient = np.where(lo == 0, 1.0, quotient)  # 0^0 = 1: the term of the full identity
    total = hi ** (powers * (depth - 1)) * quotient
    return np.where(hi == 0, 0.0, total)


def logarithmic_mean(a: Array) -> Array:
    """Return (a_i - a_k)/(ln a_i - ln a_k) for positive a; a_i on the diagonal and at ties."""
    hi, lo = np.maximum(a[:, None], a), np.minimum(a[:, None], a)
    with np.errstate(divide="ignore", invalid="ignore"):
        d = np.where(lo > hi / 2, np.log1p((lo - hi) / hi), np.log(lo / hi))  # ln(lo/hi)
        mean = hi * np.expm1(d) / d
    return np.where(d == 0, hi, np.where(lo == 0, 0.0, mean))


def product_differences(x: Array, shifts: Iterable[float]) -> tuple[Array, Array, Array]:
    r"""Return f(x_i), f[x_i, x_j] and f[x_i, x_j, x_k] of :math:`f(x) = \prod_l (x + \kappa_l)` for non-negative x.

    One factor after the other by Leibniz's rule, (f g)[x, .., z] = f[x, .., y] g[y, z] + f[x, .., z] g(z) with
    g(z) = z + kappa: all terms are non-negative, so that nothing cancels.
    """
    value, first, second = np.ones_like(x), np.zeros((x.size, x.size)), np.zeros((x.size,) * 3)
    for shift in shifts:
        factor = x + shift
        second = first[:, :, None] + second * factor
        first = value[:, None] + first * factor
        value = value * factor
    return value, first, second


_SERIES_TERMS = 40  #: (1/3)^40 = 8e-20, and 2^40 / 40! = 1e-36 at large N


def second_difference_of_power(x: Array, power: float) -> Array:
    r"""Return f[x_i, x_j, x_k] of :math:`f(x) = x^N` for real N > 1 and non-negative x, to about 100 eps of f[x, x] / x.

    With hi >= mid >= lo it is (f[hi, mid] - f[mid, lo]) / (hi - lo) where hi - lo is above a share of hi that makes
    the two differ in their leading digits, and Newton's series about lo,
    sum_p binom(N, p) lo^(N-p) h_{p-2}(hi - lo, mid - lo) with the complete homogeneous polynomials h, where it is
    below. Whole N up to 64 are summed as they are: all terms are positive.
    """
    if power <= _SUM_TERMS and power == int(power):
        return product_differences(x, np.zeros(int(power)))[2]
    triples = np.stack(np.broadcast_arrays(x[:, None, None], x[:, None], x), axis=-1)
    lo, mid, hi = np.moveaxis(np.sort(triples, axis=-1), -1, 0)
    first = positive_sum(x, power, 1.0)
    order = np.argsort(x)
    rank = np.argsort(order)  # position of each value, so that f[hi, mid] is looked up, not computed r^3 times
    ranks = np.sort(np.stack(np.broadcast_arrays(rank[:, None, None], rank[:, None], rank), axis=-1), axis=-1)
    low, middle, high = np.moveaxis(order[ranks], -1, 0)
    spread = hi - lo
    with np.errstate(divide="ignore", invalid="ignore"):
        result = (first[high, middle] - first[middle, low]) / spread
    near = spread < min(0.25, 2 / power) * hi
    if near.any():
        base = lo[near]
        a, b = (hi[near] - base) / base, (mid[near] - base) / base
        binomial, homogeneous, power_b = power * (power - 1) / 2, np.ones_like(a), np.ones_like(a)
        total = binomial * homogeneous
        for p in range(3, _SERIES_TERMS):
            binomial *= (power - p + 1) / p
            power_b = power_b * b
            homogeneous = a * homogeneous + power_b
            total = total + binomial * homogeneous
        result[near] = total * base ** (power - 2)
    return np.where(hi == 0, 0.0, result)


def over(second: Array, first: Array) -> Array:
    """Return f[x_i, x_j, x_k] / f[x_i, x_j], zero where both normal directions meet (it multiplies nothing there)."""
    return np.divide(second, first[:, :, None], out=np.zeros_like(second), where=first[:, :, None] > 0)


def step_differences(s: Array, *, core: float) -> Array:
    """Return (c_ik - c_jk) / (s_i^2 - s_j^2) for c = `core` on the r x r block, 1 on the frames, 0 beyond.

    The last index stands for s = 0: only there do constant coefficients differ.
    """
    r = s.size
    steps = np.zeros((r + 1,) * 3)
    steps[:r, r, :r] = steps[r, :r, :r] = ((core - 1) / s**2)[:, None]
    steps[:r, r, r] = steps[r, :r, r] = 1 / s**2
    return steps
