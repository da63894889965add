"""What the benchmarks share: one BLAS thread, interleaved timing, a table, JSON.

Import it before numpy: thread counts are read when the BLAS is loaded. Times are processor seconds: with
one thread they are wall seconds on a quiet machine, and on a busy one they leave out the waiting.
"""

# ruff: noqa: E402

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from threadpoolctl import threadpool_limits

threadpool_limits(1)


def parse(description: str) -> argparse.Namespace:
    """Return the two options that every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer repeats")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there")
    return parser.parse_args()


#: processor seconds of this process
clock = time.process_time


def interleaved(calls: Mapping[str, Callable[[], Any]], *, repeats: int, batch: float = 2e-3) -> dict[str, np.ndarray]:
    """Return seconds a call for each round A B C, A B C, ..., each a batch of at least `batch` seconds.

    The rounds share out whatever else the machine does: see `ratio`.
    """
    counts = {}
    for name, call in calls.items():
        call()  # first call: allocation, caches
        start = clock()
        call()
        counts[name] = max(1, int(batch / max(clock() - start, 1e-7)))
    seconds = {name: np.empty(repeats) for name in calls}
    for i in range(repeats):
        for name, call in calls.items():
            start = clock()
            for _ in range(counts[name]):
                call()
            seconds[name][i] = (clock() - start) / counts[name]
    return seconds


def ratio(a: np.ndarray, b: np.ndarray) -> float:
    """Return the median over the rounds of a / b, each taken next to the other."""
    return float(np.median(a / b))


def table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of one set of keys as aligned columns."""
    keys = list(rows[0])
    cells = [keys, *([_cell(row[key]) for key in keys] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(keys))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip(), flush=True)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def write(args: argparse.Namespace, name: str, results: Mapping[str, Any]) -> None:
    """Write the results with the versions they were measured with, if --json was given."""
    if args.json:
        versions = {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__}
        page = {"benchmark": name, "quick": args.quick, "versions": versions, **results}
        Path(args.json).write_text(json.dumps(page, indent=1) + "\n")
