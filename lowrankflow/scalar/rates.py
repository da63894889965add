"""How fast the time grows with depth: the slope of the medians of ln T, with a confidence interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .. import validation
from ..validation import Array, Rng

__all__ = ["Rate", "fitted_rate"]


class Rate(NamedTuple):
    """A line through the medians of ln T."""

    slope: float  #: per layer
    low: float  #: end of the confidence interval of the slope
    high: float
    intercept: float
    r_squared: float
    medians: Array  #: (depths,)
    band: Array  #: (2, depths), confidence intervals of the medians
    missing: Array  #: (depths,) runs that did not converge, which count as longer than any other


def fitted_rate(
    log_times: Mapping[int, ArrayLike], *, confidence: float = 0.95, resamples: int = 2000, rng: Rng = None
) -> Rate:
    r"""Fit :math:`\operatorname{median} \ln T = a + b k` by least squares, with percentile bootstrap intervals.

    Parameters
    ----------
    log_times : mapping of int to array_like
        ln T, or ln of the iterations, of the runs at each depth k; infinite for runs that did not converge, at most
        fewer than half of a depth.
    confidence : float
        Between 0 and 1.
    resamples : int
        Samples of the bootstrap; each draws as many runs of every depth as there are.
    rng : None, int or Generator
        The source of randomness.

    Returns
    -------
    Rate
        ``slope`` with ``low`` and ``high``, and what else `Rate` has.

    Raises
    ------
    ValueError, TypeError
        If there are fewer than two depths, or a median is infinite.

    Notes
    -----
    Of resamples whose median is infinite the largest finite value of the depth is taken.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> found = fitted_rate({k: 0.5 * k + rng.standard_normal(100) for k in range(2, 12)}, rng=0)
    >>> found.low < 0.5 < found.high
    True
    """
    if not isinstance(log_times, Mapping):
        raise TypeError(f"`log_times` must map depths to values, got {validation.describe(log_times)}.")
    level = validation.require_number("confidence", confidence)
    if level >= 1:
        raise ValueError(f"`confidence` must be below 1, got {level:g}.")
    count = validation.require_integer("resamples", resamples, low=100)
    rng = validation.as_rng(rng)
    depths = np.array([validation.require_integer("log_times", k, low=1) for k in log_times], dtype=float)
    if depths.size < 2:
        raise ValueError(f"`log_times` must have at least 2 depths, got {depths.size}.")
    medians, drawn, missing = [], [], []
    for k, values in log_times.items():
        runs = validation.as_real("log_times", values).astype(float).ravel()
        middle = float(np.median(runs)) if runs.size else np.nan
        if not np.isfinite(middle):
            raise ValueError(f"`log_times` must have a finite median at every depth, got {middle:g} at depth {k}.")
        medians.append(middle)
        missing.append(int(np.isposinf(runs).sum()))
        capped = np.minimum(runs, runs[np.isfinite(runs)].max())
        drawn.append(np.median(capped[rng.integers(runs.size, size=(count, runs.size))], axis=1))
    y, samples = np.array(medians), np.array(drawn)
    x = depths - depths.mean()
    slopes = x @ samples / (x @ x)
    slope = float(x @ y / (x @ x))
    residual = y - y.mean() - slope * x
    spread = float(((y - y.mean()) ** 2).sum())
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(slopes, tails)
    return Rate(
        slope, float(low), float(high), float(y.mean() - slope * depths.mean()),
        1 - float(residual @ residual) / spread if spread else 1.0,
        y, np.quantile(samples, tails, axis=1), np.array(missing),
    )  # fmt: skip
