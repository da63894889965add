"""Integrals and columns along a path: any rate, any function of (t, W), in every chart, method and file."""

import json
import warnings
from time import perf_counter

import numpy as np
import pytest
from cases import METRICS, SOLVERS, STARTS, TAME_STARTS, Start, completion, every_value, least_squares
from oracles import EPS
from scipy.integrate import quad
from test_flow import Circle

import lowrankflow as lrf
from lowrankflow import Save
from lowrankflow.flow.integrals import Accumulating
from lowrankflow.foreign import tensors_may_come

pytestmark = pytest.mark.filterwarnings("ignore:Below depth 2")


def length(at):
    """The speed of W."""
    return at.velocity.norm()


def power(at):
    return at.power


@pytest.fixture
def problem(rng):
    """A flow of depth 3 and its start."""
    w = Start(5, 4, (1.0, 0.6)).draw(rng)
    return lrf.RiemannianFlow(least_squares(5, 4, rng), lrf.DepthMetric(3)), w


# ---------------------------------------------------------------------------------------------------------------------
# integrals


@pytest.fixture(scope="module")
def integrated():
    """A flow of depth 3, its start, and by time the integrals of the time, of a function of W and of the speed."""
    rng = np.random.default_rng(0)
    start = Start(5, 4, (1.0, 0.6)).draw(rng)
    flow = lrf.RiemannianFlow(least_squares(5, 4, rng), lrf.DepthMetric(3))
    fine = lrf.integrate(flow, start, t_span=(0, 1), rtol=1e-12, save=Save(dense=True))

    def speed(t):
        w = fine(t)
        return lrf.riemannian_gradient(w, flow.loss.gradient(w), flow.metric).norm()

    want = {
        t: {"t2": t**2 / 2, "norm": quad(lambda x: fine(x).norm(), 0, t)[0], "length": quad(speed, 0, t)[0]}
        for t in (0.4, 1.0)
    }
    return flow, start, want


