"""The Hessian of all factors: against closed formulas and exact arithmetic, its ends and its whole spectrum."""

import tracemalloc
from fractions import Fraction
from itertools import pairwise

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import hessian as autograd_hessian
from cases import LOSSES
from oracles import EPS, chain, product_jacobian, sides
from scipy.sparse.linalg import LinearOperator, eigsh, lobpcg

import lowrankflow as lrf
from lowrankflow.geometry import factor_hessian, join_directions, split_directions
from lowrankflow.landscape import extreme_eigenvalues, hessian_spectrum, ritz_values

# ---------------------------------------------------------------------------------------------------------------------
# oracles


def between(factors, i, j):
    """W_{i-1} ... W_{j+1} in counts from zero, the identity where i = j + 1."""
    return chain(factors[j + 1 : i]) if i > j + 1 else np.eye(factors[j].shape[0])


def closed_formula(factors, x, y, *, curvature=True):
    """J^T J + G + G^T of ||W X - Y||^2 / 2, entry by entry: landscape.md B.5, with half of its loss."""
    residual = chain(factors) @ x - y
    blocks = []
    for j in range(len(factors)):
        left, right = sides(factors, j)
        blocks.append(np.kron(left, (right @ x).T))
    jacobian = np.hstack(blocks)
    total = jacobian.T @ jacobian
    cuts = np.concatenate([[0], np.cumsum([f.size for f in factors])])
    for i in range(len(factors)):
        for j in range(i if curvature else 0):
            m = between(factors, i, j)
            c = (sides(factors, j)[1] @ x) @ residual.T @ sides(factors, i)[0]
            block = np.einsum("bc,da->abcd", m, c).reshape(factors[i].size, factors[j].size)
            total[cuts[i] : cuts[i + 1], cuts[j] : cuts[j + 1]] += block
            total[cuts[j] : cuts[j + 1], cuts[i] : cuts[i + 1]] += block.T
    return total


def random_network(rng, depth, *, widest=6):
    sizes = rng.integers(1, widest + 1, size=depth + 1)
    return lrf.LinearNetwork([rng.standard_normal((b, a)) for a, b in pairwise(sizes)])


def least_squares(rng, shape, samples=9):
    m, n = shape
    x, y = rng.standard_normal((n, samples)), rng.standard_normal((m, samples))
    return lrf.losses.LeastSquares(x, y), x, y


def dense(operator):
    return operator @ np.eye(operator.shape[0])


def majorant(factors, x, y):
    """The Hessian of the absolute values: what no partial sum of the true one exceeds."""
    factors, x, y = [abs(f) for f in factors], abs(x), abs(y)
    return closed_formula(factors, x, -y).max()


# ---------------------------------------------------------------------------------------------------------------------
# the operator


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_the_hessian_is_the_closed_formula(depth, rng):
    for _ in range(25):
        net = random_network(rng, depth)
        loss, x, y = least_squares(rng, net.shape)
        want, got = closed_formula(net.factors, x, y), dense(factor_hessian(loss, net))
        # chains of at most 2 N products of sums of at most nine terms, on either side
        bound = 100 * depth * EPS * majorant(net.factors, x, y)
        assert np.abs(got - want).max() <= bound
        assert np.abs(got - got.T).max() <= bound
        if depth > 1:  # control: without the curvature of the product, the Gauss-Newton matrix
            assert np.abs(got - closed_formula(net.factors, x, y, curvature=False)).max() > 1e3 * bound


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_differences_are_near_the_formula(depth, rng):
    for _ in range(10):
        net = random_network(rng, depth)
        loss, x, y = least_squares(rng, net.shape)
        hessian = factor_hessian(loss, net, exact=False)
        assert not hessian.exact and factor_hessian(loss, net).exact
        # the promise: eps^(2/3) N^2 of the Hessian, here of its majorant
        assert np.abs(dense(hessian) - closed_formula(net.factors, x, y)).max() <= (
            EPS ** (2 / 3) * depth**2 * majorant(net.factors, x, y)
        )


