"""Claims about gradient descent itself: its order, and rebalancing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..descent import gradient_descent
from ..flow import Status
from ..gradients import factor_gradients, product_retraction
from ..matrices import EPS, LinearNetwork
from ..report import Control, Figure, Hypothesis
from ..statements import Measurement, claim, derived
from ..validation import Array
from .gaps import UNBALANCED, curve, gap, orders, slope, unbalanced
from .sides import Runs, Sides, complete, within_horizon

COARSEST = 1 / 8  # of the threshold 2 / sharpness
HALVINGS = 5
UPDATES = 4096  # of the finest run


def _steps(runs: Runs) -> tuple[float, int]:
    """Return the coarsest step h and the number of coarse steps in the compared window.

    The window ends with the path, or where the finest run would exceed its number of updates.
    """
    h = COARSEST * 2 / runs.sharpness
    window = min(float(runs.times[-1]), UPDATES / 2**HALVINGS * h)
    count = max(8, int(window / h))
    return min(h, float(runs.times[-1]) / count), count


@claim(
    "discrete",
    statement="Gradient descent approaches the flow with order 1 in its step.",
    source=f"Nguegnang, Rauhut, Terstiege (2024) for the setting; {derived('gradient-descent')}",
    meaning=(
        "Descent is Euler's method for the factor flow; this is the bridge from what people run to what the theory"
        " describes. Descent runs at h, h/2, ..., h/32 from the same factors. Measured: the order over the last halving, of"
        " the largest relative gap to the Riemannian flow over common times. The coarsest step is 1/8 of the stability"
        " threshold, 2 over the largest sharpness along the path: the sharpness can peak on the way, and a step that is"
        " fine at the start may be unstable there. Bound: 1 +- 0.1."
    ),
    hypotheses=(
        "balanced factors; within the validity horizon; all runs complete; gaps above roundoff and the flow's error; the order"
        " has settled: the last two agree to 0.03, or both are below a half"
    ),
    controls="the flow of depth N + 1, which descent does not approach",
)
def discrete(x: Sides, runs: Runs) -> Measurement:
    """Descent at h, h/2, ... against the flow."""
    h, count = _steps(runs)
    every = max(1, count // 32)
    count -= count % every
    times = h * np.arange(every, count + 1, every, dtype=np.float64)
    flow = x.riemannian(x.reference_rtol, times, "flow at the times of descent")
    wrong_flow = x.riemannian(1e-8, times, "control: wrong depth", metric=x.wrong_metric)
    hs, found, wrong = [], [], []
    for k in range(HALVINGS + 1):
        step, steps, stage = h / 2**k, count * 2**k, f"gradient descent {k + 1} of {HALVINGS + 1}"
        path = gradient_descent(
            x.loss, x.network, step_size=step, steps=steps, keep_every=every * 2**k,
            callback=lambda p, stage=stage: x.tell(stage, p.t / times[-1]),  # type: ignore[misc]
        )  # fmt: skip
        if path.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        hs.append(step)
        found.append(_largest(path.points, flow.points))
        wrong.append(_largest(path.points, wrong_flow.points))
    hs_, values = np.array(hs), np.array(found)
    error = float(runs.errors[1].max())  # at rtol: a hundred times that of the flow used here, if anything
    title, control = "Gradient descent approaches the flow", f"flow of depth {x.depth + 1}"
    figure = _figure(x, "discrete", title, hs_, values, wrong, control)
    detail = (
        f"h from threshold/{1 / COARSEST:g} to threshold/{2**HALVINGS / COARSEST:g}, up to t={times[-1]:.4g}; "
        + orders(values)
    )
    return Measurement(
        _order(hs_, values), "in", (0.9, 1.1),
        (
            x.balanced, within_horizon(x, runs), complete(flow, wrong_flow),
            _resolved(values, count * 2**HALVINGS, error), _settled(hs_, values),
        ),
        (Control(control, _order(hs_, np.array(wrong)), (0.9, 1.1), "in"),), detail, figures=(figure,),
    )  # fmt: skip


@claim(
    "rebalancing",
    statement="k descent steps differ from k rebalanced ones by O(h).",
    source=derived("one-step"),
    meaning=(
        "After the first step of descent the factors are no longer balanced. If they are rebalanced after every step, each"
        " is exactly a Riemannian step with the product retraction (claim `one_step`); the imbalance that descent"
        " accumulates otherwise is O(h^2) a step, O(h) in a fixed time. Measured: the order of the gap between the two"
        " over a fixed time at h, h/2, ..., h/32, over the last halving. Bound: 1 +- 0.1."
    ),
    hypotheses="balanced factors; gaps above roundoff; the order has settled: the last two agree to 0.03, or both"
    " are below a half",
    controls="descent from unbalanced factors with the same product, whose gap to the rebalanced one does not fall with h",
)
def rebalancing(x: Sides, runs: Runs) -> Measurement:
    """Descent against descent rebalanced after every step."""
    h, count = _steps(runs)
    count = min(count, 16)
    hs, found, wrong = [], [], []
    off = unbalanced(x.network, 0.5)
    for k in range(HALVINGS + 1):
        step, steps, stage = h / 2**k, count * 2**k, f"rebalanced descent {k + 1} of {HALVINGS + 1}"
        rebalanced = _run(x, x.network, step, steps, stage, lambda net: net.rebalanced(x.rank))
        hs.append(step)
        common = slice(2**k - 1, None, 2**k)
        found.append(_largest(_run(x, x.network, step, steps, stage)[common], rebalanced[common]))
        wrong.append(_largest(_run(x, off, step, steps, stage)[common], rebalanced[common]))
    hs_, values = np.array(hs), np.array(found)
    title = "Rebalancing every step changes descent by O(h)"
    figure = _figure(x, "rebalancing", title, hs_, values, wrong, UNBALANCED)
    return Measurement(
        _order(hs_, values), "in", (0.9, 1.1),
        (x.balanced, _resolved(values, count * 2**HALVINGS), _settled(hs_, values)),
        (Control(UNBALANCED, _order(hs_, np.array(wrong)), (0.9, 1.1), "in"),),
        f"{orders(values)}; {count} coarse steps, up to t={count * h:.4g}", figures=(figure,),
    )  # fmt: skip


def _resolved(values: Array, steps: int, error: float = 0.0) -> Hypothesis:
    """Whether the gaps lie above what roundoff of so many steps can add up to, and above the error of the flow."""
    floor = max(100 * EPS * steps, error)
    says = f"least {values.min():.2g}, roundoff or error {floor:.2g}"
    return Hypothesis("gaps above roundoff", bool(values.min() > floor), says)


def _order(h: Array, values: Array) -> float:
    """Return the order over the last halving."""
    return slope(h[-2:], values[-2:])


def _settled(h: Array, values: Array) -> Hypothesis:
    """Whether the steps are as small as the expansion in h supposes: the orders over the last two halvings agree.

    Or the gap has stopped to fall: orders below a half, twice, above roundoff, are no beginning of order 1.
    """
    last, before = _order(h, values), _order(h[:-1], values[:-1])
    return Hypothesis(
        "the order has settled", bool(abs(last - before) <= 0.03 or max(last, before) < 0.5), orders(values)
    )


def _run(
    x: Sides,
    net: LinearNetwork,
    h: float,
    steps: int,
    stage: str,
    after: Callable[[LinearNetwork], LinearNetwork] = lambda net: net,
) -> list[LinearNetwork]:
    """Return all iterates of descent with a map applied after every step."""
    iterates = []
    with np.errstate(over="ignore", invalid="ignore"):  # an unstable descent: its gap is inf, and no order is claimed
        for k in range(steps):
            net = after(product_retraction(net, [-h * g for g in factor_gradients(x.loss, net)]))
            iterates.append(net)
            x.tell(stage, (k + 1) / steps)
    return iterates


def _largest(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Return the largest relative gap between two sequences of W at common times; inf if one ended early."""
    return max(gap(p, q) for p, q in zip(a, b, strict=True)) if len(a) == len(b) else math.inf


def _figure(x: Sides, name: str, title: str, h: Array, values: Array, wrong: list[float], control: str) -> Figure:
    return Figure(
        name, title, "Largest relative gap over common times.", "step h in natural units of time", "largest relative gap",
        [
            curve("gap", h / x.unit, values, "gap", points=True),
            curve("slope 1", h / x.unit, values[-1] * h / h[-1], "guide"),
            curve(f"control: {control}", h / x.unit, wrong, "control"),
        ],
        xscale="log", yscale="log",
    )  # fmt: skip
