"""Flows of many members in coordinates: y is (R, n), one flat state a member.

The formulas are those of `charts.Factors` and `charts.Polynomial`; frames are kept as rows, U^T and V^T, which is how
small products of stacks are fastest.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .arrays import Stack, like, namespace, norms, squares
from .losses import BatchedLoss
from .stacks import LinearNetworks, LowRankMatrices, _trusted

__all__ = [
    "BatchedSystem",
    "FactorsSystem",
    "PolynomialSystem",
    "factor_gradients",
    "flat",
    "product_of",
    "transposed_last",
]


class BatchedSystem(Protocol):
    """Flows of members of one shape. All methods are pure."""

    loss: Any  #: BatchedLoss
    blocks: list[tuple[int, int]]  #: where the parts of y begin and end that have a scale of their own
    turns: bool  #: whether there are frames, which can lose their orthonormality, and a core, which can its rank

    def velocity(self, y: Stack) -> Stack:
        """Return dy/dt, (R, n)."""
        ...

    def scales(self, y: Stack) -> Stack:
        """Return the size that an error of each block is relative to, (R, blocks)."""
        ...

    def value(self, y: Stack) -> Stack:
        """Return the loss, (R,)."""
        ...

    def stationarity(self, y: Stack) -> Stack:
        """Return the norm of the projected gradient, or of all factor gradients, (R,)."""
        ...

    def defect(self, y: Stack) -> Stack:
        """Return the distance from orthonormal frames, (R,)."""
        ...

    def repair(self, y: Stack) -> Stack:
        """Return the nearest states without defect."""
        ...

    def crossed(self, before: Stack, after: Stack) -> Stack:
        """Return where a singular value changed its sign, (R,)."""
        ...

    def singular_values(self, y: Stack) -> Stack:
        """Return the singular values of W, decreasing."""
        ...

    def points(self, y: Stack) -> LowRankMatrices | LinearNetworks:
        """Return W of each member."""
        ...

    def take(self, chosen: NDArray[np.intp]) -> BatchedSystem:
        """Return the system of some of the members."""
        ...


def factor_gradients(loss: Any, factors: Sequence[Stack]) -> list[Stack]:
    """Return the gradients of the loss of the product with respect to W_1, ..., W_N.

    With few rows in W_1 the gradient itself is never formed, only G W_1^T and W_N^T G.
    """
    if len(factors) == 1:
        return [loss.gradient(factors[0])]
    if has_sides(loss, factors):
        first, *middle, last = row_gradients(loss, [*factors[:-1], factors[-1].mT])
        return [first, *middle, last.mT]
    chain = _chain(factors[:-1])
    g = loss.gradient(factors[-1] @ chain[-1])
    below = factors[-1].mT @ g
    return [*_pulled_back(below, factors[:-1], chain), g @ chain[-1].mT]


def has_sides(loss: Any, factors: Sequence[Stack]) -> bool:
    """Whether two products with the gradient are cheaper than the gradient."""
    return hasattr(loss, "sides") and 2 * max(factors[0].shape[1], factors[-1].shape[2]) < min(loss.shape)


def row_gradients(loss: Any, rows: Sequence[Stack]) -> list[Stack]:
    """Return the same with W_N^T, in the place of W_N and of its gradient, by two products with the gradient of the loss."""
    first, *middle, last = rows
    chain = _chain(middle)
    if not middle:
        gv, gu = loss.sides(last, first, last)
        return [gu, gv]
    inner = chain[-1]
    gv, gu = loss.sides(inner.mT @ last, first, last)
    return [inner.mT @ gu, *_pulled_back(last @ gv.mT, middle, chain), inner @ gv]


def _chain(factors: Sequence[Stack]) -> list[Stack]:
    """Return A_1, A_2 A_1, ..."""
    return list(accumulate(factors, lambda done, f: f @ done))


def _pulled_back(g: Stack, factors: Sequence[Stack], chain: Sequence[Stack]) -> list[Stack]:
    """Return the derivatives of <G, A_p ... A_1> with respect to the factors, whose products so far are `chain`."""
    found = []
    for f, before in zip(factors[:0:-1], chain[-2::-1], strict=True):
        found.append(g @ before.mT)
        g = f.mT @ g
    return [g, *found[::-1]]


def product_of(factors: Sequence[Stack]) -> Stack:
    """Return W_N ... W_1 of each member."""
    return _chain(factors)[-1]


class _Layout:
    """Where the parts of a state stand in y."""

    def __init__(self, shapes: Sequence[tuple[int, int]]) -> None:
        ends = [0, *accumulate(a * b for a, b in shapes)]
        self.shapes, self.cuts = list(shapes), list(pairwise(ends))

    def parts(self, y: Stack) -> list[Stack]:
        xp = namespace(y)
        return [
            xp.reshape(y[:, a:b], (y.shape[0], *shape)) for (a, b), shape in zip(self.cuts, self.shapes, strict=True)
        ]


def flat(parts: Sequence[Stack]) -> Stack:
    """Return stacks as one, (R, n)."""
    xp = namespace(*parts)
    return xp.concat([xp.reshape(p, (p.shape[0], -1)) for p in parts], axis=1)


def transposed_last(factors: Sequence[Stack]) -> list[Stack]:
    """Return the factors with the last one transposed, and back; of one alone, itself."""
    return [*factors[:-1], factors[-1].mT] if len(factors) > 1 else list(factors)


class FactorsSystem:
    """y = all factors, one after the other, the last as W_N^T; balanced ones of inner width k for DepthMetric(N)."""

    loss: BatchedLoss
    blocks: list[tuple[int, int]]

    turns = False

    def __init__(self, loss: BatchedLoss, shapes: Sequence[tuple[int, int]], lifted: bool) -> None:
        self.loss, self._layout, self._lifted = loss, _Layout(shapes), lifted
        self.blocks = [(0, self._layout.cuts[-1][1])]

    @classmethod
    def begin(cls, loss: BatchedLoss, start: LinearNetworks, *, lifted: bool = False) -> tuple[FactorsSystem, Stack]:
        """Return the system and its first state."""
        rows = transposed_last(start.factors)
        return cls(loss, [(f.shape[1], f.shape[2]) for f in rows], lifted), flat(rows)

    def velocity(self, y: Stack) -> Stack:
        rows = self._layout.parts(y)
        if len(rows) > 1 and has_sides(self.loss, transposed_last(rows)):
            return -flat(row_gradients(self.loss, rows))
        return -flat(transposed_last(factor_gradients(self.loss, transposed_last(rows))))

    def _factors(self, y: Stack) -> list[Stack]:
        return transposed_last(self._layout.parts(y))

    def scales(self, y: Stack) -> Stack:
        xp = namespace(y)
        return xp.max(xp.stack([norms(f) for f in self._layout.parts(y)], axis=1), axis=1, keepdims=True)

    def value(self, y: Stack) -> Stack:
        return self.loss.value(product_of(self._factors(y)))

    def stationarity(self, y: Stack) -> Stack:
        xp = namespace(y)
        factors = self._factors(y)
        if not self._lifted:
            return xp.sqrt(sum(squares(g) for g in factor_gradients(self.loss, factors)))
        frames = [xp.linalg.qr(a, mode="reduced")[0] for a in (factors[-1], factors[0].mT)]
        return _projected_norm(self.loss.gradient(product_of(factors)), *frames)

    def singular_values(self, y: Stack) -> Stack:
        """Return the singular values of the products, as many as their narrowest width."""
        xp = namespace(y)
        factors = self._factors(y)
        m, n = self.loss.shape
        k = min(m, n, *(f.shape[1] for f in factors))
        outer = max(factors[0].shape[1], factors[-1].shape[2])
        if len(factors) > 1 and outer < min(m, n):
            ru, rv = (xp.linalg.qr(a, mode="reduced")[1] for a in (factors[-1], factors[0].mT))
            factors = [rv.mT, *factors[1:-1], ru]
        w = product_of(factors)
        return xp.linalg.svdvals(xp.where(xp.isfinite(w), w, xp.zeros_like(w)))[:, :k]

    def defect(self, y: Stack) -> Stack:
        return namespace(y).zeros_like(y[:, 0])

    def repair(self, y: Stack) -> Stack:
        return y

    def crossed(self, before: Stack, after: Stack) -> Stack:
        return before[:, 0] != before[:, 0]

    def points(self, y: Stack) -> LowRankMatrices | LinearNetworks:
        xp = namespace(y)
        factors = self._factors(y)
        if not self._lifted:
            return _trusted(LinearNetworks, factors=tuple(factors))
        (qu, ru), (qv, rv) = (xp.linalg.qr(a, mode="reduced") for a in (factors[-1], factors[0].mT))
        u, s, vt = xp.linalg.svd(product_of([rv.mT, *factors[1:-1], ru]), full_matrices=False)
        return _trusted(LowRankMatrices, u=qu @ u, s=s, vt=vt @ qv.mT)

    def take(self, chosen: NDArray[np.intp]) -> FactorsSystem:
        return FactorsSystem(self.loss.take(chosen), self._layout.shapes, self._lifted)


def _projected_norm(g: Stack, u: Stack, v: Stack) -> Stack:
    """Return the norms of the projected gradients, for orthonormal frames."""
    gv, gu = g @ v, g.mT @ u
    core = u.mT @ gv
    return sum(squares(part) for part in (core, gv - u @ core, gu - v @ core.mT)) ** 0.5


class PolynomialSystem:
    """y = U^T, T, V^T, with W = U T (T^T T)^p V^T for N = 2p + 1 and W = U (T T^T)^p V^T for N = 2p."""

    loss: BatchedLoss
    blocks: list[tuple[int, int]]

    turns = True

    def __init__(self, loss: BatchedLoss, shape: tuple[int, int], rank: int, depth: int) -> None:
        (m, n), k = shape, rank
        self.loss, self._shape, self._rank, self._depth = loss, shape, rank, depth
        self._layout = _Layout([(k, m), (k, k), (k, n)])
        self.blocks = self._layout.cuts
        self._half, self._odd = divmod(depth, 2)

    @classmethod
    def begin(cls, loss: BatchedLoss, start: LowRankMatrices, depth: int) -> tuple[PolynomialSystem, Stack]:
        """Return the system and its first state."""
        root = start.s ** (1 / depth)
        core = root[:, :, None] * like(root, np.eye(start.rank))
        return cls(loss, start.shape, start.rank, depth), flat([start.u.mT, core, start.vt])

    def velocity(self, y: Stack) -> Stack:
        ut, t, vt = self._layout.parts(y)
        p, left = self._half, t @ t.mT
        right = t.mT @ t if self._odd else left
        # T (T^T T)^(p-1) and T (T^T T)^p for odd depth, C^(p-1) and C^p, C = TT^T, for even
        lower = _times_power(t if self._odd else None, right, p - 1)
        inner = right if lower is None else lower @ right
        gv, gu = self._sides(inner.mT @ ut, vt, ut)
        m = ut @ gv.mT
        up, vp = m.mT @ ut - gv, m @ vt - gu  # minus the projections
        if self._odd:
            dt = _between(left, t @ m.mT @ t, right, p - 1) - _between(left, m, right, p)
            return flat([lower @ up, dt, lower.mT @ vp])
        skew = 0.5 * (m - m.mT)
        turn = _between(left, skew, left, p - 1)
        if lower is None:
            return flat([up - turn.mT @ ut, (skew - m) @ t, vp + turn.mT @ vt])
        return flat([lower.mT @ up - turn.mT @ ut, (skew - m) @ (lower @ t), lower.mT @ vp + turn.mT @ vt])

    def _sides(self, lt: Stack, vt: Stack, ut: Stack) -> tuple[Stack, Stack]:
        if hasattr(self.loss, "sides"):
            return self.loss.sides(lt, vt, ut)
        g = self.loss.gradient(lt.mT @ vt)
        return vt @ g.mT, ut @ g

    def scales(self, y: Stack) -> Stack:
        xp = namespace(y)
        core = norms(self._layout.parts(y)[1])
        return xp.stack([xp.ones_like(core), core, xp.ones_like(core)], axis=1)

    def defect(self, y: Stack) -> Stack:
        xp = namespace(y)
        ut, _, vt = self._layout.parts(y)
        eye = like(y, np.eye(self._rank))
        return xp.maximum(norms(ut @ ut.mT - eye), norms(vt @ vt.mT - eye))

    def repair(self, y: Stack) -> Stack:
        ut, t, vt = self._layout.parts(y)
        return flat([_polar(ut), t, _polar(vt)])

    def crossed(self, before: Stack, after: Stack) -> Stack:
        xp = namespace(after)
        old, new = (xp.linalg.slogdet(self._layout.parts(y)[1])[0] for y in (before, after))
        return old * new <= 0

    def value(self, y: Stack) -> Stack:
        return self.loss.value(self._dense(y))

    def stationarity(self, y: Stack) -> Stack:
        ut, _, vt = self._layout.parts(y)
        return _projected_norm(self.loss.gradient(self._dense(y)), ut.mT, vt.mT)

    def _dense(self, y: Stack) -> Stack:
        ut, t, vt = self._layout.parts(y)
        c = t.mT @ t if self._odd else t @ t.mT
        return ut.mT @ _times_power(t if self._odd else None, c, self._half) @ vt

    def singular_values(self, y: Stack) -> Stack:
        """Return the singular values of W, to the accuracy of the frames."""
        return self.points(y).s

    def points(self, y: Stack) -> LowRankMatrices:
        xp = namespace(y)
        ut, t, vt = self._layout.parts(y)
        p, l, qt = xp.linalg.svd(t, full_matrices=False)  # noqa: E741
        qt = qt if self._odd else p.mT
        (qu, ru), (qv, rv) = (xp.linalg.qr(a, mode="reduced") for a in (ut.mT @ p, (qt @ vt).mT))
        a, s, bt = xp.linalg.svd((ru * (l**self._depth)[:, None, :]) @ rv.mT, full_matrices=False)
        return _trusted(LowRankMatrices, u=qu @ a, s=s, vt=bt @ qv.mT)

    def take(self, chosen: NDArray[np.intp]) -> PolynomialSystem:
        return PolynomialSystem(self.loss.take(chosen), self._shape, self._rank, self._depth)


def _polar(at: Stack) -> Stack:
    """Return the nearest stacks with orthonormal rows."""
    p, _, qt = namespace(at).linalg.svd(at, full_matrices=False)
    return p @ qt


def _times_power(first: Stack | None, a: Stack, p: int) -> Any:
    """Return first A^p, or A^p where there is no first; None for the identity."""
    found = first
    for _ in range(p):
        found = a if found is None else found @ a
    return found


def _between(left: Stack, m: Stack, right: Stack, p: int) -> Stack:
    """Return the sum over a + b = p of left^a M right^b, by Horner's rule."""
    total, last = m, m
    for _ in range(p):
        last = last @ right
        total = left @ total + last
    return total
