"""Losses made of a measurement and a link, functions of W, and sums, against formulas in 50 digits and dense matrices."""

import tracemalloc

import autograd.numpy as anp
import mpmath
import numpy as np
import pytest
from autograd import grad as autograd_grad
from cases import CURVED_LOSSES, QUADRATIC_LOSSES, Start, huber_inputs, poisson_entries, softmax_inputs
from oracles import EPS, central
from scipy import linalg, sparse, special
from sklearn import linear_model, metrics

import lowrankflow as lrf
from lowrankflow.losses import (
    Bilinear,
    Completion,
    Entries,
    Huber,
    Inputs,
    LeastSquares,
    LogCosh,
    Logistic,
    Mean,
    Measured,
    MeasurementSum,
    Poisson,
    Scaled,
    Schatten,
    Sensing,
    Softmax,
    Squared,
    SquaredHinge,
    Sum,
    Traced,
    from_function,
)
from lowrankflow.pymanopt_manifold import FixedRank

# ---------------------------------------------------------------------------------------------------------------------
# links: value, slope and curvature at one output, in 50 digits

mp = mpmath.MPContext()  # a context of its own: no other test works in its precision
mp.dps = 50


def huber(z, y):
    e, delta = abs(z - y), mp.mpf(0.7)  # the float
    return e * e / 2 if e <= delta else delta * e - delta * delta / 2


# name -> how to build it for targets, the targets, the formula of one term, a bound on the second derivative
POINTWISE = {
    "squared": (Squared, (-1.5, 0.0, 2.0), lambda z, y: (z - y) ** 2 / 2, 1.0),
    "weighted": (lambda y: Squared(y, np.full(np.shape(y), 2.5)), (-1.5, 2.0), lambda z, y: 2.5 * (z - y) ** 2 / 2, 2.5),
    "huber": (lambda y: Huber(y, delta=0.7), (-1.5, 0.0, 2.0), huber, 1.0),
    "logcosh": (LogCosh, (-1.5, 0.0, 2.0), lambda z, y: mp.log(mp.cosh(z - y)), 1.0),
    "logistic": (Logistic, (-1.0, 1.0), lambda z, y: mp.log1p(mp.exp(-y * z)), 0.25),
    "squaredhinge": (SquaredHinge, (-1.0, 1.0), lambda z, y: max(mp.mpf(0), 1 - y * z) ** 2 / 2, 1.0),
    "poisson": (Poisson, (0.0, 1.0, 30.0), lambda z, y: mp.exp(z) - y * z, None),
}  # fmt: skip
LINKS = pytest.mark.parametrize("name", POINTWISE)
#: no kink of a term but those asked for, tiny and huge
OUTPUTS = (-800.0, -45.0, -3.3, -0.6, -1e-9, 0.0, 1e-5, 0.4, 2.9, 45.0, 700.0)
SMOOTH = (-3.3, -0.6, 0.1, 0.45, 2.9)  # not within 1e-4 of a kink


def exact(function, z, y, order=0):
    """A term or its derivative in 50 digits; the step of 1e-15 leaves thirty of them to the second difference."""
    z, y, h = mp.mpf(z), mp.mpf(y), mp.mpf(10) ** -15
    if order == 0:
        return function(z, y)
    if order == 1:
        return (function(z + h, y) - function(z - h, y)) / (2 * h)
    return (function(z + h, y) - 2 * function(z, y) + function(z - h, y)) / h**2


@LINKS
def test_link_in_fifty_digits(name):
    """Value, slope and curvature of each term, from -800 to 700, to the roundoff of z - y and of one function."""
    build, targets, formula, _ = POINTWISE[name]
    for y in targets:
        link = build([y])
        for z in OUTPUTS:
            at = np.array([z])
            # the relative error of z - y (or y z) is eps; of e^z it is |z| eps
            close = 8 * EPS * max(1.0, abs(z))
            want = exact(formula, z, y)
            # Poisson's term is a difference of two numbers of the size of either
            size = abs(want) + (abs(y * z) if name == "poisson" else 0)
            assert abs(mp.mpf(float(link.value(at))) - want) <= close * size + mp.mpf("1e-300")
            kink = (name == "huber" and abs(abs(z - y) - 0.7) < 1e-9) or (name == "squaredhinge" and y * z == 1)
            assert not kink
            slope, second = exact(formula, z, y, 1), exact(formula, z, y, 2)
            scale = abs(slope) + (y if name == "poisson" else 0)
            # 1e-30 h^-2: what the differences themselves leave
            assert abs(mp.mpf(float(link.gradient(at)[0])) - slope) <= close * scale + mp.mpf("1e-25")
            assert abs(mp.mpf(float(link.hessian(at, np.ones(1))[0])) - second) <= close * abs(second) + mp.mpf("1e-15")
            # control: a thousandth more is seen
            assert abs(mp.mpf(1.001 * float(link.value(at))) - want) > close * size or want == 0


@LINKS
def test_link_without_overflow(name):
    """Warnings are errors here; what is beyond the largest float is infinite, never NaN."""
    build, targets, _, _ = POINTWISE[name]
    for z in (-800.0, 0.0, 800.0, -1e5, 1e5):
        link = build([targets[-1]])
        at = np.array([z])
        found = [float(link.value(at)), float(link.gradient(at)[0]), float(link.hessian(at, np.ones(1))[0])]
        assert not np.isnan(found).any()
        assert np.isfinite(found).all() or (name == "poisson" and z > 709)


def test_small_values_keep_their_digits():
    """At 1e-9 the loss is 5e-19: what adds numbers of order one and takes them away again has nothing left of it."""
    e = 1e-9
    for link in (LogCosh([0.0]), Huber([0.0]), Squared([0.0])):
        np.testing.assert_allclose(link.value(np.array([e])), e**2 / 2, rtol=1e-15)
    assert abs(np.logaddexp(e, -e) - np.log(2) - e**2 / 2) > e**2 / 4  # control: the textbook form
    np.testing.assert_allclose(Logistic([1]).value(np.array([50.0])), np.exp(-50), rtol=1e-14)


