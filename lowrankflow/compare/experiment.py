"""One problem, its two sides, and the runs that the claims share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import LinearOperator, svds

from ..charts import Chart
from ..descent import sharpness
from ..flow import FactorFlow, Progress, RiemannianFlow, Save, Status, Trajectory, integrate
from ..gradients import project
from ..losses import Loss, LossFacts, facts
from ..matrices import EPS, LinearNetwork, LowRankMatrix, Matrix, difference
from ..matrices.requirements import require_depth, require_point
from ..metrics import DepthMetric
from ..operators import MatrixLike
from ..report import Curve, Figure, Hypothesis, Table
from ..validation import Array

BALANCED = 1e-12  # relative imbalance that passes for balanced: the gap it causes is below every bound used here
REDUCTION = 1e-4  # default end: the projected gradient, relative to its start
HORIZON = 0.5 * math.log(1 / EPS)  # a dormant mode then is sqrt(eps), its product at roundoff
_DENSE = 1_000_000  # entries up to which the gradient is formed as one array to be measured


def natural_time_unit(loss: Loss, start: LowRankMatrix, depth: float) -> float:
    r"""Return :math:`1 / (N \lambda_1 \sigma_1^{2-2/N})`, the time scale of the fastest mode.

    Parameters
    ----------
    loss : Loss
        Its ``curvature`` is :math:`\lambda_1`, the largest eigenvalue of the Hessian; where the loss has
        none, the sharpness of the balanced factors of `start` stands for the product.
    start : LowRankMatrix
        Gives the rank, and :math:`\sigma_1` where the loss does not know its best rank-r matrix.
    depth : float
        N.

    Returns
    -------
    float
        In units of the loss: a step of gradient descent of size h is time h.
    """
    require_point("start", start)
    depth = require_depth(depth)
    said = facts(loss)
    w, rank = start, start.rank
    if said.minimiser is not None:
        if said.spectrum is not None:
            # the data may have fewer directions than the start; none at all where the targets vanish
            rank = min(rank, int((said.spectrum.sigma > 1e-8 * said.spectrum.sigma[0]).sum()))
        w = said.minimiser(rank) if rank else start
        require_point("loss.minimiser(rank)", w)
    if said.curvature is not None:
        return float(1 / (depth * said.curvature * w.s.max() ** (2 - 2 / depth)))
    found = sharpness(loss, LinearNetwork.balanced(w, max(2, round(depth))))
    if not found > 0:
        raise ValueError(
            f"`loss` must be curved at `start` to set a unit of time, got sharpness {found:g}. Give it a `curvature`."
        )
    return 1 / found


def unbalanced(net: LinearNetwork, c: float) -> LinearNetwork:
    """Return [A W_1, W_2 A^{-1}, ...] with A = exp(c diag(-1 .. 1)): the same product, unbalanced."""
    a = np.exp(c * np.linspace(-1, 1, net.widths[0]) if net.widths[0] > 1 else np.array([c]))
    first, second, *rest = net.factors
    return LinearNetwork._trusted([a[:, None] * first, second / a, *rest])


def normal_gradient_norm(loss: Loss, w: LowRankMatrix) -> float:
    """Return ||(I - UU^T) G (I - VV^T)||_2, the growth rate of dormant modes at depth 2."""
    g, v = loss.gradient(w), w.vt.T

    def normal(x: Array) -> Array:
        y = g @ (x - v @ (w.vt @ x))
        return y - w.u @ (w.u.T @ y)

    def transposed(x: Array) -> Array:
        y = g.T @ (x - w.u @ (w.u.T @ x))
        return y - v @ (w.vt @ y)

    m, n = w.shape
    if w.rank == min(m, n):
        return 0.0
    if m * n <= _DENSE:
        return float(linalg.norm(normal(np.eye(n)), 2))
    operator = LinearOperator((m, n), matvec=normal, rmatvec=transposed, dtype=np.float64)
    v0 = np.random.default_rng(0).standard_normal(min(m, n))  # fixed: the answer must not vary between calls
    return float(svds(operator, k=1, v0=v0, tol=1e-4, return_singular_vectors=False)[0])


def as_array(egrad: MatrixLike) -> MatrixLike:
    """Return a gradient as one array where it is small, so that its own roundoff is not what is measured."""
    m, n = egrad.shape
    if m * n > _DENSE or isinstance(egrad, np.ndarray):
        return egrad
    return egrad @ np.eye(n)


def frobenius(egrad: MatrixLike, rng: np.random.Generator) -> float:
    """Return ||G||_F, estimated from 16 random products where G is not an array."""
    if isinstance(egrad, np.ndarray):
        return float(linalg.norm(egrad))
    signs = rng.choice([-1.0, 1.0], size=(egrad.shape[1], 16))  # E ||G x||^2 = ||G||_F^2
    return float(linalg.norm(egrad @ signs)) / 4


def gaps(a: Trajectory, b: Trajectory, times: Array) -> Array:
    """Return ||A_t - B_t||_F / ||B_t||_F at `times`; inf where one is not finite or was not reached."""
    at_a, at_b = (dict(zip(p.t.tolist(), p.points, strict=True)) for p in (a, b))
    values = np.full(times.size, np.inf)
    for i, t in enumerate(times.tolist()):
        if t in at_a and t in at_b:
            values[i] = gap(at_a[t], at_b[t])
    return values


def gap(a: Matrix, b: Matrix) -> float:
    """Return ||A - B||_F / ||B||_F; inf where A is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        if not all(np.isfinite(part).all() for part in a.split()):
            return math.inf
        return difference(a, b).norm() / b.norm()


