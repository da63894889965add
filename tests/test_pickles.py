"""What a user holds survives pickle, copy and the way to another process and back, failures included."""

import enum
import multiprocessing
import pickle
import re
import subprocess
import sys
import time
import types
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from copy import copy, deepcopy
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import workers
from cases import (
    ALL_METRICS,
    CHARTS,
    LOSSES,
    METRICS,
    STARTS,
    STEPPERS,
    SYMMETRIC_METRICS,
    function,
    least_squares,
    softmax_inputs,
)
from oracles import EPS
from pymanopt.optimizers import ConjugateGradient, SteepestDescent, TrustRegions

import lowrankflow as lrf
from lowrankflow import data, losses, steppers
from lowrankflow.flow import Step
from lowrankflow.pymanopt_manifold import FixedRank, PositiveSemidefinite

TIMEOUT = 60  # seconds: a process starts in two, and one that waits for ever fails the test
SPAWN = multiprocessing.get_context("spawn")


def pickled(value):
    return pickle.loads(pickle.dumps(value))


COPIES = [pytest.param(pickled, id="pickle"), pytest.param(deepcopy, id="deepcopy"), pytest.param(copy, id="copy")]
every_copy = pytest.mark.parametrize("copied", COPIES)


def content(value):
    """Return all that a value holds, to the bit, in terms that ``==`` compares: its type, its parts, their parts."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if value is None or isinstance(value, (bool, int, str, bytes)):
        return value
    if isinstance(value, (float, complex)):
        return kind, repr(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return kind, value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, np.random.Generator):
        return kind, content(value.bit_generator.state)
    if isinstance(value, types.MethodType):
        return value.__qualname__, content(value.__self__)
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        return value.__module__, value.__qualname__
    if isinstance(value, enum.Enum):
        return kind, value.name
    if isinstance(value, dict):
        return kind, [(content(key), content(part)) for key, part in value.items()]
    if isinstance(value, (list, tuple)):
        return kind, [content(part) for part in value]
    if not hasattr(value, "__dict__") and not hasattr(value, "__slots__"):
        raise TypeError(f"nothing is known of what is in a {kind}")
    slots = [name for cls in type(value).__mro__ for name in np.atleast_1d(getattr(cls, "__slots__", ())).tolist()]
    parts = {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})
    return kind, [(name, content(part)) for name, part in sorted(parts.items())], content(getattr(value, "args", None))


def test_content_sees_a_last_bit(rng):
    loss = least_squares(5, 4, rng)
    other = deepcopy(loss)
    held = [a for a in vars(other).values() if isinstance(a, np.ndarray)]
    held[0][0, 0] *= 1 + 2 * EPS
    assert content(other) != content(loss)


# ---------------------------------------------------------------------------------------------------------------------
# values


def start(rng, m=5, n=4):
    return lrf.random_point(m, n, 2, rng=rng, singular_values=(0.3, 0.2))


def network(rng):
    return lrf.LinearNetwork.balanced(start(rng), 3, widths=4, rng=rng)


def riemannian_path(rng, **options):
    flow = lrf.RiemannianFlow(least_squares(5, 4, rng), lrf.DepthMetric(3))
    return lrf.integrate(flow, start(rng), t_span=(0, 1), **options)


def factor_path(rng):
    save = lrf.Save(times=[0.5, 1.0], integrals={"dissipated": workers.power})
    return lrf.integrate(lrf.FactorFlow(least_squares(5, 4, rng)), network(rng), t_span=(0, 1), save=save)


def used(make, m, n, rng):
    """Return a loss with its caches filled."""
    loss = make(m, n, rng)
    loss.gradient(start(rng))
    getattr(loss, "curvature", None)
    return loss


def itself(value, rng):
    return value


#: the one left out has a lambda inside
PICKLED_LOSSES = [case for case in LOSSES if case.id != "function"]


def observations(rng):
    return data.Observations("a", [0, 0, 2], [0, 1, 1], [2.0, 1.0, 4.0], (3, 2))


def data_set(rng):
    return data.DataSet("a", rng.standard_normal((9, 4)), rng.standard_normal(9))


def separation(rng):
    return lrf.separation.follow_margin(softmax_inputs(5, 4, rng), start(rng), lrf.DepthMetric(2), max_evaluations=50)


#: id: make(rng)
HELD = (
    {f"metric-{case.id}": partial(itself, case.values[0]) for case in [*ALL_METRICS, *SYMMETRIC_METRICS]}
    | {f"chart-{case.id}": partial(itself, case.values[0]) for case in CHARTS}
    | {f"stepper-{case.id}": partial(itself, case.values[0]) for case in STEPPERS}
    | {f"point-{case.id}": case.values[0].draw for case in STARTS}
    | {f"loss-{case.id}": partial(used, case.values[0], 5, 4) for case in PICKLED_LOSSES}
    | {
        "loss-schatten": lambda rng: losses.Schatten((5, 4), depth=3),
        "loss-bureswasserstein": lambda rng: losses.BuresWasserstein(np.eye(4), 3),
        "loss-logarithm": lambda rng: losses.Logarithm(softmax_inputs(5, 4, rng)),
        "loss-scaled": lambda rng: losses.Scaled(softmax_inputs(5, 4, rng), 2.0),  # holds a bound method
        "loss-mean": lambda rng: losses.Mean(least_squares(5, 4, rng), least_squares(5, 4, rng)),
        "misfit-squaredhinge": lambda rng: losses.SquaredHinge([1, -1]),
        "measurement-sum": lambda rng: losses.Inputs(np.eye(4), 5) + losses.Inputs(np.ones((4, 4)), 5),
        "gradient": lambda rng: least_squares(5, 4, rng).gradient(start(rng)),
        "chart-factors": lambda rng: lrf.Factors(),
        "coefficients": lambda rng: lrf.metrics.MNMetric().coefficients(np.array([2.0, 1.0])),
        "hessian": lambda rng: lrf.geometry.RiemannianHessian(
            (w := start(rng)), lrf.project(w, np.eye(5, 4)), lrf.DepthMetric(3)
        ),
        "point-transposed": lambda rng: start(rng).T,
        "product": lambda rng: lrf.Product(np.eye(3), np.ones((3, 4))),
        "tangent": lambda rng: lrf.project(start(rng), rng.standard_normal((5, 4))),
        "network": network,
        "riemannianflow": lambda rng: lrf.RiemannianFlow(least_squares(5, 4, rng), lrf.DepthMetric(3)),
        "factorflow": lambda rng: lrf.FactorFlow(least_squares(5, 4, rng)),
        "save": lambda rng: lrf.Save(times=[0.5, 1.0], exact=True, integrals={"dissipated": workers.power}),
        "event": lambda rng: lrf.Event("level", workers.level, terminal=True, direction=1),
        "status": lambda rng: list(lrf.Status),
        "step": lambda rng: Step(0.5, 1.0, 7, np.nan),
        "passage": lambda rng: lrf.flow.Passage(0.5, 1.0, 2),
        "dataset": data_set,
        "observations": observations,
        "prepared": lambda rng: data.prepare(data_set(rng)),
        "prepared-observations": lambda rng: data.prepare_observed(observations(rng)),
        "path": riemannian_path,
        "path-events": lambda rng: riemannian_path(rng, events=lrf.Event("level", workers.level, terminal=True)),
        "path-limit": lambda rng: riemannian_path(rng, method="auto", gtol=1e-3, max_evaluations=99),
        "path-factors": factor_path,
        "path-descent": lambda rng: workers.descend(least_squares(5, 4, rng), network(rng), 0.1),
        "separation": separation,
        "report": lambda rng: lrf.verify_equivalence(least_squares(5, 4, rng), start(rng), depth=2, t_end=0.01),
        "report-metrics": lambda rng: lrf.compare_metrics(
            least_squares(5, 4, rng), start(rng), [lrf.DepthMetric(2), lrf.EmbeddedMetric()], clock_end=0.1, rtol=1e-5
        ),
        "report-loss": lambda rng: lrf.check_loss(least_squares(5, 4, rng), start(rng)),
        "claim": lambda rng: lrf.check_metric(lrf.DepthMetric(2), start(rng)).claims[0],
        "manifold-semidefinite": lambda rng: PositiveSemidefinite(4, 2, retraction="geodesic", rng=rng),
    }
    | {f"manifold-{case.id}": partial(FixedRank, 5, 4, 2, case.values[0]) for case in METRICS}
)


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in HELD.items()])
def test_copies_hold_the_same(make, rng):
    value = make(rng=rng)
    expected = content(value)
    for parameter in COPIES:  # in one test: some of the values take a second to make
        assert content(parameter.values[0](value)) == expected, parameter.id


@every_copy
@pytest.mark.parametrize("case", PICKLED_LOSSES)
def test_copied_losses_say_the_same(case, copied, rng):
    loss = case(5, 4, rng)
    says_the_same(copied(loss), loss, rng)


@every_copy
@pytest.mark.parametrize("kind", ["of W", "of outputs"])
def test_functions_that_autograd_differentiates_pickle_as_functions(kind, copied, rng):
    if kind == "of W":
        loss = losses.from_function(workers.quartic, (5, 4), convex=True)
    else:
        loss = losses.Measured(losses.Inputs(rng.standard_normal((4, 7)), rows=5), workers.quartic)
    w, z = start(rng), rng.standard_normal((5, 4))
    back = copied(loss)
    assert back.value(w) == loss.value(w) and repr(back) == repr(loss)
    for a, b in ((back.gradient(w), loss.gradient(w)), (back.hessian(w, z), loss.hessian(w, z))):
        np.testing.assert_array_equal(a @ np.eye(4), b @ np.eye(4))


@pytest.mark.parametrize("copied", [deepcopy, copy])
def test_a_copied_function_says_the_same(copied, rng):
    loss = function(5, 4, rng)
    says_the_same(copied(loss), loss, rng)


def says_the_same(again, loss, rng):
    w, v = start(rng), rng.standard_normal((4, 2))
    # the same arithmetic on the same numbers, which may lie elsewhere in memory
    np.testing.assert_allclose(again.value(w), loss.value(w), rtol=100 * EPS)
    np.testing.assert_allclose(again.gradient(w) @ v, loss.gradient(w) @ v, rtol=0, atol=1000 * EPS)


@every_copy
def test_copied_matrices_take_numpy_scalars(copied, rng):
    """numpy must leave the product to them, as it does with the original."""
    for value in (lrf.Product(np.eye(3), np.eye(3)), lrf.project(start(rng), np.eye(5, 4))):
        assert isinstance(np.float64(2) * copied(value), type(value))


def test_copied_status_is_the_same_object(rng):
    assert pickled(riemannian_path(rng)).status is lrf.Status.FINISHED


# ---------------------------------------------------------------------------------------------------------------------
# problems of pymanopt


def problem_at(w, metric, rng, **options):
    """Return a problem that has been asked twice, so that there is something to carry along."""
    problem = FixedRank(*w.shape, w.rank, metric).problem(least_squares(*w.shape, rng), **options)
    problem.cost(w)
    problem.riemannian_gradient(w)
    return problem


def numbers(log):
    """Return a log without its times."""
    return [content(line._replace(time=0.0)) for line in log]


@every_copy
@pytest.mark.parametrize("metric", [*METRICS, *SYMMETRIC_METRICS])
def test_copied_problems_say_the_same(metric, copied, rng):
    symmetric = isinstance(metric, lrf.metrics.BuresWassersteinMetric)
    w = lrf.random_point(4, 4, 2, rng=rng, symmetric=True) if symmetric else start(rng)
    problem = problem_at(w, metric, rng)
    again, z = copied(problem), lrf.project(w, rng.standard_normal(w.shape))
    assert abs(again.cost(w) - problem.cost(w)) <= 100 * EPS * problem.cost(w)
    got, want = again.riemannian_gradient(w), problem.riemannian_gradient(w)
    assert (got - want).norm() <= 100 * EPS * want.norm()
    if hasattr(metric, "differences"):
        z = z.symmetrised() if symmetric else z
        got, want = again.riemannian_hessian(w, z), problem.riemannian_hessian(w, z)
        assert (got - want).norm() <= 1000 * EPS * want.norm()
    else:
        with pytest.raises(TypeError, match="differences"):
            _ = again.riemannian_hessian


@every_copy
def test_a_copied_problem_goes_on_with_counts_and_a_log_of_its_own(copied, rng):
    w = start(rng)
    problem = problem_at(w, lrf.DepthMetric(3), rng, keep_points=True)
    again, before = copied(problem), numbers(problem.log)
    assert numbers(again.log) == before
    again.riemannian_gradient(start(rng))
    last = again.log[-1]
    assert (last.cost_evaluations, last.gradient_evaluations, len(again.log)) == (1, 2, 2)
    assert last.point is not None  # keep_points
    assert numbers(problem.log) == before


@pytest.mark.parametrize("zero", [-1e6, 0.0, 1e6])
def test_the_clock_of_a_copied_problem_goes_on(zero, rng, monkeypatch):
    """From where it stood: a pickle may be read another day, on a machine whose clock has another zero."""
    w = start(rng)
    problem = problem_at(w, None, rng)
    text, clock = pickle.dumps(problem), time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: clock() - zero)
    again = pickle.loads(text)
    again.riemannian_gradient(w)
    assert 0 <= again.log[-1].time - problem.log[-1].time < 100


@pytest.mark.parametrize("optimizer", [SteepestDescent, ConjugateGradient, TrustRegions])
def test_a_copied_problem_runs(optimizer, rng):
    w = start(rng)
    problem = problem_at(w, lrf.DepthMetric(2), rng, callback=len)  # any that can be imported
    again = pickled(problem)
    for each in (problem, again):
        each.run(optimizer(max_iterations=5, verbosity=0), initial_point=w)
    np.testing.assert_allclose([x.cost for x in again.log], [x.cost for x in problem.log], rtol=1e-9)


def test_a_recorder_that_holds_its_problem_is_copied(rng):
    """The callback is a method of the object that holds the problem: a circle."""
    recorder = workers.Recorder(FixedRank(5, 4, 2), least_squares(5, 4, rng))
    again = pickled(recorder)
    again.problem.riemannian_gradient(start(rng))
    assert (len(again.seen), len(recorder.seen)) == (1, 0)


def test_attributes_of_a_subclass_are_carried_along(rng):
    problem = workers.Named(FixedRank(5, 4, 2), least_squares(5, 4, rng), callback=None, keep_points=False)
    problem.name = "ours"
    assert pickled(problem).name == "ours"


def test_a_lambda_in_a_problem_is_named(rng):
    problem = FixedRank(5, 4, 2).problem(function(5, 4, rng))
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pickle.dumps(problem)


# ---------------------------------------------------------------------------------------------------------------------
# exceptions


def losing(rng, folder):
    flow = lrf.RiemannianFlow(least_squares(5, 4, rng), lrf.DepthMetric(3))
    return partial(workers.lose_the_folder, flow, start(rng), folder / "lost" / "run.npz")


def interrupted(rng, folder):
    return partial(workers.stop_at_the_fourth, least_squares(5, 4, rng), start(rng))


def failing(rng, folder):
    return partial(workers.check_a_wrong_metric, start(rng))


EXCEPTIONS = [
    pytest.param(losing, lrf.flow.CheckpointFailed, "trajectory", id="checkpoint"),
    pytest.param(interrupted, lrf.Interrupted, "report", id="interrupted"),
    pytest.param(failing, lrf.ClaimFailed, "report", id="claim failed"),
]
every_exception = pytest.mark.parametrize(("make", "kind", "payload"), EXCEPTIONS)


def failure(work, kind):
    with pytest.raises(kind) as caught:
        work()
    return caught.value


@every_copy
@every_exception
def test_exceptions_survive_a_copy(make, kind, payload, copied, rng, tmp_path):
    error = failure(make(rng, tmp_path), kind)
    error.add_note("step 3 of the sweep")
    again = copied(error)
    assert type(again) is kind
    assert str(again) == str(error)
    assert content(getattr(again, payload)) == content(getattr(error, payload))
    assert content(again) == content(error)  # errno, notes and all


def test_an_exception_of_the_old_way_does_not():
    """Control: it can be pickled, and the pickle cannot be read; so a pool learns of it too late.

    In a Python of its own: some packages (tblib, which distributed imports) register a way to pickle any exception.
    """
    code = "import pickle, workers; text = pickle.dumps(workers.OldWay('message', 0)); print('made'); pickle.loads(text)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.stdout == "made\n" and done.returncode == 1
    assert re.search("TypeError: .*payload", done.stderr)


# ---------------------------------------------------------------------------------------------------------------------
# other processes


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(2, mp_context=SPAWN) as executor:
        yield executor


@every_exception
def test_exceptions_come_back_from_a_process(make, kind, payload, pool, rng, tmp_path):
    work = make(rng, tmp_path)
    here, there = failure(work, kind), pool.submit(work).exception(TIMEOUT)
    assert type(there) is kind
    assert str(there) == str(here)
    assert summary(getattr(there, payload)) == summary(getattr(here, payload))


def summary(payload):
    """Return what roundoff does not change, and what says that the payload is not empty."""
    if isinstance(payload, lrf.Report):
        return payload.interrupted, [claim.name for claim in payload.claims]
    return payload.status, payload.nsteps, payload.t.size, len(payload.points)


def test_exceptions_come_back_from_multiprocessing_pool(rng, tmp_path):
    with SPAWN.Pool(1) as processes:
        result = processes.apply_async(losing(rng, tmp_path))
        assert failure(partial(result.get, TIMEOUT), lrf.flow.CheckpointFailed).trajectory.t.size > 0


def test_an_exception_of_the_old_way_breaks_the_pool():
    """Control: what the parent cannot read ends the whole pool."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as executor:
        assert isinstance(executor.submit(workers.fail_the_old_way).exception(TIMEOUT), BrokenProcessPool)


