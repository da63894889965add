"""Claims about canonical forms: when they are critical, what lives beside their active part, and which are minimisers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from ..landscape import random_minimiser, saddle
from ..landscape.canonical import Canonical, canonical_form
from ..landscape.kicks import descend
from ..landscape.places import GLOBAL
from ..matrices import LinearNetwork
from ..report import Control, Hypothesis
from ..statements import Measurement, Statement, claim
from ..validation import Array
from .critical_points import ACHOUR, DERIVED, at, other_set, problems
from .populations import SPREAD, CriticalPoint, Population, chain, factor_gradients, factor_hessian, random_basis

__all__ = ["CANONICAL_FORMS"]

# ---------------------------------------------------------------------------------------------------------------------
# beside the active part


def _blocks(p: CriticalPoint, zeros: int, rng: np.random.Generator) -> list[Array]:
    """Return random blocks beside the active part of a point, some of them zero; what T does not see is left out."""
    left = [p.sizes[0], *(d - p.rank for d in p.sizes[1:])]
    blocks = [rng.standard_normal((b, a)) for a, b in pairwise(left)]
    blocks[0][:, [i for i in range(left[0]) if i in p.index_set or i >= p.squares.size]] = 0.0
    for i in rng.permutation(p.depth)[:zeros]:
        blocks[i][:] = 0.0
    return blocks


def _form(p: CriticalPoint, blocks: Sequence[Array], rng: np.random.Generator) -> Canonical:
    return Canonical(p.problem, p.index_set, tuple(random_basis(d, rng) for d in p.sizes[1:-1]), tuple(blocks))


@claim(
    "cyclic products",
    statement="A network in canonical form is critical if and only if every cyclic product of N - 1 of its blocks is zero.",
    source=f"{DERIVED}; the gradients are those of {ACHOUR}",
    meaning=(
        "Forms with none, one or two blocks that vanish, the others Gaussian, so that some are critical and some are"
        " not; the relative gradient is that of built points. Measured: forms where the one vanishes to 1e-12 and the"
        " other does not, by the dense gradient or by that of the blocks. Bound: none. It would fail if a product of N"
        " - 1 could vanish beside a gradient."
    ),
    hypotheses="targets of full rank that are not met; no product within a factor of 1e4 of its threshold",
    controls="products of all N blocks, which vanish with one of them",
)
def cyclic_products(x: Population) -> Measurement:
    """Products around the cycle against gradients."""
    rng, wrong, other, made = x.rng("cyclic products"), 0, 0, 0
    kind = lambda p: p.rank < min(p.sizes) and p.squares.size == p.problem.shape[0]  # noqa: E731
    for k, p in enumerate(x.some("cyclic", x.share(0.3, 9), kind)):
        form = _form(p, _blocks(p, k % 3, rng), rng)
        cycle, n = form.cycle(), p.depth

        def largest(length: int, cycle: Sequence[Array] = cycle, n: int = n) -> float:
            arcs = ([cycle[(first + k) % n] for k in range(length)] for first in range(n))
            return max(float(np.abs(chain(arc, arc[0].shape[1])).max(initial=0.0)) for arc in arcs)

        product = largest(n - 1)
        if 1e-16 < product < 1e-8:
            continue
        made += 1
        gradient = at(p, p.problem.network(form.factors())).relative_gradient()
        wrong += (gradient < 1e-12) != (product < 1e-12) or (form.relative_gradient() < 1e-12) != (product < 1e-12)
        other += (gradient < 1e-12) != (largest(n) < 1e-12)
    return Measurement(
        wrong, "<=", 0.0, (Hypothesis("products far from their threshold", made >= 6, made),),
        (Control("products of N blocks", other, 0.0),), f"{made} forms",
    )  # fmt: skip


@claim(
    "residual problem",
    statement="Beside the active part lives a network of its own: L = L_S - <M, T_Q> + ||M||^2 / 2, M the product of its blocks.",
    source=DERIVED,
    meaning=(
        "Random blocks, critical or not, in whitened coordinates over their unit. Measured: the largest difference of"
        " the dense loss from that sum, over the sum of its terms without their signs. Bound: 1e-12. It would fail if"
        " the blocks met the active part anywhere."
    ),
    hypotheses="none",
    controls="<M, T_Q> with the other sign",
)
def residual_problem(x: Population) -> Measurement:
    """The loss of a form and of its blocks."""
    rng, gaps, wrong = x.rng("residual problem"), [], []
    for p in x.points[: x.share(0.3, 20)]:
        blocks = _blocks(p, 0, rng)
        if not min(blocks[-1].shape + blocks[0].shape):
            continue
        point = at(p, p.problem.network(_form(p, blocks, rng).factors()))
        m = chain(blocks, p.sizes[0])
        others = [i for i in range(p.problem.shape[0]) if i not in p.index_set]
        cross = p.problem.unit * float(np.vdot(m, p.problem.target[others]))
        square = 0.5 * p.problem.unit * float((m**2).sum())
        scale = p.value_of(p.index_set) + abs(cross) + square + p.total
        gaps.append(abs(point.value - (p.value_of(p.index_set) - cross + square)) / scale)
        if abs(cross) > 1e-3 * scale:
            wrong.append(abs(point.value - (p.value_of(p.index_set) + cross + square)) / scale)
    return Measurement(
        max(gaps, default=0.0), "<=", 1e-12, (Hypothesis("blocks that the targets see", len(wrong) > 0, len(wrong)),),
        (Control("the other sign", min(wrong, default=0.0), 1e-12),), f"{len(gaps)} forms",
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# canonical forms and minimisers


def _rebuilt(p: CriticalPoint, index_set: Sequence[int]) -> float:
    """Return the largest difference of the factors from those of their canonical form, over the largest factor."""
    try:
        form = canonical_form(p.problem, p.problem.factors(p.network), index_set)
    except np.linalg.LinAlgError:
        return np.inf
    back = p.problem.network(form.factors()).factors
    gap = max(float(np.abs(a - b).max()) for a, b in zip(back, p.network.factors, strict=True))
    return gap / (max(float(np.linalg.norm(f)) for f in p.network.factors) or 1.0)  # all are zero at the origin


@claim(
    "round trip",
    statement="Every critical network is the one of its canonical form.",
    source=f"{ACHOUR}, Proposition 9; how the form is found: {DERIVED}",
    meaning=(
        "Factors to bases and blocks, and back. Measured: the largest difference over the largest factor. Bound: 1e-10."
        " It would fail with any other S, of which the control has the best."
    ),
    hypotheses="none",
    controls="S with one pair exchanged",
)
def round_trip(x: Population) -> Measurement:
    """Factors, form, factors."""
    exchanged = x.some("round trip", x.share(0.02, 3), lambda p: 0 < p.rank < p.squares.size)
    wrong = min(_rebuilt(p, sorted(other_set(p))) for p in exchanged)
    return Measurement(
        max(_rebuilt(p, p.index_set) for p in x.points), "<=", 1e-10,
        controls=(Control("a pair exchanged", wrong, 1e-10),),
    )  # fmt: skip


@claim(
    "minimisers",
    statement="Every network of the explicit form of a global minimiser has the least loss.",
    source=f"{ACHOUR}, Proposition 11; targets of lower rank: {DERIVED}",
    meaning=(
        "Random ones: any bases, any blocks that are free. Measured: the largest difference of the dense loss from"
        " tr Y Y^T / 2 less half of the r* largest lambda_i, over tr Y Y^T / 2. Bound: 1e-10."
    ),
    hypotheses="none",
    controls="saddles of one rank less",
)
def minimisers(x: Population) -> Measurement:
    """The loss of random minimisers."""
    rng, gaps, below = x.rng("minimisers"), [], []
    for p in problems(rng, x.share(0.3, 5)):
        best = p.value_of(range(p.best_rank))
        net = random_minimiser(p.loss, p.depth, widths=p.network.widths, rng=rng)
        less = saddle(p.loss, p.depth, widths=p.network.widths, rank=p.best_rank - 1, spread=SPREAD, rng=rng)
        gaps.append(abs(at(p, net).value - best) / p.total)
        below.append(abs(at(p, less).value - best) / p.total)
    return Measurement(
        max(gaps), "<=", 1e-10, controls=(Control("one rank less", min(below), 1e-10),), detail=f"{len(gaps)} networks"
    )


def _trained(p: CriticalPoint, rng: np.random.Generator) -> LinearNetwork:
    """Return the end of a descent from Gaussian factors: L-BFGS, then steps of Newton's of least norm."""
    start = LinearNetwork.gaussian(p.network.shape, p.depth, widths=p.network.widths, rng=rng)
    net = descend(p.loss, start, budget=3000)[0]
    for _ in range(3):
        gradient = np.concatenate([g.ravel() for g in factor_gradients(net.factors, p.inputs, p.targets)])
        step = np.linalg.pinv(factor_hessian(net.factors, p.inputs, p.targets), rcond=1e-7, hermitian=True) @ gradient
        parts = np.split(step, np.cumsum([f.size for f in net.factors])[:-1])
        net = LinearNetwork([f - z.reshape(f.shape) for f, z in zip(net.factors, parts, strict=True)])
    return net


