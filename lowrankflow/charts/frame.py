"""The singular frame: U, T, V with W = U F(T) V^T."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg

from .. import validation
from ..flows import Flow, Moment, Motion, Point, RiemannianFlow
from ..gradients import projected
from ..losses import Loss
from ..losses import facts as loss_facts
from ..losses.requirements import require_gradient, require_loss
from ..matrices import EPS, LowRankMatrix, Tangent, symmetric_part, thin_qr, thin_svd
from ..matrices.requirements import require_symmetric_point
from ..metrics import Coefficients, DepthMetric, Metric, extension, keeps_rank, root_coefficients
from ..metrics import facts as metric_facts
from ..metrics.requirements import require_coefficients, require_metric
from ..operators import both_sides
from ..validation import Array
from .ambient import goes_on
from .system import System, gradient_bound, polar, require_low_rank, weighted

__all__ = ["Frame", "FrameSystem", "SingularFrame"]


@dataclass(frozen=True)
class SingularFrame:
    r"""U, T, V with :math:`W = U P\,\mathrm{diag}(s)\,Q^T V^T`, :math:`T = P\,\mathrm{diag}(l)\,Q^T`, :math:`s = l^p`.

    With :math:`\tilde U = UP`, :math:`\tilde V = VQ`, :math:`M = \tilde U^T G \tilde V`, p = N and the depth-N metric

    .. math::
       \dot T &= -P \Big[\mathrm{sym}(M) \circ \tfrac{s_i + s_k}{l_i + l_k}
                 + \mathrm{skew}(M) \circ \tfrac{s_i - s_k}{l_i - l_k}\Big] Q^T, \\
       \dot U &= -(I - \tilde U \tilde U^T)\, G \tilde V\, \mathrm{diag}(l^{N-2})\, P^T .

    Parameters
    ----------
    root : float, optional
        The root p. None: the depth of the metric where it has one, else 1. The root keeps the order of
        a stepper at tiny singular values: with p = N the velocity is smooth there, with p = 1 it
        contains a polar factor, which is not.

    Notes
    -----
    The cost of a velocity is two products with G and O((m + n) r^2), whatever the depth.
    """

    root: float | None = None

    def bind(self, flow: Flow, start: Point) -> System:
        """Return the system of a RiemannianFlow started at a LowRankMatrix.

        Raises
        ------
        TypeError, ValueError
            If the flow has no metric, the start is not a LowRankMatrix, or the root is below 1.

        Warns
        -----
        UserWarning
            For 1 < N < 2, where the speed of the frames is not bounded.
        """
        if not isinstance(flow, RiemannianFlow):
            raise TypeError("`chart` SingularFrame() takes a RiemannianFlow, got a FactorFlow. Use Factors().")
        start = require_low_rank(start)
        require_metric(flow.metric)
        root = metric_facts(flow.metric).root if self.root is None else validation.require_number("root", self.root)
        if root < 1:
            raise ValueError(f"`root` must be at least 1, got {root:g}.")
        if isinstance(flow.metric, DepthMetric) and flow.metric.depth < 2:
            warnings.warn(
                f"Below depth 2 the singular frames turn at a speed that is unbounded as a singular value vanishes"
                f" (s^(1-2/N), here N={flow.metric.depth:g}); keep the start away from lower rank.",
                stacklevel=3,
            )
        return FrameSystem(flow.loss, flow.metric, start, root)


class Frame:
    """Where U, T, V stand in y; it knows no loss, so that what is kept of a run does not either."""

    root: float

    def __init__(self, shape: tuple[int, int], rank: int, root: float, symmetric: bool) -> None:
        (m, n), k = shape, rank
        self._cuts, self._shapes = (m * k, m * k + k * k), ((m, k), (k, k), (n, k))
        self.root, self._symmetric = root, symmetric

    def parts(self, y: Array) -> tuple[Array, Array, Array]:
        """Return U, T, V as views."""
        a, b = self._cuts
        u, core, v = self._shapes
        return y[:a].reshape(u), y[a:b].reshape(core), y[b:].reshape(v)

    def axes(self, core: Array) -> tuple[Array, Array, Array]:
        """Return P, l, Q, with W = (U P) diag(l^N) (V Q)^T."""
        p, l, qt = thin_svd(core)  # noqa: E741
        return p, l, qt.T

    def point(self, y: Array) -> LowRankMatrix:
        """Return W in frames that are orthonormal to roundoff; between steps those in y are to the solver's tolerance."""
        u, core, v = self.parts(y)
        p, l, q = self.axes(core)  # noqa: E741
        (qu, ru), (qv, rv) = thin_qr(u @ p), thin_qr(v @ q)
        a, s, bt = thin_svd((ru * l**self.root) @ rv.T)
        w = LowRankMatrix._trusted(qu @ a, s, bt @ qv.T)
        return symmetric_part(w) if self._symmetric else w

    def singular_values(self, y: Array) -> Array:
        """Return those of `point` without its frames: Cholesky's triangles of Gram matrices near 1 are as good as theirs."""
        u, core, v = self.parts(y)
        if self._symmetric or max(_from_orthonormal(u), _from_orthonormal(v)) > 0.01:
            return self.point(y).s
        p, l, q = self.axes(core)  # noqa: E741
        up, vq, chol = u @ p, v @ q, linalg.lapack.dpotrf
        return thin_svd((chol(up.T @ up)[0] * l**self.root) @ chol(vq.T @ vq)[0].T)[1]


