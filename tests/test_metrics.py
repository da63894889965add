"""The spectral coefficients against 50 digits, the metric against its integrals, limits in the depth."""

import itertools

import mpmath
import numpy as np
import pytest
from cases import ALL_METRICS, METRICS, MIXED_METRICS, TAME_STARTS, Start
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    EPS,
    coefficient,
    coefficient_naive,
    difference,
    exact_depth,
    exact_kappa,
    infinite_depth_operator,
    kappa_roots,
    logarithmic_mean,
    metric_by_exponentials,
    metric_by_resolvents,
    metric_by_spectral_quadrature,
)

import lowrankflow as lrf
from lowrankflow.metrics import Coefficients, generic_root_coefficients, root_coefficients
from lowrankflow.metrics.sums import second_difference_of_power

DEPTHS = [1.5, 2, 2.7, 3, 5, 10, 50, 1000]
GAPS = [0.0, *(10.0**-k for k in range(1, 16)), 1.0]
#: moderate values, because rounding the exponent 2 - 2/N costs eps |ln a|
SCALES = np.array([0.3, 1.0, 1.7])


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_depth_coefficients_have_all_their_digits(depth, gap):
    """Claim 5: at most a power, two expm1 and a few products, each within a few eps: 5e-15 = 22 eps."""
    s = np.concatenate([SCALES, SCALES[: 3 if gap < 1 else 1] * (1 - gap)])
    got = lrf.DepthMetric(depth).coefficients(s)
    want = [[coefficient(x, y, depth) for y in s[:3]] for x in s]
    np.testing.assert_allclose(got.core[:, :3], want, rtol=5e-15, atol=0)
    outer = [coefficient(x, 0.0, depth) for x in s[:3]]
    np.testing.assert_allclose(got.up[:3], outer, rtol=5e-15, atol=0)
    np.testing.assert_allclose(got.vp[:3], outer, rtol=5e-15, atol=0)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("gap", [0.0, 1e-13, 1e-15])
def test_divided_difference_fails(depth, gap):
    """Control of the test above: nan, or all digits lost, where the values are close."""
    errors = [coefficient_naive(a, a * (1 - gap), depth) / coefficient(a, a * (1 - gap), depth) - 1 for a in SCALES]
    assert not np.abs(errors).max() < 1e-5


@pytest.mark.parametrize("depth", [1.5, 2, 3, 5, 1000])
@pytest.mark.parametrize("small", [1e-9, 1e-100, 0.0])
def test_depth_coefficients_at_tiny_singular_values(depth, small):
    s = np.array([0.8, small])
    got = lrf.DepthMetric(depth).coefficients(s)
    # a rounded exponent changes s^p by eps |ln s| p: 230 x 2 eps at 1e-100
    rtol = 10 * EPS * max(10.0, abs(np.log(small)) if small else 0.0)
    if small:
        np.testing.assert_allclose(got.core, [[coefficient(x, y, depth) for y in s] for x in s], rtol=rtol, atol=0)
    else:  # 0^0 = 1 off the diagonal, and 0 on it
        np.testing.assert_allclose(got.core[0, 1], coefficient(0.8, 0.0, depth), rtol=rtol)
        np.testing.assert_array_equal([got.core[0, 1], got.core[1, 1], got.up[1]], [got.core[1, 0], 0.0, 0.0])


