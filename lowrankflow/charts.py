"""A flow in coordinates: a flat vector y, its velocity, and the way back to W.

``chart.bind(flow, start)`` gives a `System`. A stepper sees only the vector; a chart never sees the
stepper.

- `Factors`: all factors at their own widths. Gradient descent's own coordinates.
- `SingularFrame`: U, T, V with W = U F(T) V^T, the spectral form of the Riemannian flow.
- `Lifted`: balanced factors of inner width r, another road to the same flow for whole depths.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy import linalg

from . import validation
from .gradients import is_symmetric, project, pullback, squared_norm
from .losses.protocol import require_gradient, require_loss
from .matrices import EPS, LinearNetwork, LowRankMatrix, Tangent, symmetric_part, thin_qr, thin_svd
from .matrices.requirements import require_depth, require_symmetric_point
from .metrics import DepthMetric, Metric, root_coefficients
from .metrics.requirements import require_coefficients
from .validation import Array

__all__ = ["Chart", "Factors", "Lifted", "SingularFrame", "System"]


class System(Protocol):
    """A flow in coordinates. All methods are pure."""

    y0: Array  #: the start, flat

    def velocity(self, t: float, y: Array) -> Array:
        """Return dy/dt as a fresh array; one gradient of the loss."""
        ...

    def rates(self, t: float, y: Array) -> tuple[Array, float]:
        """Return dy/dt and the dissipation rate -dL/dt = g(W', W') from the same gradient."""
        ...

    def point(self, y: Array) -> Any:
        """Return W, as a LowRankMatrix or LinearNetwork."""
        ...

    def criticality(self, y: Array) -> tuple[float, float]:
        """Return the norm that vanishes at critical points and the rate -dL/dt = g(W', W'), from the same gradient."""
        ...

    def defect(self, y: Array) -> float:
        """Return the relative distance from the constraint that the flow conserves."""
        ...

    def repair(self, y: Array) -> Array:
        """Return the nearest state without defect, continuous in the gauge; `y` itself where there is none."""
        ...

    def tolerances(self, y: Array, rtol: float, atol: float) -> tuple[float, Array]:
        """Return (rtol, atol per component) such that the RMS test bounds the relative error of W by `rtol`."""
        ...

    def rank_lost(self, before: Array, after: Array) -> bool:
        """Return whether a step crossed the boundary of the rank-r manifold."""
        ...

    def spectral_bound(self, y: Array) -> float | None:
        """Return a bound on the spectral radius of the Jacobian, for stabilised steppers.

        None where the loss has no ``curvature``, no bound is known or `y` is not finite. Costs at most one value and
        one gradient of the loss.
        """
        ...


class Chart(Protocol):
    """Makes a `System` of a flow and a start."""

    def bind(self, flow: Any, start: Any) -> System:
        """Return the system; raise if chart, flow and start do not fit."""
        ...


@dataclass(frozen=True)
class Factors:
    """All the factors at their full widths: the flow W_j' = -grad_{W_j} L, whose product is W."""

    def bind(self, flow: Any, start: LinearNetwork) -> System:
        """Return the system of a FactorFlow started at a LinearNetwork.

        Raises
        ------
        TypeError
            If the flow has a metric, or the start is not a LinearNetwork.
        """
        if hasattr(flow, "metric"):
            raise TypeError(
                "`chart` Factors() takes a FactorFlow, got a RiemannianFlow. Use SingularFrame() or Lifted()."
            )
        if not isinstance(start, LinearNetwork):
            raise TypeError(
                f"`start` must be a LinearNetwork for a factor flow, got {validation.describe(start)}."
                " Use LinearNetwork.balanced(start, depth)."
            )
        return _FactorSystem(flow.loss, start)


