"""Evaluations against the condition number of the data: stabilised methods, DOP853, scipy's implicit ones.

100 x 100, rank 5, depth 3, least squares with a teacher of singular values 2 .. 1. The spectrum of X X^T is a geometric
progression 1 .. 1/kappa, and the run ends at T = 3 kappa, when its slowest direction, too, has been learned. An
evaluation is a velocity, that is one gradient of the loss; the power method of the stabilised methods and the
difference quotients of the implicit ones are counted. The error is the largest relative gap of W at T/1000, T/100,
T/10 and T, on each of which a step lands. Reference: DOP853 at rtol 1e-12 up to kappa = 1e4, beyond it ROCK4 at rtol
1e-7 in another chart, which is compared with DOP853 at 1e4. Implicit methods make a Jacobian of 1025 unknowns by
differences; beyond 1e4 that takes tens of minutes. Times are of all of `integrate`.

Then few unknowns: "auto" with an exact Jacobian, by BDF, and without, from 36 to 625 of them.

Then "auto", the default, beside DOP853 where a new user meets it: random short problems of every loss, shapes to 20 x 20,
either flow, rtol 1e-4 to 1e-12, as far as DOP853 takes less than 9000 evaluations. Error: of W at the end, relative,
against DOP853 at 1e-13.
"""

from __future__ import annotations

from measure import clock, parse, table, write  # isort: skip  # sets one thread before numpy loads

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from trials.losses import LOSSES, Draw

import lowrankflow as lrf
from lowrankflow.matrices import difference

N, RANK, DEPTH, SPAN = 100, 5, 3, 3.0
LANDINGS = np.array([1e-3, 1e-2, 1e-1])
KAPPAS = (1e1, 1e2, 1e3, 1e4, 1e5, 1e6)
RTOLS = (1e-4, 1e-6)
#: the largest kappa at which a method is run; beyond it the cost grows like kappa and takes minutes
METHODS = {"RKC": 1e6, "ROCK4": 1e5, "auto": 1e6, "DOP853": 1e4}
IMPLICIT, IMPLICIT_AT = ("BDF", "Radau", "LSODA"), (1e2, 1e4)
TARGETS = {1e-4: 20.0, 1e-6: 10.0}  # DOP853's evaluations over ours at kappa = 1e4
EXPONENT = 0.5
SCAN = 10.0 ** -np.arange(3.0, 10.0)
SHORT, PATIENCE = 60, 9000  # random problems, and the evaluations that DOP853 may need for one
DEPTHS = (2, 2.7, 3, 5, 10, None, np.inf)  # None: the embedded metric
#: no end in finite time, no free shape, or no scale to draw the start at
UNFIT = ("user's, with an end", "Bures-Wasserstein", "logarithm", "Schatten", "Schatten, depth 2")


class WithoutHessian:
    """A loss as far as first derivatives: no exact Jacobian."""

    def __init__(self, loss: Any) -> None:
        self.shape, self.value, self.gradient, self.curvature = loss.shape, loss.value, loss.gradient, loss.curvature
        self.best_value = loss.best_value


class Run(NamedTuple):
    evaluations: int
    steps: int
    seconds: float
    points: list[lrf.LowRankMatrix]
    said: str  #: what "auto" says it did


def problem(
    kappa: float, *, n: int = N, rank: int = RANK, singular_values: Sequence[float] | None = None
) -> tuple[lrf.losses.LeastSquares, lrf.LowRankMatrix]:
    """Inputs of condition number sqrt(kappa), a teacher of the same rank; start at 1/2 in random frames."""
    rng = np.random.default_rng(0)
    x = np.linalg.qr(rng.standard_normal((n, n)))[0] * np.sqrt(np.geomspace(1, 1 / kappa, n))
    teacher = lrf.random_point(n, n, rank, rng=rng, singular_values=np.linspace(2, 1, rank))
    s = np.full(rank, 0.5) if singular_values is None else np.asarray(singular_values)
    return lrf.losses.LeastSquares(x, teacher @ x), lrf.random_point(n, n, rank, rng=rng, singular_values=s)


def drive(kappa: float, method: str, rtol: float, chart: Any | None = None) -> Run:
    loss, start = problem(kappa)
    flow, t_end = lrf.RiemannianFlow(loss, lrf.DepthMetric(DEPTH)), SPAN * kappa
    save = lrf.Save(times=t_end * LANDINGS, exact=True, steps=False)
    begin = clock()
    path = lrf.integrate(flow, start, t_span=(0, t_end), rtol=rtol, method=method, chart=chart, save=save)
    seconds = clock() - begin
    path.raise_if_failed()
    return Run(path.nfev, path.nsteps, seconds, path.points, path.method)


