"""The square loss with its data taken out: in whitened coordinates, and turned, the target is a diagonal matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
from scipy import linalg

from .. import validation
from ..losses import Loss, facts
from ..losses.least_squares import Spectrum
from ..matrices import EPS, LinearNetwork
from ..matrices.requirements import require_network
from ..validation import Array

__all__ = ["FLOOR", "Whitened", "chain", "relative_to_terms", "sizes_of"]

Factors = tuple[Array, ...]


def chain(factors: Sequence[Array], size: int) -> Array:
    """Return the product of factors of which the first acts first; the identity of a size where there is none."""
    return reduce(lambda a, f: f @ a, factors) if factors else np.eye(size)


@dataclass(frozen=True, eq=False)
class Whitened:
    r"""The square loss of factors as :math:`\tfrac{c}{2} \|F_N \cdots F_1 - T\|_F^2` + floor with a diagonal T.

    With c C = X X^T (over the number of samples for a mean), c its largest eigenvalue, :math:`C^{1/2}` on its range and
    :math:`Y X^T C^{-1/2} / c = U \Sigma V^T`: :math:`F_1 = W_1 C^{1/2} V`, :math:`F_N = U^T W_N`, the others as they are;
    and all of that transposed, in reverse order, where W has more rows than the inputs have directions, so that T (p, q)
    has p <= q. A linear change of W_1 and rotations: class, index set and inertia of a point stay what they are. Directions
    of W_1 that no input has do not change the loss; they are left out.

    Attributes
    ----------
    sigma : ndarray, (p,)
        The diagonal of T, decreasing; :math:`\lambda_i = c\,\sigma_i^2` of the literature, whose loss has no 1/2.
    unit : float
        c: the factors have the size that they had, whatever the unit of the data.
    shape : tuple of int
        (p, q).
    transposed : bool
    floor : float
        Least value of the loss without a constraint on the rank.
    unseen : int
        Directions of the inputs that no sample has.
    """

    spectrum: Spectrum
    size: tuple[int, int]  #: (m, n) of W

    @classmethod
    def of(cls, loss: Loss) -> Whitened:
        """Return the coordinates of a loss.

        Raises
        ------
        ValueError
            If it has no ``spectrum``: the exact theory is that of the square loss.
        """
        spectrum = facts(loss).spectrum
        if spectrum is None:
            raise ValueError(
                "`loss` must be a square loss of inputs and targets, LeastSquares, for the exact theory,"
                f" got {validation.describe(loss)}."
            )
        return cls(spectrum, (int(loss.shape[0]), int(loss.shape[1])))

    @property
    def floor(self) -> float:
        return self.spectrum.floor

    @property
    def transposed(self) -> bool:
        return self.size[0] > self.spectrum.eigenvalues.size

    @property
    def unseen(self) -> int:
        return self.size[1] - self.spectrum.eigenvalues.size

    @property
    def shape(self) -> tuple[int, int]:
        m, q = self.size[0], self.spectrum.eigenvalues.size
        return min(m, q), max(m, q)

    @property
    def unit(self) -> float:
        return float(self.spectrum.eigenvalues[0])

    @cached_property
    def sigma(self) -> Array:
        s = self.spectrum.sigma / np.sqrt(self.unit)
        return np.where(np.arange(s.size) < self.target_rank, s, 0.0)

    @cached_property
    def target_rank(self) -> int:
        """Rank of T: what lies below 1e-12 of its largest singular value, or below the roundoff of the targets, is zero."""
        s = self.spectrum.sigma
        targets = float(np.sqrt(2 * max(self.floor, 0.0) + float((s**2).sum())))
        return int((s > max(1e-12 * float(s[0]), 10 * max(self.shape) * EPS * targets)).sum())

    @cached_property
    def target(self) -> Array:
        t = np.zeros(self.shape)
        np.fill_diagonal(t, self.sigma)
        return t

    @cached_property
    def _frames(self) -> tuple[Array, Array]:
        """All of U and V: the singular vectors completed."""
        return tuple(map(_completed, (self.spectrum.u, self.spectrum.vt.T)))  # type: ignore[return-value]

    @property
    def _root(self) -> Array:
        """C^{1/2} from its eigenbasis, (n, q)."""
        return self.spectrum.basis * np.sqrt(self.spectrum.eigenvalues / self.unit)

    def best_rank(self, sizes: Sequence[int]) -> int:
        """Return r* of networks with layers of these sizes: the narrowest layer, or the rank of T if less."""
        return min(*sizes, self.target_rank)

    def value(self, captured: Sequence[int] | Array) -> float:
        """Return the critical value that belongs to the captured pairs (from 0): floor + half the sum of the other squares."""
        left = np.ones(self.sigma.size, dtype=bool)
        left[list(captured)] = False
        return self.floor + 0.5 * self.unit * float((self.sigma[left] ** 2).sum())

    def factors(self, network: LinearNetwork) -> Factors:
        """Return F_1, ..., F_N of a network."""
        require_network("network", network)
        validation.require_shape("network", network.shape, self.size)
        u, v = self._frames
        first, *middle = network.factors
        found = [_cleaned(first @ self._root @ v, first), *middle]
        found[-1] = _cleaned(u.T @ found[-1], found[-1])
        return tuple(f.T for f in reversed(found)) if self.transposed else tuple(found)

    def network(self, factors: Sequence[Array], like: LinearNetwork | None = None) -> LinearNetwork:
        """Return the network of F_1, ..., F_N; what no input sees as `like` has it, zero where there is none."""
        found = [f.T for f in reversed(factors)] if self.transposed else list(factors)
        u, v = self._frames
        found[0] = found[0] @ v.T @ (self.spectrum.basis / np.sqrt(self.spectrum.eigenvalues / self.unit)).T
        if like is not None and self.unseen:
            first = like.factors[0]
            found[0] = found[0] + first - (first @ self.spectrum.basis) @ self.spectrum.basis.T
        found[-1] = u @ found[-1]
        return LinearNetwork(found)

    def gradients(self, factors: Sequence[Array]) -> list[Array]:
        """Return the partial gradients (F_N .. F_{j+1})^T (F_N .. F_1 - T) (F_{j-1} .. F_1)^T."""
        residual = chain(factors, 0) - self.target
        right, below = [np.eye(self.shape[1])], np.eye(self.shape[1])
        for f in factors[:-1]:
            below = f @ below
            right.append(below)
        found: list[Any] = []
        above = residual
        for f, r in zip(reversed(factors), reversed(right), strict=True):
            found.append(above @ r.T)
            above = f.T @ above
        return found[::-1]

    def relative_gradient(self, factors: Sequence[Array]) -> float:
        """Return how far factors are from critical, `relative_to_terms`."""
        product = float(linalg.norm(chain(factors, 0), 2))
        return relative_to_terms(self.gradients(factors), factors, max(float(self.sigma[0]), product))


FLOOR = 1e-13  #: of a factor, relative to that of a balanced minimiser, below which it is roundoff, and zero


def sizes_of(factors: Sequence[Array], top: float, floor: float = FLOOR) -> list[float]:
    """Return the norms of factors, or of blocks; of one that is roundoff beside a balanced minimiser, the size of that.

    A balanced minimiser of a target of norm `top` has factors of its N-th root.
    """
    natural = top ** (1 / len(factors))
    norms = [float(linalg.norm(f, 2)) if f.size else 0.0 for f in factors]
    return [norm if norm > floor * natural else natural for norm in norms]


def relative_to_terms(gradients: Sequence[Array], factors: Sequence[Array], top: float, floor: float = FLOOR) -> float:
    r"""Return the largest :math:`\|\nabla_j\| / (\bar\sigma \prod_{i \ne j} \|F_i\|_2)`, :math:`\bar\sigma` that of T or W.

    That is what a gradient would be if no term cancelled another: 1 or so at random, roundoff at a critical point. Small
    factors make a small gradient, and are no nearer to critical for it. Roundoff of the residual is none, and a factor
    below the floor is zero, see `FLOOR`.
    """
    sizes = sizes_of(factors, top, floor)
    roundoff = 100 * EPS * max(top, float(np.prod(sizes)))  # of the residual, whose product may cancel
    found = []
    for j, g in enumerate(gradients):
        others, norm = float(np.prod(np.delete(sizes, j))), float(linalg.norm(g)) if g.size else 0.0
        if norm > roundoff * others:
            found.append(norm / (top * others) if top > 0 else 1.0)
    return max(found, default=0.0)


def _cleaned(turned: Array, factor: Array) -> Array:
    """Return a factor in other coordinates, zero where it is roundoff of the one it came from."""
    size = 10 * EPS * float(np.abs(factor).max(initial=0.0)) * max(factor.shape)
    return np.where(np.abs(turned) > size, turned, 0.0)


def _completed(frame: Array) -> Array:
    """Return an orthogonal matrix whose first columns are those of a frame."""
    rows, columns = frame.shape
    return frame if rows == columns else np.hstack([frame, linalg.null_space(frame.T, rcond=0.5)[:, : rows - columns]])
