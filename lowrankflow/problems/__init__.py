"""A problem as a value: which data, prepared how, which loss, which start, which seed; and what it stands for.

- `problem`: `Problem`, frozen, picklable, JSON and back, its hash, and the command line that repeats it.
- `sources`: the numbers it names: bundled data, files, arrays in memory, each with its hash.
- `named_losses`: losses by name, or of a user's file.
- `building`: `Problem.build` of it: the loss, W(0) and what to say of them.
"""

from .building import Built
from .problem import Problem
from .sources import InMemory

__all__ = ["Built", "InMemory", "Problem"]
