"""Matrices that are never formed, networks, tangent vectors, and what each of them has to be."""

from .affine import AffineNetwork
from .factorisations import thin_qr, thin_svd
from .network import LinearNetwork
from .protocol import Matrix, MatrixOrArray
from .representations import (
    EPS,
    LowRankMatrix,
    Product,
    Tangent,
    difference,
    random_frame,
    random_point,
    singular_values,
    symmetric_part,
)

__all__ = [
    "EPS",
    "AffineNetwork",
    "LinearNetwork",
    "LowRankMatrix",
    "Matrix",
    "MatrixOrArray",
    "Product",
    "Tangent",
    "difference",
    "random_frame",
    "random_point",
    "singular_values",
    "symmetric_part",
    "thin_qr",
    "thin_svd",
]
