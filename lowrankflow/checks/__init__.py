"""Checks of what users bring: a loss, a metric, a manifold. Each is a `Report` of claims with controls that must fail.

- `differentiation`: gradients differentiated afresh.
- `losses`: is the gradient the derivative of the value, and what else the loss says? `loss_curvature`: of second order;
  `loss_at`: asks it.
- `metrics`: do the coefficients make a metric?
- `manifolds`: does a pymanopt manifold keep the laws that its optimizers rely on? `manifold_at`: asks it.
- `slopes`: the order of a remainder.
"""

from .differentiation import Tampered, directional_derivative, gradient_error
from .losses import CLAIMS as LOSS_CLAIMS
from .losses import check_loss
from .manifolds import CLAIMS as MANIFOLD_CLAIMS
from .manifolds import check_manifold
from .metrics import CLAIMS as METRIC_CLAIMS
from .metrics import check_metric

__all__ = [
    "LOSS_CLAIMS",
    "MANIFOLD_CLAIMS",
    "METRIC_CLAIMS",
    "Tampered",
    "check_loss",
    "check_manifold",
    "check_metric",
    "directional_derivative",
    "gradient_error",
]
