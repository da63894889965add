"""Distances, logarithms and exponentials in closed form, against lengths of curves and other formulas."""

import numpy as np
import pytest
from cases import Start
from oracles import EPS

import lowrankflow as lrf
from lowrankflow.pymanopt_manifold import FixedRank, PositiveSemidefinite


def bures(a, b):
    """tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2 on dense matrices."""

    def root(c):
        s, u = np.linalg.eigh(c)
        return (u * np.sqrt(np.maximum(s, 0))) @ u.T

    return np.sqrt(np.trace(a) + np.trace(b) - 2 * np.trace(root(root(a) @ b @ root(a))))


def length(curve, metric, pieces=400):
    """The length of a curve of matrices, by the midpoint rule: an error of second order."""
    total, h = 0.0, 1.0 / pieces
    for k in range(pieces):
        t = (k + 0.5) * h
        w = curve(t)
        velocity = (curve(t + 1e-4).to_dense() - curve(t - 1e-4).to_dense()) / 2e-4
        total += h * lrf.gradients.tangent_norm(w, lrf.project(w, velocity), metric)
    return total


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_bures_distance(rank, rng):
    a, b = (lrf.random_point(4, 4, rank, rng=rng, symmetric=True) for _ in range(2))
    got = PositiveSemidefinite(4, rank).dist(a, b)
    want = bures(a.to_dense(), b.to_dense())  # roots of singular matrices have half the digits
    assert abs(got - want) < 1e-6
    assert abs(FixedRank(4, 4, rank, lrf.DepthMetric(2)).dist(a, b) - np.sqrt(2) * want) < 1e-6
    assert abs(np.linalg.norm(a.to_dense() - b.to_dense()) - want) > 1e-2  # control: another distance


@pytest.mark.parametrize("rank", [1, 2, 4])
@pytest.mark.parametrize("depth2", [False, True])
def test_exp_and_log_are_inverse(rank, depth2, rng):
    a, b = (lrf.random_point(4, 4, rank, rng=rng, symmetric=True) for _ in range(2))
    manifold = FixedRank(4, 4, rank, lrf.DepthMetric(2)) if depth2 else PositiveSemidefinite(4, rank)
    z = manifold.log(a, b)
    # the alignment of the two factors is as well conditioned as Y_a^T Y_b
    condition = np.linalg.cond((a.u * np.sqrt(a.s)).T @ (b.u * np.sqrt(b.s)))
    np.testing.assert_allclose(manifold.exp(a, z).to_dense(), b.to_dense(), rtol=0, atol=1000 * EPS * condition)
    assert abs(manifold.norm(a, z) - manifold.dist(a, b)) < 1000 * EPS * condition
    assert abs(manifold.norm(a, 1.01 * z) - manifold.dist(a, b)) > 1e-3  # control
    middle = manifold.pair_mean(a, b)
    assert abs(manifold.dist(a, middle) - manifold.dist(a, b) / 2) < 1000 * EPS * condition


def test_bures_distance_of_close_points_has_its_digits(rng):
    """The difference of traces has lost all of them at 1e-9."""
    manifold = PositiveSemidefinite(5, 2, rng=rng)
    w = manifold.random_point()
    z = 1e-9 * manifold.random_tangent_vector(w)
    y = manifold.exp(w, z)
    # Y itself is rounded: eps against a motion of 1e-9
    assert abs(manifold.dist(w, y) / 1e-9 - 1) < 1e-5
    with np.errstate(invalid="ignore"):
        assert not abs(bures(w.to_dense(), y.to_dense()) / 1e-9 - 1) < 1e-2  # control


@pytest.mark.parametrize("metric", [lrf.metrics.BuresWassersteinMetric(), lrf.DepthMetric(2)])
def test_bures_geodesic_is_shortest(metric, rng):
    """Its length is the distance; that of the straight line through the matrices' polar-free interpolation is longer."""
    a, b = (lrf.random_point(3, 3, 3, rng=rng, symmetric=True) for _ in range(2))
    manifold = FixedRank(3, 3, 3, metric)
    z, distance = manifold.log(a, b), manifold.dist(a, b)
    geodesic = length(lambda t: manifold.exp(a, t * z), metric)
    assert abs(geodesic - distance) < 1e-5 * distance  # constant speed: the midpoint rule errs by the differences alone

    def straight(t):
        dense = (1 - t) * a.to_dense() + t * b.to_dense()
        s, u = np.linalg.eigh(dense)
        return lrf.LowRankMatrix(u[:, ::-1], s[::-1], u[:, ::-1].T)

    assert length(straight, metric) > distance * (1 + 1e-4)