@pytest.mark.parametrize("controlled", [True, False], ids=["controlled", "free"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_integrals_under_every_method(solver, controlled, integrated):
    """Against quadrature along a fine path."""
    flow, start, want = integrated
    options = {} if "step_size" in solver else {"rtol": 1e-6}
    rates = {"t2": lambda at: at.t, "norm": lambda at: at.w.norm(), "length": length}
    save = Save(times=[*want], exact=True, integrals=rates, controlled=controlled)
    path = lrf.integrate(flow, start, t_span=(0, 1), save=save, **solver, **options)
    # the methods' own errors, see test_event_is_located; Euler's is h times the change of a rate of order one
    bound = {"Euler": 0.05, "RKC": 1e-3}.get(solver["method"], 2e-4)
    for i, (t, integrals) in enumerate(want.items(), start=1):
        assert path.t[i] == t
        for name, value in integrals.items():
            assert abs(path.columns[name][i] - value) < bound * max(1.0, value), name
            assert abs(path.columns[name][i] - 1.2 * value) > bound * value  # control
    assert [a[0] for a in path.columns.values()] == [0, 0, 0]


@pytest.mark.parametrize("controlled", [True, False], ids=["controlled", "free"])
@every_value(metric=METRICS, case=STARTS)
def test_the_power_is_the_loss_that_was_spent(metric, case, controlled, rng):
    """q' = g(W', W'): L(0) - L(t) = q(t) for every metric, near targets. Free integrals are as good as the path."""
    w, x = case.draw(rng), rng.standard_normal((case.n, 2 * case.n))
    z = rng.standard_normal(w.shape)
    loss = lrf.losses.LeastSquares(x, (w.to_dense() + 0.2 * z / np.linalg.norm(z)) @ x)
    if min(case.s) < 1e-8 and not isinstance(metric, lrf.DepthMetric):
        w = Start(case.m, case.n, case.s[:-1]).draw(rng)  # their frames move at the rate 1/s_r: no flow to speak of
    save = Save(integrals={"q": power}, controlled=controlled)
    path = lrf.integrate(lrf.RiemannianFlow(loss, metric), w, t_span=(0, 0.2), rtol=1e-10, save=save)
    assert path.status is lrf.Status.FINISHED
    spent = path.loss[0] - path.loss
    assert spent[-1] > 1e-3 * path.loss[0]
    np.testing.assert_allclose(path.columns["q"], spent, rtol=0, atol=1e-8 * path.loss[0])
    assert np.abs(1.005 * path.columns["q"] - spent).max() > 1e-7 * path.loss[0]  # control


@every_value(kind=["frame", "root2", "lifted", "factors"], case=TAME_STARTS)
def test_every_chart_hands_over_the_same_motion(kind, case, rng):
    """Length of W and power, in whatever coordinates; in the factors by the product rule."""
    w, loss = case.draw(rng), completion(case.m, case.n, rng)
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(2))
    options = {"rtol": 1e-9, "t_span": (0, 0.3)}
    want = lrf.integrate(flow, w, save=Save(integrals={"l": length, "q": power}), **options)
    rates = {"l": length, "q": power}
    chart = {"frame": lrf.SingularFrame(), "root2": lrf.SingularFrame(root=2), "lifted": lrf.Lifted()}.get(kind)
    if kind == "factors":
        rates["l"] = lambda at: lrf.gradients.product_rule(at.w, at.velocity).norm()
        flow, w = lrf.FactorFlow(loss), lrf.LinearNetwork.balanced(w, 2)
    found = lrf.integrate(flow, w, chart=chart, save=Save(integrals=rates), **options)
    for name in ("l", "q"):
        np.testing.assert_allclose(found.columns[name][-1], want.columns[name][-1], rtol=1e-6)


def test_a_motion_is_what_it_says(problem):
    """W' = -A(G) at W, along the way."""
    flow, start = problem
    seen = []
    lrf.integrate(flow, start, t_span=(0, 1), rtol=1e-4, save=Save(integrals={"q": lambda at: seen.append(at) or 1.0}))
    assert len(seen) > 20
    for at in seen[::7]:
        w = lrf.LowRankMatrix.from_dense(at.w.to_dense(), 2)
        g = lrf.project(w, flow.loss.gradient(w))
        v = lrf.riemannian_gradient(w, flow.loss.gradient(w), flow.metric)
        # between steps the frames are orthonormal to the tolerance of the solver
        for found, want in ((at.gradient.at(at.w), g.at(w)), (at.velocity.at(at.w), (-v).at(w))):
            assert np.linalg.norm(found.to_dense() - want.to_dense()) < 1e-2 * np.linalg.norm(want.to_dense())
        np.testing.assert_allclose(at.power, g.dot(v), rtol=1e-2)


def test_free_integrals_leave_the_path_alone(problem):
    """A rough rate takes many steps if it is to be right, and none more if it is free."""
    rough = {"q": lambda at: np.sign(np.cos(40 * at.t))}
    free, controlled = (
        lrf.integrate(*problem, t_span=(0, 2), rtol=1e-6, save=Save(integrals=rough, controlled=on)) for on in (False, True)
    )
    plain = lrf.integrate(*problem, t_span=(0, 2), rtol=1e-6)
    assert controlled.nsteps > 3 * plain.nsteps
    assert free.nsteps == plain.nsteps
    # steps of the same length but for roundoff
    assert np.linalg.norm(free.points[-1].to_dense() - plain.points[-1].to_dense()) < 1e-12


SCALES = {"tiny": 1e-200, "roundoff": 1e-16, "large": 1e100}


@every_value(solver=SOLVERS, scale=[pytest.param(x, id=name) for name, x in SCALES.items()])
def test_free_integrals_of_any_size_and_number(solver, scale, problem):
    """Thirty, of sizes that would stop the steps or overflow in the norm of y, and one that is noise."""
    options = {} if "step_size" in solver else {"rtol": 1e-6}
    noise = np.random.default_rng(0)
    rates = {f"q{i}": lambda at: scale * at.w.norm() for i in range(29)} | {"noise": lambda at: 1e-16 * noise.random()}
    plain = lrf.integrate(*problem, t_span=(0, 1), **solver, **options)
    path = lrf.integrate(*problem, t_span=(0, 1), save=Save(integrals=rates), **solver, **options)
    # LSODA takes the largest component, not the mean: its tolerance is tighter by sqrt(54 / 24)
    assert path.nsteps == plain.nsteps if solver["method"] != "LSODA" else path.nsteps < 1.5 * plain.nsteps
    assert np.linalg.norm(path.points[-1].to_dense() - plain.points[-1].to_dense()) < 1e-5
    norms = [w.norm() for w in path.points]
    assert scale * min(norms) < path.columns["q7"][-1] < scale * max(norms)


def test_controlled_integrals_of_any_unit(problem):
    """A rate in other units is right to the same digits by the same steps; one that begins at zero is free."""
    found = []
    for unit in (1e-12, 1.0, 1e9):
        rates = {"cos": lambda at, c=unit: c * np.cos(20 * at.t) ** 2, "sin": lambda at, c=unit: c * np.sin(20 * at.t) ** 2}
        path = lrf.integrate(*problem, t_span=(0, 2), save=Save(integrals=rates, controlled=True))
        assert abs(path.columns["cos"][-1] / (unit * (1 + np.sin(80) / 80)) - 1) < 1e-8
        found.append((path.nsteps, path.columns["sin"][-1] / unit))
    assert len({steps for steps, _ in found}) == 1
    np.testing.assert_allclose([q for _, q in found], found[0][1], rtol=1e-12)


@pytest.mark.parametrize("rate", [lambda at: np.nan if at.t > 0.5 else 1.0, lambda at: np.inf], ids=["nan", "inf"])
def test_a_rate_that_is_not_finite_is_named(rate, problem):
    path = lrf.integrate(*problem, t_span=(0, 1), save=Save(integrals={"fine": power, "bad": rate}))
    assert path.status is lrf.Status.NOT_FINITE and "It is the rate of integral 'bad'." in path.message

    class Broken(lrf.losses.LeastSquares):
        def gradient(self, w):
            return np.full(self.shape, np.nan) if w.norm() > 1.3 else super().gradient(w)

    loss = Broken(np.eye(4), np.diag([3.0, 2.0, 1.0, 0.5]))
    start = lrf.random_point(4, 4, 2, rng=np.random.default_rng(0), singular_values=[0.3, 0.2])
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(3))
    path = lrf.integrate(flow, start, t_span=(0, 9), save=Save(integrals={"fine": power}))
    assert path.status is lrf.Status.NOT_FINITE and "integral" not in path.message  # control


