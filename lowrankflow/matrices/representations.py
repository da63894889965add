"""Matrices that are never formed: low rank, product, tangent vector, deep linear network.

Every class here answers the same few questions: ``shape``, ``w @ x``, ``x @ w``, ``w.T``,
``w.entries(rows, cols)``, ``w.norm()``, ``w.to_dense()``. A loss asks nothing else of W, so one loss
serves them all. Only ``to_dense`` allocates m x n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from itertools import pairwise
from operator import matmul
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from .. import validation
from ..entries import sampled_product
from ..foreign import from_torch, precision, to_torch
from ..operators import MatrixLike
from ..validation import Array
from .factorisations import thin_qr, thin_svd
from .imbalances import layer_values, require_imbalances
from .protocol import Matrix
from .requirements import (
    require_depth,
    require_factors,
    require_numerical_rank,
    require_point,
    require_rank,
    require_singular_values,
    require_widths,
)

__all__ = ["LinearNetwork", "LowRankMatrix", "Product", "Tangent", "random_frame", "random_point"]

EPS = float(np.finfo(np.float64).eps)


def random_frame(m: int, k: int, *, rng: validation.Rng = None) -> Array:
    """Return an (m, k) matrix with orthonormal columns, uniform on the Stiefel manifold."""
    q, r = thin_qr(validation.as_rng(rng).standard_normal((m, k)))
    return q * np.where(np.diag(r) < 0, -1.0, 1.0)  # without the signs QR of a Gaussian is not uniform


def _completed(frame: Array, size: int, *, rng: validation.Rng) -> Array:
    """Return a frame with as many columns in all, the further ones drawn uniformly from those orthogonal to it."""
    if frame.shape[1] == size:
        return frame
    drawn = random_frame(len(frame), size - frame.shape[1], rng=rng)
    return np.hstack([frame, thin_qr(np.hstack([frame, drawn]))[0][:, frame.shape[1] :]])


class _Implicit:
    """What the representations share: numpy leaves ``ndarray @ w`` and ``2 * w`` to us.

    Sums and multiples are a `Product`, of the inner sizes together; ``to_low_rank()`` goes back. Numpy makes no array of W
    unasked, but ``np.linalg.norm(w)`` is its norm.
    """

    __array_ufunc__ = None
    shape: tuple[int, int]
    ndim = 2

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        raise TypeError(f"{type(self).__name__} is not made an array unasked. Use to_dense(), which is m x n.")

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        if function in (np.shape, np.ndim) and args == (self,):
            return self.shape if function is np.shape else 2
        if function is np.linalg.norm and args[0] is self:
            return _norm(self, *args[1:], **kwargs)
        raise TypeError(f"numpy.{function.__name__} takes no {type(self).__name__}. Use to_dense(), which is m x n.")

    def __add__(self, other: Matrix) -> Product:
        return self._plus(other, 1.0)

    def __radd__(self, other: Any) -> Product:
        if isinstance(other, int) and other == 0:  # what sum() starts from
            return Product(*self.split())
        return self._plus(other, 1.0)

    def __sub__(self, other: Matrix) -> Product:
        return self._plus(other, -1.0)

    def __rsub__(self, other: Any) -> Product:
        return (-self)._plus(other, 1.0)

    def _plus(self, other: Any, sign: float) -> Product:
        if not isinstance(other, _Implicit):
            raise TypeError(
                f"`other` must be a LowRankMatrix, Product or LinearNetwork, got {validation.describe(other)}."
                " Use to_dense() to add arrays."
            )
        validation.require_shape("other", other.shape, self.shape, "the product has shape")
        (left, right), (other_left, other_right) = self.split(), other.split()
        return Product(np.hstack([left, sign * other_left]), np.vstack([right, other_right]))

    def __mul__(self, scalar: float) -> Product:
        if np.ndim(scalar) != 0:
            raise TypeError(f"`scalar` must be a number, got {validation.describe(scalar)}. Use @ for products.")
        left, right = self.split()
        return Product(left * scalar, right)

    __rmul__ = __mul__

    def __truediv__(self, scalar: float) -> Product:
        return self * (1.0 / scalar)

    def __neg__(self) -> Product:
        return self * -1.0

    def split(self) -> tuple[Array, Array]:
        """Return (left, right) with W = left @ right and a small inner size."""
        raise NotImplementedError

    def entries(self, rows: NDArray[np.integer[Any]], cols: NDArray[np.integer[Any]]) -> Array:
        """Return the sampled entries W[rows, cols]; the indices must lie within the shape."""
        return sampled_product(*self.split(), rows, cols)

    def norm(self) -> float:
        """Return the Frobenius norm, through two thin QR factorisations."""
        left, right = self.split()
        if left.shape[1] >= min(self.shape):
            return float(linalg.norm(left @ right))
        return float(linalg.norm(thin_qr(left)[1] @ thin_qr(right.T)[1].T))

    def to_dense(self) -> Array:
        """Return the (m, n) array."""
        left, right = self.split()
        return left @ right

    def to_low_rank(self, rank: int | None = None) -> LowRankMatrix:
        """Return the best approximation of the given rank; None means the numerical rank.

        Nothing of size m x n is formed where the inner size is below min(m, n).
        """
        left, right = self.split()
        if left.shape[1] < min(self.shape):
            (ql, rl), (qr, rr) = thin_qr(left), thin_qr(right.T)
            u, s, vt = thin_svd(rl @ rr.T)
            u, vt = ql @ u, vt @ qr.T
        else:
            u, s, vt = thin_svd(left @ right)
        numerical_rank = int((s > max(self.shape) * EPS * s[0]).sum())
        rank = numerical_rank if rank is None else require_rank(rank, self.shape)
        if rank == 0:
            raise ValueError("`rank` must be at least 1, got the zero matrix of rank 0.")
        require_numerical_rank(rank, numerical_rank)
        return LowRankMatrix._trusted(u[:, :rank], s[:rank], vt[:rank])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shape[0]} x {self.shape[1]}, inner {self.split()[0].shape[1]})"


def _norm(w: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> float:
    """Return what ``np.linalg.norm`` returns for the array: the Frobenius, the spectral or the nuclear norm."""
    if axis is None and not keepdims:
        if ord in (None, "fro"):
            return float(w.norm())
        if ord in (2, "nuc"):
            s = singular_values(w)
            return float(s.max(initial=0.0) if ord == 2 else s.sum())
    raise TypeError(f"numpy.linalg.norm of a {type(w).__name__} takes ord None, 'fro', 2 or 'nuc', and no axis.")


def _orthonormal(name: str, frame: Array, eps: float) -> Array:
    """Return a frame that is orthonormal to 1e-8; the nearest to one that is so in a lower precision."""
    k = frame.shape[1]
    defect = float(linalg.norm(frame.T @ frame - np.eye(k)))
    if defect <= 1e-8 and eps <= EPS:
        return frame
    if eps <= EPS or defect > 100 * eps * np.sqrt(k):
        raise ValueError(
            f"`{name}` must be orthonormal, got a defect of {defect:.2g}."
            " Use LowRankMatrix.from_dense or Product(left, right).to_low_rank()."
        )
    p, _, qt = thin_svd(frame)
    return p @ qt


class LowRankMatrix(_Implicit):
    r"""A matrix of rank k by its compact singular value decomposition :math:`W = U \,\mathrm{diag}(s)\, V^T`.

    Parameters
    ----------
    u : array_like, (m, k)
        Orthonormal columns.
    s : array_like, (k,)
        Positive singular values, in any order (the constructor does not sort them).
    vt : array_like, (k, n)
        Orthonormal rows.

    Raises
    ------
    ValueError, TypeError
        If the shapes do not fit, a value is not finite or not positive, or a frame is not orthonormal
        to 1e-8. `from_dense` and `Product.to_low_rank` make valid arguments from anything.

    Notes
    -----
    A frame in single or half precision has to be orthonormal to its own, 100 eps sqrt(k), and is replaced by the nearest
    one that is so in double precision: W moves by that much.
    """

    __slots__ = ("s", "shape", "u", "vt")
    shape: tuple[int, int]
    u: Array
    s: Array
    vt: Array

    def __init__(self, u: ArrayLike, s: ArrayLike, vt: ArrayLike) -> None:
        self.u, self.vt = validation.as_matrix("u", u), validation.as_matrix("vt", vt)
        k = self.u.shape[1]
        self.s = validation.as_vector("s", s, k)
        validation.require_shape("vt", self.vt.shape, (k, self.vt.shape[1]), "`u` asks for")
        require_singular_values("s", self.s, k)
        self.shape = (self.u.shape[0], self.vt.shape[1])
        require_rank(k, self.shape)
        self.u = _orthonormal("u", self.u, precision(u))
        self.vt = _orthonormal("vt", self.vt.T, precision(vt)).T

    @classmethod
    def _trusted(cls, u: Array, s: Array, vt: Array) -> LowRankMatrix:
        """Build without checks, for kernels that know their arguments (and for trial steps that blow up)."""
        self = cls.__new__(cls)
        self.u, self.s, self.vt, self.shape = u, s, vt, (u.shape[0], vt.shape[1])
        return self

    @classmethod
    def from_dense(cls, a: ArrayLike, rank: int | None = None) -> LowRankMatrix:
        """Return the best rank-`rank` approximation of an array (None: its numerical rank)."""
        array = validation.as_matrix("a", a)
        return Product(array, np.eye(array.shape[1])).to_low_rank(rank)

    @classmethod
    def from_factor(cls, y: ArrayLike) -> LowRankMatrix:
        """Return the symmetric positive semidefinite Y Y^T of an (n, k) array of rank min(n, k), with ``u == vt.T``."""
        array = validation.as_matrix("y", y)
        u, root, _ = thin_svd(array)
        rank = int((root > max(array.shape) * EPS * root[0]).sum())
        if rank < root.size:
            raise ValueError(
                f"`y` must have full rank, got shape {array.shape} of numerical rank {rank}. Drop dependent columns."
            )
        return cls._trusted(u, root**2, u.T)

    @property
    def rank(self) -> int:
        """Number of singular values."""
        return self.s.size

    @property
    def T(self) -> LowRankMatrix:
        return LowRankMatrix._trusted(self.vt.T, self.s, self.u.T)

    def __iter__(self) -> Iterator[Array]:
        """Unpack as ``u, s, vt``, pymanopt's order."""
        return iter((self.u, self.s, self.vt))

    def split(self) -> tuple[Array, Array]:
        return self.u * self.s, self.vt

    def __matmul__(self, x: Array) -> Array:
        return self.u @ (self.s[:, None] * (self.vt @ x) if np.ndim(x) > 1 else self.s * (self.vt @ x))

    def __rmatmul__(self, x: Array) -> Array:
        return ((x @ self.u) * self.s) @ self.vt

    def norm(self) -> float:
        return float(linalg.norm(self.s))

    def __repr__(self) -> str:
        m, n = self.shape
        return f"LowRankMatrix({m} x {n}, rank {self.rank}, s {self.s.max():.3g} .. {self.s.min():.3g})"


