"""A user's own object out of a file of Python."""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import validation
from .files import require_file

__all__ = ["call", "load_object"]


def load_object(name: str, reference: str) -> Any:
    """Return what a file of Python defines under a name, from ``"file.py:Name"``.

    Parameters
    ----------
    name : str
        What messages call the argument.
    reference : str
        The path of the file, a colon and the name. The file is run as a module of its own.

    Returns
    -------
    object

    Raises
    ------
    ValueError
        If the reference has no colon, the file does not exist, cannot be run, or has no such name.
    """
    path, _, wanted = reference.rpartition(":")
    if not path or not wanted:
        raise ValueError(f"`{name}` must be FILE.py:Name, got {reference!r}.")
    file = require_file(name, path)
    if file.suffix != ".py":
        raise ValueError(f"`{name}` must name a .py file, got {path!r}.")
    try:
        found = runpy.run_path(str(Path(file)), run_name=Path(file).stem)
    except SystemExit as stop:
        raise ValueError(
            f"`{name}` must be a file of Python, but {path!r} ended with exit status {stop.code}."
        ) from None
    except Exception as error:  # whatever a user's file raises is one line to the reader
        where = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ValueError(
            f"`{name}` must be a file of Python that runs, but {path!r} raises {type(error).__name__}{where}:"
            f" {validation.reason(error)}."
        ) from None
    if wanted not in found:
        own = (k for k, v in found.items() if not k.startswith("_") and getattr(v, "__module__", None) == file.stem)
        known = ", ".join(own) or "nothing"
        raise ValueError(f"`{name}` must name something in {path!r}, which defines {known}; got {wanted!r}.")
    return found[wanted]


def call(name: str, factory: Any, options: Mapping[str, Any]) -> Any:
    """Return ``factory(**options)``, its own complaints in one line.

    Raises
    ------
    ValueError
        If it is not callable, or cannot be called with these.
    """
    label = getattr(factory, "__name__", type(factory).__name__)
    if not callable(factory):
        raise ValueError(f"`{name}` must be a class or a function, got {validation.describe(factory)}.")
    given = ", ".join(f"{key}=" for key in options)
    try:
        return factory(**options)
    except Exception as error:  # a user's class may raise anything
        raise ValueError(
            f"`{name}` {label} must be callable with {given}, but raises {type(error).__name__}: {validation.reason(error)}."
        ) from None
