"""lowrankflow: the laboratory for deep linear networks."""

from . import losses
from ._version import __version__ as __version__
from .charts import Factors, Lifted, SingularFrame
from .checks import check_loss, check_manifold, check_metric
from .compare import CLAIMS, Interrupted, compare_metrics, explain, natural_time_unit, verify_equivalence
from .descent import DescentDiverged, gradient_descent, sharpness
from .flow import CheckpointFailed, Passage, Status, Trajectory, integrate
from .flows import Event, FactorFlow, RiemannianFlow, Save
from .geometry.hessians import RiemannianHessian, embedded_hessian, geodesic_acceleration
from .gradients import (
    convert_gradient,
    end_to_end_operator,
    factor_gradients,
    horizontal_lift,
    inner_product,
    log_volume,
    product_rule,
    project,
    pullback,
    riemannian_gradient,
    riemannian_gradient_from_factors,
    tangent_kernel_spectrum,
    tangent_norm,
)
from .html_report import write_html
from .matrices import LinearNetwork, LowRankMatrix, Product, Tangent, random_point
from .metrics import (
    BuresWassersteinMetric,
    Coefficients,
    DepthMetric,
    EmbeddedMetric,
    KappaBalancedMetric,
    LambdaBalancedMetric,
    MNMetric,
    PolarMetric,
    ScaledGDMetric,
    SubspaceProjectionMetric,
    TwoFactorMetric,
)
from .report import Claim, Control, Hypothesis, Report, Table
from .separation import Separation, follow_margin, least_margin

__all__ = [
    "CLAIMS",
    "BuresWassersteinMetric",
    "CheckpointFailed",
    "Claim",
    "Coefficients",
    "Control",
    "DepthMetric",
    "DescentDiverged",
    "EmbeddedMetric",
    "Event",
    "FactorFlow",
    "Factors",
    "Hypothesis",
    "Interrupted",
    "KappaBalancedMetric",
    "LambdaBalancedMetric",
    "Lifted",
    "LinearNetwork",
    "LowRankMatrix",
    "MNMetric",
    "Passage",
    "PolarMetric",
    "Product",
    "Report",
    "RiemannianFlow",
    "RiemannianHessian",
    "Save",
    "ScaledGDMetric",
    "Separation",
    "SingularFrame",
    "Status",
    "SubspaceProjectionMetric",
    "Table",
    "Tangent",
    "Trajectory",
    "TwoFactorMetric",
    "check_loss",
    "check_manifold",
    "check_metric",
    "compare_metrics",
    "convert_gradient",
    "embedded_hessian",
    "end_to_end_operator",
    "explain",
    "factor_gradients",
    "follow_margin",
    "geodesic_acceleration",
    "gradient_descent",
    "horizontal_lift",
    "inner_product",
    "integrate",
    "least_margin",
    "log_volume",
    "losses",
    "natural_time_unit",
    "product_rule",
    "project",
    "pullback",
    "random_point",
    "riemannian_gradient",
    "riemannian_gradient_from_factors",
    "sharpness",
    "tangent_kernel_spectrum",
    "tangent_norm",
    "verify_equivalence",
    "write_html",
]
