"""Spectra of the Hessian: a minimiser, a strict saddle and a saddle that no second derivative sees.

The counts of negative, zero and positive eigenvalues of the dense Hessian against those that theory predicts, at three
points of a network of depth 3, and at many critical points of depths 2 to 5.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow.experiments.look import BLUE, COLOURS, MUTED, VERMILLION, panel
from lowrankflow.experiments.result import Compared, Result, Tell

SIZE = (12.0, 3.8)
CAPTION = (
    "Eigenvalues of the Hessian of all factors (square loss, mean over 60 Gaussian samples of 5 inputs and 4 noisy linear"
    " targets). Left: a network 5-5-5-4, at a random global minimiser, at a strict and"
    " at a non-strict saddle of the same loss, S = {1, 2}, orders 2 and 3; the ordinate is linear up to 0.1. Right: negative"
    " eigenvalues counted and predicted at critical points of depths 2 to 5 with random index sets and bases."
    " In the setting of Achour, Malgouyres and Gerchinovitz (2024); data are ours, and the formulas of Morse index and"
    " nullity are derived, not theirs."
)


def regression() -> Any:
    """Return a square loss whose targets have four distinct singular values."""
    rng = np.random.default_rng(14)
    x = rng.standard_normal((5, 60))
    y = np.diag([4.0, 3.0, 2.0, 1.0]) @ rng.standard_normal((4, 5)) @ x + 0.5 * rng.standard_normal((4, 60))
    return lrf.losses.LeastSquares(x, y, reduction="mean")


def points(loss: Any, count: int, rng: np.random.Generator) -> list[lrf.LinearNetwork]:
    """Return critical points of depths 2 to 5 and all ranks, in random bases, whose index is known in closed form."""
    found = []
    for i in range(count):
        depth, rank = 2 + i % 4, int(rng.integers(0, 5))
        s = sorted(rng.choice(4, rank, replace=False) + 1)
        if i % 3 == 0 and rank < 4:
            order = int(rng.integers(2, depth + 1))
            net = lrf.landscape.saddle(loss, depth, widths=5, rank=rank, order=order, spread=0.3, rng=rng)
        else:
            net = lrf.landscape.critical_network(loss, depth, widths=5, index_set=s, spread=0.3, rng=rng)
        found.append(net)
    return found


def measure(quick: bool, tell: Tell) -> Result:
    loss, rng = regression(), np.random.default_rng(0)
    landscape = lrf.landscape
    three = {
        "global minimiser": landscape.random_minimiser(loss, 3, widths=5, spread=0.3, rng=rng),
        "strict saddle": landscape.saddle(loss, 3, widths=5, rank=2, order=2, spread=0.3, rng=rng),
        "non-strict saddle": landscape.saddle(loss, 3, widths=5, rank=2, order=3, spread=0.3, rng=rng),
    }
    numbers: dict[str, Any] = {}
    found: list[Compared] = []
    for name, net in three.items():
        place, spectrum = landscape.classify(net, loss), landscape.hessian_spectrum(loss, net)
        below, zero, above = spectrum.inertia
        numbers[name] = {
            "kind": place.kind, "index set": place.index_set, "eigenvalues": spectrum.eigenvalues, "zero": spectrum.zero,
            "counted": {"negative": below, "zero": zero, "positive": above},
            "predicted": {"negative": place.morse_index, "zero": place.nullity},
        }  # fmt: skip
        for what, count, theory in (("negative", below, place.morse_index), ("zero", zero, place.nullity)):
            if theory is not None:
                found.append(Compared(f"{name}, {what} eigenvalues", count, theory))
    pairs = []
    many = points(loss, 24 if quick else 160, rng)
    for i, net in enumerate(many):
        tell(f"critical point {i + 1} of {len(many)}", i / len(many))
        place = landscape.classify(net, loss)
        pairs.append((net.depth, place.morse_index, landscape.hessian_spectrum(loss, net).inertia[0]))
    numbers["many"] = {
        "depth": [p[0] for p in pairs],
        "predicted": [p[1] for p in pairs],
        "counted": [p[2] for p in pairs],
    }
    wrong = sum(predicted != counted for _, predicted, counted in pairs)
    found.append(Compared(f"wrong index, of {len(pairs)} critical points", wrong, 0))
    return Result(numbers, found)


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    *three, right = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.15))
    for ax, (name, run) in zip(three, numbers.items(), strict=False):
        values = np.array(run["eigenvalues"])
        panel(ax, name.capitalize(), "number, increasing", "eigenvalue" if ax is three[0] else "")
        below, above = values < -run["zero"], values > run["zero"]
        for part, colour, marker, size in (
            (~below & ~above, MUTED, ".", 4), (below, VERMILLION, "v", 6), (above, BLUE, "^", 5),
        ):  # fmt: skip
            ax.plot(1 + np.flatnonzero(part), values[part], ls="none", marker=marker, ms=size, color=colour)
        ax.set_yscale("symlog", linthresh=0.1)
        ax.set_ylim(-40, 1500)
        known = {key: "" if n is None else f" (theory {n})" for key, n in run["predicted"].items()}
        words = [f"{n} {key}{known.get(key, '')}" for key, n in run["counted"].items()]
        ax.text(0.04, 0.97, "\n".join(words[::-1]), transform=ax.transAxes, va="top", fontsize=9)
    many = numbers["many"]
    panel(right, "Many critical points", "negative eigenvalues, theory", "negative eigenvalues, counted")
    top = max(*many["predicted"], *many["counted"]) + 1
    right.plot([0, top], [0, top], color=MUTED, ls=":", lw=1.3)
    for depth, marker, colour in zip((2, 3, 4, 5), "os^D", COLOURS, strict=True):
        x, y = (np.array(many[key])[np.array(many["depth"]) == depth] for key in ("predicted", "counted"))
        shift = 0.22 * (depth - 3.5)  # along the line, so that equal points of several depths show
        right.plot(
            x + shift, y + shift, ls="none", marker=marker, ms=5, mfc="none", color=colour, label=f"depth {depth}"
        )
    right.legend(frameon=False, loc="upper left", handletextpad=0.2)
