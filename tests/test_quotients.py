"""Every metric against the factors it comes from: gradient, inner product, spectrum, volume and flow.

A total space is given by J, the derivative of factors -> W in coordinates that are orthonormal for its metric (see
`oracles`), in a gauge drawn at random. No coefficient is used on that side.
"""

from functools import partial
from itertools import product

import numpy as np
import pytest
from cases import (
    ALL_METRICS,
    METRICS,
    STARTS,
    SYMMETRIC_METRICS,
    TAME_STARTS,
    Start,
    completion,
    covering,
    every_value,
    least_squares,
)
from oracles import (
    EPS,
    bures_distance,
    chain,
    depth_space,
    embedded_space,
    factor_flow,
    fitted_slope,
    imbalanced_factors,
    imbalanced_space,
    imbalances,
    layers,
    mn_space,
    orthogonal,
    polar_flow,
    polar_space,
    product_rule_operator,
    root_flow,
    root_space,
    scaled_space,
    subspace_flow,
    subspace_space,
    tangent_basis,
    tangent_projection,
    three_factor_space,
    two_factor_flow,
    two_factor_space,
)

import lowrankflow as lrf

KAPPA, LAMBDA, BURES = lrf.metrics.KappaBalancedMetric, lrf.metrics.LambdaBalancedMetric, lrf.metrics.BuresWassersteinMetric()


def _space(metric, make, name, **parts):
    return pytest.param(metric, partial(make, **parts) if parts else make, id=name)


SPACES = [
    _space(lrf.metrics.ScaledGDMetric(), scaled_space, "scaledgd"),
    _space(lrf.metrics.TwoFactorMetric(), two_factor_space, "twofactors"),
    _space(lrf.metrics.SubspaceProjectionMetric(), subspace_space, "subspace"),
    _space(lrf.metrics.PolarMetric(), polar_space, "polar"),
    _space(lrf.metrics.MNMetric(), mn_space, "mn"),
    _space(lrf.metrics.R3MCMetric(), three_factor_space, "r3mc"),
    _space(lrf.EmbeddedMetric(), embedded_space, "embedded"),
    _space(BURES, root_space, "bureswasserstein"),
    *(_space(lrf.DepthMetric(d), depth_space, f"depth{d}", depth=d) for d in (2, 3, 4, 7)),
    *(
        _space(KAPPA(gaps), imbalanced_space, f"kappa{gaps}", gaps=gaps)
        for gaps in ((0.7,), (-0.7,), (0.5, -0.5), (0.0, 0.8), (0.4, 0.3), (0.3, -0.7, 0.2), (-0.6, 0.6, 0.6))
    ),
    *(
        _space(LAMBDA(gap, hidden=width), imbalanced_space, f"lambda{gap:+g}{width}", gaps=(gap,), hidden=width)
        for gap, width in ((0.6, "rank"), (-0.6, "rank"), (0.6, "rows"), (-0.6, "columns"))
    ),
]
#: L = U M: the small singular values are known to eps s_1 / s_r of L alone, and these metrics divide by them
MIXED_SCALES = (lrf.metrics.ScaledGDMetric, lrf.metrics.R3MCMetric, lrf.EmbeddedMetric)


def draw(case, metric, rng):
    return case.draw_symmetric(rng) if metric == BURES else case.draw(rng)


def bordered(z, shape):
    return np.pad(z, [(0, a - b) for a, b in zip(shape, z.shape, strict=True)])


def size(metric, w):
    return max(1.0, metric.coefficients(w.s).largest(w.shape))


# ---------------------------------------------------------------------------------------------------------------------
# gradient, inner product, spectrum, volume


@pytest.mark.parametrize(("metric", "space"), SPACES)
@pytest.mark.parametrize("case", STARTS)
def test_gradient_is_that_of_the_factors(metric, space, case, rng):
    """A(G) = J J^T G, projected where the factors leave the rank. G is not symmetric, for Bures-Wasserstein too."""
    w = draw(case, metric, rng)
    j, shape = space(w, rng)
    g = rng.standard_normal(w.shape)
    moved = (j @ (j.T @ bordered(g, shape).ravel())).reshape(shape)[: w.shape[0], : w.shape[1]]
    # sums of some ten products with gauges of condition 4 a factor, |G| = 5
    atol = 2000 * EPS * size(metric, w)
    if isinstance(metric, MIXED_SCALES):
        atol *= w.s[0] / w.s[-1]
    if getattr(metric, "preserves_rank", True) or getattr(metric, "hidden", "") == "rank":
        # the factors' own velocity is tangent
        np.testing.assert_allclose(tangent_projection(w, moved), moved, rtol=0, atol=atol)
    got = lrf.riemannian_gradient(w, g, metric).at(w).to_dense()
    np.testing.assert_allclose(got, tangent_projection(w, moved), rtol=0, atol=atol)


