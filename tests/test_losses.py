"""The shipped losses against dense formulas and differences; best values against random attempts to beat them."""

import numpy as np
import pytest
from cases import LEAST_SQUARES, LOSSES, QUADRATIC_LOSSES, Start, completion
from hypothesis import given
from hypothesis import strategies as st
from oracles import EPS, central
from scipy import linalg, sparse

import lowrankflow as lrf
from lowrankflow.losses import Completion, LeastSquares

SHAPES = pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5), (1, 4), (4, 1)], ids=str)
#: reduction, samples, p; with 4 to 6 inputs these are fewer and more samples than inputs
FORMS = pytest.mark.parametrize(
    ("reduction", "samples", "p"),
    [("sum", "columns", 20), ("sum", "columns", 3), ("mean", "columns", 20), ("mean", "rows", 9), ("sum", "rows", 2)],
)


def data(m, n, p, rng, rank=None):
    x = rng.standard_normal((n, p)) if rank is None else rng.standard_normal((n, rank)) @ rng.standard_normal((rank, p))
    return x, rng.standard_normal((m, p))


def build(x, y, reduction, samples):
    if samples == "rows":
        x, y = x.T, y.T
    return LeastSquares(x, y, reduction=reduction, samples=samples)


def forms_of(shape, rng):
    """W in every representation, and as an array."""
    m, n = shape
    w = lrf.random_point(m, n, 1, rng=rng)
    net = lrf.LinearNetwork.balanced(w, 3, widths=2, rng=rng)
    return [w, net, lrf.Product(*w.split()), w.to_dense()]


# ---------------------------------------------------------------------------------------------------------------------
# least squares


@SHAPES
@FORMS
@pytest.mark.parametrize("rank", [None, 2])
def test_least_squares_against_the_dense_formula(shape, reduction, samples, p, rank, rng):
    m, n = shape
    x, y = data(m, n, p, rng, rank)
    loss = build(x, y, reduction, samples)
    weight = 1.0 if reduction == "sum" else 1.0 / p
    v, u, z = rng.standard_normal((n, 2)), rng.standard_normal((m, 3)), rng.standard_normal((m, n))
    scale = 100 * EPS * (linalg.norm(x) + linalg.norm(y)) ** 2  # a QR of the data and two products
    assert loss.shape == shape
    for w in forms_of(shape, rng):
        dense = w if isinstance(w, np.ndarray) else w.to_dense()
        value = 0.5 * weight * linalg.norm(dense @ x - y) ** 2
        g = weight * (dense @ x - y) @ x.T
        assert abs(loss.value(w) - value) < scale
        got = loss.gradient(w)
        assert got.shape == shape
        assert got.T.shape == shape[::-1]
        np.testing.assert_allclose(got @ v, g @ v, rtol=0, atol=scale * 10)
        np.testing.assert_allclose(got.T @ u, g.T @ u, rtol=0, atol=scale * 10)
        np.testing.assert_allclose(got @ v[:, 0], g @ v[:, 0], rtol=0, atol=scale * 10)
        np.testing.assert_allclose(got.to_dense(), g, rtol=0, atol=scale)
        hessian = loss.hessian(w, z)
        np.testing.assert_allclose(hessian @ v, weight * z @ x @ x.T @ v, rtol=0, atol=scale * 10)
        low = lrf.Product(z, np.eye(n))
        np.testing.assert_allclose(loss.hessian(w, low).to_dense(), weight * z @ x @ x.T, rtol=0, atol=scale * 10)
    np.testing.assert_allclose(loss.curvature, weight * linalg.eigvalsh(x @ x.T)[-1], rtol=1e-13)


