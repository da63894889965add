"""Separable classification: claims about the margin, where there is no limit to make claims about."""

from __future__ import annotations

import numpy as np

from ..losses import Measured
from ..matrices import LowRankMatrix
from ..report import Control, Figure, Hypothesis, Table
from ..separation import Separation, follow_margin, least_margin
from ..statements import Measurement, claim, derived
from .gaps import curve
from .limits import towards_the_limit
from .sides import Runs, Sides

__all__ = ["is_separated", "margin"]

_RTOL = 1e-6
_FALL = 1e-6  # the loss is followed down to this share of what it is at the end of the compared run


def is_separated(x: Sides, w: LowRankMatrix) -> bool:
    """Return whether W classifies every sample of a loss that then has no minimiser: logistic, softmax."""
    said = x.said
    return said.exponential_tail and said.margins is not None and least_margin(x.loss, w) > 0


@claim(
    "margin",
    statement="The smoothed margin over the norm of the factors never falls.",
    source="Lyu, Li (2020), recalled; " + derived("separable-data"),
    meaning=(
        "In place of the claims about a limit, where W classifies every sample of a logistic or softmax loss: then L(cW)"
        " goes to 0 as c grows, no W attains that, and there is no minimiser for `stationarity` to speak of. The run goes on"
        " from there in normalised time, d tau = L dt, until the loss has fallen by 1e-6. With L the summed loss,"
        " -ln(e^L - 1) is the margin that a single sample would need for it; over rho^N, rho^2 = sum_j ||W_j||_F^2 ="
        " N sum_i sigma_i^(2/N) of balanced factors, it must not fall once L is below ln 2. Measured: its least relative"
        " change in a step, over what a relative error of one in W does to it: N through the norm, and ||P grad ln L|| ||W||"
        " over the smoothed margin through the loss, large where the margin is small beside ||W|| ||x||. Bound: -1e-5, ten"
        " times the tolerance. The table beside it has the margin, the alignment of W with its velocity and the effective"
        " rank."
    ),
    hypotheses="the loss is a sum over samples of known number; the summed loss is below ln 2 for five steps at least",
    controls="the norm to the power N + 1, for which it falls",
)
def margin(x: Sides, runs: Runs) -> Measurement:
    """From a W that separates the samples on: the margin in normalised time instead of a limit."""
    x.tell("normalised time", 0.0)
    budget = max(1000, x.max_evaluations // 10)
    w = runs.reference.points[-1]
    found = follow_margin(x.loss, w, x.metric, loss_end=_FALL, rtol=_RTOL, max_evaluations=budget)
    known = Hypothesis(
        "the loss is a sum over samples of known number", isinstance(x.loss, Measured), type(x.loss).__name__
    )
    samples = x.loss.measurement.samples if isinstance(x.loss, Measured) and x.loss.reduction == "mean" else 1
    total = found.loss * samples
    small = total < np.log(2.0)
    enough = Hypothesis("the summed loss is below ln 2 for five steps", int(small.sum()) >= 5, int(small.sum()))
    # the margin that one sample alone would need for this loss, over the norm of balanced factors to the power N
    smoothed = -np.log(np.expm1(total[small]))
    points = [w for w, kept in zip(found.path.points, small, strict=True) if kept]
    norm = np.sqrt(x.depth * np.array([(w.s ** (2 / x.depth)).sum() for w in points]))
    sensitivity = x.depth + found.path.stationarity[small] * found.norm[small] / np.abs(smoothed)

    def least_step(power: float) -> float:
        ratio = smoothed / norm**power
        steps = np.diff(ratio) / np.abs(ratio[:-1]) / np.maximum(sensitivity[1:], sensitivity[:-1])
        return float(steps.min()) if ratio.size > 1 else np.nan

    bound = -10 * _RTOL  # each step is right to rtol, relative to W
    return Measurement(
        least_step(x.depth), ">=", bound, (known, enough),
        (Control("the norm to the power N + 1", least_step(x.depth + 1), bound, ">="),),
        f"least change over {len(points)} steps, while the loss falls by {_FALL:g}; least margin over the norm of W"
        f" {found.margin[0]:.4g} at first, {found.margin[-1]:.4g} at last",
        figures=(towards_the_limit(x, runs), _figure(found)), tables=(_table(found),),
    )  # fmt: skip


def _table(found: Separation) -> Table:
    rows = []
    for i in np.unique(np.linspace(0, found.tau.size - 1, 6).astype(int)):
        values = (found.tau, found.loss, found.norm, found.margin, found.alignment, found.effective_rank)
        rows.append(tuple(float(v[i]) for v in values))
    return Table(
        "normalised time", "Separable data: the margin instead of a limit",
        "The flow from the end of the compared run on, in the time d tau = L dt. Margin: least margin of a sample over the"
        " Frobenius norm of W. Alignment: cosine of W and its velocity, 1 where only the"
        " norm still grows. Rank: nuclear over spectral norm.",
        ("tau", "loss", "norm of W", "margin", "alignment", "rank"), tuple(rows),
    )  # fmt: skip


def _figure(found: Separation) -> Figure:
    return Figure(
        "margin", "Separable data: no limit, but a direction",
        "Least margin of a sample over the Frobenius norm of W, against that norm, which grows for ever.",
        "norm of W", "margin over norm", [curve("margin", found.norm, found.margin, "a")],
    )  # fmt: skip
