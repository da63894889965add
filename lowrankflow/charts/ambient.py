"""The space around the manifold: W itself as coordinates, for metrics whose flow goes through lower rank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from .. import validation
from ..flows import Flow, Moment, Motion, Point, RiemannianFlow
from ..gradients import projected
from ..losses import Loss
from ..losses import facts as loss_facts
from ..losses.requirements import require_gradient, require_loss
from ..matrices import LowRankMatrix, thin_qr, thin_svd
from ..metrics import Metric, MetricFacts, extension, keeps_rank
from ..metrics import facts as metric_facts
from ..metrics.requirements import require_coefficients, require_metric
from ..metrics.sums import TINY
from ..validation import Array
from .system import System, polar, require_low_rank, weighted

__all__ = ["Ambient", "goes_on"]

# Why the flow is smooth where a singular value passes zero (docs/theory.md#through-lower-rank).
#
# Coefficients that come from factors are functions of W W^T and W^T W. For p of (19) with 0 as a simple root these are
# analytic: x_i = q(s_i^2) with q the inverse of p, q(t) = t / p'(0) + O(t^2), so that c_ik = p[x_i, x_k] is even in s_i
# and s_k and tends to p'(0) > 0 as both vanish. Where s_r alone passes zero, it changes its sign in a decomposition with
# smooth frames, and u_r does in the sorted one, which is taken here; A_W sees neither. At ties c_ik = c_ii = c_kk.
# At s_j = 0 u_j is any null vector of W^T: there c_jk has to be `up`[k], what new columns weigh. Then A_W does not depend
# on the frames that a decomposition returns.
#
# Where that fails, as for a hidden layer whose width is the rank, W = P M with P of orthonormal columns, and
#     M' = -A_M(P^T G),    P' = -(I - P P^T) G V diag(up / s) U_M^T,    M = U_M diag(s) V^T:
# u_j is then a null vector of M^T, and M has no more rows than rank. P' is smooth, as up / s is odd in s. Likewise Q.


@dataclass(frozen=True)
class Ambient:
    """W itself, of any rank, for metrics that do not keep it: a singular value may pass zero.

    W = P M Q^T, and M is any matrix. Where the metric lets the column space move freely, P = I, else P (m, r) has
    orthonormal columns and is part of the state; the same with Q (n, r) and the row space. With P = Q = I the state is W,
    and from a start of lower rank the rank grows, up to min(m, n); else it is at most r.

    `integrate` takes it by itself where ``metric.preserves_rank`` is False and the rank cannot grow: for
    ``KappaBalancedMetric`` and ``LambdaBalancedMetric(hidden="rows")`` or "columns" from a start of rank min(m, n), for
    ``hidden="rank"`` from any.

    Notes
    -----
    A velocity costs two products with the gradient and a singular value decomposition of M, which is r x n or m x r
    where there is a frame, and dense else. A point has as many singular values as M; they touch zero and rise again. On
    which side a square W is, det W says: an `Event` or a column finds it.
    """

    def bind(self, flow: Flow, start: Point) -> System:
        """Return the system of a RiemannianFlow started at a LowRankMatrix.

        Raises
        ------
        TypeError, ValueError
            If the flow has no metric, the start is not a LowRankMatrix, or the metric does not extend to lower rank.
        """
        if not isinstance(flow, RiemannianFlow):
            raise TypeError("`chart` Ambient() takes a RiemannianFlow, got a FactorFlow. Use Factors().")
        start = require_low_rank(start)
        require_metric(flow.metric)
        require_loss(flow.loss)
        validation.require_shape("start", start.shape, flow.loss.shape)
        require_coefficients(flow.metric, start.s)
        sizes = extension(flow.metric, start.s, start.shape)
        if sizes is None:
            keeps = keeps_rank(flow.metric, start.s)
            why = "which keeps the rank" if keeps else "which does not extend smoothly to lower rank"
            raise ValueError(
                f"`chart` Ambient() needs a metric that extends beyond the rank, got {validation.describe(flow.metric)},"
                f" {why}."
                " Use SingularFrame()."
            )
        return _AmbientSystem(flow.loss, flow.metric, start, sizes)


def goes_on(metric: Metric | MetricFacts, w: LowRankMatrix) -> bool:
    """Return whether the flow on the matrices of the rank of `w` goes on in the chart `Ambient` where that is lost."""
    sizes = extension(metric, w.s, w.shape)
    return sizes is not None and min(sizes) == w.rank


class _Blocks:
    """Where P, M, Q stand in y; it knows no loss, so that what is kept of a run does not either."""

    def __init__(self, shape: tuple[int, int], sizes: tuple[int, int]) -> None:
        (m, n), (a, b) = shape, sizes
        self._left, self._right, self._sizes = (m, a) if a < m else None, (n, b) if b < n else None, sizes

    def parts(self, y: Array) -> tuple[Array | None, Array, Array | None]:
        """Return P, M, Q as views; None for an identity."""
        a, b = self._sizes
        begin = 0 if self._left is None else self._left[0] * a
        p = None if self._left is None else y[:begin].reshape(self._left)
        q = None if self._right is None else y[begin + a * b :].reshape(self._right)
        return p, y[begin : begin + a * b].reshape(a, b), q

    def join(self, p: Array | None, core: Array, q: Array | None) -> Array:
        """Return a y of its parts."""
        return np.concatenate([part.ravel() for part in (p, core, q) if part is not None])

    def point(self, y: Array) -> LowRankMatrix:
        """Return W in frames that are orthonormal to roundoff; between steps those in y are to the solver's tolerance."""
        p, core, q = self.parts(y)
        if p is not None:
            p, r = thin_qr(p)
            core = r @ core
        if q is not None:
            q, r = thin_qr(q)
            core = core @ r.T
        u, s, vt = thin_svd(core)
        return LowRankMatrix._trusted(_turned(p, u), s, _turned(q, vt.T).T)


