"""A loss of two layers as one of the Gram matrix of their rows and columns."""

from __future__ import annotations

import numpy as np

from ..matrices import MatrixOrArray, Product
from ..matrices.requirements import require_matrix
from ..operators import MatrixLike
from ..validation import Array
from .facts import Inherited, only_if
from .protocol import Loss
from .requirements import require_everywhere_smooth, require_loss

__all__ = ["Gram"]


class Gram(Inherited):
    r"""The loss :math:`L(R_{21})` of symmetric matrices, R_21 the lower left (m, n) block of R (n + m, n + m).

    Two factors of any start, balanced or not, move :math:`R = Q Q^T` with :math:`Q = [W_1^T; W_2]` by a flow of its own,
    for :math:`W = W_2 W_1 = R_{21}`:

    .. math:: R' = F R + R F, \qquad F = -\begin{bmatrix} 0 & \nabla L(W)^T \\ \nabla L(W) & 0 \end{bmatrix},

    the gradient flow of this loss under `metrics.BuresWassersteinMetric` from ``network.gram()``: what is known of that metric
    (geodesics, Hessian, retractions, volume) holds of every network of two layers.

    Parameters
    ----------
    loss : Loss
        Of W, (m, n).

    Attributes
    ----------
    shape : tuple of int
        (m + n, m + n).

    Raises
    ------
    ValueError, TypeError
        If it is no loss, or one that is smooth along matrices of one rank alone.

    Notes
    -----
    The gradient is that of the matrix R without a symmetry; metrics of symmetric matrices symmetrise it. Derived here.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(2), np.diag([2.0, 1.0]))
    >>> net = lrf.LinearNetwork.gaussian((2, 2), 2, widths=3, rng=0)
    >>> flow = lrf.RiemannianFlow(Gram(loss), lrf.metrics.BuresWassersteinMetric())
    >>> r = lrf.integrate(flow, net.gram(), t_span=(0, 1), rtol=1e-10).points[-1]
    >>> w = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 1), rtol=1e-10).points[-1]
    >>> bool(np.allclose(r.to_dense()[2:, :2], w.to_dense(), atol=1e-8))
    True
    """

    def __init__(self, loss: Loss) -> None:
        require_loss(loss)
        require_everywhere_smooth(loss)
        super().__init__(loss)
        self._n = loss.shape[1]
        self.shape = (sum(loss.shape), sum(loss.shape))

    def value(self, r: MatrixOrArray) -> float:
        """Return L(R_21)."""
        return self.loss.value(self._block(r))

    def gradient(self, r: MatrixOrArray) -> MatrixLike:
        """Return the gradient of L in the lower left block, zero elsewhere."""
        return _LowerLeft(self.loss.gradient(self._block(r)), self._n)

    def value_and_gradient(self, r: MatrixOrArray) -> tuple[float, MatrixLike]:
        """Return both, sharing what the loss shares."""
        value, g = self._facts.value_and_gradient(self._block(r))
        return value, _LowerLeft(g, self._n)

    @only_if(lambda self: self._facts.hessian is not None)
    def hessian(self, r: MatrixOrArray, z: MatrixOrArray) -> MatrixLike:
        """Return the Hessian of L applied to the block of Z; missing where the loss has none."""
        assert self._facts.hessian is not None
        return _LowerLeft(self._facts.hessian(self._block(r), self._block(z)), self._n)

    @property
    def normalisation(self) -> str:
        """The loss in one line."""
        return f"{self._facts.normalisation}, W the lower left block"

    def _block(self, r: MatrixOrArray) -> MatrixOrArray:
        require_matrix("w", r, self.shape)
        if not hasattr(r, "split"):
            return r[self._n :, : self._n]
        left, right = r.split()
        return Product(left[self._n :], right[:, : self._n])

    def __repr__(self) -> str:
        return f"Gram({self.loss!r})"


class _LowerLeft:
    """[[0, 0], [G, 0]], or its transpose."""

    __array_ufunc__ = None

    def __init__(self, inner: MatrixLike, n: int, *, lower: bool = True) -> None:
        self._inner, self._n, self._lower = inner, n, lower
        self.shape = (sum(inner.shape),) * 2

    @property
    def T(self) -> _LowerLeft:
        return _LowerLeft(self._inner, self._n, lower=not self._lower)

    def __matmul__(self, x: Array) -> Array:
        n, out = self._n, np.zeros(x.shape)
        if self._lower:
            out[n:] = self._inner @ x[:n]
        else:
            out[:n] = self._inner.T @ x[n:]
        return out
