"""A claim before it is measured: what it says, and the function that measures it, in one place.

`claim` puts the words on the function; what results is called like it and returns a `Claim`. ``--explain``,
docs/claims.md and the table of the README come from the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, ParamSpec

import numpy as np

from .report import Bound, Claim, Control, Figure, Hypothesis, Relation, Report, Table

__all__ = ["Measurement", "Statement", "Words", "claim", "derived", "generator", "measured"]

P = ParamSpec("P")


@dataclass(frozen=True)
class Words:
    """What a claim says, in words.

    Attributes
    ----------
    statement : str
        What is claimed, in one sentence.
    source : str
        The paper, or "derived" with the page of the repository.
    meaning : str
        What is measured, against which bound, and why so.
    hypotheses, controls : str
        What the statement assumes; what is changed to break the bound.
    """

    statement: str
    source: str
    meaning: str
    hypotheses: str
    controls: str


@dataclass(frozen=True)
class Measurement:
    """What was measured of a claim: the number, and all that judges it.

    Attributes
    ----------
    measured : float
        The number.
    relation : {"<=", ">=", "in"}
        How it must stand to `bound`.
    bound : float or (float, float)
        The bound, an interval for "in".
    hypotheses : tuple of Hypothesis
        What the statement assumes, each with the number that decides.
    controls : tuple of Control
        Changed inputs that must break the bound.
    detail : str
        Where the bound comes from, or what else was seen.
    figures, tables : tuple of Figure, Table
        What shows it.
    """

    measured: float
    relation: Relation
    bound: Bound
    hypotheses: tuple[Hypothesis, ...] = ()
    controls: tuple[Control, ...] = ()
    detail: str = ""
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Statement(Generic[P]):
    """A claim that can be measured: its name, its words, its measure; made by `claim`.

    Called with what its measure takes it returns a `Claim`, or None where the measure says that it does not apply.
    """

    name: str
    words: Words
    measure: Callable[P, Measurement | None]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Claim | None:
        found = self.measure(*args, **kwargs)
        return None if found is None else self.judged(found)

    def enter(self, report: Report, found: Measurement | None) -> None:
        """Put what was measured into a report: the claim, and what shows it."""
        if found is not None:
            report.claims.append(self.judged(found))
            report.figures += found.figures
            report.tables += found.tables

    def judged(self, found: Measurement) -> Claim:
        """Return the claim of a measurement."""
        bound = found.bound if isinstance(found.bound, tuple) else float(found.bound)
        return Claim(
            self.name, self.words.statement, self.words.source, float(found.measured), found.relation, bound,
            tuple(found.hypotheses), tuple(found.controls), found.detail,
        )  # fmt: skip


def claim(
    name: str, *, statement: str, source: str, meaning: str, hypotheses: str, controls: str
) -> Callable[[Callable[P, Measurement | None]], Statement[P]]:
    """Put the words of a claim on the function that measures it.

    Parameters
    ----------
    name : str
        Key in the report.
    statement, source, meaning, hypotheses, controls : str
        The `Words`.

    Returns
    -------
    callable
        A decorator: of a function that returns a `Measurement`, or None where the claim does not apply, it makes a
        `Statement`.

    Examples
    --------
    >>> @claim(
    ...     "square", statement="A square is not negative.", source="school", meaning="Measured: x^2.",
    ...     hypotheses="none", controls="minus the square",
    ... )
    ... def square(x):
    ...     return Measurement(x**2, ">=", 0.0, controls=(Control("minus the square", -(x**2), 0.0, ">="),))
    >>> square(3.0).verdict, square.words.controls
    ('passed', 'minus the square')
    """
    return lambda measure: Statement(name, Words(statement, source, meaning, hypotheses, controls), measure)


def measured(claims: Iterable[Statement[P]], *args: P.args, **kwargs: P.kwargs) -> list[Claim]:
    """Return the claims that apply, measured in order."""
    return [found for found in (one(*args, **kwargs) for one in claims) if found is not None]


def derived(anchor: str) -> str:
    """Return the source of what docs/theory.md derives, at a heading there."""
    return f"derived: docs/theory.md#{anchor}"


def generator(seed: int, name: str) -> np.random.Generator:
    """Return the generator of one claim: from a seed and its own name, so that no other claim changes its numbers."""
    return np.random.default_rng([seed, *name.encode()])
