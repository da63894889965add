"""Read a user's files: inputs and targets, observed entries, factors. What is wrong with a file is said in one line."""

from __future__ import annotations

import csv
import os
import re
from array import array
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .. import validation
from ..files import require_file
from ..matrices.requirements import require_factors
from ..validation import Array
from .values import DataSet, Observations

__all__ = ["read_factors", "read_inputs", "read_observed"]


def _suffix(name: str, file: Path, *allowed: str) -> str:
    if file.suffix.lower() not in allowed:
        raise ValueError(f"`{name}` must end in {' or '.join(allowed)}, got {file.name!r}.")
    return file.suffix.lower()


def _unreadable(name: str, file: Path, what: str, error: Exception) -> ValueError:
    """Return the one line for a damaged file; numpy, scipy and zipfile raise a dozen kinds of exception for it."""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return ValueError(f"`{name}` must be {what}, got {file.name!r} ({reason.rstrip('.')}).")


def _read_npy(name: str, file: Path) -> Any:
    try:
        with open(file, "rb") as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except Exception as error:
        raise _unreadable(name, file, "a .npy file of numbers, as numpy.save writes it", error) from None


def _read_npz(name: str, file: Path) -> dict[str, Any]:
    try:
        with open(file, "rb") as stream:  # given a path, numpy leaves a damaged file open
            content = np.load(stream, allow_pickle=False)
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            with content:
                return {key: content[key] for key in content.files}
    except Exception as error:
        raise _unreadable(name, file, "a .npz file of numbers, as numpy.savez writes it", error) from None


def _read_csv(name: str, file: Path) -> Array:
    """Read comma-separated numbers; the first line is a header if none of its cells is a number."""
    cells, width, first, header = array("d"), 0, 0, False
    try:
        with open(file, newline="", encoding="utf-8-sig") as text:
            reader = csv.reader(text)
            for row in reader:
                line = reader.line_num
                if not row or (len(row) == 1 and not row[0].strip()):
                    continue
                numbers = [_number(cell) for cell in row]
                if None in numbers:
                    if not (width or header) and not any(x is not None for x in numbers):
                        header = True
                        continue
                    column = numbers.index(None)
                    cell = row[column].strip()
                    hint = " Separate the cells by commas." if set(cell) & set(";\t ") else ""
                    got = f"{cell[:20]!r}" if cell else "an empty cell"
                    raise _Cell(f"`{name}` must hold numbers, got {got} in line {line}, column {column + 1}.{hint}")
                if width and len(row) != width:
                    raise _Cell(
                        f"`{name}` must have equally many cells in each line,"
                        f" got {len(row)} in line {line} and {width} in line {first}."
                    )
                if not width:
                    width, first = len(row), line
                cells.extend(cast(list[float], numbers))
    except _Cell as error:
        raise ValueError(str(error)) from None
    except (ValueError, OSError, csv.Error) as error:
        raise _unreadable(name, file, "a text file of comma-separated numbers in UTF-8", error) from None
    if not width:
        raise ValueError(f"`{name}` must hold numbers, got {file.name!r} without a line of numbers.")
    return np.frombuffer(cells, dtype=np.float64).reshape(-1, width)


class _Cell(Exception):
    """What is wrong in a line of a csv file."""


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def read_inputs(inputs_path: str | os.PathLike[str], targets_path: str | os.PathLike[str] | None = None) -> DataSet:
    """Read inputs and targets, one sample a row.

    Parameters
    ----------
    inputs_path : path
        A .npy file, or a .csv file of comma-separated numbers with or without a header line. A vector
        is one feature.
    targets_path : path, optional
        The same for the targets. None: autoencoding.

    Returns
    -------
    DataSet
        Named after the file of the inputs.

    Raises
    ------
    ValueError, TypeError
        If a file is missing, empty, of another kind, unreadable or needs pickle; if a cell is not a number
        or not finite; if the numbers of samples differ.
    """

    def read(name: str, path: str | os.PathLike[str]) -> Any:
        file = require_file(name, path)
        return _read_npy(name, file) if _suffix(name, file, ".npy", ".csv") == ".npy" else _read_csv(name, file)

    inputs = read("inputs", inputs_path)
    targets = None if targets_path is None else read("targets", targets_path)
    data = DataSet(Path(inputs_path).name, inputs, targets)
    p, n = data.inputs.shape
    shapes = f"{p} x {n}" if data.targets is None else f"{p} x {n} -> {data.targets.shape[1]}"
    return replace(data, description=f"{shapes}, {data.task}: file {data.name}")


