"""`verify`: what the paper and this room say of one-dimensional networks, measured, each claim with a control."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.integrate import solve_ivp
from scipy.stats import binom

from .. import validation
from ..report import Control, Hypothesis, Report
from ..statements import Measurement, Statement, claim, generator
from ..validation import Array
from .bounds import decline_bound, iterations_bound, largest_partial, product_tail, sign_gap
from .descent import descend
from .flow_time import flow_time
from .outer import Square
from .starts import rate_law, start

__all__ = ["SCALAR", "verify"]

SHAMIR, DERIVED = "Shamir (COLT 2019)", "derived: docs/scalar.md"
_SQUARE = Square(-1.0)
#: the 40 and 60 per cent quantiles of ln T to loss 0.1 from Gaussian starts of variance 1, from 40 000 and 60 000 flow times
_QUANTILES = {20: (6.02, 8.00), 40: (16.70, 19.87)}


@claim(
    "small products",
    statement="The product of all Gaussian coordinates but one is small, with the probability that the lemma says.",
    source=f"{SHAMIR}, Lemma 5",
    meaning=(
        "Measured: how often the largest of the k products exceeds k a^((k-1)/2), a = E|w|, in 20 000 draws of k = 10. Bound:"
        " a^((k-1)/2), and what a binomial number exceeds by with a probability of 1e-12."
    ),
    hypotheses="coordinates are independent with E|w| < 1",
    controls="the threshold exp(-(k-1) (-E ln|w|)), which half and more of all exceed",
)
def small_products(seed: int) -> Measurement:
    """The frequency against Lemma 5."""
    k, count, a = 10, 20_000, math.sqrt(2 / math.pi)
    largest = largest_partial(start("xavier", k, count, rng=generator(seed, "small products")), log=True)
    threshold, probability = product_tail(k, a)
    bound = float(binom.isf(1e-12, count, probability)) / count
    typical = float((largest >= -(k - 1) * rate_law("xavier")).mean())
    return Measurement(
        float((largest >= math.log(threshold)).mean()), "<=", bound,
        (Hypothesis("E|w| < 1", a < 1, a),), (Control("the typical product as threshold", typical, bound),),
        f"probability {probability:.3g} in the lemma",
    )  # fmt: skip


@claim(
    "certificate",
    statement="Descent takes at least as many iterations as are certified at its start.",
    source=f"{SHAMIR}, Lemma 6; that it counts iterations is derived: docs/scalar.md",
    meaning=(
        "Measured: the largest certified number over the actual one, of 200 Gaussian starts, k = 8, step 0.01, of those that"
        " reach loss 0.1 within 20 000. Bound: 1."
    ),
    hypotheses="none",
    controls="the number certified for a fixed start with all coordinates a quarter as large",
)
def certificate(seed: int) -> Measurement:
    """Lemma 6 against descent."""

    def ratio(w: Array, certified: Array) -> float:
        runs = descend(w, _SQUARE, step_size=0.01, stop=0.1, limit=20_000)
        part = runs.reached & (runs.iterations > 0)
        found = iterations_bound(certified, _SQUARE, step_size=0.01, stop=0.1)[part] / runs.iterations[part]
        return float(found.max(initial=0.0))

    w, one = start("xavier", 8, 200, rng=generator(seed, "certificate")), np.linspace(0.5, 1.2, 8)[None]
    return Measurement(
        ratio(w, w), "<=", 1.0, (), (Control("certified for a quarter of the start", ratio(one, one / 4), 1.0),)
    )


@claim(
    "signs",
    statement="Descent from signed coordinates, towards the target with the sign of their product, is the signed descent.",
    source=f"{SHAMIR}, Lemma 11",
    meaning="Measured: the largest relative difference after 200 updates of 100 uniform starts, k = 6. Bound: 0.",
    hypotheses="none",
    controls="the target keeps its sign while the product changes its own",
)
def signs(seed: int) -> Measurement:
    """Lemma 11, to the bit."""
    rng = generator(seed, "signs")
    w, sigma = start("xavier uniform", 6, 100, rng=rng), rng.choice([-1.0, 1.0], 6)
    sigma[0] = -sigma[1:].prod()  # so that the product changes its sign
    gap, wrong = (sign_gap(w, sigma, _SQUARE, step_size=1e-2, steps=200, mirrored=m) for m in (True, False))
    return Measurement(gap, "<=", 0.0, (), (Control("the target as it was", wrong, 0.0),))


@claim(
    "good case",
    statement="Where the target is above the product, and both positive, descent is done within the number of Lemma 13.",
    source=f"{SHAMIR}, Lemma 13",
    meaning="Measured: the largest number of iterations to loss 0.01 over the bound, 100 uniform starts, k = 5. Bound: 1.",
    hypotheses="coordinates positive, the product below the target, the step at most delta^2 / (2 k y^2)",
    controls="a twentieth of the bound, of fixed starts",
)
def good_case(seed: int) -> Measurement:
    """Lemma 13 against descent."""

    def ratio(w: Array) -> float:
        h = w.min(axis=1) ** 2 / (2 * w.shape[1])
        runs = descend(w, Square(1.0), step_size=h, stop=0.01, limit=200_000)
        return float((runs.iterations / decline_bound(w, 1.0, step_size=h, loss=0.01)).max())

    w = generator(seed, "good case").uniform(0.5, 1.0, (100, 5))
    fixed = np.array([[0.9] * 5, [0.6] * 5])
    return Measurement(ratio(w), "<=", 1.0, (), (Control("a twentieth of the bound", 20 * ratio(fixed), 1.0),))


@claim(
    "flow time",
    statement="The time of the flow to a loss is one integral over the least coordinate.",
    source=DERIVED,
    meaning=(
        "Measured: the largest relative difference from DOP853 on all coordinates, rtol 1e-11, 6 Gaussian starts, k = 4. Bound:"
        " 1e-6; where sizes differ by 0.1 and more, errors of the coordinates count at most a thousandfold."
    ),
    hypotheses="the sizes of the coordinates differ by 0.1; others are not drawn",
    controls="the least coordinate one per cent larger",
)
def time_of_flow(seed: int) -> Measurement:
    """The integral against an integration."""
    many = start("xavier", 4, 4000, rng=generator(seed, "flow time"))
    gap = np.diff(np.sort(np.abs(many), axis=1), axis=1).min(axis=1)
    w = many[(gap >= 0.1) & (np.prod(many, axis=1) > 0)][:6]
    known = np.array([_integrated(each, 0.1) for each in w])
    changed = np.array(w)
    rows = np.arange(len(w))
    changed[rows, np.abs(w).argmin(axis=1)] *= 1.01
    error, wrong = (float(np.abs(flow_time(v, _SQUARE, 0.1) / known - 1).max()) for v in (w, changed))
    return Measurement(error, "<=", 1e-6, (), (Control("the least coordinate changed by 1 %", wrong, 1e-6),))


def _integrated(w: Array, loss: float) -> float:
    """Return the time at which scipy's DOP853 finds the loss."""
    hit = lambda t, w: 0.5 * (float(np.prod(w)) + 1) ** 2 - loss  # noqa: E731
    hit.terminal = True  # type: ignore[attr-defined]
    others = [[i for i in range(w.size) if i != j] for j in range(w.size)]
    path = solve_ivp(
        lambda t, w: -(np.prod(w) + 1) * w[others].prod(axis=1),
        (0, 1e6), w, method="DOP853", rtol=1e-11, atol=1e-13, events=hit,
    )  # fmt: skip
    return float(path.t_events[0][0])  # type: ignore[index]