@pytest.mark.parametrize("depth", [1.5, 2, 2.7, 3, 5, 20])
def test_root_coefficients(depth):
    """At s = l^N: (s_i + s_k)/(l_i + l_k) on the symmetric part, (s_i - s_k)/(l_i - l_k) on the skew part."""
    l = np.array([1.3, 1.3, 0.9, 0.9 * (1 - 1e-13), 1e-3])  # noqa: E741
    got, block = root_coefficients(lrf.DepthMetric(depth), l, depth)
    assert block is None  # they contain A already
    with mpmath.workdps(50):
        x, n = [mpmath.mpf(float(v)) for v in l], mpmath.mpf(depth)
        sym = [[float((a**n + b**n) / (a + b)) for b in x] for a in x]
        skew = [[float(n * a ** (n - 1) if a == b else (a**n - b**n) / (a - b)) for b in x] for a in x]
        rate = [float(a ** (n - 2)) for a in x]
    # l^N by a power whose argument is exact: N ln(l) is rounded to eps relative, 20 x 7 eps at l = 1e-3
    rtol = 10 * EPS * (1 + depth * abs(np.log(1e-3)))
    np.testing.assert_allclose(got.sym, sym, rtol=rtol)
    np.testing.assert_allclose(got.skew, skew, rtol=rtol)
    np.testing.assert_allclose(got.left, rate, rtol=rtol)
    np.testing.assert_allclose(got.right, rate, rtol=rtol)


@pytest.mark.parametrize("depth", [1.5, 2, 3, 5])
def test_special_root_coefficients_agree_with_the_generic_ones(depth):
    """Two roads: A(G) first and the derivative of the root after, or both in one."""
    l = np.array([1.3, 1.3, 0.9, 0.4])  # noqa: E741
    special, _ = root_coefficients(lrf.DepthMetric(depth), l, depth)
    generic = generic_root_coefficients(lrf.DepthMetric(depth), l, depth)
    core = lrf.DepthMetric(depth).coefficients(l**depth).core
    np.testing.assert_allclose(generic.sym * core, special.sym, rtol=200 * EPS)
    np.testing.assert_allclose(generic.skew * core, special.skew, rtol=200 * EPS)
    np.testing.assert_allclose(generic.left, special.left, rtol=200 * EPS)


# ---------------------------------------------------------------------------------------------------------------------
# divided differences of the coefficients


def differences_by_definition(exact, s):
    """(c_ik - c_jk) / (s_i^2 - s_j^2) with 120 digits, the last index for s = 0."""
    values = [*s, 0.0]
    return np.array([[[difference(exact, a, b, k) for k in values] for b in values] for a in values])


def check_differences(metric, exact, s, eps):
    """Against the definition, relative to the largest of the entries with the same frames; control: the naive quotient."""
    with mpmath.workdps(120):
        want = differences_by_definition(exact() if callable(exact) else exact, s)
    got = metric.differences(s)
    got[-1, -1] = 0.0  # both normal: it multiplies nothing
    np.testing.assert_allclose(got, want, rtol=eps * EPS, atol=0)


SPREADS = [0.0, *(10.0**-k for k in range(1, 16, 2)), 0.25, 0.6]


@pytest.mark.parametrize("gap", SPREADS)
@pytest.mark.parametrize("depth", [1.5, 2, 2.7, 3, 5, 20.5, 64, 300])
def test_differences_of_the_depth_coefficients(depth, gap):
    """Ties, values close to each other, and s = 0: within 100 eps of f[x, x] / x, which the second difference is N/2 of.

    For 1 < N < 2 it is (N - 1) / 2 of it at ties, hence 4 times as much there.
    """
    s = np.array([1.0, 1.0 - gap, 0.4])
    check_differences(lrf.DepthMetric(depth), lambda: exact_depth(depth), s, 100 * max(1.0, 2 / (depth - 1)))


@pytest.mark.parametrize("gap", SPREADS)
def test_differences_of_the_logarithmic_mean(gap):
    """Infinite depth: c = 0 where one of the two vanishes."""

    def exact(a, b):
        return (a**2 - b**2) / (2 * mpmath.log(a / b)) if a * b else mpmath.mpf(0)

    s = np.array([1.3, 1.3 * (1 - gap), 0.4])
    want, got = differences_by_definition(exact, s), lrf.DepthMetric(np.inf).differences(s)
    np.testing.assert_allclose(got, want, rtol=100 * EPS, atol=0)


