"""Pictures of sweeps: lines with bands, heat maps, and small multiples of either."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .curves import MANY, MANY_MARKERS
from .look import MUTED, PALE, clean, fitted, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Page

__all__ = ["draw_sweep", "sweep_picture"]

_DPI = 150
_TICKS = 7  #: labels along an axis of cells
_PANELS = 64
_FLAT = 1e-3  #: of the numbers themselves: the least span of an axis
_LINES = 12  #: lines with a name each


class Spread(Protocol):
    """What is asked of a summary: `lowrankflow.sweeps.Summary` is one."""

    @property
    def what(self) -> str: ...  #: its name
    @property
    def share(self) -> bool: ...  #: whether it is a share
    @property
    def caption(self) -> str: ...  #: what middle and spread are
    @property
    def axes(self) -> tuple[str, str, str, str]: ...  #: rows of panels, columns of panels, lines, x
    @property
    def ticks(self) -> tuple[list[Any], list[Any], list[Any], list[Any]]: ...  #: their values
    @property
    def centre(self) -> Any: ...  #: (rows, columns, lines, x)
    @property
    def low(self) -> Any: ...
    @property
    def high(self) -> Any: ...


def sweep_picture(
    summary: Spread, *, heat: bool = False, xscale: str | None = None, yscale: str | None = None
) -> bytes:
    """Return a PNG of a summary: a panel for each of its rows and columns.

    Parameters
    ----------
    summary : Summary
    heat : bool
        A heat map of x and lines, coloured by the middle; else lines with bands.
    xscale, yscale : {"linear", "log"}, optional
        Of the axes, of a heat map its colours for `yscale`; None: as the numbers ask for.

    Returns
    -------
    bytes
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Page

    many_rows, many_columns = summary.centre.shape[:2]
    if many_rows * many_columns > _PANELS:
        raise ValueError(
            f"A picture must have at most {_PANELS} panels, got {many_rows} x {many_columns}. Use `where`."
        )
    width, height = (6.4, 4.2) if many_rows * many_columns == 1 else (1.2 + 2.9 * many_columns, 1.5 + 2.3 * many_rows)
    stream = io.BytesIO()
    with style():
        page = Page(figsize=(max(width, 5.0), height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(page)
        draw_sweep(page, summary, heat=heat, xscale=xscale, yscale=yscale)
        page.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def draw_sweep(
    page: Page, summary: Spread, *, heat: bool = False, xscale: str | None = None, yscale: str | None = None
) -> None:
    """Draw a summary on an empty figure of matplotlib; arguments as of `sweep_picture`."""
    many_rows, many_columns = summary.centre.shape[:2]
    panels: Any = page.subplots(many_rows, many_columns, sharex=True, sharey=True, squeeze=False)
    shown = [summary.centre] if heat else [summary.centre, summary.low, summary.high]
    ylog = (yscale or _scale(np.stack(shown), summary.share)) == "log"
    drawn: Any = None
    for i, j in np.ndindex(many_rows, many_columns):
        ax = panels[i, j]
        if heat:
            drawn = _heat(ax, summary, i, j, ylog)
        else:
            drawn = _lines(ax, summary, i, j, xscale or _scale(np.array(_positions(summary.ticks[3])), False), ylog)
        names = [f"{summary.axes[k]} = {_text(summary.ticks[k][at])}" for k, at in ((0, i), (1, j)) if summary.axes[k]]
        ax.set_title(", ".join(names), loc="left", fontsize=9)
        if i == many_rows - 1:
            ax.set_xlabel(fitted(summary.axes[3], 40))
        if j == 0:
            ax.set_ylabel(fitted(summary.axes[2] if heat else summary.what, 40))
    if heat:
        bar = page.colorbar(drawn, ax=panels, shrink=0.9, pad=0.02, aspect=18 * many_rows)
        bar.set_label(fitted(summary.what, 48))
        bar.outline.set_visible(False)
    elif summary.axes[2]:
        _legend(page, summary, drawn)
    page.supxlabel(textwrap.fill(summary.caption, int(15 * page.get_figwidth())), fontsize=8, color=MUTED)


def _lines(ax: Axes, summary: Spread, i: int, j: int, xscale: str, ylog: bool) -> list[Any]:
    """Draw a line with its band for each value; return the lines."""
    clean(ax)
    ax.grid(True, which="major", color=PALE, linewidth=0.8)
    x = _positions(summary.ticks[3])
    order = np.argsort(x, kind="stable")
    found = []
    for k in range(len(summary.ticks[2])):
        colour = _colour(k, summary.ticks[2])
        middle, low, high = (np.asarray(a[i, j, k])[order] for a in (summary.centre, summary.low, summary.high))
        marks = {"marker": MANY_MARKERS[k % len(MANY_MARKERS)], "markersize": 4.5, "markeredgecolor": "white"}
        if len(x) > 40:
            marks = {"markevery": 0.1} | marks
        with np.errstate(invalid="ignore"):
            if (high > low).any():
                floor = np.nanmin(np.where(low > 0, low, math.nan)) if ylog and (low > 0).any() else -math.inf
                ax.fill_between(
                    np.asarray(x)[order], np.maximum(low, floor), high, color=colour, alpha=0.18, linewidth=0
                )
        found += ax.plot(np.asarray(x)[order], middle, color=colour, linewidth=1.7, **marks)  # type: ignore[arg-type]
    if isinstance(summary.ticks[3][0], str):
        _label_cells(ax.xaxis, summary.ticks[3])
    else:
        ax.set_xscale(xscale)
        if xscale == "linear" and all(float(v).is_integer() for v in x):
            from matplotlib.ticker import MaxNLocator

            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if ylog:
        ax.set_yscale("log")
    elif summary.share:
        ax.set_ylim(-0.02, 1.02)
    else:  # what differs by less than can be read off is drawn as flat, not as its roundoff
        bottom, top = ax.get_ylim()
        least = _FLAT * max(abs(bottom), abs(top))
        if top - bottom < least:
            ax.set_ylim((bottom + top - least) / 2, (bottom + top + least) / 2)
    return found


def _heat(ax: Axes, summary: Spread, i: int, j: int, log: bool) -> Any:
    """Draw cells of equal size, coloured by the middle; what is missing stays grey."""
    from matplotlib.colors import LogNorm, Normalize

    finite = summary.centre[np.isfinite(summary.centre) & ((summary.centre > 0) | (not log))]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if summary.share:
        low, high = 0.0, 1.0
    norm = LogNorm(low, high) if log and low < high else Normalize(low, high if high > low else low + 1)
    ax.set_facecolor(PALE)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    order = [np.argsort(_positions(ticks), kind="stable") for ticks in summary.ticks[2:]]
    cells = np.asarray(summary.centre[i, j])[np.ix_(*order)]
    mesh = ax.pcolormesh(np.ma.masked_invalid(cells), norm=norm, cmap="viridis", edgecolors="white", linewidth=0.4)
    for axis, ticks, at in ((ax.yaxis, summary.ticks[2], order[0]), (ax.xaxis, summary.ticks[3], order[1])):
        _label_cells(axis, [ticks[k] for k in at], shift=0.5)
    return mesh


def _label_cells(axis: Any, ticks: Sequence[Any], shift: float = 0.0) -> None:
    """Name some of the places along an axis on which values stand side by side."""
    every = max(1, -(-len(ticks) // _TICKS))
    axis.set_ticks([k + shift for k in range(0, len(ticks), every)], [_text(t) for t in ticks[::every]])


def _legend(page: Page, summary: Spread, lines: Sequence[Any]) -> None:
    """Put the names of the lines to the right of all panels; of very many every few."""
    every = max(1, -(-len(lines) // _LINES))
    labels = [textwrap.shorten(_text(t), 24, placeholder=" …") or "" for t in summary.ticks[2][::every]]
    page.legend(
        list(lines)[::every], labels, loc="outside right upper", title=summary.axes[2], frameon=False, fontsize=8.5,
        title_fontsize=8.5,
    )  # fmt: skip


def _positions(ticks: Sequence[Any]) -> list[float]:
    """Return where values stand: numbers where they are, others side by side."""
    return [float(k) if isinstance(ticks[0], str) else float(t) for k, t in enumerate(ticks)]


def _colour(k: int, ticks: Sequence[Any]) -> Any:
    """Return the colour of a line: of few one each, of many numbers one by size."""
    if isinstance(ticks[0], str) or len(ticks) <= 4:
        return MANY[k % len(MANY)]
    import matplotlib

    rank = int(np.argsort(np.argsort(_positions(ticks)))[k])
    return matplotlib.colormaps["viridis"](0.9 * rank / (len(ticks) - 1))


def _scale(values: Any, share: bool) -> str:
    """Return the scale that numbers ask for: logarithmic where they are positive, and range over a factor of thirty."""
    finite = values[np.isfinite(values)]
    wide = not share and finite.size > 2 and finite.min() > 0 and finite.max() > 30 * finite.min()
    return "log" if wide else "linear"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
