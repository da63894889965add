"""Gradient descent on the factors: what people run, and Euler's method for the factor flow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from .. import validation
from ..columns import named
from ..files import require_path
from ..flow import Status, Step, Trajectory
from ..flow.record import Row, as_column
from ..flow.trajectory import hand_over
from ..flows import Moment, Save
from ..gradients import pulled_back, raw_factor_gradients, squared_norm
from ..losses import Loss
from ..losses.tensors import in_arrays
from ..matrices import LinearNetwork, singular_values
from ..matrices.requirements import require_network
from ..validation import Array
from .keeping import Keeper
from .rules import Gradient, Memory, Rule, frozen, is_ours, require_rule, tried
from .steps import StepRule, StepSize, require_step_size
from .stops import Iterate, Stop, label, require_stops

__all__ = ["gradient_descent"]


@validation.renamed(every="keep_every")
@validation.quietly
def gradient_descent(
    loss: Loss,
    net: LinearNetwork,
    *,
    step_size: StepSize,
    steps: int,
    rule: Rule | None = None,
    batches: Callable[[int], Loss] | None = None,
    stop: Stop | Iterable[Stop] = (),
    columns: Mapping[str, Callable[[float, Any], Any]] | Sequence[str] = (),
    keep_every: int | None = None,
    callback: Callable[[Step], None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1000,
) -> Trajectory[LinearNetwork]:
    r"""Train the factors: gradient descent, or another rule for the directions D_j that it takes.

    .. math:: W_j \leftarrow W_j - h_k\, D_j, \qquad D_j = \nabla_{W_j} L(W_N \cdots W_1), \qquad j = 1 .. N \text{ at once}.

    Parameters
    ----------
    loss : Loss
        In its own normalisation; the step is in units of flow time.
    net : LinearNetwork, (m, n)
        The start, balanced or not.
    step_size : float, callable or StepRule
        The step h (the learning rate); a schedule ``step_size(k) -> h_k`` for the update k = 0, 1, ..., such as `Decreasing`; or
        what looks at the network, ``at(k, loss, net, last) -> h_k``, such as `EdgeFraction`.
    steps : int
        Updates at most, at least 1.
    rule : Rule, optional
        What makes directions of gradients: `HeavyBall`, `Nesterov`, `Adam`, `WeightDecay`, `LayerRates`, `Only`, or your own;
        None: the gradients themselves.
    batches : callable, optional
        ``batches(k) -> Loss`` whose gradient the update k takes, such as `MiniBatches`; what is kept and tested is of `loss`.
    stop : callable or sequence of them
        Tests of an `Iterate` that end the run earlier: `LossBelow`, `GradientBelow`, `TimeReached`, or your own; a test with an
        attribute ``status`` ends it with that, any other with EVENT. They are asked before every update.
    columns : mapping or sequence of str
        Names of `lowrankflow.columns`, or names to ``function(t, w)``, kept in ``path.columns`` with every kept iterate.
    keep_every : int, optional
        Updates between two iterates that are kept; None: one hundred are, or with `stop` one to two hundred, of those that
        were made. The first and the last always are.
    callback : callable, optional
        Called with a `Step` at every kept iterate; what it raises ends the run, a KeyboardInterrupt as Ctrl-C does.
    checkpoint : path, optional
        A file to which the run is written every so many updates and at the end. Where it exists the run goes on from it, to
        the same bits as if it had never stopped (with more `steps` than before, further).
    checkpoint_every : int
        Updates between two checkpoints.

    Returns
    -------
    Trajectory
        ``t`` is the sum of the steps so far; ``points`` are networks; ``nsteps`` the updates made. Numerical endings do not
        raise: where the iterates are no longer finite, or a schedule gives no positive number, the status is NOT_FINITE or
        BAD_STEP, and the last good iterate the last that is kept. A KeyboardInterrupt ends it early with status INTERRUPTED.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks its rule, or the checkpoint is damaged or of another problem.
    CheckpointFailed
        If a checkpoint cannot be written; the run so far is in its ``trajectory``.
    Exception
        What a function of the caller's raises, with the run so far in its ``trajectory``.

    Notes
    -----
    Near a minimum gradient descent is linearly stable for h < 2 / `sharpness`.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> from lowrankflow.descent import HeavyBall, LossBelow
    >>> loss = lrf.losses.LeastSquares(np.eye(2), np.diag([2.0, 1.0]))
    >>> net = lrf.LinearNetwork.identity((2, 2), 2, widths=2)
    >>> path = lrf.gradient_descent(loss, net, step_size=0.1, steps=200)
    >>> path.nsteps, path.singular_values[-1].round(6).tolist()
    (200, [2.0, 1.0])
    >>> fast = lrf.gradient_descent(loss, net, step_size=0.1, steps=200, rule=HeavyBall(0.5), stop=LossBelow(1e-6))
    >>> fast.status.name, fast.nsteps
    ('EVENT', 8)
    """
    steps = validation.require_integer("steps", steps, low=1)
    keep_every = None if keep_every is None else validation.require_integer("keep_every", keep_every, low=1)
    checkpoint_every = validation.require_integer("checkpoint_every", checkpoint_every, low=1)
    constant = require_step_size(step_size)
    rule = Gradient() if rule is None else rule
    require_rule("rule", rule)
    require_network("net", net)
    validation.require_callable("callback", callback)
    validation.require_callable("batches", batches)
    stops = require_stops(stop)
    loss = in_arrays(loss, net)
    egrads = raw_factor_gradients(loss, net)  # checks loss and shapes
    functions = columns if isinstance(columns, Mapping) else named(columns, loss)
    Save(columns=functions)  # checks the names
    if not (np.isfinite(squared_norm(egrads)) and np.isfinite(loss.value(net))):
        raise ValueError(
            "`loss` must be finite at the start, got a value or gradient that is not. Start elsewhere or nearer."
        )
    path = None if checkpoint is None else require_path("checkpoint", checkpoint)
    if batches is not None:
        _require_batch(batches(0), loss)
    first = State(0, 0.0, np.nan, net, egrads, tried(rule, egrads, net))
    # a run that a test may end early keeps all at first, and every other of them each time that there are too many
    thinned = keep_every is None and bool(stops) and path is None
    every = 1 if thinned else keep_every or max(1, steps // 100)
    run = Descent(loss, rule, step_size, constant, batches, stops, functions, steps, every, thinned)
    with np.errstate(over="ignore", invalid="ignore"):  # iterates may blow up: the end of the run
        if path is None:
            return run.trajectory(run.go(first, callback))
        return Keeper(run, path, checkpoint_every, keep_every).go(first, callback)


@dataclass(frozen=True)
class State:
    """All that a run is between two updates, but for what it has kept."""

    k: int  #: updates so far
    t: float  #: sum of the steps
    h: float  #: the last step; nan at first
    net: LinearNetwork
    egrads: Sequence[Array] | None  #: of the loss, at `net`; None where batches are taken and nothing has asked
    memory: Memory  #: of the rule
    nfev: int = 1  #: gradients
    status: Status | None = None  #: None while it goes on
    detail: str = ""
    events: Mapping[str, list[float]] = field(default_factory=dict)


@dataclass
class Descent:
    """A run: its arguments, and the rows that it keeps."""

    loss: Loss
    rule: Rule
    step_size: StepSize
    constant: float | None
    batches: Callable[[int], Loss] | None
    stops: tuple[Stop, ...]
    columns: Mapping[str, Callable[[float, Any], Any]]
    steps: int
    keep_every: int
    thinned: bool = False
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ours: bool = is_ours(self.rule)  # others get what they cannot change

    def go(
        self,
        state: State,
        callback: Callable[[Step], None] | None,
        keep: Callable[[State], None] | None = None,
        every: int = 1,
    ) -> State:
        """Return the last state; call `keep` every so many updates, with all that is needed to go on.

        A KeyboardInterrupt is an end too, at the last update that was done; other exceptions take the run along.
        """
        ahead = self.constant * self.steps if self.constant is not None else np.nan
        try:
            while state.status is None:
                if state.k % self.keep_every == 0 or state.k >= self.steps:
                    state = self._kept(state)
                    if callback is not None and state.k and state.status is None:
                        callback(Step(state.t, ahead, state.nfev, self.rows[-1].moment.stationarity))
                if state.status is None:
                    state = self._tested(state)
                if state.status is None:
                    state = self._updated(state)
                    if keep is not None and state.k % every == 0 and state.status is None:
                        keep(state)
        except KeyboardInterrupt:
            return replace(state, status=Status.INTERRUPTED)
        except Exception as error:
            if state.k:
                kept = replace(state, t=self.rows[-1].t)
                hand_over(error, lambda: self.trajectory(state), lambda: self.trajectory(kept))
            raise
        return state

    def _updated(self, state: State) -> State:
        """Return the state after one more update; the same one, with its end, where there is none."""
        k, net = state.k, state.net
        h = self.constant if self.constant is not None else self._step(state)
        if not (h > 0 and np.isfinite(h)):
            return replace(state, status=Status.BAD_STEP, detail=f" `step_size` gave {h:g} at update {k + 1}.")
        nfev = state.nfev
        if self.batches is None:
            egrads = cast(Sequence[Array], state.egrads)
        else:
            egrads, nfev = pulled_back(net, self.batches(k).gradient(net)), nfev + 1
        given, factors = (egrads, net.factors) if self.ours else (frozen(egrads), frozen(net.factors))
        directions, memory = self.rule.directions(k, given, factors, state.memory)
        after = LinearNetwork._trusted([f - h * d for f, d in zip(net.factors, directions, strict=True)])
        found = None
        if self.batches is None:
            found, nfev = pulled_back(after, self.loss.gradient(after)), nfev + 1
        if not np.isfinite(squared_norm(after.factors if found is None else found)):
            good = np.isfinite(squared_norm(egrads)) and not np.isfinite(squared_norm(directions))
            fix = "Look at what `rule` makes of them" if good else "Use a shorter one"
            if not good and isinstance(self.rule, Gradient):
                fix = "Use less than 2 / sharpness(loss, net)"
            why = f" at update {k + 1}, with step {h:g}. {fix}."
            return replace(state, nfev=nfev, status=Status.NOT_FINITE, detail=why)
        t = (k + 1) * h if self.constant is not None else state.t + h
        return State(k + 1, t, h, after, found, memory, nfev)

    def _step(self, state: State) -> float:
        """Return the step of a schedule or a rule; nan where it gives no number."""
        size = self.step_size
        if callable(getattr(size, "at", None)):
            h = cast(StepRule, size).at(state.k, self.loss, state.net, state.h)
        else:
            h = cast(Callable[[int], float], size)(state.k)
        try:
            return validation.require_number("step_size(k)", h)
        except ValueError:  # nan, infinite, zero or negative: what was computed is kept
            return float(h)

    def _tested(self, state: State) -> State:
        """Return the state, with its end where a test or the number of updates says so."""
        if self.stops:
            at = Iterate(
                state.k, state.t, state.net, self.loss, lambda: cast(Sequence[Array], self._full(state).egrads)
            )
            for test in self.stops:
                if _says(test, at):
                    status, name = getattr(test, "status", Status.EVENT), label(test)
                    return replace(state, status=status, detail=f" {name}.", events={name: [state.t]})
            if "egrads" in vars(at):  # what a test has asked for is not computed again
                state = replace(state, egrads=at.egrads, nfev=state.nfev + (state.egrads is None))
        return replace(state, status=Status.FINISHED) if state.k >= self.steps else state

    def _full(self, state: State) -> State:
        """Return the state with the gradients of the loss."""
        if state.egrads is not None:
            return state
        return replace(state, egrads=pulled_back(state.net, self.loss.gradient(state.net)), nfev=state.nfev + 1)

    def _kept(self, state: State) -> State:
        """Keep the iterate, and return the state, over where its loss is not finite."""
        if self.rows and self.rows[-1].t >= state.t:
            return state
        state = self._full(state)
        value, square = float(self.loss.value(state.net)), squared_norm(cast(Sequence[Array], state.egrads))
        if not (np.isfinite(value) and np.isfinite(square)):
            return replace(state, status=Status.NOT_FINITE, detail=f" The loss was {value:g} after {state.k} updates.")
        first = self.rows[0].columns if self.rows else None
        columns = tuple(
            as_column(name, function(state.t, state.net), None if first is None else first[i])
            for i, (name, function) in enumerate(self.columns.items())
        )
        moment = Moment(value, float(np.sqrt(square)), square, singular_values(state.net))
        self.rows.append(Row(state.t, state.net, moment, columns))
        if self.thinned and len(self.rows) > _MANY and state.k % self.keep_every == 0:
            self.rows, self.keep_every = self.rows[::2], 2 * self.keep_every
        return state

    def trajectory(self, state: State) -> Trajectory:
        """Return what the run has kept, and its last iterate."""
        status = state.status or Status.INTERRUPTED
        state = replace(self._kept(state), status=status, detail=state.detail)
        t, points, moments, columns = zip(*self.rows, strict=True)
        loss, stationarity, _, s = zip(*moments, strict=True)
        reason = ("A test ended the run:" if state.events else _REASONS.get(status, status.value)) + state.detail
        how = f"step {self.constant:g}" if self.constant is not None else f"steps {_named(self.step_size)}"
        batches = "" if self.batches is None else f", {_named(self.batches)}"
        return Trajectory(
            np.array(t), np.array(loss), np.array(s), np.array(stationarity), list(points), status,
            f"{reason} {state.k} of {max(self.steps, state.k)} updates.", nfev=state.nfev, nsteps=state.k,
            events=dict(state.events),
            columns=dict(zip(self.columns, map(np.array, zip(*columns, strict=True)), strict=True)),
            method=f"{_named(self.rule)}, {how}{batches}",
        )  # fmt: skip


_MANY = 200  # rows of which every other one is left out

_REASONS = {
    Status.FINISHED: "All updates were made.",
    Status.NOT_FINITE: "The iterates are no longer finite",
}


def _says(test: Stop, at: Iterate) -> bool:
    """Return what a test says."""
    found = test(at)
    try:
        return bool(found)
    except ValueError:
        raise TypeError(f"`stop` tests must return True or False, got {validation.describe(found)}.") from None


def _require_batch(batch: Any, loss: Loss) -> None:
    """Refuse what is no loss of this shape."""
    if not callable(getattr(batch, "gradient", None)) or getattr(batch, "shape", None) != loss.shape:
        got = validation.describe(batch) if not hasattr(batch, "shape") else f"one of shape {batch.shape}"
        raise ValueError(f"`batches(k)` must be a loss of shape {loss.shape}, got {got}.")


def _named(thing: Any) -> str:
    """Return the name of a function, the repr of what has one of its own, or a class."""
    own = type(thing).__repr__ is not object.__repr__
    return getattr(thing, "__name__", None) or (repr(thing) if own else type(thing).__name__)
