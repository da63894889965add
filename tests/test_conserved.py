"""What the imbalances do in one update, exactly, whatever the step: one law for all rules that have one, and what momentum adds.

With D_j(k) = W_{j+1}^T W_{j+1} - W_j W_j^T after k updates, Q_j(k) the same of the displacements W(k + 1) - W(k), heavy ball
beta and decay gamma on the gradients (derived; docs/theory.md#descent-beside-the-flow):

    D(k+1) - D(k) - Q(k) = beta (D(k) - D(k-1) + Q(k-1)) - 2 h gamma D(k),        D(-1) = D(0), Q(-1) = 0.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from cases import every_value
from oracles import EPS
from scipy.integrate import solve_ivp

import lowrankflow as lrf
from lowrankflow.descent import Adam, Gradient, HeavyBall, LayerRates, MiniBatches, Nesterov, WeightDecay

RATES, DECAY, BETA = (0.5, 1.0, 2.0), 0.3, 0.8


@dataclass(frozen=True)
class Signs:
    """Sign descent, which scales every entry by another number."""

    def start(self, factors):
        return {}

    def directions(self, k, egrads, factors, memory):
        return [np.abs(f).mean() * np.sign(g) for f, g in zip(factors, egrads, strict=True)], memory


def joints(factors, weights=None):
    """The imbalances of factors, or of their displacements, layer j weighted by weights[j]."""
    c = np.ones(len(factors)) if weights is None else weights
    return [d * b.T @ b - e * a @ a.T for (e, d), (a, b) in zip(pairwise(c), pairwise(factors), strict=True)]


def broken(iterates, h, beta=0.0, gamma=0.0, weights=None):
    """How far a run is from the law, over the squared norm of its factors: the largest over updates and joints."""
    d = [joints(f, weights) for f in iterates]
    q = [joints([new - old for old, new in zip(a, b, strict=True)], weights) for a, b in pairwise(iterates)]
    size = max(np.linalg.norm(f) for factors in iterates for f in factors) ** 2
    worst = 0.0
    for k in range(len(q)):
        for j in range(len(d[0])):
            kept = d[k][j] - d[k - 1][j] + q[k - 1][j] if k else 0.0
            off = d[k + 1][j] - d[k][j] - q[k][j] - beta * kept + 2 * h * gamma * d[k][j]
            worst = max(worst, np.linalg.norm(off) / size)
    return worst


def problem(depth, scale=1.0, seed=0):
    """A mean square loss, unbalanced factors of any widths, and a step that moves them by two per cent at first."""
    rng = np.random.default_rng(seed)
    sizes = [int(d) for d in rng.integers(1, 6, depth + 1)]
    x, y = rng.standard_normal((sizes[0], 12)), scale**depth * rng.standard_normal((sizes[-1], 12))
    loss = lrf.losses.LeastSquares(x, y, reduction="mean")
    net = lrf.LinearNetwork([scale * rng.standard_normal((b, a)) for a, b in pairwise(sizes)])
    sizes = [(np.linalg.norm(g), np.linalg.norm(f)) for g, f in zip(lrf.factor_gradients(loss, net), net.factors, strict=True)]
    return loss, net, 0.02 * min(f / max(g, 1e-3 * f) for g, f in sizes), x, y


RULES = {
    "gradient": (Gradient(), {}),
    "heavy ball": (HeavyBall(BETA), {"beta": BETA}),
    "decay": (WeightDecay(DECAY), {"gamma": DECAY}),
    "decoupled decay": (WeightDecay(DECAY, decoupled=True), {"gamma": DECAY}),
    "heavy ball, decay": (WeightDecay(DECAY, HeavyBall(BETA)), {"beta": BETA, "gamma": DECAY}),
}


def run(loss, net, h, rule, steps=20, **options):
    path = lrf.gradient_descent(loss, net, step_size=h, steps=steps, rule=rule, keep_every=1, **options)
    assert path.status is lrf.Status.FINISHED
    return [w.factors for w in path.points]


# differences of products of factors of norm one, and of numbers h gamma D: measured up to 4 eps in 1500 networks
ROUNDOFF = 20 * EPS


@every_value(name=list(RULES), depth=[2, 3, 5])
def test_one_law_of_all_updates(name, depth):
    """Twenty networks of any widths at each, single units among them, at steps far from the limit of a flow."""
    rule, law = RULES[name]
    told = []
    for seed in range(20):
        loss, net, h, *_ = problem(depth, seed=seed)
        iterates = run(loss, net, h, rule)
        assert broken(iterates, h, **law) < ROUNDOFF, (seed, net)
        told.append(broken(iterates, h, **(law | {"beta": law.get("beta", 0.0) + 0.05})))
    assert np.median(told) > 1e-6  # the control: a twentieth more of momentum


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_the_law_in_any_units(scale):
    """W in units of its own and the targets in those to the depth: h and gamma scale, the law does not."""
    for seed in range(20):
        loss, net, h, *_ = problem(3, scale, seed=seed)
        beta, gamma = 0.8, 0.1 / h
        assert broken(run(loss, net, h, WeightDecay(gamma, HeavyBall(beta))), h, beta, gamma) < ROUNDOFF


def test_rates_weigh_the_law():
    """With c_j = 1 / eta_j before the layers' squares; not without."""
    loss, net, h, *_ = problem(3, seed=2)
    iterates = run(loss, net, h, LayerRates(RATES, HeavyBall(BETA)))
    assert broken(iterates, h, BETA, weights=1 / np.array(RATES)) < ROUNDOFF
    assert broken(iterates, h, BETA) > 1e-6


