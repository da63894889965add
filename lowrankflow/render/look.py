"""What every picture shares: colours by role, type, and where title and legend stand.

Colours are chosen by role, from the palette of Okabe and Ito with a dark ink, and each role has its own form too,
so that nothing rests on colour alone: side a is a blue line, side b are dark rings lying on it, a control is
vermillion and dashed, a bound is dotted, a guide dash-dotted; ones of many have a colour, dashes and a marker each.
"""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = ["INK", "MUTED", "PALE", "ROLES", "TITLE", "clean", "draw_legend", "draw_title", "fitted", "shade", "style"]

INK, MUTED, PALE = "#1f2328", "#59636e", "#e3e6ea"

#: the look of a role: colour, line style, line width, drawing order
ROLES: dict[str, tuple[str, Any, float, float]] = {
    "a": ("#0072b2", "-", 2.0, 2.5),
    "b": (INK, "none", 0.0, 3.0),
    "gap": ("#aa3377", "-", 1.6, 2.4),
    "control": ("#d55e00", "--", 1.6, 2.3),
    "bound": ("#3b424a", ":", 1.8, 2.1),
    "guide": ("#8b949e", "-.", 1.1, 2.0),
    "one": (INK, "-", 1.7, 2.4),
}
TITLE = "title"  #: the id of the title, which a page leaves out
_SETTINGS: dict[Any, Any] = {
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
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
    "savefig.bbox": None,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw everything in our look, and leave the user's settings as they were."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script the font lacks shows boxes
        yield


def fitted(text: str, width: int) -> str:
    """Return a label wrapped to `width` characters, its dollars taken literally if they are no valid mathematics."""
    if "$" not in text:
        return textwrap.fill(text, width)
    from matplotlib.mathtext import MathTextParser

    try:
        MathTextParser("path").parse(text)
    except ValueError:
        return textwrap.fill(text, width).replace("$", r"\$")
    return text


def shade(colour: str, amount: float) -> tuple[float, float, float]:
    """Return the colour mixed with white."""
    from matplotlib.colors import to_rgb

    r, g, b = (c + amount * (1 - c) for c in to_rgb(colour))
    return r, g, b


def clean(ax: Axes) -> None:
    """Leave of the frame the two sides that carry numbers, in grey."""
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#b4bbc3")
    ax.tick_params(which="both", color="#b4bbc3", labelcolor=INK)


def draw_legend(ax: Axes, handles: Sequence[Artist], labels: Sequence[str]) -> None:
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


def draw_title(ax: Axes, text: str, pad: float) -> None:
    """Put the title above the left end of the axes, `pad` points away."""
    ax.set_title(text, loc="left", fontsize=11, fontweight="bold", pad=pad, gid=TITLE)
