"""Claims about any convex differentiable loss of the factors: no spurious minima, and kicks."""

from __future__ import annotations

import math
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.optimize import minimize

from ..landscape import certify_gradient, kick, kick_and_descend, refactored, saddle
from ..landscape.kicks import descend
from ..losses import Huber, Inputs, LogCosh, Loss, Measured, Softmax
from ..matrices import LinearNetwork
from ..report import Control, Hypothesis
from ..statements import Measurement, Statement, claim, derived
from ..validation import Array
from .critical_points import at, problems
from .populations import SPREAD, Population, factor_gradients

__all__ = ["ANY_LOSS"]

LAURENT = "Laurent, von Brecht (2018)"
DERIVED = derived("landscape")
_SAMPLES, _INPUTS, _OUTPUTS = 60, 4, 3


class Smooth:
    """Three convex losses of one random data set, written for the library and once more in numpy."""

    x: Array
    labels: Array
    y: Array

    def __init__(self, rng: np.random.Generator) -> None:
        self.x = rng.standard_normal((_INPUTS, _SAMPLES))
        clean = rng.standard_normal((_OUTPUTS, _INPUTS)) @ self.x
        self.labels = np.argmax(clean + 3 * rng.standard_normal(clean.shape), axis=0)  # no linear map separates them
        self.y = clean + rng.standard_t(3, clean.shape)
        self.losses: dict[str, Loss] = {
            "cross-entropy": Measured(Inputs(self.x, _OUTPUTS), Softmax(self.labels, _OUTPUTS), reduction="mean"),
            "Huber": Measured(Inputs(self.x, _OUTPUTS), Huber(self.y, 0.3), reduction="mean"),
            "log-cosh": Measured(Inputs(self.x, _OUTPUTS), LogCosh(self.y), reduction="mean"),
        }

    def slope(self, name: str, w: Array) -> tuple[float, Array]:
        """Return value and gradient in W."""
        z = w @ self.x
        if name == "cross-entropy":
            z = z - z.max(axis=0)
            p = np.exp(z) / np.exp(z).sum(axis=0)
            hit = p[self.labels, np.arange(_SAMPLES)]
            p[self.labels, np.arange(_SAMPLES)] -= 1.0
            return float(-np.log(hit).mean()), p @ self.x.T / _SAMPLES
        e = z - self.y
        if name == "Huber":
            inside = np.abs(e) <= 0.3
            value = np.where(inside, 0.5 * e**2, 0.3 * np.abs(e) - 0.045).sum()
            return float(value) / _SAMPLES, np.clip(e, -0.3, 0.3) @ self.x.T / _SAMPLES
        value = (np.abs(e) + np.log1p(np.exp(-2 * np.abs(e))) - math.log(2)).sum()
        return float(value) / _SAMPLES, np.tanh(e) @ self.x.T / _SAMPLES

    @cached_property
    def optima(self) -> dict[str, float]:
        """The least values over all W, by BFGS on its entries."""
        found = {}
        for name in self.losses:

            def slope(x: Array, name: str = name) -> tuple[float, Array]:
                value, gradient = self.slope(name, x.reshape(_OUTPUTS, _INPUTS))
                return value, gradient.ravel()

            best = minimize(slope, np.zeros(_OUTPUTS * _INPUTS), jac=True, method="BFGS", options={"gtol": 1e-9})
            found[name] = float(best.fun)
        return found


def _start(widths: list[int], rng: np.random.Generator) -> LinearNetwork:
    return LinearNetwork.gaussian((widths[-1], widths[0]), len(widths) - 1, widths=widths[1:-1], rng=rng)


# ---------------------------------------------------------------------------------------------------------------------
# local minima


