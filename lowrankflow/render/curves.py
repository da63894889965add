"""The figures of a report: curves, each in the look of its role."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..report import Curve, Figure
from .look import INK, MUTED, PALE, ROLES, clean, draw_legend, draw_title, fitted, shade, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

__all__ = ["MANY", "MANY_MARKERS", "draw_figure"]

#: ones of many: the label's number chooses among seven colours, five dashes and nine markers, so 315 differ
MANY = ("#0072b2", "#d55e00", "#009e73", INK, "#cc79a7", "#e69f00", "#56b4e9")
_MANY_DASHES: list[Any] = ["-", (0, (6, 2)), (0, (2, 1.2)), (0, (7, 2, 1.5, 2)), (0, (7, 1.6, 1.5, 1.6, 1.5, 1.6))]
MANY_MARKERS = "os^DvPX<>"
_DASHES: list[Any] = [(0, (6, 2)), (0, (6, 2, 1.5, 2)), (0, (3, 1.5)), (0, (10, 2, 3, 2))]
_MARKERS = "os^Dv"
_MARK_HEIGHT = 0.05  # of the axes, between two names at their right
_LEGEND_ROWS = 12  #: more distinct labels than this are counted, not listed


def draw_figure(ax: Axes, figure: Figure) -> None:
    """Draw a figure of a report: title, labels, scales, and its curves, each in the look of its role.

    Curves of one role that share a label, or follow it with an empty one, look alike and stand once in the legend;
    further labels of a role get lighter shades and other markers or dashes. Of a long side b only so many rings are
    drawn, evenly along the curve, that the line beneath stays visible. The legend stands under the axes.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; best in a figure with ``layout="constrained"``, which makes room for the legend.
    figure : Figure
        The data. Values that are not finite (or beyond 1e200), or not positive on a logarithmic axis, are left out;
        so is a curve without any other.
    """
    from matplotlib.ticker import MaxNLocator

    with style():
        clean(ax)
        ax.grid(True, which="major", color=PALE, linewidth=0.8)
        ax.set_xscale(figure.xscale)
        ax.set_yscale(figure.yscale)
        handles, labels = _listed(_draw_curves(ax, figure))
        if not ax.lines:
            ax.text(0.5, 0.5, "no finite values to draw", transform=ax.transAxes, ha="center", color=MUTED)
        if figure.xscale == "linear" and all(float(x).is_integer() for curve in figure.curves for x in curve.x):
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))  # what is counted has no halves
        wide = max(20, int(ax.bbox.width / ax.figure.dpi * 72 / 6.2))
        draw_title(ax, fitted(figure.title, wide), pad=10)
        ax.set_xlabel(fitted(figure.xlabel, wide))
        ax.set_ylabel(fitted(figure.ylabel, 48))
        _draw_marks(ax, figure)
        draw_legend(ax, handles, labels)


def _draw_marks(ax: Axes, figure: Figure) -> None:
    """Write the names of curves to the right of the axes, at the heights of their ends, apart where they would touch."""
    ends = [(curve.y[-1], curve.mark) for curve in figure.curves if curve.mark and curve.y]
    place = ax.transData + ax.transAxes.inverted()
    ends = [(y, mark) for y, mark in ends if np.isfinite(_values([y], figure.yscale)).all()]
    heights = np.array([place.transform((ax.get_xlim()[1], y))[1] for y, _ in ends])
    order = np.argsort(-heights, kind="stable")
    below = np.inf
    for i in order:
        below = min(float(heights[i]), below - _MARK_HEIGHT)
        text = fitted(textwrap.shorten(ends[i][1], 32, placeholder=" …"), 32)
        ax.annotate(text, (1, below), (5, 0), "axes fraction", "offset points", va="center", fontsize=8.5, color=MUTED)


def _draw_curves(ax: Axes, figure: Figure) -> dict[tuple[str, str], tuple[int, Line2D]]:
    """Draw the curves; return by role and label the first line of each, and which of the role's labels it carries."""
    variants: dict[str, dict[str, int]] = {}
    for curve in figure.curves:
        names = variants.setdefault(curve.role, {})
        if curve.label or not names:
            names.setdefault(curve.label, len(names))
    latest: dict[str, str] = {}
    entries: dict[tuple[str, str], tuple[int, Line2D]] = {}
    for curve in figure.curves:
        names = variants[curve.role]
        label = curve.label or latest.get(curve.role, next(iter(names)))
        latest[curve.role] = label
        x, y = _values(curve.x, figure.xscale), _values(curve.y, figure.yscale)
        if not np.any(np.isfinite(x) & np.isfinite(y)):
            continue
        (line,) = ax.plot(x, y, **_look(curve, names[label], len(names), len(figure.curves)))
        if label:
            entries.setdefault((curve.role, label), (names[label], line))
    return entries


