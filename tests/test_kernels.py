"""Tangent kernels against Jacobians, similarities, their columns, and the rates at which a loss falls at least."""

from itertools import pairwise

import numpy as np
import pytest
from oracles import EPS, product_jacobian

import lowrankflow as lrf
from lowrankflow import columns, exact, geometry, kernels


def random_network(rng, depth=None, unit=1.0):
    depth = int(rng.integers(1, 5)) if depth is None else depth
    sizes = rng.integers(1, 6, depth + 1)
    return lrf.LinearNetwork([unit * rng.standard_normal((b, a)) for a, b in pairwise(sizes)])


def dense_kernel(net):
    """J J^T, J the derivative of the product by all factors."""
    j = product_jacobian(net.factors)
    return j @ j.T


def test_kernels_of_any_network(rng):
    for _ in range(200):
        net = random_network(rng, unit=10 ** rng.uniform(-4, 4))
        want, kernel = dense_kernel(net), kernels.tangent_kernel(net)
        slack = 100 * net.depth * EPS * np.linalg.norm(want)  # roundoff of chains of N products
        assert np.abs(kernel.to_dense() - want).max() <= slack
        assert abs(kernel.trace() - np.trace(want)) <= slack * len(want)
        assert abs(kernel.norm() - np.linalg.norm(want)) <= slack
        assert np.abs(kernel.eigenvalues() - np.linalg.eigvalsh(want)[::-1]).max() <= slack
        z = rng.standard_normal(net.shape)
        assert np.abs(kernel(z) - (want @ z.ravel()).reshape(net.shape)).max() <= slack * np.linalg.norm(z)
        assert np.abs(kernel(z) - lrf.end_to_end_operator(net)(z).to_dense()).max() <= slack * np.linalg.norm(z)
        x = rng.standard_normal((net.shape[1], 3))
        spread = np.kron(np.eye(net.shape[0]), x)  # of rows laid end to end
        assert np.abs(kernel.on(x).to_dense() - spread.T @ want @ spread).max() <= slack * np.linalg.norm(x) ** 2


def test_the_change_of_a_kernel(rng):
    for _ in range(100):
        net = random_network(rng)
        size = 10 ** rng.uniform(-12, 0)
        moved = lrf.LinearNetwork([f * (1 + size) for f in net.factors])  # the kernel times (1 + size)^(2 N - 2)
        power = 2 * net.depth - 2
        a, b = kernels.tangent_kernel(moved), kernels.tangent_kernel(net)
        expected = np.expm1(power * np.log1p(size))
        assert a.distance(b) == pytest.approx(expected, rel=1e-9, abs=100 * net.depth * EPS)
        assert a.alignment(b) == pytest.approx(1.0, abs=1e-13)
        other = kernels.tangent_kernel(random_network(rng, net.depth) if net.depth < 2 else lrf.LinearNetwork(
            [rng.standard_normal(f.shape) for f in net.factors]))  # fmt: skip
        if other.shape == b.shape and net.depth > 1:
            p, q = dense_kernel(net), other.to_dense()
            assert other.distance(b) == pytest.approx(np.linalg.norm(q - p) / np.linalg.norm(p), rel=1e-12)
            assert other.alignment(b) == pytest.approx((p * q).sum() / np.linalg.norm(p) / np.linalg.norm(q), rel=1e-12)
    shallow, deep = (kernels.tangent_kernel(lrf.LinearNetwork.identity((3, 3), d, widths=3)) for d in (2, 3))
    assert deep.distance(shallow) == pytest.approx(0.5)  # 3 I and 2 I, told apart through other terms


def test_similarities_do_not_see_rotations_of_a_hidden_layer(rng):
    x = rng.standard_normal((4, 6))
    net = lrf.LinearNetwork.gaussian((3, 4), 3, widths=[5, 2], rng=rng)
    q = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    turned = lrf.LinearNetwork([q @ net.factors[0], net.factors[1] @ q.T, net.factors[2]])
    hidden = net.factors[0] @ x
    for a, b, c in zip(kernels.similarities(net, x), kernels.similarities(turned, x), (hidden, None, net @ x), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)
        assert kernels.alignment(a, b) == pytest.approx(1, abs=1e-14)
        if c is not None:
            np.testing.assert_allclose(a, c.T @ c, rtol=0, atol=1e-13)
    other = kernels.similarities(lrf.LinearNetwork([net.factors[0] * np.arange(1, 6)[:, None], *net.factors[1:]]), x)
    assert kernels.alignment(other[0], kernels.similarities(net, x)[0]) < 0.999  # the control


