"""Rules, schedules, stops, batches and checkpoints of gradient descent."""

from dataclasses import dataclass

import numpy as np
import pytest

import lowrankflow as lrf
from lowrankflow import descent
from lowrankflow.descent import (
    Adam,
    Decreasing,
    EdgeFraction,
    Gradient,
    GradientBelow,
    HeavyBall,
    LayerRates,
    LossBelow,
    MiniBatches,
    Nesterov,
    TimeReached,
    WeightDecay,
)  # fmt: skip
from lowrankflow.foreign import tensors_may_come


def problem(seed=0, depth=3, shape=(4, 5), samples=30):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((shape[1], samples)), rng.standard_normal((shape[0], samples))
    loss = lrf.losses.LeastSquares(x, y, reduction="mean")
    start = lrf.random_point(*shape, 2, rng=rng, singular_values=[0.5, 0.3])
    return loss, lrf.LinearNetwork.balanced(start, depth, widths=5, rng=rng), x, y


def flat(net):
    return np.concatenate([f.ravel() for f in net.factors])


def plain_gradient(x, y, like):
    """The gradient of the mean square loss with respect to one vector of parameters, by numpy alone."""
    shapes = [f.shape for f in like.factors]
    cuts = np.cumsum([a * b for a, b in shapes])[:-1]

    def gradient(v, chosen=slice(None)):
        f = [p.reshape(s) for p, s in zip(np.split(v, cuts), shapes, strict=True)]
        outs = [x[:, chosen]]
        for w in f:
            outs.append(w @ outs[-1])
        back, found = (outs[-1] - y[:, chosen]) / outs[0].shape[1], []
        for w, a in zip(reversed(f), reversed(outs[:-1]), strict=True):
            found.insert(0, (back @ a.T).ravel())
            back = w.T @ back
        return np.concatenate(found)

    return gradient


# ---------------------------------------------------------------------------------------------------------------------
# rules, each against the recursion of its source on one vector of parameters


def heavy_ball(g, v, h, n, beta=0.9):
    """Polyak's own form, with the last two iterates: x + beta (x - x') - h g(x)."""
    before = v
    for _ in range(n):
        v, before = v + beta * (v - before) - h * g(v), v
    return v


def nesterov(g, v, h, n, beta=0.9):
    """The gradient at the point ahead; what the library keeps is that point."""
    m = np.zeros_like(v)
    for _ in range(n):
        ahead = v + beta * m
        m = beta * m - h * g(ahead)
        v = v + m
    return v + beta * m


def adam(g, v, h, n, a=0.9, b=0.999, eps=1e-8):
    means, squares = [], []  # the weighted means written out as sums
    for k in range(n):
        means.append(g(v))
        squares.append(means[-1] ** 2)
        m = sum((1 - a) * a ** (k - i) * x for i, x in enumerate(means)) / (1 - a ** (k + 1))
        s = sum((1 - b) * b ** (k - i) * x for i, x in enumerate(squares)) / (1 - b ** (k + 1))
        v = v - h * m / (np.sqrt(s) + eps)
    return v


def decayed(g, v, h, n, gamma=0.1):
    for _ in range(n):
        v = (1 - h * gamma) * v - h * g(v)
    return v


