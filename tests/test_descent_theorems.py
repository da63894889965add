"""Theorems about descent and training, on problems of the papers' kind: where runs end, what is bounded, what biases conserve."""

from itertools import pairwise

import numpy as np
import pytest

import lowrankflow as lrf
from lowrankflow.descent import EdgeFraction, GradientBelow, step_bound


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_random_unbalanced_starts_end_at_the_best_value_of_a_rank(depth):
    """At depth 2 all reach the global minimum; deeper, the value of some rank, here always the full one."""
    rng = np.random.default_rng(depth)
    q, _ = np.linalg.qr(rng.standard_normal((6, 3)))
    x = np.diag([1.5, 1.0, 0.8]) @ q.T
    loss = lrf.losses.LeastSquares(x, np.diag([2.0, 1.3, 0.9]) @ rng.permutation(np.eye(3)) @ q.T)
    levels = np.array([loss.best_value(k) if k else loss.value(np.zeros((3, 3))) for k in range(4)])
    ends = []
    step = EdgeFraction(0.3, every=10 if depth == 4 else 50)
    for seed in range(50 if depth == 2 else 12):
        net = lrf.LinearNetwork.gaussian((3, 3), depth, widths=3, scale=0.8, rng=seed)
        path = lrf.gradient_descent(loss, net, step_size=step, steps=60_000, stop=GradientBelow(1e-8), keep_every=60_000)
        assert path.status is lrf.Status.CONVERGED
        ends.append(path.loss[-1])
    gaps = np.abs(np.array(ends)[:, None] - levels)
    # a gradient of 1e-8 leaves 1e-16 over the least curvature, about 0.1; a plateau could be taken for the end at ten times that
    assert gaps.min(axis=1).max() < 1e-8
    ranks = gaps.argmin(axis=1)
    assert (ranks == 3).all() if depth == 2 else (ranks == 3).sum() >= 10
    assert np.abs(np.diff(levels)).min() > 0.1  # the control: no two values are so near that any would do


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("form", ["derived", "recalled"])
def test_the_bounds_hold_for_an_autoencoder(depth, form):
    """In 20 dimensions, 60 samples; the recalled K, with (N + 1)^2 delta, is larger, and holds too."""
    x = np.random.default_rng(2021).standard_normal((20, 60)) / np.sqrt(20)
    loss = lrf.losses.LeastSquares(x, x)
    start = lrf.random_point(20, 20, 5, rng=depth, singular_values=np.ones(5))
    net = lrf.LinearNetwork.balanced(start, depth, widths=5)
    bound = step_bound(loss, net)
    k = bound.factor if form == "derived" else bound.product ** (2 / depth) + (depth + 1) ** 2 * bound.delta
    seen = []

    def watch(at):
        seen.append((at.loss, at.gradient_norm**2, max(np.linalg.norm(f, 2) for f in at.network.factors) ** 2,
                     at.network.imbalance()))  # fmt: skip
        return False

    lrf.gradient_descent(loss, net, step_size=bound.step, steps=400, stop=watch)
    value, square, norm, imbalance = np.array(seen).T
    assert (np.diff(value) <= -bound.sigma * bound.step * square[:-1] + 1e-13 * value[0]).all()
    assert norm.max() <= k and imbalance.max() <= bound.delta
    # the controls: a far longer step, and a bound of the factors without the targets
    far = lrf.gradient_descent(loss, net, step_size=300 * bound.step * depth**2, steps=400, keep_every=1)
    assert not far.status.finished or (np.diff(far.loss) > 0).any()
    assert norm.max() > (np.linalg.norm(x, 2) / 1e3) ** (2 / depth)


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("part, stays", [(0.95, True), (1.05, False)])
def test_the_edge_at_the_autoencoders_optimum(depth, part, stays):
    x = np.random.default_rng(7).standard_normal((4, 30)) / 4
    loss = lrf.losses.LeastSquares(x, x)
    best = lrf.LinearNetwork.balanced(loss.minimiser(4), depth)
    assert lrf.sharpness(loss, best, tol=1e-10, exact=True) == pytest.approx(depth * loss.curvature, rel=1e-8)
    rng = np.random.default_rng(depth)
    start = lrf.LinearNetwork([f + 1e-6 * rng.standard_normal(f.shape) for f in best.factors])
    h = part * 2 / (depth * loss.curvature)
    path = lrf.gradient_descent(loss, start, step_size=h, steps=600)
    away = np.linalg.norm(path.points[-1].to_dense() - best.to_dense())
    # 0.9^600 = 3e-28, and 1.1^600 = 7e24 times the start; the slowest mode is a fifth as fast as the edge: 0.6^600
    assert away < 1e-12 if stays else away > 1e-2


