"""What a user of pymanopt would write: its seventeen laws of fixed-rank matrices, products, and its own manifolds."""

import re
from pathlib import Path

import autograd.numpy as anp
import numpy as np
import pymanopt
import pytest
from oracles import EPS, tangent_projection
from pymanopt import manifolds
from pymanopt.manifolds import FixedRankEmbedded
from pymanopt.optimizers import ConjugateGradient, SteepestDescent, TrustRegions

import lowrankflow as lrf
from lowrankflow.pymanopt_manifold import FixedRank, PositiveSemidefinite, Product

PAGE = (Path(__file__).parents[1] / "docs" / "pymanopt.md").read_text(encoding="utf-8")

# ---------------------------------------------------------------------------------------------------------------------
# the seventeen of pymanopt 2.2.1, in its order: as a user of FixedRankEmbedded writes them where nothing is named

M, N, K = 10, 5, 3
EMBEDDING, PRIVATE, POINTS, COSTS = "`ambient`", "`@`", "points alone", "costs of W"
LAWS = {}


def law(difference=""):
    def enter(function):
        LAWS[function.__name__] = (function, difference)
        return function

    return enter


def dense(x, z):
    return x[0] @ z[1] @ x[2] + z[0] @ x[2] + x[0] @ z[2].T


@law()
def dim(ours, theirs, rng):
    assert ours.dim == theirs.dim == (M + N - K) * K


@law()
def typical_dist(ours, theirs, rng):
    assert ours.typical_dist == theirs.typical_dist == ours.dim


@law(POINTS)
def dist(ours, theirs, rng):
    x, y = ours.random_point(), ours.random_point()
    for manifold in (ours, theirs):
        with pytest.raises(NotImplementedError):
            manifold.dist(x, y)


@law()
def inner_product(ours, theirs, rng):
    x = ours.random_point()
    a, b = ours.random_tangent_vector(x), ours.random_tangent_vector(x)
    found = ours.inner_product(x, a, b)
    assert abs(found - np.sum(dense(x, a) * dense(x, b))) < 100 * EPS
    assert abs(found - theirs.inner_product(x, a, b)) < 100 * EPS


@law()
def proj_range(ours, theirs, rng):
    x = ours.random_point()
    z = ours.projection(x, rng.standard_normal((M, N)))
    assert np.abs(z[0].T @ x[0]).max() < 100 * EPS and np.abs(z[2].T @ x[2].T).max() < 100 * EPS


@law(EMBEDDING)
def projection(ours, theirs, rng):
    x, v = ours.random_point(), rng.standard_normal((M, N))
    z = ours.projection(x, v)
    for part, other in zip(z, theirs.projection(x, v), strict=True):
        np.testing.assert_allclose(part, other, rtol=0, atol=100 * EPS)
    moved = z + 0.01 * ours.random_tangent_vector(x)
    assert np.linalg.norm(ours.ambient(x, z).to_dense() - v) < np.linalg.norm(ours.ambient(x, moved).to_dense() - v)


@law(EMBEDDING)
def proj_tangents(ours, theirs, rng):
    x = ours.random_point()
    z = ours.random_tangent_vector(x)
    again = ours.projection(x, ours.ambient(x, z))
    for part, other in zip(again, z, strict=True):
        np.testing.assert_allclose(part, other, rtol=0, atol=100 * EPS)


@law()
def norm(ours, theirs, rng):
    x = ours.random_point()
    z = ours.random_tangent_vector(x)
    assert abs(ours.norm(x, z) - np.sqrt(ours.inner_product(x, z, z))) < 10 * EPS
    assert abs(ours.norm(x, z) - theirs.norm(x, z)) < 10 * EPS


@law()
def random_point(ours, theirs, rng):
    x, y = ours.random_point(), ours.random_point()
    assert [np.shape(part) for part in x] == [(M, K), (K,), (K, N)] == [np.shape(x[i]) for i in range(len(x))]
    assert np.abs(x[0].T @ x[0] - np.eye(K)).max() < 100 * EPS and np.abs(x[2] @ x[2].T - np.eye(K)).max() < 100 * EPS
    assert all(np.linalg.norm(a - b) > 1e-6 for a, b in zip(x, y, strict=True))


