"""Run a problem: verify it, compare metrics on it, check its loss. The report carries the problem."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np

from .. import validation
from ..charts import Chart
from ..checks import check_loss
from ..claims.sides import natural_time_unit
from ..flow import Status, Step, Trajectory, integrate
from ..flows import FactorFlow
from ..gradients import project
from ..losses import LeastSquares
from ..matrices import LinearNetwork
from ..problems import Built, Problem
from ..problems.problem import UPDATES
from ..report import Report
from .descents import verify_descent
from .diagnosis import diagnose
from .equivalence import Interrupted, default_widths, verify_equivalence, what_w_is
from .following import follow_run
from .metrics import compare_metrics
from .places import place_report
from .starts import require_moving

__all__ = [
    "METRICS",
    "check_problem",
    "compare_problem",
    "descent_problem",
    "diagnose_problem",
    "place_problem",
    "run_problem",
    "verify_problem",
    "with_metrics",
]

METRICS = ("embedded", "2", "3", "inf", "scaledgd")  #: compared where a problem names none

Progress = Callable[[str, float], None]


def verify_problem(
    problem: Problem | Built,
    *,
    chart: Chart | None = None,
    claims: Iterable[str] | None = None,
    progress: Progress | None = None,
    workers: int = 1,
) -> Report:
    """Measure on a problem whether training the factors is the Riemannian gradient flow.

    Parameters
    ----------
    problem : Problem or Built
        What to verify, up to its ``natural_end``. What `Problem.build` already made is taken as it is.
    chart, claims, progress, workers
        As of `verify_equivalence`.

    Returns
    -------
    Report
        ``report.given``: the problem, with the hashes of what was read; ``report.repeats``: what to type to repeat it.

    Raises
    ------
    ValueError, TypeError, Interrupted
        As `Problem.build` and `verify_equivalence` do.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> problem = lrf.Problem(data="iris", rank=2, natural_end=3.0, rtol=1e-6)
    >>> report = lrf.compare.verify_problem(problem)
    >>> report["trajectory"].verdict, report.repeats
    ('passed', 'lowrankflow verify --data iris --rank 2 --natural-end 3.0 --rtol 1e-06')
    """
    built, p = _built(problem)
    t_end = None
    if p.natural_end is not None:
        depth = built.network.depth if built.network else p.depth or 3
        t_end = p.natural_end * natural_time_unit(built.loss, built.point, depth)
    run = partial(
        verify_equivalence, built.loss, built.start, network=built.network, depth=p.depth, widths=p.widths, t_end=t_end,
        rng=deepcopy(built.rng), chart=chart, claims=claims, about=built.about, progress=progress,
        workers=workers,
        **_given(rtol=p.rtol, max_evaluations=p.max_evaluations),
    )  # fmt: skip
    return _signed(run, built, "verify")


def descent_problem(problem: Problem | Built, *, progress: Progress | None = None) -> Report:
    """Run gradient descent on a problem at the step of its theory, and measure every bound: `verify_descent`.

    Parameters
    ----------
    problem : Problem or Built
        Of the square loss, with ``descent`` updates, 1000 where it does not say; what is said of flows does not count.
    progress
        As of `verify_descent`.

    Returns
    -------
    Report
        As of `verify_problem`.

    Raises
    ------
    ValueError, TypeError, Interrupted
        As `Problem.build` and `verify_descent` do.
    """
    if isinstance(problem, Problem) and problem.descent is None:
        problem = replace(problem, descent=UPDATES)
    built, p = _built(problem)
    run = partial(
        verify_descent, cast(LeastSquares, built.loss), built.start, network=built.network, depth=p.depth,
        widths=p.widths, steps=p.descent or UPDATES, rng=deepcopy(built.rng), about=built.about, progress=progress,
    )  # fmt: skip
    return _signed(run, built, "verify")


def compare_problem(problem: Problem | Built, *, progress: Progress | None = None, workers: int = 1) -> Report:
    """Follow the flows of a problem's metrics from its W(0).

    Parameters
    ----------
    problem : Problem or Built
        Which metrics, ``("embedded", 2, 3, "inf", "scaledgd")`` where it names none, and then not yet built: W(0)
        depends on them; up to its ``clock_end``. To complete a matrix, rtol is 1e-6 and the budget 4000 gradients where
        nothing else is said.
    progress, workers
        As of `compare_metrics`.

    Returns
    -------
    Report
        As of `verify_problem`.

    Raises
    ------
    ValueError, TypeError, Interrupted
        As `Problem.build` and `compare_metrics` do.
    """
    built, p = _built(with_metrics(problem) if isinstance(problem, Problem) else problem)
    if p.metrics is None:
        raise ValueError(
            "`problem` must name its metrics before it is built. Use replace(problem, metrics=...).build()."
        )
    usual = {"rtol": 1e-6, "max_evaluations": 4000} if p.completing else {}
    run = partial(
        compare_metrics, built.loss, built.point, p.metrics, measures=built.measures,
        about=built.about, progress=progress, workers=workers,
        **(usual | _given(clock_end=p.clock_end, clock=p.clock, rtol=p.rtol, max_evaluations=p.max_evaluations)),
    )  # fmt: skip
    return _signed(run, built, "compare")


def check_problem(problem: Problem | Built) -> Report:
    """Check the loss of a problem at its W(0): `check_loss`.

    Parameters
    ----------
    problem : Problem or Built
        Whose loss.

    Returns
    -------
    Report
        As of `verify_problem`.

    Raises
    ------
    ValueError, TypeError
        As `Problem.build` and `check_loss` do.
    """
    built, _ = _built(problem)
    run = partial(check_loss, built.loss, built.point, rng=deepcopy(built.rng))
    report = _signed(run, built, "check-loss")
    report.problem["data"] = built.about
    return report


def place_problem(problem: Problem | Built, *, progress: Progress | None = None) -> Report:
    """Say at which critical point a problem's network is: its factors, or those at the end of a run from its W(0).

    Parameters
    ----------
    problem : Problem or Built
        With factors, those are placed as they are. Else the factor flow runs from balanced factors of W(0), up to
        ``natural_end``, or until its gradient is 1e-6 of its start.
    progress
        As of `place_report`.

    Returns
    -------
    Report
        As of `verify_problem`; ``report.attachments["trajectory"]`` is the run, where there was one.

    Raises
    ------
    ValueError, TypeError, Interrupted
        As `Problem.build` and `place_report` do.
    """
    built, p = _built(problem)
    rng, path, network = deepcopy(built.rng), None, built.network
    if network is None:
        path = _run(built, p, rng, progress)
        network = path.points[-1]
        assert isinstance(network, LinearNetwork)
    tell = None if progress is None else (lambda stage, part: progress(stage, 0.5 + part / 2))
    report = _signed(
        partial(place_report, network, built.loss, rng=0, about=built.about, progress=tell), built, "landscape"
    )
    if path is not None:
        report.attachments["trajectory"] = path
        report.headline = (
            f"{what_w_is(report, built.point)}: the end of the factor flow. {path.message}\n{report.headline}"
        )
    return report


def diagnose_problem(problem: Problem | Built, *, progress: Progress | None = None) -> Report:
    """Say what a problem's network is like: its factors, or those at the end of a run from its W(0).

    Parameters
    ----------
    problem : Problem or Built
        As of `place_problem`; with ``initial`` and ``step``, what has moved and whether the step is stable are told too.
    progress
        As of `diagnose`.

    Returns
    -------
    Report
        As of `diagnose`, with the problem.

    Raises
    ------
    ValueError, TypeError, Interrupted
        As `Problem.build` and `diagnose` do.
    """
    built, p = _built(problem)
    rng, network, initial = deepcopy(built.rng), built.given, built.initial
    if network is None:
        path = _run(built, p, rng, progress)
        first, last = path.points[0], path.points[-1]
        assert isinstance(first, LinearNetwork) and isinstance(last, LinearNetwork)
        initial, network = first, last
    tell = None if progress is None else (lambda stage, part: progress(stage, 0.5 + part / 2))
    return _signed(
        partial(
            diagnose, network, built.loss, initial=initial, step_size=p.step, rng=0, about=built.about, progress=tell
        ),
        built, "diagnose",
    )  # fmt: skip


def run_problem(problem: Problem | Built, *, progress: Progress | None = None) -> Report:
    """Compare the checkpoints of a problem's run with the flow from the first of them.

    Parameters
    ----------
    problem : Problem or Built
        With a ``run`` and its ``step``.
    progress
        As of `follow_run`.

    Returns
    -------
    Report
        As of `follow_run`, with the problem.

    Raises
    ------
    ValueError, TypeError, Interrupted
        As `Problem.build` and `follow_run` do.
    """
    built, p = _built(problem)
    if built.run is None or p.step is None:
        raise ValueError("`problem` must name a run and its step, got none.")
    updates, networks = built.run
    return _signed(
        partial(follow_run, networks, built.loss, p.step, updates=updates, about=built.about, progress=progress),
        built, "verify",
    )  # fmt: skip


_END = 1e-6  # of the projected gradient at the start, where the run ends of itself


def _run(built: Built, p: Problem, rng: np.random.Generator, progress: Progress | None) -> Trajectory:
    """Return the factor flow of a problem from balanced factors."""
    depth = p.depth or 3
    widths = default_widths(built.point.shape, depth, built.point.rank) if p.widths is None else p.widths
    network = LinearNetwork.balanced(built.point, depth, widths=widths, rng=rng)
    require_moving(built.loss, built.point)
    end = math.inf if p.natural_end is None else p.natural_end * natural_time_unit(built.loss, built.point, depth)
    first = project(built.point, built.loss.gradient(built.point)).norm()

    def told(step: Step) -> None:
        if progress is not None:
            part = step.t / end if math.isfinite(end) else math.log(first / max(step.stationarity, _END * first))
            progress("factor flow", 0.5 * min(1.0, max(0.0, part if math.isfinite(end) else part / -math.log(_END))))

    path = integrate(
        FactorFlow(built.loss), network, t_span=(0.0, end), gtol=_END * first, callback=told,
        **{"rtol": 1e-8, "max_evaluations": 200_000} | _given(rtol=p.rtol, max_evaluations=p.max_evaluations),
    )  # fmt: skip
    if path.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    return path


def with_metrics(problem: Problem) -> Problem:
    """Return a problem that names the metrics to compare."""
    return problem if problem.metrics is not None else replace(problem, metrics=METRICS)


def _built(problem: Any) -> tuple[Built, Problem]:
    if not isinstance(problem, (Problem, Built)):
        raise TypeError(f"`problem` must be a Problem, got {validation.describe(problem)}.")
    built = problem.build() if isinstance(problem, Problem) else problem
    return built, built.problem


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _signed(run: Callable[[], Report], built: Built, command: str) -> Report:
    """Return what a call returns; its report, whole or interrupted, carries the problem."""

    def sign(report: Report) -> Report:
        report.given, report.repeats = built.problem.to_dict(), built.problem.command_line(command)
        return report

    try:
        return sign(run())
    except Interrupted as interrupted:
        sign(interrupted.report)
        raise