def _listed(entries: Mapping[tuple[str, str], tuple[int, Line2D]]) -> tuple[list[Line2D], list[str]]:
    """Return the handles and labels of a legend; of too many the first of every role, and how many more there are."""
    from matplotlib.lines import Line2D

    listed = list(entries.items())
    rest = len(listed) - _LEGEND_ROWS
    if rest > 0:
        listed = sorted(listed, key=lambda entry: entry[1][0])[: _LEGEND_ROWS - 1]
    handles = [line for _, (_, line) in listed]
    labels = [fitted(textwrap.shorten(label, 64, placeholder=" …") or label, 64) for (_, label), _ in listed]
    if rest > 0:
        handles.append(Line2D([], [], linestyle="none"))
        labels.append(f"and {rest + 1} more")
    return handles, labels


def _look(curve: Curve, variant: int, variants: int, crowd: int) -> dict[str, Any]:
    """Return the keywords of a curve: by role, and by which of the role's labels it carries."""
    colour, dashes, width, order = ROLES.get(curve.role, ROLES["a"])
    shaded = shade(colour, 0.6 * variant / max(variants - 1, 4) if variants > 1 else 0.0)
    marker = _MARKERS[variant % len(_MARKERS)]
    look: dict[str, Any] = {"color": shaded, "linewidth": width, "zorder": order}
    if curve.role == "one":
        look |= {"color": MANY[variant % len(MANY)], "linestyle": _MANY_DASHES[variant % len(_MANY_DASHES)]}
        look |= {"marker": MANY_MARKERS[variant % len(MANY_MARKERS)], "markersize": 6.0}
        look |= {"markeredgecolor": "white", "markeredgewidth": 0.6}
        if len(curve.x) > 24:  # a few marks along the line, not at the same places on every one
            look["markevery"] = (0.02 + 0.03 * (variant % 5), 0.16)
    elif curve.role == "b":
        size = 6.5 if crowd <= 6 else 4.5
        look |= {"linestyle": "none", "marker": marker, "markersize": size, "markerfacecolor": "none"}
        look |= {"markeredgewidth": 1.2 if crowd <= 6 else 0.9}
        if len(curve.x) > (40 if curve.points else 12):
            look["markevery"] = 0.035 if crowd <= 8 else 0.07  # even along the curve, in units of the diagonal
    elif curve.points or len(curve.x) == 1:
        size = 6.0 if len(curve.x) <= 40 else 3.5
        look |= {"linestyle": "none", "marker": marker, "markersize": size}
        look |= {"markerfacecolor": shaded, "markeredgecolor": "white", "markeredgewidth": 0.6}
    else:
        look["linestyle"] = _DASHES[variant % len(_DASHES)] if curve.role == "control" else dashes
    return look


def _values(values: Sequence[float], scale: str) -> np.ndarray:
    """Return the values with nan where the scale cannot show one, which breaks the line there."""
    array = np.array(values, dtype=float)
    shown = np.abs(array) < 1e200  # beyond it the limits of an axis overflow
    if scale == "log":
        shown &= array > 1e-200
    return np.where(shown, array, np.nan)
