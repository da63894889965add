"""Read a user's files: inputs and targets, observed entries, factors. What is wrong with a file is said in one line."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .. import validation
from ..files import require_file
from ..foreign import as_array
from ..validation import reason
from .tables import Table, choose, require_complete, table_of_frame
from .text import COMPRESSED, open_file, read_text, require_delimiter
from .values import DataSet, Observations

__all__ = ["read_inputs", "read_observed"]

_TEXT = (".csv", ".tsv", ".txt", ".dat")
_FRAMES = {  # suffixes that pandas reads; none that runs what it reads, such as .pkl
    ".xlsx": "read_excel", ".xls": "read_excel", ".xlsm": "read_excel", ".ods": "read_excel", ".parquet": "read_parquet",
    ".feather": "read_feather", ".orc": "read_orc", ".json": "read_json", ".dta": "read_stata", ".sas7bdat": "read_sas",
    ".xpt": "read_sas", ".sav": "read_spss", ".xml": "read_xml",
}  # fmt: skip
_EXACTLY: dict[str, dict[str, Any]] = {"read_json": {"precise_float": True}}
_CALLED = {  # arrays of an archive that holds several
    "inputs": ("x", "inputs", "data", "features"), "targets": ("y", "targets", "labels"), "observed": ("x", "data"),
}  # fmt: skip


def unreadable(name: str, file: Path, what: str, error: Exception) -> ValueError:
    """Return the one line for a damaged file; numpy, scipy and zipfile raise a dozen kinds of exception for it."""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return ValueError(f"`{name}` must be {what}, got {file.name!r} ({reason.rstrip('.')}).")


def _read_npy(name: str, file: Path) -> Any:
    try:
        with open_file(file) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except Exception as error:
        raise unreadable(name, file, "a .npy file of numbers, as numpy.save writes it", error) from None


def read_npz(name: str, file: Path) -> dict[str, Any]:
    try:
        with open(file, "rb") as stream:  # given a path, numpy leaves a damaged file open
            content = np.load(stream, allow_pickle=False)
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            with content:
                return {key: content[key] for key in content.files}
    except Exception as error:
        raise unreadable(name, file, "a .npz file of numbers, as numpy.savez writes it", error) from None


def _read_mat(name: str, file: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        with open(file, "rb") as stream:
            content = loadmat(cast(Any, stream))
    except Exception as error:
        what = "a .mat file of version 7.2 or older"
        raise unreadable(name, file, what, error) from None
    return {key: as_array(name, value) for key, value in content.items() if not key.startswith("__")}


def _one_of(name: str, file: Path, arrays: dict[str, Any]) -> Any:
    """Return the array of an archive that is meant: the only one, or the one that is called as such arrays are."""
    plain = {key: a for key, a in arrays.items() if np.asarray(a).dtype.kind in "biuf" and np.size(a)}
    if len(plain) == 1:
        return next(iter(plain.values()))
    called = [key for key in plain if key.lower() in _CALLED.get(name, ())]
    if len(called) != 1:
        wanted = " or ".join(_CALLED.get(name, ()))
        raise ValueError(f"`{name}` must be one array, or called {wanted}, got {listed(arrays)} in {file.name!r}.")
    return plain[called[0]]


def _read_frame(name: str, file: Path, reader: str) -> Table:
    """Return the table of a file that pandas reads."""
    try:
        pandas = import_module("pandas")
    except ImportError:
        raise ImportError(
            f'`{name}` {file.name!r} is read by pandas, which is not installed. Run: pip install "lowrankflow[data]"'
        ) from None
    try:
        frame = getattr(pandas, reader)(file, **_EXACTLY.get(reader, {}))
    except ImportError as error:
        raise ImportError(f"`{name}` {file.name!r} is read by pandas, which asks for more: {reason(error)}.") from None
    except Exception as error:
        raise unreadable(name, file, f"a file that pandas.{reader} reads", error) from None
    return table_of_frame(frame)


def _read_table(name: str, path: str | os.PathLike[str], delimiter: str | None) -> Table:
    """Return the table of a file of any kind that is read here."""
    file = require_file(name, path)
    kind, packed = _kind(file)
    if kind in _TEXT:
        return read_text(name, file, require_delimiter(delimiter))
    if delimiter is not None:
        raise ValueError(f"`delimiter` is of files of text, got {file.name!r}.")
    if kind in _FRAMES and not packed:
        return _read_frame(name, file, _FRAMES[kind])
    if kind == ".npy":
        array = _read_npy(name, file)
    elif kind in (".npz", ".mat") and not packed:
        array = _one_of(name, file, (read_npz if kind == ".npz" else _read_mat)(name, file))
    else:
        known = ", ".join([".npy", ".npz", ".mat", *_TEXT])
        raise ValueError(f"`{name}` must end in {known}, perhaps .gz, or in a suffix of pandas, got {file.name!r}.")
    array = np.asarray(validation.as_real(name, array), dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.size == 0:
        validation.as_matrix(name, array)  # says what is wrong
    return Table(array.T if kind == ".mat" and array.shape[0] == 1 < array.shape[1] and name == "targets" else array)


def _kind(file: Path) -> tuple[str, bool]:
    """Return the suffix that says how a file is read, in small letters, and whether it is compressed."""
    packed = file.suffix.lower() in COMPRESSED
    return (Path(file.stem) if packed else file).suffix.lower(), packed


def read_inputs(
    inputs_path: str | os.PathLike[str],
    targets_path: str | os.PathLike[str] | None = None,
    *,
    columns: Any = None,
    target_column: Any = None,
    delimiter: str | None = None,
    missing_rows: str | None = None,
) -> DataSet:
    """Read inputs and targets, one sample a row.

    Parameters
    ----------
    inputs_path : path
        A table as text (.csv, .tsv, .txt, .dat), with commas, semicolons, tabs or spaces between cells, decimal points or
        commas, with or without a header, each perhaps .gz, .bz2 or .xz; .npy; .npz or .mat with one array, or one called
        X, inputs or data; or what pandas reads, where it is installed (.xlsx, .parquet, .json, ...). A vector is one feature.
    targets_path : path, optional
        The same for the targets; in .npz and .mat, y or targets. None: autoencoding, or `target_column`.
    columns : str or sequence of str and int, optional
        The features, by name or number from one ("age,bmi", "3-7"). None: all but the targets and a column that counts
        the rows and is called as such (Obs, index, id, no name).
    target_column : str, int or sequence, optional
        Columns of the inputs' file that are the targets. Texts are classes: 0 and 1 of two, one column each of more.
    delimiter : str, optional
        What separates cells: a character, or comma, semicolon, tab, space (any white space), pipe. None: as the first
        lines say.
    missing_rows : {"drop"}, optional
        Leave out rows in which something is missing (an empty cell, NA, nan, ?, ...). None: refuse them.

    Returns
    -------
    DataSet
        Named after the file of the inputs; its description says which columns are features.

    Raises
    ------
    ValueError, TypeError
        If a file is missing, empty, of another kind, unreadable or needs pickle; if a cell is not a number
        or not finite; if the numbers of samples differ; if a column is not there.
    ImportError
        If pandas, or what it reads such a file with, is not installed.
    """
    if missing_rows is not None:
        validation.require_choice("missing_rows", missing_rows, ("drop",))
    if targets_path is not None and target_column is not None:
        raise ValueError("`target_column` must not come with `targets`, a file of their own. Leave out one of them.")
    inputs, targets = choose("inputs", _read_table("inputs", inputs_path, delimiter), columns, target_column)
    if targets_path is not None:
        targets = choose("targets", _read_table("targets", targets_path, delimiter), classes=True)[0]
    inputs, targets = require_complete("inputs", inputs, targets, missing_rows)
    data = DataSet(Path(inputs_path).name, inputs.values, None if targets is None else targets.values)
    p, n = data.inputs.shape
    shapes = f"{p} x {n}" if data.targets is None else f"{p} x {n} -> {data.targets.shape[1]}"
    said = inputs.said + ("" if targets is None else targets.said)
    return replace(data, description=f"{shapes}, {data.task}: file {data.name}{said}", features=inputs.names)


def read_observed(path: str | os.PathLike[str], *, columns: Any = None, delimiter: str | None = None) -> Observations:
    """Read the observed entries of a matrix.

    Parameters
    ----------
    path : path
        .npz as `scipy.sparse.save_npz` writes it (csr, csc or coo), or with the arrays ``rows``, ``cols``,
        ``values`` and, if wanted, ``shape``; .mtx, Matrix Market in coordinate format; a table as `read_inputs` reads it,
        of three columns row, col, value; or the matrix itself, as a table in which entries are missing. Positions count
        from zero; in a table of text in which neither a row nor a column is zero, from one, and the description says so.
    columns : str or sequence of str and int, optional
        The three columns of a table that has more, by name or number from one.
    delimiter : str, optional
        As of `read_inputs`.

    Returns
    -------
    Observations
        Stored zeros are observations. Without a stored shape it is the largest position plus one.

    Raises
    ------
    ValueError, TypeError
        If the file is missing, empty, of another kind or unreadable; if a position is not a whole
        number, lies outside the shape or occurs twice; if a value is not finite; if all are zero.
    ImportError
        As `read_inputs`.
    """
    name = "observed"
    file = require_file(name, path)
    kind, packed = _kind(file)
    said = ""
    if not packed and (kind == ".mtx" or (kind == ".npz" and _is_sparse(read_npz(name, file)))):
        for option, value in (("columns", columns), ("delimiter", delimiter)):
            if value is not None:
                raise ValueError(f"`{option}` is of tables, got {file.name!r}.")
        rows, cols, values, shape = (_triplets_mtx if kind == ".mtx" else _triplets_npz)(name, file)
    else:
        rows, cols, values, shape, said = _triplets_of(name, file, columns, delimiter)
    rows, cols = _positions("rows", rows), _positions("cols", cols)
    values = validation.as_matrix("values", values, column=True)[:, 0]
    if shape is None:
        shape = (int(rows.max(initial=0)) + 1, int(cols.max(initial=0)) + 1)
    elif (
        rows.size and cols.size and rows.min() >= 1 <= cols.min() and (rows.max() == shape[0] or cols.max() == shape[1])
    ):
        raise ValueError(
            f"`{name}` must have positions that count from zero, got rows to {rows.max()} and columns to {cols.max()} of a"
            f" {shape[0]} x {shape[1]} matrix. Subtract one."
        )
    observations = Observations(file.name, rows, cols, values, shape)
    m, n = observations.shape
    return replace(observations, description=f"{m} x {n}, {values.size} observed, completion: file {file.name}{said}")


def _is_sparse(arrays: dict[str, Any]) -> bool:
    """Whether an archive holds triplets or a sparse matrix, and not one array."""
    return len(arrays) != 1


def _triplets_of(name: str, file: Path, columns: Any, delimiter: str | None) -> tuple[Any, Any, Any, Any, str]:
    """Return the triplets of a table, or the entries that are there of one in which some are missing; and what to say."""
    table = _read_table(name, file, delimiter)
    chosen = choose(name, table, columns)[0]
    values = chosen.values if columns is not None or not table.texts else table.numbers
    known = ~np.isnan(values)
    places = values[:, :2]
    whole = known[:, :2].all() and (places >= 0).all() and (places == np.trunc(places)).all()
    if not known.all() and not (values.shape[1] == 3 and whole):
        rows, cols = np.nonzero(known)
        return (
            rows,
            cols,
            values[known],
            values.shape,
            f"; {known.size - rows.size} of {known.size} entries are missing",
        )
    if values.shape[1] != 3:
        raise ValueError(
            f"`{name}` must have 3 cells row,col,value in each line, got {values.shape[1]}. Choose three columns, or leave"
            " empty what was not observed."
        )
    if not known.all():
        raise ValueError(
            f"`{name}` must have no missing values, got one in {chosen.gap}. Leave out what was not observed."
        )
    rows, cols, entries = values.T
    from_one = _kind(file)[0] in _TEXT and bool(whole and places.min() >= 1)
    if from_one:
        rows, cols = rows - 1, cols - 1
    return rows, cols, entries, None, "; positions count from one" if from_one else ""


def _positions(name: str, value: Any) -> NDArray[np.intp]:
    """Return positions as intp; a csv file and some programs hold them as floats."""
    a = np.asarray(value)
    if a.ndim != 1 or a.dtype.kind not in "iuf":
        raise TypeError(f"`{name}` must be a vector of whole numbers, got shape {a.shape} and dtype {a.dtype}.")
    whole = np.isfinite(a) & (a == np.trunc(a)) & (abs(a) < 2**53)
    if not whole.all():
        raise ValueError(f"`{name}` must be whole numbers, got {a[np.argmin(whole)]:g} at index {np.argmin(whole)}.")
    return a.astype(np.intp)


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
        raise unreadable(name, file, what, error) from None
    rows, cols = table[:, 0] - 1, table[:, 1] - 1
    values = table[:, 2] if width == 3 else np.ones(count)
    if sign:  # one triangle is stored
        mirror = rows != cols
        rows, cols = np.r_[rows, cols[mirror]], np.r_[cols, rows[mirror]]
        values = np.r_[values, sign * values[mirror]]
    return rows, cols, values, (m, n)


def _triplets_npz(name: str, file: Path) -> tuple[Any, Any, Any, tuple[int, int] | None]:
    arrays = read_npz(name, file)
    if {"rows", "cols", "values"} <= arrays.keys():
        shape = arrays.get("shape")
        if shape is not None and np.shape(shape) != (2,):
            raise ValueError(f"`shape` must be two whole numbers (m, n), got shape {np.shape(shape)}.")
        size = None if shape is None else tuple(validation.require_integer("shape", d, low=1) for d in shape)
        return arrays["rows"], arrays["cols"], arrays["values"], cast("tuple[int, int] | None", size)
    if "format" not in arrays:
        raise ValueError(
            f"`{name}` must hold rows, cols, values, or a matrix of scipy.sparse.save_npz;"
            f" got {listed(arrays)} in {file.name!r}."
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
        raise unreadable(name, file, "a csr, csc or coo matrix of scipy.sparse.save_npz", error) from None
    return rows, cols, coo.data, matrix.shape


def listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "") if names else "no arrays"