class Product(_Implicit):
    """The product ``left @ right`` of an (m, k) and a (k, n) array: tangent vectors and small-rank sums.

    Raises
    ------
    ValueError, TypeError
        If the two are not matrices that chain. The values of arrays are not looked at: trial steps may blow up.
    """

    __slots__ = ("left", "right", "shape")
    shape: tuple[int, int]
    left: Array
    right: Array

    def __init__(self, left: Array, right: Array) -> None:
        if not getattr(left, "ndim", 0) == getattr(right, "ndim", 0) == 2:
            left, right = validation.as_matrix("left", left), validation.as_matrix("right", right)
        if left.shape[1] != right.shape[0]:
            raise ValueError(f"`right` must have {left.shape[1]} rows to follow `left`, got shape {right.shape}.")
        self.left, self.right, self.shape = left, right, (left.shape[0], right.shape[1])

    @classmethod
    def _trusted(cls, left: Array, right: Array) -> Product:
        """Build without checks, for kernels that know their arguments."""
        self = cls.__new__(cls)
        self.left, self.right, self.shape = left, right, (left.shape[0], right.shape[1])
        return self

    @property
    def T(self) -> Product:
        return Product._trusted(self.right.T, self.left.T)

    def split(self) -> tuple[Array, Array]:
        return self.left, self.right

    def __matmul__(self, x: Array) -> Array:
        return self.left @ (self.right @ x)

    def __rmatmul__(self, x: Array) -> Array:
        return (x @ self.left) @ self.right


