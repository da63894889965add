"""One-step methods: order, interpolant, batches, life inside scipy.

Of the stabilised ones also: order conditions for every number of stages, stability, spectral radius, step control.
"""

import io
import re
from functools import cache

import numpy as np
import pytest
from cases import STEPPERS
from oracles import EPS, fitted_slope
from scipy import optimize
from scipy.integrate import OdeSolver, solve_ivp
from scipy.special import ellipj

from lowrankflow.steppers import RK4, RKC, ROCK4, Euler, as_ode_solver
from lowrankflow.steppers.power_iteration import spectral_radius


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
        y, _, state = stepper.step(f, i * h, y, h, state)
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


@pytest.mark.parametrize("stepper", STEPPERS)
def test_an_error_estimate_only_where_promised(stepper):
    y = np.array([0.2, 0.7])
    estimate = stepper.step(growth, 0.0, y, 0.1, stepper.init(growth, 0.0, y))[1]
    assert (estimate is not None) == hasattr(stepper, "error_order")


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
@pytest.mark.parametrize("stepper", [RK4(), RKC(), ROCK4()], ids=["rk4", "rkc", "rock4"])
def test_solve_ivp_takes_ours(stepper, f, solution):
    """The dense output too, with the order of the method at points between the steps."""
    y0 = np.array([0.2, 0.7])
    errors = []
    for h in STEPS:
        end = solve_ivp(f, (0, 1), y0, method=as_ode_solver(stepper), step_size=h, dense_output=True)
        assert end.success
        t = np.linspace(0, 1, 7)
        errors.append(max(np.abs(end.sol(x) - solution(x, y0)).max() for x in t))
        np.testing.assert_allclose(end.sol(t)[:, 3], end.sol(t[3]), rtol=2 * EPS)
    assert abs(fitted_slope(STEPS, errors) - stepper.order) < 0.15


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
    assert (Euler.order, RK4.order, RKC.order, ROCK4.order) == (1, 4, 2, 4)
    with pytest.raises(ValueError, match="`step_size` must be positive"):
        solve_ivp(lambda t, y: -y, (0, 1), [1.0], method=as_ode_solver(RK4()), step_size=-1.0)


def test_blow_up_is_reported():
    with np.errstate(over="ignore", invalid="ignore"):
        end = solve_ivp(lambda t, y: y**2, (0, 10), [10.0], method=as_ode_solver(Euler()), step_size=0.5)
    assert not end.success


# ---------------------------------------------------------------------------------------------------------------------
# stabilised methods: what s stages do. The stepper is a black box here: it sees a velocity, we see where it asks

@cache
def rungs():
    """The numbers of stages that ROCK4 takes: each is taken up to the end of its interval, and then the next."""
    found = [ROCK4().stages(0.0)]
    while found[-1] < ROCK4.most:
        found.append(ROCK4().stages(ROCK4().interval(found[-1]) * (1 + 1e-12)))
    return found


SIZES = [(RKC, s) for s in (2, 3, 10, 60, 250)] + [(ROCK4, s) for s in (5, 6, 12, 42, ROCK4.most)]
NUMBERS = pytest.mark.parametrize(("kind", "s"), SIZES, ids=[f"{kind.__name__}-{s}" for kind, s in SIZES])
KINDS = pytest.mark.parametrize("kind", [RKC, ROCK4], ids=["rkc", "rock4"])


def staged(kind, s, h=1.0):
    """The method that takes s stages for steps of h: told a spectral radius that needs them."""
    radius = 0.9999 * kind().interval(s) / h
    return kind(bound=lambda t, y: radius, estimate=False)


def one_step(kind, s, f, y, t=0.0, h=1.0):
    """New y and error estimate of one step."""
    stepper = staged(kind, s, h)
    return stepper.step(f, t, y, h, stepper.init(f, t, y))[:2]


def tableau(kind, s):
    """The Butcher tableau with s stages, the slope at the end as one more: (A, c, weights, weights of the estimate).

    A velocity that answers its k-th call with the k-th unit vector: where it is asked is then a row of A.
    """
    rows, nodes = [], []

    def field(t, y):
        rows.append(y.copy())
        nodes.append(t)
        return np.eye(s + 1)[len(rows) - 1]

    new, estimate = one_step(kind, s, field, np.zeros(s + 1))
    assert len(rows) == s + 1
    return np.array(rows), np.array(nodes), new, estimate


