"""Networks with biases, against passes written by hand, dense derivatives of the value alone, and faults that are planted."""

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import lowrankflow as lrf
from lowrankflow import cli, losses
from lowrankflow.compare import diagnose, follow_run
from lowrankflow.descent import Only
from lowrankflow.flows import ModifiedFlow
from lowrankflow.kernels import tangent_kernel
from lowrankflow.matrices import AffineNetwork

ALL, HIDDEN, LAST, FIRST = (True, True, True), (True, True, False), (False, False, True), (True, False, True)
WHICH = [ALL, HIDDEN, LAST, FIRST]
NAMES = ["all", "hidden", "last", "first"]


def drawn(rng, sizes=(4, 3, 5, 2), which=ALL, scale=0.6):
    """A network with biases in some layers."""
    weights = [scale * rng.standard_normal((b, a)) for a, b in pairwise(sizes)]
    return AffineNetwork(
        weights, [scale * rng.standard_normal(b) if has else None for b, has in zip(sizes[1:], which, strict=True)]
    )


def arrays(net):
    """What is trained."""
    return [*net.weights, *(b for b in net.biases if b is not None)]


def with_arrays(net, values):
    """The network with other numbers in its place, from a vector."""
    shapes = [a.shape for a in arrays(net)]
    parts = np.split(np.asarray(values), np.cumsum([int(np.prod(s)) for s in shapes])[:-1])
    parts = [p.reshape(s) for p, s in zip(parts, shapes, strict=True)]
    rest = iter(parts[net.depth :])
    return parts[: net.depth], [None if b is None else next(rest) for b in net.biases]


def vector(net):
    return np.concatenate([a.ravel() for a in arrays(net)])


def outputs(weights, biases, x):
    h = x
    for w, b in zip(weights, biases, strict=True):
        h = w @ h + (0 if b is None else b[:, None])
    return h


def gradients(weights, biases, x, y, weight=1.0):
    """Of weight / 2 ||f(X) - Y||^2 by the chain rule, from the last layer back."""
    layers = [x]
    for w, b in zip(weights, biases, strict=True):
        layers.append(w @ layers[-1] + (0 if b is None else b[:, None]))
    p, found = weight * (layers[-1] - y), []
    for w, b, h in zip(reversed(weights), reversed(biases), reversed(layers[:-1]), strict=True):
        found.insert(0, (p @ h.T, None if b is None else p.sum(axis=1)))
        p = w.T @ p
    return [g for g, _ in found], [g for _, g in found]


def by_hand(net, x, y, h, steps, every, weight, dtype=float, noise=None):
    """Checkpoints of gradient descent in a few lines of numpy; `noise` changes the gradients."""
    weights = [w.astype(dtype) for w in net.weights]
    biases = [None if b is None else b.astype(dtype) for b in net.biases]
    kept = []
    for k in range(steps + 1):
        if k % every == 0:
            kept.append(AffineNetwork([w.copy() for w in weights], [None if b is None else b.copy() for b in biases]))
        gw, gb = gradients(weights, biases, x.astype(dtype), y.astype(dtype), dtype(weight))
        if noise is not None:
            gw, gb = noise(k, gw, gb, weights, biases)
        weights = [w - dtype(h) * g for w, g in zip(weights, gw, strict=True)]
        biases = [None if b is None else b - dtype(h) * g for b, g in zip(biases, gb, strict=True)]
    return kept


def hessian_of(value, at, h=1e-3):
    """A dense Hessian by differences of the value of order four: (4 D_h - D_2h) / 3 of the mixed ones."""
    eye = np.eye(at.size)

    def mixed(a, b, h):
        return sum(i * j * value(at + h * (i * a + j * b)) for i in (1, -1) for j in (1, -1)) / (4 * h * h)

    return np.array([[(4 * mixed(a, b, h) - mixed(a, b, 2 * h)) / 3 for a in eye] for b in eye])


def square(x, y, reduction="sum"):
    return losses.LeastSquares(losses.with_constant(x), y, reduction=reduction)


# ---------------------------------------------------------------------------------------------------------------------
# the chain


