"""The initialisations of the paper, and what their law says of the growth of time with depth."""

from __future__ import annotations

import math

import numpy as np

from .. import validation
from ..validation import Array, Rng

__all__ = ["KINDS", "critical_variance", "rate_law", "start"]

#: what `start` draws
KINDS = ("xavier", "xavier uniform", "near identity", "small variance", "identity", "orthogonal")


def start(kind: str, depth: int, runs: int = 1, *, width: int = 1, variance: float = 1.0, rng: Rng = None) -> Array:
    r"""Draw initial networks of k scalars, or of k square matrices.

    With d the width, k the depth and every entry independent,

    ================ =====================================================================
    "xavier"         :math:`N(0, s^2 / d)`
    "xavier uniform" uniform on :math:`\pm s \sqrt{3 / d}`, of the same variance
    "near identity"  :math:`I + N(0, s^2 / (d k))`
    "small variance" :math:`I + N(0, s^2 / (d k)^2)`
    "identity"       I
    "orthogonal"     Haar, for d = 1 random signs
    ================ =====================================================================

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    depth, runs : int
        k; how many networks.
    width : int
        d.
    variance : float
        :math:`s^2`: 1 in the paper, 2 is He's; for the last two only 1.
    rng : None, int or Generator
        The source of randomness.

    Returns
    -------
    ndarray, (runs, k), or (runs, k, d, d) for d > 1
        The factor applied first stands first.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks its rule.

    References
    ----------
    .. [1] O. Shamir, Exponential convergence time of gradient descent for one-dimensional deep linear neural networks,
       COLT 2019, PMLR 99:2691-2713.

    Examples
    --------
    >>> start("xavier", 5, 1000, rng=0).shape, start("near identity", 5, 2, width=25, rng=0).shape
    ((1000, 5), (2, 5, 25, 25))
    """
    validation.require_choice("kind", kind, KINDS)
    k = validation.require_integer("depth", depth, low=1)
    runs = validation.require_integer("runs", runs, low=1)
    d = validation.require_integer("width", width, low=1)
    s = math.sqrt(validation.require_number("variance", variance))
    if kind in ("identity", "orthogonal") and s != 1:
        raise ValueError(f"`variance` must be 1 for {kind!r}, got {variance:g}.")
    rng = validation.as_rng(rng)
    shape = (runs, k) if d == 1 else (runs, k, d, d)
    one = np.float64(1.0) if d == 1 else np.eye(d)
    if kind == "xavier":
        return s / math.sqrt(d) * rng.standard_normal(shape)
    if kind == "xavier uniform":
        return s * math.sqrt(3 / d) * rng.uniform(-1, 1, shape)
    if kind in ("near identity", "small variance"):
        spread = s / math.sqrt(d * k) if kind == "near identity" else s / (d * k)
        return one + spread * rng.standard_normal(shape)
    if kind == "identity":
        return np.broadcast_to(one, shape).copy()
    if d == 1:
        return rng.choice([-1.0, 1.0], shape)
    q, r = np.linalg.qr(rng.standard_normal(shape))
    return q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]


def rate_law(kind: str, *, variance: float = 1.0) -> float:
    r"""Return the rate at which the median of ln T grows with the depth k, for large k: :math:`-E \ln |w|`.

    The product of k - 1 coordinates is :math:`e^{-(k - 1) (-E \ln |w|)}` up to a factor :math:`e^{O(\sqrt k)}`, and the
    time is one over it up to such a factor: :math:`\tfrac12 (\gamma_E + \ln 2) - \ln s` for a Gaussian law of variance
    :math:`s^2`, :math:`1 - \tfrac12 \ln 3 - \ln s` for the uniform one. From `critical_variance` on time does not grow.

    Parameters
    ----------
    kind : {"xavier", "xavier uniform"}
        The law of the coordinates, width 1.
    variance : float
        :math:`s^2`.

    Returns
    -------
    float
        Per layer. Measured slopes come from below, slowly: .56 on 20 <= k <= 40 for .635.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks its rule.

    Notes
    -----
    Derived here. Near the identity there is no such rate: with variance :math:`1/k^2` ln T grows as (k / 2) ln k.

    Examples
    --------
    >>> round(rate_law("xavier"), 3), round(rate_law("xavier", variance=2), 3), round(rate_law("xavier uniform"), 3)
    (0.635, 0.289, 0.451)
    """
    validation.require_choice("kind", kind, ("xavier", "xavier uniform"))
    s = math.sqrt(validation.require_number("variance", variance))
    of_one = (np.euler_gamma + math.log(2)) / 2 if kind == "xavier" else 1 - math.log(3) / 2
    return float(of_one - math.log(s))


def critical_variance(kind: str) -> float:
    r"""Return the variance at which `rate_law` is zero: :math:`2 e^{\gamma_E}` Gaussian, :math:`e^2 / 3` uniform.

    Parameters
    ----------
    kind : {"xavier", "xavier uniform"}

    Returns
    -------
    float
        Derived here.

    Raises
    ------
    ValueError
        If the kind is another one.

    Examples
    --------
    >>> round(critical_variance("xavier"), 3), round(critical_variance("xavier uniform"), 3)
    (3.562, 2.463)
    """
    return math.exp(2 * rate_law(kind))
