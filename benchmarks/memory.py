"""Peak memory of the low-rank path over its data: 20000 x 20000 with one entry in a thousand observed, rank 10.

One dense array of that shape takes 3.2 GB. Two measures: tracemalloc counts what numpy allocates, exactly
and reproducibly; the peak resident set is what the operating system saw, from a fresh process.
"""

from __future__ import annotations

from measure import parse, table, write  # isort: skip  # sets one thread before numpy loads

import re
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import lowrankflow as lrf

RANK, SHARE, LIMIT = 10, 1e-3, 400.0


def problem(n: int) -> tuple[Any, lrf.LowRankMatrix]:
    """Entries of a rank-10 matrix at random positions."""
    rng = np.random.default_rng(0)
    position = np.unique(rng.integers(0, n * n, int(SHARE * n * n)))  # 4e-4 of the draws coincide
    rows, cols = np.divmod(position, n)
    teacher = lrf.random_point(n, n, RANK, rng=rng)
    loss = lrf.losses.Completion(rows, cols, n * teacher.entries(rows, cols), shape=(n, n))
    return loss, lrf.random_point(n, n, RANK, rng=rng, singular_values=np.full(RANK, 0.1 * n))


def work(loss: Any, start: lrf.LowRankMatrix, t_end: float) -> dict[str, Callable[[], Any]]:
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(3))
    system = lrf.SingularFrame().bind(flow, start)
    network = lrf.LinearNetwork.balanced(start, 3)
    return {
        "one velocity": lambda: system.velocity(0.0, system.y0),
        "Riemannian gradient": lambda: lrf.riemannian_gradient(start, loss.gradient(start), flow.metric),
        "factor gradients, width r": lambda: lrf.factor_gradients(loss, network),
        "trajectory, last point kept": lambda: lrf.integrate(
            flow, start, t_span=(0, t_end), rtol=1e-6, method="DOP853", save=lrf.Save(steps=False)
        ),
    }


def resident() -> float:
    """Peak resident set of this process in MB."""
    status = Path("/proc/self/status")  # Linux: ru_maxrss would start from the parent's peak
    if status.exists() and (high := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(high[1]) / 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def resident_growth(n: int, t_end: float) -> float:
    """Growth of the peak resident set through a trajectory, in a fresh process, MB."""
    script = (
        "import memory; loss, start = memory.problem({n}); before = memory.resident();"
        " memory.work(loss, start, {t})['trajectory, last point kept'](); print(memory.resident() - before)"
    )
    command = [sys.executable, "-c", script.format(n=n, t=t_end)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, cwd=sys.path[0]).stdout)


def main() -> None:
    args = parse("Peak memory of the low-rank path over its data.")
    n = 5000 if args.quick else 20000
    t_end = 20.0 / (3 * SHARE * n ** (4 / 3))  # the rate is N sigma^(2-2/N) times the share observed, sigma about n
    tracemalloc.start()
    loss, start = problem(n)
    data = tracemalloc.get_traced_memory()[0] / 1e6
    rows = []
    for name, call in work(loss, start, t_end).items():
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        result = call()
        rows.append({"what": name, "peak over the data [MB]": (tracemalloc.get_traced_memory()[1] - before) / 1e6})
        if isinstance(result, lrf.Trajectory):
            result.raise_if_failed()
            steps = result.nsteps
        del result
    tracemalloc.stop()
    rows.append({"what": "trajectory, resident set", "peak over the data [MB]": resident_growth(n, t_end)})
    worst = max(row["peak over the data [MB]"] for row in rows)
    print(f"{n} x {n}, {loss.values.size} observed, rank {RANK}; data and start {data:.0f} MB, {steps} steps")
    print(f"one dense array of that shape: {8e-6 * n * n:.0f} MB; target < {LIMIT:g} MB over the data")
    table(rows)
    write(args, "memory", {"n": n, "observed": loss.values.size, "rank": RANK, "data MB": data, "rows": rows,
                           "target MB": LIMIT, "met": worst < LIMIT})  # fmt: skip


if __name__ == "__main__":
    main()