def test_reduction_and_few_samples(rng):
    net = random_network(rng, 3)
    m, n = net.shape
    x, y = rng.standard_normal((n, 1)), rng.standard_normal((m, 1))  # fewer samples than inputs: products inside the loss
    want = closed_formula(net.factors, x, y)
    for reduction in ("sum", "mean"):
        got = dense(factor_hessian(lrf.losses.LeastSquares(x, y, reduction=reduction), net))
        np.testing.assert_allclose(got, want, rtol=0, atol=300 * EPS * majorant(net.factors, x, y))
    three = np.hstack([x, x, x]), np.hstack([y, y, y])
    got = dense(factor_hessian(lrf.losses.LeastSquares(*three, reduction="mean"), net))
    np.testing.assert_allclose(got, want, rtol=0, atol=300 * EPS * majorant(net.factors, x, y))


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_the_hessian_of_a_logistic_loss_is_that_of_autograd(depth, rng):
    net = random_network(rng, depth, widest=4)
    m, n = net.shape
    rows, cols = np.divmod(np.arange(m * n), n)
    labels = rng.choice([-1.0, 1.0], m * n)
    loss = lrf.losses.Measured(lrf.losses.Entries(rows, cols, shape=(m, n)), lrf.losses.Logistic(labels))
    shapes = [f.shape for f in net.factors]
    cuts = np.cumsum([a * b for a, b in shapes])[:-1]

    def value(flat):
        factors = [p.reshape(s) for p, s in zip(anp.split(flat, cuts), shapes, strict=True)]
        w = factors[0]
        for f in factors[1:]:
            w = anp.dot(f, w)
        return anp.sum(anp.log1p(anp.exp(-labels * w.ravel())))

    flat = join_directions(net.factors)
    assert loss.value(net) == pytest.approx(value(flat), rel=1e-12)  # the same loss
    want = autograd_hessian(value)(flat)
    scale = np.abs(want).max()
    np.testing.assert_allclose(dense(factor_hessian(loss, net)), want, rtol=0, atol=1e-12 * scale)
    by_differences = factor_hessian(loss, net, exact=False)
    got = dense(by_differences)
    # W is up to a hundred times as large as the length over which a logistic loss bends, and truncation goes with its square
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * scale)
    for k, e in enumerate(np.eye(flat.size)):
        assert np.linalg.norm(got[:, k] - want[:, k]) <= by_differences.error(e, got[:, k]) + 1e-9 * scale


@pytest.mark.parametrize("make", [case for case in LOSSES if case.id != "huber-inputs"])  # whose Hessian jumps
def test_second_differences_of_the_value(make, rng):
    """For every smooth loss of the suite, with a Hessian or without: five values along a line."""
    loss = make(5, 4, rng)
    net = lrf.LinearNetwork.gaussian(loss.shape, 3, widths=(3, 4), scale=0.7, rng=rng)
    hessian = factor_hessian(loss, net)
    v = rng.standard_normal(hessian.shape[0])
    v /= np.linalg.norm(v)
    e = split_directions(net, v)
    h = 5e-3

    def value(k):
        return loss.value(lrf.LinearNetwork([f + k * h * d for f, d in zip(net.factors, e, strict=True)]))

    terms = [-value(2), 16 * value(1), -30 * value(0), 16 * value(-1), -value(-2)]
    want, got = sum(terms) / (12 * h**2), v @ (hessian @ v)
    roundoff = EPS * sum(map(abs, terms)) / (12 * h**2)
    # truncation h^4 / 90 of the sixth derivative: 7e-12 times at most 720 (log cosh, exp) of the values in sight
    assert abs(got - want) <= 100 * roundoff + 1e-8 * max(abs(got), abs(value(0)))


