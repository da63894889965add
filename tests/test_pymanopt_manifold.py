"""The manifold for pymanopt: its laws, pymanopt's optimizers on it, its own log, and what pymanopt's manifold gets wrong."""

import tracemalloc
from itertools import pairwise

import autograd.numpy as anp
import numpy as np
import pymanopt
import pytest
from cases import METRICS, STARTS, TAME_STARTS, Start, completion, least_squares
from oracles import EPS, chain, fitted_slope, sides, tangent_projection
from pymanopt.manifolds import FixedRankEmbedded
from pymanopt.optimizers import ConjugateGradient, NelderMead, SteepestDescent, TrustRegions

import lowrankflow as lrf
from lowrankflow.pymanopt_manifold import FixedRank, PositiveSemidefinite

SMOOTH = [p for p in METRICS if hasattr(p.values[0], "differences")]
QUIET = {"verbosity": 0, "max_iterations": 400}


def manifold_at(w, metric, rng, **options):
    return FixedRank(*w.shape, w.rank, metric, rng=rng, **options)


def unit(manifold, w):
    return manifold.random_tangent_vector(w)


# ---------------------------------------------------------------------------------------------------------------------
# pymanopt's own tests of its fixed-rank manifold, as laws


def test_dimension():
    assert FixedRank(10, 8, 3).dim == (10 + 8 - 3) * 3
    assert PositiveSemidefinite(6, 3).dim == 6 * 3 - 3
    assert PositiveSemidefinite(6, 6).dim == 21
    assert FixedRank(10, 8, 3).typical_dist == FixedRankEmbedded(10, 8, 3).typical_dist


@pytest.mark.parametrize("case", TAME_STARTS)
def test_embedded_inner_product_is_the_frobenius_one(case, rng):
    w = case.draw(rng)
    manifold = manifold_at(w, None, rng)
    a, b = unit(manifold, w), unit(manifold, w)
    frobenius = np.vdot(a.at(w).to_dense(), b.at(w).to_dense())
    assert abs(manifold.inner_product(w, a, b) - frobenius) < 100 * EPS
    theirs = FixedRankEmbedded(*w.shape, w.rank)
    assert abs(manifold.inner_product(w, a, b) - theirs.inner_product(tuple(w), a, b)) < 100 * EPS
    assert abs(manifold.norm(w, a) - np.linalg.norm(a.at(w).to_dense())) < 100 * EPS


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", TAME_STARTS)
def test_inner_product_is_that_of_the_metric(metric, case, rng):
    """By column sums, without an array of the size of the tangent vector: as `inner_product`, which has its own tests."""
    w = case.draw(rng)
    manifold = manifold_at(w, metric, rng)
    a, b = unit(manifold, w), unit(manifold, w)
    want = lrf.gradients.inner_product(w, a, b, metric)
    assert abs(manifold.inner_product(w, a, b) - want) < 1000 * EPS
    assert abs(manifold.norm(w, a) - 1) < 1000 * EPS


@pytest.mark.parametrize("case", STARTS)
def test_projection(case, rng):
    """The projection is the dense one, idempotent, and leaves an orthogonal rest."""
    w = case.draw(rng)
    manifold = manifold_at(w, None, rng)
    z = rng.standard_normal(w.shape)
    p = manifold.projection(w, z)
    dense = p.at(w).to_dense()
    np.testing.assert_allclose(dense, tangent_projection(w, z), rtol=0, atol=100 * EPS)
    again = manifold.to_tangent_space(w, manifold.projection(w, p.at(w)))
    np.testing.assert_allclose(again.at(w).to_dense(), dense, rtol=0, atol=100 * EPS)
    for _ in range(3):
        assert abs(np.vdot(z - dense, unit(manifold, w).at(w).to_dense())) < 100 * EPS * np.linalg.norm(z)
    assert manifold.zero_vector(w).norm() == 0


@pytest.mark.parametrize("case", STARTS)
def test_transport_is_the_projection_at_the_new_point(case, rng):
    w = case.draw(rng)
    manifold = manifold_at(w, None, rng)
    y, z = manifold.retraction(w, 0.1 * unit(manifold, w)), unit(manifold, w)
    moved = manifold.transport(w, y, z)
    np.testing.assert_allclose(
        moved.at(y).to_dense(), tangent_projection(y, z.at(w).to_dense()), rtol=0, atol=100 * EPS
    )


