"""Leaving saddles: the residual problem, and escape times against the order."""

from itertools import pairwise

import numpy as np
import pytest
from test_landscape import Drawn, basis, gradient

import lowrankflow as lrf
from lowrankflow import landscape
from lowrankflow.landscape.canonical import Canonical
from lowrankflow.landscape.whitened import chain


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