def slope(x: Array, y: Array) -> float:
    """Return the slope of log y against log x by least squares; nan where a value is not positive."""
    if not (len(x) > 1 and np.all(np.isfinite(y)) and np.all(y > 0) and np.all(x > 0)):
        return np.nan
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def orders(values: Array) -> str:
    """Return the orders over successive halvings as text."""
    with np.errstate(all="ignore"):
        found = np.log2(values[:-1] / values[1:])
    return "orders over the halvings " + ", ".join(f"{v:.3f}" for v in found)


def refined(times: Array) -> Array:
    """Return the grid with its midpoints.

    A run lands on every time of its grid, and where the grid is finer than the tolerance asks for, that
    alone decides its error: a reference that landed on the same times would share it, whatever its rtol.
    """
    return np.sort(np.concatenate([times, (times + np.concatenate([[0.0], times[:-1]])) / 2]))


def kept(path: Trajectory, times: Array) -> Trajectory:
    """Return the trajectory at its start and at `times` alone."""
    chosen = np.flatnonzero(np.isin(path.t, np.append(path.t[0], times)))
    return path.at(chosen)


def _part(first: float, now: float, last: float) -> float:
    """Return how far a falling quantity has come, on a log scale between 0 and 1."""
    return min(1.0, max(0.0, math.log(first / max(now, last)) / math.log(first / last)))


