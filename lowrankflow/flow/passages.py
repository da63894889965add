"""The saddles that a flow went by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..flows import Moment

__all__ = ["Passage", "saddle_passages"]


class Passage(NamedTuple):
    """A saddle that a flow went by: the loss stood almost still, then fell on."""

    t: float  #: when it fell most slowly
    loss: float
    rank: int  #: effective rank: the singular values that have been learned


_RESOLUTION = 1e-3  # of the whole fall of the loss
_PROMINENCE = 10.0  # a saddle slows the fall of the loss this many times on both sides


def saddle_passages(trace: Sequence[tuple[float, Moment]]) -> list[Passage]:
    """Return the saddles that a flow went by.

    Near a critical point the loss falls slowly: -dL/dt = g(W', W') vanishes there. A passage is a
    minimum of it in time from which it rises tenfold, having fallen tenfold before, or since the start.
    Saddles between which the loss falls by less than a thousandth of its whole fall are not told apart: close to one,
    -dL/dt is so small that it shows the noise of the solver. The effective rank counts the singular values
    that have been learned: above half of their own largest value in the trace, which has to be ten times their first
    one, or a tenth of the largest of all.

    Parameters
    ----------
    trace : sequence of (t, Moment)
        States in order of time.
    """
    least_fall = _RESOLUTION * (trace[0][1].loss - trace[-1][1].loss)
    largest = np.max([moment.singular_values for _, moment in trace], axis=0)
    learnable = (largest >= 10 * trace[0][1].singular_values) | (largest >= largest.max() / 10)
    found: list[tuple[float, Moment]] = []
    falling, low, high = True, trace[0], trace[0]
    for state in trace:
        power = state[1].power
        if falling:
            low = state if power < low[1].power else low
            if power > _PROMINENCE * low[1].power:
                if found and found[-1][1].loss - low[1].loss <= least_fall:  # the same saddle, seen through noise
                    low = min(found.pop(), low, key=lambda at: at[1].power)
                found.append(low)
                falling, high = False, state
        else:
            high = state if power > high[1].power else high
            if power < high[1].power / _PROMINENCE:
                falling, low = True, state
    end = trace[-1][1].loss
    return [
        Passage(t, moment.loss, int((learnable & (moment.singular_values > largest / 2)).sum()))
        for t, moment in found
        if moment.loss - end > least_fall
    ]
