"""Work spread over processes: the same numbers, errors as they are, and nothing left behind."""

import multiprocessing
import threading
from dataclasses import replace

import numpy as np
import pytest

import lowrankflow as lrf
from lowrankflow.cli import main
from lowrankflow.cli.output import time_left
from lowrankflow.compare import Interrupted, compare_problem, verify_problem
from lowrankflow.compare.progress import Shares, one_of
from lowrankflow.loading import load_object
from lowrankflow.workers import Job, carry_out

LOSS = lrf.losses.LeastSquares(np.diag([1.0, 2.0, 3.0]), np.diag([3.0, 2.0, 1.0]))
START = lrf.random_point(3, 3, 2, rng=0, singular_values=[0.5, 0.4])
IRIS = lrf.Problem(data="iris", rank=2, natural_end=0.5, rtol=1e-6)

# a loss in a file that no other process can import; `fate` is what becomes of it in another process
OWN = """
import multiprocessing

class Own:
    shape = (3, 3)

    def __init__(self, fate):
        self.fate = fate

    def value(self, w):
        if self.fate and multiprocessing.parent_process() is not None:
            exec(self.fate)
        return 0.5 * ((w.to_dense() - 1) ** 2).sum()

    def gradient(self, w):
        return w.to_dense() - 1

    @property
    def curvature(self):
        return 1.0
"""


def own(tmp_path, fate):
    file = tmp_path / "own_loss_of_a_test.py"
    file.write_text(OWN)
    return load_object("loss", f"{file}:Own")(fate)


def others():
    return [p for p in multiprocessing.active_children() if p.is_alive()]


@pytest.mark.parametrize("run", [verify_problem, compare_problem])
def test_the_numbers_do_not_depend_on_the_workers(run):
    problem = replace(IRIS, metrics=("embedded", "2", "3"), natural_end=None, clock_end=1.0) if run is compare_problem else IRIS
    told = []
    here, spread = run(problem), run(problem, workers=3, progress=lambda stage, part: told.append(part))
    a, b = here.to_dict(), spread.to_dict()
    if run is compare_problem:  # the times that its flows took
        for page in (a, b):
            page["tables"] = [t for t in page["tables"] if t["name"] != "cost"]
    assert a == b and here.passed
    assert told == sorted(told) and told[0] >= 0 and told[-1] <= 1
    assert not others()


def test_a_loss_that_no_module_defines_goes_along(tmp_path):
    report = lrf.verify_equivalence(own(tmp_path, ""), START, t_end=0.5, claims=["gradient", "trajectory"], workers=2)
    assert [c.verdict for c in report] == ["passed", "passed"]


@pytest.mark.parametrize(
    ("fate", "error", "says"),
    [
        pytest.param("1 / 0", ZeroDivisionError, "division by zero", id="raises"),
        pytest.param("import os; os._exit(1)", RuntimeError, "A worker process died, .* Use fewer `workers`.", id="dies"),
    ],
)
def test_what_goes_wrong_in_another_process_comes_back(tmp_path, fate, error, says):
    with pytest.raises(error, match=says):
        lrf.verify_equivalence(own(tmp_path, fate), START, t_end=0.5, workers=2)
    assert not others()


def test_what_cannot_be_pickled_is_refused(tmp_path):
    loss = own(tmp_path, "")
    loss.lock = threading.Lock()
    says = r"^`workers` above 1 needs objects that can be pickled, but TypeError: .* Use workers=1"
    with pytest.raises(ValueError, match=says):
        lrf.verify_equivalence(loss, START, t_end=0.5, workers=2)
    assert lrf.verify_equivalence(loss, START, t_end=0.5, claims=["gradient"]).passed


def test_ctrl_c_ends_the_others_and_keeps_what_is_there():
    """With two workers the claims that end before one that is broken off are kept."""

    def stop(stage, part):
        if stage in ("tolerance", "dissipation") and part > 0:
            raise KeyboardInterrupt

    problem = lrf.Problem(data="digits")
    with pytest.raises(Interrupted) as caught:
        verify_problem(problem, workers=2, progress=stop)
    names = [c.name for c in caught.value.report]
    assert names[:2] == ["gradient", "pointwise"] and len(names) < 15
    assert not others()


def test_what_runs_elsewhere_is_told_to_stop():
    """A job that never ends of itself, beside one that fails."""

    def endless(tell):
        import time

        while True:
            tell("endless", 0.5)
            time.sleep(0.01)

    def failing(tell):
        raise ArithmeticError("no")

    jobs = [Job("endless", endless), Job("failing", failing)]
    with pytest.raises(ArithmeticError, match="no"):
        list(carry_out(jobs, (), 2, [lambda stage, part: None] * 2))
    assert not others()


def test_the_whole_only_grows_whatever_its_parts_tell():
    told = []
    shares = Shares(lambda stage, part: told.append(round(part, 6)), {"a": 3.0, "b": 1.0})
    several = one_of(2, shares.part("a"))  # a guess: three runs come
    for part in (0.0, 1.0, 0.0, 1.0, 0.0, 1.0):
        several("run", part)
    shares.part("b")("other", 0.5)
    assert told == sorted(told) and told[-1] == pytest.approx(0.875)


@pytest.mark.parametrize("value", [0, 1.5, "two"])
def test_workers_are_counted(value):
    with pytest.raises((ValueError, TypeError), match=r"^`workers` must be"):
        lrf.verify_equivalence(LOSS, START, workers=value)
    with pytest.raises((ValueError, TypeError), match=r"^`workers` must be"):
        lrf.compare_metrics(LOSS, START, ["embedded"], workers=value)


def test_at_the_command_line(capsys):
    command = ["verify", "--data", "iris", "--rank", "2", "--natural-end", "0.5", "--rtol", "1e-6", "--quiet"]
    assert main(command) == main([*command, "--workers", "2"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second and "0 failed" in first
    assert main([*command, "--workers", "0"]) == 2
    assert capsys.readouterr().err == "lowrankflow: error: `--workers` must be at least 1, got 0.\n"


@pytest.mark.parametrize(
    ("elapsed", "fraction", "says"),
    [
        (1.0, 0.5, ""), (30.0, 0.01, ""), (10.0, 0.25, "about 30 s left"), (60.0, 0.1, "about 9 min left"),
        (3600.0, 0.25, "about 3 h 0 min left"), (10.0, 1.0, "about 0 s left"),
    ],
)  # fmt: skip
def test_the_time_left(elapsed, fraction, says):
    assert time_left(elapsed, fraction) == says