def test_the_operator_is_one_of_scipy(rng):
    net = random_network(rng, 3)
    loss, x, y = least_squares(rng, net.shape)
    hessian = factor_hessian(loss, net)
    want = np.linalg.eigvalsh(closed_formula(net.factors, x, y))
    assert isinstance(hessian, LinearOperator) and hessian.dtype == np.float64 and hessian.T is hessian and hessian.H is hessian
    top = eigsh(hessian, k=1, which="LA", return_eigenvectors=False, v0=np.ones(hessian.shape[0]))
    assert top[0] == pytest.approx(want[-1], rel=1e-10)
    start = rng.standard_normal((hessian.shape[0], 1))
    assert lobpcg(hessian, start, maxiter=200)[0][0] == pytest.approx(want[-1], rel=1e-6)
    v = rng.standard_normal(hessian.shape[0])
    parts = split_directions(net, v)
    assert [p.shape for p in parts] == [f.shape for f in net.factors]
    assert np.array_equal(join_directions(parts), v)
    assert not (factor_hessian(loss, net, exact=False) @ np.zeros(v.size)).any()


def test_nothing_of_the_size_of_the_matrix_for_observed_entries(rng):
    n, observed = 2000, 20_000
    rows, cols = np.divmod(rng.choice(n * n, observed, replace=False), n)
    loss = lrf.losses.Completion(rows, cols, rng.standard_normal(observed), shape=(n, n))
    net = lrf.LinearNetwork.gaussian((n, n), 3, widths=3, rng=rng)
    v = rng.standard_normal(sum(f.size for f in net.factors))
    tracemalloc.start()
    image = factor_hessian(loss, net) @ v
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * n * n / 4  # an (n, n) array takes 32 MB
    differences = factor_hessian(loss, net, exact=False) @ v
    np.testing.assert_allclose(image, differences, rtol=0, atol=1e-8 * np.linalg.norm(image))


def test_the_error_bounds_that_of_exact_arithmetic(rng):
    """The Hessian product in fractions: H V = d/dt of the factor gradients, whose every step is rational."""

    def exact(a):
        return np.array([[Fraction(float(t)) for t in row] for row in a], dtype=object)

    for case in range(12):
        net = random_network(rng, int(rng.integers(2, 5)), widest=3)
        m, n = net.shape
        x = rng.integers(-3, 4, (n, 4)) + np.eye(n, 4)
        # on every second network a fit, so that G is what is left of a cancellation
        y = net.to_dense() @ x if case % 2 else rng.standard_normal((m, 4))
        loss = lrf.losses.LeastSquares(x, y)
        hessian = factor_hessian(loss, net)
        v = rng.standard_normal(hessian.shape[0])
        w, e, xx, yy = [exact(f) for f in net.factors], [exact(p) for p in split_directions(net, v)], exact(x), exact(y)
        depth, want = len(w), []
        g = (chain(w) @ xx - yy) @ xx.T
        slope = sum(chain([*w[:k], e[k], *w[k + 1 :]]) for k in range(depth)) @ xx @ xx.T
        for j in range(depth):
            # transposed chains W_N^T ... with one slot for the gradient, one direction at a time
            slots = [(j, slope)] + [(k, g) for k in range(depth) if k != j]
            total = 0
            for k, middle in slots:
                f = [*w]
                if k != j:
                    f[k] = e[k]
                left, right = exact(np.eye(f[j].shape[0])), exact(np.eye(f[j].shape[1]))
                for a in f[j + 1 :]:
                    left = a @ left
                for a in f[:j][::-1]:
                    right = right @ a
                total = total + left.T @ middle @ right.T
            want.append(total)
        image = hessian @ v
        off = np.array([float(b - Fraction(float(a))) for a, b in zip(image, join_directions(want), strict=True)])
        error = hessian.error(v, image)
        size = majorant(net.factors, x, y) * np.abs(v).sum()
        assert np.linalg.norm(off) <= error <= 1e4 * EPS * size
        by_differences = factor_hessian(loss, net, exact=False)
        image = by_differences @ v
        off = np.array([float(b - Fraction(float(a))) for a, b in zip(image, join_directions(want), strict=True)])
        assert np.linalg.norm(off) <= by_differences.error(v, image) <= 1e-7 * size


# ---------------------------------------------------------------------------------------------------------------------
# both ends of a spectrum


def planted(rng, values):
    q = np.linalg.qr(rng.standard_normal((values.size, values.size)))[0]
    return (q * values) @ q.T


