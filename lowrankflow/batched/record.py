"""What a batch of runs has seen: states at the times asked for, and why each run ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from typing import Any

import array_api_compat as api
import numpy as np
from numpy.typing import NDArray

from .. import validation
from ..columns import NAMES
from ..flow import Status
from ..flows import Save
from ..validation import Array
from .arrays import Stack, groups, like, to_numpy
from .trajectories import Trajectories

__all__ = ["Record", "require_columns"]

_TOGETHER = 2**18  # numbers of the states that are measured together

Column = Callable[[Array, Any], Any]


class Record:
    """The books of a batch, in main memory: only ever added to.

    A member has a slot for its start, one for each time asked for, and one for its last state.
    """

    t: NDArray[Any]
    y: NDArray[Any]
    open: NDArray[Any]
    nfev: NDArray[Any]
    nsteps: NDArray[Any]
    restarts: NDArray[Any]

    def __init__(self, times: Array, y0: Stack) -> None:
        members, slots = times.shape
        self.t = np.full((members, slots), np.nan)
        self.y = np.repeat(to_numpy(y0)[:, None, :], slots, axis=1)  # a slot that is never reached holds the start
        self.t[:, 0] = times[:, 0]
        self.t[:, -1] = times[:, 0]
        self.status: NDArray[Any] = np.full(members, Status.INTERRUPTED, dtype=object)
        self.open = np.ones(members, dtype=bool)  #: what has not ended
        self.nfev, self.nsteps, self.restarts = (np.zeros(members, np.intp) for _ in range(3))

    def keep(self, members: NDArray[np.intp], slots: NDArray[np.intp] | int, t: Array, y: Stack) -> None:
        """Keep states."""
        self.t[members, slots], self.y[members, slots] = t, to_numpy(y)

    def end(self, members: NDArray[np.intp], status: Status, t: Array, y: Stack, **counts: NDArray[Any]) -> None:
        """Note how runs ended, and where."""
        self.keep(members, -1, t, y)
        self.status[members], self.open[members] = status, False
        for name, values in counts.items():
            getattr(self, name)[members] = values

    def trajectories(
        self, system: Any, reference: Stack, columns: Mapping[str, Column | None], points: bool, method: str
    ) -> Trajectories:
        """Return the runs, each slot measured for all members at once."""
        slots, loss = self.t.shape[1], system.loss
        points_of = partial(_points, _without_loss(system), reference[:0, ...])
        with np.errstate(all="ignore"):  # what overflowed is seen below
            parts = [self._measured(system.take(chosen), chosen, reference) for chosen in groups(reference, _TOGETHER)]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for name, function in columns.items():
            s = arrays["singular_values"]
            found = [
                _column(name, function, loss, self.t[:, j], points_of(self.y[:, j]), s[:, j]) for j in range(slots)
            ]
            arrays[name] = _where(~np.isnan(self.t), np.stack(found, axis=1))
        overflown = ~(np.isfinite(arrays["loss"]) & np.isfinite(arrays["stationarity"])) & ~np.isnan(self.t)
        self.status[overflown.any(axis=1)] = Status.NOT_FINITE
        kept = self.y if points else self.y[:, -1:]
        return Trajectories(
            t=self.t, status=self.status, nfev=self.nfev, nsteps=self.nsteps, restarts=self.restarts, method=method,
            **{name: arrays.pop(name) for name in ("loss", "stationarity", "singular_values")}, columns=arrays,
            _states=kept, _points=points_of,
        )  # fmt: skip

    def _measured(self, system: Any, members: NDArray[np.intp], reference: Stack) -> dict[str, Array]:
        """Return the numbers of some members at all moments."""
        found: dict[str, list[Array]] = {"loss": [], "stationarity": [], "singular_values": []}
        for j in range(self.t.shape[1]):
            y = like(reference, self.y[members, j])
            for name, value in zip(found, (system.value, system.stationarity, system.singular_values), strict=True):
                found[name].append(to_numpy(value(y)))
        reached = ~np.isnan(self.t[members])
        return {name: _where(reached, np.stack(values, axis=1)) for name, values in found.items()}


def require_columns(columns: Any) -> dict[str, Column | None]:
    """Return functions by name; None for a name of `lowrankflow.columns`."""
    if isinstance(columns, Mapping):
        Save(columns=columns)  # checks names and functions
        return dict(columns)
    found = validation.as_tuple(columns)
    if found is None:
        raise TypeError(f"`columns` must be names in a list, got {validation.describe(columns)}.")
    for name in found:
        validation.require_choice("columns", name, NAMES)
    if len(set(found)) < len(found):
        raise ValueError("`columns` must name each once, got one name twice.")
    return dict.fromkeys(found)


def _column(name: str, function: Column | None, loss: Any, t: Array, w: Any, s: Array) -> Array:
    """Return a column of all members at one slot."""
    if function is not None:
        value = function(t, w)
        array = np.asarray(to_numpy(value) if api.is_array_api_obj(value) else value, dtype=np.float64)
        if array.shape[:1] != t.shape:
            raise ValueError(
                f"`columns[{name!r}]` must return one number or array for each of {t.size} members, got shape {array.shape}."
            )
        return array
    if name == "effective_rank":
        return _effective_rank(s)
    if not hasattr(loss, "__getitem__"):
        raise TypeError(
            f"`columns` {name!r} needs `loss[i]`, the loss of one member, which {type(loss).__name__} has not."
        )
    return np.stack([np.asarray(NAMES[name](loss[i], float(t[i]), w[i]), np.float64) for i in range(t.size)])


def _effective_rank(s: Array) -> Array:
    """Return exp(-sum p ln p), p the singular values over their sum; 0 where all are zero."""
    total = s.sum(1, keepdims=True)
    p = np.divide(s, total, out=np.zeros_like(s), where=total > 0)
    entropy = -(p * np.log(p, where=p > 0, out=np.zeros_like(p))).sum(1)
    return np.where(total[:, 0] > 0, np.exp(entropy), 0.0)


def _where(reached: NDArray[np.bool_], value: Array) -> Array:
    return np.where(reached.reshape(*reached.shape, *[1] * (value.ndim - 2)), value, np.nan)


def _without_loss(system: Any) -> Any:
    """Return a system that still knows where W stands in y: what is kept of a run needs no loss."""
    found = copy(system)
    found.loss = None
    return found


def _points(system: Any, reference: Stack, y: Array) -> Any:
    """Return W of states, in arrays of the kind of the starts."""
    return system.points(like(reference, y))
