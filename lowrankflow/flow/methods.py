"""From the name of a method to a scipy OdeSolver, and the choice between methods while a run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import integrate as scipy_integrate
from scipy.integrate import OdeSolver

from .. import steppers, validation
from ..steppers.power_iteration import first_direction, spectral_radius
from ..validation import Array

__all__ = ["Automatic", "Method", "check_method"]

_SCIPY = ("RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA")
_OURS = {"Euler": steppers.Euler, "RK4": steppers.RK4, "RKC": steppers.RKC, "ROCK4": steppers.ROCK4}


class Method:
    """A solver class with all that is needed to start it and to go on with it."""

    def __init__(self, solver_class: Any, step_size: float | None) -> None:
        self.solver_class, self.step_size = solver_class, step_size
        self.name = solver_class.__name__

    @property
    def fixed(self) -> bool:
        """Whether the step is given."""
        return self.step_size is not None

    def bounded_by(self, bound: Any) -> Method:
        """Return the method with an upper bound on the spectral radius for it, if it has a use for one."""
        stepper: Any = getattr(self.solver_class, "stepper", None)
        if not hasattr(stepper, "bounded_by"):
            return self
        return Method(steppers.as_ode_solver(stepper.bounded_by(bound)), self.step_size)

    def start(
        self,
        velocity: Any,
        t: float,
        y: Array,
        bound: float,
        tolerances: tuple[float, Array],
        first_step: float | None,
        memory: Mapping[str, Array] | None = None,
    ) -> Any:
        """Return a solver at (t, y) that ends at `bound`; with the `memory` of ours it goes on to the same bits."""
        options: dict[str, Any] = {"rtol": tolerances[0], "atol": tolerances[1]}
        if self.fixed:
            options = {"step_size": self.step_size}
        elif first_step is not None:
            options["first_step"] = first_step if memory else min(first_step, bound - t)
        if memory:
            options["memory"] = memory
        return self.solver_class(velocity, t, y, bound, **options)


def check_method(method: str | type[OdeSolver] | steppers.Stepper, step_size: float | None) -> Method:
    """Return the method of a name, a class or a stepper; refuse a step where it chooses its own, or none where not."""
    solver_class, adaptive = _solver_class(method)
    name = solver_class.__name__
    ours = hasattr(solver_class, "stepper")
    if step_size is None and not adaptive:
        raise ValueError(f"`step_size` must be given for the fixed-step method {name}.")
    if step_size is not None and not ours:
        raise ValueError(f"`step_size` is for methods with a fixed step; {name} chooses its steps by `rtol`.")
    return Method(solver_class, None if step_size is None else validation.require_number("step_size", step_size))


def _solver_class(method: str | type[OdeSolver] | steppers.Stepper) -> tuple[Any, bool]:
    """Return the OdeSolver class of a method and whether it can choose its steps."""
    if isinstance(method, type) and issubclass(method, OdeSolver) and method is not OdeSolver:
        stepper = getattr(method, "stepper", None)
        return method, stepper is None or hasattr(stepper, "error_order")
    if isinstance(method, type) and hasattr(method, "interpolant"):
        raise TypeError(
            f"`method` must be an instance of a Stepper, got the class {method.__name__}. Pass {method.__name__}()."
        )
    if isinstance(method, str) and method in _OURS:
        method = _OURS[method]()
    if not isinstance(method, (str, type)) and hasattr(method, "interpolant"):
        return steppers.as_ode_solver(method), hasattr(method, "error_order")
    name = validation.require_choice("method", method, ("auto", *_SCIPY, *_OURS))
    return getattr(scipy_integrate, name), True


_EXPLICIT = "DOP853"
_REAL_LIMIT = 6.4  # DOP853 damps y' = -z y for steps of 1 up to this z
_STIFF, _EASY = 4.0, 2.0  # h rho above which the explicit method is held back by stability; below which it is not
_EVERY = 10  # steps between two looks at the spectral radius
_FAR, _LOOSE = 500.0, 1e-7  # h rho above which the finish of ROCK4 costs more than it gains, at rtol not below this
_FINE = 3e-6  # rtol below which the stabilised method is the one of order 4: at equal error it needs fewer evaluations


class Automatic:
    """Begins with an explicit method and changes when the product h rho shows that another costs less.

    rho is the spectral radius of the Jacobian: an explicit method cannot take h rho beyond a constant, a
    stabilised one pays the root of it. ROCK4 goes over to RKC where h rho is so large that its finish costs more than
    its order gains. All that it knows is in `head` and `arrays`, so that a run can go on.
    """

    def __init__(self, rtol: float) -> None:
        self._rtol, self._verdict = rtol, ""
        self._stabilised = "ROCK4" if rtol < _FINE else "RKC"
        order = f"order {_OURS[self._stabilised]().order} for rtol={rtol:g}"
        self._reason = f"{self._stabilised} ({order})"
        self.current = _EXPLICIT
        self.log = [f"{_EXPLICIT} from the start"]
        self._steps = self._votes = self._returns = 0
        self._radius, self._direction = np.asarray(0.0), np.empty(0)

    @property
    def method(self) -> Method:
        """The method to use now."""
        return check_method(self.current, None)

    @property
    def head(self) -> dict[str, Any]:
        """What it knows, but arrays."""
        return {
            "current": self.current,
            "log": self.log,
            "steps": self._steps,
            "votes": self._votes,
            "for": self._verdict,
            "returns": self._returns,
        }

    @property
    def arrays(self) -> dict[str, Array]:
        """What it knows of the spectrum."""
        return {"radius": self._radius, "direction": self._direction}

    def restore(self, head: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Go on from what `head` and `arrays` were."""
        self.current, self.log = head["current"], list(head["log"])
        self._steps, self._votes = head["steps"], head["votes"]
        self._verdict, self._returns = head["for"], head["returns"]
        self._radius, self._direction = arrays["radius"], arrays["direction"]

    def look(self, solver: Any) -> bool:
        """Judge the last step; return whether the method changes."""
        h = abs(solver.t - solver.t_old)
        self._steps += 1
        if self.current == _EXPLICIT:
            if self._steps % _EVERY:
                return False
            z = h * self._measure(solver)
            self._votes = self._votes + 1 if z > _STIFF else 0
            if self._votes < 2 * 2 ** min(self._returns, 3):  # less to and fro where both do as well
                return False
            why = f"stiff, h rho = {z:.3g} where {_EXPLICIT} is stable up to {_REAL_LIMIT:g}"
            self._change(self._reason, self._stabilised, solver.t, why)
            return True
        z = h * solver.stepper.known_radius(solver.state)
        far = self.current == "ROCK4" and self._rtol >= _LOOSE and z > _FAR
        verdict = _EXPLICIT if z < _EASY else "RKC" if far else ""
        self._votes = self._votes + 1 if verdict and verdict == self._verdict else int(bool(verdict))
        self._verdict = verdict
        if self._votes < 2 * _EVERY:
            return False
        if far:
            self._change("RKC (order 2)", "RKC", solver.t, f"h rho = {z:.3g}, too stiff for the finish of ROCK4")
        else:
            self._returns += 1
            self._change(_EXPLICIT, _EXPLICIT, solver.t, f"no longer stiff, h rho = {z:.3g}")
        return True

    def _measure(self, solver: Any) -> float:
        slope = solver.f
        direction = self._direction if self._direction.size else first_direction(slope)
        self._radius, self._direction, _ = spectral_radius(
            solver.fun, solver.t, solver.y, slope, direction, self._radius, tries=20
        )
        radius = float(self._radius)
        return radius if np.isfinite(radius) else 0.0

    def _change(self, label: str, name: str, t: float, why: str) -> None:
        self.current, self._votes, self._steps = name, 0, 0
        self.log.append(f"{label} from t={t:.6g}: {why}")
