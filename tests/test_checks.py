"""check_loss, check_metric, check_manifold: what is right passes, what is wrong is caught."""

import autograd.numpy as anp
import numpy as np
import pymanopt
import pytest
from cases import METRICS, STARTS, TAME_STARTS, every_value
from pymanopt import manifolds

import lowrankflow as lrf
from lowrankflow.checks import Tampered, directional_derivative, gradient_error
from lowrankflow.pymanopt_manifold import FixedRank


class LogCosh:
    """A user's loss, sum of log cosh(W - Y), in the ten lines that the README promises."""

    differentiable_by_autograd = True

    def __init__(self, y):
        self.y, self.shape = y, y.shape

    def value(self, w):
        dense = w if not hasattr(w, "to_dense") else w.to_dense()
        return anp.sum(anp.log(anp.cosh(dense - self.y)))

    def gradient(self, w):
        return np.tanh(w.to_dense() - self.y)


class WrongGradient(LogCosh):
    """Off by a tenth of a per cent."""

    def gradient(self, w):
        return 1.001 * super().gradient(w)


class WrongTranspose(LogCosh):
    """A gradient whose transpose belongs to another matrix."""

    def gradient(self, w):
        return Skew(super().gradient(w))


class Skew:
    def __init__(self, g):
        self.g, self.shape = g, g.shape

    @property
    def T(self):
        return 1.01 * self.g.T

    def __matmul__(self, x):
        return self.g @ x


class KnowsItsArgument(LogCosh):
    """A value that depends on the representation of W."""

    def value(self, w):
        return super().value(w) * (1 + 1e-6 * isinstance(w, lrf.LinearNetwork))


class WrongHessian(lrf.losses.LeastSquares):
    def hessian(self, w, z):
        return super().hessian(w, z) * 2.0


class SkewHessian(lrf.losses.LeastSquares):
    """A Hessian with a part that is not symmetric."""

    def hessian(self, w, z):
        dense = z.to_dense()
        return super().hessian(w, z).to_dense() + 1e-3 * np.roll(dense, 1, axis=0)


class WrongSign(LogCosh):
    def gradient(self, w):
        return -super().gradient(w)


class OnePerCent(LogCosh):
    def gradient(self, w):
        return 1.01 * super().gradient(w)


class MissingTwo(LogCosh):
    """The value of ||.||^2 with the gradient of half of it."""

    def value(self, w):
        return 2 * super().value(w)


class Transposed:
    """A square loss whose gradient is that at the transposed targets."""

    def __init__(self, y):
        self.y = y[:4, :4]
        self.shape = (4, 4)

    def value(self, w):
        return float(0.5 * ((w.to_dense() - self.y) ** 2).sum())

    def gradient(self, w):
        return (w.to_dense() - self.y).T


class Stale(LogCosh):
    """A residual kept from the last value, whatever W the gradient is asked for."""

    def value(self, w):
        self.residual = w.to_dense() - self.y
        return super().value(w)

    def gradient(self, w):
        if not hasattr(self, "residual"):
            self.residual = w.to_dense() - self.y
        return np.tanh(self.residual)


class OneBuffer(LogCosh):
    """The same array returned at every call."""

    def __init__(self, y):
        super().__init__(y)
        self.buffer = np.empty(y.shape)

    def gradient(self, w):
        self.buffer[:] = np.tanh(w.to_dense() - self.y)
        return self.buffer


class Saddle(LogCosh):
    """Declared convex, and not."""

    convex = True

    def value(self, w):
        return -super().value(w)

    def gradient(self, w):
        return -super().gradient(w)


class TooSmooth(lrf.losses.LeastSquares):
    """A curvature declared too small."""

    @property
    def curvature(self):
        return 0.5 * super().curvature


class Lowered(lrf.losses.LeastSquares):
    """Its values are lowered, what it says of them is not."""

    lower_bound = 0.0

    def value(self, w):
        return super().value(w) - 10.0


