"""`compare_metrics`: the flows of several metrics side by side, from one start, by one ruler."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from .. import validation
from ..claims.comparisons import Comparison, clock_change, conversion, power
from ..claims.courses import Course, degenerate_at
from ..claims.sides import REDUCTION
from ..losses import Loss
from ..losses import facts as loss_facts
from ..losses.requirements import require_loss
from ..losses.tensors import in_arrays
from ..matrices import LowRankMatrix
from ..matrices.requirements import require_point, require_symmetric_point
from ..metrics import (
    BuresWassersteinMetric,
    DepthMetric,
    EmbeddedMetric,
    KappaBalancedMetric,
    LambdaBalancedMetric,
    Metric,
    MNMetric,
    PolarMetric,
    R3MCMetric,
    ScaledGDMetric,
    SubspaceProjectionMetric,
    TwoFactorMetric,
    facts,
)
from ..metrics.facts import is_symmetric
from ..metrics.names import as_metric
from ..metrics.requirements import require_metric, require_positive
from ..report import Report
from ..statements import measured
from ..workers import Job, Tell, carry_out
from . import tables
from .courses import Modes, run_course
from .equivalence import Interrupted, what_w_is
from .progress import Shares, silent
from .starts import require_moving

__all__ = ["compare_metrics", "metric_label"]

_TITLE = "What does the metric do?"
_LEAD = (
    "The Riemannian gradient flows of one loss under several metrics, on the matrices of fixed rank, from one start. Each"
    " metric has its own clock and its own ruler, so what one cannot choose is set beside what one can: arc length in the"
    " Frobenius norm, singular values against the loss, and the limits, beside time and gradients."
)
CLOCKS = {
    "operator": "flow time multiplied by the largest coefficient of A at the start, so that it is 1 under every metric:"
    " none is faster for its scale alone, which is a matter of convention",
    "factors": "flow time as it is: the time of gradient descent with one small step on the factors of each metric, whose"
    " scale counts (depth N moves N sigma^(2-2/N) times as fast as the embedded metric)",
}
_CLAIMS, _SHARE_OF_CLAIMS = "clocks", 2.0  # the runs of that claim, and their share of the time over that of a flow
_MODES = 10  # modes whose order is reported, at most; two more than the rank
_FINEST, _COARSEST = 1e-12, 1e-5  # rtol: roundoff hides rtol / 100; the controls must be told from the claims
_NAMES: dict[type, str] = {
    EmbeddedMetric: "embedded",
    ScaledGDMetric: "ScaledGD",
    TwoFactorMetric: "two-factor",
    SubspaceProjectionMetric: "subspace projection",
    PolarMetric: "polar",
    MNMetric: "MN",
    R3MCMetric: "R3MC",
    BuresWassersteinMetric: "Bures-Wasserstein",
}


def metric_label(metric: Metric, start: LowRankMatrix) -> str:
    """Return what tables call a metric; a metric of yours goes by its `name`, else by its class."""
    if isinstance(metric, DepthMetric):
        frozen = " (degenerate)" if degenerate_at(metric, start) else ""
        return f"depth {metric.depth:g}{frozen}"
    if isinstance(metric, KappaBalancedMetric):
        return "kappa " + ", ".join(f"{v:g}" for v in metric.imbalances)
    if isinstance(metric, LambdaBalancedMetric):
        return f"lambda {metric.imbalance:g}" + ("" if metric.hidden == "rank" else f", {metric.hidden}")
    return facts(metric).name or _NAMES.get(type(metric), type(metric).__name__)


@validation.renamed(t_end="clock_end")
@validation.quietly
def compare_metrics(
    loss: Loss,
    start: LowRankMatrix,
    metrics: Sequence[Metric | str | float] | Mapping[str, Metric | str | float],
    *,
    clock: str = "operator",
    clock_end: float | None = None,
    rtol: float = 1e-8,
    max_evaluations: int = 20_000,
    measures: Mapping[str, Callable[[LowRankMatrix], float]] | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[str, float], None] | None = None,
    workers: int = 1,
) -> Report:
    r"""Follow the flows :math:`\dot W = -A_W(\nabla L(W))` of several metrics from one start, and measure each by one ruler.

    A flow ends when the Frobenius norm of the projected gradient is 1e-4 of its start, when its budget is spent, or at
    `clock_end`. What no clock can distort is reported beside what one can: loss against time, Frobenius arc length of W and
    evaluations; singular values and effective rank against the loss; the limits and how far they lie apart; for the
    square loss, when each mode is learnt by half, and at which loss.

    Parameters
    ----------
    loss : Loss
        Any object with ``shape``, ``value(w)``, ``gradient(w)``.
    start : LowRankMatrix, (m, n) of rank r
        W(0), of every flow.
    metrics : sequence of Metric, str or number, or mapping of labels to them
        The metrics, also by their names at the command line, ``["embedded", 3, "inf", "scaledgd"]``; ratios are to the
        first one. One with ``symmetric`` needs a symmetric start.
    clock : {"operator", "factors"}
        "operator": time is multiplied by the largest coefficient of A at the start, so that it is 1. "factors": the
        time of each metric's own factors, in the units of the loss, as `t_span` of `integrate`.
    clock_end : float, optional
        Longest time, by that clock.
    rtol : float
        Tolerance of the flows, between 1e-12 and 1e-5.
    max_evaluations : int
        Budget of gradients of each flow.
    measures : mapping of names to functions, optional
        Your own ``function(w) -> float``, such as an error on held-out data: followed along each path, and reported
        with its least value.
    about : mapping, optional
        What the report should say of the data, JSON-ready.
    progress : callable, optional
        As of `verify_equivalence`.
    workers : int
        Processes that share the flows; as of `verify_equivalence`.

    Returns
    -------
    Report
        ``report.tables``: "limits", "cost", "distances" and, for the square loss, "modes" and "mode_losses".
        ``report.attachments["ends"]``: W at the end by label; for the square loss ``report.problem["ended at"]`` says at which
        critical point that is, and ``report.attachments["plateaus"]`` which ones were passed. The claims are those that
        hold for every metric: the fall of the loss is the power that the metric gives, gradients convert by :math:`A_2
        A_1^{-1}`, and a change of clock leaves the path as it is.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks its rule, the shapes differ, a metric is given twice, the start is critical, or it is not
        symmetric where a metric needs that.
    Interrupted
        On Ctrl-C, a KeyboardInterrupt that carries the report of the metrics that were finished.

    Notes
    -----
    ``DepthMetric(inf)`` below full rank freezes the row and column spaces: its flow comes to rest on the r x r block,
    stationarity is measured there, and every table marks it.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(4), np.diag([4.0, 3.0, 2.0, 1.0]))
    >>> start = lrf.random_point(4, 4, 2, rng=0, singular_values=[0.1, 0.1])
    >>> report = lrf.compare_metrics(loss, start, ["embedded", lrf.DepthMetric(3)], rtol=1e-6)
    >>> report.table("limits").column("ended by")
    ('gradient', 'gradient')
    """
    require_loss(loss)
    require_point("start", start)
    validation.require_shape("start", start.shape, loss.shape)
    loss = in_arrays(loss, start)
    validation.require_callable("progress", progress)
    validation.require_choice("clock", clock, CLOCKS)
    if about is not None and not isinstance(about, Mapping):
        raise TypeError(f"`about` must be a mapping of JSON values, got {validation.describe(about)}.")
    rtol = validation.require_number("rtol", rtol)
    if not _FINEST <= rtol <= _COARSEST:
        raise ValueError(f"`rtol` must lie between {_FINEST:g} and {_COARSEST:g}, got {rtol:g}.")
    if clock_end is not None:
        clock_end = validation.require_number("clock_end", clock_end)
    max_evaluations = validation.require_integer("max_evaluations", max_evaluations, low=100)
    chosen, functions = _metrics(metrics, start), _measures(measures, start)
    require_moving(loss, start)
    workers = validation.require_integer("workers", workers, low=1)
    shares = Shares(progress or silent, {**dict.fromkeys(chosen, 1.0), _CLAIMS: _SHARE_OF_CLAIMS * len(chosen)})
    x = Comparison(loss, start, chosen, rtol, max_evaluations, shares.part(_CLAIMS))
    modes = Modes(loss, min(_MODES, start.rank + 2)) if Modes.known(loss) else None
    done: dict[int, Course] = {}
    problem = {"data": dict(about or {}), "loss": loss_facts(loss).normalisation}
    report = Report("compare", problem, title=_TITLE, lead=_LEAD)
    try:
        for i, course in _run(x, modes, clock, clock_end, functions, shares, workers):
            done[i] = course
        for claim in (power, conversion, clock_change):
            report.claims += measured([claim], x, [done[i] for i in sorted(done)])
    except KeyboardInterrupt:
        report.interrupted = True
        raise Interrupted(report) from None
    finally:
        courses = [done[i] for i in sorted(done)]
        _describe(report, x, clock, clock_end)
        _where_they_ended(report, courses)
        if courses:
            report.tables = tables.tables(courses, modes, loss)
            report.figures = tables.figures(courses, modes, loss, clock)
            report.attachments["ends"] = {course.label: course.end for course in courses}
    return report


def _run(
    x: Comparison,
    modes: Modes | None,
    clock: str,
    clock_end: float | None,
    measures: dict[str, Callable[[LowRankMatrix], float]],
    shares: Shares,
    workers: int,
) -> Iterator[tuple[int, Course]]:
    """Integrate every flow, one after the other or several at once."""
    run = partial(_run_one, modes=modes, clock=clock, clock_end=clock_end, measures=measures)
    jobs = [Job(label, partial(run, label)) for label in x.metrics]
    return carry_out(jobs, (replace(x, tell=silent),), workers, [shares.part(label) for label in x.metrics])


def _run_one(label: str, x: Comparison, tell: Tell, **options: Any) -> Course:
    tell(label, 0.0)
    metric = x.metrics[label]
    return run_course(
        label, metric, x.another(metric) or metric, x.loss, x.start, rtol=x.rtol, max_evaluations=x.budget,
        progress=lambda part: tell(label, part), **options,
    )  # fmt: skip


def _metrics(metrics: Any, start: LowRankMatrix) -> dict[str, Metric]:
    """Return the metrics by label, each of them fit for the start."""
    given = dict(metrics) if isinstance(metrics, Mapping) else validation.as_tuple(metrics)
    if given is None:
        raise TypeError(f"`metrics` must be a sequence of metrics, got {validation.describe(metrics)}.")
    if not given:
        raise ValueError("`metrics` must not be empty. Pass for instance [EmbeddedMetric(), DepthMetric(3)].")
    values = [as_metric(value) for value in (given.values() if isinstance(given, dict) else given)]
    chosen: dict[str, Metric] = {}
    for i, metric in enumerate(values):
        require_metric(metric)
        label = str(list(given)[i]) if isinstance(given, dict) else metric_label(metric, start)
        if any(type(metric) is type(other) and metric == other for other in values[:i]):
            raise ValueError(f"`metrics` must name each metric once, got {label} twice.")
        if is_symmetric(metric):
            require_symmetric_point("start", start, metric)
        require_positive(metric, start.s, start.shape, degenerate=True)
        while label in chosen:  # two of one class
            label += "'"
        chosen[label] = metric
    return chosen


def _measures(measures: Any, start: LowRankMatrix) -> dict[str, Callable[[LowRankMatrix], float]]:
    """Return the user's own numbers by name, each asked once before anything is run."""
    if measures is None:
        return {}
    if not isinstance(measures, Mapping):
        raise TypeError(f"`measures` must be a mapping of names to functions, got {validation.describe(measures)}.")
    for name, function in measures.items():
        if not callable(function):
            raise TypeError(f"`measures[{name!r}]` must be callable, got {validation.describe(function)}.")
        try:
            float(function(start))
        except Exception as error:  # a user's function may raise anything
            raise ValueError(
                f"`measures[{name!r}]` must return a number at `start`, but raises {type(error).__name__}:"
                f" {validation.reason(error)}."
            ) from None
    return {str(name): function for name, function in measures.items()}


