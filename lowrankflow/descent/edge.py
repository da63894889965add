"""Beyond the edge of stability: what gradient descent does with one mode when its step is too long for the minimum."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from .. import validation
from ..matrices.requirements import require_depth
from ..validation import Array

__all__ = ["bifurcation", "mode_edge", "two_cycle"]


def mode_edge(target: float, depth: int) -> float:
    r"""Return the edge of stability of a balanced mode, :math:`2 / (N \sigma^{2-2/N})`.

    Parameters
    ----------
    target : float
        sigma, the singular value of the whitened targets, positive.
    depth : int
        N.

    Returns
    -------
    float
        Two over the sharpness at the minimiser of :math:`\tfrac12 (s^N - \sigma)^2` with all factors equal to s, in N factors.

    Examples
    --------
    >>> mode_edge(1.0, 2), mode_edge(4.0, 2)
    (1.0, 0.25)
    """
    n = int(require_depth(depth, integer=True))
    return float(2 / (n * validation.require_number("target", target) ** (2 - 2 / n)))


def two_cycle(step: float, target: float) -> tuple[float, float]:
    r"""Return the two values between which a balanced mode of depth 2 jumps: :math:`x y = 1/h,\; x^2 + y^2 = \sigma + 1/h`.

    It is born at :math:`h \sigma = 1`, the edge, and doubles its period at :math:`h \sigma = \sqrt 5 - 1` (derived).

    Parameters
    ----------
    step : float
        h, at least 1 / sigma.
    target : float
        sigma, positive.

    Returns
    -------
    tuple of float
        x >= y, values of a factor; those of the product are their squares.

    Raises
    ------
    ValueError, TypeError
        If the step is below the edge, where there is no cycle.

    Examples
    --------
    >>> x, y = two_cycle(1.2, 1.0)
    >>> abs(x + 1.2 * x * (1 - x * x) - y) < 1e-12, round(x * y * 1.2, 12)
    (True, 1.0)
    """
    h, sigma = validation.require_number("step", step), validation.require_number("target", target)
    if h * sigma < 1:
        raise ValueError(f"`step` must be at least 1 / target = {1 / sigma:g}, the edge, got {h:g}: descent converges.")
    # x^2 and y^2 are the roots of z^2 - (sigma + 1/h) z + 1/h^2; times h, so that nothing overflows
    half = (h * sigma + 1) / 2
    root = math.sqrt(max(half * half - 1, 0.0))
    return math.sqrt((half + root) / h), math.sqrt(1 / (half + root) / h)


def bifurcation(
    steps: ArrayLike, *, target: float = 1.0, depth: int = 2, transient: int = 2000, kept: int = 64, start: float = 1.01
) -> Array:
    r"""Return where gradient descent on one balanced mode ends up, for many steps at once.

    .. math:: s \leftarrow s - h\, s^{N-1} (s^N - \sigma),

    what :math:`\tfrac12 (w_N \cdots w_1 - \sigma)^2` does to factors that are all equal.

    Parameters
    ----------
    steps : array_like, (K,)
        h, positive.
    target : float
        sigma, positive.
    depth : int
        N.
    transient, kept : int
        Updates that are left out, and those after them that are kept.
    start : float
        s over its value at the minimum.

    Returns
    -------
    ndarray, (K, kept)
        The products s^N that are visited; nan where the run left the finite numbers.

    Examples
    --------
    >>> found = bifurcation([0.9, 1.1], kept=4)
    >>> found[0].round(6).tolist(), len(set(found[1].round(6).tolist()))
    ([1.0, 1.0, 1.0, 1.0], 2)
    """
    n = int(require_depth(depth, integer=True))
    sigma = validation.require_number("target", target)
    h = validation.as_vector("steps", steps)
    if not (h > 0).all():
        raise ValueError(f"`steps` must be positive, got a smallest of {h.min():g}.")
    transient = validation.require_integer("transient", transient, low=0)
    kept = validation.require_integer("kept", kept, low=1)
    # in units of the minimum: u = s / sigma^(1/N), h sigma^(2-2/N)
    h = h * sigma ** (2 - 2 / n)
    u = np.full(h.size, validation.require_number("start", start))
    found = np.empty((h.size, kept))
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(-transient, kept):
            if k >= 0:
                found[:, k] = u**n
            u = u - h * u ** (n - 1) * (u**n - 1)
    found[~np.isfinite(found).all(axis=1)] = np.nan
    return found * sigma