@pytest.mark.parametrize("which", WHICH, ids=NAMES)
def test_it_is_a_linear_network_on_inputs_with_a_constant(which, rng):
    net, x = drawn(rng, which=which), rng.standard_normal((4, 7))
    want = outputs(net.weights, net.biases, x)
    close = {"rtol": 0, "atol": 1e-13}  # roundoff of three products with sums of at most six terms of size one
    np.testing.assert_allclose(net(x), want, **close)
    np.testing.assert_allclose(net.augmented @ losses.with_constant(x), want, **close)
    np.testing.assert_allclose(net.linear.to_dense() @ x + net.offset[:, None], want, **close)
    blocks = net.augmented.imbalances()
    for d, (w, after), b in zip(net.imbalances(), pairwise(net.weights), net.biases[:-1], strict=True):
        bias_term = 0 if b is None else np.outer(b, b)
        np.testing.assert_allclose(d, after.T @ after - w @ w.T - bias_term, **close)
        np.testing.assert_allclose(blocks.pop(0)[:-1, :-1], d, **close)  # the blocks without the constant
    assert net.imbalance() == pytest.approx(max(np.linalg.norm(d, 2) for d in net.imbalances()))
    assert sum(int(free.sum()) for free in net.trained) == vector(net).size
    again = AffineNetwork.from_augmented(net.augmented, net)
    assert all(map(np.array_equal, arrays(again), arrays(net)))


@pytest.mark.parametrize("which", WHICH, ids=NAMES)
def test_the_flow_is_that_of_the_chain_rule(which, rng):
    """Weights and biases along the flow, against scipy on gradients by hand; the constants do not move at all."""
    net, x, y = drawn(rng, which=which), rng.standard_normal((4, 9)) + 1, rng.standard_normal((2, 9)) - 2
    loss = square(x, y)

    def velocity(t, v):
        gw, gb = gradients(*with_arrays(net, v), x, y)
        return -np.concatenate([g.ravel() for g in (*gw, *(g for g in gb if g is not None))])

    want = solve_ivp(velocity, (0, 0.3), vector(net), rtol=1e-11, atol=1e-12, method="DOP853").y[:, -1]
    for method in ("DOP853", "auto", "BDF"):
        rtol = 1e-11 if method != "BDF" else 1e-7  # of a low order; with the exact Jacobian
        flow = lrf.FactorFlow(loss, trained=net.trained)
        path = lrf.integrate(flow, net.augmented, t_span=(0, 0.3), rtol=rtol, method=method)
        end = AffineNetwork.from_augmented(path.points[-1], net)  # refuses constants that have moved
        # global errors exceed the tolerance by some factor: 1e3 on a path of a hundred steps
        assert np.linalg.norm(vector(end) - want) < 1e3 * rtol * np.linalg.norm(want)
    free = lrf.integrate(lrf.FactorFlow(loss), net.augmented, t_span=(0, 0.3), rtol=1e-8)  # the control: constants move
    with pytest.raises(ValueError, match="`network` must have the constants of an augmented one"):
        AffineNetwork.from_augmented(free.points[-1], net)


@pytest.mark.parametrize("kind", ["square", "huber", "logistic"])
@pytest.mark.parametrize("which", [ALL, HIDDEN, FIRST], ids=["all", "hidden", "first"])
def test_what_the_flow_conserves_has_the_bias_term(which, kind, rng):
    """F.9 at depth 3 and for any loss; without the term it moves by what the biases do."""
    net, x = drawn(rng, which=which), losses.with_constant(rng.standard_normal((4, 20)) + 1)
    y = 2 * rng.standard_normal((2, 20))
    loss = {
        "square": lambda: losses.LeastSquares(x, y),
        "huber": lambda: losses.Measured(losses.Inputs(x, 2), losses.Huber(y)),
        "logistic": lambda: losses.Measured(losses.Inputs(x, 2), losses.Logistic(np.sign(y))),
    }[kind]()
    path = lrf.integrate(lrf.FactorFlow(loss, trained=net.trained), net.augmented, t_span=(0, 0.1), rtol=1e-10)
    end = AffineNetwork.from_augmented(path.points[-1], net)
    moved, control = (
        max(np.linalg.norm(a - b, 2) for a, b in zip(p.imbalances(), q.imbalances(), strict=True))
        for p, q in ((end, net), (end.linear, net.linear))
    )
    bound = 1e3 * 1e-10 * max(np.linalg.norm(w) ** 2 for w in net.weights)  # the solver's error, accumulated
    assert moved < bound and control > 1e3 * bound
    assert path.defect < 1e-7  # what decides on repairs does not see the constants either


