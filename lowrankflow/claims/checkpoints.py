"""Claims about a run of training that was made elsewhere, from its checkpoints and its step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from ..descent import Only, gradient_descent
from ..flow import Status, Trajectory, integrate
from ..flows import FactorFlow, ModifiedFlow, Save
from ..geometry import sharpness
from ..losses import Loss
from ..matrices import EPS, LinearNetwork
from ..report import Control, Figure, Hypothesis
from ..statements import Measurement, Statement, claim, derived
from ..validation import Array
from .gaps import curve

__all__ = ["RUN", "Followed", "Replay"]

_SEGMENTS, _UPDATES = 12, 100  # intervals between checkpoints that are replayed, and updates of one, at most
_SAME = 1e-2  # of the way between two checkpoints: what passes for the same update
_SEEN = 1e3  # roundoff of the checkpoints that a move has to exceed to be seen
_RTOL = 1e-9  # of the flows; between their steps interpolation is 300 times as far off at most, of 80 random ones
_BUDGET = 200_000
_ALONG = 0.99  # cosine from which two ways are one
_HALF = 0.5  # of the distance that is predicted; of the edge of stability
_SMALL = 0.15  # of the edge of stability: up to which two terms of an expansion in the step say what descent does


@dataclass(frozen=True)
class Replay:
    """An interval between two checkpoints, done again by descent."""

    update: int  #: at its start
    gap: float  #: of the replay from the checkpoint, over the way between the checkpoints
    wrong: float  #: the same with a step that is a tenth longer
    longer: float  #: the way between the checkpoints along that of the replay, over that of the replay
    turned: float  #: the cosine between the two


@dataclass(frozen=True, eq=False)
class Followed:
    """A run that was made elsewhere: its networks, after how many updates each, and the step.

    Networks with biases are their augmented ones, of which only some entries are trained.
    """

    loss: Loss
    networks: Sequence[LinearNetwork]
    updates: NDArray[np.int64]
    step: float
    tell: Callable[[str, float], None]
    trained: tuple[NDArray[np.bool_], ...] | None = None  #: of networks with biases: the weights and the biases

    @cached_property
    def states(self) -> Array:
        """What is trained, as vectors, a row a checkpoint."""
        return np.stack([self._flat(net) for net in self.networks])

    @cached_property
    def masks(self) -> tuple[NDArray[np.bool_], ...]:
        """Which entries are trained, those of all networks too."""
        return self.trained or tuple(np.ones(f.shape, dtype=bool) for f in self.networks[0].factors)

    def _flat(self, net: LinearNetwork) -> Array:
        return np.concatenate([f[free] for f, free in zip(net.factors, self.masks, strict=True)])

    def changed(self, net: LinearNetwork, change: Callable[[int, Array], Array]) -> LinearNetwork:
        """Return a network with what is trained of W_(j+1) replaced by change(j, W_(j+1))."""
        pairs = enumerate(zip(net.factors, self.masks, strict=True))
        return LinearNetwork([np.where(free, change(j, f), f) for j, (f, free) in pairs])

    def imbalances(self, net: LinearNetwork) -> list[Array]:
        """Return what the flow conserves: of an augmented network the blocks without the constants, with the bias term."""
        return net.imbalances() if self.trained is None else [d[:-1, :-1] for d in net.imbalances()]

    @cached_property
    def times(self) -> Array:
        """Flow times."""
        found: Array = self.step * (self.updates - self.updates[0])
        return found

    @cached_property
    def precision(self) -> float:
        """The unit of roundoff of the checkpoints: single precision where all of them are such numbers."""
        with np.errstate(over="ignore"):
            single = np.array_equal(self.states, self.states.astype(np.float32))
        return float(np.finfo(np.float32).eps) if single else EPS

    @cached_property
    def losses(self) -> Array:
        return np.array([float(self.loss.value(net)) for net in self.networks])

    def _along(self, flow: FactorFlow, stage: str) -> Array:
        """Return the states of a flow at the times of the checkpoints; nan where it did not come there."""
        end = float(self.times[-1])
        path: Trajectory = integrate(
            flow, self.networks[0], t_span=(0.0, end), rtol=_RTOL, max_evaluations=_BUDGET,
            save=Save(times=self.times[1:], steps=False),
            callback=lambda p: self.tell(stage, p.t / end),
        )  # fmt: skip
        if path.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        found = np.full_like(self.states, math.nan)
        for t, net in zip(path.t, path.points, strict=True):
            at = int(np.abs(self.times - t).argmin())
            if abs(self.times[at] - t) <= 1e-9 * end:
                found[at] = self._flat(net)
        return found

    @cached_property
    def flow(self) -> Array:
        return self._along(FactorFlow(self.loss, trained=self.trained), "the flow from the first checkpoint")

    @cached_property
    def modified(self) -> Array:
        return self._along(
            ModifiedFlow(self.loss, self.step, trained=self.trained), "the flow that descent with this step shadows"
        )

    @cached_property
    def replays(self) -> list[Replay]:
        """Intervals done again, those that are short enough and moved by more than roundoff, evenly chosen."""
        pairs = [i for i in range(len(self.networks) - 1) if self.updates[i + 1] - self.updates[i] <= _UPDATES]
        chosen = (
            [pairs[k] for k in np.unique(np.linspace(0, len(pairs) - 1, _SEGMENTS).round().astype(int))]
            if pairs
            else []
        )
        found = []
        for n, i in enumerate(chosen):
            self.tell("updates done again", n / len(chosen))
            a, b, count = self.states[i], self.states[i + 1], int(self.updates[i + 1] - self.updates[i])
            way = float(np.linalg.norm(b - a))
            if not way > _SEEN * self.precision * float(np.linalg.norm(b)):
                continue
            net = self.networks[i]
            mine, wrong = (self._again(net, h, count) for h in (self.step, 1.1 * self.step))
            shaken = self._again(self._shaken(net), self.step, count)
            if mine is None or shaken is None:
                continue
            # what the roundoff of the checkpoints is at the end, and in between, where the way is not stable
            noise = self.precision * float(np.linalg.norm(b)) + float(np.linalg.norm(shaken - mine))
            room = way + 100 / _SAME * noise
            off = math.inf if wrong is None else float(np.linalg.norm(wrong - b)) / room
            gap = float(np.linalg.norm(mine - b)) / room
            if max(gap, off) <= 2 * _SAME:  # whatever the step, it would have come there
                continue
            own, dot = float(np.linalg.norm(mine - a)), float((b - a) @ (mine - a))
            along = (dot / own**2, dot / (own * way)) if own else (math.nan, 0.0)
            found.append(Replay(int(self.updates[i]), gap, off, *along))
        return found

    def _again(self, net: LinearNetwork, h: float, count: int) -> Array | None:
        """Return the state that updates of descent lead to from a checkpoint; None where they leave the finite numbers."""
        rule = None if self.trained is None else Only(self.trained)
        path = gradient_descent(self.loss, net, step_size=h, steps=count, rule=rule, keep_every=count)
        if path.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        return self._flat(path.points[-1]) if path.status.finished else None

    def _shaken(self, net: LinearNetwork) -> LinearNetwork:
        """Return a network with every entry changed by up to the unit of roundoff of itself."""
        rng = np.random.default_rng(0)  # fixed: the answer must not vary between calls
        return self.changed(net, lambda j, f: f * (1 + self.precision * rng.uniform(-1, 1, f.shape)))

    @cached_property
    def edge(self) -> float:
        """The step over the edge of stability, 2 / sharpness, the largest of up to a dozen checkpoints."""
        chosen = np.unique(np.linspace(0, len(self.networks) - 1, _SEGMENTS).round().astype(int))
        try:
            edges = (sharpness(self.loss, self.networks[i], tol=1e-2, trained=self.trained) for i in chosen)
            return max(self.step * edge / 2 for edge in edges)
        except ValueError:  # a loss that is no longer finite
            return math.inf

    # -- hypotheses ------------------------------------------------------------------------------------------------

    @property
    def is_descent(self) -> Hypothesis:
        worst = max((one.gap for one in self.replays), default=math.inf)
        return Hypothesis("the run is descent with this step", worst <= _SAME, worst)

    def below_the_edge(self, share: float) -> Hypothesis:
        return Hypothesis(f"the step is at most {share:g} of the edge of stability", self.edge <= share, self.edge)

    @cached_property
    def gaps(self) -> tuple[Array, Array, Array]:
        """Distances run - flow, run - modified flow, modified flow - flow, over the norm of the run's state."""
        run, flow, modified = self.states, self.flow, self.modified
        return self.relative(run - flow), self.relative(run - modified), self.relative(modified - flow)

    def relative(self, changes: Array) -> Array:
        """Return the norms of changes (K, D) of the states, over those of the run's."""
        size = np.linalg.norm(self.states, axis=1)
        found: Array = np.linalg.norm(changes, axis=1) / np.where(size > 0, size, 1.0)
        return found


