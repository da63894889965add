"""From lazy to rich: loss and kernel of two layers over imbalance and scale, exact line over flow over descent.

Two layers on white inputs from W_2^T W_2 - W_1 W_1^T = lambda I: a large lambda of either sign, or a large start, leaves the
tangent kernel where it is; balanced layers from a small start move it by orders of magnitude.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow.experiments.look import COLOURS, INK, panel
from lowrankflow.experiments.result import Compared, Result, Tell, finished
from lowrankflow.kernels import tangent_kernel

SIZE = (12.0, 3.6)
CAPTION = (
    "Two square layers on |W - Y|^2 / 2, white inputs, from W(0) with all singular values equal, W_2^T W_2 - W_1 W_1^T ="
    " lambda I. Left: the loss, time times the largest of 1 and |lambda|. Middle: change of the tangent"
    " kernel, |K(t) - K(0)| / |K(0)|. Lines: closed forms; circles: integrations of the factors; dots: gradient descent with"
    " step 0.01 over the largest of 1 and |lambda|. Right: the change of the kernel in the end, by the closed form, over"
    " lambda and the scale of the start. In the setting of Domine et al. (arXiv 2409.14623); the closed form for all widths and"
    " all parameters are derived here or ours."
)
SIZES, SEED, SCALE, STEP, RTOL = 4, 3, 0.01, 0.01, 1e-12
IMBALANCES = (0.0, 0.1, -1.0, 20.0)
GRID_IMBALANCES, GRID_SCALES = np.geomspace(1e-2, 1e2, 13), np.geomspace(1e-3, 10, 13)


def problem() -> lrf.losses.LeastSquares:
    """Return the loss: four singular values of the target between 1/2 and 2, in frames of no relation to the start's."""
    y = lrf.random_point(SIZES, SIZES, SIZES, rng=SEED, singular_values=[2.0, 1.5, 1.0, 0.5])
    return lrf.losses.LeastSquares(np.eye(SIZES), y.to_dense())


def network(imbalance: float, scale: float) -> lrf.LinearNetwork:
    """Return the start."""
    w = lrf.random_point(SIZES, SIZES, SIZES, rng=SEED + 1, singular_values=np.full(SIZES, scale))
    return lrf.LinearNetwork.balanced(w, 2, imbalances=[imbalance], rng=SEED)


