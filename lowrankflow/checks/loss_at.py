"""One loss at one W: courses of matrices through it, and what it says along them as numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..losses import Loss, facts
from ..losses.requirements import require_gradient, require_value
from ..matrices import EPS, LowRankMatrix, MatrixOrArray, Product
from ..operators import MatrixLike
from ..report import Hypothesis
from .differentiation import relative, roundoff
from .slopes import order

__all__ = ["FITTED", "Course", "LossAt", "median_order", "pairing", "steady_order"]

FITTED = "median over directions, each fitted over five halvings; infinite where the remainder is roundoff"


class Course(NamedTuple):
    """A curve of matrices W(t) = W + t first + t^2 second, along which a loss is asked."""

    at: Callable[[float], Product]
    first: Product
    second: Product | None


class LossAt:
    """One loss at one point, and the claims about it."""

    def __init__(self, loss: Loss, start: LowRankMatrix, rng: np.random.Generator) -> None:
        self.loss, self.start, self.rng = loss, start, rng
        self.said = facts(loss)
        self.w = Product(*start.split())
        self.scale = start.norm()
        (m, n) = start.shape
        self.u, self.v = rng.standard_normal((m, 4)), rng.standard_normal((n, 4))
        self.value = require_value(loss.value(start))
        self.g = require_gradient(loss.gradient(start), start.shape)
        if not all(np.isfinite(product).all() for product in (self.g @ self.v, self.g.T @ self.u)):
            raise ValueError("`loss.gradient(w)` must be finite at `start`, got a value that is not. Start elsewhere.")
        if not np.isfinite(self.value):
            raise ValueError(f"`loss.value(w)` must be finite at `start`, got {self.value:g}. Start elsewhere.")
        self.courses = [self._course() for _ in range(16)]

    @cached_property
    def beside(self) -> LowRankMatrix:
        """A W of the same rank, half its norm away."""
        (m, n), rng = self.start.shape, self.rng
        z = Product(rng.standard_normal((m, 2)), rng.standard_normal((2, n)))
        return (self.w + z * (0.5 * self.scale / z.norm())).to_low_rank(self.start.rank)

    @property
    def tells(self) -> bool:
        """Whether the gradient is not small beside its own changes: of one that is, only roundoff would be checked."""
        here, there = self.g @ self.v, self.loss.gradient(self.beside) @ self.v
        return not float(np.linalg.norm(here)) <= 1e-3 * float(np.linalg.norm(there - here))

    @cached_property
    def last_digits(self) -> float:
        """What a change of W in its last digits does to the gradient, relative."""
        left, right = (part * (1 + EPS * self.rng.choice([-1.0, 1.0], part.shape)) for part in self.w.split())
        return relative(self.loss.gradient(Product(left, right)) @ self.v, self.g @ self.v)

    @cached_property
    def roundoff(self) -> float:
        """What the value is off by."""
        return max(roundoff(lambda h, at=c.at: float(self.loss.value(at(h)))) for c in self.courses[:4])  # type: ignore[misc]

    # asking

    def _course(self) -> Course:
        """A straight line; for a loss of fixed rank, a curve in the matrices of that rank."""
        (m, n), k, rng = self.start.shape, self.start.rank, self.rng
        if not self.said.fixed_rank:
            z = Product(rng.standard_normal((m, 2)), rng.standard_normal((2, n)))
            z = z * (self.scale / z.norm())
            return Course(lambda t: self.w + z * t, z, None)
        root = np.sqrt(self.start.s)
        left, right = self.start.u * root, root[:, None] * self.start.vt
        # half the least root, so that the curve keeps its rank for t in [-1, 1]
        a, b = (
            0.5 * root.min() * x / np.linalg.norm(x, 2)
            for x in (rng.standard_normal((m, k)), rng.standard_normal((k, n)))
        )
        first = Product(np.hstack([a, left]), np.vstack([right, b]))
        return Course(lambda t: Product(left + t * a, right + t * b), first, Product(a, b))

    def remainder(self, course: Course, factor: float, second: float = 0.0) -> float:
        """Return the order of L(W(t)) - L(W) - t factor <G, W'> - t^2/2 second."""
        slope = factor * pairing(self.g, course.first)
        if self.scale == 0:
            return np.nan

        def rest(t: float) -> float:
            return float(self.loss.value(course.at(t))) - self.value - t * slope - 0.5 * t * t * second

        with np.errstate(over="ignore", invalid="ignore"):
            return order(rest, floor=1000 * max(self.roundoff, EPS * abs(slope)))

    def bend(self, hessian: Callable[[MatrixOrArray, MatrixOrArray], MatrixLike], course: Course) -> float:
        """Return the second derivative of the loss along a course."""
        bend = pairing(hessian(self.w, course.first), course.first)
        return bend if course.second is None else bend + 2 * pairing(self.g, course.second)

    @cached_property
    def least(self) -> float:
        """The least value found along the courses and, where the rank may grow, by ten steps of descent."""
        found = [self.value, *(float(self.loss.value(c.at(t))) for c in self.courses for t in (-1.0, 1.0))]
        w, step = self.w, self.scale
        for _ in range(0 if self.said.fixed_rank else 10):
            g = self.loss.gradient(w)
            q = np.linalg.qr(np.asarray(g.T @ self.u))[0]
            down = Product(np.asarray(g @ q), q.T)  # a part of the gradient of rank four, and a direction of ascent
            if not (size := down.norm()) > 0:
                break
            value, step = float(self.loss.value(w)), 4 * step
            while step > EPS * self.scale and not float(self.loss.value(w - down * (step / size))) < value:
                step /= 4
            w = w - down * (step / size)
            found.append(float(self.loss.value(w)))
        return float(np.nanmin(found))

    @property
    def smooth(self) -> Hypothesis:
        twice = self.said.twice_differentiable
        return Hypothesis("twice differentiable", twice is not False, "not" if twice is False else "yes, or not denied")


def median_order(orders: list[float]) -> float:
    """Return the median of the orders that are steady; nan where none is."""
    steady = [p for p in orders if not np.isnan(p)]
    return float(np.median(steady)) if steady else np.nan


def steady_order(measured: float) -> Hypothesis:
    return Hypothesis("a steady order over five halvings", not np.isnan(measured), measured)


def pairing(g: MatrixLike, z: Product) -> float:
    """Return <G, Z>_F with two thin products."""
    return float(np.vdot(g @ z.right.T, z.left))
