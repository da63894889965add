"""A grid as a value: what all jobs share, the axes along which they differ, and a key for every job."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from .. import validation
from ..files import require_file
from ..problems import Problem
from ..problems.rules import AS_VALUES, as_json
from ..problems.sources import source_hash
from .axes import Axis, is_range, listed, sampled, zipped
from .runs import RUN_VALUES, Run
from .words import require_known

__all__ = ["MEMBERS_DIFFER_IN", "RESERVED", "Grid", "Job"]

_SPEC = 1  #: of what is hashed
_TABLES = ("problem", "grid", "zip", "random", "run")
_SOURCES = ("data", "inputs", "targets", "observed", "factors", "loss")
_PATHS = ("inputs", "targets", "observed", "factors")
_BY_KEY = ("loss_args", "optimizer_args", "sha256")  #: fields of names and values: each of them is a field of its own
#: fields in which runs of one array may differ; whether their data are of one shape shows when they are read
MEMBERS_DIFFER_IN = frozenset(
    ("seed", "scale", "missing", "rtol", "natural_end", "until", "gtol", "imbalance", "step", "edge")
)
RESERVED = ("state", "error", "seconds")  #: what is said of every job
_DEFAULTS = {f.name: as_json(f.default) for f in (*fields(Problem), *fields(Run))}


@dataclass(frozen=True)
class Job:
    """One point of a grid.

    Attributes
    ----------
    number : int
        In the grid, the last axis running fastest.
    key : str
        The SHA-256, in hexadecimal digits, of what is done: of JSON with sorted names, without what has its default.
    entries : mapping
        The fields, as JSON has them.
    function : str
        The name of the function, "" where a problem is run.
    """

    number: int
    key: str
    entries: Mapping[str, Any]
    function: str = ""

    @property
    def problem(self) -> Problem:
        """What is run."""
        known: dict[str, Any] = {"schema": 1, "loss_args": {}, "sha256": {}}
        for field, value in self.entries.items():
            whole, _, key = field.partition(".")
            if whole in ("loss_args", "sha256"):
                known[whole][key] = value
            elif field in AS_VALUES:
                known[field] = value
        return Problem.from_dict(known)

    @property
    def run(self) -> Run:
        """How it is run."""
        own = {field: value for field, value in self.entries.items() if field in RUN_VALUES}
        args = {f.partition(".")[2]: v for f, v in self.entries.items() if f.startswith("optimizer_args.")}
        return Run(**own | ({"optimizer_args": args} if args else {}))

    @property
    def shape(self) -> str:
        """What it has in common with those that can be carried out with it as one array; "" where it goes alone."""
        entries = self.entries
        method = entries.get("method", "auto")
        if self.function or entries.get("kind", "flow") not in ("flow", "descent") or method != "auto":
            return ""
        return json.dumps({k: v for k, v in sorted(entries.items()) if k not in MEMBERS_DIFFER_IN})


@dataclass(frozen=True)
class Grid:
    """Jobs by the product of some axes.

    Parameters
    ----------
    fixed : mapping
        What all jobs share: fields of a problem and of a run.
    axes : sequence of Axis
    function : str
        "module:name" of the function that is called with all fields; "": a problem is run.

    Raises
    ------
    ValueError, TypeError
        If a name is none of a problem or of a run, a value breaks the rule of its field, an axis is empty or has a value
        twice, or a field stands in two places.

    Examples
    --------
    >>> grid = Grid.of(problem={"data": "iris"}, grid={"depth": [2, 3], "scale": {"log": [0.01, 1, 3]}})
    >>> grid.size, grid.job(1).problem.scale, grid.job(1).run.kind
    (6, 0.1, 'flow')
    """

    fixed: Mapping[str, Any]
    axes: tuple[Axis, ...] = ()
    function: str = ""

    def __post_init__(self) -> None:
        places: dict[str, str] = dict.fromkeys(self.fixed, "what all jobs share")
        for axis in self.axes:
            for field in axis.fields:
                if (again := places.setdefault(field, f"the axis {axis.name}")) != f"the axis {axis.name}":
                    raise ValueError(f"`{field}` must stand once, got it in {again} and in the axis {axis.name}.")
        if len({axis.name for axis in self.axes}) < len(self.axes):
            raise ValueError(f"Axes must have names of their own, got {', '.join(axis.name for axis in self.axes)}.")

    # -- of tables -------------------------------------------------------------------------------

    @classmethod
    def of(
        cls,
        *,
        problem: Problem | Mapping[str, Any] | None = None,
        run: Run | Mapping[str, Any] | None = None,
        grid: Mapping[str, Any] | None = None,
        zip: Sequence[Mapping[str, Any]] = (),
        random: Mapping[str, Any] | None = None,
        function: str = "",
    ) -> Grid:
        """Return the grid of the tables of a grid file.

        Parameters
        ----------
        problem, run : mapping, Problem or Run, optional
            Fields that all jobs share.
        grid : mapping, optional
            By field its values, a list or a range: ``{"log": [a, b, n]}``, ``{"linear": [a, b, n]}``, ``{"count": n}``. Their
            product is taken.
        zip : sequence of mappings
            Of each the fields vary together: lists of one length.
        random : mapping, optional
            ``count`` samples, drawn from ``rng``, by field of ``{"log": [a, b]}``, ``{"linear": [a, b]}``,
            ``{"whole": [a, b]}`` or ``{"choice": [...]}``.
        function : str
            As of `Grid`.

        Returns
        -------
        Grid

        Raises
        ------
        ValueError, TypeError
            As `Grid` does.
        """
        free = bool(function)
        fixed: dict[str, Any] = {}
        for table, given, known in (("problem", problem, AS_VALUES), ("run", run, RUN_VALUES)):
            for field, value in _flat(_entries(table, given)).items():
                if not free:
                    require_known(table, field.partition(".")[0], known, "have the names")
                if field == "times" and is_range(value):
                    value = listed(field, value)
                fixed[field] = _canonical(field, value, free)
        axes = [_axis(field, {field: listed(field, v)}, free) for field, v in _axes_of(_table("grid", grid)).items()]
        groups = (zip,) if isinstance(zip, Mapping) else validation.as_tuple(zip)
        if groups is None:
            raise TypeError(f"`zip` must be tables of lists of one length, got {validation.describe(zip)}.")
        axes += [_axis(*zipped(group), free) for group in groups]
        if random is not None:
            axes.append(_axis("sample", sampled(_table("random", random)), free, repeats=True))
        return cls(fixed, tuple(axes), function)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Grid:
        """Read a grid file.

        Raises
        ------
        ValueError, TypeError
            If there is no such file, it is no TOML, or as `Grid` does.
        """
        file = require_file("grid", path)
        try:
            tables = tomllib.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:  # of TOML or of UTF-8
            raise ValueError(
                f"`grid` must be a file of TOML, got {str(file)!r} ({validation.reason(error)})."
            ) from None
        for name in tables:
            require_known("grid", name, _TABLES, "have the tables")
        return cls.of(**tables)

    # -- JSON and back ---------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the grid as JSON-ready values."""
        axes = [
            {"name": a.name, "fields": list(a.fields), "values": [list(row) for row in a.values]} for a in self.axes
        ]
        return {"schema": _SPEC, "function": self.function, "fixed": dict(self.fixed), "axes": axes}

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Grid:
        """Return the grid of its JSON."""
        if entries["schema"] != _SPEC:
            raise ValueError(f"`entries` must be a grid of schema {_SPEC}, got {entries['schema']!r}.")
        axes = (Axis(a["name"], tuple(a["fields"]), tuple(map(tuple, a["values"]))) for a in entries["axes"])
        return cls(dict(entries["fixed"]), tuple(axes), entries["function"])

    # -- jobs ------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of points of each axis."""
        return tuple(map(len, self.axes))

    @property
    def size(self) -> int:
        """The number of jobs."""
        return math.prod(self.shape)

    def job(self, number: int) -> Job:
        """Return a job by its number."""
        at = self._at(number)
        entries = dict(self.fixed)
        for axis, i in zip(self.axes, at, strict=True):
            entries |= zip(axis.fields, axis.values[i], strict=True)
        return Job(number, self.key(number).hex(), entries, self.function)

    def key(self, number: int) -> bytes:
        """Return the key of a job, as 32 bytes."""
        return self._key((0, *self._at(number)))

    def keys(self) -> Iterator[bytes]:
        """Yield the keys of all jobs in order."""
        return map(self._key, product((0,), *map(range, self.shape)))

    def _at(self, number: int) -> tuple[int, ...]:
        """Return the point of every axis."""
        found: list[int] = []
        for length in reversed(self.shape):
            number, i = divmod(number, length)
            found.append(i)
        return tuple(reversed(found))

    def _key(self, at: tuple[int, ...]) -> bytes:
        """Return the hash of JSON with sorted names, put together from its parts; `at` begins with 0, for what is fixed."""
        first, *more = (",".join([t for axis, texts in slots if (t := texts[at[axis]])]) for slots in self._slots)
        if self.function:
            text = f'{{"arguments":{{{first}}},"function":{json.dumps(self.function)},"spec":{_SPEC}}}'
        else:
            text = f'{{"problem":{{{first}}},"run":{{{more[0]}}},"spec":{_SPEC}}}'
        return hashlib.sha256(text.encode()).digest()

    @cached_property
    def _slots(self) -> list[list[tuple[int, list[str]]]]:
        """Of every section of what is hashed, by field in order: its axis, 0 for what is fixed, and its text at every point."""
        sections: dict[bool, list[tuple[str, int, list[str]]]] = {False: []} if self.function else {False: [], True: []}
        for number, axis in enumerate((_one_point(self.fixed), *self.axes)):
            for field in axis.fields:
                texts = [self._text(axis, field, value) for value in axis.column(field)]
                of_run = not self.function and field.partition(".")[0] in RUN_VALUES
                if any(texts):
                    sections[of_run].append((field, number, texts))
        return [[(number, texts) for _, number, texts in sorted(rows)] for rows in sections.values()]

    def _text(self, axis: Axis, field: str, value: Any) -> str:
        """Return a field as it is hashed: nothing for a default, and for a path whose content is."""
        if not self.function and field in _DEFAULTS and value == _DEFAULTS[field]:
            return ""
        if field in _PATHS and isinstance(value, str) and f"sha256.{field}" in axis.fields:
            return ""
        return f"{json.dumps(field)}:{json.dumps(value, sort_keys=True, separators=(',', ':'))}"

    # -- checks ----------------------------------------------------------------------------------

    def sealed(self) -> Grid:
        """Return the grid with the hashes of all data that it names, and the paths of files whole.

        Raises
        ------
        ValueError, ImportError
            If a file does not exist, or bundled data need a package that is not installed.
        """
        if self.function:
            return self
        fixed = _told(_one_point(self.fixed))
        return replace(
            self, fixed=dict(zip(fixed.fields, fixed.values[0], strict=True)), axes=tuple(map(_told, self.axes))
        )

    def in_order(self, numbers: Sequence[int], inner: Collection[str]) -> list[int]:
        """Return jobs sorted so that those which differ in the fields `inner` alone stand together."""
        last = [k for k, axis in enumerate(self.axes) if set(axis.fields) <= set(inner)]
        if not last or len(last) == len(self.axes):
            return list(numbers)
        at = np.unravel_index(np.asarray(numbers, dtype=np.intp), self.shape)
        first = [k for k in range(len(self.axes)) if k not in last]
        order = np.lexsort([at[k] for k in reversed(first + last)])
        found: list[int] = np.asarray(numbers)[order].tolist()
        return found

    def files(self) -> Iterator[tuple[str, str, str]]:
        """Yield the files that a sealed grid names: the field, the path, the hash."""
        for axis in (_one_point(self.fixed), *self.axes):
            for field in _PATHS:
                if f"sha256.{field}" in axis.fields:
                    pairs = zip(axis.column(field), axis.column(f"sha256.{field}"), strict=True)
                    yield from ((field, path, known) for path, known in dict.fromkeys(pairs))

    def require_jobs(self) -> None:
        """Refuse values that no job can have: make the problem and the run of every point of every axis, the others first."""
        if self.function:
            return
        strides = [math.prod(self.shape[k + 1 :]) for k in range(len(self.axes))]
        numbers = {
            min(i, _TRIED) * stride
            for stride, n in zip(strides, self.shape, strict=True)
            for i in range(min(n, _TRIED))
        }
        for number in sorted({0, *numbers}):
            job = self.job(number)
            _ = job.problem, job.run


