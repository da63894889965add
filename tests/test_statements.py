"""Numbers and bounds that docs/theory.md states, against explicit matrices: numpy alone on one side of each.

Where the library states the same thing, as a metric or a claim, it is the other side.
"""

from itertools import combinations

import numpy as np
import pytest
from oracles import (
    EPS,
    balanced_factors,
    chain,
    imbalanced_factors,
    imbalances,
    jacobian,
    orthogonal,
    product_jacobian,
    product_rule_operator,
    sides,
)

import lowrankflow as lrf
from lowrankflow.losses import Completion, Huber, LeastSquares, Measured, Sensing, Squared, Sum, facts


def hessian(factors, c, g):
    """The Hessian in all factors of a loss with gradient g at the product, and second derivative Z -> Z C there.

    J^T (I x C) J, J the derivative of the product, plus <G, W_N .. E_j .. E_i .. W_1> for each i < j and its transpose.
    """
    blocks = product_jacobian(factors)
    h = blocks.T @ np.kron(np.eye(len(g)), c) @ blocks
    cuts = np.cumsum([0, *(f.size for f in factors)])
    for i, j in combinations(range(len(factors)), 2):
        left, right = sides(factors, j)[0], sides(factors, i)[1]
        middle = chain(factors[i + 1 : j]) if j > i + 1 else np.eye(len(factors[i]))
        mixed = np.einsum("bc,ad->abcd", middle, left.T @ g @ right.T).reshape(factors[j].size, factors[i].size)
        h[cuts[j] : cuts[j + 1], cuts[i] : cuts[i + 1]] += mixed
        h[cuts[i] : cuts[i + 1], cuts[j] : cuts[j + 1]] += mixed.T
    return h


class Regression:
    """||W X - Y||^2 / 2 by its own arithmetic: C = X X^T, Q = Y X^T C^(-1/2) and its critical points."""

    def __init__(self, x, y):
        self.x, self.y, self.c, self.yx = x, y, x @ x.T, y @ x.T
        self.eigenvalues, vectors = np.linalg.eigh(self.c)
        self.root = (vectors / np.sqrt(self.eigenvalues)) @ vectors.T
        self.u, self.sigma, self.vt = np.linalg.svd(self.yx @ self.root, full_matrices=False)

    def critical(self, pairs):
        """The W that has learned the pairs J: sum over J of sigma_i u_i v_i^T, times C^(-1/2)."""
        w = (self.u[:, pairs] * self.sigma[pairs]) @ self.vt[pairs] @ self.root
        return lrf.LowRankMatrix.from_dense(w, len(pairs))

    def gradient(self, w):
        return w @ self.c - self.yx


def regression(rng, m, n):
    """Inputs with a condition of about ten, noise as targets."""
    x = np.exp(rng.standard_normal((n, 1)) / 2) * rng.standard_normal((n, 2 * n))
    return Regression(x, rng.standard_normal((m, 2 * n)))


# ---------------------------------------------------------------------------------------------------------------------
# rates


def frame_rates(loss, w, depth):
    """The eigenvalues of the Jacobian in the singular frame."""
    system = lrf.SingularFrame().bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), w)
    h = 3e-3 * w.s.min() ** (1 / depth)
    return np.linalg.eigvals(jacobian(lambda y: system.velocity(0.0, y), system.y0, h))


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_rates_are_real_at_critical_points_and_complex_elsewhere(depth, rng):
    """In the singular frame; those that decay and grow alike. In the factors they are real everywhere: symmetric."""
    p = regression(rng, 4, 4)
    loss, complex_parts = LeastSquares(p.x, p.y), []
    for pairs in ([0, 1], [0, 2], [1, 3]):
        rates = frame_rates(loss, p.critical(pairs), depth)
        # zero is an eigenvalue of Jordan type for some gauge directions: roundoff of differences, 1e-10, by its root
        assert np.abs(rates.imag).max() < 1e-4 * np.abs(rates).max()
    for _ in range(20):
        w = lrf.random_point(4, 4, 2, rng=rng, singular_values=0.1 * rng.uniform(0.3, 1, 2))
        rates = frame_rates(loss, w, depth)
        complex_parts.append(np.abs(rates.imag).max() / np.abs(rates).max())
    assert max(complex_parts) > 0.1
    factors = balanced_factors(w, depth)
    system = lrf.Factors().bind(lrf.FactorFlow(loss), lrf.LinearNetwork(factors))
    found = jacobian(lambda y: system.velocity(0.0, y), system.y0, 1e-3)
    want = -hessian(factors, p.c, p.gradient(w.to_dense()))
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-8 * np.abs(want).max())


