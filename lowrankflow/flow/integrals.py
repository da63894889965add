"""Integrals along a flow, each as a state of its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .. import validation
from ..charts import System
from ..flows import Moment, Motion, Point, Rate
from ..validation import Array

__all__ = ["Accumulating"]

#: of ||y_0||: what a move by the size of the start adds to an integral, in the units that y holds it in. So small that
#: the power iteration, which measures how stiff the flow is, does not see the integrals
_SHARE = 1e-3


class Accumulating:
    r"""A system with the integrals of rates as further states: y = (coordinates, integrals).

    Each integral is held in units in which a move by the size of the start adds ``_SHARE`` of ||y_0|| to it,
    :math:`q_i' = c\,\mathrm{rate}_i` with :math:`c = 10^{-3} \|y_0'\| / |\mathrm{rate}_i(0)|`, and 1 where nothing moves or
    the rate begins at zero. With `controlled`, rtol of such a move is the tolerance of each.
    """

    def __init__(self, inner: System, t: float, rates: Mapping[str, Rate], *, controlled: bool) -> None:
        self.inner, self._rates, self._controlled, self._count = inner, dict(rates), controlled, len(rates)
        self._units = np.ones(self._count)
        dy, motion = inner.motion(t, inner.y0)
        first, speed = self._ask(motion), float(np.linalg.norm(dy))
        known = np.isfinite(first) & (first != 0) & (0 < speed < np.inf)
        self._units = np.where(known, _SHARE * speed / np.where(known, np.abs(first), 1.0), 1.0)
        self.y0 = np.append(inner.y0, np.zeros(self._count))

    def coordinates(self, y: Array) -> Array:
        """Return the chart's part of y."""
        return y[: -self._count]

    def integrals(self, y: Array) -> list[float]:
        """Return the integrals, in their own units."""
        found: list[float] = (y[-self._count :] / self._units).tolist()
        return found

    def _ask(self, motion: Motion | None) -> Array:
        """Return the rates; nan where y is not finite."""
        if motion is None:
            return np.full(self._count, np.nan)
        return np.array([_number(name, rate(motion)) for name, rate in self._rates.items()])

    def velocity(self, t: float, y: Array) -> Array:
        dy, motion = self.inner.motion(t, self.coordinates(y))
        return np.append(dy, self._units * self._ask(motion))

    def motion(self, t: float, y: Array) -> tuple[Array, Motion | None]:
        dy, motion = self.inner.motion(t, self.coordinates(y))
        return np.append(dy, self._units * self._ask(motion)), motion

    def point(self, y: Array) -> Point:
        return self.inner.point(self.coordinates(y))

    def measure(self, y: Array) -> tuple[Point, Moment]:
        return self.inner.measure(self.coordinates(y))

    def defect(self, y: Array) -> float:
        return self.inner.defect(self.coordinates(y))

    def repair(self, y: Array) -> Array:
        return np.append(self.inner.repair(self.coordinates(y)), y[-self._count :])

    def tolerances(self, y: Array, rtol: float, atol: float) -> tuple[float, Array]:
        relative, absolute = self.inner.tolerances(self.coordinates(y), rtol, atol)
        if not self._controlled:
            return relative, np.append(absolute, np.full(self._count, _FREE))
        move = _SHARE * float(np.linalg.norm(self.inner.y0))
        # each a component of its own, not diluted by the others
        return relative, np.append(absolute, (rtol * move + self._units * atol) / np.sqrt(y.size - self._count + 1))

    def rank_lost(self, before: Array, after: Array) -> bool:
        return self.inner.rank_lost(self.coordinates(before), self.coordinates(after))

    def spectral_bound(self, y: Array) -> float | None:
        return self.inner.spectral_bound(self.coordinates(y))


_FREE = 1e100  # a tolerance that no error meets, and whose inverse is not zero for the solvers that ask for one


def _number(name: str, value: object) -> float:
    """Return what a rate is, one real number."""
    array = np.asarray(value)
    if array.shape != () or array.dtype.kind not in "fiub":
        raise TypeError(f"`integrals[{name!r}]` must return a number, got {validation.describe(value)}.")
    return float(array)