class Apart(lrf.losses.Completion):
    """value_and_gradient with another weight."""

    def value_and_gradient(self, w):
        value, g = super().value_and_gradient(w)
        return value, 2 * g


class Dense(lrf.losses.Completion):
    """A sparse gradient by way of the whole matrix."""

    def gradient(self, w):
        return super().gradient(w.to_dense())


@pytest.fixture
def w(rng):
    return lrf.random_point(5, 4, 2, rng=rng)


def test_shipped_losses_and_a_users_pass(w, rng):
    x, y = rng.standard_normal((4, 12)), rng.standard_normal((5, 12))
    kept = rng.permutation(20)[:11]
    for loss in (
        lrf.losses.LeastSquares(x, y),
        lrf.losses.Completion(kept // 4, kept % 4, rng.standard_normal(11), (5, 4)),
        LogCosh(rng.standard_normal((5, 4))),
    ):
        report = lrf.check_loss(loss, w)
        report.raise_if_failed()
        assert report.passed
        assert {c.name for c in report} >= {"gradient", "adjoint", "representations"}
        assert ("hessian" in {c.name for c in report}) == hasattr(loss, "hessian")


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda y: WrongGradient(y), "gradient"),
        (lambda y: WrongSign(y), "gradient"),
        (lambda y: WrongSign(y), "gradient order"),
        (lambda y: OnePerCent(y), "gradient"),
        (lambda y: OnePerCent(y), "gradient order"),
        (lambda y: MissingTwo(y), "gradient"),
        (lambda y: Transposed(y), "gradient"),
        (lambda y: WrongTranspose(y), "adjoint"),
        (lambda y: KnowsItsArgument(y), "representations"),
        (lambda y: Stale(y), "state"),
        (lambda y: OneBuffer(y), "state"),
        (lambda y: Apart(*np.nonzero(y > 0), y[y > 0], y.shape), "shared"),
        (lambda y: WrongHessian(np.eye(4), y), "hessian"),
        (lambda y: WrongHessian(np.eye(4), y), "hessian order"),
        (lambda y: SkewHessian(np.eye(4), y), "hessian symmetric"),
        (lambda y: Saddle(y), "convexity"),
        (lambda y: TooSmooth(np.eye(4), y), "curvature"),
        (lambda y: Lowered(np.eye(4), y), "lower bound"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value.__code__.co_names[:1]),
)
def test_each_mistake_fails_its_own_claim(make, name, w, rng):
    loss = make(rng.standard_normal((5, 4)))
    report = lrf.check_loss(loss, w if loss.shape == w.shape else lrf.random_point(*loss.shape, 2, rng=rng))
    assert report[name].verdict == "failed"
    if name not in ("state", "convexity"):  # what depends on the calls before it spoils the controls as well
        assert all(k.caught for c in report for k in c.controls)
    with pytest.raises(AssertionError, match=name):
        report.raise_if_failed()


@pytest.mark.parametrize("autograd", [True, False])
def test_factor_gradients_against_a_fresh_differentiation(autograd, rng):
    loss = LogCosh(rng.standard_normal((5, 4)))
    loss.differentiable_by_autograd = autograd
    net = lrf.LinearNetwork.gaussian((5, 4), 3, widths=(3, 6), rng=rng)
    error, bound, method = gradient_error(loss, net, rng=rng)
    assert method == ("autograd" if autograd else "central differences")
    assert error < bound <= 1e-6
    wrong, bound, _ = gradient_error(Tampered(loss, 1.0001), net, rng=rng)
    assert wrong > bound


@pytest.mark.parametrize("autograd", [True, False])
def test_a_gradient_of_the_call_before_is_not_taken_for_roundoff(autograd, rng):
    """The gradient moves with every call, and the bound is what a last-digit change of the factors does to it."""

    class Late(LogCosh):
        last = np.zeros((5, 4))

        def gradient(self, w):
            self.last, now = super().gradient(w), self.last
            return now

    loss = Late(rng.standard_normal((5, 4)))
    loss.differentiable_by_autograd = autograd
    error, bound, _ = gradient_error(loss, lrf.LinearNetwork.gaussian((5, 4), 3, widths=(3, 6), rng=rng), rng=rng)
    assert bound <= 1e-6 < 0.1 < error


