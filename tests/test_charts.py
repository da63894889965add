"""Every chart shows the same flow: velocities against A_W(G), trajectories against each other and dense oracles."""

import numpy as np
import pytest
from cases import (
    ALL_METRICS,
    CHARTS,
    DEPTHS,
    LOSSES,
    MIXED_METRICS,
    STARTS,
    TAME_STARTS,
    Start,
    completion,
    every_pair,
    every_value,
    few_samples,
    least_squares,
    log_cosh,
)
from oracles import (
    EPS,
    balanced_factors,
    central,
    chain,
    dense_operator,
    depth_operator,
    embedded_flow,
    factor_flow,
    infinite_depth_flow,
    jacobian,
    mn_flow,
    polar_flow,
    scalar_mode,
    scaled_flow,
    subspace_flow,
    two_factor_flow,
)
from scipy import linalg

import lowrankflow as lrf
from lowrankflow.charts import Polynomial
from lowrankflow.losses import facts

pytestmark = pytest.mark.filterwarnings("ignore:Below depth 2")  # a warning of its own, tested in test_charts

ROOTS = [pytest.param(lrf.SingularFrame(root=r), id=f"root{r or 'own'}") for r in (None, 1, 2, 3)]


def velocity_of_w(system, y, h):
    """dW/dt by differences of order 4 along the chart's own velocity."""
    v = system.velocity(0.0, y)

    def at(step):
        return system.point(y + step * v).to_dense()

    return (4 * central(at, h) - central(at, 2 * h)) / 3


def dense_loss_gradient(loss):
    """The gradient as a function on arrays, by its action on the identity."""
    return lambda w: loss.gradient(w) @ np.eye(loss.shape[1])


# ---------------------------------------------------------------------------------------------------------------------
# velocities


@every_pair(chart=ROOTS, metric=ALL_METRICS, case=STARTS)
def test_velocity_of_the_singular_frame(chart, metric, case, rng):
    """-A_W(G) for every metric and root; at tiny singular values too."""
    w, loss = case.draw(rng), least_squares(case.m, case.n, rng)
    system = chart.bind(lrf.RiemannianFlow(loss, metric), w)
    want = -dense_operator(w, dense_loss_gradient(loss)(w), metric.coefficients(w.s))
    # h^4 / 30 times a fifth derivative, up to (p |W'|)^5 = 10^8 at root 20, and roundoff: 100 eps / h.
    # Below the step the root is not smooth: there h must stay under l_r = s_r^(1/p) >= 5e-5 where frames are
    # slow, and under s_r = 3e-9 where they move at the rate 1/s_r
    tiny = min(case.s) < 1e-8
    h, bound = (1e-10, 1e-4) if tiny else (1e-4, 1e-7)
    got = velocity_of_w(system, system.y0, h)
    assert np.abs(got - want).max() < bound
    assert np.abs(2 * got - want).max() > 100 * bound  # control: another clock


@every_pair(chart=CHARTS, depth=[*DEPTHS, 4, 6], case=TAME_STARTS)  # even depths of the polynomial chart beyond 2 too
def test_velocity_is_the_product_rule(chart, depth, case, rng):
    """Whole depth, all charts, and an oracle that knows no coefficients."""
    w, loss = case.draw(rng), completion(case.m, case.n, rng)
    system = chart.bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), w)
    g = dense_loss_gradient(loss)(w)
    got = velocity_of_w(system, system.y0, 1e-4)  # as above
    np.testing.assert_allclose(got, -depth_operator(w, g, depth), rtol=0, atol=1e-8)
    assert np.abs(got + depth_operator(w, g, depth + 1)).max() > 1e-5  # control: the wrong depth


@pytest.mark.parametrize("sizes", [(5, 2, 4), (4, 6, 2, 5), (5, 6, 3, 7, 4)], ids=str)
def test_velocity_of_the_factors(sizes, rng):
    """Minus the factor gradients, for unbalanced factors of any widths."""
    net = lrf.LinearNetwork.gaussian((sizes[-1], sizes[0]), len(sizes) - 1, widths=sizes[1:-1], rng=rng)
    loss = least_squares(*net.shape, rng)
    system = lrf.Factors().bind(lrf.FactorFlow(loss), net)
    want = np.concatenate([-g.ravel() for g in lrf.factor_gradients(loss, net)])
    np.testing.assert_allclose(system.velocity(0.0, system.y0), want, rtol=0, atol=100 * EPS * linalg.norm(want))
    np.testing.assert_array_equal(chain(system.point(system.y0).factors), chain(net.factors))


