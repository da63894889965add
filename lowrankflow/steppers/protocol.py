"""What a stepper promises, and the pieces that all of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..validation import Array

__all__ = ["Hermite", "State", "Stepper", "Velocity", "times"]

Velocity = Callable[[Any, Array], Array]
State = tuple[Array, ...]


class Stepper(Protocol):
    """A one-step method on y (..., n) with step h (...); leading axes are a batch.

    To add one: give `order`, and make `step` return the new y, an error estimate of the size of y (or
    None for a fixed step) and the new state, from which `interpolant` makes a function of theta in [0, 1].

    A method that chooses its steps has three things more: ``error_order``, the q of an estimate that is
    O(h^q); ``longest(state)``, the longest step that it can take (inf where there is no such limit); and
    ``retry(state)``, the state from which a rejected step is tried again.
    """

    order: int

    def init(self, f: Velocity, t: Any, y: Array) -> State:
        """Return the state at the start."""
        ...

    def step(self, f: Velocity, t: Any, y: Array, h: Any, state: State) -> tuple[Array, Array | None, State]:
        """Return y(t + h), its error estimate or None, and the next state."""
        ...

    def interpolant(self, state: State) -> Callable[[float], Array]:
        """Return the last step as a function of theta in [0, 1]."""
        ...


def times(h: Any, v: Array) -> Array:
    """Return h v for h of shape (...) and v of shape (..., n)."""
    return np.asarray(h)[..., None] * v


@dataclass(frozen=True, eq=False)
class Hermite:
    """The cubic through the values and slopes at both ends of a step, a function of theta in [0, 1]: error O(h^4)."""

    a: Array
    fa: Array
    b: Array
    fb: Array
    h: Array

    def __call__(self, theta: float) -> Array:
        slopes = theta * (1 - theta) * ((1 - theta) * times(self.h, self.fa) - theta * times(self.h, self.fb))
        return (1 - theta) ** 2 * (1 + 2 * theta) * self.a + theta**2 * (3 - 2 * theta) * self.b + slopes
