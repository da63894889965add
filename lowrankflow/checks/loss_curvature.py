"""What a loss says of its second derivative, and what follows from it: Hessian, convexity, bounds."""

from __future__ import annotations

import numpy as np

from ..matrices import EPS, Product
from ..report import Control, Hypothesis
from ..statements import Measurement, claim, derived
from .differentiation import relative
from .loss_at import FITTED, LossAt, median_order, pairing, steady_order

__all__ = ["convexity", "floor", "second_derivative", "second_slope", "smoothness", "symmetry"]

_SOURCE = derived("losses")


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
def second_derivative(check: LossAt) -> Measurement | None:
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
def second_slope(check: LossAt) -> Measurement | None:
    """The Taylor remainder of second order."""
    if (hessian := check.said.hessian) is None:
        return None
    bends = sorted(((check.bend(hessian, c), c) for c in check.courses), key=lambda row: -abs(row[0]))[:5]
    right, wrong = ([check.remainder(c, 1.0, f * bend) for bend, c in bends] for f in (1.0, 1.1))
    measured, other, most = median_order(right), median_order(wrong), abs(bends[0][0])
    curved = Hypothesis(
        "a second-order term above the roundoff of the value", most > 0 and not np.isinf(min(measured, other)), most
    )
    return Measurement(
        measured, ">=", 2.95, (check.smooth, curved, steady_order(measured)),
        (Control("Hessian times 1.1", other, 2.95, ">="),), FITTED,
    )  # fmt: skip


@claim(
    "hessian symmetric",
    statement="<hessian(w, a), b> = <hessian(w, b), a>.",
    source=_SOURCE,
    meaning="Measured: the difference over the size of the products. Bound: 100 eps sqrt(m n).",
    hypotheses="the loss has a `hessian`, else there is no claim; a second derivative that is not zero",
    controls="one side plus 0.1 %",
)
def symmetry(check: LossAt) -> Measurement | None:
    """<H a, b> = <a, H b>."""
    if (hessian := check.said.hessian) is None:
        return None
    a, b = check.courses[0].first, check.courses[1].first
    ha, hb = hessian(check.w, a), hessian(check.w, b)
    left, right = pairing(ha, b), pairing(hb, a)
    size = abs(pairing(ha, a)) + abs(pairing(hb, b)) + abs(left)
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
def convexity(check: LossAt) -> Measurement | None:
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
def smoothness(check: LossAt) -> Measurement | None:
    """The largest second derivative found is below the bound that the loss declares."""
    declared, hessian = check.said.curvature, check.said.hessian
    if hessian is None or declared is None:
        return None
    z, found = check.courses[0].first, 0.0
    for _ in range(20):  # power method on low-rank directions: each product is cut back to rank two
        h = hessian(check.w, z)
        norm2 = z.norm() ** 2
        found = max(found, abs(pairing(h, z)) / norm2)
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
def floor(check: LossAt) -> Measurement | None:
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