def test_frozen_layers_lose_their_conservation_law_and_no_other(rng):
    """Entries of a linear network that are not trained: the defect that a flow reports is of what it conserves."""
    net = lrf.LinearNetwork.gaussian((3, 4), 3, widths=4, scale=0.6, rng=rng)
    loss = losses.LeastSquares(rng.standard_normal((4, 9)), rng.standard_normal((3, 9)))
    trained = [np.ones(f.shape, bool) for f in net.factors]
    trained[0][1] = False  # the second unit of the first hidden layer has fixed inputs
    path = lrf.integrate(lrf.FactorFlow(loss, trained=trained), net, t_span=(0, 0.2), rtol=1e-10)
    d = path.points[-1].imbalances()[0] - net.imbalances()[0]
    others = np.delete(np.delete(d, 1, 0), 1, 1)
    assert np.abs(others).max() < 1e-7 and np.abs(d[1]).max() > 1e-3
    assert np.array_equal(path.points[-1].factors[0][1], net.factors[0][1])
    assert path.defect < 1e-7 < np.abs(d).max()
    with pytest.raises(ValueError, match="`trained` must hold an array of True and False for each factor, got 2 for 3"):
        lrf.integrate(lrf.FactorFlow(loss, trained=trained[:2]), net, t_span=(0, 1))
    with pytest.raises(TypeError, match=r"`trained\[0\]` must be an array of True and False, got an array"):
        lrf.integrate(lrf.FactorFlow(loss, trained=[f * 1.0 for f in trained]), net, t_span=(0, 1))
    with pytest.raises(ValueError, match=r"`trained\[1\]` has shape"):
        lrf.gradient_descent(loss, net, step_size=1e-3, steps=1, rule=Only([trained[0], trained[0][:1], trained[2]]))


def test_a_checkpoint_knows_what_is_trained(tmp_path, rng):
    net, loss = drawn(rng), square(rng.standard_normal((4, 9)), rng.standard_normal((2, 9)))
    other = drawn(rng, which=LAST)
    options = {"t_span": (0, 0.1), "rtol": 1e-6, "checkpoint": tmp_path / "flow"}
    lrf.integrate(lrf.FactorFlow(loss, trained=net.trained), net.augmented, **options)
    lrf.integrate(lrf.FactorFlow(loss, trained=net.trained), net.augmented, **options)
    with pytest.raises(ValueError, match="checkpoint"):
        lrf.integrate(lrf.FactorFlow(loss, trained=other.trained), net.augmented, **options)
    options = {"step_size": 1e-3, "steps": 3, "checkpoint": tmp_path / "descent"}
    lrf.gradient_descent(loss, net.augmented, rule=Only(net.trained), **options)
    with pytest.raises(ValueError, match="checkpoint"):
        lrf.gradient_descent(loss, net.augmented, rule=Only(other.trained), **options)


@pytest.mark.parametrize("which", WHICH, ids=NAMES)
def test_descent_and_what_it_shadows(which, rng):
    """Descent of what is trained is that of the chain rule; its distance from the modified flow is of second order."""
    net, x, y = drawn(rng, which=which), rng.standard_normal((4, 9)), rng.standard_normal((2, 9))
    loss, left = square(x, y), []
    h = 0.05 * 2 / lrf.sharpness(loss, net.augmented, trained=net.trained)
    for fraction in (1, 2):
        step, steps = h / fraction, 20 * fraction
        run = lrf.gradient_descent(loss, net.augmented, step_size=step, steps=steps, rule=Only(net.trained))
        end, hand = AffineNetwork.from_augmented(run.points[-1], net), by_hand(net, x, y, step, steps, steps, 1.0)[-1]
        np.testing.assert_allclose(vector(end), vector(hand), rtol=0, atol=1e-12)  # roundoff of forty updates
        flow = ModifiedFlow(loss, step, trained=net.trained)
        path = lrf.integrate(flow, net.augmented, t_span=(0, 20 * h), rtol=1e-11)
        left.append(np.linalg.norm(vector(AffineNetwork.from_augmented(path.points[-1], net)) - vector(end)))
    assert np.log2(left[0] / left[1]) == pytest.approx(2, abs=0.35)  # steps that halve: an order, read off two of them


@pytest.mark.parametrize("which", WHICH, ids=NAMES)
def test_sharpness_is_that_in_weights_and_biases(which, rng):
    net, x, y = drawn(rng, (3, 2, 2, 2), which), rng.standard_normal((3, 6)) + 1, rng.standard_normal((2, 6))
    loss = square(x, y)
    dense = hessian_of(lambda v: 0.5 * np.sum((outputs(*with_arrays(net, v), x) - y) ** 2), vector(net))
    want = np.linalg.eigvalsh(dense)[-1]
    # differences to eps / h^2 = 1e-10 of the value and h^4; Lanczos as asked
    assert lrf.sharpness(loss, net.augmented, trained=net.trained, tol=1e-6) == pytest.approx(want, rel=1e-4)
    assert lrf.sharpness(loss, net.augmented) > 1.001 * want  # the control: the constants as if they were trained


