"""Factor gradients, Riemannian gradients and the maps between them, against differentiation and the product rule."""

from itertools import pairwise

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from cases import DEPTHS, LOSSES, TAME_STARTS, Start, completion, least_squares
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    EPS,
    balanced_factors,
    central,
    chain,
    depth_operator,
    polynomial_derivative,
    product_derivative,
    product_jacobian,
    product_rule_operator,
    tangent_projection,
)

import lowrankflow as lrf
from lowrankflow.matrices import Product
from lowrankflow.operators import OperatorSum, both_sides

#: (n, hidden widths, m): the bottleneck in the first, last, middle layer, at both ends, nowhere; width 1
ARCHITECTURES = [
    pytest.param(sizes, id="-".join(map(str, sizes)))
    for sizes in [
        (5, 4),
        (5, 2, 4),
        (3, 7, 6),
        (6, 1, 5),
        (5, 2, 4, 3),
        (4, 6, 2, 5),
        (6, 1, 1, 4),
        (5, 6, 2, 7, 4),
        (5, 4, 4, 4, 5),
        (2, 7, 6, 5, 3),
        (6, 5, 4, 6, 2, 5),
        (6, 2, 5, 6, 4, 5),
        (3, 5, 5, 1, 4, 6),
    ]
]


def network(sizes, rng):
    """Unbalanced factors of norms of order one."""
    return lrf.LinearNetwork([rng.standard_normal((b, a)) / np.sqrt(a) for a, b in pairwise(sizes)])


def scale_of(net):
    return np.prod([max(1.0, np.linalg.norm(f)) for f in net.factors])


def autograd_gradients(loss, net):
    """Differentiate value(W_N ... W_1) by autograd."""

    def value(factors):
        w = factors[0]
        for f in factors[1:]:
            w = anp.dot(f, w)
        return loss.value(w)

    return autograd.grad(value)(list(net.factors))


@pytest.mark.parametrize("sizes", ARCHITECTURES)
def test_factor_gradients_against_autograd(sizes, rng):
    net = network(sizes, rng)
    loss = least_squares(sizes[-1], sizes[0], rng)
    got, want = lrf.factor_gradients(loss, net), autograd_gradients(loss, net)
    assert [g.shape for g in got] == [f.shape for f in net.factors]
    scale = scale_of(net) * np.linalg.norm(loss.gradient(net).to_dense())
    for g, a in zip(got, want, strict=True):
        np.testing.assert_allclose(g, a, rtol=0, atol=100 * EPS * scale)
    # control: the gradients at another point are told apart
    moved = lrf.LinearNetwork([1.001 * f for f in net.factors])
    assert max(np.abs(g - a).max() for g, a in zip(lrf.factor_gradients(loss, moved), want, strict=True)) > 1e-6 * scale


@pytest.mark.parametrize("make", LOSSES)
@pytest.mark.parametrize("sizes", [(5, 2, 4), (4, 6, 2, 5), (5, 6, 3, 7, 4)], ids=str)
def test_factor_gradients_against_differences(make, sizes, rng):
    net, loss = network(sizes, rng), make(sizes[-1], sizes[0], rng)
    directions = [rng.standard_normal(f.shape) for f in net.factors]
    directions = [e / np.linalg.norm(e) for e in directions]

    def along(h):
        return loss.value(lrf.LinearNetwork([f + h * e for f, e in zip(net.factors, directions, strict=True)]))

    slope = sum(np.vdot(g, e) for g, e in zip(lrf.factor_gradients(loss, net), directions, strict=True))
    # h = 1e-5: the third derivative over 6 times 1e-10, and eps L / h = 2e-11 L; derivatives up to 10^2 L
    bound = 1e-8 * (loss.value(net) + scale_of(net))
    assert abs(slope - central(along)) < bound
    assert abs(-slope - central(along)) > 100 * bound  # control: the wrong sign


@pytest.mark.parametrize("sizes", ARCHITECTURES)
def test_pullback_is_the_adjoint_of_the_product_rule(sizes, rng):
    """<G, dphi(E)> = <pullback(G), E>, and dphi against the derivative of a polynomial."""
    net = network(sizes, rng)
    directions = [rng.standard_normal(f.shape) for f in net.factors]
    g = rng.standard_normal(net.shape)
    moved = lrf.gradients.product_rule(net, directions).to_dense()
    scale = 100 * EPS * scale_of(net) * sum(np.linalg.norm(e) for e in directions) * np.linalg.norm(g)
    dual = sum(np.vdot(p, e) for p, e in zip(lrf.gradients.pullback(net, g), directions, strict=True))
    assert abs(np.vdot(g, moved) - dual) < scale
    np.testing.assert_allclose(moved, product_derivative(net.factors, directions), rtol=0, atol=scale)
    # along a line the product is a polynomial of degree N: its derivative by interpolation at N + 1 nodes
    line = polynomial_derivative(
        lambda t: np.vdot(g, chain([f + t * e for f, e in zip(net.factors, directions, strict=True)])),
        degree=net.depth, order=1, radius=0.3,
    )  # fmt: skip
    assert abs(line - np.vdot(g, moved)) < 1e3 * scale  # differentiation amplifies roundoff by N^2 / radius
    # control: one layer left out
    partial = [np.zeros_like(directions[0]), *directions[1:]]
    assert np.linalg.norm(product_derivative(net.factors, partial) - moved) > 1e4 * scale / np.linalg.norm(g)