@LINKS
def test_link_against_autograd_and_differences(name, rng):
    build, targets, _, _ = POINTWISE[name]
    z = np.array(SMOOTH)
    for y in targets:
        link, dz = build(np.full(z.size, y)), rng.standard_normal(z.size)
        gradient = autograd_grad(link.value)
        size = 1 + np.abs(link.gradient(z)).max()
        np.testing.assert_allclose(link.gradient(z), gradient(z), rtol=0, atol=20 * EPS * size)
        second = autograd_grad(lambda x, g=gradient, v=dz: (g(x) * v).sum())(z)
        np.testing.assert_allclose(link.hessian(z, dz), second, rtol=0, atol=50 * EPS * size)
        # central differences at h = 1e-5: h^2 / 6 of the third derivative (at most e^2.9 = 18), and eps / h of the value
        bound = 1e-9 * (1 + abs(link.value(z)))
        slope = central(lambda h, link=link, v=dz: link.value(z + h * v))
        assert abs(link.gradient(z) @ dz - slope) < bound
        assert abs(1.001 * (link.gradient(z) @ dz) - slope) > bound  # control
        second = central(lambda h, link=link, v=dz: link.gradient(z + h * v))
        np.testing.assert_allclose(link.hessian(z, dz), second, rtol=0, atol=1e-8 * size)


def all_links(rng, shape=(3, 4)):
    """Every smooth link, for outputs of a shape of two axes."""
    signs, counts = rng.choice([-1.0, 1.0], shape), rng.integers(0, 5, shape)
    targets = rng.standard_normal(shape)
    return {
        "squared": Squared(targets), "weighted": Squared(targets, rng.uniform(0.1, 3.0, shape)),
        "huber": Huber(targets, delta=0.5), "logcosh": LogCosh(targets), "logistic": Logistic(signs),
        "squaredhinge": SquaredHinge(signs), "poisson": Poisson(counts),
        "softmax": Softmax(rng.integers(0, shape[0], shape[1]), classes=shape[0]),
    }  # fmt: skip


EVERY_LINK = pytest.mark.parametrize("name", list(all_links(np.random.default_rng(0))))


@EVERY_LINK
def test_link_is_convex(name, rng):
    """On a hundred chords the middle lies below the mean; on those of minus the link it does not."""
    link = all_links(rng)[name]
    assert link.convex
    gaps = []
    for _ in range(100):
        a, b = 3 * rng.standard_normal((2, 3, 4))
        gaps.append(0.5 * (link.value(a) + link.value(b)) - link.value((a + b) / 2))
    # three values of at most 12 e^9
    assert min(gaps) > -1e-11
    assert max(gaps) > 0.01  # control: a concave function, minus this one, would fail


@EVERY_LINK
def test_curvature_of_a_link_is_a_bound(name, rng):
    """The largest eigenvalue of the Hessian, over points around zero, and how near the bound comes."""
    link = all_links(rng)[name]
    largest = 0.0
    for scale in (0.0, 0.1, 1.0, 5.0):
        for _ in range(20):
            z = scale * rng.standard_normal((3, 4))
            dense = np.array([link.hessian(z, e.reshape(3, 4)).ravel() for e in np.eye(12)])
            np.testing.assert_allclose(dense, dense.T, rtol=0, atol=10 * EPS * (1 + np.abs(dense).max()))
            largest = max(largest, linalg.eigvalsh(dense)[-1])
    if name == "poisson":
        assert link.curvature is None
        assert largest > 100  # no bound
        return
    assert largest <= link.curvature * (1 + 20 * EPS)
    attained = {
        "squared": 1,
        "weighted": 1,
        "huber": 1,
        "squaredhinge": 1,
        "logistic": 1,
        "logcosh": 0.9,
        "softmax": 0.8,
    }
    assert largest >= attained[name] * link.curvature * (1 - 1e-12)  # control: half the bound would be none


def test_the_bound_of_softmax_is_attained():
    """Two classes alike and the rest far below: diag(p) - p p^T has the eigenvalue 1/2."""
    z = np.array([[0.0], [0.0], [-900.0]])
    got = Softmax([2], classes=3).hessian(z, np.array([[1.0], [-1.0], [0.0]]))
    np.testing.assert_array_equal(got, [[0.5], [-0.5], [0.0]])


@pytest.mark.parametrize("scale", [0.0, 1.0, 800.0])
def test_softmax_in_fifty_digits(scale, rng):
    z, labels = scale * rng.choice([-1.0, 0.0, 0.5, 1.0], (4, 6)), np.array([0, 3, 1, 1, 2, 0])
    link = Softmax(labels)
    assert link.output_shape == (4, 6)
    e = [[mp.exp(mp.mpf(v)) for v in column] for column in z.T]
    value = sum(mp.log(sum(c)) - mp.log(c[y]) for c, y in zip(e, labels, strict=True))
    close = 20 * EPS * (1 + scale)
    assert abs(mp.mpf(link.value(z)) - value) <= close * (1 + abs(value))
    p = np.array([[float(v / sum(c)) for v in c] for c in e]).T
    np.testing.assert_allclose(link.probabilities(z), p, rtol=close, atol=0)
    onehot = np.eye(4)[labels].T
    np.testing.assert_allclose(link.gradient(z), p - onehot, rtol=0, atol=close)
    np.testing.assert_allclose(autograd_grad(link.value)(z), p - onehot, rtol=0, atol=close)
    dz = rng.standard_normal(z.shape)
    want = np.stack([(np.diag(q) - np.outer(q, q)) @ d for q, d in zip(p.T, dz.T, strict=True)], axis=1)
    np.testing.assert_allclose(link.hessian(z, dz), want, rtol=0, atol=10 * close)
    assert np.abs(link.gradient(z) - p).max() > 0.01  # control: without the labels


