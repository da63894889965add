"""Aligned modes: closed form and its inverse against quadrature with many digits, and against flows that are integrated."""

import mpmath
import numpy as np
import pytest
from oracles import EPS, scalar_mode
from scipy.integrate import solve_ivp

import lowrankflow as lrf
from lowrankflow import exact, experiments

DEPTHS = [1.1, 1.3, 1.9, 2, 2 + 1e-9, 2.5, 3, 4, 7, 30, 1000, np.inf]


def constants(depth):
    """c and p of s' = c s^p (a - s)."""
    return (1.0, 2.0) if np.isinf(depth) else (depth, 2 - 2 / depth)


def velocity(depth, a):
    c, p = constants(depth)
    return lambda t, s: c * np.abs(s) ** p * (a - s)


# ---------------------------------------------------------------------------------------------------------------------
# the time, by quadrature


def time_by_quadrature(depth, s0, a, s):
    """The integral of ds / s' with 30 digits, in ln s far from the target and in ln |a - s| near it, a unit at a time."""
    with mpmath.workdps(30):
        n = mpmath.mpf(depth)
        c, p = (mpmath.mpf(1), mpmath.mpf(2)) if np.isinf(depth) else (n, 2 - 2 / n)
        s0, a, s = mpmath.mpf(s0), mpmath.mpf(a), mpmath.mpf(s)

        def piece(change, low, high):
            count = int(abs(high - low)) + 1
            nodes = [low + (high - low) * i / count for i in range(count + 1)]
            return mpmath.quad(change, nodes, method="gauss-legendre", maxdegree=5)

        def far(x, y):
            return piece(lambda z: mpmath.e ** ((1 - p) * z) / (c * (a - mpmath.e**z)), mpmath.log(x), mpmath.log(y))

        def near(x, y):  # d(a - s) = -ds
            side = 1 if a > x else -1
            reach = [mpmath.log(side * (a - x)), mpmath.log(side * (a - y))]
            return -piece(lambda z: 1 / (c * (a - side * mpmath.e**z) ** p), *reach)

        if a <= 0:
            return far(s0, s)
        border = a / 2 if s0 < a else 2 * a
        outside = (lambda x: x < border) if s0 < a else (lambda x: x > border)
        if not outside(s0):
            return near(s0, s)
        return far(s0, s) if outside(s) else far(s0, border) + near(border, s)


def between(rng, s0, a):
    """A value on the way: anywhere, near either end, or in logarithms."""
    f = rng.uniform()
    how = rng.integers(3)
    if a <= 0:
        return s0 * 10 ** rng.uniform(-8, 0)
    if how == 0:
        return np.exp(np.log(s0) + f * (np.log(a) - np.log(s0)))
    return a + (s0 - a) * (f if how == 1 else 10 ** rng.uniform(-12, 0))


@pytest.mark.parametrize("depth", DEPTHS)
def test_time_and_value_against_quadrature(depth, rng):
    """Start over target from 1e-12 to 1e12, unit from 1e-4 to 1e4; errors over the condition of the answer."""
    c, p = constants(depth)
    worst, control, count = 0.0, np.inf, 0
    for _ in range(25):
        a = float(rng.choice([1, 1, 1, -1, 0]) * 10 ** rng.uniform(-4, 4))
        s0 = float((abs(a) or 1.0) * 10 ** rng.uniform(-12, 12))
        s = float(between(rng, s0, a))
        if not min(s0, a) < s < max(s0, a):
            continue
        t = time_by_quadrature(depth, s0, a, s)
        mode = exact.modes(a, s0, depth)
        speed, first = c * s**p * (a - s), c * s0**p * (a - s0)
        # a roundoff of s and of s0 changes t by s / s' and by s0 / s0'
        found = mode.time_to(s)[0]
        errors = [abs(found - t) / (t + abs(s / speed) + abs(s0 / first))]
        # a roundoff of t changes s by t s'; the float nearest to t is met at s + (that - t) s'
        time = float(t)
        shift = (mpmath.mpf(time) - t) * speed
        errors += [abs(mode(time)[0] - (s + shift)) / (s + time * abs(speed))]
        left = mpmath.mpf(a) - s - shift
        errors += [abs(mode.misfit(time)[0] - left) / (abs(left) + time * abs(speed))]
        worst, count = max(worst, *map(float, errors)), count + 1
        if depth < 1000:  # control: another depth takes another time
            control = min(control, abs(exact.modes(a, s0, depth * 1.01).time_to(s)[0] / found - 1))
    assert count >= 15
    # seen: 2e-15. Powers and logarithms of a few roundings each
    assert worst < 1e-14
    assert control > 1e-6


