"""Claims: each one's words, measure and controls stand together, where `claim` puts the words on what measures it.

- `identities`, `trajectories`, `descents`, `limits`, `separable`: of `verify_equivalence`, on the `Runs` of two `sides`.
- `comparisons`: of `compare_metrics`, on `courses` of several metrics.
- `training`: of `verify_descent`, on a run of gradient descent.
- `checkpoints`: of `follow_run`, on a run of training that was made elsewhere.
- `landscape`: of the place of a network at a critical point.
- `critical_points`, `canonical_forms`, `ways_out`, `passages`, `any_loss`, `counterexamples`, `closed_forms`: of the
  landscape at large, on random problems, `populations`.
- Those of what users bring stand in ``lowrankflow.checks``, beside what they check; almost every start in ``batched``.
- `gaps`: how far two W lie apart.
- `page`: docs/claims.md, from the words.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .. import validation
from ..batched import almost_every_start
from ..checks import LOSS_CLAIMS, MANIFOLD_CLAIMS, METRIC_CLAIMS
from ..scalar.verification import SCALAR
from ..statements import Measurement, Statement, Words, claim
from . import comparisons, descents, identities, landscape, limits, separable, training, trajectories
from .any_loss import ANY_LOSS
from .canonical_forms import CANONICAL_FORMS
from .checkpoints import RUN
from .closed_forms import CLOSED_FORMS
from .counterexamples import COUNTEREXAMPLES
from .critical_points import CRITICAL_POINTS
from .passages import PASSAGES
from .populations import Population
from .sides import Runs, Sides
from .ways_out import WAYS_OUT

__all__ = ["CLAIMS", "Measurement", "Statement", "Words", "claim", "explain"]

AT_A_POINT = (identities.gradient, identities.pointwise, identities.one_step, identities.lift)
ALONG_THE_FLOW = (
    trajectories.trajectory, trajectories.tolerance, trajectories.conservation, trajectories.rank,
    trajectories.factor_spectrum, trajectories.dissipation, trajectories.imbalance,
)  # fmt: skip
OF_DESCENT = (descents.discrete, descents.rebalancing)
ABOUT_THE_LIMIT = (
    limits.stationarity, separable.margin, limits.index_set, limits.best_loss, limits.departure,
)  # fmt: skip
VERIFIED: tuple[Statement[[Sides, Runs]], ...] = (*AT_A_POINT, *ALONG_THE_FLOW, *OF_DESCENT, *ABOUT_THE_LIMIT)
OF_METRICS = (comparisons.power, comparisons.conversion, comparisons.clock_change)
OF_THE_LANDSCAPE: tuple[Statement[[Population]], ...] = (
    *CRITICAL_POINTS, *CANONICAL_FORMS, *WAYS_OUT, *PASSAGES, *ANY_LOSS, *COUNTEREXAMPLES, *CLOSED_FORMS,
)  # fmt: skip
_BY_NAME: tuple[Statement[Any], ...] = (*VERIFIED, *OF_METRICS)  # those whose names are their own


def _words() -> dict[str, Words]:
    """Return the words of all claims; those of a check go by its name too, because their names are no one's own."""
    checks: Mapping[str, tuple[Statement[Any], ...]] = {
        "check_loss": LOSS_CLAIMS, "check_metric": METRIC_CLAIMS, "check_manifold": MANIFOLD_CLAIMS,
        "landscape": (*landscape.LANDSCAPE, *OF_THE_LANDSCAPE), "descent": training.TRAINING, "run": RUN, "scalar": SCALAR,
        "batched": (almost_every_start,),
    }  # fmt: skip
    known = {one.name: one.words for one in _BY_NAME}
    return known | {f"{check} {one.name}": one.words for check, claims in checks.items() for one in claims}


CLAIMS: Mapping[str, Words] = MappingProxyType(_words())  #: the words of every claim by name


def explain(name: str) -> str:
    """Return what a claim means, its source, its hypotheses and its controls, as plain text.

    Parameters
    ----------
    name : str
        Of a claim of `verify_equivalence` or `compare_metrics`; of a claim of a check, or about the landscape, with that
        before it, as in "check_loss gradient" or "landscape classes".

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    check = str(name).partition(" ")[0] + " "  # of an unknown name only those are listed that it may have meant
    near = [other for other in CLAIMS if other.startswith(check) or other.endswith(f" {name}")]
    near = [name] if name in CLAIMS else near or [one.name for one in _BY_NAME]
    e = CLAIMS[validation.require_choice("claim", name, near)]
    return f"{name}: {e.statement}\n\n{e.meaning}\n\nHypotheses: {e.hypotheses}.\nControls: {e.controls}.\nSource: {e.source}"
