"""Write a file whole or not at all; numpy archives that are read whole or not at all."""

from __future__ import annotations

import errno
import glob
import os
import platform
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from . import validation

__all__ = [
    "read_arrays",
    "replacing",
    "require_file",
    "require_output_folder",
    "require_path",
    "write_arrays",
    "write_text",
]


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its place at the end; on an error nothing is left.

    A crash at any moment leaves the old file or the new one, on the disk and not only in its cache. What a killed
    process leaves is its temporary file ``.NAME-HOST-PID-*.tmp``: the next write to the same path removes it, once
    no process of that number lives on this machine. The permissions are those of the old file, or of an ordinary new
    one; a link stays a link, and what it names is written. A path that cannot be written, or names a pipe or a device, is
    a ValueError; an error while writing (a full disk) stays an OSError.
    """
    target = Path(os.path.realpath(require_path("path", path)))
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise ValueError(f"`path` must be a regular file, got {str(target)!r}, a pipe or a device. Choose another.")
    prefix = f".{target.name}-{platform.node()}-"
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        _remove_orphans(target.parent, prefix)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f"{prefix}{os.getpid()}-", suffix=".tmp")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ValueError(
            f"`path` must be a file that can be written, got {str(target)!r} ({error.strerror}). Choose another."
        ) from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode(target))
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _mode(target: Path) -> int:
    """Return the permissions of the old file, or those of a new one."""
    with suppress(FileNotFoundError):
        return stat.S_IMODE(target.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file, UTF-8."""
    with replacing(path) as file:
        file.write(text.encode())


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Write an uncompressed npz archive."""
    with replacing(path) as file:
        np.savez(file, **arrays)


def read_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Read all of an npz archive, checked by the checksums of the archive; no objects.

    A damaged archive raises any of a dozen kinds of exception.
    """
    with open(path, "rb") as stream:  # a stream of our own: np.load leaves a damaged archive open
        if stream.read(2) not in (b"PK", b"\x93N"):
            raise ValueError("not an npz archive")
        stream.seek(0)
        data = np.load(stream, allow_pickle=False)
        if isinstance(data, np.ndarray):
            raise ValueError("a single array")
        with data:
            return {name: data[name] for name in data.files}


def _remove_orphans(folder: Path, prefix: str) -> None:
    """Remove the temporary files of writers on this machine that are no more."""
    for file in folder.glob(f"{glob.escape(prefix)}*.tmp"):
        pid = file.name[len(prefix) :].split("-")[0]
        if pid.isdecimal() and not _alive(int(pid)):
            with suppress(OSError):  # it was another's, or another was faster
                file.unlink()


def _alive(pid: int) -> bool:
    """Whether a process may exist; True where that cannot be asked without harm."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive a loss of power, where the system can."""
    if os.name == "posix":
        with suppress(OSError):  # some file systems refuse it; the file itself is already whole
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def require_path(name: str, path: Any) -> Path:
    """Return a path."""
    try:
        found = Path(path)
    except TypeError:
        raise TypeError(f"`{name}` must be the path of a file, got {validation.describe(path)}.") from None
    if "\0" in str(found):
        raise ValueError(f"`{name}` must be the path of a file, got {validation.describe(path)} with a null character.")
    return found


def require_output_folder(path: str | os.PathLike[str]) -> Path:
    """Create the folder if need be and make sure that it can be written, before any work is done."""
    folder = require_path("out", path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".lowrankflow-{os.getpid()}"
        probe.touch()
        probe.unlink(missing_ok=True)  # another of this name may have been faster
    except OSError as error:
        raise ValueError(
            f"`out` must be a folder that can be written, got {str(folder)!r} ({error.strerror}). Choose another."
        ) from None
    return folder


def require_file(name: str, path: str | os.PathLike[str]) -> Path:
    """Return the path of a file that exists and is not empty."""
    file = require_path(name, path)
    if not os.path.isfile(file):  # False, not an error, below a folder that may not be entered
        what = "the folder " if os.path.isdir(file) else "the pipe or device " if file.exists() else ""
        raise ValueError(f"`{name}` must be an existing file, got {what}{str(file)!r}.")
    if file.stat().st_size == 0:
        raise ValueError(f"`{name}` must not be empty, got {str(file)!r} with 0 bytes.")
    return file