@law(EMBEDDING)
def transport(ours, theirs, rng):
    x, y = ours.random_point(), ours.random_point()
    z = ours.random_tangent_vector(x)
    moved = ours.transport(x, y, z)
    difference = [a - b for a, b in zip(moved, ours.projection(y, ours.ambient(x, z)), strict=True)]
    assert ours.norm(y, difference) < 100 * EPS
    np.testing.assert_allclose(dense(y, moved), tangent_projection(y, dense(x, z)), rtol=0, atol=100 * EPS)


@law(PRIVATE)
def apply_ambient(ours, theirs, rng):
    z, w = rng.standard_normal((M, N)), rng.standard_normal((N, N))
    u, s, vt = np.linalg.svd(z, full_matrices=False)
    np.testing.assert_allclose(lrf.Product(u * s, vt) @ w, z @ w, rtol=0, atol=100 * EPS * np.linalg.norm(z))


@law(PRIVATE)
def apply_ambient_transpose(ours, theirs, rng):
    z, w = rng.standard_normal((N, M)), rng.standard_normal((N, N))
    u, s, vt = np.linalg.svd(z, full_matrices=False)
    np.testing.assert_allclose(lrf.Product(u * s, vt).T @ w, z.T @ w, rtol=0, atol=100 * EPS * np.linalg.norm(z))


@law(EMBEDDING)
def embedding(ours, theirs, rng):
    x = ours.random_point()
    z = ours.random_tangent_vector(x)
    np.testing.assert_allclose(ours.ambient(x, z).to_dense(), dense(x, z), rtol=0, atol=100 * EPS)
    # what is called so moves (u, s, vt), and the product along z: a difference quotient, h^2 of the third derivative
    h, du = 1e-5, ours.embedding(x, z)
    (u, s, vt), (v, t, wt) = ([p + c * h * d for p, d in zip(x, du, strict=True)] for c in (1, -1))
    np.testing.assert_allclose(((u * s) @ vt - (v * t) @ wt) / (2 * h), dense(x, z), rtol=0, atol=1e-9)


@law()
def euclidean_to_riemannian_hessian(ours, theirs, rng):
    """Which pymanopt leaves out: from derivatives in (u, s, vt), it is that of the loss."""
    target = rng.standard_normal((M, N))
    loss = lrf.losses.LeastSquares(np.eye(N), target)

    @pymanopt.function.autograd(ours)
    def cost(u, s, vt):
        return 0.5 * anp.sum(((u * s) @ vt - target) ** 2)

    x = ours.random_point()
    z = ours.random_tangent_vector(x)
    found, want = (p.riemannian_hessian(x, z) for p in (pymanopt.Problem(ours, cost), ours.problem(loss)))
    assert (found - want).norm() < 1e4 * EPS * want.norm()
    with pytest.raises((NotImplementedError, ValueError, IndexError)):
        pymanopt.Problem(theirs, cost).riemannian_hessian(x, type(theirs.zero_vector(x))(*z))


@law(EMBEDDING)
def retraction(ours, theirs, rng):
    x = ours.random_point()
    z = ours.random_tangent_vector(x)
    y = ours.retraction(x, z)
    assert np.abs(y[0].T @ y[0] - np.eye(K)).max() < 100 * EPS and np.abs(y[2] @ y[2].T - np.eye(K)).max() < 100 * EPS
    other = theirs.retraction(x, z)
    np.testing.assert_allclose((y[0] * y[1]) @ y[2], (other[0] * other[1]) @ other[2], rtol=0, atol=1000 * EPS)
    y = ours.retraction(x, z * 1e-6)
    end = (x[0] * x[1]) @ x[2] + 1e-6 * ours.ambient(x, z).to_dense()
    np.testing.assert_allclose((y[0] * y[1]) @ y[2], end, rtol=0, atol=1e-11)  # second order: 1e-12 |Z|^2 / s_r


@law(COSTS)
def euclidean_to_riemannian_gradient(ours, theirs, rng):
    x, g = ours.random_point(), rng.standard_normal((M, N))
    u, s, vt = x
    du, ds, dvt = (g @ vt.T) * s, np.diag(u.T @ g @ vt.T), s[:, None] * (u.T @ g)
    found = ours.euclidean_to_riemannian_gradient(x, (du, ds, dvt))
    np.testing.assert_allclose(dense(x, found), tangent_projection(x, g), rtol=0, atol=100 * EPS * np.linalg.norm(g))
    gap = np.abs(s[:, None] ** 2 - s**2 + np.eye(K)).min()  # theirs divides by it
    for part, other in zip(found, theirs.euclidean_to_riemannian_gradient(x, (du, ds, dvt)), strict=True):
        np.testing.assert_allclose(part, other, rtol=0, atol=100 * EPS * np.linalg.norm(g) / gap)
    with pytest.raises(ValueError, match="contradict each other"):
        ours.euclidean_to_riemannian_gradient(x, (rng.standard_normal((M, K)), ds, dvt))


