"""What a report is made of: claims with their hypotheses and controls, figures by their points, tables of numbers.

All are values; a claim knows where it stands to its bound, and nothing knows where it came from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from . import validation
from .markup import html_facts, html_table

__all__ = [
    "NOT_FINITE",
    "Bound", "Cell", "Claim", "Control", "Curve", "Figure", "Hypothesis", "Relation", "Table", "Verdict", "cell_text", "holds",
    "number_text", "position", "rule_text",
]  # fmt: skip

Cell = float | str | None  #: a value of a table
Relation = Literal["<=", ">=", "in"]
Bound = float | tuple[float, float]
Verdict = Literal["passed", "failed", "not claimed"]

NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}  #: as JSON has them
_COLUMNS = 8  # of a table beside the first one, on 120 characters


def holds(measured: float, relation: Relation, bound: Bound) -> bool:
    """Return whether the measurement keeps the bound; never for nan."""
    if relation == "in":
        low, high = bound  # type: ignore[misc]
        return bool(low <= measured <= high)
    return bool(measured <= bound) if relation == "<=" else bool(measured >= bound)  # type: ignore[operator]


def position(measured: float, relation: Relation, bound: Bound) -> float:
    """Return where a measurement stands to its bound: below 1 it keeps it, above 1 it breaks it, on one scale for all.

    ``<=``: measured / bound; ``>=``: bound / measured; ``in``: the distance from the centre of the interval over half
    its width. 0 and infinity where signs differ, so that the side is always the one of the verdict.
    """
    if math.isnan(measured):
        return math.nan
    measured = float(measured)
    if isinstance(bound, tuple):
        centre, half = (bound[0] + bound[1]) / 2, (bound[1] - bound[0]) / 2
        off = abs(measured - centre)
        return off / half if half > 0 else (0.0 if off == 0 else math.inf)
    bound = float(bound)
    if relation == ">=":
        measured, bound = -measured, -bound
    if bound > 0:
        return 1.0 if measured == bound else max(measured, 0.0) / bound
    if bound < 0:
        return (1.0 if measured == bound else bound / measured) if measured < 0 else math.inf
    return 0.0 if measured <= 0 else math.inf


@dataclass(frozen=True)
class Hypothesis:
    """An assumption of the theorem, whether the problem meets it, and the number that decides."""

    name: str
    met: bool
    value: float | str


@dataclass(frozen=True)
class Control:
    """A changed input for which the same measurement must break the bound; it says something if the claim is made."""

    change: str
    measured: float
    bound: Bound
    relation: Relation = "<="

    @property
    def caught(self) -> bool:
        """Whether the change was noticed."""
        return not holds(self.measured, self.relation, self.bound)

    @property
    def position(self) -> float:
        """Where it stands to its bound: above 1 if it is caught."""
        return position(self.measured, self.relation, self.bound)


@dataclass(frozen=True)
class Claim:
    """One statement, measured.

    Attributes
    ----------
    name : str
        Key in the report, and the word for ``lowrankflow verify --explain``.
    statement : str
        What is claimed, in one sentence.
    source : str
        The paper, or "derived" with the page of the repository.
    measured : float
        The number.
    relation : {"<=", ">=", "in"}
        How it must stand to `bound`.
    bound : float or (float, float)
        The bound, an interval for "in".
    hypotheses : tuple of Hypothesis
        What the statement assumes. If one is not met there is no verdict on the theorem.
    controls : tuple of Control
        Changed inputs that must break the bound.
    detail : str
        Where the bound comes from, or what else was seen.
    """

    name: str
    statement: str
    source: str
    measured: float
    relation: Relation
    bound: Bound
    hypotheses: tuple[Hypothesis, ...] = ()
    controls: tuple[Control, ...] = ()
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Whether the measurement keeps the bound."""
        return holds(self.measured, self.relation, self.bound)

    @property
    def position(self) -> float:
        """Where the measurement stands to its bound: below 1 if it keeps it."""
        return position(self.measured, self.relation, self.bound)

    @property
    def claimed(self) -> bool:
        """Whether every hypothesis is met; if not, neither the number nor the controls decide anything."""
        return all(h.met for h in self.hypotheses)

    @property
    def verdict(self) -> Verdict:
        """passed: holds, and every control is caught; not claimed: a hypothesis is not met; else failed."""
        if not self.claimed:
            return "not claimed"
        return "passed" if self.holds and all(c.caught for c in self.controls) else "failed"


