"""The driver: why it ends, what it keeps, and that a file holds what was computed."""

from functools import cache

import numpy as np
import pytest
from cases import DEPTHS, SOLVERS, STARTS, LogCosh, Start, least_squares
from oracles import EPS, fitted_slope

import lowrankflow as lrf
from lowrankflow import Event, Save, Status
from lowrankflow.flows import Moment
from lowrankflow.foreign import tensors_may_come

pytestmark = pytest.mark.filterwarnings("ignore:Below depth 2")  # a warning of its own, tested in test_charts


@pytest.fixture
def problem(rng):
    """A flow of depth 3 and its start."""
    w = Start(5, 4, (1.0, 0.6)).draw(rng)
    return lrf.RiemannianFlow(least_squares(5, 4, rng), lrf.DepthMetric(3)), w


class Scalar:
    """A loss of one number w, so that ends of the flow are known: give L and L'."""

    shape = (1, 1)

    def __init__(self, value, slope):
        self.of, self.slope = value, slope

    def value(self, w):
        return float(self.of(w.to_dense()[0, 0]))

    def gradient(self, w):
        return np.array([[self.slope(w.to_dense()[0, 0])]])


def scalar_start(x):
    """The 1 x 1 matrix x; its singular value is positive, so the sign sits in u."""
    return lrf.LowRankMatrix([[np.sign(x)]], [abs(x)], [[1.0]])


EMBEDDED = lrf.EmbeddedMetric()
DISSIPATED = {"dissipated": lambda at: at.power}

# ---------------------------------------------------------------------------------------------------------------------
# every status


def test_finished(problem):
    path = lrf.integrate(*problem, t_span=(0, 2))
    assert path.status is Status.FINISHED
    assert path.status.finished
    assert not path.status.converged
    assert path.t[-1] == 2.0
    path.raise_if_failed()
    assert "t=2 of 2" in path.message


def test_converged_by_gtol(problem):
    path = lrf.integrate(*problem, t_span=(0, 1e4), gtol=1e-6)
    assert path.status is Status.CONVERGED
    assert path.status.converged
    assert path.t[-1] < 1e4
    # the first step at which it holds: the last but one was above
    assert path.stationarity[-1] <= 1e-6 < path.stationarity[-2]
    w = path.points[-1]
    np.testing.assert_allclose(
        lrf.project(w, problem[0].loss.gradient(w)).norm(), path.stationarity[-1], rtol=1e-6, atol=1e-12
    )


def test_converged_at_the_start():
    loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    path = lrf.integrate(lrf.RiemannianFlow(loss, EMBEDDED), loss.minimiser(2), t_span=(0, 1), gtol=1e-8)
    assert path.status is Status.CONVERGED
    assert (path.nsteps, path.t.size) == (0, 1)


def test_converged_at_infinite_depth(rng):
    """design.md, idea 3: frames are frozen there, so stationarity is measured on the r x r block."""
    w, loss = Start(5, 4, (1.0, 0.6)).draw(rng), least_squares(5, 4, rng)
    path = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(np.inf)), w, t_span=(0, 1e3), gtol=1e-6)
    assert path.status is Status.CONVERGED


@pytest.mark.parametrize("solver", SOLVERS)
def test_event_at_the_start_of_a_step(solver):
    """What is left of a zero is roundoff, of one sign at the state and of the other on the interpolant: located there."""
    loss, calls = Scalar(lambda x: (x - 1) ** 2 / 2, lambda x: x - 1), []

    def level(t, w):
        calls.append(t)
        return 0.5 - w.s[0] + (1e-12 if len(calls) == 1 else -1e-12)

    options = {} if "step_size" in solver else {"rtol": 1e-8}
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(2))
    path = lrf.integrate(
        flow, scalar_start(0.5), t_span=(0, 2), events=Event("half", level), **solver, **options
    )  # fmt: skip
    assert path.status is Status.FINISHED
    assert len(path.events["half"]) == 1
    assert path.events["half"][0] < 1e-10


def test_an_event_that_does_not_occur_costs_nothing(problem):
    """Control: one that does needs the interpolant of its step, which DOP853 makes from three more gradients."""
    without, never, once = (
        lrf.integrate(*problem, t_span=(0, 2), events=events).nfev
        for events in ((), Event("never", lambda t, w: 1.0), Event("once", lambda t, w: t - 1.0))
    )
    assert never == without
    assert once == without + 3


@pytest.mark.parametrize("solver", SOLVERS)
def test_event_is_located(solver):
    """Depth 2, one mode: s(t) has a closed form, and so has the time at which it crosses 1/2."""
    loss = Scalar(lambda x: (x - 1) ** 2 / 2, lambda x: x - 1)
    event = Event("half", lambda t, w: w.s[0] - 0.5, terminal=True)
    options = {"rtol": 1e-8 if solver["method"] == "RK23" else 1e-10} if "step_size" not in solver else {}
    path = lrf.integrate(
        lrf.RiemannianFlow(loss, lrf.DepthMetric(2)),
        scalar_start(0.1),
        t_span=(0, 5),
        events=[event],
        **solver,
        **options,
    )
    assert path.status is Status.EVENT
    # s0 e^(2t) / (1 - s0 + s0 e^(2t)) = 1/2; the slope there is 1/2
    exact = np.log(9) / 2
    # fixed steps: h^p, twice that for Euler; RKC: rtol^(2/3) = 2e-7 and a factor for the sum of its steps
    fixed = {"Euler": 0.02, "RK4": 1e-8, "RKC": 1e-4, "ROCK4": 1e-8}
    chosen = {"BDF": 1e-6, "LSODA": 1e-6, "Radau": 1e-6, "RK23": 1e-6, "RKC": 1e-6}
    error = (fixed if "step_size" in solver else chosen).get(solver["method"], 1e-8)
    assert abs(path.events["half"][0] - exact) < error
    assert path.t[-1] == path.events["half"][0]
    # on the solution that was computed the zero itself is sharp, to the tolerance of the root finder
    assert abs(path.points[-1].s[0] - 0.5) < 1e-10
    assert "half" in path.message


