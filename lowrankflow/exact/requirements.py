"""What the arguments of exact solutions have to be, and the message where they are not."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .. import validation
from ..validation import Array


def require_times(t: ArrayLike) -> Array:
    """Return flow times, a number or a vector: finite and non-negative."""
    times = np.asarray(validation.as_real("t", t), dtype=np.float64)
    if times.ndim > 1:
        raise ValueError(f"`t` must be a number or a vector of times, got shape {times.shape}.")
    validation.require_finite("t", times)
    if (times < 0).any():
        raise ValueError(f"`t` must be non-negative, got {times.min():g}. The solutions start at t = 0.")
    return times


def require_modes(name: str, values: ArrayLike, size: int) -> Array:
    """Return one finite number a mode, from a vector or from one number for all."""
    array = validation.as_real(name, values)
    if array.ndim == 0:
        array = np.full(size, float(array))
    return validation.as_vector(name, array, size)
