"""Gradient descent of many members in one array: every rule, step and stop of a single run, each member with its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import array_api_compat as api
import numpy as np
from numpy.typing import NDArray

from .. import validation
from ..descent import Gradient, Rule
from ..descent.rules import require_rule
from ..descent.stops import require_stops
from ..flow import Status
from .arrays import Stack, groups, namespace, squares, taken, to_numpy
from .arrays import columns as as_columns
from .integration import require_fit
from .loop import IDLE, BatchStep
from .losses import BatchedLoss, stacked
from .minibatches import BatchesOfMembers
from .record import Column, Record, require_columns
from .stacks import LinearNetworks, _trusted, stack_of
from .steps import Steps
from .systems import FactorsSystem, factor_gradients, flat, product_of, transposed_last
from .trajectories import Trajectories

__all__ = ["Iterates", "gradient_descent"]

_TOGETHER = 2**18  # numbers of a group of networks of numpy: more at a time fall out of the cache


@validation.quietly
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
        Tests such as `LossBelow`; one of your own is given `Iterates` of the members that are left and returns one flag for
        each. A member ends with the first that is true for it.
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
    sizes = Steps(step_size, members, reference)
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
    members: NDArray[np.intp]  #: their numbers: those that have ended are left out by and by, and the rows get fewer
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
    step_size: Steps
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

            def gradient() -> Sequence[Stack]:
                return state.egrads or factor_gradients(self.loss, state.factors)

            at = Iterates(k, self.members, state.t, _networks(state), self.loss, gradient)
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
        h = self.step_size.of(k, self.members, self.loss, _networks(state), state.h)
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


def _networks(state: State) -> LinearNetworks:
    found: LinearNetworks = _trusted(LinearNetworks, factors=tuple(state.factors))
    return found


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
