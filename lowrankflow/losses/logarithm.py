"""The logarithm of a loss: its flow is that of the loss in normalised time."""

from __future__ import annotations

import numpy as np

from ..matrices import MatrixOrArray
from ..operators import MatrixLike, Multiple
from .facts import facts
from .protocol import Loss
from .requirements import require_loss

__all__ = ["Logarithm"]


class Logarithm:
    r"""The loss :math:`\ln L(W)`, whose flow is that of L in the time :math:`d\tau = L\, dt`.

    .. math:: \frac{dW}{d\tau} = -A_W(\nabla \ln L) = -\frac{A_W(\nabla L)}{L} .

    Where L tends to zero only as W grows without bound, as for classification of separable data, the steps in this time
    stay of moderate size.

    Parameters
    ----------
    loss : Loss
        Positive wherever it is asked.

    Raises
    ------
    ValueError, TypeError
        If it is no loss; on use, if its value is not positive.
    """

    loss: Loss
    shape: tuple[int, int]
    fixed_rank: bool
    twice_differentiable: bool | None

    convex = None

    def __init__(self, loss: Loss) -> None:
        require_loss(loss)
        self.loss, self.shape = loss, (loss.shape[0], loss.shape[1])
        self._facts = facts(loss)
        self.fixed_rank, self.twice_differentiable = self._facts.fixed_rank, self._facts.twice_differentiable

    def value(self, w: MatrixOrArray) -> float:
        """Return ln L(W)."""
        return float(np.log(self._positive(self.loss.value(w))))

    def gradient(self, w: MatrixOrArray) -> MatrixLike:
        """Return the gradient of L over L."""
        return self.value_and_gradient(w)[1]

    def value_and_gradient(self, w: MatrixOrArray) -> tuple[float, MatrixLike]:
        """Return both."""
        value, g = self._facts.value_and_gradient(w)
        size = self._positive(value)
        return float(np.log(size)), Multiple(g, 1.0 / size)

    def _positive(self, value: float) -> float:
        number = float(value)
        if number <= 0:
            raise ValueError(f"`loss` must be positive to be followed in normalised time, got {number:g}.")
        return number

    def __repr__(self) -> str:
        return f"Logarithm({self.loss!r})"
