"""`compare_metrics`: the flows of several metrics side by side, from one start, by one ruler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from .. import validation
from ..gradients import convert_gradient, riemannian_gradient
from ..losses import Loss
from ..losses import facts as loss_facts
from ..losses.protocol import require_loss
from ..matrices import EPS, LowRankMatrix
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
    ScaledGDMetric,
    SubspaceProjectionMetric,
    TwoFactorMetric,
    facts,
)
from ..metrics.facts import is_symmetric
from ..metrics.requirements import require_metric, require_positive
from ..report import Claim, Control, Hypothesis, Report
from ..validation import Array
from . import tables
from .courses import Course, Modes, Place, degenerate_at, retrace, run_course
from .equivalence import Interrupted
from .experiment import REDUCTION, gap

__all__ = ["compare_metrics", "metric_label", "named_metrics"]

CLOCKS = {
    "operator": "flow time multiplied by the largest coefficient of A at the start, so that it is 1 under every metric:"
    " none is faster for its scale alone, which is a matter of convention",
    "factors": "flow time as it is: the time of gradient descent with one small step on the factors of each metric, whose"
    " scale counts (depth N moves N sigma^(2-2/N) times as fast as the embedded metric)",
}
_MODES = 10  # modes whose order is reported, at most; two more than the rank
_FINEST, _COARSEST = 1e-12, 1e-5  # rtol: roundoff hides rtol / 100; the controls must be told from the claims
_PLAIN: dict[str, Callable[[], Metric]] = {
    "embedded": EmbeddedMetric,
    "scaledgd": ScaledGDMetric,
    "twofactor": TwoFactorMetric,
    "subspace": SubspaceProjectionMetric,
    "polar": PolarMetric,
    "mn": MNMetric,
    "bures-wasserstein": BuresWassersteinMetric,
}  #: as on the command line
_NAMES: dict[type, str] = {
    EmbeddedMetric: "embedded",
    ScaledGDMetric: "ScaledGD",
    TwoFactorMetric: "two-factor",
    SubspaceProjectionMetric: "subspace projection",
    PolarMetric: "polar",
    MNMetric: "MN",
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


def named_metrics(text: str) -> list[Metric]:
    """Return the metrics of a list such as "embedded,2,3".

    Raises
    ------
    ValueError
        If a name is unknown, a number is none that its metric allows, or there is no name at all.
    """
    names = [name.strip().lower() for name in text.split(",")]
    if not all(names):
        raise ValueError(f"`metrics` must be names separated by commas, got {text!r}.")
    return [_named(name) for name in names]


def _named(name: str) -> Metric:
    kind, *rest = name.split(":")
    if kind in _PLAIN and not rest:
        return _PLAIN[kind]()
    try:
        numbers = [float(number) for number in (rest if kind in ("lambda", "kappa") else name.split(":"))]
    except ValueError:
        numbers = []
    if kind == "lambda" and len(numbers) == 1:
        return LambdaBalancedMetric(numbers[0])
    if kind == "kappa" and numbers:
        return KappaBalancedMetric(numbers)
    if kind not in ("lambda", "kappa") and len(numbers) == 1:
        return DepthMetric(numbers[0])
    known = ", ".join(_PLAIN)
    raise ValueError(f"`metrics` must be one of {known}, a depth, lambda:NUMBER or kappa:NUMBER:..., got {name!r}.")


def _metric(value: Any) -> Metric:
    """Return the metric of a name or of a depth; what is neither as it is."""
    named = isinstance(value, (str, Real)) and not isinstance(value, bool)
    return _named(str(value).strip().lower()) if named else value


def compare_metrics(
    loss: Loss,
    start: LowRankMatrix,
    metrics: Sequence[Metric | str | float] | Mapping[str, Metric | str | float],
    *,
    t_end: float | None = None,
    clock: str = "operator",
    rtol: float = 1e-8,
    max_evaluations: int = 20_000,
    measures: Mapping[str, Callable[[LowRankMatrix], float]] | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Report:
    r"""Follow the flows :math:`\dot W = -A_W(\nabla L(W))` of several metrics from one start, and measure each by one ruler.

    A flow ends when the Frobenius norm of the projected gradient is 1e-4 of its start, when its budget is spent, or at
    `t_end`. What no clock can distort is reported beside what one can: loss against time, Frobenius arc length of W and
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
    t_end : float, optional
        Longest time, in the clock that is chosen.
    clock : {"operator", "factors"}
        "operator": time is multiplied by the largest coefficient of A at the start, so that it is 1. "factors": the
        time of each metric's own factors, in the units of the loss.
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
        ``progress(stage, fraction)``, called often.

    Returns
    -------
    Report
        ``report.tables``: "limits", "cost", "distances" and, for the square loss, "modes" and "mode_losses".
        ``report.attachments["ends"]``: W at the end by label. The claims are those that hold for every metric: the
        fall of the loss is the power that the metric gives, gradients convert by :math:`A_2 A_1^{-1}`, and a change of
        clock leaves the path as it is.

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
    validation.require_callable("progress", progress)
    validation.require_choice("clock", clock, CLOCKS)
    if about is not None and not isinstance(about, Mapping):
        raise TypeError(f"`about` must be a mapping of JSON values, got {validation.describe(about)}.")
    rtol = validation.require_number("rtol", rtol)
    if not _FINEST <= rtol <= _COARSEST:
        raise ValueError(f"`rtol` must lie between {_FINEST:g} and {_COARSEST:g}, got {rtol:g}.")
    if t_end is not None:
        t_end = validation.require_number("t_end", t_end)
    max_evaluations = validation.require_integer("max_evaluations", max_evaluations, low=100)
    chosen, functions = _metrics(metrics, start), _measures(measures, start)
    x = _Comparison(loss, start, chosen, rtol, max_evaluations, progress or (lambda stage, fraction: None))
    report = Report("compare", {"data": dict(about or {}), "loss": loss_facts(loss).normalisation})
    try:
        x.run(clock, t_end, functions)
        for measure in (_dissipation, _conversion, _clock):
            report.claims.append(measure(x))
    except KeyboardInterrupt:
        report.interrupted = True
        raise Interrupted(report) from None
    finally:
        _describe(report, x, clock, t_end)
    return report


