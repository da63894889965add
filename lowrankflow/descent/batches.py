"""Mini-batches: the loss of a few samples, another few at every update."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import validation
from ..losses import Loss
from ..losses.misfits import Misfit, Squared
from ..matrices import MatrixOrArray, Product
from ..operators import MatrixLike
from ..validation import Array

__all__ = ["MiniBatches"]


class MiniBatches:
    r"""The loss of a mini-batch at each update, ``batches(k)``: every epoch once through all samples, in an order of its own.

    The order of an epoch follows from the seed and its number alone, so that a run repeats, and goes on from a checkpoint, to
    the bit. The last batch of an epoch may be smaller.

    Parameters
    ----------
    inputs : array_like
        X, (n, p) with the p samples in columns, or (p, n) with ``samples="rows"``.
    targets : array_like
        Y, (m, p), or (p, m) with ``samples="rows"``; what `misfit` takes where that is given, samples last.
    size : int
        Samples a batch, at most p.
    misfit : callable, optional
        ``misfit(targets)`` of a batch, for instance ``lowrankflow.losses.Logistic``; None: the square, 1/2 ||W X - Y||^2.
    reduction : {"mean", "sum"}
        "mean": over the samples of the batch. "sum": its sum times p over their number, so that the mean over an epoch of equal
        batches is the gradient of the sum over all samples.
    samples : {"columns", "rows"}
        Orientation of both arrays.
    rng : int or numpy.random.Generator, optional
        Draws the seed. None: another one at every call.

    Attributes
    ----------
    shape : tuple of int
        (m, n), that of W.
    per_epoch : int
        Batches an epoch.
    size, samples : int
        Samples a batch, and all of them.
    inputs, targets : ndarray, (p, n) and (p, m)
        The data, samples in rows.
    misfit : callable or None
        As given.
    reduction : str
        As given.
    seed : int
        Of the orders.

    Raises
    ------
    ValueError, TypeError
        If the arrays do not fit, or the batch is larger than the samples.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> x, y = np.eye(4), np.diag([4.0, 3.0, 2.0, 1.0])
    >>> loss = lrf.losses.LeastSquares(x, y, reduction="mean")
    >>> batches = lrf.descent.MiniBatches(x, y, 2, rng=0)
    >>> net = lrf.LinearNetwork.identity((4, 4), 2, widths=4)
    >>> path = lrf.gradient_descent(loss, net, step_size=0.1, steps=1000, batches=batches)
    >>> bool(path.loss[-1] < 1e-12)
    True
    """

    def __init__(
        self,
        inputs: ArrayLike,
        targets: ArrayLike,
        size: int,
        *,
        misfit: Callable[[Array], Misfit] | None = None,
        reduction: str = "mean",
        samples: str = "columns",
        rng: validation.Rng = None,
    ) -> None:
        validation.require_choice("reduction", reduction, ("mean", "sum"))
        validation.require_choice("samples", samples, ("columns", "rows"))
        x = validation.as_matrix("inputs", inputs, column=samples == "rows")
        y: NDArray = (
            np.asarray(targets) if misfit else validation.as_matrix("targets", targets, column=samples == "rows")
        )
        if samples == "rows":
            x, y = x.T, y.T
        if y.shape[-1:] != x.shape[1:]:
            raise ValueError(
                f"`targets` must have as many samples as `inputs`, got shape {y.shape} for {x.shape[1]} samples."
            )
        self.size = validation.require_integer("size", size, low=1)
        if self.size > x.shape[1]:
            raise ValueError(f"`size` must not exceed the samples, got {self.size} for {x.shape[1]} of them.")
        self.reduction, self.samples = reduction, x.shape[1]
        # samples in rows: the columns of a batch are then whole cache lines
        self.inputs = np.ascontiguousarray(x.T)
        self.targets = np.ascontiguousarray(np.moveaxis(y, -1, 0))
        validation.require_callable("misfit", misfit)
        self.misfit = misfit
        probe = (misfit or Squared)(y)
        self.shape = (getattr(probe, "output_shape", y.shape)[0], x.shape[0])
        self.per_epoch = -(-self.samples // self.size)
        self.seed = int(validation.as_rng(rng).integers(2**63))
        self._order = lru_cache(2)(self._shuffled)

    def _shuffled(self, epoch: int) -> NDArray[np.intp]:
        return np.random.default_rng([self.seed, epoch]).permutation(self.samples)

    def order(self, epoch: int) -> NDArray[np.intp]:
        """Return all samples in the order of an epoch 0, 1, ..."""
        return self._order(epoch)

    def indices(self, k: int) -> NDArray[np.intp]:
        """Return the samples of the update k = 0, 1, ..."""
        epoch, i = divmod(k, self.per_epoch)
        return self.order(epoch)[i * self.size : (i + 1) * self.size]

    def __call__(self, k: int) -> Loss:
        """Return the loss of the update k = 0, 1, ..."""
        chosen = self.indices(k)
        x, y = self.inputs[chosen].T, np.moveaxis(self.targets[chosen], 0, -1)
        weight = 1 / chosen.size if self.reduction == "mean" else self.samples / chosen.size
        return _Batch(x, (self.misfit or Squared)(y), weight, self.shape)

    def __repr__(self) -> str:
        misfit = f", misfit={getattr(self.misfit, '__name__', self.misfit)}" if self.misfit else ""
        return f"MiniBatches({self.size} of {self.samples}, {self.reduction}{misfit}, seed {self.seed})"


class _Batch:
    """The loss of a few samples: the misfit of W X_b, weighted."""

    def __init__(self, inputs: Array, misfit: Misfit, weight: float, shape: tuple[int, int]) -> None:
        self._inputs, self._misfit, self._weight, self.shape = inputs, misfit, weight, shape

    def value(self, w: MatrixOrArray) -> float:
        return self._weight * float(self._misfit.value(w @ self._inputs))

    def gradient(self, w: MatrixOrArray) -> MatrixLike:
        return Product(self._weight * self._misfit.gradient(w @ self._inputs), self._inputs.T)
