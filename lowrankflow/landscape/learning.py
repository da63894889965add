r"""The learning coefficient of a deep linear network: how fast the volume of nearly optimal factors shrinks."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import combinations
from typing import NamedTuple

from .. import validation

__all__ = ["LearningCoefficient", "learning_coefficient"]


class LearningCoefficient(NamedTuple):
    r"""Real log canonical threshold :math:`\lambda` and multiplicity m of a deep linear network.

    The volume of the factors with :math:`\|W_N \cdots W_1 - W^*\|_F^2 < \varepsilon` is of order
    :math:`\varepsilon^\lambda (-\ln \varepsilon)^{m - 1}`.
    """

    value: Fraction  #: lambda, exact; at most half the number of parameters
    multiplicity: int  #: m


def learning_coefficient(widths: Iterable[int], rank: int) -> LearningCoefficient:
    r"""Return the learning coefficient (real log canonical threshold) of a deep linear network, and its multiplicity.

    Let :math:`M_s = d_s - r`. Of the sorted M, take the least two, and the next as long as the sum of those taken is at
    least their number less one times it. With those, :math:`\Sigma` of :math:`\ell + 1`, and
    :math:`M = \lceil \sum M_s / \ell \rceil`, :math:`a = \sum M_s - (M - 1) \ell`,

    .. math:: \lambda = \frac{r (d_0 + d_N) - r^2}{2} + \frac{a (\ell - a)}{4 \ell}
              - \frac{\ell (\ell - 1)}{4} \Big(\frac{\sum M_s}{\ell}\Big)^2 + \frac12 \sum_{s < t} M_s M_t,
              \qquad m = a (\ell - a) + 1 .

    Parameters
    ----------
    widths : sequence of int
        (d_0, d_1, ..., d_N), from the input to the output.
    rank : int
        r, the rank of the true W, between 0 and the least width.

    Returns
    -------
    LearningCoefficient
        The value as a fraction, the multiplicity as an int.

    Raises
    ------
    ValueError, TypeError
        If there are fewer than two widths, one is not a whole positive number, or the rank exceeds the least of them.

    Notes
    -----
    For inputs of full rank, Gaussian noise and a prior that is positive at the true factors. It is what n samples' free
    energy grows by, :math:`\lambda \ln n - (m - 1) \ln \ln n`, where a regular model of d parameters has d / 2.

    References
    ----------
    .. [1] M. Aoyagi, Consideration on the learning efficiency of multiple-layered neural networks with linear units,
       Neural Networks 172, 2024.
    .. [2] M. Aoyagi, S. Watanabe, Stochastic complexities of reduced rank regression in Bayesian estimation,
       Neural Networks 18, 2005.

    Examples
    --------
    >>> learning_coefficient([1, 1, 1, 1], rank=0)
    LearningCoefficient(value=Fraction(1, 2), multiplicity=3)
    >>> float(learning_coefficient([10, 5, 8], rank=3).value)
    27.5
    """
    sizes = validation.as_tuple(widths)
    if sizes is None:
        raise TypeError(f"`widths` must be whole numbers (d_0, ..., d_N), got {validation.describe(widths)}.")
    if len(sizes) < 2:
        raise ValueError(f"`widths` must hold at least two numbers (d_0, ..., d_N), got {len(sizes)}.")
    sizes = tuple(validation.require_integer("widths", d, low=1) for d in sizes)
    r = validation.require_integer("rank", rank, low=0)
    if r > min(sizes):
        raise ValueError(f"`rank` must not exceed the least width, got rank={r} for a least width of {min(sizes)}.")
    spare = sorted(d - r for d in sizes)
    size = 2
    while size < len(spare) and sum(spare[:size]) >= (size - 1) * spare[size]:
        size += 1
    taken, ell = spare[:size], size - 1
    total = sum(taken)
    a = total - (-(-total // ell) - 1) * ell
    value = (
        Fraction(r * (sizes[0] + sizes[-1]) - r**2, 2)
        + Fraction(a * (ell - a), 4 * ell)
        - Fraction(ell * (ell - 1), 4) * Fraction(total, ell) ** 2
        + Fraction(sum(x * y for x, y in combinations(taken, 2)), 2)
    )
    return LearningCoefficient(value, a * (ell - a) + 1)
