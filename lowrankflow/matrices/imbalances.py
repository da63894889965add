r"""Factors whose imbalances are multiples of the identity, :math:`W_{j+1}^T W_{j+1} - W_j W_j^T = \lambda_j I`.

The singular values of all layers belong together: they fall into strands, each a direction of every layer from one to
another, on which the l-th layer has the singular value :math:`\sqrt{x + \kappa_l}` with :math:`\kappa_l = \sum_{j<l} \lambda_j`
and one x. On a strand through all layers the product is :math:`s = p(x)^{1/2}, p(x) = \prod_l (x + \kappa_l)`. Another ends
where the next layer's singular value, by the same formula, is zero: it carries no product, but fills a wider layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import validation
from ..validation import Array

__all__ = ["Strand", "layer_values", "require_imbalances", "roots", "shifts"]

_NEWTON_STEPS = 200  #: far from the root a step takes off at least 1/N of the distance, near it doubles the digits
_EPS = float(np.finfo(np.float64).eps)
_TINY = float(np.finfo(np.float64).tiny)


def require_imbalances(imbalances: ArrayLike, depth: int) -> Array:
    """Return lambda_1, ..., lambda_{N-1}; one number for all."""
    values = validation.as_real("imbalances", imbalances)
    if values.ndim == 0:
        values = np.full(depth - 1, float(values))
    if values.shape != (depth - 1,):
        raise ValueError(
            f"`imbalances` must hold a number between each two of the {depth} factors, got shape {values.shape}."
        )
    return validation.as_vector("imbalances", values)


def shifts(imbalances: ArrayLike) -> Array:
    """Return kappa_1, ..., kappa_N, the least of them 0."""
    sums = np.concatenate([[0.0], np.cumsum(imbalances)])
    return np.asarray(sums - sums.min())


def roots(s: Array, kappa: Array) -> Array:
    """Return the largest roots x_i of prod_l (x + kappa_l) = s_i^2, zero for zero."""
    with np.errstate(divide="ignore"):
        logs, target = np.log(kappa)[:, None], 2 * np.log(np.maximum(s, _TINY))
    y = target / len(kappa)  # p(x) >= x^N: this is not below the root
    for _ in range(_NEWTON_STEPS):
        # ln p(e^y) is convex and increasing with a slope in [1, N]: Newton's method comes down to the root
        factors = np.logaddexp(y, logs)  # ln(x + kappa_l), where x itself may underflow
        step = (factors.sum(axis=0) - target) / np.exp(y - factors).sum(axis=0)
        y = y - step
        if np.all(step <= 4 * _EPS * (1 + np.abs(target))):  # the roundoff of a step, which may alternate in sign
            break
    return np.where(s > 0, np.exp(y), 0.0)


class Strand(NamedTuple):
    """A direction of the hidden layers first .. last that carries no product; layer 0 is the input, N the output."""

    first: int
    last: int
    values: Array  #: (last - first,) singular values of the factors between them


def layer_values(s: Array, imbalances: Array, shape: tuple[int, int], widths: Sequence[int]) -> list[Strand]:
    """Return the strands of factors of the given widths whose product has the singular values `s`, those of it first.

    Each other strand covers neighbouring layers, and together they fill what `s` leaves of every hidden one: a network
    matrix, so a vertex of the linear program is whole.

    Raises
    ------
    ValueError
        If factors of such widths cannot have these imbalances.
    """
    kappa, (m, n), r = shifts(imbalances), shape, s.size
    through = [Strand(0, len(kappa), np.sqrt(x + kappa)) for x in roots(s, kappa)]
    if all(d == r for d in widths):
        return through
    from scipy.optimize import linprog  # half of the time that scipy takes to load, for a rare question

    strands = _strands(kappa)
    cover = np.array([[t.first <= j <= t.last for t in strands] for j in range(len(kappa) + 1)], dtype=np.float64)
    room = np.array([n, *widths, m]) - r
    found = None
    if strands:
        inner, ends, most = cover[1:-1], cover[[0, -1]], room[[0, -1]]
        found = linprog(np.ones(len(strands)), A_ub=ends, b_ub=most, A_eq=inner, b_eq=room[1:-1], method="highs-ds")
    if found is None or found.status != 0:
        raise ValueError(
            f"`widths` must admit the imbalances, got {', '.join(map(str, widths))} hidden between {n} and {m} for a product"
            f" of rank {r}: a direction that carries none of it must begin or end where the layers' values allow."
            " Use widths=None, the rank, or, of a square W, its size for all."
        )
    counts: NDArray[np.intp] = np.rint(np.asarray(found.x)).astype(np.intp)
    return through + [strand._replace() for strand, count in zip(strands, counts, strict=True) for _ in range(count)]


def _strands(kappa: Array) -> list[Strand]:
    """Return all strands that begin after the input or end before the output, kinds, not how many of each."""
    n = len(kappa)
    close = n * _EPS * float(kappa.max())  # the roundoff of the sums
    strands = []
    for first in range(n):
        # the factor before the first layer would have the value kappa - base: it is zero where there is one
        begun = None if first == 0 else float(kappa[first - 1])
        for last in range(first, n + 1):
            inside = kappa[first:last]
            base = begun if last == n else float(kappa[last])  # so would the factor after the last
            if base is None or (begun is not None and abs(base - begun) > close):
                continue
            if (first, last) != (0, 0) and (inside - base > close).all():
                strands.append(Strand(first, last, np.sqrt(inside - base)))
    return strands
