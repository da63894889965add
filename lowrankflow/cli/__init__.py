"""The ``lowrankflow`` command: reads arguments, calls, prints. No mathematics.

- `arguments`: what it understands.
- `problem`: the data, the loss and the start that the arguments name.
- `output`: tables, files and the progress bar.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from .. import data, validation
from ..checks import check_loss
from ..compare import Interrupted, compare_metrics, explain, named_metrics, natural_time_unit, verify_equivalence
from ..matrices import LowRankMatrix
from ..metrics.facts import is_symmetric
from ..report import Report
from .arguments import BAD_INPUT, parser
from .output import output_folder, progress_bar, show, write
from .problem import read_problem

__all__ = ["main"]

PASSED, FAILED, INTERRUPTED = 0, 1, 130


def _carry_out(args: argparse.Namespace, make: Callable[[np.random.Generator], Callable[..., Report]]) -> int:
    """Make a problem and its report, write and show it, and return the exit status."""
    from threadpoolctl import threadpool_limits

    seed = validation.require_integer("seed", args.seed, low=0)
    threads = validation.require_integer("threads", args.threads, low=1)
    if args.json is not None and (not Path(args.json).parent.is_dir() or Path(args.json).is_dir()):
        raise ValueError(f"`json` must be a file in a folder that exists, got {args.json!r}.")
    with threadpool_limits(threads):
        measure = make(np.random.default_rng(seed))
        with output_folder(args.out) as folder:
            status = PASSED
            try:
                with progress_bar(args.quiet) as progress:
                    report = measure(progress=progress)
            except Interrupted as interrupted:
                report, status = interrupted.report, INTERRUPTED
                print("lowrankflow: interrupted; what was computed follows.", file=sys.stderr)
            try:
                show(report, write(report, folder, args.json), args.quiet)
            except KeyboardInterrupt:
                print("lowrankflow: interrupted while writing; the files are not all there.", file=sys.stderr)
                return INTERRUPTED
    if status == INTERRUPTED:
        return status
    return PASSED if report.passed else FAILED


def _verify(args: argparse.Namespace, rng: np.random.Generator) -> Callable[..., Report]:
    """Return the call that measures the claims."""
    problem = read_problem(args, rng)
    t_end = None
    if args.natural_end is not None:
        depth = problem.network.depth if problem.network else args.depth or 3
        start = problem.start if problem.start is not None else problem.network.to_low_rank()  # type: ignore[union-attr]
        units = validation.require_number("natural-end", args.natural_end)
        t_end = units * natural_time_unit(problem.loss, start, depth)
    return partial(
        verify_equivalence, problem.loss, problem.start, network=problem.network, depth=args.depth, widths=args.widths,
        t_end=t_end, rtol=args.rtol, rng=rng, max_evaluations=args.max_evaluations, about=problem.about,
    )  # fmt: skip


def _compare(args: argparse.Namespace, rng: np.random.Generator) -> Callable[..., Report]:
    """Return the call that compares the metrics."""
    metrics = named_metrics(args.metrics)
    problem = read_problem(args, rng, symmetric=any(is_symmetric(metric) for metric in metrics))
    completing = args.observed is not None or args.missing is not None
    rtol = (1e-6 if completing else 1e-8) if args.rtol is None else args.rtol
    budget = (4000 if completing else 20_000) if args.max_evaluations is None else args.max_evaluations
    clock_end = None if args.clock_end is None else validation.require_number("clock-end", args.clock_end)
    return partial(
        compare_metrics, problem.loss, cast(LowRankMatrix, problem.start), metrics, clock=args.clock, clock_end=clock_end,
        rtol=rtol, max_evaluations=budget, measures=problem.measures, about=problem.about,
    )  # fmt: skip


def _check_loss(args: argparse.Namespace, rng: np.random.Generator) -> Callable[..., Report]:
    """Return the call that checks the loss."""
    problem = read_problem(args, rng)

    def measure(progress: Callable[[str, float], None] | None) -> Report:
        report = check_loss(problem.loss, cast(LowRankMatrix, problem.start), rng=rng)
        report.problem["data"] = problem.about
        return report

    return measure


_COMMANDS = {"verify": _verify, "compare": _compare, "check-loss": _check_loss}


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
    top = parser()
    try:
        args = top.parse_args(argv)
        if args.command is None:
            top.error("a command is missing, choose verify, compare, check-loss or datasets")
        if args.command == "datasets":
            names = data.available()
            width = max(map(len, names))
            print("\n".join(f"{name:<{width}}  {line}" for name, line in names.items()))
            return PASSED
        if args.command == "verify" and args.explain is not None:
            print(explain(args.explain))
            return PASSED
        return _carry_out(args, partial(_COMMANDS[args.command], args))
    except SystemExit as stop:
        return int(stop.code or 0)
    except (ValueError, TypeError, ImportError) as error:
        print(f"lowrankflow: error: {error}", file=sys.stderr)
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
