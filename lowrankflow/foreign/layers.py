"""Layers of a chain from arrays that are named, as in state dicts, parameter trees and archives, or listed in their order.

Which axis of a weight is the input is decided by its name and never by its shape: "weight" and "W" are (out, in), as ours are,
"kernel" and "w" (in, out), as those of Flax and Haiku.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import as_array

__all__ = ["Entry", "Layer", "from_listed", "from_named"]

_ROLES = {"weight": "weight", "W": "weight", "kernel": "kernel", "w": "kernel", "bias": "bias", "b": "bias"}
_ROLE = re.compile(r"(weight|kernel|bias|W|w|b)(?:_?(\d+))?")

_REFUSED = (  # what a name tells, and the way out; the first that any name tells
    (r"lora_|base_layer", "LoRA factors", "Merge them into the weight first."),
    (r"parametrizations|weight_[guv]$|weight_orig", "a parametrised weight", "Remove the parametrisation first."),
    (r"_packed_params|zero_point", "a quantised layer", "Take the weights before quantisation."),
    (r"running_(mean|var)|num_batches|(^|[./])(mean|var|scale|ema)$", "a normalisation layer", "Leave it out."),
    (r"embed", "an embedding", "Leave it out, or give a list of weights where it is a linear layer."),
    (r"^(param_groups|state)$", "the state of an optimizer", "Take model.state_dict()."),
)

Entry = tuple[tuple[str | int, ...], Any]  #: the way to an array, and the array


class Layer(NamedTuple):
    """x -> W x + b."""

    weight: NDArray[np.float64]  #: W, (out, in)
    bias: NDArray[np.float64] | None  #: b, (out,)
    name: str  #: what messages call it


def from_named(name: str, entries: Iterable[Entry], *, ordered: bool) -> list[Layer]:
    """Return the layers of arrays that are named.

    Parameters
    ----------
    name : str
        What messages call the whole.
    entries : iterable of (path, array)
        Paths such as ("0", "weight"), or ("params/Dense_0/bias",).
    ordered : bool
        Whether the entries come in the order in which the layers act; it is that of the numbers in their names where nothing
        else tells two names apart, and where it is not told by either, they are refused.

    Raises
    ------
    ValueError, TypeError
        If an array is of no linear layer, a bias has no weight, or the order is not known.
    """
    named = [("/".join(map(str, path)), path, value) for path, value in entries]
    _refuse_others(name, [shown for shown, _, _ in named])
    found: dict[tuple[str, ...], dict[str, tuple[str, Any]]] = {}
    for shown, path, value in named:
        parts = [part for piece in path for part in re.split(r"[./]", str(piece))]
        match = _ROLE.fullmatch(parts[-1])
        if match is None:
            raise ValueError(
                f"`{name}` must have names that end in weight, kernel or bias, got {shown!r}. Give a list, W_1 first."
            )
        layer = found.setdefault((*parts[:-1], *((match[2],) if match[2] else ())), {})
        role = _ROLES[match[1]]
        if role in layer or (role != "bias" and layer.keys() & {"weight", "kernel"}):
            raise ValueError(f"`{name}` must have one {role} a layer, got {shown!r} too.")
        layer[role] = shown, value
    keys = _in_order(name, list(found), ordered)
    _refuse_shared(name, [arrays[role] for arrays in found.values() for role in ("weight", "kernel") if role in arrays])
    return [_layer(name, found[key]) for key in keys]


def _refuse_others(name: str, names: Sequence[str]) -> None:
    """Refuse what a name tells of a layer that is no plain linear one."""
    for pattern, what, fix in _REFUSED:
        shown = next((each for each in names if re.search(pattern, each)), None)
        if shown is not None:
            raise ValueError(f"`{name}` must be a chain of linear layers, got {what}, {shown!r}. {fix}")


def from_listed(
    name: str, arrays: Sequence[Any], *, transposed: bool = False, names: Sequence[str] | None = None
) -> list[Layer]:
    """Return the layers of weights in the order in which they act, each followed by its bias, where it has one.

    Parameters
    ----------
    name : str
        What messages call the list.
    arrays : sequence of arrays
        W_1, b_1, W_2, ...
    transposed : bool
        Whether the weights are (in, out).
    names : sequence of str, optional
        What messages call the arrays; None: their numbers.
    """
    layers: list[dict[str, tuple[str, Any]]] = []
    for i, array in enumerate(arrays):
        shown = str(i) if names is None else names[i]
        if np.ndim(array) == 1 and layers and "bias" not in layers[-1]:
            layers[-1]["bias"] = shown, array
        else:
            layers.append({"kernel" if transposed else "weight": (shown, array)})
    _refuse_shared(name, [found for layer in layers for role, found in layer.items() if role != "bias"])
    return [_layer(name, layer) for layer in layers]


def _in_order(name: str, keys: list[tuple[str, ...]], ordered: bool) -> list[tuple[str, ...]]:
    """Return the names of layers in the order in which they act; "dense_2" follows "dense" and comes before "dense_10"."""
    if len({re.sub(r"(^|[_/])?\d+", "", "/".join(key)) for key in keys}) <= 1:
        number = re.compile(r"_?(\d+)")
        return sorted(keys, key=lambda key: [number.sub(lambda m: "\0" + m[1].zfill(20), part) for part in key])
    if ordered:
        return keys
    first, second = ("/".join(key) for key in keys[:2])
    raise ValueError(
        f"`{name}` must have layers whose names differ by numbers alone, so that their order is known, got {first!r} and"
        f" {second!r}. Give a list of the layers, the one that acts first first."
    )


def _layer(name: str, arrays: dict[str, tuple[str, Any]]) -> Layer:
    """Return a layer in double precision."""
    role = next((role for role in ("weight", "kernel") if role in arrays), None)
    if role is None:
        raise ValueError(f"`{name}` must have a weight for every bias, got {arrays['bias'][0]!r} without one.")
    shown, value = arrays[role]
    weight = _numbers(name, shown, value)
    if weight.ndim != 2:
        kind = {1: "a normalisation layer has such a one", 0: "a scale"}.get(
            weight.ndim, "a convolution has such a one"
        )
        raise ValueError(
            f"`{name}` must have matrices for weights, got shape {weight.shape} in {shown!r}: {kind}. Leave it out."
        )
    weight = np.ascontiguousarray(weight.T) if role == "kernel" else weight
    bias = None
    if "bias" in arrays:
        label, value = arrays["bias"]
        bias = _numbers(name, label, value)
        if bias.shape != weight.shape[:1]:
            raise ValueError(
                f"`{name}` must have biases as long as their weights have outputs, got shape {bias.shape} in {label!r} for"
                f" {weight.shape[0]}."
            )
    return Layer(weight, bias, shown)


def _numbers(name: str, shown: str, value: Any) -> NDArray[np.float64]:
    """Return the numbers of a layer, as an array of its own."""
    if _without_data(value):
        raise ValueError(
            f"`{name}` must hold numbers, got {shown!r} without data (a meta tensor). Load the weights first."
        )
    if getattr(value, "is_quantized", False):
        raise ValueError(f"`{name}` must not be quantised, got {shown!r}. Take the weights before quantisation.")
    kind = str(getattr(value, "dtype", "")).removeprefix("torch.")
    array = np.asarray(as_array(name, value))
    if array.dtype.kind not in "fiub":
        raise TypeError(f"`{name}` must hold real numbers, got dtype {array.dtype} in {shown!r}.")
    if array.size == 0:
        raise ValueError(f"`{name}` must hold numbers, got an empty array of shape {array.shape} in {shown!r}.")
    if kind in ("float16", "bfloat16") and not np.isfinite(array).all():
        raise ValueError(
            f"`{name}` must be finite, got NaN or infinity in {shown!r}: half precision ({kind}) overflowed. Keep it in float32."
        )
    return np.array(array, dtype=np.float64)


def _without_data(value: Any) -> bool:
    """Whether a tensor of torch has a place and no numbers yet."""
    return getattr(value, "is_meta", False) or type(value).__name__ == "UninitializedParameter"


def _refuse_shared(name: str, weights: Sequence[tuple[str, Any]]) -> None:
    """Refuse two weights that are one in memory: an update of one would be one of the other."""
    seen: dict[Any, str] = {}
    for shown, value in weights:
        place = _address(value)
        if place in seen:
            raise ValueError(
                f"`{name}` must have a weight of its own in each layer, got one that is shared by {seen[place]!r} and"
                f" {shown!r}. Untie them."
            )
        seen[place] = shown


def _address(value: Any) -> Any:
    """Return what two arrays have in common that are one in memory, and no others."""
    if _without_data(value) or 0 in getattr(value, "shape", (0,)):
        return id(value)
    if callable(getattr(value, "data_ptr", None)):
        try:
            return value.data_ptr()
        except RuntimeError:  # a quantised or wrapped tensor
            return id(value)
    return value.__array_interface__["data"][0] if type(value) is np.ndarray else id(value)
