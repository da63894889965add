"""The folder of a sweep: its grid, its results, and who else is at work there."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import validation
from .._version import __version__
from ..files import require_output_folder, require_path, write_text
from .grids import Grid
from .shards import Shards

__all__ = ["Folder"]

_FORMAT = "lowrankflow sweep"
_NAME = "sweep.json"


class Folder:
    """A folder with the results of one grid.

    Attributes
    ----------
    path : Path
    grid : Grid
    done, failed : set of bytes
        The keys of the jobs that have a result, and of those that have an error alone, as far as `look` has seen.
    """

    path: Path
    grid: Grid
    shards: Shards

    def __init__(self, path: Path, grid: Grid) -> None:
        self.path, self.grid = path, grid
        self.done: set[bytes] = set()
        self.failed: set[bytes] = set()
        self.shards = Shards(path)
        self._lock: int | None = None
        self._undo: tuple[bool, bytes | None] | None = (
            None  # whether the folder is new, and what stood in its grid's file
        )

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Folder:
        """Return the folder of a sweep that was begun.

        Raises
        ------
        ValueError
            If there is none, or it is of another version.
        """
        folder = require_path("out", path)
        file = folder / _NAME
        if not file.is_file():
            raise ValueError(f"`out` must be the folder of a sweep, got {str(folder)!r}, in which there is no {_NAME}.")
        return cls(folder, _read(file))

    @classmethod
    def for_grid(cls, path: str | os.PathLike[str], grid: Grid) -> Folder:
        """Return the folder of a grid, made if need be; of one that was begun, the grid must hold all its jobs.

        Raises
        ------
        ValueError
            If the folder cannot be written, or holds the sweep of another grid or version; it is left as it is.
        """
        file = require_path("out", path) / _NAME
        new, text = not file.parent.exists(), None
        if file.is_file():
            text = file.read_bytes()
            before = _read(file)
            if before.to_dict() == grid.to_dict():
                return cls(file.parent, grid)
            _require_more(file.parent, before, grid)
        folder = cls(require_output_folder(path), grid)
        for _ in folder.shards.records():  # refuses results of another version
            pass
        folder.shards = Shards(folder.path)
        head = {"format": _FORMAT, "version": __version__, "grid": grid.to_dict()}
        write_text(file, json.dumps(head, allow_nan=False) + "\n")
        folder._undo = new, text
        return folder

    def undo(self) -> None:
        """Leave the folder as `for_grid` found it, before anything was done in it."""
        if self._undo is None:
            return
        new, text = self._undo
        with suppress(OSError):
            if text is not None:
                write_text(self.path / _NAME, text.decode())
            else:
                (self.path / _NAME).unlink()
                if new:
                    self.path.rmdir()

    def look(self) -> bool:
        """Take in the results that are new, whoever wrote them; return whether there were some."""
        before = len(self.done) + len(self.failed)
        for key, done, _ in self.shards.records():
            (self.done if done else self.failed).add(key)
        self.failed -= self.done
        return len(self.done) + len(self.failed) > before

    def first_here(self) -> bool:
        """Whether no other driver is at work in this folder; True where the system cannot say."""
        try:
            import fcntl
        except ImportError:
            return True
        with suppress(OSError):
            self._lock = os.open(self.path / ".driver", os.O_WRONLY | os.O_CREAT, 0o666)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def leave(self) -> None:
        """Say that this driver is no more at work."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _read(file: Path) -> Grid:
    """Return the grid of a folder."""
    try:
        head: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        known, version = head["format"], head["version"]
        grid = Grid.from_dict(head["grid"]) if known == _FORMAT and version == __version__ else None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"`out` must be the folder of a sweep, got {str(file)!r}, which cannot be read ({validation.reason(error)})."
            " Choose another folder."
        ) from None
    if grid is None:
        raise ValueError(
            f"`out` must hold a sweep of lowrankflow {__version__}, got {str(file.parent)!r} of version {str(version)[:20]}."
            " Choose another folder."
        )
    return grid


def _require_more(folder: Path, before: Grid, grid: Grid) -> None:
    """Refuse a grid that does not hold all jobs of the one before."""
    gone = len(set(before.keys()).difference(grid.keys()))
    if gone:
        raise ValueError(
            f"`out` must be the folder of this grid, got {str(folder)!r}, of whose {before.size} jobs {gone} are not among the"
            f" {grid.size} of this one{_difference(before, grid)}. Choose another folder, or only add values."
        )


def _difference(before: Grid, grid: Grid) -> str:
    """Say in which field two grids differ first."""
    missing = object()
    for field in sorted({*before.fixed, *grid.fixed}):
        a, b = before.fixed.get(field, missing), grid.fixed.get(field, missing)
        if a is not missing and b is not missing and a != b:
            shown = (str(v)[:24] for v in (a, b))
            return " (`{}` is {} there and {} here)".format(field, *shown)
    return ""
