"""Almost every start: which minimum each of thousands of random starts reaches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from .. import validation
from ..losses import LeastSquares
from ..matrices import EPS
from ..matrices.requirements import require_depth
from ..report import Control, Hypothesis, Table
from ..statements import Measurement, claim
from ..validation import Array
from .integration import integrate
from .stacks import LinearNetworks, LowRankMatrices, stack_of
from .trajectories import Trajectories

__all__ = ["Reached", "Share", "almost_every_start", "reached", "wilson"]


class Share(NamedTuple):
    """A share of runs, and an interval that covers the true one with the confidence that was asked for."""

    hits: int
    runs: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """hits / runs."""
        return self.hits / self.runs


def wilson(count: int, of: int, confidence: float = 0.95) -> Share:
    r"""Return Wilson's score interval of a share.

    With z the quantile of the normal distribution at :math:`(1 + \mathrm{confidence}) / 2` and p = count / n, the interval is
    that of all q with :math:`(p - q)^2 \le z^2 q (1 - q) / n`. It is not empty at 0 of n either: its upper end is
    :math:`z^2 / (n + z^2)`.

    Parameters
    ----------
    count, of : int
        How many of how many.
    confidence : float
        Between 0 and 1.

    Returns
    -------
    Share

    Raises
    ------
    ValueError, TypeError
        If the count does not lie between 0 and n, or the confidence not between 0 and 1.

    References
    ----------
    E. B. Wilson, Probable inference, the law of succession, and statistical inference, J. Am. Stat. Assoc. 22, 1927.

    Examples
    --------
    >>> share = wilson(0, 1000)
    >>> share.low, round(share.high, 5)
    (0.0, 0.00383)
    """
    n = validation.require_integer("of", of, low=1)
    count = validation.require_integer("count", count, low=0)
    if count > n:
        raise ValueError(f"`count` must not exceed `of`, got {count} of {n}.")
    confidence = validation.require_number("confidence", confidence)
    if confidence >= 1:
        raise ValueError(f"`confidence` must lie between 0 and 1, got {confidence:g}.")
    z = float(ndtri((1 + confidence) / 2))
    p = count / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return Share(count, n, 0.0 if count == 0 else low, 1.0 if count == n else high)


@dataclass(frozen=True)
class Reached:
    """Where runs ended.

    Attributes
    ----------
    rank : ndarray of int, (R,)
        The k of the minimum among matrices of rank k that each run reached; -1: none of them.
    values : ndarray, (r + 1,)
        Those minima, k = 0 .. r.
    gap : ndarray, (R,)
        |L - values[rank]| at the end, the least over all k where it is none, over the loss of the zero matrix above the best.
    runs : Trajectories
        All about them.
    """

    rank: NDArray[np.intp]
    values: Array
    gap: Array
    runs: Trajectories

    def share(self, k: int, confidence: float = 0.95) -> Share:
        """Return the share of the runs that reached the minimum of rank k, with Wilson's interval."""
        return wilson(int((self.rank == k).sum()), self.rank.size, confidence)

    def counts(self) -> dict[int, int]:
        """Return how many runs reached the minimum of which rank."""
        return {int(k): int(c) for k, c in zip(*np.unique(self.rank, return_counts=True), strict=True)}

    def __repr__(self) -> str:
        return f"Reached({', '.join(f'rank {k}: {c}' for k, c in self.counts().items())})"


def reached(
    loss: LeastSquares,
    networks: Any,
    *,
    tol: float = 1e-8,
    rtol: ArrayLike = 1e-8,
    t_end: float = np.inf,
    gtol: float | None = None,
    max_evaluations: int = 50_000,
) -> Reached:
    r"""Integrate the flow of the factors from many starts, and say which minimum each reaches.

    The minima of the square loss among matrices of rank k have the values
    :math:`L_k = \mathrm{floor} + \tfrac12 \sum_{i > k} \sigma_i^2`, with :math:`\sigma` the singular values of the whitened
    targets.

    Parameters
    ----------
    loss : LeastSquares
        Of full rank: every input is seen.
    networks : LinearNetworks or sequence of LinearNetwork
        The starts.
    tol : float
        How close a loss has to be to L_k, over the loss of the zero matrix above the best.
    rtol : float or (R,)
        Of the integration.
    t_end : float
        End of time; inf: until `gtol`.
    gtol : float, optional
        Norm of all factor gradients at which a run has arrived; None: 1e-6 of its first.
    max_evaluations : int
        Gradients of one run.

    Returns
    -------
    Reached

    Raises
    ------
    ValueError, TypeError
        If the loss is no `LeastSquares`, or the networks do not fit.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    >>> nets = lrf.batched.LinearNetworks.gaussian(200, (3, 3), 2, widths=2, rng=0)
    >>> lrf.batched.reached(loss, nets)
    Reached(rank 2: 200)
    """
    if not isinstance(loss, LeastSquares):
        raise TypeError(f"`loss` must be a LeastSquares, whose minima are known, got {validation.describe(loss)}.")
    tol = validation.require_number("tol", tol)
    nets = stack_of("networks", networks)
    if not isinstance(nets, LinearNetworks):
        raise TypeError(
            "`networks` must be LinearNetworks, got LowRankMatrices. Use LinearNetworks.balanced(starts, depth)."
        )
    runs = integrate(
        loss, nets, t_span=(0.0, t_end), rtol=rtol, gtol=_arrival(loss, nets) if gtol is None else gtol,
        max_evaluations=max_evaluations, points=False,
    )  # fmt: skip
    sigma = loss.spectrum.sigma
    most = min(sigma.size, *loss.shape, *nets.widths)
    values = loss.spectrum.floor + 0.5 * np.append(np.cumsum((sigma**2)[::-1])[::-1], 0.0)[: most + 1]
    gaps = np.abs(runs.loss[:, -1:] - values) / (values[0] - values[-1])
    rank = gaps.argmin(axis=1)
    gap = gaps[np.arange(len(rank)), rank]
    return Reached(np.where(gap <= tol, rank, -1), values, gap, runs)