def few_unknowns(sizes: Sequence[tuple[int, int]], kappas: Sequence[float]) -> list[dict[str, Any]]:
    """ "auto" with an exact Jacobian over "auto" without: where the implicit method is the faster one."""
    rows = []
    for n, rank in sizes:
        for kappa in kappas:
            loss, start = problem(kappa, n=n, rank=rank)
            options = {"t_span": (0, SPAN * kappa), "save": lrf.Save(steps=False)}

            def run(rtol: float, loss: Any = loss, start: Any = start, options: Any = options) -> tuple[float, Any]:
                begin = clock()
                path = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(DEPTH)), start, rtol=rtol, **options)
                return clock() - begin, path

            want = run(1e-10)[1].points[-1]
            for rtol in (1e-3, 1e-5, 1e-8):
                (ours, path), (theirs, other) = run(rtol), run(rtol, WithoutHessian(loss))
                gaps = [difference(p.points[-1], want).norm() / want.norm() for p in (path, other)]
                rows.append({"n": n, "rank": rank, "unknowns": rank * (2 * n + rank), "kappa": kappa, "rtol": rtol,
                             "implicit": "BDF" in path.method, "time of the stabilised over ours": theirs / ours,
                             "error, ours": gaps[0], "error, stabilised": gaps[1]})  # fmt: skip
    return rows


def error(run: Run, reference: Run) -> float:
    gaps = (difference(a, b).norm() / b.norm() for a, b in zip(run.points, reference.points, strict=True))
    return float(max(gaps))


def reference_at(kappa: float) -> Run:
    return drive(kappa, "DOP853", 1e-12) if kappa <= METHODS["DOP853"] else other_reference(kappa)


def other_reference(kappa: float) -> Run:
    return drive(kappa, "ROCK4", 1e-7, lrf.Lifted())


def over_kappa(kappas: Sequence[float], references: dict[float, Run], implicit: bool) -> list[dict[str, Any]]:
    rows = []
    for rtol in RTOLS:
        for kappa in kappas:
            names = [name for name, last in METHODS.items() if kappa <= last]
            names += [name for name in IMPLICIT if implicit and kappa in IMPLICIT_AT]
            runs = {name: drive(kappa, name, rtol) for name in names}
            slow = runs.get("DOP853")
            rows += [
                {
                    "rtol": rtol, "kappa": kappa, "method": name, "evaluations": run.evaluations, "steps": run.steps,
                    "error": error(run, references[kappa]), "seconds": run.seconds,
                    "DOP853 over this, evaluations": slow.evaluations / run.evaluations if slow else None,
                    "DOP853 over this, time": slow.seconds / run.seconds if slow else None,
                }
                for name, run in runs.items()
            ]  # fmt: skip
    return rows


def slope(rows: Sequence[dict[str, Any]], low: float, high: float) -> float | None:
    """Return the exponent of the evaluations over kappa in a window, None where it was not measured whole."""
    inside = [(row["kappa"], row["evaluations"]) for row in rows if low <= row["kappa"] <= high]
    if len(inside) < 2 or inside[-1][0] < high:
        return None
    return float(np.polyfit(*np.log(np.array(inside, dtype=float).T), 1)[0])


