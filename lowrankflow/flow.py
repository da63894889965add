"""Integrate a flow: what moves, what to keep, why it stopped.

The driver knows nothing of matrices beyond its chart, and nothing of the method beyond scipy's
``OdeSolver``, which our steppers become through `steppers.as_ode_solver`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike
from scipy import integrate as scipy_integrate
from scipy.integrate import OdeSolution, OdeSolver
from scipy.optimize import brentq

from . import steppers, validation
from .charts import Chart, Factors, SingularFrame, System
from .matrices import LinearNetwork, LowRankMatrix
from .metrics import Metric
from .trajectory import Progress, Status, Trajectory, singular_values
from .validation import Array

__all__ = ["Event", "FactorFlow", "RiemannianFlow", "Save", "integrate"]


@dataclass(frozen=True)
class RiemannianFlow:
    """The flow W' = -A_W(grad L(W)) on the rank-k manifold under a metric."""

    loss: Any
    metric: Metric


@dataclass(frozen=True)
class FactorFlow:
    """The flow W_j' = -grad_{W_j} L(W_N ... W_1) of the factors: gradient descent with vanishing steps."""

    loss: Any


@dataclass(frozen=True)
class Save:
    """What a trajectory keeps.

    Parameters
    ----------
    times : array_like, optional
        Times within ``t_span`` to keep, by the method's interpolant, whose error can be a thousand times rtol.
    exact : bool
        Land a step on each of `times` instead; costs at most one step more for each.
    steps : bool
        Keep every accepted step (with `times`, only those times are kept unless this is True; None
        means: every step exactly when no times are given). The first and last states are always kept.
    dense : bool
        Keep the interpolants, so that ``path(t)`` works; the memory of about one state a stage and step.
    dissipation : bool
        Integrate q' = g(W', W') as one more state, so that L(0) - L(t) = q(t) can be checked.
    """

    times: ArrayLike | None = None
    exact: bool = False
    steps: bool | None = None
    dense: bool = False
    dissipation: bool = False


@dataclass(frozen=True)
class Event:
    """A function of (t, W) whose zero is located along the flow.

    Parameters
    ----------
    name : str
        Key under which the times appear in ``path.events``.
    function : callable
        ``function(t, w) -> float``, evaluated after every step; a change of sign is located on the interpolant.
    terminal : bool
        End the integration there.
    direction : int
        +1 only upward, -1 only downward crossings, 0 both.
    """

    name: str
    function: Callable[[float, Any], float]
    terminal: bool = False
    direction: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"`name` must be a non-empty string, got {validation.describe(self.name)}.")
        if not callable(self.function):
            raise TypeError(f"`function` must be callable, got {validation.describe(self.function)}.")
        if self.direction not in (-1, 0, 1):
            raise ValueError(f"`direction` must be -1, 0 or 1, got {validation.describe(self.direction)}.")


_SCIPY_METHODS = ("RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA")
_OUR_METHODS = {"Euler": steppers.Euler, "RK4": steppers.RK4}


def _solver_class(method: str | type[OdeSolver] | steppers.Stepper) -> tuple[Any, bool]:
    """Return the OdeSolver class of a method and whether its step is fixed."""
    if isinstance(method, type) and issubclass(method, OdeSolver):
        return method, False
    if isinstance(method, type) and hasattr(method, "interpolant"):
        raise TypeError(
            f"`method` must be an instance of a Stepper, got the class {method.__name__}. Pass {method.__name__}()."
        )
    if not isinstance(method, (str, type)) and hasattr(method, "interpolant"):
        return steppers.as_ode_solver(method), True
    if isinstance(method, str) and method in _OUR_METHODS:
        return steppers.as_ode_solver(_OUR_METHODS[method]()), True
    name = validation.check_choice("method", method, (*_SCIPY_METHODS, *_OUR_METHODS))
    return getattr(scipy_integrate, name), False


