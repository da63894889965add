r"""The matrix Riccati equation of two layers and of Oja's flow, in closed form and for any time.

.. math:: R' = F R + R F - R\, G\, R, \qquad
    R(t) = Z Z^T, \quad Z = e^{F t} Z_0 \,(I + Z_0^T D Z_0)^{-1/2}, \quad D = \int_0^t e^{F s} G\, e^{F s} \, ds

for commuting symmetric F and G. The exponentials overflow, and where they do not they hide what they do not dominate:
Z_0 is rewritten here, for each time, in columns that tell the fast from the slow.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg

from ..validation import Array

__all__ = ["riccati_factor"]


def riccati_factor(start: Array, growth: Array, gram: Array, t: float) -> Array:
    r"""Return a Z of :math:`Z Z^T = e^{F t} Z_0 (I + Z_0^T D Z_0)^{-1} Z_0^T e^{F t}`, in the eigenvectors of F and G.

    Parameters
    ----------
    start : ndarray, (k, h)
        Z_0.
    growth, gram : ndarray, (k,)
        The eigenvalues of F, and those of G, which are non-negative.
    t : float

    Returns
    -------
    ndarray, (k, h)

    Notes
    -----
    The columns of [D^(1/2) Z_0; I] are combined, by elimination with complete pivoting whose rows carry their scales as
    logarithms, to an echelon form with entries of at most one. A combination does not feel the scale of a row, and errors are
    relative to each row: exact for a Z_0 changed by roundoff, whatever the range of the scales. Then one QR factorisation.
    A scale is ``rate * t + rest``; differences are taken of rates, so that long times cost no digits.
    """
    k, h = start.shape
    rate = np.concatenate([np.maximum(growth, 0.0), np.zeros(h)])
    x = 2 * np.abs(growth) * t
    with np.errstate(divide="ignore", under="ignore"):
        mean = np.where(x > 0, -np.expm1(-x) / np.where(x > 0, x, 1.0), 1.0)  # D = G t e^(2 rate t) mean
        rest = np.concatenate([(np.log(gram) + np.log(t) + np.log(mean)) / 2, np.zeros(h)])
        rows, open_rows, pivots = np.vstack([start, np.eye(h)]), np.ones(k + h, dtype=bool), []
        scale = rate * t + rest
        for j in range(h):
            sizes = np.where(open_rows[:, None], scale[:, None] + np.log(np.abs(rows[:, j:])), -np.inf)
            p, c = divmod(int(np.argmax(sizes)), h - j)
            rows[:, [j, j + c]] = rows[:, [j + c, j]]
            rows[:, j + 1 :] -= np.outer(rows[:, j], rows[p, j + 1 :] / rows[p, j])
            rows[p, j + 1 :] = 0.0
            open_rows[p] = False
            pivots.append(p)
        unit = np.log(np.abs(rows[pivots, range(h)])) + rest[pivots]
        logs = np.log(np.abs(rows)) - unit + (rate[:, None] - rate[pivots]) * t
        sign, slack = np.sign(rows), np.minimum(growth, 0.0) * t
        echelon, moved = sign * np.exp(logs + rest[:, None]), sign[:k] * np.exp(logs[:k] + slack[:, None])
    triangle = linalg.qr(echelon, mode="r", check_finite=False)[0][:h]
    return np.asarray(linalg.solve_triangular(triangle, moved.T, trans="T", check_finite=False)).T
