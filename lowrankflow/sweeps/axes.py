"""The axes of a grid: lists, ranges, paired lists and random samples, each point a value of one field or of several."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import validation
from .words import require_known

__all__ = ["Axis", "is_range", "listed", "sampled", "zipped"]

_DIGITS = 12  # of the numbers of ranges and samples: what machines round differently is left out
_MOST = 10_000_000


@dataclass(frozen=True)
class Axis:
    """An axis of a grid.

    Attributes
    ----------
    name : str
        Of the dimension: that of its field, those of paired fields joined by underscores, or "sample".
    fields : tuple of str
    values : tuple of tuples
        At each point a value for every field, as JSON has it.
    """

    name: str
    fields: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]

    def __len__(self) -> int:
        return len(self.values)

    def column(self, field: str) -> list[Any]:
        """Return the values of a field along the axis."""
        i = self.fields.index(field)
        return [row[i] for row in self.values]


_RANGES = ("log", "linear", "count")
_DRAWS = ("log", "linear", "whole", "choice")


def is_range(given: object) -> bool:
    """Whether a mapping says a range, not the arguments of something."""
    return isinstance(given, Mapping) and bool({"log", "linear", "count"} & set(given))


def listed(field: str, given: Any) -> list[Any]:
    """Return the values of an axis: of a list as they are, of a range its numbers.

    Parameters
    ----------
    field : str
    given : list, or mapping
        ``{log = [a, b, n]}``, ``{linear = [a, b, n]}``, n numbers from a to b, or ``{count = n}``, 0 to n - 1, from `first` on
        where that is given.
    """
    if isinstance(given, Mapping):
        values = _range(field, given)
    else:
        items = validation.as_tuple(given)
        if items is None:
            raise TypeError(
                f"`{field}` must be a list or a range such as {{log = [1e-4, 1.0, 9]}}, got {validation.describe(given)}."
                " One value for all goes into [problem] or [run]."
            )
        values = [item.item() if isinstance(item, np.generic) else item for item in items]
    if not values:
        raise ValueError(f"`{field}` must have a value at least, got an empty axis.")
    return values


def _range(field: str, given: Mapping[str, Any]) -> list[Any]:
    for key in given:
        require_known(field, key, (*_RANGES, "first"), "be a range of")
    (kind, *more) = [key for key in given if key != "first"] or [""]
    if more or not kind or ("first" in given and kind != "count"):
        raise ValueError(f"`{field}` must be one range, log, linear or count, got {', '.join(given)}.")
    if kind == "count":
        count = _size(field, given["count"])
        first = validation.require_integer(f"{field}.first", given.get("first", 0), low=0)
        return list(range(first, first + count))
    a, b, n = _bounds(f"{field}.{kind}", given[kind], kind, ("a", "b", "n"))
    count = _size(f"{field}.{kind}", n)
    space = np.geomspace if kind == "log" else np.linspace
    return _tidy(space(a, b, count), whole=isinstance(a, int) and isinstance(b, int))


def _size(name: str, given: Any) -> int:
    count = validation.require_integer(name, given, low=0)
    if count > _MOST:
        raise ValueError(f"`{name}` must be at most {_MOST} values, got {count}.")
    return count


def _bounds(name: str, given: Any, kind: str, letters: tuple[str, ...]) -> tuple[Any, ...]:
    """Return the two ends of a range, and what comes after them."""
    items = validation.as_tuple(given)
    if items is None or len(items) != len(letters):
        got = validation.describe(given) if items is None else list(items)
        raise TypeError(f"`{name}` must be [{', '.join(letters)}], got {got}.")
    for item in items[:2]:
        (validation.require_number if kind == "log" else validation.require_finite_number)(name, item)
    return items


def _tidy(values: Any, *, whole: bool) -> list[Any]:
    """Return numbers without the digits that machines round differently; whole ones where ends and all else are."""
    found = [float(f"{v:.{_DIGITS}g}") for v in values]
    return [int(v) for v in found] if whole and all(v.is_integer() for v in found) else found


def zipped(given: Any) -> tuple[str, dict[str, list[Any]]]:
    """Return the name of an axis of paired lists, and the lists."""
    if not isinstance(given, Mapping) or not given:
        raise TypeError(f"`zip` must be tables of lists of one length, got {validation.describe(given)}.")
    lists = {field: listed(field, values) for field, values in given.items()}
    lengths = {field: len(values) for field, values in lists.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"`zip` must pair lists of one length, got {', '.join(f'{k}: {n}' for k, n in lengths.items())}."
        )
    return "_".join(lists), lists


def sampled(given: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return random values by field; with a larger count the first ones stay the same.

    Parameters
    ----------
    given : mapping
        ``count``, ``rng`` (a whole number, 0 where it is not given), and by field ``{log = [a, b]}``, ``{linear = [a, b]}``,
        ``{whole = [a, b]}`` (both ends count) or ``{choice = [...]}``.
    """
    fields = {field: spec for field, spec in given.items() if field not in ("count", "rng")}
    if "count" not in given or not fields:
        raise ValueError(f"`random` must have a count and a field at least, got {', '.join(given) or 'nothing'}.")
    count = _size("random.count", given["count"])
    if not count:
        raise ValueError("`random.count` must be at least 1, got 0.")
    seed = validation.require_integer("random.rng", given.get("rng", 0), low=0)
    return {field: _drawn(field, spec, count, seed) for field, spec in fields.items()}


def _drawn(field: str, spec: Any, count: int, seed: int) -> list[Any]:
    if not isinstance(spec, Mapping) or len(spec) != 1:
        raise TypeError(f"`random.{field}` must be one of {', '.join(_DRAWS)}, got {validation.describe(spec)}.")
    ((kind, ends),) = spec.items()
    require_known(f"random.{field}", kind, _DRAWS)
    share = np.random.default_rng([seed, zlib.crc32(field.encode())]).random(count)  # in [0, 1), in this order for ever
    if kind == "choice":
        values = listed(f"random.{field}", ends)
        return [values[int(u * len(values))] for u in share]
    a, b = _bounds(f"random.{field}.{kind}", ends, kind, ("a", "b"))
    if not a <= b:
        raise ValueError(f"`random.{field}.{kind}` must be [a, b] with a at most b, got [{a:g}, {b:g}].")
    return _SPREAD[kind](field, a, b, share)


def _whole(field: str, a: Any, b: Any, share: Any) -> list[Any]:
    low, high = (validation.require_integer(f"random.{field}.whole", end, low=0) for end in (a, b))
    return [low + int(u * (high - low + 1)) for u in share]


_SPREAD: dict[str, Callable[[str, Any, Any, Any], list[Any]]] = {
    "log": lambda field, a, b, share: _tidy(np.exp(np.log(a) + share * (np.log(b) - np.log(a))), whole=False),
    "linear": lambda field, a, b, share: _tidy(a + share * (b - a), whole=False),
    "whole": _whole,
}
