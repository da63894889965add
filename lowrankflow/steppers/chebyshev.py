"""Stabilised explicit Runge-Kutta methods: many cheap stages for one long step.

A gradient flow has a real spectrum in coordinates that are Euclidean, as the factors are, and at critical points in any.
On [-beta, 0] a polynomial of degree s can stay below one in modulus for beta proportional to s^2, so a step of length h
costs sqrt(h rho) evaluations, rho the spectral radius, where a classical explicit method pays h rho. Elsewhere rates may be
complex, in the singular frame for instance: these methods are stable near the real axis alone (`RKC`), and beyond that only
the control of the step protects (docs/theory.md#stiffness).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, Self

import numpy as np

from .. import validation
from ..matrices import EPS
from ..validation import Array
from .power_iteration import first_direction, spectral_radius
from .protocol import Hermite, State, Velocity, times

__all__ = ["RKC", "Stabilised"]

Bound = Callable[[Any, Array], Any]

SAFETY = 1.2  #: the power method approaches the spectral radius from below
_ROUNDED = 0.1 * EPS  # a rounding error over the size of y: a quarter of EPS, of which few modes take a part
_PATIENCE = 25  # stages between two estimates of the spectral radius


class _Memory(NamedTuple):
    """The state of a stabilised method; all arrays."""

    y_old: Array  #: y and slope at the start of the last step
    f_old: Array
    y: Array  #: y and slope at its end
    f: Array
    h: Array  #: its length
    radius: Array  #: estimate of the spectral radius, with its safety factor
    direction: Array  #: where the power method stands: a unit vector
    spent: Array  #: stages since the estimate; at least `_PATIENCE` asks for a new one


def _memory(*parts: Any) -> _Memory:
    """Return the state; what numpy makes a scalar is an array again."""
    return _Memory(*map(np.asarray, parts))


class Stabilised:
    """What the stabilised methods share: the spectral radius, and the choice of the number of stages.

    Parameters
    ----------
    bound : callable, optional
        ``bound(t, y) -> float``, an upper bound on the spectral radius of the Jacobian of f, or None where it has
        none. `integrate` gives the system's own.
    estimate : bool
        Estimate the radius by a nonlinear power method, warm from one estimate to the next and closer than
        bounds are, and take the bound only where that does not settle. False: the bound alone.
    """

    bound: Callable[..., Any] | None

    order: int
    error_order: int
    most: int  #: the largest number of stages

    def __init__(self, bound: Bound | None = None, *, estimate: bool = True) -> None:
        self.bound = validation.require_callable("bound", bound)
        self.estimate = estimate

    def bounded_by(self, bound: Bound) -> Self:
        """Return the same method with this bound, unless it has one."""
        return self if self.bound is not None else type(self)(bound, estimate=self.estimate)

    def interval(self, stages: int) -> float:
        """Return beta: the method with so many stages is stable on [-beta, 0]."""
        raise NotImplementedError

    def rounding(self, stages: int) -> float:
        """Return the error of a step by errors of size one in the arguments of f, 0 where it is negligible."""
        return 0.0

    def stages(self, z: float) -> int:
        """Return the least number of stages that is stable on [-z, 0]."""
        raise NotImplementedError

    def _advance(self, f: Velocity, t: Any, y: Array, h: Any, slope: Array, s: int) -> tuple[Array, Array, Array]:
        """Return y(t + h), the slope there and the error estimate, by s stages."""
        raise NotImplementedError

    def init(self, f: Velocity, t: Any, y: Array) -> State:
        slope = f(t, y)
        zero = np.zeros(y.shape[:-1])
        radius, direction = self._radius(f, t, y, slope, first_direction(slope), zero, tries=50)
        return _memory(y, slope, y, slope, zero, radius, direction, zero)

    def step(self, f: Velocity, t: Any, y: Array, h: Any, state: State) -> tuple[Array, Array | None, State]:
        slope, radius, direction, spent = _Memory(*state)[3], *state[5:]
        if spent.max() >= _PATIENCE:
            radius, direction = self._radius(f, t, y, slope, direction, radius, tries=20)
            spent = np.zeros_like(spent)
        s = self.stages(float(np.max(np.abs(h) * radius)))
        new, end, error = self._advance(f, t, y, h, slope, s)
        # where all else is at rest, roundoff alone limits the step
        size = np.linalg.norm(y, axis=-1, keepdims=True) / np.sqrt(y.shape[-1])
        error += np.copysign(_ROUNDED * self.rounding(s) * size, error)
        length = np.broadcast_to(np.asarray(h, dtype=np.float64), radius.shape)
        return new, error, _memory(y, slope, new, end, length, radius, direction, spent + s)

    def interpolant(self, state: State) -> Callable[[float], Array]:
        return Hermite(*state[:5])

    def longest(self, state: State) -> float:
        """Return the longest step that the largest number of stages can stabilise."""
        largest = self.known_radius(state)
        return self.interval(self.most) / largest if 0 < largest < np.inf else np.inf

    def known_radius(self, state: State) -> float:
        """Return the spectral radius in use, its safety factor included; the largest of a batch."""
        return float(_Memory(*state).radius.max())

    def retry(self, state: State) -> State:
        """Return the state from which to repeat a rejected step: it begins with a new estimate."""
        return _Memory(*state)._replace(spent=np.full_like(state[7], np.inf))

    def _radius(
        self, f: Velocity, t: Any, y: Array, slope: Array, direction: Array, known: Array, tries: int
    ) -> tuple[Array, Array]:
        """Return the spectral radius with its safety factor, and where the power method stands."""
        if self.estimate:
            found, direction, settled = spectral_radius(f, t, y, slope, direction, known / SAFETY, tries=tries)
            radius = np.where(np.isfinite(found), SAFETY * found, known)
            if settled or self.bound is None:
                return radius, direction
        bound = None if self.bound is None else self.bound(t, y)
        if bound is not None:
            return np.broadcast_to(np.asarray(bound, dtype=np.float64), y.shape[:-1]), direction
        if not self.estimate:
            raise ValueError("`bound` must give an upper bound where `estimate` is False, got None.")
        return radius, direction


class _Chebyshev(NamedTuple):
    """Coefficients of RKC with s stages; index j for stage j."""

    mu: Array
    nu: Array
    mu_f: Array
    gamma_f: Array
    c: Array


_DAMPING = 2 / 13


@lru_cache(maxsize=256)
def _chebyshev(s: int) -> _Chebyshev:
    """Return the coefficients for s stages, by the recurrences of T_j, T_j' and T_j'' at w0 = 1 + damping / s^2."""
    w0 = 1 + _DAMPING / s**2
    value, first, second = np.zeros((3, s + 1))
    value[:2], first[1] = (1, w0), 1
    for j in range(2, s + 1):
        value[j] = 2 * w0 * value[j - 1] - value[j - 2]
        first[j] = 2 * value[j - 1] + 2 * w0 * first[j - 1] - first[j - 2]
        second[j] = 4 * first[j - 1] + 2 * w0 * second[j - 1] - second[j - 2]
    w1 = first[s] / second[s]
    b = np.empty(s + 1)
    b[2:] = second[2:] / first[2:] ** 2
    b[:2] = b[2]
    mu, nu, mu_f, gamma_f, c = np.zeros((5, s + 1))
    mu_f[1] = b[1] * w1
    mu[2:], nu[2:], mu_f[2:] = 2 * b[2:] * w0 / b[1:-1], -b[2:] / b[:-2], 2 * b[2:] * w1 / b[1:-1]
    gamma_f[2:] = -(1 - b[1:-1] * value[1:-1]) * mu_f[2:]
    c[2:] = w1 * second[2:] / first[2:]
    c[1] = c[2] / first[2]
    return _Chebyshev(mu, nu, mu_f, gamma_f, c)


