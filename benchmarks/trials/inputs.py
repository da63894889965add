"""Right and wrong losses, metrics and manifolds for the three checks; metrics side by side; flows that are at rest.

No right one may fail. A wrong one is like a right one in all but one thing, and the claims named beside it must fail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow import metrics
from lowrankflow.losses import facts
from lowrankflow.operators import Multiple
from lowrankflow.report import Claim, Report

from .losses import Changed
from .outcomes import Outcome, Watch, judged
from .problems import Problem

__all__ = ["WRONG", "Wrong", "call"]

METHODS = ("DOP853", "RK45", "RK23", "auto", "RKC", "ROCK4", "Radau", "BDF", "LSODA", "RK4")


@dataclass(frozen=True)
class Wrong:
    """A mistake in what a user brings."""

    verb: str  #: the check that must see it
    claims: tuple[str, ...]  #: each of which must fail
    change: Callable[[Any], Any]  #: of a loss, a metric or a class of manifolds
    applies: Callable[[Problem], bool] = lambda p: True


def call(verb: str, problem: Problem, limit: float, wrong: str | None, alive: Callable[[str], None]) -> Outcome:
    """Return what came of one of `VERBS` on a problem, with a mistake in what is brought or none."""
    change = (lambda right: right) if wrong is None else WRONG[wrong].change
    return judged(lambda watch: VERBS[verb](problem, change, watch), Watch(limit, alive))


def _start(problem: Problem) -> tuple[Any, lrf.LowRankMatrix, np.random.Generator]:
    """Return a loss, W(0), and a generator for what else is drawn."""
    loss, options = problem.build()
    start = options["start"] if options["start"] is not None else options["network"].to_low_rank()
    return loss, start, np.random.default_rng([problem.seed, problem.number, 2])


def _loss(problem: Problem, change: Callable[[Any], Any], watch: Watch) -> Report:
    loss, start, _ = _start(problem)
    return lrf.check_loss(change(loss), start, rng=problem.number)


def _metric(problem: Problem, change: Callable[[Any], Any], watch: Watch) -> Report:
    _, start, rng = _start(problem)
    return lrf.check_metric(change(some_metric(rng, start)), start, rng=problem.number)


def _manifold(problem: Problem, change: Callable[[Any], Any], watch: Watch) -> Report:
    from lowrankflow.pymanopt_manifold import FixedRank

    _, start, rng = _start(problem)
    manifold = change(FixedRank)(*start.shape, start.rank, some_metric(rng, start), rng=problem.number)
    return lrf.check_manifold(manifold, point=start)


def _compare(problem: Problem, change: Callable[[Any], Any], watch: Watch) -> Report:
    loss, start, rng = _start(problem)
    chosen = list({repr(metric): metric for metric in (some_metric(rng, start) for _ in range(3))}.values())
    budget = max(100, problem.max_evaluations // 10)
    rtol = float(np.clip(problem.rtol, 1e-12, 1e-5))
    return lrf.compare_metrics(loss, start, chosen, rtol=rtol, max_evaluations=budget, progress=watch)


def _rest(problem: Problem, change: Callable[[Any], Any], watch: Watch) -> Report:
    """A state at which the gradient vanishes, exactly or but for underflow, stays where it is, whatever the method."""
    rng = np.random.default_rng([problem.seed, problem.number, 3])
    method = str(rng.choice(METHODS))
    kind = str(rng.choice(["zero factors", "vanishing factors", "one zero factor", "minimiser"]))
    loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    zeros = np.zeros((3, 3))
    networks = {
        "zero factors": lambda: lrf.LinearNetwork([zeros] * problem.depth),
        "vanishing factors": lambda: lrf.LinearNetwork([np.full((3, 3), 1e-200)] * problem.depth),
        "one zero factor": lambda: lrf.LinearNetwork([zeros, *[np.eye(3)] * (problem.depth - 1)]),
        "minimiser": lambda: lrf.LinearNetwork.balanced(loss.minimiser(2), problem.depth),
    }
    net = networks[kind]()
    options = {"step_size": 0.1} if method == "RK4" else {"atol": float(rng.choice([0.0, 1e-10]))}
    path = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 1), method=method, max_evaluations=1000, **options)
    moved = max(float(np.abs(a - b).max()) for a, b in zip(path.points[-1].factors, net.factors, strict=True))
    at_rest = kind != "one zero factor"  # which learns where the depth is 2 or the others are no zeros
    measured = moved if at_rest else 0.0
    over = measured if path.status.finished or not at_rest else np.inf  # what moves may use up its budget
    detail = f"{kind}, {method}, {options}: {path.status.name}"
    claim = Claim("rest", "What is at rest stays there.", "the definition", over, "<=", 1e-9, detail=detail)
    return Report("rest", {"detail": detail}, [claim])


Verb = Callable[[Problem, Callable[[Any], Any], Watch], Report]
VERBS: Mapping[str, Verb] = {
    "check_loss": _loss,
    "check_metric": _metric,
    "check_manifold": _manifold,
    "compare_metrics": _compare,
    "integrate": _rest,
}


def some_metric(rng: np.random.Generator, start: lrf.LowRankMatrix) -> Any:
    """Return a metric; imbalances are of the size of the roots of W."""
    size = float(start.s.max())
    makers: list[Callable[[], Any]] = [
        lambda: lrf.DepthMetric(float(rng.choice([1.5, 2, 2.7, 3, 5, 20]))),
        lambda: lrf.DepthMetric(3),
        lrf.EmbeddedMetric,
        metrics.ScaledGDMetric,
        metrics.TwoFactorMetric,
        metrics.SubspaceProjectionMetric,
        metrics.PolarMetric,
        metrics.MNMetric,
        lambda: metrics.LambdaBalancedMetric(float(rng.uniform(-1, 1)) * size),
        lambda: metrics.KappaBalancedMetric(size ** (2 / 3) * rng.uniform(-1, 1, 2)),
    ]
    return makers[int(rng.integers(len(makers)))]()


# ---------------------------------------------------------------------------------------------------------------------
# wrong losses


class WrongTranspose:
    """A gradient whose transpose is another matrix."""

    __array_ufunc__ = None

    def __init__(self, g: Any) -> None:
        self._g, self.shape = g, g.shape

    def __matmul__(self, x: Any) -> Any:
        return self._g @ x

    @property
    def T(self) -> Any:
        return Multiple(self._g.T, 1.001)


def one_buffer(loss: Any) -> Any:
    """Every gradient in one and the same array."""
    buffer = np.empty(loss.shape)

    def gradient(w: Any, g: Any) -> np.ndarray:
        buffer[:] = g @ np.eye(loss.shape[1])
        return buffer

    return Changed(loss, gradient=gradient)


def stale(loss: Any) -> Any:
    """The gradient of the call before, from the second call on."""
    kept: list[Any] = []

    def gradient(w: Any, g: Any) -> Any:
        kept.append(g)
        return kept[max(0, len(kept) - 2)]

    return Changed(loss, gradient=gradient)


def told_apart(loss: Any) -> Any:
    """Another value for networks."""
    return Changed(loss, value=lambda w, v: v * (1 + 1e-6 * isinstance(w, lrf.LinearNetwork)))


def without_a_row(loss: Any) -> Any:
    """The first row of the gradient is zero."""
    keep = np.where(np.arange(loss.shape[0]) == 0, 0.0, 1.0)[:, None]
    return Changed(loss, gradient=lambda w, g: keep * (g @ np.eye(loss.shape[1])))


def hessian_times(factor: float) -> Callable[[Any], Any]:
    return lambda loss: Changed(loss, hessian=lambda w, z: Multiple(loss.hessian(w, z), factor))


def skew_hessian(loss: Any) -> Any:
    """The Hessian plus a hundredth of a map that is not symmetric, of its own size."""
    n = loss.shape[1]
    turn = np.triu(np.ones((n, n)), 1)

    def hessian(w: Any, z: Any) -> np.ndarray:
        right = loss.hessian(w, z) @ np.eye(n)
        return right + 0.01 * right @ turn

    return Changed(loss, hessian=hessian)


def unshared(loss: Any) -> Any:
    return Changed(loss, value_and_gradient=lambda w: (loss.value(w), Multiple(loss.gradient(w), 1.001)))


def upside_down(loss: Any) -> Any:
    """Minus the loss, and still said to be convex."""
    return Changed(loss, value=lambda w, v: -v, gradient=lambda w, g: Multiple(g, -1.0))


def has(name: str) -> Callable[[Problem], bool]:
    def there(p: Problem) -> bool:
        said = getattr(facts(p.build()[0]), name)
        return said is not None and said is not False

    return there


# ---------------------------------------------------------------------------------------------------------------------
# wrong metrics and manifolds


def other_coefficients(change: Callable[[np.ndarray, lrf.Coefficients], Mapping[str, Any]]) -> Callable[[Any], Any]:
    """A metric with other coefficients, and nothing but these."""

    def of(metric: Any) -> Any:
        class Wrong:
            def coefficients(self, s: np.ndarray) -> lrf.Coefficients:
                c = metric.coefficients(s)
                return replace(c, determinant=None, **change(s, c))

        return Wrong()

    return of


def other_differences(metric: Any) -> Any:
    """A metric whose divided differences are 1 % too large."""

    class Wrong:
        coefficients = staticmethod(metric.coefficients)
        differences = staticmethod(lambda s: 1.01 * metric.differences(s))

    return Wrong()


def has_differences(p: Problem) -> bool:
    _, start, rng = _start(p)
    return metrics.facts(some_metric(rng, start)).differences is not None


def places(s: np.ndarray) -> np.ndarray:
    return 1 + 0.01 * np.arange(s.size)[:, None]


def skew(s: np.ndarray, c: lrf.Coefficients) -> dict[str, Any]:
    upper = 0.01 * np.triu(np.abs(c.core), 1)
    return {"mix": (0.0 if c.mix is None else c.mix) + upper - upper.T}


def tilted(**methods: Callable[..., Any]) -> Callable[[type], type]:
    """A class of manifolds with some methods wrapped: ``method(right, self, *arguments)``."""

    def of(manifold: type) -> type:
        def wrap(name: str) -> Callable[..., Any]:
            right = getattr(manifold, name)
            return lambda self, *args: methods[name](lambda *a: right(self, *a), *args)

        return type("Tilted", (manifold,), {name: wrap(name) for name in methods})

    return of


def _mixed(right: Callable[..., Any], point: Any, a: Any, b: Any) -> float:
    value = right(point, a, b)
    return value + 0.01 * np.sqrt(right(point, a, a) * right(point, b, b)) * np.sign(a.core[0, 0])


WRONG: dict[str, Wrong] = {
    "loss: gradient times 1.01": Wrong("check_loss", ("gradient",), lambda loss: Changed(
        loss, gradient=lambda w, g: Multiple(g, 1.01))),
    "loss: first row of the gradient zero": Wrong("check_loss", ("gradient",), without_a_row),
    "loss: gradient transposed": Wrong("check_loss", ("gradient",), lambda loss: Changed(
        loss, gradient=lambda w, g: g.T), lambda p: p.shape[0] == p.shape[1] > 1),
    "loss: transpose of the gradient off": Wrong("check_loss", ("adjoint",), lambda loss: Changed(
        loss, gradient=lambda w, g: WrongTranspose(g))),
    "loss: one array for all gradients": Wrong("check_loss", ("state",), one_buffer),
    "loss: gradient of the call before": Wrong("check_loss", ("state",), stale),
    "loss: another value for networks": Wrong("check_loss", ("representations",), told_apart),
    "loss: value and gradient apart": Wrong("check_loss", ("shared",), unshared),
    "loss: Hessian times 1.01": Wrong("check_loss", ("hessian",), hessian_times(1.01), has("hessian")),
    "loss: Hessian times 1.1": Wrong("check_loss", ("hessian", "hessian order"), hessian_times(1.1), has("hessian")),
    "loss: Hessian not symmetric": Wrong("check_loss", ("hessian symmetric",), skew_hessian,
        lambda p: min(p.shape) > 1 and has("hessian")(p)),
    "loss: a tenth of the curvature": Wrong("check_loss", ("curvature",), lambda loss: Changed(
        loss, curvature=loss.curvature / 10), lambda p: has("hessian")(p) and has("curvature")(p)),
    "loss: lowered by its value at zero": Wrong("check_loss", ("lower bound",), lambda loss: Changed(
        loss, value=lambda w, v: v - loss.value(np.zeros(loss.shape))), has("lower_bound")),
    "loss: not convex": Wrong("check_loss", ("convexity",), upside_down, has("convex")),
    "metric: coefficients by place": Wrong("check_metric", ("order",), other_coefficients(
        lambda s, c: {"core": c.core * places(s)})),
    "metric: a diagonal of its own": Wrong("check_metric", ("ties",), other_coefficients(
        lambda s, c: {"core": c.core + 0.1 * np.abs(c.core).max() * np.eye(s.size)})),
    "metric: not positive on the core": Wrong("check_metric", ("positive",), other_coefficients(
        lambda s, c: {"core": -c.core, "mix": None})),
    "metric: zero on new columns": Wrong("check_metric", ("positive",), other_coefficients(
        lambda s, c: {"up": 0 * c.up}), lambda p: p.shape[0] > p.rank),
    "metric: not symmetric": Wrong("check_metric", ("symmetric",), other_coefficients(skew)),
    "metric: differences 1 % too large": Wrong(
        "check_metric", ("differences",), other_differences, has_differences),
    "manifold: inner product not bilinear": Wrong("check_manifold", ("inner product",), tilted(inner_product=_mixed)),
    "manifold: projection times 1.01": Wrong("check_manifold", ("projection",), tilted(
        to_tangent_space=lambda right, point, z: 1.01 * right(point, z))),
    "manifold: ambient projection off": Wrong("check_manifold", ("closest",), tilted(
        projection=lambda right, point, z: 1.01 * right(point, z))),
    "manifold: retraction 1 % too far": Wrong("check_manifold", ("retraction",), tilted(
        retraction=lambda right, point, z: right(point, 1.01 * lrf.Tangent(*z)))),
    "manifold: transport by doing nothing": Wrong("check_manifold", ("transport",), tilted(
        transport=lambda right, a, b, z: z), lambda p: p.shape != (p.rank, p.rank)),
    "manifold: coordinates times 1.01": Wrong("check_manifold", ("vec and mat",), tilted(
        vec=lambda right, point, z: 1.01 * right(point, z))),
}  # fmt: skip