@pytest.mark.parametrize(
    "rule, oracle, h",
    [
        (HeavyBall(0.9), heavy_ball, 0.02),
        (Nesterov(0.9), nesterov, 0.02),
        (Adam(), adam, 0.01),
        (WeightDecay(0.1), decayed, 0.05),
        (WeightDecay(0.1, decoupled=True), decayed, 0.05),
    ],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_rules_are_those_of_their_sources(rule, oracle, h):
    loss, net, x, y = problem()
    path = lrf.gradient_descent(loss, net, step_size=h, steps=40, rule=rule)
    expected = oracle(plain_gradient(x, y, net), flat(net), h, 40)
    # forty updates of numbers near one; near zero gradients, Adam divides by them: roundoff 1e-16 over 1e-8
    assert np.allclose(flat(path.points[-1]), expected, rtol=0, atol=1e-7 if oracle is adam else 1e-12)
    assert not np.allclose(flat(path.points[-1]), oracle(plain_gradient(x, y, net), flat(net), h, 39), rtol=0, atol=1e-5)


def test_decoupled_decay_differs_behind_adam():
    loss, net, *_ = problem()
    ends = [
        lrf.gradient_descent(loss, net, step_size=0.01, steps=30, rule=WeightDecay(0.1, Adam(), decoupled=flag)).points[-1]
        for flag in (False, True)
    ]
    assert np.linalg.norm(flat(ends[0]) - flat(ends[1])) > 1e-3


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_layer_rates_run_the_depth_n_flow_with_another_clock(depth):
    """From factors balanced with weights 1 / rate; order 1 in the step, so half the gap at half of it (derived)."""
    loss, _, *_ = problem(shape=(4, 4))
    rates = np.linspace(0.5, 2.0, depth)
    start = lrf.random_point(4, 4, 2, rng=3, singular_values=[0.5, 0.3])
    net = lrf.LinearNetwork.balanced(start, depth, widths=2)
    # W_j scaled by sqrt(eta_j), over the N-th root of their product: the same W
    c = np.sqrt(rates / np.prod(rates) ** (1 / depth))
    net = lrf.LinearNetwork([a * f for a, f in zip(c, net.factors, strict=True)])
    clock = np.prod(rates) ** (1 / depth)
    flow = lrf.integrate(
        lrf.RiemannianFlow(loss, lrf.DepthMetric(depth)), start, t_span=(0, clock), rtol=1e-11, save=lrf.Save(times=[clock])
    )

    def away(h, rule):
        path = lrf.gradient_descent(loss, net, step_size=h, steps=round(1 / h), rule=rule)
        return np.linalg.norm(path.points[-1].to_dense() - flow.points[-1].to_dense())

    coarse, fine = away(1 / 256, LayerRates(rates)), away(1 / 512, LayerRates(rates))
    assert coarse / fine == pytest.approx(2, abs=0.1) and fine < 3e-3
    assert away(1 / 512, Gradient()) > 10 * fine  # the control: without the rates it is another flow


def test_a_rule_of_the_user_in_a_few_lines():
    @dataclass(frozen=True)
    class Signs:
        """Sign descent."""

        def start(self, factors):
            return {}

        def directions(self, k, egrads, factors, memory):
            return [np.sign(g) for g in egrads], memory

    loss, net, *_ = problem()
    path = lrf.gradient_descent(loss, net, step_size=1e-3, steps=5, rule=Signs(), keep_every=1)
    moves = np.diff([flat(w) for w in path.points], axis=0)
    assert np.isin(np.round(np.abs(moves), 12), [0, 1e-3]).all() and path.method == f"{Signs()!r}, step 0.001"


# ---------------------------------------------------------------------------------------------------------------------
# what a rule conserves


def drift(rule, h, weights=None, decay=0.0, batches=None, time=0.5):
    """How far the imbalances, with weights, have moved at a time, from what the flow of the rule conserves."""
    loss, _, *_ = problem(shape=(4, 4))
    net = lrf.LinearNetwork.gaussian((4, 4), 3, widths=4, scale=0.7, rng=1)
    path = lrf.gradient_descent(loss, net, step_size=h, steps=round(time / h), rule=rule, batches=batches)
    c = np.ones(3) if weights is None else 1 / np.asarray(weights)

    def imbalances(w):
        return [c[j + 1] * b.T @ b - c[j] * a @ a.T for j, (a, b) in enumerate(zip(w.factors, w.factors[1:], strict=False))]

    gone = np.exp(-2 * decay * path.t[-1])
    pairs = zip(imbalances(path.points[-1]), imbalances(net), strict=True)
    return max(np.linalg.norm(after - gone * before) for after, before in pairs)


RATES = (0.5, 1.0, 2.0)


@pytest.mark.parametrize(
    "rule, options, order",
    [
        (Gradient(), {}, 1),
        (HeavyBall(0.5), {}, 1),
        (Nesterov(0.5), {}, 1),
        (LayerRates(RATES), {"weights": RATES}, 1),
        (WeightDecay(0.2), {"decay": 0.2}, 1),
        # controls: what is not conserved does not vanish with the step
        (LayerRates(RATES), {}, 0),
        (WeightDecay(0.2), {}, 0),
        (Adam(), {}, 0),
    ],
    ids=repr,
)
def test_what_each_rule_conserves(rule, options, order):
    """The drift in a fixed time falls with the step where the flow of the rule conserves the quantity, else not."""
    found = np.array([drift(rule, 0.5 / 2**k / 16, **options) for k in range(5)])
    orders = np.log2(found[:-1] / found[1:])
    # the next order in h leaves a few hundredths; a control is far from 1
    assert abs(orders[-1] - 1) < 0.12 if order else orders[-1] < 0.4, orders


def test_mini_batches_conserve_the_imbalance_too():
    """Each update of any loss of W changes it by h^2: the drift falls with the step although the noise does not."""
    _, _, x, y = problem(shape=(4, 4))
    found = [drift(Gradient(), h, batches=MiniBatches(x, y, 3, rng=0)) for h in (1 / 64, 1 / 512)]
    assert 5 < found[0] / found[1] < 13  # 8, but that another number of batches is drawn


# ---------------------------------------------------------------------------------------------------------------------
# steps


def test_schedules():
    loss, net, *_ = problem()
    path = lrf.gradient_descent(loss, net, step_size=Decreasing(0.1, 1.0), steps=4, keep_every=1)
    assert np.diff(path.t) == pytest.approx([0.1, 0.05, 0.1 / 3, 0.025])
    assert "Decreasing(first=0.1, power=1.0)" in path.method


def test_a_fraction_of_the_edge():
    loss, net, *_ = problem()
    path = lrf.gradient_descent(loss, net, step_size=EdgeFraction(0.5, every=3), steps=7, keep_every=1)
    steps = np.diff(path.t)
    assert steps[0] == pytest.approx(1 / lrf.sharpness(loss, net), rel=0.02)  # its Lanczos iteration stops at 1e-2
    assert len(np.unique(np.round(steps, 12))) == 3 and steps[1] == pytest.approx(steps[0], rel=1e-12)
    assert steps[6] == pytest.approx(1 / lrf.sharpness(loss, path.points[6]), rel=0.02)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -0.1])
