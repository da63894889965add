"""The choice of a method, runs to the limit, and the saddles on the way."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.integrate import DOP853

import lowrankflow as lrf
from lowrankflow.flow import loop
from lowrankflow.flow import methods as solvers
from lowrankflow.flow.passages import saddle_passages
from lowrankflow.flow.record import Record
from lowrankflow.flows import Moment
from lowrankflow.matrices import difference


class WithoutHessian(lrf.losses.LeastSquares):
    """Without an exact Jacobian "auto" has explicit methods alone."""

    hessian = None


def stiff(kappa, n=20, rank=2, seed=0, kind=WithoutHessian):
    """Least squares whose inputs have a geometric spectrum of condition kappa."""
    rng = np.random.default_rng(seed)
    x = np.linalg.qr(rng.standard_normal((n, n)))[0] * np.sqrt(np.geomspace(1, 1 / kappa, n))
    teacher = lrf.random_point(n, n, rank, rng=rng, singular_values=np.linspace(2, 1, rank))
    start = lrf.random_point(n, n, rank, rng=rng, singular_values=np.full(rank, 0.5))
    return lrf.RiemannianFlow(kind(x, teacher @ x), lrf.DepthMetric(3)), start


def last(flow, start, t_end, **options):
    return lrf.integrate(flow, start, t_span=(0, t_end), save=lrf.Save(steps=False), **options)


def test_auto_stays_explicit_on_an_easy_problem():
    path = last(*stiff(2.0), 6.0, method="auto", rtol=1e-6)
    assert path.method == "DOP853 from the start"


@pytest.mark.parametrize(("rtol", "name"), [(1e-4, "RKC (order 2"), (1e-8, "ROCK4 (order 4")])
def test_auto_changes_on_a_stiff_one_and_says_why(rtol, name):
    flow, start = stiff(1e3)
    path = last(flow, start, 3e3, method="auto", rtol=rtol)
    explicit = last(flow, start, 3e3, rtol=rtol, method="DOP853")
    reference = last(flow, start, 3e3, rtol=1e-10, method="ROCK4")
    assert name in path.method and "stiff, h rho = " in path.method
    assert path.nfev < explicit.nfev / (4 if rtol > 1e-6 else 1.2)
    # errors add up over a run; the stable modes forget them
    assert difference(path.points[-1], reference.points[-1]).norm() < 20 * rtol * reference.points[-1].norm()


def test_auto_leaves_rock4_where_it_is_too_stiff_for_it():
    """Condition number 1e5: fewer velocities than ROCK4 alone, and no worse. Tight tolerances stay with order 4."""
    flow, start = stiff(1e5, n=5)
    start = last(flow, start, 2e4, method="Radau", rtol=1e-6).points[-1]  # where the steps have grown
    auto, alone = (last(flow, start, 1e4, method=method, rtol=1e-6) for method in ("auto", "ROCK4"))
    assert "; RKC (order 2) from t=" in auto.method and "too stiff for the finish of ROCK4" in auto.method
    assert auto.nfev < 0.8 * alone.nfev
    want = last(flow, start, 1e4, method="Radau", rtol=1e-8).points[-1]
    # RKC, second, adds up its steps to rtol^(2/3)
    assert difference(auto.points[-1], want).norm() < 1e-4 * want.norm()
    # control: not at tight tolerances, though its steps become as stiff in that time
    assert "RKC" not in last(flow, start, 1e4, method="auto", rtol=9e-8).method


@pytest.mark.parametrize(("n", "rank", "rtol"), [(5, 1, 1e-3), (8, 3, 1e-5), (20, 4, 1e-7)])
def test_auto_solves_equations_where_unknowns_are_few(n, rank, rtol):
    """With an exact Jacobian, and says so: a fraction of the gradients that stabilised steps take, and as near the flow.

    The last has 176 unknowns, more than the 150 up to which that is the way at loose tolerances too.
    """
    runs = [stiff(1e4, n=n, rank=rank, kind=kind) for kind in (lrf.losses.LeastSquares, WithoutHessian)]
    few, control = (last(*run, 3e3, method="auto", rtol=rtol) for run in runs)
    assert re.search(r"BDF \(implicit\) from t=.*, and \d+ unknowns with an exact Jacobian", few.method)
    assert "BDF" not in control.method and few.nfev < control.nfev / 3
    want = last(*runs[0], 3e3, method="Radau", rtol=rtol / 100).points[-1]
    assert difference(few.points[-1], want).norm() < 20 * rtol * want.norm()
    loose = last(*stiff(1e4, n=20, rank=4, kind=lrf.losses.LeastSquares), 3e3, method="auto", rtol=1e-5)
    assert "BDF" not in loose.method


def test_auto_leaves_equations_where_they_gain_nothing():
    """Steps that are no longer than explicit ones could be: back to DOP853, after two looks."""
    solver = SimpleNamespace(t_old=0.0, t=1.0, y=np.ones(2), J=np.diag([-1.0, -0.5]))
    automatic = solvers.Automatic(1e-8, 2)
    choice = replace(automatic.first(), name="BDF")
    for _ in range(20):
        choice = automatic.judge(choice, solver)
    assert choice.name == "DOP853" and "no longer stiff, h rho = " in choice.label and choice.returns == 1
    solver.J = np.diag([-100.0, -0.5])  # control: steps that no explicit method could take
    choice = replace(automatic.first(), name="BDF")
    for _ in range(60):
        choice = automatic.judge(choice, solver)
    assert choice.name == "BDF"


def raises(z):
    raise RuntimeError("not written yet")


#: what a user may have written as a Hessian, of X X^T = C: whether it is that of the gradient
HESSIANS = {
    "product": (lambda z, c: z @ c, True),
    "to_dense": (lambda z, c: z.to_dense() @ c, True),
    "minus": (lambda z, c: -(z.to_dense() @ c), False),
    "a tenth": (lambda z, c: 0.1 * (z.to_dense() @ c), False),
    "zero": (lambda z, c: np.zeros(z.shape), False),
    "nan": (lambda z, c: np.full(z.shape, np.nan), False),
    "raises": (lambda z, c: raises(z), False),
}


@pytest.mark.parametrize("name", HESSIANS)
def test_a_wrong_hessian_does_no_harm_to_a_flow_that_needs_none(name):
    """By the right ones "auto" solves equations; by others it goes on as without, to the same bits."""
    flow, start = stiff(1e4, n=6, rank=2, kind=lrf.losses.LeastSquares)
    c, (make, right) = flow.loss.hessian(start, np.eye(6)), HESSIANS[name]

    class Own:
        shape, value, gradient = flow.loss.shape, staticmethod(flow.loss.value), staticmethod(flow.loss.gradient)
        hessian = staticmethod(lambda w, z: make(z, c))

    class Without(Own):
        hessian = None

    sides = ((lrf.RiemannianFlow, flow.metric, start), (lrf.FactorFlow, None, lrf.LinearNetwork.balanced(start, 3)))
    for kind, metric, w in sides:
        own, without = (
            last(kind(loss) if metric is None else kind(loss, metric), w, 1e3, rtol=1e-5) for loss in (Own(), Without())
        )
        assert own.status is lrf.Status.FINISHED and ("BDF" in own.method) is right
        assert (own.loss[-1] == without.loss[-1]) is not right


@pytest.mark.parametrize("kind", ["BDF", "Radau", "LSODA"])
def test_an_implicit_method_is_given_the_jacobian(kind):
    runs = [stiff(1e4, n=8, rank=3, kind=loss) for loss in (lrf.losses.LeastSquares, WithoutHessian)]
    ours, differences = (last(*run, 300, method=kind, rtol=1e-4) for run in runs)
    assert ours.status is lrf.Status.FINISHED and ours.nfev < differences.nfev / 1.5


def test_auto_reaches_critical_points_of_stiff_small_problems():
    """To a stationarity of 1e-8 of the start's, condition numbers to 1e6 and units 1e-6 to 1e6, flows and factors.

    Control: stabilised steps spend the same 30 000 gradients on a fifth of them and more.
    """
    ends = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        m, n = rng.integers(1, 6, 2)
        rank, depth, kappa = int(rng.integers(1, min(m, n) + 1)), int(rng.integers(2, 5)), 10.0 ** rng.uniform(3, 6)
        x = np.linalg.qr(rng.standard_normal((n, n)))[0] * np.sqrt(np.geomspace(1, 1 / kappa, n)) * 10.0 ** rng.uniform(-6, 6)
        y = rng.standard_normal((m, n)) @ x
        start = lrf.random_point(m, n, rank, rng=rng, singular_values=np.full(rank, 0.5))
        rtol = 10.0 ** -rng.integers(3, 10)
        for kind in (lrf.losses.LeastSquares, WithoutHessian) if seed < 2 else (lrf.losses.LeastSquares,):
            loss = kind(x, y)
            gtol = 1e-8 * lrf.project(start, loss.gradient(start)).norm()
            for flow, w in (
                (lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), start),
                (lrf.FactorFlow(loss), lrf.LinearNetwork.balanced(start, depth)),
            ):
                path = last(flow, w, np.inf, gtol=gtol, rtol=rtol, max_evaluations=30_000)
                ends.append((kind is WithoutHessian, path.status))
    over = (lrf.Status.CONVERGED, lrf.Status.STALLED)  # the limit of a start on the wrong side has lower rank
    assert all(status in over for control, status in ends if not control)
    spent = [status is lrf.Status.MAX_EVALUATIONS for control, status in ends if control]
    assert sum(spent) > len(spent) / 5


class Stub:
    """A solver whose steps of one have the product h rho that a list says."""

    def __init__(self, name):
        self.method, self.t_old, self.t, self.y = name, 0.0, 1.0, np.ones(1)
        self.stepper, self.state = self, None

    def at(self, z):
        self.z, self.f = z, -z * self.y
        return self

    def fun(self, t, y):
        return -self.z * y

    def known_radius(self, state):
        return self.z


def changes(products, steps):
    """Return the steps after which "auto" changes; `products` gives h rho by the method in use and the step."""
    automatic, found = solvers.Automatic(1e-8), []
    choice = automatic.first()
    for k in range(steps):
        before, choice = choice, automatic.judge(choice, Stub(choice.name).at(products(choice.name, k)))
        if choice.name != before.name:
            found.append(k)
    return found


def test_auto_does_not_go_to_and_fro_for_ever():
    """An explicit method held back a little and ROCK4 with short steps: fewer and fewer changes, yet none is shut out."""
    found = changes(lambda name, k: 4.4 if name == "DOP853" else 1.5, 4000)
    assert np.diff(found).min() >= 20
    # a cycle grows to 160 explicit steps and 20 others; the first took 20 and 20
    assert 2 * 4000 / 180 < len(found) < 2 * 4000 / 180 + 10
    # after twenty returns a stiff stretch is still noticed within 160 steps
    stiff_again = changes(lambda name, k: 4.4 if name == "DOP853" else 1.5 if k < 4000 else 100.0, 4400)
    assert stiff_again[-1] < 4000 + 180


KINDS = {
    "factors": lambda loss, w, rng: (lrf.FactorFlow(loss), lrf.LinearNetwork.balanced(w, 3, widths=4, rng=rng)),
    "unbalanced": lambda loss, w, rng: (lrf.FactorFlow(loss), lrf.LinearNetwork.gaussian(w.shape, 3, widths=4, rng=rng)),
    "embedded": lambda loss, w, rng: (lrf.RiemannianFlow(loss, lrf.EmbeddedMetric()), w),
    "infinite": lambda loss, w, rng: (lrf.RiemannianFlow(loss, lrf.DepthMetric(np.inf)), w),
    "real": lambda loss, w, rng: (lrf.RiemannianFlow(loss, lrf.DepthMetric(2.7)), w),
    "deep": lambda loss, w, rng: (lrf.RiemannianFlow(loss, lrf.DepthMetric(50)), w),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("method", ["RKC", "ROCK4", "auto"])
def test_every_flow_takes_them(name, method, rng):
    """Where the system knows a bound on its spectrum and where it knows none."""
    flow, w = stiff(300.0)
    moving = KINDS[name](flow.loss, w, rng)
    rtol, t_end = (1e-6 if method == "RKC" else 1e-8), 1.0 if name == "deep" else 10.0
    path = last(*moving, t_end, method=method, rtol=rtol)
    want = last(*moving, t_end, rtol=1e-12)
    assert path.status is want.status is lrf.Status.FINISHED
    a, b = (np.asarray(p.points[-1].to_dense()) for p in (path, want))
    # RKC adds up its steps to rtol^(2/3), the others to rtol
    assert np.linalg.norm(a - b) < 10 * rtol ** (2 / 3 if method == "RKC" else 1) * np.linalg.norm(b)
    assert path.method.startswith("DOP853 from the start" if method == "auto" else method)


def test_stable_limit_of_the_explicit_method():
    """The largest z with |R(-z)| <= 1, from scipy's coefficients."""

    def r(z):
        k = np.zeros(DOP853.n_stages)
        for i in range(k.size):
            k[i] = -z * (1 + DOP853.A[i, :i] @ k[:i])
        return abs(1 + DOP853.B @ k)

    said = last(*stiff(1e3, n=6), 100, method="auto", rtol=1e-4).method
    limit = float(re.search(r"is stable up to ([\d.]+)", said).group(1))
    assert r(limit - 0.05) < 1 < r(limit + 0.05)


