"""What the bench found, as rows; printed, or written as JSON and Markdown."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .outcomes import ENDINGS, Outcome

__all__ = ["Row", "by_claim", "by_message", "endings", "failures", "markdown", "planted"]

Row = Mapping[str, Any]
Tried = Mapping[str, tuple[Outcome, frozenset[str]]]  #: by title: what came of it, the claims expected to be made


def endings(tried: Tried) -> list[Row]:
    """Return how the calls ended."""
    counts = Counter(outcome.ended for outcome, _ in tried.values())
    warned = sum(bool(outcome.warnings) for outcome, _ in tried.values())
    failed = sum(bool(outcome.failed) for outcome, _ in tried.values())
    return [{"calls": len(tried), **{e: counts[e] for e in ENDINGS}, "with a failed claim": failed, "with a warning": warned}]


def by_claim(tried: Tried) -> list[Row]:
    """Return the verdicts of each claim, and how many read passed of those whose hypotheses hold by construction."""
    verdicts: dict[str, Counter[str]] = defaultdict(Counter)
    hold: dict[str, list[bool]] = defaultdict(list)
    for outcome, expected in tried.values():
        for claim in outcome.claims:
            verdicts[claim.name][claim.verdict] += 1
        for name in expected:
            found = outcome[name]
            hold[name].append(found is not None and found.verdict == "passed")
    return [
        {
            "claim": name, "passed": counts["passed"], "failed": counts["failed"], "not claimed": counts["not claimed"],
            "hold by construction": len(hold[name]), "of these passed": sum(hold[name]),
            "share": f"{sum(hold[name]) / len(hold[name]):.1%}" if hold[name] else "",
        }
        for name, counts in verdicts.items()
    ]  # fmt: skip


def failures(tried: Tried) -> list[Row]:
    """Return a row for each claim that failed, for each that should have been made and was not, and for each bad end."""
    rows: list[Row] = []
    for title, (outcome, expected) in tried.items():
        for claim in outcome.failed:
            rows.append({"what": "failed", "where": title, "said": str(claim)})
        for name in sorted(expected):
            found = outcome[name]
            if found is None or found.verdict == "not claimed":
                why = outcome.ended if found is None else "; ".join(found.unmet)
                rows.append({"what": "not claimed", "where": title, "said": f"{name}: {why}"})
        if outcome.ended not in ("report", "refused"):
            rows.append({"what": outcome.ended, "where": title, "said": outcome.error or f"while: {outcome.stage}"})
    return rows


def by_message(tried: Tried) -> list[Row]:
    """Return warnings and errors by their words, numbers left out, with how often and where first."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for title, (outcome, _) in tried.items():
        messages = [("warning", text) for text in outcome.warnings]
        messages += [(outcome.ended, outcome.error)] if outcome.error else []
        for what, text in messages:
            found[what, re.sub(r"[-+]?\d[\d.e+-]*", "#", text)].append((title, text))
    rows = [
        {"what": what, "times": len(hits), "first": hits[0][0], "said": hits[0][1]} for (what, _), hits in found.items()
    ]
    return sorted(rows, key=lambda row: (row["what"], -row["times"]))


def planted(
    right: Sequence[Outcome], wrong: Sequence[Outcome], mistakes: Sequence[str], claims: Mapping[str, Sequence[str]]
) -> list[Row]:
    """Return for each mistake and each claim that can see it: where it changed anything, and where the claim then failed.

    The three sequences go together: what came of a problem without a mistake, with it, and which one it was.
    """
    rows = []
    for mistake, names in claims.items():
        trials = [(a, b) for a, b, name in zip(right, wrong, mistakes, strict=True) if name == mistake]
        changed = [(i, a, b) for i, (a, b) in enumerate(trials) if _differs(a, b)]
        for claim in names:
            made = {i: _verdict(b, claim) for i, a, b in changed if _verdict(a, claim) == "passed"}
            others = Counter(made.values())
            caught = others.pop("failed", 0) + others.pop("refused", 0)  # with the reason: no one goes on with it
            rows.append(
                {
                    "mistake": mistake, "claim": claim, "trials": len(trials), "changed": len(made), "failed": caught,
                    "share": f"{caught / len(made):.0%}" if made else "",
                    "else": ", ".join(f"{verdict} {count}" for verdict, count in others.items()),
                    "missed": " ".join(str(i) for i, verdict in made.items() if verdict not in ("failed", "refused")),
                }
            )  # fmt: skip
    return rows


def _verdict(outcome: Outcome, claim: str) -> str:
    found = outcome[claim]
    return outcome.ended if found is None else found.verdict


def _differs(right: Outcome, wrong: Outcome) -> bool:
    """Whether a claim that passes without the mistake has another number or bound with it, or is not made."""
    pairs = [(a, wrong[a.name]) for a in right.claims if a.verdict == "passed"]
    return any(b is None or repr((a.measured, a.bound)) != repr((b.measured, b.bound)) for a, b in pairs)


def markdown(title: str, rows: Iterable[Row]) -> str:
    """Return a table."""
    rows = list(rows)
    if not rows:
        return f"## {title}\n\nNone.\n"
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_cell(v) for v in row.values()] for row in rows)]
    return f"## {title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cell(value: Any) -> str:
    return (f"{value:.3g}" if isinstance(value, float) else str(value)).replace("|", "\\|").replace("\n", " ")
