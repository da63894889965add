"""Data sets, files, and how they are prepared.

Files and data sets hold one sample a row; `prepare` turns them into X (n, p) and Y (m, p) with the samples
in columns, centred, scaled and reduced to their numerical range, and says what it did and how to get back.
"""

from __future__ import annotations

import csv
import os
import re
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from . import validation
from .losses import Completion
from .matrices import EPS, Product
from .validation import Array

__all__ = [
    "STEPS",
    "DataSet",
    "Observations",
    "ObservedPreparation",
    "Preparation",
    "available",
    "load",
    "prepare",
    "prepare_observed",
    "read_factors",
    "read_inputs",
    "read_observed",
]

STEPS = ("center", "scale", "range")  #: the steps of `prepare`, in the order in which they are done
RANGE = 1e-10  #: "range" keeps the eigenvectors of X X^T whose eigenvalue exceeds this times the largest
_LARGEST = 1e150  # its square is finite, with room for the sum over samples
_LONGEST = 10**7  # rows or columns of a sparse matrix: one vector of that length takes 80 MB


# --- values --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class DataSet:
    """Inputs and targets as they lie in a file: one sample a row.

    Attributes
    ----------
    name : str
        What the report calls it.
    inputs : ndarray, (p, n)
        p samples of n features.
    targets : ndarray, (p, m), or None
        None: the targets are the inputs (autoencoding). A vector is one target a sample.
    description : str
        One line.

    Raises
    ------
    ValueError, TypeError
        If an array is not a finite non-empty real matrix, or the numbers of samples differ.
    """

    name: str
    inputs: Array
    targets: Array | None = None
    description: str = ""

    def __post_init__(self) -> None:
        x = validation.as_matrix("inputs", self.inputs, column=True)
        object.__setattr__(self, "inputs", x)
        if self.targets is None:
            return
        y = validation.as_matrix("targets", self.targets, column=True)
        object.__setattr__(self, "targets", y)
        if x.shape[0] != y.shape[0]:
            hint = " Did you mean the transpose? One sample is one row." if x.shape[0] == y.shape[1] else ""
            raise ValueError(
                f"`targets` must have as many rows (samples) as `inputs`, got {y.shape[0]} and {x.shape[0]}.{hint}"
            )

    @property
    def task(self) -> str:
        """The word "autoencoding" or "regression"."""
        return "autoencoding" if self.targets is None else "regression"


@dataclass(frozen=True, eq=False)
class Observations:
    """Observed entries of a matrix, sorted by rows and then columns.

    Attributes
    ----------
    name : str
        What the report calls it.
    rows, cols : ndarray of intp, (p,)
        Zero-based positions, each once.
    values : ndarray, (p,)
        The observed values.
    shape : tuple of int
        (m, n), the shape of the matrix.
    description : str
        One line.

    Raises
    ------
    ValueError, TypeError
        If `losses.Completion` would refuse them, or the matrix has more than 10 000 000 rows or columns.
    """

    name: str
    rows: NDArray[np.intp]
    cols: NDArray[np.intp]
    values: Array
    shape: tuple[int, int]
    description: str = ""

    def __post_init__(self) -> None:
        m, n = self.shape
        if max(m, n) > _LONGEST:
            raise ValueError(
                f"`shape` must not exceed {_LONGEST} rows or columns, got ({m}, {n})."
                " Number the rows and columns from zero, without gaps."
            )
        loss = Completion(self.rows, self.cols, self.values, (m, n))
        for name in ("rows", "cols", "values", "shape"):
            object.__setattr__(self, name, getattr(loss, name))


# --- bundled data sets ---------------------------------------------------------------------------------------------


class _Bundled(NamedTuple):
    load: Callable[[Any], tuple[Any, Any]]  #: sklearn.datasets -> inputs, targets or None
    shapes: str
    about: str

    @property
    def description(self) -> str:
        return f"{self.shapes}: {self.about}"


def _features(loader: str) -> Callable[[Any], tuple[Any, Any]]:
    return lambda datasets: (getattr(datasets, loader)().data, None)


