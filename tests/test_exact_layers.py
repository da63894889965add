"""Two layers, Oja's flow and rates of arrival, against integrations, fifty digits, small steps and dense Hessians."""

from itertools import pairwise

import autograd.numpy as anp
import mpmath
import numpy as np
import pytest
from autograd import hessian
from oracles import EPS, balanced_factors, chain, flow_of_parts, fukumizu, product_jacobian
from scipy import linalg

import lowrankflow as lrf
from lowrankflow import exact

# ---------------------------------------------------------------------------------------------------------------------
# oracles


def homogeneous(rng, m, n, h, gap, scale):
    """Factors with W_2^T W_2 - W_1 W_1^T = gap I and W_1 of the given size; gap >= 0 and h <= m, or transposed."""
    if gap < 0:
        w1, w2 = homogeneous(rng, n, m, h, -gap, scale)
        return w2.T, w1.T
    w1 = scale * rng.standard_normal((h, n))
    s, q = np.linalg.eigh(w1 @ w1.T + gap * np.eye(h))
    frame = np.linalg.qr(rng.standard_normal((m, h)))[0]
    return w1, frame @ (q * np.sqrt(np.maximum(s, 0))) @ q.T


def factor_run(w1, w2, target, times):
    """The factor flow by DOP853."""

    def velocity(parts):
        a, b = parts
        g = b @ a - target
        return [-b.T @ g, -g @ a.T]

    return flow_of_parts(velocity, [w1, w2], times, rtol=1e-13)


def by_small_steps(w1, w2, target, t):
    """The same Riccati formula step by step, |mu| dt <= 4, each with one QR factorisation: no scale ever is extreme."""
    gap, n = np.trace(w2.T @ w2 - w1 @ w1.T) / len(w1), w1.shape[1]
    m = len(w2)
    f = np.block([[-gap / 2 * np.eye(n), target.T], [target, gap / 2 * np.eye(m)]])
    mu, v = np.linalg.eigh(f)
    z, h = v.T @ np.vstack([w1.T, w2]), len(w1)
    count = int(np.ceil(np.abs(mu).max() * t / 4))
    dt = t / count
    with np.errstate(divide="ignore", invalid="ignore"):
        d = np.where(mu == 0, dt, np.expm1(2 * mu * dt) / (2 * mu))[:, None]
    for _ in range(count):
        q = np.linalg.qr(np.vstack([np.sqrt(d) * z, np.eye(h)]))[0]
        z = np.exp(mu * dt)[:, None] / np.sqrt(d) * q[: m + n]
    z = v @ z
    return z[n:] @ z[:n].T


# ---------------------------------------------------------------------------------------------------------------------
# two layers (claim 18)


@pytest.mark.parametrize(("shape", "rank", "scale"), [((5, 4), 3, 1), ((3, 6), 3, 1), ((4, 4), 4, 1e-6), ((5, 4), 1, 1e-12)])
def test_balanced_layers_with_fifty_digits(shape, rank, scale, rng):
    """Fukumizu's solution; on the plateau too, where W is 1e-12: relative to the largest entry."""
    m, n = shape
    y, w = rng.standard_normal(shape), lrf.random_point(m, n, rank, rng=rng, singular_values=scale * rng.uniform(0.5, 1, rank))
    w1, w2 = balanced_factors(w, 2)
    solution = exact.two_layer(lrf.LinearNetwork([w1, w2]), y)
    times = [0.0, 0.3, 1.0, 3.0, 10.0]
    for t, got in zip(times, solution(times), strict=True):
        want = fukumizu(y, w1, w2, t)
        # roundoff of the eigenvectors of F, eps, which mix a fast direction into others: by e^(2 mu t) at most
        assert np.abs(got - want).max() <= 1e-12 * np.abs(want).max()
    assert np.abs(solution(1.0) - fukumizu(1.01 * y, w1, w2, 1.0)).max() > 1e-3 * np.abs(solution(1.0)).max()


