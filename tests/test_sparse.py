"""Sparse observations: the same answers as dense ones, and nothing of size m x n on the way."""

import gc
import importlib.util
import subprocess
import sys
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from oracles import EPS, balanced_factors, chain, factor_flow

import lowrankflow as lrf
from lowrankflow import entries

MB = 2**20


class DenseMask:
    """The same loss on arrays of size m x n: the oracle, and what the memory test must catch."""

    def __init__(self, loss):
        self.shape, self.rows, self.cols, self.values = loss.shape, loss.rows, loss.cols, loss.values

    def residual(self, w):
        dense = w if isinstance(w, np.ndarray) else w.to_dense()
        out = np.zeros(self.shape)
        out[self.rows, self.cols] = dense[self.rows, self.cols] - self.values
        return out

    def value(self, w):
        return 0.5 * float((self.residual(w) ** 2).sum())

    def gradient(self, w):
        return self.residual(w)


def problem(m, n, observed, rank, rng):
    """Distinct random positions of a random low-rank matrix, and a start."""
    keys = np.unique(rng.integers(0, m * n, observed))
    rows, cols = np.divmod(keys, n)
    target = lrf.random_point(m, n, rank, rng=rng, singular_values=np.linspace(2, 1, rank) * np.sqrt(m * n / 10))
    loss = lrf.losses.Completion(rows, cols, target.entries(rows, cols), (m, n))
    start = lrf.random_point(m, n, rank, rng=rng, singular_values=np.full(rank, 0.1 * np.sqrt(m * n / 10)))
    return loss, start


# ---------------------------------------------------------------------------------------------------------------------
# the same answers


@pytest.mark.parametrize("metric", [lrf.DepthMetric(2), lrf.DepthMetric(3), lrf.EmbeddedMetric()], ids=str)
def test_gradient_is_that_of_the_dense_loss(metric, rng):
    loss, w = problem(40, 30, 300, 3, rng)
    dense = DenseMask(loss)
    np.testing.assert_allclose(loss.value(w), dense.value(w), rtol=1e-13)
    a = lrf.riemannian_gradient(w, loss.gradient(w), metric)
    b = lrf.riemannian_gradient(w, dense.gradient(w), metric)
    # sums of some 300 products
    assert (a - b).norm() < 1000 * EPS * b.norm()
    net = lrf.LinearNetwork.balanced(w, 3, widths=(4, 6), rng=rng)
    for x, y in zip(lrf.factor_gradients(loss, net), lrf.factor_gradients(dense, net), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1000 * EPS * max(1.0, np.linalg.norm(y)))


@pytest.mark.parametrize("depth", [2, 3])
def test_trajectory_is_that_of_the_dense_loss(depth, rng):
    """Against the library on the dense loss, same steps to roundoff; and against a factor flow by hand."""
    loss, w = problem(20, 15, 120, 2, rng)
    w = lrf.LowRankMatrix(w.u, w.s / np.sqrt(20 * 15 / 10), w.vt)
    loss = lrf.losses.Completion(loss.rows, loss.cols, loss.values / np.abs(loss.values).max(), loss.shape)
    dense, times = DenseMask(loss), [0.5, 1.0]

    def run(x):
        save = lrf.Save(times=times)
        path = lrf.integrate(lrf.RiemannianFlow(x, lrf.DepthMetric(depth)), w, t_span=(0, 1), rtol=1e-11, save=save)
        return np.array([p.to_dense() for p in path.points[1:]])

    sparse = run(loss)
    # rtol = 1e-11 over some fifty steps, in case a step is chosen otherwise; LSODA accumulates more, see test_charts
    np.testing.assert_allclose(sparse, run(dense), rtol=0, atol=1e-10)
    by_hand = factor_flow(dense.gradient, balanced_factors(w, depth), times)
    np.testing.assert_allclose(sparse, [chain(fs) for fs in by_hand], rtol=0, atol=1e-8)
    assert np.abs(sparse[-1] - w.to_dense()).max() > 1e-3


# ---------------------------------------------------------------------------------------------------------------------
# two kernels, one answer


MANY = 2**19  # from so many entries on numba compiles a loop of its own
INDICES = pytest.mark.parametrize("index", [np.int32, np.intp], ids=["int32", "intp"])


