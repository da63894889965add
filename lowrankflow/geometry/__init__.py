"""Second order and steps on the manifold of rank-k matrices: Hessians, retractions, geodesics."""

from .geodesics import distance, exponential, logarithm
from .hessians import RiemannianHessian, embedded_hessian, geodesic_acceleration

__all__ = [
    "RiemannianHessian",
    "distance",
    "embedded_hessian",
    "exponential",
    "geodesic_acceleration",
    "logarithm",
]
