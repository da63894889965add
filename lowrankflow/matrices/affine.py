"""A chain of linear layers with biases: a linear chain on inputs with a constant appended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from .. import validation
from ..foreign import Layer, from_jax, from_torch, to_jax, to_torch
from ..validation import Array
from .network import LinearNetwork
from .requirements import require_biases, require_factors, require_network

__all__ = ["AffineNetwork"]


class AffineNetwork:
    r"""A deep linear network with biases, :math:`f(x) = W_N (\cdots (W_1 x + b_1) \cdots) + b_N = W x + b`.

    Parameters
    ----------
    weights : sequence of array_like
        ``weights[0]`` is W_1, of shape (d_1, n), and acts first; ``weights[-1]`` is W_N, of shape (m, d_{N-1}).
    biases : sequence of array_like or None
        b_j of shape (d_j,), d_N = m; None where a layer has none. A bias that is zero is a bias: it is trained.

    Attributes
    ----------
    weights : tuple of ndarray
        W_1 first.
    biases : tuple of ndarray or None
        b_1 first.
    shape : tuple of int
        (m, n), that of W.

    Raises
    ------
    ValueError, TypeError
        If a weight is not a finite matrix, the weights do not chain, or there is not one bias or None a layer, of its length.

    Notes
    -----
    With a constant one appended to x it is the linear network `augmented`, whose product is [W b], and a loss of (x, y) is one
    of that network on inputs with a row of ones, `losses.with_constant`. The entries that are `trained` are W_j and b_j; what
    else the factors hold stays as it is.

    Examples
    --------
    >>> net = AffineNetwork([[[2.0]], [[3.0]]], [[1.0], None])
    >>> net.offset.tolist(), net.augmented.to_dense().tolist()
    ([3.0], [[6.0, 3.0]])
    """

    __slots__ = ("biases", "shape", "weights")
    weights: tuple[Array, ...]
    biases: tuple[Array | None, ...]
    shape: tuple[int, int]

    def __init__(self, weights: Sequence[ArrayLike], biases: Sequence[ArrayLike | None]) -> None:
        self.weights = require_factors(weights, name="weights")
        self.biases = require_biases(biases, self.weights)
        self.shape = (self.weights[-1].shape[0], self.weights[0].shape[1])

    @classmethod
    def _of(cls, layers: Iterable[Layer]) -> AffineNetwork:
        weights, biases, _ = zip(*layers, strict=True)
        return cls(weights, biases)

    @classmethod
    def from_torch(cls, module: Any) -> AffineNetwork:
        """Return the weights and biases of a torch module: a chain of linear layers.

        Parameters
        ----------
        module : torch.nn.Module, state dict or iterable of tensors
            As of `LinearNetwork.from_torch`; layers may have biases.

        Returns
        -------
        AffineNetwork
            A copy in double precision: training the module does not change it.

        Raises
        ------
        ValueError, TypeError
            If a layer is not linear, is quantised or parametrised, or shares its weight (it is named), the forward is another,
            a bias has no weight or another length, or half precision has overflowed.

        Examples
        --------
        >>> AffineNetwork.from_torch({"0.weight": np.ones((3, 4)), "0.bias": np.zeros(3), "2.weight": np.ones((2, 3))})
        AffineNetwork(depth 2: 2 <- 3 <- 4, biases of layer 1)
        """
        return cls._of(from_torch(module))

    @classmethod
    def from_jax(cls, tree: Any, *, layout: str | None = None) -> AffineNetwork:
        """Return the weights and biases of a parameter tree of a JAX library: Flax, Haiku, Equinox, or lists of arrays.

        Parameters
        ----------
        tree : mapping or list
            Nested dicts (FrozenDict, nnx.State) of arrays: "kernel" and "w" are (in, out), and W_j transposed; "weight" and "W"
            are W_j; "bias" and "b". Their order is that of the numbers in the names: Dense_10 follows Dense_9. Or lists, the
            layer that acts first first: of such dicts, of weights, of pairs of weight and bias.
        layout : {"out_in", "in_out"}, optional
            Of weights that have no name: "out_in" where W x + b is computed, "in_out" where x W + b is.

        Returns
        -------
        AffineNetwork
            A copy in double precision. A tree does not say what stands between its layers: that it is nothing, you say.

        Raises
        ------
        ValueError, TypeError
            If an array is of no linear layer (it is named), weights without a name come without `layout`, the order of the
            layers is not known, or as `from_torch`.

        Examples
        --------
        >>> AffineNetwork.from_jax([(np.ones((3, 4)), np.zeros(3)), (np.ones((2, 3)), np.zeros(2))], layout="out_in")
        AffineNetwork(depth 2: 2 <- 3 <- 4, biases of layers 1, 2)
        """
        if layout is not None:
            validation.require_choice("layout", layout, ("out_in", "in_out"))
        return cls._of(from_jax(tree, layout))

    @classmethod
    def from_augmented(cls, network: LinearNetwork, like: AffineNetwork) -> AffineNetwork:
        """Return the weights and biases of a network of the form of `augmented`: where a flow of it has come to, for instance.

        Parameters
        ----------
        network : LinearNetwork, (m, n + 1)
            With the constants that `augmented` has.
        like : AffineNetwork, (m, n)
            Which layers have biases.

        Raises
        ------
        ValueError, TypeError
            If the shapes are others, or what is not trained has other values.
        """
        require_network("network", network)
        for j, (f, want, free) in enumerate(zip(network.factors, like.augmented.factors, like.trained, strict=True)):
            validation.require_shape(f"network.factors[{j}]", f.shape, want.shape, "`like` asks for")
            if not np.array_equal(f[~free], want[~free]):
                raise ValueError(
                    f"`network` must have the constants of an augmented one, got others in factors[{j}]. Train it with"
                    " trained=like.trained."
                )
        tops = [f[: len(w)] for f, w in zip(network.factors, like.weights, strict=True)]
        return cls(
            [f[:, :-1] for f in tops], [None if b is None else f[:, -1] for f, b in zip(tops, like.biases, strict=True)]
        )

    def to_torch(self, *, dtype: Any = None) -> Any:
        """Return a ``torch.nn.Sequential`` of N Linear layers, in which a sample is a row.

        Parameters
        ----------
        dtype : torch.dtype, optional
            None: ``torch.float64``, so that `from_torch` gives these numbers again to the bit.

        Raises
        ------
        ImportError
            If torch is not installed.
        """
        return to_torch(self.weights, self.biases, dtype=dtype)

    def to_jax(self) -> dict[str, Any]:
        """Return the parameter tree of a Flax module of Dense layers, in numpy's arrays: kernels are W_j^T."""
        return to_jax(self.weights, self.biases)

    @property
    def depth(self) -> int:
        """Number of layers N."""
        return len(self.weights)

    @property
    def widths(self) -> tuple[int, ...]:
        """Hidden widths (d_1, ..., d_{N-1}), from the input side."""
        return tuple(w.shape[0] for w in self.weights[:-1])

    @property
    def linear(self) -> LinearNetwork:
        """The network of the weights alone, W = W_N ... W_1."""
        return LinearNetwork._trusted(self.weights)

    def simplest(self) -> LinearNetwork | AffineNetwork:
        """Return the network of the weights where no layer has a bias, else this one."""
        return self.linear if all(b is None for b in self.biases) else self

    @property
    def offset(self) -> Array:
        r"""The total bias :math:`b = \sum_j W_N \cdots W_{j+1} b_j`, (m,)."""
        b = np.zeros(self.shape[1])
        for weight, bias in zip(self.weights, self.biases, strict=True):
            b = weight @ b + (0.0 if bias is None else bias)
        return b

    @property
    def augmented(self) -> LinearNetwork:
        r"""The linear network of [W b] on inputs with a constant appended, (m, n + 1).

        .. math:: A_j = \begin{pmatrix} W_j & b_j \\ 0 & 1 \end{pmatrix}, \quad j < N, \qquad A_N = (W_N \; b_N) .
        """
        factors = []
        for j, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True), 1):
            d, before = weight.shape
            factor = np.zeros((d + (j < self.depth), before + 1))
            factor[:d, :before] = weight
            factor[:d, before] = 0.0 if bias is None else bias
            factor[d:, before] = 1.0
            factors.append(factor)
        return LinearNetwork._trusted(factors)

    @property
    def trained(self) -> tuple[NDArray[np.bool_], ...]:
        """Which entries of the factors of `augmented` are weights and biases, an array a factor; the others are constants."""
        found = []
        for j, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True), 1):
            d, before = weight.shape
            free = np.zeros((d + (j < self.depth), before + 1), dtype=bool)
            free[:d, : before + (bias is not None)] = True
            found.append(free)
        return tuple(found)

    def imbalances(self) -> list[Array]:
        r"""Return :math:`D_j = W_{j+1}^T W_{j+1} - W_j W_j^T - b_j b_j^T`, j = 1 .. N-1, which the gradient flow conserves.

        Notes
        -----
        The gradients in W_j and b_j are :math:`P_j (h_{j-1}^T, 1)` summed over samples, h_{j-1} what comes into the layer and
        P_j = dL/dh_j, h_j = W_j h_{j-1} + b_j; so :math:`W_{j+1}^T \nabla_{W_{j+1}} = \sum P_j h_j^T = \nabla_{W_j} W_j^T +
        \nabla_{b_j} b_j^T`. For a layer without a bias the term is missing.
        """
        return [
            after.T @ after - w @ w.T - (0.0 if b is None else np.outer(b, b))
            for (w, after), b in zip(pairwise(self.weights), self.biases[:-1], strict=True)
        ]

    def imbalance(self) -> float:
        """Return max_j ||D_j||_2; 0 for layers that are balanced, biases included."""
        return max((float(linalg.norm(d, 2)) for d in self.imbalances()), default=0.0)

    def __call__(self, x: ArrayLike) -> Array:
        """Return f(X), (m, p), of samples X, (n, p), in columns.

        Raises
        ------
        ValueError, TypeError
            If X is not a finite matrix of n rows.
        """
        h = validation.as_matrix("x", x)
        if len(h) != self.shape[1]:
            raise ValueError(f"`x` must have {self.shape[1]} rows, a sample a column, got shape {h.shape}.")
        for weight, bias in zip(self.weights, self.biases, strict=True):
            h = weight @ h + (0.0 if bias is None else bias[:, None])
        return h

    def __repr__(self) -> str:
        sizes = " <- ".join(str(d) for d in (self.shape[0], *self.widths[::-1], self.shape[1]))
        biased = [str(j) for j, b in enumerate(self.biases, 1) if b is not None]
        which = "no biases" if not biased else f"biases of layer{'s' if len(biased) > 1 else ''} {', '.join(biased)}"
        return f"AffineNetwork(depth {self.depth}: {sizes}, {which})"