def course(imbalance: float, count: int) -> dict[str, Any]:
    """Return the three courses from one start, and how far apart they are."""
    loss, start = problem(), network(imbalance, SCALE)
    solution, kernel = lrf.exact.TwoLayer(loss, start), tangent_kernel(start)
    rate = max(1.0, abs(imbalance))
    t_end = 12.0 / rate + 6 * (rate == 1)
    step, times = STEP / rate, np.linspace(0, t_end, count)
    steps = round(t_end / step)
    save = lrf.Save(times=np.linspace(0, t_end, 13), exact=True, steps=False)
    flow = finished(lrf.integrate(lrf.FactorFlow(loss), start, t_span=(0, t_end), rtol=RTOL, save=save))
    runs = [flow]
    for halvings in (0, 1):
        options: dict[str, Any] = {"steps": steps << halvings, "keep_every": (steps // 24) << halvings}
        runs.append(finished(lrf.gradient_descent(loss, start, step_size=step / 2**halvings, **options)))
    off = [
        max(float(np.abs(w.to_dense() - solution(float(t))).max()) for t, w in zip(r.t, r.points, strict=True))
        for r in runs
    ]

    def change(t: np.ndarray) -> np.ndarray:
        return np.array([solution.tangent_kernel(float(x)).distance(kernel) for x in t])

    shown: dict[str, Any] = {"t": times, "loss": solution.loss(times), "kernel": change(times)}
    for name, run in (("flow", flow), ("descent", runs[1])):
        moved = [tangent_kernel(w).distance(kernel) for w in run.points]
        shown[name] = {"t": run.t, "loss": run.loss, "kernel": np.array(moved)}
    apart = float(np.abs(shown["flow"]["kernel"] - change(flow.t)).max() / shown["kernel"].max())
    return shown | {"imbalance": imbalance, "off": off, "kernel off": apart}


def measure(quick: bool, tell: Tell) -> Result:
    courses, found = [], []
    for i, imbalance in enumerate(IMBALANCES):
        tell(f"imbalance {imbalance:g}", i / (len(IMBALANCES) + 1))
        run = course(imbalance, 60 if quick else 200)
        courses.append(run)
        flow, whole, half = run["off"]
        found += [
            Compared(f"imbalance {imbalance:g}: largest distance of the flow from the closed form", flow, 0.0, 1e-9),
            Compared(f"imbalance {imbalance:g}: relative distance of its kernel", run["kernel off"], 0.0, 1e-9),
            Compared(
                f"imbalance {imbalance:g}: distance of descent over that at half the step", whole / half, 2.0, 0.2
            ),
        ]
    ends = [run["kernel"][-1] for run in courses]
    found += [
        Compared(
            "change of the kernel, balanced, and ten times that of imbalance -1", ends[0], 10 * ends[2], relation=">="
        ),
        Compared("change of the kernel, imbalance 20", ends[3], 0.2, relation="<="),
    ]
    tell("the grid", len(IMBALANCES) / (len(IMBALANCES) + 1))
    scales, imbalances = (GRID_SCALES[::4], GRID_IMBALANCES[::4]) if quick else (GRID_SCALES, GRID_IMBALANCES)
    grid = np.array([[final_change(float(gap), float(scale)) for gap in imbalances] for scale in scales])
    found.append(
        Compared("the least change over the grid, over the largest", grid.min() / grid.max(), 1e-3, relation="<=")
    )
    return Result({"courses": courses, "scales": scales, "imbalances": imbalances, "grid": grid}, found)


def final_change(imbalance: float, scale: float) -> float:
    """Return how far the kernel has come when the loss is least."""
    start = network(imbalance, scale)
    return lrf.exact.TwoLayer(problem(), start).tangent_kernel(1e6).distance(tangent_kernel(start))


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    grid = figure.add_gridspec(1, 3)
    axes = [
        panel(figure.add_subplot(grid[0]), "Loss", r"$t\,\max(1, |\lambda|)$", "loss"),
        panel(figure.add_subplot(grid[1]), "Change of the kernel", r"$t\,\max(1, |\lambda|)$", r"$|K - K_0| / |K_0|$"),
    ]
    for colour, run in zip((INK, *COLOURS), numbers["courses"], strict=False):
        unit = max(1.0, abs(run["imbalance"]))
        for ax, key in zip(axes, ("loss", "kernel"), strict=True):
            for name, marker, size, face in (("descent", ".", 3.0, colour), ("flow", "o", 5.0, "white")):
                at = np.array(run[name]["t"]) * unit
                ax.plot(at, run[name][key], ls="none", color=colour, marker=marker, ms=size, mfc=face)
            name = rf"$\lambda = {run['imbalance']:g}$"
            ax.plot(np.array(run["t"]) * unit, run[key], color=colour, lw=1.3, label=name)
    axes[1].set_yscale("log")
    axes[1].set_ylim(bottom=1e-3)
    axes[0].legend(frameon=False, fontsize=8.5)
    ax = panel(figure.add_subplot(grid[2]), "Change in the end", r"$\lambda$", "scale of the start")
    ax.grid(False)
    ax.set_xscale("log")
    ax.set_yscale("log")
    image = ax.pcolormesh(numbers["imbalances"], numbers["scales"], np.log10(numbers["grid"]), shading="nearest")
    figure.colorbar(image, ax=ax, label=r"$\log_{10} |K_\infty - K_0| / |K_0|$")
