"""Do the verdicts lie? Random problems, planted mistakes, and the checks of what users bring.

Five parts, all by default:

- problems: `verify_equivalence` on random problems. No claim may fail (all of them are theorems), nothing may warn, break or
  hang; and where the hypotheses of a claim hold by construction it has to be made: 95 % at least read "passed".
- faults: mistakes planted in the library, each on problems on which the claim passes without it. Where a mistake changes a
  measured number, the claims that can see it have to read "failed", in 95 % at least.
- checks: `check_loss`, `check_metric`, `check_manifold` on right and on wrong losses, metrics and manifolds.
- compare: `compare_metrics` on the same random problems.
- rest: flows that start where nothing moves, under every method.

Each problem follows from its number and the seed: ``--only 137`` tries that one alone, and shows all that came of it.
The exit status is 0 where nothing lied.

    python benchmarks/verdicts.py --quick                        # a few of each, here, a few minutes
    python benchmarks/verdicts.py --workers 2                    # 200 problems, 50 for each mistake
    python benchmarks/verdicts.py --problems 2000 --workers 2    # overnight
"""

from __future__ import annotations

from measure import table  # isort: skip  # sets one thread before numpy loads

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from trials import tables
from trials.faults import FAULTS, verify
from trials.inputs import WRONG, call
from trials.outcomes import Outcome
from trials.problems import Problem, draw, plain
from trials.workers import Task, run

PARTS = ("problems", "faults", "checks", "compare", "rest")
SHARE = 0.95  # of the claims that have to be made, and of the mistakes that have to be caught


@dataclass(frozen=True)
class Bench:
    """How much is tried, and how."""

    problems: int = 200
    each: int = 50  #: problems for each mistake
    checks: int = 100  #: of each kind
    seed: int = 0
    workers: int = 0
    limit: float = 120.0  #: seconds of the processor for one call
    silence: float = 120.0  #: seconds without a sign of life after which a call hangs
    faults: tuple[str, ...] = tuple(FAULTS)

    def run(self, part: str, tasks: Sequence[Task]) -> list[Outcome]:
        """Return what came of each task, in their order."""
        found: list[Outcome | None] = [None] * len(tasks)
        began = time.monotonic()
        for done, (i, outcome) in enumerate(run(tasks, self.workers, self.silence), 1):
            found[i] = outcome
            if sys.stderr.isatty() or done % 50 == 0 or done == len(tasks):
                print(f"\r{part}: {done} of {len(tasks)}, {time.monotonic() - began:.0f} s", end="", file=sys.stderr)
        print(file=sys.stderr)
        return [outcome for outcome in found if outcome is not None]

    def tried(self, part: str) -> dict[str, tuple[Outcome, frozenset[str]]]:
        """Return what came of right inputs, by a title that says which, with the claims that have to be made."""
        titles: list[str] = []
        tasks: list[Task] = []
        expected: list[frozenset[str]] = []
        if part == "problems":
            for problem in (draw(i, self.seed) for i in range(self.problems)):
                titles.append(f"{problem.number}: {problem}")
                tasks.append(partial(verify, problem, self.limit, None, None))
                expected.append(problem.expected)
        else:
            verbs = {"checks": ("check_loss", "check_metric", "check_manifold"), "compare": ("compare_metrics",),
                     "rest": ("integrate",)}[part]  # fmt: skip
            for verb in verbs:
                for i in range(self.checks):
                    problem = draw(i, self.seed)
                    titles.append(f"{verb} {i}" + (f": {problem}" if part != "rest" else ""))
                    tasks.append(partial(call, verb, problem, self.limit, None))
                    expected.append(frozenset())
        return dict(zip(titles, zip(self.run(part, tasks), expected, strict=True), strict=True))

    def planted(self) -> list[tables.Row]:
        """Return what became of the mistakes planted in the library."""
        pairs = [(f, f.on(p)) for f in map(FAULTS.__getitem__, self.faults) for p in self.fit(f.applies, deepest=5)]
        seen: dict[Problem, tuple[str, ...]] = {}  # by the problem: the claims of all its mistakes, measured once
        for fault, problem in pairs:
            seen[problem] = tuple(dict.fromkeys((*seen.get(problem, ()), *fault.claims)))
        once = self.run("without mistakes", [partial(verify, p, self.limit, names, None) for p, names in seen.items()])
        right = dict(zip(seen, once, strict=True))
        wrong = self.run("planted", [partial(verify, p, self.limit, f.claims, f.name) for f, p in pairs])
        return tables.planted(
            [right[p].only(f.claims) for f, p in pairs], wrong, [f.name for f, _ in pairs],
            {name: FAULTS[name].claims for name in self.faults},
        )  # fmt: skip

    def wrong(self) -> list[tables.Row]:
        """Return what became of wrong losses, metrics and manifolds."""
        pairs = [(name, p) for name, w in WRONG.items() for p in self.fit(w.applies)]
        seen = list(dict.fromkeys((WRONG[name].verb, p) for name, p in pairs))
        once = self.run("right inputs", [partial(call, verb, p, self.limit, None) for verb, p in seen])
        right = dict(zip(seen, once, strict=True))
        wrong = self.run("wrong inputs", [partial(call, WRONG[name].verb, p, self.limit, name) for name, p in pairs])
        return tables.planted(
            [right[WRONG[name].verb, p] for name, p in pairs], wrong, [name for name, _ in pairs],
            {name: w.claims for name, w in WRONG.items()},
        )  # fmt: skip

    def fit(self, applies: Callable[[Problem], bool], deepest: int = 20) -> list[Problem]:
        """Return the first plain problems on which a mistake can be made; those of deep networks take long."""
        candidates = (plain(number, self.seed) for number in range(100 * self.each))
        return list(islice((p for p in candidates if p.depth <= deepest and applies(p)), self.each))


