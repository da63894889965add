"""A loss as a measurement of W and a misfit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from .. import validation
from ..matrices import MatrixOrArray
from ..matrices.requirements import as_operand
from ..operators import MatrixLike
from ..validation import Array, optional, optional_method
from .facts import only_if
from .functions import scalar
from .measurements import Measurement, in_order, require_measurement
from .misfits import Misfit, Traced, reordered, require_misfit
from .protocol import Reduction

__all__ = ["Measured"]


class Measured:
    r"""The loss :math:`L(W) = \ell(A(W))` of a linear measurement A and a scalar function of its outputs.

    .. math:: \nabla L(W) = A^*(\nabla \ell(A W)), \qquad \nabla^2 L(W)[Z] = A^*(\nabla^2 \ell(A W)[A Z]) .

    The gradient stays what the measurement makes of it, low rank or sparse, and is never m x n.

    Parameters
    ----------
    measurement : Measurement
        `Inputs`, `Entries`, `Bilinear`, `Sensing`, a sum of them, or your own with ``shape``, ``outputs``,
        ``samples``, ``forward(w)`` and ``adjoint(r)``.
    misfit : Misfit or callable
        `Squared`, `Huber`, `LogCosh`, `Logistic`, `Softmax`, `Poisson`, `SquaredHinge`, your own with ``value(z)`` and
        ``gradient(z)``, or a function of the outputs, which autograd differentiates.
    reduction : {"sum", "mean"}
        "mean" divides by the number of samples.

    Attributes
    ----------
    shape : tuple of int
        (m, n).
    convex : bool or None
        Whether the loss is convex in W; None where the misfit does not say.
    curvature : float
        A bound on the eigenvalues of the Hessian, attained by the square without weights; missing where the misfit has
        none.
    lower_bound : float
        A number that no value is below; missing where the misfit has none.

    Raises
    ------
    ValueError, TypeError
        If one is no measurement or misfit, or the targets do not have the shape of the outputs.

    Examples
    --------
    >>> from lowrankflow.losses import Entries, Poisson
    >>> counts = Measured(Entries([0, 1, 1], [0, 0, 1], shape=(2, 2)), Poisson([1, 0, 3]), reduction="mean")
    >>> counts.gradient(np.zeros((2, 2))).toarray().round(3).tolist()
    [[0.0, 0.0], [0.333, -0.667]]
    """

    measurement: Measurement
    misfit: Misfit
    reduction: str
    shape: tuple[int, int]
    differentiable_by_autograd: bool
    exponential_tail: bool

    @validation.renamed(link="misfit")
    def __init__(
        self, measurement: Measurement, misfit: Misfit | Callable[[Any], Any], *, reduction: Reduction = "sum"
    ) -> None:
        validation.require_choice("reduction", reduction, ("sum", "mean"))
        require_measurement(measurement)
        if optional(misfit, "gradient") is None and callable(misfit) and not isinstance(misfit, type):
            misfit = Traced(misfit)
        misfit = require_misfit(misfit)
        expected = optional(misfit, "output_shape")
        if expected is None and (targets := optional(misfit, "targets")) is not None:
            expected = np.shape(targets)
        if expected is not None and tuple(measurement.outputs) not in (
            tuple(expected),
            (1, *expected),  # a vector is one target a sample
        ):
            raise ValueError(
                f"`misfit` has targets for outputs of shape {tuple(expected)} but the measurement has outputs of shape"
                f" {tuple(measurement.outputs)}."
            )
        self.measurement, self.misfit, self.reduction = measurement, misfit, reduction
        self._map, self._function = _in_memory_order(measurement, misfit)
        m, n = measurement.shape
        self.shape, self._outputs_shape = (m, n), tuple(measurement.outputs)
        self._weight = 1.0 if reduction == "sum" else 1.0 / measurement.samples
        self.convex: bool | None = optional(misfit, "convex")
        self.twice_differentiable: bool | None = optional(misfit, "twice")
        self.differentiable_by_autograd = bool(optional(misfit, "traceable"))
        self.exponential_tail = bool(optional(misfit, "exponential_tail"))
        self._second = optional_method(self._function, "hessian")
        self._margins_of = optional_method(misfit, "margins")

    @property
    def link(self) -> Misfit:
        """Deprecated: `misfit`."""
        warnings.warn("`link` of Measured is called `misfit` now.", DeprecationWarning, stacklevel=2)
        return self.misfit

    @property
    def normalisation(self) -> str:
        """The loss in one line, with its normalisation."""
        divisor = "" if self.reduction == "sum" else f" / {self.measurement.samples}"
        return f"{type(self.misfit).__name__} of {self.measurement!r}{divisor}"

    def _outputs(self, w: MatrixOrArray) -> Array:
        w = as_operand("w", w, self.shape)
        return self._map.forward(w)

    def value(self, w: MatrixOrArray) -> Any:
        """Return L(W)."""
        return self._weight * scalar("misfit.value", self._function.value(self._outputs(w)))

    def gradient(self, w: MatrixOrArray) -> MatrixLike:
        """Return the gradient, as the measurement's adjoint makes it."""
        return self._adjoint(self._function.gradient(self._outputs(w)))

    def value_and_gradient(self, w: MatrixOrArray) -> tuple[float, MatrixLike]:
        """Return both, sharing the outputs."""
        z = self._outputs(w)
        return self._weight * float(scalar("misfit.value", self._function.value(z))), self._adjoint(
            self._function.gradient(z)
        )

    @only_if(lambda self: self._second is not None)
    def hessian(self, w: MatrixOrArray, z: MatrixOrArray) -> MatrixLike:
        """Return the Hessian at W applied to Z; missing where the misfit has none."""
        z = as_operand("z", z, self.shape)
        assert self._second is not None
        return self._adjoint(self._second(self._outputs(w), self._map.forward(z)))

    @only_if(lambda self: self._margins_of is not None)
    def margins(self, w: MatrixOrArray) -> Array:
        """Return the margin of every sample; missing where the misfit does not classify."""
        assert self._margins_of is not None
        return self._margins_of(self._outputs(w))

    def _adjoint(self, r: Array) -> MatrixLike:
        r = np.asarray(r)
        if r.shape != self._outputs_shape:
            raise ValueError(
                f"`misfit` must have derivatives of the shape of the outputs {self._outputs_shape}, got {r.shape}."
            )
        return self._map.adjoint(r if self._weight == 1.0 else self._weight * r)

    @cached_property
    def curvature(self) -> float:
        """A bound on the eigenvalues of the Hessian: that of the misfit times the squared norm of the measurement."""
        bound = optional(self.misfit, "curvature")
        norm = None if bound is None else optional(self.measurement, "squared_norm")
        if bound is None or norm is None:
            raise AttributeError("curvature")  # missing, not None: what a loss does not have, nobody asks for
        return float(self._weight * bound * norm)

    @property
    def lower_bound(self) -> float:
        """That of the misfit, with the same divisor."""
        bound = optional(self.misfit, "lower_bound")
        if bound is None:
            raise AttributeError("lower_bound")
        return float(self._weight * bound)

    def __repr__(self) -> str:
        return f"Measured({self.measurement!r}, {self.misfit!r}, reduction={self.reduction!r})"


def _in_memory_order(measurement: Measurement, misfit: Misfit) -> tuple[Measurement, Misfit]:
    """Return both with their outputs as the gradient stores them, where both can be: it is then written, not sorted."""
    other, order = in_order(measurement)
    sorted_misfit = None if order is None else reordered(misfit, order)
    return (measurement, misfit) if sorted_misfit is None else (other, sorted_misfit)
