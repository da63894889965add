"""Steppers inside scipy: fixed steps, or steps chosen by an error estimate."""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import DenseOutput, OdeSolver

from .. import validation
from ..validation import Array
from .protocol import Stepper, Velocity

__all__ = ["SteppedSolver", "as_ode_solver"]

_SAFETY = 0.9  # of the step that the error estimate would allow
_NEGLIGIBLE = 1e-12  # of the tolerance: smaller errors are roundoff, and their trend says nothing


def as_ode_solver(stepper: Stepper) -> type[OdeSolver]:
    """Return a scipy ``OdeSolver`` class that runs a `stepper`.

    With ``step_size`` the class takes steps of that length; the last one is shortened to end on
    ``t_bound``. Without it, and for steppers that estimate their error, it chooses the steps by ``rtol``
    and ``atol`` as scipy's own solvers do: the root mean square of error / (atol + rtol |y|) stays below 1.

    Raises
    ------
    TypeError
        If `stepper` is not an instance of a Stepper.

    Examples
    --------
    >>> from scipy.integrate import solve_ivp
    >>> from lowrankflow.steppers import RK4, RKC
    >>> end = solve_ivp(lambda t, y: -y, (0, 1), [1.0], method=as_ode_solver(RK4()), step_size=0.1).y[0, -1]
    >>> bool(abs(end - np.exp(-1)) < 1e-6)
    True
    >>> stiff = solve_ivp(lambda t, y: -1e4 * (y - np.cos(t)), (0, 1), [0.0], method=as_ode_solver(RKC()), rtol=1e-4)
    >>> stiff.success, stiff.nfev < 3000
    (True, True)
    """

    if isinstance(stepper, type) or not hasattr(stepper, "interpolant"):
        raise TypeError(f"`stepper` must be a Stepper such as RK4(), got {validation.describe(stepper)}.")
    name = type(stepper).__name__
    made = _SolverType(name, (SteppedSolver,), {"stepper": stepper, "__module__": __name__, "__qualname__": name})
    return cast(type[OdeSolver], made)


class _SolverType(type):
    """The type of solver classes, so that one which was made of a stepper pickles as that."""


def _as_made(cls: type) -> Any:
    stepper = vars(cls).get("stepper")
    return cls.__qualname__ if stepper is None else (as_ode_solver, (stepper,))


copyreg.pickle(_SolverType, _as_made)


