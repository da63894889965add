"""What each claim states, what it means, where it comes from, and what its controls change."""

from __future__ import annotations

from dataclasses import dataclass

from .. import validation
from ..report import Bound, Claim, Control, Hypothesis, Relation

_BAH = "Bah, Rauhut, Terstiege, Westdickenberg (2022)"


@dataclass(frozen=True)
class Explanation:
    """The words of a claim."""

    statement: str
    source: str
    meaning: str
    hypotheses: str
    controls: str


def _derived(anchor: str) -> str:
    return f"derived: docs/theory.md#{anchor}"


CLAIMS: dict[str, Explanation] = {
    "gradient": Explanation(
        "The factor gradients used are the derivatives of value(W_N ... W_1).",
        _derived("factor-flow"),
        "Both flows call loss.gradient, and they would agree for any field G(W): agreement alone cannot see a wrong"
        " gradient. So value(W_N ... W_1) is differentiated afresh, by autograd where the loss allows it, else by"
        " central differences along 16 random factor directions, at points along the path. Measured: the relative"
        " error. Bound: the accuracy of the differentiation, 1e-9 by autograd, 1e-6 by differences, or a hundred times what a"
        " last-digit change of the factors does to the gradient, near critical points.",
        "the loss is differentiable along the path",
        "the gradient of the loss times 1.001",
    ),
    "pointwise": Explanation(
        "Moved by its factor gradients, the product has the velocity -A_W(grad L(W)).",
        f"{_BAH}; {_derived('riemannian-flow')}",
        "At points along the path the product rule applied to the factor gradients is compared with the spectral form"
        " of A_W, for one and the same gradient matrix. Measured: the Frobenius distance over ||A_W|| ||G||."
        " Bound: 100 N eps, roundoff of products of N matrices.",
        "balanced factors",
        "unbalanced factors with the same product; depth N + 1; the wrong sign; the right diagonal c_ii with geometric"
        " means off it",
    ),
    "one_step": Explanation(
        "One gradient descent step on balanced factors is one Riemannian step with the product retraction.",
        _derived("one-step"),
        "The factors after one step are compared, as products, with R(Z) = prod_j (W_j + lift_j(Z)), Z = -h A_W(grad L)"
        " in spectral form, h one natural unit of time. An identity for any step size. Bound: 100 N eps.",
        "balanced factors",
        "unbalanced factors with the same product; depth N + 1 on the Riemannian side",
    ),
    "lift": Explanation(
        "The horizontal lift of a tangent vector has its length: sum_j ||lift_j(Z)||_F^2 = g_W(Z, Z).",
        _derived("horizontal-lift"),
        "The product map is a Riemannian submersion from the balanced factors to the rank-r manifold. Measured along the"
        " path for the velocity Z, relative. Bound: 100 N eps times the condition number of A_W on the tangent space,"
        " which inverting A_W costs.",
        "balanced factors",
        "the metric of depth N + 1",
    ),
    "trajectory": Explanation(
        "The product of the factor flow follows the Riemannian flow.",
        f"{_BAH}; {_derived('riemannian-flow')}",
        "The factor flow, a network at its full widths in its own coordinates, is integrated beside the Riemannian flow in"
        " its singular frame. Measured: the largest relative gap of W over time. Bound: 3 (e_a + e_b) + roundoff, where"
        " e_a and e_b are the errors of the two sides, each measured against itself at rtol / 100.",
        "balanced factors; within the validity horizon (depth 2 with wide hidden layers); both runs complete",
        "unbalanced factors with the same product; depth N + 1 on the Riemannian side; the wrong sign on the factor side",
    ),
    "tolerance": Explanation(
        "The gap between the flows is the solvers' own: it falls with their tolerance.",
        _derived("numerics"),
        "The two flows are integrated by RK45 at four tolerances, a decade apart, until half of the loss is lost."
        " Measured: the slope of log gap against log rtol, over the gaps above roundoff of runs of eight steps or more."
        " Bound: at least 0.7.",
        "balanced factors; at least three gaps above roundoff, of runs of eight steps or more",
        "depth N + 1 on the Riemannian side: a real difference does not fall with the tolerance",
    ),
    "conservation": Explanation(
        "W_{j+1}^T W_{j+1} - W_j W_j^T is constant along the factor flow.",
        f"{_BAH}; {_derived('balanced-factors')}",
        "Measured: the largest drift over layers and times, over the largest ||W_j||_F^2. Bound: three times what the"
        " measured error of the factors themselves allows, 4 ||W_j||_2 e, plus roundoff. Balance is not needed.",
        "the factor run is complete",
        "the first layer trained twice as fast from the same factors: another flow of the factors, which drifts",
    ),
    "rank": Explanation(
        "The product keeps its rank: sigma_{r+1} stays at roundoff, sigma_r stays positive.",
        f"{_BAH}; {_derived('balanced-factors')}",
        "Measured: the largest sigma_{r+1} / sigma_1 of the product along the factor flow, and that sigma_r is never"
        " zero. Bound: 1e-12, or 100 eps sqrt(evaluations) if larger: the solvers keep the rank exactly.",
        "balanced factors; hidden widths r, or depth above 2, or within the validity horizon",
        "factors of rank r + 1 that differ from W(0) by 1e-6",
    ),
    "factor_spectrum": Explanation(
        "All factors have the singular values sigma_i^(1/N) of the product.",
        f"{_BAH}; {_derived('balanced-factors')}",
        "Measured: the largest relative deviation of the leading r singular values of any factor from sigma_i(W)^(1/N)"
        " along the factor flow. Bound: three times what the measured error of the factors allows, plus roundoff.",
        "balanced factors",
        "unbalanced factors with the same product",
    ),
    "dissipation": Explanation(
        "The loss falls by exactly what the flow dissipates: L(0) - L(t) = integral of g(W', W').",
        _derived("dissipation"),
        "q' = g(W', W') is integrated as one more state of the Riemannian flow. Measured: the largest |L(0) - L(t) - q(t)|"
        " over L(0) - L(T). Bound: 1e-8, or 100 times the rtol of that run (rtol / 100) if larger,"
        " and roundoff. The instantaneous form cancels near stationarity.",
        "none",
        "the gradient of the loss times 1.001: the length then grows faster than the loss falls",
    ),
    "imbalance": Explanation(
        "From unbalanced factors with the same product the gap goes to zero linearly in the imbalance.",
        _derived("imbalance"),
        "Factors [A W_1, W_2 A^{-1}, ...] with A = exp(c D), c halved five times. Measured: the slope of log gap against"
        " log imbalance. Bound: 1 +- 0.1.",
        "balanced factors to start from",
        "depth N + 1 on the Riemannian side: that gap does not go to zero",
    ),
    "discrete": Explanation(
        "Gradient descent approaches the flow with order 1 in its step.",
        f"Nguegnang, Rauhut, Terstiege (2024) for the setting; {_derived('gradient-descent')}",
        "Descent runs at h, h/2, ..., h/32 from the same factors. Measured: the order, fitted to the largest relative gap"
        " to the Riemannian flow over common times. h = threshold / 8 and below, the threshold 2 / (largest sharpness"
        " along the path). Bound: 1 +- 0.1.",
        "balanced factors; within the validity horizon",
        "depth N + 1 on the Riemannian side",
    ),
    "rebalancing": Explanation(
        "k descent steps differ from k rebalanced ones by O(h).",
        _derived("one-step"),
        "Descent is compared with descent whose factors are rebalanced after every step, which is exactly the Riemannian"
        " descent with the product retraction, over a fixed time at h, h/2, ..., h/32. Measured: the order of the gap."
        " Bound: 1 +- 0.1.",
        "balanced factors",
        "unbalanced factors with the same product: that gap does not fall",
    ),
    "stationarity": Explanation(
        "The Riemannian flow comes to a critical point on the rank-r manifold.",
        f"{_BAH}, Theorem 5 (convergence of the factor flow); {_derived('limit')}",
        "Measured: the Frobenius norm of the projected gradient at the end over that at the start, from W alone."
        " Bound: 1e-4.",
        "full-rank inputs; the run went on until the projected gradient fell, not to an end time of yours or the budget",
        "the projected gradient at a tenth of the time",
    ),
    "margin": Explanation(
        "The smoothed margin over the norm of the factors never falls.",
        "Lyu, Li (2020), recalled; " + _derived("separable-data"),
        "In place of the claims about a limit, where W classifies every sample of a logistic or softmax loss: there is no"
        " minimiser. The run goes on in normalised time, d tau = L dt, until the loss has fallen by 1e-6. With L the summed loss,"
        " -ln(e^L - 1) is the margin that a single sample would need for it; over (sum_j ||W_j||^2)^(N/2) of balanced"
        " factors it must not fall once L is below ln 2. Measured: its least relative change in a step. Bound: -1e-5, ten"
        " times the tolerance.",
        "the summed loss is below ln 2 for five steps at least",
        "the norm to the power N + 1, for which it falls",
    ),
    "index_set": Explanation(
        "The limit of the Riemannian flow is a critical point with an index set J: in whitened coordinates,"
        " sum over J of sigma_i u_i v_i^T.",
        f"{_BAH}; {_derived('limit')}",
        "J holds the singular pairs of the whitened targets that W has learned (overlap above 1/2). Measured: the"
        " relative distance of the whitened W from the sum over J. Bound: that of the whitened projected gradient,"
        " 2 ||grad|| / (1 - sigma_{k+1}/sigma_k), relative.",
        "the square loss with full-rank inputs; stationarity; J is the set of the r leading pairs, with a gap behind them",
        "J with its last pair exchanged for the next",
    ),
    "best_loss": Explanation(
        "The loss at the limit of the Riemannian flow is the least among rank-r matrices.",
        f"{_BAH}; {_derived('limit')}",
        "Measured: L(T) minus the best rank-r value (known in closed form). Bound: what the gradient left at T allows,"
        " ||whitened projected gradient||^2 / (1 - sigma_{r+1}/sigma_r), twice the asymptotic value, plus roundoff.",
        "as index_set",
        "the value with pair r exchanged for the next",
    ),
    "departure": Explanation(
        "At depth 2 with wide layers the rank-r limit is unstable in factor space: sigma_{r+1} grows as predicted.",
        _derived("wide-layers"),
        "Dormant modes grow like exp(integral of ||(I - UU^T) G (I - VV^T)||_2 dt), and sigma_{r+1} of the product with"
        " twice that exponent. Measured: observed over predicted growth of log sigma_{r+1} past the validity horizon."
        " Bound: 1 +- 0.1.",
        "depth 2, hidden width above r, the horizon lies within the run",
        "the same prediction for depth 3, where there is no such growth: exponent 0",
    ),
}


def explain(name: str) -> str:
    """Return what a claim means, its source, its hypotheses and its controls, as plain text."""
    e = CLAIMS[validation.require_choice("claim", name, CLAIMS)]
    return f"{name}: {e.statement}\n\n{e.meaning}\n\nHypotheses: {e.hypotheses}.\nControls: {e.controls}.\nSource: {e.source}"


def claim(
    name: str,
    measured: float,
    relation: Relation,
    bound: Bound,
    hypotheses: list[Hypothesis],
    controls: list[Control],
    detail: str = "",
) -> Claim:
    """Return a Claim with the words of `CLAIMS`."""
    e = CLAIMS[name]
    return Claim(
        name, e.statement, e.source, float(measured), relation, bound, tuple(hypotheses), tuple(controls), detail
    )