def semidefinite_spectrum(rng, n):
    """Clustered zeros, tiny eigenvalues, spikes."""
    zeros, tiny = int(rng.integers(0, n)), int(rng.integers(0, 5))
    values = np.concatenate([np.zeros(zeros), 10.0 ** rng.uniform(-18, -8, tiny), rng.uniform(0, 1, n)])[:n]
    values[-1] = 10.0 ** rng.uniform(0, 3)
    return values


def test_no_false_proof_on_semidefinite_operators(rng):
    below = 0
    for case in range(300):
        n = int(rng.integers(1, 40))
        values = semidefinite_spectrum(rng, n)
        a = planted(rng, values)
        found = ritz_values((a + a.T) / 2, products=int(rng.integers(6, 80)), rng=case)
        assert not found.negative and found.negatives == 0 and found.upper_bound >= 0
        assert found.scale <= values.max() * (1 + 1e-12)
        below += found.smallest.values[0] < 0
    assert below > 30  # control: to ask for the sign of the Ritz value alone would have been wrong so often


def test_planted_negative_eigenvalues_are_found(rng):
    weaker = 0
    for case in range(100):
        n = int(rng.integers(3, 40))
        values = semidefinite_spectrum(rng, n)
        values[0] = -(10.0 ** rng.uniform(-8, 0)) * values.max()
        a = planted(rng, values)
        found = ritz_values((a + a.T) / 2, products=6 + 2 * n, rng=case, basis=n)
        assert found.negative and found.negatives == 1
        # lambda_min <= upper bound, and an eigenvalue within the residual; the basis is the whole space
        assert values[0] * (1 + 1e-6) - 1e-12 * values.max() <= found.smallest.values[0] < found.upper_bound
        short = ritz_values((a + a.T) / 2, products=8, rng=case)
        if short.negative:  # whatever was proved is true, and at times before the residual says so
            assert short.upper_bound >= values[0]
            weaker += short.smallest.values[0] + short.smallest.residuals[0] > 0
    assert weaker > 0


@pytest.mark.parametrize("basis", [6, 12, 40])
def test_residuals_and_bounds(basis, rng):
    for case in range(30):
        n = int(rng.integers(20, 60))
        values = np.sort(rng.standard_normal(n))
        a = planted(rng, values)
        found = ritz_values((a + a.T) / 2, smallest=2, largest=1, products=60, basis=basis, vectors=True, rng=case)
        assert found.upper_bound >= values[0] - 1e-12 and found.lower_bound <= values[-1] + 1e-12
        assert found.smallest.values[1] >= values[1] - 1e-12  # Cauchy
        for pairs in (found.smallest, found.largest):
            x = pairs.vectors
            np.testing.assert_allclose(x.T @ x, np.eye(x.shape[1]), atol=1e-12)
            # roundoff of products with a matrix of norm three, made twice
            np.testing.assert_allclose(np.linalg.norm(a @ x - x * pairs.values, axis=0), pairs.residuals, atol=1e-12)
            for theta, rho in zip(pairs.values, pairs.residuals, strict=True):
                assert np.abs(values - theta).min() <= rho + 1e-12
        if basis == 40 and n < 40:
            assert found.smallest.converged.all()
            np.testing.assert_allclose(found.smallest.values, values[:2], atol=1e-7)
            np.testing.assert_allclose(found.largest.values, values[-1:], atol=1e-7)


def test_restarts_reach_what_one_basis_does_not(rng):
    values = np.concatenate([[-2.0, -1.7], np.linspace(-1, 1, 396), [1.7, 2.0]])
    q = rng.permutation(values)
    operator = LinearOperator((400, 400), matvec=lambda x: q * x.ravel(), dtype=float)
    one = ritz_values(operator, smallest=2, largest=2, products=20, basis=12)
    found = ritz_values(operator, smallest=2, largest=2, products=200, basis=12)
    assert found.smallest.converged.all() and found.largest.converged.all() and found.products < 200
    assert not one.smallest.converged.all()
    np.testing.assert_allclose(found.smallest.values, [-2, -1.7], atol=1e-12)
    np.testing.assert_allclose(found.largest.values, [2, 1.7], atol=1e-12)


