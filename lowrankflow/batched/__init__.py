"""Many runs of one shape as one array: flows and descent, each member with its own step, error control and end.

- `integrate`, `gradient_descent`: what `lowrankflow.integrate` and `gradient_descent` do, for R members together.
- Where they start: `LowRankMatrices`, `LinearNetworks`, or lists of single points.
- Of what: `LeastSquares`, `Completion`, `Sensing`, single losses (`stacked`), any `BatchedLoss`.
- What comes back: `Trajectories`.
- Almost every start: `reached` says which minimum each start reaches, `almost_every_start` claims it.

Arrays are numpy's, or those of whoever brings them by the array API standard: torch, CuPy, JAX.
"""

from .almost_every import Reached, Share, almost_every_start, reached, wilson
from .descent import Iterates, gradient_descent
from .integration import integrate
from .loop import BatchStep
from .losses import BatchedLoss, Completion, LeastSquares, Sensing, stacked
from .stacks import LinearNetworks, LowRankMatrices
from .trajectories import Trajectories

__all__ = [
    "BatchStep",
    "BatchedLoss",
    "Completion",
    "Iterates",
    "LeastSquares",
    "LinearNetworks",
    "LowRankMatrices",
    "Reached",
    "Sensing",
    "Share",
    "Trajectories",
    "almost_every_start",
    "gradient_descent",
    "integrate",
    "reached",
    "stacked",
    "wilson",
]
