"""The loss protocol."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from ..matrices import MatrixOrArray
from ..operators import MatrixLike

Reduction = Literal["sum", "mean"]  #: the sum over the samples, or that divided by their number
Samples = Literal["columns", "rows"]  #: where a sample stands in an array


@runtime_checkable
class Loss(Protocol):
    """What the library asks of a loss.

    The rest is optional; `facts` says what of it a loss has. What is missing or None is absent, a method that cannot be
    called too. A property may raise AttributeError to say so.

    ``hessian(w, z)``
        The Hessian at W applied to Z, as something that can be multiplied like a gradient.
    ``hessian_of_stacks``
        True if it takes a stack of Z too, (D, m, n): then Jacobians are made at once.
    ``value_and_gradient(w)``
        Both at once, sharing the residual.
    ``curvature``
        The largest eigenvalue of the Hessian with respect to W, positive and finite; sets the unit of time.
    ``lower_bound``
        A number that no value is below: 0 for a sum of squares. The stiffness is bounded with it, or with ``best_value``,
        and not at all for a loss that has neither.
    ``convex``, ``twice_differentiable``
        True, False or None (not known): what theory may be claimed.
    ``fixed_rank``
        True if it is smooth along matrices of one rank alone.
    ``margins(w)``, ``exponential_tail``
        The margin of every sample of a classification, and True if the loss falls to zero for ever as they grow.
    ``best_value(rank)``
        The least value among matrices of a rank.
    ``minimiser(rank)``
        A matrix of a rank that attains it, as a `LowRankMatrix`; its largest singular value sets the unit of time.
    ``spectrum``, ``whiten(w)``
        Of a square loss: the `Spectrum` of the data in whitened coordinates, in which the loss is ||B - Q||_F^2 / 2 plus
        a constant, and B there, for W. Both are needed for the modes and for what is claimed about the limit. A
        ``spectrum`` without eigenvalues, u, sigma and vt is something else, and absent.
    ``shifted(w0)``
        The loss of W_0 + W as one of W, where that is more than the same loss asked elsewhere; see `Shifted`.
    ``differentiable_by_autograd``
        True if ``value`` can be traced with W an autograd array.
    ``normalisation``
        The loss in one line with its normalisation, for reports; its repr where it is not said.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n), the shape of W."""
        ...

    def value(self, w: MatrixOrArray) -> float:
        """Return L(W)."""
        ...

    def gradient(self, w: MatrixOrArray) -> MatrixLike:
        """Return the Frobenius gradient, (m, n): an array, sparse array or operator with ``@`` and ``.T``."""
        ...