def test_a_schedule_that_gives_no_step_is_a_status(bad):
    loss, net, *_ = problem()
    path = lrf.gradient_descent(loss, net, step_size=lambda k: 0.05 if k < 3 else bad, steps=9, keep_every=2)
    assert path.status is lrf.Status.BAD_STEP and path.nsteps == 3 and not path.status.finished
    assert f"`step_size` gave {bad:g} at update 4" in path.message
    assert path.t == pytest.approx([0, 0.1, 0.15])  # the last good iterate is kept


def test_directions_that_are_not_finite_are_told_from_a_long_step():
    loss, net, *_ = problem()
    wrong = rule(directions=lambda g, m: ([np.nan * a for a in g], m))
    path = lrf.gradient_descent(loss, net, step_size=0.1, steps=9, rule=wrong)
    assert path.status is lrf.Status.NOT_FINITE and path.nsteps == 0 and "Look at what `rule` makes of them" in path.message
    assert path.method == "Wrong, step 0.1"


def test_a_rule_cannot_change_what_it_is_given():
    loss, net, *_ = problem()
    before = flat(net)

    def spoil(egrads, memory):
        egrads[0][...] = 0
        return egrads, memory

    with pytest.raises(ValueError, match="read-only"):
        lrf.gradient_descent(loss, net, step_size=0.1, steps=3, rule=rule(directions=spoil))
    assert np.array_equal(flat(net), before)