def test_orthogonal_to_the_last_digit_where_eigenvalues_are_graded(rng):
    """Orthogonalised once, a basis of vectors that have converged long ago loses its orthogonality."""
    values = 10.0 ** np.linspace(-14, 0, 60)
    a = planted(rng, values)
    found = ritz_values((a + a.T) / 2, smallest=10, largest=10, products=80, basis=60, tolerance=1e-300, vectors=True)
    x = np.hstack([found.smallest.vectors, found.largest.vectors])
    np.testing.assert_allclose(x.T @ x, np.eye(20), atol=1e-13)
    np.testing.assert_allclose(found.largest.values, values[::-1][:10], rtol=0, atol=1e-14)


def test_nothing_converges_below_the_error_of_the_operator(rng):
    net = random_network(rng, 3)
    loss, _, _ = least_squares(rng, net.shape)
    found = extreme_eigenvalues(loss, net, exact=False, tolerance=1e-15, products=300)
    assert found.largest.residuals[0] > 1e-15 * found.scale
    assert found.largest.converged[0] and found.largest.residuals[0] <= found.largest.errors[0]


def test_several_negative_eigenvalues_are_counted(rng):
    values = np.concatenate([[-3.0, -2.0, -1e-3], np.zeros(20), rng.uniform(0.5, 1, 10)])
    a = planted(rng, values)
    found = ritz_values((a + a.T) / 2, smallest=6, largest=1, products=100)
    assert found.negatives == 3
    np.testing.assert_allclose(found.smallest.values[:3], values[:3], atol=1e-12)
    assert ritz_values((a + a.T) / 2, smallest=2, largest=1, products=100).negatives == 2  # no more than asked for


@pytest.mark.parametrize("products", [6, 7, 12, 50])
@pytest.mark.parametrize("error", [False, True])
def test_a_budget_is_kept(products, error):
    made = []
    q = np.concatenate([np.zeros(490), np.linspace(0, 1, 10)])  # does not converge in so few

    def apply(x):
        made.append(1)
        return q * x.ravel()

    class Operator(LinearOperator):
        def __init__(self):
            super().__init__(np.dtype(float), (q.size, q.size))

        def _matvec(self, x):
            return apply(x)

    operator = Operator()
    if error:
        operator.error = lambda x, image: float(np.linalg.norm(apply(x) - image))
    found = ritz_values(operator, products=products)
    assert len(made) == found.products <= products
    assert found.smallest.values.size == found.largest.values.size == 1
    if products < 12:
        assert not found.smallest.converged[0] and found.smallest.residuals[0] > 0
    assert not found.negative
    assert "none found, which proves nothing" in str(found)


def test_ends_of_tiny_and_of_zero_operators():
    one = ritz_values(np.array([[-2.0]]))
    assert one.smallest.values.tolist() == one.largest.values.tolist() == [-2.0] and one.negative
    zero = ritz_values(np.zeros((5, 5)))
    assert zero.scale == 0 and zero.upper_bound == 0 and not zero.negative and zero.smallest.converged.all()
    identity = ritz_values(np.eye(7), smallest=3, products=60)  # every space is invariant: left by random vectors
    np.testing.assert_allclose(identity.smallest.values, 1, rtol=1e-14)
    again = ritz_values(np.diag(np.arange(50.0)), rng=3), ritz_values(np.diag(np.arange(50.0)), rng=3)
    assert np.array_equal(again[0].smallest.values, again[1].smallest.values)


# ---------------------------------------------------------------------------------------------------------------------
# critical points whose kind is known by construction


