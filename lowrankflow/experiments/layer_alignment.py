"""Layers align: what of their misalignment the conserved imbalance allows, for logistic and square loss, depths 2 to 4.

The imbalance is conserved and the norms grow, so neighbouring layers come to share their first singular vectors, and where the
output is one number all layers become rank one; rules that do not conserve it, from the same start, leave the bound.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow.descent import Adam
from lowrankflow.experiments.look import BLUE, GREEN, INK, MUTED, PURPLE, VERMILLION, panel
from lowrankflow.experiments.result import Compared, Result, Tell, finished

SIZE = (12.0, 6.6)
CAPTION = (
    "Misalignment 1 - |W_{j+1} W_j|^2 / (|W_{j+1}| |W_j|)^2 (norms: largest singular values), the largest over the joints,"
    " along the flow of the factors from unbalanced Gaussian starts: solid. Dashed: the bound by the spread of the eigenvalues"
    " of the imbalance D_j at the start over the larger |W_j|^2. Dotted: the sharper one where a gap has opened, the square of"
    " half the spread over the gap. Lower left: 1 - |W_1|^2 / |W_1|_F^2 and its bound. Lower middle: the first singular pair of W"
    " and that of the targets; thin: from balanced factors of the same W(0). Lower right: depth 3 from one balanced start,"
    " where the bound is roundoff. In the setting of Ji and Telgarsky (ICLR 2019); the bounds are derived here, all parameters"
    " are ours."
)
DEPTHS = {2: BLUE, 3: VERMILLION, 4: GREEN}
RTOL = 1e-10
SLACK = 1e-13  #: roundoff of a misalignment; what integration moves the imbalances by, below 1e-8, is squared in it
LEAST = -25.0  #: of the logarithm of the logistic loss


def logistic() -> lrf.losses.Measured:
    """Return the logistic loss of 40 separable samples, less those near the plane."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((6, 40)), rng.standard_normal(6)
    x = x[:, np.abs(w @ x) > 0.4]
    return lrf.losses.Measured(lrf.losses.Inputs(x, 1), lrf.losses.Logistic(np.sign(w @ x)[None]))


def square() -> lrf.losses.LeastSquares:
    """Return the square loss of a target with four modes on white inputs."""
    y = lrf.random_point(5, 6, 4, rng=3, singular_values=[4.0, 2.0, 1.0, 0.5])
    return lrf.losses.LeastSquares(np.eye(6), y.to_dense())


def start(shape: tuple[int, int], depth: int) -> lrf.LinearNetwork:
    """Return unbalanced factors, small enough to align and large enough to have something to lose."""
    return lrf.LinearNetwork.gaussian(shape, depth, widths=6, scale=0.5, rng=1)


def bounds(net: lrf.LinearNetwork, imbalances: list[Any]) -> np.ndarray:
    r"""Return both bounds of the largest misalignment that D_1, ..., D_{N-1} leave; the second 1 where there is no gap.

    With u the top left singular vector of W_j, :math:`|W_{j+1} u|^2 = s_j^2 + u^T D_j u`, hence

    .. math:: 1 - \frac{|W_{j+1} W_j|^2}{|W_{j+1}|^2 |W_j|^2} \le \frac{d}{\max(|W_j|, |W_{j+1}|)^2},
              \qquad d = \lambda_{\max}(D_j) - \lambda_{\min}(D_j),

    and with the part of u across the top right singular vector of W_{j+1}, of length at most d / 2 over the gap
    :math:`s_j^2 + \tfrac12 (\lambda_{\max} + \lambda_{\min}) - s_2(W_{j+1})^2`, the square of that.
    """
    found = []
    for (a, b), d in zip(pairwise(net.factors), imbalances, strict=True):
        low, high = np.linalg.eigvalsh(d)[[0, -1]]
        s, r = np.linalg.svd(a, compute_uv=False), np.linalg.svd(b, compute_uv=False)
        gap = s[0] ** 2 + (high + low) / 2 - (r[1] if r.size > 1 else 0.0) ** 2
        spread = high - low
        found.append([spread / max(s[0], r[0]) ** 2, min(1.0, (spread / 2 / gap) ** 2) if gap > 0 else 1.0])
    return np.max(found, axis=0)