@pytest.mark.parametrize("name", ["auto", "dop853", "Rk23", "radau", "lsoda", "rock4", "RKC"])
def test_names_of_methods_are_read_in_any_case(name):
    flow, start = stiff(2.0)
    own = {"auto": "auto", "dop853": "DOP853", "Rk23": "RK23", "radau": "Radau", "lsoda": "LSODA", "rock4": "ROCK4", "RKC": "RKC"}
    paths = [last(flow, start, 0.1, method=method, rtol=1e-3) for method in (name, own[name])]
    assert paths[0].method == paths[1].method and paths[0].loss[-1] == paths[1].loss[-1]
    if name != "auto":
        assert paths[0].method == own[name]


def test_fixed_steps_are_named_in_any_case_too():
    flow, start = stiff(2.0)
    assert last(flow, start, 0.1, method="rk4", step_size=0.05).method == "RK4"
    with pytest.raises(ValueError, match='`step_size` is for methods with a fixed step; "auto" chooses'):
        last(flow, start, 0.1, method="AUTO", step_size=0.05)
    with pytest.raises(ValueError, match="`method` must be one of auto, RK23"):
        last(flow, start, 0.1, method="dop 853")


def test_auto_takes_no_step_size():
    with pytest.raises(ValueError, match='`step_size` is for methods with a fixed step; "auto" chooses'):
        last(*stiff(2.0), 1.0, method="auto", step_size=0.1)


