"""A report as one self-contained page: it opens offline, loads nothing, and holds everything the report holds.

The page has no script but a block of data (``<script type="application/json" id="report">``, what `Report.to_json`
writes), and its content policy forbids anything from elsewhere.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from . import plotting
from .files import replacing
from .report import Bound, Cell, Claim, Figure, Relation, Report, Table, Verdict, number_text

__all__ = ["write_html"]

_SVG_LIMIT = 160_000  #: bytes; a larger drawing is embedded as a PNG instead
_DATA_LIMIT = 80  #: values; a figure with more shows no table of them
_SIGNS: dict[Verdict, str] = {"passed": "✓", "failed": "✗", "not claimed": "○"}
_RELATIONS = {"<=": "≤", ">=": "≥", "in": "in"}

#: title and first paragraph (HTML) by what was run
_LEADS = {
    "": ("A lowrankflow report", ""),
    "verify": (
        "Is training the factors a Riemannian gradient flow?",
        "A deep linear network W = W<sub>N</sub> ⋯ W<sub>1</sub> is trained on its factors by gradient flow, and the "
        "Riemannian gradient flow of the same loss is computed on the matrices of fixed rank with the depth-N metric. "
        "The theory says that, from balanced factors, both are the same flow. Here both were computed separately from "
        "one start, and compared.",
    ),
    "compare": (
        "What does the metric do?",
        "The Riemannian gradient flows of one loss under several metrics, on the matrices of fixed rank, from one start. "
        "Each metric has its own clock and its own ruler, so what one cannot choose is set beside what one can: arc "
        "length in the Frobenius norm, singular values against the loss, and the limits, beside time and gradients.",
    ),
}


def write_html(report: Report, path: str | os.PathLike[str]) -> None:
    """Write a report as one self-contained HTML page, whole or not at all.

    Parameters
    ----------
    report : Report
        What to show.
    path : path-like
        The file; replaced if it exists.

    Raises
    ------
    ValueError
        If the file cannot be written.
    """
    data = page(report).encode("utf-8", "replace")  # a file name may hold bytes that are no text
    with replacing(path) as file:
        file.write(data)


def page(report: Report) -> str:
    """Return the page as text."""
    words = report.command.split()[:2]
    kind = next((kind for kind in ("verify", "compare") if any(word.startswith(kind) for word in words)), "")
    title, lead = _LEADS[kind]
    first, others = report.figures[:1], report.figures[1:]
    state: Verdict = "failed" if report.failed else "passed" if report.passed else "not claimed"
    data = json.dumps(report.to_dict(), allow_nan=False, separators=(",", ":"))
    for character in "<>&":  # only ever inside a JSON string, where this is the same character
        data = data.replace(character, f"\\u{ord(character):04x}")
    further = f'<div class="grid">{"".join(map(_figure, others))}</div>'
    further = f'<section id="figures"><h2>Further figures</h2>{further}</section>' if others else ""
    results = "".join(map(_results, report.tables))
    results = f'<section id="tables"><h2>Side by side</h2>{results}</section>' if results else ""
    links = [("problem", "Problem", True), ("picture", "Picture", bool(first)), ("tables", "Tables", bool(results)),
             ("claims", "Claims", True),
             ("figures", "Figures", bool(others)), ("reading", "How to read this page", True),
             ("environment", "Environment", True)]  # fmt: skip
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="generator" content="lowrankflow {escape(report.version)}">
<link rel="icon" href="data:,">
<title>{escape(report.command or title)} · lowrankflow report</title>
<style>{_CSS}</style>
</head>
<body>
<header class="{_slug(state)}">
<p class="kicker">lowrankflow report{f" · <code>{escape(report.command)}</code>" if report.command else ""}</p>
<h1>{escape(title)}</h1>
<p class="verdict"><span class="sign" aria-hidden="true">{_SIGNS[state]}</span> <span>{_sentence(report)}</span></p>
{f'<p class="lead">{lead}</p>' if lead else ""}
<nav aria-label="Sections">{"".join(f'<a href="#{i}">{name}</a>' for i, name, shown in links if shown)}</nav>
</header>
<main>
<section id="problem"><h2>The problem</h2>{_problem(report.problem)}</section>
{"".join(f'<section id="picture">{_figure(f, large=True)}</section>' for f in first)}
{results}
<section id="claims"><h2>The claims</h2>{_overview(report)}{_claims(report)}</section>
{further}
<section id="reading"><h2>How to read this page</h2>{_GLOSSARY}</section>
<section id="environment"><h2>Environment</h2>{_environment(report)}</section>
</main>
<footer><p>Every number of this page, and the points of every figure, stand in the element <code>#report</code> at its
end, as the JSON that <code>Report.to_json</code> writes.</p></footer>
<script type="application/json" id="report">{data}</script>
</body>
</html>
"""


