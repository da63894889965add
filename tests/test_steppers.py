"""One-step methods: order, interpolant, batches, life inside scipy, and the order at tiny singular values."""

import numpy as np
import pytest
from cases import STEPPERS, Start, least_squares
from oracles import EPS, fitted_slope
from scipy.integrate import solve_ivp

import lowrankflow as lrf
from lowrankflow.steppers import RK4, Euler, as_ode_solver


def growth(t, y):
    """The logistic equation: not linear, with a closed solution."""
    return y * (1 - y)


def logistic(t, y0):
    return y0 * np.exp(t) / (1 - y0 + y0 * np.exp(t))


def forced(t, y):
    """y' = -y + sin t, for methods that forget to pass the time."""
    return -y + np.sin(t)


def forced_solution(t, y0):
    return (y0 + 0.5) * np.exp(-t) + 0.5 * (np.sin(t) - np.cos(t))


PROBLEMS = pytest.mark.parametrize(
    ("f", "solution"),
    [pytest.param(growth, logistic, id="logistic"), pytest.param(forced, forced_solution, id="forced")],
)
#: six halvings in the asymptotic range and well above roundoff
STEPS = 2.0 ** -np.arange(3, 9)


def march(stepper, f, y, h, n):
    state = stepper.init(f, 0.0, y)
    for i in range(n):
        y, error, state = stepper.step(f, i * h, y, h, state)
        assert error is None
    return y, state


@PROBLEMS
@pytest.mark.parametrize("stepper", STEPPERS)
def test_order(stepper, f, solution):
    y0 = np.array([0.2, 0.7])
    errors = [np.abs(march(stepper, f, y0, h, round(2 / h))[0] - solution(2.0, y0)).max() for h in STEPS]
    slope = fitted_slope(STEPS, errors)
    assert abs(slope - stepper.order) < 0.15
    assert abs(slope - (stepper.order + 1)) > 0.5  # control: one order more is told apart


@PROBLEMS
@pytest.mark.parametrize("stepper", STEPPERS)
def test_order_of_the_interpolant(stepper, f, solution):
    """The largest error inside steps falls with the order of the method itself."""
    y0, theta = np.array([0.2, 0.7]), np.linspace(0, 1, 9)
    errors = []
    for h in STEPS:
        n = round(1 / h)
        _, state = march(stepper, f, y0, h, n)
        inside = stepper.interpolant(state)
        errors.append(max(np.abs(inside(x) - solution((n - 1 + x) * h, y0)).max() for x in theta))
    assert abs(fitted_slope(STEPS, errors) - stepper.order) < 0.15


@pytest.mark.parametrize("stepper", STEPPERS)
def test_interpolant_meets_both_ends(stepper):
    y0 = np.array([0.2, 0.7])
    before, _ = march(stepper, growth, y0, 0.1, 4)
    after, state = march(stepper, growth, y0, 0.1, 5)
    np.testing.assert_allclose(stepper.interpolant(state)(0.0), before, rtol=EPS)
    np.testing.assert_allclose(stepper.interpolant(state)(1.0), after, rtol=EPS)


def test_linear_interpolation_is_not_enough():
    """Control: a chord through the steps of RK4 has order two."""
    y0 = np.array([0.2])
    errors = []
    for h in STEPS:
        n = round(1 / h)
        a, b = march(RK4(), growth, y0, h, n - 1)[0], march(RK4(), growth, y0, h, n)[0]
        errors.append(np.abs((a + b) / 2 - logistic((n - 0.5) * h, y0)).max())
    assert abs(fitted_slope(STEPS, errors) - 2) < 0.15


@pytest.mark.parametrize("stepper", STEPPERS)
def test_leading_axes_are_a_batch(stepper, rng):
    """Three starts with three steps and times in one call: bitwise what one call each gives."""
    y, h, t = rng.uniform(0.1, 0.9, (3, 4)), np.array([0.1, 0.05, 0.2]), np.array([0.0, 1.0, 2.0])

    def field(t, y):
        return y * (1 - y) + 0.1 * np.sin(np.asarray(t))[..., None]

    batch, _, state = stepper.step(field, t, y, h, stepper.init(field, t, y))
    middle = stepper.interpolant(state)(0.3)
    assert batch.shape == y.shape
    for i in range(3):
        one, _, own = stepper.step(field, t[i], y[i], h[i], stepper.init(field, t[i], y[i]))
        np.testing.assert_array_equal(batch[i], one)
        np.testing.assert_array_equal(middle[i], stepper.interpolant(own)(0.3))
    assert np.abs(batch[0] - y[0]).max() > 1e-3