class SteppedSolver(OdeSolver, metaclass=_SolverType):
    """A stepper as scipy's OdeSolver, with fixed steps or steps of its own choice.

    The stepper is an option like others, or that of the class (`as_ode_solver`), because scipy hands classes about.
    ``memory`` is all that a run needs to go on, as arrays; a solver made with it goes on to the same bits.
    """

    rtol: float
    atol: Array
    max_step: float
    h_abs: Any
    t: Any
    y: Any

    stepper: Any  #: an ordinary `Stepper`, or one that chooses its steps

    def __init__(
        self,
        fun: Velocity,
        t0: float,
        y0: Array,
        t_bound: float,
        *,
        stepper: Stepper | None = None,
        step_size: float | None = None,
        rtol: float = 1e-3,
        atol: ArrayLike = 1e-6,
        first_step: float | None = None,
        max_step: float = np.inf,
        vectorized: bool = False,
        memory: Mapping[str, Array] | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise TypeError(f"`{next(iter(unknown))}` is no option of {type(self).__name__}, an explicit method.")
        super().__init__(fun, t0, y0, t_bound, vectorized)
        if stepper is not None:
            self.stepper = stepper
        if step_size is None and not hasattr(self.stepper, "error_order"):
            raise ValueError(f"`step_size` must be given for the fixed-step method {type(self.stepper).__name__}.")
        self._fixed = step_size is not None
        self.rtol = validation.require_number("rtol", rtol)
        self.atol = np.asarray(atol, dtype=np.float64)
        if not (self.atol >= 0).all():
            raise ValueError("`atol` must be non-negative, got a negative or non-finite value.")
        if self.atol.shape not in ((), (self.n,)):
            raise ValueError(f"`atol` must be one number or {self.n}, got an array of shape {self.atol.shape}.")
        self.max_step = validation.require_number("max_step", max_step, finite=False)
        if memory is not None:
            self._origin, self._count, self.h_abs, self._h_old, self._error_old = map(float, memory["control"])
            self._state = tuple(memory[f"state_{i}"] for i in range(len(memory) - 1))
            self.h_abs = self.h_abs if first_step is None else first_step
            return
        self._state = self.stepper.init(self.fun, self.t, self.y)
        self._origin, self._count = self.t, 0.0
        self._h_old = self._error_old = 0.0  # 0: no step before this one
        if step_size is not None:
            self.h_abs = validation.require_number("step_size", step_size)
        elif first_step is not None:
            self.h_abs = validation.require_number("first_step", first_step)
        else:
            self.h_abs = self._first_step()

    @property
    def f(self) -> Array:
        """The slope at the present state."""
        slope: Array = self._state[3]
        return slope

    @property
    def state(self) -> Any:
        """What the stepper keeps from step to step."""
        return self._state

    @property
    def memory(self) -> dict[str, Array]:
        control = np.array([self._origin, self._count, self.h_abs, self._h_old, self._error_old])
        return {"control": control} | {f"state_{i}": np.asarray(part) for i, part in enumerate(self._state)}

    def _norm(self, error: Array, y: Array, new: Array) -> float:
        """Root mean square of the error over its tolerance; inf where it is not finite."""
        scaled = error / (self.atol + self.rtol * np.maximum(np.abs(y), np.abs(new)))
        norm = float(np.sqrt(np.mean(scaled * scaled)))
        return norm if np.isfinite(norm) else np.inf

    def _first_step(self) -> float:
        """Return the step for which explicit Euler's error is a hundredth of the tolerance, by one trial."""
        slope, span = self.f, abs(self.t_bound - self.t)
        size, speed = self._norm(self.y, self.y, self.y), self._norm(slope, self.y, self.y)
        h = min(0.01 * size / speed if min(size, speed) > 1e-5 and speed < np.inf else 1e-6, span)
        if not h:  # an empty span
            return span
        change = self.fun(self.t + self.direction * h, self.y + self.direction * h * slope) - slope
        rate = max(self._norm(change, self.y, self.y) / h, speed)
        best = (0.01 / rate) ** (1 / self.stepper.error_order) if 0 < rate < np.inf else h
        return min(100 * h, best, span)

    def _step_impl(self) -> tuple[bool, str | None]:
        return self._fixed_step() if self._fixed else self._chosen_step()

    def _accept(self, t: Any, y: Array, state: Any) -> None:
        self.t, self.y, self._state = t, y, state

    def _fixed_step(self) -> tuple[bool, str | None]:
        # times are origin + k h, so that rounding does not add up over many steps; a remainder
        # below h / 1000 is taken with the last step
        target: Any = self._origin + self.direction * (self._count + 1) * self.h_abs
        if self.direction * (self.t_bound - target) < 1e-3 * self.h_abs:
            target = self.t_bound
        y, _, state = self.stepper.step(self.fun, self.t, self.y, target - self.t, self._state)
        self._accept(target, y, state)
        self._count += 1
        if not np.isfinite(y).all():
            return False, "The solution is not finite."
        return True, None

    def _chosen_step(self) -> tuple[bool, str | None]:
        t, y, state = self.t, self.y, self._state
        least = 10 * abs(np.nextafter(t, self.direction * np.inf) - t)
        h_abs, q, rejected = max(self.h_abs, least), self.stepper.error_order, False
        while (h_abs := min(h_abs, self.max_step, self.stepper.longest(state))) >= least:
            target: Any = t + self.direction * h_abs
            if self.direction * (target - self.t_bound) > 0:
                target = self.t_bound
            h = target - t
            new, estimate, trial = self.stepper.step(self.fun, t, y, h, state)
            error = self._norm(estimate, y, new)
            if error < 1:
                break
            h_abs = abs(h) * max(0.1, _SAFETY * error ** (-1 / q))
            state, rejected = self.stepper.retry(state), True
        else:
            return False, self.TOO_SMALL_STEP
        self._accept(target, new, trial)
        error = max(error, _NEGLIGIBLE)
        self.h_abs = abs(h) * self._growth(error, abs(h), rejected)
        self._h_old, self._error_old = abs(h), error
        return True, None

    def _growth(self, error: float, h: float, rejected: bool) -> float:
        """Return the next step over the last, from the error and, after an accepted step, its trend."""
        q = self.stepper.error_order
        growth = _SAFETY * error ** (-1 / q)
        if self._error_old > 0 and self._h_old > 0 and not rejected:
            trend = (self._error_old / error) ** (1 / q) * h / self._h_old
            growth = min(growth, growth * trend)
        return float(np.clip(growth, 0.1, 1.0 if rejected else 10.0))

    def _dense_output_impl(self) -> DenseOutput:
        return _Interpolant(self.t_old, self.t, self.stepper.interpolant(self._state))


class _Interpolant(DenseOutput):
    def __init__(self, t_old: float, t: float, function: Callable[[float], Array]) -> None:
        super().__init__(t_old, t)
        self._function = function

    def _call_impl(self, t: Any) -> Array:
        theta = (np.asarray(t) - self.t_old) / (self.t - self.t_old)
        if theta.ndim == 0:
            return self._function(float(theta))
        return np.stack([self._function(float(x)) for x in theta], axis=-1)
