"""Modules of torch as chains of linear layers, and back."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import as_array, precision
from .layers import Layer, from_listed, from_named

__all__ = ["from_torch", "to_torch"]


def from_torch(module: Any, name: str = "module") -> list[Layer]:
    """Return a chain of linear layers in double precision, the one that acts first first.

    Parameters
    ----------
    module : torch.nn.Module, mapping or iterable
        Linear, a Sequential of them (nested, with Identity), any module whose layers are used in the order in which they were
        defined; a state dict, or a checkpoint that holds one; ``module.parameters()``, a list of weights, each followed by its
        bias.
    name : str
        What messages call it.
    """
    if isinstance(module, Mapping):
        state = _state_in(name, module)
        return _require_some(
            name, from_named(name, (((str(key),), value) for key, value in state.items()), ordered=True)
        )
    if hasattr(module, "named_modules"):
        found = _layers(name, module)
        named = [
            (f"{path}.{role}" if path else role, part)
            for path, layer in found
            for role, part in (("weight", layer.weight), ("bias", layer.bias))
            if part is not None
        ]
        parts = [part for _, part in named]
        layers = from_listed(name, parts, names=[shown for shown, _ in named])
        layers = [each._replace(name=_label(*one)) for each, one in zip(layers, found, strict=True)]
        if layers and not _is_sequential(module):
            _require_chain(name, module, layers, max(map(precision, parts)))
        return _require_some(name, layers)
    if isinstance(module, Iterable) and not isinstance(module, (str, bytes)) and not hasattr(module, "shape"):
        return _require_some(name, from_listed(name, list(module)))
    kind = type(module).__name__
    raise TypeError(f"`{name}` must be a torch.nn.Module, a state dict or a list of weights, got {kind}.")


def _require_some(name: str, layers: list[Layer]) -> list[Layer]:
    if not layers:
        raise ValueError(f"`{name}` must hold weights of linear layers, got none.")
    return layers


def _state_in(name: str, state: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Return a state dict, or the one that a checkpoint holds among other things."""
    inner = {key: value for key, value in state.items() if isinstance(value, Mapping)}
    if "param_groups" in state or not inner or _has_weights(state):
        return state
    holding = [key for key, value in inner.items() if _has_weights(value)]
    if len(holding) != 1:
        got = " and ".join(map(repr, holding[:2])) if holding else "none"
        raise ValueError(f"`{name}` must hold one state dict, got {got}. Take the one of the model.")
    return inner[holding[0]]


def _has_weights(state: Mapping[Any, Any]) -> bool:
    """Whether a matrix stands directly in a mapping."""
    return any(hasattr(value, "dtype") and np.ndim(value) == 2 for value in state.values())


def _layers(name: str, module: Any) -> list[tuple[str, Any]]:
    """Return the linear layers of a module with their paths; refuse what else it is made of."""
    nn = sys.modules["torch"].nn
    found = []
    for path, layer in module.named_modules(remove_duplicate=False):
        label = _label(path, layer)
        if isinstance(layer, nn.Linear):
            if nn.utils.parametrize.is_parametrized(layer) or not isinstance(layer.weight, nn.Parameter):
                raise ValueError(
                    f"`{name}` must train its weights themselves, got {label}, whose weight is a parametrised one."
                    " Remove the parametrisation first."
                )
            found.append((path, layer))
        elif isinstance(layer, nn.Dropout) and (layer.p == 0 or not layer.training):
            continue
        elif not isinstance(layer, (nn.Identity, nn.Sequential)) and (
            layer is not module or not list(layer.children())
        ):
            raise ValueError(f"`{name}` must be a chain of Linear layers, got {label}. Leave it out.")
    if len({id(layer.weight) for _, layer in found}) < len(found):
        raise ValueError(f"`{name}` must have a weight of its own in each layer, got one that is shared.")
    return found


def _label(path: str, layer: Any) -> str:
    """Return what a layer is called: its class, with its home where that is no one's of torch.nn, and its path."""
    kind = type(layer)
    text = kind.__name__ if kind.__module__.startswith("torch.nn.") else f"{kind.__module__}.{kind.__name__}"
    text = f"quantised {kind.__name__}" if "quantized" in kind.__module__ else text
    return f"{text} {path!r}" if path else text


def _is_sequential(module: Any) -> bool:
    """Whether a module of linear layers uses them one after the other by what it is."""
    nn = sys.modules["torch"].nn
    plain = (nn.Sequential.forward, nn.Linear.forward, nn.Identity.forward, nn.Dropout.forward)
    return all(
        type(layer).forward in plain and not (layer._forward_hooks or layer._forward_pre_hooks)
        for layer in module.modules()
    )


def _require_chain(name: str, module: Any, layers: Sequence[Layer], eps: float) -> None:
    """Refuse a module that does not apply its layers in their order, by what it makes of two samples."""
    torch = sys.modules["torch"]
    chained = all(a.weight.shape[0] == b.weight.shape[1] for a, b in pairwise(layers))
    x = np.cos(np.arange(1.0, 2 * layers[0].weight.shape[1] + 1)).reshape(
        2, -1
    )  # of both signs, without a random number
    wanted, size = x.T, abs(x.T)
    for weight, bias, _ in layers if chained else ():
        b = 0.0 if bias is None else bias[:, None]
        wanted, size = weight @ wanted + b, abs(weight) @ size + abs(b)
    first = next(module.parameters())
    try:
        with torch.no_grad():
            found = as_array(name, module(torch.as_tensor(x, dtype=first.dtype, device=first.device))).T
    except Exception as error:
        raise ValueError(f"`{name}` must map samples in rows, got {type(error).__name__} from its forward.") from None
    # roundoff of N layers with sums of d terms, against the same with all signs equal
    bound = 4 * len(layers) * max(max(layer.weight.shape) + 1 for layer in layers) * eps * size
    if not chained or found.shape != wanted.shape or not (abs(found - wanted) <= bound).all():
        raise ValueError(
            f"`{name}` must use its Linear layers in the order in which it defines them, and nothing else; its forward does not."
            " Use torch.nn.Sequential."
        )


def to_torch(
    weights: Sequence[NDArray[np.float64]],
    biases: Sequence[NDArray[np.float64] | None] | None = None,
    dtype: Any = None,
) -> Any:
    """Return a torch.nn.Sequential of Linear layers; in double precision, where no `dtype` is given."""
    try:
        torch: Any = import_module("torch")
    except ImportError:
        raise ImportError("`to_torch` needs torch. Run: pip install torch") from None
    dtype = torch.float64 if dtype is None else dtype
    layers = []
    for weight, bias in zip(weights, biases or [None] * len(weights), strict=True):
        n_out, n_in = weight.shape
        layer = torch.nn.utils.skip_init(torch.nn.Linear, n_in, n_out, bias=bias is not None, dtype=dtype)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(np.ascontiguousarray(weight)))
            if bias is not None:
                layer.bias.copy_(torch.tensor(bias))
        layers.append(layer)
    return torch.nn.Sequential(*layers)
