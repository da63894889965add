"""Does this loss have the gradient it says it has, and what else it says?"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import validation
from ..losses import Loss, facts
from ..losses.protocol import require_gradient, require_loss, require_value
from ..matrices import EPS, LinearNetwork, LowRankMatrix, MatrixOrArray, Product
from ..matrices.requirements import require_point
from ..operators import MatrixLike
from ..report import Bound, Claim, Control, Hypothesis, Relation, Report
from .differentiation import directional_derivative, relative
from .slopes import order
from .tables import loss_table

__all__ = ["check_loss"]

_SOURCE = "derived: docs/theory.md#losses"
_FITTED = "median over directions, each fitted over five halvings; infinite where the remainder is roundoff"
_LARGE = 1_000_000  # entries from which an array of the size of W can be told from the rest of the memory


def check_loss(loss: Loss, start: LowRankMatrix, *, rng: validation.Rng = 0) -> Report:
    """Check a loss at a matrix: gradient, operator, representations, state, Hessian, convexity, curvature, memory.

    Parameters
    ----------
    loss : Loss
        Any object with ``shape``, ``value(w)``, ``gradient(w)``; ``hessian(w, z)``, ``value_and_gradient(w)``,
        ``convex`` and ``curvature`` are checked if present. All that `lowrankflow.losses.Loss` lists is shown.
    start : LowRankMatrix, (m, n) of rank k
        Where to check; the loss must be differentiable nearby. A loss that says ``fixed_rank = True`` is asked along
        matrices of rank k alone.
    rng : int or numpy.random.Generator, optional
        Draws the directions; the same at every call unless given. None: others at every call.

    Returns
    -------
    Report
        Claims ``gradient``, ``gradient order``, ``adjoint``, ``representations``, ``state``, ``hessian``,
        ``hessian order``, ``hessian symmetric``, ``shared``, ``convexity``, ``curvature`` and ``memory``, those that
        apply, each with a control; the table "facts" of what the loss can do. ``report.raise_if_failed()`` turns a failure
        into an exception.

    Raises
    ------
    ValueError, TypeError
        If `loss` lacks a method or has a value that is not one real number or a gradient that is not finite, `start` is
        not a LowRankMatrix, or the shapes differ.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> rng = np.random.default_rng(0)
    >>> loss = lrf.losses.LeastSquares(rng.standard_normal((3, 9)), rng.standard_normal((4, 9)))
    >>> lrf.check_loss(loss, lrf.random_point(4, 3, 2, rng=rng)).passed
    True
    """
    require_loss(loss)
    require_point("start", start)
    validation.require_shape("start", start.shape, loss.shape)
    rng = validation.as_rng(rng)
    check = _Check(loss, start, rng)
    m, n = start.shape
    about = {"loss": repr(loss), "shape": [m, n], "rank": start.rank}
    measures: list[Callable[[], Claim | None]] = [
        check.derivative, check.slope, check.adjoint, check.representations, check.state, check.shared,
        check.second_derivative, check.second_slope, check.symmetry, check.convexity, check.smoothness, check.memory,
    ]  # fmt: skip
    claims = [claim for claim in (measure() for measure in measures) if claim is not None]
    return Report("check-loss", about, claims, tables=[loss_table(check.said)])


class _Course(NamedTuple):
    """A curve of matrices W(t) = W + t first + t^2 second, along which a loss is asked."""

    at: Callable[[float], Product]
    first: Product
    second: Product | None


class _Check:
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

    # asking

    def _course(self) -> _Course:
        """A straight line; for a loss of fixed rank, a curve in the matrices of that rank."""
        (m, n), k, rng = self.start.shape, self.start.rank, self.rng
        if not self.said.fixed_rank:
            z = Product(rng.standard_normal((m, 2)), rng.standard_normal((2, n)))
            z = z * (self.scale / z.norm())
            return _Course(lambda t: self.w + z * t, z, None)
        root = np.sqrt(self.start.s)
        left, right = self.start.u * root, root[:, None] * self.start.vt
        # half the least root, so that the curve keeps its rank for t in [-1, 1]
        a, b = (
            0.5 * root.min() * x / np.linalg.norm(x, 2)
            for x in (rng.standard_normal((m, k)), rng.standard_normal((k, n)))
        )
        first = Product(np.hstack([a, left]), np.vstack([right, b]))
        return _Course(lambda t: Product(left + t * a, right + t * b), first, Product(a, b))

    def _claim(
        self,
        name: str,
        statement: str,
        measured: float,
        relation: Relation,
        bound: Bound,
        control: Control,
        detail: str = "",
        *hypotheses: Hypothesis,
    ) -> Claim:
        return Claim(name, statement, _SOURCE, float(measured), relation, bound, hypotheses, (control,), detail)

    # the gradient

    def derivative(self) -> Claim:
        """The pairing with directions against central differences."""

        def along(course: _Course) -> float:
            # a curve of fixed rank is one for t in [-1, 1] only
            inside = (lambda h: h) if course.second is None else np.tanh
            return directional_derivative(lambda h: float(self.loss.value(course.at(inside(h)))))

        fresh = np.array([along(course) for course in self.courses])
        ours = np.array([_pairing(self.g, course.first) for course in self.courses])
        # the value has a roundoff of eps times itself, over a step of about 1e-2
        typical = float(np.linalg.norm(fresh)) / np.sqrt(fresh.size)
        bound = max(1e-6, 1e4 * EPS * abs(self.value) / typical) if typical > 0 else 1e-6
        return self._claim(
            "gradient", "<gradient(w), z> is the derivative of value along 16 random directions z.",
            relative(ours, fresh), "<=", bound, Control("gradient times 1.001", relative(1.001 * ours, fresh), bound),
            "Five-point central differences; the bound is their accuracy, not roundoff.",
        )  # fmt: skip

    def _remainder(self, course: _Course, factor: float, second: float = 0.0) -> float:
        """Return the order of L(W(t)) - L(W) - t factor <G, W'> - t^2/2 second."""
        slope = factor * _pairing(self.g, course.first)
        if self.scale == 0:
            return np.nan

        def rest(t: float) -> float:
            return float(self.loss.value(course.at(t))) - self.value - t * slope - 0.5 * t * t * second

        with np.errstate(over="ignore", invalid="ignore"):
            return order(rest, floor=1000 * EPS * max(abs(self.value), abs(slope)))

    def slope(self) -> Claim:
        """The Taylor remainder of first order."""
        # where the gradient is largest, so that the first-order term is not small by accident
        steep = sorted(self.courses, key=lambda course: -abs(_pairing(self.g, course.first)))[:3]
        right, wrong = ([self._remainder(course, factor) for course in steep] for factor in (1.0, 1.01))
        measured = _median(right)
        return self._claim(
            "gradient order", "value(w + tz) - value(w) - t <gradient(w), z> vanishes at order 2.",
            measured, ">=", 1.95, Control("gradient times 1.01", _median(wrong), 1.95, ">="), _FITTED, _steady(measured),
        )  # fmt: skip

    def adjoint(self) -> Claim:
        """The two products belong to one matrix, and are its dense form's."""
        (m, n), g, u, v = self.start.shape, self.g, self.u, self.v
        gv, gu = g @ v, g.T @ u
        a, b = u.T @ gv, gu.T @ v
        # both sides are sums of at most m n products, of size ||u|| ||G v||
        bound = 10 * EPS * np.sqrt(m * n)
        size = float(np.linalg.norm(u) * np.linalg.norm(gv) + np.linalg.norm(gu) * np.linalg.norm(v)) or 1.0
        measured = float(np.linalg.norm(a - b)) / size
        if m * n <= _LARGE:
            dense = g @ np.eye(n)
            for ours, theirs in ((gv, dense @ v), (gu, dense.T @ u)):
                measured = max(
                    measured, float(np.linalg.norm(ours - theirs)) / (float(np.linalg.norm(theirs)) or 1.0) / 10
                )
        wrong = a + 1e-3 * size / a.size
        return self._claim(
            "adjoint", "u^T (G v) = (G^T u)^T v, and both are those of the dense G: `g @ v` and `g.T @ u` are one matrix.",
            measured, "<=", float(bound),
            Control("one product off by 1e-3", float(np.linalg.norm(wrong - b)) / size, float(bound)),
        )  # fmt: skip

    def representations(self) -> Claim:
        """One W, three representations."""
        loss, start, w, v = self.loss, self.start, self.w, self.v
        forms = (start, w, LinearNetwork.balanced(start, 3))
        values = np.array([float(loss.value(x)) for x in forms])
        products = [np.asarray(loss.gradient(x) @ v) for x in forms]
        size = float(np.linalg.norm(products[0])) or 1.0
        spread = max(
            float(np.ptp(values)) / (np.abs(values).max() or 1.0),
            max(float(np.linalg.norm(p - products[0])) for p in products) / size,
        )
        there = self.courses[0].at(0.5)
        moved = max(
            abs(float(loss.value(there)) - values[0]) / (np.abs(values).max() or 1.0),
            float(np.linalg.norm(loss.gradient(there) @ v - products[0])) / size,
        )
        bound = (
            1e-9  # roundoff of three ways to multiply, with four digits for cancellation in the residual and for scale
        )
        return self._claim(
            "representations", "LowRankMatrix, Product and LinearNetwork of one W have one value and one gradient.",
            spread, "<=", bound, Control("another W", moved, bound),
        )  # fmt: skip

    def state(self) -> Claim:
        """What was asked before does not matter, and what was returned is not changed."""
        loss, w, v = self.loss, self.w, self.v
        elsewhere = self.courses[0].at(0.5)
        loss.value(w)
        kept = loss.gradient(w)
        first = np.array(kept @ v)
        other = np.array(loss.gradient(elsewhere) @ v)
        after = np.array(kept @ v)
        loss.value(elsewhere)
        again = np.array(loss.gradient(w) @ v)
        size = float(np.linalg.norm(first)) or 1.0
        gap = max(float(np.linalg.norm(x - first)) for x in (again, after)) / size
        moved = float(np.linalg.norm(other - first)) / size
        # what is stale looks alike everywhere too, but then differs from itself
        varies = Hypothesis("a gradient that is not the same everywhere", moved > 1e-12 or gap > 1e-12, moved)
        return self._claim(
            "state", "gradient(w) does not depend on the calls before it, nor do later calls change it.",
            gap, "<=", 1e-12, Control("the gradient elsewhere", moved, 1e-12),
            "A residual kept from an earlier call, or one array returned twice, would show.", varies,
        )  # fmt: skip

    def shared(self) -> Claim | None:
        """value_and_gradient is value and gradient."""
        if not self.said.shares:
            return None
        value, g = self.said.value_and_gradient(self.start)
        gap = abs(float(value) - self.value) / (abs(self.value) or 1.0)
        ours, apart = np.asarray(g @ self.v), np.asarray(self.g @ self.v)
        return self._claim(
            "shared", "value_and_gradient(w) is (value(w), gradient(w)).",
            max(gap, relative(ours, apart)), "<=", 1e-12,
            Control("gradient times 1.001", relative(1.001 * ours, apart), 1e-12),
        )  # fmt: skip

    # the second derivative

    @property
    def _smooth(self) -> Hypothesis:
        twice = self.said.twice_differentiable
        return Hypothesis("twice differentiable", twice is not False, "not" if twice is False else "yes, or not denied")

    def second_derivative(self) -> Claim | None:
        """The Hessian against differences of the gradient."""
        if (hessian := self.said.hessian) is None:
            return None
        course, v = self.courses[0], self.v
        ours = np.asarray(hessian(self.w, course.first) @ v).ravel()
        h = EPS ** (1 / 3)  # where truncation h^2 and roundoff eps / h of the central difference balance
        there, back = self.loss.gradient(course.at(h)), self.loss.gradient(course.at(-h))
        fresh = ((there @ v - back @ v) / (2 * h)).ravel()
        curved = Hypothesis(
            "a second derivative that is not zero", bool(np.any(ours) or np.any(fresh)), float(np.abs(ours).max())
        )
        return self._claim(
            "hessian", "hessian(w, z) is the derivative of gradient along z.",
            relative(ours, fresh), "<=", 1e-6, Control("Hessian times 1.001", relative(1.001 * ours, fresh), 1e-6),
            "Central difference of the gradient with step eps^(1/3): accurate to about 1e-9.", self._smooth, curved,
        )  # fmt: skip

    def second_slope(self) -> Claim | None:
        """The Taylor remainder of second order."""
        if (hessian := self.said.hessian) is None:
            return None
        bends = sorted(((self._bend(hessian, c), c) for c in self.courses), key=lambda row: -abs(row[0]))[:5]
        right, wrong = ([self._remainder(c, 1.0, f * bend) for bend, c in bends] for f in (1.0, 1.1))
        measured, most = _median(right), abs(bends[0][0])
        curved = Hypothesis("a second derivative that is not zero", most > 0, most)
        return self._claim(
            "hessian order", "value(w + tz) - value(w) - t <gradient, z> - t^2/2 <hessian z, z> vanishes at order 3.",
            measured, ">=", 2.95, Control("Hessian times 1.1", _median(wrong), 2.95, ">="),
            _FITTED, self._smooth, curved, _steady(measured),
        )  # fmt: skip

    def _bend(self, hessian: Callable[[MatrixOrArray, MatrixOrArray], MatrixLike], course: _Course) -> float:
        bend = _pairing(hessian(self.w, course.first), course.first)
        return bend if course.second is None else bend + 2 * _pairing(self.g, course.second)

    def symmetry(self) -> Claim | None:
        """<H a, b> = <a, H b>."""
        if (hessian := self.said.hessian) is None:
            return None
        a, b = self.courses[0].first, self.courses[1].first
        ha, hb = hessian(self.w, a), hessian(self.w, b)
        left, right = _pairing(ha, b), _pairing(hb, a)
        size = abs(_pairing(ha, a)) + abs(_pairing(hb, b)) + abs(left)
        curved, size = Hypothesis("a second derivative that is not zero", size > 0, size), size or 1.0
        bound = float(100 * EPS * np.sqrt(np.prod(self.start.shape)))
        return self._claim(
            "hessian symmetric", "<hessian(w, a), b> = <hessian(w, b), a>.",
            abs(left - right) / size, "<=", bound,
            Control("one side plus 0.1 %", abs(left - right + 1e-3 * size) / size, bound), "", curved,
        )  # fmt: skip

    # what theory asks for

    def convexity(self) -> Claim | None:
        """The middle of a segment lies below the mean of its ends."""
        # only what is declared is checked; the matrices of one rank hold no segments
        if not self.said.convex or self.said.fixed_rank:
            return None
        excess, size = [], []
        for a, b in zip(self.courses[::2], self.courses[1::2], strict=True):
            ends = [float(self.loss.value(x)) for x in (a.at(1.0), b.at(-1.0))]
            middle = float(self.loss.value(self.w + (a.first - b.first) * 0.5))
            excess.append(middle - sum(ends) / 2)
            size.append(max(abs(e) for e in ends))
        scale = max(size) or 1.0
        bound = 1000 * EPS
        bent = Hypothesis(
            "a loss that is not linear", max(map(abs, excess)) / scale > bound, max(map(abs, excess)) / scale
        )
        return self._claim(
            "convexity", "The middle of random segments lies below the mean of their ends.",
            max(excess) / scale, "<=", bound, Control("minus the loss", -min(excess) / scale, bound),
            "On eight segments: a counter-example would disprove convexity, none does not prove it.", bent,
        )  # fmt: skip

    def smoothness(self) -> Claim | None:
        """The largest second derivative found is below the bound that the loss declares."""
        declared, hessian = self.said.curvature, self.said.hessian
        if hessian is None or declared is None:
            return None
        z, found = self.courses[0].first, 0.0
        for _ in range(20):  # power method on low-rank directions: each product is cut back to rank two
            h = hessian(self.w, z)
            norm2 = z.norm() ** 2
            found = max(found, abs(_pairing(h, z)) / norm2)
            right = np.linalg.qr(np.asarray(h.T @ (h @ z.right.T)))[0].T
            z = Product(np.asarray(h @ right.T), right)
            if not z.norm() > 0:
                break
            z = z * (1 / z.norm())
        ratio = found / declared
        bound = 1 + 1e-6  # an eigenvalue by the power method, to roundoff of a few products
        return self._claim(
            "curvature", "The largest second derivative that the power method finds is at most `curvature` (their ratio).",
            ratio, "<=", bound, Control("a thousand times the loss under the same bound", 1000 * ratio, bound),
            f"largest second derivative found: {found:.3g}",
        )  # fmt: skip

    def memory(self) -> Claim | None:
        """Value and gradient form nothing of the size of W, where the gradient is not an array itself."""
        m, n = self.start.shape
        if m * n < _LARGE or isinstance(self.g, np.ndarray):
            return None

        def peak(call: Callable[[], Any]) -> float:
            tracing = tracemalloc.is_tracing()
            if not tracing:
                tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            call()
            most = tracemalloc.get_traced_memory()[1] - before
            if not tracing:
                tracemalloc.stop()
            return most / (8.0 * m * n)

        share = peak(lambda: (self.loss.value(self.start), self.loss.gradient(self.start) @ self.v))
        return self._claim(
            "memory", "Value and gradient at a low-rank W need less memory than half an m x n array (share of one).",
            share, "<=", 0.5, Control("W as an array", peak(self.start.to_dense), 0.5),
        )  # fmt: skip


def _median(orders: list[float]) -> float:
    """Return the median of the orders that are steady; nan where none is."""
    steady = [p for p in orders if not np.isnan(p)]
    return float(np.median(steady)) if steady else np.nan


def _steady(measured: float) -> Hypothesis:
    return Hypothesis("a steady order over five halvings", not np.isnan(measured), measured)


def _pairing(g: MatrixLike, z: Product) -> float:
    """Return <G, Z>_F with two thin products."""
    return float(np.vdot(g @ z.right.T, z.left))
