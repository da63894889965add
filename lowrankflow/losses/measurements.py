"""Linear maps of W: the first half of a `Measured` loss.

A measurement has ``shape`` (m, n), ``outputs``, the shape of its outputs, ``samples``, by how many a mean divides,
``forward(w)`` and ``adjoint(r)``. The adjoint is what is left of a gradient: low rank, sparse or both, never m x n
unless a factor of it is.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, sparse
from scipy.sparse.linalg import LinearOperator, svds

from .. import validation
from ..matrices import Product
from ..sampling import sampled_product
from ..validation import Array
from ._operators import OperatorSum, Sandwich

__all__ = ["Bilinear", "Entries", "Inputs", "Measurement", "MeasurementSum", "Sensing"]

_NARROW = 32  # up to so many rows or columns a gradient is formed: multiplying it out costs no more than carrying it


class Measurement(Protocol):
    """What `Measured` asks of a measurement. Optional: ``squared_norm``, the largest eigenvalue of A^* A."""

    shape: tuple[int, int]
    outputs: tuple[int, ...]
    samples: int

    def forward(self, w: Any) -> Array:
        """Return the outputs A(W)."""
        ...

    def adjoint(self, r: Array) -> Any:
        """Return A^*(r), an (m, n) matrix-like."""
        ...


class _Sums:
    """What measurements share: they can be added."""

    shape: tuple[int, int]
    outputs: tuple[int, ...]
    samples: int

    def __add__(self, other: Any) -> MeasurementSum:
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

    def __init__(self, inputs: ArrayLike, rows: int) -> None:
        self._x = validation.as_matrix("inputs", inputs)
        validation.check_peak("inputs", self._x)
        if not self._x.any():
            raise ValueError("`inputs` must not be all zero: the loss would not depend on W.")
        m = validation.check_integer("rows", rows, low=1)
        self.samples = self._x.shape[1]
        self.shape, self.outputs = (m, self._x.shape[0]), (m, self.samples)

    def forward(self, w: Any) -> Array:
        """Return W X."""
        return w @ self._x

    def adjoint(self, r: Array) -> Any:
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

    def __init__(self, rows: ArrayLike, cols: ArrayLike, *, shape: tuple[int, int]) -> None:
        m, n = self.shape = validation.check_sizes("shape", shape)
        self._rows, self._cols = validation.as_positions(rows, cols, (m, n))
        self.samples = self._rows.size
        self.outputs = (self.samples,)
        self._pattern = _Pattern(self._rows, self._cols, (m, n))

    def forward(self, w: Any) -> Array:
        """Return W at the positions."""
        if hasattr(w, "entries"):
            return w.entries(self._rows, self._cols)
        return w[self._rows, self._cols]

    def adjoint(self, r: Array) -> Any:
        """Return the sparse array with the values r at the positions."""
        return self._pattern.with_data(r)

    squared_norm = 1.0

    def __repr__(self) -> str:
        return f"Entries({self.shape[0]} x {self.shape[1]}, {self.samples} observed)"


class _Pattern:
    """A CSR pattern, sorted once, that takes data in the order of its positions."""

    def __init__(self, rows: NDArray[Any], cols: NDArray[Any], shape: tuple[int, int]) -> None:
        self.shape = shape
        key = np.arange(rows.size)
        csr = sparse.coo_array((key + 1.0, (rows, cols)), shape=shape).tocsr()
        if csr.nnz < rows.size:  # it added up what stood at one position
            validation.refuse_repeated(rows, cols)
        order = csr.data.astype(np.intp) - 1
        self._order = None if np.array_equal(order, key) else order
        self._indices, self._indptr = csr.indices, csr.indptr

    def with_data(self, r: Array) -> Any:
        data = r if self._order is None else np.take(r, self._order)
        return sparse.csr_array((data, self._indices, self._indptr), shape=self.shape)


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
        If an array is not a finite matrix, the numbers of rows differ without `rows` and `cols`, or a position lies
        outside or occurs twice.

    Notes
    -----
    Without `rows` and `cols` these are rank-one sensing matrices :math:`A_q = x_q y_q^T`.
    """

    def __init__(
        self, left: ArrayLike, right: ArrayLike, rows: ArrayLike | None = None, cols: ArrayLike | None = None
    ) -> None:
        self._left, self._right = validation.as_matrix("left", left), validation.as_matrix("right", right)
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
            self._rows, self._cols = validation.as_positions(rows, cols, (a, b))
            self._pattern, self.samples = _Pattern(self._rows, self._cols, (a, b)), self._rows.size
        self.outputs = (self.samples,)

    def forward(self, w: Any) -> Array:
        """Return the forms."""
        left, right = (w, None) if not hasattr(w, "split") else w.split()
        if right is None:  # an array, autograd's too
            image = self._left @ left
            if self._pattern is None:
                return (image * self._right).sum(axis=1)
            if isinstance(image, np.ndarray):
                return sampled_product(image, self._right.T, self._rows, self._cols)
            return (image @ self._right.T)[self._rows, self._cols]
        x, y = self._left @ left, self._right @ right.T
        if self._pattern is None:
            return np.einsum("qk,qk->q", x, y)
        return sampled_product(x, y.T, self._rows, self._cols)

    def adjoint(self, r: Array) -> Any:
        """Return sum_q r_q x_q y_q^T as a product."""
        if self._pattern is not None:
            return Sandwich(self._left, self._pattern.with_data(r), self._right)
        if min(self.shape) <= _NARROW:
            return (self._left * r[:, None]).T @ self._right
        return Product((self._left * r[:, None]).T, self._right)

    @cached_property
    def squared_norm(self) -> float:
        """The largest eigenvalue of A^* A, by Lanczos iteration on the map itself."""
        return _squared_norm(self)

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

    def __init__(self, matrices: ArrayLike) -> None:
        self._a = validation.as_numbers("matrices", matrices).astype(np.float64)
        if self._a.ndim != 3 or self._a.size == 0:
            raise ValueError(f"`matrices` must have shape (p, m, n), got shape {self._a.shape}.")
        validation.check_finite("matrices", self._a)
        if not self._a.any():
            raise ValueError("`matrices` must not be all zero: the loss would not depend on W.")
        self.samples, m, n = self._a.shape
        self.shape, self.outputs = (m, n), (self.samples,)
        self._flat = self._a.reshape(self.samples, m * n)

    def forward(self, w: Any) -> Array:
        """Return the inner products."""
        dense = w.to_dense() if hasattr(w, "to_dense") else w
        return self._flat @ dense.reshape(-1)

    def adjoint(self, r: Array) -> Any:
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

    def __init__(self, *measurements: Any) -> None:
        if not measurements:
            raise ValueError("`measurements` must not be empty.")
        for a in measurements:
            validation.check_measurement(a)
        first = measurements[0]
        for a in measurements[1:]:
            if a.shape != first.shape or a.outputs != first.outputs:
                raise ValueError(
                    f"`measurements` must have one shape of W and one of the outputs, got {first.shape} -> {first.outputs}"
                    f" and {a.shape} -> {a.outputs}."
                )
        self._terms = measurements
        self.shape, self.outputs, self.samples = first.shape, first.outputs, first.samples

    def forward(self, w: Any) -> Array:
        """Return the sum of the outputs."""
        return sum(a.forward(w) for a in self._terms)

    def adjoint(self, r: Array) -> Any:
        """Return the sum of the adjoints."""
        return OperatorSum(*(a.adjoint(r) for a in self._terms))

    @cached_property
    def squared_norm(self) -> float:
        """The largest eigenvalue of A^* A, by Lanczos iteration on the map itself."""
        return _squared_norm(self)

    def __repr__(self) -> str:
        return " + ".join(map(repr, self._terms))


def _squared_norm(a: Any) -> float:
    """Return the squared spectral norm of a measurement, to 1e-10."""
    (m, n), p = a.shape, int(np.prod(a.outputs))

    def forward(x: Array) -> Array:
        return np.asarray(a.forward(x.reshape(m, n))).ravel()

    def adjoint(r: Array) -> Array:
        return (a.adjoint(r.reshape(a.outputs)) @ np.eye(n)).ravel()

    if min(m * n, p) <= 1:
        return float(linalg.norm(adjoint(np.ones(p)))) ** 2 / p
    operator = LinearOperator((p, m * n), matvec=forward, rmatvec=adjoint, dtype=np.float64)
    v0 = np.random.default_rng(0).standard_normal(min(p, m * n))  # fixed: the answer must not vary between calls
    return float(svds(operator, k=1, v0=v0, tol=1e-10, return_singular_vectors=False)[0]) ** 2
