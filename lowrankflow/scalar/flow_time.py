r"""The time that the gradient flow of a one-dimensional network takes, exactly, by one integral.

The flow keeps :math:`w_i^2 - w_j^2`. Let :math:`w_*` be the coordinate of least size, :math:`\delta_i = w_i^2 - w_*^2`
at the start, and u the least coordinate with the sign of the product. Then

.. math:: \dot u = -f'(p) \prod_{i \ne *} \sqrt{u^2 + \delta_i}, \qquad p = u \prod_{i \ne *} \sqrt{u^2 + \delta_i},

so u moves one way, through 0 if p has to change its sign, and :math:`T = \int |du| / (|f'(p)| \prod \sqrt{u^2 + \delta_i})`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from .. import validation
from ..validation import Array
from .descent import as_starts
from .outer import Outer, as_outer

__all__ = ["flow_time"]

_NODES, _WEIGHTS = leggauss(20)
_TOLERANCE = 1e-11  # of a panel, relative to the whole
_HALVINGS = 48
_MEMORY = 1 << 20  # numbers in one evaluation


def flow_time(
    w: ArrayLike,
    f: Outer | tuple[Callable[[Any], Any], Callable[[Any], Any]],
    loss: float,
    *,
    log: bool = False,
) -> Array:
    r"""Return the time at which the flow :math:`\dot w = -\nabla F(w)`, :math:`F(w) = f(\prod w_i)`, comes down to a loss.

    Descent with a small step h takes T / h iterations, to half a per cent for h = 1e-3 and networks of unit size.

    Parameters
    ----------
    w : array_like, (runs, k) or (k,)
        The starts.
    f : Outer, or pair of callables
        `Square`, `Logistic`, or (value, derivative) of arrays; convex.
    loss : float
        The loss to come down to.
    log : bool
        Return ln T, which is finite where T is beyond 1e308.

    Returns
    -------
    ndarray, (runs,)
        0 where the loss is reached at the start; infinite where it never is: where the infimum of f is not below
        it, at a critical point, and where the product has to reach zero while two least coordinates are of one size, as
        those of an orthogonal start are. (With `log` -inf and inf.)

    Raises
    ------
    ValueError, TypeError
        If an argument breaks its rule, or the loss at a start is not finite.

    Notes
    -----
    Derived here. In :math:`u = c \sinh z`, c the least non-zero :math:`\sqrt{\delta_i}`, or :math:`u = \pm e^z` where
    two are tied, the integrand is smooth; panels of 20 Gauss points are halved until a panel changes by less than 1e-11 of the
    whole. All factors are logarithms, so neither depth nor sizes over- or underflow.

    Examples
    --------
    >>> from lowrankflow.scalar import Square
    >>> flow_time([[2.0, 0.5, 1.0], [1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]], Square(-1.0), 0.1).round(6).tolist()
    [0.456895, inf, 0.0]
    """
    starts, f = as_starts(w), as_outer(f)
    loss = validation.require_finite_number("loss", loss)
    validation.require_flags(log=log)
    with np.errstate(all="ignore"):  # logarithms of zero
        log_time, paths = _ways(starts, f, loss)
        size = max(1, _MEMORY // (40 * _NODES.size * starts.shape[1]))
        for low in range(0, len(paths), size):
            part = paths[low : low + size]
            log_time[[path.run for path in part]] = _log_integrals(part, f)
        return log_time if log else np.exp(log_time)


class _Path(NamedTuple):
    """The way of u, as pieces of z on which it keeps its sign."""

    run: int
    log_delta: Array  #: (k - 1,), -inf where a coordinate is tied with the least
    log_unit: float  #: ln c; -inf where u = +- e^z
    pieces: list[tuple[float, float, float]]  #: sign of u, least z, largest z
    least_slope: float  #: |f'| at the end, where it is least

    @classmethod
    def of(cls, run: int, log_delta: Array, log_u: tuple[float, float], sign: float, end: float, slope: float) -> _Path:
        """Return the way of u from one size to another, of the sign of the product to that of its end."""
        if -np.inf in log_delta:
            log_unit, (a, b) = -np.inf, log_u
        else:
            log_unit = float(log_delta.min() / 2) if log_delta.size else max(log_u)
            a, b = (_arsinh(x - log_unit) for x in log_u)
        if sign * end <= 0:
            pieces = [(side, 0.0, z) for side, z in ((sign, a), (float(np.sign(end)), b)) if z > 0]
        else:
            pieces = [(sign, min(a, b), max(a, b))]
        return cls(run, log_delta, log_unit, pieces, slope)


def _ways(starts: Array, f: Outer, loss: float) -> tuple[Array, list[_Path]]:
    """Return ln T where there is no way to go, and the ways of the other runs."""
    ordered = np.sort(np.abs(starts), axis=1)
    least, rest = ordered[:, :1], ordered[:, 1:]
    tied = rest == least
    log_delta = np.where(tied, -np.inf, np.log(rest - least) + np.log(rest) + np.log1p(least / rest))
    log_u, sign = np.log(least[:, 0]), np.sign(starts).prod(axis=1)
    products = sign * np.exp(_log_product(log_u, log_delta))
    values = f.value(products)
    if not np.isfinite(values).all():
        raise ValueError(f"`w` must have a finite loss at every start, got run {int(np.argmin(np.isfinite(values)))}.")
    log_time = np.where(values <= loss, -np.inf, np.inf)
    ends = {run: _reached(f, float(products[run]), loss) for run in np.flatnonzero(values > loss)}
    # with two least coordinates of one size zero is never reached
    ways = [(i, end) for i, end in ends.items() if end is not None and not (tied[i].any() and sign[i] * end <= 0)]
    runs, of = np.array([i for i, _ in ways], dtype=int), np.array([end for _, end in ways])
    log_end = _log_least(np.log(np.abs(of)), log_delta[runs])
    beside = np.nextafter(of, products[runs])  # where f' at the end rounds to zero
    slopes = np.maximum(np.abs(f.derivative(of)), np.abs(f.derivative(beside)))
    return log_time, [
        _Path.of(i, log_delta[i], (log_u[i], log_end[j]), sign[i], of[j], slopes[j]) for j, i in enumerate(runs)
    ]


def _log_product(log_u: Array, log_delta: Array) -> Array:
    """ln |p| at ln |u|."""
    return log_u + 0.5 * np.logaddexp(2 * log_u[..., None], log_delta).sum(axis=-1)


def _log_least(log_p: Array, log_delta: Array) -> Array:
    """Return ln |u| at which ln |p| has a value: Newton on a convex function of slope 1 to k, from above the root."""
    tied = log_delta == -np.inf
    bounds = (log_p - 0.5 * np.where(tied, 0.0, log_delta).sum(axis=-1)) / (1 + tied.sum(axis=-1))
    x = np.minimum(bounds, log_p / (log_delta.shape[-1] + 1))
    for _ in range(100):
        slope = 1 + (1 / (1 + np.exp(log_delta - 2 * x[..., None]))).sum(axis=-1)
        step = np.where(x == -np.inf, 0.0, (_log_product(x, log_delta) - log_p) / slope)
        x = x - step
        if (np.abs(step) <= 1e-15 * np.maximum(np.abs(x), 1)).all():
            break
    return x


def _arsinh(log_ratio: float) -> float:
    return float(log_ratio + np.log(2) if log_ratio > 20 else np.arcsinh(np.exp(log_ratio)))


def _reached(f: Outer, p: float, loss: float) -> float | None:
    """Return the first product at which f, which is above the loss at p, has come down to it; None if it never does."""
    slope = float(f.derivative(p))
    if not slope or not np.isfinite(slope):
        return None
    side, low = -np.sign(slope), p
    step = max((float(f.value(p)) - loss) / abs(slope), np.spacing(abs(p)))  # Newton falls short where f is convex
    while np.isfinite(high := low + side * step):
        if float(f.value(high)) <= loss:
            return _root(lambda x: float(f.value(x)) - loss, low, high)
        if side * float(f.derivative(high)) >= 0:  # beyond the minimiser
            least = _root(lambda x: float(f.derivative(x)), low, high)
            return _root(lambda x: float(f.value(x)) - loss, low, least) if float(f.value(least)) < loss else None
        low, step = high, 2 * step
    return None


def _root(function: Callable[[float], float], a: float, b: float) -> float:
    return float(brentq(function, a, b, xtol=1e-300, rtol=4 * np.finfo(float).eps, maxiter=5000))


def _log_integrals(paths: list[_Path], f: Outer) -> Array:
    """Return ln of the integral along each path, panels of all of them at once."""
    delta = np.array([path.log_delta for path in paths])
    unit = np.array([path.log_unit for path in paths])
    slope = np.array([path.least_slope for path in paths])
    sign, low, high, of = _panels(paths)
    scale = np.full(len(paths), -np.inf)  # the largest integrand of a path, which is taken out

    def log_integrand(sign: Array, low: Array, high: Array, of: NDArray[np.int64]) -> Array:
        z = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * _NODES
        c = unit[of][:, None]
        tied = c == -np.inf
        log_u = np.where(tied, z, c + z + np.log(-np.expm1(-2 * z)) - np.log(2))
        log_move = np.where(tied, z, c + z + np.log1p(np.exp(-2 * z)) - np.log(2))
        log_p = _log_product(log_u, delta[of][:, None, :])
        down = np.maximum(np.abs(f.derivative(sign[:, None] * np.exp(log_p))), slope[of][:, None])
        return log_move - (log_p - log_u) - np.log(down)

    def integral(sign: Array, low: Array, high: Array, of: NDArray[np.int64], values: Array | None = None) -> Array:
        values = log_integrand(sign, low, high, of) if values is None else values
        return (high - low) / 2 * (np.exp(values - scale[of][:, None]) @ _WEIGHTS)

    values = log_integrand(sign, low, high, of)
    np.maximum.at(scale, of, values.max(axis=1))
    whole, done = integral(sign, low, high, of, values), np.zeros(len(paths))
    for _ in range(_HALVINGS):
        total = done + np.bincount(of, whole, len(paths))
        middle = (low + high) / 2
        halves = np.array([integral(sign, low, middle, of), integral(sign, middle, high, of)])
        right = np.abs(halves.sum(axis=0) - whole) <= _TOLERANCE * total[of]
        done += np.bincount(of[right], halves.sum(axis=0)[right], len(paths))
        left = ~right
        low, high = np.concatenate([low[left], middle[left]]), np.concatenate([middle[left], high[left]])
        sign, of, whole = np.tile(sign[left], 2), np.tile(of[left], 2), halves[:, left].ravel()
        if not of.size:
            break
    return scale + np.log(done + np.bincount(of, whole, len(paths)))


def _panels(paths: list[_Path]) -> tuple[Array, Array, Array, NDArray[np.int64]]:
    """Return sign, ends and path of panels at most 2 long."""
    sign: list[float] = []
    low: list[float] = []
    high: list[float] = []
    of: list[int] = []
    for i, path in enumerate(paths):
        for side, a, b in path.pieces:
            cuts = np.linspace(a, b, int(np.ceil((b - a) / 2)) + 1)
            low, high = [*low, *cuts[:-1]], [*high, *cuts[1:]]
            sign += [side] * (cuts.size - 1)
            of += [i] * (cuts.size - 1)
    return np.array(sign), np.array(low), np.array(high), np.array(of, dtype=np.int64)
