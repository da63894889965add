"""One-dimensional deep linear networks w_k ... w_1, and why descent takes time exponential in their depth.

- `start`: the paper's initialisations. `descend`: thousands of descents at once. `flow_time`: how long the flow takes, exactly.
- `bounds`: the lemmas of the paper as numbers, the assumptions of its theorems as checks. `fitted_rate`, `rate_law`: growth
  with depth, measured and predicted. `matrix_time`: the same of square matrices. `verify`: all of it as claims.

After O. Shamir, Exponential convergence time of gradient descent for one-dimensional deep linear neural networks, COLT 2019.
"""

from .bounds import (
    ProductTail,
    decline_bound,
    iterations_bound,
    largest_partial,
    product_tail,
    sign_gap,
    theorem_3_assumptions,
    theorem_4_assumptions,
)
from .descent import Descents, descend
from .flow_time import flow_time
from .matrices import MatrixTime, matrix_time
from .outer import Logistic, Outer, Square
from .rates import Rate, fitted_rate
from .starts import KINDS, critical_variance, rate_law, start
from .verification import verify

__all__ = [
    "KINDS",
    "Descents",
    "Logistic",
    "MatrixTime",
    "Outer",
    "ProductTail",
    "Rate",
    "Square",
    "critical_variance",
    "decline_bound",
    "descend",
    "fitted_rate",
    "flow_time",
    "iterations_bound",
    "largest_partial",
    "matrix_time",
    "product_tail",
    "rate_law",
    "sign_gap",
    "start",
    "theorem_3_assumptions",
    "theorem_4_assumptions",
    "verify",
]