def critical_point(rng, depth, *, kind):
    """Canonical factors of an index set S with blocks Z, in random bases of the hidden layers; is the Hessian semidefinite?

    With Z_1 = Z_N = 0 it is critical. All other blocks random: Z_{N-1} ... Z_2 has full rank (strict if r < r_max);
    Z_2 = 0: tightened (not strict if S leads). Landscape.md B.2-B.4.
    """
    m = int(rng.integers(1, 6))
    n, hidden = m + int(rng.integers(0, 4)), rng.integers(1, 7, depth - 1)
    r_max = min(m, *hidden)
    r = int(rng.integers(0, r_max + 1))
    s = sorted(rng.choice(m, r, replace=False)) if kind == "wrong" else list(range(r))
    x, y = rng.standard_normal((n, 2 * n)), rng.standard_normal((m, 2 * n))
    solution = y @ x.T @ np.linalg.inv(x @ x.T)
    u = np.linalg.svd(solution @ x)[0][:, s]
    sizes = [n, *hidden, m]
    factors = [np.vstack([u.T @ solution, np.zeros((sizes[1] - r, n))])]
    for h in range(2, depth):
        z = np.zeros((sizes[h], sizes[h - 1]))
        z[:r, :r] = np.eye(r)
        if kind == "strict" or h > 2:
            z[r:, r:] = rng.standard_normal((sizes[h] - r, sizes[h - 1] - r))
        factors.append(z)
    factors.append(np.hstack([u, np.zeros((m, sizes[-2] - r))]))
    for j, d in enumerate(hidden):
        base = lrf.random_point(d, d, int(d), rng=rng, singular_values=10.0 ** rng.uniform(0, 1.5, d)).to_dense()
        factors[j], factors[j + 1] = base @ factors[j], factors[j + 1] @ np.linalg.inv(base)
    semidefinite = s == list(range(r)) and (r == r_max or (depth > 2 and kind != "strict"))
    return lrf.losses.LeastSquares(x, y), lrf.LinearNetwork(factors), semidefinite, r if r == r_max else None


@pytest.mark.parametrize("kind", ["strict", "not strict", "wrong"])
@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_negative_curvature_is_proved_at_strict_saddles_alone(depth, kind, rng):
    counts = {True: 0, False: 0}
    for _ in range(100):
        loss, net, semidefinite, r = critical_point(rng, depth, kind=kind)
        found = extreme_eigenvalues(loss, net)
        counts[semidefinite] += 1
        assert found.negative is not semidefinite
        by_differences = extreme_eigenvalues(loss, net, exact=False)
        assert not (by_differences.negative and semidefinite) and not by_differences.exact
        if semidefinite and r:  # a global minimiser
            m, n = net.shape
            below, _, above = hessian_spectrum(loss, net).inertia
            assert (below, above) == (0, r * (m + n - r))
    assert counts[False] >= 10 or (kind == "not strict" and depth > 2)


@pytest.mark.parametrize("make", LOSSES)
def test_no_false_proof_where_a_convex_loss_is_its_own_hessian(make, rng):
    """A network of one factor: W itself, near zero and far away, where the Hessian of a convex loss has no negative part."""
    for _ in range(8):
        m, n = rng.integers(2, 7, 2)
        loss, size = make(int(m), int(n), rng), 10.0 ** rng.uniform(-3, 2)
        net = lrf.LinearNetwork([size * rng.standard_normal((m, n))])
        for exact in (None, False):
            assert not extreme_eigenvalues(loss, net, exact=exact).negative


def test_an_extreme_eigenvalue_is_one_of_the_closed_formula(rng):
    net = random_network(rng, 3)
    loss, x, y = least_squares(rng, net.shape)
    want = np.linalg.eigvalsh(closed_formula(net.factors, x, y))
    found = extreme_eigenvalues(loss, net, vectors=True)
    np.testing.assert_allclose(
        [found.smallest.values[0], found.largest.values[0]], want[[0, -1]], rtol=0, atol=1e-10 * want[-1]
    )
    assert found.largest.vectors.shape == (want.size, 1)
    assert found.scale >= max(want[-1], -want[0]) * (1 - 1e-10)
    assert lrf.sharpness(loss, net) == pytest.approx(found.largest.values[0], rel=1e-3)