def read_observed(path: str | os.PathLike[str]) -> Observations:
    """Read the observed entries of a matrix.

    Parameters
    ----------
    path : path
        .npz as `scipy.sparse.save_npz` writes it (csr, csc or coo), or with the arrays ``rows``, ``cols``,
        ``values`` and, if wanted, ``shape``; .mtx, Matrix Market in coordinate format; .csv, lines
        ``row,col,value`` with or without a header line. Positions in .npz and .csv count from zero.

    Returns
    -------
    Observations
        Stored zeros are observations. Without a stored shape it is the largest position plus one.

    Raises
    ------
    ValueError, TypeError
        If the file is missing, empty, of another kind or unreadable; if a position is not a whole
        number, lies outside the shape or occurs twice; if a value is not finite; if all are zero.
    """
    name = "observed"
    file = require_file(name, path)
    read = {".npz": _triplets_npz, ".mtx": _triplets_mtx, ".csv": _triplets_csv}
    rows, cols, values, shape = read[_suffix(name, file, *read)](name, file)
    rows, cols = _positions("rows", rows), _positions("cols", cols)
    values = validation.as_matrix("values", values, column=True)[:, 0]
    if shape is None:
        shape = (int(rows.max(initial=0)) + 1, int(cols.max(initial=0)) + 1)
    observations = Observations(file.name, rows, cols, values, shape)
    m, n = observations.shape
    return replace(observations, description=f"{m} x {n}, {values.size} observed, completion: file {file.name}")


def _positions(name: str, value: Any) -> NDArray[np.intp]:
    """Return positions as intp; a csv file and some programs hold them as floats."""
    a = np.asarray(value)
    if a.ndim != 1 or a.dtype.kind not in "iuf":
        raise TypeError(f"`{name}` must be a vector of whole numbers, got shape {a.shape} and dtype {a.dtype}.")
    whole = np.isfinite(a) & (a == np.trunc(a)) & (abs(a) < 2**53)
    if not whole.all():
        raise ValueError(f"`{name}` must be whole numbers, got {a[np.argmin(whole)]:g} at index {np.argmin(whole)}.")
    return a.astype(np.intp)


def _triplets_csv(name: str, file: Path) -> tuple[Any, Any, Any, tuple[int, int] | None]:
    table = _read_csv(name, file)
    if table.shape[1] != 3:
        raise ValueError(f"`{name}` must have 3 cells row,col,value in each line, got {table.shape[1]}.")
    rows, cols, values = table.T
    return rows, cols, values, None


def _triplets_mtx(name: str, file: Path) -> tuple[Any, Any, Any, tuple[int, int] | None]:
    """Read Matrix Market coordinates; scipy's mmread 1.17 crashes the interpreter on a damaged last line."""
    try:
        with open(file, encoding="utf-8", errors="replace") as text:
            kind, layout, field, symmetry = (text.readline().lower().split(maxsplit=4)[1:] + [""] * 4)[:4]
            if (kind, layout) != ("matrix", "coordinate") or field not in ("real", "integer", "pattern"):
                raise ValueError(f"its first line says {kind[:20]} {layout[:20]} {field[:20]}".rstrip())
            lines = (line for line in text if line.strip() and not line.startswith("%"))
            m, n, count = map(int, next(lines, "").split())
            width = 2 if field == "pattern" else 3
            first = next(lines, None)
            table = np.loadtxt(chain([first], lines), ndmin=2) if first else np.empty((0, width))
            if table.shape != (count, width):
                raise ValueError(f"{count} x {width} numbers are announced, {len(table)} x {table.shape[1]} are there")
            sign = {"general": 0.0, "symmetric": 1.0, "skew-symmetric": -1.0}[symmetry.strip()]
    except Exception as error:
        what = "a Matrix Market file, matrix coordinate, real, integer or pattern"
        raise _unreadable(name, file, what, error) from None
    rows, cols = table[:, 0] - 1, table[:, 1] - 1
    values = table[:, 2] if width == 3 else np.ones(count)
    if sign:  # one triangle is stored
        mirror = rows != cols
        rows, cols = np.r_[rows, cols[mirror]], np.r_[cols, rows[mirror]]
        values = np.r_[values, sign * values[mirror]]
    return rows, cols, values, (m, n)


