"""All factors as coordinates: gradient descent's own, or balanced ones for the Riemannian flow of a whole depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from .. import validation
from ..flows import Flow, ModifiedFlow, Moment, Motion, Point, RiemannianFlow
from ..geometry import factor_hessian
from ..gradients import projected, pulled_back, squared_norm
from ..losses import Loss, facts
from ..losses.requirements import require_gradient, require_loss
from ..matrices import LinearNetwork, LowRankMatrix, singular_values
from ..matrices.requirements import as_trained, require_depth
from ..metrics import DepthMetric
from ..validation import Array
from .jets import affordable, jacobian
from .system import System, gradient_bound, require_low_rank, weighted

__all__ = ["Factors", "Lifted"]


@dataclass(frozen=True)
class Factors:
    """All the factors at their full widths: the flow W_j' = -grad_{W_j} L, whose product is W."""

    def bind(self, flow: Flow, start: Point) -> System:
        """Return the system of a FactorFlow started at a LinearNetwork.

        Raises
        ------
        TypeError
            If the flow has a metric, or the start is not a LinearNetwork.
        """
        if isinstance(flow, RiemannianFlow):
            raise TypeError(
                "`chart` Factors() takes a FactorFlow, got a RiemannianFlow. Use SingularFrame() or Lifted()."
            )
        if not isinstance(start, LinearNetwork):
            raise TypeError(
                f"`start` must be a LinearNetwork for a factor flow, got {validation.describe(start)}."
                " Use LinearNetwork.balanced(start, depth)."
            )
        if isinstance(flow, ModifiedFlow):
            return _ModifiedSystem(flow.loss, start, flow.step_size, flow.trained)
        return _FactorSystem(flow.loss, start, flow.trained)


@dataclass(frozen=True)
class Lifted:
    """Balanced factors of inner width r for a RiemannianFlow with a whole depth; polynomial velocity.

    It is a factor flow, so `verify_equivalence` never uses it as the Riemannian side.
    """

    def bind(self, flow: Flow, start: Point) -> System:
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
        return _LiftedSystem(flow.loss, metric, LinearNetwork.balanced(require_low_rank(start), depth))


class _Layout:
    """Where each factor stands in y; it knows no loss, so that what is kept of a run does not either."""

    def __init__(self, factors: Iterable[Array]) -> None:
        shapes = [(f.shape[0], f.shape[1]) for f in factors]
        ends = np.cumsum([a * b for a, b in shapes]).tolist()
        self._blocks = [(end - a * b, end, (a, b)) for end, (a, b) in zip(ends, shapes, strict=True)]
        self.rank = min((a for a, _ in shapes[:-1]), default=0)

    def network(self, y: Array) -> LinearNetwork:
        """Return the factors in `y` as views."""
        return LinearNetwork._trusted([y[begin:end].reshape(shape) for begin, end, shape in self._blocks])

    def copy(self, y: Array) -> LinearNetwork:
        """Return the factors in `y`, as arrays of their own."""
        return self.network(y.copy())

    def low_rank(self, y: Array) -> LowRankMatrix:
        """Return the product of balanced factors."""
        return self.network(y).to_low_rank(self.rank)