def step_of_rkc(stages, z):
    """R(z) for complex z, as the step of y' = z y: real parts and imaginary parts, one row a z; and how many stages."""
    times = []

    def f(t, y):
        times.append(t)
        return np.stack([z.real * y[:, 0] - z.imag * y[:, 1], z.imag * y[:, 0] + z.real * y[:, 1]], axis=1)

    # a radius that asks for so many stages: the interval of these is 2/3 (s^2 - 1) (1 - 4/195) long
    radius = 0.999 * 2 / 3 * (stages**2 - 1) * (1 - 4 / 195)
    method = lrf.steppers.RKC(bound=lambda t, y: radius, estimate=False)
    y = np.tile([1.0, 0.0], (z.size, 1))
    state = method.init(f, np.zeros(z.size), y)
    times.clear()
    new = method.step(f, np.zeros(z.size), y, np.ones(z.size), state)[0]
    return new[:, 0] + 1j * new[:, 1], len(times)


@pytest.mark.parametrize("stages", [5, 10, 40])
def test_rkc_is_stable_on_an_ellipse(stages):
    """|R| = 1 at most on that of half axis sqrt(w_0^2 - 1) / w_1, 0.18 s, about the interval; not on one twice as high."""
    basis = np.polynomial.chebyshev.Chebyshev.basis(stages)
    w0 = 1 + 2 / 13 / stages**2
    w1 = basis.deriv()(w0) / basis.deriv(2)(w0)
    height = np.sqrt(w0**2 - 1) / w1
    assert 0.17 < height / stages < 0.185
    assert 0.43 < height * np.sqrt(2 * w1 / w0) < 0.45 * 1.001  # |Im z| over sqrt |Re z| near zero
    angle = np.linspace(0, 2 * np.pi, 2001)
    for share, inside in ((1.0, True), (0.7, True), (2.0, False)):
        z = (w0 * np.cos(angle) - w0) / w1 + 1j * share * height * np.sin(angle)
        got, asked = step_of_rkc(stages, z)
        assert asked == stages  # one velocity at the end, and the first is known
        # w_1 here and there agree to s eps, which z, of the size of s^2, multiplies
        assert (np.abs(got).max() <= 1 + stages**3 * EPS) == inside
    damped = 1 + 1 / stages**2  # what a damping of one would do
    wider = basis.deriv()(damped) / basis.deriv(2)(damped)
    assert 2.2 < np.sqrt(damped**2 - 1) / wider / height < 2.4
    assert 1.03 < np.sqrt(w0 / w1 / (damped / wider)) < 1.06  # stages for the same interval


def test_the_first_stage_of_rkc_has_order_one():
    """y' = y: the arguments at the nodes c h of the velocities of a step, against e^(c h), in h and h / 2."""

    def errors(h):
        seen = []

        def f(t, y):
            seen.append((t, y[0]))
            return y

        method = lrf.steppers.RKC(bound=lambda t, y: 20.0 / h, estimate=False)
        state = method.init(f, 0.0, np.ones(1))
        seen.clear()
        method.step(f, 0.0, np.ones(1), h, state)
        return np.array([value - np.exp(t) for t, value in seen])

    orders = np.log2(np.abs(errors(0.1) / errors(0.05))) - 1  # of the method, one below that of the error of a stage
    assert orders.size == 6
    assert abs(orders[0] - 1) < 0.05
    np.testing.assert_allclose(orders[1:], 2, atol=0.1)


@pytest.mark.parametrize(
    ("sigma", "rank", "spread"), [((1, 0.8, 0.792), 2, 404), ((2, 1, 0.5), 1, 6), ((2, 1, 0.5), 3, 6.35)]
)
def test_the_spread_of_the_rates(sigma, rank, spread):
    """N = 3, whitened: N (s_1/s_r)^(2-2/N) / (1 - s_{r+1}/s_r), and (s_1/s_r)^(2-2/N) at square full rank."""
    s = np.array(sigma, dtype=float)
    w = lrf.LowRankMatrix.from_dense(np.diag(s * (np.arange(3) < rank)), rank)
    rates = np.linalg.eigvalsh(hessian(balanced_factors(w, 3), np.eye(3), w.to_dense() - np.diag(s)))
    positive = rates[rates > 1e-10]
    assert positive.size == rank * (6 - rank)  # the dimension of the manifold
    ratio = positive[-1] / positive[0]
    formula = (s[0] / s[rank - 1]) ** (4 / 3) * (1 if rank == 3 else 3 / (1 - s[rank] / s[rank - 1]))
    assert abs(ratio / formula - 1) < 1e-9 and abs(ratio / spread - 1) < 2e-3