@pytest.mark.parametrize("case", STARTS)
@pytest.mark.parametrize("chart", CHARTS)
def test_system_starts_at_w_and_returns_fresh_arrays(chart, case, rng):
    w, loss = case.draw(rng), least_squares(case.m, case.n, rng)
    system = chart.bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), w)
    y = system.y0.copy()
    # roots and powers of numbers of order one: a few eps
    np.testing.assert_allclose(system.point(y).to_dense(), w.to_dense(), rtol=0, atol=50 * EPS)
    first = system.velocity(0.0, y)
    kept = first.copy()
    second = system.velocity(0.0, 1.01 * y)
    np.testing.assert_array_equal(first, kept)
    assert not np.shares_memory(first, second)
    assert np.abs(first - second).max() > 1e-6
    np.testing.assert_array_equal(y, system.y0)
    assert system.defect(y) < 100 * EPS
    assert not system.rank_lost(y, y)


@pytest.mark.parametrize("metric", ALL_METRICS)
@pytest.mark.parametrize("case", STARTS)
def test_a_motion_gives_velocity_and_dissipation(metric, case, rng):
    """-dL/dt = <G, A(G)>, from the same gradient."""
    w, loss = case.draw(rng), least_squares(case.m, case.n, rng)
    system = lrf.SingularFrame().bind(lrf.RiemannianFlow(loss, metric), w)
    velocity, at = system.motion(0.0, system.y0)
    np.testing.assert_array_equal(velocity, system.velocity(0.0, system.y0))
    g = dense_loss_gradient(loss)(w)
    moved = dense_operator(w, g, metric.coefficients(w.s))
    np.testing.assert_allclose(at.power, np.vdot(g, moved), rtol=1000 * EPS)
    assert at.power > 0
    gap = at.velocity.at(at.w).to_dense() + moved
    assert np.linalg.norm(gap) < 1000 * EPS * np.linalg.norm(moved)
    np.testing.assert_allclose(at.w.to_dense(), w.to_dense(), rtol=0, atol=100 * EPS * w.s.max())
    # the ruler is the Frobenius one; where the metric freezes the frames, the r x r block alone can vanish
    frozen = metric.coefficients(w.s).up.max() == 0
    projected = w.u @ (w.u.T @ g @ w.vt.T) @ w.vt if frozen else lrf.project(w, g).at(w).to_dense()
    np.testing.assert_allclose(system.measure(system.y0).stationarity, np.linalg.norm(projected), rtol=1000 * EPS)


@every_pair(chart=[ROOTS[0], ROOTS[2]], case=TAME_STARTS, metric=ALL_METRICS)
def test_measuring_gives_the_power(chart, metric, case, rng):
    """g(W', W') from the gradient of the stopping test: the slope of the loss along the flow."""
    w, loss = case.draw(rng), least_squares(case.m, case.n, rng)
    check_power(chart.bind(lrf.RiemannianFlow(loss, metric), w), loss)


@every_pair(chart=[lrf.Lifted(), Polynomial(), lrf.Factors()], depth=DEPTHS, case=TAME_STARTS)
def test_measuring_the_factors(chart, depth, case, rng):
    w, loss = case.draw(rng), completion(case.m, case.n, rng)
    if not isinstance(chart, lrf.Factors):
        system = chart.bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), w)
    else:
        net = lrf.LinearNetwork.gaussian(w.shape, depth, widths=w.rank + 1, rng=rng)
        system = chart.bind(lrf.FactorFlow(loss), net)
    check_power(system, loss)


def check_power(system, loss):
    y = system.y0
    w, moment = system.point(y), system.measure(y)
    velocity, at = system.motion(0.0, y)
    power = moment.power
    np.testing.assert_allclose(moment.loss, loss.value(w), rtol=1000 * EPS)
    np.testing.assert_allclose(power, at.power, rtol=1000 * EPS)  # products of numbers of order one
    # along the velocity scaled to length one, of which no derivative exceeds some thousand: h^4 / 30 of the fifth,
    # and roundoff eps L / h over the slope
    speed = np.linalg.norm(velocity)

    def value(step):
        return loss.value(system.point(y + step / speed * velocity))

    h = 3e-4
    slope = -speed * (4 * central(value, h) - central(value, 2 * h)) / 3
    np.testing.assert_allclose(slope, power, rtol=1e-7)
    assert abs(slope - 1.001 * power) > 5e-4 * power  # control


