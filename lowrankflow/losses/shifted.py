"""A loss of what is added to a matrix that stays as it is: low-rank adaptation of trained weights."""

from __future__ import annotations

from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from .. import validation
from ..matrices import Matrix, MatrixOrArray, Product
from ..matrices.requirements import require_matrix
from ..operators import MatrixLike
from ..validation import Array
from .facts import Inherited, facts, only_if
from .protocol import Loss
from .requirements import require_everywhere_smooth, require_loss

__all__ = ["Shifted"]


def Shifted(loss: Loss, w0: Matrix | ArrayLike) -> Loss:
    r"""Return the loss :math:`L(W_0 + W)` of W, with W_0 frozen: that of low-rank adaptation [1]_.

    Parameters
    ----------
    loss : Loss
        On (m, n) matrices.
    w0 : array_like or matrix, (m, n)
        An array, or what `lowrankflow.matrices` holds: nothing of size m x n is then formed of it.

    Returns
    -------
    Loss
        A square loss is one of the same kind with other targets, Y - W_0 X, and keeps all it knows: spectrum, best values,
        exact solutions. Any other is asked at W_0 + W.

    Raises
    ------
    ValueError, TypeError
        If it is no loss, or one that is smooth along matrices of one rank alone, or `w0` has another shape or is not finite.

    References
    ----------
    .. [1] E. J. Hu et al., LoRA: low-rank adaptation of large language models, arXiv:2106.09685.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(2), np.diag([3.0, 1.0]))
    >>> update = Shifted(loss, np.diag([2.0, 1.0]))  # rank one is left to learn
    >>> update.best_value(1), update.value(np.diag([1.0, 0.0]))
    (0.0, 0.0)
    """
    require_loss(loss)
    require_everywhere_smooth(loss)
    held = cast(Matrix, w0) if hasattr(w0, "split") else validation.own(validation.as_matrix("w0", w0))
    validation.require_shape("w0", held.shape, loss.shape)
    moved = facts(loss).shifted
    return _Shifted(loss, held) if moved is None else moved(held)


class _Shifted(Inherited):
    """A loss asked at W_0 + W; made by `Shifted`."""

    def __init__(self, loss: Loss, w0: MatrixOrArray) -> None:
        super().__init__(loss)
        self.w0, self.shape = w0, (loss.shape[0], loss.shape[1])
        self.exponential_tail, self.hessian_of_stacks = self._facts.exponential_tail, self._facts.hessian_of_stacks

    def value(self, w: MatrixOrArray) -> Any:
        """Return L(W_0 + W)."""
        return self.loss.value(self._at(w))

    def gradient(self, w: MatrixOrArray) -> MatrixLike:
        """Return the gradient of L at W_0 + W."""
        return self.loss.gradient(self._at(w))

    def value_and_gradient(self, w: MatrixOrArray) -> tuple[float, MatrixLike]:
        """Return both, sharing what the loss shares."""
        return self._facts.value_and_gradient(self._at(w))

    @only_if(lambda self: self._facts.hessian is not None)
    def hessian(self, w: MatrixOrArray, z: MatrixOrArray) -> MatrixLike:
        """Return the Hessian of L at W_0 + W applied to Z; missing where the loss has none."""
        assert self._facts.hessian is not None
        return self._facts.hessian(self._at(w), z)

    @only_if(lambda self: self._facts.margins is not None)
    def margins(self, w: MatrixOrArray) -> Array:
        """Return the margins at W_0 + W; missing where the loss has none."""
        assert self._facts.margins is not None
        return self._facts.margins(self._at(w))

    @property
    def normalisation(self) -> str:
        """The loss in one line."""
        return f"{self._facts.normalisation}, at W_0 + W"

    @cached_property
    def _dense(self) -> Array:
        return self.w0.to_dense() if hasattr(self.w0, "to_dense") else np.asarray(self.w0)

    @cached_property
    def _product(self) -> Product:
        if hasattr(self.w0, "split"):
            return Product(*self.w0.split())
        m, n = self.shape
        return Product(self._dense, np.eye(n)) if n <= m else Product(np.eye(m), self._dense)

    def _at(self, w: MatrixOrArray) -> MatrixOrArray:
        require_matrix("w", w, self.shape)
        if not hasattr(w, "split"):  # an array, autograd's too
            return self._dense + w
        left, right = w.split()
        return Product(np.hstack([self._product.left, left]), np.vstack([self._product.right, right]))

    def __repr__(self) -> str:
        return f"Shifted({self.loss!r})"
