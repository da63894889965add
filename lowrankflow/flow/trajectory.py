"""The record of a run: what was kept, and why it ended.

`flow.integrate` and `descent.gradient_descent` return a `Trajectory`; it can be saved and read again.
"""

from __future__ import annotations

import enum
import json
import numbers
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import validation
from ..files import read_arrays, replacing, require_file, write_arrays
from ..matrices import LinearNetwork, LowRankMatrix
from ..validation import Array
from .checkpoint import pack_points, unpack_points

if TYPE_CHECKING:
    import xarray

__all__ = ["Moment", "Passage", "Progress", "Status", "Trajectory", "saddle_passages", "singular_values"]

_INSTALL = 'Run: pip install "lowrankflow[io]"'

# dimensions, meaning and units of the arrays of a trajectory, for those who meet them in a file
_LABELS = {
    "loss": (("time",), "loss of W", "as normalised by the loss (sum or mean)"),
    "singular_values": (("time", "mode"), "singular values of W, decreasing", "units of W"),
    "stationarity": (("time",), "Frobenius norm of the projected gradient", "units of the loss / units of W"),
    "dissipated": (("time",), "integral of g(W', W') from the start", "units of the loss"),
    "u": (("time", "row", "mode"), "left singular vectors of W = u diag(s) vt", "1"),
    "s": (("time", "mode"), "singular values of W = u diag(s) vt", "units of W"),
    "vt": (("time", "mode", "column"), "right singular vectors of W = u diag(s) vt", "1"),
}


class Status(enum.Enum):
    """Why an integration ended. The value is a sentence for people."""

    CONVERGED = "The stationarity fell below `gtol`."
    FINISHED = "The end of `t_span` was reached."
    EVENT = "A terminal event occurred."
    MAX_EVALUATIONS = "Reached `max_evaluations`. Raise it, loosen rtol, or shorten t_span."
    RANK_LOST = (
        "A singular value crossed zero: the flow left the manifold, or `rtol` is too coarse for a value so small."
        " Lower the rank, stop earlier or lower `rtol`."
    )
    STALLED = (
        "Nothing moves any more, but the stationarity stays above `gtol`: the limit has lower rank, or `gtol` lies"
        " below roundoff. Look at the singular values; lower the rank or raise `gtol`."
    )
    NOT_FINITE = "The velocity is not finite. Check the loss and its gradient, or start nearer."
    STEP_TOO_SMALL = "The step fell below roundoff. Loosen rtol, or use a method for stiff problems such as RKC."
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


class Passage(NamedTuple):
    """A saddle that a flow went by: the loss stood almost still, then fell on."""

    t: float  #: when it fell most slowly
    loss: float
    rank: int  #: effective rank: the singular values that have been learned