# ---------------------------------------------------------------------------------------------------------------------
# the spectral radius of the Jacobian, for stabilised steppers

BOUNDED = [pytest.param((lrf.SingularFrame(), d), id=f"frame-{d:g}") for d in (2, 2.3, 2.7, 3, 5, 20, np.inf)]
BOUNDED += [pytest.param((lrf.Lifted(), d), id=f"lifted-{d}") for d in DEPTHS]
BOUNDED += [pytest.param((Polynomial(), d), id=f"polynomial-{d}") for d in (2, 3, 4, 5, 6)]


def radius(system, y, h=1e-3):
    """The spectral radius of the dense Jacobian of the velocity.

    By differences of a step h of 3e-3 of the least root, on whose scale the frame's velocity bends like its power
    N: h^4 N^4 / 30 of the slope is below 1e-6, and so is roundoff, eps / h. Off critical points the eigenvalues of a
    frame may be as sensitive as a square root: `SLACK`.
    """
    return np.abs(np.linalg.eigvals(jacobian(lambda x: system.velocity(0.0, x), y, h))).max()


SLACK = 1e-3


def bind(chart, depth, loss, w):
    """The system and a step for its differences: a fraction of the least root of W in the frame."""
    root = 1.0 if np.isinf(depth) else depth
    h = 3e-3 * min(w.s) ** (1 / root) if isinstance(chart, lrf.SingularFrame) else 1e-3
    return chart.bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), w), h


@every_pair(bounded=BOUNDED, make=[least_squares, few_samples, completion], case=STARTS, size=[0.03, 1.0, 30.0])
def test_spectral_bound(bounded, make, case, size, rng):
    """Never below the radius of the dense Jacobian: random points, and gradients of every size against the curvature."""
    loss, w = make(case.m, case.n, rng), case.draw(rng)
    system, h = bind(*bounded, loss, lrf.LowRankMatrix(w.u, size * w.s, w.vt))
    assert radius(system, system.y0, h) < (1 + SLACK) * system.spectral_bound(system.y0)


@pytest.mark.parametrize("case", STARTS)
@pytest.mark.parametrize("bounded", BOUNDED)
def test_spectral_bound_at_a_minimiser(bounded, case, rng):
    """There the radius is the sharpness, N lambda_1 s_1^(2-2/N) for whitened inputs, and so is the bound where G = 0."""
    x = linalg.qr(rng.standard_normal((case.n, case.n)))[0]
    w = case.draw(rng)
    loss = lrf.losses.LeastSquares(2 * x, 2 * w.to_dense() @ x)
    depth, (system, h) = bounded[1], bind(*bounded, loss, w)
    sharpness = 4 * (1.0 if np.isinf(depth) else depth) * w.s[0] ** (2 - (0 if np.isinf(depth) else 2 / depth))
    np.testing.assert_allclose(radius(system, system.y0, h), sharpness, rtol=SLACK)
    # G is roundoff, of which the bound sees sqrt(100 eps) of the loss's scale
    np.testing.assert_allclose(system.spectral_bound(system.y0), sharpness, rtol=1e-6)
    loss.__class__ = Halved  # control: a loss that declares half its curvature
    system, _ = bind(*bounded, loss, w)  # what a loss says is asked once
    assert system.spectral_bound(system.y0) < 0.6 * sharpness


class Halved(lrf.losses.LeastSquares):
    curvature = property(lambda self: super().curvature / 2)


@pytest.mark.parametrize("case", TAME_STARTS)
@pytest.mark.parametrize("bounded", BOUNDED)
def test_spectral_bound_is_tight_where_the_flow_ends(bounded, case, rng):
    """At the best matrix of a rank, whatever the data: within 20 of the radius, and not below it."""
    loss = least_squares(case.m, case.n, rng)
    system, h = bind(*bounded, loss, loss.minimiser(case.rank))
    measured_radius = radius(system, system.y0, h)
    bound = system.spectral_bound(system.y0)
    assert (1 - SLACK) * measured_radius < bound < 20 * measured_radius


