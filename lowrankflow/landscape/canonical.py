"""The canonical form of critical points of the square loss: their active part, and the blocks beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from ..matrices import EPS
from ..validation import Array
from .whitened import FLOOR, Factors, Whitened, chain, relative_to_terms, sizes_of

__all__ = ["Canonical", "canonical_form"]


@dataclass(frozen=True, eq=False)
class Canonical:
    r"""A network in canonical form, with I_S the columns S of the identity and Q the other ones.

    .. math:: F_N = [I_S,\; I_Q Z_N] D_{N-1}^{-1}, \quad F_h = D_h\, \mathrm{diag}(I_r, Z_h)\, D_{h-1}^{-1}, \quad
              F_1 = D_1 \begin{bmatrix} I_S^T T \\ Z_1 \end{bmatrix}.

    Every critical point has this form [1]_, Proposition 9 (in whitened coordinates, where T is diagonal). A network of this
    form is critical if and only if the residual problem, a network of factors Z_1, ..., Z_N with target :math:`I_Q^T T`, has a
    critical point at Z with product zero. With :math:`Z_1' = Z_1 T^T I_Q` the blocks make a cycle of maps; for a target that
    is not met that is: every product of N - 1 consecutive ones is zero.

    Attributes
    ----------
    index_set : tuple of int
        S, from 0.
    bases : tuple of ndarray
        D_1, ..., D_{N-1}; their first r columns are the active directions of the hidden layers.
    blocks : tuple of ndarray
        Z_1, ..., Z_N.

    References
    ----------
    .. [1] E. M. Achour, F. Malgouyres, S. Gerchinovitz, The loss landscape of deep linear neural networks: a second-order
       analysis, Journal of Machine Learning Research 25(242), 2024.
    """

    problem: Whitened
    index_set: tuple[int, ...]
    bases: Factors
    blocks: Factors

    @property
    def rank(self) -> int:
        return len(self.index_set)

    @property
    def others(self) -> list[int]:
        """Q, from 0."""
        return [i for i in range(self.problem.shape[0]) if i not in self.index_set]

    def factors(self) -> Factors:
        """Return F_1, ..., F_N."""
        p, _ = self.problem.shape
        s, q, r = list(self.index_set), self.others, self.rank
        eye = np.eye(p)
        cores = [linalg.block_diag(np.eye(r), z) for z in self.blocks[1:-1]]
        first = np.vstack([self.problem.target[s], self.blocks[0]])
        last = np.hstack([eye[:, s], eye[:, q] @ self.blocks[-1]])
        steps = [first, *cores, last]
        found = [self.bases[0] @ steps[0]]
        for h in range(1, len(steps)):
            right = _solved(self.bases[h - 1].T, steps[h].T).T  # steps[h] D_{h-1}^{-1}
            found.append(right if h == len(steps) - 1 else self.bases[h] @ right)
        return tuple(found)

    def cycle(self) -> Factors:
        """Return Z_1', Z_2, ..., Z_N, maps around the cycle; the last ends where the first begins."""
        return (self.blocks[0] @ self.problem.target[self.others].T, *self.blocks[1:])

    def gradients(self) -> list[Array]:
        """Return the partial gradients of the residual problem, and its product; all zero at a critical point.

        That is the square loss ||Z_N .. Z_1 - I_Q^T T||^2 / 2 of the blocks, a deep linear network of its own. Leading axes of
        the blocks are a batch.
        """
        target = self.problem.target[self.others]
        product = chain(self.blocks, 0)
        right = [np.eye(target.shape[1])]
        for z in self.blocks[:-1]:
            right.append(z @ right[-1])
        above, found = product - target, []
        for z, below in zip(reversed(self.blocks), reversed(right), strict=True):
            found.append(above @ below.mT)
            above = z.mT @ above
        return [*found[::-1], product]

    def relative_gradient(self, floor: float = FLOOR) -> float:
        """Return how far the blocks are from critical, `relative_to_terms` of the residual problem; below the floor is zero."""
        *gradients, product = self.gradients()
        top = float(self.problem.sigma[0])
        size = float(np.prod(sizes_of(self.blocks, top, floor)))
        apart = float(linalg.norm(product)) / size if product.size and size > 0 else 0.0
        return max(apart if apart > 100 * EPS else 0.0, relative_to_terms(gradients, self.blocks, top, floor))


def canonical_form(
    problem: Whitened, factors: Sequence[Array], index_set: Sequence[int], *, from_outputs: bool = False
) -> Canonical:
    """Return the canonical form nearest at hand of factors that are critical with an index set, or nearly so.

    Parameters
    ----------
    problem : Whitened
    factors : sequence of ndarray
        F_1, ..., F_N.
    index_set : sequence of int
        S, from 0.
    from_outputs : bool
        Whether the active directions of the first layer are those that make the outputs U_S, and not what the inputs of S
        are made into: the same at a critical point, of another error beside one.

    Returns
    -------
    Canonical
        At a critical point with this S its factors are those given, to roundoff; elsewhere what does not fit is dropped.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the active directions are not independent: the factors are not near such a point.
    """
    s = sorted(int(i) for i in index_set)
    r, p, n = len(s), problem.shape[0], len(factors)
    q = [i for i in range(p) if i not in s]
    above = chain(factors[1:], 0)  # F_N .. F_2
    if from_outputs and r:
        active = linalg.lstsq(above, np.eye(p)[:, s], cond=1e-8, check_finite=False)[0]
    else:  # what F_1 makes of the inputs of S: Z_1 sees none of them
        active = factors[0][:, s] / problem.sigma[s]
    if r and linalg.norm(above[s] @ active - np.eye(r), 2) > 0.5:
        raise np.linalg.LinAlgError("the network does not have the pairs of S")
    bases: list[Array] = [np.empty(0)] * (n - 1)
    bases[0] = np.hstack([active, _null_space(above[s])])
    images = [active]  # of the active directions in the hidden layers 1, ..., N - 1
    for f in factors[1:-1]:
        images.append(f @ images[-1])
    blocks: list[Array] = [np.empty(0)] * n
    for h in range(n - 1, 1, -1):  # layer h, between F_h and F_{h+1}, from the output on
        frame = np.hstack([images[h - 1], _complement(images[h - 1])])
        if h == n - 1:
            seen = factors[h] @ frame[:, r:]
            up, down = seen[s], seen[q]
        else:
            seen = _solved(bases[h], factors[h] @ frame[:, r:])
            up, down = seen[:r], seen[r:]
        frame[:, r:] -= frame[:, :r] @ up
        bases[h - 1], blocks[h] = frame, down
    if n == 2:
        blocks[1] = (factors[1] @ bases[0][:, r:])[q]
    else:
        blocks[1] = _solved(bases[1], factors[1] @ bases[0][:, r:])[r:]
    blocks[0] = _solved(bases[0], factors[0])[r:]
    return Canonical(problem, tuple(s), tuple(bases), tuple(blocks))


def _solved(a: Array, b: Array) -> Array:
    return np.asarray(np.linalg.solve(a, b))


def _null_space(a: Array) -> Array:
    """Return an orthonormal basis of the kernel of A, taken to have full row rank."""
    rows, columns = a.shape
    if not rows:
        return np.eye(columns)
    return linalg.svd(a, check_finite=False)[2][rows:].T


def _complement(a: Array) -> Array:
    """Return an orthonormal basis of what is orthogonal to the columns of A, taken to be independent."""
    return _null_space(a.T)
