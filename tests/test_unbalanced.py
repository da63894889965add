"""Starts of any imbalance: factors that have it, the flow of the Gram matrix, the closedness defect."""

from itertools import product

import numpy as np
import pytest
from cases import covering
from oracles import EPS, chain, flow_of_parts, imbalances, product_jacobian
from scipy import linalg

import lowrankflow as lrf
from lowrankflow.geometry import closedness_defect

# ---------------------------------------------------------------------------------------------------------------------
# factors of given imbalances


def drawn(rng, depth, m, n, unit):
    """A point, imbalances among which some sum to zero, and widths; all in a unit of the squares of the factors."""
    r = int(rng.integers(1, min(m, n) + 1))
    s = 10 ** rng.uniform(-3, 1, r) * unit ** (depth / 2)
    gaps = rng.choice([0, 0, 1, -1, 0.3, -0.3, 1e-5, 50], depth - 1) * unit
    return lrf.random_point(m, n, r, rng=rng, singular_values=s), gaps


def test_factors_have_the_imbalances_that_were_asked_for(rng):
    """Four hundred: of the rank's width, square, and of drawn widths where there are such factors."""
    built = {"rank": 0, "square": 0, "drawn": 0}
    for k in range(400):
        kind, depth = ("rank", "square", "drawn")[k % 3], int(rng.integers(2, 6))
        m, n = (int(d) for d in rng.integers(1, 6, 2))
        n = m if kind == "square" else n
        w, gaps = drawn(rng, depth, m, n, 10 ** rng.uniform(-8, 8))
        widths = {"rank": None, "square": m, "drawn": [int(d) for d in rng.integers(w.rank, 7, depth - 1)]}[kind]
        try:
            net = lrf.LinearNetwork.balanced(w, depth, widths=widths, imbalances=gaps, rng=rng)
        except ValueError as error:
            assert kind == "drawn" and "`widths` must admit the imbalances" in str(error)
            continue
        built[kind] += 1
        assert net.shape == w.shape and (kind != "rank" or net.widths == (w.rank,) * (depth - 1))
        sizes = [np.linalg.norm(f, 2) for f in net.factors]
        for d, gap in zip(imbalances(net.factors), gaps, strict=True):
            assert np.abs(d - gap * np.eye(len(d))).max() <= 50 * EPS * max(sizes) ** 2  # squares of frames
        off = np.abs(chain(net.factors) - w.to_dense()).max()
        assert off <= 20 * depth * EPS * np.prod(sizes)  # roundoff of a chain of N products
    assert built["rank"] == built["square"] + 1 == 134 and built["drawn"] > 30


def test_two_layers_fit_where_theory_says(rng):
    """lambda > 0: at most m wide; lambda < 0: at most n; 0: any."""
    for m, n, h, gap in covering(product((2, 4), (2, 3), (2, 3, 4, 6), (-1.0, 0.0, 1.0)), 3):
        w = lrf.random_point(m, n, 2, rng=rng)
        fits = h <= m if gap > 0 else h <= n if gap < 0 else True
        if fits:
            net = lrf.LinearNetwork.balanced(w, 2, widths=h, imbalances=gap, rng=rng)
            np.testing.assert_allclose(net.imbalances()[0], gap * np.eye(h), rtol=0, atol=1e-14)
        else:
            with pytest.raises(ValueError, match="`widths` must admit the imbalances, got"):
                lrf.LinearNetwork.balanced(w, 2, widths=h, imbalances=gap, rng=rng)


