r"""Aligned balanced modes of any depth: the time in closed form, and its inverse.

With :math:`\beta = 1 - 2/N` a mode moves by :math:`s' = c\, s^{1 + \beta} (a - s)`, s > 0. Its path has at most two phases:

- `Power`: s is far from the target. With y = s / |a| or its reciprocal, y <= 1 (2/3 where a pole lies at 1),

  .. math:: \int_{y_0}^{y} \frac{\eta^{p - 1}}{1 - \sigma \eta} \, d\eta
            = \Big[ \frac{y^p}{p} + \sigma \frac{y^{p + 1}}{p + 1}
              + \frac{y^{p + 2}}{p + 2}\, {}_2F_1(1, p + 2; p + 3; \sigma y) \Big]_{y_0}^{y},

  p = -beta or 1 + beta. The first two terms alone become singular (p = 0 or -1, logarithms), and are differences of
  powers that expm1 gives to full accuracy.

- `Approach`: s is within a half of the target. With q = (a - s) / s the misfit in odds,

  .. math:: \int (1 + q)^\beta \, d(-\ln q) = -\ln q - \sum_{k \ge 1} \frac{(-\beta)_k}{k!\, k} (-q)^k .

Both are inverted by Newton's method from the start of the phase, in a coordinate in which the time has a slope between
1/3 and 3 and is convex or concave: after the first step it is monotone, and it needs no bracket.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import hyp2f1

from ..validation import Array

__all__ = ["Approach", "Power", "phases"]

_STEPS = 60  #: of Newton's method; it doubles the digits, six or seven are usual
_EPS = float(np.finfo(np.float64).eps)
_FOREVER = 1e300  #: later than that, in units of the phase, nothing moves any more here
_TERMS = 56  #: of a power series at 1/2


@dataclass(frozen=True, eq=False)
class Power:
    """A phase in which s moves like a power of the time: ``s = start exp(way * u)``, u >= 0. Times count from its start.

    The time in units of `rate` is ``T(u) = turn * (int_{y0}^{y} ...) / y0^p``, ``y = y0 exp(turn * u)``.
    """

    start: Array
    end: Array  #: (r,) of s
    target: Array
    rate: Array  #: (r,) 1 / time
    p: float
    sigma: float
    turn: float  #: y grows (1) or falls (-1)
    way: float  #: s grows or falls

    @property
    def y0(self) -> Array:
        ratio = self.start / np.abs(self.target) if self.turn == self.way else np.abs(self.target) / self.start
        return np.where(self.start > 0, ratio, 0.0)

    @property
    def longest(self) -> Array:
        return np.maximum(self.way * _log_ratio(self.end, self.start), 0.0)

    @property
    def duration(self) -> Array:
        """How long it lasts, (r,): zero for modes that begin beyond."""
        time = self._time(self.longest) / self.rate
        return np.where(np.isnan(time), np.inf, time)  # no end (a target of zero), or none that a float could tell

    def _y(self, u: Array) -> Array:
        return np.where(self.y0 > 0, self.y0 * np.exp(self.turn * u), 0.0)  # a target of zero stays out of it

    def _time(self, u: Array) -> Array:
        p, sigma, y0, x = self.p, self.sigma, self.y0, self.turn * u
        y = self._y(u)
        # y^(p + 1) / y0^p, written so that it neither over- nor underflows early
        raised = y * np.exp(p * x) if self.turn > 0 else y0 * np.exp((p + 1) * x)
        second = np.where(x < 1, y0 * _power(p + 1, x), (raised - y0) / (p + 1)) if p > -0.5 else y0 * _power(p + 1, x)
        rest = raised * y * _tail(p + 2, sigma * y) - y0 * y0 * _tail(p + 2, sigma * y0)
        return self.turn * (_power(p, x) + sigma * second + rest)

    def time(self, s: Array) -> Array:
        """Return when s is reached."""
        u = np.clip(self.way * _log_ratio(s, self.start), 0.0, self.longest)
        time = self._time(u) / self.rate
        return np.where(np.isnan(time), np.inf, time)

    def values(self, t: Array) -> tuple[Array, Array]:
        """Return s and a - s, (..., r)."""
        tau = np.minimum(np.minimum(t, self.duration) * self.rate, _FOREVER)
        turn, longest = self.turn, self.longest
        last = turn * _power(self.p, turn * longest)
        # d = turn * (e^(p x) - 1) / p, x = turn * u: dT/dd = 1 / (1 - sigma y) lies between 1/2 and 3
        d = np.zeros_like(tau)
        for _ in range(_STEPS):
            u = np.minimum(turn * _log_power(self.p, turn * d), longest)
            new = np.clip(d + (tau - self._time(u)) * (1 - self.sigma * self._y(u)), 0.0, last)
            done = np.abs(new - d) <= 8 * _EPS * new
            d = new
            if done.all():
                break
        u = np.where(t < self.duration, np.minimum(turn * _log_power(self.p, turn * d), longest), longest)
        s = self.start * np.exp(self.way * u)
        return s, self.target - s


@dataclass(frozen=True, eq=False)
class Approach:
    """The last phase: q = (a - s) / s, at most a half in size, falls to zero like ``exp(-u)``; s = a / (1 + q)."""

    start: Array
    target: Array
    odds: Array  #: (r,) q at the start
    rate: Array
    beta: float

    def _time(self, u: Array, q: Array) -> Array:
        return u - (_series(self.beta, -q) - _series(self.beta, -self.odds))

    def time(self, s: Array) -> Array:
        """Return when s is reached."""
        a, b = self.target, self.start
        u = np.log1p(np.maximum(a / b * ((s - b) / (a - s)), 0.0))  # ln(q(start) / q(s))
        return self._time(u, self.odds * np.exp(-u)) / self.rate

    def values(self, t: Array) -> tuple[Array, Array]:
        """Return s and a - s, (..., r)."""
        tau = np.minimum(t * self.rate, _FOREVER)
        u = np.zeros_like(tau)
        for _ in range(_STEPS):
            q = self.odds * np.exp(-u)
            new = np.maximum(u + (tau - self._time(u, q)) * (1 + q) ** -self.beta, 0.0)
            done = np.abs(new - u) <= 8 * _EPS * new
            u = new
            if done.all():
                break
        q = self.odds * np.exp(-u)
        return self.target / (1 + q), self.target * (q / (1 + q))


def phases(s0: Array, a: Array, rate: Array, beta: float, kind: int) -> tuple[Power, Power | Approach]:
    """Return the two phases of modes of one kind: below their target (1), above it (0), or of a negative one (-1).

    ``s' = rate * s^(1 + beta) (a - s)``; s0 > 0. A duration of zero leaves the first out.
    """
    b = np.abs(a)
    end = 2 * a / 3 if kind > 0 else 2 * b if kind == 0 else b
    late = s0 > end if kind > 0 else s0 < end
    early, start = np.where(late, end, s0), np.where(late, s0, end)
    if kind > 0:
        # y = s / a up to 2/3
        first = Power(early, end, a, rate * a * early**beta, -beta, 1.0, 1.0, 1.0)
    else:
        # y = |a| / s, up to 1/2 where the target is met at 1
        sigma = 1.0 if kind == 0 else -1.0
        first = Power(early, end, a, rate * early ** (1 + beta), 1 + beta, sigma, 1.0, -1.0)
    if kind < 0:
        # y = s / |a| falls to zero: in finite time for beta < 0
        return first, Power(start, 0 * b, a, rate * b * start**beta, -beta, -1.0, -1.0, -1.0)
    odds = np.where(late, (a - s0) / s0, 0.5 if kind > 0 else -0.5)
    return first, Approach(start, a, odds, rate * b ** (1 + beta), beta)


def _power(p: float, x: Array) -> Array:
    """Return (e^(p x) - 1) / p."""
    return x if p == 0 else np.expm1(p * x) / p


def _log_power(p: float, d: Array) -> Array:
    """Return the inverse of `_power`, ln(1 + p d) / p; minus infinity where it ends."""
    return d if p == 0 else np.log1p(np.maximum(p * d, -1.0)) / p


def _tail(b: float, y: Array) -> Array:
    """Return sum_k y^k / (k + b)."""
    return np.asarray(hyp2f1(1.0, b, b + 1.0, y), dtype=np.float64) / b


def _series(beta: float, y: Array) -> Array:
    """Return sum_{k >= 1} (-beta)_k y^k / (k! k), |y| <= 1/2."""
    k = np.arange(1, _TERMS)
    coefficients = np.cumprod((k - 1 - beta) / k) / k
    return np.asarray(np.polynomial.polynomial.polyval(y, np.concatenate([[0.0], coefficients])))


def _log_ratio(a: Array, b: Array) -> Array:
    """Return ln(a / b), to full relative accuracy where the two are close."""
    near, ratio = np.abs(a - b) < b / 2, a / b
    far = np.where((ratio > 0) & np.isfinite(ratio), np.log(ratio), np.log(a) - np.log(b))
    return np.where(near, np.log1p(np.where(near, (a - b) / b, 0.0)), far)
