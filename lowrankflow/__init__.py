"""lowrankflow: the laboratory for deep linear networks.

Rooms and names are imported where they are first asked for (SPEC 1): ``import lowrankflow`` alone takes nothing along.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:  # for type checkers and editors; the tables below say the same to Python
    from . import batched as batched
    from . import charts as charts
    from . import checks as checks
    from . import columns as columns
    from . import compare as compare
    from . import data as data
    from . import descent as descent
    from . import exact as exact
    from . import flow as flow
    from . import flows as flows
    from . import geometry as geometry
    from . import gradients as gradients
    from . import kernels as kernels
    from . import landscape as landscape
    from . import losses as losses
    from . import matrices as matrices
    from . import metrics as metrics
    from . import problems as problems
    from . import pymanopt_manifold as pymanopt_manifold
    from . import render as render
    from . import report as report
    from . import scalar as scalar
    from . import separation as separation
    from . import steppers as steppers
    from . import sweeps as sweeps
    from .charts import Factors as Factors
    from .charts import Lifted as Lifted
    from .charts import SingularFrame as SingularFrame
    from .checks import check_loss as check_loss
    from .checks import check_manifold as check_manifold
    from .checks import check_metric as check_metric
    from .compare import Interrupted as Interrupted
    from .compare import compare_metrics as compare_metrics
    from .compare import diagnose as diagnose
    from .compare import explain as explain
    from .compare import follow_run as follow_run
    from .compare import natural_time_unit as natural_time_unit
    from .compare import verify_equivalence as verify_equivalence
    from .descent import gradient_descent as gradient_descent
    from .flow import Status as Status
    from .flow import Trajectory as Trajectory
    from .flow import integrate as integrate
    from .flows import Event as Event
    from .flows import FactorFlow as FactorFlow
    from .flows import RiemannianFlow as RiemannianFlow
    from .flows import Save as Save
    from .geometry import sharpness as sharpness
    from .gradients import end_to_end_operator as end_to_end_operator
    from .gradients import factor_gradients as factor_gradients
    from .gradients import horizontal_lift as horizontal_lift
    from .gradients import project as project
    from .gradients import riemannian_gradient as riemannian_gradient
    from .gradients import riemannian_gradient_from_factors as riemannian_gradient_from_factors
    from .matrices import LinearNetwork as LinearNetwork
    from .matrices import LowRankMatrix as LowRankMatrix
    from .matrices import Product as Product
    from .matrices import Tangent as Tangent
    from .matrices import random_point as random_point
    from .metrics import Coefficients as Coefficients
    from .metrics import DepthMetric as DepthMetric
    from .metrics import EmbeddedMetric as EmbeddedMetric
    from .problems import Problem as Problem
    from .render import write_html as write_html
    from .report import Claim as Claim
    from .report import ClaimFailed as ClaimFailed
    from .report import Control as Control
    from .report import Hypothesis as Hypothesis
    from .report import Report as Report
    from .sweeps import sweep as sweep

_ROOMS = {  # and the names of the package that live there
    "batched": "",
    "charts": "Factors Lifted SingularFrame",
    "checks": "check_loss check_manifold check_metric",
    "compare": "Interrupted compare_metrics diagnose explain follow_run natural_time_unit verify_equivalence",
    "data": "",
    "columns": "",
    "descent": "gradient_descent",
    "exact": "",
    "flow": "Status Trajectory integrate",
    "flows": "Event FactorFlow RiemannianFlow Save",
    "geometry": "sharpness",
    "gradients": "end_to_end_operator factor_gradients horizontal_lift project riemannian_gradient"
    " riemannian_gradient_from_factors",
    "kernels": "",
    "landscape": "",
    "losses": "",
    "matrices": "LinearNetwork LowRankMatrix Product Tangent random_point",
    "metrics": "Coefficients DepthMetric EmbeddedMetric",
    "problems": "Problem",
    "pymanopt_manifold": "",
    "render": "write_html",
    "report": "Claim ClaimFailed Control Hypothesis Report",
    "scalar": "",
    "separation": "",
    "steppers": "",
    "sweeps": "sweep",
}
_MOVED = {  # names of the package before 1.0: a DeprecationWarning says where they live
    "compare": "CLAIMS",
    "flow": "CheckpointFailed Passage",
    "geometry": "RiemannianHessian embedded_hessian geodesic_acceleration",
    "gradients": "convert_gradient inner_product log_volume product_rule pullback tangent_kernel_spectrum tangent_norm",
    "metrics": "BuresWassersteinMetric KappaBalancedMetric LambdaBalancedMetric MNMetric PolarMetric ScaledGDMetric"
    " SubspaceProjectionMetric TwoFactorMetric",
    "report": "Table",
    "separation": "Separation follow_margin least_margin",
}
_MOVED_ROOMS = ("html_report", "plotting")  # whose names live in another, which they say when they are asked for
_HOMES = {name: room for room, names in _ROOMS.items() for name in names.split()}
_FORMER = {name: room for room, names in _MOVED.items() for name in names.split()}

__all__ = sorted([*_HOMES, "losses"], key=lambda name: (not name.isupper(), name))


def __getattr__(name: str) -> Any:
    """Import a room or a name when it is first asked for."""
    if name in _ROOMS or name in _MOVED_ROOMS:
        return import_module(f".{name}", __name__)  # which also sets it here
    if name in _HOMES:
        value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        return value
    if name in _FORMER:
        room = _FORMER[name]
        warnings.warn(f"lowrankflow.{name} has moved to lowrankflow.{room}.{name}.", DeprecationWarning, stacklevel=2)
        return getattr(import_module(f".{room}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_ROOMS, "__version__"})
