"""Time to a loss against depth: at one scale of W(0) it hardly depends on depth, at one scale of the factors it is exponential.

Sweeps over depth, scale and seed from random starts of rank 1, beside the closed form of aligned ones, which are the fastest, and
beside the flow reduced to three numbers.
"""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

import lowrankflow as lrf
from lowrankflow.experiments.look import BLUE, COLOURS, INK, panel
from lowrankflow.experiments.result import Compared, Result, Tell

SIZE = (12.0, 3.9)
CAPTION = (
    "Time of the flow of balanced factors until |W - Y|^2 / 2 is 0.05, Y of rank 1 and norm 1, 10 x 10, from W(0) = s u v^T with"
    " random u, v. Lines: medians over the seeds, bands: 10 % to 90 %. Dashed: closed form of aligned starts, which no start can"
    " beat, sigma_1' <= N sigma_1^(2 - 2/N) (1 - sigma_1). Left: s the same at all depths; middle: s = f^N, factors of norm f."
    " Right: slope of ln(time) over ln(1/s), and 1 - 2/N. Derived here; sizes are ours."
)
SIZE_N, LOSS, NORM = 10, 0.05, 0.2
SCALES = (1e-4, 1e-3, 1e-2)


def times(tell: Tell, begin: float, **axes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the times to the loss, seeds last, and by the reduced equation those of its depth and of the next, last."""
    x, y = np.eye(SIZE_N), np.eye(SIZE_N) * (np.arange(SIZE_N) == 0)
    grid = lrf.sweeps.Grid.of(
        problem={"inputs": x, "targets": y, "preprocess": "none", "reduction": "sum", "rank": 1, "rtol": 1e-9},
        run={"until": 1e9, "target": LOSS}, **axes,
    )  # fmt: skip
    with TemporaryDirectory() as folder:
        found = lrf.sweep(grid, folder, inputs=x, targets=y, progress=lambda _, done: tell("runs", begin + 0.4 * done))
    if not found.complete or set(found.values["status"].ravel()) != {"EVENT"}:
        raise RuntimeError(f"Some runs did not come to the loss: {found}.")
    by_three = []
    for job in (found.job(i) for i in range(grid.size)):
        w, depth = job.problem.build(inputs=x, targets=y).point, job.entries["depth"]
        by_three.append([reduced(n, w.s[0], w.u[0, 0], w.vt[0, 0]) for n in (depth, depth + 1)])
    t, seed = found.values["t"], found.dims["t"].index("seed")
    return np.moveaxis(t, seed, -1), np.moveaxis(np.reshape(by_three, (*t.shape, 2)), seed, -2)


def reduced(depth: int, s: float, p: float, q: float) -> float:
    """Return the time by three numbers: l = s^(1/N), p = u^T e_1 and q = v^T e_1, which obey a closed equation."""

    def velocity(t: float, at: np.ndarray) -> np.ndarray:
        size, p, q = at
        return size ** (depth - 2) * np.array([size * (p * q - size**depth), (1 - p * p) * q, (1 - q * q) * p])

    def left(t: float, at: np.ndarray) -> float:
        return 0.5 * (1 - 2 * at[0] ** depth * at[1] * at[2] + at[0] ** (2 * depth)) - LOSS

    left.terminal = True  # type: ignore[attr-defined]
    path = solve_ivp(velocity, (0, 1e9), [s ** (1 / depth), p, q], method="LSODA", rtol=1e-10, atol=1e-14, events=left)
    return float(path.t[-1])


def measure(quick: bool, tell: Tell) -> Result:
    depths, seed = [2, 3, 5] if quick else list(range(2, 9)), {"count": 3 if quick else 40}
    factors = {"depth": depths, "scale": [NORM**depth for depth in depths]}
    one, one_reduced = times(tell, 0.0, grid={"depth": depths, "scale": list(SCALES), "seed": seed})
    other, other_reduced = times(tell, 0.5, zip=[factors], grid={"seed": seed})
    end = 1 - np.sqrt(2 * LOSS)  # |W - Y| >= |1 - sigma_1|

    def aligned(scale: Any) -> np.ndarray:
        return np.array([lrf.exact.modes([1.0], s, n).time_to(end)[0] for n, s in zip(depths, scale, strict=True)])

    best = np.stack([aligned([s] * len(depths)) for s in SCALES], 1)
    best_other = aligned(factors["scale"])
    slopes = np.log10(one[:, 0] / one[:, 1])
    numbers = {
        "depth": depths, "scale": SCALES, "slope": np.median(slopes, 1), "law": [1 - 2 / n for n in depths],
        "one scale of W": [_band(one[:, i]) | {"aligned": best[:, i]} for i in range(len(SCALES))],
        "one scale of the factors": _band(other) | {"aligned": best_other},
    }  # fmt: skip
    added = float(np.median(one[0, 0] - one[0, 1]))
    found = [Compared("depth 2: time that a tenth of the scale adds", added, np.log(10) / 2, 0.02)]
    for n, slope in zip(depths[1:], slopes[1:], strict=True):
        farthest = slope[np.abs(slope - 1 + 2 / n).argmax()]
        found.append(Compared(f"depth {n}: slope of ln(time) over ln(1/s), farthest seed", farthest, 1 - 2 / n, 0.02))
    for name, t, three, least in (("W", one, one_reduced, best), ("factors", other, other_reduced, best_other)):
        off, deeper = np.abs(t[..., None] / three - 1).reshape(-1, 2).T
        found += [
            Compared(f"one scale of {name}: farthest from the reduced equation", off.max(), 0.0, 1e-5),
            Compared(
                f"one scale of {name}: nearest to it a layer deeper, the control", deeper.min(), 0.02, relation=">="
            ),
            Compared(f"one scale of {name}: least over aligned", (t / least[..., None]).min(), 1.0, relation=">="),
        ]
    return Result(numbers, found)


def _band(t: np.ndarray) -> dict[str, Any]:
    return dict(zip(("low", "median", "high"), np.quantile(t, (0.1, 0.5, 0.9), axis=-1), strict=True))


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    left, middle, right = figure.subplots(1, 3)
    depth = numbers["depth"]
    runs = [*numbers["one scale of W"], numbers["one scale of the factors"]]
    labels = [*(f"$s = 10^{{{np.log10(s):.0f}}}$" for s in numbers["scale"]), f"$f = {NORM}$"]
    for ax, run, label, colour in zip((left, left, left, middle), runs, labels, COLOURS, strict=True):
        ax.fill_between(depth, run["low"], run["high"], color=colour, alpha=0.25, lw=0)
        ax.semilogy(depth, run["median"], color=colour, marker="o", ms=4, lw=1.7, label=label)
        ax.semilogy(depth, run["aligned"], color=colour, ls="--", lw=1.2)
    panel(left, "One scale of W(0)", "depth $N$", "time to the loss")
    panel(middle, "One scale of the factors", "depth $N$", "")
    panel(right, "Order in the scale", "depth $N$", "slope")
    right.plot(depth, numbers["law"], color=INK, ls=":", lw=1.4, label="$1 - 2/N$")
    right.plot(depth, numbers["slope"], color=BLUE, ls="none", marker="o", label="measured")
    for ax in (left, middle, right):
        ax.legend(frameon=False, fontsize=9)
