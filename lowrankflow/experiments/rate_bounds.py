"""Bounds of the loss beside the loss: Polyak-Lojasiewicz rates of factors over depth, imbalance and distance of the start.

Each bound is proved and none is broken; what it gives away is shown. A form of the bound for two layers that is only recalled
from the literature holds for square matrices and is broken by others, so it is not in the library.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow.experiments.look import BLUE, GREEN, INK, MUTED, VERMILLION, panel
from lowrankflow.experiments.result import Compared, Result, Tell, finished
from lowrankflow.geometry import decay_rate, imbalance_rate, kernel_rate, margin_rate

SIZE = (12.0, 6.6)
CAPTION = (
    "L - L* over its value at the start, along the flow of the factors: solid. Dashed: exp of minus the integral of the rate by"
    " the kernel along the path; dotted: exp(-r t) with the rate r that is known at the start. Upper left: balanced square"
    " factors, half of the margin away from the minimiser. Upper right: two layers 5 x 4, B = 0 and A A^T = s^2 I, where the"
    " imbalance gives the rate. Lower left: mean rate of the run over r, against the distance of the start from the minimiser"
    " over its least singular value. Lower right: bounds of the least eigenvalue of the kernel over that eigenvalue, random"
    " factors; circles: the bound derived here; crosses: a form recalled from the literature, which may be misremembered. In"
    " the setting of Arora, Cohen, Golowich and Hu (2018) and Tarmoun et al. (2021); bounds and proofs are derived here."
)
DEPTHS = {2: BLUE, 3: VERMILLION, 4: GREEN}
SCALES = {1.0: BLUE, 2.0: VERMILLION, 4.0: GREEN}  #: s of the imbalance -s^2 I
RTOL = 1e-10
SLACK = 1e-6  #: of loss over bound: the integration, over gaps of 1e-10 of the start at least


def problem(m: int, n: int) -> lrf.losses.LeastSquares:
    """Return a square loss with inputs that are nearly white and a minimiser of singular values near 1."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((n, 200))
    w = lrf.random_point(m, n, min(m, n), rng=rng, singular_values=np.linspace(1.5, 0.9, min(m, n)))
    return lrf.losses.LeastSquares(x, w.to_dense() @ x, reduction="mean")


def near(loss: lrf.losses.LeastSquares, depth: int, share: float) -> lrf.LinearNetwork:
    """Return balanced factors of a W whose whitened distance from the minimiser is a share of its least singular value."""
    spectrum, n = loss.spectrum, loss.shape[1]
    z = np.random.default_rng(5).standard_normal(loss.shape)
    b = (spectrum.u * spectrum.sigma) @ spectrum.vt + share * spectrum.sigma[-1] * z / np.linalg.norm(z)
    w = b / np.sqrt(spectrum.eigenvalues) @ spectrum.basis.T
    return lrf.LinearNetwork.balanced(lrf.LowRankMatrix.from_dense(w, n), depth)


def course(loss: lrf.losses.LeastSquares, net: lrf.LinearNetwork) -> dict[str, Any]:
    """Return the loss from a start down to 1e-9 of it, and both bounds, all as logarithms over the start."""
    least, first = loss.spectrum.floor, loss.value(net) - loss.spectrum.floor
    low = lrf.Event("low", lambda t, w: np.log((loss.value(w) - least) / first) + np.log(1e9), terminal=True)
    save = lrf.Save(integrals={"kernel": lambda at: kernel_rate(loss, at.w)}, controlled=True)
    options: dict[str, Any] = {"rtol": RTOL, "atol": 1e-14, "events": [low], "save": save, "method": "DOP853"}
    path = finished(lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 100), **options))
    gap = np.log((path.loss - least) / first)
    return {
        "t": path.t,
        "loss": gap,
        "kernel": -np.array(path.columns["kernel"]),
        "start": -margin_rate(loss, net) * path.t,
    }


def over(run: dict[str, Any], bound: str) -> float:
    """Return the largest of the loss over a bound of it."""
    return float(np.exp((run["loss"] - run[bound]).max()))


