"""The record of a run: what was kept, and why it ended.

`flow.integrate` and `descent.gradient_descent` return a `Trajectory`; it can be saved and read again.
"""

from __future__ import annotations

import enum
import json
import numbers
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import OdeSolution

from .. import validation
from .._version import __version__
from ..files import read_arrays, replacing, require_file, write_arrays
from ..flows import Point
from ..markup import html_facts
from ..matrices import LowRankMatrix
from ..validation import Array
from .checkpoint import pack_points, unpack_points
from .passages import Passage

if TYPE_CHECKING:
    import xarray
    from typing_extensions import TypeVar as TypeVarOfAny

    P = TypeVarOfAny("P", bound=Point, default=Any)
else:
    P = TypeVar("P", bound=Point)  # where the flow is

__all__ = ["Dense", "Status", "Step", "Trajectory", "hand_over"]

_SCHEMA = 2  # of the files
_COLUMN = "column_"
_INSTALL = 'Run: pip install "lowrankflow[io]"'

# dimensions, meaning and units of the arrays of a trajectory, for those who meet them in a file
_LABELS = {
    "loss": (("time",), "loss of W", "as normalised by the loss (sum or mean)"),
    "singular_values": (("time", "mode"), "singular values of W, decreasing", "units of W"),
    "stationarity": (("time",), "Frobenius norm of the projected gradient", "units of the loss / units of W"),
    "u": (("time", "row", "mode"), "left singular vectors of W = u diag(s) vt", "1"),
    "s": (("time", "mode"), "singular values of W = u diag(s) vt", "units of W"),
    "vt": (("time", "mode", "column"), "right singular vectors of W = u diag(s) vt", "1"),
}


_SHOWN = 8  #: singular values in a repr


class Status(enum.Enum):
    """Why an integration ended. The value is a sentence for people."""

    CONVERGED = "The stationarity fell below `gtol`."
    FINISHED = "The end of `t_span` was reached."
    EVENT = "A terminal event occurred."
    MAX_EVALUATIONS = "Reached `max_evaluations`. Raise it, loosen `rtol`, or shorten `t_span`."
    RANK_LOST = "A singular value crossed zero."  # the chart says why
    STALLED = (
        "Nothing moves any more, but the stationarity stays above `gtol`: the limit has lower rank, or `gtol` lies"
        " below roundoff. Look at the singular values; lower the rank or raise `gtol`."
    )
    NOT_FINITE = "The velocity or the loss is not finite. Check the loss and its gradient, or start nearer."
    BAD_STEP = "A schedule gave no positive finite step."
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


class Step(NamedTuple):
    """What a `callback` is given after every accepted step. What it raises ends the run, a KeyboardInterrupt as Ctrl-C does."""

    t: float  #: flow time, in the units of the loss
    t_end: float  #: in the same units; nan where it is not known
    nfev: int  #: gradients so far
    stationarity: float  #: nan where ``gtol`` is zero


@dataclass(frozen=True, eq=False)
class Dense:
    """W between the kept times: the interpolants of all steps, and the way from a state to W, which knows no loss."""

    point: Callable[[Array], Any]
    size: int  #: of the state without integrals
    solution: OdeSolution

    def __call__(self, t: float) -> Any:
        return self.point(self.solution(t)[: self.size])


