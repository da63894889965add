"""A training run of PyTorch beside the flow: plain descent keeps the predicted distance, anything else is told apart.

The network is drawn and trained by torch, in single precision; what is measured needs its checkpoints and its step alone.
"""

from __future__ import annotations

from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow.claims.checkpoints import Followed
from lowrankflow.experiments.look import COLOURS, INK, MUTED, panel
from lowrankflow.experiments.result import Compared, Result, Tell

SIZE = (12.0, 3.9)
CAPTION = (
    "An autoencoder of three layers of torch.nn.Linear without biases, as torch draws them, trained by torch.optim on"
    " handwritten digits with the mean squared error; the rate of descent is a tenth of the edge of stability at the start."
    " Left: distance of the factors from the gradient flow, over their norm, against the flow time that plain descent with the"
    " rate takes; dashed: what the first order in the step predicts. Middle: from each checkpoint plain descent is done again"
    " to the next; the distance at which it ends, over the way between the two, and what passes for the same (line). Right: the"
    " loss. The measures are derived here."
)
WIDTHS, SEED, SHARE, BATCH, KEPT = (64, 32, 32, 64), 0, 0.1, 64, 20
PLAIN, HALF = "SGD, all samples", "SGD, half the rate"
OPTIMIZERS: dict[str, tuple[str, dict[str, float]]] = {
    PLAIN: ("SGD", {}),
    "momentum 0.9": ("SGD", {"momentum": 0.9}),
    "weight decay": ("SGD", {"weight_decay": 3e-4}),
    f"batches of {BATCH}": ("SGD", {}),
    "Adam": ("Adam", {}),
    HALF: ("SGD", {}),
}  # fmt: skip


def train(torch: Any, x: np.ndarray, loss: lrf.losses.LeastSquares, name: str, steps: int) -> Followed:
    """Return a run of torch as it is followed: torch's mean over samples and outputs is 2 / m of the loss."""
    data = torch.tensor(x, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = torch.nn.Sequential(*(torch.nn.Linear(a, b, bias=False) for a, b in pairwise(WIDTHS)))
        order = torch.randint(len(data), (steps, BATCH))
    edge = 2 / lrf.sharpness(loss, lrf.LinearNetwork.from_torch(model), tol=1e-3)
    step, halved = SHARE * edge, 2 if name == HALF else 1
    kind, options = OPTIMIZERS[name]
    rate = 1e-3 if kind == "Adam" else step * WIDTHS[-1] / 2 / halved
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=rate, **options)
    recorder = lrf.data.Recorder(model, every=halved * steps // KEPT)
    optimizer.register_step_post_hook(recorder)
    for k in range(halved * steps):
        batch = data[order[k]] if name.startswith("batches") else data
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(batch), batch).backward()
        optimizer.step()
    networks = [net for net in recorder.networks if isinstance(net, lrf.LinearNetwork)]  # without biases: all of them
    return Followed(loss, networks, np.array(recorder.updates), step / halved, lambda stage, fraction: None)


def measure(quick: bool, tell: Tell) -> Result:
    try:
        torch: Any = import_module("torch")
    except ImportError:
        raise ImportError('A run of torch needs torch. Run: pip install "lowrankflow[torch]"') from None
    x = lrf.data.load("digits").inputs
    x = (x - x.mean(0)) / x.std()
    loss = lrf.losses.LeastSquares(x, x, samples="rows", reduction="mean")
    runs: dict[str, Any] = {}
    for i, name in enumerate(OPTIMIZERS):
        tell(name, i / len(OPTIMIZERS))
        run = train(torch, x, loss, name, 200 if quick else 1000)
        gap, left, predicted = run.gaps
        runs[name] = {
            "t": run.times, "loss": run.losses, "gap": gap, "left": left, "predicted": predicted, "edge": run.edge,
            "again": [one.gap for one in run.replays],
        }  # fmt: skip
    plain, half = runs[PLAIN], runs.pop(HALF)
    most, least = max(plain["gap"]), max(half["gap"])
    found = [
        Compared(f"{PLAIN}: distance of descent done again", max(plain["again"]), 1e-2, relation="<="),
        Compared(
            f"{PLAIN}: distance that the first order leaves, over all", max(plain["left"]) / most, 0.5, relation="<="
        ),
        Compared(f"{PLAIN}: distance over that at half the rate", most / least, 2.0, 0.2),
    ]
    found += [
        Compared(f"{name}: distance of descent done again", max(run["again"]), 1e-2, relation=">=")
        for name, run in runs.items()
        if name != PLAIN
    ]
    return Result({"runs": runs, HALF: half}, found)


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    axes = figure.subplots(1, 3)
    panel(axes[0], "Distance from the flow", "flow time", "relative distance")
    panel(axes[1], "Descent done again", "flow time", "distance over the way")
    panel(axes[2], "Loss", "flow time", "loss")
    for colour, (name, run) in zip((INK, *COLOURS), numbers["runs"].items(), strict=False):
        t = np.array(run["t"])
        axes[0].plot(t[1:], run["gap"][1:], color=colour, lw=1.4, label=name)
        if name == PLAIN:
            axes[0].plot(t[1:], run["predicted"][1:], color=INK, ls=(0, (2, 2)), lw=3, alpha=0.4, label="predicted")
        axes[1].plot(np.linspace(0, t[-1], len(run["again"])), run["again"], color=colour, marker="o", ms=3.5, lw=1.0)
        axes[2].plot(t, run["loss"], color=colour, lw=1.4)
    axes[1].axhline(1e-2, color=MUTED, lw=0.8)
    for ax in axes:
        ax.set_yscale("log")
    figure.legend(loc="outside lower center", ncols=6, frameon=False, fontsize=9)
