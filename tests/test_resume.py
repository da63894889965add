"""Checkpoints: a run that was killed ends on the same bits; another problem or a damaged file is refused."""

import errno
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from test_flow import Circle

import lowrankflow as lrf
from lowrankflow.flow import CheckpointFailed
from lowrankflow.flow.checkpoint import Checkpoint, Journal

LOSS = lrf.losses.LeastSquares(np.diag(np.linspace(0.4, 1.5, 5)), np.random.default_rng(0).standard_normal((6, 5)))
START = lrf.random_point(6, 5, 2, rng=np.random.default_rng(1), singular_values=[0.1, 0.05])
FLOW = lrf.RiemannianFlow(LOSS, lrf.DepthMetric(3))


def run(path=None, **options):
    options = {"t_span": (0, 8), "rtol": 1e-6, "checkpoint_every": 7} | options
    flow, start = options.pop("flow", FLOW), options.pop("start", START)
    return lrf.integrate(flow, start, checkpoint=path, **options)


def assert_same(a, b, counts=True):
    for name in ("t", "loss", "singular_values", "stationarity"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for w, v in zip(a.points, b.points, strict=True):
        np.testing.assert_array_equal(w.to_dense(), v.to_dense())
    assert (a.status, a.passages, a.events) == (b.status, b.passages, b.events)
    if counts:
        assert (a.nfev, a.nsteps, a.restarts, a.defect, a.message) == (b.nfev, b.nsteps, b.restarts, b.defect, b.message)


class Stop(Exception):
    pass


def interrupted(path, steps, **options):
    """Stop a run from outside after so many steps, as a crash would."""
    count = 0

    def callback(_):
        nonlocal count
        count += 1
        if count == steps:
            raise Stop

    with pytest.raises(Stop):
        run(path, callback=callback, **options)


#: of runs whose steps are many: those of low order, and those that begin anew with tiny ones after a checkpoint
END = {"RK23": 2, "RKC": 2, "BDF": 0.5, "LSODA": 0.5}
METHODS = ["RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA", "RKC", "ROCK4", "auto"]


@pytest.mark.parametrize("method", METHODS)
def test_a_run_goes_on_to_the_same_bits(method, tmp_path):
    options = {"method": method, "t_span": (0, END.get(method, 8))}
    whole = run(tmp_path / "whole.npz", **options)
    interrupted(tmp_path / "part.npz", 17, **options)
    assert_same(run(tmp_path / "part.npz", **options), whole)


@pytest.mark.parametrize("method", ["RK23", "RK45", "DOP853", "RKC", "ROCK4"])
def test_checkpoints_do_not_change_a_runge_kutta_run(method, tmp_path):
    options = {"method": method, "t_span": (0, END.get(method, 8))}
    assert_same(run(tmp_path / "a.npz", **options), run(**options), counts=False)


def test_the_control_another_tolerance_changes_the_bits(tmp_path):
    assert not np.array_equal(run(rtol=1.0001e-6).loss[-1], run().loss[-1])


@pytest.mark.parametrize(
    "options",
    [
        {"method": "RK4", "step_size": 0.05},
        {"method": "RKC", "step_size": 0.05},
        {"save": lrf.Save(times=[0.5, 1.0, 7.3], exact=True, integrals={"dissipated": lambda at: at.power}), "method": "ROCK4"},
        {"save": lrf.Save(times=[0.5, 1.0, 7.3]), "gtol": 1e-9},
        {"t_span": (0, np.inf), "rtol": 1e-2, "gtol": 1e-9},
        {"events": lrf.Event("half", lambda t, w: w.norm() - 0.5), "chart": lrf.Lifted()},
        {"flow": lrf.FactorFlow(LOSS), "start": lrf.LinearNetwork.balanced(START, 3), "method": "RKC"},
    ],
    ids=["rk4", "rkc-fixed", "exact", "times", "limit", "event", "factors"],
)
def test_whatever_is_kept(options, tmp_path):
    whole = run(tmp_path / "whole.npz", **options)
    interrupted(tmp_path / "part.npz", 15, **options)
    assert_same(run(tmp_path / "part.npz", **options), whole)
    if whole.dissipated is not None:
        np.testing.assert_array_equal(run(tmp_path / "part.npz", **options).dissipated, whole.dissipated)


KILLED = {
    "DOP853": {"method": "DOP853"},
    "RK45": {"method": "RK45"},
    "RKC": {"method": "RKC"},
    "ROCK4": {"method": "ROCK4"},
    "auto": {"method": "auto"},
    "RK4": {"method": "RK4", "step_size": 0.1},
}
CHILD = """
import os, signal, sys, time
sys.path.insert(0, {tests!r})
import test_resume

steps = 0

def callback(progress):
    global steps
    steps += 1
    if steps == {steps}:
        {then}

test_resume.run("run.npz", callback=callback, **{options!r})
"""


def child(folder, steps, then, options):
    """A process that does so many steps of the run and then something else."""
    code = CHILD.format(tests=os.path.dirname(__file__), steps=steps, then=then, options=options)
    return subprocess.Popen([sys.executable, "-c", code], cwd=folder)


@pytest.mark.parametrize("name", ["auto", "RK4"])  # what each method keeps is tested above
def test_a_killed_process_loses_nothing(name, tmp_path):
    """SIGKILL twice: in the middle of an interval between checkpoints, and in the second life again."""
    for steps in (18, 10):
        dead = child(tmp_path, steps, "os.kill(os.getpid(), signal.SIGKILL)", KILLED[name])
        assert dead.wait(60) == -signal.SIGKILL
    assert Checkpoint.read(tmp_path / "run.npz").head["run"]["nsteps"] == 21  # 14 of the first life, 7 of the second
    path = run(tmp_path / "run.npz", **KILLED[name])
    assert_same(path, run(tmp_path / "whole.npz", **KILLED[name]))
    assert path.nsteps > 21


def test_killed_from_outside_whenever_it_comes(tmp_path):
    """After every checkpoint there is one more; between any two bytes the process may die."""
    options, kills = {"method": "ROCK4", "rtol": 1e-8, "checkpoint_every": 3}, 0
    for delay in (0.0, 0.1):
        going = child(tmp_path, 1, "open('begun', 'w').close()", options)
        deadline = time.monotonic() + 60
        while not (tmp_path / "begun").exists() and going.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(delay)
        going.send_signal(signal.SIGKILL)
        kills += going.wait(60) == -signal.SIGKILL
        (tmp_path / "begun").unlink(missing_ok=True)
    assert kills  # at least the first fell into the run
    assert_same(run(tmp_path / "run.npz", **options), run(tmp_path / "whole.npz", **options))
    # what the killed writers left has been removed by later ones
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.npz", "whole.npz"]


def test_an_interrupted_process_can_go_on(tmp_path):
    """SIGINT, as Ctrl-C sends it: the trajectory so far is returned there, the file goes on here."""
    dead = child(tmp_path, 18, "os.kill(os.getpid(), signal.SIGINT)", KILLED["RKC"])
    assert dead.wait(60) == 0  # `integrate` returned
    assert_same(run(tmp_path / "run.npz", method="RKC"), run(tmp_path / "whole.npz", method="RKC"))


@pytest.mark.parametrize("name", ["DOP853", "ROCK4", "auto", "RK4"])
def test_the_end_can_be_moved(name, tmp_path):
    """A finished run goes on to a later end; one that lies on a checkpoint of a longer run is over."""
    options = KILLED[name]
    first = run(tmp_path / "run.npz", t_span=(0, 4), **options)
    longer = run(tmp_path / "run.npz", t_span=(0, 8), **options)
    assert (longer.status, longer.t[-1]) == (lrf.Status.FINISHED, 8)
    np.testing.assert_array_equal(longer.loss[: first.t.size], first.loss)
    again = run(tmp_path / "run.npz", t_span=(0, 8), **options)
    assert_same(again, longer)
    # as near to the run that was never stopped as that is to the flow: h^4 for RK4, less for others
    whole, error = run(t_span=(0, 8), **options), 1e-4
    assert np.linalg.norm(longer.points[-1].to_dense() - whole.points[-1].to_dense()) < error


def test_repairs_are_counted_through(tmp_path):
    """Frames that drift, in a chart that is never right: the repairs and the largest defect of both lives."""
    options = {"chart": Circle(), "method": "RK23", "rtol": 1e-4, "t_span": (0, 60), "checkpoint_every": 20}
    flow = lrf.RiemannianFlow(lrf.losses.LeastSquares(np.eye(1), np.ones((2, 1))), lrf.EmbeddedMetric())
    options |= {"flow": flow, "start": lrf.LowRankMatrix([[1.0], [0.0]], [1.0], [[1.0]])}
    whole = run(tmp_path / "whole.npz", **options)
    interrupted(tmp_path / "part.npz", whole.nsteps - 21, **options)
    assert_same(run(tmp_path / "part.npz", **options), whole)
    assert whole.restarts > 2


def test_a_spent_budget_stays_spent(tmp_path):
    first = run(tmp_path / "run.npz", max_evaluations=100)
    assert first.status is lrf.Status.MAX_EVALUATIONS
    assert_same(run(tmp_path / "run.npz", max_evaluations=100), first)
    assert run(tmp_path / "run.npz", max_evaluations=150).nfev >= 150  # control


def test_a_budget_that_is_raised_changes_no_bit(tmp_path):
    """Wherever it ended, also where "auto" had to look at the stiffness next: after every ten steps with DOP853."""
    stiff = lrf.losses.LeastSquares(np.diag(np.geomspace(0.1, 1.5, 5)), np.eye(6, 5))
    options = {"t_span": (0, 300), "flow": lrf.RiemannianFlow(stiff, lrf.DepthMetric(3))}
    whole = run(tmp_path / "whole.npz", **options)
    assert "BDF" in whole.method  # after the second look in a row at a stiff flow
    for budget in (110, 150, 240, 250, 300):
        path = tmp_path / f"{budget}.npz"
        assert run(path, max_evaluations=budget, **options).status is lrf.Status.MAX_EVALUATIONS
        again = run(path, **options)
        assert_same(again, whole, counts=False)
        assert again.method == whole.method


def test_an_end_that_lies_on_a_checkpoint(tmp_path):
    """A run that was stopped, called again up to where it was put down: nothing is left to do."""
    options = {"method": "RK4", "step_size": 0.125}
    interrupted(tmp_path / "run.npz", 17, **options)  # checkpoints after 7 and 14 steps
    path = run(tmp_path / "run.npz", t_span=(0, 14 * 0.125), **options)
    assert (path.status, path.t[-1], path.nsteps) == (lrf.Status.FINISHED, 14 * 0.125, 14)


def test_fixed_steps_go_on_from_the_end(tmp_path):
    """From an end that is no multiple of the step, in steps that are no longer than it."""
    options = {"method": "RK4", "step_size": 0.1}
    run(tmp_path / "run.npz", t_span=(0, 4.03), **options)
    steps = np.diff(run(tmp_path / "run.npz", t_span=(0, 8), **options).t)
    assert steps.max() < 0.1 + 1e-12
    assert steps.min() > 0.02  # the last step to either end is what is left, 0.03 and 0.07


def test_a_failed_run_keeps_why(tmp_path):
    """A velocity that ends in the middle: what the solver said of it comes back with the file."""

    class Broken(lrf.losses.LeastSquares):
        def gradient(self, w):
            return np.full((6, 5), np.nan) if w.norm() > 0.5 else super().gradient(w)

    flow = lrf.RiemannianFlow(Broken(np.diag(np.linspace(0.4, 1.5, 5)), np.ones((6, 5))), lrf.DepthMetric(3))
    first = run(tmp_path / "run.npz", flow=flow)
    assert first.status in (lrf.Status.STEP_TOO_SMALL, lrf.Status.NOT_FINITE)
    assert_same(run(tmp_path / "run.npz", flow=flow), first)


def test_a_finished_run_is_returned_and_can_go_further(tmp_path):
    path = tmp_path / "run.npz"
    first = run(path, method="ROCK4")
    assert_same(run(path, method="ROCK4"), first)
    longer = run(path, method="ROCK4", t_span=(0, 12))
    assert longer.t[-1] == 12 and longer.nfev > first.nfev
    np.testing.assert_array_equal(longer.loss[: first.t.size], first.loss)


OTHER = lrf.losses.LeastSquares(np.diag(np.linspace(0.4, 1.5001, 5)), np.eye(6, 5))
REFUSED = {
    "loss": ({"flow": lrf.RiemannianFlow(OTHER, lrf.DepthMetric(3))}, "a loss whose value or velocity"),
    "metric": ({"flow": lrf.RiemannianFlow(LOSS, lrf.DepthMetric(2))}, "flow"),
    "start": ({"start": lrf.random_point(6, 5, 2, rng=np.random.default_rng(2))}, "another start"),
    "method": ({"method": "RKC"}, "method"),
    "rtol": ({"rtol": 1e-7}, "tolerances"),
    "chart": ({"chart": lrf.Lifted()}, "chart"),
    "events": ({"events": lrf.Event("a", lambda t, w: t - 1, terminal=True)}, "events"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_problem_is_refused(name, tmp_path):
    path = tmp_path / "run.npz"
    run(path)
    before = path.read_bytes()
    options, why = REFUSED[name]
    with pytest.raises(ValueError, match=f"`checkpoint` must be of the same problem, .* of another: {why}"):
        run(path, **options)
    assert path.read_bytes() == before


def test_another_problem_is_refused_between_two_methods_that_were_named(tmp_path):
    run(tmp_path / "run.npz", method="DOP853")
    with pytest.raises(ValueError, match=r"of another: method \['DOP853', None\], not \['RKC', None\]"):
        run(tmp_path / "run.npz", method="RKC")


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "run.npz"
    run(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:500])
    with pytest.raises(ValueError, match="`checkpoint` must be a whole file"):
        run(path)
    path.write_bytes(whole[:500] + b"x" + whole[501:])
    with pytest.raises(ValueError, match="`checkpoint` must be a whole file"):
        run(path)


def test_a_file_cut_short_goes_on_from_before(tmp_path):
    """As a crash in the middle of a write leaves it: to the same bits."""
    path = tmp_path / "run.npz"
    whole, raw = run(path, checkpoint_every=2), path.read_bytes()
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(raw[: int(share * len(raw))])
        assert_same(run(path, checkpoint_every=2), whole)


def test_a_file_that_calls_it_every_goes_on(tmp_path):
    """As files did before 1.0."""
    path = tmp_path / "run.npz"
    whole = run(tmp_path / "whole.npz")
    interrupted(path, 9)
    saved = Checkpoint.read(path)
    saved.head["problem"]["every"] = saved.head["problem"].pop("checkpoint_every")
    saved.write(path)
    assert_same(run(path), whole)
    saved.write(path)
    with pytest.raises(ValueError, match="of another: checkpoint_every 7, not 8"):
        run(path, checkpoint_every=8)


def test_what_is_kept_is_written_once(tmp_path):
    """A checkpoint at every step: bytes written grow with the steps, not with their square; and the start is asked once."""
    sizes, calls = [], []
    write, append = Journal.write, Journal.append

    class Counting(lrf.losses.LeastSquares):
        def value(self, w):
            calls.append(w.norm())
            return super().value(w)

    loss = Counting(np.diag(np.linspace(0.4, 1.5, 5)), np.eye(6, 5))
    options = {"flow": lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), "checkpoint_every": 1, "method": "RK4", "step_size": 0.05}

    def counted(call):
        def counting(journal, checkpoint):
            before = path.stat().st_size if call is append and path.exists() else 0
            done = call(journal, checkpoint)
            sizes.append((path.stat().st_size - before) if done is not False else 0)
            return done

        return counting

    def total(steps):
        sizes.clear()
        run(path, t_span=(0, 0.05 * steps), **options)
        return sum(sizes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "write", counted(write))
        patch.setattr(Journal, "append", counted(append))
        path = tmp_path / "short.npz"
        short = total(40)
        path = tmp_path / "long.npz"
        calls.clear()
        assert total(160) < 5 * short  # 16 times where all is written anew at every step
    first = START.norm()
    # the choice of the chart, bind, the comparison, the record, its first checkpoint
    assert sum(abs(size - first) < 1e-12 for size in calls) == 5


def test_wrong_paths_and_spans_are_told_before_the_work(tmp_path):
    with pytest.raises(ValueError, match="`checkpoint` must be a file that can be written"):
        run(tmp_path / "no" / "folder.npz")
    with pytest.raises(ValueError, match="`save` must not ask for dense output with a checkpoint"):
        run(tmp_path / "a.npz", save=lrf.Save(dense=True))
    with pytest.raises(ValueError, match="`checkpoint_every` must be"):
        run(tmp_path / "a.npz", checkpoint_every=0)
    run(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="`t_span` must not end before the checkpoint, got 4 with one at t=8"):
        run(tmp_path / "a.npz", t_span=(0, 4))


def test_a_full_disk_is_an_error_that_keeps_the_run(tmp_path, monkeypatch):
    path, append, count = tmp_path / "run.npz", Journal.append, 0

    def full(self, more):
        nonlocal count
        count += 1
        if count > 3:  # the first is of an empty journal
            raise OSError(errno.ENOSPC, "No space left on device")
        return append(self, more)

    monkeypatch.setattr(Journal, "append", full)
    with pytest.raises(CheckpointFailed, match=r"`checkpoint` could not be written at t=.* \(No space left") as caught:
        run(path)
    kept = caught.value.trajectory
    assert kept.nsteps == 21 and kept.t[-1] > 0
    np.testing.assert_allclose(kept.loss[-1], LOSS.value(kept.points[-1]), rtol=1e-13)
    monkeypatch.undo()
    assert_same(run(path), run(tmp_path / "whole.npz"))


def test_ctrl_c_leaves_a_readable_trajectory(tmp_path):
    """Raised from inside the k-th gradient: time and W belong together whenever it comes."""

    class Interrupting(lrf.losses.LeastSquares):
        left = 0

        def gradient(self, w):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return super().gradient(w)

    loss = Interrupting(np.diag(np.linspace(0.4, 1.5, 5)), np.eye(6, 5))
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(3))
    whole = run(flow=flow, save=lrf.Save(dense=True), rtol=1e-8)
    for k in (10, 40, 77, 120):
        loss.left = k + 3  # the checks of the start take some
        path = run(flow=flow, rtol=1e-8)
        assert path.status is lrf.Status.INTERRUPTED
        np.testing.assert_allclose(path.loss[-1], loss.value(path.points[-1]), rtol=1e-12)
        gap = np.linalg.norm(path.points[-1].to_dense() - whole(path.t[-1]).to_dense())
        assert gap < 1e-5  # DOP853's interpolant is good to about 1000 rtol