@pytest.mark.parametrize("depth", [1.5, 2, 3, 5.5])
@pytest.mark.parametrize("ties", [False, True])
def test_aligned_distance(depth, ties, rng):
    """Claim 25: sqrt(N) |s_a^(1/N) - s_b^(1/N)|, the length of the slice; also where frames of ties are turned."""
    w = Start(5, 4, (1.0, 1.0, 0.4) if ties else (1.2, 0.9, 0.4)).draw(rng)
    metric = lrf.DepthMetric(depth)
    manifold = FixedRank(5, 4, 3, metric)
    new = np.array([1.5, 0.8, 0.3])
    turn = np.eye(3)
    if ties:
        turn[:2, :2] = np.linalg.qr(rng.standard_normal((2, 2)))[0]
    b = lrf.LowRankMatrix(w.u @ turn, new, turn.T @ w.vt)
    want = np.sqrt(depth) * np.linalg.norm(np.sort(w.s) ** (1 / depth) - np.sort(new) ** (1 / depth))
    assert abs(manifold.dist(w, b) - want) < 1e-12
    z = manifold.log(w, b)
    np.testing.assert_allclose(manifold.exp(w, z).to_dense(), b.to_dense(), rtol=0, atol=1e-12)
    assert abs(manifold.norm(w, z) - want) < 1e-12
    assert abs(length(lambda t: manifold.exp(w, t * z), metric, 100) - want) < 1e-5 * want
    other = FixedRank(5, 4, 3, lrf.DepthMetric(depth + 1))
    assert abs(other.dist(w, b) - want) > 1e-3  # control


def test_aligned_distance_embedded_and_infinite(rng):
    w = lrf.random_point(4, 4, 4, rng=rng)
    new = np.sort(w.s * rng.uniform(0.9, 1.1, 4))[::-1]
    b = lrf.LowRankMatrix(w.u, new, w.vt)
    assert abs(FixedRank(4, 4, 4).dist(w, b) - np.linalg.norm(w.s - new)) < 1e-14
    infinite = FixedRank(4, 4, 4, lrf.DepthMetric(np.inf))
    assert abs(infinite.dist(w, b) - np.linalg.norm(np.log(w.s / new))) < 1e-13
    np.testing.assert_allclose(infinite.exp(w, infinite.log(w, b)).to_dense(), b.to_dense(), atol=1e-13)


def test_a_rotation_can_be_shorter_than_the_slice(rng):
    """Why values sorted differently are refused, claim 25: diag(1e4, 1) -> diag(1, 1e4) at depth 3, 50.3 and 47.8."""
    a = lrf.LowRankMatrix(np.eye(2), [1e4, 1.0], np.eye(2))
    b = lrf.LowRankMatrix(np.eye(2), [1.0, 1e4], np.eye(2))
    metric = lrf.DepthMetric(3)
    slice_length = np.sqrt(3) * np.linalg.norm(a.s ** (1 / 3) - b.s ** (1 / 3))
    assert abs(slice_length - 50.3) < 0.1

    def around(t):
        """Turn both frames by t pi / 2."""
        c, d = np.cos(t * np.pi / 2), np.sin(t * np.pi / 2)
        q = np.array([[c, -d], [d, c]])
        return lrf.LowRankMatrix(q, [1e4, 1.0], q.T)

    np.testing.assert_allclose(around(1.0).to_dense(), b.to_dense(), rtol=0, atol=1e-11)
    assert abs(length(around, metric, 20) - 47.8) < 0.1
    with pytest.raises(NotImplementedError, match="the singular values are sorted differently"):
        FixedRank(2, 2, 2, metric).dist(a, b)


def test_distance_satisfies_the_triangle_inequality(rng):
    manifold = PositiveSemidefinite(5, 3, rng=rng)
    for _ in range(20):
        a, b, c = (manifold.random_point() for _ in range(3))
        assert manifold.dist(a, c) <= manifold.dist(a, b) + manifold.dist(b, c) + 1e-14
        assert abs(manifold.dist(a, b) - manifold.dist(b, a)) < 1e-13
        assert manifold.dist(a, a) < 1e-7


def refused(call, match):
    with pytest.raises((NotImplementedError, ValueError), match=match):
        call()


