"""Integrals along a flow, each as a state of its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .. import validation
from ..charts import System
from ..flows import Moment, Motion, Point, Rate
from ..validation import Array

__all__ = ["Accumulating"]

#: of ||y_0||: what a move by the size of the start adds to a controlled integral, in the units that y holds it in. So small
#: that the power iteration, which measures how stiff the flow is, does not see the integrals
_SHARE = 1e-3
_UNSEEN = 1e-100  # the unit of integrals that no norm of y and no error test is to see; a float loses no digit by it
_FREE = 1e100  # a tolerance that no error meets, and whose inverse is not zero for the solvers that ask for one


class Accumulating:
    r"""A system with the integrals of rates as further states: y = (coordinates, integrals).

    Free integrals are passengers: neither the choice of steps nor a norm of y notices them. With `controlled`, each is held
    in units in which a move by the size of the start adds ``_SHARE`` of ||y_0|| to it,
    :math:`q_i' = c\,\mathrm{rate}_i` with :math:`c = 10^{-3} \|y_0'\| / |\mathrm{rate}_i(0)|`, and rtol of such a move is
    its tolerance; where nothing moves, or a rate begins at zero, there is no such scale, and the integral is free.
    """

    inner: System
    first: Array
    y0: Array

    jacobian = None  # rates are not differentiated

    def __init__(self, inner: System, t: float, rates: Mapping[str, Rate], *, controlled: bool) -> None:
        self.inner, self._rates, self._controlled, self._count = inner, dict(rates), controlled, len(rates)
        dy, motion = inner.motion(t, inner.y0)
        self.first = self._ask(motion)  #: the rates at the start
        speed = float(np.linalg.norm(dy))
        self._scaled = controlled & np.isfinite(self.first) & (self.first != 0) & (0 < speed < np.inf)
        self._units = np.full(self._count, _UNSEEN)
        self._units[self._scaled] = _SHARE * speed / np.abs(self.first[self._scaled])
        self.y0 = np.append(inner.y0, np.zeros(self._count))

    def coordinates(self, y: Array) -> Array:
        """Return the chart's part of y."""
        return y[: -self._count]

    def integrals(self, y: Array) -> list[float]:
        """Return the integrals, in their own units."""
        found: list[float] = (y[-self._count :] / self._units).tolist()
        return found

    def blame(self, dy: Array) -> str | None:
        """Return the name of an integral whose rate alone is not finite in a velocity."""
        if not np.isfinite(self.coordinates(dy)).all():
            return None
        names = zip(self._rates, np.isfinite(dy[-self._count :]), strict=True)
        return next((name for name, finite in names if not finite), None)

    def _ask(self, motion: Motion | None) -> Array:
        """Return the rates; nan where y is not finite."""
        if motion is None:
            return np.full(self._count, np.nan)
        return np.array([_number(name, rate(motion)) for name, rate in self._rates.items()])

    def velocity(self, t: float, y: Array) -> Array:
        return self.motion(t, y)[0]

    def motion(self, t: float, y: Array) -> tuple[Array, Motion | None]:
        dy, motion = self.inner.motion(t, self.coordinates(y))
        return np.append(dy, self._units * self._ask(motion)), motion

    def point(self, y: Array) -> Point:
        return self.inner.point(self.coordinates(y))

    def remembers(self, y: Array) -> bool:
        return False

    def measure(self, y: Array) -> Moment:
        return self.inner.measure(self.coordinates(y))

    def defect(self, y: Array) -> float:
        return self.inner.defect(self.coordinates(y))

    def repair(self, y: Array) -> Array:
        return np.append(self.inner.repair(self.coordinates(y)), y[-self._count :])

    def tolerances(self, y: Array, rtol: float, atol: float) -> tuple[float, Array]:
        relative, absolute = self.inner.tolerances(self.coordinates(y), rtol, atol)
        own = np.full(self._count, _FREE)
        if not self._scaled.any():
            # the RMS norm of a solver averages over all components: as if the free ones were not there
            return relative, np.append(absolute * np.sqrt(absolute.size / y.size), own)
        move = _SHARE * float(np.linalg.norm(self.inner.y0))
        # each a component of its own, not diluted by the others
        controlled = (rtol * move + self._units * atol) / np.sqrt(y.size - self._count + 1)
        return relative, np.append(absolute, np.where(self._scaled, controlled, own))

    def rank_lost(self, before: Array, after: Array) -> bool | str:
        return self.inner.rank_lost(self.coordinates(before), self.coordinates(after))

    def spectral_bound(self, y: Array) -> float | None:
        return self.inner.spectral_bound(self.coordinates(y))


def _number(name: str, value: object) -> float:
    """Return what a rate is, one real number."""
    try:
        array = validation.as_real(f"integrals[{name!r}]", value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        array = np.empty(2)
    if array.shape != ():
        raise TypeError(f"`integrals[{name!r}]` must return a number, got {validation.describe(value)}.")
    return float(array)
