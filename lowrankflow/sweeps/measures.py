"""Carry out a run on a problem, and keep what was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, NamedTuple, cast

import numpy as np

from ..claims.gaps import unbalanced
from ..claims.sides import natural_time_unit
from ..compare import Interrupted, compare_problem, place_problem, verify_problem
from ..compare.equivalence import default_widths
from ..compare.starts import require_moving
from ..descent import Adam, EdgeFraction, GradientBelow, HeavyBall, LossBelow, Nesterov, WeightDecay, gradient_descent
from ..descent.rules import Gradient
from ..flow import Status, Trajectory, integrate
from ..flow.methods import Name
from ..flows import Event, FactorFlow, RiemannianFlow, Save
from ..gradients import projected, raw_factor_gradients, squared_norm
from ..losses import facts
from ..matrices import LinearNetwork
from ..metrics import DepthMetric
from ..metrics.names import as_metric
from ..problems import Built
from ..report import Report
from .runs import OF_PATHS, Run
from .words import require_known

__all__ = ["BUDGET", "RTOL", "course_of", "measure", "named_columns", "network_of", "of_path", "rule_of", "step_of"]

Values = dict[str, Any]

RTOL = 1e-8  #: of a flow, where the problem does not say
BUDGET = 200_000  #: gradients of a flow, where the problem does not say


def measure(built: Built, run: Run) -> Values:
    """Return what a run on a problem gives: names to numbers, texts, and lists of numbers."""
    try:
        return _MEASURES[run.kind](built, run)
    except Interrupted:  # with a report of what there was
        raise KeyboardInterrupt from None


def network_of(built: Built, run: Run) -> LinearNetwork:
    """Return the factors from which a run starts."""
    if built.network is not None:
        return built.network
    p, rng = built.problem, deepcopy(built.rng)
    depth = p.depth or 3
    widths = default_widths(built.point.shape, depth, built.point.rank) if p.widths is None else p.widths
    if run.start == "gaussian":
        scale = {} if p.scale is None else {"scale": p.scale}
        return LinearNetwork.gaussian(built.loss.shape, depth, widths=widths, rng=rng, **scale)
    net = LinearNetwork.balanced(built.point, depth, widths=widths, rng=rng)
    return unbalanced(net, run.imbalance) if run.imbalance else net


# ---------------------------------------------------------------------------------------------------------------------
# flows


class Course(NamedTuple):
    """A flow as it is integrated: alone, or with others."""

    flow: Any
    start: Any
    end: float
    gtol: float  #: absolute; 0 where the end of time is meant
    times: tuple[float, ...] | None


def course_of(built: Built, run: Run) -> Course:
    """Return the flow of a run, from where to where."""
    p, start = built.problem, built.point
    depth = built.network.depth if built.network else p.depth or 3
    flow: Any
    first: Any = start
    if run.flow == "factors":
        flow, first = FactorFlow(built.loss), network_of(built, run)
        size = math.sqrt(squared_norm(raw_factor_gradients(built.loss, first)))
    else:
        flow = RiemannianFlow(built.loss, DepthMetric(depth) if run.metric is None else as_metric(run.metric))
        require_moving(built.loss, start)
        size = projected(start, built.loss.gradient(start)).norm()
    until = run.until or (run.times[-1] if run.times else "converged")
    end = math.inf if until == "converged" else float(until)
    if p.natural_end is not None:
        end = min(end, p.natural_end * natural_time_unit(built.loss, start, depth))
    times = None if run.times is None else tuple(t for t in run.times if t <= end)
    return Course(flow, first, end, run.gtol * size if until == "converged" else 0.0, times)


def _flow(built: Built, run: Run) -> Values:
    p, course = built.problem, course_of(built, run)
    path = integrate(
        course.flow, course.start, t_span=(0.0, course.end), method=cast(Name, run.method), gtol=course.gtol,
        save=Save(times=course.times, steps=False, columns=named_columns(run)),
        events=[] if run.target is None else [_falls_to(built, run.target)],
        rtol=RTOL if p.rtol is None else p.rtol, max_evaluations=p.max_evaluations or BUDGET,
    )  # fmt: skip
    return of_path(path, built, run)


def named_columns(run: Run) -> list[str]:
    """Return the columns that the library has by name."""
    return [name for name in run.columns if name not in OF_PATHS]


def _falls_to(built: Built, target: float) -> Event:
    """Return the event that the loss falls to a value."""
    return Event("target", lambda t, w: built.loss.value(w) - target, terminal=True, direction=-1)


# ---------------------------------------------------------------------------------------------------------------------
# descent

_RULES: dict[str, Callable[..., Any]] = {
    "gradient": Gradient, "heavy-ball": HeavyBall, "nesterov": Nesterov, "adam": Adam,
}  # fmt: skip


def rule_of(run: Run) -> Any:
    """Return the rule of a run of descent."""
    make, args = _RULES[run.optimizer], dict(run.optimizer_args)
    try:
        rule = make(**args)
    except TypeError:
        raise ValueError(
            f"`optimizer_args` {', '.join(args)} must be of {run.optimizer}, which has no such one."
        ) from None
    return WeightDecay(run.weight_decay, rule) if run.weight_decay else rule


def step_of(run: Run) -> Any:
    """Return the step of a run of descent: a number, or what looks at the network."""
    return run.step if run.edge is None else EdgeFraction(run.edge)


def _descent(built: Built, run: Run) -> Values:
    net = network_of(built, run)
    stop: list[Any] = [] if run.target is None else [LossBelow(run.target)]
    if run.until == "converged":
        stop.append(GradientBelow(run.gtol * math.sqrt(squared_norm(raw_factor_gradients(built.loss, net)))))
    path = gradient_descent(
        built.loss, net, step_size=step_of(run), steps=run.steps, rule=rule_of(run), stop=stop,
        columns=named_columns(run), keep_every=run.keep_every or run.steps,
    )  # fmt: skip
    return of_path(path, built, run)


# ---------------------------------------------------------------------------------------------------------------------
# of a trajectory


def of_path(path: Trajectory, built: Built, run: Run) -> Values:
    """Return how a run ended, and its columns: at times, every so many updates, or at the end."""
    if path.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    values: Values = {"status": path.status.name, "t": float(path.t[-1]), "nfev": path.nfev, "nsteps": path.nsteps}
    asked = run.columns or ("loss",)
    if run.times is not None:
        at = np.abs(np.subtract.outer(run.times, path.t)).argmin(1)
        rows, count = at[np.isclose(path.t[at], run.times, rtol=1e-12, atol=0)], len(run.times)
    elif run.keep_every is not None:
        count = run.steps // run.keep_every + 1
        rows = np.arange(min(path.nsteps // run.keep_every + 1, count))
    else:
        last = np.array([len(path.t) - 1])
        return values | {name: _rows(name, path, built, last, 1)[0] for name in asked}
    return values | {name: _rows(name, path, built, rows, count) for name in asked}


def _rows(name: str, path: Trajectory, built: Built, rows: Any, count: int) -> list[Any]:
    """Return a column at some of the kept times, nan at those that were not reached."""
    if name == "loss":
        found = path.loss[rows]
    elif name == "excess":
        best = facts(built.loss).best_value
        found = path.loss[rows] - (math.nan if best is None else best(built.point.rank))
    elif name in ("stationarity", "singular_values"):
        found = getattr(path, name)[rows]
    elif name in OF_PATHS:
        found = np.array([_hidden(name, built, path.points[i]) for i in rows])
    else:
        found = path.columns[name][rows]
    missing = np.full((count - len(found), *found.shape[1:]), math.nan)
    listed: list[Any] = np.concatenate([found, missing]).tolist()
    return listed


def _hidden(name: str, built: Built, w: Any) -> float:
    """Return how W does on the entries that were hidden."""
    label = name.replace("_", " ")
    if label not in built.measures:
        raise ValueError(f"`columns` {name} needs hidden entries, got a problem without. Use missing = 0.5.")
    return float(built.measures[label](w))


# ---------------------------------------------------------------------------------------------------------------------
# reports


def _verify(built: Built, run: Run) -> Values:
    report = verify_problem(built, claims=run.columns or None)
    found: Values = {"passed": report.passed, "failed": len(report.failed)}
    for claim in report:
        found |= {claim.name: claim.measured, f"{claim.name}_verdict": claim.verdict}
    return found


def _compare(built: Built, run: Run) -> Values:
    report = compare_problem(built)
    cells: Values = {}
    for table in (report.table("limits"), report.table("cost")):
        for i, head in enumerate(table.columns):
            name = head.replace(",", "").replace(" ", "_")
            cells[name] = [math.nan if row[i] is None else row[i] for row in table.rows]
    del cells["time_ratio"]  # which another run would not give again
    asked = run.columns or ("loss", "time", "gradients", "ended_by")
    return {"metric": cells["metric"]} | {require_known("columns", name, cells): cells[name] for name in asked}


def _landscape(built: Built, run: Run) -> Values:
    report = place_problem(built)
    page = report.problem["nearby"] or report.problem["place"]
    cells: Values = {key.replace(" ", "_").lower(): _cell(value) for key, value in page.items() if key != "notes"}
    asked = run.columns or ("kind", "rank", "index_set", "order", "loss", "distance")
    return {"passed": _passed(report)} | {require_known("columns", name, cells): cells[name] for name in asked}


def _cell(value: Any) -> Any:
    """Return a number or a text; of an index set its text, and nan for what is not known."""
    if isinstance(value, list):
        return "{" + ", ".join(map(str, value)) + "}"
    return math.nan if value is None else value


def _passed(report: Report) -> bool:
    return not report.failed


_MEASURES: Mapping[str, Callable[[Built, Run], Values]] = {
    "flow": _flow,
    "descent": _descent,
    "verify": _verify,
    "compare": _compare,
    "landscape": _landscape,
}
