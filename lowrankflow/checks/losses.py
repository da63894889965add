"""Does this loss have the gradient it says it has, and what else it says?"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .. import validation
from ..losses import Loss, facts
from ..losses.facts import loss_label
from ..losses.requirements import require_gradient, require_loss, require_value
from ..losses.tensors import in_arrays
from ..matrices import EPS, LinearNetwork, LowRankMatrix, MatrixOrArray, Product
from ..matrices.requirements import require_point
from ..operators import MatrixLike
from ..report import Control, Hypothesis, Report
from ..statements import Measurement, Statement, claim, derived, measured
from .differentiation import directional_derivative, relative, roundoff
from .slopes import order
from .tables import loss_table

__all__ = ["CLAIMS", "check_loss"]

_SOURCE = derived("losses")
_TITLE = "Does this loss do what it says?"
_LEAD = (
    "A loss says what its value, its gradient and its curvature are, at matrices that are represented in several ways. Here it"
    " was asked at one W and along curves through it, and its answers were compared with one another. What it does not offer"
    " is not asked."
)
_FITTED = "median over directions, each fitted over five halvings; infinite where the remainder is roundoff"
_LARGE = 1_000_000  # entries from which an array of the size of W can be told from the rest of the memory


@validation.quietly
def check_loss(loss: Loss, start: LowRankMatrix, *, rng: validation.Rng = 0) -> Report:
    """Check a loss at a matrix: gradient, operator, representations, state, Hessian, convexity, curvature, memory.

    Parameters
    ----------
    loss : Loss
        Any object with ``shape``, ``value(w)``, ``gradient(w)``; ``hessian(w, z)``, ``value_and_gradient(w)``,
        ``convex``, ``curvature`` and ``lower_bound`` are checked if present. All that `lowrankflow.losses.Loss` lists is shown.
    start : LowRankMatrix, (m, n) of rank k
        Where to check; the loss must be differentiable nearby. A loss that says ``fixed_rank = True`` is asked along
        matrices of rank k alone. Where the gradient is roundoff, as at an exact fit, a W half its norm away is taken.
    rng : int or numpy.random.Generator, optional
        Draws the directions; the same at every call unless given. None: others at every call.

    Returns
    -------
    Report
        Claims ``gradient``, ``gradient order``, ``adjoint``, ``representations``, ``state``, ``hessian``,
        ``hessian order``, ``hessian symmetric``, ``shared``, ``convexity``, ``curvature``, ``lower bound`` and ``memory``, those
        that apply, each with a control; the table "facts" of what the loss can do. ``report.raise_if_failed()`` turns a failure
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
    loss = in_arrays(loss, start)
    rng = validation.as_rng(rng)
    check, where = _Check(loss, start, rng), ""
    if not check.tells:  # a critical point, an exact fit
        check = _Check(loss, check.beside, rng)
        where = "; asked half its norm away, because at W itself the gradient is roundoff"
    m, n = start.shape
    about = {"loss": loss_label(loss), "shape": [m, n], "rank": start.rank}
    return Report(
        "check-loss", about, measured(CLAIMS, check), tables=[loss_table(check.said)],
        title=_TITLE, lead=_LEAD, headline=f"{type(loss).__name__}: W is {m} x {n}, rank {start.rank}{where}",
    )  # fmt: skip


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

    def remainder(self, course: _Course, factor: float, second: float = 0.0) -> float:
        """Return the order of L(W(t)) - L(W) - t factor <G, W'> - t^2/2 second."""
        slope = factor * _pairing(self.g, course.first)
        if self.scale == 0:
            return np.nan

        def rest(t: float) -> float:
            return float(self.loss.value(course.at(t))) - self.value - t * slope - 0.5 * t * t * second

        with np.errstate(over="ignore", invalid="ignore"):
            return order(rest, floor=1000 * max(self.roundoff, EPS * abs(slope)))

    def bend(self, hessian: Callable[[MatrixOrArray, MatrixOrArray], MatrixLike], course: _Course) -> float:
        """Return the second derivative of the loss along a course."""
        bend = _pairing(hessian(self.w, course.first), course.first)
        return bend if course.second is None else bend + 2 * _pairing(self.g, course.second)

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