@pytest.mark.parametrize("which", WHICH, ids=NAMES)
def test_the_tangent_kernel_is_that_of_weights_and_biases(which, rng):
    """Against J J^T: every entry enters f in an affine way, so that a difference with step one is a derivative."""
    net, x = drawn(rng, which=which), rng.standard_normal((4, 3))
    at = vector(net)
    first = outputs(*with_arrays(net, at), x)
    jac = np.stack([(outputs(*with_arrays(net, at + e), x) - first).ravel() for e in np.eye(at.size)])
    kernel = tangent_kernel(net)
    found = kernel.on(losses.with_constant(x)).to_dense()
    np.testing.assert_allclose(found, jac.T @ jac, rtol=0, atol=1e-12 * np.linalg.norm(jac) ** 2)
    loss = square(x, rng.standard_normal((2, 3)))
    path = lrf.integrate(lrf.FactorFlow(loss, trained=net.trained), net.augmented, t_span=(0, 1e-5), rtol=1e-10)
    velocity = (path.points[-1].to_dense() - net.augmented.to_dense()) / 1e-5
    own = -kernel(loss.gradient(net.augmented) @ np.eye(5))
    assert np.linalg.norm(velocity - own) < 1e-2 * np.linalg.norm(own)  # t times the stiffness


# ---------------------------------------------------------------------------------------------------------------------
# the landscape


@pytest.mark.parametrize("samples", [3, 30])
def test_the_loss_is_that_on_centred_data_and_a_square(samples, rng):
    """L(W, b) = L_c(W) + p/2 ||b + W xbar - ybar||^2, with few samples and with many."""
    x, y = rng.standard_normal((4, samples)) + 3, rng.standard_normal((2, samples)) - 1
    for reduction, p in (("sum", samples), ("mean", 1)):
        loss = square(x, y, reduction)
        centred = losses.LeastSquares(x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True), reduction=reduction)
        for _ in range(3):
            w, b = rng.standard_normal((2, 4)), rng.standard_normal(2)
            r = b + w @ x.mean(1) - y.mean(1)
            assert loss.centred().value(w) == pytest.approx(centred.value(w), rel=1e-12)
            assert loss.value(np.column_stack([w, b])) == pytest.approx(centred.value(w) + p / 2 * r @ r, rel=1e-12)
        assert loss.centred().spectrum.sigma == pytest.approx(centred.spectrum.sigma[: min(2, samples - 1)], abs=1e-12)
    with pytest.raises(ValueError, match="`inputs` must differ between samples"):
        square(np.ones((4, samples)), y).centred()
    with pytest.raises(ValueError, match="`inputs` must end with a row of ones"):
        losses.LeastSquares(np.vstack([x, 0 * x[:1]]), y).centred()


@pytest.mark.parametrize("which", [ALL, LAST, FIRST], ids=["all", "last", "first"])
def test_critical_points_are_those_of_the_weights_on_centred_data(which, rng):
    """A saddle of the weights, any hidden biases, the best last one: no gradient, and the inertia of the weights' Hessian."""
    x, y = rng.standard_normal((3, 12)) + 1, rng.standard_normal((2, 12)) - 1
    loss = square(x, y)
    saddle = lrf.landscape.saddle(loss.centred(), 3, widths=2, rank=1)
    hidden = [rng.standard_normal(2) if has else None for has in which[:-1]]
    before = AffineNetwork(saddle.factors, [*hidden, np.zeros(2)])
    best = y.mean(1) - saddle.to_dense() @ x.mean(1) - before.offset
    net = AffineNetwork(saddle.factors, [*hidden, best])
    size = np.linalg.norm(x) * np.linalg.norm(y)
    slope = np.concatenate([g.ravel() for part in gradients(net.weights, net.biases, x, y) for g in part if g is not None])
    assert np.linalg.norm(slope) < 1e-12 * size
    off = gradients(before.weights, before.biases, x, y)[1][-1]
    assert np.linalg.norm(off) > 1e-3 * size  # the control: another last bias
    values = np.linalg.eigvalsh(
        hessian_of(lambda v: 0.5 * np.sum((outputs(*with_arrays(net, v), x) - y) ** 2), vector(net))
    )
    alone = AffineNetwork(saddle.factors, [None] * 3)
    xc, yc = (a - a.mean(1, keepdims=True) for a in (x, y))
    of_weights = np.linalg.eigvalsh(
        hessian_of(lambda v: 0.5 * np.sum((outputs(*with_arrays(alone, v), xc) - yc) ** 2), vector(alone))
    )
    place = lrf.landscape.classify(saddle, loss.centred())
    zero = 1e-5 * values[-1]  # differences: eps / h^2 of the value, and h^4
    assert place.kind == "strict saddle" and int((values < -zero).sum()) == place.morse_index
    flat = sum(b.size for b in hidden if b is not None)
    assert int((abs(values) <= zero).sum()) == int((abs(of_weights) <= zero).sum()) + flat
    report = diagnose(net, loss)
    assert report.attachments["place"].kind == "strict saddle" and "Strict saddle" in report.headline


