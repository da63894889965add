"""Cost of one velocity on the low-rank path over the bare products with the data.

Bare is all that the flow asks of a loss at W = U diag(s) V^T: making the gradient G, then g @ v and
g.T @ u. The rest, the spectral form of the velocity, is O((m + n) r^2) and is what is measured here.
"""

from __future__ import annotations

from measure import interleaved, parse, ratio, table, write  # isort: skip  # sets one thread before numpy loads

from collections.abc import Callable
from typing import Any

import numpy as np

import lowrankflow as lrf

RANK = 10


class DenseGradient:
    """A loss whose gradient is one fixed array: g @ v and g.T @ u are then two BLAS calls and nothing else."""

    def __init__(self, g: np.ndarray) -> None:
        self.g, self.shape = g, g.shape

    def value(self, w: Any) -> float:
        return 0.0

    def gradient(self, w: Any) -> np.ndarray:
        return self.g


def least_squares(n: int, rng: np.random.Generator) -> lrf.losses.LeastSquares:
    return lrf.losses.LeastSquares(rng.standard_normal((n, n)) / np.sqrt(n), rng.standard_normal((n, n)))


def completion(n: int, share: float, rng: np.random.Generator) -> lrf.losses.Completion:
    rows, cols = np.divmod(rng.choice(n * n, int(share * n * n), replace=False), n)
    return lrf.losses.Completion(rows, cols, rng.standard_normal(rows.size), shape=(n, n))


def velocity(loss: Any, start: lrf.LowRankMatrix, depth: float, chart: Any = None) -> Callable[[], Any]:
    system = (lrf.SingularFrame() if chart is None else chart).bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), start)
    return lambda: system.velocity(0.0, system.y0)


def bare(loss: Any, start: lrf.LowRankMatrix) -> Callable[[], Any]:
    u, v = np.ascontiguousarray(start.u), np.ascontiguousarray(start.vt.T)
    if isinstance(loss, lrf.losses.Completion):  # sampled entries and two sparse products
        g = loss.gradient(start)
        rows, cols = loss.rows, loss.cols
        return lambda: (start.entries(rows, cols), g @ v, g.T @ u)

    def products() -> Any:
        g = loss.gradient(start)
        return g @ v, g.T @ u

    return products


def compare(problem: str, loss: Any, target: float | None, repeats: int, rng: np.random.Generator) -> dict[str, Any]:
    start = lrf.random_point(*loss.shape, min(RANK, loss.shape[0] // 2), rng=rng)
    calls = {"velocity": velocity(loss, start, 3, lrf.charts.Polynomial()), "bare": bare(loss, start),
             "frame": velocity(loss, start, 3)}  # fmt: skip
    seconds = interleaved(calls, repeats=repeats)
    measured = ratio(seconds["velocity"], seconds["bare"])
    return {
        "problem": problem,
        "velocity [us]": 1e6 * float(seconds["velocity"].min()), "bare [us]": 1e6 * float(seconds["bare"].min()),
        "ratio": measured, "ratio, singular frame": ratio(seconds["frame"], seconds["bare"]),
        "target": target, "met": None if target is None else measured <= target,
    }  # fmt: skip


def over_depth(problem: str, loss: Any, repeats: int, rng: np.random.Generator) -> dict[str, Any]:
    start = lrf.random_point(*loss.shape, RANK, rng=rng)
    seconds = interleaved({str(d): velocity(loss, start, d) for d in (3, 20, 200, 2.5)}, repeats=repeats)
    return {"problem": problem} | {f"depth {d} / 3": ratio(t, seconds["3"]) for d, t in seconds.items() if d != "3"}


def main() -> None:
    args = parse("Cost of one velocity over the bare products with the data.")
    rng = np.random.default_rng(0)
    repeats = 20 if args.quick else 60
    n_dense, n_sparse = (500, 2000) if args.quick else (2000, 5000)
    dense, sparse = least_squares(n_dense, rng), completion(n_sparse, 0.01, rng)
    array = DenseGradient(rng.standard_normal((n_dense, n_dense)))
    full = not args.quick  # the targets are stated for the full sizes
    print(f"one velocity of the depth-3 flow, polynomial chart, rank {RANK}")
    large = [
        compare(f"least squares {n_dense} x {n_dense}", dense, 1.15 if full else None, repeats, rng),
        compare(f"dense gradient {n_dense} x {n_dense}", array, 1.15 if full else None, repeats, rng),
        compare(f"completion {n_sparse} x {n_sparse}, 1 %", sparse, 1.25 if full else None, repeats, rng),
    ]
    small = [
        compare(f"least squares {n} x {n}", least_squares(n, rng), None, repeats, rng) for n in (20, 50, 100, 200, 500)
    ]
    table(large + small)
    print("\nthe same velocity at other depths (20 and 200 are whole, 2.5 is not)")
    depths = [
        over_depth("least squares 200 x 200", least_squares(200, rng), repeats, rng),
        over_depth(f"least squares {n_dense} x {n_dense}", dense, repeats, rng),
    ]
    table(depths)
    write(args, "velocity", {"rank": RANK, "large": large, "small": small, "depths": depths})


if __name__ == "__main__":
    main()
