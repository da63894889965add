"""The flow of one metric as numbers, and where it is at a time, by another run."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..flow import Status, Trajectory, integrate
from ..flows import Motion, RiemannianFlow, Save
from ..landscape import Ending, Plateau
from ..losses import Loss
from ..losses.facts import only_if
from ..matrices import LowRankMatrix
from ..metrics import Coefficients, Metric, MetricFacts, RootCoefficients, facts, frame_rates
from ..validation import Array

ENDINGS = {
    Status.CONVERGED: "gradient",
    Status.FINISHED: "end time",
    Status.MAX_EVALUATIONS: "budget",
    Status.RANK_LOST: "rank lost",
    Status.STALLED: "stalled",
    Status.NOT_FINITE: "not finite",
    Status.STEP_TOO_SMALL: "step too small",
}


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


def way_rates(metric: Metric, shape: tuple[int, int], **others: Metric) -> dict[str, Callable[[Motion], float]]:
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
    ended: Ending | None = None  #: where, by the theory of the square loss; None for any other
    plateaus: tuple[Plateau, ...] = ()

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


def retrace(
    metric: Metric, loss: Loss, start: LowRankMatrix, t_end: float, *, normalised: bool, rtol: float, budget: int
) -> Place:
    """Return where a metric is at a time of the normalised clock, or of its own; nan for the way where it got not so far."""
    moved: Metric = NormalisedClock(metric, start.shape) if normalised else metric
    path = quietly(
        lambda: integrate(
            RiemannianFlow(loss, moved), start, t_span=(0.0, t_end), rtol=rtol,
            method="auto", max_evaluations=budget,
            save=Save(times=[t_end], integrals=way_rates(moved, start.shape)),
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
