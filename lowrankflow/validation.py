"""Every argument check and its message.

One sentence: the argument in backticks, the rule, what was got (a value or a shape, never an array);
where one is known, a second sentence with the fix. Checks run at the public boundary, not inside kernels.
"""

from __future__ import annotations

import json
import math
import numbers
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


_LARGEST = 1e150  # its square is finite, and that of its inverse not zero, with room for sums over samples
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


def as_real(name: str, value: ArrayLike) -> NDArray[Any]:
    """Return an array of real numbers of any shape."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"`{name}` must be a rectangular array, got ragged rows.") from None
    check_real(name, array)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"`{name}` must be an array of numbers, got dtype {array.dtype}.")
    return array


def as_numbers(name: str, value: Any) -> NDArray[Any]:
    """Return an array of numbers of any shape, type and order as it is."""
    array = np.asanyarray(value)
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
    check_finite(name, array)
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
    check_finite(name, array)
    return array


def check_finite(name: str, array: Array) -> None:
    """Refuse NaN and infinity, and say how many and where the first one is."""
    finite = np.isfinite(array)
    if not finite.all():
        first = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(
            f"`{name}` must be finite, got {int((~finite).sum())} NaN or infinite of {array.size} values,"
            f" the first at index {first}. Remove or impute them."
        )


def check_real(name: str, value: Any) -> None:
    """Refuse complex numbers, told by the dtype of what has one."""
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "kind", "f") == "c":
        raise TypeError(f"`{name}` must be real, got dtype {dtype}.")


def check_peak(name: str, array: Array) -> None:
    """Refuse data whose squares over- or underflow; zero alone is left to the caller."""
    peak = float(abs(array).max())
    if peak != 0 and not 1 / _LARGEST <= peak <= _LARGEST:
        side = f"stay below {_LARGEST:g}" if peak > 1 else f"reach {1 / _LARGEST:g}"
        raise ValueError(f"`{name}` must {side} in size, got {peak:.3g}. Change the unit.")


def check_shape(name: str, got: tuple[int, ...], want: tuple[int, ...], what: str = "the loss is defined on") -> None:
    """Refuse a wrong shape, with the transpose hint."""
    if tuple(got) != tuple(want):
        hint = " Did you mean the transpose?" if tuple(got) == tuple(want)[::-1] else ""
        raise ValueError(f"`{name}` has shape {tuple(got)} but {what} {tuple(want)}.{hint}")


def check_depth(depth: object, *, integer: bool = False) -> float:
    """Return the depth N: a number above 1, whole where it counts factors."""
    if isinstance(depth, bool) or not isinstance(depth, numbers.Real):
        raise TypeError(f"`depth` must be a number greater than 1, got {describe(depth)}.")
    number = _as_float(depth)
    if math.isnan(number):
        raise ValueError("`depth` must be a number greater than 1, got nan.")
    if number <= 1:
        raise ValueError(
            f"`depth` must be greater than 1, got {number:g}. A depth-1 flow does not preserve rank;"
            " use EmbeddedMetric() for the projected flow."
        )
    if math.isinf(number) and number != depth:
        raise ValueError(f"`depth` must fit a float, got {describe(depth)}. Use float('inf') for the limit.")
    if not integer:
        return number
    if not number.is_integer():
        raise ValueError(f"`depth` must be a whole number of factors here, got {number:g}. Use 2, 3, 4 or more.")
    if number > _MOST_FACTORS:
        raise ValueError(
            f"`depth` must be at most {_MOST_FACTORS} factors, got {number:g}. DepthMetric takes any depth."
        )
    return int(number)


def check_integer(name: str, value: object, *, low: int) -> int:
    """Return a whole number that is at least `low`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be a whole number, got {describe(value)}.")
    if value < low:
        raise ValueError(f"`{name}` must be at least {low}, got {int(value)}.")
    if int(value) > sys.maxsize:
        raise ValueError(f"`{name}` must be at most {sys.maxsize}, got {describe(value)}.")
    return int(value)


def check_number(name: str, value: object, *, positive: bool = True, finite: bool = True) -> float:
    """Return a positive (or, with ``positive=False``, non-negative) number."""
    rule = ("positive" if positive else "non-negative") + (" and finite" if finite else "")
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be {rule}, got {describe(value)}.")
    number = _as_float(value)
    if math.isnan(number) or number < 0 or (positive and number == 0) or (finite and math.isinf(number)):
        raise ValueError(f"`{name}` must be {rule}, got {number:g}.")
    return number


