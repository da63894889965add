"""lowrankflow: the laboratory for deep linear networks."""

from . import losses
from .charts import Factors, Lifted, SingularFrame
from .flow import Event, FactorFlow, RiemannianFlow, Save, Status, Trajectory, integrate
from .gradients import (
    end_to_end_operator,
    factor_gradients,
    horizontal_lift,
    inner_product,
    product_rule,
    project,
    pullback,
    riemannian_gradient,
    riemannian_gradient_from_factors,
)
from .matrices import LinearNetwork, LowRankMatrix, Product, Tangent, random_point
from .metrics import Coefficients, DepthMetric, EmbeddedMetric
from .report import Claim, Control, Hypothesis, Report

__version__ = "0.1.0"

__all__ = [
    "Claim",
    "Coefficients",
    "Control",
    "DepthMetric",
    "EmbeddedMetric",
    "Event",
    "FactorFlow",
    "Factors",
    "Hypothesis",
    "Lifted",
    "LinearNetwork",
    "LowRankMatrix",
    "Product",
    "Report",
    "RiemannianFlow",
    "Save",
    "SingularFrame",
    "Status",
    "Tangent",
    "Trajectory",
    "end_to_end_operator",
    "factor_gradients",
    "horizontal_lift",
    "inner_product",
    "integrate",
    "losses",
    "product_rule",
    "project",
    "pullback",
    "random_point",
    "riemannian_gradient",
    "riemannian_gradient_from_factors",
]