@pytest.mark.parametrize(
    ("sizes", "gap", "scale"),
    [((5, 4, 3), 0.7, 1.0), ((4, 5, 3), -0.7, 1.0), ((5, 4, 4), 0.7, 0.1), ((6, 3, 5), 1.3, 0.5), ((4, 4, 6), 0.0, 1e-3),
     ((3, 6, 1), 0.0, 1e-2), ((5, 4, 3), 1e-6, 1e-4), ((1, 1, 1), 0.5, 0.3)],
)  # fmt: skip
def test_homogeneous_imbalance_against_an_integration(sizes, gap, scale, rng):
    m, n, h = sizes
    if h > (m if gap >= 0 else n):  # wider than both: balanced by the same square on either side
        w = lrf.random_point(m, n, 3, rng=rng, singular_values=scale * rng.uniform(0.5, 1, 3))
        w1, w2 = lrf.LinearNetwork.balanced(w, 2, widths=h, rng=rng).factors
    else:
        w1, w2 = homogeneous(rng, m, n, h, gap, scale)
    y, times = rng.standard_normal((m, n)), [0.0, 0.1, 1.0, 5.0, 15.0]
    solution = exact.two_layer(lrf.LinearNetwork([w1, w2]), y)
    assert solution.imbalance == pytest.approx(gap, abs=1e-14)
    for t, (a, b) in zip(times, factor_run(w1, w2, y, times), strict=True):
        net = solution.network(t)
        # the oracle's rtol 1e-13 a step of factors of order one, which small starts carry to the top of their rise
        np.testing.assert_allclose(solution(t), b @ a, rtol=0, atol=3e-11)
        # the factors up to one rotation: what does not see it
        np.testing.assert_allclose(net.factors[0].T @ net.factors[0], a.T @ a, rtol=0, atol=3e-11)
        np.testing.assert_allclose(net.factors[1] @ net.factors[1].T, b @ b.T, rtol=0, atol=3e-11)
        np.testing.assert_allclose(net.imbalances()[0], gap * np.eye(h), rtol=0, atol=1e-13)
    other = exact.two_layer(lrf.LinearNetwork([w1, w2]), 1.001 * y)  # the control
    assert np.abs(other(15.0) - solution(15.0)).max() > 1e-7


def test_a_hidden_layer_of_one_has_any_start(rng):
    for _ in range(5):
        w1, w2 = rng.standard_normal((1, 4)), rng.standard_normal((3, 1))
        y = rng.standard_normal((3, 4))
        solution = exact.two_layer(lrf.LinearNetwork([w1, w2]), y)
        loss = lrf.losses.LeastSquares(np.eye(4), y)
        path = lrf.integrate(lrf.FactorFlow(loss), lrf.LinearNetwork([w1, w2]), t_span=(0, 3), rtol=1e-12)
        np.testing.assert_allclose(solution(3.0), chain(path.points[-1].factors), rtol=0, atol=1e-10)


def white_losses(m, n, rng):
    """Square losses with X X^T = c I: c = 1, c = 1/4 of a mean, with more samples than inputs and targets off their span."""
    q = np.linalg.qr(rng.standard_normal((9, n)))[0].T
    return {
        1.0: lrf.losses.LeastSquares(np.linalg.qr(rng.standard_normal((n, n)))[0], rng.standard_normal((m, n))),
        0.25: lrf.losses.LeastSquares(1.5 * q, rng.standard_normal((m, 9)), reduction="mean"),
        4.0: lrf.losses.Shifted(lrf.losses.LeastSquares(2 * q, rng.standard_normal((m, 9))), rng.standard_normal((m, n))),
    }


