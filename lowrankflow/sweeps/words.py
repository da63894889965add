"""Names that are known, and the nearest one where one is not."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from .. import validation

__all__ = ["require_known"]


def require_known(where: str, name: object, known: Iterable[str], what: str = "be of") -> str:
    """Return a known name, or refuse it and say which is the nearest."""
    names = list(known)
    if isinstance(name, str) and name in names:
        return name
    near = get_close_matches(str(name), names, 1, 0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    shown = ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:10])}, ... ({len(names)} names)"
    raise ValueError(f"`{where}` must {what} {shown}; got {validation.describe(name)}.{hint}")
