"""Calls in other processes, each of which is stopped where it shows no sign of life.

`concurrent.futures` cannot end a task that hangs, so here a worker is a process with a pipe: it tells its stage once a second
at most, and is killed and replaced where nothing comes for longer than `silence`.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from .outcomes import Outcome

__all__ = ["Alive", "Task", "run"]

Alive = Callable[[str], None]
Task = Callable[[Alive], Outcome]  #: told how to show signs of life; what a module says, for it is pickled


def run(tasks: Sequence[Task], workers: int, silence: float) -> Iterator[tuple[int, Outcome]]:
    """Yield the number of a task and what came of it, as they end; with no worker here, one after the other."""
    if not workers:
        for i, task in enumerate(tasks):
            yield i, task(lambda stage: None)
        return
    left = deque(enumerate(tasks))
    busy: list[Worker] = []
    idle = [Worker() for _ in range(min(workers, len(tasks)))]
    try:
        while left or busy:
            while left and idle:
                worker = idle.pop()
                worker.give(*left.popleft())
                busy.append(worker)
            wait([worker.pipe for worker in busy], timeout=1.0)
            for worker in list(busy):
                outcome = worker.heard(silence)
                if outcome is None:
                    continue
                busy.remove(worker)
                idle.append(worker if worker.process.is_alive() else Worker())
                yield worker.number, outcome
    finally:
        for worker in busy + idle:
            worker.end()


class Worker:
    """A process, our end of its pipe, and the task that it has."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # nothing of ours is shared, planted faults least of all
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other,), daemon=True)
        self.process.start()
        other.close()  # so that its end is seen here
        self.number, self.stage, self.last, self.began = -1, "", 0.0, 0.0

    def give(self, number: int, task: Task) -> None:
        self.number, self.stage = number, ""
        self.last = self.began = time.monotonic()
        self.pipe.send(task)

    def heard(self, silence: float) -> Outcome | None:
        """Return the outcome, if there is one by now."""
        try:
            while self.pipe.poll():
                message: Any = self.pipe.recv()
                if isinstance(message, Outcome):
                    return message
                self.stage, self.last = message, time.monotonic()
        except (EOFError, ConnectionError):
            return self._over("crashed")
        return self._over("hung") if time.monotonic() - self.last > silence else None

    def _over(self, how: str) -> Outcome:
        self.end()
        return Outcome(how, stage=self.stage, seconds=time.monotonic() - self.began)

    def end(self) -> None:
        self.process.kill()
        self.process.join()


def _serve(pipe: Connection) -> None:
    """Do task after task, until the other end is gone."""
    last = 0.0

    def alive(stage: str) -> None:
        nonlocal last
        if time.monotonic() - last > 1.0:
            last = time.monotonic()
            pipe.send(stage)

    while True:
        try:
            task = pipe.recv()
        except (EOFError, ConnectionError):
            return
        pipe.send(task(alive))
