"""Results on disk: appended, each record whole or not at all, a file of its own for every writer.

A file begins with a line of JSON and goes on with records: the length of a body and its CRC-32, four bytes each, little-endian,
then the body: the key of a job (32 bytes), "+" for a result or "-" for an error, and JSON. Whoever is killed while writing
leaves a torn record at the end of its own file, which is read as if it were not there; nobody writes after it.
"""

from __future__ import annotations

import json
import os
import platform
import struct
import threading
import uuid
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .._version import __version__

__all__ = ["Record", "Shard", "Shards"]

_MAGIC, _SCHEMA, _SUFFIX = "lowrankflow sweep", 1, ".shard"
_HEAD = struct.Struct("<II")
_KEY = 32


class Record(NamedTuple):
    """The result of a job."""

    key: bytes
    done: bool  #: False: it failed
    body: bytes  #: JSON

    def values(self) -> dict[str, Any]:
        """Return the result, or {"error": ...}."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class Shard:
    """A file of results that this process, and nobody else, appends to; it is made with the first of them.

    Nothing is cached here: what `append` has returned from survives the process. `close` makes it survive the machine.
    """

    folder: Path

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._file: int | None = None
        self._lock = threading.Lock()  # a worker of Dask may have threads

    def append(self, key: bytes, values: Mapping[str, Any], *, done: bool) -> None:
        """Append a result.

        Raises
        ------
        OSError
            If it cannot be written, for instance on a full disk; the file is then as it was before.
        """
        body = key + (b"+" if done else b"-") + json.dumps(values, separators=(",", ":")).encode()
        with self._lock:
            if self._file is None:
                self._file = self._begin()
            self._write(_HEAD.pack(len(body), zlib.crc32(body)) + body)

    def close(self) -> None:
        """Make what was appended survive a loss of power."""
        with self._lock:
            if self._file is not None:
                os.fsync(self._file)
                os.close(self._file)
                self._file = None

    def _begin(self) -> int:
        name = f"{platform.node() or 'host'}-{os.getpid()}-{uuid.uuid4().hex[:8]}{_SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)
        file = self._file = os.open(self.folder / name, flags, 0o666)
        line = json.dumps({"format": _MAGIC, "schema": _SCHEMA, "version": __version__}) + "\n"
        try:
            self._write(line.encode())
        except OSError:
            os.close(file)
            self._file = None
            (self.folder / name).unlink(missing_ok=True)
            raise
        return file

    def _write(self, content: bytes) -> None:
        assert self._file is not None
        before = os.fstat(self._file).st_size
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            os.ftruncate(self._file, before)
            raise


class Shards:
    """All files of results of a folder, read on from where they were read to."""

    folder: Path

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._read: dict[str, int] = {}  #: by file: up to here
        self.torn: dict[str, int] = {}  #: by file: bytes at its end that are no whole record, so far

    def records(self) -> Iterator[Record]:
        """Yield the records that are new.

        Raises
        ------
        ValueError
            If a file is of another version of the library.
        """
        for entry in sorted(self.folder.glob(f"*{_SUFFIX}")):
            start = self._read.get(entry.name, 0)
            if entry.stat().st_size <= start:
                continue
            with open(entry, "rb") as file:
                if not start and (start := _first(file.readline(4096), entry)) == 0:
                    continue  # its first line is being written
                file.seek(start)
                content = file.read()
            yield from self._parsed(entry.name, start, content)

    def _parsed(self, name: str, start: int, content: bytes) -> Iterator[Record]:
        at, size = 0, len(content)
        while at + _HEAD.size <= size:
            length, check = _HEAD.unpack_from(content, at)
            body = content[at + _HEAD.size : at + _HEAD.size + length]
            if len(body) < length or length <= _KEY or zlib.crc32(body) != check:
                break
            at += _HEAD.size + length
            yield Record(body[:_KEY], body[_KEY : _KEY + 1] == b"+", body[_KEY + 1 :])
        self._read[name] = start + at
        if at < size:
            self.torn[name] = size - at
        else:
            self.torn.pop(name, None)


def _first(line: bytes, file: Path) -> int:
    """Return the length of a first line, checked; 0 where it is not whole."""
    if not line.endswith(b"\n"):
        return 0
    try:
        head = json.loads(line)
        told = head["format"], head["schema"], head["version"]
    except (ValueError, KeyError, TypeError):
        told = ("", 0, "")
    if told[:2] != (_MAGIC, _SCHEMA):
        raise ValueError(
            f"`out` must hold results of a sweep, got {str(file)!r}, which holds none. Choose another folder."
        )
    if told[2] != __version__:
        raise ValueError(
            f"`out` must hold results of lowrankflow {__version__}, got {file.name!r} of version {told[2]}."
            " Choose another folder."
        )
    return len(line)
