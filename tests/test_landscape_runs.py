"""Where runs end and which plateaus they pass: small starts, digits, obstructions, and runs that must not read like success."""

import dataclasses
from itertools import combinations, pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import integrate as quadrature

import lowrankflow as lrf
from lowrankflow.landscape import Climb, critical_matrix, follow, manifold_hessian, place, staircase
from lowrankflow.landscape.modes import mode_time
from lowrankflow.losses import LeastSquares
from lowrankflow.matrices import LowRankMatrix

STAIRS = LeastSquares(np.eye(4), np.diag([4.0, 3.0, 2.0, 1.0]))
#: 1/2 of the sum of the squares that are not captured
VALUES = {(): 15.0, (1,): 7.0, (1, 2): 2.5, (1, 2, 3): 0.5}


def flow(loss, start, depth, *, part=1e-6, t_end=1e9, rtol=1e-8, **options):
    """Return a run of the depth-N flow until the projected gradient is a part of its start."""
    first = lrf.project(start, loss.gradient(start)).norm()
    return lrf.integrate(
        lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), start, t_span=(0.0, t_end), gtol=part * first, rtol=rtol,
        method="auto", **options,
    )  # fmt: skip


def only(path, k):
    """Return the run up to its k-th kept time."""
    cut = {name: getattr(path, name)[:k] for name in ("t", "loss", "singular_values", "stationarity", "points")}
    return dataclasses.replace(path, **cut)


def aligned(size, k=4):
    return LowRankMatrix(np.eye(4)[:, :k], np.full(k, size), np.eye(k, 4))


def digits(scale):
    return lrf.Problem(data="digits", scale=scale).build()


# ---------------------------------------------------------------------------------------------------------------------
# small starts


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_small_start_passes_every_rank_in_order(depth):
    # claim 15: sigma = 4, 3, 2, 1 from factors of size 1e-2, whitened inputs
    path = flow(STAIRS, aligned(1e-2**depth), depth)
    passed = follow(path, STAIRS, depth=depth)
    assert [p.index_set for p in passed] == list(VALUES)
    assert [p.critical_value for p in passed] == pytest.approx(list(VALUES.values()))
    assert all(p.order == depth and p.lowest < p.critical_value and p.nearness < 0.6 for p in passed)
    if depth > 2:  # the loss comes within 2 % of ||Y||_F^2 / 2 of each value: an oracle that knows no index set
        for value in VALUES.values():
            assert np.abs(path.loss - value).min() < 0.02 * 15
    times = [t for p in passed for t in (p.entered, p.nearest_at, p.left)]
    assert times == sorted(times)
    here = place(path, STAIRS)
    assert here.at_minimiser and here.index_set == (1, 2, 3, 4) and here.index == 0


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_escape_times_of_aligned_modes(depth):
    # each mode is alone: s' = N s^(2-2/N) (sigma - s), half learnt at the time of the closed form
    path = flow(STAIRS, aligned(1e-6), depth, rtol=1e-9)
    for p in follow(path, STAIRS, depth=depth)[:1]:
        assert "closed form" in p.prediction
        # a crossing on a line between kept times: steps at rtol 1e-9 are short, (h s'/s)^2 / 8 is below 1 %
        assert p.escape == pytest.approx(p.predicted, rel=1e-2)
    # control: another depth predicts another time
    other = follow(path, STAIRS, depth=depth + 1)[0]
    assert other.predicted != pytest.approx(other.escape, rel=0.2)


def test_unaligned_starts_at_depth_two_leave_to_leading_order():
    # small in s(0) / sigma, 1e-8: the neglected terms are of that size, the crossing on a line of one per cent or so
    for seed in range(4):
        start = lrf.random_point(4, 4, 4, rng=seed, singular_values=[1e-8] * 4)
        first = follow(flow(STAIRS, start, 2), STAIRS, depth=2)[0]
        assert first.prediction == "to leading order" and first.index_set == ()
        assert first.escape == pytest.approx(first.predicted, rel=0.02)
        assert first.escape > np.log(4 / 1e-8) / 8  # none is faster than the mode of the targets