RATES = {"zero": (lambda at: 0.0, 0.0), "later": (lambda at: at.t, 0.5), "negative": (lambda at: -1.0, -1.0)}


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("controlled", [True, False])
def test_rates_that_begin_at_zero(name, controlled, problem):
    rate, want = RATES[name]
    path = lrf.integrate(*problem, t_span=(0, 1), save=Save(integrals={"q": rate}, controlled=controlled))
    assert path.status is lrf.Status.FINISHED
    np.testing.assert_allclose(path.columns["q"][-1], want, rtol=0, atol=1e-7)


@pytest.mark.parametrize("controlled", [True, False])
def test_where_nothing_moves(controlled):
    """From a minimiser: no unit of a move, and no division by it."""
    loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 0.0]))
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(3))
    save = Save(integrals={"l": length, "time so far": lambda at: 1.0}, controlled=controlled)
    path = lrf.integrate(flow, loss.minimiser(2), t_span=(0, 3), save=save)
    assert path.status is lrf.Status.FINISHED
    # an explicit method takes ever longer steps there, and roundoff grows to its tolerance
    assert path.columns["l"][-1] < 1e-6 and abs(path.columns["time so far"][-1] - 3) < 1e-9


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_scales_of_the_loss_do_not_matter(scale, problem):
    """A loss in other units is the same path in other units of time, integrals included."""
    flow, start = problem
    save = Save(integrals={"q": power, "l": length}, controlled=True)
    plain = lrf.integrate(flow, start, t_span=(0, 1), rtol=1e-9, save=save)
    scaled = lrf.RiemannianFlow(lrf.losses.Scaled(flow.loss, scale), flow.metric)
    other = lrf.integrate(scaled, start, t_span=(0, 1 / scale), rtol=1e-9, save=save)
    np.testing.assert_allclose(other.columns["q"][-1] / scale, plain.columns["q"][-1], rtol=1e-8)
    np.testing.assert_allclose(other.columns["l"][-1], plain.columns["l"][-1], rtol=1e-8)
    alone = lrf.integrate(scaled, start, t_span=(0, 1 / scale), rtol=1e-9)
    assert abs(other.nsteps - alone.nsteps) <= 1


