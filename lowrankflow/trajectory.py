"""The record of a run: what was kept, and why it ended.

`flow.integrate` and `descent.gradient_descent` return a `Trajectory`; it can be saved and read again.
"""

from __future__ import annotations

import enum
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from . import validation
from .files import replacing
from .matrices import LinearNetwork, LowRankMatrix
from .validation import Array

__all__ = ["Progress", "Status", "Trajectory", "singular_values"]


class Status(enum.Enum):
    """Why an integration ended. The value is a sentence for people."""

    CONVERGED = "The stationarity fell below `gtol`."
    FINISHED = "The end of `t_span` was reached."
    EVENT = "A terminal event occurred."
    MAX_EVALUATIONS = "Reached `max_evaluations`. Raise it, loosen rtol, or shorten t_span."
    RANK_LOST = "A singular value crossed zero: the flow left the manifold. Lower the rank or stop earlier."
    NOT_FINITE = "The velocity is not finite. Check the loss and its gradient, or start nearer."
    STEP_TOO_SMALL = "The step fell below roundoff. Loosen rtol, or use a stiff method such as Radau."
    INTERRUPTED = "Interrupted; what was computed is kept."

    @property
    def converged(self) -> bool:
        """Whether a critical point was reached (not only the end of time)."""
        return self is Status.CONVERGED

    @property
    def finished(self) -> bool:
        """Whether the run ended as it was asked to: at a critical point, an event, or the end of time."""
        return self in (Status.CONVERGED, Status.FINISHED, Status.EVENT)


class Progress(NamedTuple):
    """What a callback is given after every accepted step."""

    t: float
    t_end: float
    nfev: int
    stationarity: float  #: nan where ``gtol`` is zero


@dataclass
class Trajectory:
    """The result of `integrate`.

    Attributes
    ----------
    t : ndarray, (K,)
        Kept times, in the units of the loss (flow time; a step of gradient descent of size h is time h).
    loss : ndarray, (K,)
        Values, in the normalisation of the loss.
    singular_values : ndarray, (K, k)
        Singular values of W, decreasing; k the rank, or the narrowest width of a network.
    stationarity : ndarray, (K,)
        Frobenius norm of the projected gradient (Riemannian flow), or of all factor gradients (factor flow).
    points : list
        W at those times: LowRankMatrix or LinearNetwork.
    status : Status
        Why it ended; ``status.converged`` is distinct from ``status.finished``.
    message : str
        The reason with its numbers.
    nfev, nsteps, restarts : int
        Gradient evaluations (all of them), accepted steps, repairs of the chart.
    events : dict
        Name of each event to its times.
    dissipated : ndarray, (K,) or None
        Integral of g(W', W'), if asked for.
    """

    t: Array
    loss: Array
    singular_values: Array
    stationarity: Array
    points: list[Any]
    status: Status
    message: str
    nfev: int
    nsteps: int
    restarts: int = 0
    defect: float = 0.0
    events: dict[str, list[float]] = field(default_factory=dict)
    dissipated: Array | None = None
    _dense: Callable[[float], Any] | None = field(default=None, repr=False)

    def __call__(self, t: float) -> Any:
        """Return W at any time of the run.

        Raises
        ------
        ValueError
            If the interpolants were not kept, or `t` lies outside the run.
        """
        if self._dense is None:
            raise ValueError("Dense output has not been saved; pass save=Save(dense=True) to integrate.")
        if not self.t[0] <= t <= self.t[-1]:
            raise ValueError(f"`t` must lie within the run [{self.t[0]:g}, {self.t[-1]:g}], got {t:g}.")
        return self._dense(float(t))

    def raise_if_failed(self) -> None:
        """Raise RuntimeError with the reason unless the run ended as it was asked to."""
        if not self.status.finished:
            raise RuntimeError(self.message)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an npz file, atomically. The interpolants of ``Save(dense=True)`` are not written."""
        arrays: dict[str, Any] = {
            "t": self.t,
            "loss": self.loss,
            "singular_values": self.singular_values,
            "stationarity": self.stationarity,
        }
        if self.dissipated is not None:
            arrays["dissipated"] = self.dissipated
        first = self.points[0]
        if isinstance(first, LowRankMatrix):
            for name in ("u", "s", "vt"):
                arrays[f"points_{name}"] = np.stack([getattr(w, name) for w in self.points])
        else:
            for j in range(first.depth):
                arrays[f"points_W{j + 1}"] = np.stack([w.factors[j] for w in self.points])
        head = {
            "schema": 1,
            "status": self.status.name,
            "message": self.message,
            "nfev": self.nfev,
            "nsteps": self.nsteps,
            "restarts": self.restarts,
            "defect": self.defect,
            "events": self.events,
        }
        arrays["head"] = np.array(json.dumps(head))
        with replacing(path) as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trajectory:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If the file does not exist, is damaged, or is not a trajectory.
        """
        file = validation.check_file("path", path)
        try:
            # a stream of our own: np.load leaves a damaged archive open
            with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as data:
                arrays = {name: data[name] for name in data.files}
            head = json.loads(str(arrays.pop("head")))
            lengths = {name: len(a) for name, a in arrays.items()}
            if len(set(lengths.values())) != 1 or not lengths["t"]:
                raise ValueError(f"its arrays differ in length: {lengths}")
            if "points_u" in arrays:
                frames = zip(arrays["points_u"], arrays["points_s"], arrays["points_vt"], strict=True)
                points: list[Any] = [LowRankMatrix._trusted(*w) for w in frames]
            else:
                names = sorted((k for k in arrays if k.startswith("points_W")), key=lambda k: int(k[8:]))
                points = [LinearNetwork._trusted(w) for w in zip(*(arrays[k] for k in names), strict=True)]
            return cls(
                t=arrays["t"],
                loss=arrays["loss"],
                singular_values=arrays["singular_values"],
                stationarity=arrays["stationarity"],
                points=points,
                status=Status[head["status"]],
                message=head["message"],
                nfev=head["nfev"],
                nsteps=head["nsteps"],
                restarts=head["restarts"],
                defect=head["defect"],
                events=head["events"],
                dissipated=arrays.get("dissipated"),
            )
        except Exception as error:
            why = str(error).split(". ")[0].rstrip(".")
            raise ValueError(
                f"`path` must be a trajectory written by Trajectory.save, got {str(file)!r} ({why})."
            ) from None


def singular_values(w: LowRankMatrix | LinearNetwork) -> Array:
    """Return the singular values of W, as many as its inner size."""
    if isinstance(w, LowRankMatrix):
        return w.s
    left, right = w.split()
    k = min(left.shape[1], *w.shape)
    if left.shape[1] < min(w.shape):
        left, right = np.linalg.qr(left)[1], np.linalg.qr(right.T)[1].T
    return np.asarray(np.linalg.svd(left @ right, compute_uv=False)[:k])
