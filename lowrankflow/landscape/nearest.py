"""The nearest critical point that can be found: a network rounded to canonical form, in several ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from ..matrices import EPS, LinearNetwork
from ..validation import Array
from .canonical import Canonical, canonical_form
from .places import (
    NOT_CRITICAL,
    UNDECIDED,
    ZERO,
    Arcs,
    Place,
    aligned,
    arc,
    is_leading,
    own_scales,
    place_of,
    scales_of,
)
from .whitened import Factors, Whitened, chain

__all__ = ["nearest_place"]

_WORTH = 10.0  # times the least distance up to which a critical point that is told apart better is preferred
_APART = 30.0  # times the distance that what is not zero has to be, so that it is not taken for zero plus the distance
_MANY = 600  # numbers in the blocks from which on they are not fitted to each other
_CRITICAL = 1e-10  # relative gradient of the blocks of a rounding
_STEPS = 30
_LEFT = 1e-8  # of the blocks: what the last step may leave where it should be zero
_CUTS = 4  # gaps between singular values of the blocks that are tried


@dataclass(frozen=True)
class _Rounded:
    network: LinearNetwork
    distance: float
    told: bool  # whether what decides its class is far above the distance


def nearest_place(problem: Whitened, network: LinearNetwork, threshold: float) -> Place | None:
    """Return the place of the nearest critical point found, with its network and distance; None where none was.

    Rounding: for several ranks r the r pairs that the product has most of; the network is put into canonical form with
    them, whatever does not fit is dropped, and of the blocks beside the active part as much is kept as leaves it
    critical. Distances are of the factors as they are, not whitened.
    """
    factors, overlaps, turn = aligned(problem, problem.factors(network))
    natural = float(problem.sigma[0]) ** (1 / len(factors))  # of a factor of a balanced minimiser
    size = float(np.sqrt(sum(max(float(linalg.norm(f)), natural) ** 2 for f in network.factors)))
    found: list[_Rounded] = []
    for s in _index_sets(problem, factors, overlaps):
        for form in _roundings(problem, factors, s):
            rounded = _measured(problem, network, form, size, turn)
            found.append(rounded)
            if not rounded.told and rounded.distance < 0.1 * size:
                cleaner = _without_small_arcs(problem, form, rounded.distance / size)
                found += [_measured(problem, network, f, size, turn) for f in cleaner]
    if not found:
        return None
    least = min(f.distance for f in found)
    near = [f for f in found if f.distance <= _WORTH * least + 1e-12 * size]
    told = [f for f in near if f.told]
    placed = [
        (place_of(problem, f.network, problem.floor + _excess(problem, f.network), threshold), f)
        for f in sorted(told or near, key=lambda f: f.distance)
    ]
    # in coordinates of bad condition a rounding may miss what it was made for
    place, chosen = next((p for p in placed if p[0].kind not in (NOT_CRITICAL, UNDECIDED)), placed[0])
    if not told or place.kind == NOT_CRITICAL:
        why = "what is not zero in it is not thirty times as large as the distance from it"
        why = why if not told else "its coordinates are too badly conditioned to tell"
        place = replace(place, kind=UNDECIDED, notes=(*place.notes, why))
    return replace(place, network=chosen.network, distance=chosen.distance)


def _excess(problem: Whitened, network: LinearNetwork) -> float:
    return 0.5 * problem.unit * float(linalg.norm(chain(problem.factors(network), 0) - problem.target)) ** 2


def _index_sets(problem: Whitened, factors: Factors, overlaps: Array) -> list[list[int]]:
    """Return the sets of pairs to try, each of those whose overlap is largest."""
    best = problem.best_rank([factors[0].shape[1], *(f.shape[0] for f in factors)])
    order = np.argsort(-overlaps, kind="stable")
    ranks = {min(best, int((overlaps > t).sum())) for t in (0.01, 0.05, 0.2, 0.5, 0.8)} | {0}
    return [sorted(int(i) for i in order[:r]) for r in sorted(ranks)]


def _roundings(problem: Whitened, factors: Factors, index_set: Sequence[int]) -> Iterator[Canonical]:
    """Yield critical canonical forms with this S near the factors."""
    for from_outputs in (False, True)[: 1 + bool(index_set)]:
        try:
            form = canonical_form(problem, factors, index_set, from_outputs=from_outputs)
        except np.linalg.LinAlgError:
            continue
        yield from _made_critical(form)


def _made_critical(form: Canonical) -> Iterator[Canonical]:
    """Yield a form with its blocks changed, little or more, so that it is critical."""
    blocks = form.blocks
    if _is_critical(form):
        yield form
        return
    norms = [float(linalg.norm(z)) for z in form.cycle()]
    out = np.argsort(norms)
    for count in (1, 2):  # one is enough where the target is met, two always are
        yield from _if_critical(_with(form, {int(i): 0.0 * blocks[i] for i in out[:count]}))
    yield from _if_critical(_with(form, {i: 0.0 * z for i, z in enumerate(blocks)}))
    values = np.sort(np.concatenate([linalg.svd(z, compute_uv=False) for z in blocks if z.size]))[::-1]
    if values.size < 2 or sum(z.size for z in blocks) > _MANY:
        return
    # what is less than roundoff squared of the largest is all the same: no ratio overflows
    ratios = values[:-1] / np.maximum(values[1:], max(EPS**2 * float(values[0]), np.finfo(float).tiny))
    for k in (-1, *np.argsort(-ratios)[:_CUTS]):
        cut = 0.0 if k < 0 else float(np.sqrt(values[k] * max(values[k + 1], np.finfo(float).tiny)))
        yield from _if_critical(_fitted(form, cut))


def _with(form: Canonical, changed: dict[int, Array]) -> Canonical:
    return replace(form, blocks=tuple(changed.get(i, z) for i, z in enumerate(form.blocks)))


def _cut(z: Array, least: float) -> Array:
    """Return Z without its singular values below a bound."""
    if not z.size:
        return z
    u, s, vt = linalg.svd(z, full_matrices=False, check_finite=False)
    return (u * np.where(s > least, s, 0.0)) @ vt


def _is_critical(form: Canonical) -> bool:
    return form.relative_gradient() <= _CRITICAL


def _if_critical(form: Canonical) -> Iterator[Canonical]:
    if _is_critical(form):
        yield form


def _fitted(form: Canonical, cut: float, zero: Sequence[tuple[int, int]] = ()) -> Canonical:
    """Return a form whose blocks satisfy what makes it critical, nearest to those that it has.

    Gauss and Newton's method with steps of least norm, for the constraints are redundant. What lies below the cut is
    dropped before, and again after; the arcs `zero` of the cycle are made zero as well.
    """
    shapes = [z.shape for z in form.blocks]
    if not sum(z.size for z in form.blocks):
        return form
    ends = np.cumsum([z.size for z in form.blocks])[:-1]

    def at(x: Array) -> Canonical:
        parts = zip(np.split(x, ends, axis=-1), shapes, strict=True)
        return replace(form, blocks=tuple(p.reshape(*x.shape[:-1], *q) for p, q in parts))

    def left(x: Array) -> Array:
        """What has to vanish at x; leading axes are a batch."""
        here = at(x)
        arcs = (arc(here, *place) for place in zero)
        return np.concatenate([g.reshape(*x.shape[:-1], -1) for g in (*here.gradients(), *arcs)], axis=-1)

    for _ in range(2):
        form = _with(form, {i: _cut(z, cut) for i, z in enumerate(form.blocks)})
        x = np.concatenate([z.ravel() for z in form.blocks])
        least = np.inf
        for _ in range(_STEPS):
            c = left(x)
            if not linalg.norm(c) < 0.9 * least:
                break
            least, kept = float(linalg.norm(c)), x
            # polynomials: the complex step differentiates them to roundoff
            jacobian = left(x + 1e-30j * np.eye(x.size)).imag.T / 1e-30
            x = x - linalg.pinv(jacobian, rtol=1e-3) @ c
        form = at(kept)
    largest = max((float(linalg.norm(z, 2)) for z in form.blocks if z.size), default=0.0)
    clean = _with(form, {i: _cut(z, _LEFT * largest) for i, z in enumerate(form.blocks)})
    return clean if _is_critical(clean) else form


def _without_small_arcs(problem: Whitened, form: Canonical, distance: float) -> Iterator[Canonical]:
    """Yield a form without the arcs that are not zero but no larger than thirty times the distance."""
    table = Arcs(form, scales_of(problem, form.factors())).table
    small = [(int(a), int(n)) for a, n in np.argwhere((table > 0) & (table < max(ZERO, _APART * distance))) if n > 0]
    if small and sum(z.size for z in form.blocks) <= _MANY:
        yield from _if_critical(_fitted(form, 0.0, small))


def _measured(problem: Whitened, network: LinearNetwork, form: Canonical, size: float, turn: Array) -> _Rounded:
    """Return a rounding as a network, with its distance and whether its class is told from that of its neighbours."""
    factors = list(form.factors())
    wide = linalg.block_diag(turn, np.eye(problem.shape[1] - problem.shape[0]))
    factors[0], factors[-1] = factors[0] @ wide.T, turn @ factors[-1]
    rounded = problem.network(factors, like=network)
    distance = float(
        np.sqrt(sum(float(linalg.norm(a - b)) ** 2 for a, b in zip(network.factors, rounded.factors, strict=True)))
    )
    return _Rounded(rounded, distance, _is_told(problem, form, distance / size if size > 0 else 0.0))


def _is_told(problem: Whitened, form: Canonical, distance: float) -> bool:
    """Whether tightness stays what it is if all that is not larger than thirty times the distance is taken for zero."""
    factors = form.factors()
    sizes = [factors[0].shape[1], *(f.shape[0] for f in factors)]
    if not is_leading(problem, form.index_set) or form.rank == problem.best_rank(sizes):
        return True
    here = Arcs(form, own_scales(problem, factors)).order()  # as `place_of` says it
    around = Arcs(form, scales_of(problem, factors)).order(max(ZERO, _APART * distance))
    return (here == 2) == (around == 2)
