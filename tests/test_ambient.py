"""Flows that leave their rank: through det W = 0 in the chart `Ambient`, against the flow of the factors."""

import contextlib
import pickle
import tracemalloc

import numpy as np
import pytest
from cases import IMBALANCED_METRICS, completion, least_squares
from oracles import EPS, dense_operator, imbalanced_factors, orthogonal, product_rule_operator
from scipy import linalg

import lowrankflow as lrf
from lowrankflow.charts import Ambient
from lowrankflow.metrics import extension, keeps_rank

KAPPA, LAMBDA = lrf.metrics.KappaBalancedMetric, lrf.metrics.LambdaBalancedMetric
RTOL = 1e-11
BOUND = 1e-8  # a hundred steps of rtol on either side, which a way past saddles can magnify tenfold


def gaps_of(metric):
    return getattr(metric, "imbalances", None) or (metric.imbalance,)


def network(metric, w, rng):
    """Factors of W with the imbalances of the metric, of the widths that it is the metric of."""
    gaps, (m, n) = gaps_of(metric), w.shape
    if isinstance(metric, LAMBDA):
        return lrf.LinearNetwork(imbalanced_factors(w, gaps, rng, metric.hidden))
    # Kappa: width n before the layer of the least shift, which is m x n, and width m after it
    shifts = np.concatenate([[0.0], np.cumsum(gaps)])
    least = int(np.argmin(shifts))
    x = np.concatenate([metric.roots(w.s), np.zeros(max(m, n) - w.rank)])
    frames = [orthogonal(n if j < least else m, rng) for j in range(len(gaps))]
    frames = [np.hstack([w.vt.T, linalg.null_space(w.vt)]), *frames, np.hstack([w.u, linalg.null_space(w.u.T)])]
    factors = []
    for shift, a, b in zip(shifts - shifts.min(), frames[:-1], frames[1:], strict=True):
        middle = np.zeros((b.shape[1], a.shape[1]))
        np.fill_diagonal(middle, np.sqrt(x[: min(middle.shape)] + shift))
        factors.append(b @ middle @ a.T)
    net = lrf.LinearNetwork(factors)
    for imbalance, gap in zip(net.imbalances(), gaps, strict=True):  # measured: the roots need not be trusted
        np.testing.assert_allclose(imbalance, gap * np.eye(len(imbalance)), rtol=0, atol=1e-13)
    np.testing.assert_allclose(net.to_dense(), w.to_dense(), rtol=0, atol=1e-13)
    return net


def random_problem(m, n, rank, rng, turned=None):
    """A fit to random targets with inputs of condition 2; `turned`: whether W(0) has the other orientation than its end."""
    w = lrf.random_point(m, n, rank, rng=rng, singular_values=rng.uniform(0.05, 1, rank))
    inputs, targets = orthogonal(n, rng) * np.linspace(0.6, 1.2, n), rng.standard_normal((m, n))
    if turned is not None:
        signs = np.ones(rank)
        signs[-1] = (-1 if turned else 1) * np.sign(linalg.det(w.to_dense()) * linalg.det(targets @ inputs.T))
        w = lrf.LowRankMatrix(w.u * signs, [*w.s[:-1], 0.1], w.vt)
    return lrf.losses.LeastSquares(inputs, targets), w


def largest_gap(points, want):
    """The largest distance at common times, relative to W where that is above one."""
    return max(np.linalg.norm(a.to_dense() - b.to_dense()) / max(1, b.norm()) for a, b in zip(points, want, strict=True))


def run(flow, start, t_end=3.0, **options):
    save = lrf.Save(times=np.linspace(0, t_end, 9))
    return lrf.integrate(flow, start, **{"t_span": (0, t_end), "rtol": RTOL, "save": save} | options)


def gap_to_the_factors(metric, loss, w, rng, **options):
    path = run(lrf.RiemannianFlow(loss, metric), w, **options)
    want = run(lrf.FactorFlow(loss), network(metric, w, rng))
    assert path.status is want.status is lrf.Status.FINISHED
    return largest_gap(path.points, want.points), path, want


