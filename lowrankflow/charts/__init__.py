"""A flow in coordinates: a flat vector y, its velocity, and the way back to W.

``chart.bind(flow, start)`` gives a `System`. A stepper sees only the vector; a chart never sees the
stepper.

- `Factors`: all factors at their own widths. Gradient descent's own coordinates.
- `SingularFrame`: U, T, V with W = U F(T) V^T, the spectral form of the Riemannian flow.
- `Polynomial`: U, T, V for whole depths by matrix products alone, the faster one where the depth is small.
- `Lifted`: balanced factors of inner width r, another road to the same flow for whole depths.
- `Ambient`: W itself, for metrics whose flow goes through lower rank.
"""

from .ambient import Ambient
from .factors import Factors, Lifted
from .frame import SingularFrame
from .polynomial import Polynomial, is_faster
from .system import Chart, System

__all__ = ["Ambient", "Chart", "Factors", "Lifted", "Polynomial", "SingularFrame", "System", "is_faster"]