def test_batches_keep_the_law():
    """The law holds for a gradient of any function of W, another one at every update."""
    loss, net, h, x, y = problem(3, seed=2)
    for rule, beta in ((Gradient(), 0.0), (HeavyBall(BETA), BETA)):
        assert broken(run(loss, net, h, rule, batches=MiniBatches(x, y, 4, rng=0)), h, beta) < ROUNDOFF


@pytest.mark.parametrize("rule, beta", [(Nesterov(BETA), BETA), (Adam(), 0.0), (Signs(), 0.0)], ids=["Nesterov", "Adam", "signs"])
def test_rules_without_the_law(rule, beta):
    """Nesterov's gradient is not at the point that moves; a number for each entry is no gradient of a function of W."""
    loss, net, h, *_ = problem(3, seed=2)
    assert broken(run(loss, net, h if beta else 0.01, rule), h, beta) > 1e-6


# ---------------------------------------------------------------------------------------------------------------------
# what momentum adds: the rotations of a hidden layer


def spin(before, after):
    """The skew parts of W_{j+1}(k)^T W_{j+1}(k+1) - W_j(k+1) W_j(k)^T: angular momenta of the hidden layers, times the step."""
    found = []
    for (a, b), (a2, b2) in zip(pairwise(before), pairwise(after), strict=True):
        turned = b.T @ b2 - a2 @ a.T
        found.append(turned - turned.T)
    return found


def by_hand(loss, net, h, rule, memory, steps):
    """Iterates of a rule that begins with a momentum of its own."""
    factors, iterates = list(net.factors), [net.factors]
    for k in range(steps):
        d, memory = rule.directions(k, lrf.factor_gradients(loss, lrf.LinearNetwork(factors)), factors, memory)
        factors = [f - h * e for f, e in zip(factors, d, strict=True)]
        iterates.append(tuple(factors))
    return iterates


def test_angular_momentum_of_the_heavy_ball_decays_by_beta():
    """Exactly, whatever the step; from rest it is zero for ever. Nesterov's is neither."""
    rng = np.random.default_rng(1)
    for seed in range(20):
        loss, net, h, *_ = problem(3, seed=seed)
        momentum = {"momentum": [np.linalg.norm(f) / h * 0.02 * rng.standard_normal(f.shape) for f in net.factors]}
        iterates = by_hand(loss, net, h, HeavyBall(BETA), momentum, 12)
        size = max(np.linalg.norm(f) for factors in iterates for f in factors) ** 2
        spins = [spin(*pair) for pair in pairwise(iterates)]
        for k, turned in enumerate(spins):
            for now, first in zip(turned, spins[0], strict=True):
                assert np.linalg.norm(now - BETA**k * first) < ROUNDOFF * size
        resting = [spin(*pair) for pair in pairwise(run(loss, net, h, HeavyBall(BETA), steps=12))]
        assert max(np.linalg.norm(s) for turned in resting for s in turned) < ROUNDOFF * size
    loss, net, h, *_ = problem(3, seed=2)
    turned = spin(*run(loss, net, h, Nesterov(BETA), steps=5)[-2:])
    assert max(np.linalg.norm(s) for s in turned) > 1e-6  # the control


def test_the_flow_of_momentum():
    r"""W'' + c W' = -grad: D'' + c D' = 2 (the same of the velocities), and the angular momenta decay by exp(-c t).

    The first as (e^{ct} D')' = 2 e^{ct} (...), whose right side is carried as one more state.
    """
    c, t_end = 0.7, 2.0
    loss, net, *_ = problem(3, seed=2)
    shapes = [f.shape for f in net.factors]
    cuts = np.cumsum([a * b for a, b in shapes])
    rng = np.random.default_rng(3)
    velocities = [0.5 * rng.standard_normal(s) for s in shapes]

    def parts(y):
        return [p.reshape(s) for p, s in zip(np.split(y, cuts[:-1]), shapes, strict=True)]

    def flat(arrays):
        return np.concatenate([a.ravel() for a in arrays])

    def field(t, y):
        w, p = parts(y[: cuts[-1]]), parts(y[cuts[-1] : 2 * cuts[-1]])
        g = lrf.factor_gradients(loss, lrf.LinearNetwork(w))
        pushed = [-c * v - e for v, e in zip(p, g, strict=True)]
        return np.concatenate([flat(p), flat(pushed), 2 * np.exp(c * t) * flat(joints(p))])

    def at(t, y):
        """e^{ct} D' and e^{ct} times the angular momenta."""
        w, p = parts(y[: cuts[-1]]), parts(y[cuts[-1] : 2 * cuts[-1]])
        turned = [w[j + 1].T @ p[j + 1] - p[j] @ w[j].T for j in range(len(w) - 1)]
        return [np.exp(c * t) * flat([m + sign * m.T for m in turned]) for sign in (1, -1)]

    zero = np.zeros(sum(b * b for b, _ in shapes[:-1]))
    first = np.concatenate([flat(net.factors), flat(velocities), zero])
    last = solve_ivp(field, (0, t_end), first, method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    (moved, turned), (moved0, turned0) = at(t_end, last), at(0.0, first)
    # rtol of a step, some hundred steps
    np.testing.assert_allclose(moved - moved0, last[2 * cuts[-1] :], rtol=0, atol=1e-9)
    np.testing.assert_allclose(turned, turned0, rtol=0, atol=1e-9)
    assert np.abs(turned0).max() > 0.1 and np.abs(moved - moved0).max() > 0.1  # nothing was small
