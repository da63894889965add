"""Oja's flow, a matrix Riccati equation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg

from .. import validation
from ..validation import Array
from .requirements import require_times
from .riccati import riccati_factors

__all__ = ["Oja", "oja"]

_TOLERANCE = 1e-10  #: of what is not symmetric or positive semidefinite, over the size of C; V V^T is off by as much


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
        times = require_times(t)
        # D = e^(2 C t) - I
        z = riccati_factors(self._start, self.eigenvalues, 2 * self.eigenvalues, np.atleast_1d(times))
        return (self._vectors @ z).reshape(*times.shape, *z.shape[1:])

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
