"""Two layers in closed form at 1000 times, over an integration of the factors that keeps as many.

Both end with the array of all W. The integration is the library's FactorFlow at rtol 1e-6, the default, and at 1e-12, kept
on the same grid by its interpolant; `apart` is the largest distance of an entry of its W from that of the closed form.
"""

from __future__ import annotations

from measure import interleaved, parse, ratio, table, write  # isort: skip  # sets one thread before numpy loads

import numpy as np

import lowrankflow as lrf


def case(m: int, n: int, h: int, imbalance: float, t_end: float, rtol: float, repeats: int) -> dict:
    rng = np.random.default_rng(0)
    loss = lrf.losses.LeastSquares(np.eye(n), rng.standard_normal((m, n)) / np.sqrt(m))
    start = lrf.random_point(m, n, h, rng=rng, singular_values=np.full(h, 1e-3))
    net = lrf.LinearNetwork.balanced(start, 2, imbalances=[imbalance])
    times = np.linspace(0, t_end, 1000)
    save = lrf.Save(times=times, steps=False)

    def integrated() -> np.ndarray:
        path = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, t_end), rtol=rtol, save=save)
        return np.stack([w.to_dense() for w in path.points])

    exact = lrf.exact.TwoLayer(loss, net)(times)
    off = float(np.abs(exact - integrated()).max())
    calls = {"exact": lambda: lrf.exact.TwoLayer(loss, net)(times), "integrated": integrated}
    seconds = interleaved(calls, repeats=repeats)
    saved = ratio(seconds["integrated"], seconds["exact"])
    return {
        "shape": f"{m} x {n}", "h": h, "imbalance": imbalance, "t_end": t_end, "rtol": rtol,
        "ms": 1e3 * float(np.median(seconds["exact"])), "times faster": saved, "target": 20.0, "met": saved >= 20,
        "apart": off,
    }  # fmt: skip


def main() -> None:
    args = parse(__doc__.splitlines()[0])
    shapes = [(10, 8, 3), (30, 20, 5)] if args.quick else [(5, 4, 2), (10, 8, 3), (30, 20, 5), (100, 80, 10)]
    rows = [
        case(*shape, imbalance, t_end, rtol, 3 if args.quick else 7)
        for shape in shapes
        for imbalance in (0.0, 0.5)
        for t_end in (20.0,)
        for rtol in (1e-6, 1e-12)
    ]
    table(rows)
    write(args, "exact", {"two layers": rows, "lowrankflow": lrf.__version__})


if __name__ == "__main__":
    main()
