"""What the metric does: five flows from one start, and what depth does to the time in which modes are learnt.

First on data: the flows of the embedded metric, depth 2, 3 and 5 and ScaledGD reach the same limit by other paths; arc
length and the singular values at a given loss say how far these differ, whatever the clock. Then on one problem in two
units, W and a hundred times W: by the clock of the operator depth does the same in both. By the clock of the factors the
coefficient N sigma^(2-2/N) counts: more depth is slower where the singular values lie below 1, and faster above.
"""

import argparse
from pathlib import Path

import numpy as np

import lowrankflow as lrf
from lowrankflow.compare import compare_problem

METRICS = ("embedded", 2, 3, 5, "scaledgd")
DEPTHS = (2, 3, 5)
SIGMA = (0.4, 0.2, 0.1)  # of the targets, in the small unit


def on_data(quick):
    """Return the report on digits, the quick one on iris."""
    name, rank, rtol = ("iris", 2, 1e-6) if quick else ("digits", 10, 1e-8)
    return compare_problem(lrf.Problem(data=name, rank=rank, metrics=METRICS, rtol=rtol))


def in_units(unit, clock, depths=DEPTHS):
    """Return when each mode is learnt under each depth, an array (modes, depths), with W in some unit."""
    loss = lrf.losses.LeastSquares(np.eye(6), unit * np.diag([*SIGMA, 0.05, 0.02, 0.01]))
    start = lrf.random_point(6, 6, 3, rng=0, singular_values=np.full(3, 0.02 * unit))
    report = lrf.compare_metrics(loss, start, [lrf.DepthMetric(n) for n in depths], clock=clock)
    report.raise_if_failed()
    return np.array([row[1:] for row in report.table("modes").rows[: len(SIGMA)]], dtype=float)


def main(quick=False, out=None):
    report = on_data(quick)
    report.raise_if_failed()
    limits, cost = report.table("limits"), report.table("cost")
    depths = DEPTHS[:2] if quick else DEPTHS
    times = {clock: {unit: in_units(unit, clock, depths) for unit in (1, 100)} for clock in ("operator", "factors")}
    numbers = {
        "limits": dict(zip(limits.column("metric"), limits.column("limit"), strict=True)),
        "arc length": dict(zip(cost.column("metric"), cost.column("arc length"), strict=True)),
        "times": times,
    }
    print(report)
    print("\nwhen the first mode is learnt, by depth " + ", ".join(map(str, depths)))
    for clock, by_unit in times.items():
        for unit, found in by_unit.items():
            print(f"clock {clock:8} singular values up to {SIGMA[0] * unit:4g}: " + "  ".join(f"{t:9.4g}" for t in found[0]))
    if out is not None:
        draw(Path(out), report)
    return numbers


def draw(folder, report):
    """Write compare_metrics.png: singular values against the loss, and when each mode is learnt."""
    from matplotlib.figure import Figure

    from lowrankflow.render import draw_figure

    figures = {figure.name: figure for figure in report.figures}
    page = Figure(figsize=(12.5, 5.2), layout="constrained")
    for axes, name in zip(page.subplots(1, 2), ("singular_values", "modes"), strict=True):
        draw_figure(axes, figures[name])
    folder.mkdir(parents=True, exist_ok=True)
    page.savefig(folder / "compare_metrics.png", dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="iris instead of digits, and two depths")
    parser.add_argument("--out", metavar="DIR", help="write compare_metrics.png there")
    main(**vars(parser.parse_args()))