@pytest.mark.parametrize(
    ("sizes", "gap"), [((4, 3, 3), 0.6), ((3, 4, 2), -0.6), ((3, 3, 5), 0.0), ((1, 2, 1), 0.0), ((4, 3, 4), 2.0)]
)
def test_a_loss_and_a_network(sizes, gap, rng):
    """W, Gram blocks, kernel and loss against an integration of the factors with the loss's own gradient."""
    m, n, h = sizes
    w = lrf.random_point(m, n, min(m, n, h), rng=rng)
    net = lrf.LinearNetwork.balanced(w, 2, widths=h, imbalances=gap, rng=rng)
    for c, loss in white_losses(m, n, rng).items():
        solution, times = exact.TwoLayer(loss, net), np.array([0.0, 0.4, 2.0, 7.0]) / c

        def velocity(parts, loss=loss):
            a, b = parts
            g = loss.gradient(b @ a) @ np.eye(n)
            return [-b.T @ g, -g @ a.T]

        assert solution.curvature == pytest.approx(c, rel=1e-13) and solution.imbalance == pytest.approx(gap, abs=1e-13)
        blocks, losses = solution.blocks(times), solution.loss(times)
        for i, (a, b) in enumerate(flow_of_parts(velocity, net.factors, times, rtol=1e-12)):
            # the oracle's rtol a step of factors of order one, a few hundred steps
            for got, want in zip(blocks, (b @ a, a.T @ a, b @ b.T), strict=True):
                np.testing.assert_allclose(got[i], want, rtol=0, atol=1e-10)
            assert losses[i] == pytest.approx(loss.value(b @ a), rel=1e-9, abs=1e-13)
            jacobian = product_jacobian([a, b])
            kernel = solution.tangent_kernel(float(times[i]))
            np.testing.assert_allclose(kernel.to_dense(), jacobian @ jacobian.T, rtol=0, atol=1e-9)
            np.testing.assert_allclose(kernel.eigenvalues(), np.linalg.eigvalsh(jacobian @ jacobian.T)[::-1], rtol=0, atol=1e-9)
        other = exact.TwoLayer(lrf.losses.LeastSquares(np.eye(n), solution.target), net)  # the control: time in another unit
        assert c == 1 or np.abs(other(times[1]) - solution(times[1])).max() > 1e-3


def test_many_times_at_once_are_each_by_itself(rng):
    """Between two times that are told exactly the formula is used as it stands: a hundred, in any order, equal ones too."""
    for k in range(100):
        m, n, h = (int(d) for d in rng.integers(1, 6, 3))
        gap = rng.choice([0.0, 1.0]) if h <= m else 0.0
        r = min(m, n, h)
        w = lrf.random_point(m, n, r, rng=rng, singular_values=10 ** rng.uniform(-8, 4, r))
        net = lrf.LinearNetwork.balanced(w, 2, widths=h, imbalances=gap, rng=rng)
        y = rng.standard_normal((m, n)) * (k % 9 > 0)
        solution = exact.two_layer(net, y)
        times = np.concatenate([rng.uniform(0, 3, 12), 10 ** rng.uniform(-9, 3, 5), [0.0, 0.0, 2000.0, 2000.0]])
        times = rng.permutation(times)
        together, alone = solution.blocks(times), [solution.blocks(float(t)) for t in times]
        for got, want in zip(together, (np.array(part) for part in zip(*alone, strict=True)), strict=True):
            size = np.abs(want).max(axis=(1, 2), keepdims=True)
            # either is exact for a start changed by 64 eps at most, which grows e-fold at most in between
            assert (np.abs(got - want) <= 2e-12 * np.maximum(size, 1e-3)).all()
        assert np.array_equal(solution(times)[times == 2000.0][0], solution(times)[times == 2000.0][1])


def test_inputs_that_are_not_white_are_refused(rng):
    net = lrf.LinearNetwork([np.eye(2), np.eye(2)])
    square = lrf.losses.LeastSquares
    for loss, message in (
        (square(np.diag([1.0, 2.0]), np.eye(2)), "must have white inputs, X X^T = c I, got eigenvalues from 4 to 1."),
        (square([[1.0], [0.0]], [[1.0], [2.0]]), "must have white inputs, X X^T = c I, got eigenvalues from 1 to 0."),
        (lrf.losses.Completion([0], [0], [1.0], (2, 2)), "must be a square loss with a spectrum, got Completion."),
    ):
        with pytest.raises(ValueError) as caught:
            exact.TwoLayer(loss, net)
        assert message in str(caught.value)
    # and rightly: on other inputs the product goes elsewhere
    loss = lrf.losses.LeastSquares(np.diag([1.0, 2.0]), np.eye(2))
    start = lrf.LinearNetwork.balanced(lrf.random_point(2, 2, 2, rng=rng), 2)
    w = lrf.integrate(lrf.FactorFlow(loss), start, t_span=(0, 1), rtol=1e-9).points[-1].to_dense()
    assert np.abs(exact.two_layer(start, loss.minimiser(2).to_dense())(1.0) - w).max() > 1e-2


