"""Sparse observations: the same answers as dense ones, and nothing of size m x n on the way."""

import gc
import tracemalloc

import numpy as np
import pytest
from oracles import EPS, balanced_factors, chain, factor_flow

import lowrankflow as lrf

MB = 2**20


class DenseMask:
    """The same loss on arrays of size m x n: the oracle, and what the memory test must catch."""

    def __init__(self, loss):
        self.shape, self.rows, self.cols, self.values = loss.shape, loss.rows, loss.cols, loss.values

    def residual(self, w):
        dense = w if isinstance(w, np.ndarray) else w.to_dense()
        out = np.zeros(self.shape)
        out[self.rows, self.cols] = dense[self.rows, self.cols] - self.values
        return out

    def value(self, w):
        return 0.5 * float((self.residual(w) ** 2).sum())

    def gradient(self, w):
        return self.residual(w)


def problem(m, n, observed, rank, rng):
    """Distinct random positions of a random low-rank matrix, and a start."""
    keys = np.unique(rng.integers(0, m * n, observed))
    rows, cols = np.divmod(keys, n)
    target = lrf.random_point(m, n, rank, rng=rng, singular_values=np.linspace(2, 1, rank) * np.sqrt(m * n / 10))
    loss = lrf.losses.Completion(rows, cols, target.entries(rows, cols), (m, n))
    start = lrf.random_point(m, n, rank, rng=rng, singular_values=np.full(rank, 0.1 * np.sqrt(m * n / 10)))
    return loss, start


# ---------------------------------------------------------------------------------------------------------------------
# the same answers


@pytest.mark.parametrize("metric", [lrf.DepthMetric(2), lrf.DepthMetric(3), lrf.EmbeddedMetric()], ids=str)
def test_gradient_is_that_of_the_dense_loss(metric, rng):
    loss, w = problem(40, 30, 300, 3, rng)
    dense = DenseMask(loss)
    np.testing.assert_allclose(loss.value(w), dense.value(w), rtol=1e-13)
    a = lrf.riemannian_gradient(w, loss.gradient(w), metric)
    b = lrf.riemannian_gradient(w, dense.gradient(w), metric)
    # sums of some 300 products
    assert (a - b).norm() < 1000 * EPS * b.norm()
    net = lrf.LinearNetwork.balanced(w, 3, widths=(4, 6), rng=rng)
    for x, y in zip(lrf.factor_gradients(loss, net), lrf.factor_gradients(dense, net), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1000 * EPS * max(1.0, np.linalg.norm(y)))


@pytest.mark.parametrize("depth", [2, 3])
def test_trajectory_is_that_of_the_dense_loss(depth, rng):
    """Against the library on the dense loss, same steps to roundoff; and against a factor flow by hand."""
    loss, w = problem(20, 15, 120, 2, rng)
    w = lrf.LowRankMatrix(w.u, w.s / np.sqrt(20 * 15 / 10), w.vt)
    loss = lrf.losses.Completion(loss.rows, loss.cols, loss.values / np.abs(loss.values).max(), loss.shape)
    dense, times = DenseMask(loss), [0.5, 1.0]

    def run(x):
        save = lrf.Save(times=times)
        path = lrf.integrate(lrf.RiemannianFlow(x, lrf.DepthMetric(depth)), w, t_span=(0, 1), rtol=1e-11, save=save)
        return np.array([p.to_dense() for p in path.points[1:]])

    sparse = run(loss)
    # rtol = 1e-11 over some fifty steps, in case a step is chosen otherwise; LSODA accumulates more, see test_charts
    np.testing.assert_allclose(sparse, run(dense), rtol=0, atol=1e-10)
    by_hand = factor_flow(dense.gradient, balanced_factors(w, depth), times)
    np.testing.assert_allclose(sparse, [chain(fs) for fs in by_hand], rtol=0, atol=1e-8)
    assert np.abs(sparse[-1] - w.to_dense()).max() > 1e-3


# ---------------------------------------------------------------------------------------------------------------------
# memory


def peak_memory(loss, start, *, t_end, max_evaluations):
    """Bytes allocated at the worst moment of a few velocities, factor gradients and an integration, over the data."""
    gc.collect()
    tracemalloc.start()
    try:
        for metric in (lrf.DepthMetric(3), lrf.EmbeddedMetric()):
            system = lrf.SingularFrame().bind(lrf.RiemannianFlow(loss, metric), start)
            system.rates(0.0, system.y0)
            system.stationarity(system.y0)
        net = lrf.LinearNetwork.balanced(start, 3)
        lrf.riemannian_gradient_from_factors(net, lrf.factor_gradients(loss, net)).norm()
        path = lrf.integrate(
            lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), start, t_span=(0, t_end), rtol=1e-4,
            max_evaluations=max_evaluations, save=lrf.Save(dissipation=True),
        )  # fmt: skip
        assert path.nsteps >= 2
        assert path.loss[-1] < path.loss[0]
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_on_a_large_sparse_problem(rng):
    """20000 x 20000, 200 000 observations, rank 10: below 400 MB over the data, where one dense array has 3.2 GB."""
    m = n = 20_000
    loss, start = problem(m, n, 200_000, 10, rng)
    assert m * n * 8 > 3000 * MB
    assert peak_memory(loss, start, t_end=1.0, max_evaluations=60) < 400 * MB


def test_memory_measurement_catches_a_dense_loss(rng):
    """Control at 2000 x 2000, where one dense array has 32 MB: half of it separates the two losses."""
    loss, start = problem(2000, 2000, 20_000, 5, rng)
    bound = 2000 * 2000 * 8 / 2
    assert peak_memory(loss, start, t_end=1.0, max_evaluations=60) < bound
    assert peak_memory(DenseMask(loss), start, t_end=1.0, max_evaluations=30) > 2 * bound


@pytest.mark.parametrize("n", [6000])
def test_memory_of_few_samples_in_many_dimensions(n, rng):
    """LeastSquares with p << n keeps X X^T as a product: no n x n and no m x n array."""
    x, y = rng.standard_normal((n, 40)), rng.standard_normal((n, 40))
    tracemalloc.start()
    try:
        loss = lrf.losses.LeastSquares(x, y)
        w = lrf.random_point(n, n, 3, rng=rng)
        z = lrf.riemannian_gradient(w, loss.gradient(w), lrf.DepthMetric(3))
        loss.value(w)
        loss.hessian(w, z.at(w)).norm()
        loss.best_value(3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < n * n * 8 / 4