def _slug(verdict: str) -> str:
    return verdict.replace(" ", "-")


def _sentence(report: Report) -> str:
    """Return the verdict on the whole report as one sentence of HTML."""
    claims = list(report)
    controls = [k for c in claims for k in c.controls]
    caught = sum(k.caught for k in controls)
    open_ = [c for c in claims if c.verdict == "not claimed"]
    held = sum(c.verdict == "passed" for c in claims)
    if report.failed:
        names = ", ".join(f'<a href="#claim-{claims.index(c)}">{escape(c.name)}</a>' for c in report.failed)
        text = f"{len(report.failed)} of {_count(len(claims), 'claim')} failed: {names}."
    elif report.passed:
        text = "The one claim holds" if len(claims) == 1 else f"All {held} claims hold"
        if open_:
            text = f"{_count(held, 'claim')} {'holds' if held == 1 else 'hold'}"
        if controls:
            text += f", and {'all' if caught == len(controls) else f'{caught} of'} {_count(len(controls), 'control')} "
            text += f"{'was' if len(controls) == 1 else 'were'} caught"
        text += "."
    else:
        text = "Nothing could be claimed: no claim has all its hypotheses met." if claims else "There are no claims."
        open_ = []
    if open_:
        text += f" {len(open_)} {'is' if len(open_) == 1 else 'are'} not claimed, because a hypothesis is not met."
    if report.interrupted:
        text += " <strong>The run was interrupted</strong>: this is what was computed until then."
    return text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _value(value: Any, digits: int = 6) -> str:
    """Return a value of the problem or a hypothesis as HTML: short for people, in full in its attribute."""
    if value is None:
        return "&ndash;"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return str(value)
    if isinstance(value, (float, np.floating)):
        return _quantity(float(value), f"{value:.{digits}g}")
    return escape(str(value))


def _quantity(value: float, text: str | None = None) -> str:
    """Return a number as HTML: its digits as on the command line, its power of ten raised."""
    mantissa, exponential, exponent = (text or number_text(value)).partition("e")
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else "∞" if value > 0 else "&minus;∞"
    shown = mantissa.replace("-", "&minus;")
    if exponential:
        power = f"10<sup>{int(exponent)}</sup>".replace("-", "&minus;")
        shown = power if mantissa == "1" else f"{shown} &times; {power}"
    return f'<data value="{value!r}">{shown}</data>'


def _bound(relation: Relation, bound: Bound) -> str:
    if isinstance(bound, tuple):
        return f"in [{_quantity(bound[0])}, {_quantity(bound[1])}]"
    return f"{_RELATIONS[relation]} {_quantity(bound)}"


def _problem(problem: Mapping[str, Any]) -> str:
    """Return the problem as tables of definitions: one for each group, one for the values that stand alone."""
    tables: dict[str, dict[str, Any]] = {}
    for key, value in problem.items():
        if isinstance(value, Mapping) and value:
            tables[str(key)] = dict(value)
        elif not isinstance(value, Mapping):
            tables.setdefault("", {})[str(key)] = value
    cards = "".join(_definitions(caption, values) for caption, values in tables.items())
    return f'<div class="cards">{cards}</div>' if cards else "<p>Not recorded.</p>"