def _metrics(metrics: Any, start: LowRankMatrix) -> dict[str, Metric]:
    """Return the metrics by label, each of them fit for the start."""
    given = dict(metrics) if isinstance(metrics, Mapping) else validation.as_tuple(metrics)
    if given is None:
        raise TypeError(f"`metrics` must be a sequence of metrics, got {validation.describe(metrics)}.")
    if not given:
        raise ValueError("`metrics` must not be empty. Pass for instance [EmbeddedMetric(), DepthMetric(3)].")
    values = [_metric(value) for value in (given.values() if isinstance(given, dict) else given)]
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


class _Comparison:
    """One problem, its metrics, and the courses that are finished."""

    def __init__(
        self,
        loss: Loss,
        start: LowRankMatrix,
        metrics: dict[str, Metric],
        rtol: float,
        budget: int,
        progress: Callable[[str, float], None],
    ) -> None:
        self.loss, self.start, self.metrics = loss, start, metrics
        self.rtol, self.budget, self.progress = rtol, budget, progress
        self.courses: list[Course] = []
        self.modes = Modes(loss, min(_MODES, start.rank + 2)) if Modes.known(loss) else None

    def run(self, clock: str, t_end: float | None, measures: dict[str, Callable[[LowRankMatrix], float]]) -> None:
        """Integrate every flow."""
        for i, (label, metric) in enumerate(self.metrics.items()):

            def tell(part: float, label: str = label, done: int = i) -> None:
                self.progress(label, (done + part) / len(self.metrics))

            tell(0.0)
            self.courses.append(
                run_course(
                    label, metric, self.another(metric) or metric, self.loss, self.start,
                    clock=clock, t_end=t_end, rtol=self.rtol, max_evaluations=self.budget, measures=measures,
                    modes=self.modes, progress=tell,
                )
            )  # fmt: skip

    def retrace(self, metric: Metric, t_end: float, **options: Any) -> Place:
        """Return where a metric is at a time, by another run."""
        return retrace(metric, self.loss, self.start, t_end, budget=10 * self.budget, **options)

    def another(self, metric: Metric) -> Metric | None:
        """Return the metric that differs most from one, its scale aside; None where all are alike (a single entry)."""
        s = self.start.s * np.linspace(1.0, 2.0, self.start.rank)  # where repeated singular values are told apart
        own = self._operator(metric, s)
        known = [*self.metrics.values(), EmbeddedMetric(), DepthMetric(3), MNMetric()]
        others = [other for other in known if not is_symmetric(other)]
        apart = [float(np.abs(self._operator(other, s) - own).max()) for other in others]
        best = int(np.argmax(apart))
        return others[best] if apart[best] > 1e-2 else None

    def _operator(self, metric: Metric, s: Array) -> Array:
        """Return the coefficients at `s` that act, over the largest of them."""
        c, (m, n), r = metric.coefficients(s), self.start.shape, self.start.rank
        mix = np.zeros_like(c.core) if c.mix is None else c.mix
        diagonal, off = np.diag(c.core + mix), ~np.eye(r, dtype=bool)
        parts = [diagonal, c.core[off], mix[off], c.up * (m > r), c.vp * (n > r)]
        return np.concatenate(parts) / c.largest(self.start.shape)


