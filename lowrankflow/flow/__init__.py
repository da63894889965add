"""Integrate a flow: the loop, its state, its methods, its record, its files.

What is handed in lies below, in `flows`: what moves, what to keep, what to look for.
"""

import warnings
from typing import Any

from ..flows import Event, FactorFlow, RiemannianFlow, Save
from .integration import integrate
from .passages import Passage
from .resume import CheckpointFailed
from .trajectory import Status, Step, Trajectory

__all__ = [
    "CheckpointFailed",
    "Event",
    "FactorFlow",
    "Passage",
    "RiemannianFlow",
    "Save",
    "Status",
    "Step",
    "Trajectory",
    "integrate",
]


def __getattr__(name: str) -> Any:
    """Return what had another name before 1.0."""
    if name == "Progress":
        warnings.warn("lowrankflow.flow.Progress is called Step now.", DeprecationWarning, stacklevel=2)
        return Step
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