def test_the_spread_of_the_rates_for_any_data(rng):
    """At most kappa(C) times that, s_i of W and sigma_i of Q; never below the least rate, s_r^(2-2/N) lambda_n mu."""
    for _ in range(40):
        m, n, depth = rng.integers(3, 6, 3)
        p, rank = regression(rng, m, n), int(rng.integers(1, min(m, n)))
        w = p.critical(range(rank))
        h = hessian(balanced_factors(w, depth), p.c, p.gradient(w.to_dense()))
        rates = np.linalg.eigvalsh(h)[-rank * (m + n - rank) :]
        assert rates[0] > 0
        mu = 1 - p.sigma[rank] / p.sigma[rank - 1]
        power = 2 - 2 / depth
        assert rates[0] >= (1 - 1e-9) * w.s[-1] ** power * p.eigenvalues[0] * mu
        bound = depth * p.eigenvalues[-1] / p.eigenvalues[0] * (w.s[0] / w.s[-1]) ** power / mu
        assert rates[-1] / rates[0] <= (1 + 1e-9) * bound


# ---------------------------------------------------------------------------------------------------------------------
# sharpness, and what G does at a minimiser


def test_sharpness_needs_alignment_in_both():
    """C = diag(1, 10), W = diag(5, 1), N = 2: max c_ik lambda_k = (5 + 1) 10 = 60, not 2 * 10 * 5 = 100."""
    w, inputs = lrf.LowRankMatrix.from_dense(np.diag([5.0, 1.0]), 2), np.diag([1.0, np.sqrt(10)])
    want = np.linalg.eigvalsh(hessian(balanced_factors(w, 2), inputs @ inputs, np.zeros((2, 2))))[-1]
    assert abs(want - 60) < 1e-12
    turned = lrf.LowRankMatrix.from_dense(np.diag([1.0, 5.0]), 2)  # the control: the top pair meets the top eigenvector
    for point, value in ((w, want), (turned, 100.0)):
        net = lrf.LinearNetwork.balanced(point, 2)
        assert abs(lrf.sharpness(LeastSquares(inputs, point.to_dense() @ inputs), net) / value - 1) < 1e-3


def test_the_gradient_at_a_minimiser_couples_the_outer_factors_alone(rng):
    """U^T G = 0, G V = 0, ||G||_2 <= sigma_{r+1} sqrt(lambda_1), and sharpness <= N lambda_1 s_1^(2-2/N)."""
    tight = []
    for _ in range(60):
        (m, n), depth = rng.integers(2, 6, 2), int(rng.integers(2, 6))
        p, rank = regression(rng, m, n), int(rng.integers(1, min(m, n)))
        w, top = p.critical(range(rank)), p.eigenvalues[-1]
        g = p.gradient(w.to_dense())
        size = np.linalg.norm(p.yx, 2)
        assert np.abs(w.u.T @ g).max() < 1e-12 * size and np.abs(g @ w.vt.T).max() < 1e-12 * size
        tight.append(np.linalg.norm(g, 2) / (p.sigma[rank] * np.sqrt(top)))
        factors = balanced_factors(w, depth)
        full, none = hessian(factors, p.c, g), hessian(factors, p.c, np.zeros_like(g))
        first, last = factors[0].size, factors[-1].size
        full[:first, -last:] = full[-last:, :first] = none[:first, -last:] = none[-last:, :first] = 0
        assert np.abs(full - none).max() < 1e-12 * np.abs(none).max()
        sharpness = np.linalg.eigvalsh(hessian(factors, p.c, g))[-1]
        assert sharpness <= (1 + 1e-12) * depth * top * w.s[0] ** (2 - 2 / depth)
    assert 0.9 < max(tight) <= 1 + 1e-12


