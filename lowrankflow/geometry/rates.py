r"""How fast the loss falls at least: Polyak-Lojasiewicz rates of factors, at a point and for a whole run.

For a square loss :math:`\|\nabla L(W)\|_F^2 \ge 2 \mu (L - L_*)`, mu the least positive eigenvalue of :math:`X X^T` and L_* the
least value of all matrices. Under the factor flow :math:`-L' = \langle G, K G \rangle`, so that a lower bound of the kernel
times 2 mu is one of the rate :math:`-L' / (L - L_*)`. Where a bound says nothing it is 0.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import linalg

from .. import validation
from ..gradients import factor_gradients, squared_norm
from ..kernels import tangent_kernel
from ..losses import Loss, facts
from ..losses.least_squares import Spectrum
from ..losses.requirements import require_loss
from ..matrices import LinearNetwork
from ..matrices.requirements import require_network
from ..validation import Array

__all__ = ["SOURCES", "decay_rate", "imbalance_rate", "kernel_rate", "margin_rate"]

_BALANCED = 1e-10  #: relative imbalance up to which factors are taken for balanced

#: where each of the rates comes from
SOURCES = {
    "decay_rate": "the definition",
    "kernel_rate": "derived here: the least eigenvalue of a sum is at least the sum of the least",
    "imbalance_rate": "derived here, for any widths; two layers with imbalance as in S. Tarmoun et al., ICML 2021, whose form"
    " for unequal widths could not be confirmed and is not used",
    "margin_rate": "derived here: the flow's version, for any shape, of the deficiency margin of S. Arora, N. Cohen,"
    " N. Golowich, W. Hu, arXiv:1810.02281",
}


def decay_rate(loss: Loss, net: LinearNetwork) -> float:
    r"""Return the rate at which the loss comes down to its least value under the factor flow, :math:`-L' / (L - L_*)`.

    Parameters
    ----------
    loss : Loss
        A square loss, one with a ``spectrum``.
    net : LinearNetwork, (m, n)

    Returns
    -------
    float
        In 1 / flow time; nan where the loss is least.

    Raises
    ------
    ValueError, TypeError
        If the loss is no square loss, or the shapes differ.
    """
    spectrum = _spectrum(loss, net)
    residual = loss.whiten(net).to_dense() - (spectrum.u * spectrum.sigma) @ spectrum.vt  # type: ignore[attr-defined]
    gap = 0.5 * float(np.vdot(residual, residual))  # L - L_*, without the cancellation
    return squared_norm(factor_gradients(loss, net)) / gap if gap > 0 else math.nan


def kernel_rate(loss: Loss, net: LinearNetwork) -> float:
    r"""Return a lower bound of `decay_rate` for factors of any depth, balanced or not:

    .. math:: 2 \mu \sum_{j=1}^N \sigma_{\min}^2(W_N \cdots W_{j+1})\, \sigma_{\min}^2(W_{j-1} \cdots W_1),

    where sigma_min of an (a, b) matrix with b < a is 0.

    Parameters
    ----------
    loss : Loss
        A square loss, one with a ``spectrum``.
    net : LinearNetwork, (m, n)

    Returns
    -------
    float
        In 1 / flow time, non-negative.

    Raises
    ------
    ValueError, TypeError
        As `decay_rate`.
    """
    mu = float(_spectrum(loss, net).eigenvalues[-1])
    terms = tangent_kernel(net).terms
    return 2 * mu * float(sum(_least(p) * _least(r) for p, r in terms))


def imbalance_rate(loss: Loss, net: LinearNetwork) -> float:
    r"""Return a lower bound of `decay_rate` for two layers that knows W and the imbalance alone.

    With :math:`D = W_2^T W_2 - W_1 W_1^T`, h its size, and :math:`\sigma_k(W) = 0` for k > min(m, n),

    .. math:: 2 \mu \big[\, b(\lambda_{\min}(D), \sigma_m(W)) + b(\lambda_{\min}(-D), \sigma_n(W)) \,\big], \qquad
              b(l, \sigma) = \tfrac12 \big( l + \sqrt{l^2 + 4 \sigma^2} \big),

    the first b left out where h < m, the second where h < n. The flow keeps D.

    Parameters
    ----------
    loss : Loss
        A square loss, one with a ``spectrum``.
    net : LinearNetwork, (m, n)

    Returns
    -------
    float
        In 1 / flow time, non-negative; 0 of another depth.

    Raises
    ------
    ValueError, TypeError
        As `decay_rate`.

    Notes
    -----
    For x with :math:`W_2 W_2^T x = p x` and p least, :math:`\sigma_m^2 \le x^T W W^T x = p^2 - (W_2^T x)^T D (W_2^T x)
    \le p^2 - \lambda_{\min}(D)\, p`.
    """
    spectrum = _spectrum(loss, net)
    if net.depth != 2:
        return 0.0
    s = np.linalg.svd(net.to_dense(), compute_uv=False)
    return 2 * float(spectrum.eigenvalues[-1]) * _two_layers(net, float(s[-1]))


def margin_rate(loss: Loss, net: LinearNetwork) -> float:
    r"""Return a rate r with :math:`L(t) - L_* \le (L(0) - L_*)\, e^{-r t}` for the whole flow of factors from here.

    The distance to the minimiser falls, so with the deficiency margin :math:`c \sqrt{\lambda_1} = \sigma_{\min}(Q) -
    \|B - Q\|_F` of the whitened B and Q (`losses.Loss`) and the largest eigenvalue :math:`\lambda_1` of :math:`X X^T`, no
    singular value of W falls below c. Then

    - of N balanced factors :math:`r = 2 \mu N c^{2 - 2/N}` for square W, :math:`2 \mu c^{2 - 2/N}` for another;
    - of two others `imbalance_rate` with c for the least singular value of W.

    Parameters
    ----------
    loss : Loss
        A square loss with inputs of full rank.
    net : LinearNetwork, (m, n)
        The start.

    Returns
    -------
    float
        In 1 / flow time; 0 where c <= 0 and the imbalance does not help, or where neither case applies.

    Raises
    ------
    ValueError, TypeError
        As `decay_rate`.
    """
    spectrum = _spectrum(loss, net)
    m, n = net.shape
    if spectrum.eigenvalues.size < n:
        return 0.0
    residual = loss.whiten(net).to_dense() - (spectrum.u * spectrum.sigma) @ spectrum.vt  # type: ignore[attr-defined]
    margin = float(spectrum.sigma[min(m, n) - 1]) - float(linalg.norm(residual))
    c = max(margin, 0.0) / math.sqrt(float(spectrum.eigenvalues[0]))
    mu, depth = float(spectrum.eigenvalues[-1]), net.depth
    if depth == 2:
        return 2 * mu * _two_layers(net, c)
    if net.relative_imbalance() > _BALANCED or c == 0:
        return 0.0
    return 2 * mu * (depth if m == n else 1) * c ** (2 - 2 / depth)


def _two_layers(net: LinearNetwork, least: float) -> float:
    """Return the bound of the kernel for two layers whose product has `least` as its min(m, n)-th singular value."""
    (m, n), h = net.shape, net.widths[0]
    values = np.asarray(linalg.eigvalsh(net.imbalances()[0]))
    total = 0.0
    for size, other, low in ((m, n, float(values[0])), (n, m, -float(values[-1]))):
        sigma = least if size <= other else 0.0
        if h >= size:  # else the kernel of the factor is not trivial
            q = math.hypot(low, 2 * sigma)
            # the difference of two numbers that are close is sigma^2 over their sum
            total += (low + q) / 2 if low >= 0 else 2 * sigma * sigma / (q - low)
    return total


def _least(gram: Array) -> float:
    """Return the least eigenvalue of a positive semidefinite matrix, 0 where it is roundoff."""
    values = linalg.eigvalsh(gram)
    return float(values[0]) if values[0] > len(values) * np.finfo(np.float64).eps * values[-1] else 0.0


def _spectrum(loss: Loss, net: LinearNetwork) -> Spectrum:
    """Return the spectrum of a square loss of the network's shape."""
    require_loss(loss)
    require_network("net", net)
    validation.require_shape("net", net.shape, loss.shape)
    said = facts(loss)
    if said.spectrum is None or said.whiten is None:
        raise ValueError(f"`loss` must be a square loss with a spectrum, got {type(loss).__name__}. Use LeastSquares.")
    return said.spectrum