def test_the_scale_where_the_hessian_nearly_vanishes(rng):
    """At W_2 = 0 of depth 3 with W_1, W_3 of norm a the curvature is ||W_3^T G W_1^T||; the scale is a^2 ||G||_2 at most."""
    loss, _, _ = least_squares(rng, (3, 3), 20)
    q = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    net = lrf.LinearNetwork([2 * q, np.zeros((3, 3)), 2 * q.T])
    g = np.linalg.norm(loss.gradient(np.zeros((3, 3))).to_dense(), 2)
    found = extreme_eigenvalues(loss, net)
    assert found.scale == pytest.approx(max(found.largest.values[0], 2 * g), rel=0.05)
    # control: W_1 and W_3 that G does not meet; all curvature is that of the loss, a^4 = 16, and the scale is 2 * 50
    corners = [2 * np.diag(e) for e in np.eye(3)]
    hidden = lrf.LinearNetwork([corners[0], np.zeros((3, 3)), corners[1]])
    found = extreme_eigenvalues(lrf.losses.LeastSquares(np.eye(3), 25 * corners[2]), hidden)
    assert found.largest.values[0] == pytest.approx(16, rel=1e-10) and found.scale == pytest.approx(100, rel=1e-10)
    deep = lrf.LinearNetwork([np.eye(3) + 0.1 * rng.standard_normal((3, 3)) for _ in range(200)])
    norms = np.prod([np.linalg.norm(f, 2) for f in deep.factors[2:]])  # a product of norms is no scale for a deep network
    found = extreme_eigenvalues(loss, deep)
    assert found.scale < 2 * max(found.largest.values[0], -found.smallest.values[0]) < 1e-3 * norms
    origin = extreme_eigenvalues(loss, lrf.LinearNetwork([np.zeros((3, 3))] * 3))
    assert origin.scale == 0 and not origin.negative and origin.smallest.converged[0]
    shallow = extreme_eigenvalues(loss, lrf.LinearNetwork([np.zeros((3, 3))] * 2))
    assert shallow.negative and shallow.scale == pytest.approx(g, rel=0.05)


# ---------------------------------------------------------------------------------------------------------------------
# the whole spectrum


def test_the_spectrum_is_that_of_the_closed_formula(rng):
    for depth in (1, 2, 3, 4):
        net = random_network(rng, depth)
        loss, x, y = least_squares(rng, net.shape)
        want = np.linalg.eigvalsh(closed_formula(net.factors, x, y))
        found = hessian_spectrum(loss, net)
        np.testing.assert_allclose(found.eigenvalues, want, rtol=0, atol=found.zero)
        assert found.zero < 1e-9 * np.abs(want).max()
        assert np.array_equal(np.sort(np.concatenate([found.bulk, found.spikes])), found.eigenvalues)


def test_gaps_that_a_picture_does_not_show_do_not_count():
    values = np.array([1.0, 0.9, 4e-3, 3e-3, 1e-5, 1e-9])
    loss = lrf.losses.LeastSquares(np.diag(np.sqrt(values)), np.zeros((1, 6)))
    found = hessian_spectrum(loss, lrf.LinearNetwork([np.ones((1, 6))]))
    np.testing.assert_allclose(found.spikes, [0.9, 1.0], rtol=1e-12)  # not 1e-5 / 1e-9, the largest ratio of all
    np.testing.assert_allclose(found.gap, [4e-3, 0.9], rtol=1e-12)


def test_spikes_stand_above_a_gap(rng):
    loss = lrf.losses.LeastSquares(np.eye(4), np.diag([4.0, 3.0, 2.0, 1.0]))
    net = lrf.LinearNetwork.balanced(loss.minimiser(2), 3)
    found = hessian_spectrum(loss, net)
    assert found.spikes.size == 2 * (4 + 4 - 2) and found.inertia == (0, found.bulk.size, found.spikes.size)
    below, above = found.gap
    assert below == np.abs(found.bulk).max() < found.zero and above == found.spikes.min() > 0.1
    flat = hessian_spectrum(loss, lrf.LinearNetwork([np.zeros((4, 4))] * 3))
    assert flat.gap is None and flat.spikes.size == 0 and flat.inertia == (0, 48, 0)
    even = hessian_spectrum(lrf.losses.LeastSquares(np.eye(3), np.eye(3)), lrf.LinearNetwork([np.eye(3)]))
    assert even.gap is None and even.bulk.size == 9  # one eigenvalue nine times: nothing stands out


# ---------------------------------------------------------------------------------------------------------------------
# bad input, one line each

LOSS = lrf.losses.LeastSquares(np.eye(3), np.eye(3))
NET = lrf.LinearNetwork([np.eye(3), np.eye(3)])
WIDE = lrf.LinearNetwork([np.ones((1000, 3)), np.ones((3, 1000))])
SKEW = np.triu(np.ones((6, 6)), 1)


