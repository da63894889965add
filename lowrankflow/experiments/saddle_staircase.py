"""From saddle to saddle: the loss of a small start falls in steps.

Singular values 4, 3, 2, 1 of the target and white inputs, depths 2, 3 and 4, and the digits at depth 3. Where the flow
comes closest to the critical point of the leading r pairs its loss is compared with the critical value.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow.experiments.look import COLOURS, MUTED, panel
from lowrankflow.experiments.result import Compared, Result, Tell, finished

SIZE = (9.6, 4.0)
CAPTION = (
    "Loss (half the sum of squares; digits: half the mean over samples) along the gradient flow. Left, target diag(4,"
    " 3, 2, 1), white inputs, hidden width 8, small Gaussian factors (unbalanced); time in units of that at which the"
    " last mode is half learned. Right, the digits are reproduced by a matrix of rank r, from small balanced factors,"
    " depth 3. Dotted: critical values of the index sets {1..k}. In the setting of Achour, Malgouyres and Gerchinovitz"
    " (2024), whose critical values these are; data and starts are ours."
)
SIGMA = (4.0, 3.0, 2.0, 1.0)
SCALES = {2: 1e-10, 3: 1e-2, 4: 3e-2}  #: spectral norm of the factors at the start


def approached(loss: Any, path: Any, rank: int) -> list[dict[str, float]]:
    """Return, for k = 1 .. rank, where the path is closest to the best matrix of rank k, and the critical value there."""
    values = {c.index_set: c.value for c in lrf.landscape.critical_values(loss, rank)} if rank < 6 else {}
    found = []
    for k in range(1, rank + 1):
        best = lrf.landscape.critical_matrix(loss, range(1, k + 1))
        distances = [(lrf.Product(*w.split()) - lrf.Product(*best.split())).norm() / best.norm() for w in path.points]
        i = int(np.argmin(distances))
        value = values.get(tuple(range(1, k + 1)), loss.best_value(k))
        found.append({"k": k, "t": path.t[i], "loss": path.loss[i], "critical value": value, "distance": distances[i]})
    return found


def compared(name: str, start: float, stairs: list[dict[str, float]]) -> list[Compared]:
    """Compare the plateaus with the critical values, to 2 % of the loss at zero, and their order in time."""
    values = [Compared(f"{name}, loss at k = {s['k']}", s["loss"], s["critical value"], 0.02 * start) for s in stairs]
    times = [s["t"] for s in stairs]
    least = float(np.diff(times).min())
    return [*values, Compared(f"{name}, least time between plateaus", least, 0.0, relation=">=")]


def measure(quick: bool, tell: Tell) -> Result:
    loss = lrf.losses.LeastSquares(np.eye(4), np.diag(SIGMA))
    learned = lrf.Event("learned", lambda t, w: loss.value(w) - 1e-6, terminal=True)
    numbers, found = {}, []
    for i, (depth, scale) in enumerate(SCALES.items()):
        tell(f"depth {depth}", i / 4)
        wide = lrf.LinearNetwork.gaussian((4, 4), depth, widths=8, rng=0)
        net = lrf.LinearNetwork([scale * f / np.linalg.norm(f, 2) for f in wide.factors])
        path = finished(lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 1e5), rtol=1e-7, events=learned))
        stairs = approached(loss, path, 4)
        unit = float(np.interp(0.25, path.loss[::-1], path.t[::-1]))
        numbers[f"depth {depth}"] = {"t": path.t / unit, "loss": path.loss, "unit of time": unit, "plateaus": stairs}
        found += compared(f"depth {depth}", loss.value(0 * np.eye(4)), stairs)
    tell("digits", 3 / 4)
    rank = 4 if quick else 6
    built = lrf.Problem(data="digits", rank=rank, scale=1e-9, depth=3).build()
    flow = lrf.RiemannianFlow(built.loss, lrf.DepthMetric(3))
    assert built.start is not None
    path = finished(lrf.integrate(flow, built.start, t_span=(0, np.inf), gtol=1e-4, rtol=1e-6))
    stairs, start = approached(built.loss, path, rank), built.loss.value(np.zeros(built.loss.shape))
    numbers["digits"] = {"t": path.t, "loss": path.loss, "loss at zero": start, "plateaus": stairs}
    return Result(numbers, found + compared("digits", start, stairs))


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    left, right = figure.subplots(1, 2)
    panel(left, "Target diag(4, 3, 2, 1)", "time / that of the last mode", "loss")
    for k, value in enumerate([15.0, 7.0, 2.5, 0.5]):
        left.axhline(value, color=MUTED, ls=":", lw=1.3)
        left.text(
            1.33,
            value + 0.15,
            f"$S$ = {{{', '.join(map(str, range(1, k + 1)))}}}",
            color=MUTED,
            ha="right",
            va="bottom",
        )
    for colour, dashes, depth in zip(COLOURS, ("-", (0, (6, 2)), (0, (2, 1.2))), SCALES, strict=False):
        run = numbers[f"depth {depth}"]
        left.plot(
            [*run["t"], 1.35], [*run["loss"], run["loss"][-1]], color=colour, ls=dashes, lw=1.9, label=f"depth {depth}"
        )
    left.set_xlim(0, 1.35)
    left.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 0.93))
    run = numbers["digits"]
    end = 1.2 * run["plateaus"][-2]["t"]
    panel(right, "Digits, depth 3", "time $t$", "loss")
    for k, value in enumerate([run["loss at zero"], *(s["critical value"] for s in run["plateaus"])]):
        right.axhline(value, color=MUTED, ls=":", lw=1.3)
        right.text(end, value + 0.1, f"rank {k}", color=MUTED, ha="right", va="bottom")
    right.plot([*run["t"], end], [*run["loss"], run["loss"][-1]], color=COLOURS[0], lw=1.9)
    right.set_xlim(0, end)
