"""What a loss can do, asked once: every optional attribute, resolved in one place.

What each of them means is said with the protocol, `Loss`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from inspect import getattr_static
from types import MethodType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from .. import validation
from ..matrices import LowRankMatrix, Matrix, MatrixOrArray, Product
from ..operators import MatrixLike
from ..validation import Array, optional, optional_flag, optional_method
from .protocol import Loss

if TYPE_CHECKING:
    from .least_squares import Spectrum

__all__ = ["Inherited", "LossFacts", "facts", "loss_label", "only_if"]

Method = TypeVar("Method", bound=Callable[..., Any])

_SPECTRAL = ("eigenvalues", "u", "sigma", "vt")  # parts of a `spectrum`; what lacks one is something else of that name


@dataclass(frozen=True, eq=False)
class LossFacts:
    """What a loss can do, made by `facts`. The attributes are those of `Loss`: None, or False, where it has none.

    Attributes
    ----------
    loss : Loss
        Whose they are.
    value_and_gradient : callable
        Always there: the loss's own, or its value and its gradient one after the other.
    shares : bool
        Whether it is the loss's own.
    hessian, margins, best_value, minimiser, whiten, shifted : callable or None
        Methods of the loss.
    convex, twice_differentiable : bool or None
        What it says of itself; None: not known.
    fixed_rank, exponential_tail, differentiable_by_autograd, hessian_of_stacks : bool
        What it says of itself; False where it says nothing.
    lower_bound : float or None
        A number that no value is below.
    curvature : float or None
        Asked for on first use, because it may cost a decomposition; positive and finite.
    spectrum : Spectrum or None
        Asked for on first use.
    normalisation : str
        The loss in one line, by its own words or its repr.
    """

    loss: Loss
    value_and_gradient: Callable[[MatrixOrArray], tuple[float, MatrixLike]]
    shares: bool
    hessian: Callable[[MatrixOrArray, MatrixOrArray], MatrixLike] | None
    margins: Callable[[MatrixOrArray], Array] | None
    best_value: Callable[[int], float] | None
    minimiser: Callable[[int], LowRankMatrix] | None
    whiten: Callable[[Matrix], Product] | None
    shifted: Callable[[MatrixOrArray], Loss] | None
    convex: bool | None
    twice_differentiable: bool | None
    fixed_rank: bool
    exponential_tail: bool
    differentiable_by_autograd: bool
    hessian_of_stacks: bool
    lower_bound: float | None

    @cached_property
    def curvature(self) -> float | None:
        value = optional(self.loss, "curvature")
        return None if value is None else validation.require_number("loss.curvature", value)

    def hessians(self, w: MatrixOrArray, zs: Array) -> Array:
        """Return the Hessian applied to each of D directions, (m, n, D); at once where the loss takes stacks of them."""
        assert self.hessian is not None
        if self.hessian_of_stacks:
            return np.moveaxis(np.asarray(self.hessian(w, np.moveaxis(zs, 2, 0))), 0, 2)
        eye = np.eye(zs.shape[1])
        directions = (Product._trusted(zs[:, :, d], eye) for d in range(zs.shape[2]))  # what answers all that W does
        return np.stack([self.hessian(w, z) @ eye for z in directions], axis=2)

    @cached_property
    def spectrum(self) -> Spectrum | None:
        found = optional(self.loss, "spectrum")
        return found if all(hasattr(found, part) for part in _SPECTRAL) else None

    @cached_property
    def normalisation(self) -> str:
        words = optional(self.loss, "normalisation")
        return words if isinstance(words, str) else loss_label(self.loss)

    def costs(self, name: str) -> bool:
        """Return whether asking for `name` may compute something: a property that nobody has asked for yet."""
        return name not in self.__dict__ and hasattr(getattr_static(self.loss, name, None), "__get__")


def loss_label(loss: Any) -> str:
    """Return what reports call a loss: its repr, or its class where the repr is an address, another in every process."""
    kind = type(loss)
    return kind.__name__ if kind.__repr__ is object.__repr__ else repr(loss)


def facts(loss: Loss | LossFacts) -> LossFacts:
    """Return what a loss can do; of facts, themselves.

    A method that is missing, None or cannot be called is absent; a flag is True, False or not known. A property that
    raises an AttributeError of its own name says that it is missing; any other error is a mistake and goes on.

    Parameters
    ----------
    loss : Loss
        Any object with ``shape``, ``value(w)``, ``gradient(w)``.

    Returns
    -------
    LossFacts

    Raises
    ------
    ValueError, TypeError
        If a flag is neither True, False nor None, or the lower bound is not a finite number; on first use, if the curvature
        is not a positive finite number.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> said = facts(lrf.losses.Schatten((3, 2), depth=2))
    >>> said.convex, said.fixed_rank, said.hessian, said.curvature
    (True, True, None, None)
    """
    if isinstance(loss, LossFacts):
        return loss
    own, least = optional_method(loss, "value_and_gradient"), optional(loss, "lower_bound")
    return LossFacts(
        loss=loss,
        value_and_gradient=partial(_one_after_the_other, loss) if own is None else own,
        shares=own is not None,
        hessian=optional_method(loss, "hessian"),
        margins=optional_method(loss, "margins"),
        best_value=optional_method(loss, "best_value"),
        minimiser=optional_method(loss, "minimiser"),
        whiten=optional_method(loss, "whiten"),
        shifted=optional_method(loss, "shifted"),
        convex=optional_flag(loss, "convex", "loss"),
        twice_differentiable=optional_flag(loss, "twice_differentiable", "loss"),
        fixed_rank=bool(optional_flag(loss, "fixed_rank", "loss")),
        exponential_tail=bool(optional_flag(loss, "exponential_tail", "loss")),
        differentiable_by_autograd=bool(optional_flag(loss, "differentiable_by_autograd", "loss")),
        hessian_of_stacks=bool(optional_flag(loss, "hessian_of_stacks", "loss")),
        lower_bound=None if least is None else validation.require_finite_number("loss.lower_bound", least),
    )


def _one_after_the_other(loss: Loss, w: MatrixOrArray) -> tuple[float, MatrixLike]:
    return loss.value(w), loss.gradient(w)


class Inherited:
    """What a loss of another matrix, linear in W, has of the loss that it asks: convexity, derivatives, bounds."""

    def __init__(self, loss: Loss) -> None:
        self.loss, self._facts = loss, facts(loss)
        self.convex, self.twice_differentiable = self._facts.convex, self._facts.twice_differentiable
        self.differentiable_by_autograd = self._facts.differentiable_by_autograd

    @property
    def curvature(self) -> float:
        """That of the loss."""
        if self._facts.curvature is None:
            raise AttributeError("curvature")
        return self._facts.curvature

    @property
    def lower_bound(self) -> float:
        """That of the loss."""
        if self._facts.lower_bound is None:
            raise AttributeError("lower_bound")
        return self._facts.lower_bound


def only_if(has: Callable[[Any], bool]) -> Callable[[Method], Method]:
    """Return a decorator of methods that only some instances have: the others raise AttributeError, so hasattr is right."""

    def conditional(method: Method) -> Method:
        return cast(Method, _Conditional(method, has))

    return conditional


class _Conditional:
    """A method that is there if `has(instance)`; one that is set on an instance comes first, as with any method."""

    def __init__(self, method: Callable[..., Any], has: Callable[[Any], bool]) -> None:
        self._method, self._has = method, has

    def __get__(self, instance: object, owner: type | None = None) -> Callable[..., Any]:
        if instance is None:
            return self._method
        if not self._has(instance):
            name = self._method.__name__
            raise AttributeError(f"{type(instance).__name__!r} object has no {name!r}", name=name, obj=instance)
        return MethodType(self._method, instance)
