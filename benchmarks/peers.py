"""Ours beside what people write in ten lines: scipy's DOP853 on factors of width r, with a velocity written by hand.

The flow of depth 3 and rank 5 (3 at n = 20) of a square loss, to one time, at equal measured error: for each the largest rtol
of a grid whose end is within 1e-6 of the reference, relative. Processor seconds of the other over ours: above 1 we are ahead.
"""

from __future__ import annotations

from measure import interleaved, parse, ratio, table, write  # isort: skip  # sets one thread before numpy loads

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

import lowrankflow as lrf

GRID = 10.0 ** -np.arange(3, 12)
ERROR = 1e-6


def by_hand(x: np.ndarray, y: np.ndarray, net: lrf.LinearNetwork, t_end: float, rtol: float) -> np.ndarray:
    """DOP853 on the factors of width r, one vector; the data as their Gram matrix, in the mean."""
    gram, cross = x @ x.T / x.shape[1], y @ x.T / x.shape[1]
    shapes = [f.shape for f in net.factors]
    (m, r), n = (shapes[2][0], shapes[0][0]), shapes[0][1]
    cuts = [r * n, r * n + r * r]

    def velocity(t: float, v: np.ndarray) -> np.ndarray:
        a, b, c = v[: cuts[0]].reshape(r, n), v[cuts[0] : cuts[1]].reshape(r, r), v[cuts[1] :].reshape(m, r)
        cb = c @ b
        left = cb.T @ cross  # all products with the narrow side first
        ga = cb.T @ cb @ (a @ gram) - left
        gra = (a @ gram) @ a.T
        gb = c.T @ c @ b @ gra - (c.T @ cross) @ a.T
        gc = cb @ (gra @ b.T) - (cross @ a.T) @ b.T
        return -np.concatenate([ga.ravel(), gb.ravel(), gc.ravel()])

    v0 = np.concatenate([f.ravel() for f in net.factors])
    found = solve_ivp(velocity, (0, t_end), v0, "DOP853", rtol=rtol, atol=rtol * 1e-2).y[:, -1]
    a, b, c = (p.reshape(s) for p, s in zip(np.split(found, cuts), shapes, strict=True))
    return c @ b @ a


def side_by_side(n: int, repeats: int, rng: np.random.Generator) -> dict[str, Any]:
    rank = 3 if n == 20 else 5
    x, y = (rng.standard_normal((n, 3 * n)) for _ in range(2))
    loss = lrf.losses.LeastSquares(x, y, reduction="mean")
    start = lrf.random_point(n, n, rank, rng=rng, singular_values=np.full(rank, 0.1))
    net = lrf.LinearNetwork.balanced(start, 3)
    flow, t_end = lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), 20.0

    def ours(rtol: float, **options: Any) -> np.ndarray:
        path = lrf.integrate(flow, start, t_span=(0, t_end), rtol=rtol, save=lrf.Save(steps=False), **options)
        return path.points[-1].to_dense()

    reference = ours(1e-12, method="DOP853")

    def loosest(run: Callable[[float], np.ndarray]) -> float:
        good = [r for r in GRID if np.linalg.norm(run(r) - reference) <= ERROR * np.linalg.norm(reference)]
        return max(good)

    runs: dict[str, Callable[[float], np.ndarray]] = {
        "ours": lambda r: ours(r),
        "ours, singular frame": lambda r: ours(r, chart=lrf.SingularFrame()),
        "by hand": lambda r: by_hand(x, y, net, t_end, r),
    }
    at = {name: loosest(run) for name, run in runs.items()}
    seconds = interleaved({name: lambda run=run, r=at[name]: run(r) for name, run in runs.items()}, repeats=repeats)  # type: ignore[misc]
    return {
        "n": n, "rank": rank, "ours [ms]": 1e3 * float(seconds["ours"].min()),
        "rtol ours, by hand": f"{at['ours']:.0e}, {at['by hand']:.0e}",
        "by hand / ours": ratio(seconds["by hand"], seconds["ours"]),
        "by hand / singular frame": ratio(seconds["by hand"], seconds["ours, singular frame"]),
    }  # fmt: skip


def main() -> None:
    args = parse(__doc__)
    rng = np.random.default_rng(0)
    rows = [side_by_side(n, 3 if args.quick else 9, rng) for n in ((20, 60) if args.quick else (20, 60, 200, 500))]
    table(rows)
    write(args, "peers", {"by hand": rows})


if __name__ == "__main__":
    main()
