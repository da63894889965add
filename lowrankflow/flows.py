"""What moves, what to keep of it, what to look for on the way: values that are handed to `integrate`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import validation
from .losses import Loss
from .losses.requirements import require_loss
from .matrices import LinearNetwork, LowRankMatrix
from .metrics import Metric
from .metrics.requirements import require_metric
from .validation import Array

__all__ = ["Event", "FactorFlow", "Flow", "ModifiedFlow", "Moment", "Motion", "Point", "RiemannianFlow", "Save"]

Point = LowRankMatrix | LinearNetwork  #: where a flow is


@dataclass(frozen=True)
class RiemannianFlow:
    """The flow W' = -A_W(grad L(W)) on the rank-k manifold under a metric."""

    loss: Loss
    metric: Metric

    def __post_init__(self) -> None:
        require_loss(self.loss)
        require_metric(self.metric)


@dataclass(frozen=True)
class FactorFlow:
    """The flow W_j' = -grad_{W_j} L(W_N ... W_1) of the factors: gradient descent with vanishing steps.

    Parameters
    ----------
    loss : Loss
    trained : sequence of arrays of bool, optional
        Which entries of the factors move, an array a factor, such as `AffineNetwork.trained`; None: all.
    """

    loss: Loss
    trained: Sequence[NDArray[np.bool_]] | None = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        require_loss(self.loss)


@dataclass(frozen=True)
class ModifiedFlow(FactorFlow):
    r"""The flow that gradient descent with step h shadows to second order.

    .. math:: W_j' = -\nabla_{W_j} L - \tfrac h2 (\nabla^2 L\, \nabla L)_j ,

    that of :math:`L + \tfrac h4 \|\nabla L\|^2`, gradient and Hessian taken in the factors.

    It does not conserve the imbalances, which descent does not either.

    References
    ----------
    Backward error analysis; for descent D. G. T. Barrett, B. Dherin, Implicit gradient regularization, ICLR 2021.
    """

    step_size: float

    def __post_init__(self) -> None:
        super().__post_init__()
        validation.require_number("step_size", self.step_size)


Flow = RiemannianFlow | FactorFlow


class Motion(NamedTuple):
    """A flow at one moment, from one gradient of the loss: what the rate of an integral is a function of.

    Of a Riemannian flow, `gradient` and `velocity` are tangent vectors in the frames of `w`, the projected gradient
    P_T(G) and W' = -A_W(G); of a factor flow they are lists, one array a factor.
    """

    t: float
    w: Any  #: LowRankMatrix or LinearNetwork; between steps its frames are orthonormal to the solver's tolerance
    gradient: Any  #: Tangent, or list of ndarray
    velocity: Any  #: Tangent, or list of ndarray
    power: float  #: -dL/dt = g(W', W'), units of the loss / time


class Moment(NamedTuple):
    """The numbers of a state: one value and one gradient of the loss."""

    loss: float
    stationarity: float
    power: float  #: -dL/dt
    singular_values: Array


Rate = Callable[[Motion], float]
Column = Callable[[float, Any], Any]

_HIGHEST = 1e300  # what an event's infinity counts as

# what a column cannot be called: the other arrays of a trajectory, and the dimensions of its labelled form
_TAKEN = re.compile(r"t|time|loss|singular_values|stationarity|mode|row|column|u|s|vt|W\d+|width_\d+")