def test_traced_is_the_link_that_it_computes(rng):
    y, z, dz = rng.standard_normal((3, 7))
    link, want = Traced(lambda z: anp.sum(anp.log(anp.cosh(z - y)))), LogCosh(y)
    np.testing.assert_allclose(link.value(z), want.value(z), rtol=1e-14)
    np.testing.assert_allclose(link.gradient(z), want.gradient(z), rtol=0, atol=1e-15)
    np.testing.assert_allclose(link.hessian(z, dz), want.hessian(z, dz), rtol=0, atol=1e-14)
    assert link.convex is None
    assert "<lambda>" in repr(link)


# ---------------------------------------------------------------------------------------------------------------------
# measurements

M, N, P = 6, 5, 8


def positions(m, n, p, rng):
    """Distinct positions in no order."""
    return np.divmod(rng.permutation(m * n)[:p], n)


def inputs(rng, m=M, n=N, p=P):
    return Inputs(rng.standard_normal((n, p)), m)


def wide_inputs(rng):
    """Beyond the size up to which the gradient is an array."""
    return Inputs(rng.standard_normal((34, 3)), 40)


def entries(rng, m=M, n=N, p=P):
    return Entries(*positions(m, n, p, rng), shape=(m, n))


def paired(rng, m=M, n=N, p=P):
    return Bilinear(rng.standard_normal((p, m)), rng.standard_normal((p, n)))


def wide_pairs(rng):
    return paired(rng, 40, 34, 3)


def crossed(rng, m=M, n=N, p=P):
    a, b = 4, 7
    return Bilinear(rng.standard_normal((a, m)), rng.standard_normal((b, n)), *positions(a, b, p, rng))


def sensing(rng, m=M, n=N, p=P):
    return Sensing(rng.standard_normal((p, m, n)))


def summed(rng):
    return paired(rng) + entries(rng) + sensing(rng)


def single(rng):
    return Entries([2], [3], shape=(M, N)) + sensing(rng, p=1)


MEASUREMENTS = [inputs, wide_inputs, entries, paired, wide_pairs, crossed, sensing, summed, single]
EVERY_MEASUREMENT = pytest.mark.parametrize("make", MEASUREMENTS, ids=lambda f: f.__name__)


def dense_map(a):
    """The matrix of W (row-major) -> outputs, one unit matrix at a time."""
    m, n = a.shape
    return np.column_stack([a.forward(e.reshape(m, n)).ravel() for e in np.eye(m * n)])


def forms_of(shape, rng):
    """One W in every representation, and as an array."""
    w = lrf.random_point(*shape, 2, rng=rng)
    return [w, lrf.Product(*w.split()), lrf.LinearNetwork.balanced(w, 3, widths=4, rng=rng), w.to_dense()]


def as_dense(a):
    return a.to_dense() if hasattr(a, "to_dense") else a.toarray() if sparse.issparse(a) else a


@EVERY_MEASUREMENT
def test_adjoint(make, rng):
    """<A(W), r> = <W, A^*(r)>, and A^*(r) multiplied from either side is the same matrix."""
    a = make(rng)
    (m, n), table = a.shape, dense_map(a)
    assert a.forward(np.zeros((m, n))).shape == a.outputs
    r, v, u = rng.standard_normal(a.outputs), rng.standard_normal((n, 3)), rng.standard_normal((m, 2))
    g, want = a.adjoint(r), (table.T @ r.ravel()).reshape(m, n)
    assert tuple(g.shape) == (m, n)
    assert tuple(g.T.shape) == (n, m)
    # sums of at most m n p products of normal numbers
    close = {"rtol": 0, "atol": 1000 * EPS * (1 + linalg.norm(table)) * linalg.norm(r)}
    np.testing.assert_allclose(g @ v, want @ v, **close)
    np.testing.assert_allclose(g.T @ u, want.T @ u, **close)
    np.testing.assert_allclose(g @ v[:, 0], want @ v[:, 0], **close)
    np.testing.assert_allclose(g.T @ u[:, 0], want.T @ u[:, 0], **close)
    for w in forms_of((m, n), rng):
        z, dense = a.forward(w), as_dense(w)
        assert isinstance(z, np.ndarray)
        np.testing.assert_allclose(z.ravel(), table @ dense.ravel(), **close)
        assert abs(np.vdot(z, r) - np.vdot(dense, want)) < close["atol"] * linalg.norm(dense)
    # control: the adjoint of other outputs
    assert np.abs(as_dense(a.adjoint(1.01 * r) @ v) - want @ v).max() > close["atol"]


@EVERY_MEASUREMENT
def test_squared_norm(make, rng):
    """Against the dense matrix of the map; a bound, within the product or sum of norms, where it says so."""
    a = make(rng)
    want = linalg.svdvals(dense_map(a))
    if isinstance(a, MeasurementSum) or make is crossed:
        assert want[0] ** 2 <= a.squared_norm * (1 + 1e-12) and a.squared_norm < 10 * want[0] ** 2
        return
    np.testing.assert_allclose(a.squared_norm, want[0] ** 2, rtol=1e-9)
    second = want[want < want[0] * (1 - 1e-12)]  # control: the second one, of any multiplicity of the first
    if second.size:
        assert abs(a.squared_norm - second[0] ** 2) > 1e-6 * want[0] ** 2


