"""The depth-N metric, and the embedded metric, its limit N -> 1."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .. import validation
from ..matrices.requirements import require_depth
from ..validation import Array
from .coefficients import Coefficients, RootCoefficients
from .sums import (
    TINY,
    logarithmic_mean,
    over,
    positive_sum,
    second_difference_of_exponential,
    second_difference_of_power,
    step_differences,
)

__all__ = ["DepthMetric", "EmbeddedMetric"]


@dataclass(frozen=True)
class DepthMetric:
    r"""The depth-N metric, under which training N balanced factors is a Riemannian gradient flow.

    .. math:: A_W(Z) = \sum_{j=1}^N (W W^T)^{(N-j)/N} Z (W^T W)^{(j-1)/N} .

    With c_ik = sum_j s_i^(2(N-j)/N) s_k^(2(j-1)/N): ``core = c``, ``up = vp = s^(2-2/N)``.

    Parameters
    ----------
    depth : float
        N > 1, whole or not. ``inf`` gives the limit of A_W / N (time in units of N): core is the
        logarithmic mean of s_i^2 and s_k^2, and ``up = vp = 0``, so that the row and column spaces
        freeze below full rank and the metric is degenerate there.

    Raises
    ------
    ValueError, TypeError
        If the depth is not a number above 1. Depth 1 does not preserve rank; see `EmbeddedMetric`.

    References
    ----------
    .. [1] B. Bah, H. Rauhut, U. Terstiege, M. Westdickenberg, Learning deep linear neural networks:
       Riemannian gradient flows and convergence to global minimizers, Inf. Inference 11(1), 2022.
    """

    depth: float

    transposable = True  #: the flow of W^T is the transpose of the flow of W

    def __post_init__(self) -> None:
        require_depth(self.depth)

    @validation.quietly
    def coefficients(self, s: Array) -> Coefficients:
        if math.isinf(self.depth):
            return Coefficients(core=_mean_of_squares(s), up=np.zeros_like(s), vp=np.zeros_like(s))
        outer = s ** (2 - 2 / self.depth)
        return Coefficients(core=positive_sum(s, self.depth, 2 / self.depth), up=outer, vp=outer)

    def frame_rates(self, s: Array) -> tuple[Array, Array]:
        """Return up/s and vp/s, the speeds of the singular frames: s^(1-2/N), bounded for N >= 2."""
        rate = np.zeros_like(s) if math.isinf(self.depth) else s ** (1 - 2 / self.depth)
        return rate, rate

    @property
    def root(self) -> float:
        """The root p = N in which the flow is smooth down to vanishing singular values (1 for infinity)."""
        return 1.0 if math.isinf(self.depth) else float(self.depth)

    def root_coefficients(self, l: Array) -> RootCoefficients:  # noqa: E741
        """Return the coefficients at s = l^N, without any difference of close numbers.

        c_ik (l_i - l_k)/(s_i - s_k) = (s_i + s_k)/(l_i + l_k) and
        c_ik (l_i + l_k)/(s_i + s_k) = (s_i - s_k)/(l_i - l_k), because c_ik = (s_i^2 - s_k^2)/(l_i^2 - l_k^2).
        """
        s = l**self.depth
        sym = (s[:, None] + s) / np.maximum(l[:, None] + l, TINY)  # 0/0 -> 0
        rate = l ** (self.depth - 2)
        return RootCoefficients(sym=sym, skew=positive_sum(l, self.depth, 1.0), left=rate, right=rate)

    def flat_coordinates(self, s: Array) -> Array:
        r"""Return :math:`\sqrt N\, s^{1/N}` (ln s at infinite depth): aligned geodesics are straight lines in them."""
        return np.log(s) if math.isinf(self.depth) else np.sqrt(self.depth) * s ** (1 / self.depth)

    def from_flat_coordinates(self, x: Array) -> Array:
        """Return the singular values; not positive where `x` lies beyond the boundary of the manifold."""
        if math.isinf(self.depth):
            return np.exp(x)
        return np.sign(x) * np.abs(x / np.sqrt(self.depth)) ** self.depth

    def differences(self, s: Array) -> Array:
        r"""Return :math:`(c_{ik} - c_{jk}) / (s_i^2 - s_j^2)` as [i, j, k], the last index for s = 0.

        With x = s^(2/N) and f(x) = x^N, c_ik = f[x_i, x_k], so that it is f[x_i, x_j, x_k] / f[x_i, x_j]; at infinite
        depth x = ln s^2 and f = exp.
        """
        if not math.isinf(self.depth):
            x = np.append(s, 0.0) ** (2 / self.depth)
            return over(second_difference_of_power(x, float(self.depth)), positive_sum(x, self.depth, 1.0))
        r, core = s.size, _mean_of_squares(s)
        d = np.zeros((r + 1,) * 3)
        d[:r, :r, :r] = over(second_difference_of_exponential(2 * np.log(s)), core)
        d[:r, r, :r] = d[r, :r, :r] = core / s[:, None] / s[:, None]
        return d


def _mean_of_squares(s: Array) -> Array:
    """Return the logarithmic mean of s_i^2 and s_k^2, without the squares, which underflow: that of s times their mean."""
    return logarithmic_mean(s) * (s[:, None] + s) / 2


@dataclass(frozen=True)
class EmbeddedMetric:
    """The metric that the rank-k manifold inherits from the Frobenius inner product: A projects.

    It is the limit N -> 1 of the depth-N metric. Unlike DepthMetric(N >= 2) its flow can reach the
    boundary of the manifold in finite time.

    References
    ----------
    .. [1] B. Vandereycken, Low-rank matrix completion by Riemannian optimization, SIAM J. Optim. 23(2), 2013.
    """

    transposable = True  #: the flow of W^T is the transpose of the flow of W

    @validation.quietly
    def coefficients(self, s: Array) -> Coefficients:
        one = np.ones_like(s)
        return Coefficients(core=np.ones((s.size, s.size)), up=one, vp=one)

    def flat_coordinates(self, s: Array) -> Array:
        """Return s: aligned geodesics are straight lines in the singular values."""
        return s

    def from_flat_coordinates(self, x: Array) -> Array:
        """Return the singular values; not positive where `x` lies beyond the boundary of the manifold."""
        return x

    def differences(self, s: Array) -> Array:
        """Return (c_ik - c_jk) / (s_i^2 - s_j^2): zero but between a normal direction and the frames, 1 / s_i^2."""
        return step_differences(s, core=1.0)