# ---------------------------------------------------------------------------------------------------------------------
# to the limit


@pytest.mark.parametrize(("depth", "small"), [(2, 1e-6), (3, 1e-6), (5, 1e-4)])
def test_runs_to_the_limit_past_every_saddle(depth, small):
    """Whitened data, a small start: the critical values 1/2 sum of the sigma_i^2 not yet learned, in their order."""
    n, sigma, rng = 12, np.array([4.0, 2.0, 1.0]), np.random.default_rng(0)
    teacher = lrf.random_point(n, n, 3, rng=rng, singular_values=sigma)
    loss = lrf.losses.LeastSquares(np.eye(n), teacher.to_dense())
    start = lrf.random_point(n, n, 3, rng=rng, singular_values=np.full(3, small))
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(depth))
    path = lrf.integrate(flow, start, t_span=(0, np.inf), gtol=1e-6, rtol=1e-7, method="auto")
    assert path.status is lrf.Status.CONVERGED and path.stationarity[-1] <= 1e-6
    np.testing.assert_allclose(path.singular_values[-1], sigma, rtol=1e-5)
    assert [p.rank for p in path.passages] == [0, 1, 2]
    values = [0.5 * np.sum(sigma[k:] ** 2) for k in range(3)]
    # a passage is not the saddle itself: the next mode has begun to move
    np.testing.assert_allclose([p.loss for p in path.passages], values, rtol=0.1)
    assert np.all(np.diff([p.t for p in path.passages]) > 0)