def rank_one(net: lrf.LinearNetwork, imbalances: list[Any]) -> tuple[float, float]:
    r"""Return how far W_1 is from rank one, and the bound, for an output of one number.

    :math:`\|W_j\|_F^2 - |W_j|^2 \le \|W_{j+1}\|_F^2 - |W_{j+1}|^2 + \lambda_{\max}(D_j) - \mathrm{tr} D_j`, which is 0 at W_N.
    """
    size = float(np.linalg.norm(net.factors[0])) ** 2
    allowed = sum(float(np.linalg.eigvalsh(d)[-1] - np.trace(d)) for d in imbalances)
    return 1 - float(np.linalg.norm(net.factors[0], 2)) ** 2 / size, allowed / size


def course(path: lrf.Trajectory[lrf.LinearNetwork], imbalances: list[Any]) -> dict[str, Any]:
    """Return misalignment and bounds along a run."""
    pair = np.array([bounds(w, imbalances) for w in path.points]).T
    sizes = [max(float(np.linalg.norm(f, 2)) for f in w.factors) ** 2 for w in path.points]
    return {"t": path.t, "misaligned": 1 - np.array(path.columns["layer_alignment"]).min(1) ** 2,
            "bound": pair[0], "sharper": pair[1], "size": np.array(sizes)}  # fmt: skip


def above(run: dict[str, Any], key: str) -> float:
    """Return how far the misalignment is above a bound at most."""
    return float((run["misaligned"] - run[key]).max())


def classified(depth: int) -> dict[str, Any]:
    """Return the flow of the logarithm of the logistic loss, which has the path of the loss itself."""
    loss = lrf.losses.Logarithm(logistic())
    net = start((1, 6), depth)
    end = lrf.Event("end", lambda t, w: loss.value(w) - LEAST, terminal=True)
    save = lrf.Save(columns=["layer_alignment"])
    path = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 1e3), rtol=RTOL, events=[end], save=save)
    run = course(finished(path), net.imbalances())
    one = [rank_one(w, net.imbalances()) for w in path.points]
    return run | {"rank one": np.array(one).T[0], "of rank one": np.array(one).T[1]}


def fitted(net: lrf.LinearNetwork, t_end: float = 12.0) -> dict[str, Any]:
    """Return the flow of the square loss."""
    save = lrf.Save(columns=["layer_alignment", "mode_alignment"])
    path = finished(lrf.integrate(lrf.FactorFlow(square()), net, t_span=(0, t_end), rtol=RTOL, save=save))
    first = np.array(path.columns["mode_alignment"])[:, 0]
    return course(path, net.imbalances()) | {"off target": 1 - first}


def measure(quick: bool, tell: Tell) -> Result:
    numbers: dict[str, Any] = {"logistic": {}, "square": {}, "balanced, square": {}, "rules": {}}
    found = []
    for i, depth in enumerate(DEPTHS):
        tell(f"depth {depth}", i / 4)
        net = start((5, 6), depth)
        runs = {"logistic": classified(depth), "square": fitted(net), "balanced, square": fitted(net.rebalanced())}
        for name, run in runs.items():
            numbers[name][str(depth)] = run
            found.append(
                Compared(f"{name}, depth {depth}: misalignment above its bound", above(run, "bound"), 0.0, SLACK, "<=")
            )
            found.append(Compared(f"{name}, depth {depth}: above the sharper", above(run, "sharper"), 0.0, SLACK, "<="))
        run = runs["logistic"]
        off = float((run["rank one"] - run["of rank one"]).max())
        found.append(Compared(f"logistic, depth {depth}: W_1 off rank one above its bound", off, 0.0, SLACK, "<="))
    tell("other rules", 3 / 4)
    numbers["rules"], more = ruled(quick)
    return Result(numbers, found + more)


