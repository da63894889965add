"""`verify_equivalence`: every claim, in order, on one problem."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from .. import validation
from ..charts import Chart, Lifted, Polynomial, SingularFrame
from ..claims import ABOUT_THE_LIMIT, VERIFIED, limits, separable
from ..claims.gaps import gap
from ..claims.separable import is_separated
from ..claims.sides import TIME, Runs, Sides, natural_time_unit
from ..flow import Trajectory
from ..landscape import Climb, follow, place, staircase
from ..losses import Loss, facts
from ..losses.requirements import require_loss, require_value
from ..losses.tensors import in_arrays
from ..matrices import LinearNetwork, LowRankMatrix
from ..matrices.requirements import require_depth, require_point
from ..report import Figure, Report
from ..statements import Measurement, Statement
from ..workers import Job, Tell, carry_out
from . import theory
from .progress import Shares, one_of, silent
from .runs import CONTROLS, SIDES, Span, scout, shared_runs, span
from .starts import require_moving, require_seen

__all__ = ["Interrupted", "default_widths", "sides_of", "verify_equivalence", "what_w_is"]

_TITLE = "Is training the factors a Riemannian gradient flow?"
_LEAD = (
    "A deep linear network W = W_N ⋯ W_1 is trained on its factors by gradient flow, and the Riemannian gradient flow of the"
    " same loss is computed on the matrices of fixed rank with the depth-N metric. The theory says that, from balanced"
    " factors, both are the same flow. Here both were computed separately from one start, and compared."
)
_KNOWN = {claim.name: claim for claim in VERIFIED}
_SCOUT = "finding the end of the run"
_WIDEST = 128  # default hidden width at most: the theorem holds for any width above the rank, time does not


class Interrupted(KeyboardInterrupt):
    """Raised on Ctrl-C; `report` holds the claims that were measured before.

    ``concurrent.futures`` hands it over from a worker process; ``multiprocessing.Pool`` loses every KeyboardInterrupt
    there, and waits.
    """

    def __init__(self, report: Report) -> None:
        super().__init__("interrupted; the claims so far are in .report")
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.report,), vars(self)  # not from the message, which is no report


def default_widths(shape: tuple[int, int], depth: int, rank: int) -> int:
    """Return the hidden width used by default: the rank at depth 2, min(m, n) beyond, 2 r where that exceeds 128."""
    if depth == 2:
        return rank
    return min(shape) if min(shape) <= _WIDEST else min(2 * rank, *shape)


def sides_of(
    loss: Loss,
    start: LowRankMatrix | None,
    network: LinearNetwork | None,
    depth: int | None,
    widths: int | Iterable[int] | None,
    rng: np.random.Generator,
) -> tuple[LowRankMatrix, LinearNetwork]:
    """Return W(0) as a point and as a network, checked against each other."""
    if start is not None:
        require_point("start", start)
    if network is not None:
        if not isinstance(network, LinearNetwork):
            raise TypeError(f"`network` must be a LinearNetwork, got {validation.describe(network)}.")
        validation.require_shape("network", network.shape, loss.shape)
        if widths is not None:
            raise ValueError("`widths` must not be given with `network`, which has its own.")
        if depth is not None and depth != network.depth:
            raise ValueError(f"`depth` must be the number of factors of `network`, got {depth} for {network.depth}.")
        require_depth(network.depth, integer=True)
        if start is None:
            start = network.to_low_rank()
        validation.require_shape("start", start.shape, loss.shape)
        apart = gap(network, start)
        if not apart <= 1e-10:
            raise ValueError(
                f"`start` must be the product of `network`, got a relative distance of {apart:.2g}."
                " Leave `start` out, or lower its rank only where the product has that rank."
            )
        return start, network
    if start is None:
        raise ValueError("`start` must be given where there is no `network`. Use random_point(m, n, rank, rng=0).")
    validation.require_shape("start", start.shape, loss.shape)
    n_factors = int(require_depth(3 if depth is None else depth, integer=True))
    chosen = default_widths(start.shape, n_factors, start.rank) if widths is None else widths
    return start, LinearNetwork.balanced(start, n_factors, widths=chosen, rng=rng)


@validation.quietly
def verify_equivalence(
    loss: Loss,
    start: LowRankMatrix | None = None,
    *,
    depth: int | None = None,
    widths: int | Iterable[int] | None = None,
    network: LinearNetwork | None = None,
    t_end: float | None = None,
    rtol: float = 1e-8,
    chart: Chart | None = None,
    rng: validation.Rng = 0,
    max_evaluations: int = 200_000,
    claims: Iterable[str] | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[str, float], None] | None = None,
    workers: int = 1,
) -> Report:
    """Measure whether training the factors is the Riemannian gradient flow, on one problem.

    Parameters
    ----------
    loss : Loss
        Any object with ``shape``, ``value(w)``, ``gradient(w)``.
    start : LowRankMatrix, (m, n) of rank r, optional
        W(0); None only with `network`.
    depth : int, optional
        Number of factors N; 3 where nothing says otherwise.
    widths : int or sequence of int, optional
        Hidden widths. None: the rank at depth 2, where wider layers make the rank-r limit unstable in
        factor space; min(m, n) beyond, or twice the rank where that exceeds 128.
    network : LinearNetwork, optional
        Your own factors instead of balanced ones. Unbalanced factors are accepted and measured; the
        claims that need balance then read "not claimed".
    t_end : float, optional
        End time in the units of the loss, as `t_span` of `integrate`: ``20 * natural_time_unit(loss, start, depth)`` is
        what ``--natural-end 20`` is at the command line. None: when the Frobenius-projected gradient is 1e-4 of its
        start (further where the limit is the best rank-r matrix, known, and W not yet near it), at the validity horizon, or
        when the budget is spent, whichever comes first.
    rtol : float
        Tolerance of both flows, between 1e-12 and 1e-5; references run at rtol / 100. Loosened, by tens and to 1e-5 at
        most, where the references would not fit `max_evaluations`; the report then says so.
    chart : Chart, optional
        Coordinates of the Riemannian side; None: ``SingularFrame()``. Not ``Lifted()``, which is a factor flow.
    rng : int or numpy.random.Generator, optional
        Draws the hidden frames, then one seed, from which each claim draws by its own name; the same at every call unless
        given. None: others at every call.
    max_evaluations : int
        Budget of gradients for both flows and their references; the run that finds the end of time may
        use a quarter of it, and the others cover the same time.
    claims : iterable of str, optional
        Names of the claims to measure, in this order; None: all. Which others are measured changes no number. Of those
        about the limit, "stationarity", "index_set", "best_loss", "margin" and "departure", the ones that apply are taken.
    about : mapping, optional
        What the report should say of the data, JSON-ready.
    progress : callable, optional
        ``progress(stage, fraction)``, called often, for a bar: what is being done, and the fraction of the whole that is
        done, so that what is left takes about ``(1 - fraction) / fraction`` of the time so far.
    workers : int
        Processes that share the work, each with one BLAS thread; the numbers are the same. More than the cores that are
        free, or than about eight, gains nothing. A script that asks for them begins with
        ``if __name__ == "__main__":``, as with `multiprocessing`.

    Returns
    -------
    Report
        Claims by name (`lowrankflow.compare.CLAIMS` explains each); ``report.attachments["trajectory"]`` is the
        Riemannian reference path. For the square loss ``report.problem["ended at"]`` says at which critical point the
        Riemannian flow ended, and ``report.attachments["plateaus"]`` which ones it passed (`landscape.place`, `follow`).

    Raises
    ------
    ValueError, TypeError
        If an argument breaks its rule, the shapes differ, the start is a critical point, where nothing moves, or has
        more rank than the inputs.
    Interrupted
        On Ctrl-C, a KeyboardInterrupt that carries the report so far.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> rng = np.random.default_rng(0)
    >>> loss = lrf.losses.LeastSquares(rng.standard_normal((4, 40)), rng.standard_normal((3, 40)), reduction="mean")
    >>> start = lrf.random_point(3, 4, 2, rng=rng, singular_values=[0.1, 0.1])
    >>> report = lrf.verify_equivalence(loss, start, depth=3, t_end=3.0)
    >>> report["trajectory"].verdict
    'passed'
    """
    require_loss(loss)
    loss = in_arrays(loss, start if start is not None else network)
    validation.require_callable("progress", progress)
    if about is not None and not isinstance(about, Mapping):
        raise TypeError(f"`about` must be a mapping of JSON values, got {validation.describe(about)}.")
    rtol = validation.require_number("rtol", rtol)
    if not 1e-12 <= rtol <= 1e-5:
        why = "roundoff hides rtol / 100" if rtol < 1e-12 else "the controls could not be told from the claims"
        raise ValueError(f"`rtol` must lie between 1e-12 and 1e-5, got {rtol:g}: {why}.")
    if t_end is not None:
        t_end = validation.require_number("t_end", t_end)
    if isinstance(chart, Lifted):
        raise ValueError("`chart` must not be Lifted(): it is a factor flow, and would be compared with itself.")
    if isinstance(chart, Polynomial):
        raise ValueError(
            "`chart` must not be Polynomial(): it asks for no coefficient, and a wrong one would not be seen."
        )
    chart = SingularFrame() if chart is None else chart
    max_evaluations = validation.require_integer("max_evaluations", max_evaluations, low=100)
    workers = validation.require_integer("workers", workers, low=1)
    rng = validation.as_rng(rng)
    chosen = _chosen(claims)
    start, network = sides_of(loss, start, network, depth, widths, rng)
    value = require_value(loss.value(start))
    if not np.isfinite(value):
        raise ValueError(f"`loss.value(w)` must be finite at the start, got {value:g}. Start elsewhere.")
    require_seen(loss, start)
    require_moving(loss, start)
    unit = natural_time_unit(loss, start, network.depth)
    tell = silent if progress is None else progress
    seed = int(rng.integers(2**63))
    x = Sides(loss, start, network, rtol, unit, t_end, max_evaluations, chart, seed, tell)
    problem = {"data": dict(about or {}), "loss": facts(loss).normalisation}
    report = Report("verify", problem, title=_TITLE, lead=_LEAD)
    try:
        _fill(report, x, chosen, workers)
    except KeyboardInterrupt:
        report.interrupted = True
        raise Interrupted(report) from None
    return report


def _chosen(names: Iterable[str] | None) -> list[Statement[[Sides, Runs]]]:
    """Return the claims of these names."""
    if names is None:
        return list(_KNOWN.values())
    given = None if isinstance(names, str) else validation.as_tuple(names)
    if given is None:
        raise TypeError(f"`claims` must be a list of names, got {validation.describe(names)}.")
    chosen = [_KNOWN[validation.require_choice("claims", name, _KNOWN)] for name in given]
    if len(set(given)) < len(given) or not given:
        raise ValueError(f"`claims` must name each claim once, and one at least, got {list(given)}.")
    return chosen


#: Of the time of the whole, in percent: means over the bundled data sets. A claim that is not named takes next to none.
_SHARES = {
    _SCOUT: 5.0, SIDES[0]: 25.0, SIDES[1]: 14.0, CONTROLS: 2.0, "trajectory": 2.0, "tolerance": 24.0, "dissipation": 18.0,
    "imbalance": 2.0, "discrete": 5.0, "rebalancing": 3.0,
}  # fmt: skip
_SHARE_OF_OTHERS = 0.2
_RUNS = {"trajectory": 2, "tolerance": 12, "dissipation": 2, "imbalance": 4, "discrete": 7, "rebalancing": 6}  # about


def _fill(report: Report, x: Sides, chosen: list[Statement[[Sides, Runs]]], workers: int) -> None:
    """Make the shared runs, then measure the claims; what is there stays in the report whatever comes after."""

    def keep(path: Trajectory) -> None:
        report.attachments["trajectory"] = path

    parts = (_SCOUT, *SIDES, CONTROLS, *(claim.name for claim in chosen))
    shares = Shares(x.tell, {name: _SHARES.get(name, _SHARE_OF_OTHERS) for name in parts})
    found = span(x, scout(replace(x, tell=shares.part(_SCOUT))))
    keep(found.scout)
    _describe(x, found, report)
    stairs = _where_it_ended(x, found.scout, report)
    asked = x.rtol
    x = replace(x, tell=silent)  # whoever works tells for itself
    x, runs = shared_runs(x, found, keep, shares, workers)
    if x.rtol > asked:
        report.problem["tolerances"] |= {"rtol": x.rtol, "reference rtol": x.reference_rtol, "asked for": asked}
        report.headline += (
            f"\nrtol {x.rtol:g} in place of {asked:g}, so that the references fit the budget of gradients"
        )
    report.problem["evaluations"] = {"factor flow": runs.factors.nfev, "Riemannian flow": runs.riemannian.nfev}
    end = _end_of(x, runs)
    chosen = [claim for claim in chosen if claim not in ABOUT_THE_LIMIT or claim in end]
    _measure(report, x, runs, chosen, shares, workers)
    report.figures += stairs
    report.tables.insert(0, theory.theorems(x, report.claims, runs.scout.points[-1]))


def _measure(
    report: Report, x: Sides, runs: Runs, chosen: list[Statement[[Sides, Runs]]], shares: Shares, workers: int
) -> None:
    """Measure claim after claim, or several at once; they are in the report in order, also where not all are."""
    runs.errors  # noqa: B018  # which several claims ask for: computed here, once
    measurements: dict[int, Measurement | None] = {}
    jobs = [Job(claim.name, partial(_measure_one, claim.name)) for claim in chosen]
    try:
        for i, measurement in carry_out(jobs, (x, runs), workers, [shares.part(claim.name) for claim in chosen]):
            measurements[i] = measurement
    finally:
        for i, measurement in sorted(measurements.items()):
            chosen[i].enter(report, measurement)


def _measure_one(name: str, x: Sides, runs: Runs, tell: Tell) -> Measurement | None:
    tell(name, 0.0)
    found = _KNOWN[name].measure(replace(x, tell=one_of(_RUNS.get(name, 1), tell)), runs)
    tell(name, 1.0)
    return found


def _end_of(x: Sides, runs: Runs) -> tuple[Statement[[Sides, Runs]], ...]:
    """Return the claims about the limit that are made here: past a horizon, or of separated samples, there is none."""
    if np.isfinite(runs.horizon):
        return (limits.departure,)
    if is_separated(x, runs.reference.points[-1]):
        return (separable.margin,)
    return (limits.stationarity, limits.index_set, limits.best_loss)


def what_w_is(report: Report, w: LowRankMatrix) -> str:
    """Return the name of the data, where it was given, with the shape and the rank of W."""
    name = report.problem["data"].get("name")
    return f"{f'{name}: ' if name else ''}W is {w.shape[0]} x {w.shape[1]}, rank {w.rank}"


def _describe(x: Sides, found: Span, report: Report) -> None:
    """Say what the problem is, once its end is known."""
    report.headline = (
        f"{what_w_is(report, x.start)}, depth {x.depth}, hidden widths {', '.join(map(str, x.network.widths))};"
        f" loss {report.problem['loss']}\n"
        f"time 0 .. {found.times[-1]:.4g} = {found.times[-1] / x.unit:.4g} natural units"
        f" 1/(N lambda_1 sigma_1^(2-2/N)), ended by: {found.ended_by}"
    )
    report.problem |= {
        "shape": list(x.start.shape),
        "depth": x.depth,
        "rank": x.rank,
        "widths": list(x.network.widths),
        "start": {"largest singular value": float(x.start.s.max()), "smallest": float(x.start.s.min())},
        "hypotheses": {h.name: {"met": h.met, "value": h.value} for h in (x.balanced, x.full_rank_inputs)},
        "time": {
            "natural unit": x.unit,
            "end": float(found.times[-1]),
            "end in natural units": float(found.times[-1] / x.unit),
            "ended by": found.ended_by,
            "validity horizon": found.horizon,
        },
        "tolerances": {"rtol": x.rtol, "reference rtol": x.reference_rtol, "max_evaluations": x.max_evaluations},
    }


def _where_it_ended(x: Sides, path: Trajectory, report: Report) -> list[Figure]:
    """Say at which critical point the Riemannian flow of a square loss ended; return the picture of the plateaus it passed."""
    ended = place(path, x.loss)
    if not ended.exact:
        return []
    report.problem["ended at"] = ended.to_dict()
    if not ended.at_minimiser:
        report.headline += f"\nthe Riemannian flow did not end at the minimiser of its rank: {ended}"
    passed = report.attachments["plateaus"] = follow(path, x.loss, depth=x.depth)
    return [staircase([Climb("loss", path.t, path.loss, passed, x.unit)], TIME)] if passed else []
