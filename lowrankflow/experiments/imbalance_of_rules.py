"""What optimizers conserve: the imbalance of the factors under gradient descent, momentum, rates, decay, batches and Adam.

The drift of what the flow of each rule conserves, in a fixed time, against the step: it falls with it, except where nothing is
conserved. And the law of one update, which holds exactly at every step, except where a rule has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow.descent import Adam, Gradient, HeavyBall, LayerRates, MiniBatches, Nesterov, WeightDecay
from lowrankflow.experiments.look import COLOURS, INK, MUTED, panel
from lowrankflow.experiments.result import Compared, Result, Tell, finished

SIZE = (12.0, 4.2)
CAPTION = (
    "Left: how far the imbalances W_{j+1}^T W_{j+1} - W_j W_j^T have moved at time 1/2 from what the flow of each rule conserves,"
    " against the step: the imbalances themselves; with rates eta_j of the layers, those weighted by 1 / eta_j; with weight"
    " decay, those times exp(-2 gamma t). Depth 3, 4 x 4, unbalanced start, 30 samples. Thin line: slope 1. Dashed: not"
    " conserved. Right: the largest distance from D(k+1) - D(k) - Q(k) = beta (D(k) - D(k-1) + Q(k-1)) - 2 h gamma D(k) in 16"
    " updates, D the (weighted) imbalances, Q the same of the displacements. Derived (docs/theory.md#descent-beside-the-flow)."
)
RATES, DECAY = (0.5, 1.0, 2.0), 0.2
LAWLESS = ("Nesterov 0.5", "rates, unweighted", "Adam")


def imbalances(factors: Sequence[Any], c: Any) -> np.ndarray:
    """Return the imbalances, the square of layer j weighted by c_j."""
    return np.array([c[j + 1] * b.T @ b - c[j] * a @ a.T for j, (a, b) in enumerate(pairwise(factors))])


def drift(loss: Any, net: lrf.LinearNetwork, h: float, rule: Any, rates: Any, decay: float, batches: Any) -> float:
    """Return the largest drift of the weighted imbalances at time 1/2."""
    path = finished(lrf.gradient_descent(loss, net, step_size=h, steps=round(0.5 / h), rule=rule, batches=batches))
    c = 1 / np.asarray(rates)
    before, after = (imbalances(w.factors, c) for w in (net, path.points[-1]))
    return float(np.linalg.norm(after - np.exp(-2 * decay * path.t[-1]) * before, axis=(1, 2)).max())


def broken(
    loss: Any, net: lrf.LinearNetwork, h: float, rule: Any, rates: Any, decay: float, batches: Any, momentum: float
) -> float:
    """Return the largest distance of 16 updates from the law of one."""
    path = finished(lrf.gradient_descent(loss, net, step_size=h, steps=16, rule=rule, batches=batches, keep_every=1))
    c, iterates = 1 / np.asarray(rates), [w.factors for w in path.points]
    d = np.array([imbalances(f, c) for f in iterates])
    q = np.array([imbalances([x - y for x, y in zip(b, a, strict=True)], c) for a, b in pairwise(iterates)])
    change = np.diff(d, axis=0)
    kept = np.concatenate([0 * q[:1], (change + q)[:-1]])
    off = change - q - momentum * kept + 2 * h * decay * d[:-1]
    return float(np.linalg.norm(off, axis=(2, 3)).max())


def measure(quick: bool, tell: Tell) -> Result:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 30)), rng.standard_normal((4, 30))
    loss = lrf.losses.LeastSquares(x, y, reduction="mean")
    net = lrf.LinearNetwork.gaussian((4, 4), 3, widths=4, scale=0.7, rng=1)
    one, batches = (1.0, 1.0, 1.0), MiniBatches(x, y, 5, rng=0)
    rules: dict[str, tuple[Any, Any, float, Any, int]] = {
        "gradient": (Gradient(), one, 0.0, None, 1),
        "mini-batches of 5": (Gradient(), one, 0.0, batches, 1),
        "heavy ball 0.5": (HeavyBall(0.5), one, 0.0, None, 1),
        "Nesterov 0.5": (Nesterov(0.5), one, 0.0, None, 1),
        "rates, weighted": (LayerRates(RATES), RATES, 0.0, None, 1),
        "weight decay": (WeightDecay(DECAY), one, DECAY, None, 1),
        "rates, unweighted": (LayerRates(RATES), one, 0.0, None, 0),
        "Adam": (Adam(), one, 0.0, None, 0),
    }
    h = 0.5 / 2.0 ** np.arange(5, 9 if quick else 12)
    numbers: dict[str, Any] = {"h": h, "drift": {}, "off": {}}
    found = []
    for i, (name, (rule, rates, decay, source, order)) in enumerate(rules.items()):
        tell(name, i / len(rules))
        values = np.array([drift(loss, net, step, rule, rates, decay, source) for step in h])
        numbers["drift"][name] = values
        slope = float(np.polyfit(np.log(h[-3:]), np.log(values[-3:]), 1)[0])
        # noise of the batches that are drawn; Adam's drift has no order
        slack = 0.25 if source is not None else 0.12 if order else 0.3
        found.append(Compared(f"{name}: order of the drift", slope, order, slack, "=" if order else "<="))
        momentum = getattr(rule, "momentum", 0.0)
        off = np.array([broken(loss, net, step, rule, rates, decay, source, momentum) for step in h])
        numbers["off"][name] = off
        what = f"{name}: distance from the law of an update"
        if name in LAWLESS:
            found.append(Compared(what + ", at the longest step", off[0], 1e-8, relation=">="))
        else:  # roundoff of differences of products of matrices of norm 3
            found.append(Compared(what, off.max(), 1e-14, relation="<="))
    return Result(numbers, found)


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    left, right = figure.subplots(1, 2)
    panel(left, "Drift of what the flow conserves", "step $h$", "largest drift at time 1/2")
    panel(right, "Distance from the law of one update", "step $h$", "largest of 16 updates")
    h, markers = np.array(numbers["h"]), "os^Dv<xP"
    for i, name in enumerate(numbers["drift"]):
        kept = "unweighted" not in name and name != "Adam"
        look: dict[str, Any] = dict(marker=markers[i], ms=5, mfc="none", lw=1.4, ls="-" if kept else "--")
        look["color"] = COLOURS[i % 4] if kept else (INK if name == "Adam" else MUTED)
        left.loglog(h, numbers["drift"][name], **look)
        right.loglog(h, np.maximum(numbers["off"][name], 1e-17), **look, label=name)
    left.loglog(h, 0.02 * h / h[0], color=MUTED, lw=0.8)
    right.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.02, 0.5))
