"""What it costs to keep a run: a look at a state, every step kept, an integral, checkpoints.

    python benchmarks/keeping.py [--quick] [--json FILE]
"""

from __future__ import annotations

from measure import clock, interleaved, parse, ratio, table, write  # isort: skip  # sets one thread before numpy loads

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import lowrankflow as lrf
from lowrankflow.flow.checkpoint import Journal

ENDS = lrf.Save(steps=False)


def problem(n: int, kappa: float = 1e3, rank: int = 2) -> tuple[lrf.RiemannianFlow, lrf.LowRankMatrix]:
    """Least squares whose inputs have a geometric spectrum, depth 3."""
    rng = np.random.default_rng(0)
    x = np.linalg.qr(rng.standard_normal((n, n)))[0] * np.sqrt(np.geomspace(1, 1 / kappa, n))
    teacher = lrf.random_point(n, n, rank, rng=rng, singular_values=np.linspace(2, 1, rank))
    start = lrf.random_point(n, n, rank, rng=rng, singular_values=np.full(rank, 0.5))
    return lrf.RiemannianFlow(lrf.losses.LeastSquares(x, teacher @ x), lrf.DepthMetric(3)), start


def looks(sizes: list[int], repeats: int) -> list[dict[str, object]]:
    """W and its numbers at a state, in velocities."""
    rows: list[dict[str, object]] = []
    for n in sizes:
        for chart in (lrf.charts.Polynomial(), lrf.SingularFrame()):
            system = chart.bind(*problem(n))
            calls = {"velocity": lambda s=system: s.velocity(0.0, s.y0), "look": lambda s=system: s.measure(s.y0),
                     "W": lambda s=system: s.point(s.y0)}  # in this order: a look shares the gradient before it  # fmt: skip
            seconds = interleaved(calls, repeats=repeats)
            rows.append({"n": n, "chart": type(chart).__name__, "velocity us": 1e6 * seconds["velocity"].min(),
                         "a look, in velocities": ratio(seconds["look"], seconds["velocity"]),
                         "W, in velocities": ratio(seconds["W"], seconds["velocity"])})  # fmt: skip
    return rows


def saving(sizes: list[int], repeats: int) -> list[dict[str, object]]:
    """Runs that keep every step, or an integral too, over runs that keep their ends."""
    rows: list[dict[str, object]] = []
    for n in sizes:
        flow, start = problem(n)
        for method, rtol in (("RKC", 1e-4), ("ROCK4", 1e-6), ("DOP853", 1e-8)):
            saves = {"ends": ENDS, "steps": lrf.Save(),
                     "integral": lrf.Save(steps=False, integrals={"q": lambda at: at.power}, controlled=False)}  # fmt: skip
            run = partial(lrf.integrate, flow, start, t_span=(0, 300), rtol=rtol, method=method)
            calls = {name: partial(run, save=save) for name, save in saves.items()}
            seconds = interleaved(calls, repeats=repeats)
            rows.append({"n": n, "method": method, "every step over the ends": ratio(seconds["steps"], seconds["ends"]),
                         "with an integral": ratio(seconds["integral"], seconds["ends"])})  # fmt: skip
    return rows


def checkpoints(counts: list[int]) -> list[dict[str, object]]:
    """Bytes written in all by checkpoints every five steps, and the length of the file; time beside a run without."""
    flow, start = problem(40)
    rows: list[dict[str, object]] = []
    sizes: list[int] = []
    append, whole = Journal.append, Journal.write

    def appended(self: Journal, more: object) -> bool:
        before = self._end
        done = append(self, more)  # type: ignore[arg-type]
        sizes.append(self._end - before)
        return done

    def written(self: Journal, record: object) -> None:
        whole(self, record)  # type: ignore[arg-type]
        sizes.append(self._end)

    Journal.append, Journal.write = appended, written  # type: ignore[method-assign]
    for steps in counts:
        with TemporaryDirectory() as folder:
            sizes.clear()
            options = {"t_span": (0, steps * 0.02), "method": "RK4", "step_size": 0.02}
            begin = clock()
            lrf.integrate(flow, start, **options)
            middle = clock()
            lrf.integrate(flow, start, checkpoint=Path(folder, "run"), checkpoint_every=5, **options)
            seconds = clock() - middle
            rows.append({"steps": steps, "MB written": sum(sizes) / 1e6,
                         "MB of the file": Path(folder, "run").stat().st_size / 1e6,
                         "time over a run without": seconds / (middle - begin)})  # fmt: skip
    Journal.append, Journal.write = append, whole  # type: ignore[method-assign]
    return rows


def main() -> None:
    """Print three tables."""
    args = parse("What it costs to keep a run.")
    sizes, repeats = ([20], 3) if args.quick else ([20, 200, 1000], 7)
    results = {
        "looks": looks(sizes, 10 * repeats),
        "saving": saving(sizes[:1] if args.quick else sizes[:2], repeats),
        "checkpoints": checkpoints([100, 200] if args.quick else [200, 400, 800]),
    }
    for name, rows in results.items():
        print(f"\n{name}")
        table(rows)
    write(args, "keeping", results)


if __name__ == "__main__":
    main()