def test_a_run_that_a_test_ends_keeps_what_was_made():
    """One to two hundred iterates, of however many updates; the first and the last among them."""
    loss, net, *_ = problem()
    for k in (0, 3, 150, 400, 5000):
        path = lrf.gradient_descent(loss, net, step_size=0.01, steps=10**8, stop=lambda at, k=k: at.k >= k)
        assert path.nsteps == k and min(k + 1, 100) <= path.t.size <= 202
        assert path.t[0] == 0 and path.t[-1] == pytest.approx(0.01 * k)
        assert np.unique(np.round(np.diff(path.t[:-1]), 9)).size <= 1  # evenly, but for the last


def test_a_flat_loss_has_no_edge():
    flat_loss = lrf.losses.LeastSquares(np.eye(3), np.zeros((3, 3)))
    zero = lrf.LinearNetwork([np.zeros((3, 3))] * 3)
    path = lrf.gradient_descent(flat_loss, zero, step_size=EdgeFraction(0.5), steps=3)
    assert path.status is lrf.Status.BAD_STEP and path.nsteps == 0 and len(path.points) == 1


# ---------------------------------------------------------------------------------------------------------------------
# stops


def test_stops_end_the_run_where_they_hold_first():
    loss, net, *_ = problem()
    best = loss.best_value(2)
    level = best + 0.1 * (loss.value(net) - best)
    full = lrf.gradient_descent(loss, net, step_size=0.05, steps=3000, keep_every=1)
    k = int(np.argmax(full.loss <= level))
    path = lrf.gradient_descent(loss, net, step_size=0.05, steps=3000, stop=LossBelow(level))
    assert path.status is lrf.Status.EVENT and path.nsteps == k and path.loss[-1] == full.loss[k]
    assert path.events == {f"LossBelow(value={level!r})": [path.t[-1]]} and "LossBelow" in path.message
    size = full.stationarity[100]
    k = int(np.argmax(full.stationarity <= size))
    path = lrf.gradient_descent(loss, net, step_size=0.05, steps=3000, stop=[LossBelow(-1.0), GradientBelow(size)])
    assert path.status is lrf.Status.CONVERGED and path.nsteps == k
    path = lrf.gradient_descent(loss, net, step_size=0.05, steps=3000, stop=TimeReached(1.0))
    assert path.status is lrf.Status.FINISHED and path.nsteps == 20 and "TimeReached" in path.message


def test_a_test_of_the_user():
    loss, net, *_ = problem()
    asked = []

    def rank_two(at):
        asked.append(at.k)
        return at.k == 7 and at.network is not None and at.t == pytest.approx(0.7)

    path = lrf.gradient_descent(loss, net, step_size=0.1, steps=30, stop=rank_two)
    assert path.nsteps == 7 and asked == list(range(8)) and list(path.events) == ["rank_two"]


def test_what_a_stop_asks_for_is_counted_once():
    loss, net, x, y = problem()
    count = 0

    class Counting:
        shape = loss.shape

        def value(self, w):
            return loss.value(w)

        def gradient(self, w):
            nonlocal count
            count += 1
            return loss.gradient(w)

    for batches in (None, MiniBatches(x, y, 10, rng=0)):
        count = 0
        path = lrf.gradient_descent(
            Counting(), net, step_size=0.05, steps=12, stop=GradientBelow(1e-9), batches=batches, keep_every=4
        )
        of_batches = 0 if batches is None else 12
        assert path.nfev == count - tensors_may_come() + of_batches == 13 + of_batches


# ---------------------------------------------------------------------------------------------------------------------
# mini-batches


