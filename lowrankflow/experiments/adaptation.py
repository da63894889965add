"""Adapting a trained layer: time to a share of the gain against the scale of the start, beside the law of escape.

A linear layer is trained on the digits 0 to 4 and frozen; an update of rank 4 beside it learns 5 to 9. From factors of a small
scale that takes the logarithm of the scale, with a factor that theory knows; ScaledGD does not wait, three layers wait longer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import brentq

import lowrankflow as lrf
from lowrankflow.descent import LossBelow
from lowrankflow.experiments.look import BLUE, GREEN, INK, MUTED, PURPLE, VERMILLION, panel
from lowrankflow.experiments.result import Compared, Result, Tell, finished

SIZE = (12.0, 3.9)
CAPTION = (
    "A linear layer trained on the digits 0 to 4 is frozen; an update W = B A of rank 4 learns 5 to 9 beside it. Left: what is"
    " missing of the gain that rank 4 can have, along the flow of the factors, scale 0.01. Middle: time until a tenth of it is"
    " gained, against the scale of the start (of A where B = 0, else of the largest singular value of W). Marks: flows; dots:"
    " gradient descent, B = 0; lines: the law of escape, the flow linearised at W = 0; dotted: that of descent. Right: how far"
    " the marks are from the law. The law and all parameters are derived here or ours; the starts are those of"
    " LinearNetwork.lora. In the setting of Hu et al. (arXiv 2106.09685)."
)
RANK, DECAY, SHARE, STEP = 4, 1e-2, 0.1, 0.02
SCALES = np.geomspace(0.1, 1e-6, 11)
SHOWN = 1e-2  #: scale of the left panel
#: what a decade of the scale is worth in growths of the first mode: scale of A, or of B A
STARTS = {"zero-b": 1.0, "orthogonal": 1.0, "balanced": 0.5, "spectral": 0.5}


def digits(labels: range) -> lrf.losses.LeastSquares:
    """Return the mean square loss of a linear layer on some of the digits, with a little weight decay."""
    from sklearn.datasets import load_digits

    images, label = load_digits(return_X_y=True)
    pixels, chosen = images / np.sqrt(np.mean(images**2)), np.isin(label, labels)
    # rows of inputs with a zero target each: without decay, pixels that are always black are free
    inputs = np.hstack([pixels[chosen].T, np.sqrt(DECAY * chosen.sum()) * np.eye(64)])
    targets = np.hstack([np.eye(10)[:, label[chosen]], np.zeros((10, 64))])
    return lrf.losses.LeastSquares(inputs, targets, reduction="mean")


class Task:
    """The loss of the update of a trained layer, and what theory makes of it."""

    def __init__(self) -> None:
        first = digits(range(5))
        layer = lrf.LinearNetwork.orthogonal(first.shape, 2, widths=10, scale=0.01, rng=0)
        trained = finished(lrf.integrate(lrf.FactorFlow(first), layer, t_span=(0, 40), rtol=1e-6))
        self.loss = lrf.losses.Shifted(digits(range(5, 10)), trained.points[-1].to_dense())
        zero = np.zeros(self.loss.shape)
        self.pull = -(self.loss.gradient(zero) @ np.eye(64))  # minus the gradient at W_0
        self.u, self.g, self.vt = np.linalg.svd(self.pull, full_matrices=False)
        self.before, self.best = float(self.loss.value(zero)), self.loss.best_value(RANK)  # type: ignore[attr-defined]

    def missing(self, w: Any) -> float:
        """Return the share of the gain of rank 4 that is missing at an update."""
        return float((self.loss.value(w) - self.best) / (self.before - self.best))

    def start(self, name: str, scale: float) -> lrf.LinearNetwork:
        """Return the factors."""
        of: dict[str, Any] = {"of": self.pull / self.g[0]} if name == "spectral" else {}
        return lrf.LinearNetwork.lora(self.loss.shape, RANK, init=name, scale=scale, rng=0, **of)

    def escaped(self, net: lrf.LinearNetwork) -> float:
        """Return the time at which the linearised flow has gained its share.

        With -G = P diag(g) Q^T at W_0: (A q_i)' = g_i B^T p_i and (B^T p_i)' = g_i A q_i, hyperbolas of time.
        """
        a, b = self.vt @ net.factors[0].T, self.u.T @ net.factors[1]

        def missing(t: float) -> float:
            cosh, sinh = np.cosh(self.g * t)[:, None], np.sinh(self.g * t)[:, None]
            grown = lrf.Product(self.u @ (b * cosh + a * sinh), (a * cosh + b * sinh).T @ self.vt)
            return self.missing(grown) - (1 - SHARE)

        small = np.linalg.norm(a[0] + b[0]) / 2  # the factor along the first mode grows from it like exp(g_1 t)
        return first_root(missing, np.linspace(0, (np.log(1 / small) + 1) / self.g[0], 200))

    def flow(self, flow: Any, start: Any, t_end: float) -> lrf.Trajectory[Any]:
        """Return a run, and as its event when it has gained its share."""
        event = lrf.Event("gained", lambda t, w: self.missing(w) - (1 - SHARE), direction=-1)
        return finished(lrf.integrate(flow, start, t_span=(0, t_end), rtol=1e-8, events=[event], method="DOP853"))


def first_root(function: Callable[[float], float], times: Any) -> float:
    """Return where a function first falls through zero, nan where it starts below or does not."""
    below = np.array([function(t) < 0 for t in times])
    k = int(below.argmax())
    return float(brentq(function, times[k - 1], times[k], xtol=1e-14)) if k > 0 else np.nan


def gained(path: lrf.Trajectory[Any]) -> float:
    """Return the first time at which a run has gained its share, nan where it began beyond it."""
    return float(path.events["gained"][0]) if len(path.events["gained"]) else np.nan


def updates(task: Task, scale: float) -> float:
    """Return how many updates of descent gain the share, between two by the logarithm of what is gained."""
    level = task.before - SHARE * (task.before - task.best)
    path = finished(
        lrf.gradient_descent(
            task.loss, task.start("zero-b", scale), step_size=STEP, steps=2000, stop=LossBelow(level), keep_every=1
        )
    )
    low, high = np.log((task.before - path.loss[-2:]) / (task.before - level))
    return path.nsteps - high / (high - low)


def measure(quick: bool, tell: Tell) -> Result:
    task, scales = Task(), SCALES[::2] if quick else SCALES
    unit, flow = 1 / task.g[0], lrf.FactorFlow(task.loss)
    scaled = lrf.RiemannianFlow(task.loss, lrf.metrics.ScaledGDMetric())
    spectral = [task.start("spectral", s).to_low_rank(RANK) for s in scales]
    deep = [lrf.LinearNetwork.balanced(w, 3) for w in spectral]

    # the frames of the spectral start are those of the gradient at W_0, along which ScaledGD moves W by twice the gradient
    def along(t: float) -> float:
        return task.missing(lrf.Product(2 * t * task.u[:, :RANK] * task.g[:RANK], task.vt[:RANK])) - (1 - SHARE)

    constant = first_root(along, np.linspace(0, 1 / task.loss.curvature, 200))  # type: ignore[attr-defined]
    reached = 2 * constant * task.g[0]  # of the first mode, where a tenth is gained
    runs: dict[str, tuple[Any, Any, Any]] = {}  #: flow, starts, law
    for name in STARTS:
        nets = [task.start(name, s) for s in scales]
        runs[name] = flow, nets, [task.escaped(net) for net in nets]
    runs["ScaledGD"] = scaled, spectral, constant - scales * unit / 2
    runs["three layers"] = flow, deep, unit * (scales ** (-1 / 3) - reached ** (-1 / 3))
    numbers: dict[str, Any] = {"scale": scales, "g": task.g, "courses": {}, "times": {}, "law": {}}
    found = []
    shown = int(np.abs(np.log(scales / SHOWN)).argmin())
    for i, (name, (way, starts, law)) in enumerate(runs.items()):
        tell(name, i / (len(runs) + 1))
        law = np.where(np.array(law) > 0, law, np.nan)  # none where the start is beyond
        paths = [task.flow(way, w, 1.5 * t + 3 * unit) for w, t in zip(starts, np.nan_to_num(law), strict=True)]
        times = np.where(law > 0, [gained(path) for path in paths], np.nan)
        numbers["times"][name], numbers["law"][name] = (
            [None if np.isnan(t) else t for t in each] for each in (times, law)
        )
        path = task.flow(way, starts[shown], 30.0)
        numbers["courses"][name] = {"t": path.t, "missing": (path.loss - task.best) / (task.before - task.best)}
        if name in STARTS:
            fold = (times[-1] - times[-2]) / np.log(scales[-2] / scales[-1]) / unit
            found.append(Compared(f"{name}: time of an e-fold of the scale, times g_1", fold, STARTS[name], 0.01))
        # the gradient has changed by about a tenth by then: much for ScaledGD, little for who waits for an escape
        slack = 0.1 if name == "ScaledGD" else 0.03
        found.append(Compared(f"{name}: time from the least scale over the law's", times[-1] / law[-1], 1.0, slack))
    tell("descent", len(runs) / (len(runs) + 1))
    counts = np.array([updates(task, s) for s in scales])
    slower = STEP * task.g[0] / np.log1p(STEP * task.g[0])  # an update multiplies the first mode by 1 + h g_1
    numbers["updates"] = {"step": STEP, "count": counts, "slower": slower}
    law = np.log(scales[0] / scales[-1]) / np.log1p(STEP * task.g[0])
    found.append(Compared("descent: updates over all scales, over the law's", (counts[-1] - counts[0]) / law, 1, 0.01))
    return Result(numbers, found)


LOOKS = {
    "zero-b": (BLUE, "o", "B = 0, A Gaussian"), "orthogonal": (GREEN, "s", "B = 0, A orthogonal"),
    "balanced": (VERMILLION, "^", "balanced, random"), "spectral": (PURPLE, "D", "balanced, of the gradient"),
    "ScaledGD": (INK, "v", "ScaledGD"), "three layers": (MUTED, "x", "three layers, of the gradient"),
}  # fmt: skip


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    left, middle, right = figure.subplots(1, 3)
    panel(left, "Missing of the gain, scale 0.01", "time $t$", "share of the gain")
    panel(middle, "Time to a tenth of the gain", "scale of the start", "time $t$")
    panel(right, "Distance of the time from the law", "scale of the start", "time over that of the law, less 1")
    scale = np.array(numbers["scale"])
    for name, (colour, marker, label) in LOOKS.items():
        run = numbers["courses"][name]
        left.plot(run["t"], run["missing"], color=colour, lw=1.5, ls="--" if marker == "x" else "-", label=label)
        times, law = (np.array(numbers[key][name], dtype=float) for key in ("times", "law"))
        middle.plot(scale, law, color=colour, lw=1.2)
        middle.plot(scale, times, ls="none", color=colour, marker=marker, ms=5, mfc="none", label=label)
        right.loglog(scale, np.abs(times / law - 1), color=colour, marker=marker, ms=5, mfc="none", lw=0.8)
    of, law = numbers["updates"], np.array(numbers["law"]["zero-b"], dtype=float)
    middle.plot(scale, of["slower"] * law, color=BLUE, lw=1.0, ls=":")
    middle.plot(
        scale,
        np.array(of["count"]) * of["step"],
        ls="none",
        color=BLUE,
        marker=".",
        ms=5,
        label=f"descent, step {STEP}",
    )
    middle.set_xscale("log")
    middle.set_ylim(0, 5)
    left.set_ylim(0, 1.02)
    handles, labels = middle.get_legend_handles_labels()
    left.legend(handles, labels, frameon=False, fontsize=8.5)
