"""The representations of W answer as the dense array would; starts have the spectrum and balance they promise."""

from itertools import pairwise

import numpy as np
import pytest
from cases import STARTS
from hypothesis import given
from hypothesis import strategies as st
from oracles import EPS, balanced_factors, chain, imbalances

import lowrankflow as lrf
from lowrankflow.matrices import difference, random_frame

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 7)


def low_rank(m, n, rng):
    w = lrf.random_point(m, n, rank=int(rng.integers(1, min(m, n) + 1)), rng=rng)
    return w, sum(s * np.outer(u, v) for u, s, v in zip(w.u.T, w.s, w.vt, strict=True))


def product(m, n, rng):
    left, right = rng.standard_normal((m, 3)), rng.standard_normal((3, n))
    return lrf.Product(left, right), np.einsum("ik,kj->ij", left, right)


def network(m, n, rng):
    widths = rng.integers(1, 7, size=int(rng.integers(0, 4)))  # one factor up to four; the bottleneck anywhere
    sizes = [n, *(int(d) for d in widths), m]
    factors = [rng.standard_normal((b, a)) for a, b in pairwise(sizes)]
    return lrf.LinearNetwork(factors), chain(factors)


def tangent(m, n, rng):
    w, _ = low_rank(m, n, rng)
    z = lrf.project(w, rng.standard_normal((m, n)))
    return z.at(w), w.u @ z.core @ w.vt + z.up @ w.vt + w.u @ z.vp.T


KINDS = pytest.mark.parametrize("make", [low_rank, product, network, tangent])


@KINDS
@given(m=SIZES, n=SIZES, seed=SEEDS)
def test_answers_as_dense(make, m, n, seed):
    rng = np.random.default_rng(seed)
    w, dense = make(m, n, rng)
    # at most five chained products with inner sizes below 8, of norms up to this scale
    scale = np.linalg.norm(dense) + (np.prod([np.linalg.norm(f) for f in w.factors]) if make is network else 10)
    close = {"rtol": 0, "atol": 100 * EPS * scale}
    x, y = rng.standard_normal((n, 2)), rng.standard_normal((2, m))
    rows, cols = rng.integers(0, m, 9), rng.integers(0, n, 9)
    assert w.shape == (m, n)
    np.testing.assert_allclose(w.to_dense(), dense, **close)
    for got, want in [
        (w @ x, dense @ x), (w @ x[:, 0], dense @ x[:, 0]), (y @ w, y @ dense), (y[0] @ w, y[0] @ dense),
        (w.T @ y.T, dense.T @ y.T), (w.T @ y[0], dense.T @ y[0]), (x.T @ w.T, x.T @ dense.T),
    ]:  # fmt: skip
        assert isinstance(got, np.ndarray)  # numpy left the product to us: no array of objects
        np.testing.assert_allclose(got, want, rtol=0, atol=100 * EPS * scale * 10)
    np.testing.assert_allclose(w.entries(rows, cols), dense[rows, cols], **close)
    np.testing.assert_allclose(w.norm(), np.linalg.norm(dense), **close)
    assert w.T.shape == (n, m)
    np.testing.assert_allclose(w.T.to_dense(), dense.T, **close)
    np.testing.assert_allclose(w.T.entries(cols, rows), dense[rows, cols], **close)
    np.testing.assert_allclose(w.T.T.to_dense(), dense, **close)


@KINDS
def test_dense_answer_depends_on_orientation(make, rng):
    """Control: the transpose is not taken for the matrix by the comparison above."""
    w, dense = make(5, 5, rng)
    assert np.abs(w.T.to_dense() - dense).max() > 0.01


def test_entries_are_right_across_chunks(rng):
    """More entries than one block of the kernel holds."""
    w = lrf.random_point(40, 30, 4, rng=rng)
    rows, cols = rng.integers(0, 40, 40_000), rng.integers(0, 30, 40_000)
    np.testing.assert_allclose(w.entries(rows, cols), w.to_dense()[rows, cols], rtol=0, atol=20 * EPS)
    assert w.entries(rows[:0], cols[:0]).shape == (0,)


def test_product_arithmetic(rng):
    (a, x), (b, y) = product(5, 4, rng), low_rank(5, 4, rng)
    close = {"rtol": 0, "atol": 200 * EPS}  # entries of order ten
    np.testing.assert_allclose((a + b).to_dense(), x + y, **close)
    np.testing.assert_allclose((a - b).to_dense(), x - y, **close)
    np.testing.assert_allclose((np.float64(2.5) * a).to_dense(), 2.5 * x, **close)
    np.testing.assert_allclose((-a * 3.0).to_dense(), -3 * x, **close)
    assert difference(a, a).norm() < 100 * EPS * np.linalg.norm(x)
    np.testing.assert_allclose(difference(a, b).norm(), np.linalg.norm(x - y), rtol=100 * EPS)


