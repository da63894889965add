"""Claims about flows that pass saddles: the time they take to leave one, and the staircase from one to the next."""

from __future__ import annotations

import math

import numpy as np

from ..flow import Status, Trajectory, integrate
from ..flows import Event, FactorFlow
from ..landscape import Plateau, escape, follow, saddle
from ..losses import LeastSquares
from ..matrices import LinearNetwork
from ..report import Control, Hypothesis, Table
from ..statements import Measurement, Statement, claim
from .critical_points import ACHOUR, DERIVED
from .populations import Population, factor_hessian

__all__ = ["PASSAGES"]


def _flow_until(loss: LeastSquares, start: LinearNetwork, level: float) -> Trajectory:
    """Return the factor flow until its loss falls to a level."""
    down = Event("down", lambda t, w: float(loss.value(w)) - level, terminal=True)
    return integrate(FactorFlow(loss), start, t_span=(0.0, 1e7), rtol=1e-7, events=[down])


_NOISE = (0.004, 0.002)
_TARGETS = np.diag([2.0, 1.0, 0.5])


def _escape_times(x: Population, depth: int, order: int) -> tuple[LinearNetwork, list[float]]:
    """Return a saddle of rank one of `_TARGETS`, and the times in which the flow leaves it from noise of either size."""
    loss = LeastSquares(np.eye(3), _TARGETS)
    start = saddle(loss, depth, widths=3, rank=1, order=order)
    level, rng = float(loss.value(start)) - 0.25, x.rng("escape times")  # the same noise for either size
    noise = [rng.standard_normal(v.shape) + 5 * v for v in escape(start, loss).directions]
    found = []
    for eps in _NOISE:
        beside = LinearNetwork([f + eps * z for f, z in zip(start.factors, noise, strict=True)])
        path = _flow_until(loss, beside, level)
        found.append(float(path.t[-1]) if path.status is Status.EVENT else math.nan)
    return start, found


@claim(
    "escape times",
    statement="From noise of size eps the flow leaves a saddle of order m >= 3 in a time of order eps^(2-m).",
    source=f"{DERIVED}: the flow of a homogeneous descent",
    meaning=(
        "A reduced size: one saddle of order 3 and one of order 4, depths 3 and 4, targets diag(2, 1, 1/2), Gaussian noise of"
        " 0.004 and of 0.002 an entry and five times that along the line out, until half of the way down to the next value."
        " Measured: the largest difference of T(eps / 2) / T(eps) from 2^(m-2), relative. Bound: 0.1, what the terms of the"
        " next order may do."
    ),
    hypotheses="the flow gets away in the time it has",
    controls="the exponent of order m + 1; a strict saddle in place of one of order 3",
)
def escape_times(x: Population) -> Measurement:
    """Ratios of escape times."""
    found = {m: _escape_times(x, max(m, 3), m)[1] for m in (2, 3, 4)}
    ratios = {m: late / early for m, (early, late) in found.items()}
    next_order = min(abs(ratios[m] / 2 ** (m - 1) - 1) for m in (3, 4))
    return Measurement(
        max(abs(ratios[m] / 2 ** (m - 2) - 1) for m in (3, 4)), "<=", 0.1,
        (Hypothesis("escapes", bool(np.isfinite(list(ratios.values())).all()), next_order),),
        (Control("order m + 1", next_order, 0.1), Control("a strict saddle", abs(ratios[2] / 2 - 1), 0.1)),
        ", ".join(f"order {m}: T = {a:.4g}, {b:.4g}" for m, (a, b) in found.items()),
    )  # fmt: skip


@claim(
    "escape at a rate",
    statement="At a strict saddle half the noise adds ln 2 over the rate, minus the least Hessian eigenvalue, to the time.",
    source=f"{DERIVED}: the linear flow",
    meaning=(
        "The strict saddle of depth 3 and the noise of escape times. Measured: the difference of T(eps / 2) - T(eps) from that,"
        " relative, with the eigenvalue of the dense Hessian. Bound: 0.5."
    ),
    hypotheses="the flow gets away in the time it has",
    controls="a third of the rate",
)
def escape_at_a_rate(x: Population) -> Measurement:
    """What half the noise costs."""
    start, (early, late) = _escape_times(x, 3, 2)
    rate = -float(np.linalg.eigvalsh(factor_hessian(start.factors, np.eye(3), _TARGETS))[0])
    more = (late - early) / math.log(2)
    return Measurement(
        abs(more * rate - 1), "<=", 0.5, (Hypothesis("escapes", math.isfinite(more), more),),
        (Control("a third of the rate", abs(more * rate / 3 - 1), 0.5),), f"rate {rate:.4g}, T = {early:.4g}, {late:.4g}",
    )  # fmt: skip


_SIGMA = (4.0, 3.0, 2.0, 1.0)