@claim(
    "gradient",
    statement="<gradient(w), z> is the derivative of value along 16 random directions z.",
    source=_SOURCE,
    meaning=(
        "Two flows of one wrong field agree: only a fresh differentiation can see a wrong gradient. Measured: the"
        " relative error of the pairings with the directions (for a loss of fixed rank, of curves of that rank)."
        " Bound: the accuracy of the five-point central differences of the value, 1e-6, or their roundoff or that of the"
        " gradient if larger."
    ),
    hypotheses="a derivative above its roundoff",
    controls="the gradient times 1.001",
)
def derivative(check: _Check) -> Measurement:
    """The pairing with directions against central differences."""

    def along(course: _Course) -> float:
        # a curve of fixed rank is one for t in [-1, 1] only
        inside = (lambda h: h) if course.second is None else np.tanh
        return directional_derivative(lambda h: float(check.loss.value(course.at(inside(h)))))

    fresh = np.array([along(course) for course in check.courses])
    ours = np.array([_pairing(check.g, course.first) for course in check.courses])
    # the value has its roundoff, over a step of about 1e-2
    typical = max(float(np.linalg.norm(fresh)), float(np.linalg.norm(ours))) / np.sqrt(fresh.size)
    bound = max(1e-6, 100 * check.last_digits, 1e4 * check.roundoff / typical) if typical > 0 else 1.0
    told = Hypothesis("a derivative above its roundoff", bound < 1e-4, typical)
    return Measurement(
        relative(ours, fresh), "<=", bound, (told,),
        (Control("gradient times 1.001", relative(1.001 * ours, fresh), bound),),
        "Five-point central differences; the bound is their accuracy, not roundoff.",
    )  # fmt: skip


@claim(
    "gradient order",
    statement="value(w + tz) - value(w) - t <gradient(w), z> vanishes at order 2.",
    source=_SOURCE,
    meaning=(
        "The Taylor remainder of first order, along the three directions in which the gradient is largest, so that"
        " the first-order term is not small by accident. Measured: the median order, fitted over five halvings;"
        " infinite where the remainder is roundoff. Bound: at least 1.95."
    ),
    hypotheses="a steady order over five halvings; a first-order term above the roundoff of the value",
    controls="the gradient times 1.01",
)
def slope(check: _Check) -> Measurement:
    """The Taylor remainder of first order."""
    # where the gradient is largest, so that the first-order term is not small by accident
    steep = sorted(check.courses, key=lambda course: -abs(_pairing(check.g, course.first)))[:3]
    right, wrong = ([check.remainder(course, factor) for course in steep] for factor in (1.0, 1.01))
    measured, other = _median(right), _median(wrong)
    seen = Hypothesis("a first-order term above the roundoff of the value", not np.isinf(min(measured, other)), other)
    return Measurement(
        measured, ">=", 1.95, (_steady(measured), seen),
        (Control("gradient times 1.01", other, 1.95, ">="),), _FITTED,
    )  # fmt: skip


