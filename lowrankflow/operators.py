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
