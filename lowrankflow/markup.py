"""Tables as HTML, for notebooks: no style but sides and dim letters, so that they look as the notebook does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["html_facts", "html_table"]

_LEFT, _RIGHT = "text-align:left;vertical-align:top", "text-align:right;vertical-align:top"
_FIGURES = "font-variant-numeric:tabular-nums"


def html_table(columns: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[bool], caption: str = "") -> str:
    """Return a table as HTML; its texts are escaped.

    Parameters
    ----------
    columns : sequence of str
        The heads.
    rows : iterable of sequences of str
        As many texts as there are columns; lines of a text stay lines.
    words : sequence of bool
        Which columns are text, which stands to the left; numbers stand to the right.
    caption : str
        What stands below it.
    """
    sides = [_LEFT if text else _RIGHT for text in words]
    heads = "".join(f'<th style="{s}">{_text(name)}</th>' for s, name in zip(sides, columns, strict=True))
    lines = [
        "<tr>" + "".join(f'<td style="{s}">{_text(v)}</td>' for s, v in zip(sides, row, strict=True)) + "</tr>"
        for row in rows
    ]
    below = f'<p style="max-width:60em;opacity:.75">{_text(caption)}</p>' if caption else ""
    body = f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div style="overflow-x:auto"><table style="{_FIGURES}">{body}</table></div>{below}'


def html_facts(title: str, facts: Iterable[tuple[str, str]] = ()) -> str:
    """Return names and what is said of them, below a title, as HTML."""
    rows = "".join(
        f'<tr><th style="{_LEFT}">{_text(name)}</th><td style="{_LEFT}">{_text(value)}</td></tr>'
        for name, value in facts
    )
    table = f'<table style="{_FIGURES}"><tbody>{rows}</tbody></table>' if rows else ""
    return f"<p><b>{_text(title)}</b></p>{table}"


def _text(text: str) -> str:
    return escape(text).replace("\n", "<br>")
