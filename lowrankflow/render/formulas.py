"""Formulas of a text as MathML, which browsers typeset by themselves: nothing is loaded.

A text keeps its words; what is typeset are letters with scripts (``W_{j+1}^T``, ``sigma_r``, ``||Z||_F^2``), the letters
that the theory uses alone (W, X, N, t), and relations (``<=``). What stands between backticks is code.
"""

from __future__ import annotations

import re

from markupsafe import Markup, escape

__all__ = ["typeset"]

_GREEK = {"sigma": "σ", "lambda": "λ", "mu": "μ", "eta": "η", "tau": "τ", "kappa": "κ", "eps": "ε", "delta": "δ"}
_NAMED = {**{name: f"<mi>{letter}</mi>" for name, letter in _GREEK.items()}, "sum": "<mo>∑</mo>", "||": "<mo>‖</mo>"}
_SIGNS = {"<=": "≤", ">=": "≥", "->": "→", "||": "‖"}
_SUB = r"_(?:\{(?P<sub>[^{}]*)\}|(?P<bare>[A-Za-z0-9]{1,2})(?![A-Za-z0-9_]))"
_SUP = r"\^(?:\{(?P<sup>[^{}]*)\}|\((?P<bracket>[^()]*)\)|(?P<power>-?[A-Za-z0-9]{1,2})(?![A-Za-z0-9]))"
_BASE = rf"(?<![\w`.])(?:{'|'.join(_GREEK)}|sum|lift|grad|[A-Za-z])(?=[_^])|\|\|(?=[_^])"
_PARTS = re.compile(
    rf"`(?P<code>[^`]*)`|(?P<base>{_BASE})(?:{_SUB})?(?:{_SUP})?(?!\.\w)"
    rf"|(?<![\w'’.-])(?P<greek>sigma|lambda|mu|kappa)(?![\w-])"
    r"|(?<![\w'’./-])(?P<letter>[WXYZGNUVJ]|L(?=\()|[trhk](?=[ ,;:)=]))(?![\w.]\w|[\w-])"
    r"|(?P<sign><=|>=|->|\|\|)|(?<=\d)(?P<times> x )(?=\d)"
)


def typeset(text: str) -> Markup:
    """Return a text with its formulas as MathML, its code as code, and all else escaped."""
    made, end = [], 0
    for found in _PARTS.finditer(text):
        made += [escape(text[end : found.start()]), _part(found)]
        end = found.end()
    return Markup("").join([*made, escape(text[end:])])


def _part(found: re.Match[str]) -> Markup:
    if found["code"] is not None:
        return Markup("<code>{}</code>").format(found["code"])
    if found["sign"]:
        return Markup(_SIGNS[found["sign"]])
    if found["times"]:
        return Markup(" × ")
    alone = found["greek"] or found["letter"]
    base = alone or found["base"]
    sub, sup = (_first(found, names) for names in (("sub", "bare"), ("sup", "bracket", "power")))
    if not alone and sub is None and sup is None:
        return escape(found[0])
    shown = _NAMED.get(base, f"<mi>{base}</mi>")
    parts = [shown, *(_row(text) for text in (sub, sup) if text is not None)]
    kind = {(True, True): "msubsup", (True, False): "msub", (False, True): "msup"}.get(
        (sub is not None, sup is not None)
    )
    inside = f"<{kind}>{''.join(parts)}</{kind}>" if kind else shown
    return Markup(f"<math>{inside}</math>")  # letters, digits and signs of _row alone


def _first(found: re.Match[str], names: tuple[str, ...]) -> str | None:
    return next((found[name] for name in names if found[name] is not None), None)


def _row(text: str) -> str:
    """Return what stands in a script: letters, numbers and signs."""
    parts = []
    for token in re.findall(r"\d+(?:\.\d+)?|[A-Za-z]+|\S", text):
        if token[0].isdigit():
            parts.append(f"<mn>{token}</mn>")
        elif token in _GREEK:
            parts.append(_NAMED[token])
        elif token.isalpha():
            parts += [f"<mi>{letter}</mi>" for letter in token]
        else:
            parts.append(f"<mo>{escape('−' if token == '-' else token)}</mo>")
    return f"<mrow>{''.join(parts)}</mrow>"