def test_outputs_are_in_the_order_of_the_user(rng):
    """Unsorted positions, sorted positions and a transpose: the same numbers where the user put them."""
    w = lrf.random_point(7, 9, 2, rng=rng)
    rows, cols = positions(7, 9, 20, rng)
    assert not np.array_equal(np.lexsort((cols, rows)), np.arange(20))
    a = Entries(rows, cols, shape=(7, 9))
    np.testing.assert_allclose(a.forward(w), w.to_dense()[rows, cols], rtol=0, atol=10 * EPS)
    r = rng.standard_normal(20)
    np.testing.assert_array_equal(a.adjoint(r).toarray()[rows, cols], r)
    order = np.lexsort((cols, rows))
    b = Entries(rows[order], cols[order], shape=(7, 9))
    np.testing.assert_array_equal(a.adjoint(r).toarray(), b.adjoint(r[order]).toarray())
    assert np.abs(a.adjoint(r).toarray() - b.adjoint(r).toarray()).max() > 0.1  # control
    left, right = rng.standard_normal((4, 7)), rng.standard_normal((5, 9))
    rows, cols = positions(4, 5, 11, rng)
    c = Bilinear(left, right, rows, cols)
    np.testing.assert_allclose(c.forward(w), (left @ w.to_dense() @ right.T)[rows, cols], rtol=0, atol=100 * EPS)


def test_bilinear_forms_are_rank_one_sensing(rng):
    x, y, r = rng.standard_normal((P, M)), rng.standard_normal((P, N)), rng.standard_normal(P)
    a, b = Bilinear(x, y), Sensing(x[:, :, None] * y[:, None, :])
    c = Bilinear(x, y, np.arange(P), np.arange(P))
    w = lrf.random_point(M, N, 2, rng=rng)
    for other in (b, c):
        np.testing.assert_allclose(a.forward(w), other.forward(w), rtol=0, atol=1e-13)
        np.testing.assert_allclose(a.adjoint(r) @ np.eye(N), other.adjoint(r) @ np.eye(N), rtol=0, atol=1e-13)
    np.testing.assert_allclose(a.squared_norm, b.squared_norm, rtol=1e-9)
    assert a.squared_norm <= c.squared_norm  # a bound, where the pairs are given by their positions


def test_an_earlier_gradient_is_left_alone(rng):
    a = entries(rng)
    r = rng.standard_normal(P)
    first = a.adjoint(r)
    kept = first.toarray()
    a.adjoint(2 * r)
    np.testing.assert_array_equal(first.toarray(), kept)


def test_a_sum_of_sums(rng):
    a, b, c = paired(rng), entries(rng), sensing(rng)
    w, r = lrf.random_point(M, N, 2, rng=rng), rng.standard_normal(P)
    for total in (a + b + c, a + (b + c), MeasurementSum(a, b, c)):
        np.testing.assert_allclose(total.forward(w), a.forward(w) + b.forward(w) + c.forward(w), rtol=0, atol=1e-13)
        want = sum(as_dense(x.adjoint(r)) for x in (a, b, c))
        np.testing.assert_allclose(total.adjoint(r).to_dense(), want, rtol=0, atol=1e-13)


LARGE = (3000, 2500)


def large_entries(rng):
    keys = np.unique(rng.integers(0, LARGE[0] * LARGE[1], 20_000))
    return Measured(Entries(*np.divmod(rng.permutation(keys), LARGE[1]), shape=LARGE), Poisson(np.ones(keys.size)))


def large_inputs(rng):
    return Measured(Inputs(rng.standard_normal((LARGE[1], 20)), LARGE[0]), Huber(np.zeros((LARGE[0], 20))))


def large_pairs(rng):
    x, y = rng.standard_normal((20, LARGE[0])), rng.standard_normal((20, LARGE[1]))
    return Measured(Bilinear(x, y), LogCosh(np.zeros(20)))


def large_crosses(rng):
    x, y = rng.standard_normal((30, LARGE[0])), rng.standard_normal((30, LARGE[1]))
    return Measured(Bilinear(x, y, *positions(30, 30, 200, rng)), LogCosh(np.zeros(200)))


def large_sum(rng):
    p = 20
    x, y = rng.standard_normal((p, LARGE[0])), rng.standard_normal((p, LARGE[1]))
    return Measured(Bilinear(x, y) + Entries(np.arange(p), np.arange(p), shape=LARGE), Squared(np.zeros(p)))


def large_dense(rng):
    """The control: a function of the dense W."""
    return from_function(lambda w: 0.5 * anp.sum(w**2), LARGE)


def peak(call):
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "make", [large_entries, large_inputs, large_pairs, large_crosses, large_sum, large_dense], ids=lambda f: f.__name__
)
def test_nothing_of_the_size_of_the_matrix(make, rng):
    """A value, a gradient, a Hessian and products with them take less than an eighth of an m x n array of 60 MB."""
    loss, w = make(rng), lrf.random_point(*LARGE, 5, rng=rng)
    net, z = lrf.LinearNetwork.balanced(w, 3), lrf.Product(*w.split())
    loss.gradient(w) @ w.vt.T  # imports and caches

    def work():
        for x in (w, net):
            _, g = loss.value_and_gradient(x)
            g @ w.vt.T, g.T @ w.u
            h = loss.hessian(x, z)
            h @ w.vt.T, h.T @ w.u

    size = LARGE[0] * LARGE[1] * 8
    assert (peak(work) < size / 8) == (make is not large_dense)


# ---------------------------------------------------------------------------------------------------------------------
# measured losses: against the shipped ones, and against other people's


REDUCTIONS = pytest.mark.parametrize("reduction", ["sum", "mean"])


def same_loss(a, b, rng, scale, curvature=True):
    """Value, gradient and Hessian of two losses, at every representation of W."""
    m, n = a.shape
    z, close = rng.standard_normal((m, n)), {"rtol": 0, "atol": 300 * EPS * scale}
    for w in forms_of((m, n), rng):
        np.testing.assert_allclose(a.value(w), b.value(w), **close)
        np.testing.assert_allclose(a.gradient(w) @ np.eye(n), b.gradient(w) @ np.eye(n), **close)
        value, gradient = a.value_and_gradient(w)
        np.testing.assert_allclose(value, b.value(w), **close)
        np.testing.assert_allclose(gradient.T @ np.eye(m), b.gradient(w).T @ np.eye(m), **close)
        for direction in (z, lrf.Product(z, np.eye(n))):
            np.testing.assert_allclose(a.hessian(w, direction) @ np.eye(n), b.hessian(w, z) @ np.eye(n), **close)
    if curvature:
        np.testing.assert_allclose(a.curvature, b.curvature, rtol=1e-12)