@pytest.mark.parametrize("make", LOSSES)
def test_gradient_by_differences(make, rng):
    """<G, Z> against the loss along lines, at a central error of 1e-10 L''' / 6 and a roundoff of eps L / h."""
    w = Start(5, 6, (1.0, 0.7, 0.3)).draw(rng)
    loss = make(5, 6, rng)
    z = lrf.project(w, rng.standard_normal((5, 6)))
    z = z / z.norm()
    slope = central(lambda h: loss.value(lrf.Product(*w.split()) + h * z.at(w)))
    got = np.vdot(z.at(w).to_dense(), loss.gradient(w) @ np.eye(6))
    bound = 1e-9 * (1 + loss.value(w))
    assert abs(got - slope) < bound
    assert abs(-got - slope) > 1e3 * bound  # control: the wrong sign


@pytest.mark.parametrize("make", QUADRATIC_LOSSES)
def test_hessian_by_differences(make, rng):
    """Quadratic losses: the difference of gradients is exact for any step."""
    w = Start(5, 6, (1.0, 0.7, 0.3)).draw(rng)
    loss = make(5, 6, rng)
    z = lrf.project(w, rng.standard_normal((5, 6))).at(w)
    base, step = lrf.Product(*w.split()), lrf.Product(*w.split()) + z
    want = loss.gradient(step) @ np.eye(6) - loss.gradient(base) @ np.eye(6)
    np.testing.assert_allclose(loss.hessian(w, z) @ np.eye(6), want, rtol=0, atol=1000 * EPS * (1 + z.norm()))


def test_rows_are_the_transpose_of_columns(rng):
    x, y = data(4, 6, 9, rng)
    w = lrf.random_point(4, 6, 2, rng=rng)
    assert LeastSquares(x, y).value(w) == LeastSquares(x.T, y.T, samples="rows").value(w)
    with pytest.raises(ValueError, match='samples="rows"'):  # control: the orientation is not guessed
        LeastSquares(x.T, y.T[:, :3])


@pytest.mark.parametrize(("n", "p"), [(300, 280), (300, 700)])
def test_residual_in_blocks(n, p, rng):
    """More columns than one block of the residual."""
    x, y = data(3, n, p, rng)
    w = lrf.random_point(3, n, 2, rng=rng)
    np.testing.assert_allclose(LeastSquares(x, y).value(w), 0.5 * linalg.norm(w.to_dense() @ x - y) ** 2, rtol=1e-12)


@pytest.mark.parametrize("p", [4, 20])
def test_value_keeps_its_digits_near_zero(p, rng):
    """At a residual of 1e-9 the loss is 1e-18: the sum of squares keeps seven digits, the expanded form none."""
    m, n = 5, 6
    x = rng.standard_normal((n, p))
    w = lrf.random_point(m, n, 2, rng=rng)
    noise = 1e-9 * rng.standard_normal((m, n))
    target = (w.to_dense() + noise) @ x
    want = 0.5 * linalg.norm(noise @ x) ** 2
    # the residual is rounded at eps |W x| ~ 1e-15, 1e-6 of its size
    np.testing.assert_allclose(LeastSquares(x, target).value(w), want, rtol=1e-5)
    c, b, dense = x @ x.T, target @ x.T, w.to_dense()
    expanded = 0.5 * np.vdot(dense @ c, dense) - np.vdot(dense, b) + 0.5 * linalg.norm(target) ** 2
    assert abs(expanded - want) > want / 2  # control: nothing is left, not even the order of magnitude


