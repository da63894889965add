"""RKC and ROCK4: order, order conditions, stability intervals, driven stiff components, rejection, NaN."""

import numpy as np
import pytest
from oracles import fitted_slope
from scipy.integrate import solve_ivp

from lowrankflow.steppers import RKC, ROCK4, as_ode_solver
from lowrankflow.steppers import rock as rock_room

BOTH = pytest.mark.parametrize("stepper", [RKC, ROCK4])



def growth(t, y):
    return y * (1 - y) + 0.1 * np.sin(t)


@BOTH
@pytest.mark.parametrize("z", [1.0, 400.0])
def test_order(stepper, z):
    """Six halvings on a nonlinear, forced problem, with few stages and with many."""
    y0, steps = np.array([0.2, 0.7]), 2.0 ** -np.arange(1, 7)
    reference = solve_ivp(growth, (0, 2), y0, method="DOP853", rtol=1e-13, atol=1e-15).y[:, -1]
    errors = []
    for h in steps:
        kind = stepper(lambda t, y, h=h: z / h, estimate=False)
        end = solve_ivp(growth, (0, 2), y0, method=as_ode_solver(kind), step_size=h)
        errors.append(np.abs(end.y[:, -1] - reference).max())
    slope = fitted_slope(steps, errors)
    assert abs(slope - stepper.order) < 0.15
    assert abs(slope - (stepper.order + 1)) > 0.5  # control


@pytest.mark.parametrize("s", [5, 6, 9, 17, 40, 108])
def test_the_eight_order_conditions_of_rock4(s):
    """The Butcher tableau row by row from the recurrence, then the textbook sums over it."""
    k = rock_room._coefficients(s)
    a, row, before = np.zeros((s, s)), np.zeros(s), np.zeros(s)
    for j in range(s - 4):
        a[j] = row
        new = (1 + k.kappa[j]) * row - k.kappa[j] * before
        new[j] += k.mu[j]
        before, row = row, new
    for i in range(4):
        a[s - 4 + i] = row
        a[s - 4 + i, s - 4 :] += k.a[i]
    b = row.copy()
    b[s - 4 :] += k.b
    c = a.sum(axis=1)
    got = [b.sum(), b @ c, b @ c**2, b @ a @ c, b @ c**3, b @ (c * (a @ c)), b @ a @ c**2, b @ a @ a @ c]
    # the unknowns solve their equations to 1e-14, and the weights add up some s numbers of order one
    np.testing.assert_allclose(got, [1, 1 / 2, 1 / 3, 1 / 6, 1 / 4, 1 / 8, 1 / 12, 1 / 24], rtol=0, atol=1e-10)
    np.testing.assert_allclose(k.c[:s], c, rtol=0, atol=1e-12)


def amplification(stepper, s, z):
    """|R(z)| of the stepper itself, on y' = z y with h = 1, all z at once."""
    kind = stepper()
    slope = z.copy()
    return kind._advance(lambda t, y: z * y, 0.0, np.ones_like(z), 1.0, slope, s)[0]


@pytest.mark.parametrize("s", [5, 12, 40, 108])
@BOTH
def test_stability_interval(stepper, s):
    beta = stepper().interval(s)
    z = -np.linspace(0, beta, 4000)
    r = np.abs(amplification(stepper, s, z))
    assert r.max() <= 1 + 1e-9  # roundoff of the recurrence, s^2 eps
    assert r[z < -2].max() < 0.96  # damped
    assert np.abs(amplification(stepper, s, -np.linspace(1.01, 1.1, 50) * beta)).max() > 1  # control: it ends there
    assert abs(beta / s**2 - {RKC: 0.65, ROCK4: 0.35}[stepper]) < {5: 0.12, 12: 0.03}.get(s, 0.01)


@BOTH
def test_stages_grow_with_the_root(stepper):
    z = np.geomspace(50, 3500, 8)
    stages = [stepper().stages(x) for x in z]
    assert abs(fitted_slope(z, np.array(stages, dtype=float)) - 0.5) < 0.05
    assert all(stepper().interval(s) >= x for s, x in zip(stages, z, strict=True))


