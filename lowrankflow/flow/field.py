"""A flow in coordinates as the loop asks it: every gradient is counted."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from ..charts import System
from ..flows import Moment
from ..losses import Loss
from ..validation import Array
from .integrals import Accumulating

__all__ = ["Field"]


class Field:
    """A system that counts its gradients, and asks no loss where y is not finite.

    Attributes
    ----------
    nfev : int
        Gradients so far.
    evaluating : bool
        Whether the loss is being asked: what is raised then is the loss's own.
    last_finite : bool
        Whether the last velocity could be stepped.
    """

    system: System
    nfev: int
    evaluating: bool
    last_finite: bool

    def __init__(self, system: System, loss: Loss) -> None:
        self.system, self._loss = system, loss
        self._remembers: Callable[[Array], bool] = getattr(system, "remembers", lambda y: False)
        self.nfev = 0
        self.evaluating = False
        self.last_finite = True
        self.blamed: str | None = None  #: the integral whose rate was not finite the last time, and it alone
        self._not_finite = [False, False]  #: in the step before, in this one

    def next_step(self) -> None:
        """Note that a step was accepted."""
        self._not_finite = [self._not_finite[1], False]

    @property
    def lately_not_finite(self) -> bool:
        """Whether a velocity of this step or the one before could not be stepped."""
        return any(self._not_finite)

    @property
    def chart_system(self) -> System:
        """The system without integrals."""
        return self.system.inner if isinstance(self.system, Accumulating) else self.system

    def velocity(self, t: float, y: Array) -> Array:
        """Return dy/dt."""
        self.nfev += 1
        if not np.isfinite(y).all():  # a step that blew up: no loss is asked at such a W
            self.last_finite, self._not_finite[1] = False, True
            return np.full_like(y, np.nan)
        self.evaluating = True
        dy = self.system.velocity(t, y)
        self.evaluating = False
        self.last_finite = bool(np.isfinite(dy @ dy))
        if not self.last_finite:
            self._not_finite[1] = True
            self.blamed = self.system.blame(dy) if isinstance(self.system, Accumulating) else None
        return dy

    def measure(self, y: Array) -> Moment:
        """Return the numbers of W; the gradient of a velocity at this very `y`, if that was the last, is not asked for again."""
        self.nfev += not self._remembers(y)
        found: Any = self.system.measure(y)
        if isinstance(found, Moment):
            return found
        warnings.warn(
            "`measure` of a chart's system returns a Moment alone, not (W, Moment).", DeprecationWarning, stacklevel=2
        )
        return cast(Moment, found[1])

    def bound(self, t: float, y: Array) -> float | None:
        """Return the system's bound on the spectral radius."""
        self.nfev += 1
        return self.system.spectral_bound(y)

    @property
    def jacobian(self) -> Callable[[float, Array], Array] | None:
        """The Jacobian (t, y) -> (D, D), where the system has one; counted as one gradient."""
        known = getattr(self.system, "jacobian", None)
        if known is None:
            return None

        def counted(t: float, y: Array) -> Array:
            self.nfev += 1
            self.evaluating = True
            found: Array = known(y)
            self.evaluating = False
            if not np.isfinite(found).all():
                self._not_finite[1] = True
            return found

        return counted

    def finite(self, y: Array) -> bool:
        """Whether W and its loss are finite: a product can overflow where its factors do not."""
        if not np.isfinite(y).all():
            return False
        try:
            w = self.system.point(y)
        except (np.linalg.LinAlgError, ValueError):  # singular values of what is not finite
            return False
        return bool(np.isfinite(self._loss.value(w)))
