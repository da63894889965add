"""Two layers whose imbalance is a multiple of the identity: a matrix Riccati equation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg

from .. import validation
from ..kernels import TangentKernel
from ..losses import LeastSquares, Loss, facts
from ..losses.requirements import require_loss
from ..matrices import LinearNetwork
from ..matrices.requirements import require_network
from ..validation import Array
from .requirements import require_times
from .riccati import riccati_factors

__all__ = ["Blocks", "TwoLayer", "two_layer"]

_TOLERANCE = (
    1e-10  #: of what is not white, and of an imbalance that is no multiple of the identity; W is off by as much
)


class Blocks(NamedTuple):
    """The blocks of R = Q Q^T, Q = [W_1^T; W_2]: all that a rotation of the hidden layer leaves of the factors.

    Of a vector of times each has one axis more, the first.
    """

    w: Array  #: W_2 W_1, (m, n)
    first: Array  #: W_1^T W_1, (n, n)
    second: Array  #: W_2 W_2^T, (m, m)


class TwoLayer:
    r"""The flow of two factors on the square loss of white inputs in closed form, a function of flow time.

    If :math:`W_2^T W_2 - W_1 W_1^T = \lambda I`, which the flow keeps, and :math:`L(W) = \tfrac c2 \|W - Y\|_F^2` plus a
    constant, then :math:`R = Q Q^T` with :math:`Q = [W_1^T; W_2]` follows a matrix Riccati equation; with time in 1 / c

    .. math:: R' = F R + R F - R^2, \qquad
              F = \begin{bmatrix} -\tfrac\lambda2 I & Y^T \\ Y & \tfrac\lambda2 I \end{bmatrix}, \qquad
              R(t) = e^{F t} Q_0 \Big[ I + Q_0^T \int_0^t e^{2 F s} ds\, Q_0 \Big]^{-1} Q_0^T e^{F t} .

    Parameters
    ----------
    loss : Loss
        A square loss whose inputs are white, :math:`X X^T = c I` (its ``spectrum`` says so); `LeastSquares` of a sum or a
        mean, shifted or not.
    network : LinearNetwork of depth 2
        The start, of any widths; aligned with the target or not. ``LinearNetwork.balanced(w, 2, imbalances=[lambda])``
        makes one. A hidden layer of width 1 always has such an imbalance.

    Attributes
    ----------
    target : ndarray, (m, n)
        Y, the minimiser.
    imbalance : float
        lambda.
    curvature : float
        c.

    Raises
    ------
    ValueError, TypeError
        If the inputs are not white to 1e-10, the network is not one of two factors whose imbalance is a multiple of the
        identity to 1e-10, or the shapes differ.

    Notes
    -----
    Nothing is inverted that can be singular, and nothing overflows: any time may be asked for, by itself. Cost: once the
    eigenvectors of an (m + n) matrix, then O((m + n)(m + n + h) h) a time, h the hidden width; many times at once.

    References
    ----------
    .. [1] K. Fukumizu, Effect of batch learning in multilayer neural networks, ICONIP 1998 (balanced).
    .. [2] C. Domine et al., From lazy to rich: exact learning dynamics in deep linear networks, arXiv:2409.14623.
       The form given here, without conditions on Y and the widths, is derived here.

    Examples
    --------
    >>> loss = LeastSquares(np.eye(2), [[0.0, 0.0], [2.0, 0.0]])
    >>> net = LinearNetwork([[[1e-3, 0.0]], [[0.6e-3], [0.8e-3]]])
    >>> solution = TwoLayer(loss, net)
    >>> solution([0.0, 3.0, 1e9]).round(6)[:, 1, 0].tolist()
    [1e-06, 0.123679, 2.0]
    >>> solution.loss([0.0, 1e9]).round(6).tolist()
    [1.999998, 0.0]
    """

    def __init__(self, loss: Loss, network: LinearNetwork) -> None:
        require_loss(loss)
        require_network("network", network)
        if network.depth != 2:
            raise ValueError(
                f"`network` must have 2 factors, got {network.depth}. See lowrankflow.exact.modes for others."
            )
        validation.require_shape("network", network.shape, loss.shape)
        self.curvature, self._floor = _white(loss)
        m, n = network.shape
        # where W = 0 the gradient is -c Y
        self.target = validation.read_only(np.asarray(loss.gradient(np.zeros((m, n))) @ np.eye(n)) / -self.curvature)
        self.imbalance = _multiple_of_identity(network)
        half = self.imbalance / 2
        f = np.block([[-half * np.eye(n), self.target.T], [self.target, half * np.eye(m)]])
        self._eigenvalues, self._vectors = linalg.eigh(f)
        self._start = self._vectors.T @ np.vstack([network.factors[0].T, network.factors[1]])

    def __call__(self, t: ArrayLike) -> Array:
        """Return W(t): (m, n) for a number, (len(t), m, n) for a vector of flow times.

        Raises
        ------
        ValueError, TypeError
            If a time is negative or not finite, or `t` has more than one dimension.
        """
        first, second = self._factors(t)
        return second @ first.swapaxes(-1, -2)

    def blocks(self, t: ArrayLike) -> Blocks:
        """Return W, W_1^T W_1 and W_2 W_2^T; times and errors as for a call."""
        first, second = self._factors(t)
        return Blocks(*(a @ b.swapaxes(-1, -2) for a, b in ((second, first), (first, first), (second, second))))

    def loss(self, t: ArrayLike) -> Array:
        """Return the loss, a number a time; times and errors as for a call."""
        return self._floor + self.curvature / 2 * np.square(self(t) - self.target).sum(axis=(-2, -1))

    def tangent_kernel(self, t: float) -> TangentKernel:
        """Return the neural tangent kernel at a time: W_2 W_2^T Z + Z W_1^T W_1, (m, n) to (m, n).

        Raises
        ------
        ValueError, TypeError
            If `t` is not a finite non-negative number.
        """
        _, first, second = self.blocks(validation.require_number("t", t, positive=False))
        (m, n) = self.target.shape
        return TangentKernel([(second, np.eye(n)), (np.eye(m), first)])

    def network(self, t: float) -> LinearNetwork:
        """Return the factors at a time, up to a rotation of the hidden layer: (Q W_1, W_2 Q^T) with Q^T Q = I.

        Raises
        ------
        ValueError, TypeError
            If `t` is not a finite non-negative number.
        """
        first, second = self._factors(validation.require_number("t", t, positive=False))
        return LinearNetwork([first.T, second])

    def _factors(self, t: ArrayLike) -> tuple[Array, Array]:
        """Return W_1^T and W_2 in one rotation a time, (..., n, h) and (..., m, h)."""
        times, mu = require_times(t), self._eigenvalues
        inner = self.curvature * np.atleast_1d(times)
        z = riccati_factors(self._start, mu, np.ones_like(mu), inner).swapaxes(1, 2)
        # the rows of all times in one product
        q = (z.reshape(-1, mu.size) @ self._vectors.T).reshape(*times.shape, *z.shape[1:]).swapaxes(-1, -2)
        n = self.target.shape[1]
        return q[..., :n, :], q[..., n:, :]

    def __repr__(self) -> str:
        return f"TwoLayer({self.target.shape[0]} x {self.target.shape[1]}, imbalance {self.imbalance:.3g})"


@validation.quietly
def two_layer(network: LinearNetwork, target: ArrayLike) -> TwoLayer:
    r"""Return `TwoLayer` on :math:`\tfrac12 \|W_2 W_1 - Y\|_F^2`.

    Parameters
    ----------
    network : LinearNetwork of depth 2
        As there.
    target : array_like, (m, n)
        Y: inputs are white (:math:`X X^T = I`), the loss is a sum. For other data with white inputs, :math:`Y X^T`.

    Returns
    -------
    TwoLayer

    Raises
    ------
    ValueError, TypeError
        As there; if the target has another shape than the network or is not finite.
    """
    require_network("network", network)
    y = validation.as_matrix("target", target)
    validation.require_shape("target", y.shape, network.shape, "the network has shape")
    return TwoLayer(LeastSquares(np.eye(y.shape[1]), y), network)


def _white(loss: Loss) -> tuple[float, float]:
    """Return c and the least value of a loss c ||W - Y||^2 / 2 plus that; refuse another."""
    spectrum = facts(loss).spectrum
    if spectrum is None:
        raise ValueError(f"`loss` must be a square loss with a spectrum, got {type(loss).__name__}. Use LeastSquares.")
    values, n = np.asarray(spectrum.eigenvalues), loss.shape[1]
    least = float(values[-1]) if values.size == n else 0.0
    if not values[0] - least <= _TOLERANCE * values[0]:
        raise ValueError(
            "`loss` must have white inputs, X X^T = c I, got eigenvalues from"
            f" {values[0]:.3g} to {least:.3g}. Whiten them, or integrate FactorFlow."
        )
    return float(values.mean()), float(spectrum.floor)


def _multiple_of_identity(network: LinearNetwork) -> float:
    """Return lambda of W_2^T W_2 - W_1 W_1^T = lambda I; refuse another imbalance."""
    gap = network.imbalances()[0]
    mean = float(np.trace(gap)) / len(gap)
    size = max(float(linalg.norm(f, 2)) for f in network.factors) ** 2
    off = float(linalg.norm(gap - mean * np.eye(len(gap)), 2))
    if not off <= _TOLERANCE * size:
        raise ValueError(
            "`network` must have an imbalance W_2^T W_2 - W_1 W_1^T that is a multiple of the identity,"
            f" got one that is off by {off:.2g}. Start from LinearNetwork.balanced, or integrate FactorFlow."
        )
    return mean
