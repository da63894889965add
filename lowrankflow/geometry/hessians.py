r"""The Riemannian Hessian and the geodesics of a spectral metric, exactly.

Geodesics of g(Z, Z) = <Z, A_W^{-1} Z> are the motions under the Hamiltonian <P, A_W P> / 2:

    W' = A_W P,    P' = -K_W(P, P) / 2,    <K_W(G, P), Y> = <G, D A_W[Y] P>,

so that W'' = D A_W[Z] P + A_W P' with P = A_W^{-1} Z. The Hessian is the second derivative of the loss along them,
polarised. D A_W needs the divided differences of the coefficients alone, ``metric.differences(s)`` and, of a mix,
``metric.mix_differences(s)``: it turns no frame and does not mind equal singular values.
"""

from __future__ import annotations

import numpy as np

from ..gradients import projected
from ..matrices import LowRankMatrix, Tangent
from ..matrices.requirements import require_point, require_symmetric_point, require_tangent
from ..metrics import Metric
from ..metrics.facts import is_symmetric
from ..metrics.requirements import require_differences, require_metric, require_mix_differences, require_positive
from ..operators import MatrixLike
from ..validation import Array

__all__ = ["RiemannianHessian", "embedded_hessian", "geodesic_acceleration"]


def embedded_hessian(w: LowRankMatrix, z: Tangent, egrad: MatrixLike, ehess: MatrixLike) -> Tangent:
    r"""Return the Hessian of a loss under the embedded metric, from its Euclidean derivatives.

    .. math:: P_T(\nabla^2 f[Z]) + G_N Z_v S^{-1} V^T + U S^{-1} Z_u^T G_N , \qquad G_N = (I - UU^T)\, G\, (I - VV^T) .

    Parameters
    ----------
    w : LowRankMatrix, (m, n) of rank k
        Base point.
    z : Tangent
        The direction.
    egrad : matrix-like, (m, n)
        Frobenius gradient at `w`; multiplied by the frames of `z`.
    ehess : matrix-like, (m, n)
        The Euclidean Hessian along `z`, ``loss.hessian(w, z.at(w))``.

    Returns
    -------
    Tangent

    Notes
    -----
    Cost: two products with `egrad` and two with `ehess`. The second term is the curvature of the manifold, which
    grows like 1 / s_k; every other spectral metric takes it in from here.
    """
    h, up, vp = projected(w, ehess), egrad @ z.vp, egrad.T @ z.up
    up, vp = up - w.u @ (w.u.T @ up), vp - w.vt.T @ (w.vt @ vp)
    return Tangent(h.up + up / w.s, h.core, h.vp + vp / w.s)


class _Function:
    """f(W W^T, W^T W), which multiplies the blocks in the singular frame by f_ik, with its derivative and the adjoint of that.

    `differences` holds (f_ik - f_jk) / (s_i^2 - s_j^2), the last index for s = 0, of a symmetric f.
    """

    def __init__(self, s: Array, differences: Array) -> None:
        r, d = s.size, differences
        self.s = s
        self._core = d[:r, :r, :r]  # (f_ik - f_jk) / (s_i^2 - s_j^2)
        self._up = s[:, None] * d[:r, r, :r]  # (f_ik - f_k) / s_i, f_k that of (U_perp, v_k)
        self._frames = d[:r, :r, r]  # (f_i - f_j) / (s_i^2 - s_j^2)

    def derivative(self, z: Tangent, p: Tangent) -> Tangent:
        """Return the tangent part of D f[Z] P."""
        left, right = z.core * self.s, self.s[:, None] * z.core
        left, right = left + left.T, right + right.T  # the derivatives of W W^T and W^T W in the frame
        core = np.einsum("ij,jk,ijk->ik", left, p.core, self._core)
        core += np.einsum("ij,jk,jki->ik", p.core, right, self._core)
        core += (z.up.T @ p.up) * self._up + (p.vp.T @ z.vp) * self._up.T
        up = z.up @ (p.core * self._up) + p.up @ (right * self._frames)
        vp = z.vp @ (p.core.T * self._up) + p.vp @ (left * self._frames)
        return Tangent(up, core, vp)

    def adjoint(self, g: Tangent, p: Tangent) -> Tangent:
        """Return K(G, P), for which <K, Y> = <G, D f[Y] P>."""
        left = np.einsum("ik,jk,ijk->ij", g.core, p.core, self._core) + (g.vp.T @ p.vp) * self._frames
        right = np.einsum("ik,ij,jki->jk", g.core, p.core, self._core) + (p.up.T @ g.up) * self._frames
        core = (left + left.T) * self.s + self.s[:, None] * (right + right.T)
        up = p.up @ (g.core * self._up).T + g.up @ (p.core * self._up).T
        vp = p.vp @ (g.core.T * self._up).T + g.vp @ (p.core.T * self._up).T
        return Tangent(up, core, vp)