@claim(
    "never",
    statement="From equal coordinates descent to a target of the other sign never comes below the loss of zero.",
    source=f"{SHAMIR}, a footnote; the speed is {DERIVED}",
    meaning=(
        "From w = (1, ..., 1), k = 5, y = -1, the product comes down to 0 and not beyond. Measured: the loss after 20 000"
        " updates of 0.05. Bound: at least f(0) = 1/2."
    ),
    hypotheses="the flow time of the start is infinite",
    controls="one coordinate 0.9",
)
def never(seed: int) -> Measurement:
    """The orthogonal start."""
    runs, other = (
        descend([first, 1, 1, 1, 1], _SQUARE, step_size=0.05, stop=0.1, limit=20_000) for first in (1.0, 0.9)
    )
    time = float(flow_time(np.ones(5), _SQUARE, 0.1)[0])
    speed = float(runs.w[0, 0] * (3 * 0.05 * 20_000) ** (1 / 3))
    return Measurement(
        float(runs.losses[0]), ">=", 0.5, (Hypothesis("the flow time is infinite", time == math.inf, time),),
        (Control("one coordinate 0.9", float(other.losses[0]), 0.5, ">="),),
        f"w(t) ((k - 2) t)^(1 / (k - 2)) = {speed:.4f} at t = 1000",
    )  # fmt: skip