#: each space and each start in one case
EVERY_SPACE = pytest.mark.parametrize(
    ("metric", "space", "case"),
    [
        pytest.param(*SPACES[i].values, *TAME_STARTS[k].values, id=f"{SPACES[i].id}-{TAME_STARTS[k].id}")
        for i, k in covering(product(range(len(SPACES)), range(len(TAME_STARTS))), 1)
    ],
)


@EVERY_SPACE
def test_inner_product_is_that_of_the_shortest_lift(metric, space, case, rng):
    """g(Z, Z) = min |e|^2 over the factor directions e that move W by Z; and by polarisation g(Z_1, Z_2)."""
    w = draw(case, metric, rng)
    j, shape = space(w, rng)

    def tangent():
        z = lrf.project(w, rng.standard_normal(w.shape))
        return z.symmetrised() if metric == BURES else z

    def lift(z):
        target = bordered(z.at(w).to_dense(), shape).ravel()
        e = np.linalg.lstsq(j, target, rcond=1e-8)[0]  # zero singular values of J are 1e-16, the others above 0.03
        assert np.linalg.norm(j @ e - target) < 1e-12 * np.linalg.norm(target)
        return e

    z1, z2 = tangent(), tangent()
    e1, e2 = lift(z1), lift(z2)
    for a, b, x, y in ((z1, z1, e1, e1), (z1, z2, e1, e2)):
        # the condition of J J^T, at most 300
        assert abs(lrf.gradients.inner_product(w, a, b, metric) - x @ y) < 1e-11 * np.linalg.norm(x) * np.linalg.norm(y)
    np.testing.assert_allclose(lrf.gradients.tangent_norm(w, z1, metric), np.linalg.norm(e1), rtol=1e-11)
    # control: a lift that is not the shortest
    fibre = np.linalg.svd(j)[2][np.linalg.matrix_rank(j, tol=1e-8) :]
    if len(fibre):
        assert np.linalg.norm(e1 + fibre[0]) ** 2 > lrf.gradients.inner_product(w, z1, z1, metric) + 0.5


@EVERY_SPACE
def test_spectrum_and_volume_are_those_of_the_factors(metric, space, case, rng):
    """Eigenvalues of J J^T on the tangent space; the volume is that of the lifted basis."""
    w = draw(case, metric, rng)
    j, shape = space(w, rng)
    basis = tangent_basis(w, symmetric=metric == BURES)
    wide = np.column_stack([bordered(b.reshape(w.shape), shape).ravel() for b in basis.T])
    want = np.linalg.eigvalsh(wide.T @ j @ j.T @ wide)[::-1]
    got = lrf.gradients.tangent_kernel_spectrum(w, metric)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=1000 * EPS * size(metric, w))
    np.testing.assert_allclose(metric.coefficients(w.s).largest(w.shape), want[0], rtol=1000 * EPS)
    # the least eigenvalue is above 0.07, hence its logarithm to 1e-11
    np.testing.assert_allclose(lrf.gradients.log_volume(w, metric), -0.5 * np.log(want).sum(), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("metric", "space"), SPACES)
def test_every_other_metric_fails(metric, space, rng):
    """Control of the three tests above: no other construction has this gradient, inner product or spectrum."""
    case = Start(5, 6, (1.2, 0.7, 0.4))
    w = draw(case, metric, rng)
    j, shape = space(w, rng)
    g = rng.standard_normal(w.shape)
    g = g + g.T if metric == BURES else g
    z = lrf.project(w, g)
    moved = (j @ (j.T @ bordered(g, shape).ravel())).reshape(shape)[: w.shape[0], : w.shape[1]]
    length = np.linalg.norm(np.linalg.lstsq(j, bordered(z.at(w).to_dense(), shape).ravel(), rcond=1e-8)[0])
    for other, *_ in (case.values for case in SPACES if case.values[0] is not metric):
        if other == BURES:
            continue  # on other points
        same = (
            np.linalg.norm(lrf.riemannian_gradient(w, g, other).at(w).to_dense() - tangent_projection(w, moved)) < 1e-6
        )
        assert (
            same == (lrf.gradients.tangent_norm(w, z, other) ** 2 == pytest.approx(length**2, rel=1e-6)) == _equal(metric, other)
        )


