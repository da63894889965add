"""A table as a file holds it: named columns of numbers and texts, and which of them are features and targets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .. import validation
from ..validation import Array

__all__ = ["Chosen", "Table", "choose", "require_complete", "table_of_frame"]

_NUMBERING = {  # what columns are called that count the rows
    "", "index", "obs", "observation", "id", "row", "rows", "rowname", "rownames", "row.names", "row_names", "no", "no.", "nr",
    "nr.", "#", "case", "sample", "sampleid", "sample_id", "unnamed: 0",
}  # fmt: skip
_SHOWN = 8  #: names in a description


@dataclass(frozen=True, eq=False)
class Table:
    """What a file holds.

    Attributes
    ----------
    numbers : ndarray, (p, q)
        NaN where a cell is missing or a text.
    names : tuple of str, or None
        Of the columns, where the file names them.
    texts : mapping
        Cells that are texts: by the number of the column, then of the row.
    places : ndarray of int, or None
        The line of each row in its file; None: they are counted from one.
    row_names : bool
        Whether the first column is known to name the rows.
    """

    numbers: Array
    names: tuple[str, ...] | None = None
    texts: Mapping[int, Mapping[int, str]] = field(default_factory=dict)
    places: Any = None
    row_names: bool = False

    def where(self, row: int, column: int) -> str:
        """Return the words for a cell."""
        place = f"row {row + 1}" if self.places is None else f"line {self.places[row]}"
        label = f" ({self.names[column]})" if self.names is not None and self.names[column] else ""
        return f"{place}, column {column + 1}{label}"

    def label(self, column: int) -> str:
        """Return the name of a column, or its number, from one."""
        return (self.names[column] if self.names is not None else "") or str(column + 1)

    def missing(self, columns: list[int]) -> Any:
        """Return which cells of columns have neither a number nor a text."""
        gaps = np.isnan(self.numbers[:, columns])
        for k, column in enumerate(columns):
            gaps[list(self.texts.get(column, ())), k] = False
        return gaps

    def counts_rows(self, column: int) -> bool:
        """Whether a column counts the rows, from zero or one, and is called as such columns are."""
        if self.row_names and column == 0:
            return True
        name = None if self.names is None else self.names[column].strip().lower()
        values = self.numbers[:, column]
        long = values.size > 1 or name == ""
        return name in _NUMBERING and long and values[0] in (0, 1) and bool((np.diff(values) == 1).all())


class Chosen(NamedTuple):
    """Columns of a table that were asked for, and what to say of them."""

    values: Array  #: (p, k), NaN where a cell is missing
    names: tuple[str, ...]  #: () where the file names none
    gap: str  #: where the first missing cell is; "" where there is none
    said: str  #: for the description


def table_of_frame(frame: Any) -> Table:
    """Return a DataFrame as a table."""
    numbers, texts = np.full(frame.shape, np.nan), {}
    for k in range(frame.shape[1]):
        column = frame.iloc[:, k].infer_objects()
        if column.dtype.kind in "biuf" if isinstance(column.dtype, np.dtype) else hasattr(column.dtype, "numpy_dtype"):
            numbers[:, k] = column.to_numpy(dtype=np.float64, na_value=np.nan)
            continue
        known = column.notna().to_numpy()
        texts[k] = {i: str(cell) for i, cell in enumerate(column) if known[i]}
    names = tuple(map(str, frame.columns))
    return Table(numbers, None if names == tuple(map(str, range(len(names)))) else names, texts)


def choose(
    name: str, table: Table, columns: Any = None, targets: Any = None, *, classes: bool = False
) -> tuple[Chosen, Chosen | None]:
    """Return the features and, where a column of the same table is asked for, the targets.

    Parameters
    ----------
    name : str
        What messages call the table.
    columns, targets : str or sequence of names and numbers, optional
        Which columns, by name or by number from one; "3-5" is three of them. None: all that are no target and do not
        count the rows; no targets.
    classes : bool
        Whether the columns are targets themselves, of which texts are classes.
    """
    aimed = [] if targets is None else _numbers_of("target_column", targets, table)
    counting: list[int] = []
    if columns is None:
        rest = [k for k in range(table.numbers.shape[1]) if k not in aimed]
        counting = [k for k in rest if table.counts_rows(k)] if len(rest) > 1 else []
        chosen = [k for k in rest if k not in counting]
    else:
        chosen = _numbers_of("columns", columns, table)
        both = next((k for k in chosen if k in aimed), None)
        if both is not None:
            raise ValueError(f"`columns` must not have the target among them, got {table.label(both)!r} in both.")
    if not chosen:
        raise ValueError(f"`{name}` must have a column beside the target, got {table.numbers.shape[1]} in all.")
    features = _part(name, table, chosen, classes=classes)
    if counting:
        left = ", ".join(table.label(k) if table.names and table.names[k] else f"column {k + 1}" for k in counting)
        features = features._replace(said=f"{features.said}; left out {left}, which counts the rows")
    return features, _part("target_column", table, aimed, classes=True) if aimed else None


def _numbers_of(option: str, asked: Any, table: Table) -> list[int]:
    """Return the columns that names and numbers ask for, each once."""
    items = [part.strip() for part in asked.split(",")] if isinstance(asked, str) else asked
    items = validation.as_tuple([items] if isinstance(items, int) else items)
    if not items:
        raise ValueError(f"`{option}` must be names or numbers of columns, got {validation.describe(asked)}.")
    found: list[int] = []
    for item in items:
        found += _one(option, item, table)
    if len(set(found)) < len(found):
        raise ValueError(f"`{option}` must choose a column once, got {validation.describe(asked)}.")
    return found


def _one(option: str, item: Any, table: Table) -> list[int]:
    count = table.numbers.shape[1]
    if isinstance(item, str):
        if table.names is not None and item in table.names:
            return [table.names.index(item)]
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", item)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    else:
        first = last = validation.require_integer(option, item, low=1)
    if not 1 <= first <= last <= count:
        known = "" if table.names is None else f" of {_listed(table.names)}"
        raise ValueError(
            f"`{option}` must be names or numbers of the {count} columns{known}, got {validation.describe(item)}."
        )
    return list(range(first - 1, last))


def _part(name: str, table: Table, columns: list[int], *, classes: bool) -> Chosen:
    """Return some columns as numbers; texts are classes of targets, and nothing else."""
    blocks, names, said = [], [], []
    for k in columns:
        texts = table.texts.get(k, {})
        if texts and classes and np.isnan(table.numbers[:, k]).all():
            block, words = _one_hot(table, k)
            said.append(words)
        elif texts:
            row, cell = next(iter(texts.items()))
            hint = "" if classes else " Choose columns, or make it the target_column."
            raise ValueError(f"`{name}` must hold numbers, got {cell[:20]!r} in {table.where(row, k)}.{hint}")
        else:
            block = table.numbers[:, [k]]
        blocks.append(block)
        names += [table.label(k)] * block.shape[1]
    gaps = np.argwhere(table.missing(columns))
    gap = table.where(int(gaps[0][0]), columns[int(gaps[0][1])]) if gaps.size else ""
    known = tuple(names) if table.names is not None else ()
    kind = "targets" if classes else "features"
    heading = [f"{kind} {_listed(list(dict.fromkeys(known)))}"] if known else []
    return Chosen(np.hstack(blocks), known, gap, "; ".join(["", *heading, *said]))


def _one_hot(table: Table, column: int) -> tuple[Array, str]:
    """Return a column of texts as 0 and 1 of two classes, or as one column a class, and what to say of it."""
    rows, cells = zip(*table.texts[column].items(), strict=True)
    known, codes = np.unique(cells, return_inverse=True)
    block = np.full((table.numbers.shape[0], known.size), np.nan)
    block[list(rows)] = codes[:, None] == np.arange(known.size)
    if known.size == 2:
        return block[:, 1:], f"{known[0]} is 0, {known[1]} is 1"
    return block, f"one-hot {_listed(list(map(str, known)))}"


def require_complete(
    name: str, inputs: Chosen, targets: Chosen | None, missing_rows: str | None
) -> tuple[Chosen, Chosen | None]:
    """Return both without the rows in which something is missing, where that is asked for; refuse such rows else."""
    gaps = np.isnan(inputs.values).any(axis=1)
    if targets is not None and targets.values.shape[0] == gaps.size:
        gaps = gaps | np.isnan(targets.values).any(axis=1)
    if not gaps.any():
        return inputs, targets
    if missing_rows is None:
        gap = inputs.gap or (targets.gap if targets is not None else "")
        raise ValueError(
            f"`{name}` must have no missing values, got some in {int(gaps.sum())} of {gaps.size} rows, the first in {gap}."
            " Leave these rows out (`missing_rows` drop), or complete the matrix from its other entries (`observed`)."
        )
    if gaps.all():
        raise ValueError(
            f"`missing_rows` must leave a row, got something missing in each of {gaps.size}. Choose columns."
        )
    said = f"{inputs.said}; {int(gaps.sum())} of {gaps.size} rows left out, in which something is missing"
    kept = inputs._replace(values=inputs.values[~gaps], said=said)
    return kept, None if targets is None else targets._replace(values=targets.values[~gaps])


def _listed(names: Iterable[str]) -> str:
    known = list(names)
    return ", ".join(known[:_SHOWN]) + (f", ... ({len(known)})" if len(known) > _SHOWN else "")
