"""The metrics of factors that are not balanced, but whose imbalances are multiples of the identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .. import validation
from ..matrices.imbalances import roots as shifted_roots
from ..matrices.imbalances import shifts as shifts_of
from ..validation import Array
from .coefficients import Coefficients
from .sums import TINY, over, product_differences

__all__ = ["KappaBalancedMetric", "LambdaBalancedMetric"]

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class KappaBalancedMetric:
    r"""The metric of factors whose imbalances are multiples of the identity.

    Square factors with :math:`W_{j+1}^T W_{j+1} - W_j W_j^T = \lambda_j I` keep that under the factor flow, and W moves
    by a metric of its own: with :math:`\kappa_l = \sum_{j<l} \lambda_j`, shifted so that the least is 0,
    :math:`p(x) = \prod_{l=1}^N (x + \kappa_l)` and :math:`p(x_i) = s_i^2`,

    .. math:: c_{ik} = p[x_i, x_k], \qquad c_{i\perp} = p[x_i, 0] = s_i^2 / x_i .

    Parameters
    ----------
    imbalances : sequence of float
        :math:`\lambda_1, \ldots, \lambda_{N-1}`; all zero gives ``DepthMetric(N)``. Their order matters, that of the
        :math:`\kappa_l` does not: (1, -1) keeps the rank, (-1, 1) does not.

    Raises
    ------
    ValueError, TypeError
        If there is no imbalance, or one is not a finite number.

    Notes
    -----
    The factor flow keeps the rank of W only where 0 is a multiple root of p (`preserves_rank`). Where it is a simple
    root, the coefficient of the normal directions is p'(0) > 0 and the metric extends to all matrices of the shape. From
    full rank the flow is that of the factors, also through det W = 0, in the chart `charts.Ambient`; from lower rank it is
    that of the metric's restriction to the matrices of that rank, which the factors leave: ``chart=Ambient()`` follows them.

    References
    ----------
    Derived in docs/theory.md#metrics.
    """

    imbalances: Sequence[float]

    transposable = True  #: the flow of W^T is the transpose of the flow of W

    def __post_init__(self) -> None:
        values = validation.as_vector("imbalances", self.imbalances)
        if values.size == 0:
            raise ValueError("`imbalances` must hold a number between each two of the N factors, got none.")
        object.__setattr__(self, "imbalances", tuple(float(v) for v in values))

    @property
    def depth(self) -> int:
        """Number of factors N."""
        return len(self.imbalances) + 1

    @property
    def shifts(self) -> Array:
        """The shifts kappa_1, ..., kappa_N of p, the least of them 0."""
        return shifts_of(self.imbalances)

    @property
    def preserves_rank(self) -> bool:
        """Whether the factor flow keeps the rank of W: 0 is a multiple root of p."""
        shifts = self.shifts
        return int((shifts <= len(shifts) * _EPS * shifts.max()).sum()) > 1

    def roots(self, s: Array) -> Array:
        """Return the largest roots x_i of p(x) = s_i^2, zero for zero."""
        return shifted_roots(s, self.shifts)

    @validation.quietly
    def coefficients(self, s: Array) -> Coefficients:
        _, first, _ = product_differences(np.append(self.roots(s), 0.0), self.shifts)
        return Coefficients(core=first[:-1, :-1], up=first[:-1, -1], vp=first[:-1, -1])

    def differences(self, s: Array) -> Array:
        """Return (c_ik - c_jk) / (s_i^2 - s_j^2) = p[x_i, x_j, x_k] / p[x_i, x_j], the last index for s = 0."""
        x = self.roots(s)
        _, first, second = product_differences(np.append(x, 0.0), self.shifts)
        # on the matrices of fixed rank the normal directions have the coefficient 0, not p'(0)
        second[:-1, -1, -1] = second[-1, :-1, -1] = first[:-1, -1] / x
        return over(second, first)


@dataclass(frozen=True)
class LambdaBalancedMetric:
    r"""The metric of two factors with :math:`W_2^T W_2 - W_1 W_1^T = \lambda I` and a hidden layer of a given width.

    With :math:`q_i = \sqrt{\lambda^2 + 4 s_i^2}`, :math:`P_i = (q_i + \lambda)/2` the eigenvalues of
    :math:`W_2 W_2^T` and :math:`R_i = (q_i - \lambda)/2` those of :math:`W_1^T W_1`,

    .. math:: c_{ik} = P_i + R_k, \qquad c^R_i = P_i + \rho, \qquad c^L_k = R_k + \pi .

    Parameters
    ----------
    imbalance : float
        :math:`\lambda`; 0 gives ``DepthMetric(2)``.
    hidden : {"rank", "rows", "columns"}
        Width of the hidden layer. The rank: :math:`\rho = \pi = 0`. The rows m, which needs a positive imbalance:
        :math:`\pi = \lambda`. The columns n, which needs a negative one: :math:`\rho = -\lambda`. At other widths
        the velocity is not a function of W.

    Raises
    ------
    ValueError, TypeError
        If the imbalance is not a finite number or has the wrong sign for `hidden`.

    Notes
    -----
    Unless lambda = 0 the flow of the factors does not keep the rank of W (`preserves_rank`): at any width a singular
    value can vanish in finite time, c_ik being at least the size of lambda. The rank as width keeps it from growing.
    `integrate` goes on beyond, in the chart `charts.Ambient`: always with the rank as width, at full rank with the others.

    Over the size of lambda, the operator of the factors tends to the identity as that grows with the rows or columns as
    width, and that on the matrices of fixed rank, which is given here, to their projection P_T. With the rank as width one
    side freezes: A(Z) tends to U U^T Z, or for negative lambda to Z V V^T.

    References
    ----------
    Derived in docs/theory.md#metrics. Exact solutions for such factors: C. Domine et al., From lazy to rich: exact
    learning dynamics in deep linear networks, arXiv:2409.14623.
    """

    imbalance: float
    hidden: Literal["rank", "rows", "columns"] = "rank"

    def __post_init__(self) -> None:
        value = validation.require_finite_number("imbalance", self.imbalance)
        validation.require_choice("hidden", self.hidden, ("rank", "rows", "columns"))
        if (self.hidden == "rows" and value <= 0) or (self.hidden == "columns" and value >= 0):
            sign = "positive" if self.hidden == "rows" else "negative"
            raise ValueError(f"`imbalance` must be {sign} for hidden={self.hidden!r}, got {value:g}.")

    @property
    def transposable(self) -> bool:
        """Whether the flow of W^T is the transpose of the flow of W: unless up and vp differ."""
        return self.imbalance == 0 or self.hidden != "rank"

    @property
    def preserves_rank(self) -> bool:
        """Whether the flow of the factors keeps the rank of W: balanced factors."""
        return self.imbalance == 0

    @validation.quietly
    def coefficients(self, s: Array) -> Coefficients:
        q, size = np.hypot(self.imbalance, 2 * s), abs(self.imbalance)
        # the larger of P and R is a sum, the smaller s^2 over it: no cancellation
        large = (q + size) / 2
        small = s * s / np.maximum(large, TINY)
        p, r = (large, small) if self.imbalance >= 0 else (small, large)
        outer_p = p + size if self.hidden == "columns" else p
        outer_r = r + size if self.hidden == "rows" else r
        return Coefficients(core=(q[:, None] + q) / 2, up=outer_r, vp=outer_p)