def test_event_location_is_exact(problem):
    """A function of time alone has its zero where it says, to 1e-10."""
    path = lrf.integrate(*problem, t_span=(0, 2), events=[Event("pi", lambda t, w: t - np.pi / 3, terminal=True)])
    assert abs(path.t[-1] - np.pi / 3) < 1e-10
    # not terminal: the same time, and the run goes on
    path = lrf.integrate(*problem, t_span=(0, 2), events=[Event("pi", lambda t, w: t - np.pi / 3)])
    assert abs(path.events["pi"][0] - np.pi / 3) < 1e-10
    assert path.status is Status.FINISHED


@pytest.mark.parametrize(("direction", "hits"), [(0, 4), (1, 2), (-1, 2)])
def test_direction_of_an_event(problem, direction, hits):
    """cos(2 pi t) on [0, 2] falls through zero at 1/4 and 5/4 and rises at 3/4 and 7/4."""
    event = Event("wave", lambda t, w: np.cos(2 * np.pi * t), direction=direction)
    path = lrf.integrate(*problem, t_span=(0, 2), method="RK4", step_size=0.11, events=[event])
    want = {0: [0.25, 0.75, 1.25, 1.75], 1: [0.75, 1.75], -1: [0.25, 1.25]}[direction]
    assert len(path.events["wave"]) == hits
    np.testing.assert_allclose(path.events["wave"], want, rtol=0, atol=1e-10)


def test_event_that_is_zero_at_a_step(problem):
    """A zero exactly at an accepted step is a crossing too: h = 1/4 meets t = 1/2 without rounding."""
    event = Event("half", lambda t, w: t - 0.5, terminal=True)
    path = lrf.integrate(*problem, t_span=(0, 2), method="RK4", step_size=0.25, events=[event])
    assert path.events["half"] == pytest.approx([0.5], abs=1e-10)
    assert path.status is Status.EVENT


def test_event_that_is_zero_at_a_step_counts_once(problem):
    """It is the end of one step and the start of the next."""
    event = Event("half", lambda t, w: t - 0.5)
    path = lrf.integrate(*problem, t_span=(0, 2), method="RK4", step_size=0.25, events=[event])
    assert path.events["half"] == pytest.approx([0.5], abs=1e-10)


@pytest.mark.parametrize("order", [(0.1, 0.2), (0.2, 0.1)], ids=str)
def test_first_of_two_terminal_events_in_a_step_wins(problem, order):
    """Whatever the order in which they are given; the later one did not happen."""
    events = [Event(f"at {x}", lambda t, w, x=x: t - x, terminal=True) for x in order]
    path = lrf.integrate(*problem, t_span=(0, 2), method="RK4", step_size=0.25, events=events)
    assert path.status is Status.EVENT
    assert abs(path.t[-1] - 0.1) < 1e-10
    assert path.events["at 0.2"] == []
    assert "at 0.1" in path.message


def test_events_after_a_terminal_one_are_not_reported(problem):
    events = [Event("end", lambda t, w: t - 0.1, terminal=True), Event("later", lambda t, w: t - 0.2)]
    path = lrf.integrate(*problem, t_span=(0, 2), method="RK4", step_size=0.25, events=events[::-1])
    assert abs(path.t[-1] - 0.1) < 1e-10
    assert path.events["later"] == []


def test_times_after_a_terminal_event_are_not_kept(problem):
    """Though they lie in its step."""
    event = Event("end", lambda t, w: t - 0.1, terminal=True)
    save = Save(times=[0.05, 0.2], columns={"when": lambda t, w: t})
    path = lrf.integrate(*problem, t_span=(0, 2), method="RK4", step_size=0.25, events=event, save=save)
    np.testing.assert_allclose(path.t, [0, 0.05, 0.1], rtol=0, atol=1e-10)
    np.testing.assert_array_equal(path.columns["when"], path.t)


@pytest.mark.parametrize("budget", [1, 40, 400])
def test_max_evaluations(problem, budget):
    path = lrf.integrate(*problem, t_span=(0, 1e6), rtol=1e-12, max_evaluations=budget)
    assert path.status is Status.MAX_EVALUATIONS
    # it is checked between steps: one step of DOP853, its first-step search and the records of two states more
    assert budget <= path.nfev <= budget + 30
    assert path.t.size == path.nsteps + 1
    with pytest.raises(RuntimeError, match="max_evaluations"):
        path.raise_if_failed()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_rank_lost_under_the_embedded_metric(rank, rng):
    """W(0) with det < 0 in every mode, target the identity: s' = -(s + 1), so s = 0 is met at ln(1 + s_0)."""
    loss = lrf.losses.LeastSquares(np.eye(3), np.eye(3))
    q = np.linalg.qr(rng.standard_normal((3, 3)))[0][:, :rank]
    s = np.linspace(0.8, 0.4, rank)
    w = lrf.LowRankMatrix(-q, s, q.T)
    path = lrf.integrate(lrf.RiemannianFlow(loss, EMBEDDED), w, t_span=(0, 5), rtol=1e-8)
    assert path.status is Status.RANK_LOST
    assert not path.status.finished
    # a mode crosses within the last step
    assert path.t[-2] < np.log(1 + s.min()) + 1e-6
    assert path.t[-1] > np.log(1 + s.min()) - 1e-6
    with pytest.raises(RuntimeError, match="singular value"):
        path.raise_if_failed()


