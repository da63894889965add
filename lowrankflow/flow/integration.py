"""Integrate a flow: the arguments, and what is made of them.

The loop knows nothing of matrices beyond a chart's system, and nothing of the method beyond scipy's ``OdeSolver``, which
our steppers become too.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import Any, cast

import numpy as np
from scipy.integrate import OdeSolver

from .. import validation
from ..charts import Ambient, Chart, Factors, Polynomial, SingularFrame, is_faster
from ..charts.ambient import goes_on
from ..charts.system import require_low_rank
from ..columns import named
from ..files import require_path
from ..flows import Event, FactorFlow, Flow, ModifiedFlow, Point, RiemannianFlow, Save
from ..losses.tensors import in_arrays
from ..metrics import facts
from ..metrics.requirements import require_metric
from ..steppers import Stepper
from ..validation import Array
from .field import Field
from .integrals import Accumulating
from .loop import Limits, Loop
from .methods import Automatic, Given, Method, Name, require_method, spelled
from .resume import Keeper
from .trajectory import P, Step, Trajectory

__all__ = ["integrate"]


@validation.renamed(every="checkpoint_every")
@validation.quietly
def integrate(
    flow: Flow,
    start: P,
    *,
    t_span: Sequence[float],
    rtol: float = 1e-8,
    atol: float = 0.0,
    chart: Chart | None = None,
    method: Name | type[OdeSolver] | Stepper = "auto",
    step_size: float | None = None,
    save: Save | None = None,
    events: Event | Sequence[Event] = (),
    gtol: float = 0.0,
    max_evaluations: int | None = None,
    callback: Callable[[Step], None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 100,
) -> Trajectory[P]:
    """Integrate a flow and return what it did.

    Parameters
    ----------
    flow : RiemannianFlow or FactorFlow
        What moves.
    start : LowRankMatrix or LinearNetwork
        W(0), of the kind that the flow moves.
    t_span : (float, float)
        First and last time, in the units of the loss. The last may be inf: then the run goes on until `gtol`.
    rtol : float
        Relative accuracy a step: the frames absolutely, T (near sigma^(1/N), so that W is N times less accurate) and the
        factors relative to their Frobenius norm at the time. Between 3e-14 and 0.1; not used by fixed steps. On the
        way to `gtol` never more than a thousandth of the stationarity over its largest so far.
    atol : float
        Added absolute accuracy, same norm.
    chart : Chart, optional
        Default: ``Factors()`` for a FactorFlow; for a RiemannianFlow ``charts.Polynomial()`` where that is the faster one, under
        DepthMetric(2) to (9) without integrals, else ``SingularFrame()``; ``charts.Ambient()``, which goes through lower
        rank, where the metric says that it does not preserve the rank and the flow can go on.
    method : str, type or Stepper
        "auto" begins with DOP853 and changes, by the measured stiffness and `rtol`, to "ROCK4" (order 4) where the flow is
        stiff, "RKC" (order 2) where it is very stiff, and back; to "BDF" (implicit, orders 1 to 5) where it is stiff, unknowns
        are few and the loss has a Hessian, for an exact Jacobian; ``path.method`` says which and why. Or one of these for
        the whole run; any other solver name of scipy, an OdeSolver class; with a fixed step "Euler", "RK4" or a `Stepper`
        of your own. Names in any case.
    step_size : float, optional
        A fixed step: required by "Euler" and "RK4", possible with "RKC", "ROCK4" and other steppers.
    save : Save, optional
        What to keep; every accepted step by default.
    events : sequence of Event
        Functions of (t, W) to locate zeros of.
    gtol : float
        Stop when the stationarity (Frobenius norm of the projected gradient, which no plateau makes small, or of the
        factor gradients, which plateaus do make small) falls to this; costs one gradient a step. 0 means never.
    max_evaluations : int, optional
        Stop after this many gradients.
    callback : callable, optional
        Called with a `Step` after every accepted step; what it raises ends the run, a KeyboardInterrupt as Ctrl-C does.
    checkpoint : path, optional
        A file to which the run is written, whole, every so many steps and at the end. Where it exists the run goes
        on from it, to the same bits as if it had never stopped (with more `gtol`, `max_evaluations` or end time than
        before, further).
    checkpoint_every : int
        Accepted steps between two checkpoints. BDF, by "auto" too, and LSODA begin again with order 1 after each: give them
        100 or more.

    Returns
    -------
    Trajectory
        ``status`` and ``message`` say why it ended; numerical endings do not raise. A KeyboardInterrupt
        ends it too, with status INTERRUPTED.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks its rule, flow, chart and start do not fit, or the checkpoint is damaged or of another
        problem.
    CheckpointFailed
        If a checkpoint cannot be written; the run so far is in its ``trajectory``.
    Exception
        What a function of the caller's raises, with the run so far in its ``trajectory``.

    Notes
    -----
    The defect of the chart (frames that are no longer orthonormal) is measured after every step; only
    above 10 rtol is the state repaired and the solver restarted with its present step.

    A checkpoint holds the value and the velocity at its state and at the start. They are computed anew
    before a run goes on, and have to agree, so that the loss behind them is the same one. Every run with
    checkpoints restarts its solver at each of them, which makes no difference to one-step methods of Runge and
    Kutta and lets the others, too, end on the same bits.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    >>> start = lrf.random_point(3, 3, 2, rng=0)
    >>> path = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(2)), start, t_span=(0, 40))
    >>> path.status.name, path.singular_values[-1].round(6).tolist()
    ('FINISHED', [3.0, 2.0])
    """
    limits = _require_limits(t_span, rtol, atol, gtol, max_evaluations)
    checkpoint_every = validation.require_integer("checkpoint_every", checkpoint_every, low=1)
    chosen = _require_method(method, step_size)
    if not isinstance(flow, (RiemannianFlow, FactorFlow)):
        raise TypeError(f"`flow` must be a RiemannianFlow or a FactorFlow, got {validation.describe(flow)}.")
    if (loss := in_arrays(flow.loss, start)) is not flow.loss:
        flow = replace(flow, loss=loss)
    save, times = _require_save(save, limits, checkpoint)
    events = _require_events(events)
    validation.require_callable("callback", callback)
    if chart is None:
        chart = _default_chart(flow, start, save)
    if isinstance(chart, type) or not hasattr(chart, "bind"):
        raise TypeError(f"`chart` must be a chart such as SingularFrame(), got {validation.describe(chart)}.")
    path = None if checkpoint is None else require_path("checkpoint", checkpoint)
    system = chart.bind(flow, start)
    if not isinstance(save.columns, Mapping):
        save = replace(save, columns=named(save.columns, flow.loss), dissipation=False)  # which has become an integral
    with np.errstate(over="ignore", invalid="ignore"):  # trial steps may blow up: rejected, or the end of the run
        if save.integrals:
            system = Accumulating(system, limits.t_start, save.integrals, controlled=save.controlled)
        field = Field(system, flow.loss)
        few = system.y0.size if field.jacobian is not None else 0
        methods = Automatic(limits.rtol, few) if chosen is None else Given(chosen)
        loop = Loop(field, methods, limits, save, times, events)
        if path is None:
            return loop.trajectory(loop.go(loop.first(), callback))
        problem = {
            "flow": [type(flow).__name__, _identity(getattr(flow, "metric", None)), *_details_of(flow)],
            "chart": _identity(chart),
            "method": "auto" if chosen is None else [chosen.name, chosen.step_size],
            "t_span[0]": limits.t_start,
            "tolerances": [limits.rtol, limits.atol],
            "save": [times.tolist(), save.exact, loop.keep_steps],
            "columns": [list(save.integrals), bool(save.controlled), list(save.columns)],
            "events": [[event.name, bool(event.terminal), int(event.direction)] for event in events],
            "checkpoint_every": checkpoint_every,
        }
        return Keeper(loop, flow.loss, path, checkpoint_every, problem).go(callback)


def _default_chart(flow: Flow, start: Point, save: Save) -> Chart:
    """Return the chart where none is asked for; rates of integrals ask for the singular frame at every step."""
    if isinstance(flow, FactorFlow):
        return cast(Chart, Factors())
    start = require_low_rank(start)
    require_metric(flow.metric)
    through = facts(flow.metric).preserves_rank is False and goes_on(flow.metric, start)
    if through:
        return cast(Chart, Ambient())
    quick = not save.integrals and is_faster(flow.loss, flow.metric, start)
    return cast(Chart, Polynomial() if quick else SingularFrame())


def _require_limits(
    t_span: Sequence[float], rtol: float, atol: float, gtol: float, max_evaluations: int | None
) -> Limits:
    """Return the accuracy and the ends of a run."""
    t0, t1 = require_t_span(t_span)
    rtol = require_rtol(rtol)
    atol = validation.require_number("atol", atol, positive=False)
    gtol = validation.require_number("gtol", gtol, positive=False)
    if np.isinf(t1) and not gtol:
        raise ValueError("`gtol` must be positive where t_span ends at inf, got 0. The run would not end.")
    if max_evaluations is not None:
        max_evaluations = validation.require_integer("max_evaluations", max_evaluations, low=1)
    return Limits(t0, t1, rtol, atol, gtol, np.inf if max_evaluations is None else max_evaluations)


def _require_method(method: str | type[OdeSolver] | Stepper, step_size: float | None) -> Method | None:
    """Return the method; None for "auto"."""
    method = spelled(method)
    if not (isinstance(method, str) and method == "auto"):
        return require_method(method, step_size)
    if step_size is not None:
        raise ValueError(
            '`step_size` is for methods with a fixed step; "auto" chooses its steps by `rtol`. Use method="RK4".'
        )
    return None


def _require_save(save: Save | None, limits: Limits, checkpoint: object) -> tuple[Save, Array]:
    """Return what to keep, and its times in order."""
    save = Save() if save is None else save
    if not isinstance(save, Save):
        raise TypeError(f"`save` must be a Save, got {validation.describe(save)}. Use Save(times=...).")
    if save.dense and checkpoint is not None:
        raise ValueError("`save` must not ask for dense output with a checkpoint, which does not hold it. Use times.")
    times = np.empty(0) if save.times is None else np.sort(validation.as_vector("save.times", save.times))
    if times.size and not (limits.t_start <= times[0] and times[-1] <= limits.t_end):
        raise ValueError(
            f"`save.times` must lie within t_span ({limits.t_start:g}, {limits.t_end:g}),"
            f" got {times[0]:g} .. {times[-1]:g}."
        )
    return save, times


def _require_events(events: object) -> tuple[Event, ...]:
    """Return the events of a sequence, or of one, each with a name of its own."""
    items = validation.as_tuple(events) if not isinstance(events, Event) else (events,)
    found = (events,) if items is None else items
    for event in found:
        if not isinstance(event, Event):
            raise TypeError(f"`events` must be Events, got {validation.describe(event)}. Use Event(name, function).")
    if len({event.name for event in found}) < len(found):
        raise ValueError("`events` must have names of their own, got one name twice.")
    return found


def _details_of(flow: Flow) -> list[float | str]:
    """Return the step of a flow that has one, and a digest of what is trained where that is not all."""
    found: list[float | str] = [flow.step_size] if isinstance(flow, ModifiedFlow) else []
    if isinstance(flow, FactorFlow) and flow.trained is not None:
        found.append(hashlib.sha256(b"".join(np.packbits(free).tobytes() for free in flow.trained)).hexdigest())
    return found


def _identity(value: Any) -> str:
    """Return what a metric or a chart is: its repr where that says it, else its class."""
    return repr(value) if is_dataclass(value) else type(value).__name__


def require_t_span(t_span: Sequence[float]) -> tuple[float, float]:
    """Return (t_0, t_1) with t_0 < t_1, t_0 finite."""
    try:
        t0, t1 = (validation._as_float(t) for t in t_span if not isinstance(t, (str, bytes)))  # float("1") is 1
    except (TypeError, ValueError):
        raise TypeError(f"`t_span` must be two numbers (t_0, t_1), got {validation.describe(t_span)}.") from None
    if not (math.isfinite(t0) and t0 < t1):
        raise ValueError(f"`t_span` must be increasing from a finite time, got ({t0:g}, {t1:g}).")
    return t0, t1


def require_rtol(rtol: object, *, low: float = 3e-14) -> float:
    """Return a relative tolerance between `low` (roundoff) and 0.1."""
    value = validation.require_number("rtol", rtol)
    if not low <= value <= 0.1:
        why = "roundoff swamps smaller ones" if value < low else "larger ones say nothing"
        raise ValueError(f"`rtol` must lie between {low:g} and 0.1, got {value:g}: {why}.")
    return value
