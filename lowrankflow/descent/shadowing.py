"""How far descent is from the flow: a bound that is computed along with it, and proved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from .. import validation
from ..geometry import factor_hessian, join_directions
from ..gradients import pulled_back, squared_norm
from ..losses import LeastSquares, facts
from ..losses.requirements import require_loss
from ..matrices import LinearNetwork
from ..matrices.requirements import require_network
from ..validation import Array
from .bounds import whitened_residual
from .steps import StepSize, require_step_size

__all__ = ["Certificate", "certificate"]

DENSE = 200  # parameters up to which the whole spectrum of the Hessian is computed


@dataclass(frozen=True, eq=False)
class Certificate:
    """What `certificate` returns; shorter than was asked for where the iterates left the finite numbers, or at Ctrl-C.

    Attributes
    ----------
    t : ndarray, (K + 1,)
        Flow time of the iterates: the sum of the steps.
    bound : ndarray, (K + 1,)
        No iterate is farther from the flow at that time, in the Frobenius norm of all factors together. Infinite from where the
        argument no longer closes: the step is too long for it.
    networks : sequence of LinearNetwork
        The iterates.
    interrupted : bool
        Whether Ctrl-C ended it.
    """

    t: Array
    bound: Array
    networks: Sequence[LinearNetwork]
    interrupted: bool = False


@validation.quietly
def certificate(loss: LeastSquares, net: LinearNetwork, *, step_size: StepSize, steps: int) -> Certificate:
    r"""Run gradient descent, and bound its distance to the flow of the factors from the same start, step by step.

    With e_k the bound after k updates, and H the Hessian of the loss of the factors,

    .. math:: e_{k+1} = \max_{|y - x_k| \le e_k} \|I - h H(y)\|\, e_k
              + \tfrac{h^2}{2} \max_{|y - x_k| \le d_k} \|H(y) \nabla L(y)\|,

    where the ball of radius d_k holds the flow during that step. H and its product with the gradient are computed at
    x_k, and change within the balls by no more than a bound of the third derivative allows.

    Parameters
    ----------
    loss : LeastSquares
        In its own normalisation.
    net : LinearNetwork, (m, n)
        The start of both.
    step_size : float or callable
        h, or a schedule ``step_size(k) -> h_k``.
    steps : int
        Number of updates.

    Returns
    -------
    Certificate

    Raises
    ------
    ValueError, TypeError
        If the loss is not the square loss, or an argument breaks its rule.

    Notes
    -----
    Up to 200 parameters the spectrum of H is that of the dense Hessian; beyond, the bounds
    :math:`-(N-1) q \|G\| \le H \le \lambda_1 \sum_j p_j^2 + (N-1) q \|G\|` stand for it, with p_j the product of the norms of the
    factors but W_j, and q the largest product of N - 2 of them. They are larger, and so is the bound.

    References
    ----------
    In the manner of O. Elkabetz, N. Cohen, Continuous vs. discrete optimization of deep neural networks, NeurIPS 2021; the
    bound of the third derivative and the recursion are derived in docs/theory.md#descent-beside-the-flow.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(2), np.diag([2.0, 1.0]))
    >>> net = lrf.LinearNetwork.identity((2, 2), 2, widths=2)
    >>> found = certificate(loss, net, step_size=1e-3, steps=1000)
    >>> flow = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 1.0), rtol=1e-11)
    >>> away = np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(flow.points[-1].factors, found.networks[-1].factors)))
    >>> bool(away < found.bound[-1] < 5e-3)
    True
    """
    require_loss(loss)
    if facts(loss).spectrum is None:
        raise ValueError(f"`loss` must be the square loss, whose derivatives are bounded, got {type(loss).__name__}.")
    require_network("net", net)
    validation.require_shape("net", net.shape, loss.shape)
    steps = validation.require_integer("steps", steps, low=1)
    constant = require_step_size(step_size)
    if constant is None and not callable(step_size):
        raise TypeError("`step_size` must be a number or a schedule here, got a rule that looks at the network.")
    t, e, rows, interrupted = 0.0, 0.0, [(0.0, 0.0, net)], False
    try:
        for k in range(steps):
            h = constant if constant is not None else validation.require_number("step_size(k)", step_size(k))  # type: ignore[operator]
            with np.errstate(over="ignore", invalid="ignore"):
                egrads = pulled_back(net, loss.gradient(net))
                e = _grown(loss, net, egrads, h, e) if math.isfinite(e) else math.inf
                net = LinearNetwork._trusted([f - h * g for f, g in zip(net.factors, egrads, strict=True)])
                if not np.isfinite(squared_norm(net.factors)):
                    break
            t = (k + 1) * h if constant is not None else t + h
            rows.append((t, e, net))
    except KeyboardInterrupt:
        interrupted = True
    times, bounds, networks = zip(*rows, strict=True)
    return Certificate(np.array(times), np.array(bounds), networks, interrupted)


def _grown(loss: LeastSquares, net: LinearNetwork, egrads: Sequence[Array], h: float, e: float) -> float:
    """Return the bound after one more step; infinite where the flow may leave the ball during it."""
    low, high, turned = _spectrum(loss, net, egrads)
    norm, slope = max(high, -low), math.sqrt(squared_norm(egrads))
    # a ball of twice the radius that the flow would need if the gradient were constant in it, and what that leaves
    d = 2 * (e + h * slope)
    third = _third(loss, net, d)
    steepest = slope + (norm + third * d) * d
    if not e + h * steepest <= d:
        return math.inf
    contraction = max(abs(1 - h * (low - third * e)), abs(1 - h * (high + third * e)))
    change = third * d * steepest + norm * (norm + third * d) * d
    return contraction * e + h * h / 2 * (turned + change)


def _spectrum(loss: LeastSquares, net: LinearNetwork, egrads: Sequence[Array]) -> tuple[float, float, float]:
    """Return bounds of the spectrum of H, and ||H grad L||."""
    hessian = factor_hessian(loss, net, exact=True)
    turned = float(np.linalg.norm(hessian @ join_directions(egrads)))
    size = hessian.shape[0]
    if size <= DENSE:
        dense = hessian @ np.eye(size)
        values = linalg.eigvalsh((dense + dense.T) / 2, check_finite=False)
        return float(values[0]), float(values[-1]), turned
    norms = np.sort([linalg.norm(f, 2, check_finite=False) for f in net.factors])
    others = [np.delete(norms, j).prod() for j in range(norms.size)]
    crossed = (norms.size - 1) * norms[2:].prod() * _residual(loss, net)
    return -float(crossed), float(loss.curvature * np.vdot(others, others) + crossed), turned


def _residual(loss: LeastSquares, net: LinearNetwork) -> float:
    """Return ||G||_F, G = (W X - Y) X^T, in the coordinates in which X X^T is diagonal."""
    return float(linalg.norm(whitened_residual(loss, net) * np.sqrt(loss.spectrum.eigenvalues)))


def _third(loss: LeastSquares, net: LinearNetwork, radius: float) -> float:
    r"""Return a bound of the third derivative of the loss of the factors within a radius.

    Along a unit direction V, with v_j = ||V_j||_F and a no less than any ||W_j||_2 in the ball,
    ||P'|| <= sqrt(N) a^{N-1}, ||P''|| <= (N-1) a^{N-2}, ||P'''|| <= 6 C(N, 3) N^{-3/2} a^{N-3}, the largest values of the
    elementary symmetric functions of v on the unit sphere; L''' = 3 <P' X, P'' X> + <(P X - Y) X^T, P'''>, and a symmetric
    form is no larger than on its diagonal.
    """
    n = net.depth
    a = max(float(linalg.norm(f, 2, check_finite=False)) for f in net.factors) + radius
    residual = _residual(loss, net) + radius * math.sqrt(n) * a ** (n - 1) * loss.curvature
    third = 6 * math.comb(n, 3) * n**-1.5 * a ** max(n - 3, 0)
    return 3 * math.sqrt(n) * (n - 1) * a ** (2 * n - 3) * loss.curvature + residual * third