# ---------------------------------------------------------------------------------------------------------------------
# what a function of the caller's raises


class Fails:
    """A function that works so many times."""

    def __init__(self, function, times):
        self.function, self.left = function, times

    def __call__(self, *args):
        self.left -= 1
        if self.left < 0:
            raise KeyError("mine")
        return self.function(*args)


def failing_gradient(loss, times):
    return SimpleNamespace(shape=loss.shape, value=loss.value, gradient=Fails(loss.gradient, times))


@pytest.mark.parametrize("where", ["gradient", "column", "event", "callback"])
@pytest.mark.parametrize("kind", ["flow", "descent"])
@pytest.mark.parametrize("times", [1, 2, 9, 30, 47])
def test_an_exception_takes_the_run_along(kind, where, times):
    """The rows are those of the run that goes on, and the exception is the caller's own."""
    loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    start = lrf.random_point(3, 3, 2, rng=0)

    def run(loss, column, event, callback):
        columns = {"norm": column}
        if kind == "flow":
            return lrf.integrate(
                lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), start, t_span=(0, 20), method="DOP853",
                save=lrf.Save(columns=columns), events=lrf.Event("e", event), callback=callback,
            )  # fmt: skip
        net = lrf.LinearNetwork.balanced(start, 3)
        return lrf.gradient_descent(
            loss, net, step_size=0.01, steps=60, columns=columns, callback=callback, stop=lambda at: event(at.t, at.network) < 0,
        )  # fmt: skip

    functions = {"column": lambda t, w: w.norm(), "event": lambda t, w: 1.0, "callback": lambda step: None}
    whole = run(loss, *functions.values())
    changed = {name: Fails(f, times) if name == where else f for name, f in functions.items()}
    try:
        run(failing_gradient(loss, times) if where == "gradient" else loss, *changed.values())
    except KeyError as error:
        assert error.args == ("mine",)
        path = getattr(error, "trajectory", None)
        if path is None:  # nothing had been done
            assert times <= 2 or (where == "gradient" and times < 13)
            return
        assert path.status is lrf.Status.INTERRUPTED and path.t[0] == 0.0
        for name in ("t", "loss", "singular_values"):
            np.testing.assert_array_equal(getattr(path, name), getattr(whole, name)[: len(path.t)])
        assert len(path.points) == len(path.columns["norm"]) == len(path.t)
        assert error.__notes__ == [f"The run so far, to t={path.t[-1]:.6g}, is in `trajectory` of this exception."]
    else:
        assert times > whole.nsteps  # it was never reached