def _definitions(caption: str, values: Mapping[str, Any]) -> str:
    rows = "".join(f'<tr><th scope="row">{_key(k)}</th><td>{_nested(v)}</td></tr>' for k, v in values.items())
    head = f"<caption>{_key(caption)}</caption>" if caption else ""
    return f'<table class="definitions">{head}<tbody>{rows}</tbody></table>'


def _key(key: str) -> str:
    return escape(str(key).replace("_", " "))


def _nested(value: Any) -> str:
    """Return any JSON value: groups as tables inside the table, lists in one line, cut after a dozen values."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        if value.keys() == {"met", "value"}:  # a hypothesis
            return f"{_value(value['value'], digits=3)} <b>{'met' if value['met'] else 'not met'}</b>"
        return _definitions("", value)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        if any(isinstance(v, (Mapping, list, tuple)) for v in value):
            return "".join(f"<div>{_nested(v)}</div>" for v in value)
        if len(value) > 2 and all(v == value[0] for v in value):
            return f"{_value(value[0])} ({len(value)} times)"
        shown = ", ".join(_value(v) for v in value[:12]) or "&ndash;"
        return shown if len(value) <= 12 else f"{shown}, … ({len(value)} values)"
    return _value(value)


def _image(subject: Figure | Report, alt: str, **size: float) -> str:
    """Return a picture inside the page: a drawing, or pixels where that would be larger."""
    data, kind = plotting.render(subject, "svg", title=False, **size), "svg+xml"  # type: ignore[arg-type]
    if len(data) > _SVG_LIMIT:
        data, kind = plotting.render(subject, "png", title=False, **size), "png"  # type: ignore[arg-type]
    return f'<img alt="{escape(alt)}" src="data:image/{kind};base64,{base64.b64encode(data).decode("ascii")}">'


def _figure(figure: Figure, large: bool = False) -> str:
    labels = list(dict.fromkeys(c.label for c in figure.curves if c.label))
    count = _count(len(figure.curves), "curve")
    alt = f"Plot of {figure.ylabel} against {figure.xlabel}. {count}: {'; '.join(labels)}."
    size = {"width": 9.4, "height": 4.5} if large else {"width": 6.4, "height": 3.8}
    heading = "h2" if large else "h3"
    return (
        f"<figure><{heading}>{escape(figure.title)}</{heading}>{_image(figure, alt, **size)}"
        f"<figcaption>{escape(figure.caption)}</figcaption>{_data(figure)}</figure>"
    )


def _data(figure: Figure) -> str:
    """Return the numbers behind a figure in a closed fold, if they are few."""
    count = sum(len(c.x) for c in figure.curves)
    if not 0 < count <= _DATA_LIMIT:
        return ""
    rows = "".join(
        f"<tr><td>{escape(c.label)}</td><td>{_quantity(float(x))}</td><td>{_quantity(float(y))}</td></tr>"
        for c in figure.curves
        for x, y in zip(c.x, c.y, strict=False)
    )
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in ("curve", figure.xlabel, figure.ylabel))
    table = f'<table class="data"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f"<details><summary>The {count} points of this figure</summary>{table}</details>"


def _results(table: Table) -> str:
    """Return a table of numbers; on a narrow screen it scrolls by itself."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    rows = "".join(
        f'<tr><th scope="row">{_cell(row[0])}</th>{"".join(f"<td>{_cell(value)}</td>" for value in row[1:])}</tr>'
        for row in table.rows
    )
    return (
        f'<figure class="results"><h3>{escape(table.title)}</h3><div class="scroll" tabindex="0"><table class="numbers">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        f"<figcaption>{escape(table.caption)}</figcaption></figure>"
    )


def _cell(value: Cell) -> str:
    return _quantity(value) if isinstance(value, float) else _value(value)


def _overview(report: Report) -> str:
    if not report.claims:
        return ""
    alt = (
        f"Overview. {report.summary()} Each row is a claim: its marker left of the line keeps the bound; "
        "the diamonds of its controls belong to the right of it. The table below has every number."
    )
    caption = (
        "Every claim on one scale. A claim belongs to the left of the line, where its bound is kept; a control, in "
        "which something was changed on purpose, belongs to the right, where it is broken."
    )
    image = _image(report, alt, width=9.4)
    return f'<figure class="overview">{image}<figcaption>{caption}</figcaption></figure>'