def _dissipation(x: _Comparison) -> Claim:
    """The loss falls by the power that the metric gives."""
    found: list[float] = []
    wrong: list[float] = []
    for course in x.courses:
        for power, errors in ((course.dissipated, found), (course.other_power, wrong)):
            error = np.abs(course.loss[0] - course.loss - power).max()
            errors.append(float(error / course.fall) if course.fall > 0 else np.inf)
    worst = int(np.argmax(found))
    least = min(c.fall / abs(float(c.loss[0])) if c.loss[0] else np.inf for c in x.courses)
    # each step is right to rtol; a hundred of these, and the roundoff of the two values that are subtracted
    bound = max(1e-8, 100 * x.rtol) + (100 * EPS / least if least > 0 else np.inf)
    return Claim(
        "power",
        "The loss falls by what the metric dissipates: L(0) - L(t) = integral of g(W', W'), under each metric.",
        "derived: docs/theory.md#dissipation",
        found[worst], "<=", bound,
        (_exists(x), Hypothesis("the loss that is lost exceeds its roundoff", bound < 1e-1, bound)),
        (Control("the power of another metric along the same path (median)", float(np.median(wrong)), bound),),
        f"relative to L(0) - L(T), largest over time and metrics, under {x.courses[worst].label};"
        " bound: 100 rtol or 1e-8, and roundoff",
    )  # fmt: skip


def _exists(x: _Comparison) -> Hypothesis:
    lone = [label for label, metric in x.metrics.items() if x.another(metric) is None]
    return Hypothesis("there is another metric with another path", not lone, lone[0] if lone else "yes")


def _conversion(x: _Comparison) -> Claim:
    """The gradient of one metric becomes that of another by A_2 A_1^{-1}."""
    w, egrad = x.start, x.loss.gradient(x.start)
    metrics = {**x.metrics, **({} if len(x.metrics) > 1 else {"another": x.another(next(iter(x.metrics.values())))})}
    gradients = {label: riemannian_gradient(w, egrad, m) for label, m in metrics.items() if m is not None}
    pairs, reverse = [], []
    for a, first in metrics.items():
        for b, second in metrics.items():
            if a == b or first is None or second is None or is_symmetric(first) != is_symmetric(second):
                continue
            size = gradients[b].norm()
            if not degenerate_at(first, w):
                spectrum = first.coefficients(w.s).spectrum(w.shape)
                bound = 100 * EPS * float(spectrum[0] / spectrum[-1])
                converted = convert_gradient(w, gradients[a], first, second)
                pairs.append(((converted - gradients[b]).norm() / size, bound, f"{a} to {b}"))
            if not degenerate_at(second, w):
                back = convert_gradient(w, gradients[a], second, first)
                reverse.append((back - gradients[b]).norm() / size)
    differ = max(
        ((gradients[a] - gradients[b]).norm() / gradients[b].norm() for a in gradients for b in gradients), default=0.0
    )
    measured, bound, name = max(pairs, key=lambda pair: pair[0] / pair[1], default=(np.nan, np.nan, "none"))
    return Claim(
        "conversion",
        "The gradient of one metric becomes that of another without the loss: grad_2 = A_2 A_1^{-1} grad_1.",
        "derived: docs/theory.md#metrics",
        measured, "<=", bound,
        (Hypothesis("two metrics, the first of them invertible", bool(pairs), len(pairs)),
         Hypothesis("two gradients that differ", bool(differ > 1e-6), float(differ)),
         Hypothesis("A_1 well enough conditioned to be inverted", bound < 1e-2, bound)),
        (Control("the other way round, A_1 A_2^{-1} grad_1", max(reverse, default=np.nan), bound),),
        f"at the start, relative; the worst of {len(pairs)} pairs against its bound: {name};"
        " bound: 100 eps times the condition of A_1",
    )  # fmt: skip