@law()
def random_tangent_vector(ours, theirs, rng):
    x = ours.random_point()
    a, b = ours.random_tangent_vector(x), ours.random_tangent_vector(x)
    assert [np.shape(part) for part in a] == [(M, K), (K, K), (N, K)]
    assert np.abs(a[0].T @ x[0]).max() < 100 * EPS and np.abs(a[2].T @ x[2].T).max() < 100 * EPS
    assert abs(ours.norm(x, a) - 1) < 10 * EPS and ours.norm(x, a - b) > 1e-6


@pytest.mark.parametrize("name", LAWS)
def test_the_seventeen_laws_of_pymanopt(name, rng):
    function, _ = LAWS[name]
    function(FixedRank(M, N, K, rng=rng), FixedRankEmbedded(M, N, K), rng)


def test_another_metric_breaks_what_is_said_of_the_embedded_one(rng):
    """Control of the laws above: under depth 3 the inner product is not that of the entries."""
    with pytest.raises(AssertionError):
        inner_product(FixedRank(M, N, K, lrf.DepthMetric(3), rng=rng), FixedRankEmbedded(M, N, K), rng)


def test_the_page_names_the_differences():
    section = PAGE.split("## Coming from FixedRankEmbedded")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", section, flags=re.MULTILINE)
    assert dict(rows) == {name: difference or "as it is" for name, (_, difference) in LAWS.items()}
    assert len(LAWS) == 17 and sum(not difference for _, difference in LAWS.values()) == 8


def test_a_low_rank_ambient_matrix_is_projected(rng):
    """(U, S, V) for U S V^T, also where S is not symmetric, which FixedRankEmbedded takes for its transpose."""
    manifold = FixedRank(M, N, K, rng=rng)
    x, (u, s, v) = manifold.random_point(), (rng.standard_normal(shape) for shape in ((M, 2), (2, 2), (N, 2)))
    for triple in ((u, s, v), [u, s, v]):
        found = manifold.projection(x, triple)
        np.testing.assert_allclose(dense(x, found), tangent_projection(x, u @ s @ v.T), rtol=0, atol=1000 * EPS)
    theirs = FixedRankEmbedded(M, N, K).projection(tuple(x), (u, s, v))
    assert np.abs(dense(x, theirs) - tangent_projection(x, u @ s @ v.T)).max() > 1e-2  # control
    with pytest.raises(TypeError, match=r"^`vector` must be a matrix, or \(u, s, v\)"):
        manifold.projection(x, (u, s))
    with pytest.raises(TypeError, match="Tangent"):
        manifold.projection(x, manifold.random_tangent_vector(x))  # whose frames are those of a point


# ---------------------------------------------------------------------------------------------------------------------
# products

BACKENDS = ["autograd", "numpy", "pytorch", "jax"]
PAIRS = {
    "embedded x Euclidean": lambda: [FixedRank(5, 4, 2, rng=0), manifolds.Euclidean(3)],
    "depth 3 x semidefinite": lambda: [FixedRank(5, 4, 2, lrf.DepthMetric(3), rng=0), PositiveSemidefinite(4, 2, rng=1)],
    "r3mc x depth 2.5": lambda: [
        FixedRank(5, 4, 2, lrf.metrics.R3MCMetric(), rng=0), FixedRank(3, 6, 1, lrf.DepthMetric(2.5), rng=1),
    ],
}  # fmt: skip


def targets_of(manifold):
    """A matrix for each part, or a vector."""
    rng = np.random.default_rng(0)
    drawn = [rng.standard_normal(part.shape if part.point_layout == 3 else 3) for part in manifold.manifolds]
    return [
        t @ t.T if getattr(part, "symmetric", False) else t for t, part in zip(drawn, manifold.manifolds, strict=True)
    ]