LIMIT = stiff(30.0, n=6)
EVERY = [(method, 1e-4) for method in ("RK45", "DOP853", "RKC", "ROCK4", "auto", "LSODA", "Radau")]


@pytest.mark.parametrize(("method", "rtol"), [*EVERY, ("DOP853", 1e-2), ("auto", 1e-2), ("DOP853", 1e-7), ("auto", 1e-7)])
def test_the_limit_is_reached_at_every_tolerance(method, rtol):
    """The stationarity falls to gtol though rtol is a hundred to ten million times that, as is its floor otherwise."""
    path = last(*LIMIT, np.inf, method=method, rtol=rtol, gtol=1e-9, max_evaluations=6_000)
    assert path.status is lrf.Status.CONVERGED, path.message


def test_errors_of_constant_size_do_not_reach_it(monkeypatch):
    """Control: without tightening, the explicit method hovers above gtol."""
    monkeypatch.setattr(loop.Loop, "accuracy", lambda self, state: self.limits.rtol)
    path = last(*LIMIT, np.inf, rtol=1e-4, gtol=1e-9, method="DOP853", max_evaluations=6_000)
    assert path.status is lrf.Status.MAX_EVALUATIONS and path.stationarity[-1] > 1e-6


@pytest.mark.parametrize("method", ["DOP853", "auto"])
def test_what_roundoff_holds_up_ends(method):
    """gtol a hundred times below what roundoff leaves of the gradient, eps ||X X^T W||."""
    flow, start = LIMIT
    path = last(flow, start, np.inf, gtol=1e-18, method=method, max_evaluations=200_000)
    assert path.status is lrf.Status.STALLED and not path.status.finished
    assert path.stationarity[-1] < 1e-10
    with pytest.raises(RuntimeError, match="Nothing moves any more"):
        path.raise_if_failed()


