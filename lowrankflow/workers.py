"""Independent calls, in this process or spread over others: the values are the same."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

__all__ = ["Job", "Tell", "carry_out", "leave_interrupts"]

Tell = Callable[[str, float], None]  #: progress: what is being done, and the part of it that is done

_LOOK = 0.1  # seconds between two looks at how far the others are


class Job(NamedTuple):
    """A call of `function` with what all jobs share and with a `tell` of its own."""

    name: str
    function: Callable[..., Any]


def carry_out(
    jobs: Sequence[Job], shared: Sequence[Any], workers: int, tells: Sequence[Tell]
) -> Generator[tuple[int, Any]]:
    """Yield the number of a job and its value ``function(*shared, tell)``, as they end.

    Parameters
    ----------
    jobs : sequence of Job
    shared : sequence
        Handed to every job. With more than one worker it is pickled once, by value what no module defines.
    workers : int
        Processes; with 1 all is done here, in order, a job only when its value is asked for.
    tells : sequence of callable
        The progress of each job, called in this process.

    Raises
    ------
    ValueError
        If something cannot be pickled.
    RuntimeError
        If a process died.
    Exception
        What a job raises, when it is its turn.
    """
    if min(workers, len(jobs)) <= 1:
        for i, (job, tell) in enumerate(zip(jobs, tells, strict=True)):
            yield i, job.function(*shared, tell)
        return
    yield from _spread(jobs, shared, min(workers, len(jobs)), tells)


def _spread(
    jobs: Sequence[Job], shared: Sequence[Any], workers: int, tells: Sequence[Tell]
) -> Generator[tuple[int, Any]]:
    import multiprocessing

    import cloudpickle

    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of threads, and not exist everywhere
    parts, stop = context.RawArray("d", len(jobs)), context.RawValue("b", 0)
    try:
        work = cloudpickle.dumps((jobs, tuple(shared)))
    except Exception as error:  # an object of the user's may refuse in any way
        raise ValueError(
            f"`workers` above 1 needs objects that can be pickled, but {type(error).__name__}: {error}. Use workers=1."
        ) from None
    with ProcessPoolExecutor(workers, context, _begin, (work, parts, stop)) as pool:
        try:
            waiting = {pool.submit(_do, i): i for i in range(len(jobs))}
            while waiting:
                done, _ = wait(waiting, timeout=_LOOK, return_when=FIRST_COMPLETED)
                for i in waiting.values():
                    if parts[i] > 0:
                        tells[i](jobs[i].name, parts[i])
                for future in done:
                    yield waiting.pop(future), _value(future.result())
        except BrokenProcessPool:
            raise RuntimeError("A worker process died, perhaps for want of memory. Use fewer `workers`.") from None
        finally:
            stop.value = 1
            pool.shutdown(cancel_futures=True)


def _value(pickled: bytes) -> Any:
    import cloudpickle

    raised, value = cloudpickle.loads(pickled)
    if raised:
        raise value
    return value


# ---------------------------------------------------------------------------------------------------------------------
# in the other processes

_work: tuple[Sequence[Job], Sequence[Any], Any, Any]  # of this process, which does nothing else


def leave_interrupts() -> None:
    """Leave Ctrl-C, and the end of the terminal, to the process that asked."""
    for name in ("SIGINT", "SIGHUP"):  # not SIGTERM, by which a pool ends a worker
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _begin(work: bytes, parts: Any, stop: Any) -> None:
    """Take over the work; the process that asked says when to stop."""
    global _work
    import cloudpickle
    from threadpoolctl import threadpool_limits

    leave_interrupts()
    threadpool_limits(1)
    _work = (*cloudpickle.loads(work), parts, stop)


def _do(i: int) -> bytes:
    """Do the i-th job; return whether it raised, and the exception or the value."""
    import cloudpickle

    jobs, shared, parts, stop = _work

    def tell(stage: str, part: float) -> None:
        parts[i] = max(parts[i], part)
        if stop.value:
            raise KeyboardInterrupt

    try:
        return bytes(cloudpickle.dumps((False, jobs[i].function(*shared, tell))))
    except BaseException as error:
        return bytes(cloudpickle.dumps((True, error)))