# ---------------------------------------------------------------------------------------------------------------------
# the letter


def numbers(report, name):
    return {row[0]: row[1:] for row in report.table(name).rows}


def test_the_numbers_are_those_of_dense_formulas(rng):
    x, y = rng.standard_normal((3, 12)) + 1, rng.standard_normal((2, 12)) - 2
    loss, first = square(x, y), drawn(rng, (3, 2, 3, 2))
    net = by_hand(first, x, y, 1e-3, 50, 50, 1.0)[-1]
    report = diagnose(net, loss, initial=first, step_size=1e-3)
    joints, training, kernel = (numbers(report, name) for name in ("joints", "training", "kernel"))
    for j, d in enumerate(net.imbalances(), 1):
        rows = [np.column_stack([w, b]) for w, b in zip(net.weights, net.biases, strict=True)]
        scale = max(np.linalg.norm(rows[j - 1], 2), np.linalg.norm(rows[j], 2)) ** 2
        assert joints[f"W_{j + 1} on W_{j}"][0] == pytest.approx(np.linalg.norm(d, 2) / scale)
    dense = hessian_of(lambda v: 0.5 * np.sum((outputs(*with_arrays(net, v), x) - y) ** 2), vector(net))
    assert training["sharpness"][0] == pytest.approx(np.linalg.eigvalsh(dense)[-1], rel=0.02)  # asked for to a per cent
    moved = np.linalg.norm(vector(net) - vector(first)) / np.linalg.norm(vector(first))
    assert training["moved"][0] == pytest.approx(moved)
    # updates change what is conserved by h^2: at most h times the fall of the loss, twice; without the bias term by h
    fall = 0.5 * sum(s * np.sum((n(x) - y) ** 2) for s, n in ((1, first), (-1, net)))
    drift = [max(np.linalg.norm(a - b, 2) for a, b in zip(p.imbalances(), q.imbalances(), strict=True))
             for p, q in ((net, first), (net.linear, first.linear))]  # fmt: skip
    assert drift[0] < 2e-3 * fall < drift[1]
    assert kernel["moved"][0] == pytest.approx(tangent_kernel(net).distance(tangent_kernel(first)))
    lines = report.headline.splitlines()
    assert lines[0].startswith(f"3 layers, 3 -> 2 -> 3 -> 2 with biases in all layers, {vector(net).size} parameters")
    assert f"||b|| = {np.linalg.norm(net.offset):.4g}" in lines[1]
    r = net.offset + net.linear.to_dense() @ x.mean(1) - y.mean(1)
    assert f"the loss would be {12 / 2 * r @ r:.3g} lower" in report.headline
    theorems = numbers(report, "theorems")
    assert [row[2] for row in theorems.values()] == ["no", "yes", "yes", "no"]  # biases; no theorem on descent with them
    balanced = AffineNetwork(lrf.LinearNetwork.balanced(loss.centred().minimiser(2), 3).factors, [None, None, np.zeros(2)])
    said = diagnose(balanced, loss)
    assert "With the bias term the layers are balanced" in said.headline and "flow of W." not in said.headline
    assert numbers(said, "theorems")["training is the Riemannian gradient flow of W"][2] == "no"