@dataclass(repr=False)
class Trajectory(Generic[P]):
    """The result of `integrate`. Its repr is a summary of a few lines, which a notebook shows as a table.

    For type checkers ``Trajectory[LowRankMatrix]`` is that of a Riemannian flow, ``Trajectory[LinearNetwork]`` that of factors.

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
    points : sequence
        W at those times: LowRankMatrix or LinearNetwork, each made of its coordinates where it is first asked for.
    status : Status
        Why it ended; ``status.converged`` is distinct from ``status.finished``.
    message : str
        The reason with its numbers.
    nfev, nsteps, restarts : int
        Gradient evaluations (all of them), accepted steps, repairs of the chart.
    events : dict
        Name of each event to its times.
    columns : dict
        Name of each integral and column of `Save` to its values at the kept times, (K,) or (K, ...).
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
    points: Sequence[P]  # of one kind, by the flow
    status: Status
    message: str
    nfev: int
    nsteps: int
    restarts: int = 0
    defect: float = 0.0
    events: dict[str, list[float]] = field(default_factory=dict)
    columns: dict[str, Array] = field(default_factory=dict)
    method: str = ""
    passages: list[Passage] = field(default_factory=list)
    _dense: Dense | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return "\n".join([self._title(), *(f"  {name:15}  {text}" for name, text in self._facts())])

    def _repr_html_(self) -> str:
        return html_facts(self._title(), self._facts())

    def _title(self) -> str:
        return f"Trajectory: {self.status.name}"

    def _facts(self) -> list[tuple[str, str]]:
        """Return how the run went, in a line each."""
        lines = {"ended": _cut(self.message)}
        if self.t.size:
            s = " ".join(f"{x:.4g}" for x in self.singular_values[-1][:_SHOWN])
            more = self.singular_values.shape[1] - _SHOWN
            lines |= {
                "t": f"{self.t[0]:g} to {self.t[-1]:g}, {self.t.size} kept",
                "loss": f"{self.loss[0]:.6g} to {self.loss[-1]:.6g}",
                "singular values": f"{s}{f' and {more} smaller' if more > 0 else ''}, at the end",
                "stationarity": f"{self.stationarity[-1]:.3g}, at the end",
            }
        lines["method"] = _cut(self.method or "not known")
        lines["cost"] = f"{self.nfev} gradients, {self.nsteps} steps, {self.restarts} repairs"
        lines["columns"] = _cut(", ".join(self.columns))
        lines["events"] = _cut(", ".join(f"{name} ({len(times)})" for name, times in self.events.items()))
        lines["passages"] = _cut(", ".join(f"t={p.t:.4g}" for p in self.passages))
        return [(name, text) for name, text in lines.items() if text]

    @property
    def dissipated(self) -> Array | None:
        """The column of that name: the integral of g(W', W'), where ``Save(integrals={"dissipated": ...})`` asked for it."""
        return self.columns.get("dissipated")

    @overload
    def __call__(self, t: float) -> P: ...
    @overload
    def __call__(self, t: Sequence[float] | NDArray[Any]) -> list[P]: ...
    def __call__(self, t: Any) -> P | list[P]:
        """Return W at any time of the run; at several times, a list.

        Raises
        ------
        ValueError, TypeError
            If the interpolants were not kept, or a time lies outside the run or is not a number.
        """
        if np.ndim(t) == 1:
            return [self(float(time)) for time in validation.as_vector("t", t)]
        if isinstance(t, np.ndarray) and t.shape == ():
            t = t.item()
        if isinstance(t, bool) or not isinstance(t, numbers.Real):
            raise TypeError(f"`t` must be a number or a vector of them, got {validation.describe(t)}.")
        if self._dense is None:
            raise ValueError("Dense output has not been saved; pass save=Save(dense=True) to integrate.")
        if not self.t[0] <= t <= self.t[-1]:
            raise ValueError(f"`t` must lie within the run [{self.t[0]:g}, {self.t[-1]:g}], got {t:g}.")
        return self._dense(float(t))

    def raise_if_failed(self) -> None:
        """Raise RuntimeError with the reason unless the run ended as it was asked to."""
        if not self.status.finished:
            raise RuntimeError(self.message)

    def at(self, chosen: slice | Sequence[int] | NDArray[Any]) -> Trajectory:
        """Return the trajectory at some of its kept times alone; the interpolants stay.

        Parameters
        ----------
        chosen : slice, or sequence of int or bool
            Their numbers in increasing order, or a mask.

        Raises
        ------
        ValueError
            If it chooses none, or is neither.
        """
        numbers = np.arange(self.t.size)
        try:
            found = numbers[chosen] if isinstance(chosen, slice) else numbers[np.asarray(chosen)]
        except IndexError as error:
            raise ValueError(
                f"`chosen` must be numbers below {self.t.size}, or a mask of that length ({validation.reason(error)})."
            ) from None
        if found.ndim != 1 or not found.size or not (np.diff(found) > 0).all():
            raise ValueError("`chosen` must choose at least one kept time, in increasing order.")
        return self._at(found)

    def _at(self, chosen: NDArray[np.intp]) -> Trajectory:
        series = {name: getattr(self, name)[chosen] for name in ("t", "loss", "singular_values", "stationarity")}
        columns = {name: a[chosen] for name, a in self.columns.items()}
        return replace(self, **series, columns=columns, points=[self.points[i] for i in chosen])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an npz file, atomically. The interpolants of ``Save(dense=True)`` are not written."""
        arrays: dict[str, Any] = {
            "t": self.t,
            "loss": self.loss,
            "singular_values": self.singular_values,
            "stationarity": self.stationarity,
        }
        arrays |= {_COLUMN + name: a for name, a in self.columns.items()}
        arrays |= pack_points(self.points)
        head = {
            "schema": _SCHEMA,
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
            head = json.loads(str(arrays.pop("head")))
            if head["schema"] not in (1, _SCHEMA):
                raise ValueError(f"schema {head['schema']}, not 1 or {_SCHEMA}")
            if "dissipated" in arrays:  # schema 1 had this column alone
                arrays[_COLUMN + "dissipated"] = arrays.pop("dissipated")
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
                columns={k.removeprefix(_COLUMN): a for k, a in arrays.items() if k.startswith(_COLUMN)},
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
        (n) and, between the factors of a network, ``width_1``, ``width_2``, ...; a column of arrays has dimensions of its
        own, ``NAME_dim_1``, ... The attributes of an array say what it is
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
        series = {name: getattr(self, name) for name in ("loss", "singular_values", "stationarity")}
        packed = pack_points(self.points) if points else {}
        arrays = series | {name.removeprefix("points_"): a for name, a in packed.items()} | self.columns
        labels = (
            _LABELS | _factor_labels(self.points) | {name: _column_label(name, a) for name, a in self.columns.items()}
        )
        about = "flow time; a step of gradient descent of size h is time h"
        return xarray.Dataset(
            {name: _labelled(*labels[name], a) for name, a in arrays.items()},
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
        # in memory first: HDF5 does not report a full disk well; given back on an error too, whose traceback would keep it
        with data.to_netcdf(engine="h5netcdf", encoding=exact) as content, replacing(path) as file:
            file.write(content)

    def _attributes(self) -> dict[str, Any]:
        """Return what the run says of itself, as numbers and texts."""
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


def _cut(text: str) -> str:
    """Return a text that fits on a line."""
    return text if len(text) <= 100 else f"{text[:97]}..."


def _labelled(dims: tuple[str, ...], long_name: str, units: str, values: Array) -> tuple[Any, ...]:
    """Return a variable as xarray takes it."""
    return dims, values, {"long_name": long_name, "units": units}


def _column_label(name: str, values: Array) -> tuple[tuple[str, ...], str, str]:
    """Return the dimensions and words of a column that a user asked for; its units are the user's."""
    if name == "dissipated" and values.ndim == 1:
        return ("time",), "integral of g(W', W') from the start", "units of the loss"
    return ("time", *(f"{name}_dim_{i}" for i in range(1, values.ndim))), name, ""


def _factor_labels(points: Sequence[Point]) -> dict[str, tuple[tuple[str, ...], str, str]]:
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


def hand_over(error: Exception, *runs: Callable[[], Trajectory]) -> None:
    """Hang the run so far on what a caller's own function raised, as ``trajectory``, and say so in a note.

    The first of `runs` that can be had: making one may ask the same function again.
    """
    for run in runs:
        if hasattr(error, "trajectory"):
            return
        with suppress(Exception):
            path = error.trajectory = run()  # type: ignore[attr-defined]
            error.add_note(f"The run so far, to t={path.t[-1]:.6g}, is in `trajectory` of this exception.")