@dataclass(frozen=True)
class Curve:
    """A labelled series of a figure; `role` chooses its look.

    Roles: "a" and "b" (the two sides), "one" (one of many, told apart by its label), "gap" (a difference or error),
    "bound" (a limit), "control" (a changed input), "guide" (a slope or time to compare with).
    """

    label: str
    x: list[float] = field(repr=False)
    y: list[float] = field(repr=False)
    role: str = "a"
    points: bool = False  #: markers instead of a line
    mark: str = ""  #: a name beside its right end, outside of the axes


@dataclass(frozen=True)
class Figure:
    """The data of a picture."""

    name: str
    title: str
    caption: str
    xlabel: str
    ylabel: str
    curves: list[Curve]
    xscale: str = "linear"
    yscale: str = "linear"


@dataclass(frozen=True, repr=False)
class Table:
    """Numbers side by side; a notebook shows them as a table.

    Attributes
    ----------
    name : str
        Key in the report.
    title, caption : str
        What is shown, and how to read it.
    columns : tuple of str
        The heads; the first column names the rows.
    rows : tuple of tuples
        As many values as there are columns: text, numbers, or None where there is nothing to say.
    """

    name: str
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"`rows` must have one value for each of the {len(self.columns)} columns, got {len(row)}."
                )

    def __repr__(self) -> str:
        return f"Table {self.name}: {self.title}, {len(self.rows)} rows of {', '.join(self.columns)}"

    def _repr_html_(self) -> str:
        rows = ([cell_text(value) for value in row] for row in self.rows)
        words = [i == 0 or self.has_words(i) for i in range(len(self.columns))]
        return html_facts(self.title) + html_table(self.columns, rows, words, self.caption)

    def column(self, name: str) -> tuple[Cell, ...]:
        """Return the values under a head."""
        at = self.columns.index(validation.require_choice("name", name, self.columns))
        return tuple(row[at] for row in self.rows)

    def has_words(self, i: int) -> bool:
        """Whether a column has text, which stands to the left of it, as numbers do to the right."""
        return not self.rows or any(isinstance(row[i], str) and row[i] for row in self.rows)

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Table:
        """Return the table of its JSON."""
        rows = tuple(tuple(NOT_FINITE.get(v, v) if isinstance(v, str) else v for v in row) for row in entry["rows"])
        return cls(entry["name"], entry["title"], entry["caption"], tuple(entry["columns"]), rows)

    def __rich__(self) -> Any:
        """The table, for a rich console; one of many columns in parts beneath each other, so that no digit is lost."""
        from rich.console import Group
        from rich.text import Text

        count = len(self.columns) - 1
        size = math.ceil(count / math.ceil(count / _COLUMNS)) if count else 1  # even parts
        parts = [range(i, min(i + size, count + 1)) for i in range(1, count + 1, size)] or [range(0)]
        grids = [self._grid(part) for part in parts]
        return Group(Text(self.title, style="bold"), *grids, Text(self.caption, style="dim"))

    def _grid(self, chosen: range) -> Any:
        from rich.markup import escape
        from rich.table import Table as Grid

        grid = Grid(highlight=False)
        for i in (0, *chosen):
            side: Literal["left", "right"] = "left" if i == 0 or self.has_words(i) else "right"
            grid.add_column(escape(self.columns[i]), justify=side, overflow="fold")
        for row in self.rows:
            grid.add_row(*(escape(cell_text(row[i])) for i in (0, *chosen)))
        return grid


def number_text(value: float | str) -> str:
    """Return a number as people read it: two or three digits."""
    if isinstance(value, str):
        return value
    if math.isfinite(value) and value != 0 and not 1e-3 <= abs(value) < 1e4:
        return f"{value:.2e}"
    return f"{value:.4g}"


def cell_text(value: Cell) -> str:
    """Return a value of a table as people read it: whole numbers in full, a dash where there is none."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else number_text(value)


def rule_text(relation: Relation, bound: Bound) -> str:
    """Return the relation and bound as people read them."""
    if isinstance(bound, tuple):
        return f"in [{number_text(bound[0])}, {number_text(bound[1])}]"
    return f"{relation} {number_text(bound)}"
