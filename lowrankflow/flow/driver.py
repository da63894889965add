"""The loop of an integration: which solver, when to stop, when to repair, when to write a checkpoint."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..validation import Array
from .checkpoint import Checkpoint
from .methods import Automatic, Method
from .run import Run
from .trajectory import Moment, Progress, Status, Trajectory

__all__ = ["CheckpointFailed", "Driver", "Keeper"]

Callback = Callable[[Progress], None] | None


class CheckpointFailed(OSError):
    """A checkpoint could not be written, for instance on a full disk; ``trajectory`` holds the run so far."""

    trajectory: Trajectory


class Driver:
    """Takes a `Run` to its end by a method, or by those that "auto" chooses."""

    def __init__(
        self, run: Run, method: Method | None, *, rtol: float, atol: float, gtol: float, budget: float
    ) -> None:
        self.run, self.rtol, self.atol, self.gtol, self.budget = run, rtol, atol, gtol, budget
        self.given = method
        self.automatic = Automatic(rtol) if method is None else None
        self.natural = 0.0  #: the next step, as if it were not shortened to land on a time
        self.memory: dict[str, Array] = {}  #: of one of our solvers, to go on to the same bits
        self.stationarity = np.nan
        self.peak = 0.0  #: the largest stationarity of the run
        self.detail = ""  #: of the end, for people
        landings = run.times[run.times < run.t_end] if run.save.exact else np.empty(0)
        self._stops = np.append(landings, run.t_end)

    @property
    def method(self) -> Method:
        """The method to use now."""
        return cast(Method, self.given) if self.automatic is None else self.automatic.method

    @property
    def accuracy(self) -> float:
        """rtol, but on the way to `gtol` at most a thousandth of the stationarity over its largest.

        Errors of constant size would hold it up at ten to a hundred rtol: at its stability limit an explicit method
        keeps the fast modes excited at the size of its tolerance.
        """
        if not self.gtol > 0 or not self.stationarity < self.peak:
            return self.rtol
        return min(self.rtol, max(_SHARE * self.stationarity / self.peak, _FINEST))

    @property
    def label(self) -> str:
        """The method for people; with "auto", which ones and why."""
        return self.method.name if self.automatic is None else "; ".join(self.automatic.log)

    def go(self, callback: Callback, keep: Callable[[], None] | None = None, every: int = 1) -> Trajectory:
        """Run to the end; call `keep` every so many steps, with all that is needed to go on in `memory`."""
        run, status = self.run, None
        try:
            status = self.check_start() if run.steps == 0 else None
            solver: Any = self._start() if status is None else None
            while status is None:
                status, self.detail = run.advance(solver)
                landed = solver.status == "finished"
                # LSODA does not say its next step; restarted with its last one it would never grow
                ahead = getattr(solver, "h_abs", None) or 2 * (solver.step_size or 0.0)
                self.natural = max(self.natural if landed else 0.0, ahead)
                status = self.check_end(status)
                if hasattr(solver, "atol") and not self.method.fixed:
                    solver.atol = self._tolerances()[1]  # relative to what W is now
                if callback is not None:
                    callback(Progress(run.t, run.t_end, run.nfev, self.stationarity))
                if status is not None:
                    break
                changed = self._change(solver)
                due = keep is not None and run.steps % every == 0
                if changed or landed or due:
                    goes_on = not (changed or (landed and self.method.fixed))
                    self.memory = dict(getattr(solver, "memory", {})) if goes_on else {}
                    if due:
                        cast(Callable[[], None], keep)()
                    solver = self._start()
            if solver is not None and status in (Status.CONVERGED, Status.FINISHED, Status.MAX_EVALUATIONS):
                on_grid = not (self.method.fixed and solver.status == "finished")
                self.memory = dict(getattr(solver, "memory", {})) if on_grid else {}
            run.record(run.t, run.y)  # here, where an interrupt does not lose the run
        except KeyboardInterrupt:
            status, self.detail = Status.INTERRUPTED, ""
        return self.trajectory(status)

    def trajectory(self, status: Status) -> Trajectory:
        """Return what the run has seen."""
        return self.run.trajectory(status, self.detail, self.label)

    def _start(self) -> Any:
        """Return a solver from the present state to the next time to land on."""
        run, method = self.run, self.method.bounded_by(self.run.bound)
        bound = float(self._stops[self._stops > run.t][0])
        return method.start(run.velocity, run.t, run.y, bound, self._tolerances(), self.natural or None, self.memory)

    def _tolerances(self) -> tuple[float, Array]:
        tolerances: tuple[float, Array] = self.run.full.tolerances(self.run.y, self.accuracy, self.atol)
        return tolerances

    def _arrived(self, moment: Moment) -> bool:
        """Take note of the stationarity; return whether it has fallen to `gtol`."""
        self.stationarity = moment.stationarity
        self.peak = max(self.peak, self.stationarity)
        return self.stationarity <= self.gtol

    def check_start(self) -> Status | None:
        """Return the status of a run that is over before it began."""
        run, moment = self.run, self.run.kept[0][3]
        if not (np.isfinite(run.velocity(run.t, run.y)).all() and np.isfinite(moment.loss)):
            return Status.NOT_FINITE
        return Status.CONVERGED if self.gtol > 0 and self._arrived(moment) else None

    def check_end(self, status: Status | None) -> Status | None:
        """Return the status after a step: convergence and the budget besides what the step itself said."""
        run = self.run
        if self.gtol > 0 and status in (None, Status.FINISHED):
            if self._arrived(run.look(run.t, run.y)[1]):
                return Status.CONVERGED
            if np.isinf(run.t_end) and run.steps % 50 == 0 and run.stands_still(_LONG):
                return Status.STALLED
        if status is None and run.nfev >= self.budget:
            status = Status.MAX_EVALUATIONS
        return status

    def _change(self, solver: Any) -> bool:
        """Repair the state above 10 rtol of defect, and let "auto" look; return whether the solver has to change."""
        run = self.run
        changed = self.automatic is not None and self.automatic.look(solver)
        if not self.method.fixed and run.last_defect > 10 * self.rtol:
            repaired = run.full.repair(run.y)
            if not np.array_equal(repaired, run.y):
                run.now, run.restarts = (run.t, repaired), run.restarts + 1
                changed = True
        return changed


_SHARE = 1e-3  # of the way left to `gtol`: the largest tolerance
_FINEST = 1e-13  # the tolerance is not tightened beyond this: roundoff would choose the steps
_LONG = 100  # steps over which, and while the time doubles, nothing has to move for a run without end to stop

#: endings after which a run cannot go on, whatever the limits
_OVER = (Status.EVENT, Status.STALLED, Status.RANK_LOST, Status.NOT_FINITE, Status.STEP_TOO_SMALL)
_AGREES = 1e-9  # relative difference of value and velocity that another machine's roundoff may make


class Keeper:
    """Writes a driver's run to a file as it goes, and takes it up from there.

    The file holds the run, the solver's memory, a description of the problem, and value and velocity at the
    start and at the state.
    """

    def __init__(self, driver: Driver, path: Path, every: int, problem: dict[str, Any]) -> None:
        self.driver, self.path, self.every, self.problem = driver, path, every, problem
        self._first = driver.run.full.y0

    def go(self, callback: Callback) -> Trajectory:
        """Take the run up where the file exists, and go on to the end."""
        driver, ended = self.driver, None
        if self.path.exists():
            ended = self._take_up()
        else:
            self.write(None)  # a path that cannot be written is told before the work, not after
        path = driver.trajectory(ended) if ended else driver.go(callback, lambda: self.write(None), self.every)
        if not ended and path.status is not Status.INTERRUPTED:
            try:
                self.write(path.status)
            except KeyboardInterrupt:
                return driver.trajectory(Status.INTERRUPTED)
        return path

    def write(self, status: Status | None) -> None:
        """Write the file; where that fails, hand over the run so far."""
        driver, run = self.driver, self.driver.run
        head, arrays = run.snapshot()
        arrays |= {f"memory_{name}": a for name, a in driver.memory.items()}
        arrays |= {"first": self._first}
        values = []
        for name, t, y in (("first", self.problem["t_span[0]"], self._first), ("y", run.t, run.y)):
            value, arrays[f"{name}_velocity"] = self._measure(t, y)
            values.append(repr(value))
        automatic = driver.automatic
        if automatic is not None:
            arrays |= {f"automatic_{name}": a for name, a in automatic.arrays.items()}
        head = {
            "problem": self.problem,
            "run": head,
            "values": values,
            "natural": driver.natural,
            "stationarity": repr(driver.stationarity),
            "peak": repr(driver.peak),
            "automatic": None if automatic is None else automatic.head,
            "status": None if status is None else status.name,
            "detail": driver.detail,
        }
        try:
            with _named(self.path):
                Checkpoint(head, arrays).write(self.path)
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError) and run.steps == 0:  # a path that never could be written
                raise
            failure = CheckpointFailed(
                getattr(error, "errno", None) or errno.EIO,
                f"`checkpoint` could not be written at t={run.t:.6g}"
                f" ({getattr(error, 'strerror', None) or 'its path can no longer be written'})."
                " Mend that and call again; the run so far is in `trajectory` of this error",
                str(self.path),
            )
            failure.trajectory = driver.trajectory(status or Status.INTERRUPTED)
            raise failure from error

    def _measure(self, t: float, y: Array) -> tuple[float, Array]:
        """Return value and velocity at a state, without counting."""
        run = self.driver.run
        return float(run.flow.loss.value(run.point(y))), run.full.velocity(t, y)

    def _take_up(self) -> Status | None:
        """Restore the run from the file; return its status if it is over."""
        with _named(self.path):
            saved = Checkpoint.read(self.path)
        head, arrays, driver = saved.head, saved.arrays, self.driver
        if not isinstance(head.get("problem"), dict) or "run" not in head:
            raise ValueError(
                f"`checkpoint` must be a checkpoint of integrate, got {str(self.path)!r} of something else."
            )
        for name, own in self.problem.items():
            if head["problem"].get(name) != own:
                self._refuse(f"{name} {head['problem'].get(name)}, not {own}")
        if not np.array_equal(arrays["first"], self._first):
            self._refuse("another start")
        status = None if head["status"] is None else Status[head["status"]]
        state = (head["run"]["t"], arrays["y"])
        if state[0] > driver.run.t_end:
            raise ValueError(
                f"`t_span` must not end before the checkpoint, got {driver.run.t_end:g} with one at t={state[0]:g}."
            )
        value, speed = 0.0, 0.0  # the largest so far: what is nearly at rest is measured against the start
        states = (("first", self.problem["t_span[0]"], self._first), ("y", *state))
        for (name, t, y), text in zip(states[: 1 if status in _OVER else 2], head["values"], strict=False):
            then, now = (float(text), arrays[f"{name}_velocity"]), self._measure(t, y)
            value, speed = max(value, abs(then[0])), max(speed, float(np.linalg.norm(then[1])))
            away = _gap(now[0], then[0], value), _gap(now[1], then[1], speed)
            if not max(away) <= _AGREES:
                self._refuse(f"a loss whose value or velocity at t={t:.6g} differs by {max(away):.2g}, relative")
        driver.run.restore(saved)
        driver.natural, driver.stationarity = head["natural"], float(head["stationarity"])
        driver.peak, driver.detail = float(head["peak"]), head["detail"]
        driver.memory = {k.removeprefix("memory_"): a for k, a in arrays.items() if k.startswith("memory_")}
        if driver.automatic is not None:
            own = {k.removeprefix("automatic_"): a for k, a in arrays.items() if k.startswith("automatic_")}
            driver.automatic.restore(head["automatic"], own)
        return self._still_over(status)

    def _still_over(self, status: Status | None) -> Status | None:
        """Return the status of a run that had ended, unless the limits leave it room now."""
        driver, run = self.driver, self.driver.run
        if status is None:  # it was going on; a checkpoint may lie on a new end
            return Status.FINISHED if run.t >= run.t_end else None
        if status in _OVER:
            return status
        if driver.gtol > 0 and driver.stationarity <= driver.gtol:
            return Status.CONVERGED
        if run.t >= run.t_end:
            return Status.FINISHED
        return Status.MAX_EVALUATIONS if run.nfev >= driver.budget else None

    def _refuse(self, why: str) -> None:
        raise ValueError(
            f"`checkpoint` must be of the same problem, got {str(self.path)!r} of another: {why}."
            " Delete it or name another file."
        )


def _gap(a: Any, b: Any, scale: float) -> float:
    """Return the distance over the scale; zero where both are not finite in the same way."""
    same = np.array_equal(a, b, equal_nan=True)
    return 0.0 if same else float(np.linalg.norm(np.subtract(a, b))) / (scale or 1.0)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let messages about the file name the argument that the user gave."""
    try:
        yield
    except ValueError as error:
        raise ValueError(str(error).replace("`path`", "`checkpoint`")) from None