def trees(a, c):
    """The elementary weights of orders one to four for rows a: t, [t], [tt], [[t]], [ttt], [t[t]], [[tt]], [[[t]]].

    The last argument of `a` is the whole matrix, so that the recursion needs no scheme of its own.
    """
    return {
        "t": np.ones_like(c), "[t]": c, "[tt]": c**2, "[[t]]": a @ c, "[ttt]": c**3, "[t[t]]": c * (a @ c),
        "[[tt]]": a @ c**2, "[[[t]]]": a @ a @ c,
    }  # fmt: skip


DENSITY = {"t": 1, "[t]": 2, "[tt]": 3, "[[t]]": 6, "[ttt]": 4, "[t[t]]": 8, "[[tt]]": 12, "[[[t]]]": 24}
ORDER = {"t": 1, "[t]": 2, "[tt]": 3, "[[t]]": 3, "[ttt]": 4, "[t[t]]": 4, "[[tt]]": 4, "[[[t]]]": 4}


@KINDS
def test_order_conditions(kind):
    """Sums of s terms whose sizes add up to less than 15: s eps times that, or 1e-12 if it is less."""
    for s in [*range(2, 41), 100, 250, 1000] if kind is RKC else rungs():
        bound = max(1e-12, 15 * s * EPS)
        a, c, b, e = tableau(kind, s)
        np.testing.assert_allclose(a.sum(axis=1), c, rtol=0, atol=bound)
        for tree, value in trees(a, c).items():
            if ORDER[tree] <= kind.order:
                assert abs(b @ value - 1 / DENSITY[tree]) < bound
            if ORDER[tree] < kind.error_order:
                assert abs(e @ value) < bound
        assert max(abs(e @ v) for tree, v in trees(a, c).items() if ORDER[tree] == kind.error_order) > 1e-3
        if kind is RKC:  # control: the conditions of order three are told apart
            assert abs(b @ c**2 - 1 / 3) > 0.1


def test_order_conditions_catch_a_node():
    """Control: one node off by 1e-6 breaks them by more than 1e-8."""
    a, _, b, _ = tableau(ROCK4, 12)
    a[11, 9] += 1e-6
    assert max(abs(b @ value - 1 / DENSITY[tree]) for tree, value in trees(a, a.sum(axis=1)).items()) > 1e-8


def rigid(t, y):
    """A free rigid body: all eight trees differ on it."""
    return np.array([y[1] * y[2], -y[0] * y[2], -0.51 * y[0] * y[1]])


def rigid_solution(t):
    return np.array(ellipj(t, 0.51)[:3])


def braked(t, y):
    """y' = -t y^2: neither linear nor autonomous."""
    return -t * y**2


@NUMBERS
@pytest.mark.parametrize(
    ("f", "y0", "end"),
    [
        pytest.param(rigid, rigid_solution(0.0), rigid_solution(1.0), id="rigid"),
        pytest.param(braked, np.array([0.5, 2.0]), np.array([0.5, 2.0]) / (1 + np.array([0.25, 1.0])), id="braked"),
    ],
)
def test_order_with_few_and_many_stages(kind, s, f, y0, end):
    steps = 2.0 ** -np.arange(2, 8)
    errors = [np.abs(march(staged(kind, s, h), f, y0, h, round(1 / h))[0] - end).max() for h in steps]
    slope = fitted_slope(steps, errors)
    assert abs(slope - kind.order) < 0.15
    assert abs(slope - (kind.order + 1)) > 0.5  # control


@NUMBERS
def test_order_of_the_error_estimate(kind, s, monkeypatch):
    """One step from a point where no term vanishes by symmetry; without roundoff, which is no power of h."""
    monkeypatch.setattr(kind, "rounding", lambda self, stages: 0.0)
    steps = 2.0 ** -np.arange(3, 10)
    sizes = [np.abs(one_step(kind, s, rigid, rigid_solution(0.4), h=h)[1]).max() for h in steps]
    assert abs(fitted_slope(steps, sizes) - kind.error_order) < 0.15


def growth_factors(kind, s, z):
    """R(z) and the error estimate, by a step of y' = z y from 1 with h = 1."""
    return one_step(kind, s, lambda t, y: z * y, np.ones_like(z))


@KINDS
def test_stability_interval(kind):
    """Damped on the whole interval, and it does not reach much further.

    The ripple of ROCK4 is 0.95 by construction. That of RKC is 1 - (1 - T_s(w0)^-1) = 1 - damping / 3 = 0.949, to
    first order. Both may be 0.01 higher: by the second order of the damping (0.008 at s = 2, 3), by roundoff that
    the finish of ROCK4 amplifies (0.007 at the largest s).
    """
    for s in [*range(2, 30), 60, 120, 250, 1000] if kind is RKC else rungs():
        beta = kind().interval(s)
        inside = np.abs(growth_factors(kind, s, -np.linspace(0, beta, 20 * s + 1)[1:])[0])
        damped = np.abs(growth_factors(kind, s, -np.linspace(min(1, beta / 2), beta, 20 * s))[0])
        assert inside.max() < 1
        assert damped.max() < 0.96
        # control: the end of the interval is an end; for few stages |R| turns back once more after it
        with np.errstate(over="ignore", invalid="ignore"):
            beyond = np.abs(growth_factors(kind, s, -beta * np.linspace(1, 1.2 if s < 5 else 1.1, 50))[0])
        assert np.nanmax(beyond) > 1


