"""The flow of one metric from start to end, with what its way costs and which modes it learns when."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..charts import SingularFrame
from ..flow import Progress, Status, Trajectory, integrate
from ..flows import Event, Motion, RiemannianFlow, Save
from ..gradients import is_symmetric, project
from ..losses import Loss
from ..losses import facts as loss_facts
from ..losses.facts import only_if
from ..matrices import LowRankMatrix
from ..metrics import Coefficients, Metric, MetricFacts, RootCoefficients, facts, frame_rates
from ..validation import Array
from .experiment import REDUCTION

ENDINGS = {
    Status.CONVERGED: "gradient",
    Status.FINISHED: "end time",
    Status.MAX_EVALUATIONS: "budget",
    Status.RANK_LOST: "rank lost",
    Status.STALLED: "stalled",
    Status.NOT_FINITE: "not finite",
    Status.STEP_TOO_SMALL: "step too small",
}
_NEAR_HALF = 1e-6  # shares this close to a half belong to the crossing that was located


def mean_coefficient(c: Coefficients, shape: tuple[int, int]) -> float:
    """Return the mean eigenvalue of A on the tangent space; smooth in W, as the largest one is not."""
    (m, n), r = shape, c.up.size
    trace = c.core.sum() + (m - r) * c.up.sum() + (n - r) * c.vp.sum()
    if c.mix is not None:
        trace = trace + np.trace(c.mix)
    return float(trace) / (r * (m + n - r))


class Place(NamedTuple):
    """W on its way, how long the way to it was, and when it was there by the normalised clock."""

    w: LowRankMatrix
    length: float
    clock: float

    @classmethod
    def at(cls, path: Trajectory, i: int) -> Place:
        """Return the i-th kept state of a path."""
        return cls(path.points[i], float(path.columns["length"][i]), float(path.columns["clock"][i]))


def _way(metric: Metric, shape: tuple[int, int], **others: Metric) -> dict[str, Callable[[Motion], float]]:
    """Return the rates of arc length, power and normalised clock, and of the power of other metrics, along a flow."""

    def clock(at: Motion) -> float:
        return mean_coefficient(metric.coefficients(at.w.s), shape)

    def power(other: Metric) -> Callable[[Motion], float]:
        return lambda at: at.gradient.dot(other.coefficients(at.w.s).apply(at.gradient))

    rates = {"length": lambda at: at.velocity.norm(), "dissipated": lambda at: at.power, "clock": clock}
    return rates | {name: power(other) for name, other in others.items()}


@dataclass(frozen=True)
class NormalisedClock:
    """A metric whose operator is divided by its mean coefficient everywhere: the same path by another clock."""

    metric: Metric
    shape: tuple[int, int]

    @cached_property
    def _facts(self) -> MetricFacts:
        return facts(self.metric)

    @property
    def symmetric(self) -> bool:
        return self._facts.symmetric

    @property
    def root(self) -> float:
        return 1.0 if self._facts.root_coefficients is None else self._facts.root

    def _mean(self, s: Array) -> float:
        return mean_coefficient(self.metric.coefficients(s), self.shape)

    def coefficients(self, s: Array) -> Coefficients:
        c = self.metric.coefficients(s)
        a = mean_coefficient(c, self.shape)
        mix, determinant = (
            None if part is None else part / scale for part, scale in ((c.mix, a), (c.determinant, a * a))
        )
        return Coefficients(c.core / a, c.up / a, c.vp / a, mix, determinant)

    def frame_rates(self, s: Array) -> tuple[Array, Array]:
        (left, right), a = frame_rates(self._facts, s), self._mean(s)
        return left / a, right / a

    @only_if(lambda self: self._facts.root_coefficients is not None)
    def root_coefficients(self, l: Array) -> RootCoefficients:  # noqa: E741
        assert self._facts.root_coefficients is not None
        c, a = self._facts.root_coefficients(l), self._mean(l**self.root)
        return RootCoefficients(c.sym / a, c.skew / a, c.left / a, c.right / a)


class Modes:
    """The singular pairs of the whitened targets of a square loss, and how much of each W has learned."""

    def __init__(self, loss: Loss, count: int | None = None) -> None:
        said = loss_facts(loss)
        assert said.spectrum is not None and said.whiten is not None
        self.loss, self._whiten, spectrum = loss, said.whiten, said.spectrum
        positive = int((spectrum.sigma > 1e-8 * spectrum.sigma[0]).sum())
        self.count = positive if count is None else min(count, positive)
        self.u, self.sigma, self.v = (a[..., : self.count] for a in (spectrum.u, spectrum.sigma, spectrum.vt.T))

    def shares(self, w: LowRankMatrix) -> Array:
        """Return u_i^T B v_i / sigma_i for B the whitened W."""
        b = self._whiten(w)
        return np.einsum("ir,ri->i", self.u.T @ b.left, b.right @ self.v) / self.sigma

    def learned(self, w: LowRankMatrix) -> tuple[list[int], float]:
        """Return J, the pairs learned by half or more, from 1, and the distance of W from their sum, relative."""
        b, j = self._whiten(w).to_dense(), np.flatnonzero(self.shares(w) > 0.5)
        apart = np.linalg.norm(b - (self.u[:, j] * self.sigma[j]) @ self.v[:, j].T) / np.linalg.norm(b)
        return [int(i) + 1 for i in j], float(apart)

    @staticmethod
    def known(loss: Loss) -> bool:
        """Whether the loss is a square loss whose targets have modes at all."""
        said = loss_facts(loss)
        return said.whiten is not None and said.spectrum is not None and bool(said.spectrum.sigma[0] > 0)


class _Half:
    """Event function: the share of mode i above a half; remembers the loss where that was located."""

    def __init__(self, modes: Modes, i: int) -> None:
        self._modes, self._i = modes, i
        self.located: list[tuple[float, float]] = []

    def __call__(self, t: float, w: LowRankMatrix) -> float:
        value = float(self._modes.shares(w)[self._i]) - 0.5
        if abs(value) <= _NEAR_HALF:
            self.located.append((t, float(self._modes.loss.value(w))))
        return value


@dataclass
class Course:
    """One metric's way, as numbers; of its matrices only three are kept."""

    label: str
    metric: Metric
    degenerate: bool  #: the metric freezes the row and column spaces of the start
    factor: float  #: normalised time over flow time
    coefficient: float  #: largest coefficient of A at the start
    path: Trajectory  #: without its points
    start: LowRankMatrix
    end: LowRankMatrix
    seconds: float
    loss: Array
    evaluations: Array
    projected: Array  #: Frobenius norm of the projected gradient: the same ruler for all
    length: Array
    dissipated: Array
    other_power: Array  #: the same integral with the power of another metric
    halves: list[tuple[float, float] | None]  #: by mode: time and loss at which its share reaches a half
    measures: dict[str, Array]
    middle_time: float  #: flow time of the first step by which half of the fall is done
    middle: Place = field(repr=False)  #: W there

    @property
    def time(self) -> Array:
        """Normalised time at the kept states."""
        return self.path.t * self.factor

    @property
    def singular_values(self) -> Array:
        return self.path.singular_values

    @property
    def ending(self) -> str:
        """Which limit ended the run."""
        return ENDINGS[self.path.status]

    @property
    def fall(self) -> float:
        """L(0) - L(T)."""
        return float(self.loss[0] - self.loss[-1])

    @property
    def effective_rank(self) -> Array:
        """Nuclear over spectral norm."""
        s = self.singular_values
        return s.sum(axis=1) / s.max(axis=1)

    @property
    def entropy_rank(self) -> Array:
        """exp of the entropy of the singular values over their sum."""
        p = self.singular_values / self.singular_values.sum(axis=1, keepdims=True)
        return np.exp(-(p * np.log(np.maximum(p, np.finfo(float).tiny))).sum(axis=1))

    @property
    def order(self) -> list[int]:
        """The modes that were learnt by half, from 1, by time."""
        reached = [(half[0], i + 1) for i, half in enumerate(self.halves) if half is not None]
        return [i for _, i in sorted(reached)]