@pytest.mark.parametrize(
    ("change", "still"),
    [
        pytest.param({}, True, id="nothing"),
        pytest.param({"s": lambda x: np.array([1.0, 1e-3 * 0.9**x])}, True, id="a-mode-decays"),
        pytest.param({"s": lambda x: np.array([1.0, 1e-9 * 1.0001**x])}, False, id="a-mode-grows"),
        pytest.param({"loss": lambda x: 1.0 - 1e-12 * x}, False, id="the-loss-falls"),
        pytest.param({"stationarity": lambda x: 0.97**x}, False, id="the-stationarity-falls"),
        pytest.param({"rows": 90}, False, id="too-short"),
    ],
)
def test_what_stands_still(change, still):
    """A hundred states of which only one thing moves."""
    rows = change.get("rows", 300)
    t, loss, s, stationarity = (
        change.get(name, default)
        for name, default in (
            ("t", float), ("loss", lambda x: 1.0), ("s", lambda x: np.array([1.0, 1e-9])), ("stationarity", lambda x: 1.0),
        )
    )  # fmt: skip
    trace = [(t(x), Moment(loss(x), stationarity(x), 0.0, s(x))) for x in range(rows)]
    assert Record.stands_still(SimpleNamespace(trace=trace), trace[-1][0], 100) == still


@pytest.mark.parametrize("method", ["auto", "DOP853"])
def test_a_limit_of_lower_rank_ends(method):
    """A mode of the wrong sign can only decay: P_T G does not vanish there, and at depth 2.2 s falls like t^-11.

    By "auto" it crosses zero by roundoff in the end; by DOP853 it does not, and nothing moves any more.
    """
    loss = lrf.losses.LeastSquares(np.eye(4), np.diag([4.0, 3.0, 2.0, 1.0]))
    start = lrf.LowRankMatrix.from_dense(np.diag([0.1, 0.1, 0.1, -0.1]) + 1e-3, 4)
    flow, options = lrf.RiemannianFlow(loss, lrf.DepthMetric(2.2)), {"gtol": 1e-6, "rtol": 1e-4, "max_evaluations": 60_000}
    path = last(flow, start, np.inf, method=method, **options)
    assert path.status is lrf.Status.STALLED
    assert path.singular_values[-1, 3] < 1e-12 and path.stationarity[-1] > 0.9