class RKC(Stabilised):
    r"""The Runge-Kutta-Chebyshev method of order 2, stable on about [-2/3 (s^2 - 1), 0] with s stages.

    Off the axis, on the ellipse about that interval of half axis sqrt(w_0^2 - 1) / w_1, about 0.18 s.

    With shifted Chebyshev polynomials :math:`P_j(z) = 1 - b_j T_j(w_0) + b_j T_j(w_0 + w_1 z)`, damped by
    :math:`w_0 = 1 + \tfrac{2}{13} s^{-2}`. The error estimate is :math:`\tfrac{4}{5}(y_n - y_{n+1}) +
    \tfrac{2}{5} h (f_n + f_{n+1}) = O(h^3)`. For tolerances down to about 1e-5; `ROCK4` below.

    Parameters
    ----------
    bound, estimate
        How the spectral radius is found, see `Stabilised`.

    References
    ----------
    .. [1] B. P. Sommeijer, L. F. Shampine, J. G. Verwer, RKC: An explicit solver for parabolic PDEs,
       J. Comput. Appl. Math. 88, 1998.
    """

    order = 2
    error_order = 3
    most = 2000  # roundoff grows like s^2 eps: still below 1e-9, and RKC is for tolerances far above that

    def interval(self, stages: int) -> float:
        return 2 / 3 * (stages**2 - 1) * (1 - 2 / 15 * _DAMPING)

    def stages(self, z: float) -> int:
        least = np.sqrt(1 + z / self.interval(2) * 3) if np.isfinite(z) else self.most
        return min(max(int(np.ceil(least)), 2), self.most)

    def _advance(self, f: Velocity, t: Any, y: Array, h: Any, slope: Array, s: int) -> tuple[Array, Array, Array]:
        k = _chebyshev(s)
        first = times(h, slope)
        # differences from y, so that roundoff is relative to the step
        before, now = np.zeros_like(y), k.mu_f[1] * first
        for j in range(2, s + 1):
            stage = times(h, f(t + k.c[j - 1] * h, y + now))
            before, now = now, k.mu[j] * now + k.nu[j] * before + k.mu_f[j] * stage + k.gamma_f[j] * first
        new = y + now
        end = f(t + h, new)
        return new, end, -0.8 * now + 0.4 * (first + times(h, end))
