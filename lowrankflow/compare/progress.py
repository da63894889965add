"""How far a job of several parts has come, as one number that only grows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..workers import Tell

__all__ = ["Shares", "one_of", "silent"]


def silent(stage: str, fraction: float) -> None:
    """Tell no one."""


class Shares:
    """Adds up the parts of a job.

    Parameters
    ----------
    tell : callable
        ``tell(stage, fraction)``; the fraction is that of the whole job.
    shares : mapping
        What each part takes of the time, in any unit. No more than a guess: it makes the fraction fall in with the clock.
    """

    def __init__(self, tell: Tell, shares: Mapping[str, float]) -> None:
        self._tell, self._shares = tell, dict(shares)
        self._done = dict.fromkeys(shares, 0.0)

    def part(self, name: str) -> Tell:
        """Return the progress of a part: what it tells is from 0 to 1, and never goes back."""

        def told(stage: str, fraction: float) -> None:
            self._done[name] = min(1.0, max(self._done[name], fraction))
            done = sum(self._shares[k] * v for k, v in self._done.items())
            self._tell(stage, done / sum(self._shares.values()))

        return told


def one_of(runs: int, tell: Tell) -> Callable[[str, float], None]:
    """Return the progress of a part that is several runs, one after the other, each of which goes from 0 to 1."""
    over, last = 0, 0.0

    def told(stage: str, fraction: float) -> None:
        nonlocal over, last
        over, last = over + (fraction < last), fraction
        tell(stage, (over + fraction) / max(runs, over + 1))

    return told
