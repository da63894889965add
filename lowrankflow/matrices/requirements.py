"""What matrices, networks and their sizes have to be, and the message where they are not.

Points are told by their parts, so that nothing here needs the classes.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import validation
from ..foreign import Layer, as_evaluated, is_foreign
from ..validation import Array

_MOST_FACTORS = 1_000_000


def require_depth(depth: object, *, integer: bool = False) -> float:
    """Return the depth N: a number above 1, whole where it counts factors."""
    if isinstance(depth, bool) or not isinstance(depth, numbers.Real):
        raise TypeError(f"`depth` must be a number greater than 1, got {validation.describe(depth)}.")
    number = validation._as_float(depth)
    if math.isnan(number):
        raise ValueError("`depth` must be a number greater than 1, got nan.")
    if number <= 1:
        raise ValueError(
            f"`depth` must be greater than 1, got {number:g}. A depth-1 flow does not preserve rank;"
            " use EmbeddedMetric() for the projected flow."
        )
    if math.isinf(number) and number != depth:
        raise ValueError(f"`depth` must fit a float, got {validation.describe(depth)}. Use float('inf') for the limit.")
    if not integer:
        return number
    if not number.is_integer():
        raise ValueError(f"`depth` must be a whole number of factors here, got {number:g}. Use 2, 3, 4 or more.")
    if number > _MOST_FACTORS:
        raise ValueError(
            f"`depth` must be at most {_MOST_FACTORS} factors, got {number:g}. DepthMetric takes any depth."
        )
    return int(number)


def require_rank(rank: object, shape: tuple[int, int], name: str = "rank") -> int:
    """Return a rank between 1 and min(m, n)."""
    value = validation.require_integer(name, rank, low=1)
    if value > min(shape):
        raise ValueError(
            f"`{name}` must not exceed min(m, n), got {name}={value} for a matrix of shape {tuple(shape)}."
        )
    return value


def require_numerical_rank(rank: int, numerical_rank: int) -> None:
    """Refuse a rank above the numerical rank of the matrix it is asked of."""
    if rank > numerical_rank:
        raise ValueError(
            f"`rank` must not exceed the numerical rank of the matrix, got rank={rank} for a matrix of"
            f" numerical rank {numerical_rank}."
        )


def require_singular_values(name: str, s: ArrayLike, rank: int) -> Array:
    """Return `rank` positive singular values, sorted in decreasing order."""
    if isinstance(s, numbers.Real) and not isinstance(s, bool):
        s = np.full(rank, s)  # one number for all
    values = validation.as_vector(name, s, rank)
    if not (values > 0).all():
        raise ValueError(f"`{name}` must be positive, got a smallest value of {values.min():g}.")
    return np.sort(values)[::-1].copy()


def require_widths(widths: int | Iterable[int] | None, depth: int, rank: int) -> tuple[int, ...]:
    """Return the hidden widths (d_1, ..., d_{N-1}); None means the rank, one number means every layer."""
    if widths is None:
        return (rank,) * (depth - 1)
    if isinstance(widths, (int, np.integer)) and not isinstance(widths, bool):
        widths = (int(widths),) * (depth - 1)
    items = validation.as_tuple(widths)
    if items is None:
        raise TypeError(f"`widths` must be whole numbers, one a hidden layer, got {validation.describe(widths)}.")
    values = tuple(validation.require_integer("widths", d, low=1) for d in items)
    if len(values) != depth - 1:
        raise ValueError(
            f"`widths` must hold one number for each of the {depth - 1} hidden layers of depth {depth},"
            f" got {len(values)}."
        )
    if min(values) < rank:
        raise ValueError(f"`widths` must be at least the rank {rank}, got {min(values)}. Lower `rank` or widen.")
    return values


def require_factors(factors: Iterable[ArrayLike], *, low: int = 1, name: str = "factors") -> tuple[Array, ...]:
    """Return the factors W_1, ..., W_N as finite matrices that chain."""
    single = isinstance(factors, (np.ndarray, Mapping, Set)) or is_foreign(factors) or hasattr(factors, "to_dense")
    items = None if single else validation.as_tuple(factors)
    if items is None:
        raise TypeError(f"`{name}` must be a list of matrices [W_1, ..., W_N], got {validation.describe(factors)}.")
    factors = items
    if len(factors) < low:
        raise ValueError(
            f"`{name}` must hold at least {low} {'matrix' if low == 1 else 'matrices'}, got {len(factors)}."
        )
    arrays = tuple(validation.as_matrix(f"{name}[{j}]", f) for j, f in enumerate(factors))
    for j in range(1, len(arrays)):
        if arrays[j].shape[1] != arrays[j - 1].shape[0]:
            reverse = all(arrays[i - 1].shape[1] == arrays[i].shape[0] for i in range(1, len(arrays)))
            hint = f" Are they in reverse order? {name}[0] is W_1, the one that acts first." if reverse else ""
            raise ValueError(
                f"`{name}` do not chain: {name}[{j}] has shape {arrays[j].shape} but"
                f" {name}[{j - 1}] has {arrays[j - 1].shape[0]} rows.{hint}"
            )
    return arrays


def require_no_biases(name: str, layers: Sequence[Layer], instead: str) -> list[Array]:
    """Return the weights of layers without biases."""
    biased = next((layer.name for layer in layers if layer.bias is not None), None)
    if biased is not None:
        raise ValueError(f"`{name}` must have no biases, got {biased} with one. Use {instead}.")
    return [layer.weight for layer in layers]


def require_biases(biases: Any, weights: Sequence[Array]) -> tuple[Array | None, ...]:
    """Return one vector or None a layer, as long as the layer has outputs."""
    items = validation.as_tuple(biases)
    if items is None or len(items) != len(weights):
        got = validation.describe(biases) if items is None else f"{len(items)} for {len(weights)} layers"
        raise (TypeError if items is None else ValueError)(f"`biases` must be a vector or None a layer, got {got}.")
    return tuple(
        None if b is None else validation.as_vector(f"biases[{j}]", b, len(w))
        for j, (b, w) in enumerate(zip(items, weights, strict=True))
    )


def as_directions(name: str, directions: Iterable[ArrayLike], factors: Sequence[Array]) -> list[Array]:
    """Return one finite matrix a factor, each of its factor's shape."""
    items = validation.as_tuple(directions)
    if items is None:
        raise TypeError(f"`{name}` must be a list of matrices, one a factor, got {validation.describe(directions)}.")
    arrays = [validation.as_matrix(f"{name}[{j}]", e) for j, e in enumerate(items)]
    if len(arrays) != len(factors):
        raise ValueError(f"`{name}` must hold one array for each of the {len(factors)} factors, got {len(arrays)}.")
    for j, (e, f) in enumerate(zip(arrays, factors, strict=True)):
        validation.require_shape(f"{name}[{j}]", e.shape, f.shape, f"factors[{j}] has shape")
    return arrays


