"""Sums, multiples and means of losses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from .. import validation
from ..operators import Multiple, OperatorSum
from .protocol import require_loss

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
    curvature : float
        The sum of their bounds; missing where one has none. `hessian` and `value_and_gradient` likewise.

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

    def __init__(self, *losses: Any, weights: Sequence[float] | None = None) -> None:
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
        self.losses, self.weights, self.shape = losses, values, tuple(losses[0].shape)
        convex = [getattr(loss, "convex", None) for loss in losses]
        self.convex: bool | None = all(convex) if None not in convex else None
        twice = [getattr(loss, "twice_differentiable", None) for loss in losses]
        self.twice_differentiable: bool | None = False if False in twice else (None if None in twice else True)
        self.fixed_rank = any(getattr(loss, "fixed_rank", False) for loss in losses)
        self.differentiable_by_autograd = all(getattr(loss, "differentiable_by_autograd", False) for loss in losses)
        if not all(callable(getattr(loss, "hessian", None)) for loss in losses):
            self.hessian = None  # type: ignore[assignment, method-assign]
        if len(losses) == 1:  # a multiple: classifies where the loss does
            self.margins = getattr(losses[0], "margins", None)
            self.exponential_tail = getattr(losses[0], "exponential_tail", False)

    def value(self, w: Any) -> Any:
        """Return the sum of the values."""
        return sum(c * loss.value(w) for c, loss in zip(self.weights, self.losses, strict=True))

    def gradient(self, w: Any) -> Any:
        """Return the sum of the gradients, as an operator."""
        return self._total([loss.gradient(w) for loss in self.losses])

    def value_and_gradient(self, w: Any) -> tuple[float, Any]:
        """Return both, each loss sharing what it can."""
        pairs = [
            loss.value_and_gradient(w) if hasattr(loss, "value_and_gradient") else (loss.value(w), loss.gradient(w))
            for loss in self.losses
        ]
        value = sum(c * float(v) for c, (v, _) in zip(self.weights, pairs, strict=True))
        return value, self._total([g for _, g in pairs])

    def hessian(self, w: Any, z: Any) -> Any:
        """Return the sum of the Hessians at W applied to Z."""
        return self._total([loss.hessian(w, z) for loss in self.losses])

    def _total(self, terms: list[Any]) -> Any:
        if all(isinstance(term, np.ndarray) for term in terms):
            return sum(c * term for c, term in zip(self.weights, terms, strict=True))
        return OperatorSum(*(Multiple(term, c) for c, term in zip(self.weights, terms, strict=True)))

    @cached_property
    def curvature(self) -> float:
        """The sum of the bounds."""
        if not all(hasattr(loss, "curvature") for loss in self.losses):
            raise AttributeError("curvature")
        return float(sum(c * loss.curvature for c, loss in zip(self.weights, self.losses, strict=True)))

    @property
    def normalisation(self) -> str:
        """The loss in one line."""
        names = [getattr(loss, "normalisation", repr(loss)) for loss in self.losses]
        return " + ".join(n if c == 1 else f"{c:g} ({n})" for c, n in zip(self.weights, names, strict=True))

    def __repr__(self) -> str:
        return f"Sum({', '.join(map(repr, self.losses))}, weights={self.weights})"


def Scaled(loss: Any, factor: float) -> Sum:
    """Return a loss times a positive number."""
    return Sum(loss, weights=[factor])


def Mean(*losses: Any) -> Sum:
    """Return the mean of losses."""
    return Sum(*losses, weights=[1.0 / len(losses)] * len(losses) if losses else None)