@dataclass
class Experiment:
    """A problem with both sides: the network with its factors, and the point with its metric.

    Runs that several claims use are cached, so each is integrated once.
    """

    loss: Loss
    start: LowRankMatrix
    network: LinearNetwork
    rtol: float
    unit: float
    t_end: float | None
    max_evaluations: int
    rng: np.random.Generator
    chart: Chart | None
    progress: Callable[[str, float], None]
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    stage: str = ""

    @cached_property
    def said(self) -> LossFacts:
        """What the loss can do."""
        return facts(self.loss)

    @property
    def depth(self) -> int:
        return self.network.depth

    @property
    def rank(self) -> int:
        return self.start.rank

    @property
    def wide(self) -> bool:
        """Whether hidden layers have room for dormant modes that grow: depth 2, width above the rank."""
        return self.depth == 2 and min(*self.network.widths, *self.network.shape) > self.rank

    @property
    def metric(self) -> DepthMetric:
        return DepthMetric(self.depth)

    @property
    def wrong_metric(self) -> DepthMetric:
        """The control "wrong depth"."""
        return DepthMetric(self.depth + 1)

    @property
    def reference_rtol(self) -> float:
        return max(self.rtol / 100, 3e-14)

    # -- hypotheses ------------------------------------------------------------------------------

    @cached_property
    def balanced(self) -> Hypothesis:
        imbalance = self.network.relative_imbalance()
        return Hypothesis("balanced factors", imbalance <= BALANCED, imbalance)

    @cached_property
    def full_rank_inputs(self) -> Hypothesis:
        spectrum = self.said.spectrum
        if spectrum is None:
            return Hypothesis("full-rank inputs", False, "unknown: the loss has no `spectrum`")
        n, q = self.start.shape[1], spectrum.eigenvalues.size
        condition = float(spectrum.eigenvalues[0] / spectrum.eigenvalues[-1])
        if q < n:
            return Hypothesis("full-rank inputs", False, f"rank {q} of {n}")
        return Hypothesis("full-rank inputs", True, f"condition of X X^T {condition:.2g}")

    @cached_property
    def smooth(self) -> Hypothesis:
        """Whether the orders of solvers, and of what is expanded, may be expected: a kink lowers them."""
        twice = self.said.twice_differentiable
        return Hypothesis(
            "a loss that is twice differentiable", twice is not False, "no" if twice is False else "not denied"
        )

    @cached_property
    def within_horizon(self) -> Hypothesis:
        if not self.wide:
            return Hypothesis("within the validity horizon", True, "no horizon: depth above 2, or width r")
        return Hypothesis("within the validity horizon", True, f"claimed up to t={self.times[-1]:.4g}")

    def complete(self, *paths: Trajectory) -> Hypothesis:
        """Whether the runs reached the end of the compared times."""
        short = [p for p in paths if not p.status.finished]
        return Hypothesis("both runs complete", not short, short[0].message if short else "yes")

    # -- runs ------------------------------------------------------------------------------------

    def _callback(self, t_end: float) -> Callable[[Progress], None]:
        return lambda p: self.progress(self.stage, min(1.0, p.t / t_end))

    def riemannian(
        self,
        rtol: float,
        times: Array,
        *,
        metric: DepthMetric | None = None,
        loss: Loss | None = None,
        save: Save | None = None,
        **options: Any,
    ) -> Trajectory:
        """Integrate the Riemannian flow in the singular frame, kept at `times`."""
        flow = RiemannianFlow(self.loss if loss is None else loss, self.metric if metric is None else metric)
        return self._integrate(flow, self.start, rtol, times, save, chart=self.chart, **options)

    def factors(
        self,
        rtol: float,
        times: Array,
        *,
        network: LinearNetwork | None = None,
        loss: Loss | None = None,
        **options: Any,
    ) -> Trajectory:
        """Integrate the factor flow at its full widths, kept at `times`."""
        flow = FactorFlow(self.loss if loss is None else loss)
        return self._integrate(flow, self.network if network is None else network, rtol, times, None, **options)

    def _integrate(
        self,
        flow: RiemannianFlow | FactorFlow,
        start: LowRankMatrix | LinearNetwork,
        rtol: float,
        times: Array,
        save: Save | None,
        **options: Any,
    ) -> Trajectory:
        span = (0.0, float(times[-1]))
        options = (
            cast(dict[str, Any], {"callback": self._callback(span[1]), "max_evaluations": self.max_evaluations})
            | options
        )
        keep = Save(times=times, exact=True, steps=False) if save is None else save
        path = integrate(flow, start, t_span=span, rtol=rtol, save=keep, **options)
        if path.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        return path

    @cached_property
    def scout(self) -> Trajectory:
        """A cheap run of the Riemannian flow that finds the end of time and the grid."""
        self.stage = "finding the end of the run"
        horizon = 1e7 * self.unit if self.t_end is None else self.t_end
        first = self._gradient_at_start
        gtol = 0.9 * REDUCTION * first if self.t_end is None else 0.0  # a margin for the accuracy of this run
        path = integrate(
            RiemannianFlow(self.loss, self.metric),
            self.start,
            t_span=(0.0, horizon),
            rtol=max(1e-6, self.rtol),
            gtol=gtol,
            chart=self.chart,
            max_evaluations=self.max_evaluations // 4,
            callback=lambda p: self.progress(
                self.stage,
                _part(first, p.stationarity, gtol) if gtol else p.t / p.t_end,
            ),
        )
        if path.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        return path

    @cached_property
    def _gradient_at_start(self) -> float:
        return project(self.start, self.loss.gradient(self.start)).norm()

    @cached_property
    def growth(self) -> Array:
        """Integral of ||(I - UU^T) G (I - VV^T)||_2 dt at the times of the scouting run."""
        rates = np.array([normal_gradient_norm(self.loss, w) for w in self.scout.points])
        return np.concatenate([[0.0], np.cumsum(np.diff(self.scout.t) * (rates[1:] + rates[:-1]) / 2)])

    @cached_property
    def horizon(self) -> float:
        """Time up to which factors at their widths can follow the rank-r flow in double precision."""
        if not self.wide or self.growth[-1] < HORIZON:
            return math.inf
        return float(np.interp(HORIZON, self.growth, self.scout.t))

    @cached_property
    def end(self) -> str:
        """Which of its limits ended the run."""
        if math.isfinite(self.horizon):
            return "validity horizon"
        if self.scout.status is Status.CONVERGED:
            return f"projected gradient at {REDUCTION:g} of its start"
        if self.scout.status is Status.FINISHED:
            asked = "the end time that was asked for"
            return asked if self.t_end is not None else "the longest time, 1e7 natural units: no limit was reached"
        return self.scout.status.value

    @cached_property
    def all_times(self) -> Array:
        """The grid on which W is compared: 16 times a decade from a quarter of the natural unit, at most 64.

        Fewer where the factors are large: the factor path keeps them all.
        """
        end = float(self.scout.t[-1])
        first = min(self.unit / 4, end / 8)
        parameters = sum(f.size for f in self.network.factors)
        most = int(np.clip(5e7 / parameters, 8, 64))
        times = np.geomspace(first, end, min(most, 1 + math.ceil(16 * math.log10(end / first))))
        times[-1] = end
        return times

    @cached_property
    def times(self) -> Array:
        """The part of the grid within the validity horizon."""
        inside = self.all_times[self.all_times < self.horizon]
        return np.append(inside, self.horizon) if math.isfinite(self.horizon) else inside

    @cached_property
    def control_times(self) -> Array:
        """The first part of the grid, in which half of the loss is lost: controls must be caught there."""
        loss = self.reference.loss[1 : 1 + self.times.size]
        first = self.reference.loss[0]
        half = int(np.argmax(loss <= first - 0.5 * (first - loss.min())))
        return self.times[: max(half + 1, min(8, self.times.size))]

    @cached_property
    def reference(self) -> Trajectory:
        """The Riemannian flow at the reference tolerance."""
        self.stage = "Riemannian flow, reference"
        return kept(self.riemannian(self.reference_rtol, refined(self.times)), self.times)

    @cached_property
    def riemannian_path(self) -> Trajectory:
        self.stage = "Riemannian flow"
        return self.riemannian(self.rtol, self.times)

    @cached_property
    def factor_reference(self) -> Trajectory:
        self.stage = "factor flow, reference"
        return kept(self.factors(self.reference_rtol, refined(self.times)), self.times)

    @cached_property
    def factor_path(self) -> Trajectory:
        self.stage = "factor flow"
        return self.factors(self.rtol, self.times)

    @cached_property
    def wrong_depth_path(self) -> Trajectory:
        """The Riemannian flow of depth N + 1 from the same W(0), over the control times."""
        self.stage = "control: wrong depth"
        return self.riemannian(max(self.rtol, 1e-8), self.control_times, metric=self.wrong_metric)

    @cached_property
    def errors(self) -> tuple[Array, Array]:
        """(e_a, e_b) over time: factor side and Riemannian side, each against itself at rtol / 100."""
        return (
            gaps(self.factor_path, self.factor_reference, self.times),
            gaps(self.riemannian_path, self.reference, self.times),
        )

    def roundoff(self, *paths: Trajectory) -> float:
        """100 eps sqrt(evaluations), relative to W: random accumulation over the run, with two digits of reserve."""
        return 100 * EPS * math.sqrt(max(p.nfev for p in paths))

    @cached_property
    def largest_sharpness(self) -> float:
        """The largest Hessian eigenvalue of the factor loss along the reference path, at nine points."""
        points = self.reference.points
        chosen = {int(i) for i in np.linspace(0, len(points) - 1, 9)}
        return max(sharpness(self.loss, LinearNetwork.balanced(points[i], self.depth), tol=1e-2) for i in chosen)

    # -- pictures --------------------------------------------------------------------------------

    def time_axis(self, times: Array) -> list[float]:
        """Times in natural units."""
        return [float(t) for t in times / self.unit]

    time_label = "t in units of 1/(N λ₁ σ₁^(2-2/N))"

    def draw(
        self, name: str, title: str, caption: str, xlabel: str, ylabel: str, curves: list[Curve], **scales: str
    ) -> None:
        """Keep the data of a figure."""
        self.figures.append(Figure(name, title, caption, xlabel, ylabel, curves, **scales))


def curve(label: str, x: Iterable[float], y: Iterable[float], role: str = "a", points: bool = False) -> Curve:
    """Return a Curve of plain floats."""
    return Curve(label, [float(v) for v in x], [float(v) for v in y], role, points)