def _triplets_npz(name: str, file: Path) -> tuple[Any, Any, Any, tuple[int, int] | None]:
    arrays = _read_npz(name, file)
    if {"rows", "cols", "values"} <= arrays.keys():
        shape = arrays.get("shape")
        if shape is not None and np.shape(shape) != (2,):
            raise ValueError(f"`shape` must be two whole numbers (m, n), got shape {np.shape(shape)}.")
        size = None if shape is None else tuple(validation.require_integer("shape", d, low=1) for d in shape)
        return arrays["rows"], arrays["cols"], arrays["values"], cast("tuple[int, int] | None", size)
    if "format" not in arrays:
        raise ValueError(
            f"`{name}` must hold rows, cols, values, or a matrix of scipy.sparse.save_npz;"
            f" got {_listed(arrays)} in {file.name!r}."
        )
    try:
        with open(file, "rb") as stream:
            matrix: Any = sparse.load_npz(stream)
        if matrix.format not in ("csr", "csc", "coo") or len(matrix.shape) != 2:
            raise ValueError(f"format {matrix.format}, shape {matrix.shape}")  # dia and bsr store padding
        if matrix.format != "coo":
            matrix.check_format(full_check=True)
        coo: Any = sparse.coo_array(matrix)
        rows, cols = coo.coords
    except Exception as error:
        raise _unreadable(name, file, "a csr, csc or coo matrix of scipy.sparse.save_npz", error) from None
    return rows, cols, coo.data, matrix.shape


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "") if names else "no arrays"


def read_factors(path: str | os.PathLike[str]) -> list[Array]:
    """Read the factors of a network, W_1 (which acts first) first.

    Parameters
    ----------
    path : path
        A .npz file with arrays ``W1, W2, ...`` (or ``factor_1, factor_2, ...``), or as
        ``numpy.savez(file, *factors)`` writes it: ``arr_0, arr_1, ...``. Numbers are sorted as
        numbers, so W10 follows W9.

    Returns
    -------
    list of ndarray
        At least two factors that chain.

    Raises
    ------
    ValueError, TypeError
        If the file is missing, empty, of another kind or unreadable; if it holds anything else, or a
        number is missing; if a factor is not a finite real matrix; if the factors do not chain.
    """
    name = "factors"
    file = require_file(name, path)
    _suffix(name, file, ".npz")
    arrays = _read_npz(name, file)
    found = {key: re.fullmatch(r"(W_?|factor_?)([1-9]\d*)|(arr_)(0|[1-9]\d*)", key) for key in arrays}
    kinds = {(match[1] or match[3]) if match else None for match in found.values()}
    fix = " Save them with numpy.savez(file, W1=..., W2=...), W1 the one that acts first."
    if len(kinds) != 1 or None in kinds:
        raise ValueError(f"`{name}` must be arrays W1, W2, ..., got {_listed(arrays)} in {file.name!r}.{fix}")
    number = {int(match[2] or match[4]): key for key, match in found.items() if match}
    start = 0 if kinds == {"arr_"} else 1
    gap = next((j for j in range(start, start + len(number)) if j not in number), None)
    if gap is not None:
        lost = f"{kinds.pop()}{gap}"
        raise ValueError(f"`{name}` must be numbered without gaps, {lost} is missing in {file.name!r}.{fix}")
    return list(require_factors([arrays[number[j]] for j in sorted(number)], low=2))