@SHAPES
@FORMS
@pytest.mark.parametrize("rank", [1, 2])
def test_best_value(shape, reduction, samples, p, rank, rng):
    """Reached at `minimiser`, and by no perturbation of it, small or large, nor by a random matrix."""
    m, n = shape
    rank = min(rank, m, n, p)
    x, y = data(m, n, p, rng)
    loss = build(x, y, reduction, samples)
    best, w = loss.best_value(rank), loss.minimiser(rank)
    roundoff = 1000 * EPS * (linalg.norm(x) + linalg.norm(y)) ** 2
    assert w.rank == rank
    np.testing.assert_allclose(loss.value(w), best, rtol=0, atol=roundoff)
    # stationary on the manifold; C^-1/2 has norm 1 / sigma_min(X)
    assert lrf.project(w, loss.gradient(w)).norm() < roundoff * max(1.0, w.s[0])
    left, right = w.split()
    for size in np.logspace(-6, 1, 40):
        moved = lrf.Product(
            left + size * rng.standard_normal(left.shape), right + size * rng.standard_normal(right.shape)
        )
        assert loss.value(moved) > best - roundoff


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_best_value_is_the_closed_form(reduction, rank, rng):
    """Full-rank C: the truncated SVD of Q = Y X^T C^-1/2, times C^-1/2, by dense square roots."""
    x, y = data(4, 5, 30, rng)
    loss = LeastSquares(x, y, reduction=reduction)
    root = linalg.sqrtm(x @ x.T).real
    u, s, vt = linalg.svd(y @ x.T @ linalg.inv(root))
    w = (u[:, :rank] * s[:rank]) @ vt[:rank] @ linalg.inv(root)
    weight = 1.0 if reduction == "sum" else 1 / 30
    want = weight * 0.5 * (linalg.norm(y) ** 2 - (s[:rank] ** 2).sum())
    # the condition of X, below 10, squared
    np.testing.assert_allclose(loss.best_value(rank), want, rtol=1e-12)
    np.testing.assert_allclose(loss.minimiser(rank).to_dense(), w, rtol=0, atol=1e-12)
    np.testing.assert_allclose(loss.spectrum.sigma, np.sqrt(weight) * s, rtol=1e-12)
    assert loss.best_value(rank) > loss.best_value(4) or rank == 4  # control: the rank matters


def test_whitening(rng):
    """The loss is |B - Q|^2 / 2 + floor, B = W C^1/2."""
    x, y = data(4, 5, 30, rng)
    loss, w = LeastSquares(x, y), lrf.random_point(4, 5, 2, rng=rng)
    spectrum = loss.spectrum
    q = (spectrum.u * spectrum.sigma) @ spectrum.vt
    value = 0.5 * linalg.norm(loss.whiten(w).to_dense() - q) ** 2 + spectrum.floor
    np.testing.assert_allclose(loss.value(w), value, rtol=1e-13)


