"""One-dimensional networks: descent, flow time, lemmas, rates, matrices; claims 20 to 25 of the theory."""

import math
from functools import reduce

import mpmath
import numpy as np
import pytest
from scipy import integrate, stats

import lowrankflow as lrf
from lowrankflow import scalar
from lowrankflow.scalar.descent import others
from lowrankflow.scalar.outer import Mirrored

SQUARE = scalar.Square(-1.0)
EXP = (np.exp, np.exp)  # a user's pair

# ---------------------------------------------------------------------------------------------------------------------
# oracles


def slow_descent(w, derivative, h, steps):
    """Gradient descent coordinate by coordinate, every product of the others multiplied out."""
    w = [float(x) for x in w]
    for _ in range(steps):
        slope = derivative(math.prod(w))
        w = [x - h * slope * math.prod(w[:j] + w[j + 1 :]) for j, x in enumerate(w)]
    return np.array(w)


def integrated_time(w, f, loss, longest=1e6):
    """The time at which DOP853, on all coordinates, finds the loss."""
    rest = [[i for i in range(len(w)) if i != j] for j in range(len(w))]

    def hit(t, w):
        return float(f.value(np.prod(w))) - loss

    hit.terminal = True
    path = integrate.solve_ivp(
        lambda t, w: -f.derivative(np.prod(w)) * np.array([np.prod(w[r]) for r in rest]),
        (0, longest), w, method="DOP853", rtol=1e-12, atol=1e-14, events=hit,
    )  # fmt: skip
    return path.t_events[0][0] if path.t_events[0].size else np.inf


def typical(k, runs, rng, gap=0.05, **options):
    """Gaussian starts whose sizes differ, so that errors of an integration are not magnified."""
    w = scalar.start("xavier", k, 40 * runs, rng=rng, **options)
    sizes = np.sort(np.abs(w), axis=1)
    return w[(np.diff(sizes, axis=1).min(axis=1, initial=np.inf) > gap) & (sizes[:, -1] < 2)][:runs]


# ---------------------------------------------------------------------------------------------------------------------
# descent


@pytest.mark.parametrize("k", [1, 2, 3, 7, 20])
def test_descent_is_the_loop(k, rng):
    w = rng.uniform(-1.2, 1.2, (9, k))
    w[1, 0] = 0.0  # one zero, two zeros, ties
    w[2, : min(k, 2)] = 0.0
    w[3] = 1.0
    for f in (SQUARE, scalar.Square(0.5, factor=1.0), scalar.Logistic()):
        found = scalar.descend(w, f, step_size=0.05, stop=-1.0, limit=40)
        known = [slow_descent(each, f.derivative, 0.05, 40) for each in w]
        # p / w_j and the product of the others differ by k roundings a step; 40 steps of a map that is Lipschitz 1.2
        assert np.allclose(found.w, known, rtol=0, atol=1e-12 * k)
        assert (found.iterations == 40).all() and not found.reached.any()
        assert np.isinf(found.log_iterations).all()
    wrong = [slow_descent(each, SQUARE.derivative, 0.051, 40) for each in w]  # control
    assert not np.allclose(scalar.descend(w, SQUARE, step_size=0.05, stop=-1.0, limit=40).w, wrong, rtol=0, atol=1e-6)


def test_products_of_the_others_are_exact(rng):
    """Sizes 1e-300 to 1e300, zeros, subnormal ones: against fifty digits."""
    for _ in range(300):
        k = int(rng.integers(1, 12))
        w = rng.choice([-1, 1], k) * 10 ** rng.uniform(-1, 1, k) ** 3 * 10.0 ** rng.integers(-60, 60, k)
        w[rng.random(k) < 0.1] = 0.0
        if rng.random() < 0.2:
            w[0] = 5e-324
        found = others(w[:, None])[:, 0]
        with mpmath.workdps(50):
            for j in range(k):
                known = reduce(lambda a, b: a * b, [mpmath.mpf(float(x)) for i, x in enumerate(w) if i != j], mpmath.mpf(1))
                if abs(known) > 1.7e308:
                    assert np.isinf(found[j])
                else:
                    # a rounding for each factor, and the spacing of subnormal numbers
                    assert abs(found[j] - float(known)) <= 2e-15 * abs(float(known)) + 1e-323


