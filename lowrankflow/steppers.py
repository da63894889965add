"""One-step methods. A stepper knows nothing of matrices, and keeps nothing between calls.

All that changes lives in the state, a tuple of arrays, so it can be saved and a run resumed.
`as_ode_solver` makes a class that ``scipy.integrate.solve_ivp(method=...)`` takes too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from scipy.integrate import DenseOutput, OdeSolver

from . import validation
from .validation import Array

__all__ = ["RK4", "Euler", "Stepper", "as_ode_solver"]

Velocity = Callable[[Any, Array], Array]
State = tuple[Array, ...]


class Stepper(Protocol):
    """A one-step method on y (..., n) with step h (...); leading axes are a batch.

    To add one: give `order`, and make `step` return the new y, an error estimate of the size of y (or
    None for a fixed step) and the new state, from which `interpolant` makes a function of theta in [0, 1].
    """

    order: int

    def init(self, f: Velocity, t: Any, y: Array) -> State:
        """Return the state at the start."""
        ...

    def step(self, f: Velocity, t: Any, y: Array, h: Any, state: State) -> tuple[Array, Array | None, State]:
        """Return y(t + h), its error estimate or None, and the next state."""
        ...

    def interpolant(self, state: State) -> Callable[[float], Array]:
        """Return the last step as a function of theta in [0, 1]."""
        ...


def _times(h: Any, v: Array) -> Array:
    """Return h v for h of shape (...) and v of shape (..., n)."""
    return np.asarray(h)[..., None] * v


class _Fixed:
    """What the two fixed-step methods share: the slope at the end is the next step's first slope.

    State: y, f at the start of the last step; y, f at its end; h.
    """

    order: int

    def init(self, f: Velocity, t: Any, y: Array) -> State:
        slope = f(t, y)
        return y, slope, y, slope, np.asarray(0.0)

    def _increment(self, f: Velocity, t: Any, y: Array, h: Any, slope: Array) -> Array:
        raise NotImplementedError

    def step(self, f: Velocity, t: Any, y: Array, h: Any, state: State) -> tuple[Array, Array | None, State]:
        slope = state[3]
        new = y + self._increment(f, t, y, h, slope)
        return new, None, (y, slope, new, f(t + h, new), np.asarray(h, dtype=np.float64))

    def interpolant(self, state: State) -> Callable[[float], Array]:
        a, fa, b, fb, h = state

        def hermite(theta: float) -> Array:
            """Cubic through both values and slopes: order 4 in value, enough for RK4's own order."""
            slopes = theta * (1 - theta) * ((1 - theta) * _times(h, fa) - theta * _times(h, fb))
            return (1 - theta) ** 2 * (1 + 2 * theta) * a + theta**2 * (3 - 2 * theta) * b + slopes

        return hermite


class Euler(_Fixed):
    """Explicit Euler: y + h f(t, y). Gradient descent is Euler on the factor flow."""

    order = 1

    def _increment(self, f: Velocity, t: Any, y: Array, h: Any, slope: Array) -> Array:
        return _times(h, slope)


class RK4(_Fixed):
    """The classical Runge-Kutta method of order 4."""

    order = 4

    def _increment(self, f: Velocity, t: Any, y: Array, h: Any, slope: Array) -> Array:
        k2 = f(t + h / 2, y + _times(h, slope) / 2)
        k3 = f(t + h / 2, y + _times(h, k2) / 2)
        k4 = f(t + h, y + _times(h, k3))
        return _times(h, slope + 2 * k2 + 2 * k3 + k4) / 6


def as_ode_solver(stepper: Stepper) -> type[OdeSolver]:
    """Return a scipy ``OdeSolver`` class that runs a fixed-step `stepper`.

    The class takes ``step_size``, the step h; the last step is shortened to end on ``t_bound``.

    Examples
    --------
    >>> from scipy.integrate import solve_ivp
    >>> end = solve_ivp(lambda t, y: -y, (0, 1), [1.0], method=as_ode_solver(RK4()), step_size=0.1).y[0, -1]
    >>> bool(abs(end - np.exp(-1)) < 1e-6)
    True
    """

    if isinstance(stepper, type) or not hasattr(stepper, "interpolant"):
        raise TypeError(f"`stepper` must be a Stepper such as RK4(), got {validation.describe(stepper)}.")

    class SteppedSolver(OdeSolver):
        def __init__(
            self,
            fun: Velocity,
            t0: float,
            y0: Array,
            t_bound: float,
            *,
            step_size: float,
            vectorized: bool = False,
            rtol: object = None,
            atol: object = None,
            first_step: object = None,
        ) -> None:
            super().__init__(fun, t0, y0, t_bound, vectorized)
            self._h = validation.check_number("step_size", step_size)
            self._origin, self._index = t0, 0
            self._state = stepper.init(self.fun, self.t, self.y)

        @property
        def f(self) -> Array:
            return self._state[3]

        def _step_impl(self) -> tuple[bool, str | None]:
            # times are origin + k h, so that rounding does not add up over many steps; a remainder
            # below h / 1000 is taken with the last step
            target: Any = self._origin + self.direction * (self._index + 1) * self._h
            if self.direction * (self.t_bound - target) < 1e-3 * self._h:
                target = self.t_bound
            self.y, _, self._state = stepper.step(self.fun, self.t, self.y, target - self.t, self._state)
            self.t, self._index = target, self._index + 1
            if not np.isfinite(self.y).all():
                return False, "The solution is not finite."
            return True, None

        def _dense_output_impl(self) -> DenseOutput:
            return _Interpolant(self.t_old, self.t, stepper.interpolant(self._state))

    SteppedSolver.__name__ = SteppedSolver.__qualname__ = type(stepper).__name__
    return SteppedSolver


class _Interpolant(DenseOutput):
    def __init__(self, t_old: float, t: float, function: Callable[[float], Array]) -> None:
        super().__init__(t_old, t)
        self._function = function

    def _call_impl(self, t: Any) -> Array:
        theta = (np.asarray(t) - self.t_old) / (self.t - self.t_old)
        if theta.ndim == 0:
            return self._function(float(theta))
        return np.stack([self._function(float(x)) for x in theta], axis=-1)