def test_long_times_against_small_steps(rng):
    """Where one exponential of all that time would have overflowed, or chosen the wrong directions."""
    for m, n, h, gap, t in [(5, 3, 4, 0.7, 40.0), (5, 3, 4, 0.7, 1000.0), (4, 4, 2, 0.0, 300.0), (6, 5, 3, 1e-3, 200.0)]:
        w1, w2 = homogeneous(rng, m, n, h, gap, 1e-3)
        y = rng.standard_normal((m, n))
        got = exact.two_layer(lrf.LinearNetwork([w1, w2]), y)(t)
        np.testing.assert_allclose(got, by_small_steps(w1, w2, y, t), rtol=0, atol=1e-11)  # a thousand QRs
        # the limit: the best matrix of that rank
        best = lrf.losses.LeastSquares(np.eye(n), y).minimiser(min(h, m, n)).to_dense()
        forever = exact.two_layer(lrf.LinearNetwork([w1, w2]), y)([1e7, 1e12])
        np.testing.assert_allclose(forever, np.broadcast_to(best, forever.shape), rtol=0, atol=1e-13)


def test_aligned_layers_are_modes(rng):
    """The other closed form of the room, which shares no line with this one."""
    for gap in (0.0, 0.4, -0.4):
        a, s0 = np.array([1.5, 0.6, 1.0, -0.5]), np.array([1e-6, 0.7, 1.4, 0.2])
        high, low = (np.sqrt((np.hypot(gap, 2 * s0) + side * gap) / 2) for side in (1, -1))
        solution = exact.two_layer(lrf.LinearNetwork([np.diag(low), np.diag(high)]), np.diag(a))
        times = np.linspace(0, 12, 13)
        modes = exact.modes(a, s0, 2, imbalance=gap)(times)
        np.testing.assert_allclose(np.diagonal(solution(times), axis1=1, axis2=2), modes, rtol=0, atol=2e-13)


def test_what_holds_of_any_two_layers(rng):
    """Three hundred: in units of 1e-8 to 1e8, ties, zeros, sizes from 1 x 1: finite, imbalance kept, loss falls, no warning."""
    for k in range(300):
        m, n = (int(rng.integers(1, 6)) for _ in range(2))
        h = int(rng.integers(1, 6))
        unit = 10 ** rng.uniform(-8, 8)  # of W and Y; t in 1 / unit
        gap = float(rng.choice([0.0, 1.0, 1e-5])) if h <= m else 0.0
        if h <= m:
            w1, w2 = homogeneous(rng, m, n, h, gap, 10 ** rng.uniform(-6, 0.5))
        else:
            w = lrf.random_point(m, n, 1, rng=rng, singular_values=[10 ** rng.uniform(-9, 0.5)])
            w1, w2 = lrf.LinearNetwork.balanced(w, 2, widths=h, rng=rng).factors
        if k % 7 == 0:
            w1, w2 = 0 * w1, 0 * w2 if gap == 0 else w2
            gap = 0.0 if not w2.any() else gap
            if w2.any():
                w2 = np.sqrt(gap) * np.linalg.qr(rng.standard_normal((m, h)))[0]
        y = rng.standard_normal((m, n))
        if k % 5 == 0:  # ties: all singular values equal, or all zero
            u, _, vt = np.linalg.svd(y, full_matrices=False)
            y = (u @ vt) * (k % 2)
        root = np.sqrt(unit)
        solution = exact.two_layer(lrf.LinearNetwork([root * w1, root * w2]), unit * y)
        times = np.concatenate([[0.0], 10 ** np.linspace(-8, 12, 21)]) / unit
        got = solution(times) / unit
        assert np.isfinite(got).all()
        assert np.abs(got[0] - w2 @ w1).max() <= 1e-14 * (1 + np.abs(w1).max() + np.abs(w2).max()) ** 2
        losses = 0.5 * ((got - y) ** 2).sum(axis=(1, 2))
        assert (np.diff(losses) <= 1e-13 * (1 + losses[0])).all()
        net = solution.network(float(times[12]))
        assert np.abs(net.imbalances()[0] / unit - gap * np.eye(h)).max() <= 1e-13 * (1 + gap + np.abs(w1).max() ** 2)


