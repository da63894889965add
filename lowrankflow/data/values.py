"""What data are before they are prepared: samples in rows, or observed entries of a matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import validation
from ..losses import Completion
from ..validation import Array

__all__ = ["DataSet", "Observations"]

_LONGEST = 10**7  # rows or columns of a sparse matrix: one vector of that length takes 80 MB


@dataclass(frozen=True, eq=False)
class DataSet:
    """Inputs and targets as they lie in a file: one sample a row.

    Attributes
    ----------
    name : str
        What the report calls it.
    inputs : ndarray, (p, n)
        p samples of n features.
    targets : ndarray, (p, m), or None
        None: the targets are the inputs (autoencoding). A vector is one target a sample.
    description : str
        One line.
    features : tuple of str
        What the inputs are called, one a feature; () where nobody says.

    Raises
    ------
    ValueError, TypeError
        If an array is not a finite non-empty real matrix, or the numbers of samples differ.
    """

    name: str
    inputs: Array
    targets: Array | None = None
    description: str = ""
    features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        x = validation.as_matrix("inputs", self.inputs, column=True)
        object.__setattr__(self, "inputs", x)
        if self.targets is None:
            return
        y = validation.as_matrix("targets", self.targets, column=True)
        object.__setattr__(self, "targets", y)
        if x.shape[0] != y.shape[0]:
            hint = " Did you mean the transpose? One sample is one row." if x.shape[0] == y.shape[1] else ""
            raise ValueError(
                f"`targets` must have as many rows (samples) as `inputs`, got {y.shape[0]} and {x.shape[0]}.{hint}"
            )

    @property
    def task(self) -> str:
        """The word "autoencoding" or "regression"."""
        return "autoencoding" if self.targets is None else "regression"


@dataclass(frozen=True, eq=False)
class Observations:
    """Observed entries of a matrix, sorted by rows and then columns.

    Attributes
    ----------
    name : str
        What the report calls it.
    rows, cols : ndarray of intp, (p,)
        Zero-based positions, each once.
    values : ndarray, (p,)
        The observed values.
    shape : tuple of int
        (m, n), the shape of the matrix.
    description : str
        One line.

    Raises
    ------
    ValueError, TypeError
        If `losses.Completion` would refuse them, or the matrix has more than 10 000 000 rows or columns.
    """

    name: str
    rows: NDArray[np.intp]
    cols: NDArray[np.intp]
    values: Array
    shape: tuple[int, int]
    description: str = ""

    def __post_init__(self) -> None:
        m, n = validation.require_sizes("shape", self.shape)
        if max(m, n) > _LONGEST:
            raise ValueError(
                f"`shape` must not exceed {_LONGEST} rows or columns, got ({m}, {n})."
                " Number the rows and columns from zero, without gaps."
            )
        loss = Completion(self.rows, self.cols, self.values, (m, n))
        for name in ("rows", "cols", "values", "shape"):
            object.__setattr__(self, name, getattr(loss, name))
