"""The ``lowrankflow`` command: reads arguments, calls, prints. No mathematics.

- `arguments`: what it understands.
- `problem`: the problem that they state, or that a file states.
- `output`: tables, files and the progress bar.
- `shell`: streams that close, signals, and messages in the words of the options.
- `reproduce`: the experiments of the paper.
- `sweep`: grids of runs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from .. import data, validation
from ..compare import (
    Interrupted,
    check_problem,
    compare_problem,
    descent_problem,
    diagnose_problem,
    explain,
    place_problem,
    run_problem,
    verify_landscape,
    verify_problem,
)
from ..problems import Built
from ..problems.named_losses import is_code
from ..report import Report
from ..workers import Tell
from .arguments import BAD_INPUT, LANDSCAPE, parser
from .output import STDOUT, output_folder, progress_bar, show, write
from .problem import read_problem, read_theory
from .reproduce import reproduce_experiments
from .shell import options_of, shell, told_by_options
from .sweep import sweep_command, with_action

__all__ = ["main"]

PASSED, FAILED, INTERRUPTED = 0, 1, 130


def _carry_out(args: argparse.Namespace, options: Mapping[str, str]) -> int:
    """Make a problem and its report, write and show it, and return the exit status."""
    from threadpoolctl import threadpool_limits

    threads = validation.require_integer("threads", args.threads, low=1)
    validation.require_integer("workers", getattr(args, "workers", 1), low=1)
    if args.json not in (None, STDOUT) and (not Path(args.json).parent.is_dir() or Path(args.json).is_dir()):
        raise ValueError(
            f"`json` must be a file in a folder that exists, or {STDOUT} for standard output, got {args.json!r}."
        )
    with threadpool_limits(threads):
        run = _prepared(args)
        with output_folder(args.out) as folder:
            status = PASSED
            began, clock = datetime.now(UTC), time.monotonic()
            try:
                with progress_bar(args.quiet) as progress:
                    report = run(progress)
            except Interrupted as interrupted:
                report, status = interrupted.report, INTERRUPTED
                print("lowrankflow: interrupted; what was computed follows.", file=sys.stderr)
            report.run = {
                "threads": str(threads),
                "date": f"{began:%Y-%m-%d %H:%M}",
                "duration": f"{time.monotonic() - clock:.3g} s",
            }
            try:
                written = write(report, folder, args.json)
                show(
                    report, written, args.quiet, beside=args.json == STDOUT, words=lambda t: told_by_options(t, options)
                )
            except KeyboardInterrupt:
                print("lowrankflow: interrupted while writing; the files are not all there.", file=sys.stderr)
                return INTERRUPTED
    if status == INTERRUPTED:
        return status
    return PASSED if report.passed or args.command == "diagnose" else FAILED  # a diagnosis claims nothing


def _prepared(args: argparse.Namespace) -> Callable[[Tell | None], Report]:
    """Read what the arguments state, and return the call that makes the report of it."""
    if args.command == "landscape" and (asked := read_theory(args)) is not None:
        points, seed = asked
        return lambda progress: verify_landscape(points, rng=seed, progress=progress)
    problem = read_problem(args)
    built = problem.build(loss=args.loss if is_code(problem.loss) else None)
    return lambda progress: _COMMANDS[args.command](built, progress, args)


def _verify(built: Built, progress: Tell | None, args: argparse.Namespace) -> Report:
    if built.problem.run is not None:
        return run_problem(built, progress=progress)
    if built.problem.descent is not None:
        return descent_problem(built, progress=progress)
    return verify_problem(built, progress=progress, workers=args.workers)


_COMMANDS: dict[str, Callable[[Built, Tell | None, argparse.Namespace], Report]] = {
    "verify": _verify,
    "compare": lambda built, progress, args: compare_problem(built, progress=progress, workers=args.workers),
    "check-loss": lambda built, progress, args: check_problem(built),
    "landscape": lambda built, progress, args: place_problem(built, progress=progress),
    "diagnose": lambda built, progress, args: diagnose_problem(built, progress=progress),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; None: those of the process.

    Returns
    -------
    int
        0 no claim failed and something was claimed; 1 a claim failed or nothing could be claimed;
        2 bad usage or bad input; 130 interrupted.
    """
    with shell():
        return _called(parser(), with_action(sys.argv[1:] if argv is None else list(argv)))


def _called(top: argparse.ArgumentParser, argv: list[str]) -> int:
    """Carry out what the arguments say; what goes wrong becomes a line and a status."""
    args = argparse.Namespace()
    try:
        try:
            args = top.parse_args(argv)
            status = _command(top, args)
        except SystemExit as stop:
            status = int(stop.code or 0)
        sys.stdout.flush()  # a full disk shows here
        return status
    except (ValueError, TypeError, ImportError) as error:
        print(f"lowrankflow: error: {told_by_options(str(error), options_of(top, args))}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        where = f" {error.filename!r}" if error.filename else ""
        print(f"lowrankflow: error: cannot read or write{where}: {error.strerror}.", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("lowrankflow: interrupted before anything was measured.", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if ":" not in (getattr(args, "loss", None) or ""):
            raise
        # a loss of the user's may raise anything
        print(
            f"lowrankflow: error: `--loss` {args.loss} raises {type(error).__name__}: {validation.reason(error)}.",
            file=sys.stderr,
        )
        return BAD_INPUT


def _command(top: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """Do what the command asks for, and return the exit status."""
    if args.command is None:
        known = "verify, compare, check-loss, landscape, diagnose, reproduce, sweep or datasets"
        top.error(f"a command is missing, choose {known}")
    if args.command == "datasets":
        names = data.available()
        width = max(map(len, names))
        print("\n".join(f"{name:<{width}}  {line}" for name, line in names.items()))
        return PASSED
    if getattr(args, "explain", None) is not None:
        before = LANDSCAPE if args.command == "landscape" else ""
        print(explain(before + args.explain.removeprefix(before)))
        return PASSED
    if args.command == "reproduce":
        return reproduce_experiments(args)
    if args.command == "sweep":
        return sweep_command(args)
    return _carry_out(args, options_of(top, args))
