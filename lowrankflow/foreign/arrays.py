"""Arrays of other libraries: pandas, scipy.sparse, torch, JAX, CuPy."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "as_array",
    "as_evaluated",
    "is_foreign",
    "is_tensor",
    "precision",
    "tensors_may_come",
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
