"""The exact classification of critical points of the square loss, against dense Hessians that share no code with it."""

from itertools import combinations

import numpy as np
import pytest
from scipy.linalg import null_space

import lowrankflow as lrf
from lowrankflow import landscape
from lowrankflow.claims.populations import critical_point
from lowrankflow.landscape.canonical import canonical_form
from lowrankflow.landscape.nearest import nearest_place
from lowrankflow.landscape.places import GLOBAL, NON_STRICT, NOT_CRITICAL, STRICT, UNDECIDED
from lowrankflow.landscape.whitened import chain

KINDS = {GLOBAL, STRICT, NON_STRICT}


# ---------------------------------------------------------------------------------------------------------------------
# oracles: the claims have their own copies, and test_landscape_theory.py compares the two


def dense_hessian(factors, inputs, targets):
    """The Hessian of 1/2 ||W_N .. W_1 X - Y||^2 by the row-major rules J^T J + G + G^T, of the factors as they are."""
    n, x = len(factors), inputs
    after = [chain(factors[i + 1 :], factors[i].shape[0]) for i in range(n)]
    before = [chain(factors[:i], x.shape[0]) @ x for i in range(n)]
    residual = chain(factors, 0) @ x - targets
    jacobian = np.hstack([np.kron(a, b.T) for a, b in zip(after, before, strict=True)])
    hessian = jacobian.T @ jacobian
    ends = np.cumsum([0, *(f.size for f in factors)])
    for i in range(n):
        for j in range(i):
            middle = chain(factors[j + 1 : i], factors[j].shape[0])
            c = before[j] @ residual.T @ after[i]
            g = np.einsum("bc,da->abcd", middle, c).reshape(factors[i].size, factors[j].size)
            hessian[ends[i] : ends[i + 1], ends[j] : ends[j + 1]] += g
            hessian[ends[j] : ends[j + 1], ends[i] : ends[i + 1]] += g.T
    return hessian


def gradient(factors, inputs, targets):
    residual = (chain(factors, 0) @ inputs - targets) @ inputs.T
    return [
        chain(factors[i + 1 :], f.shape[0]).T @ residual @ chain(factors[:i], inputs.shape[0]).T
        for i, f in enumerate(factors)
    ]


# ---------------------------------------------------------------------------------------------------------------------
# random critical points


