"""Losses by name, or of a user's file: how each is made of inputs and targets, or of entries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import losses
from ..loading import call, load_object
from ..losses.protocol import Reduction
from ..losses.requirements import require_loss
from ..validation import Array

__all__ = ["FITS", "Maker", "is_code", "maker", "require_known"]

FITS = ("least-squares", "completion")  #: the losses of the data themselves

#: losses by name: a misfit, and whether its targets are taken as they stand (labels and counts cannot be centred)
_MISFITS: dict[str, tuple[Callable[..., losses.Misfit], bool]] = {
    "squared": (losses.Squared, False),
    "huber": (losses.Huber, False),
    "log-cosh": (losses.LogCosh, False),
    "logistic": (losses.Logistic, True),
    "squared-hinge": (losses.SquaredHinge, True),
    "softmax": (losses.Softmax, True),
    "poisson": (losses.Poisson, True),
}
#: losses that people name and that have no flow: where not, and what to use
_KINKED = {"hinge": "at the margin. Use squared-hinge.", "absolute": "at zero. Use huber or log-cosh."}


class Maker(NamedTuple):
    """How a loss is made: of inputs and targets, or of entries."""

    fit: Callable[..., losses.Loss]
    complete: Callable[..., losses.Loss]
    raw: bool  #: whether targets and values are taken as they stand


def is_code(name: str | None) -> bool:
    """Whether a loss is named as FILE.py:Name, which runs a file."""
    return name is not None and name not in (*FITS, *_MISFITS) and ":" in name


def require_known(name: str | None) -> None:
    """Refuse the name of no loss."""
    if name is None or name in (*FITS, *_MISFITS) or is_code(name):
        return
    if name in _KINKED:
        raise ValueError(f"`loss` {name} must be differentiable to have a flow, and is not {_KINKED[name]}")
    known = ", ".join([*FITS, *_MISFITS])
    raise ValueError(f"`loss` must be one of {known} or FILE.py:Name, got {name!r}.")


def maker(name: str | None, options: Mapping[str, Any], reduction: Reduction) -> Maker:
    """Return how the loss of a name is made, with its arguments."""
    if name is None or name in FITS:
        return Maker(
            partial(losses.LeastSquares, reduction=reduction), partial(losses.Completion, reduction=reduction), False
        )
    return _own(name, options) if is_code(name) else _named(name, options, reduction)


def _named(name: str, options: Mapping[str, Any], reduction: Reduction) -> Maker:
    """Return how a misfit of ours is put on inputs or on entries."""
    kind, raw = _MISFITS[name]

    def misfit(targets: Array) -> losses.Misfit:
        known = [k for k, p in signature(kind).parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
        if not set(options) <= set(known):
            raise ValueError(f"`loss_args` {', '.join(options)}: {name} takes {', '.join(known) or 'none'}.")
        return kind(targets, **options)

    def fit(inputs: Array, targets: Array) -> losses.Loss:
        labels = kind is losses.Softmax and targets.shape[0] == 1
        made = misfit(targets[0] if labels else targets)
        rows = made.classes if isinstance(made, losses.Softmax) else targets.shape[0]
        return losses.Measured(losses.Inputs(inputs, rows), made, reduction=reduction)

    def complete(rows: NDArray[np.intp], cols: NDArray[np.intp], values: Array, shape: tuple[int, int]) -> losses.Loss:
        if kind is losses.Softmax:
            raise ValueError("`loss` softmax needs inputs and targets: it has one label a sample.")
        return losses.Measured(losses.Entries(rows, cols, shape=shape), misfit(values), reduction=reduction)

    return Maker(fit, complete, raw)


def _own(reference: str, options: Mapping[str, Any]) -> Maker:
    """Return how a loss of the user's file is made."""
    factory = load_object("loss", reference)

    def make(asked: tuple[int, int], **data: Any) -> losses.Loss:
        loss = call("loss", factory, data | dict(options))
        require_loss(loss)
        if loss.shape != asked and loss.shape == asked[::-1]:
            raise ValueError(f"`loss` has shape {loss.shape} but the data ask for {asked}. Did you mean the transpose?")
        return loss

    return Maker(
        lambda inputs, targets: make((targets.shape[0], inputs.shape[0]), inputs=inputs, targets=targets),
        lambda rows, cols, values, shape: make(shape, rows=rows, cols=cols, values=values, shape=shape),
        False,
    )