def test_what_does_not_apply_says_why(rng):
    x, y = rng.standard_normal((4, 12)), rng.standard_normal((2, 12))
    huber = losses.Measured(losses.Inputs(losses.with_constant(x), 2), losses.Huber(y))
    for net, loss, why in (
        (drawn(rng, which=HIDDEN), square(x, y), "the last layer has no bias"),
        (drawn(rng), huber, "the loss is not the square loss"),
        (drawn(rng), square(np.ones((4, 12)), y), "the inputs do not differ"),
    ):
        report = diagnose(net, loss, initial=drawn(rng, which=[b is not None for b in net.biases]), step_size=1e-3)
        assert f"Modes are not told: {why}" in report.headline
        assert f"Its place in the landscape is not told: {why}" in report.headline
        assert [row[2] for row in numbers(report, "theorems").values()] == ["no", "no", "not known", "no"]
        assert "place" not in report.attachments and "nan" not in report.headline


@pytest.mark.filterwarnings("error")
def test_random_networks_are_described_without_a_warning():
    """From 1 x 1, scales 1e-6 to 1e6, biases here and there, zero ones too, equal singular values."""
    for seed in range(25):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(1, 6, rng.integers(3, 6)).tolist()
        net = drawn(rng, sizes, rng.random(len(sizes) - 1) < 0.6, 10.0 ** rng.uniform(-2, 2))
        if seed % 5 == 0:
            net = AffineNetwork([np.eye(*w.shape) for w in net.weights], [np.zeros(len(w)) for w in net.weights])
        scale = 10.0 ** rng.uniform(-6, 6)
        loss = square(scale * rng.standard_normal((sizes[0], 7)), scale * rng.standard_normal((sizes[-1], 7)))
        initial = AffineNetwork([2 * w for w in net.weights], [None if b is None else 2 * b for b in net.biases])
        report = diagnose(net, loss, initial=initial, step_size=1e-3)
        assert report.headline and "nan" not in report.headline


# ---------------------------------------------------------------------------------------------------------------------
# runs


def trained(seed, share=0.05, count=6, every=20, which=ALL, dtype=float, noise=None, longer=1.0):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((4, 30)) + 1, rng.standard_normal((3, 30)) - 1
    net, loss = drawn(rng, (4, 4, 4, 3), which), square(x, y, "mean")
    h = share * 2 / lrf.sharpness(loss, net.augmented, trained=net.trained)
    kept = by_hand(net, x, y, longer * h, every * (count - 1), every, 1 / 30, dtype, noise)
    return loss, h, kept, np.arange(count) * every


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["double", "single"])
@pytest.mark.parametrize("seed", range(4))
def test_a_run_of_descent_is_followed(seed, dtype):
    loss, h, nets, updates = trained(seed, [0.02, 0.1][seed % 2], which=WHICH[seed], dtype=dtype)
    report = follow_run(nets, loss, h, updates=updates)
    assert [c.verdict for c in report.claims] == ["passed"] * 3
    plain, _, predicted = report.attachments["followed"].gaps
    assert plain[-1] == pytest.approx(predicted[-1], rel=0.5) and plain[-1] > 0
    assert report.headline.endswith("biases are trained, on inputs with a constant appended")


def momentum(k, gw, gb, weights, biases, memory={}):  # noqa: B006
    if k == 0:
        memory["w"], memory["b"] = [0.0] * len(gw), [0.0] * len(gb)
    memory["w"] = [0.9 * m + g for m, g in zip(memory["w"], gw, strict=True)]
    memory["b"] = [None if g is None else 0.9 * m + g for m, g in zip(memory["b"], gb, strict=True)]
    return memory["w"], memory["b"]


FAULTS = {
    "momentum": momentum,
    "decay": lambda k, gw, gb, w, b: ([g + 0.1 * v for g, v in zip(gw, w, strict=True)], gb),
    "biases frozen": lambda k, gw, gb, w, b: (gw, [None if g is None else 0 * g for g in gb]),
    "biases twice as fast": lambda k, gw, gb, w, b: (gw, [None if g is None else 2 * g for g in gb]),
    "noise": lambda k, gw, gb, w, b: (
        [g + 0.3 * np.linalg.norm(g) * np.random.default_rng(k).standard_normal(g.shape) for g in gw], gb),
}  # fmt: skip


@pytest.mark.parametrize("fault", [*FAULTS, "step"])
@pytest.mark.parametrize("seed", range(2))
def test_a_run_of_something_else_is_caught(fault, seed):
    options = {"longer": 1.2} if fault == "step" else {"noise": FAULTS[fault]}
    loss, h, nets, updates = trained(seed, **options)
    update, distance, _ = follow_run(nets, loss, h, updates=updates).claims
    assert update.verdict == "failed" and distance.verdict == "not claimed"