def _clock(x: _Comparison) -> Claim:
    """Another clock, the same path."""
    found: list[tuple[float, float, Course]] = []
    whole = [course for course in x.courses if course.ending in ("gradient", "end time", "budget", "stalled")]
    for i, course in enumerate(whole):
        x.progress("clocks", i / len(whole))
        t, middle, fine = course.middle_time, course.middle, max(x.rtol / 100, 3e-14)
        reference = x.retrace(course.metric, t, normalised=False, rtol=fine) if t > 0 else middle
        end = reference.clock  # the normalised time, free of the error of the course itself
        if not (np.isfinite(end) and end > 0):
            found.append((np.nan, np.inf, course))
            continue
        again, finer = (x.retrace(course.metric, end, normalised=True, rtol=rtol) for rtol in (x.rtol, fine))
        bound = 3 * (_apart(again, finer) + _apart(middle, reference)) + 100 * EPS * np.sqrt(course.path.nfev)
        found.append((_apart(again, middle), float(bound), course))
    measured, bound, course = max(
        found or [(np.nan, np.inf, x.courses[0])], key=lambda row: row[0] / row[1] if np.isfinite(row[1]) else np.inf
    )
    other = x.another(course.metric)
    controls: tuple[Control, ...] = ()
    if other is not None and course.middle_time > 0:
        end = course.middle.clock
        wrong = x.retrace(other, end, normalised=True, rtol=max(x.rtol, 1e-6))
        controls = (Control("another metric, by that clock", _apart(wrong, course.middle), bound),)
    resolved = Hypothesis("errors of the runs that leave a path to be told", bound < 0.1, bound)
    return Claim(
        "clock",
        "A change of clock leaves the path as it is: with A over its mean coefficient at all times, the flow goes by"
        " the same W and the same arc length.",
        "derived: docs/theory.md#metrics",
        measured, "<=", bound, (_exists(x), resolved), controls,
        f"where half of the fall of the loss is done, the worst metric against its bound: {course.label}; bound: three"
        " times the errors of both runs, each against itself at rtol / 100, and roundoff",
    )  # fmt: skip


def _apart(a: Place, b: Place) -> float:
    """Return how far two paths have come apart: the larger of the relative differences of W and of the length."""
    if not np.isfinite([a.length, a.clock, b.length, b.clock]).all():
        return np.inf
    return max(gap(a.w, b.w), abs(a.length / b.length - 1))


def _describe(report: Report, x: _Comparison, clock: str, t_end: float | None) -> None:
    """Say what the problem is; make the tables and figures of the metrics that are finished."""
    from .._version import __version__

    report.version = __version__
    report.problem |= {
        "shape": list(x.start.shape),
        "rank": x.start.rank,
        "metrics": list(x.metrics),
        "start": {"largest singular value": float(x.start.s.max()), "smallest": float(x.start.s.min())},
        "clock": {"name": clock, "meaning": CLOCKS[clock]},
        "end": {"projected gradient, relative to the start": REDUCTION, "time": t_end, "evaluations": x.budget},
        "tolerances": {"rtol": x.rtol},
    }
    if x.courses:
        report.tables = tables.tables(x.courses, x.modes, x.loss)
        report.figures = tables.figures(x.courses, x.modes, x.loss, clock)
        report.attachments["ends"] = {course.label: course.end for course in x.courses}
