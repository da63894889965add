"""The comparison layer: does training the factors equal the Riemannian gradient flow, and by how much?

- `experiment`: one problem, its two sides, and the runs that the claims share.
- `claims`: what each claim states, where it comes from, what its controls change.
- `identities`, `trajectories`, `descents`, `limits`: measure the claims.
- `equivalence`: `verify_equivalence`, which runs them in order.
- `metrics`: `compare_metrics`, the flows of several metrics side by side; `courses` runs each of them, `tables` shows
  them.
"""

from .claims import CLAIMS, explain
from .equivalence import Interrupted, verify_equivalence
from .experiment import natural_time_unit
from .metrics import compare_metrics, named_metrics

__all__ = [
    "CLAIMS",
    "Interrupted",
    "compare_metrics",
    "explain",
    "named_metrics",
    "natural_time_unit",
    "verify_equivalence",
]