@pytest.mark.parametrize("depth", [3, 4, 5, 10])
def test_spectral_bound_is_attained_by_skew_gradients(depth):
    """(N - 1) sqrt(N) s_1^(1-2/N) ||G||, a constant that was not proven: no smaller one would do."""
    w = lrf.LowRankMatrix(np.eye(2), np.ones(2), np.eye(2))
    skew = 1e6 * np.array([[0.0, 1.0], [-1.0, 0.0]])
    system, h = bind(lrf.SingularFrame(), depth, lrf.losses.LeastSquares(np.eye(2), w.to_dense() - skew), w)
    got, bound = radius(system, system.y0, h), system.spectral_bound(system.y0)
    assert 0.99 * bound < got < (1 + SLACK) * bound


def test_spectral_bound_of_unbalanced_factors(rng):
    """A Hessian by differences, Gaussian factors of any widths; at zero factors of depth 2 the radius is ||G||_2."""
    for sizes in ((5, 2, 4), (4, 6, 2, 5), (5, 6, 3, 7, 4)):
        net = lrf.LinearNetwork.gaussian((sizes[-1], sizes[0]), len(sizes) - 1, widths=sizes[1:-1], rng=rng)
        for make in (least_squares, completion):
            system = lrf.Factors().bind(lrf.FactorFlow(make(*net.shape, rng)), net)
            assert radius(system, system.y0) < (1 + SLACK) * system.spectral_bound(system.y0)
    target = np.outer([1.0, 2.0, 2.0], [3.0, 4.0])  # of rank 1, where Frobenius and spectral norm agree: 15
    loss = lrf.losses.LeastSquares(np.eye(2), target)
    system = lrf.Factors().bind(lrf.FactorFlow(loss), lrf.LinearNetwork([np.ones((2, 2)), np.ones((3, 2))]))
    zero = np.zeros_like(system.y0)
    np.testing.assert_allclose([radius(system, zero), system.spectral_bound(zero)], 15, rtol=1e-6)


@every_pair(case=TAME_STARTS, make=LOSSES, chart=["polynomial", "lifted", "factors"], depth=[2, 3, 4, 7])
def test_jacobians(case, make, chart, depth, rng):
    """Against differences of the velocity, off the manifold too; for each loss with a Hessian, in stacks or one by one."""
    loss, w = make(case.m, case.n, rng), case.draw(rng)
    if chart == "factors":  # unbalanced ones, wider than the rank
        net = lrf.LinearNetwork.gaussian(w.shape, depth, widths=w.rank + 1, rng=rng)
        system = lrf.Factors().bind(lrf.FactorFlow(loss), net)
    else:
        known = Polynomial() if chart == "polynomial" else lrf.Lifted()
        system = known.bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), w)
    if facts(loss).hessian is None or facts(loss).fixed_rank:
        assert facts(loss).fixed_rank or system.jacobian is None
        return
    y = system.y0 + 0.01 * rng.standard_normal(system.y0.size)
    want = jacobian(lambda x: system.velocity(0.0, x), y, 1e-3)
    found = system.jacobian(y)
    # h^4 of a fifth derivative, eps / h, relative to the largest entry
    assert np.abs(found - want).max() < 1e-8 * np.abs(want).max()
    other = system.jacobian(y * 1.001)  # control
    assert np.abs(other - want).max() > 1e-5 * np.abs(want).max()


def test_what_has_no_jacobian(rng):
    """None where it would be large, a metric or an integral is in the way, or W is a single factor."""
    loss = least_squares(60, 60, rng)
    flow, w = lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), lrf.random_point(60, 60, 12, rng=rng)
    assert Polynomial().bind(flow, w).jacobian is None  # 60 * 60 * 1584 numbers
    assert Polynomial().bind(flow, lrf.random_point(60, 60, 5, rng=rng)).jacobian is not None
    assert lrf.SingularFrame().bind(flow, w).jacobian is None
    single = lrf.LinearNetwork([rng.standard_normal((3, 2))])
    assert lrf.Factors().bind(lrf.FactorFlow(least_squares(3, 2, rng)), single).jacobian is None


