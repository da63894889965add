"""The spectral radius of a velocity field, by differences."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..matrices import EPS
from ..validation import Array
from .protocol import Velocity, times

__all__ = ["first_direction", "spectral_radius"]


def spectral_radius(
    f: Velocity, t: Any, y: Array, slope: Array, direction: Array, known: Array, *, tries: int
) -> tuple[Array, Array, bool]:
    """Estimate the spectral radius of df/dy at y by power iterations from what is known.

    The Jacobian is applied as (f(t, y + d v) - f(t, y)) / d with d = sqrt(eps) ||y||, so that the roundoff
    in an estimate is about sqrt(eps) ||f|| / ||y||. One evaluation an iteration; ends when an estimate
    is within a per cent of the one before it, `known` at first.

    Parameters
    ----------
    f : callable
        ``f(t, y) -> dy/dt``.
    t, y, slope : float, ndarray (..., n), ndarray (..., n)
        Where, and f there.
    direction : ndarray, (..., n)
        Where the iteration starts, of any length: the last one returned, or `first_direction`.
    known : ndarray, (...)
        The last estimate, or zero.
    tries : int
        Largest number of iterations.

    Returns
    -------
    radius : ndarray, (...)
        An estimate, usually from below.
    direction : ndarray, (..., n)
        A unit vector, to go on from.
    settled : bool
        Whether the last two estimates agreed to a per cent.
    """
    radius = known
    d = np.sqrt(EPS) * np.where(_norm(y) > 0, _norm(y), 1.0)
    v, last = _unit(direction), known
    for _ in range(tries):
        image = (f(t, y + times(d, v)) - slope) / d[..., None]
        radius = _norm(image)
        if not np.isfinite(radius).all():
            break
        v = _unit(image)
        if (np.abs(radius - last) <= 0.01 * radius).all():
            return radius, v, True
        last = radius
    return radius, v, False


def first_direction(slope: Array) -> Array:
    """Return the direction of the slope with a tenth of a fixed irregular one.

    A slope along slow directions alone hides the fast ones: the iteration would settle at once, on a slow rate.
    """
    return _unit(slope) + 0.1 * _unit(np.cos(np.arange(1.0, slope.shape[-1] + 1) ** 2))


def _norm(x: Array) -> Array:
    return np.asarray(np.linalg.norm(x, axis=-1))


def _unit(x: Array) -> Array:
    """Return x over its length; the vector of equal components where there is none."""
    size = _norm(x)[..., None]
    known = np.isfinite(size) & (size > 0)
    return np.where(known, x / np.where(known, size, 1.0), 1.0 / np.sqrt(x.shape[-1]))
