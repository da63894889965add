"""The figure of a trajectory: its singular values against time."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ..report import Curve, Figure

__all__ = ["Path", "figure_of"]

_NAMED = 12  #: singular values that are named at their ends


class Path(Protocol):
    """What is drawn of a trajectory."""

    t: Any
    loss: Any
    singular_values: Any


def figure_of(path: Path) -> Figure:
    """Return the figure of a trajectory: its singular values against flow time, each named at its end."""
    t = np.asarray(path.t, dtype=float)
    values = np.asarray(path.singular_values, dtype=float)
    curves = [
        Curve(
            "singular values of W" if i == 0 else "",
            t.tolist(),
            values[:, i].tolist(),
            mark=f"$\\sigma_{{{i + 1}}}$" if i < _NAMED else "",
        )
        for i in range(values.shape[1])
    ]
    last = f"The loss went from {path.loss[0]:.4g} to {path.loss[-1]:.4g}."
    title = f"{values.shape[1]} singular values of W along the run"
    return Figure("path", title, last, "flow time t", "singular value", curves, yscale="log")
