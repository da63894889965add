"""Gradients differentiated afresh, by autograd or by differences."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
from scipy import linalg

from ..gradients import product_retraction, raw_factor_gradients
from ..losses import Loss, facts
from ..losses.facts import only_if
from ..matrices import EPS, LinearNetwork, MatrixOrArray
from ..operators import MatrixLike, Multiple
from ..validation import Array, Rng, as_rng

__all__ = ["Tampered", "directional_derivative", "gradient_error", "relative", "roundoff"]

_DENSE_LIMIT = 4_000_000  # autograd needs W as one array; above this many entries central differences serve


class Tampered:
    """A loss with its gradient multiplied by `factor`: the control of every check of a gradient."""

    shape: tuple[int, int]

    differentiable_by_autograd = False

    def __init__(self, loss: Loss, factor: float) -> None:
        self._loss, self._factor = loss, factor
        self.shape = loss.shape

    def value(self, w: MatrixOrArray) -> float:
        """Return the true value."""
        return self._loss.value(w)

    def gradient(self, w: MatrixOrArray) -> MatrixLike:
        """Return the true gradient times the factor."""
        return Multiple(self._loss.gradient(w), self._factor)

    @only_if(lambda self: facts(self._loss).hessian is not None)
    def hessian(self, w: MatrixOrArray, z: MatrixOrArray) -> MatrixLike:
        """Return the true Hessian times the factor; missing where the loss has none."""
        hessian = facts(self._loss).hessian
        assert hessian is not None
        return Multiple(hessian(w, z), self._factor)


def roundoff(function: Callable[[float], float]) -> float:
    """Return what ``function(0)`` is off by: eps of it, or the steps in which it goes where those are wider.

    A value that is a small difference of large terms, log cosh of a tiny number for instance, has their roundoff: it does not
    change at all, or jumps, at distances from which one that is right to its last digit has long moved on.
    """
    here = function(0.0)
    jumps = np.abs([function(h) - here for h in 10.0 ** np.arange(-16, 0.5, 0.5)])
    still = np.flatnonzero(jumps == 0.0)
    widest = float(jumps[: still[-1] + 2].max()) if still.size else 0.0
    return max(EPS * abs(here), widest)


def directional_derivative(function: Callable[[float], float]) -> float:
    """Return the derivative at 0 by the five-point central difference, with the step that is most consistent.

    Truncation falls like h^4, roundoff grows like eps / h; where they balance depends on the function, so steps 1e-7 ..
    1000 (relative to the direction that the caller scaled) are tried, from the smallest on, for as long as a value
    agrees with the one before to a tenth and the roundoff of both: further out the function may be flat, and its
    differences agree on nothing. Of these the value that agrees best with both its neighbours is returned.
    """

    def stencil(h: float) -> float:
        near, far = function(h) - function(-h), function(2 * h) - function(-2 * h)
        return (8 * near - far) / (12 * h)

    steps = 10.0 ** np.arange(-7, 3.5, 0.5)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.array([stencil(h) for h in steps])
        gaps = np.nan_to_num(np.abs(np.diff(values)), nan=np.inf)
        noise = 100 * roundoff(function) / steps[:-1]
    apart = gaps > 0.1 * np.abs(values[:-1]) + noise
    last = max(2, int(np.argmax(apart)) if apart.any() else gaps.size)  # gaps before the first that is too wide
    return float(values[1 + int(np.argmin(np.maximum(gaps[: last - 1], gaps[1:last])))])


def gradient_error(
    loss: Loss, net: LinearNetwork, *, rng: Rng = 0, value: Callable[[Any], float] | None = None
) -> tuple[float, float, str]:
    """Compare `factor_gradients` with a fresh differentiation of ``value(W_N ... W_1)``.

    Parameters
    ----------
    loss : Loss
        Its ``gradient`` is what is tested.
    net : LinearNetwork
        Where.
    rng : int or numpy.random.Generator, optional
        Draws the directions of central differences.
    value : callable, optional
        What to differentiate; None: ``loss.value``.

    Returns
    -------
    error, bound : float
        Relative error over all factors, and the bound of the method: 1e-9 by autograd, 1e-6 by
        central differences, or a hundred times the roundoff where that is larger.
    method : str
        Which of the two it was: autograd where the loss declares ``differentiable_by_autograd``.
    """
    value, rng = loss.value if value is None else value, as_rng(rng)
    used = raw_factor_gradients(loss, net)
    if facts(loss).differentiable_by_autograd and net.shape[0] * net.shape[1] <= _DENSE_LIMIT:
        from autograd import grad

        def composed(factors: tuple[Array, ...]) -> Any:
            return value(reduce(lambda a, f: f @ a, factors))

        fresh = grad(composed)(tuple(net.factors))
        # near a critical point the gradient is a small difference of large terms: what a change of the factors in
        # their last digit does to it is the roundoff that both sides have, each in its own way
        last_digit = [f * (EPS * rng.choice([-1.0, 1.0], f.shape)) for f in net.factors]
        moved, again = (_asked_twice(loss, at) for at in (product_retraction(net, last_digit), net))
        bound = max(1e-9, 100 * _distance(moved, again))
        return _distance(used, list(fresh)), bound, "autograd"
    pairs, noise = [], 0.0
    for _ in range(16):
        direction = [rng.standard_normal(f.shape) for f in net.factors]
        direction = [d * np.linalg.norm(f) / np.linalg.norm(d) for d, f in zip(direction, net.factors, strict=True)]

        def along(h: float, direction: list[Array] = direction) -> float:
            return float(value(product_retraction(net, [h * d for d in direction])))

        noise = max(noise, roundoff(along))
        pairs.append((directional_derivative(along), sum(np.vdot(g, d) for g, d in zip(used, direction, strict=True))))
    fresh, ours = np.array(pairs).T
    # roundoff of the value over the step, which is about 1e-2 of the factors, with two digits of reserve
    typical = max(float(np.linalg.norm(fresh)), float(np.linalg.norm(ours))) / np.sqrt(fresh.size)
    bound = max(1e-6, 1e4 * noise / typical) if typical > 0 else 1.0
    return relative(ours, fresh), bound, "central differences"


def _asked_twice(loss: Loss, net: LinearNetwork) -> list[Array]:
    """Return the second answer: what a loss remembers of its call before is a mistake, and not roundoff."""
    raw_factor_gradients(loss, net)
    return raw_factor_gradients(loss, net)


def _distance(a: list[Array], b: list[Array]) -> float:
    """Return ||a - b|| over the larger of both, of two lists of factor gradients."""
    return relative(*(np.concatenate([x.ravel() for x in part]) for part in (a, b)))


def relative(ours: Array, fresh: Array) -> float:
    """Return ||ours - fresh|| over the larger of both; zero where both are."""
    size = max(float(linalg.norm(ours)), float(linalg.norm(fresh)))  # of BLAS, whose squares do not underflow
    return float(linalg.norm(ours - fresh)) / (size or 1.0)
