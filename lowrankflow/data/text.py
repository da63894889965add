"""Tables of text, whatever separates their cells: commas, semicolons with decimal commas, tabs, spaces; with a header or not.

The first lines say how the others are read. Where pandas is installed it reads a file that holds numbers alone; one that
holds anything else is read here, so that what is wrong has a line and a column.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import re
from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib import import_module
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from .tables import Table

__all__ = ["COMPRESSED", "DELIMITERS", "open_file", "read_text", "require_delimiter"]

COMPRESSED: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "space": " ", "pipe": "|"}
_MISSING = {"", "na", "n/a", "#n/a", "nan", "null", "none", "?", "-", "."}
_SAMPLE = 50  #: lines that show how a file is to be read
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")


class Dialect(NamedTuple):
    """How a line is cut into cells, and a cell read."""

    delimiter: str  #: " " is any white space
    decimal: str

    def rows(self, lines: Iterable[str]) -> Any:
        """Return a reader of the cells of each line."""
        if self.delimiter == " ":
            lines = (" ".join(line.split()) + "\n" for line in lines)
        return csv.reader(lines, delimiter=self.delimiter, skipinitialspace=True)

    def number(self, cell: str) -> float | None:
        """Return the number of a cell, NaN where it is missing; None of a text."""
        if "\t" in cell and self.delimiter not in "\t ":  # cells of another dialect
            return None
        cell = cell.strip()
        if cell.lower() in _MISSING:
            return np.nan
        if self.decimal == "," and _DECIMAL_COMMA.fullmatch(cell):
            cell = cell.replace(",", ".")
        try:
            return None if "_" in cell else float(cell)  # Python's own spelling of numbers
        except ValueError:
            return None


class _Ragged(Exception):
    """A line that has another number of cells."""


def require_delimiter(value: Any) -> str | None:
    """Return the character that separates cells, of itself or of its name."""
    if value is None:
        return None
    found = DELIMITERS.get(value, value) if isinstance(value, str) else value
    found = "\t" if found == "\\t" else found
    if not isinstance(found, str) or len(found) != 1 or found in '"\r\n.':
        names = ", ".join(DELIMITERS)
        raise ValueError(f"`delimiter` must be one character or {names}, got {value!r}.")
    return found


def open_file(file: Path, mode: str = "rb", **options: Any) -> IO[Any]:
    """Open a file, unpacked if its name says that it is compressed."""
    opener: Any = COMPRESSED.get(file.suffix.lower(), open)
    return opener(file, mode, **options)


def read_text(name: str, file: Path, delimiter: str | None = None) -> Table:
    """Return the table of a text file.

    Raises
    ------
    ValueError
        If it cannot be read as text, has no cells, or lines of unequal length.
    """
    try:
        with open_file(file, "rt", newline="", encoding="utf-8-sig") as text:
            sample, comment = _sample(text)
        if not sample:
            raise _Ragged(f"`{name}` must hold numbers, got {file.name!r} without a line of numbers.")
        dialect = _dialect(sample, delimiter)
        head = _header(list(dialect.rows(sample)), dialect, comment)
        numbers = _by_pandas(file, dialect, head)
        return numbers if numbers is not None else _by_hand(name, file, dialect, head)
    except _Ragged as error:
        raise ValueError(str(error)) from None
    except (ValueError, OSError, EOFError, csv.Error, lzma.LZMAError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise ValueError(f"`{name}` must be a table as text in UTF-8, got {file.name!r} ({reason}).") from None


def _is_data(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith(("#", "%"))


def _sample(text: Iterable[str]) -> tuple[list[str], str]:
    """Return the first lines that are not blank and no comments, and the last comment before them."""
    comment, found = "", []
    for line in text:
        if _is_data(line):
            found.append(line)
        elif line.strip() and not found:
            comment = line.strip().lstrip("#% ")
        if len(found) == _SAMPLE:
            break
    return found, comment


def _dialect(sample: list[str], delimiter: str | None) -> Dialect:
    """Return the dialect in which the lines are most alike and most cells are numbers; of equals the more usual one."""
    asked = DELIMITERS.values() if delimiter is None else [delimiter]
    best, most = Dialect(delimiter or ",", "."), -1.0
    for separator in asked:
        for decimal in (".",) if separator == "," else (".", ","):
            dialect = Dialect(separator, decimal)
            with suppress(csv.Error):
                score = _score([row for row in dialect.rows(sample) if row], dialect, alone=delimiter is not None)
                if score > most + 1e-9:
                    best, most = dialect, score
    return best


def _score(rows: list[list[str]], dialect: Dialect, *, alone: bool) -> float:
    """Return the share of lines of the usual length plus that of cells that are numbers, below the first line.

    And half of one where the first line, a header or not, is as long as they are.
    """
    width = _width(rows)
    if not rows:
        return -1.0
    one = (
        dialect.decimal == "," and len(rows) > 1 and not any("," in cell for cell in rows[0])
    )  # a column with its name
    if width < 2 and dialect.delimiter != "," and not alone and not one:
        return -1.0
    alike = sum(len(row) == width for row in rows[1:] or rows) / len(rows[1:] or rows)
    cells = [cell for row in rows[1:] or rows for cell in row]
    known = sum(dialect.number(cell) is not None for cell in cells) / max(len(cells), 1)
    return alike + known + 0.5 * (len(rows[0]) == width)


def _width(rows: list[list[str]]) -> int:
    """Return the usual number of cells of a line."""
    lengths = [len(row) for row in rows[1:] or rows]
    return max(sorted(set(lengths)), key=lengths.count, default=0)


class _Head(NamedTuple):
    lines: int  #: of data lines, 1 where the first of them is a header
    names: tuple[str, ...] | None
    row_names: bool


def _header(rows: list[list[str]], dialect: Dialect, comment: str) -> _Head:
    """Return whether the first line names the columns, and their names; those of a comment above else."""
    first, below, width = [cell.strip() for cell in rows[0]], rows[1:], _width(rows)
    numbers = [dialect.number(cell) for cell in first]
    texts = [k for k, number in enumerate(numbers) if number is None]
    if below and texts and len(first) == width - 1:  # what R writes: names of rows without a name
        return _Head(1, ("", *first), True)
    if not any(x is not None and not np.isnan(x) for x in numbers):
        return _Head(1, tuple(first), False) if texts else _Head(0, None, False)
    if below and ((texts and _names(numbers, texts, below, dialect)) or _counts(first, below, dialect)):
        return _Head(1, tuple(first), False)
    names = tuple(cell.strip() for row in dialect.rows([comment]) for cell in row) if comment else ()
    return _Head(0, names if len(names) == width and not all(map(_is_number, names)) else None, False)


def _names(numbers: list[float | None], texts: list[int], below: list[list[str]], dialect: Dialect) -> bool:
    """Whether a line of texts and numbers names the columns: "site,2019,2020" does, a sample with a slip in it does not."""
    under = [row[k] for row in below for k in texts if k < len(row)]
    others = [x for x in numbers if x is not None and not np.isnan(x)]
    ordered = all(x == int(x) for x in others) and all(a < b for a, b in pairwise(others))
    likely = 2 * len(texts) > len(numbers) or len(others) > 1
    return ordered and likely and all(dialect.number(cell) is not None for cell in under)


def _is_number(text: str) -> bool:
    return Dialect(",", ".").number(text) is not None


def _counts(first: list[str], below: list[list[str]], dialect: Dialect) -> bool:
    """Whether the first line counts the columns 0, 1, 2, ..., as pandas heads columns without names, and is no sample."""
    cells = first[1:] if first[0] == "" else first
    if not cells or cells != [str(k) for k in range(len(cells))]:
        return False
    broken = [any(mark in cell for mark in (".", dialect.decimal)) for row in below for cell in row if cell.strip()]
    return first[0] == "" or len(cells) > 4 or (any(broken) if len(cells) > 1 else all(broken))


def _by_pandas(file: Path, dialect: Dialect, head: _Head) -> Table | None:
    """Return the table where pandas is installed and finds nothing but numbers; None else."""
    try:
        pandas = import_module("pandas")
    except ImportError:
        return None
    with suppress(Exception):  # whatever is wrong has its line by the other way
        with open_file(file, "rt", newline="", encoding="utf-8-sig") as text:
            lines = islice(filter(_is_data, text), head.lines, None)
            frame = pandas.read_csv(
                _Stream(lines), sep=r"\s+" if dialect.delimiter == " " else dialect.delimiter, decimal=dialect.decimal,
                header=None, index_col=False, dtype=np.float64, float_precision="round_trip", skipinitialspace=True,
            )  # fmt: skip
        numbers = np.ascontiguousarray(frame.to_numpy(dtype=np.float64))
        width = numbers.shape[1] if head.names is None else len(head.names)
        if numbers.shape[1] == width and not np.isnan(numbers).any():
            return Table(numbers, head.names, row_names=head.row_names)
    return None


class _Stream:
    """Lines as a file that pandas reads."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines, self._rest = lines, ""

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def read(self, size: int = -1) -> str:
        parts, count = [self._rest], len(self._rest)
        while size < 0 or count < size:
            line = next(self._lines, None)
            if line is None:
                break
            parts.append(line)
            count += len(line)
        text = "".join(parts)
        cut = len(text) if size < 0 else size
        self._rest = text[cut:]
        return text[:cut]