def test_a_sweep_of_descents_hands_back_paths(pool, rng):
    loss, net, steps = least_squares(5, 4, rng), network(rng), [0.01, 1e4, 0.05, 1e9, 0.1]
    futures = [pool.submit(workers.descend, loss, net, h) for h in steps]
    ends = [future.result(TIMEOUT) for future in futures]
    good, bad = lrf.Status.FINISHED, lrf.Status.NOT_FINITE
    assert [end.status for end in ends] == [good, bad, good, bad, good]
    for h, end in zip(steps[::2], ends[::2], strict=True):  # roundoff does not grow where descent contracts
        np.testing.assert_allclose(end.loss, workers.descend(loss, net, h).loss, rtol=1e-9)
    for h, end in zip(steps[1::2], ends[1::2], strict=True):
        assert f"with step {h:g}" in end.message


def test_a_sweep_of_flows_hands_back_paths(pool, rng):
    """Under a user's metric too; depth 1.5 would warn of its frames."""
    flows = [lrf.RiemannianFlow(least_squares(5, 4, rng), case.values[0]) for case in METRICS if case.id != "depth1.5"]
    w, options = start(rng), {"max_evaluations": 60, "events": lrf.Event("level", workers.level)}
    futures = [pool.submit(workers.flow, flow, w, options) for flow in flows]
    for flow, future in zip(flows, futures, strict=True):
        path, here = future.result(TIMEOUT), workers.flow(flow, w, options)
        assert path.status is here.status
        np.testing.assert_allclose(path.loss[-1], here.loss[-1], rtol=1e-9)


