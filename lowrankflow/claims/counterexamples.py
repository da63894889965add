"""Claims about where the theorem on any loss ends: a kink, and a bottleneck."""

from __future__ import annotations

import numpy as np

from ..landscape import bottleneck_example, certify_gradient, hessian_spectrum, kick_and_descend, kinked_example
from ..landscape.counterexamples import KinkedExample, subgradient_descent
from ..matrices import LinearNetwork
from ..report import Control
from ..statements import Measurement, Statement, claim
from .any_loss import LAURENT
from .populations import Population

__all__ = ["COUNTEREXAMPLES"]


@claim(
    "kink",
    statement="A convex Lipschitz loss with a kink has a local minimum that is not global, at full width: in a box of 1/2.",
    source=f"constructed here, for the theorem of {LAURENT} on losses without a derivative",
    meaning=(
        "f = |A_11| + |A_12| + |A_21 - 1| + |A_22| at W_2 = e_1 e_1^T, W_1 = e_2 e_2^T, where f = 1; the least value is"
        " 0. Measured: the least f - 1 that an adversary finds with all entries of both changes up to 1/2: corners,"
        " random points, linear programs. Bound: at least -1e-12. The radius is sharp."
    ),
    hypotheses="none",
    controls="a box of radius 0.52, where f falls below 0.95",
)
def kink(x: Population) -> Measurement:
    """The least value in a box."""
    example, rng = kinked_example(), x.rng("kink")
    samples = max(2000, 20 * x.count)
    inside, outside = (example.lowest_in_box(r, samples=samples, starts=8, rng=rng) for r in (0.5, 0.52))
    return Measurement(
        inside, ">=", -1e-12,
        controls=(Control("radius 0.52", outside, -1e-12, ">="), Control("0.52, above -0.05", outside, -0.05, ">=")),
        detail=f"f = {float(example.loss.value(example.network)):g} there",
    )  # fmt: skip


@claim(
    "identity at the kink",
    statement="Near the kink A_21 = e A_11 + g A_22 - e g A_12 with e = E_21 / (1 + E_11), g = F_21 / (1 + F_22).",
    source="constructed here",
    meaning=(
        "From it the local minimum follows in a line. Measured: the largest defect at random changes of entries up to"
        " 1/2. Bound: 1e-14."
    ),
    hypotheses="E_11 and F_22 above -1",
    controls="e and g exchanged",
)
def kink_identity(x: Population) -> Measurement:
    """The defects of the identity."""
    example, rng = kinked_example(), x.rng("identity at the kink")

    def exchanged(net: LinearNetwork) -> float:
        (w1, w2), a = net.factors, net.to_dense()
        e, g = w1[1, 0] / w1[1, 1], w2[1, 0] / w2[0, 0]
        return abs(float(a[1, 0] - (e * a[0, 0] + g * a[1, 1] - e * g * a[0, 1])))

    points = [example.perturbed(0.5, rng=rng) for _ in range(x.share(0.3, 20))]
    return Measurement(
        max(example.identity_defect(net) for net in points), "<=", 1e-14,
        controls=(Control("e and g exchanged", float(np.median([exchanged(net) for net in points])), 1e-14),),
    )  # fmt: skip


def _ends(example: KinkedExample, slope: object, rng: np.random.Generator, runs: int, steps: int) -> list[float]:
    starts = [example.perturbed(0.2, rng=rng) for _ in range(runs)]
    ends = (subgradient_descent(slope, net, step_size=0.01, steps=steps) for net in starts)  # type: ignore[arg-type]
    return [float(example.loss.value(net)) for net in ends]


@claim(
    "descent at the kink",
    statement="Subgradient descent from near the kink stays at its value, and a loss without a kink lets it go.",
    source="constructed here",
    meaning=(
        "A reduced size: starts with entries moved by up to 0.2, 4000 steps of 0.01. Measured: the least value at the"
        " ends. Bound: at least 0.999; they jump by the step about 1."
    ),
    hypotheses="none",
    controls="Huber's loss of width 0.1 in place of the absolute error: the median of the ends, in the absolute error",
)
def kink_descents(x: Population) -> Measurement:
    """Ends of subgradient descents."""
    example, rng = kinked_example(), x.rng("descent at the kink")
    runs = x.share(0.002, 3)
    stays = _ends(example, example.loss, rng, runs, 4000)
    goes = float(np.median(_ends(example, example.smoothed(0.1), rng, runs, 8000)))
    return Measurement(
        min(stays), ">=", 0.999,
        controls=(Control("Huber", goes, 0.999, ">="), Control("Huber, above 0.1", goes, 0.1, ">=")),
        detail=f"{runs} runs of each",
    )  # fmt: skip


@claim(
    "bottleneck",
    statement="At a bottleneck a smooth convex loss has a local minimum that is not global: value 1 above 1/4.",
    source=f"constructed here, for the width condition of {LAURENT}",
    meaning=(
        "Widths 2, 1, 2, f = (W_11 - 1)^2 + (W_22 - 1/2)^2 + 4 (W_12^2 + W_21^2) at diag(0, 1/2). Measured: the largest"
        " difference of the Hessian eigenvalues from 0, 2, 2, 6, of f from 1, of the gradient end to end from 2 in"
        " norm, of f at diag(1, 0) from 1/4, and the relative factor gradient. Bound: 1e-10. The zero is the scaling of"
        " the factors."
    ),
    hypotheses="none",
    controls="weight 1 in place of 4 off the diagonal: an eigenvalue -1, a strict saddle",
)
def bottleneck(x: Population) -> Measurement:
    """The numbers of the example."""

    def off(omega: float) -> float:
        example = bottleneck_example(omega)
        net, loss = example.network, example.loss
        gradient = np.asarray(loss.gradient(net) @ np.eye(2))
        eigenvalues = hessian_spectrum(loss, net).eigenvalues
        gaps = [
            np.abs(eigenvalues - (0, 2, 2, 6)).max(), abs(loss.value(net) - 1), abs(np.linalg.norm(gradient) - 2),
            abs(loss.value(np.diag([1.0, 0.0])) - 0.25), certify_gradient(loss, net).relative_factor_gradient,
        ]  # fmt: skip
        return float(max(gaps))

    return Measurement(off(4.0), "<=", 1e-10, controls=(Control("weight 1", off(1.0), 1e-10),))


@claim(
    "bottleneck widened",
    statement="A second hidden unit, and the same point is left for the global minimum.",
    source=f"{LAURENT}; the example is constructed here",
    meaning="Measured: the loss after kick and descent from the point with a second unit of zero. Bound: 1e-10.",
    hypotheses="none",
    controls="the same without the unit: it stays at 1",
)
def bottleneck_widened(x: Population) -> Measurement:
    """Kick and descent with and without a second unit."""
    example, rng = bottleneck_example(), x.rng("bottleneck widened")
    left, stays = (kick_and_descend(example.loss, net, rng=rng).value for net in (example.widened(), example.network))
    return Measurement(left, "<=", 1e-10, controls=(Control("one unit", stays, 1e-10),))


COUNTEREXAMPLES: tuple[Statement[[Population]], ...] = (
    kink, kink_identity, kink_descents, bottleneck, bottleneck_widened,
)  # fmt: skip