def difference(a: Matrix, b: Matrix) -> Product:
    """Return a - b as a Product; its ``norm()`` is the gap between two representations of W."""
    return Product(*a.split()) - b


class Tangent(NamedTuple):
    r"""A tangent vector of the rank-k manifold at W = U diag(s) V^T, in pymanopt's order.

    .. math:: Z = U C V^T + U_p V^T + U V_p^T, \qquad U^T U_p = 0, \; V^T V_p = 0 .

    The base point is not stored: ``z.at(w)`` gives the matrix as a `Product` of inner size 2k.
    """

    up: Array  #: (m, k), orthogonal to U
    core: Array  #: (k, k)
    vp: Array  #: (n, k), orthogonal to V

    def at(self, w: LowRankMatrix) -> Product:
        """Return the ambient matrix at the base point `w`."""
        return Product(np.hstack([w.u @ self.core + self.up, w.u]), np.vstack([w.vt, self.vp.T]))

    def symmetrised(self) -> Tangent:
        """Return (Z + Z^T) / 2 at a symmetric point, where U = V."""
        frame = (self.up + self.vp) / 2
        return Tangent(frame, (self.core + self.core.T) / 2, frame)

    def dot(self, other: Tangent) -> float:
        """Return the Frobenius inner product; the three parts are orthogonal."""
        return float(sum(np.vdot(a, b) for a, b in zip(self, other, strict=True)))

    def norm(self) -> float:
        """Return the Frobenius norm."""
        return float(np.sqrt(self.dot(self)))

    def _map(self, function: Callable[..., Array], *others: Tangent) -> Tangent:
        return Tangent(*(function(*parts) for parts in zip(self, *others, strict=True)))

    def __add__(self, other: Tangent) -> Tangent:  # type: ignore[override]
        return self._map(np.add, other)

    def __sub__(self, other: Tangent) -> Tangent:
        return self._map(np.subtract, other)

    def __mul__(self, scalar: float) -> Tangent:  # type: ignore[override]
        return self._map(lambda part: part * scalar)

    def __rmul__(self, scalar: float) -> Tangent:  # type: ignore[override]
        return self * scalar

    def __truediv__(self, scalar: float) -> Tangent:
        return self * (1.0 / scalar)

    def __neg__(self) -> Tangent:
        return self * -1.0