def test_values_at_plain_conditions(rng):
    """Where the answer is well-conditioned it has 1e-12 relative, whatever the start over target."""
    for depth in DEPTHS:
        c, p = constants(depth)
        for power in np.linspace(-12, 12, 13):
            s0 = 10.0**power
            for fraction in (0.01, 0.3, 0.7, 0.99):
                mode = exact.modes(1.0, s0, depth)
                s = s0 + fraction * (1 - s0)
                time = mode.time_to(s)[0]
                if time * c * s**p * abs(1 - s) > 100 * min(s, abs(1 - s)) or time == 0:
                    continue
                assert mode(time)[0] == pytest.approx(s, rel=1e-12)
                assert mode.misfit(time)[0] == pytest.approx(1 - s, rel=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# flows


@pytest.mark.parametrize("depth", [1.1, 1.5, 2, 2.5, 3, 4, 10, 1000, np.inf])
def test_every_order_and_sign_against_an_integration(depth):
    for s0, a in [(1e-3, 1), (0.9, 1), (1.5, 1), (50, 1), (0.8, -1), (30, -1), (0.7, 0), (-0.8, 1), (-0.8, -1), (-0.7, 0)]:
        mode = exact.modes(a, s0, depth, curvatures=1.3)
        end = 4 * mode.learning_times(0.5)[0] if s0 * a > 0 else 2.0
        if depth < 2 and s0 * a < 0:  # it ends
            end = 0.9 * mode.time_to(0.0)[0]
        times, rhs = np.linspace(0, end, 9), velocity(depth, a)
        run = solve_ivp(lambda t, s, f=rhs: 1.3 * f(t, s), (0, end), [s0], method="DOP853", rtol=1e-13, atol=1e-16, t_eval=times)
        # rtol 1e-13 a step for up to two hundred of them, amplified on the plateau by the growth of s from 1e-3
        np.testing.assert_allclose(mode(times)[:, 0], run.y[0], rtol=2e-11, atol=1e-14)
        np.testing.assert_allclose(mode.misfit(times)[:, 0], a - run.y[0], rtol=0, atol=2e-11 * max(abs(s0), 1))


def aligned(rng, a, s0, h, *, samples=1, reduction="sum"):
    """A loss and a W(0) that share singular frames, in 5 x 4: inputs with X X^T = V diag(h) V^T samples."""
    u, v = (np.linalg.qr(rng.standard_normal((k, 3)))[0] for k in (5, 4))
    rest = np.linalg.qr(np.hstack([v, rng.standard_normal((4, 1))]))[0][:, 3:]
    x = np.hstack([v * np.sqrt(h), rest])  # a direction that no mode sees
    y = np.hstack([(u * a) * np.sqrt(h), np.zeros((5, 1))])
    loss = lrf.losses.LeastSquares(np.tile(x, samples), np.tile(y, samples), reduction=reduction)
    return loss, lrf.LowRankMatrix(u * np.sign(s0), np.abs(s0), v.T), u, v


def signed(points, u, v):
    return np.array([np.diag(u.T @ p.to_dense() @ v) for p in points])


@pytest.mark.parametrize("depth", [2, 2.5, 3, 4, np.inf])
def test_the_clock_is_that_of_the_flow(depth, rng):
    """Riemannian flow of W with unequal inputs: above, below and against the target; the clock of "sum" has the factor N."""
    a, s0, h = np.array([1.5, 0.6, 1.0]), np.array([0.05, 1.4, -0.7]), np.array([1.0, 2.0, 0.5])
    loss, w, u, v = aligned(rng, a, s0, h)
    times = np.linspace(0, 4, 9)
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(depth))
    path = lrf.integrate(flow, w, t_span=(0, 4), rtol=1e-12, save=lrf.Save(times=times))
    modes = exact.modes(a, s0, depth, curvatures=h)
    got = signed(path.points, u, v)
    # rtol is of the largest mode, and of l = s^(1/N)
    np.testing.assert_allclose(got, modes(times), rtol=0, atol=1e-10)
    np.testing.assert_allclose(a - got, modes.misfit(times), rtol=0, atol=1e-10)
    for other in (exact.modes(a, s0, depth), exact.modes(a, s0, 1.1 * depth if depth < 9 else 9, curvatures=h)):
        assert np.abs(other(times) - got).max() > 1e-2


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_factors_move_so(depth, rng):
    """The factor flow, five samples a column and the mean over them."""
    a, s0, h = np.array([1.5, 0.6, 1.0]), np.array([0.05, 1.4, 0.2]), np.array([1.0, 2.0, 0.5])
    loss, w, u, v = aligned(rng, a, s0, h, samples=5, reduction="mean")
    net = lrf.LinearNetwork.balanced(w, depth, widths=3, rng=rng)
    times = np.linspace(0, 6, 7)
    path = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 6), rtol=1e-12, save=lrf.Save(times=times))
    modes = exact.modes(a, s0, depth, curvatures=5 * h / loss.samples)
    np.testing.assert_allclose(signed(path.points, u, v), modes(times), rtol=0, atol=1e-10)