def test_layers_of_another_imbalance_are_refused(rng):
    w1, w2 = homogeneous(rng, 5, 4, 3, 0.7, 1.0)
    a = np.diag([0.7, 1.0, 1.5])
    net = lrf.LinearNetwork([a @ w1, w2 @ np.linalg.inv(a)])
    y = rng.standard_normal((5, 4))
    with pytest.raises(ValueError, match=r"`network` must have an imbalance .* got one that is off by"):
        exact.two_layer(net, y)
    # and rightly: the same product does not follow the formula
    ends = [factor_run(*f, y, [0.0, 1.0])[-1] for f in ((w1, w2), net.factors)]
    assert np.abs(ends[0][1] @ ends[0][0] - ends[1][1] @ ends[1][0]).max() > 1e-3


# ---------------------------------------------------------------------------------------------------------------------
# Oja's flow (claim 17)


def covariance(rng, values):
    q = np.linalg.qr(rng.standard_normal((len(values),) * 2))[0]
    return (q * values) @ q.T, q


def oja_run(c, v, times):
    return [x[0] for x in flow_of_parts(lambda p: [c @ p[0] - p[0] @ (p[0].T @ c @ p[0])], [v], times, rtol=1e-12)]


def tied_run(c, v, times):
    """The autoencoder with W_2 = V, W_1 = V^T."""

    def velocity(parts):
        (x,) = parts
        rest = np.eye(len(c)) - x @ x.T
        return [rest @ c @ x + c @ rest @ x]

    return [x[0] for x in flow_of_parts(velocity, [v], times, rtol=1e-12)]


VALUES = np.array([4, 3.2, 2.9, 2.4, 2.0, 1.6])


@pytest.mark.parametrize("stiefel", [True, False])
def test_oja_and_the_tied_autoencoder(stiefel, rng):
    c, _ = covariance(rng, VALUES)
    v = rng.standard_normal((6, 2)) * 0.6
    v = np.linalg.qr(v)[0] if stiefel else v
    flow, times = exact.oja(c, v), [0.0, 0.1, 0.3, 1.0, 4.0]
    got = flow(times)
    for x, a, b in zip(got, oja_run(c, v, times), tied_run(c, v, times), strict=True):
        np.testing.assert_allclose(x @ x.T, a @ a.T, rtol=0, atol=1e-10)
        if stiefel:
            np.testing.assert_allclose(x @ x.T, b @ b.T, rtol=0, atol=1e-10)
            np.testing.assert_allclose(x.T @ x, np.eye(2), rtol=0, atol=1e-14)
    if not stiefel:  # the control: off the Stiefel manifold the tied flow is another one
        apart = tied_run(c, v, times)[2]
        assert np.abs(got[2] @ got[2].T - apart @ apart.T).max() > 1e-2
    np.testing.assert_allclose(flow(0.0) @ flow(0.0).T, v @ v.T, rtol=0, atol=1e-14)


def test_the_tangent_bound(rng):
    """tan theta(t) <= e^(-gap t) tan theta(0): three hundred problems, no violation; the angle against scipy's."""
    broken = 0
    for _ in range(300):
        d = int(rng.integers(1, 8))
        r = int(rng.integers(1, d + 1))
        unit = 10 ** rng.uniform(-8, 8)
        values = np.sort(rng.choice([rng.uniform(0, 1, d), rng.integers(0, 3, d)]))[::-1] * unit
        c, q = covariance(rng, values)
        v = np.linalg.qr(rng.standard_normal((d, r)))[0]
        flow = exact.oja(c, v)
        times = np.concatenate([[0.0], 10 ** np.linspace(-2, 6, 17)]) / unit
        tangents, bounds = flow.tangent(times), flow.tangent_bound(times)
        slack = 1e-12 * bounds  # roundoff of a norm
        assert (tangents <= bounds + slack).all() and np.isfinite(flow(times)).all()
        if r < d and flow.gap > 0.1 * unit:
            assert bounds[0] == tangents[0] > 0
            for t in times[:6]:
                angle = linalg.subspace_angles(flow(float(t)), q[:, :r])[0]
                assert np.tan(angle) == pytest.approx(flow.tangent(float(t)), rel=1e-6 * (1 + np.tan(angle)), abs=1e-13)
            rate = np.exp(-1.1 * flow.gap * times) * tangents[0]  # the control: a tenth faster
            broken += bool((tangents > rate * (1 + 1e-12)).any())
    assert broken > 30
    blind = exact.oja(np.diag([2.0, 1.0, 0.5]), [[0.0], [1.0], [0.0]])
    assert blind.tangent([0.0, 9.0]).tolist() == [np.inf, np.inf]