@pytest.mark.parametrize("scale", [1e-7, 1e-6, 1e-5, 1e-3])
def test_a_value_that_is_a_small_difference_has_the_roundoff_of_its_terms(scale, rng):
    """log(e^x + e^-x) - log 2 is x^2 / 2 with the roundoff of log 2; its gradient, tanh, is right to the last digit."""
    loss = LogCosh(scale * rng.standard_normal((3, 6)))
    report = lrf.check_loss(loss, lrf.random_point(3, 6, 1, rng=rng, singular_values=[scale]))
    assert not [c.name for c in report if c.verdict == "failed"]
    assert report["gradient"].verdict == ("passed" if scale == 1e-3 else "not claimed")


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_directional_derivative_finds_its_step(scale):
    """exp(scale h) is smooth on the scale 1/scale; the steps tried reach from 1e-4 to 1e3."""
    found = directional_derivative(lambda h: np.sin(0.3 + scale * h)) / scale
    tolerance = 1e-8 if scale < 1e6 else np.inf  # at 1e6 no step of the list resolves it, and it must not raise
    assert abs(found - np.cos(0.3)) < tolerance


def test_a_hessian_of_none_is_no_hessian(w):
    loss = LogCosh(np.ones((5, 4)))
    loss.hessian = None
    names = [c.name for c in lrf.check_loss(loss, w)]
    assert names == ["gradient", "gradient order", "adjoint", "representations", "state"]


class Tukey:
    """The biweight loss: quadratic near zero, constant beyond c."""

    def __init__(self, y, c=1.0):
        self.y, self.shape, self.c = y, y.shape, c

    def value(self, w):
        e = np.minimum(np.abs(w.to_dense() - self.y) / self.c, 1.0)
        return float((1 - (1 - e**2) ** 3).sum() * self.c**2 / 6)

    def gradient(self, w):
        e = w.to_dense() - self.y
        return e * (1 - np.minimum(np.abs(e) / self.c, 1.0) ** 2) ** 2


@pytest.mark.parametrize("size", [0.01, 0.3, 1.0, 3.0, 10.0])
def test_right_losses_pass_at_every_scale(size, rng):
    """Plateaus, kinks of the second derivative and saturated tails are no faults of a gradient."""
    x, y = rng.standard_normal((6, 40)), rng.standard_normal((4, 40))
    inputs, labels = lrf.losses.Inputs(x, 4), rng.choice([-1.0, 1.0], (4, 40))
    made = (
        lrf.losses.Huber(y), lrf.losses.Huber(y, delta=0.3), lrf.losses.Logistic(labels), lrf.losses.LogCosh(y),
        lrf.losses.SquaredHinge(labels), lrf.losses.Softmax(rng.integers(0, 4, 40), 4),
    )  # fmt: skip
    right = [lrf.losses.Measured(inputs, link) for link in made] + [Tukey(y[:, :6])]
    for loss in right:
        w = lrf.random_point(4, 6, 2, rng=rng, singular_values=[size, 0.6 * size])
        failed = [(c.name, c.measured, [k.measured for k in c.controls]) for c in lrf.check_loss(loss, w).failed]
        assert failed == [], loss


def test_losses_of_degree_one_pass(rng):
    """The nuclear norm and a linear function: what says nothing there is not claimed."""
    w, c = lrf.random_point(5, 4, 2, rng=rng), rng.standard_normal((5, 4))
    assert lrf.check_loss(lrf.losses.Schatten((5, 4), depth=2), w).passed
    report = lrf.check_loss(lrf.losses.from_function(lambda m: (c * m).sum(), (5, 4), convex=True), w)
    assert report.passed
    for name in ("hessian", "hessian order", "hessian symmetric", "convexity", "state"):
        assert report[name].verdict == "not claimed"


