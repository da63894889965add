"""The checkpoints of a training run: keep them as it goes, in memory or in a folder, and read such a folder."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import validation
from ..files import require_output_folder, write_arrays
from ..matrices import AffineNetwork, LinearNetwork
from .networks import read_network

__all__ = ["Recorder", "checkpoint_files", "read_run"]


class Recorder:
    """Keep a network of PyTorch while it is trained: as it is now, and after every so many updates.

    Parameters
    ----------
    module : torch.nn.Module
        A chain of linear layers, as `LinearNetwork.from_torch` reads it, or with biases `AffineNetwork.from_torch`.
    every : int
        Updates from one checkpoint to the next.
    folder : path, optional
        Where to write them, ``step_000100.npz`` each as soon as it is made, for ``lowrankflow verify --run``; it is made if need
        be, and must hold no file yet. None: they are kept in memory alone.

    Attributes
    ----------
    networks : list of LinearNetwork or AffineNetwork
        The checkpoints, in double precision; empty where they are written to a folder.
    updates : list of int
        After how many updates each was made; the first is 0.
    ended : int or None
        The update from which on nothing is kept, because the network was not finite any more, or its file could not be written;
        a warning says which, and the training goes on.

    Raises
    ------
    ValueError, TypeError
        If the module is no such chain, `every` is not a positive whole number, or the folder cannot be written or is not empty.

    Notes
    -----
    It is called after every update, by hand or by ``optimizer.register_step_post_hook(recorder)``, whatever it is called with.
    """

    def __init__(self, module: Any, *, every: int = 1, folder: str | os.PathLike[str] | None = None) -> None:
        self._every = validation.require_integer("every", every, low=1)
        self._module, self._count = module, 0
        self.networks: list[LinearNetwork | AffineNetwork] = []
        self.updates: list[int] = []
        self.ended: int | None = None
        first = AffineNetwork.from_torch(module)
        self._folder = None if folder is None else require_output_folder(folder)
        if self._folder is not None and any(self._folder.iterdir()):
            raise ValueError(f"`folder` must be empty, got {str(folder)!r} with files. Choose another, or empty it.")
        self._keep(first)

    def __call__(self, *_: object) -> None:
        """Count an update, and keep the network where it is one of those that are kept."""
        self._count += 1
        if self._count % self._every == 0 and self.ended is None:
            try:
                self._keep(AffineNetwork.from_torch(self._module))
            except (ValueError, OSError) as error:  # a training of hours does not end for this
                self.ended = self._count
                warnings.warn(
                    f"Nothing of `module` is kept from update {self._count} on: {validation.reason(error)}",
                    RuntimeWarning,
                    stacklevel=2,
                )

    def _keep(self, network: AffineNetwork) -> None:
        if self._folder is None:
            self.networks.append(network.simplest())
        else:
            arrays = {f"W{j}": weight for j, weight in enumerate(network.weights, start=1)}
            arrays |= {f"b{j}": bias for j, bias in enumerate(network.biases, start=1) if bias is not None}
            write_arrays(self._folder / f"step_{self._count:06d}.npz", arrays)
        self.updates.append(self._count)

    def __repr__(self) -> str:
        where = "" if self._folder is None else f" in {str(self._folder)!r}"
        return f"Recorder({len(self.updates)} checkpoints after {self._count} updates{where})"


def checkpoint_files(folder: str | os.PathLike[str]) -> dict[int, Path]:
    """Return the files of a run by the number of updates, the last whole number in a file's name, in its order.

    Parameters
    ----------
    folder : path
        With files such as ``step_000100.npz``; those whose names begin with a dot are left out.

    Raises
    ------
    ValueError
        If there is no such folder, fewer than two files are in it, one has no number in its name, or two have the same.
    """
    text = os.fspath(folder)
    if not text or not Path(text).is_dir():
        raise ValueError(f"`run` must be a folder of checkpoints, got {validation.describe(text)}.")
    found: dict[int, Path] = {}
    for file in sorted(Path(text).iterdir()):
        if file.name.startswith(".") or not file.is_file():
            continue
        numbers = re.findall(r"\d+", file.stem)
        if not numbers:
            raise ValueError(f"`run` must hold files with the number of updates in their names, got {file.name!r}.")
        if int(numbers[-1]) in found:
            other = found[int(numbers[-1])].name
            raise ValueError(f"`run` must hold one file for a number of updates, got {other!r} and {file.name!r}.")
        found[int(numbers[-1])] = file
    if len(found) < 2:
        raise ValueError(f"`run` must hold two checkpoints at least, got {len(found)} in {text!r}.")
    return dict(sorted(found.items()))


def read_run(folder: str | os.PathLike[str]) -> tuple[NDArray[np.int64], list[LinearNetwork | AffineNetwork]]:
    """Return after how many updates each checkpoint was made, and its network, each file read once.

    Raises
    ------
    ValueError, TypeError
        As `checkpoint_files` and `read_network` do; the message names the file.
    """
    files = checkpoint_files(folder)
    networks = []
    for file in files.values():
        try:
            networks.append(read_network(file))
        except (ValueError, TypeError) as error:
            reason = re.sub(r"`factors(\[\d+\])?`", "a checkpoint", validation.reason(error))
            raise type(error)(f"{reason} (in {file.name!r} of `run`)") from None
    return np.array(list(files), dtype=np.int64), networks
