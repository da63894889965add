"""A mode waits and then rises: curves and learning times of aligned modes, over depth and scale of the start.

Two singular values of the target, white inputs, depths 2, 3, 4 and infinity, W(0) = scale times the identity. Closed forms
against integrations of the factors, at infinite depth of W.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow.experiments.look import BLUE, COLOURS, GREEN, INK, MUTED, VERMILLION, panel
from lowrankflow.experiments.result import Compared, Result, Tell, finished

SIZE = (12.0, 5.6)
CAPTION = (
    "Singular values of W along the gradient flow of |W - Y|^2 / 2, Y = diag(1, 0.5), from W(0) = scale times the identity,"
    " balanced; infinite depth with time in units of N. Lines: closed forms (solid: target 1, dashed: 0.5). Marks:"
    " integrations of all factors, of W itself at infinite depth. Last panel: time until a mode has made half of its way"
    " (filled: target 1, open: 0.5), in marks where the integration crosses it; dotted: the law of small starts for target"
    " 1, ln(1 / scale) / 2 at depth 2, 1 / ((N - 2) scale^(1 - 2/N)) from depth 3 on, 1 / scale at infinite depth. In the"
    " setting of Saxe, McClelland and Ganguli (2014), whose depth-2 curve it is; the other depths, the learning times and"
    " all parameters are ours or derived here."
)
TARGETS = np.array([1.0, 0.5])
DEPTHS = {"depth 2": 2, "depth 3": 3, "depth 4": 4, "infinite depth": np.inf}
SCALES = (1e-1, 1e-2, 1e-3, 1e-4)
DASHES = ("-", (0, (4, 2)))
RTOL = 1e-11  #: of a step; what it leaves of a rise is asserted below to 1e-6


def integrated(depth: float, scale: float, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both singular values at the times, and when each has made half of its way, by integration."""
    loss = lrf.losses.LeastSquares(np.eye(2), np.diag(TARGETS))
    start = lrf.LowRankMatrix(np.eye(2), np.full(2, scale), np.eye(2))

    def learned(i: int) -> lrf.Event:
        return lrf.Event(str(i), lambda t, w: w.to_dense()[i, i] - (scale + TARGETS[i]) / 2)

    events = [learned(0), learned(1)]
    options: dict[str, Any] = dict(
        t_span=(0, times[-1]), rtol=RTOL, events=events, save=lrf.Save(times=times, steps=False)
    )
    if np.isinf(depth):
        path: lrf.Trajectory = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), start, **options)
    else:
        path = lrf.integrate(lrf.FactorFlow(loss), lrf.LinearNetwork.balanced(start, int(depth)), **options)
    finished(path)
    values = np.array([np.diag(w.to_dense()) for w in path.points])
    return values, np.array([path.events[str(i)][0] for i in range(2)])


def law(depth: float, scale: np.ndarray) -> np.ndarray:
    """Return the learning time of a target of 1 for small starts."""
    if depth == 2:
        return np.log(1 / scale) / 2
    order = 1.0 if np.isinf(depth) else (depth - 2) / depth
    number = 1.0 if np.isinf(depth) else depth - 2
    return scale**-order / number


def measure(quick: bool, tell: Tell) -> Result:
    numbers: dict[str, Any] = {}
    found = []
    scales = SCALES[:2] if quick else SCALES
    line = np.geomspace(scales[-1], scales[0], 60)
    for i, (name, depth) in enumerate(DEPTHS.items()):
        modes = {scale: lrf.exact.modes(TARGETS, scale, depth) for scale in scales}
        begin, end = modes[scales[0]].learning_times()[0] / 30, 1.6 * modes[scales[-1]].learning_times()[1]
        runs: list[dict[str, Any]] = []
        for j, (scale, mode) in enumerate(modes.items()):
            tell(name, (i + j / len(scales)) / len(DEPTHS))
            learned = mode.learning_times()
            marks = np.concatenate([[0.0], np.geomspace(begin, 1.6 * learned[1], 16)])
            values, crossed = integrated(depth, scale, marks)
            off = float(np.abs(values - mode(marks)).max())
            rises = np.concatenate([t + 5 * np.linspace(-1, 1, 80) for t in learned])  # steep on a logarithmic axis
            t = np.unique(np.concatenate([np.geomspace(begin, end, 240), rises.clip(begin, end)]))
            curve = {"t": t, "s": mode(t).T, "marks": marks[1:], "integrated": values[1:].T}
            runs.append(curve | {"scale": scale, "learned": learned, "crossed": crossed, "off": off})
        times = np.array([lrf.exact.modes(TARGETS, scale, depth).learning_times() for scale in line])
        numbers[name] = {"runs": runs, "scale": line, "learning times": times.T, "law": law(depth, line)}
        gap = max(float(np.abs(run["crossed"] / run["learned"] - 1).max()) for run in runs)
        apart = [abs(float(run["crossed"][0] / law(depth, np.array(run["scale"]))) - 1) for run in runs]
        found += [
            Compared(f"{name}: largest distance of a mark from its curve", max(run["off"] for run in runs), 0.0, 1e-6),
            Compared(f"{name}: largest relative distance of a learning time", gap, 0.0, 1e-8),
            Compared(f"{name}: learning time of 1 off the law of small starts, relative", apart[-1], 0.0, 0.25),
            Compared(f"{name}: that from the smallest scale, and from the largest", apart[-1], apart[0], relation="<="),
        ]
    return Result(numbers, found)


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    grid = figure.add_gridspec(2, 3)
    for k, (name, part) in enumerate(numbers.items()):
        ax = panel(figure.add_subplot(grid[k // 3, k % 3]), name.capitalize(), "time $t$", "singular value of $W$")
        ax.set_xscale("log")
        for colour, run in zip((BLUE, GREEN, VERMILLION, INK), part["runs"], strict=False):
            for i, dashes in enumerate(DASHES):
                label = f"scale $10^{{{round(np.log10(run['scale']))}}}$" if i == 0 else None
                ax.plot(run["t"], run["s"][i], color=colour, lw=1.5, ls=dashes, label=label)
                ax.plot(run["marks"], run["integrated"][i], ls="none", marker="o", ms=3.6, mfc="white", color=colour)
        if k == 0:
            ax.legend(frameon=False, fontsize=8.5)
    ax = panel(figure.add_subplot(grid[1, 1:]), "Learning times", "scale of the start", "time to half of the way")
    for colour, marker, (name, part) in zip(COLOURS, "os^D", numbers.items(), strict=False):
        for i, dashes in enumerate(DASHES):
            ax.loglog(part["scale"], part["learning times"][i], color=colour, lw=1.5, ls=dashes)
            points = [(run["scale"], run["crossed"][i]) for run in part["runs"]]
            look: dict[str, Any] = dict(ls="none", marker=marker, ms=5, color=colour, mfc="white" if i else colour)
            ax.plot(*zip(*points, strict=True), **look, label=None if i else name)
        ax.loglog(part["scale"], part["law"], color=MUTED, lw=1.0, ls=":", label=None if name != "depth 2" else "law")
    handles, labels = ax.get_legend_handles_labels()
    order = [0, 2, 3, 4, 1]
    ordered = ([handles[k] for k in order], [labels[k] for k in order])
    ax.legend(*ordered, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