def coupled(manifold, backend):
    """Squared distances to the targets and a term that couples both parts, as a problem in a backend of pymanopt."""
    xp = {"autograd": anp, "numpy": np}.get(backend)
    if xp is None:
        name = {"pytorch": "torch", "jax": "jax.numpy"}[backend]
        xp = pytest.importorskip(name)
    first, targets = manifold.manifolds[0].point_layout, targets_of(manifold)
    targets = targets if backend in ("autograd", "numpy") else [xp.asarray(t) for t in targets]

    def make(xp):
        def cost(*args):
            w = [(p[0] * p[1]) @ p[2] if len(p) == 3 else p[0] for p in (args[:first], args[first:])]
            return sum(xp.sum((a - t) ** 2) for a, t in zip(w, targets, strict=True)) + 0.05 * xp.sum(w[0]) * xp.sum(w[1])

        return cost

    if backend != "numpy":
        return pymanopt.Problem(manifold, getattr(pymanopt.function, backend)(manifold)(make(xp)))
    traced, wrap = pymanopt.function.autograd(manifold)(make(anp)), pymanopt.function.numpy(manifold)
    gradient, hessian = traced.get_gradient_operator(), traced.get_hessian_operator()
    return pymanopt.Problem(
        manifold, wrap(make(np)),
        euclidean_gradient=wrap(lambda *x: gradient(*x)), euclidean_hessian=wrap(lambda *x: hessian(*x)),
    )  # fmt: skip


def stationarity(manifold, point, coupling=0.05):
    """The tangent part of the gradient in each part of a point, on dense matrices."""
    w = [(x[0] * x[1]) @ x[2] if part.point_layout == 3 else x for part, x in zip(manifold.manifolds, point, strict=True)]
    total, found = [np.sum(x) for x in w[::-1]], []
    for part, x, a, t, other in zip(manifold.manifolds, point, w, targets_of(manifold), total, strict=True):
        g = 2 * (a - t) + coupling * other
        g = (g + g.T) / 2 if getattr(part, "symmetric", False) else g
        found.append(np.linalg.norm(tangent_projection(x, g) if part.point_layout == 3 else g))
    return max(found)


def starts_of(manifold, rng):
    """A start of pymanopt's points, of ours, and of plain arrays."""
    points = [part.random_point() if part.point_layout == 3 else rng.standard_normal(3) for part in manifold.manifolds]
    ours = [lrf.LowRankMatrix(*x) if isinstance(x, lrf.LowRankMatrix) else x for x in points]
    return points, ours, [tuple(x) if isinstance(x, lrf.LowRankMatrix) else x for x in points]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_optimizer_runs_on_a_product(backend, pair, rng):
    """All three end at one cost, at a point where both parts are stationary; TrustRegions in few steps, at roundoff."""
    manifold = Product(PAIRS[pair]())
    problem, ends = coupled(manifold, backend), []
    optimizers = SteepestDescent, ConjugateGradient, TrustRegions
    for optimizer, start in zip(optimizers, starts_of(manifold, rng), strict=True):
        run = optimizer(verbosity=0, max_iterations=150, min_gradient_norm=1e-7, min_step_size=1e-14)
        ends.append(run.run(problem, initial_point=start))
    assert ends[-1].iterations < 30
    assert stationarity(manifold, ends[-1].point) < 1e-6  # 1e-7 in the norm of the metric
    assert stationarity(manifold, ends[-1].point, coupling=0.0) > 1e-2  # control: the parts by themselves
    costs = np.array([float(end.cost) for end in ends])
    assert np.ptp(costs) < 1e-5 * abs(costs[-1])  # SteepestDescent has 150 steps


@pytest.mark.parametrize("backend", BACKENDS[:2])
def test_pymanopts_own_product_does_not_embed_tangent_vectors(backend, rng):
    """Its own mistake, and why there is a Product of ours: SteepestDescent runs, a Hessian is an error inside the backend."""
    problem = coupled(manifolds.Product(PAIRS["embedded x Euclidean"]()), backend)
    start = starts_of(problem.manifold, rng)[0]
    assert SteepestDescent(verbosity=0, max_iterations=3).run(problem, initial_point=start).cost < problem.cost(start)
    with pytest.raises((IndexError, ValueError)):
        TrustRegions(verbosity=0).run(problem, initial_point=start)
    report = lrf.check_manifold(problem.manifold, problem, point=start)
    assert report.passed and "Hessian" not in [c.name for c in report]


