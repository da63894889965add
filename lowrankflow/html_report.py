"""Where the page was made before 1.0; `lowrankflow.render` makes it."""

from .validation import moved

_MOVED = {"page": "to_html", "write_html": "write_html"}

__all__ = [*_MOVED]
__getattr__ = moved(__name__, "lowrankflow.render", _MOVED)
