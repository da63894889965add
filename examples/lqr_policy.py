"""A control policy of low rank: the cost of a linear-quadratic regulator, a loss written here in twenty lines.

A chain of masses on springs is pushed by one motor a mass, u = -K x, where x holds all places and speeds. A policy K of
rank r passes r numbers from the sensors to the motors. Its cost is not convex, and infinite where the policy makes the
chain unstable. `check_loss` judges the gradient; the depth-3 flow then finds a policy for each rank from small stabilising
ones. Rank by rank it costs less than the truncated optimal policy, and at full rank it is the optimal one of the
Riccati equation.
"""

import argparse

import numpy as np
from scipy import linalg

import lowrankflow as lrf

DEPTH, TIME_STEP, DAMPING, END = 3, 0.2, 0.1, 20.0


class PolicyCost:
    r"""J(K), the sum over time of x^T Q x + u^T R u for u = -K x, on average over starts x with unit covariance.

    P and Sigma solve P = Q + K^T R K + C^T P C and Sigma = I + C Sigma C^T with C = A - B K; J = trace(P), and the
    gradient is 2 [(R + B^T P B) K - B^T P A] Sigma.
    """

    def __init__(self, a, b, q, r):
        self.a, self.b, self.q, self.r = a, b, q, r
        self.shape = b.shape[1], a.shape[0]

    def value_and_gradient(self, w):
        k = w @ np.eye(self.shape[1])
        c = self.a - self.b @ k
        if not np.isfinite(c).all() or np.abs(np.linalg.eigvals(c)).max() >= 1:
            return np.inf, np.full(self.shape, np.nan)  # unstable: no cost, and no gradient
        p = linalg.solve_discrete_lyapunov(c.T, self.q + k.T @ self.r @ k)
        sigma = linalg.solve_discrete_lyapunov(c, np.eye(c.shape[0]))
        return float(np.trace(p)), 2 * ((self.r + self.b.T @ p @ self.b) @ k - self.b.T @ p @ self.a) @ sigma

    def value(self, w):
        return self.value_and_gradient(w)[0]

    def gradient(self, w):
        return self.value_and_gradient(w)[1]


def chain(masses):
    """Return the cost for unit masses between unit springs, forces constant over a time step."""
    springs = 2 * np.eye(masses) - np.eye(masses, k=1) - np.eye(masses, k=-1)
    nothing, one = np.zeros((masses, masses)), np.eye(masses)
    motion = np.block([[nothing, one, nothing], [-springs, -DAMPING * one, one], [nothing, nothing, nothing]])
    step = linalg.expm(TIME_STEP * motion)[: 2 * masses]
    return PolicyCost(*np.hsplit(step, [2 * masses]), TIME_STEP * np.eye(2 * masses), TIME_STEP * one)


def main(quick=False):
    masses = 3 if quick else 6
    loss = chain(masses)
    p = linalg.solve_discrete_are(loss.a, loss.b, loss.q, loss.r)
    best = np.linalg.solve(loss.r + loss.b.T @ p @ loss.b, loss.b.T @ p @ loss.a)
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(DEPTH))
    truncated, found = {}, {}
    for rank in range(1, masses + 1):
        s = np.full(rank, 0.05)
        start = lrf.random_point(*loss.shape, rank, rng=0, singular_values=s)
        lrf.check_loss(loss, start).raise_if_failed()
        path = lrf.integrate(flow, start, t_span=(0, END), rtol=1e-6, method="auto")
        path.raise_if_failed()
        found[rank] = float(path.loss[-1])
        truncated[rank] = loss.value(lrf.LowRankMatrix.from_dense(best, rank=rank))
    unstable = lrf.integrate(flow, lrf.LowRankMatrix.from_dense(-best), t_span=(0, END))  # pushes the wrong way
    numbers = {
        "optimal": float(np.trace(p)),
        "no policy": loss.value(np.zeros(loss.shape)),
        "flow": found,
        "truncated optimum": truncated,
        "gap at full rank": found[masses] / float(np.trace(p)) - 1,
        "from an unstable policy": unstable.message,
    }
    print(f"{masses} masses: cost {numbers['no policy']:.4f} without a policy, {numbers['optimal']:.4f} with the best")
    print(f"{'rank':>4} {'flow':>10} {'truncated optimum':>18}")
    for rank, cost in found.items():
        print(f"{rank:4} {cost:10.4f} {truncated[rank]:18.4f}")
    print(f"at full rank the flow's cost exceeds the optimal one by {numbers['gap at full rank']:.1e}, relatively")
    print(f"from an unstable policy: {unstable.message}")
    costs = [numbers["no policy"], *found.values()]
    assert all(np.diff(costs) < 0)  # each rank is worth something,
    assert all(found[rank] < truncated[rank] for rank in range(1, masses))  # and more than a truncation
    assert abs(numbers["gap at full rank"]) < 1e-8
    assert unstable.status is lrf.Status.NOT_FINITE
    return numbers


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three masses instead of six")
    main(**vars(parser.parse_args()))