def test_an_epoch_goes_once_through_all_samples():
    _, _, x, y = problem()
    batches = MiniBatches(x, y, 7, rng=3)
    assert batches.per_epoch == 5
    for epoch in range(3):
        seen = [batches.indices(5 * epoch + i) for i in range(5)]
        assert sorted(np.concatenate(seen)) == list(range(30)) and [s.size for s in seen] == [7, 7, 7, 7, 2]
    assert not np.array_equal(batches.indices(0), batches.indices(5))
    assert not np.array_equal(batches.indices(0), MiniBatches(x, y, 7, rng=4).indices(0))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_batches_average_to_the_gradient_of_all(reduction):
    _, net, x, y = problem()
    loss = lrf.losses.LeastSquares(x, y, reduction=reduction)
    batches = MiniBatches(x.T, y.T, 6, reduction=reduction, samples="rows", rng=0)  # five equal ones
    of = [batches(k) for k in range(5)]
    whole = loss.gradient(net).to_dense() if hasattr(loss.gradient(net), "to_dense") else loss.gradient(net) @ np.eye(5)
    mean = np.mean([(b.gradient(net) @ np.eye(5)) for b in of], axis=0)
    assert np.allclose(mean, whole, rtol=0, atol=1e-13 * np.abs(whole).max())  # sums of thirty terms
    assert np.mean([b.value(net) for b in of]) == pytest.approx(loss.value(net), rel=1e-13)


def test_descent_with_batches_is_that_of_numpy():
    loss, net, x, y = problem()
    batches = MiniBatches(x, y, 7, rng=3)
    path = lrf.gradient_descent(loss, net, step_size=0.05, steps=23, batches=batches)
    gradient, v = plain_gradient(x, y, net), flat(net)
    for k in range(23):
        v = v - 0.05 * gradient(v, batches.indices(k))
    assert np.allclose(flat(path.points[-1]), v, rtol=0, atol=1e-13)
    again = lrf.gradient_descent(loss, net, step_size=0.05, steps=23, batches=MiniBatches(x, y, 7, rng=3))
    assert np.array_equal(flat(again.points[-1]), flat(path.points[-1]))
    assert path.stationarity[-1] == pytest.approx(np.linalg.norm(gradient(flat(path.points[-1]))), rel=1e-12)


def test_batches_of_another_misfit(rng):
    x, labels = rng.standard_normal((4, 20)), rng.integers(0, 3, 20)
    loss = lrf.losses.Measured(lrf.losses.Inputs(x, 3), lrf.losses.Softmax(labels, classes=3))
    batches = MiniBatches(x, labels, 5, misfit=lambda t: lrf.losses.Softmax(t, classes=3), reduction="sum", rng=0)
    assert batches.shape == loss.shape
    net = lrf.LinearNetwork.gaussian((3, 4), 2, widths=3, rng=0)
    mean = np.mean([batches(k).gradient(net) @ np.eye(4) for k in range(4)], axis=0)
    assert np.allclose(mean, loss.gradient(net) @ np.eye(4), rtol=0, atol=1e-13)


# ---------------------------------------------------------------------------------------------------------------------
# checkpoints


RUNS = {
    "gradient": {},
    "heavy ball": {"rule": HeavyBall(0.8)},
    "nesterov": {"rule": Nesterov(0.8)},
    "adam": {"rule": Adam()},
    "decay behind adam": {"rule": WeightDecay(0.01, Adam(), decoupled=True)},
    "layer rates": {"rule": LayerRates((1.0, 0.5, 2.0), HeavyBall(0.5))},
    "batches": {"batches": True, "rule": HeavyBall(0.8)},
    "schedule": {"step_size": lambda k: 0.1 / (k + 1)},
    "edge": {"step_size": EdgeFraction(0.2, every=4)},
    "stop": {"stop": GradientBelow(1e-12)},
}


def run(name, **options):
    loss, net, x, y = problem()
    given = {"step_size": 0.01, "steps": 60, "keep_every": 7, "columns": ["imbalance"]} | RUNS[name] | options
    if given.pop("batches", False):
        given["batches"] = MiniBatches(x, y, 7, rng=3)
    return lrf.gradient_descent(loss, net, **given)


