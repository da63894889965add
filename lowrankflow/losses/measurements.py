"""Linear maps of W: the first half of a `Measured` loss.

A measurement has ``shape`` (m, n), ``outputs``, the shape of its outputs, ``samples``, by how many a mean divides,
``forward(w)`` and ``adjoint(r)``. The adjoint is what is left of a gradient: low rank, sparse or both, never m x n
unless a factor of it is.
"""

from __future__ import annotations

from copy import copy
from functools import cached_property, reduce
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, sparse

from .. import validation
from ..entries import as_positions, refuse_repeated, sampled_product
from ..matrices import MatrixOrArray, Product
from ..matrices.requirements import as_dense
from ..operators import MatrixLike, OperatorSum, Sandwich
from ..validation import Array
from .misfits import as_reals

__all__ = ["Bilinear", "Entries", "Inputs", "Measurement", "MeasurementSum", "Sensing"]

_GRAM = 2000  # samples up to which the norm of bilinear forms comes from their Gram matrix
_NARROW = 32  # up to so many rows or columns a gradient is formed: multiplying it out costs no more than carrying it


class Measurement(Protocol):
    """What `Measured` asks of a measurement. Optional: ``squared_norm``, a bound on the eigenvalues of A^* A."""

    shape: tuple[int, int]
    outputs: tuple[int, ...]
    samples: int

    def forward(self, w: MatrixOrArray) -> Array:
        """Return the outputs A(W)."""
        ...

    def adjoint(self, r: Array) -> MatrixLike:
        """Return A^*(r), an (m, n) matrix-like."""
        ...


class _Sums:
    """What measurements share: they can be added."""

    shape: tuple[int, int]
    outputs: tuple[int, ...]
    samples: int

    def __add__(self: Measurement, other: Measurement) -> MeasurementSum:
        return MeasurementSum(self, other)


class Inputs(_Sums):
    r"""The outputs :math:`Z = W X` of a linear map, samples in columns.

    Parameters
    ----------
    inputs : array_like, (n, p)
        X, one sample a column.
    rows : int
        m, the number of outputs a sample.

    Raises
    ------
    ValueError, TypeError
        If the inputs are empty, not finite, all zero or no matrix.
    """

    samples: int
    shape: tuple[int, int]
    outputs: tuple[int, ...]

    def __init__(self, inputs: ArrayLike, rows: int) -> None:
        self._x = validation.own(validation.as_matrix("inputs", inputs))
        _check_size("inputs", self._x)
        m = validation.require_integer("rows", rows, low=1)
        self.samples = self._x.shape[1]
        self.shape, self.outputs = (m, self._x.shape[0]), (m, self.samples)

    def forward(self, w: MatrixOrArray) -> Array:
        """Return W X."""
        return w @ self._x

    def adjoint(self, r: Array) -> MatrixLike:
        """Return R X^T: an array where it is narrow, else a product of inner size p."""
        if min(self.shape) <= _NARROW:
            return r @ self._x.T
        return Product(r, self._x.T)

    @cached_property
    def squared_norm(self) -> float:
        """The largest eigenvalue of X X^T."""
        return float(linalg.norm(self._x, 2)) ** 2

    def __repr__(self) -> str:
        return f"Inputs({self.shape[0]} x {self.shape[1]}, {self.samples} samples)"


class Entries(_Sums):
    r"""Entries :math:`z_q = W_{i_q j_q}` at given positions.

    Parameters
    ----------
    rows, cols : array_like of int, (p,)
        Positions, each once, in any order: outputs and targets are in yours.
    shape : tuple of int
        (m, n).

    Raises
    ------
    ValueError, TypeError
        If a position lies outside the shape or occurs twice, or the two differ in length.
    """

    shape: tuple[int, int]
    samples: int
    outputs: tuple[int, ...]

    def __init__(self, rows: ArrayLike, cols: ArrayLike, *, shape: tuple[int, int]) -> None:
        m, n = self.shape = validation.require_sizes("shape", shape)
        self._pattern = _Pattern(*as_positions(rows, cols, (m, n)), (m, n))
        self.samples = self._pattern.rows.size
        self.outputs = (self.samples,)

    def forward(self, w: MatrixOrArray) -> Array:
        """Return W at the positions."""
        rows, cols = self._pattern.rows, self._pattern.cols
        return w.entries(rows, cols) if hasattr(w, "entries") else w[rows, cols]

    def adjoint(self, r: Array) -> MatrixLike:
        """Return the sparse array with the values r at the positions."""
        return self._pattern.with_data(r)

    squared_norm: float = 1.0

    def __repr__(self) -> str:
        return f"Entries({self.shape[0]} x {self.shape[1]}, {self.samples} observed)"


