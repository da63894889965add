"""One call of the library, and all that came of it."""

from __future__ import annotations

import re
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lowrankflow.compare import Interrupted
from lowrankflow.report import Claim, Report

__all__ = ["Outcome", "Seen", "Watch", "judged"]

ENDINGS = ("report", "refused", "raised", "slow", "hung", "crashed")

#: Refusals that a docstring announces: a ValueError of these words, before anything was integrated, is an answer. What else
#: is raised is a fault of the library.
REFUSALS = (
    r"^`loss\.value\(w\)` must be finite at (the |`)start",
    r"^`loss(\.gradient\(w\))?` must be finite at (the|`)start",
    r"^`loss\.gradient\(w\)` must be finite at the start",
    r"^`loss` must be curved at `start` to set a unit of time",
    r"^`loss` must be positive to be followed",
    r"^`start` .*(critical point|gradient is zero)",
    r"^`(start|rank|inputs)` .*samples",
    r"^`(start|rank|depth|widths)` .*(sign of the determinant|determinant)",
    r"^`start` must not exceed the rank of the inputs",
    r"^`\w+` must (stay below|reach) \S+ in size",
    r"^`rank` must be at least 1, got the zero matrix",
    r"^`metrics` must name each metric once",
    r"^`metric` must have a symmetric mix",
)


@dataclass(frozen=True)
class Seen:
    """A claim as a report had it."""

    name: str
    verdict: str
    measured: float
    bound: Any
    holds: bool
    unmet: tuple[str, ...]  #: hypotheses, each with its number
    missed: tuple[str, ...]  #: controls that were not caught, each with its number

    @classmethod
    def of(cls, claim: Claim) -> Seen:
        return cls(
            claim.name, claim.verdict, claim.measured, claim.bound, claim.holds,
            tuple(f"{h.name} ({h.value})" for h in claim.hypotheses if not h.met),
            tuple(f"{k.change}: {k.measured:.3g}" for k in claim.controls if not k.caught),
        )  # fmt: skip

    def __str__(self) -> str:
        missed = "" if not self.missed else "; not caught: " + ", ".join(self.missed)
        return f"{self.name} {self.verdict}: {self.measured:.3g} against {self.bound}{missed}"


@dataclass(frozen=True)
class Outcome:
    """What came of a call."""

    ended: str  #: one of `ENDINGS`
    claims: tuple[Seen, ...] = ()
    warnings: tuple[str, ...] = ()
    error: str = ""  #: type, message and the place in the library
    stage: str = ""  #: what was being done when it ended otherwise than by a report
    seconds: float = 0.0  #: of the processor
    about: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Seen | None:
        return next((c for c in self.claims if c.name == name), None)

    def only(self, names: Iterable[str]) -> Outcome:
        """Return the same with the claims of some names alone."""
        return replace(self, claims=tuple(c for c in self.claims if c.name in set(names)))

    @property
    def failed(self) -> list[Seen]:
        return [c for c in self.claims if c.verdict == "failed"]

    @property
    def clean(self) -> bool:
        """Whether nothing lied, warned, broke or hung. A true claim that is not made is no lie; see `expected`."""
        return not self.failed and not self.warnings and self.ended in ("report", "refused", "slow")


class TimeUp(KeyboardInterrupt):
    """The processor time of a call is spent: the library takes it for Ctrl-C and keeps the claims so far."""


class Watch:
    """The progress callback: passes signs of life on, and stops what takes too long."""

    def __init__(self, limit: float, alive: Callable[[str], None] = lambda stage: None) -> None:
        self._limit, self._alive, self._start, self.stage = limit, alive, time.process_time(), ""

    @property
    def seconds(self) -> float:
        return time.process_time() - self._start

    def __call__(self, stage: str, fraction: float) -> None:
        self.stage = stage
        self._alive(stage)
        if self.seconds > self._limit:
            raise TimeUp


def judged(call: Callable[[Watch], Report], watch: Watch) -> Outcome:
    """Return what came of a call that returns a report."""
    report, error, ended = None, "", "report"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            report = call(watch)
        except Interrupted as stopped:
            report, ended = stopped.report, "slow"
        except TimeUp:
            ended = "slow"
        except Exception as raised:
            ended, error = "refused" if is_refusal(raised) else "raised", told(raised)
    claims = () if report is None else tuple(map(Seen.of, report.claims))
    seen = dict.fromkeys(f"{w.category.__name__}: {w.message} ({place(w.filename, w.lineno)})" for w in caught)
    time_ = {} if report is None else report.problem.get("time", {})
    return Outcome(ended, claims, tuple(seen), error, "" if ended == "report" else watch.stage, watch.seconds, time_)


def is_refusal(raised: Exception) -> bool:
    """Return whether it is a refusal that is documented."""
    return isinstance(raised, (ValueError, TypeError)) and any(re.match(r, str(raised), re.DOTALL) for r in REFUSALS)


def told(raised: Exception) -> str:
    """Return type, message and the last places in the library that an exception came through."""
    frames = [f for f in traceback.extract_tb(raised.__traceback__) if "lowrankflow" in Path(f.filename).parts]
    where = " < ".join(f"{place(f.filename, f.lineno or 0)} {f.name}" for f in reversed(frames[-4:]))
    return f"{type(raised).__name__}: {raised} ({where})"


def place(filename: str, line: int) -> str:
    """Return a file below its package, and the line."""
    parts = Path(filename).parts
    known = [i for i, part in enumerate(parts) if part in ("lowrankflow", "numpy", "scipy", "autograd", "benchmarks")]
    return f"{'/'.join(parts[known[-1] :] if known else parts[-1:])}:{line}"