def test_centred_alignment_is_cka(rng):
    """Against ||B^T A||^2 / (||A^T A|| ||B^T B||) of features with their means taken out."""
    a, b = rng.standard_normal((3, 9)) + 2, rng.standard_normal((5, 9)) - 1
    ca, cb = (f - f.mean(axis=1, keepdims=True) for f in (a, b))
    want = np.linalg.norm(cb @ ca.T) ** 2 / np.linalg.norm(ca @ ca.T) / np.linalg.norm(cb @ cb.T)
    assert kernels.alignment(a.T @ a, b.T @ b, centred=True) == pytest.approx(want, rel=1e-13)
    assert abs(kernels.alignment(a.T @ a, b.T @ b) - want) > 0.1


def test_columns_of_a_run(rng):
    """A large imbalance keeps kernel and similarity where they are, a balanced small start does not."""
    loss = lrf.losses.LeastSquares(np.eye(4), rng.standard_normal((4, 4)))
    w = lrf.random_point(4, 4, 4, rng=rng, singular_values=np.full(4, 1e-2))
    ends = {}
    for gap in (0.0, -50.0):
        net = lrf.LinearNetwork.balanced(w, 2, imbalances=[gap], rng=rng)
        kept = columns.named(["kernel_trace", "decay_rate", "kernel_rate", "imbalance_rate"], loss)
        kept |= {"moved": columns.kernel_distance(net), "alike": columns.similarity_to(net)}
        t_end = 10 / max(-gap, 1)
        path = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, t_end), rtol=1e-8, save=lrf.Save(columns=kept))
        ends[gap] = {name: column[-1] for name, column in path.columns.items()}
        solution = exact.TwoLayer(loss, net)
        start = kernels.tangent_kernel(net)
        assert path.columns["moved"][-1] == pytest.approx(solution.tangent_kernel(t_end).distance(start), rel=1e-5)
        assert path.columns["kernel_trace"][-1] == pytest.approx(solution.tangent_kernel(t_end).trace(), rel=1e-6)
        for name in ("kernel_rate", "imbalance_rate"):
            assert (path.columns[name] <= path.columns["decay_rate"] * (1 + 1e-9)).all()
    assert ends[0.0]["moved"] > 10 and ends[-50.0]["moved"] < 0.05
    assert ends[-50.0]["alike"].shape == (2,) and ends[-50.0]["alike"][0] > 0.999 > ends[0.0]["alike"][0] + 0.05


# ---------------------------------------------------------------------------------------------------------------------
# rates


def square_loss(rng, m, n, unit=1.0):
    p = n + int(rng.integers(0, 4))
    return lrf.losses.LeastSquares(unit * rng.standard_normal((n, p)), rng.standard_normal((m, p)))


def test_rates_at_a_point(rng):
    """Four hundred networks, balanced, with an imbalance, of any widths: neither bound is above the measured rate."""
    tight = {"kernel": 0, "imbalance": 0, "backwards": 0, "twice": 0}
    for k in range(400):
        net = random_network(rng, depth=int(rng.integers(1, 4)))
        if k % 4 == 0:
            m, n = (int(rng.integers(1, 5)) for _ in range(2))
            w = lrf.random_point(m, n, min(m, n), rng=rng)
            net = lrf.LinearNetwork.balanced(w, 2, imbalances=[rng.choice([0, 1, -1, 30])], rng=rng)
        loss = square_loss(rng, *net.shape, unit=10 ** rng.uniform(-4, 4))
        rate = geometry.decay_rate(loss, net)
        bounds = geometry.kernel_rate(loss, net), geometry.imbalance_rate(loss, net)
        assert all(0 <= bound <= rate * (1 + 1e-10) for bound in bounds)  # least eigenvalues, to roundoff of the largest
        tight["kernel"] += bounds[0] > 0.1 * rate
        tight["imbalance"] += bounds[1] > 0.1 * rate
        # the controls: a bound twice as high, and one that takes the imbalance the other way around
        tight["twice"] += 2 * bounds[0] > rate
        if net.depth == 2:
            h = net.widths[0]
            s = np.linalg.svd(net.to_dense(), compute_uv=False)[-1]
            gaps = np.linalg.eigvalsh(net.imbalances()[0])
            sides = [(net.shape[0], net.shape[1], -gaps[-1]), (net.shape[1], net.shape[0], gaps[0])]
            mu = 2 * loss.spectrum.eigenvalues[-1]
            wrong = sum((low + np.hypot(low, 2 * s * (a <= b))) / 2 for a, b, low in sides if h >= a)
            tight["backwards"] += mu * wrong > rate * (1 + 1e-10)
    assert all(count > 5 for count in tight.values()), tight