@claim(
    "update",
    statement="Between its checkpoints the run is gradient descent on this loss, with this step.",
    source=derived("step-sizes"),
    meaning=(
        "From up to a dozen checkpoints descent is run again to the next one. Measured: the largest distance at which it ends,"
        " over the way between the two and what roundoff of the checkpoints becomes. Bound: a hundredth. Where it is exceeded the"
        " detail says how the run moves instead."
    ),
    hypotheses="checkpoints at most a hundred updates apart, between which another step would have led elsewhere",
    controls="a step that is a tenth longer",
)
def update(x: Followed) -> Measurement:
    """Updates done again."""
    replays = x.replays
    seen = Hypothesis("intervals that tell one step from another", bool(replays), len(replays))
    if not replays:
        return Measurement(math.nan, "<=", _SAME, (seen,))
    worst = max(replays, key=lambda one: one.gap)
    control = Control("step 1.1 h", max(one.wrong for one in replays), _SAME)
    detail = f"{len(replays)} intervals of up to {_UPDATES} updates"
    if worst.gap > _SAME:
        first = next(one for one in replays if one.gap > _SAME)
        detail = f"from update {first.update}, most from {worst.update}: {_instead(worst)}"
    return Measurement(worst.gap, "<=", _SAME, (seen,), (control,), detail)