def as_trained(trained: Iterable[ArrayLike], factors: Sequence[Array]) -> tuple[NDArray[np.bool_], ...]:
    """Return which entries of the factors are trained, one array of True and False a factor, of its shape."""
    items = validation.as_tuple(trained)
    if items is None or len(items) != len(factors):
        got = validation.describe(trained) if items is None else f"{len(items)} for {len(factors)} factors"
        raise (TypeError if items is None else ValueError)(
            f"`trained` must hold an array of True and False for each factor, got {got}."
        )
    for j, (free, f) in enumerate(zip(items, factors, strict=True)):
        if getattr(getattr(free, "dtype", None), "kind", "") != "b":
            raise TypeError(f"`trained[{j}]` must be an array of True and False, got {validation.describe(free)}.")
        validation.require_shape(f"trained[{j}]", np.shape(free), f.shape, f"factors[{j}] has shape")
    return items


def require_balanced(imbalance: float, tolerance: float) -> None:
    """Refuse unbalanced factors in a function whose formula needs balance."""
    if not imbalance <= tolerance:
        raise ValueError(
            f"The factors are not balanced (relative imbalance {imbalance:.2g}, allowed {tolerance:.2g})."
            " Start from LinearNetwork.balanced, or call network.rebalanced()."
        )


def as_operand(name: str, w: Any, shape: tuple[int, int]) -> Any:
    """Return W as a loss evaluates it, and refuse what it is not defined on; the check of every evaluation.

    Representations of this library, arrays and what autograd traces are returned as they are; scipy's sparse arrays become
    `csr_array`, and what other libraries hold an array.
    """
    if type(w) is not np.ndarray and not hasattr(w, "to_low_rank"):
        w = as_evaluated(name, w)
    if getattr(w, "shape", None) != shape or not hasattr(w, "__matmul__"):
        require_matrix(name, w, shape)
    return w


