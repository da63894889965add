"""The problem that the arguments name: data, prepared; a loss; a start."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import data, losses, validation
from ..loading import call, load_object
from ..losses.requirements import require_loss
from ..matrices import LinearNetwork, LowRankMatrix, random_point
from ..matrices.requirements import require_numerical_rank, require_rank
from ..validation import Array

__all__ = ["Problem", "read_problem"]


class Problem(NamedTuple):
    loss: losses.Loss
    start: LowRankMatrix | None
    network: LinearNetwork | None
    about: dict[str, Any]
    measures: dict[str, Callable[[LowRankMatrix], float]]


def read_problem(args: argparse.Namespace, rng: np.random.Generator, symmetric: bool = False) -> Problem:
    """Read and prepare the data, and make W(0)."""
    given = [name for name in ("data", "inputs", "observed") if getattr(args, name) is not None]
    if len(given) != 1:
        got = "none of them" if not given else " and ".join(f"--{name}" for name in given)
        raise ValueError(
            f"`{args.command}` takes one of --data, --inputs and --observed, got {got}. Try --data digits."
        )
    if args.targets is not None and args.inputs is None:
        raise ValueError("`--targets` must come with --inputs.")
    completing = args.observed is not None or args.missing is not None
    fits = "completion" if completing else "least-squares"
    if args.loss in ("least-squares", "completion") and args.loss != fits:
        raise ValueError(f"`--loss` must be {fits} for --{given[0]}, got {args.loss}.")
    if args.loss in (None, fits) and args.loss_arg:
        raise ValueError(f"`--loss-arg` must come with a --loss that takes one, got {args.loss_arg[0]!r}.")
    make = _loss_of(args)
    loss, about, measures = _completion(args, rng, make) if completing else _fit(args, make)
    about |= {"seed": args.seed}
    if args.factors is not None:
        return _trained(args, loss, about)
    rank = _rank(args, loss)
    scale = args.scale
    if scale is None:
        # a tenth of what the prepared data ask for: W of unit RMS has singular values near sqrt(m n / r)
        scale = 0.1 * (np.sqrt(loss.shape[0] * loss.shape[1] / rank) if completing else 1.0)
    scale = validation.require_number("scale", scale)
    m, n = loss.shape
    start = random_point(m, n, rank, rng=rng, singular_values=np.full(rank, scale), symmetric=symmetric)
    return Problem(loss, start, None, about, measures)


_Read = tuple[losses.Loss, dict[str, Any], dict[str, Callable[[LowRankMatrix], float]]]


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


class _Make(NamedTuple):
    """How the loss is made: of inputs and targets, or of entries."""

    fit: Callable[..., losses.Loss]
    complete: Callable[..., losses.Loss]
    raw: bool  #: whether targets and values are taken as they stand


def _loss_of(args: argparse.Namespace) -> _Make:
    """Return how the loss that was asked for is made."""
    pairs = [_option(text) for text in args.loss_arg]
    options = dict(pairs)
    if len(options) < len(pairs):
        raise ValueError(f"`--loss-arg` must name each keyword once, got {', '.join(key for key, _ in pairs)}.")
    if args.loss in (None, "least-squares", "completion"):
        return _Make(
            partial(losses.LeastSquares, reduction=args.reduction),
            partial(losses.Completion, reduction=args.reduction),
            False,
        )
    if args.loss in _MISFITS:
        return _named(args, options)
    if args.loss in _KINKED:
        raise ValueError(f"`--loss` {args.loss} must be differentiable to have a flow, and is not {_KINKED[args.loss]}")
    if ":" not in args.loss:
        known = ", ".join(["least-squares", "completion", *_MISFITS])
        raise ValueError(f"`--loss` must be one of {known} or FILE.py:Name, got {args.loss!r}.")
    return _own(args, options)


def _named(args: argparse.Namespace, options: dict[str, Any]) -> _Make:
    """Return how a misfit of ours is put on inputs or on entries."""
    kind, raw = _MISFITS[args.loss]

    def misfit(targets: Array) -> losses.Misfit:
        known = [k for k, p in signature(kind).parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
        if not set(options) <= set(known):
            raise ValueError(f"`--loss-arg` {', '.join(options)}: {args.loss} takes {', '.join(known) or 'none'}.")
        return kind(targets, **options)

    def fit(inputs: Array, targets: Array) -> losses.Loss:
        labels = kind is losses.Softmax and targets.shape[0] == 1
        made = misfit(targets[0] if labels else targets)
        rows = made.classes if isinstance(made, losses.Softmax) else targets.shape[0]
        return losses.Measured(losses.Inputs(inputs, rows), made, reduction=args.reduction)

    def complete(rows: NDArray[np.intp], cols: NDArray[np.intp], values: Array, shape: tuple[int, int]) -> losses.Loss:
        if kind is losses.Softmax:
            raise ValueError("`--loss` softmax needs --inputs and --targets: it has one label a sample.")
        return losses.Measured(losses.Entries(rows, cols, shape=shape), misfit(values), reduction=args.reduction)

    return _Make(fit, complete, raw)


def _own(args: argparse.Namespace, options: dict[str, Any]) -> _Make:
    """Return how a loss of the user's file is made."""
    factory = load_object("--loss", args.loss)

    def make(asked: tuple[int, int], **data: Any) -> losses.Loss:
        loss = call("--loss", factory, data | options)
        require_loss(loss)
        if loss.shape != asked and loss.shape == asked[::-1]:
            raise ValueError(
                f"`--loss` has shape {loss.shape} but the data ask for {asked}. Did you mean the transpose?"
            )
        return loss

    return _Make(
        lambda inputs, targets: make((targets.shape[0], inputs.shape[0]), inputs=inputs, targets=targets),
        lambda rows, cols, values, shape: make(shape, rows=rows, cols=cols, values=values, shape=shape),
        False,
    )


