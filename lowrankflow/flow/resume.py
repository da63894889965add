"""A run on disk: written as it goes, taken up from where it was."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..losses import Loss
from ..validation import Array
from .checkpoint import Checkpoint, Journal
from .integrals import Accumulating
from .loop import Loop
from .state import State
from .trajectory import Status, Step, Trajectory

__all__ = ["AGREES", "CheckpointFailed", "Keeper", "failed", "gap", "named"]

#: endings after which a run cannot go on, whatever the limits
_OVER = (Status.EVENT, Status.STALLED, Status.RANK_LOST, Status.NOT_FINITE, Status.STEP_TOO_SMALL)
AGREES = 1e-9  # relative difference of value and velocity that another machine's roundoff may make


class CheckpointFailed(OSError):
    """A checkpoint could not be written, for instance on a full disk; ``trajectory`` holds the run so far."""

    trajectory: Trajectory


def failed(error: Exception, path: Path, t: float, trajectory: Trajectory) -> CheckpointFailed:
    """Return the error that says that a checkpoint could not be written, with the run so far."""
    failure = CheckpointFailed(
        getattr(error, "errno", None) or errno.EIO,
        f"`checkpoint` could not be written at t={t:.6g}"
        f" ({getattr(error, 'strerror', None) or 'its path can no longer be written'})."
        " Mend that and call again; the run so far is in `trajectory` of this error",
        str(path),
    )
    failure.trajectory = trajectory
    return failure


class Keeper:
    """Writes the state of a loop to a file as it goes, and takes it up from there.

    The file holds the state, what the run has kept, a description of the problem, and value and velocity at the start
    and at the state: the loss itself is not in it, and has to give them again.
    """

    def __init__(self, loop: Loop, loss: Loss, path: Path, every: int, problem: dict[str, Any]) -> None:
        self._loop, self._loss, self._every, self._problem = loop, loss, every, problem
        self._path, self._journal = path, Journal(path)
        self._first = self._measure(loop.limits.t_start, loop.field.system.y0)
        self._rows = self._looks = 0  #: of the record that are in the file

    def go(self, callback: Callable[[Step], None] | None) -> Trajectory:
        """Take the run up where the file exists, and go on to the end."""
        loop = self._loop
        if self._path.exists():
            state = self._take_up()
        else:
            state = loop.first()
            self._write(state)  # a path that cannot be written is told before the work, not after
        if state.status is None:
            state = loop.go(state, callback, self._write, self._every)
            if state.status is not Status.INTERRUPTED:
                try:
                    self._write(state)
                except KeyboardInterrupt:
                    state = state.over(Status.INTERRUPTED)
        return loop.trajectory(state)

    def _measure(self, t: float, y: Array) -> tuple[float, Array]:
        """Return value and velocity at a state, without counting."""
        system = self._loop.field.system
        return float(self._loss.value(system.point(y))), system.velocity(t, y)

    # ------------------------------------------------------------------------------------------------------------------
    # put down

    def _write(self, state: State) -> None:
        """Write the state and what has been kept since the last time; where that fails, hand over the run so far."""
        try:
            with named(self._path):
                if not self._journal.append(self._checkpoint(state, self._rows, self._looks)):
                    self._journal.write(self._checkpoint(state, 0, 0))
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError) and state.nsteps == 0:  # a path that never could be written
                raise
            raise failed(error, self._path, state.t, self._loop.trajectory(state)) from error
        self._rows, self._looks = len(self._loop.record.rows), len(self._loop.record.trace)

    def _checkpoint(self, state: State, rows: int, looks: int) -> Checkpoint:
        """Return the state, with what was kept from the given numbers on."""
        head, arrays = state.pack()
        values = [self._first, self._measure(state.t, state.y)]
        arrays |= {f"{name}_velocity": velocity for name, (_, velocity) in zip(_PLACES, values, strict=True)}
        arrays |= {"first": self._loop.field.system.y0, "first_rates": _first_rates(self._loop)}
        head = {"problem": self._problem, "run": head, "values": [repr(value) for value, _ in values]}
        return Checkpoint(head, arrays, self._loop.record.pack(rows, looks))

    # ------------------------------------------------------------------------------------------------------------------
    # take up

    def _take_up(self) -> State:
        """Return the state in the file, which has to be of the same problem."""
        with named(self._path):
            self._journal, saved = Journal.open(self._path)
        head, arrays, loop = saved.head, saved.arrays, self._loop
        if not isinstance(head.get("problem"), dict) or "run" not in head:
            raise ValueError(
                f"`checkpoint` must be a checkpoint of integrate, got {str(self._path)!r} of something else."
            )
        then = {"checkpoint_every" if name == "every" else name: value for name, value in head["problem"].items()}
        for name, own in self._problem.items():
            if then.get(name) != own:
                self._refuse(f"{name} {then.get(name)}, not {own}")
        if not np.array_equal(arrays["first"], loop.field.system.y0):
            self._refuse("another start")
        state = State.unpack(head["run"], arrays)
        if state.t > loop.limits.t_end:
            raise ValueError(
                f"`t_span` must not end before the checkpoint, got {loop.limits.t_end:g} with one at t={state.t:g}."
            )
        self._compare(state, head["values"], arrays)
        loop.record.restore(saved.rows)
        self._compare_functions(state, arrays)
        loop.field.nfev = state.nfev
        self._rows, self._looks = len(loop.record.rows), len(loop.record.trace)
        return self._with_room(state)

    def _compare(self, state: State, values: list[str], arrays: Mapping[str, Array]) -> None:
        """Refuse a loss that does not have the values and velocities of the file."""
        now = [self._first] if state.status in _OVER else [self._first, self._measure(state.t, state.y)]
        value = speed = 0.0  # the largest so far: what is nearly at rest is measured against the start
        for name, t, text, found in zip(_PLACES, (self._loop.limits.t_start, state.t), values, now, strict=False):
            then = float(text), arrays[f"{name}_velocity"]
            value, speed = max(value, abs(then[0])), max(speed, float(np.linalg.norm(then[1])))
            away = max(gap(found[0], then[0], value), gap(found[1], then[1], speed))
            if not away <= AGREES:
                self._refuse(f"a loss whose value or velocity at t={t:.6g} differs by {away:.2g}, relative")

    def _compare_functions(self, state: State, arrays: Mapping[str, Array]) -> None:
        """Refuse rates, columns and events of the names in the file that are other functions."""
        loop = self._loop
        if _away(_first_rates(loop), arrays["first_rates"]):
            self._refuse("integrals with other rates at the start")
        for name, then, function in loop.record.last_columns():
            now = function()
            if _away(now, then) and _repeats(function, now):
                self._refuse(f"another column {name!r} at the last time that was kept")
        if state.status is not Status.EVENT:  # there they belong to the end of the step
            w = loop.field.system.point(state.y)
            for event, level in zip(loop.events, state.levels, strict=True):
                if _away(event.level(state.t, w), level):
                    self._refuse(f"another function of event {event.name!r} at t={state.t:.6g}")

    def _with_room(self, state: State) -> State:
        """Return the state with its end, or without where the limits leave it room now."""
        limits, status = self._loop.limits, state.status
        if status in _OVER:
            return state
        if status is not None and limits.gtol > 0 and state.stationarity <= limits.gtol:
            return state.over(Status.CONVERGED, state.detail)
        if state.t >= limits.t_end:  # a checkpoint may lie on a new end
            return state.over(Status.FINISHED, state.detail)
        if status is not None and state.nfev >= limits.budget:
            return state.over(Status.MAX_EVALUATIONS, state.detail)
        return replace(state, status=None)

    def _refuse(self, why: str) -> None:
        raise ValueError(
            f"`checkpoint` must be of the same problem, got {str(self._path)!r} of another: {why}."
            " Delete it or name another file."
        )


_PLACES = ("first", "y")  # where value and velocity are in the file


def _first_rates(loop: Loop) -> Array:
    """Return the rates of the integrals at the start."""
    system = loop.field.system
    return system.first if isinstance(system, Accumulating) else np.empty(0)


def _repeats(function: Callable[[], Any], value: Any) -> bool:
    """Return whether a function gives the same bits again: one that tells the hour, which is no function of (t, W), does not."""
    time.sleep(1e-3)  # clocks tick in less
    return np.array_equal(function(), value, equal_nan=True)


def _away(a: Any, b: Any) -> bool:
    """Return whether two numbers or arrays differ by more than roundoff makes them."""
    return np.shape(a) != np.shape(b) or not gap(a, b, float(np.linalg.norm(np.nan_to_num(b)))) <= AGREES


def gap(a: Any, b: Any, scale: float) -> float:
    """Return the distance over the scale; zero where both are not finite in the same way."""
    same = np.array_equal(a, b, equal_nan=True)
    return 0.0 if same else float(np.linalg.norm(np.subtract(a, b))) / (scale or 1.0)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Let messages about the file name the argument that the user gave."""
    try:
        yield
    except ValueError as error:
        raise ValueError(str(error).replace("`path`", "`checkpoint`")) from None
