"""How far the product of unbalanced factors is from having a flow of its own."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy import linalg

from .. import validation
from ..kernels import tangent_kernel
from ..matrices import LinearNetwork
from ..matrices.requirements import require_network
from ..validation import Array

__all__ = ["closedness_defect"]


def closedness_defect(network: LinearNetwork, *, tolerance: float = 1e-8) -> float:
    r"""Return by how much the kernel varies among factors of the same product and the same imbalances.

    The product of any factors moves by :math:`W' = -K(\nabla L)` with the kernel K of `kernels.tangent_kernel`. The flow knows
    W and the imbalances :math:`D_j = W_{j+1}^T W_{j+1} - W_j W_j^T`, which it keeps. Where they determine K, W has a flow
    of its own; the defect is how much they leave open, to first order:

    .. math:: \max \frac{\|dK[E]\|_F / \|K\|_F}{\|E\|_F / \|(W_1, \ldots, W_N)\|_F}
              \quad\text{over } E \text{ with } dW[E] = 0,\ dD_j[E] = 0 .

    Zero (roundoff) for balanced factors, and for two factors with :math:`D_1 = \lambda I` if the hidden width is the rank
    of W, or m with lambda > 0, or n with lambda < 0.

    Parameters
    ----------
    network : LinearNetwork
        Small: all its parameters are entries of one dense matrix.
    tolerance : float
        Of a change of W or D_j that counts as none, relative to the largest that a direction makes.

    Returns
    -------
    float
        Without units; of order one for factors that were drawn at random.

    Raises
    ------
    ValueError, TypeError
        If `network` is none or all zero, or the tolerance is not positive.

    Notes
    -----
    Derived here. Cost: the singular values of a matrix with a column a parameter.

    Examples
    --------
    >>> from lowrankflow import random_point
    >>> w = random_point(4, 3, 2, rng=0)
    >>> closedness_defect(LinearNetwork.balanced(w, 2, imbalances=[0.5])) < 1e-12
    True
    >>> closedness_defect(LinearNetwork.gaussian((4, 3), 2, widths=2, rng=0)) > 0.1
    True
    """
    require_network("network", network)
    tolerance = validation.require_number("tolerance", tolerance)
    scale = max(float(linalg.norm(f, 2)) for f in network.factors)
    if scale == 0:
        raise ValueError("`network` must have a factor that is not zero.")
    unit = LinearNetwork([f / scale for f in network.factors])
    kernel = tangent_kernel(unit).norm()
    if kernel == 0:
        return 0.0
    size = float(np.sqrt(sum(np.vdot(f, f) for f in unit.factors)))
    basis = linalg.null_space(_jacobian(unit), rcond=tolerance)
    if basis.shape[1] == 0:
        return 0.0
    return float(np.sqrt(max(linalg.eigvalsh(_kernel_changes(unit, basis))[-1], 0.0))) * size / kernel


def _chains(network: LinearNetwork) -> tuple[list[Array], list[Array]]:
    """Return W_N ... W_{j+1} and W_{j-1} ... W_1 around each factor j = 1 .. N."""
    m, n = network.shape
    left, right = [np.eye(m)], [np.eye(n)]
    for f in reversed(network.factors[1:]):
        left.append(left[-1] @ f)
    for f in network.factors[:-1]:
        right.append(f @ right[-1])
    return left[::-1], right


def _jacobian(network: LinearNetwork) -> Array:
    """Return the derivatives of W and of all D_j by all parameters, W_1's first."""
    blocks = []
    for j, (f, left, right) in enumerate(zip(network.factors, *_chains(network), strict=True)):
        e = np.eye(f.size).reshape(f.size, *f.shape)
        rows = [np.kron(left, right.T)]
        for k, (a, b) in enumerate(pairwise(network.factors)):
            if j not in (k, k + 1):
                rows.append(np.zeros((len(a) ** 2, f.size)))
                continue
            half = b.T @ e if j == k + 1 else -(e @ a.T)
            rows.append((half + half.swapaxes(1, 2)).reshape(f.size, -1).T)
        blocks.append(np.vstack(rows))
    return np.hstack(blocks)


def _kernel_changes(network: LinearNetwork, basis: Array) -> Array:
    """Return <dK[E], dK[E']> for the columns of a basis of directions."""
    count, at = basis.shape[1], 0
    moves = []
    for f in network.factors:
        moves.append(basis[at : at + f.size].T.reshape(count, *f.shape))
        at += f.size
    left, right = _chains(network)
    d_left, d_right = [np.zeros((count, *left[-1].shape))], [np.zeros((count, *right[0].shape))]
    for j in range(network.depth - 1, 0, -1):
        d_left.append(d_left[-1] @ network.factors[j] + left[j] @ moves[j])
    for j in range(network.depth - 1):
        d_right.append(network.factors[j] @ d_right[-1] + moves[j] @ right[j])
    sides = []  # dK = sum of outer (x) inner, (count, .) each
    for a, b, da, db in zip(left, right, reversed(d_left), d_right, strict=True):
        dp, dr = da @ a.T, b.T @ db
        sides.append((dp + dp.swapaxes(1, 2), np.broadcast_to(b.T @ b, (count, b.shape[1], b.shape[1]))))
        sides.append((np.broadcast_to(a @ a.T, (count, len(a), len(a))), dr + dr.swapaxes(1, 2)))
    flat = [(p.reshape(count, -1), r.reshape(count, -1)) for p, r in sides]
    return np.asarray(sum((p @ q.T) * (r @ s.T) for p, r in flat for q, s in flat))