def determinants(path):
    return np.array([linalg.det(w.to_dense()) for w in path.points])


# ---------------------------------------------------------------------------------------------------------------------
# against the flow of the factors

SQUARE = [LAMBDA(0.6), LAMBDA(-0.6, hidden="columns"), KAPPA((0.5, -1.5, 0.4)), KAPPA((0.4, 0.8))]


@pytest.mark.parametrize("turned", [True, False], ids=["turned", "not-turned"])
@pytest.mark.parametrize("metric", SQUARE, ids=repr)
def test_random_square_starts_follow_the_factors(metric, turned, rng):
    """From the other orientation than that of the minimiser, det W passes zero, where the singular frame cannot follow."""
    loss, w = random_problem(3, 3, 3, rng, turned)
    gap, path, want = gap_to_the_factors(metric, loss, w, rng)
    assert gap < BOUND
    signs = np.sign(determinants(want))
    if turned:
        assert len(set(signs)) == 2
        frame = run(lrf.RiemannianFlow(loss, metric), w, chart=lrf.SingularFrame(), rtol=1e-8)
        assert frame.status is lrf.Status.RANK_LOST
        # control: the sign of the last singular pair is held where it passes zero
        turns = [np.array([1, 1, sign * signs[0]]) for sign in signs]
        held = [lrf.LowRankMatrix(p.u * turn, p.s, p.vt) for p, turn in zip(path.points, turns, strict=True)]
        assert largest_gap(held, want.points) > 1e-2
    # control: balanced factors of the same W
    balanced = run(lrf.RiemannianFlow(loss, lrf.DepthMetric(len(gaps_of(metric)) + 1)), w, rtol=1e-6)
    assert largest_gap(balanced.points, want.points) > 1e-3


OTHER_SHAPES = [
    (LAMBDA(0.6, hidden="rows"), 3, 5, 3),
    (LAMBDA(0.6, hidden="rows"), 5, 3, 3),
    (LAMBDA(-0.6, hidden="columns"), 3, 5, 3),
    (LAMBDA(0.6), 3, 5, 3),  # without a frame
    (LAMBDA(0.6), 5, 3, 3),  # a frame on the left
    (LAMBDA(-0.6), 3, 5, 3),  # on the right
    (LAMBDA(0.6), 5, 6, 2),
    (LAMBDA(-0.6), 5, 6, 2),
    (KAPPA((-0.4, 0.8)), 3, 5, 3),  # the second layer is 3 x 5
    (KAPPA((0.4,)), 5, 3, 3),
]


def default_chart(flow, w):
    """The chart that `integrate` takes by itself: the one that gives the same bits."""

    def run(**chart):
        points = lrf.integrate(flow, w, t_span=(0, 1e-3), rtol=1e-6, save=lrf.Save(steps=False), **chart).points
        return points[-1].to_dense()

    charts = [lrf.SingularFrame()]
    with contextlib.suppress(ValueError):  # where the metric does not extend
        Ambient().bind(flow, w)
        charts.append(Ambient())
    (found,) = (chart for chart in charts if np.array_equal(run(chart=chart), run()))
    return found


@pytest.mark.parametrize(("metric", "m", "n", "rank"), OTHER_SHAPES, ids=str)
def test_other_shapes_follow_the_factors(metric, m, n, rank, rng):
    loss, w = random_problem(m, n, rank, rng)
    assert isinstance(default_chart(lrf.RiemannianFlow(loss, metric), w), Ambient)
    gap, _, want = gap_to_the_factors(metric, loss, w, rng)
    assert gap < BOUND
    # control: twice the imbalance
    other = LAMBDA(2 * metric.imbalance, metric.hidden) if isinstance(metric, LAMBDA) else KAPPA(2 * np.array(gaps_of(metric)))
    assert largest_gap(run(lrf.RiemannianFlow(loss, other), w, rtol=1e-6).points, want.points) > 1e-3