class _Pattern:
    """A CSR pattern, sorted once, that takes data in the order of the positions that it was made of."""

    def __init__(self, rows: NDArray[Any], cols: NDArray[Any], shape: tuple[int, int]) -> None:
        self.shape = shape
        key = np.arange(rows.size)
        csr = sparse.coo_array((key + 1.0, (rows, cols)), shape=shape).tocsr()
        if csr.nnz < rows.size:  # it added up what stood at one position
            refuse_repeated(rows, cols)
        order = csr.data.astype(np.intp) - 1
        #: which of the positions come where in memory; None: they were given so
        self.order = None if np.array_equal(order, key) else order
        self.rows, self.cols = validation.own(rows), validation.own(cols)
        self._indices, self._indptr = csr.indices, csr.indptr

    def with_data(self, r: Array) -> MatrixLike:
        """Return the sparse array with the values r at the positions."""
        # mode="clip" skips numpy's bounds check, a sixth of the time: the order is a permutation
        data = r if self.order is None else np.take(r, self.order, mode="clip")
        # positions of its own: eliminate_zeros() and its like write into them
        indices, indptr = self._indices.copy(), self._indptr.copy()
        return cast(MatrixLike, sparse.csr_array((data, indices, indptr), shape=self.shape))

    def in_order(self) -> _Pattern:
        """Return the same pattern made of positions in memory order."""
        other = copy(self)
        other.order, other.cols = None, self._indices
        other.rows = np.repeat(np.arange(self.shape[0], dtype=self._indices.dtype), np.diff(self._indptr))
        return other


def in_order(measurement: Measurement) -> tuple[Measurement, NDArray[Any] | None]:
    """Return a measurement with its outputs in memory order, and which of the outputs come where; None: as they were."""
    if not isinstance(measurement, (Entries, Bilinear)) or type(measurement) not in (Entries, Bilinear):
        return measurement, None  # a subclass may count on the order given
    pattern = measurement._pattern
    if pattern is None or pattern.order is None:
        return measurement, None
    other = copy(measurement)
    other._pattern = pattern.in_order()
    return other, pattern.order


class Bilinear(_Sums):
    r"""Bilinear forms :math:`z_q = x_q^T W y_q`: recommendation with features of users and of items.

    Parameters
    ----------
    left : array_like, (a, m)
        Features x, one a row.
    right : array_like, (b, n)
        Features y, one a row.
    rows, cols : array_like of int, (p,), optional
        Which x and y meet: ``z_q = left[rows[q]] @ W @ right[cols[q]]``, each pair once. None: the q-th meet (a = b).

    Raises
    ------
    ValueError, TypeError
        If an array is not a finite matrix or is all zero, the numbers of rows differ without `rows` and `cols`, or a
        position lies outside or occurs twice.

    Notes
    -----
    Without `rows` and `cols` these are rank-one sensing matrices :math:`A_q = x_q y_q^T`.
    """

    shape: tuple[int, int]
    samples: int
    outputs: tuple[int, ...]

    def __init__(
        self, left: ArrayLike, right: ArrayLike, rows: ArrayLike | None = None, cols: ArrayLike | None = None
    ) -> None:
        self._left = validation.own(validation.as_matrix("left", left))
        self._right = validation.own(validation.as_matrix("right", right))
        _check_size("left", self._left)
        _check_size("right", self._right)
        (a, m), (b, n) = self._left.shape, self._right.shape
        self.shape = (m, n)
        self._pattern: _Pattern | None = None
        if (rows is None) != (cols is None):
            raise ValueError("`rows` and `cols` must be given together, got one of them.")
        if rows is None or cols is None:
            if a != b:
                raise ValueError(f"`right` must have as many rows as `left`, got {b} and {a}. Or pass rows and cols.")
            self.samples = a
        else:
            self._pattern = _Pattern(*as_positions(rows, cols, (a, b)), (a, b))
            self.samples = self._pattern.rows.size
        self.outputs = (self.samples,)

    def forward(self, w: MatrixOrArray) -> Array:
        """Return the forms."""
        left, right = (w, None) if not hasattr(w, "split") else w.split()
        x = self._left @ left
        y = self._right.T if right is None else right @ self._right.T
        if self._pattern is None:
            return (x * y.T).sum(axis=1)
        rows, cols = self._pattern.rows, self._pattern.cols
        if isinstance(x, np.ndarray):
            return sampled_product(x, y, rows, cols)
        return (x @ y)[rows, cols]  # what autograd traces

    def adjoint(self, r: Array) -> MatrixLike:
        """Return sum_q r_q x_q y_q^T as a product."""
        if self._pattern is not None:
            return Sandwich(self._left, self._pattern.with_data(r), self._right)
        if min(self.shape) <= _NARROW:
            return (self._left * r[:, None]).T @ self._right
        return Product((self._left * r[:, None]).T, self._right)

    @cached_property
    def squared_norm(self) -> float:
        """The largest eigenvalue of A^* A, or where pairs are many or given by positions the bound ||X||^2 ||Y||^2."""
        if self._pattern is None and self.samples <= _GRAM:
            # A A^* is the entrywise product of the two Gram matrices
            gram = (self._left @ self._left.T) * (self._right @ self._right.T)
            return float(linalg.eigvalsh(gram, subset_by_index=[self.samples - 1] * 2)[0])
        return float(linalg.norm(self._left, 2) * linalg.norm(self._right, 2)) ** 2

    def __repr__(self) -> str:
        return f"Bilinear({self.shape[0]} x {self.shape[1]}, {self.samples} pairs)"


