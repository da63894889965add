"""The loop of an integration: one accepted step after the other, each of which replaces the state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from scipy.optimize import brentq

from ..flows import Event, Moment, Save
from ..validation import Array
from .field import Field
from .methods import Methods
from .record import Record
from .state import State
from .trajectory import Status, Step, Trajectory, hand_over

__all__ = ["Limits", "Loop"]

Callback = Callable[[Step], None] | None
Interpolant = Callable[[], Callable[[float], Array]]  #: makes the interpolant of the last step

_SHARE = 1e-3  # of the way left to `gtol`: the largest tolerance
_FINEST = 1e-13  # the tolerance is not tightened beyond this: roundoff would choose the steps
_LONG = 100  # steps over which, and while the time doubles, nothing has to move for a run without end to stop


@dataclass(frozen=True)
class Limits:
    """How accurate a run is, and when it ends."""

    t_start: float
    t_end: float
    rtol: float
    atol: float
    gtol: float
    budget: float  #: gradients


class Loop:
    """Takes a state to its end. Nothing in it changes on the way but the books and the count of gradients."""

    field: Field
    limits: Limits
    events: Sequence[Event]
    keep_steps: bool
    record: Record

    def __init__(
        self, field: Field, methods: Methods, limits: Limits, save: Save, times: Array, events: Sequence[Event]
    ) -> None:
        self.field, self._methods, self.limits = field, methods, limits
        self._times, self.events, self._dense = times, events, save.dense
        self.keep_steps = save.times is None if save.steps is None else save.steps
        self.record = Record(field, save)
        self._scale = float(np.abs(field.system.y0).max())
        landings = times[times < limits.t_end] if save.exact else np.empty(0)
        self._stops = np.append(landings, limits.t_end)

    def first(self) -> State:
        """Return the state at the start, and keep it."""
        t, y = self.limits.t_start, self.field.system.y0
        self.record.keep(t, y)
        levels = tuple(event.level(t, self.field.system.point(y)) for event in self.events)
        for event, level in zip(self.events, levels, strict=True):
            if np.isnan(level):
                raise ValueError(f"`function` of event {event.name!r} must return a number, got nan at the start.")
        return State(t, y, self._methods.first(), levels, tuple(() for _ in self.events))

    def go(
        self, state: State, callback: Callback = None, keep: Callable[[State], None] | None = None, every: int = 1
    ) -> State:
        """Return the last state; call `keep` every so many steps, with all that is needed to go on.

        A KeyboardInterrupt is an end too, at the last step that was done; other exceptions take the run along.
        """
        try:
            if state.nsteps == 0:
                state = self._check_start(state)
            solver: Any = self._start(state) if state.status is None else None
            anew = False
            while state.status is None:
                before, state = state, self._step(state, solver)
                if state.status is Status.RANK_LOST:
                    state = self._crossed(before, state)
                    if state.status is None:
                        solver = self._start(state)
                        continue
                if callback is not None:
                    callback(Step(state.t, self.limits.t_end, self.field.nfev, state.stationarity))
                if state.status not in (None, Status.MAX_EVALUATIONS):
                    break
                state, anew = self._turn(state, solver)  # before a budget is raised too: then as if it had not ended
                if state.status is not None:
                    break
                due = keep is not None and state.nsteps % every == 0
                if anew or due or solver.status == "finished":
                    state = self._with_memory(state, solver, anew)
                    if keep is not None and due:
                        keep(state)
                    solver = self._start(state)
            self.record.keep(state.t, state.y)  # here, where an interrupt does not lose the run
            state = self._seen(state)
            if solver is not None and state.status in (Status.CONVERGED, Status.FINISHED, Status.MAX_EVALUATIONS):
                state = self._with_memory(state, solver, anew and state.status is Status.MAX_EVALUATIONS)
        except KeyboardInterrupt:
            state = state.over(Status.INTERRUPTED)
        except Exception as error:
            if state.nsteps:
                kept = replace(state, t=self.record.rows[-1].t)
                hand_over(error, lambda: self.trajectory(state), lambda: self.trajectory(kept))
            raise
        return replace(state, nfev=self.field.nfev)

    def trajectory(self, state: State) -> Trajectory:
        """Return what the run has seen, up to a state."""
        return self.record.trajectory(state, self.limits.t_end, [event.name for event in self.events])

    # ------------------------------------------------------------------------------------------------------------------
    # solvers

    def _start(self, state: State) -> Any:
        """Return a solver from the state to the next time to land on."""
        method = self._methods.method(state.choice).bounded_by(self.field.bound).solving_with(self.field.jacobian)
        bound = float(self._stops[self._stops > state.t][0])
        solver = method.start(
            self.field.velocity, state.t, state.y, bound, self._tolerances(state), state.step or None, state.memory
        )  # fmt: skip
        if not hasattr(solver, "atol"):
            solver.accuracy = self.accuracy(state)  # of LSODA, which cannot be told another one
        return solver

    def _with_memory(self, state: State, solver: Any, anew: bool = False) -> State:
        """Return the state from which a solver goes on as this one would; without its memory where it begins `anew`.

        After a landing a fixed step begins a grid of its own.
        """
        off_grid = self._methods.method(state.choice).fixed and solver.status == "finished"
        memory = {} if anew or off_grid else dict(getattr(solver, "memory", {}))
        return replace(state, memory=memory, nfev=self.field.nfev)

    def accuracy(self, state: State) -> float:
        """rtol, but on the way to `gtol` at most a thousandth of the stationarity over its largest.

        Errors of constant size would hold it up at ten to a hundred rtol: at its stability limit an explicit method
        keeps the fast modes excited at the size of its tolerance.
        """
        if not self.limits.gtol > 0 or not state.stationarity < state.peak:
            return self.limits.rtol
        return min(self.limits.rtol, max(_SHARE * state.stationarity / state.peak, _FINEST))

    def _tolerances(self, state: State) -> tuple[float, Array]:
        return self.field.system.tolerances(state.y, self.accuracy(state), self.limits.atol)

    def _turn(self, state: State, solver: Any) -> tuple[State, bool]:
        """Let "auto" judge, and repair the state above 10 rtol of defect; return whether the solver begins anew."""
        choice = self._methods.judge(state.choice, solver)
        too_coarse = self.accuracy(state) < getattr(solver, "accuracy", 0.0) / 10
        anew = choice.name != state.choice.name or too_coarse
        state = replace(state, choice=choice)
        if not self._methods.method(choice).fixed and state.drift > 10 * self.limits.rtol:
            repaired = self.field.system.repair(state.y)
            if not np.array_equal(repaired, state.y):
                return replace(state, y=repaired, restarts=state.restarts + 1), True
        return state, anew

    def _crossed(self, before: State, after: State) -> State:
        """Return how a run goes on where a singular value crossed zero in a step: not, unless with another method.

        What decays on the way to a limit of lower rank crosses by roundoff in the end: nothing else has moved then.
        """
        self.record.forget(before.t)
        if np.isinf(self.limits.t_end) and self.record.stands_still(before.t, 2):
            return before.over(Status.STALLED)
        choice = self._methods.after_crossing(before.choice, before.t)
        return after if choice is before.choice else replace(before, choice=choice, step=0.0, memory={})

    # ------------------------------------------------------------------------------------------------------------------
    # one step

    def _step(self, state: State, solver: Any) -> State:
        """Return the state after one more accepted step, or the same one with the reason why there is none."""
        field = self.field
        try:
            solver.step()
        except (ValueError, np.linalg.LinAlgError):  # scipy's implicit methods meet what is not finite in their algebra
            if field.evaluating or not field.lately_not_finite:
                raise
            return self._not_finite(state)
        if solver.status == "failed":
            return state.over(Status.STEP_TOO_SMALL) if field.last_finite else self._not_finite(state)
        if not np.abs(solver.y).max() <= 1e6 * self._scale and not field.finite(solver.y):  # keep the last state
            return state.over(Status.NOT_FINITE)
        field.next_step()
        before, t_old = state.y, float(solver.t_old)
        state = replace(state, t=float(solver.t), y=solver.y, nsteps=state.nsteps + 1)
        if self.keep_steps or self.limits.gtol > 0:  # now, while the gradient there is still at hand
            self.record.look(state.t, state.y)
        interpolant = cache(solver.dense_output)  # only made where it is needed: it can cost gradients
        if self.events:
            state = self._find_events(state, t_old, interpolant)
        self._keep(state, t_old, solver, interpolant)
        state = self._seen(state)
        drift = field.system.defect(state.y)
        state = replace(state, drift=drift, defect=max(state.defect, drift), step=_ahead(state, solver))
        if state.status is None and (lost := field.system.rank_lost(before, state.y)):
            state = state.over(Status.RANK_LOST, f" {lost}" if isinstance(lost, str) else "")
        state = self._check_end(state)
        if hasattr(solver, "atol") and not self._methods.method(state.choice).fixed:
            solver.atol = self._tolerances(state)[1]  # relative to what W is now
        return state

    def _not_finite(self, state: State) -> State:
        """Return the state with that end, and the integral whose rate it was."""
        name = self.field.blamed
        return state.over(Status.NOT_FINITE, f" It is the rate of integral {name!r}." if name else "")

    def _keep(self, state: State, t_old: float, solver: Any, interpolant: Interpolant) -> None:
        """Keep what was asked for of a step."""
        if self._dense:
            self.record.between(t_old, float(solver.t), interpolant())
        for t in self._times[(self._times > t_old) & (self._times <= state.t)]:
            self.record.keep(float(t), solver.y if t == solver.t else interpolant()(t))
        if self.keep_steps:
            self.record.keep(state.t, state.y)

    def _seen(self, state: State) -> State:
        """Return the state, over where the loss of what was kept last is not finite, whatever its gradient is."""
        loss, over = self.record.rows[-1].moment.loss, state.status is not None and not state.status.finished
        if over or np.isfinite(loss):
            return state
        return state.over(Status.NOT_FINITE, f" The loss was {loss:g} at t={self.record.rows[-1].t:.6g}.")

    def _find_events(self, state: State, t_old: float, interpolant: Interpolant) -> State:
        """Locate sign changes over the last step, in their order; at a terminal one end the step there."""
        point, t = self.field.system.point, state.t
        w, levels, found = point(state.y), [], []
        for i, (event, before) in enumerate(zip(self.events, state.levels, strict=True)):
            after = event.level(t, w)
            levels.append(after)
            if np.isnan(after):
                return _without_a_number(state, event, t)
            # a zero at the end of a step counts there, and not again at the start of the next
            if before == 0 or before * after > 0 or event.direction not in (0, np.sign(after - before)):
                continue
            ends = {t_old: before, t: after}  # the interpolant's roundoff must not undo the change of sign

            def level(x: float, event: Event = event, ends: dict[float, float] = ends) -> float:
                value = ends[x] if x in ends else event.level(x, point(interpolant()(x)))
                if np.isnan(value):
                    raise FloatingPointError
                return value

            try:
                found.append((brentq(level, t_old, t) if after else t, i))
            except FloatingPointError:
                return _without_a_number(state, event, t)
        hits = list(state.hits)
        for hit, i in sorted(found, key=lambda pair: pair[0]):
            hits[i] = (*hits[i], hit)
            if self.events[i].terminal:
                y = state.y if hit == t else interpolant()(hit)
                self.record.forget(hit)
                state = replace(state, t=hit, y=y).over(Status.EVENT, f" ({self.events[i].name} at t={hit:.6g})")
                break
        return replace(state, levels=tuple(levels), hits=tuple(hits))

    # ------------------------------------------------------------------------------------------------------------------
    # ends

    def _arrived(self, state: State, moment: Moment) -> State:
        """Return the state with its stationarity, CONVERGED where that has fallen to `gtol`."""
        state = replace(state, stationarity=moment.stationarity, peak=max(state.peak, moment.stationarity))
        if not np.isfinite(moment.loss):
            return state.over(Status.NOT_FINITE, f" The loss was {moment.loss:g} at t={state.t:.6g}.")
        return state.over(Status.CONVERGED) if state.stationarity <= self.limits.gtol else state

    def _check_start(self, state: State) -> State:
        """Return the state, with its end where the run is over before it began."""
        moment = self.record.look(state.t, state.y)
        if not (np.isfinite(self.field.velocity(state.t, state.y)).all() and np.isfinite(moment.loss)):
            return self._not_finite(state)
        return self._arrived(state, moment) if self.limits.gtol > 0 else state

    def _check_end(self, state: State) -> State:
        """Return the state after a step, with its end: convergence, the end of time, the budget."""
        finished = state.status is None and state.t >= self.limits.t_end
        if self.limits.gtol > 0 and state.status is None:
            state = self._arrived(state, self.record.look(state.t, state.y))
            if state.status is not None:
                return state
            if np.isinf(self.limits.t_end) and state.nsteps % 50 == 0 and self.record.stands_still(state.t, _LONG):
                return state.over(Status.STALLED)
        if finished:
            return state.over(Status.FINISHED)
        if state.status is None and self.field.nfev >= self.limits.budget:
            return state.over(Status.MAX_EVALUATIONS)
        return state


def _without_a_number(state: State, event: Event, t: float) -> State:
    """Return the state, over because an event said nothing."""
    return state.over(Status.NOT_FINITE, f" Event {event.name!r} returned nan near t={t:.6g}.")


def _ahead(state: State, solver: Any) -> float:
    """Return the next step of a solver, and at a landing the longest of it and the one that was planned before."""
    # LSODA does not say its next step; restarted with its last one it would never grow
    ahead = getattr(solver, "h_abs", None) or 2 * (solver.step_size or 0.0)
    return max(state.step if solver.status == "finished" else 0.0, float(ahead))