@claim(
    "adjoint",
    statement="u^T (G v) = (G^T u)^T v, and both are those of the dense G: `g @ v` and `g.T @ u` are one matrix.",
    source=_SOURCE,
    meaning=(
        "The low-rank path only ever multiplies a gradient, from both sides. Measured: the relative difference of the"
        " two sides with four random columns, and, where W has at most a million entries, a tenth of that to the"
        " products of `g @ I`. Bound: 10 eps sqrt(m n), or what the last digits of W do to the gradient if larger."
    ),
    hypotheses="none",
    controls="one product off by 1e-3",
)
def adjoint(check: _Check) -> Measurement:
    """The two products belong to one matrix, and are its dense form's."""
    (m, n), g, u, v = check.start.shape, check.g, check.u, check.v
    gv, gu = g @ v, g.T @ u
    a, b = u.T @ gv, gu.T @ v
    # both sides are sums of at most m n products, of size ||u|| ||G v||
    bound = max(10 * EPS * np.sqrt(m * n), check.last_digits)
    size = float(np.linalg.norm(u) * np.linalg.norm(gv) + np.linalg.norm(gu) * np.linalg.norm(v)) or 1.0
    measured = float(np.linalg.norm(a - b)) / size
    if m * n <= _LARGE:
        dense = g @ np.eye(n)
        for ours, theirs in ((gv, dense @ v), (gu, dense.T @ u)):
            measured = max(measured, float(np.linalg.norm(ours - theirs)) / (float(np.linalg.norm(theirs)) or 1.0) / 10)
    wrong = a + 1e-3 * size / a.size
    return Measurement(
        measured, "<=", float(bound), (),
        (Control("one product off by 1e-3", float(np.linalg.norm(wrong - b)) / size, float(bound)),),
    )  # fmt: skip


@claim(
    "representations",
    statement="LowRankMatrix, Product and LinearNetwork of one W have one value and one gradient.",
    source=_SOURCE,
    meaning=(
        "The two sides of the theorem ask a loss through different representations. Measured: the largest relative"
        " spread of value and gradient. Bound: 1e-9, roundoff of three ways to multiply, with four digits for"
        " cancellation in the residual and for scale."
    ),
    hypotheses="a loss that is not the same everywhere",
    controls="another W",
)
def representations(check: _Check) -> Measurement:
    """One W, three representations."""
    loss, start, w, v = check.loss, check.start, check.w, check.v
    forms = (start, w, LinearNetwork.balanced(start, 3))
    values = np.array([float(loss.value(x)) for x in forms])
    products = [np.asarray(loss.gradient(x) @ v) for x in forms]
    size = float(np.linalg.norm(products[0])) or 1.0
    there = check.courses[0].at(0.5)
    change = abs(float(loss.value(there)) - values[0])
    level = max(float(np.abs(values).max()), change) or 1.0  # a value that happens to be near zero is no scale
    spread = max(
        float(np.ptp(values)) / level,
        max(float(np.linalg.norm(p - products[0])) for p in products) / size,
    )
    moved = max(change / level, float(np.linalg.norm(loss.gradient(there) @ v - products[0])) / size)
    # roundoff of three ways to multiply, with four digits for cancellation in the residual and for scale
    bound = max(1e-9, 100 * check.last_digits)
    varies = Hypothesis("a loss that is not the same everywhere", max(moved, spread) > bound, moved)
    return Measurement(
        spread, "<=", bound, (varies,),
        (Control("another W", moved, bound),),
    )  # fmt: skip


@claim(
    "state",
    statement="gradient(w) does not depend on the calls before it, nor do later calls change it.",
    source=_SOURCE,
    meaning=(
        "A residual kept from an earlier call, or one array returned twice, would show. Measured: the relative change"
        " of a gradient after the loss was asked elsewhere. Bound: 1e-12."
    ),
    hypotheses="a gradient that is not the same everywhere",
    controls="the gradient elsewhere",
)
def state(check: _Check) -> Measurement:
    """What was asked before does not matter, and what was returned is not changed."""
    loss, w, v = check.loss, check.w, check.v
    elsewhere = check.courses[0].at(0.5)
    loss.value(w)
    kept = loss.gradient(w)
    first = np.array(kept @ v)
    other = np.array(loss.gradient(elsewhere) @ v)
    after = np.array(kept @ v)
    loss.value(elsewhere)
    again = np.array(loss.gradient(w) @ v)
    twice = np.array(loss.gradient(w) @ v)  # of a loss that is one call late the first that is right
    size = float(np.linalg.norm(first)) or 1.0
    gap = max(float(np.linalg.norm(x - first)) for x in (again, after, twice)) / size
    moved = float(np.linalg.norm(other - first)) / size
    # what is stale looks alike everywhere too, but then differs from itself
    varies = Hypothesis("a gradient that is not the same everywhere", moved > 1e-12 or gap > 1e-12, moved)
    return Measurement(
        gap, "<=", 1e-12, (varies,),
        (Control("the gradient elsewhere", moved, 1e-12),),
        "A residual kept from an earlier call, or one array returned twice, would show.",
    )  # fmt: skip