@pytest.mark.parametrize("metric", [LAMBDA(0.6, hidden="rows"), KAPPA((0.4, 0.8))], ids=repr)
def test_from_lower_rank_the_rank_grows_as_that_of_the_factors(metric, rng):
    """In the chart that lets it; the default is the flow on the matrices of that rank."""
    loss, w = random_problem(4, 4, 2, rng)
    gap, path, want = gap_to_the_factors(metric, loss, w, rng, chart=Ambient())
    assert gap < BOUND
    np.testing.assert_allclose(path.singular_values[0, 2:], 0, atol=10 * EPS)
    assert path.singular_values[-1].min() > 1e-2
    flow = lrf.RiemannianFlow(loss, metric)
    assert default_chart(flow, w) == lrf.SingularFrame()
    assert largest_gap(run(flow, w, rtol=1e-6).points, want.points) > 1e-2  # control


ALIGNED = [
    (LAMBDA(0.6), 4, 5, 2),
    (LAMBDA(0.6), 2, 5, 2),
    (LAMBDA(-0.6), 4, 5, 2),
    (LAMBDA(0.6, hidden="rows"), 2, 4, 2),
    (LAMBDA(0.6, hidden="rows"), 2, 2, 2),
    (KAPPA((0.6,)), 4, 2, 2),
]


@pytest.mark.parametrize(("metric", "m", "n", "rank"), ALIGNED, ids=str)
def test_an_aligned_mode_passes_zero_when_it_should(metric, m, n, rank, rng):
    """s' = -q (s + 1) with q = sqrt(lambda^2 + 4 s^2), from s_0 = 0.4 to the target -1: a time in closed form."""
    u, v = orthogonal(m, rng)[:, :2], orthogonal(n, rng)[:, :2]
    loss = lrf.losses.LeastSquares(np.eye(n), (u * [1.0, -1.0]) @ v.T)

    def clock(s, a=1.0, size=0.6):
        """Up to a constant, the time at which -s is there on its way to a."""
        q, root = np.hypot(size, 2 * a), np.hypot(size, 2 * s)
        return np.log((size**2 - 4 * a * s + q * root) / (a + s)) / q

    events = [lrf.Event(str(s), lambda t, w, s=s: u[:, 1] @ (w @ v[:, 1]) - s) for s in (0.2, 0.0, -0.5)]
    start = lrf.LowRankMatrix(u, [0.8, 0.4], v.T)
    path = run(lrf.RiemannianFlow(loss, metric), start, events=events)
    assert path.status is lrf.Status.FINISHED
    for s in (0.2, 0.0, -0.5):
        np.testing.assert_allclose(path.events[str(s)], [clock(s) - clock(0.4)], rtol=1e-9)
        assert abs(clock(s, size=0.61) - clock(0.4, size=0.61) - path.events[str(s)][0]) > 1e-4  # control
    assert path.singular_values.shape == (9, 2)
    np.testing.assert_allclose((u.T @ path.points[-1].to_dense() @ v)[0, 1], 0, atol=1e-10)  # still aligned


# ---------------------------------------------------------------------------------------------------------------------
# the velocity at det W = 0

AT_ZERO = [
    (LAMBDA(0.6), 4, 4),
    (LAMBDA(0.6, hidden="rows"), 5, 3),
    (LAMBDA(0.6, hidden="rows"), 3, 5),
    (LAMBDA(-0.6, hidden="columns"), 3, 5),
    (KAPPA((0.3, -0.7, 0.2)), 3, 3),
    (KAPPA((0.4, 0.8)), 5, 3),
]


def degenerate(m, n, s, rng):
    """A matrix whose last singular values are zero: they have frames, so that the factors can be made."""
    w = lrf.random_point(m, n, len(s), rng=rng)
    return lrf.LowRankMatrix(w.u, np.maximum(s, 1e-300), w.vt)