@pytest.mark.parametrize("depth", [2, 2.5, 3, 7])
@pytest.mark.parametrize("size", [1e-6, 1e-2, 0.3])
def test_time_of_a_mode_against_quadrature(depth, size):
    rate, limit = 1.7, 2.3
    found = mode_time(depth, rate, size * limit, limit)
    wanted, _ = quadrature.quad(  # in log s, where the integrand is smooth
        lambda u: np.exp(u) / (depth * rate * np.exp(u) ** (2 - 2 / depth) * (1 - np.exp(u) / limit)),
        np.log(size * limit), np.log(limit / 2), epsabs=0, epsrel=1e-10, limit=200,
    )  # fmt: skip
    assert found == pytest.approx(wanted, rel=1e-9)  # a hundred roundoffs of the difference of two F, and the quadrature


# ---------------------------------------------------------------------------------------------------------------------
# digits


@pytest.mark.parametrize(
    ("scale", "depth", "ranks"),
    [(0.1, 2, {0, 1, 3, 4}), (0.1, 3, {0, 1, 2, 3, 4}), (1e-3, 2, {0, 2, 3, 4, 5}), (1e-3, 3, set(range(9)))],
)  # fmt: skip
def test_plateaus_on_digits(scale, depth, ranks):
    built = digits(scale)
    path = flow(built.loss, built.start, depth, part=1e-4, rtol=1e-6)
    passed = follow(path, built.loss, depth=depth)
    assert ranks <= {p.rank for p in passed}
    assert all(p.rank < 10 and p.nearness <= 1 for p in passed)
    # W_S as a matrix, and its distance, from the builder
    for p in passed[1:]:
        w = path.points[int(np.argmin(np.abs(path.t - p.nearest_at)))]
        apart = built.loss.whiten(critical_matrix(built.loss, p.index_set)) - built.loss.whiten(w)
        assert p.distance == pytest.approx(apart.norm(), rel=1e-9)
    here = place(path, built.loss)
    assert here.at_minimiser and here.index_set == tuple(range(1, 11))
    assert here.excess == pytest.approx(path.loss[-1] - built.loss.best_value(10), abs=1e-12 * path.loss[0])
    # a wrong S is told apart: its critical matrix lies ten times as far
    wrong = built.loss.whiten(critical_matrix(built.loss, [*range(1, 10), 11])) - built.loss.whiten(path.points[-1])
    assert wrong.norm() > 10 * here.distance


# ---------------------------------------------------------------------------------------------------------------------
# runs that end elsewhere


def test_a_run_that_stops_on_a_plateau_does_not_read_like_success():
    # the factors' gradient near rank 2 falls with the dormant modes, s^(2/3) = 5e-6; gtol is looser than that
    start = LowRankMatrix(np.eye(4), np.array([1.0, 1.0, 1e-8, 1e-8]), np.eye(4))
    net = lrf.LinearNetwork.balanced(start, 3, widths=4, rng=0)
    path = lrf.integrate(lrf.FactorFlow(STAIRS), net, t_span=(0, 1e6), gtol=1e-3)
    assert path.status.converged
    here = place(path, STAIRS)
    assert (here.where, here.kind, here.index_set, here.index) == ("at", "saddle", (1, 2), 0)
    assert not here.at_minimiser and here.margin > 1
    assert here.excess == pytest.approx(STAIRS.value(path.points[-1]) - 2.5, abs=1e-12)
    last = follow(path, STAIRS, depth=3)[-1]
    assert last.index_set == (1, 2) and last.left is None and last.escape is None
    report = lrf.verify_equivalence(STAIRS, start, depth=3, t_end=float(path.t[-1]), claims=["trajectory"])
    assert report.problem["ended at"]["kind"] == "saddle" and report.problem["ended at"]["index set"] == [1, 2]
    assert "did not end at the minimiser of its rank: at a saddle of rank 2, S = {1, 2}" in report.headline


