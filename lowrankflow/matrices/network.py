"""A deep linear network by its factors: its starts, its balance, and the way from torch and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import pairwise
from operator import matmul
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg

from .. import validation
from ..foreign import from_jax, from_torch, to_jax, to_torch
from ..operators import MatrixLike
from ..validation import Array
from .factorisations import thin_qr, thin_svd
from .imbalances import layer_values, require_imbalances
from .representations import EPS, Implicit, LowRankMatrix, random_frame, random_point
from .requirements import (
    require_depth,
    require_factors,
    require_no_biases,
    require_point,
    require_rank,
    require_widths,
)

__all__ = ["LinearNetwork"]


def _completed(frame: Array, size: int, *, rng: validation.Rng) -> Array:
    """Return a frame with as many columns in all, the further ones drawn uniformly from those orthogonal to it."""
    if frame.shape[1] == size:
        return frame
    drawn = random_frame(len(frame), size - frame.shape[1], rng=rng)
    return np.hstack([frame, thin_qr(np.hstack([frame, drawn]))[0][:, frame.shape[1] :]])


class LinearNetwork(Implicit):
    r"""A deep linear network :math:`W = W_N \cdots W_1` by its factors.

    Parameters
    ----------
    factors : sequence of array_like
        ``factors[0]`` is W_1, of shape (d_1, n), and acts first; ``factors[-1]`` is W_N, of shape (m, d_{N-1}).

    Attributes
    ----------
    factors : tuple of ndarray
        The factors, W_1 first.
    shape : tuple of int
        (m, n), the shape of the product.

    Raises
    ------
    ValueError
        If a factor is not a finite matrix, or if the factors do not chain.

    Notes
    -----
    The constructors below take ``widths``, the hidden widths (d_1, ..., d_{N-1}) from the input side.
    """

    __slots__ = ("factors", "shape")
    shape: tuple[int, int]
    factors: tuple[Array, ...]

    def __init__(self, factors: Sequence[ArrayLike]) -> None:
        self.factors = require_factors(factors)
        self.shape = (self.factors[-1].shape[0], self.factors[0].shape[1])

    @classmethod
    def _trusted(cls, factors: Iterable[Array]) -> LinearNetwork:
        """Build without checks, for kernels that know their arguments (and for trial steps that blow up)."""
        self = cls.__new__(cls)
        self.factors = tuple(factors)
        self.shape = (self.factors[-1].shape[0], self.factors[0].shape[1])
        return self

    @classmethod
    def balanced(
        cls,
        start: LowRankMatrix,
        depth: int,
        *,
        widths: int | Iterable[int] | None = None,
        imbalances: ArrayLike = 0.0,
        rng: validation.Rng = None,
    ) -> LinearNetwork:
        r"""Return factors of `start` that are balanced, or whose imbalances are given multiples of the identity.

        .. math:: W_j = O_j \,\mathrm{diag}(s)^{1/N} O_{j-1}^T, \qquad O_0 = V,\; O_N = U,

        so that :math:`W_{j+1}^T W_{j+1} = W_j W_j^T` for all j and the product is `start`. With imbalances,
        :math:`W_{j+1}^T W_{j+1} - W_j W_j^T = \lambda_j I`, which the flow keeps as well: the singular values of
        W_j are :math:`\sqrt{x_i + \kappa_j}`, :math:`\kappa_j = \sum_{l<j} \lambda_l` (shifted so that the least is 0) and
        :math:`\prod_j (x_i + \kappa_j) = s_i^2`; what is wider than the rank has singular values that do not meet.

        Parameters
        ----------
        start : LowRankMatrix, (m, n) of rank r
            The product W(0).
        depth : int
            Number of factors N, at least 2.
        widths : int or sequence of int, optional
            Hidden widths (d_1, ..., d_{N-1}), each at least r; one number for all layers. None: the
            rank, with identity frames.
        imbalances : array_like, (N-1,), or float
            :math:`\lambda_1, \ldots, \lambda_{N-1}`, or one for all.
        rng : int or numpy.random.Generator, optional
            Draws the hidden frames :math:`O_j` (d_j, r). None: identity frames where every width is the rank, else
            frames that differ from call to call.

        Returns
        -------
        LinearNetwork

        Raises
        ------
        ValueError, TypeError
            If `start` is not a LowRankMatrix, the depth is below 2 or not whole, a width is below the rank, the imbalances
            are not N-1 finite numbers or do not fit the widths (two layers with lambda > 0: at most m wide, with
            lambda < 0: at most n), or `rng` is none.

        Examples
        --------
        >>> net = LinearNetwork.balanced(random_point(3, 3, 2, rng=0), 3, widths=3, imbalances=[2.0, -0.5], rng=0)
        >>> [d.diagonal().round(12).tolist() for d in net.imbalances()]
        [[2.0, 2.0, 2.0], [-0.5, -0.5, -0.5]]
        """
        require_point("start", start)
        n_factors = int(require_depth(depth, integer=True))
        r = start.rank
        hidden = require_widths(widths, n_factors, r)
        gaps = require_imbalances(imbalances, n_factors)
        if gaps.any():
            return cls._strands(start, gaps, hidden, rng)
        if rng is None and max(hidden) == r:
            frames = [np.eye(r)] * (n_factors - 1)
        else:
            rng = validation.as_rng(rng)
            frames = [random_frame(d, r, rng=rng) for d in hidden]
        frames = [start.vt.T, *frames, start.u]
        root = start.s ** (1 / n_factors)
        return cls._trusted((b * root) @ a.T for a, b in pairwise(frames))

    @classmethod
    def _strands(
        cls, start: LowRankMatrix, imbalances: Array, widths: tuple[int, ...], rng: validation.Rng
    ) -> LinearNetwork:
        """Return factors with singular values strand by strand, each strand a column of the frames of its layers."""
        strands = layer_values(start.s, imbalances, start.shape, widths)
        rng = validation.as_rng(rng)
        sizes = [sum(t.first <= j <= t.last for t in strands) for j in range(len(widths) + 2)]
        frames = [
            _completed(start.vt.T, sizes[0], rng=rng),
            *(random_frame(d, d, rng=rng) for d in widths),
            _completed(start.u, sizes[-1], rng=rng),
        ]
        factors = []
        for j in range(1, len(frames)):
            into, out = ([t for t in strands if t.first <= i <= t.last] for i in (j - 1, j))
            core = np.array([[t.values[j - 1 - t.first] if t is s else 0.0 for s in into] for t in out])
            factors.append(frames[j] @ core.reshape(len(out), len(into)) @ frames[j - 1].T)
        return cls._trusted(factors)

    @classmethod
    def gaussian(
        cls,
        shape: tuple[int, int],
        depth: int,
        *,
        widths: int | Iterable[int],
        scale: float = 1.0,
        rng: validation.Rng = None,
    ) -> LinearNetwork:
        """Return factors with independent N(0, scale^2 / d_j) entries, d_j the rows of W_j. Not balanced."""
        rng = validation.as_rng(rng)
        scale = validation.require_number("scale", scale)
        sizes = cls._sizes(shape, depth, widths)
        return cls._trusted(scale * rng.standard_normal((b, a)) / np.sqrt(b) for a, b in pairwise(sizes))

    @classmethod
    def orthogonal(
        cls,
        shape: tuple[int, int],
        depth: int,
        *,
        widths: int | Iterable[int],
        scale: float = 1.0,
        rng: validation.Rng = None,
    ) -> LinearNetwork:
        """Return balanced partial isometries times scale^(1/N): all singular values of the product are `scale`.

        The rank is the smallest of all the widths, m and n included.
        """
        rng, sizes = validation.as_rng(rng), cls._sizes(shape, depth, widths)
        s = np.full(min(sizes), validation.require_number("scale", scale))
        start = random_point(sizes[-1], sizes[0], s.size, rng=rng, singular_values=s)
        return cls.balanced(start, depth, widths=sizes[1:-1], rng=rng)

    @classmethod
    def identity(
        cls, shape: tuple[int, int], depth: int, *, widths: int | Iterable[int], scale: float = 1.0
    ) -> LinearNetwork:
        """Return rectangular identities times scale^(1/N). Balanced where all widths are equal."""
        sizes = cls._sizes(shape, depth, widths)
        root = validation.require_number("scale", scale) ** (1 / depth)
        return cls._trusted(root * np.eye(b, a) for a, b in pairwise(sizes))

    @classmethod
    def lora(
        cls,
        shape: tuple[int, int],
        rank: int,
        *,
        init: str = "zero-b",
        scale: float = 1.0,
        of: MatrixLike | ArrayLike | None = None,
        rng: validation.Rng = None,
    ) -> LinearNetwork:
        r"""Return two factors :math:`B A`, A = W_1 (r, n) and B = W_2 (m, r), with which adapting frozen weights begins.

        Parameters
        ----------
        shape : tuple of int
            (m, n), that of the frozen matrix; see `losses.Shifted`.
        rank : int
            r, at most min(m, n).
        init : {"zero-b", "zero-a", "orthogonal", "balanced", "spectral"}
            - "zero-b": A has independent N(0, scale^2 / n) entries, B = 0, as in [1]_; "zero-a": the other way around,
              N(0, scale^2 / m). The product starts at zero.
            - "orthogonal": B = 0 and :math:`A A^T = \text{scale}^2 I`, so that the imbalance is -scale^2 I, of which
              `exact.TwoLayer` knows the flow.
            - "balanced": balanced factors of a random product whose singular values are all `scale`.
            - "spectral": balanced factors of scale times the best approximation of rank r of the matrix `of`: minus the
              gradient at W_0, for the first step of all weights, or W_0 itself, whose remainder is then frozen.
        scale : float
            Positive.
        of : matrix-like, (m, n), optional
            For "spectral" alone; m x n numbers are formed of it.
        rng : int or numpy.random.Generator, optional
            Of all but "spectral". None: other factors at every call.

        Returns
        -------
        LinearNetwork

        Raises
        ------
        ValueError, TypeError
            If the rank exceeds min(m, n) or the rank of `of`, `init` is none of these, or `of` is missing or not asked for.

        References
        ----------
        .. [1] E. J. Hu et al., LoRA: low-rank adaptation of large language models, arXiv:2106.09685.

        Examples
        --------
        >>> net = LinearNetwork.lora((4, 3), 2, init="orthogonal", scale=0.5, rng=0)
        >>> net.norm(), net.imbalances()[0].round(12).tolist()
        (0.0, [[-0.25, 0.0], [0.0, -0.25]])
        """
        m, n = validation.require_sizes("shape", shape)
        r = require_rank(rank, (m, n))
        validation.require_choice("init", init, ("zero-b", "zero-a", "orthogonal", "balanced", "spectral"))
        scale, rng = validation.require_number("scale", scale), validation.as_rng(rng)
        if (of is None) == (init == "spectral"):
            got = "none" if of is None else f"one for {init!r}"
            raise ValueError(f"`of` must be a matrix where init is 'spectral', and only there, got {got}.")
        if of is not None:
            dense = validation.as_matrix("of", cast(Any, of) @ np.eye(n) if hasattr(of, "__matmul__") else of)
            validation.require_shape("of", dense.shape, (m, n), "`shape` is")
            best = LowRankMatrix.from_dense(dense, r)
            return cls.balanced(LowRankMatrix._trusted(best.u, scale * best.s, best.vt), 2)
        if init == "balanced":
            return cls.orthogonal((m, n), 2, widths=r, scale=scale, rng=rng)
        if init == "orthogonal":
            return cls._trusted([scale * random_frame(n, r, rng=rng).T, np.zeros((m, r))])
        if init == "zero-a":
            return cls._trusted([np.zeros((r, n)), scale * rng.standard_normal((m, r)) / np.sqrt(m)])
        return cls._trusted([scale * rng.standard_normal((r, n)) / np.sqrt(n), np.zeros((m, r))])

    @classmethod
    def from_torch(cls, module: Any) -> LinearNetwork:
        """Return the factors of a torch module: a chain of linear layers without biases.

        Parameters
        ----------
        module : torch.nn.Module, state dict or iterable of tensors
            A Linear, a Sequential of them (nested, with Identity), or a module whose forward uses its layers in the order in
            which it defines them, which is tried on two samples; its state dict, or a checkpoint that holds one; its
            ``parameters()``. Any precision and device.

        Returns
        -------
        LinearNetwork
            A copy in double precision: training the module does not change it.

        Raises
        ------
        ValueError, TypeError
            If a layer has a bias (see `AffineNetwork.from_torch`), is not linear, is quantised or parametrised, or shares its
            weight (it is named), or the forward is another.

        Examples
        --------
        >>> LinearNetwork.from_torch({"0.weight": np.ones((3, 4)), "1.weight": np.ones((2, 3))})
        LinearNetwork(depth 2: 2 <- 3 <- 4)
        """
        return cls(require_no_biases("module", from_torch(module), "matrices.AffineNetwork.from_torch"))

    @classmethod
    def from_jax(cls, tree: Any, *, layout: str | None = None) -> LinearNetwork:
        """Return the factors of a parameter tree of a JAX library: linear layers without biases, as `AffineNetwork.from_jax`.

        Parameters
        ----------
        tree : mapping or list
            Nested dicts of named arrays, or lists of weights.
        layout : {"out_in", "in_out"}, optional
            Of weights that have no name.

        Returns
        -------
        LinearNetwork

        Raises
        ------
        ValueError, TypeError
            As `AffineNetwork.from_jax`, or if a layer has a bias.

        Examples
        --------
        >>> LinearNetwork.from_jax({"params": {"Dense_0": {"kernel": np.ones((4, 3))}, "Dense_1": {"kernel": np.ones((3, 2))}}})
        LinearNetwork(depth 2: 2 <- 3 <- 4)
        """
        if layout is not None:
            validation.require_choice("layout", layout, ("out_in", "in_out"))
        return cls(require_no_biases("tree", from_jax(tree, layout), "matrices.AffineNetwork.from_jax"))

    def to_torch(self, *, dtype: Any = None) -> Any:
        """Return a ``torch.nn.Sequential`` of N Linear layers without biases, in which a sample is a row.

        Parameters
        ----------
        dtype : torch.dtype, optional
            None: ``torch.float64``, so that `from_torch` gives these factors again to the bit.

        Raises
        ------
        ImportError
            If torch is not installed.
        """
        return to_torch(self.factors, dtype=dtype)

    def to_jax(self) -> dict[str, Any]:
        """Return the parameter tree of a Flax module of Dense layers without biases, in numpy's arrays: kernels are W_j^T."""
        return to_jax(self.factors, [None] * self.depth)

    @staticmethod
    def _sizes(shape: tuple[int, int], depth: int, widths: int | Iterable[int]) -> tuple[int, ...]:
        """Return (d_0, ..., d_N), checked."""
        m, n = validation.require_sizes("shape", shape)
        if widths is None:
            raise TypeError("`widths` must be whole numbers, one a hidden layer, got None. Use widths=max(shape).")
        n_factors = int(require_depth(depth, integer=True))
        return (n, *require_widths(widths, n_factors, 1), m)

    @property
    def depth(self) -> int:
        """Number of factors N."""
        return len(self.factors)

    @property
    def widths(self) -> tuple[int, ...]:
        """Hidden widths (d_1, ..., d_{N-1}), from the input side."""
        return tuple(f.shape[0] for f in self.factors[:-1])

    @property
    def T(self) -> LinearNetwork:
        return LinearNetwork._trusted(f.T for f in reversed(self.factors))

    @property
    def bottleneck(self) -> int:
        """Index p in 1 .. N-1 of the narrowest hidden layer (0 for a single factor)."""
        widths = self.widths
        return 1 + widths.index(min(widths)) if widths else 0

    def split(self) -> tuple[Array, Array]:
        """Return (W_N ... W_{p+1}, W_p ... W_1), split at the narrowest hidden layer p."""
        p = self.bottleneck
        if p == 0:
            return self.factors[0], np.eye(self.shape[1])
        # both chains start at the narrow layer, so no intermediate is larger than its result
        right = reduce(matmul, self.factors[p - 1 :: -1])
        left = reduce(lambda a, f: f @ a, self.factors[p:])
        return left, right

    def __matmul__(self, x: Array) -> Array:
        return reduce(lambda y, f: f @ y, self.factors, x)

    def __rmatmul__(self, x: Array) -> Array:
        return reduce(np.matmul, reversed(self.factors), x)

    def imbalances(self) -> list[Array]:
        """Return the conserved matrices D_j = W_{j+1}^T W_{j+1} - W_j W_j^T, j = 1 .. N-1."""
        return [b.T @ b - a @ a.T for a, b in pairwise(self.factors)]

    def imbalance(self) -> float:
        """Return max_j ||D_j||_2 (the delta of delta-balanced); 0 for balanced factors."""
        return max((float(linalg.norm(d, 2)) for d in self.imbalances()), default=0.0)

    def gram(self) -> LowRankMatrix:
        r"""Return :math:`Q Q^T, Q = [W_1^T; W_2]`, (n + m, n + m), of two factors: they up to a rotation of the hidden layer.

        Its blocks are W_1^T W_1, W_2 W_1 (lower left) and W_2 W_2^T; it has a flow of its own, see `losses.Gram`. The rank
        is that of Q, at most the hidden width.

        Raises
        ------
        ValueError
            If there are not two factors, or both are zero.
        """
        if self.depth != 2:
            raise ValueError(f"`network` must have 2 factors to have a Gram matrix of its own, got {self.depth}.")
        u, root, _ = thin_svd(np.vstack([self.factors[0].T, self.factors[1]]))
        rank = int((root > max(u.shape) * EPS * root[0]).sum())
        if rank == 0:
            raise ValueError("`network` must have a factor that is not zero.")
        return LowRankMatrix._trusted(u[:, :rank], root[:rank] ** 2, u[:, :rank].T)

    def relative_imbalance(self) -> float:
        """Return the imbalance over max_j ||W_j||_2^2, a number without units."""
        scale = max(float(linalg.norm(f, 2)) for f in self.factors) ** 2
        return self.imbalance() / scale if scale > 0 else 0.0

    def rebalanced(self, rank: int | None = None) -> LinearNetwork:
        """Return balanced factors of the same product and widths, in frames near the present ones.

        The hidden frames are the polar factors of W_j O_{j-1}, so balanced factors are returned as
        they are, to roundoff. `rank` None means the numerical rank of the product.
        """
        w = self.to_low_rank(rank)
        root = w.s ** (1 / self.depth)
        frame, factors = w.vt.T, []
        for factor in self.factors[:-1]:
            p, _, qt = thin_svd(factor @ frame)
            new = p @ qt
            factors.append((new * root) @ frame.T)
            frame = new
        return LinearNetwork._trusted([*factors, (w.u * root) @ frame.T])

    def __repr__(self) -> str:
        sizes = " <- ".join(str(d) for d in (self.shape[0], *self.widths[::-1], self.shape[1]))
        return f"LinearNetwork(depth {self.depth}: {sizes})"
