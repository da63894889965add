"""The order of every stepper in every chart against a table; defects, agreement of all pairs, large depths.

An order is the slope of the error of W at the end over five halvings of a fixed step, in a window fixed below. Where
the table expects clearly less than the stepper's own order, less is what has to be seen: these are the controls.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pytest
from cases import STARTS, Start, covering, least_squares
from oracles import EPS, fitted_slope

import lowrankflow as lrf
from lowrankflow.steppers import RK4

# ---------------------------------------------------------------------------------------------------------------------
# problems, charts and windows

STEPPERS = {"Euler": 1, "RK4": 4, "RKC": 2, "ROCK4": 4}
CHARTS = {
    "own": lrf.SingularFrame(),  # root N; 1 at infinite depth
    "root1": lrf.SingularFrame(root=1),
    "root2.5": lrf.SingularFrame(root=2.5),
    "root10": lrf.SingularFrame(root=10),
    "lifted": lrf.Lifted(),
    "polynomial": lrf.charts.Polynomial(),
    "factors": lrf.Factors(),
}
SHAPES = {case.id: case.values[0] for case in STARTS} | {
    "ordinary": Start(6, 5, (1.0, 0.6, 0.3)),
    "tiny": Start(6, 5, (1.0, 0.5, 3e-9)),
    "tiny repeated": Start(6, 5, (0.7, 0.7, 3e-9)),
    "tiny pair": Start(6, 5, (1.0, 3e-9, 3e-9)),
}
#: five halvings. The fine one is for singular values of 3e-9: at even depths T' is only Lipschitz where det T = 0, and
#: steps of T/8 may carry T across. It is also for large depths, where the frame of root N turns fast.
COARSE = 2.0 ** np.arange(2, 8)
FINE = 12 * 2.0 ** np.arange(6)


@lru_cache
def problem(name):
    """Return the start and the loss of a name."""
    rng = np.random.default_rng(2)
    if name in ("crossing", "avoided", "tiny crossing"):
        # diagonal: a mode from 1 to 0.3, another from 0.5 to 1.5; data slightly off the diagonal let them avoid each other
        rank = 3 if name == "tiny crossing" else 2
        w = lrf.LowRankMatrix(np.eye(4)[:, :rank], np.array([1.0, 0.5, 3e-9])[:rank], np.eye(3)[:rank])
        targets = np.vstack([np.diag([0.3, 1.5, 0.8 * (rank > 2)]), np.zeros((1, 3))])
        noise = 0.02 * rng.standard_normal(targets.shape) if name == "avoided" else 0.0
        return w, lrf.losses.LeastSquares(np.eye(3), targets + noise)
    case = SHAPES[name]
    return case.draw(rng), least_squares(case.m, case.n, rng)


def end_time(name, depth):
    """Time on the scale of the flow, 1 / N; twice that for modes to cross."""
    return (2.0 if name in ("crossing", "avoided", "tiny crossing") else 1.0) / (1.0 if np.isinf(depth) else depth)


class GoingOn:
    """A chart whose rank is never called lost, so that runs across det T = 0 have an order too; it counts them."""

    def __init__(self, chart):
        self.chart, self.lost = chart, 0

    def bind(self, flow, start):
        system = self.chart.bind(flow, start)
        rank_lost, seen = system.rank_lost, []

        def watched(before, after):
            if rank_lost(before, after) and not seen:
                seen.append(True)
                self.lost += 1
            return False

        system.rank_lost = watched
        return system


def flow_and_start(name, depth, chart):
    """Return what `integrate` takes; the factors get hidden layers wider than the rank but at depth 2, a saddle there."""
    w, loss = problem(name)
    if not isinstance(chart, lrf.Factors):
        return lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), w
    widths = None if depth == 2 else w.rank + 1
    return lrf.FactorFlow(loss), lrf.LinearNetwork.balanced(w, depth, widths=widths, rng=np.random.default_rng(3))


def run(name, depth, chart, **options):
    flow, start = flow_and_start(name, depth, getattr(chart, "chart", chart))
    span = (0, end_time(name, depth))
    return lrf.integrate(flow, start, t_span=span, chart=chart, save=lrf.Save(steps=False), **options)


@lru_cache
def reference(name, depth, factors):
    """Return W at the end by DOP853 at rtol 3e-14 in another chart: a frame for factors, factors for frames.

    Real, large and infinite depths have none: there it is the frame of root 4, which is not under test.
    """
    other = lrf.SingularFrame() if factors else lrf.Lifted() if depth in (2, 3, 5) else lrf.SingularFrame(root=4)
    path = run(name, depth, other, rtol=3e-14)
    assert path.status is lrf.Status.FINISHED, path.message
    return path.points[-1].to_dense()


class Measured(NamedTuple):
    order: float
    errors: list
    lost: int  #: the number of runs that crossed det T = 0


def measure(name, depth, chart, stepper, steps):
    want, watched = reference(name, depth, chart in ("lifted", "factors")), GoingOn(CHARTS[chart])
    h = end_time(name, depth) / steps
    ends = [run(name, depth, watched, method=stepper, step_size=x).points[-1] for x in h]
    errors = [float(np.linalg.norm(w.to_dense() - want)) for w in ends]
    return Measured(fitted_slope(h, errors), errors, watched.lost)


# ---------------------------------------------------------------------------------------------------------------------
# the table of expected orders

LIPSCHITZ = "root 1 at depth 2: T' contains |T|, at s_r = 0 Lipschitz and no more; every step moves T by more than s_r"
HOLDER = "root 1: T' is Hölder in s_r with exponent 2/N, and a step that moves T by more than s_r sees nothing else"
LOGARITHMIC = "root 1 at infinite depth: T' contains 1 / log(s_i / s_r), which has no Hölder exponent at all"
#: everywhere but here: the stepper's own order, as the velocity is smooth on the scale of the steps.
#: (chart, start, depth): orders of (Euler, RK4, RKC, ROCK4), and the reason. They are those of the window; finer steps
#: resolve the layer one after the other.
REDUCED = {
    ("root1", "tiny", 2): ((1.0, 1.9, 1.8, 1.0), LIPSCHITZ),
    ("root1", "tiny", 2.5): ((1.0, 1.8, 2.0, 1.8), HOLDER),
    ("root1", "tiny", 2.7): ((1.0, 1.7, 2.0, 1.8), HOLDER),
    ("root1", "tiny", 3): ((1.0, 1.6, 2.0, 1.6), HOLDER),
    ("root1", "tiny", 3.5): ((1.0, 1.4, 1.8, 1.5), HOLDER),
    ("root1", "tiny", 5): ((1.0, 1.0, 1.4, 1.4), HOLDER),
    ("root1", "tiny", np.inf): ((1.0, 1.6, 1.3, 2.3), LOGARITHMIC),
}
SLACK = 0.15  # of a slope fitted over five halvings


def expected(chart, name, depth, stepper):
    """Return the order to expect, and why."""
    orders, why = REDUCED.get((chart, name, depth), (tuple(STEPPERS.values()), "smooth"))
    return orders[list(STEPPERS).index(stepper)], why


def steps_of(chart, name, depth):
    """Return the window: fine or coarse as said above, coarse where the order of unresolved steps is meant."""
    smooth = (chart, name, depth) not in REDUCED
    return FINE if smooth and (name.startswith("tiny") or depth > 5) else COARSE


ALL = ("own", "root1", "root2.5", "lifted", "factors")
TABLE = [
    *[(c, "ordinary", d) for d in (2, 3, 5) for c in ALL],
    *[(c, "ordinary", 2.7) for c in ALL[:3]],
    *[(c, "ordinary", d) for d in (50, 200, np.inf) for c in ("own", "root10")],
    *[(c, "tiny", d) for d in (2, 3, 5) for c in ALL[:4]],
    *[(c, "tiny", d) for d in (2.5, 2.7, 3.5) for c in ALL[:2]],
    *[(c, f"tiny {k}", d) for k in ("repeated", "pair", "crossing") for d in (2, 3, 5) for c in ("own", "lifted")],
    *[("polynomial", k, d) for k in ("ordinary", "tiny") for d in (2, 3, 4, 5, 9)],
    *[("polynomial", f"tiny {k}", d) for k in ("repeated", "pair", "crossing") for d in (2, 3, 4)],
    *[("own", "tiny", 200), ("root1", "tiny", np.inf), ("root10", "tiny", np.inf)],
    *[(c, name, 3) for name in ("rank1", "square", "wide", "tall", "repeated") for c in ("own", "root1", "lifted")],
    *[(c, name, d) for name in ("crossing", "avoided") for c, d in [("own", 2), ("root1", 2), *[(c, 3) for c in ALL]]],
]


def with_steppers(rows):
    return [(*row, stepper) for row in rows for stepper in STEPPERS]


#: each number of the table above; of the smooth rows, any two of chart, start, depth and stepper
ORDERS = [*with_steppers(REDUCED), *covering(with_steppers(row for row in TABLE if row not in REDUCED))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chart", "name", "depth", "stepper"),
    [pytest.param(*row, id=f"{row[1]}-{row[2]:g}-{row[0]}-{row[3]}") for row in ORDERS],
)
def test_order(chart, name, depth, stepper):
    """At least the expected order; more is no fault."""
    order, why = expected(chart, name, depth, stepper)
    got = measure(name, depth, chart, stepper, steps_of(chart, name, depth))
    assert got.order > order - SLACK, f"order {got.order:.2f}, expected {order:g} ({why}): {got}"
    if (chart, name, depth) not in REDUCED:
        # only runs less accurate than the smallest singular value of T can cross det T = 0
        least = float(problem(name)[0].s.min()) ** (1 / depth)
        assert got.lost <= sum(error > least for error in got.errors)
    elif order <= STEPPERS[stepper] - 0.5:  # the control: the bound for the stepper's own order is broken
        assert got.order < STEPPERS[stepper] - SLACK, f"order {got.order:.2f} in spite of: {why}"


@pytest.mark.parametrize("chart", ["own", "lifted", "factors"])
def test_a_careless_stepper_is_caught(chart):
    """Control: RK4 with equal weights has order 2, in every chart."""
    assert 2 - SLACK < measure("ordinary", 3, chart, Careless(), COARSE).order < 2 + SLACK


class Careless(RK4):
    """RK4 whose four slopes have equal weights."""

    def step(self, f, t, y, h, state):
        stages, at = [f(t, y)], (0.5, 0.5, 1.0)
        for c in at:
            stages.append(f(t + c * h, y + c * h * stages[-1]))
        new = y + h * sum(stages) / 4
        return new, None, (y, stages[0], new, f(t + h, new), np.asarray(h))


@pytest.mark.parametrize("name", ["crossing", "avoided"])
def test_what_the_names_promise(name):
    """The second mode overtakes the first; the singular values meet, or stay apart by the coupling of the modes."""
    w, loss = problem(name)
    times = np.linspace(0, end_time(name, 3), 1001)
    path = lrf.integrate(
        lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), w, t_span=(0, times[-1]), save=lrf.Save(times=times)
    )
    modes = np.array([np.diag(x.to_dense())[:2] for x in path.points])
    assert modes[0, 0] > modes[0, 1]
    assert modes[-1, 0] < modes[-1, 1]
    nearest = np.ptp(path.singular_values, axis=1).min()
    # values that cross come as near as half a step times the difference of their speeds, below one each
    assert (nearest < times[1]) == (name == "crossing"), nearest


def test_unbalanced_factors_keep_the_order_too(rng):
    """No theorem needed: their own flow, against itself by DOP853."""
    net = lrf.LinearNetwork.gaussian((6, 5), 3, widths=(4, 3), rng=rng)
    flow, h = lrf.FactorFlow(least_squares(6, 5, rng)), 0.3 / COARSE

    def last(**options):
        return lrf.integrate(flow, net, t_span=(0, 0.3), save=lrf.Save(steps=False), **options).points[-1].to_dense()

    want = last(rtol=3e-14)
    for stepper, order in STEPPERS.items():
        errors = [np.linalg.norm(last(method=stepper, step_size=x) - want) for x in h]
        assert fitted_slope(h, errors) > order - SLACK, stepper


# ---------------------------------------------------------------------------------------------------------------------
# defects: what the flow conserves and the steps do not


@pytest.mark.parametrize("stepper", STEPPERS)
@pytest.mark.parametrize("chart", ["own", "root1", "root2.5", "lifted", "factors"])
def test_defect_has_the_order_of_the_stepper(chart, stepper):
    """Orthonormal frames and balanced factors are quadratic invariants: off by O(h^p) after a time of order one."""
    h = end_time("ordinary", 3) / COARSE
    defects = [run("ordinary", 3, CHARTS[chart], method=stepper, step_size=x).defect for x in h]
    assert fitted_slope(h, defects) > STEPPERS[stepper] - SLACK
    if stepper == "RK4":  # the control
        careless = [run("ordinary", 3, CHARTS[chart], method=Careless(), step_size=x).defect for x in h]
        assert fitted_slope(h, careless) < 2 + 2 * SLACK


def largest(a, b):
    """Return the largest gap over time."""
    return np.linalg.norm(a - b, axis=(1, 2)).max()


class Unrepaired:
    """A chart whose states are left as they are."""

    def __init__(self, chart):
        self.chart = chart

    def bind(self, flow, start):
        system = self.chart.bind(flow, start)
        system.repair = lambda y: y
        return system


@pytest.mark.parametrize("chart", ["own", "root1", "lifted"])
def test_repair_by_restart(chart):
    """RKC over a long time drifts beyond 10 rtol. Repaired, the defect stays there and W is as near as without."""
    w, loss = problem("ordinary")
    flow, times, rtol = lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), np.linspace(0, 12, 9), 1e-6

    def go(chart, method="RKC", rtol=rtol):
        save = lrf.Save(times=times, exact=True)
        path = lrf.integrate(flow, w, t_span=(0, times[-1]), rtol=rtol, chart=chart, method=method, save=save)
        assert path.status is lrf.Status.FINISHED, path.message
        return path, np.array([x.to_dense() for x in path.points])

    (repaired, a), (left, b) = go(CHARTS[chart]), go(Unrepaired(CHARTS[chart]))
    assert repaired.restarts > 0
    assert left.restarts == 0
    # repaired after the step that went beyond: one step more than 10 rtol, and a step adds less than rtol
    assert 10 * rtol < repaired.defect < 11 * rtol < left.defect
    want = go(lrf.SingularFrame(root=4), "DOP853", 3e-14)[1]
    assert largest(a, want) < 3 * largest(b, want)
    assert largest(b, want) < 3 * largest(a, want)
    assert largest(a, b) > 0  # they are two runs


# ---------------------------------------------------------------------------------------------------------------------
# all pairs agree

TIMES = np.linspace(0, 1 / 3, 4)
METHODS = ["RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA", "RKC", "ROCK4", "auto", "Euler", "RK4"]


def trajectory(chart, method, fine=False, depth=3):
    """Return W at the times and its roundoff; the finer run has rtol / 100, or a tenth of the fixed step."""
    flow, start = flow_and_start("ordinary", depth, CHARTS[chart])
    accuracy = {"rtol": 1e-8 if fine else 1e-6}
    if method in ("Euler", "RK4"):
        accuracy = {"step_size": TIMES[1] / (100 if fine else 10)}
    path = lrf.integrate(
        flow, start, t_span=(0, TIMES[-1]), chart=CHARTS[chart], method=method,
        save=lrf.Save(times=TIMES, exact=True), **accuracy,
    )  # fmt: skip
    assert path.status is lrf.Status.FINISHED, path.message
    dense = np.array([w.to_dense() for w in path.points])
    return dense, 100 * EPS * np.linalg.norm(dense, axis=(1, 2)).max() * np.sqrt(path.nfev)


@lru_cache
def common():
    """Return the flow in the frame of root 4, by DOP853 at rtol 3e-14."""
    flow, start = flow_and_start("ordinary", 3, lrf.SingularFrame())
    path = lrf.integrate(
        flow, start, t_span=(0, TIMES[-1]), chart=lrf.SingularFrame(root=4), rtol=3e-14,
        save=lrf.Save(times=TIMES, exact=True),
    )  # fmt: skip
    return np.array([w.to_dense() for w in path.points])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chart", ALL)
def test_all_pairs_agree(chart, method):
    """Within 3 e of one trajectory each, hence within 3 (e_a + e_b) of each other: chart and solver do not matter."""
    got, roundoff = trajectory(chart, method)
    error = largest(got, trajectory(chart, method, fine=True)[0]) + roundoff
    assert largest(got, common()) < 3 * error
    if method in ("DOP853", "ROCK4"):  # control: another depth
        depth = 4 if chart in ("lifted", "factors") else 3.01
        assert largest(trajectory(chart, method, depth=depth)[0], common()) > 30 * error


# ---------------------------------------------------------------------------------------------------------------------
# large depths


@lru_cache
def gradients(depth, root, method, rtol, time=None):
    """Return the number of gradients of a run over the time 100 / N, or `time`."""
    w, loss = problem("ordinary")
    end = 100 / (1.0 if np.isinf(depth) else depth) if time is None else time
    path = lrf.integrate(
        lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), w, t_span=(0, end), rtol=rtol, method=method,
        chart=lrf.SingularFrame(root=root), save=lrf.Save(steps=False),
    )  # fmt: skip
    assert path.status is lrf.Status.FINISHED, path.message
    return path.nfev


@pytest.mark.parametrize(("method", "rtol"), [("DOP853", 1e-6), ("RKC", 1e-4), ("ROCK4", 1e-6)])
@pytest.mark.parametrize("depth", [50, 200, 1000, np.inf])
def test_gradients_do_not_grow_with_the_depth(depth, method, rtol):
    """Over the same time in units of 1 / N and in the frame of root 10: within a tenth of those at depth 20."""
    few = gradients(20, 10, method, rtol)
    assert gradients(depth, 10, method, rtol) < 1.1 * few
    if depth == 200:  # controls: time not scaled; and root N, where T turns at rates up to N^(1/2) times the flow's own
        assert gradients(depth, 10, method, rtol, time=3.0) > 1.5 * few
        assert gradients(1000, 1000, method, rtol) > 2 * gradients(20, 20, method, rtol)


@pytest.mark.parametrize("stepper", STEPPERS)
def test_infinite_depth_freezes_the_frames(stepper):
    """Row and column spaces are not integrated at all: roundoff, whatever the steps. At depth 200 they turn."""

    def left(depth):
        w, end = problem("ordinary")[0], run("ordinary", depth, None, method=stepper, step_size=end_time("", depth) / 8)
        u, vt = end.points[-1].u, end.points[-1].vt
        moved = np.linalg.norm(end.points[-1].to_dense() - w.to_dense())
        return moved, max(np.linalg.norm(u - w.u @ (w.u.T @ u)), np.linalg.norm(vt - vt @ w.vt.T @ w.vt))

    moved, turned = left(np.inf)
    assert moved > 0.05
    assert turned < 100 * EPS
    assert left(200)[1] > 1e-4  # control: turns of about 1 / N