def test_a_coordinate_at_zero_moves_and_two_stay():
    moved = scalar.descend([0.0, 2.0, 3.0], SQUARE, step_size=0.01, stop=-1, limit=1).w[0]
    assert moved == pytest.approx([-0.06, 2.0, 3.0], abs=1e-15)
    assert scalar.descend([0.0, 0.0, 3.0], SQUARE, step_size=0.01, stop=-1, limit=9).w.tolist() == [[0, 0, 3]]
    tiny = scalar.descend([1e-200, 1e-200, 1e150], SQUARE, step_size=1.0, stop=-1, limit=1).w[0]
    assert tiny == pytest.approx([-1e-50, -1e-50, 1e150], rel=1e-12, abs=0)  # the product of the first two underflows


def test_runs_end_at_the_first_iterate_at_the_loss(rng):
    w = scalar.start("xavier", 5, 300, rng=rng)
    found = scalar.descend(w, SQUARE, step_size=0.01, stop=0.1, limit=5000)
    assert found.reached.sum() > 200 and (SQUARE.value(found.w.prod(axis=1))[found.reached] <= 0.1).all()
    for i in np.flatnonzero(found.reached & (found.iterations > 0))[:5]:
        before = slow_descent(w[i], SQUARE.derivative, 0.01, int(found.iterations[i]) - 1)
        assert SQUARE.value(before.prod()) > 0.1
    short = scalar.descend(w, SQUARE, step_size=0.01, stop=0.1, limit=50)
    same = found.iterations <= 50
    assert (short.reached == (found.reached & same)).all() and (short.iterations == np.minimum(found.iterations, 50)).all()
    assert "NC" in str(short) and short.limit == 50


def test_blocks_and_step_sizes_of_runs_make_no_difference(rng):
    w = scalar.start("xavier uniform", 60, 700, rng=rng)  # three blocks
    h = rng.uniform(0.001, 0.02, 700)
    whole = scalar.descend(w, SQUARE, step_size=h, stop=0.1, limit=30)
    for i in (0, 300, 699):
        one = scalar.descend(w[i], SQUARE, step_size=float(h[i]), stop=0.1, limit=30)
        assert (one.w == whole.w[i]).all() and one.iterations[0] == whole.iterations[i]


def test_what_diverges_is_marked():
    w = np.array([[30.0, 20.0, 10.0], [0.5, 0.6, 0.7]])
    for f in (SQUARE, EXP):
        found = scalar.descend(w if f is SQUARE else w / 8, f, step_size=0.9, stop=0.1, limit=1000)
        assert found.diverged.tolist() == [True, False] or f is EXP
        assert np.isfinite(found.w).all() and np.isfinite(found.losses).all() and not (found.diverged & found.reached).any()
    assert "diverged" in str(scalar.descend(w, SQUARE, step_size=0.9, stop=0.1))


@pytest.mark.parametrize("after", [1, 3, 7])
def test_nothing_is_lost_to_an_interrupt(after, rng):
    w = scalar.start("small variance", 8, 3000, rng=rng)  # two blocks
    told = []

    def stop(stage, fraction):
        told.append(fraction)
        if len(told) == after:
            raise KeyboardInterrupt

    part = scalar.descend(w, SQUARE, step_size=0.01, stop=0.1, limit=2000, progress=stop)
    assert part.interrupted and "interrupted" in str(part)
    whole = scalar.descend(w, SQUARE, step_size=0.01, stop=0.1, limit=2000)
    for i in rng.integers(3000, size=20):  # each is on its way, where it says that it is
        assert (scalar.descend(w[i], SQUARE, step_size=0.01, stop=-1, limit=max(1, int(part.iterations[i]))).w[0]
                == part.w[i]).all() or part.iterations[i] == 0  # fmt: skip
    done = part.reached
    assert (part.iterations[done] == whole.iterations[done]).all() and not done.all()
    on = scalar.descend(part.w, SQUARE, step_size=0.01, stop=0.1, limit=2000)
    reached = whole.reached & on.reached
    assert (part.iterations + on.iterations == whole.iterations)[reached].all() and reached.sum() > 300


def test_progress_only_grows(rng):
    told = []
    scalar.descend(
        scalar.start("xavier", 8, 5000, rng=rng), SQUARE, step_size=0.01, stop=0.1, limit=600,
        progress=lambda stage, fraction: told.append(fraction),
    )  # fmt: skip
    assert len(told) > 10 and told == sorted(told) and told[-1] == pytest.approx(1.0)


# ---------------------------------------------------------------------------------------------------------------------
# flow time


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_flow_time_is_that_of_an_integration(k, rng):
    # rtol 1e-12, errors magnified by 1 / gap and, close to the minimum, by the steepness of the loss
    for f, loss in ((SQUARE, 0.1), (scalar.Square(2.0), 1e-6), (scalar.Logistic(), 0.3), (scalar.Square(-0.5, 2.0), 0.01)):
        w = typical(k, 6, rng)
        found = scalar.flow_time(w, f, loss)
        for each, t in zip(w, found, strict=True):
            if 0 < t < 1e4:
                assert t == pytest.approx(integrated_time(each, f, loss), rel=1e-8)
        assert ((found == 0) == (f.value(w.prod(axis=1)) <= loss)).all()
    changed = w * 1.001  # control
    assert not np.allclose(scalar.flow_time(changed, f, loss)[found > 0], found[found > 0], rtol=1e-7)


