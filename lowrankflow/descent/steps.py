"""How long an update is: a number, a schedule, or what the network says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from .. import validation
from ..geometry import sharpness
from ..losses import Loss
from ..matrices import LinearNetwork

__all__ = ["Decreasing", "EdgeFraction", "StepRule"]


class StepRule(Protocol):
    """A step that depends on where the run is."""

    def at(self, k: int, loss: Loss, net: LinearNetwork, last: float) -> float:
        """Return h_k of the update k = 0, 1, ...; `last` is the one before, nan at first."""
        ...


StepSize = float | Callable[[int], float] | StepRule


@dataclass(frozen=True)
class Decreasing:
    r"""A decreasing schedule, :math:`h_k = h_0 / (k + 1)^p`.

    Its sum diverges for p <= 1, which convergence to a critical point asks for.

    Parameters
    ----------
    first : float
        h_0, positive.
    power : float
        p, non-negative.
    """

    first: float
    power: float = 0.5

    def __post_init__(self) -> None:
        validation.require_number("first", self.first)
        validation.require_number("power", self.power, positive=False)

    def __call__(self, k: int) -> float:
        return float(self.first / (k + 1) ** self.power)


@dataclass(frozen=True)
class EdgeFraction:
    """A fraction of the edge of stability, 2 / sharpness of the factors' loss where the run is.

    Parameters
    ----------
    fraction : float
        Positive; 1 is the edge.
    every : int
        Updates between two measurements of the sharpness, some twenty gradients each; between them the step stays.
    """

    fraction: float
    every: int = 10

    def __post_init__(self) -> None:
        validation.require_number("fraction", self.fraction)
        validation.require_integer("every", self.every, low=1)

    def at(self, k: int, loss: Loss, net: LinearNetwork, last: float) -> float:
        """Return the step; the last one where the loss is nowhere curved upwards."""
        if k % self.every and last > 0:
            return last
        found = sharpness(loss, net, tol=1e-2, exact=None)
        return 2 * self.fraction / found if found > 0 else last


def require_step_size(step_size: Any) -> float | None:
    """Return the constant step; None where it is a schedule or a rule."""
    if callable(step_size) or callable(getattr(step_size, "at", None)):
        if isinstance(step_size, type):
            raise TypeError(f"`step_size` must be a number or a schedule, got the class {step_size.__name__}.")
        return None
    return validation.require_number("step_size", step_size)
