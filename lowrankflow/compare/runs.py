"""The runs that the claims of `verify_equivalence` share, made one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from ..claims.gaps import kept, normal_gradient_norm, refined
from ..claims.limits import Limit
from ..claims.sides import HORIZON, REDUCTION, Runs, Sides
from ..flow import Status, Step, Trajectory, integrate
from ..flows import RiemannianFlow
from ..geometry import sharpness
from ..gradients import project
from ..matrices import EPS, LinearNetwork
from ..validation import Array
from ..workers import Job, Tell, carry_out
from .progress import Shares, one_of

__all__ = ["CONTROLS", "SIDES", "Span", "scout", "shared_runs", "span"]


class Span(NamedTuple):
    """How far the two sides are compared.

    Attributes
    ----------
    scout : Trajectory
        The run that found the end.
    growth : ndarray
        Integral of ||(I - UU^T) G (I - VV^T)||_2 dt at its times; zeros where nothing can grow.
    horizon : float
        Time up to which factors at their widths can follow the rank-r flow in double precision.
    times : ndarray
        The grid on which W is compared: 16 times a decade from a quarter of the natural unit, at most 64, up to the
        horizon.
    ended_by : str
        Which of its limits ended the run.
    """

    scout: Trajectory
    growth: Array
    horizon: float
    times: Array
    ended_by: str


def scout(x: Sides) -> Trajectory:
    """Return a cheap run of the Riemannian flow to its end: the one asked for, or where its projected gradient is small.

    Badly conditioned data leave W far from its limit where the gradient has fallen to `REDUCTION` of its start. If that limit
    is the best rank-r matrix, and known, the run goes on until W is near it.
    """
    part = 0.9 * REDUCTION  # a margin for the accuracy of this run
    path = _scout(x, part)
    while path.status is Status.CONVERGED and part > _SMALLEST and Limit(x, path).ahead:
        part /= 4
        further = _scout(x, part)
        if further.status is not Status.CONVERGED:
            break
        path = further
    return path


_SMALLEST = 1e-6  # part of the first gradient: the tolerance of these runs


def _scout(x: Sides, part: float) -> Trajectory:
    stage = "finding the end of the run"
    first = project(x.start, x.loss.gradient(x.start)).norm()
    gtol = part * first if x.t_end is None else 0.0

    def told(p: Step) -> None:
        x.tell(stage, _part(first, p.stationarity, gtol) if gtol else p.t / p.t_end)

    path = integrate(
        RiemannianFlow(x.loss, x.metric), x.start,
        t_span=(0.0, 1e7 * x.unit if x.t_end is None else x.t_end), rtol=max(1e-6, x.rtol), gtol=gtol, chart=x.chart,
        method="auto", max_evaluations=_share(x), callback=told,
    )  # fmt: skip
    if path.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    return path


def _share(x: Sides) -> int:
    """Return the part of the budget in which the end of the run is looked for; the rest is for the runs up to it."""
    return x.max_evaluations // 4


def _part(first: float, now: float, last: float) -> float:
    """Return how far a falling quantity has come, on a log scale between 0 and 1."""
    return min(1.0, max(0.0, math.log(first / max(now, last)) / math.log(first / last)))


def span(x: Sides, path: Trajectory) -> Span:
    """Return how far the sides are compared, from the scouting run."""
    growth = _growth(x, path)
    horizon = math.inf if growth[-1] < HORIZON else float(np.interp(HORIZON, growth, path.t))
    lost = _rank_lost(x, path)
    times = _grid(x, float(path.t[-1]))
    if min(horizon, lost) < times[-1]:
        times = np.append(times[times < min(horizon, lost)], min(horizon, lost))
    return Span(path, growth, horizon if horizon <= lost else math.inf, times, _ended_by(x, path, horizon, lost))


def _rank_lost(x: Sides, path: Trajectory) -> float:
    """Return the time at which W falls to nothing, or sigma_r to the roundoff of W at depth 2; inf where they do not.

    A mode that decays there has a partner in the factors that grows: w_1' = -g w_2, w_2' = -g w_1 takes w_1 = w_2 to zero,
    and w_1 = -w_2 away from it, which begins as roundoff. From depth 3 on nothing grows out of zero.
    """
    s = path.singular_values
    gone = s[:, -1] <= 10 * max(x.start.shape) * EPS * s[:, 0]
    if x.depth > 2:
        gone[:] = False
    gone |= s[:, 0] <= EPS**2 * s[0, 0]  # W itself goes to zero, and on to where numbers end
    return float(path.t[int(np.argmax(gone))]) if gone.any() and not gone[0] else math.inf


def _growth(x: Sides, path: Trajectory) -> Array:
    if not x.wide:
        return np.zeros(path.t.size)
    rates = np.array([normal_gradient_norm(x.loss, w) for w in path.points])
    return np.concatenate([[0.0], np.cumsum(np.diff(path.t) * (rates[1:] + rates[:-1]) / 2)])


def _grid(x: Sides, end: float) -> Array:
    """Return the grid to the end of the scouting run; of fewer times where the factors are large: their path keeps them."""
    first = min(x.unit / 4, end / 8)
    parameters = sum(f.size for f in x.network.factors)
    most = int(np.clip(5e7 / parameters, 8, 64))
    times = np.geomspace(first, end, min(most, 1 + math.ceil(16 * math.log10(end / first))))
    times[-1] = end
    return times


def _ended_by(x: Sides, path: Trajectory, horizon: float, lost: float) -> str:
    if lost < horizon:
        if path.singular_values[:, 0].min() <= EPS**2 * path.singular_values[0, 0]:
            return "W at the square of the roundoff of W(0): its limit is zero"
        return (
            f"sigma_r at the roundoff of W{_sign_of_determinant(x)}; at depth 2 roundoff drives the factors from there"
        )
    if math.isfinite(horizon):
        return "validity horizon"
    if path.status is Status.CONVERGED:
        reached = float(path.stationarity[-1] / path.stationarity[0])
        if reached < REDUCTION / 4:
            return f"projected gradient at {reached:.1g} of its start, near the best matrix of rank {x.rank}"
        return f"projected gradient at {REDUCTION:g} of its start"
    if path.status is Status.FINISHED:
        asked = "the end time that was asked for"
        return asked if x.t_end is not None else "the longest time, 1e7 natural units: no limit was reached"
    if path.status is Status.MAX_EVALUATIONS:
        return (
            f"{_share(x)} of {x.max_evaluations} gradients, the part of `max_evaluations` in which the end is looked for."
            " Raise it, loosen `rtol`, or ask for an earlier end"
        )
    return path.status.value


def _sign_of_determinant(x: Sides) -> str:
    """Say why a square W of full rank must come to lower rank, where that is known."""
    best = x.said.minimiser
    if x.start.shape != (x.rank, x.rank) or best is None:
        return ""
    signs = (np.linalg.slogdet(w.to_dense())[0] for w in (x.start, best(x.rank)))
    return ", for the flow keeps the sign of det W, and the best W has the other" if next(signs) != next(signs) else ""


def shared_runs(
    x: Sides, found: Span, keep: Callable[[Trajectory], None], shares: Shares, workers: int
) -> tuple[Sides, Runs]:
    """Make the runs that several claims share, at a tolerance at which the references fit the budget.

    Parameters
    ----------
    x : Sides
        The problem.
    found : Span
        How far.
    keep : callable
        Is given each better path of the Riemannian side as soon as there is one: Ctrl-C may come before the last run.
    shares : Shares
        Progress, with the parts of `SIDES` and `CONTROLS`.
    workers : int
        With two, either side has a process.

    Returns
    -------
    Sides
        The problem, at that tolerance.
    Runs
    """
    keep(found.scout)
    while True:
        made = _both_sides(x, found, keep, shares, workers)
        if made is not None:
            break
        x = replace(x, rtol=10 * x.rtol)
    (riemannian, reference), (factors, factor_reference) = made
    early = _control_times(reference, found.times)
    tell = shares.part(CONTROLS)
    wrong_depth = replace(x, tell=tell).riemannian(
        max(x.rtol, 1e-8), early, "control: wrong depth", metric=x.wrong_metric
    )
    tell("sharpness along the path", 1.0)
    return x, Runs(
        found.scout, found.growth, found.horizon, found.times, early, riemannian, reference, factors, factor_reference,
        wrong_depth, _largest_sharpness(x, reference),
    )  # fmt: skip


SIDES = ("Riemannian flow", "factor flow")  #: parts of the work, with their shares of it: about equal parts of the time
CONTROLS = "control: wrong depth"

_FOR_REFERENCE = 3  # times as many gradients as at rtol, which it has at a hundredth of it; 2.3 to 3 seen

Pair = tuple[Trajectory, Trajectory]  # at rtol, and at the reference tolerance


def _both_sides(
    x: Sides, found: Span, keep: Callable[[Trajectory], None], shares: Shares, workers: int
) -> list[Pair] | None:
    """Return either side at rtol and at its reference tolerance; None if a looser rtol is worth a try."""
    first = keep if workers == 1 else None  # what another process has done is known when it is done
    jobs = [Job(name, partial(_side, name, found.times, first)) for name in SIDES]
    made: dict[int, Pair] = {}
    with closing(carry_out(jobs, (x,), workers, [shares.part(name) for name in SIDES])) as ended:
        for i, pair in ended:
            if pair is None:
                return None
            made[i] = pair
            if i == 0:
                keep(pair[1])
    return [made[i] for i in range(len(SIDES))]


def _side(name: str, times: Array, keep: Callable[[Trajectory], None] | None, x: Sides, tell: Tell) -> Pair | None:
    """Return one side twice; None where the reference did not fit the budget, or would take more than half of it."""
    x, looser = replace(x, tell=one_of(2, tell)), x.rtol <= 1e-6
    run = x.riemannian if name == SIDES[0] else x.factors
    first = run(x.rtol, times, name)
    if keep is not None and name == SIDES[0]:
        keep(first)
    if looser and (not first.status.finished or 2 * _FOR_REFERENCE * first.nfev > x.max_evaluations):
        return None
    reference = kept(run(x.reference_rtol, refined(times), f"{name}, reference"), times)
    if looser and reference.status is Status.MAX_EVALUATIONS:
        return None
    return first, reference


def _control_times(reference: Trajectory, times: Array) -> Array:
    """Return the first part of the grid, in which half of the fall of the loss is done, eight times at least."""
    loss, first = reference.loss[1 : 1 + times.size], reference.loss[0]
    half = int(np.argmax(loss <= first - 0.5 * (first - loss.min())))
    return times[: max(half + 1, min(8, times.size))]


def _largest_sharpness(x: Sides, reference: Trajectory) -> float:
    """Return the largest Hessian eigenvalue of the factor loss along the reference, at nine points."""
    points = reference.points
    chosen = {int(i) for i in np.linspace(0, len(points) - 1, 9)}
    return max(sharpness(x.loss, LinearNetwork.balanced(points[i], x.depth), tol=1e-2) for i in chosen)
