"""A loss from a function of W."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from .. import validation
from ..matrices import MatrixOrArray
from ..matrices.requirements import as_dense, as_operand
from ..validation import Array

__all__ = ["from_function"]


def from_function(function: Callable[[Any], Any], shape: tuple[int, int], *, convex: bool | None = None) -> _Function:
    """Return a loss from a function of the dense W, differentiated by autograd.

    Parameters
    ----------
    function : callable
        Takes W as an autograd array (m, n) and returns a scalar: write it with ``autograd.numpy``.
    shape : tuple of int
        (m, n).
    convex : bool, optional
        Whether it is convex, if you know; the theory that is claimed for it depends on it.

    Returns
    -------
    Loss
        With value, gradient and Hessian. W and the gradient are m x n arrays: where the loss depends on W through a
        few linear outputs, `Measured` costs less.

    Raises
    ------
    ValueError, TypeError
        If `function` is not callable or `shape` no shape; on use, if the function does not return one real number.

    Examples
    --------
    >>> import autograd.numpy as anp
    >>> loss = from_function(lambda w: anp.sum(anp.log(anp.cosh(w))), (2, 3))
    >>> float(loss.value(np.zeros((2, 3))))
    0.0
    """
    return _Function(Differentiated(function), validation.require_sizes("shape", shape), convex)


def scalar_valued(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the function with a check of what it returns: one real number, traced or not."""
    if not callable(function):
        raise TypeError(f"`function` must be callable, got {validation.describe(function)}.")

    from autograd.tracer import isbox

    @wraps(function)
    def checked(x: Any) -> Any:
        try:
            value = function(x)
        except TypeError as error:
            # autograd 1.8 meets numpy's own functions with a keyword of theirs
            if "ArrayBox" not in str(error) and not (isbox(x) and "keyword argument 'out'" in str(error)):
                raise
            raise TypeError(
                "`function` must be written with autograd.numpy to be differentiated, got a call that autograd cannot"
                f" trace ({validation.reason(error)})."
            ) from error
        if isbox(x) and isinstance(value, numbers.Real):
            raise ValueError(
                "`function` must depend on its argument where autograd traces it, got a constant."
                " Write it with autograd.numpy."
            )
        return scalar("function", value)

    return checked


def scalar(name: str, value: Any) -> Any:
    """Return what a function of a user returned, traced or not; refuse what is not one real number."""
    if isinstance(value, float):
        return value
    kind = getattr(getattr(value, "dtype", None), "kind", "i" if isinstance(value, int) else "O")
    if getattr(value, "shape", ()) != () or kind not in "fiu" or isinstance(value, bool):
        while hasattr(value, "_value"):  # what autograd traces
            value = value._value
        raise TypeError(f"`{name}` must return one real number, got {validation.describe(value)}.")
    return value


class Differentiated:
    """A scalar function of one array and its derivatives by autograd; it pickles as the function."""

    function: Callable[[Any], Any]
    value: Callable[[Any], Any]

    def __init__(self, function: Callable[[Any], Any]) -> None:
        from autograd import grad, value_and_grad

        self.function, self.value = function, scalar_valued(function)
        self.gradient, self.value_and_gradient = grad(self.value), value_and_grad(self.value)
        self.hessian = grad(lambda x, dx: (self.gradient(x) * dx).sum() + 0.0 * x.sum())  # linear: 0, not a warning

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.function,)

    @property
    def name(self) -> str:
        """The name of the function."""
        return str(getattr(self.function, "__name__", type(self.function).__name__))


class _Function:
    """See `from_function`."""

    shape: tuple[int, int]
    convex: bool | None

    differentiable_by_autograd = True

    def __init__(self, function: Differentiated, shape: tuple[int, int], convex: bool | None) -> None:
        self._function, self.shape, self.convex = function, shape, convex

    def value(self, w: MatrixOrArray) -> Any:
        """Return L(W)."""
        w = as_operand("w", w, self.shape)
        return self._function.value(as_dense(w))

    def gradient(self, w: MatrixOrArray) -> Array:
        """Return the gradient, an (m, n) array."""
        return np.asarray(self._function.gradient(self._dense("w", w)))

    def value_and_gradient(self, w: MatrixOrArray) -> tuple[float, Array]:
        """Return both from one forward pass."""
        value, gradient = self._function.value_and_gradient(self._dense("w", w))
        return float(value), np.asarray(gradient)

    def hessian(self, w: MatrixOrArray, z: MatrixOrArray) -> Array:
        """Return the Hessian at W applied to Z, an (m, n) array."""
        return np.asarray(self._function.hessian(self._dense("w", w), self._dense("z", z)))

    def _dense(self, name: str, w: MatrixOrArray) -> Array:
        w = as_operand(name, w, self.shape)
        return np.asarray(as_dense(w), dtype=np.float64)

    def __repr__(self) -> str:
        return f"from_function({self._function.name}, {self.shape[0]} x {self.shape[1]})"