def test_many_small_singular_values_are_no_loss(rng):
    """det T = 10^(-8.5 * 40) underflows; its sign does not."""
    loss = lrf.losses.LeastSquares(np.eye(50), np.diag(np.linspace(1, 3, 50)))
    w = lrf.random_point(50, 50, 40, rng=rng, singular_values=np.full(40, 1e-17))
    path = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(2)), w, t_span=(0, 0.5), rtol=1e-6)
    assert path.status is Status.FINISHED


def test_rank_lost_in_two_equal_modes(rng):
    """Two singular values through zero at once leave the sign of det T as it was; the rank is lost all the same."""
    loss = lrf.losses.LeastSquares(np.eye(3), np.eye(3))
    q = np.linalg.qr(rng.standard_normal((3, 3)))[0][:, :2]
    w = lrf.LowRankMatrix(-q, [0.8, 0.8], q.T)
    path = lrf.integrate(lrf.RiemannianFlow(loss, EMBEDDED), w, t_span=(0, 5), rtol=1e-8)
    assert path.status is Status.RANK_LOST


@cache
def past_a_tiny_singular_value(depth):
    """A flow, its start, the end of time, and the trajectory in the lifted chart."""
    rng = np.random.default_rng(0)
    x = np.linalg.qr(rng.standard_normal((12, 12)))[0] * np.linspace(1, 0.5, 12)
    teacher = lrf.random_point(12, 12, 3, rng=rng, singular_values=[2.0, 1.5, 1.0])
    start = lrf.random_point(12, 12, 3, rng=rng, singular_values=[0.5, 0.4, 3e-9])
    flow, end = lrf.RiemannianFlow(lrf.losses.LeastSquares(x, teacher @ x), lrf.DepthMetric(depth)), 40 if depth == 2 else 4
    want = lrf.integrate(flow, start, t_span=(0, end), chart=lrf.Lifted(), rtol=1e-10, save=lrf.Save(steps=False))
    return flow, start, end, want


@pytest.mark.parametrize("solver", [{"method": m} for m in ("DOP853", "RK45", "RKC", "ROCK4", "auto")], ids=str)
@pytest.mark.parametrize("depth", [2, 3])
def test_long_steps_past_a_tiny_singular_value_are_no_loss(depth, solver):
    """From s_3 = 3e-9 until it is learned, at the default tolerance: T turns, and the chord of a step meets det T = 0.

    The other road is the lifted chart, which has no T.
    """
    flow, start, end, want = past_a_tiny_singular_value(depth)
    path = lrf.integrate(flow, start, t_span=(0, end), save=lrf.Save(steps=False), **solver)
    assert path.status is Status.FINISHED
    # rtol off in T is N rtol / s_3^(1/N) off in s_3, relative: 4e-4 at depth 2, for some thirty steps while it is small
    gap = np.linalg.norm(path.points[-1].to_dense() - want.points[-1].to_dense())
    assert gap < 1e-2
    if depth == 2:  # it has been learned
        assert path.points[-1].s[-1] > 0.5


@pytest.mark.parametrize("depth", DEPTHS)
def test_depth_metrics_do_not_lose_rank(depth):
    """Control, from the same start: s reaches zero only at infinity."""
    loss = Scalar(lambda x: (x - 1) ** 2 / 2, lambda x: x - 1)
    path = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), scalar_start(-0.8), t_span=(0, 5))
    assert path.status is Status.FINISHED
    assert 0 < path.singular_values[-1, 0] < 0.2


def test_not_finite_on_the_way():
    """A gradient that turns NaN once w exceeds 1/2: the last good state is kept."""
    loss = Scalar(lambda x: -x, lambda x: -1.0 if x <= 0.5 else np.nan)
    path = lrf.integrate(lrf.RiemannianFlow(loss, EMBEDDED), scalar_start(0.1), t_span=(0, 5))
    assert path.status is Status.NOT_FINITE
    assert 0.1 < path.points[-1].s[0] <= 0.5
    assert np.isfinite(path.loss).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_at_the_start(bad):
    path = lrf.integrate(
        lrf.RiemannianFlow(Scalar(lambda x: 0.0, lambda x: bad), EMBEDDED), scalar_start(0.1), t_span=(0, 5)
    )
    assert path.status is Status.NOT_FINITE
    assert path.nsteps == 0


def test_not_finite_of_a_fixed_step(problem):
    """Euler on the factors with a step far beyond stability overflows."""
    flow, start = problem
    net = lrf.LinearNetwork.balanced(start, 3)
    path = lrf.integrate(lrf.FactorFlow(flow.loss), net, t_span=(0, 1e6), method="Euler", step_size=1e3)
    assert path.status is Status.NOT_FINITE
    assert np.isfinite(path.points[-1].to_dense()).all()


def test_step_too_small_at_a_blow_up():
    """L = -w^4 / 4: w' = w^3 blows up at t = 1/(2 w_0^2) = 1/2, finite until roundoff stops the steps."""
    path = lrf.integrate(
        lrf.RiemannianFlow(Scalar(lambda x: -(x**4) / 4, lambda x: -(x**3)), EMBEDDED), scalar_start(1.0), t_span=(0, 5)
    )
    assert path.status is Status.STEP_TOO_SMALL
    assert abs(path.t[-1] - 0.5) < 1e-5
    assert np.isfinite(path.points[-1].s).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_interrupted_keeps_what_was_computed(problem, solver):
    seen = []

    def callback(progress):
        seen.append(progress)
        if len(seen) == 3:
            raise KeyboardInterrupt

    path = lrf.integrate(*problem, t_span=(0, 50), callback=callback, save=Save(dense=True), **solver)
    assert path.status is Status.INTERRUPTED
    assert path.nsteps == 3
    assert path.t[-1] == seen[-1].t
    assert path.t.size == 4
    assert path(path.t[-1] / 2).shape == (5, 4)
    with pytest.raises(RuntimeError, match="Interrupted"):
        path.raise_if_failed()