@pytest.mark.parametrize("metric", METRICS)
def test_random_points_and_vectors(metric, rng):
    manifold = FixedRank(7, 5, 3, metric, rng=np.random.default_rng(5))
    w = manifold.random_point()
    assert (w.shape, w.rank) == ((7, 5), 3)
    assert np.all(np.diff(w.s) <= 0) and np.all(w.s > 0)
    z = manifold.random_tangent_vector(w)
    assert abs(w.u.T @ z.up).max() + abs(w.vt @ z.vp).max() < 100 * EPS
    same = FixedRank(7, 5, 3, metric, rng=np.random.default_rng(5)).random_point()
    np.testing.assert_array_equal(same.u, w.u)  # seeded
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    manifold.random_point()
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002  # pymanopt's draws from there


def test_points_are_pymanopts_triples(rng):
    manifold = FixedRank(6, 5, 2, rng=rng)
    w = manifold.random_point()
    u, s, vt = w
    assert (u.shape, s.shape, vt.shape) == ((6, 2), (2,), (2, 5))
    z = unit(manifold, w)
    for other in (w, (u, s, vt), [u, s, vt]):
        np.testing.assert_array_equal(manifold.retraction(other, tuple(z)).s, manifold.retraction(w, z).s)


# ---------------------------------------------------------------------------------------------------------------------
# retractions


@pytest.mark.parametrize("case", STARTS)
def test_truncated_step_is_the_best_approximation(case, rng):
    w = case.draw(rng)
    manifold = manifold_at(w, None, rng)
    z = 0.3 * unit(manifold, w)
    u, s, vt = np.linalg.svd(w.to_dense() + z.at(w).to_dense())
    k = w.rank
    got = manifold.retraction(w, z)
    np.testing.assert_allclose(got.s, s[:k], rtol=0, atol=100 * EPS * s[0])
    if case.s != (1.0, 0.1, 3e-9):  # there the r-th and the next are close: the frames are not determined
        np.testing.assert_allclose(got.to_dense(), (u[:, :k] * s[:k]) @ vt[:k], rtol=0, atol=1e4 * EPS)


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("case", STARTS)
def test_product_retraction_is_a_step_of_the_factors(case, depth, rng):
    """Claim 26: R(Z) = prod_j (W_j + lift_j), a polynomial in Z, multiplied out on dense factors."""
    w = case.draw(rng)
    manifold = manifold_at(w, lrf.DepthMetric(depth), rng, retraction="product")
    p = lrf.project(w, rng.standard_normal(w.shape) / 10)
    z = lrf.DepthMetric(depth).coefficients(w.s).apply(p)
    root, dense = w.s ** (1 / depth), p.at(w).to_dense()
    frames = [w.vt.T, *[np.eye(w.rank)] * (depth - 1), w.u]
    factors = [(b * root) @ a.T for a, b in pairwise(frames)]
    moved = []
    for j in range(depth):
        left, right = sides(factors, j)
        moved.append(factors[j] + left.T @ dense @ right.T)
    got = manifold.retraction(w, z).to_dense()
    np.testing.assert_allclose(got, chain(moved), rtol=0, atol=1000 * EPS)
    other = manifold_at(w, lrf.DepthMetric(depth), rng).retraction(w, z).to_dense()
    assert np.abs(other - chain(moved)).max() > 1e-8 * np.linalg.norm(dense)  # control: the truncated SVD


@pytest.mark.parametrize("kind", ["svd", "product", "geodesic"])
@pytest.mark.parametrize("small", [1.0, 1e-8, 1e-15, 0.0])
def test_frames_stay_orthonormal_on_ill_conditioned_tangents(kind, small, rng):
    """To 1e-14, where columns of the tangent vector nearly vanish or depend on each other, and a singular value too."""
    m, n, r = 60, 40, 5
    metric = lrf.DepthMetric(3)
    manifold = FixedRank(m, n, r, metric, rng=rng, retraction=kind)
    w = manifold.random_point()
    z = unit(manifold, w)
    scale = np.array([1.0, 1.0, small, small, small])
    z = lrf.Tangent(z.up * scale, z.core, z.vp * scale)
    z.up[:, 1] = z.up[:, 0]
    if kind == "svd":
        z.core[:] = np.diag(np.where(scale < 1, -w.s, 0.0))
    got = manifold.retraction(w, z)
    assert np.linalg.norm(got.u.T @ got.u - np.eye(r)) < 1e-14
    assert np.linalg.norm(got.vt @ got.vt.T - np.eye(r)) < 1e-14


