"""A metric is its operator A in the singular frame of W = U diag(s) V^T.

A multiplies the blocks of U^T Z V by coefficients that depend on s alone. The Riemannian gradient is A(G), the inner
product is <A^{-1} Z_1, Z_2>, and the flow is W' = -A(G).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..matrices import Tangent
from ..validation import Array

__all__ = ["Coefficients", "Metric", "RootCoefficients"]


@dataclass(frozen=True)
class Coefficients:
    """The spectral coefficients of A, named after the parts of a `Tangent`.

    ``core[i, k]`` multiplies the r x r block (``mix[i, k]`` brings in the transposed entry [k, i]),
    ``up[k]`` multiplies (U_perp, v_k) and ``vp[i]`` multiplies (u_i, V_perp). ``determinant[i, k]``, that of the pair
    block [i, k], [k, i], is only for a metric with a `mix` for which core_ik core_ki - mix_ik^2 would cancel.
    """

    core: Array
    up: Array
    vp: Array
    mix: Array | None = None
    determinant: Array | None = None

    def core_block(self, m: Array) -> Array:
        """Return the r x r block of A applied to a matrix with the block `m`."""
        if self.mix is None:
            return self.core * m
        block = self.core * m + self.mix * m.T
        if self.determinant is not None:  # core + mix, where the sum would cancel
            np.fill_diagonal(block, self._pairs(self.mix)[1] * np.diag(m))
        return block

    def apply(self, z: Tangent) -> Tangent:
        """Return A(z)."""
        return Tangent(z.up * self.up, self.core_block(z.core), z.vp * self.vp)

    def solve(self, z: Tangent) -> Tangent:
        """Return A^{-1}(z) on the tangent space; needs positive coefficients."""
        return Tangent(_divide(z.up, self.up), self.solve_core(z.core), _divide(z.vp, self.vp))

    def solve_core(self, m: Array) -> Array:
        """Return the r x r block of A^{-1} applied to a tangent vector with the block `m`."""
        if self.mix is None:
            return m / self.core
        # the pair (Z_ik, Z_ki) solves [core_ik mix_ik; mix_ki core_ki] x = z along its eigenvectors (c, s) and (-s, c): by
        # Cramer's rule the roundoff of the larger eigenvalue would be divided by the smaller; the diagonal is core + mix
        determinant, diagonal = self._pairs(self.mix)
        mean, half = (self.core + self.core.T) / 2, (self.core - self.core.T) / 2
        root = np.hypot(half, self.mix)
        c, s = _half_angle(half, self.mix, root)
        large = mean + root
        small = np.where(determinant == 0, 1.0, determinant) / np.where(large == 0, 1.0, large)
        along, across = (c * m + s * m.T) / np.where(large == 0, 1.0, large), (c * m.T - s * m) / small
        # both entries of a pair from the same two numbers, or the roundoff of one would enter along the other
        core = np.triu(c * along - s * across, 1) + np.triu(s * along + c * across, 1).T
        np.fill_diagonal(core, np.diag(m) / diagonal)
        return core

    def root(self) -> Coefficients:
        """Return the coefficients of the positive root of A: with R = root^{-1}, <R Z, R Z> = g(Z, Z)."""
        up, vp = np.sqrt(self.up), np.sqrt(self.vp)
        if self.mix is None:
            return Coefficients(np.sqrt(self.core), up, vp)
        # a symmetric positive 2 x 2 matrix M has the root (M + d) / sqrt(tr M + 2 d), d^2 = det M, det root = d
        d = np.sqrt(self._pairs(self.mix)[0])
        t = np.sqrt(self.core + self.core.T + 2 * d)
        return Coefficients((self.core + d) / t, up, vp, self.mix / t, determinant=d)

    def pair_eigenvalues(self) -> Array:
        """Return the eigenvalues of A on the r x r block, as an (r, r) array: the pair [i, k], [k, i] has two."""
        if self.mix is None:
            return self.core
        mean, half = (self.core + self.core.T) / 2, (self.core - self.core.T) / 2
        root = np.hypot(half, self.mix)  # `mix` is symmetric, A being self-adjoint
        determinant, diagonal = self._pairs(self.mix)
        small = mean - root if self.determinant is None else determinant / (mean + root)
        values = np.where(np.triu(np.ones_like(root), 1) > 0, mean + root, small)
        np.fill_diagonal(values, diagonal)
        return values

    def _pairs(self, mix: Array) -> tuple[Array, Array]:
        """Return the determinants of the pair blocks, and the coefficients core + mix of the diagonal entries."""
        if self.determinant is None:
            return self.core * self.core.T - mix * mix.T, np.diag(self.core + mix)
        return self.determinant, np.diag(self.determinant) / np.diag(self.core - mix)

    def spectrum(self, shape: tuple[int, int], *, symmetric: bool = False) -> Array:
        """Return the eigenvalues of A on the tangent space of the rank-r matrices of a shape, in decreasing order.

        With `symmetric`, on the tangent space of the symmetric matrices: one of each pair, one of the frames.
        """
        pairs, (m, n), r = self.pair_eigenvalues(), shape, self.up.size
        if symmetric:
            parts = [pairs[np.triu_indices(r)], np.repeat(self.up, m - r)]
        else:
            parts = [pairs.ravel(), np.repeat(self.up, m - r), np.repeat(self.vp, n - r)]
        return np.sort(np.concatenate(parts))[::-1]

    def largest(self, shape: tuple[int, int]) -> float:
        """Return the largest eigenvalue of A on the tangent space, its spectral norm."""
        (m, n), r = shape, self.up.size
        frames = [c.max() for c, size in ((self.up, m), (self.vp, n)) if size > r]
        return float(max([self.pair_eigenvalues().max(), *frames]))


def _half_angle(x: Array, y: Array, r: Array) -> tuple[Array, Array]:
    """Return cosine and sine of half the angle of (x, y), of length r; (1, 0) where that is zero."""
    r = np.where(r == 0, 1.0, r)
    first = np.sqrt((1 + np.abs(x) / r) / 2)  # the larger of the two
    second = np.abs(y) / (2 * r * first)
    c, s = np.where(x >= 0, first, second), np.where(x >= 0, second, first)
    return c, np.where(y >= 0, s, -s)


def _divide(part: Array, coefficients: Array) -> Array:
    """Return the frame part of a tangent over its coefficients; a square frame has no complement to divide."""
    if part.shape[0] == part.shape[1]:
        return np.zeros_like(part)
    if not np.all(coefficients > 0):
        raise ValueError(
            "`metric` must be positive on the whole tangent space to be inverted, got a zero coefficient."
            " DepthMetric(inf) is degenerate below full rank; use a finite depth."
        )
    return part / coefficients


class Metric(Protocol):
    """What the library asks of a metric.

    The rest is optional; `facts` says what of it a metric has. What is missing, None or cannot be called is absent.

    ``transposable``
        True if the flow of W^T is the transpose of the flow of W, False if not, None where that is not known.
    ``symmetric``
        True for a metric on the symmetric positive semidefinite matrices.
    ``preserves_rank``
        True if no singular value vanishes in finite time; False if they pass zero, the coefficients being smooth and even
        in each of them there: `integrate` then goes on through lower rank where it can (`charts.Ambient`).
    ``root``
        The root p of the singular values, s = l^p, in which the flow is smooth; 1 where it is not said.
    ``root_coefficients(l)``
        The chart's coefficients at s = l^p, as `RootCoefficients`, without differences of close numbers.
    ``frame_rates(s)``
        (up/s, vp/s), the speeds of the singular frames, where 0/0 has a limit.
    ``differences(s)``
        The divided differences (c_ik - c_jk) / (s_i^2 - s_j^2) of the coefficients, (k + 1, k + 1, k + 1), the last index
        for s = 0: the exact Riemannian Hessian and geodesics need them. The core must be symmetric.
    ``mix_differences(s)``
        Beside them, where there is a mix: those of f_ik = mix_ik / (s_i s_k), (f_ik - f_jk) / (s_i^2 - s_j^2), (k, k, k).
    ``flat_coordinates(s)``, ``from_flat_coordinates(x)``
        Coordinates of the singular values in which the geodesics between aligned matrices are straight lines, and back.
    ``name``
        What tables call it; its class where it is not said.
    """

    def coefficients(self, s: Array) -> Coefficients:
        """Return the spectral coefficients at the singular values `s` (k,)."""
        ...


@dataclass(frozen=True)
class RootCoefficients:
    """Coefficients of the flow in the singular frame T = P diag(l) Q^T with s = l^p (see `charts`).

    T' = -P (sym * sym(M) + skew * skew(M)) Q^T and, on the frames, U' takes ``left[k]``, V' ``right[i]``.
    """

    sym: Array
    skew: Array
    left: Array
    right: Array