# ---------------------------------------------------------------------------------------------------------------------
# two factors that are not balanced


def unbalanced_time(s0, a, gap, s):
    """log[(gap^2 + 4 a s + q (gap^2 + 4 s^2)^(1/2)) / |a - s|] / q between the two, with 80 digits; a != 0 or gap != 0."""
    with mpmath.workdps(80):
        s0, a, gap, s = map(mpmath.mpf, (s0, a, gap, s))
        q = mpmath.sqrt(gap**2 + 4 * a**2)

        def level(x):
            return mpmath.log((gap**2 + 4 * a * x + q * mpmath.sqrt(gap**2 + 4 * x**2)) / abs(a - x))

        return (level(s) - level(s0)) / q


def test_unbalanced_modes_against_the_logarithm(rng):
    worst, control, count, passed = 0.0, 0, 0, 0
    for _ in range(400):
        gap = float(rng.choice([-1, 1]) * 10 ** rng.uniform(-8, 8))
        a, s0 = (float(rng.choice([-1, 1, 0]) * 10 ** rng.uniform(-8, 8)) for _ in range(2))
        s = float(s0 + (a - s0) * rng.choice([rng.uniform(), 10 ** rng.uniform(-8, 0), 1 - 10 ** rng.uniform(-8, 0)]))
        if not min(s0, a) < s < max(s0, a):
            continue
        t = unbalanced_time(s0, a, gap, s)
        mode = exact.modes(a, s0, 2, imbalance=gap)
        size = abs(s) + (abs(gap) if s0 * a <= 0 else 0)  # where it passes zero, what a roundoff of lambda is worth
        speed, first = (np.hypot(gap, 2 * x) * (a - x) for x in (s, s0))
        found = mode.time_to(s)[0]
        slack = abs(s / speed) + abs(s0 / first) + (abs(gap / speed) if s0 * a <= 0 else 0)
        errors = [abs(found - t) / (t + slack)]
        shift = (mpmath.mpf(float(t)) - t) * speed
        errors += [abs(mode(float(t))[0] - (s + shift)) / (size + float(t) * abs(speed))]
        left = mpmath.mpf(a) - s - shift
        errors += [abs(mode.misfit(float(t))[0] - left) / (abs(left) + float(t) * abs(speed))]
        worst, count, passed = max(worst, *map(float, errors)), count + 1, passed + (s0 * a < 0)
        control += abs(exact.modes(a, s0, 2, imbalance=1.01 * gap).time_to(s)[0] - t) > 1e-13 * (t + slack)
    assert count > 300 and passed > 50
    assert worst < 1e-14  # seen: 1e-15
    assert control > count / 2  # a hundredth more of lambda is seen wherever lambda is not tiny


