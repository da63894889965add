"""Matrices that are never formed, networks, tangent vectors, and what each of them has to be."""

from .protocol import AnyMatrix, Matrix
from .representations import (
    EPS,
    LinearNetwork,
    LowRankMatrix,
    Product,
    Tangent,
    difference,
    random_frame,
    random_point,
    symmetric_part,
    thin_qr,
    thin_svd,
)

__all__ = [
    "EPS",
    "AnyMatrix",
    "LinearNetwork",
    "LowRankMatrix",
    "Matrix",
    "Product",
    "Tangent",
    "difference",
    "random_frame",
    "random_point",
    "symmetric_part",
    "thin_qr",
    "thin_svd",
]