def test_a_user_s_pair_is_taken(rng):
    w = typical(3, 10, rng)
    pair = (lambda p: np.where(p > -2, 0.5 * (p + 1) ** 2, np.nan), lambda p: p + 1)
    assert np.allclose(scalar.flow_time(w, pair, 0.1), scalar.flow_time(w, SQUARE, 0.1), rtol=1e-12, atol=0)
    found = scalar.flow_time(w, EXP, 0.5)
    for each, t in zip(w, found, strict=True):  # e^p has no Lipschitz bound, but is convex
        assert t == pytest.approx(integrated_time(each, lrf.scalar.outer.Pair(*EXP), 0.5), rel=1e-8) or t == 0


def high_precision_log_time(w, target, loss):
    """ln T by mpmath, in u, cut at powers of the least scale; the product positive, the target negative."""
    with mpmath.workdps(30):
        sizes = sorted(mpmath.mpf(float(abs(x))) for x in w)
        delta = [s**2 - sizes[0] ** 2 for s in sizes[1:]]

        def rest(u):
            return mpmath.sqrt(reduce(lambda a, d: a * (u * u + d), delta, mpmath.mpf(1)))

        end = target + mpmath.sqrt(2 * mpmath.mpf(loss))  # from above
        last = bisect(lambda u: u * rest(u) - end, -sizes[-1] * 4 - 4, mpmath.mpf(0))
        scales = [mpmath.sqrt(min(delta)) * 4**d for d in range(40)]
        cuts = sorted({last, mpmath.mpf(0), sizes[0], *(s for t in scales for s in (t, -t) if last < s < sizes[0])})
        return float(mpmath.log(mpmath.quad(lambda u: 1 / (abs(u * rest(u) - target) * rest(u)), cuts, maxdegree=5)))


def bisect(function, a, b):
    for _ in range(120):
        middle = (a + b) / 2
        a, b = (middle, b) if function(middle) < 0 else (a, middle)
    return (a + b) / 2


@pytest.mark.parametrize("k", [6, 25])
def test_deep_and_tiny_against_thirty_digits(k, rng):
    for spread in (0.5, 8.0):
        w = 10 ** rng.uniform(-spread, 0.3, k)
        found = scalar.flow_time(w, SQUARE, 0.1, log=True)[0]
        # logarithms of k factors, each with a rounding of its size
        assert found == pytest.approx(high_precision_log_time(w, -1.0, 0.1), rel=1e-12, abs=1e-9)


def test_units_signs_and_order_make_no_difference(rng):
    """w -> c w, y -> c^k y, loss -> c^(2k) loss: T -> c^(2 - 2k) T. Scales 1e-8 to 1e8, 300 starts."""
    for _ in range(30):
        k = int(rng.integers(1, 9))
        w = scalar.start("xavier", k, 10, rng=rng)
        base = scalar.flow_time(w, SQUARE, 0.1, log=True)
        c = 2.0 ** int(rng.integers(-26, 27))
        other = scalar.flow_time(c * w, scalar.Square(-(c**k)), 0.1 * c ** (2 * k), log=True)
        part = np.isfinite(base)
        # scaling by powers of two is exact; logarithms up to 300 are not
        assert np.allclose(other[part], base[part] + (2 - 2 * k) * np.log(c), rtol=0, atol=1e-9)
        assert (np.isfinite(other) == part).all()
        sigma, order = rng.choice([-1.0, 1.0], k), rng.permutation(k)
        f = SQUARE if sigma.prod() > 0 else Mirrored(SQUARE)
        signed = scalar.flow_time((sigma * w)[:, order], f, 0.1, log=True)
        assert np.allclose(signed[part], base[part], rtol=0, atol=1e-10)


def test_sizes_of_hundreds_of_digits_are_taken(rng):
    w = np.exp(rng.uniform(-600, 200, (20, 60)))
    log_time = scalar.flow_time(w, SQUARE, 0.1, log=True)
    assert (log_time > 709).all() and np.isfinite(log_time).all() and np.isinf(scalar.flow_time(w, SQUARE, 0.1)).all()
    # the largest part is at u = 0, of height 1 / prod sqrt(delta) over a width of about the least gap
    sizes = np.sort(w, axis=1)
    rough = -np.log(sizes[:, 1:]).sum(axis=1) + np.log(sizes[:, 1])
    assert np.abs(log_time - rough).max() < 10


