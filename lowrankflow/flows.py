"""What moves, what to keep of it, what to look for on the way: values that are handed to `integrate`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from . import validation
from .metrics import Metric

__all__ = ["Event", "FactorFlow", "RiemannianFlow", "Save"]


@dataclass(frozen=True)
class RiemannianFlow:
    """The flow W' = -A_W(grad L(W)) on the rank-k manifold under a metric."""

    loss: Any
    metric: Metric


@dataclass(frozen=True)
class FactorFlow:
    """The flow W_j' = -grad_{W_j} L(W_N ... W_1) of the factors: gradient descent with vanishing steps."""

    loss: Any


@dataclass(frozen=True)
class Save:
    """What a trajectory keeps.

    Parameters
    ----------
    times : array_like, optional
        Times within ``t_span`` to keep, by the method's interpolant, whose error can be a thousand times rtol.
    exact : bool
        Land a step on each of `times` instead; costs at most one step more for each.
    steps : bool
        Keep every accepted step (with `times`, only those times are kept unless this is True; None
        means: every step exactly when no times are given). The first and last states are always kept.
    dense : bool
        Keep the interpolants, so that ``path(t)`` works; the memory of about one state a stage and step.
    dissipation : bool
        Integrate q' = g(W', W') as one more state, so that L(0) - L(t) = q(t) can be checked.
    """

    times: ArrayLike | None = None
    exact: bool = False
    steps: bool | None = None
    dense: bool = False
    dissipation: bool = False

    def __post_init__(self) -> None:
        validation.require_flags(exact=self.exact, dense=self.dense, dissipation=self.dissipation)
        if self.steps is not None:
            validation.require_flags(steps=self.steps)


@dataclass(frozen=True)
class Event:
    """A function of (t, W) whose zero is located along the flow.

    Parameters
    ----------
    name : str
        Key under which the times appear in ``path.events``.
    function : callable
        ``function(t, w) -> float``, evaluated after every step; a change of sign is located on the interpolant.
    terminal : bool
        End the integration there.
    direction : int
        +1 only upward, -1 only downward crossings, 0 both.
    """

    name: str
    function: Callable[[float, Any], float]
    terminal: bool = False
    direction: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"`name` must be a non-empty string, got {validation.describe(self.name)}.")
        if not callable(self.function):
            raise TypeError(f"`function` must be callable, got {validation.describe(self.function)}.")
        validation.require_flags(terminal=self.terminal)
        if self.direction not in (-1, 0, 1):
            raise ValueError(f"`direction` must be -1, 0 or 1, got {validation.describe(self.direction)}.")
