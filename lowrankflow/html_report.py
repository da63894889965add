"""Where the page was made before 1.0; `lowrankflow.render` makes it."""

import warnings
from typing import Any

_MOVED = {"page": "to_html", "write_html": "write_html"}

__all__ = [*_MOVED]


def __getattr__(name: str) -> Any:
    """Return what has moved, with a DeprecationWarning that says where it lives."""
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import render

    new = _MOVED[name]
    warnings.warn(f"{__name__}.{name} has moved to lowrankflow.render.{new}.", DeprecationWarning, stacklevel=2)
    return getattr(render, new)