@pytest.mark.parametrize(("rtol", "name"), [(1e-4, "RKC (order 2)"), (1e-6, "DOP853")])
def test_auto_takes_no_sign_from_what_decays(rtol, name):
    """A long step of ROCK4 turns the sign of a mode below the tolerance; another method repeats it, and keeps the sign."""
    loss = lrf.losses.LeastSquares(np.eye(4), np.diag([4.0, 3.0, 2.0, 1.0]))
    start = lrf.LowRankMatrix.from_dense(np.diag([0.1, 0.1, 0.1, -0.1]) + 1e-3, 4)
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(2.2))
    options = {"rtol": rtol, "t_span": (0, 200), "save": lrf.Save(times=np.linspace(20, 200, 10), dense=True)}
    path = lrf.integrate(flow, start, **options)
    assert path.status is lrf.Status.FINISHED
    assert f"; {name} from t=" in path.method and path.method.endswith("crossed zero in a step of ROCK4")
    signs = [np.linalg.slogdet(w.to_dense())[0] for w in (*path.points, path(130.0))]
    assert set(signs) == {-1.0} and (np.diff(path.t) > 0).all()
    # the last mode is below the error of rtol |T| in l = s^(1/2.2); that of the others, at rest, is one step's
    np.testing.assert_allclose(path.singular_values[-1, :3], [4, 3, 2], rtol=2.2 * rtol)
    assert 0 < path.singular_values[-1, 3] < (rtol * np.linalg.norm([4, 3, 2])) ** 2.2
    # control: there is a sign to be lost
    assert lrf.integrate(flow, start, method="ROCK4", **options).status is lrf.Status.RANK_LOST


@pytest.mark.parametrize("s0", [1e-3, 1e-9])
@pytest.mark.parametrize("depth", [2, 3])
def test_a_plateau_is_no_standstill(depth, s0):
    """However long: from 1e-9 at depth 3 the loss stays to fifteen digits for most of the time."""
    loss = lrf.losses.LeastSquares(np.eye(4), np.diag([4.0, 3.0, 2.0, 1.0]))
    start = lrf.random_point(4, 4, 2, rng=np.random.default_rng(0), singular_values=[s0, s0])
    path = last(lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), start, np.inf, gtol=1e-8, method="auto")
    assert path.status is lrf.Status.CONVERGED
    np.testing.assert_allclose(path.singular_values[-1], [4, 3], rtol=1e-7)


def test_modes_that_never_grow_are_not_learned():
    """A fourth mode of the wrong sign only decays, and three stand equal at the start: nothing is learned at t = 0."""
    loss = lrf.losses.LeastSquares(np.eye(4), np.diag([4.0, 3.0, 2.0, 1.0]))
    start = lrf.LowRankMatrix.from_dense(np.diag([0.1, 0.1, 0.1, -0.1]) + 1e-3, 4)
    path = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), start, t_span=(0, 20), rtol=1e-6)
    assert [p.rank for p in path.passages] == [0]
    # control: what has been learned before the start counts
    warm = lrf.LowRankMatrix(np.eye(4)[:, :2], [4.0, 1e-4], np.eye(4)[:2])
    path = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), warm, t_span=(0, 60), rtol=1e-6)
    assert [p.rank for p in path.passages] == [1]


def test_no_plateau_no_passage():
    """Control: one mode from a start of its own size."""
    loss = lrf.losses.LeastSquares(np.eye(4), np.diag([2.0, 0, 0, 0]))
    start = lrf.LowRankMatrix(np.eye(4)[:, :1], [1.0], np.eye(4)[:1])
    path = lrf.integrate(
        lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), start, t_span=(0, np.inf), gtol=1e-8, rtol=1e-8
    )
    assert path.status is lrf.Status.CONVERGED and path.passages == []


def test_passages_of_synthetic_traces():
    def trace(powers):
        return [(float(t), Moment(10.0 - t, 1.0, p, np.array([t + 1.0]))) for t, p in enumerate(powers)]

    assert saddle_passages(trace([1, 1e-1, 1e-2, 1e-3])) == []
    assert [p.t for p in saddle_passages(trace([1e-3, 1, 1e-3, 1e-4, 1, 1e-5]))] == [0, 3]
    assert saddle_passages(trace([1, 0.5, 0.2, 1.5])) == []  # less than tenfold


def test_an_endless_run_needs_an_end():
    with pytest.raises(ValueError, match="`gtol` must be positive where t_span ends at inf"):
        last(*stiff(2.0), np.inf)
