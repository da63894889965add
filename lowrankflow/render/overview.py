"""All claims of a report on one axis, with their controls."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..report import Report, Verdict, number_text, rule_text
from .look import INK, MUTED, ROLES, clean, draw_legend, draw_title, fitted, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

__all__ = ["draw_report"]

#: the look of a verdict: colour, marker
_VERDICTS: dict[Verdict, tuple[str, str]] = {
    "passed": ("#007f5f", "o"),
    "failed": ("#b3002d", "X"),
    "not claimed": (MUTED, "s"),
}
#: the look of a control
_CONTROLS: dict[str, dict[str, Any]] = {
    "control, caught": {
        "color": "#d55e00", "marker": "D", "markersize": 6.5, "markerfacecolor": "white", "markeredgecolor": "#d55e00",
    },
    "control, NOT caught": {
        "color": "#d55e00", "marker": "D", "markersize": 8.0, "markerfacecolor": "#d55e00", "markeredgecolor": INK,
    },
    "control, not counted": {
        "color": MUTED, "marker": "D", "markersize": 6.5, "markerfacecolor": "none", "markeredgecolor": MUTED,
    },
}  # fmt: skip


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
    with style():
        clean(ax)
        ax.spines["left"].set_visible(False)
        draw_title(ax, fitted(report.summary(), 78), pad=20)
        marks = list(_marks(report))
        low, high, edge = _limits(marks)
        _draw_sides(ax, low, high)
        _draw_rows(ax, report)
        legend = {}
        for mark in marks:
            legend[mark.label] = _draw_mark(ax, mark, low * edge, high / edge)
        ax.set_xlabel("measured / bound   (≥: bound / measured;  interval: distance from its centre / half its width)")
        shown = [label for label in (*_VERDICTS, *_CONTROLS) if label in legend]
        draw_legend(ax, [legend[label] for label in shown], shown)


class _Mark(NamedTuple):
    """What stands for a claim or a control in the overview."""

    row: int
    position: float
    label: str
    look: dict[str, Any]


def _marks(report: Report) -> Iterator[_Mark]:
    """Yield the marks of all controls, then those of the claims, which lie on top of them."""
    for row, claim in enumerate(report):
        for control in claim.controls:
            label = "control, not counted"
            if claim.claimed:  # else its controls are caught as little as it is failed
                label = "control, caught" if control.caught else "control, NOT caught"
            yield _Mark(row, control.position, label, _CONTROLS[label] | {"markeredgewidth": 1.4, "zorder": 3})
    for row, claim in enumerate(report):
        colour, marker = _VERDICTS[claim.verdict]
        look = {"color": colour, "marker": marker, "markersize": 9, "markeredgecolor": "white", "markeredgewidth": 0.8}
        yield _Mark(row, claim.position, claim.verdict, look | {"zorder": 4})


def _limits(marks: Sequence[_Mark]) -> tuple[float, float, float]:
    """Return both ends of the axis, and the factor by which what falls off it is drawn inside of them."""
    inside = [mark.position for mark in marks if 1e-8 <= mark.position <= 1e16]
    low, high = min([1e-2, *inside]) / 2, max([1e2, *inside]) * 2
    low = min(low, high ** (-1 / 3))
    margin = (high / low) ** 0.08
    return low / margin, high * margin, margin**0.65


def _draw_sides(ax: Axes, low: float, high: float) -> None:
    """Draw the axis, and the two sides of the line at 1."""
    from matplotlib.ticker import LogLocator, NullLocator

    ax.set_xscale("log")
    ax.set_xlim(low, high)
    ax.xaxis.set_major_locator(LogLocator(numticks=12))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.grid(True, axis="x", color="white", linewidth=0.8)
    ax.axvspan(low, 1, color="#e9f5f1", linewidth=0, zorder=0)
    ax.axvspan(1, high, color="#fbeee5", linewidth=0, zorder=0)
    ax.axvline(1, color=ROLES["bound"][0], linestyle=":", linewidth=1.8, zorder=2)
    for text, side, shift in (("keeps the bound", "right", -8), ("breaks the bound", "left", 8)):
        ax.annotate(
            text, (1, 1), xytext=(shift, 4), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha=side, va="bottom", color=MUTED, fontsize=9,
        )  # fmt: skip


def _draw_rows(ax: Axes, report: Report) -> None:
    """Write the name of each claim to the left of its row, and its verdict with the numbers to the right."""
    ax.set_ylim(max(len(report), 1) - 0.5, -0.5)
    ax.set_yticks(range(len(report)), [fitted(textwrap.shorten(c.name, 40, placeholder=" …"), 24) for c in report])
    ax.tick_params(axis="y", length=0)
    for row, claim in enumerate(report):
        rule = rule_text(claim.relation, claim.bound).replace("<=", "≤").replace(">=", "≥")
        why = ", control missed" if claim.verdict == "failed" and claim.holds else ""
        ax.annotate(
            f"{claim.verdict}: {number_text(claim.measured)} {rule}{why}", (1, row), xycoords=("axes fraction", "data"),
            xytext=(8, 0), textcoords="offset points", ha="left", va="center", color=_VERDICTS[claim.verdict][0],
            fontsize=9,
        )  # fmt: skip
    if not len(report):
        ax.text(0.5, 0.5, "no claims", transform=ax.transAxes, ha="center", color=MUTED)


def _draw_mark(ax: Axes, mark: _Mark, least: float, most: float) -> Line2D:
    """Draw a mark where it belongs, or at the edge with an arrow; a claim with a bar from the bound to it."""
    row, position, _, look = mark
    nowhere = math.isnan(position)
    at = most if nowhere else min(max(position, least), most)
    (line,) = ax.plot([at], [row], linestyle="none", clip_on=False, **look)
    if at != position:
        left = position < at
        ax.annotate(
            "?" if nowhere else "←" if left else "→", (at, row), textcoords="offset points",
            xytext=(-6 if left else 6, 0), ha="right" if left else "left", va="center", color=look["color"], fontsize=8,
        )  # fmt: skip
    if look["marker"] != "D" and not nowhere:
        ax.plot([at, 1], [row, row], color=look["color"], linewidth=2, alpha=0.35, zorder=2.2)
    return line
