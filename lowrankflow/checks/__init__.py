"""Checks of what users bring: a loss, a metric, a manifold. Each is a `Report` of claims with controls that must fail.

- `losses`: is the gradient the derivative of the value?
- `metrics`: do the coefficients make a metric?
- `manifolds`: does a pymanopt manifold keep the laws that its optimizers rely on?
- `slopes`: the order of a remainder.
"""

from .losses import Tampered, check_loss, directional_derivative, gradient_error
from .manifolds import check_manifold
from .metrics import check_metric

__all__ = ["Tampered", "check_loss", "check_manifold", "check_metric", "directional_derivative", "gradient_error"]
