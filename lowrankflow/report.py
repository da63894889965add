"""A claim is a value: what was measured, against which bound, under which hypotheses, with which controls.

Command line, page, tests and docs all come from these values. Nothing here knows where they came from.
"""

from __future__ import annotations

import io
import json
import math
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np
import scipy

from . import validation
from ._version import __version__
from .files import require_file, write_text
from .findings import (
    Bound,
    Cell,
    Claim,
    Control,
    Curve,
    Figure,
    Hypothesis,
    Relation,
    Table,
    Verdict,
    cell_text,
    number_text,
    rule_text,
)  # fmt: skip
from .markup import html_facts, html_table

__all__ = [
    "Bound", "Cell", "Claim", "ClaimFailed", "Control", "Curve", "Figure", "Hypothesis", "Relation", "Report", "Table",
    "Verdict", "cell_text", "number_text", "rule_text",
]  # fmt: skip


def _environment() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "BLAS": _blas(),
        "machine": platform.machine(),
        "system": platform.system(),
    }


def _blas() -> str:
    """Return the name and the version of what numpy multiplies matrices with."""
    built = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    return f"{built.get('name', 'unknown')} {built.get('version', '')}".strip()


class ClaimFailed(AssertionError):
    """Claims failed, or nothing could be claimed: raised by ``report.raise_if_failed()``; `report` is that report."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.report), vars(self)  # not from the message alone


@dataclass(repr=False)
class Report:
    """The result of a check: a table of claims with the problem they were measured on.

    ``report["name"]`` is a claim, ``report.table("name")`` a table of numbers; ``print(report)`` shows them all, its repr
    is a summary of a few lines, and a notebook shows the tables.

    Attributes
    ----------
    command : str
        What was run.
    problem : dict
        What it was run on, JSON-ready.
    claims, figures, tables : list
        What was found.
    version, environment : str, dict
        Of the package and of what it stands on.
    interrupted : bool
        Whether it ends where somebody stopped it.
    attachments : dict
        Results too large for the report; not in its JSON.
    title : str
        The question that it answers; the page of a report without one is headed by its command.
    lead : str
        How the question was asked, in a few sentences.
    headline : str
        What was asked of: data, shape, rank and the like, in a line or two.
    repeats : str
        The line for a shell that makes it again.
    given : dict, or None
        The problem as JSON, as ``lowrankflow.Problem.from_dict`` takes it; None for objects in memory.
    run : dict
        When it was made, how long that took, on how many threads; shown on the page, and not in the JSON, which is the
        same whenever the problem is repeated.
    """

    command: str
    problem: dict[str, Any]
    claims: list[Claim] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    version: str = __version__
    environment: dict[str, str] = field(default_factory=_environment)
    interrupted: bool = False
    attachments: dict[str, Any] = field(default_factory=dict, repr=False)
    tables: list[Table] = field(default_factory=list)
    title: str = ""
    lead: str = ""
    headline: str = ""
    repeats: str = ""
    given: dict[str, Any] | None = None
    run: dict[str, str] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> Claim:
        for claim in self.claims:
            if claim.name == name:
                return claim
        known = ", ".join(c.name for c in self.claims) or "none"
        raise KeyError(f"`name` must be a claim of this report, which has {known}; got {validation.describe(name)}.")

    def table(self, name: str) -> Table:
        """Return one of the tables.

        Raises
        ------
        KeyError
            If there is none of that name.
        """
        for table in self.tables:
            if table.name == name:
                return table
        known = ", ".join(t.name for t in self.tables) or "none"
        raise KeyError(f"`name` must be a table of this report, which has {known}; got {validation.describe(name)}.")

    def __repr__(self) -> str:
        return "\n".join([self._title(), *(f"  {name:9}  {text}" for name, text in self._facts())])

    def _repr_html_(self) -> str:
        columns = ("claim", "statement", "measured", "bound", "verdict", "controls caught")
        words = (True, True, False, True, True, True)
        parts = [html_facts(self._title(), self._facts())]
        if self.claims:
            parts.append(html_table(columns, map(_claim_cells, self.claims), words))
        return "\n".join([*parts, *(table._repr_html_() for table in self.tables)])

    def _title(self) -> str:
        return f"Report of {self.command or 'a check'}: {self.verdict.upper()}{', interrupted' * self.interrupted}"

    def _facts(self) -> list[tuple[str, str]]:
        """Return what it is of and what is in it, in a line each."""
        names = {"tables": self.tables, "figures": self.figures}
        lines = [("of", self.headline.partition("\n")[0]), ("claims", self.summary())]
        lines += [(kind, ", ".join(each.name for each in found)) for kind, found in names.items()]  # type: ignore[attr-defined]
        lines += [("holds", ", ".join(self.attachments)), ("repeat", self.repeats)]
        return [(name, text) for name, text in lines if text]

    def __iter__(self) -> Iterator[Claim]:
        return iter(self.claims)

    def __len__(self) -> int:
        return len(self.claims)

    @property
    def failed(self) -> list[Claim]:
        """The claims that failed."""
        return [c for c in self.claims if c.verdict == "failed"]

    @property
    def passed(self) -> bool:
        """Whether no claim failed and something was claimed."""
        return not self.failed and any(c.verdict == "passed" for c in self.claims)

    @property
    def verdict(self) -> Verdict:
        """The verdict on all claims together: not claimed where nothing could be."""
        return "failed" if self.failed else "passed" if self.passed else "not claimed"

    @property
    def controls(self) -> list[Control]:
        """The controls of the claims that are made."""
        return [k for c in self.claims if c.claimed for k in c.controls]

    def raise_if_failed(self) -> None:
        """Raise `ClaimFailed` naming the failed claims, or if nothing could be claimed."""
        if self.failed:
            lines = [
                f"Claim {c.name}: {number_text(c.measured)} {rule_text(c.relation, c.bound)} is not so,"
                " or a control was not caught."
                for c in self.failed
            ]
            raise ClaimFailed(" ".join(lines), self)
        if not self.passed:
            raise ClaimFailed("Nothing could be claimed: no claim has all its hypotheses met.", self)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values; numbers that are not finite become strings."""
        claims = []
        for c in self.claims:
            entry = asdict(c) | {"verdict": c.verdict}
            entry["controls"] = [asdict(k) | {"caught": k.caught} for k in c.controls]
            claims.append(entry)
        return _finite(
            {
                "schema": 1,
                "command": self.command,
                "title": self.title,
                "lead": self.lead,
                "headline": self.headline,
                "repeats": self.repeats,
                "version": self.version,
                "environment": self.environment,
                "interrupted": self.interrupted,
                "given": self.given,
                "problem": self.problem,
                "tables": [asdict(t) for t in self.tables],
                "claims": claims,
                "figures": [asdict(f) for f in self.figures],
            }
        )

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the report as JSON text, and write it (atomically) if a path is given."""
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        if path is not None:
            write_text(path, text + "\n")
        return text

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Report:
        """Read what `to_json` wrote.

        Raises
        ------
        ValueError
            If the file does not exist or is not such a report.
        """
        file = require_file("path", path)
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            claims = []
            for c in data["claims"]:
                c = {k: v for k, v in c.items() if k != "verdict"}
                c["hypotheses"] = tuple(Hypothesis(**h) for h in c["hypotheses"])
                c["controls"] = tuple(Control(k["change"], float(k["measured"]), *_rule(k)) for k in c["controls"])
                bound, relation = _rule(c)
                claims.append(Claim(**(c | {"measured": float(c["measured"]), "bound": bound, "relation": relation})))
            figures = []
            for f in data["figures"]:
                curves = [
                    Curve(**(k | {"x": [float(v) for v in k["x"]], "y": [float(v) for v in k["y"]]}))
                    for k in f["curves"]
                ]
                figures.append(Figure(**(f | {"curves": curves})))
            return cls(
                data["command"],
                data["problem"],
                claims,
                figures,
                data["version"],
                data["environment"],
                data["interrupted"],
                tables=[Table.from_dict(t) for t in data.get("tables", [])],  # older reports have none, nor these words
                **{name: data.get(name, "") for name in ("title", "lead", "headline", "repeats")},
                given=data.get("given"),
            )
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"`path` must be a report written by Report.to_json, got {str(file)!r} ({error})."
            ) from None

    def __rich__(self) -> Any:
        """The tables of numbers and the table of claims, for a rich console; without claims the headline comes first."""
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = [part for table in self.tables for part in (table, "")]
        if self.claims:
            return Group(*parts, self._claims_table())
        letter: list[Any] = [Text(self.headline), ""] if self.headline else []
        return Group(*letter, *parts)

    def _claims_table(self) -> Any:
        from rich.markup import escape
        from rich.table import Table as Grid

        colour = {"passed": "green", "failed": "red", "not claimed": "yellow"}
        table = Grid(show_lines=True, expand=False, highlight=False)
        table.add_column("claim", no_wrap=True)
        table.add_column("statement", ratio=3, min_width=24)
        table.add_column("measured", justify="right", no_wrap=True)
        table.add_column("bound", no_wrap=True)
        table.add_column("verdict", no_wrap=True)
        table.add_column("controls (must break the bound)", ratio=2, min_width=20)
        for c in self.claims:
            unmet = [
                f"[yellow]not met: {escape(h.name)} ({escape(number_text(h.value))})[/]"
                for h in c.hypotheses
                if not h.met
            ]
            why = [f"[red]{escape(c.detail)}[/]"] if c.detail and c.verdict == "failed" else []
            words = {True: " [green]caught[/]", False: " [red]NOT CAUGHT[/]"} if c.claimed else {}
            controls = [f"{escape(k.change)}: {number_text(k.measured)}{words.get(k.caught, '')}" for k in c.controls]
            table.add_row(
                escape(c.name),
                "\n".join([escape(c.statement), *unmet, *why]),
                number_text(c.measured),
                rule_text(c.relation, c.bound),
                f"[{colour[c.verdict]}]{c.verdict}[/]",
                "\n".join(controls),
            )
        return table

    def __str__(self) -> str:
        """The table as plain text, 120 columns wide."""
        from rich.console import Console

        console = Console(
            file=io.StringIO(), width=120, no_color=True, highlight=False, force_terminal=False, force_jupyter=False
        )
        console.print(self)
        return f"{console.file.getvalue()}{self.summary()}"  # type: ignore[attr-defined]

    def summary(self) -> str:
        """One line: how many claims passed, failed, were not claimed."""
        if self.headline and not self.claims and not self.interrupted:
            return "Nothing is claimed."
        counts = {v: sum(c.verdict == v for c in self.claims) for v in ("passed", "failed", "not claimed")}
        text = ", ".join(f"{n} {v}" for v, n in counts.items())
        return f"{text}; {sum(k.caught for k in self.controls)} of {len(self.controls)} controls caught."


def _claim_cells(claim: Claim) -> tuple[str, ...]:
    """Return a claim as a row of texts."""
    unmet = [f"not met: {h.name} ({number_text(h.value)})" for h in claim.hypotheses if not h.met]
    caught = f"{sum(k.caught for k in claim.controls)} of {len(claim.controls)}" if claim.claimed else ""
    rule = rule_text(claim.relation, claim.bound)
    statement = "\n".join([claim.statement, *unmet])
    return claim.name, statement, number_text(claim.measured), rule, claim.verdict, caught


def _rule(entry: Mapping[str, Any]) -> tuple[Bound, Relation]:
    """Return the bound and the relation of a claim or control from JSON."""
    relation, bound = (
        cast(Relation, validation.require_choice("relation", entry["relation"], ("<=", ">=", "in"))),
        entry["bound"],
    )
    if relation == "in":
        low, high = bound
        return (float(low), float(high)), relation
    return float(bound), relation


def _finite(value: Any) -> Any:
    """Return JSON-ready values: numpy scalars unwrapped, numbers that are not finite as strings."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, np.ndarray):
        return _finite(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value
