"""Gradient descent on the factors and the sharpness."""

import numpy as np
import pytest

import lowrankflow as lrf


@pytest.fixture
def problem(rng):
    loss = lrf.losses.LeastSquares(rng.standard_normal((5, 30)), rng.standard_normal((4, 30)), reduction="mean")
    start = lrf.random_point(4, 5, 2, rng=rng, singular_values=[0.5, 0.3])
    return loss, lrf.LinearNetwork.balanced(start, 3, widths=5, rng=rng)


def numpy_descent(loss, net, steps):
    """An oracle in plain numpy: autograd of the value of the dense product."""
    from functools import reduce

    from autograd import grad

    gradient = grad(lambda factors: loss.value(reduce(lambda a, f: f @ a, factors)))
    factors = tuple(net.factors)
    for h in steps:
        factors = tuple(f - h * g for f, g in zip(factors, gradient(factors), strict=True))
    return factors


@pytest.mark.parametrize("schedule", [0.05, lambda k: 0.1 / (k + 1)], ids=["constant", "decreasing"])
def test_exactly_n_updates_of_plain_descent(problem, schedule):
    loss, net = problem
    path = lrf.gradient_descent(loss, net, step_size=schedule, steps=37)
    steps = [schedule] * 37 if not callable(schedule) else [schedule(k) for k in range(37)]
    assert path.nsteps == 37 and path.status is lrf.Status.FINISHED
    assert path.t[-1] == pytest.approx(sum(steps), rel=1e-14)
    for ours, oracle in zip(path.points[-1].factors, numpy_descent(loss, net, steps), strict=True):
        # 37 updates, each with roundoff of products of 5 x 5 matrices of norm one
        assert np.allclose(ours, oracle, rtol=0, atol=1e-13)
    wrong = numpy_descent(loss, net, steps[:-1])
    assert not np.allclose(path.points[-1].factors[0], wrong[0], rtol=0, atol=1e-6)


def test_every_and_callback_keep_what_was_asked(problem):
    loss, net = problem
    seen = []
    path = lrf.gradient_descent(loss, net, step_size=0.01, steps=25, keep_every=10, callback=seen.append)
    assert path.t == pytest.approx([0, 0.1, 0.2, 0.25])
    assert len(path.points) == 4 and [p.t for p in seen] == pytest.approx(path.t[1:])
    assert path.loss == pytest.approx([loss.value(w) for w in path.points])


def test_divergence_is_a_status_and_keeps_the_last_good_iterate(problem):
    loss, net = problem
    path = lrf.gradient_descent(loss, net, step_size=10.0, steps=100, keep_every=40)
    assert path.status is lrf.Status.NOT_FINITE and 1 < path.nsteps < 40 and len(path.points) == 2
    assert all(np.isfinite(f).all() for w in path.points for f in w.factors) and np.isfinite(path.loss).all()
    assert f"no longer finite at update {path.nsteps + 1}, with step 10. Use less than 2 / sharpness" in path.message
    with pytest.raises(RuntimeError, match="no longer finite"):
        path.raise_if_failed()


def test_interruption_keeps_the_iterates(problem):
    loss, net = problem

    def stop(progress):
        if progress.t > 0.05:
            raise KeyboardInterrupt

    path = lrf.gradient_descent(loss, net, step_size=0.01, steps=1000, keep_every=1, callback=stop)
    assert path.status is lrf.Status.INTERRUPTED and 4 < len(path.points) < 10


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_sharpness_is_the_top_eigenvalue_of_the_dense_hessian(depth, rng):
    loss = lrf.losses.LeastSquares(rng.standard_normal((3, 20)), rng.standard_normal((3, 20)), reduction="mean")
    net = lrf.LinearNetwork.gaussian((3, 3), depth, widths=3, rng=rng)
    flat = np.concatenate([f.ravel() for f in net.factors])
    shapes = [f.shape for f in net.factors]

    def gradient(x):
        parts = np.split(x, np.cumsum([a * b for a, b in shapes])[:-1])
        factors = [p.reshape(s) for p, s in zip(parts, shapes, strict=True)]
        return np.concatenate([g.ravel() for g in lrf.factor_gradients(loss, lrf.LinearNetwork(factors))])

    h = 1e-5  # central differences: truncation h^2, roundoff eps / h, together below 1e-8
    hessian = np.stack([(gradient(flat + h * e) - gradient(flat - h * e)) / (2 * h) for e in np.eye(flat.size)])
    top = np.linalg.eigvalsh((hessian + hessian.T) / 2)[-1]
    assert lrf.sharpness(loss, net) == pytest.approx(top, rel=2e-3)  # the tolerance of the Lanczos iteration


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_sharpness_at_the_balanced_optimum_of_an_autoencoder(depth, rng):
    x = rng.standard_normal((6, 40)) * np.arange(1, 7)[:, None]
    loss = lrf.losses.LeastSquares(x, x, reduction="mean")
    net = lrf.LinearNetwork.balanced(loss.minimiser(2), depth)
    lambda_1 = np.linalg.eigvalsh(x @ x.T / 40)[-1]
    assert lrf.sharpness(loss, net) == pytest.approx(depth * lambda_1, rel=2e-3)  # N lambda_1, flow.md 1.9
    assert lrf.sharpness(loss, net) != pytest.approx((depth + 1) * lambda_1, rel=0.05)


