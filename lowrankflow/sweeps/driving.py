"""`sweep`: hand out what is missing, in lists that are worth a message, and survive what happens."""

from __future__ import annotations

import math
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import validation
from ..problems.named_losses import is_code
from ..workers import Tell
from .folders import Folder
from .grids import MEMBERS_DIFFER_IN, Grid
from .results import Results, open_results
from .shards import Shard
from .teams import Ended, Here, Processes, Team
from .working import Work

__all__ = ["sweep"]

_WORTH = 0.2  #: seconds of work in a list of jobs: a message is then small beside it
_LONGEST = 512  #: jobs in a list
_FEW, _TOGETHER, _STACK = 8, 5.0, 32  #: of jobs that go together: jobs at first, seconds of work, jobs in a list
_LOOK = 0.5  #: seconds between two looks at what is written
_TWICE = 2  #: a job whose worker has died so often counts as failed


def sweep(
    grid: Grid | Mapping[str, Any] | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    function: Callable[..., Mapping[str, Any]] | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    retry: bool = False,
    loss: str | None = None,
    progress: Tell | None = None,
    **arrays: Any,
) -> Results:
    """Carry out all jobs of a grid that have no result yet, and return all results.

    Parameters
    ----------
    grid : Grid, mapping or path
        What varies, and what does not: a `lowrankflow.sweeps.Grid`, the tables of a grid file, or its path.
    out : path of a folder
        Where results are kept. Where it holds some of the same grid, or of one with fewer values on an axis, only what is
        missing is done; those of any other grid are refused.
    function : callable, optional
        Called with the fields of a job as keywords instead of running a problem; returns names and numbers, texts, or lists of
        them. Jobs are then known by its module and name: after a change of the function, take another folder.
    workers : int
        Processes of this machine, one BLAS thread each; 1: none but this one.
    scheduler : str, optional
        Address of a Dask scheduler, "tcp://HOST:PORT", whose workers do it instead; they must see the folder.
    retry : bool
        Do the jobs that failed once more.
    loss : str, optional
        "FILE.py:Name", where the grid names a loss of the user's, which runs only by being named here again.
    progress : callable, optional
        Told how many jobs are done and failed, and the part of the whole that is.
    **arrays : array
        ``inputs=``, ``targets=``, ``observed=``, ``factors=``, those that the problems name as arrays in memory.

    Returns
    -------
    Results

    Raises
    ------
    ValueError, TypeError, ImportError
        If the grid or another argument breaks its rule, the folder is not the one of this grid, the data cannot be read, or
        the scheduler does not answer: before anything is computed, and nothing in the folder is changed.
    OSError, RuntimeError
        If results cannot be written, or no worker is left. What was done is kept.
    KeyboardInterrupt
        What was done is kept; the same call goes on.

    Notes
    -----
    A job is known by the hash of what is done. Its result is appended to a file of the worker that did it, whole or not at
    all. Whoever dies, a worker, this process or the scheduler, only the jobs that were being done are done again; a job whose
    worker has died twice counts as failed. Several calls may work in one folder at once.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from lowrankflow.sweeps import Grid, sweep
    >>> grid = Grid.of(problem={"data": "iris", "rank": 1}, run={"until": 2.0}, grid={"depth": [2, 3], "seed": {"count": 2}})
    >>> with TemporaryDirectory() as folder:
    ...     found = sweep(grid, folder)
    >>> found.count("done"), found.values["loss"].shape
    (4, (2, 2))
    """
    validation.require_flags(retry=retry)
    validation.require_callable("progress", progress)
    validation.require_callable("function", function)
    workers = validation.require_integer("workers", workers, low=1)
    if scheduler is not None and (not isinstance(scheduler, str) or "://" not in scheduler):
        raise ValueError(f"`scheduler` must be an address, tcp://HOST:PORT, got {validation.describe(scheduler)}.")
    grid = _as_grid(grid, function)
    _require_given(grid, loss, arrays)
    grid.require_jobs()
    grid = grid.sealed()
    folder = Folder.for_grid(out, grid)
    work = Work(grid, str(folder.path.resolve()), function, None if loss is None else _whole(loss), arrays)
    todo = _todo(folder, retry)
    if todo:
        try:
            team = _team(work, min(workers, len(todo)), scheduler)
        except (ValueError, ImportError):
            folder.undo()
            raise
        _drive(folder, todo, team, progress or (lambda stage, part: None))
    return open_results(folder.path)


def _as_grid(given: Any, function: Callable[..., Any] | None) -> Grid:
    """Return the grid of what was given."""
    name = (
        ""
        if function is None
        else f"{function.__module__}:{getattr(function, '__qualname__', type(function).__name__)}"
    )
    if isinstance(given, Mapping):
        for table in given:
            if table not in ("problem", "run", "grid", "zip", "random"):
                raise ValueError(f"`grid` must have the tables problem, grid, zip, random and run; got {table!r}.")
        return Grid.of(**given, function=name)
    if isinstance(given, (str, os.PathLike)):
        given = Grid.from_toml(given)
    if not isinstance(given, Grid):
        raise TypeError(f"`grid` must be a Grid, its tables or a file, got {validation.describe(given)}.")
    if given.function != name:
        raise ValueError(
            f"`function` must be the one of the grid, {given.function or 'none'!r}, got {name or 'none'!r}."
        )
    return given