def test_interrupted_within_a_step(rng):
    """During the loss itself: the last accepted step is kept."""
    calls = 0
    inner = least_squares(5, 4, rng)

    class Impatient:
        shape = inner.shape
        value = staticmethod(inner.value)

        def gradient(self, w):
            nonlocal calls
            calls += 1
            if calls == 60:
                raise KeyboardInterrupt
            return inner.gradient(w)

    w = Start(5, 4, (1.0, 0.6)).draw(rng)
    path = lrf.integrate(lrf.RiemannianFlow(Impatient(), lrf.DepthMetric(3)), w, t_span=(0, 50))
    assert path.status is Status.INTERRUPTED
    assert 0 < path.t[-1] < 50
    assert path.t.size == path.nsteps + 1


KEPT = {"steps": {}, "times": {"times": [0.03, 0.125, 0.2, 0.24, 0.375]}, "dense": {"dense": True}}


@pytest.mark.parametrize("save", KEPT.values(), ids=KEPT)
def test_interrupted_between_the_columns_of_a_step(save, problem):
    """Whatever of a step was kept by then, the run ends with the step before it: times, columns, interpolants."""
    for last in (3, 4, 5):
        calls = []

        def column(t, w, calls=calls, last=last):
            calls.append(t)
            if len(calls) == last:
                raise KeyboardInterrupt
            return t

        options = {"method": "RK4", "step_size": 0.125, "save": Save(columns={"when": column}, **save)}
        path = lrf.integrate(*problem, t_span=(0, 50), **options)
        assert path.status is Status.INTERRUPTED
        assert path.t[-1] == 0.125 * path.nsteps and (np.diff(path.t) > 0).all()
        np.testing.assert_array_equal(path.columns["when"], path.t)
        assert not save.get("dense") or path(path.t[-1]).shape == (5, 4)


@pytest.mark.parametrize("method", ["RK45", "DOP853", "Radau", "BDF", "LSODA", "RKC", "ROCK4", "auto"])
def test_a_velocity_that_ends_in_the_middle(method, rng):
    """Not finite beyond a norm: a status, whatever the method does with it, and what came before is kept."""

    class Ending(lrf.losses.LeastSquares):
        def gradient(self, w):
            return np.full(self.shape, np.nan) if w.norm() > 1 else super().gradient(w)

    loss = Ending(np.eye(4), np.diag([3.0, 2.0, 1.0, 0.5]))
    start = lrf.random_point(4, 4, 2, rng=rng, singular_values=[0.3, 0.2])
    path = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), start, t_span=(0, 9), method=method, rtol=1e-4)
    assert path.status in (Status.NOT_FINITE, Status.STEP_TOO_SMALL)
    assert 0 < path.t[-1] < 9
    # up to the step before, at least; LSODA goes a little beyond what it was told
    assert 0.5 < path.points[-1].norm() < 1.1
    assert path.nfev < 4000


@pytest.mark.parametrize("method", ["DOP853", "Radau"])
def test_errors_of_the_loss_itself_are_raised(method, rng):
    """Control: after a velocity that is not finite, too, what a loss raises is not taken for the end of numbers."""

    seen = []

    class Raising(lrf.losses.LeastSquares):
        def gradient(self, w):
            if w.norm() < 1.1:
                return super().gradient(w)
            seen.append(w)
            if len(seen) > 1:
                raise ValueError("mine")
            return np.full(self.shape, np.nan)

    start = lrf.random_point(4, 4, 2, rng=rng, singular_values=[0.3, 0.2])
    flow = lrf.RiemannianFlow(Raising(np.eye(4), np.diag([3.0, 2.0, 1.0, 0.5])), lrf.DepthMetric(3))
    with pytest.raises(ValueError, match=r"^mine\nThe run so far, to t=[0-9.]+, is in `trajectory` of this exception\.$"):
        lrf.integrate(flow, start, t_span=(0, 9), method=method, rtol=1e-2)