@pytest.mark.parametrize("kind", ["svd", "product"])
def test_a_step_to_lower_rank_stays_on_the_manifold(kind, rng):
    """W + Z of rank one: the other singular value is kept at roundoff, where the metric is still defined."""
    w = lrf.LowRankMatrix(np.eye(4)[:, :2], [1.0, 0.5], np.eye(2, 3))
    metric = lrf.DepthMetric(2)
    manifold = FixedRank(4, 3, 2, metric, retraction=kind)
    # at depth 2 the product (l + l c)(l + c l) vanishes where c = -1
    core = np.diag([0.0, -0.5 if kind == "svd" else -1.0])
    z = lrf.Tangent(np.zeros((4, 2)), core, np.zeros((3, 2)))
    y = manifold.retraction(w, z)
    assert 0 < y.s.min() < 1e-14 and abs(y.s.max() - 1) < 1e-14
    assert np.isfinite(manifold.norm(y, manifold.transport(w, y, z)))


def test_pymanopts_retraction_loses_orthogonality(rng):
    """Control of the test above."""
    theirs = FixedRankEmbedded(60, 40, 5)
    w = lrf.random_point(60, 40, 5, rng=rng)
    z = lrf.project(w, rng.standard_normal((60, 40)))
    scale = np.array([1.0, 1.0, 0.0, 0.0, 0.0])
    z = lrf.Tangent(z.up * scale, np.diag(np.where(scale < 1, -w.s, 0.0)), z.vp * scale)
    z.up[:, 1] = z.up[:, 0]
    u, _, _ = theirs.retraction(tuple(w), z)
    assert np.linalg.norm(u.T @ u - np.eye(5)) > 1e-8


@pytest.mark.parametrize("metric", SMOOTH)
def test_second_order_retraction(metric, rng):
    """Along it, f agrees with its Riemannian quadratic model to order 3; along one of first order only to order 2."""
    loss, w = least_squares(6, 5, rng), Start(6, 5, (1.2, 0.9, 0.5)).draw(rng)
    manifold = manifold_at(w, metric, rng)
    problem = manifold.problem(loss)
    z = unit(manifold, w)
    steps = 0.005 * 2.0 ** -np.arange(6)

    def slope(step):
        linear = manifold.inner_product(w, problem.riemannian_gradient(w), z)
        curved = manifold.inner_product(w, problem.riemannian_hessian(w, z), z)
        model = [problem.cost(w) + h * linear + 0.5 * h * h * curved for h in steps]
        return fitted_slope(steps, [abs(loss.value(step(w, h * z)) - q) for h, q in zip(steps, model, strict=True)])

    assert abs(slope(manifold.second_order()) - 3) < 0.15
    if not isinstance(metric, lrf.EmbeddedMetric):
        assert slope(manifold.retraction) < 2.3  # control: the truncated SVD is not of second order for this metric


# ---------------------------------------------------------------------------------------------------------------------
# derivatives through automatic differentiation


def fit_cost(manifold, x, y):
    @pymanopt.function.autograd(manifold)
    def cost(u, s, vt):
        return 0.5 * anp.sum(((u * s) @ (vt @ x) - y) ** 2)

    return cost


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", STARTS)
def test_autograd_gradient_and_hessian(metric, case, rng):
    """From derivatives in (u, s, vt) as from those in W: ties included, where pymanopt divides by zero."""
    w = case.draw(rng)
    x, y = rng.standard_normal((case.n, 12)), rng.standard_normal((case.m, 12))
    manifold = manifold_at(w, metric, rng)
    traced = pymanopt.Problem(manifold, fit_cost(manifold, x, y))
    ours = manifold.problem(lrf.losses.LeastSquares(x, y))
    a, b = traced.riemannian_gradient(w), ours.riemannian_gradient(w)
    # du = G V S is divided by S again, each time to roundoff of its own terms
    assert (a - b).norm() < 1e4 * EPS * b.norm()
    if hasattr(metric, "differences"):
        p = lrf.project(w, rng.standard_normal(w.shape))
        z = metric.coefficients(w.s).apply(p)
        a, b = traced.riemannian_hessian(w, z), ours.riemannian_hessian(w, z)
        assert (a - b).norm() < 1e5 * EPS * b.norm() / min(1.0, min(case.s) / max(case.s)) ** 0.5