def test_a_rate_shares_the_gradient(rng):
    """One gradient a velocity, with any number of integrals; the unit of the integrals costs one more."""
    loss, calls = least_squares(5, 4, rng), []

    class Counting(type(loss)):
        def gradient(self, w):
            calls.append(w)
            return super().gradient(w)

    loss.__class__ = Counting
    flow, start = lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), Start(5, 4, (1.0, 0.6)).draw(rng)
    path = lrf.integrate(flow, start, t_span=(0, 1), save=Save(integrals={"q": power, "l": length}))
    # `bind` tries the gradient once, and so does who asks whether it is a tensor, where one could be
    assert len(calls) == path.nfev + 2 + tensors_may_come()


def test_integrals_survive_a_repair():
    """Frames that drift, repaired a few times: the time goes on through all of it."""
    flow = lrf.RiemannianFlow(lrf.losses.LeastSquares(np.eye(1), np.ones((2, 1))), lrf.EmbeddedMetric())
    start = lrf.LowRankMatrix([[1.0], [0.0]], [1.0], [[1.0]])

    class Told(Circle):
        def motion(self, t, y):
            return self.velocity(t, y), lrf.flows.Motion(t, self.point(y), None, None, 1.0)

    save = Save(integrals={"when": lambda at: at.power})
    path = lrf.integrate(flow, start, t_span=(0, 60), rtol=1e-4, method="RK23", chart=Told(), save=save)
    assert path.restarts > 2
    np.testing.assert_allclose(path.columns["when"], path.t, rtol=1e-10)


def test_what_is_not_finite_is_asked_for_no_rate(problem):
    system = lrf.SingularFrame().bind(*problem)
    asked = []
    full = Accumulating(system, 0.0, {"q": lambda at: asked.append(at) or 1.0}, controlled=True)
    asked.clear()
    assert np.isnan(full.velocity(0.0, np.full(full.y0.size, np.nan))).all() and not asked


# ---------------------------------------------------------------------------------------------------------------------
# columns


def columns():
    return {
        "norm": lambda t, w: w.norm(),
        "time": lambda t, w: t,
        "halves": lambda t, w: np.array([[t, 2 * t], [w.s[0], w.s[-1]]]),
        "large": lambda t, w: w.norm() > 1,
        "count": lambda t, w: 3,
    }


NAMED = {("elapsed" if name == "time" else name): f for name, f in columns().items()}


@pytest.mark.parametrize("save", [{}, {"times": [0.1, 0.7]}, {"times": [0.1, 0.7], "exact": True}, {"steps": False}], ids=str)
def test_columns_are_functions_of_what_is_kept(save, problem):
    path = lrf.integrate(*problem, t_span=(0, 1), save=Save(columns=NAMED, **save))
    assert list(path.columns) == list(NAMED)
    for name, function in NAMED.items():
        want = np.array([function(t, w) for t, w in zip(path.t, path.points, strict=True)], dtype=float)
        np.testing.assert_array_equal(path.columns[name], want, strict=True)


def test_columns_cost_no_gradient(problem):
    a, b = (lrf.integrate(*problem, t_span=(0, 1), save=Save(columns=c)) for c in ({}, NAMED))
    assert a.nfev == b.nfev
    np.testing.assert_array_equal(a.points[-1].to_dense(), b.points[-1].to_dense())


