"""The lemmas of the paper as numbers, and the assumptions of its theorems as checks.

All statements are those of O. Shamir, Exponential convergence time of gradient descent for one-dimensional deep linear
neural networks, COLT 2019, PMLR 99:2691-2713.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .. import validation
from ..report import Hypothesis
from ..validation import Array
from .descent import as_starts, descend
from .outer import Mirrored, Outer, Pair, as_outer

__all__ = [
    "ProductTail",
    "decline_bound",
    "iterations_bound",
    "largest_partial",
    "product_tail",
    "sign_gap",
    "theorem_3_assumptions",
    "theorem_4_assumptions",
]


class ProductTail(NamedTuple):
    """With at most `probability` a product of all coordinates but one exceeds `threshold`."""

    threshold: float
    probability: float


def largest_partial(w: ArrayLike, *, log: bool = False) -> Array:
    r"""Return :math:`\max_j \prod_{i \ne j} |w_i|` of every network: the product without its least coordinate.

    Parameters
    ----------
    w : array_like, (runs, k) or (k,)
        Networks.
    log : bool
        Its logarithm, which neither under- nor overflows.

    Returns
    -------
    ndarray, (runs,)

    Examples
    --------
    >>> largest_partial([[0.5, -2.0, 3.0]]).round(12).tolist()
    [6.0]
    """
    validation.require_flags(log=log)
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        found = np.log(np.sort(np.abs(as_starts(w)), axis=1)[:, 1:]).sum(axis=1)
        return found if log else np.exp(found)


def product_tail(depth: int, mean_size: float) -> ProductTail:
    r"""Return the bound of Lemma 5: independent coordinates, :math:`a = E|w_i| < 1`, make small products.

    .. math:: \Pr\Big(\max_j \prod_{i \ne j} |w_i| \ge k\, a^{(k - 1)/2}\Big) \le a^{(k - 1)/2} .

    Parameters
    ----------
    depth : int
        k, at least 2.
    mean_size : float
        a, below 1: :math:`\sqrt{2 / \pi}` for Gaussian coordinates of variance 1, :math:`\sqrt 3 / 2` for uniform ones.

    Returns
    -------
    ProductTail
        ``threshold``, :math:`k a^{(k-1)/2}`, and ``probability``, :math:`a^{(k-1)/2}`.

    Raises
    ------
    ValueError, TypeError
        If the depth is not a whole number above 1, or a not between 0 and 1.

    Examples
    --------
    >>> product_tail(20, 0.7978845608)[1].__round__(4)
    0.1171
    """
    k = validation.require_integer("depth", depth, low=2)
    a = validation.require_number("mean_size", mean_size)
    if a >= 1:
        raise ValueError(f"`mean_size` must be below 1, got {a:g}. The lemma says nothing there.")
    return ProductTail(k * a ** ((k - 1) / 2), a ** ((k - 1) / 2))


def iterations_bound(w: ArrayLike, f: Outer | tuple[Any, Any], *, step_size: float, stop: float) -> Array:
    r"""Return a number of iterations that gradient descent needs at least, certified at the start (Lemma 6).

    Let :math:`\alpha = \max_j \prod_{i \ne j} |w_i|`, :math:`\delta = \min |w_i|`. In the ball of radius
    :math:`r = \delta \ln(\beta / \alpha) / \sqrt{k - 1}` about w the product is at most :math:`b = \beta (\|w\|_\infty + r)`,
    and the gradient at most :math:`G = \sqrt k\, \beta \sup_{|p| \le b} |f'(p)|`. If f is above `stop` on all of
    :math:`|p| \le b`, descent has to leave the ball, which takes more than

    .. math:: \frac{r}{h\, G} = \frac{\delta \ln(\beta / \alpha)}{\sqrt{k - 1}\; h \sqrt k\, \beta \sup |f'|}

    iterations. The :math:`\beta > \alpha` that gives most is taken, of 400 between :math:`\alpha` and 1000 times it.

    Parameters
    ----------
    w : array_like, (runs, k) or (k,)
        The starts, k at least 2.
    f : Outer, or pair of callables
        Convex, so that its slope is largest at an end of an interval, and its least value there or at the minimiser.
    step_size : float
        h, positive.
    stop : float
        The loss to be reached.

    Returns
    -------
    ndarray, (runs,)
        0 where nothing is certified.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks its rule.

    Notes
    -----
    The lemma is the paper's; the choice of beta, and the count, are ours. It was .012 (k = 6) and .005 (k = 18) of the
    actual number in the median of Gaussian starts.

    Examples
    --------
    >>> from lowrankflow.scalar import Square
    >>> iterations_bound([[0.5] * 10, [2.0] * 10], Square(-1.0), step_size=1e-2, stop=0.1).round(1).tolist()
    [989.2, 0.0]
    """
    starts, f = _deep(w), as_outer(f)
    h = validation.require_number("step_size", step_size)
    stop = validation.require_finite_number("stop", stop)
    k, size = starts.shape[1], np.abs(starts)
    least, largest = size.min(axis=1), size.max(axis=1)
    log_alpha = largest_partial(starts, log=True)
    log_ratio = np.linspace(0, np.log(1000), 401)[1:, None]
    with np.errstate(all="ignore"):  # a beta that over- or underflows certifies nothing
        radius = least * log_ratio / np.sqrt(k - 1)
        beta = np.exp(log_alpha + log_ratio)
        ends = beta * (largest + radius)
        slopes = np.abs(f.derivative(ends)), np.abs(f.derivative(-ends))
        # f is above `stop` on the interval if it is at both ends, and they slope the same way
        outside = (f.value(ends) > stop) & (f.value(-ends) > stop)
        outside &= f.derivative(ends) * f.derivative(-ends) > 0
        count = np.where(outside, radius / (h * np.sqrt(k) * beta * np.maximum(*slopes)), 0.0)
    return np.where(np.isfinite(count), count, 0.0).max(axis=0)


def sign_gap(
    w: ArrayLike, signs: ArrayLike, f: Outer | tuple[Any, Any], *, step_size: float, steps: int, mirrored: bool = True
) -> float:
    r"""Return how far descent from signed coordinates is from the signed descent (Lemma 11: nothing).

    From :math:`\sigma \circ w`, under :math:`p \mapsto f(\sigma_1 \cdots \sigma_k p)`, for the square loss with the target
    :math:`(\prod \sigma) y`, descent is :math:`\sigma \circ w(t)`, and so is it in floating point.

    Parameters
    ----------
    w : array_like, (runs, k) or (k,)
        The starts.
    signs : array_like, (k,)
        :math:`\sigma`, of 1 and -1.
    f : Outer, or pair of callables
        Of the descent from w.
    step_size : float
        h, positive.
    steps : int
        Updates.
    mirrored : bool
        False: f is kept as it is, and the statement is wrong where the signs multiply to -1.

    Returns
    -------
    float
        The largest difference of a coordinate at the end over the largest coordinate.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks its rule.

    Examples
    --------
    >>> from lowrankflow.scalar import Square
    >>> sign_gap([0.3, 1.2, 0.8], [1, -1, 1], Square(-1.0), step_size=0.05, steps=100)
    0.0
    """
    starts, f = as_starts(w), as_outer(f)
    sigma = validation.as_vector("signs", signs, starts.shape[1])
    if not (np.abs(sigma) == 1).all():
        raise ValueError("`signs` must be 1 and -1, got other numbers.")
    validation.require_flags(mirrored=mirrored)
    other = Mirrored(f) if mirrored and sigma.prod() < 0 else f
    limit = validation.require_integer("steps", steps, low=1)
    stop = -np.finfo(float).max  # never
    a = descend(starts, f, step_size=step_size, stop=stop, limit=limit).w
    b = descend(sigma * starts, other, step_size=step_size, stop=stop, limit=limit).w
    return float(np.abs(sigma * a - b).max() / (np.abs(a).max() or 1.0))


def decline_bound(w: ArrayLike, target: float, *, step_size: ArrayLike, loss: float) -> Array:
    r"""Return a number of iterations after which the square loss is below `loss`, in the good case (Lemma 13).

    For :math:`F = \tfrac12 (\prod w_i - y)^2` and :math:`y > \prod w_i \ge 0`, w positive, of which one coordinate is
    :math:`\delta` and all others at least :math:`\gamma \ge \delta`: with :math:`h \le \delta^2 / (2 k y^2)`

    .. math:: F \le \varepsilon \quad\text{from}\quad t \ge \frac{\ln(y^2 / 2\varepsilon)}{k\, \delta^2 \gamma^{2(k - 2)} h} .

    Parameters
    ----------
    w : array_like, (runs, k) or (k,)
        Positive; where pairs of coordinates are negative, their sizes (Lemma 11).
    target : float
        y, positive.
    step_size : float or array_like, (runs,)
        h.
    loss : float
        :math:`\varepsilon`, positive.

    Returns
    -------
    ndarray, (runs,)
        Infinite where it is beyond 1e308, 0 where the loss cannot be above `loss`.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks its rule, or a start an assumption.

    Examples
    --------
    >>> float(decline_bound([0.9, 0.8, 0.9], 1.0, step_size=0.05, loss=0.01)[0].round(3))
    50.309
    """
    starts = _deep(w)
    y, loss = validation.require_number("target", target), validation.require_number("loss", loss)
    h = validation.as_real("step_size", step_size).astype(float)
    h = np.full(len(starts), float(h)) if h.ndim == 0 else validation.as_vector("step_size", h, len(starts))
    k, ordered = starts.shape[1], np.sort(starts, axis=1)
    if not (ordered > 0).all():
        raise ValueError(f"`w` must be positive, got {ordered.min():g}. Take the sizes where the product is positive.")
    with np.errstate(over="ignore", under="ignore"):
        products = np.exp(np.log(ordered).sum(axis=1))
        if not (products < y).all():
            raise ValueError(f"`w` must have products below the target {y:g}, got {products.max():g}.")
        delta, gamma = ordered[:, 0], ordered[:, 1]
        most = delta**2 / (2 * k * y**2)
        if not ((h > 0) & (h <= most)).all():
            i = int(np.argmin((h > 0) & (h <= most)))
            raise ValueError(
                f"`step_size` must be positive and at most delta^2 / (2 k y^2), got {h[i]:g} > {most[i]:g} for run {i}."
            )
        log_rate = np.log(k) + 2 * np.log(delta) + 2 * (k - 2) * np.log(gamma) + np.log(h)
        return max(np.log(y**2 / (2 * loss)), 0.0) * np.exp(-log_rate)


def theorem_3_assumptions(
    w: ArrayLike,
    f: Outer | tuple[Any, Any],
    *,
    exponent: float = 0.5,
    products: tuple[float, float] = (0.1, 10.0),
    largest: float = 10.0,
) -> tuple[Hypothesis, ...]:
    r"""Return what Theorem 3 (near the identity, exponential time) assumes, and whether one start meets it.

    Assumption 1: f is strictly increasing on :math:`[-\tfrac12, z)`, and its infimum there exceeds the one on all
    numbers. Assumption 3: :math:`\max_j |w_j - 1| \le k^{-c_1}` and :math:`c_2 \le \prod w_j \le c_3`.

    Parameters
    ----------
    w : array_like, (k,)
        The start.
    f : Outer, or pair of callables
        Judged on 2000 points of [-1/2, `largest`]; of a pair the infimum is taken as the value at -2 if that is lower.
    exponent : float
        :math:`c_1`, positive. The theorem leaves the constants free; those of the defaults are ours.
    products : (float, float)
        :math:`c_2, c_3`.
    largest : float
        z, the end of the interval that is looked at.

    Returns
    -------
    tuple of Hypothesis
        Each with its name, whether it is met, and the number that decides.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks its rule.

    Examples
    --------
    >>> from lowrankflow.scalar import Square
    >>> [h.met for h in theorem_3_assumptions([1.1, 0.9, 1.0, 0.95], Square(-1.0))]
    [True, True, True, True]
    >>> [h.name for h in theorem_3_assumptions([3.0, 1.0, 1.0, 1.0], Square(1.0)) if not h.met]
    ['f is strictly increasing from -1/2 on', 'f comes lower below -1/2', 'max |w_j - 1| <= k^(-c_1)']
    """
    one, f = _one(w), as_outer(f)
    c1 = validation.require_number("exponent", exponent)
    low, high = (validation.require_number("products", c) for c in products)
    grid = np.linspace(-0.5, validation.require_number("largest", largest), 2000)
    slope, product = float(f.derivative(grid).min()), float(np.prod(one))
    bottom = f.infimum if not isinstance(f, Pair) else float(f.value(np.array([-2.0]))[0])
    margin = float(f.value(grid).min()) - bottom
    away, most = float(np.abs(one - 1).max()), one.size**-c1
    return (
        Hypothesis("f is strictly increasing from -1/2 on", slope > 0, slope),
        Hypothesis("f comes lower below -1/2", margin > 0 and slope > 0, margin),
        Hypothesis("max |w_j - 1| <= k^(-c_1)", away <= most, f"{away:.3g} for {most:.3g}"),
        Hypothesis("c_2 <= product <= c_3", low <= product <= high, product),
    )


def theorem_4_assumptions(
    w: ArrayLike, target: float, *, exponent: float = 4.0, bound: float = 10.0
) -> tuple[Hypothesis, ...]:
    r"""Return what Theorem 4 (time at most exponential) assumes, and whether one start meets it: Assumption 4.

    For the square loss with target :math:`y < 0`: :math:`|w_i| \le c_2`, :math:`\prod w_i > y`,
    :math:`\min_{i \ne j} \big||w_i| - |w_j|\big| \ge k^{-c_4}`, :math:`\max_{i \ne j} |\prod_{l \ne i, j} w_l| \le c_4`.

    Parameters
    ----------
    w : array_like, (k,)
        The start, k at least 2.
    target : float
        y.
    exponent : float
        :math:`c_4`. The theorem leaves the constants free; those of the defaults are ours.
    bound : float
        :math:`c_2`.

    Returns
    -------
    tuple of Hypothesis
        Each with its name, whether it is met, and the number that decides.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks its rule.

    Examples
    --------
    >>> [h.name for h in theorem_4_assumptions([1.0, 1.0, 0.5], -1.0) if not h.met]
    ['sizes differ by k^(-c_4)']
    """
    one = _one(w)
    if one.size < 2:
        raise ValueError(f"`w` must have at least 2 coordinates, got {one.size}.")
    y = validation.require_finite_number("target", target)
    c4, c2 = validation.require_number("exponent", exponent), validation.require_number("bound", bound)
    ordered = np.sort(np.abs(one))
    with np.errstate(over="ignore", under="ignore"):
        product = float(np.prod(one))
        pair = float(np.prod(ordered[2:]))
    gap, least = float(np.diff(ordered).min()), one.size**-c4
    return (
        Hypothesis("the target is negative", y < 0, y),
        Hypothesis("|w_i| <= c_2", float(ordered[-1]) <= c2, float(ordered[-1])),
        Hypothesis("the product is above the target", product > y, product),
        Hypothesis("sizes differ by k^(-c_4)", gap >= least, f"{gap:.3g} for {least:.3g}"),
        Hypothesis("products of all but two are at most c_4", pair <= c4, pair),
    )


def _deep(w: ArrayLike) -> Array:
    starts = as_starts(w)
    if starts.shape[1] < 2:
        raise ValueError(f"`w` must have at least 2 coordinates, got {starts.shape[1]}.")
    return starts


def _one(w: ArrayLike) -> Array:
    return validation.as_vector("w", w)
