"""Any loss: widths, the certificate of the gradient end to end, kicks, and what fails without the hypotheses."""

from functools import cache
from itertools import pairwise

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad, hessian
from oracles import EPS, chain, fitted_slope, jacobian, sides
from scipy.optimize import minimize

import lowrankflow as lrf
from lowrankflow.landscape.anyloss import certify_gradient, width_condition
from lowrankflow.landscape.counterexamples import (
    AbsoluteError,
    bottleneck_example,
    kinked_example,
    subgradient_descent,
)
from lowrankflow.landscape.flatness import refactored
from lowrankflow.landscape.kicks import descend, kick, kick_and_descend
from lowrankflow.losses import Huber, Inputs, LeastSquares, LogCosh, Measured, Softmax

# ---------------------------------------------------------------------------------------------------------------------
# oracles: dense, and written again


def dense_factor_gradient(egrad, factors):
    return [left.T @ egrad @ right.T for left, right in (sides(factors, j) for j in range(len(factors)))]


def norm(arrays):
    return np.sqrt(sum(np.vdot(a, a) for a in arrays))


def critical_network(target, widths, rank, zeros, rng):
    """Critical for |W - Y|^2 / 2: the best rank-r matrix in blocks, of which those of `zeros` (1 .. N, two of them) vanish.

    Bases are changed at random, so that no zero of the factors is one of the machine.
    """
    u = np.linalg.svd(target)[0]
    depth, r, factors = len(widths) - 1, rank, []
    for j, (a, b) in enumerate(pairwise(widths), start=1):
        rows, cols = b - r, a - r if j > 1 else a
        z = np.zeros((rows, cols)) if j in zeros else rng.standard_normal((rows, cols))
        if j == 1:
            factors.append(np.vstack([u[:, :r].T @ target, z]))
        elif j == depth:
            factors.append(np.hstack([u[:, :r], u[:, r:] @ z]))
        else:
            factors.append(np.block([[np.eye(r), np.zeros((r, cols))], [np.zeros((rows, r)), z]]))
    return refactored(lrf.LinearNetwork(factors), spread=0.3, rng=rng)