def test_the_kernel_knows_at_least_what_the_imbalance_does(rng):
    """Both bound the same least eigenvalue of W_2 W_2^T and W_1^T W_1; equal where D = lambda I."""
    for _ in range(100):
        m, n = (int(rng.integers(1, 6)) for _ in range(2))
        net, loss = random_network(rng, depth=2), None
        loss = square_loss(rng, *net.shape)
        a, b = geometry.kernel_rate(loss, net), geometry.imbalance_rate(loss, net)
        assert b <= a * (1 + 1e-9) + 1e-12 * loss.spectrum.eigenvalues[-1]
        w = lrf.random_point(m, n, min(m, n), rng=rng)
        net = lrf.LinearNetwork.balanced(w, 2, imbalances=[rng.uniform(-2, 2)], rng=rng)
        loss = square_loss(rng, m, n)
        assert geometry.imbalance_rate(loss, net) == pytest.approx(geometry.kernel_rate(loss, net), rel=1e-9)


def test_a_margin_at_the_start_bounds_the_whole_run(rng):
    """L(t) - L_* against the exponential, whitened and not, square and not; a third faster is too fast for some."""
    broken = 0
    for k in range(24):
        m, n = [(3, 3), (4, 2), (2, 4), (1, 1)][k % 4]
        depth = [2, 3][k // 4 % 2]
        x = np.linalg.qr(rng.standard_normal((n, n)))[0] * rng.uniform(0.8, 1.0, n)
        w_star = lrf.random_point(m, n, min(m, n), rng=rng, singular_values=rng.uniform(1.5, 1.6, min(m, n))).to_dense()
        loss = lrf.losses.LeastSquares(x, w_star @ x)
        near = w_star + 0.5 * (step := rng.standard_normal((m, n))) / np.linalg.norm(step)
        gaps = np.full(depth - 1, [0.0, 0.7][k % 2] if depth == 2 else 0.0)
        net = lrf.LinearNetwork.balanced(lrf.LowRankMatrix.from_dense(near), depth, imbalances=gaps, rng=rng)
        rate = geometry.margin_rate(loss, net)
        assert rate > 0
        path = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 4 / rate), rtol=1e-9)
        seen = path.loss > 1e-12  # the flow's own error, squared
        bound = path.loss[0] * np.exp(-rate * path.t)
        assert (path.loss[seen] <= bound[seen] * (1 + 1e-6)).all()
        broken += bool((path.loss[seen] > path.loss[0] * np.exp(-3 * rate * path.t[seen]) * (1 + 1e-6)).any())
    assert broken > 3
    far = lrf.LinearNetwork.gaussian((3, 3), 3, widths=3, scale=0.1, rng=rng)
    assert geometry.margin_rate(lrf.losses.LeastSquares(np.eye(3), np.eye(3)), far) == 0


def test_every_rate_has_a_source():
    assert set(geometry.SOURCES) == {"decay_rate", "imbalance_rate", "kernel_rate", "margin_rate"}
    assert {name for name in columns.NAMES if name.endswith("rate")} <= set(geometry.SOURCES)


NET = lrf.LinearNetwork([np.eye(2), np.eye(2)])
COMPLETION = lrf.losses.Completion([0], [0], [1.0], (2, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kernels.tangent_kernel(np.eye(2)), TypeError, "`network` must be a LinearNetwork"),
        (lambda: kernels.TangentKernel([]), ValueError, "`terms` must hold a pair at least, got none."),
        (lambda: kernels.TangentKernel([(np.ones((2, 3)), np.eye(2))]), ValueError, "`terms` has shape (2, 3, 2, 2)"),
        (lambda: kernels.tangent_kernel(NET).dot(3), TypeError, "`other` must be a TangentKernel, got int 3."),
        (lambda: kernels.tangent_kernel(NET)(np.eye(3)), ValueError, "`z` has shape (3, 3) but the kernel acts on (2, 2)."),
        (lambda: kernels.tangent_kernel(NET).on(np.eye(3)), ValueError, "`inputs` must have 2 rows, got shape (3, 3)."),
        (lambda: kernels.similarities(NET, np.eye(3)), ValueError, "`inputs` must have 2 rows, got shape (3, 3)."),
        (lambda: kernels.alignment(np.eye(2), np.eye(3)), ValueError, "`b` has shape (3, 3) but `a` has (2, 2)."),
        (lambda: geometry.kernel_rate(COMPLETION, NET), ValueError, "`loss` must be a square loss with a spectrum, got Compl"),
        (lambda: columns.named(["kernel_rate"], COMPLETION), ValueError, "`columns` 'kernel_rate' needs the targets of a squ"),
    ],
)  # fmt: skip
def test_bad_arguments(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value) and "\n" not in str(caught.value)
