"""Descent beside its flow: the distance, a proved bound of it, and the modified flow one order further.

Distance of the factors of gradient descent from their flow at the same time, with the certificate computed along descent;
orders of the largest distance in the step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow.descent import certificate
from lowrankflow.experiments.look import BLUE, GREEN, INK, MUTED, VERMILLION, panel
from lowrankflow.experiments.result import Compared, Result, Tell, finished
from lowrankflow.flows import ModifiedFlow
from lowrankflow.geometry import join_directions

SIZE = (10.0, 3.8)
CAPTION = (
    "Left: distance of all factors from the flow of the factors (solid) and the bound of it that is computed along with"
    " descent and proved (dashed), against flow time, at some steps, in parts of the edge 2 / sharpness at the start; depth 3,"
    " 4 x 4, balanced start of rank 2. Right: largest distance up to time 2 from that flow (order 1) and from the modified"
    " flow, of L + h |grad L|^2 / 4 (order 2); thin lines: slopes 1 and 2. In the setting of Elkabetz and Cohen (2021); bounds"
    " derived in docs/theory.md#descent-beside-the-flow."
)


def away(flow: Any, net: lrf.LinearNetwork, times: np.ndarray, networks: Any) -> np.ndarray:
    """Return the distances of networks from a flow at their times."""
    path = finished(
        lrf.integrate(
            flow, net, t_span=(0, times[-1]), rtol=1e-12, method="DOP853", save=lrf.Save(times=times, exact=True)
        )
    )
    pairs = zip(path.points, networks, strict=True)
    return np.array([np.linalg.norm(join_directions(a.factors) - join_directions(b.factors)) for a, b in pairs])


def measure(quick: bool, tell: Tell) -> Result:
    rng = np.random.default_rng(4)
    loss = lrf.losses.LeastSquares(rng.standard_normal((4, 20)), rng.standard_normal((4, 20)), reduction="mean")
    start = lrf.random_point(4, 4, 2, rng=rng, singular_values=[0.5, 0.3])
    net = lrf.LinearNetwork.balanced(start, 3, widths=4, rng=rng)
    edge, flow, numbers, found = 2 / lrf.sharpness(loss, net), lrf.FactorFlow(loss), {}, []
    for i, part in enumerate((64, 128) if quick else (64, 256, 1024)):
        tell(f"certificate at 1/{part} of the edge", 0.5 * i / 3)
        h = edge / part
        bound = certificate(loss, net, step_size=h, steps=int(2 / h))
        kept = np.unique(np.geomspace(1, bound.t.size - 1, 60).astype(int))
        distance = away(flow, net, np.append(0.0, bound.t[kept]), [net, *(bound.networks[k] for k in kept)])[1:]
        finite = np.isfinite(bound.bound[kept])
        shown = [b if ok else None for b, ok in zip(bound.bound[kept], finite, strict=True)]
        numbers[f"1/{part}"] = {"t": bound.t[kept], "distance": distance, "bound": shown}
        worst = float((distance[finite] / bound.bound[kept][finite]).max())
        found.append(Compared(f"1/{part} of the edge: largest distance over its bound", worst, 1.0, 0.0, "<="))
        found.append(Compared(f"1/{part} of the edge: how much of its bound it uses", worst, 0.8, relation=">="))
    hs = 2 / np.round(2 / (edge / 2.0 ** np.arange(5, 9 if quick else 11)))
    gaps: dict[str, list[float]] = {"flow": [], "modified flow": []}
    for i, h in enumerate(hs):
        tell("orders", 0.5 + 0.5 * i / hs.size)
        path = finished(
            lrf.gradient_descent(loss, net, step_size=h, steps=round(2 / h), keep_every=max(1, round(2 / h / 32)))
        )
        for name, near in (("flow", flow), ("modified flow", ModifiedFlow(loss, h))):
            gaps[name].append(float(away(near, net, path.t, path.points).max()))
    for (name, values), order in zip(gaps.items(), (1, 2), strict=True):
        slope = float(np.log(values[-2] / values[-1]) / np.log(hs[-2] / hs[-1]))
        found.append(Compared(f"order of the distance from the {name}", slope, order, 0.1))
    return Result({"certificates": numbers, "h": hs, "gaps": gaps}, found)


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    left, right = figure.subplots(1, 2)
    panel(left, "Distance and bound", "flow time", "distance of the factors")
    for (name, run), colour in zip(numbers["certificates"].items(), (VERMILLION, BLUE, GREEN), strict=False):
        left.loglog(run["t"], run["distance"], color=colour, lw=1.8, label=f"$h$ = {name} of the edge")
        bound = [np.nan if b is None else b for b in run["bound"]]
        left.loglog(run["t"], bound, color=colour, lw=1.4, ls="--")
    left.plot([], [], color=INK, ls="--", lw=1.4, label="bound")
    left.legend(frameon=False, fontsize=8)
    panel(right, "Orders in the step", "step $h$", "largest distance")
    h = np.array(numbers["h"])
    for (name, values), colour, marker in zip(numbers["gaps"].items(), (VERMILLION, BLUE), "os", strict=True):
        right.loglog(h, values, color=colour, marker=marker, ms=5, mfc="none", lw=1.2, label=f"from the {name}")
    for power, values in zip((1, 2), numbers["gaps"].values(), strict=True):
        right.loglog(h, 1.6 * values[-1] * (h / h[-1]) ** power, color=MUTED, lw=0.8)
    right.legend(frameon=False, fontsize=8)