class _Mixed:
    """P -> f(W W^T, W^T W) (W P^T W): what a `mix` = s_i s_k f_ik does, f vanishing on normal directions.

    There W P^T W has no part, so that any f would do; this one leaves r x r blocks alone to be multiplied.
    """

    def __init__(self, s: Array, mix: Array, differences: Array) -> None:
        r = s.size
        self.s, self._values = s, mix / (s[:, None] * s)
        padded = np.zeros((r + 1,) * 3)
        padded[:r, :r, :r] = differences
        padded[:r, r, :r] = self._values / (s**2)[:, None]
        self._function = _Function(s, padded)

    def _sandwich(self, p: Tangent) -> Tangent:
        """Return W P^T W."""
        return Tangent(np.zeros_like(p.up), self.s[:, None] * p.core.T * self.s, np.zeros_like(p.vp))

    def derivative(self, z: Tangent, p: Tangent) -> Tangent:
        """Return the tangent part of D f[Z] (W P^T W) + f (Z P^T W + W P^T Z)."""
        moved = (z.core @ p.core.T + z.vp.T @ p.vp) * self.s + self.s[:, None] * (p.core.T @ z.core + p.up.T @ z.up)
        bent = self._function.derivative(z, self._sandwich(p))
        return Tangent(bent.up, bent.core + self._values * moved, bent.vp)

    def adjoint(self, g: Tangent, p: Tangent) -> Tangent:
        """Return K(G, P), for which <K, Y> = <G, D f[Y] (W P^T W) + f (Y P^T W + W P^T Y)>."""
        f = self._values * g.core
        left, right = f * self.s, self.s[:, None] * f  # f(G) W^T and W^T f(G)
        moved = Tangent(p.up @ right, left @ p.core + p.core @ right, p.vp @ left.T)
        return self._function.adjoint(g, self._sandwich(p)) + moved


class _Operator:
    """A_W with its derivative and the adjoint of that, on tangent vectors in the singular frame of one point."""

    def __init__(self, w: LowRankMatrix, metric: Metric) -> None:
        differences = require_differences(metric)
        self.at = metric.coefficients(w.s)
        self._parts: list[_Function | _Mixed] = [_Function(w.s, differences(w.s))]
        if self.at.mix is not None:
            self._parts.append(_Mixed(w.s, self.at.mix, require_mix_differences(metric)(w.s)))

    def derivative(self, z: Tangent, p: Tangent) -> Tangent:
        """Return the tangent part of D A_W[Z] P."""
        first, *rest = (part.derivative(z, p) for part in self._parts)
        return sum(rest, first)

    def adjoint(self, g: Tangent, p: Tangent) -> Tangent:
        """Return K_W(G, P), for which <K, Y> = <G, D A_W[Y] P>."""
        first, *rest = (part.adjoint(g, p) for part in self._parts)
        return sum(rest, first)


class RiemannianHessian:
    r"""The Hessian of a loss at one point under the Levi-Civita connection of a spectral metric.

    .. math:: \operatorname{Hess} f[Z] = A(\operatorname{Hess}_E f[Z])
              + \tfrac12 \big(DA[Z]\,G + A\,K(G, P) - DA[R]\,P\big), \quad P = A^{-1} Z, \; R = A(G),

    with :math:`\operatorname{Hess}_E` that of the embedded metric, G the projected gradient, and D A and K restricted to
    tangent vectors. It is self-adjoint under g. For the depth-N metric of a whole N, g(Hess f[Z], Z) is the second
    derivative of the loss of the factors along the horizontal lift of Z; here N may be real.

    Parameters
    ----------
    w : LowRankMatrix, (m, n) of rank k
        Base point.
    gradient : Tangent
        The projected gradient there, ``project(w, egrad)``.
    metric : Metric
        One with ``differences(s)``: depth N, embedded, ScaledGD, R3MC, two-factor, kappa-balanced, Bures-Wasserstein.

    Raises
    ------
    ValueError, TypeError
        If the metric has no ``differences`` or is degenerate, or `gradient` does not fit `w`.

    Notes
    -----
    A product costs O((m + n) k^2 + k^3) beyond `embedded_hessian`.

    References
    ----------
    Derived in docs/theory.md#hessian.
    """

    def __init__(self, w: LowRankMatrix, gradient: Tangent, metric: Metric) -> None:
        require_point("w", w)
        require_metric(metric)
        require_tangent("gradient", gradient, w)
        self._symmetric = is_symmetric(metric)
        if self._symmetric:
            require_symmetric_point("w", w, metric)
        require_positive(metric, w.s, w.shape)
        self._operator = _Operator(w, metric)
        self._gradient = self._tangent(gradient)
        self._rgrad = self._operator.at.apply(self._gradient)

    def _tangent(self, z: Tangent) -> Tangent:
        return z.symmetrised() if self._symmetric else z

    def __call__(self, z: Tangent, embedded: Tangent) -> Tangent:
        """Return Hess f[Z] from that of the embedded metric, ``embedded_hessian(w, z, egrad, ehess)``."""
        a, g, embedded = self._operator, self._gradient, self._tangent(embedded)
        p = a.at.solve(z)
        bent = a.derivative(z, g) + a.at.apply(a.adjoint(g, p)) - a.derivative(self._rgrad, p)
        return a.at.apply(embedded) + 0.5 * bent


def geodesic_acceleration(w: LowRankMatrix, z: Tangent, metric: Metric) -> Tangent:
    r"""Return the tangent part of W''(0) along the geodesic with W(0) = w, W'(0) = z.

    .. math:: P_T \ddot W = P_T\, DA[Z] P - \tfrac12 A\, K(P, P), \qquad P = A^{-1} Z .

    The normal part is that of every curve in the manifold. A retraction of :math:`tZ + t^2 P_T\ddot W / 2` is of second
    order for the metric.

    Parameters
    ----------
    w : LowRankMatrix, (m, n) of rank k
        Base point.
    z : Tangent
        The velocity, in the frames of `w`.
    metric : Metric
        One with ``differences(s)``.

    Returns
    -------
    Tangent

    Raises
    ------
    ValueError, TypeError
        If the metric has no ``differences`` or is degenerate there.
    """
    a = _Operator(w, metric)
    p = a.at.solve(z)
    return a.derivative(z, p) - 0.5 * a.at.apply(a.adjoint(p, p))
