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
from .gradients import project, pullback, squared_norm
from .matrices import EPS, LinearNetwork, LowRankMatrix, Tangent, _qr, _svd
from .metrics import DepthMetric, Metric, root_coefficients
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

    def stationarity(self, y: Array) -> float:
        """Return the norm that vanishes at critical points; one gradient of the loss."""
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
        """Return a bound on the spectral radius of the Jacobian for stabilised steppers, or None."""
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
        depth = int(validation.check_depth(metric.depth, integer=True))
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
        root = validation.check_number("root", root)
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
        validation.check_loss(loss)
        validation.check_shape("start", start.shape, loss.shape)
        validation.check_gradient(loss.gradient(start), start.shape)
        self.loss = loss
        self.shapes = [f.shape for f in start.factors]
        self.y0 = np.concatenate([f.ravel() for f in start.factors])
        self._imbalances = start.imbalances()

    def network(self, y: Array) -> LinearNetwork:
        """Return the factors in `y` as views."""
        sizes = np.cumsum([a * b for a, b in self.shapes])[:-1]
        return LinearNetwork._trusted(p.reshape(s) for p, s in zip(np.split(y, sizes), self.shapes, strict=True))

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

    def stationarity(self, y: Array) -> float:
        return float(np.sqrt(squared_norm(self._gradients(y))))

    def defect(self, y: Array) -> float:
        net = self.network(y)
        scale = max(float(np.vdot(f, f)) for f in net.factors)
        drift = (linalg.norm(a - b) for a, b in zip(net.imbalances(), self._imbalances, strict=True))
        return float(max(drift, default=0.0)) / scale

    def repair(self, y: Array) -> Array:
        return y  # the drift of the invariants is a result here, not something to hide

    def tolerances(self, y: Array, rtol: float, atol: float) -> tuple[float, Array]:
        scale = max(float(linalg.norm(f, 2)) for f in self.network(y).factors)
        return _weighted([(y.size, scale)], rtol, atol)

    def rank_lost(self, before: Array, after: Array) -> bool:
        return False

    def spectral_bound(self, y: Array) -> float | None:
        return None


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
        validation.check_loss(loss)
        validation.check_shape("start", start.shape, loss.shape)
        validation.check_gradient(loss.gradient(start), start.shape)
        self.loss, self.metric, self.root = loss, metric, root
        (m, n), k = start.shape, start.rank
        self._cuts = (m * k, m * k + k * k)
        self._frames = ((m, k), (k, k), (n, k))
        self.y0 = np.concatenate([start.u.ravel(), np.diag(start.s ** (1 / root)).ravel(), start.vt.T.ravel()])

    def _parts(self, y: Array) -> tuple[Array, Array, Array]:
        a, b = self._cuts
        u, core, v = self._frames
        return y[:a].reshape(u), y[a:b].reshape(core), y[b:].reshape(v)

    def _evaluate(self, y: Array) -> tuple[Array, tuple[Array, Tangent] | None]:
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
        up, vp = gv - u @ m, gu - v @ m.T
        c, block = root_coefficients(self.metric, l, self.root)
        a = m if block is None else block.core_block(m)
        dy = np.empty_like(y)
        du, dt, dv = self._parts(dy)
        np.matmul(up * -c.left, p.T, out=du)
        np.matmul(p @ (c.sym * (a + a.T) + c.skew * (a - a.T)), -0.5 * qt, out=dt)
        np.matmul(vp * -c.right, qt, out=dv)
        return dy, (s, Tangent(up, m, vp))

    def velocity(self, t: float, y: Array) -> Array:
        return self._evaluate(y)[0]

    def rates(self, t: float, y: Array) -> tuple[Array, float]:
        dy, spectral = self._evaluate(y)
        if spectral is None:
            return dy, np.nan
        s, z = spectral
        return dy, z.dot(self.metric.coefficients(s).apply(z))  # <P_T G, A(P_T G)> = g(W', W')

    def point(self, y: Array) -> LowRankMatrix:
        u, core, v = self._parts(y)
        p, l, qt = _svd(core)  # noqa: E741
        # between steps the frames are orthonormal only to the solver's tolerance: the same W in exact frames
        (qu, ru), (qv, rv) = _qr(u @ p), _qr(v @ qt.T)
        a, s, bt = _svd((ru * l**self.root) @ rv.T)
        return LowRankMatrix._trusted(qu @ a, s, bt @ qv.T)

    def stationarity(self, y: Array) -> float:
        w = self.point(y)
        z, c = project(w, self.loss.gradient(w)), self.metric.coefficients(w.s)
        # where the metric freezes the frames (infinite depth below full rank) only the r x r block can vanish
        return Tangent(z.up * (c.up > 0), z.core, z.vp * (c.vp > 0)).norm()

    def defect(self, y: Array) -> float:
        u, _, v = self._parts(y)
        eye = np.eye(u.shape[1])
        return float(max(linalg.norm(u.T @ u - eye), linalg.norm(v.T @ v - eye)))

    def repair(self, y: Array) -> Array:
        u, core, v = self._parts(y)
        return np.concatenate([_polar(u).ravel(), core.ravel(), _polar(v).ravel()])

    def tolerances(self, y: Array, rtol: float, atol: float) -> tuple[float, Array]:
        u, core, v = self._parts(y)
        scale = float(linalg.norm(core, 2))
        return _weighted([(u.size, 1.0), (core.size, scale), (v.size, 1.0)], rtol, atol)

    def rank_lost(self, before: Array, after: Array) -> bool:
        # (1 - theta) T_old + theta T_new is singular for a theta in (0, 1) where T_old^{-1} T_new has a negative
        # eigenvalue; the sign of det T alone would miss two singular values that cross in one step
        old, new = self._parts(before)[1], self._parts(after)[1]
        if not np.linalg.det(old):
            return True
        ratios = np.linalg.eigvals(np.linalg.solve(old, new))
        return bool(((np.abs(ratios.imag) <= 1e-8 * np.abs(ratios)) & (ratios.real <= 0)).any())

    def spectral_bound(self, y: Array) -> float | None:
        return None


def _polar(a: Array) -> Array:
    """Return the nearest matrix with orthonormal columns."""
    p, _, qt = _svd(a)
    return p @ qt
