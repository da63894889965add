"""Claims that hold at a point, to roundoff: the gradient, the velocity, the step, the lift."""

from __future__ import annotations

import numpy as np

from ..checks import Tampered, gradient_error
from ..gradients import (
    horizontal_lift,
    inner_product,
    product_retraction,
    product_rule,
    pullback,
    riemannian_gradient,
    squared_norm,
)
from ..matrices import EPS, LinearNetwork, LowRankMatrix, difference
from ..metrics import Coefficients, DepthMetric
from ..operators import MatrixLike
from ..report import Control, Hypothesis
from ..statements import Measurement, claim, derived
from ..validation import Array
from .gaps import UNBALANCED, as_array, frobenius, gap, unbalanced
from .sides import Runs, Sides

BAH = "Bah, Rauhut, Terstiege, Westdickenberg (2022)"


def _samples(
    x: Sides, runs: Runs, count: int, rng: np.random.Generator, *, resolved: bool
) -> list[tuple[LinearNetwork, LowRankMatrix]]:
    """Return networks along the path with their products: balanced factors of its points, or the factor flow's own.

    Where the factors are balanced the product is the point that they were made of: one computed from them would have lost
    its small singular values to the roundoff of the large ones.

    If `resolved`, those alone whose product has the rank r in double precision: of the others it has no r-th frame.
    """
    path = runs.scout if x.balanced.met else runs.factor_reference
    end = float(path.t[-1])
    # evenly in log time, as the dynamics is: the steps themselves crowd where the flow is stiff and W hardly moves
    wanted = np.append(0.0, np.geomspace(min(x.unit / 4, end / 8), end, count - 1)) if end > 0 else np.zeros(1)
    chosen = np.unique(np.searchsorted(path.t, wanted * (1 - 1e-12)))
    if resolved:
        s = path.singular_values[chosen]
        chosen = chosen[s[:, x.rank - 1] > 10 * max(x.start.shape) * EPS * s[:, 0]]
    points = [path.points[i] for i in chosen]
    if not x.balanced.met:
        return [(net, net.to_low_rank(x.rank)) for net in points]
    return [(LinearNetwork.balanced(w, x.depth, widths=x.network.widths, rng=rng), w) for w in points]


def _ranked(nets: list[tuple[LinearNetwork, LowRankMatrix]]) -> Hypothesis:
    """Whether sigma_r is above the roundoff of W somewhere along the path."""
    return Hypothesis("sigma_r above the roundoff of W", bool(nets), f"at {len(nets)} of the points along the path")


@claim(
    "gradient",
    statement="The factor gradients used are the derivatives of value(W_N ... W_1).",
    source=derived("factor-flow"),
    meaning=(
        "Both flows call `loss.gradient`, and the equivalence holds for any matrix field G(W) in its place: two sides can"
        " agree to sixteen digits on a gradient that is wrong. So this is measured first: at points along the path,"
        " value(W_N ... W_1) is differentiated afresh with respect to all factors, by automatic differentiation where the"
        " loss declares that it can be traced, else by central differences along 16 random factor directions. Measured:"
        " the relative error over all factors. Bound: the accuracy of the method, 1e-9 for automatic differentiation,"
        " where only roundoff and the condition of the value enter, 1e-6 for central differences, whose truncation and"
        " cancellation errors balance near there; near a critical point, where the gradient is a small difference of"
        " large terms, a hundred times what a last-digit change of the factors does to it, if that is larger."
    ),
    hypotheses="the loss is differentiable along the path; its gradient is above roundoff somewhere on the way",
    controls="the gradient of the loss times 1.001, far below what agreement of the flows could reveal",
)
def gradient(x: Sides, runs: Runs) -> Measurement:
    """The factor gradients against a fresh differentiation."""
    rng = x.rng("gradient")
    samples = _samples(x, runs, 4, rng, resolved=x.said.fixed_rank)
    # of a loss of that rank alone no direction of a wider network may lead out of it
    nets = [LinearNetwork.balanced(w, x.depth) if x.said.fixed_rank else net for net, w in samples]
    results = [(*gradient_error(x.loss, net, rng=rng), net) for net in nets]
    # at W(0) of tiny norm the value has too few digits to be differentiated, at a critical point the gradient has
    told = [found for found in results if found[1] < 1e-4]
    error, bound, method, _ = max(told or results, key=lambda found: found[0] / found[1])
    sharpest = min(told or results, key=lambda found: found[1])
    wrong = gradient_error(Tampered(x.loss, 1.001), sharpest[3], rng=rng, value=x.loss.value)[0]
    resolved = Hypothesis("the gradient is above its roundoff", bool(told), f"at {len(told)} of {len(nets)} points")
    return Measurement(
        error, "<=", bound, (resolved,), (Control("loss gradient times 1.001", wrong, sharpest[1]),),
        f"differentiated by {method} at {len(told)} points along the path",
    )  # fmt: skip


