"""Wall time of `import lowrankflow`, of the first flow after it, and of the main job, `lowrankflow verify --data digits`.

Each in fresh processes. Unlike the other benchmarks these are seconds, not ratios, so `import numpy` is timed beside
them, and what lies beyond it is timed with numpy loaded; on a busy machine the processor time is the one to read.
"""

from __future__ import annotations

import measure  # isort: skip  # sets one thread before numpy loads

import atexit
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

# compiled once, as an installed package is, wherever this shell keeps bytecode
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
ENVIRONMENT["PYTHONPYCACHEPREFIX"] = tempfile.mkdtemp()
atexit.register(shutil.rmtree, ENVIRONMENT["PYTHONPYCACHEPREFIX"], ignore_errors=True)

UNWANTED = ("pymanopt", "autograd", "matplotlib", "rich", "sklearn")
FIRST_FLOW = """
import lowrankflow as lrf
draw = numpy.random.default_rng(0).standard_normal
loss = lrf.losses.LeastSquares(draw((6, 60)), draw((5, 60)), reduction="mean")
start = lrf.random_point(5, 6, 2, rng=0, singular_values=[0.1, 0.1])
lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), start, t_span=(0, 1))
"""
WHAT = {  # name -> what runs before the clock, what it times, the target in seconds
    "import numpy": ("", "import numpy", None),
    "import scipy.integrate, beyond numpy": ("import numpy", "import scipy.integrate", None),
    "import lowrankflow, beyond numpy": ("import numpy", "import lowrankflow", 0.15),
    "import lowrankflow and the first flow, beyond numpy": ("import numpy", FIRST_FLOW, 0.45),
}


def startup_seconds(repeats: int) -> dict[str, tuple[float, float]]:
    """Median wall and processor seconds, in fresh processes, interleaved, without Python's own start."""
    clocks = "time.perf_counter(), time.process_time()"
    script = f"import time\n{{}}\na, b = {clocks}\n{{}}\nc, d = {clocks}\nprint(c - a, d - b)"
    seconds: dict[str, list[list[float]]] = {name: [] for name in WHAT}
    for _ in range(repeats + 1):  # the first round warms the file cache
        for name, (before, timed, _target) in WHAT.items():
            seconds[name].append([float(t) for t in _python("-c", script.format(before, timed)).stdout.split()])
    return {name: tuple(map(statistics.median, zip(*rounds[1:], strict=True))) for name, rounds in seconds.items()}


def unwanted_imports() -> list[str]:
    script = f"import json, sys, numpy\n{FIRST_FLOW}\nprint(json.dumps([m for m in {UNWANTED!r} if m in sys.modules]))"
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
    return subprocess.run([sys.executable, *arguments], check=check, capture_output=True, text=True, env=ENVIRONMENT)


def main() -> None:
    args = measure.parse("Seconds of the import, of the first flow and of the main job, in fresh processes.")
    seconds = startup_seconds(3 if args.quick else 7)
    rows: list[dict[str, Any]] = [
        {"what": name, "wall [s]": wall, "processor [s]": processor, "target": WHAT[name][2]}
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
