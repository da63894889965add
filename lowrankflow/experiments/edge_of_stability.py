"""The edge of stability: where descent with a long step goes, and what becomes of the imbalance there.

The orbit of one mode over the step, with the two-cycle and its doubling; sharpness against the step from unbalanced starts;
the imbalance along an unstable run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow.descent import bifurcation, two_cycle
from lowrankflow.experiments.look import BLUE, GREEN, INK, MUTED, VERMILLION, panel
from lowrankflow.experiments.result import Compared, Result, Tell, finished

SIZE = (12.0, 3.8)
CAPTION = (
    "Left: products visited by gradient descent on a balanced mode of target 1 after 4000 updates, against the step, depths 2"
    " and 3; dashed, the two-cycle x y = 1/h, x^2 + y^2 = 1 + 1/h of depth 2; dotted, its birth at h = 1 and its doubling at"
    " sqrt(5) - 1. Middle: sharpness at the end of descent from near minimisers of diag(1, 1/2) whose factors are scaled by a"
    " and 1/a: it is the start's, or less than 2/h (line), where the start's is not stable; starts that are too sharp by far"
    " diverge, and are left out. Right: imbalance of two scalar factors beyond the edge (h = 1.1): it shrinks by exactly"
    " 1 - h^2 e^2 an update, e the residual; below the edge (h = 0.5) it stays."
    " All formulas are derived (docs/theory.md)."
)
DOUBLING, SCALES = float(np.sqrt(5) - 1), (1.0, 1.3, 1.6)


def unbalanced(loss: Any, scale: float, seed: int) -> lrf.LinearNetwork:
    """Return factors near a minimiser, scaled against each other."""
    rng = np.random.default_rng(seed)
    best = lrf.LinearNetwork.balanced(loss.minimiser(2), 2)
    factors = [scale * best.factors[0], best.factors[1] / scale]
    return lrf.LinearNetwork([f + 1e-3 * rng.standard_normal(f.shape) for f in factors])


def orbits(quick: bool) -> dict[str, Any]:
    h = {2: np.linspace(0.9, 1.5, 121 if quick else 401), 3: np.linspace(0.6, 0.92, 121 if quick else 401)}
    return {
        f"depth {n}": {"h": grid, "visited": bifurcation(grid, depth=n, transient=4000, kept=48)}
        for n, grid in h.items()
    }


def measure(quick: bool, tell: Tell) -> Result:
    tell("orbits of a mode", 0.0)
    found, cycles = orbits(quick), []
    grid = np.linspace(1.02, DOUBLING - 0.02, 40)
    for h, seen in zip(grid, bifurcation(grid, transient=20_000, kept=2), strict=True):
        cycle = np.array(two_cycle(h, 1.0)[::-1]) ** 2
        cycles.append(float(np.abs(np.sort(seen) - cycle).max()))
    at = bifurcation([0.99, 1.01, DOUBLING - 0.01, DOUBLING + 0.01], transient=40_000)
    periods = [len(set(np.round(row, 6).tolist())) for row in at]
    loss = lrf.losses.LeastSquares(np.eye(2), np.diag([1.0, 0.5]))
    ends, steps = [], np.linspace(0.15, 0.95, 9 if quick else 17)
    for i, a in enumerate(SCALES):
        for k, h in enumerate(steps):
            tell("sharpness against the step", 0.2 + 0.7 * (i + k / steps.size) / 3)
            net = unbalanced(loss, a, k)
            path = finished(lrf.gradient_descent(loss, net, step_size=h, steps=2000 if quick else 6000))
            ends.append(
                {"scale": a, "h": h, "start": lrf.sharpness(loss, net), "end": lrf.sharpness(loss, path.points[-1])}
            )
    single = lrf.losses.LeastSquares([[1.0]], [[1.0]])
    falls = {}
    for h in (0.5, 1.1):
        path = finished(
            lrf.gradient_descent(single, lrf.LinearNetwork([[[1.2]], [[0.7]]]), step_size=h, steps=120, keep_every=1)
        )
        x, y = (np.array([w.factors[j][0, 0] for w in path.points]) for j in (0, 1))
        d, e = y**2 - x**2, x * y - 1
        off = np.abs(d[1:] - d[:-1] * (1 - h * h * e[:-1] ** 2)).max()
        falls[f"{h:g}"] = {"imbalance": np.abs(d), "error": float(off)}
    over = max(run["end"] * run["h"] / 2 for run in ends)
    still = [abs(run["end"] / run["start"] - 1) for run in ends if run["start"] * run["h"] < 1.8]
    compared = [
        Compared("largest distance of the orbit from the two-cycle", max(cycles), 0.0, 1e-6),
        *(
            Compared(f"period at h = {h}", p, q)
            for h, p, q in zip(("0.99", "1.01", "1.226", "1.246"), periods, (1, 2, 2, 4), strict=True)
        ),
        Compared("largest sharpness at the end, over 2 / h", over, 1.0, 1e-2, "<="),
        Compared("largest change of sharpness where the start is stable", max(still), 0.0, 0.05),
        Compared(
            "starts that were too sharp and became flatter",
            sum(r["start"] * r["h"] > 2.2 for r in ends),
            3,
            relation=">=",
        ),
        *(Compared(f"imbalance at h = {h}: error of its factor", run["error"], 0.0, 1e-14) for h, run in falls.items()),
    ]
    return Result({"orbits": found, "ends": ends, "imbalance": falls}, compared)


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    left, middle, right = figure.subplots(1, 3)
    panel(left, "Orbit of a mode", "step $h$", "product visited")
    for (name, run), colour in zip(numbers["orbits"].items(), (BLUE, VERMILLION), strict=True):
        seen = np.array(run["visited"])
        h = np.repeat(run["h"], seen.shape[1])
        left.plot(h, seen.ravel(), ls="none", marker=",", color=colour, alpha=0.6, rasterized=True)
        left.plot([], [], color=colour, label=name)
    grid = np.linspace(1, 1.5, 100)
    cycle = np.array([two_cycle(h, 1.0) for h in grid]) ** 2
    left.plot(grid, cycle, color=INK, ls="--", lw=1.2)
    left.plot([], [], color=INK, ls="--", lw=1.2, label="two-cycle, depth 2")
    for at in (1.0, DOUBLING):
        left.axvline(at, color=MUTED, ls=":", lw=1.2)
    left.legend(frameon=False, fontsize=8, loc="upper left")
    panel(middle, "Sharpness at the end", "step $h$", "sharpness")
    grid = np.linspace(0.15, 1, 100)
    middle.plot(grid, 2 / grid, color=INK, lw=1.4, label="$2 / h$")
    for a, marker, colour in zip(SCALES, "os^", (BLUE, VERMILLION, GREEN), strict=True):
        runs = [run for run in numbers["ends"] if run["scale"] == a]
        middle.plot([r["h"] for r in runs], [r["end"] for r in runs], ls="none", marker=marker, ms=5, mfc="none", color=colour,
                    label=f"factors times {a:g}, 1/{a:g}" if a > 1 else "balanced factors")  # fmt: skip
    middle.set_ylim(1.5, 6)
    middle.legend(frameon=False, fontsize=8)
    panel(right, "Imbalance", "updates", "$|D|$")
    for (step, run), dashes, colour in zip(numbers["imbalance"].items(), ("--", "-"), (MUTED, VERMILLION), strict=True):
        right.semilogy(np.maximum(run["imbalance"], 1e-17), color=colour, ls=dashes, lw=1.6, label=f"$h$ = {step}")
    right.legend(frameon=False, fontsize=8)