def velocity(metric, loss, dense):
    flow = lrf.RiemannianFlow(loss, metric)
    system = Ambient().bind(flow, lrf.LowRankMatrix.from_dense(np.eye(*dense.shape)))
    return system.velocity(0.0, dense.ravel()).reshape(dense.shape)


@pytest.mark.parametrize("zeros", [1, 2])
@pytest.mark.parametrize(("metric", "m", "n"), AT_ZERO, ids=str)
def test_the_velocity_is_that_of_the_factors_where_singular_values_vanish(metric, m, n, zeros, rng):
    """And smooth there: from either side and in any null direction it is off by the distance."""
    s = np.linspace(1.0, 0.5, min(m, n))
    s[-zeros:] = 0
    w, loss = degenerate(m, n, s, rng), least_squares(m, n, rng)
    g = loss.gradient(w) @ np.eye(n)
    want = -product_rule_operator(network(metric, w, rng).factors, g)
    got = velocity(metric, loss, w.to_dense())
    scale = linalg.norm(want)
    assert linalg.norm(got - want) < 1000 * EPS * scale
    left, right = linalg.null_space(w.u[:, :-zeros].T), linalg.null_space(w.vt[:-zeros])
    for size in (1e-6, -1e-6):
        step = size * left @ rng.standard_normal((left.shape[1], right.shape[1])) @ right.T
        moved = velocity(metric, loss, w.to_dense() + step)
        assert linalg.norm(moved - got) < 1e-3 * scale  # a derivative of A and of G below 1e3
        assert linalg.norm(moved - got) > 1e-9 * scale


def test_the_control_a_metric_that_does_not_extend_jumps_there(rng):
    """A hidden layer of width 3 < 5: the velocity depends on which null vector u_3 is, W does not say."""
    w, loss = degenerate(5, 3, (1.0, 0.5, 0.0), rng), least_squares(5, 3, rng)
    left = linalg.null_space(w.u[:, :2].T)
    near = [lrf.LowRankMatrix.from_dense(w.to_dense() + 1e-9 * np.outer(u, w.vt[2]), 3) for u in left.T]
    sides = [lrf.riemannian_gradient(x, loss.gradient(x), LAMBDA(0.6)).at(x).to_dense() for x in near]
    assert linalg.norm(sides[0] - sides[1]) > 0.1
    assert extension(LAMBDA(0.6), w.s[:2], (5, 3)) == (2, 3)


@pytest.mark.parametrize("metric", [LAMBDA(0.6), LAMBDA(-0.6), *SQUARE], ids=repr)
def test_motion_and_measure_are_those_of_the_singular_frame(metric, rng):
    """At a W of full rank: the same velocity of W, power and stationarity; and the frames stay orthonormal."""
    m, n, rank = (4, 5, 2) if getattr(metric, "hidden", "") == "rank" else (4, 4, 4)
    w, loss = lrf.random_point(m, n, rank, rng=rng), completion(m, n, rng)
    flow = lrf.RiemannianFlow(loss, metric)
    system, other = Ambient().bind(flow, w), lrf.SingularFrame().bind(flow, w)
    dy, at = system.motion(0.0, system.y0)
    np.testing.assert_array_equal(dy, system.velocity(0.0, system.y0))
    want = -dense_operator(w, loss.gradient(w) @ np.eye(n), metric.coefficients(w.s))
    scale = linalg.norm(want)
    np.testing.assert_allclose(at.velocity.at(at.w).to_dense(), want, rtol=0, atol=1000 * EPS * scale)
    h = 1e-4
    slope = (system.point(system.y0 + h * dy).to_dense() - system.point(system.y0 - h * dy).to_dense()) / (2 * h)
    np.testing.assert_allclose(slope, want, rtol=0, atol=1e-6 * max(1, scale) ** 3)  # h^2 / 6 of a third derivative
    np.testing.assert_allclose(at.power, other.motion(0.0, other.y0)[1].power, rtol=1000 * EPS)
    np.testing.assert_allclose(system.measure(system.y0)[:3], other.measure(other.y0)[:3], rtol=1000 * EPS)
    assert system.defect(system.y0) < 100 * EPS
    assert system.rank_lost(system.y0, -system.y0) is False
    bent = system.y0 * (1 + 1e-4)
    assert (system.defect(bent) > 1e-5) == (rank == 2)
    assert system.defect(system.repair(bent)) < 100 * EPS
    blown = np.full_like(bent, np.nan)
    assert system.motion(0.0, blown)[1] is None
    assert np.isnan(system.velocity(0.0, blown)).all()


