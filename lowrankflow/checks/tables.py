"""What a loss or a metric can do, as a table: each optional attribute, whether it is there, and what it is used for."""

from __future__ import annotations

import numpy as np

from ..losses import LossFacts
from ..metrics import MetricFacts
from ..report import Cell, Table

__all__ = ["loss_table", "metric_table"]

_LOSS = {
    "hessian": "TrustRegions, the checks of second order",
    "hessian_of_stacks": "exact Jacobians at once",
    "value_and_gradient": "one pass where both are needed",
    "curvature": "the unit of time, bounds on the stiffness",
    "lower_bound": "bounds on the stiffness",
    "convex": "what theory is claimed",
    "twice_differentiable": "what orders are claimed",
    "fixed_rank": "where it is differentiated: along one rank",
    "margins": "separable classification",
    "exponential_tail": "separable classification",
    "best_value": "bounds on the stiffness, loss above the best",
    "minimiser": "the unit of time",
    "spectrum": "modes, claims about the limit, the rank taken",
    "whiten": "modes, claims about the limit",
    "shifted": "what is added to frozen weights, Shifted",
    "differentiable_by_autograd": "the gradient differentiated afresh",
}
_METRIC = {
    "transposable": "that W^T flows by the transpose",
    "symmetric": "positive semidefinite matrices alone",
    "preserves_rank": "whether the flow goes through lower rank, and in which chart",
    "root": "the chart in which the flow is smooth",
    "root_coefficients": "velocities in that chart, without cancellation",
    "frame_rates": "speeds of the frames near lower rank",
    "differences": "Hessian, geodesic retraction",
    "mix_differences": "the same, where the coefficients have a mix",
    "flat_coordinates": "dist, log and exp of aligned matrices",
    "from_flat_coordinates": "exp of aligned matrices",
    "name": "what tables call it",
}


def loss_table(said: LossFacts) -> Table:
    """Return the table "facts" of a loss; what it would have to compute, and nobody has asked for, it is not asked."""
    rows = []
    for name, use in _LOSS.items():
        if name == "value_and_gradient":
            value: Cell = "yes" if said.shares else "no"
        elif name in ("curvature", "spectrum") and said.costs(name):
            value = "not asked"
        else:
            value = _value(getattr(said, name), known=name in ("convex", "twice_differentiable"))
        rows.append((name, value, use))
    return _table("What the loss can do", rows)


def metric_table(said: MetricFacts) -> Table:
    """Return the table "facts" of a metric."""
    known = ("transposable", "preserves_rank")
    rows = [(name, _value(getattr(said, name), known=name in known), use) for name, use in _METRIC.items()]
    return _table("What the metric can do", rows)


def _table(title: str, rows: list[tuple[str, Cell, str]]) -> Table:
    caption = "What it has beside the methods that are asked of all; what is not there is done without, or not claimed."
    return Table("facts", title, caption, ("capability", "value", "used for"), tuple(rows))


def _value(value: object, *, known: bool) -> Cell:
    """Return what a cell says: yes or no for what is there or not, a number or text as it is."""
    if value is None:
        return "not known" if known else "no"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    return value if isinstance(value, (float, str)) else "yes"
