"""The results of a sweep, as arrays whose axes are those of the grid."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import validation
from .._version import __version__
from ..files import replacing
from .axes import Axis
from .folders import Folder
from .grids import Grid, Job

if TYPE_CHECKING:
    import xarray

__all__ = ["Results", "Variable", "open_results"]

_STATES = ("missing", "done", "failed")
_INSTALL = 'Run: pip install "lowrankflow[io]"'
Values = NDArray[Any]


class Variable(NamedTuple):
    """An array with names for its dimensions."""

    dims: tuple[str, ...]
    values: Values


class Results:
    """What the jobs of a grid gave, so far.

    Attributes
    ----------
    grid : Grid
    values : dict of arrays
        By name, of the shape of the grid; of what is itself an array, with its dimensions behind. Where there is no result
        numbers are nan and texts empty. ``seconds`` is what a job took.
    dims : dict of tuples
        By name, what the dimensions are called.
    state : ndarray of the shape of the grid
        0 missing, 1 done, 2 failed.
    errors : dict
        By the number of a job, what it failed of.
    torn : int
        Bytes at the ends of files that are no whole record: of a job that is being written, or that was when its worker died.
    """

    grid: Grid
    errors: dict[int, str]
    torn: int
    state: NDArray[Any]

    def __init__(
        self, grid: Grid, columns: Mapping[str, _Column], state: Values, errors: Mapping[int, str], torn: int = 0
    ) -> None:
        self.grid, self.errors, self.torn = grid, dict(errors), torn
        self.state = state.reshape(grid.shape)
        self.values: dict[str, Values] = {}
        self.dims: dict[str, tuple[str, ...]] = {}
        inner = _inner(grid)
        for name, column in columns.items():
            flat = column.array()
            self.values[name] = flat.reshape((*grid.shape, *flat.shape[1:]))
            more = tuple(f"{name}_dim_{i}" for i in range(1, flat.ndim))
            if more and inner is not None and flat.shape[1] == len(inner[1]):
                more = (inner[0], *more[1:])
            self.dims[name] = (*(axis.name for axis in grid.axes), *more)

    def count(self, state: str) -> int:
        """Return how many jobs are "missing", "done" or "failed"."""
        return int((self.state == _STATES.index(validation.require_choice("state", state, _STATES))).sum())

    def job(self, number: int) -> Job:
        """Return a job by its number."""
        return self.grid.job(number)

    @property
    def complete(self) -> bool:
        """Whether every job has a result."""
        return bool((self.state == 1).all())

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{self.count(s)} {s}" for s in ("done", "failed", "missing") if s == "done" or self.count(s)
        )
        axes = " x ".join(f"{axis.name} {len(axis)}" for axis in self.grid.axes) or "one job"
        why = f"; job {min(self.errors)}: {self.errors[min(self.errors)]}" if self.errors else ""
        return f"Results of {self.grid.size} jobs ({axes}): {counts}; {', '.join(self.values) or 'no values'}{why}"

    # -- what they stand on ----------------------------------------------------------------------

    def coordinates(self) -> dict[str, Variable]:
        """Return the values of the fields that vary, each along the dimension of its axis, and the times of a run."""
        found: dict[str, Variable] = {}
        for axis in self.grid.axes:
            for field in axis.fields:
                if not field.startswith("sha256."):
                    found[field] = Variable((axis.name,), _labels(axis, field))
        inner = _inner(self.grid)
        if inner is not None and any(inner[0] in dims for dims in self.dims.values()):
            found[inner[0]] = Variable((inner[0],), np.array(inner[1]))
        return found

    def _labels(self) -> dict[str, str]:
        """Return what results are called beside the axes: NAME_found where an axis has their name, as the loss may."""
        fields = {field for axis in self.grid.axes for field in (axis.name, *axis.fields)}
        return {name: f"{name}_found" if name in fields else name for name in self.values}

    # -- files -----------------------------------------------------------------------------------

    def rows(self) -> Iterator[list[Any]]:
        """Yield a row of names, then one for every job: its fields, its state, its values, its error."""
        fields = [(k, f) for k, axis in enumerate(self.grid.axes) for f in axis.fields if not f.startswith("sha256.")]
        shown = [[_text(v) for v in self.grid.axes[k].column(f)] for k, f in fields]
        columns, heads, labels = [], [], self._labels()
        for name, array in self.values.items():
            flat = array.reshape(self.grid.size, -1)
            more = array.shape[len(self.grid.shape) :]
            heads += [labels[name] + "".join(f"_{i}" for i in at) for at in np.ndindex(*more)]
            columns += [flat[:, k].tolist() for k in range(flat.shape[1])]
        yield [*(f for _, f in fields), "state", *heads, "error"]
        states = self.state.ravel().tolist()
        for number, at in enumerate(np.ndindex(*self.grid.shape)):
            own = [texts[at[k]] for (k, _), texts in zip(fields, shown, strict=True)]
            yield [*own, _STATES[states[number]], *(c[number] for c in columns), self.errors.get(number, "")]

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a table of text, a line for every job, whole or not at all.

        Raises
        ------
        ValueError, OSError
            If it cannot be written.
        """
        with replacing(path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            csv.writer(text).writerows(self.rows())
            text.flush()
            text.detach()

    def to_xarray(self) -> xarray.Dataset:
        """Return one data set whose coordinates are the axes of the grid.

        Raises
        ------
        ImportError
            If xarray is not installed.
        """
        try:
            import xarray
        except ImportError:
            raise ImportError(f"`to_xarray` needs xarray. {_INSTALL}") from None
        own = tuple(axis.name for axis in self.grid.axes)
        told = {"long_name": "state of the job", "flag_values": [0, 1, 2], "flag_meanings": " ".join(_STATES)}
        arrays: dict[str, Any] = {
            self._labels()[name]: (self.dims[name], values) for name, values in self.values.items()
        }
        errors = np.full(self.grid.size, "", dtype=object)
        errors[list(self.errors)] = list(self.errors.values())
        arrays |= {"state": (own, self.state, told), "error": (own, errors.reshape(self.grid.shape))}
        attributes = {
            "title": "lowrankflow sweep", "source": f"lowrankflow {__version__}", "function": self.grid.function,
            "fixed": json.dumps(dict(self.grid.fixed)),
        }  # fmt: skip
        coordinates = {name: (variable.dims, variable.values) for name, variable in self.coordinates().items()}
        return xarray.Dataset(arrays, coords=coordinates, attrs=attributes)

    def to_netcdf(self, path: str | os.PathLike[str]) -> None:
        """Write `to_xarray` as a NetCDF-4 file, whole or not at all.

        Raises
        ------
        ImportError
            If xarray, h5netcdf or h5py is not installed.
        ValueError, OSError
            If it cannot be written.
        """
        try:
            import h5netcdf  # noqa: F401
            import h5py  # noqa: F401
            import xarray  # noqa: F401
        except ImportError:
            raise ImportError(f"`to_netcdf` needs xarray, h5netcdf and h5py. {_INSTALL}") from None
        data = self.to_xarray()
        exact = {name: {"_FillValue": None} for name, v in data.variables.items() if v.dtype.kind == "f"}
        # in memory first: HDF5 does not report a full disk well; given back on an error too, whose traceback would keep it
        with data.to_netcdf(engine="h5netcdf", encoding=exact) as content, replacing(path) as file:
            file.write(content)


def open_results(out: str | os.PathLike[str]) -> Results:
    """Return the results in the folder of a sweep, whether it is finished or not.

    Parameters
    ----------
    out : path
        The folder.

    Returns
    -------
    Results

    Raises
    ------
    ValueError
        If it is not the folder of a sweep, or of one of another version.
    """
    folder = Folder.of(out)
    grid = folder.grid
    number_of: dict[bytes, int] = {}
    same: list[tuple[int, int]] = []  # of samples that are the same job
    for number, key in enumerate(grid.keys()):
        first = number_of.setdefault(key, number)
        if first != number:
            same.append((number, first))
    state = np.zeros(grid.size, dtype=np.int8)
    columns: dict[str, _Column] = {}
    errors: dict[int, str] = {}
    for record in folder.shards.records():
        found = number_of.get(record.key)
        if found is None or state[found] == 1:  # of a grid with fewer values, or done twice
            continue
        values = record.values()
        if record.done:
            state[found] = 1
            errors.pop(found, None)
        else:
            state[found], errors[found] = 2, values.pop("error")
        for name, value in values.items():
            if name not in columns:
                columns[name] = _Column(grid.size)
            columns[name].put(found, value)
    for number, first in same:
        state[number] = state[first]
        for column in columns.values():
            column.copy(number, first)
        if first in errors:
            errors[number] = errors[first]
    return Results(grid, columns, state, errors, sum(folder.shards.torn.values()))


class _Column:
    """Values by the number of their job: numbers in an array of them, anything else as it comes."""

    def __init__(self, size: int) -> None:
        self._numbers = np.full(size, math.nan)
        self._others: dict[int, Any] = {}  # texts, lists
        self._whole = True

    def put(self, number: int, value: Any) -> None:
        if isinstance(value, (str, list)):
            self._others[number] = value
        else:
            self._numbers[number] = value
            self._whole = self._whole and isinstance(value, int)

    def copy(self, number: int, first: int) -> None:
        self._numbers[number] = self._numbers[first]
        if first in self._others:
            self._others[number] = self._others[first]

    def array(self) -> Values:
        """Return an array with the jobs along its first axis."""
        if not self._others:
            whole = self._whole and np.isfinite(self._numbers).all() and (abs(self._numbers) < 2**53).all()
            return self._numbers.astype(np.int64) if whole else self._numbers
        if all(isinstance(v, list) and not _holds_text(v) for v in self._others.values()):
            return self._stacked(math.nan, np.float64)
        if all(isinstance(v, list) for v in self._others.values()):
            return self._stacked("", object)
        texts = np.full(self._numbers.size, "", dtype=object)
        for known in np.flatnonzero(~np.isnan(self._numbers)):
            texts[known] = f"{self._numbers[known]:g}"
        for number, value in self._others.items():
            texts[number] = value if isinstance(value, str) else json.dumps(value)
        return texts

    def _stacked(self, empty: Any, kind: Any) -> Values:
        """Return lists side by side, the shorter ones filled up; a single number as a list of one."""
        lists = {n: np.array(v, dtype=kind) for n, v in self._others.items()}
        lists |= {int(n): np.array([self._numbers[n]]) for n in np.flatnonzero(~np.isnan(self._numbers))}
        ndim = max(a.ndim for a in lists.values())
        lists = {n: a.reshape(a.shape + (1,) * (ndim - a.ndim)) for n, a in lists.items()}
        shape = tuple(max(a.shape[k] for a in lists.values()) for k in range(ndim))
        found = np.full((self._numbers.size, *shape), empty, dtype=kind)
        for number, array in lists.items():
            found[number][tuple(map(slice, array.shape))] = array
        return found


def _holds_text(value: Any) -> bool:
    return any(_holds_text(item) for item in value) if isinstance(value, list) else isinstance(value, str)


def _inner(grid: Grid) -> tuple[str, list[float]] | None:
    """Return the dimension along a run that all jobs share, and its coordinate."""
    if grid.function:
        return None
    times, every = grid.fixed.get("times"), grid.fixed.get("keep_every")
    if times:
        return "time", list(times)
    varies = any(f in ("steps", "keep_every") for axis in grid.axes for f in axis.fields)
    return None if every is None or varies else ("update", list(range(0, grid.fixed.get("steps", 1000) + 1, every)))


def _labels(axis: Axis, field: str) -> Values:
    """Return the values of a field along its axis: numbers where all are, else texts."""
    values = axis.column(field)
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        return np.array(values)
    return np.array([_text(v) for v in values], dtype=object)


def _text(value: Any) -> Any:
    """Return a value of a field for a cell."""
    if value is None:
        return "default"
    return value if isinstance(value, (int, float, str)) and not isinstance(value, bool) else json.dumps(value)
