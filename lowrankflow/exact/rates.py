"""How fast the flow arrives: the linearised flow of W at the best matrix of a rank."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .. import validation
from ..matrices.requirements import require_depth
from ..metrics import DepthMetric
from ..validation import Array

__all__ = ["Rates", "autoencoder_rates", "whitened_rates"]


class Rates(NamedTuple):
    """The eigenvalues of the linearised flow on the matrices of rank r, with a minus sign: modes fall like exp(-rate t).

    ``slow`` and ``fast`` mix a pair that is learned with one that is not, [i, j] for the r + 1 + i-th and the j-th.
    """

    inside: Array  #: (r, r), those that move W in the frames that it has
    slow: Array  #: (q - r, r)
    fast: Array  #: (q - r, r)

    @property
    def least(self) -> float:
        """The rate of a generic run in the end."""
        return float(min(part.min() for part in self if part.size))


@validation.quietly
def autoencoder_rates(eigenvalues: ArrayLike, rank: int, depth: float) -> Rates:
    r"""Return the rates at the best projection, :math:`W = U_r U_r^T`, of :math:`\tfrac12 \|X - W X\|_F^2`.

    With the eigenvalues :math:`\lambda_1 \ge \lambda_2 \ge \cdots` of :math:`X X^T`: :math:`N \lambda_j` inside, and

    .. math:: \rho_\pm(j, i) = \tfrac12 \Big[ \lambda_i + \lambda_j \pm \sqrt{(\lambda_j - \lambda_i)^2 + 4 \lambda_i^2}
              \Big], \qquad j \le r < i .

    Parameters
    ----------
    eigenvalues : array_like, (d,)
        Non-negative, in any order.
    rank : int
        r, between 1 and d.
    depth : float
        N > 1 balanced factors; infinity with time in units of N, where the frames stand still.

    Returns
    -------
    Rates
        In units of 1 / flow time of the loss as a sum.

    Raises
    ------
    ValueError, TypeError
        If an eigenvalue is negative or not finite, the rank exceeds their number, or the depth is not above 1.

    Notes
    -----
    :math:`\rho_- = \lambda_i (\lambda_j - \lambda_i) / \rho_+` is smaller than the gap :math:`\lambda_j - \lambda_i` at which
    Oja's flow arrives, and does not depend on the depth. Derived here.

    Examples
    --------
    >>> rates = autoencoder_rates([4, 3.2, 2.9, 2.4, 2.0, 1.6], 2, depth=3)
    >>> round(rates.least, 6), rates.inside[0].tolist()
    (0.146123, [12.0, 9.600000000000001])
    """
    values, r, n = _spectrum("eigenvalues", eigenvalues, rank, depth)
    top, rest = values[:r], values[r:, None]
    number, frames = (1.0, 0.0) if math.isinf(n) else (n, 1.0)
    fast = (rest + top + np.hypot(top - rest, 2 * rest)) / 2
    slow = rest * (top - rest) / np.where(fast > 0, fast, 1.0)
    return Rates(np.broadcast_to(number * top, (r, r)).copy(), frames * slow, frames * fast)


@validation.quietly
def whitened_rates(singular_values: ArrayLike, rank: int, depth: float) -> Rates:
    r"""Return the rates at the best matrix of rank r for white inputs, :math:`\tfrac12 \|W - Y\|_F^2`.

    With the singular values :math:`\sigma_1 \ge \sigma_2 \ge \cdots` of Y: inside the coefficients c_jk of the metric, at
    least :math:`N \sigma_r^{2 - 2/N}`, and :math:`\sigma_j^{1 - 2/N} (\sigma_j \mp \sigma_i)`, j <= r < i.

    Parameters
    ----------
    singular_values : array_like, (q,)
        All min(m, n) of them, zeros too, in any order.
    rank : int
        r, between 1 and the number of positive ones.
    depth : float
        As `autoencoder_rates`.

    Returns
    -------
    Rates
        The least is :math:`\sigma_r^{1 - 2/N} (\sigma_r - \sigma_{r+1})`. A non-square W has m - n more rates
        :math:`\sigma_j^{2 - 2/N}` for each j, between slow and fast.

    Raises
    ------
    ValueError, TypeError
        As `autoencoder_rates`; if the r-th singular value is zero.

    Notes
    -----
    Derived here.

    Examples
    --------
    >>> [round(whitened_rates([2, 1.3, 0.8, 0.5, 0.2], 2, depth=n).least, 4) for n in (2, 3, 4, 6)]
    [0.5, 0.5457, 0.5701, 0.5956]
    """
    values, r, n = _spectrum("singular_values", singular_values, rank, depth)
    top, rest = values[:r], values[r:, None]
    if top[-1] == 0:
        raise ValueError(f"`rank` must not exceed the number of positive singular values, got rank={r}.")
    frames = np.zeros(r) if math.isinf(n) else top ** (1 - 2 / n)
    return Rates(DepthMetric(n).coefficients(top).core, frames * (top - rest), frames * (top + rest))


def _spectrum(name: str, values: ArrayLike, rank: object, depth: object) -> tuple[Array, int, float]:
    """Return the values, decreasing, the rank and the depth."""
    spectrum = np.sort(validation.as_vector(name, values))[::-1]
    if spectrum.size == 0 or spectrum[-1] < 0:
        got = f"{spectrum[-1]:g}" if spectrum.size else "none"
        raise ValueError(f"`{name}` must be non-negative numbers, one at least, got {got}.")
    r = validation.require_integer("rank", rank, low=1)
    if r > spectrum.size:
        raise ValueError(f"`rank` must not exceed the number of `{name}`, got rank={r} for {spectrum.size}.")
    return spectrum, r, require_depth(depth)
