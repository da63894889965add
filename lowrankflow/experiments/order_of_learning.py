"""Order of learning on digits: from small starts that of the eigenvalues at depth 2; at depth 3 every start has its own.

When each mode of the digits is half learned, over seeds, at depths 2 and 3 from two small scales each: two laws of the time, and
what they mean for the order.
"""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow.experiments.look import BLUE, INK, VERMILLION, panel
from lowrankflow.experiments.result import Compared, Result, Tell

SIZE = (12.0, 3.9)
CAPTION = (
    "The flow of rank 6 on the digits, which are to be reproduced, from singular values s in random frames. Left: share of the"
    " seeds in which a mode is the k-th to be half learned. Right: times, medians with 10 % to 90 % of the seeds; dotted: times"
    " from a larger scale, carried to this one by the law: from 1e-21 by t + ln(1000) / (2 lambda_k) at depth 2, from 1e-4 by"
    " 10^(2/3) t at depth 3, which leaves the order as it is. Derived here; data and starts are ours."
)
RANK = 6
SCALES = {2: (1e-21, 1e-24), 3: (1e-4, 1e-6)}  #: by depth
ENDS = {2: (12.5, 13.5), 3: (50.0, 220.0)}  #: by when five modes are learned


def spectrum() -> Any:
    """Return the spectrum of the digits."""
    return lrf.losses.facts(lrf.Problem(data="digits", rank=RANK).build().loss).spectrum


def learned(depth: int, scale: float, times: np.ndarray, seeds: int, modes: int) -> np.ndarray:
    """Return when each of the leading modes is half learned, (seeds, modes); the last time where it is not."""
    with TemporaryDirectory() as folder:
        found = lrf.sweep(
            {
                "problem": {"data": "digits", "rank": RANK, "depth": depth, "scale": scale, "rtol": 1e-5},
                "grid": {"seed": {"count": seeds}},
                "run": {"times": times.tolist(), "columns": ["mode_strengths"]},
            },
            folder,
        )  # fmt: skip
    if not found.complete:
        raise RuntimeError(f"Some runs failed: {found.errors}")
    target = spectrum().sigma[:modes]
    strength = found.values["mode_strengths"][..., :modes] / target
    after = (strength >= 0.5).argmax(1)  # the first moment
    seed, mode = np.indices(after.shape)
    a, b = strength[seed, after - 1, mode], strength[seed, after, mode]
    return np.where(after > 0, times[after - 1] + (0.5 - a) / (b - a) * times[1], times[-1])


def measure(quick: bool, tell: Tell) -> Result:
    seeds, modes, part, points = (4, 3, 0.3, 120) if quick else (20, 5, 1.0, 400)
    rates = spectrum().eigenvalues[:modes]
    numbers: dict[str, Any] = {"lambda": rates}
    found, ordered = [], {}
    for i, (depth, scales) in enumerate(SCALES.items()):
        runs = []
        for j, (scale, end) in enumerate(zip(scales, ENDS[depth], strict=True)):
            tell(f"depth {depth}, scale {scale:g}", (i + j / 2) / 2)
            runs.append(learned(depth, scale, np.linspace(0, part * end, points), seeds, modes))
        large, small = runs
        order = small.argsort(1)
        share = (order[:, :, None] == np.arange(modes)).mean(0)  # (k-th, mode)
        law = large + np.log(1e3) / (2 * rates) if depth == 2 else 10 ** (2 / 3) * large
        numbers[f"depth {depth}"] = {
            "scale": scales[1], "share": share, "times": _band(small), "law": np.median(law, 0)
        }  # fmt: skip
        ordered[depth] = (order == np.arange(modes)).all(1).mean()
        found += [
            Compared(f"depth {depth}, mode {k + 1}: median time over that of the law", ratio, 1.0, 0.03)
            for k, ratio in enumerate(np.median(small / law, 0))
        ]  # fmt: skip
        other = 10 ** (2 / 3) * large if depth == 2 else large + np.log(1e2) / (2 * rates)
        off = np.abs(np.median(small / other, 0) - 1).min()
        found.append(Compared(f"depth {depth}: nearest to the law of the other, the control", off, 0.1, relation=">="))
    found += [
        Compared("depth 2: share of the seeds in the order of the eigenvalues", ordered[2], 1.0),
        Compared("depth 3: the same, the control", ordered[3], 0.99, relation="<="),
    ]
    return Result(numbers, found)


def _band(t: np.ndarray) -> dict[str, Any]:
    return dict(zip(("low", "median", "high"), np.quantile(t, (0.1, 0.5, 0.9), axis=0), strict=True))


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    axes = figure.subplots(1, 4)
    mode = np.arange(1, len(numbers["lambda"]) + 1)
    for depth, colour, heat, line in zip(SCALES, (BLUE, VERMILLION), axes[:2], axes[2:], strict=True):
        run = numbers[f"depth {depth}"]
        label = f"depth {depth}, $s = 10^{{{np.log10(run['scale']):.0f}}}$"
        panel(heat, label.capitalize(), "mode", "learned as the k-th")
        heat.grid(False)
        heat.pcolormesh(mode, mode, run["share"], cmap="Blues", vmin=0, vmax=1, shading="nearest")
        for k, row in enumerate(run["share"], start=1):
            for i, share in enumerate(row, start=1):
                if share:
                    heat.text(i, k, f"{share:.2g}", ha="center", va="center", color="white" if share > 0.5 else INK)
        heat.set(xticks=mode, yticks=mode)
        panel(line, label.capitalize(), "mode", "time to half of it")
        low, middle, high = (np.array(run["times"][name]) for name in ("low", "median", "high"))
        line.errorbar(mode, middle, (middle - low, high - middle), color=colour, fmt="o", ms=5, capsize=3)
        line.plot(mode, run["law"], color=INK, ls=":", lw=1.4)
        line.set(xticks=mode, ylim=(0, None))
