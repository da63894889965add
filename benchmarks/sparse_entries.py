"""Completion with ten million observed entries, 100000 x 100000, rank 10: memory, time of the parts, recovery.

One dense array of that shape takes 80 GB. The data are rows, cols (intp) and values as a user gives them; the peak of a
run in a fresh process is counted over them, building the loss and compiling included.
"""

from __future__ import annotations

from measure import clock, interleaved, parse, ratio, table, write  # isort: skip  # sets one thread before numpy loads

import json
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
from memory import resident, work

import lowrankflow as lrf
from lowrankflow import entries

METHOD = "RK45"  # hardly stiff, as the teacher is well conditioned: RKC, ROCK4 and DOP853 take more evaluations
RANK, DEPTH, RTOL, LEVEL, LIMIT, EXPONENT = 10, 3, 1e-4, 1e-3, 2000.0, 1.1
OBSERVED_A_ROW = 100  # the rank-10 matrices have about 20 degrees of freedom a row


def teacher(n: int) -> lrf.LowRankMatrix:
    """A rank-10 matrix with entries of order one."""
    s = np.linspace(1.0, 0.5, RANK) * n / np.sqrt(RANK)
    return lrf.random_point(n, n, RANK, rng=1, singular_values=s)


def write_data(folder: Path, n: int) -> None:
    """Write positions, in no order, and values."""
    rng = np.random.default_rng(0)
    position = rng.permutation(np.unique(rng.integers(0, n * n, OBSERVED_A_ROW * n)))
    rows, cols = np.divmod(position, n)
    for name, array in (("rows", rows), ("cols", cols), ("values", teacher(n).entries(rows, cols))):
        np.save(folder / name, array)


def read_data(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows, cols, values = (np.load(folder / f"{name}.npy") for name in ("rows", "cols", "values"))
    return rows, cols, values


def random_start(n: int) -> lrf.LowRankMatrix:
    """Random frames, all singular values a tenth of the largest of the teacher."""
    s = np.full(RANK, 0.1 * n / np.sqrt(RANK))
    return lrf.random_point(n, n, RANK, rng=2, singular_values=s)


def recover(folder: Path, n: int) -> dict[str, Any]:
    """Build the loss and run until it is `LEVEL`^2 of its value at zero; for a fresh process."""
    rows, cols, values = read_data(folder)
    before, began = resident(), clock()
    loss = lrf.losses.Completion(rows, cols, values, (n, n))
    built, building = resident(), clock() - began
    start = random_start(n)
    fitted = lrf.Event("fitted", lambda t, w: loss.value(w) - 0.5 * LEVEL**2 * (values @ values), terminal=True)
    # the fastest rate is N times the share observed times sigma_1^(2-2/N); the slow ones need some hundred of its units
    t_end = 1000 / (DEPTH * values.size / n**2 * (n / np.sqrt(RANK)) ** (2 - 2 / DEPTH))
    path = lrf.integrate(
        lrf.RiemannianFlow(loss, lrf.DepthMetric(DEPTH)), start, t_span=(0, t_end), rtol=RTOL, method=METHOD,
        events=fitted, save=lrf.Save(steps=False),
    )  # fmt: skip
    seconds, peak = clock() - began, resident()
    rng = np.random.default_rng(3)
    i, j = rng.integers(0, n, (2, 2 * 10**5))
    unobserved = ~np.isin(i * n + j, rows * n + cols)
    i, j = i[unobserved][: 10**5], j[unobserved][: 10**5]
    truth = teacher(n).entries(i, j)
    return {
        "unobserved positions": i.size, "ended": path.message, "recovered": path.status is lrf.Status.EVENT,
        "evaluations": path.nfev, "steps": path.nsteps, "loss over that of zero": path.loss[-1] / (0.5 * float(values @ values)),
        "relative error": float(np.linalg.norm(path.points[-1].entries(i, j) - truth) / np.linalg.norm(truth)),
        "relative error at the start": float(np.linalg.norm(start.entries(i, j) - truth) / np.linalg.norm(truth)),
        "data MB": 1e-6 * (rows.nbytes + cols.nbytes + values.nbytes),
        "building, peak over the data [MB]": built - before, "run, peak over the data [MB]": peak - before,
        "building [s]": building, "run [s]": seconds,
    }  # fmt: skip


def in_a_fresh_process(folder: Path, n: int) -> dict[str, Any]:
    script = f"import json, pathlib, sparse; print(json.dumps(sparse.recover(pathlib.Path({str(folder)!r}), {n})))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=sys.path[0])
    return json.loads(done.stdout)


def allocated(folder: Path, n: int) -> list[dict[str, Any]]:
    """What numpy allocates at the worst moment of each part, over what it was given."""
    rows, cols, values = read_data(folder)
    tracemalloc.start()
    loss = lrf.losses.Completion(rows, cols, values, (n, n))
    kept, peak = tracemalloc.get_traced_memory()
    found = [{"what": "building the loss", "peak [MB]": 1e-6 * peak, "kept [MB]": 1e-6 * kept}]
    for name, call in list(work(loss, random_start(n), 0.0).items())[:-1]:  # all but the trajectory
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        call()
        peak = tracemalloc.get_traced_memory()[1] - before
        found.append({"what": name, "peak [MB]": 1e-6 * peak, "kept [MB]": None})
    tracemalloc.stop()
    return found


def parts(loss: Any, repeats: int) -> dict[str, Any]:
    """Shares of one velocity, and both kernels of the sampled entries on the same arrays."""
    w = random_start(loss.shape[0])
    system = lrf.SingularFrame().bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(DEPTH)), w)
    u, v, g = np.ascontiguousarray(w.u), np.ascontiguousarray(w.vt.T), loss.gradient(w)
    transposed, left, rows, cols = g.T, u * w.s, loss._rows, loss._cols
    out = np.empty(rows.size)
    calls = {
        "velocity": lambda: system.velocity(0.0, system.y0),
        "sampling and residual": lambda: loss.gradient(w),
        "g @ v": lambda: g @ v,
        "g.T @ u": lambda: transposed @ u,
        "numpy": lambda: entries._by_chunks(left, v, rows, cols, out),
    }
    if (kernel := entries._compiled()) is not None:
        calls["numba"] = lambda: kernel(left, v, rows, cols, out)
    seconds = interleaved(calls, repeats=repeats)
    names = ("sampling and residual", "g @ v", "g.T @ u")
    share = {name: ratio(seconds[name], seconds["velocity"]) for name in names}
    share["the rest"] = 1 - sum(share.values())
    speed = ratio(seconds["numpy"], seconds["numba"]) if "numba" in seconds else None
    return {"share of a velocity": share, "numpy over numba": speed, "velocity [s]": float(seconds["velocity"].min()),
            "sampled by": entries._kernel(rows, cols).__name__}  # fmt: skip