@pytest.mark.parametrize("s", [12, 40])
def test_the_node_that_quiets_driven_components(s, monkeypatch):
    """The error of y' = z (y - t^2/2) + t after a step; the control is a node of small fifth-order terms alone."""

    def worst(k):
        grid = -np.linspace(1, k.beta, 400)
        return max(abs(rock_room._driven(k.mu, k.kappa, k.a, k.b, z)) for z in grid)

    chosen = rock_room._coefficients(s)
    weights = np.zeros(8)
    before = weights
    for m, kappa in zip(chosen.mu, chosen.kappa, strict=True):
        weights, before = m * rock_room._grafted(weights) + (1 + kappa) * weights - kappa * before, weights
    a, b = rock_room._finish(weights, 0.25)
    assert worst(chosen) < worst(chosen._replace(a=a, b=b)) / 10


@BOTH
def test_tolerance_is_met_on_a_stiff_nonlinear_problem(stepper):
    """y' = -K (y^2 - cos^2 t) follows cos t; errors stay within a factor of the tolerance over three decades."""

    def f(t, y):
        return -500.0 * (y * y - np.cos(t) ** 2) - np.sin(t)

    for rtol in (1e-4, 1e-5, 1e-6):
        end = solve_ivp(f, (0, 1), [1.0], method=as_ode_solver(stepper()), rtol=rtol, atol=1e-12)
        assert end.success
        assert np.abs(end.y[0] - np.cos(end.t)).max() < 20 * rtol  # errors of steps of 0.9 rtol, forgotten at once
    tight = end.nfev
    explicit = solve_ivp(f, (0, 1), [1.0], method="RK45", rtol=1e-6, atol=1e-12)
    assert stepper is ROCK4 or tight < 2 * explicit.nfev


@BOTH
def test_steps_into_nan_are_rejected(stepper):
    """y' = -y/(...) is not a number below 0.3; the solution stays above, trial steps need not."""

    def f(t, y):
        return np.where(y < 0.3, np.nan, -y)

    end = solve_ivp(f, (0, 1), [1.0], method=as_ode_solver(stepper()), rtol=1e-6, atol=1e-9, first_step=1.5e0)
    assert end.success
    np.testing.assert_allclose(end.y[0, -1], np.exp(-1), rtol=1e-4)


@BOTH
def test_nan_everywhere_ends_with_a_message(stepper):
    end = solve_ivp(
        lambda t, y: -y + (np.nan if t > 0.5 else 0.0), (0, 1), [1.0], method=as_ode_solver(stepper()), rtol=1e-6
    )
    assert not end.success and 0 < end.t[-1] <= 0.5


@BOTH
def test_a_kick_is_followed(stepper):
    """A forcing that switches on within 1e-3: steps are rejected there, and the answer stays good."""

    def f(t, y):
        return -y + 50 / (1 + np.exp(np.clip(-(t - 0.5) / 1e-3, -500, 500)))

    end = solve_ivp(f, (0, 1), [1.0], method=as_ode_solver(stepper()), rtol=1e-6, atol=1e-9)
    reference = solve_ivp(f, (0, 1), [1.0], method="Radau", rtol=1e-10, atol=1e-12, max_step=1e-3)
    np.testing.assert_allclose(end.y[0, -1], reference.y[0, -1], rtol=1e-4)
    assert np.diff(end.t).min() < np.diff(end.t).max() / 50


@BOTH
def test_memory_goes_on_to_the_same_bits(stepper):
    cls = as_ode_solver(stepper())
    a = cls(growth, 0.0, np.array([0.2, 0.7]), 5.0, rtol=1e-6, atol=1e-9)
    for _ in range(5):
        a.step()
    b = cls(growth, a.t, a.y, 5.0, rtol=1e-6, atol=1e-9, memory=a.memory)
    while a.status == "running":
        a.step()
        b.step()
        assert a.t == b.t
        np.testing.assert_array_equal(a.y, b.y)


def test_a_bound_is_needed_where_nothing_is_estimated():
    with pytest.raises(ValueError, match="`bound` must give an upper bound"):
        solve_ivp(growth, (0, 1), [0.2], method=as_ode_solver(RKC(estimate=False)))
