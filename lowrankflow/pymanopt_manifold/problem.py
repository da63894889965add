"""A loss on a `FixedRank` manifold, as pymanopt's problem, with a log of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import pymanopt

from .. import validation
from ..geometry.hessians import RiemannianHessian, embedded_hessian
from ..gradients import project
from ..losses import Loss
from ..losses import facts as loss_facts
from ..losses.requirements import require_loss
from ..matrices import LowRankMatrix, MatrixOrArray, Tangent
from ..metrics import Metric
from ..metrics.requirements import require_differences
from ..operators import MatrixLike
from ..validation import Array

if TYPE_CHECKING:
    from .fixed_rank import FixedRank

__all__ = ["FixedRankProblem", "Iterate"]


class Iterate(NamedTuple):
    """One line of the log of a `FixedRankProblem`."""

    time: float  #: seconds since the first evaluation
    cost: float  #: the loss
    gradient_norm: float  #: of the Riemannian gradient, in the norm of the metric
    projected_gradient: float  #: Frobenius norm of the projected gradient: one ruler for all metrics
    singular_values: Array  #: of the iterate
    cost_evaluations: int  #: so far, this one included
    gradient_evaluations: int  #: so far, this one included
    hessian_evaluations: int  #: so far
    point: LowRankMatrix | None  #: the iterate, if points are kept


class FixedRankProblem(pymanopt.Problem):
    """A loss on a `FixedRank` manifold for SteepestDescent, ConjugateGradient and TrustRegions, with a log of its own.

    Made by ``manifold.problem(loss)``. The three ask for the gradient exactly
    once at every iterate that they accept, and each time `log` grows by a line, whatever the optimizer logs itself.
    SteepestDescent alone returns a point whose gradient it has not asked for: `run` adds that one too. Value and
    gradient at one point share what the loss shares in ``value_and_gradient``. A second run adds to the log of the first.
    A copy, also one in another process, has the counts and a log of its own, which go on from there.
    """

    manifold: FixedRank

    def __init__(
        self, manifold: FixedRank, loss: Loss, *, callback: Callable[[Iterate], object] | None, keep_points: bool
    ) -> None:
        require_loss(loss)
        validation.require_shape("manifold", manifold.shape, loss.shape)
        validation.require_flags(keep_points=keep_points)
        self.loss = loss
        self.log: list[Iterate] = []
        self._callback, self._keep = validation.require_callable("callback", callback), keep_points
        self._costs = self._gradients = self._hessians = 0
        self._start: float | None = None
        self._here: _Here | None = None
        self._noted: Any = None  # the point of the last line of the log
        super().__init__(manifold, _as_cost(manifold, loss))

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy is made of: not pymanopt's closures, which no pickle takes, nor what is known at a point."""
        theirs = vars(pymanopt.Problem(self.manifold, _as_cost(self.manifold, self.loss)))
        state = {name: value for name, value in vars(self).items() if name not in theirs}
        # the time gone by, not when it began: another process may have another clock
        elapsed = None if self._start is None else time.perf_counter() - self._start
        here = {"log": list(self.log), "_start": elapsed, "_here": None, "_noted": None}
        return state | here | {"manifold": self.manifold}

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = dict(state)
        manifold = own.pop("manifold")
        vars(self).update(own)
        if self._start is not None:
            self._start = time.perf_counter() - self._start
        super().__init__(manifold, _as_cost(manifold, self.loss))

    def run(self, optimizer: Any, initial_point: Any = None, **options: Any) -> Any:
        """Return ``optimizer.run(self, initial_point=..., ...)``, and make sure that its point ends the log.

        Parameters
        ----------
        optimizer : pymanopt.optimizers.Optimizer
            For instance ``TrustRegions(verbosity=0)``.
        initial_point : LowRankMatrix, optional
            None: ``manifold.random_point()``.
        **options
            Passed on to ``optimizer.run``.

        Returns
        -------
        pymanopt.optimizers.optimizer.OptimizerResult
        """
        result = optimizer.run(self, initial_point=initial_point, **options)
        if self._noted is not result.point:
            self.riemannian_gradient(result.point)
        return result

    def _at(self, point: Any) -> _Here:
        """Return what is known at a point, kept while an optimizer stays there."""
        if self._start is None:
            self._start = time.perf_counter()
        if self._here is None or self._here.point is not point:
            self._here = _Here(point, self.manifold.point(point), self.loss)
        return self._here

    @property
    def cost(self) -> Callable[[Any], float]:
        """The loss of a point."""

        def cost(point: Any) -> float:
            self._costs += 1
            return self._at(point).value

        return cost

    @property
    def riemannian_gradient(self) -> Callable[[Any], Tangent]:
        """The Riemannian gradient at a point; each call is one line of the log."""

        def gradient(point: Any) -> Tangent:
            here, manifold = self._at(point), self.manifold
            self._gradients += 1
            rgrad = manifold.metric.coefficients(here.w.s).apply(manifold._tangent(here.projected))
            self._note(here, rgrad)
            return rgrad

        return gradient

    @property
    def riemannian_hessian(self) -> Callable[[Any, Any], Tangent]:
        """The Riemannian Hessian at a point along a tangent vector.

        Raises
        ------
        TypeError
            If the loss has no ``hessian`` or the metric no ``differences``.
        """
        second = require_hessian(self.loss, self.manifold.metric)

        def hessian(point: Any, tangent_vector: Any) -> Tangent:
            here, z = self._at(point), Tangent(*tangent_vector)
            self._hessians += 1
            if here.connection is None:
                here.connection = RiemannianHessian(here.w, here.projected, self.manifold.metric)
            ehess = second(here.w, z.at(here.w))
            return here.connection(z, embedded_hessian(here.w, z, here.egrad, ehess))

        return hessian

    def _note(self, here: _Here, rgrad: Tangent) -> None:
        line = Iterate(
            time.perf_counter() - cast(float, self._start),
            here.value,
            self.manifold.norm(here.w, rgrad),
            self.manifold._tangent(here.projected).norm(),
            np.sort(here.w.s)[::-1],
            self._costs,
            self._gradients,
            self._hessians,
            here.w if self._keep else None,
        )
        self.log.append(line)
        self._noted = here.point
        if self._callback is not None:
            self._callback(line)