def test_tangent_arithmetic_survives_numpy_scalars(rng):
    w, _ = low_rank(6, 5, rng)
    a, b = (lrf.project(w, rng.standard_normal((6, 5))) for _ in range(2))
    x, y = a.at(w).to_dense(), b.at(w).to_dense()
    for z, dense in [
        (np.float64(2) * a, 2 * x), (a * np.float64(2), 2 * x), (a + b, x + y), (a - b, x - y), (-a, -x),
        (a / np.float64(4), x / 4), (2 * a - 3.0 * b, 2 * x - 3 * y),
    ]:  # fmt: skip
        assert isinstance(z, lrf.Tangent)
        np.testing.assert_allclose(z.at(w).to_dense(), dense, rtol=0, atol=200 * EPS)
    np.testing.assert_allclose(a.dot(b), np.vdot(x, y), rtol=0, atol=1000 * EPS)
    np.testing.assert_allclose(a.norm(), np.linalg.norm(x), rtol=100 * EPS)


# ---------------------------------------------------------------------------------------------------------------------
# starts


@given(
    depth=st.integers(2, 8),
    extra=st.lists(st.integers(0, 4), min_size=7, max_size=7),
    case=st.sampled_from([case.values[0] for case in STARTS]),
    seed=SEEDS,
)
def test_balanced_start(depth, extra, case, seed):
    rng = np.random.default_rng(seed)
    w = case.draw(rng)
    widths = [w.rank + e for e in extra[: depth - 1]]
    net = lrf.LinearNetwork.balanced(w, depth, widths=widths, rng=rng)
    assert net.widths == tuple(widths)
    assert net.shape == w.shape
    # N products of matrices of norm below 1.5, orthonormal to a few eps
    np.testing.assert_allclose(chain(net.factors), w.to_dense(), rtol=0, atol=50 * depth * EPS)
    assert max(np.abs(d).max() for d in imbalances(net.factors)) < 50 * EPS
    assert net.imbalance() < 50 * EPS
    for f in net.factors:
        np.testing.assert_allclose(np.linalg.svd(f)[1][: w.rank], w.s ** (1 / depth), rtol=0, atol=50 * EPS)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_balanced_start_of_least_width_has_identity_frames(depth, rng):
    w = lrf.random_point(6, 5, 3, rng=rng)
    net = lrf.LinearNetwork.balanced(w, depth)
    for got, want in zip(net.factors, balanced_factors(w, depth), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=4 * EPS)


def test_imbalance_sees_unbalanced_factors(rng):
    """Control, with the same product: [A W_1, W_2 A^-1, W_3]; and the value against numpy."""
    net = lrf.LinearNetwork.balanced(lrf.random_point(6, 5, 3, rng=rng), 3)
    a = np.diag([0.5, 1.0, 2.0])
    bad = lrf.LinearNetwork([a @ net.factors[0], net.factors[1] @ np.linalg.inv(a), net.factors[2]])
    np.testing.assert_allclose(chain(bad.factors), chain(net.factors), rtol=0, atol=50 * EPS)
    assert bad.imbalance() > 0.1
    want = max(np.linalg.svd(d)[1].max() for d in imbalances(bad.factors))
    np.testing.assert_allclose(bad.imbalance(), want, rtol=100 * EPS)
    scale = max(np.linalg.norm(f, 2) for f in bad.factors)
    np.testing.assert_allclose(bad.relative_imbalance(), want / scale**2, rtol=100 * EPS)


@given(depth=st.integers(2, 6), width=st.integers(3, 7), seed=SEEDS)
def test_rebalanced_keeps_the_product(depth, width, seed):
    rng = np.random.default_rng(seed)
    net = lrf.LinearNetwork.gaussian((5, 4), depth, widths=width, scale=1.0, rng=rng)
    dense = chain(net.factors)
    even = net.rebalanced()
    # the SVD of the product errs by eps times the product of the factors' norms, which exceeds the norm of W
    scale = np.prod([np.linalg.norm(f, 2) for f in net.factors])
    np.testing.assert_allclose(chain(even.factors), dense, rtol=0, atol=200 * EPS * scale)
    # sigma_1^(2/N) times the roundoff of frames made by N polar factors
    assert even.imbalance() < 100 * depth * EPS * max(1.0, np.linalg.norm(dense, 2))
    assert even.widths == net.widths
    assert net.imbalance() > 1e-3  # control: there was something to do


