"""The state of a run on disk, read back exactly or refused; what a run has kept is only ever appended."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .. import validation
from ..files import replacing, require_file, require_path
from ..matrices import LinearNetwork, LowRankMatrix

__all__ = ["Checkpoint", "Journal", "pack_points", "unpack_points"]

Arrays = Mapping[str, NDArray[Any]]

_MAGIC = b"lowrankflow checkpoint, schema 2\n"
_RECORD = b"record"  # before each record; then its length in 8 bytes, its SHA-256, and that many bytes
_DIGEST = hashlib.sha256().digest_size
_HEADER = len(_RECORD) + 8 + _DIGEST


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A head, arrays and rows that belong together.

    The file is a sequence of records, each an npz archive with a SHA-256 over itself and the record before it. The first
    is written whole or not at all; `Journal` appends others, of which the last tells head and arrays, and all together
    the rows. A record that a crash has cut short is passed over, so that a crash at any moment leaves what was there
    before or what was written. `read` returns exactly what was written, or nothing.

    Attributes
    ----------
    head : dict
        JSON: names to texts, numbers, booleans, None, lists and dicts of them. Tuples come back as lists.
    arrays : dict
        Names to arrays of numbers of any shape; type, order (C or Fortran) and every bit come back.
    rows : dict
        Names to arrays of which later records add rows along the first axis.
    """

    head: dict[str, Any]
    arrays: Arrays
    rows: Arrays = field(default_factory=dict)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file anew, atomically.

        Raises
        ------
        ValueError
            If the path cannot be written.
        TypeError
            If the head is not JSON, or an array holds something else than numbers.
        OSError
            If writing fails, for instance on a full disk; the old file is then untouched.
        """
        Journal(path).write(self)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """Read what was written.

        Raises
        ------
        ValueError
            If the file does not exist, is damaged, or is not a checkpoint.
        """
        return Journal.open(path)[1]

    @property
    def weight(self) -> int:
        """About how many bytes head and arrays take in a record."""
        return sum(a.nbytes + 256 for a in self.arrays.values()) + len(json.dumps(self.head))


class Journal:
    """A checkpoint's file while a run writes it: one record more each time, or the whole anew.

    Head and arrays of all records but the last are dead. When they are more than half of the file it is written anew, so
    that the bytes written in all grow with what is kept, not with its square.
    """

    path: Path

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = require_path("path", path)
        self._end = 0  #: of the last whole record; 0: there is none
        self._digest = b""  #: of that record
        self._live = self._dead = 0  #: bytes of its head and arrays, and of those of the records before

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> tuple[Journal, Checkpoint]:
        """Return the journal of a file, ready to go on, and what the file holds.

        Raises
        ------
        ValueError
            As `Checkpoint.read`.
        """
        file = require_file("path", path)
        journal, records = cls(file), []
        try:
            with open(file, "rb") as stream:
                _require_magic(stream)
                for record, digest in _records(stream, file.stat().st_size):
                    records.append(_unpack(record))
                    journal._took(records[-1], digest, stream.tell())
            if not records:
                raise ValueError("it is cut short")
            rows = {
                name: np.concatenate([r.rows[name] for r in records if name in r.rows])
                for r in records
                for name in r.rows
            }
        except Exception as error:  # a damaged archive raises any of a dozen kinds
            raise ValueError(
                f"`path` must be a whole file written by Checkpoint.write, got {str(file)!r}"
                f" ({validation.reason(error)})."
            ) from None
        return journal, Checkpoint(records[-1].head, records[-1].arrays, rows)

    def write(self, whole: Checkpoint) -> None:
        """Write the file anew, atomically; errors are those of `Checkpoint.write`."""
        content = _content(whole)
        with replacing(self.path) as file:
            file.write(_MAGIC)
            digest = _write_record(file, content, b"")
            end = file.tell()
        self._dead = self._live = 0
        self._took(whole, digest, end)

    def append(self, more: Checkpoint) -> bool:
        """Add a record with head and arrays as they are now and rows that are new; on the disk when this returns.

        Returns
        -------
        bool
            False where nothing was written and the whole has to be: there is too much in the file that is dead, or it is
            not as this journal left it.

        Raises
        ------
        TypeError, OSError
            As `write`; what was in the file is still there.
        """
        if 2 * (self._dead + self._live) > self._end or _size(self.path) != self._end:
            return False
        content = _content(more)
        with open(self.path, "r+b") as file:
            try:
                file.seek(self._end)
                digest = _write_record(file, content, self._digest)
                file.flush()
                os.fsync(file.fileno())
                end = file.tell()
            except BaseException:
                with suppress(OSError):
                    file.truncate(self._end)
                raise
        self._took(more, digest, end)
        return True

    def _took(self, record: Checkpoint, digest: bytes, end: int) -> None:
        """Note that a record is the last one."""
        self._dead, self._live = self._dead + self._live, record.weight
        self._digest, self._end = digest, end


def _content(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the arrays of a record, by the names that they have in its archive."""
    content: dict[str, Any] = {"head": np.array(validation.as_json("head", checkpoint.head))}
    for kind, arrays in (("arrays", checkpoint.arrays), ("rows", checkpoint.rows)):
        content |= {f"{kind}_{k}": validation.as_numbers(f"{kind}[{k!r}]", a) for k, a in arrays.items()}
    return content