_TRIED = 1000  #: points of an axis whose problem is made before anything is run


def _one_point(fixed: Mapping[str, Any]) -> Axis:
    return Axis("", tuple(fixed), (tuple(fixed.values()),))


def _table(name: str, given: Any) -> Mapping[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"`{name}` must be a table of fields, got {validation.describe(given)}.")
    return given or {}


def _entries(table: str, given: Any) -> Mapping[str, Any]:
    """Return the fields of a table, of a problem or of a run."""
    if isinstance(given, Problem):
        entries = given.to_dict()
        return {f: v for f, v in entries.items() if f != "schema" and v != _DEFAULTS[f] and v != {}}
    return given.to_dict() if isinstance(given, Run) else _table(table, given)


def _flat(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of names and values as a field for each name."""
    found: dict[str, Any] = {}
    for field, value in entries.items():
        if field in _BY_KEY:
            pairs = value.items() if isinstance(value, Mapping) else validation.as_tuple(value)
            if pairs is None or not all(isinstance(p, (list, tuple)) and len(p) == 2 for p in pairs):
                raise TypeError(f"`{field}` must be a table of names and values, got {validation.describe(value)}.")
            found |= {f"{field}.{key}": v for key, v in pairs}
        else:
            found[field] = value
    return found


def _axes_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the axes of a table, those of arguments by their names."""
    found: dict[str, Any] = {}
    for field, value in given.items():
        if field in _BY_KEY:
            if not isinstance(value, Mapping) or is_range(value):
                raise TypeError(
                    f"`{field}` varies by its names, got {validation.describe(value)}. Use {field}.NAME = [...]."
                )
            found |= {f"{field}.{key}": v for key, v in value.items()}
        else:
            found[field] = value
    return found


def _axis(name: str, lists: Mapping[str, list[Any]], free: bool, *, repeats: bool = False) -> Axis:
    """Return an axis of the values of its fields, each as it is kept."""
    for field in lists:
        if not free:
            require_known("grid", field.partition(".")[0], (*AS_VALUES, *RUN_VALUES), "vary")
    columns = [[_canonical(field, value, free) for value in values] for field, values in lists.items()]
    rows = tuple(zip(*columns, strict=True))
    seen: set[str] = set()
    for row in () if repeats else rows:
        text = json.dumps(row, sort_keys=True)
        if text in seen:
            shown = ", ".join(map(str, row))
            raise ValueError(f"`{name}` must have values that differ, got {shown[:60]} twice.")
        seen.add(text)
    return Axis(name, tuple(lists), rows)


def _canonical(field: str, value: Any, free: bool) -> Any:
    """Return a value as it is kept, as JSON has it."""
    whole, dot, key = field.partition(".")
    if free:
        if not field.isidentifier() or field in RESERVED:
            raise ValueError(f"`{field}` must be the name of an argument, none of {', '.join(RESERVED)}.")
        return as_json(AS_VALUES["loss_args"](field, {field: value})[0][1])
    rules: Mapping[str, Callable[[str, Any], Any]] = AS_VALUES if whole in AS_VALUES else RUN_VALUES
    if dot:
        if whole not in _BY_KEY:
            raise ValueError(f"`{field}` must be the name of a field, got one with a dot.")
        return as_json(rules[whole](whole, {key: value})[0][1])
    return as_json(rules[whole](whole, value))


def _told(axis: Axis) -> Axis:
    """Return an axis with the hashes of what it names, and whole paths."""
    added: dict[str, list[Any]] = {}
    columns = {field: axis.column(field) for field in axis.fields}
    for field in _SOURCES:
        values = columns.get(field)
        named = [isinstance(v, str) and (field != "loss" or ":" in v) for v in values or ()]
        if not any(named) or f"sha256.{field}" in columns:
            continue
        if not all(named):
            raise ValueError(f"`{field}` must vary among files alone, or among names alone.")
        hashes = {v: source_hash(field, v) for v in dict.fromkeys(columns[field])}
        added[f"sha256.{field}"] = [hashes[v] for v in columns[field]]
        if field in _PATHS:
            columns[field] = [str(Path(v).resolve()) for v in columns[field]]
    columns |= added
    return Axis(axis.name, tuple(columns), tuple(zip(*columns.values(), strict=True)))
