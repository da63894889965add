"""Cost against size at fixed rank: of a velocity and of a trajectory; and of a velocity against the depth.

Dense: least squares with an n x n second moment, two products of n x n with n x r a velocity, so O(n^2 r). Sparse:
completion with a fixed number of observed entries a row, so O(p r) for p = 60 n of them. Exponents are slopes of
a straight line through log cost against log size over all sizes.

A trajectory runs at a fixed tolerance from a start of fixed singular values, over a span of fixed length in the
time unit of the problem: 1 for the dense one, n / 60 for the sparse one, whose gradient sees a share 60 / n of W.
Its number of velocities may move a little with the size, so its exponent is given with that of its velocities.
"""

from __future__ import annotations

from measure import clock, interleaved, parse, ratio, table, write  # isort: skip  # sets one thread before numpy loads

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import lowrankflow as lrf

RANK, DEPTH, PER_ROW, SPAN = 10, 3, 60, 3.0
SIZES = (200, 500, 1000, 2000, 5000)
SPARSE_SIZES = (2000, 5000, 10000, 20000, 50000)
DEPTHS = (3, 50, 200, np.inf)
TARGETS = {"dense": 2.1, "sparse": 1.1}


def dense(n: int, rng: np.random.Generator) -> lrf.losses.LeastSquares:
    """X X^T has its spectrum in about [0.09, 2.9], whatever n; the teacher has singular values 1 .. 2."""
    x = rng.standard_normal((n, 2 * n)) / np.sqrt(2 * n)
    teacher = lrf.random_point(n, n, RANK, rng=rng, singular_values=np.linspace(1, 2, RANK))
    return lrf.losses.LeastSquares(x, teacher @ x)


def sparse(n: int, rng: np.random.Generator) -> lrf.losses.Completion:
    """PER_ROW entries in every row, of a teacher with singular values 1 .. 2."""
    rows = np.repeat(np.arange(n), PER_ROW)
    cols = (rng.integers(n, size=n)[:, None] + rng.integers(1, n // PER_ROW, size=(n, PER_ROW)).cumsum(axis=1)) % n
    teacher = lrf.random_point(n, n, RANK, rng=rng, singular_values=np.linspace(1, 2, RANK))
    return lrf.losses.Completion(rows, cols.ravel(), teacher.entries(rows, cols.ravel()), shape=(n, n))


def start_of(n: int) -> lrf.LowRankMatrix:
    return lrf.random_point(n, n, RANK, rng=1, singular_values=np.full(RANK, 0.5))


def velocity(loss: Any, start: lrf.LowRankMatrix, depth: float = DEPTH) -> Callable[[], Any]:
    system = lrf.SingularFrame().bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), start)
    return lambda: system.velocity(0.0, system.y0)


def bare(loss: Any, start: lrf.LowRankMatrix) -> Callable[[], Any]:
    """All that a velocity asks of the loss: making the gradient, and two products with it."""
    u, v = np.ascontiguousarray(start.u), np.ascontiguousarray(start.vt.T)

    def products() -> Any:
        g = loss.gradient(start)
        return g @ v, g.T @ u

    return products


def trajectory(loss: Any, start: lrf.LowRankMatrix, t_end: float) -> tuple[float, int, float]:
    """Return seconds, velocities and the loss over that at the start, at rtol 1e-6."""
    flow, save = lrf.RiemannianFlow(loss, lrf.DepthMetric(DEPTH)), lrf.Save(steps=False)
    begin = clock()
    path = lrf.integrate(flow, start, t_span=(0, t_end), rtol=1e-6, method="DOP853", save=save)
    seconds = clock() - begin
    path.raise_if_failed()
    return seconds, path.nfev, float(path.loss[-1] / path.loss[0])


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def over_size(name: str, make: Callable[..., Any], sizes: Sequence[int], repeats: int) -> dict[str, Any]:
    rows = []
    for n in sizes:
        loss, start = make(n, np.random.default_rng(n)), start_of(n)
        seconds = interleaved({"velocity": velocity(loss, start), "bare": bare(loss, start)}, repeats=repeats)
        t_end = SPAN if name == "dense" else SPAN * n / PER_ROW
        run = min((trajectory(loss, start, t_end) for _ in range(3 if n <= 2000 else 1)), key=lambda r: r[0])
        rows.append(
            {
                "problem": name, "n": n, "observed": loss.values.size if name == "sparse" else None,
                "velocity [us]": 1e6 * float(seconds["velocity"].min()), "bare [us]": 1e6 * float(seconds["bare"].min()),
                "trajectory [s]": run[0], "velocities": run[1], "loss left": run[2],
            }
        )  # fmt: skip
    table(rows)
    size = [row["observed"] or row["n"] for row in rows]
    exponents = {
        "problem": name, "over": "observations" if name == "sparse" else "n",
        "velocity": slope(size, [row["velocity [us]"] for row in rows]),
        "bare": slope(size, [row["bare [us]"] for row in rows]),
        "trajectory": slope(size, [row["trajectory [s]"] for row in rows]),
        "velocities of it": slope(size, [row["velocities"] for row in rows]), "target": TARGETS[name],
    }  # fmt: skip
    exponents["met"] = exponents["velocity"] <= TARGETS[name]
    return {"rows": rows, "exponents": exponents}


def over_depth(name: str, loss: Any, repeats: int) -> dict[str, Any]:
    start = start_of(loss.shape[0])
    seconds = interleaved({str(d): velocity(loss, start, d) for d in DEPTHS}, repeats=repeats)
    return {"problem": name, "depth 3 [us]": 1e6 * float(seconds["3"].min())} | {
        f"depth {d} / 3": ratio(t, seconds["3"]) for d, t in seconds.items() if d != "3"
    }


def main() -> None:
    args = parse("Cost of a velocity and of a trajectory against the size; of a velocity against the depth.")
    repeats = 10 if args.quick else 30
    print(f"rank {RANK}, depth {DEPTH}, singular frame; trajectories over {SPAN:g} time units, rtol 1e-6, DOP853")
    parts = [
        over_size("dense", dense, SIZES[:4] if args.quick else SIZES, repeats),
        over_size("sparse", sparse, SPARSE_SIZES[:4] if args.quick else SPARSE_SIZES, repeats),
    ]
    print("\nexponents of the cost")
    table([part["exponents"] for part in parts])
    print("\none velocity at other depths")
    rng = np.random.default_rng(0)
    depths = [
        over_depth("least squares 200 x 200", dense(200, rng), repeats),
        over_depth("least squares 1000 x 1000", dense(1000, rng), repeats),
        over_depth(f"completion 10000 x 10000, {PER_ROW} a row", sparse(10000, rng), repeats),
    ]
    table(depths)
    results = {"rows": [r for part in parts for r in part["rows"]], "exponents": [part["exponents"] for part in parts]}
    write(args, "size", {"rank": RANK, "depth": DEPTH, **results, "depths": depths})


if __name__ == "__main__":
    main()