def test_pymanopts_gradient_is_nan_at_ties(rng):
    """Control: what is overridden, and why."""
    w = Start(6, 5, (1.0, 1.0, 0.5)).draw(rng)
    x, y = rng.standard_normal((5, 12)), rng.standard_normal((6, 12))
    theirs = FixedRankEmbedded(6, 5, 3)
    with np.errstate(all="ignore"):
        core = pymanopt.Problem(theirs, fit_cost(theirs, x, y)).riemannian_gradient(tuple(w)).M
    ours = FixedRank(6, 5, 3)
    right = pymanopt.Problem(ours, fit_cost(ours, x, y)).riemannian_gradient(w).core
    assert not np.linalg.norm(core - right) < 1e-3 * np.linalg.norm(right)


def test_a_cost_that_is_no_function_of_the_matrix_is_refused(rng):
    manifold = FixedRank(5, 4, 2, rng=rng)

    @pymanopt.function.autograd(manifold)
    def cost(u, s, vt):
        return anp.sum(u[0] ** 2) + anp.sum((u * s) @ vt)

    with pytest.raises(ValueError, match=r"^`cost` must be computed from the product .* contradict each other"):
        pymanopt.Problem(manifold, cost).riemannian_gradient(manifold.random_point())


# ---------------------------------------------------------------------------------------------------------------------
# optimizers


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("optimizer", [SteepestDescent, ConjugateGradient, TrustRegions])
def test_optimizers_reach_the_best_matrix(metric, optimizer, rng):
    m, n, r = 9, 7, 2
    x = np.linalg.qr(rng.standard_normal((40, n)))[0].T * np.sqrt(40)  # inputs of condition 1, gaps of order one
    y = lrf.random_point(m, n, 4, rng=rng, singular_values=[2.0, 1.4, 0.6, 0.3]).to_dense() @ x
    loss = lrf.losses.LeastSquares(x, y, reduction="mean")
    start = lrf.random_point(m, n, r, rng=rng, singular_values=np.full(r, 0.5))
    problem = FixedRank(m, n, r, metric).problem(loss)
    run = optimizer(**QUIET, min_gradient_norm=1e-7)
    if optimizer is TrustRegions and not hasattr(metric, "differences"):
        with pytest.raises(TypeError, match=r"must have differences\(s\)"):
            run.run(problem, initial_point=start)
        return
    result = problem.run(run, start)
    assert isinstance(result.point, lrf.LowRankMatrix)
    # quadratic in the gradient: 1e-14 over curvatures above 1e-3, and roundoff of the value
    assert abs(result.cost - loss.best_value(r)) < 1e-9
    assert problem.log[-1].cost == result.cost
    assert problem.log[-1].gradient_norm < 1e-6


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("start", ["identity", "orthogonal"])
def test_identity_and_orthogonal_starts_run_without_nan(metric, start, rng):
    n = 6
    q = np.eye(n) if start == "identity" else np.linalg.qr(rng.standard_normal((n, n)))[0]
    for rank in (3, n):
        w = lrf.LowRankMatrix(q[:, :rank], np.ones(rank), np.eye(n)[:rank])
        loss = completion(n, n, rng)
        manifold = FixedRank(n, n, rank, metric)
        result = ConjugateGradient(verbosity=0, max_iterations=30).run(manifold.problem(loss), initial_point=w)
        assert np.isfinite(result.cost) and result.cost < 0.5 * loss.value(w)
        assert all(np.isfinite(part).all() for part in result.point)


