"""Metrics on the manifold of rank-k matrices, each as a value.

A metric is its operator A in the singular frame of W = U diag(s) V^T: A multiplies the blocks of
U^T Z V by coefficients that depend on s alone. The Riemannian gradient is A(G), the inner product is
<A^{-1} Z_1, Z_2>, and the flow is W' = -A(G).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from . import validation
from .matrices import Tangent
from .validation import Array

__all__ = ["Coefficients", "DepthMetric", "EmbeddedMetric", "Metric", "RootCoefficients", "root_coefficients"]


@dataclass(frozen=True)
class Coefficients:
    """The spectral coefficients of A, named after the parts of a `Tangent`.

    ``core[i, k]`` multiplies the r x r block (``mix[i, k]`` brings in the transposed entry [k, i]),
    ``up[k]`` multiplies (U_perp, v_k) and ``vp[i]`` multiplies (u_i, V_perp).
    """

    core: Array
    up: Array
    vp: Array
    mix: Array | None = None

    def core_block(self, m: Array) -> Array:
        """Return the r x r block of A applied to a matrix with the block `m`."""
        return self.core * m if self.mix is None else self.core * m + self.mix * m.T

    def apply(self, z: Tangent) -> Tangent:
        """Return A(z)."""
        return Tangent(z.up * self.up, self.core_block(z.core), z.vp * self.vp)

    def solve(self, z: Tangent) -> Tangent:
        """Return A^{-1}(z) on the tangent space; needs positive coefficients."""
        if self.mix is None:
            core = z.core / self.core
        else:
            # the pair (Z_ik, Z_ki) solves [core_ik mix_ik; mix_ki core_ki] x = z; the diagonal is core + mix
            determinant = self.core * self.core.T - self.mix * self.mix.T
            core = (self.core.T * z.core - self.mix * z.core.T) / np.where(determinant == 0, 1.0, determinant)
            np.fill_diagonal(core, np.diag(z.core) / np.diag(self.core + self.mix))
        return Tangent(_divide(z.up, self.up), core, _divide(z.vp, self.vp))


def _divide(part: Array, coefficients: Array) -> Array:
    """Return the frame part of a tangent over its coefficients; a square frame has no complement to divide."""
    if part.shape[0] == part.shape[1]:
        return np.zeros_like(part)
    if not np.all(coefficients > 0):
        raise ValueError(
            "`metric` must be positive on the whole tangent space to be inverted, got a zero coefficient."
            " DepthMetric(inf) is degenerate below full rank; use a finite depth."
        )
    return part / coefficients


class Metric(Protocol):
    """What the library asks of a metric. Optional: ``frame_rates(s)``, ``root``, ``root_coefficients(l)``."""

    def coefficients(self, s: Array) -> Coefficients:
        """Return the spectral coefficients at the singular values `s` (k,)."""
        ...


@dataclass(frozen=True)
class RootCoefficients:
    """Coefficients of the flow in the singular frame T = P diag(l) Q^T with s = l^p (see `charts`).

    T' = -P (sym * sym(M) + skew * skew(M)) Q^T and, on the frames, U' takes ``left[k]``, V' ``right[i]``.
    """

    sym: Array
    skew: Array
    left: Array
    right: Array


_TINY = float(np.finfo(np.float64).tiny)
_SUM_TERMS = 64  # whole depths up to this are summed term by term; beyond, the closed form costs less


def _positive_sum(a: Array, depth: float, powers: float) -> Array:
    r"""Return :math:`\sum_{j=1}^{N} a_i^{N-j} a_k^{j-1}` with ``a ** powers`` already rooted, stably.

    For a small whole N the terms are summed as they are: all positive. Else, with hi >= lo, the sum is
    hi^(N-1) (q^N - 1)/(q - 1), q = lo/hi, evaluated as a ratio of expm1's: no cancellation at close or
    equal values, and a cost that does not depend on N. `a` holds the values whose `powers`-th power
    enters: x = a^powers.
    """
    if depth <= _SUM_TERMS and depth == int(depth):
        terms = a[:, None] ** (powers * np.arange(int(depth)))
        return terms[:, ::-1] @ terms.T
    hi, lo = np.maximum(a[:, None], a), np.minimum(a[:, None], a)
    with np.errstate(divide="ignore", invalid="ignore"):
        # log1p keeps the digits of a ratio near 1; log those of a small ratio
        ratio = np.where(lo > hi / 2, np.log1p((lo - hi) / hi), np.log(lo / hi))
        d = powers * ratio
        quotient = np.expm1(depth * d) / np.expm1(d)
    quotient = np.where(d == 0, depth, quotient)  # lo == hi
    quotient = np.where(lo == 0, 1.0, quotient)  # 0^0 = 1: the term of the full identity
    total = hi ** (powers * (depth - 1)) * quotient
    return np.where(hi == 0, 0.0, total)


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
        validation.check_depth(self.depth)

    def coefficients(self, s: Array) -> Coefficients:
        if math.isinf(self.depth):
            return Coefficients(core=_logarithmic_mean(s * s), up=np.zeros_like(s), vp=np.zeros_like(s))
        outer = s ** (2 - 2 / self.depth)
        return Coefficients(core=_positive_sum(s, self.depth, 2 / self.depth), up=outer, vp=outer)

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
        sym = (s[:, None] + s) / np.maximum(l[:, None] + l, _TINY)  # 0/0 -> 0
        rate = l ** (self.depth - 2)
        return RootCoefficients(sym=sym, skew=_positive_sum(l, self.depth, 1.0), left=rate, right=rate)


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

    def coefficients(self, s: Array) -> Coefficients:
        one = np.ones_like(s)
        return Coefficients(core=np.ones((s.size, s.size)), up=one, vp=one)


def _logarithmic_mean(a: Array) -> Array:
    """Return (a_i - a_k)/(ln a_i - ln a_k) for positive a; a_i on the diagonal and at ties."""
    hi, lo = np.maximum(a[:, None], a), np.minimum(a[:, None], a)
    with np.errstate(divide="ignore", invalid="ignore"):
        d = np.where(lo > hi / 2, np.log1p((lo - hi) / hi), np.log(lo / hi))  # ln(lo/hi)
        mean = hi * np.expm1(d) / d
    return np.where(d == 0, hi, np.where(lo == 0, 0.0, mean))


def frame_rates(metric: Metric, s: Array) -> tuple[Array, Array]:
    """Return the speeds (up/s, vp/s) of the singular frames, from the metric's own limit if it has one."""
    own = getattr(metric, "frame_rates", None)
    if own is not None:
        left, right = own(s)
        return left, right
    c = metric.coefficients(s)
    return c.up / s, c.vp / s


