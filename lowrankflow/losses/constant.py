"""A constant appended to the inputs, which makes losses of (x, y) losses of networks with biases."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .. import validation
from ..validation import Array
from .protocol import Samples

__all__ = ["with_constant"]


def with_constant(inputs: ArrayLike, *, samples: Samples = "columns") -> Array:
    r"""Return inputs with a constant one appended to every sample: a loss of them is one of [W b], W x + b.

    Parameters
    ----------
    inputs : array_like
        X, (n, p) with the p samples in columns, or (p, n) with ``samples="rows"``.
    samples : {"columns", "rows"}

    Returns
    -------
    ndarray, (n + 1, p) or (p, n + 1)

    Raises
    ------
    ValueError, TypeError
        If the inputs are no finite matrix, or the choice is unknown.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(with_constant([[1.0, 2.0]]), [[3.0, 5.0]])
    >>> net = lrf.matrices.AffineNetwork([[[2.0]]], [[1.0]])
    >>> float(loss.value(net.augmented)), net([[1.0, 2.0]]).tolist()
    (0.0, [[3.0, 5.0]])
    """
    validation.require_choice("samples", samples, ("columns", "rows"))
    x = validation.as_matrix("inputs", inputs)
    if samples == "rows":
        return np.hstack([x, np.ones((len(x), 1))])
    return np.vstack([x, np.ones((1, x.shape[1]))])
