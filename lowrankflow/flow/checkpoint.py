"""The state of a run on disk, read back exactly or refused."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import validation
from ..files import read_arrays, require_file, write_arrays
from ..matrices import LinearNetwork, LowRankMatrix

__all__ = ["Checkpoint", "pack_points", "unpack_points"]

_KIND, _SCHEMA = "lowrankflow checkpoint", 1
_PREFIX = "array_"  # keeps the names of a caller apart from ours, and from the keywords of np.savez


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A head and arrays that belong together.

    The file is an uncompressed npz archive, replaced whole: a crash at any moment leaves the old file or the new one.
    It carries a SHA-256 over the head and over the name, type, shape, memory order and bytes of every array.
    `read` returns exactly what was written, or nothing.

    Attributes
    ----------
    head : dict
        JSON: names to texts, numbers, booleans, None, lists and dicts of them. Tuples come back as lists.
    arrays : dict
        Names to arrays of numbers of any shape; type, order (C or Fortran) and every bit come back.
    """

    head: dict[str, Any]
    arrays: dict[str, NDArray[Any]]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file, atomically.

        Raises
        ------
        ValueError
            If the path cannot be written.
        TypeError
            If the head is not JSON, or an array holds something else than numbers.
        OSError
            If writing fails, for instance on a full disk; the old file is then untouched.
        """
        text = validation.as_json("head", {"kind": _KIND, "schema": _SCHEMA, "head": self.head})
        arrays = {name: validation.as_numbers(f"arrays[{name!r}]", a) for name, a in self.arrays.items()}
        packed: dict[str, Any] = {_PREFIX + name: a for name, a in arrays.items()}
        write_arrays(path, {"head": np.array(text), "sha256": np.array(_digest(text, arrays)), **packed})

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """Read what `write` wrote.

        Raises
        ------
        ValueError
            If the file does not exist, is damaged anywhere, or is not a checkpoint.
        """
        file = require_file("path", path)
        try:
            content = read_arrays(file)
            if not {"head", "sha256"} <= set(content):
                raise ValueError("another archive")
            text, digest = str(content.pop("head")), str(content.pop("sha256"))
            arrays = {name.removeprefix(_PREFIX): a for name, a in content.items()}
            if len(arrays) != len(content) or _digest(text, arrays) != digest:
                raise ValueError("its checksum does not fit its content")
            head = json.loads(text)
            if (head["kind"], head["schema"]) != (_KIND, _SCHEMA):
                raise ValueError(f"{head['kind']} of schema {head['schema']}, not {_SCHEMA}")
            return cls(head["head"], arrays)
        except Exception as error:
            raise ValueError(
                f"`path` must be a whole file written by Checkpoint.write, got {str(file)!r}"
                f" ({validation.reason(error)})."
            ) from None


def _digest(text: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of a head and of all that np.savez keeps of arrays, in any order of their names."""
    sha = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        a = arrays[name]
        fortran = a.flags.f_contiguous and not a.flags.c_contiguous
        sha.update(json.dumps([name, a.dtype.str, a.shape, fortran]).encode())
        sha.update(np.ascontiguousarray(a).data)
    return sha.hexdigest()


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
