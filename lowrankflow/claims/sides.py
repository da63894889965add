"""One problem with its two sides, the runs that its claims share, and how either side is integrated."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..charts import Chart
from ..flow import Status, Step, Trajectory, integrate
from ..flows import FactorFlow, RiemannianFlow, Save
from ..geometry import sharpness
from ..losses import Loss, LossFacts, facts
from ..matrices import EPS, LinearNetwork, LowRankMatrix
from ..matrices.requirements import require_depth, require_point
from ..metrics import DepthMetric
from ..report import Hypothesis
from ..statements import generator
from ..validation import Array
from .gaps import gap, gaps

BALANCED = 1e-12  # relative imbalance that passes for balanced: the gap it causes is below every bound used here
REDUCTION = 1e-4  # default end: the projected gradient, relative to its start
PARTED = 3  # times the bound from which a claim is broken, whatever runs that ended early would have done
HORIZON = 0.5 * math.log(1 / EPS)  # a dormant mode then is sqrt(eps), its product at roundoff
TIME = "t in units of 1/(N λ₁ σ₁^(2-2/N))"  #: the label of an axis of times


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


@dataclass(frozen=True)
class Sides:
    """A problem with both sides: the network with its factors, and the point with its metric."""

    loss: Loss
    start: LowRankMatrix
    network: LinearNetwork
    rtol: float
    unit: float  #: natural unit of time
    t_end: float | None
    max_evaluations: int
    chart: Chart | None
    seed: int  #: of which each claim draws by its own name
    tell: Callable[[str, float], None]  #: progress: stage, fraction

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

    def rng(self, name: str) -> np.random.Generator:
        """Return the generator from which a claim draws."""
        return generator(self.seed, name)

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

    @property
    def smooth(self) -> Hypothesis:
        """Whether the orders of solvers, and of what is expanded, may be expected: a kink lowers them."""
        twice = self.said.twice_differentiable
        return Hypothesis(
            "a loss that is twice differentiable", twice is not False, "no" if twice is False else "not denied"
        )

    # -- either side -----------------------------------------------------------------------------

    def riemannian(
        self,
        rtol: float,
        times: Array,
        stage: str,
        *,
        metric: DepthMetric | None = None,
        loss: Loss | None = None,
        save: Save | None = None,
        **options: Any,
    ) -> Trajectory:
        """Integrate the Riemannian flow in the singular frame, kept at `times`; progress is told as `stage`."""
        flow = RiemannianFlow(self.loss if loss is None else loss, self.metric if metric is None else metric)
        return self._integrate(flow, self.start, rtol, times, stage, save, chart=self.chart, **options)

    def factors(
        self,
        rtol: float,
        times: Array,
        stage: str,
        *,
        network: LinearNetwork | None = None,
        loss: Loss | None = None,
        **options: Any,
    ) -> Trajectory:
        """Integrate the factor flow at its full widths, kept at `times`; progress is told as `stage`."""
        flow = FactorFlow(self.loss if loss is None else loss)
        return self._integrate(flow, self.network if network is None else network, rtol, times, stage, None, **options)

    def _integrate(
        self,
        flow: RiemannianFlow | FactorFlow,
        start: LowRankMatrix | LinearNetwork,
        rtol: float,
        times: Array,
        stage: str,
        save: Save | None,
        **options: Any,
    ) -> Trajectory:
        end = float(times[-1])

        def told(p: Step) -> None:
            self.tell(stage, min(1.0, p.t / end))

        keep = Save(times=times, exact=True, steps=False) if save is None else save
        usual: dict[str, Any] = {
            "method": "auto", "max_evaluations": self.max_evaluations, "callback": told, "save": keep,
        }  # fmt: skip
        path = integrate(flow, start, t_span=(0.0, end), rtol=rtol, **(usual | options))
        if path.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        return path

    def time_axis(self, times: Array) -> list[float]:
        """Times in natural units."""
        return [float(t) for t in times / self.unit]


@dataclass(frozen=True)
class Runs:
    """The runs that several claims share, each made once; ``compare`` makes them.

    Attributes
    ----------
    scout : Trajectory
        A cheap run of the Riemannian flow, which finds the end of time and the grid.
    growth : ndarray
        Integral of ||(I - UU^T) G (I - VV^T)||_2 dt at the times of `scout`; zeros where nothing can grow.
    horizon : float
        Time up to which factors at their widths can follow the rank-r flow in double precision.
    times : ndarray
        The grid on which W is compared, up to the horizon.
    control_times : ndarray
        The first part of it, in which half of the fall of the loss is done: controls must be caught there.
    riemannian, factors : Trajectory
        Either side at the tolerance of the report.
    reference, factor_reference : Trajectory
        Either side at the reference tolerance.
    wrong_depth : Trajectory
        The Riemannian flow of depth N + 1 from the same W(0), over the control times.
    sharpness : float
        The largest Hessian eigenvalue of the factor loss along the reference.
    """

    scout: Trajectory = field(repr=False)
    growth: Array = field(repr=False)
    horizon: float
    times: Array = field(repr=False)
    control_times: Array = field(repr=False)
    riemannian: Trajectory = field(repr=False)
    reference: Trajectory = field(repr=False)
    factors: Trajectory = field(repr=False)
    factor_reference: Trajectory = field(repr=False)
    wrong_depth: Trajectory = field(repr=False)
    sharpness: float

    @cached_property
    def moved(self) -> float:
        """How far W gets from W(0) over the control times, relative to where it gets."""
        points = self.reference.points[: 1 + self.control_times.size]
        return max((gap(points[0], w) for w in points[1:]), default=0.0)

    @cached_property
    def errors(self) -> tuple[Array, Array]:
        """(e_a, e_b) over time: factor side and Riemannian side, each against itself at rtol / 100."""
        return (
            gaps(self.factors, self.factor_reference, self.times),
            gaps(self.riemannian, self.reference, self.times),
        )


def within_horizon(x: Sides, runs: Runs) -> Hypothesis:
    """The compared times end at the horizon, where there is one."""
    says = f"claimed up to t={runs.times[-1]:.4g}" if x.depth == 2 else "no horizon: depth above 2"
    return Hypothesis("within the validity horizon", True, says)


def complete(*paths: Trajectory, parted: bool = False) -> Hypothesis:
    """Whether all runs that a claim stands on, its controls and the references among them, reached their ends.

    A claim that is broken by what they did before (`parted`) would not be mended by the rest.
    """
    short = [p for p in paths if not p.status.finished]
    return Hypothesis("all runs complete", not short or parted, short[0].message if short else "yes")


def telling(runs: Runs, bound: float, *, parted: bool = False) -> Hypothesis:
    """Whether W moves so far while the controls are watched that they could be told from the claim.

    A control changes the velocity by a share of order one: it leaves a bound that W itself leaves by ten times. A claim that
    is broken by three bounds (`parted`) needs no telling.
    """
    return Hypothesis("W moves ten times as far as the bound", runs.moved > 10 * bound or parted, runs.moved)


def roundoff(*paths: Trajectory) -> float:
    """100 eps sqrt(evaluations), relative to W: random accumulation over the run, with two digits of reserve."""
    return 100 * EPS * math.sqrt(max(p.nfev for p in paths))