def test_a_saddle_of_the_manifold_has_its_index():
    # an exact start with S = {2, 4}: aligned, so that the flow stays among these pairs
    start = LowRankMatrix(np.eye(4)[:, [1, 3]], np.array([1.0, 1.0]), np.eye(4)[[1, 3]])
    here = place(flow(STAIRS, start, 3), STAIRS)
    assert (here.where, here.kind, here.index_set) == ("at", "saddle", (2, 4))
    assert here.index == manifold_hessian(STAIRS, [2, 4])[1] == 3
    assert here.critical_value == 0.5 * (16 + 4)
    assert "a saddle of index 3" in str(here)


@pytest.mark.parametrize("depth", [2, 3])
def test_the_sign_of_the_determinant_is_named(depth):
    # flow.md 1.6: an autoencoder of lambda = 2, 1, 1/2 from det W(0) < 0 comes to rank 2, at loss lambda_3 / 2
    x = np.diag(np.sqrt([2.0, 1.0, 0.5]))
    loss = LeastSquares(x, x)
    for sign in (-1.0, 1.0):
        q = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0]
        u = q * np.array([1.0, 1.0, sign * np.linalg.det(q)])
        start = LowRankMatrix(u, np.full(3, 0.3), np.eye(3))
        here = place(flow(loss, start, depth, t_end=30.0 if depth == 2 else 3e4, part=1e-12), loss)
        if sign < 0:
            assert here.kind == "saddle" and here.index_set == (1, 2) and not here.at_minimiser
            assert here.obstruction.startswith("the flow keeps the sign of det W, negative at the start")
            assert here.critical_value == pytest.approx(0.25)
        else:
            assert here.at_minimiser and not here.obstruction


def test_gradient_descent_and_factor_flow_end_where_the_riemannian_flow_does():
    start = lrf.random_point(4, 4, 2, rng=1, singular_values=[0.1, 0.1])
    net = lrf.LinearNetwork.balanced(start, 3, widths=4, rng=0)
    first = place(flow(STAIRS, start, 3, part=1e-8), STAIRS)
    descent = lrf.gradient_descent(STAIRS, net, step_size=0.005, steps=6000, keep_every=5)
    factors = lrf.integrate(lrf.FactorFlow(STAIRS), net, t_span=(0, 20.0))
    for path in (descent, factors):
        here = place(path, STAIRS)
        # rank 2 of layers of width 4: at the best matrix of rank 2, a saddle of the factors' loss
        assert (here.index_set, here.where, here.kind) == ((1, 2), "at", "saddle") and here.rank == 4
        assert first.index_set == (1, 2) and first.at_minimiser and first.rank == 2
        assert [p.order for p in follow(path, STAIRS)] == [
            3 if p.index_set == tuple(range(1, p.rank + 1)) else 2 for p in follow(path, STAIRS)
        ]  # the depth of the networks
        assert follow(path, STAIRS)[-1].left is None
    # factors that are not balanced: no order, no prediction
    a = np.diag([3.0, 1.0, 1.0, 1.0])
    skewed = lrf.LinearNetwork([a @ net.factors[0], net.factors[1] @ np.linalg.inv(a), net.factors[2]])
    path = lrf.gradient_descent(STAIRS, skewed, step_size=0.005, steps=200)
    assert {(p.order if p.leads else None, p.predicted) for p in follow(path, STAIRS)} == {(None, None)}


def test_a_run_near_its_minimiser_passes_nothing():
    start = LowRankMatrix(np.eye(4), np.array([3.0, 2.5, 1.9, 0.8]), np.eye(4))
    path = flow(STAIRS, start, 3)
    assert follow(path, STAIRS, depth=3) == () and place(path, STAIRS).at_minimiser
    # nor one from far away, that never comes near
    far = LowRankMatrix(np.eye(4), np.full(4, 20.0), np.eye(4))
    assert follow(flow(STAIRS, far, 3), STAIRS, depth=3) == ()