def test_the_loss_falls_twice_as_fast(rng):
    c, _ = covariance(rng, VALUES)
    v = np.linalg.qr(rng.standard_normal((6, 2)))[0]
    flow, times = exact.oja(c, v), np.linspace(15, 30, 16)
    losses = [0.5 * np.trace(c - x @ (x.T @ c)) for x in flow(times)]
    slope = -np.polyfit(times, np.log(np.array(losses) - 0.5 * VALUES[2:].sum()), 1)[0]
    assert slope == pytest.approx(2 * flow.gap, rel=0.05) and flow.gap == pytest.approx(0.3)
    assert -np.polyfit(times, np.log(flow.tangent(times)), 1)[0] == pytest.approx(flow.gap, rel=0.05)


def test_oja_at_any_time(rng):
    """Spread eigenvalues, zeros and ties among them, starts nearly orthogonal to what wins in the end."""
    for _ in range(100):
        d, r = 6, int(rng.integers(1, 6))
        values = np.sort(rng.choice([10 ** rng.uniform(-3, 3, d), np.r_[1, 1, 1, 0, 0, 0.0]]))[::-1]
        c, q = covariance(rng, values)
        weights = 10 ** rng.uniform(-9, 0, (d, 1))
        v = q @ np.linalg.qr(weights * rng.standard_normal((d, r)))[0]
        x = exact.oja(c, v)([0.0, 1e-3, 1.0, 1e3, 1e6, 1e15])
        np.testing.assert_allclose(x.swapaxes(1, 2) @ x, np.broadcast_to(np.eye(r), (6, r, r)), rtol=0, atol=1e-9)
        if values[r - 1] > values[r] * 1.01 and values[r - 1] > 0:
            # eigenvectors of C itself are known to eps |C| / gap, 1e6 and 100 eps
            np.testing.assert_allclose(x[-1] @ x[-1].T, q[:, :r] @ q[:, :r].T, rtol=0, atol=1e-9)


def oja_with_digits(values, v, t):
    """V V^T of the closed form as it stands, with a hundred digits, for C = diag(values)."""
    with mpmath.workdps(100):
        x = mpmath.matrix(v.tolist())
        grown = mpmath.diag([mpmath.e ** (mpmath.mpf(float(c)) * t) for c in values]) * x
        inner = mpmath.eye(x.cols) - x.T * x + grown.T * grown
        return np.array((grown * mpmath.inverse(inner) * grown.T).tolist(), dtype=float)


def test_starts_whose_entries_have_all_sizes(rng):
    """Entries from 1e-12 to 1: each row is told to its own digits. The first tells pivots by rows from pivots by both."""
    first = np.array([[2e-11, 0.3, 3e-4, 0.3], [2e-10, 2e-7, 1e-2, 1e-11], [1e-11, 1e-10, 2e-4, 2e-12],
                      [2e-5, 2e-12, 0.1, 3e-8], [2e-7, 3.0, 0.2, 2.0]])  # fmt: skip
    cases = [(np.array([4.0, 3, 2, 1, 0]), first, t) for t in (5.0, 10.0, 11.0)]
    for _ in range(100):
        d = int(rng.integers(2, 6))
        v = rng.standard_normal((d, int(rng.integers(1, d + 1)))) * 10 ** rng.uniform(-12, 0, (d, 1))
        cases.append((np.sort(rng.uniform(0, 4, d))[::-1], v, 10 ** rng.uniform(-1, 1.5)))
    for values, v, t in cases:
        x, want = exact.oja(np.diag(values), v)(t), oja_with_digits(values, v, t)
        assert np.abs(x @ x.T - want).max() <= 1e-12 * np.abs(want).max()


def test_a_small_gap_and_a_long_time():
    """Two eigenvalues 1e-10 apart at t = 1e10: what decides is their difference, which is known to all digits."""
    values, v = np.array([1.0, 1.0 - 1e-10]), np.array([[0.6], [0.8]])
    x, t = exact.oja(np.diag(values), v), 1e10
    tangent = 4 / 3 * np.exp((values[1] - values[0]) * t)
    assert x(t)[1, 0] / x(t)[0, 0] == pytest.approx(tangent, rel=1e-13)
    assert x.tangent(t) == pytest.approx(tangent, rel=1e-13)


