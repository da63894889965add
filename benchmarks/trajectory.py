"""Time of a trajectory at equal measured error: full-width factors, width-r factors, the default chart.

Each row is DOP853 at the loosest rtol (in quarter decades) whose error is at most 1e-6: the largest relative
gap of W over a common time grid, against the same flow at rtol 1e-13. Timed: the solver with its
velocities, and, for the chart alone, the defect and its repair after every step. Not timed: setting
up, interpolating onto the grid, recording (`integrate` adds one value, one gradient and the singular values a
kept time; at full width that would be an SVD of m x n, so leaving it out favours the other rows).
"""

from __future__ import annotations

from measure import clock, interleaved, parse, ratio, table, write  # isort: skip  # sets one thread before numpy loads

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from scipy.integrate import DOP853

import lowrankflow as lrf
from lowrankflow.matrices import difference

RANK, TARGET_ERROR = 5, 1e-6
SCAN = 10.0 ** np.arange(-3.0, -11.25, -0.25)
SPAN = {200: 20.0, 500: 20.0, 2000: 2.0}  # at 2000 one full-width velocity takes seconds: a short span for all rows
TARGETS = {200: 45.0, 500: 80.0, 2000: 250.0}


class Run(NamedTuple):
    seconds: float
    steps: int
    nfev: int
    points: list[Any]


def problem(n: int, scale: float = 0.1) -> tuple[Any, lrf.LowRankMatrix]:
    """Noisy samples of a rank-5 teacher with singular values 1 .. 2; start at `scale` in random frames."""
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, 2 * n)) / np.sqrt(2 * n)  # the spectrum of X X^T lies in about [0.09, 2.9]
    teacher = lrf.random_point(n, n, RANK, rng=rng, singular_values=np.linspace(1, 2, RANK))
    y = teacher @ x + 0.01 * rng.standard_normal((n, 2 * n)) / np.sqrt(2 * n)
    return lrf.losses.LeastSquares(x, y), lrf.random_point(n, n, RANK, rng=rng, singular_values=np.full(RANK, scale))


def drive(system: Any, t_end: float, rtol: float, grid: Sequence[float] = (), *, repair: bool = False) -> Run:
    """Integrate as `lrf.integrate` does, without its recording, and time the solver alone."""

    def solver_at(t: float, y: np.ndarray, step: float | None) -> Any:
        return DOP853(system.velocity, t, y, t_end, rtol=relative, atol=absolute, first_step=step)

    relative, absolute = system.tolerances(system.y0, rtol, 0.0)
    points: list[Any] = []
    nfev = steps = 0
    start = clock()
    solver = solver_at(0.0, system.y0, None)
    seconds = clock() - start
    while solver.status == "running":
        start = clock()
        with np.errstate(over="ignore", invalid="ignore"):  # trial steps may blow up; they are rejected
            solver.step()
        calls = solver.nfev
        seconds += clock() - start
        inside = [t for t in grid if solver.t_old < t <= solver.t]
        if inside:
            interpolant = solver.dense_output()
            points += [system.point(interpolant(t)) for t in inside]
        start = clock()
        if repair and system.defect(solver.y) > 10 * rtol and solver.status == "running":
            nfev += calls
            solver = solver_at(solver.t, system.repair(solver.y), min(solver.step_size, t_end - solver.t))
            calls = solver.nfev
        seconds += clock() - start
        steps += 1
    return Run(seconds, steps, nfev + calls, points)


def error(run: Run, reference: Run) -> float:
    gaps = (difference(a, b).norm() / b.norm() for a, b in zip(run.points, reference.points, strict=True))
    return float(max(gaps))


def frame(loss: Any, start: lrf.LowRankMatrix, depth: int) -> Any:
    """The chart that `integrate` takes by itself."""
    chart = lrf.charts.Polynomial() if depth <= 9 else lrf.SingularFrame()
    return chart.bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), start)


def factors(loss: Any, start: lrf.LowRankMatrix, depth: int, width: int | None = None) -> Any:
    rng = np.random.default_rng(0)
    return lrf.Factors().bind(lrf.FactorFlow(loss), lrf.LinearNetwork.balanced(start, depth, widths=width, rng=rng))


def calibrate(system: Any, t_end: float, grid: Sequence[float], reference: Run, repair: bool) -> tuple[float, float]:
    """Return the loosest rtol of the scan that reaches the target error, and that error."""
    for rtol in SCAN:
        reached = error(drive(system, t_end, rtol, grid, repair=repair), reference)
        if reached <= TARGET_ERROR:
            return float(rtol), reached
    raise RuntimeError(f"No rtol down to {SCAN[-1]:g} reaches an error of {TARGET_ERROR:g}.")


