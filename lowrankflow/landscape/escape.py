"""How to leave a saddle of the square loss: a line along which the loss is known exactly, and falls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice, pairwise

import numpy as np
from scipy import linalg

from .. import validation
from ..losses import LeastSquares
from ..matrices import LinearNetwork
from ..validation import Array
from .canonical import Canonical, canonical_form
from .classify import classify
from .places import GLOBAL, NON_STRICT, STRICT, ZERO, Arcs, Place, aligned, own_scales, scales_of
from .whitened import Factors, Whitened, chain

__all__ = ["Escape", "escape"]

_TRIED = 500  # sets of layers of the least size, at most


@dataclass(frozen=True)
class Escape:
    r"""A line out of a saddle: :math:`L(W + tV) = L - a\, t^m + b\, t^{k}` exactly, with a > 0.

    Attributes
    ----------
    network : LinearNetwork
        The saddle, its factors W_j.
    directions : tuple of ndarray
        V_1, ..., V_N, of norm 1 together.
    order : int
        m: 2 at a strict saddle.
    descent : float
        a, in the normalisation of the loss.
    rise, power : float, int
        b and k: 4 or 2 m where no other term appears; from a pivot b t^2 is part of a, and k is 4.
    value : float
        L at the saddle.
    exact : bool
        Whether the identity has no further terms; else, for t > 0, the loss is no larger.
    """

    network: LinearNetwork
    directions: tuple[Array, ...] = field(repr=False)
    order: int
    descent: float
    rise: float
    power: int
    value: float
    exact: bool = True

    def at(self, t: float) -> LinearNetwork:
        """Return the network W + t V."""
        return LinearNetwork([w + t * v for w, v in zip(self.network.factors, self.directions, strict=True)])

    def loss(self, t: float) -> float:
        """Return the loss that is predicted there."""
        return float(self.value - self.descent * t**self.order + self.rise * t**self.power)

    @property
    def best(self) -> float:
        """Where on the line the predicted loss is least."""
        if not self.rise > 0:
            return float("inf")
        return float((self.order * self.descent / (self.power * self.rise)) ** (1 / (self.power - self.order)))


@validation.quietly
def escape(network: LinearNetwork, loss: LeastSquares, *, place: Place | None = None) -> Escape:
    r"""Return a line out of a saddle along which the square loss falls as fast as its order allows.

    If S is not {1, ..., r}: with j in S, i outside, and :math:`\lambda_i > \lambda_j`,
    :math:`V_1 = K^+ u_j u_i^T R,\; V_N = u_i u_j^T W_N` and :math:`L(W + tV) = L - (\lambda_i - \lambda_j) t^2/2 +
    \lambda_i t^4/2` before scaling [1]_. Else in the residual problem, the deep linear network of the blocks Z beside the active
    part: m layers i_1 < ... < i_m such that no product of the blocks between two of them, around the cycle, is zero, each with
    a rank-one change that leads from the end of one product to the beginning of the next. With the ends in the kernels of what
    leads to the output, and out of reach of the input, no other term appears: :math:`L - a t^m + b t^{2m}`. Where the last or
    first layers leave no such ends, for m >= 3, others appear, and that is an upper bound for t > 0 (derived;
    docs/theory.md#landscape).

    Parameters
    ----------
    network : LinearNetwork
        At a critical point, to roundoff.
    loss : LeastSquares
    place : Place, optional
        What `classify` says of it, if that is known.

    Returns
    -------
    Escape

    Raises
    ------
    ValueError
        If the network is at no saddle, or at one of order 3 that curves leave and no such line.

    References
    ----------
    .. [1] E. M. Achour, F. Malgouyres, S. Gerchinovitz, The loss landscape of deep linear neural networks: a second-order
       analysis, Journal of Machine Learning Research 25(242), 2024, appendices D and E.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> from lowrankflow.landscape import saddle
    >>> loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    >>> out = escape(saddle(loss, 3, widths=3, rank=1, order=3), loss)
    >>> out.order, bool(abs(out.loss(0.5) - loss.value(out.at(0.5))) < 1e-12)
    (3, True)
    """
    if place is not None and not isinstance(place, Place):
        raise TypeError(f"`place` must be what `classify` returns, got {validation.describe(place)}.")
    place = classify(network, loss, nearby=False) if place is None else place
    if place.kind not in (STRICT, NON_STRICT):
        what = "nothing is below it" if place.kind == GLOBAL else f"relative gradient {place.gradient:.2g}"
        raise ValueError(f"`network` must be at a saddle, got one that is {place.kind}: {what}.")
    problem = Whitened.of(loss)
    factors, _, turn = aligned(problem, problem.factors(network))
    assert place.index_set is not None
    s = [i - 1 for i in place.index_set]
    if (found := _exchange(problem, factors, s)) is None:
        form = canonical_form(problem, factors, s)
        found = _around(problem, form, factors, place.order or len(factors))
    if found is None:
        raise ValueError(
            "`network` must be at a saddle that a line leaves, but along every line that was found the loss rises at first,"
            " as t^2: the middle one of three layers cannot be changed without a change of the product. Curves leave it,"
            " on which that layer moves by t^2 and the others by t: the loss falls as t^4."
        )
    v, descent, rise, power, order, exact = found
    directions = _unwhitened(problem, network, v, turn)
    scale = 1 / float(np.sqrt(sum(float(linalg.norm(x)) ** 2 for x in directions)))
    descent, rise = problem.unit * descent, problem.unit * rise
    return Escape(
        network, tuple(scale * x for x in directions), order, descent * scale**order, rise * scale**power, power,
        float(loss.value(network)), exact,
    )  # fmt: skip


_Found = tuple[list[Array], float, float, int, int, bool]  # directions F, a, b, power of b, order, exact


def _unwhitened(problem: Whitened, network: LinearNetwork, directions: Sequence[Array], turn: Array) -> list[Array]:
    """Return directions of the whitened factors as directions of the factors."""
    wide = linalg.block_diag(turn, np.eye(problem.shape[1] - problem.shape[0]))
    moved = list(directions)
    moved[0], moved[-1] = moved[0] @ wide.T, turn @ moved[-1]
    return list(problem.network(moved).factors)  # linear: a direction goes as a point does


def _exchange(problem: Whitened, factors: Factors, s: Sequence[int]) -> _Found | None:
    """Return the line on which the least of the pairs in S gives way to the largest that is missing; None if S leads."""
    sigma = problem.sigma
    missing = [i for i in range(problem.target_rank) if i not in s]
    if not s or not missing or not sigma[missing[0]] > sigma[max(s)]:
        return None
    i, j, above = missing[0], max(s), chain(factors[1:], 0)
    eye = np.eye(problem.shape[0])
    active = linalg.lstsq(above[list(s)], eye[list(s)][:, [j]], check_finite=False)[0]
    v = [np.zeros_like(f) for f in factors]
    v[0] = sigma[i] * active @ np.eye(problem.shape[1])[[i]]
    v[-1] = v[-1] + eye[:, [i]] @ factors[-1][[j]]
    return v, 0.5 * float(sigma[i] ** 2 - sigma[j] ** 2), 0.5 * float(sigma[i] ** 2), 4, 2, True


def _around(problem: Whitened, form: Canonical, factors: Factors, order: int) -> _Found | None:
    """Return the best line of an order through the residual problem; None where none was found."""
    best: _Found | None = None
    for layers in islice(_sets(form, factors, problem, order), _TRIED):
        found = _line(form, layers) or (_leaning_line(form, layers) if order == 2 else None)
        if found is not None and (best is None or found[1] > best[1]):
            best = found
    if best is not None or order == 2:
        return best
    for layers in islice(_sets(form, factors, problem, order), _TRIED):
        for found in _bent_lines(form, layers):
            if best is None or found[1] > best[1]:
                best = found
    return best


def _sets(form: Canonical, factors: Factors, problem: Whitened, order: int) -> Iterator[tuple[int, ...]]:
    """Yield the sets of layers, from 0, between which no arc of the cycle is zero."""
    n = len(form.blocks)
    table = Arcs(form, scales_of(problem, factors)).table
    for layers in combinations(range(n), order):
        gaps = [((a + 1) % n, (b - a - 1) % n) for a, b in zip(layers, (*layers[1:], layers[0] + n), strict=True)]
        if all(table[first, length] > ZERO for first, length in gaps):
            yield layers


def _line(form: Canonical, layers: Sequence[int]) -> _Found | None:
    """Return the line that changes these layers, scaled so that each changes alike."""
    blocks, n, m = form.blocks, len(form.blocks), len(layers)
    sizes = [blocks[0].shape[1], *(z.shape[0] for z in blocks)]
    starts: list[Array] = []  # x_k, where the product after layer i_k begins
    ends: list[Array] = []  # y_k, where it ends, before layer i_{k+1}
    gain = 1.0
    for a, b in pairwise(layers):
        within = chain(blocks[a + 1 : b], sizes[a + 1])
        free = _kernel(form, a + 1, n)  # what leads to no output
        unseen = _kernel(form, 0, b, transposed=True)  # what no input reaches
        if not free.size or not unseen.size:
            return None
        u, s, vt = linalg.svd(unseen.T @ within @ free, check_finite=False)
        if not s[0] > ZERO * _scale(form, a + 1, b):  # nothing but roundoff leads from one to the other
            return None
        starts.append(free @ vt[0])
        ends.append(unseen @ u[:, 0])
        gain *= float(s[0])
    first, last = layers[0], layers[-1]
    into, out = chain(blocks[:first], sizes[0]), chain(blocks[last + 1 :], sizes[last + 1])
    u, s, vt = linalg.svd(into @ form.problem.target[form.others].T @ out, check_finite=False)
    gain *= float(s[0])
    starts.append(vt[0])
    ends.insert(0, u[:, 0])
    if not gain > 0:
        return None
    directions = _directions(form, {i: np.outer(x, y) for i, x, y in zip(layers, starts, ends, strict=True)})
    norms = [float(linalg.norm(directions[i])) for i in layers]
    mean = float(np.exp(np.mean(np.log(norms))))
    for i, norm in zip(layers, norms, strict=True):
        directions[i] *= mean / norm
    # the product that appears is (out x_m) (y_m^T into) times the inner gains
    inner = gain / float(s[0])
    rise = 0.5 * (inner * float(linalg.norm(out @ vt[0])) * float(linalg.norm(u[:, 0] @ into))) ** 2
    return directions, gain, rise, 2 * m, m, True


def _leaning_line(form: Canonical, layers: Sequence[int]) -> _Found | None:
    """Return a line that changes two layers of which one alone already changes the product: with the best of their shares.

    L - a t^2 + c t^3 + b t^4 with c <= 0 for the sign of V that is chosen.
    """
    blocks, (first, last) = form.blocks, layers
    sizes = [blocks[0].shape[1], *(z.shape[0] for z in blocks)]
    within = chain(blocks[first + 1 : last], sizes[first + 1])
    free = _kernel(form, first + 1, len(blocks))
    unseen = _kernel(form, 0, last, transposed=True)
    if not (free.size or unseen.size):
        return None
    starts = free if free.size else np.eye(within.shape[1])
    ends = np.eye(within.shape[0]) if free.size else unseen
    u, s, vt = linalg.svd(ends.T @ within @ starts, check_finite=False)
    if not s[0] > ZERO * _scale(form, first + 1, last):
        return None
    x, y = starts @ vt[0], ends @ u[:, 0]
    into, out = chain(blocks[:first], sizes[0]), chain(blocks[last + 1 :], sizes[last + 1])
    u, outer, vt = linalg.svd(into @ form.problem.target[form.others].T @ out, check_finite=False)
    changes = {first: np.outer(x, u[:, 0]), last: np.outer(vt[0], y)}
    directions = _directions(form, changes)
    norms = [float(linalg.norm(directions[i])) for i in layers]
    changes = {i: change / norm for (i, change), norm in zip(changes.items(), norms, strict=True)}
    gain = float(s[0] * outer[0]) / (norms[0] * norms[1])
    if not gain > 0:
        return None
    alone = last if free.size else first
    single = chain(blocks[alone + 1 :], sizes[alone + 1]) @ changes[alone] @ chain(blocks[:alone], sizes[0])
    both = out @ changes[last] @ within @ changes[first] @ into
    # per unit of t, shares p of the one that does nothing alone and q of the other: -p q gain + q^2 |single|^2 / 2
    values, vectors = linalg.eigh(np.array([[0.0, -0.5 * gain], [-0.5 * gain, 0.5 * float(linalg.norm(single)) ** 2]]))
    p, q = vectors[:, 0] * np.sign(vectors[0, 0] * vectors[1, 0]) ** np.array([0, 1])
    sign = -1.0 if p * q * q * float(np.vdot(single, both)) > 0 else 1.0
    other = first if free.size else last
    for i in layers:
        directions[i] *= sign * (p if i == other else q) / norms[layers.index(i)]
    exact = not np.vdot(single, both)
    return directions, -float(values[0]), 0.5 * (p * q * float(linalg.norm(both))) ** 2, 4, 2, exact


# Where the last layers have no kernel, or the first reach everything. Let i_1 < ... < i_m be layers of a saddle of order
# m >= 3. A product from behind i_k to before i_{k+2}, with Z_{i_{k+1}} in it, vanishes: else m - 1 layers would do. It is part
# of what leads from i_k to the output if k <= m - 2, and of what the input reaches before i_k if k >= 3. So there all
# directions are free, or unseen, and x_{m-1} and y_2 alone may not be. With U the layers whose x is seen by the output and V
# those whose y the input reaches, {m} in U in {m - 1, m} and {1} in V in {1, 2}, the product changes by terms t^(q - p + 1)
# for p in V, q in U, p <= q, and the loss by squares of them: where one of x_{m-1}, y_2 is restricted, of order 2 (m - 1) > m;
# where none is, 2 (m - 2), which is more than m from m = 5 on, and for m = 4 can be scaled below the gain. For m = 3 it is 2:
# the middle layer alone changes the product, the loss rises as t^2, and no line through these layers falls.


def _bent_lines(form: Canonical, layers: Sequence[int]) -> Iterator[_Found]:
    """Yield lines that change these layers with x_{m-1} or y_2 or both unrestricted; further terms appear."""
    blocks, n, m = form.blocks, len(form.blocks), len(layers)
    sizes = [blocks[0].shape[1], *(z.shape[0] for z in blocks)]
    first, last = layers[0], layers[-1]
    into, out = chain(blocks[:first], sizes[0]), chain(blocks[last + 1 :], sizes[last + 1])
    u, s, vt = linalg.svd(into @ form.problem.target[form.others].T @ out, check_finite=False)
    if not s[0] > 0:
        return
    for any_start, any_end in ((True, False), (False, True), (True, True))[: 2 + (m > 3)]:
        starts, ends = [], [u[:, 0]]
        for k, (a, b) in enumerate(pairwise(layers), 1):
            within = chain(blocks[a + 1 : b], sizes[a + 1])
            free = np.eye(within.shape[1]) if any_start and k == m - 1 else _kernel(form, a + 1, n)
            unseen = np.eye(within.shape[0]) if any_end and k == 1 else _kernel(form, 0, b, transposed=True)
            if not free.size or not unseen.size:
                break
            left, size, right = linalg.svd(unseen.T @ within @ free, check_finite=False)
            if not size[0] > ZERO * _scale(form, a + 1, b):
                break
            starts.append(free @ right[0])
            ends.append(unseen @ left[:, 0])
        else:
            changes = {i: np.outer(x, y) for i, x, y in zip(layers, [*starts, vt[0]], ends, strict=True)}
            yield from _bounded(form, layers, changes)


def _bounded(form: Canonical, layers: Sequence[int], changes: dict[int, Array]) -> Iterator[_Found]:
    """Yield a line with its loss bounded by L - a t^m + b t^{2m} for t > 0, for the best signs of the first and last layer.

    Of the terms c_k t^k between, those that rise are each shared out: with theta = (2 m - k) / m and any alpha > 0
    t^k <= theta alpha t^m + (1 - theta) alpha^(-theta / (1 - theta)) t^(2 m), the inequality of the weighted means.
    """
    m = len(layers)
    norms = {i: float(linalg.norm(v)) for i, v in enumerate(_directions(form, changes)) if i in changes}
    changes = {i: change / norms[i] for i, change in changes.items()}  # in units of the factors
    parts = _product_polynomial(form, changes)
    gain, square = float(np.vdot(parts[m], form.problem.target[form.others])), float((parts[m // 2] ** 2).sum())
    if not gain > 0:
        return
    if m == 4 and square > gain:  # the two middle layers move less, the outer ones more
        less = (gain / square) ** 0.25
        changes = {i: change * (less if i in layers[1:3] else 1 / less) for i, change in changes.items()}
    found = []
    for flip in (1.0, -1.0):
        for other in (1.0, -1.0):
            signs = dict.fromkeys(layers, 1.0) | {layers[0]: flip, layers[-1]: other, layers[1]: flip * other}
            signed = {i: signs[i] * change for i, change in changes.items()}
            c = _loss_polynomial(form, signed)
            fall = -c[m]
            if not fall > 0 or not np.abs(c[:m]).max() <= 1e-9 * fall:
                continue
            rising = [k for k in range(m + 1, 2 * m) if c[k] > 0]
            rise = float(c[2 * m])
            for k in rising:
                theta = (2 * m - k) / m
                alpha = fall / (2 * len(rising) * theta * c[k])
                rise += (1 - theta) * c[k] * alpha ** (-theta / (1 - theta))
            found.append((fall / (1 + bool(rising)), rise, signed))
    if found:
        fall, rise, signed = max(found, key=lambda each: each[0] ** 2 / max(each[1], np.finfo(float).tiny))
        yield _directions(form, signed), float(fall), float(rise), 2 * m, m, False


def _product_polynomial(form: Canonical, changes: dict[int, Array]) -> list[Array]:
    """Return the coefficients of t^0, t^1, ... of the product of the blocks with their changes times t."""
    parts = [np.eye(form.blocks[0].shape[1])]
    for i, z in enumerate(form.blocks):
        moved = [z @ p for p in parts]
        if i in changes:
            more = [changes[i] @ p for p in parts]
            moved = [moved[0], *(a + b for a, b in zip(moved[1:], more, strict=False)), more[-1]]
        parts = moved
    return parts


def _loss_polynomial(form: Canonical, changes: dict[int, Array]) -> Array:
    """Return the coefficients of the loss of the blocks along a line, over the unit; that of t^0 is left out as zero."""
    parts, target = _product_polynomial(form, changes), form.problem.target[form.others]
    c = np.zeros(2 * len(parts) - 1)
    for j, a in enumerate(parts):
        c[j] -= float(np.vdot(a, target))
        for k, b in enumerate(parts):
            c[j + k] += 0.5 * float(np.vdot(a, b))
    c[0] = 0.0
    return c


def _kernel(form: Canonical, first: int, last: int, *, transposed: bool = False) -> Array:
    """Return an orthonormal basis of the kernel of Z_last .. Z_{first+1}, or of its transpose; roundoff is zero."""
    blocks = form.blocks[first:last]
    a = chain(blocks, form.blocks[first].shape[1] if first < len(form.blocks) else form.blocks[-1].shape[0])
    a = a.T if transposed else a
    if not a.size or float(linalg.norm(a, 2)) <= 1e-9 * _scale(form, first, last):
        return np.eye(a.shape[1])
    return linalg.null_space(a, rcond=1e-9)


def _scale(form: Canonical, first: int, last: int) -> float:
    """Return what that product is no larger than; a block that is roundoff counts as large as others may be."""
    return float(np.prod(own_scales(form.problem, form.blocks)[first:last]))


def _directions(form: Canonical, changes: dict[int, Array]) -> list[Array]:
    """Return changes of the blocks as changes of the factors."""
    n, r = len(form.blocks), form.rank
    found = []
    for h, z in enumerate(form.blocks):
        change = changes.get(h, np.zeros_like(z))
        right = np.linalg.inv(form.bases[h - 1])[r:] if h else np.eye(z.shape[1])
        left = form.bases[h][:, r:] if h < n - 1 else np.eye(form.problem.shape[0])[:, form.others]
        found.append(left @ change @ right)
    return found
