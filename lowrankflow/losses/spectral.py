"""Losses of the singular values: what weight decay becomes downstairs, and distances between covariances.

They are smooth on matrices of fixed rank, not across ranks: their gradient is that along the manifold, with no normal
part, and ``fixed_rank`` says so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg

from .. import validation
from ..matrices import LowRankMatrix, MatrixOrArray, Product
from ..matrices.requirements import as_dense, as_operand
from ..validation import Array

__all__ = ["BuresWasserstein", "Schatten"]


class Schatten:
    r"""Weight decay of balanced factors, seen from their product: :math:`\gamma \tfrac N2 \sum_i \sigma_i^{2/N}`.

    The least of :math:`\tfrac\gamma2 \sum_j \|W_j\|_F^2` over all factorisations of W into N factors, attained by the
    balanced ones.

    Parameters
    ----------
    shape : tuple of int
        (m, n).
    depth : float
        N; 2 gives :math:`\gamma` times the nuclear norm, 1 half of it times the square of the Frobenius norm.
    strength : float
        :math:`\gamma`, positive.

    Raises
    ------
    ValueError, TypeError
        If the depth is below 1 or the strength not positive.

    Notes
    -----
    Its gradient on the matrices of the rank of W is :math:`\gamma U \sigma^{2/N - 1} V^T`; the depth-N flow of it alone
    is :math:`\dot W = -\gamma N W`.
    """

    shape: tuple[int, int]
    depth: float
    strength: float
    convex: bool

    fixed_rank = True  #: smooth along the matrices of one rank alone

    def __init__(self, shape: tuple[int, int], *, depth: float, strength: float = 1.0) -> None:
        self.shape = validation.require_sizes("shape", shape)
        self.depth, self.strength = (
            validation.require_number("depth", depth),
            validation.require_number("strength", strength),
        )
        if self.depth < 1:
            raise ValueError(f"`depth` must be at least 1, got {self.depth:g}.")
        self.convex = self.depth <= 2

    def value(self, w: MatrixOrArray) -> float:
        """Return the value, from the singular values of W."""
        w = as_operand("w", w, self.shape)
        if not hasattr(w, "split"):
            w = as_dense(w)
        if not (w.norm() if hasattr(w, "norm") else np.linalg.norm(w)) > 0:
            return 0.0
        return self.strength * self.depth / 2 * float((_low_rank(w).s ** (2 / self.depth)).sum())

    def gradient(self, w: MatrixOrArray) -> Product:
        """Return the gradient along the matrices of the rank of W, of that rank."""
        w = as_operand("w", w, self.shape)
        p = _low_rank(w)
        return Product(p.u * (self.strength * p.s ** (2 / self.depth - 1)), p.vt)

    def __repr__(self) -> str:
        return f"Schatten({self.shape[0]} x {self.shape[1]}, depth={self.depth:g}, strength={self.strength:g})"


class BuresWasserstein:
    r"""The generative loss of a linear map of white noise, :math:`B^2(W W^T, \Sigma)`.

    .. math:: B^2(W W^T, \Sigma) = \|W\|_F^2 + \operatorname{tr}\Sigma - 2 \|\Sigma^{1/2} W\|_*, \qquad
              \nabla = 2\,(W - \Sigma^{1/2} \operatorname{polar}(\Sigma^{1/2} W)) .

    Parameters
    ----------
    covariance : array_like, (m, m)
        :math:`\Sigma`, symmetric positive semidefinite.
    columns : int
        n, the dimension of the noise.

    Raises
    ------
    ValueError, TypeError
        If the covariance is not symmetric positive semidefinite.

    References
    ----------
    .. [1] P. Brechet, K. Papagiannouli, J. An, G. Montufar, Critical points and convergence analysis of generative deep
       linear networks trained with Bures-Wasserstein loss, ICML 2023.
    """

    shape: tuple[int, int]

    fixed_rank = True  #: smooth along the matrices of one rank alone
    convex = False

    def __init__(self, covariance: ArrayLike, columns: int) -> None:
        sigma = validation.as_matrix("covariance", covariance)
        m = sigma.shape[0]
        if sigma.shape != (m, m):
            raise ValueError(f"`covariance` must be square, got shape {sigma.shape}.")
        size = float(linalg.norm(sigma)) or 1.0
        asymmetry = float(linalg.norm(sigma - sigma.T)) / size
        values, vectors = linalg.eigh((sigma + sigma.T) / 2)
        if asymmetry > 1e-10 or values[0] < -1e-10 * size:
            raise ValueError(
                f"`covariance` must be symmetric positive semidefinite, got an asymmetry of {asymmetry:.2g} and a"
                f" smallest eigenvalue of {values[0]:.2g}."
            )
        self.shape = (m, validation.require_integer("columns", columns, low=1))
        self._root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T

    def _aligned(self, w: MatrixOrArray) -> tuple[LowRankMatrix, Array, Array]:
        """Return W, and with U diag(s) V^T = W and the polar factor P Q of Sigma^{1/2} U diag(s): P, and the rest."""
        w = as_operand("w", w, self.shape)
        w = _low_rank(w)
        left = w.u * w.s
        p, _, q = linalg.svd(self._root @ left, full_matrices=False, check_finite=False)
        return w, p, left - self._root @ (p @ q)

    def value(self, w: MatrixOrArray) -> float:
        """Return the squared distance."""
        # |W - Sigma^{1/2} polar|^2 and what of Sigma the polar factor does not reach: no difference of large numbers
        _, p, rest = self._aligned(w)
        return float(linalg.norm(rest)) ** 2 + float(linalg.norm(self._root - (self._root @ p) @ p.T)) ** 2

    def gradient(self, w: MatrixOrArray) -> Product:
        """Return the gradient along the matrices of the rank of W."""
        w, _, rest = self._aligned(w)
        return Product(2 * rest, w.vt)

    def __repr__(self) -> str:
        return f"BuresWasserstein({self.shape[0]} x {self.shape[1]})"


def _low_rank(w: MatrixOrArray) -> LowRankMatrix:
    """Return W by its singular values."""
    if isinstance(w, LowRankMatrix):
        return w
    return w.to_low_rank() if hasattr(w, "to_low_rank") else LowRankMatrix.from_dense(as_dense(w))
