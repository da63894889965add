r"""How flat a minimiser can be: among all factorisations of a matrix the balanced ones have the least sharpness."""

from __future__ import annotations

import numpy as np

from .. import validation
from ..matrices import LinearNetwork, LowRankMatrix, random_frame
from ..matrices.requirements import require_depth, require_network
from ..validation import Array

__all__ = ["least_sharpness", "refactored"]


def least_sharpness(w: LowRankMatrix | float, depth: int) -> float:
    r"""Return the least sharpness of any factorisation of a minimiser of :math:`\tfrac12 \|W - Y\|_F^2`, W = Y.

    .. math:: \lambda_{\max}(\nabla^2 L) \ge N \sigma_1^{2 - 2/N}, \qquad W_N \cdots W_1 = Y,

    with equality at balanced factors. For the inputs X are white, the loss a sum with a factor 1/2. Gradient descent
    with a larger step than two over it stays at no factorisation whatever.

    Parameters
    ----------
    w : LowRankMatrix or float
        The minimiser, or its largest singular value :math:`\sigma_1`.
    depth : int
        N, at least 2.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If `w` is neither a LowRankMatrix nor a positive number, or the depth is not a whole number above 1.

    Notes
    -----
    With u, v the top singular pair, :math:`a_j = \|(W_N \cdots W_{j+1})^T u\|` and :math:`b_j = \|W_{j-1} \cdots W_1 v\|`:
    where the residual is zero the Hessian is that of the Gauss-Newton form, which has at least
    :math:`\sum_j a_j^2 b_j^2 \ge N (\prod_j a_j b_j)^{2/N}` (means), and
    :math:`a_j b_{j+1} \ge u^T W v = \sigma_1` (Cauchy-Schwarz), :math:`a_N = b_1 = 1`. Derived here. Compare D. Craciun,
    D. Ghoshdastidar, arXiv 2402.13108.

    Examples
    --------
    >>> least_sharpness(4.0, 2)
    8.0
    """
    n = int(require_depth(depth, integer=True))
    top = float(np.max(w.s)) if isinstance(w, LowRankMatrix) else validation.require_number("w", w)
    return float(n * top ** (2 - 2 / n))


def refactored(net: LinearNetwork, *, spread: float = 1.0, rng: validation.Rng = None) -> LinearNetwork:
    r"""Return other factors of the same product, :math:`D_j W_j D_{j-1}^{-1}` with random invertible :math:`D_j`.

    Parameters
    ----------
    net : LinearNetwork, (m, n)
        Any network.
    spread : float
        Standard deviation of the logarithms of the singular values of the :math:`D_j`, with uniform frames; at 0 they
        are orthogonal, and balanced factors stay balanced.
    rng : int or numpy.random.Generator, optional
        Draws them.

    Returns
    -------
    LinearNetwork
        The product is kept to roundoff times the condition of the :math:`D_j`.

    Raises
    ------
    ValueError, TypeError
        If `net` is no network, `spread` negative or `rng` none.
    """
    require_network("net", net)
    spread = validation.require_number("spread", spread, positive=False)
    rng = validation.as_rng(rng)
    factors = list(net.factors)
    for j, d in enumerate(net.widths):
        change, back = _invertible(d, spread, rng)
        factors[j], factors[j + 1] = change @ factors[j], factors[j + 1] @ back
    return LinearNetwork(factors)


def _invertible(d: int, spread: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return a random invertible matrix and its inverse."""
    p, q = random_frame(d, d, rng=rng), random_frame(d, d, rng=rng)
    size = np.exp(spread * rng.standard_normal(d))
    return (p * size) @ q.T, (q / size) @ p.T