class Undifferentiated:
    """A loss without a Hessian."""

    shape = (3, 3)

    def value(self, w):
        return 0.0

    def gradient(self, w):
        return np.zeros((3, 3))


class Infinite(Undifferentiated):
    def gradient(self, w):
        return np.full((3, 3), np.nan)


class Wrong(Undifferentiated):
    def hessian(self, w, z):
        return np.zeros((3, 2))


BAD = {
    "no network": (lambda: factor_hessian(LOSS, np.eye(3)), TypeError, "`network` must be a LinearNetwork"),
    "no loss": (lambda: factor_hessian(3, NET), TypeError, "`loss` must have shape, value"),
    "another shape": (
        lambda: factor_hessian(LOSS, lrf.LinearNetwork([np.eye(2)])), ValueError,
        r"`network` has shape \(2, 2\) but the loss is defined on \(3, 3\)",
    ),
    "exact is no flag": (lambda: factor_hessian(LOSS, NET, exact="yes"), TypeError, "`exact` must be True or False"),
    "no hessian": (
        lambda: factor_hessian(Undifferentiated(), NET, exact=True), ValueError,
        "`exact` must be None or False for a loss without `hessian`, got True for Undifferentiated",
    ),
    "a gradient that is not finite": (
        lambda: extreme_eigenvalues(Infinite(), NET), ValueError, r"`loss.gradient\(w\)` must be finite",
    ),
    "a hessian of another shape": (
        lambda: extreme_eigenvalues(Wrong(), NET), ValueError, r"`loss.hessian\(w, z\)` has shape \(3, 2\)",
    ),
    "a direction of another length": (
        lambda: split_directions(NET, np.ones(5)), ValueError, r"`x` must have shape \(18,\), got \(5,\)",
    ),
    "a budget that is too small": (
        lambda: extreme_eigenvalues(LOSS, NET, products=5), ValueError, "`products` must be at least 6, got 5",
    ),
    "nothing to look for": (
        lambda: extreme_eigenvalues(LOSS, NET, smallest=0, largest=0), ValueError, "must not both be 0",
    ),
    "a number below zero": (
        lambda: ritz_values(np.eye(3), smallest=-1), ValueError, "`smallest` must be at least 0, got -1",
    ),
    "no tolerance": (lambda: ritz_values(np.eye(3), tolerance=0), ValueError, "`tolerance` must be positive"),
    "no generator": (lambda: ritz_values(np.eye(3), rng="a"), TypeError, "`rng` must be None"),
    "no operator": (lambda: ritz_values("a"), TypeError, "`operator` must be a LinearOperator"),
    "not square": (lambda: ritz_values(np.ones((3, 2))), ValueError, r"`operator` must be square, got shape \(3, 2\)"),
    "complex": (lambda: ritz_values(1j * np.eye(3)), TypeError, "`operator` must be real"),
    "not symmetric": (lambda: ritz_values(SKEW), ValueError, "`operator` must be symmetric"),
    "products that are not finite": (
        lambda: ritz_values(np.full((3, 3), np.nan)), ValueError, "`operator` must be finite",
    ),
    "too large for the whole": (
        lambda: hessian_spectrum(LOSS, WIDE), ValueError,
        "`network` must have at most 3000 parameters for the whole spectrum, got 6000. Use extreme_eigenvalues.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line(case):
    call, kind, message = BAD[case]
    with pytest.raises(kind, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_jacobian_at_a_fit(rng):
    """Where the loss fits, the Hessian is J^T (I x C) J: its formula has no other term."""
    net = random_network(rng, 3)
    x = rng.standard_normal((net.shape[1], 9))
    loss = lrf.losses.LeastSquares(x, net.to_dense() @ x)
    jacobian = product_jacobian(net.factors)
    want = jacobian.T @ np.kron(np.eye(net.shape[0]), x @ x.T) @ jacobian
    got = dense(factor_hessian(loss, net))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e3 * EPS * majorant(net.factors, x, np.abs(net.to_dense()) @ np.abs(x)))