def check_finite_number(name: str, value: object) -> float:
    """Return a finite number of either sign."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be a finite number, got {describe(value)}.")
    number = _as_float(value)
    if not math.isfinite(number):
        raise ValueError(f"`{name}` must be a finite number, got {number:g}.")
    return number


def check_sizes(name: str, shape: Any) -> tuple[int, int]:
    """Return (m, n), two whole numbers that are at least 1."""
    sizes = as_tuple(shape)
    if sizes is None:
        raise TypeError(f"`{name}` must be two whole numbers (m, n), got {describe(shape)}.")
    if len(sizes) != 2:
        raise ValueError(f"`{name}` must be two whole numbers (m, n), got {len(sizes)}.")
    return check_integer(name, sizes[0], low=1), check_integer(name, sizes[1], low=1)


def check_rank(rank: object, shape: tuple[int, int], name: str = "rank") -> int:
    """Return a rank between 1 and min(m, n)."""
    value = check_integer(name, rank, low=1)
    if value > min(shape):
        raise ValueError(
            f"`{name}` must not exceed min(m, n), got {name}={value} for a matrix of shape {tuple(shape)}."
        )
    return value


def check_numerical_rank(rank: int, numerical_rank: int) -> None:
    """Refuse a rank above the numerical rank of the matrix it is asked of."""
    if rank > numerical_rank:
        raise ValueError(
            f"`rank` must not exceed the numerical rank of the matrix, got rank={rank} for a matrix of"
            f" numerical rank {numerical_rank}."
        )


def check_rng(rng: object, why: str = "") -> np.random.Generator:
    """Return the random generator, or refuse with the line to type."""
    if not isinstance(rng, np.random.Generator):
        whole = isinstance(rng, (int, np.integer)) and not isinstance(rng, bool)
        seed = int(rng) if whole and 0 <= rng < 2**63 else 0  # type: ignore[call-overload, operator]
        raise TypeError(
            f"`rng` must be a numpy.random.Generator{why}, got {describe(rng)}. Use np.random.default_rng({seed})."
        )
    return rng


def check_singular_values(name: str, s: ArrayLike, rank: int) -> Array:
    """Return `rank` positive singular values, sorted in decreasing order."""
    values = as_vector(name, s, rank)
    if not (values > 0).all():
        raise ValueError(f"`{name}` must be positive, got a smallest value of {values.min():g}.")
    return np.sort(values)[::-1].copy()


def check_widths(widths: int | Iterable[int] | None, depth: int, rank: int) -> tuple[int, ...]:
    """Return the hidden widths (d_1, ..., d_{N-1}); None means the rank, one number means every layer."""
    if widths is None:
        return (rank,) * (depth - 1)
    if isinstance(widths, (int, np.integer)) and not isinstance(widths, bool):
        widths = (int(widths),) * (depth - 1)
    items = as_tuple(widths)
    if items is None:
        raise TypeError(f"`widths` must be whole numbers, one a hidden layer, got {describe(widths)}.")
    values = tuple(check_integer("widths", d, low=1) for d in items)
    if len(values) != depth - 1:
        raise ValueError(
            f"`widths` must hold one number for each of the {depth - 1} hidden layers of depth {depth},"
            f" got {len(values)}."
        )
    if min(values) < rank:
        raise ValueError(f"`widths` must be at least the rank {rank}, got {min(values)}. Lower `rank` or widen.")
    return values


def check_factors(factors: Sequence[ArrayLike], *, low: int = 1) -> tuple[Array, ...]:
    """Return the factors W_1, ..., W_N as finite matrices that chain."""
    if isinstance(factors, np.ndarray) or not isinstance(factors, Sequence):
        raise TypeError(f"`factors` must be a list of matrices [W_1, ..., W_N], got {describe(factors)}.")
    if len(factors) < low:
        raise ValueError(
            f"`factors` must hold at least {low} {'matrix' if low == 1 else 'matrices'}, got {len(factors)}."
        )
    arrays = tuple(as_matrix(f"factors[{j}]", f) for j, f in enumerate(factors))
    for j in range(1, len(arrays)):
        if arrays[j].shape[1] != arrays[j - 1].shape[0]:
            reverse = all(arrays[i - 1].shape[1] == arrays[i].shape[0] for i in range(1, len(arrays)))
            hint = " Are they in reverse order? factors[0] is W_1, the one that acts first." if reverse else ""
            raise ValueError(
                f"`factors` do not chain: factors[{j}] has shape {arrays[j].shape} but"
                f" factors[{j - 1}] has {arrays[j - 1].shape[0]} rows.{hint}"
            )
    return arrays


def as_directions(name: str, directions: Iterable[ArrayLike], factors: Sequence[Array]) -> list[Array]:
    """Return one finite matrix a factor, each of its factor's shape."""
    items = as_tuple(directions)
    if items is None:
        raise TypeError(f"`{name}` must be a list of matrices, one a factor, got {describe(directions)}.")
    arrays = [as_matrix(f"{name}[{j}]", e) for j, e in enumerate(items)]
    if len(arrays) != len(factors):
        raise ValueError(f"`{name}` must hold one array for each of the {len(factors)} factors, got {len(arrays)}.")
    for j, (e, f) in enumerate(zip(arrays, factors, strict=True)):
        check_shape(f"{name}[{j}]", e.shape, f.shape, f"factors[{j}] has shape")
    return arrays


