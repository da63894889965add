"""The comparison layer: does training the factors equal the Riemannian gradient flow, and by how much?

The claims stand in ``lowrankflow.claims``, each with its words and its measure; here they are run.

- `equivalence`: `verify_equivalence`, which makes the `runs` that its claims share and measures claim after claim.
- `theory`: which theorems apply.
- `metrics`: `compare_metrics`, the flows of several metrics side by side; `courses` runs each of them, `tables` shows
  them.
- `places`: `place_report`, the place of a network in the landscape; `landscape`: `verify_landscape`, its theory on random
  problems.
- `descents`: `verify_descent`, gradient descent against its theory.
- `problems`: either of them, or a check, of a problem as a value.
"""

from ..claims import CLAIMS, explain
from ..claims.sides import natural_time_unit
from .descents import verify_descent
from .diagnosis import diagnose
from .equivalence import Interrupted, verify_equivalence
from .following import follow_run
from .landscape import verify_landscape
from .metrics import compare_metrics
from .places import place_report
from .problems import (
    check_problem,
    compare_problem,
    descent_problem,
    diagnose_problem,
    place_problem,
    run_problem,
    verify_problem,
)

__all__ = [
    "CLAIMS",
    "Interrupted",
    "check_problem",
    "compare_metrics",
    "compare_problem",
    "descent_problem",
    "diagnose",
    "diagnose_problem",
    "explain",
    "follow_run",
    "natural_time_unit",
    "place_problem",
    "place_report",
    "run_problem",
    "verify_descent",
    "verify_equivalence",
    "verify_landscape",
    "verify_problem",
]
