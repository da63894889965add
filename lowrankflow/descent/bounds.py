"""The step of gradient descent that theory admits, from the data and the start."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.optimize import minimize_scalar

from .. import validation
from ..losses import LeastSquares, facts
from ..losses.requirements import require_loss
from ..matrices import LinearNetwork, Matrix
from ..matrices.requirements import require_network
from ..validation import Array

__all__ = ["StepBound", "step_bound"]


@dataclass(frozen=True)
class StepBound:
    r"""What `step_bound` returns: the constants of the theorem, and the largest step that they admit.

    Attributes
    ----------
    step : float
        :math:`\min\{2(1-\sigma)/B,\; \sigma(\delta - \delta_0)/L_0\}`; at most that, constant or not, with a sum that diverges.
    delta, start_imbalance : float
        delta, which no :math:`\|D_j\|_2` exceeds, and delta_0 = alpha delta, the largest at the start; units of W_j squared.
    sigma : float
        The share of the decrease that is guaranteed: :math:`L(k+1) \le L(k) - \sigma h_k \|\nabla L(k)\|^2`.
    product : float
        M, which no :math:`\|W(k)\|_2` exceeds.
    factor : float
        :math:`K = M^{2/N} + N(N-1)\delta/2`, which no :math:`\|W_j(k)\|_2^2` exceeds.
    curvature : float
        :math:`B = 2eN K^{N-1} \|X\|^2 + \sqrt e N K^{N/2-1} \|X Y^T\|`, which bounds the Hessian along every update.
    excess : float
        L_0: the loss at the start less its least value without a constraint on the rank.
    """

    step: float
    delta: float
    start_imbalance: float
    sigma: float
    product: float
    factor: float
    curvature: float
    excess: float

    @property
    def alpha(self) -> float:
        """delta_0 / delta: how much of the imbalance that is allowed the start uses up."""
        return self.start_imbalance / self.delta if self.delta else 0.0


@validation.quietly
def step_bound(
    loss: LeastSquares, net: LinearNetwork, *, delta: float | None = None, sigma: float | None = None
) -> StepBound:
    r"""Return the step for which gradient descent is proved to converge to a critical point.

    With :math:`K = M^{2/N} + N(N-1)\delta/2`, :math:`M = (\sqrt{2 L_0} + \|Y\|)/\sigma_{\min}(X)` and
    :math:`B = 2eN K^{N-1} \|X\|^2 + \sqrt e N K^{N/2-1} \|X Y^T\|`, steps
    :math:`h_k \le \min\{2(1-\sigma)/B,\; \sigma(\delta-\delta_0)/L_0\}` keep :math:`\|W_j\|^2 \le K`, :math:`\|D_j\| \le \delta`
    and give :math:`L(k+1) \le L(k) - \sigma h_k \|\nabla L\|^2`; if their sum diverges, the factors converge to a critical point.
    Given sigma, the two terms are equal at the best delta, and the other way round:
    :math:`1/h = B(\delta)/2 + L_0/(\delta - \delta_0)`, which is minimised over delta.

    Parameters
    ----------
    loss : LeastSquares
        Of inputs with full row rank, in its own normalisation.
    net : LinearNetwork, (m, n)
        The start, balanced or not.
    delta : float, optional
        Largest imbalance that is allowed on the way, above that of the start. None: the best.
    sigma : float, optional
        Share of the decrease, between 0 and 1. None: the best.

    Returns
    -------
    StepBound

    Raises
    ------
    ValueError, TypeError
        If the loss is not the square loss, the inputs do not have full row rank, or an argument breaks its rule.

    Notes
    -----
    Y stands for its part in the row space of X, and the loss for what exceeds its least value: descent is the same, and
    the theorem holds for that problem too. Beyond the step nothing is claimed: how far the loss was seen to fall is in
    docs/theory.md#step-sizes.

    References
    ----------
    The theorem is that of G. M. Nguegnang, H. Rauhut, U. Terstiege, Convergence of gradient descent for learning linear neural
    networks, Advances in Continuous and Discrete Models 2024:23. Its constants are reconstructed here with a proof
    (docs/theory.md#step-sizes), not copied: the form of K is ours, and sharper than the recalled one.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    >>> start = lrf.random_point(3, 3, 2, rng=0, singular_values=[0.5, 0.5])
    >>> bound = step_bound(loss, lrf.LinearNetwork.balanced(start, 2))
    >>> round(bound.step, 5), bound.step < 2 / (2 * 3.0)
    (0.01815, True)
    """
    require_loss(loss)
    spectrum = facts(loss).spectrum
    if spectrum is None:
        raise ValueError(
            f"`loss` must be the square loss, for which the theorem is, got {type(loss).__name__}. Use LeastSquares,"
            " loss least-squares at the command line."
        )
    require_network("net", net)
    validation.require_shape("net", net.shape, loss.shape)
    if spectrum.eigenvalues.size < loss.shape[1]:
        raise ValueError(
            f"`loss` must have inputs of full row rank, got rank {spectrum.eigenvalues.size} of {loss.shape[1]}."
            " Reduce them to their range, as --preprocess range does."
        )
    start = net.imbalance()
    if sigma is not None and not 0 < validation.require_number("sigma", sigma) < 1:
        raise ValueError(f"`sigma` must lie between 0 and 1, got {sigma:g}.")
    if delta is not None and not validation.require_number("delta", delta) > start:
        raise ValueError(f"`delta` must exceed the imbalance of the start, {start:.4g}, got {delta:g}.")
    n = net.depth
    target, smallest, largest = float(spectrum.sigma[0]), *np.sqrt(spectrum.eigenvalues[[-1, 0]])
    cross = float(linalg.norm((spectrum.u * spectrum.sigma) @ (spectrum.vt * np.sqrt(spectrum.eigenvalues)), 2))
    # as a square: a difference of losses would lose its digits near the minimum
    excess = 0.5 * float(linalg.norm(whitened_residual(loss, net))) ** 2
    product = float((math.sqrt(2 * excess) + target) / smallest)
    unit = product ** (2 / n) or 1.0  # K without imbalance

    def factor(d: float) -> float:
        return float(product ** (2 / n) + n * (n - 1) / 2 * d)

    def curvature(d: float) -> float:
        k = factor(d)
        return float(2 * math.e * n * k ** (n - 1) * largest**2 + math.sqrt(math.e) * n * k ** (n / 2 - 1) * cross)

    def inverse(room: float) -> float:
        """1 / h at the best sigma for delta = delta_0 + room, or at the one that is given."""
        first, second = curvature(start + room) / 2, excess / room
        return first + second if sigma is None else max(first / (1 - sigma), second / sigma)

    if delta is None:
        # the best lies where the second term has the size of the first, which grows beyond unit / N^3
        # and is no less than a millionth of the start's own imbalance, which changes B by as little
        least = max(-60.0, math.log(1e-6 * start / unit)) if start > 0 else -60.0
        found = minimize_scalar(
            lambda x: math.log(inverse(unit * math.exp(x))), bounds=(least, max(10.0, least + 20.0)), method="bounded",
            options={"xatol": 1e-10},
        )  # fmt: skip
        delta = start + unit * math.exp(found.x)
    if sigma is None:
        first, second = curvature(delta) / 2, excess / (delta - start)
        sigma = second / (first + second) if second > 0 else 0.5
    step = 1 / max(curvature(delta) / 2 / (1 - sigma), excess / (delta - start) / sigma)
    return StepBound(step, delta, start, sigma, product, factor(delta), curvature(delta), excess)


def whitened_residual(loss: LeastSquares, w: Matrix) -> Array:
    """Return B - Q, (m, q), the residual in whitened coordinates: half of its square is the loss less its least value."""
    spectrum, b = loss.spectrum, loss.whiten(w)
    return np.asarray(b.left @ b.right - (spectrum.u * spectrum.sigma) @ spectrum.vt)