def by_hand(loss: Any, start: lrf.LowRankMatrix) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """One full-width velocity of depth 3: by the library, and in the seven matrix products that it takes at least."""
    n = loss.shape[0]
    system = factors(loss, start, 3, n)
    c = loss.hessian(start, np.eye(n))
    b = -(loss.gradient(np.zeros((n, n))) @ np.eye(n))

    def seven_products() -> np.ndarray:
        w1, w2, w3 = system.y0.reshape(3, n, n)
        w21 = w2 @ w1
        g = (w3 @ w21) @ c
        g -= b
        below = w3.T @ g
        dy = np.empty((3, n, n))
        np.matmul(w2.T, below, out=dy[0])
        np.matmul(below, w1.T, out=dy[1])
        np.matmul(g, w21.T, out=dy[2])
        return np.negative(dy, out=dy).ravel()

    gap = np.abs(seven_products() - system.velocity(0.0, system.y0)).max()
    assert gap <= 1e-12 * np.abs(seven_products()).max(), gap  # n products of roundoff 1e-16: the same velocity
    return lambda: system.velocity(0.0, system.y0), seven_products


def one_size(n: int, repeats: int) -> list[dict[str, Any]]:
    loss, start = problem(n)
    t_end = SPAN[n]
    grid = np.linspace(0, t_end, 9)[1:]
    narrow, ours = factors(loss, start, 3), frame(loss, start, 3)
    reference = drive(narrow, t_end, 1e-13, grid)
    both = error(drive(ours, t_end, 1e-13, grid, repair=True), reference)
    rtol_narrow, error_narrow = calibrate(narrow, t_end, grid, reference, False)
    rtol_ours, error_ours = calibrate(ours, t_end, grid, reference, True)
    # the full-width flow is the width-r flow in rotated frames and takes the same steps: the same rtol; its error is
    # measured all the same
    full = drive(factors(loss, start, 3, n), t_end, rtol_narrow, grid)
    runs: dict[str, list[Run]] = {"full": [full], "narrow": [], "ours": []}
    for i in range(20 if n < 500 else 3):
        if 0 < i < repeats:
            runs["full"].append(drive(factors(loss, start, 3, n), t_end, rtol_narrow))
        runs["narrow"].append(drive(narrow, t_end, rtol_narrow))
        runs["ours"].append(drive(ours, t_end, rtol_ours, repair=True))
    best = {name: min(r, key=lambda run: run.seconds) for name, r in runs.items()}
    library, seven = by_hand(loss, start)
    hand = interleaved({"library": library, "seven": seven}, repeats=1 if n >= 2000 else 7)
    share = ratio(hand["seven"], hand["library"])
    print(f"n = {n}, t in [0, {t_end:g}]; the two references differ by {both:.1e}")
    details = [
        ("full-width factors", best["full"], rtol_narrow, error(full, reference)),
        ("width-r factors", best["narrow"], rtol_narrow, error_narrow),
        ("ours", best["ours"], rtol_ours, error_ours),
    ]
    rows = [
        {
            "n": n, "row": name, "rtol": rtol, "error": e, "steps": run.steps, "velocities": run.nfev,
            "seconds": run.seconds, "over ours": run.seconds / best["ours"].seconds,
            "target": {"full-width factors": f">= {TARGETS[n]:g}", "width-r factors": ">= 1"}.get(name),
        }
        for name, run, rtol, e in details
    ]  # fmt: skip
    rows.insert(1, dict(rows[0]))
    rows[1] |= {
        "row": "the same by hand", "seconds": share * best["full"].seconds,
        "over ours": share * rows[0]["over ours"], "target": None,
    }  # fmt: skip
    table(rows)
    print()
    return rows


def over_depth(n: int, depths: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """Time the default chart and the width-r factors on one span; from 0.5, since deep flows align slowly from 0.1."""
    loss, start = problem(n, 0.5)
    t_end, rows = 5.0, []
    for depth in depths:
        grid = np.linspace(0, t_end, 9)[1:]
        narrow, ours = factors(loss, start, depth), frame(loss, start, depth)
        reference = drive(narrow, t_end, 1e-13, grid)
        rtol_narrow, _ = calibrate(narrow, t_end, grid, reference, False)
        rtol_ours, _ = calibrate(ours, t_end, grid, reference, True)
        pairs = [
            (drive(narrow, t_end, rtol_narrow), drive(ours, t_end, rtol_ours, repair=True)) for _ in range(repeats)
        ]
        a, b = (min(runs, key=lambda run: run.seconds) for runs in zip(*pairs, strict=True))
        rows.append(
            {
                "n": n, "depth": depth, "velocities width-r": a.nfev, "velocities ours": b.nfev,
                "us a velocity width-r": 1e6 * a.seconds / a.nfev, "us a velocity ours": 1e6 * b.seconds / b.nfev,
                "width-r over ours": a.seconds / b.seconds,
            }
        )  # fmt: skip
    table(rows)
    print()
    return rows


def main() -> None:
    args = parse("Time of a trajectory at an error of 1e-6.")
    repeats = {200: 3} if args.quick else {200: 3, 500: 1, 2000: 1}
    print(f"depth 3, least squares, rank {RANK}, DOP853, largest relative gap of W at most {TARGET_ERROR:g}")
    sizes = {n: one_size(n, k) for n, k in repeats.items()}
    print("over the depth")
    depths = [over_depth(n, (3, 10, 50), 5) for n in ((200,) if args.quick else (200, 500))]
    write(args, "trajectory", {"sizes": list(chain(*sizes.values())), "depths": list(chain(*depths))})


if __name__ == "__main__":
    main()
