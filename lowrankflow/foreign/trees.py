"""Parameter trees of JAX libraries as chains of linear layers, and back: nested dicts and lists, of which nothing is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layers import Entry, Layer, from_listed, from_named

__all__ = ["from_jax", "to_jax"]


def from_jax(tree: Any, layout: str | None = None, name: str = "tree") -> list[Layer]:
    """Return a chain of linear layers in double precision, the one that acts first first.

    Parameters
    ----------
    tree : mapping or list
        Nested dicts (FrozenDict, nnx.State) whose leaves are called kernel, w, weight, W, bias, b; or lists: of such dicts, of
        weights, of pairs of weight and bias.
    layout : {"out_in", "in_out"}, optional
        Of weights that have no name.
    name : str
        What messages call it.
    """
    entries = list(_entries(name, tree, ()))
    listed = [(path, value) for path, value in entries if isinstance(path[-1], int)]
    if not entries:
        raise ValueError(f"`{name}` must hold weights of linear layers, got none.")
    if not listed:
        return from_named(name, entries, ordered=False)
    if len(listed) < len(entries):
        shown = "/".join(map(str, listed[0][0]))
        raise ValueError(f"`{name}` must name all of its arrays or none, got {shown!r} without a name.")
    if layout is None:
        raise ValueError(
            '`layout` must say which axis of a weight without a name is the input, got none. Use layout="out_in" for'
            ' W x + b, "in_out" for x W + b.'
        )
    return from_listed(name, [value for _, value in listed], transposed=layout == "in_out")


def _entries(name: str, node: Any, path: tuple[str | int, ...]) -> Iterator[Entry]:
    """Return the arrays of a tree with the way to each; what is None is left out."""
    if isinstance(node, Mapping):
        for key, child in node.items():
            yield from _entries(name, child, (*path, str(key)))
    elif isinstance(node, (list, tuple)):
        for i, child in enumerate(node):
            yield from _entries(name, child, (*path, i))
    elif hasattr(node, "get_value") or hasattr(node, "value"):  # a Variable of flax.nnx holds its array
        yield from _entries(name, node.get_value() if hasattr(node, "get_value") else node.value, path)
    elif hasattr(node, "shape") and hasattr(node, "dtype") and path:
        yield path, node
    elif node is not None:
        at = f" at {'/'.join(map(str, path))!r}" if path else ""
        raise TypeError(f"`{name}` must be nested dicts or lists of arrays, got {type(node).__name__}{at}.")


def to_jax(
    weights: Sequence[NDArray[np.float64]], biases: Sequence[NDArray[np.float64] | None]
) -> dict[str, dict[str, dict[str, NDArray[np.float64]]]]:
    """Return the parameter tree of a Flax module of Dense layers, in numpy's arrays."""
    return {
        "params": {
            f"Dense_{j}": {"kernel": np.ascontiguousarray(weight.T)} | ({} if bias is None else {"bias": bias.copy()})
            for j, (weight, bias) in enumerate(zip(weights, biases, strict=True))
        }
    }
