"""How far a job of several parts has come, as one number that only grows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..workers import Tell

__all__ = ["Shares", "one_of", "silent"]

_STEP = 0.005  #: of the whole: a step of a run takes microseconds, and whoever is told may take longer


def silent(stage: str, fraction: float) -> None:
    """Tell no one."""


class Shares:
    """Adds up the parts of a job, and tells of them when another begins or half a percent more of the whole is done.

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
        self._last = ("", -1.0)  #: what was told

    def part(self, name: str) -> Tell:
        """Return the progress of a part: what it tells is from 0 to 1, and never goes back."""

        def told(stage: str, fraction: float) -> None:
            self._done[name] = min(1.0, max(self._done[name], fraction))
            done = sum(self._shares[k] * v for k, v in self._done.items()) / sum(self._shares.values())
            before, last = self._last
            if stage != before or done >= last + _STEP or last < 1 <= done:
                self._last = (stage, done)
                self._tell(stage, done)

        return told


def one_of(runs: int, tell: Tell) -> Callable[[str, float], None]:
    """Return the progress of a part that is several runs, one after the other, each of which goes from 0 to 1."""
    over, last = 0, 0.0

    def told(stage: str, fraction: float) -> None:
        nonlocal over, last
        over, last = over + (fraction < last), fraction
        tell(stage, (over + fraction) / max(runs, over + 1))

    return told