def test_problems_go_to_a_process_and_come_back_with_their_log(pool, rng):
    w = start(rng)
    problem = problem_at(w, lrf.DepthMetric(2), rng)
    future = pool.submit(workers.optimise, problem, w, TrustRegions(max_iterations=5, verbosity=0))
    there, result = future.result(TIMEOUT)
    assert numbers(there.log[:1]) == numbers(problem.log)  # what it had is in front of what was added
    assert there.log[-1].cost == result.cost < problem.log[-1].cost


def test_a_problem_that_no_pickle_takes_is_refused_by_the_pool(pool, rng):
    problem = FixedRank(5, 4, 2).problem(function(5, 4, rng))
    future = pool.submit(workers.optimise, problem, start(rng), TrustRegions(verbosity=0))
    assert "lambda" in str(future.exception(TIMEOUT))


# ---------------------------------------------------------------------------------------------------------------------
# dense output, solver classes


def dense(kind, method, rng):
    """A dense trajectory with an integral, of a loss that cannot be pickled itself."""
    start, loss = lrf.random_point(5, 4, 2, rng=rng), losses.from_function(lambda w: (w**2).sum(), shape=(5, 4))
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(2))
    chart = {"root": lrf.SingularFrame(root=1), "lifted": lrf.Lifted()}.get(kind)
    if kind == "factors":
        flow, start = lrf.FactorFlow(loss), lrf.LinearNetwork.balanced(start, 2)
    if kind == "symmetric":
        loss = losses.from_function(lambda w: (w**2).sum(), shape=(4, 4))
        flow = lrf.RiemannianFlow(loss, lrf.metrics.BuresWassersteinMetric())
        start = lrf.random_point(4, 4, 2, rng=rng, symmetric=True)
    save = lrf.Save(dense=True, integrals={"q": lambda at: at.power})
    options = {"step_size": 0.1} if method in ("Euler", "RK4") else {"rtol": 1e-4}
    return lrf.integrate(flow, start, t_span=(0, 1), chart=chart, method=method, save=save, **options)


