"""What the baselines share: the field, frames, and the substeps in K, L and S.

A point is W = U S V^T with orthonormal U (m, k), V (n, l) and any small S. The fields want it as a
`LowRankMatrix`, which is one singular value decomposition of S away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import linalg

import lowrankflow as lrf

#: W -> F(W), a matrix of which only products are taken
Field = Callable[[lrf.LowRankMatrix], Any]
#: (field, W, h) -> W one step later
Step = Callable[[Field, lrf.LowRankMatrix, float], lrf.LowRankMatrix]


def gradient_field(loss: Any, metric: Any) -> Field:
    """Return W -> -A_W(grad L(W)), the velocity of the Riemannian flow, as a Product of inner size 2 r."""
    return lambda w: -lrf.riemannian_gradient(w, loss.gradient(w), metric).at(w)


def march(step: Step, field: Field, start: lrf.LowRankMatrix, t_end: float, steps: int) -> lrf.LowRankMatrix:
    """Return W(t_end) after `steps` equal steps from `start`."""
    w = start
    for _ in range(steps):
        w = step(field, w, t_end / steps)
    return w


def orthonormal(*blocks: np.ndarray) -> np.ndarray:
    """Return orthonormal columns whose span contains that of all the blocks, by thin QR."""
    return linalg.qr(np.hstack(blocks), mode="economic", check_finite=False)[0]


def point(u: np.ndarray, s: np.ndarray, v: np.ndarray, rank: int | None = None) -> lrf.LowRankMatrix:
    """Return U S V^T by its singular values, the largest `rank` of them (None: as many as S has).

    Singular values that vanish are raised to the least positive number: an augmented S starts at rank r in
    2 r columns.
    """
    p, sigma, qt = linalg.svd(s, full_matrices=False, check_finite=False)
    sigma = np.maximum(sigma, np.finfo(float).tiny)
    return lrf.LowRankMatrix((u @ p)[:, :rank], sigma[:rank], (qt @ v.T)[:rank])


def rk4(f: Callable[[np.ndarray], np.ndarray], y: np.ndarray, h: float) -> np.ndarray:
    """Return one classical Runge-Kutta step of y' = f(y); four evaluations."""
    k1 = f(y)
    k2 = f(y + h / 2 * k1)
    k3 = f(y + h / 2 * k2)
    k4 = f(y + h * k3)
    return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def k_step(field: Field, k: np.ndarray, v: np.ndarray, h: float) -> np.ndarray:
    """Return K(h) of K' = F(K V^T) V, V fixed, by one RK4 step. Shapes: K (m, r), V (n, r)."""

    def velocity(k: np.ndarray) -> np.ndarray:
        q, r = linalg.qr(k, mode="economic", check_finite=False)
        return field(point(q, r, v)) @ v

    return rk4(velocity, k, h)


def l_step(field: Field, u: np.ndarray, l: np.ndarray, h: float) -> np.ndarray:  # noqa: E741
    """Return L(h) of L' = F(U L^T)^T U, U fixed, by one RK4 step. Shapes: U (m, r), L (n, r)."""
    return k_step(lambda w: field(w.T).T, l, u, h)


def s_step(
    field: Field, u: np.ndarray, s: np.ndarray, v: np.ndarray, h: float, *, rank: int | None = None
) -> np.ndarray:
    """Return S(h) of S' = U^T F(U S V^T) V, both frames fixed, by one RK4 step (h < 0: backwards).

    With a rank, F is evaluated at the best approximation of that rank to U S V^T.
    """
    return rk4(lambda s: u.T @ (field(point(u, s, v, rank)) @ v), s, h)