def _arrival(loss: LeastSquares, nets: LinearNetworks) -> Array:
    """Return a millionth of the first factor gradients of each start."""
    first = integrate(loss, nets, t_span=(0.0, 1.0), max_evaluations=1, points=False)
    return np.maximum(1e-6 * first.stationarity[:, 0], np.finfo(float).tiny)  # at a critical point it is 0


@claim(
    "almost every start",
    statement="From almost every start the flow of the factors reaches a best matrix of the largest rank that its widths allow.",
    source="Bah, Rauhut, Terstiege, Westdickenberg (2022): depth 2; deeper, where a lower rank is not excluded, observed",
    meaning=(
        "Measured: the upper end of Wilson's 95 % interval of the share of random starts, Gaussian and not balanced, whose loss"
        " does not end within 1e-8 of that minimum, over the loss of the zero matrix above it. Bound: one in a hundred."
    ),
    hypotheses="inputs and whitened targets have full rank",
    controls=(
        "balanced starts of full rank whose determinant has the other sign than that of the minimum, which the flow conserves:"
        " a null set, from which the exact flow cannot get there"
    ),
)
def almost_every_start(
    loss: LeastSquares, depth: int, *, starts: int = 1000, scale: float = 1.0, rng: validation.Rng = 0
) -> Measurement:
    r"""Random starts of full width, and the determinant obstruction of balanced ones as the control.

    Parameters
    ----------
    loss : LeastSquares, (n, n)
        Square, of full rank.
    depth : int
        N, at least 2.
    starts : int
        How many, at least 400: fewer without a failure do not show that one in a hundred fails.
    scale : float
        Of the Gaussian factors, N(0, scale^2 / n); of the singular values of the balanced ones.
    rng : int or numpy.random.Generator, optional
        Source of randomness.

    Returns
    -------
    Claim

    Raises
    ------
    ValueError, TypeError
        If the loss is not square, or the starts are too few.
    """
    m, n = loss.shape
    if m != n:
        raise ValueError(f"`loss` must be square, where the control has a determinant, got shape {loss.shape}.")
    starts, depth = validation.require_integer("starts", starts, low=400), int(require_depth(depth, integer=True))
    rng = validation.as_rng(rng)
    found = {"Gaussian": reached(loss, LinearNetworks.gaussian(starts, (n, n), depth, widths=n, scale=scale, rng=rng))}
    # at depth 2 roundoff grows like exp(rate t) where the exact flow stays; deeper the saddle is not strict
    t_end = 0.5 * math.log(1 / EPS) / _rate(loss) if depth == 2 else np.inf
    for name, nets in _balanced(loss, depth, starts // 4, scale, rng).items():
        found[name] = reached(loss, nets, t_end=t_end, max_evaluations=5000)
    failing = {name: wilson(int((ends.rank != n).sum()), ends.rank.size) for name, ends in found.items()}
    sigma, ranks = loss.spectrum.sigma, loss.spectrum.eigenvalues.size
    full = bool(ranks == n and sigma[-1] > 1e-8 * sigma[0])
    rows = tuple(
        (name, ends.rank.size, int((ends.rank == n).sum()), int((ends.rank == n - 1).sum()), *failing[name][2:])
        for name, ends in found.items()
    )
    heads = ("starts", "how many", f"at rank {n}", f"at rank {n - 1}", "share elsewhere from", "to")
    caption = (
        "Which minimum the runs reach, and Wilson's 95 % interval of the share that does not reach the best of all."
    )
    return Measurement(
        failing["Gaussian"].high, "<=", 0.01,
        (Hypothesis("inputs and whitened targets have full rank", full, float(sigma[-1] / sigma[0])),),
        (Control("balanced, determinant of the other sign", failing["balanced, other sign"].high, 0.01),),
        f"{failing['Gaussian'].hits} of {starts} starts did not reach it",
        tables=(Table("almost every start", "Almost every start", caption, heads, rows),),
    )  # fmt: skip


def _rate(loss: LeastSquares) -> float:
    """Return the norm of the gradient at the best matrix of rank n - 1, sigma_n ||C^(1/2) v_n||."""
    spectrum = loss.spectrum
    return float(spectrum.sigma[-1] * np.linalg.norm(spectrum.vt[-1] * np.sqrt(spectrum.eigenvalues)))


def _balanced(
    loss: LeastSquares, depth: int, starts: int, scale: float, rng: np.random.Generator
) -> dict[str, LinearNetworks]:
    """Return balanced starts on both sides of det W = 0: the same singular values, one left vector turned round."""
    n = loss.shape[0]
    points = LowRankMatrices.random(starts, (n, n), n, rng=rng)
    best = loss.minimiser(n).to_dense()
    sign = np.linalg.slogdet(best)[0] * np.linalg.slogdet(points.to_dense())[0]
    found = {}
    for name, wanted in (("balanced, same sign", 1.0), ("balanced, other sign", -1.0)):
        u = points.u.copy()
        u[:, :, 0] *= (wanted * sign)[:, None]
        found[name] = LinearNetworks.balanced(LowRankMatrices(u, scale * points.s, points.vt), depth)
    return found