@pytest.mark.parametrize("gap", [0.8, -0.3, 0.0])
def test_unbalanced_factors_move_so(gap):
    """Two factors, aligned, with w_2^2 - w_1^2 = lambda: towards a target of the other sign, through zero."""
    a, s0 = np.array([1.5, -1.0, 0.5]), np.array([0.05, 0.4, 1.4])
    high, low = (np.sqrt((np.hypot(gap, 2 * s0) + side * gap) / 2) for side in (1, -1))
    net = lrf.LinearNetwork([np.diag(low), np.diag(high)])
    assert np.abs(net.imbalances()[0] - gap * np.eye(3)).max() < 1e-14
    loss, times = lrf.losses.LeastSquares(np.eye(3), np.diag(a)), np.linspace(0, 4, 9)
    path = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 4), rtol=1e-12, save=lrf.Save(times=times))
    got = np.array([np.diag(p.to_dense()) for p in path.points])
    np.testing.assert_allclose(exact.modes(a, s0, 2, imbalance=gap)(times), got, rtol=0, atol=1e-10)
    np.testing.assert_allclose(exact.modes(a, s0, 2, imbalance=-gap)(times), got, rtol=0, atol=1e-10)
    assert (got[-1, 1] < -0.5) == (gap != 0)  # balanced it stays above zero
    assert np.abs(exact.modes(a, s0, 2, imbalance=gap + 0.1)(times) - got).max() > 1e-2


def test_balanced_depth_two_is_the_logistic_curve():
    s0, a, t = np.array([1e-3, 0.2, 3.0]), np.array([2.0, 1.0, 0.6]), np.linspace(0, 6, 7)
    want = np.array([scalar_mode(s0, a, 1.0, time) for time in t])
    # the oracle subtracts: target - s0 + s0 growth
    np.testing.assert_allclose(exact.modes(a, s0, 2)(t), want, rtol=1e-14)
    # and the depths beside it, which go through the other code, tend to it
    for depth in (2 + 1e-10, 2 - 1e-10):
        np.testing.assert_allclose(exact.modes(a, s0, depth)(t), want, rtol=1e-8)
    assert np.abs(exact.modes(a, s0, 2.01)(t) / want - 1).max() > 1e-3


# ---------------------------------------------------------------------------------------------------------------------
# collapse (claim 20), rest, ends


@pytest.mark.parametrize(("depth", "law"), [(3, 1e5**-3.0), (4, 2e5**-2.0)])
def test_slow_collapse(depth, law):
    """W(0) = -0.8 u u^T against the identity: s ~ ((N-2) t)^(-N/(N-2)), at t = 1e5 within 1e-3."""
    s = exact.modes(1.0, -0.8, depth)(1e5)[0]
    assert -s == pytest.approx(law, rel=1e-3, abs=0)
    assert -s != pytest.approx(law, rel=1e-6, abs=0)  # a law of large times
    assert -exact.modes(1.0, -0.8, depth)(1e9)[0] == pytest.approx(law * 1e-4 ** (depth / (depth - 2)), rel=1e-6, abs=0)
    assert -exact.modes(1.0, -0.8, depth + 0.5)(1e5)[0] != pytest.approx(law, rel=0.1, abs=0)


def test_fast_collapse():
    t = np.linspace(5, 300, 60)
    slope = np.diff(np.log(-exact.modes(1.0, -0.8, 2)(t)[:, 0])) / np.diff(t)
    np.testing.assert_allclose(slope, -2, rtol=0.01)
    np.testing.assert_allclose(slope[-5:], -2, rtol=1e-12)