@pytest.mark.parametrize("gap", SPREADS[::2])
@pytest.mark.parametrize("imbalances", [(0.5,), (0.5, -0.5), (0.3, -0.7, 0.2), (1e-8,), (100.0, -3.0)], ids=str)
def test_differences_of_the_imbalanced_coefficients(imbalances, gap):
    """All terms are positive: the roundoff of the roots, some 10 eps, in N factors."""
    metric = lrf.metrics.KappaBalancedMetric(imbalances)
    check_differences(metric, lambda: exact_kappa(metric.shifts), np.array([1.3, 1.3 * (1 - gap), 0.4]), 100)


@pytest.mark.parametrize(
    ("metric", "exact"),
    [
        pytest.param(lrf.EmbeddedMetric(), lambda a, b: mpmath.mpf(1), id="embedded"),
        pytest.param(lrf.metrics.ScaledGDMetric(), lambda a, b: mpmath.mpf(2 if a * b else 1), id="scaledgd"),
        pytest.param(lrf.metrics.TwoFactorMetric(), lambda a, b: a**2 + b**2, id="twofactors"),
        pytest.param(lrf.metrics.BuresWassersteinMetric(), lambda a, b: 2 * (a + b), id="bureswasserstein"),
    ],
)
@pytest.mark.parametrize("s", [(1.2, 0.7, 0.3), (1.0, 1.0, 0.5), (0.8, 0.8 * (1 - 1e-12), 3e-9), (0.7,)])
def test_differences_of_the_other_coefficients(metric, exact, s):
    want, got = differences_by_definition(exact, s), metric.differences(np.array(s))
    got[-1, -1] = 0.0
    np.testing.assert_allclose(got, want, rtol=10 * EPS, atol=1e-22 / min(s) ** 2)  # ties are parted by 1e-25


@pytest.mark.parametrize("s", [(1.2, 0.7, 0.3), (1.0, 1.0, 0.5), (0.8, 0.8 * (1 - 1e-12), 3e-9), (0.7,), (3e8, 1e-8)])
def test_differences_of_a_mix(s):
    """R3MC: mix / (s_i s_k) = -2 / (s_i^2 + s_k^2), from its coefficients too."""
    metric, s = lrf.metrics.R3MCMetric(), np.array(s)
    exact = lambda a, b: -2 / (a**2 + b**2) if a * b else mpmath.mpf(0)  # noqa: E731
    with mpmath.workdps(120):
        want = differences_by_definition(exact, s)[:-1, :-1, :-1]
    np.testing.assert_allclose(metric.mix_differences(s), want, rtol=10 * EPS, atol=0)
    own = metric.coefficients(s).mix / (s[:, None] * s)
    np.testing.assert_allclose(own, -2 / (s[:, None] ** 2 + s**2), rtol=10 * EPS, atol=0)


@pytest.mark.parametrize("depth", [2.7, 3, 20])
def test_naive_differences_fail(depth):
    """Control of the three tests above: the quotient of differences loses its digits where the values are close."""
    s = np.array([1.0, 1.0 - 1e-9, 0.4])
    c = lrf.DepthMetric(depth).coefficients(s).core
    naive = (c[0, 2] - c[1, 2]) / (s[0] ** 2 - s[1] ** 2)
    assert abs(naive / lrf.DepthMetric(depth).differences(s)[0, 1, 2] - 1) > 1e-9
    twice = (c[0, 0] - c[1, 0]) / (s[0] ** 2 - s[1] ** 2)
    assert abs(twice / lrf.DepthMetric(depth).differences(s)[0, 1, 0] - 1) > 1e-9