class _FactorSystem:
    """y = all factors, one after the other."""

    def __init__(self, loss: Loss, start: LinearNetwork, trained: Sequence[Any] | None = None) -> None:
        require_loss(loss)
        validation.require_shape("start", start.shape, loss.shape)
        require_gradient(loss.gradient(start), start.shape)
        self.loss, self._facts = loss, facts(loss)
        self._layout = _Layout(start.factors)
        self.network = self._layout.network
        self.point: Callable[[Array], Point] = self._layout.copy
        self.y0 = np.concatenate([f.ravel() for f in start.factors])
        free = None if trained is None else as_trained(trained, start.factors)
        self._free = (
            None if free is None else _flat(f.astype(np.float64) for f in free)
        )  #: 1 where y moves, 0 where it does not
        self._kept: list[Any] = [slice(None)] * (start.depth - 1) if free is None else _conserved_units(start, free)
        self._imbalances = self._conserved(start)
        self._last: tuple[Array, Array] | None = None  #: where the last gradient was asked for, and minus it
        small = len(start.factors) > 1 and affordable(self._facts, start, self.y0.size)
        self.jacobian: Callable[[Array], Array] | None = self._jacobian if small else None

    def _gradient(self, net: LinearNetwork, egrad: Any) -> Array:
        """Return the gradient in y, of what moves."""
        g = _flat(pulled_back(net, egrad))
        return g if self._free is None else self._free * g

    def velocity(self, t: float, y: Array) -> Array:
        net = self.network(y)
        dy = -self._gradient(net, self.loss.gradient(net))
        self._last = y, dy
        return dy

    def motion(self, t: float, y: Array) -> tuple[Array, Motion]:
        net = self.network(y)
        dy = -self._gradient(net, self.loss.gradient(net))
        gradients, velocity = (list(self.network(v).factors) for v in (-dy, dy))
        return dy, Motion(t, net, gradients, velocity, float(dy @ dy))

    def remembers(self, y: Array) -> bool:
        return self._last is not None and self._last[0] is y

    def measure(self, y: Array) -> Moment:
        net = self.network(y)
        if self._last is not None and self._last[0] is y:
            value, power = self.loss.value(net), squared_norm([self._last[1]])
        else:
            value, egrad = self._facts.value_and_gradient(net)
            power = squared_norm([self._gradient(net, egrad)])
        return Moment(float(value), math.sqrt(power), power, self._singular_values(y))

    def _singular_values(self, y: Array) -> Array:
        return singular_values(self.network(y))

    def _jacobian(self, y: Array) -> Array:
        """Return minus the Hessian of the loss of the factors."""

        def velocity(blocks: Sequence[Any], gradient: Callable[[Any], Any]) -> list[Any]:
            net = LinearNetwork._trusted(blocks)
            return [-1.0 * jet for jet in pulled_back(net, gradient(net))]

        found = jacobian(velocity, self.network(y).factors, self._facts)
        return found if self._free is None else self._free[:, None] * found

    def _moving(self, y: Array) -> LinearNetwork:
        """Return the factors with zeros for what does not move."""
        return self.network(y if self._free is None else self._free * y)

    def _conserved(self, net: LinearNetwork) -> list[Array]:
        """Return the imbalances of the units of each hidden layer that keep theirs."""
        return [d[units][:, units] for d, units in zip(net.imbalances(), self._kept, strict=True)]

    def defect(self, y: Array) -> float:
        scale = max(float(np.vdot(f, f)) for f in self._moving(y).factors)
        drift = (linalg.norm(a - b) for a, b in zip(self._conserved(self.network(y)), self._imbalances, strict=True))
        return float(max(drift, default=0.0)) / scale if scale > 0 else 0.0

    def repair(self, y: Array) -> Array:
        return y  # the drift of the invariants is a result here, not something to hide

    def tolerances(self, y: Array, rtol: float, atol: float) -> tuple[float, Array]:
        scale = max(float(linalg.norm(f)) for f in self._moving(y).factors)
        return weighted([(y.size, scale)], rtol, atol)

    def rank_lost(self, before: Array, after: Array) -> bool:
        return False

    def spectral_bound(self, y: Array) -> float | None:
        # Minus the Jacobian is the Hessian of L(W_N ... W_1). Along directions E_j it is D^2 L(W)[Z, Z], Z the sum over
        # j of W_N .. E_j .. W_1, plus twice the sum over i < j of <G, W_N .. E_j .. E_i .. W_1>. With p_j the product of
        # the spectral norms of the other factors and q the largest product of N - 2 of them, and e_j = ||E_j||_F,
        # |D^2 L| <= lambda_1 (sum p_j e_j)^2 and, as ||E_j B E_i||_* <= e_j ||B||_2 e_i, the rest is at most
        # ||G||_2 q ((sum e_j)^2 - sum e_j^2) <= (N - 1) ||G||_2 q sum e_j^2. Proven for -lambda_1 <= D^2 L <= lambda_1.
        # Cost: one value of the loss and the norms of the factors.
        curvature = self._facts.curvature
        if curvature is None or not np.isfinite(y).all():
            return None
        net = self.network(y)
        norms = np.sort([linalg.norm(f, 2, check_finite=False) for f in net.factors])
        gradient = gradient_bound(self._facts, self.loss.value(net))
        if gradient is None:
            return None
        others = [np.delete(norms, j).prod() for j in range(norms.size)]
        return float(curvature * np.vdot(others, others) + (norms.size - 1) * norms[2:].prod() * gradient)


