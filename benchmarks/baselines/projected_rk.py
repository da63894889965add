"""Projected explicit Runge-Kutta (PERK): every stage is cut back to rank r by the best approximation.

The stages use F itself, not its tangent projection: the field of a Riemannian flow is tangent. A stage is a
Product of inner size up to r + 2 r (number of slopes), so that m x n is not formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import linalg

import lowrankflow as lrf

from .lowrank import Field, point


def perk1(field: Field, w: lrf.LowRankMatrix, h: float) -> lrf.LowRankMatrix:
    """Return the rank-r approximation of W + h F(W): Euler with truncation, order 1, one evaluation."""
    return _perk(field, w, h, [], [1.0])


def perk2(field: Field, w: lrf.LowRankMatrix, h: float) -> lrf.LowRankMatrix:
    """Return W after one step of Heun's method with truncation, order 2, two evaluations."""
    return _perk(field, w, h, [[1.0]], [0.5, 0.5])


def perk4(field: Field, w: lrf.LowRankMatrix, h: float) -> lrf.LowRankMatrix:
    """Return W after one step of the classical method with truncation, order 4, four evaluations."""
    return _perk(field, w, h, [[0.5], [0.0, 0.5], [0.0, 0.0, 1.0]], [1 / 6, 1 / 3, 1 / 3, 1 / 6])


def _perk(
    field: Field, w: lrf.LowRankMatrix, h: float, a: Sequence[Sequence[float]], b: Sequence[float]
) -> lrf.LowRankMatrix:
    """Return one step of the explicit method with the rows `a` below the first and the weights `b`."""
    slopes = [field(w)]
    for row in a:
        slopes.append(field(_moved(w, h, row, slopes)))
    return _moved(w, h, b, slopes)


def _moved(w: lrf.LowRankMatrix, h: float, weights: Sequence[float], slopes: Sequence[Any]) -> lrf.LowRankMatrix:
    """Return the best approximation of W + h sum_j weights_j slopes_j of the rank of W."""
    left, right = [w.u * w.s], [w.vt.T]
    for c, slope in zip(weights, slopes, strict=True):
        if c:
            z, y = slope.split()
            left.append(h * c * z)
            right.append(y.T)
    (ql, rl), (qr, rr) = (linalg.qr(np.hstack(x), mode="economic", check_finite=False) for x in (left, right))
    return point(ql, rl @ rr.T, qr, w.rank)
