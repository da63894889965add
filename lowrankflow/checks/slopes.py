"""The order at which a remainder vanishes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["order"]

_HALVINGS = 5  #: over which an order is fitted
_STEPS = 2.0 ** -np.arange(1, 29)


def order(remainder: Callable[[float], float], *, floor: float = 0.0) -> float:
    """Return the order p at which ``|remainder(t)|`` falls like t^p as t -> 0, fitted over five halvings.

    The window is that of the smallest steps over which five successive orders agree to 0.02, or else to 0.1, because
    large steps leave the asymptotic range and small ones end in roundoff. A remainder that is not above `floor`, its
    roundoff, for five halvings vanishes faster than can be seen: infinity. nan where no order is steady, or a value is
    none.
    """
    with np.errstate(all="ignore"):
        values = np.array([abs(remainder(t)) for t in _STEPS])
        above = values > floor
        orders = np.log2(np.where(above, values, np.nan))
    if not np.isfinite(values).all():
        return np.nan
    orders = orders[:-1] - orders[1:]
    windows = [orders[i : i + _HALVINGS] for i in range(orders.size - _HALVINGS + 1)]
    windows = [w for w in windows if np.isfinite(w).all()]
    if not windows:
        return np.inf
    for spread in (0.02, 0.1):
        steady = [w for w in windows if np.ptp(w) <= spread]
        if steady:
            return float(np.mean(steady[-1]))
    return np.nan