def ruled(quick: bool) -> tuple[dict[str, Any], list[Compared]]:
    """Return the misalignment at depth 3 under rules that start from the same balanced factors, and what is known of it."""
    loss, net = square(), start((5, 6), 3).rebalanced()
    h, t_end = 0.008, 8.0
    rules = {"descent, step 0.016": (None, 2 * h), "descent, step 0.008": (None, h), "Adam, step 0.008": (Adam(), h)}
    runs = {"flow": fitted(net, t_end)}
    point = lrf.random_point(5, 6, 5, rng=5, singular_values=np.full(5, 0.5))
    runs["flow, imbalances 1.5 I and -0.7 I"] = fitted(
        lrf.LinearNetwork.balanced(point, 3, imbalances=[1.5, -0.7], rng=6), t_end
    )
    for name, (rule, step) in rules.items():
        steps = round(t_end / step)
        options: dict[str, Any] = {"columns": ["layer_alignment"], "keep_every": steps // (25 if quick else 100)}
        path = lrf.gradient_descent(loss, net, step_size=step, steps=steps, rule=rule, **options)
        runs[name] = course(finished(path), net.imbalances())
    ends = {name: float(run["misaligned"].max()) for name, run in runs.items()}
    coarse, fine, adam = (ends[name] for name in rules)
    found = [Compared(f"depth 3, {name}: misalignment", ends[name], 0.0, SLACK, "<=") for name in list(runs)[:2]]
    found += [
        Compared("depth 3, balanced: misalignment of descent over that at half the step", coarse / fine, 4.0, 0.8),
        # the controls: the imbalance is not conserved, and the bound of the start is broken
        Compared("depth 3, balanced: misalignment of descent", coarse, 1e-5, relation=">="),
        Compared("depth 3, balanced: misalignment of Adam", adam, 1e-2, relation=">="),
    ]
    return runs, found


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    axes = figure.subplots(2, 3)
    (logistic, square, legend), (one, target, rules) = axes
    panel(logistic, "Logistic loss", r"largest $|W_j|^2$", "misalignment")
    panel(square, "Square loss", "time $t$", "misalignment")
    panel(one, "Logistic loss: rank one", r"largest $|W_j|^2$", r"$1 - |W_1|^2 / |W_1|_F^2$")
    panel(target, "Square loss: first mode of the targets", "time $t$", r"$1 - (u^T \hat u)(v^T \hat v)$")
    panel(rules, "Other rules, from balanced factors", "time $t$", "misalignment")
    for depth, colour in DEPTHS.items():
        of, by, same = (numbers[name][str(depth)] for name in ("logistic", "square", "balanced, square"))
        for ax, run, x in ((logistic, of, "size"), (square, by, "t")):
            ax.plot(run[x], run["misaligned"], color=colour, lw=1.8)
            ax.plot(run[x], run["bound"], color=colour, lw=1.2, ls="--")
            ax.plot(run[x], run["sharper"], color=colour, lw=1.2, ls=":")
        one.plot(of["size"], of["rank one"], color=colour, lw=1.8)
        one.plot(of["size"], of["of rank one"], color=colour, lw=1.2, ls="--")
        for run, width in ((by, 1.8), (same, 0.9)):
            target.plot(run["t"], np.maximum(run["off target"], 1e-16), color=colour, lw=width)
    looks = zip((INK, MUTED, PURPLE, BLUE, VERMILLION), ("-", "--", "-", "-", "-"), strict=True)
    for (colour, dashes), (name, run) in zip(looks, numbers["rules"].items(), strict=True):
        rules.plot(run["t"], np.maximum(run["misaligned"], 1e-16), color=colour, ls=dashes, lw=1.5, label=name)
    for ax in axes.flat:
        ax.set_yscale("log")
    for ax in (logistic, one):
        ax.set_xscale("log")
    square.set_xlim(0, 4)
    target.set_xlim(0, 4)
    target.set_ylim(1e-9, 2)
    rules.set_ylim(1e-17, 1)
    legend.axis("off")
    handles = [legend.plot([], [], color=colour, lw=1.8, label=f"depth {depth}")[0] for depth, colour in DEPTHS.items()]
    kinds = (("measured", "-", 1.8), ("bound", "--", 1.2), ("sharper bound", ":", 1.2), ("balanced start", "-", 0.9))
    handles += [legend.plot([], [], color=INK, ls=ls, lw=lw, label=label)[0] for label, ls, lw in kinds]
    legend.legend(handles=handles, frameon=False, fontsize=9, loc="center left")
    rules.legend(frameon=False, fontsize=8.5, loc="center right", bbox_to_anchor=(1.0, 0.42))
