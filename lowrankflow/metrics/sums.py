"""Divided differences of powers and products, without a difference of close numbers.

All coefficients of the depth-N metrics are of this kind: f[x, y] with f(x) = x^N for balanced factors, and
f = prod_l (x + kappa_l) where the imbalances are multiples of the identity. Their derivatives are f[x, y, z].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from ..validation import Array

__all__ = [
    "logarithmic_mean",
    "over",
    "positive_sum",
    "product_differences",
    "second_difference_of_exponential",
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
        total = terms[:, ::-1] @ terms.T
        return (total + total.T) / 2  # [i, k] and [k, i] sum the same terms in opposite orders
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

    Whole N up to 64 are summed as they are: all terms are positive. Newton's series of the others about lo is
    sum_p binom(N, p) lo^(N-p) h_{p-2}.
    """
    if power <= _SUM_TERMS and power == int(power):
        return product_differences(x, np.zeros(int(power)))[2]
    share, zero = min(0.25, 2 / power), x == 0
    result = _second_difference(
        x,
        positive_sum(x, power, 1.0),
        near=lambda lo, hi: hi - lo < share * hi,
        unit=lambda lo: lo,
        leading=lambda lo: power * (power - 1) / 2 * lo ** (power - 2),
        ratio=lambda p: (power - p + 1) / p,
    )
    result[np.ix_(zero, zero, zero)] = 0.0  # of normal directions alone, which multiplies nothing
    return result


def second_difference_of_exponential(x: Array) -> Array:
    """Return f[x_i, x_j, x_k] of f(x) = e^x; its series about lo is e^lo sum_p h_{p-2} / p!."""
    exponential = np.exp(x)
    gap = x[:, None] - x
    # e^lo expm1(d) / d with d = hi - lo
    d, low = np.abs(gap), np.minimum(exponential[:, None], exponential)
    first = low * np.divide(np.expm1(d), d, out=np.ones_like(d), where=d > 0)
    return _second_difference(
        x,
        first,
        near=lambda lo, hi: hi - lo < 1.0,
        unit=np.ones_like,
        leading=lambda lo: np.exp(lo) / 2,
        ratio=lambda p: 1 / p,
    )


def _second_difference(
    x: Array,
    first: Array,
    *,
    near: Callable[[Array, Array], NDArray[np.bool_]],
    unit: Callable[[Array], Array],
    leading: Callable[[Array], Array],
    ratio: Callable[[int], float],
) -> Array:
    """Return f[x_i, x_j, x_k] from f[x_i, x_j] and the terms of Newton's series.

    With hi >= mid >= lo it is (f[hi, mid] - f[mid, lo]) / (hi - lo), unless hi and lo are `near`: then the two agree in
    their leading digits, and the series about lo serves, whose terms are those of Taylor's with the powers replaced by
    the complete homogeneous polynomials h_{p-2}(hi - lo, mid - lo), in units of `unit`.
    """
    order = np.argsort(x)
    place = np.argsort(order)  # first differences are looked up by place, not computed r^3 times
    places = np.sort(np.stack(np.broadcast_arrays(place[:, None, None], place[:, None], place), axis=-1), axis=-1)
    low, middle, high = np.moveaxis(order[places], -1, 0)
    lo, mid, hi = x[low], x[middle], x[high]
    with np.errstate(divide="ignore", invalid="ignore"):
        result = (first[high, middle] - first[middle, low]) / (hi - lo)
    series = near(lo, hi)
    if series.any():
        base, size = lo[series], unit(lo[series])
        a, b = (hi[series] - base) / size, (mid[series] - base) / size
        term, homogeneous, power_b = leading(base), np.ones_like(a), np.ones_like(a)
        total = term * homogeneous
        for p in range(3, _SERIES_TERMS):
            term = term * ratio(p)
            power_b = power_b * b
            homogeneous = a * homogeneous + power_b
            total = total + term * homogeneous
        result[series] = total
    return result


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