# ---------------------------------------------------------------------------------------------------------------------
# the operator: claim 3


def same(got, want, z, depth, s_max=1.0):
    """Products of N factors of norm s_max^(1/N), twice: 1e-12 of claim 3 over its scale."""
    np.testing.assert_allclose(got, want, rtol=0, atol=20 * depth * EPS * np.linalg.norm(z) * s_max**2 + 20 * EPS)


@pytest.mark.parametrize("depth", range(2, 21))
def test_operator_is_the_product_rule_on_balanced_factors(depth, rng):
    w = lrf.random_point(7, 5, 3, rng=rng)
    z, metric = rng.standard_normal((7, 5)), lrf.DepthMetric(depth)
    got = lrf.riemannian_gradient(w, z, metric).at(w).to_dense()
    same(got, depth_operator(w, z, depth), z, depth)
    # control: the wrong depth; a_W of N and N + 1 differ by about 1 / (3 N^2) relatively to N
    assert np.linalg.norm(got - depth_operator(w, z, depth + 1)) > 1e-2


@pytest.mark.parametrize("depth", [2, 3, 5, 20])
@pytest.mark.parametrize("case", TAME_STARTS)
def test_operator_laws(depth, case, rng):
    """Self-adjoint, zero on the normal space, tangent-valued, inverted by `solve`."""
    w = case.draw(rng)
    metric = lrf.DepthMetric(depth)

    def operator(z):
        return lrf.riemannian_gradient(w, z, metric).at(w).to_dense()

    z1, z2 = rng.standard_normal((2, *w.shape))
    scale = 100 * depth * EPS * np.linalg.norm(z1) * np.linalg.norm(z2) * max(1.0, case.s[0] ** 2)
    assert abs(np.vdot(operator(z1), z2) - np.vdot(z1, operator(z2))) < scale
    tangent = tangent_projection(w, z1)
    assert np.linalg.norm(operator(z1 - tangent)) < scale
    np.testing.assert_allclose(operator(tangent), operator(z1), rtol=0, atol=scale)
    np.testing.assert_allclose(tangent_projection(w, operator(z1)), operator(z1), rtol=0, atol=scale)
    inverse = metric.coefficients(w.s).solve(lrf.project(w, z1)).at(w).to_dense()
    np.testing.assert_allclose(operator(inverse), tangent, rtol=0, atol=scale / min(case.s) ** 2)
    np.testing.assert_allclose(depth_operator(w, inverse, depth), tangent, rtol=0, atol=scale / min(case.s) ** 2)
    assert np.vdot(z1, operator(z1)) > 0


def test_powers_of_the_gram_matrix_are_a_bad_oracle(rng):
    """Trap 8, and the reason for the product rule: roundoff in the null space becomes roundoff^(1/N)."""
    w = lrf.random_point(7, 5, 3, rng=rng)
    z = rng.standard_normal((7, 5))
    (a, p), (b, q) = np.linalg.eigh(w.to_dense() @ w.to_dense().T), np.linalg.eigh(w.to_dense().T @ w.to_dense())
    textbook = sum(
        (p * np.abs(a) ** ((5 - j) / 5)) @ p.T @ z @ (q * np.abs(b) ** ((j - 1) / 5)) @ q.T for j in range(1, 6)
    )
    assert np.abs(textbook - depth_operator(w, z, 5)).max() > 1e-7


# ---------------------------------------------------------------------------------------------------------------------
# the end-to-end operator of any network


@pytest.mark.parametrize("sizes", ARCHITECTURES)
def test_end_to_end_operator_of_any_network(sizes, rng):
    """Against the product rule; symmetric and positive semidefinite; equal to dphi dphi^T (claim 24)."""
    net = network(sizes, rng)
    m, n = net.shape
    operator = lrf.end_to_end_operator(net)
    columns = [operator(e.reshape(m, n)).to_dense().ravel() for e in np.eye(m * n)]
    matrix, jacobian = np.array(columns).T, product_jacobian(net.factors)
    tolerance = 100 * EPS * np.linalg.norm(jacobian) ** 2
    np.testing.assert_allclose(matrix, jacobian @ jacobian.T, rtol=0, atol=tolerance)
    np.testing.assert_allclose(matrix, matrix.T, rtol=0, atol=tolerance)
    assert np.linalg.eigvalsh((matrix + matrix.T) / 2).min() > -tolerance
    z = rng.standard_normal((m, n))
    want = product_rule_operator(net.factors, z)
    np.testing.assert_allclose(operator(z).to_dense(), want, rtol=0, atol=tolerance * np.linalg.norm(z))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("case", TAME_STARTS)
