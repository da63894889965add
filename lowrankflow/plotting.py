"""Where pictures were drawn before 1.0; `lowrankflow.render` draws them."""

import warnings
from typing import Any

_MOVED = {"draw_figure": "draw_figure", "draw_report": "draw_report", "render": "image", "save_figures": "save_figures"}

__all__ = [*_MOVED]


def __getattr__(name: str) -> Any:
    """Return what has moved, with a DeprecationWarning that says where it lives."""
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import render

    new = _MOVED[name]
    warnings.warn(f"{__name__}.{name} has moved to lowrankflow.render.{new}.", DeprecationWarning, stacklevel=2)
    return getattr(render, new)