@REDUCTIONS
@pytest.mark.parametrize("p", [3, 20])
def test_squared_inputs_are_least_squares(reduction, p, rng):
    x, y = rng.standard_normal((N, p)), rng.standard_normal((M, p))
    loss = Measured(Inputs(x, M), Squared(y), reduction=reduction)
    scale = (linalg.norm(x) + linalg.norm(y)) ** 2
    same_loss(loss, LeastSquares(x, y, reduction=reduction), rng, scale)
    with pytest.raises(AssertionError):  # control: the other reduction
        same_loss(loss, LeastSquares(x, y, reduction={"sum": "mean", "mean": "sum"}[reduction]), rng, scale)


@REDUCTIONS
def test_squared_entries_are_completion(reduction, rng):
    rows, cols = positions(M, N, 15, rng)
    y = rng.standard_normal(15)
    loss = Measured(Entries(rows, cols, shape=(M, N)), Squared(y), reduction=reduction)
    other = Completion(rows, cols, y, (M, N), reduction=reduction)
    same_loss(loss, other, rng, 10)
    assert sparse.issparse(loss.gradient(np.zeros((M, N))))
    with pytest.raises(AssertionError):  # control: the targets in another order
        same_loss(Measured(loss.measurement, Squared(y[::-1]), reduction=reduction), other, rng, 10)


def test_identity_pairs_are_entries_and_units_are_inputs(rng):
    """The same loss through other measurements."""
    rows, cols = positions(M, N, 15, rng)
    y = rng.standard_normal(15)
    a = Measured(Bilinear(np.eye(M), np.eye(N), rows, cols), LogCosh(y))
    same_loss(a, Measured(Entries(rows, cols, shape=(M, N)), LogCosh(y)), rng, 10, curvature=False)
    np.testing.assert_allclose(a.curvature, 1.0, rtol=1e-9)


@EVERY_LINK
@REDUCTIONS
def test_every_link_on_inputs(name, reduction, rng):
    """Value against the dense outputs; gradient and Hessian against differences; the curvature is a bound."""
    x = rng.standard_normal((N, 4)) / 2
    link = all_links(rng)[name]
    loss = Measured(Inputs(x, 3), link, reduction=reduction)
    weight = 1.0 if reduction == "sum" else 0.25
    w = 0.5 * rng.standard_normal((3, N))
    np.testing.assert_allclose(loss.value(w), weight * link.value(w @ x), rtol=10 * EPS)
    traced = autograd_grad(loss.value)(w)
    np.testing.assert_allclose(loss.gradient(w), traced, rtol=0, atol=100 * EPS * (1 + np.abs(traced).max()))
    assert loss.differentiable_by_autograd
    assert loss.convex
    z = rng.standard_normal((3, N))
    # h = 1e-5; third derivatives of the links are at most e^z, |x|^3 of some tens; kinks are met with probability 1e-4
    bound = 1e-8 * (1 + loss.value(w))
    slope = central(lambda h: loss.value(w + h * z))
    assert abs(np.vdot(loss.gradient(w), z) - slope) < bound
    assert abs(1.01 * np.vdot(loss.gradient(w), z) - slope) > bound  # control
    second = central(lambda h: loss.gradient(w + h * z))
    np.testing.assert_allclose(loss.hessian(w, z), second, rtol=0, atol=10 * bound)
    dense = np.array([loss.hessian(w, e.reshape(3, N)).ravel() for e in np.eye(3 * N)])
    if name == "poisson":
        assert not hasattr(loss, "curvature")
    else:
        assert linalg.eigvalsh(dense)[-1] <= loss.curvature * (1 + 1e-12)
    assert loss.normalisation.endswith("/ 4") == (reduction == "mean")


def test_softmax_against_scikit_learn(rng):
    """The mean cross-entropy is log_loss; its gradient at their fit of a ridge is minus the ridge's."""
    p, classes = 60, 4
    x, labels = rng.standard_normal((N, p)), np.concatenate([np.arange(classes), rng.integers(0, classes, p - classes)])
    loss = Measured(Inputs(x, classes), Softmax(labels), reduction="mean")
    w = rng.standard_normal((classes, N))
    want = metrics.log_loss(labels, special.softmax(w @ x, axis=0).T)
    np.testing.assert_allclose(loss.value(w), want, rtol=1e-13)
    c = 0.7
    fit = linear_model.LogisticRegression(C=c, fit_intercept=False, tol=1e-10, max_iter=2000).fit(x.T, labels)
    # C sum of losses + |W|^2 / 2 has a vanishing gradient: at their tol, times p C
    total = Measured(Inputs(x, classes), Softmax(labels))
    np.testing.assert_allclose(c * total.gradient(fit.coef_), -fit.coef_, rtol=0, atol=1e-6)
    assert np.abs(c * total.gradient(w) + w).max() > 0.1  # control: elsewhere it does not


def test_logistic_against_scikit_learn(rng):
    rows, cols = positions(M, N, 20, rng)
    y, w = rng.choice([-1, 1], 20), rng.standard_normal((M, N))
    loss = Measured(Entries(rows, cols, shape=(M, N)), Logistic(y), reduction="mean")
    want = metrics.log_loss(y, special.expit(w[rows, cols]))
    np.testing.assert_allclose(loss.value(w), want, rtol=1e-13)
    assert abs(loss.value(-w) - want) > 0.01  # control: the wrong sign


