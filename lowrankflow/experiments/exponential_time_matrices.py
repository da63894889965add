"""Time against depth for matrices: k factors of 25 x 25 that are to become -I.

Through the flow: the time to loss 0.1 over the step 0.001 is the number of iterations of descent, which no run has to make.
Beside them the values read off the paper's figure.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow.experiments.look import COLOURS, MUTED, panel
from lowrankflow.experiments.result import Compared, Result, Tell

SIZE = (9.6, 4.2)
CAPTION = (
    "ln of the iterations of gradient descent with step 0.001 on |W_k...W_1 + I|^2 / 2 to loss 0.1, d = 25; det(-I) = -1, so"
    " that det W has to change its sign where it is positive at the start. Ours (filled): the time of the flow over the step;"
    " dots are runs, lines their means, bars two standard errors. Rings: means of 50 runs of Shamir (2019), Figure 2, read off"
    " the figure, to 0.2 or so, of runs that converged within 10^9 iterations (crosses: 2 % and more did not). In the setting of"
    " that paper, whose initialisations these are; that iterations are counted through the flow is ours, and agrees with direct"
    " descent (numbers beside the figure)."
)
WIDTH, STEP, STOP = 25, 1e-3, 0.1
KINDS = {
    "xavier": "Xavier: $N(0, 1/d)$", "near identity": "near identity: $I + N(0, 1/(d k))$",
    "small variance": "small variance: $I + N(0, 1/(d k)^2)$",
}  # fmt: skip
PAPER = {  # k = 2, ..., 8, read off the figure
    "xavier": (8.55, 9.7, 11.3, 13.05, 15.55, 17.2, 19.0),
    "near identity": (8.55, 9.6, 10.95, 12.2, 12.0, 12.05, 12.3),
    "small variance": (8.8, 10.8, 11.8, 13.8, 15.55, 17.75, 19.35),
}
NOT_ALL = {
    "xavier": (6, 8),
    "near identity": (),
    "small variance": (6, 8),
}  #: k where not all of the paper's runs converged


def descent(w: np.ndarray) -> int:
    """Return the iterations of gradient descent itself, by the product rule."""
    loss = lrf.losses.LeastSquares(np.eye(WIDTH), -np.eye(WIDTH))
    net, count = lrf.LinearNetwork(list(w)), 0
    while loss.value(net) > STOP:
        gradients = lrf.factor_gradients(loss, net)
        net = lrf.LinearNetwork([f - STEP * g for f, g in zip(net.factors, gradients, strict=True)])
        count += 1
    return count


def measure(quick: bool, tell: Tell) -> Result:
    depths, trials = (2, 3, 4) if quick else (2, 3, 4, 5, 6, 7), 2 if quick else 12
    runs: dict[str, Any] = {kind: {} for kind in KINDS}
    spent, whole = 0.0, float(sum(3**k for k in depths)) * len(KINDS)
    for k in depths:
        for kind in KINDS:
            tell(f"{k} matrices, {kind}", 0.9 * spent / whole)
            found = [
                lrf.scalar.matrix_time(w, loss=STOP, step_size=STEP)
                for w in lrf.scalar.start(kind, k, trials, width=WIDTH, rng=k)
            ]
            if any(each.path is not None and each.path.status is lrf.Status.INTERRUPTED for each in found):
                raise KeyboardInterrupt
            logs = np.log([each.iterations for each in found if each.reached])
            runs[kind][k] = {"logs": logs, "NC": trials - logs.size, "gradients": [each.gradients for each in found]}
            spent += 3.0**k
    ratios = {}
    for k in (2,) if quick else (2, 3):
        tell(f"descent itself, {k} matrices", 0.9 + 0.05 * (k - 2))
        w = lrf.scalar.start("small variance", k, width=WIDTH, rng=0)[0]
        ratios[k] = descent(w) / lrf.scalar.matrix_time(w, loss=STOP, step_size=STEP).iterations
    paper = {kind: dict(zip(range(2, 9), values, strict=True)) for kind, values in PAPER.items()}
    numbers = {"ours": runs, "paper, read off": paper, "descent over flow": ratios}
    return Result(numbers, compared(runs, ratios))


def compared(runs: dict[str, Any], ratios: dict[int, float]) -> list[Compared]:
    """Ours beside the paper's; a figure is read to 0.2, and means of a few runs scatter by up to 0.4."""
    means = {kind: {k: float(np.mean(run["logs"])) for k, run in by.items()} for kind, by in runs.items()}
    found = [Compared(f"descent itself over the flow, k = {k}", r, 1.0, 0.02) for k, r in ratios.items()]
    for k in (2, 3, 4):
        for kind, of in means.items():
            slack = {2: 0.45, 3: 0.6, 4: 0.9}[k]
            found.append(
                Compared(f"{kind}, k = {k}: mean ln(iterations), and read off", of[k], PAPER[kind][k - 2], slack)
            )
    missing = sum(run["NC"] for by in runs.values() for run in by.values())
    found.append(Compared("runs that did not converge", float(missing), 0.0))
    if 7 in means["xavier"]:
        for kind in ("xavier", "small variance"):
            growth, read = ((of[7] - of[4]) / 3 for of in (means[kind], dict(enumerate(PAPER[kind], start=2))))
            found.append(Compared(f"{kind}: growth a layer, 4 <= k <= 7, and read off", growth, read, 0.5))
        late = means["near identity"][7] - means["near identity"][5]
        found.append(Compared("near identity: growth from k = 5 to 7", late, 0.6, relation="<="))
    return found


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    for ax, (kind, title), colour in zip(axes, KINDS.items(), COLOURS, strict=False):
        panel(ax, title, "depth $k$", r"$\ln$(iterations)" if kind == "xavier" else "")
        by = {int(k): np.array(run["logs"]) for k, run in numbers["ours"][kind].items()}
        k, means = np.array(list(by)), np.array([v.mean() for v in by.values()])
        errors = np.array([2 * v.std(ddof=1) / np.sqrt(v.size) for v in by.values()])
        for depth, values in by.items():
            ax.plot(np.full(values.size, depth), values, ".", color=colour, ms=4, alpha=0.45, mew=0)
        ax.errorbar(k, means, errors, color=colour, fmt="o-", lw=1.6, ms=5, capsize=3, label="ours, through the flow")
        read = {int(depth): value for depth, value in numbers["paper, read off"][kind].items()}
        ax.plot(
            list(read),
            list(read.values()),
            ":",
            color=MUTED,
            marker="o",
            mfc="none",
            ms=8,
            label="the paper's, read off",
        )
        some = list(NOT_ALL[kind])
        ax.plot(some, [read[depth] for depth in some], "x", color=MUTED, ms=5)
        ax.legend(frameon=False, fontsize=8.5, loc="upper left")
    axes[0].set_ylim(7.5, 21.5)
    axes[0].set_xticks(range(2, 9))
