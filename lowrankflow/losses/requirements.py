"""What a loss has to be, and the message where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import validation
from ..foreign import as_array, is_tensor
from ..operators import MatrixLike
from .facts import facts


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
    facts(loss)  # refuses flags that are none


def require_gradient(
    egrad: Any, shape: tuple[int, int], name: str = "loss.gradient(w)", what: str = "the loss is defined on"
) -> MatrixLike:
    """Return a gradient, a tensor of another library as an array; refuse what has no ``g @ v`` and ``g.T @ u``, or is complex."""
    if is_tensor(egrad):
        egrad = as_array(name, egrad)
    if not (hasattr(egrad, "shape") and hasattr(egrad, "T") and hasattr(egrad, "__matmul__")):
        raise TypeError(f"`{name}` must support `g @ v` and `g.T @ u`, got {validation.describe(egrad)}.")
    validation.require_real(name, egrad)
    validation.require_shape(name, egrad.shape, shape, what)
    return egrad


def require_value(value: Any) -> float:
    """Return the value of a loss: one real number."""
    array = np.asarray(as_array("loss.value(w)", value))
    if array.shape != () or array.dtype.kind not in "fiu":
        raise TypeError(f"`loss.value(w)` must be one real number, got {validation.describe(value)}.")
    return float(array)


def require_everywhere_smooth(loss: Any) -> None:
    """Refuse a loss that is smooth along matrices of one rank alone."""
    if facts(loss).fixed_rank:
        raise ValueError(
            f"`loss` must be smooth at all matrices, got {type(loss).__name__}, which is so along those of one rank alone."
        )
