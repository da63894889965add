"""Panels in the look of `lowrankflow.render`, with a caption below."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..render.look import INK, MUTED, PALE, clean, draw_title, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["BLUE", "COLOURS", "GREEN", "INK", "MUTED", "PALE", "PURPLE", "VERMILLION", "framed", "panel"]

BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#aa3377"
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE)  # told apart with any colour vision, with a marker or dashes each
_LINE = 0.175  # inches of a line of the caption


@contextmanager
def framed(size: tuple[float, float], title: str, caption: str, quick: bool) -> Iterator[tuple[SubFigure, Figure]]:
    """Yield the part of a figure above its caption, and the figure; `size` is that of the part, in inches."""
    from matplotlib.figure import Figure

    width, height = size
    lines = textwrap.wrap(f"{title}. {caption}" + (" (Quick version.)" if quick else ""), int(14.5 * width))
    below = _LINE * len(lines) + 0.12
    with style():
        figure: Any = Figure(figsize=(width, height + below), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.08, wspace=0.04)
        upper, lower = figure.subfigures(2, 1, height_ratios=(height, below))
        lower.text(0.012, 1.0, "\n".join(lines), va="top", fontsize=9, color=MUTED, linespacing=1.35)
        yield upper, figure


def panel(ax: Axes, title: str, xlabel: str, ylabel: str) -> Axes:
    """Dress an Axes: title, labels, grid; two sides of the frame."""
    clean(ax)
    ax.grid(True, which="major", color=PALE, linewidth=0.8)
    draw_title(ax, title, pad=8)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    return ax