def test_the_hessian_on_pymanopts_product_is_wrong(rng):
    """With manifolds of its own alone: the rotations, whose `embedding` is no identity. Against differences along exp."""
    a = rng.standard_normal((3, 3))
    parts = [manifolds.SpecialOrthogonalGroup(3), manifolds.Euclidean(2)]
    q = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    point = [q * np.linalg.det(q), rng.standard_normal(2)]
    skew = rng.standard_normal((3, 3))

    def gap(kind):
        manifold = kind(parts)
        cost = pymanopt.function.autograd(manifold)(lambda r, x: anp.sum((r - a) ** 2 * a) * anp.sum(x**2))
        problem = pymanopt.Problem(manifold, cost)
        z = type(manifold.zero_vector(point))([skew - skew.T, np.array([0.3, -0.4])])
        found = manifold.inner_product(point, problem.riemannian_hessian(point, z), z)
        h = 1e-3  # of order 4 by five points: h^4 and eps / h^2, 1e-9
        f = [float(problem.cost(manifold.exp(point, t * h * z))) for t in (-2, -1, 0, 1, 2)]
        want = (-f[0] + 16 * f[1] - 30 * f[2] + 16 * f[3] - f[4]) / (12 * h * h)
        return abs(found / want - 1), lrf.check_manifold(manifold, problem, point=point)

    ours, report = gap(Product)
    assert ours < 1e-7 and report.passed and report["Hessian"].verdict == "passed"
    theirs, report = gap(manifolds.Product)
    assert theirs > 1e-2 and {c.name for c in report.failed} == {"Hessian", "Hessian symmetric"}


def test_trust_regions_go_on_to_roundoff(rng):
    """There the derivatives in u and in vt are roundoff, and contradict each other: that is no fault of the cost."""
    manifold, target = FixedRank(5, 4, 2, rng=rng), rng.standard_normal((5, 4))
    cost = pymanopt.function.autograd(manifold)(lambda u, s, vt: anp.sum(((u * s) @ vt - target) ** 2))
    problem = pymanopt.Problem(manifold, cost)
    end = TrustRegions(verbosity=0, min_gradient_norm=1e-13).run(problem, initial_point=manifold.random_point()).point
    assert manifold.norm(end, problem.riemannian_gradient(end)) < 1e-12
    problem.riemannian_hessian(end, manifold.random_tangent_vector(end))


# ---------------------------------------------------------------------------------------------------------------------
# pymanopt's own manifolds

A, B = np.random.default_rng(0).standard_normal((2, 5, 3))
THEIRS = {
    **{str(m): m for m in (
        manifolds.ComplexCircle(4), manifolds.Elliptope(5, 3), manifolds.Euclidean(3, 2), manifolds.ComplexEuclidean(3),
        manifolds.Symmetric(3, 2), manifolds.SkewSymmetric(3), manifolds.FixedRankEmbedded(6, 5, 2),
        manifolds.Grassmann(5, 2, k=2), manifolds.ComplexGrassmann(5, 2), manifolds.SpecialOrthogonalGroup(3),
        manifolds.UnitaryGroup(3), manifolds.PoincareBall(3, k=2), manifolds.Oblique(3, 2), manifolds.Positive(3, 2),
        manifolds.SymmetricPositiveDefinite(3), manifolds.HermitianPositiveDefinite(3),
        manifolds.SpecialHermitianPositiveDefinite(3, k=2), manifolds.PSDFixedRank(5, 2), manifolds.PSDFixedRankComplex(5, 2),
        manifolds.Sphere(5), manifolds.SphereSubspaceIntersection(A), manifolds.SphereSubspaceComplementIntersection(A[:, :2]),
        manifolds.Stiefel(5, 2), manifolds.Stiefel(5, 2, k=2, retraction="polar"),
        manifolds.Product([manifolds.Sphere(2), manifolds.Positive(1, 1)]),
        manifolds.Product([manifolds.FixedRankEmbedded(4, 3, 2), manifolds.Stiefel(4, 2)]),
    )},
}  # fmt: skip
#: mistakes of pymanopt 2.2.1, each shown below by arithmetic of its own
MISTAKES = {
    manifolds.ComplexCircle: {"exp, log, dist", "Hessian"},
    manifolds.Elliptope: {"dimension", "projection", "closest", "transport", "Hessian symmetric"},
    manifolds.UnitaryGroup: {"closest", "gradient", "Hessian"},
    manifolds.HermitianPositiveDefinite: {"dimension"},
    manifolds.SpecialHermitianPositiveDefinite: {"dimension"},
}
QUOTIENTS = ("Grassmann", "ComplexGrassmann", "PSDFixedRank", "PSDFixedRankComplex", "Elliptope")