def assert_same(a, b):
    assert a.status is b.status and (a.nsteps, a.nfev) == (b.nsteps, b.nfev)
    for name in ("t", "loss", "singular_values", "stationarity"):
        assert np.array_equal(getattr(a, name), getattr(b, name))
    assert np.array_equal(a.columns["imbalance"], b.columns["imbalance"])
    assert all(np.array_equal(flat(p), flat(q)) for p, q in zip(a.points, b.points, strict=True))


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("at", [10, 23, 59])
def test_a_run_goes_on_to_the_bit(name, at, tmp_path):
    whole, file = run(name), tmp_path / "run"

    def stop(step):
        if step.t >= whole.t[at // 7 + 1] - 1e-12:
            raise KeyboardInterrupt

    part = run(name, checkpoint=file, checkpoint_every=5, callback=stop)
    assert part.status is lrf.Status.INTERRUPTED or at == 59
    assert_same(run(name, checkpoint=file, checkpoint_every=5), whole)
    assert_same(run(name, checkpoint=file, checkpoint_every=5), whole)  # what is finished is read


@pytest.mark.parametrize("name", RUNS)
def test_more_updates_go_on_where_fewer_ended(name, tmp_path):
    file = tmp_path / "run"
    run(name, steps=31, checkpoint=file)
    assert_same(run(name, checkpoint=file), run(name))


def refused(file, says, **options):
    with pytest.raises(ValueError, match=says) as caught:
        run("adam", checkpoint=file, **options)
    assert "\n" not in str(caught.value)


def test_checkpoints_of_something_else_are_refused(tmp_path):
    file = tmp_path / "run"
    run("adam", steps=20, checkpoint=file)
    refused(file, r"rule Adam\(.*, not HeavyBall", rule=HeavyBall(0.9))
    refused(file, r"step_size 0\.01, not 0\.02", step_size=0.02)
    refused(file, "keep_every 7, not 5", keep_every=5)
    refused(file, "columns", columns=["sharpness"])
    with pytest.raises(ValueError, match="batches None, not MiniBatches"):
        run("adam", checkpoint=file, batches=True)
    loss, net, *_ = problem(1)
    with pytest.raises(ValueError, match="another start"):
        lrf.gradient_descent(loss, net, step_size=0.01, steps=60, rule=Adam(), columns=["imbalance"], checkpoint=file)
    with pytest.raises(ValueError, match="a loss whose value or gradient at the start differs"):
        lrf.gradient_descent(
            loss, problem()[1], step_size=0.01, steps=60, rule=Adam(), columns=["imbalance"], checkpoint=file
        )
    flow = tmp_path / "flow"
    lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 0.1), checkpoint=flow)
    refused(flow, "must be a checkpoint of gradient_descent")
    with pytest.raises(ValueError, match="must be a checkpoint of integrate"):
        lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 0.1), checkpoint=file)


def test_a_checkpoint_without_the_memory_of_its_rule_is_refused(tmp_path):
    from dataclasses import replace

    from lowrankflow.flow.checkpoint import Checkpoint

    file = tmp_path / "run"
    run("adam", steps=20, checkpoint=file)
    saved = Checkpoint.read(file)
    replace(saved, head=saved.head | {"memory": ["mean"]}).write(file)
    refused(file, r"without the square of Adam")


def test_another_schedule_is_refused(tmp_path):
    file = tmp_path / "run"
    run("schedule", steps=20, checkpoint=file)
    with pytest.raises(ValueError, match="a schedule with step"):
        run("schedule", checkpoint=file, step_size=lambda k: 0.2 / (k + 1))


def test_a_run_that_diverged_stays_so(tmp_path):
    loss, net, *_ = problem()
    options = {"step_size": 10.0, "steps": 100, "checkpoint": tmp_path / "run"}
    first, second = (lrf.gradient_descent(loss, net, **options) for _ in range(2))
    assert first.status is second.status is lrf.Status.NOT_FINITE and first.message == second.message