def _as_cost(manifold: FixedRank, loss: Any) -> Any:
    """Return the loss as pymanopt's function of (u, s, vt)."""
    return pymanopt.function.numpy(manifold)(lambda u, s, vt: loss.value(LowRankMatrix._trusted(u, s, vt)))


class _Here:
    """What a loss says at one point, each thing computed once and when it is asked for."""

    def __init__(self, point: Any, w: LowRankMatrix, loss: Loss) -> None:
        self.point, self.w, self._loss = point, w, loss
        self.connection: RiemannianHessian | None = None

    @cached_property
    def _both(self) -> tuple[float, MatrixLike] | None:
        said = loss_facts(self._loss)
        return said.value_and_gradient(self.w) if said.shares else None

    @cached_property
    def value(self) -> float:
        return float(self._loss.value(self.w) if self._both is None else self._both[0])

    @cached_property
    def egrad(self) -> MatrixLike:
        return self._loss.gradient(self.w) if self._both is None else self._both[1]

    @cached_property
    def projected(self) -> Tangent:
        return project(self.w, self.egrad)


def require_hessian(loss: Loss, metric: Metric) -> Callable[[MatrixOrArray, MatrixOrArray], MatrixLike]:
    """Return the Hessian of a loss; refuse what TrustRegions cannot use: a loss without one, a metric without differences."""
    hessian = loss_facts(loss).hessian
    if hessian is None:
        raise TypeError(
            "`loss` has no `hessian`, so TrustRegions cannot be used. Add hessian(w, z), or choose ConjugateGradient."
        )
    require_differences(metric)
    return hessian