def test_where_the_flow_never_arrives():
    never = [[1, 1, 1], [0.5, -0.5, -2], [0, 0, 3], [0, 0, 0], [1, 1, 0.0]]
    found = scalar.flow_time(never, SQUARE, 0.1)
    assert np.isinf(found[:4]).all() and np.isfinite(found[4])  # one zero alone is crossed
    assert np.isfinite(scalar.flow_time([[-1, 1, 1], [1, 1, 0.9]], SQUARE, 0.1)).all()  # no crossing; no tie of the least
    assert scalar.flow_time([-0.5, 0.5, 2.0], SQUARE, 0.1)[0] == pytest.approx(
        integrated_time(np.array([-0.5, 0.5, 2.0]), SQUARE, 0.1), rel=1e-9
    )
    assert np.isinf(scalar.flow_time([[1, 2], [-1, 2]], SQUARE, 0.0)).all()  # the infimum
    assert np.isinf(scalar.flow_time([1.0, 2.0], scalar.Logistic(), -0.1))
    assert np.isinf(scalar.flow_time([1.0, 2.0], (lambda p: p * p + 3, lambda p: 2 * p), 2.9))
    assert scalar.flow_time([1.0, 1.0], SQUARE, 5.0, log=True)[0] == -np.inf
    assert np.isinf(scalar.flow_time([1.0, 1.0], (lambda p: 0 * p + 1, lambda p: 0 * p), 0.5))  # no slope


def test_descent_takes_the_flow_s_time_over_its_step():
    """Claim 22: within 1 % at h = 1e-3, of runs worth hundreds of iterations; control: another step."""
    w = typical(6, 60, np.random.default_rng(1))
    runs = scalar.descend(w, SQUARE, step_size=1e-3, stop=0.1, limit=200_000)
    ratio = runs.iterations * 1e-3 / scalar.flow_time(w, SQUARE, 0.1).clip(1e-300)
    part = runs.reached & (runs.iterations > 200)
    assert part.sum() > 40 and np.abs(ratio[part] - 1).max() < 0.01
    coarse = scalar.descend(w[part], SQUARE, step_size=0.1, stop=0.1)
    assert np.abs(coarse.iterations * 0.1 / scalar.flow_time(w[part], SQUARE, 0.1) - 1).max() > 0.01


# ---------------------------------------------------------------------------------------------------------------------
# lemmas


@pytest.mark.parametrize("k", [5, 10, 20, 40])
def test_lemma_5(k, rng):
    count, a = 20_000, math.sqrt(2 / math.pi)
    w = scalar.start("xavier", k, count, rng=rng)
    threshold, probability = scalar.product_tail(k, a)
    largest = scalar.largest_partial(w)
    direct = np.abs(np.array([np.delete(w[:50], j, axis=1).prod(axis=1) for j in range(k)])).max(axis=0)
    assert np.allclose(largest[:50], direct, rtol=1e-12)
    allowed = stats.binom.isf(1e-12, count, probability) / count
    assert (largest >= threshold).mean() <= allowed
    # control: the product of all typical coordinates is exceeded by more
    assert (largest >= math.exp(-(k - 1) * scalar.rate_law("xavier"))).mean() > allowed


def test_lemma_6_never_certifies_too_much(rng):
    """300 Gaussian and 100 other starts; control: without the factor beta in the gradient it does, most of the time."""
    checked = wrong = 0
    for f, stop in ((SQUARE, 0.1), (scalar.Logistic(), 0.3), (scalar.Square(-1.0, 1.0), 0.5)):
        for kind, k in (("xavier", 6), ("xavier", 12), ("small variance", 5)):
            w = scalar.start(kind, k, 60, rng=rng)
            runs = scalar.descend(w, f, step_size=0.02, stop=stop, limit=20_000)
            bound = scalar.iterations_bound(w, f, step_size=0.02, stop=stop)
            part = runs.reached & (runs.iterations > 0)
            assert (bound[part] <= runs.iterations[part]).all()
            checked += part.sum()
            wrong += (bound[part] / scalar.largest_partial(w)[part] ** 2 > runs.iterations[part]).sum()
    assert checked > 300 and wrong > 20