@dataclass(frozen=True)
class Lifted:
    """Balanced factors of inner width r for a RiemannianFlow with a whole depth; polynomial velocity.

    It is a factor flow, so `verify_equivalence` never uses it as the Riemannian side.
    """

    def bind(self, flow: Any, start: LowRankMatrix) -> System:
        """Return the system of a RiemannianFlow under DepthMetric(2, 3, ...).

        Raises
        ------
        TypeError, ValueError
            If the metric is not a DepthMetric, or its depth is not whole.
        """
        metric = getattr(flow, "metric", None)
        if not isinstance(metric, DepthMetric):
            raise TypeError(
                f"`chart` Lifted() takes a RiemannianFlow under DepthMetric, got {validation.describe(metric)}."
            )
        depth = int(require_depth(metric.depth, integer=True))
        return _LiftedSystem(flow.loss, LinearNetwork.balanced(start, depth))


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

    def bind(self, flow: Any, start: LowRankMatrix) -> System:
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
        if not hasattr(flow, "metric"):
            raise TypeError("`chart` SingularFrame() takes a RiemannianFlow, got a FactorFlow. Use Factors().")
        if not isinstance(start, LowRankMatrix):
            raise TypeError(
                f"`start` must be a LowRankMatrix for a Riemannian flow, got {validation.describe(start)}."
                " Use network.to_low_rank() or LowRankMatrix.from_dense(a, rank)."
            )
        root = getattr(flow.metric, "root", 1.0) if self.root is None else self.root
        root = validation.require_number("root", root)
        if root < 1:
            raise ValueError(f"`root` must be at least 1, got {root:g}.")
        if isinstance(flow.metric, DepthMetric) and flow.metric.depth < 2:
            warnings.warn(
                f"Below depth 2 the singular frames turn at a speed that is unbounded as a singular value vanishes"
                f" (s^(1-2/N), here N={flow.metric.depth:g}); keep the start away from lower rank.",
                stacklevel=3,
            )
        return _FrameSystem(flow.loss, flow.metric, start, root)


def _weighted(blocks: list[tuple[int, float]], rtol: float, atol: float) -> tuple[float, Array]:
    """Return tolerances under which sum_b ||error_b||^2 / scale_b^2 <= (rtol + atol)^2 for blocks (size, scale).

    The RMS norm of scipy divides by the number of components; an r x r core among m + n rows would be
    diluted, so each component gets the tolerance of its block over the square root of that number. The
    relative part of scipy's test is left at its least value.
    """
    total = sum(size for size, _ in blocks)
    per_block = [np.full(size, (rtol * scale + atol) / np.sqrt(total)) for size, scale in blocks]
    return 100 * EPS, np.concatenate(per_block)