class Sensing(_Sums):
    r"""Inner products :math:`z_q = \langle A_q, W \rangle_F` with dense sensing matrices.

    Parameters
    ----------
    matrices : array_like, (p, m, n)
        A_1, ..., A_p. For rank-one matrices x y^T use `Bilinear`, which never forms them.

    Raises
    ------
    ValueError, TypeError
        If it is no finite array with three axes, or all of it is zero.

    Notes
    -----
    The data are p times as large as W, so W and the gradient are formed here as arrays.
    """

    samples: int
    shape: tuple[int, int]
    outputs: tuple[int, ...]

    def __init__(self, matrices: ArrayLike) -> None:
        self._a = as_reals("matrices", matrices)
        if self._a.ndim != 3 or self._a.size == 0:
            raise ValueError(f"`matrices` must have shape (p, m, n), got shape {self._a.shape}.")
        _check_size("matrices", self._a)
        self.samples, m, n = self._a.shape
        self.shape, self.outputs = (m, n), (self.samples,)
        self._flat = self._a.reshape(self.samples, m * n)

    def forward(self, w: MatrixOrArray) -> Array:
        """Return the inner products."""
        return self._flat @ as_dense(w).reshape(-1)

    def adjoint(self, r: Array) -> MatrixLike:
        """Return sum_q r_q A_q, an array."""
        return (r @ self._flat).reshape(self.shape)

    @cached_property
    def squared_norm(self) -> float:
        """The largest eigenvalue of A^* A."""
        return float(linalg.norm(self._flat, 2)) ** 2

    def __repr__(self) -> str:
        return f"Sensing({self.shape[0]} x {self.shape[1]}, {self.samples} matrices)"


class MeasurementSum(_Sums):
    """The sum of measurements with outputs of one shape: z = A_1(W) + A_2(W) + ...; also written ``a + b``.

    Raises
    ------
    ValueError, TypeError
        If their shapes or their outputs differ, or one is no measurement.
    """

    shape: tuple[int, int]
    outputs: tuple[int, ...]
    samples: int

    def __init__(self, *measurements: Measurement) -> None:
        if not measurements:
            raise ValueError("`measurements` must not be empty.")
        for a in measurements:
            require_measurement(a)
        first = measurements[0]
        for a in measurements[1:]:
            if a.shape != first.shape or a.outputs != first.outputs:
                raise ValueError(
                    f"`measurements` must have one shape of W and one of the outputs, got {first.shape} -> {first.outputs}"
                    f" and {a.shape} -> {a.outputs}."
                )
        self._terms = measurements
        self.shape, self.outputs, self.samples = first.shape, first.outputs, first.samples

    def forward(self, w: MatrixOrArray) -> Array:
        """Return the sum of the outputs."""
        return reduce(np.add, (a.forward(w) for a in self._terms))

    def adjoint(self, r: Array) -> MatrixLike:
        """Return the sum of the adjoints."""
        return OperatorSum(*(a.adjoint(r) for a in self._terms))

    @cached_property
    def squared_norm(self) -> float:
        """A bound on the largest eigenvalue of A^* A: norms add up at most."""
        norms = [validation.optional(a, "squared_norm") for a in self._terms]
        if None in norms:
            raise AttributeError("squared_norm")
        return float(sum(np.sqrt(norm) for norm in norms)) ** 2

    def __repr__(self) -> str:
        return " + ".join(map(repr, self._terms))


def _check_size(name: str, array: Array) -> None:
    """Refuse data that are all zero, or whose squares over- or underflow."""
    validation.require_peak(name, array)
    if not array.any():
        raise ValueError(f"`{name}` must not be all zero: the loss would not depend on W.")


def require_measurement(a: Any) -> None:
    """Refuse what is not a measurement: shape, outputs, samples, forward(w), adjoint(r)."""
    missing = [name for name in ("shape", "outputs", "samples", "forward", "adjoint") if not hasattr(a, name)]
    if missing or isinstance(a, type):
        lacks = f", which lacks {' and '.join(missing)}" if missing and not isinstance(a, type) else ""
        raise TypeError(
            f"`measurement` must have shape, outputs, samples, forward(w) and adjoint(r), got {validation.describe(a)}{lacks}."
            " Use Inputs, Entries, Bilinear or Sensing."
        )
