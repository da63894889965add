"""The loss protocol, and the messages where an object does not follow it."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from .. import validation


@runtime_checkable
class Loss(Protocol):
    """What the library asks of a loss.

    Optional, used where present:

    ``hessian(w, z)``
        The Hessian at W applied to Z, as something that can be multiplied like a gradient.
    ``value_and_gradient(w)``
        Both at once, sharing the residual.
    ``curvature``
        The largest eigenvalue of the Hessian with respect to W; sets the unit of time. A loss with one that does not know
        its ``best_value`` is taken to be non-negative where the stiffness is bounded.
    ``convex``, ``twice_differentiable``
        True, False or None (not known): what theory may be claimed.
    ``fixed_rank``
        True if it is smooth along matrices of one rank alone.
    ``margins(w)``, ``exponential_tail``
        The margin of every sample of a classification, and True if the loss falls to zero for ever as they grow.
    ``best_value(rank)``
        The least value among matrices of a rank.
    ``differentiable_by_autograd``
        True if ``value`` can be traced with W an autograd array.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n), the shape of W."""
        ...

    def value(self, w: Any) -> float:
        """Return L(W)."""
        ...

    def gradient(self, w: Any) -> Any:
        """Return the Frobenius gradient, (m, n): an array, sparse array or operator with ``@`` and ``.T``."""
        ...


def require_loss(loss: Any) -> None:
    """Refuse an object that does not follow the loss protocol: shape, value(w), gradient(w)."""
    if isinstance(loss, type):
        raise TypeError(
            f"`loss` must be an object, got {validation.describe(loss)}. Pass an instance: {loss.__name__}(...)."
        )
    missing = [name for name in ("shape", "value", "gradient") if not hasattr(loss, name)]
    if missing:
        raise TypeError(
            f"`loss` must have shape, value(w) and gradient(w); {validation.describe(loss)} lacks {missing[0]}."
        )
    for name in ("value", "gradient"):
        if not callable(getattr(loss, name)):
            raise TypeError(f"`loss.{name}` must be a function of w, got {validation.describe(getattr(loss, name))}.")
    shape = loss.shape
    if not (isinstance(shape, tuple) and len(shape) == 2):
        raise TypeError(f"`loss.shape` must be a tuple (m, n), got {validation.describe(shape)}.")
    for name in ("convex", "twice_differentiable"):
        flag = getattr(loss, name, None)
        if not (flag is None or isinstance(flag, (bool, np.bool_))):
            raise TypeError(f"`loss.{name}` must be True, False or None, got {validation.describe(flag)}.")


def require_curvature(loss: Any) -> float | None:
    """Return the curvature that a loss declares, positive and finite; None where it declares none."""
    if not hasattr(loss, "curvature"):
        return None
    return validation.require_number("loss.curvature", loss.curvature)


def require_gradient(
    egrad: Any, shape: tuple[int, int], name: str = "loss.gradient(w)", what: str = "the loss is defined on"
) -> Any:
    """Refuse a gradient that does not support ``g @ v`` and ``g.T @ u``, is complex or has the wrong shape."""
    if not (hasattr(egrad, "shape") and hasattr(egrad, "T") and hasattr(egrad, "__matmul__")):
        raise TypeError(f"`{name}` must support `g @ v` and `g.T @ u`, got {validation.describe(egrad)}.")
    validation.require_real(name, egrad)
    validation.require_shape(name, egrad.shape, shape, what)
    return egrad


def require_value(value: Any) -> float:
    """Return the value of a loss: one real number."""
    array = np.asarray(value)
    if array.shape != () or array.dtype.kind not in "fiu":
        raise TypeError(f"`loss.value(w)` must be one real number, got {validation.describe(value)}.")
    return float(array)
