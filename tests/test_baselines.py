"""The baselines of the dynamical low-rank literature are what they are called: order, exactness, and where they lose it."""

import sys
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from cases import covering
from oracles import EPS, balanced_factors, fitted_slope, fukumizu

import lowrankflow as lrf

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from baselines import METHODS, gradient_field, march

T_END = 0.125
#: five halvings: the coarsest step is in the asymptotic range, the finest error of order four above 1e-13
STEPS = 2 ** np.arange(1, 7)
EACH_METHOD = pytest.mark.parametrize("name", METHODS)
#: both sides above 3 r, else the frames of midpoint BUG span everything and its S step is RK4 on all of W
SHAPES = {"8x7": (8, 7, (1.0, 0.5)), "7x8": (7, 8, (1.0, 0.5)), "rank1": (5, 4, (0.7,))}


def problem(m, n, values, depth):
    """A target of full rank, so that no frame of small rank holds the whole flow; a start; the flow."""
    rng = np.random.default_rng(0)
    target = rng.standard_normal((m, n)) / 2
    start = lrf.random_point(m, n, len(values), rng=rng, singular_values=np.array(values))
    return target, start, lrf.RiemannianFlow(lrf.losses.LeastSquares(np.eye(n), target), lrf.DepthMetric(depth))


def order_of(name, flow, start, exact):
    """The slope of the error of W(T) over the fixed window."""
    field = gradient_field(flow.loss, flow.metric)
    errors = [np.linalg.norm(march(METHODS[name].step, field, start, T_END, k).to_dense() - exact) for k in STEPS]
    return fitted_slope(T_END / STEPS, errors)


# ---------------------------------------------------------------------------------------------------------------------
# away from small singular values


@pytest.fixture(scope="module", params=SHAPES)
def solved(request):
    """Depth 2 with whitened data has a closed form: flow, start and W(T) with 50 digits."""
    target, start, flow = problem(*SHAPES[request.param], 2)
    return flow, start, fukumizu(target, *balanced_factors(start, 2), T_END)


@pytest.mark.parametrize(("name", "solved"), covering(product(METHODS, SHAPES), 1), indirect=["solved"])
def test_order(name, solved):
    slope = order_of(name, *solved)
    assert abs(slope - METHODS[name].order) < 0.15
    assert abs(slope - METHODS[name].order - 1) > 0.5  # control: one order more is told apart


@EACH_METHOD
def test_shape_rank_and_frames(name, solved):
    """A step stays a matrix of the rank that it started with, in orthonormal frames."""
    flow, start, _ = solved
    w = march(METHODS[name].step, gradient_field(flow.loss, flow.metric), start, T_END, 4)
    assert (w.shape, w.rank) == (start.shape, start.rank)
    for gram in (w.u.T @ w.u, w.vt @ w.vt.T):
        assert np.linalg.norm(gram - np.eye(w.rank)) < 100 * EPS  # two products of exact frames


# ---------------------------------------------------------------------------------------------------------------------
# a constant field: the exactness property


def constant_field(start, end):
    """F = (W_1 - W_0) / h whatever W is."""
    return lambda w: lrf.Product(*end.split()) - start


@EACH_METHOD
def test_one_step_between_two_matrices_of_the_rank_is_exact(name, rng):
    """W' = const and W(0), W(h) of rank r: every method but Strang's lands on W(h), far away as it may be.

    Strang's half step would have to be of rank r as well. It is where only the left factor moves.
    """
    start = lrf.random_point(8, 7, 2, rng=rng, singular_values=np.array([1.0, 0.5]))
    end = lrf.random_point(8, 7, 2, rng=rng, singular_values=np.array([0.9, 0.6]))
    if name == "KSL2":
        end = lrf.LowRankMatrix(end.u, end.s, start.vt)
    # roundoff through the overlap of the frames of W(0) and W(h), which the splitting and BUG divide by
    overlap = min(np.linalg.svd(start.vt @ end.vt.T)[1].min(), np.linalg.svd(start.u.T @ end.u)[1].min())
    w = METHODS[name].step(constant_field(start, end), start, 1.0)
    assert np.linalg.norm(w.to_dense() - end.to_dense()) < 100 * EPS / overlap**2


@EACH_METHOD
def test_one_step_to_a_matrix_of_higher_rank_is_not_exact(name, rng):
    """Control: no matrix of rank 2 is nearer than the third singular value."""
    start = lrf.random_point(8, 7, 2, rng=rng, singular_values=np.array([1.0, 0.5]))
    end = lrf.random_point(8, 7, 3, rng=rng, singular_values=np.array([0.9, 0.6, 0.3]))
    w = METHODS[name].step(constant_field(start, end), start, 1.0)
    assert np.linalg.norm(w.to_dense() - end.to_dense()) >= 0.3 - 100 * EPS


# ---------------------------------------------------------------------------------------------------------------------
# tiny singular values


@cache
def from_a_small_one(depth, smallest):
    """The flow from singular values 1 and `smallest`, its start and its end, the latter from a lifted flow by DOP853."""
    _, start, flow = problem(8, 7, (1.0, smallest), depth)
    path = lrf.integrate(flow, start, t_span=(0, T_END), chart=lrf.Lifted(), rtol=3e-14, save=lrf.Save(steps=False))
    return flow, start, path.points[-1].to_dense()


@pytest.mark.parametrize(
    ("name", "depth"),
    [("PERK4", 3), ("PERK4", 5), ("midpoint BUG", 3), ("PERK2", 5), ("KSL2", 5)],
)
def test_tiny_singular_values_cost_the_order(name, depth):
    """Stages that miss sigma_r by h^2 see x_r = sigma_r^(2/N) wrong by h^(4/N): about the order that is left."""
    order = METHODS[name].order
    # an excess is allowed: the range ends where h^2 meets sigma_r
    assert order_of(name, *from_a_small_one(depth, 3e-2)) > order - 0.15
    assert order_of(name, *from_a_small_one(depth, 3e-9)) < min(4 / depth + 0.5, order - 0.5)


@pytest.mark.parametrize("name", ["PERK1", "KSL2", "midpoint BUG"])
def test_depth_two_costs_no_more_than_order_two(name):
    """Control: at N = 2 the same start leaves order 2, so nothing else is wrong with it."""
    assert abs(order_of(name, *from_a_small_one(2, 3e-9)) - METHODS[name].order) < 0.15
