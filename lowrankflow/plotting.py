"""Pictures of a report: they take its values and compute nothing.

Everything draws on an Axes that the caller owns (matplotlib's object interface, no pyplot, no global setting).
Colours are chosen by role, from the palette of Okabe and Ito with a dark ink, and each role has its own form too,
so that nothing rests on colour alone: side a is a blue line, side b are dark rings lying on it, a control is
vermillion and dashed, a bound is dotted, a guide dash-dotted; ones of many have a colour, dashes and a marker each.
"""

from __future__ import annotations

import io
import math
import os
import re
import textwrap
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .files import replacing
from .report import Bound, Curve, Figure, Relation, Report, Verdict, number_text, rule_text

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = ["draw_figure", "draw_report", "render", "save_figures"]

INK, MUTED, PALE = "#1f2328", "#59636e", "#e3e6ea"

#: the look of a role: colour, line style, line width, drawing order
_LOOKS: dict[str, tuple[str, Any, float, float]] = {
    "a": ("#0072b2", "-", 2.0, 2.5),
    "b": (INK, "none", 0.0, 3.0),
    "gap": ("#aa3377", "-", 1.6, 2.4),
    "control": ("#d55e00", "--", 1.6, 2.3),
    "bound": ("#3b424a", ":", 1.8, 2.1),
    "guide": ("#8b949e", "-.", 1.1, 2.0),
    "one": (INK, "-", 1.7, 2.4),
}
#: ones of many: the label's number chooses among seven colours, five dashes and nine markers, so 315 differ
_MANY = ("#0072b2", "#d55e00", "#009e73", INK, "#cc79a7", "#e69f00", "#56b4e9")
_MANY_DASHES: list[Any] = ["-", (0, (6, 2)), (0, (2, 1.2)), (0, (7, 2, 1.5, 2)), (0, (7, 1.6, 1.5, 1.6, 1.5, 1.6))]
_MANY_MARKERS = "os^DvPX<>"
_DASHES: list[Any] = [(0, (6, 2)), (0, (6, 2, 1.5, 2)), (0, (3, 1.5)), (0, (10, 2, 3, 2))]
_MARKERS = "os^Dv"
#: the look of a verdict: colour, marker
_VERDICTS: dict[Verdict, tuple[str, str]] = {
    "passed": ("#007f5f", "o"),
    "failed": ("#b3002d", "X"),
    "not claimed": (MUTED, "s"),
}
_LEGEND_ROWS = 12  #: more distinct labels than this are counted, not listed


def _style() -> AbstractContextManager[Any]:
    """Return the context in which everything is drawn; it leaves the user's settings as they were."""
    import matplotlib

    return matplotlib.rc_context(
        {
            "font.family": "DejaVu Sans",  # shipped with matplotlib
            "font.size": 9.5,
            "mathtext.fontset": "dejavusans",
            "text.usetex": False,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.unicode_minus": True,
            "svg.fonttype": "path",
            "svg.hashsalt": "lowrankflow",  # the same report gives the same bytes
            "path.simplify": True,
            "figure.facecolor": "white",
            "savefig.bbox": None,
        }
    )


def _text(text: str, width: int) -> str:
    """Return a label wrapped to `width` characters, its dollars taken literally if they are no valid mathematics."""
    if "$" not in text:
        return textwrap.fill(text, width)
    from matplotlib.mathtext import MathTextParser

    try:
        MathTextParser("path").parse(text)
    except ValueError:
        return textwrap.fill(text, width).replace("$", r"\$")
    return text


def _shade(colour: str, amount: float) -> tuple[float, float, float]:
    """Return the colour mixed with white."""
    from matplotlib.colors import to_rgb

    r, g, b = (c + amount * (1 - c) for c in to_rgb(colour))
    return r, g, b


def _clean(ax: Axes) -> None:
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#b4bbc3")
    ax.tick_params(which="both", color="#b4bbc3", labelcolor=INK)