@cache
def samples():
    """Sixty samples of four inputs with labels that no linear map separates, and targets with a few large errors."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((4, 60))
    clean = rng.standard_normal((3, 4)) @ x
    labels = np.argmax(clean + 3 * rng.standard_normal((3, 60)), axis=0)
    return x, labels, clean + rng.standard_t(2, (3, 60))


LOSSES = {
    "cross-entropy": lambda x, labels, y: Measured(Inputs(x, 3), Softmax(labels, 3), reduction="mean"),
    "Huber": lambda x, labels, y: Measured(Inputs(x, 3), Huber(y, 0.3), reduction="mean"),
    "log-cosh": lambda x, labels, y: Measured(Inputs(x, 3), LogCosh(y), reduction="mean"),
}


def _huber(e, delta=0.3):
    size = anp.abs(e)
    return anp.where(size <= delta, 0.5 * e**2, delta * size - 0.5 * delta**2)


def _cross_entropy(z, labels):
    z = z - anp.max(z, axis=0)
    return anp.log(anp.sum(anp.exp(z), axis=0)) - z[labels, np.arange(labels.size)]


#: the same functions of W, written for autograd
WRITTEN = {
    "cross-entropy": lambda w: anp.mean(_cross_entropy(anp.dot(w, samples()[0]), samples()[1])),
    "Huber": lambda w: anp.sum(_huber(anp.dot(w, samples()[0]) - samples()[2])) / 60,
    "log-cosh": lambda w: anp.sum(anp.log(anp.cosh(anp.dot(w, samples()[0]) - samples()[2]))) / 60,
}


@cache
def convex_optimum(name):
    """The least value over all W, by BFGS on its twelve entries; a gradient of 1e-7 leaves a gap of order 1e-14."""

    def value(x):
        return WRITTEN[name](x.reshape(3, 4))

    found = minimize(value, np.zeros(12), jac=grad(value), method="BFGS", options={"gtol": 1e-8})
    assert abs(found.jac).max() < 1e-7
    return float(found.fun)


def loss_of(name):
    return LOSSES[name](*samples())


def start(widths, seed, scale=1.0):
    return lrf.LinearNetwork.gaussian((widths[-1], widths[0]), len(widths) - 1, widths=widths[1:-1], scale=scale, rng=seed)


NAMES = pytest.mark.parametrize("name", list(LOSSES))
DEPTHS = pytest.mark.parametrize("depth", [2, 3, 4])

# ---------------------------------------------------------------------------------------------------------------------
# widths and certificates


@pytest.mark.parametrize(
    "widths, margin", [((4, 3, 5, 3), 0), ((4, 2, 3), -1), ((2, 7, 9), 5), ((3, 5), 0), ((5, 1, 4), -3), ((1, 1, 1), 0)]
)
def test_width_condition_and_its_transpose(widths, margin):
    for sizes in (widths, widths[::-1]):
        found = width_condition(sizes)
        assert (found.margin, found.met) == (margin, margin >= 0)
        factors = [np.ones((b, a)) for a, b in pairwise(sizes)]
        assert width_condition(lrf.LinearNetwork(factors)) == found


def test_what_a_certificate_says_at_points_of_every_kind(rng):
    y = np.diag([3.0, 2.0, 1.0])
    loss = LeastSquares(np.eye(3), y)
    saddle = critical_network(y, [3, 4, 4, 3], 1, {1, 3}, rng)
    found = certify_gradient(loss, saddle)
    assert found.critical and found.kind == "no local minimum" and found.margin > 100
    # G = diag(0, 2, 1) at the saddle, and the gap is 5/2 = |G|^2 / 2 for white inputs
    assert found.gradient == pytest.approx(np.sqrt(5), rel=1e-14) and found.gap_at_least == pytest.approx(2.5, rel=1e-13)
    exact = certify_gradient(loss, refactored(lrf.LinearNetwork([y, np.eye(3)]), rng=rng))
    assert exact.kind == "global minimiser" and exact.critical and exact.relative_gradient < 1e-14 < exact.margin
    # the same gradient where nobody says that the loss is convex
    silent = lrf.losses.from_function(lambda w: 0.5 * anp.sum((w - y) ** 2), (3, 3))
    assert certify_gradient(silent, lrf.LinearNetwork([y, np.eye(3)])).kind == "stationary in W"
    # between the thresholds: 1e-4 of 3.7
    near = certify_gradient(loss, lrf.LinearNetwork([y + 3.7e-4 * np.eye(3, k=1), np.eye(3)]))
    assert near.kind == "not decided" and near.margin < 1 and "descend further" in near.reason
    # a bottleneck: critical, not zero end to end, and no statement
    example = bottleneck_example()
    stuck = certify_gradient(example.loss, example.network)
    assert stuck.critical and stuck.kind == "not decided" and stuck.gradient == pytest.approx(2.0, rel=1e-14)
    assert not stuck.widths.met and "not met" in str(stuck)
    moving = lrf.LinearNetwork([f + 0.1 for f in example.network.factors])
    assert certify_gradient(example.loss, moving).kind == "no local minimum"  # by its factor gradient


@NAMES
def test_the_gap_is_no_smaller_than_the_certificate_says(name):
    loss = loss_of(name)
    for seed in range(8):
        net = start((4, 4, 3), seed)
        found = certify_gradient(loss, net)
        assert 0 < found.gap_at_least <= loss.value(net) - convex_optimum(name)


def test_norms_of_gradients_that_are_only_multiplied(rng):
    """Against the dense arrays, also with more columns than are formed at a time."""
    for m, n in ((5, 300), (300, 5), (3, 4)):
        x, y = rng.standard_normal((n, 2)), rng.standard_normal((m, 2))
        rows, cols = np.nonzero(rng.random((m, n)) < 0.5)
        values = rng.standard_normal(rows.size)
        net = lrf.LinearNetwork.gaussian((m, n), 3, widths=3, rng=rng)
        w, residual = chain(net.factors), np.zeros((m, n))
        residual[rows, cols] = w[rows, cols] - values
        completion = lrf.losses.Completion(rows, cols, values, (m, n))
        for loss, egrad in ((LeastSquares(x, y), (w @ x - y) @ x.T), (completion, residual)):
            found = certify_gradient(loss, net)
            # roundoff of sums of up to 1500 squares
            assert found.gradient == pytest.approx(np.linalg.norm(egrad), rel=1e-13)
            assert found.factor_gradient == pytest.approx(norm(dense_factor_gradient(egrad, net.factors)), rel=1e-12)


def test_losses_of_one_rank_are_refused(rng):
    with pytest.raises(ValueError, match=r"`loss` must be differentiable on all 3 x 3 matrices"):
        certify_gradient(lrf.losses.Schatten((3, 3), depth=3), start((3, 3, 3), 0))


# ---------------------------------------------------------------------------------------------------------------------
# kicks (claim 17)


def random_critical_points(rng, count, least_rank=0):
    """Depths 2-5, both orientations, all ranks below full, two zero blocks or more."""
    for k in range(count):
        depth, n = int(rng.integers(2, 6)), int(rng.integers(2, 6))
        m = int(rng.integers(2, n + 1))
        widths = [n, *(int(rng.integers(m, 7)) for _ in range(depth - 1)), m]
        target = rng.standard_normal((m, n))
        zeros = set((rng.permutation(depth)[: int(rng.integers(2, depth + 1))] + 1).tolist())
        net = critical_network(target, widths, int(rng.integers(least_rank, m)), zeros, rng)
        yield (net.T, target.T) if k % 2 else (net, target)


def test_a_kick_keeps_the_product_and_gives_a_gradient_wherever_it_is_not_zero_end_to_end(rng):
    for net, target in random_critical_points(rng, 400):
        loss = LeastSquares(np.eye(target.shape[1]), target)
        moved = kick(net, rng=rng)
        before, after = chain(net.factors), chain(moved.network.factors)
        # the product of norms, of order 1e2 at most, times roundoff of a chain of five
        assert np.linalg.norm(after - before) <= 1e-13 * np.prod([np.linalg.norm(f, 2) for f in moved.network.factors])
        assert abs(loss.value(moved.network) - loss.value(net)) <= 1e-13 * loss.value(net)
        assert moved.guaranteed and moved.product_change < 1e-13
        scale = np.linalg.norm(target) * max(np.linalg.norm(f, 2) for f in moved.network.factors) ** (net.depth - 1)
        assert norm(dense_factor_gradient(before - target, net.factors)) < 1e-13 * scale
        # of order size^(m - 1) with m up to 5 and entries of 0.1: far above the roundoff of the line before
        assert norm(dense_factor_gradient(after - target, moved.network.factors)) > 1e-11 * scale


def test_controls_of_the_kick(rng):
    """A step of the same size in no null space moves the product; at a minimiser there is no gradient to be had."""
    for net, _ in random_critical_points(rng, 20, least_rank=1):
        sizes = kick(net, rng=rng).sizes
        steps = [rng.standard_normal(f.shape) for f in net.factors]
        wrong = [f + s * e / np.linalg.norm(e) for f, e, s in zip(net.factors, steps, sizes, strict=True)]
        assert np.linalg.norm(chain(wrong) - chain(net.factors)) > 1e-4
    y = rng.standard_normal((3, 3))
    wide = critical_network(y, [3, 5, 5, 3], 3, {1, 3}, rng)  # a global minimiser with hidden units to spare
    moved = kick(wide, rng=rng)
    assert moved.moved and norm(f - g for f, g in zip(moved.network.factors, wide.factors, strict=True)) > 0.1
    # roundoff of G times the norms of two factors with a kick of 0.3
    assert norm(dense_factor_gradient(chain(moved.network.factors) - y, moved.network.factors)) < 1e-13


@pytest.mark.parametrize("transposed", [False, True])
def test_the_side_of_the_kick_is_that_of_the_narrower_end(transposed):
    """Three inputs, one output: W_2 = 0 and W_1 orthogonal to the target; only W_1 has a null direction to move along."""
    y, w1 = np.array([[1.0, 0.0, 0.0]]), np.array([[0.0, 1.0, 0.0]])
    net = lrf.LinearNetwork([w1, np.zeros((1, 1))])
    net, y = (net.T, y.T) if transposed else (net, y)
    assert norm(dense_factor_gradient(chain(net.factors) - y, net.factors)) == 0
    moved = kick(net, rng=1)
    assert moved.side == ("input" if transposed else "output") and sum(moved.free) == 1
    assert norm(dense_factor_gradient(chain(moved.network.factors) - y, moved.network.factors)) > 1e-2


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("depth, zeros", [(n, k) for n in (2, 3, 4, 5) for k in range(n - 1)])
def test_the_gradient_after_a_kick_is_of_order_size_to_the_saddle_order_less_one(depth, zeros, transposed, rng):
    """m = 2 + the number of interior zero blocks, where the first and the last block vanish."""
    y = rng.standard_normal((3, 3)) + np.diag([4.0, 2.0, 1.0])
    net = critical_network(y, [3] + [4] * (depth - 1) + [3], 1, {1, depth, *range(2, 2 + zeros)}, rng)
    net, y = (net.T, y.T) if transposed else (net, y)
    sizes = 0.04 * 2.0 ** -np.arange(6)

    def gradient(size):
        moved = kick(net, size=size, rng=7).network
        return norm(dense_factor_gradient(chain(moved.factors) - y, moved.factors))

    order = fitted_slope(sizes, [gradient(h) for h in sizes])
    assert abs(order - (1 + zeros)) < 0.05  # terms of the next order are size times as large: 0.04 and less
    assert abs(order - (2 + zeros)) > 0.5


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_at_the_origin_the_order_is_the_depth(depth):
    net = lrf.LinearNetwork([np.zeros((3, 3))] * depth)
    sizes = 0.3 * 2.0 ** -np.arange(6)
    loss = LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    gradients = [norm(lrf.factor_gradients(loss, kick(net, size=h, rng=0).network)) for h in sizes]
    assert fitted_slope(sizes, gradients) == pytest.approx(depth - 1, abs=1e-6)  # W_1 stays zero: one term alone


def test_a_kick_is_chosen_by_its_seed_and_refuses_what_is_none(rng):
    net = lrf.LinearNetwork([np.zeros((3, 3))] * 3)
    a, b = (kick(net, size=0.2, rng=5).network.factors for _ in range(2))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert kick(net, size=0.2, rng=5).sizes == (0.0, 0.2, 0.2)
    for wrong, message in ((dict(size=0), "`size` must be positive"), (dict(tolerance=-1), "`tolerance` must be positive")):
        with pytest.raises(ValueError, match=message):
            kick(net, **wrong)
    with pytest.raises(TypeError, match="`net` must be a LinearNetwork"):
        kick(np.eye(3))
    with pytest.raises(ValueError, match="`network` must have at least two widths"):
        width_condition([3])


def test_a_nearly_null_direction_is_let_in_on_request(rng):
    """A chain with a singular value of 1e-6 has no null space; a kick along it changes the product by as much."""
    net = lrf.LinearNetwork([np.diag([1.0, 1e-6]), np.eye(2)])
    assert not kick(net, rng=rng).moved
    moved = kick(net, tolerance=1e-4, rng=rng)
    assert moved.free == (0, 1) and 1e-8 < moved.product_change < 1e-5


# ---------------------------------------------------------------------------------------------------------------------
# kick, then descend (F.4)


def embedded_critical_point(loss, widths, seed):
    """Critical at rank one for any loss: a descent at width one, its factors in wider ones that are zero elsewhere."""
    depth, rng = len(widths) - 1, np.random.default_rng(seed)
    narrow, _ = descend(loss, start([widths[0], *[1] * (depth - 1), widths[-1]], seed), budget=3000)
    w = narrow.to_low_rank(1)
    factors = lrf.LinearNetwork.balanced(w, depth).factors
    wide = []
    for j, (f, a, b) in enumerate(zip(factors, widths[:-1], widths[1:], strict=True)):
        block = np.zeros((b, a))
        block[: f.shape[0], : f.shape[1]] = f
        if 0 < j < depth - 1:  # what does not vanish between the two ends that do
            block[1:, 1:] = rng.standard_normal((b - 1, a - 1))
        wide.append(block)
    return refactored(lrf.LinearNetwork(wide), spread=0.3, rng=rng)


@NAMES
@DEPTHS
def test_critical_points_with_a_gradient_end_to_end_are_left(name, depth):
    loss = loss_of(name)
    for seed in range(8):
        net = embedded_critical_point(loss, [4, *[4] * (depth - 1), 3], seed)
        at = certify_gradient(loss, net, critical=1e-6)
        assert at.critical and at.kind == "no local minimum"
        found = kick_and_descend(loss, net, rng=seed)
        first = found.rounds[0]
        assert abs(first.value_change) <= 1e-13 * found.value_before  # the kick keeps the loss
        assert first.gradient_after > 10 * first.gradient_before
        assert found.reached and found.certificate.kind == "global minimiser" and found.decrease > 0.01
        # relative gradient 1e-6, Hessians of the convex problems above 1e-2: the gap is its square over that
        assert found.value - convex_optimum(name) < 1e-9
        # the control: descent alone starts from a gradient that is roundoff of the descent at width one
        assert loss.value(net) == pytest.approx(found.value_before, rel=1e-15)


def test_a_bottleneck_is_not_left():
    example = bottleneck_example()
    found = kick_and_descend(example.loss, example.network, rng=0)
    assert not found.reached and abs(found.decrease) < 1e-12 and not found.rounds[0].kick.moved
    assert "at a bottleneck" in found.reason
    left = kick_and_descend(example.loss, example.widened(), rng=0)
    assert left.reached and left.value < 1e-10  # claim 19: full width escapes


def test_the_budget_is_kept_and_descent_never_raises_the_loss():
    loss, net = loss_of("log-cosh"), start((4, 4, 4, 3), 0)
    found = kick_and_descend(loss, net, budget=5, rng=0)
    assert found.evaluations <= 5 + 20 and "budget of 5" in found.reason  # a line search under way is ended
    values = [loss.value(descend(loss, net, budget=b)[0]) for b in (1, 3, 10, 30, 100)]
    assert all(a >= b for a, b in zip([loss.value(net), *values], values, strict=False))


def test_a_descent_that_gains_little_for_long_goes_on():
    """Inputs of condition 1e3 and a floor that is nearly all of the loss: thousands of gradients, each gaining little."""
    rng = np.random.default_rng(0)
    x = np.geomspace(1.0, 1e-3, 6)[:, None] * rng.standard_normal((6, 40))
    loss = LeastSquares(x, rng.standard_normal((6, 40)))
    net, spent = descend(loss, start((6, 6, 6, 6), 0, scale=0.3), budget=20_000)
    assert spent > 600
    assert loss.value(net) - loss.best_value(6) < 1e-6 * loss.best_value(6)


# ---------------------------------------------------------------------------------------------------------------------
# local minima that descent finds (claim 16)


@NAMES
@DEPTHS
def test_at_full_width_every_descent_reaches_the_convex_optimum(name, depth):
    loss = loss_of(name)
    gaps = [loss.value(descend(loss, start([4, *[3] * (depth - 1), 3], seed))[0]) - convex_optimum(name) for seed in range(8)]
    assert max(gaps) <= 1e-9 and min(gaps) > -1e-12


@pytest.mark.parametrize("width", [2, 1])
@NAMES
def test_control_at_a_bottleneck_none_does(name, width):
    """But for three classes two hidden units are none: cross-entropy does not see what is added to all outputs."""
    loss = loss_of(name)
    gap = min(loss.value(descend(loss, start((4, width, 3), seed))[0]) for seed in range(8)) - convex_optimum(name)
    assert abs(gap) <= 1e-9 if (name, width) == ("cross-entropy", 2) else gap > 1e-4


def factor_hessian(function, net):
    """The dense Hessian of function(W_N ... W_1), by autograd."""
    shapes = [f.shape for f in net.factors]

    def value(x):
        w, k = np.eye(shapes[0][1]), 0
        for a, b in shapes:
            w, k = anp.dot(anp.reshape(x[k : k + a * b], (a, b)), w), k + a * b
        return function(w)

    return hessian(value)(np.concatenate([f.ravel() for f in net.factors]))


def test_at_a_bottleneck_a_smooth_convex_loss_has_local_minima_above_the_best():
    """Cross-entropy at width one; the square loss there has none, every descent reaches its best rank-one value."""
    x, _, y = samples()
    square = LeastSquares(x, y, reduction="mean")
    ends = [square.value(descend(square, start((4, 1, 3), seed))[0]) for seed in range(16)]
    assert max(ends) - square.best_value(1) < 1e-10 * square.best_value(1) + 1e-12
    rng = np.random.default_rng(5)  # five classes, which one hidden unit puts in an order
    x = rng.standard_normal((4, 120))
    labels = np.argmax(2 * rng.standard_normal((5, 4)) @ x + rng.standard_normal((5, 120)), axis=0)
    loss = Measured(Inputs(x, 5), Softmax(labels, 5), reduction="mean")
    stops = [descend(loss, start((4, 1, 5), seed))[0] for seed in range(12)]
    values = np.array([loss.value(w) for w in stops])
    worst = stops[int(np.argmax(values))]
    assert values.max() - values.min() > 0.1
    eigenvalues = np.linalg.eigvalsh(factor_hessian(lambda w: anp.mean(_cross_entropy(anp.dot(w, x), labels)), worst))
    # critical to 1e-9: two zeros, along the scaling and along what is added to all outputs, and the rest positive
    assert abs(eigenvalues[:2]).max() < 1e-8 and eigenvalues[2] > 1e-2
    found = certify_gradient(loss, worst)
    assert found.critical and found.relative_gradient > 1e-2 and found.kind == "not decided"


# ---------------------------------------------------------------------------------------------------------------------
# the kink (claim 18)


def test_the_identity_of_the_kinked_example(rng):
    example = kinked_example()
    for size in (0.05, 0.2, 0.5):
        for _ in range(200):
            assert example.identity_defect(example.perturbed(size, rng=rng)) < 1e-14
    w = chain(example.network.factors)
    assert not w.any() and example.loss.value(example.network) == example.value == 1.0
    assert example.loss.value(example.loss.targets) == example.best_value == 0.0
    # control: with the roles of e and g exchanged it is no identity
    net = example.perturbed(0.4, rng=rng)
    (w1, w2), a = net.factors, chain(net.factors)
    e, g = w1[1, 0] / w1[1, 1], w2[1, 0] / w2[0, 0]
    assert abs(a[1, 0] - (e * a[0, 0] + g * a[1, 1] - e * g * a[0, 1])) > 1e-3


def test_nothing_is_lower_within_the_radius_and_something_is_beyond():
    example = kinked_example()
    assert example.lowest_in_box(example.radius, rng=0) >= -1e-12
    assert example.lowest_in_box(0.3, rng=0) >= -1e-12
    assert example.lowest_in_box(0.52, rng=0) <= -0.05
    assert example.lowest_in_box(0.6, rng=0) <= -0.3


def test_the_adversary_reports_values_within_the_box(rng):
    """At radius 0.6, at E_21 = F_12 = F_11 = ... found by hand: e = 1.5, f - 1 = -(e - 1) A_11 at least."""
    example = kinked_example()
    e, f = np.array([[-0.6, 0.0], [-0.6, 0.0]]), np.array([[-0.6, 0.0], [0.0, 0.0]])
    w = (example.network.factors[1] + e) @ (example.network.factors[0] + f)
    assert example.loss.value(w) - 1 < -0.1
    assert example.lowest_in_box(0.6, rng=0) <= example.loss.value(w) - 1


def test_subgradient_descent_never_escapes_and_a_smooth_loss_always_does():
    example = kinked_example()
    smooth = example.smoothed(0.1)
    for seed in range(10):
        net = example.perturbed(0.2 if seed % 2 else 0.05, rng=seed)
        options = dict(step_size=0.01, steps=6000)
        assert example.loss.value(subgradient_descent(example.loss, net, **options)) >= 0.999
        assert example.loss.value(subgradient_descent(smooth, net, **options)) < 0.1  # the control


def test_the_absolute_error_is_no_loss_of_a_flow(rng):
    loss = AbsoluteError(rng.standard_normal((2, 3)))
    net = start((3, 3, 2), 0)
    assert loss.value(net) == pytest.approx(np.abs(chain(net.factors) - loss.targets).sum(), rel=1e-14)
    # the subgradient inequality, f(V) >= f(W) + <S, V - W>
    for _ in range(50):
        w, v = rng.standard_normal((2, 2, 3))
        assert loss.value(v) >= loss.value(w) + np.vdot(loss.subgradient(w), v - w) - 1e-14
    with pytest.raises(TypeError, match=r"`loss` must have shape, value\(w\) and gradient\(w\)"):
        lrf.factor_gradients(loss, net)


# ---------------------------------------------------------------------------------------------------------------------
# the bottleneck (claim 19)


def written_bottleneck(omega):
    return lambda w: (w[0, 0] - 1) ** 2 + (w[1, 1] - 0.5) ** 2 + omega * (w[0, 1] ** 2 + w[1, 0] ** 2)


@pytest.mark.parametrize("omega", [4.0, 2.5, 1.0])
def test_the_numbers_of_the_bottleneck_example(omega):
    example = bottleneck_example(omega)
    f = written_bottleneck(omega)
    w = chain(example.network.factors)
    assert np.allclose(w, np.diag([0.0, 0.5]), rtol=0, atol=4 * EPS)
    assert example.loss.value(example.network) == pytest.approx(f(w)) == pytest.approx(example.value)
    assert example.loss.value(np.diag([1.0, 0.0])) == pytest.approx(example.lower_value)
    assert np.linalg.norm(grad(f)(w)) == pytest.approx(example.gradient_norm)
    assert norm(lrf.factor_gradients(example.loss, example.network)) < 1e-15
    eigenvalues = np.linalg.eigvalsh(factor_hessian(f, example.network))
    assert np.allclose(eigenvalues, example.hessian_eigenvalues, rtol=0, atol=1e-12)
    assert example.local_minimum == (eigenvalues[0] > -1e-12) == (omega > 2)  # omega 1 is the control: -1
    if omega == 4.0:
        assert np.allclose(eigenvalues, (0, 2, 2, 6), rtol=0, atol=1e-12)


def test_the_hessian_of_the_bottleneck_example_by_differences_of_the_library():
    example = bottleneck_example()

    def slope(x):
        factors = [x[:2].reshape(1, 2), x[2:].reshape(2, 1)]
        return np.concatenate([g.ravel() for g in lrf.factor_gradients(example.loss, lrf.LinearNetwork(factors))])

    x = np.concatenate([f.ravel() for f in example.network.factors])
    h = jacobian(slope, x, 1e-3)  # exact for a cubic gradient but for roundoff eps / h
    assert np.allclose(np.linalg.eigvalsh((h + h.T) / 2), (0, 2, 2, 6), rtol=0, atol=1e-10)
