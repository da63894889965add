"""The coefficients of a metric as the singular frame takes them: of the flow of T, s = l^p, and of the frames."""

from __future__ import annotations

import numpy as np

from ..validation import Array
from .coefficients import Coefficients, Metric, RootCoefficients
from .facts import MetricFacts, facts
from .sums import positive_sum

__all__ = ["frame_rates", "generic_root_coefficients", "root_coefficients"]


def frame_rates(metric: Metric | MetricFacts, s: Array) -> tuple[Array, Array]:
    """Return the speeds (up/s, vp/s) of the singular frames, from the metric's own limit if it has one."""
    said = facts(metric)
    return _rates(said, s, said.coefficients(s) if said.frame_rates is None else None)


def _rates(said: MetricFacts, s: Array, c: Coefficients | None) -> tuple[Array, Array]:
    """Return the speeds of the frames from the metric's own limit, else from its coefficients `c` at `s`."""
    if said.frame_rates is not None:
        left, right = said.frame_rates(s)
        return left, right
    assert c is not None
    return c.up / s, c.vp / s


def generic_root_coefficients(metric: Metric | MetricFacts, l: Array, root: float) -> RootCoefficients:  # noqa: E741
    """Return the chart's coefficients for any metric, at s = l^root.

    The r x r block of A(G) is multiplied by (l_i - l_k)/(s_i - s_k) on its symmetric part and by
    (l_i + l_k)/(s_i + s_k) on its skew part: the derivative of the matrix root on singular values.
    """
    return _generic(facts(metric), l, root)[0]


def _generic(said: MetricFacts, l: Array, root: float) -> tuple[RootCoefficients, Coefficients]:  # noqa: E741
    """Return the chart's coefficients and those of A, from one call of the metric."""
    s = l**root
    c = said.coefficients(s)
    # (s_i - s_k)/(l_i - l_k) is the positive sum of powers for real root too
    slope = np.ones_like(c.core) if root == 1 else positive_sum(l, root, 1.0)
    total, total_s = l[:, None] + l, s[:, None] + s
    rotation = np.divide(total, total_s, out=np.zeros_like(total), where=total_s > 0)
    left, right = _rates(said, s, c)
    sym = np.divide(1.0, slope, out=np.zeros_like(slope), where=slope > 0)
    return RootCoefficients(sym=sym, skew=rotation, left=left, right=right), c


def root_coefficients(
    metric: Metric | MetricFacts,
    l: Array,  # noqa: E741
    root: float,
) -> tuple[RootCoefficients, Coefficients | None]:
    """Return the chart's coefficients and, unless they already contain A, the block coefficients to apply first.

    The metric is asked once. Called with the `facts` of a metric nothing is looked up: for a velocity.
    """
    said = facts(metric)
    if root != 1 and root == said.root and said.root_coefficients is not None:
        return said.root_coefficients(l), None
    return _generic(said, l, root)