# ---------------------------------------------------------------------------------------------------------------------
# rates (claims 15, 16)


def nonzero_hessian(loss_of_w, w, depth, widths):
    """The eigenvalues of the Hessian of all factors at balanced factors of W, but for its rotations of hidden layers."""
    net = lrf.LinearNetwork.balanced(w, depth, widths=widths, rng=0)
    shapes = [f.shape for f in net.factors]
    cuts = np.cumsum([a * b for a, b in shapes])[:-1]

    def value(x):
        product = None
        for part, shape in zip(np.split(np.arange(x.size), cuts), shapes, strict=True):
            factor = anp.reshape(x[part[0] : part[-1] + 1], shape)
            product = factor if product is None else anp.dot(factor, product)
        return loss_of_w(product)

    found = np.linalg.eigvalsh(hessian(value)(np.concatenate([f.ravel() for f in net.factors])))
    return np.sort(found[np.argsort(np.abs(found))[sum(b * b for (b, _), _ in pairwise(shapes)) :]])


def gathered(rates):
    return np.sort(np.concatenate([part.ravel() for part in rates]))


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_autoencoder_rates_are_the_spectrum(depth, rng):
    """Hidden widths r: what moves W is the Hessian of the factors but for r^2 zeros a layer."""
    c, q = covariance(rng, VALUES)
    w = lrf.LowRankMatrix(q[:, :2], np.ones(2), q[:, :2].T)
    found = nonzero_hessian(lambda x: 0.5 * anp.sum(anp.dot(x - np.eye(6), c) * (x - np.eye(6))), w, depth, 2)
    want = gathered(exact.autoencoder_rates(VALUES, 2, depth))
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-12 * want.max())
    assert np.abs(found - gathered(exact.autoencoder_rates(VALUES, 2, depth + 1))).max() > 0.1  # the control


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_whitened_rates_are_the_spectrum(depth, rng):
    y = lrf.random_point(5, 5, 5, rng=rng, singular_values=[2, 1.3, 0.8, 0.5, 0.2])
    w = lrf.LowRankMatrix(y.u[:, :2], y.s[:2], y.vt[:2])
    found = nonzero_hessian(lambda x: 0.5 * anp.sum((x - y.to_dense()) ** 2), w, depth, 2)
    want = gathered(exact.whitened_rates(y.s, 2, depth))
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-12 * want.max())
    assert np.abs(found - gathered(exact.whitened_rates(y.s, 2, depth + 1))).max() > 0.05


def arrival(loss, start, depth, limit, t_end):
    """The slope of ln |W - P| where it is between 1e-8 and 1e-3."""
    times = np.linspace(0, t_end, 200)
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(depth))
    path = lrf.integrate(flow, start, t_span=(0, t_end), rtol=1e-11, method="LSODA", save=lrf.Save(times=times))
    gaps = np.array([np.linalg.norm(p.to_dense() - limit) for p in path.points])
    seen = (gaps < 1e-3) & (gaps > 1e-8)
    assert seen.sum() > 20
    return -np.polyfit(path.t[seen], np.log(gaps[seen]), 1)[0]


def test_an_autoencoder_arrives_at_its_rate(rng):
    x = np.diag(np.sqrt(VALUES))
    loss = lrf.losses.LeastSquares(x, x)
    start = lrf.random_point(6, 6, 2, rng=rng, singular_values=np.ones(2), symmetric=True)
    limit = np.diag([1.0, 1, 0, 0, 0, 0])
    for depth in (2, 3, 5):
        rates = exact.autoencoder_rates(VALUES, 2, depth)
        assert rates.least == pytest.approx(0.146123, abs=1e-6)
        assert arrival(loss, start, depth, limit, 150.0) == pytest.approx(rates.least, rel=0.01)
        assert rates.least < 0.5 * (VALUES[1] - VALUES[2])  # the control: not Oja's gap of 0.3


@pytest.mark.parametrize(("depth", "rate"), [(2, 0.5), (3, 0.5457), (4, 0.5701), (6, 0.5956)])
def test_a_whitened_flow_arrives_at_its_rate(depth, rate, rng):
    y = np.diag([2, 1.3, 0.8, 0.5, 0.2])
    start = lrf.random_point(5, 5, 2, rng=rng)
    limit = np.diag([2, 1.3, 0, 0, 0])
    least = exact.whitened_rates(np.diag(y), 2, depth).least
    assert least == pytest.approx(rate, abs=1e-4)
    assert arrival(lrf.losses.LeastSquares(np.eye(5), y), start, depth, limit, 55.0) == pytest.approx(least, rel=0.01)