def test_every_status_is_reached_above():
    """If a status is added, it needs a test; STALLED has its own in test_solvers, BAD_STEP in test_descent_rules."""
    assert {s.name for s in Status} == {
        "CONVERGED", "FINISHED", "EVENT", "MAX_EVALUATIONS", "RANK_LOST", "NOT_FINITE", "STEP_TOO_SMALL", "INTERRUPTED",
        "STALLED", "BAD_STEP",
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# solvers, counts, progress


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_reach_the_same_end(problem, solver):
    reference = lrf.integrate(*problem, t_span=(0, 1), rtol=1e-12).points[-1].to_dense()
    options = {} if "step_size" in solver else {"rtol": 1e-6}
    path = lrf.integrate(*problem, t_span=(0, 1), **solver, **options)
    assert path.status is Status.FINISHED
    # Euler at h = 0.01: h |W''| / 2; the others accumulate some tens of steps of 1e-6
    bound = 0.05 if solver["method"] == "Euler" else 1e-4
    assert np.linalg.norm(path.points[-1].to_dense() - reference) < bound


@pytest.mark.parametrize("method", ["RK23", "RK45", "DOP853"])
def test_error_follows_rtol(problem, method):
    """The largest error over time falls with rtol, over four to six decades."""
    times = np.linspace(0, 3, 7)

    def run(rtol, method):
        path = lrf.integrate(*problem, t_span=(0, 3), rtol=rtol, method=method, save=Save(times=times))
        return np.array([w.to_dense() for w in path.points])

    reference = run(3e-14, "DOP853")
    # DOP853 outdoes loose tolerances: its window begins where it does not
    rtols = 10.0 ** -np.arange(*{"RK23": (3, 8), "RK45": (3, 10), "DOP853": (5, 12)}[method])
    errors = [np.abs(run(r, method) - reference).max() for r in rtols]
    assert 0.6 < fitted_slope(rtols, errors) < 1.4
    # and the accuracy that was asked for, accumulated over some thirty steps
    assert max(e / r for e, r in zip(errors, rtols, strict=True)) < 30


def test_a_class_of_scipy_is_a_method(problem):
    from scipy.integrate import RK45

    a = lrf.integrate(*problem, t_span=(0, 1), method=RK45)
    b = lrf.integrate(*problem, t_span=(0, 1), method="RK45")
    np.testing.assert_array_equal(a.points[-1].to_dense(), b.points[-1].to_dense())


def test_every_gradient_is_counted(rng):
    calls = 0
    inner = least_squares(5, 4, rng)

    class Counting:
        shape = inner.shape
        value = staticmethod(inner.value)

        def gradient(self, w):
            nonlocal calls
            calls += 1
            return inner.gradient(w)

    flow = lrf.RiemannianFlow(Counting(), lrf.DepthMetric(3))
    path = lrf.integrate(flow, Start(5, 4, (1.0, 0.6)).draw(rng), t_span=(0, 1), gtol=1e-9)
    # besides, the choice of the chart and `bind` try the gradient once each, to see what the loss takes; and what it gives
    assert calls - 2 - tensors_may_come() <= path.nfev <= calls


def test_callback_sees_progress(problem):
    seen = []
    path = lrf.integrate(*problem, t_span=(0, 1), gtol=1e-12, callback=seen.append)
    assert len(seen) == path.nsteps
    assert [p.t for p in seen] == path.t[1:].tolist()
    assert {p.t_end for p in seen} == {1.0}
    np.testing.assert_allclose([p.stationarity for p in seen], path.stationarity[1:], rtol=1e-12)
    assert [p.nfev for p in seen] == sorted({p.nfev for p in seen})


def test_fixed_steps_are_as_many_as_asked(problem):
    path = lrf.integrate(*problem, t_span=(0, 1), method="Euler", step_size=0.01)
    assert path.nsteps == 100
    np.testing.assert_allclose(path.t, np.arange(101) / 100, rtol=0, atol=EPS)


def test_euler_on_factors_is_gradient_descent(rng):
    """Step by step, bit for bit up to the order of additions."""
    loss = least_squares(5, 4, rng)
    net = lrf.LinearNetwork.gaussian((5, 4), 3, widths=(6, 3), rng=rng)
    path = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 0.5), method="Euler", step_size=0.05)
    factors = [f.copy() for f in net.factors]
    for w in path.points[1:]:
        gradients = lrf.factor_gradients(loss, lrf.LinearNetwork(factors))
        factors = [f - 0.05 * g for f, g in zip(factors, gradients, strict=True)]
        for got, want in zip(w.factors, factors, strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=100 * EPS)


# ---------------------------------------------------------------------------------------------------------------------
# what is kept


def test_columns_describe_the_points(problem):
    flow, w = problem
    path = lrf.integrate(flow, w, t_span=(0, 1))
    assert path.t.size == path.loss.size == path.stationarity.size == len(path.points) == len(path.singular_values)
    assert path.dissipated is None
    for value, s, norm, point in zip(path.loss, path.singular_values, path.stationarity, path.points, strict=True):
        # the same W in other brackets, and its singular values by other decompositions: numbers of order one
        np.testing.assert_allclose([value, *s], [flow.loss.value(point), *point.s], rtol=100 * EPS)
        # measured in frames that are orthonormal up to the defect
        expected = lrf.project(point, flow.loss.gradient(point)).norm()
        np.testing.assert_allclose(norm, expected, rtol=100 * EPS + 2 * path.defect)
    assert (np.diff(path.loss) < 0).all()


def test_columns_of_a_network(rng):
    loss, net = least_squares(5, 4, rng), lrf.LinearNetwork.gaussian((5, 4), 3, widths=(6, 2), rng=rng)
    path = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 1))
    assert path.singular_values.shape == (path.t.size, 2)
    for s, norm, point in zip(path.singular_values, path.stationarity, path.points, strict=True):
        np.testing.assert_allclose(s, np.linalg.svd(point.to_dense())[1][:2], rtol=0, atol=1e-13)
        gradients = lrf.factor_gradients(loss, point)
        np.testing.assert_allclose(norm, np.sqrt(sum(np.vdot(g, g) for g in gradients)), rtol=1e-12)


TIMES = [0.0, 0.3, 0.123, 1.0]


@pytest.mark.parametrize(
    ("save", "kept"),
    [
        (Save(times=TIMES), "times"),
        (Save(times=[0.5]), "times"),
        (Save(times=TIMES, steps=True), "both"),
        (Save(times=TIMES, steps=False), "times"),
        (Save(steps=False), "ends"),
        (Save(), "steps"),
        (Save(steps=True), "steps"),
    ],
    ids=str,
)
def test_save(problem, save, kept):
    path = lrf.integrate(*problem, t_span=(0, 1), save=save)
    steps = lrf.integrate(*problem, t_span=(0, 1)).t
    asked = np.array([] if save.times is None else save.times)
    want = {
        "times": [0.0, *asked, 1.0],
        "both": [*steps, *asked],
        "ends": [0.0, 1.0],
        "steps": steps,
    }[kept]
    np.testing.assert_array_equal(path.t, np.unique(want))
    # interpolated at the accuracy of the method: rtol = 1e-8, some twenty steps
    fine = lrf.integrate(*problem, t_span=(0, 1), rtol=1e-12, save=Save(dense=True))
    for t, w in zip(path.t, path.points, strict=True):
        assert np.linalg.norm(w.to_dense() - fine(t).to_dense()) < 1e-6


