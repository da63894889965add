"""Sweeps survive what happens: workers, drivers and schedulers that are killed, and machines that differ."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lowrankflow.loading import load_object
from lowrankflow.sweeps import open_results, sweep

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")

COUNT = 60
GRID = {"grid": {"i": {"count": COUNT}}}
#: every call writes a line, so that a test can tell what was done more than once
JOB = """
import os, time

def job(i):
    with open({log!r}, "ab", buffering=0) as file:
        file.write(b"%d %d\\n" % (i, os.getpid()))
    time.sleep({seconds})
    {fate}
    return {{"x": i * i}}
"""
DRIVER = """
import sys
from lowrankflow.loading import load_object
from lowrankflow.sweeps import sweep

if __name__ == "__main__":
    sweep({{"grid": {{"i": {{"count": {count}}}}}}}, {out!r}, function=load_object("f", {file!r} + ":job"), workers=2)
"""


class Place:
    """A folder for results, a job, and what was called there."""

    def __init__(self, path, fate="", seconds=0.02):
        self.out, self.log, self.file = path / "out", path / "log", path / "own_job.py"
        self.log.touch()
        self.file.write_text(JOB.format(log=str(self.log), fate=fate or "pass", seconds=seconds))
        self.job = load_object("job", f"{self.file}:job")

    def calls(self):
        return [tuple(map(int, line.split())) for line in self.log.read_text().splitlines()]

    def sweep(self, **options):
        return sweep(GRID, self.out, function=self.job, **options)

    def wait(self, calls, deadline=20.0):
        end = time.monotonic() + deadline
        while len(self.calls()) < calls:
            assert time.monotonic() < end, "nothing is done"
            time.sleep(0.005)


def squares(results):
    return results.complete and results.values["x"].tolist() == [i * i for i in range(COUNT)]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text()


def test_a_worker_that_is_killed_loses_the_job_in_flight(tmp_path):
    place = Place(tmp_path)

    def kill():
        place.wait(15)
        os.kill(place.calls()[-1][1], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert squares(place.sweep(workers=2))
    killer.join()
    assert COUNT <= len(place.calls()) <= COUNT + 1 and len({pid for _, pid in place.calls()}) == 3


def test_a_job_that_kills_its_worker_fails_alone(tmp_path):
    place = Place(tmp_path, "if i == 7: os.kill(os.getpid(), 9)", seconds=0.001)
    found = place.sweep(workers=2)
    assert found.count("done") == COUNT - 1 and list(found.errors) == [7]
    assert found.errors[7] == "its worker died twice, lately by SIGKILL; perhaps for want of memory"
    assert sum(i == 7 for i, _ in place.calls()) == 2


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
def test_a_driver_that_is_killed_loses_nothing_that_is_done(how, tmp_path):
    place = Place(tmp_path)
    code = DRIVER.format(count=COUNT, out=str(place.out), file=str(place.file))
    script = tmp_path / "driver.py"
    script.write_text(code)
    driver = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE)
    place.wait(15)
    driver.send_signal(how)
    driver.communicate(timeout=20)
    end = time.monotonic() + 5
    while any(alive(pid) for _, pid in place.calls()):  # its workers see that it is gone
        assert time.monotonic() < end
        time.sleep(0.01)
    before = len(place.calls())
    kept = open_results(place.out)
    assert before - 2 <= kept.count("done") <= before < COUNT
    assert squares(place.sweep())
    assert len(place.calls()) <= COUNT + 2


def test_processes_that_cannot_begin_are_said(tmp_path):
    """A script without its guard runs itself again in every worker, which Python refuses there."""
    place = Place(tmp_path)
    code = DRIVER.format(count=COUNT, out=str(place.out), file=str(place.file)).replace('if __name__ == "__main__":', "if True:")
    script = tmp_path / "driver.py"
    script.write_text(code)
    found = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert "RuntimeError: Worker processes end before they have begun (exit status 1)." in found.stderr
    assert not place.calls()


# ---------------------------------------------------------------------------------------------------------------------
# Dask


@pytest.fixture
def cluster():
    """A real scheduler on loopback, and two workers: (address, scheduler, workers)."""
    pytest.importorskip("distributed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address, quiet = f"tcp://127.0.0.1:{port}", {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    tool = [sys.executable, "-W", "ignore", "-m"]
    begin = [*tool, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    scheduler = subprocess.Popen(begin, **quiet)
    begin = [*tool, "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    workers = [subprocess.Popen(begin, **quiet) for _ in range(2)]
    yield address, scheduler, workers
    for process in (*workers, scheduler):
        process.kill()
        process.wait()


@pytest.mark.filterwarnings("ignore")  # of Dask, about whatever
def test_a_cluster_of_which_a_worker_dies_and_then_the_scheduler(cluster, tmp_path):
    """Then nobody answers; a scheduler without workers is said too; and the rest is done here."""
    import dask

    address, scheduler, workers = cluster
    place = Place(tmp_path, seconds=0.05)

    def kill():
        place.wait(10)
        workers[0].kill()
        gone = len(place.calls())
        place.wait(gone + 8)
        scheduler.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(RuntimeError, match=rf"^The scheduler at {address} answers no more. What is done is kept: "):
        place.sweep(scheduler=address)
    killer.join()
    workers[1].kill()
    workers[1].wait()
    kept, calls = open_results(place.out), place.calls()
    assert {pid for _, pid in calls} == {worker.pid for worker in workers}
    # one in flight of each worker; what the first had done of its list the second did once more
    assert len({i for i, _ in calls}) - 2 <= kept.count("done") <= len({i for i, _ in calls}) < COUNT
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(ValueError, match=rf"^`scheduler` must answer, got nothing from {address} for 1 s .* dask scheduler$"),
    ):
        place.sweep(scheduler=address)
    soon = dask.config.set({"distributed.comm.timeouts.connect": "1s"})
    with soon, pytest.raises(ValueError, match=r"^`scheduler` must answer"):
        sweep(GRID, tmp_path / "new", function=place.job, scheduler=address)
    assert not (tmp_path / "new").exists()
    assert squares(place.sweep())
    assert len(place.calls()) - len(calls) == COUNT - kept.count("done")


def test_a_worker_that_does_not_see_the_data_is_said(tmp_path):
    """As every worker of a cluster asks before it takes anything."""
    from lowrankflow.sweeps import Grid, Work

    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((9, 2)))
    grid = Grid.of(problem={"inputs": tmp_path / "x.npy", "rank": 1}, run={"until": 0.1}).sealed()
    sweep(Grid.of(problem={"inputs": tmp_path / "x.npy", "rank": 1}, run={"until": 0.1}), tmp_path / "out")
    work = Work(grid, str(tmp_path / "out"))
    work.require_here()
    with pytest.raises(ValueError, match=r"^`out` must be a folder that every worker sees, got .* which is not here.$"):
        Work(grid, str(tmp_path / "elsewhere")).require_here()
    np.save(tmp_path / "x.npy", np.random.default_rng(1).standard_normal((9, 2)))
    with pytest.raises(ValueError, match=r"^`inputs` must be what the problem names, got .* with SHA-256 "):
        work.require_here()
    (tmp_path / "x.npy").unlink()
    with pytest.raises(ValueError, match=r"^`inputs` must be an existing file, got .*x.npy'.$"):
        work.require_here()


@pytest.mark.parametrize("address", ["127.0.0.1:8786", 8786, ""])
def test_no_address_of_a_scheduler(address, tmp_path):
    with pytest.raises(ValueError, match=r"^`scheduler` must be an address, tcp://HOST:PORT, got "):
        sweep(GRID, tmp_path / "out", function=max, scheduler=address)
    assert not (tmp_path / "out").exists()
