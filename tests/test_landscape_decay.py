"""Weight decay mode by mode, the least sharpness, the learning coefficient."""

from fractions import Fraction
from itertools import pairwise, product

import autograd.numpy as anp
import mpmath
import numpy as np
import pytest
from autograd import grad, hessian
from oracles import chain, product_jacobian, sides
from scipy.optimize import least_squares, minimize

import lowrankflow as lrf
from lowrankflow.landscape.decay import (
    decayed_mode,
    decayed_modes,
    decayed_network,
    least_curvature,
    mode_values,
    switch_value,
    tie_value,
)
from lowrankflow.landscape.flatness import least_sharpness, refactored
from lowrankflow.landscape.learning import learning_coefficient
from lowrankflow.losses import LeastSquares, Schatten

DEPTHS = pytest.mark.parametrize("depth", [2, 3, 4, 5, 6])

# ---------------------------------------------------------------------------------------------------------------------
# oracles


def flat(factors):
    return np.concatenate([f.ravel() for f in factors])


def split(x, shapes):
    cuts = np.cumsum([a * b for a, b in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(x, cuts), shapes, strict=True)]


def decayed_slope(target, decay, shapes):
    """The gradient of |W - Y|^2 / 2 + decay |factors|^2 / 2 with respect to all factors, by the product rule."""

    def slope(x):
        factors = split(x, shapes)
        egrad = chain(factors) - target
        parts = [left.T @ egrad @ right.T for left, right in (sides(factors, j) for j in range(len(factors)))]
        return flat(parts) + decay * x

    return slope


def decayed_loss(target, decay, shapes):
    """The same loss for autograd."""

    def value(x):
        w, k = np.eye(shapes[0][1]), 0
        for a, b in shapes:
            w, k = anp.dot(anp.reshape(x[k : k + a * b], (a, b)), w), k + a * b
        return 0.5 * anp.sum((w - target) ** 2) + 0.5 * decay * anp.sum(x**2)

    return value


def shapes_of(widths):
    return [(b, a) for a, b in pairwise(widths)]


# ---------------------------------------------------------------------------------------------------------------------
# critical values


@DEPTHS
def test_critical_values_are_the_roots(depth, rng):
    """Against all roots of the polynomial with forty digits; below the switch value there is none."""
    for decay in (1e-6, 0.05, 1.0, 30.0):
        switch = switch_value(depth, decay)
        for ratio in (0.3, 0.999, 1.001, 1.5, 10.0, 1e3):
            y = ratio * switch
            coefficients = np.zeros(2 * depth - 1)
            coefficients[depth - 2] -= y
            coefficients[[0, -1]] += decay, 1.0
            rough = np.polynomial.Polynomial(coefficients).roots()
            # just below the switch the two are complex by the root of 0.001
            rough = sorted(z.real for z in rough if abs(z.imag) < 1e-6 * abs(z) and z.real > 0)
            with mpmath.workdps(40):
                power, rate, pull = 2 * depth - 2, mpmath.mpf(decay), mpmath.mpf(y)
                real = [
                    float(mpmath.findroot(lambda s, n=depth, p=power, g=rate, t=pull: s**p - t * s ** (n - 2) + g, z))
                    for z in rough
                ]
            found = mode_values(y, depth, decay)
            assert found[0] == 0.0 and found.size == 1 + len(real) == (1 if ratio < 1 else 2 if depth == 2 else 3)
            # roundoff times the condition of a root, 1 / (relative distance to the switch): 30 at 1.001
            assert np.allclose(found[1:], real, rtol=1e-13, atol=0)