class Drawn:
    """A random critical point of the claims, some of them not clear; its spectrum and class by the oracles above alone."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.point = critical_point(self.rng, clear=False)

    def __getattr__(self, name):
        return getattr(self.point, name)

    @property
    def spectrum(self):
        """Eigenvalues of the dense Hessian in whitened coordinates, over their scale, which counts the targets too."""
        f = self.problem.factors(self.network)
        found = np.linalg.eigvalsh(dense_hessian(f, np.eye(self.problem.shape[1]), self.problem.target))
        return found / max(found[-1], 2 * self.problem.sigma[0])

    @property
    def truth(self):
        """The class by the value and by the least eigenvalue."""
        least = self.problem.value(range(self.problem.best_rank(self.sizes)))
        if self.value - least <= 1e-9 * float((self.targets**2).sum()):
            return GLOBAL
        return STRICT if self.spectrum[0] < -1e-9 else NON_STRICT


POINTS = range(1000)


@pytest.fixture(scope="module")
def points():
    return [Drawn(seed) for seed in POINTS]


@pytest.fixture(scope="module")
def places(points):
    return [landscape.classify(p.network, p.loss) for p in points]


def test_the_points_are_of_every_kind(points):
    """Every class at every depth where it exists, targets of lower rank, and more targets than inputs, among them."""
    kinds = {(p.depth, p.truth) for p in points}
    assert kinds == {(d, k) for d in (2, 3, 4, 5) for k in KINDS} - {(2, NON_STRICT)}  # at depth 2 all saddles are strict
    assert sum(p.problem.target_rank < p.problem.shape[0] for p in points) > 100
    assert sum(p.problem.transposed for p in points) > 200


def test_built_points_are_critical(points):
    """By the gradient in the coordinates of the factors, against the size of what cancels in it."""
    for p in points:
        f = p.network.factors
        norms = [np.linalg.norm(a, 2) for a in f]
        terms = np.linalg.norm(p.inputs, 2) ** 2 * np.prod(norms) + np.linalg.norm(p.targets @ p.inputs.T, 2)
        for j, g in enumerate(gradient(f, p.inputs, p.targets)):
            # condition of X X^T up to 1e4 among the draws, and 4 bases of condition e
            assert np.linalg.norm(g) <= 1e-10 * terms * max(1.0, np.prod(np.delete(norms, j)))
        assert p.value == pytest.approx(p.problem.value(p.index_set), abs=1e-11 * (p.targets**2).sum())


def test_no_point_is_of_another_class_than_its_hessian_says(points, places):
    assert [(i, a.kind, p.truth) for i, (a, p) in enumerate(zip(places, points, strict=True)) if a.kind != p.truth] == []


def test_index_sets_values_and_ranks(points, places):
    for p, a in zip(points, places, strict=True):
        assert a.index_set == tuple(i + 1 for i in p.index_set) and a.rank == len(p.index_set)
        assert a.critical_value == pytest.approx(p.value, abs=1e-11 * (p.targets**2).sum())
        assert a.exact and a.margin > 10 and a.nearby is None and a.distance == 0


def test_inertia_where_it_is_known(points, places):
    """Negative and zero eigenvalues of the dense Hessian, of what is said: integers."""
    known = 0
    for p, a in zip(points, places, strict=True):
        spectrum = p.spectrum
        if a.morse_index is not None:
            known += 1
            assert a.morse_index == (spectrum < -1e-9).sum()
        if a.nullity is not None:
            known += 1
            assert a.nullity == (np.abs(spectrum) <= 1e-9).sum()
    assert known > 1000


def test_ranks_of_complementary_blocks(points, places):
    """At no pivot is one below r; the tightened ones follow from the ranks; at depth 2 below r* no point is tightened."""
    for p, a in zip(points, places, strict=True):
        for pivot in a.pivots:
            assert min(pivot.outer, pivot.inner) >= a.rank
            assert pivot.tightened == (min(pivot.outer, pivot.inner) == a.rank)
        if a.pivots:
            assert (a.kind == NON_STRICT) == all(pivot.tightened for pivot in a.pivots)
            assert p.depth > 2 or not all(pivot.tightened for pivot in a.pivots)


def test_the_order_is_that_of_the_least_set_of_layers(points, places):
    """Against all sets of layers, by ranks of the blocks between them: products of the factors, and r."""
    for p, a in zip(points, places, strict=True):
        if a.kind != NON_STRICT:
            continue
        f, t = p.problem.factors(p.network), p.problem.target
        sizes = [f[0].shape[1], *(x.shape[0] for x in f)]

        def more(i, j, f=f, t=t, sizes=sizes, r=a.rank):
            """Whether the block between layers i < j, or around from i on to j, has rank above r."""
            after = chain(f[i + 1 : j if i < j else None], sizes[i + 1])
            block = after if i < j else chain(f[:j], sizes[0]) @ t.T @ after
            return np.linalg.matrix_rank(block, tol=1e-8) > r

        n = p.depth
        orders = [
            m
            for m in range(2, n + 1)
            for layers in combinations(range(n), m)
            if all(more(i, j) for i, j in zip(layers, (*layers[1:], layers[0]), strict=True))
        ]
        assert a.order == min(orders)


def test_the_round_trip_through_the_canonical_form(points):
    for p in points:
        f = p.problem.factors(p.network)
        back = canonical_form(p.problem, f, p.index_set).factors()
        # bases of condition e^1 at most, four of them, and sigma_r above 0.1
        assert max(np.abs(a - b).max() for a, b in zip(f, back, strict=True)) <= 1e-10 * max(map(np.linalg.norm, f))


def test_lines_out_of_saddles_are_exact(points, places):
    """L(W + tV) = L - a t^m + b t^k at every saddle, of every order that is there; the loss comes down by a measured amount."""
    orders, exact, saddles = set(), 0, sum(a.kind != GLOBAL for a in places)
    for p, a in zip(points, places, strict=True):
        if a.kind == GLOBAL:
            with pytest.raises(ValueError, match=r"^`network` must be at a saddle, got one that is global minimiser"):
                landscape.escape(p.network, p.loss, place=a)
            continue
        out = landscape.escape(p.network, p.loss, place=a)
        orders.add(out.order)
        assert out.order == a.order and out.descent > 0
        assert sum(np.linalg.norm(v) ** 2 for v in out.directions) == pytest.approx(1.0)
        scale = float((p.targets**2).sum()) + out.descent + out.rise
        for t in (0.1, 0.5, 1.0):
            assert p.loss.value(out.at(t)) <= out.loss(t) + 1e-9 * scale
            assert not out.exact or p.loss.value(out.at(t)) == pytest.approx(out.loss(t), abs=1e-9 * scale)
        exact += out.exact
        t = min(1.0, out.best)
        assert p.loss.value(out.at(t)) < out.value - 0.5 * out.descent * t**out.order + 1e-12 * scale
    assert orders == {2, 3, 4, 5} and exact > 0.98 * saddles


# ---------------------------------------------------------------------------------------------------------------------
# controls


def test_a_perturbed_point_does_not_pass_as_critical(points):
    for p in points[:200]:
        off = [f + 1e-4 * p.rng.standard_normal(f.shape) for f in p.network.factors]
        assert landscape.classify(lrf.LinearNetwork(off), p.loss, nearby=False).kind == NOT_CRITICAL


def test_a_wrong_index_set_is_no_canonical_form(points):
    """With another S of that size the form does not give the factors back, or there is none."""
    tried = 0
    for p in points:
        free = [i for i in range(p.problem.target_rank) if i not in p.index_set]
        if not p.index_set or not free:
            continue
        tried += 1
        wrong = (*p.index_set[1:], free[0])
        f = p.problem.factors(p.network)
        try:
            back = canonical_form(p.problem, f, wrong).factors()
        except np.linalg.LinAlgError:
            continue
        assert max(np.abs(a - b).max() for a, b in zip(f, back, strict=True)) > 1e-3
    assert tried > 150


def test_the_narrowest_layer_in_place_of_the_best_rank_would_be_wrong(points, places):
    """Minimisers of targets of lower rank have less rank than every layer: by that they would be called saddles."""
    fooled = [
        a for p, a in zip(points, places, strict=True) if a.kind == GLOBAL and a.rank < min(p.sizes) and p.truth == GLOBAL
    ]
    assert len(fooled) > 20


def test_the_sign_of_the_least_eigenvalue_over_its_own_scale_would_be_wrong():
    """At the origin of three factors the Hessian is zero: over the largest eigenvalue its roundoff has any sign."""
    loss = lrf.losses.LeastSquares(np.eye(2), np.diag([2.0, 1.0]))
    here = landscape.classify(lrf.LinearNetwork([np.zeros((2, 2))] * 3), loss)
    assert (here.kind, here.order, here.index_set, here.critical_value) == (NON_STRICT, 3, (), 2.5)


# ---------------------------------------------------------------------------------------------------------------------
# nearby


@pytest.mark.parametrize("size", [1e-8, 1e-5, 1e-3])
def test_points_near_critical_ones_are_told(points, places, size):
    """At most 1 % may be left undecided, and the distance is not above what they were moved by, but for a few.

    Each factor is moved by a part of its own size: by a part of the largest, small ones would be no longer there. Of some
    ten thousand products that decide a few are as small as what a point is moved by, and then another class is as near: 1 %
    of the points, 2 % where they are moved by a thousandth.
    """
    undecided = wrong = 0
    ratios = []
    chosen = range(0, 1000, 8)
    for i in chosen:
        p, a = points[i], places[i]
        rng = np.random.default_rng(i)
        norms = [float(np.linalg.norm(f)) for f in p.network.factors]
        least = min((v for v in norms if v > 1e-12), default=1.0)
        noise = [rng.standard_normal(f.shape) for f in p.network.factors]
        noise = [size * max(v, least) * z / np.linalg.norm(z) for v, z in zip(norms, noise, strict=True)]
        moved = lrf.LinearNetwork([f + z for f, z in zip(p.network.factors, noise, strict=True)])
        by = np.sqrt(sum(np.linalg.norm(z) ** 2 for z in noise))
        near = nearest_place(p.problem, moved, 1e-8)
        undecided += near.kind == UNDECIDED
        wrong += near.kind in KINDS and (near.kind, near.index_set) != (a.kind, a.index_set)
        ratios.append(near.distance / by)
        if near.kind in KINDS:
            assert landscape.classify(near.network, p.loss).kind == near.kind
    assert undecided <= 0.01 * len(chosen) and wrong <= (0.01 if size < 1e-4 else 0.02) * len(chosen)
    assert np.median(ratios) < 1.0 and np.quantile(ratios, 0.9) < 3.0


def test_a_network_stopped_on_a_plateau_is_near_the_saddle_of_its_rank():
    """The Hessian there has negative eigenvalues and the gradient is small: neither says what it is near."""
    loss = lrf.losses.LeastSquares(np.eye(4), np.diag([4.0, 2.0, 1.0, 0.5]))
    start = lrf.random_point(4, 4, 4, rng=0, singular_values=np.full(4, 1e-6))
    net = lrf.LinearNetwork.balanced(start, 3, widths=4, rng=1)
    path = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0.0, 200.0), rtol=1e-8)
    i = int(np.argmax(path.singular_values[:, 0] > 3.99))
    assert path.singular_values[i, 1] < 0.1
    here = landscape.classify(path.points[i], loss)
    assert here.kind == NOT_CRITICAL and here.nearby.kind == NON_STRICT
    assert here.nearby.index_set == (1,) and here.nearby.order == 3
    assert here.nearby.distance < 1.0 < np.linalg.norm(path.points[i].factors[0])


def test_far_from_everything():
    loss = lrf.losses.LeastSquares(np.eye(2), np.diag([2.0, 1.0]))
    far = lrf.LinearNetwork([100 * np.eye(2), np.array([[3.0, 1.0], [2.0, -40.0]])])
    here = landscape.classify(far, loss)
    assert here.kind == NOT_CRITICAL and here.gradient > 0.1
    assert here.nearby is not None and here.nearby.distance > 1.0


# ---------------------------------------------------------------------------------------------------------------------
# assumptions that do not hold


def test_equal_singular_values(rng):
    """Any rotation within a group is critical: how many of it are learned counts, and the class is that of the count."""
    loss = lrf.losses.LeastSquares(np.eye(4), np.diag([2.0, 2.0, 2.0, 1.0]))
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    v = np.zeros((4, 2))
    v[:3] = turn[:, :2]
    net = lrf.LinearNetwork([v.T, 2 * v])
    here = landscape.classify(net, loss)
    assert (here.kind, here.rank, here.index_set, here.critical_value) == (GLOBAL, 2, (1, 2), 2.5)
    assert any("equal singular values" in note for note in here.notes)
    v[:, 1] = np.eye(4)[3]
    here = landscape.classify(lrf.LinearNetwork([v.T, (v * [2.0, 1.0])]), loss)
    assert (here.kind, here.index_set) == (STRICT, (1, 4))


def test_inputs_that_some_directions_miss(rng):
    """What no sample sees is left out, and it says so; a rounding leaves it as it is."""
    inputs = np.vstack([np.eye(3), np.zeros((2, 3))])
    loss = lrf.losses.LeastSquares(inputs, np.diag([3.0, 2.0, 1.0]))
    net = landscape.random_minimiser(loss, 3, widths=4, rng=rng)
    unseen = np.vstack([np.zeros((3, 4)), rng.standard_normal((2, 4))]).T
    net = lrf.LinearNetwork([net.factors[0] + unseen, *net.factors[1:]])
    here = landscape.classify(net, loss)
    assert here.kind == GLOBAL and any("rank 3 of 5" in note for note in here.notes)
    hessian = np.linalg.eigvalsh(dense_hessian(net.factors, inputs, np.diag([3.0, 2.0, 1.0])))
    assert here.nullity == (np.abs(hessian) < 1e-9 * hessian[-1]).sum()
    moved = lrf.LinearNetwork([f + 1e-3 * rng.standard_normal(f.shape) for f in net.factors])
    near = landscape.classify(moved, loss).nearby
    assert near.kind == GLOBAL
    np.testing.assert_allclose(near.network.factors[0][:, 3:], moved.factors[0][:, 3:], atol=1e-12)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_the_unit_does_not_matter(scale):
    for seed in range(40):
        p = Drawn(seed)
        loss = lrf.losses.LeastSquares(p.inputs * scale, p.targets * scale**2)
        root = scale ** (1 / p.depth)
        net = lrf.LinearNetwork([f * root for f in p.network.factors])
        a, b = landscape.classify(p.network, p.loss), landscape.classify(net, loss)
        assert (a.kind, a.index_set, a.order, a.morse_index) == (b.kind, b.index_set, b.order, b.morse_index)


def test_other_losses_are_judged_by_numbers(rng):
    y = rng.standard_normal((3, 4))
    loss = lrf.losses.from_function(lambda w: ((w - y) ** 4).sum(), shape=(3, 4), convex=True)
    origin = lrf.LinearNetwork([np.zeros((3, 4)), np.zeros((3, 3))])
    here = landscape.classify(origin, loss)
    assert not here.exact and here.kind == STRICT and "no exact theory" in here.notes[0]
    deeper = lrf.LinearNetwork([np.zeros((3, 4)), np.zeros((3, 3)), np.zeros((3, 3))])
    assert landscape.classify(deeper, loss).kind == UNDECIDED  # its Hessian is zero
    there = lrf.LinearNetwork([rng.standard_normal((3, 4)), rng.standard_normal((3, 3))])
    assert landscape.classify(there, loss).kind == NOT_CRITICAL
    best = lrf.LinearNetwork([y, np.eye(3)])
    assert landscape.classify(best, loss).kind == GLOBAL


def diagonal(sigma, index_set):
    """A depth-2 network with these pairs of diagonal targets, and the loss."""
    frame = np.eye(len(sigma))[:, list(index_set)]
    loss = lrf.losses.LeastSquares(np.eye(len(sigma)), np.diag(sigma))
    return lrf.LinearNetwork([frame.T * np.array(sigma)[list(index_set)][:, None], frame]), loss


@pytest.mark.parametrize(
    ("sigma", "index_set"),
    [
        ((5, 3, 3), (1, 2)), ((5, 3, 3 - 1e-11), (1, 2)), ((5, 3, 3, 1), (1, 2)), ((3, 1, 1, 1), (1, 2)),
        ((3, 3, 1, 1, 1), (0, 3, 4)),
    ],
)  # fmt: skip
def test_a_tied_group_does_not_make_up_for_a_larger_pair_that_is_missing(sigma, index_set):
    net, loss = diagonal(sigma, index_set)
    here = landscape.classify(net, loss)
    hessian = np.linalg.eigvalsh(dense_hessian(net.factors, np.eye(len(sigma)), np.diag(sigma)))
    assert here.kind == STRICT and here.morse_index == (hessian < -1e-8).sum() > 0


@pytest.mark.parametrize("small", [1e-7, 1e-9, 1e-11])
def test_a_tiny_pair_that_is_missing_makes_a_strict_saddle_at_depth_two(small):
    """Its least eigenvalue is minus that; at 1e-13 the pair is roundoff, and that is said."""
    net = lrf.LinearNetwork([np.diag([1.0, 0.0])] * 2)
    here = landscape.classify(net, lrf.losses.LeastSquares(np.eye(2), np.diag([1.0, small])))
    assert (here.kind, here.order, here.morse_index) == (STRICT, 2, 1)
    here = landscape.classify(net, lrf.losses.LeastSquares(np.eye(2), np.diag([1.0, 1e-13])))
    assert here.kind == GLOBAL and "whitened targets of rank 1 below 2" in here.notes[0]


@pytest.mark.parametrize("size", [1e6, 1.0, 1e-6, 1e-10, 1e-12])
def test_the_size_of_a_factor_beside_zeros_does_not_matter(size):
    loss = lrf.losses.LeastSquares(np.eye(2), np.diag([2.0, 1.0]))
    zero = np.zeros((2, 2))
    assert landscape.classify(lrf.LinearNetwork([size * np.eye(2), zero, zero]), loss).kind == STRICT


def test_targets_that_the_inputs_say_nothing_of(rng):
    """Whitened they are roundoff: everything with product zero is a minimiser, and no claim is made."""
    t = np.linspace(-1, 1, 11)
    loss = lrf.losses.LeastSquares(np.array([t, t**3]), (t**2 - np.mean(t**2))[None])
    for net in ([[[0.1, 0.2]], [[0.0]]], [np.zeros((1, 2)), np.zeros((1, 1)), np.zeros((1, 1))]):
        here = landscape.classify(lrf.LinearNetwork(net), loss)
        assert here.kind == GLOBAL and "whitened targets of rank 0" in here.notes[0]
    nothing = lrf.losses.LeastSquares(np.eye(2), np.zeros((2, 2)))
    f = [np.array([[0.1, 0.3], [0.2, 0.6]]), np.array([[0.6, -0.3], [0.2, -0.1]])]  # their product is roundoff
    assert landscape.classify(lrf.LinearNetwork(f), nothing).kind == GLOBAL
    assert not list(lrf.compare.place_report(lrf.LinearNetwork(f), nothing))


def test_what_a_lone_sample_does_not_see(rng):
    for _ in range(50):
        x = rng.standard_normal((2, 1))
        net = lrf.LinearNetwork([np.array([[x[1, 0], -x[0, 0]]]) / 3, np.zeros((1, 1))])  # W_1 x is roundoff
        assert landscape.classify(net, lrf.losses.LeastSquares(x, np.ones((1, 1)))).kind == STRICT


def test_the_order_at_rotated_targets_of_rank_one(rng):
    u, v = rng.standard_normal((3, 1)), rng.standard_normal((2, 1))
    net = lrf.LinearNetwork([np.array([[v[1, 0], -v[0, 0]]]), np.zeros((2, 1)), np.zeros((3, 2))])
    here = landscape.classify(net, lrf.losses.LeastSquares(np.eye(2), u @ v.T))
    assert (here.kind, here.order) == (NON_STRICT, 3)


# ---------------------------------------------------------------------------------------------------------------------
# builders


def test_critical_values_come_in_order_with_their_multiplicities():
    loss = lrf.losses.LeastSquares(np.eye(5), np.diag([3.0, 2.0, 2.0, 1.0, 0.0]))
    squares = np.array([9.0, 4.0, 4.0, 1.0])
    brute = sorted(
        0.5 * (18.0 - squares[list(s)].sum()) for r in range(4) for s in combinations(range(4), r)
    )
    found = list(landscape.critical_values(loss, 3))
    assert np.repeat([v.value for v in found], [v.multiplicity for v in found]) == pytest.approx(brute)
    assert [v.value for v in found] == sorted(v.value for v in found) and found[0].index_set == (1, 2, 3)
    assert len(list(landscape.critical_values(loss, 2, only=True))) == 4
    many = lrf.losses.LeastSquares(np.eye(64), np.diag(np.linspace(1, 2, 64)))
    first = [v for v, _ in zip(landscape.critical_values(many, 10), range(50), strict=False)]
    assert len(first) == 50 and first[0].index_set == tuple(range(1, 11))


def test_critical_points_on_the_manifold_of_fixed_rank(rng):
    """Hessian of 1/2 ||.||^2 on the rank-k manifold by second differences along curves of that rank, in whitened data."""
    loss = lrf.losses.LeastSquares(np.eye(4), np.diag([4.0, 3.0, 2.0, 1.0])[:3])
    for s in ([1], [3], [1, 3], [2, 3], [1, 2]):
        w = landscape.critical_matrix(loss, s)
        assert lrf.project(w, loss.gradient(w)).norm() < 1e-13
        eigenvalues, index = landscape.manifold_hessian(loss, s)
        assert eigenvalues.size == len(s) * (3 + 4 - len(s)) and index == (eigenvalues < -1e-12).sum()
        u, v = w.u, w.vt.T
        up, vp = null_space(u.T), null_space(v.T)
        z = w.u.T @ w.to_dense() @ v
        # W(t) = (U + Up X t) (S + M t) (V + Vp Y t)^T: its second derivative of the loss, over the norm of W'(0)
        count, k, h = eigenvalues.size, len(s), 1e-3
        frame = []
        for e in np.eye(count):
            m, x, y = np.split(e, [k * k, k * k + (3 - k) * k])
            frame.append((m.reshape(k, k), x.reshape(3 - k, k) @ np.linalg.inv(z), y.reshape(4 - k, k) @ np.linalg.inv(z.T)))

        def at(c, frame=frame, u=u, v=v, up=up, vp=vp, z=z):
            m, x, y = (sum(ci * part for ci, part in zip(c, parts, strict=True)) for parts in zip(*frame, strict=True))
            return (u + up @ x) @ (z + m) @ (v + vp @ y).T

        def value(c, at=at):
            return float(loss.value(at(c)))

        eye = np.eye(count)
        hessian = np.array(
            [
                [
                    (value(h * (a + b)) - value(h * (a - b)) - value(h * (b - a)) + value(-h * (a + b))) / (4 * h * h)
                    for b in eye
                ]
                for a in eye
            ]
        )
        # truncation h^2 of a polynomial of degree six, roundoff eps / h^2
        np.testing.assert_allclose(np.linalg.eigvalsh(hessian), eigenvalues, atol=1e-4)


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_saddles_of_every_order(depth, rng):
    loss = lrf.losses.LeastSquares(rng.standard_normal((4, 9)), rng.standard_normal((3, 9)))
    values = set()
    for rank in range(3):
        for order in range(2, depth + 1):
            net = landscape.saddle(loss, depth, widths=4, rank=rank, order=order, spread=0.5, rng=rng)
            here = landscape.classify(net, loss)
            assert (here.rank, here.order, here.kind) == (rank, order, STRICT if order == 2 else NON_STRICT)
            values.add(round(here.critical_value, 9))
    assert len(values) == 3  # the value does not tell the kind


def test_random_minimisers(rng):
    for seed in range(60):
        p = Drawn(seed)
        if p.problem.target_rank == 0:
            continue
        hidden = p.sizes[1:-1][::-1] if p.problem.transposed else p.sizes[1:-1]
        net = landscape.random_minimiser(p.loss, p.depth, widths=hidden, rng=rng)
        best = p.problem.value(range(p.problem.best_rank(p.sizes)))
        assert p.loss.value(net) == pytest.approx(best, abs=1e-10 * (p.targets**2).sum())
        assert landscape.classify(net, p.loss).kind == GLOBAL


def test_balanced_critical_points_are_not_strict_where_the_leading_pairs_are_learned(rng):
    loss = lrf.losses.LeastSquares(rng.standard_normal((4, 9)), rng.standard_normal((4, 9)))
    for depth in (3, 4):
        for s in combinations(range(1, 5), 2):
            net = lrf.LinearNetwork.balanced(landscape.critical_matrix(loss, s), depth, widths=4, rng=rng)
            here = landscape.classify(net, loss)
            assert here.kind == (NON_STRICT if s == (1, 2) else STRICT) and here.index_set == s
            assert all(np.linalg.matrix_rank(f, tol=1e-8) == 2 for f in net.factors)


# ---------------------------------------------------------------------------------------------------------------------
# bad input

LOSS = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: landscape.classify(lrf.LinearNetwork([np.eye(2)] * 2), LOSS),
         r"^`network` has shape \(2, 2\) but the loss is defined on \(3, 3\)"),
        (lambda: landscape.classify(np.eye(3), LOSS), "^`network` must be a LinearNetwork"),
        (lambda: landscape.classify(lrf.LinearNetwork([np.eye(3)]), LOSS), "^`network` must have two factors or more, got 1"),
        (lambda: landscape.critical_network(LOSS, 3, widths=3, index_set=[4]), "^`index_set` must name singular pairs"),
        (lambda: landscape.critical_network(LOSS, 3, widths=3, index_set=[1, 1]), "^`index_set` must name singular pairs"),
        (lambda: landscape.critical_network(LOSS, 3, widths=1, index_set=[1, 2]), "^`index_set` must have at most 1 pairs"),
        (lambda: landscape.critical_network(LOSS, 3, widths=3, index_set=[1], blocks=[1, 2, 3]),
         "^`blocks` must have the shapes"),
        (lambda: landscape.critical_network(LOSS, 2, widths=3, index_set=[1], blocks=[np.ones((2, 3)), np.ones((2, 2))]),
         "^`blocks` must be such that every product"),
        (lambda: landscape.saddle(LOSS, 3, widths=3, rank=3), "^`rank` must be below 3"),
        (lambda: landscape.saddle(LOSS, 3, widths=3, rank=1, order=4), "^`order` must not exceed the depth, 3, got 4"),
        (lambda: landscape.critical_matrix(LOSS, []), "^`index_set` must name one pair at least"),
        (lambda: landscape.classify(lrf.LinearNetwork([1e160 * np.eye(3)] * 2), LOSS), "^`network` must be of a size"),
        (lambda: landscape.classify(lrf.LinearNetwork([np.eye(3)] * 2), LOSS, threshold=10), "^`threshold` must be below 1"),
        (lambda: landscape.escape(lrf.LinearNetwork([np.zeros((3, 3))] * 2), LOSS, place="x"), "^`place` must be"),
        (lambda: landscape.saddle(LOSS, 3, widths=3, rank=1, spread=400), "^`spread` must be at most 10"),
        (lambda: list(landscape.critical_values(LOSS, 2, tied=-1)), "^`tied` must be non-negative"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(call, says):
    with pytest.raises((ValueError, TypeError), match=says) as caught:
        call()
    assert "\n" not in str(caught.value)
