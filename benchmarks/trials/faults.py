"""Mistakes planted in the library, one at a time, and the claims that can see each.

A mistake is planted by replacing something of the library for the length of one call (`plant`), or by handing over a loss that
makes it (`loss`). A claim *can see* a mistake where its measurement takes a path through it that its other path does not take.
A mistake that changes no measured number of a claim on a problem (a coefficient of off-diagonal entries at rank one) is no
mistake there, and does not count.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import integrate

import lowrankflow as lrf
from lowrankflow import claims as _claims  # noqa: F401  # all modules are loaded before anything is replaced in them
from lowrankflow import descent, gradients
from lowrankflow.claims import gaps, sides
from lowrankflow.metrics import RootCoefficients

from .losses import Changed
from .outcomes import Outcome, Watch, judged
from .problems import PAST_THE_HORIZON, Problem

__all__ = ["FAULTS", "Fault", "verify"]

Patch = tuple[Any, str, Any]  #: an owner, the name of its attribute, what it is for now


@dataclass(frozen=True)
class Fault:
    """A mistake."""

    name: str
    claims: tuple[str, ...]  #: each of which can see it
    patches: Callable[[], Sequence[Patch]] = lambda: ()
    loss: Callable[[Any], Any] = lambda loss: loss
    applies: Callable[[Problem], bool] = lambda p: True
    span: float | None = 10.0  #: end time in natural units: a wrong flow may have no end of its own

    def on(self, problem: Problem) -> Problem:
        """The problem as the mistake is tried on it."""
        # a flow that a mistake has made stiff, or endless, ends on its budget; right ones take 2100 gradients at most (of 60)
        return replace(problem, span=self.span, max_evaluations=30_000)

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The library with this mistake."""
        with ExitStack() as stack:
            for owner, name, new in self.patches():
                stack.callback(setattr, owner, name, vars(owner)[name])
                setattr(owner, name, new)
            yield


def verify(
    problem: Problem, limit: float, claims: Sequence[str] | None, fault: str | None, alive: Callable[[str], None]
) -> Outcome:
    """Return the verdicts on a problem, all or those named, with a mistake planted or none."""
    watch = Watch(limit, alive)

    def call(watch: Watch) -> lrf.Report:
        loss, options = problem.build()
        if fault is None:
            return lrf.verify_equivalence(loss, claims=claims, progress=watch, **options)
        with FAULTS[fault].planted():
            return lrf.verify_equivalence(FAULTS[fault].loss(loss), claims=claims, progress=watch, **options)

    return judged(call, watch)


# ---------------------------------------------------------------------------------------------------------------------
# how things are replaced


