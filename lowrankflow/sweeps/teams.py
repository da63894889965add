"""Who carries out jobs: this process, or others on this machine, each of which may die."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, Protocol

from .. import validation
from ..workers import leave_interrupts
from .working import Work, Worker

__all__ = ["Ended", "Here", "Processes", "Team"]


class Ended(NamedTuple):
    """What became of jobs that were handed out."""

    numbers: Sequence[int]
    seconds: float  #: of work; nan where the worker died
    died: str = ""  #: how


class Team(Protocol):
    """What a sweep asks of those who do the work."""

    @property
    def size(self) -> int:
        """How many lists of jobs can be handed out at once."""
        ...

    def hand(self, numbers: Sequence[int]) -> None:
        """Have jobs carried out; called for at most `size` lists that have not ended."""
        ...

    def wait(self, seconds: float) -> list[Ended]:
        """Return what has ended, after so many seconds at the latest.

        Raises
        ------
        OSError, RuntimeError
            If the work cannot go on; what is done is written.
        """
        ...

    def close(self, *, now: bool) -> None:
        """Let everybody go: at the end of what they do, or now."""
        ...


class Here:
    """This process."""

    size = 1

    def __init__(self, work: Work) -> None:
        self._worker = Worker(work)
        self._next: Sequence[int] = ()

    def hand(self, numbers: Sequence[int]) -> None:
        """Take jobs, to be carried out by `wait`."""
        self._next = numbers

    def wait(self, seconds: float) -> list[Ended]:
        """Carry them out."""
        return [Ended(self._next, self._worker.do(self._next))]

    def close(self, *, now: bool) -> None:
        """Close the shard."""
        self._worker.close()


@dataclass(eq=False)
class _Member:
    process: Any
    line: Connection
    numbers: Sequence[int] | None = None  #: what it is doing
    ready: bool = False


class Processes:
    """Processes of this machine, one BLAS thread each. One that dies has a successor."""

    def __init__(self, work: Work, count: int) -> None:
        import multiprocessing

        import cloudpickle

        self._context = multiprocessing.get_context("spawn")  # a fork would copy the locks of threads
        try:
            self._work = cloudpickle.dumps(work)
        except Exception as error:  # an object of the user's may refuse in any way
            raise ValueError(
                f"`workers` above 1 needs objects that can be pickled, but {type(error).__name__}: {validation.reason(error)}."
                " Use workers=1."
            ) from None
        self._unborn = 0  #: processes that died before they were ready, since the last that was
        self._members = [self._begun() for _ in range(count)]

    @property
    def size(self) -> int:
        """How many processes there are."""
        return len(self._members)

    def hand(self, numbers: Sequence[int]) -> None:
        """Send jobs to a process that has none."""
        member = next(m for m in self._members if m.numbers is None)
        member.numbers = numbers
        with suppress(OSError):  # it is dead, which `wait` sees
            member.line.send(numbers)

    def wait(self, seconds: float) -> list[Ended]:
        """Return what has ended, and replace who has died."""
        ready = wait([m.line for m in self._members if m.numbers is not None], seconds)
        heard = [self._heard(m) for m in self._members if m.line in ready]
        return [ended for ended in heard if ended is not None]

    def _heard(self, member: _Member) -> Ended | None:
        """Return what a process says: None where it is only ready."""
        numbers = member.numbers or ()
        what: str = "died"
        value: Any = None
        with suppress(EOFError, OSError):
            what, value = member.line.recv()
        if what == "died":
            return Ended(numbers, float("nan"), self._replaced(member))
        if what == "raised":
            raise value
        if what == "ready":
            member.ready, self._unborn = True, 0
            return None
        member.numbers = None
        return Ended(numbers, value)

    def _replaced(self, member: _Member) -> str:
        """Put another process in the place of one that died, and say how it did."""
        member.process.join()
        how = _how(member.process.exitcode)
        self._unborn += not member.ready
        if self._unborn > _STILLBORN:
            raise RuntimeError(
                f"Worker processes end before they have begun ({how}). A script that starts them needs"
                ' `if __name__ == "__main__":`; or use workers=1.'
            )
        member.line.close()
        self._members[self._members.index(member)] = self._begun()
        return how

    def _begun(self) -> _Member:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(there, self._work), daemon=True)
        process.start()
        there.close()  # so that either side sees the end of the other
        return _Member(process, here)

    def close(self, *, now: bool) -> None:
        """Let the processes go: those at work end their jobs, unless it is to be now."""
        for member in self._members:
            member.line.close()
            if now:
                member.process.terminate()
        for member in self._members:
            member.process.join()


_STILLBORN = 2  # processes in a row that die before they are ready: no accident


def _how(code: int | None) -> str:
    """Say how a process ended."""
    if code is None:
        return "in an unknown way"
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _serve(line: Connection, work: bytes) -> None:
    """Carry out what comes over the line, until it is closed."""
    import cloudpickle
    from threadpoolctl import threadpool_limits

    leave_interrupts()
    with suppress(EOFError, BrokenPipeError):  # nobody is there any more
        try:
            worker = Worker(cloudpickle.loads(work))
            line.send(("ready", None))
            try:
                while True:
                    numbers = line.recv()
                    with threadpool_limits(1):  # of what is loaded by now
                        seconds = worker.do(numbers)
                    line.send(("done", seconds))
            finally:
                worker.close()
        except (EOFError, BrokenPipeError):
            raise
        except OSError as error:  # a result could not be written
            line.send(("raised", error))
        except Exception as error:
            line.send(
                ("raised", RuntimeError(f"A worker cannot begin: {type(error).__name__}: {validation.reason(error)}."))
            )