class FrameSystem:
    """y = U, T, V, one after the other."""

    loss: Loss
    metric: Metric
    root: float
    y0: Array

    jacobian: Callable[[Array], Array] | None = None

    def __init__(self, loss: Loss, metric: Metric, start: LowRankMatrix, root: float) -> None:
        require_loss(loss)
        validation.require_shape("start", start.shape, loss.shape)
        require_gradient(loss.gradient(start), start.shape)
        require_coefficients(metric, start.s)
        self.loss, self.metric, self.root = loss, metric, root
        self._loss_facts, self._facts = loss_facts(loss), metric_facts(metric)
        self._symmetric = self._facts.symmetric
        if self._symmetric:
            require_symmetric_point("start", start, metric)
        self._frame = Frame(start.shape, start.rank, root, self._symmetric)
        self._parts = self._frame.parts
        self.point: Callable[[Array], LowRankMatrix] = self._frame.point
        self._last: tuple[Array, Any] | None = None  #: where the last gradient was asked for, and what was made of it
        self.y0 = np.concatenate([start.u.ravel(), np.diag(start.s ** (1 / root)).ravel(), start.vt.T.ravel()])

    def _evaluate(self, y: Array) -> tuple[Array, tuple[LowRankMatrix, Tangent, Coefficients | None] | None]:
        """Return dy/dt and (W, P_T G, the coefficients of A where they were asked for); None where y is not finite."""
        u, core, v = self._parts(y)
        if not np.isfinite(core).all():  # a trial step that blew up: let the step control reject it
            return np.full_like(y, np.nan), None
        p, l, qt, info = linalg.lapack.dgesdd(core)  # noqa: E741  # what svd calls, without 5 us of wrapping
        if info:
            return np.full_like(y, np.nan), None
        u, v = u @ p, v @ qt.T
        w = LowRankMatrix._trusted(u, l**self.root, v.T)
        g = self.loss.gradient(w)
        gv, gu = both_sides(g, v, u)
        m = u.T @ gv
        z = Tangent(gv - u @ m, m, gu - v @ m.T)
        up, m, vp = z = z.symmetrised() if self._symmetric else z
        c, block = root_coefficients(self._facts, l, self.root)
        a = m if block is None else block.core_block(m)
        dy = np.empty_like(y)
        du, dt, dv = self._parts(dy)
        np.matmul(up * -c.left, p.T, out=du)
        np.matmul(p @ (c.sym * (a + a.T) + c.skew * (a - a.T)), -0.5 * qt, out=dt)
        np.matmul(vp * -c.right, qt, out=dv)
        return dy, (w, z, block)

    def velocity(self, t: float, y: Array) -> Array:
        dy, known = self._evaluate(y)
        self._last = None if known is None else (y, known)
        return dy

    def remembers(self, y: Array) -> bool:
        return self._last is not None and self._last[0] is y

    def motion(self, t: float, y: Array) -> tuple[Array, Motion | None]:
        dy, known = self._evaluate(y)
        if known is None:
            return dy, None
        w, z, c = known
        velocity = -(self.metric.coefficients(w.s) if c is None else c).apply(z)
        return dy, Motion(t, w, z, velocity, -z.dot(velocity))  # <P_T G, A(P_T G)> = g(W', W')

    def measure(self, y: Array) -> Moment:
        w = self.point(y)
        if self._last is not None and self._last[0] is y:
            (at, z, c), value = self._last[1], self.loss.value(w)
            c = self.metric.coefficients(at.s) if c is None else c
        else:
            value, egrad = self._loss_facts.value_and_gradient(w)
            z, c = projected(w, egrad), self.metric.coefficients(w.s)
            z = z.symmetrised() if self._symmetric else z
        # where the metric freezes the frames (infinite depth below full rank) only the r x r block can vanish
        moving = Tangent(z.up * (c.up > 0), z.core, z.vp * (c.vp > 0))
        return Moment(float(value), moving.norm(), z.dot(c.apply(z)), w.s)

    def defect(self, y: Array) -> float:
        u, _, v = self._parts(y)
        return max(_from_orthonormal(u), _from_orthonormal(v))

    def repair(self, y: Array) -> Array:
        u, core, v = self._parts(y)
        return np.concatenate([polar(u).ravel(), core.ravel(), polar(v).ravel()])

    def tolerances(self, y: Array, rtol: float, atol: float) -> tuple[float, Array]:
        u, core, v = self._parts(y)
        scale = float(linalg.norm(core))
        return weighted([(u.size, 1.0), (core.size, scale), (v.size, 1.0)], rtol, atol)

    def rank_lost(self, before: Array, after: Array) -> bool | str:
        return self._crossed(before, after) and self._why(after)

    def _why(self, y: Array) -> str:
        """Return why a singular value crossed zero on the way to a state, and what to do."""
        w = self.point(y)
        if keeps_rank(self._facts, w.s):
            return (
                "None does under this metric: `rtol` is too coarse for a value so small."
                " Lower `rtol` or the rank, or stop earlier."
            )
        lost = f"This metric does not keep the rank, and the flow left the manifold of rank {w.rank}."
        if goes_on(self._facts, w):
            return f"{lost} Take chart=charts.Ambient(), in which it goes on, lower the rank, or stop earlier."
        if self._facts.preserves_rank is False and extension(self._facts, w.s, w.shape) is not None:
            return f"{lost} The factors' own goes on, and raises the rank: chart=charts.Ambient(). Or stop earlier."
        return f"{lost} Lower the rank, or stop earlier."

    def _crossed(self, before: Array, after: Array) -> bool:
        """Return whether det T changed its sign on the way, or did and changed back."""
        old, new = self._parts(before)[1], self._parts(after)[1]
        try:
            ratio = np.linalg.solve(old, new)
        except np.linalg.LinAlgError:
            return True
        away = ratio - np.eye(len(old))
        if np.vdot(away, away) < 1:  # nothing on the straight way from 1 to T_old^{-1} T_new is singular
            return False
        # signs alone: det T itself underflows where many singular values are small
        sign = np.linalg.slogdet(old)[0]
        if sign == 0 or sign != np.linalg.slogdet(new)[0]:
            return True
        # Two singular values that cross in one step leave the sign as it was. Then the straight way from T_old to T_new
        # meets singular matrices, T_old^{-1} T_new has a negative eigenvalue, and the polar factor turns by about pi.
        # The first alone does not suffice: past a small singular value the curved way of the flow goes by where the
        # straight one does not, and turns the polar factor by little.
        ratios = np.linalg.eigvals(ratio)
        if not ((np.abs(ratios.imag) <= 1e-8 * np.abs(ratios)) & (ratios.real <= 0)).any():
            return False
        return bool(np.linalg.eigvals(polar(old).T @ polar(new)).real.min() < -0.5)

    def spectral_bound(self, y: Array) -> float | None:
        # In the singular frame the depth-N Jacobian is J = -B H C + J_G: H the Hessian of L, C the derivative of W and
        # B that of the flow with respect to G. Both are diagonal there, so that scaling the coordinates entry by entry
        # makes B = C^T with B C = diag(core), at most N s_1^(2-2/N). Of J_G the block G_n of G on (U_perp, V_perp) couples
        # dU and dV symmetrically, with norm at most s_1^(1-2/N) ||G_n||_2; the rest is linear in P_T(G).
        # Proven where P_T(G) = 0, at critical points, for all N >= 2:  lambda_1 N s_1^(2-2/N) + s_1^(1-2/N) ||G_n||_2.
        # Away from them kappa s_1^(1-2/N) ||P_T(G)||_2 is added. This term is not proven: its constant was derived from
        # the extreme couplings and not exceeded in searches over G and s (tests: dense Jacobians).
        if not isinstance(self.metric, DepthMetric) or self.metric.depth < 2 or self.root != self.metric.root:
            return None  # at another root or below depth 2 the radius grows without bound as s_r -> 0
        curvature, depth = self._loss_facts.curvature, self.metric.depth
        if curvature is None or not np.isfinite(y).all():
            return None
        w = self.point(y)
        value, egrad = self._loss_facts.value_and_gradient(w)
        gradient = gradient_bound(self._loss_facts, value)
        if gradient is None:
            return None
        z = projected(w, egrad)
        core, up, vp = (float(linalg.norm(part, 2, check_finite=False)) for part in (z.core, z.up, z.vp))
        s = float(w.s[0])
        if np.isinf(depth):  # the frames are frozen: T' = -P (mean(s_i^2, s_k^2) * M) Q^T alone
            return float(curvature * s**2 + s * _sensitivity(w.s, depth) * core)
        tangent = float(linalg.norm([[core, vp], [up, 0.0]], 2))  # at least ||P_T(G)||_2
        normal = float(np.sqrt(max(gradient**2 - z.dot(z), 0.0)))  # at least ||G_n||_F, by Pythagoras
        rate = normal + _sensitivity(w.s ** (1 / depth), depth) * tangent
        return float(curvature * depth * s ** (2 - 2 / depth) + s ** (1 - 2 / depth) * rate)