# ---------------------------------------------------------------------------------------------------------------------
# which metric extends, and what the default is

S3, S2 = np.array([1.0, 0.6, 0.2]), np.array([1.0, 0.6])
EXTENSIONS = [
    (LAMBDA(0.6), S3, (3, 3), (3, 3)),
    (LAMBDA(0.6), S3, (3, 5), (3, 5)),
    (LAMBDA(0.6), S3, (5, 3), (3, 3)),
    (LAMBDA(0.6), S2, (5, 3), (2, 3)),
    (LAMBDA(-0.6), S2, (5, 3), (5, 2)),
    (LAMBDA(0.6, hidden="rows"), S2, (5, 3), (5, 3)),
    (LAMBDA(1e-9), S2, (5, 3), (2, 3)),
    (LAMBDA(0.0), S3, (3, 3), None),
    (KAPPA((0.4, 0.8)), S2, (5, 3), (5, 3)),
    (KAPPA((0.5, -0.5)), S3, (3, 3), None),
    (lrf.EmbeddedMetric(), S2, (5, 3), (5, 3)),
    (lrf.metrics.ScaledGDMetric(), S3, (3, 3), (3, 3)),
    (lrf.metrics.ScaledGDMetric(), S3, (5, 3), None),
    (lrf.metrics.MNMetric(), S2, (5, 3), (2, 3)),
    (lrf.DepthMetric(1.5), S3, (3, 3), None),
    (lrf.DepthMetric(3), S3, (3, 3), None),
    (lrf.metrics.TwoFactorMetric(), S3, (3, 3), None),
    (lrf.metrics.BuresWassersteinMetric(), S3, (3, 3), None),
]


@pytest.mark.parametrize(("metric", "s", "shape", "want"), EXTENSIONS, ids=str)
def test_where_a_metric_extends(metric, s, shape, want):
    assert extension(metric, s, shape) == want


KEEP = {"DepthMetric", "TwoFactorMetric", "SubspaceProjectionMetric", "PolarMetric", "BuresWassersteinMetric"}
LOSE = {"EmbeddedMetric", "ScaledGDMetric", "MNMetric"}


@pytest.mark.parametrize("name", sorted(KEEP | LOSE))
def test_which_metrics_keep_the_rank(name, rng):
    """By their coefficients, where they do not say."""
    metric = lrf.DepthMetric(2) if name == "DepthMetric" else getattr(lrf.metrics, name)()
    assert keeps_rank(metric, rng.uniform(0.1, 1, 3)) == (name in KEEP)


@pytest.mark.parametrize(("depth", "keeps"), [(1.01, False), (1.9, False), (2, True), (2.1, True), (20, True), (np.inf, True)])
def test_from_depth_two_on_the_rank_is_kept(depth, keeps):
    assert keeps_rank(lrf.DepthMetric(depth), S3) == keeps


def test_what_a_metric_says_comes_first():
    class Says(type(lrf.EmbeddedMetric())):
        preserves_rank = True

    assert keeps_rank(Says(), S3)
    assert extension(Says(), S3, (3, 3)) is None
    assert not keeps_rank(lrf.EmbeddedMetric(), S3)  # control


