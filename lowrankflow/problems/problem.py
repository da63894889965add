"""A problem as a value."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shlex
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, fields, replace
from typing import Any

from .. import validation
from ..files import require_file
from ..losses.protocol import Reduction
from .building import Built, build
from .named_losses import FITS, is_code, require_known
from .rules import AS_VALUES, as_json, require_sha256
from .sources import InMemory

__all__ = ["Problem", "loss_argument"]

_SCHEMA = 1
_SOURCES = ("data", "inputs", "observed")  #: one of them

#: what each command takes beside the data, the loss and the start
_COMMANDS = {
    "verify": ("factors", "depth", "widths", "natural_end", "rtol", "max_evaluations", "descent", "run", "step"),
    "compare": ("missing", "metrics", "clock", "clock_end", "rtol", "max_evaluations"),
    "check-loss": (),
    "landscape": ("factors", "depth", "widths", "natural_end", "rtol", "max_evaluations"),
    "diagnose": ("factors", "initial", "step", "depth", "widths", "natural_end", "rtol", "max_evaluations"),
}
_NOT_OF_RUNS = ("factors", "depth", "widths", "rank", "scale", "natural_end", "rtol", "max_evaluations", "descent")
UPDATES = 1000  #: of descent, where nothing else is said
_EVERYWHERE = (
    "data", "inputs", "targets", "observed", "input_columns", "target_column", "delimiter", "missing_rows",
    "preprocess", "loss", "loss_args", "reduction", "rank", "scale", "seed",
)  # fmt: skip
_LATER = (
    "descent",
    "initial",
    "run",
    "step",
)  #: left out where None, so that problems keep the key that they had before
_ARRAYS = ("inputs", "targets", "observed", "factors", "initial")  #: what may be handed over in memory
_BUILT_OF = ("missing", "factors", "metrics")  #: what changes the loss or W(0), and not every command takes


@dataclass(frozen=True, kw_only=True)
class Problem:
    r"""Which data, prepared how, which loss, from where, how exactly: all that a run needs, and nothing that is large.

    A value: frozen, hashable, picklable, JSON and back. None means what the library chooses. `build` makes the loss and
    W(0) of it; ``lowrankflow.compare.verify_problem`` and its neighbours run it, and their reports carry it.

    Parameters
    ----------
    data : str, optional
        A bundled data set, a key of ``lowrankflow.data.available()``. One of `data`, `inputs`, `observed`.
    inputs, targets : path or array, (p, n), (p, m), optional
        One sample a row; without targets, the inputs are reproduced. An array is named by its shape and its hash, and
        handed to `build` again.
    observed : path, sparse array or Observations, optional
        Observed entries of a matrix.
    input_columns : str or sequence of str and int, optional
        ``--columns``: which columns of the file of `inputs` or `observed` are used, by name or number from one.
    target_column : str, int or sequence, optional
        Which columns of the file of `inputs` are the targets.
    delimiter : str, optional
        What separates the cells of files of text, where their first lines do not say it.
    missing_rows : {"drop"}, optional
        Leave out rows of `inputs` in which something is missing.
    factors : path, list of arrays or AffineNetwork, optional
        Factors W_1, W_2, ... that were trained elsewhere, instead of a random W(0). With biases (`diagnose`, and checkpoints)
        a constant is appended to the inputs.
    initial : path, list of arrays or AffineNetwork, optional
        The factors that the training of `factors` began with.
    run : path, optional
        A folder with the checkpoints of a run of training, the number of updates in the names of the files.
    step : float, optional
        The step of that training, in units of flow time.
    missing : float, optional
        Hide this share of the entries of the data matrix, and complete it from the others.
    preprocess : str or sequence of str, optional
        Steps of ``lowrankflow.data.prepare``; () or "none": the data as they are.
    loss : str, optional
        "least-squares" and "completion", as fits the data, "squared", "huber", "log-cosh", "logistic",
        "squared-hinge", "softmax", "poisson", or "FILE.py:Name", which `build` runs only where it is given again.
    loss_args : mapping, optional
        Keywords of the loss: texts, numbers, True, False, None, and lists of them.
    reduction : {"mean", "sum"}
        Of the losses that the library has.
    rank : int, optional
        r; up to 10 as the data allow.
    scale : float, optional
        The singular values of W(0): 0.1, or 0.1 sqrt(m n / r) for completion.
    seed : int
        Of all that is drawn.
    depth : int, optional
        N, the number of factors.
    widths : int or sequence of int, optional
        Hidden widths.
    metrics : str or sequence of names and numbers, optional
        Those to compare, such as ("embedded", 3, "inf").
    clock : {"operator", "factors"}, optional
        Of a comparison.
    natural_end : float, optional
        End time to verify, in natural units 1/(N lambda_1 sigma_1^(2-2/N)).
    clock_end : float, optional
        Longest time to compare, by the clock.
    rtol : float, optional
        Tolerance of the flows.
    max_evaluations : int, optional
        Budget of gradients.
    descent : int, optional
        Verify so many updates of gradient descent in place of the flows.
    sha256 : mapping, optional
        Hashes by the name of what was read ("data", "inputs", "targets", "observed", "factors", "loss"): `build`
        refuses anything else. The problem of a report has them all.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks its rule, or there is not one source of data. Files are not opened before `build`.

    Examples
    --------
    >>> problem = Problem(data="iris", depth=3, rank=2, seed=7)
    >>> Problem.from_dict(problem.to_dict()) == problem
    True
    >>> problem.command_line("verify")
    'lowrankflow verify --data iris --rank 2 --seed 7 --depth 3'
    """

    data: str | None = None
    inputs: Any = None  #: a path or `InMemory`
    targets: Any = None
    observed: Any = None
    input_columns: Any = None  #: a tuple of names and numbers
    target_column: Any = None
    delimiter: str | None = None
    missing_rows: str | None = None
    factors: Any = None
    initial: Any = None
    run: str | None = None
    step: float | None = None
    missing: float | None = None
    preprocess: Any = None  #: a tuple of names
    loss: str | None = None
    loss_args: Any = ()  #: a tuple of pairs
    reduction: Reduction = "mean"
    rank: int | None = None
    scale: float | None = None
    seed: int = 0
    depth: int | None = None
    widths: Any = None  #: a number or a tuple of them
    metrics: Any = None  #: a tuple of names
    clock: str | None = None
    natural_end: float | None = None
    clock_end: float | None = None
    rtol: float | None = None
    max_evaluations: int | None = None
    descent: int | None = None
    sha256: Any = ()  #: a tuple of pairs

    def __post_init__(self) -> None:
        for name, as_value in AS_VALUES.items():
            object.__setattr__(self, name, as_value(name, getattr(self, name)))
        self._require_one_source()
        self._require_files()
        self._require_fitting_loss()
        trained = next((name for name in ("factors", "run") if getattr(self, name) is not None), None)
        if trained is not None and self.preprocess is None:
            raise ValueError(
                f"`{trained}` must come with `preprocess`, the steps under which the training saw the data."
                " Use preprocess none if it saw the raw data."
            )
        if self.run is not None and self.step is None:
            raise ValueError(
                "`run` must come with the `step` of the training: its learning rate, in units of the loss here. With"
                " torch's MSELoss() and m outputs that is 2 / m of it."
            )
        if self.run is not None:
            idle = [name for name in _NOT_OF_RUNS if getattr(self, name) is not None]
            if idle:
                raise ValueError(
                    f"`{idle[0]}` must be left out with `run`, whose checkpoints say it, got {getattr(self, idle[0])}."
                )
        if self.initial is not None and self.factors is None:
            raise ValueError("`initial` must come with `factors`, which it is the start of.")

    def _require_one_source(self) -> None:
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            got = "none of them" if not given else " and ".join(f"`{name}`" for name in given)
            raise ValueError(f"A problem takes one of `data`, `inputs` and `observed`, got {got}. Try the data digits.")
        if self.targets is not None and self.inputs is None:
            raise ValueError("`targets` must come with `inputs`.")
        if self.targets is not None and self.missing is not None:
            raise ValueError("`missing` hides entries of `inputs`, so it takes no `targets`.")

    def _require_files(self) -> None:
        """Refuse what is said of files where there is none."""
        of_inputs = {"target_column": self.target_column, "missing_rows": self.missing_rows}
        of_both = {"input_columns": self.input_columns, "delimiter": self.delimiter}
        for name, value in (of_inputs | of_both).items():
            sources = (self.inputs, self.targets) if name in of_inputs else (self.inputs, self.targets, self.observed)
            if value is not None and not any(isinstance(source, str) for source in sources):
                raise ValueError(
                    f"`{name}` must come with a file of `inputs`{'' if name in of_inputs else ' or `observed`'}."
                )
        if self.target_column is not None and (self.targets is not None or self.missing is not None):
            other = "targets" if self.targets is not None else "missing"
            raise ValueError(f"`target_column` must not come with `{other}`. Leave out one of them.")

    def _require_fitting_loss(self) -> None:
        require_known(self.loss)
        fits = "completion" if self.completing else "least-squares"
        if self.loss in FITS and self.loss != fits:
            source = next(name for name in _SOURCES if getattr(self, name) is not None)
            raise ValueError(f"`loss` must be {fits} for `{source}`, got {self.loss}.")
        if self.loss in (None, *FITS) and self.loss_args:
            raise ValueError(f"`loss_args` must come with a loss that takes them, got {self.loss_args[0][0]!r}.")

    @property
    def completing(self) -> bool:
        """Whether a matrix is completed from some of its entries."""
        return self.observed is not None or self.missing is not None

    def build(self, *, loss: str | None = None, known: MutableMapping[Any, Any] | None = None, **arrays: Any) -> Built:
        """Read and prepare the data, and make the loss and W(0).

        Parameters
        ----------
        loss : str, optional
            "FILE.py:Name", where the problem names such a loss: its file is run only by being named here again, perhaps
            at another path. A problem that came from a file of someone else's runs nothing by itself.
        known : dict, optional
            Of the caller: losses that were made are kept there and taken from there, with the same numbers, so that problems
            that differ in W(0) alone read and prepare their data once. The data must not change meanwhile.
        **arrays
            ``inputs=``, ``targets=``, ``observed=``, ``factors=``, ``initial=``: those that the problem names as arrays in
            memory.

        Returns
        -------
        Built
            ``loss``, ``start`` or ``network``, ``about``, and ``problem`` with all hashes.

        Raises
        ------
        ValueError, TypeError, ImportError
            If what is read is not what `sha256` says, cannot be read, or does not fit.
        """
        strange = set(arrays) - set(_ARRAYS)
        if strange:
            raise TypeError(f"`arrays` must be of {', '.join(_ARRAYS)}, got {', '.join(sorted(strange))}.")
        problem = self
        if is_code(self.loss):
            problem = replace(self, loss=_given_again(str(self.loss), loss))
        elif loss is not None:
            raise ValueError(f"`loss` must only be given again where the problem names FILE.py:Name, got {loss!r}.")
        return build(problem, arrays, known)

    # -- texts -----------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the problem as JSON-ready values."""
        entries = {f.name: as_json(getattr(self, f.name)) for f in fields(self)}
        pairs = {name: {key: as_json(v) for key, v in getattr(self, name)} for name in ("loss_args", "sha256")}
        for name in _LATER:
            if getattr(self, name) is None:
                del entries[name]
        return {"schema": _SCHEMA} | entries | pairs

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Problem:
        """Return the problem of its JSON.

        Raises
        ------
        ValueError, TypeError
            If there is a name that is none of a problem's, a newer schema, or a value that breaks its rule.
        """
        if not isinstance(entries, Mapping):
            raise TypeError(f"`entries` must be a mapping, got {validation.describe(entries)}.")
        rest = dict(entries)
        if rest.pop("schema", None) != _SCHEMA:
            raise ValueError(f"`entries` must be a problem of schema {_SCHEMA}, got {entries.get('schema')!r}.")
        unknown = [name for name in rest if name not in {f.name for f in fields(cls)}]
        if unknown:
            raise ValueError(f"`entries` must have the names of a problem, got {str(unknown[0])[:60]!r}.")
        for name in _ARRAYS:
            if isinstance(rest.get(name), Mapping):
                rest[name] = _in_memory(name, rest[name])
        return cls(**rest)

    def to_json(self) -> str:
        """Return the problem as a text of JSON, its names in the order of the alphabet."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False, sort_keys=True)

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Problem:
        """Read a problem from a file: what `to_json` returned, or a report with its problem.

        Raises
        ------
        ValueError, TypeError
            If there is no such file, it holds neither, or the report was made of objects in memory.
        """
        file = require_file("problem", path)
        try:
            entries = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"`problem` must be a file of JSON, got {str(file)!r} ({validation.reason(error)})."
            ) from None
        if isinstance(entries, dict) and "claims" in entries:
            if not entries.get("given"):
                raise ValueError(
                    f"`problem` must be a report that carries its problem, got {str(file)!r}, which was made of objects"
                    " in memory or by an earlier version. State it as a Problem."
                )
            entries = entries["given"]
        if not isinstance(entries, dict):
            raise ValueError(f"`problem` must be a problem or a report, got {str(file)!r}.")
        return cls.from_dict(entries)

    @property
    def key(self) -> str:
        """The SHA-256 of the problem: the same on every machine, another for any other problem."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def command_line(self, command: str) -> str:
        """Return what to type in a shell to run it, "" where no line says it.

        None does where the problem names arrays in memory, or where the command does not take what changes the loss or
        W(0): entries to hide, factors, metrics (some need a symmetric W(0)).

        Parameters
        ----------
        command : {"verify", "compare", "check-loss", "landscape", "diagnose"}
            What it does not need, such as a depth to compare, is left out.
        """
        taken = (*_EVERYWHERE, *_COMMANDS[validation.require_choice("command", command, _COMMANDS)])
        words = ["lowrankflow", command]
        for f in fields(self):
            value = getattr(self, f.name)
            if value == f.default or f.name not in (*taken, *_BUILT_OF):
                continue
            if isinstance(value, InMemory) or f.name not in taken:
                return ""
            if f.name in ("input_columns", "target_column") and any("," in str(item) for item in value):
                return ""
            option = "--" + ("columns" if f.name == "input_columns" else f.name.replace("_", "-"))
            if f.name == "descent":
                words += ["--descent", *([] if value == UPDATES else ["--steps", str(value)])]
            elif f.name == "loss_args":
                words += [word for key, v in value for word in ("--loss-arg", f"{key}={_argument_text(v)}")]
            else:
                words += [option, _option_text(value)]
        return shlex.join(words)


