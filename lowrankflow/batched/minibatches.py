"""The mini-batches of many members at one update, each in the order of its own seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import validation
from ..descent import MiniBatches
from .arrays import Stack, like, namespace

__all__ = ["BatchesOfMembers"]


class BatchesOfMembers:
    """`MiniBatches` of each member, as one stack of samples an update: what the members have in common is kept once."""

    def __init__(self, batches: Any, reference: Stack, shape: tuple[int, int], members: int) -> None:
        ones = (batches,) if isinstance(batches, MiniBatches) else validation.as_tuple(batches)
        if ones is None or not all(isinstance(one, MiniBatches) for one in ones):
            got = validation.describe(batches if not ones else ones[0])
            raise TypeError(
                f"`batches` must be MiniBatches, one for all members or one for each, got {got}. Other functions of the"
                " update have no batched form."
            )
        if len(ones) not in (1, members):
            raise ValueError(f"`batches` must be one, or one for each of {members} members, got {len(ones)}.")
        kinds = {(one.shape, one.size, one.samples, one.reduction, one.misfit) for one in ones}
        if len(kinds) > 1:
            raise ValueError(
                "`batches` must be of one shape, size, misfit and reduction in all members, got two kinds."
            )
        first = ones[0]
        if first.misfit is not None:
            raise ValueError("`batches` of another misfit than the square have no batched form. Use gradient_descent.")
        if first.shape != shape:
            raise ValueError(f"`batches` have shape {first.shape} but the loss is defined on {shape}.")
        self._ones, self._per_epoch = ones, first.per_epoch
        self._reduction, self._samples, self._size = first.reduction, first.samples, first.size
        self._shared = (
            len(ones) == 1
            or all(one.inputs is first.inputs or np.array_equal(one.inputs, first.inputs) for one in ones),
            len(ones) == 1
            or all(one.targets is first.targets or np.array_equal(one.targets, first.targets) for one in ones),
        )
        self._data = [
            like(reference, getattr(first, name) if shared else np.concatenate([getattr(one, name) for one in ones]))
            for name, shared in zip(("inputs", "targets"), self._shared, strict=True)
        ]
        self._drawn: tuple[int, NDArray[np.intp], NDArray[np.intp]] | None = None

    def _orders(self, epoch: int, members: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the order of the samples of each of some members in an epoch, (R, p); of those alone: it takes a while."""
        if self._drawn is not None and self._drawn[0] == epoch and np.isin(members, self._drawn[1]).all():
            return self._drawn[2][np.searchsorted(self._drawn[1], members)]
        orders = np.stack([self._ones[i].order(epoch) for i in members])
        self._drawn = epoch, members, orders
        return orders

    def gradient(self, k: int, w: Stack, members: NDArray[np.intp]) -> Stack:
        """Return the gradients of the update k at the W of some members, (R, m, n)."""
        xp = namespace(w)
        epoch, i = divmod(k, self._per_epoch)
        own = np.zeros(members.size, np.intp) if len(self._ones) == 1 else members
        chosen = self._orders(epoch, own)[:, i * self._size : (i + 1) * self._size]
        x, y = (
            xp.reshape(
                xp.take(data, like(w, (chosen + (0 if shared else own[:, None] * self._samples)).reshape(-1)), axis=0),
                (members.size, chosen.shape[1], -1),
            )
            for data, shared in zip(self._data, self._shared, strict=True)
        )
        weight = 1 / chosen.shape[1] if self._reduction == "mean" else self._samples / chosen.shape[1]
        return (weight * (x @ w.mT - y)).mT @ x

    def __repr__(self) -> str:
        return f"{self._ones[0]!r}" if len(self._ones) == 1 else f"MiniBatches({self._size} of {self._samples})"