@pytest.mark.parametrize("metric", [lrf.DepthMetric(2.5), lrf.metrics.R3MCMetric()], ids=["depth 2.5", "r3mc"])
def test_newton_converges_quadratically(metric, rng):
    """TrustRegions with the exact Hessian: the last gradients fall like their square; with that of another depth not."""
    m, n, r = 8, 6, 2
    loss = lrf.losses.LeastSquares(rng.standard_normal((n, 30)), rng.standard_normal((m, 30)), reduction="mean")
    start = lrf.random_point(m, n, r, rng=rng, singular_values=np.full(r, 0.5))
    manifold = FixedRank(m, n, r, metric)

    def run(problem):
        optimizer = TrustRegions(verbosity=0, min_gradient_norm=1e-13, max_iterations=60, kappa=1e-3)
        optimizer.run(problem, initial_point=start)
        g = np.array([line.gradient_norm for line in problem.log])
        return g[(g < 1e-2) & (g > 1e-13)]

    problem = manifold.problem(loss)
    assert run(problem).size <= 4  # 1e-2 -> 1e-4 -> 1e-8 -> 1e-16
    assert problem.log[-1].gradient_norm < 1e-13
    problem = manifold.problem(loss)
    flat = FixedRank(m, n, r, lrf.metrics.ScaledGDMetric()).problem(loss)
    type(problem).riemannian_hessian.fget(problem)  # the property itself is there

    class Wrong(type(problem)):
        @property
        def riemannian_hessian(self):
            inner = flat.riemannian_hessian
            return lambda w, z: 0.5 * inner(w, z)

    problem.__class__ = Wrong
    assert run(problem).size > 6  # control


def test_other_optimizers_say_what_they_need(rng):
    loss = completion(6, 5, rng)
    problem = FixedRank(6, 5, 2, lrf.DepthMetric(3), rng=rng).problem(loss)
    with pytest.raises(NotImplementedError, match="is known in closed form for"):
        NelderMead(verbosity=0, max_iterations=3).run(problem)


def test_nelder_mead_runs_where_geodesics_are_known(rng):
    target = lrf.random_point(4, 4, 2, rng=rng, symmetric=True).to_dense()

    class Distance:
        shape = (4, 4)

        def value(self, w):
            return 0.5 * float(np.sum((w.to_dense() - target) ** 2))

        def gradient(self, w):
            return w.to_dense() - target

    problem = PositiveSemidefinite(4, 2, rng=rng).problem(Distance())
    result = NelderMead(verbosity=0, max_iterations=12).run(problem)
    assert result.cost < 0.5 * np.sum(target**2)  # below that of zero: it moved, along geodesics


def test_positive_semidefinite_matrices(rng):
    """The best approximation of a symmetric matrix by its leading eigenvalues, by all three optimizers."""
    a = rng.standard_normal((7, 7))
    target = a @ a.T / 7
    skew = a - a.T  # the loss sees only the symmetric part

    class Fit:
        shape = (7, 7)

        def value(self, w):
            return 0.5 * float(np.sum((w.to_dense() - target - skew) ** 2))

        def gradient(self, w):
            return w.to_dense() - target - skew

        def hessian(self, w, z):
            return z.to_dense()

    best = 0.5 * np.sum(np.linalg.eigvalsh(target)[:5] ** 2) + 0.5 * np.sum(skew**2)
    manifold = PositiveSemidefinite(7, 2, rng=rng)
    for optimizer in (SteepestDescent, ConjugateGradient, TrustRegions):
        result = optimizer(**QUIET).run(manifold.problem(Fit()), initial_point=manifold.random_point())
        assert abs(result.cost - best) < 1e-10 * best
        np.testing.assert_array_equal(result.point.u, result.point.vt.T)


# ---------------------------------------------------------------------------------------------------------------------
# the log and the callback


