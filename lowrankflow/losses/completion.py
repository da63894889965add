"""The square loss on observed entries."""

from __future__ import annotations

from copy import copy
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from .. import validation
from ..entries import as_index, refuse_repeated
from ..matrices import MatrixOrArray
from ..matrices.requirements import as_operand
from ..operators import MatrixLike
from ..validation import Array
from .protocol import Reduction


class Completion:
    r"""The square loss on observed entries, :math:`L(W) = \tfrac{1}{2} \sum_{(i,j)} (W_{ij} - y_{ij})^2`.

    Parameters
    ----------
    rows, cols : array_like of int, (p,)
        Positions of the observed entries, each once.
    values : array_like, (p,)
        The observed values y, not all equal to zero.
    shape : tuple of int
        (m, n), the shape of W.
    reduction : {"sum", "mean"}
        "mean" divides by the number of observed entries.

    Attributes
    ----------
    shape : tuple of int
        (m, n).
    rows, cols : ndarray of intp, (p,)
        The positions, sorted by rows and then columns; a copy each time, the loss keeps half as many bytes.
    values : ndarray, (p,)
        The observed values, in that order.
    curvature : float
        Largest eigenvalue of the Hessian: 1 for "sum", 1 / p for "mean".

    Raises
    ------
    ValueError, TypeError
        If there are no observations, the three arrays differ in length, a position lies outside the
        shape or occurs twice, a value is not finite, or the largest lies outside 1e-35 .. 1e35.

    Notes
    -----
    The gradient is a sparse array on one pattern, sorted once; a call only replaces its data. Value
    and gradient cost O(p k) for W of inner size k, and never form m x n. The loss keeps 16 bytes an
    observation (positions as int32 below 2^31, which samples as fast as intp), a gradient 12.

    Examples
    --------
    >>> loss = Completion([0, 1], [1, 0], [2.0, 3.0], shape=(2, 2))
    >>> loss.gradient(np.zeros((2, 2))).toarray().tolist()
    [[0.0, -2.0], [-3.0, 0.0]]
    """

    shape: tuple[int, int]
    values: Array

    differentiable_by_autograd = False  #: autograd cannot trace sampled entries of W
    convex = True  #: in W
    lower_bound: float = 0.0

    def __init__(
        self,
        rows: ArrayLike,
        cols: ArrayLike,
        values: ArrayLike,
        shape: tuple[int, int],
        *,
        reduction: Reduction = "sum",
    ) -> None:
        validation.require_choice("reduction", reduction, ("sum", "mean"))
        m, n = validation.require_sizes("shape", shape)
        self.shape = (m, n)
        y = validation.as_vector("values", values)
        index = np.dtype(np.int32 if max(m, n, y.size) < np.iinfo(np.int32).max else np.int64)
        r, c = as_index("rows", rows, m, index), as_index("cols", cols, n, index)
        if y.size == 0:
            raise ValueError("`values` must not be empty: nothing was observed.")
        if not r.shape == c.shape == y.shape:
            raise ValueError(
                f"`rows`, `cols` and `values` must have one shape (p,), got {r.shape}, {c.shape} and {y.shape}."
            )
        validation.require_peak("values", y)
        if not y.any():
            raise ValueError("`values` must not be all zero: the best matrix is zero, which has no rank-k part.")
        # sorts in time linear in the observations, where lexsort takes five times as long
        pattern = sparse.coo_array((y, (r, c)), shape=self.shape).tocsr()
        if pattern.nnz < y.size:  # it added up what stood at one position
            refuse_repeated(r, c)
        self.values = validation.read_only(pattern.data)
        self._cols, self._indptr = pattern.indices, pattern.indptr
        self._rows = np.repeat(np.arange(m, dtype=self._cols.dtype), np.diff(self._indptr))
        self.reduction = reduction
        self._weight = 1.0 if reduction == "sum" else 1.0 / y.size

    @classmethod
    def from_sparse(cls, matrix: Any, *, reduction: Reduction = "sum") -> Completion:
        """Return the loss of a scipy sparse matrix whose stored entries, explicit zeros included, were observed."""
        if not sparse.issparse(matrix):
            raise TypeError(f"`matrix` must be a scipy sparse matrix, got {validation.describe(matrix)}.")
        validation.require_real("matrix", matrix)
        stored: Any = matrix
        coo: Any = sparse.coo_array(stored)
        values = coo.data
        if stored.format == "dia":  # the one format that loses its zeros on the way
            places = np.arange(1, stored.data.size + 1).reshape(stored.data.shape)
            coo = sparse.dia_array((places, stored.offsets), shape=stored.shape).tocoo()
            values = stored.data.ravel()[coo.data - 1]
        rows, cols = coo.coords
        return cls(rows, cols, values, coo.shape, reduction=reduction)

    @property
    def rows(self) -> NDArray[np.intp]:
        return self._rows.astype(np.intp)

    @property
    def cols(self) -> NDArray[np.intp]:
        return self._cols.astype(np.intp)

    @property
    def normalisation(self) -> str:
        """The loss in one line, with its normalisation."""
        total = f"1/2 sum over {self.values.size} observed entries of (W_ij - y_ij)^2"
        return total if self.reduction == "sum" else f"{total} / {self.values.size}"

    @property
    def curvature(self) -> float:
        return self._weight

    def _entries(self, name: str, w: MatrixOrArray) -> Array:
        """Return W at the observed positions, a fresh array; sampling itself does not look at the shape."""
        w = as_operand(name, w, self.shape)
        if hasattr(w, "entries"):
            return w.entries(self._rows, self._cols)
        return np.asarray(w[self._rows, self._cols], dtype=np.float64)

    def _residual(self, w: MatrixOrArray) -> Array:
        residual = self._entries("w", w)
        residual -= self.values
        return residual

    def _weighted(self, data: Array) -> MatrixLike:
        """Return data times the weight on the pattern; `data` is overwritten."""
        if self._weight != 1.0:
            data *= self._weight
        # positions of its own: eliminate_zeros() and its like write into them
        return cast(MatrixLike, sparse.csr_array((data, self._cols.copy(), self._indptr.copy()), shape=self.shape))

    def value(self, w: MatrixOrArray) -> float:
        """Return L(W)."""
        residual = self._residual(w)
        return 0.5 * self._weight * float(residual @ residual)

    def gradient(self, w: MatrixOrArray) -> MatrixLike:
        """Return the gradient, a sparse (m, n) array on the pattern of the observations."""
        return self._weighted(self._residual(w))

    def value_and_gradient(self, w: MatrixOrArray) -> tuple[float, MatrixLike]:
        """Return both, sharing the residual."""
        residual = self._residual(w)
        value = 0.5 * self._weight * float(residual @ residual)
        return value, self._weighted(residual)

    def hessian(self, w: MatrixOrArray, z: MatrixOrArray) -> MatrixLike:
        """Return the Hessian applied to Z: Z on the pattern, times the weight; it does not depend on W."""
        return self._weighted(self._entries("z", z))

    def shifted(self, w0: MatrixOrArray) -> Completion:
        """Return the loss of W_0 + W as one of W: its values are y - W_0 there."""
        moved = copy(self)
        moved.values = validation.read_only(self.values - self._entries("w0", w0))
        return moved

    def __repr__(self) -> str:
        m, n = self.shape
        return f"Completion({m} x {n}, {self.values.size} observed, reduction={self.reduction!r})"
