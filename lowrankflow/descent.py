"""Gradient descent on the factors: what people run, and Euler's method for the factor flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse.linalg import eigsh

from . import validation
from .flow import Status, Step, Trajectory
from .geometry import factor_hessian
from .gradients import factor_gradients, product_retraction, pullback, squared_norm
from .losses import Loss
from .losses.requirements import require_loss
from .matrices import LinearNetwork, singular_values
from .matrices.requirements import require_network
from .validation import Array

__all__ = ["DescentDiverged", "gradient_descent", "sharpness"]


class DescentDiverged(ValueError):
    """The step was too large. `trajectory` holds the iterates kept before the first that is not finite."""

    def __init__(self, message: str, trajectory: Trajectory) -> None:
        super().__init__(message)
        self.trajectory = trajectory

    def __reduce__(self) -> tuple[Any, ...]:
        # from the message alone, as exceptions are copied by default, it cannot be made: a pool would wait for it for ever
        return type(self), (*self.args, self.trajectory), vars(self)


@validation.renamed(every="keep_every")
def gradient_descent(
    loss: Loss,
    net: LinearNetwork,
    *,
    step_size: float | Callable[[int], float],
    steps: int,
    keep_every: int | None = None,
    callback: Callable[[Step], None] | None = None,
) -> Trajectory:
    r"""Run exactly `steps` updates of gradient descent on the factors.

    .. math:: W_j \leftarrow W_j - h_k\, \nabla_{W_j} L(W_N \cdots W_1), \qquad j = 1 .. N \text{ at once}.

    Parameters
    ----------
    loss : Loss
        In its own normalisation; the step is in units of flow time.
    net : LinearNetwork, (m, n)
        The start, balanced or not.
    step_size : float or callable
        The step h (the learning rate), or a schedule ``step_size(k) -> h_k`` for the update k = 0, 1, ...
    steps : int
        Number of updates, at least 1.
    keep_every : int, optional
        Updates between two iterates that are kept; None: about one hundred are. The first and the last always are.
    callback : callable, optional
        Called with a `Step` at every kept iterate; what it raises ends the run, a KeyboardInterrupt as Ctrl-C does.

    Returns
    -------
    Trajectory
        ``t`` is the sum of the steps so far; ``points`` are networks; ``nsteps`` the updates made. A
        KeyboardInterrupt ends it early with status INTERRUPTED.

    Raises
    ------
    DescentDiverged
        A ValueError: the iterates are no longer finite. Linear stability needs h < 2 / `sharpness`.
    ValueError, TypeError
        If an argument breaks its rule.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(2), np.diag([2.0, 1.0]))
    >>> path = lrf.gradient_descent(loss, lrf.LinearNetwork.identity((2, 2), 2, widths=2), step_size=0.1, steps=200)
    >>> path.nsteps, path.singular_values[-1].round(6).tolist()
    (200, [2.0, 1.0])
    """
    steps = validation.require_integer("steps", steps, low=1)
    keep_every = (
        max(1, steps // 100) if keep_every is None else validation.require_integer("keep_every", keep_every, low=1)
    )
    constant = None if callable(step_size) else validation.require_number("step_size", step_size)
    require_network("net", net)
    validation.require_callable("callback", callback)
    egrads = factor_gradients(loss, net)  # checks loss and shapes
    if not (np.isfinite(squared_norm(egrads)) and np.isfinite(loss.value(net))):
        raise ValueError(
            "`loss` must be finite at the start, got a value or gradient that is not. Start elsewhere or nearer."
        )
    t, t_end = 0.0, steps * constant if constant is not None else np.nan
    rows: list[tuple[float, float, Array, float]] = []
    points: list[LinearNetwork] = []

    def keep() -> None:
        rows.append((t, float(loss.value(net)), singular_values(net), float(np.sqrt(squared_norm(egrads)))))
        points.append(net)

    def trajectory(status: Status, k: int) -> Trajectory:
        times, values, s, norms = (np.array(c) for c in zip(*rows, strict=True))
        reason = "All updates were made." if status is Status.FINISHED else status.value
        message = f"{reason} {k} of {steps} updates."
        return Trajectory(times, values, s, norms, points, status, message, nfev=k + 1, nsteps=k)

    keep()
    k = 0
    try:
        for k in range(steps):
            h = constant if constant is not None else validation.require_number("step_size(k)", step_size(k))  # type: ignore[operator]
            with np.errstate(over="ignore", invalid="ignore"):
                net = product_retraction(net, [-h * g for g in egrads])
                egrads = pullback(net, loss.gradient(net))
                size = squared_norm(egrads)
            if not np.isfinite(size):
                raise DescentDiverged(
                    f"`step_size` must be small enough for descent to stay bounded, got {h:g}: it diverged at"
                    f" update {k + 1} of {steps}. Use less than 2 / sharpness(loss, net).",
                    trajectory(Status.NOT_FINITE, k),
                )
            t = (k + 1) * h if constant is not None else t + h
            if (k + 1) % keep_every == 0 or k + 1 == steps:
                keep()
                if callback is not None:
                    callback(Step(t, t_end, k + 2, rows[-1][3]))
    except KeyboardInterrupt:
        return trajectory(Status.INTERRUPTED, k)
    return trajectory(Status.FINISHED, steps)


def sharpness(loss: Loss, net: LinearNetwork, *, tol: float = 1e-3) -> float:
    r"""Return the largest eigenvalue of the Hessian of the loss with respect to all factors.

    At a balanced minimiser of the square loss among the matrices of a rank, with inputs of full rank, it is at most
    :math:`N \lambda_1 \sigma_1^{2-2/N}`, sigma_1 of W: equal where the inputs are isotropic, or where the residual is zero
    and the top right singular vector of W is the top eigenvector of :math:`X X^T`. Gradient descent is linearly stable
    there if h < 2 / sharpness.

    Parameters
    ----------
    loss : Loss
        In its own normalisation.
    net : LinearNetwork
        Where.
    tol : float
        Relative accuracy of the Lanczos iteration.

    Returns
    -------
    float

    Notes
    -----
    Lanczos on central differences of the factor gradients, two gradients a product, from a fixed start
    vector; no second derivative of the loss is needed.
    """
    require_network("net", net)
    tol = validation.require_number("tol", tol)
    require_loss(loss)
    validation.require_shape("net", net.shape, loss.shape)
    hessian = factor_hessian(loss, net, exact=False)
    size = hessian.shape[0]
    if size < 3:
        return float(np.linalg.eigvalsh(hessian @ np.eye(size))[-1])
    if not (hessian @ np.ones(size)).any() and not (hessian @ np.arange(1.0, size + 1)).any():
        return 0.0  # a loss that is flat or linear here; Lanczos has nothing to start from
    start = np.random.default_rng(0).standard_normal(size)  # fixed: the answer must not vary between calls
    return float(eigsh(hessian, k=1, which="LA", tol=tol, v0=start, return_eigenvectors=False)[0])