@pytest.mark.parametrize("factor, stays", [(0.95, True), (1.05, False)])
def test_descent_at_the_edge_of_stability(factor, stays, rng):
    x = rng.standard_normal((4, 30))
    loss = lrf.losses.LeastSquares(x, x, reduction="mean")
    net = lrf.LinearNetwork.balanced(loss.minimiser(2), 3)
    nudged = lrf.LinearNetwork([f + 1e-6 * rng.standard_normal(f.shape) for f in net.factors])
    threshold = 2 / (3 * loss.curvature)
    path = lrf.gradient_descent(loss, nudged, step_size=factor * threshold, steps=600)
    away = np.linalg.norm(path.points[-1].to_dense() - net.to_dense())
    # the top mode moves by |1 - 2 factor|^600: 1e-27 of its start, or 1e24 times until it is no longer linear
    assert (away < 1e-4) if stays else (away > 1e-2)


def test_cumulative_imbalance_of_descent_is_of_order_h(problem):
    loss, net = problem
    drift = []
    for k in range(6):
        path = lrf.gradient_descent(loss, net, step_size=0.05 / 2**k, steps=40 * 2**k)
        drift.append(path.points[-1].imbalance())
    orders = np.log2(np.array(drift[:-1]) / drift[1:])
    assert np.abs(orders - 1).max() < 0.1


def test_drift_identity_of_one_step(problem):
    loss, net = problem
    h = 0.1
    grads = lrf.factor_gradients(loss, net)
    after = lrf.gradient_descent(loss, net, step_size=h, steps=1).points[-1].imbalances()
    for j, (new, old) in enumerate(zip(after, net.imbalances(), strict=True)):
        exact = h**2 * (grads[j + 1].T @ grads[j + 1] - grads[j] @ grads[j].T)
        assert np.allclose(new - old, exact, rtol=0, atol=1e-13)  # roundoff of matrices of norm one
        assert not np.allclose(new - old, 2 * exact, rtol=0, atol=1e-13)


def test_sharpness_of_factors_of_rank_one():
    """The Hessian has a handful of eigenvalues, in units from 1e-8 to 1e8, at factors from 1e-9 to 1; against the dense one."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n, depth = int(rng.integers(1, 5)), int(rng.integers(2, 6))
        scale = 10.0 ** rng.uniform(-9, 0)
        loss = lrf.losses.LeastSquares(np.eye(n), 10.0 ** rng.uniform(-8, 8) * np.outer(rng.standard_normal(n), np.eye(n)[0]))
        net = lrf.LinearNetwork([scale * np.outer(rng.standard_normal(n), rng.standard_normal(n)) for _ in range(depth)])
        hessian = lrf.geometry.factor_hessian(loss, net, exact=True)
        dense = hessian @ np.eye(hessian.shape[0])
        values = np.linalg.eigvalsh((dense + dense.T) / 2)
        # to the tolerance of the iteration, and where the top is below the accuracy of differences, to that
        assert lrf.sharpness(loss, net) == pytest.approx(values[-1], rel=5e-3, abs=1e-8 * np.abs(values).max())


def test_sharpness_where_the_hessian_is_roundoff():
    """At zero factors of depth 3: ARPACK does not go on from images of zero. At depth 2, the control, it is ||G||_2."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        m, a, b, n = (int(d) for d in rng.integers(1, 5, 4))
        loss = lrf.losses.LeastSquares(rng.standard_normal((n, n + 3)), rng.standard_normal((m, n + 3)))
        deep = lrf.LinearNetwork([np.zeros((a, n)), np.zeros((b, a)), np.zeros((m, b))])
        assert abs(lrf.sharpness(loss, deep)) < 1e-12 * loss.curvature
        shallow = lrf.LinearNetwork([np.zeros((a, n)), np.zeros((m, a))])
        slope = np.linalg.norm(loss.gradient(shallow) @ np.eye(n), 2)
        assert lrf.sharpness(loss, shallow) == pytest.approx(slope, rel=2e-3)
