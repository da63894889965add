"""What a sweep costs beside its jobs, how two workers compare with one, and how large sweeps are opened.

Wall seconds, as a sweep is waited for: on a busy machine they are longer; ratios are of runs in turn. ``--quick``: a tenth of
everything.
"""

from __future__ import annotations

from measure import parse, table, write  # isort: skip  # sets one thread before numpy loads

import multiprocessing
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from lowrankflow.sweeps import Folder, Grid, open_results, sweep
from lowrankflow.sweeps.shards import Shard

FLOWS = {
    "problem": {"data": "digits", "rank": 5, "depth": 3, "rtol": 1e-6},
    "run": {"until": 40.0, "columns": ["loss", "effective_rank"]},
}


def empty(**fields: Any) -> dict[str, float]:
    """A job that does nothing."""
    return {"x": 0.0}


def waiting(**fields: Any) -> dict[str, float]:
    """A job that takes ten milliseconds of nobody's core."""
    time.sleep(0.01)
    return {"x": 0.0}


def grid_of(jobs: int) -> dict[str, Any]:
    return {"grid": {"a": {"count": 10}, "b": {"count": jobs // 10}}}


def seconds_of(call: Any) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def overhead(jobs: int) -> list[dict[str, Any]]:
    """Sweeps of empty jobs: all that is measured is the sweep itself."""
    rows = []
    for label, workers in (("this process", 1), ("two processes", 2)):
        with tempfile.TemporaryDirectory() as out:
            spent = seconds_of(lambda: sweep(grid_of(jobs), out, function=empty, workers=workers))  # noqa: B023
            again = seconds_of(lambda: sweep(grid_of(jobs), out, function=empty, workers=workers))  # noqa: B023
            files = list(Path(out).iterdir())
            size = sum(f.stat().st_size for f in files)
            rows.append({
                "by": label, "empty jobs": jobs, "ms a job": 1e3 * spent / jobs, "done again [s]": again, "files": len(files),
                "bytes a job": size / jobs,
            })  # fmt: skip
    return rows


def start(name: str, *args: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "ignore", "-m", f"distributed.cli.{name}", *args, "--no-dashboard"]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def dask(jobs: int, messages: int) -> list[dict[str, Any]]:
    """The same on a scheduler and two workers of this machine, and how many lists of jobs it hands out a second."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    processes = [start("dask_scheduler", "--host", "127.0.0.1", "--port", str(port))]
    processes += [start("dask_worker", address, "--nthreads", "1", "--no-nanny") for _ in range(2)]
    try:
        from distributed import Client

        with Client(address, timeout=30) as client:
            client.wait_for_workers(2, timeout=30)
            client.gather(client.map(abs, range(100), pure=False))
            rate = messages / seconds_of(lambda: client.gather(client.map(abs, range(messages), pure=False)))
        with tempfile.TemporaryDirectory() as out:
            spent = seconds_of(lambda: sweep(grid_of(jobs), out, function=empty, scheduler=address))
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()
    return [{"by": "Dask, two workers", "empty jobs": jobs, "ms a job": 1e3 * spent / jobs, "lists a second at most": rate}]


def spin(rounds: int) -> None:
    """Work that needs nothing but a core."""
    x = 0
    for i in range(rounds):
        x += i


def two_over_one(jobs: int, repeats: int) -> dict[str, Any]:
    """Flows of 61 x 61 on one worker process and on two, in turn; what the machine gives two that only count; and the
    same of jobs that wait, which ask nothing of a machine that others use."""
    idle: dict[int, list[float]] = {1: [], 2: []}
    spent: dict[int, list[float]] = {1: [], 2: []}
    bare: dict[int, list[float]] = {1: [], 2: []}
    pool = multiprocessing.get_context("spawn")
    for _ in range(repeats):
        for workers in spent:
            with tempfile.TemporaryDirectory() as out:
                tables = {**FLOWS, "grid": {"seed": {"count": jobs}}}
                spent[workers].append(seconds_of(lambda: sweep(tables, out, workers=workers)))  # noqa: B023
            with tempfile.TemporaryDirectory() as out:
                call = lambda: sweep(grid_of(5 * jobs), out, function=waiting, workers=workers)  # noqa: E731, B023
                idle[workers].append(seconds_of(call))
            with pool.Pool(workers) as counters:
                counters.map(spin, [10] * workers)  # they have begun
                rounds = [200_000_000 // workers] * workers
                bare[workers].append(seconds_of(lambda: counters.map(spin, rounds, chunksize=1)))  # noqa: B023
    ratio, ceiling, free = (float(np.median(np.array(t[1]) / np.array(t[2]))) for t in (spent, bare, idle))
    return {
        "flows": jobs, "one worker [s]": min(spent[1]), "two workers [s]": min(spent[2]), "one over two": ratio,
        "of two that count": ceiling, "of jobs that wait": free,
    }  # fmt: skip


def rates() -> list[dict[str, Any]]:
    """What jobs cost on one core, all of it: data that are read once, stacks, writing."""
    rows = []
    for label, problem, run, jobs in (
        ("iris, 4 x 4, to t = 5", {"data": "iris", "rank": 2}, {"until": 5.0}, 1000),
        ("digits, 61 x 61, to t = 40", FLOWS["problem"], FLOWS["run"], 200),
        ("digits, 61 x 61, to t = 40, one by one", FLOWS["problem"], FLOWS["run"] | {"method": "DOP853"}, 50),
        ("digits, 100 updates of descent", FLOWS["problem"], {"kind": "descent", "step": 0.01, "steps": 100}, 200),
        ("iris, verify", {"data": "iris", "rank": 2, "natural_end": 1.0}, {"kind": "verify"}, 4),
    ):
        with tempfile.TemporaryDirectory() as out:
            tables = {"problem": problem, "run": run, "grid": {"seed": {"count": jobs}}}
            began = time.process_time()
            sweep(tables, out)
            rows.append({"job": label, "jobs": jobs, "ms of a core a job": 1e3 * (time.process_time() - began) / jobs})
    return rows


def opened(jobs: int) -> dict[str, Any]:
    """Results of a size, written as forty workers would have, and what it takes to open them and to see what is missing."""
    grid = Grid.of(**grid_of(jobs), function=f"{empty.__module__}:{empty.__qualname__}")
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as out:
        Folder.for_grid(out, grid)
        shards = [Shard(out) for _ in range(40)]
        losses, ranks = rng.random(jobs).tolist(), rng.random(jobs).tolist()
        for i, key in enumerate(grid.keys()):
            values = {"status": "CONVERGED", "t": 12.5, "nfev": 1234, "nsteps": 56, "loss": losses[i], "effective_rank": ranks[i]}
            shards[i % 40].append(key, values | {"seconds": 0.01}, done=True)
        for shard in shards:
            shard.close()
        again = seconds_of(lambda: sweep(grid, out, function=empty))  # all there: keys, a look, and open
        began = time.perf_counter()
        results = open_results(out)
        spent = time.perf_counter() - began
        assert results.complete and results.values["loss"].ravel().tolist() == losses
        tabled = seconds_of(lambda: results.to_csv(Path(out, "results.csv")))
        stored = seconds_of(lambda: results.to_netcdf(Path(out, "results.nc")))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "results": jobs, "peak memory [GiB]": peak, "open [s]": spent, "a rerun [s]": again, "CSV [s]": tabled,
        "NetCDF [s]": stored,
    }  # fmt: skip


def main() -> None:
    args = parse(__doc__ or "")
    part = 10 if args.quick else 1
    results: dict[str, Any] = {"overhead": overhead(100_000 // part)}
    table(results["overhead"])
    results["dask"] = dask(20_000 // part, 10_000 // part)
    table(results["dask"])
    results["rates"] = rates()
    table(results["rates"])
    results["workers"] = [two_over_one(600 // part, 3)]
    table(results["workers"])
    results["opened"] = [opened(1_000_000 // part)]
    table(results["opened"])
    write(args, "sweeps", results)


if __name__ == "__main__":
    main()