@pytest.mark.parametrize("power", [1.1, 1.5, 2, 2.5, 3, 7.3, 40, 64, 64.5, 400])
def test_second_difference_of_a_power(power):
    """f[x, y, z] of x^N over three orders of magnitude, with ties, as exact as it says; the naive form above is not."""
    x = np.array([1.7, 1.7, 1.7 * (1 - 1e-13), 1.6999, 1.5, 0.9, 0.2, 1e-3, 0.0])
    got = second_difference_of_power(x, power)
    with mpmath.workdps(120):
        n, apart = mpmath.mpf(power), [mpmath.mpf(float(v)) + mpmath.mpf(10) ** -30 * i for i, v in enumerate(x)]
        for i, j, k in itertools.combinations_with_replacement(range(x.size - 1), 3):
            a, b, c = apart[i], apart[j] + mpmath.mpf(10) ** -32, apart[k] + mpmath.mpf(10) ** -32 * 2
            want = float(((a**n - b**n) / (a - b) - (b**n - c**n) / (b - c)) / (a - c))
            for value in (got[i, j, k], got[k, i, j], got[j, k, i]):
                assert abs(value - want) <= 100 * EPS * power / (power - 1) * want
        for i, k in itertools.combinations_with_replacement(range(x.size - 1), 2):  # one zero: f[x_i, x_k] of x^(N - 1)
            a, b = apart[i], apart[k] + mpmath.mpf(10) ** -32
            want = float((a ** (n - 1) - b ** (n - 1)) / (a - b))
            assert abs(got[i, k, -1] - want) <= 100 * EPS * power / (power - 1) * want


# ---------------------------------------------------------------------------------------------------------------------
# roots of p


@pytest.mark.parametrize(
    "imbalances", [(1e-8,), (0.5,), (1e3,), (-0.3,), (0.5, -0.5), (1e-8, 1e3), (0.0, 0.0, 2.0)], ids=str
)
def test_roots_of_p(imbalances):
    """Newton on ln p(e^y) = 2 ln s: the roundoff of the logarithms, each at most 55, over a slope of at least 1."""
    metric = lrf.metrics.KappaBalancedMetric(imbalances)
    s = np.array([1e3, 1.0, 0.6, 1e-3, 1e-6, 1e-9, 1e-12])
    logs = 2 * np.abs(np.log(s)) + np.abs(np.log(np.maximum(metric.shifts, 1e-12)))[:, None].sum(axis=0) + 5
    want = [float(v) for v in kappa_roots(s, metric.shifts)]
    assert (np.abs(metric.roots(s) / want - 1) < 4 * EPS * logs).all()
    assert (np.abs(metric.roots(1.001 * s) / want - 1) > 1e-4).all()  # control
    np.testing.assert_array_equal(metric.roots(np.array([0.0])), [0.0])
    # s^2, and the root, underflow at 1e-170: the coefficients are those of s = 0
    for got, want in zip(*(vars(metric.coefficients(np.array([0.7, v]))).values() for v in (1e-170, 0.0)), strict=True):
        np.testing.assert_allclose(*((0.0, 0.0) if got is None else (got, want)), rtol=1e-15, atol=1e-80)


def test_roots_of_p_do_not_depend_on_their_neighbours():
    """Newton's method ends at roundoff for all values, also where its last steps alternate in sign."""
    metric, s = lrf.metrics.KappaBalancedMetric((1e-8, 0.5)), np.geomspace(1e3, 1e-12, 40)
    alone = [metric.roots(np.array([v])).item() for v in s]
    np.testing.assert_allclose(metric.roots(s), alone, rtol=500 * EPS)


# ---------------------------------------------------------------------------------------------------------------------
# limits


@pytest.mark.parametrize("gap", GAPS[:-1])
def test_infinite_depth_is_the_logarithmic_mean(gap):
    s = np.array([0.7, 0.7 * (1 - gap)])
    got = lrf.DepthMetric(np.inf).coefficients(s)
    # squaring in float64 changes a_i - a_k relatively to the values, not to the difference: the mean keeps its digits
    np.testing.assert_allclose(got.core, [[logarithmic_mean(x, y) for y in s * s] for x in s * s], rtol=5e-15)
    np.testing.assert_array_equal(got.up, 0)
    np.testing.assert_array_equal(got.vp, 0)


def test_naive_logarithmic_mean_fails():
    """Control of the test above."""
    a, b = 0.7**2, (0.7 * (1 - 1e-13)) ** 2
    assert abs((a - b) / (np.log(a) - np.log(b)) / logarithmic_mean(a, b) - 1) > 1e-6