class _Dissipating:
    """The system with q' = g(W', W') as one more state, so that q(t) = L(0) - L(t)."""

    def __init__(self, system: System, loss: Any) -> None:
        self.inner, self.loss = system, loss
        self.y0 = np.append(system.y0, 0.0)

    def velocity(self, t: float, y: Array) -> Array:
        dy, power = self.inner.rates(t, y[:-1])
        return np.append(dy, power)

    def tolerances(self, y: Array, rtol: float, atol: float) -> tuple[float, Array]:
        relative, absolute = self.inner.tolerances(y[:-1], rtol, atol)
        # q on the scale of the loss that a move by the size of the state costs, whatever constant the loss carries;
        # a component of its own, not diluted by the others
        velocity, power = self.inner.rates(0.0, y[:-1])
        speed = float(np.linalg.norm(velocity))
        scale = power * float(np.linalg.norm(y[:-1])) / speed if speed > 0 else 1.0
        return relative, np.append(absolute, (rtol * scale + atol) / np.sqrt(y.size))

    def repair(self, y: Array) -> Array:
        return np.append(self.inner.repair(y[:-1]), y[-1])


class _Run:
    """One integration: the loop over accepted steps, and what it has seen so far."""

    def __init__(
        self, flow: Any, system: System, times: Array, t_span: tuple[float, float], save: Save, events: Sequence[Event]
    ) -> None:
        self.flow, self.system, self.save, self.events = flow, system, save, events
        self.t, self.t_end = t_span
        self.times = times
        self.full: Any = _Dissipating(system, flow.loss) if save.dissipation else system
        self.y: Array = self.full.y0
        self.scale = float(np.abs(self.y).max())
        self.nfev = self.steps = self.restarts = 0
        self.defect = 0.0
        self.last_finite = True
        self.rows: list[tuple[float, float, Array, float, float]] = []
        self.points: list[Any] = []
        self.knots: list[float] = [self.t]
        self.interpolants: list[Any] = []
        self.hits: dict[str, list[float]] = {event.name: [] for event in events}
        self.record(self.t, self.y)
        self.levels = [event.function(self.t, self.points[0]) for event in events]

    def velocity(self, t: float, y: Array) -> Array:
        """Velocity for the solver, counted; remembers whether the last one could be stepped."""
        self.nfev += 1
        dy: Array = self.full.velocity(t, y)
        self.last_finite = bool(np.isfinite(dy @ dy))
        return dy

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

    def stationarity(self, y: Array) -> float:
        self.nfev += 1
        return self.system.stationarity(self.state(y))

    def record(self, t: float, y: Array) -> None:
        """Keep W and its numbers; a time already kept is kept once."""
        if self.rows and t <= self.rows[-1][0]:
            return
        w = self.point(y)
        q = float(y[-1]) if self.save.dissipation else 0.0
        self.rows.append((t, float(self.flow.loss.value(w)), singular_values(w), self.stationarity(y), q))
        self.points.append(w)

    def find_events(self, t_old: float, t: float, y: Array, interpolant: Any) -> str | None:
        """Locate sign changes over the last step, in their order; at a terminal one end the step there."""
        w, found = self.point(y), []
        for i, event in enumerate(self.events):
            before, after = self.levels[i], event.function(t, w)
            self.levels[i] = after
            if not (np.isfinite(before) and np.isfinite(after)):
                continue
            # a zero at the end of a step counts there, and not again at the start of the next
            if before == 0 or before * after > 0 or event.direction not in (0, np.sign(after - before)):
                continue
            hit = brentq(lambda x, event=event: event.function(x, self.point(interpolant(x))), t_old, t) if after else t
            found.append((hit, event))
        for hit, event in sorted(found, key=lambda pair: pair[0]):
            self.hits[event.name].append(hit)
            if event.terminal:
                self.t, self.y = hit, y if hit == t else interpolant(hit)
                return f"{event.name} at t={hit:.6g}"
        return None

    def advance(self, solver: Any, keep_steps: bool) -> tuple[Status | None, str]:
        """Take one accepted step, locate events and keep what was asked for."""
        state_old = self.state(self.y)
        solver.step()
        if solver.status == "failed":
            return (Status.STEP_TOO_SMALL if self.last_finite else Status.NOT_FINITE), ""
        if np.abs(solver.y).max() > 1e6 * self.scale and not self.finite(solver.y):  # blew up: keep the last state
            return Status.NOT_FINITE, ""
        t_old, self.t, self.y = float(solver.t_old), float(solver.t), solver.y
        self.steps += 1
        inside = self.times[(self.times > t_old) & (self.times <= self.t)]
        interpolant: Any = solver.dense_output() if self.save.dense or inside.size or self.events else None
        ended = self.find_events(t_old, self.t, self.y, interpolant) if self.events else None
        if self.save.dense:
            self.knots.append(self.t)
            self.interpolants.append(interpolant)
        for t in inside[inside <= self.t]:
            self.record(float(t), solver.y if t == solver.t else interpolant(t))
        if keep_steps:
            self.record(self.t, self.y)
        self.defect = max(self.defect, self.system.defect(self.state(self.y)))
        if ended:
            return Status.EVENT, f" ({ended})"
        if self.system.rank_lost(state_old, self.state(self.y)):
            return Status.RANK_LOST, ""
        return (Status.FINISHED if self.t >= self.t_end else None), ""

    def trajectory(self, status: Status, detail: str) -> Trajectory:
        """Return what was seen."""
        self.record(self.t, self.y)
        t, loss, s, stationarity, q = zip(*self.rows, strict=True)
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
            points=self.points,
            status=status,
            message=f"{status.value}{detail} {where}",
            nfev=self.nfev,
            nsteps=self.steps,
            restarts=self.restarts,
            defect=self.defect,
            events=self.hits,
            dissipated=np.array(q) if self.save.dissipation else None,
            _dense=dense,
        )