def test_lemma_6_is_the_formula_and_says_nothing_where_it_cannot():
    w, h = np.array([0.3, 0.5, 0.7, 0.9]), 0.01
    alpha, delta, k = 0.5 * 0.7 * 0.9, 0.3, 4
    best = 0.0
    for ratio in np.geomspace(1.001, 1000, 4000):
        r, beta = delta * math.log(ratio) / math.sqrt(k - 1), alpha * ratio
        b = beta * (0.9 + r)
        if b < 1 - math.sqrt(0.2):  # else (b - 1)^2 / 2 is not above the loss
            best = max(best, r / (h * math.sqrt(k) * beta * (b + 1)))
    found = scalar.iterations_bound(w, SQUARE, step_size=h, stop=0.1)[0]
    assert 0.98 * best < found <= best * (1 + 1e-6)  # a grid of 400 betas, each 1.7 % above the last, against one of 4000
    assert scalar.iterations_bound([[0, 1, 1], [3, 3, 3]], SQUARE, step_size=h, stop=0.1).tolist() == [0, 0]
    tiny = scalar.iterations_bound(np.full((1, 60), 1e-8), SQUARE, step_size=h, stop=0.1)
    assert np.isfinite(tiny).all()


def test_lemma_11_is_exact(rng):
    for f in (SQUARE, scalar.Logistic(), scalar.Square(0.3, 1.0)):
        for _ in range(5):
            k = int(rng.integers(2, 9))
            w, sigma = scalar.start("xavier uniform", k, 20, rng=rng), rng.choice([-1.0, 1.0], k)
            sigma[0] = -sigma[1:].prod()
            assert scalar.sign_gap(w, sigma, f, step_size=0.01, steps=300) == 0
            assert scalar.sign_gap(w, sigma, f, step_size=0.01, steps=300, mirrored=False) > 1e-3


def test_lemma_13_bounds_the_good_case(rng):
    """Claim 20: 200 draws; control: the bound over twenty, and the formula."""
    w = rng.uniform(0.45, 1.0, (200, 5))
    h = w.min(axis=1) ** 2 / (2 * 5)
    runs = scalar.descend(w, scalar.Square(1.0), step_size=h, stop=0.01, limit=500_000)
    bound = scalar.decline_bound(w, 1.0, step_size=h, loss=0.01)
    assert runs.reached.all() and (runs.iterations <= bound).all()
    assert (runs.iterations > bound / 20).any()
    delta, gamma = np.sort(w[0])[:2]
    assert bound[0] == pytest.approx(math.log(50) / (5 * delta**2 * gamma**6 * h[0]))
    assert scalar.decline_bound([0.5, 0.6], 1.0, step_size=0.01, loss=0.6)[0] == 0


def test_assumptions_say_which_is_not_met():
    good = scalar.theorem_3_assumptions([1.1, 0.9, 1.0], SQUARE)
    assert all(h.met for h in good) and len(good) == 4
    names = [h.name for h in scalar.theorem_3_assumptions([1.4] * 20, SQUARE) if not h.met]
    assert names == ["max |w_j - 1| <= k^(-c_1)", "c_2 <= product <= c_3"]
    assert all(h.met for h in scalar.theorem_3_assumptions([1.1, 0.9], scalar.Logistic()))
    assert all(h.met for h in scalar.theorem_3_assumptions([1.1, 0.9], EXP))
    flat = (lambda p: 0 * p, lambda p: 0 * p)
    assert [h.met for h in scalar.theorem_3_assumptions([1.0], flat)][:2] == [False, False]
    four = scalar.theorem_4_assumptions([1.0, 0.8, 0.5, 1.2], -1.0)
    assert all(h.met for h in four) and len(four) == 5
    broken = {
        "the target is negative": ([1, 0.8, 0.5], 0.1), "|w_i| <= c_2": ([11, 0.8, 0.5], -1.0),
        "the product is above the target": ([2, 0.8, -1], -1.0), "sizes differ by k^(-c_4)": ([1, 0.5, -0.5], -1.0),
        "products of all but two are at most c_4": ([9, 8, 0.5, 0.1], -1.0),
    }  # fmt: skip
    for name, (w, y) in broken.items():
        assert name in [h.name for h in scalar.theorem_4_assumptions(w, y) if not h.met]


# ---------------------------------------------------------------------------------------------------------------------
# starts and rates


