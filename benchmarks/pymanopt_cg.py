"""Matrix completion with pymanopt: our manifold against pymanopt's, metrics and optimizers against each other.

5000 x 5000, rank 10, five times as many observations as degrees of freedom. Part one: seconds an iteration of
ConjugateGradient on pymanopt's FixedRankEmbedded and on ours, both with the same sparse gradient from our gather, and
what is spent outside the loss. Part two: iterations, gradients and seconds until the Frobenius norm of the projected
gradient, one ruler for all, is 1e-6 of its start: metrics and optimizers, a well and an ill conditioned problem.
"""

from __future__ import annotations

from measure import clock, parse, table, write  # isort: skip  # sets one thread before numpy loads

from contextlib import suppress
from typing import Any

import numpy as np
import pymanopt
from pymanopt.manifolds import FixedRankEmbedded
from pymanopt.optimizers import ConjugateGradient, TrustRegions

import lowrankflow as lrf
from lowrankflow.pymanopt_manifold import FixedRank

RANK, OVERSAMPLING, TARGET = 10, 5, 1e-6
ITERATIONS = 12
MOST, SECONDS, INNER = 3000, 150.0, 200  # iterations and seconds of a run to the target, Hessian products of a TR step


class Timed:
    """A loss that counts the processor seconds spent in it."""

    def __init__(self, loss: Any) -> None:
        self._loss, self.shape, self.seconds = loss, loss.shape, 0.0

    def _call(self, name: str, *args: Any) -> Any:
        start = clock()
        result = getattr(self._loss, name)(*args)
        self.seconds += clock() - start
        return result

    def value(self, w: Any) -> float:
        return self._call("value", w)

    def gradient(self, w: Any) -> Any:
        return self._call("gradient", w)

    def value_and_gradient(self, w: Any) -> Any:
        return self._call("value_and_gradient", w)

    def hessian(self, w: Any, z: Any) -> Any:
        return self._call("hessian", w, z)


def completion(n: int, condition: float) -> tuple[lrf.losses.Completion, lrf.LowRankMatrix]:
    """Return the loss of a rank-10 teacher of a condition number, and a random start of the scale of the teacher."""
    rng = np.random.default_rng(0)
    s = np.geomspace(1.0, 1.0 / condition, RANK) * n
    teacher = lrf.random_point(n, n, RANK, rng=rng, singular_values=s)
    size = OVERSAMPLING * RANK * (2 * n - RANK)
    rows, cols = np.divmod(np.unique(rng.integers(0, n * n, size)), n)
    start = lrf.random_point(n, n, RANK, rng=rng, singular_values=np.full(RANK, 0.1 * n))
    return lrf.losses.Completion(rows, cols, teacher.entries(rows, cols), (n, n)), start


class Enough(Exception):
    """The target is reached."""


def ours(loss: Any, start: Any, metric: Any, optimizer: Any, target: float | None = None) -> Any:
    """Run on our manifold; return the problem with its log. `target` ends the run."""
    manifold = FixedRank(*loss.shape, RANK, metric)

    def stop(iterate: Any) -> None:
        if target is not None and iterate.projected_gradient <= target * problem.log[0].projected_gradient:
            raise Enough

    problem = manifold.problem(loss, callback=stop)
    options = {"maxinner": INNER} if isinstance(optimizer, TrustRegions) else {}
    with suppress(Enough):
        problem.run(optimizer, start, **options)
    return problem


def theirs(loss: Any, start: Any, optimizer: Any) -> None:
    """Run on pymanopt's manifold, with the Riemannian gradient as the projection of our sparse one."""
    manifold = FixedRankEmbedded(*loss.shape, RANK)
    wrapped = pymanopt.function.numpy(manifold)

    @wrapped
    def cost(u: Any, s: Any, vt: Any) -> float:
        return loss.value(lrf.LowRankMatrix._trusted(u, s, vt))

    @wrapped
    def gradient(u: Any, s: Any, vt: Any) -> Any:
        return manifold.projection((u, s, vt), loss.gradient(lrf.LowRankMatrix._trusted(u, s, vt)))

    problem = pymanopt.Problem(manifold, cost, riemannian_gradient=gradient)
    optimizer.run(problem, initial_point=(start.u, start.s, start.vt))