@claim(
    "trained networks",
    statement="A network trained to a gradient of zero is a global minimiser, of the explicit form.",
    source=f"{ACHOUR}, Proposition 11; that training ends there is no theorem",
    meaning=(
        "Gaussian starts, L-BFGS and three steps of Newton's. Measured: of the ends that `classify` calls global"
        " minimisers, the largest difference from their canonical form over the largest factor, and infinite where S is"
        " not {1, ..., r*}. Bound: 1e-8. It would fail if there were minimisers of another form."
    ),
    hypotheses="every relative gradient at the end is below 1e-10, and every end a global minimiser",
    controls="every factor of the ends moved by a thousandth",
)
def trained_networks(x: Population) -> Measurement:
    """Ends of descents in canonical form."""
    rng, gaps, moved, gradients, kinds = x.rng("trained networks"), [], [], [], []
    # as many hidden units as the rank of the targets at most: else minimisers are degenerate, and descents slow
    wanted = lambda p: min(p.sizes) <= p.squares.size and p.depth < 5  # noqa: E731
    for p in x.some("trained", x.share(0.006, 3), wanted):
        end = at(p, _trained(p, rng), range(p.best_rank))
        gradients.append(end.relative_gradient())
        kinds.append(end.place.kind == GLOBAL)
        gaps.append(
            _rebuilt(end, end.index_set) if end.place.rank == p.best_rank and end.place.kind == GLOBAL else np.inf
        )
        moved.append(_rebuilt(replace(end, network=end.moved(1e-3, rng)), end.index_set))
    return Measurement(
        max(gaps), "<=", 1e-8,
        (
            Hypothesis("relative gradients at the ends", max(gradients) < 1e-10, max(gradients)),
            Hypothesis("ends that are minimisers", all(kinds), f"{sum(kinds)} of {len(kinds)}"),
        ),
        (Control("factors moved by a thousandth", min(moved), 1e-8),), f"{len(gaps)} networks",
    )  # fmt: skip


CANONICAL_FORMS: tuple[Statement[[Population]], ...] = (
    cyclic_products, residual_problem, round_trip, minimisers, trained_networks,
)  # fmt: skip