class _ModifiedSystem(_FactorSystem):
    """y = all factors, along the flow that descent with a step shadows."""

    def __init__(self, loss: Loss, start: LinearNetwork, step: float, trained: Sequence[Any] | None = None) -> None:
        super().__init__(loss, start, trained)
        self._step, self.jacobian = step, None

    def velocity(self, t: float, y: Array) -> Array:
        return self._shadowed(self.network(y), -super().velocity(t, y))

    def motion(self, t: float, y: Array) -> tuple[Array, Motion]:
        dy, at = super().motion(t, y)
        dy = self._shadowed(at.w, -dy)
        return dy, at._replace(velocity=self.network(dy).factors, power=-float(dy @ _flat(at.gradient)))

    def measure(self, y: Array) -> Moment:
        moment = super().measure(y)
        g = -super().velocity(0.0, y)
        return moment._replace(power=-float(self._shadowed(self.network(y), g) @ g))

    def _shadowed(self, net: LinearNetwork, g: Array) -> Array:
        if not np.isfinite(g @ g):  # a trial step that blew up: let the step control reject it
            return np.full_like(g, np.nan)
        turned = factor_hessian(self.loss, net) @ g
        return -(g + self._step / 2 * (turned if self._free is None else self._free * turned))

    def spectral_bound(self, y: Array) -> float | None:
        return None


class _LiftedSystem(_FactorSystem):
    """y = balanced factors of inner width r; W is a LowRankMatrix."""

    def __init__(self, loss: Loss, metric: DepthMetric, start: LinearNetwork) -> None:
        super().__init__(loss, start)
        self._metric, self._rank = metric, self._layout.rank
        self.point = self._layout.low_rank

    def _singular_values(self, y: Array) -> Array:
        return self._layout.low_rank(y).s

    def motion(self, t: float, y: Array) -> tuple[Array, Motion]:
        net = self.network(y)
        egrad, w = self.loss.gradient(net), net.to_low_rank(self._rank)
        gradients, z = pulled_back(net, egrad), projected(w, egrad)
        velocity = -self._metric.coefficients(w.s).apply(z)
        return -_flat(gradients), Motion(t, w, z, velocity, squared_norm(gradients))

    def repair(self, y: Array) -> Array:
        return _flat(self.network(y).rebalanced(self._rank).factors)


def _conserved_units(net: LinearNetwork, trained: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.intp]]:
    """Return of each hidden layer the units whose imbalances the flow conserves.

    W_{j+1}^T grad_{j+1} = grad_j W_j^T, so that D_j changes by products of frozen entries with gradients alone: not for units
    whose row of W_j and column of W_{j+1} have no frozen entry but zeros.
    """
    held = [(f != 0) & ~free for f, free in zip(net.factors, trained, strict=True)]
    return [np.flatnonzero(~(a.any(axis=1) | b.any(axis=0))) for a, b in pairwise(held)]


def _flat(factors: Iterable[Array]) -> Array:
    return np.concatenate([f.ravel() for f in factors])