def test_operator_is_dphi_dphi_transposed_at_balanced_factors(depth, case, rng):
    """Claim 24, with wide hidden layers and random frames, at 1e-12."""
    w = case.draw(rng)
    net = lrf.LinearNetwork.balanced(w, depth, widths=case.rank + 2, rng=rng)
    jacobian = product_jacobian(net.factors)
    z = rng.standard_normal(w.shape)
    want = (jacobian @ (jacobian.T @ z.ravel())).reshape(w.shape)
    got = lrf.riemannian_gradient(w, z, lrf.DepthMetric(depth)).at(w).to_dense()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
    np.testing.assert_allclose(lrf.end_to_end_operator(net)(z).to_dense(), want, rtol=0, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# the bridge


def unbalance(net, rng):
    """The same product from [A W_1, W_2 A^-1, ...]."""
    a = np.diag(np.linspace(0.5, 2, net.factors[0].shape[0]))
    return lrf.LinearNetwork([a @ net.factors[0], net.factors[1] @ np.linalg.inv(a), *net.factors[2:]])


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("case", TAME_STARTS)
def test_bridge_from_factor_gradients(depth, case, rng):
    """A list of factor gradients, here autograd's, gives A_W(G) on balanced factors, and (E) on any."""
    w = case.draw(rng)
    net = lrf.LinearNetwork.balanced(w, depth, widths=case.rank + 1, rng=rng)
    loss = least_squares(*w.shape, rng)
    g = loss.gradient(w).to_dense()
    got = lrf.riemannian_gradient_from_factors(net, autograd_gradients(loss, net)).to_dense()
    want = lrf.riemannian_gradient(w, loss.gradient(w), lrf.DepthMetric(depth)).at(w).to_dense()
    close = {"rtol": 0, "atol": 100 * depth * EPS * (1 + np.linalg.norm(g))}
    np.testing.assert_allclose(got, want, **close)
    bad = unbalance(net, rng)
    got = lrf.riemannian_gradient_from_factors(bad, autograd_gradients(loss, bad)).to_dense()
    np.testing.assert_allclose(got, product_rule_operator(bad.factors, g), **close)
    assert np.abs(got - want).max() > 1e-3  # control: unbalanced factors of the same product move it otherwise


# ---------------------------------------------------------------------------------------------------------------------
# the horizontal lift


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("case", TAME_STARTS)
def test_horizontal_lift(depth, case, rng):
    """It moves the product by Z, its squared norm is g(Z, Z), and it is orthogonal to every direction that does not."""
    w = case.draw(rng)
    net = lrf.LinearNetwork.balanced(w, depth, widths=case.rank + 1, rng=rng)
    z = lrf.project(w, rng.standard_normal(w.shape))
    dense = z.at(w).to_dense()
    lift = lrf.horizontal_lift(net, z.at(w))
    # A^-1 has norm s_r^(2/N - 2) and costs that many digits, up to 4 s_r^-2 = 44
    atol = 1000 * depth * EPS / min(case.s) ** 2
    np.testing.assert_allclose(product_derivative(net.factors, lift), dense, rtol=0, atol=atol * np.linalg.norm(dense))
    squared = sum(np.vdot(e, e) for e in lift)
    np.testing.assert_allclose(squared, lrf.gradients.inner_product(w, z, z, lrf.DepthMetric(depth)), rtol=atol)
    # the least-norm solution of dphi(E) = Z, by a dense least-squares solver
    jacobian = product_jacobian(net.factors)
    least = np.linalg.lstsq(jacobian, dense.ravel(), rcond=1e-10)[0]
    np.testing.assert_allclose(
        np.concatenate([e.ravel() for e in lift]), least, rtol=0, atol=atol * np.linalg.norm(least)
    )
    # a gauge direction is vertical: (Omega W_1, -W_2 Omega, 0, ...) moves nothing and only adds norm
    omega = rng.standard_normal((case.rank + 1,) * 2)
    vertical = [omega @ net.factors[0], -net.factors[1] @ omega] + [np.zeros_like(f) for f in net.factors[2:]]
    assert abs(sum(np.vdot(a, b) for a, b in zip(lift, vertical, strict=True))) < atol * np.linalg.norm(least) * 10
    other = [a + 0.1 * b for a, b in zip(lift, vertical, strict=True)]
    np.testing.assert_allclose(
        product_derivative(net.factors, other), dense, rtol=0, atol=10 * atol * np.linalg.norm(dense)
    )
    assert sum(np.vdot(e, e) for e in other) > squared * (1 + 1e-6)  # control: another lift is longer


def test_lift_takes_a_dense_matrix_and_drops_its_normal_part(rng):
    w = lrf.random_point(6, 5, 2, rng=rng)
    net = lrf.LinearNetwork.balanced(w, 3)
    z = rng.standard_normal((6, 5))
    moved = product_derivative(net.factors, lrf.horizontal_lift(net, z))
    np.testing.assert_allclose(moved, tangent_projection(w, z), rtol=0, atol=1e-12)


def test_lift_wants_balance(rng):
    net = unbalance(lrf.LinearNetwork.balanced(lrf.random_point(6, 5, 2, rng=rng), 3), rng)
    with pytest.raises(ValueError, match="not balanced"):
        lrf.horizontal_lift(net, np.ones((6, 5)))


# ---------------------------------------------------------------------------------------------------------------------
# projections and symmetries


@given(m=st.integers(1, 7), n=st.integers(1, 7), seed=st.integers(0, 2**32 - 1))
def test_projection_is_idempotent_and_closest(m, n, seed):
    rng = np.random.default_rng(seed)
    w = lrf.random_point(m, n, int(rng.integers(1, min(m, n) + 1)), rng=rng)
    g = rng.standard_normal((m, n))
    z = lrf.project(w, g)
    dense = z.at(w).to_dense()
    np.testing.assert_allclose(dense, tangent_projection(w, g), rtol=0, atol=200 * EPS)
    np.testing.assert_allclose(lrf.project(w, dense).at(w).to_dense(), dense, rtol=0, atol=200 * EPS)
    np.testing.assert_allclose(w.u.T @ z.up, 0, atol=200 * EPS)
    np.testing.assert_allclose(w.vt @ z.vp, 0, atol=200 * EPS)
    other = lrf.project(w, rng.standard_normal((m, n))).at(w).to_dense()
    assert abs(np.vdot(g - dense, other)) < 2000 * EPS  # the rest is normal to every tangent vector


def test_the_gradient_is_only_multiplied(rng):
    """Dense, sparse and operator gradients give the same answer, and an operator is never densified."""
    from scipy import sparse

    w = lrf.random_point(6, 5, 2, rng=rng)
    loss = completion(6, 5, rng)
    g = loss.gradient(w)
    assert sparse.issparse(g)

    class Multiplied:
        __array_ufunc__ = None
        shape = g.shape

        def __init__(self, a):
            self.a, self.shape = a, a.shape

        @property
        def T(self):
            return Multiplied(self.a.T)

        def __matmul__(self, x):
            return self.a @ x

        def __array__(self, *args, **kwargs):
            raise AssertionError("densified")

    want = lrf.riemannian_gradient(w, g.toarray(), lrf.DepthMetric(3))
    for form in (g, Multiplied(g), sparse.linalg.aslinearoperator(g)):
        assert (lrf.riemannian_gradient(w, form, lrf.DepthMetric(3)) - want).norm() < 100 * EPS * want.norm()
    net = lrf.LinearNetwork.balanced(w, 3)
    for got, dense in zip(lrf.gradients.pullback(net, Multiplied(g)), lrf.gradients.pullback(net, g.toarray()), strict=True):
        np.testing.assert_allclose(got, dense, rtol=0, atol=100 * EPS * want.norm())


@pytest.mark.parametrize("depth", DEPTHS)
def test_start_of_the_theory_cases(depth, rng):
    """The product of `balanced_factors`, the oracle, is W: or the whole file proves nothing."""
    w = Start(6, 5, (1.0, 1.0, 0.5)).draw(rng)
    np.testing.assert_allclose(chain(balanced_factors(w, depth)), w.to_dense(), rtol=0, atol=20 * EPS)


@pytest.mark.parametrize("shape", [(1, 1), (7, 4), (1300, 900), (1, 1_100_000)])
def test_both_sides_are_two_products(shape, rng):
    """Of arrays in either order, of views, of sums with a product: also of arrays so large that they are read in blocks."""
    a = rng.standard_normal(shape)
    v, u = rng.standard_normal((shape[1], 2)), rng.standard_normal((shape[0], 2))
    low = Product(u, v.T)
    for g in (a, np.asfortranarray(a), a[:, ::-1], low, OperatorSum(a, low)):
        for found, want in zip(both_sides(g, v, u), (g @ v, g.T @ u), strict=True):
            # sums of as many terms as the shape says, in another order: their roundoff adds up as a root
            assert np.linalg.norm(found - want) <= 100 * EPS * np.linalg.norm(want)
    other = both_sides(a + 1e-9, v, u)[0]  # control
    assert np.linalg.norm(other - a @ v) > 1e-12 * np.linalg.norm(a @ v)
