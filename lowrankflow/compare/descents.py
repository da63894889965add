"""`verify_descent`: gradient descent against its theory, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .. import validation
from ..claims.training import TRAINING, Training
from ..descent import step_bound
from ..geometry import sharpness
from ..losses import LeastSquares, facts
from ..losses.requirements import require_loss
from ..matrices import LinearNetwork, LowRankMatrix
from ..matrices.requirements import require_network
from ..report import Report, Table
from .equivalence import Interrupted, sides_of
from .progress import silent

__all__ = ["verify_descent"]

_TITLE = "Does gradient descent do what its theory says?"
_LEAD = (
    "For the square loss there is a step, computed from the data and the start, for which gradient descent on the factors is"
    " proved to lower the loss at every update, to keep the factors bounded and nearly balanced, and to converge. Here it is"
    " run with that step, and every bound is measured at every update. The step is cautious; by how much is said."
)


def verify_descent(
    loss: LeastSquares,
    start: LowRankMatrix | None = None,
    *,
    depth: int | None = None,
    widths: int | Iterable[int] | None = None,
    network: LinearNetwork | None = None,
    steps: int = 1000,
    rng: validation.Rng = 0,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Report:
    """Run gradient descent at the step of its theory, and measure every bound at every update.

    Parameters
    ----------
    loss : LeastSquares
        Of inputs with full row rank, in its own normalisation.
    start : LowRankMatrix, (m, n) of rank r, optional
        W(0), from whose balanced factors the run starts; None only with `network`.
    depth, widths, network
        As of `verify_equivalence`.
    steps : int
        Updates of the run.
    rng : int or numpy.random.Generator, optional
        Draws hidden frames, and one seed of which each claim draws by its own name.
    about : mapping, optional
        What the report should say of the data, JSON-ready.
    progress : callable, optional
        ``progress(stage, fraction)``.

    Returns
    -------
    Report
        ``report.attachments["bound"]``: the `StepBound`.

    Raises
    ------
    ValueError, TypeError
        As `step_bound` does, or if an argument breaks its rule.
    Interrupted
        On Ctrl-C, with the claims so far.

    Examples
    --------
    >>> import numpy as np
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    >>> report = verify_descent(loss, lrf.random_point(3, 3, 2, rng=0), depth=2, steps=200)
    >>> report.passed, report.attachments["bound"].step < report.problem["largest monotone step"]
    (True, True)
    """
    require_loss(loss)
    steps = validation.require_integer("steps", steps, low=1)
    validation.require_callable("progress", progress)
    generator = validation.as_rng(rng)
    if network is not None and start is None:
        require_network("network", network)
        net = network
    else:
        net = sides_of(loss, start, network, depth, widths, generator)[1]
    bound = step_bound(loss, net)
    x = Training(loss, net, bound, steps, int(generator.integers(2**63)), progress or silent)
    edge = 2 / found if (found := sharpness(loss, net)) > 0 else float("inf")
    problem: dict[str, Any] = {
        "data": dict(about or {}), "loss": facts(loss).normalisation, "shape": list(net.shape), "depth": net.depth,
        "widths": list(net.widths), "steps": steps, "step": bound.step,
    }  # fmt: skip
    report = Report("verify --descent", problem, title=_TITLE, lead=_LEAD)
    report.attachments["bound"] = bound
    try:
        for one in TRAINING:
            one.enter(report, one.measure(x))
        moved = x.moves.met
        largest = x.largest[0] if moved and x.largest[1] < float("inf") else None
        problem["largest monotone step"] = largest
    except KeyboardInterrupt:
        report.interrupted = True
        raise Interrupted(report) from None
    rows = (
        ("M, bounds ||W||", bound.product),
        ("delta, bounds every ||D_j||", bound.delta),
        ("K, bounds every ||W_j||^2", bound.factor),
        ("B, bounds the Hessian along an update", bound.curvature),
        ("sigma, share of the decrease", bound.sigma),
        ("h, step of the theorem", bound.step),
        ("largest step seen with monotone loss", largest),
        ("2 / sharpness at the start", edge),
    )
    report.tables = [
        Table(
            "constants", "The step and its constants", "From the data and the start alone.", ("constant", "value"), rows
        ),
        *report.tables,
    ]
    seen = "here the loss does not fall by more than roundoff"
    if largest is not None:
        times = f"{largest / bound.step:.3g} times that"
        seen = f"the loss was seen to fall at every one of {steps} updates up to h = {largest:.4g}, {times}"
    report.headline = (
        f"{about['name'] + ': ' if about and 'name' in about else ''}W is {net.shape[0]} x {net.shape[1]}, depth {net.depth},"
        f" hidden widths {', '.join(map(str, net.widths))}; loss {problem['loss']}\nh = {bound.step:.4g} is proved; {seen}"
    )
    return report