@DEPTHS
def test_every_critical_point_of_the_factors_takes_them(depth, rng):
    """Critical points found from random starts: balanced, and every singular value in the list; all of them occur."""
    decay, y = 0.08, np.array([1.7, 0.9])
    u, v = (np.linalg.qr(rng.standard_normal((2, 2)))[0] for _ in range(2))
    shapes = shapes_of([2] * (depth + 1))
    slope = decayed_slope((u * y) @ v.T, decay, shapes)
    allowed = np.unique(np.concatenate([mode_values(value, depth, decay) for value in y]))
    other = np.unique(np.concatenate([mode_values(value, depth + 1, decay) for value in y]))
    seen, count = set(), 0
    for _ in range(60):
        start = rng.uniform(0.3, 1.1) * rng.standard_normal(4 * depth)
        found = least_squares(slope, start, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=3000)
        factors = split(found.x, shapes)
        if np.linalg.norm(found.fun) > 1e-12:
            continue
        count += 1
        # a gradient of 1e-12 over curvatures of 0.01 and more
        assert lrf.LinearNetwork(factors).imbalance() < 1e-9
        for f in factors:
            s = np.linalg.svd(f, compute_uv=False)
            gaps = np.abs(s[:, None] - allowed)
            assert gaps.min(axis=1).max() < 1e-8
            seen |= set(gaps.argmin(axis=1).tolist())
            if s[0] > 1e-3:  # the control: the values of another depth are not met
                assert np.abs(s[:, None] - other).min(axis=1).max() > 1e-3
    assert count >= 20
    assert len(seen) == allowed.size