def whole(problem):
    return lrf.integrate(*problem, t_span=(0, 1), save=Save(columns=NAMED, integrals={"q": power, "l": length}))


def assert_same_columns(a, b):
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], strict=True)


def test_columns_come_back_from_a_file(problem, tmp_path):
    path = whole(problem)
    path.save(tmp_path / "p.npz")
    back = lrf.Trajectory.load(tmp_path / "p.npz")
    assert set(back.columns) == set(path.columns)
    assert_same_columns({name: back.columns[name] for name in path.columns}, path.columns)


def test_columns_come_back_from_netcdf(problem, tmp_path):
    xarray = pytest.importorskip("xarray")
    path = whole(problem)
    path.to_netcdf(tmp_path / "p.nc")
    with xarray.open_dataset(tmp_path / "p.nc", engine="h5netcdf") as data:
        assert_same_columns({name: data[name].values for name in path.columns}, path.columns)
        assert data["halves"].dims == ("time", "halves_dim_1", "halves_dim_2")
        assert data["q"].dims == ("time",)


@pytest.mark.parametrize("method", ["DOP853", "auto", "Radau"])
def test_columns_come_back_from_a_checkpoint(method, problem, tmp_path):
    save = Save(columns=NAMED, integrals={"q": power, "l": length})
    options = {"method": method, "rtol": 1e-6, "checkpoint_every": 3, "save": save}
    want = lrf.integrate(*problem, t_span=(0, 2), checkpoint=tmp_path / "whole", **options)

    class Stop(Exception):
        pass

    def stop(progress):
        if progress.t > 0.5:
            raise Stop

    with pytest.raises(Stop):
        lrf.integrate(*problem, t_span=(0, 2), checkpoint=tmp_path / "part", callback=stop, **options)
    found = lrf.integrate(*problem, t_span=(0, 2), checkpoint=tmp_path / "part", **options)
    assert_same_columns(found.columns, want.columns)
    np.testing.assert_array_equal(found.t, want.t)


OTHER = [{"columns": {"n": NAMED["norm"]}}, {"integrals": {"p": power}}, {"controlled": True}]


@pytest.mark.parametrize("other", OTHER, ids=["name", "integral", "free"])
def test_a_checkpoint_with_other_columns_is_refused(other, problem, tmp_path):
    first = {"columns": {"norm": NAMED["norm"]}, "integrals": {"q": power}}
    lrf.integrate(*problem, t_span=(0, 1), checkpoint=tmp_path / "c", save=Save(**first))
    with pytest.raises(ValueError, match=r"`checkpoint` must be of the same problem, .*: columns \["):
        lrf.integrate(*problem, t_span=(0, 1), checkpoint=tmp_path / "c", save=Save(**(first | other)))


SAME = {
    "rate": {"integrals": {"q": lambda at: 2 * at.power}},
    "column": {"columns": {"norm": lambda t, w: 2 * w.norm()}},
    "shape": {"columns": {"norm": lambda t, w: np.array([w.norm()])}},
}


@pytest.mark.parametrize("name", [*SAME, "event"])
def test_another_function_of_the_same_name_is_refused(name, problem, tmp_path):
    """Else one column would hold two things."""
    first = {"columns": {"norm": NAMED["norm"]}, "integrals": {"q": power}}
    options = {"t_span": (0, 1), "checkpoint": tmp_path / "c", "events": lrf.Event("e", lambda t, w: w.norm() - 1.4)}
    path = lrf.integrate(*problem, save=Save(**first), max_evaluations=60, **options)
    assert path.status is lrf.Status.MAX_EVALUATIONS
    other = {"events": lrf.Event("e", lambda t, w: w.norm() - 1.5)} if name == "event" else {}
    with pytest.raises(ValueError, match=r"`checkpoint` must be of the same problem, .* of another: "):
        lrf.integrate(*problem, save=Save(**(first | SAME.get(name, {}))), **(options | other))
    assert lrf.integrate(*problem, save=Save(**first), **options).status is lrf.Status.FINISHED  # control