def smooth(manifold, point):
    """A cost of several degrees, of X X^H where X stands for a class."""
    rng, kind = np.random.default_rng(1), type(manifold).__name__
    if kind == "Product":
        parts = [smooth(m, x) for m, x in zip(manifold.manifolds, point, strict=True)]
        ends = np.cumsum([m.num_values for m in manifold.manifolds])
        return lambda *x: sum(f(*x[e - m.num_values : e]) for f, e, m in zip(parts, ends, manifold.manifolds, strict=True))
    if manifold.num_values == 3:
        t = rng.standard_normal((point[0].shape[0], point[2].shape[1]))
        return lambda u, s, vt: anp.sum(((u * s) @ vt - t) ** 2 * (1 + t**2))
    if kind in QUOTIENTS:
        a = rng.standard_normal((point.shape[-2],) * 2)
        a = a + a.T

        def invariant(x):
            p = anp.matmul(x, anp.conj(anp.swapaxes(x, -1, -2)))
            return anp.real(anp.sum(a * p)) + 0.1 * anp.real(anp.sum(p * anp.conj(p) * a))

        return invariant
    t = rng.standard_normal(point.shape) + 1j * rng.standard_normal(point.shape) * np.iscomplexobj(point)
    return lambda x: anp.sum(anp.real(x) ** 2 * np.abs(t)) + 0.2 * anp.real(anp.sum(x * np.conj(t))) ** 3


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.filterwarnings("ignore:Casting complex values to real")  # by ComplexCircle.exp, see below
def test_check_manifold_on_every_manifold_of_pymanopt(name):
    """No traceback, nothing failed but what is a mistake; what a manifold does not offer is not claimed."""
    manifold = THEIRS[name]
    mistakes = MISTAKES.get(type(manifold), set())
    with np.errstate(all="raise"):  # a caller's, which does no harm
        report = lrf.check_manifold(manifold)
    assert {c.name for c in report.failed} == mistakes - {"gradient", "Hessian", "Hessian symmetric"}
    point = report_point(manifold)
    problem = pymanopt.Problem(manifold, pymanopt.function.autograd(manifold)(smooth(manifold, point)))
    report = lrf.check_manifold(manifold, problem)
    assert {c.name for c in report.failed} == mistakes
    names = {c.name for c in report}
    assert "gradient" in names
    lacks = "FixedRankEmbedded" in str(type(manifold)) or "Embedded" in name or "special Hermitian" in name
    assert ("Hessian symmetric" in names) == (not lacks)


