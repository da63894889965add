"""Jets: matrices with their derivatives along many directions, for exact Jacobians of flows with few unknowns.

A velocity is written once, for arrays; on jets the same lines give its derivative too, by the rules of sum and product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..losses import LossFacts
from ..matrices import Product
from ..operators import MatrixLike
from ..validation import Array

__all__ = ["Jet", "affordable", "jacobian"]

_MOST = 4_000_000  # numbers in the derivatives of G: beyond that nobody wants a dense Jacobian


class Jet:
    """A matrix (a, b) with its derivatives along D directions, (a, b, D)."""

    value: Array
    slope: Array
    shape: tuple[int, ...]

    __array_ufunc__ = None  # array @ jet is ours

    def __init__(self, value: Array, slope: Array) -> None:
        self.value, self.slope, self.shape = value, slope, value.shape

    @property
    def T(self) -> Jet:
        return Jet(self.value.T, self.slope.swapaxes(0, 1))

    def __matmul__(self, other: Jet | Array) -> Jet:
        if isinstance(other, Jet):
            slope = _after(self.slope, other.value) + _before(self.value, other.slope)
            return Jet(self.value @ other.value, slope)
        return Jet(self.value @ other, _after(self.slope, other))

    def __rmatmul__(self, other: Array) -> Jet:
        return Jet(other @ self.value, _before(other, self.slope))

    def __add__(self, other: Jet) -> Jet:
        return Jet(self.value + other.value, self.slope + other.slope)

    def __sub__(self, other: Jet) -> Jet:
        return Jet(self.value - other.value, self.slope - other.slope)

    def __rmul__(self, factor: float) -> Jet:
        return Jet(factor * self.value, factor * self.slope)


class _Gradient:
    """A gradient G, which is only multiplied, with its derivatives (m, n, D)."""

    def __init__(self, value: MatrixLike, slope: Array) -> None:
        self.value, self.slope, self.shape = value, slope, value.shape

    @property
    def T(self) -> _Gradient:
        return _Gradient(self.value.T, self.slope.swapaxes(0, 1))

    def __matmul__(self, other: Jet) -> Jet:
        return Jet(self.value @ other.value, _after(self.slope, other.value) + _before(self.value, other.slope))


def _after(slope: Array, b: Array) -> Array:
    """Return X B for every X of a stack (a, k, D)."""
    return np.matmul(b.T, slope)


def _before(a: MatrixLike, slope: Array) -> Array:
    """Return A X for every X of a stack (k, b, D)."""
    k, b, d = slope.shape
    return (a @ slope.reshape(k, b * d)).reshape(-1, b, d)


def affordable(loss: LossFacts, unknowns: int) -> bool:
    """Return whether there is a Jacobian, and no array of it is large."""
    m, n = loss.loss.shape
    return loss.hessian is not None and m * n * unknowns <= _MOST


def jacobian(
    velocity: Callable[[Sequence[Jet], Callable[[Any], Any]], Sequence[Jet]], blocks: Sequence[Array], loss: LossFacts
) -> Array:
    """Return the Jacobian of a velocity with respect to its blocks, one after the other, each in C order.

    Parameters
    ----------
    velocity : callable
        ``velocity(blocks, gradient)``: one matrix a block, written with sums, products and transposes. It asks ``gradient(w)``
        once, of a W whose ``split()`` gives two of its jets.
    blocks : sequence of ndarray
        Where.
    loss : LossFacts
        Of a loss with a Hessian.
    """
    size, begin, jets = sum(b.size for b in blocks), 0, []
    for block in blocks:
        slope = np.zeros((block.size, size))
        slope[:, begin : begin + block.size] = np.eye(block.size)
        jets.append(Jet(block, slope.reshape(*block.shape, size)))
        begin += block.size

    def gradient(w: Any) -> _Gradient:
        left, right = w.split()
        at = Product._trusted(left.value, right.value)
        return _Gradient(loss.loss.gradient(at), loss.hessians(at, (left @ right).slope))

    return np.concatenate([jet.slope.reshape(-1, size) for jet in velocity(jets, gradient)])
