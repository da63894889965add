"""Order at tiny singular values: our fixed-step steppers in the singular frame, and the dynamical low-rank literature.

Completion of a 30 x 25 matrix of rank 3, started at singular values 1, 1/2 and sigma_3, over t in [0, 2]. The error
is the relative Frobenius gap of W(T) to the width-r factors by DOP853 at rtol 3e-14. The order is the slope of the
fit over a fixed window of steps: five halvings, three with --quick. A step may carry a chart past det T = 0, where
`integrate` would stop with RANK_LOST; here it goes on, and *rank lost* is the number of runs of the window in which
it happened.
"""

from __future__ import annotations

from measure import parse, table, write  # isort: skip  # sets one thread before numpy loads

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from baselines import METHODS, gradient_field, march

import lowrankflow as lrf
from lowrankflow import steppers
from lowrankflow.matrices import difference

SHAPE, RANK, T_END = (30, 25), 3, 2.0
SMALLEST = (3e-2, 3e-9)
STEPS = 2 ** np.arange(5, 11)  # five halvings, T/32 .. T/1024; coarser steps are not yet in the range of the order
SHOWN = 64  # the error in the table is the one at T/64
#: the library's steppers, each in every chart; those that this version does not have are left out
STEPPERS = [name for name in ("RK4", "RKC", "ROCK4") if hasattr(steppers, name)]
CHARTS = {"singular frame, root N": lrf.SingularFrame(), "singular frame, root 1": lrf.SingularFrame(root=1),
          "width-r factors": lrf.Lifted()}  # fmt: skip


class Ends(NamedTuple):
    """W(T) for each number of steps."""

    points: list[lrf.LowRankMatrix]
    evaluations: list[int]
    rank_lost: int = 0  #: runs that passed det T = 0


class GoingOn:
    """A chart whose rank is never called lost; it counts the runs in which it would have been."""

    def __init__(self, chart: Any) -> None:
        self.chart, self.lost = chart, False

    def bind(self, flow: Any, start: Any) -> Any:
        system = self.chart.bind(flow, start)
        rank_lost = system.rank_lost

        def watched(before: np.ndarray, after: np.ndarray) -> bool:
            self.lost = self.lost or rank_lost(before, after)
            return False

        system.rank_lost = watched
        return system


def problem() -> lrf.losses.Completion:
    """Half of the entries of a matrix with singular values 3, 2, 1."""
    rng = np.random.default_rng(0)
    rows, cols = np.nonzero(rng.random(SHAPE) < 0.5)
    teacher = lrf.random_point(*SHAPE, RANK, rng=rng, singular_values=[3.0, 2.0, 1.0])
    return lrf.losses.Completion(rows, cols, teacher.entries(rows, cols), shape=SHAPE)


def start_at(smallest: float) -> lrf.LowRankMatrix:
    return lrf.random_point(*SHAPE, RANK, rng=5, singular_values=[1.0, 0.5, smallest])


def ours(flow: Any, start: lrf.LowRankMatrix, steps: Sequence[int], stepper: str, chart: Any) -> Ends:
    ends = Ends([], [])
    lost = 0
    save = lrf.Save(steps=False)
    for k in steps:
        watched = GoingOn(chart)
        path = lrf.integrate(
            flow, start, t_span=(0, T_END), chart=watched, method=stepper, step_size=T_END / k, save=save
        )
        ends.points.append(path.points[-1])
        ends.evaluations.append(path.nfev)
        lost += watched.lost
    return ends._replace(rank_lost=lost)


def baseline(flow: Any, start: lrf.LowRankMatrix, steps: Sequence[int], step: Any) -> Ends:
    ends = Ends([], [])
    velocity = gradient_field(flow.loss, flow.metric)
    for k in steps:
        calls = [0]

        def counted(w: lrf.LowRankMatrix, calls: list[int] = calls) -> Any:
            calls[0] += 1
            return velocity(w)

        ends.points.append(march(step, counted, start, T_END, int(k)))
        ends.evaluations.append(calls[0])
    return ends


def measured(ends: Ends, reference: lrf.LowRankMatrix, steps: np.ndarray) -> dict[str, Any]:
    """Return the errors, their slope, and the evaluations a step (what a run does once is not counted)."""
    errors = [difference(w, reference).norm() / reference.norm() for w in ends.points]
    return {
        "errors": errors,
        "order": float(-np.polyfit(np.log(steps), np.log(errors), 1)[0]),
        "gradients a step": round((ends.evaluations[-1] - ends.evaluations[0]) / int(steps[-1] - steps[0]), 2),
        "rank lost": ends.rank_lost,
    }


def one_depth(depth: int, steps: np.ndarray) -> list[dict[str, Any]]:
    """Return one record a method: the measurements for each smallest singular value."""
    flow = lrf.RiemannianFlow(problem(), lrf.DepthMetric(depth))
    records: dict[str, dict[str, Any]] = {}
    for smallest in SMALLEST:
        start = start_at(smallest)
        final = lrf.integrate(
            flow, start, t_span=(0, T_END), chart=lrf.Lifted(), rtol=3e-14, method="DOP853", save=lrf.Save(steps=False)
        ).points[-1]
        runs = {name: baseline(flow, start, steps, method.step) for name, method in METHODS.items()}
        runs |= {f"{s}, {name}": ours(flow, start, steps, s, c) for s in STEPPERS for name, c in CHARTS.items()}
        for name, ends in runs.items():
            records.setdefault(name, {"depth": depth, "method": name})[f"{smallest:g}"] = measured(ends, final, steps)
    return list(records.values())


def row(record: dict[str, Any], steps: np.ndarray) -> dict[str, Any]:
    shown = int(np.flatnonzero(steps == SHOWN)[0])
    cells = {"N": record["depth"], "method": record["method"]}
    for smallest in (f"{s:g}" for s in SMALLEST):
        cell = record[smallest]
        cells["gradients a step"] = cell["gradients a step"]
        cells |= {f"error, {smallest}": f"{cell['errors'][shown]:.1e}", f"order, {smallest}": f"{cell['order']:.2f}"}
        cells[f"rank lost, {smallest}"] = cell["rank lost"] or None
    return cells


def main() -> None:
    args = parse("Global error and observed order of fixed steps at tiny singular values.")
    steps, depths = (STEPS[:4], (2, 3)) if args.quick else (STEPS, (2, 3, 5))
    window = f"T/{steps[0]} .. T/{steps[-1]}"
    print(f"{SHAPE[0]} x {SHAPE[1]}, rank {RANK}, T = {T_END:g}: error at h = T/{SHOWN}, order over h = {window}")
    records = []
    for depth in depths:
        records += one_depth(depth, steps)
        table([row(record, steps) for record in records if record["depth"] == depth])
        print()
    settings = {"shape": SHAPE, "rank": RANK, "t_end": T_END, "steps": steps.tolist()}
    write(args, "order", {**settings, "rows": records})


if __name__ == "__main__":
    main()