def _claims(report: Report) -> str:
    if not report.claims:
        return "<p>This report has no claims.</p>"
    columns = ("Claim", "Measured", "Bound", "Verdict", "Controls (must break the bound)", "Hypotheses")
    head = "".join(f'<th scope="col" role="columnheader">{c}</th>' for c in columns)
    rows = "".join(_claim(i, c) for i, c in enumerate(report))
    return (
        f'<table class="claims" role="table"><caption>{escape(report.summary())}</caption>'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead><tbody role="rowgroup">{rows}</tbody></table>'
    )


def _claim(index: int, claim: Claim) -> str:
    """Return the row of a claim. The roles keep it a table for a screen reader where a narrow screen stacks it."""
    controls = _items(
        (k.caught, f"{escape(k.change)}: {_quantity(k.measured)}", "caught" if k.caught else "not caught")
        for k in claim.controls
    )
    hypotheses = _items(
        (h.met, f"{escape(h.name)}: {_value(h.value, digits=3)}", "met" if h.met else "not met")
        for h in claim.hypotheses
    )
    why = ""
    if claim.verdict == "failed":
        broken = "the measurement is not a number" if math.isnan(claim.measured) else "the bound is broken"
        why = f'<p class="note">{"a control was not caught" if claim.holds else broken}</p>'
    elif claim.verdict == "not claimed":
        why = '<p class="note">a hypothesis is not met</p>'
    detail = f'<p class="note">{escape(claim.detail)}</p>' if claim.detail else ""
    cells = [
        ("Measured", f'<span class="number">{_quantity(claim.measured)}</span>'),
        ("Bound", f'<span class="number">{_bound(claim.relation, claim.bound)}</span>'),
        (
            "Verdict",
            f'<span class="badge {_slug(claim.verdict)}"><span aria-hidden="true">{_SIGNS[claim.verdict]}</span> '
            f"{claim.verdict}</span>{why}",
        ),
        ("Controls", controls),
        ("Hypotheses", hypotheses),
    ]
    return (
        f'<tr id="claim-{index}" role="row" class="{_slug(claim.verdict)}"><th scope="row" role="rowheader">'
        f"<code>{escape(claim.name)}</code><p>{escape(claim.statement)}</p>{detail}"
        f'<p class="note">Source: {escape(claim.source)}</p></th>'
        + "".join(f'<td role="cell" data-label="{label}"><div>{text}</div></td>' for label, text in cells)
        + "</tr>"
    )


def _items(items: Iterable[tuple[bool, str, str]]) -> str:
    rows = "".join(f'<li class="{"good" if good else "bad"}">{text} <b>{word}</b></li>' for good, text, word in items)
    return f"<ul>{rows}</ul>" if rows else '<span class="note">none</span>'


def _environment(report: Report) -> str:
    values = {"lowrankflow": report.version or None, **report.environment}
    return f'<div class="cards">{_definitions("", values)}</div>'


_GLOSSARY = """<dl>
<dt>Claim</dt><dd>One statement that can be wrong, with the number that was measured and the bound it must keep.
How it is set stands beneath the statement, and in docs/claims.md; those of verify are also in
<code>lowrankflow verify --explain CLAIM</code>.</dd>
<dt>Control</dt><dd>The same measurement after something was changed on purpose so that the statement becomes false.
It must break the bound. A control that is <em>caught</em> shows that the check can fail; one that is <em>not
caught</em> means that the check proves nothing, and the claim fails with it.</dd>
<dt>Hypothesis</dt><dd>What the statement assumes of the problem, with the number that decides whether it is
met.</dd>
<dt><span class="badge passed"><span aria-hidden="true">✓</span> passed</span></dt><dd>All hypotheses are met, the
bound is kept, and every control is caught.</dd>
<dt><span class="badge failed"><span aria-hidden="true">✗</span> failed</span></dt><dd>All hypotheses are met, but
the bound is broken or a control is not caught. A measurement that is not a number never keeps a bound.</dd>
<dt><span class="badge not-claimed"><span aria-hidden="true">○</span> not claimed</span></dt><dd>A hypothesis is not
met, so the theory says nothing about this problem. The number is shown for interest; it neither supports nor
contradicts the theory.</dd>
<dt>The pictures</dt><dd>One look for one role in all of them: a blue line is one side of the comparison and dark
rings on top are the other; purple is a difference between them, dotted grey a bound, dash-dotted grey a slope or a
time to compare with, vermillion a control. Where many are compared, each has a colour, dashes and a marker of its own,
the same in all pictures.</dd>
<dt>The overview</dt><dd>Places every measurement relative to its bound: measured / bound for ≤, bound / measured
for ≥, and for an interval the distance from its centre over half its width. 1 is the bound. An arrow marks a value
beyond the axis.</dd>
</dl>"""