def _instead(one: Replay) -> str:
    """Say how a run moves that is not descent with this step: along its way, or off it by more than a step explains."""
    off = math.sqrt(max(1 - one.turned**2, 0.0))
    if one.turned <= _ALONG or off > abs(one.longer - 1):
        way = f"its way and that of descent have a cosine of {one.turned:.3g}"
        return f"{way}: batches, another optimizer, weight decay or another loss"
    momentum = f", momentum of about {1 - 1 / one.longer:.2g}" if one.longer > 1 else ""
    return f"it moves where descent does, {one.longer:.3g} times as far: another step{momentum} or another scale of the loss"


@claim(
    "distance",
    statement="The run keeps from the gradient flow the distance that its step predicts.",
    source="backward error analysis; D. G. T. Barrett, B. Dherin, ICLR 2021",
    meaning=(
        "Descent with step h shadows the flow of L + h/4 ||grad L||^2 to second order. From the first checkpoint both flows are"
        " integrated to rtol 1e-9. Measured: the largest distance of the run from that flow, over its largest from the gradient"
        " flow. Bound: a half; it is of the order of the step over its edge of stability."
    ),
    hypotheses="update; a step of at most 0.15 of the edge of stability; both flows come to the end; the distance is seen",
    controls="the flow without the correction, from which the distance is the whole one; twice the correction",
)
def distance(x: Followed) -> Measurement:
    """Distance from the flow, against its prediction."""
    plain, corrected, predicted = x.gaps
    there = bool(np.isfinite(predicted).all())
    largest = float(np.nanmax(plain)) if np.isfinite(plain).any() else math.nan
    least = _SEEN * max(x.precision, 10 * _RTOL)
    hypotheses = (
        x.is_descent, x.below_the_edge(_SMALL), Hypothesis("both flows come to the last checkpoint", there, str(there).lower()),
        Hypothesis("the distance from the flow is seen", largest > least, largest),
    )  # fmt: skip
    twice = x.relative(x.states + x.flow - 2 * x.modified)
    ratio, whole, wrong = (
        float(np.nanmax(gap)) / largest if largest > 0 else math.nan for gap in (corrected, plain, twice)
    )
    controls = (Control("no correction", whole, _HALF), Control("twice the correction", wrong, _HALF))
    figure = Figure(
        "run", "The run beside the flow", "Distances of all factors, over their norm, against flow time.", "flow time",
        "relative distance",
        [
            curve("run, from the flow", x.times, plain, "a"),
            curve("predicted: the flow that descent shadows, from the flow", x.times, predicted, "b"),
            curve("run, from that one", x.times, corrected, "control"),
        ],
        yscale="log",
    )  # fmt: skip
    left = np.flatnonzero(plain > 0.1)
    detail = f"at most {np.nanmax(plain):.2g} away"
    if left.size:
        detail = f"it leaves the flow by a tenth at t = {x.times[left[0]]:.4g}"
    return Measurement(ratio, "<=", _HALF, hypotheses, controls, detail, (figure,))