def report_point(manifold):
    """A point, from numpy's global state, which is put back."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        return manifold.random_point()
    finally:
        np.random.set_state(state)  # noqa: NPY002


def test_complex_circle_drops_imaginary_parts(rng):
    """cos |z| x + sin |z| z / |z| has modulus one in each entry."""
    manifold, angle = manifolds.ComplexCircle(4), rng.uniform(0, 6, 4)
    x = np.exp(1j * angle)
    z = 1j * x * rng.uniform(0.1, 0.5, 4)
    right = x * np.cos(np.abs(z)) + z / np.abs(z) * np.sin(np.abs(z))
    assert np.abs(np.abs(right) - 1).max() < 10 * EPS
    with pytest.warns(np.exceptions.ComplexWarning):
        found = manifold.exp(x, z)
    assert np.abs(np.abs(found) - 1).max() > 1e-2
    np.testing.assert_allclose(found, right.real, rtol=0, atol=10 * EPS)


def test_elliptope_keeps_directions_that_do_not_move_the_matrix(rng):
    """Y Omega with a skew Omega leaves Y Y^T where it is: a horizontal projection makes nothing of it."""
    manifold = manifolds.Elliptope(5, 3)
    y = rng.standard_normal((5, 3))
    y /= np.linalg.norm(y, axis=1)[:, None]
    omega = rng.standard_normal((3, 3))
    still = y @ (omega - omega.T)
    assert np.abs(still @ y.T + y @ still.T).max() < 100 * EPS
    assert np.linalg.norm(manifold.projection(y, still)) > 1e-1 * np.linalg.norm(still)
    v = rng.standard_normal((5, 3))
    once = manifold.projection(y, v)
    assert np.linalg.norm(manifold.projection(y, once) - once) > 1e-1 * np.linalg.norm(once)


def test_unitary_group_projects_without_conjugation(rng):
    """Tangent vectors are X times skew-Hermitian matrices; (X^H V - V^H X) / 2 is one."""
    x = np.linalg.qr(rng.standard_normal((3, 3)) + 1j * rng.standard_normal((3, 3)))[0]
    v = rng.standard_normal((3, 3)) + 1j * rng.standard_normal((3, 3))
    found = manifolds.UnitaryGroup(3).projection(x, v)
    assert np.abs(found + found.conj().T).max() > 1e-1
    right = (x.conj().T @ v - v.conj().T @ x) / 2
    assert np.abs(right + right.conj().T).max() < 10 * EPS


def test_hermitian_matrices_have_n_squared_dimensions():
    n = 3
    e = np.eye(n * n).reshape(n * n, n, n)
    basis = [(x + x.T) / 2 for x in e] + [1j * (x - x.T) / 2 for x in e]
    flat = np.array([np.concatenate([b.real.ravel(), b.imag.ravel()]) for b in basis])
    assert np.linalg.matrix_rank(flat) == n**2 != manifolds.HermitianPositiveDefinite(n).dim == n * (n + 1)
    assert manifolds.SpecialHermitianPositiveDefinite(n).dim == n * (n + 1) - 1 != n**2 - 1


POINTS_ALONE = [manifolds.Grassmann(3, 3), manifolds.Sphere(1), manifolds.SpecialOrthogonalGroup(1)]


@pytest.mark.parametrize("manifold", POINTS_ALONE, ids=str)
def test_a_point_has_nothing_to_check(manifold):
    with pytest.raises(ValueError, match=r"^`manifold` must have tangent vectors, got .*, of dimension 0\.$"):
        lrf.check_manifold(manifold)


def test_a_critical_point_says_nothing_of_the_gradient(rng):
    """There the gradient is roundoff, and so is a tenth of it; a gradient of zero elsewhere is still a mistake."""
    manifold, target = FixedRank(5, 4, 2, lrf.metrics.R3MCMetric(), rng=rng), rng.standard_normal((5, 4))
    problem = manifold.problem(lrf.losses.LeastSquares(np.eye(4), target))
    end = TrustRegions(verbosity=0, min_gradient_norm=1e-12).run(problem, initial_point=manifold.random_point()).point
    report = lrf.check_manifold(manifold, problem, point=end)
    assert report.passed and report["gradient"].verdict == "not claimed" and report["Hessian"].verdict == "passed"

    class Still(type(problem)):
        @property
        def riemannian_gradient(self):
            return lambda point: self.manifold.zero_vector(point)

    problem.__class__ = Still
    assert lrf.check_manifold(manifold, problem)["gradient"].verdict == "failed"


@pytest.mark.parametrize("seed", range(3))
def test_the_seed_of_a_point_is_not_that_of_the_check(seed):
    """A point drawn from seed 0 gave, from seed 0 again, tangent vectors of its own numbers, which vanish."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    sphere = manifolds.Sphere(3)
    point = sphere.random_point()
    np.random.set_state(state)  # noqa: NPY002
    cost = pymanopt.function.autograd(sphere)(lambda x: anp.sum(x * A[0]) ** 3 + anp.sum(x**4 * B[1]))
    assert lrf.check_manifold(sphere, pymanopt.Problem(sphere, cost), point=point).passed
    w = lrf.random_point(6, 5, 2, rng=seed)
    assert lrf.check_manifold(FixedRank(6, 5, 2), point=w).passed


@pytest.mark.parametrize("kind", [manifolds.Sphere, manifolds.SymmetricPositiveDefinite], ids=lambda kind: kind.__name__)
def test_a_retraction_is_no_exponential(kind):
    """Control: of second order, its length is off by the square of the step, which the shorter step does not hide."""

    class Short(kind):
        def exp(self, point, tangent_vector):
            return self.retraction(point, tangent_vector)

    assert lrf.check_manifold(Short(4))["exp, log, dist"].verdict == "failed"


def test_a_geodesic_beyond_the_reach_of_the_point_is_no_mistake():
    """Y with a singular value of 1e-3: a step of 0.05 is past it, where another geodesic is shorter."""
    manifold = manifolds.PSDFixedRank(4, 3)
    point = np.linalg.qr(np.vander(np.arange(4.0)))[0][:, :3] * np.array([1.0, 0.5, 1e-3])
    report = lrf.check_manifold(manifold, point=point)
    assert report.failed == []