def _regression(loader: str) -> Callable[[Any], tuple[Any, Any]]:
    return lambda datasets: getattr(datasets, loader)(return_X_y=True)


def _patches(file: str) -> Callable[[Any], tuple[Any, Any]]:
    """Grey values of a sample image in 8 x 8 squares that do not overlap; incomplete ones at the edge are left out."""

    def load(datasets: Any) -> tuple[Any, Any]:
        grey = datasets.load_sample_image(file).mean(axis=2)
        h, w = (size // 8 for size in grey.shape)
        return grey[: 8 * h, : 8 * w].reshape(h, 8, w, 8).swapaxes(1, 2).reshape(h * w, 64), None

    return load


_IMAGE = "grey 8 x 8 patches of a photograph, the sample image {} of scikit-learn (CC BY 2.0)"
_BUNDLED = {
    "digits": _Bundled(
        _features("load_digits"), "1797 x 64, autoencoding",
        "8 x 8 images of handwritten digits (E. Alpaydin, UCI, Optical Recognition of Handwritten Digits, test set)"),
    "diabetes": _Bundled(
        _regression("load_diabetes"), "442 x 10 -> 1, regression",
        "progression of diabetes after a year (Efron, Hastie, Johnstone, Tibshirani 2004), features as standardised"
        " by scikit-learn"),
    "linnerud": _Bundled(
        _regression("load_linnerud"), "20 x 3 -> 3, regression",
        "three exercises -> weight, waist and pulse of twenty men (A. C. Linnerud)"),
    "breast_cancer": _Bundled(
        _features("load_breast_cancer"), "569 x 30, autoencoding",
        "cell nuclei (Wolberg, Street, Mangasarian, UCI, Breast Cancer Wisconsin, Diagnostic)"),
    "iris": _Bundled(
        _features("load_iris"), "150 x 4, autoencoding", "lengths and widths of iris flowers (Fisher 1936)"),
    "wine": _Bundled(
        _features("load_wine"), "178 x 13, autoencoding", "chemical analysis of wines (UCI, Wine Recognition)"),
    "china": _Bundled(_patches("china.jpg"), "4240 x 64, autoencoding", _IMAGE.format("china.jpg")),
    "flower": _Bundled(_patches("flower.jpg"), "4240 x 64, autoencoding", _IMAGE.format("flower.jpg")),
}  # fmt: skip


def available() -> dict[str, str]:
    """Return the names of the bundled data sets, each with one line: shape, task, source. Nothing is loaded.

    Examples
    --------
    >>> available()["iris"]
    '150 x 4, autoencoding: lengths and widths of iris flowers (Fisher 1936)'
    """
    return {name: entry.description for name, entry in _BUNDLED.items()}


def load(name: str) -> DataSet:
    """Return a bundled data set, raw, from scikit-learn; nothing is downloaded.

    Parameters
    ----------
    name : str
        A key of `available`.

    Returns
    -------
    DataSet

    Raises
    ------
    ValueError
        If the name is unknown.
    ImportError
        If scikit-learn is not installed.
    """
    entry = _BUNDLED[validation.check_choice("name", name, _BUNDLED)]
    try:
        from sklearn import datasets  # type: ignore[import-untyped, unused-ignore]

        inputs, targets = entry.load(datasets)
    except ImportError:  # scikit-learn, or Pillow for the images
        raise ImportError(
            f'The data set {name} needs scikit-learn and Pillow. Run: pip install "lowrankflow[data]"'
        ) from None
    return DataSet(name, inputs, targets, entry.description)


# --- files ---------------------------------------------------------------------------------------------------------


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


def read_inputs(
    inputs_path: str | os.PathLike[str], targets_path: str | os.PathLike[str] | None = None
) -> DataSet:
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
        file = validation.check_file(name, path)
        return _read_npy(name, file) if _suffix(name, file, ".npy", ".csv") == ".npy" else _read_csv(name, file)

    data = DataSet(
        Path(inputs_path).name,
        read("inputs", inputs_path),
        None if targets_path is None else read("targets", targets_path),
    )
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
    file = validation.check_file(name, path)
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
        size = None if shape is None else tuple(validation.check_integer("shape", d, low=1) for d in shape)
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
    file = validation.check_file(name, path)
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
    return list(validation.check_factors([arrays[number[j]] for j in sorted(number)], low=2))


# --- preparation ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Preparation:
    r"""What `prepare` did, for the report, and the way back.

    A raw sample x becomes :math:`B^T (x - \mu) / \rho`. Eigenvalues are those of :math:`X X^T`; the
    non-zero ones exceed roundoff, :math:`(\max(n, p) \, \mathrm{eps})^2 \lambda_1`.

    Attributes
    ----------
    steps : tuple of str
        The steps done, in the order of `STEPS`.
    task : str
        "autoencoding" or "regression".
    samples : int
        p.
    n_raw, m_raw, n, m : int
        Dimensions of inputs and targets before and after.
    rank_raw, rank : int
        Numbers of non-zero eigenvalues before and after; the theorems ask for ``rank == n``.
    condition_raw, condition : float
        Largest over smallest non-zero eigenvalue, before and after.
    dropped_share : float
        Sum of the dropped eigenvalues over the sum of all.
    input_mean, target_mean : ndarray, (n_raw,), (m_raw,)
        The means subtracted; zero without "center".
    input_rms, target_rms : float
        Root mean square of all entries after centring; divided by where "scale" is done.
    input_basis : ndarray, (n_raw, n), or None
        B, orthonormal columns; the largest component of each is positive. None without "range".
    """

    steps: tuple[str, ...]
    task: str
    samples: int
    n_raw: int
    m_raw: int
    n: int
    m: int
    rank_raw: int
    rank: int
    condition_raw: float
    condition: float
    dropped_share: float
    input_mean: Array
    target_mean: Array
    input_rms: float
    target_rms: float
    input_basis: Array | None

    @property
    def dropped(self) -> int:
        """Number of directions of the inputs that were dropped."""
        return self.n_raw - self.n

    @property
    def target_basis(self) -> Array | None:
        """The input basis for autoencoding; None for regression, whose targets are not projected."""
        return self.input_basis if self.task == "autoencoding" else None

    def to_raw(self, w: Any) -> tuple[Product, Array]:
        r"""Return (A, b) so that :math:`A x + b` predicts raw targets from a raw sample x.

        .. math:: A = (\rho_Y / \rho_X) \, T W B^T, \qquad b = \mu_Y - A \mu_X .

        Parameters
        ----------
        w : ndarray or matrix of `lowrankflow.matrices`, (m, n)
            A map between prepared inputs and targets.

        Returns
        -------
        Product, (m_raw, n_raw), and ndarray, (m_raw,)

        Raises
        ------
        ValueError
            If `w` is not of shape (m, n).
        """
        validation.check_shape("w", w.shape, (self.m, self.n), "the prepared data ask for")
        left, right = (w, np.eye(self.n)) if isinstance(w, np.ndarray) else w.split()
        if self.target_basis is not None:
            left = self.target_basis @ left
        if self.input_basis is not None:
            right = right @ self.input_basis.T
        scale = self.target_rms / self.input_rms if "scale" in self.steps else 1.0
        matrix = Product(scale * left, right)
        return matrix, self.target_mean - matrix @ self.input_mean

    def describe(self) -> dict[str, Any]:
        """Return the numbers, ready for JSON."""
        names = ("task", "samples", "n_raw", "m_raw", "n", "m", "rank_raw", "rank", "condition_raw", "condition",
                 "dropped", "dropped_share", "input_rms", "target_rms")  # fmt: skip
        return {"steps": list(self.steps)} | {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        """One line for people."""
        words = {
            "center": "centred",
            "scale": f"divided by RMS {self.input_rms:.3g}"
            + ("" if self.task == "autoencoding" else f" (targets {self.target_rms:.3g})"),
            "range": f"{self.dropped} of {self.n_raw} directions dropped",
        }
        done = ", ".join(words[step] for step in self.steps) or "as they are"
        return f"{done}; condition of X X^T {self.condition_raw:.2g} -> {self.condition:.2g}, rank {self.rank}"


@dataclass(frozen=True)
class ObservedPreparation:
    """What `prepare_observed` did.

    Attributes
    ----------
    steps : tuple of str
        The steps done.
    shape : tuple of int
        (m, n).
    observed : int
        Number of observed entries.
    empty_rows, empty_cols : int
        Rows and columns without any observation; nothing is known about them.
    mean : float
        The mean subtracted; zero without "center".
    rms : float
        Root mean square after centring; divided by where "scale" is done.
    """

    steps: tuple[str, ...]
    shape: tuple[int, int]
    observed: int
    empty_rows: int
    empty_cols: int
    mean: float
    rms: float

    def describe(self) -> dict[str, Any]:
        """Return the numbers, ready for JSON."""
        share = self.observed / (self.shape[0] * self.shape[1])
        return {
            "steps": list(self.steps), "task": "completion", "shape": list(self.shape), "observed": self.observed,
            "observed_share": share, "empty_rows": self.empty_rows, "empty_cols": self.empty_cols,
            "mean": self.mean, "rms": self.rms,
        }  # fmt: skip

    def __str__(self) -> str:
        """One line for people."""
        words = {"center": f"mean {self.mean:.3g} subtracted", "scale": f"divided by RMS {self.rms:.3g}"}
        done = ", ".join(words[step] for step in self.steps) or "as they are"
        return f"{done}; {self.observed} entries, {self.empty_rows} rows and {self.empty_cols} columns without any"


def _check_steps(steps: str | Iterable[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the steps in their order; text is split at commas, and "none" means no step."""
    if isinstance(steps, str):
        steps = [] if steps.strip() in ("", "none") else [step.strip() for step in steps.split(",")]
    elif not isinstance(steps, Iterable):
        raise TypeError(f"`steps` must be names or a text, got {validation.describe(steps)}.")
    wanted = list(steps)
    for step in wanted:
        if step not in known:
            raise ValueError(
                f"`steps` must be made of {', '.join(known)}, or be none; got {validation.describe(step)}."
            )
    return tuple(step for step in known if step in wanted)


def _rms(x: Array) -> float:
    """Return the root mean square, without over- or underflow."""
    peak = float(abs(x).max())
    return peak * float(np.sqrt(np.mean((x / peak) ** 2))) if peak else 0.0


def _standardise(name: str, x: Array, steps: tuple[str, ...]) -> tuple[Array, Array, float]:
    """Centre and scale samples in rows: return the new array, the means and the RMS after centring."""
    peak = float(abs(x).max())
    if peak == 0:
        raise ValueError(f"`{name}` must not be all zero.")
    if peak > _LARGEST:
        raise ValueError(f"`{name}` must stay below {_LARGEST:g} in size, got {peak:.3g}. Change the unit.")
    mean = np.zeros(x.shape[1])
    if "center" in steps:
        mean = x.mean(axis=0)
        # the second pass takes out the roundoff of a long sum; it is exact for a constant feature, whose
        # deviations are p times the same few units in the last place, so that no roundoff is scaled up
        mean = mean + (x - mean).mean(axis=0)
        x = x - mean
        if not x.any():
            raise ValueError(
                f"`{name}` must not be constant, nothing is left after centring. Leave out the step center."
            )
    rms = _rms(x)
    return (x / rms if "scale" in steps else x.copy()), mean, rms


def _spectrum(x: Array) -> tuple[Array, Array]:
    """Return the singular values and the left singular vectors of (n, p) data; n x p is compressed by QR first."""
    small = cast(Array, np.linalg.qr(x.T, mode="r")).T if x.shape[1] > x.shape[0] else x
    u, s, _ = linalg.svd(small, full_matrices=False, check_finite=False)
    return s, u


def _rank_and_condition(s: Array, shape: tuple[int, ...]) -> tuple[int, float]:
    rank = int((s > max(shape) * EPS * s[0]).sum())
    return rank, float((s[0] / s[rank - 1]) ** 2)


def prepare(data: DataSet, *, steps: str | Iterable[str] = STEPS) -> tuple[Array, Array, Preparation]:
    r"""Return X and Y with the samples in columns, prepared as the theorems ask, and what was done.

    "center" subtracts the mean of each feature, from inputs and targets. "scale" divides by one number, the
    root mean square of all entries, inputs and targets each by their own. "range" projects the inputs onto
    the eigenvectors of :math:`X X^T` with eigenvalue above :math:`10^{-10} \lambda_1`, so that :math:`X X^T`
    becomes diagonal and of full rank; the targets of autoencoding are the projected inputs, those of
    regression stay as they are. The steps are done in this order.

    Parameters
    ----------
    data : DataSet
        p samples in rows.
    steps : sequence of str, or str
        Any of "center", "scale", "range"; text is split at commas; () or "none" leaves the data raw.

    Returns
    -------
    x : ndarray, (n, p)
    y : ndarray, (m, p)
        A copy of `x` for autoencoding.
    preparation : Preparation
        Dimensions, ranks and conditions before and after, and the way back.

    Raises
    ------
    ValueError, TypeError
        If a step is unknown, there is a single sample, or inputs or targets are all zero, constant where they
        are centred, or larger than 1e150.

    Notes
    -----
    Without "scale" and "center" the data are used in their units. Directions are found by a singular value
    decomposition of X, not of X X^T, so that eigenvalues down to eps^2 lambda_1 are right.

    Examples
    --------
    >>> x, y, preparation = prepare(DataSet("line", np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])))
    >>> x.shape, preparation.dropped
    ((1, 3), 1)
    """
    wanted = _check_steps(steps, STEPS)
    raw = data.inputs
    if raw.shape[0] < 2:
        raise ValueError("`inputs` must hold at least 2 samples, got 1. A sample is a row.")
    rows, mean, rms = _standardise("inputs", raw, wanted)
    x = np.ascontiguousarray(rows.T)
    rank_raw, condition_raw = _rank_and_condition(_spectrum(raw.T)[0], raw.shape)
    s, u = _spectrum(x)
    basis, share = None, 0.0
    if "range" in wanted:
        square = (s / s[0]) ** 2
        kept = int((square > RANGE).sum())
        basis, share = u[:, :kept], float(square[kept:].sum() / square.sum())
        peak = basis[abs(basis).argmax(axis=0), np.arange(kept)]
        basis = basis * np.sign(peak)  # singular vectors have no sign of their own
        x, s = basis.T @ x, s[:kept]
    rank, condition = _rank_and_condition(s, x.shape)
    if data.targets is None:
        y, target_mean, target_rms = x.copy(), mean, rms
    else:
        rows, target_mean, target_rms = _standardise("targets", data.targets, wanted)
        y = np.ascontiguousarray(rows.T)
    return x, y, Preparation(
        steps=wanted, task=data.task, samples=raw.shape[0],
        n_raw=raw.shape[1], m_raw=target_mean.size, n=x.shape[0], m=y.shape[0],
        rank_raw=rank_raw, rank=rank, condition_raw=condition_raw, condition=condition, dropped_share=share,
        input_mean=mean, target_mean=target_mean, input_rms=rms, target_rms=target_rms, input_basis=basis,
    )  # fmt: skip


def prepare_observed(
    observations: Observations, *, steps: str | Iterable[str] = ("center", "scale")
) -> tuple[Observations, ObservedPreparation]:
    """Return the observations with their mean subtracted and divided by their root mean square.

    Parameters
    ----------
    observations : Observations
        Observed entries.
    steps : sequence of str, or str
        Any of "center", "scale"; text is split at commas; () or "none" leaves the values raw. There is no
        "range": rows and columns of the matrix are its coordinates.

    Returns
    -------
    Observations, ObservedPreparation

    Raises
    ------
    ValueError, TypeError
        If a step is unknown, or the values are constant where they are centred, or larger than 1e150.
    """
    wanted = _check_steps(steps, STEPS[:2])
    values, mean, rms = _standardise("values", observations.values[:, None], wanted)
    m, n = observations.shape
    return replace(observations, values=values[:, 0]), ObservedPreparation(
        steps=wanted, shape=(m, n), observed=observations.values.size,
        empty_rows=m - np.unique(observations.rows).size, empty_cols=n - np.unique(observations.cols).size,
        mean=float(mean[0]), rms=rms,
    )  # fmt: skip