def test_log_is_complete_and_counts(rng):
    loss, start = completion(8, 7, rng), lrf.random_point(8, 7, 2, rng=rng)
    calls = {"value": 0, "gradient": 0}

    class Counting:
        shape = loss.shape

        def value(self, w):
            calls["value"] += 1
            return loss.value(w)

        def gradient(self, w):
            calls["gradient"] += 1
            return loss.gradient(w)

    seen = []
    problem = FixedRank(8, 7, 2).problem(Counting(), callback=seen.append, keep_points=True)
    result = ConjugateGradient(verbosity=0, max_iterations=20, log_verbosity=1).run(problem, initial_point=start)
    log = problem.log
    assert seen == log and len(log) == result.iterations
    assert log[-1].point is result.point and log[-1].cost == result.cost
    assert log[-1].gradient_evaluations == calls["gradient"] == len(log)
    assert log[-1].cost_evaluations >= calls["value"]  # a point that was not left is not evaluated again
    costs = [line.cost for line in log]
    assert costs == sorted(costs, reverse=True)
    for line in log[:3]:
        w = line.point
        want = np.linalg.norm(tangent_projection(w, loss.gradient(w).toarray()))
        assert abs(line.projected_gradient - want) < 1e-12 * want
        np.testing.assert_allclose(line.singular_values, np.linalg.svd(w.to_dense())[1][:2], rtol=1e-12)
    times = [line.time for line in log]
    assert times == sorted(times)


def test_what_was_computed_before_an_interruption_is_kept(rng):
    loss, start = completion(8, 7, rng), lrf.random_point(8, 7, 2, rng=rng)

    def stop(line):
        if line.gradient_evaluations == 5:
            raise KeyboardInterrupt

    problem = FixedRank(8, 7, 2).problem(loss, callback=stop, keep_points=True)
    with pytest.raises(KeyboardInterrupt):
        ConjugateGradient(verbosity=0).run(problem, initial_point=start)
    assert len(problem.log) == 5 and problem.log[-1].point is not None


def test_value_and_gradient_are_shared(rng):
    loss, start = completion(8, 7, rng), lrf.random_point(8, 7, 2, rng=rng)
    calls = []

    class Sharing:
        shape = loss.shape

        def value(self, w):
            raise AssertionError("value alone")

        def gradient(self, w):
            raise AssertionError("gradient alone")

        def value_and_gradient(self, w):
            calls.append(w)
            return loss.value_and_gradient(w)

    problem = FixedRank(8, 7, 2).problem(Sharing())
    ConjugateGradient(verbosity=0, max_iterations=5).run(problem, initial_point=start)
    assert len(calls) == len({id(w) for w in calls}) <= problem.log[-1].cost_evaluations


def test_nothing_of_the_size_of_the_matrix_is_formed(rng):
    """A step of everything at 3000 x 2500: m n doubles are 60 MB, the frames at rank 4 are 0.2 MB."""
    m, n, r = 3000, 2500, 4
    rows, cols = np.divmod(np.unique(rng.integers(0, m * n, 40_000)), n)
    loss = lrf.losses.Completion(rows, cols, rng.standard_normal(rows.size), (m, n))
    manifold = FixedRank(m, n, r, lrf.DepthMetric(3), rng=rng)
    problem, w = manifold.problem(loss), manifold.random_point()
    tracemalloc.start()
    z = problem.riemannian_gradient(w)
    z = problem.riemannian_hessian(w, z / manifold.norm(w, z))
    for kind in ("svd", "product", "geodesic"):
        y = FixedRank(m, n, r, lrf.DepthMetric(3), retraction=kind).retraction(w, z)
        manifold.transport(w, y, z)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # 20 m r doubles are 2 MB, the sparse gradient and Hessian 1.3 MB


def test_autograd_on_positive_semidefinite_matrices_with_a_gradient_that_is_not_symmetric(rng):
    """The Hessian is taken from derivatives of the cost as it stands; only the result is symmetrised."""
    weights, target = rng.standard_normal((2, 6, 6))
    manifold = PositiveSemidefinite(6, 2, rng=rng)

    @pymanopt.function.autograd(manifold)
    def cost(u, s, vt):
        w = (u * s) @ vt
        return 0.5 * anp.sum(weights**2 * (w - target) ** 2) + 0.1 * anp.sum(w**3 * target)

    dense = lrf.losses.from_function(
        lambda w: 0.5 * anp.sum(weights**2 * (w - target) ** 2) + 0.1 * anp.sum(w**3 * target), (6, 6)
    )
    w = manifold.random_point()
    z = manifold.random_tangent_vector(w)
    traced, ours = pymanopt.Problem(manifold, cost), manifold.problem(dense)
    for a, b in (
        (traced.riemannian_gradient(w), ours.riemannian_gradient(w)),
        (traced.riemannian_hessian(w, z), ours.riemannian_hessian(w, z)),
    ):
        assert (a - b).norm() < 1e4 * EPS * b.norm()