def _require_given(grid: Grid, loss: str | None, arrays: Mapping[str, Any]) -> None:
    """Refuse a loss or arrays that are not those of the grid, and a grid without those that it needs."""
    axes = [value for axis in grid.axes if "loss" in axis.fields for value in axis.column("loss")]
    named = [value for value in [grid.fixed.get("loss"), *axes] if isinstance(value, str) and is_code(value)]
    if named and loss is None and not grid.function:
        raise ValueError(
            f"`loss` must be given again where it is a file: the grid names {named[0]!r}, which is code. Read it first."
        )
    if loss is not None and (not named or grid.function):
        raise ValueError(f"`loss` must only be given again where the grid names FILE.py:Name, got {loss!r}.")
    for name in arrays:
        if name not in ("inputs", "targets", "observed", "factors"):
            raise TypeError(f"`arrays` must be inputs, targets, observed or factors, got {name}.")
        if not isinstance(grid.fixed.get(name), Mapping):
            raise ValueError(f"`{name}` must only be handed over where the grid names an array in memory.")


def _whole(loss: str) -> str:
    path, _, name = loss.rpartition(":")
    return f"{Path(path).resolve()}:{name}"


def _todo(folder: Folder, retry: bool) -> Sequence[int]:
    """Return the numbers of the jobs that are to be done."""
    folder.look()
    if retry:
        folder.failed.clear()
    grid = folder.grid
    left = [n for n, key in enumerate(grid.keys()) if key not in folder.done and key not in folder.failed]
    return grid.in_order(left, MEMBERS_DIFFER_IN) if _go_together(grid) else left


def _go_together(grid: Grid) -> bool:
    """Whether there are jobs that may be carried out as one array."""
    varies = any(set(axis.fields) <= MEMBERS_DIFFER_IN and len(axis) > 1 for axis in grid.axes)
    return varies and not grid.function and bool(grid.job(0).shape)


def _team(work: Work, workers: int, scheduler: str | None) -> Team:
    if scheduler is not None:
        try:
            from .cluster import Cluster
        except ImportError:
            raise ImportError('`scheduler` needs dask.distributed. Run: pip install "lowrankflow[dist]"') from None
        return Cluster(work, scheduler)
    return Here(work) if workers == 1 else Processes(work, workers)


def _drive(folder: Folder, todo: Sequence[int], team: Team, tell: Tell) -> None:
    """Have jobs done until none is missing; a second driver begins at the other end, so that the two meet."""
    run = _Driver(folder, deque(todo if folder.first_here() else reversed(todo)), team, tell)
    try:
        run.go()
    except BaseException:
        team.close(now=True)
        raise
    else:
        team.close(now=False)
    finally:
        folder.leave()
        run.shard.close()


class _Driver:
    """What is left to do, and who does what."""

    def __init__(self, folder: Folder, left: deque[int], team: Team, tell: Tell) -> None:
        self.folder, self.left, self.team, self.tell = folder, left, team, tell
        self.together = _go_together(folder.grid)
        self.shard = Shard(folder.path)  # for jobs that nobody lived to tell of
        self.again: deque[int] = deque()  # jobs whose worker died, each alone now
        self.deaths: Counter[int] = Counter()
        self.busy = 0
        self.pace = float("nan")  # seconds a job, lately
        self.looked = 0.0

    def go(self) -> None:
        while self.left or self.again or self.busy:
            while self.busy < self.team.size and (numbers := self._next()):
                self.team.hand(numbers)
                self.busy += 1
            for ended in self.team.wait(_LOOK) if self.busy else ():
                self.busy -= 1
                if ended.died:
                    self._died(ended)
                elif ended.numbers:
                    pace = ended.seconds / len(ended.numbers)
                    self.pace = pace if math.isnan(self.pace) else 0.7 * self.pace + 0.3 * pace
            if time.monotonic() - self.looked > _LOOK:
                self._look()
        self._look()

    def _next(self) -> Sequence[int]:
        """Return the next jobs to hand out, none that another driver has done meanwhile."""
        while self.again:
            number = self.again.popleft()
            if not self._has(number):
                return [number]
        longest, shape = self._longest(), ""
        numbers: list[int] = []
        while self.left and len(numbers) < longest:
            number = self.left[0]
            if not self._has(number):
                if self.together and (own := self.folder.grid.job(number).shape) != shape:
                    if numbers:
                        break
                    shape = own
                numbers.append(number)
            self.left.popleft()
        return numbers

    def _longest(self) -> int:
        """Return how many jobs the next list may have: worth a message, and towards the end all have something to do."""
        begin, worth, most = (_FEW, _TOGETHER, _STACK) if self.together else (1, _WORTH, _LONGEST)
        long = begin if math.isnan(self.pace) else int(worth / max(self.pace, 1e-9))
        long, left, size = max(1, min(long, most)), len(self.left), self.team.size
        if not self.together:
            return min(long, -(-left // (2 * size)))
        rounds = -(-left // (size * long))  # of equal lists: short arrays are dear
        return -(-left // (size * max(1, rounds)))

    def _has(self, number: int) -> bool:
        key = self.folder.grid.key(number)
        return key in self.folder.done or key in self.folder.failed

    def _died(self, ended: Ended) -> None:
        """Take back the jobs of a worker that died; the one that it was at may be why."""
        self.folder.look()
        rest = [number for number in ended.numbers if not self._has(number)]
        if not rest:
            return
        self.deaths[rest[0]] += 1
        if self.deaths[rest[0]] >= _TWICE:
            error = f"its worker died twice, lately by {ended.died}; perhaps for want of memory"
            self.shard.append(self.folder.grid.key(rest[0]), {"error": error, "seconds": 0.0}, done=False)
            rest = rest[1:]
        self.again.extendleft(reversed(rest))

    def _look(self) -> None:
        self.folder.look()
        self.looked = time.monotonic()
        done, failed, size = len(self.folder.done), len(self.folder.failed), self.folder.grid.size
        words = f"{done} of {size} jobs" + (f", {failed} failed" if failed else "")
        self.tell(words, min(1.0, (done + failed) / size))