def check_balanced(imbalance: float, tolerance: float) -> None:
    """Refuse unbalanced factors in a function whose formula needs balance."""
    if not imbalance <= tolerance:
        raise ValueError(
            f"The factors are not balanced (relative imbalance {imbalance:.2g}, allowed {tolerance:.2g})."
            " Start from LinearNetwork.balanced, or call network.rebalanced()."
        )


def check_t_span(t_span: Sequence[float]) -> tuple[float, float]:
    """Return (t_0, t_1) with t_0 < t_1, t_0 finite."""
    try:
        t0, t1 = (_as_float(t) for t in t_span if not isinstance(t, (str, bytes)))  # float("1") is 1
    except (TypeError, ValueError):
        raise TypeError(f"`t_span` must be two numbers (t_0, t_1), got {describe(t_span)}.") from None
    if not (math.isfinite(t0) and t0 < t1):
        raise ValueError(f"`t_span` must be increasing from a finite time, got ({t0:g}, {t1:g}).")
    return t0, t1


def check_rtol(rtol: object, *, low: float = 3e-14) -> float:
    """Return a relative tolerance between `low` (roundoff) and 0.1."""
    value = check_number("rtol", rtol)
    if not low <= value <= 0.1:
        why = "roundoff swamps smaller ones" if value < low else "larger ones say nothing"
        raise ValueError(f"`rtol` must lie between {low:g} and 0.1, got {value:g}: {why}.")
    return value


def check_choice(name: str, value: object, choices: Iterable[str]) -> str:
    """Return one of the named choices, or list them."""
    known = list(choices)
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"`{name}` must be one of {', '.join(known)}; got {describe(value)}.")
    return value


def check_loss(loss: Any) -> None:
    """Refuse an object that does not follow the loss protocol: shape, value(w), gradient(w)."""
    if isinstance(loss, type):
        raise TypeError(f"`loss` must be an object, got {describe(loss)}. Pass an instance: {loss.__name__}(...).")
    missing = [name for name in ("shape", "value", "gradient") if not hasattr(loss, name)]
    if missing:
        raise TypeError(f"`loss` must have shape, value(w) and gradient(w); {describe(loss)} lacks {missing[0]}.")
    for name in ("value", "gradient"):
        if not callable(getattr(loss, name)):
            raise TypeError(f"`loss.{name}` must be a function of w, got {describe(getattr(loss, name))}.")
    shape = loss.shape
    if not (isinstance(shape, tuple) and len(shape) == 2):
        raise TypeError(f"`loss.shape` must be a tuple (m, n), got {describe(shape)}.")
    for name in ("convex", "twice_differentiable"):
        flag = getattr(loss, name, None)
        if not (flag is None or isinstance(flag, (bool, np.bool_))):
            raise TypeError(f"`loss.{name}` must be True, False or None, got {describe(flag)}.")


def check_curvature(loss: Any) -> float | None:
    """Return the curvature that a loss declares, positive and finite; None where it declares none."""
    if not hasattr(loss, "curvature"):
        return None
    return check_number("loss.curvature", loss.curvature)


