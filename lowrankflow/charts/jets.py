"""Jets: matrices with their derivatives along many directions, for exact Jacobians of flows with few unknowns.

A velocity is written once, for arrays; on jets the same lines give its derivative too, by the rules of sum and product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..losses import LossFacts
from ..matrices import Matrix, Product
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


def affordable(loss: LossFacts, start: Matrix, unknowns: int) -> bool:
    """Return whether there is a Jacobian, no array of it is large, and the Hessian it is made of is that of the gradient.

    That is tried at the start along one direction, because a solver with a wrong Jacobian creeps, and one that raises ends
    a run that needs no Hessian.
    """
    m, n = loss.loss.shape
    if loss.hessian is None or m * n * unknowns > _MOST:
        return False
    left, right = start.split()
    a, b = np.cos(np.arange(1.0, m + 1))[:, None], np.cos(np.arange(1.0, n + 1) ** 2)[:, None]
    with np.errstate(all="ignore"):
        h = 1e-4 * (float(np.linalg.norm(left @ (right @ b))) or 1.0) / float(np.linalg.norm(a) * np.linalg.norm(b))
        try:
            plus, minus = (
                loss.loss.gradient(Product(np.hstack([left, sign * h * a]), np.vstack([right, b.T]))) @ b
                for sign in (1, -1)
            )
            found = loss.hessians(Product(left, right), (a @ b.T)[:, :, None])[:, :, 0] @ b
        except Exception:  # a method of the user's may raise anything
            return False
        change = (plus - minus) / (2 * h)
        # a hundredth for the third derivative, and the roundoff of the difference
        room = 1e-2 * np.linalg.norm(change) + 1e-12 * np.linalg.norm(plus) / h
        return bool(np.linalg.norm(found - change) <= room)


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