def _unpack(record: bytes) -> Checkpoint:
    """Return what is in a record."""
    with np.load(io.BytesIO(record), allow_pickle=False) as data:
        content = {name: data[name] for name in data.files}
    head = json.loads(str(content.pop("head")))
    arrays, rows = (
        {name.removeprefix(kind): a for name, a in content.items() if name.startswith(kind)}
        for kind in ("arrays_", "rows_")
    )
    return Checkpoint(head, arrays, rows)


class _Hashing(io.RawIOBase):
    """A stream that only writes, and keeps the length and the SHA-256 of what it has written."""

    def __init__(self, file: BinaryIO, last: bytes) -> None:
        self._file, self._sha, self.length = file, hashlib.sha256(last), 0

    def write(self, data: Any) -> int:
        self._sha.update(data)
        size = memoryview(data).nbytes
        self._file.write(data)
        self.length += size
        return size

    def digest(self) -> bytes:
        """Return the SHA-256."""
        return self._sha.digest()


def _write_record(file: BinaryIO, content: Mapping[str, Any], last: bytes) -> bytes:
    """Write a record where the file stands, and return its SHA-256, which goes on from that of the record before."""
    begin = file.tell()
    file.write(bytes(_HEADER))
    hashing = _Hashing(file, last)
    np.savez(hashing, **content)
    file.seek(begin)
    file.write(_RECORD + hashing.length.to_bytes(8, "big") + hashing.digest())
    file.seek(0, os.SEEK_END)
    return hashing.digest()


def _records(stream: BinaryIO, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the whole records of a file and their SHA-256s, up to one that a crash has cut short.

    Raises
    ------
    ValueError
        If a record is damaged that others follow, or that is the only one.
    """
    last = b""
    while (header := stream.read(_HEADER))[: len(_RECORD)] == _RECORD:
        length, digest = int.from_bytes(header[len(_RECORD) : -_DIGEST], "big"), header[-_DIGEST:]
        if len(header) < _HEADER or stream.tell() + length > size:
            return
        record = stream.read(length)
        if hashlib.sha256(last + record).digest() != digest:
            if last and stream.tell() == size:
                return
            raise ValueError("its checksum does not fit its content")
        yield record, digest
        last = digest


def _require_magic(stream: BinaryIO) -> None:
    """Refuse what does not begin as a checkpoint of this version does."""
    begin = stream.read(len(_MAGIC) + 10)
    if begin.startswith(_MAGIC):
        stream.seek(len(_MAGIC))
        return
    schema = re.match(rb"lowrankflow checkpoint, schema (\d+)\n", begin)
    if schema:
        raise ValueError(f"schema {int(schema[1])}, not 2")
    if begin[:2] == b"PK":
        raise ValueError("an archive; checkpoints were such up to schema 1, which this version does not go on from")
    raise ValueError("another file")


def _size(path: Path) -> int:
    """Return the length of a file; -1 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def pack_points(points: Sequence[LowRankMatrix | LinearNetwork]) -> dict[str, NDArray[Any]]:
    """Return K points as arrays with K rows: ``points_u, points_s, points_vt`` or ``points_W1, points_W2, ...``.

    Raises
    ------
    ValueError
        If they differ in kind, shape, rank or widths.
    """
    rows = [_parts(w) for w in points]
    kinds = {tuple((name, a.shape) for name, a in row.items()) for row in rows}
    if len(kinds) > 1:
        raise ValueError(
            f"`points` must all have the same kind, shape and rank (or widths) to be written, got {len(kinds)} different."
        )
    return {f"points_{name}": np.stack([row[name] for row in rows]) for name in (rows[0] if rows else ())}


def unpack_points(arrays: Mapping[str, NDArray[Any]]) -> list[Any]:
    """Return the points that `pack_points` packed, among other arrays; the empty list where there are none.

    Raises
    ------
    KeyError, ValueError
        If an array is missing, or their lengths differ.
    """
    if "points_u" in arrays:
        frames = zip(*(arrays[f"points_{name}"] for name in ("u", "s", "vt")), strict=True)
        return [LowRankMatrix._trusted(*w) for w in frames]
    names = sorted((k for k in arrays if k.startswith("points_W")), key=lambda k: int(k[8:]))
    return [LinearNetwork._trusted(w) for w in zip(*(arrays[k] for k in names), strict=True)]


def _parts(w: LowRankMatrix | LinearNetwork) -> dict[str, NDArray[Any]]:
    """Return the arrays that a point is made of."""
    if isinstance(w, LowRankMatrix):
        return {"u": w.u, "s": w.s, "vt": w.vt}
    return {f"W{j}": f for j, f in enumerate(w.factors, 1)}
