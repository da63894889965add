"""Every argument check and its message.

One sentence: the argument in backticks, the rule, what was got (a value or a shape, never an array);
where one is known, a second sentence with the fix. Checks run at the public boundary, not inside kernels.
"""

from __future__ import annotations

import json
import math
import numbers
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .foreign import as_array

Array = NDArray[np.float64]
Rng = np.random.Generator | int | None  # what every `rng=` takes (SPEC 7)
P = ParamSpec("P")
T = TypeVar("T")
K = TypeVar("K", bound=np.generic)

#: decorates what computes: an underflow to zero is right everywhere here, whatever the caller's ``np.errstate`` makes of it
quietly: np.errstate = np.errstate(under="ignore")

_MISSING = object()
_LARGEST = (
    1e35  # what a flow squares goes with the fourth power of the data and more than the square of W; both stay finite
)
_MOST_FACTORS = 1_000_000


def describe(value: object) -> str:
    """Return a short name of a value for a message: its type, and the value or shape if that is short."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, int) and abs(value) >= 10**20:
        return f"{type(value).__name__} with more than 20 digits"
    if value is None or isinstance(value, (bool, numbers.Number, str)):
        text = repr(value) if not isinstance(value, np.generic) else repr(value.item())
        text = text if len(text) <= 60 else f"{text[:57]}..."
        return f"{type(value).__name__} {text}" if isinstance(value, (bool, int)) else text
    return type(value).__name__


def _as_float(number: Any) -> float:
    """Return a real number as a float; whole numbers too large for one become infinite."""
    try:
        return float(number)
    except OverflowError:
        return math.copysign(math.inf, number > 0 or -1)


def as_tuple(value: Any) -> tuple[Any, ...] | None:
    """Return the items of a sequence or iterable; None for a text, and for what has none."""
    try:
        return None if isinstance(value, (str, bytes)) else tuple(value)
    except TypeError:  # a 0-d array calls itself iterable, and is not
        return None


def optional(thing: object, name: str) -> Any:
    """Return an attribute that an object need not have; None where it is missing.

    Missing is also what a property says is not there, by an AttributeError of its own name; one that fails on another name
    has a mistake inside, and its error goes on.
    """
    found = getattr(thing, name, _MISSING)
    if found is not _MISSING:
        return found
    kind = type(thing)
    if not hasattr(kind, name) and not hasattr(kind, "__getattr__"):  # no code of its own could have raised
        return None
    try:
        return getattr(thing, name)
    except AttributeError as error:
        if error.name not in (name, None):
            raise
        return None


def optional_method(thing: object, name: str) -> Callable[..., Any] | None:
    """Return a method that an object need not have; None where it is missing, None or cannot be called."""
    method = optional(thing, name)
    return method if callable(method) else None


def optional_flag(thing: object, name: str, label: str) -> bool | None:
    """Return a flag that an object need not have, True or False; None where it is missing or not known."""
    flag = optional(thing, name)
    if flag is None or isinstance(flag, (bool, np.bool_)):
        return None if flag is None else bool(flag)
    raise TypeError(f"`{label}.{name}` must be True, False or None, got {describe(flag)}.")


def as_real(name: str, value: ArrayLike) -> NDArray[Any]:
    """Return an array of real numbers of any shape."""
    refuse_masked(name, value)
    value = as_array(name, value)
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"`{name}` must be a rectangular array, got ragged rows.") from None
    require_real(name, array)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"`{name}` must be an array of numbers, got dtype {array.dtype}.")
    return array


def refuse_masked(name: str, value: object) -> None:
    """Refuse a masked array, of which numpy would take what lies below the mask for numbers."""
    if isinstance(value, np.ma.MaskedArray):
        count = int(np.ma.count_masked(value))
        fix = "Leave these samples out, or fit observed entries alone (Completion)" if count else "Pass its .data"
        raise TypeError(f"`{name}` must be a plain array, got a masked one with {count} values masked. {fix}.")


def as_numbers(name: str, value: Any) -> NDArray[Any]:
    """Return an array of numbers of any shape, type and order as it is."""
    refuse_masked(name, value)
    array = np.asanyarray(as_array(name, value))
    if array.dtype.kind not in "biufc":
        raise TypeError(f"`{name}` must be an array of numbers, got dtype {array.dtype}.")
    return array


def as_json(name: str, value: Any) -> str:
    """Return a value as a line of JSON."""
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"`{name}` must be made of texts, numbers, lists and dicts, got what JSON cannot hold ({reason(error)})."
        ) from None


def reason(error: BaseException) -> str:
    """Return the first sentence of an exception of another library, for the brackets of a message."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    text = text.splitlines()[0].split(". ")[0].rstrip(".")
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= 120 else f"{text[:117]}..."


def as_vector(name: str, values: ArrayLike, size: int | None = None) -> Array:
    """Return a finite real vector, of the given size."""
    array = np.asarray(as_real(name, values), dtype=np.float64)
    if array.ndim != 1 and size is None:
        raise ValueError(f"`{name}` must be a vector, got shape {array.shape}.")
    if size is not None and array.shape != (size,):
        raise ValueError(f"`{name}` must have shape ({size},), got {array.shape}.")
    require_finite(name, array)
    return array


def as_matrix(name: str, value: ArrayLike, *, column: bool = False) -> Array:
    """Return a finite, non-empty real matrix; with ``column=True`` a vector becomes one column."""
    array = as_real(name, value)
    if column and array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise ValueError(f"`{name}` must be a matrix with 2 dimensions, got shape {array.shape}.")
    if array.size == 0:
        raise ValueError(f"`{name}` must not be empty, got shape {array.shape}.")
    array = np.asarray(array, dtype=np.float64)
    require_finite(name, array)
    return array