@pytest.mark.parametrize("stepper", STEPPERS)
def test_nothing_is_kept_between_calls(stepper):
    """A step repeated from the same state, after others, gives the same bits; the arguments stay as they were."""
    y0 = np.array([0.2, 0.7])
    kept = y0.copy()
    state = stepper.init(growth, 0.0, y0)
    first, _, _ = stepper.step(growth, 0.0, y0, 0.1, state)
    march(stepper, forced, y0, 0.3, 5)
    second, _, _ = stepper.step(growth, 0.0, y0, 0.1, state)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(y0, kept)
    assert all(isinstance(part, np.ndarray) for part in state)  # so that it can be saved


@pytest.mark.parametrize(("stepper", "calls"), [(Euler(), 1), (RK4(), 4)])
def test_evaluations_a_step(stepper, calls):
    count = 0

    def field(t, y):
        nonlocal count
        count += 1
        return -y

    march(stepper, field, np.ones(1), 0.1, 10)
    assert count == 1 + 10 * calls


# ---------------------------------------------------------------------------------------------------------------------
# inside scipy


@PROBLEMS
def test_solve_ivp_takes_ours(f, solution):
    """The dense output too, with the order of the method at points between the steps."""
    y0 = np.array([0.2, 0.7])
    errors = []
    for h in STEPS:
        end = solve_ivp(f, (0, 1), y0, method=as_ode_solver(RK4()), step_size=h, dense_output=True)
        assert end.success
        t = np.linspace(0, 1, 7)
        errors.append(max(np.abs(end.sol(x) - solution(x, y0)).max() for x in t))
        np.testing.assert_allclose(end.sol(t)[:, 3], end.sol(t[3]), rtol=2 * EPS)
    assert abs(fitted_slope(STEPS, errors) - 4) < 0.15


@pytest.mark.parametrize(
    ("span", "h", "steps"),
    [((0, 1), 0.25, 4), ((0, 1), 0.3, 4), ((0, 1), 2.0, 1), ((0, 1), 0.1, 10), ((1, 0), 0.25, 4), ((0, 3), 1e-3, 3000)],
)
def test_last_step_lands_on_the_bound(span, h, steps):
    end = solve_ivp(lambda t, y: -y, span, [1.0], method=as_ode_solver(RK4()), step_size=h)
    assert end.t[-1] == span[1]
    assert end.t.size == steps + 1
    # times are origin + k h, each rounded once
    np.testing.assert_allclose(
        end.t[1:-1], span[0] + np.sign(span[1] - span[0]) * h * np.arange(1, steps), rtol=2 * EPS
    )


def test_names_and_refusals():
    assert as_ode_solver(RK4()).__name__ == "RK4"
    assert (Euler.order, RK4.order) == (1, 4)
    with pytest.raises(ValueError, match="`step_size` must be positive"):
        solve_ivp(lambda t, y: -y, (0, 1), [1.0], method=as_ode_solver(RK4()), step_size=-1.0)


def test_blow_up_is_reported():
    with np.errstate(over="ignore", invalid="ignore"):
        end = solve_ivp(lambda t, y: y**2, (0, 10), [10.0], method=as_ode_solver(Euler()), step_size=0.5)
    assert not end.success


# ---------------------------------------------------------------------------------------------------------------------
# tiny singular values


def orders(depth, root):
    """RK4 from singular values (1, 1/2, 3e-9): the errors of W at the end over five halvings of the step."""
    rng = np.random.default_rng(2)
    w, loss = Start(6, 5, (1.0, 0.5, 3e-9)).draw(rng), least_squares(6, 5, rng)
    flow, end = lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), 2 / depth
    h = end / 2.0 ** np.arange(4, 10)

    def last(chart, **options):
        path = lrf.integrate(flow, w, t_span=(0, end), chart=chart, save=lrf.Save(steps=False), **options)
        # a coarse step in root 1 may carry T across det T = 0: the driver says so, and there is no order to speak of
        return path.points[-1].to_dense() if path.status is lrf.Status.FINISHED else np.nan

    reference = last(lrf.Lifted(), rtol=3e-14)  # another chart
    frame = lrf.SingularFrame(root=root)
    errors = [np.linalg.norm(last(frame, method="RK4", step_size=x) - reference) for x in h]
    return fitted_slope(h, errors) if np.isfinite(errors).all() else 0.0


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_the_root_keeps_the_order(depth):
    assert abs(orders(depth, depth) - 4) < 0.15


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_root_one_loses_the_order(depth):
    """Control: with T itself as coordinate the velocity contains a polar factor, smooth only away from s_r = 0.

    Orders between 1 and 2, until a step resolves the layer in which s_r leaves zero; or the rank is lost at once.
    """
    assert orders(depth, 1) < 2.5