def test_below_depth_two_a_mode_ends():
    """x^(-beta) falls to zero in finite time: int_0^s0 ds / |s'|, by quadrature."""
    for depth in (1.1, 1.5, 1.9):
        c, p = constants(depth)
        mode = exact.modes(-1.0, 0.8, depth)
        with mpmath.workdps(25):
            # in s^(1 - p), in which nothing is singular
            k = 1 - mpmath.mpf(p)
            nodes = [0, mpmath.mpf(0.8) ** k / 2, mpmath.mpf(0.8) ** k]
            end = mpmath.quad(lambda z, k=k: 1 / (1 + z ** (1 / k)), nodes) / (c * k)
        assert mode.time_to(0.0)[0] == pytest.approx(float(end), rel=1e-13)
        assert mode(float(end) * (1 - 1e-3))[0] > 0 and mode(float(end) * (1 + 1e-9))[0] == 0 == mode(1e300)[0]
    for depth in (2, 3, np.inf):
        assert exact.modes(-1.0, 0.8, depth).time_to(0.0)[0] == np.inf


def test_what_rests_rests():
    for depth in DEPTHS:
        mode = exact.modes([1.0, 1.0, 0.0, -2.0, -1.0], [0.0, 1.0, 0.0, 0.0, -1.0], depth)
        assert (mode([0.0, 1.0, 1e9]) == mode.s0).all()
        assert (mode.misfit([0.0, 1.0, 1e9]) == mode.targets - mode.s0).all()
        assert mode.time_to(0.5).tolist() == [np.inf] * 5 and mode.time_to(mode.s0).tolist() == [0.0] * 5
    for depth in (1.5, 2, 3, np.inf):  # a balanced mode never is of the other sign
        assert exact.modes(-1.0, [0.8], depth).time_to(-0.5)[0] == np.inf
    assert exact.modes(-1.0, [0.8], 2, imbalance=1e-3).time_to(-0.5)[0] < 10
    moved = exact.modes([1.0, 0.0, -1.0], 0.0, 2, imbalance=1e-3)(50.0)  # zero is no rest for factors that are not balanced
    np.testing.assert_allclose(moved, [1.0, 0.0, -1.0], rtol=0, atol=1e-15)


@pytest.mark.parametrize("depth", DEPTHS)
def test_what_holds_of_any_mode(depth, rng):
    """Three hundred modes: never beyond the target, monotone, in any unit, in any company, a group of time; no warning."""
    size = 300
    a = rng.choice([1.0, -1.0, 0.0], size, p=[0.6, 0.3, 0.1]) * 10 ** rng.uniform(-2, 2, size)
    sign = rng.choice([1.0, -1.0, 0.0], size, p=[0.8, 0.15, 0.05])
    s0 = sign * np.where(a == 0, 1, np.abs(a)) * 10 ** rng.uniform(-12, 12, size)
    s0[:10] = a[:10]
    s0[10:20] = a[10:20] * (1 + EPS)
    h = 10 ** rng.uniform(-3, 3, size)
    modes = exact.modes(a, s0, depth, curvatures=h)
    times = np.concatenate([[0.0], 10 ** np.linspace(-30, 30, 40), [1e300]])
    s, misfit = modes(times), modes.misfit(times)
    assert np.isfinite(s).all() and np.isfinite(misfit).all()
    np.testing.assert_allclose(s[0], s0, rtol=4 * EPS)
    np.testing.assert_allclose(misfit[0], a - s0, rtol=4 * EPS, atol=0)
    # towards the target, up to roundoff of each value
    toward = np.sign(a - s0)
    assert (toward * np.diff(s, axis=0) >= -1e-14 * np.abs(s[1:])).all()
    assert (toward * misfit >= 0).all() and (s * s0 >= 0).all()
    np.testing.assert_allclose(s + misfit, np.broadcast_to(a, s.shape), rtol=0, atol=4 * EPS * np.abs(s).max(axis=0).max())
    # one alone, and a number for t
    k = int(rng.integers(size))
    alone = exact.modes(a[k], s0[k], depth, curvatures=h[k])
    np.testing.assert_allclose(alone(times)[:, 0], s[:, k], rtol=1e-13, atol=0)
    np.testing.assert_allclose(modes(times[7]), s[7], rtol=1e-13, atol=0)
    assert modes(times[:0]).shape == (0, size)
    # units: s -> u s is t -> t / (u^(2 - 2/N))
    c, p = constants(depth)
    some = times[(times > 1e-9) & (times < 1e9)]
    for unit in (2.0**-26, 2.0**26):
        other = exact.modes(unit * a, unit * s0, depth, curvatures=h)(some / unit**p)
        ours = modes(some)
        speed = np.abs(c * h * np.abs(ours) ** p * (a - ours)) * some[:, None]
        assert (np.abs(other / unit - ours) <= 1e-13 * (np.abs(ours) + speed) + 1e-290).all()
    # time_to undoes it, to the condition of either
    count = 0
    with np.errstate(all="ignore"):
        for row, time in zip(modes(some[::4]), some[::4], strict=True):
            back = modes.time_to(row)
            speed = np.abs(c * h * np.abs(row) ** p * (a - row))
            slack = (np.abs(row) + np.abs(s0)) / speed  # what a roundoff of s is worth, and one of s0 at most
            told = (speed > 0) & np.isfinite(back)
            assert (np.abs(back - time) <= 1e-13 * (time + slack))[told].all()
            count += told.sum()
    assert count > size


