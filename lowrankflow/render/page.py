"""A report as one self-contained page: it opens offline, loads nothing, and holds everything the report holds.

The page has no script but a block of data (``<script type="application/json" id="report">``, what `Report.to_json`
writes), and its content policy forbids anything from elsewhere. Its parts are the templates, the style sheet and the
glossary beside this file; here are the words for numbers and values in them.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from ..files import replacing
from ..report import Cell, Claim, Report, Verdict, number_text
from .formulas import typeset
from .pictures import Picture, pictures_of
from .words import MEANINGS

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["to_html", "write_html"]

_SVG_LIMIT = 160_000  #: bytes; a larger drawing is embedded as a PNG instead
_LISTED = 12  #: values of a list that are shown
_SIGNS: dict[Verdict, str] = {"passed": "✓", "failed": "✗", "not claimed": "○"}
_RELATIONS = {"<=": "≤", ">=": "≥", "in": "in"}


def write_html(report: Report, path: str | os.PathLike[str], *, pictures: Mapping[str, Picture] | None = None) -> None:
    """Write a report as one self-contained HTML page, whole or not at all.

    Parameters
    ----------
    report : Report
        What to show.
    path : path-like
        The file; replaced if it exists.
    pictures : mapping, optional
        What `lowrankflow.render.pictures_of` returned for this report, so that nothing is drawn again; None: drawn here.

    Raises
    ------
    ValueError
        If the file cannot be written.
    """
    data = to_html(report, pictures=pictures).encode("utf-8", "replace")  # a file name may hold bytes that are no text
    with replacing(path) as file:
        file.write(data)


def to_html(report: Report, *, pictures: Mapping[str, Picture] | None = None) -> str:
    """Return the page of a report as text; `pictures` as in `write_html`."""
    overview, *drawn = (pictures_of(report) if pictures is None else pictures).values()
    return (
        _templates()
        .get_template("page.html.j2")
        .render(
            report=report,
            overview=overview,
            figures=list(zip(report.figures, drawn, strict=True)),
            environment={"lowrankflow": report.version or None, **report.environment, **report.run},
        )
    )


@cache
def _templates() -> Environment:
    """Return the templates of the page; text is never markup in them, and what is not there an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("lowrankflow", "render")
    made = Environment(loader=loader, undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made.globals |= {"formulas": ("loss", "meaning", "ended by"), "signs": _SIGNS, "zip": zip}
    made.tests |= {"deep": _is_deep, "hypothesis": _is_hypothesis}
    made.filters |= {
        "cell": _cell, "count": _count, "formula": typeset, "groups": _groups, "json": _json, "meaning": _meaning,
        "number": _number, "rule": _rule, "said": _said, "slug": _slug, "source": _source, "tab": _tab,
        "value": _value, "words": _words,
    }  # fmt: skip
    return made


def _slug(verdict: str) -> str:
    return verdict.replace(" ", "-")


def _words(key: str) -> str:
    return str(key).replace("_", " ")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _said(value: float | str) -> str:
    """Return the value of a hypothesis: a number short, words with their formulas."""
    return typeset(value) if isinstance(value, str) else _value(value, 3)


def _meaning(key: str) -> str:
    """Return what a word of the problem means, where that is not plain."""
    return MEANINGS.get(_words(key), "")


def _tab(report: Report) -> str:
    """Return what a report is of and how it went: data, depth, rank and, where something is claimed, the verdict."""
    data = report.problem.get("data")
    name = data.get("name") if isinstance(data, Mapping) else None
    numbers = [f"{key} {report.problem[key]}" for key in ("depth", "rank") if isinstance(report.problem.get(key), int)]
    verdict = [report.verdict] if report.claims or not report.headline else []
    return ", ".join([*([str(name)] if name else []), *numbers, *verdict, *["interrupted"] * report.interrupted])


def _number(value: float, text: str | None = None) -> Markup:
    """Return a number in HTML, in full in its attribute: its digits as on the command line, its power of ten raised."""
    if not math.isfinite(value):
        return Markup("nan" if math.isnan(value) else "∞" if value > 0 else "−∞")
    mantissa, exponential, exponent = (text or number_text(value)).partition("e")
    shown = Markup(mantissa)
    if exponential:
        power = Markup("10<sup>{}</sup>").format(int(exponent))
        shown = power if mantissa == "1" else Markup("{} × {}").format(mantissa, power)
    return Markup('<data value="{!r}">{}</data>').format(float(value), shown.replace("-", "−"))


def _rule(claim: Claim) -> Markup:
    """Return the relation and the bound of a claim."""
    if isinstance(claim.bound, tuple):
        return Markup("in [{}, {}]").format(*map(_number, claim.bound))
    return Markup("{} {}").format(_RELATIONS[claim.relation], _number(claim.bound))


def _cell(value: Cell) -> str:
    if isinstance(value, str):
        return typeset(value)
    return _number(value) if isinstance(value, float) else _value(value)


def _value(value: Any, digits: int = 6) -> str:
    """Return a value of a problem: numbers short, lists in one line, cut after a dozen."""
    if value is None:
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return _number(float(value), f"{value:.{digits}g}")
    if isinstance(value, np.ndarray):
        return _value(value.tolist(), digits)
    return _line(value) if _is_list(value) else str(value)


def _line(values: Sequence[Any]) -> Markup:
    """Return a list in one line."""
    if len(values) > 2 and all(v == values[0] for v in values):
        return Markup("{} ({} times)").format(_value(values[0]), len(values))
    shown = Markup(", ").join(map(_value, values[:_LISTED])) or Markup("–")
    return shown if len(values) <= _LISTED else Markup("{}, … ({} values)").format(shown, len(values))


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _is_deep(value: Any) -> bool:
    """Whether a value is a list of groups or of lists."""
    values = value.tolist() if isinstance(value, np.ndarray) else value
    return _is_list(values) and any(isinstance(v, (Mapping, list, tuple)) for v in values)


def _is_hypothesis(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() == {"met", "value"}


def _groups(problem: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return what stands together under a caption; what stands alone has none, and its place where the first stood."""
    groups: dict[str, dict[str, Any]] = {}
    for key, value in problem.items():
        if isinstance(value, Mapping) and value:
            groups[str(key)] = dict(value)
        elif not isinstance(value, Mapping):
            groups.setdefault("", {})[str(key)] = value
    return list(groups.items())


def _json(value: Any) -> Markup:
    """Return JSON that ends no element: <, > and & are only ever inside of a string, where they can be escaped."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _source(picture: Picture) -> str:
    """Return a picture as an address that holds it: a drawing, or pixels where that would be larger."""
    data, kind = picture.svg(title=False), "svg+xml"
    if len(data) > _SVG_LIMIT:
        data, kind = picture.png(title=False), "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
