"""Steps that lead back to the matrices of rank r, in O((m + n) r^2) and small decompositions."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from ..matrices import EPS, LowRankMatrix, Tangent, thin_qr, thin_svd
from ..metrics import DepthMetric
from ..validation import Array

__all__ = ["product_step", "truncated_step"]


def truncated_step(w: LowRankMatrix, z: Tangent, *, symmetric: bool = False) -> LowRankMatrix:
    """Return the best rank-r approximation of W + Z; with `symmetric`, among the positive semidefinite matrices.

    W + Z = [U, U_p] [S + C, I; I, 0] [V, V_p]^T. One QR factorisation of [U, U_p] as a whole, not of U_p alone, keeps
    the frames orthonormal to roundoff where U_p is ill-conditioned or vanishes.
    """
    r, eye = w.rank, np.eye(w.rank)
    middle = np.block([[np.diag(w.s) + z.core, eye], [eye, np.zeros((r, r))]])
    qu, ru = thin_qr(np.hstack([w.u, z.up]))
    if symmetric:
        s, p = linalg.eigh(ru @ middle @ ru.T)
        u = qu @ p[:, : -r - 1 : -1]
        return LowRankMatrix._trusted(u, _positive(s[: -r - 1 : -1]), u.T)
    qv, rv = thin_qr(np.hstack([w.vt.T, z.vp]))
    p, s, qt = thin_svd(ru @ middle @ rv.T)
    return LowRankMatrix._trusted(qu @ p[:, :r], _positive(s[:r]), qt[:r] @ qv.T)


def product_step(w: LowRankMatrix, z: Tangent, depth: float) -> LowRankMatrix:
    r"""Return :math:`\prod_j (W_j + \dot W_j)`, balanced factors of W moved along the horizontal lift of Z.

    With l = s^(1/N) and C the r x r block of A_W^{-1}(Z), in the frames of W the factors are
    U (l + C l^(N-1)) + U_p l^(1-N), then l + l^(N-j) C l^(j-1), and (l + l^(N-1) C) V^T + l^(1-N) V_p^T.
    """
    n = int(depth)
    l = w.s ** (1 / n)  # noqa: E741
    c = z.core / DepthMetric(depth).coefficients(w.s).core
    diagonal = np.diag(l)
    left = w.u @ (diagonal + c * l ** (n - 1)) + z.up * l ** (1 - n)
    right = w.vt.T @ (diagonal + l[:, None] ** (n - 1) * c).T + z.vp * l ** (1 - n)
    (qu, ru), (qv, rv) = thin_qr(left), thin_qr(right)
    for j in range(n - 1, 1, -1):
        ru = ru @ (diagonal + l[:, None] ** (n - j) * c * l ** (j - 1))
    p, s, qt = thin_svd(ru @ rv.T)
    return LowRankMatrix._trusted(qu @ p, _positive(s), qt @ qv.T)


def _positive(s: Array) -> Array:
    """Return singular values kept from zero by their roundoff, so that a long step stays on the manifold."""
    return np.maximum(s, EPS * max(s[0], np.finfo(np.float64).tiny))