def check_gradient(
    egrad: Any, shape: tuple[int, int], name: str = "loss.gradient(w)", what: str = "the loss is defined on"
) -> Any:
    """Refuse a gradient that does not support ``g @ v`` and ``g.T @ u``, is complex or has the wrong shape."""
    if not (hasattr(egrad, "shape") and hasattr(egrad, "T") and hasattr(egrad, "__matmul__")):
        raise TypeError(f"`{name}` must support `g @ v` and `g.T @ u`, got {describe(egrad)}.")
    check_real(name, egrad)
    check_shape(name, egrad.shape, shape, what)
    return egrad


def check_measurement(a: Any) -> None:
    """Refuse what is not a measurement: shape, outputs, samples, forward(w), adjoint(r)."""
    missing = [name for name in ("shape", "outputs", "samples", "forward", "adjoint") if not hasattr(a, name)]
    if missing or isinstance(a, type):
        lacks = f", which lacks {' and '.join(missing)}" if missing and not isinstance(a, type) else ""
        raise TypeError(
            f"`measurement` must have shape, outputs, samples, forward(w) and adjoint(r), got {describe(a)}{lacks}."
            " Use Inputs, Entries, Bilinear or Sensing."
        )


def check_link(link: Any) -> None:
    """Refuse what is not a link: value(z) and gradient(z)."""
    missing = [name for name in ("value", "gradient") if not callable(getattr(link, name, None))]
    if missing or isinstance(link, type):
        lacks = f", which lacks {' and '.join(missing)}" if missing and not isinstance(link, type) else ""
        raise TypeError(
            f"`link` must be a function or have value(z) and gradient(z), got {describe(link)}{lacks}."
            " Use Squared(targets), Huber(targets), Logistic(labels), ..."
        )


def as_labels(name: str, labels: ArrayLike, classes: int | None) -> NDArray[np.intp]:
    """Return class labels, whole numbers from 0 to classes - 1."""
    values = as_numbers(name, labels)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"`{name}` must be a vector with one label a sample, got shape {values.shape}.")
    if values.dtype.kind not in "iu" and not np.array_equal(values, np.trunc(values)):
        raise TypeError(f"`{name}` must be whole numbers, got dtype {values.dtype}.")
    most = None if classes is None else check_integer("classes", classes, low=2)
    low, high = int(values.min()), int(values.max())
    if low < 0 or (most is not None and high >= most):
        upper = "" if most is None else f" and {most - 1}, one for each of {most} classes"
        raise ValueError(
            f"`{name}` must lie between 0{upper or ' and the number of classes - 1'}, got {low} .. {high}."
        )
    return values.astype(np.intp)


def as_index(name: str, value: ArrayLike, size: int, index: np.dtype[Any]) -> NDArray[Any]:
    """Return positions within 0 .. size - 1 as the given type, the array itself where it has it."""
    array = np.atleast_1d(np.asarray(value))
    whole = array.dtype.kind in "iu" or (array.dtype.kind == "f" and np.array_equal(array, np.trunc(array)))
    if array.size and not whole:
        raise TypeError(f"`{name}` must be whole numbers, got dtype {array.dtype}.")
    if array.size and (array.min() < 0 or array.max() >= size):
        raise ValueError(f"`{name}` must lie between 0 and {size - 1}, got {array.min()} .. {array.max()}.")
    return array.astype(index, copy=False)