@claim(
    "shared",
    statement="value_and_gradient(w) is (value(w), gradient(w)).",
    source=_SOURCE,
    meaning="Where the loss shares its residual between the two. Measured: the larger relative difference. Bound: 1e-12.",
    hypotheses="the loss has a `value_and_gradient`, else there is no claim; a gradient that is not zero",
    controls="the gradient times 1.001",
)
def shared(check: _Check) -> Measurement | None:
    """value_and_gradient is value and gradient."""
    if not check.said.shares:
        return None
    value, g = check.said.value_and_gradient(check.start)
    gap = abs(float(value) - check.value) / (abs(check.value) or 1.0)
    ours, apart = np.asarray(g @ check.v), np.asarray(check.g @ check.v)
    measured = max(gap, relative(ours, apart))
    there = Hypothesis("a gradient that is not zero", bool(np.any(apart)) or measured > 0, float(np.abs(apart).max()))
    return Measurement(
        measured, "<=", 1e-12, (there,),
        (Control("gradient times 1.001", relative(1.001 * ours, apart), 1e-12),),
    )  # fmt: skip


@claim(
    "hessian",
    statement="hessian(w, z) is the derivative of gradient along z.",
    source=_SOURCE,
    meaning=(
        "Measured: the relative error against a central difference of the gradient with step eps^(1/3), which is"
        " accurate to about 1e-9. Bound: 1e-6, or the roundoff of the gradients over that step if larger."
    ),
    hypotheses=(
        "the loss has a `hessian`, else there is no claim; it is not said not to be twice differentiable; a second"
        " derivative above the roundoff of the gradient"
    ),
    controls="the Hessian times 1.001",
)
def second_derivative(check: _Check) -> Measurement | None:
    """The Hessian against differences of the gradient."""
    if (hessian := check.said.hessian) is None:
        return None
    course, v = check.courses[0], check.v
    ours = np.asarray(hessian(check.w, course.first) @ v).ravel()
    h = EPS ** (1 / 3)  # where truncation h^2 and roundoff eps / h of the central difference balance
    there, back = check.loss.gradient(course.at(h)), check.loss.gradient(course.at(-h))
    fresh = ((there @ v - back @ v) / (2 * h)).ravel()
    most = max(float(np.linalg.norm(ours)), float(np.linalg.norm(fresh)))
    # roundoff of the gradients over the step, with two digits of reserve
    bound = max(1e-6, 100 * EPS * float(np.linalg.norm(there @ v)) / (h * most)) if most > 0 else 1.0
    curved = Hypothesis("a second derivative above the roundoff of the gradient", bound < 1e-4, most)
    return Measurement(
        relative(ours, fresh), "<=", bound, (check.smooth, curved),
        (Control("Hessian times 1.001", relative(1.001 * ours, fresh), bound),),
        "Central difference of the gradient with step eps^(1/3): accurate to about 1e-9.",
    )  # fmt: skip


