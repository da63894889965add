"""Claims about random critical points of the square loss: what they are, and which class they have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..landscape import classify, critical_matrix, saddle
from ..landscape.places import GLOBAL, NON_STRICT, STRICT
from ..matrices import LinearNetwork
from ..report import Control, Hypothesis, Table
from ..statements import Measurement, Statement, claim, derived
from .populations import SPREAD, CriticalPoint, Population, chain, critical_point

__all__ = ["CRITICAL_POINTS"]

ACHOUR = "Achour, Malgouyres, Gerchinovitz (2024)"
DERIVED = derived("landscape")
STRICTLY = -1e-6  #: of the scale of the Hessian: the least eigenvalue at a strict saddle, at most
SEMIDEFINITE = -1e-12  #: and where no eigenvalue is negative, at least
_CLEAR = "every product of blocks vanishes or is a tenth of their norms at least, singular values lie 10 % apart"


def is_wrong(kind: str, point: CriticalPoint, least: float | None = None) -> bool:
    """Whether a class is not that of value and least Hessian eigenvalue, or that eigenvalue is on neither side."""
    least = float(point.eigenvalues[0]) if least is None else least
    best = point.value_of(range(point.best_rank))
    if (kind == GLOBAL) != (point.value - best <= 1e-9 * point.total):
        return True
    return not (least <= STRICTLY if kind == STRICT else least >= SEMIDEFINITE)


def at(point: CriticalPoint, network: LinearNetwork, index_set: Sequence[int] = ()) -> CriticalPoint:
    """Return another network on the data of a point."""
    return CriticalPoint(point.inputs, point.targets, point.loss, point.problem, tuple(index_set), network)


def problems(rng: np.random.Generator, count: int) -> Iterator[CriticalPoint]:
    """Yield random problems with a depth and widths, as critical points whose network counts for nothing."""
    for _ in range(count):
        yield critical_point(rng)


def other_set(point: CriticalPoint) -> tuple[int, ...]:
    """Return another index set: the last pair exchanged for one that is not in it, or left out where there is none."""
    free = [i for i in range(point.squares.size) if i not in point.index_set]
    return (*point.index_set[:-1], *free[:1])


# ---------------------------------------------------------------------------------------------------------------------
# what they are


@claim(
    "built points",
    statement="Networks in canonical form are critical points: two blocks that vanish, or none and every cyclic product.",
    source=f"{ACHOUR}, Proposition 10; without a block that vanishes {DERIVED}",
    meaning=(
        "Random data, depths 2 to 5, bases of the hidden layers of condition e at most. Measured: the largest factor"
        " gradient by the product rule, over the larger of the largest Hessian eigenvalue and ||Y X^T||. Bound: 1e-12."
        " It would fail if one product around the cycle were not zero."
    ),
    hypotheses="none: the points are built so",
    controls="every factor moved by a twentieth of its size: the least of those gradients",
)
def built_points(x: Population) -> Measurement:
    """The gradients at the points, and beside them."""
    rng = x.rng("built points")
    moved = min(p.relative_gradient(p.moved(0.05, rng)) for p in x.points)
    return Measurement(
        max(p.relative_gradient() for p in x.points), "<=", 1e-12,
        controls=(Control("factors moved by a twentieth", moved, 1e-12),), detail=f"{x.count} points",
    )  # fmt: skip


@claim(
    "values",
    statement="The loss at a critical point is tr Y Y^T / 2 less half of the sum over S of lambda_i.",
    source=f"{ACHOUR}, Proposition 1",
    meaning=(
        "lambda_i are the squares of the singular values of the predictions of least squares, here from numpy alone."
        " Measured: the largest difference between the loss of the dense product, that formula, and both values that"
        " `classify` states, over tr Y Y^T / 2. Bound: 1e-12. It would fail with any other index set."
    ),
    hypotheses="none",
    controls="the value of another index set: the last pair exchanged, or left out where none is missing",
)
def values(x: Population) -> Measurement:
    """Four ways to one number."""
    gaps = [
        max(abs(v - p.value) for v in (p.value_of(p.index_set), p.place.critical_value, p.place.value)) / p.total
        for p in x.points
    ]
    wrong = min(abs(p.value - p.value_of(other_set(p))) / p.total for p in x.points)
    return Measurement(float(np.max(gaps)), "<=", 1e-12, controls=(Control("another index set", wrong, 1e-12),))


@claim(
    "index sets",
    statement="`classify` reads the index set of every critical point, and takes no point beside one for critical.",
    source=f"{ACHOUR}, Proposition 1, for S; the threshold is ours",
    meaning=(
        "Measured: points whose S is not the one they were built with, and networks beside them, every factor moved by"
        " a twentieth of its size, that pass for critical. Bound: none. The margin of the closest of all decisions is"
        " in the details: by that factor a number would have to change to flip one."
    ),
    hypotheses="none",
    controls="S with one pair exchanged",
)
def index_sets(x: Population) -> Measurement:
    """S as it is read, and as it was built."""
    rng, wrong, exchanged = x.rng("index sets"), 0, 0
    for p in x.points:
        wrong += p.place.index_set != tuple(i + 1 for i in p.index_set)
        exchanged += p.place.index_set != tuple(i + 1 for i in sorted(other_set(p)))
        beside = classify(p.moved(0.05, rng), p.loss, nearby=False)
        wrong += beside.kind in (GLOBAL, STRICT, NON_STRICT)
    margin = min(p.place.margin for p in x.points)
    return Measurement(
        wrong, "<=", 0.0, controls=(Control("a pair exchanged", exchanged, 0.0),),
        detail=f"{x.count} points and as many beside; closest decision by a factor of {margin:.3g}",
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# which class


@claim(
    "classes",
    statement="The class that follows from ranks is that of the loss and of the least eigenvalue of the dense Hessian.",
    source=f"{ACHOUR}, Theorem 7; r* for targets of lower rank, more targets than inputs: {DERIVED}",
    meaning=(
        "Measured: points whose class is another than their Hessian says, or whose least eigenvalue is on neither side:"
        " at a strict saddle at most -1e-6 of the scale (see built points), elsewhere at least -1e-12; a global"
        " minimiser has the least value to 1e-9. Bound: none. The table has the eigenvalues by depth and class; one on"
        " the other side would be a mismatch."
    ),
    hypotheses=_CLEAR,
    controls="the narrowest layer in place of r*; tightness of the pivots left out",
)
def classes(x: Population) -> Measurement:
    """Ranks against eigenvalues."""
    wrong = sum(is_wrong(p.place.kind, p) for p in x.points)
    low = x.some("classes", 3, lambda p: p.leading and p.rank == p.best_rank < min(p.sizes))
    narrowest = sum(is_wrong(STRICT, p) and is_wrong(NON_STRICT, p) for p in low)  # either is what it would be called
    loose = x.some("classes", 3, lambda p: p.leading and p.strict)
    leading = sum(is_wrong(NON_STRICT, p) for p in loose)
    rows = []
    for depth in (2, 3, 4, 5):
        for kind in (GLOBAL, NON_STRICT, STRICT):
            found = [float(p.eigenvalues[0]) for p in x.points if (p.depth, p.place.kind) == (depth, kind)]
            if found:
                rows.append((f"depth {depth}, {kind}", len(found), min(found), max(found)))
    table = Table(
        "classes", "Least Hessian eigenvalues", "Over the scale of the Hessian: smallest and largest of each kind.",
        ("depth, class", "points", "smallest", "largest"), tuple(rows),
    )  # fmt: skip
    return Measurement(
        wrong, "<=", 0.0,
        controls=(
            Control("narrowest layer for r*", narrowest, 0.0), Control("every leading S called non-strict", leading, 0.0),
        ),
        detail=f"{x.count} points", tables=(table,),
    )  # fmt: skip


def _pivot_ranks(p: CriticalPoint) -> list[tuple[int, int, int, int]]:
    """Return (i, j, rank of the outer block, of the inner one) for all pivots, of the network as it is."""
    f, n, sizes = p.network.factors, p.depth, (p.network.shape[1], *p.network.widths, p.network.shape[0])
    xy, norms = p.inputs @ p.targets.T, [float(np.linalg.norm(a, 2)) for a in p.network.factors]
    found = []
    for i in range(n, 0, -1):
        for j in range(i - 1, 0, -1):
            blocks = (chain(f[: j - 1], sizes[0]) @ xy @ chain(f[i:], sizes[i]), chain(f[j : i - 1], sizes[j]))
            scales = (
                np.linalg.norm(xy, 2) * np.prod(norms[: j - 1]) * np.prod(norms[i:]),
                np.prod(norms[j : i - 1]),
            )
            outer, inner = (
                int((np.linalg.svd(b, compute_uv=False) > 1e-9 * s).sum()) for b, s in zip(blocks, scales, strict=True)
            )
            found.append((i, j, outer, inner))
    return found


@claim(
    "pivots",
    statement="No complementary block of a pivot has a rank below that of W, and a saddle is as strict as its pivots are loose.",
    source=f"{ACHOUR}, Proposition 4 and Theorem 7",
    meaning=(
        "Blocks W_{j-1} .. W_1 X Y^T W_N .. W_{i+1} and W_{i-1} .. W_{j+1} of the factors as they are, ranks by numpy."
        " Measured: pivots with a block of rank below r, and saddles with S = {1, ..., r}, r < r*, that are called"
        " strict though all pivots are tightened, or non-strict though one is not. Bound: none."
    ),
    hypotheses=_CLEAR,
    controls="r + 1 in place of r, at saddles that are not strict",
)
def pivots(x: Population) -> Measurement:
    """Ranks of the blocks."""

    def below(p: CriticalPoint, rank: int) -> int:
        return sum(min(outer, inner) < rank for _, _, outer, inner in _pivot_ranks(p))

    wrong = 0
    for p in x.points:
        wrong += below(p, p.rank)
        if p.leading and p.rank < p.best_rank:
            tightened = all(min(outer, inner) == p.rank for _, _, outer, inner in _pivot_ranks(p))
            wrong += p.place.kind != (NON_STRICT if tightened else STRICT)
    flat = x.some("pivots", 3, lambda p: p.flat)
    return Measurement(
        wrong, "<=", 0.0, controls=(Control("rank r + 1", sum(below(p, p.rank + 1) for p in flat), 0.0),)
    )


@claim(
    "depth two",
    statement="At depth 2 every critical point that is no global minimiser is a strict saddle.",
    source=f"{ACHOUR}, after Theorem 7",
    meaning=(
        "Measured: the largest of the least eigenvalues at such points, over the scale of the Hessian; infinite if one"
        " is called anything else. Bound: -1e-6. It would fail at a saddle with a semidefinite Hessian, of which deeper"
        " networks have plenty: the control."
    ),
    hypotheses="singular values of the whitened targets lie 10 % apart",
    controls="non-strict saddles of depth 3",
)
def depth_two(x: Population) -> Measurement:
    """The least eigenvalues of saddles of depth 2."""
    saddles = x.some("depth two", x.share(0.1, 5), lambda p: p.depth == 2 and not (p.leading and p.rank == p.best_rank))
    largest = max(float(p.eigenvalues[0]) if p.place.kind == STRICT else np.inf for p in saddles)
    deeper = x.some("depth two", 3, lambda p: p.depth == 3 and p.flat)
    return Measurement(
        largest, "<=", STRICTLY,
        controls=(Control("non-strict saddles of depth 3", max(float(p.eigenvalues[0]) for p in deeper), STRICTLY),),
    )  # fmt: skip


@claim(
    "both kinds",
    statement="From depth 3 on saddles of either kind stand at the best matrix of every rank below r*, with the same loss.",
    source=f"{ACHOUR}, Proposition 8",
    meaning=(
        "Built with Z_{N-1} .. Z_2 not zero, and zero. Measured: those whose least eigenvalue is on the wrong side (see"
        " classes), and pairs whose losses differ by more than 1e-12 of tr Y Y^T / 2. Bound: none."
    ),
    hypotheses="singular values of the whitened targets lie 10 % apart",
    controls="the one kind called the other",
)
def both_kinds(x: Population) -> Measurement:
    """Pairs of saddles at every rank."""
    rng, wrong, exchanged, made = x.rng("both kinds"), 0, 0, 0
    for p in problems(rng, x.share(0.05, 5)):
        for depth in (3, 4, 5):
            widths = [int(d) for d in rng.integers(1, 6, depth - 1)]
            for r in range(min(p.squares.size, *widths)):
                order = int(rng.integers(3, depth + 1))
                strict, flat = (
                    at(p, saddle(p.loss, depth, widths=widths, rank=r, order=m, spread=SPREAD, rng=rng), range(r))
                    for m in (2, order)
                )
                made += 1
                wrong += is_wrong(STRICT, strict) + is_wrong(NON_STRICT, flat)
                wrong += abs(strict.value - flat.value) > 1e-12 * p.total
                exchanged += is_wrong(NON_STRICT, strict) + is_wrong(STRICT, flat)
    return Measurement(
        wrong, "<=", 0.0, controls=(Control("called the other", exchanged, 0.0),), detail=f"{made} pairs"
    )


@claim(
    "balanced points",
    statement="Balanced critical points below r* are non-strict saddles if N >= 3 and S = {1, ..., r}, and else strict ones.",
    source=f"{ACHOUR}, after Theorem 7; Bah, Rauhut, Terstiege, Westdickenberg (2022)",
    meaning=(
        "Measured: balanced points, depths 2 to 5, all S of up to r pairs, with a least eigenvalue on the wrong side,"
        " another class than that, or a factor whose rank is not r. Bound: none. These are the saddles that the flow of"
        " balanced factors can meet."
    ),
    hypotheses="singular values of the whitened targets lie 10 % apart; a hidden unit to spare, so that r < r*",
    controls="depth 2 in place of depth 3, at the best matrices of their rank",
)
def balanced_points(x: Population) -> Measurement:
    """Balanced factors of critical matrices."""
    rng, wrong, shallow, made = x.rng("balanced points"), 0, 0, 0
    for p in problems(rng, x.share(0.1, 5)):
        t = p.squares.size
        for depth in (2, 3, 4, 5):
            s = sorted(int(i) for i in rng.permutation(t)[: int(rng.integers(1, t + 1))])
            widths = [int(d) for d in rng.integers(len(s) + 1, 7, depth - 1)]
            net = LinearNetwork.balanced(critical_matrix(p.loss, [i + 1 for i in s]), depth, widths=widths, rng=rng)
            point = at(p, net, s)
            best, top = point.leading and len(s) == t, point.leading and len(s) < t
            kind = GLOBAL if best else NON_STRICT if top and depth > 2 else STRICT
            ranks = {int((v > 1e-9 * v[0]).sum()) for v in (np.linalg.svd(f, compute_uv=False) for f in net.factors)}
            wrong += is_wrong(kind, point) or point.place.kind != kind or ranks != {len(s)}
            made += 1
        origin = at(p, LinearNetwork([np.zeros((3, net.shape[1])), np.zeros((net.shape[0], 3))]))
        shallow += is_wrong(NON_STRICT, origin)
    return Measurement(wrong, "<=", 0.0, controls=(Control("depth 2", shallow, 0.0),), detail=f"{made} points")


# ---------------------------------------------------------------------------------------------------------------------
# inertia


@claim(
    "inertia",
    statement="Morse index and nullity are those of their closed forms, where `classify` knows one.",
    source=DERIVED,
    meaning=(
        "At a minimiser of full rank r (m + n - r) eigenvalues are positive and the others zero; at depth 2 the index"
        " is (d_1 - r)(rank T - r) + inv(S); from depth 3 on inv(S) where all blocks vanish, and k (rank T - r) more"
        " where only the outer ones do and the product of the others has rank k. inv(S) counts i outside, j in S with i"
        " < j. Measured: integers that differ from the counts of eigenvalues below -1e-9 of the scale, or between."
        " Bound: none."
    ),
    hypotheses=f"{_CLEAR}; two points in a hundred have a closed form",
    controls="inv(S) left out, at saddles where S is not {1, ..., r}",
)
def inertia(x: Population) -> Measurement:
    """Counted and predicted."""
    known = wrong = 0
    for p in x.points:
        below, zero = int((p.eigenvalues < -1e-9).sum()), int((np.abs(p.eigenvalues) <= 1e-9).sum())
        for predicted, counted in ((p.place.morse_index, below), (p.place.nullity, zero)):
            known += predicted is not None
            wrong += predicted is not None and predicted != counted
        if p.place.kind == GLOBAL and p.rank == min(p.sizes):
            m, n = p.network.shape
            wrong += p.eigenvalues.size - below - zero != p.rank * (m + n - p.rank)

    def inversions(p: CriticalPoint) -> int:
        return sum(i < j for j in p.index_set for i in range(p.squares.size) if i not in p.index_set)

    without = sum(
        (p.place.morse_index or 0) - inversions(p) != int((p.eigenvalues < -1e-9).sum())
        for p in x.some("inertia", 3, lambda p: not p.leading and p.place.morse_index is not None)
    )
    return Measurement(
        wrong, "<=", 0.0, (Hypothesis("closed forms known", known >= 0.02 * x.count, known),),
        (Control("inv(S) left out", without, 0.0),), f"{known} integers",
    )  # fmt: skip


CRITICAL_POINTS: tuple[Statement[[Population]], ...] = (
    built_points, values, index_sets, classes, pivots, depth_two, both_kinds, balanced_points, inertia,
)  # fmt: skip
