"""What is plotted of a sweep: a number along some axes, its middle and its spread over all others."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..flow import Status
from ..validation import Array
from .results import Results
from .words import require_known

__all__ = ["Summary", "summarise"]

_PANELS = 6  #: values of an axis that has panels where nothing is said
_POOLED = ("seed", "sample")  #: axes that are drawn over where nothing else is said
_BAND = (0.1, 0.9)
_Z = 1.96  # of a two-sided interval of 95 %
_BESIDE = ("seconds", "t", "nfev", "nsteps")  #: what every run says, beside what was asked for
_ASKED = re.compile(r"(?P<name>\w+)\s*(?:(?P<sign>[=<>])\s*(?P<value>.+))?")


@dataclass(frozen=True, eq=False)
class Summary:
    """The middle and the spread of a result.

    Attributes
    ----------
    what : str
        "loss", or a share of jobs: "hidden_error<0.01", "status=CONVERGED".
    axes : tuple of 4 str
        What stands in rows of panels, columns of panels, lines (or the upright axis of a heat map) and along x; "" for none.
    ticks : tuple of 4 lists
        The values of each, numbers or texts.
    centre, low, high : ndarray, (rows, columns, lines, x)
        Median and 10 % to 90 % of the jobs; of a share its 95 % interval (Wilson).
    count : ndarray of the same shape
        Jobs with a result.
    over : tuple of str
        What was pooled.
    otherwise : str
        How many runs did not end as they were asked to, over the whole grid, and how they ended; "" where all did.
    """

    what: str
    axes: tuple[str, str, str, str]
    ticks: tuple[list[Any], list[Any], list[Any], list[Any]]
    centre: Array
    low: Array
    high: Array
    count: NDArray[np.intp]
    over: tuple[str, ...]
    otherwise: str = ""

    @property
    def share(self) -> bool:
        """Whether it is a share of jobs."""
        return not self.what.isidentifier()

    @property
    def caption(self) -> str:
        """What middle and spread are."""
        over = f" over {', '.join(self.over)}" if self.over else ""
        jobs = (
            f"{self.count.min()}"
            if self.count.min() == self.count.max()
            else f"{self.count.min()} to {self.count.max()}"
        )
        how = "share of jobs, 95 % interval (Wilson)" if self.share else "median, 10 % to 90 %"
        counted = f"{how}{over}: {jobs} jobs a point" if self.count.max() > 1 else "one job a point"
        return f"{counted}; {self.otherwise}" if self.otherwise else counted

    def to_csv(self) -> str:
        """Return the numbers as a table of text."""
        named = [k for k in range(4) if self.axes[k]]
        stream = io.StringIO()
        table = csv.writer(stream)
        table.writerow([*(self.axes[k] for k in named), self.what, "low", "high", "jobs"])
        for at in np.ndindex(*self.centre.shape):
            ticks = [self.ticks[k][at[k]] for k in named]
            table.writerow([*ticks, *(float(a[at]) for a in (self.centre, self.low, self.high)), int(self.count[at])])
        return stream.getvalue()


def summarise(
    results: Results,
    what: str | None = None,
    *,
    x: str | None = None,
    lines: str | None = None,
    rows: str | None = None,
    columns: str | None = None,
    where: Mapping[str, Any] | None = None,
) -> Summary:
    """Return the middle and the spread of a result along some axes, over all others.

    Parameters
    ----------
    results : Results
    what : str, optional
        The name of a result; or a share of jobs, "NAME<NUMBER", "NAME>NUMBER", "NAME=TEXT". None: the first there is.
    x, lines, rows, columns : str, optional
        Axes of the grid, fields along them, or dimensions of the result such as "time". x and lines: the two longest axes of
        numbers, but for seeds and samples, where neither is given.
    where : mapping, optional
        By field a value: only jobs with it.

    Returns
    -------
    Summary

    Raises
    ------
    ValueError
        If a name is unknown, or stands twice.
    """
    what, array = _asked(results, what)
    dims, ticks = _dimensions(results, what, array)
    for field, value in (where or {}).items():
        array, ticks = _only(field, value, array, dims, ticks)
    if x is None and lines is None:
        taken = {dims[field] for field in (rows, columns, *(where or {})) if field in dims}
        free: list[str | None] = [*_longest(results, dims, ticks, taken)]
        free += [None] * 4
        x, lines, more = free[0], free[1], free[2:]
        if rows is None and columns is None:  # what is left over has panels, rather than being pooled
            columns, rows = ((f if f and len(ticks[f]) <= _PANELS else None) for f in more[:2])
    chosen = (rows or "", columns or "", lines or "", x or "")
    fields = [f for f in chosen if f]
    for field in fields:
        require_known("axis", field, dims)
    own = [dims[field] for field in fields]
    if len(set(own)) < len(own):
        raise ValueError(f"The axes of a plot must differ, got {', '.join(fields)}.")
    rest = [k for k in range(array.ndim) if k not in own]
    flat = array.transpose(*own, *rest).reshape(*(array.shape[k] for k in own), -1)
    flat = flat.reshape(*(array.shape[dims[f]] if f else 1 for f in chosen), flat.shape[-1])
    names = {k: field for field, k in reversed(dims.items())}
    over = tuple(f"{names[k]} ({array.shape[k]})" for k in rest if array.shape[k] > 1)
    middle, low, high = (_spread if what.isidentifier() else _share)(flat)
    along = [ticks[f] if f else [""] for f in chosen]
    return Summary(
        what, chosen, (along[0], along[1], along[2], along[3]), middle, low, high, np.isfinite(flat).sum(-1), over,
        _otherwise(results),
    )  # fmt: skip


def _otherwise(results: Results) -> str:
    """Return how many runs did not end as they were asked to, which are among what is shown."""
    ends = Counter(str(end) for end in results.values.get("status", np.empty(0)).ravel() if end)
    bad = {end: n for end, n in sorted(ends.items()) if end in Status.__members__ and not Status[end].finished}
    told = ", ".join(f"{end} {n}" for end, n in bad.items())
    return f"of {sum(ends.values())} runs {sum(bad.values())} did not end as asked ({told})" if bad else ""


def _asked(results: Results, what: str | None) -> tuple[str, Array]:
    """Return the numbers that are asked for."""
    numbers = [name for name, values in results.values.items() if values.dtype.kind in "fiu"]
    if what is None:
        own = [name for name in numbers if name not in _BESIDE] or numbers
        if not own:
            raise ValueError("`results` must hold a number to plot, got none. Run the sweep first.")
        return own[0], results.values[own[0]].astype(float)
    match = _ASKED.fullmatch(what)
    if match is None:
        raise ValueError(f"`y` must be NAME, NAME<NUMBER, NAME>NUMBER or NAME=TEXT, got {what!r}.")
    name, sign, value = match["name"], match["sign"], match["value"]
    known = results.values if sign == "=" else numbers
    values = results.values[require_known("y", name, known)]
    if sign is None:
        return name, values.astype(float)
    if sign == "=":
        texts = np.array([_text(v) for v in values.ravel()], dtype=object).reshape(values.shape)
        hit, there = texts == value, texts != ""
    else:
        try:
            bound = float(value)
        except ValueError:
            raise ValueError(f"`y` must compare with a number, got {what!r}.") from None
        hit, there = (values < bound if sign == "<" else values > bound), np.isfinite(values.astype(float))
    return f"{name}{sign}{value}", np.where(there, hit.astype(float), math.nan)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{value:g}"


def _dimensions(results: Results, what: str, array: Array) -> tuple[dict[str, int], dict[str, list[Any]]]:
    """Return by the names of axes and fields which dimension they are, and their values."""
    name = re.split("[=<>]", what)[0]
    coordinates = results.coordinates()
    dims: dict[str, int] = {}
    ticks: dict[str, list[Any]] = {}
    for k, dim in enumerate(results.dims[name]):
        for field, variable in coordinates.items():
            if variable.dims == (dim,):
                dims[field], ticks[field] = k, variable.values.tolist()
        if dim not in dims:
            dims[dim], ticks[dim] = k, list(range(array.shape[k]))
    return dims, ticks


def _only(
    field: str, value: Any, array: Array, dims: Mapping[str, int], ticks: Mapping[str, list[Any]]
) -> tuple[Array, dict[str, list[Any]]]:
    """Return the part of an array where a field has a value; the dimension stays."""
    require_known("where", field, dims)
    there = [i for i, tick in enumerate(ticks[field]) if tick == value or str(tick) == str(value)]
    if not there:
        shown = ", ".join(map(str, ticks[field][:8]))
        raise ValueError(
            f"`where` {field} must be one of {shown}{', ...' if len(ticks[field]) > 8 else ''}; got {value}."
        )
    k = dims[field]
    kept = {name: [ts[i] for i in there] if dims[name] == k else ts for name, ts in ticks.items()}
    return array.take(there, axis=k), kept


def _longest(
    results: Results, dims: Mapping[str, int], ticks: Mapping[str, Sequence[Any]], taken: set[int]
) -> list[str]:
    """Return what may be axes: what runs along a job, then axes of numbers, then of texts, the longest first."""
    grid = len(results.grid.shape)
    free = [f for f, k in dims.items() if f not in _POOLED and k not in taken and (k < grid or f in ("time", "update"))]
    order = sorted(free, key=lambda f: (dims[f] < grid, isinstance(ticks[f][0], str), -len(ticks[f])))
    first = {dims[f]: f for f in reversed(order)}  # one field a dimension
    return [f for f in order if first[dims[f]] == f and len(ticks[f]) > 1]


def _spread(flat: Array) -> tuple[Array, Array, Array]:
    """Return median, 10 % and 90 % along the last axis; nan where there is nothing."""
    padded = np.where(np.isfinite(flat).any(-1, keepdims=True), flat, 0.0)
    found = np.nanquantile(np.where(np.isfinite(padded), padded, math.nan), (0.5, *_BAND), axis=-1)
    nothing = ~np.isfinite(flat).any(-1)
    low, middle, high = (np.where(nothing, math.nan, q) for q in (found[1], found[0], found[2]))
    return middle, low, high


def _share(flat: Array) -> tuple[Array, Array, Array]:
    """Return a share and its interval (Wilson 1927)."""
    n = np.isfinite(flat).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = np.nansum(flat, -1) / n
        middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * np.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    return p, np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)