def degenerate_at(metric: Metric, start: LowRankMatrix) -> bool:
    """Return whether a metric freezes a row or column space that is not the whole space."""
    c, (m, n), r = metric.coefficients(start.s), start.shape, start.rank
    return bool((m > r and not np.all(c.up > 0)) or (n > r and not np.all(c.vp > 0)))


def run_course(
    label: str,
    metric: Metric,
    other: Metric,
    loss: Loss,
    start: LowRankMatrix,
    *,
    clock: str,
    t_end: float | None,
    rtol: float,
    max_evaluations: int,
    measures: Mapping[str, Callable[[LowRankMatrix], float]],
    modes: Modes | None,
    progress: Callable[[float], None],
) -> Course:
    """Integrate the flow of one metric to its end, and reduce it to numbers."""
    coefficient = metric.coefficients(start.s).largest(start.shape)
    factor = coefficient if clock == "operator" else 1.0
    span = math.inf if t_end is None else t_end / factor
    halves = [] if modes is None else [_Half(modes, i) for i in range(modes.count)]
    events = [Event(f"mode {i + 1}", half) for i, half in enumerate(halves)]
    flow = RiemannianFlow(loss, metric)
    system = quietly(lambda: SingularFrame().bind(flow, start))
    first = system.measure(system.y0)[1].stationarity
    if not np.isfinite(first):
        raise ValueError(f"`loss.gradient(start)` must be finite, got a projected gradient of {first:g} under {label}.")
    if not first > 0:
        raise ValueError(
            f"`start` must not be a critical point under {label}, got a projected gradient of {first:g} there."
            " Draw another with random_point."
        )
    seen = [(0.0, 0.0)]

    def told(p: Progress) -> None:
        seen.append((p.t, float(p.nfev)))
        left = math.log(max(p.stationarity, REDUCTION * first) / first) / math.log(REDUCTION)
        progress(min(1.0, max(0.0, left, 0.0 if math.isinf(span) else p.t / span)))

    degenerate = degenerate_at(metric, start)
    columns: dict[str, Any] = {f"measure {i}": lambda t, w, f=f: float(f(w)) for i, f in enumerate(measures.values())}
    if degenerate or is_symmetric(metric):  # there the stationarity is that of a part
        columns["projected"] = lambda t, w: project(w, loss.gradient(w)).norm()
    save = Save(integrals=_way(metric, start.shape, other=other), columns=columns)
    began = time.perf_counter()
    path = quietly(
        lambda: integrate(
            flow, start, t_span=(0.0, span), gtol=REDUCTION * first, rtol=rtol, method="auto",
            max_evaluations=max_evaluations, save=save, events=events, callback=told,
        )
    )  # fmt: skip
    seconds = time.perf_counter() - began
    if path.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    half = int(np.argmax(path.loss <= path.loss[0] - 0.5 * (path.loss[0] - path.loss[-1])))
    middle, end, way = Place.at(path, half), path.points[-1], path.columns
    path.points = []
    return Course(
        label, metric, degenerate, factor, coefficient, path, start, end, seconds, path.loss,
        np.interp(path.t, *np.array(seen).T), way.get("projected", path.stationarity), way["length"],
        way["dissipated"], way["other"], [] if modes is None else _halves(path, halves, modes.shares(start), factor),
        {name: way[f"measure {i}"] for i, name in enumerate(measures)}, float(path.t[half]), middle,
    )  # fmt: skip