# ---------------------------------------------------------------------------------------------------------------------
# learning times


def test_learning_times_in_order(rng):
    for depth in (2, 3, 5, np.inf):
        modes = exact.modes([4.0, 3.0, 2.0, 1.0], 1e-4, depth)
        times = modes.learning_times(0.5)
        assert (np.diff(times) > 0).all()  # the largest first
        half = np.array([modes(t)[i] for i, t in enumerate(times)])
        np.testing.assert_allclose(half, (1e-4 + modes.targets) / 2, rtol=1e-9)  # t eps times the slope of the rise
        assert (modes.learning_times(0.1) < times).all() and (modes.learning_times(0.99) > times).all()
        assert (modes.time_to(0.5 * modes.targets) < times).all()


@pytest.mark.parametrize("depth", [3, 4, 6])
def test_escape_law(depth):
    """From factors of size l the time to learn is 1 / ((N - 2) a l^(N - 2)) in the end."""
    ratios = []
    for l in (1e-2, 1e-3, 1e-4):  # noqa: E741
        ratios.append((depth - 2) * l ** (depth - 2) * exact.modes(1.0, l**depth, depth).learning_times()[0])
    gaps = np.abs(np.array(ratios) - 1)
    assert (np.diff(gaps) < 0).all() and gaps[-1] < 1e-3
    assert abs(ratios[-1] * (depth - 1) / (depth - 2) - 1) > 0.1  # control: another constant


# ---------------------------------------------------------------------------------------------------------------------
# the experiment


def test_the_numbers_of_mode_curves():
    """Its curves and its times against velocities written again."""
    made = experiments.reproduce("mode_curves", quick=True)
    assert made.agrees and len(made.compared) == 16
    for depth, part in zip((2, 3, 4, np.inf), made.numbers.values(), strict=True):
        for run in part["runs"]:
            for k, a in enumerate((1.0, 0.5)):
                marks, rhs = np.array(run["marks"]), velocity(depth, a)
                half = (run["scale"] + a) / 2

                def learned(t, s, half=half):
                    return s[0] - half

                again = solve_ivp(rhs, (0, marks[-1]), [run["scale"]], "DOP853", marks, events=learned, rtol=1e-12, atol=1e-14)
                np.testing.assert_allclose(run["integrated"][k], again.y[0], rtol=0, atol=1e-8)
                np.testing.assert_allclose(np.interp(marks, run["t"], run["s"][k]), again.y[0], rtol=0, atol=5e-3)
                assert run["crossed"][k] == pytest.approx(again.t_events[0][0], rel=1e-9)
                other = exact.modes(a, run["scale"], depth + 1 if depth < 9 else 9).learning_times()[0]  # the control
                assert abs(other / run["crossed"][k] - 1) > 1e-3


