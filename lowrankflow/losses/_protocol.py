"""The loss protocol."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Loss(Protocol):
    """What the library asks of a loss.

    Optional, used where present:

    ``hessian(w, z)``
        The Hessian at W applied to Z, as something that can be multiplied like a gradient.
    ``value_and_gradient(w)``
        Both at once, sharing the residual.
    ``curvature``
        The largest eigenvalue of the Hessian with respect to W; sets the unit of time. A loss with one that does not know
        its ``best_value`` is taken to be non-negative where the stiffness is bounded.
    ``convex``, ``twice_differentiable``
        True, False or None (not known): what theory may be claimed.
    ``fixed_rank``
        True if it is smooth along matrices of one rank alone.
    ``margins(w)``, ``exponential_tail``
        The margin of every sample of a classification, and True if the loss falls to zero for ever as they grow.
    ``best_value(rank)``
        The least value among matrices of a rank.
    ``differentiable_by_autograd``
        True if ``value`` can be traced with W an autograd array.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n), the shape of W."""
        ...

    def value(self, w: Any) -> float:
        """Return L(W)."""
        ...

    def gradient(self, w: Any) -> Any:
        """Return the Frobenius gradient, (m, n): an array, sparse array or operator with ``@`` and ``.T``."""
        ...
