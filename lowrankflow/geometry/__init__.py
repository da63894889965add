"""Second order and steps: Hessians of manifold and factors, retractions, geodesics."""

from .closedness import closedness_defect
from .curvature import sharpness
from .factor_hessians import FactorHessian, factor_hessian, join_directions, split_directions
from .geodesics import distance, exponential, logarithm
from .hessians import RiemannianHessian, embedded_hessian, geodesic_acceleration
from .rates import SOURCES, decay_rate, imbalance_rate, kernel_rate, margin_rate

__all__ = [
    "SOURCES",
    "FactorHessian",
    "RiemannianHessian",
    "closedness_defect",
    "decay_rate",
    "distance",
    "embedded_hessian",
    "exponential",
    "factor_hessian",
    "geodesic_acceleration",
    "imbalance_rate",
    "join_directions",
    "kernel_rate",
    "logarithm",
    "margin_rate",
    "sharpness",
    "split_directions",
]
