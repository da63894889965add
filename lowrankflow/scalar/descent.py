r"""Gradient descent on :math:`F(w) = f(w_1 \cdots w_k)`, thousands of networks of scalars at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import validation
from ..validation import Array
from .outer import Outer, as_outer

__all__ = ["Descents", "as_starts", "descend", "others"]

_BLOCK = 32768  # numbers that stay in the cache of a core
_LOW = 1e-280  # a product below has lost digits, or will when it is divided
_TOLD = 256  # updates between two words of progress


@dataclass(frozen=True, eq=False)
class Descents:
    """Where gradient descent came to, run by run.

    Attributes
    ----------
    iterations : ndarray of int, (runs,)
        Updates until the loss was reached; where it was not, those that were made.
    losses : ndarray, (runs,)
        F at the end.
    w : ndarray, (runs, k)
        The end.
    reached : ndarray of bool, (runs,)
        Whether the loss was reached. False is NC, not converged: at the limit, after an interrupt, or diverged.
    diverged : ndarray of bool, (runs,)
        Whether an update led to what is not finite; `w` is the last state before it.
    stop, limit : float, int
        The loss to be reached, and the most updates.
    interrupted : bool
        Whether a KeyboardInterrupt ended it.
    """

    iterations: NDArray[np.int64]
    losses: Array
    w: Array
    reached: NDArray[np.bool_]
    diverged: NDArray[np.bool_]
    stop: float
    limit: int
    interrupted: bool = False

    @property
    def log_iterations(self) -> Array:
        """ln of the iterations; infinite where the loss was not reached, so that medians count those runs."""
        found = np.full(self.iterations.size, np.inf)
        found[self.reached] = np.log(np.maximum(self.iterations[self.reached], 1))
        return found

    def __str__(self) -> str:
        """One line: runs, median, NC."""
        runs, missing = self.reached.size, int((~self.reached).sum())
        middle = float(np.median(np.where(self.reached, self.iterations, np.inf)))
        text = f"{runs} runs to loss {self.stop:g}: median {middle:.6g} iterations, {missing} NC"
        text += f", {int(self.diverged.sum())} of them diverged" if self.diverged.any() else ""
        return text + (", interrupted" if self.interrupted else "")


def as_starts(w: ArrayLike) -> Array:
    """Return networks of scalars as an array (runs, k) of its own; a vector is one network."""
    array = validation.as_real("w", w)
    array = validation.as_matrix("w", array[None] if array.ndim == 1 else array)
    return np.array(array, order="C")


def others(w: Array) -> Array:
    """Return for every j the product of all but the j-th, along the first axis; exact at zeros, no early under- or overflow."""
    m, e = np.frexp(w)
    before, after = np.ones_like(m), np.ones_like(m)
    left, right = np.zeros(e.shape, np.int64), np.zeros(e.shape, np.int64)  # powers of two taken out
    for j in range(1, len(w)):
        before[j], left[j] = np.frexp(before[j - 1] * m[j - 1])
        after[-1 - j], right[-1 - j] = np.frexp(after[-j] * m[-j])
    lift = np.cumsum(left, axis=0) + np.cumsum(right[::-1], axis=0)[::-1] + e.sum(axis=0) - e
    return np.ldexp(before * after, np.clip(lift, -3000, 3000).astype(np.int32))


class _State(NamedTuple):
    """All that a block is between two updates: replaced whole, so that an interrupt finds one or the next."""

    t: int
    w: Array  #: (k, runs)
    of: NDArray[np.int64]  #: which runs they are
    h: Array | float


def descend(
    w: ArrayLike,
    f: Outer | tuple[Callable[[Any], Any], Callable[[Any], Any]],
    *,
    step_size: ArrayLike,
    stop: float,
    limit: int = 1_000_000,
    progress: Callable[[str, float], None] | None = None,
) -> Descents:
    r"""Run gradient descent :math:`w_j \leftarrow w_j - h f'(p) \prod_{i \ne j} w_i`, :math:`p = \prod_i w_i`, of many networks.

    Each run ends at the first iterate with :math:`f(p) \le` `stop`, and leaves the array. The products are p / w_j where
    no digit is lost by that; where a coordinate is 0 or p is below 1e-280 or not finite they are multiplied out.

    Parameters
    ----------
    w : array_like, (runs, k) or (k,)
        The starts.
    f : Outer, or pair of callables
        `Square`, `Logistic`, or (value, derivative), functions of arrays.
    step_size : float or array_like, (runs,)
        h, positive.
    stop : float
        The loss at which a run ends.
    limit : int
        The most updates a run.
    progress : callable, optional
        Told what is being done and the fraction of the whole that is done.

    Returns
    -------
    Descents
        With what was reached until then after a KeyboardInterrupt.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks its rule, or the loss at a start is not finite.

    Notes
    -----
    About 1e8 coordinates a second and core and more from 1000 runs on (``python benchmarks/scalar.py``).

    Examples
    --------
    >>> from lowrankflow.scalar import Square, start
    >>> found = descend(start("xavier", 4, 100, rng=0), Square(-1.0), step_size=1e-2, stop=0.1)
    >>> print(found)
    100 runs to loss 0.1: median 99.5 iterations, 0 NC
    """
    starts, f = as_starts(w), as_outer(f)
    runs = len(starts)
    limit = validation.require_integer("limit", limit, low=1)
    stop = validation.require_finite_number("stop", stop)
    validation.require_callable("progress", progress)
    h = validation.as_real("step_size", step_size).astype(float)
    if h.ndim:
        h = validation.as_vector("step_size", h, runs)
    if not (np.isfinite(h).all() and (h > 0).all()):
        raise ValueError(f"`step_size` must be positive and finite, got {float(h.min()):g}.")
    with np.errstate(all="ignore"):
        first = np.array(f.value(np.multiply.reduce(starts, axis=1)))
    if not np.isfinite(first).all():
        raise ValueError(f"`w` must have a finite loss at every start, got run {int(np.argmin(np.isfinite(first)))}.")
    found = Descents(
        np.zeros(runs, np.int64), first, starts, first <= stop, np.zeros(runs, bool), stop, limit
    )  # fmt: skip
    parts = max(1, round(starts.size / _BLOCK))
    try:
        with np.errstate(all="ignore"):  # what diverges is marked
            for block in np.array_split(np.arange(runs), parts):
                of = block[~found.reached[block]]
                _block(found, of, h, f, partial(_tell, progress, int(block[-1]) + 1 - of.size, runs))
    except KeyboardInterrupt:
        return replace(found, interrupted=True)
    return found


def _tell(progress: Callable[[str, float], None] | None, before: int, runs: int, done: float) -> None:
    if progress is not None:
        progress("gradient descent", (before + done) / runs)


def _block(found: Descents, of: NDArray[np.int64], h: Array, f: Outer, tell: Callable[[float], None]) -> None:
    """Bring runs to their ends, in arrays that fit the cache; after an interrupt `found` has where they are."""
    stop, limit, size = found.stop, found.limit, of.size
    state = _State(0, np.ascontiguousarray(found.w[of].T), of, h[of] if h.ndim else float(h))
    spare = np.empty_like(state.w)  # the state before, or the next one on its way
    try:
        while state.of.size:
            t, w, of, step = state
            p = np.multiply.reduce(w, axis=0)
            value = f.value(p)
            alive = (value > stop) & (value < np.inf)
            if t == limit or not alive.all():
                out = ~alive if t < limit else np.ones(of.size, bool)
                _settle(found, state, out, value, spare, f)
                w = np.ascontiguousarray(w[:, ~out])
                state = _State(t, w, of[~out], step[~out] if isinstance(step, np.ndarray) else step)
                spare = np.empty_like(w)
                tell(size - state.of.size * (1 - t / limit))
                continue
            slope = step * f.derivative(p)
            np.divide(slope * p, w, out=spare)
            bulk = np.abs(p)
            if not (bulk.min() >= _LOW and bulk.max() < np.inf):
                lossy = ~((bulk >= _LOW) & (bulk < np.inf))
                spare[:, lossy] = slope[lossy] * others(w[:, lossy])
            np.subtract(w, spare, out=spare)
            state, spare = _State(t + 1, spare, of, step), w
            if t % _TOLD == 0:
                tell(size - of.size * (1 - t / limit))
    except KeyboardInterrupt:
        value = f.value(np.multiply.reduce(state.w, axis=0))
        _settle(found, state, np.ones(state.of.size, bool), value, spare, f)
        raise


def _settle(found: Descents, state: _State, out: NDArray[np.bool_], value: Array, before: Array, f: Outer) -> None:
    """Write down the runs that are over; of those that diverged the state before."""
    of, w, value = state.of[out], state.w[:, out], value[out]
    bad = ~(np.isfinite(value) & np.isfinite(w).all(axis=0))
    if bad.any() and before is not state.w:
        w[:, bad] = before[:, out][:, bad]
        value = np.where(bad, f.value(np.multiply.reduce(w, axis=0)), value)
    found.w[of], found.losses[of] = w.T, value
    found.iterations[of] = state.t - bad
    found.diverged[of], found.reached[of] = bad, ~bad & (value <= found.stop)
