"""Many runs: grids of problems and runs, carried out in pieces, kept whole.

- `grids`: `Grid`, a grid as a value, and its jobs, each with the hash of what it does; `axes`: what varies.
- `runs`: `Run`, what is done with a problem; `measures` does it.
- `driving`: `sweep` hands out what is missing; `teams` and `cluster` are those who do it, `working` is what they do.
- `shards` and `folders`: results on disk.
- `results`: `open_results`, all of them as arrays; `summaries`: what is plotted.
"""

from .axes import Axis
from .driving import sweep
from .folders import Folder
from .grids import Grid, Job
from .results import Results, open_results
from .runs import Run
from .summaries import Summary, summarise
from .working import Work

__all__ = [
    "Axis",
    "Folder",
    "Grid",
    "Job",
    "Results",
    "Run",
    "Summary",
    "Work",
    "open_results",
    "summarise",
    "sweep",
]
