"""``lowrankflow reproduce``: the experiments of the paper, one figure and its numbers each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from .output import output_folder, progress_bar

__all__ = ["reproduce_experiments"]

AGREES, DISAGREES, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def reproduce_experiments(args: argparse.Namespace) -> int:
    """List experiments, or make those that were asked for, each written when it is made; return the exit status."""
    from threadpoolctl import threadpool_limits

    from ..experiments import titles

    if args.list:
        known = titles()
        width = max(map(len, known))
        print("\n".join(f"{name:<{width}}  {title}" for name, title in known.items()))
        return AGREES
    names = _chosen(args)
    done: list[str] = []
    status = AGREES
    with threadpool_limits(1), output_folder(args.out) as folder:
        try:
            for i, name in enumerate(names):
                found = _make(name, folder, args, i, len(names))
                status = max(status, found)
                if found != BAD_INPUT:
                    done.append(name)
        except KeyboardInterrupt:
            kept = f"made before: {', '.join(done)}" if done else "nothing was made"
            print(f"lowrankflow: interrupted; {kept}.", file=sys.stderr)
            return INTERRUPTED
    return status


def _chosen(args: argparse.Namespace) -> Sequence[str]:
    """Return the experiments that were asked for, all of them known."""
    from ..experiments import EXPERIMENTS

    if args.all == bool(args.names):
        what = "both a name and --all" if args.all else "none"
        raise ValueError(
            f"`reproduce` must be given the names of experiments, or --all, got {what}. --list lists them."
        )
    for name in args.names:
        if name not in EXPERIMENTS:
            raise ValueError(f"`name` must be one of {', '.join(EXPERIMENTS)}, got {name!r}.")
    return EXPERIMENTS if args.all else tuple(dict.fromkeys(args.names))


def _make(name: str, folder: object, args: argparse.Namespace, number: int, count: int) -> int:
    """Make one experiment, write it, say what was found; one that lacks a package does not keep others from being made."""
    from ..experiments import reproduce

    with progress_bar(args.quiet) as progress:
        tell = _within(progress, name, number, count) if progress else None
        try:
            found = reproduce(name, folder, quick=args.quick, progress=tell)  # type: ignore[arg-type]
        except ImportError as error:
            print(f"lowrankflow: error: {name}: {error}", file=sys.stderr)
            return BAD_INPUT
    print(found)
    if not args.quiet:
        for each in found.compared:
            print(f"  {each}")
        for path in found.files:
            print(f"wrote {path}")
    return AGREES if found.agrees else DISAGREES


def _within(tell: Callable[[str, float], None], name: str, number: int, count: int) -> Callable[[str, float], None]:
    """Return what tells of one experiment, which of how many it is; each has a bar of its own, so that its time is true."""
    which = f"{number + 1} of {count}, " if count > 1 else ""
    return lambda stage, fraction: tell(f"{which}{name}: {stage}", fraction)
