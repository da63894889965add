"""Two layers whose imbalance is a multiple of the identity, and Oja's flow: both are matrix Riccati equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg

from .. import validation
from ..matrices import LinearNetwork
from ..matrices.requirements import require_network
from ..validation import Array
from .requirements import require_times
from .riccati import riccati_factor

__all__ = ["Oja", "TwoLayer", "oja", "two_layer"]

_TOLERANCE = (
    1e-10  #: of the imbalance from a multiple of the identity, over the largest ||W_j||_2^2; W is off by as much
)


@dataclass(frozen=True, eq=False)
class TwoLayer:
    """The flow of two factors in closed form; made by `two_layer`, called with times.

    Attributes
    ----------
    target : ndarray, (m, n)
        Y.
    imbalance : float
        lambda.
    """

    target: Array
    imbalance: float
    _eigenvalues: Array
    _vectors: Array
    _start: Array  # [W_1^T; W_2] at t = 0 in the eigenvectors

    def __call__(self, t: ArrayLike) -> Array:
        """Return W(t): (m, n) for a number, (len(t), m, n) for a vector of flow times.

        Raises
        ------
        ValueError, TypeError
            If a time is negative or not finite, or `t` has more than one dimension.
        """
        n = self.target.shape[1]
        return _at_each(require_times(t), lambda time: (z := self._factor(time))[n:] @ z[:n].T)

    def network(self, t: float) -> LinearNetwork:
        """Return the factors at a time, up to a rotation of the hidden layer: (Q W_1, W_2 Q^T) with Q^T Q = I.

        Raises
        ------
        ValueError, TypeError
            If `t` is not a finite non-negative number.
        """
        n = self.target.shape[1]
        z = self._factor(validation.require_number("t", t, positive=False))
        return LinearNetwork([z[:n].T, z[n:]])

    def _factor(self, t: float) -> Array:
        mu = self._eigenvalues
        return self._vectors @ riccati_factor(self._start, mu, np.ones_like(mu), t)


@validation.quietly
def two_layer(network: LinearNetwork, target: ArrayLike) -> TwoLayer:
    r"""Return the flow of two factors on :math:`\tfrac12 \|W_2 W_1 - Y\|_F^2` in closed form, as a function of flow time.

    If :math:`W_2^T W_2 - W_1 W_1^T = \lambda I`, which the flow keeps, then :math:`R = Q Q^T` with
    :math:`Q = [W_1^T; W_2]` follows a matrix Riccati equation,

    .. math:: R' = F R + R F - R^2, \qquad
              F = \begin{bmatrix} -\tfrac\lambda2 I & Y^T \\ Y & \tfrac\lambda2 I \end{bmatrix}, \qquad
              R(t) = e^{F t} Q_0 \Big[ I + Q_0^T \int_0^t e^{2 F s} ds\, Q_0 \Big]^{-1} Q_0^T e^{F t} .

    Parameters
    ----------
    network : LinearNetwork of depth 2
        The start, of any widths; aligned with the target or not. Balanced factors (lambda = 0) of hidden width at least the
        rank are what ``LinearNetwork.balanced`` makes; a hidden layer of width 1 always has such an imbalance.
    target : array_like, (m, n)
        Y: inputs are white (:math:`X X^T = I`), the loss is a sum. For other data with white inputs, :math:`Y X^T`.

    Returns
    -------
    TwoLayer
        Called with t, it returns W(t); ``.network(t)`` are the factors.

    Raises
    ------
    ValueError, TypeError
        If the network is not one of two factors whose imbalance is a multiple of the identity to 1e-10, or the target
        has another shape or is not finite.

    Notes
    -----
    Nothing is inverted that can be singular, and nothing overflows: any time may be asked for, by itself. Cost: once the
    eigenvectors of an (m + n) matrix, then O((m + n)(m + n + h) h) a time, h the hidden width.

    References
    ----------
    .. [1] K. Fukumizu, Effect of batch learning in multilayer neural networks, ICONIP 1998 (balanced).
    .. [2] C. Domine et al., From lazy to rich: exact learning dynamics in deep linear networks, arXiv:2409.14623.
       The form given here, without conditions on Y and the widths, is derived here.

    Examples
    --------
    >>> from lowrankflow import LinearNetwork
    >>> net = LinearNetwork([[[1e-3, 0.0]], [[0.6e-3], [0.8e-3]]])
    >>> two_layer(net, [[0.0, 0.0], [2.0, 0.0]])([0.0, 3.0, 1e9]).round(6)[:, 1, 0].tolist()
    [1e-06, 0.123679, 2.0]
    """
    require_network("network", network)
    if network.depth != 2:
        raise ValueError(f"`network` must have 2 factors, got {network.depth}. See lowrankflow.exact.modes for others.")
    y = validation.as_matrix("target", target)
    validation.require_shape("target", y.shape, network.shape, "the network has shape")
    first, second = network.factors
    gap = network.imbalances()[0]
    mean = float(np.trace(gap)) / len(gap)
    size = max(float(linalg.norm(f, 2)) for f in network.factors) ** 2
    off = float(linalg.norm(gap - mean * np.eye(len(gap)), 2))
    if not off <= _TOLERANCE * size:
        raise ValueError(
            "`network` must have an imbalance W_2^T W_2 - W_1 W_1^T that is a multiple of the identity,"
            f" got one that is off by {off:.2g}. Start from LinearNetwork.balanced, or integrate FactorFlow."
        )
    m, n = y.shape
    half = mean / 2
    eigenvalues, vectors = linalg.eigh(np.block([[-half * np.eye(n), y.T], [y, half * np.eye(m)]]))
    start = vectors.T @ np.vstack([first.T, second])
    return TwoLayer(validation.own(y), mean, *map(validation.read_only, (eigenvalues, vectors, start)))


@dataclass(frozen=True, eq=False)
class Oja:
    """Oja's flow in closed form; made by `oja`, called with times.

    Attributes
    ----------
    eigenvalues : ndarray, (d,)
        Those of C, decreasing.
    rank : int
        The number of columns of V.
    """

    eigenvalues: Array
    rank: int
    _vectors: Array
    _start: Array  # V(0) in the eigenvectors

    def __call__(self, t: ArrayLike) -> Array:
        """Return V(t) up to a rotation, V Q with Q^T Q = I: (d, r) for a number, (len(t), d, r) for a vector of times.

        What does not depend on Q is V V^T.

        Raises
        ------
        ValueError, TypeError
            If a time is negative or not finite, or `t` has more than one dimension.
        """
        return _at_each(require_times(t), self._factor)

    @property
    def gap(self) -> float:
        """The difference of the r-th and the next eigenvalue; infinite where there is no next."""
        values, r = self.eigenvalues, self.rank
        return float(values[r - 1] - values[r]) if r < values.size else float("inf")

    def tangent(self, t: ArrayLike) -> Array:
        r"""Return :math:`\tan \theta_{\max}` of the span of V(t) and that of the leading r eigenvectors of C.

        :math:`\|e^{\Lambda_2 t} V_2 V_1^{-1} e^{-\Lambda_1 t}\|_2` with V_1 and V_2 the parts of V(0) along the leading and
        the other eigenvectors: to full relative accuracy, however small. Shapes and errors as for a call, a number a time.
        """
        times, (values, r) = require_times(t), (self.eigenvalues, self.rank)
        top, rest = self._start[:r], self._start[r:]
        try:
            slope = np.linalg.solve(top.T, rest.T).T
        except np.linalg.LinAlgError:  # a leading eigenvector that V does not see
            return np.full(times.shape, np.inf)
        rates = values[r:, None] - values[:r]
        decayed = slope * np.exp(rates * times[..., None, None])
        return np.linalg.norm(decayed, 2, axis=(-2, -1)) if len(rest) else np.zeros(times.shape)

    def tangent_bound(self, t: ArrayLike) -> Array:
        r"""Return :math:`e^{-(\lambda_r - \lambda_{r+1}) t} \tan \theta_{\max}(0)`, which `tangent` never exceeds.

        Shapes and errors as for `tangent`.
        """
        times = require_times(t)
        if self.rank == self.eigenvalues.size:
            return np.zeros(times.shape)
        return np.exp(-self.gap * times) * self.tangent(0.0)

    def _factor(self, t: float) -> Array:
        # D = e^(2 C t) - I
        return self._vectors @ riccati_factor(self._start, self.eigenvalues, 2 * self.eigenvalues, t)


@validation.quietly
def oja(covariance: ArrayLike, start: ArrayLike) -> Oja:
    r"""Return Oja's flow in closed form, as a function of flow time.

    .. math:: V' = (I - V V^T)\, C\, V, \qquad
              V V^T = e^{C t} V_0 \,[\, I - V_0^T V_0 + V_0^T e^{2 C t} V_0 \,]^{-1}\, V_0^T e^{C t} .

    From a V(0) with orthonormal columns it is the flow of the autoencoder :math:`\tfrac12 \|X - V V^T X\|_F^2`,
    :math:`C = X X^T`, with tied weights; from another it is not (that one is
    :math:`V' = (I - V V^T) C V + C (I - V V^T) V`, for which no closed form is known here).

    Parameters
    ----------
    covariance : array_like, (d, d)
        C, symmetric positive semidefinite.
    start : array_like, (d, r)
        V(0), r <= d, orthonormal columns or not.

    Returns
    -------
    Oja
        Called with t, it returns V(t) up to a rotation.

    Raises
    ------
    ValueError, TypeError
        If C is not symmetric positive semidefinite to 1e-10 of its size, or the shapes do not fit.

    Notes
    -----
    With orthonormal columns V V^T projects on :math:`e^{C t} \,\mathrm{span} V_0`, and the angle to the leading eigenvectors
    falls at least like :math:`e^{-(\lambda_r - \lambda_{r + 1}) t}` (`Oja.tangent_bound`), the loss twice as fast. Any time
    may be asked for: nothing overflows. Cost: once the eigenvectors of C, then O((d + r) r^2) a time and a product.

    References
    ----------
    .. [1] W.-Y. Yan, U. Helmke, J. B. Moore, Global analysis of Oja's flow for neural networks, IEEE Trans. Neural Netw.
       5(5), 1994.

    Examples
    --------
    >>> flow = oja(np.diag([2.0, 1.0]), [[0.6], [0.8]])
    >>> v = flow([0.0, 1.0, 1e6])
    >>> (v @ v.swapaxes(1, 2))[:, 0, 0].round(6).tolist()
    [0.36, 0.806064, 1.0]
    """
    c, v = validation.as_matrix("covariance", covariance), validation.as_matrix("start", start)
    if c.shape[0] != c.shape[1]:
        raise ValueError(f"`covariance` must be square, got shape {c.shape}.")
    if len(v) != len(c) or v.shape[1] > len(c):
        raise ValueError(f"`start` must have {len(c)} rows and at most as many columns, got shape {v.shape}.")
    size = float(np.abs(c).max())
    skew = float(np.abs(c - c.T).max())
    if skew > _TOLERANCE * size:
        raise ValueError(f"`covariance` must be symmetric, got an asymmetry of {skew:.2g}.")
    eigenvalues, vectors = (x[..., ::-1] for x in linalg.eigh((c + c.T) / 2))
    if eigenvalues[-1] < -_TOLERANCE * size:
        raise ValueError(f"`covariance` must be positive semidefinite, got an eigenvalue of {eigenvalues[-1]:.3g}.")
    values = validation.read_only(np.maximum(eigenvalues, 0.0))
    return Oja(values, v.shape[1], validation.own(vectors), validation.read_only(vectors.T @ v))


def _at_each(times: Array, value: Callable[[float], Array]) -> Array:
    """Return the values at a time, or stacked at each of several."""
    if times.ndim == 0:
        return value(float(times))
    shape = value(0.0).shape
    return np.stack([value(float(t)) for t in times]) if times.size else np.empty((0, *shape))
