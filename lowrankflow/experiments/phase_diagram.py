"""Phase diagram of completion and sensing: a small start recovers low rank, the deeper the better, a large one does not.

Error of what the flow of a full-rank start ends at, over the share that is measured and the scale of the start, for depths 2,
3 and 4: entries that are seen, or Gaussian measurements. All scales and seeds of a diagram's column are one batch.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow import batched
from lowrankflow.experiments.look import INK, panel
from lowrankflow.experiments.result import Compared, Result, Tell, finished

SIZE = (11.0, 6.0)
CAPTION = (
    "Median over the seeds of |W - Y| / |Y| (completion: on the entries that are hidden) at the end of the flow of balanced"
    " factors for Y of rank 1, 8 x 8, from W(0) = scale times a random orthogonal matrix, of full rank. Above: entries seen at"
    " random; below: Gaussian measurements. Dashed: as many measurements as rank-1 matrices have dimensions, 15. Line: half of"
    " the runs end below 1/10. Derived here: the error is of the order of the scale from depth 3 on, and of its power"
    " 1 - g2/g1 at depth 2, g the singular values of the gradient at W = 0; sizes and measurements are ours."
)
SIZE_N, DEPTHS, RECOVERED = 8, (2, 3, 4), 0.1
#: with how far the order may be off: where g2/g1 is 1/2, as in sensing, scales of 1e-2 are not yet small
KINDS = {"completion": 0.1, "sensing": 0.25}


def measured(kind: str, share: float, seeds: int) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
    """Return the loss of all seeds, Y, where W is judged, and the singular values g of its gradients at zero."""
    n, count = SIZE_N, round(share * SIZE_N**2)
    rngs = [np.random.default_rng([seed, 1]) for seed in range(seeds)]
    y = np.stack([lrf.random_point(n, n, 1, rng=rng, singular_values=[1.0]).to_dense() for rng in rngs])
    judged = np.ones_like(y, dtype=bool)
    if kind == "completion":
        judged = np.stack([rng.permutation(n * n).reshape(n, n) >= count for rng in rngs])
        loss: Any = batched.Completion(~judged, y)
    else:
        maps = np.stack([rng.standard_normal((n * n, n, n))[:count] / n for rng in rngs])
        loss = batched.Sensing(maps, np.einsum("rpmn,rmn->rp", maps, y))
    return loss, y, judged, np.linalg.svd(loss.gradient(0 * y), compute_uv=False)


def errors(kind: str, depth: int, share: float, scales: np.ndarray, seeds: int) -> tuple[np.ndarray, float, np.ndarray]:
    """Return the errors, (scales, seeds), what is left of the loss at most, and g2/g1 of each seed."""
    loss, y, judged, g = measured(kind, share, seeds)
    which = np.tile(np.arange(seeds), scales.size)
    starts = batched.LowRankMatrices.random(which.size, y.shape[1:], SIZE_N, rng=0, singular_values=np.ones(SIZE_N))
    s = np.repeat(scales, seeds)
    starts = batched.LowRankMatrices(starts.u, starts.s * s[:, None], starts.vt)
    # the time to leave zero is of the order of scale^-(1 - 2/N) / g1, and a logarithm at depth 2
    end = 8 / g[which, 0] * (np.log(10 / s) if depth == 2 else s ** (2 / depth - 1))
    runs = finished(batched.integrate(loss.take(which), starts, depth=depth, t_span=(0, end), rtol=1e-6, points=False))
    off = np.where(judged[which], runs.final.to_dense() - y[which], 0.0)
    error = np.linalg.norm(off, axis=(1, 2)) / np.linalg.norm(np.where(judged, y, 0.0), axis=(1, 2))[which]
    return error.reshape(scales.size, seeds), float((runs.loss[:, -1] / runs.loss[:, 0]).max()), g[:, 1] / g[:, 0]


def measure(quick: bool, tell: Tell) -> Result:
    shares = np.array([0.1, 0.9]) if quick else np.arange(1, 10) / 10
    scales = np.geomspace(1e-4, 1.0, 5 if quick else 9)
    seeds, found, small = (3 if quick else 20), [], scales < 0.011
    numbers: dict[str, Any] = {"share": shares, "scale": scales, "dimension": 2 * SIZE_N - 1}
    for i, (kind, slack) in enumerate(KINDS.items()):
        for j, depth in enumerate(DEPTHS):
            runs = []
            for k, share in enumerate(shares):
                tell(f"{kind}, depth {depth}, share {share:g}", (i + (j + k / shares.size) / len(DEPTHS)) / len(KINDS))
                runs.append(errors(kind, depth, float(share), scales, seeds))
            error = np.stack([run[0] for run in runs])  # (shares, scales, seeds)
            orders = np.polyfit(np.log(scales[small]), np.log(error[-1, small]), 1)[0]
            name, left = f"{kind}, depth {depth}", max(run[1] for run in runs)
            law = np.ones(seeds) if depth > 2 else 1 - runs[-1][2]
            numbers[name] = {
                "error": np.median(error, 2), "recovered": (error < RECOVERED).mean(2), "loss left": left,
                "order": orders, "law": law,
            }  # fmt: skip
            recovered = error < RECOVERED
            few = shares * SIZE_N**2 < numbers["dimension"] / 2
            found += [
                Compared(f"{name}: recovered from less than half of 15 measurements", recovered[few].mean(), 0),
                Compared(f"{name}: recovered from most measurements, least scale", recovered[-1, 0].mean(), 1),
                Compared(f"{name}: recovered from scale 1, the control", recovered[:, -1].mean(), 0),
                Compared(f"{name}: order of the error in the scale", np.median(orders), np.median(law), slack),
            ]
        two, three = (float(np.median(numbers[f"{kind}, depth {depth}"]["order"])) for depth in DEPTHS[:2])
        found.append(
            Compared(f"{kind}: order at depth 2, the control, over that at 3", two / three, 0.95, relation="<=")
        )
    return Result(numbers, found)


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    axes = figure.subplots(2, 3, sharex=True, sharey=True)
    for ax, (kind, depth) in zip(axes.flat, product(KINDS, DEPTHS), strict=True):
        x = "share measured" if kind == "sensing" else ""
        panel(ax, f"{kind.capitalize()}, depth {depth}", x, "$\\log_{10}$ of the scale" if depth == DEPTHS[0] else "")
        ax.grid(False)
        found = numbers[f"{kind}, depth {depth}"]
        at = numbers["share"], np.log10(numbers["scale"])
        image = ax.pcolormesh(*at, np.log10(found["error"]).T, shading="nearest", cmap="viridis", vmin=-3, vmax=0)
        ax.contour(*at, np.transpose(found["recovered"]), levels=[0.5], colors="white", linewidths=1.6)
        ax.axvline(numbers["dimension"] / SIZE_N**2, color=INK, ls="--", lw=1.2)
    figure.colorbar(image, ax=axes, label="$\\log_{10}$ of the relative error", extend="min")
