"""DOP853 for a stack of states, each with a step of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.integrate import DOP853

from .arrays import Stack, columns, namespace, squares

__all__ = ["EVALUATIONS", "block_norms", "error_size", "first_step", "resized", "step"]

# the coefficients of scipy's class of that name, of the pair of orders 8(5,3) of Hairer, Norsett and Wanner
_A = [row[:i].tolist() for i, row in enumerate(np.asarray(DOP853.A))]
_B = np.asarray(DOP853.B).tolist()
_E5, _E3 = (np.asarray(e).tolist() for e in (DOP853.E5, DOP853.E3))

EVALUATIONS = len(_B)  #: velocities a step; that at the start is the last of the step before
_ORDER = 8  # of the error as the step control takes it
_SAFETY, _LEAST, _MOST = 0.9, 0.2, 10.0  # as scipy has them

Velocity = Callable[[Stack], Stack]


def _combined(weights: Sequence[float], stages: Sequence[Stack]) -> Stack:
    """Return the sum of weights times stages, without those that count nothing."""
    terms = [(a, k) for a, k in zip(weights, stages, strict=True) if a]
    total = terms[0][0] * terms[0][1]
    for a, k in terms[1:]:
        total = total + a * k
    return total


def step(f: Velocity, y: Stack, slope: Stack, h: Stack) -> tuple[Stack, Stack, tuple[Stack, Stack]]:
    """Return y(t + h) and the slope there, and the two error estimates, over h.

    The velocities do not depend on t: those of gradient flows.
    """
    h = columns(h, 2)
    stages = [slope]
    for row in _A[1:]:
        stages.append(f(y + h * _combined(row, stages)))
    after = y + h * _combined(_B, stages)
    last = f(after)
    stages.append(last)
    return after, last, (_combined(_E5, stages), _combined(_E3, stages))


def block_norms(e: Stack, blocks: Sequence[tuple[int, int]], scales: Stack) -> Stack:
    """Return sqrt(sum_b ||e_b||^2 / scale_b^2) of each member; a block at rest at zero has no scale, and counts nothing."""
    xp = namespace(e)
    found = xp.stack([squares(e[:, a:b]) for a, b in blocks], axis=1)
    return xp.sqrt(xp.sum(found / xp.where(scales > 0, scales * scales, xp.ones_like(scales)), axis=1))


def error_size(
    h: Stack, errors: tuple[Stack, Stack], blocks: Sequence[tuple[int, int]], scales: Stack, rtol: Stack
) -> Stack:
    """Return the error over the tolerance, (R,): a step passes below 1."""
    xp = namespace(h)
    fifth, third = (block_norms(e, blocks, scales) / rtol for e in errors)
    below = xp.sqrt(fifth * fifth + 0.01 * third * third)
    return h * fifth * fifth / xp.where(below > 0, below, xp.ones_like(below))


def resized(h: Stack, size: Stack, was_rejected: Stack) -> Stack:
    """Return the next steps: by the size of the error, a fifth to ten times as long, no longer after a rejection."""
    xp = namespace(h)
    known = xp.where(xp.isfinite(size), size, xp.full_like(size, 1e300))  # what blew up is tried with the shortest
    factor = _SAFETY * xp.clip(known, min=1e-300) ** (-1 / _ORDER)
    most = xp.where(was_rejected, xp.ones_like(h), xp.full_like(h, _MOST))
    return h * xp.minimum(xp.clip(factor, min=_LEAST), most)


def first_step(
    f: Velocity, y: Stack, slope: Stack, blocks: Sequence[tuple[int, int]], scales: Stack, rtol: Stack, span: Stack
) -> Stack:
    """Return the length of the first steps, as Hairer, Norsett and Wanner choose it; one more velocity."""
    xp = namespace(y)
    d0, d1 = (block_norms(x, blocks, scales) / rtol for x in (y, slope))
    tiny = (d0 < 1e-5) | (d1 < 1e-5)
    h0 = xp.where(tiny, xp.full_like(d0, 1e-6), 0.01 * d0 / xp.where(tiny, xp.ones_like(d1), d1))
    h0 = xp.minimum(h0, span)
    d2 = block_norms(f(y + columns(h0, 2) * slope) - slope, blocks, scales) / rtol / h0
    largest = xp.maximum(d1, d2)
    still = largest <= 1e-15
    h1 = (0.01 / xp.where(still, xp.ones_like(largest), largest)) ** (1 / _ORDER)
    h1 = xp.where(still, xp.clip(h0 * 1e-3, min=1e-6), h1)
    found = xp.minimum(xp.minimum(100 * h0, h1), span)
    return xp.where(xp.isfinite(found), found, h0)