def anew(monkeypatch, numba):
    """The module as it is imported where this is numba, or None; the one in use keeps what it has compiled."""
    monkeypatch.setitem(sys.modules, "numba", numba)
    spec = importlib.util.spec_from_file_location("lowrankflow.entries", entries.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.sampled_product


@pytest.fixture(params=["numpy", "many", "compiled"])
def sampled(request, monkeypatch):
    """The product by numpy, as it is taken for few positions and for many without numba, and by numba; how many are taken."""
    if request.param == "compiled":
        pytest.importorskip("numba")
    sample = anew(monkeypatch, None) if request.param == "many" else entries.sampled_product
    return sample, 40_000 if request.param == "numpy" else MANY


def factors_and_positions(index, rng, size):
    """Sizes of the terms over six decades, so that they cancel."""
    scale = np.logspace(0, 3, 3)
    left, right = rng.standard_normal((70, 3)) * scale, rng.standard_normal((50, 3)) * scale
    return left, right.T, rng.integers(0, 70, size).astype(index), rng.integers(0, 50, size).astype(index)


@INDICES
def test_kernels_agree_with_the_dense_product(sampled, index, rng):
    sample, size = sampled
    left, right, rows, cols = factors_and_positions(index, rng, size)
    # a sum of k products, in any order: k eps / 2 times the sum of their sizes, on either side
    bound = left.shape[1] * EPS * (np.abs(left) @ np.abs(right))[rows, cols]
    want = (left @ right)[rows, cols]
    assert (np.abs(sample(left, right, rows, cols) - want) <= bound).all()
    # the control: one term of three left out, one position beside
    for wrong in (sample(left[:, :-1], right[:-1], rows, cols), sample(left, right, rows, cols[::-1])):
        assert (np.abs(wrong - want) > bound).mean() > 0.9


def test_the_loop_that_is_compiled_agrees_too(monkeypatch, rng):
    """As Python runs it."""
    sample = anew(monkeypatch, SimpleNamespace(njit=lambda **options: lambda loop: loop, config=SimpleNamespace()))
    left, right, rows, cols = factors_and_positions(np.int32, rng, MANY)
    bound = left.shape[1] * EPS * (np.abs(left) @ np.abs(right))[rows, cols]
    assert (np.abs(sample(left, right, rows, cols) - (left @ right)[rows, cols]) <= bound).all()


def test_kernels_hand_on_what_is_not_finite(sampled, rng):
    """Trial states may hold NaN and infinity; a compiler told that there are none could drop them."""
    sample, size = sampled
    left, right, rows, cols = factors_and_positions(np.int32, rng, size)
    left[3, 2], left[5, 0], right[1, 7] = np.nan, np.inf, -np.inf
    finite = (rows != 3) & (rows != 5) & (cols != 7)
    with np.errstate(invalid="ignore"):  # inf - inf, as in `integrate`
        got = sample(left, right, rows, cols)
    assert np.isnan(got[rows == 3]).all()
    assert np.isinf(got[(rows == 5) & (cols != 7)]).all()
    np.testing.assert_array_equal(np.isfinite(got), finite)


def test_kernels_never_read_outside(sampled, rng):
    sample, size = sampled
    left, right, rows, cols = factors_and_positions(np.int32, rng, size)
    rows[:2], cols[2:4] = (-9, 1000), (-9, 1000)
    got = sample(left, right, rows, cols)
    np.testing.assert_array_equal(got, sample(left, right, rows.clip(0, 69), cols.clip(0, 49)))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_loss_is_the_same_through_the_compiled_kernel(reduction, rng):
    pytest.importorskip("numba")
    rows, cols = np.divmod(rng.permutation(900 * 700)[:MANY], 700)
    loss = lrf.losses.Completion(rows, cols, rng.standard_normal(MANY), (900, 700), reduction=reduction)
    w = lrf.random_point(900, 700, 3, rng=rng)
    z, weight = lrf.project(w, rng.standard_normal(w.shape)).at(w), 1.0 if reduction == "sum" else 1 / MANY
    dense, moved = DenseMask(loss), z.to_dense()[loss.rows, loss.cols]
    # entries of inner size 3 and 6, relative to their largest; the value squares and sums 2^19 of them
    for got, want in (
        (loss.value(w), weight * dense.value(w)),
        (loss.gradient(w).data, weight * dense.gradient(w)[loss.rows, loss.cols]),
        (loss.hessian(w, z).data, weight * moved),
    ):
        np.testing.assert_allclose(got, want, rtol=0, atol=100 * EPS * np.abs(want).max())
        # the control: the comparison sees a relative 1e-9
        assert np.abs((1 + 1e-9) * got - want).max() > 100 * EPS * np.abs(want).max()


@pytest.mark.parametrize("compiled", [True, False])
def test_which_kernel_depends_on_the_number_of_entries_alone(compiled, monkeypatch):
    """And on what the compiled loop is made for."""
    made = []

    def njit(**options):
        made.append(options)
        return lambda loop: loop

    numba = SimpleNamespace(njit=njit, config=SimpleNamespace(DISABLE_JIT=not compiled))
    left, right, many = np.ones((2, 1)), np.ones((1, 2)), np.zeros(MANY, np.int32)
    for rows, cols, pays in ((many[:-1], many[:-1], False), (many.astype(">i4"), many, False), (many, many, True)):
        assert (anew(monkeypatch, numba)(left, right, rows, cols) == 1).all()
        assert len(made) == (pays and compiled)
    assert not compiled or made[0]["fastmath"] == {"reassoc", "contract"}  # no NaN or infinity is assumed away


def test_numba_is_loaded_where_it_pays_and_leaves_no_trace(tmp_path):
    """Not at import, not for a small loss; on a large one serial, without a file and without a thread."""
    pytest.importorskip("numba")
    code = """
import sys, threading, numpy as np, lowrankflow as lrf
def value(p):
    rows, cols = np.divmod(np.arange(p) * 7, 4096)
    return lrf.losses.Completion(rows, cols, np.ones(p), (p // 512, 4096)).value(w(p // 512))
def w(m):
    return lrf.Product(np.ones((m, 1)), np.ones((1, 4096)))
value(2048), print("numba" in sys.modules), value(2**19), print("numba" in sys.modules)
print(threading.active_count(), "numba.np.ufunc.omppool" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["False", "True", "1", "False"]
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------------------------------------------------
# positions


@pytest.mark.parametrize("form", [np.int32, np.int64, np.uint8, np.float32, ">i4", list])
def test_any_whole_numbers_are_positions(form, rng):
    rows, cols = np.divmod(rng.permutation(7 * 9)[:40], 9)
    values = rng.standard_normal(40)
    given = [x.tolist() if form is list else x.astype(form) for x in (rows, cols)]
    kept = [np.array(x) for x in (*given, values)]
    loss = lrf.losses.Completion(*given, values, (7, 9))
    order = np.lexsort((cols, rows))
    for got, want in zip((loss.rows, loss.cols, loss.values), (rows, cols, values), strict=True):
        np.testing.assert_array_equal(got, want[order])
    assert loss.rows.dtype == loss.cols.dtype == np.intp
    loss.rows[:] = 0
    with pytest.raises(ValueError, match="read-only"):
        loss.values[:] = 0
    for x, y in zip((*given, values), kept, strict=True):  # what was given is neither sorted nor shared
        np.testing.assert_array_equal(x, y)


def test_positions_beyond_int32():
    """The narrow index type is left where a column does not fit in it."""
    n = 3_000_000_000

    class Ones:
        shape = (2, n)
        __matmul__ = None

        def entries(self, rows, cols):
            assert cols.max() == n - 1
            return np.ones(rows.size)

    loss = lrf.losses.Completion([1, 0, 1], [n - 1, 5, 2**31], [2.0, 3.0, 5.0], (2, n))
    assert loss.cols.tolist() == [5, 2**31, n - 1]
    gradient = loss.gradient(Ones())
    assert gradient.shape == (2, n)
    assert gradient.data.tolist() == [-2.0, -4.0, -1.0]
    assert gradient.indices.tolist() == [5, 2**31, n - 1]
    with pytest.raises(ValueError, match=rf"got \(1, {2**31}\) twice"):
        lrf.losses.Completion([1, 1, 0], [2**31, 2**31, 0], [1.0, 2.0, 3.0], (2, n))


def test_a_residual_does_not_touch_w(rng):
    """The residual is computed in place, in an array of its own and in double precision, whatever W is."""
    rows, cols = np.indices((3, 4)).reshape(2, -1)
    loss = lrf.losses.Completion(rows, cols, rng.standard_normal(12), (3, 4))
    for w in (np.ones((3, 4)), np.ones((3, 4), int), np.ones((3, 4), np.float32)):
        np.testing.assert_array_equal(loss.gradient(w).toarray().ravel(), 1 - loss.values)
        assert (w == 1).all()


# ---------------------------------------------------------------------------------------------------------------------
# memory


def traced(call):
    """Return what a call returns, and the most bytes it held at one time."""
    gc.collect()
    tracemalloc.start()
    try:
        return call(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def positions(p, n, rng):
    """Distinct, in no order."""
    return np.divmod(rng.permutation(np.unique(rng.integers(0, n * n, p))), n)


def test_memory_of_building_a_completion(rng):
    """16 bytes an observation are kept; at the worst moment positions as given and sorted (int32) and values: 24."""
    n, p = 2000, 300_000
    rows, cols = positions(p, n, rng)
    values = rng.standard_normal(rows.size)
    loss, peak = traced(lambda: lrf.losses.Completion(rows, cols, values, (n, n)))
    slack = 100 * n + 50_000  # a few vectors of one number a row
    assert peak < 24 * rows.size + slack
    # the control: sorting by lexsort, with its order, its keys and its result as intp
    order, more = traced(lambda: np.lexsort((cols, rows)))
    assert more + 3 * order.nbytes > 24 * rows.size + slack
    # a gradient: its data; the positions are those of the loss
    w = lrf.random_point(n, n, 3, rng=rng)
    # two gathered blocks of rows, and the frames
    blocks = 2 * 16384 * 3 * 8 + 6 * n * 3 * 8
    for call in (lambda: loss.gradient(w), lambda: loss.value_and_gradient(w), lambda: loss.hessian(w, w)):
        assert traced(call)[1] < 8 * rows.size + blocks + slack
    assert traced(lambda: lrf.losses.Completion(rows, cols, values, (n, n)).gradient(w).toarray())[1] > 8 * n * n


def peak_memory(loss, start, *, t_end, max_evaluations):
    """Bytes allocated at the worst moment of a few velocities, factor gradients and an integration, over the data."""

    def work():
        for metric in (lrf.DepthMetric(3), lrf.EmbeddedMetric()):
            system = lrf.SingularFrame().bind(lrf.RiemannianFlow(loss, metric), start)
            system.motion(0.0, system.y0)
            system.measure(system.y0)
        net = lrf.LinearNetwork.balanced(start, 3)
        lrf.riemannian_gradient_from_factors(net, lrf.factor_gradients(loss, net)).norm()
        path = lrf.integrate(
            lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), start, t_span=(0, t_end), rtol=1e-4,
            max_evaluations=max_evaluations, save=lrf.Save(integrals={"dissipated": lambda at: at.power}),
        )  # fmt: skip
        assert path.nsteps >= 2
        assert path.loss[-1] < path.loss[0]

    return traced(work)[1]


def test_memory_on_a_large_sparse_problem(rng):
    """20000 x 20000, 200 000 observations, rank 10: below 400 MB over the data, where one dense array has 3.2 GB."""
    m = n = 20_000
    loss, start = problem(m, n, 200_000, 10, rng)
    assert m * n * 8 > 3000 * MB
    assert peak_memory(loss, start, t_end=1.0, max_evaluations=60) < 400 * MB


def test_memory_measurement_catches_a_dense_loss(rng):
    """Control at 2000 x 2000, where one dense array has 32 MB: half of it separates the two losses."""
    loss, start = problem(2000, 2000, 20_000, 5, rng)
    bound = 2000 * 2000 * 8 / 2
    assert peak_memory(loss, start, t_end=1.0, max_evaluations=60) < bound
    assert peak_memory(DenseMask(loss), start, t_end=1.0, max_evaluations=30) > 2 * bound


@pytest.mark.parametrize("n", [6000])
def test_memory_of_few_samples_in_many_dimensions(n, rng):
    """LeastSquares with p << n keeps X X^T as a product: no n x n and no m x n array."""
    x, y = rng.standard_normal((n, 40)), rng.standard_normal((n, 40))
    tracemalloc.start()
    try:
        loss = lrf.losses.LeastSquares(x, y)
        w = lrf.random_point(n, n, 3, rng=rng)
        z = lrf.riemannian_gradient(w, loss.gradient(w), lrf.DepthMetric(3))
        loss.value(w)
        loss.hessian(w, z.at(w)).norm()
        loss.best_value(3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < n * n * 8 / 4