@pytest.mark.parametrize("case", STARTS)
def test_rebalanced_is_idempotent(case, rng):
    net = lrf.LinearNetwork.balanced(case.draw(rng), 3, widths=(case.rank + 2, case.rank + 1), rng=rng)
    again = net.rebalanced(case.rank)
    for got, want in zip(again.factors, net.factors, strict=True):
        # the SVD of W returns s to eps s_1, which the cube root amplifies at s_r: eps s_1 s_r^(1/3 - 1) / 3
        atol = 100 * EPS * max(1.0, case.s[0] * min(case.s) ** (1 / 3 - 1))
        np.testing.assert_allclose(got, want, rtol=0, atol=atol)


def test_gaussian_has_the_stated_variance(rng):
    net = lrf.LinearNetwork.gaussian((40, 30), 3, widths=(50, 60), scale=0.7, rng=rng)
    assert net.widths == (50, 60)
    for f in net.factors:
        # a mean of p squares of unit normals deviates by sqrt(2 / p): five deviations
        assert abs(f.shape[0] * (f**2).mean() / 0.49 - 1) < 5 * np.sqrt(2 / f.size)


def test_orthogonal_start(rng):
    net = lrf.LinearNetwork.orthogonal((7, 6), 3, widths=(4, 5), scale=0.3, rng=rng)
    assert net.imbalance() < 50 * EPS
    np.testing.assert_allclose(np.linalg.svd(chain(net.factors))[1], [0.3] * 4 + [0, 0], rtol=0, atol=50 * EPS)


def test_identity_start():
    net = lrf.LinearNetwork.identity((3, 3), 4, widths=3, scale=0.5)
    np.testing.assert_allclose(chain(net.factors), 0.5 * np.eye(3), rtol=0, atol=10 * EPS)
    assert net.imbalance() < 10 * EPS
    # as the docstring warns: with unequal widths the identities are not balanced
    assert lrf.LinearNetwork.identity((3, 3), 2, widths=5).imbalance() < 10 * EPS
    assert lrf.LinearNetwork.identity((3, 3), 3, widths=(2, 5)).imbalance() > 0.5


# ---------------------------------------------------------------------------------------------------------------------
# to low rank


@KINDS
@given(m=SIZES, n=SIZES, seed=SEEDS)
def test_to_low_rank_against_the_dense_svd(make, m, n, seed):
    w, dense = make(m, n, np.random.default_rng(seed))
    scale = max(1.0, np.prod([np.linalg.norm(f) for f in w.factors]) if make is network else np.linalg.norm(dense))
    low = w.to_low_rank()
    np.testing.assert_allclose(low.to_dense(), dense, rtol=0, atol=200 * EPS * scale)
    np.testing.assert_allclose(low.s, np.linalg.svd(dense)[1][: low.rank], rtol=0, atol=200 * EPS * scale)
    np.testing.assert_allclose(low.u.T @ low.u, np.eye(low.rank), rtol=0, atol=50 * EPS)
    np.testing.assert_allclose(low.vt @ low.vt.T, np.eye(low.rank), rtol=0, atol=50 * EPS)
    u, s, vt = np.linalg.svd(dense)
    one = w.to_low_rank(1)
    gap = s[0] - s[1] if s.size > 1 else s[0]
    # the leading pair moves by the perturbation over the gap
    atol = 200 * EPS * scale * max(1.0, s[0] / gap)
    np.testing.assert_allclose(one.to_dense(), s[0] * np.outer(u[:, 0], vt[0]), rtol=0, atol=atol)


def test_from_dense_of_repeated_singular_values(rng):
    w = lrf.random_point(6, 5, 3, rng=rng, singular_values=[1, 1, 0.5])
    low = lrf.LowRankMatrix.from_dense(w.to_dense())
    assert low.rank == 3
    np.testing.assert_allclose(low.s, [1, 1, 0.5], rtol=0, atol=20 * EPS)
    np.testing.assert_allclose(low.to_dense(), w.to_dense(), rtol=0, atol=20 * EPS)


def test_to_low_rank_refuses_more_than_is_there(rng):
    with pytest.raises(ValueError, match="numerical rank 2"):
        lrf.random_point(6, 5, 2, rng=rng).to_low_rank(3)


# ---------------------------------------------------------------------------------------------------------------------
# random points


def raw_frame(m, k, rng):
    """Control: the QR factor as LAPACK returns it, a product of Householder reflections."""
    return np.linalg.qr(rng.standard_normal((m, k)))[0]


def mean_trace_and_determinant(draw, rng):
    """Both have mean zero under the uniform law, by symmetry under one reflection."""
    frames = [draw(3, 3, rng) for _ in range(600)]
    return abs(np.mean([np.trace(q) for q in frames])), abs(np.mean([np.linalg.det(q) for q in frames]))


def test_frames_are_uniform(rng):
    # each is a mean of 600 numbers of variance 1 (the trace of a uniform rotation has variance 1): five deviations
    bound = 5 / np.sqrt(600)
    trace, determinant = mean_trace_and_determinant(lambda m, k, rng: random_frame(m, k, rng=rng), rng)
    assert trace < bound
    assert determinant < bound
    trace, determinant = mean_trace_and_determinant(raw_frame, rng)
    assert trace > bound
    assert determinant > bound