@pytest.mark.parametrize("depth", [3, 4])
def test_deep_saddles_of_lower_rank_are_not_strict_at_the_leading_pairs_alone(depth):
    """Whitened, sigma = (1, 1/2), r = 1: J = {1} has no negative eigenvalue, J = {2} s_2^(1-2/N) (sigma_2 - sigma_1)."""
    target = np.diag([1.0, 0.5])
    for pair in (0, 1):
        w = lrf.LowRankMatrix.from_dense(target * (np.arange(2) == pair), 1)
        least = np.linalg.eigvalsh(hessian(balanced_factors(w, depth), np.eye(2), w.to_dense() - target))[0]
        want = 0.0 if pair == 0 else 0.5 ** (1 - 2 / depth) * (0.5 - 1)
        assert abs(least - want) < 1e-12
        assert depth != 3 or pair == 0 or abs(least + 0.397) < 5e-4


# ---------------------------------------------------------------------------------------------------------------------
# how low a loss can fall


class Shifted:
    """||W - T||^2 / 2 - c: at least -c, and it may say so."""

    shape, curvature = (2, 2), 1.0

    def __init__(self, target, shift, **said):
        self.target, self.shift = target, shift
        self.__dict__.update(said)

    def value(self, w):
        return 0.5 * float(np.sum((w.to_dense() - self.target) ** 2)) - self.shift

    def gradient(self, w):
        return w.to_dense() - self.target


def test_a_bound_on_the_stiffness_needs_to_know_how_low_the_loss_falls():
    """T = 3 I, L >= -8.9, at W_1 = W_2 = 0: rho = ||G||_2 = 3. A floor of zero would bound it by sqrt(2 L) = 0.447."""
    target, zero = 3 * np.eye(2), np.zeros((2, 2))
    rho = np.linalg.eigvalsh(hessian([zero, zero], np.eye(2), -target))[-1]
    assert abs(rho - 3) < 1e-15

    def bound(loss):
        system = lrf.Factors().bind(lrf.FactorFlow(loss), lrf.LinearNetwork([zero, zero]))
        return system.spectral_bound(system.y0)

    assert bound(Shifted(target, 8.9)) is None
    assert abs(bound(Shifted(target, 8.9, lower_bound=-8.9)) / np.sqrt(18) - 1) < 1e-12
    assert abs(bound(Shifted(target, 8.9, best_value=lambda rank: -8.9)) / np.sqrt(18) - 1) < 1e-12
    assert abs(bound(Shifted(target, 8.9, lower_bound=0)) - 0.447) < 1e-3  # control: a loss that says what is not true
    assert bound(Shifted(target, 9.1, lower_bound=0)) is None  # and the value shows it
    frame = lrf.SingularFrame()
    for loss, known in ((Shifted(target, 8.9), False), (Shifted(target, 8.9, lower_bound=-8.9), True)):
        system = frame.bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), lrf.random_point(2, 2, 1, rng=0))
        assert (system.spectral_bound(system.y0) is not None) is known


def test_which_losses_state_a_lower_bound():
    seen = Completion([0, 1], [1, 0], [2.0, 3.0], shape=(2, 2))
    mean = Measured(Sensing(np.eye(4).reshape(4, 2, 2)), Squared(np.ones(4)), reduction="mean")
    low = Shifted(np.eye(2), 2.0, lower_bound=-2)
    assert [facts(loss).lower_bound for loss in (seen, mean, low)] == [0.0, 0.0, -2.0]
    assert facts(Sum(seen, low, weights=[1.0, 3.0])).lower_bound == -6.0
    assert facts(Sum(seen, Shifted(np.eye(2), 2.0))).lower_bound is None
    assert facts(Measured(Sensing(np.eye(4).reshape(4, 2, 2)), lambda z: (z**2).sum())).lower_bound is None
    with pytest.raises(ValueError, match=r"`loss\.lower_bound` must be a finite number, got -inf"):
        facts(Shifted(np.eye(2), 2.0, lower_bound=-np.inf))


# ---------------------------------------------------------------------------------------------------------------------
# singular values that coincide; balanced factors of wide layers