def _from_orthonormal(u: Array) -> float:
    """Return ||U^T U - I||_F."""
    gram = u.T @ u
    gram.flat[:: len(gram) + 1] -= 1.0
    return math.sqrt(np.vdot(gram, gram))


def _sensitivity(l: Array, depth: float) -> float:  # noqa: E741
    """Return kappa of the singular frame at roots `l` in decreasing order, for depth N >= 2 (see `spectral_bound`).

    One singular value attains 2 for infinite depth. There the derivative of the coefficient c of (s_1, s_r),
    2 s_1^2 / (s_r a^2) with a = ln(s_1^2 / s_r^2), is not bounded at s_r = 0; it enters a cycle of two couplings, and the
    way back is of size c / s_1 = s_1 / a, hence the square root.

    A skew block of G at equal singular values attains (N - 1) sqrt(N): T' has weight N l^(N-1) on skew parts,
    l^(N-1) on symmetric ones, and a turn of T takes one to the other. Depths near 2 attain 2. Below depth 3
    the derivative of l^(N-2), the rate of the frames, is not bounded at l_r = 0: d, its largest entry, enters a cycle of
    three couplings, dT -> dU -> dT -> dT, of which the other two stay bounded, hence with its cube root.
    """
    l = np.maximum(l, max(EPS * l[0], np.finfo(float).tiny))  # noqa: E741  # below that they are roundoff
    if np.isinf(depth):
        ratio = l[0] / l[-1]
        return float(max(2.0, np.sqrt(2 * ratio / max(2 * np.log(ratio), 1.0) ** 3)))
    kappa = max(2.0, (depth - 1) * np.sqrt(depth))
    if depth >= 3:
        return kappa
    last = l[-2:]
    d = (depth - 2) * last[-1] ** (depth - 3)  # symmetric turns; two singular values at least for a skew one
    if last.size == 2:
        d = max(d, (last ** (depth - 2)).sum() / last.sum())
    return float(max(kappa, np.cbrt(d * l[0] ** (3 - depth))))
