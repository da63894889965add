"""Arrays and networks of other libraries: pandas, scipy.sparse, torch, JAX, CuPy.

Whoever hands over a tensor has imported its library, so nothing is imported here but by `to_torch`. What is returned shares no
memory with a tensor, whose training would change it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "as_array",
    "as_evaluated",
    "from_torch",
    "is_foreign",
    "is_tensor",
    "precision",
    "tensors_may_come",
    "to_torch",
]

_DENSE = 10**9  #: numbers up to which a sparse array is made dense where a dense one is asked for: 8 GB


def _library(value: object) -> str:
    """Return the library of a value's class, or of one that it is derived from; "" where it is none of those known here."""
    homes = (kind.__module__.partition(".")[0] for kind in type(value).__mro__)
    return next((home for home in homes if home in _READERS), "")


def is_foreign(value: object) -> bool:
    """Whether `as_array` converts a value by more than numpy does."""
    return type(value) is not np.ndarray and _library(value) != ""


def is_tensor(value: object) -> bool:
    """Whether a matrix is one of another library, which numpy's arrays do not multiply as theirs; scipy's are multiplied."""
    return isinstance(value, np.matrix) or (is_foreign(value) and _library(value) != "scipy")


def tensors_may_come() -> bool:
    """Whether a library is loaded whose tensors a loss could return."""
    return not sys.modules.keys().isdisjoint(("torch", "jax", "cupy"))


def as_array(name: str, value: Any) -> Any:
    """Return an array of another library as numpy's, in its own precision; anything else as it is.

    Parameters
    ----------
    name : str
        What messages call it.
    value : object
        A DataFrame, a Series, a scipy sparse array, a tensor (on any device, with or without gradients, bfloat16 too), a
        JAX or CuPy array.

    Raises
    ------
    ValueError, TypeError
        If a column of a frame does not hold numbers, a sparse array is too large to be dense, or JAX is tracing.
    """
    if isinstance(value, np.matrix):
        return np.asarray(value)
    return _READERS[_library(value)](name, value) if is_foreign(value) else value


def as_evaluated(name: str, w: Any) -> Any:
    """Return W as a loss evaluates it: scipy's sparse arrays as `csr_array`, other libraries' arrays and np.matrix as arrays."""
    if type(w) is np.ndarray:
        return w
    if hasattr(w, "tocsr"):
        from scipy import sparse

        return sparse.csr_array(w)
    return as_array(name, w)


def precision(value: Any) -> float:
    """Return the relative precision in which an array is held: that of its floating-point type, of double precision else."""
    dtype = getattr(value, "dtype", None)
    bits = {"torch.float32": 24, "torch.float16": 11, "torch.bfloat16": 8, "float32": 24, "float16": 11, "bfloat16": 8}
    return 2.0 ** (1 - bits.get(str(dtype), 53))


def _of_torch(name: str, value: Any) -> NDArray[Any]:
    torch = sys.modules["torch"]
    tensor = value.detach()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_floating_point() and tensor.dtype not in (torch.float64, torch.float32, torch.float16):
        tensor = tensor.float()  # numpy has no bfloat16
    return np.array(tensor.cpu().resolve_conj().resolve_neg().numpy())


def _of_jax(name: str, value: Any) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except TypeError:
        raise TypeError(
            f"`{name}` must be an array of numbers, got a JAX tracer. Call it outside of jit and grad."
        ) from None
    return array.astype(np.float32) if array.dtype.kind == "V" else array  # bfloat16 and its like


def _of_scipy(name: str, value: Any) -> Any:
    if not hasattr(value, "toarray"):  # an operator, a distribution
        return value
    if int(np.prod(value.shape, dtype=object)) > _DENSE:
        raise ValueError(
            f"`{name}` must be an array that fits as a dense one, got a sparse one of shape {value.shape}."
            " Leave out columns, or fit its stored entries alone (Completion.from_sparse)."
        )
    return value.toarray()


def _of_pandas(name: str, value: Any) -> Any:
    frame = value.to_frame() if getattr(value, "ndim", 0) == 1 and hasattr(value, "to_frame") else value
    if not hasattr(frame, "dtypes") or not hasattr(frame, "columns"):  # an extension array
        return np.asarray(value)
    is_numeric = sys.modules["pandas"].api.types.is_numeric_dtype
    frame = frame.infer_objects()
    texts = [(column, kind) for column, kind in frame.dtypes.items() if not is_numeric(kind)]
    if texts:
        column, kind = texts[0]
        where = f" in column {column!r}" if value is not None and getattr(value, "ndim", 2) == 2 else ""
        raise TypeError(f"`{name}` must be an array of numbers, got {kind}{where}. Encode it, or leave it out.")
    array = frame.to_numpy(dtype=np.float64, na_value=np.nan)
    return array[:, 0] if getattr(value, "ndim", 2) == 1 else array


def _of_cupy(name: str, value: Any) -> Any:
    return value.get() if hasattr(value, "get") else value


_READERS = {
    "torch": _of_torch, "jax": _of_jax, "jaxlib": _of_jax, "scipy": _of_scipy, "pandas": _of_pandas, "cupy": _of_cupy,
}  # fmt: skip