def exponents(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    result = []
    for rtol in RTOLS:
        for name, last in METHODS.items():
            mine = [row for row in rows if row["rtol"] == rtol and row["method"] == name]
            top = mine[-1]["kappa"]
            all_of_it = slope(mine, mine[0]["kappa"], top)
            at = next((row["DOP853 over this, evaluations"] for row in mine if row["kappa"] == 1e4), None)
            ours = name != "DOP853"
            result.append(
                {
                    "rtol": rtol, "method": name, "kappa up to": top, "exponent": all_of_it,
                    "exponent 1e1..1e4": slope(mine, 1e1, 1e4), "last decade": slope(mine, top / 10, top),
                    "target": f"<= {EXPONENT:g}" if ours and last >= KAPPAS[-1] else None,
                    "DOP853 over this at 1e4": at, "its target": f">= {TARGETS[rtol]:g}" if ours else None,
                }
            )  # fmt: skip
    return result


def over_rtol(kappa: float, reference: Run, rtols: np.ndarray) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the rows over the tolerance, and where ROCK4 begins to need fewer evaluations than RKC."""
    evaluations: dict[str, list[int]] = {"RKC": [], "ROCK4": []}
    errors: dict[str, list[float]] = {"RKC": [], "ROCK4": []}
    for rtol in rtols:
        for name in evaluations:
            run = drive(kappa, name, float(rtol))
            evaluations[name].append(run.evaluations)
            errors[name].append(error(run, reference))
    low, high = monotone(errors["RKC"]), monotone(errors["ROCK4"])
    # the evaluations of RKC at the errors that ROCK4 reaches, and how much more that is
    needed = inside(np.log(high), np.log(low), np.log(evaluations["RKC"]))
    gain = np.exp(needed - np.log(evaluations["ROCK4"]))
    rows = [
        {
            "kappa": kappa, "rtol": float(rtol), "RKC": evaluations["RKC"][i], "RKC error": errors["RKC"][i],
            "ROCK4": evaluations["ROCK4"][i], "ROCK4 error": errors["ROCK4"][i],
            "RKC over ROCK4": evaluations["RKC"][i] / evaluations["ROCK4"][i],
            "the same at equal error": float(gain[i]) if np.isfinite(gain[i]) else None,
        }
        for i, rtol in enumerate(rtols)
    ]  # fmt: skip
    ratio = np.log([row["RKC over ROCK4"] for row in rows])
    at_rock = root(np.log(rtols), np.log(gain))
    e = None if at_rock is None else float(np.interp(-np.log(at_rock), -np.log(rtols), np.log(high)))
    at_rkc = None if e is None else float(np.exp(inside(np.array([e]), np.log(low), np.log(rtols))[0]))
    crossing = {
        "kappa": kappa, "error": None if e is None else float(np.exp(e)), "rtol of RKC": at_rkc,
        "rtol of ROCK4": at_rock, "ROCK4 fewer at all of them": bool(np.nanmin(gain) > 1),
        "rtol where evaluations are equal": root(np.log(rtols), ratio),
    }  # fmt: skip
    return rows, crossing


def at_equal_error(rows: Sequence[dict[str, Any]], scan: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what RKC and ROCK4 need for the errors of DOP853, by interpolation over the tolerance."""
    result = []
    for row in rows:
        mine = [s for s in scan if s["kappa"] == row["kappa"]]
        if row["method"] != "DOP853" or not mine:
            continue
        cells = {k: row[k] for k in ("kappa", "rtol", "error")} | {"DOP853": row["evaluations"]}
        for name in ("RKC", "ROCK4"):
            errors = np.log(monotone([s[f"{name} error"] for s in mine]))
            need = inside(np.log([row["error"]]), errors, np.log([s[name] for s in mine]))[0]
            known = bool(np.isfinite(need))
            cells[name] = round(float(np.exp(need))) if known else None
            cells[f"DOP853 over {name}"] = float(row["evaluations"] / np.exp(need)) if known else None
        result.append(cells)
    return result


def monotone(errors: Sequence[float]) -> np.ndarray:
    """Return the errors, each at least that of the tighter tolerances: they scatter, and an inverse is needed."""
    return np.maximum.accumulate(np.array(errors)[::-1])[::-1]


def inside(x: np.ndarray, xp: np.ndarray, fp: np.ndarray) -> np.ndarray:
    """Interpolate where xp falls; nan outside."""
    return np.interp(-x, -xp, fp, left=np.nan, right=np.nan)


def root(log_rtols: np.ndarray, log_gain: np.ndarray) -> float | None:
    """Return the rtol below which the logarithm of a gain stays positive, interpolated; None if there is none."""
    known = np.isfinite(log_gain)
    x, g = log_rtols[known], log_gain[known]
    below = np.flatnonzero(g <= 0)
    if not below.size or below[-1] + 1 == g.size:
        return None
    i = below[-1]
    return float(np.exp(x[i] - g[i] * (x[i + 1] - x[i]) / (g[i + 1] - g[i])))


# ---------------------------------------------------------------------------------------------------------------------
# the default beside DOP853


class Short(NamedTuple):
    """A short random problem."""

    words: str
    flow: lrf.FactorFlow | lrf.RiemannianFlow
    start: lrf.LinearNetwork | lrf.LowRankMatrix
    t_end: float
    rtol: float

    def run(self, method: str, rtol: float) -> tuple[lrf.Trajectory, float]:
        begin = clock()
        path = lrf.integrate(
            self.flow, self.start, t_span=(0, self.t_end), rtol=rtol, method=method, max_evaluations=PATIENCE,
            save=lrf.Save(steps=False),
        )  # fmt: skip
        return path, clock() - begin


def short_problem(number: int) -> Short:
    """Return a problem from its number; every loss in turn."""
    rng = np.random.default_rng([0, number])
    names = [name for name in LOSSES if name not in UNFIT]
    kind = LOSSES[name := names[number % len(names)]]
    m, n = (int(k) for k in rng.integers(3, 21, 2))
    m = n if kind.square else max(m, kind.rows)
    rank = int(rng.integers(1, min(m, n, 6) + 1))
    depth = DEPTHS[rng.integers(len(DEPTHS))]
    teacher = lrf.random_point(m, n, rank, rng=rng, singular_values=rng.uniform(0.3, 0.6, rank))
    loss = kind.make(Draw(m, n, 1.0, 1.0, rng, teacher))
    start = lrf.random_point(m, n, rank, rng=rng, singular_values=np.full(rank, 10.0 ** rng.uniform(-2, 0)))
    unit = lrf.natural_time_unit(loss, start, depth if depth is not None and np.isfinite(depth) else 3)
    rtol, t_end = 10.0 ** -int(rng.integers(4, 13)), unit * 10.0 ** rng.uniform(0, 2.5)
    words = f"{name}, {m} x {n}, rank {rank}, {'embedded' if depth is None else f'depth {depth:g}'}"
    if isinstance(depth, int) and rng.integers(2):
        width = rank if depth == 2 else int(rng.integers(rank, min(m, n) + 1))
        net = lrf.LinearNetwork.balanced(start, depth, widths=width, rng=rng)
        return Short(f"{words}, factors", lrf.FactorFlow(loss), net, t_end, rtol)
    metric = lrf.EmbeddedMetric() if depth is None else lrf.DepthMetric(depth)
    return Short(words, lrf.RiemannianFlow(loss, metric), start, t_end, rtol)


def beside_dop853(count: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    number = 0
    while len(rows) < count:
        p, number = short_problem(number), number + 1
        reference = p.run("DOP853", 1e-13)[0]
        if reference.status is lrf.Status.MAX_EVALUATIONS:
            continue
        runs = [(p.run("DOP853", p.rtol), p.run("auto", p.rtol)) for _ in range(3)]
        (slow, auto), want = (run[0] for run in runs[0]), np.asarray(reference.points[-1].to_dense())
        errors = [float(np.linalg.norm(path.points[-1].to_dense() - want) / np.linalg.norm(want)) for path in (slow, auto)]
        rows.append(
            {
                "problem": p.words, "rtol": p.rtol, "DOP853": slow.nfev, "auto over it": auto.nfev / slow.nfev,
                "time over it": float(min(b[1] for _, b in runs) / min(a[1] for a, _ in runs)),
                "error / rtol": errors[0] / p.rtol, "auto's": errors[1] / p.rtol,
                "ends": " ".join(dict.fromkeys(path.status.name for path in (slow, auto))),
                "changes": auto.method.count(";"),
            }
        )  # fmt: skip
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the rows say where auto stayed with DOP853, and where it changed."""
    result = []
    for name, mine in (
        ("stayed", [row for row in rows if not row["changes"]]), ("changed", [row for row in rows if row["changes"]]),
    ):  # fmt: skip
        if mine:
            more, longer, slow, auto = (
                np.array([row[key] for row in mine]) for key in ("auto over it", "time over it", "error / rtol", "auto's")
            )
            result.append(
                {
                    "auto": name, "problems": len(mine), "evaluations, median": float(np.median(more)),
                    "largest": float(more.max()), "time, median": float(np.median(longer)),
                    "error / rtol, largest": float(slow.max()), "auto's": float(auto.max()),
                }
            )  # fmt: skip
    return result


def main() -> None:
    args = parse("Evaluations against the condition number of the data, and against the tolerance.")
    sizes = ((8, 2), (12, 3)) if args.quick else ((8, 2), (12, 3), (20, 3), (30, 4), (40, 5), (60, 5))
    few = few_unknowns(sizes, (1e2, 1e4))
    table(few)
    kappas = KAPPAS[:3] if args.quick else KAPPAS
    print(f"{N} x {N}, rank {RANK}, depth {DEPTH}, singular frame, T = {SPAN:g} kappa", flush=True)
    references = {kappa: reference_at(kappa) for kappa in kappas}
    both = None
    if not args.quick:
        both = error(other_reference(1e4), references[1e4])
        print(f"at kappa = 1e4 the two references differ by {both:.1e}", flush=True)
    rows = over_kappa(kappas, references, not args.quick)
    table(rows)
    print("\nexponent of the evaluations over kappa")
    fits = exponents(rows)
    table(fits)
    print("\nover the tolerance: evaluations and errors")
    parts = [over_rtol(k, references[k], SCAN[:5] if args.quick else SCAN) for k in kappas[1:4]]
    scan = [row for part in parts for row in part[0]]
    table(scan)
    print("\nwhere ROCK4 needs fewer evaluations than RKC: from this error on, at equal error")
    crossings = [part[1] for part in parts]
    table(crossings)
    print("\nevaluations at the errors of DOP853")
    equal = at_equal_error(rows, scan)
    table(equal)
    print("\nshort random problems: auto over DOP853")
    short = beside_dop853(SHORT // 4 if args.quick else SHORT)
    table(short)
    table(summary(short))
    settings = {"n": N, "rank": RANK, "depth": DEPTH, "span": SPAN, "references differ": both}
    results = {"rows": rows, "exponents": fits, "rtol": scan, "crossings": crossings, "equal error": equal, "short": short,
               "few unknowns": few}  # fmt: skip
    write(args, "stiffness", settings | results)


if __name__ == "__main__":
    main()