@pytest.mark.parametrize("metric", [lrf.EmbeddedMetric(), lrf.DepthMetric(3)], ids=["embedded", "depth 3"])
@pytest.mark.parametrize("weight", [0.0, 1.0], ids=["s alone", "s beside the product"])
def test_costs_that_use_singular_values_have_their_gradient(metric, weight, rng):
    """Against differences along the retraction; a Hessian, which would need more, is refused."""
    manifold, target = FixedRank(5, 4, 2, metric, rng=rng), rng.standard_normal((5, 4))

    @pymanopt.function.autograd(manifold)
    def cost(u, s, vt):
        return weight * anp.sum(((u * s) @ vt - target) ** 2) + anp.sum(anp.array([1.0, 0.3]) * s**3)

    problem = pymanopt.Problem(manifold, cost)
    w = manifold.random_point()
    z, gradient = manifold.random_tangent_vector(w), problem.riemannian_gradient(w)
    h = 1e-5  # the third derivative times h^2, and roundoff over h: 1e-10
    slope = (problem.cost(manifold.retraction(w, h * z)) - problem.cost(manifold.retraction(w, -h * z))) / (2 * h)
    assert abs(manifold.inner_product(w, gradient, z) - slope) < 1e-7 * manifold.norm(w, gradient)
    with pytest.raises(ValueError, match=r"^`cost` must be computed from the product .* alone for a Hessian"):
        problem.riemannian_hessian(w, z)


def test_a_core_at_roundoff_is_no_contradiction(rng):
    """Where the r x r block of the gradient has vanished and the frames have not, nothing is wrong (warnings are errors)."""
    w = lrf.random_point(8, 7, 3, rng=rng, singular_values=[1.0, 0.5, 0.3])
    manifold, noise = FixedRank(8, 7, 3, lrf.DepthMetric(3)), rng.standard_normal((8, 7))
    target = w.to_dense() + noise - w.u @ (w.u.T @ noise)

    @pymanopt.function.autograd(manifold)
    def cost(u, s, vt):
        return 0.5 * anp.sum(((u * s) @ vt - target) ** 2)

    z = pymanopt.Problem(manifold, cost).riemannian_gradient(w)
    assert np.linalg.norm(z.core) < 1e-13 and np.linalg.norm(z.up) > 0.1


@pytest.mark.parametrize("optimizer", [pymanopt.optimizers.SteepestDescent, pymanopt.optimizers.ConjugateGradient])
def test_a_product_of_manifolds_is_minimised(optimizer, rng):
    """Its parts are independent: each ends at its own minimum, from a point that pymanopt draws."""
    target = rng.standard_normal((5, 4))
    manifold = pymanopt.manifolds.Product([FixedRank(5, 4, 2, rng=rng), pymanopt.manifolds.Euclidean(3)])

    @pymanopt.function.autograd(manifold)
    def cost(u, s, vt, x):
        return anp.sum(((u * s) @ vt - target) ** 2) + anp.sum((x - 1.0) ** 2)

    start = [manifold.manifolds[0].random_point(), rng.standard_normal(3)]
    end = optimizer(verbosity=0, max_iterations=300).run(pymanopt.Problem(manifold, cost), initial_point=start)
    best = np.linalg.svd(target, compute_uv=False)[2:] ** 2  # what rank 2 cannot have
    assert abs(end.cost - best.sum()) < 1e-6 * np.sum(target**2)  # both stop at gradients of 1e-6
    w, x = end.point
    assert len(w) == 3 and w[0].shape == (5, 2) and w[1] is w.s and np.allclose(x, 1, atol=1e-3)


@pytest.mark.parametrize("optimizer", [pymanopt.optimizers.NelderMead, pymanopt.optimizers.ParticleSwarm])
def test_optimizers_that_need_distances_say_so(optimizer, rng):
    problem = FixedRank(5, 4, 2, rng=rng).problem(lrf.losses.LeastSquares(np.eye(4), rng.standard_normal((5, 4))))
    with pytest.raises(NotImplementedError, match="NelderMead and ParticleSwarm need it; use TrustRegions"):
        optimizer(verbosity=0).run(problem)
