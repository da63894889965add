"""One integration while it goes on: the state, what it has seen, and how to put it down and take it up again."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from scipy.integrate import OdeSolution
from scipy.optimize import brentq

from .. import validation
from ..charts import System
from ..matrices import EPS
from ..validation import Array
from .checkpoint import Checkpoint, pack_points, unpack_points
from .trajectory import Moment, Status, Trajectory, saddle_passages, singular_values

__all__ = ["Run"]

_COUNTS = ("nfev", "steps", "restarts", "defect")


class _Dissipating:
    """The system with q' = g(W', W') as one more state, so that q(t) = L(0) - L(t)."""

    def __init__(self, system: System, loss: Any) -> None:
        self.inner, self.loss = system, loss
        self.y0 = np.append(system.y0, 0.0)
        # q on the scale of the loss that a move by the size of the start costs, whatever constant the loss carries
        velocity, power = system.rates(0.0, system.y0)
        speed = float(np.linalg.norm(velocity))
        self._scale = power * float(np.linalg.norm(system.y0)) / speed if speed > 0 else 1.0

    def velocity(self, t: float, y: Array) -> Array:
        dy, power = self.inner.rates(t, y[:-1])
        return np.append(dy, power)

    def tolerances(self, y: Array, rtol: float, atol: float) -> tuple[float, Array]:
        relative, absolute = self.inner.tolerances(y[:-1], rtol, atol)
        # a component of its own, not diluted by the others
        return relative, np.append(absolute, (rtol * self._scale + atol) / np.sqrt(y.size))

    def repair(self, y: Array) -> Array:
        return np.append(self.inner.repair(y[:-1]), y[-1])


