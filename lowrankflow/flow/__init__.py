"""Integrate a flow: the loop, its state, its methods, its record, its files.

What is handed in lies below, in `flows`: what moves, what to keep, what to look for.
"""

from ..flows import Event, FactorFlow, RiemannianFlow, Save
from .integration import integrate
from .passages import Passage
from .resume import CheckpointFailed
from .trajectory import Progress, Status, Trajectory

__all__ = [
    "CheckpointFailed",
    "Event",
    "FactorFlow",
    "Passage",
    "Progress",
    "RiemannianFlow",
    "Save",
    "Status",
    "Trajectory",
    "integrate",
]
