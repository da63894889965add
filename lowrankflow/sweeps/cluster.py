"""The workers of a Dask scheduler, on this machine or on others that see the same folder."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import Any

import cloudpickle
from dask import config
from dask.utils import parse_timedelta
from distributed import Client, KilledWorker, WorkerPlugin, get_worker, wait  # type: ignore[attr-defined, unused-ignore]

from .. import validation
from .._version import __version__
from .teams import Ended
from .working import Work, Worker

__all__ = ["Cluster"]

_PATIENCE = 10.0  # seconds to wait for an answer, or less where Dask is configured so
_LOGS = ("distributed", "distributed.client", "distributed.core", "distributed.comm")
_TRIES = 3  # workers that may be found not to be set up


class Cluster:
    """Whoever works for a scheduler. Dask gives the jobs of a worker that dies to another one."""

    def __init__(self, work: Work, address: str) -> None:
        self.address = address
        self._pending: dict[Any, tuple[tuple[int, ...], int]] = {}
        self._levels = {log: log.level for log in map(logging.getLogger, _LOGS)}
        for log in self._levels:  # what they would say is said in one line by us
            log.setLevel(logging.CRITICAL)
        patience = min(_PATIENCE, parse_timedelta(config.get("distributed.comm.timeouts.connect")))
        try:
            self._client = Client(address, timeout=patience, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            self._speak()
            raise ValueError(
                f"`scheduler` must answer, got nothing from {address} for {patience:g} s ({validation.reason(error)})."
                " Start one: dask scheduler"
            ) from None
        try:
            self._client.wait_for_workers(1, timeout=patience)
        except TimeoutError:
            self._leave()
            raise ValueError(
                f"`scheduler` must have workers, got {address} without one for {patience:g} s."
                f" Start one: dask worker {address} --nthreads 1"
            ) from None
        self._name = f"lowrankflow-{uuid.uuid4().hex[:12]}"
        try:
            self._client.register_plugin(_Workplace(self._name, cloudpickle.dumps(work)))
        except Exception as error:
            self._leave()
            raise ValueError(f"`scheduler` has a worker that cannot work: {error}") from None

    @property
    def size(self) -> int:
        """Two lists for every thread: one is done, one waits."""
        return max(1, 2 * sum(self._client.nthreads().values()))

    def hand(self, numbers: Sequence[int]) -> None:
        """Submit jobs."""
        self._submit(tuple(numbers), _TRIES)

    def _submit(self, numbers: tuple[int, ...], tries: int) -> None:
        key = f"{self._name}-{numbers[0]}-{uuid.uuid4().hex[:8]}"
        self._pending[self._client.submit(_do, self._name, numbers, pure=False, key=key)] = numbers, tries

    def wait(self, seconds: float) -> list[Ended]:
        """Return what has ended."""
        try:
            with self._client.as_current():
                done = wait(list(self._pending), timeout=seconds, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            done = set()
        except CancelledError:  # of everything that was pending
            raise self._gone() from None
        if self._client.status != "running":
            raise self._gone()
        return [ended for future in done if (ended := self._ended(future)) is not None]

    def _gone(self) -> RuntimeError:
        return RuntimeError(
            f"The scheduler at {self.address} answers no more. What is done is kept: start it again, and the same call goes on."
        )

    def _ended(self, future: Any) -> Ended | None:
        """Return what became of a future; None where it is tried elsewhere."""
        numbers, tries = self._pending.pop(future)
        try:
            return Ended(numbers, future.result(timeout=_PATIENCE))
        except KilledWorker as error:
            return Ended(numbers, float("nan"), f"the end of {error.last_worker.address}")
        except (TimeoutError, CancelledError):  # its worker died with the result: the jobs are done, or will be
            return Ended(numbers, float("nan"), "the end of its worker")
        except LookupError as error:
            if tries == 0:
                raise RuntimeError(f"A worker of {self.address} cannot work: {error}") from None
            self._submit(numbers, tries - 1)
            return None

    def close(self, *, now: bool) -> None:
        """Take back what is pending, and let the workers close their files."""
        try:
            if self._client.status == "running":
                self._client.cancel(list(self._pending), force=True)
                self._client.unregister_worker_plugin(self._name)
        except (OSError, TimeoutError, CancelledError):  # the scheduler is gone
            pass
        finally:
            self._leave()

    def _leave(self) -> None:
        self._client.close(timeout=1)
        self._speak()

    def _speak(self) -> None:
        """Let Dask say again what it has to say."""
        for log, level in self._levels.items():
            log.setLevel(level)


class _Workplace(WorkerPlugin):  # type: ignore[misc, unused-ignore]
    """What a worker of Dask has: the work, taken over once, and a shard of its own."""

    def __init__(self, name: str, work: bytes) -> None:
        self.name, self.version, self._work = name, __version__, work
        self.hands: Worker | None = None

    def setup(self, worker: Any) -> None:
        """Take over the work, if it can be done here."""
        if self.version != __version__:
            raise ValueError(
                f"{worker.address} has lowrankflow {__version__}, not {self.version}. Install the same one."
            )
        work = cloudpickle.loads(self._work)
        try:
            work.require_here()
        except (ValueError, OSError) as error:
            raise ValueError(f"on {worker.address}: {error}") from None
        self.hands = Worker(work)

    def teardown(self, worker: Any) -> None:
        """Close the shard."""
        if self.hands is not None:
            self.hands.close()


def _do(name: str, numbers: Sequence[int]) -> float:
    """Carry out jobs in a worker of Dask."""
    from threadpoolctl import threadpool_limits

    here = get_worker()
    place: Any = here.plugins.get(name)
    if place is None or place.hands is None:
        raise LookupError(
            f"{here.address} was not set up; it does not see the folder or the data, or has another version."
        )
    with threadpool_limits(1):
        return float(place.hands.do(numbers))
