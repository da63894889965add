"""A run of descent on disk: written as it goes, taken up from where it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..flow import Status, Step, Trajectory
from ..flow.checkpoint import Checkpoint, Journal
from ..flow.record import pack_rows, unpack_rows
from ..flow.resume import AGREES, failed, gap, named
from ..gradients import pulled_back
from ..matrices import LinearNetwork
from ..validation import Array

if TYPE_CHECKING:
    from .updates import Descent, State

__all__ = ["Keeper"]

_OVER = (Status.NOT_FINITE, Status.BAD_STEP)  # endings after which a run cannot go on


class Keeper:
    """Writes the state of a run to a file as it goes, and takes it up from there.

    The file holds the state, the memory of the rule, what the run has kept, a description of the problem, and values and
    gradients at the start and at the state: the loss itself is not in it, and has to give them again.
    """

    def __init__(self, run: Descent, path: Path, every: int, keep_every: int | None) -> None:
        self._run, self._path, self._every, self._keep_every = run, path, every, keep_every
        self._journal, self._rows = Journal(path), 0  #: rows that are in the file

    def go(self, first: State, callback: Callable[[Step], None] | None) -> Trajectory:
        """Take the run up where the file exists, and go on to the end."""
        self._first = first
        state = self._take_up() if self._path.exists() else self._begin()
        if state.status is None:
            state = self._run.go(state, callback, self._write, self._every)
            if state.status is not Status.INTERRUPTED:
                try:
                    self._write(state)
                except KeyboardInterrupt:
                    state = replace(state, status=Status.INTERRUPTED)
        return self._run.trajectory(state)

    def _begin(self) -> State:
        """Write the start: a path that cannot be written is told before the work, not after."""
        self._write(self._first)
        return self._first

    def _measured(self, net: LinearNetwork) -> tuple[float, list[Array]]:
        loss = self._run.loss
        return float(loss.value(net)), pulled_back(net, loss.gradient(net))

    # ------------------------------------------------------------------------------------------------------------------
    # put down

    def _write(self, state: State) -> None:
        """Write the state and what has been kept since the last time; where that fails, hand over the run so far."""
        try:
            with named(self._path):
                if not self._journal.append(self._checkpoint(state, self._rows)):
                    self._journal.write(self._checkpoint(state, 0))
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError) and state.k == 0:  # a path that never could be written
                raise
            raise failed(error, self._path, state.t, self._run.trajectory(state)) from error
        self._rows = len(self._run.rows)

    def _checkpoint(self, state: State, rows: int) -> Checkpoint:
        """Return the state, with what was kept from the given number on."""
        places = {"first": self._first.net, "last": state.net}
        measured = {name: self._measured(net) for name, net in places.items()}
        arrays: dict[str, Array] = {}
        for name, net in places.items():
            arrays |= _listed(name, net.factors) | _listed(f"{name}_gradient", measured[name][1])
        for name, values in state.memory.items():
            arrays |= _listed(f"memory_{name}", values)
        head = {
            "descent": self._problem(),
            "keep_every": self._run.keep_every,
            "memory": list(state.memory),
            "values": [repr(value) for value, _ in measured.values()],
            "run": {"k": state.k, "t": state.t, "h": state.h, "nfev": state.nfev, "detail": state.detail}
            | {"status": None if state.status is None else state.status.name, "events": dict(state.events)},
        }
        added = self._run.rows[rows:]
        return Checkpoint(head, arrays, pack_rows(added, [row.w for row in added], tuple(self._run.columns)))

    def _problem(self) -> dict[str, Any]:
        """Return what makes a run another run."""
        run = self._run
        return {
            "rule": _identity(run.rule),
            "step_size": run.constant if run.constant is not None else _identity(run.step_size),
            "batches": None if run.batches is None else _identity(run.batches),
            "columns": list(run.columns),
        }

    # ------------------------------------------------------------------------------------------------------------------
    # take up

    def _take_up(self) -> State:
        """Return the state in the file, which has to be of the same problem."""
        with named(self._path):
            self._journal, saved = Journal.open(self._path)
        head, arrays, run = saved.head, saved.arrays, self._run
        if not isinstance(head.get("descent"), dict) or "run" not in head:
            raise ValueError(
                f"`checkpoint` must be a checkpoint of gradient_descent, got {str(self._path)!r} of something else."
            )
        for name, own in self._problem().items():
            if head["descent"].get(name) != own:
                self._refuse(f"{name} {head['descent'].get(name)}, not {own}")
        if self._keep_every not in (None, head["keep_every"]):
            self._refuse(f"keep_every {head['keep_every']}, not {self._keep_every}")
        run.keep_every = head["keep_every"]
        depth = self._first.net.depth
        first, factors = (_taken(name, arrays, depth) for name in ("first", "last"))
        if len(first) != depth or not all(map(np.array_equal, first, self._first.net.factors)):
            self._refuse("another start")
        last = LinearNetwork._trusted(factors)
        memory = {name: _taken(f"memory_{name}", arrays, depth) for name in head["memory"]}
        self._require_memory(memory)
        measured = [self._measured(net) for net in (self._first.net, last)]
        self._compare(measured, head["values"], arrays)
        plain = head["run"]
        self._compare_schedule(plain["k"], plain["h"])
        run.rows = unpack_rows(saved.rows, tuple(run.columns))
        self._rows = len(run.rows)
        state = replace(
            self._first, net=last, memory=memory, k=plain["k"], t=plain["t"], h=plain["h"], nfev=plain["nfev"],
            egrads=measured[1][1] if run.batches is None else None,
        )  # fmt: skip
        status = None if plain["status"] is None else Status[plain["status"]]
        if status in _OVER:
            return replace(state, status=status, detail=plain["detail"])
        # a test that ended it is asked again; the last row was kept because it was the last
        if run.rows and run.rows[-1].t >= state.t and state.k % run.keep_every and state.k < run.steps:
            run.rows.pop()
            # the gradient that it asked for is none of a run that had not ended
            state = replace(state, nfev=state.nfev - (run.batches is not None))
            self._journal = Journal(self._path)  # which writes the whole anew
        return state

    def _require_memory(self, memory: Mapping[str, Sequence[Array]]) -> None:
        """Refuse a file without the memory that the rule needs."""
        want = self._run.rule.start(self._first.net.factors)
        for name, arrays in want.items():
            if [a.shape for a in memory.get(name, ())] != [a.shape for a in arrays]:
                self._refuse(f"without the {name} of {_identity(self._run.rule)}")

    def _compare(self, now: list[tuple[float, list[Array]]], values: list[str], arrays: Mapping[str, Array]) -> None:
        """Refuse a loss that does not have the values and gradients of the file."""
        size = speed = 0.0  # the largest so far: what is nearly at rest is measured against the start
        for name, text, (value, egrads) in zip(("first", "last"), values, now, strict=True):
            then = np.concatenate([g.ravel() for g in _taken(f"{name}_gradient", arrays, len(egrads))])
            size, speed = max(size, abs(float(text))), max(speed, float(np.linalg.norm(then)))
            flat = np.concatenate([g.ravel() for g in egrads])
            away = max(gap(value, float(text), size), gap(flat, then, speed))
            if not away <= AGREES:
                where = "at the start" if name == "first" else "where the run was"
                self._refuse(f"a loss whose value or gradient {where} differs by {away:.2g}, relative")

    def _compare_schedule(self, k: int, h: float) -> None:
        """Refuse another schedule, as far as its last step tells."""
        size = self._run.step_size
        if k and callable(size) and not callable(getattr(size, "at", None)) and float(size(k - 1)) != h:
            self._refuse(f"a schedule with step {h:g} at update {k}, not {float(size(k - 1)):g}")

    def _refuse(self, why: str) -> None:
        raise ValueError(
            f"`checkpoint` must be of the same problem, got {str(self._path)!r} of another: {why}."
            " Delete it or name another file."
        )


def _identity(value: Any) -> str:
    """Return what a rule, a schedule or batches are: their repr where that says it, else their kind."""
    own = is_dataclass(value) or type(value).__repr__ is not object.__repr__
    return repr(value) if own and not isinstance(value, FunctionType) else type(value).__qualname__


def _listed(name: str, values: Sequence[Array]) -> dict[str, Array]:
    return {f"{name}_{j}": a for j, a in enumerate(values, 1)}


def _taken(name: str, arrays: Mapping[str, Array], depth: int) -> list[Array]:
    return [arrays[f"{name}_{j}"] for j in range(1, depth + 1) if f"{name}_{j}" in arrays]