# -- networks ------------------------------------------------------------------------------------


def from_torch(module: Any) -> list[NDArray[Any]]:
    """Return the weights of a chain of linear layers without biases, in double precision, the one that acts first first.

    Parameters
    ----------
    module : torch.nn.Module, mapping or iterable
        Linear, a Sequential of them (nested, with Identity), any module whose layers are used in the order in which they were
        defined; a state dict; ``module.parameters()``.
    """
    if isinstance(module, Mapping):
        weights = _of_state(module)
    elif hasattr(module, "named_modules"):
        weights = [layer.weight for layer in _layers(module)]
    elif isinstance(module, Iterable):
        weights = list(module)
    else:
        kind = type(module).__name__
        raise TypeError(f"`module` must be a torch.nn.Module, a state dict or a list of weights, got {kind}.")
    arrays = [np.asarray(as_array("module", weight), dtype=np.float64) for weight in weights]
    vectors = [j for j, array in enumerate(arrays) if array.ndim != 2]
    if vectors or not arrays:
        got = f"shape {arrays[vectors[0]].shape} at number {vectors[0]}" if vectors else "none"
        raise ValueError(f"`module` must hold weights of linear layers without biases, got {got}. Use bias=False.")
    if hasattr(module, "named_modules") and not _is_sequential(module):
        _require_chain(module, arrays, max(map(precision, weights)))
    return arrays


def _of_state(state: Mapping[str, Any]) -> list[Any]:
    biased = next((name for name in state if str(name).rpartition(".")[2] == "bias"), None)
    if biased is not None:
        raise ValueError(f"`module` must have no biases, got {biased!r}. Use bias=False.")
    return list(state.values())


def _layers(module: Any) -> list[Any]:
    """Return the linear layers of a module; refuse what else it is made of."""
    nn = sys.modules["torch"].nn
    found = []
    for name, layer in module.named_modules(remove_duplicate=False):
        label = f"{type(layer).__name__} {name!r}" if name else type(layer).__name__
        if isinstance(layer, nn.Linear):
            if layer.bias is not None:
                raise ValueError(f"`module` must have no biases, got {label} with one. Use bias=False.")
            found.append(layer)
        elif isinstance(layer, nn.Dropout) and (layer.p == 0 or not layer.training):
            continue
        elif not isinstance(layer, (nn.Identity, nn.Sequential)) and (
            layer is not module or not list(layer.children())
        ):
            raise ValueError(f"`module` must be a chain of Linear layers, got {label}. Leave it out.")
    if len({id(layer.weight) for layer in found}) < len(found):
        raise ValueError("`module` must have a weight of its own in each layer, got one that is shared.")
    return found


def _is_sequential(module: Any) -> bool:
    """Whether a module of linear layers uses them one after the other by what it is."""
    nn = sys.modules["torch"].nn
    plain = (nn.Sequential.forward, nn.Linear.forward, nn.Identity.forward, nn.Dropout.forward)
    return all(type(layer).forward in plain for layer in module.modules())


def _require_chain(module: Any, factors: Sequence[NDArray[np.float64]], eps: float) -> None:
    """Refuse a module that does not multiply its weights in their order, by what it makes of two samples."""
    torch = sys.modules["torch"]
    chained = all(a.shape[0] == b.shape[1] for a, b in pairwise(factors))
    x = np.cos(np.arange(1.0, 2 * factors[0].shape[1] + 1)).reshape(2, -1)  # of both signs, without a random number
    wanted, size = x.T, x.T
    for factor in factors if chained else ():
        wanted, size = factor @ wanted, abs(factor) @ abs(size)
    weight = next(module.parameters())
    try:
        with torch.no_grad():
            found = as_array("module", module(torch.as_tensor(x, dtype=weight.dtype, device=weight.device))).T
    except Exception as error:
        raise ValueError(f"`module` must map samples in rows, got {type(error).__name__} from its forward.") from None
    # roundoff of products of N matrices with sums of d terms, against the same with all signs equal
    bound = 4 * len(factors) * max(map(max, (f.shape for f in factors))) * eps * size
    if not chained or found.shape != wanted.shape or not (abs(found - wanted) <= bound).all():
        raise ValueError(
            "`module` must use its Linear layers in the order in which it defines them, and nothing else; its forward does not."
            " Use torch.nn.Sequential."
        )


def to_torch(factors: Sequence[NDArray[np.float64]], dtype: Any = None) -> Any:
    """Return a torch.nn.Sequential of Linear layers without biases; in double precision, where no `dtype` is given."""
    try:
        torch: Any = import_module("torch")
    except ImportError:
        raise ImportError("`to_torch` needs torch. Run: pip install torch") from None
    dtype = torch.float64 if dtype is None else dtype
    layers = []
    for factor in factors:
        layer = torch.nn.utils.skip_init(torch.nn.Linear, factor.shape[1], factor.shape[0], bias=False, dtype=dtype)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(np.ascontiguousarray(factor)))
        layers.append(layer)
    return torch.nn.Sequential(*layers)
