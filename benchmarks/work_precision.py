"""Work against precision: our steppers and charts, and scipy's solvers on the factors, on four problems.

Least squares with a teacher of rank 3, 12 x 12: *easy* (depth 3, condition number 4), *stiff* (depth 3, 1e4), *tiny*
(depth 2, 4, from sigma_3 = 3e-9 to past the time at which that one is learned) and *deep* (depth 20, 4).
Ours are the singular frame and the lifted chart; references are scipy's solvers on the factors of width r
and of full width. So small that scipy's implicit solvers can make dense Jacobians by differences: 81 unknowns in
the singular frame, 432 at full width; left out where there are more than 500 (full width, N = 20: 2880).

The error is the largest relative gap of W at four times, on each of which a step lands, to width-r factors by DOP853
at rtol 1e-13. An evaluation is a gradient of the loss, those of power methods and Jacobians included. Time is
all of `integrate`, in every row, and at this size it is mostly the overhead of small numpy calls:
`trajectory.py` measures times at larger ones.
"""

from __future__ import annotations

from measure import clock, table, write  # isort: skip  # sets one thread before numpy loads

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from stiffness import WithoutHessian, problem

import lowrankflow as lrf

N, RANK = 12, 3
MOST_UNKNOWNS = 500  # implicit methods: a Jacobian by differences costs as many evaluations
RTOLS = 10.0 ** -np.arange(2.0, 10.0)
LEVELS = (1e-3, 1e-5, 1e-7)  # errors at which the table reads the curves

OURS, IMPLICIT = ("RK45", "DOP853", "RKC", "ROCK4", "auto"), ("Radau", "LSODA")
SCIPY = ("RK45", "DOP853", *IMPLICIT)
#: coordinates and the methods run in them
COORDINATES = {
    "singular frame": OURS, "polynomial": OURS, "lifted": OURS, "width-r factors": SCIPY, "full-width factors": SCIPY,
}  # fmt: skip


class Setting(NamedTuple):
    """A problem."""

    name: str
    depth: int
    kappa: float
    start: Sequence[float]  #: singular values of W(0)
    times: np.ndarray


SETTINGS = (
    Setting("easy", 3, 4.0, (0.5, 0.5, 0.5), np.array([0.5, 1.0, 5.0, 10.0])),
    Setting("stiff", 3, 1e4, (0.5, 0.5, 0.5), np.array([3.0, 30.0, 300.0, 3000.0])),
    Setting("tiny", 2, 4.0, (0.5, 0.4, 3e-9), np.array([10.0, 20.0, 30.0, 40.0])),
    Setting("deep", 20, 4.0, (0.5, 0.5, 0.5), np.array([0.5, 1.0, 5.0, 10.0])),
)


class Run(NamedTuple):
    evaluations: int
    seconds: float
    points: list[np.ndarray]


def bind(setting: Setting, coordinates: str) -> tuple[Any, Any, Any]:
    """Return flow, start and chart."""
    loss, start = problem(setting.kappa, n=N, rank=RANK, singular_values=setting.start)
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(setting.depth))
    if coordinates == "singular frame":
        return flow, start, lrf.SingularFrame()
    if coordinates == "polynomial":
        return flow, start, lrf.charts.Polynomial()
    if coordinates == "lifted":
        return flow, start, lrf.Lifted()
    loss = WithoutHessian(loss)  # as scipy comes: Jacobians by differences
    width = RANK if coordinates == "width-r factors" else N
    net = lrf.LinearNetwork.balanced(start, setting.depth, widths=width, rng=1)
    return lrf.FactorFlow(loss), net, lrf.Factors()


def unknowns(setting: Setting, coordinates: str) -> int:
    flow, start, chart = bind(setting, coordinates)
    return int(chart.bind(flow, start).y0.size)