def recalled(net: lrf.LinearNetwork) -> float:
    """Return the form that is recalled, for two layers, of a bound of the least eigenvalue of the kernel."""
    (m, n), (d,) = net.shape, net.imbalances()
    up = np.linalg.eigvalsh(d)[::-1]

    def positive(values: np.ndarray, k: int) -> float:
        return max(float(values[k - 1]), 0.0) if k <= values.size else 0.0

    s = np.linalg.svd(net.to_dense(), compute_uv=False)
    both = positive(up, m) + positive(-up[::-1], n)
    total = 0.0
    for values, k in ((up, m), (-up[::-1], n)):
        spread = positive(values, 1) - positive(values, k)
        total += (np.hypot(spread + both, 2 * (s[k - 1] if k <= s.size else 0.0)) - spread) / 2
    return total


def draws(count: int) -> dict[str, Any]:
    """Return bounds over the sum of the least eigenvalues of W_2 W_2^T and W_1^T W_1, of random factors of two layers."""
    rng = np.random.default_rng(8)
    found: dict[str, list[list[float]]] = {"square": [], "other": []}
    for _ in range(count):
        m, n = (int(k) for k in rng.integers(1, 6, 2))
        kind, n = ("square", m) if rng.random() < 0.5 else ("other", n if n != m else m + 1)
        h = int(rng.integers(max(m, n), 9))  # none narrower, where the least eigenvalue is 0
        sizes = rng.uniform(0.1, 3.0, 2)
        net = lrf.LinearNetwork([sizes[0] * rng.standard_normal((h, n)), sizes[1] * rng.standard_normal((m, h))])
        white = lrf.losses.LeastSquares(np.eye(n), np.ones((m, n)))
        least = kernel_rate(white, net) / 2
        found[kind].append([least, imbalance_rate(white, net) / 2 / least, recalled(net) / least])
    return {
        kind: dict(zip(("least", "derived", "recalled"), np.array(rows).T, strict=True)) for kind, rows in found.items()
    }


def scalar() -> list[Compared]:
    """Return what one by one factors say: both rates are attained, and the rate of another depth is too much."""
    q, w, found = 1.0, 0.5, []
    loss = lrf.losses.LeastSquares([[1.0]], [[q]])
    for depth in DEPTHS:
        net = lrf.LinearNetwork.identity((1, 1), depth, widths=1, scale=w)
        attained = [rate(loss, net) / decay_rate(loss, net) for rate in (kernel_rate, margin_rate)]
        off = max(abs(a - 1) for a in attained)
        found.append(Compared(f"1 x 1, depth {depth}: rates over the decay at the start, off 1", off, 0.0, 1e-13, "<="))
    more = margin_rate(loss, lrf.LinearNetwork.identity((1, 1), 4, widths=1, scale=w))
    run = course(loss, lrf.LinearNetwork.identity((1, 1), 3, widths=1, scale=w))
    run["start"] = -more * run["t"]
    found.append(Compared("1 x 1, depth 3: loss over the bound of depth 4", over(run, "start"), 1.001, relation=">="))
    return found