@dataclass(frozen=True)
class Save:
    """What a trajectory keeps.

    Parameters
    ----------
    times : array_like, optional
        Times within ``t_span`` to keep, by the method's interpolant, whose error can be a thousand times rtol.
    exact : bool
        Land a step on each of `times` instead; costs at most one step more for each.
    steps : bool
        Keep every accepted step (with `times`, only those times are kept unless this is True; None
        means: every step exactly when no times are given). The first and last states are always kept.
    dense : bool
        Keep the interpolants, so that ``path(t)`` works; the memory of about one state a stage and step.
    integrals : mapping of names to functions
        ``rate(motion) -> float``, see `Motion`: its integral from the start accumulates as a state of its own and is
        kept in ``path.columns``. ``{"dissipated": lambda at: at.power}`` gives q(t) = L(0) - L(t), for instance, and
        ``{"length": lambda at: at.velocity.norm()}`` the arc length of W.
    controlled : bool
        Choose the steps so that each integral, too, is right to rtol, relative to what a move by the size of the start
        adds to it at first. For smooth rates: one that begins as roundoff would have the steps follow its noise. False:
        the path is the one without integrals, and they are as good as its steps.
    columns : mapping of names to functions, or sequence of names
        ``function(t, w)`` of every kept state, a number or an array of one shape, kept in ``path.columns``; or names of
        `lowrankflow.columns`, such as "sharpness".
    dissipation : bool
        Deprecated: ``integrals={"dissipated": lambda at: at.power}, controlled=True``.
    """

    times: ArrayLike | None = None
    exact: bool = False
    steps: bool | None = None
    dense: bool = False
    integrals: Mapping[str, Rate] = field(default_factory=dict)
    controlled: bool = False
    columns: Mapping[str, Column] | Sequence[str] = field(default_factory=dict)
    dissipation: bool = False

    def __post_init__(self) -> None:
        validation.require_flags(
            exact=self.exact, dense=self.dense, controlled=self.controlled, dissipation=self.dissipation
        )
        if self.steps is not None:
            validation.require_flags(steps=self.steps)
        if self.dissipation:
            warnings.warn(
                '`dissipation` of Save gives way to integrals={"dissipated": lambda at: at.power}, controlled=True.',
                DeprecationWarning,
                stacklevel=3,
            )
            object.__setattr__(self, "integrals", {**self.integrals, "dissipated": attrgetter("power")})
            object.__setattr__(self, "controlled", True)
        _require_functions("integrals", self.integrals)
        if not _only_names(self.columns):
            _require_functions("columns", self.columns)
        for name in self.columns:
            if name in self.integrals:
                raise ValueError(f"`columns` must have names of their own, got {name!r} among the integrals too.")


def _only_names(columns: object) -> bool:
    """Whether columns are asked for by name: who knows the loss looks them up."""
    return isinstance(columns, (list, tuple)) and all(isinstance(name, str) for name in columns)


def _require_functions(name: str, functions: object) -> None:
    """Refuse what is no mapping of free names to functions."""
    if not isinstance(functions, Mapping):
        raise TypeError(f"`{name}` must map names to functions, got {validation.describe(functions)}.")
    for key, function in functions.items():
        if not isinstance(key, str) or not key:
            raise TypeError(f"`{name}` must have texts for names, got {validation.describe(key)}.")
        if _TAKEN.fullmatch(key):
            raise ValueError(f"`{name}` must have names of their own, got {key!r}, which a trajectory has already.")
        if "/" in key or key in (".", "..") or not key.isprintable():
            raise ValueError(f"`{name}` must have printable names without a slash, for files, got {key!r}.")
        if not callable(function):
            raise TypeError(f"`{name}[{key!r}]` must be callable, got {validation.describe(function)}.")


@dataclass(frozen=True)
class Event:
    """A function of (t, W) whose zero is located along the flow.

    Parameters
    ----------
    name : str
        Key under which the times appear in ``path.events``.
    function : callable
        ``function(t, w) -> float``, evaluated after every step; a change of sign is located on the interpolant. True
        counts as 1 and False as -1; infinity has a sign too. NaN has none: at the start it is refused, later it ends the
        run with ``Status.NOT_FINITE``.
    terminal : bool
        End the integration there.
    direction : int
        +1 only upward, -1 only downward crossings, 0 both.
    """

    name: str
    function: Callable[[float, Any], float]
    terminal: bool = False
    direction: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"`name` must be a non-empty string, got {validation.describe(self.name)}.")
        if not callable(self.function):
            raise TypeError(f"`function` must be callable, got {validation.describe(self.function)}.")
        validation.require_flags(terminal=self.terminal)
        if self.direction not in (-1, 0, 1):
            raise ValueError(f"`direction` must be -1, 0 or 1, got {validation.describe(self.direction)}.")

    def level(self, t: float, w: Point) -> float:
        """Return the value of the function."""
        found = self.function(t, w)
        if isinstance(found, (bool, np.bool_)):
            return 1.0 if found else -1.0
        try:
            level = float(found)
        except (TypeError, ValueError):
            raise TypeError(
                f"`function` of event {self.name!r} must return a number, got {validation.describe(found)}."
            ) from None
        return float(np.clip(level, -_HIGHEST, _HIGHEST))  # with room for the differences of a search