@pytest.mark.parametrize("make", LEAST_SQUARES)
def test_least_squares_can_be_traced(make, rng):
    """`differentiable_by_autograd` is kept: autograd's gradient in W is G."""
    import autograd

    loss, w = make(5, 6, rng), rng.standard_normal((5, 6))
    np.testing.assert_allclose(autograd.grad(loss.value)(w), loss.gradient(w).to_dense(), rtol=0, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# completion


@SHAPES
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_completion_against_a_dense_mask(shape, reduction, rng):
    m, n = shape
    mask = rng.random(shape) < 0.5
    mask[0, 0] = True
    rows, cols = np.nonzero(mask)
    order = rng.permutation(rows.size)  # positions in no order
    rows, cols = rows[order], cols[order]
    y = rng.standard_normal(shape)
    loss = Completion(rows, cols, y[rows, cols], shape, reduction=reduction)
    weight = 1.0 if reduction == "sum" else 1.0 / rows.size
    v, u, z = rng.standard_normal((n, 2)), rng.standard_normal((m, 2)), rng.standard_normal((m, n))
    for w in forms_of(shape, rng):
        dense = w if isinstance(w, np.ndarray) else w.to_dense()
        residual = weight * np.where(mask, dense - y, 0)
        value = 0.5 / weight * linalg.norm(residual) ** 2
        close = {"rtol": 0, "atol": 100 * EPS * (1 + linalg.norm(residual))}
        np.testing.assert_allclose(loss.value(w), value, **close)
        g = loss.gradient(w)
        assert sparse.issparse(g)
        np.testing.assert_allclose(g.toarray(), residual, **close)
        np.testing.assert_allclose(g @ v, residual @ v, **close)
        np.testing.assert_allclose(g.T @ u, residual.T @ u, **close)
        both = loss.value_and_gradient(w)
        np.testing.assert_allclose(both[0], value, **close)
        np.testing.assert_allclose(both[1].toarray(), residual, **close)
        want = weight * np.where(mask, z, 0)
        np.testing.assert_allclose(loss.hessian(w, z).toarray(), want, **close)
        np.testing.assert_allclose(loss.hessian(w, lrf.Product(z, np.eye(n))).toarray(), want, **close)
    assert loss.curvature == weight


def test_gradients_do_not_share_their_data(rng):
    """A later call leaves an earlier gradient alone."""
    loss = completion(5, 6, rng)
    a, b = (lrf.random_point(5, 6, 2, rng=rng) for _ in range(2))
    first = loss.gradient(a)
    kept = first.toarray()
    loss.gradient(b)
    np.testing.assert_array_equal(first.toarray(), kept)
    assert np.abs(loss.gradient(b).toarray() - kept).max() > 0.01


@pytest.mark.parametrize("form", ["csr_array", "csc_array", "coo_array", "csr_matrix", "coo_matrix"])
def test_from_sparse_keeps_explicit_zeros(form):
    matrix = sparse.coo_array(([0.0, 2.0, 3.0], ([0, 2, 1], [1, 0, 2])), shape=(3, 4))
    loss = Completion.from_sparse(getattr(sparse, form)(matrix))
    assert loss.shape == (3, 4)
    # an observed zero counts, in the value and in the gradient
    assert loss.value(np.full((3, 4), 5.0)) == 0.5 * (25 + 9 + 4)
    np.testing.assert_array_equal(loss.gradient(np.full((3, 4), 5.0)).toarray()[0], [0, 5, 0, 0])


def test_repeated_positions_are_refused():
    with pytest.raises(ValueError, match=r"got \(1, 2\) twice"):
        Completion([1, 0, 1], [2, 0, 2], [1.0, 2.0, 3.0], (3, 4))
    twice = sparse.coo_array(([1.0, 2.0], ([0, 0], [1, 1])), shape=(2, 2))
    with pytest.raises(ValueError, match="twice"):
        Completion.from_sparse(twice)


@given(m=st.integers(1, 6), n=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
def test_completion_of_the_transpose(m, n, seed):
    rng = np.random.default_rng(seed)
    rows, cols = np.nonzero(rng.random((m, n)) < 0.7)
    if rows.size == 0:
        rows, cols = np.array([0]), np.array([0])
    values = rng.standard_normal(rows.size)
    w = lrf.random_point(m, n, 1, rng=rng)
    a, b = Completion(rows, cols, values, (m, n)), Completion(cols, rows, values, (n, m))
    np.testing.assert_allclose(a.value(w), b.value(w.T), rtol=100 * EPS)
    np.testing.assert_allclose(a.gradient(w).toarray(), b.gradient(w.T).toarray().T, rtol=0, atol=100 * EPS)


def test_full_observation_is_least_squares_with_the_identity(rng):
    y = rng.standard_normal((4, 5))
    rows, cols = np.indices((4, 5)).reshape(2, -1)
    w = lrf.random_point(4, 5, 2, rng=rng)
    np.testing.assert_allclose(
        Completion(rows, cols, y.ravel(), (4, 5)).value(w), LeastSquares(np.eye(5), y).value(w), rtol=100 * EPS
    )


@pytest.mark.parametrize("make", LOSSES)
def test_value_and_gradient_return_fresh_numbers(make, rng):
    """Evaluating leaves W and the loss as they were."""
    loss, w = make(5, 6, rng), Start(5, 6, (1.0, 0.5)).draw(rng)
    dense = w.to_dense()
    first = loss.value(w)
    loss.gradient(w) @ np.eye(6)
    assert loss.value(w) == first
    np.testing.assert_array_equal(w.to_dense(), dense)
