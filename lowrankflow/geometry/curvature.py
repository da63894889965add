"""How curved the loss of the factors is at most: what bounds the steps of gradient descent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh

from .. import validation
from ..losses import Loss
from ..losses.requirements import require_loss
from ..matrices import LinearNetwork
from ..matrices.requirements import as_trained, require_network
from ..validation import Array
from .factor_hessians import factor_hessian, join_directions

__all__ = ["sharpness"]


@validation.quietly
def sharpness(
    loss: Loss,
    net: LinearNetwork,
    *,
    tol: float = 1e-3,
    exact: bool | None = False,
    trained: Sequence[NDArray[np.bool_]] | None = None,
) -> float:
    r"""Return the largest eigenvalue of the Hessian of the loss with respect to all factors.

    At a balanced minimiser of the square loss among the matrices of a rank, with inputs of full rank, it is at most
    :math:`N \lambda_1 \sigma_1^{2-2/N}`, sigma_1 of W: equal where the inputs are isotropic, or where the residual is zero
    and the top right singular vector of W is the top eigenvector of :math:`X X^T`. Gradient descent is linearly stable
    there if h < 2 / sharpness.

    Parameters
    ----------
    loss : Loss
        In its own normalisation.
    net : LinearNetwork
        Where.
    tol : float
        Relative accuracy of the Lanczos iteration.
    exact : bool, optional
        Hessian products as in `factor_hessian`: False, by central differences of the factor gradients, whatever the loss says
        of its second derivatives; True, by its ``hessian``; None, by that where there is one.
    trained : sequence of arrays of bool, optional
        Which entries of the factors are trained, an array a factor, such as `AffineNetwork.trained`: the Hessian is that in
        those alone. None: all.

    Returns
    -------
    float

    Notes
    -----
    Lanczos from a fixed start vector; two gradients a product by differences.
    """
    require_network("net", net)
    tol = validation.require_number("tol", tol)
    require_loss(loss)
    validation.require_shape("net", net.shape, loss.shape)
    hessian: LinearOperator = factor_hessian(loss, net, exact=exact)
    if trained is not None:
        hessian = _restricted(hessian, np.flatnonzero(join_directions(as_trained(trained, net.factors))))
    size = hessian.shape[0]
    if size == 0:
        return 0.0
    if size < 3:
        return float(np.linalg.eigvalsh(hessian @ np.eye(size))[-1])
    if not (hessian @ np.ones(size)).any() and not (hessian @ np.arange(1.0, size + 1)).any():
        return 0.0  # a loss that is flat or linear here; Lanczos has nothing to start from
    start = np.random.default_rng(0).standard_normal(size)  # fixed: the answer must not vary between calls
    try:
        return float(eigsh(hessian, k=1, which="LA", tol=tol, v0=start, return_eigenvectors=False)[0])
    except ArpackNoConvergence:
        raise
    except ArpackError:  # the images of its vectors are roundoff: so is the Hessian, for the start is random
        return float(start @ (hessian @ start) / (start @ start))


def _restricted(hessian: LinearOperator, kept: NDArray[np.intp]) -> LinearOperator:
    """Return the rows and columns of a Hessian that are kept."""

    def product(x: Array) -> Array:
        whole = np.zeros(hessian.shape[0])
        whole[kept] = np.ravel(x)
        return np.asarray(hessian @ whole)[kept]

    return LinearOperator((kept.size, kept.size), matvec=product, dtype=np.float64)
