"""Sums, multiples and means of losses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, cast

import numpy as np

from .. import validation
from ..matrices import MatrixOrArray
from ..operators import MatrixLike, Multiple, OperatorSum
from ..validation import Array
from .facts import facts, only_if
from .protocol import Loss
from .requirements import require_loss

__all__ = ["Mean", "Scaled", "Sum"]


class Sum:
    r"""A weighted sum of losses, :math:`\sum_k c_k L_k(W)`.

    Parameters
    ----------
    *losses : Loss
        Losses of one shape, for instance a fit and a regularisation.
    weights : sequence of float, optional
        c, positive; None: 1.

    Attributes
    ----------
    shape : tuple of int
        (m, n).
    convex : bool or None
        Whether all of them are; None where one does not say.
    curvature, lower_bound : float
        The sums of their bounds; missing where one has none, as `hessian` is.

    Raises
    ------
    ValueError, TypeError
        If there is none, one is no loss, the shapes differ or a weight is not positive.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> fit = lrf.losses.Completion([0, 1], [1, 0], [2.0, 3.0], shape=(2, 2))
    >>> decayed = Sum(fit, lrf.losses.Schatten((2, 2), depth=3), weights=[1.0, 0.1])
    >>> decayed.shape
    (2, 2)
    """

    losses: tuple[Loss, ...]
    weights: list[float]
    shape: tuple[int, int]
    fixed_rank: bool
    differentiable_by_autograd: bool
    exponential_tail: bool

    def __init__(self, *losses: Loss, weights: Sequence[float] | None = None) -> None:
        if not losses:
            raise ValueError("`losses` must not be empty.")
        for loss in losses:
            require_loss(loss)
            if tuple(loss.shape) != tuple(losses[0].shape):
                raise ValueError(f"`losses` must have one shape, got {tuple(losses[0].shape)} and {tuple(loss.shape)}.")
        given = (1.0,) * len(losses) if weights is None else validation.as_tuple(weights)
        if given is None:
            raise TypeError(f"`weights` must be numbers, one a loss, got {validation.describe(weights)}.")
        values = [validation.require_number("weights", c) for c in given]
        if len(values) != len(losses):
            raise ValueError(f"`weights` must be as many as the losses, got {len(values)} for {len(losses)}.")
        self.losses, self.weights, self.shape = losses, values, losses[0].shape
        self._terms = tuple(facts(loss) for loss in losses)
        convex = [term.convex for term in self._terms]
        self.convex: bool | None = all(convex) if None not in convex else None
        twice = [term.twice_differentiable for term in self._terms]
        self.twice_differentiable: bool | None = False if False in twice else (None if None in twice else True)
        self.fixed_rank = any(term.fixed_rank for term in self._terms)
        self.differentiable_by_autograd = all(term.differentiable_by_autograd for term in self._terms)
        self.exponential_tail = len(losses) == 1 and self._terms[0].exponential_tail

    def value(self, w: MatrixOrArray) -> Any:
        """Return the sum of the values."""
        return sum(c * loss.value(w) for c, loss in zip(self.weights, self.losses, strict=True))

    def gradient(self, w: MatrixOrArray) -> MatrixLike:
        """Return the sum of the gradients, as an operator."""
        return self._total([loss.gradient(w) for loss in self.losses])

    def value_and_gradient(self, w: MatrixOrArray) -> tuple[float, MatrixLike]:
        """Return both, each loss sharing what it can."""
        pairs = [term.value_and_gradient(w) for term in self._terms]
        value = sum(c * float(v) for c, (v, _) in zip(self.weights, pairs, strict=True))
        return value, self._total([g for _, g in pairs])

    @only_if(lambda self: all(term.hessian is not None for term in self._terms))
    def hessian(self, w: MatrixOrArray, z: MatrixOrArray) -> MatrixLike:
        """Return the sum of the Hessians at W applied to Z; missing where a loss has none."""
        return self._total([term.hessian(w, z) for term in self._terms if term.hessian is not None])

    @only_if(lambda self: len(self._terms) == 1 and self._terms[0].margins is not None)
    def margins(self, w: MatrixOrArray) -> Array:
        """Return the margins of the loss that this is a multiple of; missing for any other sum, and where it has none."""
        margins = self._terms[0].margins
        assert margins is not None
        return margins(w)

    def _total(self, parts: list[MatrixLike]) -> MatrixLike:
        if all(isinstance(part, np.ndarray) for part in parts):
            arrays = cast(list[Array], parts)
            return reduce(np.add, (c * part for c, part in zip(self.weights, arrays, strict=True)))
        return OperatorSum(*(Multiple(part, c) for c, part in zip(self.weights, parts, strict=True)))

    @property
    def curvature(self) -> float:
        """The sum of the bounds on the eigenvalues of the Hessians."""
        return self._sum_of("curvature", [term.curvature for term in self._terms])

    @property
    def lower_bound(self) -> float:
        """The sum of the bounds on the values."""
        return self._sum_of("lower_bound", [term.lower_bound for term in self._terms])

    def _sum_of(self, name: str, bounds: list[float | None]) -> float:
        if None in bounds:
            raise AttributeError(name)
        return float(sum(c * bound for c, bound in zip(self.weights, bounds, strict=True) if bound is not None))

    @property
    def normalisation(self) -> str:
        """The loss in one line."""
        names = [term.normalisation for term in self._terms]
        return " + ".join(n if c == 1 else f"{c:g} ({n})" for c, n in zip(self.weights, names, strict=True))

    def __repr__(self) -> str:
        return f"Sum({', '.join(map(repr, self.losses))}, weights={self.weights})"


def Scaled(loss: Loss, factor: float) -> Sum:
    """Return a loss times a positive number."""
    return Sum(loss, weights=[factor])


def Mean(*losses: Loss) -> Sum:
    """Return the mean of losses."""
    return Sum(*losses, weights=[1.0 / len(losses)] * len(losses) if losses else None)