@claim(
    "growth",
    statement="The median time from Gaussian starts grows exponentially with depth.",
    source=f"{SHAMIR}, Theorem 2; the rate is {DERIVED}",
    meaning=(
        "Measured: the slope of the median of ln T between k = 20 and 40, 2000 flow times each. Bound: the slopes between the"
        " 40 and the 60 per cent quantiles, measured once on 40 000 draws: a median of 2000 is beyond with a probability below"
        " 4 exp(-2 * 2000 * 0.09^2) < 1e-12. For large k the slope is -E ln|w| = 0.635."
    ),
    hypotheses="the variance is below the critical one",
    controls="variance 4, above the critical one, 3.56",
)
def growth(seed: int) -> Measurement:
    """The slope between two depths."""
    rng = generator(seed, "growth")

    def slope(variance: float) -> float:
        medians = [
            float(np.median(flow_time(start("xavier", k, 2000, variance=variance, rng=rng), _SQUARE, 0.1, log=True)))
            for k in (20, 40)
        ]
        return (medians[1] - medians[0]) / 20

    (low, high), (lowest, highest) = _QUANTILES[20], _QUANTILES[40]
    bound = ((lowest - high) / 20, (highest - low) / 20)
    law = rate_law("xavier")
    return Measurement(
        slope(1.0), "in", bound, (Hypothesis("the rate is positive", law > 0, law),),
        (Control("variance 4", slope(4.0), bound, "in"),),
    )  # fmt: skip


SCALAR: tuple[Statement[[int]], ...] = (
    small_products, certificate, signs, good_case, time_of_flow, never, growth,
)  # fmt: skip


def verify(*, rng: validation.Rng = 0, progress: Callable[[str, float], None] | None = None) -> Report:
    """Measure the lemmas of the paper, the flow time and the growth with depth, each with a control.

    Parameters
    ----------
    rng : None, int or Generator
        Draws one seed, from which each claim draws by its own name.
    progress : callable, optional
        ``progress(stage, fraction)``.

    Returns
    -------
    Report
        Bounds of claims about random starts are broken with a probability below 1e-9 where the claim is true.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks its rule.

    Examples
    --------
    >>> verify(rng=0).passed
    True
    """
    validation.require_callable("progress", progress)
    tell = progress or (lambda stage, fraction: None)
    seed = int(validation.as_rng(rng).integers(2**63))
    report = Report(
        "verify_scalar", {"seed": seed}, title="How long does a network of scalars take?",
        lead="Networks w_k ... w_1 of scalars with the loss (w_k ... w_1 + 1)^2 / 2: the time to loss 0.1 grows exponentially"
        " with k.",
        headline="one-dimensional deep linear networks, target -1",
    )  # fmt: skip
    for i, one in enumerate(SCALAR):
        tell(one.name, i / len(SCALAR))
        found = one(seed)
        if found is not None:
            report.claims.append(found)
    tell("done", 1.0)
    return report