@pytest.mark.parametrize("depth", [2, 3, 4, 7])
@pytest.mark.parametrize("chart", [lrf.SingularFrame(), Polynomial(), lrf.Lifted()], ids=["frame", "polynomial", "lifted"])
def test_a_look_shares_the_gradient_of_its_own_velocity_alone(chart, depth, rng):
    """The numbers are those of a system that has been asked nothing before, in frames off by 1e-3 too."""
    flow = lrf.RiemannianFlow(least_squares(6, 5, rng), lrf.DepthMetric(depth))
    start = lrf.random_point(6, 5, 3, rng=rng, singular_values=[2.0, 1.0, 0.1])
    system, fresh = chart.bind(flow, start), chart.bind(flow, start)
    y, other = (system.y0 + 1e-3 * rng.standard_normal(system.y0.size) for _ in range(2))
    expected = fresh.measure(y)
    assert not system.remembers(y)
    system.velocity(0.0, other)
    assert system.remembers(other) and not system.remembers(y)
    elsewhere = system.measure(y)
    system.velocity(0.0, y)
    assert system.remembers(y)
    for found in (elsewhere, system.measure(y)):
        # the frames that remember are orthonormal to a hundredth: the norms in them too
        slack = 0.05 if isinstance(chart, lrf.SingularFrame) and found is not elsewhere else 1e-12
        np.testing.assert_allclose(found[:3], expected[:3], rtol=slack)
        np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-12)
        np.testing.assert_allclose(found.singular_values, system.point(y).s, rtol=1e-11)  # eps s_1 / s_3, s = l^7 at most
    with pytest.raises(AssertionError):  # control: the numbers of another place
        np.testing.assert_allclose(system.measure(other)[:3], expected[:3], rtol=1e-5)


@pytest.mark.parametrize("chart", [lrf.SingularFrame(), Polynomial(), lrf.Lifted()], ids=["frame", "polynomial", "lifted"])
@pytest.mark.parametrize("make", [least_squares, completion])
def test_what_a_bound_and_a_look_cost(make, chart, rng):
    """One value and one gradient; for the bound of the factors no gradient."""
    w, loss, calls = lrf.random_point(5, 4, 2, rng=rng), make(5, 4, rng), []

    class Counting(type(loss)):
        def value(self, w):
            calls.append("value")
            return super().value(w)

        def gradient(self, w):
            calls.append("gradient")
            return super().gradient(w)

    if make is completion:
        Counting.value_and_gradient = lambda self, w: (self.value(w), self.gradient(w))
    loss.__class__ = Counting
    system = chart.bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), w)
    calls.clear()
    system.measure(system.y0)
    assert calls == ["value", "gradient"]
    calls.clear()
    system.spectral_bound(system.y0)
    assert calls == (["value"] if isinstance(chart, lrf.Lifted) else ["value", "gradient"])


def test_spectral_bound_is_none_where_none_is_known(rng):
    w, loss = lrf.random_point(5, 4, 2, rng=rng), least_squares(5, 4, rng)

    class Shifted:  # no `best_value`: nothing but `lower_bound` says how far L is from its least value
        shape, curvature, gradient = loss.shape, loss.curvature, staticmethod(loss.gradient)

        def __init__(self, constant, lower_bound=None):
            self.constant, self.lower_bound = constant, lower_bound

        def value(self, w):
            return loss.value(w) + self.constant

    def bound(loss, metric, chart):
        system = chart.bind(lrf.RiemannianFlow(loss, metric), w)
        return system.spectral_bound(system.y0)

    for chart in (lrf.SingularFrame(), lrf.Lifted()):
        known = bound(loss, lrf.DepthMetric(3), chart)
        assert 0 < known <= bound(Shifted(1.0, 0.0), lrf.DepthMetric(3), chart)  # the control
        assert bound(Shifted(1.0), lrf.DepthMetric(3), chart) is None
        assert bound(Shifted(-1e3, 0.0), lrf.DepthMetric(3), chart) is None
        assert bound(log_cosh(5, 4, rng), lrf.DepthMetric(3), chart) is None
    for metric, root in ((3, 1), (3, 2), (1.5, None)):
        assert bound(loss, lrf.DepthMetric(metric), lrf.SingularFrame(root=root)) is None
    assert bound(loss, lrf.EmbeddedMetric(), lrf.SingularFrame()) is None
    for chart in (lrf.SingularFrame(), lrf.Lifted()):
        system = chart.bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(2)), w)
        assert system.spectral_bound(np.full_like(system.y0, np.nan)) is None


