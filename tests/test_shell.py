"""What a shell does to a command: closed streams, pipes, signals, an odd environment; and its words in messages."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import lowrankflow as lrf
from lowrankflow import cli
from lowrankflow.cli.shell import shell

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a shell of posix")
COMMAND = [sys.executable, "-m", "lowrankflow"]
WAIT = 60  # seconds that anything may take


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Arguments of a verify that takes less than a second and passes."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    np.save(folder / "x.npy", rng.standard_normal((30, 3)))
    np.save(folder / "y.npy", rng.standard_normal((30, 3)))
    files = ["--inputs", str(folder / "x.npy"), "--targets", str(folder / "y.npy")]
    return ["verify", *files, "--depth", "2", "--rank", "1", "--natural-end", "1"]


def in_shell(line, arguments, **variables):
    """What a shell makes of a line in which $RUN is the command: status, output, errors."""
    environment = os.environ | {"RUN": " ".join([*COMMAND, *arguments])} | variables
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment, timeout=WAIT)
    return done.returncode, done.stdout, done.stderr


def test_closed_streams_and_a_backend_that_is_none_do_no_harm(quick, tmp_path):
    """The status is that of the report, and the files are all there."""
    status, out, err = in_shell('$RUN --out "$OUT" >&- 2>&-', quick, OUT=str(tmp_path / "out"), MPLBACKEND="nonsense")
    assert (status, out, err) == (0, "", "")
    assert lrf.Report.from_json(tmp_path / "out" / "report.json").passed
    assert (tmp_path / "out" / "overview.png").stat().st_size > 1000


class Limited(io.TextIOWrapper):
    """A stream that writes so much and no more."""

    def __init__(self, error, encoding="utf-8"):
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)
        self.error, self.taken = error, 0

    def write(self, text):
        self.taken += 1
        if self.taken > 1:
            raise OSError(self.error, os.strerror(self.error))
        return super().write(text)

    def fileno(self):
        raise io.UnsupportedOperation


@pytest.mark.parametrize(
    ("error", "status"), [(errno.EPIPE, 0), (errno.EIO, 0), (errno.ENOSPC, 2)], ids=["pipe", "terminal", "full disk"]
)
def test_who_does_not_read_is_no_error_and_what_is_lost_is(quick, error, status, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Limited(error))
    assert cli.main(quick) == status
    said = "" if status == 0 else "lowrankflow: error: cannot read or write: No space left on device.\n"
    assert capsys.readouterr().err == said


def test_letters_that_a_terminal_lacks_are_escaped(quick, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.chdir(Path(quick[2]).parent)
    os.symlink("x.npy", "α.npy")
    assert cli.main(["verify", "--inputs", "α.npy", *quick[3:]]) == 0
    assert b"--inputs '\\u03b1.npy'" in stream.buffer.getvalue()


def test_json_on_standard_output_is_json_alone(quick, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*quick, "--json", "-"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["command"] == "verify" and found["claims"][0]["verdict"] == "passed"
    assert "to repeat it" in captured.err and found["headline"].splitlines()[0] in captured.err
    assert not list(tmp_path.iterdir())  # no file called -


def test_json_goes_to_a_pipe(quick, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()), daemon=True)
    reader.start()
    assert cli.main([*quick, "--quiet", "--json", str(tmp_path / "pipe")]) == 0
    reader.join(WAIT)
    assert json.loads(read[0])["command"] == "verify"


def heeded():
    """Signals that a shell ignores in the background, or nohup, are not ignored here."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def stopped(arguments, how, after, **options):
    """Start the command, send a signal once `after` says so, and return its status and what it said."""
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=heeded, **options,
    )  # fmt: skip
    end = time.monotonic() + WAIT
    while not after(process) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(how)
    out, err = process.communicate(timeout=WAIT)
    return process.returncode, out, err


LONG = ["verify", "--data", "digits", "--quiet"]


def test_what_was_computed_is_kept_when_the_terminal_ends(tmp_path):
    out = tmp_path / "report"

    def works(process):  # the folder is made when all is imported and read; the run takes half a minute from there
        return out.is_dir() and time.time() > out.stat().st_mtime + 1

    status, said, err = stopped([*LONG, "--out", str(out)], signal.SIGHUP, works)
    assert status == 130 and err == "lowrankflow: interrupted; what was computed follows.\n"
    assert "passed" in said and lrf.Report.from_json(out / "report.json").interrupted


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP], ids=lambda s: s.name)
def test_what_ends_a_job_is_ctrl_c_unless_it_is_ignored(how, monkeypatch):
    before = signal.signal(how, signal.SIG_DFL)
    try:
        with shell(), pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), how)
            time.sleep(WAIT)
        assert signal.getsignal(how) is signal.SIG_DFL
        signal.signal(how, signal.SIG_IGN)  # as nohup does
        with shell():
            os.kill(os.getpid(), how)
    finally:
        signal.signal(how, before)


def test_ctrl_c_during_the_imports_is_one_line(tmp_path):
    """numpy is replaced by a module that waits: the imports take as long as the test needs."""
    (tmp_path / "numpy.py").write_text(f"open({str(tmp_path / 'begun')!r}, 'w').close()\nimport time\ntime.sleep(60)\n")
    options = {"env": os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}}
    status, out, err = stopped(LONG, signal.SIGINT, lambda process: (tmp_path / "begun").exists(), **options)
    assert (status, out, err) == (130, "", "lowrankflow: interrupted before anything was measured.\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--max-evaluations", "5"], "`--max-evaluations` must be at least 100, got 5."),
        (["--natural-end", "-3"], "`--natural-end` must be positive and finite, got -3."),
        (["--loss-arg", "q"], "`--loss-arg` must be KEY=VALUE, got 'q'."),
        (["--rank", "2", "--widths", "1"], "`--widths` must be at least the rank 2, got 1. Lower `--rank` or widen."),
        (["--rank", "9"], "`--rank` must not exceed min(m, n), got --rank 9 for a matrix of shape (3, 3)."),
        (["--depth", "x"], "`--depth` must be a whole number of factors from 2, got 'x'. See lowrankflow verify --help."),
        (["--depth", "1"], "`--depth` must be greater than 1, got 1. A depth-1 flow does not preserve rank; use lowrankflow"
         " compare --metrics embedded for the projected flow. See lowrankflow verify --help."),
        (["--json", "nowhere/r.json"], "`--json` must be a file in a folder that exists, or - for standard output, got"
         " 'nowhere/r.json'."),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else "",
)  # fmt: skip
def test_messages_name_options(quick, arguments, says, capsys):
    assert cli.main([*quick, *arguments]) == 2
    assert capsys.readouterr().err == f"lowrankflow: error: {says}\n"


def test_what_ends_by_its_budget_names_the_budget_that_was_given(quick, capsys):
    assert cli.main([*quick[:-2], "--max-evaluations", "200"]) in (0, 1)
    shown = " ".join(capsys.readouterr().out.split())
    assert "ended by: 50 of 200 gradients, the part of `--max-evaluations`" in shown
    assert "t_span" not in shown and "max_evaluations" not in shown


def test_streams_and_signals_are_given_back(quick, capsys):
    before = (sys.stdout, sys.stderr, signal.getsignal(signal.SIGTERM), os.environ.get("MPLBACKEND"))
    assert cli.main(["datasets"]) == 0
    assert (sys.stdout, sys.stderr, signal.getsignal(signal.SIGTERM), os.environ.get("MPLBACKEND")) == before