def _equal(a, b):
    """One imbalance between square layers, whichever way: the sign only says which layer is the larger one."""
    return {a, b} in ({KAPPA((0.7,)), KAPPA((-0.7,))}, {LAMBDA(0.6, hidden="rows"), LAMBDA(-0.6, hidden="columns")})


def test_depth_two_with_the_wrong_balance_fails(rng):
    """Control: factors of the same W, unbalanced by a gauge, move W by another operator."""
    w = Start(5, 6, (1.2, 0.7, 0.4)).draw(rng)
    g, m = rng.standard_normal(w.shape), np.diag([0.5, 1.0, 2.0])
    a, b = layers([w.vt.T, orthogonal(3, rng), w.u], w.s, [0.0, 0.0])
    moved = product_rule_operator([m @ a, b @ np.linalg.inv(m)], g)
    assert np.linalg.norm(lrf.riemannian_gradient(w, g, lrf.DepthMetric(2)).at(w).to_dense() - moved) > 0.1


@pytest.mark.parametrize("case", TAME_STARTS)
@pytest.mark.parametrize("metric", ALL_METRICS + SYMMETRIC_METRICS)
def test_spectrum_is_that_of_the_dense_operator(metric, case, rng):
    """Real depths and users' metrics too: A assembled column by column from `riemannian_gradient`."""
    w = draw(case, metric, rng)
    basis = tangent_basis(w, symmetric=metric == BURES)
    columns = [lrf.riemannian_gradient(w, b.reshape(w.shape), metric).at(w).to_dense().ravel() for b in basis.T]
    dense = basis.T @ np.column_stack(columns)
    np.testing.assert_allclose(dense, dense.T, rtol=0, atol=500 * EPS * size(metric, w))
    want, got = np.linalg.eigvalsh(dense)[::-1], lrf.gradients.tangent_kernel_spectrum(w, metric)
    k, (m, n) = w.rank, w.shape
    assert got.size == (n * k - k * (k - 1) // 2 if metric == BURES else k * (m + n - k))
    np.testing.assert_allclose(got, want, rtol=0, atol=500 * EPS * size(metric, w))


@every_value(
    metric=METRICS + SYMMETRIC_METRICS,
    case=[Start(4, 6, (1.0, 0.6, 0.3)), Start(3, 3, (1.0, 1.0, 0.5)), Start(5, 3, (0.7,))],
)
def test_volume_is_the_gram_determinant(metric, case, rng):
    """sqrt(det g) in an orthonormal basis of the tangent space, under `inner_product`."""
    w = draw(case, metric, rng)
    basis = tangent_basis(w, symmetric=metric == BURES)
    z = [lrf.project(w, b.reshape(w.shape)) for b in basis.T]
    gram = np.array([[lrf.gradients.inner_product(w, a, b, metric) for a in z] for b in z])
    want = 0.5 * np.linalg.slogdet(gram)[1]
    # 24 eigenvalues, the condition of g at most 300 (its roundoff in each logarithm)
    np.testing.assert_allclose(lrf.gradients.log_volume(w, metric), want, rtol=0, atol=24 * 300 * 20 * EPS)


@pytest.mark.parametrize("case", STARTS)
@pytest.mark.parametrize("depth", [1.5, 2, 2.7, 3, 5, 20])
def test_volume_of_the_depth_metric_in_closed_form(depth, case, rng):
    """N^(-r/2) prod s_i^-(1-1/N)(1+m+n-2r) prod_{i<k} (x_i - x_k)/(s_i^2 - s_k^2), x = s^(2/N); ties by their limit."""
    w = case.draw(rng)
    (m, n), r, s = w.shape, w.rank, w.s
    log = -0.5 * r * np.log(depth) - (1 - 1 / depth) * (1 + m + n - 2 * r) * np.log(s).sum()
    for i in range(r):
        for k in range(i + 1, r):
            middle = np.sqrt(s[i] * s[k])
            close = s[i] - s[k] < 1e-6 * s[i]  # the difference quotient at the middle: an error of gap^2 / 24
            log += (
                np.log((2 / depth) * middle ** (2 / depth) / (2 * middle**2))
                if close
                else np.log((s[i] ** (2 / depth) - s[k] ** (2 / depth)) / (s[i] ** 2 - s[k] ** 2))
            )
    np.testing.assert_allclose(lrf.gradients.log_volume(w, lrf.DepthMetric(depth)), log, rtol=1e-12, atol=1e-11)
    assert abs(lrf.gradients.log_volume(w, lrf.DepthMetric(2 * depth)) - log) > 1e-2  # control


def test_volume_is_infinite_where_the_metric_degenerates(rng):
    w = Start(4, 5, (1.0, 0.5)).draw(rng)
    assert lrf.gradients.log_volume(w, lrf.DepthMetric(np.inf)) == np.inf
    assert np.isfinite(lrf.gradients.log_volume(Start(2, 2, (1.0, 0.5)).draw(rng), lrf.DepthMetric(np.inf)))


@pytest.mark.parametrize("case", [Start(4, 7, (1.0, 0.6, 0.3)), Start(6, 5, (1.0, 1.0, 0.5))])
@pytest.mark.parametrize("source", METRICS)
def test_conversion_gives_the_gradient_of_the_target(source, case, rng):
    w = case.draw(rng)
    g = rng.standard_normal(w.shape)
    start = lrf.riemannian_gradient(w, g, source)
    for target in (case.values[0] for case in ALL_METRICS):
        want = lrf.riemannian_gradient(w, g, target)
        got = lrf.gradients.convert_gradient(w, start, source, target)
        # A_2 A_1^-1 A_1: the condition of A_1, 20 x 11 at most
        assert (got - want).norm() < 5000 * EPS * size(target, w) * np.linalg.norm(g)
        if target != source:  # controls: not converted, and converted the other way
            assert (start - want).norm() > 1e-3
            assert (lrf.gradients.convert_gradient(w, want, source, target) - want).norm() > 1e-3


def test_conversion_to_and_from_the_symmetric_metric(rng):
    """The gradient of the symmetric part of G, also from a gradient that is not symmetric itself."""
    w = Start(5, 5, (1.2, 0.7)).draw_symmetric(rng)
    g = rng.standard_normal(w.shape)
    bures, depth = lrf.riemannian_gradient(w, g, BURES), lrf.riemannian_gradient(w, (g + g.T) / 2, lrf.DepthMetric(3))
    assert (lrf.gradients.convert_gradient(w, bures, BURES, lrf.DepthMetric(3)) - depth).norm() < 1e-13
    assert (lrf.gradients.convert_gradient(w, depth, lrf.DepthMetric(3), BURES) - bures).norm() < 1e-13
    skew = lrf.riemannian_gradient(w, g, lrf.DepthMetric(3))
    assert (lrf.gradients.convert_gradient(w, skew, lrf.DepthMetric(3), BURES) - bures).norm() < 1e-13
    with pytest.raises(ValueError, match="`rgrad` must be symmetric"):
        lrf.gradients.convert_gradient(w, skew, BURES, lrf.DepthMetric(3))


# ---------------------------------------------------------------------------------------------------------------------
# imbalanced factors


S = np.array([1.3, 1.3, 0.7, 0.2, 1e-3])


def close(a, b, rtol=20 * EPS):
    """The logarithm of the least s^2 is 14: its roundoff in the roots of p, and in a power."""
    a, b = a.coefficients(S), b.coefficients(S)
    for name in ("core", "up", "vp"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=14 * rtol)


def apart(a, b):
    with pytest.raises(AssertionError):
        close(a, b, rtol=1e-5)


@pytest.mark.parametrize("depth", [2, 3, 4, 8])
def test_no_imbalance_is_the_depth_metric(depth):
    close(KAPPA([0.0] * (depth - 1)), lrf.DepthMetric(depth))
    apart(KAPPA([0.01] + [0.0] * (depth - 2)), lrf.DepthMetric(depth))


@pytest.mark.parametrize("gap", [0.6, 1e-6, 50.0])
def test_one_imbalance_is_the_lambda_metric(gap):
    close(LAMBDA(0.0), lrf.DepthMetric(2))
    close(KAPPA([gap]), LAMBDA(gap, hidden="rows"))
    close(KAPPA([-gap]), LAMBDA(-gap, hidden="columns"))
    apart(KAPPA([gap]), LAMBDA(1.01 * gap + 0.01, hidden="rows"))
    apart(KAPPA([gap]), LAMBDA(gap))  # at s = 1e-3 even a gap of 1e-6 shows on the frames


@pytest.mark.parametrize("depth", [2, 3])
def test_the_imbalances_in_another_order_give_the_same_metric(depth):
    """p does not know which factor has which shift."""
    shifts = np.array([0.0, 0.3, 0.9])[:depth]
    close(KAPPA(np.diff(shifts)), KAPPA(np.diff(shifts[::-1])))
    close(KAPPA(np.diff(shifts)), KAPPA(np.diff(np.roll(shifts, 1))))


def test_large_imbalances_are_lazy(rng):
    """With a square layer A / lambda tends to the identity of full-rank square matrices like 1 / lambda^2."""
    w = Start(4, 4, (1.5, 1.0, 0.8, 0.4)).draw(rng)
    z = rng.standard_normal((4, 4))

    def gap(value, **options):
        a = lrf.riemannian_gradient(w, z, LAMBDA(value, **options)).at(w).to_dense() / abs(value)
        return np.linalg.norm(a - z)

    for sign, hidden in ((1, "rows"), (-1, "columns"), (1, "rank")):
        # q = lambda sqrt(1 + 4 s^2 / lambda^2): the next term is smaller by s^2 / lambda^2 = 2e-4
        assert gap(sign * 100, hidden=hidden) / gap(sign * 200, hidden=hidden) == pytest.approx(4, rel=1e-3)
        assert gap(sign * 1e5, hidden=hidden) < 1e-8
    assert gap(1.0, hidden="rows") > 0.1  # control


def test_at_other_widths_the_velocity_is_no_function_of_w(rng):
    """Control of `hidden`: between rank and rows the extra directions of the wide layer may be chosen."""
    w = Start(5, 6, (1.2, 0.7)).draw(rng)
    x = np.array([(np.sqrt(0.36 + 4 * s**2) - 0.6) / 2 for s in w.s])
    normal, g = np.linalg.svd(w.u)[0][:, 2:], rng.standard_normal(w.shape)

    def velocity(width):
        turn, extra = orthogonal(width, rng), normal @ orthogonal(3, rng)[:, : width - 2]
        frames = [np.hstack([w.vt.T, np.zeros((6, width - 2))]), turn, np.hstack([w.u, extra])]
        factors = layers(frames, np.concatenate([x, np.zeros(width - 2)]), [0.0, 0.6])
        np.testing.assert_allclose(imbalances(factors)[0], 0.6 * np.eye(width), atol=1e-14)
        np.testing.assert_allclose(chain(factors), w.to_dense(), atol=1e-14)
        return product_rule_operator(factors, g)

    for width in (2, 5):
        np.testing.assert_allclose(velocity(width), velocity(width), rtol=0, atol=1e-12)
    assert np.linalg.norm(velocity(3) - velocity(3)) > 0.1


SCALARS = [KAPPA((0.5,)), KAPPA((0.5, -0.5)), KAPPA((0.5, -0.2)), KAPPA((0.0,)), LAMBDA(0.6), LAMBDA(-0.6), LAMBDA(0.0)]


@pytest.mark.parametrize("metric", SCALARS, ids=repr)
def test_only_a_double_root_keeps_the_rank(metric, rng):
    """1 x 1 factors driven to -1 from 0.5: the product goes through zero unless `preserves_rank`."""
    gaps = getattr(metric, "imbalances", None) or (metric.imbalance,)
    w = lrf.LowRankMatrix([[1.0]], [0.5], [[1.0]])
    ends = factor_flow(lambda x: x + 1, imbalanced_factors(w, gaps, rng), [4.0], rtol=1e-9)
    assert (chain(ends[0]).item() > 0) == metric.preserves_rank
    if not metric.preserves_rank:
        assert chain(ends[0]).item() < -0.9
    flow = lrf.RiemannianFlow(lrf.losses.LeastSquares([[1.0]], [[-1.0]]), metric)
    path = lrf.integrate(flow, w, t_span=(0, 4))
    assert path.status is lrf.Status.FINISHED
    # some thirty steps of rtol 1e-8, relative to a W of at most 1; where the rank is kept it has decayed to 1e-4
    np.testing.assert_allclose(path.points[-1].to_dense(), chain(ends[0]), rtol=0, atol=3e-7)
    frame = lrf.integrate(flow, w, t_span=(0, 4), chart=lrf.SingularFrame())
    assert (frame.status is lrf.Status.RANK_LOST) != metric.preserves_rank


# ---------------------------------------------------------------------------------------------------------------------
# Bures-Wasserstein


@pytest.mark.parametrize("case", STARTS)
def test_depth_two_is_twice_bures_wasserstein(case, rng):
    w = case.draw_symmetric(rng)
    a, b = (lrf.project(w, rng.standard_normal(w.shape)).symmetrised() for _ in range(2))
    two, bures = (lrf.gradients.inner_product(w, a, b, metric) for metric in (lrf.DepthMetric(2), BURES))
    scale = lrf.gradients.tangent_norm(w, a, BURES) * lrf.gradients.tangent_norm(w, b, BURES)
    assert abs(two - 2 * bures) < 100 * EPS * scale
    assert (
        abs(lrf.gradients.inner_product(w, a, a, lrf.DepthMetric(2.01)) / lrf.gradients.inner_product(w, a, a, BURES) - 2) > 1e-4
    )  # control
    g = rng.standard_normal(w.shape)
    gradients = [lrf.riemannian_gradient(w, x, m) for x, m in (((g + g.T) / 2, lrf.DepthMetric(2)), (g, BURES))]
    assert (2 * gradients[0] - gradients[1]).norm() < 500 * EPS * size(BURES, w)


@pytest.mark.parametrize(
    "case", [Start(4, 4, (1.5, 1.0, 0.8, 0.4)), Start(3, 3, (1.0, 1.0, 0.5)), Start(6, 6, (1.2, 0.7))]
)
def test_length_is_the_bures_distance(case, rng):
    """(Y + tH)(Y + tH)^T with H = K Y, K symmetric, is a geodesic: its length is |H| and the distance of its ends."""
    w = case.draw_symmetric(rng)
    y = (w.u * np.sqrt(w.s)) @ orthogonal(case.rank, rng)
    k = rng.standard_normal((case.m, case.m))
    k = (k + k.T) / np.linalg.norm(k) / 4

    def length(h):
        nodes, weights = np.polynomial.legendre.leggauss(30)  # analytic, the nearest pole of g at |t| > 4
        total = 0.0
        for t, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            at, moved = lrf.LowRankMatrix.from_factor(y + t * h), h @ (y + t * h).T
            total += weight * lrf.gradients.tangent_norm(at, lrf.project(at, moved + moved.T).symmetrised(), BURES)
        return total

    def distance(h):
        a, b = y, y + h
        if case.rank == case.m:
            return bures_distance(a @ a.T, b @ b.T)
        # tr (A^1/2 B A^1/2)^1/2 is the nuclear norm of Y_a^T Y_b: the root of a singular matrix would lose half the digits
        return np.sqrt(np.vdot(a, a) + np.vdot(b, b) - 2 * np.linalg.norm(a.T @ b, "nuc"))

    h = k @ y
    np.testing.assert_allclose(length(h), np.linalg.norm(h), rtol=1e-11)
    # d^2 is 0.04 of a difference of traces of 8, and the roots of sqrtm are condition 4
    np.testing.assert_allclose(distance(h), np.linalg.norm(h), rtol=1e-11)
    # controls: not horizontal, hence longer than the distance, and shorter than |H|
    tilted = h + y @ (np.triu(np.ones((case.rank, case.rank)), 1) - np.tril(np.ones((case.rank, case.rank)), -1)) / 4
    assert distance(tilted) * (1 + 1e-4) < length(tilted) < np.linalg.norm(tilted) * (1 - 1e-4)


@pytest.mark.parametrize("case", TAME_STARTS)
def test_symmetric_gradient_by_slope(case, rng):
    """Along (Y + hE)(Y + hE)^T, L - L(0) - h g(grad L, Z) falls like h^2; with another metric's gradient like h."""
    w = case.draw_symmetric(rng)
    loss, y = least_squares(*w.shape, rng), w.u * np.sqrt(w.s)
    e = rng.standard_normal(y.shape) / 4
    z = lrf.project(w, e @ y.T + y @ e.T).symmetrised()
    steps = 0.02 * 2.0 ** -np.arange(7)

    def slope(gradient):
        linear = lrf.gradients.inner_product(w, gradient, z, BURES)
        rest = [loss.value(lrf.LowRankMatrix.from_factor(y + h * e)) - loss.value(w) - h * linear for h in steps]
        return fitted_slope(steps, np.abs(rest))

    right = lrf.riemannian_gradient(w, loss.gradient(w), BURES)
    assert abs(slope(right) - 2) < 0.15
    assert slope(0.5 * right) < 1.5  # control: that of depth 2


def test_points_and_tangents_of_the_symmetric_matrices(rng):
    y = rng.standard_normal((6, 3))
    w = lrf.LowRankMatrix.from_factor(y)
    np.testing.assert_allclose(w.to_dense(), y @ y.T, rtol=0, atol=1e-14 * np.linalg.norm(y) ** 2)
    np.testing.assert_array_equal(w.u, w.vt.T)
    assert (np.diff(w.s) < 0).all()
    wide = lrf.LowRankMatrix.from_factor(y.T)  # more columns than rows: of full rank
    np.testing.assert_allclose(wide.to_dense(), y.T @ y, rtol=0, atol=1e-14 * np.linalg.norm(y) ** 2)
    point = lrf.random_point(5, 5, 2, rng=rng, singular_values=[0.5, 2.0], symmetric=True)
    np.testing.assert_array_equal(point.u, point.vt.T)
    np.testing.assert_array_equal(point.s, [2.0, 0.5])
    z = lrf.project(w, rng.standard_normal((6, 6)))
    half = z.symmetrised()
    dense = z.at(w).to_dense()
    np.testing.assert_allclose(half.at(w).to_dense(), (dense + dense.T) / 2, rtol=0, atol=1e-14)
    assert (half - z).norm() > 0.1  # control
    np.testing.assert_allclose((half.symmetrised() - half).norm(), 0, atol=1e-16)


# ---------------------------------------------------------------------------------------------------------------------
# flows in the factors

TIMES = [0.3, 0.8]


def near(w, rng):
    """A fit whose target is near: flows that can leave the rank do not."""
    n = w.shape[1]
    x, z = rng.standard_normal((n, 2 * n)), rng.standard_normal(w.shape)
    return lrf.losses.LeastSquares(x, (w.to_dense() + 0.2 * z / np.linalg.norm(z)) @ x)


def gradient_of(loss):
    return lambda w: loss.gradient(w) @ np.eye(loss.shape[1])


def flow(metric, loss, w, times=TIMES, **options):
    path = lrf.integrate(
        lrf.RiemannianFlow(loss, metric), w, t_span=(0, times[-1]), rtol=1e-11, save=lrf.Save(times=times), **options
    )
    assert path.status is lrf.Status.FINISHED
    return path.points


def largest_gap(points, dense):
    return max(np.linalg.norm(p.to_dense() - d) for p, d in zip(points[-len(dense) :], dense, strict=True))


FLOWS = [
    *(_space(KAPPA(g), imbalanced_factors, f"kappa{g}", gaps=g) for g in ((0.5, -0.5), (0.0, 0.8), (0.3, -0.7, 0.2))),
    *(
        _space(LAMBDA(g, hidden=h), imbalanced_factors, f"lambda{g:+g}{h}", gaps=(g,), hidden=h)
        for g, h in ((0.6, "rank"), (-0.6, "rank"), (0.6, "rows"), (-0.6, "columns"))
    ),
]


def flow_starts(metric):
    """Square and of full rank, unless the factors keep the rank or (a hidden layer of the rank) cannot raise it."""
    if getattr(metric, "hidden", "") == "rank":
        return [case.values[0] for case in TAME_STARTS[::3]]
    square = [Start(4, 4, (1.5, 1.0, 0.8, 0.4)), Start(3, 3, (1.0, 1.0, 0.5))]
    return [*square, Start(5, 5, (1.0, 1.0, 0.5))] if metric.preserves_rank else square


@pytest.mark.parametrize(
    ("metric", "make", "case"),
    [
        pytest.param(*p.values, case, id=f"{p.id}-{case.m}x{case.n}-{case.s[0]:g}-{case.s[-1]:g}")
        for p in FLOWS
        for case in flow_starts(p.values[0])
    ],
)
def test_flow_of_imbalanced_factors(metric, make, case, rng):
    """LSODA on the factors: its some hundred steps accumulate up to 10^4 rtol = 1e-8."""
    w = case.draw(rng)
    loss = near(w, rng)
    want = [chain(f) for f in factor_flow(gradient_of(loss), make(w, rng=rng), TIMES)]
    assert largest_gap(flow(metric, loss, w), want) < 1e-8
    # control: the flow of balanced factors from the same W is another one
    assert largest_gap(flow(lrf.DepthMetric(getattr(metric, "depth", 2)), loss, w), want) > 1e-4


SYMMETRIC_STARTS = [*TAME_STARTS, pytest.param(Start(6, 6, (1.0, 0.1, 3e-9)), id="tiny")]


@pytest.mark.parametrize("case", SYMMETRIC_STARTS)
def test_flow_of_a_symmetric_factor(case, rng):
    """W = Y Y^T; any loss, its gradient not symmetric. The points are symmetric, and depth 2 at twice the speed agrees."""
    w = case.draw_symmetric(rng)
    loss = least_squares(*w.shape, rng)
    want = root_flow(gradient_of(loss), w, TIMES)
    points = flow(BURES, loss, w)
    assert largest_gap(points, want) < 1e-8
    for p in points:
        np.testing.assert_array_equal(p.u, p.vt.T)
    for root in (1, 3):
        if min(case.s) > 1e-8:  # with another root the flow is smooth only away from zero
            assert largest_gap(flow(BURES, loss, w, chart=lrf.SingularFrame(root=root)), want) < 1e-8

    class Symmetrised:
        """The mean of the loss at W and at W^T: on the symmetric matrices the same values, and a symmetric gradient."""

        shape = w.shape

        def value(self, x):
            return (loss.value(x) + loss.value(x.T)) / 2

        def gradient(self, x):
            g = gradient_of(loss)
            return (g(x) + g(x.T).T) / 2

    double = flow(lrf.DepthMetric(2), Symmetrised(), w, times=[2 * t for t in TIMES])
    assert largest_gap(double, want) < 1e-8
    # control: at the same speed, and with the gradient not symmetrised
    assert largest_gap(flow(lrf.DepthMetric(2), Symmetrised(), w), want) > 1e-2
    assert largest_gap(flow(lrf.DepthMetric(2), loss, w, times=[2 * t for t in TIMES]), want) > 1e-2


def test_stationarity_of_the_symmetric_flow(rng):
    """Measured by the symmetric part: a skew gradient moves nothing."""
    w = Start(5, 5, (1.2, 0.7)).draw_symmetric(rng)
    loss = least_squares(5, 5, rng)
    system = lrf.SingularFrame().bind(lrf.RiemannianFlow(loss, BURES), w)
    g = gradient_of(loss)(w)
    _, size, power, _ = system.measure(system.y0)
    np.testing.assert_allclose(size, np.linalg.norm(tangent_projection(w, (g + g.T) / 2)), rtol=1000 * EPS)
    np.testing.assert_allclose(power, lrf.gradients.tangent_norm(w, lrf.riemannian_gradient(w, g, BURES), BURES) ** 2, rtol=1e-12)
    assert np.linalg.norm(tangent_projection(w, g)) > 1.01 * size  # control


SQUARES = [
    pytest.param(lrf.metrics.TwoFactorMetric(), two_factor_flow, id="twofactors"),
    pytest.param(lrf.metrics.SubspaceProjectionMetric(), subspace_flow, id="subspace"),
    pytest.param(lrf.metrics.PolarMetric(), polar_flow, id="polar"),
]


@pytest.mark.parametrize(("metric", "oracle"), SQUARES)
def test_flow_at_a_tiny_singular_value(metric, oracle, rng):
    """Coefficients of order s^2 turn the frames at the rate s |G|: the flow is smooth there."""
    w, loss = Start(6, 5, (1.0, 0.1, 3e-9)).draw(rng), completion(6, 5, rng)
    want = oracle(gradient_of(loss), w, TIMES)
    assert largest_gap(flow(metric, loss, w), want) < 1e-8
    faster = [1.01 * t for t in TIMES]
    assert largest_gap(flow(metric, loss, w, times=faster), want) > 1e-4  # control: another clock


def test_rounded_sums_of_imbalances_are_still_multiple_roots():
    """0.1 + 0.2 - 0.3 is 5.6e-17 in floating point, and 0 is a double root of p."""
    assert lrf.metrics.KappaBalancedMetric((0.1, 0.2, -0.3)).preserves_rank
    assert not lrf.metrics.KappaBalancedMetric((0.1, 0.2)).preserves_rank  # control