def everywhere(function: Callable[..., Any], make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> list[Patch]:
    """Replace a function under every name by which modules of the package know it."""
    new = make(function)
    return [
        (module, name, new)
        for path, module in list(sys.modules.items())
        if path.partition(".")[0] == "lowrankflow"
        for name, value in list(vars(module).items())
        if value is function
    ]


def method(owner: type, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> list[Patch]:
    """Replace a method."""
    return [(owner, name, make(vars(owner)[name]))]


def coefficients(change: Callable[[np.ndarray, Any], Mapping[str, Any]]) -> Callable[[], list[Patch]]:
    """Change the coefficients of the depth-N metric where they are given in the singular frame: at points."""

    def make(right: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(self: Any, s: np.ndarray) -> lrf.Coefficients:
            c = right(self, s)
            return replace(c, **change(s, c))

        return wrong

    return lambda: method(lrf.DepthMetric, "coefficients", make)


def chart_coefficients(change: Callable[[np.ndarray, RootCoefficients], Mapping[str, Any]]) -> Callable[[], list[Patch]]:
    """Change the coefficients of the depth-N flow as the chart takes them: along flows."""

    def make(right: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(self: Any, l: np.ndarray) -> RootCoefficients:  # noqa: E741
            c = right(self, l)
            return replace(c, **change(l, c))

        return wrong

    return lambda: method(lrf.DepthMetric, "root_coefficients", make)


def systems(chart: type, change: Callable[[Any, Any], None]) -> Callable[[], list[Patch]]:
    """Change what a chart makes of a flow: ``change(system, start)``."""

    def make(right: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(self: Any, flow: Any, start: Any) -> Any:
            system = right(self, flow, start)
            change(system, start)
            return system

        return wrong

    return lambda: method(chart, "bind", make)


# ---------------------------------------------------------------------------------------------------------------------
# the mistakes


def off_diagonal(s: np.ndarray, c: Any) -> dict[str, Any]:
    return {"core": c.core * np.where(np.eye(s.size) > 0, 1.0, 1.001)}


def one_deeper() -> list[Patch]:
    """All that the metric says, it says for depth N + 1."""
    patches = []
    for name in ("coefficients", "root_coefficients", "frame_rates"):
        right = vars(lrf.DepthMetric)[name]
        patches.append((lrf.DepthMetric, name, lambda self, s, right=right: right(_deeper(self), s)))
    patches.append((lrf.DepthMetric, "root", property(lambda self: float(self.depth + 1))))
    return patches


def _deeper(metric: Any) -> Any:
    other = object.__new__(lrf.DepthMetric)
    object.__setattr__(other, "depth", metric.depth + 1)
    return other


def _transposed_gradient(right: Callable[..., Any]) -> Callable[..., Any]:
    def bind(self: Any, flow: Any, start: Any) -> Any:
        return right(self, replace(flow, loss=Changed(flow.loss, gradient=lambda w, g: g.T)), start)

    return bind


def _forgetful_projection(right: Callable[..., Any]) -> Callable[..., Any]:
    """U_p = G V, without the part along U that the core has already."""

    def wrong(w: Any, egrad: Any) -> Any:
        z = right(w, egrad)
        return z._replace(up=egrad @ w.vt.T)

    return wrong


def _swapped_projection(right: Callable[..., Any]) -> Callable[..., Any]:
    return lambda w, egrad: right(w, egrad.T)


def stale(loss: Any) -> Any:
    """The gradient of the call before."""
    kept: list[Any] = []

    def gradient(w: Any, g: Any) -> Any:
        kept.append(g)
        return kept.pop(0) if len(kept) > 1 else g

    return Changed(loss, gradient=gradient)


def rounded(loss: Any) -> Any:
    """The gradient in single precision."""

    def gradient(w: Any, g: Any) -> np.ndarray:
        return np.asarray(g @ np.eye(loss.shape[1])).astype(np.float32).astype(np.float64)

    return Changed(loss, gradient=gradient)


def _without_the_first_factor(right: Callable[..., Any]) -> Callable[..., Any]:
    """W_N has the gradient of a network in which W_1 is a (rectangular) identity times its size."""

    def wrong(net: Any, egrad: Any) -> Any:
        first = net.factors[0]
        if not isinstance(first, np.ndarray):  # jets, of which Jacobians are made: they only say how to step
            return right(net, egrad)
        other = lrf.LinearNetwork([np.linalg.norm(first, 2) * np.eye(*first.shape), *net.factors[1:]])
        return [*right(net, egrad)[:-1], right(other, egrad)[-1]]

    return wrong


def slightly_unbalanced() -> list[Patch]:
    """Balanced factors are 1 % off, and the measure of imbalance does not see it."""

    def make(right: Any) -> Any:
        return classmethod(lambda cls, *args, **options: gaps.unbalanced(right.__func__(cls, *args, **options), 0.01))

    return [
        *method(lrf.LinearNetwork, "balanced", make),
        (lrf.LinearNetwork, "relative_imbalance", lambda net: 0.0),
    ]


def _frozen_unit(system: Any, start: Any) -> None:
    """The last row of W_1 does not learn."""
    right, first = system.velocity, start.factors[0]

    def velocity(t: float, y: np.ndarray) -> np.ndarray:
        dy = right(t, y)
        dy[first.size - first.shape[1] : first.size] = 0.0
        return dy

    system.velocity = velocity


def _faster_last_factor(system: Any, start: Any) -> None:
    right, last = system.velocity, start.factors[-1]

    def velocity(t: float, y: np.ndarray) -> np.ndarray:
        dy = right(t, y)
        dy[-last.size :] *= 1.001
        return dy

    system.velocity = velocity


def _leaking(system: Any, start: Any) -> None:
    """A twentieth of the velocity goes into directions of which most have nothing that lives."""
    right = system.velocity
    directions = np.random.default_rng(0).standard_normal(system.y0.size)
    directions /= np.linalg.norm(directions)

    def velocity(t: float, y: np.ndarray) -> np.ndarray:
        dy = right(t, y)
        return dy + 0.05 * np.linalg.norm(dy) * directions

    system.velocity = velocity


def _double_power(system: Any, start: Any) -> None:
    right = system.motion

    def motion(t: float, y: np.ndarray) -> Any:
        dy, at = right(t, y)
        return dy, at and at._replace(power=2 * at.power)

    system.motion = motion


def lost_order(**weights: tuple[int, int]) -> Callable[[], list[Patch]]:
    """Two weights of each method, off by 1e-4: consistent still, of order 1, and the error estimate does not see it."""
    patches = []
    for name, (i, k) in weights.items():
        solver = getattr(integrate, name)
        wrong = solver.B.copy()
        wrong[i] += 1e-4
        wrong[k] -= 1e-4
        patches.append((solver, "B", wrong))
    return lambda: patches


def _longer_steps(right: Callable[..., Any]) -> Callable[..., Any]:
    return lambda loss, net, *, step_size, **options: right(loss, net, step_size=1.01 * step_size, **options)


def _tilted_balance(right: Callable[..., Any]) -> Callable[..., Any]:
    """Rebalanced factors are 20 % off."""
    return lambda net, rank=None: gaps.unbalanced(right(net, rank), 0.2)


def _exponent(l: np.ndarray, c: RootCoefficients) -> dict[str, Any]:  # noqa: E741
    """sigma^(2 - 2/N + 0.01/N) in the equation of the singular values."""
    return {"sym": c.sym * np.sqrt(l[:, None] * l) ** 0.01}


def of_next_rank(loss: Any) -> Any:
    """The best value is that of rank r + 1."""
    return Changed(loss, best_value=lambda rank: loss.best_value(min(rank + 1, *loss.shape)))


def wrong_spectrum() -> list[Patch]:
    """The singular values of the whitened targets are 1 % too large."""

    def make(right: Any) -> property:
        def spectrum(loss: Any) -> Any:
            found = right.func(loss)
            return found._replace(sigma=1.01 * found.sigma)

        return property(spectrum)

    return method(lrf.losses.LeastSquares, "spectrum", make)


def optimistic_errors() -> list[Patch]:
    """The errors of the two sides are taken for a thousandth of what they are."""
    right = vars(sides.Runs)["errors"].func
    return [(sides.Runs, "errors", property(lambda runs: tuple(e / 1000 for e in right(runs))))]


def rank_below(p: Problem) -> bool:
    return p.rank < min(p.shape)


def spare_units(p: Problem) -> bool:
    """Hidden layers that hold more than the rank, which the shape allows too."""
    if p.width is None:
        return p.depth > 2 and rank_below(p)
    return p.width > p.rank and rank_below(p)


def square(p: Problem) -> bool:
    return p.shape[0] == p.shape[1] > 1


def known_limit(p: Problem) -> bool:
    return "best_loss" in p.expected


_AT_POINTS = ("pointwise", "lift", "dissipation")
_LIST = [
    Fault("coefficients of the core times 1.001", _AT_POINTS, coefficients(lambda s, c: {"core": 1.001 * c.core})),
    Fault("coefficients off the diagonal times 1.001", _AT_POINTS, coefficients(off_diagonal), applies=lambda p: p.rank > 1),
    Fault("coefficients of new columns times 1.001", _AT_POINTS, coefficients(lambda s, c: {"up": 1.001 * c.up}),
          applies=lambda p: p.shape[0] > p.rank),
    Fault("coefficients of new rows times 1.001", _AT_POINTS, coefficients(lambda s, c: {"vp": 1.001 * c.vp}),
          applies=lambda p: p.shape[1] > p.rank),
    Fault("coefficients in single precision", ("pointwise",),
          coefficients(lambda s, c: {"core": c.core.astype(np.float32).astype(np.float64)})),
    Fault("a metric of depth N + 1 by the name of N", ("pointwise", "trajectory"), one_deeper),
    Fault("singular values: exponent off by 0.01 / N", ("trajectory", "dissipation"), chart_coefficients(_exponent)),
    Fault("singular frame: wrong sign of the skew part", ("trajectory", "dissipation"),
          chart_coefficients(lambda roots, c: {"skew": -c.skew}), applies=lambda p: p.rank > 1),
    Fault("singular frame: rate l^(N-1) for l^(N-2)", ("trajectory", "dissipation"),
          chart_coefficients(lambda roots, c: {"left": roots * c.left}), applies=lambda p: p.shape[0] > p.rank),
    Fault("gradient times 1.01", ("gradient", "dissipation"),
          loss=lambda loss: Changed(loss, gradient=lambda w, g: gradients_times(g, 1.01))),
    Fault("value times 1.01, gradient as it was", ("gradient", "dissipation"),
          loss=lambda loss: Changed(loss, value=lambda w, v: 1.01 * v)),
    Fault("gradient of the call before", ("gradient",), loss=stale),
    Fault("gradient in single precision", ("gradient",), loss=rounded, applies=lambda p: not p.loss.startswith("completion")),
    Fault("gradient transposed on the Riemannian side", ("trajectory",),
          lambda: method(lrf.SingularFrame, "bind", _transposed_gradient), applies=square),
    Fault("projection in swapped frames", ("pointwise",),
          lambda: everywhere(gradients.projected, _swapped_projection), applies=square),
    Fault("projection that forgets a term", ("pointwise",), lambda: everywhere(gradients.projected, _forgetful_projection)),
    Fault("gradient of W_N without the factor W_1", ("gradient", "pointwise", "conservation"),
          lambda: everywhere(gradients.pulled_back, _without_the_first_factor), applies=lambda p: min(p.shape) > 1),
    Fault("horizontal lift times 1.001", ("lift",),
          lambda: everywhere(gradients.horizontal_lift, lambda right: lambda *args, **o: [1.001 * e for e in right(*args, **o)])),
    Fault("balanced factors 1 % off, unseen", ("pointwise", "trajectory", "factor_spectrum"), slightly_unbalanced),
    Fault("a hidden unit that does not learn", ("trajectory", "conservation"), systems(lrf.charts.Factors, _frozen_unit)),
    Fault("last factor 0.1 % too fast", ("trajectory", "conservation"), systems(lrf.charts.Factors, _faster_last_factor)),
    Fault("factors whose rank leaks", ("rank",), systems(lrf.charts.Factors, _leaking), applies=spare_units),
    Fault("dissipation twice as large", ("dissipation",), systems(lrf.SingularFrame, _double_power)),
    Fault("DOP853 of order 1", ("dissipation",), lost_order(DOP853=(5, 6))),
    Fault("RK45 and RK23 of order 1", ("tolerance",), lost_order(RK45=(2, 3), RK23=(0, 1))),
    Fault("errors a thousandth of what they are", ("trajectory",), optimistic_errors,
          applies=lambda p: max(p.shape) > 1),  # of numbers both sides make the same error
    Fault("descent with steps 1 % too long", ("discrete",), lambda: everywhere(descent.gradient_descent, _longer_steps)),
    Fault("rebalanced factors 20 % off", ("rebalancing",),
          lambda: method(lrf.LinearNetwork, "rebalanced", _tilted_balance)),
    Fault("best value of rank r + 1", ("best_loss",), loss=of_next_rank,
          applies=lambda p: known_limit(p) and rank_below(p), span=None),
    Fault("whitened targets 1 % too large", ("index_set", "best_loss"), wrong_spectrum,
          applies=lambda p: known_limit(p) and rank_below(p), span=None),
    Fault("growth of dormant modes 1.5 times too fast", ("departure",),
          lambda: everywhere(gaps.normal_gradient_norm, lambda right: lambda loss, w: 1.5 * right(loss, w)),
          applies=lambda p: p.wide and p.loss == "well conditioned", span=PAST_THE_HORIZON),
]  # fmt: skip


def gradients_times(g: Any, factor: float) -> Any:
    """Return a multiple of a gradient of any kind."""
    return g * factor if isinstance(g, np.ndarray) else lrf.operators.Multiple(g, factor)


FAULTS: dict[str, Fault] = {fault.name: fault for fault in _LIST}
