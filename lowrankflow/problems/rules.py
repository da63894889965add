"""What each field of a problem takes, and the value it is kept as."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

from .. import data, validation
from ..matrices.requirements import require_depth
from ..metrics.names import named_metrics
from .sources import InMemory, as_source

__all__ = ["AS_VALUES", "as_json", "require_sha256"]


def _text(name: str, value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and value):
        raise TypeError(f"`{name}` must be a text, got {validation.describe(value)}.")
    return value


def _data(name: str, value: Any) -> str | None:
    return None if value is None else validation.require_choice(name, value, data.available())


def _number(name: str, value: Any) -> float | None:
    return None if value is None else validation.require_number(name, value)


def _whole(low: int) -> Any:
    return lambda name, value: None if value is None else validation.require_integer(name, value, low=low)


def _choice(*choices: str) -> Any:
    return lambda name, value: None if value is None else validation.require_choice(name, value, choices)


def _seed(name: str, value: Any) -> int:
    return validation.require_integer(name, value, low=0)


def _reduction(name: str, value: Any) -> str:
    return validation.require_choice(name, value, ("mean", "sum"))


def _depth(name: str, value: Any) -> int | None:
    return None if value is None else int(require_depth(value, integer=True))


def _steps(name: str, value: Any) -> tuple[str, ...] | None:
    return None if value is None else data.as_steps(value, data.STEPS, name)


def _widths(name: str, value: Any) -> int | tuple[int, ...] | None:
    if value is None or isinstance(value, Integral):
        return None if value is None else validation.require_integer(name, value, low=1)
    items = validation.as_tuple(value)
    if items is None:
        raise TypeError(f"`{name}` must be whole numbers, one a hidden layer, got {validation.describe(value)}.")
    return tuple(validation.require_integer(name, d, low=1) for d in items)


def _metrics(name: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    items = value.split(",") if isinstance(value, str) else (value,) if isinstance(value, Real) else value
    names = validation.as_tuple(items)
    if names is None or not all(isinstance(item, (str, Real)) for item in names):
        raise TypeError(f"`{name}` must be names and depths, got {validation.describe(value)}.")
    chosen = tuple(f"{item:g}" if isinstance(item, Real) else item.strip().lower() for item in names)  # type: ignore[str-format, unused-ignore]
    named_metrics(",".join(chosen))  # refuses what is none
    return chosen


def _pairs(name: str, value: Any) -> tuple[tuple[str, Any], ...]:
    """Return a mapping as sorted pairs of a text and a frozen value."""
    items = value.items() if isinstance(value, Mapping) else value
    pairs = validation.as_tuple(items)
    if pairs is None or not all(isinstance(p, tuple) and len(p) == 2 and isinstance(p[0], str) for p in pairs):
        raise TypeError(f"`{name}` must be a mapping of names to values, got {validation.describe(value)}.")
    if len(dict(pairs)) < len(pairs):
        raise ValueError(f"`{name}` must name each keyword once, got {', '.join(key for key, _ in pairs)}.")
    return tuple(sorted((key, _frozen(name, v)) for key, v in dict(pairs).items()))


def _frozen(name: str, value: Any) -> Any:
    """Return a value that JSON has, lists as tuples."""
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(name, item) for item in value)
    if value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, Real) and math.isfinite(value):  # a numpy scalar
        return value.item() if hasattr(value, "item") else float(value)
    raise TypeError(
        f"`{name}` must be texts, finite numbers, True, False, None or lists of them, got {validation.describe(value)}."
    )


def _hashes(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    pairs = _pairs(name, value)
    for role, found in pairs:
        validation.require_choice(
            name, role, ("data", "inputs", "targets", "observed", "factors", "initial", "run", "loss")
        )
        require_sha256(name, found)
    return pairs


def require_sha256(name: str, value: Any) -> str:
    """Return the hexadecimal digits of a hash."""
    if not (isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")):
        raise ValueError(f"`{name}` must be 64 hexadecimal digits, got {validation.describe(value)}.")
    return value


#: by field: (name, what was given) -> what is kept
AS_VALUES: dict[str, Callable[[str, Any], Any]] = {
    "data": _data,
    "inputs": as_source,
    "targets": as_source,
    "observed": as_source,
    "factors": as_source,
    "initial": as_source,
    "run": _text,
    "step": _number,
    "missing": _number,
    "preprocess": _steps,
    "loss": _text,
    "loss_args": _pairs,
    "reduction": _reduction,
    "rank": _whole(1),
    "scale": _number,
    "seed": _seed,
    "depth": _depth,
    "widths": _widths,
    "metrics": _metrics,
    "clock": _choice("operator", "factors"),
    "natural_end": _number,
    "clock_end": _number,
    "rtol": _number,
    "max_evaluations": _whole(100),
    "descent": _whole(1),
    "sha256": _hashes,
}


def as_json(value: Any) -> Any:
    """Return what a field is kept as, as JSON has it."""
    if isinstance(value, InMemory):
        return {"shape": list(value.shape), "sha256": value.sha256}
    return [as_json(v) for v in value] if isinstance(value, tuple) else value
