"""Wall time of `import lowrankflow` and of the main job, `lowrankflow verify --data digits`, in fresh processes.

Unlike the other benchmarks these are seconds, not ratios, so `import numpy` is timed beside them; on a busy
machine the processor time is the one to read.
"""

from __future__ import annotations

import measure  # isort: skip  # sets one thread before numpy loads

import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

UNWANTED = ("pymanopt", "autograd", "matplotlib", "rich", "sklearn")
IMPORTS = {
    "numpy": "import numpy",
    "scipy parts": "import numpy, scipy.linalg, scipy.sparse, scipy.integrate, scipy.optimize",
    "lowrankflow": "import lowrankflow",
}


def import_seconds(repeats: int) -> dict[str, tuple[float, float]]:
    """Median wall and processor seconds of each import, in fresh processes, interleaved, without Python's own start."""
    clocks = "time.perf_counter(), time.process_time()"
    script = f"import time; a, b = {clocks}; {{}}; c, d = {clocks}; print(c - a, d - b)"
    seconds: dict[str, list[list[float]]] = {name: [] for name in IMPORTS}
    for _ in range(repeats + 1):  # the first round warms the file cache
        for name, statement in IMPORTS.items():
            seconds[name].append([float(t) for t in _python("-c", script.format(statement)).stdout.split()])
    return {name: tuple(map(statistics.median, zip(*rounds[1:], strict=True))) for name, rounds in seconds.items()}


def unwanted_imports() -> list[str]:
    script = f"import json, sys, lowrankflow; print(json.dumps([m for m in {UNWANTED!r} if m in sys.modules]))"
    return json.loads(_python("-c", script).stdout)


def main_job() -> tuple[float, float, int] | None:
    """Wall and processor seconds and exit status of the main job; None where it is not available."""
    if _python("-c", "import lowrankflow.cli, sklearn", check=False).returncode:
        return None
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    status = _python("-m", "lowrankflow", "verify", "--data", "digits", "--quiet", check=False).returncode
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, processor, status


def _python(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], check=check, capture_output=True, text=True)


def main() -> None:
    args = measure.parse("Seconds of the import and of the main job, in fresh processes.")
    seconds = import_seconds(3 if args.quick else 7)
    limit = {"lowrankflow": 0.6}
    rows: list[dict[str, Any]] = [
        {"what": f"import {name}", "wall [s]": wall, "processor [s]": processor, "target": limit.get(name)}
        for name, (wall, processor) in seconds.items()
    ]
    if args.quick:
        print("the main job is skipped with --quick")
    elif (job := main_job()) is None:
        print("the main job is skipped: the command line or scikit-learn is not available")
    else:
        wall, processor, status = job
        what = f"verify --data digits (exit status {status})"
        rows.append({"what": what, "wall [s]": wall, "processor [s]": processor, "target": 60.0})
    measure.table(rows)
    found = unwanted_imports()
    print(f"imported along, of {', '.join(UNWANTED)}: {', '.join(found) or 'none'}")
    measure.write(args, "startup", {"rows": rows, "unwanted imports": found})


if __name__ == "__main__":
    main()
