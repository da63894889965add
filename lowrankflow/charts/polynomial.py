"""The polynomial chart: U, T, V for whole depth, whose velocity is made of matrix products alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import validation
from ..flows import Flow, Moment, Motion, Point, RiemannianFlow
from ..gradients import projected, squared_norm
from ..losses import Loss
from ..matrices import LowRankMatrix, Product, thin_svd
from ..matrices.requirements import require_depth
from ..metrics import DepthMetric, Metric
from ..operators import MatrixLike, both_sides
from ..validation import Array
from .frame import Frame, FrameSystem
from .jets import affordable, jacobian
from .system import System, require_low_rank, takes_products

__all__ = ["Polynomial", "is_faster"]

_DEEPEST = 9  # depth up to which a velocity is no dearer than that of the singular frame, at the sizes measured


@dataclass(frozen=True)
class Polynomial:
    r"""U, T, V without a decomposition, for the flow under DepthMetric(2, 3, ...).

    With :math:`M = U^T G V` and, for N = 2p + 1, :math:`W = U T (T^T T)^p V^T`,

    .. math::
       \dot T &= -\sum_{a+b=p} (TT^T)^a M (T^TT)^b + \sum_{a+b=p-1} (TT^T)^a T M^T T (T^TT)^b, \\
       \dot U &= -(I - UU^T)\, G V\, T^T (TT^T)^{p-1}, \qquad \dot V = -(I - VV^T)\, G^T U\, T (T^TT)^{p-1};

    for N = 2p, with :math:`C = TT^T`, :math:`W = U C^p V^T`, and :math:`R = \sum_{a+b=p-1} C^a\, \mathrm{skew}(M)\, C^b`,

    .. math::
       \dot T = -\mathrm{sym}(M)\, C^{p-1} T, \quad \dot U = -(I - UU^T)\, G V C^{p-1} - U R, \quad
       \dot V = -(I - VV^T)\, G^T U C^{p-1} + V R .

    The flow of `SingularFrame` (derived): for odd depth in the same coordinates, for even depth in frames that turn with R. No
    coefficient of the metric is asked for, and no singular value is decomposed: the faster chart up to depth 9 or so.
    """

    def bind(self, flow: Flow, start: Point) -> System:
        """Return the system of a RiemannianFlow under DepthMetric(2, 3, ...), started at a LowRankMatrix.

        Raises
        ------
        TypeError, ValueError
            If the metric is not a DepthMetric, its depth is not whole, or the start is not a LowRankMatrix.
        """
        metric = getattr(flow, "metric", None)
        if not isinstance(flow, RiemannianFlow) or not isinstance(metric, DepthMetric):
            raise TypeError(
                f"`chart` Polynomial() takes a RiemannianFlow under DepthMetric, got {validation.describe(metric)}."
            )
        depth = int(require_depth(metric.depth, integer=True))
        return _PolynomialSystem(flow.loss, metric, require_low_rank(start), depth)


def is_faster(loss: Loss, metric: Metric, start: LowRankMatrix) -> bool:
    """Whether the polynomial chart is the faster one, and the loss takes a `Product` in place of a LowRankMatrix."""
    shallow = isinstance(metric, DepthMetric) and metric.depth in range(2, _DEEPEST + 1)
    return shallow and takes_products(loss, start)


class _EvenFrame(Frame):
    """Where U, T, V stand in y, of even depth: W = U (TT^T)^p V^T."""

    def axes(self, core: Array) -> tuple[Array, Array, Array]:
        p, l, _ = thin_svd(core)  # noqa: E741
        return p, l, p


class _PolynomialSystem(FrameSystem):
    """y = U, T, V, one after the other."""

    def __init__(self, loss: Loss, metric: DepthMetric, start: LowRankMatrix, depth: int) -> None:
        super().__init__(loss, metric, start, depth)
        self._depth, (self._half, self._odd) = depth, divmod(depth, 2)
        if not self._odd:
            self._frame = _EvenFrame(start.shape, start.rank, depth, False)
            self.point = self._frame.point
        self.jacobian = self._jacobian if affordable(self._loss_facts, start, self.y0.size) else None

    def velocity(self, t: float, y: Array) -> Array:
        return self._moved(y, self.loss.gradient)

    def _moved(self, y: Array, gradient: Callable[[Product], MatrixLike]) -> Array:
        """Return dy/dt for a gradient, and remember what it is made of."""
        parts = self._parts(y)
        if not np.isfinite(parts[1]).all():  # a trial step that blew up: let the step control reject it
            self._last = None
            return np.full_like(y, np.nan)
        moved, known = self._rates(parts, gradient)
        self._last = y, known
        return np.concatenate(moved, axis=None)

    def _rates(self, parts: Any, gradient: Callable[[Product], Any]) -> tuple[Any, Any]:
        """Return (dU/dt, dT/dt, dV/dt) and what they are made of; of jets with their derivatives."""
        u, t, v = parts
        p, left = self._half, t @ t.T  # C = TT^T
        right = t.T @ t if self._odd else left
        # T (T^T T)^(p-1) and T (T^T T)^p; C^(p-1) and C^p
        lower = _times_power(t if self._odd else None, right, p - 1)
        inner = right if lower is None else lower @ right
        w = Product._trusted(u @ inner, v.T)
        g = gradient(w)
        gv, gu = both_sides(g, v, u)
        m = u.T @ gv
        up, vp = u @ m - gv, v @ m.T - gu  # minus the projections
        known = w, m, up, vp, left, right, lower, inner
        if self._odd:
            dt = _between(left, t @ m.T @ t, right, p - 1) - _between(left, m, right, p)
            return (up @ lower.T, dt, vp @ lower), known
        skew = 0.5 * (m - m.T)
        turn, symmetric = _between(left, skew, left, p - 1), skew - m
        if lower is None:
            return (up - u @ turn, symmetric @ t, vp + v @ turn), known
        return (up @ lower - u @ turn, symmetric @ (lower @ t), vp @ lower + v @ turn), known

    def _jacobian(self, y: Array) -> Array:
        return jacobian(lambda blocks, gradient: self._rates(blocks, gradient)[0], self._parts(y), self._loss_facts)

    def measure(self, y: Array) -> Moment:
        values: list[float] = []

        def gradient(w: Product) -> MatrixLike:
            value, g = self._loss_facts.value_and_gradient(w)
            values.append(value)
            return g

        if not self.remembers(y):
            self._moved(y, gradient)
        assert self._last is not None
        w, m, up, vp, left, right, lower, inner = self._last[1]
        # <P_T G, A(P_T G)>: A sums left^a M right^b over a + b = N - 1, and weighs new columns and rows with l^(2N-2)
        power = np.vdot(m, _between(left, m, right, self._depth - 1))
        if self._odd:
            half = _times_power(None, left, self._half), _times_power(None, right, self._half)
            power += squared_norm([vp @ half[0], up @ half[1]])
        else:
            power += sum(np.vdot(x @ inner, x if lower is None else x @ lower) for x in (up, vp))
        size = math.sqrt(squared_norm([m, up, vp]))
        value = float(values[0] if values else self.loss.value(w))
        return Moment(value, size, float(power), self._frame.singular_values(y))

    def motion(self, t: float, y: Array) -> tuple[Array, Motion | None]:
        if self._odd:  # the same coordinates
            return super().motion(t, y)
        if not np.isfinite(self._parts(y)[1]).all():
            return np.full_like(y, np.nan), None
        w = self.point(y)
        g = self.loss.gradient(w)
        z = projected(w, g)
        velocity = -self.metric.coefficients(w.s).apply(z)
        return self._moved(y, lambda _: g), Motion(t, w, z, velocity, -z.dot(velocity))


def _times_power(first: Any, a: Any, p: int) -> Any:
    """Return first A^p, or A^p where there is no first; None for the identity."""
    found = first
    for _ in range(p):
        found = a if found is None else found @ a
    return found


def _between(left: Any, m: Any, right: Any, p: int) -> Any:
    """Return the sum over a + b = p of left^a M right^b, by Horner's rule."""
    total, last = m, m
    for _ in range(p):
        last = last @ right
        total = left @ total + last
    return total