def test_starts_have_their_laws():
    count, d, k = 400, 6, 4
    for kind, variance in (("xavier", 1 / d), ("xavier uniform", 1 / d), ("near identity", 1 / (d * k)),
                           ("small variance", 1 / (d * k) ** 2)):  # fmt: skip
        w = scalar.start(kind, k, count, width=d, rng=0)
        assert w.shape == (count, k, d, d)
        noise = w - (np.eye(d) if kind in ("near identity", "small variance") else 0)
        # 57 600 entries: means to 5 / 240 of a standard deviation, variances to 5 sqrt(2) / 240
        assert abs(noise.mean()) < 0.021 * math.sqrt(variance)
        assert noise.var() == pytest.approx(variance, rel=0.03)
        assert (scalar.start(kind, k, count, width=d, rng=0) == w).all()
        one = scalar.start(kind, 50, 2000, variance=2.0, rng=0)
        spread = {"xavier": 2, "xavier uniform": 2, "near identity": 2 / 50, "small variance": 2 / 2500}[kind]
        assert one.shape == (2000, 50) and one.var() == pytest.approx(spread, rel=0.03)
    q = scalar.start("orthogonal", 3, 5, width=4, rng=0)
    assert np.allclose(q @ np.swapaxes(q, -1, -2), np.eye(4), atol=1e-14)
    assert (scalar.start("identity", 3, 2) == 1).all() and (scalar.start("identity", 3, 2, width=2)[1, 2] == np.eye(2)).all()
    signs = scalar.start("orthogonal", 3, 500, rng=0)
    assert set(np.unique(signs)) == {-1.0, 1.0} and abs(signs.mean()) < 0.15
    assert np.abs(scalar.start("xavier uniform", 3, 500, rng=0)).max() < math.sqrt(3)


def test_the_law_is_minus_the_mean_logarithm():
    for variance in (0.5, 1.0, 2.0):
        s = math.sqrt(variance)
        gauss = 2 * integrate.quad(lambda x, s=s: -math.log(x) * stats.norm.pdf(x, scale=s), 0, np.inf, epsabs=1e-12)[0]
        flat = integrate.quad(lambda x: -math.log(x), 0, s * math.sqrt(3))[0] / (s * math.sqrt(3))
        assert scalar.rate_law("xavier", variance=variance) == pytest.approx(gauss, abs=1e-8)
        assert scalar.rate_law("xavier uniform", variance=variance) == pytest.approx(flat, abs=1e-8)
    for kind in ("xavier", "xavier uniform"):
        assert scalar.rate_law(kind, variance=scalar.critical_variance(kind)) == pytest.approx(0, abs=1e-14)


def test_fitted_rate_covers_the_slope_it_should(rng):
    covered = 0
    for _ in range(60):
        data = {k: 0.4 * k + rng.standard_normal(60) for k in range(2, 14, 2)}
        found = scalar.fitted_rate(data, resamples=400, rng=rng)
        covered += found.low <= 0.4 <= found.high
        line = np.polyfit(list(data), found.medians, 1)
        assert found.slope == pytest.approx(line[0]) and found.intercept == pytest.approx(line[1])
    assert covered >= 46  # of 60 at 95 %: 46 and fewer have a probability below 1e-6, and bootstraps are a little short
    data[4][:20] = np.inf
    capped = scalar.fitted_rate(data, rng=0)
    assert capped.missing.tolist() == [0, 20, 0, 0, 0, 0] and np.isfinite(capped.band).all()


# ---------------------------------------------------------------------------------------------------------------------
# claims 21 to 24, reduced


def log_times(kind, depths, runs=400, **options):
    return {k: scalar.flow_time(scalar.start(kind, k, runs, rng=k, **options), SQUARE, 0.1, log=True) for k in depths}


def test_slopes_of_the_paper_s_starts():
    gauss, flat = (log_times(kind, range(2, 21, 2)) for kind in ("xavier", "xavier uniform"))
    a, b = (scalar.fitted_rate(each, rng=0, resamples=200) for each in (gauss, flat))
    assert a.slope == pytest.approx(0.43, abs=0.06) and a.r_squared >= 0.95  # claim 21
    assert b.slope == pytest.approx(0.24, abs=0.06) and b.high < a.low
    late = scalar.fitted_rate({k: gauss[k] for k in range(10, 21, 2)}, rng=0, resamples=200)
    assert late.slope == pytest.approx(0.53, abs=0.08)
    narrow = log_times("small variance", (2, 4, 6, 8, 10, 12, 16, 20))  # claim 23
    early, middle, end = (
        scalar.fitted_rate({k: narrow[k] for k in ks}, rng=0, resamples=200).slope
        for ks in ((2, 4, 6), (6, 8, 10, 12), (12, 16, 20))
    )
    assert middle == pytest.approx(0.86, abs=0.12) and early < middle < end
    wide = scalar.fitted_rate(log_times("near identity", (3, 4, 6, 8, 10, 12)), rng=0, resamples=200)
    assert wide.slope <= 0.3


