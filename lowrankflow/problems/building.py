"""What a problem stands for: the data it names, prepared; a loss; W(0)."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import data, losses, validation
from ..files import require_path
from ..matrices import AffineNetwork, LinearNetwork, LowRankMatrix, random_point
from ..matrices.requirements import require_numerical_rank, require_rank
from ..metrics.facts import is_symmetric
from ..metrics.names import named_metrics
from ..validation import Array
from .named_losses import Maker, is_code, maker
from .sources import Handed, InMemory, Network, Numbers

if TYPE_CHECKING:
    from .problem import Problem

__all__ = ["Built", "build"]

Measures = dict[str, Callable[[LowRankMatrix], float]]
_Run = tuple[NDArray[np.int64], list[Network]]


@dataclass(frozen=True, eq=False)
class Built:
    """What a problem stands for.

    Attributes
    ----------
    problem : Problem
        The problem, with the hashes of all that was read.
    loss : Loss
        The loss on the prepared data; on inputs with a constant appended where the networks have biases.
    start : LowRankMatrix, or None
        W(0); None where it is the product of `network`.
    given : LinearNetwork or AffineNetwork, or None
        The network, where the problem names one.
    about : dict
        What reports say of the data.
    measures : dict of functions
        How to judge W by the entries that were hidden; empty where none are.
    rng : numpy.random.Generator
        Of the seed, after the draws that hid entries and made W(0): what comes next draws from it.
    initial : LinearNetwork or AffineNetwork, or None
        Where the training of `given` began, if the problem names that.
    run : (ndarray of int, list of networks), or None
        The checkpoints of a run, and after how many updates each was made.
    """

    problem: Problem
    loss: losses.Loss
    start: LowRankMatrix | None
    given: Network | None
    about: dict[str, Any]
    measures: Measures = field(repr=False)
    rng: np.random.Generator = field(repr=False)
    initial: Network | None = None
    run: tuple[NDArray[np.int64], list[Network]] | None = None

    @property
    def network(self) -> LinearNetwork | None:
        """The factors, where the problem names some.

        Raises
        ------
        ValueError
            If they have biases.
        """
        if isinstance(self.given, AffineNetwork):
            raise ValueError(
                f"`factors` must have no biases here, where the theory is that of a product of matrices, got {self.given!r}."
                " Use diagnose, or verify --run."
            )
        return self.given

    @property
    def point(self) -> LowRankMatrix:
        """W(0)."""
        if self.start is not None:
            return self.start
        assert self.network is not None  # one of them is there
        return self.network.to_low_rank()


def build(problem: Problem, handed: Handed, known: MutableMapping[Any, Any] | None = None) -> Built:
    """Read and prepare the data, and make W(0)."""
    numbers, rng = Numbers(problem, handed), np.random.default_rng(problem.seed)
    given, initial, run = _networks(problem, numbers)
    biased = isinstance(given if run is None else run[1][0], AffineNetwork)
    hashes, numbers.found = numbers.found, {}
    what = (*_read_by(problem), biased)
    if known is not None and what in known:
        (loss, about, measures), found, state = known[what]
        numbers.found, about = dict(found), dict(about)
        if problem.missing is not None:
            rng.bit_generator.state = state
    else:
        loss, about, measures = _read(problem, numbers, rng, biased)
        if known is not None:
            known[what] = (loss, dict(about), measures), dict(numbers.found), rng.bit_generator.state
    about |= {"seed": problem.seed}
    if initial is not None and given is not None and type(initial) is not type(given):
        biases = "biases" if isinstance(initial, AffineNetwork) else "no biases"
        raise ValueError(f"`initial` must have biases where `factors` have, and only there, got {biases}.")
    checkpoints = [] if run is None else run[1]
    for name, network in (("factors", given), ("initial", initial), *(("run", each) for each in checkpoints)):
        if network is not None:
            _require_fitting(name, network, loss)
    for name, source in (("factors", problem.factors), ("run", problem.run)):
        if source is not None:
            about[name] = _file_name(source)
    start = None
    if given is None:
        start = _start(problem, loss, rng)
    elif problem.rank is not None and isinstance(given, LinearNetwork):
        start = given.to_low_rank(problem.rank)
    sealed = replace(problem, sha256=numbers.found | hashes)
    return Built(sealed, loss, start, given, about, measures, rng, initial, run)


def _networks(problem: Problem, numbers: Numbers) -> tuple[Network | None, Network | None, _Run | None]:
    """Return the network that the problem names, where its training began, and the checkpoints of a run."""
    given = None if problem.factors is None else numbers.network()
    initial = None if given is None or problem.initial is None else numbers.network("initial")
    return given, initial, None if problem.run is None else numbers.checkpoints()


def _read_by(problem: Problem) -> Any:
    """Return what the loss depends on: two problems that agree in it have the same one."""
    draws = None if problem.missing is None else problem.seed
    return (
        problem.data, problem.inputs, problem.targets, problem.observed, problem.input_columns, problem.target_column,
        problem.delimiter, problem.missing_rows, problem.missing, draws, problem.preprocess,
        problem.loss, problem.loss_args, problem.reduction, problem.sha256,
    )  # fmt: skip


def _read(problem: Problem, numbers: Numbers, rng: np.random.Generator, biased: bool) -> _Read:
    """Return the loss, what to say of the data, and how to judge W by the entries that were hidden."""
    if problem.loss is not None and is_code(problem.loss):
        numbers.code(problem.loss)
    make = maker(problem.loss, {key: _plain(value) for key, value in problem.loss_args}, problem.reduction)
    if not problem.completing:
        return _fit(problem, numbers, make, biased)
    if biased:
        raise ValueError("`factors` must have no biases to complete a matrix, which has no inputs, got some.")
    return _completion(problem, numbers, make, rng)


def _plain(value: Any) -> Any:
    """Return a frozen value as its loss is given it."""
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _file_name(source: str | InMemory) -> str:
    return require_path("factors", source).name if isinstance(source, str) else "arrays in memory"


_Read = tuple[losses.Loss, dict[str, Any], Measures]


def _fit(problem: Problem, numbers: Numbers, make: Maker, biased: bool) -> _Read:
    """Return the loss of inputs and targets, and what to say of the data."""
    raw = numbers.samples()
    if make.raw and raw.targets is None:
        raise ValueError(f"`loss` {problem.loss} needs targets of its own: give inputs and targets.")
    inputs, targets, preparation = data.prepare(raw, **_steps(problem))
    if make.raw:
        targets = np.asarray(raw.targets).reshape(len(raw.inputs), -1).T
    loss = make.fit(losses.with_constant(inputs) if biased else inputs, targets)
    about = {"name": raw.name, "description": raw.description, "preparation": preparation.describe()}
    if make.raw:
        about["targets"] = "as they stand"
    if biased:
        about["biases"] = "a constant is appended to the inputs"
    return loss, about, {}


def _steps(problem: Problem) -> dict[str, Any]:
    return {} if problem.preprocess is None else {"steps": problem.preprocess}


def _completion(problem: Problem, numbers: Numbers, make: Maker, rng: np.random.Generator) -> _Read:
    """Return the loss of the entries that are seen, what to say of them, and how to judge W by those that were hidden."""
    entries = _entries(problem, numbers)
    seen, hidden = entries, None
    if problem.missing is not None:
        away = rng.random(entries.values.size) < problem.missing
        if not 0 < away.sum() < away.size:
            raise ValueError(
                f"`missing` must hide some of the {away.size} entries and leave some, got {problem.missing:g}."
            )
        seen, hidden = _part(entries, ~away), _part(entries, away)
    if make.raw and problem.preprocess:
        raise ValueError(
            f"`preprocess` must be none for the loss {problem.loss}, whose values are taken as they stand,"
            f" got {','.join(problem.preprocess)}."
        )
    prepared, preparation = data.prepare_observed(seen, **({"steps": "none"} if make.raw else _steps(problem)))
    loss = _of_entries(make, prepared)
    about: dict[str, Any] = {"name": entries.name, "description": entries.description}
    about["preparation"] = preparation.describe()
    if hidden is None:
        return loss, about, {}
    about |= {"missing": problem.missing, "hidden entries": hidden.values.size}
    if make.raw:  # W is no guess of a label or a count: it is judged by its loss
        return loss, about, {"hidden loss": _of_entries(make, hidden).value}
    values = (hidden.values - preparation.mean) / (preparation.rms if "scale" in preparation.steps else 1.0)
    size = float(np.linalg.norm(values)) or 1.0

    def error(w: LowRankMatrix) -> float:
        return float(np.linalg.norm(w.entries(hidden.rows, hidden.cols) - values)) / size

    return loss, about, {"hidden error": error}


def _of_entries(make: Maker, entries: data.Observations) -> Any:
    return make.complete(entries.rows, entries.cols, entries.values, entries.shape)


def _entries(problem: Problem, numbers: Numbers) -> data.Observations:
    """Return the entries that are known: observed ones, or all of a data matrix."""
    if problem.observed is not None:
        return numbers.observations()
    raw = numbers.samples()
    rows, cols = np.divmod(np.arange(raw.inputs.size), raw.inputs.shape[1])
    return data.Observations(raw.name, rows, cols, raw.inputs.ravel(), raw.inputs.shape, raw.description)


def _part(entries: data.Observations, chosen: NDArray[np.bool_]) -> data.Observations:
    rows, cols, values = entries.rows[chosen], entries.cols[chosen], entries.values[chosen]
    return data.Observations(entries.name, rows, cols, values, entries.shape, entries.description)


def _require_fitting(name: str, network: Network, loss: losses.Loss) -> None:
    """Refuse a network that was trained on other data."""
    asked = loss.shape if isinstance(network, LinearNetwork) else (loss.shape[0], loss.shape[1] - 1)
    if network.shape != asked:
        raise ValueError(
            f"`{name}` must have the product shape {asked} of the prepared data, got {network.shape}."
            " If it was trained on the raw features, use preprocess none."
        )


def _start(problem: Problem, loss: losses.Loss, rng: np.random.Generator) -> LowRankMatrix:
    """Return W(0): random frames, equal singular values."""
    rank, (m, n), scale = _rank(problem, loss), loss.shape, problem.scale
    if scale is None:
        # a tenth of what the prepared data ask for: W of unit RMS has singular values near sqrt(m n / r)
        scale = 0.1 * (np.sqrt(m * n / rank) if problem.completing else 1.0)
    symmetric = problem.metrics is not None and any(map(is_symmetric, named_metrics(",".join(problem.metrics))))
    return random_point(m, n, rank, rng=rng, singular_values=np.full(rank, scale), symmetric=symmetric)


def _observed(loss: losses.Loss) -> Array | None:
    """Return the observed values of a loss of entries; None where it is none."""
    if isinstance(loss, losses.Measured) and isinstance(loss.measurement, losses.Entries):
        return validation.optional(loss.misfit, "targets")
    return validation.optional(loss, "values")


def _rank(problem: Problem, loss: losses.Loss) -> int:
    """Return the rank that was asked for, checked, or one that the data allow."""
    m, n = loss.shape
    observed = _observed(loss)
    if observed is not None:
        most = min(loss.shape)
        # a half (to verify) or a quarter (to compare) of the observations for the r (m + n - r) numbers of a rank-r matrix
        spare = 2 if problem.metrics is None else 4
        affordable = [r for r in range(1, min(10, most) + 1) if spare * r * (m + n - r) <= observed.size]
        default = max(affordable, default=1)
    else:
        spectrum = losses.facts(loss).spectrum
        most = min(loss.shape) if spectrum is None else int((spectrum.sigma > 1e-8 * spectrum.sigma[0]).sum())
        default = min(10, most)
    if problem.rank is None:
        return default
    rank = require_rank(problem.rank, loss.shape)
    require_numerical_rank(rank, most)
    return rank
