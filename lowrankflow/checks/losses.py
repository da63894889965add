"""Does this loss have the gradient it says it has?

Each check returns a `Report` of claims, each with a control that must fail.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from .. import validation
from ..gradients import factor_gradients, product_retraction, squared_norm
from ..matrices import EPS, LinearNetwork, LowRankMatrix, Product
from ..report import Claim, Control, Hypothesis, Report
from ..validation import Array

__all__ = ["check_loss", "directional_derivative", "gradient_error"]

_DENSE_LIMIT = 4_000_000  # autograd needs W as one array; above this many entries central differences serve


class Tampered:
    """A loss with its gradient multiplied by `factor`: the control of every check of a gradient."""

    differentiable_by_autograd = False

    def __init__(self, loss: Any, factor: float) -> None:
        self._loss, self._factor = loss, factor
        self.shape = loss.shape

    def value(self, w: Any) -> float:
        """Return the true value."""
        return self._loss.value(w)

    def gradient(self, w: Any) -> Any:
        """Return the true gradient times the factor."""
        return _Scaled(self._loss.gradient(w), self._factor)

    def hessian(self, w: Any, z: Any) -> Any:
        """Return the true Hessian times the factor."""
        return _Scaled(self._loss.hessian(w, z), self._factor)


class _Scaled:
    """A matrix-like times a number."""

    __array_ufunc__ = None

    def __init__(self, inner: Any, factor: float) -> None:
        self._inner, self._factor, self.shape = inner, factor, inner.shape

    @property
    def T(self) -> _Scaled:
        return _Scaled(self._inner.T, self._factor)

    def __matmul__(self, x: Array) -> Array:
        return self._factor * (self._inner @ x)


def directional_derivative(function: Callable[[float], float]) -> float:
    """Return the derivative at 0 by the five-point central difference, with the step that is most consistent.

    Truncation falls like h^4, roundoff grows like eps / h; where they balance depends on the function,
    so steps 1e-4 .. 1000 (relative to the direction that the caller scaled) are tried, and the value that
    agrees best with both its neighbours is returned.
    """

    def stencil(h: float) -> float:
        near, far = function(h) - function(-h), function(2 * h) - function(-2 * h)
        return (8 * near - far) / (12 * h)

    with np.errstate(over="ignore", invalid="ignore"):
        values = np.array([stencil(h) for h in 10.0 ** -np.arange(-3, 4.5, 0.5)])
    gaps = np.nan_to_num(np.abs(np.diff(values)), nan=np.inf)
    return float(values[1 + int(np.argmin(np.maximum(gaps[:-1], gaps[1:])))])


def gradient_error(
    loss: Any, net: LinearNetwork, *, rng: np.random.Generator, value: Callable[[Any], float] | None = None
) -> tuple[float, float, str]:
    """Compare `factor_gradients` with a fresh differentiation of ``value(W_N ... W_1)``.

    Parameters
    ----------
    loss : Loss
        Its ``gradient`` is what is tested.
    net : LinearNetwork
        Where.
    rng : numpy.random.Generator
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
    value = loss.value if value is None else value
    used = factor_gradients(loss, net)
    if getattr(loss, "differentiable_by_autograd", False) and net.shape[0] * net.shape[1] <= _DENSE_LIMIT:
        from autograd import grad

        def composed(factors: tuple[Array, ...]) -> Any:
            return value(reduce(lambda a, f: f @ a, factors))

        fresh = grad(composed)(tuple(net.factors))
        # near a critical point the gradient is a small difference of large terms: what a change of the factors in
        # their last digit does to it is the roundoff that both sides have, each in its own way
        last_digit = [f * (EPS * rng.choice([-1.0, 1.0], f.shape)) for f in net.factors]
        moved = factor_gradients(loss, product_retraction(net, last_digit))
        bound = max(1e-9, 100 * _distance(moved, used))
        return _distance(used, list(fresh)), bound, "autograd"
    pairs = []
    for _ in range(16):
        direction = [rng.standard_normal(f.shape) for f in net.factors]
        direction = [d * np.linalg.norm(f) / np.linalg.norm(d) for d, f in zip(direction, net.factors, strict=True)]

        def along(h: float, direction: list[Array] = direction) -> float:
            return float(value(product_retraction(net, [h * d for d in direction])))

        pairs.append((directional_derivative(along), sum(np.vdot(g, d) for g, d in zip(used, direction, strict=True))))
    fresh, ours = np.array(pairs).T
    # roundoff of the value over the step, which is about 1e-2 of the factors, with two digits of reserve
    typical = float(np.linalg.norm(fresh)) / np.sqrt(fresh.size)
    bound = max(1e-6, 1e4 * EPS * abs(float(value(net))) / typical) if typical > 0 else 1e-6
    return _relative(ours, fresh), bound, "central differences"


