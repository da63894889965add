"""Pictures as files: each is drawn once, whatever is made of it."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from .. import validation
from ..files import replacing
from ..report import Figure, Report
from .curves import draw_figure
from .look import TITLE, style
from .overview import draw_report
from .paths import Path, figure_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Page
    from matplotlib.text import Text

__all__ = ["Picture", "image", "pictures_of", "save_figures"]

_LARGE, _SMALL = (
    {"width": 9.4, "height": 4.8},
    {"width": 6.4, "height": 4.1},
)  #: of a report's first figure, of the others
_DPI = 170
_PLAIN: dict[str, Any] = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}  # the same bytes every day


class Picture:
    """A figure of a report, the overview of its claims, or a trajectory: drawn when first asked for, once for all its files.

    As the last line of a cell, it is shown in a notebook.

    Parameters
    ----------
    subject : Figure, Report or Trajectory
        What to draw; of a trajectory its singular values.
    width, height : float
        In inches; the height without the rows of the legend, and for a report set by its number of claims.
    dpi : int
        Dots an inch, for a PNG.
    """

    def __init__(
        self, subject: Figure | Report | Path, *, width: float = 7.2, height: float = 4.2, dpi: int = 150
    ) -> None:
        if isinstance(subject, Report):
            height = 1.1 + 0.38 * max(len(subject), 1)
        elif not isinstance(subject, Figure):
            subject = figure_of(subject)
        self.subject, self.width, self.height, self.dpi = subject, width, height, dpi

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return self.png(), {"width": round(100 * self.width)}  # drawn finer than a screen shows it

    @cached_property
    def _page(self) -> Page:
        """Everything in its place, where it stays: what takes most of the time."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Page

        with style():
            page = Page(figsize=(self.width, self.height), dpi=self.dpi, layout="constrained")
            FigureCanvasAgg(page)
            ax = page.add_subplot()
            draw_report(ax, self.subject) if isinstance(self.subject, Report) else draw_figure(ax, self.subject)
            legend = ax.get_legend()
            if legend is not None:
                rows = legend.get_window_extent().height / self.dpi
                page.set_size_inches(self.width, self.height + 0.1 + rows)
            page.get_layout_engine().execute(page)  # type: ignore[union-attr]
            page.set_layout_engine(None)
        return page

    @cached_property
    def _pixels(self) -> np.ndarray:
        with style():
            self._page.canvas.draw()
            return np.asarray(self._page.canvas.buffer_rgba())  # type: ignore[attr-defined]

    @property
    def _title(self) -> Text:
        (title,) = self._page.findobj(lambda artist: artist.get_gid() == TITLE)
        return cast("Text", title)

    @cached_property
    def _below_title(self) -> float:
        """How high the picture is without its title, in inches: up to a little below it."""
        with style():
            return float(self._title.get_window_extent().y0 / self.dpi - 0.03)

    def png(self, *, title: bool = True) -> bytes:
        """Return the bytes of a PNG, the same for the same values; without its title it is as much lower."""
        from matplotlib.image import imsave

        rows = self._pixels.shape[0] if title else round(self._below_title * self.dpi)
        buffer = io.BytesIO()
        imsave(buffer, self._pixels[-rows:], format="png", dpi=self.dpi, metadata=_PLAIN["png"])
        return buffer.getvalue()

    def svg(self, *, title: bool = True) -> bytes:
        """Return the bytes of an SVG likewise; its letters are outlines, which look the same everywhere and need no font."""
        from matplotlib.transforms import Bbox

        page, buffer = self._page, io.BytesIO()
        box = None if title else Bbox.from_extents(0, 0, self.width, self._below_title)
        with style():
            self._title.set_visible(title)
            page.savefig(buffer, format="svg", metadata=_PLAIN["svg"], bbox_inches=box)
            self._title.set_visible(True)
        return buffer.getvalue()


def image(
    subject: Figure | Report | Path,
    kind: Literal["png", "svg"] = "png",
    *,
    width: float = 7.2,
    height: float = 4.2,
    title: bool = True,
    dpi: int = 150,
) -> bytes:
    """Return a picture of a figure, a trajectory, or the overview of a report, as the bytes of a PNG or SVG file.

    Parameters
    ----------
    subject : Figure, Report or Trajectory
        What to draw.
    kind : {"png", "svg"}
        The format. Letters become outlines in an SVG: it looks the same everywhere and needs no font.
    width, height : float
        In inches; the height without the rows of the legend, and for a report set by its number of claims.
    title : bool
        Whether to keep the title; without it the picture is as much lower.
    dpi : int
        Dots an inch, for a PNG.

    Returns
    -------
    bytes
        The same for the same values: no date is written.
    """
    picture = Picture(subject, width=width, height=height, dpi=dpi)
    if validation.require_choice("kind", kind, ("png", "svg")) == "png":
        return picture.png(title=title)
    return picture.svg(title=title)


def pictures_of(report: Report) -> dict[str, Picture]:
    """Return the pictures of a report by the names of their files: the overview, then the figures in their order.

    Handed to `save_figures` and to `write_html` both, each is drawn once.
    """
    pictures = {"overview": Picture(report, width=_LARGE["width"], dpi=_DPI)}
    for figure in report.figures:
        name = stem = re.sub(r"[^\w-]+", "-", figure.name).strip("-") or "figure"
        count = 1
        while name in pictures:
            count += 1
            name = f"{stem}-{count}"
        size = _LARGE if figure is report.figures[0] else _SMALL
        pictures[name] = Picture(figure, **size, dpi=_DPI)
    return pictures


def save_figures(
    report: Report, folder: str | os.PathLike[str], *, pictures: Mapping[str, Picture] | None = None
) -> list[FilePath]:
    """Write one PNG for each figure of a report and ``overview.png``, each one whole or not at all.

    Parameters
    ----------
    report : Report
        Whose figures to draw; a file is named after its figure.
    folder : path-like
        Where to write; made if it does not exist.
    pictures : mapping, optional
        What `pictures_of` returned for this report, so that nothing is drawn again; None: drawn here.

    Returns
    -------
    list of Path
        The files: the overview, then the figures in their order.

    Raises
    ------
    ValueError
        If the folder cannot be written.
    """
    pictures = pictures_of(report) if pictures is None else pictures
    drawn = {name: picture.png() for name, picture in pictures.items()}
    target = FilePath(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        written = []
        for name, data in drawn.items():
            with replacing(target / f"{name}.png") as file:
                file.write(data)
            written.append(target / f"{name}.png")
        return written
    except OSError as error:
        raise ValueError(
            f"`folder` must be a folder that can be written, got {str(target)!r} ({error.strerror}). Choose another."
        ) from None