@pytest.mark.parametrize("metric", [p.values[0] for p in IMBALANCED_METRICS], ids=repr)
def test_thedefault_chart(metric, rng):
    """The one that goes on where the rank is not kept and cannot grow."""
    for m, n, rank in ((3, 3, 3), (3, 5, 3), (5, 3, 3), (5, 4, 2)):
        w, loss = lrf.random_point(m, n, rank, rng=rng), least_squares(m, n, rng)
        through = not metric.preserves_rank and (rank == 3 or getattr(metric, "hidden", "") == "rank")
        want = Ambient() if through else lrf.SingularFrame()
        assert default_chart(lrf.RiemannianFlow(loss, metric), w) == want
    # a metric that says nothing has the manifold of its rank
    assert default_chart(lrf.RiemannianFlow(loss, lrf.EmbeddedMetric()), w) == lrf.SingularFrame()


@pytest.mark.parametrize("metric", [lrf.EmbeddedMetric(), lrf.metrics.ScaledGDMetric(), lrf.metrics.MNMetric()], ids=repr)
def test_other_metrics_go_on_where_they_extend(metric, rng):
    """Square matrices W' = -A_W(G): under the embedded metric the solution of a linear equation."""
    loss = lrf.losses.LeastSquares(np.eye(3), np.eye(3))
    w = lrf.LowRankMatrix(-np.eye(3), S3, np.eye(3))
    path = run(lrf.RiemannianFlow(loss, metric), w, chart=Ambient())
    assert path.status is lrf.Status.FINISHED
    # s' = -c (s - 1), c = 1 under the embedded metric and the MN metric, 2 under ScaledGD
    rate = 2 if "Scaled" in type(metric).__name__ else 1
    want = 1 - (1 + S3) * np.exp(-rate * path.t[:, None])
    got = [np.diag(p.to_dense()) for p in path.points]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-10)


# ---------------------------------------------------------------------------------------------------------------------
# why a rank is lost


def lost(metric, s=(0.8, 0.4), n=3, **options):
    """A flow to the identity from its negative in some modes, in the singular frame."""
    w = lrf.LowRankMatrix(-np.eye(n)[:, : len(s)], s, np.eye(n)[: len(s)])
    flow = lrf.RiemannianFlow(lrf.losses.LeastSquares(np.eye(n), np.eye(n)), metric)
    return lrf.integrate(flow, w, **{"t_span": (0, 5), "chart": lrf.SingularFrame()} | options)


NOT_KEPT = "A singular value crossed zero. This metric does not keep the rank, and the flow left the manifold of rank {}."
GOES_ON = " Take chart=charts.Ambient(), in which it goes on, lower the rank, or stop earlier. t="
RAISED = " The factors' own goes on, and raises the rank: chart=charts.Ambient(). Or stop earlier. t="
CAUSES = {
    "factors that go on": (LAMBDA(0.6), (0.8, 0.4, 0.2), GOES_ON),
    "factors of the width of the rank": (LAMBDA(0.6), (0.8, 0.4), GOES_ON),
    "factors that raise the rank": (KAPPA((0.6,)), (0.8, 0.4), RAISED),
    "embedded, all matrices": (lrf.EmbeddedMetric(), (0.8, 0.4, 0.2), GOES_ON),
    "embedded": (lrf.EmbeddedMetric(), (0.8, 0.4), " Lower the rank, or stop earlier. t="),
}


@pytest.mark.parametrize("name", CAUSES)
def test_a_lost_rank_is_blamed_on_its_cause(name):
    metric, s, rest = CAUSES[name]
    path = lost(metric, s)
    assert path.status is lrf.Status.RANK_LOST
    assert path.message.startswith(NOT_KEPT.format(len(s)) + rest)
    # what it advises is so
    if rest == " Lower the rank, or stop earlier. t=":
        with pytest.raises(RuntimeError, match="does not keep the rank"):
            path.raise_if_failed()
    else:
        assert lost(metric, s, chart=Ambient()).status is lrf.Status.FINISHED