def test_multiples_are_what_the_loss_is(rng):
    x = rng.standard_normal((4, 12))
    hinge = lrf.losses.Measured(lrf.losses.Inputs(x, 1), lrf.losses.SquaredHinge(rng.choice([-1.0, 1.0], (1, 12))))
    assert lrf.losses.Scaled(hinge, 2.0).twice_differentiable is False
    logistic = lrf.losses.Measured(lrf.losses.Inputs(x, 1), lrf.losses.Logistic(rng.choice([-1.0, 1.0], (1, 12))))
    w = lrf.random_point(1, 4, 1, rng=rng)
    np.testing.assert_array_equal(lrf.losses.Scaled(logistic, 2.0).margins(w), logistic.margins(w))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("convex", "yes", "`loss.convex` must be True, False or None, got 'yes'"),
        ("twice_differentiable", 1, "`loss.twice_differentiable` must be True, False or None, got int 1"),
    ],
)
def test_flags_of_a_loss_are_flags(name, value, message, w):
    loss = LogCosh(np.ones((5, 4)))
    setattr(loss, name, value)
    with pytest.raises(TypeError, match=message):
        lrf.check_loss(loss, w)


@pytest.mark.parametrize("value", [0, -1.0, np.inf, "big", True])
def test_a_curvature_is_a_positive_number(value, w):
    loss = LogCosh(np.ones((5, 4)))
    loss.curvature = value
    with pytest.raises((ValueError, TypeError), match=r"`loss\.curvature` must be positive and finite"):
        lrf.verify_equivalence(loss, w, t_end=0.1)


def test_memory_is_told_where_the_matrix_is_large(rng):
    m, n = 1500, 1000
    rows, cols = np.divmod(np.unique(rng.integers(0, m * n, 4000)), n)
    values, w = rng.standard_normal(rows.size), lrf.random_point(m, n, 2, rng=rng)
    assert lrf.check_loss(lrf.losses.Completion(rows, cols, values, (m, n)), w)["memory"].verdict == "passed"
    assert lrf.check_loss(Dense(rows, cols, values, (m, n)), w)["memory"].verdict == "failed"


def test_a_kink_of_the_second_derivative_is_not_held_against_a_loss(w, rng):
    """Huber's loss is once differentiable: the claims on its Hessian are not made."""
    x = rng.standard_normal((4, 12))
    loss = lrf.losses.Measured(lrf.losses.Inputs(x, 5), lrf.losses.Huber(rng.standard_normal((5, 12))))
    report = lrf.check_loss(loss, w)
    assert report["hessian"].verdict == report["hessian order"].verdict == "not claimed"
    assert report.passed


def test_bad_input(w):
    with pytest.raises(TypeError, match=r"`loss` must have shape, value\(w\) and gradient\(w\); object lacks shape"):
        lrf.check_loss(object(), w)
    with pytest.raises(
        ValueError, match=r"`start` has shape \(5, 4\) but the loss is defined on \(4, 5\). Did you mean"
    ):
        lrf.check_loss(LogCosh(np.ones((4, 5))), w)


# ---------------------------------------------------------------------------------------------------------------------
# metrics


def on_manifold(metric, case, rng):
    symmetric = getattr(metric, "symmetric", False)
    n = case.m if symmetric else case.n
    return lrf.random_point(case.m, n, case.rank, rng=rng, singular_values=case.s, symmetric=symmetric)


BURES = pytest.param(lrf.metrics.BuresWassersteinMetric(), id="bures-wasserstein")


@pytest.mark.parametrize("metric", [*METRICS, BURES])
@pytest.mark.parametrize("case", STARTS)
def test_every_metric_passes_check_metric(metric, case, rng):
    report = lrf.check_metric(metric, on_manifold(metric, case, rng))
    assert [(c.name, c.measured) for c in report.claims if c.verdict != "passed"] == []
    assert len(report) == 6 + 2 * hasattr(metric, "differences")