def generic_root_coefficients(metric: Metric, l: Array, root: float) -> RootCoefficients:  # noqa: E741
    """Return the chart's coefficients for any metric, at s = l^root.

    The r x r block of A(G) is multiplied by (l_i - l_k)/(s_i - s_k) on its symmetric part and by
    (l_i + l_k)/(s_i + s_k) on its skew part: the derivative of the matrix root on singular values.
    """
    s = l**root
    c = metric.coefficients(s)
    # (s_i - s_k)/(l_i - l_k) is the positive sum of powers for real root too
    slope = np.ones_like(c.core) if root == 1 else _positive_sum(l, root, 1.0)
    total, total_s = l[:, None] + l, s[:, None] + s
    rotation = np.divide(total, total_s, out=np.zeros_like(total), where=total_s > 0)
    left, right = frame_rates(metric, s)
    sym = np.divide(1.0, slope, out=np.zeros_like(slope), where=slope > 0)
    return RootCoefficients(sym=sym, skew=rotation, left=left, right=right)


def root_coefficients(metric: Metric, l: Array, root: float) -> tuple[RootCoefficients, Coefficients | None]:  # noqa: E741
    """Return the chart's coefficients and, unless they already contain A, the block coefficients to apply first."""
    if root != 1 and root == getattr(metric, "root", None):
        return metric.root_coefficients(l), None  # type: ignore[attr-defined]
    return generic_root_coefficients(metric, l, root), metric.coefficients(l**root)