@claim(
    "hessian order",
    statement="value(w + tz) - value(w) - t <gradient, z> - t^2/2 <hessian z, z> vanishes at order 3.",
    source=_SOURCE,
    meaning=(
        "The Taylor remainder of second order, along the five directions in which the loss bends most. Measured: the"
        " median order, fitted over five halvings; infinite where the remainder is roundoff. Bound: at least 2.95."
    ),
    hypotheses="as hessian; a second-order term above the roundoff of the value; a steady order over five halvings",
    controls="the Hessian times 1.1",
)
def second_slope(check: _Check) -> Measurement | None:
    """The Taylor remainder of second order."""
    if (hessian := check.said.hessian) is None:
        return None
    bends = sorted(((check.bend(hessian, c), c) for c in check.courses), key=lambda row: -abs(row[0]))[:5]
    right, wrong = ([check.remainder(c, 1.0, f * bend) for bend, c in bends] for f in (1.0, 1.1))
    measured, other, most = _median(right), _median(wrong), abs(bends[0][0])
    curved = Hypothesis(
        "a second-order term above the roundoff of the value", most > 0 and not np.isinf(min(measured, other)), most
    )
    return Measurement(
        measured, ">=", 2.95, (check.smooth, curved, _steady(measured)),
        (Control("Hessian times 1.1", other, 2.95, ">="),), _FITTED,
    )  # fmt: skip


@claim(
    "hessian symmetric",
    statement="<hessian(w, a), b> = <hessian(w, b), a>.",
    source=_SOURCE,
    meaning="Measured: the difference over the size of the products. Bound: 100 eps sqrt(m n).",
    hypotheses="the loss has a `hessian`, else there is no claim; a second derivative that is not zero",
    controls="one side plus 0.1 %",
)
def symmetry(check: _Check) -> Measurement | None:
    """<H a, b> = <a, H b>."""
    if (hessian := check.said.hessian) is None:
        return None
    a, b = check.courses[0].first, check.courses[1].first
    ha, hb = hessian(check.w, a), hessian(check.w, b)
    left, right = _pairing(ha, b), _pairing(hb, a)
    size = abs(_pairing(ha, a)) + abs(_pairing(hb, b)) + abs(left)
    curved, size = Hypothesis("a second derivative that is not zero", size > 0, size), size or 1.0
    bound = float(100 * EPS * np.sqrt(np.prod(check.start.shape)))
    return Measurement(
        abs(left - right) / size, "<=", bound, (curved,),
        (Control("one side plus 0.1 %", abs(left - right + 1e-3 * size) / size, bound),),
    )  # fmt: skip


@claim(
    "convexity",
    statement="The middle of random segments lies below the mean of their ends.",
    source=_SOURCE,
    meaning=(
        "Only what a loss declares by `convex` is checked, on eight segments: a counter-example would disprove"
        " convexity, none does not prove it. Measured: the largest excess, relative. Bound: 1000 eps."
    ),
    hypotheses="a loss that is not linear",
    controls="minus the loss",
)
def convexity(check: _Check) -> Measurement | None:
    """The middle of a segment lies below the mean of its ends."""
    # only what is declared is checked; the matrices of one rank hold no segments
    if not check.said.convex or check.said.fixed_rank:
        return None
    excess, size = [], []
    for a, b in zip(check.courses[::2], check.courses[1::2], strict=True):
        ends = [float(check.loss.value(w)) for w in (a.at(1.0), b.at(-1.0))]
        middle = float(check.loss.value(check.w + (a.first - b.first) * 0.5))
        excess.append(middle - sum(ends) / 2)
        size.append(max(abs(e) for e in ends))
    scale = max(size) or 1.0
    bound = 1000 * EPS
    bent = Hypothesis("a loss that is not linear", max(map(abs, excess)) / scale > bound, max(map(abs, excess)) / scale)
    return Measurement(
        max(excess) / scale, "<=", bound, (bent,),
        (Control("minus the loss", -min(excess) / scale, bound),),
        "On eight segments: a counter-example would disprove convexity, none does not prove it.",
    )  # fmt: skip


