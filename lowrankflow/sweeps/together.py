"""Jobs of one shape, carried out as one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import batched
from ..descent import LossBelow
from ..flow import Status
from ..flows import FactorFlow
from ..metrics import DepthMetric
from ..problems import Built
from .measures import BUDGET, RTOL, Values, course_of, named_columns, network_of, of_path, rule_of, step_of
from .runs import Run

__all__ = ["measure_together"]


def measure_together(members: Sequence[tuple[Built, Run]]) -> list[Values | None]:
    """Return what `measure` returns for each of some runs of one shape, from one array.

    The numbers agree with those of single runs to their tolerances. None stands where a run has to go alone: all of them where
    there is no such form, and a flow that did not end as it was asked to, since a single one has methods for stiff problems.
    """
    run = members[0][1]
    try:
        paths = _flows(members) if run.kind == "flow" else _descents(members)
    except (ValueError, TypeError):  # a loss, a metric, a rule without a batched form, or shapes that differ
        paths = None
    if paths is None:
        return [None] * len(members)
    short = run.kind == "flow"
    return [
        None if short and not path.status.finished and path.status is not Status.INTERRUPTED else of_path(path, *member)
        for path, member in zip(paths, members, strict=True)
    ]


def _flows(members: Sequence[tuple[Built, Run]]) -> Any:
    if members[0][1].target is not None:  # an event, which a stack does not locate
        return None
    courses = [course_of(*member) for member in members]
    first = courses[0]
    if isinstance(first.flow, FactorFlow):
        depth = None
    elif isinstance(first.flow.metric, DepthMetric) and float(first.flow.metric.depth).is_integer():
        depth = int(first.flow.metric.depth)
    else:
        return None
    if any(course.times != first.times for course in courses):
        return None
    problems = [built.problem for built, _ in members]
    return batched.integrate(
        _losses(members), [course.start for course in courses], depth=depth,
        t_span=(0.0, np.array([course.end for course in courses])), times=first.times or None,
        gtol=[course.gtol for course in courses], rtol=[RTOL if p.rtol is None else p.rtol for p in problems],
        max_evaluations=problems[0].max_evaluations or BUDGET, columns=named_columns(members[0][1]),
    )  # fmt: skip


def _descents(members: Sequence[tuple[Built, Run]]) -> Any:
    run = members[0][1]
    if run.until is not None:  # a bound of its own for each
        return None
    return batched.gradient_descent(
        _losses(members), [network_of(*member) for member in members], step_size=[step_of(r) for _, r in members],
        steps=run.steps, rule=rule_of(run), stop=[] if run.target is None else [LossBelow(run.target)],
        columns=named_columns(run), keep_every=run.keep_every or run.steps,
    )  # fmt: skip


def _losses(members: Sequence[tuple[Built, Run]]) -> Any:
    """Return the loss of all, or one each."""
    losses = [built.loss for built, _ in members]
    return losses[0] if all(loss is losses[0] for loss in losses) else losses
