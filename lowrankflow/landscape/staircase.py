"""The staircase: loss against time, and the saddles that a run passed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..report import Curve, Figure
from ..validation import Array
from .modes import set_text
from .runs import Plateau

__all__ = ["Climb", "staircase"]


class Climb(NamedTuple):
    """A run as the picture shows it."""

    label: str
    t: Array
    loss: Array
    plateaus: Sequence[Plateau]
    unit: float = 1.0  #: of the times of `t` and of the plateaus, which are divided by it


def staircase(runs: Sequence[Climb], time: str = "t") -> Figure:
    """Return the picture of one run, or of several: loss against time, and the plateaus as lines with their names.

    Parameters
    ----------
    runs : sequence of Climb
        With a plateau in one of them at least.
    time : str
        What the axis of times says.
    """
    several = len(runs) > 1
    curves = [Curve(r.label, (r.t[1:] / r.unit).tolist(), r.loss[1:].tolist(), "one" if several else "a") for r in runs]
    start = min(float(r.t[1]) / r.unit for r in runs if r.t.size > 1)
    end = max(float(r.t[-1]) / r.unit for r in runs)
    shown: dict[tuple[int, ...], Plateau] = {}
    for r in runs:
        for p in r.plateaus:
            shown.setdefault(p.index_set, p)
        if not several:
            at = [max(p.nearest_at / r.unit, start) for p in r.plateaus]
            values = np.interp(at, r.t / r.unit, r.loss).tolist()
            curves.append(Curve("nearest to a saddle", at, values, "b", points=True))
    label = "" if several else "critical values of the saddles"
    for p in shown.values():
        mark = f"rank {p.rank}" if p.leads and p.rank != 1 else f"S = {set_text(p.index_set)}"
        curves.append(Curve(label, [start, end], [p.critical_value] * 2, "guide", mark=mark))
    caption = (
        "Loss against time, with the critical values of the saddles that W came near to. S names the singular pairs of the"
        " whitened targets that W had captured there; rank r is S = {1, ..., r}. S is read from W, not from the loss."
    )
    title = "The staircase: which plateaus " + ("the runs passed" if several else "the run passed")
    return Figure("staircase", title, caption, time, "loss", curves, "log")