def drive(setting: Setting, coordinates: str, method: str, rtol: float) -> Run | None:
    """Return the run, or None where it failed."""
    flow, start, chart = bind(setting, coordinates)
    times = setting.times
    save = lrf.Save(times=times[:-1], exact=True, steps=False)
    best = np.inf
    for _ in range(3):
        begin = clock()
        path = lrf.integrate(
            flow, start, t_span=(0, times[-1]), rtol=float(rtol), chart=chart, method=method, save=save
        )  # fmt: skip
        best = min(best, clock() - begin)
        if best > 0.1:  # short runs: the fastest of three
            break
    if path.status is not lrf.Status.FINISHED:
        return None
    return Run(path.nfev, best, [w.to_dense() for w in path.points])


def error(run: Run, reference: Run) -> float:
    gaps = (np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(run.points, reference.points, strict=True))
    return float(max(gaps))


def curves(setting: Setting, rtols: np.ndarray) -> tuple[list[dict[str, Any]], float]:
    """Return one record a run, and the gap between the references of two coordinates."""
    reference = drive(setting, "width-r factors", "DOP853", 1e-13)
    both = error(drive(setting, "singular frame", "DOP853", 1e-13), reference)
    records = []
    for coordinates, methods in COORDINATES.items():
        small = unknowns(setting, coordinates) <= MOST_UNKNOWNS
        for method in (m for m in methods if small or m not in IMPLICIT):
            # explicit methods cost the same there at all tolerances
            bound = setting.kappa >= 1e4 and method in ("RK45", "DOP853")
            for rtol in rtols[1::3] if bound else rtols:
                run = drive(setting, coordinates, method, rtol)
                cells = {"problem": setting.name, "coordinates": coordinates, "method": method, "rtol": float(rtol)}
                if run is None:
                    records.append(cells | {"evaluations": None, "seconds": None, "error": None})
                    continue
                numbers = {"evaluations": run.evaluations, "seconds": run.seconds, "error": error(run, reference)}
                records.append(cells | numbers)
    return records, both


def cost_at(records: Sequence[dict[str, Any]], level: float, key: str) -> float | None:
    """Return the least cost of a run whose error is at most `level`, None where none reached it."""
    return min((r[key] for r in records if r["error"] is not None and r["error"] <= level), default=None)