@DEPTHS
def test_built_critical_points_are_critical(depth, rng):
    decay, target = 0.05, lrf.random_point(4, 3, 3, rng=rng, singular_values=[2.0, 1.2, 0.8])
    sizes = [mode.values.size for mode in decayed_modes(target.s, depth, decay)]
    for choice in product(*(range(size) for size in sizes)):
        net = decayed_network(target, depth, decay, choice, widths=3, rng=rng)
        shapes = [f.shape for f in net.factors]
        slope = decayed_slope(target.to_dense(), decay, shapes)
        assert np.linalg.norm(slope(flat(net.factors))) < 1e-13  # roundoff of products of norm two
        if any(choice):  # the control: one percent beside
            assert np.linalg.norm(slope(1.01 * flat(net.factors))) > 1e-6  # one percent of gamma times the least root
            # and with the decay seen from the product: the same loss by the library's losses
            loss = LeastSquares(np.eye(3), target.to_dense())
            value = loss.value(net) + Schatten((4, 3), depth=depth, strength=decay).value(net)
            parts = [mode.losses[i] for mode, i in zip(decayed_modes(target.s, depth, decay), choice, strict=True)]
            assert value == pytest.approx(sum(parts), rel=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# which is stable, which is best


def brute_force(y, depth, decay):
    """The least loss of a mode, on a grid of s."""
    s = np.linspace(0, 1.5 * max(y, 1.0) ** (1 / depth), 200_001)
    losses = 0.5 * (s**depth - y) ** 2 + 0.5 * depth * decay * s**2
    return s[losses.argmin()], losses.min()


@DEPTHS
def test_the_best_value_jumps_where_it_ties(depth):
    for decay in (0.01, 0.2):
        tie, switch = tie_value(depth, decay), switch_value(depth, decay)
        assert (tie == switch) if depth == 2 else (tie > 1.02 * switch)
        for ratio in (0.9, 0.99, 1.01, 1.1, 3.0):
            mode = decayed_mode(ratio * tie, depth, decay)
            s, least = brute_force(mode.target, depth, decay)
            assert mode.best == pytest.approx(s, abs=1e-4) and mode.losses.min() == pytest.approx(least, rel=1e-8)
            assert (mode.best > 0) == (ratio > 1)
        if depth > 2:
            at = decayed_mode(tie, depth, decay)
            assert at.losses[2] == pytest.approx(at.losses[0], rel=1e-12)  # the two minima tie
            assert at.stable == (True, False, True)
        assert decayed_mode(1.1 * tie, depth, decay).stable == ((False, True) if depth == 2 else (True, False, True))


@DEPTHS
def test_the_least_loss_of_a_network_is_that_of_its_modes(depth, rng):
    decay = 0.1
    y = np.array([2.0, 1.1]) * tie_value(depth, decay)
    u, v = np.linalg.qr(rng.standard_normal((3, 2)))[0], np.linalg.qr(rng.standard_normal((2, 2)))[0]
    target, shapes = (u * y) @ v.T, shapes_of([2, *[3] * (depth - 1), 3])
    slope = decayed_slope(target, decay, shapes)

    def both(x):
        w = chain(split(x, shapes))
        return 0.5 * np.sum((w - target) ** 2) + 0.5 * decay * x @ x, slope(x)

    size = sum(a * b for a, b in shapes)
    starts = [rng.uniform(0.3, 1.0) * rng.standard_normal(size) for _ in range(60)]
    ends = [minimize(both, x, jac=True, method="L-BFGS-B", options=dict(ftol=0, gtol=1e-9, maxiter=3000)).fun for x in starts]
    expected = sum(mode.losses.min() for mode in decayed_modes(y, depth, decay))
    assert min(ends) == pytest.approx(expected, rel=1e-10)


@DEPTHS
def test_the_origin_is_a_local_minimum_for_three_factors_and_more(depth, rng):
    decay, y = 0.01, np.diag([3.0, 1.0])  # far above the tie: the origin is not the global minimum
    shapes = shapes_of([2] * (depth + 1))
    eigenvalues = np.linalg.eigvalsh(hessian(decayed_loss(y, decay, shapes))(np.zeros(4 * depth)))
    assert least_curvature([3.0, 1.0], depth, decay, (0, 0), widths=2) == pytest.approx(eigenvalues[0], rel=1e-12)
    if depth == 2:  # the control
        assert eigenvalues[0] == pytest.approx(decay - 3.0)
    else:
        assert np.allclose(eigenvalues, decay, rtol=1e-14, atol=0)
    slope, x = decayed_slope(y, decay, shapes), 1e-3 * rng.standard_normal(4 * depth)
    h = 0.1
    for _ in range(8000):  # descent from noise: back by (1 - h decay)^8000 = e^-8, or away
        x = x - h * slope(x)
    assert (np.linalg.norm(x) < 1e-5) if depth > 2 else (np.linalg.norm(x) > 1)


def test_only_the_largest_values_can_be_learned_and_the_sign_is_that_of_the_dense_hessian(rng):
    """300 random critical points of depths 2 to 5: local minimum or strict saddle, no mismatch."""
    kinds = set()
    for _ in range(300):
        depth, m, n = int(rng.integers(2, 6)), int(rng.integers(2, 4)), int(rng.integers(2, 4))
        q, decay = min(m, n), rng.uniform(0.02, 0.5)
        y = np.sort(rng.uniform(0.3, 3.0, q))[::-1]
        target = lrf.random_point(m, n, q, rng=rng, singular_values=y)
        choice = [int(rng.integers(0, mode.values.size)) for mode in decayed_modes(y, depth, decay)]
        width = int(rng.integers(max(sum(c > 0 for c in choice), 1), 4))
        net = decayed_network(target, depth, decay, choice, widths=width, rng=rng)
        said = least_curvature(y, depth, decay, choice, widths=width)
        value = decayed_loss(target.to_dense(), decay, [f.shape for f in net.factors])
        least = np.linalg.eigvalsh(hessian(value)(flat(net.factors)))[0]
        kinds.add((depth == 2, said > 0))
        if said > 0:
            assert least > -1e-10  # zeros along rotations, roundoff of a Hessian of norm 10
        else:
            assert least <= said + 1e-10 and least < -1e-6
    assert len(kinds) == 4


def test_a_set_that_is_not_leading_is_a_strict_saddle():
    options = dict(depth=3, decay=0.05, widths=2)
    assert least_curvature([2.0, 1.0], choice=(2, 0), **options) > 0
    (_, _, s), y = mode_values(1.0, 3, 0.05), (2.0, 1.0)
    assert least_curvature(y, choice=(0, 2), **options) == pytest.approx((1.0 - 2.0) * s, rel=1e-13)


def test_errors_of_decay(rng):
    target = lrf.random_point(3, 3, 2, rng=rng, singular_values=[1.0, 0.1])
    for call, error, message in (
        (lambda: switch_value(1, 0.1), ValueError, "`depth` must be greater than 1, got 1"),
        (lambda: switch_value(3, 0.0), ValueError, "`decay` must be positive and finite, got 0"),
        (lambda: mode_values(-1.0, 3, 0.1), ValueError, "`target` must be non-negative and finite, got -1"),
        (lambda: tie_value(2.5, 0.1), ValueError, "`depth` must be a whole number of factors here, got 2.5"),
        (lambda: decayed_network(target, 3, 0.1, (2, 2), widths=3), ValueError, "got 2 for mode 1, which has 1"),
        (lambda: decayed_network(target, 3, 0.1, (2,), widths=3), ValueError, "one number for each of the 2 modes, got 1"),
        (lambda: decayed_network(target, 3, 0.1, 2, widths=3), TypeError, "`choice` must be whole numbers"),
    ):
        with pytest.raises(error, match=message):
            call()
    assert mode_values(0.0, 5, 0.1).tolist() == [0.0] and mode_values(1e-300, 4, 1.0).tolist() == [0.0]


# ---------------------------------------------------------------------------------------------------------------------
# flatness (F.6)


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_no_factorisation_is_flatter_than_the_balanced_ones(depth, rng):
    """The Hessian where the residual is zero is J^T J, J from Kronecker products."""
    for _ in range(75):
        m, n, width = (int(rng.integers(2, 5)) for _ in range(3))
        w = lrf.random_point(m, n, min(m, n, width), rng=rng)
        net = lrf.LinearNetwork.balanced(w, depth, widths=width, rng=rng)
        least = least_sharpness(w, depth)
        # roundoff of a product of N factors and of a singular value squared
        assert np.linalg.norm(product_jacobian(net.factors), 2) ** 2 == pytest.approx(least, rel=1e-13)
        other = refactored(net, spread=rng.uniform(0.05, 1.0), rng=rng)
        assert np.linalg.norm(chain(other.factors) - w.to_dense()) < 1e-11
        sharp = np.linalg.norm(product_jacobian(other.factors), 2) ** 2
        assert sharp > least * (1 + 1e-6)
        # the control: a tenth more is no bound at balanced factors
        assert not np.linalg.norm(product_jacobian(net.factors), 2) ** 2 >= 1.1 * least


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("rank", [4, 2])
def test_the_sharpness_that_descent_sees(depth, rank, rng):
    """By the library's Lanczos and a dense Hessian, also at the best matrix of a rank, whose residual is not zero."""
    target = lrf.random_point(4, 4, 4, rng=rng, singular_values=[2.0, 1.5, 1.0, 0.6])
    loss = LeastSquares(np.eye(4), target.to_dense())
    w = loss.minimiser(rank)
    net = lrf.LinearNetwork.balanced(w, depth, widths=rank, rng=rng)
    least = least_sharpness(w, depth)
    assert least == pytest.approx(depth * 2.0 ** (2 - 2 / depth), rel=1e-12)
    assert lrf.sharpness(loss, net, tol=1e-8) == pytest.approx(least, rel=1e-6)
    for _ in range(3):
        other = refactored(net, spread=0.4, rng=rng)
        shapes = [f.shape for f in other.factors]
        dense = np.linalg.eigvalsh(hessian(decayed_loss(target.to_dense(), 0.0, shapes))(flat(other.factors)))[-1]
        assert lrf.sharpness(loss, other, tol=1e-8) == pytest.approx(dense, rel=1e-6)
        assert dense > least * (1 + 1e-3)


@pytest.mark.parametrize("factor, stays", [(0.95, True), (1.05, False)])
def test_above_the_step_of_the_flattest_none_is_stable(factor, stays, rng):
    target = lrf.random_point(3, 3, 3, rng=rng, singular_values=[2.0, 1.0, 0.5])
    loss, step = LeastSquares(np.eye(3), target.to_dense()), factor * 2 / least_sharpness(target, 3)
    net = lrf.LinearNetwork.balanced(target, 3, widths=3, rng=rng)
    nudged = lrf.LinearNetwork([f + 1e-7 * rng.standard_normal(f.shape) for f in net.factors])
    end = lrf.gradient_descent(loss, nudged, step_size=step, steps=400).points[-1]
    # the top mode moves by |1 - 2 factor|^400, 1e-18 or 1e16
    assert (loss.value(end) < 1e-12) if stays else (loss.value(end) > 1e-6)


def test_what_refactored_keeps_and_refuses(rng):
    net = lrf.LinearNetwork.balanced(lrf.random_point(4, 3, 2, rng=rng), 3, widths=4, rng=rng)
    assert refactored(net, spread=0.0, rng=rng).relative_imbalance() < 1e-14 < refactored(net, rng=rng).relative_imbalance()
    with pytest.raises(ValueError, match="`spread` must be non-negative"):
        refactored(net, spread=-1.0)
    with pytest.raises(ValueError, match="`w` must be positive"):
        least_sharpness(0.0, 2)


# ---------------------------------------------------------------------------------------------------------------------
# the learning coefficient (F.12)


def four_cases(m, h, n, r):
    """Reduced rank regression (Aoyagi and Watanabe 2005): value and multiplicity for two layers m, h, n and rank r."""
    if n + r <= m + h and m + r <= n + h and h + r <= m + n:
        value = Fraction(-((h + r) ** 2) - m**2 - n**2 + 2 * (h + r) * (m + n) + 2 * m * n, 8)
        return (value, 1) if (m + h + n + r) % 2 == 0 else (value + Fraction(1, 8), 2)
    if m + h < n + r:
        return Fraction(h * m - h * r + n * r, 2), 1
    if n + h < m + r:
        return Fraction(h * n - h * r + m * r, 2), 1
    return Fraction(m * n, 2), 1


def test_two_layers_are_the_four_cases():
    count, wrong = 0, 0
    for m, h, n in product(range(1, 10), repeat=3):
        for r in range(min(m, h, n) + 1):
            assert learning_coefficient([m, h, n], r) == four_cases(m, h, n, r)
            wrong += learning_coefficient([m, h, n], r) != four_cases(n, m, h, r)  # the control: widths exchanged
            count += 1
    assert count > 1800 and wrong > 500


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 6])
def test_a_chain_of_numbers(depth):
    """The volume of |w_1 .. w_N| < e^(1/2) in the unit cube is e^(1/2) times a polynomial of degree N - 1 in ln e."""
    assert learning_coefficient([1] * (depth + 1), 0) == (Fraction(1, 2), depth)
    assert learning_coefficient([1] * (depth + 1), 1) == (Fraction(1, 2), 1)  # a smooth hypersurface