class _FactorSystem:
    """y = all factors, one after the other."""

    def __init__(self, loss: Any, start: LinearNetwork) -> None:
        require_loss(loss)
        validation.require_shape("start", start.shape, loss.shape)
        require_gradient(loss.gradient(start), start.shape)
        self.loss = loss
        self.shapes = [f.shape for f in start.factors]
        self.y0 = np.concatenate([f.ravel() for f in start.factors])
        ends = np.cumsum([a * b for a, b in self.shapes])
        self._cuts = [slice(end - a * b, end) for end, (a, b) in zip(ends, self.shapes, strict=True)]
        self._imbalances = start.imbalances()

    def network(self, y: Array) -> LinearNetwork:
        """Return the factors in `y` as views."""
        return LinearNetwork._trusted([y[cut].reshape(s) for cut, s in zip(self._cuts, self.shapes, strict=True)])

    def _gradients(self, y: Array) -> list[Array]:
        net = self.network(y)
        return pullback(net, self.loss.gradient(net))

    def velocity(self, t: float, y: Array) -> Array:
        return -np.concatenate([g.ravel() for g in self._gradients(y)])

    def rates(self, t: float, y: Array) -> tuple[Array, float]:
        velocity = self.velocity(t, y)
        return velocity, float(velocity @ velocity)

    def point(self, y: Array) -> Any:
        return self.network(y.copy())

    def criticality(self, y: Array) -> tuple[float, float]:
        power = squared_norm(self._gradients(y))
        return float(np.sqrt(power)), power

    def defect(self, y: Array) -> float:
        net = self.network(y)
        scale = max(float(np.vdot(f, f)) for f in net.factors)
        drift = (linalg.norm(a - b) for a, b in zip(net.imbalances(), self._imbalances, strict=True))
        return float(max(drift, default=0.0)) / scale

    def repair(self, y: Array) -> Array:
        return y  # the drift of the invariants is a result here, not something to hide

    def tolerances(self, y: Array, rtol: float, atol: float) -> tuple[float, Array]:
        scale = max(float(linalg.norm(f)) for f in self.network(y).factors)
        return _weighted([(y.size, scale)], rtol, atol)

    def rank_lost(self, before: Array, after: Array) -> bool:
        return False

    def spectral_bound(self, y: Array) -> float | None:
        # Minus the Jacobian is the Hessian of L(W_N ... W_1). Along directions E_j it is D^2 L(W)[Z, Z], Z the sum over
        # j of W_N .. E_j .. W_1, plus twice the sum over i < j of <G, W_N .. E_j .. E_i .. W_1>. With p_j the product of
        # the spectral norms of the other factors and q the largest product of N - 2 of them, and e_j = ||E_j||_F,
        # |D^2 L| <= lambda_1 (sum p_j e_j)^2 and, as ||E_j B E_i||_* <= e_j ||B||_2 e_i, the rest is at most
        # ||G||_2 q ((sum e_j)^2 - sum e_j^2) <= (N - 1) ||G||_2 q sum e_j^2. Proven for -lambda_1 <= D^2 L <= lambda_1.
        # Cost: one value of the loss and the norms of the factors.
        curvature = getattr(self.loss, "curvature", None)
        if curvature is None or not np.isfinite(y).all():
            return None
        net = self.network(y)
        norms = np.sort([linalg.norm(f, 2, check_finite=False) for f in net.factors])
        gradient = _gradient_bound(self.loss, curvature, self.loss.value(net))
        if gradient is None:
            return None
        others = [np.delete(norms, j).prod() for j in range(norms.size)]
        return float(curvature * np.vdot(others, others) + (norms.size - 1) * norms[2:].prod() * gradient)


class _LiftedSystem(_FactorSystem):
    """y = balanced factors of inner width r; W is a LowRankMatrix."""

    def __init__(self, loss: Any, start: LinearNetwork) -> None:
        super().__init__(loss, start)
        self._rank = min(start.widths)

    def point(self, y: Array) -> LowRankMatrix:
        return self.network(y).to_low_rank(self._rank)

    def repair(self, y: Array) -> Array:
        return np.concatenate([f.ravel() for f in self.network(y).rebalanced(self._rank).factors])