# np.float64(2) * tangent must come to Tangent.__rmul__; a NamedTuple takes no plain attribute in its body
Tangent.__array_ufunc__ = None  # type: ignore[attr-defined]


class LinearNetwork(_Implicit):
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
            which it defines them, which is tried on two samples; its state dict; its ``parameters()``. Any precision
            and device.

        Returns
        -------
        LinearNetwork
            A copy in double precision: training the module does not change it.

        Raises
        ------
        ValueError, TypeError
            If a layer has a bias, is not linear or shares its weight (it is named), or the forward is another.

        Examples
        --------
        >>> LinearNetwork.from_torch({"0.weight": np.ones((3, 4)), "1.weight": np.ones((2, 3))})
        LinearNetwork(depth 2: 2 <- 3 <- 4)
        """
        return cls(from_torch(module))

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
        return to_torch(self.factors, dtype)

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


def symmetric_part(w: LowRankMatrix) -> LowRankMatrix:
    """Return the symmetric positive semidefinite matrix next to one that is symmetric to roundoff, with u == vt.T."""
    core = w.s[:, None] * (w.vt @ w.u)
    s, p = linalg.eigh((core + core.T) / 2)
    u = w.u @ p[:, ::-1]
    return LowRankMatrix._trusted(u, s[::-1], u.T)


def random_point(
    m: int,
    n: int,
    rank: int,
    *,
    rng: validation.Rng = None,
    singular_values: ArrayLike | None = None,
    symmetric: bool = False,
) -> LowRankMatrix:
    """Return a random matrix of the given rank, with uniform singular frames.

    Parameters
    ----------
    m, n : int
        Shape.
    rank : int
        Rank, between 1 and min(m, n).
    rng : int or numpy.random.Generator, optional
        Source of randomness: a seed, or a generator that goes on. None: another matrix at every call.
    singular_values : array_like, (rank,), optional
        Positive; sorted in decreasing order. None: uniform on [1/2, 1].
    symmetric : bool
        Take the same frame on both sides: a symmetric positive semidefinite matrix.

    Returns
    -------
    LowRankMatrix

    Raises
    ------
    ValueError, TypeError
        If the rank exceeds min(m, n), a singular value is not positive, `rng` is none, or a symmetric
        matrix is not square.

    Examples
    --------
    >>> w = random_point(5, 4, 2, rng=0, singular_values=[0.1, 0.2])
    >>> w.shape, w.rank, w.s.tolist()
    ((5, 4), 2, [0.2, 0.1])
    """
    rng = validation.as_rng(rng)
    shape = (validation.require_integer("m", m, low=1), validation.require_integer("n", n, low=1))
    k = require_rank(rank, shape)
    validation.require_flags(symmetric=symmetric)
    if symmetric and m != n:
        raise ValueError(f"`m` and `n` must be equal for a symmetric matrix, got {m} and {n}.")
    u = random_frame(m, k, rng=rng)
    v = u if symmetric else random_frame(n, k, rng=rng)
    values: ArrayLike = rng.uniform(0.5, 1.0, k) if singular_values is None else singular_values
    s = require_singular_values("singular_values", values, k)
    return LowRankMatrix._trusted(u, s, v.T)


def singular_values(w: LowRankMatrix | LinearNetwork) -> Array:
    """Return the singular values of W, as many as its inner size."""
    if isinstance(w, LowRankMatrix):
        return w.s
    left, right = w.split()
    k = min(left.shape[1], *w.shape)
    if left.shape[1] < min(w.shape):
        left, right = thin_qr(left)[1], thin_qr(right.T)[1].T
    return np.asarray(np.linalg.svd(left @ right, compute_uv=False)[:k])