@np.errstate(
    over="ignore", invalid="ignore"
)  # trial steps may blow up; they are rejected, or end the run with a status
def integrate(
    flow: RiemannianFlow | FactorFlow,
    start: LowRankMatrix | LinearNetwork,
    *,
    t_span: Sequence[float],
    rtol: float = 1e-8,
    atol: float = 0.0,
    chart: Chart | None = None,
    method: str | type[OdeSolver] | steppers.Stepper = "DOP853",
    step_size: float | None = None,
    save: Save | None = None,
    events: Event | Sequence[Event] = (),
    gtol: float = 0.0,
    max_evaluations: int | None = None,
    callback: Callable[[Progress], None] | None = None,
) -> Trajectory:
    """Integrate a flow and return what it did.

    Parameters
    ----------
    flow : RiemannianFlow or FactorFlow
        What moves.
    start : LowRankMatrix or LinearNetwork
        W(0), of the kind that the flow moves.
    t_span : (float, float)
        First and last time, in the units of the loss.
    rtol : float
        Relative accuracy of W a step: the frames absolutely, T and the factors relative to their norm at
        the start. Between 3e-14 and 0.1; not used by fixed steps.
    atol : float
        Added absolute accuracy, same norm.
    chart : Chart, optional
        Default: ``SingularFrame()`` for a RiemannianFlow, ``Factors()`` for a FactorFlow.
    method : str, type or Stepper
        "DOP853", any other solver name of scipy, an OdeSolver class, or with a fixed step "Euler", "RK4" or a
        `Stepper` of your own.
    step_size : float, optional
        The fixed step; required there.
    save : Save, optional
        What to keep; every accepted step by default.
    events : sequence of Event
        Functions of (t, W) to locate zeros of.
    gtol : float
        Stop when the stationarity (Frobenius norm of the projected gradient, or of the factor
        gradients) falls to this; costs one gradient a step. 0 means never.
    max_evaluations : int, optional
        Stop after this many gradients.
    callback : callable, optional
        Called with a `Progress` after every accepted step.

    Returns
    -------
    Trajectory
        ``status`` and ``message`` say why it ended; numerical endings do not raise. A KeyboardInterrupt
        ends it too, with status INTERRUPTED.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks its rule, or flow, chart and start do not fit.

    Notes
    -----
    The defect of the chart (frames that are no longer orthonormal) is measured after every step; only
    above 10 rtol is the state repaired and the solver restarted with its present step.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    >>> start = lrf.random_point(3, 3, 2, rng=np.random.default_rng(0))
    >>> path = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(2)), start, t_span=(0, 40))
    >>> path.status.name, path.singular_values[-1].round(6).tolist()
    ('FINISHED', [3.0, 2.0])
    """
    t0, t1 = validation.check_t_span(t_span)
    rtol = validation.check_rtol(rtol)
    atol = validation.check_number("atol", atol, positive=False)
    gtol = validation.check_number("gtol", gtol, positive=False)
    budget = np.inf if max_evaluations is None else validation.check_integer("max_evaluations", max_evaluations, low=1)
    solver_class, fixed = _solver_class(method)
    name = solver_class.__name__
    if fixed and step_size is None:
        raise ValueError(f"`step_size` must be given for the fixed-step method {name}.")
    if not fixed and step_size is not None:
        raise ValueError(f"`step_size` is for methods with a fixed step; {name} chooses its steps by `rtol`.")
    if not hasattr(flow, "loss"):
        raise TypeError(f"`flow` must be a RiemannianFlow or a FactorFlow, got {validation.describe(flow)}.")
    save = Save() if save is None else save
    if not isinstance(save, Save):
        raise TypeError(f"`save` must be a Save, got {validation.describe(save)}. Use Save(times=...).")
    events = (events,) if isinstance(events, Event) else tuple(events)
    if len({event.name for event in events}) < len(events):
        raise ValueError("`events` must have names of their own, got one name twice.")
    validation.check_callable("callback", callback)
    times = np.empty(0) if save.times is None else np.sort(validation.as_vector("save.times", save.times))
    if times.size and not (t0 <= times[0] and times[-1] <= t1):
        raise ValueError(f"`save.times` must lie within t_span ({t0:g}, {t1:g}), got {times[0]:g} .. {times[-1]:g}.")
    keep_steps = save.times is None if save.steps is None else save.steps
    if chart is None:
        chart = cast(Chart, SingularFrame() if hasattr(flow, "metric") else Factors())
    if isinstance(chart, type) or not hasattr(chart, "bind"):
        raise TypeError(f"`chart` must be a chart such as SingularFrame(), got {validation.describe(chart)}.")
    run = _Run(flow, chart.bind(flow, start), times, (t0, t1), save, events)
    stops = np.append(times[times < t1], t1) if save.exact else np.array([t1])

    def make_solver(first_step: float | None) -> Any:
        bound = float(stops[stops > run.t][0])
        if fixed:
            return solver_class(run.velocity, run.t, run.y, bound, step_size=step_size)
        relative, absolute = run.full.tolerances(run.y, rtol, atol)
        first_step = None if first_step is None else min(first_step, bound - run.t)
        return solver_class(run.velocity, run.t, run.y, bound, rtol=relative, atol=absolute, first_step=first_step)

    status, detail = None, ""
    stationarity = run.rows[0][3]
    if not (np.isfinite(run.velocity(t0, run.y)).all() and np.isfinite(run.rows[0][1])):
        status = Status.NOT_FINITE
    elif gtol > 0 and stationarity <= gtol:
        status = Status.CONVERGED
    try:
        solver: Any = make_solver(None) if status is None else None
        natural = 0.0  # the step before it was shortened to land on a time
        while status is None:
            status, detail = run.advance(solver, keep_steps)
            natural = max(natural if solver.status == "finished" else 0.0, solver.step_size or 0.0)
            if gtol > 0 and status in (None, Status.FINISHED):
                stationarity = run.stationarity(run.y)
                status = Status.CONVERGED if stationarity <= gtol else status
            if status is None and run.nfev >= budget:
                status = Status.MAX_EVALUATIONS
            if callback is not None:
                callback(Progress(run.t, t1, run.nfev, stationarity if gtol > 0 else np.nan))
            if status is not None:
                break
            repaired = run.y
            if not fixed and run.system.defect(run.state(run.y)) > 10 * rtol:
                repaired = run.full.repair(run.y)
            if not np.array_equal(repaired, run.y):
                run.y, run.restarts = repaired, run.restarts + 1
                solver = make_solver(natural)
            elif solver.status == "finished":
                solver = make_solver(natural)
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    return run.trajectory(status, detail)