def test_a_step_that_is_too_long_is_blamed_on_rtol(rng):
    """Depth 2 keeps the rank: only an error can pass zero. Here Euler's, whose step is several times too long."""
    path = lost(lrf.DepthMetric(2), method="Euler", step_size=0.9)
    assert path.status is lrf.Status.RANK_LOST
    assert "None does under this metric" in path.message
    assert "does not keep the rank" not in path.message


def test_a_chart_that_only_says_yes_gets_the_bare_sentence(rng):
    class Nervous(lrf.SingularFrame):
        def bind(self, flow, start):
            system = super().bind(flow, start)
            system.rank_lost = lambda before, after: True
            return system

    path = lost(lrf.EmbeddedMetric(), chart=Nervous())
    assert path.message.startswith("A singular value crossed zero. t=")


# ---------------------------------------------------------------------------------------------------------------------
# what a run can do: integrals, events, files


@pytest.fixture(params=["square", "frame"])
def passing(request, rng):
    """A flow one of whose singular values passes zero, without a frame and with one."""
    if request.param == "square":
        loss, w = random_problem(3, 3, 3, rng, turned=True)
        return lrf.RiemannianFlow(loss, KAPPA((0.4, 0.8))), w, linalg.det(w.to_dense())
    u, v = orthogonal(5, rng)[:, :2], orthogonal(2, rng)
    loss = lrf.losses.LeastSquares(np.eye(2), (u * [1.0, -1.0]) @ v.T + 0.1 * rng.standard_normal((5, 2)))
    return lrf.RiemannianFlow(loss, LAMBDA(0.6)), lrf.LowRankMatrix(u, [0.8, 0.4], v.T), None


def test_integrals_through_the_passage(passing):
    """L(0) - L(t) is the integral of the power; the length at least the way of W, and close to that of the polygon."""
    flow, w, _ = passing
    integrals = {"q": lambda at: at.power, "length": lambda at: at.velocity.norm()}
    save = lrf.Save(times=np.linspace(0, 3, 301), integrals=integrals, controlled=True)
    path = run(flow, w, save=save)
    assert path.singular_values[:, -1].min() < 0.1
    np.testing.assert_allclose(path.columns["q"], path.loss[0] - path.loss, rtol=0, atol=1e-9 * path.loss[0])
    moves = [linalg.norm(b.to_dense() - a.to_dense()) for a, b in zip(path.points[:-1], path.points[1:], strict=True)]
    # a chord is shorter than its arc by the third power of a hundredth, a millionth in all
    np.testing.assert_allclose(path.columns["length"][-1], sum(moves), rtol=1e-4)
    assert abs(sum(moves) - linalg.norm(path.points[-1].to_dense() - w.to_dense())) > 1e-3 * sum(moves)


def test_an_event_finds_the_passage(rng):
    loss, w = random_problem(3, 3, 3, rng, turned=True)
    flow = lrf.RiemannianFlow(loss, LAMBDA(0.6))
    event = lrf.Event("passage", lambda t, w: linalg.det(w.to_dense()), terminal=True)
    path = run(flow, w, events=event, rtol=1e-10)
    assert path.status is lrf.Status.EVENT
    assert path.singular_values[-1][-1] < 1e-8
    assert path.points[-1].norm() > 0.1