def settings(iterations: int, seconds: float = 1e9) -> dict[str, Any]:
    """Nothing ends a run but its budget."""
    return {
        "verbosity": 0, "max_iterations": iterations, "max_time": seconds, "min_gradient_norm": 0.0, "min_step_size": 0.0,
    }  # fmt: skip


def per_iteration(n: int) -> dict[str, Any]:
    """Seconds an iteration of both, and outside the loss, the median of three interleaved runs."""
    loss, start = completion(n, 2.0)
    found: dict[str, list[tuple[float, float]]] = {"pymanopt": [], "ours": []}
    for _ in range(3):
        for name in found:
            timed = Timed(loss)
            began = clock()
            if name == "ours":
                ours(timed, start, lrf.EmbeddedMetric(), ConjugateGradient(**settings(ITERATIONS)))
            else:
                theirs(timed, start, ConjugateGradient(**settings(ITERATIONS)))
            total = clock() - began
            found[name].append((total / ITERATIONS, (total - timed.seconds) / ITERATIONS))
    (a, a_rest), (b, b_rest) = (np.median(found[name], axis=0) for name in ("pymanopt", "ours"))
    print(f"\nan iteration of ConjugateGradient, {n} x {n}, {loss.values.size} observed, embedded metric")
    shares = {"pymanopt": (1.0, a_rest / a), "ours": (b / a, b_rest / a)}
    table(
        [
            {"manifold": name, "seconds / pymanopt's": whole, "outside the loss / pymanopt's seconds": rest}
            for name, (whole, rest) in shares.items()
        ]
    )
    return {"n": n, "faster": a / b, "outside the loss": b_rest / a, "pymanopt outside the loss": a_rest / a}


METRICS = {
    "embedded": lrf.EmbeddedMetric(),
    "ScaledGD": lrf.metrics.ScaledGDMetric(),
    "depth 2": lrf.DepthMetric(2),
    "depth 3": lrf.DepthMetric(3),
}


def to_the_target(n: int, condition: float) -> list[dict[str, Any]]:
    """One row a metric and optimizer: iterations, gradients, Hessian products and time over the first row's."""
    loss, start = completion(n, condition)
    rows: list[dict[str, Any]] = []
    first = 0.0
    for name, metric in METRICS.items():
        optimizers = {"CG": ConjugateGradient(**settings(MOST, SECONDS)), "TR": TrustRegions(**settings(MOST, SECONDS))}
        for method, optimizer in optimizers.items():
            began = clock()
            log = ours(loss, start, metric, optimizer, TARGET).log
            seconds = clock() - began
            end = log[-1]
            rows.append(
                {
                    "metric": name,
                    "method": method,
                    "iterates": len(log),
                    "costs": end.cost_evaluations,
                    "Hessians": end.hessian_evaluations,
                    "reached": end.projected_gradient / log[0].projected_gradient,
                    "seconds / first": seconds / (first := seconds if not rows else first),
                }
            )
    print(f"\nto {TARGET:g} of the projected gradient, {n} x {n}, condition {condition:g}, {SECONDS:g} s at most")
    table(rows)
    return rows


def main() -> None:
    args = parse(__doc__.splitlines()[0])
    n = 1000 if args.quick else 5000
    numbers = {
        "iteration": per_iteration(n),
        "well conditioned": to_the_target(n, 2.0),
        "ill conditioned": to_the_target(n, 30.0),
    }
    write(args, "pymanopt_cg", numbers)


if __name__ == "__main__":
    main()
