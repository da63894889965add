"""Claims about gradient descent itself: its order, and rebalancing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..descent import gradient_descent
from ..gradients import factor_gradients, product_retraction
from ..matrices import EPS, LinearNetwork
from ..report import Claim, Control, Hypothesis
from ..validation import Array
from .claims import claim
from .experiment import Experiment, curve, gap, orders, slope, unbalanced
from .identities import UNBALANCED

COARSEST = 1 / 8  # of the threshold 2 / sharpness
HALVINGS = 5
UPDATES = 4096  # of the finest run


def _steps(x: Experiment) -> tuple[float, int]:
    """Return the coarsest step h and the number of coarse steps in the compared window.

    The window ends with the path, or where the finest run would exceed its number of updates.
    """
    h = COARSEST * 2 / x.largest_sharpness
    window = min(float(x.times[-1]), UPDATES / 2**HALVINGS * h)
    count = max(8, int(window / h))
    return min(h, float(x.times[-1]) / count), count


def discrete(x: Experiment) -> Claim:
    """Descent at h, h/2, ... against the flow."""
    h, count = _steps(x)
    every = max(1, count // 32)
    count -= count % every
    times = h * np.arange(every, count + 1, every, dtype=np.float64)
    x.stage = "flow at the times of descent"
    flow = x.riemannian(x.reference_rtol, times)
    wrong_flow = x.riemannian(1e-8, times, metric=x.wrong_metric)
    hs, found, wrong = [], [], []
    for k in range(HALVINGS + 1):
        x.stage = f"gradient descent {k + 1} of {HALVINGS + 1}"
        step = h / 2**k
        steps = count * 2**k
        path = gradient_descent(
            x.loss, x.network, step_size=step, steps=steps, every=every * 2**k,
            callback=lambda p, end=times[-1]: x.progress(x.stage, p.t / end),  # type: ignore[misc]
        )  # fmt: skip
        if path.nsteps < steps:
            raise KeyboardInterrupt
        hs.append(step)
        found.append(_largest(path.points, flow.points))
        wrong.append(_largest(path.points, wrong_flow.points))
    hs_, values = np.array(hs), np.array(found)
    title = "Gradient descent approaches the flow"
    _draw(x, "discrete", title, "Largest relative gap over common times.", hs_, values, wrong)
    detail = (
        f"h from threshold/{1 / COARSEST:g} to threshold/{2**HALVINGS / COARSEST:g}, up to t={times[-1]:.4g}; "
        + orders(values)
    )
    controls = [Control(f"flow of depth {x.depth + 1}", slope(hs_, np.array(wrong)), (0.9, 1.1), "in")]
    hypotheses = [x.balanced, x.within_horizon, x.complete(flow), _resolved(values, count * 2**HALVINGS)]
    return claim(
        "discrete",
        slope(hs_, values),
        "in",
        (0.9, 1.1),
        hypotheses,
        controls,
        detail,
    )


def rebalancing(x: Experiment) -> Claim:
    """Descent against descent rebalanced after every step."""
    h, count = _steps(x)
    count = min(count, 16)
    hs, found, wrong = [], [], []
    off = unbalanced(x.network, 0.5)
    for k in range(HALVINGS + 1):
        x.stage = f"rebalanced descent {k + 1} of {HALVINGS + 1}"
        step, steps = h / 2**k, count * 2**k
        rebalanced = _run(x, x.network, step, steps, lambda net: net.rebalanced(x.rank))
        hs.append(step)
        common = slice(2**k - 1, None, 2**k)
        found.append(_largest(_run(x, x.network, step, steps)[common], rebalanced[common]))
        wrong.append(_largest(_run(x, off, step, steps)[common], rebalanced[common]))
    hs_, values = np.array(hs), np.array(found)
    _draw(
        x, "rebalancing", "Rebalancing every step changes descent by O(h)",
        "Largest relative gap over common times.", hs_, values, wrong, UNBALANCED,
    )  # fmt: skip
    controls = [Control(UNBALANCED, slope(hs_, np.array(wrong)), (0.9, 1.1), "in")]
    detail = f"{orders(values)}; {count} coarse steps, up to t={count * h:.4g}"
    hypotheses = [x.balanced, _resolved(values, count * 2**HALVINGS)]
    return claim("rebalancing", slope(hs_, values), "in", (0.9, 1.1), hypotheses, controls, detail)


def _resolved(values: Array, steps: int) -> Hypothesis:
    """Whether the gaps lie above what roundoff of so many steps can add up to."""
    floor = 100 * EPS * steps
    return Hypothesis(
        "gaps above roundoff", bool(values.min() > floor), f"least {values.min():.2g}, roundoff {floor:.2g}"
    )


def _run(
    x: Experiment,
    net: LinearNetwork,
    h: float,
    steps: int,
    after: Callable[[LinearNetwork], LinearNetwork] = lambda net: net,
) -> list[LinearNetwork]:
    """Return all iterates of descent with a map applied after every step."""
    iterates = []
    for k in range(steps):
        net = after(product_retraction(net, [-h * g for g in factor_gradients(x.loss, net)]))
        iterates.append(net)
        x.progress(x.stage, (k + 1) / steps)
    return iterates


def _largest(a: list[Any], b: list[Any]) -> float:
    """Return the largest relative gap between two lists of W at common times; inf if one ended early."""
    return max(gap(p, q) for p, q in zip(a, b, strict=True)) if len(a) == len(b) else math.inf


def _draw(
    x: Experiment, name: str, title: str, caption: str, h: Array, values: Array, wrong: list[float], control: str = ""
) -> None:
    control = control or f"flow of depth {x.depth + 1}"
    x.draw(
        name, title, caption, "step h in natural units of time", "largest relative gap",
        [
            curve("gap", h / x.unit, values, "gap", points=True),
            curve("slope 1", h / x.unit, values[-1] * h / h[-1], "guide"),
            curve(f"control: {control}", h / x.unit, wrong, "control"),
        ],
        xscale="log", yscale="log",
    )  # fmt: skip