class _FrameSystem:
    """y = U, T, V, one after the other."""

    def __init__(self, loss: Any, metric: Metric, start: LowRankMatrix, root: float) -> None:
        require_loss(loss)
        validation.require_shape("start", start.shape, loss.shape)
        require_gradient(loss.gradient(start), start.shape)
        require_coefficients(metric, start.s)
        self.loss, self.metric, self.root = loss, metric, root
        self._symmetric = is_symmetric(metric)
        if self._symmetric:
            require_symmetric_point("start", start, metric)
        (m, n), k = start.shape, start.rank
        self._cuts = (m * k, m * k + k * k)
        self._frames = ((m, k), (k, k), (n, k))
        self.y0 = np.concatenate([start.u.ravel(), np.diag(start.s ** (1 / root)).ravel(), start.vt.T.ravel()])

    def _parts(self, y: Array) -> tuple[Array, Array, Array]:
        a, b = self._cuts
        u, core, v = self._frames
        return y[:a].reshape(u), y[a:b].reshape(core), y[b:].reshape(v)

    def evaluate(self, y: Array) -> tuple[Array, tuple[Array, Tangent] | None]:
        """Return dy/dt and (s, P_T G in the rotated frames); None where y is not finite."""
        u, core, v = self._parts(y)
        if not np.isfinite(core).all():  # a trial step that blew up: let the step control reject it
            return np.full_like(y, np.nan), None
        p, l, qt, info = linalg.lapack.dgesdd(core)  # noqa: E741  # what svd calls, without 5 us of wrapping
        if info:
            return np.full_like(y, np.nan), None
        u, v = u @ p, v @ qt.T
        s = l**self.root
        g = self.loss.gradient(LowRankMatrix._trusted(u, s, v.T))
        gv, gu = g @ v, g.T @ u
        m = u.T @ gv
        z = Tangent(gv - u @ m, m, gu - v @ m.T)
        up, m, vp = z = z.symmetrised() if self._symmetric else z
        c, block = root_coefficients(self.metric, l, self.root)
        a = m if block is None else block.core_block(m)
        dy = np.empty_like(y)
        du, dt, dv = self._parts(dy)
        np.matmul(up * -c.left, p.T, out=du)
        np.matmul(p @ (c.sym * (a + a.T) + c.skew * (a - a.T)), -0.5 * qt, out=dt)
        np.matmul(vp * -c.right, qt, out=dv)
        return dy, (s, z)

    def velocity(self, t: float, y: Array) -> Array:
        return self.evaluate(y)[0]

    def rates(self, t: float, y: Array) -> tuple[Array, float]:
        dy, spectral = self.evaluate(y)
        if spectral is None:
            return dy, np.nan
        s, z = spectral
        return dy, z.dot(self.metric.coefficients(s).apply(z))  # <P_T G, A(P_T G)> = g(W', W')

    def point(self, y: Array) -> LowRankMatrix:
        u, core, v = self._parts(y)
        p, l, qt = thin_svd(core)  # noqa: E741
        # between steps the frames are orthonormal only to the solver's tolerance: the same W in exact frames
        (qu, ru), (qv, rv) = thin_qr(u @ p), thin_qr(v @ qt.T)
        a, s, bt = thin_svd((ru * l**self.root) @ rv.T)
        w = LowRankMatrix._trusted(qu @ a, s, bt @ qv.T)
        return symmetric_part(w) if self._symmetric else w

    def criticality(self, y: Array) -> tuple[float, float]:
        w = self.point(y)
        z, c = project(w, self.loss.gradient(w)), self.metric.coefficients(w.s)
        z = z.symmetrised() if self._symmetric else z
        # where the metric freezes the frames (infinite depth below full rank) only the r x r block can vanish
        return Tangent(z.up * (c.up > 0), z.core, z.vp * (c.vp > 0)).norm(), z.dot(c.apply(z))

    def defect(self, y: Array) -> float:
        u, _, v = self._parts(y)
        eye = np.eye(u.shape[1])
        return float(max(linalg.norm(u.T @ u - eye), linalg.norm(v.T @ v - eye)))

    def repair(self, y: Array) -> Array:
        u, core, v = self._parts(y)
        return np.concatenate([_polar(u).ravel(), core.ravel(), _polar(v).ravel()])

    def tolerances(self, y: Array, rtol: float, atol: float) -> tuple[float, Array]:
        u, core, v = self._parts(y)
        scale = float(linalg.norm(core))
        return _weighted([(u.size, 1.0), (core.size, scale), (v.size, 1.0)], rtol, atol)

    def rank_lost(self, before: Array, after: Array) -> bool:
        old, new = self._parts(before)[1], self._parts(after)[1]
        # signs alone: det T itself underflows where many singular values are small
        sign = np.linalg.slogdet(old)[0]
        if sign == 0 or sign != np.linalg.slogdet(new)[0]:
            return True
        # Two singular values that cross in one step leave the sign as it was. Then the straight way from T_old to T_new
        # meets singular matrices, T_old^{-1} T_new has a negative eigenvalue, and the polar factor turns by about pi.
        # The first alone does not suffice: past a small singular value the curved way of the flow goes by where the
        # straight one does not, and turns the polar factor by little.
        ratios = np.linalg.eigvals(np.linalg.solve(old, new))
        if not ((np.abs(ratios.imag) <= 1e-8 * np.abs(ratios)) & (ratios.real <= 0)).any():
            return False
        return bool(np.linalg.eigvals(_polar(old).T @ _polar(new)).real.min() < -0.5)

    def spectral_bound(self, y: Array) -> float | None:
        # In the singular frame the depth-N Jacobian is J = -B H C + J_G: H the Hessian of L, C the derivative of W and
        # B that of the flow with respect to G. Both are diagonal there, so that scaling the coordinates entry by entry
        # makes B = C^T with B C = diag(core), at most N s_1^(2-2/N). Of J_G the block G_n of G on (U_perp, V_perp) couples
        # dU and dV symmetrically, with norm at most s_1^(1-2/N) ||G_n||_2; the rest is linear in P_T(G).
        # Proven where P_T(G) = 0, at critical points, for all N >= 2:  lambda_1 N s_1^(2-2/N) + s_1^(1-2/N) ||G_n||_2.
        # Away from them kappa s_1^(1-2/N) ||P_T(G)||_2 is added. This term is not proven: its constant was derived from
        # the extreme couplings and not exceeded in searches over G and s (tests: dense Jacobians).
        curvature, depth = getattr(self.loss, "curvature", None), getattr(self.metric, "depth", 0.0)
        if curvature is None or not isinstance(self.metric, DepthMetric) or depth < 2 or self.root != self.metric.root:
            return None  # at another root or below depth 2 the radius grows without bound as s_r -> 0
        if not np.isfinite(y).all():
            return None
        w = self.point(y)
        value, egrad = _value_and_gradient(self.loss, w)
        gradient = _gradient_bound(self.loss, curvature, value)
        if gradient is None:
            return None
        z = project(w, egrad)
        core, up, vp = (float(linalg.norm(part, 2, check_finite=False)) for part in (z.core, z.up, z.vp))
        s = float(w.s[0])
        if np.isinf(depth):  # the frames are frozen: T' = -P (mean(s_i^2, s_k^2) * M) Q^T alone
            return float(curvature * s**2 + s * _sensitivity(w.s, depth) * core)
        tangent = float(linalg.norm([[core, vp], [up, 0.0]], 2))  # at least ||P_T(G)||_2
        normal = float(np.sqrt(max(gradient**2 - z.dot(z), 0.0)))  # at least ||G_n||_F, by Pythagoras
        rate = normal + _sensitivity(w.s ** (1 / depth), depth) * tangent
        return float(curvature * depth * s ** (2 - 2 / depth) + s ** (1 - 2 / depth) * rate)


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


def _value_and_gradient(loss: Any, w: Any) -> tuple[float, Any]:
    """Return both, sharing the residual where the loss can."""
    both = getattr(loss, "value_and_gradient", None)
    return both(w) if both is not None else (loss.value(w), loss.gradient(w))


def _gradient_bound(loss: Any, curvature: float, value: float) -> float | None:
    """Return a bound on ||G||_F without G: a step of G / lambda_1 lowers L by ||G||^2 / (2 lambda_1), not below inf L.

    inf L is the best value at full rank where the loss knows it, else 0 is taken; None where L lies below that.
    """
    best = getattr(loss, "best_value", None)
    if best is None and value < 0:
        return None
    excess = value if best is None else max(value - best(min(loss.shape)), 0.0) + 100 * EPS * abs(value)
    return float(np.sqrt(2 * curvature * excess))


def _polar(a: Array) -> Array:
    """Return the nearest matrix with orthonormal columns."""
    p, _, qt = thin_svd(a)
    return p @ qt