def _option(text: str) -> tuple[str, Any]:
    """Return a keyword and its value, a number, True, False, None, or else the text."""
    key, sign, value = text.partition("=")
    if not sign or not key.isidentifier():
        raise ValueError(f"`--loss-arg` must be KEY=VALUE, got {text!r}.")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def _fit(args: argparse.Namespace, make: _Make) -> _Read:
    """Return the loss of inputs and targets, and what to say of the data."""
    raw = data.load(args.data) if args.data is not None else data.read_inputs(args.inputs, args.targets)
    if make.raw and raw.targets is None:
        raise ValueError(f"`--loss` {args.loss} needs targets of its own: give --inputs and --targets.")
    inputs, targets, preparation = data.prepare(raw, **_steps(args))
    if make.raw:
        targets = np.asarray(raw.targets).reshape(len(raw.inputs), -1).T
    loss = make.fit(inputs, targets)
    about = {"name": raw.name, "description": raw.description, "preparation": preparation.describe()}
    if make.raw:
        about["targets"] = "as they stand"
    return loss, about, {}


def _steps(args: argparse.Namespace) -> dict[str, Any]:
    return {} if args.preprocess is None else {"steps": args.preprocess}


def _completion(args: argparse.Namespace, rng: np.random.Generator, make: _Make) -> _Read:
    """Return the loss of the entries that are seen, what to say of them, and how to judge W by those that were hidden."""
    entries = _entries(args)
    seen, hidden = entries, None
    if args.missing is not None:
        share = validation.require_number("missing", args.missing)
        away = rng.random(entries.values.size) < share
        if not 0 < away.sum() < away.size:
            raise ValueError(f"`missing` must hide some of the {away.size} entries and leave some, got {share:g}.")
        seen, hidden = _part(entries, ~away), _part(entries, away)
    if make.raw and args.preprocess not in (None, "none"):
        raise ValueError(
            f"`--preprocess` must be none for --loss {args.loss}, whose values are taken as they stand,"
            f" got {args.preprocess}."
        )
    prepared, preparation = data.prepare_observed(seen, **({"steps": "none"} if make.raw else _steps(args)))
    loss = _of_entries(make, prepared)
    about: dict[str, Any] = {"name": entries.name, "description": entries.description}
    about["preparation"] = preparation.describe()
    if hidden is None:
        return loss, about, {}
    about |= {"missing": args.missing, "hidden entries": hidden.values.size}
    if make.raw:  # W is no guess of a label or a count: it is judged by its loss
        return loss, about, {"hidden loss": _of_entries(make, hidden).value}
    values = (hidden.values - preparation.mean) / (preparation.rms if "scale" in preparation.steps else 1.0)
    size = float(np.linalg.norm(values)) or 1.0

    def error(w: LowRankMatrix) -> float:
        return float(np.linalg.norm(w.entries(hidden.rows, hidden.cols) - values)) / size

    return loss, about, {"hidden error": error}


