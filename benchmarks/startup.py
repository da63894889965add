"""Wall time of `import lowrankflow` and of the main job, `lowrankflow verify --data digits`, in fresh processes.

Unlike the other benchmarks these are seconds, not ratios, so the same processes also time `import numpy`.
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


def import_seconds(repeats: int) -> dict[str, float]:
    """Median seconds of each import, one fresh process each, interleaved; the interpreter's own start is left out."""
    script = "import time; a = time.perf_counter(); {}; print(time.perf_counter() - a)"
    seconds: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(repeats + 1):  # the first round warms the file cache
        for name, statement in IMPORTS.items():
            seconds[name].append(float(_python("-c", script.format(statement)).stdout))
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


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
        {"what": f"import {name}", "seconds": t, "target": limit.get(name)} for name, t in seconds.items()
    ]
    if args.quick:
        print("the main job is skipped with --quick")
    elif (job := main_job()) is None:
        print("the main job is skipped: the command line or scikit-learn is not available")
    else:
        wall, processor, status = job
        rows.append({"what": f"verify --data digits (exit status {status})", "seconds": wall, "target": 60.0})
        rows.append({"what": "the same, processor time", "seconds": processor, "target": None})
    measure.table(rows)
    found = unwanted_imports()
    print(f"imported along, of {', '.join(UNWANTED)}: {', '.join(found) or 'none'}")
    measure.write(args, "startup", {"rows": rows, "unwanted imports": found})


if __name__ == "__main__":
    main()
