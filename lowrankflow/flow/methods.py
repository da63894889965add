"""From the name of a method to a scipy OdeSolver, and the choice between methods while a run goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
from scipy import integrate as scipy_integrate
from scipy.integrate import OdeSolver

from .. import steppers, validation
from ..steppers.ode_solver import SteppedSolver
from ..steppers.power_iteration import first_direction, spectral_radius
from ..steppers.protocol import Stepper, Velocity
from ..validation import Array

__all__ = ["Automatic", "Choice", "Given", "Method", "Methods", "Name", "require_method", "spelled"]

#: methods by name; "auto" changes between them
Name = Literal["auto", "RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA", "RKC", "ROCK4", "Euler", "RK4"]

_SCIPY = ("RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA")
_IMPLICIT = (scipy_integrate.Radau, scipy_integrate.BDF, scipy_integrate.LSODA)
_OURS = {"Euler": steppers.Euler, "RK4": steppers.RK4, "RKC": steppers.RKC, "ROCK4": steppers.ROCK4}


_SPELLED = {name.lower(): name for name in ("auto", *_SCIPY, *_OURS)}


@dataclass(frozen=True)
class Method:
    """A solver class, or one of our steppers, with all that is needed to start it and to go on with it."""

    name: str
    solver_class: Any
    stepper: Any = None  #: a `Stepper`, where the class runs one
    step_size: float | None = None
    jacobian: Callable[[float, Array], Array] | None = None  #: for scipy's implicit methods; None: by differences

    @property
    def fixed(self) -> bool:
        """Whether the step is given."""
        return self.step_size is not None

    def bounded_by(self, bound: Callable[[float, Array], float | None]) -> Method:
        """Return the method with an upper bound on the spectral radius for it, if it has a use for one."""
        if not hasattr(self.stepper, "bounded_by"):
            return self
        return replace(self, stepper=self.stepper.bounded_by(bound))

    def solving_with(self, jacobian: Callable[[float, Array], Array] | None) -> Method:
        """Return the method with an exact Jacobian for it, if it solves equations."""
        return replace(self, jacobian=jacobian) if issubclass(self.solver_class, _IMPLICIT) else self

    def start(
        self,
        velocity: Velocity,
        t: float,
        y: Array,
        bound: float,
        tolerances: tuple[float, Array],
        first_step: float | None,
        memory: Mapping[str, Array],
    ) -> Any:
        """Return a solver at (t, y) that ends at `bound`; with the `memory` of ours it goes on to the same bits."""
        options: dict[str, Any] = {"rtol": tolerances[0], "atol": tolerances[1]}
        if self.fixed:
            options = {"step_size": self.step_size}
        elif first_step is not None:
            options["first_step"] = first_step if memory else min(first_step, bound - t)
        if memory:
            options["memory"] = memory
        if self.stepper is not None:
            options["stepper"] = self.stepper
        if self.jacobian is not None:
            options["jac"] = self.jacobian
        return self.solver_class(velocity, t, y, bound, **options)


def spelled(method: Any) -> Any:
    """Return the name of a method in its own letters, however they were written; all else as it is."""
    return _SPELLED.get(method.lower(), method) if isinstance(method, str) else method


def require_method(method: str | type[OdeSolver] | Stepper, step_size: float | None) -> Method:
    """Return the method of a name, a class or a stepper; refuse a step where it chooses its own, or none where not."""
    found = _method(method)
    if step_size is None:
        if found.stepper is not None and not hasattr(found.stepper, "error_order"):
            raise ValueError(f"`step_size` must be given for the fixed-step method {found.name}.")
        return found
    if found.stepper is None:
        raise ValueError(f"`step_size` is for methods with a fixed step; {found.name} chooses its steps by `rtol`.")
    return replace(found, step_size=validation.require_number("step_size", step_size))


def _method(method: str | type[OdeSolver] | Stepper) -> Method:
    """Return a method as it is, without a step."""
    if isinstance(method, type) and issubclass(method, OdeSolver) and method is not OdeSolver:
        return Method(method.__name__, method, getattr(method, "stepper", None))
    if isinstance(method, type) and hasattr(method, "interpolant"):
        raise TypeError(
            f"`method` must be an instance of a Stepper, got the class {method.__name__}. Pass {method.__name__}()."
        )
    if isinstance(method, str) and method in _OURS:
        method = _OURS[method]()
    if not isinstance(method, (str, type)) and hasattr(method, "interpolant"):
        return Method(type(method).__name__, SteppedSolver, method)
    name = validation.require_choice("method", method, _SPELLED.values())
    return Method(name, getattr(scipy_integrate, name))


@dataclass(frozen=True)
class Choice:
    """Which method is in use, and what "auto" has seen of the stiffness; replaced, never changed."""

    name: str
    log: tuple[str, ...] = ()  #: for people: which methods, from when, why
    steps: int = 0  #: with this method
    votes: int = 0  #: looks in a row that speak for another
    verdict: str = ""  #: the one they speak for
    returns: int = 0  #: to the explicit method
    stays: bool = False  #: with that for good
    radius: Array = field(default_factory=lambda: np.asarray(0.0))  #: of the spectrum, by the power method
    direction: Array = field(default_factory=lambda: np.empty(0))  #: where that stands

    @property
    def label(self) -> str:
        """The method for people; with "auto", which ones and why."""
        return "; ".join(self.log) or self.name


class Methods(Protocol):
    """Which method a run goes on with."""

    def first(self) -> Choice:
        """Return the choice at the start."""
        ...

    def method(self, choice: Choice) -> Method:
        """Return the method that is chosen."""
        ...

    def judge(self, choice: Choice, solver: Any) -> Choice:
        """Return the choice after an accepted step; another name is another method."""
        ...

    def after_crossing(self, choice: Choice, t: float) -> Choice:
        """Return the choice to repeat a step from `t` in which a singular value crossed zero; the same one: none is left."""
        ...


@dataclass(frozen=True)
class Given:
    """The one method that was asked for."""

    only: Method

    def first(self) -> Choice:
        return Choice(self.only.name)

    def method(self, choice: Choice) -> Method:
        return self.only

    def judge(self, choice: Choice, solver: Any) -> Choice:
        return choice

    def after_crossing(self, choice: Choice, t: float) -> Choice:
        return choice


_EXPLICIT, _STABILISED, _IMPLICIT_ONE = "DOP853", "ROCK4", "BDF"
_REAL_LIMIT = 6.4  # DOP853 damps y' = -z y for steps of 1 up to this z
_STIFF, _EASY = 4.0, 2.0  # h rho above which the explicit method is held back by stability; below which it is not
_EVERY = 10  # steps between two looks at the spectral radius
#: unknowns up to which an implicit step with an exact Jacobian costs less than a stabilised one: at any stiffness, and
#: beyond an h rho; at tight and at loose tolerances (measured: benchmarks/stiffness.py)
_FEW, _SOME, _COSTLY = (300, 150), 600, (50.0, 1000.0)
_LOOSE = 3e-6  # rtol from which RKC is a match for ROCK4
#: h rho above which the finish of ROCK4 costs more than it gains, and down to which rtol it does
_FAR = ((50.0, _LOOSE), (500.0, 1e-7))


class Automatic:
    """Begins with an explicit method and changes when the product h rho shows that another costs less.

    rho is the spectral radius of the Jacobian: an explicit method cannot take h rho beyond a constant, a
    stabilised one pays the root of it. That is ROCK4 first, whose errors follow `rtol` as those of DOP853 do, while the
    many short steps of RKC add up to rtol^(2/3); RKC where h rho is so large that the finish of ROCK4 costs more than
    its order gains. Where unknowns are few and their Jacobian is exact, scipy's BDF.
    """

    def __init__(self, rtol: float, unknowns: int = 0) -> None:
        self._unknowns = unknowns  #: of an exact Jacobian; 0: there is none
        self._loose = rtol >= _LOOSE
        self._few, self._some = 0 < unknowns <= _FEW[self._loose], 0 < unknowns <= _SOME
        self._far = next((z for z, least in _FAR if rtol >= least), np.inf)
        self._known = {name: require_method(name, None) for name in (_EXPLICIT, "RKC", _STABILISED, _IMPLICIT_ONE)}

    def first(self) -> Choice:
        return Choice(_EXPLICIT, log=(f"{_EXPLICIT} from the start",))

    def method(self, choice: Choice) -> Method:
        return self._known[choice.name]

    def judge(self, choice: Choice, solver: Any) -> Choice:
        h = abs(solver.t - solver.t_old)
        choice = replace(choice, steps=choice.steps + 1)
        if choice.name == _IMPLICIT_ONE:
            return self._judge_implicit(choice, solver, h) if choice.steps % _EVERY == 0 else choice
        if choice.name == _EXPLICIT:
            due = choice.steps % _EVERY == 0 and not choice.stays
            return self._judge_explicit(choice, solver, h) if due else choice
        return self._judge_stabilised(choice, solver, h)

    def after_crossing(self, choice: Choice, t: float) -> Choice:
        """Leave ROCK4 for RKC where that is accurate enough, else let the explicit method go on alone.

        ROCK4 multiplies what decays at a rate z / h by R(-z), which is negative for half of all z, and no error estimate
        sees that below the tolerance. R of RKC is positive, about 2/3.
        """
        if choice.name == _EXPLICIT:
            return choice
        why = f"a singular value crossed zero in a step of {choice.name}"
        if choice.name == _STABILISED and self._loose:
            return _changed(choice, "RKC", "RKC (order 2)", t, why)
        return _changed(replace(choice, stays=True), _EXPLICIT, _EXPLICIT, t, why)

    def _to_implicit(self, choice: Choice, t: float, why: str) -> Choice:
        why = f"{why}, and {self._unknowns} unknowns with an exact Jacobian"
        return _changed(choice, _IMPLICIT_ONE, f"{_IMPLICIT_ONE} (implicit)", t, why)

    def _judge_explicit(self, choice: Choice, solver: Any, h: float) -> Choice:
        choice = _measured(choice, solver, solver.fun, solver.f)
        radius = float(choice.radius)
        z = h * (radius if np.isfinite(radius) else 0.0)
        choice = replace(choice, votes=choice.votes + 1 if z > _STIFF else 0)
        if choice.votes < 2 * 2 ** min(choice.returns, 3):  # less to and fro where both do as well
            return choice
        why = f"stiff, h rho = {z:.3g} where {_EXPLICIT} is stable up to {_REAL_LIMIT:g}"
        if self._few:
            return self._to_implicit(choice, solver.t, why)
        return _changed(choice, _STABILISED, f"{_STABILISED} (order 4)", solver.t, why)

    def _judge_implicit(self, choice: Choice, solver: Any, h: float) -> Choice:
        choice = _measured(choice, solver, lambda t, y: solver.J @ y, solver.J @ solver.y)
        z = h * float(choice.radius)
        choice = replace(choice, votes=choice.votes + 1 if z < _EASY else 0)
        return self._to_explicit(choice, solver.t, z) if choice.votes == 2 else choice

    def _to_explicit(self, choice: Choice, t: float, z: float) -> Choice:
        returned = replace(choice, returns=choice.returns + 1)
        return _changed(returned, _EXPLICIT, _EXPLICIT, t, f"no longer stiff, h rho = {z:.3g}")

    def _judge_stabilised(self, choice: Choice, solver: Any, h: float) -> Choice:
        z = h * solver.stepper.known_radius(solver.state)
        implicit = self._some and z > _COSTLY[self._loose]
        far = choice.name == _STABILISED and z > self._far
        verdict = _EXPLICIT if z < _EASY else _IMPLICIT_ONE if implicit else "RKC" if far else ""
        votes = choice.votes + 1 if verdict and verdict == choice.verdict else int(bool(verdict))
        choice = replace(choice, verdict=verdict, votes=votes)
        if votes < 2 * _EVERY:
            return choice
        if implicit:
            return self._to_implicit(choice, solver.t, f"h rho = {z:.3g}")
        if far:
            why = f"h rho = {z:.3g}, too stiff for the finish of ROCK4"
            return _changed(choice, "RKC", "RKC (order 2)", solver.t, why)
        return self._to_explicit(choice, solver.t, z)


def _measured(choice: Choice, solver: Any, f: Velocity, slope: Array) -> Choice:
    """Return the choice with the spectral radius of df/dy at the end of the last step."""
    direction = choice.direction if choice.direction.size else first_direction(slope)
    radius, direction, _ = spectral_radius(
        f, solver.t, solver.y, slope, direction, choice.radius, tries=20
    )  # fmt: skip
    return replace(choice, radius=radius, direction=direction)


def _changed(choice: Choice, name: str, label: str, t: float, why: str) -> Choice:
    """Return the choice of another method."""
    return replace(choice, name=name, votes=0, steps=0, log=(*choice.log, f"{label} from t={t:.6g}: {why}"))
