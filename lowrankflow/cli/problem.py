"""The problem that the arguments state, or a file that they name; or that they state none."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from typing import Any

from ..compare.landscape import POINTS
from ..compare.problems import with_metrics
from ..problems import Problem
from ..problems.problem import loss_argument

__all__ = ["read_problem", "read_theory"]


def read_problem(args: argparse.Namespace) -> Problem:
    """Return the problem of a file with what the arguments change, or of the arguments alone; no data are read."""
    given: dict[str, Any] = {
        f.name: value for f in fields(Problem) if (value := getattr(args, f.name, None)) is not None
    }
    if args.loss_arg:
        given["loss_args"] = tuple(map(loss_argument, args.loss_arg))
    if args.problem is not None:
        problem = Problem.from_json(args.problem)
        problem = replace(problem, **given) if given else problem
    else:
        problem = Problem(**given)
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