def test_singular_values_that_coincide_move_by_the_symmetric_block(rng):
    """Sorted, one-sided, for a Huber loss: -N s^(2-2/N) times the eigenvalues of sym(U_b^T G V_b), a group of three."""
    depth, s = 3, np.array([1.5, 1.5, 1.5, 0.4])
    w = lrf.LowRankMatrix(orthogonal(5, rng)[:, :4], s, orthogonal(6, rng)[:, :4].T)
    loss = Measured(Sensing(np.eye(30).reshape(30, 5, 6)), Huber(rng.standard_normal(30), delta=0.3))
    g = loss.gradient(w) @ np.eye(6)
    velocity = -product_rule_operator(balanced_factors(w, depth), g)
    block = w.u[:, :3].T @ g @ w.vt[:3].T
    want = np.sort(-depth * 1.5 ** (2 - 2 / depth) * np.linalg.eigvalsh((block + block.T) / 2))[::-1]
    for h in (1e-4, 1e-5):
        got = (np.linalg.svd(w.to_dense() + h * velocity)[1][:3] - 1.5) / h
        assert np.abs(got - want).max() < 100 * h  # the next term, |velocity|^2 over a gap of about one
    assert np.abs(want).max() <= depth * 1.5 ** (2 - 2 / depth) * np.linalg.norm(g, 2)
    naive = np.sort(-depth * 1.5 ** (2 - 2 / depth) * np.diag(block))[::-1]
    assert np.abs(naive - want).max() > 1e-2  # control: the diagonal in any one frame


@pytest.mark.parametrize(("m", "n", "width", "rank"), [(2, 2, 3, 1), (4, 3, 5, 2), (4, 3, 2, 2), (2, 3, 4, 2)])
def test_conserved_to_first_order_is_more_than_balanced(m, n, width, rank, rng):
    """The kernel of the derivative of D exceeds the tangent space by the dormant modes, (d - r)(m + n - 2r) of them.

    The tangent space is spanned by the derivatives of W_1 = O l V^T, W_2 = U l O^T. The gradient of -<Z, .> lies in it.
    """
    w = lrf.random_point(m, n, rank, rng=rng)
    hidden, root = orthogonal(width, rng)[:, :rank], np.sqrt(w.s)
    factors = [(hidden * root) @ w.vt, (w.u * root) @ hidden.T]
    sizes = [f.size for f in factors]

    def of_frames(y):
        """Both factors, as a function of frames that are made orthonormal by polar factors, and roots."""
        parts = np.split(y, np.cumsum([m * rank, n * rank, width * rank]))
        u, v, o = (
            left @ right
            for part, rows in zip(parts[:3], (m, n, width), strict=True)
            for left, _, right in [np.linalg.svd(part.reshape(rows, rank), full_matrices=False)]
        )
        return np.concatenate([((o * parts[3]) @ v.T).ravel(), ((u * parts[3]) @ o.T).ravel()])

    start = np.concatenate([w.u.ravel(), w.vt.T.ravel(), hidden.ravel(), root])
    tangent = jacobian(of_frames, start, 1e-3)

    def defect(y):
        parts = [part.reshape(f.shape) for part, f in zip(np.split(y, sizes[:1]), factors, strict=True)]
        return imbalances(parts)[0].ravel()

    at = np.concatenate([f.ravel() for f in factors])
    conserved = jacobian(defect, at, 1e-3)  # quadratic: exact
    kernel = at.size - np.linalg.matrix_rank(conserved, tol=1e-8)
    dimension = np.linalg.matrix_rank(tangent, tol=1e-6)
    assert dimension == rank * (m + n - rank) + width * rank - rank * (rank + 1) // 2
    assert kernel - dimension == (width - rank) * (m + n - 2 * rank)
    z = rng.standard_normal((m, n))
    pulled = np.concatenate([(factors[1].T @ z).ravel(), (z @ factors[0].T).ravel()])
    rest = pulled - tangent @ np.linalg.lstsq(tangent, pulled, rcond=1e-8)[0]
    assert np.linalg.norm(rest) < 1e-8 * np.linalg.norm(pulled)


# ---------------------------------------------------------------------------------------------------------------------
# imbalances that are multiples of the identity