@pytest.mark.parametrize("epoch", [0.0, 1e6])  # a clock that has run for long: two calls differ by less than roundoff
def test_a_column_that_tells_the_hour_is_no_reason_to_refuse(epoch, problem, tmp_path):
    hour = {"hour": lambda t, w: epoch + perf_counter()}
    options = {"t_span": (0, 1), "checkpoint": tmp_path / "c", "save": Save(columns=hour)}
    first = lrf.integrate(*problem, max_evaluations=60, **options)
    path = lrf.integrate(*problem, **options)
    np.testing.assert_array_equal(path.columns["hour"][: first.t.size - 1], first.columns["hour"][:-1])
    assert path.t[-1] == 1


def test_a_part_of_a_trajectory(problem):
    path = whole(problem)
    for chosen in (slice(2, None, 3), [1, 2], (0, -1), np.arange(3), path.t > 0.5, (path.t > 0.5).tolist()):
        part = path.at(chosen)
        want = path.t[chosen if isinstance(chosen, slice) else np.asarray(chosen)]
        assert part.t.tolist() == want.tolist() and len(part.points) == part.t.size
        assert part.points[-1] is path.points[path.t.tolist().index(want[-1])]
    for chosen in ([], [2, 1], [1, 1], [999], 3, [[1, 2]], [True, False], [0.5]):
        with pytest.raises(ValueError, match="`chosen` must"):
            path.at(chosen)
    part = path.at([0, 3])
    assert part.t.tolist() == path.t[[0, 3]].tolist() and len(part.points) == 2
    assert_same_columns(part.columns, {name: a[[0, 3]] for name, a in path.columns.items()})


def test_the_old_flag_still_works_and_says_what_takes_its_place(problem):
    with pytest.warns(DeprecationWarning, match=r'`dissipation` of Save gives way to integrals=\{"dissipated": lambda'):
        save = Save(dissipation=True)
    old = lrf.integrate(*problem, t_span=(0, 1), save=save)
    new = lrf.integrate(*problem, t_span=(0, 1), save=Save(integrals={"dissipated": power}, controlled=True))
    np.testing.assert_array_equal(old.dissipated, new.columns["dissipated"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lrf.integrate(*problem, t_span=(0, 1)).dissipated is None


def test_trajectories_of_the_first_schema_are_read(problem, tmp_path):
    """As version 0.1.0 wrote them at first: one column with a name of its own."""
    path = lrf.integrate(*problem, t_span=(0, 1), save=Save(integrals={"dissipated": power}))
    path.save(tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as data:
        content = dict(data)
    head = json.loads(str(content.pop("head"))) | {"schema": 1}
    content["dissipated"] = content.pop("column_dissipated")
    np.savez(tmp_path / "old.npz", head=np.array(json.dumps(head)), **content)
    back = lrf.Trajectory.load(tmp_path / "old.npz")
    assert_same_columns(back.columns, path.columns)
    np.savez(tmp_path / "newer.npz", head=np.array(json.dumps(head | {"schema": 3})), **content)
    with pytest.raises(ValueError, match=r"\(schema 3, not 1 or 2\)\.$"):
        lrf.Trajectory.load(tmp_path / "newer.npz")


def test_the_units_of_integrals_do_not_disturb_the_power_iteration(problem):
    """A rate a million times the speed of W is held in units in which it is a thousandth of that."""
    system = lrf.SingularFrame().bind(*problem)
    full = Accumulating(system, 0.0, {"q": lambda at: 1e6 * at.power}, controlled=True)
    dy = full.velocity(0.0, full.y0)
    np.testing.assert_allclose(abs(dy[-1]), 1e-3 * np.linalg.norm(dy[:-1]), rtol=100 * EPS)
    np.testing.assert_allclose(full.integrals(full.y0 + dy)[0], 1e6 * system.motion(0.0, system.y0)[1].power, rtol=1e-12)
