"""Metrics on the manifold of rank-r matrices, each as a value.

- `sums`: divided differences of powers and products without cancellation.
- `coefficients`: what a metric is to the library, its `Coefficients` in the singular frame.
- `depth`: the depth-N metric and its limit N -> 1, the embedded metric.
- `imbalanced`: the metrics of factors whose imbalances are multiples of the identity.
- `facts`: what a metric can do, asked once.
- `extension`: whether its flow keeps the rank, and where the metric goes on if not.
- `roots`: its coefficients as a chart takes them.
- `quotients`: the metrics of the Riemannian optimisation literature.
- `names`: metrics by name, as at the command line.
"""

from .coefficients import Coefficients, Metric, RootCoefficients
from .depth import DepthMetric, EmbeddedMetric
from .extension import extension, keeps_rank
from .facts import MetricFacts, facts
from .imbalanced import KappaBalancedMetric, LambdaBalancedMetric
from .names import named_metrics
from .quotients import (
    BuresWassersteinMetric,
    MNMetric,
    PolarMetric,
    R3MCMetric,
    ScaledGDMetric,
    SubspaceProjectionMetric,
    TwoFactorMetric,
)
from .roots import frame_rates, generic_root_coefficients, root_coefficients

__all__ = [
    "BuresWassersteinMetric",
    "Coefficients",
    "DepthMetric",
    "EmbeddedMetric",
    "KappaBalancedMetric",
    "LambdaBalancedMetric",
    "MNMetric",
    "Metric",
    "MetricFacts",
    "PolarMetric",
    "R3MCMetric",
    "RootCoefficients",
    "ScaledGDMetric",
    "SubspaceProjectionMetric",
    "TwoFactorMetric",
    "extension",
    "facts",
    "frame_rates",
    "generic_root_coefficients",
    "keeps_rank",
    "named_metrics",
    "root_coefficients",
]
