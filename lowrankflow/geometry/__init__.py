"""Second order and steps: Hessians of manifold and factors, retractions, geodesics."""

from .closedness import closedness_defect
from .curvature import sharpness
from .factor_hessians import FactorHessian, factor_hessian, join_directions, split_directions
from .geodesics import distance, exponential, logarithm
from .hessians import RiemannianHessian, embedded_hessian, geodesic_acceleration

__all__ = [
    "FactorHessian",
    "RiemannianHessian",
    "closedness_defect",
    "distance",
    "embedded_hessian",
    "exponential",
    "factor_hessian",
    "geodesic_acceleration",
    "join_directions",
    "logarithm",
    "sharpness",
    "split_directions",
]
