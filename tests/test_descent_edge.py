"""Edge of stability of one mode: onset, two-cycle, period doubling, and what happens to imbalance there."""

import numpy as np
import pytest

import lowrankflow as lrf
from lowrankflow.descent import bifurcation, mode_edge, two_cycle


def iterate(x, h, sigma, depth):
    """One update of equal factors, by the library's own descent on a 1 x 1 problem."""
    loss = lrf.losses.LeastSquares([[1.0]], [[sigma]])
    path = lrf.gradient_descent(loss, lrf.LinearNetwork([[[x]]] * depth), step_size=h, steps=1)
    return [float(f[0, 0]) for f in path.points[-1].factors]


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("sigma", [1e-6, 0.3, 1.0, 7.0, 1e6])
def test_the_edge_is_two_over_the_sharpness(depth, sigma):
    loss = lrf.losses.LeastSquares([[1.0]], [[sigma]])
    best = lrf.LinearNetwork([[[sigma ** (1 / depth)]]] * depth)
    assert mode_edge(sigma, depth) == pytest.approx(2 / lrf.sharpness(loss, best), rel=1e-3)
    for part, stays in ((0.97, True), (1.03, False)):
        found = bifurcation([part * mode_edge(sigma, depth)], target=sigma, depth=depth, transient=4000)[0]
        assert (np.ptp(found) < 1e-6 * sigma) == stays


@pytest.mark.parametrize("sigma", [1e-8, 0.5, 1.0, 1e8])
@pytest.mark.parametrize("part", [1.0, 1.001, 1.1, 1.2, 1.23])
def test_the_two_cycle_is_one(part, sigma):
    h = part / sigma
    x, y = two_cycle(h, sigma)
    assert x >= y > 0 and x * y * h == pytest.approx(1, rel=1e-12)
    for a, b in ((x, y), (y, x)):
        assert iterate(a, h, sigma, 2) == pytest.approx([b, b], rel=1e-7)  # roundoff over the distance to the edge
    if 1 < part < np.sqrt(5) - 1:
        found = np.unique(np.round(bifurcation([h], target=sigma, transient=20_000)[0] / sigma, 6))
        assert found == pytest.approx(sorted([x * x / sigma, y * y / sigma]), abs=2e-6)


def periods(h):
    found = np.round(bifurcation([h], transient=60_000, kept=64)[0], 7)
    return len(set(found.tolist()))


def test_the_period_doubles_where_it_is_said_to():
    onset, doubling = 1.0, np.sqrt(5) - 1
    assert [periods(h) for h in (onset - 5e-3, onset + 5e-3, doubling - 5e-3, doubling + 5e-3)] == [1, 2, 2, 4]


def test_imbalance_shrinks_by_its_factor():
    """D(k + 1) = D(k) (1 - h^2 e^2) exactly, e the residual: beyond the edge it decays for ever, below it stops."""
    loss, h = lrf.losses.LeastSquares([[1.0]], [[1.0]]), 1.1
    start = lrf.LinearNetwork([[[1.2]], [[0.7]]])
    path = lrf.gradient_descent(loss, start, step_size=h, steps=60, keep_every=1)
    x, y = (np.array([f[0, 0] for f in factors]) for factors in zip(*(w.factors for w in path.points), strict=True))
    d, e = y**2 - x**2, x * y - 1
    assert d[1:] == pytest.approx(d[:-1] * (1 - h**2 * e[:-1] ** 2), rel=1e-12, abs=1e-15)
    assert abs(d[-1]) < 1e-2 * abs(d[0])
    calm = lrf.gradient_descent(loss, start, step_size=0.2, steps=400).points[-1]
    assert abs(calm.imbalances()[0][0, 0]) > 0.5 * abs(d[0])  # the control


def test_what_leaves_the_finite_numbers_is_nan():
    found = bifurcation([0.5, 5.0])
    assert found[0] == pytest.approx(1) and np.isnan(found[1]).all()


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: two_cycle(0.9, 1.0), "`step` must be at least 1 / target = 1, the edge, got 0.9: descent converges"),
        (lambda: bifurcation([0.0]), "`steps` must be positive, got a smallest of 0"),
        (lambda: mode_edge(-1.0, 2), "`target`"),
        (lambda: bifurcation([1.0], kept=0), "`kept`"),
    ],
)
def test_bad_input_is_one_clear_line(call, says):
    with pytest.raises(ValueError, match=says):
        call()
