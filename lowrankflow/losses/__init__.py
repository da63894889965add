"""The loss protocol and the shipped losses.

A loss is any object with ``shape`` (m, n), ``value(w)`` and ``gradient(w)``. W is asked only for what
`lowrankflow.matrices` answers; the gradient is anything that supports ``g @ v`` and ``g.T @ u``.
"""

from ._protocol import Loss
from .completion import Completion
from .least_squares import LeastSquares

__all__ = ["Completion", "LeastSquares", "Loss"]
