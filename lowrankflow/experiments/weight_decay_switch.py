"""Weight decay: below a switch value no mode is learned; from depth 3 on zero stays a local minimum beyond it.

Critical values of a mode against the singular value y of the target, depths 2 to 5, and where gradient descent on
factors with weight decay ends, from a small and from a large start.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow.experiments.look import BLUE, INK, MUTED, VERMILLION, panel
from lowrankflow.experiments.result import Compared, Result, Tell

SIZE = (12.0, 3.5)
CAPTION = (
    "Singular values of the product at critical points of |W - Y|^2 / 2 + (gamma / 2) sum |W_j|^2, gamma = 0.25, against"
    " those of the target, y; all factors share s, and the product has s^N. Lines: local minima (solid) and saddles"
    " (dashed) of a mode, y_c (dotted) where they appear, y_t (dash-dotted) where the larger becomes the global minimum."
    " Marks: ends of gradient descent on all factors of a diagonal target with every y shown, from 0.1 and from"
    " 1.9^(1/N) times the identity, perturbed. All formulas are derived; compare Chen, Jiang and Wang"
    " (arXiv 2506.20344)."
)
DECAY, DEPTHS, STEP = 0.25, (2, 3, 4, 5), 0.05


def targets(depth: int, count: int) -> np.ndarray:
    """Return values of y, none so near the switch value that descent would not arrive."""
    y = np.linspace(0.05, 1.75, count)
    switch = lrf.landscape.switch_value(depth, DECAY)
    return y[np.abs(y - switch) > 0.04]


def descend(y: np.ndarray, depth: int, start: float, steps: int) -> np.ndarray:
    """Return the diagonal of the product at the end of gradient descent with weight decay."""
    rng = np.random.default_rng(depth)
    loss = lrf.losses.LeastSquares(np.eye(y.size), np.diag(y))
    factors = [start * np.eye(y.size) + 1e-3 * rng.standard_normal((y.size, y.size)) for _ in range(depth)]
    for _ in range(steps):
        gradients = lrf.factor_gradients(loss, lrf.LinearNetwork(factors))
        factors = [f - STEP * (g + DECAY * f) for f, g in zip(factors, gradients, strict=True)]
    return np.diag(lrf.LinearNetwork(factors).to_dense())


def measure(quick: bool, tell: Tell) -> Result:
    numbers, found = {}, []
    for i, depth in enumerate(DEPTHS):
        tell(f"depth {depth}", i / len(DEPTHS))
        y, line = targets(depth, 18 if quick else 35), np.linspace(0, 1.8, 400)
        modes = [lrf.landscape.decayed_mode(value, depth, DECAY) for value in line]
        theory = [lrf.landscape.decayed_mode(value, depth, DECAY) for value in y]
        starts = {"small": 0.1, "large": 1.9 ** (1 / depth)}
        ends = {name: descend(y, depth, start, 2000 if quick else 8000) for name, start in starts.items()}
        # a small start stays at zero where that is a local minimum, a large one ends at the largest critical value
        expected = {
            "small": np.array([m.products[0 if m.stable[0] else -1] for m in theory]),
            "large": np.array([m.products[-1] for m in theory]),
        }
        branches = [{"y": m.target, "products": m.products, "stable": m.stable} for m in modes]
        switch, tie = modes[0].switch, modes[0].tie
        numbers[f"depth {depth}"] = {"switch": switch, "tie": tie, "branches": branches, "y": y, "ends": ends}
        for name, values in ends.items():
            gap = float(np.abs(values - expected[name]).max())
            found.append(Compared(f"depth {depth}, {name} start: largest distance of an end", gap, 0.0, 1e-6))
        learned = y[np.abs(ends["large"]) > 0.01].min()
        found += [
            Compared(f"depth {depth}, least y that is learned, and y_c", learned, switch, relation=">="),
            Compared(f"depth {depth}, largest y that is not, and y_c", y[y < learned].max(), switch, relation="<="),
        ]
        if depth > 2:  # the loss of a mode at either end
            small, large = (0.5 * (p - y) ** 2 + depth / 2 * DECAY * np.abs(p) ** (2 / depth) for p in ends.values())
            lower, higher = y[large < small - 1e-9], y[large > small + 1e-9]
            found += [
                Compared(f"depth {depth}, least y whose large end is lower, and y_t", lower.min(), tie, relation=">="),
                Compared(
                    f"depth {depth}, largest y whose large end is higher, and y_t",
                    higher.max(initial=0.0),
                    tie,
                    relation="<=",
                ),
            ]
    return Result(numbers, found)


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    for ax, (name, run) in zip(figure.subplots(1, 4, sharex=True, sharey=True), numbers.items(), strict=True):
        panel(
            ax,
            name.capitalize(),
            "singular value $y$ of the target",
            "that of the product" if name == "depth 2" else "",
        )
        ax.axvline(run["switch"], color=MUTED, ls=":", lw=1.5, label="$y_c$: a root appears")
        ax.axvline(run["tie"], color=MUTED, ls="-.", lw=1.1, label="$y_t$: it is lower than zero")
        branches: dict[tuple[int, bool], list[tuple[float, float]]] = {}
        for mode in run["branches"]:
            top = len(mode["products"]) - 1
            for k, (value, stable) in enumerate(zip(mode["products"], mode["stable"], strict=True)):
                part = 0 if k == 0 else 1 + (k == top)  # zero, the smaller root, the largest
                branches.setdefault((part, stable), []).append((mode["y"], value))
        for (part, stable), line in branches.items():
            label = {(0, True): "local minimum", (1, False): "saddle"}.get((part, stable))
            ax.plot(*zip(*line, strict=True), color=INK, lw=1.6, ls="-" if stable else (0, (4, 2)), label=label)
        looks = (("small", "o", BLUE, "descent, small start"), ("large", "^", VERMILLION, "descent, large start"))
        for start, marker, colour, label in looks:
            ax.plot(run["y"], run["ends"][start], ls="none", marker=marker, ms=5, mfc="none", color=colour, label=label)
        if name == "depth 3":
            handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, ncols=6, frameon=False, loc="outside lower center", fontsize=9)