@pytest.mark.parametrize(
    ("kind", "share", "numbers"), [(RKC, 0.653, (20, 100, 250, 2000)), (ROCK4, 0.3526, (55, 108))], ids=["rkc", "rock4"]
)
def test_length_of_the_interval(kind, share, numbers):
    """beta / s^2: 2/3 (1 - 2/15 damping) for RKC; for ROCK4 what a ripple of 0.95 leaves, of 2 without any order."""
    for s in numbers:
        assert abs(kind().interval(s) / s**2 - share) < 0.01 * share


@KINDS
def test_evaluations_grow_like_the_root(kind):
    """As many velocities a step as stages, and no more of these than the product h rho needs."""
    radii, counts = np.logspace(1.5, 3.5, 25), []
    for radius in radii:
        count = 0

        def field(t, y):
            nonlocal count
            count += 1
            return -y

        stepper = kind(bound=lambda t, y, radius=radius: radius, estimate=False)
        state = stepper.init(field, 0.0, np.ones(1))
        assert count == 1
        stepper.step(field, 0.0, np.ones(1), 1.0, state)
        s = count - 1
        counts.append(s)
        smaller = max(x for x in (range(1, s) if kind is RKC else rungs()) if x < s)
        assert kind().interval(s) >= radius > kind().interval(smaller)
    assert abs(fitted_slope(radii, counts) - 0.5) < 0.05


@KINDS
def test_the_number_of_stages_has_ends(kind):
    least = {RKC: 2, ROCK4: 5}[kind]
    assert [kind().stages(z) for z in (0.0, 1e-300, 1e99, np.inf, np.nan)] == [least, least, *3 * [kind.most]]
    far = staged(kind, kind.most)
    y = np.ones(1)
    state = far.init(lambda t, y: -y, 0.0, y)
    assert far.longest(state) == pytest.approx(1 / 0.9999)
    # nothing to stabilise, or nothing known: the error estimate alone decides
    for radius in (0.0, np.inf, np.nan):
        free = kind(bound=lambda t, y, radius=radius: radius, estimate=False)
        assert free.longest(free.init(lambda t, y: -y, 0.0, y)) == np.inf


def test_the_estimate_is_bounded_on_the_interval():
    """ROCK4: stiff components long at rest must not decide on the step. Control: the estimate of RKC grows with |z|."""

    def largest(kind, s):
        return np.abs(growth_factors(kind, s, -np.linspace(0, kind().interval(s), 20 * s))[1]).max()

    # weights of size 5 on slopes that oscillate with R: of the order of one at all sizes
    assert max(largest(ROCK4, s) for s in rungs()) < 6
    numbers = (10, 25, 60, 120)
    betas = [RKC().interval(s) for s in numbers]
    assert abs(fitted_slope(betas, [largest(RKC, s) for s in numbers]) - 1) < 0.05


def another_finish(s):
    """A tableau of order 4 that differs from ROCK4's in its last four stages: the second node of these is 0.05 off.

    In units of their length. The third stays; the six entries, the four weights and the two nodes left are found by
    Newton's method from the eight conditions of order and the two nodes.
    """
    a, c, b, _ = tableau(ROCK4, s)
    last, where = slice(s - 4, s), ([s - 3, s - 2, s - 2, *[s - 1] * 3], [s - 4, s - 4, s - 3, s - 4, s - 3, s - 2])
    nodes = c[[s - 3, s - 2]] + [0.05 * (1 - c[s - 4]), 0.0]

    def changed(entries):
        rows, weights = a.copy(), b.copy()
        rows[where], weights[last] = entries[:6], entries[6:]
        return rows, weights

    def defects(entries):
        rows, weights = changed(entries)
        missing = [weights @ value - 1 / DENSITY[tree] for tree, value in trees(rows, rows.sum(axis=1)).items()]
        return [*missing, *(rows.sum(axis=1)[[s - 3, s - 2]] - nodes)]

    found = optimize.root(defects, [*a[where], *b[last]], tol=1e-14)
    rows, weights = changed(found.x)
    return rows, rows.sum(axis=1), weights