def test_operator_approaches_infinite_depth_like_one_over_depth(rng):
    """Claim 6: a ratio of 10 between N = 100 and 1000, up to the next term of order 1/N: within [9, 11]."""
    w = Start(4, 4, (1.5, 1.0, 0.8, 0.4)).draw(rng)
    z = rng.standard_normal((4, 4))
    limit = infinite_depth_operator(w.to_dense(), z)

    def gap(depth, scale):
        a = lrf.riemannian_gradient(w, z, lrf.DepthMetric(depth)).at(w).to_dense()
        return np.linalg.norm(a / scale - limit) / np.linalg.norm(limit)

    assert 9 < gap(100, 100) / gap(1000, 1000) < 11
    # sums of 4 x 4 terms; fractional powers of W W^T with condition 14
    assert gap(np.inf, 1) < 1000 * EPS
    assert gap(1000, 999) > 2e-4  # control: another clock is seen


@pytest.mark.parametrize(("a", "b"), [(2.0, 0.5), (0.9, 0.2), (1.5, 1.4)])
def test_first_correction_in_the_depth(a, b):
    """lam / N = logmean (1 - (ln a + ln b)/(2N) + O(1/N^2)), a and b the squares: to 1 % at N = 1000."""
    mean = logarithmic_mean(a * a, b * b)
    ratio = lrf.DepthMetric(1000).coefficients(np.array([a, b])).core[0, 1] / 1000 / mean
    correction = 1000 * (ratio - 1)
    expected = -(np.log(a * a) + np.log(b * b)) / 2
    # (2, .5) has none at first order; there the second order (ln 16)^2 / 12 / 1000 remains
    assert abs(correction - expected) < 0.01 * max(abs(expected), 1)


def test_embedded_metric_is_the_limit_of_depth_one():
    s = np.array([1.3, 0.7, 0.2])
    near, embedded = lrf.DepthMetric(1 + 1e-9).coefficients(s), lrf.EmbeddedMetric().coefficients(s)
    for name in ("core", "up", "vp"):
        # d/dN of s^(2-2/N) at 1 is 2 ln s: at most 4e-9
        np.testing.assert_allclose(getattr(near, name), getattr(embedded, name), rtol=1e-8)


# ---------------------------------------------------------------------------------------------------------------------
# the metric as an integral


def pair(w, rng):
    """Two tangent vectors, as coordinates and as matrices; their normal part is roundoff."""
    z = [lrf.project(w, rng.standard_normal(w.shape)) for _ in range(2)]
    return *z, *(x.at(w).to_dense() for x in z)


@pytest.mark.parametrize("depth", [1.5, 2, 2.7, 3, 4, 5, 8])
@pytest.mark.parametrize("case", TAME_STARTS)
def test_metric_is_the_spectral_integral(depth, case, rng):
    """Claim 4: roundoff of some 10^3 summed nodes times the condition (s_1/s_r)^2 <= 20 of the metric."""
    w = case.draw(rng)
    z1, z2, a, b = pair(w, rng)
    got = lrf.gradients.inner_product(w, z1, z2, lrf.DepthMetric(depth))
    scale = np.sqrt(metric_by_spectral_quadrature(w, a, a, depth) * metric_by_spectral_quadrature(w, b, b, depth))
    assert abs(got - metric_by_spectral_quadrature(w, a, b, depth)) < 1e-10 * scale
    # control: another depth
    assert abs(lrf.gradients.inner_product(w, z1, z2, lrf.DepthMetric(depth + 0.01)) - got) > 1e-7 * scale


@pytest.mark.parametrize("depth", [1.5, 2, 3, 8])
def test_metric_is_the_resolvent_integral(depth, rng):
    """The same by linear solves with the dense W, of full rank and condition 4."""
    w = Start(4, 4, (1.5, 1.0, 0.8, 0.4)).draw(rng)
    z1, z2, a, b = pair(w, rng)
    got, want = lrf.gradients.inner_product(w, z1, z2, lrf.DepthMetric(depth)), metric_by_resolvents(w, a, b, depth)
    assert abs(got - want) < 1e-10 * np.sqrt(
        metric_by_resolvents(w, a, a, depth) * metric_by_resolvents(w, b, b, depth)
    )


