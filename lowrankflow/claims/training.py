"""Claims about a run of gradient descent: what its theory bounds, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy import linalg

from ..descent import StepBound, certificate, gradient_descent
from ..descent.stops import Iterate
from ..flow import Status, integrate
from ..flows import FactorFlow, Save
from ..geometry import factor_hessian, join_directions, split_directions
from ..gradients import squared_norm
from ..losses import LeastSquares
from ..matrices import EPS, LinearNetwork
from ..report import Control, Figure, Hypothesis
from ..statements import Measurement, Statement, claim, derived, generator
from ..validation import Array
from .gaps import curve

__all__ = ["TRAINING", "Course", "Training"]

NRT = "Nguegnang, Rauhut, Terstiege (2024), with the constants of docs/theory.md#step-sizes"
_SHADOWED = 64  # updates over which descent is compared with the flow


@dataclass(frozen=True)
class Course:
    """What a run of descent did at every update."""

    h: float
    loss: Array
    square: Array  #: of the norm of all factor gradients
    norm: Array  #: the largest ||W_j||_2^2
    imbalance: Array  #: the largest ||D_j||_2
    drift: Array  #: D_j(k+1) - D_j(k) against h^2 (..), over the largest term, a row a multiple of h^2
    finished: bool
    noise: float  #: roundoff of the loss

    @property
    def rises(self) -> int:
        """Updates at which the loss rose by more than roundoff; one more where the run left the finite numbers."""
        return int((np.diff(self.loss) > self.noise).sum()) + (not self.finished)


@dataclass
class _Watch:
    """A test that never ends a run, and writes down where it is."""

    thorough: bool = True
    loss: list[float] = field(default_factory=list)
    square: list[float] = field(default_factory=list)
    norm: list[float] = field(default_factory=list)
    imbalance: list[float] = field(default_factory=list)
    drift: list[tuple[float, float]] = field(default_factory=list)
    _before: tuple[Iterate, list[Array]] | None = None

    def __call__(self, at: Iterate) -> bool:
        self.loss.append(at.loss)
        self.square.append(squared_norm(at.egrads))
        if self.thorough:
            factors, d = at.network.factors, at.network.imbalances()
            self.norm.append(max(float(linalg.norm(f, 2)) for f in factors) ** 2)
            self.imbalance.append(max((float(linalg.norm(x, 2)) for x in d), default=0.0))
            if self._before is not None:
                self.drift.append(_drift(*self._before, at, d))
            self._before = (at, d)
        return False


def _drift(at: Iterate, before: Sequence[Array], after: Iterate, now: Sequence[Array]) -> tuple[float, float]:
    """Return the error of the identity of the drift, and of twice the right side, over the largest squared norm of a factor."""
    h2 = (after.t - at.t) ** 2
    errors = []
    for wrong in (1.0, 2.0):
        worst = 0.0
        for j, (a, b) in enumerate(zip(before, now, strict=True)):
            lower, upper = at.egrads[j], at.egrads[j + 1]
            exact = wrong * h2 * (upper.T @ upper - lower @ lower.T)
            worst = max(worst, float(linalg.norm(b - a - exact)))
        errors.append(worst)
    scale = max(float(linalg.norm(f)) for w in (at, after) for f in w.network.factors) ** 2 or 1.0
    return errors[0] / scale, errors[1] / scale


@dataclass(frozen=True)
class Training:
    """A run of gradient descent at the step of its theory, and how the run is made."""

    loss: LeastSquares
    network: LinearNetwork
    bound: StepBound
    steps: int
    seed: int
    tell: Callable[[str, float], None]

    @cached_property
    def noise(self) -> float:
        """Roundoff of the loss at the start and below it: of a sum of squares of residuals, each that of what cancels in it."""
        value, zero = (float(self.loss.value(w)) for w in (self.network, np.zeros(self.loss.shape)))
        return 1e-13 * value + 1e-14 * math.sqrt(value * zero) + 1e-28 * zero

    @cached_property
    def course(self) -> Course:
        """The run at the step of the theorem."""
        return self.run(self.network, self.bound.step, "descent at the step of the theorem")

    def run(
        self, network: LinearNetwork, h: float, stage: str, *, thorough: bool = True, steps: int | None = None
    ) -> Course:
        """Return what descent does with a step."""
        watch, count = _Watch(thorough), self.steps if steps is None else steps
        path = gradient_descent(
            self.loss, network, step_size=h, steps=count, stop=watch,
            keep_every=max(1, count // 20), callback=lambda p: self.tell(stage, p.t / (h * count)),
        )  # fmt: skip
        if path.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        return Course(
            h, np.array(watch.loss), np.array(watch.square), np.array(watch.norm), np.array(watch.imbalance),
            np.array(watch.drift), path.status.finished, self.noise,
        )  # fmt: skip

    def falls(self, h: float) -> bool:
        """Whether the loss falls at every update with a step; ends at the first at which it does not."""
        last = [math.inf]

        def rose(at: Iterate) -> bool:
            last.append(at.loss)
            return at.loss > last[-2] + self.noise

        path = gradient_descent(self.loss, self.network, step_size=h, steps=self.steps, stop=rose)
        if path.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        return path.status is Status.FINISHED

    @cached_property
    def largest(self) -> tuple[float, float]:
        """Two steps a twentieth apart: the loss falls at every update with the first, and not with the second.

        Infinite where it falls with every step that was tried: then nothing moves.
        """
        good, bad = self.bound.step, self.bound.step
        if not self.falls(good):
            return 0.0, good
        for doubling in range(60):
            self.tell("largest step with monotone loss", doubling / 60)
            bad *= 2
            if not self.falls(bad):
                break
            good = bad
        else:
            return good, math.inf
        while bad > 1.05 * good:
            middle = math.sqrt(good * bad)
            good, bad = (middle, bad) if self.falls(middle) else (good, middle)
        return good, bad

    @property
    def moves(self) -> Hypothesis:
        """Whether the start is no critical point to roundoff: there nothing can be broken."""
        fall = float(self.course.square[0]) * self.bound.step
        says = f"by {fall:.2g}, roundoff {self.noise:.2g}"
        return Hypothesis(
            "the loss falls by more than roundoff in an update at the start", fall > 100 * self.noise, says
        )


@claim(
    "sufficient_decrease",
    statement="Every update lowers the loss by at least sigma h ||grad L||^2.",
    source=NRT,
    meaning=(
        "At the step of the theorem. Measured: the largest L(k+1) - L(k) + sigma h ||grad L(k)||^2 over all updates, over the"
        " loss at the start. Bound: its roundoff, 1e-13 and more where the start is near the minimum."
    ),
    hypotheses="inputs of full row rank; the step is at most the theorem's; the start is no critical point",
    controls="the same run, asked for more than descent can give: sigma = 2",
)
def sufficient_decrease(x: Training) -> Measurement:
    """The decrease of every update."""
    run = x.course
    scale = float(run.loss[0]) or 1.0
    bound = x.noise / scale

    def excess(sigma: float) -> float:
        return float((np.diff(run.loss) + sigma * run.h * run.square[:-1]).max()) / scale

    share = -np.diff(run.loss)[0] / (run.h * run.square[0]) if run.square[0] else 0.0
    return Measurement(
        excess(x.bound.sigma), "<=", bound, (x.moves,), (Control("sigma = 2", excess(2.0), bound),),
        f"sigma = {x.bound.sigma:.3g}, h = {run.h:.4g}, {run.loss.size - 1} updates; the first lowers it by {share:.3g} of"
        " h ||grad L||^2",
    )  # fmt: skip


@claim(
    "monotone",
    statement="The loss falls at every update.",
    source=NRT,
    meaning=(
        "Measured: the updates at which it rises by more than roundoff. Bound: 0. Beyond the step of the theorem"
        " nothing is claimed: the detail says up to which multiple of it the loss was seen to fall."
    ),
    hypotheses="as of sufficient_decrease",
    controls="the shortest step, to a twentieth, at which the loss was seen to rise within as many updates",
)
def monotone(x: Training) -> Measurement:
    """Rises of the loss."""
    run, (good, bad) = x.course, x.largest
    curves = [curve(f"the theorem's step, {run.h:.3g}", range(run.loss.size), run.loss, "a")]
    controls: tuple[Control, ...] = ()
    if good > 0 and math.isfinite(bad):
        last, broken = (x.run(x.network, h, "descent at larger steps", thorough=False) for h in (good, bad))
        curves += [
            curve(f"the longest at which it always fell, {good:.3g}", range(last.loss.size), last.loss, "b"),
            curve(f"control: {bad:.3g}", range(broken.loss.size), broken.loss, "control"),
        ]
        controls = (Control(f"step {bad:.4g}", float(broken.rises), 0.0),)
    figure = Figure(
        "descent", "Gradient descent at three steps", "The loss at every update.",
        "updates", "loss", curves, xscale="linear", yscale="log",
    )  # fmt: skip
    factor = good / run.h
    # where it rises at this very step there is no shorter one to control with, and the claim has failed
    found = Hypothesis("a step at which it rises was found", math.isfinite(bad), bad)
    return Measurement(
        float(run.rises), "<=", 0.0, (x.moves, found), controls,
        f"the loss was seen to fall at every update up to {factor:.3g} times this step, {good:.4g}; {bad:.4g} was too long",
        figures=(figure,),
    )  # fmt: skip


def _rescaled(x: Training, a: float) -> LinearNetwork:
    """Return factors of the same product, the first a times as large."""
    first, second, *others = x.network.factors
    return LinearNetwork([a * first, second / a, *others])


@claim(
    "bounded_imbalance",
    statement="No imbalance exceeds delta.",
    source=NRT,
    meaning="Measured: the largest ||W_{j+1}^T W_{j+1} - W_j W_j^T|| over all layers and updates, over delta. Bound: 1.",
    hypotheses="as of sufficient_decrease",
    controls="factors of the same product, the first scaled up until the bound cannot hold",
)
def bounded_imbalance(x: Training) -> Measurement:
    """The imbalance on the way."""
    run, delta = x.course, x.bound.delta
    a = 2.0
    while (other := _rescaled(x, a).imbalance()) < 2 * delta and a < 1e150:
        a *= 2
    factors = [curve("largest ||W_j||^2 / K", range(run.norm.size), run.norm / x.bound.factor, "a")]
    if delta:
        factors.append(curve("largest ||D_j|| / delta", range(1, run.norm.size), run.imbalance[1:] / delta, "b"))
    figure = Figure(
        "bounds", "How much of its bounds descent uses", "Both stay below 1 by the theorem.", "updates", "part of the bound",
        factors, yscale="log",
    )  # fmt: skip
    return Measurement(
        float(run.imbalance.max()) / delta, "<=", 1.0, (x.moves,), (Control(f"W_1 times {a:g}", other / delta, 1.0),),
        f"delta = {delta:.4g}; at the start {x.bound.start_imbalance:.3g}", figures=(figure,),
    )  # fmt: skip


@claim(
    "bounded_factors",
    statement="No squared norm of a factor exceeds K = M^(2/N) + N (N-1) delta / 2.",
    source=NRT,
    meaning="Measured: the largest ||W_j||^2 over all layers and updates, over K. Bound: 1.",
    hypotheses="as of sufficient_decrease",
    controls="factors of the same product, the first scaled up until the bound cannot hold",
)
def bounded_factors(x: Training) -> Measurement:
    """The norms of the factors on the way."""
    run, k = x.course, x.bound.factor
    first = float(linalg.norm(x.network.factors[0], 2)) ** 2
    a = max(2.0, math.sqrt(2 * k / first)) if first else 1.0
    other = max(float(linalg.norm(f, 2)) for f in _rescaled(x, a).factors) ** 2
    return Measurement(
        float(run.norm.max()) / k, "<=", 1.0, (x.moves,), (Control(f"W_1 times {a:.3g}", other / k, 1.0),),
        f"M = {x.bound.product:.4g}, K = {k:.4g}",
    )  # fmt: skip


@claim(
    "drift",
    statement="An update changes D_j by exactly h^2 (grad_{j+1}^T grad_{j+1} - grad_j grad_j^T).",
    source=derived("step-sizes"),
    meaning=(
        "Whatever the step: the terms of first order cancel. Measured at a tenth of the largest step with monotone loss, where"
        " the drift is large: the largest error over all layers and updates, over the largest squared norm of a factor."
        " Bound: 1e-14 times the square root of the widest layer, roundoff of the products."
    ),
    hypotheses="the start is no critical point; the drift of some update is well above roundoff",
    controls="twice the drift",
)
def drift(x: Training) -> Measurement:
    """The imbalance, update by update."""
    good = x.largest[0] if x.moves.met else 0.0  # where nothing moves every step is good, and gradients are roundoff
    h = max(x.bound.step, good / 10) if math.isfinite(good) else x.bound.step
    run = x.run(x.network, h, "drift of the imbalance", steps=min(x.steps, 200))
    found, wrong = (run.drift.max(axis=0) if run.drift.size else np.zeros(2)).tolist()
    bound = 1e-14 * math.sqrt(max(*x.network.widths, *x.network.shape))
    resolved = Hypothesis("the drift is well above roundoff", wrong > 10 * bound, wrong)
    return Measurement(
        found, "<=", bound, (x.moves, resolved), (Control("twice the drift", wrong, bound),), f"h = {h:.4g}"
    )


@claim(
    "shadow",
    statement="Descent stays as near the flow of the factors as a bound that is computed along with it.",
    source=f"in the manner of Elkabetz, Cohen (2021); {derived('descent-beside-the-flow')}",
    meaning=(
        "The bound adds up what one step of Euler's method misses, times what the Hessian can make of it, with everything"
        " bounded in balls that hold both. Measured: the largest distance of the factors from their flow at the same time, less"
        f" roundoff, over the bound, over {_SHADOWED} updates at the step of the theorem. Bound: 1."
    ),
    hypotheses="the bound is finite; it lies ten times above roundoff, also that of the flow, and well below what has moved",
    controls="the flow at twice the time",
)
def shadow(x: Training) -> Measurement:
    """The distance to the flow against its bound."""
    count = min(_SHADOWED, x.steps)
    x.tell("bound of the distance to the flow", 0.0)
    found = certificate(x.loss, x.network, step_size=x.bound.step, steps=count)
    if found.interrupted:
        raise KeyboardInterrupt
    times = found.t[1:]
    save = Save(times=np.union1d(times, 2 * times), exact=True)
    path = integrate(
        FactorFlow(x.loss), x.network, t_span=(0.0, 2 * times[-1]), rtol=3e-14, method="DOP853", save=save,
        callback=lambda p: x.tell("flow beside descent", p.t / p.t_end),
    )  # fmt: skip
    if path.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    at = dict(zip(path.t.tolist(), path.points, strict=True))

    # roundoff of the updates, and of the flow at the least tolerance that there is, in some ten times as many evaluations
    floor = 100 * EPS * max(math.sqrt(squared_norm(w.factors)) for w in found.networks) * math.sqrt(count + path.nfev)

    def away(factor: float) -> Array:
        pairs = zip(times.tolist(), found.networks[1:], strict=True)
        return np.array([_distance(at[factor * t], w) if factor * t in at else math.inf for t, w in pairs])

    def part(distance: Array) -> float:
        """The largest distance over its bound; of nothing, none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.where(distance > floor, (distance - floor) / bounds, 0.0).max())

    bounds, moved = found.bound[1:], _distance(found.networks[-1], x.network)
    ratio, wrong = part(away(1.0)), part(away(2.0))
    finite = Hypothesis("the bound is finite", bool(np.isfinite(bounds[-1])), float(bounds[-1]))
    resolved = Hypothesis(
        "the bound lies above roundoff", bool(bounds[-1] > 10 * floor), f"{bounds[-1]:.2g}, {floor:.2g}"
    )
    small = Hypothesis(
        "the bound lies well below what has moved", bool(bounds[-1] < moved / 4), f"{bounds[-1]:.2g}, {moved:.2g}"
    )
    return Measurement(
        ratio, "<=", 1.0, (finite, resolved, small), (Control("the flow at twice the time", wrong, 1.0),),
        f"distance {away(1.0)[-1]:.3g} of at most {bounds[-1]:.3g} after {count} updates",
    )  # fmt: skip