@pytest.mark.parametrize("method", ["DOP853", "RK45", "RKC", "ROCK4", "LSODA"])
def test_landing_costs_at_most_a_step_for_each_time(problem, method):
    """The step after a landing is as long as if there had been none; from the remainder it would have to grow again."""
    plain = lrf.integrate(*problem, t_span=(0, 3), rtol=1e-5, method=method)
    times = plain.t[2:-1:3] + 1e-5
    exact = lrf.integrate(*problem, t_span=(0, 3), rtol=1e-5, method=method, save=Save(times=times, exact=True))
    assert set(times) <= set(exact.t)
    # LSODA begins each time with a low order
    assert exact.nsteps <= plain.nsteps + (10 if method == "LSODA" else 1) * times.size


@pytest.fixture(scope="module")
def solved():
    """A flow of depth 3, its start, and a fine dense output."""
    rng = np.random.default_rng(0)
    start = Start(5, 4, (1.0, 0.6)).draw(rng)
    flow = lrf.RiemannianFlow(least_squares(5, 4, rng), lrf.DepthMetric(3))
    return flow, start, lrf.integrate(flow, start, t_span=(0, 1), rtol=1e-12, save=Save(dense=True))


@pytest.mark.parametrize("solver", SOLVERS)
def test_dense_output(solved, solver):
    """Between the steps as accurate as at them, and exact at them."""
    options = {} if "step_size" in solver else {"rtol": 1e-7}
    *problem, fine = solved
    path = lrf.integrate(*problem, t_span=(0, 1), save=Save(dense=True), **solver, **options)
    for t, w in zip(path.t, path.points, strict=True):
        np.testing.assert_allclose(path(t).to_dense(), w.to_dense(), rtol=0, atol=1e-12)
    at_steps = max(np.linalg.norm(w.to_dense() - fine(t).to_dense()) for t, w in zip(path.t, path.points, strict=True))
    middle = (path.t[1:] + path.t[:-1]) / 2
    between = max(np.linalg.norm(path(t).to_dense() - fine(t).to_dense()) for t in middle)
    # interpolants of lower order than the method (LSODA, BDF, Radau) cost up to a hundredfold at this tolerance
    assert between < 100 * max(at_steps, 1e-7)
    # control: the chord between steps is worse, except for methods with many tiny steps
    if solver["method"] == "DOP853":
        chords = [(a.to_dense() + b.to_dense()) / 2 for a, b in zip(path.points[1:], path.points[:-1], strict=True)]
        assert max(np.linalg.norm(c - fine(t).to_dense()) for c, t in zip(chords, middle, strict=True)) > 100 * between


def test_dense_output_outside_and_absent(problem):
    path = lrf.integrate(*problem, t_span=(0, 1), save=Save(dense=True))
    with pytest.raises(ValueError, match=r"`t` must lie within the run \[0, 1\], got 1.5"):
        path(1.5)
    with pytest.raises(ValueError, match=r"pass save=Save\(dense=True\)"):
        lrf.integrate(*problem, t_span=(0, 1))(0.5)


def test_dense_output_up_to_an_event(problem):
    event = Event("end", lambda t, w: t - 0.4321, terminal=True)
    path = lrf.integrate(*problem, t_span=(0, 1), events=[event], save=Save(dense=True, times=[0.2, 0.43, 0.9]))
    assert path.t.size == 4
    np.testing.assert_allclose(path.t, [0, 0.2, 0.43, 0.4321], rtol=0, atol=1e-10)
    np.testing.assert_allclose(path(path.t[-1]).to_dense(), path.points[-1].to_dense(), rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match="within the run"):
        path(0.5)


def test_start_time_need_not_be_zero(problem):
    """The flow is autonomous: the same points, shifted."""
    a = lrf.integrate(*problem, t_span=(0, 1), method="RK4", step_size=0.125)
    b = lrf.integrate(*problem, t_span=(8, 9), method="RK4", step_size=0.125, save=Save(dense=True))
    np.testing.assert_array_equal(b.t, 8 + a.t)
    np.testing.assert_array_equal(b.points[-1].to_dense(), a.points[-1].to_dense())
    np.testing.assert_array_equal(b(8.0).to_dense(), b.points[0].to_dense())


def test_integrating_leaves_the_start_alone(problem):
    flow, w = problem
    kept = [a.copy() for a in (w.u, w.s, w.vt)]
    lrf.integrate(flow, w, t_span=(0, 1))
    for a, b in zip((w.u, w.s, w.vt), kept, strict=True):
        np.testing.assert_array_equal(a, b)


# ---------------------------------------------------------------------------------------------------------------------
# dissipation as a state (claim 7)


def test_dissipation_of_the_factor_flow(rng):
    """Unbalanced factors: q' = sum_j |W_j'|^2; to the very end, where the instantaneous form would cancel."""
    loss, net = least_squares(5, 4, rng), lrf.LinearNetwork.gaussian((5, 4), 3, widths=(6, 3), rng=rng)
    path = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 20), rtol=1e-10, save=Save(integrals=DISSIPATED))
    np.testing.assert_allclose(path.dissipated, path.loss[0] - path.loss, rtol=0, atol=1e-8 * path.loss[0])


def test_dissipation_does_not_change_the_path(problem):
    a = lrf.integrate(*problem, t_span=(0, 1), rtol=1e-10, save=Save(integrals=DISSIPATED))
    b = lrf.integrate(*problem, t_span=(0, 1), rtol=1e-10)
    assert np.linalg.norm(a.points[-1].to_dense() - b.points[-1].to_dense()) < 1e-8


# ---------------------------------------------------------------------------------------------------------------------
# repair


