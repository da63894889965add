"""``lowrankflow sweep``: carry out a grid, say how far it is, plot it."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import replacing, write_text
from .output import progress_bar

__all__ = ["sweep_command", "with_action"]

DONE, NOT_ALL, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
_ACTIONS = ("run", "status", "plot")
_ERRORS = 5  #: kinds of errors that are shown


def with_action(argv: list[str]) -> list[str]:
    """Return arguments in which ``sweep GRID.toml`` says ``sweep run GRID.toml``."""
    if argv[:1] == ["sweep"] and len(argv) > 1 and argv[1] not in (*_ACTIONS, "-h", "--help"):
        return ["sweep", "run", *argv[1:]]
    return argv


def sweep_command(args: argparse.Namespace) -> int:
    """Do what was asked for, and return the exit status."""
    if args.action is None:
        print(
            "lowrankflow: error: a grid file is missing, or status or plot and a folder. See --help.", file=sys.stderr
        )
        return BAD_INPUT
    return {"run": _run, "status": _status, "plot": _plot}[args.action](args)


def _run(args: argparse.Namespace) -> int:
    from threadpoolctl import threadpool_limits

    from ..sweeps import Grid, open_results, sweep

    grid = Grid.from_toml(args.grid)
    out = Path(Path(args.grid).stem if args.out is None else args.out)
    workers = _cores() if args.workers is None else args.workers
    try:
        with threadpool_limits(1), progress_bar(args.quiet) as progress:
            results = sweep(
                grid,
                out,
                workers=workers,
                scheduler=args.scheduler,
                retry=args.retry,
                loss=args.loss,
                progress=progress,
            )
        stopped = ""
    except KeyboardInterrupt:
        stopped = "interrupted"
    except RuntimeError as error:
        stopped = str(error)
    if stopped:
        if not (out / "sweep.json").is_file():
            raise KeyboardInterrupt
        results = open_results(out)
        print(f"lowrankflow: {stopped.rstrip('.')}; {_counts(results)}. The same line goes on.", file=sys.stderr)
        return INTERRUPTED if stopped == "interrupted" else NOT_ALL
    for path in _written(results, out):
        if not args.quiet:
            print(f"wrote {path}")
    if not args.quiet:
        _print_errors(results)
    print(f"{_counts(results)} in {out}")
    return DONE if results.complete else NOT_ALL


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _written(results: Any, out: Path) -> Sequence[Path]:
    """Write the table of all jobs, and the labelled arrays where their libraries are installed."""
    found = [out / "results.csv"]
    results.to_csv(found[0])
    try:
        results.to_netcdf(out / "results.nc")
    except ImportError:
        return found
    return [*found, out / "results.nc"]


def _counts(results: Any) -> str:
    done, failed, missing = (results.count(state) for state in ("done", "failed", "missing"))
    return f"{done} of {results.grid.size} jobs done, {failed} failed, {missing} missing"


def _print_errors(results: Any) -> None:
    """Print what jobs failed of, the most frequent first, each with one of the jobs."""
    kinds = Counter(results.errors.values())
    for error, count in kinds.most_common(_ERRORS):
        first = min(number for number, text in results.errors.items() if text == error)
        job = results.job(first).entries
        fields = [field for axis in results.grid.axes for field in axis.fields if not field.startswith("sha256.")]
        print(f"{count} failed: {error} (first with {', '.join(f'{f} = {job[f]}' for f in fields)})")
    if len(kinds) > _ERRORS:
        print(f"and {len(kinds) - _ERRORS} other errors: results.csv has them all")


def _status(args: argparse.Namespace) -> int:
    from ..sweeps import open_results

    results = open_results(args.folder)
    print(f"{args.folder}: {' x '.join(f'{a.name} {len(a)}' for a in results.grid.axes) or 'one job'}")
    print(_counts(results))
    seconds = results.values.get("seconds")
    if seconds is not None and results.count("done"):
        spent = float(seconds[results.state > 0].sum())
        each = float(seconds[results.state == 1].mean())
        print(f"{spent:.4g} s of work so far, {each:.3g} s a job; {each * results.count('missing'):.3g} s are left")
    if results.torn:
        print(
            f"{results.torn} bytes at the ends of files are no whole result, of jobs that were cut short; they are done again"
        )
    _print_errors(results)
    return DONE if results.complete else NOT_ALL


def _plot(args: argparse.Namespace) -> int:
    from ..render import sweep_picture
    from ..sweeps import open_results, summarise

    where = dict(_pair(text) for text in args.where)
    summary = summarise(
        open_results(args.folder), args.y, x=args.x, lines=args.lines, rows=args.rows, columns=args.columns, where=where
    )
    if args.heat and not (summary.axes[2] and summary.axes[3]):
        raise ValueError("`heat` needs two axes, x and lines. Name them.")
    name = "".join(c if c.isalnum() or c in "_-." else "_" for c in summary.what)
    picture = Path(args.folder, f"{name}.png") if args.picture is None else Path(args.picture)
    if picture.suffix != ".png":
        raise ValueError(f"`picture` must be the name of a .png file, got {str(picture)!r}.")
    content = sweep_picture(summary, heat=args.heat, xscale=args.xscale, yscale=args.yscale)
    numbers = picture.with_suffix(".csv")
    with replacing(picture) as file:
        file.write(content)
    write_text(numbers, summary.to_csv())
    print(f"wrote {picture}\nwrote {numbers}")
    return DONE


def _pair(text: str) -> tuple[str, str]:
    field, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"`where` must be FIELD=VALUE, got {text!r}.")
    return field, value