def _describe(report: Report, x: Comparison, clock: str, clock_end: float | None) -> None:
    """Say what the problem is."""
    report.headline = f"{what_w_is(report, x.start)}; loss {report.problem['loss']}\nclock {clock}: {CLOCKS[clock]}"
    report.problem |= {
        "shape": list(x.start.shape),
        "rank": x.start.rank,
        "metrics": list(x.metrics),
        "start": {"largest singular value": float(x.start.s.max()), "smallest": float(x.start.s.min())},
        "clock": {"name": clock, "meaning": CLOCKS[clock]},
        "end": {"projected gradient, relative to the start": REDUCTION, "time": clock_end, "evaluations": x.budget},
        "tolerances": {"rtol": x.rtol},
    }


def _where_they_ended(report: Report, courses: list[Course]) -> None:
    """Say at which critical points the flows of a square loss ended, and name those that are not the best of their rank."""
    known = {course.label: course.ended for course in courses if course.ended is not None}
    if not known:
        return
    report.problem["ended at"] = {label: ended.to_dict() for label, ended in known.items()}
    report.attachments["plateaus"] = {course.label: course.plateaus for course in courses}
    elsewhere = [f"{label}, {ended}" for label, ended in known.items() if not ended.at_minimiser]
    if elsewhere:
        report.headline += f"\nnot every flow ended at the minimiser of its rank: {'. '.join(elsewhere)}"
