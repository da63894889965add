r"""Classification of separable data, where the flow has no limit: normalised time and the margin.

The logistic and the softmax loss vanish only at infinity. Once W classifies every sample, it grows for ever, ever more
slowly in the time of the flow; in :math:`d\tau = L\, dt` it does so at a moderate speed, and what converges is the
direction. The number to watch is the margin over the norm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import validation
from .flow import Event, RiemannianFlow, Status, Step, Trajectory, integrate
from .gradients import projected, riemannian_gradient
from .losses import Logarithm, Loss, facts
from .matrices import LowRankMatrix, MatrixOrArray
from .matrices.requirements import require_point
from .metrics import Metric
from .validation import Array

__all__ = ["Separation", "follow_margin", "least_margin"]

_LONGEST = 1e9  # normalised time at most: no run gets there
_STATIONARY = 1e-6  # ||P_T grad ln L|| ||W||, a pure number, at which a minimiser is taken for reached


@dataclass(frozen=True)
class Separation:
    """A flow in normalised time, and what it does instead of converging.

    Attributes
    ----------
    tau : ndarray
        Normalised time, d tau = L dt.
    loss : ndarray
        L(W).
    norm : ndarray
        Frobenius norm of W.
    margin : ndarray
        Least margin of a sample over the Frobenius norm; positive where all samples are classified.
    alignment : ndarray
        Cosine of the angle between W and its velocity -A_W(grad L): 1 where only the norm still grows.
    effective_rank : ndarray
        Nuclear over spectral norm of W.
    path : Trajectory
        The flow itself; its loss is ln L, its time tau.
    """

    tau: Array
    loss: Array
    norm: Array
    margin: Array
    alignment: Array
    effective_rank: Array
    path: Trajectory

    @property
    def separable(self) -> bool:
        """Whether the last W classifies every sample: then the logistic and the softmax loss have no minimiser."""
        return bool(self.margin[-1] > 0)


def least_margin(loss: Loss, w: MatrixOrArray) -> float:
    """Return the least margin of a sample at W, unnormalised.

    Parameters
    ----------
    loss : Loss
        One with ``margins(w)``: `Measured` with `Logistic` or `Softmax`, or your own.
    w : LowRankMatrix, Product, LinearNetwork or array, (m, n)
        Where.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If the loss has no margins.
    """
    margins = facts(loss).margins
    if margins is None:
        raise TypeError(
            f"`loss` must have margins(w), got {validation.describe(loss)}. Use Measured with Logistic or Softmax."
        )
    return float(np.min(margins(w)))


def follow_margin(
    loss: Loss,
    start: LowRankMatrix,
    metric: Metric,
    *,
    loss_end: float = 1e-6,
    rtol: float = 1e-6,
    max_evaluations: int = 20_000,
    callback: Callable[[Step], None] | None = None,
) -> Separation:
    r"""Follow a classification loss in normalised time until it has fallen far enough, or has come to rest.

    Parameters
    ----------
    loss : Loss
        Positive, with ``margins(w)``.
    start : LowRankMatrix, (m, n) of rank k
        W(0).
    metric : Metric
        For instance ``DepthMetric(3)``.
    loss_end : float
        The value of the loss, relative to that at the start, at which to stop.
    rtol : float
        Tolerance of the flow.
    max_evaluations : int
        Budget of gradients.
    callback : callable, optional
        Called with a `Step` after every step; its time is tau, the flow time of ln L. What it raises ends the run.

    Returns
    -------
    Separation
        ``separable`` says whether a W was found that classifies every sample.

    Raises
    ------
    ValueError, TypeError
        If the loss has no margins or an argument breaks its rule.

    References
    ----------
    .. [1] Z. Ji, M. Telgarsky, Gradient descent aligns the layers of deep linear networks, ICLR 2019.
    .. [2] K. Lyu, J. Li, Gradient descent maximizes the margin of homogeneous neural networks, ICLR 2020.
    """
    require_point("start", start)
    least_margin(loss, start)
    end = validation.require_number("loss_end", loss_end)
    if end >= 1:
        raise ValueError(f"`loss_end` must be below 1, a share of the loss at the start, got {end:g}.")
    followed = Logarithm(loss)
    level = followed.value(start) + np.log(end)

    def at_rest(tau: float, w: LowRankMatrix) -> float:
        return projected(w, followed.gradient(w)).norm() * w.norm() - _STATIONARY

    events = [
        Event("loss", lambda tau, w: followed.value(w) - level, terminal=True, direction=-1),
        Event("at rest", at_rest, terminal=True, direction=-1),
    ]
    path = integrate(
        RiemannianFlow(followed, metric), start, t_span=(0.0, _LONGEST), rtol=rtol, events=events, method="auto",
        max_evaluations=max_evaluations, callback=callback,
    )  # fmt: skip
    if path.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    rows = [_row(loss, w, metric) for w in path.points]
    norm, margin, alignment, rank = (np.array(column) for column in zip(*rows, strict=True))
    return Separation(path.t, np.exp(path.loss), norm, margin, alignment, rank, path)


def _row(loss: Loss, w: LowRankMatrix, metric: Metric) -> tuple[float, float, float, float]:
    """Return the norm, the margin over it, the cosine of W and its velocity, and the effective rank."""
    norm, velocity = w.norm(), -riemannian_gradient(w, loss.gradient(w), metric)
    pairing = float(w.s @ np.diag(velocity.core))
    alignment = pairing / (norm * (velocity.norm() or 1.0))
    return norm, least_margin(loss, w) / norm, alignment, float(w.s.sum() / w.s.max())
