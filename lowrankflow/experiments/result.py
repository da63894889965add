"""What an experiment returns: the numbers of its figure, and those of them that theory predicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..batched import Trajectories
from ..flow import Status, Trajectory

__all__ = ["Compared", "Result", "Tell", "finished"]

Tell = Callable[[str, float], None]  #: told what is being done and the fraction of the whole that is done
Runs = TypeVar("Runs", Trajectory, Trajectories)


@dataclass(frozen=True)
class Compared:
    """A number beside what theory says it is.

    Attributes
    ----------
    what : str
    found, expected : float
        In the units that `what` names.
    tolerance : float
        How far `found` may be off: absolute. Where `relation` is not "=", how far beyond `expected`.
    relation : {"=", "<=", ">="}
        What theory says of `found` and `expected`.
    """

    what: str
    found: float
    expected: float
    tolerance: float = 0.0
    relation: str = "="

    @property
    def agrees(self) -> bool:
        """Whether theory holds; never for NaN."""
        off = self.found - self.expected
        if self.relation == "<=":
            return off <= self.tolerance
        if self.relation == ">=":
            return -off <= self.tolerance
        return abs(off) <= self.tolerance

    def __str__(self) -> str:
        sign = "+-" if self.relation == "=" else "with"
        slack = f" ({sign} {self.tolerance:.2g})" if self.tolerance else ""
        word = "" if self.agrees else "   DISAGREES"
        return f"{self.what}: {self.found:.6g} {self.relation} {self.expected:.6g}{slack}{word}"


@dataclass(frozen=True, eq=False)
class Result:
    """The numbers of an experiment.

    Attributes
    ----------
    numbers : dict
        What the figure shows: texts, numbers, and lists and dicts of them, as JSON has them.
    compared : list of Compared
        The numbers that theory predicts.
    """

    numbers: dict[str, Any]
    compared: list[Compared]

    @property
    def agrees(self) -> bool:
        """Whether all of them are as predicted, and there is one at least."""
        return bool(self.compared) and all(each.agrees for each in self.compared)


def finished(path: Runs) -> Runs:
    """Return a run, or a batch, that ended as it was asked to; Ctrl-C, which ends it with a status, ends the experiment too."""
    if Status.INTERRUPTED in np.atleast_1d(np.asarray(path.status, dtype=object)):
        raise KeyboardInterrupt
    path.raise_if_failed()
    return path