# ---------------------------------------------------------------------------------------------------------------------
# arguments


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: exact.modes([1.0], 0.1, 1), ValueError, "`depth` must be greater than 1, got 1"),
        (lambda: exact.modes([1.0], 0.1, "3"), TypeError, "`depth` must be a number"),
        (lambda: exact.modes([], 0.1, 3), ValueError, "`targets` must hold one number at least, got none."),
        (lambda: exact.modes([[1.0]], 0.1, 3), ValueError, "`targets` must be a vector, got shape (1, 1)."),
        (lambda: exact.modes([1.0, np.nan], 0.1, 3), ValueError, "`targets` must be finite"),
        (lambda: exact.modes([1.0, 2.0], [0.1] * 3, 3), ValueError, "`s0` must have shape (2,), got (3,)."),
        (lambda: exact.modes([1.0], "a", 3), TypeError, "`s0` must be an array of numbers"),
        (lambda: exact.modes([1e36], 0.1, 3), ValueError, "`targets` must stay below 1e+35 in size, got 1e+36. Change the unit."),
        (lambda: exact.modes([1.0], 0.1, 3, curvatures=0.0), ValueError, "`curvatures` must be positive, got 0. A direction"),
        (lambda: exact.modes([1.0], 0.1, 3, imbalance=0.5), ValueError, "`imbalance` must be 0 at depth 3, got 0.5. Unbal"),
        (lambda: exact.modes([1.0], 0.1, 3)(-1.0), ValueError, "`t` must be non-negative, got -1. The solutions start"),
        (lambda: exact.modes([1.0], 0.1, 3)([0.0, np.inf]), ValueError, "`t` must be finite, got 1 NaN or infinite of 2"),
        (lambda: exact.modes([1.0], 0.1, 3)([[1.0]]), ValueError, "`t` must be a number or a vector of times, got shape (1, 1)"),
        (lambda: exact.modes([1.0], 0.1, 3).time_to([1.0, 2.0]), ValueError, "`values` must have shape (1,), got (2,)."),
        (lambda: exact.modes([1.0], 0.1, 3).learning_times(1.0), ValueError, "`fraction` must be below 1, got 1."),
        (lambda: exact.modes([1.0], 0.1, 3).learning_times(0), ValueError, "`fraction` must be positive and finite, got 0."),
    ],
)  # fmt: skip
def test_bad_arguments(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_kept_cannot_change():
    a = np.array([2.0, 1.0])
    mode = exact.modes(a, 0.1, 3)
    a[0] = 9.0
    assert mode.targets.tolist() == [2.0, 1.0]
    with pytest.raises(ValueError):
        mode.targets[0] = 9.0


def test_sizes_that_are_no_ones(rng):
    """Three hundred modes of sizes from 1e-250 to 1e35, depths from next to 1 to 1e15: numbers, and no warning."""
    for depth in (1 + 1e-12, 1.05, 2, 2.0000001, 50, 1e15, np.inf):
        size, low = 300, -250
        a, s0 = (rng.choice([1.0, -1.0, 0.0], size) * 10.0 ** rng.uniform(low, 35, size) for _ in range(2))
        gap = rng.choice([0.0, 1.0], size) * 10.0 ** rng.uniform(-40, 35, size) if depth == 2 else 0.0
        modes = exact.modes(a, s0, depth, curvatures=10.0 ** rng.uniform(-20, 20, size), imbalance=gap)
        times = np.concatenate([[0.0], 10.0 ** rng.uniform(low, -low, 6), 10.0 ** rng.uniform(-10, 10, 6)])
        assert np.isfinite(modes(times)).all() and np.isfinite(modes.misfit(times)).all()
        for found in (modes.learning_times(), modes.time_to(a / 2)):
            assert not np.isnan(found).any() and (found >= 0).all()
