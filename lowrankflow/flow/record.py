"""What a run has seen: the states that are kept, the numbers of all that were looked at, the interpolants."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
from scipy.integrate import OdeSolution

from .. import validation
from ..flows import Column, Moment, Point, Save
from ..matrices import EPS
from ..validation import Array
from .checkpoint import pack_points, unpack_points
from .field import Field
from .integrals import Accumulating
from .passages import saddle_passages
from .state import State
from .trajectory import Dense, Status, Trajectory

__all__ = ["Points", "Record", "Row", "as_column", "pack_rows", "unpack_rows"]


class Row(NamedTuple):
    """A state that is kept."""

    t: float
    w: Any  #: W; of a flow the coordinates that it is made of, where no column asked for it
    moment: Moment
    columns: tuple[Array, ...]  #: integrals first, in the order of their names


class Points(Sequence[Any]):
    """W at the kept times, made of its coordinates where it is first asked for: what nobody looks at costs nothing."""

    def __init__(self, points: Sequence[Point | Array], make: Callable[[Array], Point]) -> None:
        self._points, self._make = list(points), make

    def __len__(self) -> int:
        return len(self._points)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(len(self))[i]]
        w = self._points[i]
        if isinstance(w, np.ndarray):
            w = self._points[i] = self._make(w)
        return w


class Record:
    """The books of a run: only ever added to, in the order of time."""

    def __init__(self, field: Field, save: Save) -> None:
        self._field, self._save = field, save
        self._columns = cast(Mapping[str, Column], save.columns)  # by name they are looked up before
        self.rows: list[Row] = []
        self.trace: list[tuple[float, Moment]] = []
        self._last: tuple[float, Moment] | None = None  #: the last state looked at
        self._knots: list[float] = []
        self._interpolants: list[Any] = []

    def look(self, t: float, y: Array) -> Moment:
        """Return the numbers of W; the last state looked at is not looked at again."""
        if self._last is None or self._last[0] != t:
            self._last = t, self._field.measure(y)
            if not self.trace or t > self.trace[-1][0]:
                self.trace.append(self._last)
        return self._last[1]

    def keep(self, t: float, y: Array) -> None:
        """Keep W, its numbers and its columns; a time already kept is kept once."""
        if self.rows and t <= self.rows[-1].t:
            return
        moment, system = self.look(t, y), self._field.system
        integrals = system.integrals(y) if isinstance(system, Accumulating) else []
        w = system.point(y) if self._columns else y[: self._field.chart_system.y0.size]
        columns = [self._column(i, name, function(t, w)) for i, (name, function) in enumerate(self._columns.items())]
        self.rows.append(Row(t, w, moment, (*map(np.asarray, integrals), *columns)))

    def _column(self, i: int, name: str, found: Any) -> Array:
        """Return what a column's function returned, of the shape that it had at first."""
        return as_column(name, found, self.rows[0].columns[len(self._save.integrals) + i] if self.rows else None)

    def between(self, t_old: float, t: float, interpolant: Any) -> None:
        """Keep the interpolant of a step."""
        self._knots = self._knots or [t_old]
        self._knots.append(t)
        self._interpolants.append(interpolant)

    def stands_still(self, t: float, steps: int) -> bool:
        """Whether nothing has moved over so many steps and while the time doubled; from states looked at.

        The loss has not fallen but for roundoff, no singular value has grown, as one does on a plateau, and the
        stationarity is no lower in the second half of that stretch than in the first.
        """
        half = bisect_left(self.trace, (self.trace[0][0] + t) / 2, key=lambda row: row[0])
        stretch = self.trace[min(half, max(len(self.trace) - steps, 0)) :]
        if len(stretch) < steps:
            return False
        then, now = stretch[0][1], stretch[-1][1]
        early, late = (
            min(moment.stationarity for _, moment in part)
            for part in (stretch[: len(stretch) // 2], stretch[len(stretch) // 2 :])
        )
        fell = then.loss - now.loss > 100 * EPS * max(abs(self.trace[0][1].loss), abs(now.loss))
        grew = (now.singular_values > then.singular_values * (1 + 1e-6)).any()
        return not fell and not grew and late > early / 2

    def trajectory(self, state: State, t_end: float, events: Sequence[str]) -> Trajectory:
        """Return what was seen up to a state that is over; what an interrupted step has added is left out."""
        self.forget(state.t)
        self.keep(state.t, state.y)
        status = state.status or Status.INTERRUPTED
        t, points, moments, columns = zip(*self.rows, strict=True)
        loss, stationarity, _, s = zip(*moments, strict=True)
        names = (*self._save.integrals, *self._columns)
        where = f"t={state.t:.6g} of {t_end:.6g}, {state.nsteps} steps, {self._field.nfev} gradients."
        return Trajectory(
            t=np.array(t),
            loss=np.array(loss),
            singular_values=np.array(s),
            stationarity=np.array(stationarity),
            points=Points(points, self._field.chart_system.point),
            status=status,
            message=f"{status.value}{state.detail} {where}",
            nfev=self._field.nfev,
            nsteps=state.nsteps,
            restarts=state.restarts,
            defect=state.defect,
            events={name: list(hits) for name, hits in zip(events, state.hits, strict=True)},
            columns={name: np.array(values) for name, values in zip(names, zip(*columns, strict=True), strict=True)},
            method=state.choice.label,
            passages=saddle_passages(self.trace),
            _dense=self._dense(),
        )

    def forget(self, t: float) -> None:
        """Leave out what lies beyond a time."""
        if self._last is not None and self._last[0] > t:
            self._last = None
        while len(self.rows) > 1 and self.rows[-1].t > t:
            self.rows.pop()
        while len(self.trace) > 1 and self.trace[-1][0] > t:
            self.trace.pop()
        while self._interpolants and self._knots[-2] >= t:  # the last may reach beyond an event
            self._knots.pop()
            self._interpolants.pop()

    def _dense(self) -> Dense | None:
        if not self._interpolants:
            return None
        system = self._field.chart_system
        return Dense(system.point, system.y0.size, OdeSolution(np.array(self._knots), self._interpolants))

    # ------------------------------------------------------------------------------------------------------------------
    # put down and take up again

    def pack(self, rows: int = 0, looks: int = 0) -> dict[str, Array]:
        """Return the rows and the trace, from the given numbers on, as arrays with one row each."""
        names = (*self._save.integrals, *self._columns)
        points = Points([row.w for row in self.rows[rows:]], self._field.chart_system.point)
        return _pack("trace", self.trace[looks:]) | pack_rows(self.rows[rows:], points, names)

    def last_columns(self) -> Iterator[tuple[str, Array, Callable[[], Any]]]:
        """Yield the name of each column, its value in the last row, and its function there."""
        row, skip = self.rows[-1], len(self._save.integrals)
        for i, (name, function) in enumerate(self._columns.items()):
            yield name, row.columns[skip + i], partial(function, row.t, row.w)

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Go on from what `pack` returned."""
        self.trace, self._last = _unpack("trace", arrays), None
        self.rows = unpack_rows(arrays, (*self._save.integrals, *self._columns))


def as_column(name: str, found: Any, first: Array | None) -> Array:
    """Return what a column's function returned, as numbers of the shape that it had at first."""
    array = validation.as_real(f"columns[{name!r}]", found)
    if first is not None and array.shape != first.shape:
        raise ValueError(f"`columns[{name!r}]` must return arrays of one shape, got {array.shape} after {first.shape}.")
    return array.astype(np.float64)


def pack_rows(rows: Sequence[Row], points: Sequence[Point], names: Sequence[str]) -> dict[str, Array]:
    """Return rows and their points as arrays with one row each; `names` are those of their columns."""
    arrays = _pack("kept", [(row.t, row.moment) for row in rows])
    arrays |= {f"kept_{name}": a for name, a in pack_points(points).items()}
    columns = {f"kept_column_{name}": [row.columns[i] for row in rows] for i, name in enumerate(names)}
    return arrays | {name: np.array(values) for name, values in columns.items() if rows}


def unpack_rows(arrays: Mapping[str, Array], names: Sequence[str]) -> list[Row]:
    """Return the rows that `pack_rows` packed, among other arrays."""
    points = unpack_points({name.removeprefix("kept_"): a for name, a in arrays.items()})
    columns = zip(*(arrays[f"kept_column_{name}"] for name in names), strict=True) if names else [()] * len(points)
    rows = zip(_unpack("kept", arrays), points, columns, strict=True)
    return [Row(t, w, moment, tuple(map(np.asarray, values))) for (t, moment), w, values in rows]


def _pack(name: str, rows: Sequence[tuple[float, Moment]]) -> dict[str, Array]:
    if not rows:
        return {}
    numbers = np.array([(t, *moment[:3]) for t, moment in rows])
    return {f"{name}_numbers": numbers, f"{name}_s": np.array([moment.singular_values for _, moment in rows])}


def _unpack(name: str, arrays: Mapping[str, Array]) -> list[tuple[float, Moment]]:
    rows = zip(arrays[f"{name}_numbers"].tolist(), arrays[f"{name}_s"], strict=True)
    return [(t, Moment(loss, stationarity, power, s)) for (t, loss, stationarity, power), s in rows]
