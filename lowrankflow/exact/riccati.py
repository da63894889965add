r"""The matrix Riccati equation of two layers and of Oja's flow, in closed form and for any time.

.. math:: R' = F R + R F - R\, G\, R, \qquad
    R(t) = Z Z^T, \quad Z = e^{F t} Z_0 \,(I + Z_0^T D Z_0)^{-1/2}, \quad D = \int_0^t e^{F s} G\, e^{F s} \, ds

for commuting symmetric F and G. The exponentials overflow, and where they do not they hide what they do not dominate:
Z_0 is rewritten, for each of some times, in columns that tell the fast from the slow. Those that follow within the time in
which nothing grows more than e-fold are as well served by the formula itself, started there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..validation import Array

__all__ = ["riccati_factors"]

_NUMBERS = 1_000_000  #: of the rows of all times that are worked on at once
_LARGEST = 64.0  #: of I + Z_0^T D Z_0 where it is inverted as it is: roundoff grows by as much at most


def riccati_factors(start: Array, growth: Array, gram: Array, times: Array) -> Array:
    r"""Return Z of :math:`Z Z^T = e^{F t} Z_0 (I + Z_0^T D Z_0)^{-1} Z_0^T e^{F t}`, in the eigenvectors of F and G.

    Parameters
    ----------
    start : ndarray, (k, h)
        Z_0.
    growth, gram : ndarray, (k,)
        The eigenvalues of F, and those of G, which are non-negative.
    times : ndarray, (p,)

    Returns
    -------
    ndarray, (p, k, h)

    Notes
    -----
    The columns of [D^(1/2) Z_0; I] are combined, by elimination with complete pivoting whose rows carry their scales as
    logarithms, to an echelon form with entries of at most one. A combination does not feel the scale of a row, and errors are
    relative to each row: exact for a Z_0 changed by roundoff, whatever the range of the scales. Then one QR factorisation.
    A scale is ``rate * t + rest``; differences are taken of rates, so that long times cost no digits.
    """
    k, h = start.shape
    order = np.argsort(times, kind="stable")
    out = np.empty((times.size, k, h))
    several = max(1, _NUMBERS // ((k + h) * h))
    for i in range(0, times.size, several):
        some = order[i : i + several]
        out[some] = _increasing(start, growth, gram, times[some])
    return out


def _increasing(start: Array, growth: Array, gram: Array, times: Array) -> Array:
    """Return the factors at increasing times: at the first of each stretch, and from there at those that follow."""
    longest = 1 / max(float(np.abs(growth).max()), np.finfo(np.float64).tiny)
    first = [0]  # of each stretch
    while (after := int(np.searchsorted(times, times[first[-1]] + longest, side="right"))) < times.size:
        first.append(after)
    anchors = _factors(start, growth, gram, times[first])
    lengths = np.diff([*first, times.size])
    stretch = np.repeat(np.arange(len(first)), lengths)
    out, well = _soon(anchors[stretch], growth, gram, times - times[first][stretch])
    out[first] = anchors
    well[first] = True
    if not well.all():
        out[~well] = _factors(start, growth, gram, times[~well])
    return out


def _soon(starts: Array, growth: Array, gram: Array, times: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Return the formula as it stands, each time from a start of its own, and where that is as good as any.

    e^(F t) Z_0 C^-T, with the Cholesky factor C C^T = I + Z_0^T D Z_0.
    """
    x = growth * times[:, None]
    d = gram * times[:, None] * np.where(x == 0, 1.0, np.expm1(2 * x) / np.where(x == 0, 1.0, 2 * x))
    inner = np.eye(starts.shape[2]) + starts.swapaxes(1, 2) @ (d[..., None] * starts)
    well = np.linalg.norm(inner, axis=(1, 2)) <= _LARGEST
    inner[~well] = np.eye(starts.shape[2])
    return (np.exp(x)[..., None] * starts) @ np.linalg.inv(np.linalg.cholesky(inner)).swapaxes(1, 2), well


def _factors(start: Array, growth: Array, gram: Array, times: Array) -> Array:
    (k, h), t, each = start.shape, times[:, None], np.arange(times.size)
    rate = np.concatenate([np.maximum(growth, 0.0), np.zeros(h)])
    x = 2 * np.abs(growth) * t
    with np.errstate(divide="ignore", under="ignore"):
        mean = np.where(x > 0, -np.expm1(-x) / np.where(x > 0, x, 1.0), 1.0)  # D = G t e^(2 rate t) mean
        rest = np.hstack([(np.log(gram) + np.log(t) + np.log(mean)) / 2, np.zeros((t.size, h))])
        rows, pivots = _echelon(np.vstack([start, np.eye(h)]), rate * t + rest)
        unit = np.log(np.abs(rows[each[:, None], pivots, np.arange(h)])) + rest[each[:, None], pivots]
        logs = np.log(np.abs(rows)) - unit[:, None] + (rate[:, None] - rate[pivots][:, None]) * t[..., None]
        sign, slack = np.sign(rows), np.minimum(growth, 0.0) * t
        echelon, moved = sign * np.exp(logs + rest[..., None]), sign[:, :k] * np.exp(logs[:, :k] + slack[..., None])
    triangle: Array = np.asarray(np.linalg.qr(echelon, mode="r"))
    for j in range(h):  # moved times the inverse of the triangle, a column at a time
        moved[:, :, j] -= (moved[:, :, :j] @ triangle[:, :j, j, None])[..., 0]
        moved[:, :, j] /= triangle[:, j, j, None]
    return moved


def _echelon(matrix: Array, scale: Array) -> tuple[Array, NDArray[np.intp]]:
    """Return combinations of columns for each row of log scales, (p, rows, h), and the rows of their pivots, (p, h)."""
    p, h, each = len(scale), matrix.shape[1], np.arange(len(scale))
    rows, level = np.repeat(matrix[None], p, axis=0), scale.copy()  # level: -inf where a row has had its pivot
    pivots = np.empty((p, h), dtype=np.intp)
    for j in range(h):
        sizes = level[..., None] + np.log(np.abs(rows[:, :, j:]))
        row, column = np.divmod(sizes.reshape(p, -1).argmax(axis=1), h - j)
        taken = rows[each, :, j + column]
        rows[each, :, j + column] = rows[:, :, j]
        rows[:, :, j] = taken
        ratio = rows[each, row, j + 1 :] / rows[each, row, j][:, None]
        rows[:, :, j + 1 :] -= taken[..., None] * ratio[:, None]
        rows[each, row, j + 1 :] = 0.0
        level[each, row], pivots[:, j] = -np.inf, row
    return rows, pivots
