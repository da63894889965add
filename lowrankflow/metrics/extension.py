"""Whether the flow of a metric keeps the rank of W, and on which matrices the metric goes on where it does not."""

from __future__ import annotations

import numpy as np

from ..matrices import EPS
from ..validation import Array
from .coefficients import Coefficients, Metric
from .facts import MetricFacts, facts

__all__ = ["extension", "keeps_rank"]

_CLOSE = 1e-6  # of p'(0): weights that differ by less are the same


def keeps_rank(metric: Metric | MetricFacts, s: Array) -> bool:
    """Return whether no singular value vanishes in finite time: what the metric says, else what it does.

    As s_i' = -c_ii u_i^T G v_i, none does where c_ii / s_i stays bounded as s_i vanishes. Looked at where the smallest
    of `s` is 1e-5 and 1e-7 of the largest.
    """
    said = facts(metric)
    if said.preserves_rank is not None:
        return said.preserves_rank
    i, speeds = int(np.argmin(s)), []
    for share in (1e-5, 1e-7):
        t = s.copy()
        t[i] = share * s.max()
        speeds.append(float(said.coefficients(t).core_block(np.eye(s.size))[i, i] / t[i]))
    return speeds[1] <= (1 + 1e-6) * speeds[0]  # (1e-2)^(p - 1) for c of order s^p: equal at p = 1


def extension(metric: Metric | MetricFacts, s: Array, shape: tuple[int, int]) -> tuple[int, int] | None:
    r"""Return the shape (a, b) of the matrices M, W = P M Q^T, to all of which the metric extends smoothly.

    P (m, a) and Q (n, b) have orthonormal columns. On the left a = m, and P = I, where a singular value that vanishes
    weighs what a missing one does, c_{jk} at s_j = 0 what `up[k]` does: then it does not matter which of the left null
    vectors of W is u_j. Else a = r, and P says which one it is; it moves at the speed `up` / s, which has to be bounded.
    The same on the right, with `vp`.

    Parameters
    ----------
    metric : Metric
        Its coefficients are taken for smooth and even in each singular value (its `mix` for odd in both) if they do not
        vanish at zero: A is a function of W W^T and W^T W then.
    s : ndarray, (r,)
        Positive singular values of W.
    shape : (int, int)
        (m, n).

    Returns
    -------
    (int, int) or None
        None where the metric keeps the rank, is one of the symmetric matrices, or extends to none.
    """
    said, (m, n), r = facts(metric), shape, s.size
    if said.symmetric or said.preserves_rank:
        return None
    with np.errstate(all="ignore"):
        c = said.coefficients(np.append(s, 0.0))
    parts = [c.core, c.up, c.vp] if c.mix is None else [c.core, c.up, c.vp, c.mix]
    if not all(np.isfinite(part).all() for part in parts) or not _vanishing(c) > 0:
        return None
    sides = _side(c.core[-1, :-1], c.up, _vanishing(c)), _side(c.core[:-1, -1], c.vp, _vanishing(c))
    sizes = tuple(
        size if same or size == r else r if bounded else 0 for size, (same, bounded) in zip((m, n), sides, strict=True)
    )
    return None if 0 in sizes else (sizes[0], sizes[1])


def _vanishing(c: Coefficients) -> float:
    """Return the coefficient of the last singular value, which is zero."""
    return float(c.core_block(np.eye(c.up.size))[-1, -1])


def _side(zero: Array, missing: Array, unit: float) -> tuple[bool, bool]:
    """Return whether a vanishing singular value weighs as a missing one, and whether the frame moves at bounded speed."""
    gap = np.abs(zero - missing[:-1])
    return bool((gap <= _CLOSE * unit + 100 * EPS * zero).all()), bool(missing[-1] <= _CLOSE * unit)
