"""Stacks of arrays of whoever brings them: numpy, torch, CuPy, JAX, by the array API standard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import array_api_compat as api
import numpy as np
from numpy.typing import NDArray

from .. import validation

__all__ = [
    "as_stack",
    "columns",
    "groups",
    "like",
    "namespace",
    "norms",
    "per_member",
    "product",
    "squares",
    "taken",
    "to_numpy",
]

Stack = Any  #: an array whose first axis counts members


_NAMESPACES: dict[type, Any] = {}  # of the types of arrays seen: asking anew costs as much as a product of small stacks


def namespace(*arrays: Stack) -> Any:
    """Return the namespace of arrays of one kind."""
    kind = type(arrays[0])
    if kind not in _NAMESPACES:
        _NAMESPACES[kind] = api.array_namespace(arrays[0])
    return _NAMESPACES[kind]


def as_stack(name: str, value: Any, ndim: tuple[int, ...], *, gaps: bool = False) -> Stack:
    """Return a float64 array of one of these numbers of axes, in the namespace that it came in; numpy for lists.

    It is finite, or may have gaps of nan with `gaps`.
    """
    if not api.is_array_api_obj(value) or isinstance(value, np.ndarray):
        value = validation.as_real(name, value)
    if value.ndim not in ndim:
        axes = " or ".join(map(str, ndim))
        raise ValueError(f"`{name}` must have {axes} axes, got shape {tuple(value.shape)}.")
    if 0 in value.shape:
        raise ValueError(f"`{name}` must not be empty, got shape {tuple(value.shape)}.")
    xp = namespace(value)
    if not xp.isdtype(value.dtype, ("real floating", "integral", "bool")):
        raise TypeError(f"`{name}` must be an array of real numbers, got dtype {value.dtype}.")
    value = xp.astype(value, xp.float64)
    if value.dtype != xp.float64:  # JAX without 64 bits gives 32, whatever one asks for
        raise TypeError(
            f'`{name}` must be float64, got {value.dtype}. In JAX: jax.config.update("jax_enable_x64", True).'
        )
    if not gaps and not bool(xp.all(xp.isfinite(value))):
        raise ValueError(f"`{name}` must be finite, got nan or inf.")
    return value


def like(reference: Stack, value: Any) -> Stack:
    """Return numbers as an array beside another: its namespace, its device; whole numbers and flags keep their kind."""
    xp = namespace(reference)
    if isinstance(value, np.ndarray) and not value.flags.writeable:  # torch refuses to share those
        value = value.copy()
    return xp.asarray(value, device=api.device(reference))


def to_numpy(array: Stack) -> NDArray[Any]:
    """Return the array in main memory."""
    if isinstance(array, np.ndarray):
        return array
    if api.is_torch_array(array) or api.is_cupy_array(array):
        array = api.to_device(array, "cpu")
    return np.asarray(array) if isinstance(array, np.ndarray) or api.is_jax_array(array) else np.from_dlpack(array)


def per_member(name: str, value: Any, members: int, *, positive: bool = True, finite: bool = True) -> NDArray[Any]:
    """Return one positive (or non-negative) number a member, of a number for all or of as many."""
    if np.ndim(value) == 0 and not api.is_array_api_obj(value):
        return np.full(members, validation.require_number(name, value, positive=positive, finite=finite))
    found = np.asarray(validation.as_real(name, to_numpy(value) if api.is_array_api_obj(value) else value), np.float64)
    if found.shape not in ((), (members,)):
        raise ValueError(f"`{name}` must be one number, or one for each of {members} members, got shape {found.shape}.")
    for worst in (found.min(), found.max()):  # nan is both
        validation.require_number(name, float(worst), positive=positive, finite=finite)
    return np.broadcast_to(found, (members,)).copy()


def taken(array: Stack | None, chosen: NDArray[np.intp], axes: int) -> Stack | None:
    """Return the rows of these members; what has fewer than `axes` axes belongs to all of them, and stays."""
    if array is None or array.ndim < axes:
        return array
    return namespace(array).take(array, like(array, chosen), axis=0)


def product(a: Stack, b: Stack) -> Stack:
    """Return the matrix products a b, of a stack (R, p, q) and a stack or one matrix for all, (q, s)."""
    if b.ndim == 2:  # one large product in place of many small ones
        xp = namespace(a)
        flat = xp.reshape(a, (-1, a.shape[-1]))
        return xp.reshape(flat @ b, (*a.shape[:-1], b.shape[-1]))
    return a @ b


def columns(numbers: Stack, axes: int) -> Stack:
    """Return one number a member such that it multiplies stacks of so many axes."""
    return namespace(numbers).reshape(numbers, (-1,) + (1,) * (axes - 1))


def groups(stack: Stack, together: int) -> Iterator[NDArray[np.intp]]:
    """Yield the members of a stack (R, n) in groups: of numpy's, of so many numbers, else all of them."""
    members = stack.shape[0]
    size = max(1, together // stack.shape[1]) if api.is_numpy_array(stack) else members
    for begin in range(0, members, size):
        yield np.arange(begin, min(begin + size, members))


def squares(stack: Stack) -> Stack:
    """Return the sum of the squares of each member."""
    xp = namespace(stack)
    flat = xp.reshape(stack, (stack.shape[0], -1))
    return xp.vecdot(flat, flat)


def norms(stack: Stack) -> Stack:
    """Return the Frobenius norm of each member."""
    return squares(stack) ** 0.5
