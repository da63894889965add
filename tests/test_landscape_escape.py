"""Leaving saddles: the residual problem, and escape times against the order."""

from itertools import pairwise

import numpy as np
import pytest
from test_landscape import Drawn, gradient

import lowrankflow as lrf
from lowrankflow import landscape
from lowrankflow.claims.populations import random_basis as basis
from lowrankflow.landscape.canonical import Canonical
from lowrankflow.landscape.whitened import chain
from lowrankflow.losses import LeastSquares


def test_beside_the_active_part_lives_a_network_of_its_own():
    """L = L_S - <M, T_Q> + ||M||^2 / 2 for any blocks, critical or not, M their product."""
    for seed in range(200):
        p = Drawn(seed)
        problem, rng, r = p.problem, np.random.default_rng(seed), len(p.index_set)
        dims = [p.sizes[0], *(d - r for d in p.sizes[1:])]
        blocks = [rng.standard_normal((b, a)) for a, b in pairwise(dims)]
        blocks[0][:, list(p.index_set)] = 0.0  # what the inputs of S are made into is the active part
        form = Canonical(problem, p.index_set, tuple(basis(d, rng) for d in p.sizes[1:-1]), tuple(blocks))
        m, target = chain(blocks, 0), problem.target[form.others]
        beside = problem.unit * (0.5 * np.linalg.norm(m) ** 2 - np.vdot(m, target))
        value = float(p.loss.value(problem.network(form.factors())))
        # sums of squares of what is added; four bases of condition e
        scale = value + abs(beside) + (p.targets**2).sum()
        assert value == pytest.approx(problem.value(p.index_set) + beside, abs=1e-11 * scale)


def test_critical_if_and_only_if_all_products_around_the_cycle_vanish():
    """Of forms with some blocks of low rank, both kinds, against gradients in the coordinates of the factors."""
    counts = {True: 0, False: 0}
    for seed in range(600):
        p = Drawn(seed)
        problem, rng, r, n = p.problem, np.random.default_rng(seed), len(p.index_set), p.depth
        if r == min(p.sizes) or problem.target_rank < problem.shape[0]:
            continue
        dims = [p.sizes[0], *(d - r for d in p.sizes[1:])]
        blocks = [rng.standard_normal((b, a)) for a, b in pairwise(dims)]
        blocks[0][:, [i for i in range(dims[0]) if i in p.index_set or i >= problem.shape[0]]] = 0.0
        for i in rng.permutation(n)[: rng.integers(0, 3)]:
            blocks[i][:] = 0.0
        form = Canonical(problem, p.index_set, tuple(basis(d, rng) for d in p.sizes[1:-1]), tuple(blocks))
        cycle = form.cycle()
        products = []
        for first in range(n):
            product = np.eye(cycle[first].shape[1])
            for k in range(n - 1):
                product = cycle[(first + k) % n] @ product
            products.append(np.abs(product).max(initial=0.0))
        f = problem.network(form.factors()).factors
        norms = [np.linalg.norm(x, 2) for x in f]
        size = np.linalg.norm(p.inputs, 2) ** 2 * np.prod(norms) + np.linalg.norm(p.targets @ p.inputs.T, 2)
        largest = max(
            np.linalg.norm(g) / (size * max(np.prod(np.delete(norms, j)), 1e-300))
            for j, g in enumerate(gradient(f, p.inputs, p.targets))
        )
        vanish = max(products) < 1e-12
        counts[vanish] += 1
        assert (largest < 1e-11) == vanish
    assert min(counts.values()) > 50


def without_kernels(seed):
    """A non-strict saddle that is critical by zeros in the middle, its last block tall or its first one wide, or both."""
    rng = np.random.default_rng(seed)
    depth, (p, q) = int(rng.integers(3, 7)), rng.integers(2, 5, 2)
    sigma = np.cumsum(rng.uniform(0.3, 1.0, min(p, q)))[::-1]
    sigma[int(rng.integers(1, sigma.size + 1)) :] = 0.0  # targets of lower rank among them
    target = np.zeros((p, q))
    np.fill_diagonal(target, sigma)
    sizes = [q, *(int(d) for d in rng.integers(1, 3, depth - 1)), p]
    blocks = [rng.standard_normal((b, a)) for a, b in pairwise(sizes)]
    for i in rng.permutation(depth)[: int(rng.integers(1, 4))]:
        blocks[i][:] = 0.0
    seen = int((sigma > 0).sum())
    if rng.random() < 0.5:
        blocks[-1][:seen] = 0.0  # the last block leads beside the targets
    if rng.random() < 0.5:
        blocks[0][:, :seen] = 0.0
    u, v = (np.linalg.qr(rng.standard_normal((d, d)))[0] for d in (p, q))
    blocks[0], blocks[-1] = blocks[0] @ v.T, u @ blocks[-1]
    return LeastSquares(np.eye(q), u @ target @ v.T), lrf.LinearNetwork(blocks)


