r"""Aligned modes of two factors, balanced or not: :math:`s' = \sqrt{\lambda^2 + 4 s^2}\,(a - s)` in closed form.

With :math:`q(s) = \sqrt{s^2 + \lambda^2/4}` the squared singular values of the factors are :math:`q \pm \lambda/2`, and
p = q + s and n = q - s move by Riccati equations: each is a mean of its start and its end, with weights that are positive
and known to full relative accuracy. No difference of close numbers is formed.
"""

from __future__ import annotations

import numpy as np

from ..validation import Array

__all__ = ["pair_time", "pair_values"]


def pair_values(s0: Array, a: Array, imbalance: Array, tau: Array) -> tuple[Array, Array]:
    """Return s and a - s at the times tau = curvature t, for s0 >= 0.

    With E = exp(-2 q_a tau) and D = (1 - E) / (2 q_a), index a for the target and 0 for the start,

        p = (E p_0 + (p_0 + n_a) D p_a) / (E + (p_0 + n_a) D),    n likewise with p and n exchanged,
        a - s = (a - s0) f,    f = (w_p (p_a + p_0) + w_n (n_a + n_0)) / (2 (q_a + q_0)),

    where w_p and w_n are the weights of the starts.
    """
    (q0, p0, n0), (qa, pa, na) = _split(s0, imbalance), _split(a, imbalance)
    still = np.exp(-2 * qa * tau)
    gone = np.where(qa > 0, -np.expm1(-2 * qa * tau) / _nonzero(2 * qa), tau)
    wp, vp = _weights(still, (p0 + na) * gone)
    wn, vn = _weights(still, (n0 + pa) * gone)
    unit = _nonzero(2 * (qa + q0))
    f, g = (wp * (pa + p0) + wn * (na + n0)) / unit, (vp * (pa + p0) + vn * (na + n0)) / unit  # f + g = 1
    # towards a target of the other sign s passes zero, or tends to it: p - n, whose error is that of lambda, not of s0
    s = np.where(a >= 0, f * s0 + g * a, ((wp * p0 + vp * pa) - (wn * n0 + vn * na)) / 2)
    return s, (a - s0) * f


def pair_time(s0: Array, a: Array, imbalance: Array, s: Array) -> Array:
    """Return the time tau at which s is reached, for s0 >= 0 and s between s0 and a.

        2 q_a tau = log(1 + 2 q_a x),   x = (p - p_0) / ((p_a - p) (p_0 + n_a)),

    with p - p_0 = (s - s0)(p + p_0)/(q + q_0), and likewise for the other difference.
    """
    (q0, p0, _), (qa, pa, na), (q, p, _) = (_split(x, imbalance) for x in (s0, a, s))
    x = (s - s0) / (a - s) * ((p + p0) / (q + q0)) * ((qa + q) / (pa + p)) / (p0 + na)
    return np.where(qa > 0, np.log1p(2 * qa * x) / _nonzero(2 * qa), x)


def _split(s: Array, imbalance: Array) -> tuple[Array, Array, Array]:
    """Return q, q + s and q - s: the larger of the two is a sum, the smaller lambda^2 / 4 over it."""
    half = np.abs(imbalance) / 2
    q = np.hypot(s, half)
    large = q + np.abs(s)
    small = half * (half / _nonzero(large))
    return q, np.where(s >= 0, large, small), np.where(s >= 0, small, large)


def _weights(a: Array, b: Array) -> tuple[Array, Array]:
    """Return a / (a + b) and b / (a + b), b at most infinite; where both vanished, all is still at its start."""
    total = a + b
    return np.where(total > 0, a / _nonzero(total), 1.0), np.where(np.isinf(b), 1.0, b / _nonzero(total))


def _nonzero(x: Array) -> Array:
    return np.where(x == 0, 1.0, x)
