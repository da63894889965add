"""What a matrix has captured of the singular pairs of the targets, and when it will capture the next."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg, special
from scipy.sparse.linalg import svds

from ..losses import Loss, facts
from ..matrices import EPS, Matrix, Product
from ..validation import Array
from .places import groups
from .whitened import Whitened

__all__ = ["Growth", "Seen", "State", "growth_beside", "mode_time", "set_text"]

_ISOTROPIC = 1e-8  # relative difference of the eigenvalues of whitened inputs
_ALIGNED = 1e-2  # of what is dormant, beside the direction that grows, relative to it
_DENSE = 300  # pairs up to which all are computed where one is looked for


def set_text(indices: Sequence[int]) -> str:
    """Return S as people write it, four neighbours or more by the first and the last: {1, ..., 8, 10}."""
    runs: list[list[int]] = []
    for i in indices:
        if runs and i == runs[-1][-1] + 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return "{" + ", ".join(f"{r[0]}, ..., {r[-1]}" if len(r) > 3 else ", ".join(map(str, r)) for r in runs) + "}"


class State(NamedTuple):
    index_set: tuple[int, ...]  # from 0
    overlaps: Array
    captured: Array
    distance: float
    excess: float


class Seen:
    """The singular pairs of the whitened targets, and what a W has of them; nothing m x n is formed."""

    problem: Whitened
    whiten: Callable[[Any], Product]
    u: Array
    v: Array
    sigma: Array
    tied: list[list[int]]

    def __init__(self, problem: Whitened, loss: Loss) -> None:
        whiten = facts(loss).whiten
        assert whiten is not None
        self.problem, self.whiten, t = problem, whiten, problem.target_rank
        self.u, self.v = problem.spectrum.u[:, :t], problem.spectrum.vt[:t].T
        self.sigma = problem.spectrum.sigma[:t]
        self.tied = [g for g in groups(problem) if len(g) > 1]

    def look(self, w: Matrix) -> State | None:
        """Return S, the overlaps and the distance of W from W_S; None where W is not finite."""
        left, right = self.whiten(w).split()
        if not (np.isfinite(left).all() and np.isfinite(right).all()):
            return None
        up, down = self.u.T @ left, right @ self.v
        overlaps = np.einsum("ik,ki->i", up, down) / self.sigma
        u, v = self.u, self.v
        for g in self.tied:  # any basis of a group will do: the one in which W is diagonal there
            block = up[g] @ down[:, g] / self.sigma[g[0]]
            values, turn = linalg.eigh(0.5 * (block + block.T), check_finite=False)
            u = u.copy() if u is self.u else u
            v = v.copy() if v is self.v else v
            u[:, g], v[:, g] = u[:, g] @ turn[:, ::-1], v[:, g] @ turn[:, ::-1]
            overlaps[g] = values[::-1]
        captured = self._captured(left, right)
        count = min(int((captured > 0.5).sum()), overlaps.size)
        s = np.sort(np.argsort(-(self.sigma**2) * overlaps, kind="stable")[:count])
        chosen = np.zeros(overlaps.size, dtype=bool)
        chosen[s] = True
        apart = Product(np.hstack([left, -u[:, s] * self.sigma[s]]), np.vstack([right, v[:, s].T]))
        distance = apart.norm()
        # ||B - Q||^2 / 2 - ||B_S - Q||^2 / 2 with B - B_S = D: ||D||^2 / 2 - <D, Q - B_S>
        excess = 0.5 * distance**2 - float((self.sigma[~chosen] ** 2 * overlaps[~chosen]).sum())
        return State(tuple(int(i) for i in s), overlaps, captured, distance, excess)

    def _captured(self, left: Array, right: Array) -> Array:
        """Return how much of each singular direction (x, s, y) of B = left right is captured, decreasing; 1 at a critical point.

        The size over the best size along it, s / x^T Q y, or (x^T Q y)^2 / (||Q^T x|| ||Q y||) if less: whether it is one of Q.
        """
        if not self.sigma.size:
            return np.zeros(0)
        (q, upper), (p, lower) = (linalg.qr(a, mode="economic", check_finite=False) for a in (left, right.T))
        x, s, yt = linalg.svd(upper @ lower.T, full_matrices=False, check_finite=False)
        sigma = self.sigma[:, None]
        x, y = sigma * (self.u.T @ (q @ x)) / sigma[0], sigma * (self.v.T @ (p @ yt.T)) / sigma[0]
        best = np.maximum((x * y * sigma[0] / sigma).sum(axis=0), 0.0)  # over sigma_1, as the norms
        norms = linalg.norm(x, axis=0) * linalg.norm(y, axis=0)
        size, along = np.zeros_like(s), np.zeros_like(s)
        seen = norms > EPS**2
        np.divide(s / sigma[0], best, out=size, where=seen & (best > EPS))
        np.divide(best**2, norms, out=along, where=seen)
        return np.sort(np.minimum(size, along))[::-1]

    def next_pair(self, s: Sequence[int]) -> float:
        """Return the largest singular value that is not in S: the distance from W_S to the critical matrix with it."""
        left = [float(x) for i, x in enumerate(self.sigma) if i not in s]
        return max(left, default=0.0)

    def neighbour(self, s: Sequence[int], rank: int) -> float:
        """Return the distance from W_S to the nearest critical matrix that a run of this rank may mean instead.

        With the least pair less or, below that rank, with the next one more.
        """
        less = [float(self.sigma[i]) for i in s]
        more = [self.next_pair(s)] if len(s) < min(rank, self.sigma.size) else []
        return min([*less, *more], default=0.0)


# ---------------------------------------------------------------------------------------------------------------------
# growth


class Growth(NamedTuple):
    rate: float  # g, the largest singular value of the gradient beside W_S
    size: float  # of W along that pair
    limit: float
    aligned: bool  # whether that pair is, for what W has beside W_S, a singular pair
    isotropic: bool


def growth_beside(seen: Seen, w: Matrix, s: Sequence[int], depth: float) -> Growth:
    r"""Return what grows beside W_S: the top singular pair (x, y) of the gradient there, off the row and column spaces of W_S.

    At depth 2 balanced factors of the dormant part :math:`U S V^T` grow by :math:`S^{1/2} (U^T x + V^T y) / 2` alone, so that
    its squared norm is the size; :math:`x^T U S V^T y` where W is aligned, and beyond depth 2. (derived)
    """
    spectrum, chosen = seen.problem.spectrum, list(s)
    root = np.sqrt(spectrum.eigenvalues)
    others = [i for i in range(seen.sigma.size) if i not in s]
    left, right = w.split()
    inside = linalg.qr(seen.v[:, chosen] / root[:, None], mode="economic")[0] if chosen else np.zeros((root.size, 0))

    def beside(rows: Array) -> Array:
        return np.asarray(rows - (rows @ inside) @ inside.T)

    top, rate, y = _top(beside(seen.sigma[others, None] * seen.v[:, others].T * root))
    x = seen.u[:, others] @ top
    q, upper = linalg.qr(left - seen.u[:, chosen] @ (seen.u[:, chosen].T @ left), mode="economic")
    u, size, vt = linalg.svd(upper @ beside(right @ spectrum.basis), full_matrices=False)
    along, across = (q @ u).T @ x, vt @ y
    known = float((along * size) @ across)
    off = math.hypot(float(linalg.norm(size * along)), float(linalg.norm(size * across)))
    aligned = off**2 - 2 * known**2 <= 2 * _ALIGNED**2 * known**2
    if depth == 2:
        known = 0.25 * float((size * (along + across) ** 2).sum())
    curvature = float((spectrum.eigenvalues * y**2).sum())
    isotropic = not seen.problem.unseen and bool(np.ptp(spectrum.eigenvalues) <= _ISOTROPIC * spectrum.eigenvalues[0])
    return Growth(rate, known, rate / curvature, aligned, isotropic)


def _top(a: Array) -> tuple[Array, float, Array]:
    """Return the first singular pair of an array, of a large one by iteration."""
    if min(a.shape) <= _DENSE:
        x, s, yt = linalg.svd(a, full_matrices=False, check_finite=False)
    else:
        start = np.random.default_rng(0).standard_normal(min(a.shape))  # fixed: the answer must not vary between calls
        top = float(np.abs(a).max())
        found = svds(a / top, k=1, v0=start, tol=1e-8)
        return found[0][:, 0], top * float(found[1][0]), found[2][0]
    return x[:, 0], float(s[0]), yt[0]


def mode_time(depth: float, rate: float, size: float, limit: float) -> float:
    r"""Return the time in which :math:`s' = N g s^{2-2/N} (1 - s/a)` takes a mode from a size to a/2.

    At depth 2 the logistic law, :math:`\log((a - s)/s) / (2 g)`. Beyond, with p = 2 - 2/N and F(s) = :math:`s^{1-p}/(1-p)\,
    {}_2F_1(1, 1-p; 2-p; s/a)`, :math:`(F(a/2) - F(s)) / (N g)`. (derived)

    Parameters
    ----------
    depth : float
        N, 2 or more.
    rate : float
        g, the norm of the gradient in the direction of the mode while it is dormant.
    size, limit : float
        s and a.
    """
    share = size / limit
    if depth == 2:
        return math.log((1 - share) / share) / (2 * rate)
    p = 2 - 2 / depth

    def integral(x: float) -> float:
        return float(x ** (1 - p) / (1 - p) * special.hyp2f1(1.0, 1 - p, 2 - p, x))

    return limit ** (1 - p) * (integral(0.5) - integral(share)) / (depth * rate)