METHODS = ["RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA", "Euler", "RK4", "RKC", "ROCK4", "auto"]
KINDS = [*(("frame", m) for m in METHODS), *((k, "DOP853") for k in ("root", "lifted", "factors", "symmetric"))]


@every_copy
@pytest.mark.parametrize(("kind", "method"), KINDS, ids=" ".join)
def test_dense_trajectories(kind, method, copied, rng):
    """They hold the interpolants and the way to W, no loss: what a loss is made of need not be picklable."""
    path = dense(kind, method, rng)
    back = copied(path)
    for t in (0.0, 0.123, 1.0):
        np.testing.assert_array_equal(back(t).to_dense(), path(t).to_dense())
    for field in fields(path):
        if field.repr:  # all but the interpolants
            assert content(getattr(back, field.name)) == content(getattr(path, field.name)), field.name


def test_the_loss_of_that_cannot_be_pickled():
    """Control."""
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickled(losses.from_function(lambda w: (w**2).sum(), shape=(5, 4)))


@every_copy
@pytest.mark.parametrize("stepper", STEPPERS)
def test_solver_classes_that_were_made_of_steppers(stepper, copied):
    cls = steppers.as_ode_solver(stepper)
    back = copied(cls)
    assert issubclass(back, steppers.ode_solver.SteppedSolver) and content(back.stepper) == content(stepper)
    assert copied(steppers.ode_solver.SteppedSolver) is steppers.ode_solver.SteppedSolver


def test_a_dense_trajectory_comes_back_from_a_process(pool, rng):
    loss, start = least_squares(5, 4, rng), lrf.random_point(5, 4, 2, rng=rng)
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(3))
    options = {"save": lrf.Save(dense=True), "method": steppers.as_ode_solver(steppers.RKC()), "rtol": 1e-4}
    there = pool.submit(workers.flow, flow, start, options).result(timeout=TIMEOUT)
    np.testing.assert_array_equal(there(0.3).to_dense(), workers.flow(flow, start, options)(0.3).to_dense())
