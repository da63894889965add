"""Gradient descent of many members in one array: every rule, step and stop of a single run, each member with its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import array_api_compat as api
import numpy as np
from numpy.typing import NDArray

from .. import validation
from ..descent import Gradient, Rule
from ..descent.rules import require_rule
from ..descent.steps import require_step_size
from ..descent.stops import require_stops
from ..flow import Status
from .arrays import Stack, groups, like, namespace, per_member, squares, taken, to_numpy
from .arrays import columns as as_columns
from .integration import require_fit
from .loop import IDLE, BatchStep
from .losses import BatchedLoss, stacked
from .minibatches import BatchesOfMembers
from .record import Column, Record, require_columns
from .stacks import LinearNetworks, _trusted, stack_of
from .systems import FactorsSystem, factor_gradients, flat, product_of, transposed_last
from .trajectories import Trajectories

__all__ = ["Iterates", "gradient_descent"]

_TOGETHER = 2**18  # numbers of a group of networks of numpy: more at a time fall out of the cache


def gradient_descent(
    losses: Any,
    networks: Any,
    *,
    step_size: Any,
    steps: int,
    rule: Rule | None = None,
    batches: Any = None,
    stop: Callable[[Any], Any] | Iterable[Callable[[Any], Any]] = (),
    columns: Mapping[str, Column] | Sequence[str] = (),
    keep_every: int | None = None,
    points: bool = True,
    callback: Callable[[BatchStep], None] | None = None,
) -> Trajectories:
    r"""Train R networks of one shape together, as `lowrankflow.gradient_descent` would one after the other.

    Parameters
    ----------
    losses : loss, sequence of losses or BatchedLoss
        One for all, one a member, or `batched.LeastSquares`, `Completion`, `Sensing`, any `BatchedLoss`.
    networks : LinearNetworks or sequence of LinearNetwork
        The starts, all of one depth and widths.
    step_size : float, (R,), callable, StepRule or sequence of them
        For all members or one each: a number, a schedule ``step_size(k)``, which may return (R,) numbers, or a `StepRule`
        such as `EdgeFraction`, which is asked member by member.
    steps : int
        Updates at most.
    rule : Rule, optional
        A rule of `lowrankflow.descent`, or your own made of the operations of arrays alone, entry by entry.
    batches : MiniBatches or sequence of them, optional
        One for all members, or one for each: the same order of samples as in a single run with its seed.
    stop : callable or sequence of them
        Tests such as `LossBelow`; one of your own is given `Iterates` and returns (R,) flags. A member ends with the first
        that is true for it.
    columns : sequence of str, or mapping of names to functions
        Names of `lowrankflow.columns`, or ``function(t, w)`` of all members at one moment, t (R,) and w `LinearNetworks`,
        which returns (R,) or (R, ...).
    keep_every : int, optional
        Updates between two moments that are kept; None: the first and the last alone.
    points : bool
        Keep W at all moments, for ``runs[i]``; False: the last alone.
    callback : callable, optional
        Called with a `BatchStep` after every update; what it raises ends the runs, a KeyboardInterrupt as Ctrl-C does: what
        was computed is kept.

    Returns
    -------
    Trajectories
        ``runs[i]`` is the `Trajectory` of member i; numerical endings do not raise.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks its rule, does not fit, or has no batched form.

    Notes
    -----
    No checkpoints: many short runs are begun again.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(2), np.diag([2.0, 1.0]))
    >>> nets = lrf.batched.LinearNetworks.gaussian(3, (2, 2), 2, widths=2, rng=0)
    >>> runs = lrf.batched.gradient_descent(loss, nets, step_size=[0.05, 0.1, 5.0], steps=1000)
    >>> [status.name for status in runs.status]
    ['FINISHED', 'FINISHED', 'NOT_FINITE']
    """
    nets, loss = stack_of("networks", networks), stacked(losses)
    if not isinstance(nets, LinearNetworks):
        raise TypeError(
            "`networks` must be LinearNetworks, got LowRankMatrices. Use LinearNetworks.balanced(starts, depth)."
        )
    members = len(nets)
    require_fit(loss, nets)
    steps = validation.require_integer("steps", steps, low=1)
    keep_every = steps if keep_every is None else validation.require_integer("keep_every", keep_every, low=1)
    rule = Gradient() if rule is None else rule
    require_rule("rule", rule)
    validation.require_flags(points=points)
    validation.require_callable("callback", callback)
    reference, stops = nets.factors[0], require_stops(stop)
    sizes = _Steps(step_size, members, reference)
    samples = None if batches is None else BatchesOfMembers(batches, reference, loss.shape, members)
    functions = require_columns(columns)
    system, y = FactorsSystem.begin(loss, nets)
    moments = np.full((members, 2 + (steps - 1) // keep_every), np.nan)
    moments[:, 0] = 0.0
    record = Record(moments, y)
    with np.errstate(all="ignore"):
        for chosen in groups(y, _TOGETHER):
            run = Descent(loss.take(chosen), rule, sizes.take(chosen), samples, stops, steps, keep_every, chosen)
            if run.go(nets.take(chosen), record, callback):
                break
    return record.trajectories(system, y, functions, points, f"{type(rule).__name__}, batched")


@dataclass(frozen=True)
class Iterates:
    """Where the members are; what is not asked for is not computed. The names are those of `descent.Iterate`."""

    k: int  #: updates so far
    t: Stack  #: (R,), sums of the steps so far: flow time, in the units of the loss
    networks: LinearNetworks
    objective: BatchedLoss
    gradient: Callable[[], Sequence[Stack]]

    @cached_property
    def loss(self) -> Stack:
        """Its values, (R,)."""
        return self.objective.value(self.networks.to_dense())

    @cached_property
    def egrads(self) -> Sequence[Stack]:
        """The factor gradients of the loss, of all samples."""
        return self.gradient()

    @cached_property
    def gradient_norm(self) -> Stack:
        """Frobenius norm of all factor gradients together, (R,)."""
        return _total(self.egrads) ** 0.5


class _Steps:
    """The step of each member: one rule for all of them, or one each."""

    def __init__(self, step_size: Any, members: int, reference: Stack) -> None:
        several = (None if _is_rule(step_size) else validation.as_tuple(step_size)) or ()
        mixed = any(map(_is_rule, several))
        if mixed and len(several) != members:
            raise ValueError(
                f"`step_size` must be one for all, or one for each of {members} members, got {len(several)}."
            )
        self._rules = several if mixed else None
        self._rule: Any = step_size if _is_rule(step_size) else None
        for one in self._rules or (self._rule,):
            if one is not None:
                require_step_size(one)
        self.constant: Stack | None = None
        if self._rules is None and self._rule is None:
            self.constant = like(reference, per_member("step_size", step_size, members))
        self._count = members

    def of(self, k: int, run: Descent, state: State) -> Stack:
        """Return the steps h_k of the members that are left; nan where there is none."""
        if self.constant is not None:
            return self.constant
        if self._rules is None and not callable(getattr(self._rule, "at", None)):
            return self._scheduled(self._rule(k), run, state)
        nets = _trusted(LinearNetworks, factors=tuple(state.factors))
        last = to_numpy(state.h)
        found = np.empty(len(last))
        for row, i in enumerate(run.members):
            rule = self._rule if self._rules is None else self._rules[i]
            if callable(getattr(rule, "at", None)):
                rule = rule.at(k, _single(run.loss, row), nets[row], float(last[row]))
            found[row] = _number(rule(k) if callable(rule) else rule)
        return like(state.t, found)

    def _scheduled(self, h: Any, run: Descent, state: State) -> Stack:
        """Return what a schedule gave for all members: one number, or one for each of those that there were at first."""
        if not api.is_array_api_obj(h):
            h = np.asarray(_number(h)) if np.ndim(h) == 0 else np.asarray(validation.as_real("step_size(k)", h), float)
        if tuple(h.shape) not in ((), (self._count,)):
            raise ValueError(
                f"`step_size(k)` must be one number, or one for each of {self._count} members, got shape {tuple(h.shape)}."
            )
        return namespace(state.t).broadcast_to(taken(like(state.t, h), run.members, 1), state.t.shape)

    def take(self, chosen: NDArray[np.intp]) -> _Steps:
        """Return the steps of some of the members; rules are asked by the number of the member among all."""
        found = copy(self)
        found.constant = taken(self.constant, chosen, 1)
        return found


def _number(h: Any) -> float:
    """Return a step as it is, also where it is none; refuse what is no number."""
    try:
        return validation.require_number("step_size(k)", h)
    except ValueError:  # nan, infinite, zero or negative: what was computed is kept
        return float(h)


def _is_rule(step: Any) -> bool:
    return callable(step) or callable(getattr(step, "at", None))


def _single(loss: Any, row: int) -> Any:
    """Return the loss of one member."""
    if not hasattr(loss, "__getitem__"):
        raise TypeError(
            f"`step_size` with `at` needs `loss[i]`, the loss of one member, which {type(loss).__name__} has not."
        )
    return loss[row]


@dataclass(frozen=True)
class State:
    """All that the runs are between two updates, one row a member."""

    t: Stack  #: sums of the steps
    h: Stack  #: the last steps; nan at first
    factors: list[Stack]
    egrads: list[Stack] | None  #: of the loss; None where batches are taken
    memory: Mapping[str, Sequence[Stack]]  #: of the rule
    nfev: Stack
    running: Stack

    def take(self, chosen: NDArray[np.intp]) -> State:
        """Return the state of some of the members."""
        return State(**{f.name: _some(getattr(self, f.name), chosen) for f in fields(self)})


def _some(value: Any, chosen: NDArray[np.intp]) -> Any:
    """Return some rows of a stack, or of all stacks in a list or mapping."""
    if isinstance(value, Mapping):
        return {name: _some(stacks, chosen) for name, stacks in value.items()}
    return [taken(a, chosen, 1) for a in value] if isinstance(value, (list, tuple)) else taken(value, chosen, 1)


def _total(stacks: Sequence[Stack]) -> Stack:
    """Return the sum of all squares of each member."""
    return sum(squares(a) for a in stacks)


@dataclass
class Descent:
    """Runs of descent: their arguments, of which those of members that have ended are taken out."""

    loss: BatchedLoss
    rule: Rule
    step_size: _Steps
    batches: BatchesOfMembers | None
    stops: tuple[Callable[[Any], Any], ...]
    steps: int
    keep_every: int
    members: NDArray[np.intp]

    def go(self, nets: LinearNetworks, record: Record, callback: Callable[[BatchStep], None] | None) -> bool:
        """Take all members to their ends; return whether a KeyboardInterrupt was the end."""
        xp, factors = namespace(*nets.factors), list(nets.factors)
        zero = xp.zeros_like(factors[0][:, 0, 0])
        memory = _require_directions(self.rule, factors)
        egrads = factor_gradients(self.loss, factors)
        whole = xp.zeros(zero.shape, dtype=xp.int64, device=api.device(zero))
        state = State(zero, xp.full_like(zero, xp.nan), factors, egrads, memory, whole + 1, whole == 0)
        good = xp.isfinite(_total(egrads)) & xp.isfinite(self.loss.value(product_of(factors)))
        self._end(record, 0, state, to_numpy(~good), Status.NOT_FINITE)
        try:
            for k in range(self.steps + 1):
                self._keep(record, k, state)
                state = self._tested(record, k, state)
                if callback is not None:
                    callback(BatchStep(len(record.open), int(record.open.sum()), self._evaluations(record, state)))
                if not record.open[self.members].any():
                    break
                state = self._updated(record, k, self._without_ended(record, state))
        except KeyboardInterrupt:
            self._end(record, k, state, to_numpy(state.running), Status.INTERRUPTED)
            return True
        return False

    def _keep(self, record: Record, k: int, state: State) -> None:
        """Keep where the members are, every so many updates; the first and the last state have slots of their own."""
        rows = np.flatnonzero(record.open[self.members])
        if rows.size and 0 < k < self.steps and k % self.keep_every == 0:
            at = state.take(rows)
            record.keep(self.members[rows], k // self.keep_every, to_numpy(at.t), _flat(at))

    def _tested(self, record: Record, k: int, state: State) -> State:
        """Return the state, without what a test or the number of updates ends."""
        if self.stops:
            nets = _trusted(LinearNetworks, factors=tuple(state.factors))
            at = Iterates(
                k, state.t, nets, self.loss, lambda: state.egrads or factor_gradients(self.loss, state.factors)
            )
            for test in self.stops:
                says = to_numpy(_flags(test(at), state.t))
                self._end(record, k, state, says, getattr(test, "status", Status.EVENT))
            if "egrads" in vars(at):  # what a test has asked for is not computed again
                asked = state.egrads is None
                state = replace(state, egrads=list(at.egrads), nfev=state.nfev + int(asked))
        if k >= self.steps:
            self._end(record, k, state, to_numpy(state.running), Status.FINISHED)
        return state

    def _updated(self, record: Record, k: int, state: State) -> State:
        """Return the state after one more update of all members; what cannot be updated ends where it is."""
        xp = namespace(state.t)
        h = self.step_size.of(k, self, state)
        bad = ~((h > 0) & xp.isfinite(h))
        self._end(record, k, state, to_numpy(bad), Status.BAD_STEP)
        if self.batches is None:
            egrads = state.egrads or factor_gradients(self.loss, state.factors)
        else:
            egrads = factor_gradients(_Sampled(self.batches, k, self.members, self.loss.shape), state.factors)
        directions, memory = self.rule.directions(k, egrads, state.factors, state.memory)
        step = as_columns(h, 3)
        factors = [f - step * d for f, d in zip(state.factors, directions, strict=True)]
        found = factor_gradients(self.loss, factors) if self.batches is None else None
        finite = xp.isfinite(_total(found or factors))
        nfev = state.nfev + xp.astype(state.running & ~bad, xp.int64)
        self._end(record, k, replace(state, nfev=nfev), to_numpy(~finite), Status.NOT_FINITE)
        running = state.running & finite & ~bad
        t = (k + 1) * h if self.step_size.constant is not None else state.t + h
        return State(t, h, factors, found, memory, nfev, running)

    def _end(self, record: Record, k: int, state: State, which: NDArray[np.bool_], status: Status) -> None:
        """Note how some members ended, those that had not before."""
        rows = np.flatnonzero(which & record.open[self.members])
        if rows.size:
            at = state.take(rows)
            counts = {"nfev": to_numpy(at.nfev), "nsteps": np.full(rows.size, k)}
            record.end(self.members[rows], status, to_numpy(at.t), _flat(at), **counts)

    def _without_ended(self, record: Record, state: State) -> State:
        """Return the state without what has ended, where that is enough to be worth the copy."""
        running = record.open[self.members]
        idle = running.size - np.count_nonzero(running)
        if IDLE * idle < running.size:
            return state
        chosen = np.flatnonzero(running)
        self.members, self.loss = self.members[chosen], self.loss.take(chosen)
        self.step_size = self.step_size.take(chosen)
        return state.take(chosen)

    def _evaluations(self, record: Record, state: State) -> int:
        return int(record.nfev.sum() + to_numpy(state.nfev)[record.open[self.members]].sum())


class _Sampled:
    """The loss of a mini-batch, as `factor_gradients` asks it."""

    def __init__(self, batches: BatchesOfMembers, k: int, members: NDArray[np.intp], shape: tuple[int, int]) -> None:
        self._batches, self._k, self._members, self.shape = batches, k, members, shape

    def gradient(self, w: Stack) -> Stack:
        return self._batches.gradient(self._k, w, self._members)


def _flat(state: State) -> Stack:
    """Return the factors as the states of a `FactorsSystem`."""
    return flat(transposed_last(state.factors))


def _flags(found: Any, reference: Stack) -> Stack:
    """Return what a test says of each member."""
    if not api.is_array_api_obj(found) or tuple(found.shape) != tuple(reference.shape):
        got = validation.describe(found) if not hasattr(found, "shape") else f"an array of shape {tuple(found.shape)}"
        raise TypeError(f"`stop` tests must return one flag a member, got {got}.")
    return found


def _require_directions(rule: Rule, factors: list[Stack]) -> Mapping[str, Sequence[Stack]]:
    """Return the memory at the start; refuse a rule whose directions are none of the networks."""
    memory = rule.start(factors)
    directions, _ = rule.directions(0, [0.0 * f for f in factors], factors, memory)
    got, want = ([tuple(a.shape) for a in stacks] for stacks in (directions, factors))
    if got != want:
        raise ValueError(f"`rule.directions` must return one stack a factor, of shapes {want}, got {got}.")
    return memory