@claim(
    "curvature",
    statement="The largest second derivative that the power method finds is at most `curvature` (their ratio).",
    source=_SOURCE,
    meaning=(
        "`curvature` sets the unit of time and bounds the stiffness. Measured: the largest second derivative along"
        " low-rank directions that twenty steps of the power method find, over what the loss declares. Bound: 1 +"
        " 1e-6."
    ),
    hypotheses=(
        "the loss has `hessian` and `curvature`, else there is no claim; a second derivative of a thousandth of the bound"
    ),
    controls="a thousand times the loss under the same bound",
)
def smoothness(check: _Check) -> Measurement | None:
    """The largest second derivative found is below the bound that the loss declares."""
    declared, hessian = check.said.curvature, check.said.hessian
    if hessian is None or declared is None:
        return None
    z, found = check.courses[0].first, 0.0
    for _ in range(20):  # power method on low-rank directions: each product is cut back to rank two
        h = hessian(check.w, z)
        norm2 = z.norm() ** 2
        found = max(found, abs(_pairing(h, z)) / norm2)
        right = np.linalg.qr(np.asarray(h.T @ (h @ z.right.T)))[0].T
        z = Product(np.asarray(h @ right.T), right)
        if not z.norm() > 0:
            break
        z = z * (1 / z.norm())
    ratio = found / declared
    bound = 1 + 1e-6  # an eigenvalue by the power method, to roundoff of a few products
    bent = Hypothesis("a second derivative of a thousandth of the bound", ratio > 1e-3, ratio)  # else it says nothing
    return Measurement(
        ratio, "<=", bound, (bent,),
        (Control("a thousand times the loss under the same bound", 1000 * ratio, bound),),
        f"largest second derivative found: {found:.3g}",
    )  # fmt: skip


@claim(
    "lower bound",
    statement="No value that ten steps of descent find lies below `lower_bound`.",
    source=_SOURCE,
    meaning=(
        "`lower_bound` bounds the stiffness where the best value is not known. Only a value below it disproves it. Measured:"
        " what the bound exceeds the least value by that was found, from W along minus the gradient and along random curves,"
        " over what the loss fell. Bound: 1000 eps of the size of the values over that fall."
    ),
    hypotheses="the loss states a `lower_bound`, else there is no claim; the loss falls from W by more than roundoff",
    controls="the value at W as the bound",
)
def floor(check: _Check) -> Measurement | None:
    """No value is below what the loss states."""
    if (stated := check.said.lower_bound) is None:
        return None
    least, size = check.least, max(abs(check.value), abs(check.least))
    fall = check.value - least
    fell = Hypothesis("the loss falls from W by more than roundoff", fall > 1e6 * EPS * size, fall)
    fall = fall if fall > 0 else 1.0
    bound = 1000 * EPS * size / fall
    return Measurement(
        (stated - least) / fall, "<=", bound, (fell,), (Control("the value at W as the bound", 1.0, bound),),
        f"least value found: {least:.6g}, stated: {stated:.6g}",
    )  # fmt: skip


@claim(
    "memory",
    statement="Value and gradient at a low-rank W need less memory than half an m x n array (share of one).",
    source=_SOURCE,
    meaning=(
        "Measured where W has a million entries or more and the gradient is not an array itself: the peak of memory"
        " over that of an m x n array. Bound: 0.5."
    ),
    hypotheses="none",
    controls="W as an array",
)
def memory(check: _Check) -> Measurement | None:
    """Value and gradient form nothing of the size of W, where the gradient is not an array itx."""
    m, n = check.start.shape
    if m * n < _LARGE or isinstance(check.g, np.ndarray):
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

    share = peak(lambda: (check.loss.value(check.start), check.loss.gradient(check.start) @ check.v))
    return Measurement(
        share, "<=", 0.5, (),
        (Control("W as an array", peak(check.start.to_dense), 0.5),),
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


CLAIMS: tuple[Statement[[_Check]], ...] = (
    derivative, slope, adjoint, representations, state, shared, second_derivative, second_slope, symmetry,
    convexity, smoothness, floor, memory,
)  # fmt: skip