def wrong_metric(**changes):
    """Depth 2 with some coefficients changed."""

    class Wrong:
        def coefficients(self, s):
            c = lrf.DepthMetric(2).coefficients(s)
            parts = {"core": c.core, "up": c.up, "vp": c.vp, "mix": None}
            return lrf.Coefficients(**(parts | {name: change(s, c) for name, change in changes.items()}))

    return Wrong()


def index(s):
    return np.arange(s.size)[:, None]


@pytest.mark.parametrize(
    ("claim", "changes"),
    [
        ("positive", {"core": lambda s, c: -c.core}),
        ("positive", {"mix": lambda s, c: 2.0 * c.core}),
        ("positive", {"up": lambda s, c: 0 * c.up}),
        ("order", {"core": lambda s, c: c.core * (1 + 0.01 * index(s))}),
        ("ties", {"core": lambda s, c: c.core + 0.1 * np.eye(s.size)}),
    ],
)
def test_wrong_metrics_are_caught(claim, changes, rng):
    report = lrf.check_metric(wrong_metric(**changes), lrf.random_point(6, 5, 3, rng=rng))
    assert report[claim].verdict == "failed"


def test_degenerate_metric_is_told(rng):
    report = lrf.check_metric(lrf.DepthMetric(np.inf), lrf.random_point(6, 5, 3, rng=rng))
    assert report["positive"].verdict == "failed"
    assert report["rank"].verdict == report["gradient"].verdict == "not claimed"
    assert lrf.check_metric(lrf.DepthMetric(np.inf), lrf.random_point(4, 4, 4, rng=rng)).passed  # at full rank it is one


def test_wrong_differences_are_caught(rng):
    class Wrong:
        def coefficients(self, s):
            return lrf.DepthMetric(2).coefficients(s)

        def differences(self, s):
            return lrf.DepthMetric(3).differences(s)

    report = lrf.check_metric(Wrong(), lrf.random_point(6, 5, 3, rng=rng))
    assert [c.name for c in report.failed] == ["differences", "differences at ties"]

    class WrongMix(lrf.metrics.R3MCMetric):
        def mix_differences(self, s):
            return 0.99 * super().mix_differences(s)

    report = lrf.check_metric(WrongMix(), lrf.random_point(6, 5, 3, rng=rng))
    assert [c.name for c in report.failed] == ["differences", "differences at ties"]
    only_ties = lrf.check_metric(WrongMix(), lrf.random_point(6, 5, 3, rng=rng, singular_values=np.ones(3)))
    assert [c.name for c in only_ties.failed] == ["differences at ties"]


# ---------------------------------------------------------------------------------------------------------------------
# manifolds


@every_value(case=TAME_STARTS, metric=[*METRICS, BURES])
def test_every_metric_passes_check_manifold(case, metric, rng):
    w = on_manifold(metric, case, rng)
    manifold = FixedRank(*w.shape, w.rank, metric, rng=rng)
    report = lrf.check_manifold(manifold, point=w)
    bad = [(c.name, c.measured) for c in report.claims if c.verdict == "failed"]
    assert bad == []
    # the tangent spaces of square matrices of full rank are all the same
    unclaimed = [c.name for c in report.claims if c.verdict == "not claimed"]
    assert unclaimed == (["transport"] if w.shape == (w.rank, w.rank) else [])
    assert ("Hessian" in [c.name for c in report.claims]) == hasattr(metric, "differences")


@every_value(
    s=[(1.0, 1e-2), (1.0, 1e-4), (1e-4, 1e-4), (1e4, 1.0)],
    metric=[lrf.EmbeddedMetric(), lrf.DepthMetric(2), lrf.DepthMetric(3.5)],
)
def test_small_and_large_singular_values_are_no_fault_of_the_manifold(s, metric, rng):
    """Steps are taken within reach of the distance to lower rank."""
    w = lrf.random_point(6, 5, 2, rng=rng, singular_values=s)
    report = lrf.check_manifold(FixedRank(6, 5, 2, metric), point=w)
    assert [(c.name, c.measured) for c in report.failed] == []
    assert report["gradient"].verdict == report["Hessian"].verdict == "passed"