def test_factors_of_a_metric_follow_it(rng):
    """Depth 3, square: the flow of the factors is that of W under the metric of their imbalances, and under no other."""
    w, y, gaps = lrf.random_point(3, 3, 3, rng=rng), rng.standard_normal((3, 3)), (0.4, -0.7)
    loss = lrf.losses.LeastSquares(np.eye(3), y)
    options = {"t_span": (0, 1.0), "rtol": 1e-11}
    net = lrf.LinearNetwork.balanced(w, 3, imbalances=gaps, rng=rng)
    factors = lrf.integrate(lrf.FactorFlow(loss), net, **options).points[-1]

    def alone(*imbalances):
        metric = lrf.metrics.KappaBalancedMetric(imbalances)
        flow = lrf.RiemannianFlow(loss, metric)
        return lrf.integrate(flow, w, chart=lrf.charts.Ambient(), **options).points[-1].to_dense()

    assert np.abs(factors.to_dense() - alone(*gaps)).max() < 1e-9  # three times rtol carried along for t = 1
    assert np.abs(factors.to_dense() - alone(*gaps[::-1])).max() > 1e-3
    assert np.abs(factors.imbalances()[0] - 0.4 * np.eye(3)).max() < 1e-9  # what the flow keeps
    assert np.abs(factors.factors[0] @ factors.factors[0].T - net.factors[0] @ net.factors[0].T).max() > 1e-2  # and not


# ---------------------------------------------------------------------------------------------------------------------
# the Gram matrix of two layers


def losses_of(m, n, rng):
    x = rng.standard_normal((n, n + 2)) / np.sqrt(n)
    return [
        lrf.losses.LeastSquares(x, rng.standard_normal((m, n + 2))),
        lrf.losses.Measured(lrf.losses.Inputs(rng.standard_normal((n, 9)), m), lrf.losses.Huber(rng.standard_normal((m, 9)))),
        lrf.losses.Completion(*np.nonzero(np.eye(m, n)), np.ones(min(m, n)), (m, n)),
    ]


@pytest.mark.parametrize(("m", "n", "h"), [(3, 2, 2), (2, 3, 1), (2, 2, 3), (3, 2, 5), (2, 2, 7), (1, 1, 1)])
def test_any_two_layers_are_a_flow_of_their_gram_matrix(m, n, h, rng):
    for loss in losses_of(m, n, rng):
        net = lrf.LinearNetwork.gaussian((m, n), 2, widths=h, rng=rng)
        w1, w2 = net.factors
        r = net.gram()
        np.testing.assert_allclose(r.to_dense(), np.vstack([w1.T, w2]) @ np.vstack([w1.T, w2]).T, rtol=0, atol=1e-13)
        assert r.rank == min(h, m + n) and np.array_equal(r.u, r.vt.T)

        def velocity(parts, loss=loss):
            a, b = parts
            g = loss.gradient(b @ a) @ np.eye(a.shape[1])
            return [-b.T @ g, -g @ a.T]

        a, b = flow_of_parts(velocity, [w1, w2], [0.0, 0.1], rtol=1e-12)[-1]
        want = np.vstack([a.T, b]) @ np.vstack([a.T, b]).T
        ends = []
        for of in (loss, lrf.losses.Scaled(loss, 1.5)):
            flow = lrf.RiemannianFlow(lrf.losses.Gram(of), lrf.metrics.BuresWassersteinMetric())
            ends.append(lrf.integrate(flow, r, t_span=(0, 0.1), rtol=1e-11).points[-1].to_dense())
        size = np.abs(want).max()
        # rtol a step of the flow, some hundred steps whose errors it carries along
        assert np.abs(ends[0] - want).max() <= 1e-8 * size
        assert np.abs(ends[1] - want).max() > 1e-5 * size  # the control: another loss


def test_gram_is_a_loss(rng):
    loss = lrf.losses.Gram(losses_of(3, 2, rng)[1])
    r = lrf.random_point(5, 5, 3, rng=rng, symmetric=True)
    lrf.check_loss(loss, r).raise_if_failed()
    dense = r.to_dense()
    assert loss.value(dense) == pytest.approx(loss.value(r), rel=1e-13) == pytest.approx(loss.loss.value(dense[2:, :2]))
    assert loss.normalisation.endswith("W the lower left block")


# ---------------------------------------------------------------------------------------------------------------------
# the closedness defect