def survey(bench: Bench, parts: Sequence[str]) -> dict[str, list[tables.Row]]:
    """Return all tables of the parts, by their titles."""
    found: dict[str, list[tables.Row]] = {}
    for part in parts:
        if part == "faults":
            found["Planted mistakes"] = bench.planted()
            continue
        tried = bench.tried(part)
        found |= {
            f"{part}: how they ended": tables.endings(tried),
            f"{part}: verdicts": tables.by_claim(tried),
            f"{part}: warnings and errors": tables.by_message(tried),
            f"{part}: failures": tables.failures(tried),
        }
        if part == "checks":
            found["Wrong losses, metrics and manifolds"] = bench.wrong()
    return found


def lies(found: dict[str, list[tables.Row]]) -> list[str]:
    """Return what of the tables is not as it has to be, in words."""
    said = []
    for title, rows in found.items():
        for row in rows:
            if title.endswith("how they ended"):
                bad = {k: row[k] for k in ("raised", "hung", "crashed", "with a failed claim", "with a warning") if row[k]}
                said += [f"{title}: {count} {what}" for what, count in bad.items()]
            if title.endswith("verdicts") and row["of these passed"] < SHARE * (row["hold by construction"] or 0):
                said.append(f"{title}: {row['claim']} passed in {row['share']} of where it has to")
            if "mistake" in row and row["failed"] < SHARE * row["changed"]:
                said.append(f"{title}: {row['mistake']} was seen by {row['claim']} in {row['share']}")
    return said


def show(problem: Problem, limit: float) -> None:
    """Print all that came of one problem."""
    print(problem)
    outcome = verify(problem, limit, None, None, lambda stage: None)
    print(f"{outcome.ended} after {outcome.seconds:.1f} s {outcome.stage} {outcome.error}", *outcome.warnings, sep="\n")
    for claim in outcome.claims:
        print(claim, *(f"  unmet: {h}" for h in claim.unmet), sep="\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, nargs="+", default=PARTS, help="which parts (default: all)")
    parser.add_argument("--problems", type=int, default=200, help="random problems (default: 200)")
    parser.add_argument("--each", type=int, default=50, help="problems for each mistake (default: 50)")
    parser.add_argument("--checks", type=int, default=100, help="calls of each check (default: 100)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="try this problem alone, and show all of it")
    parser.add_argument("--quick", action="store_true", help="ten problems, two for each mistake, ten calls of each check")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: none but this one, and nothing ends a hang")
    parser.add_argument("--limit", type=float, default=120.0, help="processor seconds for one call (default: 120)")
    help = "seconds without a sign of life that are a hang (default: 120)"
    parser.add_argument("--silence", type=float, default=120.0, help=help)
    parser.add_argument("--json", metavar="FILE", help="write the tables there")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables there, too")
    args = parser.parse_args(arguments)
    if args.only is not None:
        show(draw(args.only, args.seed), args.limit)
        return 0
    sizes = (10, 2, 10) if args.quick else (args.problems, args.each, args.checks)
    bench = Bench(*sizes, args.seed, args.workers, args.limit, args.silence)
    found = survey(bench, args.part)
    for title, rows in found.items():
        print(f"\n{title}")
        table(rows) if rows else print("none")
    said = lies(found)
    print("\n" + ("\n".join(said) or "Nothing lied."))
    if args.json:
        page = {"bench": asdict(bench), "tables": found, "lies": said}
        Path(args.json).write_text(json.dumps(page, indent=1) + "\n", encoding="utf-8")
    if args.markdown:
        text = "\n".join(tables.markdown(title, rows) for title, rows in found.items())
        Path(args.markdown).write_text(text, encoding="utf-8")
    return int(bool(said))


if __name__ == "__main__":
    sys.exit(main())