@claim(
    "no spurious minima",
    statement="With no hidden layer narrower than input and output every descent ends at the convex optimum.",
    source=f"{LAURENT}: every local minimum is global; that descents end at one is measured",
    meaning=(
        "A reduced size: cross-entropy, Huber and log-cosh on 60 samples, depths 2, 3, 4, hidden width 3, Gaussian"
        " starts, L-BFGS. Measured: the largest gap between the loss at the end and the least value over all W, which"
        " another program finds in numpy alone. Bound: 1e-9. It would fail at a local minimum that is not global."
    ),
    hypotheses="every descent ended: relative factor gradient below 1e-5",
    controls="hidden width 1: the least gap",
)
def no_spurious_minima(x: Population) -> Measurement:
    """Ends of descents at full width and at a bottleneck."""
    rng, gaps, narrow, gradients = x.rng("no spurious minima"), [], [], []
    data = Smooth(rng)
    for name, loss in data.losses.items():
        for depth in (2, 3, 4):
            for _ in range(x.share(0.001)):
                end = descend(loss, _start([_INPUTS, *[3] * (depth - 1), _OUTPUTS], rng))[0]
                gaps.append(float(loss.value(end)) - data.optima[name])
                gradients.append(certify_gradient(loss, end).relative_factor_gradient)
        end = descend(loss, _start([_INPUTS, 1, _OUTPUTS], rng))[0]
        narrow.append(float(loss.value(end)) - data.optima[name])
    return Measurement(
        max(map(abs, gaps)), "<=", 1e-9,
        (Hypothesis("relative gradients at the ends", max(gradients) < 1e-5, max(gradients)),),
        (Control("hidden width 1", min(narrow), 1e-9),), f"{len(gaps)} descents",
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# kicks


def _relative(p_gradients: list[Array], scale: float) -> float:
    return float(np.sqrt(sum(float((g**2).sum()) for g in p_gradients))) / (scale or 1.0)


@claim(
    "kick keeps the loss",
    statement="A kick along null spaces changes neither product nor loss.",
    source=f"{LAURENT}, the perturbation of the proof of their main theorem; as an algorithm {DERIVED}",
    meaning=(
        "Random critical points, kicks of norm 0.3 a factor. Measured: the largest change of the dense loss, over the"
        " loss, that of the zero matrix, and the square of the norms of the factors. Bound: 1e-13."
    ),
    hypotheses="a factor moved",
    controls="steps of the same norm in no null space",
)
def kick_keeps(x: Population) -> Measurement:
    """The loss before and after."""
    rng, gaps, wrong = x.rng("kick keeps the loss"), [], []
    for p in x.points[: x.share(0.3, 10)]:
        moved = kick(p.network, rng=rng)
        if not moved.moved:
            continue
        norms = float(np.prod([np.linalg.norm(f, 2) for f in moved.network.factors]))
        scale = p.total + 0.5 * (norms * float(np.linalg.norm(p.inputs, 2))) ** 2
        gaps.append(abs(at(p, moved.network).value - p.value) / scale)
        if p.rank:  # steps that meet the active part
            steps = [rng.standard_normal(f.shape) for f in p.network.factors]
            moves = [0.3 * z / np.linalg.norm(z) for z in steps]
            off = LinearNetwork([f + z for f, z in zip(p.network.factors, moves, strict=True)])
            wrong.append(abs(at(p, off).value - p.value) / scale)
    return Measurement(
        max(gaps, default=0.0), "<=", 1e-13, (Hypothesis("networks that a kick moves", bool(gaps and wrong), len(gaps)),),
        (Control("steps in no null space", float(np.median(wrong)) if wrong else 0.0, 1e-13),), f"{len(gaps)} kicks",
    )  # fmt: skip


@claim(
    "kick gives a gradient",
    statement="After a kick the factor gradient vanishes only where the gradient end to end does.",
    source=f"{LAURENT}, the proof of their main theorem; as an algorithm {DERIVED}",
    meaning=(
        "Random critical points that are no minimiser, no hidden layer narrower than input and output. Measured: the"
        " least factor gradient by the product rule after a kick of norm 1 a factor, over ||Y X^T|| and the norms of"
        " the other factors. Bound: at least 1e-12; before it is roundoff, 1e-15. At a saddle of order m it is of order"
        " (size / norm)^(m-1)."
    ),
    hypotheses="a gradient end to end, and the width condition",
    controls="global minimisers that learn all of the targets: nothing is left to be had",
)
def kick_gives_gradient(x: Population) -> Measurement:
    """Gradients after kicks."""
    rng, found, none = x.rng("kick gives a gradient"), [], []

    def gradient(p_network: LinearNetwork, inputs: Array, targets: Array) -> float:
        norms = [float(np.linalg.norm(f, 2)) for f in p_network.factors]
        others = max(float(np.prod(np.delete(norms, j))) for j in range(len(norms)))
        scale = others * float(np.linalg.norm(targets @ inputs.T, 2))
        return _relative(factor_gradients(p_network.factors, inputs, targets), scale)

    def wide(net: LinearNetwork) -> bool:
        return min(net.widths) >= min(net.shape)

    for p in x.some("kicks", x.share(0.1, 5), lambda p: wide(p.network) and p.rank < p.squares.size):
        found.append(gradient(kick(p.network, size=1.0, rng=rng).network, p.inputs, p.targets))
    for p in x.some("no kick", 3, lambda p: wide(p.network) and p.rank == p.squares.size):
        none.append(gradient(kick(p.network, size=1.0, rng=rng).network, p.inputs, p.targets))
    return Measurement(
        min(found), ">=", 1e-12, controls=(Control("global minimisers", max(none), 1e-12, ">="),),
        detail=f"{len(found)} kicks",
    )  # fmt: skip


_KICKS = {2: 1e-3, 3: 4e-3, 4: 6e-3, 5: 0.1}  # sizes over balanced factors: the last of six is above roundoff


@claim(
    "order of a kick",
    statement="The gradient after a kick of size eps is of order eps^(m-1) at a saddle of order m, at the origin eps^(N-1).",
    source=DERIVED,
    meaning=(
        "Built saddles of random orders with two hidden units to spare, and the origin. Measured: the largest"
        " difference from m - 1 of the slope of the gradient in the size of the kick, fitted over five halvings, from"
        " 0.001 of balanced factors on at order 2 to 0.1 at order 5. Bound: 0.05, for the next terms are a size times"
        " as large."
    ),
    hypotheses="no hidden layer narrower than input and output",
    controls="m in place of m - 1",
)
def order_of_a_kick(x: Population) -> Measurement:
    """Slopes of gradients in the size of a kick."""
    rng, slopes = x.rng("order of a kick"), []
    for p in problems(rng, x.share(0.02, 3)):
        for depth in (2, 3, 4, 5):
            width = max(p.network.shape) + 2
            rank, m = int(rng.integers(0, p.squares.size)), int(rng.integers(2, depth + 1))
            net = saddle(p.loss, depth, widths=width, rank=rank, order=m, spread=SPREAD, rng=rng)
            origin = LinearNetwork([np.zeros_like(f) for f in net.factors])
            seed = int(rng.integers(2**31))
            for start, order in ((net, m), (origin, depth)):
                natural = float(p.problem.sigma[0]) ** (1 / depth)
                sizes = _KICKS[order] * natural * 2.0 ** -np.arange(6)
                kicked = [kick(start, size=float(h), rng=seed).network.factors for h in sizes]
                gradients = [_relative(factor_gradients(f, p.inputs, p.targets), 1.0) for f in kicked]
                slopes.append((float(np.polyfit(np.log(sizes), np.log(gradients), 1)[0]), order))
    return Measurement(
        max(abs(s - m + 1) for s, m in slopes), "<=", 0.05,
        controls=(Control("m in place of m - 1", min(abs(s - m) for s, m in slopes), 0.05),),
        detail=f"{len(slopes)} saddles",
    )  # fmt: skip


def _padded(loss: Loss, depth: int, rng: np.random.Generator) -> LinearNetwork:
    """Return where a network with one hidden unit ends, padded by zeros to width 4 in a random basis: critical at any width."""
    sizes = [_INPUTS, *[4] * (depth - 1), _OUTPUTS]
    narrow = descend(loss, _start([_INPUTS, *[1] * (depth - 1), _OUTPUTS], rng), tolerance=1e-14)[0]
    padded = [np.zeros((b, a)) for a, b in pairwise(sizes)]
    for big, small in zip(padded, narrow.factors, strict=True):
        big[: small.shape[0], : small.shape[1]] = small
    return refactored(LinearNetwork(padded), spread=0.3, rng=rng)


@claim(
    "kick and descend",
    statement="Every critical point with a gradient end to end is left by a kick and a descent, for the convex optimum.",
    source=f"{DERIVED}, from the proof of {LAURENT}",
    meaning=(
        "A reduced size: ends of descents with one hidden unit, padded by zeros to width 4, for cross-entropy, Huber"
        " and log-cosh, depths 2, 3, 4. Measured: the largest gap that is left to the least value over all W. Bound:"
        " 1e-9. The least fall is in the details."
    ),
    hypotheses=(
        "the points are critical: relative factor gradient below 1e-6; their gradient end to end is not zero; the"
        " descents ended"
    ),
    controls="the points themselves, kicked but not lower: the least gap there",
)
def kicked_descents(x: Population) -> Measurement:
    """Ends of kicks and descents."""
    rng, gaps, before, critical, ends, left = x.rng("kick and descend"), [], [], [], [], []
    data = Smooth(rng)
    for name, loss in data.losses.items():
        for depth in (2, 3, 4):
            start = _padded(loss, depth, rng)
            certificate = certify_gradient(loss, start)
            critical.append(certificate.relative_factor_gradient)
            ends.append(certificate.relative_gradient)
            found = kick_and_descend(loss, start, zero=1e-8, rng=rng)
            left.append(found.certificate.relative_gradient)
            gaps.append(found.value - data.optima[name])
            before.append(float(loss.value(kick(start, rng=rng).network)) - data.optima[name])
    falls = [b - g for b, g in zip(before, gaps, strict=True)]
    return Measurement(
        max(map(abs, gaps)), "<=", 1e-9,
        (
            Hypothesis("relative factor gradients", max(critical) < 1e-6, max(critical)),
            Hypothesis("relative gradients end to end", min(ends) > 1e-3, min(ends)),
            Hypothesis("relative gradients end to end after it", max(left) <= 1e-6, max(left)),
        ),
        (Control("kicked, not descended", min(before), 1e-9),), f"{len(gaps)} points; least fall {min(falls):.3g}",
    )  # fmt: skip


ANY_LOSS: tuple[Statement[[Population]], ...] = (
    no_spurious_minima, kick_keeps, kick_gives_gradient, order_of_a_kick, kicked_descents,
)  # fmt: skip