def as_dense(w: Any) -> Any:
    """Return what `as_operand` returned as an array, or as what autograd traces."""
    return w.to_dense() if hasattr(w, "to_dense") else w.toarray() if hasattr(w, "toarray") else w


def require_matrix(name: str, w: Any, shape: tuple[int, int]) -> None:
    """Refuse what a loss is not defined on, by no more than its shape."""
    if not (hasattr(w, "shape") and hasattr(w, "__matmul__")):
        raise TypeError(
            f"`{name}` must be an array, LowRankMatrix, Product or LinearNetwork, got {validation.describe(w)}."
        )
    validation.require_shape(name, w.shape, shape)


def require_point(name: str, w: Any, why: str = "") -> None:
    """Refuse what is not a LowRankMatrix; told by its parts, because this module knows no other."""
    if not all(hasattr(w, part) for part in ("u", "s", "vt", "split")) or isinstance(w, type):
        raise TypeError(
            f"`{name}` must be a LowRankMatrix{why}, got {validation.describe(w)}."
            " Use network.to_low_rank() or LowRankMatrix.from_dense(a, rank)."
        )


def require_network(name: str, net: Any, why: str = "") -> None:
    """Refuse what is not a LinearNetwork."""
    if not (hasattr(net, "factors") and hasattr(net, "split")) or isinstance(net, type):
        raise TypeError(
            f"`{name}` must be a LinearNetwork{why}, got {validation.describe(net)}."
            " Use LinearNetwork([W_1, ..., W_N]) or LinearNetwork.balanced(start, depth)."
        )


def require_tangent(name: str, z: Any, w: Any) -> None:
    """Refuse what is not a Tangent in the frames of the LowRankMatrix `w`."""
    if isinstance(z, type) or not all(hasattr(z, part) for part in ("up", "core", "vp")):
        raise TypeError(
            f"`{name}` must be a Tangent, got {validation.describe(z)}. Use project(w, z) or Tangent(up, core, vp)."
        )
    (m, n), k = w.shape, w.s.size
    for part, want in (("up", (m, k)), ("core", (k, k)), ("vp", (n, k))):
        validation.require_shape(f"{name}.{part}", np.shape(getattr(z, part)), want, "`w` asks for")


def require_symmetric_point(name: str, w: Any, metric: object) -> None:
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


def require_symmetric_tangent(name: str, z: Any, metric: object) -> None:
    """Refuse a tangent vector of the symmetric matrices that is not symmetric, to 1e-8 of its norm."""
    gap = float(np.hypot(np.linalg.norm(z.core - z.core.T), np.linalg.norm(z.up - z.vp)))
    if not gap <= 1e-8 * float(z.norm()):
        raise ValueError(
            f"`{name}` must be symmetric under {type(metric).__name__}, got an asymmetry of {gap:.2g}."
            f" Use {name}.symmetrised()."
        )
