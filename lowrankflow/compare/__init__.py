"""The comparison layer: does training the factors equal the Riemannian gradient flow, and by how much?

- `experiment`: one problem, its two sides, and the runs that the claims share.
- `claims`: what each claim states, where it comes from, what its controls change.
- `identities`, `trajectories`, `descents`, `limits`: measure the claims.
- `equivalence`: `verify_equivalence`, which runs them in order.
"""

from .claims import CLAIMS, explain
from .equivalence import Interrupted, verify_equivalence
from .experiment import natural_time_unit

__all__ = ["CLAIMS", "Interrupted", "explain", "natural_time_unit", "verify_equivalence"]