def test_poisson_against_scikit_learn(rng):
    """Half the mean deviance is the mean loss up to what does not depend on W."""
    rows, cols = positions(M, N, 20, rng)
    y = rng.integers(0, 6, 20).astype(float)
    loss = Measured(Entries(rows, cols, shape=(M, N)), Poisson(y), reduction="mean")
    constant = (special.xlogy(y, y) - y).mean()
    for _ in range(3):
        w = rng.standard_normal((M, N))
        deviance = metrics.mean_poisson_deviance(y, np.exp(w[rows, cols]))
        np.testing.assert_allclose(loss.value(w) + constant, deviance / 2, rtol=1e-12)
        assert abs(loss.value(w) - deviance / 2) > 0.01  # control: without it


def test_huber_against_scipy(rng):
    y, z = rng.standard_normal((2, 50))
    np.testing.assert_allclose(Huber(y, delta=0.3).value(z), special.huber(0.3, z - y).sum(), rtol=1e-13)
    assert abs(Huber(y, delta=0.3).value(z) - special.huber(0.31, z - y).sum()) > 1e-3  # control


def test_weights_of_zero_leave_an_output_out(rng):
    rows, cols = positions(M, N, 15, rng)
    y, c = rng.standard_normal(15), np.ones(15)
    c[10:] = 0
    loss = Measured(Entries(rows, cols, shape=(M, N)), Squared(y, c))
    same_loss(loss, Completion(rows[:10], cols[:10], y[:10], (M, N)), rng, 10)


class Cauchy:
    """A link of a user without second derivatives."""

    def __init__(self, y):
        self.y = y

    def value(self, z):
        return 0.5 * np.log1p((z - self.y) ** 2).sum()

    def gradient(self, z):
        return (z - self.y) / (1 + (z - self.y) ** 2)


def test_a_link_of_a_user(rng):
    """No Hessian: said by TrustRegions. As a function it has one; the two agree."""
    y, w = rng.standard_normal(P), lrf.random_point(M, N, 2, rng=rng)
    a = entries(rng)
    loss, traced = Measured(a, Cauchy(y)), Measured(a, lambda z: 0.5 * anp.sum(anp.log(1 + (z - y) ** 2)))
    assert not hasattr(loss, "hessian")
    assert loss.convex is None
    assert not hasattr(loss, "curvature")
    assert not loss.differentiable_by_autograd
    np.testing.assert_allclose(loss.value(w), traced.value(w), rtol=1e-14)
    np.testing.assert_allclose(loss.gradient(w).toarray(), traced.gradient(w).toarray(), rtol=0, atol=1e-15)
    z = lrf.project(w, rng.standard_normal((M, N))).at(w)
    second = central(lambda h: loss.gradient(w.to_dense() + h * z.to_dense()).toarray())
    np.testing.assert_allclose(traced.hessian(w, z).toarray(), second, rtol=0, atol=1e-8)
    manifold = FixedRank(M, N, 2, metric=lrf.DepthMetric(2))
    assert callable(manifold.problem(traced).riemannian_hessian)
    with pytest.raises(TypeError, match="no `hessian`, so TrustRegions cannot be used"):
        _ = manifold.problem(loss).riemannian_hessian


class Shifted:
    """A measurement of a user: differences of neighbouring rows."""

    def __init__(self, m, n):
        self.shape, self.outputs, self.samples = (m, n), (m - 1, n), m - 1

    def forward(self, w):
        dense = w.to_dense() if hasattr(w, "to_dense") else w
        return dense[1:] - dense[:-1]

    def adjoint(self, r):
        zero = np.zeros((1, r.shape[1]))
        return np.vstack([zero, r]) - np.vstack([r, zero])


def test_a_measurement_of_a_user(rng):
    loss, w = Measured(Shifted(M, N), LogCosh(np.zeros((M - 1, N)))), lrf.random_point(M, N, 2, rng=rng)
    assert not hasattr(loss, "curvature")  # its norm is not known
    z = rng.standard_normal((M, N))
    slope = central(lambda h: loss.value(w.to_dense() + h * z))
    assert abs(np.vdot(loss.gradient(w), z) - slope) < 1e-8
    assert lrf.check_loss(loss, w).passed


def test_a_link_whose_derivative_was_broadcast_is_refused(rng):
    """Targets (p, 1) against outputs (p,): with `targets` when it is built, without them at the first gradient."""
    a, y = entries(rng), rng.standard_normal((P, 1))
    with pytest.raises(ValueError, match=r"targets for outputs of shape \(8, 1\)"):
        Measured(a, Squared(y))
    loss = Measured(a, Cauchy(y))
    with pytest.raises(ValueError, match=r"derivatives of the shape of the outputs \(8,\), got \(8, 8\)"):
        loss.gradient(np.zeros((M, N)))


def test_curvature_is_not_asked_of_a_measurement_in_vain(rng, monkeypatch):
    """Poisson has no bound: the norm of the data is not computed, and otherwise once."""
    calls = []
    monkeypatch.setattr(linalg, "norm", lambda x, *args, norm=linalg.norm: calls.append(x) or norm(x, *args))
    a = inputs(rng)
    assert not hasattr(Measured(a, Poisson(np.ones((M, P)))), "curvature")
    assert calls == []
    one, two = (Measured(a, link(np.ones((M, P)))) for link in (Squared, Huber))
    assert one.curvature == one.curvature == two.curvature
    assert len(calls) == 1


# ---------------------------------------------------------------------------------------------------------------------
# functions of W


def test_from_function_is_the_same_loss_measured(rng):
    x, labels = rng.standard_normal((N, 12)), rng.integers(0, M, 12)

    def cross_entropy(w):
        z = anp.dot(w, x)
        return anp.sum(anp.log(anp.sum(anp.exp(z), axis=0))) - anp.sum(z[labels, anp.arange(12)])

    loss, other = from_function(cross_entropy, (M, N), convex=True), Measured(Inputs(x, M), Softmax(labels, M))
    same_loss(loss, other, rng, 10 * linalg.norm(x) ** 2, curvature=False)
    assert loss.convex is True
    assert loss.differentiable_by_autograd
    assert repr(loss) == "from_function(cross_entropy, 6 x 5)"
    with pytest.raises(AssertionError):  # control: a gradient one per mille too large
        same_loss(Scaled(loss, 1.001), other, rng, 10 * linalg.norm(x) ** 2, curvature=False)