def _by_hand(name: str, file: Path, dialect: Dialect, head: _Head) -> Table:
    """Return the table, cell by cell."""
    cells, places, texts = array("d"), array("q"), dict[int, dict[int, str]]()
    width, first = 0 if head.names is None else len(head.names), 0
    with open_file(file, "rt", newline="", encoding="utf-8-sig") as text:
        numbered = _Numbered(text)
        reader = dialect.rows(numbered)
        for row in islice(reader, head.lines, None):
            if width and len(row) != width:
                against = f"in line {first}" if first else "in the header"
                raise _Ragged(
                    f"`{name}` must have equally many cells in each line,"
                    f" got {len(row)} in line {numbered.line} and {width} {against}."
                )
            width, first = len(row), first or numbered.line
            for k, cell in enumerate(row):
                number = dialect.number(cell)
                if number is None:
                    texts.setdefault(k, {})[len(places)] = cell.strip()
                cells.append(np.nan if number is None else number)
            places.append(numbered.line)
    if not places:
        raise _Ragged(f"`{name}` must hold numbers, got {file.name!r} without a line of numbers.")
    numbers = np.frombuffer(cells, dtype=np.float64).reshape(-1, width)
    return Table(numbers, head.names, texts, np.frombuffer(places, dtype=np.int64), head.row_names)


class _Numbered:
    """The lines that are not blank and no comments before the first cells, and which of the file the last one was."""

    def __init__(self, text: Iterable[str]) -> None:
        self._text, self.line = text, 0

    def __iter__(self) -> Iterator[str]:
        for line in self._text:
            self.line += 1
            if _is_data(line):
                yield line