def test_on_the_way_and_leaving():
    path = flow(STAIRS, aligned(1e-6), 3, rtol=1e-8)
    said = [place(only(path, k), STAIRS) for k in range(1, path.t.size + 1)]
    words = {(h.index_set, h.kind, h.where) for h in said}
    assert ((1,), "saddle", "at") in words and ((1,), "saddle", "leaving") in words
    assert ((1, 2, 3, 4), "minimiser of its rank", "on the way to") in words
    # while W leaves a saddle its distance grows: the word agrees with the numbers
    for before, now in pairwise(said):
        if now.where == "leaving":
            assert now.index_set == before.index_set and now.distance > before.distance


# ---------------------------------------------------------------------------------------------------------------------
# any problem


def _drawn(rng):
    m, n, p = (int(v) for v in (*rng.integers(1, 6, 2), rng.integers(1, 9)))
    kind = int(rng.integers(5))
    x, y = rng.standard_normal((n, p)), rng.standard_normal((m, p))
    if kind == 0:  # ties and zeros
        x, y = np.eye(n), np.zeros((m, n))
        np.fill_diagonal(y, rng.integers(0, 4, min(m, n)))
    elif kind == 1:
        y = rng.standard_normal((m, 1)) @ rng.standard_normal((1, p))
    elif kind == 2:
        y = 0.0 * y
    return LeastSquares(x * 10 ** rng.uniform(-2, 2), y * 10 ** rng.uniform(-8, 8))


def test_random_problems_against_all_index_sets():
    """Nothing warns or raises, and at a critical matrix S is that of the nearest among all, found by trying each."""
    rng, checked, kinds = np.random.default_rng(0), 0, set()
    for _ in range(300):
        loss = _drawn(rng)
        (m, n), spectrum = loss.shape, loss.spectrum
        t = int((spectrum.sigma > 1e-9 * spectrum.sigma[0]).sum()) if spectrum.sigma[0] > 0 else 0
        top = spectrum.sigma[0] / np.sqrt(spectrum.eigenvalues[0]) or 1.0
        r = int(rng.integers(1, min(m, n) + 1))
        start = lrf.random_point(m, n, r, rng=rng, singular_values=np.full(r, top * 10 ** rng.uniform(-4, 1)))
        points = [start]
        s = sorted(int(i) for i in rng.choice(t, int(rng.integers(1, t + 1)), replace=False)) if t else []
        if s:  # to near a critical matrix
            least = spectrum.sigma[s[-1]] / np.sqrt(spectrum.eigenvalues[0])
            noise = 1e-3 * least * rng.standard_normal((m, n)) / np.sqrt(m * n)
            points.append(LowRankMatrix.from_dense(critical_matrix(loss, [i + 1 for i in s]).to_dense() + noise, min(m, n)))
        values = np.array([loss.value(w) for w in points])
        path = _run(points, values)
        here = place(path, loss)
        for depth in (None, 2, 3, 2.5):
            passed = follow(path, loss, depth=depth)
        if passed and len(points) > 1:
            staircase([Climb("loss", path.t, path.loss, passed)])
        assert str(here) and here.to_dict()["index set"] == list(here.index_set)
        assert here.excess == pytest.approx(here.value - here.critical_value, abs=1e-9 * max(values.max(), 1e-300))
        kinds.add((here.kind, here.where))
        gaps = np.abs(np.diff(spectrum.sigma[:t]))
        if not s or here.where != "at" or (gaps < 1e-9 * spectrum.sigma[0]).any():
            continue
        b, sets = loss.whiten(points[-1]).to_dense(), [c for k in range(t + 1) for c in combinations(range(t), k)]
        far = [np.linalg.norm(b - (spectrum.u[:, list(c)] * spectrum.sigma[list(c)]) @ spectrum.vt[list(c)]) for c in sets]
        nearest = sets[int(np.argmin(far))]
        assert here.distance == pytest.approx(far[sets.index(tuple(i - 1 for i in here.index_set))], rel=1e-6)
        if spectrum.sigma[t - 1] > 10 * here.distance:  # else a pair smaller than the distance is left to chance
            assert here.index_set == tuple(i + 1 for i in nearest) == tuple(i + 1 for i in s)
            checked += 1
    assert checked >= 60
    assert {("saddle", "at"), ("minimiser of its rank", "at")} <= kinds