def test_one_step_from_balanced_factors_is_a_riemannian_step():
    """With the product retraction: W_j + lift_j. Rebalanced after every step or not, the gap is O(h)."""
    rng = np.random.default_rng(3)
    loss = lrf.losses.LeastSquares(rng.standard_normal((5, 20)), rng.standard_normal((4, 20)), reduction="mean")
    w = lrf.random_point(4, 5, 2, rng=rng)
    net = lrf.LinearNetwork.balanced(w, 3, widths=4, rng=rng)
    z = lrf.riemannian_gradient(w, loss.gradient(w), lrf.DepthMetric(3))
    lifts = lrf.horizontal_lift(net, z.at(w))
    h = 0.1
    step = lrf.gradient_descent(loss, net, step_size=h, steps=1).points[-1]
    ours = lrf.LinearNetwork([f - h * e for f, e in zip(net.factors, lifts, strict=True)])
    assert np.allclose(step.to_dense(), ours.to_dense(), rtol=0, atol=1e-14)
    wrong = lrf.riemannian_gradient(w, loss.gradient(w), lrf.DepthMetric(4))
    off = lrf.LinearNetwork([f - h * e for f, e in zip(net.factors, lrf.horizontal_lift(net, wrong.at(w)), strict=True)])
    assert not np.allclose(step.to_dense(), off.to_dense(), rtol=0, atol=1e-4)  # the control


def test_trained_biases_belong_to_what_is_conserved():
    """A row of ones among the inputs is the bias of the first layer: W_2^T W_2 - W_1 W_1^T - b b^T is conserved."""
    rng = np.random.default_rng(4)
    x = np.vstack([rng.standard_normal((3, 20)), np.ones(20)])
    loss = lrf.losses.LeastSquares(x, rng.standard_normal((2, 20)), reduction="mean")
    net = lrf.LinearNetwork.gaussian((2, 4), 2, widths=3, rng=rng)
    path = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 5), rtol=1e-12, method="DOP853")

    def conserved(w, biased):
        a, b = w.factors
        inner = a if biased else a[:, :3]
        return b.T @ b - inner @ inner.T

    moved = [np.linalg.norm(conserved(path.points[-1], biased) - conserved(net, biased)) for biased in (True, False)]
    assert moved[0] < 1e-10 < 0.05 < moved[1]  # a few hundred steps of 1e-12; without the bias it moves


@pytest.mark.parametrize("rule", [None, lrf.descent.HeavyBall(0.9), lrf.descent.Adam()], ids=repr)
def test_seeds_make_runs_repeat(rule):
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((3, 20)), rng.standard_normal((2, 20))
    loss = lrf.losses.LeastSquares(x, y, reduction="mean")
    net = lrf.LinearNetwork.gaussian((2, 3), 3, widths=3, rng=0)
    runs = [
        lrf.gradient_descent(
            loss, net, step_size=0.01, steps=50, rule=rule, batches=lrf.descent.MiniBatches(x, y, 4, rng=seed)
        ).points[-1]
        for seed in (1, 1, 2)
    ]
    assert all(np.array_equal(a, b) for a, b in zip(runs[0].factors, runs[1].factors, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(runs[0].factors, runs[2].factors, strict=True))
    assert all(b.shape[1] == a.shape[0] for a, b in pairwise(runs[0].factors))
