"""Pictures and the page of a report: they show its values and compute nothing.

- `look`: what every picture shares; `curves`: the figures; `overview`: all claims on one axis. They draw on an Axes that
  the caller owns (matplotlib's object interface, no pyplot, no global setting).
- `pictures`: pictures as files or in a notebook, each drawn once for all that is made of it; `paths`: the figure of a run.
- `sweeps`: pictures of sweeps: lines with bands, heat maps, small multiples.
- `page`: the page, from the templates beside it.
"""

from .curves import draw_figure
from .overview import draw_report
from .page import to_html, write_html
from .pictures import Picture, image, pictures_of, save_figures
from .sweeps import draw_sweep, sweep_picture

__all__ = [
    "Picture",
    "draw_figure",
    "draw_report",
    "draw_sweep",
    "image",
    "pictures_of",
    "save_figures",
    "sweep_picture",
    "to_html",
    "write_html",
]