def test_a_hidden_layer_of_width_one_splits_the_network():
    """At rank zero |W|^2 = |x|^2 |y|^2 with independent parts: the lesser value; where they tie, multiplicities add."""
    count = ties = 0
    for left in (w for size in (1, 2, 3) for w in product(range(1, 5), repeat=size)):
        for right in (w for size in (1, 2) for w in product(range(1, 5), repeat=size)):
            a, b = learning_coefficient([*left, 1], 0), learning_coefficient([1, *right], 0)
            both = learning_coefficient([*left, 1, *right], 0)
            tie = a.value == b.value
            assert both.value == min(a.value, b.value)
            assert both.multiplicity == (a.multiplicity + b.multiplicity if tie else min(a, b).multiplicity)
            count, ties = count + 1, ties + tie
    assert count > 1000 and ties > 100


def test_depth_one_is_regular_and_orders_do_not_matter(rng):
    for m, n in product(range(1, 6), repeat=2):
        for r in range(min(m, n) + 1):
            assert learning_coefficient([m, n], r) == (Fraction(m * n, 2), 1)  # half the number of parameters
    for _ in range(200):
        widths = rng.integers(1, 9, int(rng.integers(3, 7))).tolist()
        r = int(rng.integers(0, min(widths) + 1))
        found = learning_coefficient(widths, r)
        inner = rng.permutation(widths[1:-1]).tolist()
        assert found == learning_coefficient([widths[-1], *inner, widths[0]], r)
        # never above the regular model of the same functions, nor below what the true rank alone asks for
        assert Fraction(r * (widths[0] + widths[-1] - r), 2) <= found.value <= Fraction(widths[0] * widths[-1], 2)
    assert learning_coefficient([2, 2, 2], 2) == (2, 1)


def test_errors_of_the_learning_coefficient():
    for call, error, message in (
        (lambda: learning_coefficient([3], 0), ValueError, "`widths` must hold at least two numbers"),
        (lambda: learning_coefficient(3, 0), TypeError, "`widths` must be whole numbers"),
        (lambda: learning_coefficient([3, 0, 2], 0), ValueError, "`widths` must be at least 1, got 0"),
        (lambda: learning_coefficient([3, 2, 4], 3), ValueError, "must not exceed the least width, got rank=3"),
        (lambda: learning_coefficient([3, 2, 4], -1), ValueError, "`rank` must be at least 0, got -1"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_gradients_of_the_oracle_agree(rng):
    """The two ways in which this file writes the decayed loss."""
    shapes, y = shapes_of([2, 3, 3]), rng.standard_normal((3, 2))
    x = rng.standard_normal(15)
    assert np.allclose(grad(decayed_loss(y, 0.3, shapes))(x), decayed_slope(y, 0.3, shapes)(x), rtol=0, atol=1e-13)
