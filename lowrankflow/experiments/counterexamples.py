"""Where "every local minimum is global" ends: a loss with a kink, and a bottleneck.

The least value near a local minimum of an absolute error, a section of a smooth loss through a rank-one bottleneck, and
where descents from near either point end, with a smooth loss and with a wider layer as controls.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow.experiments.look import BLUE, INK, MUTED, VERMILLION, panel
from lowrankflow.experiments.result import Compared, Result, Tell
from lowrankflow.landscape.counterexamples import subgradient_descent

SIZE = (12.0, 3.7)
CAPTION = (
    "Left: widths 2-2-2, f(W) = |W_11| + |W_12| + |W_21 - 1| + |W_22|; least f found by an adversary with all entries of"
    " both factors within a radius of a point of value 1; the global minimum is 0. Middle: widths 2-1-2,"
    " f(W) = (W_11 - 1)^2 + (W_22 - 1/2)^2 + 4 (W_12^2 + W_21^2), in the section W = u u^T through a local minimum of value"
    " 1 (cross) and the lowest point of rank one, 1/4 (star). Right: ends of descents from random starts near the two points;"
    " controls: the Huber loss in place of the kink, a second hidden unit. In the setting of Laurent and von Brecht (2018);"
    " both examples were constructed here, and are not the one printed there."
)


def descents(network: Any, slope: Any, value: Any, size: float, runs: int, steps: int, h: float) -> list[float]:
    """Return the values at the ends of descents from entries moved by at most `size`."""
    rng = np.random.default_rng(0)
    ends = []
    for _ in range(runs):
        start = lrf.LinearNetwork([f + rng.uniform(-size, size, f.shape) for f in network.factors])
        ends.append(float(value(subgradient_descent(slope, start, step_size=h, steps=steps))))
    return ends


def measure(quick: bool, tell: Tell) -> Result:
    kink, neck = lrf.landscape.kinked_example(), lrf.landscape.bottleneck_example()
    radii, lowest = np.round(np.arange(0.1, 1.01, 0.1 if quick else 0.05), 10), []
    for i, radius in enumerate(radii):
        tell(f"box of radius {radius:g}", 0.6 * i / len(radii))
        options = {"samples": 4000, "starts": 4} if quick else {"samples": 50_000, "starts": 20}
        lowest.append(kink.value + kink.lowest_in_box(float(radius), rng=0, **options))
    runs, steps = (5, 2000) if quick else (20, 10_000)
    tell("descents", 0.6)
    ends = {
        "kink": descents(kink.network, kink.loss, kink.loss.value, 0.2, runs, steps, 1e-3),
        "Huber": descents(kink.network, kink.smoothed(0.1), kink.loss.value, 0.2, runs, 3 * steps, 5e-3),
        "bottleneck": descents(neck.network, neck.loss, neck.loss.value, 0.05, runs, steps, 2e-2),
        "width 2": descents(neck.widened(), neck.loss, neck.loss.value, 0.05, runs, steps, 2e-2),
    }
    grid = np.linspace(-1.3, 1.3, 81)
    section = [[neck.loss.value(np.outer(u, u)) for u in np.column_stack([grid, np.full(81, y)])] for y in grid]
    spectrum = lrf.landscape.hessian_spectrum(neck.loss, neck.network)
    numbers: dict[str, Any] = {
        "radius": radii, "lowest": lowest, "sharp radius": kink.radius, "ends": ends, "grid": grid, "section": section,
        "Hessian eigenvalues": spectrum.eigenvalues,
        "gradient end to end": np.linalg.norm(neck.loss.gradient(neck.network) @ np.eye(2)),
    }  # fmt: skip
    inside, outside = np.array(lowest)[radii <= 0.5], np.array(lowest)[radii > 0.5]
    gap = float(np.abs(spectrum.eigenvalues - neck.hessian_eigenvalues).max())
    found = [
        Compared("kink: least value within radius 1/2", inside.min(), 1.0, 1e-12),
        Compared("kink: least value within a larger radius, at most", outside.max(), 0.95, relation="<="),
        Compared("kink: lowest end of subgradient descent", min(ends["kink"]), 1.0, 1e-3, ">="),
        Compared("kink made smooth: highest end", max(ends["Huber"]), 0.1, relation="<="),
        Compared("bottleneck: value", neck.loss.value(neck.network), neck.value, 1e-14),
        Compared("bottleneck: Hessian eigenvalues off 0, 2, 2, 6", gap, 0.0, 1e-12),
        Compared("bottleneck: gradient end to end", numbers["gradient end to end"], neck.gradient_norm, 1e-14),
        Compared("bottleneck: farthest end of descent from 1", max(abs(v - 1) for v in ends["bottleneck"]), 0.0, 1e-9),
        Compared("width 2: highest end of descent", max(ends["width 2"]), 0.0, 1e-9),
    ]
    return Result(numbers, found)


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.1))
    panel(left, "A loss with a kink", "radius of the box", "least loss within")
    left.axvline(numbers["sharp radius"], color=MUTED, ls=":", lw=1.6)
    left.text(0.48, 0.1, "radius 1/2", color=MUTED, rotation=90, ha="right")
    left.plot(numbers["radius"], numbers["lowest"], color=BLUE, marker="o", ms=4.5, lw=1.8)
    left.set_ylim(-0.05, 1.1)
    panel(middle, "A bottleneck", "$u_1$", "$u_2$").grid(False)
    levels = [0.3, 0.5, 0.75, 0.95, 1.01, 1.03, 1.06, 1.15, 1.5, 2.5, 4, 7]
    lines = middle.contour(
        numbers["grid"], numbers["grid"], numbers["section"], levels=levels, cmap="viridis", linewidths=1.1
    )
    middle.clabel(lines, levels=[0.5, 1.5, 4.0], fontsize=8)
    middle.plot([0, 0], [-(0.5**0.5), 0.5**0.5], "X", color=VERMILLION, ms=9, mec="white", label="local minimum, 1")
    middle.plot([-1, 1], [0, 0], "*", color=INK, ms=12, mec="white", label="lowest, 1/4")
    middle.legend(loc="upper center", ncols=2, fontsize=8, frameon=False, bbox_to_anchor=(0.5, 1.0), handletextpad=0.1)
    middle.set_ylim(-1.3, 1.6)
    panel(right, "Ends of descents", "", "loss")
    words = {"kink": "kink", "Huber": "smooth", "bottleneck": "bottle-\nneck", "width 2": "second\nunit"}
    for x, name in enumerate(words):
        ends, control = numbers["ends"][name], name in ("Huber", "width 2")
        spread = x + 0.25 * (np.arange(len(ends)) / max(len(ends) - 1, 1) - 0.5)
        look = {"marker": "^", "color": VERMILLION} if control else {"marker": "o", "color": BLUE}
        right.plot(spread, ends, ls="none", ms=6, mfc="none", label="control" if control and x == 1 else None, **look)
    right.set_xticks(range(len(words)), list(words.values()))
    right.legend(frameon=False, loc="center")
