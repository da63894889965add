"""The result of a batch: what each member did, in arrays with one row a member."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..flow import Status, Trajectory
from ..validation import Array
from .stacks import member_number

__all__ = ["Trajectories"]


@dataclass(repr=False)
class Trajectories:
    """The result of `batched.integrate` and `batched.gradient_descent`. Its repr is a summary of a few lines.

    Arrays are numpy's, whatever the run was computed with. Axis 0 counts the R members; axis 1 their K moments: the start,
    the times asked for (of descent, the updates), and the last state, at whatever time a run ended. What a run did not
    reach is nan.

    Attributes
    ----------
    t : ndarray, (R, K)
        Times, in the units of the loss.
    loss : ndarray, (R, K)
        Values.
    singular_values : ndarray, (R, K, k)
        Of W, decreasing.
    stationarity : ndarray, (R, K)
        Frobenius norm of the projected gradient (starts of low rank), or of all factor gradients (networks).
    status : ndarray of Status, (R,)
        Why each run ended.
    nfev, nsteps, restarts : ndarray of int, (R,)
        Gradients, accepted steps (of descent, updates), repairs of the frames.
    columns : dict
        Name of each column to its values, (R, K) or (R, K, ...).
    method : str
        The method.
    final : LowRankMatrices or LinearNetworks
        The last states, in the arrays that the starts came in.
    """

    t: Array
    loss: Array
    singular_values: Array
    stationarity: Array
    status: NDArray[Any]
    nfev: NDArray[np.intp]
    nsteps: NDArray[np.intp]
    restarts: NDArray[np.intp]
    columns: dict[str, Array] = field(default_factory=dict)
    method: str = ""
    _states: Array = field(default_factory=lambda: np.empty((0, 0, 0)))
    _points: Callable[[Array], Any] = np.asarray

    def __len__(self) -> int:
        return len(self.status)

    def __iter__(self) -> Iterator[Trajectory]:
        return (self[i] for i in range(len(self)))

    @property
    def final(self) -> Any:
        """The last states, one stack."""
        return self._points(self._states[:, -1])

    @property
    def finished(self) -> NDArray[np.bool_]:
        """Which runs ended as they were asked to, (R,)."""
        return np.array([status.finished for status in self.status], dtype=bool)

    def counts(self) -> dict[Status, int]:
        """Return how many runs ended in which way, the most frequent first."""
        return dict(Counter(self.status).most_common())

    def raise_if_failed(self) -> None:
        """Raise RuntimeError unless every run ended as it was asked to."""
        failed = np.flatnonzero(~self.finished)
        if failed.size:
            i = int(failed[0])
            raise RuntimeError(
                f"{failed.size} of {len(self)} runs failed. The first, member {i}: {self.status[i].value}"
            )

    def __getitem__(self, i: int) -> Trajectory:
        """Return one member as `lowrankflow.integrate` returns it: the moments that it reached.

        Raises
        ------
        IndexError, ValueError
            If there is no such member, or W was not kept (``points=False``).
        """
        i = member_number(i, len(self))
        if self._states.shape[1] < self.t.shape[1]:
            raise ValueError("`points` must be True for members by their number: W was not kept.")
        at = self._moments(i)
        points = self._points(self._states[i, at])
        status = self.status[i]
        return Trajectory(
            self.t[i, at], self.loss[i, at], self.singular_values[i, at], self.stationarity[i, at],
            [points[j] for j in range(len(at))], status,
            f"{status.value} t={self.t[i, -1]:.6g}, {self.nsteps[i]} steps, {self.nfev[i]} gradients.",
            nfev=int(self.nfev[i]), nsteps=int(self.nsteps[i]), restarts=int(self.restarts[i]),
            columns={name: a[i, at] for name, a in self.columns.items()}, method=self.method,
        )  # fmt: skip

    def _moments(self, i: int) -> NDArray[np.intp]:
        """Return the moments that a member reached, each time once; what overflowed there is none."""
        good = ~np.isnan(self.t[i]) & np.isfinite(self.loss[i]) & np.isfinite(self.stationarity[i])
        good[0] = True
        at = np.flatnonzero(good)
        return at[np.append(np.diff(self.t[i, at]) > 0, True)]

    def __repr__(self) -> str:
        r, k = self.t.shape
        ended = ", ".join(f"{status.name} {count}" for status, count in self.counts().items())
        low, middle, high = (
            np.nanquantile(self.loss[:, -1], (0, 0.5, 1)) if np.isfinite(self.loss[:, -1]).any() else [np.nan] * 3
        )
        lines = {
            "ended": ended,
            "moments": f"{k}, the last at t={np.nanmin(self.t[:, -1]):g} to {np.nanmax(self.t[:, -1]):g}",
            "loss": f"{low:.4g}, median {middle:.4g}, {high:.4g}, at the end",
            "method": self.method,
            "cost": f"{self.nfev.sum()} gradients, {self.nsteps.sum()} steps",
            "columns": ", ".join(self.columns),
        }
        return "\n".join([f"Trajectories: {r} runs", *(f"  {name:8}  {text}" for name, text in lines.items() if text)])