@pytest.mark.parametrize("depth", [2, 2.3, 3, np.inf])
def test_spectral_bound_at_a_lower_rank(depth, rng):
    """A finite number, without a warning, where singular values are zero."""
    w, loss = lrf.random_point(5, 4, 3, rng=rng), least_squares(5, 4, rng)
    system = lrf.SingularFrame().bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), w)
    for zeros in (1, 2, 3):
        y = system.y0.copy()
        y[15:24].reshape(3, 3)[3 - zeros :] = 0
        assert np.isfinite(system.spectral_bound(y))


# ---------------------------------------------------------------------------------------------------------------------
# trajectories


TIMES = np.linspace(0, 1.2, 4)


def run(flow, start, chart, rtol, times=TIMES, method="DOP853"):
    path = lrf.integrate(
        flow, start, t_span=(0, times[-1]), rtol=rtol, chart=chart, method=method, save=lrf.Save(times=times)
    )
    assert path.status is lrf.Status.FINISHED, path.message
    np.testing.assert_array_equal(path.t, times)
    return np.array([w.to_dense() for w in path.points]), path


def gap(a, b):
    """The largest gap over time."""
    return max(np.linalg.norm(x - y) for x, y in zip(a, b, strict=True))


def measured(flow, start, chart, rtol=1e-8):
    """A trajectory and its error, measured against itself at rtol / 100."""
    a, path = run(flow, start, chart, rtol)
    b, _ = run(flow, start, chart, rtol / 100)
    roundoff = 100 * EPS * max(np.linalg.norm(x) for x in a) * np.sqrt(path.nfev)
    return a, gap(a, b) + roundoff


@every_value(depth=DEPTHS, case=STARTS)
def test_charts_agree(depth, case, rng):
    """Lifted = SingularFrame, root N or 1 = Factors: gaps within three times the errors measured on both sides."""
    w, loss = case.draw(rng), least_squares(case.m, case.n, rng)
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(depth))
    reference, e = measured(flow, w, lrf.SingularFrame())
    network = lrf.LinearNetwork.balanced(w, depth)
    others = [(flow, w, lrf.Lifted()), (flow, w, Polynomial()), (lrf.FactorFlow(loss), network, lrf.Factors())]
    if min(case.s) > 1e-8:  # with root 1 the velocity at tiny singular values is not smooth: see test_steppers
        others.append((flow, w, lrf.SingularFrame(root=1)))
    for other in others:
        path, e_other = measured(*other)
        assert gap(reference, path) < 3 * (e + e_other)
    # control: a hundredth more depth
    wrong, _ = run(lrf.RiemannianFlow(loss, lrf.DepthMetric(depth + 0.01)), w, lrf.SingularFrame(), 1e-8)
    assert gap(reference, wrong) > 30 * e


@every_value(depth=DEPTHS, case=TAME_STARTS)
def test_flow_against_a_factor_flow_by_hand(depth, case, rng):
    """LSODA on factors differentiated by hand: at rtol = 1e-12 its several hundred steps accumulate up to 10^4 rtol."""
    w, loss = case.draw(rng), completion(case.m, case.n, rng)
    want = factor_flow(dense_loss_gradient(loss), balanced_factors(w, depth), TIMES)
    got, _ = run(lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), w, lrf.SingularFrame(), 1e-11)
    assert gap(got, [chain(fs) for fs in want]) < 1e-8


FLOWS = {
    lrf.EmbeddedMetric(): embedded_flow,
    lrf.metrics.TwoFactorMetric(): two_factor_flow,
    lrf.metrics.ScaledGDMetric(): scaled_flow,
    lrf.metrics.SubspaceProjectionMetric(): subspace_flow,
    lrf.metrics.PolarMetric(): polar_flow,
    lrf.metrics.MNMetric(): mn_flow,
}


@every_value(metric=[pytest.param(m, id=type(m).__name__) for m in FLOWS], case=TAME_STARTS)
def test_metrics_of_the_literature(metric, case, rng):
    """Each against its flow in its own factors or on the dense matrix (by LSODA, see above)."""
    w = case.draw(rng)
    # the target is near: under the metrics without weight at s = 0 the flow may leave the manifold in finite time
    x, z = rng.standard_normal((case.n, 2 * case.n)), rng.standard_normal(w.shape)
    loss = lrf.losses.LeastSquares(x, (w.to_dense() + 0.2 * z / np.linalg.norm(z)) @ x)
    want = FLOWS[metric](dense_loss_gradient(loss), w, TIMES[:3])
    for chart in (lrf.SingularFrame(), lrf.SingularFrame(root=2)):  # one oracle for both: it takes most of the time
        got, _ = run(lrf.RiemannianFlow(loss, metric), w, chart, 1e-11, TIMES[:3])
        assert gap(got, want) < 1e-8