@pytest.mark.slow
def test_slopes_far_out_and_the_law():
    """Claim 22, 3000 runs a depth; at variance 2, 20 000 runs gave .219 +- .006, at the low end of .29 +- .08."""
    for variance, expected, slack in ((0.5, 0.9, 0.08), (1.0, 0.56, 0.06), (2.0, 0.22, 0.04)):
        found = scalar.fitted_rate(log_times("xavier", (20, 30, 40), 3_000, variance=variance), rng=0, resamples=200)
        assert found.slope == pytest.approx(expected, abs=slack)
        assert found.high < scalar.rate_law("xavier", variance=variance)
    above = scalar.fitted_rate(log_times("xavier", (20, 30, 40), 3_000, variance=4.0), rng=0, resamples=200)
    assert above.high < 0


def test_from_ones_descent_halts_at_zero():
    """Claim 24: w(t) ((k - 2) t)^(1 / (k - 2)) -> 1 at t = 1e4, k = 5, and the loss stays above 1/2."""
    runs = scalar.descend(np.ones(5), SQUARE, step_size=0.2, stop=0.4, limit=50_000)
    assert runs.losses[0] >= 0.5 and not runs.reached[0]
    assert runs.w[0, 0] * (3 * 0.2 * 50_000) ** (1 / 3) == pytest.approx(1, abs=0.01)
    assert scalar.descend([0.9, 1, 1, 1, 1], SQUARE, step_size=0.2, stop=0.4, limit=50_000).reached[0]  # control


# ---------------------------------------------------------------------------------------------------------------------
# matrices


def matrix_descent(factors, h, stop):
    """Iterations of descent of |W + I|^2 / 2, the product rule written out."""
    count, one = 0, np.eye(len(factors[0]))
    while True:
        product = reduce(lambda a, w: w @ a, factors, one)
        residual = product + one
        if 0.5 * (residual**2).sum() <= stop:
            return count
        right = [one]
        for w in factors[:-1]:
            right.append(w @ right[-1])
        left, gradients = residual, []
        for w, r in zip(factors[::-1], right[::-1], strict=True):
            gradients.append(left @ r.T)
            left = w.T @ left
        factors = [w - h * g for w, g in zip(factors, gradients[::-1], strict=True)]
        count += 1


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("kind", ["xavier", "near identity", "small variance"])
def test_flow_time_of_matrices_stands_for_descent(kind, k):
    w = scalar.start(kind, k, width=25, rng=k)[0]
    found = scalar.matrix_time(w)
    assert found.reached and found.iterations == pytest.approx(matrix_descent(list(w), 1e-3, 0.1), rel=0.02)
    assert found.gradients < found.iterations / 5


def test_matrices_of_one_number_are_the_scalar_network(rng):
    for w in typical(4, 5, rng):
        found = scalar.matrix_time(w[:, None, None], rtol=1e-9)
        assert found.time == pytest.approx(scalar.flow_time(w, SQUARE, 0.1)[0], rel=1e-6)
    done = scalar.matrix_time([[[-1.0]], [[1.0]]])
    assert done.reached and done.time == 0 and done.path is None
    stuck = scalar.matrix_time([[[1.0]], [[1.0]], [[1.0]]], longest=10.0)
    assert not stuck.reached and np.isinf(stuck.time) and stuck.path.status is lrf.Status.FINISHED


@pytest.mark.slow
def test_matrices_grow_as_in_the_figure():
    """Claim 25 through the flow, 8 runs: k = 2, 3, 4 beside the values read off; near identity saturates."""
    read = {"xavier": (8.55, 9.7, 11.3), "near identity": (8.55, 9.6, 10.95), "small variance": (8.8, 10.8, 11.8)}
    for kind, values in read.items():
        for k, value, slack in zip((2, 3, 4), values, (0.3, 0.6, 0.8), strict=True):
            logs = [np.log(scalar.matrix_time(w).iterations) for w in scalar.start(kind, k, 8, width=25, rng=k)]
            assert np.mean(logs) == pytest.approx(value, abs=slack)


@pytest.mark.slow
def test_odd_sizes_grow_and_even_ones_do_not():
    """Parity, 24 runs each: the determinant has to change its sign for odd d alone."""
    def grown(d):
        means = [
            np.mean([np.log(scalar.matrix_time(w).iterations) for w in scalar.start("small variance", k, 24, width=d, rng=k)])
            for k in (3, 6)
        ]
        return means[1] - means[0]

    assert grown(5) > 2 and grown(4) < 1.5


# ---------------------------------------------------------------------------------------------------------------------
# the report, and bad input


@pytest.mark.parametrize("seed", [1, 2])
def test_every_claim_passes_with_its_controls(seed):
    told = []
    report = scalar.verify(rng=seed, progress=lambda stage, fraction: told.append(fraction))
    assert report.passed and len(report.claims) == 7 and told == sorted(told)
    assert all(c.verdict == "passed" and c.controls for c in report.claims)