def test_rates_in_any_unit(rng):
    for _ in range(300):
        d = int(rng.integers(1, 7))
        r = int(rng.integers(1, d + 1))
        values = np.sort(rng.choice([rng.uniform(0.1, 1, d), rng.integers(1, 4, d)]))[::-1] * 10 ** rng.uniform(-8, 8)
        values[r:] *= rng.choice([0.0, 1.0, 1e-9])
        for depth in (1.5, 2, 3, 1000, np.inf):
            for rates in (exact.autoencoder_rates(values, r, depth), exact.whitened_rates(values, r, depth)):
                assert all(np.isfinite(p).all() and (p >= 0).all() for p in rates) and np.isfinite(rates.least)
                assert rates.inside.shape == (r, r) and rates.slow.shape == rates.fast.shape == (d - r, r)
            auto = exact.autoencoder_rates(values, r, depth)
            if depth < 9 and r < d:  # the product and the sum of the two roots
                top, rest = values[:r], values[r:, None]
                np.testing.assert_allclose(auto.slow * auto.fast, rest * (top - rest), rtol=1e-14, atol=0)
                np.testing.assert_allclose(auto.slow + auto.fast, rest + top, rtol=1e-14, atol=0)
                assert auto.least <= min(values[r - 1] - values[r], depth * values[r - 1]) * (1 + 4 * EPS)


# ---------------------------------------------------------------------------------------------------------------------
# arguments

NET = lrf.LinearNetwork([np.eye(2), np.eye(2)])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: exact.two_layer(np.eye(2), np.eye(2)), TypeError, "`network` must be a LinearNetwork, got an array"),
        (lambda: exact.two_layer(lrf.LinearNetwork([np.eye(2)] * 3), np.eye(2)), ValueError, "`network` must have 2 factors"),
        (lambda: exact.two_layer(NET, np.eye(3)), ValueError, "`target` has shape (3, 3) but the network has shape (2, 2)."),
        (lambda: exact.two_layer(NET, [[np.nan, 0], [0, 1]]), ValueError, "`target` must be finite"),
        (lambda: exact.two_layer(NET, np.eye(2))(-1), ValueError, "`t` must be non-negative, got -1."),
        (lambda: exact.two_layer(NET, np.eye(2)).network(-1), ValueError, "`t` must be non-negative and finite, got -1."),
        (lambda: exact.oja(np.ones((2, 3)), np.ones((2, 1))), ValueError, "`covariance` must be square, got shape (2, 3)."),
        (lambda: exact.oja(np.eye(2), np.ones((3, 1))), ValueError, "`start` must have 2 rows and at most as many columns"),
        (lambda: exact.oja(np.eye(2), np.ones((2, 3))), ValueError, "`start` must have 2 rows and at most as many columns"),
        (lambda: exact.oja([[1, 2], [0, 1]], np.ones((2, 1))), ValueError, "`covariance` must be symmetric, got an asymm"),
        (lambda: exact.oja(-np.eye(2), np.ones((2, 1))), ValueError, "`covariance` must be positive semidefinite, got an eigenv"),
        (lambda: exact.autoencoder_rates([2, -1], 1, 2), ValueError, "`eigenvalues` must be non-negative numbers, one at least"),
        (lambda: exact.autoencoder_rates([], 1, 2), ValueError, "`eigenvalues` must be non-negative numbers, one at lea"),
        (lambda: exact.whitened_rates([2, 1], 3, 2), ValueError, "`rank` must not exceed the number of `singular_values`, "),
        (lambda: exact.whitened_rates([2, 0], 2, 2), ValueError, "`rank` must not exceed the number of positive singular values"),
        (lambda: exact.whitened_rates([2, 1], 1, 1), ValueError, "`depth` must be greater than 1"),
    ],
)  # fmt: skip
def test_bad_arguments(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_nothing_at_no_time():
    assert exact.two_layer(NET, np.eye(2))([]).shape == (0, 2, 2)
    assert exact.oja(np.eye(3), np.eye(3)[:, :1])([]).shape == (0, 3, 1)