def loss_argument(text: str) -> tuple[str, Any]:
    """Return keyword and value of "KEY=VALUE"; the value a number, True, False, None, a list of them, or else the text."""
    key, sign, value = text.partition("=")
    if not sign or not key.isidentifier():
        raise ValueError(f"`loss_args` must be KEY=VALUE, got {text!r}.")
    return key, _literal(value)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _argument_text(value: Any) -> str:
    return value if isinstance(value, str) and _literal(value) == value else repr(as_json(value))


def _option_text(value: Any) -> str:
    return ",".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _given_again(known: str, again: str | None) -> str:
    """Return the FILE.py:Name that may be run."""
    if again is None:
        raise ValueError(
            f"`loss` must be given again where it is a file: the problem names {known!r}, which is code. Read it first."
        )
    if not is_code(again) or again.rpartition(":")[2] != known.rpartition(":")[2]:
        raise ValueError(f"`loss` must be the one that the problem names, {known!r}, perhaps elsewhere; got {again!r}.")
    return again


def _in_memory(name: str, entry: Mapping[str, Any]) -> InMemory:
    """Return the name of an array in memory from its JSON."""
    if set(entry) != {"shape", "sha256"} or not isinstance(entry["shape"], list):
        raise ValueError(f"`{name}` must have shape and sha256, got {', '.join(map(str, entry))}.")
    shape = tuple(validation.require_integer("shape", d, low=1) for d in entry["shape"])
    return InMemory(shape, require_sha256("sha256", entry["sha256"]))
