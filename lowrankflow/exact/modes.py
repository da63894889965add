"""Aligned modes: the singular values of W along the flow of the square loss, and when each is learned."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import validation
from ..matrices.requirements import require_depth
from ..validation import Array
from .clock import Approach, Power, phases
from .pair import pair_time, pair_values
from .requirements import require_modes, require_times

__all__ = ["Modes", "modes"]


@dataclass(frozen=True, eq=False)
class Modes:
    """Aligned modes in closed form; made by `modes`, called with times.

    Attributes
    ----------
    targets, s0 : ndarray, (r,)
        a and s(0).
    depth : float
        N.
    curvatures, imbalance : ndarray, (r,)
        h and lambda.
    """

    targets: Array
    s0: Array
    depth: float
    curvatures: Array
    imbalance: Array

    def __call__(self, t: ArrayLike) -> Array:
        """Return s(t): (r,) for a number, (len(t), r) for a vector of flow times.

        Raises
        ------
        ValueError, TypeError
            If a time is negative or not finite, or `t` has more than one dimension.
        """
        return self._at(t)[0]

    def misfit(self, t: ArrayLike) -> Array:
        """Return a - s(t), also where it has fallen below the roundoff of a; shapes and errors as for a call."""
        return self._at(t)[1]

    def time_to(self, values: ArrayLike) -> Array:
        """Return the flow times at which the modes reach given values.

        Parameters
        ----------
        values : float or array_like, (r,)
            One for all modes, or one a mode.

        Returns
        -------
        ndarray, (r,)
            Infinite where a value is not met in finite time: beyond the start or the target, the target itself, and zero
            (for N < 2 a mode whose target has the other sign ends there in finite time).

        Raises
        ------
        ValueError, TypeError
            If a value is not finite, or there are not r of them.
        """
        sign = self._sign
        s0, a = sign * self.s0, sign * self.targets
        s = sign * require_modes("values", values, self.targets.size)
        reached = (s0 < s) & (s < a) | (a < s) & (s < s0)
        # balanced, zero is where a mode stays, and at most an end
        reached &= (self.imbalance != 0) | (s0 > 0) & ((s > 0) | (s == 0) & (self.depth < 2))
        time = np.where(s == s0, 0.0, np.inf)
        with np.errstate(all="ignore"):
            if self._pair:
                k = np.flatnonzero(reached)
                time[k] = pair_time(s0[k], a[k], self.imbalance[k], s[k]) / self.curvatures[k]
            else:
                for k, kind, (first, second) in self._phases(reached):
                    beyond = (s[k] > first.end) if kind > 0 else (s[k] < first.end)
                    time[k] = np.where(beyond, first.duration + second.time(s[k]), first.time(s[k]))
        return time

    def learning_times(self, fraction: float = 0.5) -> Array:
        r"""Return when each mode has made a fraction of its way, :math:`s = s_0 + f (a - s_0)`.

        Parameters
        ----------
        fraction : float
            f, above 0 and below 1.

        Returns
        -------
        ndarray, (r,)
            Flow times; infinite for a mode that never makes it, zero for one that starts at its target.

        Raises
        ------
        ValueError, TypeError
            If the fraction is not between 0 and 1.
        """
        f = validation.require_number("fraction", fraction)
        if f >= 1:
            raise ValueError(f"`fraction` must be below 1, got {f:g}. The target itself is never reached.")
        return self.time_to((1 - f) * self.s0 + f * self.targets)

    @property
    def _pair(self) -> bool:
        return self.depth == 2

    @property
    def _sign(self) -> Array:
        """A sign a mode: with it s0 is not negative. The flow of -s towards -a is the same."""
        return np.where(self.s0 < 0, -1.0, 1.0)

    def _phases(
        self, chosen: NDArray[np.bool_]
    ) -> Iterator[tuple[NDArray[np.intp], int, tuple[Power, Power | Approach]]]:
        """Yield the chosen modes by kind, each with its two phases."""
        sign = self._sign
        s0, a = sign * self.s0, sign * self.targets
        number = 1.0 if math.isinf(self.depth) else self.depth
        beta = 1.0 if math.isinf(self.depth) else (self.depth - 2) / self.depth
        kinds = np.where(a < 0, -1, np.where(s0 < a, 1, 0))
        for kind in (1, 0, -1):
            k = np.flatnonzero(chosen & (kinds == kind))
            if k.size:
                yield k, kind, phases(s0[k], a[k], number * self.curvatures[k], beta, kind)

    def _at(self, t: ArrayLike) -> tuple[Array, Array]:
        times = require_times(t)
        column = times.reshape(-1, 1)
        sign = self._sign
        shape = (column.size, self.targets.size)
        s = np.broadcast_to(sign * self.s0, shape).copy()
        misfit = np.broadcast_to(sign * (self.targets - self.s0), shape).copy()
        moving = self.s0 != self.targets
        with np.errstate(all="ignore"):
            if self._pair:
                k = np.flatnonzero(moving & ((self.s0 != 0) | (self.imbalance != 0)))
                s0, a = (sign * self.s0)[k], (sign * self.targets)[k]
                s[:, k], misfit[:, k] = pair_values(s0, a, self.imbalance[k], column * self.curvatures[k])
            else:
                for k, _, (first, second) in self._phases(moving & (self.s0 != 0)):
                    early, late = first.values(column), second.values(np.maximum(column - first.duration, 0.0))
                    s[:, k], misfit[:, k] = (
                        np.where(column < first.duration, *x) for x in zip(early, late, strict=True)
                    )
        return (sign * s).reshape(*times.shape, sign.size), (sign * misfit).reshape(*times.shape, sign.size)


@validation.quietly
def modes(
    targets: ArrayLike, s0: ArrayLike, depth: float, *, curvatures: ArrayLike = 1.0, imbalance: ArrayLike = 0.0
) -> Modes:
    r"""Return the aligned modes of the square loss in closed form, as a function of flow time.

    Where W(0), the targets and :math:`X X^T` share singular frames, :math:`W(t) = U \,\mathrm{diag}(s(t))\, V^T`, and each
    singular value moves alone,

    .. math:: s' = N h\, |s|^{2 - 2/N} (a - s),

    for depth infinity :math:`s' = h s^2 (a - s)`, time in units of N; for two factors whose mode has
    :math:`w_2^2 - w_1^2 = \lambda`, s = w_2 w_1,

    .. math:: s' = h \sqrt{\lambda^2 + 4 s^2}\, (a - s) .

    Parameters
    ----------
    targets : float or array_like, (r,)
        a, in units of W: the singular values of Y for white inputs (:math:`X X^T = I`), else :math:`u^T Y X^T v / h`. Of
        either sign.
    s0 : float or array_like, (r,)
        s(0), one for all modes or one a mode. A negative one is a singular value whose pair has the sign of the other side;
        the flow is the same with both signs changed. Balanced modes keep their sign, and zero stays zero.
    depth : float
        N > 1, whole or not, or infinity.
    curvatures : float or array_like, (r,)
        h, the eigenvalues of :math:`X X^T` along the right singular vectors (over the number of samples for
        ``LeastSquares(reduction="mean")``): the loss is :math:`\tfrac12 \sum h (s - a)^2` up to a constant.
    imbalance : float or array_like, (r,)
        lambda, in the unit of s; other than zero for depth 2 alone, where s may then pass zero. Its sign does not matter.

    Returns
    -------
    Modes
        Called with t, it returns s(t), (len(t), r).

    Raises
    ------
    ValueError, TypeError
        If the depth is not a number above 1, a curvature is not positive, an imbalance is given for another depth than 2,
        a value is not finite or above 1e35 in size, or the sizes differ.

    Notes
    -----
    t(s) is elementary for N = 2 and infinity and a hypergeometric function else (`lowrankflow.exact.clock`); it is inverted
    by Newton's method. What is returned is the exact solution for arguments changed by some units of roundoff. After a
    plateau of length T the value moves on the time scale of the rise, and one roundoff of t is T eps: relative errors are
    about :math:`10^{-15} (1 + t |s' / s|)`, and for `Modes.misfit` :math:`10^{-15} (1 + t |s' / (a - s)|)`.

    For N < 2 the velocity is not Lipschitz at zero: a mode whose target has the other sign reaches zero in finite time and
    stays, and so does here one that starts at zero.

    References
    ----------
    .. [1] A. Saxe, J. McClelland, S. Ganguli, Exact solutions to the nonlinear dynamics of learning in deep linear neural
       networks, ICLR 2014 (depth 2). Other depths and the inversion are derived here.

    Examples
    --------
    >>> curves = modes([2.0, 1.0], 1e-3, depth=3)
    >>> curves([0.0, 5.0, 50.0]).round(6).tolist()
    [[0.001, 0.001], [1.817965, 0.007929], [2.0, 1.0]]
    >>> curves.learning_times(0.5).round(6).tolist()
    [4.661494, 9.145587]
    """
    n = require_depth(depth)
    a = np.array(validation.as_real("targets", targets), dtype=np.float64)
    a = validation.as_vector("targets", a.reshape(1) if a.ndim == 0 else a)
    if a.size == 0:
        raise ValueError("`targets` must hold one number at least, got none.")
    start, h, gap = (
        require_modes(name, x, a.size) for name, x in (("s0", s0), ("curvatures", curvatures), ("imbalance", imbalance))
    )
    for name, x in (("targets", a), ("s0", start), ("curvatures", h), ("imbalance", gap)):
        if np.abs(x).max() > 1:
            validation.require_peak(name, x)
    if (h <= 0).any():
        raise ValueError(f"`curvatures` must be positive, got {h.min():g}. A direction without inputs does not move.")
    if n != 2 and gap.any():
        raise ValueError(
            f"`imbalance` must be 0 at depth {n:g}, got {gap[gap != 0][0]:g}. Unbalanced modes are in closed form"
            " for depth 2 alone."
        )
    own = validation.own
    return Modes(own(a), own(start), n, own(h), own(gap))
