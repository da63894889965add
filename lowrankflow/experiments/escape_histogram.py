"""How long training stays at a saddle: a strict one is left at once, a non-strict one keeps Adam for hundreds of epochs.

Epochs of mini-batch Adam until the loss is half of the way down to the next critical value, from noise about a strict and a
non-strict saddle of the same value.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow import batched
from lowrankflow.descent import Adam, MiniBatches
from lowrankflow.experiments.look import BLUE, MUTED, VERMILLION, panel
from lowrankflow.experiments.result import Compared, Result, Tell, finished

SIZE = (9.0, 3.8)
CAPTION = (
    "Epochs until the loss is half of the way down to the next critical value, from saddles of depth 5 with S = {1, 2}, all other"
    " blocks of the inner layers the identity (strict) or zero (non-strict), plus Gaussian noise of a tenth of each factor's"
    " norm; 10 inputs, 4 outputs, 100 Gaussian samples without a relation, Adam at 1e-3 (epsilon 1e-7), batches of 32. In the"
    " setting of Achour, Malgouyres, Gerchinovitz (2024), who made 10 000 runs: about 30 epochs, and a mode near 350 with a tail"
    " to 2000, read off their figure. Batch size and normalisation are not stated there, and ours."
)
SIZES, RANK, LIMIT, TOGETHER = (10, 10, 10, 10, 10, 4), 2, 6000, 500


def problem() -> tuple[Any, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((SIZES[0], 100)), rng.standard_normal((SIZES[-1], 100))
    return lrf.losses.LeastSquares(x, y, reduction="mean"), x, y


def saddle(loss: Any, strict: bool) -> lrf.LinearNetwork:
    """Return the point of Proposition 8 with the inner blocks all the identity, or all zero."""
    depth, rank = len(SIZES) - 1, RANK
    widths = [SIZES[0], *(d - rank for d in SIZES[1:-1]), SIZES[-1] - rank]
    blocks = [np.zeros((b, a)) for a, b in pairwise(widths)]
    if strict:
        blocks[1:-1] = [np.eye(b, a) for a, b in pairwise(widths[1:-1])]
    return lrf.landscape.critical_network(
        loss, depth, widths=SIZES[1:-1], index_set=range(1, rank + 1), blocks=blocks
    )  # fmt: skip


def escape_epochs(loss: Any, at: lrf.LinearNetwork, level: float, x: Any, y: Any, seeds: range) -> list[int]:
    """Return the first epoch at whose end the loss of each run is below a level; the limit where none is."""

    def noisy(seed: int) -> lrf.LinearNetwork:
        rng = np.random.default_rng([seed, 1])
        size = [0.1 * np.linalg.norm(f) / np.sqrt(f.size) for f in at.factors]
        return lrf.LinearNetwork([f + a * rng.standard_normal(f.shape) for f, a in zip(at.factors, size, strict=True)])

    batches = [MiniBatches(x, y, 32, rng=seed) for seed in seeds]
    per_epoch = batches[0].per_epoch

    def below(at: batched.Iterates) -> np.ndarray:
        return at.loss < level if at.k % per_epoch == 0 else np.zeros(at.members.size, dtype=bool)

    runs = batched.gradient_descent(
        loss, [noisy(seed) for seed in seeds], step_size=1e-3, steps=LIMIT * per_epoch, rule=Adam(epsilon=1e-7),
        batches=batches, stop=below, points=False,
    )  # fmt: skip
    return [int(k) for k in finished(runs).nsteps // per_epoch]


def measure(quick: bool, tell: Tell, runs: int | None = None) -> Result:
    runs = (60 if quick else 10_000) if runs is None else runs
    loss, x, y = problem()
    numbers: dict[str, Any] = {}
    for i, name in enumerate(("strict saddle", "non-strict saddle")):
        at = saddle(loss, strict=i == 0)
        here = lrf.landscape.classify(at, loss)
        level = here.critical_value - 0.25 * float(loss.spectrum.sigma[RANK]) ** 2
        epochs: list[int] = []
        for begin in range(0, runs, TOGETHER):
            tell(f"{name}, {begin} of {runs} runs", (0.05 if i else 0.0) + (0.95 if i else 0.05) * begin / runs)
            epochs += escape_epochs(loss, at, level, x, y, range(begin, min(begin + TOGETHER, runs)))
        numbers[name] = {"kind": here.kind, "order": here.order, "value": here.critical_value, "epochs": epochs}
    strict, other = (np.array(run["epochs"]) for run in numbers.values())
    values = [run["value"] for run in numbers.values()]
    compared = [
        *(Compared(f"kind of the {name}, as its name says", run["kind"] == name, 1) for name, run in numbers.items()),
        Compared("difference of their values", values[0] - values[1], 0.0, 1e-12),
        Compared("median epochs from the strict saddle", np.median(strict), 30, 8),
        Compared("median epochs from the non-strict saddle", np.median(other), 525, 175),
        Compared("ratio of the medians", np.median(other) / np.median(strict), 10, relation=">="),
        Compared("slowest from the strict saddle, fastest from the other", strict.max(), other.min(), relation="<="),
        Compared("epochs of the last", other.max(), LIMIT - 1, relation="<="),
    ]
    if not quick:
        late = float(np.mean(other > 2000))
        counts, edges = np.histogram(other, bins=np.arange(0, 2000, 50))
        compared += [
            Compared("mode from the non-strict saddle, and read off", edges[counts.argmax()] + 25, 350, 100),
            Compared("share after epoch 2000, where the tail is read off to end", late, 0.01, relation="<="),
        ]
    return Result(numbers, compared)


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    ax = panel(
        figure.subplots(),
        "Escape from two saddles of one value",
        "epochs until the loss has fallen half of the way",
        "runs",
    )
    bins = np.geomspace(10, max(3000, *(max(run["epochs"]) for run in numbers.values())), 46).tolist()
    for (name, run), colour in zip(numbers.items(), (BLUE, VERMILLION), strict=True):
        label = f"{name}, order {run['order']}: median {np.median(run['epochs']):.0f}"
        ax.hist(run["epochs"], bins=bins, color=colour, alpha=0.75, label=label)
        ax.axvline(np.median(run["epochs"]), color=MUTED, ls=":", lw=1.2)
    ax.set_xscale("log")
    ax.legend(frameon=False, fontsize=9)