def test_from_function_without_curvature_or_dependence():
    """A linear function has a zero Hessian, a constant one a zero gradient."""
    w = np.ones((2, 3))
    linear = from_function(anp.sum, (2, 3))
    np.testing.assert_array_equal(linear.gradient(w), w)
    np.testing.assert_array_equal(linear.hessian(w, w), 0 * w)
    assert from_function(anp.sum, (2, 3)).convex is None


def test_from_function_written_with_numpy_says_so():
    loss = from_function(lambda w: float(np.sum(w**2)), (2, 2))
    assert loss.value(np.ones((2, 2))) == 4.0
    with pytest.raises(TypeError, match=r"^`function` must be written with autograd\.numpy to be differentiated"):
        loss.gradient(np.ones((2, 2)))


def test_a_function_may_be_an_object():
    class Square:
        def __call__(self, w):
            return anp.sum(w**2)

    assert repr(from_function(Square(), (2, 2))) == "from_function(Square, 2 x 2)"
    np.testing.assert_array_equal(from_function(Square(), (2, 2)).gradient(np.ones((2, 2))), np.full((2, 2), 2.0))
    assert repr(Traced(Square())) == "Traced(Square)"


# ---------------------------------------------------------------------------------------------------------------------
# sums, multiples, means


def parts(rng):
    rows, cols = positions(M, N, 12, rng)
    return (
        Completion(rows, cols, rng.standard_normal(12), (M, N)),
        Measured(inputs(rng), LogCosh(rng.standard_normal((M, P)))),
        from_function(lambda w: anp.sum(w**4) / 4, (M, N), convex=True),
    )


def test_sums_of_values_gradients_and_hessians(rng):
    terms, weights = parts(rng), (0.5, 2.0, 3.0)
    z = rng.standard_normal((M, N))
    for total, c in (
        (Sum(*terms), (1, 1, 1)),
        (Sum(*terms, weights=weights), weights),
        (Mean(*terms), (1 / 3, 1 / 3, 1 / 3)),
        (Scaled(terms[0], 0.3), (0.3, 0, 0)),
        (Sum(Sum(*terms[:2], weights=weights[:2]), Scaled(terms[2], 3.0)), weights),
    ):
        for w in forms_of((M, N), rng):
            value = sum(k * x.value(w) for k, x in zip(c, terms, strict=True))
            gradient = sum(k * as_dense(x.gradient(w) @ np.eye(N)) for k, x in zip(c, terms, strict=True))
            hessian = sum(k * as_dense(x.hessian(w, z) @ np.eye(N)) for k, x in zip(c, terms, strict=True))
            close = {"rtol": 1e-13, "atol": 1e-12}
            np.testing.assert_allclose(total.value(w), value, **close)
            np.testing.assert_allclose(total.gradient(w) @ np.eye(N), gradient, **close)
            np.testing.assert_allclose(total.gradient(w).T @ np.eye(M), gradient.T, **close)
            np.testing.assert_allclose(total.hessian(w, z) @ np.eye(N), hessian, **close)
            both = total.value_and_gradient(w)
            np.testing.assert_allclose(both[0], value, **close)
            np.testing.assert_allclose(both[1] @ np.eye(N), gradient, **close)
            assert np.abs(1.01 * gradient - total.gradient(w) @ np.eye(N)).max() > 1e-4  # control


def test_what_a_sum_says_of_itself(rng):
    fit, smooth, quartic = parts(rng)
    assert Sum(fit, smooth).curvature == pytest.approx(fit.curvature + smooth.curvature, rel=1e-15)
    assert Scaled(fit, 0.5).curvature == 0.5 * fit.curvature
    assert not hasattr(Sum(fit, quartic), "curvature")
    convex = [getattr(x, "convex", None) for x in (fit, smooth, quartic)]
    assert convex == [True, True, True]
    assert Sum(fit, smooth, quartic).convex is True
    assert Sum(fit, from_function(anp.sum, (M, N))).convex is None
    assert Sum(fit, Schatten((M, N), depth=3)).convex is False
    assert Sum(fit, Schatten((M, N), depth=2)).convex is True
    decayed = Sum(fit, Schatten((M, N), depth=3))
    assert not hasattr(decayed, "hessian")
    assert decayed.fixed_rank
    assert not Sum(fit, smooth).fixed_rank
    assert not decayed.differentiable_by_autograd
    assert Sum(fit, smooth, weights=[2.0, 1.0]).normalisation == f"2 ({fit.normalisation}) + {smooth.normalisation}"
    assert "Schatten(6 x 5, depth=3" in decayed.normalisation
    w = rng.standard_normal((M, N))
    assert Sum(quartic, quartic).differentiable_by_autograd
    np.testing.assert_allclose(autograd_grad(Sum(quartic, quartic).value)(w), 2 * quartic.gradient(w), rtol=1e-14)


# ---------------------------------------------------------------------------------------------------------------------
# both flows


@pytest.mark.parametrize("make", [poisson_entries, softmax_inputs, huber_inputs], ids=lambda f: f.__name__)
def test_both_flows_agree(make, rng):
    """The trajectory within 3 (e_a + e_b), the velocity to roundoff; the controls of the two claims fail."""
    loss, start = make(M, N, rng), lrf.random_point(M, N, 2, rng=rng, singular_values=[0.8, 0.4])
    claims = ["pointwise", "trajectory"]
    report = lrf.verify_equivalence(loss, start, depth=3, t_end=1.0, rtol=1e-7, rng=rng, claims=claims)
    for name in ("trajectory", "pointwise"):
        claim = report[name]
        assert claim.verdict == "passed", claim
        assert claim.measured < claim.bound < 1e-3
    start_value = loss.value(start)
    path = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), start, t_span=(0, 1))
    assert path.loss[-1] < start_value - 0.01


