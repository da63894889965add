"""Basis update and Galerkin (BUG) integrators: new frames from K and L, then S in them, all forwards in time.

In augmented frames W has up to 3 r singular values, all but r of them of the size of the local error. F is the field
of rank r, so it is evaluated at the best approximation of rank r: the depth-N velocity as a function of matrices
of higher rank is only Hoelder continuous there, and augmented BUG and midpoint BUG would lose their order even far from
small singular values.
"""

from __future__ import annotations

import numpy as np

import lowrankflow as lrf

from .lowrank import Field, k_step, l_step, orthonormal, point, s_step


def bug(field: Field, w: lrf.LowRankMatrix, h: float) -> lrf.LowRankMatrix:
    """Return W after one step of BUG, order 1; each of K, L, S by one RK4 step, 12 evaluations.

    K' = F(K V_0^T) V_0 and L' = F(U_0 L^T)^T U_0 over h give U_1, V_1;
    S' = U_1^T F(U_1 S V_1^T) V_1 over h from U_1^T W V_1.
    """
    k, l = _k_and_l(field, w, h)  # noqa: E741
    u, v = orthonormal(k), orthonormal(l)
    return point(u, _galerkin(field, w, u, v, h), v)


def augmented_bug(field: Field, w: lrf.LowRankMatrix, h: float) -> lrf.LowRankMatrix:
    """Return W after one step of augmented BUG at fixed rank, order 1; RK4 for K, L, S, 12 evaluations.

    As `bug`, with U_1 = orth [U_0, K(h)] and V_1 likewise, so that W is kept whole; truncated to rank r at the end.
    """
    return point(*_augmented(field, w, h), w.rank)


def midpoint_bug(field: Field, w: lrf.LowRankMatrix, h: float) -> lrf.LowRankMatrix:
    """Return W after one step of midpoint BUG, order 2; RK4 for K, L, S, 17 evaluations.

    An augmented half step, not truncated, gives U, V of 2 r columns and F at h/2. The frames orth [U_0, h F V] and
    orth [V_0, h F^T U] have up to 3 r columns; S in them over the whole step from W, then truncated to rank r.
    """
    u, s, v = _augmented(field, w, h / 2)
    f = field(point(u, s, v, w.rank))
    u, v = orthonormal(w.u, h * (f @ v)), orthonormal(w.vt.T, h * (f.T @ u))
    return point(u, _galerkin(field, w, u, v, h), v, w.rank)


def _k_and_l(field: Field, w: lrf.LowRankMatrix, h: float) -> tuple[np.ndarray, np.ndarray]:
    """Return K(h), L(h), both from W."""
    u, v = w.u, w.vt.T
    return k_step(field, u * w.s, v, h), l_step(field, u, v * w.s, h)


def _augmented(field: Field, w: lrf.LowRankMatrix, h: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (U, S, V) of 2 r columns after an augmented step, not truncated."""
    k, l = _k_and_l(field, w, h)  # noqa: E741
    u, v = orthonormal(w.u, k), orthonormal(w.vt.T, l)
    return u, _galerkin(field, w, u, v, h), v


def _galerkin(field: Field, w: lrf.LowRankMatrix, u: np.ndarray, v: np.ndarray, h: float) -> np.ndarray:
    """Return S(h) in the frames u, v, from the projection of W onto them."""
    return s_step(field, u, u.T @ (w @ v), v, h, rank=w.rank)