@pytest.mark.filterwarnings("error")
def test_no_run_of_descent_fails():
    """Depths 2 to 4, from 1 x 1, scales 1e-3 to 1e3, biases here and there, steps to half of the edge."""
    verdicts = Counter()
    for seed in range(10):
        rng = np.random.default_rng(seed)
        sizes, scale = rng.integers(1, 6, rng.integers(3, 6)).tolist(), 10.0 ** rng.uniform(-3, 3)
        which = rng.random(len(sizes) - 1) < 0.7
        x, y = rng.standard_normal((sizes[0], 9)) + 1, scale * rng.standard_normal((sizes[-1], 9))
        net = drawn(rng, sizes, which, rng.uniform(0.2, 1) * scale ** (1 / (len(sizes) - 1)))
        loss = square(x, y, "mean")
        h = 10.0 ** rng.uniform(-3, -0.3) * 2 / lrf.sharpness(loss, net.augmented, trained=net.trained)
        every, count = int(rng.integers(1, 60)), int(rng.integers(2, 12))
        kept = by_hand(net, x, y, h, every * count, every, 1 / 9)
        if all(np.isfinite(vector(each)).all() for each in kept):
            report = follow_run(kept, loss, h, updates=every * np.arange(count + 1))
            verdicts.update((c.name, c.verdict) for c in report.claims)
    assert not [key for key in verdicts if key[1] == "failed"]
    assert min(verdicts[name, "passed"] for name in ("update", "distance", "drift")) > 4


def test_drift_is_judged_with_the_bias_term():
    """The claim's own number against what it would be without: the control of F.9 in discrete time."""
    loss, h, nets, updates = trained(0, 0.02)
    drift = follow_run(nets, loss, h, updates=updates)["drift"]
    x = follow_run(nets, loss, h, updates=updates).attachments["followed"]
    without = max(
        np.linalg.norm(a - b, 2)
        for a, b in zip(nets[-1].linear.imbalances(), nets[0].linear.imbalances(), strict=True)
    ) / (h * (x.losses[0] - x.losses[-1]))
    assert drift.measured < drift.bound < without / 5


# ---------------------------------------------------------------------------------------------------------------------
# the shell


def saved(path, net):
    np.savez(path, **{f"W{j}": w for j, w in enumerate(net.weights, 1)},
             **{f"b{j}": b for j, b in enumerate(net.biases, 1) if b is not None})  # fmt: skip


def test_at_the_command_line(tmp_path, monkeypatch, capsys, rng):
    monkeypatch.chdir(tmp_path)
    x, y = rng.standard_normal((4, 30)) + 1, rng.standard_normal((3, 30))
    np.save("x.npy", x.T), np.save("y.npy", y.T)
    loss, first = square(x, y, "mean"), drawn(rng, (4, 3, 4, 3))
    h = 0.1 / lrf.sharpness(loss, first.augmented, trained=first.trained)
    kept = by_hand(first, x, y, h, 60, 20, 1 / 30)
    (tmp_path / "run").mkdir()
    for k, net in zip((0, 20, 40, 60), kept, strict=True):
        saved(f"run/step_{k}.npz", net)
    saved("end.npz", kept[-1]), saved("start.npz", first)
    data = ["--inputs", "x.npy", "--targets", "y.npy", "--preprocess", "none"]
    line = [*data, "--factors", "end.npz"]
    assert cli.main(["diagnose", *line, "--initial", "start.npz", "--step", repr(h), "--json", "a.json", "--out", "page"]) == 0
    assert "on inputs with a constant appended." in capsys.readouterr().out
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["headline"] == diagnose(kept[-1], loss, initial=first, step_size=h).headline
    assert found["problem"]["data"]["biases"] == "a constant is appended to the inputs"
    assert cli.main(["diagnose", "--problem", "a.json", "--quiet"]) == 0  # repeats itself
    assert cli.main(["verify", *data, "--run", "run", "--step", repr(h), "--json", "b.json"]) == 0
    said = capsys.readouterr().out
    assert "biases are trained, on inputs with a constant appended" in " ".join(said.split())
    assert cli.main(["verify", "--problem", "b.json", "--quiet"]) == 0
    capsys.readouterr()
    for command in (["verify"], ["landscape"], ["verify", "--descent"]):
        assert cli.main([*command, *line, "--quiet"]) == 2
        error = capsys.readouterr().err
        assert "`--factors` must have no biases here" in error and "Use diagnose, or verify --run" in error
        assert error.count("\n") == 1
    saved("run/step_60.npz", drawn(rng, (4, 3, 4, 3), HIDDEN))
    assert cli.main(["verify", *data, "--run", "run", "--step", repr(h), "--quiet"]) == 2
    assert "must have biases in the same layers" in capsys.readouterr().err
    np.savez("plain.npz", *kept[-1].weights)
    assert cli.main(["diagnose", *line, "--initial", "plain.npz", "--quiet"]) == 2
    assert cli.main(["diagnose", "--data", "iris", "--preprocess", "none", "--factors", "end.npz", "--quiet"]) == 2
    assert "must have the product shape" in capsys.readouterr().err


