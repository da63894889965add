"""Losses whose values and gradients are tensors of another library, in numpy's arrays."""

from __future__ import annotations

from typing import Any

from ..foreign import as_array, is_tensor, tensors_may_come
from ..matrices import MatrixOrArray
from ..operators import MatrixLike
from .protocol import Loss

__all__ = ["in_arrays"]


def in_arrays(loss: Loss, w: Any) -> Loss:
    """Return a loss that answers in numpy's arrays: itself, or where its gradient at `w` is a tensor, what converts it."""
    if not tensors_may_come() or type(loss).__module__.startswith("lowrankflow."):
        return loss
    if getattr(w, "shape", None) != loss.shape:
        return loss  # refused where it is used
    return _InArrays(loss) if is_tensor(loss.gradient(w)) else loss


class _InArrays:
    """A loss, its answers converted; what else it has it keeps."""

    def __init__(self, loss: Loss) -> None:
        self._loss, self.shape = loss, loss.shape

    def value(self, w: MatrixOrArray) -> Any:
        return as_array("loss.value(w)", self._loss.value(w))

    def gradient(self, w: MatrixOrArray) -> MatrixLike:
        return as_array("loss.gradient(w)", self._loss.gradient(w))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_loss":
            raise AttributeError(name, name=name, obj=self)
        found = getattr(self._loss, name)
        if name == "value_and_gradient" and callable(found):
            return lambda w: tuple(as_array(f"loss.{name}(w)", part) for part in found(w))
        return (
            (lambda w, z: as_array(f"loss.{name}(w, z)", found(w, z)))
            if name == "hessian" and callable(found)
            else found
        )

    def __repr__(self) -> str:
        from .facts import loss_label

        return loss_label(self._loss)
