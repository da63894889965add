"""Step sizes of descent: the step that theory proves, multiples of it, and decreasing ones, depths 2, 3 and 5.

Loss of a linear autoencoder above its least value of rank 5, with the bound of the theorem, ten and a hundred times it, a
step near the edge, and two decreasing schedules.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow.descent import Decreasing, step_bound
from lowrankflow.experiments.look import BLUE, GREEN, MUTED, PURPLE, VERMILLION, panel
from lowrankflow.experiments.result import Compared, Result, Tell, finished

SIZE = (12.0, 3.6)
CAPTION = (
    "Loss above its least value of rank 5 against updates of gradient descent, for a linear autoencoder of 60 Gaussian"
    " samples in 20 dimensions from balanced isometries of rank 5: at the step h* of the convergence theorem, at multiples of"
    " it, at 0.03, and at 0.03 over a power of the update; below 1e-14 (line) it is roundoff. Dots: runs whose loss rose."
    " In the setting of Nguegnang, Rauhut, Terstiege (2024); constants of h* as reconstructed in docs/theory.md, data and sizes"
    " ours."
)
DEPTHS, RANK, NEAR = (2, 3, 5), 5, 0.03


def measure(quick: bool, tell: Tell) -> Result:
    x = np.random.default_rng(2021).standard_normal((20, 60)) / np.sqrt(20)
    loss = lrf.losses.LeastSquares(x, x)
    best, steps = loss.best_value(RANK), 500 if quick else 4000
    numbers: dict[str, Any] = {}
    found = []
    for i, depth in enumerate(DEPTHS):
        start = lrf.random_point(20, 20, RANK, rng=depth, singular_values=np.ones(RANK))
        net = lrf.LinearNetwork.balanced(start, depth, widths=RANK)
        bound = step_bound(loss, net)
        sizes: dict[str, Any] = {
            "h*": bound.step, "10 h*": 10 * bound.step, "100 h*": 100 * bound.step, f"{NEAR:g}": NEAR,
            f"{NEAR:g} / sqrt(k+1)": Decreasing(NEAR, 0.5), f"{NEAR:g} / (k+1)": Decreasing(NEAR, 1.0),
        }  # fmt: skip
        runs = {}
        for k, (name, size) in enumerate(sizes.items()):
            tell(f"depth {depth}, step {name}", (i + k / len(sizes)) / len(DEPTHS))
            path = finished(lrf.gradient_descent(loss, net, step_size=size, steps=steps, keep_every=1))
            rises = int((np.diff(path.loss) > 1e-13 * path.loss[0]).sum())
            kept = np.unique(np.geomspace(1, steps, 120).astype(int))
            runs[name] = {
                "updates": kept, "excess": np.maximum(path.loss[kept] - best, 0.0), "rises": rises,
                "end": float(path.loss[-1] - best),
                "worst": float((np.diff(path.loss) + bound.sigma * bound.step * path.stationarity[:-1] ** 2).max()),
                "imbalance": max(w.imbalance() for w in path.points[:: max(1, steps // 50)]),
            }  # fmt: skip
        edge = 2 / (depth * loss.curvature)
        numbers[f"depth {depth}"] = {"h*": bound.step, "edge": edge, "runs": runs}
        first = runs["h*"]
        found += [
            Compared(f"depth {depth}: rises of the loss at h*", first["rises"], 0),
            Compared(f"depth {depth}: least decrease beyond sigma h* |grad|^2", first["worst"], 0.0, 1e-12, "<="),
            Compared(
                f"depth {depth}: largest imbalance at h*, over delta", first["imbalance"] / bound.delta, 1.0, 0.0, "<="
            ),
            Compared(f"depth {depth}: h* over the edge 2 / (N lambda_1)", bound.step / edge, 1.0, 0.0, "<="),
            Compared(f"depth {depth}: rises at 0.03 / (k+1)", runs[f"{NEAR:g} / (k+1)"]["rises"], 0),
        ]
    return Result(numbers, found)


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    colours, dashes = (BLUE, BLUE, BLUE, VERMILLION, GREEN, PURPLE), ("-", "--", ":", "-", "-", "--")
    for ax, (name, found) in zip(figure.subplots(1, 3, sharey=True), numbers.items(), strict=True):
        panel(
            ax,
            f"{name.capitalize()}: h* = {found['h*']:.2g}",
            "updates",
            "loss above its least" if name == "depth 2" else "",
        )
        for (label, run), colour, dash in zip(found["runs"].items(), colours, dashes, strict=True):
            y = np.maximum(run["excess"], 1e-14)
            ax.loglog(run["updates"], y, color=colour, ls=dash, lw=1.7, label=f"$h$ = {label}")
            if run["rises"]:
                ax.loglog(run["updates"][::8], y[::8], ls="none", marker="o", ms=4, color=colour)
        ax.axhline(1e-14, color=MUTED, lw=0.8)
        ax.set_ylim(1e-15, 100)
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, ncols=6, frameon=False, loc="outside lower center", fontsize=9)