def test_saddles_whose_ends_have_no_kernel_are_left_all_the_same():
    """For all t > 0 the loss is no larger than is said, and it falls; of order 3, 4 and 5, with further terms."""
    counts, curves = dict.fromkeys((3, 4, 5), 0), 0
    for seed in range(1500):
        loss, network = without_kernels(seed)
        here = landscape.classify(network, loss, nearby=False)
        if here.kind != "non-strict saddle":
            continue
        try:
            out = landscape.escape(network, loss, place=here)
        except ValueError as error:  # of order 3, where the middle layer alone changes the product
            assert here.order == 3 and "Curves leave it" in str(error)
            curves += 1
            continue
        assert out.order == here.order
        if out.exact or out.order not in counts:
            continue
        counts[out.order] += 1
        value = float(loss.value(network))
        ts = [*np.geomspace(1e-3, 1.0, 12) * out.best, *np.geomspace(1e-2, 1e2, 9)]
        for t in ts:
            # roundoff of the terms, which cancel
            scale = value + out.descent * t**out.order + out.rise * t**out.power
            assert float(loss.value(out.at(t))) <= out.loss(t) + 1e-12 * scale
        # at its best t a half of a t^m is gained at least
        assert float(loss.value(out.at(out.best))) <= value - 0.49 * out.descent * out.best**out.order + 1e-13 * value
        # the control: with a tenth more of the fall it would be said wrongly somewhere; a is not given away but for a half
        steeper = [value - 2.5 * out.descent * t**out.order for t in ts[:4]]
        assert any(float(loss.value(out.at(t))) > said for t, said in zip(ts[:4], steeper, strict=True))
    assert sum(counts.values()) > 200 and min(counts.values()) > 4 and curves > 5, (counts, curves)


def test_where_no_line_falls_a_curve_does():
    """L(W + tV) rises as t^2 for every V that moves the middle layer, and does not change else; on the curve it falls as t^4."""
    loss = LeastSquares(np.eye(2), np.diag([3.0, 0.0]))
    network = lrf.LinearNetwork([[[0.0, 1.0]], [[0.0]], [[0.0], [1.0]]])
    rng, value = np.random.default_rng(0), 4.5
    assert landscape.classify(network, loss).order == 3
    for _ in range(200):
        v = [rng.uniform(-1, 1, f.shape) for f in network.factors]
        v[1][:] = slope = float(10.0 ** rng.uniform(-1, 0)) * rng.choice([-1, 1])
        t = 1e-2 * abs(slope)  # far below where t^3 would win
        moved = lrf.LinearNetwork([f + t * z for f, z in zip(network.factors, v, strict=True)])
        assert (float(loss.value(moved)) - value) / t**2 == pytest.approx(0.5 * slope**2, rel=0.1)
    a, b = np.array([[1.0, 0.0]]), np.array([[1.0], [0.0]])
    for t in (0.1, 0.01):
        w1, _, w3 = network.factors
        moved = lrf.LinearNetwork([w1 + t * a, np.array([[3.0 * t**2]]), w3 + t * b])
        # -3 t (3 t^2) t + (3 t^2)^2 / 2 = -9 t^4 / 2, and terms of order t^6
        assert (float(loss.value(moved)) - value) / t**4 == pytest.approx(-4.5, rel=10 * t**2)


@pytest.mark.slow
@pytest.mark.parametrize("order", [2, 3, 4])
def test_escape_times_from_noise(order):
    """T(eps / 2) / T(eps) is 2^(m - 2) at a saddle of order m >= 3; at order 2 a halving adds ln 2 over the rate.

    The flow from the saddle plus eps times fixed noise, until the loss is half of the way down to the next value. The
    power law is that of eps -> 0: 10 % at eps = 0.02 and less, and order 3 against 4 is the control.
    """
    sigma = np.array([2.0, 1.0, 0.5])
    loss = lrf.losses.LeastSquares(np.eye(3), np.diag(sigma))
    saddle = landscape.saddle(loss, 4, widths=3, rank=1, order=order)
    here = landscape.classify(saddle, loss)
    assert here.order == order
    level = here.critical_value - 0.25 * sigma[1] ** 2
    noise = [np.random.default_rng(5).standard_normal(f.shape) for f in saddle.factors]
    times = []
    for eps in (0.02, 0.01, 0.005):
        start = lrf.LinearNetwork([f + eps * z for f, z in zip(saddle.factors, noise, strict=True)])
        down = lrf.Event("down", lambda t, w: float(loss.value(w)) - level, terminal=True)
        path = lrf.integrate(lrf.FactorFlow(loss), start, t_span=(0.0, 1e7), rtol=1e-8, events=[down])
        assert path.status is lrf.Status.EVENT
        times.append(path.t[-1])
    if order == 2:
        ends = landscape.extreme_eigenvalues(loss, saddle, products=200, rng=0)
        rate = abs(ends.upper_bound)
        assert np.diff(times) == pytest.approx(np.log(2) / rate, rel=0.5)
    else:
        ratios = np.array(times[1:]) / times[:-1]
        assert ratios == pytest.approx(2.0 ** (order - 2), rel=0.1)
