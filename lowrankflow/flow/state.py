"""All that an integration is between two steps, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from ..validation import Array
from .methods import Choice
from .trajectory import Status

__all__ = ["State"]


@dataclass(frozen=True)
class State:
    """The state of an integration; the loop replaces it, so that an interrupt finds the whole of one step or another.

    What a run has kept is not in it, nor is the solver: that is made anew from `t`, `y`, `step` and `memory`.
    """

    t: float
    y: Array
    choice: Choice  #: the method in use
    levels: tuple[float, ...] = ()  #: of the events' functions
    hits: tuple[tuple[float, ...], ...] = ()  #: when each event occurred
    step: float = 0.0  #: the next one, as if it were not shortened to land on a time; 0: not known
    memory: Mapping[str, Array] = field(default_factory=dict)  #: of one of our steppers, to go on to the same bits
    stationarity: float = np.nan
    peak: float = 0.0  #: the largest stationarity so far
    nfev: int = 0  #: gradients
    nsteps: int = 0
    restarts: int = 0  #: repairs of the chart
    drift: float = 0.0  #: the defect of the chart at y
    defect: float = 0.0  #: the largest so far
    status: Status | None = None  #: None while it goes on
    detail: str = ""  #: of the end, for people

    def over(self, status: Status, detail: str = "") -> State:
        """Return the state with its end."""
        return replace(self, status=status, detail=detail)

    def pack(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return the state as JSON and arrays."""
        choice = asdict(self.choice)
        arrays = {"y": self.y, "radius": choice.pop("radius"), "direction": choice.pop("direction")}
        head = {name: getattr(self, name) for name in _PLAIN}
        head |= {"choice": choice, "status": None if self.status is None else self.status.name}
        return head, arrays | {f"memory_{name}": a for name, a in self.memory.items()}

    @classmethod
    def unpack(cls, head: Mapping[str, Any], arrays: Mapping[str, Array]) -> State:
        """Return the state that `pack` packed, among other arrays."""
        plain = {name: head[name] for name in _PLAIN}
        plain |= {"levels": tuple(head["levels"]), "hits": tuple(map(tuple, head["hits"]))}
        choice = head["choice"] | {"log": tuple(head["choice"]["log"])}
        return cls(
            y=arrays["y"],
            choice=Choice(**choice, radius=arrays["radius"], direction=arrays["direction"]),
            memory={name.removeprefix("memory_"): a for name, a in arrays.items() if name.startswith("memory_")},
            status=None if head["status"] is None else Status[head["status"]],
            **plain,
        )


#: what JSON holds as it is
_PLAIN = (
    "t", "levels", "hits", "step", "stationarity", "peak", "nfev", "nsteps", "restarts", "drift", "defect", "detail",
)  # fmt: skip