@pytest.mark.parametrize("case", [Start(4, 7, (1.0, 0.6, 0.3)), Start(3, 3, (1.0, 1.0, 0.5)), Start(5, 3, (0.7,))])
def test_depth_two_metric_is_the_exponential_integral(case, rng):
    w = case.draw(rng)
    z1, z2, a, b = pair(w, rng)
    got = lrf.gradients.inner_product(w, z1, z2, lrf.DepthMetric(2))
    scale = np.sqrt(metric_by_exponentials(w, a, a) * metric_by_exponentials(w, b, b))
    # the exponentials are exact to eps times their argument, 45 where they matter; 10^3 nodes
    assert abs(got - metric_by_exponentials(w, a, b)) < 1e-10 * scale


# ---------------------------------------------------------------------------------------------------------------------
# the algebra of coefficients


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", TAME_STARTS)
def test_solve_inverts_apply(metric, case, rng):
    w = case.draw(rng)
    z = lrf.project(w, rng.standard_normal(w.shape))
    c = metric.coefficients(w.s)
    # the condition of A: at most (s_1/s_r)^2 N = 11 x 20, times a pair block's
    for back in (c.solve(c.apply(z)), c.apply(c.solve(z))):
        assert (back - z).norm() < 2000 * EPS * z.norm()


@pytest.mark.parametrize("metric", MIXED_METRICS)
def test_solve_without_mix_is_not_the_inverse(metric, rng):
    """Control: the transposed entry matters."""
    w = Start(5, 6, (1.2, 0.7, 0.4)).draw(rng)
    z = lrf.project(w, rng.standard_normal(w.shape))
    c = metric.coefficients(w.s)
    assert (Coefficients(c.core, c.up, c.vp).solve(c.apply(z)) - z).norm() > 0.05 * z.norm()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", TAME_STARTS)
def test_root_of_the_operator(metric, case, rng):
    """A^(1/2) twice is A, and |A^(-1/2) Z|^2 = g(Z, Z)."""
    w = case.draw(rng)
    z = lrf.project(w, rng.standard_normal(w.shape))
    c = metric.coefficients(w.s)
    root = c.root()
    largest = max(1.0, c.largest(w.shape))
    assert (root.apply(root.apply(z)) - c.apply(z)).norm() < 100 * EPS * largest * z.norm()
    # the condition of A, at most 300
    np.testing.assert_allclose(root.solve(z).norm(), lrf.gradients.tangent_norm(w, z, metric), rtol=300 * 20 * EPS)
    assert (root.apply(z) - c.apply(z)).norm() > 1e-3 or metric in (lrf.EmbeddedMetric(), lrf.metrics.R3MCMetric())  # control


def test_spectrum_of_a_positive_mix():
    """The diagonal is core + mix of either sign, and a square frame has no complement to count."""
    c = Coefficients(np.array([[2.0, 3.0], [5.0, 2.0]]), np.full(2, 90.0), np.full(2, 0.1), np.ones((2, 2)))
    pair = np.linalg.eigvalsh([[3.0, 1.0], [1.0, 5.0]])
    np.testing.assert_allclose(c.spectrum((2, 3)), np.sort([3.0, 3.0, *pair, 0.1, 0.1])[::-1], rtol=10 * EPS)
    np.testing.assert_allclose(c.largest((2, 3)), pair[1], rtol=10 * EPS)
    assert c.largest((3, 3)) == 90.0