def test_slopes_are_two_and_three(rng):
    """Within 0.05, at a point where no term vanishes by accident."""
    w = lrf.random_point(7, 6, 3, rng=rng)
    for metric in (lrf.EmbeddedMetric(), lrf.DepthMetric(2), lrf.DepthMetric(2.5), lrf.DepthMetric(4)):
        report = lrf.check_manifold(FixedRank(7, 6, 3, metric, rng=rng), point=w)
        assert abs(report["gradient"].measured - 2) < 0.05
        assert abs(report["Hessian"].measured - 3) < 0.05


FOREIGN = [
    manifolds.FixedRankEmbedded(6, 5, 2),
    manifolds.Sphere(5),
    manifolds.Stiefel(5, 2),
    manifolds.Grassmann(5, 2),
    manifolds.PSDFixedRank(5, 2),
    manifolds.SymmetricPositiveDefinite(3),
    manifolds.SpecialOrthogonalGroup(3),
    manifolds.Oblique(3, 2),
]


@pytest.mark.parametrize("manifold", FOREIGN, ids=lambda m: type(m).__name__)
def test_pymanopts_manifolds_pass(manifold):
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    report = lrf.check_manifold(manifold)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert report.failed == [] and report.passed
    assert {"inner product", "positive", "dimension", "projection", "retraction"} <= {c.name for c in report.claims}


def test_a_cost_on_a_foreign_manifold(rng):
    sphere, a = manifolds.Sphere(6), np.diag(np.arange(6.0))

    def problem(factor):
        wrap = pymanopt.function.numpy(sphere)
        return pymanopt.Problem(
            sphere,
            wrap(lambda x: 0.5 * x @ a @ x),
            euclidean_gradient=wrap(lambda x: factor * (a @ x)),
            euclidean_hessian=wrap(lambda x, z: a @ z),
        )

    report = lrf.check_manifold(sphere, problem(1.0))
    assert report.passed and report["Hessian"].verdict == "passed"
    assert lrf.check_manifold(sphere, problem(1.1))["gradient"].verdict == "failed"


class Tilted(FixedRank):
    """A manifold with one mistake."""

    def __init__(self, mistake):
        super().__init__(6, 5, 2, lrf.DepthMetric(3), rng=np.random.default_rng(0))
        self.mistake = mistake

    def inner_product(self, point, a, b):
        right = super().inner_product(point, a, b)
        return right + 0.01 * float(a.core[0, 0] * b.core[0, 1]) if self.mistake == "inner product" else right

    def to_tangent_space(self, point, vector):
        z = super().to_tangent_space(point, vector)
        return 1.01 * z if self.mistake == "projection" else z

    def projection(self, point, vector):
        z = super().projection(point, vector)
        return lrf.Tangent(1.01 * z.up, z.core, z.vp) if self.mistake == "closest" else z

    def retraction(self, point, tangent_vector):
        z = lrf.Tangent(*tangent_vector)
        return super().retraction(point, 1.01 * z if self.mistake == "retraction" else z)

    def transport(self, a, b, z):
        return z if self.mistake == "transport" else super().transport(a, b, z)

    def vec(self, point, z):
        return 1.01 * super().vec(point, z) if self.mistake == "vec and mat" else super().vec(point, z)


@pytest.mark.parametrize("mistake", ["inner product", "projection", "closest", "retraction", "transport", "vec and mat"])
def test_wrong_manifolds_are_caught(mistake):
    report = lrf.check_manifold(Tilted(mistake))
    assert report[mistake].verdict == "failed"