def _climb(x: Population, scale: float, depth: int = 3) -> tuple[Trajectory, tuple[Plateau, ...]]:
    """Return the flow of targets diag(4, 3, 2, 1) from factors scale (I + E) with a random E of norm 0.1."""
    loss, rng = LeastSquares(np.eye(4), np.diag(_SIGMA)), x.rng("staircase")
    noise = [rng.standard_normal((4, 4)) for _ in range(depth)]
    start = LinearNetwork([scale * (np.eye(4) + 0.1 * z / np.linalg.norm(z, 2)) for z in noise])
    path = _flow_until(loss, start, 1e-6)
    return path, follow(path, loss, depth=depth)


@claim(
    "staircase",
    statement="From a small start the flow passes the saddles of S = {}, {1}, {1, 2}, .. in this order, at their values.",
    source=f"{ACHOUR} for the values, and for the saddles met by balanced factors; the passage itself is measured",
    meaning=(
        "Depth 3, targets diag(4, 3, 2, 1), factors 0.01 (I + E), E random of norm 0.1, so that every mode starts"
        " alike; from other starts a mode may be late by its overlap. S is read from W, not from the loss. Measured:"
        " the largest difference of the loss from the critical value where W is nearest to the saddle, over ||Y||^2 /"
        " 2; infinite if a saddle is missing, out of order, or another one is passed. Bound: 0.02."
    ),
    hypotheses="the modes start alike and small, and the flow arrives",
    controls="factors of norm 1, which passes no saddle; the values of the sets that lack their first pair",
)
def staircase(x: Population) -> Measurement:
    """The plateaus of one small start, and of a large one."""
    squares = 0.5 * np.array(_SIGMA) ** 2
    levels = [float(squares[r:].sum()) for r in range(4)]

    def gap(path: Trajectory, passed: tuple[Plateau, ...], said: list[float]) -> float:
        if [p.index_set for p in passed] != [tuple(range(1, r + 1)) for r in range(4)]:
            return math.inf
        losses = np.interp([p.nearest_at for p in passed], path.t, path.loss)
        return float(np.abs(losses - said).max() / squares.sum())

    small, large = _climb(x, 0.01), _climb(x, 1.0)
    others = [levels[0], *(v + float(squares[0] - squares[r + 1]) for r, v in enumerate(levels[1:]))]
    rows = tuple(
        (
            f"rank {p.rank}",
            p.critical_value,
            float(np.interp(p.nearest_at, small[0].t, small[0].loss)),
            p.nearest_at,
            p.nearness,
        )
        for p in small[1]
    )
    table = Table(
        "staircase", "The saddles that the flow passed", "Where W is nearest to each; nearness over the distance to the next.",
        ("saddle", "critical value", "loss", "time", "nearness"), rows,
    )  # fmt: skip
    return Measurement(
        gap(*small, levels), "<=", 0.02,
        (Hypothesis("the flow arrives", small[0].status is Status.EVENT, str(small[0].status.name)),),
        (Control("a start of norm 1", gap(*large, levels), 0.02), Control("other sets", gap(*small, others), 0.02)),
        tables=(table,),
    )  # fmt: skip


@claim(
    "flat plateaus",
    statement="The smaller the start, the flatter the plateaus.",
    source="measured; the saddles are those of the staircase",
    meaning=(
        "The same start with 0.1 and with 0.01. Measured: the largest ratio, over the saddles that both pass, of the"
        " least factor gradient while S is the saddle's. Bound: 0.5: with a start of the same size it would be 1."
    ),
    hypotheses="a saddle that both pass",
    controls="the starts exchanged",
)
def flat_plateaus(x: Population) -> Measurement:
    """The least gradients on the plateaus of two starts."""

    def least(scale: float) -> dict[int, float]:
        path, passed = _climb(x, scale)
        found = {}
        for p in passed:
            end = math.inf if p.left is None else p.left
            inside = (path.t >= p.entered) & (path.t <= end)
            if p.leads and inside.any():
                found[p.rank] = float(path.stationarity[inside].min())
        return found

    coarse, fine = least(0.1), least(0.01)
    shared = [r for r in coarse if r in fine and r > 0]  # at the start all gradients are small
    ratios = [fine[r] / coarse[r] for r in shared]
    return Measurement(
        max(ratios, default=1.0), "<=", 0.5, (Hypothesis("saddles that both pass", bool(shared), len(shared)),),
        (Control("the starts exchanged", min((1 / v for v in ratios), default=0.0), 0.5),),
        ", ".join(f"rank {r}: {v:.3g}" for r, v in zip(shared, ratios, strict=True)),
    )  # fmt: skip


PASSAGES: tuple[Statement[[Population]], ...] = (escape_times, escape_at_a_rate, staircase, flat_plateaus)