def over_observations(folder: Path, n: int, repeats: int) -> dict[str, Any]:
    """Time of a velocity with one observation in 1, 2, 4, ... 64 of the data, and the power of their number fitted."""
    rows, cols, values = read_data(folder)
    systems, counts = {}, {}
    for k in 2 ** np.arange(7):
        loss = lrf.losses.Completion(rows[::k], cols[::k], values[::k], (n, n))
        systems[str(k)] = lrf.SingularFrame().bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(DEPTH)), random_start(n))
        counts[str(k)] = loss.values.size
    seconds = interleaved({k: lambda s=s: s.velocity(0.0, s.y0) for k, s in systems.items()}, repeats=repeats)
    times = {k: float(t.min()) for k, t in seconds.items()}
    dense = list(times)[:4]  # with fewer the frames, m + n rows of them, are as large as the observations
    fit = [float(np.polyfit(np.log([counts[k] for k in keys]), np.log([times[k] for k in keys]), 1)[0])
           for keys in (times, dense)]  # fmt: skip
    return {"rows": [{"observed": counts[k], "velocity [ms]": 1e3 * times[k],
                      "ns an observation": 1e9 * times[k] / counts[k]} for k in times],
            "exponent": fit[0], "exponent of the largest four": fit[1]}  # fmt: skip


def show(n: int, run: dict[str, Any], memory: list[Any], share: dict[str, Any], cost: dict[str, Any]) -> None:
    print(f"{n} x {n}, about {OBSERVED_A_ROW * n} observed, rank {RANK}, depth {DEPTH}; data {run['data MB']:.0f} MB")
    print(f"one dense array of that shape: {8e-6 * n * n:.3g} MB; target < {LIMIT:g} MB over the data\n")
    print(f"recovery by {METHOD}, rtol {RTOL:g}, from random frames, to a loss of {LEVEL**2:g} of its value at zero:")
    for key, value in run.items():
        print(f"  {key:36} {f'{value:.4g}' if isinstance(value, float) else value}")
    print("\nwhat numpy allocates over the data")
    table(memory)
    print("\nshares of one velocity:", ", ".join(f"{k} {v:.2f}" for k, v in share["share of a velocity"].items()))
    if share["numpy over numba"] is not None:
        print(f"entries, numpy over numba: {share['numpy over numba']:.2f}; the velocity took {share['sampled by']}")
    print(f"\none velocity at {n} x {n} over the number of observations; target: exponent <= {EXPONENT:g}")
    table(cost["rows"])
    print(f"exponent {cost['exponent']:.2f}, of the largest four {cost['exponent of the largest four']:.2f}")


def main() -> None:
    args = parse("Completion with ten million observed entries.")
    n = 1000 if args.quick else 100_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, n)
        run = in_a_fresh_process(folder, n)
        memory = allocated(folder, n)
        share = parts(lrf.losses.Completion(*read_data(folder), (n, n)), 5)
        cost = over_observations(folder, n, 5)
    show(n, run, memory, share, cost)
    peak = max(run["run, peak over the data [MB]"], *(row["peak [MB]"] for row in memory))
    met = {"memory": peak < LIMIT, "exponent": max(cost["exponent"], cost["exponent of the largest four"]) <= EXPONENT}
    results = {"recovery": run, "allocated": memory, "parts": share, "over observations": cost, "met": met}
    write(args, "sparse", {"n": n, "rank": RANK, "depth": DEPTH, "method": METHOD, "rtol": RTOL, "target MB": LIMIT,
                           **results})  # fmt: skip


if __name__ == "__main__":
    main()
