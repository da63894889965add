"""Projector splitting (KSL): the tangent projection of F split into its K, S and L parts.

The S part has the sign of -1 in the projection, so it is integrated backwards in time.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg

import lowrankflow as lrf

from .lowrank import Field, k_step, l_step, point, s_step


def ksl1(field: Field, w: lrf.LowRankMatrix, h: float) -> lrf.LowRankMatrix:
    """Return W after one step of Lie splitting, order 1; each of K, S, L by one RK4 step, 12 evaluations.

    K' = F(K V_0^T) V_0 over h and K = U_1 S; S' = -U_1^T F(U_1 S V_0^T) V_0 over h; L' = F(U_1 L^T)^T U_1 over h.
    """
    u, s, v = _k_then_s(field, w.u, np.diag(w.s), w.vt.T, h)
    v, st = linalg.qr(l_step(field, u, v @ s.T, h), mode="economic", check_finite=False)
    return point(u, st.T, v)


def ksl2(field: Field, w: lrf.LowRankMatrix, h: float) -> lrf.LowRankMatrix:
    """Return W after one step of Strang splitting, order 2: K, S over h/2, L over h, S, K over h/2.

    Each part by one RK4 step, 20 evaluations. The two L parts in the middle are one.
    """
    u, s, v = _k_then_s(field, w.u, np.diag(w.s), w.vt.T, h / 2)
    v, st = linalg.qr(l_step(field, u, v @ s.T, h), mode="economic", check_finite=False)
    s = s_step(field, u, st.T, v, -h / 2)
    u, s = linalg.qr(k_step(field, u @ s, v, h / 2), mode="economic", check_finite=False)
    return point(u, s, v)


def _k_then_s(
    field: Field, u: np.ndarray, s: np.ndarray, v: np.ndarray, h: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (U, S, V) after K forwards and S backwards over h."""
    u, s = linalg.qr(k_step(field, u @ s, v, h), mode="economic", check_finite=False)
    return u, s_step(field, u, s, v, -h), v
