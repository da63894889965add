"""Gradients, which are only ever multiplied: what they answer, their sums and multiples."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from .validation import Array


class MatrixLike(Protocol):
    """What the library asks of a gradient: an array, a sparse array, a product, an operator."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(m, n)."""
        ...

    @property
    def T(self) -> MatrixLike:
        """The transpose, which answers the same questions."""
        ...

    def __matmul__(self, x: Array, /) -> Array: ...


_LARGE, _ROWS = 1_000_000, 64  # entries of an array that no near cache holds; rows of it that one does


def both_sides(g: MatrixLike, v: Array, u: Array) -> tuple[Array, Array]:
    """Return G V and G^T U; a large array is read from memory once for both, not twice."""
    if isinstance(g, OperatorSum):
        (gv, gu), *others = [both_sides(term, v, u) for term in g._terms]
        for a, b in others:
            gv, gu = gv + a, gu + b
        return gv, gu
    if not isinstance(g, np.ndarray) or g.size < _LARGE:
        return g @ v, g.T @ u
    if not g.flags.c_contiguous and g.flags.f_contiguous:
        return both_sides(g.T, u, v)[::-1]
    gv, gu = np.empty((g.shape[0], v.shape[1])), np.zeros((g.shape[1], u.shape[1]))
    for begin in range(0, g.shape[0], _ROWS):
        rows = slice(begin, begin + _ROWS)
        np.matmul(g[rows], v, out=gv[rows])
        gu += g[rows].T @ u[rows]
    return gv, gu


class OperatorSum:
    """The sum of matrix-likes of one shape, as an operator."""

    shape: tuple[int, ...]

    __array_ufunc__ = None

    def __init__(self, *terms: MatrixLike) -> None:
        self._terms, self.shape = terms, terms[0].shape

    @property
    def T(self) -> OperatorSum:
        return OperatorSum(*(term.T for term in self._terms))

    def __matmul__(self, x: Array) -> Array:
        first, *others = self._terms
        total = first @ x
        for term in others:
            total = total + term @ x
        return total

    def to_dense(self) -> Array:
        """Return the array (m, n)."""
        return self @ np.eye(self.shape[1])


class Multiple:
    """A matrix-like times a number."""

    shape: tuple[int, ...]

    __array_ufunc__ = None

    def __init__(self, inner: MatrixLike, factor: float) -> None:
        self._inner, self._factor, self.shape = inner, factor, inner.shape

    @property
    def T(self) -> Multiple:
        return Multiple(self._inner.T, self._factor)

    def __matmul__(self, x: Array) -> Array:
        return self._factor * (self._inner @ x)


class Sandwich:
    """left^T S right, for S sparse or an array in the middle."""

    shape: tuple[int, ...]

    __array_ufunc__ = None

    def __init__(self, left: Array, middle: MatrixLike, right: Array) -> None:
        self._left, self._middle, self._right = left, middle, right
        self.shape = (left.shape[1], right.shape[1])

    @property
    def T(self) -> Sandwich:
        return Sandwich(self._right, self._middle.T, self._left)

    def __matmul__(self, x: Array) -> Array:
        return self._left.T @ (self._middle @ (self._right @ x))