class _GeometricMeans(DepthMetric):
    """A control: the right clock, c_ii and frames, but c_ik = sqrt(c_ii c_kk) off the diagonal."""

    def coefficients(self, s: Array) -> Coefficients:
        c = super().coefficients(s)
        diagonal = np.sqrt(np.diag(c.core))
        return Coefficients(core=diagonal[:, None] * diagonal, up=c.up, vp=c.vp)


def _velocity_error(
    net: LinearNetwork, w: LowRankMatrix, g: MatrixLike, metric: DepthMetric, sign: float, scale: float
) -> float:
    """Return ||product velocity + A_W(G)|| over the scale ||A_W|| ||G||."""
    product_velocity = product_rule(net, [-e for e in pullback(net, g)])
    spectral = riemannian_gradient(w, g, metric).at(w) * (-sign)
    return difference(product_velocity, spectral).norm() / scale


@claim(
    "pointwise",
    statement="Moved by its factor gradients, the product has the velocity -A_W(grad L(W)).",
    source=f"{BAH}; {derived('riemannian-flow')}",
    meaning=(
        "This is the theorem without integration. At points along the path the product rule, applied to the factor"
        " gradients, is compared with the spectral form of A_W for one and the same gradient matrix G. Measured: the"
        " Frobenius distance over ||A_W|| ||G||. Bound: 100 N eps; it is an identity, so only the roundoff of products of"
        " N matrices is allowed. Powers of W W^T are not used as the oracle: on matrices of deficient rank they are"
        " themselves wrong by eps^(1/N). The controls move the number from 1e-15 to order one."
    ),
    hypotheses="balanced factors; sigma_r above the roundoff of W",
    controls=(
        "unbalanced factors with the same product; depth N + 1; the wrong sign; the right diagonal c_ii with geometric"
        " means off it, where these change the velocity"
    ),
)
def pointwise(x: Sides, runs: Runs) -> Measurement:
    """The velocity of the product against -A_W(G), along the path."""
    rng = x.rng("pointwise")
    bound = 100 * x.depth * EPS
    worst = {"claim": 0.0, UNBALANCED: 0.0, f"depth {x.depth + 1}": 0.0, "wrong sign": 0.0}
    nets, means = _samples(x, runs, 8, rng, resolved=True), _GeometricMeans(x.depth)
    geometric, changed = "geometric means for c_ik, i not k", 0.0
    worst[geometric] = 0.0
    for net, w in nets:
        g = as_array(x.loss.gradient(w))
        norm_a = x.depth * float(w.s[0]) ** (2 - 2 / x.depth)  # the largest coefficient, that of (u_1, v_1)
        scale = norm_a * frobenius(g, rng)
        if not scale > 0:  # an exact fit: nothing moves
            continue
        errors = (
            _velocity_error(net, w, g, x.metric, 1.0, scale),
            _velocity_error(unbalanced(net, 0.5), w, g, x.metric, 1.0, scale),
            _velocity_error(net, w, g, x.wrong_metric, 1.0, scale),
            _velocity_error(net, w, g, x.metric, -1.0, scale),
            _velocity_error(net, w, g, means, 1.0, scale),
        )
        apart = riemannian_gradient(w, g, means) - riemannian_gradient(w, g, x.metric)
        changed = max(changed, apart.norm() / scale)
        worst = {name: max(old, new) for (name, old), new in zip(worst.items(), errors, strict=True)}
    measured = worst.pop("claim")
    if changed < 10 * bound:  # the same numbers: equal singular values, or a G that is diagonal in the frames of W
        worst.pop(geometric)
    controls = tuple(Control(name, value, bound) for name, value in worst.items())
    detail = f"100 N eps at {len(nets)} points along the path"
    return Measurement(measured, "<=", bound, (x.balanced, _ranked(nets)), controls, detail)


