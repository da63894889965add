"""Flows of many members in one array: each with its own step, time, error control and end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import validation
from ..flow.integration import require_rtol, require_t_span
from ..matrices.requirements import require_depth
from ..validation import Array
from .arrays import Stack, groups, like, namespace, per_member, taken
from .loop import BatchStep, Limits, Runs
from .losses import stacked
from .record import Column, Record, require_columns
from .stacks import LinearNetworks, LowRankMatrices, stack_of
from .systems import BatchedSystem, FactorsSystem, PolynomialSystem
from .trajectories import Trajectories

__all__ = ["BatchStep", "integrate"]

_CHARTS = ("factors", "polynomial")
_DEEPEST = 8  # depth up to which the factors are the faster coordinates
_TOGETHER = 2**16  # numbers of a stack of states of numpy: the stages of a step then stay in the cache


@validation.quietly
def integrate(
    losses: Any,
    starts: Any,
    *,
    t_span: Sequence[Any],
    depth: int | None = None,
    rtol: ArrayLike = 1e-8,
    times: ArrayLike | None = None,
    chart: str | None = None,
    gtol: ArrayLike = 0.0,
    max_evaluations: int | None = None,
    columns: Mapping[str, Column] | Sequence[str] = (),
    points: bool = True,
    callback: Callable[[BatchStep], None] | None = None,
) -> Trajectories:
    r"""Integrate R flows of one shape together, as `lowrankflow.integrate` would one after the other.

    Starts of low rank move by the depth-N flow :math:`W' = -A_W(\nabla L(W))`, networks by the flow of their factors.
    Every member has its own steps and ends on its own: what has ended leaves the array, the rest go on.

    Parameters
    ----------
    losses : loss, sequence of losses or BatchedLoss
        One for all, one a member, or `batched.LeastSquares`, `Completion`, `Sensing`, any `BatchedLoss`.
    starts : LowRankMatrices, LinearNetworks or sequence of single points
        W(0) of each member, all of one shape and rank, or depth and widths.
    t_span : (float, float or (R,))
        First time, and last time of all or of each. The last may be inf with `gtol` and `max_evaluations`.
    depth : int, optional
        N, for starts of low rank; at least 2. Networks have one.
    rtol : float or (R,)
        Relative accuracy a step, as in `lowrankflow.integrate`.
    times : array_like, optional
        (T,) or (R, T), increasing: times to keep. Steps land on them.
    chart : {"factors", "polynomial"}, optional
        Coordinates of starts of low rank: balanced factors of inner width k, or U, T, V. None: the factors up to depth 8,
        where they are the faster ones.
    gtol : float or (R,)
        A member ends CONVERGED when its stationarity falls to this; one gradient a step. 0 means never.
    max_evaluations : int, optional
        Gradients of one member.
    columns : sequence of str, or mapping of names to functions
        Names of `lowrankflow.columns`, or ``function(t, w)`` of all members at one moment, t (R,) and w their stack, which
        returns (R,) or (R, ...).
    points : bool
        Keep W at all moments, for ``runs[i]``; False: the last alone.
    callback : callable, optional
        Called with a `BatchStep` after every step of the array; what it raises ends the runs, a KeyboardInterrupt as Ctrl-C
        does: what was computed is kept.

    Returns
    -------
    Trajectories
        ``runs[i]`` is the `Trajectory` of member i; numerical endings do not raise.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks its rule, or losses and starts do not fit.

    Notes
    -----
    The method is DOP853; it has the order of a single run, but no stiff alternative: a stiff member takes many steps and may
    be given ``max_evaluations``. No checkpoints, events or integrals.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    >>> starts = lrf.batched.LowRankMatrices.random(50, (3, 3), 2, rng=0)
    >>> runs = lrf.batched.integrate(loss, starts, depth=3, t_span=(0, 40))
    >>> runs.singular_values[:, -1].mean(0).round(6).tolist(), runs[7].status.name
    ([3.0, 2.0], 'FINISHED')
    """
    starts, loss = stack_of("starts", starts), stacked(losses)
    members = len(starts)
    require_fit(loss, starts)
    grid = _require_times(t_span, times, members)
    rtols, gtols = per_member("rtol", rtol, members), per_member("gtol", gtol, members, positive=False)
    for extreme in (rtols.min(), rtols.max()):
        require_rtol(float(extreme))
    if max_evaluations is not None:
        max_evaluations = validation.require_integer("max_evaluations", max_evaluations, low=1)
    if np.isinf(grid[:, -1]).any() and (max_evaluations is None or not (gtols[np.isinf(grid[:, -1])] > 0).all()):
        raise ValueError("`t_span` may end at inf with `gtol` and `max_evaluations`, got neither or one. Give both.")
    functions = require_columns(columns)
    validation.require_flags(points=points)
    validation.require_callable("callback", callback)
    system, y = _bound(loss, starts, depth, chart)
    record = Record(grid, y)
    limits = Limits(
        like(y, grid), like(y, rtols), like(y, gtols), bool((gtols > 0).any()), float(max_evaluations or np.inf)
    )
    with np.errstate(all="ignore"):  # trial steps may blow up: rejected, or the end of the run
        _all_members(system, y, limits, record, callback)
    return record.trajectories(system, y, functions, points, "DOP853, batched")


def require_fit(loss: Any, starts: LowRankMatrices | LinearNetworks) -> None:
    """Refuse losses that are not as many as the starts, or of another shape or namespace."""
    validation.require_shape("starts", starts.shape, loss.shape)
    first = starts.factors[0] if isinstance(starts, LinearNetworks) else starts.u
    data = getattr(loss, "_data", (first,))[0]  # of ours
    if namespace(data) is not namespace(first):
        raise TypeError(
            f"`losses` must have arrays of the kind that the starts have, got {type(data).__name__} and"
            f" {type(first).__name__}. Make both of one kind."
        )
    if loss.members not in (None, len(starts)):
        raise ValueError(f"`losses` must be one for all, or one a member, got {loss.members} for {len(starts)} starts.")
    chosen = np.arange(1)
    w = starts.take(chosen).to_dense()
    value, gradient = loss.take(chosen).value(w), loss.take(chosen).gradient(w)
    if tuple(value.shape) != (1,) or tuple(gradient.shape) != tuple(w.shape):
        raise ValueError(
            f"`losses` must give value (R,) and gradient (R, m, n) of stacks, got shapes {tuple(value.shape)} and"
            f" {tuple(gradient.shape)} of one of shape {tuple(w.shape)}."
        )


def _require_times(t_span: Sequence[Any], times: ArrayLike | None, members: int) -> Array:
    """Return the moments of each member, (R, K): the first time, those asked for, the last."""
    pair = validation.as_tuple(t_span)
    if pair is None or len(pair) != 2:
        raise TypeError(f"`t_span` must be two numbers (t_0, t_1), got {validation.describe(t_span)}.")
    last = np.asarray(validation.as_real("t_span", pair[1]), float)
    if last.shape not in ((), (members,)):
        raise ValueError(
            f"`t_span` must end at one time, or one for each of {members} members, got shape {last.shape}."
        )
    t0, _ = require_t_span((pair[0], float(last.min())))
    require_t_span((t0, float(last.max())))
    ends = np.broadcast_to(last, (members,))
    wanted = np.empty(0) if times is None else np.asarray(validation.as_real("times", times), float)
    if wanted.ndim not in (1, 2) or (wanted.ndim == 2 and len(wanted) != members):
        raise ValueError(f"`times` must have shape (T,) or ({members}, T), got {wanted.shape}.")
    wanted = np.broadcast_to(wanted, (members, wanted.shape[-1]))
    if not ((wanted >= t0) & (wanted <= ends[:, None])).all():
        raise ValueError(
            f"`times` must lie within t_span ({t0:g}, {ends.min():g}), got {wanted.min():g} .. {wanted.max():g}."
        )
    if (np.diff(wanted) <= 0).any():
        raise ValueError("`times` must increase, got some that do not.")
    return np.concatenate([np.full((members, 1), t0), wanted, ends[:, None]], axis=1)


def _bound(
    loss: Any, starts: LowRankMatrices | LinearNetworks, depth: int | None, chart: str | None
) -> tuple[BatchedSystem, Stack]:
    """Return the system and its first state."""
    if chart is not None:
        validation.require_choice("chart", chart, _CHARTS)
    if isinstance(starts, LinearNetworks):
        if depth not in (None, starts.depth):
            raise ValueError(f"`depth` must be that of the networks, {starts.depth}, or None, got {depth}.")
        if chart == "polynomial":
            raise TypeError('`chart` "polynomial" takes starts of low rank, got LinearNetworks. Use "factors".')
        return FactorsSystem.begin(loss, starts)
    if depth is None:
        raise TypeError("`depth` must be given for starts of low rank, got None. Use depth=3, for instance.")
    depth = int(require_depth(depth, integer=True))
    if (chart or ("factors" if depth <= _DEEPEST else "polynomial")) == "factors":
        return FactorsSystem.begin(loss, LinearNetworks.balanced(starts, depth), lifted=True)
    return PolynomialSystem.begin(loss, starts, depth)


def _all_members(
    system: BatchedSystem, y: Stack, limits: Limits, record: Record, callback: Callable[[BatchStep], None] | None
) -> None:
    """Run all members: those of numpy in groups that fit into the cache."""
    try:
        for chosen in groups(y, _TOGETHER):
            Runs(system.take(chosen), limits.take(chosen), record, chosen).go(taken(y, chosen, 1), callback)
    except KeyboardInterrupt:
        return  # which the record has noted
