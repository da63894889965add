"""Columns that are asked for by name, against dense formulas, along flows and descent."""

from itertools import pairwise

import numpy as np
import pytest

import lowrankflow as lrf
from lowrankflow import columns


def problem(seed, shape=(3, 4), depth=3, width=4, scale=1.0):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((shape[1], 12)), scale * rng.standard_normal((shape[0], 12))
    loss = lrf.losses.LeastSquares(x, y)
    loss.data = x, y
    return loss, lrf.LinearNetwork.gaussian(shape, depth, widths=width, scale=0.6 * scale ** (1 / depth), rng=rng)


def value(name, loss, w):
    return columns.named([name], loss)[name](0.0, w)


PROBLEMS = [
    (shape, depth, width, scale)
    for shape in [(1, 1), (3, 4), (5, 2)]
    for depth, width in [(2, 1), (3, 4), (5, 3)]
    for scale in [1e-8, 1.0, 1e8]
]


@pytest.mark.parametrize("shape, depth, width, scale", PROBLEMS)
def test_each_is_its_formula(shape, depth, width, scale):
    loss, net = problem(0, shape, depth, width, scale)
    w, f = net.to_dense(), [np.asarray(a) for a in net.factors]
    d = [b.T @ b - a @ a.T for a, b in pairwise(f)]
    size = max(np.linalg.norm(a, 2) for a in f) ** 2
    assert value("imbalance", loss, net) == pytest.approx(max(np.abs(np.linalg.eigvalsh(e)).max() for e in d), rel=1e-12)
    got = value("imbalance_spectrum", loss, net)
    assert got == pytest.approx(np.concatenate([np.linalg.eigvalsh(e) for e in d]), abs=1e-13 * size)
    top = [np.linalg.svd(a) for a in f]
    got = value("layer_alignment", loss, net)
    assert got.shape == (depth - 1,) and (got <= 1 + 1e-12).all()
    for j in range(depth - 1):
        inner = np.linalg.norm(f[j + 1] @ f[j], 2) / (top[j][1][0] * top[j + 1][1][0])
        assert got[j] == pytest.approx(inner, rel=1e-12)
        assert got[j] >= abs(top[j][0][:, 0] @ top[j + 1][2][0]) - 1e-12  # no less than the overlap of the top pairs
    x, y = loss.data
    c = x @ x.T
    values, vectors = np.linalg.eigh(c)
    root = (vectors * np.sqrt(values)) @ vectors.T
    target = y @ x.T @ np.linalg.inv(root)
    u, s, vt = np.linalg.svd(target, full_matrices=False)
    # signs of the pairs drop out of u^T B v; random spectra are apart
    strengths = np.array([u[:, i] @ w @ root @ vt[i] for i in range(s.size)])
    assert value("mode_strengths", loss, net) == pytest.approx(strengths, abs=1e-9 * np.linalg.norm(w @ root))
    a, _, bt = np.linalg.svd(w @ root, full_matrices=False)
    k = min(width, *shape)
    overlap = np.array([(u[:, i] @ a[:, i]) * (bt[i] @ vt[i]) for i in range(k)])
    assert value("mode_alignment", loss, net) == pytest.approx(overlap, abs=1e-7)
    p = np.linalg.svd(w, compute_uv=False)[:k]
    p = p[p > 0] / p.sum()
    assert value("effective_rank", loss, net) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-9)
    assert value("sharpness", loss, net) == lrf.sharpness(loss, net)


def test_at_zero_and_at_the_minimiser():
    loss, net = problem(1)
    zero = lrf.LinearNetwork([0 * f for f in net.factors])
    for name in set(columns.NAMES) - {"sharpness"}:
        assert np.isfinite(value(name, loss, zero)).all()
    assert value("effective_rank", loss, zero) == 0 and not value("layer_alignment", loss, zero).any()
    best = lrf.LinearNetwork.balanced(loss.minimiser(2), 3)
    assert value("mode_strengths", loss, best) == pytest.approx([*loss.spectrum.sigma[:2], 0], abs=1e-12 * loss.spectrum.sigma[0])
    assert value("mode_alignment", loss, best) == pytest.approx([1, 1], abs=1e-12)
    assert value("layer_alignment", loss, best) == pytest.approx([1, 1], rel=1e-12)
    turned = lrf.LinearNetwork([best.factors[0], np.array([[0.0, 1.0], [1.0, 0.0]]) @ best.factors[1], best.factors[2]])
    assert value("layer_alignment", loss, turned).min() < 1 - 1e-3  # the control


def test_along_a_flow_and_along_descent():
    loss, net = problem(2)
    names = ["imbalance", "effective_rank", "mode_strengths"]
    flow = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 0.05), rtol=1e-10, save=lrf.Save(columns=names))
    gd = lrf.gradient_descent(loss, net, step_size=1e-3, steps=50, columns=names, keep_every=10)
    for path in (flow, gd):
        assert set(path.columns) == set(names) and path.columns["mode_strengths"].shape == (path.t.size, 3)
        assert path.columns["imbalance"] == pytest.approx([w.imbalance() for w in path.points], rel=1e-12)
    assert np.ptp(flow.columns["imbalance"]) < 1e-8 < 1e-5 < np.ptp(gd.columns["imbalance"])  # conserved, and not
    riemannian, start = lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), net.to_low_rank(2)
    low = lrf.integrate(riemannian, start, t_span=(0, 0.05), save=lrf.Save(columns=["effective_rank"]))
    assert (low.columns["effective_rank"] <= 2).all()
    with pytest.raises(TypeError, match="`columns` 'imbalance' needs factors, got a run of LowRankMatrix"):
        lrf.integrate(riemannian, start, t_span=(0, 0.1), save=lrf.Save(columns=["imbalance"]))


def test_held_out_loss_and_distance_to_the_flow():
    loss, net = problem(3)
    other, _ = problem(4)
    flow = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 0.05), rtol=1e-11, save=lrf.Save(dense=True))

    def run(h):
        return lrf.gradient_descent(
            loss, net, step_size=h, steps=round(0.05 / h), keep_every=1,
            columns={"held out": columns.held_out(other), "away": columns.distance_to(flow)},
        )  # fmt: skip

    coarse, fine = run(1e-3), run(5e-4)
    assert coarse.columns["held out"] == pytest.approx([other.value(w) for w in coarse.points], rel=1e-12)
    assert coarse.columns["away"][0] < 1e-13
    assert coarse.columns["away"].max() / fine.columns["away"].max() == pytest.approx(2, abs=0.15)
    beyond = lrf.gradient_descent(loss, net, step_size=0.03, steps=2, keep_every=1, columns={"away": columns.distance_to(flow)})
    assert np.isnan(beyond.columns["away"]).tolist() == [False, False, True]


def test_what_is_refused():
    loss, _ = problem(5)
    with pytest.raises(ValueError, match="`columns` must name each once, got 'sharpness' twice"):
        columns.named(["sharpness", "sharpness"], loss)
    logistic = lrf.losses.Completion([0, 1], [0, 1], [1.0, 2.0], shape=(3, 4))
    with pytest.raises(ValueError, match="`columns` 'mode_strengths' needs the targets of a square loss, got Completion"):
        columns.named(["mode_strengths"], logistic)
    assert columns.named([], loss) == {}