@claim(
    "one_step",
    statement="One gradient descent step on balanced factors is one Riemannian step with the product retraction.",
    source=derived("one-step"),
    meaning=(
        "The discrete theorem: it holds exactly for every step size, because the factor gradient is the horizontal lift of"
        " the Riemannian gradient. Measured: the gap between the product of the factors after one step and the product"
        " retraction R(Z) = prod_j (W_j + lift_j(Z)), Z = -h A_W(grad L) in spectral form, lifted to the balanced factors of"
        " inner width r that W's own singular frames make, with h such that W would move by a third of its norm. Bound:"
        " 100 N eps."
    ),
    hypotheses="balanced factors",
    controls="unbalanced factors with the same product; depth N + 1 on the Riemannian side",
)
def one_step(x: Sides, runs: Runs) -> Measurement:
    """One descent step against one Riemannian step with the product retraction."""
    w, lifted = x.start, LinearNetwork.balanced(x.start, x.depth)
    balanced = x.network if x.balanced.met else lifted
    g, c = as_array(x.loss.gradient(w)), x.metric.coefficients(w.s)
    h, bound = w.norm() / (3 * riemannian_gradient(w, g, x.metric).norm()), 100 * x.depth * EPS

    def descent(net: LinearNetwork) -> LinearNetwork:
        return product_retraction(net, [-h * e for e in pullback(net, g)])

    def riemannian(metric: DepthMetric) -> LinearNetwork:
        # the lift of Z in the frames of W itself: A^{-1} then is a division of coefficients, each right to roundoff. In
        # the frames that the product of other factors has to roundoff, it would amplify that by 1 / sigma_r^(2-2/N)
        z = riemannian_gradient(w, g, metric) * (-h)
        return product_retraction(lifted, pullback(lifted, c.solve(z).at(w)))

    step = riemannian(x.metric)
    controls = (
        Control(UNBALANCED, gap(descent(unbalanced(balanced, 0.5)), step), bound),
        Control(f"depth {x.depth + 1}", gap(descent(balanced), riemannian(x.wrong_metric)), bound),
    )
    moved = gap(step, w)
    return Measurement(
        gap(descent(x.network), step), "<=", bound, (x.balanced,), controls,
        f"100 N eps; the step h = {h / x.unit:.3g} natural units moves W by {moved:.2g} of its norm",
    )  # fmt: skip


@claim(
    "lift",
    statement="The horizontal lift of a tangent vector has its length: sum_j ||lift_j(Z)||_F^2 = g_W(Z, Z).",
    source=derived("horizontal-lift"),
    meaning=(
        "The product map is a Riemannian submersion from the balanced factors to the rank-r manifold. Measured along the"
        " path for the velocity Z, relative. Bound: 100 N eps times the condition number of A_W on the tangent space at"
        " that point, since the lift inverts A_W: small singular values cost digits here, and the bound says how many."
    ),
    hypotheses=(
        "none beyond balance, which is restored by rebalancing where the network has none; A_W can be inverted to two"
        " digits somewhere along the path"
    ),
    controls="the length in the metric of depth N + 1",
)
def lift(x: Sides, runs: Runs) -> Measurement:
    """The norm of the horizontal lift against the metric."""
    found: list[tuple[float, float, float]] = []
    for net, w in _samples(x, runs, 8, x.rng("lift"), resolved=True):
        net = net if x.balanced.met else net.rebalanced(x.rank)
        z = riemannian_gradient(w, x.loss.gradient(w), x.metric)
        if not z.norm() > 0:  # an exact fit: nothing moves
            continue
        z = z * (1 / z.norm())
        length = squared_norm(horizontal_lift(net, z.at(w)))
        c = x.metric.coefficients(w.s)
        coefficients = np.concatenate([c.core.ravel(), c.up, c.vp])
        limit = 100 * x.depth * EPS * float(coefficients.max() / coefficients.min())
        error, wrong = (abs(length / inner_product(w, z, z, metric) - 1) for metric in (x.metric, x.wrong_metric))
        if limit < 1e-2:
            found.append((error, limit, wrong))
    # relative to the claim's bound at its own point, so that the worst point decides
    measured, bound, _ = max(found, key=lambda point: point[0] / point[1], default=(np.nan, np.nan, np.nan))
    _, limit, wrong = min(found, key=lambda point: point[2] / point[1], default=(np.nan, np.nan, np.nan))
    told = Hypothesis("A_W can be inverted to two digits", bool(found), f"at {len(found)} points along the path")
    return Measurement(
        measured, "<=", bound, (told,), (Control(f"metric of depth {x.depth + 1}", wrong, limit),),
        "100 N eps times the condition number of A_W at the point that came closest to it",
    )  # fmt: skip
