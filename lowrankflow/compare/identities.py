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
from ..report import Claim, Control
from ..validation import Array
from .claims import claim
from .experiment import Experiment, as_array, frobenius, gap, unbalanced

UNBALANCED = "unbalanced factors, same W(0)"


def _samples(x: Experiment, count: int) -> list[LinearNetwork]:
    """Return networks along the path: balanced factors of its points, or the factor flow's own where it is unbalanced."""
    path = x.scout if x.balanced.met else x.factor_reference
    end = float(path.t[-1])
    # evenly in log time, as the dynamics is: the steps themselves crowd where the flow is stiff and W hardly moves
    wanted = np.append(0.0, np.geomspace(min(x.unit / 4, end / 8), end, count - 1))
    chosen = [path.points[i] for i in np.unique(np.searchsorted(path.t, wanted * (1 - 1e-12)))]
    if not x.balanced.met:
        return chosen
    return [LinearNetwork.balanced(w, x.depth, widths=x.network.widths, rng=x.rng) for w in chosen]


def gradient(x: Experiment) -> Claim:
    """The factor gradients against a fresh differentiation."""
    nets = _samples(x, 4)[1:]  # at W(0) of tiny norm the value has too few digits to be differentiated
    results = [gradient_error(x.loss, net, rng=x.rng) for net in nets]
    wrong = gradient_error(Tampered(x.loss, 1.001), nets[0], rng=x.rng, value=x.loss.value)[0]
    error, bound, method = max(results, key=lambda result: result[0] / result[1])
    return claim(
        "gradient",
        error,
        "<=",
        bound,
        [],
        [Control("loss gradient times 1.001", wrong, bound)],
        f"differentiated by {method} at {len(nets)} points along the path",
    )


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


def pointwise(x: Experiment) -> Claim:
    """The velocity of the product against -A_W(G), along the path."""
    bound = 100 * x.depth * EPS
    worst = {"claim": 0.0, UNBALANCED: 0.0, f"depth {x.depth + 1}": 0.0, "wrong sign": 0.0}
    nets, means = _samples(x, 8), _GeometricMeans(x.depth)
    geometric, changed = "geometric means for c_ik, i not k", 0.0
    worst[geometric] = 0.0
    for net in nets:
        w = net.to_low_rank(x.rank)
        g = as_array(x.loss.gradient(w))
        norm_a = x.depth * float(w.s[0]) ** (2 - 2 / x.depth)  # the largest coefficient, that of (u_1, v_1)
        scale = norm_a * frobenius(g, x.rng)
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
    controls = [Control(name, value, bound) for name, value in worst.items()]
    return claim("pointwise", measured, "<=", bound, [x.balanced], controls, "100 N eps at 8 points along the path")


def one_step(x: Experiment) -> Claim:
    """One descent step against one Riemannian step with the product retraction."""
    h, bound = x.unit, 100 * x.depth * EPS
    w, balanced = x.start, x.network if x.balanced.met else x.network.rebalanced(x.rank)
    g = as_array(x.loss.gradient(w))

    def descent(net: LinearNetwork) -> LinearNetwork:
        return product_retraction(net, [-h * e for e in pullback(net, g)])

    def riemannian(metric: DepthMetric) -> LinearNetwork:
        z = riemannian_gradient(w, g, metric) * (-h)
        return product_retraction(balanced, horizontal_lift(balanced, z.at(w)))

    step = riemannian(x.metric)
    controls = [
        Control(UNBALANCED, gap(descent(unbalanced(balanced, 0.5)), step), bound),
        Control(f"depth {x.depth + 1}", gap(descent(balanced), riemannian(x.wrong_metric)), bound),
    ]
    moved = gap(step, w)
    return claim(
        "one_step",
        gap(descent(x.network), step),
        "<=",
        bound,
        [x.balanced],
        controls,
        f"100 N eps; step h = one natural unit, which moves W by {moved:.2g} of its norm",
    )


def lift(x: Experiment) -> Claim:
    """The norm of the horizontal lift against the metric."""
    measured, bound, wrong = 0.0, 0.0, np.inf
    for net in _samples(x, 8):
        net = net if x.balanced.met else net.rebalanced(x.rank)
        w = net.to_low_rank(x.rank)
        z = riemannian_gradient(w, x.loss.gradient(w), x.metric)
        length = squared_norm(horizontal_lift(net, z.at(w)))
        c = x.metric.coefficients(w.s)
        coefficients = np.concatenate([c.core.ravel(), c.up, c.vp])
        # relative to the claim's bound at its own point, so that the worst point decides
        limit = 100 * x.depth * EPS * float(coefficients.max() / coefficients.min())
        error = abs(length / inner_product(w, z, z, x.metric) - 1)
        if bound == 0.0 or error / limit > measured / bound:
            measured, bound = error, limit
        wrong = min(wrong, abs(length / inner_product(w, z, z, x.wrong_metric) - 1))
    controls = [Control(f"metric of depth {x.depth + 1}", wrong, bound)]
    return claim(
        "lift",
        measured,
        "<=",
        bound,
        [],
        controls,
        "100 N eps times the condition number of A_W at the point that came closest to it",
    )
