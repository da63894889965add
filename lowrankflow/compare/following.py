"""`follow_run`: a run of training that was made elsewhere, beside the flow from its first checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import validation
from ..claims.checkpoints import RUN, Followed
from ..gradients import raw_factor_gradients, squared_norm
from ..losses import Loss, facts
from ..losses.requirements import require_loss
from ..matrices import AffineNetwork, LinearNetwork
from ..matrices.requirements import require_network
from ..report import Cell, Report, Table
from .equivalence import Interrupted
from .patients import require_defined
from .progress import silent

__all__ = ["follow_run"]

_TITLE = "Did this run follow the flow?"
_LEAD = (
    "Training by gradient descent shadows the gradient flow of its factors, and more closely, where the step is not small, the"
    " flow of a loss with a correction. From the checkpoints of a run and its step it is measured here whether the run is such"
    " descent, how far it is from the flow, and whether that is what the step explains."
)


def follow_run(
    networks: Iterable[LinearNetwork | AffineNetwork],
    loss: Loss,
    step_size: float,
    *,
    updates: ArrayLike | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Report:
    """Compare the checkpoints of a run with the flow from the first of them.

    Parameters
    ----------
    networks : iterable of LinearNetwork or AffineNetwork, (m, n)
        The checkpoints in their order, two at least, of the same widths and with biases in the same layers.
    loss : Loss
        What was trained for, in the normalisation of the training; for networks with biases on inputs with a constant appended,
        `losses.with_constant`.
    step_size : float
        The learning rate; an update is that much flow time.
    updates : array_like of int, optional
        After how many updates each checkpoint was made, increasing; None: one update apart.
    about : mapping, optional
        What the report should say of the data, JSON-ready.
    progress : callable, optional
        ``progress(stage, fraction)``.

    Returns
    -------
    Report
        Claims "update", "distance", "drift"; ``report.attachments["followed"]`` has the numbers at every checkpoint.

    Raises
    ------
    ValueError, TypeError
        If there are fewer than two checkpoints, shapes differ, updates do not increase, or an argument breaks its rule.
    Interrupted
        On Ctrl-C, with the claims so far.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    >>> net = lrf.LinearNetwork.gaussian((3, 3), 2, widths=3, scale=0.5, rng=0)
    >>> run = lrf.gradient_descent(loss, net, step_size=0.02, steps=100, keep_every=10)
    >>> report = follow_run(run.points, loss, 0.02, updates=np.arange(0, 101, 10))
    >>> [claim.verdict for claim in report.claims]
    ['passed', 'passed', 'passed']
    """
    require_loss(loss)
    found, affine = _checkpoints(networks, loss)
    h = validation.require_number("step_size", step_size)
    counts = np.arange(len(found), dtype=np.int64) if updates is None else _updates(updates, len(found))
    validation.require_callable("progress", progress)
    x = Followed(loss, found, counts, h, progress or silent, None if affine is None else affine.trained)
    net = found[0] if affine is None else affine
    problem: dict[str, Any] = {
        "data": dict(about or {}), "loss": facts(loss).normalisation, "shape": list(net.shape), "depth": net.depth,
        "widths": list(net.widths), "checkpoints": len(found), "updates": int(counts[-1] - counts[0]), "step": h,
    }  # fmt: skip
    report = Report("verify --run", problem, title=_TITLE, lead=_LEAD)
    report.attachments["followed"] = x
    try:
        for one in RUN:
            one.enter(report, one.measure(x))
    except KeyboardInterrupt:
        report.interrupted = True
        raise Interrupted(report) from None
    report.tables.append(_table(x))
    report.headline = (
        f"{len(found)} checkpoints, {problem['updates']} updates with step {h:g}, {x.edge:.2g} of the edge of stability; loss"
        f" {x.losses[0]:.6g} to {x.losses[-1]:.6g}"
    )
    if affine is not None:
        problem["biases"] = repr(affine)
        report.headline += "; biases are trained, on inputs with a constant appended"
    return report


def _checkpoints(networks: Iterable[Any], loss: Loss) -> tuple[list[LinearNetwork], AffineNetwork | None]:
    """Return the networks, of one chain of shapes, and the first of those that have biases; they are augmented."""
    given = validation.as_tuple(networks)
    if given is None or len(given) < 2:
        got = validation.describe(networks) if given is None else f"{len(given)} of them"
        raise ValueError(f"`networks` must be two checkpoints at least, in a list, got {got}.")
    affine = given[0] if isinstance(given[0], AffineNetwork) else None
    found = []
    for i, net in enumerate(given):
        if isinstance(net, AffineNetwork) != (affine is not None) or (affine and _biased(net) != _biased(affine)):
            raise ValueError(
                f"`networks` must have biases in the same layers, got {net!r} after {given[0]!r}, number {i}."
            )
        found.append(net.augmented if isinstance(net, AffineNetwork) else net)
        require_network(f"networks[{i}]", found[i])
        shapes, first = [f.shape for f in found[i].factors], [f.shape for f in found[0].factors]
        if shapes != first:
            raise ValueError(f"`networks` must have the same shapes, got {shapes} after {first}, in number {i}.")
    require_defined("networks[0]", given[0], loss)
    if given[0].depth < 2:
        raise ValueError("`networks` must have two factors at least, got one.")
    for i, net in enumerate(found):
        with np.errstate(over="ignore", invalid="ignore"):
            size = squared_norm(raw_factor_gradients(loss, net))
        if not np.isfinite(size):
            raise ValueError(
                f"`networks` must have finite gradients, got one that has not, number {i}: the run has diverged. Leave it out,"
                " and what follows."
            )
    return found, affine


def _biased(net: AffineNetwork) -> list[bool]:
    """Return which layers have biases."""
    return [b is not None for b in net.biases]


def _updates(updates: ArrayLike, count: int) -> NDArray[np.int64]:
    """Return the numbers of updates."""
    found = validation.as_vector("updates", updates, count)
    if not (np.diff(found) > 0).all() or not np.array_equal(found, np.round(found)) or found[0] < 0:
        raise ValueError("`updates` must be whole numbers that increase, one a checkpoint. Sort the checkpoints.")
    return found.astype(np.int64)


def _table(x: Followed) -> Table:
    """Return the numbers of up to twenty checkpoints."""
    plain, corrected, predicted = x.gaps
    chosen = np.unique(np.linspace(0, len(x.networks) - 1, 20).round().astype(int))
    rows: list[tuple[Cell, ...]] = [
        (str(int(x.updates[i])), *(float(a[i]) for a in (x.times, x.losses, plain, predicted, corrected)))
        for i in chosen
    ]
    caption = "Distances of all factors over their norm: from the flow, what the step predicts, and what is left."
    heads = ("update", "flow time", "loss", "from the flow", "predicted", "left")
    return Table("checkpoints", "The checkpoints", caption, heads, tuple(rows))