@pytest.mark.parametrize("metric", MIXED_METRICS)
def test_mix_matters(metric, rng):
    """Control of the test above: without the transposed entries the flow is another one."""

    class Without:
        def coefficients(self, s):
            c = metric.coefficients(s)
            return lrf.Coefficients(c.core, c.up, c.vp)

    w, loss = Start(5, 4, (1.2, 0.7)).draw(rng), least_squares(5, 4, rng)
    a, _ = run(lrf.RiemannianFlow(loss, metric), w, None, 1e-8)
    b, _ = run(lrf.RiemannianFlow(loss, Without()), w, None, 1e-8)
    assert gap(a, b) > 1e-2


def test_infinite_depth_against_its_dense_flow(rng):
    w, loss = Start(4, 4, (1.5, 1.0, 0.8, 0.4)).draw(rng), least_squares(4, 4, rng)
    got, _ = run(lrf.RiemannianFlow(loss, lrf.DepthMetric(np.inf)), w, None, 1e-11)
    assert gap(got, infinite_depth_flow(dense_loss_gradient(loss), w, TIMES)) < 1e-8


@pytest.mark.parametrize("chart", ROOTS[:3])
def test_infinite_depth_freezes_row_and_column_spaces(chart, rng):
    w, loss = Start(6, 5, (1.0, 0.7)).draw(rng), least_squares(6, 5, rng)

    def spaces(metric):
        end = run(lrf.RiemannianFlow(loss, metric), w, chart, 1e-8)[1].points[-1]
        moved = np.linalg.norm(end.to_dense() - w.to_dense())
        return moved, max(
            np.linalg.norm(end.u - w.u @ (w.u.T @ end.u)), np.linalg.norm(end.vt - end.vt @ w.vt.T @ w.vt)
        )

    moved, left = spaces(lrf.DepthMetric(np.inf))
    assert moved > 0.05
    assert left < 1e-13  # not integrated at all: roundoff of the frames
    assert spaces(lrf.DepthMetric(20))[1] > 1e-3  # control


@pytest.mark.parametrize("chart", ROOTS[:2] + CHARTS[-1:])
def test_crossing_singular_values(chart):
    """An aligned start whose singular values change places: each follows the closed form of depth 2."""
    start, target = np.array([1.0, 0.5]), np.array([0.3, 1.5])
    w = lrf.LowRankMatrix(np.eye(4)[:, :2], start, np.eye(3)[:2])
    loss = lrf.losses.LeastSquares(np.eye(3), np.vstack([np.diag([*target, 0.0]), np.zeros((1, 3))]))
    got, path = run(lrf.RiemannianFlow(loss, lrf.DepthMetric(2)), w, chart, 1e-10)
    want = np.array([scalar_mode(start, target, 1.0, t) for t in TIMES])
    modes = np.array([np.diag(x)[:2] for x in got])
    # DOP853 at rtol = 1e-10 over some 20 steps of a contracting flow
    np.testing.assert_allclose(modes, want, rtol=0, atol=1e-8)
    assert want[0, 0] > want[0, 1]
    assert want[-1, 0] < want[-1, 1]
    np.testing.assert_allclose(path.singular_values, np.sort(want)[:, ::-1], rtol=0, atol=1e-8)
    off = [np.abs(x - np.pad(np.diag(np.diag(x)), ((0, 1), (0, 0)))).max() for x in got]
    assert max(off) < 1e-8


def test_flow_through_a_tie(rng):
    """From equal singular values, where the eigenvectors are arbitrary: another gauge of the start, the same flow."""
    w, loss = Start(6, 5, (1.0, 1.0, 0.5)).draw(rng), least_squares(6, 5, rng)
    c, s = np.cos(0.7), np.sin(0.7)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    other = lrf.LowRankMatrix(w.u @ turn, w.s, turn.T @ w.vt)
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(3))
    (a, e), (b, e_other) = measured(flow, w, None), measured(flow, other, None)
    assert gap(a, b) < 3 * (e + e_other)


# ---------------------------------------------------------------------------------------------------------------------
# the gauge: defect and repair