def test_a_run_through_the_passage_is_taken_up_to_the_same_bits(passing, tmp_path):
    flow, w, _ = passing

    class Stop(Exception):
        pass

    def stop(step):
        if step.t > 0.3:
            raise Stop

    options = {"rtol": 1e-8, "checkpoint_every": 3}
    whole = run(flow, w, checkpoint=tmp_path / "whole", **options)
    with pytest.raises(Stop):
        run(flow, w, checkpoint=tmp_path / "part", callback=stop, **options)
    path = run(flow, w, checkpoint=tmp_path / "part", **options)
    assert path.status is whole.status is lrf.Status.FINISHED
    assert (path.nfev, path.nsteps, path.message) == (whole.nfev, whole.nsteps, whole.message)
    for a, b in zip(path.points, whole.points, strict=True):
        np.testing.assert_array_equal(a.to_dense(), b.to_dense())
    with pytest.raises(ValueError, match="chart"):  # control: another chart is another problem
        run(flow, w, checkpoint=tmp_path / "part", chart=lrf.SingularFrame(), **options)
    path.save(tmp_path / "path.npz")
    back = lrf.Trajectory.load(tmp_path / "path.npz")
    np.testing.assert_array_equal(back.singular_values, path.singular_values)
    np.testing.assert_array_equal(back.points[-1].to_dense(), path.points[-1].to_dense())


def test_a_dense_run_pickles_without_its_loss(rng):
    target = rng.standard_normal((5, 3))
    loss = lrf.losses.from_function(lambda w: ((w - target) ** 2).sum(), shape=(5, 3))
    for metric in (LAMBDA(0.6), LAMBDA(0.6, hidden="rows"), LAMBDA(-0.6)):
        flow = lrf.RiemannianFlow(loss, metric)
        path = run(flow, lrf.random_point(5, 3, 2, rng=rng), chart=Ambient(), rtol=1e-6, save=lrf.Save(dense=True))
        back = pickle.loads(pickle.dumps(path))
        for t in (0.0, 0.123, 3.0):
            np.testing.assert_array_equal(back(t).to_dense(), path(t).to_dense())
    assert pickle.loads(pickle.dumps(Ambient())) == Ambient()


@pytest.mark.parametrize("method", ["DOP853", "RK45", "Radau", "LSODA", "ROCK4", "auto"])
def test_every_method_reaches_the_limit_beyond(passing, method):
    """CONVERGED at a critical point, which is the minimiser."""
    flow, w, _ = passing
    path = lrf.integrate(flow, w, t_span=(0, np.inf), gtol=1e-6, method=method, rtol=1e-6, max_evaluations=20_000)
    assert path.status is lrf.Status.CONVERGED
    np.testing.assert_allclose(path.loss[-1], flow.loss.best_value(w.rank), rtol=0, atol=1e-9)


def test_frames_stay_orthonormal_and_nothing_large_is_formed(rng):
    """At 3000 x 3000 a dense matrix has 72 MB; the frame has 50 KB, and the state twice that."""
    n, r = 3000, 2
    rows, cols = rng.integers(n, size=(2, 4000))
    pairs = np.unique(np.stack([rows, cols]), axis=1)
    loss = lrf.losses.Completion(*pairs, rng.standard_normal(pairs.shape[1]), shape=(n, n))
    flow, w = lrf.RiemannianFlow(loss, LAMBDA(0.6)), lrf.random_point(n, n, r, rng=rng)
    assert extension(flow.metric, w.s, w.shape) == (r, n)
    tracemalloc.start()
    path = lrf.integrate(flow, w, t_span=(0, 1), rtol=1e-6, save=lrf.Save(steps=False))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.status is lrf.Status.FINISHED
    assert peak < 20e6  # some forty vectors of the solver of 0.1 MB, and the stages
    assert path.defect < 1e-5


def test_a_scale_of_its_own_at_zero():
    """W passes zero as a whole: the tolerance is relative to the start there."""
    w = lrf.LowRankMatrix([[1.0]], [0.5], [[1.0]])
    flow = lrf.RiemannianFlow(lrf.losses.LeastSquares([[1.0]], [[-1.0]]), LAMBDA(0.6))
    system = Ambient().bind(flow, w)
    assert system.tolerances(np.zeros(1), 1e-6, 0.0)[1] == system.tolerances(system.y0, 1e-6, 0.0)[1]
    assert system.tolerances(np.full(1, 2.0), 1e-6, 0.0)[1] == pytest.approx(2e-6)
    assert run(flow, w, rtol=1e-8).nfev < 400
