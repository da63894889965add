"""The loss landscape of deep linear networks: at which critical point is this, how sure is that, how does one leave it.

- `classify`: the place of a network, by the exact theory of the square loss (`places`, `canonical`, `whitened`), or by numbers
  about the Hessian for any other loss; `nearest` rounds to the nearest critical point.
- `builders`: critical points of every kind, minimisers, critical values. `escape`: how to leave a saddle.
- `runs`: where a run ended, and which plateaus it passed; `modes`: what it has captured; `staircase`: the picture.
- `hessian`, `lanczos`: Hessian eigenvalues without a matrix.
- `anyloss`, `kicks`, `counterexamples`: what holds for every convex loss, and where it ends. `decay`, `flatness`,
  `learning`: weight decay, flattest minimisers, learning coefficients.
"""

from .anyloss import GradientCertificate, WidthCondition, certify_gradient, width_condition
from .builders import (
    CriticalValue,
    critical_matrix,
    critical_network,
    critical_values,
    manifold_hessian,
    random_minimiser,
    saddle,
)
from .classify import classify
from .counterexamples import bottleneck_example, kinked_example
from .decay import decayed_mode, decayed_modes, decayed_network, switch_value
from .escape import Escape, escape
from .flatness import least_sharpness, refactored
from .hessian import (
    ExtremeEigenvalues,
    HessianSpectrum,
    RitzPairs,
    extreme_eigenvalues,
    factor_hessian,
    hessian_spectrum,
    ritz_values,
)
from .kicks import kick, kick_and_descend
from .learning import LearningCoefficient, learning_coefficient
from .places import Pivot, Place
from .runs import Ending, Plateau, follow, place
from .staircase import Climb, staircase

__all__ = [
    "Climb",
    "CriticalValue",
    "Ending",
    "Escape",
    "ExtremeEigenvalues",
    "GradientCertificate",
    "HessianSpectrum",
    "LearningCoefficient",
    "Pivot",
    "Place",
    "Plateau",
    "RitzPairs",
    "WidthCondition",
    "bottleneck_example",
    "certify_gradient",
    "classify",
    "critical_matrix",
    "critical_network",
    "critical_values",
    "decayed_mode",
    "decayed_modes",
    "decayed_network",
    "escape",
    "extreme_eigenvalues",
    "factor_hessian",
    "follow",
    "hessian_spectrum",
    "kick",
    "kick_and_descend",
    "kinked_example",
    "learning_coefficient",
    "least_sharpness",
    "manifold_hessian",
    "place",
    "random_minimiser",
    "refactored",
    "ritz_values",
    "saddle",
    "staircase",
    "switch_value",
    "width_condition",
]
