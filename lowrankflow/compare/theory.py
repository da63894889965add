"""Which theorems apply to this loss, on these data, with these widths: each hypothesis with its number."""

from __future__ import annotations

from ..claims.separable import is_separated
from ..claims.sides import Sides
from ..losses import LeastSquares
from ..matrices import LowRankMatrix
from ..report import Claim, Hypothesis, Table

__all__ = ["theorems"]

_LAURENT = "Laurent, von Brecht (2018): every local minimum of the factors' loss is global"
_BAH = "Bah et al. (2022): the factor flow converges to a critical point"
_NGUEGNANG = "Nguegnang et al. (2024): so does gradient descent with small steps"
_EQUIVALENCE = "Bah et al. (2022): the product follows the Riemannian flow"


def theorems(x: Sides, claims: list[Claim], end: LowRankMatrix | None) -> Table:
    """Return a row a theorem and hypothesis; the last column says whether all of its hypotheses are met.

    Parameters
    ----------
    x : Sides
        The problem.
    claims : list of Claim
        What was measured, of which ``gradient`` says whether the loss has the derivative that it says it has.
    end : LowRankMatrix, optional
        The last W, which may separate the samples of a classification.

    Returns
    -------
    Table
        ``name`` "theory".
    """
    differentiable = _differentiable(x, claims)
    groups = {
        _EQUIVALENCE: [differentiable, x.balanced],
        _LAURENT: [_convex(x), differentiable, _width(x)],
        _BAH: [_square(x), x.full_rank_inputs],
        _NGUEGNANG: [_square(x), x.full_rank_inputs],
    }
    rows = []
    for name, hypotheses in groups.items():
        applies = "applies" if all(h.met for h in hypotheses) else "not claimed"
        for first, h in enumerate(hypotheses):
            rows.append(
                (name if first == 0 else "", h.name, h.value, "yes" if h.met else "no", applies if first == 0 else "")
            )
    caption = (
        "A theorem of which a hypothesis is not met, or not known, is not claimed. That of Laurent and von Brecht says"
        " nothing of whether a minimum exists"
    )
    if end is not None and is_separated(x, end):
        caption += ": here none does, because W classifies every sample and the loss falls for ever along its direction"
    if x.rank < min(x.start.shape):
        caption += (
            f". From rank {x.rank} below min(m, n) the flow stays at that rank: where it ends is in general a saddle of the"
            " factors' loss, not one of its minima"
        )
    columns = ("theorem", "hypothesis", "value", "met", "theorem applies")
    return Table("theory", "What theory says of this problem", caption + ".", columns, tuple(rows))


def _differentiable(x: Sides, claims: list[Claim]) -> Hypothesis:
    found = next((c for c in claims if c.name == "gradient"), None)
    if x.said.fixed_rank:
        return Hypothesis("differentiable", False, "only along matrices of one rank")
    if found is None:
        return Hypothesis("differentiable", False, "not measured")
    return Hypothesis("differentiable: gradient against differentiation, on the path", found.holds, found.measured)


def _convex(x: Sides) -> Hypothesis:
    convex = x.said.convex
    says = "not known: the loss has no `convex`" if convex is None else ("declared" if convex else "no")
    return Hypothesis("convex in W", bool(convex), says)


def _width(x: Sides) -> Hypothesis:
    """The thinnest layer is the input or the output layer."""
    narrow, ends = min(x.network.widths), min(x.network.shape)
    return Hypothesis("no hidden layer below min(m, n)", narrow >= ends, f"{narrow} against {ends}")


def _square(x: Sides) -> Hypothesis:
    known = isinstance(x.loss, LeastSquares)
    return Hypothesis("square loss of inputs and targets", known, "yes" if known else type(x.loss).__name__)
