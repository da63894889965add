"""What a chart promises, and what the charts share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from .. import validation
from ..flows import Moment, Motion, Point
from ..losses import Loss, LossFacts, facts
from ..matrices import EPS, LowRankMatrix, Product, thin_svd
from ..validation import Array

__all__ = ["Chart", "System", "gradient_bound", "polar", "require_low_rank", "takes_products", "weighted"]


class System(Protocol):
    """A flow in coordinates. All methods are pure."""

    y0: Array  #: the start, flat

    @property
    def jacobian(self) -> Callable[[Array], Array] | None:
        """The Jacobian of the velocity as a function of y, where it is known and small. May be left out."""
        ...

    def velocity(self, t: float, y: Array) -> Array:
        """Return dy/dt as a fresh array; one gradient of the loss."""
        ...

    def motion(self, t: float, y: Array) -> tuple[Array, Motion | None]:
        """Return dy/dt and what it was made of, for the rates of integrals, from the same gradient.

        None where `y` is not finite: then no rate is asked.
        """
        ...

    def point(self, y: Array) -> Point:
        """Return W, as a LowRankMatrix or LinearNetwork."""
        ...

    def measure(self, y: Array) -> Moment:
        """Return the numbers of W, from one value and one gradient of the loss.

        The stationarity is the norm that vanishes at critical points; the power -dL/dt = g(W', W').
        """
        ...

    def remembers(self, y: Array) -> bool:
        """Whether the last velocity was asked for at this very `y`: then `measure` shares its gradient. May be left out."""
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

    def rank_lost(self, before: Array, after: Array) -> bool | str:
        """Return whether a step crossed the boundary of the rank-r manifold; a text says why, in sentences."""
        ...

    def spectral_bound(self, y: Array) -> float | None:
        """Return a bound on the spectral radius of the Jacobian, for stabilised steppers.

        None where the loss has no ``curvature`` or does not know how low it can fall (``best_value`` or
        ``lower_bound``), no bound is known or `y` is not finite. Costs at most one value and one gradient of the loss.
        """
        ...


class Chart(Protocol):
    """Makes a `System` of a flow and a start."""

    def bind(self, flow: Any, start: Any) -> System:
        """Return the system; raise if chart, flow and start do not fit."""
        ...


def require_low_rank(start: Point) -> LowRankMatrix:
    """Return the start of a Riemannian flow."""
    if not isinstance(start, LowRankMatrix):
        raise TypeError(
            f"`start` must be a LowRankMatrix for a Riemannian flow, got {validation.describe(start)}."
            " Use network.to_low_rank() or LowRankMatrix.from_dense(a, rank)."
        )
    return start


def takes_products(loss: Loss, start: LowRankMatrix) -> bool:
    """Return whether a loss takes a `Product` in place of a LowRankMatrix, tried at the start."""
    if facts(loss).fixed_rank:
        return False
    w = Product(*start.split())
    try:
        float(loss.value(w))
        return bool(loss.gradient(w).shape == start.shape)
    except Exception:  # a loss of the user's that reads singular values may raise anything
        return False


def polar(a: Array) -> Array:
    """Return the nearest matrix with orthonormal columns."""
    p, _, qt = thin_svd(a)
    return p @ qt


def weighted(blocks: list[tuple[int, float]], rtol: float, atol: float) -> tuple[float, Array]:
    """Return tolerances under which sum_b ||error_b||^2 / scale_b^2 <= (rtol + atol)^2 for blocks (size, scale).

    The RMS norm of scipy divides by the number of components; an r x r core among m + n rows would be
    diluted, so each component gets the tolerance of its block over the square root of that number. The
    relative part of scipy's test is left at its least value.
    """
    total = sum(size for size, _ in blocks)
    found, begin, root = np.empty(total), 0, math.sqrt(total)
    for size, scale in blocks:
        # a block at rest at zero stays there, and has no scale: any positive number, for a quotient of 0 by it
        found[begin : begin + size] = ((rtol * scale + atol) or 1.0) / root
        begin += size
    return 100 * EPS, found


def gradient_bound(loss: LossFacts, value: float) -> float | None:
    """Return a bound on ||G||_F without G: a step of G / lambda_1 lowers L by ||G||^2 / (2 lambda_1), not below inf L.

    inf L is the best value at full rank, or no less than the `lower_bound` that the loss states. None where it knows
    neither, or no lambda_1, and where L lies below what it states.
    """
    least = loss.lower_bound if loss.best_value is None else loss.best_value(min(loss.loss.shape))
    if loss.curvature is None or least is None or (loss.best_value is None and value < least):
        return None
    excess = max(value - least, 0.0) + 100 * EPS * abs(value)
    return float(np.sqrt(2 * loss.curvature * excess))
