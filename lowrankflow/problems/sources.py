"""The numbers that a problem names: bundled data, files, arrays in memory, and the hashes that tell them again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .. import data, validation
from ..files import require_file
from ..matrices import AffineNetwork, LinearNetwork
from ..matrices.requirements import require_factors

if TYPE_CHECKING:
    from .problem import Problem

__all__ = ["InMemory", "Network", "Numbers", "as_source", "file_hash", "require_hash", "source_hash"]

Network = LinearNetwork | AffineNetwork
Handed = Mapping[str, Any]  #: what was given in memory, by the names of the arguments


@dataclass(frozen=True)
class InMemory:
    """Arrays that are not in a file, named by their shape and their hash; they must be handed over to `Problem.build`.

    Attributes
    ----------
    shape : tuple of int
        Of the array; of observed entries and of factors, of the matrix that they make.
    sha256 : str
        Of the numbers, as float64, with their shapes.
    """

    shape: tuple[int, ...]
    sha256: str


def as_source(name: str, value: Any) -> str | InMemory | None:
    """Return a path as text, an array as what names it, and anything that is one of these as it is."""
    if value is None or isinstance(value, InMemory):
        return value
    if isinstance(value, (str, bytes)) or hasattr(value, "__fspath__"):
        text = str(value)
        if not text or isinstance(value, bytes):
            raise ValueError(f"`{name}` must be the path of a file or an array, got {validation.describe(value)}.")
        return text
    return _named(name, value)[0]


def _named(name: str, value: Any) -> tuple[InMemory, Any]:
    """Return the name of an array in memory, and the array as it is used."""
    if name == "observed":
        entries = value if isinstance(value, data.Observations) else _entries(value)
        arrays = (entries.rows, entries.cols, entries.values)
        return InMemory(entries.shape, _hash(*arrays, np.array(entries.shape))), entries
    if name in ("factors", "initial"):
        if isinstance(value, AffineNetwork):
            biases = (np.empty(0) if b is None else b for b in value.biases)
            return InMemory(value.shape, _hash(*require_factors(value.weights, low=2), *biases)), value
        network = LinearNetwork(require_factors(value, low=2))
        return InMemory(network.shape, _hash(*network.factors)), network
    array = np.ascontiguousarray(validation.as_matrix(name, value, column=True))  # sums round by the order in memory
    return InMemory(array.shape, _hash(array)), array


def _entries(value: Any) -> data.Observations:
    """Return the stored entries of a sparse matrix."""
    if not sparse.issparse(value):
        raise TypeError(f"`observed` must be a file, Observations or a sparse array, got {validation.describe(value)}.")
    coo = cast(Any, sparse.coo_array)(value)
    if coo.ndim != 2:
        raise ValueError(f"`observed` must be a matrix with 2 dimensions, got shape {coo.shape}.")
    rows, cols = coo.coords
    return data.Observations("observed", rows, cols, coo.data, coo.shape)


def _hash(*arrays: Any) -> str:
    """Return the SHA-256 of arrays: of the shape and the numbers of each."""
    found = hashlib.sha256()
    for array in arrays:
        numbers = np.ascontiguousarray(array, dtype="<f8")
        found.update(repr(numbers.shape).encode() + b"\0" + numbers.tobytes())
    return found.hexdigest()


def file_hash(name: str, path: str) -> str:
    """Return the SHA-256 of the bytes of a file."""
    with open(require_file(name, path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def source_hash(name: str, source: str) -> str:
    """Return the SHA-256 of what a problem names: of the numbers of bundled data, of the bytes of a file or of a loss's file.

    Parameters
    ----------
    name : {"data", "inputs", "targets", "observed", "factors", "initial", "loss"}
    source : str
        A name of bundled data, a path, or "FILE.py:Name".
    """
    if name == "data":
        return _data_hash(data.load(source))
    return file_hash(name, source.rpartition(":")[0] if name == "loss" else source)


def _joined(hashes: list[str]) -> str:
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _data_hash(read: data.DataSet) -> str:
    return _hash(*((read.inputs,) if read.targets is None else (read.inputs, read.targets)))


def require_hash(name: str, what: str, found: str, known: Mapping[str, str]) -> None:
    """Refuse numbers that are not those of the problem."""
    if known.get(name, found) != found:
        raise ValueError(
            f"`{name}` must be what the problem names, got {what} with SHA-256 {found[:12]}... instead of"
            f" {known[name][:12]}... . Bring it back, or state the problem anew."
        )


class Numbers:
    """What a problem names, read and told by its hashes.

    Parameters
    ----------
    problem : Problem
        Its ``sha256``, where there are any, must be those that are found.
    handed : mapping
        Arrays in memory by name.
    """

    problem: Problem
    handed: Handed
    known: dict[str, str]

    def __init__(self, problem: Problem, handed: Handed) -> None:
        self.problem, self.handed = problem, handed
        self.known = dict(problem.sha256)
        self.found: dict[str, str] = {}
        for name in handed:
            if not isinstance(getattr(problem, name), InMemory):
                raise ValueError(f"`{name}` must only be handed over where the problem names an array in memory.")

    def samples(self) -> data.DataSet:
        """Return inputs and targets."""
        p = self.problem
        if p.data is not None:
            read = data.load(p.data)
            self._tell("data", p.data, _data_hash(read))
            return read
        if isinstance(p.inputs, str) and not isinstance(p.targets, InMemory):
            self._tell_file("inputs", p.inputs)
            if p.targets is not None:
                self._tell_file("targets", p.targets)
            return data.read_inputs(
                p.inputs, p.targets, columns=p.input_columns, target_column=p.target_column, delimiter=p.delimiter,
                missing_rows=p.missing_rows,
            )  # fmt: skip
        inputs, targets = self._array("inputs"), self._array("targets")
        read = data.DataSet("arrays in memory", inputs, targets)
        shapes = f"{inputs.shape[0]} x {inputs.shape[1]}" + ("" if targets is None else f" -> {targets.shape[1]}")
        return replace(read, description=f"{shapes}, {read.task}: {read.name}")

    def observations(self) -> data.Observations:
        """Return the observed entries."""
        observed = self.problem.observed
        if isinstance(observed, str):
            self._tell_file("observed", observed)
            return data.read_observed(observed, columns=self.problem.input_columns, delimiter=self.problem.delimiter)
        return self._in_memory("observed")

    def network(self, name: str = "factors") -> Network:
        """Return a network, or the one that its training began with."""
        factors = getattr(self.problem, name)
        if isinstance(factors, str):
            self._tell_file(name, factors)
            return data.read_network(factors)
        found: Network = self._in_memory(name)
        return found

    def checkpoints(self) -> tuple[NDArray[np.int64], list[Network]]:
        """Return after how many updates the checkpoints of a run were made, and their networks."""
        folder = str(self.problem.run)
        files = data.checkpoint_files(folder).values()
        self._tell("run", folder, _joined([file_hash("run", str(file)) for file in files]))
        return data.read_run(folder)

    def code(self, reference: str) -> None:
        """Tell the file of a loss, "FILE.py:Name"."""
        self._tell_file("loss", reference.rpartition(":")[0])

    def _array(self, name: str) -> Any:
        source = getattr(self.problem, name)
        if isinstance(source, str):
            self._tell_file(name, source)
            columns = self.problem.input_columns if name == "inputs" else None
            return data.read_inputs(source, columns=columns, delimiter=self.problem.delimiter).inputs
        return None if source is None else self._in_memory(name)

    def _in_memory(self, name: str) -> Any:
        source = getattr(self.problem, name)
        if name not in self.handed:
            size = " x ".join(map(str, source.shape))
            raise ValueError(
                f"`{name}` must be handed over again: the problem names an array of {size} in memory. Use build({name}=...)."
            )
        named, array = _named(name, self.handed[name])
        if named != source:
            raise ValueError(
                f"`{name}` must be the array that the problem names, of shape {source.shape} and SHA-256"
                f" {source.sha256[:12]}..., got {named.shape} and {named.sha256[:12]}... ."
            )
        return array

    def _tell_file(self, name: str, path: str) -> None:
        self._tell(name, f"{path!r}", file_hash(name, path))

    def _tell(self, name: str, what: str, found: str) -> None:
        require_hash(name, what, found, self.known)
        self.found[name] = found