def test_driven_stiff_components():
    """y' = z (y - t^2/2) + t, whose solution t^2/2 no stage follows exactly.

    The finish multiplies what the stages miss by z^3. One node makes that vanish at the end of the interval, which
    leaves z^2 inside. Control: with the node 0.05 off, still of order four, it is z^3 again.
    """

    def largest(y):
        return np.abs(y - 0.5).max(), abs(y[-1] - 0.5)

    def own(s, z):
        return one_step(ROCK4, s, lambda t, y: z * (y - t**2 / 2) + t, np.zeros_like(z))[0]

    def off(s, z):
        a, c, b = another_finish(s)
        assert all(abs(b @ value - 1 / DENSITY[tree]) < 1e-12 for tree, value in trees(a, c).items())
        slopes = np.zeros((s + 1, z.size))
        for i in range(s):
            slopes[i] = z * (a[i] @ slopes - c[i] ** 2 / 2) + c[i]
        return b @ slopes

    numbers, betas = (25, 42, 72, 108), [ROCK4().interval(s) for s in (25, 42, 72, 108)]
    axes = [-np.linspace(0, beta, 10 * s) for s, beta in zip(numbers, betas, strict=True)]
    ours, others = (np.array([largest(f(s, z)) for s, z in zip(numbers, axes, strict=True)]) for f in (own, off))
    assert (others[:, 0] > 10 * ours[:, 0]).all()
    assert fitted_slope(betas, ours[:, 0]) < 2.25
    assert fitted_slope(betas, others[:, 0]) > 2.75
    assert (ours[:, 1] < 1e-10 * others[:, 1]).all()  # at the end of the interval itself: roundoff


@pytest.mark.parametrize(("kind", "s"), [(RKC, 40), (ROCK4, 42)], ids=["rkc", "rock4"])
def test_a_batch_of_long_steps(kind, s):
    """As `test_leading_axes_are_a_batch`, with many stages and bounds of their own."""
    y, h, t = np.array([[0.2, 0.7], [0.4, 0.1], [0.9, 0.5]]), np.array([0.1, 0.05, 0.2]), np.array([0.0, 1.0, 2.0])

    def field(t, y):
        return y * (1 - y) + 0.1 * np.sin(np.asarray(t))[..., None]

    batch = staged(kind, s, h)
    new, estimate, state = batch.step(field, t, y, h, batch.init(field, t, y))
    assert [part.shape[0] for part in state] == 8 * [3]
    for i in range(3):
        one, own, _ = (stepper := staged(kind, s, h[i])).step(field, t[i], y[i], h[i], stepper.init(field, t[i], y[i]))
        np.testing.assert_array_equal(new[i], one)
        np.testing.assert_array_equal(estimate[i], own)


# ---------------------------------------------------------------------------------------------------------------------
# the spectral radius


def radius_of(jacobian, y, tries=50):
    """The estimate for y' = J y + 3 at y, from the slope as first direction."""

    def field(t, y):
        return (jacobian @ y[..., None])[..., 0] + 3

    slope = field(0.0, y)
    return spectral_radius(field, 0.0, y, slope, slope, np.zeros(y.shape[:-1]), tries=tries)