def read_only(array: NDArray[K]) -> NDArray[K]:
    """Return an array that nobody can write to any more: one that an object keeps, and shows."""
    array.flags.writeable = False
    return array


def own(array: NDArray[K]) -> NDArray[K]:
    """Return a copy to keep, read-only: what was handed over may change, what is kept does not."""
    return read_only(np.array(array))


def require_finite(name: str, array: Array) -> None:
    """Refuse NaN and infinity, and say how many and where the first one is."""
    finite = np.isfinite(array)
    if not finite.all():
        first = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(
            f"`{name}` must be finite, got {int((~finite).sum())} NaN or infinite of {array.size} values,"
            f" the first at index {first}. Remove or impute them."
        )


def require_real(name: str, value: Any) -> None:
    """Refuse complex numbers, told by the dtype of what has one."""
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "kind", "f") == "c":
        raise TypeError(f"`{name}` must be real, got dtype {dtype}.")


def require_peak(name: str, array: Array, largest: float = _LARGEST) -> None:
    """Refuse data of which what a flow squares over- or underflows; zero alone is left to the caller."""
    peak = float(abs(array).max())
    if peak != 0 and not 1 / largest <= peak <= largest:
        side = f"stay below {largest:g}" if peak > 1 else f"reach {1 / largest:g}"
        raise ValueError(f"`{name}` must {side} in size, got {peak:.3g}. Change the unit.")


def require_shape(name: str, got: tuple[int, ...], want: tuple[int, ...], what: str = "the loss is defined on") -> None:
    """Refuse a wrong shape, with the transpose hint."""
    if tuple(got) != tuple(want):
        hint = " Did you mean the transpose?" if tuple(got) == tuple(want)[::-1] else ""
        raise ValueError(f"`{name}` has shape {tuple(got)} but {what} {tuple(want)}.{hint}")


def require_integer(name: str, value: object, *, low: int) -> int:
    """Return a whole number that is at least `low`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be a whole number, got {describe(value)}.")
    if value < low:
        raise ValueError(f"`{name}` must be at least {low}, got {int(value)}.")
    if int(value) > sys.maxsize:
        raise ValueError(f"`{name}` must be at most {sys.maxsize}, got {describe(value)}.")
    return int(value)


def require_number(name: str, value: object, *, positive: bool = True, finite: bool = True) -> float:
    """Return a positive (or, with ``positive=False``, non-negative) number."""
    rule = ("positive" if positive else "non-negative") + (" and finite" if finite else "")
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be {rule}, got {describe(value)}.")
    number = _as_float(value)
    if math.isnan(number) or number < 0 or (positive and number == 0) or (finite and math.isinf(number)):
        raise ValueError(f"`{name}` must be {rule}, got {number:g}.")
    return number


def require_finite_number(name: str, value: object) -> float:
    """Return a finite number of either sign."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be a finite number, got {describe(value)}.")
    number = _as_float(value)
    if not math.isfinite(number):
        raise ValueError(f"`{name}` must be a finite number, got {number:g}.")
    return number


def require_sizes(name: str, shape: Any) -> tuple[int, int]:
    """Return (m, n), two whole numbers that are at least 1."""
    sizes = as_tuple(shape)
    if sizes is None:
        raise TypeError(f"`{name}` must be two whole numbers (m, n), got {describe(shape)}.")
    if len(sizes) != 2:
        raise ValueError(f"`{name}` must be two whole numbers (m, n), got {len(sizes)}.")
    return require_integer(name, sizes[0], low=1), require_integer(name, sizes[1], low=1)


def as_rng(rng: Rng) -> np.random.Generator:
    """Return a random generator: itself, of a seed, or of fresh entropy for None. Once a call, then hand it on."""
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is None:
        return np.random.default_rng()
    whole = isinstance(rng, numbers.Integral) and not isinstance(rng, bool)
    if not whole or rng < 0:
        rule = "`rng` must be None, a non-negative int or a numpy.random.Generator"
        raise (ValueError if whole else TypeError)(f"{rule}, got {describe(rng)}. Use rng=0.")
    return np.random.default_rng(int(rng))


def require_choice(name: str, value: object, choices: Iterable[str]) -> str:
    """Return one of the named choices, or list them."""
    known = list(choices)
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"`{name}` must be one of {', '.join(known)}; got {describe(value)}.")
    return value


def require_callable(name: str, value: object) -> Callable[..., Any] | None:
    """Return a callable or None."""
    if value is not None and not callable(value):
        raise TypeError(f"`{name}` must be callable or None, got {describe(value)}.")
    return value


def require_flags(**flags: object) -> None:
    """Refuse what is neither True nor False."""
    for name, value in flags.items():
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"`{name}` must be True or False, got {describe(value)}.")


def moved(module: str, room: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a module whose names live in another room now, some by other names.

    Each is handed out with a DeprecationWarning that says where it lives.
    """

    def __getattr__(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        new = f"{room}.{names[name]}"
        warnings.warn(f"{module}.{name} has moved to {new}.", DeprecationWarning, stacklevel=2)
        return getattr(import_module(room), names[name])

    return __getattr__


def renamed(**names: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let a function take arguments by the names that they had before 1.0 too, with a DeprecationWarning.

    ``@renamed(link="misfit")`` stands above a function of `misfit`.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        label = function.__qualname__.removesuffix(".__init__")

        @wraps(function)
        def taking(*args: P.args, **options: P.kwargs) -> T:
            for old in options.keys() & names:
                new = names[old]
                warnings.warn(f"`{old}` of {label} is called `{new}` now.", DeprecationWarning, stacklevel=2)
                if new in options:
                    raise TypeError(f"`{new}` must be given once, got `{old}` too, its name before 1.0.")
                options[new] = options.pop(old)
            return function(*args, **options)

        return taking

    return decorate
