"""The problem that the arguments state, or a file that they name; or that they state none."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from typing import Any

from .. import validation
from ..compare.landscape import POINTS
from ..compare.problems import with_metrics
from ..problems import Problem
from ..problems.problem import UPDATES, loss_argument

__all__ = ["read_problem", "read_theory"]


def read_problem(args: argparse.Namespace) -> Problem:
    """Return the problem of a file with what the arguments change, or of the arguments alone; no data are read."""
    given: dict[str, Any] = {
        f.name: value for f in fields(Problem) if (value := getattr(args, f.name, None)) is not None
    }
    if args.loss_arg:
        given["loss_args"] = tuple(map(loss_argument, args.loss_arg))
    before = Problem.from_json(args.problem) if args.problem is not None else None
    if args.command == "verify":
        given |= _of_descent(args, before)
    problem = Problem(**given) if before is None else replace(before, **given)
    return with_metrics(problem) if args.command == "compare" else problem


def read_theory(args: argparse.Namespace) -> tuple[int, int] | None:
    """Return points and seed where the theory of the landscape is to be verified, None where a network is to be placed."""
    if not args.verify:
        if args.points is not None:
            raise ValueError("`points` is of --verify, which draws them. Add --verify, or leave it out.")
        return None
    names = ["problem", *(f.name for f in fields(Problem) if f.name != "seed"), "loss_arg"]
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(args, name, None) not in (None, [])]
    if given:
        raise ValueError(f"`verify` draws its own problems, got {', '.join(given)}. Leave out one or the other.")
    return POINTS if args.points is None else args.points, args.seed or 0


def _of_descent(args: argparse.Namespace, before: Problem | None) -> dict[str, int]:
    """Return the updates of descent where that is asked for; refuse what is said of flows beside it, and of it beside flows."""
    again = before is not None and before.descent is not None
    if not args.by_descent and not again:
        if args.steps is not None:
            raise ValueError(f"`steps` are updates of descent, got {args.steps} without it. Add --descent.")
        return {}
    for name in ("natural_end", "rtol", "max_evaluations"):
        if getattr(args, name) is not None:
            raise ValueError(f"`{name}` is of flows, got {getattr(args, name):g} for descent. Use --steps.")
    if args.steps is not None:
        return {"descent": validation.require_integer("steps", args.steps, low=1)}
    return {} if again else {"descent": UPDATES}