def _of_entries(make: _Make, entries: data.Observations) -> Any:
    return make.complete(entries.rows, entries.cols, entries.values, entries.shape)


def _entries(args: argparse.Namespace) -> data.Observations:
    """Return the entries that are known: those of a file, or all of a data matrix."""
    if args.observed is not None:
        return data.read_observed(args.observed)
    if args.targets is not None:
        raise ValueError("`--missing` hides entries of --inputs, so it takes no --targets.")
    raw = data.load(args.data) if args.data is not None else data.read_inputs(args.inputs, None)
    rows, cols = np.divmod(np.arange(raw.inputs.size), raw.inputs.shape[1])
    return data.Observations(raw.name, rows, cols, raw.inputs.ravel(), raw.inputs.shape, raw.description)


def _part(entries: data.Observations, chosen: NDArray[np.bool_]) -> data.Observations:
    rows, cols, values = entries.rows[chosen], entries.cols[chosen], entries.values[chosen]
    return data.Observations(entries.name, rows, cols, values, entries.shape, entries.description)


def _trained(args: argparse.Namespace, loss: losses.Loss, about: dict[str, Any]) -> Problem:
    """Return the problem of a network that was trained elsewhere."""
    if args.preprocess is None:
        raise ValueError(
            "`--factors` need an explicit --preprocess, the steps under which they were trained."
            " Use --preprocess none if they were trained on the raw data."
        )
    network = LinearNetwork(data.read_factors(args.factors))
    if network.shape != loss.shape:
        raise ValueError(
            f"`--factors` have the product shape {network.shape} but the prepared data ask for {loss.shape}."
            " If they were trained on the raw features, use --preprocess none."
        )
    start = None if args.rank is None else network.to_low_rank(args.rank)
    return Problem(loss, start, network, about | {"factors": Path(args.factors).name}, {})


def _observed(loss: losses.Loss) -> Array | None:
    """Return the observed values of a loss of entries; None where it is none."""
    if isinstance(loss, losses.Measured) and isinstance(loss.measurement, losses.Entries):
        return validation.optional(loss.misfit, "targets")
    return validation.optional(loss, "values")


def _rank(args: argparse.Namespace, loss: losses.Loss) -> int:
    """Return the rank that was asked for, checked, or one that the data allow."""
    m, n = loss.shape
    observed = _observed(loss)
    if observed is not None:
        most = min(loss.shape)
        # a half (verify) or a quarter (compare) of the observations for the r (m + n - r) numbers of a rank-r matrix
        affordable = [r for r in range(1, min(10, most) + 1) if args.spare * r * (m + n - r) <= observed.size]
        default = max(affordable, default=1)
    else:
        spectrum = losses.facts(loss).spectrum
        most = min(loss.shape) if spectrum is None else int((spectrum.sigma > 1e-8 * spectrum.sigma[0]).sum())
        default = min(10, most)
    if args.rank is None:
        return default
    rank = require_rank(args.rank, loss.shape)
    require_numerical_rank(rank, most)
    return rank
