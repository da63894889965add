"""The loss landscape of deep linear networks."""

from .hessian import (
    ExtremeEigenvalues,
    HessianSpectrum,
    RitzPairs,
    extreme_eigenvalues,
    factor_hessian,
    hessian_spectrum,
    ritz_values,
)

__all__ = [
    "ExtremeEigenvalues",
    "HessianSpectrum",
    "RitzPairs",
    "extreme_eigenvalues",
    "factor_hessian",
    "hessian_spectrum",
    "ritz_values",
]
