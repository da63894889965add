"""Claims that hold for every metric, and the comparison on which they are measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..gradients import convert_gradient, riemannian_gradient
from ..losses import Loss
from ..matrices import EPS, LowRankMatrix
from ..metrics import DepthMetric, EmbeddedMetric, Metric, MNMetric
from ..metrics.facts import is_symmetric
from ..report import Control, Hypothesis
from ..statements import Measurement, claim, derived
from ..validation import Array
from .courses import Course, Place, degenerate_at, retrace
from .gaps import gap

_LEAST = float(np.finfo(float).tiny) / EPS  # below it numbers have fewer digits


@dataclass(frozen=True)
class Comparison:
    """One problem and its metrics."""

    loss: Loss
    start: LowRankMatrix
    metrics: dict[str, Metric]
    rtol: float
    budget: int  #: of gradients, for each flow
    tell: Callable[[str, float], None]  #: progress: stage, fraction

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


@claim(
    "power",
    statement="The loss falls by what the metric dissipates: L(0) - L(t) = integral of g(W', W'), under each metric.",
    source=derived("dissipation"),
    meaning=(
        "The integral rides along with the flow as a passenger: the solver does not choose its steps by it. Measured: the"
        " largest difference over time and metrics, relative to L(0) - L(T). Bound: 1e-8, or 100 rtol if larger, plus"
        " roundoff. A metric whose flow is not its own gradient flow (frames that turn at another speed than the"
        " coefficients say, for instance) fails here."
    ),
    hypotheses="the loss that is lost exceeds its roundoff; there is another metric with another path",
    controls=(
        "the power of another metric, the least alike, integrated along the same path; the median over the paths counts"
    ),
)
def power(x: Comparison, courses: list[Course]) -> Measurement:
    """The loss falls by the power that the metric gives."""
    found: list[float] = []
    wrong: list[float] = []
    for course in courses:
        for way, errors in ((course.dissipated, found), (course.other_power, wrong)):
            error = np.abs(course.loss[0] - course.loss - way).max()
            errors.append(float(error / course.fall) if course.fall > 0 else np.inf)
    worst = int(np.argmax(found))
    least = min(c.fall / abs(float(c.loss[0])) if c.loss[0] else np.inf for c in courses)
    # each step is right to rtol; a hundred of these, and the roundoff of the two values that are subtracted
    bound = max(1e-8, 100 * x.rtol) + (100 * EPS / least if least > 0 else np.inf)
    return Measurement(
        found[worst], "<=", bound,
        (_exists(x), Hypothesis("the loss that is lost exceeds its roundoff", bound < 1e-1, bound)),
        (Control("the power of another metric along the same path (median)", float(np.median(wrong)), bound),),
        f"relative to L(0) - L(T), largest over time and metrics, under {courses[worst].label};"
        " bound: 100 rtol or 1e-8, and roundoff",
    )  # fmt: skip


@claim(
    "conversion",
    statement="The gradient of one metric becomes that of another without the loss: grad_2 = A_2 A_1^{-1} grad_1.",
    source=derived("metrics"),
    meaning=(
        "Measured at the start for every ordered pair with an invertible A_1, relative; the pair that comes nearest to its"
        " bound counts. Bound: 100 eps times the condition number of A_1 on the tangent space."
    ),
    hypotheses="there is such a pair; two of the gradients differ; A_1 is not too ill conditioned to be inverted",
    controls="the other way round, A_1 A_2^{-1} grad_1",
)
def conversion(x: Comparison, courses: list[Course]) -> Measurement:
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
            if not min(size, gradients[a].norm()) > _LEAST:  # a metric so small there that its gradient has lost digits
                continue
            if not degenerate_at(first, w):
                spectrum = first.coefficients(w.s).spectrum(w.shape)
                bound = 100 * EPS * float(spectrum[0] / spectrum[-1])
                converted = convert_gradient(w, gradients[a], first, second)
                pairs.append(((converted - gradients[b]).norm() / size, bound, f"{a} to {b}"))
            if not degenerate_at(second, w):
                back = convert_gradient(w, gradients[a], second, first)
                reverse.append((back - gradients[b]).norm() / size)
    differ = max(
        ((gradients[a] - g).norm() / g.norm() for a in gradients for g in gradients.values() if g.norm() > 0),
        default=0.0,
    )
    measured, bound, name = max(pairs, key=lambda pair: pair[0] / pair[1], default=(np.nan, np.nan, "none"))
    return Measurement(
        measured, "<=", bound,
        (Hypothesis("two metrics, the first of them invertible", bool(pairs), len(pairs)),
         Hypothesis("two gradients that differ", bool(differ > 1e-6), float(differ)),
         Hypothesis("A_1 well enough conditioned to be inverted", bound < 1e-2, bound)),
        (Control("the other way round, A_1 A_2^{-1} grad_1", max(reverse, default=np.nan), bound),),
        f"at the start, relative; the worst of {len(pairs)} pairs against its bound: {name};"
        " bound: 100 eps times the condition of A_1",
    )  # fmt: skip


@claim(
    "clock",
    statement=(
        "A change of clock leaves the path as it is: with A over its mean coefficient at all times, the flow goes by"
        " the same W and the same arc length."
    ),
    source=derived("metrics"),
    meaning=(
        "With A_W divided by its mean eigenvalue, a positive function of W, the flow must go by the same matrices and the"
        " same arc length; only when it does so changes. This is why loss against arc length and singular values against"
        " the loss are compared, and why flow time alone decides nothing. Measured at the first step by which half of the"
        " fall of the loss is done: the larger of the relative differences of W and of the arc length. (The mean and not"
        " the largest eigenvalue: the latter has kinks where two change places.) Bound: three times the errors of both"
        " runs, each against itself at rtol / 100, plus roundoff. A rule of motion that is not a function of W fails here."
        " Runs that lost their rank on the way are left out."
    ),
    hypotheses="there is another metric with another path; the errors of the runs are below a tenth",
    controls="another metric by that clock, to the same time",
)
def clock_change(x: Comparison, courses: list[Course]) -> Measurement:
    """Another clock, the same path."""
    found: list[tuple[float, float, Course]] = []
    whole = [course for course in courses if course.ending in ("gradient", "end time", "budget", "stalled")]
    for i, course in enumerate(whole):
        x.tell("clocks", i / len(whole))
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
        found or [(np.nan, np.inf, courses[0])], key=lambda row: row[0] / row[1] if np.isfinite(row[1]) else np.inf
    )
    other = x.another(course.metric)
    controls: tuple[Control, ...] = ()
    if other is not None and course.middle_time > 0:
        end = course.middle.clock
        wrong = x.retrace(other, end, normalised=True, rtol=max(x.rtol, 1e-6))
        controls = (Control("another metric, by that clock", _apart(wrong, course.middle), bound),)
    resolved = Hypothesis("errors of the runs that leave a path to be told", bound < 0.1, bound)
    return Measurement(
        measured, "<=", bound, (_exists(x), resolved), controls,
        f"where half of the fall of the loss is done, the worst metric against its bound: {course.label}; bound: three"
        " times the errors of both runs, each against itself at rtol / 100, and roundoff",
    )  # fmt: skip


def _apart(a: Place, b: Place) -> float:
    """Return how far two paths have come apart: the larger of the relative differences of W and of the length."""
    if not np.isfinite([a.length, a.clock, b.length, b.clock]).all():
        return np.inf
    return max(gap(a.w, b.w), abs(a.length / b.length - 1))


def _exists(x: Comparison) -> Hypothesis:
    lone = [label for label, metric in x.metrics.items() if x.another(metric) is None]
    return Hypothesis("there is another metric with another path", not lone, lone[0] if lone else "yes")