_CSS = """
:root{color-scheme:light dark;--page:#fff;--ink:#1f2328;--muted:#59636e;--line:#d8dde3;--soft:#f5f7f9;--link:#005a9c;
--good:#00664b;--good-bg:#e0f3ec;--bad:#a0002a;--bad-bg:#fde8ec;--open:#4a535c;--open-bg:#e9ecef}
@media (prefers-color-scheme:dark){:root{--page:#14181d;--ink:#e4e8ec;--muted:#a0abb6;--line:#353d46;--soft:#1c2229;
--link:#7cc0f5;--good:#7fdcbc;--good-bg:#0e3a2d;--bad:#ff9db0;--bad-bg:#4a1420;--open:#c3ccd5;--open-bg:#333b44}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0 auto;padding:2.5rem 1.5rem 3rem;max-width:73rem;background:var(--page);color:var(--ink);
font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Liberation Sans",Arial,sans-serif}
h1,h2,h3{line-height:1.2;text-wrap:balance;font-family:"Iowan Old Style",Charter,"Palatino Linotype",Georgia,
"Liberation Serif",serif;font-weight:600}
h1{font-size:clamp(1.8rem,4.5vw,2.6rem);margin:.2rem 0 1.2rem}
h2{font-size:1.55rem;margin:0 0 1rem}
h3{font-size:1.15rem;margin:0 0 .7rem}
p{margin:.3rem 0}
a{color:var(--link)}
code{font:.88em/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;overflow-wrap:anywhere}
sup,sub{font-size:.72em;line-height:0}
data{white-space:nowrap}
section{margin-top:3.2rem;scroll-margin-top:1rem}
.kicker{color:var(--muted);font-size:.92rem;margin:0}
.verdict{display:flex;gap:.7rem;align-items:baseline;font-size:1.2rem;line-height:1.4;padding:.8rem 1.1rem;
border-radius:.5rem;border-left:.35rem solid;overflow-wrap:anywhere}
.verdict .sign{font-weight:700;flex:none}
.verdict span{min-width:0}
.verdict a{color:inherit}
.passed .verdict,.badge.passed{color:var(--good);background:var(--good-bg)}
.failed .verdict,.badge.failed{color:var(--bad);background:var(--bad-bg)}
.not-claimed .verdict,.badge.not-claimed{color:var(--open);background:var(--open-bg)}
.lead{max-width:48rem;margin:1.2rem 0;color:var(--muted)}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1.3rem;margin-top:1.3rem;font-size:.95rem}
figure{margin:0;min-width:0}
img{display:block;width:100%;height:auto;background:#fff;padding:.8rem;border:1px solid var(--line);border-radius:.5rem}
figcaption{color:var(--muted);font-size:.93rem;margin-top:.6rem;max-width:48rem;overflow-wrap:anywhere}
.overview{margin-bottom:1.8rem}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(27rem,100%),1fr));gap:2.4rem 2rem}
.cards{columns:2 26rem;column-gap:2.5rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums lining-nums;width:100%}
.definitions{table-layout:fixed;overflow-wrap:anywhere;font-size:.95rem;margin-bottom:1.3rem;break-inside:avoid}
.definitions caption{text-align:left;font-weight:600;padding:.2rem 0 .3rem}
.definitions th{text-align:left;font-weight:400;color:var(--muted);width:11rem;padding:.28rem 1rem .28rem 0}
.definitions td{padding:.28rem 0;overflow-wrap:anywhere}
.definitions th,.definitions td{vertical-align:top;border-top:1px solid var(--line)}
.definitions .definitions{margin:0;font-size:1em}
.definitions .definitions th{width:7rem}
.definitions .definitions tr:first-child>*{border-top:0}
.definitions .definitions{margin-top:-.28rem}
.definitions div+div{margin-top:.6rem;padding-top:.3rem;border-top:1px solid var(--line)}
.results{margin-bottom:2.2rem}
.scroll{overflow-x:auto}
.numbers{font-size:.95rem}
.numbers thead th{font-size:.85rem;color:var(--muted);font-weight:600;vertical-align:bottom;
border-bottom:2px solid var(--line)}
.numbers th,.numbers td{padding:.35rem 0 .35rem 1rem;text-align:right;border-bottom:1px solid var(--line)}
.numbers th:first-child{padding-left:0;text-align:left}
.numbers tbody th{font-weight:600}
.claims{font-size:.92rem}
.claims caption{text-align:left;color:var(--muted);padding-bottom:.6rem}
.claims thead th{text-align:left;font-size:.8rem;color:var(--muted);font-weight:600;padding:.4rem .8rem .4rem 0;
border-bottom:2px solid var(--line);vertical-align:bottom}
.claims td,.claims tbody th{vertical-align:top;text-align:left;padding:.8rem .9rem .8rem 0;
border-bottom:1px solid var(--line);overflow-wrap:anywhere}
.claims tbody th{font-weight:400;width:30%}
.claims td:nth-child(5){width:19%}
.claims td:nth-child(6){width:19%}
.claims tbody th code{font-weight:700;font-size:.95rem}
.claims tr:target{background:var(--soft)}
.number{white-space:nowrap}
.note{color:var(--muted);font-size:.85rem;overflow-wrap:anywhere}
.badge{display:inline-block;white-space:nowrap;font-weight:600;font-size:.88rem;padding:.1rem .55rem;border-radius:1rem}
.claims ul{list-style:none;margin:0;padding:0}
.claims li{margin-bottom:.35rem}
.claims li b{white-space:nowrap}
.good b{color:var(--good)}
.bad b{color:var(--bad)}
details{margin-top:.5rem;font-size:.9rem}
summary{cursor:pointer;color:var(--link)}
.data th,.data td{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid var(--line);
overflow-wrap:anywhere}
dl{max-width:52rem;display:grid;grid-template-columns:9rem 1fr;gap:.8rem 1.5rem;margin:0}
dt{font-weight:600}
dd{margin:0}
footer{margin-top:3.5rem;border-top:1px solid var(--line);padding-top:1rem;color:var(--muted);font-size:.88rem}
@media (max-width:56rem){
.claims,.claims tbody,.claims tr,.claims caption{display:block}
.claims thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.claims tr{border-bottom:2px solid var(--line);padding:1rem 0}
.claims td:nth-child(n){width:auto}
.claims tbody th{display:block;width:auto;border:0;padding:0 0 .6rem}
.claims td{display:grid;grid-template-columns:6.5rem 1fr;border:0;padding:.25rem 0}
.claims td::before{content:attr(data-label);color:var(--muted)}
}
@media (max-width:36rem){
body{padding:1.5rem 1rem}
dl{grid-template-columns:1fr;gap:.2rem}
dd{margin-bottom:.8rem}
img{padding:.3rem}
.definitions th{width:8rem}
}
@media print{
:root{color-scheme:light;--page:#fff;--ink:#000;--muted:#444;--line:#bbb;--soft:#fff;--link:#000;--good:#00553f;--bad:#8a0024;
--open:#333;--good-bg:#e0f3ec;--bad-bg:#fde8ec;--open-bg:#e9ecef}
body{max-width:none;padding:0;font-size:9.5pt}
nav{display:none}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
h2,h3{break-after:avoid}
figure,.claims tr,dt,dd{break-inside:avoid}
section{margin-top:1.6rem}
}
"""