@pytest.mark.parametrize("s", [(1.0, 1.0), (1.0, 0.6), (0.6, 1.0), (1.0, 1.0 - 1e-12)], ids=["equal", "apart", "turned", "close"])
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e5, 1e7])
def test_vectors_of_unit_length_under_a_stiff_metric(scale, s, rng):
    """Their entries are of size s where lengths are of size one: the inner product keeps what digits that leaves, eps s."""
    s = scale * np.array(s)
    c = lrf.metrics.MNMetric().coefficients(s)
    root = c.root()
    pairs = [[root.core_block(rng.standard_normal((2, 2))) for _ in range(2)] for _ in range(10)]

    def exact(x, y):
        """With 50 digits, from the pair block of the metric [1 + s_k^2 / 2, -s_i s_k / 2; ., 1 + s_i^2 / 2]."""
        with mpmath.workdps(50):
            a, b = (mpmath.mpf(float(v)) for v in s)
            (p, q), (u, v) = ([mpmath.mpf(float(z[i])) for i in ((0, 1), (1, 0))] for z in (x, y))
            determinant = 1 + (a**2 + b**2) / 2
            first, second = (1 + a**2 / 2) * p + a * b / 2 * q, (1 + b**2 / 2) * q + a * b / 2 * p
            diagonal = sum(mpmath.mpf(float(x[i, i])) * mpmath.mpf(float(y[i, i])) for i in (0, 1))
            return float((first * u + second * v) / determinant + diagonal)

    def cramer(x):
        found = (c.core.T * x - c.mix * x.T) / c.determinant
        np.fill_diagonal(found, np.diag(x))
        return found

    def worst(product):
        return max(abs(product(x, y) - exact(x, y)) / np.sqrt(exact(x, x) * exact(y, y)) for x, y in pairs)

    close = 20 * EPS * scale
    assert worst(lambda x, y: np.vdot(c.solve_core(x), y)) < close
    assert worst(lambda x, y: np.vdot(root.solve_core(x), root.solve_core(y))) < close
    if scale > 1e4:  # control: divided by the determinant after the entries have cancelled
        assert worst(lambda x, y: np.vdot(cramer(x), y)) > 5 * close


@pytest.mark.parametrize("scale", [1e3, 1e6, 1e9])
def test_mn_metric_at_large_singular_values(scale, rng):
    """core_ik core_ki - mix^2 = 1 + (s_i^2 + s_k^2) / 2 cancels to nothing there: the metric brings it along.

    Against 50 digits: g(Z, Z) is a sum of positive squares.
    """
    s = scale * np.array([1.7123, 0.6345, 0.3217])
    w = Start(3, 3, tuple(s)).draw(rng)
    z = lrf.Tangent(np.zeros((3, 3)), rng.standard_normal((3, 3)), np.zeros((3, 3)))
    with mpmath.workdps(50):
        total = mpmath.mpf(0)
        for i in range(3):
            for k in range(3):
                a, b, x, y = (mpmath.mpf(float(v)) for v in (s[i], s[k], z.core[i, k], z.core[k, i]))
                total += ((1 + a**2 / 2) * x + a * b / 2 * y) * x / (1 + (a**2 + b**2) / 2)
    metric = lrf.metrics.MNMetric()
    # s_i Z_ik + s_k Z_ki may cancel, by a factor of ten here
    assert abs(lrf.gradients.inner_product(w, z, z, metric) / float(total) - 1) < 100 * EPS
    c = metric.coefficients(w.s)
    pairs = [(1 + (a * a + b * b) / 2, 1.0) for i, a in enumerate(w.s) for b in w.s[i + 1 :]]
    want = np.sort([1.0] * 3 + [v for pair in pairs for v in pair])  # [1 + b/2, p; p, 1 + a/2] with p^2 = ab/4
    np.testing.assert_allclose(np.sort(c.spectrum((3, 3))), want, rtol=20 * EPS)
    # control: without it
    plain = Coefficients(c.core, c.up, c.vp, c.mix)
    with np.errstate(divide="ignore", invalid="ignore"):
        assert not abs(plain.solve(z).dot(z) / float(total) - 1) < 1e-12


