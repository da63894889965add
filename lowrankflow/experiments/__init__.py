"""The experiments of the paper: each makes one figure and its numbers, ``lowrankflow reproduce NAME``.

- One module an experiment, on the public interface: `CAPTION`, `SIZE`, ``measure(quick, tell)``, which returns a `Result`,
  and ``draw(figure, numbers)``, which sees nothing but its numbers.
- `result`: numbers, and those of them that theory predicts. `look`: panels in the look of `lowrankflow.render`.
- `running`: `reproduce`, which measures, draws and writes.
"""

from .result import Compared, Result, finished
from .running import EXPERIMENTS, Reproduced, reproduce, titles

__all__ = ["EXPERIMENTS", "Compared", "Reproduced", "Result", "finished", "reproduce", "titles"]