def _legend(ax: Axes, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Put the legend under the axes and its label, where it cannot cover data."""
    from matplotlib.transforms import ScaledTranslation

    if not handles:
        return
    points = ax.bbox.width / ax.figure.dpi * 72
    columns = int(points / (4.9 * max(map(len, labels)) + 38))
    columns = max(1, min(len(labels), columns))
    columns = math.ceil(len(labels) / math.ceil(len(labels) / columns))  # even rows
    drop = 27 + 13 * (ax.get_xlabel().count("\n") + 1)
    ax.legend(
        handles, labels, ncols=columns, loc="upper left", bbox_to_anchor=(0, 0), borderaxespad=0, borderpad=0,
        bbox_transform=ax.transAxes + ScaledTranslation(0, -drop / 72, ax.figure.dpi_scale_trans),
        frameon=False, fontsize=9, handlelength=2.6, columnspacing=1.8, labelspacing=0.45,
    )  # fmt: skip


def _values(values: Sequence[float], scale: str) -> np.ndarray:
    """Return the values with nan where the scale cannot show one, which breaks the line there."""
    array = np.array(values, dtype=float)
    shown = np.abs(array) < 1e200  # beyond it the limits of an axis overflow
    if scale == "log":
        shown &= array > 1e-200
    return np.where(shown, array, np.nan)


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

    with _style():
        _clean(ax)
        ax.grid(True, which="major", color=PALE, linewidth=0.8)
        ax.set_xscale(figure.xscale)
        ax.set_yscale(figure.yscale)
        variants: dict[str, dict[str, int]] = {}
        for curve in figure.curves:
            names = variants.setdefault(curve.role, {})
            if curve.label or not names:
                names.setdefault(curve.label, len(names))
        latest: dict[str, str] = {}
        entries: dict[tuple[str, str], tuple[int, Any]] = {}
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
        if not ax.lines:
            ax.text(0.5, 0.5, "no finite values to draw", transform=ax.transAxes, ha="center", color=MUTED)
        if figure.xscale == "linear" and all(float(x).is_integer() for curve in figure.curves for x in curve.x):
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))  # what is counted has no halves
        wide = max(20, int(ax.bbox.width / ax.figure.dpi * 72 / 6.2))
        ax.set_title(_text(figure.title, wide), loc="left", fontsize=11, fontweight="bold", pad=10)
        ax.set_xlabel(_text(figure.xlabel, wide))
        ax.set_ylabel(_text(figure.ylabel, 48))
        listed = list(entries.items())
        rest = len(listed) - _LEGEND_ROWS
        if rest > 0:  # keep the first of every role
            listed = sorted(listed, key=lambda entry: entry[1][0])[: _LEGEND_ROWS - 1]
        handles = [line for _, (_, line) in listed]
        labels = [_text(textwrap.shorten(label, 64, placeholder=" …") or label, 64) for (_, label), _ in listed]
        if rest > 0:
            from matplotlib.lines import Line2D

            handles.append(Line2D([], [], linestyle="none"))
            labels.append(f"and {rest + 1} more")
        _legend(ax, handles, labels)


def _look(curve: Curve, variant: int, variants: int, crowd: int) -> dict[str, Any]:
    """Return the keywords of a curve: by role, and by which of the role's labels it carries."""
    colour, dashes, width, order = _LOOKS.get(curve.role, _LOOKS["a"])
    shade = _shade(colour, 0.6 * variant / max(variants - 1, 4) if variants > 1 else 0.0)
    marker = _MARKERS[variant % len(_MARKERS)]
    look: dict[str, Any] = {"color": shade, "linewidth": width, "zorder": order}
    if curve.role == "one":
        look |= {"color": _MANY[variant % len(_MANY)], "linestyle": _MANY_DASHES[variant % len(_MANY_DASHES)]}
        look |= {"marker": _MANY_MARKERS[variant % len(_MANY_MARKERS)], "markersize": 6.0}
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
        look |= {"markerfacecolor": shade, "markeredgecolor": "white", "markeredgewidth": 0.6}
    else:
        look["linestyle"] = _DASHES[variant % len(_DASHES)] if curve.role == "control" else dashes
    return look


def _position(measured: float, relation: Relation, bound: Bound) -> float:
    """Return where a measurement stands to its bound: below 1 it keeps it, above 1 it breaks it, on one scale for all.

    ``<=``: measured / bound; ``>=``: bound / measured; ``in``: the distance from the centre of the interval over half
    its width. 0 and infinity where signs differ, so that the side is always the one of the verdict.
    """
    if math.isnan(measured):
        return math.nan
    measured = float(measured)
    if isinstance(bound, tuple):
        centre, half = (bound[0] + bound[1]) / 2, (bound[1] - bound[0]) / 2
        off = abs(measured - centre)
        return off / half if half > 0 else (0.0 if off == 0 else math.inf)
    bound = float(bound)
    if relation == ">=":
        measured, bound = -measured, -bound
    if bound > 0:
        return 1.0 if measured == bound else max(measured, 0.0) / bound
    if bound < 0:
        return (1.0 if measured == bound else bound / measured) if measured < 0 else math.inf
    return 0.0 if measured <= 0 else math.inf


def draw_report(ax: Axes, report: Report) -> None:
    """Draw every claim of a report on one logarithmic axis of measured / bound, controls on the far side.

    Left of the line at 1 a bound is kept, right of it it is broken: a claim belongs to the left, a control to the
    right. For ``>=`` the quotient is turned round, for an interval it is the distance from its centre over half its
    width. What falls off the axis is drawn at its edge with an arrow.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    report : Report
        Its claims, from top to bottom.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullLocator

    with _style():
        _clean(ax)
        ax.spines["left"].set_visible(False)
        ax.set_title(_text(report.summary(), 78), loc="left", fontsize=11, fontweight="bold", pad=20)
        claims = [(row, _position(c.measured, c.relation, c.bound), c) for row, c in enumerate(report)]
        controls = [(row, _position(k.measured, k.relation, k.bound), k) for row, _, c in claims for k in c.controls]
        inside = [p for p in [p for _, p, _ in claims] + [p for _, p, _ in controls] if 1e-8 <= p <= 1e16]
        low, high = min([1e-2, *inside]) / 2, max([1e2, *inside]) * 2
        low = min(low, high ** (-1 / 3))
        margin = (high / low) ** 0.08  # room at both ends for what falls off the axis
        low, high = low / margin, high * margin
        ax.set_xscale("log")
        ax.set_xlim(low, high)
        ax.set_ylim(max(len(report), 1) - 0.5, -0.5)
        ax.xaxis.set_major_locator(LogLocator(numticks=12))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.axvspan(low, 1, color="#e9f5f1", linewidth=0, zorder=0)
        ax.axvspan(1, high, color="#fbeee5", linewidth=0, zorder=0)
        ax.axvline(1, color=_LOOKS["bound"][0], linestyle=":", linewidth=1.8, zorder=2)
        for text, side in (("keeps the bound", "right"), ("breaks the bound", "left")):
            shift = -8 if side == "right" else 8
            ax.annotate(
                text, (1, 1), xytext=(shift, 4), xycoords=("data", "axes fraction"), textcoords="offset points",
                ha=side, va="bottom", color=MUTED, fontsize=9,
            )  # fmt: skip
        ax.set_yticks(range(len(report)), [_text(textwrap.shorten(c.name, 40, placeholder=" …"), 24) for c in report])
        ax.tick_params(axis="y", length=0)
        ax.grid(True, axis="x", color="white", linewidth=0.8)
        legend: dict[str, Line2D] = {}

        def mark_at(row: int, position: float, label: str, **look: Any) -> None:
            edge = margin**0.65
            at = high / edge if math.isnan(position) else min(max(position, low * edge), high / edge)
            (legend[label],) = ax.plot([at], [row], linestyle="none", clip_on=False, **look)
            if at != position:
                left = position < at
                ax.annotate(
                    "?" if math.isnan(position) else "←" if left else "→", (at, row), textcoords="offset points",
                    xytext=(-6 if left else 6, 0), ha="right" if left else "left", va="center", color=look["color"],
                    fontsize=8,
                )  # fmt: skip
            if look["marker"] != "D" and not math.isnan(position):
                ax.plot([at, 1], [row, row], color=look["color"], linewidth=2, alpha=0.35, zorder=2.2)

        for row, position, control in controls:
            colour = _LOOKS["control"][0]
            label, size, face, edge = ("control, caught", 6.5, "white", colour)
            if not control.caught:
                label, size, face, edge = ("control, NOT caught", 8.0, colour, INK)
            mark_at(row, position, label, color=colour, marker="D", markersize=size, markerfacecolor=face,
                    markeredgecolor=edge, markeredgewidth=1.4, zorder=3)  # fmt: skip
        for row, position, claim in claims:
            colour, marker = _VERDICTS[claim.verdict]
            mark_at(row, position, claim.verdict, color=colour, marker=marker, markersize=9, markeredgecolor="white",
                    markeredgewidth=0.8, zorder=4)  # fmt: skip
            rule = rule_text(claim.relation, claim.bound).replace("<=", "≤").replace(">=", "≥")
            why = ", control missed" if claim.verdict == "failed" and claim.holds else ""
            ax.annotate(
                f"{claim.verdict}: {number_text(claim.measured)} {rule}{why}", (1, row), xycoords=("axes fraction", "data"),
                xytext=(8, 0), textcoords="offset points", ha="left", va="center", color=colour, fontsize=9,
            )  # fmt: skip
        if not len(report):
            ax.text(0.5, 0.5, "no claims", transform=ax.transAxes, ha="center", color=MUTED)
        ax.set_xlabel("measured / bound   (≥: bound / measured;  interval: distance from its centre / half its width)")
        order = [*_VERDICTS, "control, caught", "control, NOT caught"]
        shown = [label for label in order if label in legend]
        _legend(ax, [legend[label] for label in shown], shown)


def render(
    subject: Figure | Report,
    kind: Literal["png", "svg"] = "png",
    *,
    width: float = 7.2,
    height: float = 4.2,
    title: bool = True,
    dpi: int = 150,
) -> bytes:
    """Return a picture of a figure, or the overview of a report, as the bytes of a PNG or SVG file.

    Parameters
    ----------
    subject : Figure or Report
        What to draw.
    kind : {"png", "svg"}
        The format. Letters become outlines in an SVG: it looks the same everywhere and needs no font.
    width, height : float
        In inches; the height without the rows of the legend, and for a report set by its number of claims.
    title : bool
        Whether to draw the title.
    dpi : int
        Dots an inch, for a PNG.

    Returns
    -------
    bytes
        The same for the same values: no date is written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Page

    with _style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script the font lacks shows boxes
        if isinstance(subject, Report):
            height = 1.1 + 0.38 * max(len(subject), 1)
        page = Page(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(page)
        ax = page.add_subplot()
        draw_report(ax, subject) if isinstance(subject, Report) else draw_figure(ax, subject)
        if not title:
            ax.set_title("", loc="left")
        legend = ax.get_legend()
        if legend is not None:
            page.set_size_inches(width, height + 0.1 + legend.get_window_extent().height / page.dpi)
        buffer = io.BytesIO()
        metadata: dict[str, Any] = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        page.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
        return buffer.getvalue()


def save_figures(report: Report, folder: str | os.PathLike[str]) -> list[Path]:
    """Write one PNG for each figure of a report and ``overview.png``, each one whole or not at all.

    Parameters
    ----------
    report : Report
        Whose figures to draw; a file is named after its figure.
    folder : path-like
        Where to write; made if it does not exist.

    Returns
    -------
    list of Path
        The files: the overview, then the figures in their order.

    Raises
    ------
    ValueError
        If the folder cannot be written.
    """
    pictures = {"overview": render(report, width=9.0)}
    for figure in report.figures:
        name = stem = re.sub(r"[^\w-]+", "-", figure.name).strip("-") or "figure"
        count = 1
        while name in pictures:
            count += 1
            name = f"{stem}-{count}"
        pictures[name] = render(figure)
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        written = []
        for name, data in pictures.items():
            with replacing(target / f"{name}.png") as file:
                file.write(data)
            written.append(target / f"{name}.png")
        return written
    except OSError as error:
        raise ValueError(
            f"`folder` must be a folder that can be written, got {str(target)!r} ({error.strerror}). Choose another."
        ) from None