def test_wrong_dimension_and_hessian_are_caught():
    class OneMore(FixedRank):
        @property
        def dim(self):
            return super().dim + 1

    manifold = OneMore(6, 5, 2, lrf.DepthMetric(3), rng=np.random.default_rng(0))
    assert lrf.check_manifold(manifold)["dimension"].verdict == "failed"

    class Wrong(type(manifold.problem(lrf.losses.LeastSquares(np.eye(5), np.eye(6, 5))))):
        @property
        def riemannian_hessian(self):
            inner = super().riemannian_hessian
            return lambda w, z: 1.1 * inner(w, z)

    problem = manifold.problem(lrf.losses.LeastSquares(np.eye(5), np.eye(6, 5)))
    problem.__class__ = Wrong
    assert [c.name for c in lrf.check_manifold(manifold, problem).failed] == ["dimension", "Hessian"]


def test_a_problem_without_a_hessian_makes_no_claim_about_one():
    sphere, a = manifolds.Sphere(6), np.diag(np.arange(6.0))
    wrap = pymanopt.function.numpy(sphere)
    problem = pymanopt.Problem(sphere, wrap(lambda x: 0.5 * x @ a @ x), euclidean_gradient=wrap(lambda x: a @ x))
    report = lrf.check_manifold(sphere, problem)
    assert report.passed and "Hessian" not in [c.name for c in report]


@pytest.mark.parametrize("error", [TypeError, ValueError, AttributeError])
def test_a_mistake_in_a_method_is_shown_not_taken_for_its_absence(error):
    class Broken(FixedRank):
        def transport(self, a, b, z):
            raise error("a mistake of mine")

    manifold = Broken(6, 5, 2, lrf.DepthMetric(3), rng=np.random.default_rng(0))
    with pytest.raises(error, match="a mistake of mine"):
        lrf.check_manifold(manifold)

    def hessian(x, z):
        raise error("a mistake of mine")

    sphere = manifolds.Sphere(4)
    wrap = pymanopt.function.numpy(sphere)
    problem = pymanopt.Problem(
        sphere, wrap(lambda x: x[0]), euclidean_gradient=wrap(lambda x: np.eye(4)[0]), euclidean_hessian=wrap(hessian)
    )
    with pytest.raises(error, match="a mistake of mine"):
        lrf.check_manifold(sphere, problem)


LOSS, START = LogCosh(np.arange(20.0).reshape(5, 4) / 10), lrf.random_point(5, 4, 2, rng=0)
NETWORK = lrf.LinearNetwork.balanced(START, 2)
SEEDED = {
    "check_loss": lambda **rng: [c.measured for c in lrf.check_loss(LOSS, START, **rng).claims],
    "check_metric": lambda **rng: [c.measured for c in lrf.check_metric(lrf.DepthMetric(3), START, **rng).claims],
    "gradient_error": lambda **rng: gradient_error(Tampered(LOSS, 1.001), NETWORK, **rng)[0],  # differences: no roundoff
}


@pytest.mark.parametrize("measure", SEEDED.values(), ids=SEEDED)
def test_checks_draw_the_same_unless_told_otherwise(measure):
    first = measure()
    for rng in (0, np.random.default_rng(0)):
        assert measure(rng=rng) == first
    for rng in (1, None):
        assert measure(rng=rng) != first


def test_a_manifold_from_a_seed_draws_one_point_after_the_other():
    manifold, again = (FixedRank(6, 5, 2, rng=3) for _ in range(2))
    first, second = manifold.random_point(), manifold.random_point()
    assert not np.allclose(first.u, second.u)
    np.testing.assert_array_equal(again.random_point().u, first.u)
    np.testing.assert_array_equal(again.seeded(3).random_point().u, first.u)
    unseeded = FixedRank(6, 5, 2)
    assert not np.allclose(unseeded.random_point().u, unseeded.random_point().u)
    a, b = (lrf.check_manifold(unseeded) for _ in range(2))  # which is seeded for the check
    assert [c.measured for c in a.claims] == [c.measured for c in b.claims]
