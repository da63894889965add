"""Kick, then descend: critical points that are not minima are left without raising the loss.

Critical points of factors whose gradient end to end is not zero, for four convex losses and depths 2 to 4; a kick in the
null spaces keeps the loss, and the descent after it ends at the convex optimum.
"""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow.experiments.look import BLUE, MUTED, VERMILLION, panel
from lowrankflow.experiments.result import Compared, Result, Tell
from lowrankflow.landscape.kicks import descend

SIZE = (9.6, 4.0)
CAPTION = (
    "Loss above the convex optimum at critical points of the factors with a non-zero gradient end to end (rings) and after"
    " one kick along null spaces, of Frobenius norm 0.3 a factor, and L-BFGS (triangles; gaps below 1e-16 are drawn there)."
    " The points: those at which networks with 0 or 1 hidden units end, padded by zeros to width 4, in a random basis; in"
    " each group depths 2,"
    " 3, 4. Means over 60 samples of 4 inputs and 3 targets or classes. The kick alone changes the loss by roundoff, and"
    " without it the descent goes nowhere from the padded point (numbers beside the figure). In the setting of Laurent and"
    " von Brecht"
    " (2018), whose proof the kick follows; that it is an algorithm is derived here."
)
WIDTH = 4


def losses() -> dict[str, Any]:
    """Return four convex losses of 3 x 4 matrices, each with a minimiser."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((4, 60))
    clean = rng.standard_normal((3, 4)) @ x
    labels = np.argmax(clean + 3 * rng.standard_normal((3, 60)), axis=0)  # no linear map separates them
    targets = clean + rng.standard_t(2, (3, 60))
    kinds = lrf.losses
    mean: dict[str, Any] = {"reduction": "mean"}
    return {
        "square": kinds.LeastSquares(x, targets, **mean),
        "cross-entropy": kinds.Measured(kinds.Inputs(x, 3), kinds.Softmax(labels, 3), **mean),
        "Huber": kinds.Measured(kinds.Inputs(x, 3), kinds.Huber(targets, 0.3), **mean),
        "log-cosh": kinds.Measured(kinds.Inputs(x, 3), kinds.LogCosh(targets), **mean),
    }


def critical_point(loss: Any, depth: int, units: int, rng: np.random.Generator) -> lrf.LinearNetwork:
    """Return where a network with few hidden units ends, padded by zeros: critical at every width, for every loss."""
    sizes = [4, *[WIDTH] * (depth - 1), 3]
    padded = [np.zeros((b, a)) for a, b in pairwise(sizes)]
    if units:
        narrow = lrf.LinearNetwork.gaussian((3, 4), depth, widths=units, rng=rng)
        for big, small in zip(padded, descend(loss, narrow, tolerance=1e-14)[0].factors, strict=True):
            big[: small.shape[0], : small.shape[1]] = small
    return lrf.LinearNetwork(padded)


def measure(quick: bool, tell: Tell) -> Result:
    rng, runs = np.random.default_rng(0), []
    depths = (2, 3) if quick else (2, 3, 4)
    for i, (name, loss) in enumerate(losses().items()):
        single = lrf.LinearNetwork([np.zeros((3, 4))])  # one factor: the loss of W itself, which is convex
        best = loss.value(descend(loss, single, tolerance=1e-14)[0])
        for k, (depth, units) in enumerate(product(depths, (0, 1))):
            tell(f"{name}, depth {depth}", (i + k / (2 * len(depths))) / 4)
            start = critical_point(loss, depth, units, rng)
            moved = lrf.landscape.refactored(start, spread=0.3, rng=rng)  # so that no zero is one of the machine
            before = lrf.landscape.certify_gradient(loss, moved)
            kicked = lrf.landscape.kick_and_descend(loss, moved, rounds=1, rng=rng)
            unkicked = loss.value(start) - loss.value(descend(loss, start)[0])
            runs.append(
                {
                    "loss": name, "depth": depth, "units": units, "optimum": best,
                    "gradient end to end": before.relative_gradient, "factor gradient": before.relative_factor_gradient,
                    "before": kicked.value_before - best, "after": kicked.value - best,
                    "changed by the kick": kicked.rounds[0].value_change, "fall without it": unkicked,
                    "gradients": kicked.evaluations,
                }
            )  # fmt: skip
    column = {key: np.array([run[key] for run in runs]) for key in runs[0] if key not in ("loss", "depth", "units")}
    scale = column["optimum"] + column["before"]
    found = [
        Compared("largest factor gradient before, of its scale", column["factor gradient"].max(), 0.0, 1e-7),
        Compared(
            "least gradient end to end before, of its scale", column["gradient end to end"].min(), 1e-3, relation=">="
        ),
        Compared("least gap before", column["before"].min(), 1e-3, relation=">="),
        Compared(
            "largest change by a kick, of the loss", np.abs(column["changed by the kick"] / scale).max(), 0.0, 1e-13
        ),
        Compared("largest gap after", np.abs(column["after"]).max(), 0.0, 1e-9),
        Compared("largest fall without a kick", column["fall without it"].max(), 0.0, 1e-9),
    ]
    return Result({"points": runs}, found)


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    runs, floor = numbers["points"], 1e-16
    ax = panel(figure.subplots(), "Loss above the convex optimum", "", "gap")
    names = list(dict.fromkeys(run["loss"] for run in runs))
    size = len(runs) // len(names)
    x = np.array([i + i // size for i in range(len(runs))])
    before, after = (np.maximum([run[key] for run in runs], floor) for key in ("before", "after"))
    ax.vlines(x, after, before, color=MUTED, lw=0.9, ls=":")
    ax.plot(x, before, "o", color=BLUE, ms=7, mfc="none", mew=1.4, label="critical point")
    ax.plot(x, after, "^", color=VERMILLION, ms=6, label="after kick and descent")
    ax.set_yscale("log")
    ax.set_ylim(floor / 5, 200)
    ax.set_xticks([(size + 1) * i + (size - 1) / 2 for i in range(len(names))], names)
    for i, run in enumerate(runs):
        if run["units"] == 0:
            ax.text(x[i] + 0.5, 25, f"depth {run['depth']}", ha="center", fontsize=8, color=MUTED)
    figure.legend(frameon=False, loc="outside lower center", ncols=2)
