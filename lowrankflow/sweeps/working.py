"""Carry out jobs, wherever: each is written when it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import validation
from ..files import require_file
from ..problems.named_losses import is_code
from ..problems.sources import require_hash, source_hash
from .grids import RESERVED, Grid, Job
from .shards import Shard

if TYPE_CHECKING:
    from ..problems import Built
    from .runs import Run

__all__ = ["Work", "Worker"]

_READ = 64  #: losses that are kept


@dataclass(frozen=True)
class Work:
    """All that a worker needs: pickled once, whatever the number of jobs.

    Attributes
    ----------
    grid : Grid
        With its hashes.
    out : str
        The folder, as every worker sees it.
    function : callable, optional
        Called with the fields of a job.
    loss : str, optional
        "FILE.py:Name", where jobs name a loss of the user's.
    arrays : mapping
        What problems name as arrays in memory.
    """

    grid: Grid
    out: str
    function: Callable[..., Any] | None = None
    loss: str | None = None
    arrays: Mapping[str, Any] = field(default_factory=dict)

    def require_here(self) -> None:
        """Refuse a machine on which the folder or a file of the data is not what it is elsewhere.

        Raises
        ------
        ValueError
        """
        if not Path(self.out, "sweep.json").is_file():
            raise ValueError(f"`out` must be a folder that every worker sees, got {self.out!r}, which is not here.")
        for name, path, known in self.grid.files():
            require_file(name, path)
            require_hash(name, f"{path!r}", source_hash(name, path), {name: known})


class Worker:
    """What carries out jobs in one process, and writes them to a shard of its own."""

    work: Work
    shard: Shard

    def __init__(self, work: Work) -> None:
        self.work, self.shard = work, Shard(work.out)
        self._known: dict[Any, Any] = {}  # losses that were made

    def do(self, numbers: Sequence[int]) -> float:
        """Carry out jobs by their numbers; return the seconds that took.

        Raises
        ------
        OSError
            If a result cannot be written; those before are.
        KeyboardInterrupt
        """
        began = time.perf_counter()
        groups: dict[str, list[Job]] = {}
        for number in numbers:
            job = self.work.grid.job(number)
            groups.setdefault(job.shape, []).append(job)
        for shape, jobs in groups.items():
            for job in self._together(jobs) if shape and len(jobs) > 1 else jobs:
                self._alone(job)
        return time.perf_counter() - began

    def close(self) -> None:
        """Make what was written survive a loss of power."""
        self.shard.close()

    def _together(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Carry out jobs of one shape as one array; return those that have to go alone."""
        from .together import measure_together

        began = time.perf_counter()
        built: list[tuple[Built, Run]] = []
        able: list[Job] = []
        for job in jobs:
            with suppress(Exception):  # alone it says what it is
                built.append(self._built(job))
                able.append(job)
        found: Sequence[Mapping[str, Any] | None] = [None] * len(able)
        if len(able) > 1:
            with suppress(Exception):
                found = measure_together(built)
        each = (time.perf_counter() - began) / len(jobs)
        alone = [job for job in jobs if job not in able]
        for job, values in zip(able, found, strict=True):
            if values is None:
                alone.append(job)
            else:
                self._write(job, values, each, done=True)
        return alone

    def _alone(self, job: Job) -> None:
        """Carry out a job; whatever it raises, the others go on."""
        began, done = time.perf_counter(), True
        values: Mapping[str, Any]
        try:
            values = _plain(self._call(job) if self.work.function else self._measured(job))
        except Exception as error:
            values, done = {"error": f"{type(error).__name__}: {validation.reason(error)}"}, False
        self._write(job, values, time.perf_counter() - began, done=done)

    def _write(self, job: Job, values: Mapping[str, Any], seconds: float, *, done: bool) -> None:
        self.shard.append(bytes.fromhex(job.key), {**values, "seconds": round(seconds, 6)}, done=done)

    def _call(self, job: Job) -> Mapping[str, Any]:
        assert self.work.function is not None
        found = self.work.function(**job.entries)
        if not isinstance(found, Mapping):
            raise TypeError(f"`function` must return a mapping of names to values, got {validation.describe(found)}.")
        return found

    def _measured(self, job: Job) -> Mapping[str, Any]:
        from .measures import measure  # half of the library, which a function need not wait for

        return measure(*self._built(job))

    def _built(self, job: Job) -> tuple[Built, Run]:
        """Return the problem of a job, made, and its run."""
        problem, run = job.problem, job.run
        if run.kind == "compare":
            from ..compare.problems import with_metrics

            problem = with_metrics(problem)  # on which W(0) depends
        if len(self._known) > _READ:
            self._known.clear()
        loss = self.work.loss if is_code(problem.loss) else None
        return problem.build(loss=loss, known=self._known, **self._arrays(problem)), run

    def _arrays(self, problem: Any) -> dict[str, Any]:
        return {name: array for name, array in self.work.arrays.items() if getattr(problem, name) is not None}


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result as JSON has it: numbers, texts, and lists of them."""
    for name in found:
        if not isinstance(name, str) or not name or name in RESERVED:
            raise TypeError(f"A result must have a name of its own, none of {', '.join(RESERVED)}; got {name!r}.")
    return {name: _value(name, value) for name, value in found.items()}


def _value(name: str, value: Any) -> Any:
    if isinstance(value, (str, bool)) or type(value) in (int, float):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        return _value(name, value.tolist())
    if isinstance(value, (list, tuple)):
        return [_value(name, item) for item in value]
    if isinstance(value, Real):
        return float(value)
    raise TypeError(f"`{name}` of a result must be numbers, texts or lists of them, got {validation.describe(value)}.")