def defect_by_differences(net):
    """The same maximum with every derivative a central difference, of W, D_j and J J^T."""
    sizes = [f.size for f in net.factors]
    flat = np.concatenate([f.ravel() for f in net.factors])

    def parts(x):
        pieces = np.split(x, np.cumsum(sizes)[:-1])
        return [p.reshape(f.shape) for p, f in zip(pieces, net.factors, strict=True)]

    def kept(x):
        return np.concatenate([chain(parts(x)).ravel(), *(d.ravel() for d in imbalances(parts(x)))])

    def kernel(x):
        j = product_jacobian(parts(x))
        return (j @ j.T).ravel()

    def derivative(f, e=1e-6):
        return np.column_stack([(f(flat + e * d) - f(flat - e * d)) / (2 * e) for d in np.eye(flat.size)])

    free = linalg.null_space(derivative(kept), rcond=1e-6)
    change = derivative(kernel) @ free
    return np.linalg.norm(change, 2) * np.linalg.norm(flat) / np.linalg.norm(kernel(flat)) if free.size else 0.0


def imbalanced(m, n, h, gap, rng, rank=None):
    w = lrf.random_point(m, n, rank or min(m, n, h), rng=rng)
    return lrf.LinearNetwork.balanced(w, 2, widths=h, imbalances=gap, rng=rng)


def test_the_product_is_closed_where_theory_says(rng):
    closed = [
        imbalanced(5, 4, 3, 0.7, rng), imbalanced(5, 4, 3, -0.7, rng), imbalanced(5, 4, 5, 0.7, rng),
        imbalanced(5, 4, 4, -0.7, rng), imbalanced(5, 4, 5, 0.7, rng, rank=2),
        imbalanced(4, 3, 6, 0.0, rng, rank=2), imbalanced(4, 3, 2, 0.0, rng),
        lrf.LinearNetwork.gaussian((4, 3), 2, widths=1, rng=rng),  # a hidden layer of one has lambda I always
        lrf.LinearNetwork.balanced(lrf.random_point(3, 3, 3, rng=rng), 3, imbalances=[0.5, -0.2], rng=rng),
        lrf.LinearNetwork.balanced(lrf.random_point(4, 3, 2, rng=rng), 4, widths=3, rng=rng),
        lrf.LinearNetwork([rng.standard_normal((3, 4))]),
    ]  # fmt: skip
    for net in closed:
        assert closedness_defect(net) < 1e-12  # roundoff, times the condition of the factors
    open_ = [imbalanced(5, 3, 4, 0.7, rng), imbalanced(3, 5, 4, -0.7, rng)]
    open_ += [lrf.LinearNetwork.gaussian((4, 3), 2, widths=h, rng=rng) for h in (2, 3, 4, 7)]
    open_ += [lrf.LinearNetwork.gaussian((2, 2), 3, widths=2, rng=rng)]
    for net in open_:
        found = closedness_defect(net)
        assert found > 0.05
        assert found == pytest.approx(defect_by_differences(net), rel=1e-5)
        units = closedness_defect(lrf.LinearNetwork([1e-8 * f for f in net.factors])), closedness_defect(net.T)
        assert units == pytest.approx((found, found), rel=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# arguments

POINT, NET = lrf.random_point(3, 3, 2, rng=0), lrf.LinearNetwork([np.eye(2)] * 3)
BALANCED, ZERO = lrf.LinearNetwork.balanced, lrf.LinearNetwork([np.zeros((1, 2)), np.zeros((2, 1))])
SCHATTEN = lrf.losses.Schatten((2, 2), depth=2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: BALANCED(POINT, 3, imbalances=[1.0]), ValueError, "`imbalances` must hold a number between each"),
        (lambda: BALANCED(POINT, 2, imbalances=[np.nan]), ValueError, "`imbalances` must be finite"),
        (lambda: BALANCED(POINT, 2, imbalances="a"), TypeError, "`imbalances` must be an array of numbers"),
        (NET.gram, ValueError, "`network` must have 2 factors to have a Gram matrix of its own, got 3."),
        (ZERO.gram, ValueError, "`network` must have a factor that is not zero."),
        (lambda: lrf.losses.Gram(3), TypeError, "`loss` must have shape"),
        (lambda: lrf.losses.Gram(SCHATTEN), ValueError, "`loss` must be smooth at all matrices, got Sch"),
        (lambda: closedness_defect(np.eye(2)), TypeError, "`network` must be a LinearNetwork"),
        (lambda: closedness_defect(NET, tolerance=0), ValueError, "`tolerance` must be positive and finite, got 0."),
    ],
)  # fmt: skip
def test_bad_arguments(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value) and "\n" not in str(caught.value)