def _run(points, values):
    return lrf.Trajectory(
        t=np.arange(float(len(points))), loss=values, singular_values=np.zeros((len(points), 1)),
        stationarity=np.ones(len(points)), points=points, status=lrf.Status.FINISHED, message="", nfev=1, nsteps=1,
    )  # fmt: skip


def test_tied_pairs_count_by_their_number():
    loss = LeastSquares(np.eye(3), np.diag([2.0, 2.0, 1.0]))
    v = np.array([0.6, -0.8, 0.0])  # a pair of the tied plane that is no axis
    start = LowRankMatrix(v[:, None], np.array([1.9]), v[None])
    here = place(flow(loss, start, 3), loss)
    assert here.at_minimiser and here.index_set == (1,) and here.distance < 1e-4
    assert any("equal singular values" in note for note in here.notes)


def test_other_losses_are_judged_by_their_gradient_alone():
    built = lrf.Problem(data="iris", loss="huber", rank=2).build()
    loss = built.loss
    path = flow(loss, built.start, 2, part=1e-3)
    here = place(path, loss)
    assert not here.exact and here.kind == "undecided" and here.index_set is None and not here.at_minimiser
    assert "no exact theory for this loss" in str(here) and here.gradient <= 1e-3
    assert follow(path, loss) == ()


def test_what_is_refused():
    with pytest.raises(TypeError, match="`path` must be a Trajectory, got SimpleNamespace"):
        place(SimpleNamespace(points=[]), STAIRS)
    path = flow(STAIRS, aligned(0.1), 3)
    with pytest.raises(ValueError, match="`path` must have kept W"):
        place(dataclasses.replace(path, points=[]), STAIRS)
    with pytest.raises(ValueError, match=r"`path.points\[0\]` has shape|must have shape|shape"):
        follow(path, LeastSquares(np.eye(3), np.eye(3)))
    with pytest.raises((ValueError, TypeError), match="`depth` must"):
        follow(path, STAIRS, depth=0)


# ---------------------------------------------------------------------------------------------------------------------
# reports


def test_reports_say_where_their_runs_ended():
    start = lrf.random_point(4, 4, 4, rng=0, singular_values=[1e-3] * 4)
    report = lrf.verify_equivalence(STAIRS, start, depth=3, claims=["trajectory"])
    ended = report.problem["ended at"]
    assert ended["kind"] == "minimiser of its rank" and ended["index set"] == [1, 2, 3, 4] and ended["where"] == "at"
    assert "did not end" not in report.headline
    figure = next(f for f in report.figures if f.name == "staircase")
    lines = [c for c in figure.curves if c.role == "guide"]
    assert [c.y for c in lines] == [[p.critical_value] * 2 for p in report.attachments["plateaus"]]
    assert lines[-1].mark == "rank 3" and {c.role for c in figure.curves} == {"a", "b", "guide"}
    assert '"ended at"' in report.to_json()
    other = lrf.compare_metrics(STAIRS, start, ["embedded", 3], rtol=1e-6, clock_end=0.5)
    assert set(other.problem["ended at"]) == {"embedded", "depth 3"}
    assert "not every flow ended at the minimiser of its rank" in other.headline
    assert next(f for f in other.figures if f.name == "staircase").curves[-1].mark
