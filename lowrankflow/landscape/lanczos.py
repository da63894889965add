"""Both ends of the spectrum of a symmetric operator from one Krylov space, under a fixed budget of products.

At a minimiser of a deep linear network nearly all eigenvalues of the Hessian are zero, so the iteration need not converge,
and an implementation that hands out converged pairs alone hands out nothing. Here the Ritz pairs of the moment are the
result, whatever they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import linalg

from ..matrices import EPS
from ..validation import Array


class Ends(NamedTuple):
    """Ritz vectors as rows, and what they took."""

    lowest: Array  #: (smallest, n), the most negative first
    highest: Array  #: (largest, n), the largest first
    products: int


def lanczos(
    apply: Callable[[Array], Array],
    n: int,
    *,
    smallest: int,
    largest: int,
    products: int,
    tolerance: float,
    basis: int,
    rng: np.random.Generator,
) -> Ends:
    r"""Return Ritz vectors at both ends of a symmetric operator, by a thick-restart Lanczos iteration.

    The basis is orthogonalised in full, twice, and the projected matrix made of the coefficients, so that no multiple of a
    Ritz value appears that is none, and a space that is invariant is left by a random vector.

    Parameters
    ----------
    apply : callable
        ``apply(x) -> A x`` for x (n,).
    n : int
        Size.
    smallest, largest : int
        How many at either end.
    products : int
        Largest number of products, at least ``smallest + largest``.
    tolerance : float
        Residual over the largest Ritz value in size at which all are taken for found.
    basis : int
        Vectors kept, at least ``smallest + largest + 2`` or n.
    rng : numpy.random.Generator
        Of the first vector.

    Returns
    -------
    Ends

    References
    ----------
    .. [1] K. Wu, H. Simon, Thick-restart Lanczos method for large symmetric eigenvalue problems, SIAM J. Matrix Anal.
       Appl. 22(2), 2000.
    """
    wanted, basis = smallest + largest, min(basis, n)
    v, t, used, j = np.empty((basis, n)), np.zeros((basis, basis)), 0, 0
    new = rng.standard_normal(n)
    new /= linalg.norm(new)
    while True:
        v[j] = new
        image = np.array(apply(new), dtype=np.float64)  # a copy: it is overwritten
        used += 1
        size = linalg.norm(image)
        c = _orthogonalise(image, v[: j + 1])
        t[j, : j + 1] = t[: j + 1, j] = c
        beta = linalg.norm(image)
        j += 1
        values, s = linalg.eigh(t[:j, :j])
        chosen = np.r_[:smallest, j - largest : j] if j >= wanted else np.arange(0)
        residuals = beta * np.abs(s[-1, chosen])
        settled = j >= wanted and (residuals <= tolerance * np.abs(values).max()).all()
        if settled or used == products or j == n:
            return Ends(s[:, :smallest].T @ v[:j], s[:, j - largest :].T[::-1] @ v[:j], used)
        if beta <= 10 * EPS * np.sqrt(n) * size or size == 0:  # invariant: whatever is left of the image is roundoff
            image = rng.standard_normal(n)
            _orthogonalise(image, v[:j])
            beta = linalg.norm(image)
        new = image / beta
        if j == basis:
            kept = _kept(j, smallest, largest)
            v[: kept.size] = s[:, kept].T @ v
            t[:] = 0.0
            j = kept.size
            t[np.arange(j), np.arange(j)] = values[kept]


def _kept(j: int, smallest: int, largest: int) -> np.ndarray:
    """Return which of j Ritz pairs a restart keeps: those that are wanted and half of the others, next to them."""
    spare = (j - smallest - largest) // 2
    low = spare * smallest // (smallest + largest)
    return np.r_[: smallest + low, j - largest - (spare - low) : j]


def _orthogonalise(x: Array, rows: Array) -> Array:
    """Take the parts along orthonormal rows out of `x`, in place, twice; return them."""
    c = rows @ x
    x -= c @ rows
    again = rows @ x
    x -= again @ rows
    return c + again
