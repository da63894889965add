"""Time against depth: networks of scalars take time exponential in their number.

A descent whose loss waits for one coordinate to cross zero; medians of the time over the depth for four initialisations,
with fitted lines; the rate against the variance of Gaussian coordinates, with the law -E ln|w|.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow.experiments.look import COLOURS, INK, MUTED, VERMILLION, panel
from lowrankflow.experiments.result import Compared, Result, Tell

SIZE = (9.6, 7.4)
CAPTION = (
    "Networks of k scalars. Above, gradient descent (step 0.001) on (w_7...w_1 + 1)^2 from a start near the identity:"
    " the loss waits near 1 while all coordinates shrink, until one of them crosses 0 and the others come back to about their"
    " initial sizes (dotted). In the setting of Shamir (2019), Figure 1, whose step and start are not known; ours are a draw"
    " that has about its plateau. Below left, the median of ln(T / 0.001), T the time of the flow to loss 0.1 of"
    " (w_k...w_1 + 1)^2 / 2, by the integral that is derived here, over k, with 95 % bootstrap intervals (bands) and lines"
    " fitted to 20 <= k <= 40, for N(1, 1/k^2) to 6 <= k <= 12; rings: medians of gradient descent with step 0.001."
    " Initialisations are the paper's. Below right, the slope on 20 <= k <= 40 against the variance of Gaussian coordinates,"
    " with 95 % intervals, and its limit for large k, -E ln|w|, derived here; dotted: the variance 2 e^0.577... where it is"
    " zero."
)
STEP, START = 1e-3, 2893
KINDS = {
    "N(0, 1)": "xavier", "uniform": "xavier uniform", "N(1, 1/k)": "near identity", "N(1, 1/k^2)": "small variance",
}  # fmt: skip
LATE, EARLY = (20, 40), (6, 12)


def trajectory() -> dict[str, Any]:
    """Return a descent through its plateau, an iterate in 400."""
    f, w = lrf.scalar.Square(-1.0, factor=1.0), lrf.scalar.start("small variance", 7, rng=START)
    states, every = [w[0]], 400
    while f.value(np.prod(states[-1])) > 1e-6:
        found = lrf.scalar.descend(states[-1], f, step_size=STEP, stop=1e-6, limit=every)
        states.append(found.w[0])
        last = int(found.iterations[0])
    path = np.array(states)
    times = np.arange(len(path)) * float(every)
    times[-1] += last - every
    return {"iteration": times, "loss": f.value(path.prod(axis=1)), "w": path.T}


def between(times: dict[int, np.ndarray], ends: tuple[int, int]) -> lrf.scalar.Rate:
    return lrf.scalar.fitted_rate({k: t for k, t in times.items() if ends[0] <= k <= ends[1]}, rng=0)


def measure(quick: bool, tell: Tell) -> Result:
    tell("one descent", 0.0)
    path = trajectory()
    f, runs = lrf.scalar.Square(-1.0), 300 if quick else 1000
    depths = (*range(2, 13, 2), 16, 20, 25, 30, 35, 40) if quick else range(2, 41, 2)
    curves, rates = {}, {}
    for i, (name, kind) in enumerate(KINDS.items()):
        tell(f"starts {name}", 0.15 + 0.12 * i)
        times = {
            k: lrf.scalar.flow_time(lrf.scalar.start(kind, k, runs, rng=k), f, 0.1, log=True) - np.log(STEP)
            for k in depths
        }
        every = lrf.scalar.fitted_rate(times, rng=0)
        rates[name] = {"late": between(times, LATE), "early": between(times, EARLY), "first": between(times, (2, 20))}
        line = rates[name]["early" if kind == "small variance" else "late"]
        descents = {}
        for k in (2, 4) if quick else (2, 4, 6, 8):
            w = lrf.scalar.start(kind, k, 100 if quick else 200, rng=k)
            found = lrf.scalar.descend(w, f, step_size=STEP, stop=0.1, limit=30_000 if quick else 200_000)
            theory = float(np.median(lrf.scalar.flow_time(w, f, 0.1, log=True))) - np.log(STEP)
            descents[k] = {"measured": float(np.median(found.log_iterations)), "theory": theory}
        curves[name] = {
            "depth": list(depths), "median": every.medians, "low": every.band[0], "high": every.band[1],
            "slope": [line.slope, line.low, line.high], "intercept": line.intercept,
            "fitted": EARLY if kind == "small variance" else LATE, "descent": descents,
        }  # fmt: skip
    tell("variances", 0.7)
    variances = (0.25, 0.5, 1.0, 2.0, 4.0) if quick else (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6)
    slopes = []
    for i, variance in enumerate(variances):
        tell(f"variance {variance:g}", 0.7 + 0.3 * i / len(variances))
        many = {
            k: lrf.scalar.flow_time(lrf.scalar.start("xavier", k, runs, variance=variance, rng=k), f, 0.1, log=True)
            for k in (20, 30, 40)
        }
        rate = lrf.scalar.fitted_rate(many, rng=0)
        law = lrf.scalar.rate_law("xavier", variance=variance)
        slopes.append({"variance": variance, "slope": rate.slope, "low": rate.low, "high": rate.high, "law": law})
    numbers = {"trajectory": path, "curves": curves, "slopes": slopes}
    return Result(numbers, [*_of_trajectory(path), *_of_curves(curves, rates), *_of_slopes(slopes)])


def _of_trajectory(path: dict[str, Any]) -> list[Compared]:
    sizes, crossed = np.abs(path["w"]), path["w"][:, -1] < 0
    end = float(path["iteration"][-1])
    time = float(lrf.scalar.flow_time(path["w"][:, 0], lrf.scalar.Square(-1.0, factor=1.0), 1e-6)[0]) / STEP
    return [
        Compared("descent: coordinates that cross zero", float(crossed.sum()), 1.0),
        Compared("descent: iterations over those of the flow", end / time, 1.0, 0.01),
        # w_i^2 - w_j^2 is kept, and the products at the ends are of size 1.4 and 1
        Compared("descent: largest change of a size", float(np.abs(sizes[:, -1] - sizes[:, 0]).max()), 0.0, 0.15),
    ]


def _of_curves(curves: dict[str, Any], rates: dict[str, Any]) -> list[Compared]:
    gauss, uniform, wide, narrow = (rates[name] for name in KINDS)
    gaps = [abs(d["measured"] - d["theory"]) for curve in curves.values() for d in curve["descent"].values()]
    return [
        Compared("largest difference of median ln(iterations), descent and flow", max(gaps), 0.0, 0.02),
        Compared("N(0, 1): slope on 2 <= k <= 20", gauss["first"].slope, 0.43, 0.06),
        Compared("N(0, 1): R^2 there", gauss["first"].r_squared, 0.95, relation=">="),
        Compared("uniform: slope on 2 <= k <= 20", uniform["first"].slope, 0.24, 0.06),
        Compared("N(0, 1): slope on 20 <= k <= 40", gauss["late"].slope, 0.56, 0.06),
        Compared("uniform: the same, and its limit", uniform["late"].slope, lrf.scalar.rate_law("xavier uniform"), 0.02, "<="),
        Compared("N(1, 1/k^2): slope on 6 <= k <= 12", narrow["early"].slope, 0.86, 0.12),
        Compared("N(1, 1/k^2): that on 20 <= k <= 40, faster", narrow["late"].slope, narrow["early"].slope, relation=">="),
        Compared("N(1, 1/k): slope on 6 <= k <= 12", wide["early"].slope, 0.3, relation="<="),
    ]  # fmt: skip


def _of_slopes(slopes: list[dict[str, float]]) -> list[Compared]:
    by = {each["variance"]: each["slope"] for each in slopes}
    below = [each for each in slopes if each["variance"] <= 2]
    worst = max(each["slope"] - each["law"] for each in below)
    return [
        Compared("variance 0.5: slope on 20 <= k <= 40", by[0.5], 0.9, 0.08),
        Compared("variances up to 2: largest slope over its limit", worst, 0.0, relation="<="),
        Compared("variance 2, below the critical one: slope", by[2.0], 0.0, relation=">="),
        Compared("variance 4, above it: slope", by[4.0], 0.0, relation="<="),
    ]


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    (left, right), (low, law) = figure.subplots(2, 2)
    path = numbers["trajectory"]
    t = np.array(path["iteration"]) / 1e4
    panel(left, "The loss waits", "iteration / 10 000", "loss $F$")
    left.plot(t, path["loss"], color=INK, lw=1.8)
    left.axhline(1, color=MUTED, lw=1.1, ls=":")
    left.text(0.5 * t[-1], 1.04, "$f(0)$", color=MUTED, fontsize=9)
    panel(right, "until one coordinate crosses zero", "iteration / 10 000", "coordinates $w_j$")
    for w in path["w"]:
        crosses = w[-1] < 0
        right.plot(t, w, color=VERMILLION if crosses else INK, lw=2.0 if crosses else 1.0)
        right.plot(t[[0, -1]], [w[0], w[0]], color=MUTED, lw=0.7, ls=":")
    right.axhline(0, color=MUTED, lw=0.8)
    panel(low, "Median time to loss 0.1", "depth $k$", r"median of $\ln(T / 0.001)$")
    for (name, curve), colour, marker in zip(numbers["curves"].items(), COLOURS, "osD^", strict=True):
        k = np.array(curve["depth"])
        slope, label = curve["slope"], name.replace("N(", "$N(").replace(")", ")$")
        low.fill_between(k, curve["low"], curve["high"], color=colour, alpha=0.25, lw=0)
        text = f"{label}: {slope[0]:.2f} [{slope[1]:.2f}, {slope[2]:.2f}] a layer"
        low.plot(k, curve["median"], color=colour, lw=1.2, marker=marker, ms=3, label=text)
        ends = np.array(curve["fitted"])
        low.plot(ends, curve["intercept"] + slope[0] * ends, color=colour, lw=1.6, ls="--")
        low.plot(
            [int(d) for d in curve["descent"]], [d["measured"] for d in curve["descent"].values()],
            ls="none", marker="o", ms=7, mfc="none", mec=colour,
        )  # fmt: skip
    low.set_ylim(0, 30)
    low.legend(frameon=False, fontsize=8, loc="lower right", title="slope of the dashed line, 95 %", title_fontsize=8)
    panel(law, "The rate, and the law", "variance of a coordinate", "slope of the median of $\\ln T$")
    slopes = numbers["slopes"]
    x = np.array([each["variance"] for each in slopes])
    fine = np.geomspace(x[0] * 0.8, x[-1] * 1.2, 200)
    line = [lrf.scalar.rate_law("xavier", variance=float(v)) for v in fine]
    law.plot(fine, line, color=INK, lw=1.6, label="$-E\\,\\ln|w|$, large $k$")
    middle = np.array([each["slope"] for each in slopes])
    errors = np.abs(np.array([[each["low"], each["high"]] for each in slopes]).T - middle)
    law.errorbar(x, middle, errors, color=VERMILLION, fmt="o", ms=5, capsize=3, label="measured, $20 \\leq k \\leq 40$")
    law.axhline(0, color=MUTED, lw=0.8)
    law.axvline(lrf.scalar.critical_variance("xavier"), color=MUTED, ls=":", lw=1.5)
    law.set_xscale("log")
    ticks = [0.25, 0.5, 1, 2, 4]
    law.set_xticks(ticks, [f"{v:g}" for v in ticks])
    law.minorticks_off()
    law.legend(frameon=False, fontsize=9)
