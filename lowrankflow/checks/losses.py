"""Does this loss have the gradient it says it has, and what else it says?"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import validation
from ..losses import Loss
from ..losses.facts import loss_label
from ..losses.requirements import require_loss
from ..losses.tensors import in_arrays
from ..matrices import EPS, LinearNetwork, LowRankMatrix
from ..matrices.requirements import require_point
from ..report import Control, Hypothesis, Report
from ..statements import Measurement, Statement, claim, derived, measured
from .differentiation import directional_derivative, relative
from .loss_at import FITTED, Course, LossAt, median_order, pairing, steady_order
from .loss_curvature import convexity, floor, second_derivative, second_slope, smoothness, symmetry
from .tables import loss_table

__all__ = ["CLAIMS", "check_loss"]

_SOURCE = derived("losses")
_TITLE = "Does this loss do what it says?"
_LEAD = (
    "A loss says what its value, its gradient and its curvature are, at matrices that are represented in several ways. Here it"
    " was asked at one W and along curves through it, and its answers were compared with one another. What it does not offer"
    " is not asked."
)
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
    check, where = LossAt(loss, start, rng), ""
    if not check.tells:  # a critical point, an exact fit
        check = LossAt(loss, check.beside, rng)
        where = "; asked half its norm away, because at W itself the gradient is roundoff"
    m, n = start.shape
    about = {"loss": loss_label(loss), "shape": [m, n], "rank": start.rank}
    return Report(
        "check-loss", about, measured(CLAIMS, check), tables=[loss_table(check.said)],
        title=_TITLE, lead=_LEAD, headline=f"{type(loss).__name__}: W is {m} x {n}, rank {start.rank}{where}",
    )  # fmt: skip


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
def derivative(check: LossAt) -> Measurement:
    """The pairing with directions against central differences."""

    def along(course: Course) -> float:
        # a curve of fixed rank is one for t in [-1, 1] only
        inside = (lambda h: h) if course.second is None else np.tanh
        return directional_derivative(lambda h: float(check.loss.value(course.at(inside(h)))))

    fresh = np.array([along(course) for course in check.courses])
    ours = np.array([pairing(check.g, course.first) for course in check.courses])
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
def slope(check: LossAt) -> Measurement:
    """The Taylor remainder of first order."""
    # where the gradient is largest, so that the first-order term is not small by accident
    steep = sorted(check.courses, key=lambda course: -abs(pairing(check.g, course.first)))[:3]
    right, wrong = ([check.remainder(course, factor) for course in steep] for factor in (1.0, 1.01))
    measured, other = median_order(right), median_order(wrong)
    seen = Hypothesis("a first-order term above the roundoff of the value", not np.isinf(min(measured, other)), other)
    return Measurement(
        measured, ">=", 1.95, (steady_order(measured), seen),
        (Control("gradient times 1.01", other, 1.95, ">="),), FITTED,
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
def adjoint(check: LossAt) -> Measurement:
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
def representations(check: LossAt) -> Measurement:
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
def state(check: LossAt) -> Measurement:
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
def shared(check: LossAt) -> Measurement | None:
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
def memory(check: LossAt) -> Measurement | None:
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


CLAIMS: tuple[Statement[[LossAt]], ...] = (
    derivative, slope, adjoint, representations, state, shared, second_derivative, second_slope, symmetry,
    convexity, smoothness, floor, memory,
)  # fmt: skip