@pytest.mark.parametrize("metric", ALL_METRICS)
@given(s=st.lists(st.floats(0.05, 5), min_size=1, max_size=5), seed=st.integers(0, 2**32 - 1))
def test_coefficients_are_positive_and_follow_a_permutation(metric, s, seed):
    s = np.array(s)
    c = metric.coefficients(s)
    mix = np.zeros_like(c.core) if c.mix is None else c.mix
    for i in range(s.size):
        assert c.core[i, i] + mix[i, i] > 0
        for k in range(i):
            block = np.array([[c.core[i, k], mix[i, k]], [mix[k, i], c.core[k, i]]])
            np.testing.assert_allclose(block, block.T, rtol=1e-13)
            assert np.linalg.eigvalsh((block + block.T) / 2).min() > 0
    p = np.random.default_rng(seed).permutation(s.size)
    d = metric.coefficients(s[p])
    np.testing.assert_allclose(d.core, c.core[np.ix_(p, p)], rtol=20 * EPS)
    np.testing.assert_allclose(d.up, c.up[p], rtol=20 * EPS)
    np.testing.assert_allclose(d.vp, c.vp[p], rtol=20 * EPS)


@pytest.mark.parametrize("depth", [2, 3, 7, 64, 2.7])
def test_depth_coefficients_are_exactly_symmetric(depth, rng):
    """[i, k] and [k, i] sum the same terms in opposite orders: equal to roundoff alone, were that not mended."""
    c = lrf.DepthMetric(depth).coefficients(rng.uniform(0.1, 2.0, 50)).core
    np.testing.assert_array_equal(c, c.T)


@given(
    depth=st.floats(1.01, 50),
    s=st.lists(st.floats(0.05, 5), min_size=2, max_size=5),
    factor=st.floats(0.1, 10),
)
def test_depth_coefficients_are_symmetric_and_homogeneous(depth, s, factor):
    """c(x s) = x^(2 - 2/N) c(s), and c_ik lies between N s^(2 - 2/N) at the lesser and the greater of the two."""
    s = np.array(s)
    metric = lrf.DepthMetric(depth)
    c = metric.coefficients(s).core
    np.testing.assert_array_equal(c, c.T)
    # powers of numbers up to 50 and down to 0.005: eps |ln| ~ 5 eps each
    np.testing.assert_allclose(metric.coefficients(factor * s).core, factor ** (2 - 2 / depth) * c, rtol=100 * EPS)
    diagonal = depth * s ** (2 - 2 / depth)
    slack = 1 + 100 * EPS
    assert (c <= slack * np.maximum(diagonal[:, None], diagonal)).all()
    assert (c * slack >= np.minimum(diagonal[:, None], diagonal)).all()


def test_infinite_depth_has_no_inner_product_below_full_rank(rng):
    w = Start(4, 5, (1.0, 0.5)).draw(rng)
    z = lrf.project(w, rng.standard_normal(w.shape))
    with pytest.raises(ValueError, match="degenerate below full rank"):
        lrf.gradients.inner_product(w, z, z, lrf.DepthMetric(np.inf))


def test_infinite_depth_has_an_inner_product_at_full_rank(rng):
    """flow.md 1.10: N g tends to int_0^inf tr[(tI + WW^T)^-1 Z1 (tI + W^TW)^-1 Z2^T] dt, finite for full-rank W."""
    w = Start(4, 4, (1.5, 1.0, 0.8, 0.4)).draw(rng)
    z1, z2, a, b = pair(w, rng)
    dense, eye = w.to_dense(), np.eye(4)
    want = 0.0
    for t in np.exp(np.arange(-40, 40, 0.5)):  # the trapezoidal rule in ln t, as in the oracles
        left, right = np.linalg.solve(t * eye + dense @ dense.T, a), np.linalg.solve(t * eye + dense.T @ dense, b.T)
        want += 0.5 * t * np.trace(left @ right)
    assert abs(lrf.gradients.inner_product(w, z1, z2, lrf.DepthMetric(np.inf)) - want) < 1e-10 * z1.norm() * z2.norm() / 0.16


@pytest.mark.parametrize("depth", [1, 1.0, 0.5, 0, -2])
def test_depth_one_is_refused(depth):
    with pytest.raises(ValueError, match="greater than 1"):
        lrf.DepthMetric(depth)


def test_metrics_are_values():
    assert lrf.DepthMetric(3) == lrf.DepthMetric(3.0) != lrf.DepthMetric(2)
    assert len({lrf.EmbeddedMetric(), lrf.EmbeddedMetric()}) == 1