def test_what_is_not_known_is_refused(rng):
    a, b = lrf.random_point(4, 3, 2, rng=rng), lrf.random_point(4, 3, 2, rng=rng)
    deep, polar = FixedRank(4, 3, 2, lrf.DepthMetric(3), rng=rng), FixedRank(4, 3, 2, lrf.metrics.PolarMetric())
    refused(lambda: deep.dist(a, b), r"`dist and log` under DepthMetric\(depth=3\).*different singular frames")
    refused(lambda: polar.dist(a, b), r"`dist and log` under PolarMetric\(\).*no flat_coordinates")
    refused(lambda: deep.exp(a, deep.random_tangent_vector(a)), "`exp` under DepthMetric.*the velocity is neither")
    zero = deep.zero_vector(a)
    back = lrf.Tangent(zero.up, -np.diag(4 * a.s), zero.vp)
    refused(lambda: deep.exp(a, back), "`tangent_vector` must be shorter")
    psd = PositiveSemidefinite(4, 1)
    e1, e2 = (lrf.LowRankMatrix(v, [1.0], v.T) for v in (np.eye(4)[:, :1], np.eye(4)[:, 1:2]))
    refused(lambda: psd.log(e1, e2), "`point_b` must not be orthogonal")
    refused(lambda: psd.exp(e1, lrf.Tangent(np.zeros((4, 1)), [[-3.0]] * np.ones((1, 1)), np.zeros((4, 1)))), "shorter")


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_the_distance_is_known_where_the_logarithm_is_not(scale, ties, rng):
    """A direction of B is orthogonal to A: two lines Y_a -> Y_b Q to it are equally short, and their length is the distance."""
    q = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    sa, sb = (scale * np.array([1.0, 1.0 if ties else x, 0.5]) for x in (0.8, 0.6))
    ua, ub = q[:, :3], q[:, [1, 0, 4]] @ np.linalg.qr(rng.standard_normal((3, 3)))[0]
    a, b = lrf.LowRankMatrix(ua, sa, ua.T), lrf.LowRankMatrix(ub, sb, ub.T)
    ya, yb = ua * np.sqrt(sa), ub * np.sqrt(sb)
    p, d, rt = np.linalg.svd(ya.T @ yb)
    assert d[-1] < 10 * EPS * scale
    turns = [(p * sign @ rt).T for sign in (np.ones(3), np.array([1.0, 1.0, -1.0]))]
    lengths = [np.linalg.norm(yb @ turn - ya) for turn in turns]
    for metric, unit in ((lrf.metrics.BuresWassersteinMetric(), 1.0), (lrf.DepthMetric(2), np.sqrt(2))):
        manifold = FixedRank(5, 5, 3, metric)
        found = manifold.dist(a, b)
        np.testing.assert_allclose([unit * x for x in lengths], found, rtol=100 * EPS)
        assert abs(found - unit * np.sqrt(sa.sum() + sb.sum() - 2 * d.sum())) < 1000 * EPS * found
        refused(lambda: manifold.log(a, b), "`point_b` must not be orthogonal")  # noqa: B023
    other = (p * np.array([-1.0, 1.0, 1.0]) @ rt).T
    assert np.linalg.norm(yb @ other - ya) > lengths[0] * (1 + 1e-3)  # control: no such turn in a direction they share


def test_a_geodesic_may_pass_zero_in_the_old_directions(rng):
    """Y0 + t V keeps its rank where V turns it into new directions on the way: the end is reached."""
    y, v = np.array([[1.0], [0.0], [0.0]]), np.array([[-2.0], [1.0], [0.0]])
    w = lrf.LowRankMatrix.from_factor(y)
    z = lrf.project(w, v @ y.T + y @ v.T)
    got = PositiveSemidefinite(3, 1).exp(w, z).to_dense()
    np.testing.assert_allclose(got, (y + v) @ (y + v).T, rtol=0, atol=1e-14)
    straight = lrf.project(w, -4.0 * y @ y.T)  # control: with V = -2 Y0 it is lost
    refused(lambda: PositiveSemidefinite(3, 1).exp(w, straight), "shorter")


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 1e5])
def test_what_is_aligned_does_not_depend_on_the_scale(scale, rng):
    w = lrf.LowRankMatrix(np.eye(4)[:, :2], scale * np.array([2.0, 1.0]), np.eye(2, 3))
    zero = lrf.project(w, np.zeros((4, 3)))
    manifold = FixedRank(4, 3, 2, lrf.DepthMetric(3))
    off = lrf.Tangent(zero.up, 0.1 * scale * np.array([[0.0, 1.0], [1.0, 0.0]]), zero.vp)
    refused(lambda: manifold.exp(w, off), "the velocity is neither")
    tilted = lrf.Tangent(zero.up, scale * np.array([[0.1, 1e-4], [-1e-4, 0.1]]), zero.vp)
    refused(lambda: manifold.exp(w, tilted), "the velocity is neither")
    manifold.exp(w, lrf.Tangent(zero.up, 0.1 * scale * np.eye(2), zero.vp))


def test_the_opposite_sign_is_named(rng):
    w = lrf.random_point(4, 3, 2, rng=rng)
    refused(lambda: FixedRank(4, 3, 2).dist(w, lrf.LowRankMatrix(-w.u, w.s, w.vt)), "opposite sign")
