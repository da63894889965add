"""Explicit methods with a fixed step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..validation import Array
from .protocol import Hermite, State, Velocity, times

__all__ = ["RK4", "Euler"]


class _Fixed:
    """What the two methods share: the slope at the end is the next step's first slope.

    State: y, f at the start of the last step; y, f at its end; h.
    """

    order: int

    def init(self, f: Velocity, t: Any, y: Array) -> State:
        slope = f(t, y)
        return y, slope, y, slope, np.asarray(0.0)

    def _increment(self, f: Velocity, t: Any, y: Array, h: Any, slope: Array) -> Array:
        raise NotImplementedError

    def step(self, f: Velocity, t: Any, y: Array, h: Any, state: State) -> tuple[Array, Array | None, State]:
        slope = state[3]
        new = y + self._increment(f, t, y, h, slope)
        return new, None, (y, slope, new, f(t + h, new), np.asarray(h, dtype=np.float64))

    def interpolant(self, state: State) -> Callable[[float], Array]:
        return Hermite(*state)


class Euler(_Fixed):
    """Explicit Euler: y + h f(t, y). Gradient descent is Euler on the factor flow."""

    order = 1

    def _increment(self, f: Velocity, t: Any, y: Array, h: Any, slope: Array) -> Array:
        return times(h, slope)


class RK4(_Fixed):
    """The classical Runge-Kutta method of order 4."""

    order = 4

    def _increment(self, f: Velocity, t: Any, y: Array, h: Any, slope: Array) -> Array:
        k2 = f(t + h / 2, y + times(h, slope) / 2)
        k3 = f(t + h / 2, y + times(h, k2) / 2)
        k4 = f(t + h, y + times(h, k3))
        return times(h, slope + 2 * k2 + 2 * k3 + k4) / 6