def _distance(a: LinearNetwork, b: LinearNetwork) -> float:
    return float(np.linalg.norm(join_directions(a.factors) - join_directions(b.factors)))


@claim(
    "edge",
    statement="At a minimiser, steps below 2 / sharpness let a deviation die out, and steps above it do not.",
    source=derived("gradient-descent"),
    meaning=(
        "Balanced factors of the best matrix, moved by 1e-6 of their size along the sharpest direction of the Hessian, then 100"
        " updates at 0.95 times the edge. Measured: what is left of the deviation along it, over its start. Theory:"
        " 0.9^100 = 2.7e-5. Bound: 1e-3."
    ),
    hypotheses="a best matrix is known; the sharpest direction is one alone",
    controls="1.05 times the edge: 1.1^100 = 1.4e4",
)
def edge(x: Training) -> Measurement | None:
    """Descent from beside a minimiser, at either side of the edge."""
    sizes = (*x.network.widths, *x.network.shape)
    rank = min(min(sizes), int((x.loss.spectrum.sigma > 1e-10 * x.loss.spectrum.sigma[0]).sum()))
    if rank == 0 or not x.loss.spectrum.sigma[0] > 0:
        return None
    rng = generator(x.seed, "edge")
    best = LinearNetwork.balanced(x.loss.minimiser(rank), x.network.depth, widths=x.network.widths, rng=rng)
    hessian = factor_hessian(x.loss, best)
    direction, sharp = rng.standard_normal(hessian.shape[0]), 0.0
    for i in range(300):  # powers of the Hessian, which has no large negative eigenvalue here
        image = hessian @ direction
        before, sharp = sharp, float(np.linalg.norm(image))
        if not sharp:
            return None
        direction = image / sharp
        if i > 20 and abs(sharp - before) <= 1e-12 * sharp:
            break
    size = 1e-6 * math.sqrt(squared_norm(best.factors))
    start = LinearNetwork([f + size * d for f, d in zip(best.factors, split_directions(best, direction), strict=True)])

    def left(part: float) -> float:
        path = gradient_descent(x.loss, start, step_size=2 * part / sharp, steps=100)
        if path.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        if not path.status.finished:
            return math.inf
        away = join_directions(path.points[-1].factors) - join_directions(best.factors)
        return abs(float(away @ direction)) / size

    found = float(np.linalg.norm(hessian @ direction - sharp * direction)) / sharp
    return Measurement(
        left(0.95), "<=", 1e-3, (Hypothesis("a sharpest direction was found", found < 1e-4, found),),
        (Control("1.05 times the edge", left(1.05), 1e-3),), f"sharpness {sharp:.6g}, edge {2 / sharp:.6g}",
    )  # fmt: skip


TRAINING: tuple[Statement[[Training]], ...] = (
    sufficient_decrease, monotone, bounded_imbalance, bounded_factors, drift, shadow, edge,
)  # fmt: skip