BAD = {
    "ragged": (lambda: scalar.descend([[1, 2], [3]], SQUARE, step_size=1, stop=0), ValueError, "`w` must be a rectangular"),
    "NaN": (lambda: scalar.descend([np.nan, 1], SQUARE, step_size=1, stop=0), ValueError, "`w` must be finite"),
    "step": (lambda: scalar.descend([1, 1], SQUARE, step_size=0, stop=0), ValueError, "`step_size` must be positive"),
    "steps": (lambda: scalar.descend([1, 1], SQUARE, step_size=[1, 1], stop=0), ValueError, "`step_size` must have shape"),
    "limit": (lambda: scalar.descend([1, 1], SQUARE, step_size=1, stop=0, limit=0), ValueError, "`limit` must be at least 1"),
    "f": (lambda: scalar.descend([1, 1], 3, step_size=1, stop=0), TypeError, "`f` must have value"),
    "a class": (lambda: scalar.descend([1, 1], scalar.Square, step_size=1, stop=0), TypeError, "`f` must have value"),
    "a triple": (lambda: scalar.flow_time([1, 1], (abs, abs, abs), 0), TypeError, "`f` must be a pair"),
    "a scalar pair": (lambda: scalar.descend([1, 1], (lambda p: 1.0, lambda p: 1.0), step_size=1, stop=0), ValueError,
                      "`f` must have functions of arrays"),
    "infinite": (lambda: scalar.descend([1e200, 1e200], SQUARE, step_size=1, stop=0), ValueError, "`w` must have a finite loss"),
    "infinite time": (lambda: scalar.flow_time([1e200, 1e200], SQUARE, 0), ValueError, "`w` must have a finite loss"),
    "loss": (lambda: scalar.flow_time([1, 1], SQUARE, np.nan), ValueError, "`loss` must be a finite number"),
    "kind": (lambda: scalar.start("he", 3), ValueError, "`kind` must be one of xavier"),
    "variance": (lambda: scalar.start("identity", 3, variance=2), ValueError, "`variance` must be 1 for 'identity'"),
    "law": (lambda: scalar.rate_law("near identity"), ValueError, "`kind` must be one of xavier, xavier uniform"),
    "one layer": (lambda: scalar.iterations_bound([1.0], SQUARE, step_size=1, stop=0), ValueError, "`w` must have at least 2"),
    "one layer too": (lambda: scalar.theorem_4_assumptions([1.0], -1.0), ValueError, "`w` must have at least 2"),
    "mean": (lambda: scalar.product_tail(5, 1.13), ValueError, "`mean_size` must be below 1, got 1.13"),
    "signs": (lambda: scalar.sign_gap([1, 1], [1, 2], SQUARE, step_size=1, steps=1), ValueError, "`signs` must be 1 and -1"),
    "sign": (lambda: scalar.decline_bound([-1, 1], 2.0, step_size=0.1, loss=0.1), ValueError, "`w` must be positive, got -1"),
    "beyond": (lambda: scalar.decline_bound([2, 2], 2.0, step_size=0.1, loss=0.1), ValueError, "products below the target 2"),
    "far": (lambda: scalar.decline_bound([1, 1], 2.0, step_size=0.1, loss=0.1), ValueError, r"at most delta\^2 / \(2 k y\^2\)"),
    "a list": (lambda: scalar.fitted_rate([1, 2]), TypeError, "`log_times` must map depths"),
    "one depth": (lambda: scalar.fitted_rate({2: [1.0]}), ValueError, "`log_times` must have at least 2 depths"),
    "NC": (lambda: scalar.fitted_rate({2: [1.0], 3: [np.inf]}), ValueError, "finite median at every depth, got inf at depth 3"),
    "empty": (lambda: scalar.fitted_rate({2: [1.0], 3: []}), ValueError, "finite median at every depth"),
    "level": (lambda: scalar.fitted_rate({2: [1.0], 3: [1.0]}, confidence=1), ValueError, "`confidence` must be below 1"),
    "target": (lambda: scalar.matrix_time([np.eye(2)] * 2, target=np.eye(3)), ValueError, r"`target` has shape \(3, 3\) but"),
    "zero loss": (lambda: scalar.matrix_time([np.eye(2)] * 2, loss=0), ValueError, "`loss` must be positive"),
    "square target": (lambda: scalar.Square(np.inf), ValueError, "`target` must be a finite number"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case):
    call, error, words = BAD[case]
    with pytest.raises(error, match=words):
        call()
