"""The step that theory admits, the bound of the distance to the flow, the flow that descent shadows."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import lowrankflow as lrf
from lowrankflow.descent import certificate, step_bound
from lowrankflow.flows import ModifiedFlow


def drawn(seed, scale=1.0):
    """A random problem: shapes from 1 x 1 up, balanced or not, any unit."""
    rng = np.random.default_rng(seed)
    m, n = (int(d) for d in rng.integers(1, 5, 2))
    depth = int(rng.integers(2, 6))
    x = rng.standard_normal((n, n + int(rng.integers(0, 6))))
    y = scale * rng.standard_normal((m, x.shape[1]))
    loss = lrf.losses.LeastSquares(x, y, reduction=("sum", "mean")[seed % 2])
    widths = [int(d) for d in rng.integers(1, 5, depth - 1)]
    net = lrf.LinearNetwork.gaussian((m, n), depth, widths=widths, scale=0.8 * scale ** (1 / depth), rng=rng)
    if seed % 3 == 0:
        r = min(m, n, *widths)
        s = scale * rng.uniform(0.1, 1, r)
        net = lrf.LinearNetwork.balanced(lrf.random_point(m, n, r, rng=rng, singular_values=s), depth, widths=widths, rng=rng)
    return loss, net, x, y


def by_hand(loss, net, x, y, delta, sigma):
    """The constants as they are written, from the arrays of the data."""
    n, c = net.depth, 1.0 if loss.reduction == "sum" else 1 / x.shape[1]
    x, y = x * np.sqrt(c), y * np.sqrt(c)
    y = y @ np.linalg.pinv(x) @ x  # its part in the row space of X: the rest no W reaches
    loss0 = 0.5 * np.linalg.norm(net.to_dense() @ x - y) ** 2
    s = np.linalg.svd(x, compute_uv=False)
    m = (np.sqrt(2 * loss0) + np.linalg.norm(y, 2)) / s[-1]
    k = m ** (2 / n) + n * (n - 1) / 2 * delta
    b = 2 * np.e * n * k ** (n - 1) * s[0] ** 2 + np.sqrt(np.e) * n * k ** (n / 2 - 1) * np.linalg.norm(x @ y.T, 2)
    start = max(np.linalg.norm(b_.T @ b_ - a @ a.T, 2) for a, b_ in zip(net.factors, net.factors[1:], strict=False))
    return m, k, b, min(2 * (1 - sigma) / b, sigma * (delta - start) / loss0)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_constants_are_those_of_the_theorem(seed, scale):
    loss, net, x, y = drawn(seed, scale)
    found = step_bound(loss, net)
    m, k, b, step = by_hand(loss, net, x, y, found.delta, found.sigma)
    # conditions of random inputs stay below 1e6, whose pseudo-inverse costs as many digits
    assert (found.product, found.factor, found.curvature) == pytest.approx((m, k, b), rel=1e-8)
    assert found.step == pytest.approx(step, rel=1e-6) and 0 < found.sigma < 1 and 0 <= found.alpha < 1
    # no other delta and sigma give a longer one, up to the tolerance of the search
    for factor in (0.3, 0.9, 1.1, 3.0):
        delta = found.start_imbalance + factor * (found.delta - found.start_imbalance)
        assert step_bound(loss, net, delta=delta).step <= found.step * (1 + 1e-9)
    for sigma in (found.sigma / 2, (1 + found.sigma) / 2):
        assert step_bound(loss, net, sigma=sigma).step <= found.step * (1 + 1e-9)
        given = step_bound(loss, net, delta=2 * found.delta, sigma=sigma)
        assert given.step == pytest.approx(by_hand(loss, net, x, y, 2 * found.delta, sigma)[3], rel=1e-6)


def test_the_step_follows_the_unit():
    """With Y and W times c, and the factors times c^(1/N), the loss is c^2 times and the step c^(2/N - 2) times as large."""
    for seed in range(12):
        (a, net, *_), (b, other, *_) = drawn(seed), drawn(seed, 1e4)
        ratio = step_bound(b, other).step / step_bound(a, net).step
        assert ratio == pytest.approx(1e4 ** (2 / net.depth - 2), rel=1e-6)


def test_at_the_minimum_and_at_zero():
    loss = lrf.losses.LeastSquares(np.eye(2), np.diag([2.0, 1.0]))
    best = lrf.LinearNetwork.balanced(loss.minimiser(2), 3)
    found = step_bound(loss, best)
    assert found.excess < 1e-28 and 0 < found.step < 2 / lrf.sharpness(loss, best)
    assert np.isfinite(step_bound(loss, lrf.LinearNetwork([np.zeros((2, 2))] * 3)).step)
    nothing = lrf.losses.LeastSquares(np.eye(2), np.zeros((2, 2)))
    assert step_bound(nothing, lrf.LinearNetwork([np.zeros((2, 2))] * 3)).step > 0


def test_what_is_refused():
    loss, net, *_ = drawn(1)
    with pytest.raises(ValueError, match="`delta` must exceed the imbalance of the start"):
        step_bound(loss, net, delta=net.imbalance() / 2)
    with pytest.raises(ValueError, match="`sigma` must lie between 0 and 1, got 1"):
        step_bound(loss, net, sigma=1.0)
    thin = lrf.losses.LeastSquares(np.ones((3, 5)), np.ones((2, 5)))
    wide = lrf.LinearNetwork.gaussian((2, 3), 2, widths=2, rng=0)
    with pytest.raises(ValueError, match="`loss` must have inputs of full row rank, got rank 1 of 3"):
        step_bound(thin, wide)
    entries = lrf.losses.Completion([0], [0], [1.0], shape=(2, 3))
    for call in (lambda: step_bound(entries, wide), lambda: certificate(entries, wide, step_size=0.1, steps=1)):
        with pytest.raises(ValueError, match="`loss` must be the square loss"):
            call()
    with pytest.raises(TypeError, match="`step_size` must be a number or a schedule here"):
        certificate(thin, wide, step_size=lrf.descent.EdgeFraction(0.5), steps=1)


# ---------------------------------------------------------------------------------------------------------------------
# the distance to the flow


def flow_of(x, y, c, net):
    """The flow of the factors by numpy and DOP853, on one vector."""
    shapes = [f.shape for f in net.factors]
    cuts = np.cumsum([a * b for a, b in shapes])[:-1]

    def field(t, v):
        f = [p.reshape(s) for p, s in zip(np.split(v, cuts), shapes, strict=True)]
        outs = [x]
        for w in f:
            outs.append(w @ outs[-1])
        back, found = c * (outs[-1] - y), []
        for w, a in zip(reversed(f), reversed(outs[:-1]), strict=True):
            found.insert(0, (back @ a.T).ravel())
            back = w.T @ back
        return -np.concatenate(found)

    return field


def flat(net):
    return np.concatenate([f.ravel() for f in net.factors])


@pytest.mark.parametrize("dense", [True, False])
def test_no_iterate_is_farther_from_the_flow_than_the_bound(dense, monkeypatch):
    """80 random problems, steps from a hundredth of the edge to beyond it: finite bounds hold, and most are finite."""
    monkeypatch.setattr("lowrankflow.descent.shadowing.DENSE", 200 if dense else 0)
    finite, ratios = 0, []
    for seed in range(80):
        loss, net, x, y = drawn(seed, (1e-6, 1.0, 1e6)[seed % 3])
        h = (0.01, 0.1, 1.5)[seed // 3 % 3] / max(lrf.sharpness(loss, net), 1e-300)
        found = certificate(loss, net, step_size=h, steps=30)
        c = 1.0 if loss.reduction == "sum" else 1 / x.shape[1]
        size = np.linalg.norm(flat(net))
        with np.errstate(over="ignore", invalid="ignore"):  # trial steps of the oracle, which it rejects
            exact = solve_ivp(
                flow_of(x, y, c, net), (0, found.t[-1]), flat(net), "DOP853", found.t, rtol=1e-12, atol=1e-13 * size
            )
        assert exact.success
        for e, w, v in zip(found.bound, found.networks, exact.y.T, strict=True):
            # the oracle's own error, some hundred steps of 1e-12
            assert np.linalg.norm(flat(w) - v) <= e + 1e-10 * size
        if np.isfinite(found.bound[-1]):
            finite += 1
            ratios.append(np.linalg.norm(flat(found.networks[-1]) - exact.y[:, -1]) / found.bound[-1])
    assert finite >= (25 if dense else 20) and np.median(ratios) > (0.3 if dense else 0.1)
    # the control: half of what a typical bound is would be broken
    if dense:
        assert max(ratios) > 0.5


def test_the_bound_is_of_first_order_in_the_step():
    loss, net, *_ = drawn(0)
    h = 0.02 / lrf.sharpness(loss, net)
    ends = [certificate(loss, net, step_size=h / 2**k, steps=20 * 2**k).bound[-1] for k in range(3)]
    assert np.log2(ends[1] / ends[2]) == pytest.approx(1, abs=0.1)


def test_a_schedule_is_followed():
    loss, net, *_ = drawn(0)
    h = 0.02 / lrf.sharpness(loss, net)
    found = certificate(loss, net, step_size=lambda k: h / (k + 1), steps=5)
    path = lrf.gradient_descent(loss, net, step_size=lambda k: h / (k + 1), steps=5, keep_every=1)
    assert found.t == pytest.approx(path.t) and flat(found.networks[-1]) == pytest.approx(flat(path.points[-1]), rel=1e-14)


# ---------------------------------------------------------------------------------------------------------------------
# the flow that descent shadows


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_descent_is_closer_to_the_modified_flow_by_an_order(depth):
    rng = np.random.default_rng(depth)
    loss = lrf.losses.LeastSquares(rng.standard_normal((3, 8)), rng.standard_normal((3, 8)), reduction="mean")
    net = lrf.LinearNetwork.gaussian((3, 3), depth, widths=3, scale=0.8, rng=rng)

    def away(h, flow):
        path = lrf.gradient_descent(loss, net, step_size=h, steps=round(0.64 / h))
        near = lrf.integrate(flow, net, t_span=(0, path.t[-1]), rtol=1e-12, method="DOP853")
        return np.linalg.norm(flat(path.points[-1]) - flat(near.points[-1]))

    hs = [0.04, 0.02, 0.01, 0.005]
    shadowed, plain = (
        np.array([away(h, make(h)) for h in hs])
        for make in (lambda h: ModifiedFlow(loss, h), lambda h: lrf.FactorFlow(loss))
    )
    assert np.log2(shadowed[-2] / shadowed[-1]) == pytest.approx(2, abs=0.12)  # the next term is h / 2 of it
    assert np.log2(plain[-2] / plain[-1]) == pytest.approx(1, abs=0.12)  # the control
    assert (shadowed < plain / 3).all()


def test_the_modified_flow_says_its_power():
    """dL/dt along it, by differences of the loss."""
    loss, net, *_ = drawn(0)
    path = lrf.integrate(
        ModifiedFlow(loss, 0.01), net, t_span=(0, 0.1), rtol=1e-11, save=lrf.Save(integrals={"fall": lambda at: at.power})
    )
    assert path.loss[0] - path.loss[-1] == pytest.approx(path.columns["fall"][-1], rel=1e-7)
    with pytest.raises(ValueError, match="`step_size` must be positive"):
        ModifiedFlow(loss, 0.0)