@claim(
    "drift",
    statement="The imbalances move no more than the step and the fall of the loss allow.",
    source=derived("step-sizes"),
    meaning=(
        "An update changes D_j by h^2 (grad_{j+1}^T grad_{j+1} - grad_j grad_j^T), and lowers the loss by h (1 - h lambda / 2)"
        " ||grad||^2 at least. Measured: the largest change of any D_j since the first checkpoint, in the spectral norm, less the"
        " roundoff of the checkpoints and of the updates, over h times the fall of the loss. Bound: 2, for steps up to half of"
        " the edge. With biases D_j has the term -b_j b_j^T."
    ),
    hypotheses="a step of at most half of the edge of stability; the loss falls; layers that are not too small to show it",
    controls="the last checkpoint with one layer ten times as large",
)
def drift(x: Followed) -> Measurement:
    """Drift of what the flow conserves."""
    first, fall = x.imbalances(x.networks[0]), x.losses[0] - x.losses
    falls = Hypothesis("the loss falls", bool(fall[-1] > 0), float(fall[-1]))

    def moved_by(net: LinearNetwork, k: int) -> float:
        moved = max((float(linalg.norm(a - b, 2)) for a, b in zip(x.imbalances(net), first, strict=True)), default=0.0)
        sizes = (float(linalg.norm(f[free])) for f, free in zip(net.factors, x.masks, strict=True))
        # the checkpoint's own roundoff, and that of every update, half a unit of each entry of both layers of a joint
        noise = (10 + float(x.updates[k] - x.updates[0])) * x.precision * max(sizes) ** 2
        return max(moved - noise, 0.0) / (x.step * fall[k]) if fall[k] > 0 else math.inf if moved > noise else 0.0

    measured = max(moved_by(net, k) for k, net in enumerate(x.networks) if k)

    # the layer by which it shows most: where activations are tiny, or a layer is zero, others do not
    def tenfold(k: int) -> LinearNetwork:
        return x.changed(x.networks[-1], lambda j, f: 10 * f if j == k else f)

    wrong, layer = max((moved_by(tenfold(k), -1), k + 1) for k in range(len(x.masks)))
    hypotheses = (
        x.below_the_edge(_HALF),
        falls,
        Hypothesis("layers large enough to show a tenfold one", wrong > 2.0, wrong),
    )
    return Measurement(measured, "<=", 2.0, hypotheses, (Control(f"W_{layer} times ten", wrong, 2.0),))


RUN: tuple[Statement[[Followed]], ...] = (update, distance, drift)