def check_loss(loss: Any, start: LowRankMatrix, *, rng: np.random.Generator | None = None) -> Report:
    """Check a loss at a matrix: gradient, transpose, representations, and the Hessian if there is one.

    Parameters
    ----------
    loss : Loss
        Any object with ``shape``, ``value(w)``, ``gradient(w)``; ``hessian(w, z)`` is checked if present.
    start : LowRankMatrix, (m, n) of rank k
        Where to check; the loss must be twice differentiable nearby.
    rng : numpy.random.Generator, optional
        Draws the directions; None: the same directions at every call.

    Returns
    -------
    Report
        Claims ``gradient``, ``adjoint``, ``representations`` and ``hessian``, each with a control.
        ``report.raise_if_failed()`` turns a failure into an exception.

    Raises
    ------
    ValueError, TypeError
        If `loss` lacks a method or has a value that is not one real number, `start` is not a LowRankMatrix,
        or the shapes differ.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> rng = np.random.default_rng(0)
    >>> loss = lrf.losses.LeastSquares(rng.standard_normal((3, 9)), rng.standard_normal((4, 9)))
    >>> lrf.check_loss(loss, lrf.random_point(4, 3, 2, rng=rng)).passed
    True
    """
    validation.check_loss(loss)
    validation.check_point("start", start)
    validation.check_shape("start", start.shape, loss.shape)
    rng = np.random.default_rng(0) if rng is None else validation.check_rng(rng)
    g = validation.check_gradient(loss.gradient(start), start.shape)
    value = validation.check_value(loss.value(start))
    finite = Hypothesis("value is finite", bool(np.isfinite(value)), value)
    m, n = start.shape
    report = Report("check-loss", {"loss": repr(loss), "shape": [m, n], "rank": start.rank})

    w = Product(*start.split())
    scale = start.norm()
    directions = []
    for _ in range(16):
        z = Product(rng.standard_normal((m, 2)), rng.standard_normal((2, n)))
        directions.append(z * (scale / z.norm()))
    fresh = np.array([directional_derivative(lambda h, z=z: float(loss.value(w + z * h))) for z in directions])  # type: ignore[misc]
    ours = np.array([_pairing(g, z) for z in directions])
    source = "derived: docs/theory.md#numerics"
    report.claims.append(
        Claim(
            "gradient",
            "<gradient(w), z> is the derivative of value along 16 random directions z.",
            source,
            _relative(ours, fresh),
            "<=",
            1e-6,
            (finite,),
            (Control("gradient times 1.001", _relative(1.001 * ours, fresh), 1e-6),),
            "Five-point central differences; the bound is their accuracy, not roundoff.",
        )
    )

    u, v = rng.standard_normal((m, 4)), rng.standard_normal((n, 4))
    gv, gu = g @ v, g.T @ u
    a, b = u.T @ gv, gu.T @ v
    # both sides are sums of at most m n products, of size ||u|| ||G v||
    bound = 10 * EPS * np.sqrt(m * n)
    size = float(np.linalg.norm(u) * np.linalg.norm(gv) + np.linalg.norm(gu) * np.linalg.norm(v)) or 1.0
    wrong = u.T @ gv + 1e-3 * size / a.size
    report.claims.append(
        Claim(
            "adjoint",
            "u^T (G v) = (G^T u)^T v: `g @ v` and `g.T @ u` belong to one matrix.",
            source,
            float(np.linalg.norm(a - b)) / size,
            "<=",
            float(bound),
            (finite,),
            (Control("one product off by 1e-3", float(np.linalg.norm(wrong - b)) / size, float(bound)),),
        )
    )

    net = LinearNetwork.balanced(start, 3)
    values = np.array([float(loss.value(x)) for x in (start, w, net)])
    products = [loss.gradient(x) @ v for x in (start, w, net)]
    spread = max(
        float(np.ptp(values)) / (np.abs(values).max() or 1.0),
        max(float(np.linalg.norm(p - products[0])) for p in products) / (float(np.linalg.norm(products[0])) or 1.0),
    )
    moved = float(np.linalg.norm(loss.gradient(w * 1.001) @ v - products[0])) / (
        float(np.linalg.norm(products[0])) or 1.0
    )
    bound = 1e-9  # roundoff of three ways to multiply, with four digits for cancellation in the residual and for scale
    report.claims.append(
        Claim(
            "representations",
            "LowRankMatrix, Product and LinearNetwork of one W have one value and one gradient.",
            source,
            spread,
            "<=",
            bound,
            (finite,),
            (Control("W times 1.001", moved, bound),),
        )
    )

    if callable(getattr(loss, "hessian", None)):
        z = directions[0]
        ours = (loss.hessian(w, z) @ v).ravel()
        h = EPS ** (1 / 3)  # where truncation h^2 and roundoff eps / h of the central difference balance
        fresh = ((loss.gradient(w + z * h) @ v - loss.gradient(w - z * h) @ v) / (2 * h)).ravel()
        report.claims.append(
            Claim(
                "hessian",
                "hessian(w, z) is the derivative of gradient along z.",
                source,
                _relative(ours, fresh),
                "<=",
                1e-6,
                (finite,),
                (Control("Hessian times 1.001", _relative(1.001 * ours, fresh), 1e-6),),
                "Central difference of the gradient with step eps^(1/3): accurate to about 1e-9.",
            )
        )
    return report


def _pairing(g: Any, z: Product) -> float:
    """Return <G, Z>_F with two thin products."""
    return float(np.vdot(g @ z.right.T, z.left))


def _distance(a: list[Array], b: list[Array]) -> float:
    """Return ||a - b|| / ||b|| of two lists of factor gradients."""
    size = squared_norm(b) or 1.0
    return float(np.sqrt(squared_norm([x - y for x, y in zip(a, b, strict=True)]) / size))


def _relative(ours: Array, fresh: Array) -> float:
    """Return ||ours - fresh|| / ||fresh||."""
    return float(np.linalg.norm(ours - fresh) / (np.linalg.norm(fresh) or 1.0))
