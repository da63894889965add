"""The problem that the arguments state, or a file that they name."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from typing import Any

from ..compare.problems import with_metrics
from ..problems import Problem
from ..problems.problem import loss_argument

__all__ = ["read_problem"]


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
