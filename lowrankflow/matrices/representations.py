"""Matrices that are never formed: low rank, product, tangent vector; a deep linear network is one too, in `network`.

Every class here answers the same few questions: ``shape``, ``w @ x``, ``x @ w``, ``w.T``,
``w.entries(rows, cols)``, ``w.norm()``, ``w.to_dense()``. A loss asks nothing else of W, so one loss
serves them all. Only ``to_dense`` allocates m x n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from .. import validation
from ..entries import sampled_product
from ..foreign import precision
from ..validation import Array
from .factorisations import thin_qr, thin_svd
from .protocol import Matrix
from .requirements import (
    require_numerical_rank,
    require_rank,
    require_singular_values,
)

__all__ = [
    "EPS",
    "Implicit",
    "LowRankMatrix",
    "Product",
    "Tangent",
    "difference",
    "random_frame",
    "random_point",
    "singular_values",
    "symmetric_part",
]

EPS = float(np.finfo(np.float64).eps)


def random_frame(m: int, k: int, *, rng: validation.Rng = None) -> Array:
    """Return an (m, k) matrix with orthonormal columns, uniform on the Stiefel manifold."""
    q, r = thin_qr(validation.as_rng(rng).standard_normal((m, k)))
    return q * np.where(np.diag(r) < 0, -1.0, 1.0)  # without the signs QR of a Gaussian is not uniform


class Implicit:
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
        if not isinstance(other, Implicit):
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


class LowRankMatrix(Implicit):
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

    def __len__(self) -> int:
        """Return 3, the number of parts that it unpacks into: pymanopt's products count them."""
        return 3

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


class Product(Implicit):
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


def singular_values(w: Implicit) -> Array:
    """Return the singular values of W, as many as its inner size."""
    if isinstance(w, LowRankMatrix):
        return w.s
    left, right = w.split()
    k = min(left.shape[1], *w.shape)
    if left.shape[1] < min(w.shape):
        left, right = thin_qr(left)[1], thin_qr(right.T)[1].T
    return np.asarray(np.linalg.svd(left @ right, compute_uv=False)[:k])
