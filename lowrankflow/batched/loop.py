"""The loop of a batch: one attempt of all members after the other; what has ended leaves the array."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import array_api_compat as api
import numpy as np
from numpy.typing import NDArray

from ..flow import Status
from ..matrices import EPS
from . import explicit
from .arrays import Stack, namespace, taken, to_numpy
from .record import Record
from .systems import BatchedSystem

__all__ = ["IDLE", "BatchStep", "Limits", "Runs"]

_SHARE, _FINEST = 1e-3, 1e-13  # of the way left to `gtol` the tolerance, and its least, as of a single run
IDLE = 8  # the array is made smaller when one row in so many has ended: copying all the data costs as much as a step

_ENDS = (
    Status.NOT_FINITE, Status.RANK_LOST, Status.CONVERGED, Status.FINISHED, Status.STEP_TOO_SMALL, Status.MAX_EVALUATIONS
)  # fmt: skip


class BatchStep(NamedTuple):
    """What a `callback` is given after every step of the array."""

    members: int
    running: int  #: members that have not ended
    nfev: int  #: gradients so far, of all


@dataclass(frozen=True)
class Limits:
    """How accurate the runs are, and when they end."""

    grid: Stack  #: (R, K), the moments; the first is the start, the last the end
    rtol: Stack  #: (R,)
    gtol: Stack  #: (R,)
    converging: bool  #: whether any gtol is positive
    budget: float  #: gradients of a member

    def take(self, chosen: NDArray[np.intp]) -> Limits:
        """Return those of some of the members."""
        grid, rtol, gtol = (taken(a, chosen, 1) for a in (self.grid, self.rtol, self.gtol))
        return replace(self, grid=grid, rtol=rtol, gtol=gtol)


@dataclass(frozen=True)
class State:
    """All that the runs are between two attempts, one row a member; the loop replaces it."""

    t: Stack
    y: Stack
    slope: Stack  #: dy/dt at y
    h: Stack  #: the next step, as if it were not shortened to land on a moment
    slot: Stack  #: the number of the next moment
    rejected: Stack  #: whether the last attempt was
    stationarity: Stack
    peak: Stack  #: the largest stationarity so far
    size: Stack  #: the largest entry at the start
    nfev: Stack
    nsteps: Stack
    restarts: Stack
    running: Stack

    def take(self, chosen: NDArray[np.intp]) -> State:
        """Return the state of some of the members."""
        return State(*(taken(getattr(self, f.name), chosen, 1) for f in fields(self)))


class Runs:
    """Members on their way: their system and limits, of which those that have ended are taken out."""

    def __init__(self, system: BatchedSystem, limits: Limits, record: Record, members: NDArray[np.intp]) -> None:
        self._system, self._limits, self._record, self._members = system, limits, record, members

    def go(self, y: Stack, callback: Callable[[BatchStep], None] | None = None) -> None:
        """Take all members to their ends, or as far as they came when a KeyboardInterrupt goes through."""
        state, landed, code = self._first(y)
        try:
            while True:
                state = self._put_down(state, landed, code)
                if callback is not None:
                    callback(BatchStep(len(self._record.open), int(self._record.open.sum()), self._evaluations(state)))
                if not self._record.open[self._members].any():
                    return
                state, landed, code = self._attempt(state)
        except KeyboardInterrupt:
            self._end(state, to_numpy(state.running), Status.INTERRUPTED)
            raise

    # ------------------------------------------------------------------------------------------------------------------
    # one attempt

    def _first(self, y: Stack) -> tuple[State, Stack, Stack]:
        """Return the state at the start, what has landed and what has ended there."""
        xp, system, limits = namespace(y), self._system, self._limits
        blocks, scales = system.blocks, system.scales(y)
        slope = system.velocity(y)
        whole = xp.zeros(y.shape[0], dtype=xp.int64, device=api.device(y))
        yes = xp.ones(y.shape[0], dtype=xp.bool, device=api.device(y))
        t = limits.grid[:, 0]
        h = explicit.first_step(system.velocity, y, slope, blocks, scales, limits.rtol, limits.grid[:, -1] - t)
        state = State(
            t=t, y=y, slope=slope, h=h, slot=whole + 1, rejected=~yes, stationarity=xp.full_like(t, xp.nan),
            peak=xp.zeros_like(t), size=xp.max(xp.abs(y), axis=1), nfev=whole + 2, nsteps=whole, restarts=whole, running=yes,
        )  # fmt: skip
        finite = xp.all(xp.isfinite(slope), axis=1) & xp.isfinite(system.value(y))
        state, converged = self._converged(state, yes & finite)
        code = self._codes((~finite, ~yes, converged, ~yes, ~yes, ~yes))
        return state, (limits.grid[:, 1] <= t) & (code == 0), code  # `times` may begin with the start

    def _attempt(self, state: State) -> tuple[State, Stack, Stack]:
        """Return the state after one more attempt of all members, what has landed on a moment, and what has ended."""
        xp, system, limits = namespace(state.y), self._system, self._limits
        moment = self._next_moment(state)
        ahead = moment - state.t
        landing = state.h >= ahead
        h = xp.where(landing, ahead, state.h)
        after, slope, errors = explicit.step(system.velocity, state.y, state.slope, h)
        size = explicit.error_size(h, errors, system.blocks, system.scales(state.y), self._tolerance(state))
        blown = ~xp.isfinite(size)
        passed = (size < 1) & state.running
        lost = self._not_finite(state, after, passed)
        crossed = passed & system.crossed(state.y, after) if system.turns else xp.zeros_like(passed)
        passed = passed & ~lost & ~crossed
        t = xp.where(passed, xp.where(landing, moment, state.t + h), state.t)
        longer = explicit.resized(h, size, state.rejected)
        least = 10 * EPS * xp.abs(t)
        short = state.running & ~passed & ~lost & ~crossed & (longer <= xp.clip(least, min=1e-300))
        # after a step that was shortened to land, the one that was planned before is as good
        longer = xp.where(passed & landing, xp.maximum(longer, state.h), longer)
        state = replace(
            state, t=t, y=_rows(passed, after, state.y), slope=_rows(passed, slope, state.slope),
            h=xp.where(passed, xp.maximum(longer, least), longer), rejected=~passed,
            nfev=state.nfev + explicit.EVALUATIONS * xp.astype(state.running, xp.int64),
            nsteps=state.nsteps + xp.astype(passed, xp.int64),
        )  # fmt: skip
        state = self._repaired(state, passed)
        state, converged = self._converged(state, passed)
        landed = passed & landing
        finished = landed & (state.t >= limits.grid[:, -1])
        spent = state.running & (xp.astype(state.nfev, xp.float64) >= limits.budget)
        return state, landed, self._codes((lost | (short & blown), crossed, converged, finished, short, spent))

    def _next_moment(self, state: State) -> Stack:
        """Return the time that each member lands on next."""
        xp = namespace(state.t)
        rows, slots = self._limits.grid.shape
        flat = xp.reshape(self._limits.grid, (-1,))
        return xp.take(flat, xp.arange(rows, device=api.device(state.t)) * slots + xp.clip(state.slot, max=slots - 1))

    def _tolerance(self, state: State) -> Stack:
        """Return rtol, on the way to `gtol` at most a thousandth of the stationarity over its largest."""
        if not self._limits.converging:
            return self._limits.rtol
        xp = namespace(state.t)
        peak = xp.where(state.peak > 0, state.peak, xp.ones_like(state.peak))
        share = xp.clip(_SHARE * state.stationarity / peak, min=_FINEST)
        smaller = (self._limits.gtol > 0) & (share < self._limits.rtol) & (state.stationarity < state.peak)
        return xp.where(smaller, share, self._limits.rtol)

    def _not_finite(self, state: State, after: Stack, passed: Stack) -> Stack:
        """Return where a state has grown a million times, and its loss is not finite."""
        xp = namespace(after)
        far = passed & ~(xp.max(xp.abs(after), axis=1) <= 1e6 * state.size)
        if not bool(xp.any(far)):
            return far
        return far & ~xp.isfinite(self._system.value(_rows(far, after, state.y)))

    def _repaired(self, state: State, passed: Stack) -> State:
        """Return the state with frames that are orthonormal again where they are off by more than 10 rtol."""
        if not self._system.turns:
            return state
        xp = namespace(state.y)
        off = passed & (self._system.defect(state.y) > 10 * self._limits.rtol)
        if not bool(xp.any(off)):
            return state
        y = _rows(off, self._system.repair(state.y), state.y)
        count = xp.astype(off, xp.int64)
        slope = _rows(off, self._system.velocity(y), state.slope)
        return replace(state, y=y, slope=slope, nfev=state.nfev + count, restarts=state.restarts + count)

    def _converged(self, state: State, passed: Stack) -> tuple[State, Stack]:
        """Return the state with its stationarity, and where that has fallen to `gtol`."""
        xp = namespace(state.y)
        if not self._limits.converging:
            return state, xp.zeros_like(passed)
        found = xp.where(passed, self._system.stationarity(state.y), state.stationarity)
        peak = xp.where(passed, xp.maximum(state.peak, found), state.peak)
        nfev = state.nfev + xp.astype(passed, xp.int64)
        return replace(state, stationarity=found, peak=peak, nfev=nfev), passed & (found <= self._limits.gtol)

    # ------------------------------------------------------------------------------------------------------------------
    # what is put down

    def _codes(self, ended: tuple[Stack, ...]) -> Stack:
        """Return the number of the first of the ends that apply, from 1; 0 where a member goes on."""
        xp = namespace(ended[0])
        code = xp.zeros(ended[0].shape, dtype=xp.int64, device=api.device(ended[0]))
        for i in range(len(ended), 0, -1):
            code = xp.where(ended[i - 1], xp.full_like(code, i), code)
        return code

    def _put_down(self, state: State, landed: Stack, code: Stack) -> State:
        """Keep the moments that were reached, note what has ended, and return the state without it."""
        xp = namespace(state.y)
        if not bool(xp.any(landed | (code > 0))):
            return state
        reached, codes = np.flatnonzero(to_numpy(landed)), to_numpy(code)
        if reached.size:
            at = state.take(reached)
            self._record.keep(self._members[reached], to_numpy(at.slot), to_numpy(at.t), at.y)
            state = replace(state, slot=state.slot + xp.astype(landed, xp.int64))
        for i, status in enumerate(_ENDS, 1):
            self._end(state, codes == i, status)
        state = replace(state, running=state.running & (code == 0))
        running = self._record.open[self._members]
        idle = running.size - np.count_nonzero(running)
        if IDLE * idle < running.size or idle == running.size:
            return state
        chosen = np.flatnonzero(running)
        self._members = self._members[chosen]
        self._system, self._limits = self._system.take(chosen), self._limits.take(chosen)
        return state.take(chosen)

    def _end(self, state: State, which: NDArray[np.bool_], status: Status) -> None:
        """Note how some members ended."""
        chosen = np.flatnonzero(which & self._record.open[self._members])
        if chosen.size:
            at = state.take(chosen)
            counts = {name: to_numpy(getattr(at, name)) for name in ("nfev", "nsteps", "restarts")}
            self._record.end(self._members[chosen], status, to_numpy(at.t), at.y, **counts)

    def _evaluations(self, state: State) -> int:
        running = self._record.open[self._members]
        return int(self._record.nfev.sum() + to_numpy(state.nfev)[running].sum())


def _rows(chosen: Stack, yes: Stack, no: Stack) -> Stack:
    """Return the rows of one stack where chosen, of another elsewhere."""
    return namespace(yes).where(chosen[:, None], yes, no)