def as_positions(rows: ArrayLike, cols: ArrayLike, shape: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return positions within a shape, in the order given and in the smallest index type that holds them."""
    size = max(*shape, np.size(rows))
    index = np.dtype(np.int32 if size < np.iinfo(np.int32).max else np.int64)
    r, c = as_index("rows", rows, shape[0], index), as_index("cols", cols, shape[1], index)
    if r.shape != c.shape or r.ndim != 1 or r.size == 0:
        raise ValueError(f"`rows` and `cols` must be vectors of one length above 0, got {r.shape} and {c.shape}.")
    return r, c


def refuse_repeated(rows: NDArray[Any], cols: NDArray[Any]) -> NoReturn:
    """Raise for positions of which one at least is known to stand twice, and name it."""
    order = np.lexsort((cols, rows))
    r, c = rows[order], cols[order]
    i = int(np.argmax((r[1:] == r[:-1]) & (c[1:] == c[:-1])))
    raise ValueError(
        f"`rows`, `cols` must name each position once, got ({int(r[i])}, {int(c[i])}) twice."
        " Average repeated observations first."
    )


def check_value(value: Any) -> float:
    """Return the value of a loss: one real number."""
    array = np.asarray(value)
    if array.shape != () or array.dtype.kind not in "fiu":
        raise TypeError(f"`loss.value(w)` must be one real number, got {describe(value)}.")
    return float(array)


def check_matrix(name: str, w: Any, shape: tuple[int, int]) -> None:
    """Refuse what a loss is not defined on; the check of every evaluation, so it looks at no more than the shape."""
    if not (hasattr(w, "shape") and hasattr(w, "__matmul__")):
        raise TypeError(f"`{name}` must be an array, LowRankMatrix, Product or LinearNetwork, got {describe(w)}.")
    check_shape(name, w.shape, shape)


def check_metric(metric: Any) -> None:
    """Refuse what is not a metric: an object with ``coefficients(s)``."""
    if isinstance(metric, type) or not callable(getattr(metric, "coefficients", None)):
        raise TypeError(
            f"`metric` must have coefficients(s), got {describe(metric)}. Pass an instance: DepthMetric(3)."
        )


def check_coefficients(metric: Any, s: Array) -> Any:
    """Return the coefficients of a metric at `s`: finite, of the shapes of `Coefficients`, with a symmetric mix."""
    c, r = metric.coefficients(s), s.size
    if not all(hasattr(c, part) for part in ("core", "up", "vp", "apply", "solve")):
        raise TypeError(f"`metric` must return Coefficients(core, up, vp) from coefficients(s), got {describe(c)}.")
    for part, want in (("core", (r, r)), ("up", (r,)), ("vp", (r,)), ("mix", (r, r))):
        value: Any = getattr(c, part, None)
        if value is None and part == "mix":
            continue
        got = np.shape(value)
        if got != want:
            raise ValueError(f"`metric` must have coefficients(s).{part} of shape {want}, got {got}.")
        check_finite(f"coefficients(s).{part}", np.asarray(value))
    mix = getattr(c, "mix", None)
    if mix is not None and not np.allclose(mix, np.asarray(mix).T, rtol=1e-10, atol=0):
        gap = float(np.abs(mix - np.asarray(mix).T).max())
        raise ValueError(f"`metric` must have a symmetric mix to be self-adjoint, got an asymmetry of {gap:.2g}.")
    return c


def check_positive(metric: Any, s: Array, shape: tuple[int, int], *, degenerate: bool = False) -> Any:
    """Return the coefficients at `s`, positive on the tangent space of the rank-r matrices of a shape.

    With `degenerate`, the directions that turn the row and column spaces may have the coefficient 0.
    """
    c, (m, n), r = check_coefficients(metric, s), shape, s.size
    parts = {
        "r x r block": c.pair_eigenvalues(),
        "directions that turn the column space (up)": c.up[: r * (m > r)],
        "directions that turn the row space (vp)": c.vp[: r * (n > r)],
    }
    for part, values in parts.items():
        zero = degenerate and part != "r x r block"
        if values.size and not (values.min() > 0 or (zero and values.min() == 0)):
            fix = " DepthMetric(inf) is degenerate below full rank; use a finite depth." if values.min() == 0 else ""
            raise ValueError(
                f"`metric` must be positive on the tangent space, got {float(values.min()):.3g} on the {part}.{fix}"
            )
    return c


def check_differences(metric: Any, purpose: str = "a Riemannian Hessian", fix: str = "ConjugateGradient") -> None:
    """Refuse a metric without the divided differences that Hessian and geodesics need."""
    if not callable(getattr(metric, "differences", None)):
        raise TypeError(
            f"`metric` must have differences(s) for {purpose}, which {type(metric).__name__} has not."
            f" Use DepthMetric, EmbeddedMetric, ScaledGDMetric, TwoFactorMetric, ..., or {fix}."
        )


def check_hessian(loss: Any, metric: Any) -> None:
    """Refuse what TrustRegions cannot use: a loss without a Hessian, a metric without differences."""
    if not callable(getattr(loss, "hessian", None)):
        raise TypeError(
            "`loss` has no `hessian`, so TrustRegions cannot be used. Add hessian(w, z), or choose ConjugateGradient."
        )
    check_differences(metric)


def check_point(name: str, w: Any, why: str = "") -> None:
    """Refuse what is not a LowRankMatrix; told by its parts, because this module knows no other."""
    if not all(hasattr(w, part) for part in ("u", "s", "vt", "split")) or isinstance(w, type):
        raise TypeError(
            f"`{name}` must be a LowRankMatrix{why}, got {describe(w)}."
            " Use network.to_low_rank() or LowRankMatrix.from_dense(a, rank)."
        )


def check_network(name: str, net: Any, why: str = "") -> None:
    """Refuse what is not a LinearNetwork."""
    if not (hasattr(net, "factors") and hasattr(net, "split")) or isinstance(net, type):
        raise TypeError(
            f"`{name}` must be a LinearNetwork{why}, got {describe(net)}."
            " Use LinearNetwork([W_1, ..., W_N]) or LinearNetwork.balanced(start, depth)."
        )


def check_tangent(name: str, z: Any, w: Any) -> None:
    """Refuse what is not a Tangent in the frames of the LowRankMatrix `w`."""
    if isinstance(z, type) or not all(hasattr(z, part) for part in ("up", "core", "vp")):
        raise TypeError(f"`{name}` must be a Tangent, got {describe(z)}. Use project(w, z) or Tangent(up, core, vp).")
    (m, n), k = w.shape, w.s.size
    for part, want in (("up", (m, k)), ("core", (k, k)), ("vp", (n, k))):
        check_shape(f"{name}.{part}", np.shape(getattr(z, part)), want, "`w` asks for")


def check_symmetric_point(name: str, w: Any, metric: object) -> None:
    """Refuse a LowRankMatrix that is not symmetric positive semidefinite: u == vt.T to 1e-8."""
    (m, n), label = w.shape, type(metric).__name__
    if m != n:
        raise ValueError(f"`{name}` must be symmetric positive semidefinite under {label}, got shape {w.shape}.")
    gap = float(np.linalg.norm(w.u - w.vt.T))
    if not gap <= 1e-8:
        raise ValueError(
            f"`{name}` must be symmetric positive semidefinite (u == vt.T) under {label}, got a gap of {gap:.2g}."
            " Use LowRankMatrix.from_factor(y), which is y @ y.T."
        )


def check_symmetric_tangent(name: str, z: Any, metric: object) -> None:
    """Refuse a tangent vector of the symmetric matrices that is not symmetric, to 1e-8 of its norm."""
    gap = float(np.hypot(np.linalg.norm(z.core - z.core.T), np.linalg.norm(z.up - z.vp)))
    if not gap <= 1e-8 * float(z.norm()):
        raise ValueError(
            f"`{name}` must be symmetric under {type(metric).__name__}, got an asymmetry of {gap:.2g}."
            f" Use {name}.symmetrised()."
        )


def check_path(name: str, path: Any) -> Path:
    """Return a path."""
    try:
        found = Path(path)
    except TypeError:
        raise TypeError(f"`{name}` must be the path of a file, got {describe(path)}.") from None
    if "\0" in str(found):
        raise ValueError(f"`{name}` must be the path of a file, got {describe(path)} with a null character.")
    return found


def check_output_folder(path: str | os.PathLike[str]) -> Path:
    """Create the folder if need be and make sure that it can be written, before any work is done."""
    folder = check_path("out", path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".lowrankflow-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"`out` must be a folder that can be written, got {str(folder)!r} ({error.strerror}). Choose another."
        ) from None
    return folder


def check_file(name: str, path: str | os.PathLike[str]) -> Path:
    """Return the path of a file that exists and is not empty."""
    file = check_path(name, path)
    if not os.path.isfile(file):  # False, not an error, below a folder that may not be entered
        what = "the folder " if os.path.isdir(file) else ""
        raise ValueError(f"`{name}` must be an existing file, got {what}{str(file)!r}.")
    if file.stat().st_size == 0:
        raise ValueError(f"`{name}` must not be empty, got {str(file)!r} with 0 bytes.")
    return file


def check_callable(name: str, value: object) -> Callable[..., Any] | None:
    """Return a callable or None."""
    if value is not None and not callable(value):
        raise TypeError(f"`{name}` must be callable or None, got {describe(value)}.")
    return value


def check_flags(**flags: object) -> None:
    """Refuse what is neither True nor False."""
    for name, value in flags.items():
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"`{name}` must be True or False, got {describe(value)}.")