def measure(quick: bool, tell: Tell) -> Result:
    numbers: dict[str, Any] = {"depths": {}, "imbalances": {}, "slack": {}}
    loss, found = problem(4, 4), scalar()
    shares = np.linspace(0.1, 0.9, 3 if quick else 9)
    for i, depth in enumerate(DEPTHS):
        tell(f"depth {depth}", i / 5)
        run = numbers["depths"][str(depth)] = course(loss, near(loss, depth, 0.5))
        runs = [course(loss, near(loss, depth, share)) for share in shares]
        slack = np.array([each["loss"][-1] / each["start"][-1] for each in runs])
        numbers["slack"][str(depth)] = {"share": shares, "slack": slack}
        for name, bound in (("kernel", "kernel"), ("start", "start")):
            worst = max(over(each, bound) for each in (run, *runs))
            found.append(Compared(f"depth {depth}: loss over its bound by the {name}", worst, 1.0, SLACK, "<="))
        found.append(Compared(f"depth {depth}: least slack of the rate at the start", slack.min(), 1.0, relation=">="))
    tell("imbalance", 3 / 5)
    wide = problem(5, 4)
    for scale in SCALES:
        net = lrf.LinearNetwork.lora((5, 4), 4, init="orthogonal", scale=scale, rng=1)
        run = numbers["imbalances"][f"{scale:g}"] = course(wide, net)
        for name in ("kernel", "start"):
            found.append(
                Compared(
                    f"imbalance -{scale:g}^2 I: loss over its bound by the {name}", over(run, name), 1.0, SLACK, "<="
                )
            )
    tell("random factors", 4 / 5)
    shown = numbers["draws"] = draws(400 if quick else 4000)
    for kind in ("square", "other"):
        worst = float(shown[kind]["derived"].max())
        found.append(Compared(f"random factors, {kind}: derived bound over the kernel", worst, 1.0, 1e-9, "<="))
    worst = float(shown["square"]["recalled"].max())
    broken = float((shown["other"]["recalled"] > 1 + 1e-9).mean())
    found += [
        Compared("random factors, square: recalled form over the kernel", worst, 1.0, 1e-9, "<="),
        Compared("random factors, other: share that breaks the recalled form", broken, 0.1, relation=">="),
    ]
    return Result(numbers, found)


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    (depths, imbalances), (slack, random) = figure.subplots(2, 2)
    what = "$(L - L_*)$ over that at the start"
    panel(depths, "Balanced square factors", "time $t$", what)
    panel(imbalances, "Two layers, imbalance $-s^2 I$", "time $t$", what)
    panel(slack, "Mean rate over the rate known at the start", r"distance over $\sigma_{\min}$", "ratio")
    panel(random, "Bounds of the kernel, random factors", "least eigenvalue of the kernel", "bound over it")
    for ax, runs, looks, word in (
        (depths, numbers["depths"], DEPTHS, "depth {}"), (imbalances, numbers["imbalances"], SCALES, "$s = {}$"),
    ):  # fmt: skip
        for (name, run), colour in zip(runs.items(), looks.values(), strict=True):
            ax.semilogy(run["t"], np.exp(run["loss"]), color=colour, lw=1.8, label=word.format(name))
            for key, ls in (("kernel", "--"), ("start", ":")):
                ax.semilogy(run["t"], np.exp(run[key]), color=colour, lw=1.4, ls=ls)
        for label, ls in (("by the kernel", "--"), ("by the start", ":")):
            ax.plot([], [], color=INK, ls=ls, lw=1.4, label=label)
        ax.set_ylim(1e-9, 2)
        ax.set_xlim(right=1.4 * max(run["t"][-1] for run in runs.values()))
        ax.legend(frameon=False, fontsize=8.5, loc="upper right")
    for (name, part), colour, marker in zip(numbers["slack"].items(), DEPTHS.values(), "os^", strict=True):
        slack.plot(part["share"], part["slack"], color=colour, marker=marker, ms=5, mfc="none", label=f"depth {name}")
    slack.axhline(1.0, color=MUTED, lw=1.0)
    slack.set_yscale("log")
    slack.legend(frameon=False, fontsize=8.5)
    marks = (("square", "derived", BLUE, "o"), ("square", "recalled", GREEN, "x"),
             ("other", "derived", INK, "o"), ("other", "recalled", VERMILLION, "x"))  # fmt: skip
    for kind, form, colour, marker in marks:
        part = numbers["draws"][kind]
        x, y = np.array(part["least"])[:400], np.array(part[form])[:400]
        label = f"{form}, {'square' if kind == 'square' else 'not square'}"
        random.loglog(x, np.maximum(y, 1e-3), ls="none", marker=marker, ms=3.5, mfc="none", color=colour, label=label)
    random.axhline(1.0, color=MUTED, lw=1.0)
    random.legend(frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