@pytest.mark.parametrize("chart", CHARTS)
def test_repair_restores(chart, rng):
    """A state pushed off by 1e-3 has a defect of that size and comes back to roundoff, by a move of that size."""
    w, loss = Start(6, 5, (1.0, 0.7, 0.4)).draw(rng), least_squares(6, 5, rng)
    system = chart.bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), w)
    noise = rng.standard_normal(system.y0.size)
    y = system.y0 + 1e-3 * noise / np.linalg.norm(noise)
    repaired = system.repair(y)
    assert 1e-5 < system.defect(y) < 1e-2
    assert system.defect(repaired) < 100 * EPS
    assert np.linalg.norm(repaired - y) < 1e-2
    np.testing.assert_allclose(system.repair(repaired), repaired, rtol=0, atol=100 * EPS)


@pytest.mark.parametrize("chart", CHARTS)
def test_repair_is_continuous(chart, rng):
    """Nearby states go to nearby states, with a Lipschitz constant of order one (the polar factor's: 1 / sigma_min)."""
    w, loss = Start(6, 5, (1.0, 0.7, 0.4)).draw(rng), least_squares(6, 5, rng)
    system = chart.bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), w)
    y = system.y0 + 1e-3 * rng.standard_normal(system.y0.size)
    for size in 10.0 ** -np.arange(3, 9):
        moved = y + size * rng.standard_normal(y.size) / np.sqrt(y.size)
        assert np.linalg.norm(system.repair(moved) - system.repair(y)) < 10 * size


def test_raw_qr_is_no_repair(rng):
    """Control: LAPACK's QR of an orthonormal frame flips signs, a move of order one."""
    u = lrf.random_point(6, 5, 3, rng=rng).u
    assert np.linalg.norm(np.linalg.qr(u)[0] - u) > 1


@pytest.mark.parametrize("chart", ROOTS)
def test_point_is_orthonormal_and_the_same_matrix(chart, rng):
    """Between steps the frames are off by the solver's tolerance; `point` is an exact SVD of the same W."""
    w, loss = Start(6, 5, (1.0, 0.7, 0.4)).draw(rng), least_squares(6, 5, rng)
    root = 3 if chart.root is None else chart.root
    system = chart.bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), w)
    y = system.y0 + 1e-4 * rng.standard_normal(system.y0.size)
    point = system.point(y)
    np.testing.assert_allclose(point.u.T @ point.u, np.eye(3), rtol=0, atol=50 * EPS)
    np.testing.assert_allclose(point.vt @ point.vt.T, np.eye(3), rtol=0, atol=50 * EPS)
    u, t, v = y[:18].reshape(6, 3), y[18:27].reshape(3, 3), y[27:].reshape(5, 3)
    assert np.linalg.norm(u.T @ u - np.eye(3)) > 1e-5
    p, l, qt = np.linalg.svd(t)  # noqa: E741
    np.testing.assert_allclose(point.to_dense(), u @ p @ np.diag(l**root) @ qt @ v.T, rtol=0, atol=50 * EPS)
    assert (np.diff(point.s) <= 0).all()


@pytest.mark.parametrize("chart", CHARTS)
def test_tolerances_bound_the_error_of_w(chart, rng):
    """An error that just passes scipy's RMS test moves W by a few rtol, wherever it sits."""
    w, loss = Start(30, 20, (1.0, 0.7)).draw(rng), least_squares(30, 20, rng)
    system = chart.bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), w)
    y, rtol = system.y0, 1e-6
    relative, absolute = system.tolerances(y, rtol, 0.0)
    for k in range(y.size):
        error = np.zeros(y.size)
        error[k] = np.sqrt(y.size) * (absolute[k] + relative * abs(y[k]))  # RMS norm exactly 1
        moved = np.linalg.norm(system.point(y + error).to_dense() - w.to_dense()) / np.linalg.norm(w.to_dense())
        assert moved < 4 * rtol  # at most the product of the root and the norm: p |T'| = 3 rtol


@pytest.mark.filterwarnings("error")
def test_depth_between_1_and_2_warns_that_the_frames_may_turn_fast(rng):
    w, loss = lrf.random_point(4, 3, 2, rng=rng), least_squares(4, 3, rng)
    with pytest.warns(
        UserWarning, match=r"Below depth 2 the singular frames turn at a speed that is unbounded .* N=1\.5"
    ):
        lrf.SingularFrame().bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(1.5)), w)
    lrf.SingularFrame().bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(2)), w)  # the control: no warning