class _AmbientSystem:
    """y = P, M, Q, one after the other, without identities."""

    jacobian = None

    def __init__(self, loss: Loss, metric: Metric, start: LowRankMatrix, sizes: tuple[int, int]) -> None:
        require_gradient(loss.gradient(start), start.shape)
        self.loss, self.metric = loss, metric
        self._loss_facts, self._coefficients = loss_facts(loss), metric_facts(metric).coefficients
        self._blocks = _Blocks(start.shape, sizes)
        self.point: Callable[[Array], LowRankMatrix] = self._blocks.point
        p = start.u if sizes[0] < start.shape[0] else None
        q = start.vt.T if sizes[1] < start.shape[1] else None
        core = (np.eye(start.rank) if p is not None else start.u) * start.s
        self.y0 = self._blocks.join(p, core if q is not None else core @ start.vt, q)
        self._size = start.norm()

    def velocity(self, t: float, y: Array) -> Array:
        return self.motion(t, y)[0]

    def motion(self, t: float, y: Array) -> tuple[Array, Motion | None]:
        p, core, q = self._blocks.parts(y)
        if not np.isfinite(core).all():  # a trial step that blew up: let the step control reject it
            return np.full_like(y, np.nan), None
        um, s, vmt = thin_svd(core)
        w = LowRankMatrix._trusted(_turned(p, um), s, _turned(q, vmt.T).T)
        z = projected(w, self.loss.gradient(w))
        c = self._coefficients(s)
        velocity = -c.apply(z)
        dp, dm, dq = None, um @ velocity.core @ vmt, None
        speed = 1 / np.maximum(s, TINY)  # up and vp are of order s^2 where a frame turns
        if p is None:
            dm += velocity.up @ vmt
        else:
            dp = (velocity.up * speed) @ um.T
        if q is None:
            dm += um @ velocity.vp.T
        else:
            dq = (velocity.vp * speed) @ vmt
        return self._blocks.join(dp, dm, dq), Motion(t, w, z, velocity, -z.dot(velocity))

    def remembers(self, y: Array) -> bool:
        return False

    def measure(self, y: Array) -> Moment:
        w = self.point(y)
        value, egrad = self._loss_facts.value_and_gradient(w)
        z = projected(w, egrad)
        return Moment(float(value), z.norm(), z.dot(self._coefficients(w.s).apply(z)), w.s)

    def defect(self, y: Array) -> float:
        p, _, q = self._blocks.parts(y)
        return max((float(linalg.norm(f.T @ f - np.eye(f.shape[1]))) for f in (p, q) if f is not None), default=0.0)

    def repair(self, y: Array) -> Array:
        p, core, q = self._blocks.parts(y)
        return self._blocks.join(None if p is None else polar(p), core, None if q is None else polar(q))

    def tolerances(self, y: Array, rtol: float, atol: float) -> tuple[float, Array]:
        # relative to the larger of W and W(0): W may pass zero, where nothing happens
        p, core, q = self._blocks.parts(y)
        scale = max(float(linalg.norm(core)), self._size)
        blocks = [(p, 1.0), (core, scale), (q, 1.0)]
        return weighted([(part.size, unit) for part, unit in blocks if part is not None], rtol, atol)

    def rank_lost(self, before: Array, after: Array) -> bool:
        return False

    def spectral_bound(self, y: Array) -> float | None:
        return None


def _turned(frame: Array | None, turn: Array) -> Array:
    """Return frame @ turn; None stands for the identity."""
    return turn if frame is None else frame @ turn
