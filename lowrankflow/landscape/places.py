"""Which critical point of the square loss a network is at: the complete second-order classification."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy import linalg

from ..matrices import EPS, LinearNetwork
from ..validation import Array
from .canonical import Canonical, canonical_form
from .whitened import FLOOR, Factors, Whitened, chain, sizes_of

__all__ = ["GLOBAL", "NON_STRICT", "NOT_CRITICAL", "STRICT", "UNDECIDED", "Pivot", "Place", "place_of"]

GLOBAL, STRICT, NON_STRICT = "global minimiser", "strict saddle", "non-strict saddle"
NOT_CRITICAL, UNDECIDED = "not critical", "undecided"

ZERO = 1e-8  #: singular value of a product, over the norms of what is multiplied, from which on it is one
ROUNDOFF = 1e-12  #: and up to which it is none; between the two nothing is decided
BESIDE = 1e-6  #: relative gradient of the blocks beside the active part, which is larger by their condition
_OFF = 1e-3  # of an overlap from 0 or 1, from which on it is neither
_CLOSE = 1e-4  # relative gap of two singular values of the target that is mentioned where nothing can be decided
TIED = 1e-10  #: relative gap of two singular values of the target below which they are one


@dataclass(frozen=True)
class Pivot:
    r"""A pair of layers i > j, and the ranks of its complementary blocks.

    The blocks are :math:`W_{j-1} \cdots W_1 X Y^T W_N \cdots W_{i+1}` and :math:`W_{i-1} \cdots W_{j+1}`.
    """

    i: int
    j: int
    outer: int  #: rank of the first block
    inner: int  #: rank of the second
    tightened: bool  #: whether the less of the two is the rank of W


@dataclass(frozen=True)
class Place:
    """Where a network is in the landscape of a loss.

    Attributes
    ----------
    kind : str
        "global minimiser", "strict saddle" (its Hessian has a negative eigenvalue), "non-strict saddle" (it has none),
        "not critical", or "undecided", and then `notes` say why.
    exact : bool
        Whether it follows from the exact theory of the square loss, and not from numbers about the Hessian.
    rank : int or None
        Rank of the product at a critical point.
    index_set : tuple of int or None
        S, from 1: the singular pairs of the whitened targets that the product has. Of pairs with one singular value, tied,
        those are named that come first: only their number is determined.
    value, critical_value : float
        The loss here, and the value that belongs to S, in the normalisation of the loss.
    order : int or None
        Order m of a saddle: within a distance d the loss falls by at most a multiple of d^m. 2 where it is strict.
    morse_index, nullity : int or None
        Negative and zero eigenvalues of the Hessian of the factors, where they are known in closed form.
    gradient, threshold : float
        Norm of the factor gradients in whitened coordinates, over their natural scale, and what passes for critical.
    margin : float
        The factor by which the closest of all numbers that decide would have to change to flip the answer; inf at best.
    decided_by : dict
        Each of those numbers by name, with its threshold.
    pivots : tuple of Pivot
        Where tightness decides: S = {1, ..., r} below the largest rank.
    notes : tuple of str
        Which assumption does not hold, and what was done about it.
    nearby : Place or None
        The place of the nearest critical point that was found, where the network is at none.
    network : LinearNetwork or None
        That critical point, of a place that is `nearby`.
    distance : float
        Frobenius distance of the factors from it: an upper bound of the distance to the set of critical points.
    """

    kind: str
    exact: bool = True
    rank: int | None = None
    index_set: tuple[int, ...] | None = None
    value: float = math.nan
    critical_value: float = math.nan
    order: int | None = None
    morse_index: int | None = None
    nullity: int | None = None
    gradient: float = math.nan
    threshold: float = math.nan
    margin: float = math.nan
    decided_by: dict[str, tuple[float, float]] = field(default_factory=dict, repr=False)
    pivots: tuple[Pivot, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()
    nearby: Place | None = None
    network: LinearNetwork | None = field(default=None, repr=False)
    distance: float = 0.0


def margin_of(decided_by: dict[str, tuple[float, float]]) -> float:
    """Return the least factor between a number and its threshold."""
    with np.errstate(divide="ignore"):
        return min((float(np.exp(abs(np.log(np.float64(v) / t)))) for v, t in decided_by.values()), default=math.inf)


# ---------------------------------------------------------------------------------------------------------------------
# which pairs


def groups(problem: Whitened) -> list[list[int]]:
    """Return the positive singular values of the target in groups that are equal, from 0."""
    s, found = problem.sigma[: problem.target_rank], [[0]] if problem.target_rank else []
    for i, (a, b) in enumerate(pairwise(s), 1):
        if a - b <= TIED * s[0]:
            found[-1].append(i)
        else:
            found.append([i])
    return found


def closest(problem: Whitened) -> tuple[int, float]:
    """Return the pair, from 0, that is closest to the one after it without being tied to it, and that gap over sigma_1.

    The last pair is compared with zero where T has less rank than rows.
    """
    s, t = problem.sigma, problem.target_rank
    gaps = [float(a - b) / float(s[0]) for a, b in pairwise([*s[:t], *([0.0] if t < problem.shape[0] else [])])]
    return min(((k, gap) for k, gap in enumerate(gaps) if gap > TIED), key=lambda each: each[1], default=(0, 1.0))


def mixing(problem: Whitened) -> float:
    """Return how far roundoff turns singular vectors of the targets into each other: by a hundred of it over the gap."""
    return max(FLOOR, 100 * EPS / closest(problem)[1])


def _too_close(problem: Whitened) -> str:
    """Say which pair of the targets is too close to the next."""
    k, gap = closest(problem)
    if gap > _CLOSE:
        return ""
    return f"; the singular values {k + 1} and {k + 2} of the whitened targets are only {gap:.2g} of the largest apart"


def aligned(problem: Whitened, factors: Factors) -> tuple[Factors, Array, Array]:
    """Return factors turned within groups of equal singular values, the overlaps, and the turn of the output.

    The product is diagonal within a group after that. The overlap of pair i is B_ii / sigma_i, 1 or 0 at a critical
    point; within a group they fall.
    """
    b = chain(factors, 0)
    turn = np.eye(problem.shape[0])
    for group in groups(problem):
        if len(group) > 1:
            block = b[np.ix_(group, group)] / problem.sigma[group[0]]
            turn[np.ix_(group, group)] = linalg.eigh(0.5 * (block + block.T))[1][:, ::-1]
    p, q = problem.shape
    wide = linalg.block_diag(turn, np.eye(q - p))
    turned = list(factors)
    turned[0], turned[-1] = turned[0] @ wide, turn.T @ turned[-1]
    b = turn.T @ b @ wide
    t = problem.target_rank
    return tuple(turned), np.diag(b)[:t] / problem.sigma[:t], turn


def is_leading(problem: Whitened, index_set: Sequence[int]) -> bool:
    """Whether S captures as much as any set of its size: {1, ..., r}, up to ties."""
    s = problem.sigma
    return all(bool(s[k] - s[i] <= TIED * s[0]) for k, i in enumerate(sorted(index_set)))


def inversions(problem: Whitened, index_set: Sequence[int]) -> int:
    """Return the number of pairs i outside of S and j in S with sigma_i > sigma_j."""
    s, chosen = problem.sigma[: problem.target_rank], set(index_set)
    return sum(1 for j in chosen for i in range(len(s)) if i not in chosen and s[i] - s[j] > TIED * s[0])


# ---------------------------------------------------------------------------------------------------------------------
# the arcs of the cycle of blocks


def arc(form: Canonical, first: int, length: int) -> Array:
    """Return the product of some blocks of the cycle, one after the other, from the space before block `first` on.

    The last block ends where the first begins, in the outputs that are not learned: there T leads from outputs to inputs,
    in every product that comes by, begins or ends there.
    """
    n, target = len(form.blocks), form.problem.target[form.others].T
    sizes = [form.problem.shape[0] - form.rank, *(z.shape[-1] for z in form.blocks[1:])]
    product = target if first % n == 0 else np.eye(sizes[first % n])
    for k in range(first, first + length):
        product = form.blocks[k % n] @ product
        if k % n == n - 1:
            product = target @ product
    return product


class Arcs:
    """Which products of consecutive blocks of a canonical form are zero: of these all second-order questions are made."""

    form: Canonical
    scales: Sequence[float]
    count: int

    def __init__(self, canonical: Canonical, scales: Sequence[float]) -> None:
        self.form, self.scales, self.count = canonical, scales, len(canonical.blocks)

    def size(self, first: int, length: int) -> float:
        """Return the norm of an arc over the sizes of its layers, and of T where it is in it."""
        product = arc(self.form, first, length)
        if not product.size:
            return 0.0
        n = self.count
        scale = math.prod(self.scales[k % n] for k in range(first, first + length))
        if first % n == 0 or first + length >= n:
            scale *= float(self.form.problem.sigma[0])
        return float(linalg.norm(product, 2)) / scale if scale > 0 else 0.0

    @cached_property
    def table(self) -> Array:
        """Sizes of the arcs (first, length), length 0 .. N - 1."""
        return np.array([[self.size(a, n) for n in range(self.count)] for a in range(self.count)])

    def order(self, zero: float = ZERO) -> int | None:
        """Return the least number of layers that can be taken out of the cycle so that all arcs between are not zero.

        Between layers i and j, counted around, lie the blocks i + 1, ..., j - 1. None: there is no such number.
        """
        n, best = self.count, math.inf
        for start in range(n):  # the first layer that is taken out; the last is the same, once around
            least = [math.inf] * (n + 1)
            least[0] = 0
            for here in range(n):
                for step in range(1, n - here + 1):
                    if least[here] < math.inf and step - 1 < n and self.table[(start + here + 1) % n, step - 1] > zero:
                        least[here + step] = min(least[here + step], least[here] + 1)
            best = min(best, least[n])
        return int(best) if best < math.inf else None


def scales_of(problem: Whitened, factors: Sequence[Array]) -> list[float]:
    """Return what the blocks of the cycle are measured by: the factors, no less than those of a balanced minimiser."""
    top = float(problem.sigma[0])
    return [max(float(linalg.norm(f, 2)), top ** (1 / len(factors))) for f in factors]


def own_scales(problem: Whitened, factors: Sequence[Array]) -> list[float]:
    """Return the norms of the factors; of one that is roundoff beside a balanced minimiser, the size of that."""
    return sizes_of(factors, float(problem.sigma[0]))


# ---------------------------------------------------------------------------------------------------------------------
# the class


def place_of(problem: Whitened, network: LinearNetwork, value: float, threshold: float) -> Place:
    """Return the place of a network at a critical point, or "not critical", by the exact theory.

    Parameters
    ----------
    problem : Whitened
    network : LinearNetwork
    value : float
        The loss there.
    threshold : float
        Relative gradient that passes for zero.
    """
    factors = problem.factors(network)
    gradient = problem.relative_gradient(factors)
    notes = _notes(problem)
    here = Place(NOT_CRITICAL, value=value, gradient=gradient, threshold=threshold, notes=notes)
    decided = {"relative gradient": (max(gradient, EPS), threshold)}
    if not gradient <= threshold:
        return replace(here, margin=margin_of(decided), decided_by=decided)
    factors, overlaps, _ = aligned(problem, factors)
    index_set = [int(i) for i in np.flatnonzero(overlaps > 0.5)]
    off = float(np.abs(overlaps - (overlaps > 0.5)).max(initial=0.0))
    decided["overlap of a pair, off 0 or 1"] = (max(off, EPS), _OFF)
    if off > _OFF:  # near a critical point by its gradient, but of which pairs?
        why = f"pairs of the targets are neither learned nor not (overlap off by {off:.2g}){_too_close(problem)}"
        return replace(here, kind=UNDECIDED, notes=(*notes, why), margin=margin_of(decided), decided_by=decided)
    try:
        canonical = canonical_form(problem, factors, index_set)
    except np.linalg.LinAlgError:
        why = "the active directions cannot be told from the others"
        return replace(here, kind=UNDECIDED, notes=(*notes, why), margin=margin_of(decided), decided_by=decided)
    noise = mixing(problem)  # the blocks are no more accurate than the pairs that they stand beside
    beside, limit = canonical.relative_gradient(noise), max(BESIDE, 10 * noise)
    decided["relative gradient beside the active part"] = (max(beside, EPS), limit)
    if not beside <= limit:
        near = _too_close(problem)
        if near:
            why = f"the blocks beside the active part are critical to {beside:.2g} of their size only{near}"
            here = replace(here, kind=UNDECIDED, notes=(*notes, why))
        return replace(here, margin=margin_of(decided), decided_by=decided)
    return _classified(here, problem, factors, canonical, decided)


def _classified(
    here: Place, problem: Whitened, factors: Factors, canonical: Canonical, decided: dict[str, tuple[float, float]]
) -> Place:
    """Return the place of a critical point with its canonical form."""
    s = canonical.index_set
    r, sizes, n = len(s), _sizes(factors), len(factors)
    best, leading = problem.best_rank(sizes), is_leading(problem, s)
    decided = decided | _gap_decision(problem, s)
    pivots: tuple[Pivot, ...] = ()
    order: int | None = 2
    notes = here.notes
    if leading and r == best:
        kind, order = GLOBAL, None
    elif not leading or r == best or n == 2:  # at depth 2 below r* no pivot is tightened
        kind = STRICT
    else:
        pivots, ranks = _pivots(problem, factors, r, ZERO)
        decided = decided | ranks
        kind = NON_STRICT if all(p.tightened for p in pivots) else STRICT
        if kind == NON_STRICT and not all(p.tightened for p in _pivots(problem, factors, r, ROUNDOFF)[0]):
            kind, order = UNDECIDED, None
            notes = (*notes, f"products that decide are neither above {ZERO:g} of their factors nor roundoff")
        elif kind == NON_STRICT:
            order = Arcs(canonical, own_scales(problem, factors)).order(max(ZERO, 10 * mixing(problem)))
    index, nullity = (None, None) if kind == UNDECIDED else inertia(problem, canonical, factors, kind)
    return replace(
        here, kind=kind, notes=notes, rank=r, index_set=tuple(i + 1 for i in s), critical_value=problem.value(s), order=order,
        morse_index=index, nullity=nullity, margin=margin_of(decided), decided_by=decided, pivots=pivots,
    )  # fmt: skip


def _notes(problem: Whitened) -> tuple[str, ...]:
    """Return what of the assumptions of the theory does not hold, and what is said instead."""
    found = []
    if problem.unseen:
        found.append(
            f"inputs of rank {problem.size[1] - problem.unseen} of {problem.size[1]}: the directions that no sample has were"
            " left out, the loss does not depend on them"
        )
    if problem.target_rank < problem.shape[0]:
        found.append(
            f"whitened targets of rank {problem.target_rank} below {problem.shape[0]}: in place of the narrowest layer that"
            " is the largest rank of use"
        )
    if any(len(g) > 1 for g in groups(problem)):
        ties = ", ".join("{" + ", ".join(str(i + 1) for i in g) + "}" for g in groups(problem) if len(g) > 1)
        found.append(
            f"equal singular values of the whitened targets, {ties}: of such a group only how many are learned counts"
        )
    return tuple(found)


def _sizes(factors: Sequence[Array]) -> list[int]:
    return [factors[0].shape[1], *(f.shape[0] for f in factors)]


def _gap_decision(problem: Whitened, index_set: Sequence[int]) -> dict[str, tuple[float, float]]:
    """Return the gap that decides whether S leads, over the tolerance for ties."""
    s, r = problem.sigma, len(index_set)
    if not r or r >= problem.target_rank:
        return {}
    edge = abs(float(s[r - 1] - s[max(index_set)])) if not is_leading(problem, index_set) else float(s[r - 1] - s[r])
    return {"gap of the singular values": (max(edge / float(s[0]), EPS), TIED)} if edge > TIED * s[0] else {}


def _pivots(
    problem: Whitened, factors: Factors, r: int, zero: float
) -> tuple[tuple[Pivot, ...], dict[str, tuple[float, float]]]:
    """Return all pivots with the ranks of their blocks, and the closest of their decisions."""
    n, sizes = len(factors), _sizes(factors)
    norms = own_scales(problem, factors)
    below = [chain(factors[:j], sizes[0]) for j in range(n)]  # F_j .. F_1
    above = [chain(factors[i:], sizes[i]) for i in range(n + 1)]  # F_N .. F_{i+1}
    found, nearest = [], {}
    for i in range(n, 0, -1):
        for j in range(i - 1, 0, -1):
            outer = below[j - 1] @ problem.target.T @ above[i]
            inner = chain(factors[j : i - 1], sizes[j])
            scale = float(problem.sigma[0]) * math.prod(norms[: j - 1]) * math.prod(norms[i:])
            ranks = []
            for name, block, size in (("outer", outer, scale), ("inner", inner, math.prod(norms[j : i - 1]))):
                s = linalg.svd(block, compute_uv=False, check_finite=False)
                ranks.append(r + int((s[r:] > zero * size).sum()))
                if s.size > r and size > 0:
                    nearest[f"{name} block of pivot ({i}, {j})"] = (max(float(s[r]) / size, EPS), ZERO)
            found.append(Pivot(i, j, ranks[0], ranks[1], min(ranks) == r))
    return tuple(found), nearest


def inertia(
    problem: Whitened, canonical: Canonical, factors: Sequence[Array], kind: str
) -> tuple[int | None, int | None]:
    """Return Morse index and nullity, each where it is known in closed form.

    At a minimiser no eigenvalue is negative and, where the target has the rank of the narrowest layer at least, exactly
    r (p + q - r) are positive. At depth 2 the index is (d_1 - r) (t - r) + inv(S), t the rank of the target; from depth 3 on
    inv(S) where all blocks are zero, and k (t - r) more where Z_N and Z_1 are and Z_{N-1} .. Z_2 has rank k. Derived, and
    checked against dense Hessians.
    """
    p, q = problem.shape
    s, n, sizes = canonical.index_set, len(canonical.blocks), _sizes(factors)
    r, t = len(s), problem.target_rank
    total = sum(a * b for a, b in pairwise(sizes)) + problem.unseen * (sizes[-2] if problem.transposed else sizes[1])
    if kind == GLOBAL:
        full = r == min(sizes)
        return 0, total - r * (p + q - r) if full else None
    if kind == NON_STRICT:
        return 0, None
    beyond = inversions(problem, s)
    if n == 2:
        return (sizes[1] - r) * (t - r) + beyond, None
    scales = scales_of(problem, factors)
    ends = ((canonical.cycle()[0], scales[0] * float(problem.sigma[0])), (canonical.blocks[-1], scales[-1]))
    if any(z.size and linalg.norm(z) > ZERO * size for z, size in ends):
        return None, None
    middle = chain(canonical.blocks[1:-1], 0)
    size = math.prod(scales[1:-1])
    rank = int((linalg.svd(middle, compute_uv=False) > ZERO * size).sum()) if middle.size else 0
    return rank * (t - r) + beyond, None