@pytest.mark.parametrize("make", [entries, crossed], ids=lambda f: f.__name__)
def test_positions_are_sorted_once_for_links_that_are_sums(make, rng, monkeypatch):
    """Any order of positions, targets and weights is the same loss; subclasses are left as they are."""
    y, c = rng.standard_normal(P), rng.uniform(0.5, 2.0, P)

    class Kept(Squared):
        pass

    a = make(rng)
    signs, counts = rng.choice([-1.0, 1.0], P), rng.integers(0, 4, P)
    for link in (
        Squared(y, c),
        Squared(y),
        Huber(y),
        LogCosh(y),
        Logistic(signs),
        SquaredHinge(signs),
        Poisson(counts),
    ):
        loss = Measured(a, link)
        for w in forms_of((M, N), rng):
            z = a.forward(w)
            np.testing.assert_allclose(loss.value(w), link.value(z), rtol=1e-13, atol=1e-14)
            want = as_dense(a.adjoint(link.gradient(z)) @ np.eye(N))
            np.testing.assert_allclose(loss.gradient(w) @ np.eye(N), want, rtol=0, atol=1e-13)
        assert loss.misfit is link
        assert loss.measurement is a

    class Own(Entries):
        pass

    own = Own([2, 0], [1, 3], shape=(M, N))
    sorting, take = [], np.take
    w = rng.standard_normal((M, N))
    for loss, times in ((Measured(a, Squared(y)), 0), (Measured(a, Kept(y)), 1), (Measured(own, Squared([1.0, 2.0])), 1)):
        with monkeypatch.context() as patch:  # numbers are put in another order by `take` along no axis
            patch.setattr(np, "take", lambda *args, **options: sorting.append("axis" not in options) or take(*args, **options))
            loss.gradient(w)
        assert sum(sorting) == times
        sorting.clear()
    other = Measured(a, Kept(y, c))
    same_loss(other, Measured(a, Squared(y, c)), rng, 100, curvature=False)
    with pytest.raises(AssertionError):  # control: weights in another order
        same_loss(other, Measured(a, Squared(y, c[::-1])), rng, 100, curvature=False)


# ---------------------------------------------------------------------------------------------------------------------
# the laws of test_losses and test_gradients, over losses whose Hessian depends on W


CURVED = pytest.mark.parametrize("make", CURVED_LOSSES)


@CURVED
def test_gradient_and_hessian_by_differences(make, rng):
    """Along tangent lines at h = 1e-5: 1e-10 L''' / 6 and eps L / h, of loss and derivatives of order one to ten."""
    w = Start(5, 6, (1.0, 0.7, 0.3)).draw(rng)
    loss, base = make(5, 6, rng), lrf.Product(*w.split())
    z = lrf.project(w, rng.standard_normal((5, 6)))
    z = (z / z.norm()).at(w)
    slope = central(lambda h: loss.value(base + h * z))
    got = np.vdot(z.to_dense(), loss.gradient(w) @ np.eye(6))
    bound = 1e-9 * (1 + loss.value(w))
    assert abs(got - slope) < bound
    assert abs(-got - slope) > 1e3 * bound  # control: the wrong sign
    second = central(lambda h: loss.gradient(base + h * z) @ np.eye(6))
    got = loss.hessian(w, z) @ np.eye(6)
    np.testing.assert_allclose(got, second, rtol=0, atol=10 * bound)
    assert np.abs(got).max() > 1e3 * bound  # control: that there is one


@CURVED
def test_factor_gradients_by_differences(make, rng):
    net = lrf.LinearNetwork.gaussian((4, 5), 3, widths=[6, 3], rng=rng)
    loss, directions = make(4, 5, rng), [rng.standard_normal(f.shape) for f in net.factors]
    directions = [e / np.linalg.norm(e) for e in directions]

    def along(h):
        return loss.value(lrf.LinearNetwork([f + h * e for f, e in zip(net.factors, directions, strict=True)]))

    slope = sum(np.vdot(g, e) for g, e in zip(lrf.factor_gradients(loss, net), directions, strict=True))
    # as in test_gradients: third derivatives up to 10^2 L
    bound = 1e-8 * (1 + loss.value(net))
    assert abs(slope - central(along)) < bound
    assert abs(-slope - central(along)) > 100 * bound  # control: the wrong sign


@CURVED
def test_evaluating_leaves_the_loss_alone(make, rng):
    loss, w = make(5, 6, rng), Start(5, 6, (1.0, 0.5)).draw(rng)
    dense, first = w.to_dense(), loss.value(w)
    loss.gradient(w) @ np.eye(6)
    assert loss.value(w) == first
    np.testing.assert_array_equal(w.to_dense(), dense)


@pytest.mark.parametrize("make", [*CURVED_LOSSES, *QUADRATIC_LOSSES[-2:]])
def test_check_loss_passes(make, rng):
    """Every claim of the library's own check; with a gradient one per cent too large they do not hold."""
    loss, w = make(5, 6, rng), Start(5, 6, (1.0, 0.7, 0.3)).draw(rng)
    lrf.check_loss(loss, w).raise_if_failed()

    class Wrong:
        shape, value = loss.shape, staticmethod(loss.value)

        def gradient(self, x):
            return Scaled(loss, 1.01).gradient(x)

    assert not lrf.check_loss(Wrong(), w).passed


@pytest.mark.parametrize("make", [*CURVED_LOSSES, *QUADRATIC_LOSSES[-2:]])
@pytest.mark.parametrize("depth", [2, 3])
def test_the_loss_falls_along_the_flow(make, depth, rng):
    loss, w = make(5, 6, rng), Start(5, 6, (1.0, 0.6)).draw(rng)
    path = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), w, t_span=(0, 1))
    assert path.status is lrf.Status.FINISHED
    assert (np.diff(path.loss) <= 0).all()
    assert path.loss[-1] < path.loss[0]
