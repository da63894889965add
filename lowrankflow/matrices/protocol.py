"""What W answers, whichever of its representations it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..validation import Array

if TYPE_CHECKING:
    from .representations import LowRankMatrix

__all__ = ["Matrix", "MatrixOrArray"]


class Matrix(Protocol):
    """W as the library holds it: `LowRankMatrix`, `Product`, `LinearNetwork`. A loss asks it for nothing else."""

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        ...

    @property
    def T(self) -> Matrix:
        """The transpose, in the same representation."""
        ...

    def __matmul__(self, x: Array, /) -> Array: ...

    def __rmatmul__(self, x: Array, /) -> Array: ...

    def split(self) -> tuple[Array, Array]:
        """Return two thin matrices whose product is W."""
        ...

    def entries(self, rows: NDArray[np.integer[Any]], cols: NDArray[np.integer[Any]]) -> Array:
        """Return W at positions."""
        ...

    def norm(self) -> float:
        """Return ||W||_F."""
        ...

    def to_dense(self) -> Array:
        """Return the array (m, n)."""
        ...

    def to_low_rank(self, rank: int | None = None) -> LowRankMatrix:
        """Return the best approximation of the given rank; None means the numerical rank."""
        ...


MatrixOrArray = Matrix | Array  #: what a shipped loss takes; yours need not take arrays
