"""Where pictures were drawn before 1.0; `lowrankflow.render` draws them."""

from .validation import moved

_MOVED = {"draw_figure": "draw_figure", "draw_report": "draw_report", "render": "image", "save_figures": "save_figures"}

__all__ = [*_MOVED]
__getattr__ = moved(__name__, "lowrankflow.render", _MOVED)