def normal(radius, inclination, rng, n=12):
    """A normal matrix of that spectral radius, eigenvalues -a (1 +- i inclination), the largest 1.25 times the next."""
    parts = radius / np.hypot(1, inclination) * np.append(1, rng.uniform(0, 0.8, n // 2 - 1))
    block = np.array([[-1, inclination], [-inclination, -1]])
    q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return q @ np.kron(np.diag(parts), block) @ q.T


@pytest.mark.parametrize("inclination", [0.0, 0.3], ids=["real", "inclined"])
@pytest.mark.parametrize("radius", [1e-2, 1.0, 1e5])
def test_power_method(radius, inclination, rng):
    """Ends at a change of a per cent an iteration: with a factor 1.25^2 from one to the next, 2 % below at most."""
    for _ in range(5):
        found, direction, settled = radius_of(normal(radius, inclination, rng), rng.standard_normal(12))
        assert settled
        # from above by roundoff of the difference, sqrt(eps) ||f|| / ||J|| ||y||: at the small radius f is the constant 3
        assert 0.98 * radius < found < radius * (1 + 1e-7) + 1e-6
        assert abs(np.linalg.norm(direction) - 1) < 10 * EPS


def test_safety_covers_a_dense_spectrum(rng):
    """Without a gap the method settles early, up to a tenth below for second differences: the factor 1.2 covers it."""
    second = np.diag(np.ones(39), 1) + np.diag(np.ones(39), -1) - 2 * np.eye(40)
    true = np.abs(np.linalg.eigvalsh(second)).max()
    for _ in range(10):
        y = rng.standard_normal(40)
        assert radius_of(second, y)[0] < true
        assert true < RKC().init(lambda t, y: second @ y, 0.0, y)[5] < 1.2 * true


@KINDS
def test_a_slow_slope_does_not_hide_the_fast_ones(kind):
    """Second differences from their slowest mode, whose slope is that mode, with fixed steps of up to 300 / rho.

    Control: the power method from the slope itself settles on the slow rate.
    """
    n = 40
    second = (n + 1) ** 2 * (np.diag(np.ones(n - 1), 1) + np.diag(np.ones(n - 1), -1) - 2 * np.eye(n))
    y0, rate = np.sin(np.pi * np.arange(1, n + 1) / (n + 1)), 4 * (n + 1) ** 2 * np.sin(np.pi / 2 / (n + 1)) ** 2
    largest = np.abs(np.linalg.eigvalsh(second)).max()
    found, _, settled = spectral_radius(
        lambda t, y: second @ y, 0.0, y0, second @ y0, second @ y0, np.asarray(0.0), tries=50
    )
    assert settled
    assert found < 0.01 * largest
    for h in (0.01, 0.05):
        end = solve_ivp(lambda t, y: second @ y, (0, 0.5), y0, method=as_ode_solver(kind()), step_size=h)
        # the error of the slow mode itself: (h rate)^(p + 1) / (p + 1)! a step, at most 1 / rate steps that count
        bound = (h * rate) ** kind.order
        assert np.abs(end.y - np.exp(-rate * end.t) * y0[:, None]).max() < bound


def test_power_method_on_a_batch(rng):
    radii = np.array([1e-1, 10.0, 1e3])
    matrices = np.array([normal(radius, 0.3, rng) for radius in radii])
    found, direction, settled = radius_of(matrices, rng.standard_normal((3, 12)))
    assert settled
    assert found.shape == (3,)
    assert direction.shape == (3, 12)
    np.testing.assert_allclose(found, radii, rtol=0.02)


def test_power_method_goes_on_from_where_it_stood(rng):
    """An estimate that still holds costs one velocity."""
    count, matrix, y = 0, normal(50.0, 0.0, rng), rng.standard_normal(12)

    def field(t, y):
        nonlocal count
        count += 1
        return matrix @ y

    found, direction, _ = spectral_radius(field, 0.0, y, matrix @ y, matrix @ y, np.asarray(0.0), tries=50)
    first, count = count, 0
    again, _, settled = spectral_radius(field, 0.0, y, matrix @ y, direction, found, tries=50)
    assert settled
    assert count == 1 < first
    assert abs(again / found - 1) < 0.01


def test_power_method_where_there_is_nothing_to_find():
    zero, y = np.zeros(2), np.array([1.0, 2.0])

    def estimate(f, y):
        return spectral_radius(f, 0.0, y, f(0.0, y), f(0.0, y), np.asarray(0.0), tries=50)

    radius, direction, settled = estimate(lambda t, y: np.ones(2), y)  # a zero Jacobian
    assert (radius, settled) == (0, True)
    assert abs(np.linalg.norm(direction) - 1) < 10 * EPS
    radius, _, settled = estimate(lambda t, y: -7 * y, zero)  # a zero state: no length to take the difference by
    assert settled
    assert abs(radius - 7) < 1e-6
    radius, direction, settled = estimate(lambda t, y: np.nan * y, y)
    assert np.isnan(radius)
    assert not settled
    assert np.isfinite(direction).all()


def turning(t, y):
    """Eigenvalues +-10i of a matrix far from normal: the lengths 1 and 100 alternate for ever."""
    return np.array([-y[1], 100 * y[0]])


@KINDS
def test_which_radius_is_taken(kind):
    """The estimate where it settles, else the bound, else the estimate after all."""
    y = np.ones(2)

    def radius(f, *arguments, **options):
        return float(kind(*arguments, **options).init(f, 0.0, y)[5])

    def decay(t, y):
        return -5 * y

    def bound(t, y):
        return 12.0

    assert abs(radius(decay, bound) - 6) < 1e-5  # 1.2 times 5
    assert abs(radius(decay, lambda t, y: None) - 6) < 1e-5
    assert radius(decay, bound, estimate=False) == 12
    assert radius(turning, bound) == 12
    assert 0 < radius(turning) <= 120
    assert radius(lambda t, y: np.nan * y, bound) == 12
    with pytest.raises(ValueError) as caught:
        radius(decay, estimate=False)
    message = "`bound` must give an upper bound where `estimate` is False, got None."
    assert str(caught.value) == message
    # the system's own bound is taken where the user gave none
    assert kind().bounded_by(bound).bound is bound
    assert kind(decay).bounded_by(bound).bound is decay
    assert kind(estimate=False).bounded_by(bound).estimate is False


# ---------------------------------------------------------------------------------------------------------------------
# stabilised methods inside scipy: the choice of the step


def counting(kind, *arguments, **options):
    """The method, and a list that grows by one with each rejected step."""
    rejected = []

    class Counting(kind):
        def retry(self, state):
            rejected.append(state)
            return super().retry(state)

    return as_ode_solver(Counting(*arguments, **options)), rejected


def reaction(t, y):
    """u_t = u_xx + 20 u (1 - u^2) on 15 points: rates up to 1000, not linear."""
    inner = np.concatenate([[0.0], y, [0.0]])
    return 256 * (inner[2:] - 2 * y + inner[:-2]) + 20 * y * (1 - y**2)


def test_error_is_proportional_to_the_tolerance():
    """Over five decades of rtol, on a stiff problem that is not linear.

    The error of a step is kept at the tolerance. It is O(h^q), q the order of the estimate, and 1/h steps add up to
    rtol^(p/q), p the order of the method: rtol for ROCK4, whose estimate is of its own order, rtol^(2/3) for RKC.
    """
    x, times = np.arange(1, 16) / 16, np.linspace(0, 0.5, 6)
    y0 = 0.1 * np.sin(np.pi * x) + 0.3 * np.sin(4 * np.pi * x)

    def run(method, rtol):
        return solve_ivp(reaction, (0, 0.5), y0, method=method, rtol=rtol, atol=rtol, t_eval=times).y

    reference = run("DOP853", 3e-14)
    rtols = 10.0 ** -np.arange(4, 10)
    for kind, power in ((RKC, 2 / 3), (ROCK4, 1.0)):
        errors = np.array([np.abs(run(as_ode_solver(kind()), rtol) - reference).max() for rtol in rtols])
        assert abs(fitted_slope(rtols, errors) - power) < 0.15
        # the factor: errors of some tens of steps that decay before they add up; a tenth: the steps are not wasted
        assert np.all(errors < 6 * (rtols / rtols[0]) ** (power - 1) * rtols)
        assert np.all(errors > 0.1 * rtols)


def test_rock4_counts_the_roundoff_of_its_finish(monkeypatch):
    """At rest the error is half the tolerance, whatever that is. Control: to an estimate blind to roundoff, many times it."""
    q, rest = np.linalg.qr(np.random.default_rng(0).standard_normal((100, 100)))[0], np.linspace(1, 2, 100)
    rates = np.geomspace(1e3, 1e-3, 100)
    a, level = q * rates @ q.T, q @ (rates * (rest @ q))

    def largest(rtol):
        method = as_ode_solver(ROCK4())
        end = solve_ivp(lambda t, y: level - a @ y, (0, 30), rest, method=method, rtol=1e-15, atol=rtol)
        return np.sqrt(np.mean((end.y.T - rest) ** 2, axis=1)).max()

    for rtol in (1e-7, 1e-9, 1e-11):
        assert 0.1 * rtol < largest(rtol) < rtol
    monkeypatch.setattr(ROCK4, "rounding", lambda self, stages: 0.0)
    assert largest(1e-9) > 5 * 1e-9


def kicked(width):
    """y' = -50 (y - s) + s', s = 3 + tanh((t - 1) / width): the velocity of 1 / width comes out of nothing."""

    def s(t):
        return 3 + np.tanh((t - 1) / width)

    return (lambda t, y: -50 * (y - s(t)) + (1 - np.tanh((t - 1) / width) ** 2) / width), s


@KINDS
def test_a_kick_is_rejected_and_followed(kind):
    """Control: a kick as wide as the run costs hardly a rejection. The error is that of the smooth run, ten times."""
    counts, errors = [], []
    for width in (1.0, 0.01):
        f, solution = kicked(width)
        method, rejected = counting(kind)
        end = solve_ivp(f, (0, 2), [solution(0.0)], method=method, rtol=1e-6, atol=0)
        assert end.success
        errors.append(np.abs(end.y[0] - solution(end.t)).max() / 1e-6 / 4)
        counts.append(len(rejected))
    assert counts[1] > 2 * max(counts[0], 1)
    assert errors[1] < 10 * errors[0]


@KINDS
def test_the_run_goes_on_after_nan(kind):
    """y' = -y^3, not defined below zero: trial steps that go there are rejected.

    They go there because the method is told a spectral radius of 1 where it is 27 at first.
    """
    lost = []

    def field(t, y):
        if y[0] < 0:
            lost.append(t)
            return np.full(1, np.nan)
        return -(y**3)

    method, rejected = counting(kind, lambda t, y: 1.0, estimate=False)
    end = solve_ivp(field, (0, 10), [3.0], method=method, rtol=1e-5, atol=0, first_step=5.0)
    assert end.success
    assert lost
    assert rejected
    # RKC at this tolerance: rtol^(2/3) instead of rtol
    np.testing.assert_allclose(end.y[0], 1 / np.sqrt(1 / 9 + 2 * end.t), rtol={RKC: 1e-3, ROCK4: 1e-4}[kind])


@KINDS
@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=["nan", "inf"])
def test_a_velocity_that_ends_is_told(kind, bad):
    """Not finite after t = 1/2, or below y = 1/2: an end, a reason, and not many velocities."""
    fields = [lambda t, y: -y + (bad if t > 0.5 else 0.0), lambda t, y: np.where(y < 0.5, bad, -y)]
    for field, at in zip(fields, (0.5, np.log(2)), strict=True):
        count = 0

        def counted(t, y, field=field):
            nonlocal count
            count += 1
            assert count < 30_000
            return field(t, y)

        with np.errstate(invalid="ignore"):
            end = solve_ivp(counted, (0, 2), [1.0], method=as_ode_solver(kind()), rtol=1e-4, atol=0)
        assert not end.success
        assert end.message == OdeSolver.TOO_SMALL_STEP
        # from below, up to the error of the run: 1e-4 for some ten steps
        assert abs(end.t[-1] - at) < 1e-3
        assert np.isfinite(end.y).all()


@KINDS
@pytest.mark.parametrize("options", [{}, {"max_step": 1e-17}], ids=["stiff", "max_step"])
def test_steps_below_the_spacing_of_numbers_end_the_run(kind, options):
    """Where no time lies between t and the longest stable step: not an endless loop of steps of length zero."""
    rate = 1.0 if options else 1e25
    count = 0

    def field(t, y):
        nonlocal count
        count += 1
        assert count < 1000
        return -rate * (y - 1)

    end = solve_ivp(field, (1, 2), [1.5], method=as_ode_solver(kind()), **options)
    assert end.message == OdeSolver.TOO_SMALL_STEP


@KINDS
def test_steps_grow_again(kind):
    """From a first step of 1e-12, where the estimate is roundoff: tenfold each time."""
    end = solve_ivp(lambda t, y: -y, (0, 1), [1.0], method=as_ode_solver(kind()), first_step=1e-12)
    assert end.success
    assert end.t.size < 12 + 15


@KINDS
def test_backwards_is_forwards_reflected(kind):
    """The same steps and values; the span ends where it was asked to.

    1 - t carries a roundoff that differences over sqrt(eps) turn into sqrt(eps) of the spectral radius.
    """

    def field(t, y):
        return -1000 * (y - np.cos(t))

    forth = solve_ivp(lambda t, y: field(1 - t, y), (0, 1), [3.0], method=as_ode_solver(kind()), rtol=1e-6)
    back = solve_ivp(lambda t, y: -field(t, y), (1, 0), [3.0], method=as_ode_solver(kind()), rtol=1e-6)
    assert back.t[-1] == 0
    assert back.nfev == forth.nfev
    np.testing.assert_allclose(back.t, 1 - forth.t, rtol=0, atol=np.sqrt(EPS))
    np.testing.assert_allclose(back.y, forth.y, rtol=np.sqrt(EPS))
    with pytest.raises(AssertionError):  # control: not the same with the sign forgotten
        np.testing.assert_allclose(back.y, solve_ivp(field, (0, 1), [3.0], t_eval=1 - back.t).y, rtol=1e-3)


@KINDS
def test_dense_output_of_chosen_steps(kind):
    """Between the steps as accurate as at them, on a problem with rates up to 1000."""
    x = np.arange(1, 16) / 16
    y0 = 0.1 * np.sin(np.pi * x)
    fine = solve_ivp(reaction, (0, 0.5), y0, method="DOP853", rtol=1e-12, atol=1e-12, dense_output=True).sol
    run = solve_ivp(reaction, (0, 0.5), y0, method=as_ode_solver(kind()), rtol=1e-5, atol=1e-5, dense_output=True)
    middle = (run.t[1:] + run.t[:-1]) / 2
    at_steps, between = np.abs(run.y - fine(run.t)).max(), np.abs(run.sol(middle) - fine(middle)).max()
    assert between < 1.5 * at_steps
    chords = (run.y[:, 1:] + run.y[:, :-1]) / 2
    assert np.abs(chords - fine(middle)).max() > 2 * between  # control


@pytest.mark.parametrize("options", [{"rtol": 1e-5}, {"step_size": 0.01}], ids=["adaptive", "fixed"])
@KINDS
def test_memory_goes_on_to_the_same_bits(kind, options):
    """Through a file, in the middle of a run: the same times, states and number of velocities."""
    count, y0 = 0, 0.3 * np.sin(4 * np.pi * np.arange(1, 16) / 16)

    def field(t, y):
        nonlocal count
        count += 1
        return reaction(t, y)

    def run(solver):
        nonlocal count
        count, states = 0, []
        while solver.status == "running":
            solver.step()
            states.append(np.append(solver.y, solver.t))
        assert solver.status == "finished"
        return np.array(states), count

    method = as_ode_solver(kind())
    whole = method(field, 0.0, y0, 0.5, **options)
    for _ in range(7):
        whole.step()
    file = io.BytesIO()
    np.savez(file, y=whole.y, **whole.memory)
    t, state = whole.t, whole.y
    states, velocities = run(whole)
    file.seek(0)
    with np.load(file, allow_pickle=False) as saved:
        memory = {name: saved[name] for name in saved if name != "y"}
        again, own = run(method(field, t, saved["y"], 0.5, memory=memory, **options))
    np.testing.assert_array_equal(again, states)
    assert own == velocities
    if "rtol" in options:  # control: without the memory the run goes on, but in other steps
        fresh, _ = run(method(field, t, state, 0.5, **options))
        assert fresh.shape != states.shape or not np.array_equal(fresh, states)


REFUSED = {
    "rtol zero": ({"rtol": 0}, ValueError, "`rtol` must be positive and finite, got 0."),
    "rtol infinite": ({"rtol": np.inf}, ValueError, "`rtol` must be positive and finite, got inf."),
    "rtol nan": ({"rtol": np.nan}, ValueError, "`rtol` must be positive and finite, got nan."),
    "rtol an array": ({"rtol": np.ones(2)}, TypeError, "`rtol` must be positive and finite, got an array of shape (2,)."),
    "atol negative": ({"atol": -1.0}, ValueError, "`atol` must be non-negative, got a negative or non-finite value."),
    "atol nan": ({"atol": [0.0, np.nan]}, ValueError,
        "`atol` must be non-negative, got a negative or non-finite value."),
    "max_step zero": ({"max_step": 0}, ValueError, "`max_step` must be positive, got 0."),
    "max_step nan": ({"max_step": np.nan}, ValueError, "`max_step` must be positive, got nan."),
    "max_step -inf": ({"max_step": -np.inf}, ValueError, "`max_step` must be positive, got -inf."),
    "max_step a text": ({"max_step": "1"}, TypeError, "`max_step` must be positive, got '1'."),
    "first_step zero": ({"first_step": 0.0}, ValueError, "`first_step` must be positive and finite, got 0."),
    "first_step infinite": ({"first_step": np.inf}, ValueError, "`first_step` must be positive and finite, got inf."),
    "step_size nan": ({"step_size": np.nan}, ValueError, "`step_size` must be positive and finite, got nan."),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@KINDS
def test_refused_options(kind, name):
    options, error, message = REFUSED[name]
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        solve_ivp(lambda t, y: -y, (0, 1), [1.0, 1.0], method=as_ode_solver(kind()), **options)


def test_refused_steppers():
    with pytest.raises(ValueError, match=r"^`step_size` must be given for the fixed-step method RK4\.$"):
        solve_ivp(lambda t, y: -y, (0, 1), [1.0], method=as_ode_solver(RK4()))
    with pytest.raises(TypeError, match=r"^`stepper` must be a Stepper such as RK4\(\), got "):
        as_ode_solver(RKC)
    with pytest.raises(TypeError, match=r"^`bound` must be "):
        RKC(bound=3.0)


@KINDS
def test_an_empty_span(kind):
    end = solve_ivp(lambda t, y: -y, (1, 1), [1.0], method=as_ode_solver(kind()))
    assert end.success
    assert end.y[0, -1] == 1


@KINDS
def test_longest_steps_are_kept(kind):
    """`max_step` and the first step of the user."""
    end = solve_ivp(lambda t, y: -y, (0, 1), [1.0], method=as_ode_solver(kind()), max_step=0.07, first_step=0.01)
    assert end.t[1] == 0.01
    assert np.diff(end.t).max() <= 0.07 * (1 + 4 * EPS)
    # without, the steps are longer: the limit was one
    assert np.diff(solve_ivp(lambda t, y: -y, (0, 1), [1.0], method=as_ode_solver(kind())).t).max() > 0.07