def summary(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each curve: evaluations and milliseconds at each level of error."""
    rows = []
    names = dict.fromkeys((r["problem"], r["coordinates"], r["method"]) for r in records)
    for name in names:
        mine = [r for r in records if (r["problem"], r["coordinates"], r["method"]) == name]
        row = dict(zip(("problem", "coordinates", "method"), name, strict=True))
        for key, unit, scale in (("evaluations", "evaluations", 1), ("seconds", "ms", 1e3)):
            for level in LEVELS:
                cost = cost_at(mine, level, key)
                row[f"{unit} at {level:g}"] = None if cost is None else round(scale * cost)
        rows.append(row)
    return rows


def winners(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each problem and level, the cheapest of ours and the cheapest of scipy's on the factors."""
    result = []
    for setting in SETTINGS:
        for level in LEVELS:
            for unit in ("evaluations", "ms"):
                key = f"{unit} at {level:g}"
                mine = [r for r in rows if r["problem"] == setting.name and r[key] is not None]
                ours = least(mine, key, "singular frame", "polynomial", "lifted")
                if ours is None:
                    continue
                cells = {"problem": setting.name, "error": level, "cost": unit, "ours": label(ours), "at": ours[key]}
                for where in ("width-r factors", "full-width factors"):
                    theirs = least(mine, key, where)
                    cells[f"scipy, {where}"] = None if theirs is None else theirs["method"]
                    cells[f"over ours, {where}"] = None if theirs is None else theirs[key] / max(ours[key], 1)
                result.append(cells)
    return result


def least(rows: Sequence[dict[str, Any]], key: str, *coordinates: str) -> dict[str, Any] | None:
    return min((r for r in rows if r["coordinates"] in coordinates), key=lambda r: r[key], default=None)


def label(row: dict[str, Any]) -> str:
    return f"{row['method']}, {row['coordinates']}"


#: colours of Okabe and Ito by method, line and marker by coordinates
COLOURS = {
    "RK45": "#56b4e9", "DOP853": "#0072b2", "RKC": "#e69f00", "ROCK4": "#d55e00", "auto": "#1f2328",
    "Radau": "#009e73", "LSODA": "#cc79a7",
}  # fmt: skip
FORMS = {
    "singular frame": ("-", "o", 1.8), "polynomial": ("-", "d", 1.3), "lifted": ("--", "s", 1.3),
    "width-r factors": ("-.", "^", 1.0), "full-width factors": (":", "x", 1.0),
}  # fmt: skip
TITLES = {
    "easy": "easy: depth 3, condition number 4", "stiff": "stiff: depth 3, condition number 1e4",
    "tiny": "tiny: depth 2, \u03c3\u2083(0) = 3e-9", "deep": "deep: N = 20, condition number 4",
}  # fmt: skip


def draw(records: Sequence[dict[str, Any]], folder: Path) -> Path:
    """Write work_precision.png: evaluations above, seconds below, a column for each problem."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(16, 9.2), layout="constrained")
    axes = figure.subplots(2, len(SETTINGS), sharex="col", sharey="row")
    for i, (key, name) in enumerate((("evaluations", "gradient evaluations"), ("seconds", "processor time [s]"))):
        for ax, setting in zip(axes[i], SETTINGS, strict=True):
            for coordinates, methods in COORDINATES.items():
                line, marker, width = FORMS[coordinates]
                for method in methods:
                    mine = [
                        (r["error"], r[key]) for r in records
                        if (r["problem"], r["coordinates"], r["method"]) == (setting.name, coordinates, method)
                        and r["error"] is not None
                    ]  # fmt: skip
                    if mine:
                        x, y = zip(*mine, strict=True)
                        ax.loglog(x, y, line, color=COLOURS[method], marker=marker, ms=4, lw=width, alpha=0.9)
            ax.grid(alpha=0.3, lw=0.5)
        axes[i][0].set_ylabel(name)
    for ax, setting in zip(axes[0], SETTINGS, strict=True):
        ax.set_title(TITLES[setting.name], fontsize=11)
    for ax in axes[1]:
        ax.invert_xaxis()  # shared with the one above
        ax.set_xlabel("largest relative error of W (more precise to the right)")
    handles = [Line2D([], [], color=c, lw=3, label=method) for method, c in COLOURS.items()]
    handles += [
        Line2D([], [], color="#59636e", ls=line, marker=marker, lw=width, label=name)
        for name, (line, marker, width) in FORMS.items()
        if name in COORDINATES
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9.5, frameon=False)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "work_precision.png"
    figure.savefig(path, dpi=80)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Work against precision of methods and charts.")
    parser.add_argument("--quick", action="store_true", help="fewer tolerances, without the full width")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there")
    parser.add_argument("--out", metavar="DIR", help="draw the figure there")
    args = parser.parse_args()
    if args.quick:
        del COORDINATES["full-width factors"]
    rtols = RTOLS[:5:2] if args.quick else RTOLS
    records, gaps = [], {}
    for setting in SETTINGS:
        found, gaps[setting.name] = curves(setting, rtols)
        records += found
        failed = sum(r["error"] is None for r in found)
        sizes = ", ".join(f"{unknowns(setting, c)} {c}" for c in COORDINATES)
        print(
            f"{TITLES[setting.name]}; unknowns: {sizes}; references differ by {gaps[setting.name]:.1e}; failed {failed}"
        )
        table(summary(found))
        print()
    print("cheapest of ours against the cheapest of scipy's on the factors")
    best = winners(summary(records))
    table(best)
    if args.out:
        print(draw(records, Path(args.out)))
    write(args, "work_precision", {"n": N, "rank": RANK, "references differ": gaps, "rows": records, "best": best})


if __name__ == "__main__":
    main()
