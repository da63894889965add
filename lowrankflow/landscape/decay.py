r"""Weight decay: the critical points of :math:`\tfrac12 \|W_N \cdots W_1 - Y\|_F^2 + \tfrac\gamma2 \sum_j \|W_j\|_F^2`.

Inputs are white (:math:`X X^T = I`) and the loss is a sum. All critical points are balanced, and diagonal in the
singular frames of Y: a singular value y of Y is met by factors of a common singular value s, which is zero or a root of

.. math:: s^{2N - 2} - y\, s^{N - 2} + \gamma = 0 .

For N = 2 the root appears at zero when y passes gamma. For N >= 3 two appear at once, away from zero, when y passes
`switch_value`, and the origin stays a local minimum for every gamma > 0: what is not learned at first never is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from .. import validation
from ..matrices import EPS, LinearNetwork, LowRankMatrix
from ..matrices.requirements import require_depth, require_point, require_widths
from ..validation import Array

__all__ = [
    "DecayedMode",
    "decayed_mode",
    "decayed_modes",
    "decayed_network",
    "least_curvature",
    "mode_values",
    "switch_value",
    "tie_value",
]


def switch_value(depth: int, decay: float) -> float:
    r"""Return the singular value of the target from which on a mode has a critical value other than zero.

    .. math:: y_c = \gamma\, \frac{2N - 2}{N}\, s^{2 - N}, \qquad s = \Big(\gamma\, \frac{N - 2}{N}\Big)^{1 / (2N - 2)},

    and :math:`y_c = \gamma` for N = 2.

    Parameters
    ----------
    depth : int
        N, at least 2.
    decay : float
        gamma, positive; the loss is a sum with a factor 1/2, inputs are white.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If the depth is not a whole number above 1 or the decay not positive.

    Notes
    -----
    Derived here. Compare Z. Chen, L. Jiang, J. Wang, arXiv 2506.20344.

    Examples
    --------
    >>> switch_value(2, 0.25), round(switch_value(3, 0.25), 12)
    (0.25, 0.620403239401)
    """
    n, gamma = _read(depth, decay)
    if n == 2:
        return gamma
    root = (gamma * (n - 2) / n) ** (1 / (2 * n - 2))
    return float(gamma * (2 * n - 2) / n * root ** (2 - n))


def tie_value(depth: int, decay: float) -> float:
    r"""Return the singular value of the target from which on the larger root is lower than zero: the global minimiser jumps.

    .. math:: y_t = \gamma (N - 1)\, s^{2 - N}, \qquad s = (\gamma (N - 2))^{1 / (2N - 2)},

    and :math:`y_t = \gamma` for N = 2, where nothing jumps.

    Parameters
    ----------
    depth, decay
        As `switch_value`.

    Returns
    -------
    float
        At least `switch_value`. Derived here.

    Raises
    ------
    ValueError, TypeError
        As `switch_value`.
    """
    n, gamma = _read(depth, decay)
    if n == 2:
        return gamma
    return float(gamma * (n - 1) * (gamma * (n - 2)) ** ((2 - n) / (2 * n - 2)))


def mode_values(target: float, depth: int, decay: float) -> Array:
    r"""Return the critical singular values s of the factors for one singular value of the target.

    Zero, and the positive roots of :math:`s^{2N - 2} - y s^{N - 2} + \gamma`: none below `switch_value`, one double root
    at it, above it two (one for N = 2). The singular value of the product is :math:`s^N`.

    Parameters
    ----------
    target : float
        y, non-negative.
    depth, decay
        As `switch_value`.

    Returns
    -------
    ndarray, (1,), (2,) or (3,)
        Increasing, zero first.

    Raises
    ------
    ValueError, TypeError
        As `switch_value`; if `target` is negative.

    Notes
    -----
    Derived here. Roots are accurate to roundoff times the condition of the root, which grows as 1 over the distance of
    the two near `switch_value`.

    Examples
    --------
    >>> mode_values(2.0, 2, 1.0).tolist()
    [0.0, 1.0]
    >>> mode_values(1.0, 3, 0.1).round(6).tolist()
    [0.0, 0.1001, 0.964158]
    """
    n, gamma = _read(depth, decay)
    y = validation.require_number("target", target, positive=False)
    if n == 2:
        return np.array([0.0, sqrt(y - gamma)] if y > gamma else [0.0])
    if y < 0.5 * switch_value(n, gamma):  # also zero, which has no unit
        return np.zeros(1)
    # in units of y^(1/N): t^(2N-2) - t^(N-2) + g, least at t_*
    unit = y ** (1 / n)
    g = gamma * y ** (-(2 * n - 2) / n)
    turn = ((n - 2) / (2 * n - 2)) ** (1 / n)

    def excess(t: float) -> float:
        return t ** (n - 2) * (t**n - 1) + g

    if excess(turn) > 0:
        return np.zeros(1)
    if excess(turn) == 0:
        return np.array([0.0, turn * unit])
    lower, upper = (
        brentq(excess, a, b, xtol=np.finfo(float).tiny, rtol=4 * EPS, maxiter=1000)
        for a, b in ((0.0, turn), (turn, 1.0))
    )
    return unit * np.array([0.0, lower, upper])


def _read(depth: object, decay: object) -> tuple[int, float]:
    return int(require_depth(depth, integer=True)), validation.require_number("decay", decay)


@dataclass(frozen=True, eq=False)
class DecayedMode:
    r"""One singular value of the target under weight decay.

    The loss of the mode is :math:`\phi(s) = \tfrac12 (s^N - y)^2 + \tfrac{N \gamma}{2} s^2`, in the units of the loss.

    Attributes
    ----------
    target : float
        y.
    depth : int
        N.
    decay : float
        gamma.
    values : ndarray
        The critical singular values of the factors, increasing, zero first (`mode_values`).
    switch, tie : float
        y_c and y_t (`switch_value`, `tie_value`).
    """

    target: float
    depth: int
    decay: float
    values: Array
    switch: float
    tie: float

    @property
    def products(self) -> Array:
        """The singular values :math:`s^N` of the product."""
        return self.values**self.depth

    @property
    def losses(self) -> Array:
        """phi at the critical values."""
        n, s = self.depth, self.values
        return 0.5 * (s**n - self.target) ** 2 + 0.5 * n * self.decay * s**2

    @property
    def curvatures(self) -> Array:
        r"""The eigenvalue of the Hessian that decides whether a value is stable within its mode.

        Of all factors moved alike, :math:`\phi''(s) / N`; at zero :math:`\gamma`, for N = 2 :math:`\gamma - y`.
        """
        n, s, y = self.depth, self.values, self.target  # 0^0 is 1, as it must be for N = 2
        return n * s ** (2 * n - 2) + (n - 1) * (s**n - y) * s ** (n - 2) + self.decay

    @property
    def stable(self) -> tuple[bool, ...]:
        """Which critical values are local minima within the mode: zero for N >= 3, and the largest root."""
        return tuple(bool(c > 0) for c in self.curvatures)

    @property
    def best(self) -> float:
        """The critical value of least loss: the mode of a global minimiser, where no hidden layer is too narrow."""
        return float(self.values[int(np.argmin(self.losses))])


def decayed_mode(target: float, depth: int, decay: float) -> DecayedMode:
    """Return the critical values of one singular value of the target, with what is known of each.

    Parameters
    ----------
    target : float
        y, non-negative.
    depth, decay
        As `switch_value`.

    Returns
    -------
    DecayedMode

    Raises
    ------
    ValueError, TypeError
        As `mode_values`.

    Examples
    --------
    >>> mode = decayed_mode(1.0, 3, 0.1)
    >>> mode.stable, round(mode.best, 6)
    ((True, False, True), 0.964158)
    """
    n, gamma = _read(depth, decay)
    values = validation.read_only(mode_values(target, n, gamma))
    return DecayedMode(float(target), n, gamma, values, switch_value(n, gamma), tie_value(n, gamma))


def decayed_modes(spectrum: ArrayLike, depth: int, decay: float) -> tuple[DecayedMode, ...]:
    """Return the critical values of all singular values of a target.

    Parameters
    ----------
    spectrum : array_like, (q,)
        The singular values of Y (white inputs), non-negative, in any order.
    depth, decay
        As `switch_value`.

    Returns
    -------
    tuple of DecayedMode
        In the order of `spectrum`. Every critical point takes one of the values of each mode, at most as many of them
        positive as the narrowest layer is wide.

    Raises
    ------
    ValueError, TypeError
        As `mode_values`.
    """
    y = validation.as_vector("spectrum", spectrum)
    return tuple(decayed_mode(float(value), depth, decay) for value in y)


def _chosen(modes: Sequence[DecayedMode], choice: Iterable[int]) -> Array:
    """Return the chosen critical value of each mode."""
    picks = validation.as_tuple(choice)
    if picks is None:
        raise TypeError(f"`choice` must be whole numbers, one a mode, got {validation.describe(choice)}.")
    if len(picks) != len(modes):
        raise ValueError(f"`choice` must hold one number for each of the {len(modes)} modes, got {len(picks)}.")
    values = []
    for k, (mode, pick) in enumerate(zip(modes, picks, strict=True)):
        index = validation.require_integer("choice", pick, low=0)
        if index >= mode.values.size:
            raise ValueError(
                f"`choice` must number a critical value, got {index} for mode {k}, which has {mode.values.size}:"
                f" its y is {mode.target:.3g} and y_c is {mode.switch:.3g}."
            )
        values.append(mode.values[index])
    return np.array(values)


def decayed_network(
    target: LowRankMatrix,
    depth: int,
    decay: float,
    choice: Iterable[int],
    *,
    widths: int | Iterable[int],
    rng: validation.Rng = None,
) -> LinearNetwork:
    r"""Return a critical point of the decayed square loss: a value chosen for each mode of the target, balanced.

    Parameters
    ----------
    target : LowRankMatrix, (m, n) of rank q
        Y, seen from white inputs.
    depth, decay
        As `switch_value`.
    choice : sequence of int, (q,)
        For each singular value of Y, in the order of ``target.s``, which of its `mode_values`: 0 is zero, 1 the smaller
        root (for N = 2 the only one), 2 the larger.
    widths : int or sequence of int
        Hidden widths (d_1, ..., d_{N-1}).
    rng : int or numpy.random.Generator, optional
        Draws the hidden frames.

    Returns
    -------
    LinearNetwork

    Raises
    ------
    ValueError, TypeError
        If a mode has no value of that number, or a width is below the number of modes that are not zero.
    """
    require_point("target", target)
    n, gamma = _read(depth, decay)
    s = _chosen(decayed_modes(target.s, n, gamma), choice)
    on = s > 0
    hidden = require_widths(widths, n, max(int(on.sum()), 1))
    if not on.any():
        sizes = (target.shape[1], *hidden, target.shape[0])
        return LinearNetwork([np.zeros((b, a)) for a, b in pairwise(sizes)])
    w = LowRankMatrix._trusted(target.u[:, on], s[on] ** n, target.vt[on])
    return LinearNetwork.balanced(w, n, widths=hidden, rng=rng)


def least_curvature(
    spectrum: ArrayLike, depth: int, decay: float, choice: Iterable[int], *, widths: int | Iterable[int]
) -> float:
    r"""Return the number whose sign says whether a critical point of the decayed square loss is a local minimum.

    The least of three kinds of eigenvalue of the Hessian with respect to all factors:

    - of a mode within itself, `DecayedMode.curvatures` at roots;
    - of a mode y at zero against one y' at a root s: :math:`(y' - y)\, s^{N - 2}`, so that only the largest singular values
      of the target can be learned;
    - of a mode at zero against a hidden direction that is not used: :math:`\gamma`, for N = 2 :math:`\gamma - y`.

    Negative: a strict saddle. Positive: no direction of negative curvature (the Hessian has zeros along the rotations of
    the hidden layers).

    Parameters
    ----------
    spectrum : array_like, (q,)
        The singular values of Y, all min(m, n) of them where some are zero: a missing one is counted as zero.
    depth, decay
        As `switch_value`.
    choice : sequence of int, (q,)
        As `decayed_network`.
    widths : int or sequence of int
        Hidden widths (d_1, ..., d_{N-1}).

    Returns
    -------
    float
        In units of the loss over the square of the factors. The least eigenvalue of the Hessian is no larger where this
        is negative, and zero to roundoff where it is positive. Derived here, and checked against dense Hessians.

    Raises
    ------
    ValueError, TypeError
        As `decayed_network`.
    """
    n, gamma = _read(depth, decay)
    modes = decayed_modes(spectrum, n, gamma)
    s = _chosen(modes, choice)
    on = s > 0
    hidden = require_widths(widths, n, max(int(on.sum()), 1))
    curvatures = [
        float(mode.curvatures[np.flatnonzero(mode.values == value)[0]])
        for mode, value in zip(modes, s, strict=True)
        if value > 0
    ]
    y = np.array([mode.target for mode in modes])
    curvatures += [float((y[b] - y[a]) * s[b] ** (n - 2)) for a, b in product(np.flatnonzero(~on), np.flatnonzero(on))]
    if min(hidden) > int(on.sum()) or not on.any():
        curvatures += [gamma - (float(y[a]) if n == 2 else 0.0) for a in np.flatnonzero(~on)]
    return min(curvatures, default=gamma)