# ---------------------------------------------------------------------------------------------------------------------
# input


def rule(start=lambda: {}, directions=lambda g, m: (g, m)):
    class Wrong:
        def start(self, factors):
            return start()

        def directions(self, k, egrads, factors, memory):
            return directions(egrads, memory)

    return Wrong()


@pytest.mark.parametrize(
    "options, error, says",
    [
        ({"rule": rule(start=lambda: None)}, TypeError, "`rule.start` must return a mapping"),
        ({"rule": rule(start=lambda: {"count": 0})}, TypeError, "must keep one array a factor under 'count', got int 0"),
        ({"stop": lambda at: np.zeros(3)}, TypeError, "`stop` tests must return True or False, got an array of shape"),
        ({"rule": rule(directions=lambda g, m: g)}, TypeError, "`rule.directions` must return directions and the memory"),
        ({"rule": rule(directions=lambda g, m: (g[:2], m))}, ValueError, "must return one array a factor, of shapes"),
        ({"rule": rule(directions=lambda g, m: ([a.T for a in g], m))}, ValueError, "must return one array a factor"),
        ({"batches": lambda k: None}, ValueError, r"`batches\(k\)` must be a loss of shape \(4, 5\), got None"),
        ({"batches": lambda k: lrf.losses.LeastSquares(np.eye(2), np.eye(2))}, ValueError, r"got one of shape \(2, 2\)"),
        ({"rule": Adam}, TypeError, r"`rule` must have methods `start` and `directions`, got .*Adam.*\. Use Adam\(\)\."),
        ({"rule": 3}, TypeError, "`rule` must have methods"),
        ({"rule": LayerRates((1.0, 2.0))}, ValueError, "`rates` must be one a factor, got 2 for 3 factors"),
        ({"stop": LossBelow}, TypeError, "`stop` must be tests of an Iterate"),
        ({"stop": 3}, TypeError, "`stop` must be tests of an Iterate, got"),
        ({"columns": ["sharp"]}, ValueError, "`columns` must be of sharpness, imbalance"),
        ({"columns": "sharpness"}, TypeError, r"Use \['sharpness'\]"),
        ({"step_size": Decreasing}, TypeError, "`step_size` must be a number or a schedule, got the class Decreasing"),
        ({"step_size": "big"}, TypeError, "`step_size` must be positive and finite, got 'big'"),
        ({"batches": 3}, TypeError, "`batches` must be callable"),
    ],
)
def test_bad_input_is_one_clear_line(options, error, says):
    loss, net, *_ = problem()
    with pytest.raises(error, match=says) as caught:
        lrf.gradient_descent(loss, net, **({"step_size": 0.1, "steps": 3} | options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: HeavyBall(1.0), r"`momentum` must be at least 0 and below 1, got 1\."),
        (lambda: Adam(beta2=-0.1), "`beta2`"),
        (lambda: WeightDecay(-1.0), "`decay`"),
        (lambda: LayerRates((1.0, 0.0)), "`rates`"),
        (lambda: Decreasing(0.0), "`first`"),
        (lambda: EdgeFraction(1.0, every=0), "`every`"),
        (lambda: MiniBatches(np.eye(3), np.eye(3), 4), r"`size` must not exceed the samples, got 4 for 3 of them\."),
        (lambda: MiniBatches(np.eye(3), np.ones((2, 4)), 2), r"as many samples as `inputs`, got shape \(2, 4\) for 3"),
        (lambda: LossBelow(np.nan), "`value`"),
        (lambda: TimeReached(0.0), "`value`"),
    ],
)
def test_values_are_checked_where_they_are_made(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_everything_public_is_listed():
    functions = {"bifurcation", "certificate", "gradient_descent", "mode_edge", "sharpness", "step_bound", "two_cycle"}
    assert set(descent.__all__) == {name for name in vars(descent) if name[0].isupper()} | functions