def test_random_point_uses_uniform_frames(rng):
    draws = [lrf.random_point(2, 2, 2, rng=rng) for _ in range(400)]
    for determinants in ([np.linalg.det(w.u) for w in draws], [np.linalg.det(w.vt) for w in draws]):
        assert abs(np.mean(determinants)) < 5 / np.sqrt(400)


@given(m=SIZES, n=SIZES, seed=SEEDS)
def test_random_point_is_a_point(m, n, seed):
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, min(m, n) + 1))
    s = rng.uniform(0.1, 2, rank)
    w = lrf.random_point(m, n, rank, rng=rng, singular_values=s)
    assert w.shape == (m, n)
    assert w.rank == rank
    np.testing.assert_array_equal(w.s, np.sort(s)[::-1])
    lrf.LowRankMatrix(w.u, w.s, w.vt)  # passes the checks of the constructor
    np.testing.assert_allclose(np.linalg.svd(w.to_dense())[1][:rank], w.s, rtol=0, atol=50 * EPS)


DRAWN = {  # each draws more than once
    "random_point": lambda rng: lrf.random_point(5, 4, 2, rng=rng).to_dense(),
    "balanced": lambda rng: np.hstack([f.ravel() for f in _drawn_network("balanced", rng).factors]),
    "gaussian": lambda rng: np.hstack([f.ravel() for f in _drawn_network("gaussian", rng).factors]),
    "orthogonal": lambda rng: np.hstack([f.ravel() for f in _drawn_network("orthogonal", rng).factors]),
    "random_frame": lambda rng: random_frame(5, 2, rng=rng),
}


def _drawn_network(kind, rng):
    if kind == "balanced":
        return lrf.LinearNetwork.balanced(lrf.random_point(5, 4, 2, rng=0), 3, widths=(5, 6), rng=rng)
    return getattr(lrf.LinearNetwork, kind)((5, 4), 3, widths=(5, 6), rng=rng)


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_rng_is_a_seed_a_generator_or_none(draw):
    """A seed gives the same numbers as its generator, and the same again; the control is another seed."""
    first = draw(7)
    for same in (7, np.int64(7), np.random.default_rng(7)):
        np.testing.assert_array_equal(draw(same), first)
    rng = np.random.default_rng(7)
    draw(rng)
    for other in (8, rng, None):  # a generator goes on
        assert not np.allclose(draw(other), first)
    assert not np.allclose(draw(None), draw(None))


def test_an_int_is_made_a_generator_once():
    """Drawn from one generator, frames of one size differ; from a seed each time they would be the same."""
    w = lrf.random_point(5, 5, 2, rng=0)
    assert not np.allclose(w.u, w.vt.T)
    first, second = (lrf.LinearNetwork.balanced(w, 3, widths=5, rng=0).factors[i] for i in (0, 2))
    assert not np.allclose(first @ w.vt.T / w.s ** (1 / 3), second.T @ w.u / w.s ** (1 / 3))  # their hidden frames
    a, b = lrf.LinearNetwork.gaussian((5, 5), 2, widths=5, rng=0).factors
    assert not np.allclose(a, b)
    same = random_frame(5, 2, rng=0)
    np.testing.assert_array_equal(same, random_frame(5, 2, rng=0))  # control: two calls are the same


def test_hidden_frames_without_a_generator():
    w = lrf.random_point(5, 4, 2, rng=0)
    for widths in (None, 2):
        first, second = (lrf.LinearNetwork.balanced(w, 2, widths=widths).factors[0] for _ in range(2))
        np.testing.assert_array_equal(first, second)
    first, second = (lrf.LinearNetwork.balanced(w, 2, widths=3).factors[0] for _ in range(2))
    assert not np.allclose(first, second)


def test_random_point_comes_from_its_generator_alone():
    a, b, c = (lrf.random_point(4, 3, 2, rng=np.random.default_rng(seed)).to_dense() for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 0.01


@given(seed=SEEDS)
def test_pairs_may_come_in_any_order(seed):
    """Permuting singular pairs does not change W."""
    rng = np.random.default_rng(seed)
    w = lrf.random_point(5, 6, 3, rng=rng)
    p = rng.permutation(3)
    v = lrf.LowRankMatrix(w.u[:, p], w.s[p], w.vt[p])
    np.testing.assert_allclose(v.to_dense(), w.to_dense(), rtol=0, atol=20 * EPS)
    np.testing.assert_array_equal(v.T.s, v.s)
    np.testing.assert_allclose(v.to_low_rank().s, w.s, rtol=0, atol=20 * EPS)
