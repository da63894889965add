"""When a run ends before its number of updates: tests of where it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .. import validation
from ..flow import Status
from ..gradients import squared_norm
from ..losses import Loss
from ..matrices import LinearNetwork
from ..validation import Array

__all__ = ["GradientBelow", "Iterate", "LossBelow", "TimeReached"]


@dataclass(frozen=True)
class Iterate:
    """Where a run is; what is not asked for is not computed."""

    k: int  #: updates so far
    t: float  #: sum of the steps so far: flow time, in the units of the loss
    network: LinearNetwork
    objective: Loss
    gradient: Callable[[], Sequence[Array]]

    @cached_property
    def loss(self) -> float:
        """Its value, as normalised by the loss."""
        return float(self.objective.value(self.network))

    @cached_property
    def egrads(self) -> Sequence[Array]:
        """The factor gradients of the loss, of all samples."""
        return self.gradient()

    @cached_property
    def gradient_norm(self) -> float:
        """Frobenius norm of all factor gradients together."""
        return float(np.sqrt(squared_norm(self.egrads)))


Stop = Callable[[Iterate], bool]


@dataclass(frozen=True)
class LossBelow:
    """End with status EVENT where the loss is at most `value`, in its normalisation."""

    value: float

    def __post_init__(self) -> None:
        validation.require_finite_number("value", self.value)

    def __call__(self, at: Iterate) -> bool:
        return at.loss <= self.value


@dataclass(frozen=True)
class GradientBelow:
    """End with status CONVERGED where the norm of all factor gradients together is at most `value`."""

    value: float

    status = Status.CONVERGED

    def __post_init__(self) -> None:
        validation.require_number("value", self.value, positive=False)

    def __call__(self, at: Iterate) -> bool:
        return at.gradient_norm <= self.value


@dataclass(frozen=True)
class TimeReached:
    """End with status FINISHED where the sum of the steps is at least `value`, in flow time."""

    value: float

    status = Status.FINISHED

    def __post_init__(self) -> None:
        validation.require_number("value", self.value)

    def __call__(self, at: Iterate) -> bool:
        return at.t >= self.value * (1 - 1e-12)  # sums of steps have roundoff


def require_stops(stop: Stop | Iterable[Stop]) -> tuple[Stop, ...]:
    """Return the tests as a tuple; one alone may be given as it is."""
    found: tuple[Any, ...] | None = (stop,) if callable(stop) else validation.as_tuple(stop)
    for test in found if found is not None else (stop,):
        if isinstance(test, type) or not callable(test):
            raise TypeError(f"`stop` must be tests of an Iterate, got {validation.describe(test)}. Use LossBelow(0.1).")
    return found or ()


def label(test: Stop) -> str:
    """Return the name of a test."""
    return repr(test) if hasattr(test, "__dataclass_fields__") else getattr(test, "__name__", type(test).__name__)