class Moment(NamedTuple):
    """The numbers of a state: one value and one gradient of the loss."""

    loss: float
    stationarity: float
    power: float  #: -dL/dt
    singular_values: Array


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
    method : str
        The method; with "auto", which ones, from when, and why.
    passages : list of Passage
        Saddles on the way, see `saddle_passages`; from the states that were looked at: all accepted steps, unless
        neither ``save`` nor ``gtol`` asks for them.
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
    method: str = ""
    passages: list[Passage] = field(default_factory=list)
    _dense: Callable[[float], Any] | None = field(default=None, repr=False)

    def __call__(self, t: float) -> Any:
        """Return W at any time of the run.

        Raises
        ------
        ValueError, TypeError
            If the interpolants were not kept, or `t` lies outside the run or is not a number.
        """
        if isinstance(t, bool) or not isinstance(t, numbers.Real):
            raise TypeError(f"`t` must be a number, got {validation.describe(t)}.")
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
        arrays |= pack_points(self.points)
        head = {
            "schema": 1,
            "status": self.status.name,
            "message": self.message,
            "nfev": self.nfev,
            "nsteps": self.nsteps,
            "restarts": self.restarts,
            "defect": self.defect,
            "events": self.events,
            "method": self.method,
            "passages": self.passages,
        }
        arrays["head"] = np.array(json.dumps(head))
        write_arrays(path, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trajectory:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If the file does not exist, is damaged, or is not a trajectory.
        """
        file = require_file("path", path)
        try:
            arrays = read_arrays(file)
            if "sha256" in arrays:
                raise ValueError("a checkpoint, for integrate(..., checkpoint=)")
            head = json.loads(str(arrays.pop("head")))
            lengths = {name: len(a) for name, a in arrays.items()}
            if len(set(lengths.values())) != 1 or not lengths["t"]:
                raise ValueError(f"its arrays differ in length: {lengths}")
            return cls(
                t=arrays["t"],
                loss=arrays["loss"],
                singular_values=arrays["singular_values"],
                stationarity=arrays["stationarity"],
                points=unpack_points(arrays),
                status=Status[head["status"]],
                message=head["message"],
                nfev=head["nfev"],
                nsteps=head["nsteps"],
                restarts=head["restarts"],
                defect=head["defect"],
                events=head["events"],
                dissipated=arrays.get("dissipated"),
                method=head.get("method", ""),
                passages=[Passage(*p) for p in head.get("passages", [])],
            )
        except Exception as error:
            raise ValueError(
                f"`path` must be a trajectory written by Trajectory.save, got {str(file)!r}"
                f" ({validation.reason(error)})."
            ) from None

    def to_xarray(self, *, points: bool = True) -> xarray.Dataset:
        """Return labelled arrays: all but the interpolants.

        Dimensions are ``time`` (its coordinate: the kept times), ``mode`` (k singular values), ``row`` (m), ``column``
        (n) and, between the factors of a network, ``width_1``, ``width_2``, ... The attributes of an array say what it is
        and in which units; those of the data set, how and why the run ended, with `events` and `passages` as JSON.

        Parameters
        ----------
        points : bool
            Include W: ``u`` (K, m, k), ``s`` (K, k) and ``vt`` (K, k, n), or the factors ``W1`` (K, d_1, n) to ``WN``.

        Raises
        ------
        ImportError
            If xarray is not installed.
        ValueError
            If the points differ in shape or rank.
        """
        try:
            import xarray
        except ImportError:
            raise ImportError(f"`to_xarray` needs xarray. {_INSTALL}") from None
        series = {name: getattr(self, name) for name in ("loss", "singular_values", "stationarity", "dissipated")}
        packed = pack_points(self.points) if points else {}
        arrays = series | {name.removeprefix("points_"): a for name, a in packed.items()}
        labels = _LABELS | _factor_labels(self.points)
        about = "flow time; a step of gradient descent of size h is time h"
        return xarray.Dataset(
            {name: _labelled(*labels[name], a) for name, a in arrays.items() if a is not None},
            coords={"time": _labelled(("time",), about, "flow time, by the units of the loss", self.t)},
            attrs=self._attributes(),
        )

    def to_netcdf(self, path: str | os.PathLike[str], *, points: bool = True) -> None:
        """Write `to_xarray` as a NetCDF-4 file, atomically.

        ``xarray.open_dataset(path, engine="h5netcdf")`` gives equal arrays, as does any other reader of NetCDF-4.

        Parameters
        ----------
        path : path of a file
            Replaced whole, where it exists.
        points : bool
            Include W at the kept times.

        Raises
        ------
        ImportError
            If xarray, h5netcdf or h5py is not installed.
        ValueError
            If the path cannot be written, or the points differ in shape or rank.
        OSError
            If writing fails, for instance on a full disk; the old file is then untouched.

        Notes
        -----
        The file is made in memory first: HDF5 does not report a full disk in a way that a program survives.
        """
        try:
            import h5netcdf  # noqa: F401
            import h5py  # noqa: F401
            import xarray  # noqa: F401
        except ImportError:
            raise ImportError(f"`to_netcdf` needs xarray, h5netcdf and h5py. {_INSTALL}") from None
        data = self.to_xarray(points=points)
        exact = {name: {"_FillValue": None} for name in data.variables}  # NaN is a value here, not a gap
        content = data.to_netcdf(engine="h5netcdf", encoding=exact)
        with replacing(path) as file:
            file.write(content)

    def _attributes(self) -> dict[str, Any]:
        """Return what the run says of itself, as numbers and texts."""
        from .._version import __version__

        return {
            "title": "lowrankflow trajectory",
            "source": f"lowrankflow {__version__}",
            "status": self.status.name,
            "message": self.message,
            "method": self.method,
            "nfev": self.nfev,
            "nsteps": self.nsteps,
            "restarts": self.restarts,
            "defect": self.defect,
            "events": json.dumps(self.events),
            "passages": json.dumps([p._asdict() for p in self.passages]),
        }


_RESOLUTION = 1e-3  # of the whole fall of the loss
_PROMINENCE = 10.0  # a saddle slows the fall of the loss this many times on both sides


def saddle_passages(trace: Sequence[tuple[float, Moment]]) -> list[Passage]:
    """Return the saddles that a flow went by.

    Near a critical point the loss falls slowly: -dL/dt = g(W', W') vanishes there. A passage is a
    minimum of it in time from which it rises tenfold, having fallen tenfold before, or since the start.
    Saddles between which the loss falls by less than a thousandth of its whole fall are not told apart: close to one,
    -dL/dt is so small that it shows the noise of the solver. The effective rank counts the singular values
    that have been learned: above half of their own largest value in the trace, which has to be ten times their first
    one, or a tenth of the largest of all.

    Parameters
    ----------
    trace : sequence of (t, Moment)
        States in order of time.
    """
    least_fall = _RESOLUTION * (trace[0][1].loss - trace[-1][1].loss)
    largest = np.max([moment.singular_values for _, moment in trace], axis=0)
    learnable = (largest >= 10 * trace[0][1].singular_values) | (largest >= largest.max() / 10)
    found: list[tuple[float, Moment]] = []
    falling, low, high = True, trace[0], trace[0]
    for state in trace:
        power = state[1].power
        if falling:
            low = state if power < low[1].power else low
            if power > _PROMINENCE * low[1].power:
                if found and found[-1][1].loss - low[1].loss <= least_fall:  # the same saddle, seen through noise
                    low = min(found.pop(), low, key=lambda at: at[1].power)
                found.append(low)
                falling, high = False, state
        else:
            high = state if power > high[1].power else high
            if power < high[1].power / _PROMINENCE:
                falling, low = True, state
    end = trace[-1][1].loss
    return [
        Passage(t, moment.loss, int((learnable & (moment.singular_values > largest / 2)).sum()))
        for t, moment in found
        if moment.loss - end > least_fall
    ]


def _labelled(dims: tuple[str, ...], long_name: str, units: str, values: Array) -> tuple[Any, ...]:
    """Return a variable as xarray takes it."""
    return dims, values, {"long_name": long_name, "units": units}


def _factor_labels(points: list[Any]) -> dict[str, tuple[tuple[str, ...], str, str]]:
    """Return the labels of the factors of networks, and what stationarity means along their flow."""
    if not points or isinstance(points[0], LowRankMatrix):
        return {}
    n = points[0].depth
    sizes = ["column", *(f"width_{j}" for j in range(1, n)), "row"]
    factors = {
        f"W{j}": (("time", sizes[j], sizes[j - 1]), f"factor {j} of {n} of W = W{n} ... W1", "units of a factor")
        for j in range(1, n + 1)
    }
    norm = "Frobenius norm of the gradients of all factors", "units of the loss / units of a factor"
    return {**factors, "stationarity": (("time",), *norm)}


def singular_values(w: LowRankMatrix | LinearNetwork) -> Array:
    """Return the singular values of W, as many as its inner size."""
    if isinstance(w, LowRankMatrix):
        return w.s
    left, right = w.split()
    k = min(left.shape[1], *w.shape)
    if left.shape[1] < min(w.shape):
        left, right = np.linalg.qr(left)[1], np.linalg.qr(right.T)[1].T
    return np.asarray(np.linalg.svd(left @ right, compute_uv=False)[:k])
