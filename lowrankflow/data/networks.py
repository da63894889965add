"""Read networks from files: factors, layers with biases, state dicts and parameter trees, of which nothing is run."""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from ..files import require_file
from ..foreign import Layer, from_named, from_torch
from ..matrices import AffineNetwork, LinearNetwork
from ..matrices.requirements import require_factors, require_no_biases
from ..validation import Array
from .reading import listed, read_npz

__all__ = ["read_factors", "read_network"]

_NAME = "factors"  #: what messages call what is read
_SUFFIXES = (".npz", ".safetensors", ".pt", ".pth")
_FIX = " Save them with numpy.savez(file, W1=..., W2=...), W1 the one that acts first."


def read_network(path: str | os.PathLike[str]) -> LinearNetwork | AffineNetwork:
    """Read a network; one with biases where a layer has one.

    Parameters
    ----------
    path : path
        A .npz file with arrays ``W1, W2, ...`` (or ``factor_1, factor_2, ...``) and, of layers that have one, ``b1, b2, ...``; or
        as ``numpy.savez(file, *factors)`` writes it: ``arr_0, arr_1, ...``. A .pt or .pth file of a state dict, or of a
        checkpoint that holds one. A .safetensors or .npz file with the names of a state dict ("0.weight", "0.bias") or of a
        parameter tree ("params/Dense_0/kernel", which is W_1^T). Numbers in names are sorted as numbers, so W10 follows W9.

    Returns
    -------
    LinearNetwork or AffineNetwork
        Of two layers at least.

    Raises
    ------
    ValueError, TypeError
        If the file is missing, empty, of another kind or unreadable; if it holds anything else, which is named, or a
        number is missing; if a weight is not a finite real matrix; if the weights do not chain.
    ImportError
        If what reads such a file is not installed.
    """
    layers = _layers(require_file(_NAME, path))
    weights = require_factors([layer.weight for layer in layers], low=2)
    return AffineNetwork(weights, [layer.bias for layer in layers]).simplest()


def read_factors(path: str | os.PathLike[str]) -> list[Array]:
    """Read the factors of a network without biases, W_1 (which acts first) first.

    Parameters
    ----------
    path : path
        As of `read_network`.

    Returns
    -------
    list of ndarray
        At least two factors that chain.

    Raises
    ------
    ValueError, TypeError, ImportError
        As `read_network` does, and if a layer has a bias.
    """
    return list(require_factors(require_no_biases(_NAME, _layers(require_file(_NAME, path)), "read_network"), low=2))


def _layers(file: Path) -> list[Layer]:
    """Return the layers in a file."""
    suffix = file.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(f"`{_NAME}` must end in {' or '.join(_SUFFIXES)}, got {file.name!r}.")
    found: Any = read_npz(_NAME, file) if suffix == ".npz" else _weights(file)
    if suffix == ".npz" and not any(mark in key for key in found for mark in "./"):
        return _numbered(file, found)
    try:
        if suffix in (".npz", ".safetensors"):
            return from_named(_NAME, (((key,), array) for key, array in found.items()), ordered=False)
        return from_torch(found, _NAME)
    except (ValueError, TypeError) as error:  # with the name of the file before the fix
        what, _, fix = str(error).partition(". ")
        raise type(error)(f"{what.rstrip('.')} (in {file.name!r}).{' ' * bool(fix)}{fix}") from None


def _weights(file: Path) -> Any:
    """Return what a .safetensors, .pt or .pth file holds."""
    try:
        if file.suffix.lower() == ".safetensors":
            return import_module("safetensors.numpy").load_file(file)
        return import_module("torch").load(file, map_location="cpu", weights_only=True)
    except ImportError as error:
        extra = "safetensors" if file.suffix.lower() == ".safetensors" else "torch"
        raise ImportError(
            f'`{_NAME}` in a {file.suffix} file needs {error.name}. Run: pip install "lowrankflow[{extra}]"'
        ) from None
    except Exception:  # of kinds of their own, with advice how to run what would run code
        what = "weights of linear layers, as torch.save(model.state_dict(), file) writes them"
        raise ValueError(f"`{_NAME}` must be {what}, got {file.name!r}: damaged, or something else.") from None


def _numbered(file: Path, arrays: dict[str, Any]) -> list[Layer]:
    """Return the layers of an archive of arrays W1, b1, W2, ..., or of one without names."""
    found = {key: re.fullmatch(r"(W_?|factor_?)([1-9]\d*)|(arr_)(0|[1-9]\d*)|(b_?)([1-9]\d*)", key) for key in arrays}
    kinds = {(match[1] or match[3]) if match else None for match in found.values() if not (match and match[5])}
    if len(kinds) != 1 or None in kinds:
        raise ValueError(f"`{_NAME}` must be arrays W1, W2, ..., got {listed(arrays)} in {file.name!r}.{_FIX}")
    number = {int(match[2] or match[4]): key for key, match in found.items() if match and not match[5]}
    biases = {int(match[6]): key for key, match in found.items() if match and match[5]}
    start = 0 if kinds == {"arr_"} else 1
    gap = next((j for j in range(start, start + len(number)) if j not in number), None)
    if gap is not None:
        lost = f"{kinds.pop()}{gap}"
        raise ValueError(f"`{_NAME}` must be numbered without gaps, {lost} is missing in {file.name!r}.{_FIX}")
    named = [((f"{role}{j}",), arrays[key]) for role, keys in (("W", number), ("b", biases)) for j, key in keys.items()]
    return from_named(_NAME, named, ordered=False)