def test_the_order_of_the_imbalances_matters(rng):
    """(1, -1) has kappa = (0, 1, 0), (-1, 1) has (1, 0, 1): c_11 = 7.81 against 8.00 at s = 2, and another fate of the rank."""
    w = lrf.LowRankMatrix.from_dense(np.diag([2.0, 0.7]), 2)
    e = np.diag([1.0, 0.0])
    found = {}
    for gaps in ((1.0, -1.0), (-1.0, 1.0)):
        want = product_rule_operator(imbalanced_factors(w, gaps, rng), e)[0, 0]
        metric = lrf.metrics.KappaBalancedMetric(gaps)
        assert abs(metric.coefficients(w.s).core[0, 0] - want) < 1e-12
        found[gaps] = (round(float(want), 2), metric.preserves_rank)
    assert found == {(1.0, -1.0): (7.81, True), (-1.0, 1.0): (8.0, False)}
    # the order of the kappa_l is immaterial: (0, 1, 0) by (1, -1), (0, 0, 1) by (0, 1)
    a, b = (lrf.metrics.KappaBalancedMetric(gaps).coefficients(w.s) for gaps in ((1.0, -1.0), (0.0, 1.0)))
    np.testing.assert_allclose(a.core, b.core, rtol=1e-14)


@pytest.mark.parametrize(("hidden", "gap"), [("rows", 1e6), ("columns", -1e6), ("rank", 1e6), ("rank", -1e6)])
def test_the_lazy_limit(hidden, gap, rng):
    """A_W / |lambda| tends to the identity where the width is m or n, to one projection where it is the rank."""
    w, z = lrf.random_point(4, 3, 2, rng=rng), rng.standard_normal((4, 3))
    k = w.rank
    # W_2 W_2^T and W_1^T W_1 by hand: P_i R_i = s_i^2, P_i - R_i = lambda
    large = (np.sqrt(gap**2 + 4 * w.s**2) + abs(gap)) / 2
    p, r = (large, w.s**2 / large) if gap > 0 else (w.s**2 / large, large)
    left = (w.u * p) @ w.u.T + (gap * (np.eye(4) - w.u @ w.u.T) if hidden == "rows" else 0)
    right = (w.vt.T * r) @ w.vt - (gap * (np.eye(3) - w.vt.T @ w.vt) if hidden == "columns" else 0)
    got = (left @ z + z @ right) / abs(gap)
    onto = w.u @ w.u.T @ z if gap > 0 else z @ w.vt.T @ w.vt
    want = onto if hidden == "rank" else z
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    tangent = w.u @ w.u.T @ z + z @ w.vt.T @ w.vt - w.u @ w.u.T @ z @ w.vt.T @ w.vt
    assert np.linalg.norm(tangent - want) > 0.1  # control: not P_T
    c = lrf.metrics.LambdaBalancedMetric(gap, hidden).coefficients(w.s)
    # the metric is that on the matrices of fixed rank: of the operator, what is tangent
    blocks = lrf.project(w, z)
    ours = c.apply(blocks).at(w).to_dense() / abs(gap)
    np.testing.assert_allclose(ours, got - (z - tangent) * (hidden != "rank"), rtol=0, atol=1e-5)
    assert k == 2


# ---------------------------------------------------------------------------------------------------------------------
# distances


@pytest.mark.parametrize("rank", [1, 2])
def test_orthogonal_ranges_have_a_distance_and_no_logarithm(rank, rng):
    """tr A + tr B under the square root: sqrt(2) for two of rank and trace one, twice that at depth 2; no unique way."""
    frame = orthogonal(6, rng)
    a, b = (
        lrf.LowRankMatrix(u, s, u.T)
        for u, s in zip((frame[:, :rank], frame[:, rank : 2 * rank]), ([1.0, 0.5], [1.0, 0.3]), strict=True)
        for s in [np.array(s[:rank])]
    )
    manifold = lrf.pymanopt_manifold.PositiveSemidefinite(6, rank)
    want = np.sqrt(a.s.sum() + b.s.sum())
    assert abs(manifold.dist(a, b) - want) < 1e-14
    assert rank == 2 or abs(want - np.sqrt(2)) < 1e-15
    assert abs(lrf.geometry.distance(a, b, lrf.DepthMetric(2)) - np.sqrt(2) * want) < 1e-14
    with pytest.raises(ValueError, match="the geodesic is not unique"):
        manifold.log(a, b)
    # straight in Y, by any rotation: of that length, and of full rank all the way
    ya, yb = a.u * np.sqrt(a.s), (b.u * np.sqrt(b.s)) @ orthogonal(rank, rng)
    assert abs(np.linalg.norm(yb - ya) - want) < 1e-14
    assert min(np.linalg.svd((1 - t) * ya + t * yb)[1][-1] for t in np.linspace(0, 1, 11)) > 0.2