class Circle:
    """A chart of a user: W = (cos, sin) on the unit circle by Cartesian coordinates, where RK23 drifts outward."""

    def bind(self, flow, start):
        return self

    y0 = np.array([1.0, 0.0])

    def velocity(self, t, y):
        return np.array([-y[1], y[0]])

    def point(self, y):
        return lrf.LowRankMatrix((y / np.linalg.norm(y))[:, None], [np.linalg.norm(y)], [[1.0]])

    def measure(self, y):
        return Moment(1.0, 1.0, 1.0, self.point(y).s)

    def defect(self, y):
        return abs(np.linalg.norm(y) - 1)

    def repair(self, y):
        return y / np.linalg.norm(y)

    def tolerances(self, y, rtol, atol):
        return rtol, rtol * np.ones(2)

    def rank_lost(self, before, after):
        return False


def test_a_chart_that_measures_w_too_still_works():
    """As charts of users did before: (W, Moment), with a warning."""

    class Former(Circle):
        def measure(self, y):
            return self.point(y), super().measure(y)

    flow = lrf.RiemannianFlow(lrf.losses.LeastSquares(np.eye(1), np.ones((2, 1))), EMBEDDED)
    start = lrf.LowRankMatrix([[1.0], [0.0]], [1.0], [[1.0]])
    with pytest.warns(DeprecationWarning, match="returns a Moment alone"):
        path = lrf.integrate(flow, start, t_span=(0, 1), chart=Former())
    assert path.loss.tolist() == lrf.integrate(flow, start, t_span=(0, 1), chart=Circle()).loss.tolist()


def test_drift_is_repaired_only_when_large():
    """Above 10 rtol the state is repaired and the solver restarted; the largest defect stays near that."""
    flow = lrf.RiemannianFlow(lrf.losses.LeastSquares(np.eye(1), np.ones((2, 1))), EMBEDDED)
    start = lrf.LowRankMatrix([[1.0], [0.0]], [1.0], [[1.0]])

    def run(chart):
        return lrf.integrate(flow, start, t_span=(0, 60), rtol=1e-4, method="RK23", chart=chart, save=Save(dense=True))

    path = run(Circle())
    assert path.status is Status.FINISHED
    assert 0 < path.restarts < path.nsteps / 3
    # the step that crosses the threshold adds no more than its own error, a few rtol
    assert 10 < path.defect / 1e-4 < 15
    # the dense output was taken before each repair: it is continuous up to the repairs, 10 rtol each
    angle = np.linspace(0, 60, 50)
    size = [path(t).s[0] for t in angle]
    assert np.abs(np.array(size) - 1).max() < 2e-3

    class Careless(Circle):
        def repair(self, y):
            return y

    drifted = run(Careless())
    assert drifted.restarts == 0  # control: no repair, no restart, and the drift goes on
    assert drifted.defect > 2 * path.defect


@pytest.mark.parametrize("case", STARTS)
def test_frames_hardly_drift(case, rng):
    """Quadratic invariants are kept to the tolerance, so a restart is rare: none here."""
    flow = lrf.RiemannianFlow(least_squares(case.m, case.n, rng), lrf.DepthMetric(3))
    path = lrf.integrate(flow, case.draw(rng), t_span=(0, 5), rtol=1e-8)
    assert path.defect < 1e-7
    assert path.restarts == 0


# ---------------------------------------------------------------------------------------------------------------------
# files


def trajectories(rng):
    w, loss = Start(5, 4, (1.0, 0.6)).draw(rng), least_squares(5, 4, rng)
    net = lrf.LinearNetwork.gaussian((5, 4), 12, widths=3, rng=rng)  # more than nine factors: their order by number
    event = Event("half", lambda t, w: t - 0.05)
    return {
        "riemannian": lrf.integrate(
            lrf.RiemannianFlow(loss, lrf.DepthMetric(2)),
            w,
            t_span=(0, 0.1),
            events=[event],
            save=Save(integrals=DISSIPATED),
        ),
        "factors": lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 0.1)),
    }


@pytest.mark.parametrize("kind", ["riemannian", "factors"])
def test_round_trip(kind, rng, tmp_path):
    path = trajectories(rng)[kind]
    path.save(tmp_path / "p.npz")
    back = lrf.Trajectory.load(tmp_path / "p.npz")
    for name in ("t", "loss", "singular_values", "stationarity"):
        np.testing.assert_array_equal(getattr(back, name), getattr(path, name))
    for name in ("status", "message", "nfev", "nsteps", "restarts", "defect", "events"):
        assert getattr(back, name) == getattr(path, name)
    for a, b in zip(back.points, path.points, strict=True):
        assert type(a) is type(b)
        np.testing.assert_array_equal(a.to_dense(), b.to_dense())
    if kind == "riemannian":
        np.testing.assert_array_equal(back.dissipated, path.dissipated)
        assert len(back.events["half"]) == 1
    else:
        assert back.dissipated is None
        assert back.points[0].depth == 12
    assert [f.name for f in tmp_path.iterdir()] == ["p.npz"]
    with pytest.raises(ValueError, match="Dense output has not been saved"):
        back(0.05)