class Run:
    """The loop over accepted steps, and what it has seen so far."""

    def __init__(
        self, flow: Any, system: System, times: Array, t_span: tuple[float, float], save: Any, events: Sequence[Any]
    ) -> None:
        self.flow, self.system, self.save, self.events = flow, system, save, events
        self.t_end = t_span[1]
        self.times = times
        self.keep_steps = save.times is None if save.steps is None else save.steps
        self.full: Any = _Dissipating(system, flow.loss) if save.dissipation else system
        self.now: tuple[float, Array] = (t_span[0], self.full.y0)  # one value: an interrupt finds both or neither
        self.scale = float(np.abs(self.y).max())
        self.nfev = self.steps = self.restarts = 0
        self.defect = self.last_defect = 0.0
        self.last_finite, self.evaluating = True, False
        self.not_finite_in = -2  #: the last step in which a velocity was not finite
        self.measured: tuple[float, Any, Moment] | None = None  #: the last state looked at: (t, W, numbers)
        self.kept: list[tuple[float, Any, float, Moment]] = []  #: (t, W, q, numbers)
        self.trace: list[tuple[float, Moment]] = []  #: the numbers at all states looked at
        self.knots: list[float] = [self.t]
        self.interpolants: list[Any] = []
        self.hits: dict[str, list[float]] = {event.name: [] for event in events}
        self.record(self.t, self.y)
        self.levels = [_level(event, self.t, self.kept[0][1]) for event in events]

    @property
    def t(self) -> float:
        """The time reached."""
        return self.now[0]

    @property
    def y(self) -> Array:
        """The state there."""
        return self.now[1]

    def velocity(self, t: float, y: Array) -> Array:
        """Velocity for the solver, counted; remembers whether the last one could be stepped."""
        self.nfev += 1
        if not np.isfinite(y).all():  # a step that blew up: no loss is asked at such a W
            self.last_finite, self.not_finite_in = False, self.steps
            return np.full_like(y, np.nan)
        self.evaluating = True
        dy: Array = self.full.velocity(t, y)
        self.evaluating = False
        self.last_finite = bool(np.isfinite(dy @ dy))
        if not self.last_finite:
            self.not_finite_in = self.steps
        return dy

    def bound(self, t: float, y: Array) -> float | None:
        """Return the system's bound on the spectral radius; costs about one gradient."""
        self.nfev += 1
        return self.system.spectral_bound(self.state(y))

    def finite(self, y: Array) -> bool:
        """Whether W and its loss are finite: a product can overflow where its factors do not."""
        if not np.isfinite(y).all():
            return False
        try:
            w = self.point(y)
        except (np.linalg.LinAlgError, ValueError):  # singular values of what is not finite
            return False
        return bool(np.isfinite(self.flow.loss.value(w)))

    def state(self, y: Array) -> Array:
        """The chart's part of the vector."""
        return y[:-1] if self.save.dissipation else y

    def point(self, y: Array) -> Any:
        return self.system.point(self.state(y))

    def look(self, t: float, y: Array) -> tuple[Any, Moment]:
        """Return W and its numbers, from one gradient; the last state looked at is not looked at again."""
        if self.measured is None or self.measured[0] != t:
            w = self.point(y)
            self.nfev += 1
            stationarity, power = self.system.criticality(self.state(y))
            moment = Moment(float(self.flow.loss.value(w)), stationarity, power, singular_values(w))
            self.measured = (t, w, moment)
            if not self.trace or t > self.trace[-1][0]:
                self.trace.append((t, moment))
        return self.measured[1:]

    def stands_still(self, steps: int) -> bool:
        """Whether nothing has moved over so many steps and while the time doubled; from states looked at.

        The loss has not fallen but for roundoff, no singular value has grown, as one does on a plateau, and the
        stationarity is no lower in the second half of that stretch than in the first.
        """
        half = bisect_left(self.trace, (self.trace[0][0] + self.t) / 2, key=lambda row: row[0])
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

    def record(self, t: float, y: Array) -> None:
        """Keep W and its numbers; a time already kept is kept once."""
        if self.kept and t <= self.kept[-1][0]:
            return
        w, moment = self.look(t, y)
        self.kept.append((t, w, float(y[-1]) if self.save.dissipation else 0.0, moment))

    def find_events(self, t_old: float, t: float, y: Array, interpolant: Callable[[], Any]) -> str | None:
        """Locate sign changes over the last step, in their order; at a terminal one end the step there.

        `interpolant` returns the function of time to locate them on.
        """
        w, found = self.point(y), []
        for i, event in enumerate(self.events):
            before, after = self.levels[i], _level(event, t, w)
            self.levels[i] = after
            if not (np.isfinite(before) and np.isfinite(after)):
                continue
            # a zero at the end of a step counts there, and not again at the start of the next
            if before == 0 or before * after > 0 or event.direction not in (0, np.sign(after - before)):
                continue
            ends = {t_old: before, t: after}  # the interpolant's roundoff must not undo the change of sign

            def level(x: float, event: Any = event, ends: dict[float, float] = ends) -> float:
                return ends[x] if x in ends else _level(event, x, self.point(interpolant()(x)))

            found.append((brentq(level, t_old, t) if after else t, event))
        for hit, event in sorted(found, key=lambda pair: pair[0]):
            self.hits[event.name].append(hit)
            if event.terminal:
                self.now = hit, y if hit == t else interpolant()(hit)
                return f"{event.name} at t={hit:.6g}"
        return None

    def advance(self, solver: Any) -> tuple[Status | None, str]:
        """Take one accepted step, locate events and keep what was asked for."""
        state_old = self.state(self.y)
        try:
            solver.step()
        except (ValueError, np.linalg.LinAlgError):  # scipy's implicit methods meet what is not finite in their algebra
            if self.evaluating or self.steps > self.not_finite_in + 1:
                raise
            return Status.NOT_FINITE, ""
        if solver.status == "failed":
            return (Status.STEP_TOO_SMALL if self.last_finite else Status.NOT_FINITE), ""
        if not np.abs(solver.y).max() <= 1e6 * self.scale and not self.finite(solver.y):  # keep the last state
            return Status.NOT_FINITE, ""
        t_old, self.now = float(solver.t_old), (float(solver.t), solver.y)
        self.steps += 1
        inside = self.times[(self.times > t_old) & (self.times <= self.t)]
        interpolant = cache(solver.dense_output)  # only made where it is needed: it can cost gradients
        ended = self.find_events(t_old, self.t, self.y, interpolant) if self.events else None
        if self.save.dense:
            self.knots.append(self.t)
            self.interpolants.append(interpolant())
        for t in inside[inside <= self.t]:
            self.record(float(t), solver.y if t == solver.t else interpolant()(t))
        if self.keep_steps:
            self.record(self.t, self.y)
        self.last_defect = self.system.defect(self.state(self.y))
        self.defect = max(self.defect, self.last_defect)
        if ended:
            return Status.EVENT, f" ({ended})"
        if self.system.rank_lost(state_old, self.state(self.y)):
            return Status.RANK_LOST, ""
        return (Status.FINISHED if self.t >= self.t_end else None), ""

    def trajectory(self, status: Status, detail: str, method: str) -> Trajectory:
        """Return what was seen."""
        self.record(self.t, self.y)
        t, points, q, moments = zip(*self.kept, strict=True)
        loss, stationarity, _, s = zip(*moments, strict=True)
        dense: Callable[[float], Any] | None = None
        if self.interpolants:
            solution: Any = OdeSolution(np.array(self.knots), self.interpolants)

            def at(x: float) -> Any:
                return self.point(solution(x))

            dense = at

        where = f"t={self.t:.6g} of {self.t_end:.6g}, {self.steps} steps, {self.nfev} gradients."
        return Trajectory(
            t=np.array(t),
            loss=np.array(loss),
            singular_values=np.array(s),
            stationarity=np.array(stationarity),
            points=list(points),
            status=status,
            message=f"{status.value}{detail} {where}",
            nfev=self.nfev,
            nsteps=self.steps,
            restarts=self.restarts,
            defect=self.defect,
            events=self.hits,
            dissipated=np.array(q) if self.save.dissipation else None,
            method=method,
            passages=saddle_passages(self.trace),
            _dense=dense,
        )

    # ------------------------------------------------------------------------------------------------------------------
    # put down and take up again

    def snapshot(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return all that the run knows, as JSON and arrays."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        head = {"t": self.t, **counts, "hits": self.hits, "levels": [repr(x) for x in self.levels]}
        arrays = {"y": self.y, **_pack("trace", self.trace), "kept_q": np.array([q for _, _, q, _ in self.kept])}
        arrays |= _pack("kept", [(t, moment) for t, _, _, moment in self.kept])
        arrays |= {f"kept_{name}": a for name, a in pack_points([w for _, w, _, _ in self.kept]).items()}
        return head, arrays

    def restore(self, saved: Checkpoint) -> None:
        """Go on from a snapshot."""
        head, arrays = saved.head["run"], saved.arrays
        for name in _COUNTS:
            setattr(self, name, head[name])
        self.hits, self.levels = head["hits"], [float(x) for x in head["levels"]]
        self.now, self.measured = (head["t"], arrays["y"]), None
        self.trace = _unpack("trace", arrays)
        points = unpack_points({name.removeprefix("kept_"): a for name, a in arrays.items()})
        rows = zip(_unpack("kept", arrays), points, arrays["kept_q"], strict=True)
        self.kept = [(t, w, float(q), moment) for (t, moment), w, q in rows]


def _pack(name: str, rows: Sequence[tuple[float, Moment]]) -> dict[str, Array]:
    numbers = np.array([(t, *moment[:3]) for t, moment in rows])
    return {f"{name}_numbers": numbers, f"{name}_s": np.array([moment.singular_values for _, moment in rows])}


def _unpack(name: str, arrays: Mapping[str, Array]) -> list[tuple[float, Moment]]:
    rows = zip(arrays[f"{name}_numbers"].tolist(), arrays[f"{name}_s"], strict=True)
    return [(t, Moment(loss, stationarity, power, s)) for (t, loss, stationarity, power), s in rows]


def _level(event: Any, t: float, w: Any) -> float:
    """Return the value of an event's function."""
    found = event.function(t, w)
    try:
        return float(found)
    except (TypeError, ValueError):
        raise TypeError(
            f"`function` of event {event.name!r} must return a number, got {validation.describe(found)}."
        ) from None