def _halves(path: Trajectory, halves: list[_Half], at_start: Array, factor: float) -> list[tuple[float, float] | None]:
    """Return normalised time and loss at which each mode was first learnt by half."""
    found: list[tuple[float, float] | None] = []
    for i, half in enumerate(halves):
        hits = path.events[f"mode {i + 1}"]
        if at_start[i] >= 0.5:
            found.append((0.0, float(path.loss[0])))
        elif not hits:
            found.append(None)
        else:
            near = min(half.located, key=lambda at: abs(at[0] - hits[0]), default=None)
            value = float(np.interp(hits[0], path.t, path.loss)) if near is None else near[1]
            found.append((hits[0] * factor, value))
    return found


def retrace(
    metric: Metric, loss: Loss, start: LowRankMatrix, t_end: float, *, normalised: bool, rtol: float, budget: int
) -> Place:
    """Return where a metric is at a time of the normalised clock, or of its own; nan for the way where it got not so far."""
    moved: Metric = NormalisedClock(metric, start.shape) if normalised else metric
    path = quietly(
        lambda: integrate(
            RiemannianFlow(loss, moved), start, t_span=(0.0, t_end), rtol=rtol,
            method="auto", max_evaluations=budget,
            save=Save(times=[t_end], integrals=_way(moved, start.shape)),
        )
    )  # fmt: skip
    if path.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    return Place.at(path, -1) if path.status.finished else Place(path.points[-1], np.nan, np.nan)


def quietly(run: Callable[[], Any]) -> Any:
    """Return what `run` does; the warning of depths below 2 stands in the report instead."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Below depth 2")
        return run()