@pytest.mark.parametrize("damage", ["cut", "flip", "text", "empty", "missing", "other"])
def test_damaged_files_are_refused(problem, tmp_path, damage):
    file = tmp_path / "p.npz"
    lrf.integrate(*problem, t_span=(0, 1)).save(file)
    raw = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(raw[: len(raw) // 2])
    elif damage == "flip":  # inside the first array: its checksum fails
        raw[200] ^= 0xFF
        file.write_bytes(raw)
    elif damage == "text":
        file.write_text("not a trajectory")
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "missing":
        file.unlink()
    else:
        np.savez(file, a=np.ones(3))
    with pytest.raises(ValueError, match="`path` must"):
        lrf.Trajectory.load(file)


def test_saving_is_atomic(problem, tmp_path, monkeypatch):
    """A crash while writing leaves the old file, and nothing else."""
    file = tmp_path / "p.npz"
    path = lrf.integrate(*problem, t_span=(0, 1))
    path.save(file)
    old = file.read_bytes()

    def crash(handle, **arrays):
        handle.write(b"half a file")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", crash)
    with pytest.raises(OSError, match="disk full"):
        path.save(file)
    assert file.read_bytes() == old
    assert [f.name for f in tmp_path.iterdir()] == ["p.npz"]


def test_user_losses_flow_too(rng):
    """Any object with shape, value, gradient."""
    loss = LogCosh(rng.standard_normal((5, 4)))
    path = lrf.integrate(
        lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), Start(5, 4, (1.0, 0.6)).draw(rng), t_span=(0, 200), gtol=1e-6
    )
    assert path.status is Status.CONVERGED


@pytest.mark.parametrize("method", ["Euler", "RK4"])
@pytest.mark.parametrize("side", ["factors", "frame", "lifted"])
def test_a_blow_up_with_a_fixed_step_is_a_status_and_keeps_a_finite_state(method, side, problem):
    """Ascent: every chart blows up in finite time, also where only the product overflows."""
    _, start = problem

    class Uphill(lrf.losses.LeastSquares):
        def gradient(self, w):
            return -1.0 * super().gradient(w).to_dense()

    loss = Uphill(np.eye(start.shape[1]), np.zeros(start.shape))
    net = lrf.LinearNetwork.balanced(start, 3)
    what, chart = {
        "factors": ((lrf.FactorFlow(loss), net), lrf.Factors()),
        "frame": ((lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), start), lrf.SingularFrame()),
        "lifted": ((lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), start), lrf.Lifted()),
    }[side]
    path = lrf.integrate(*what, t_span=(0, 1e4), chart=chart, method=method, step_size=0.5)
    assert path.status is lrf.Status.NOT_FINITE
    assert np.isfinite(path.loss).all() and all(np.isfinite(w.to_dense()).all() for w in path.points)


@pytest.mark.parametrize(
    "function",
    [lambda t, w: t > 0.2, lambda t, w: np.bool_(t > 0.2), lambda t, w: np.inf if t > 0.2 else -1.0,
     lambda t, w: 1.0 if t > 0.2 else -np.inf],
    ids=["bool", "numpy bool", "to inf", "from -inf"],
)  # fmt: skip
def test_an_event_that_jumps_is_located(problem, function):
    path = lrf.integrate(*problem, t_span=(0, 1), events=lrf.Event("jump", function, terminal=True))
    assert path.status is lrf.Status.EVENT and path.events["jump"] == pytest.approx([0.2], abs=1e-10)


@pytest.mark.parametrize("function", [
    lambda t, w: np.nan if t > 0.2 else -1.0,
    lambda t, w: np.nan if 0.2 < t < 0.5 and t not in ENDS else t - 0.3,  # a number at the ends of steps alone
], ids=["from then on", "within a step"])  # fmt: skip
def test_an_event_that_becomes_nan_ends_the_run(problem, function):
    ENDS.update(lrf.integrate(*problem, t_span=(0, 1)).t.tolist())
    path = lrf.integrate(*problem, t_span=(0, 1), events=lrf.Event("odd", function))
    assert path.status is lrf.Status.NOT_FINITE and "Event 'odd' returned nan" in path.message
    assert np.isfinite(path.loss).all()


ENDS = set()


def test_an_event_that_is_nan_at_the_start_is_refused(problem):
    with pytest.raises(ValueError, match=r"`function` of event 'odd' must return a number, got nan"):
        lrf.integrate(*problem, t_span=(0, 1), events=lrf.Event("odd", lambda t, w: np.nan))


@pytest.mark.parametrize("gtol", [0.0, 1e-6])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_has_no_value_any_more_ends_the_run(problem, gtol, bad):
    flow, start = problem

    class Ends:  # its gradient stays finite
        shape = start.shape

        def value(self, w):
            return flow.loss.value(w) if flow.loss.value(w) > half else bad

        def gradient(self, w):
            return flow.loss.gradient(w)

    half = 0.5 * flow.loss.value(start) + 0.5 * lrf.integrate(flow, start, t_span=(0, 20)).loss[-1]
    path = lrf.integrate(lrf.RiemannianFlow(Ends(), flow.metric), start, t_span=(0, 20), gtol=gtol)
    assert path.status is lrf.Status.NOT_FINITE and "The loss was" in path.message
    assert np.isfinite(path.loss[:-1]).all() and path.t[-1] < 20


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: lrf.Event("e", lambda t, w: t, direction=7), ValueError, "`direction` must be -1, 0 or 1, got int 7."),
        (lambda: lrf.Event("e", 3), TypeError, "`function` must be callable, got int 3."),
        (lambda: lrf.Event("", len), TypeError, "`name` must be a non-empty string, got ''."),
    ],
)
def test_bad_events(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "options, error, message",
    [
        (dict(save=True), TypeError, "`save` must be a Save, got bool True. Use Save(times=...)."),
        (dict(chart=lrf.Lifted), TypeError, "`chart` must be a chart such as SingularFrame(), got "),
        (dict(events=[lrf.Event("a", len), lrf.Event("a", len)]), ValueError, "`events` must have names of their own"),
        (dict(callback=3), TypeError, "`callback` must be callable"),
    ],
    ids=["save", "chart", "events", "callback"],
)
def test_bad_options(options, error, message, problem):
    with pytest.raises(error) as caught:
        lrf.integrate(*problem, t_span=(0, 1), **options)
    assert str(caught.value).startswith(message)


def test_a_loss_is_not_a_flow(problem):
    flow, start = problem
    with pytest.raises(TypeError, match=r"^`flow` must be a RiemannianFlow or a FactorFlow, got LeastSquares\.$"):
        lrf.integrate(flow.loss, start, t_span=(0, 1))