def test_a_network_in_memory_is_a_problem_of_its_numbers(rng):
    net, x, y = drawn(rng), rng.standard_normal((9, 4)), rng.standard_normal((9, 2))
    problem = lrf.Problem(inputs=x, targets=y, factors=net, preprocess="none")
    built = problem.build(inputs=x, targets=y, factors=net)
    assert built.loss.shape == (2, 5) and built.given is not None
    assert built.loss.value(net.augmented) == pytest.approx(0.5 * np.sum((net(x.T) - y.T) ** 2) / 9)
    with pytest.raises(ValueError, match="`factors` must have no biases here"):
        _ = built.network
    other = AffineNetwork(net.weights, [None, *net.biases[1:]])
    with pytest.raises(ValueError, match="`factors` must be the array that the problem names"):
        problem.build(inputs=x, targets=y, factors=other)


def test_bad_input_is_one_line(rng):
    net, x, y = drawn(rng), rng.standard_normal((4, 9)), rng.standard_normal((2, 9))
    plain, loss = losses.LeastSquares(x, y), square(x, y)
    for call, says in (
        (lambda: AffineNetwork([np.eye(2)], [np.ones(3)]), r"`biases\[0\]` must have shape \(2,\), got \(3,\)"),
        (lambda: AffineNetwork([np.eye(2)], []), "`biases` must be a vector or None a layer, got 0 for 1 layers"),
        (lambda: AffineNetwork([np.eye(2)], None), "`biases` must be a vector or None a layer, got None"),
        (lambda: AffineNetwork([np.eye(2)], [[np.nan, 1]]), r"`biases\[0\]` must be finite"),
        (lambda: AffineNetwork([np.eye(2), np.ones((2, 3))], [None, None]), r"`weights` do not chain: weights\[1\]"),
        (lambda: net(np.ones((3, 2))), "`x` must have 4 rows"),
        (lambda: diagnose(net, plain), r"`network` has biases and shape \(2, 4\).* losses.with_constant"),
        (lambda: follow_run([net, net], plain, 0.1), r"`networks\[0\]` has biases"),
        (lambda: follow_run([net, net.linear], loss, 0.1), "`networks` must have biases in the same layers"),
        (lambda: follow_run([net, drawn(rng, which=LAST)], loss, 0.1), "`networks` must have biases in the same layers"),
        (lambda: diagnose(net, loss, initial=net.linear), "`initial` must have the widths of the network"),
        (lambda: diagnose(net, loss, initial=drawn(rng, which=LAST)), "with biases in layers 3 instead of"),
        (lambda: diagnose(AffineNetwork([np.eye(4)], [np.ones(4)]), loss), "two factors at least"),
        (lambda: losses.with_constant(x, samples="both"), "`samples` must be one of"),
        (lambda: losses.with_constant(np.ones(3)), "`inputs` must be a matrix"),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=says) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert losses.with_constant(x.T, samples="rows").tolist() == losses.with_constant(x).T.tolist()


def test_the_learning_coefficient_has_the_last_bias(rng):
    """Half for each entry of the last bias, nothing for a hidden one, which is flat."""
    x, y = rng.standard_normal((4, 12)), rng.standard_normal((2, 12))
    plain = lrf.LinearNetwork.gaussian((2, 4), 2, widths=3, rng=rng)
    said = []
    for net, loss in (
        (plain, losses.LeastSquares(x, y)), (AffineNetwork(plain.factors, [np.ones(3), np.ones(2)]), square(x, y)),
        (AffineNetwork(plain.factors, [None, np.ones(2)]), square(x, y)),
    ):  # fmt: skip
        words = next(line for line in diagnose(net, loss).headline.splitlines() if "learning coefficient" in line).split()
        said.append(float(words[words.index("coefficient") + 3].rstrip(",")))
    assert said[1] - said[0] == said[2] - said[0] == 1.0
