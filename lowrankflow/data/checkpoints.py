"""Read the checkpoints of a training run: a folder of files, each with the network after so many updates."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import validation
from ..matrices import AffineNetwork, LinearNetwork
from .networks import read_network

__all__ = ["checkpoint_files", "read_run"]


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
            raise type(error)(f"{validation.reason(error)} (in {file.name!r} of `run`)") from None
    return np.array(list(files), dtype=np.int64), networks
