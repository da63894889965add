"""The neural tangent kernel of a network, and the similarity of what its layers make of the inputs."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from operator import matmul
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg

from . import validation
from .matrices import AffineNetwork, LinearNetwork
from .matrices.requirements import require_network
from .validation import Array

__all__ = ["TangentKernel", "Term", "alignment", "similarities", "tangent_kernel"]


class Term(NamedTuple):
    """What one layer adds to the kernel: Z goes to ``outer @ Z @ inner``, two positive semidefinite matrices."""

    outer: Array  #: (m, m)
    inner: Array  #: (n, n)


class TangentKernel:
    r"""A sum of Kronecker products, :math:`K(Z) = \sum_j P_j Z R_j` on (m, n) matrices; made by `tangent_kernel`.

    Parameters
    ----------
    terms : iterable of (outer, inner)
        P_j (m, m) and R_j (n, n), symmetric.

    Attributes
    ----------
    terms : tuple of Term
    shape : tuple of int
        (m, n), of what it is applied to.

    Raises
    ------
    ValueError, TypeError
        If there is no term, or one is not a pair of square matrices of the sizes of the others.

    Notes
    -----
    Nothing here is larger than the terms, except `to_dense` and `eigenvalues` of three terms or more, (m n, m n).
    """

    __array_ufunc__ = None

    def __init__(self, terms: Iterable[tuple[ArrayLike, ArrayLike]]) -> None:
        pairs = [(validation.as_matrix("terms", p), validation.as_matrix("terms", r)) for p, r in terms]
        if not pairs:
            raise ValueError("`terms` must hold a pair at least, got none.")
        self.shape = (len(pairs[0][0]), len(pairs[0][1]))
        (m, n) = self.shape
        for p, r in pairs:
            validation.require_shape("terms", p.shape + r.shape, (m, m, n, n), "the first asks for")
        self.terms = tuple(Term(p, r) for p, r in pairs)

    def __call__(self, z: ArrayLike) -> Array:
        """Return K(Z), (m, n): minus the velocity of W where Z is the gradient of the loss."""
        a = validation.as_matrix("z", z)
        validation.require_shape("z", a.shape, self.shape, "the kernel acts on")
        return np.sum([p @ a @ r for p, r in self.terms], axis=0)

    def on(self, inputs: ArrayLike) -> TangentKernel:
        """Return the kernel of the outputs on samples X (n, p) in columns, R_j replaced by X^T R_j X."""
        x = validation.as_matrix("inputs", inputs)
        if len(x) != self.shape[1]:
            raise ValueError(f"`inputs` must have {self.shape[1]} rows, got shape {x.shape}.")
        return TangentKernel((p, x.T @ r @ x) for p, r in self.terms)

    def trace(self) -> float:
        """Return the sum of the eigenvalues."""
        return float(sum(np.trace(p) * np.trace(r) for p, r in self.terms))

    def dot(self, other: TangentKernel) -> float:
        """Return the Frobenius inner product of the two (m n, m n) matrices."""
        self._require(other)
        return float(sum(np.vdot(p, q) * np.vdot(r, s) for p, r in self.terms for q, s in other.terms))

    def norm(self) -> float:
        """Return the Frobenius norm of the (m n, m n) matrix."""
        return float(np.sqrt(max(self.dot(self), 0.0)))

    def alignment(self, other: TangentKernel) -> float:
        """Return the cosine of the two kernels, 1 for kernels that differ by a factor alone; 0 where one vanishes."""
        size = self.norm() * other.norm()
        return self.dot(other) / size if size > 0 else 0.0

    def distance(self, start: TangentKernel) -> float:
        """Return ||K - K_0|| / ||K_0||, how far the kernel has come from that of a start: 0 while training is lazy."""
        self._require(start)
        size = start.norm()
        return (self - start).norm() / size if size > 0 else (0.0 if self.norm() == 0 else float("inf"))

    def __sub__(self, other: TangentKernel) -> TangentKernel:
        """Return the difference; of kernels of one depth term by term, which keeps the digits of a small one."""
        if len(self.terms) != len(other.terms):
            return TangentKernel([*self.terms, *((-p, r) for p, r in other.terms)])
        pairs = zip(self.terms, other.terms, strict=True)
        return TangentKernel(part for (p, r), (q, s) in pairs for part in ((p - q, r), (q, r - s)))

    def eigenvalues(self) -> Array:
        """Return all m n eigenvalues, decreasing."""
        if len(self.terms) <= 2 and _commute(self.terms):
            # P (x) I + I (x) R and one product alone: sums and products of eigenvalues
            outer, inner = ([linalg.eigvalsh(a) for a in side] for side in zip(*self.terms, strict=True))
            return np.sort(np.ravel(sum(np.multiply.outer(p, r) for p, r in zip(outer, inner, strict=True))))[::-1]
        return np.asarray(linalg.eigvalsh(self.to_dense()), dtype=np.float64)[::-1]

    def to_dense(self) -> Array:
        """Return the (m n, m n) matrix that acts on rows of W laid end to end."""
        return np.sum([np.kron(p, r) for p, r in self.terms], axis=0)

    def _require(self, other: object) -> None:
        if not isinstance(other, TangentKernel):
            raise TypeError(
                f"`other` must be a TangentKernel, got {validation.describe(other)}. See tangent_kernel(net)."
            )
        validation.require_shape("other", other.shape, self.shape, "the kernel has shape")

    def __repr__(self) -> str:
        return f"TangentKernel({len(self.terms)} terms on {self.shape[0]} x {self.shape[1]})"


def _commute(terms: tuple[Term, ...]) -> bool:
    """Return whether each side has one factor at most that is not the identity, so that eigenvectors are shared."""
    return all(sum(not np.array_equal(a, np.eye(len(a))) for a in side) <= 1 for side in zip(*terms, strict=True))


def tangent_kernel(network: LinearNetwork | AffineNetwork) -> TangentKernel:
    r"""Return the neural tangent kernel of a network, as the operator by which its product moves, W' = -K(grad L).

    .. math:: K = \sum_{j=1}^N (W_N \cdots W_{j+1})(W_N \cdots W_{j+1})^T \otimes
                  (W_{j-1} \cdots W_1)^T (W_{j-1} \cdots W_1) .

    Parameters
    ----------
    network : LinearNetwork or AffineNetwork, (m, n)
        Balanced or not; with biases K moves [W b], (m, n + 1), and has the matrix that makes (h_{j-1}, 1) of (x, 1) in the place
        of :math:`W_{j-1} \cdots W_1`, without the row of the one where layer j has no bias.

    Returns
    -------
    TangentKernel
        ``kernel.on(X)`` is that of the outputs on samples; ``kernel.distance(start)`` its change.

    Raises
    ------
    TypeError
        If `network` is none.

    References
    ----------
    .. [1] A. Jacot, F. Gabriel, C. Hongler, Neural tangent kernel, NeurIPS 2018, arXiv:1806.07572.

    Examples
    --------
    >>> kernel = tangent_kernel(LinearNetwork([[[2.0]], [[3.0]]]))
    >>> kernel.to_dense().tolist()  # 3^2 + 2^2
    [[13.0]]
    """
    if not isinstance(network, AffineNetwork):
        require_network("network", network)
    linear, moved = (network.linear, network.augmented) if isinstance(network, AffineNetwork) else (network, network)
    left = list(accumulate(reversed(linear.factors[1:]), matmul, initial=np.eye(linear.shape[0])))[::-1]
    right = list(accumulate(moved.factors[:-1], lambda chain, f: f @ chain, initial=np.eye(moved.shape[1])))
    if isinstance(network, AffineNetwork):  # the last row is that of the constant
        right = [b[:-1] if bias is None else b for b, bias in zip(right, network.biases, strict=True)]
    return TangentKernel((a @ a.T, b.T @ b) for a, b in zip(left, right, strict=True))


def similarities(network: LinearNetwork, inputs: ArrayLike | None = None) -> tuple[Array, ...]:
    r"""Return how alike samples look to each layer, :math:`H_j^T H_j` with :math:`H_j = W_j \cdots W_1 X`, j = 1 .. N.

    Parameters
    ----------
    network : LinearNetwork, (m, n)
    inputs : array_like, (n, p), optional
        X, samples in columns; None: the identity.

    Returns
    -------
    tuple of ndarray
        N matrices (p, p), that of the first layer first.

    Raises
    ------
    ValueError, TypeError
        If `network` is none, or the inputs have not n rows.

    Notes
    -----
    Rotations of a hidden layer do not change it. The similarity of what tells the targets of two samples apart,
    W_N ... W_{j+1} times its transpose, is that of ``network.T``.
    """
    require_network("network", network)
    x = np.eye(network.shape[1]) if inputs is None else validation.as_matrix("inputs", inputs)
    if len(x) != network.shape[1]:
        raise ValueError(f"`inputs` must have {network.shape[1]} rows, got shape {x.shape}.")
    layers = list(accumulate(network.factors, lambda h, f: f @ h, initial=x))[1:]
    return tuple(h.T @ h for h in layers)


def alignment(a: ArrayLike, b: ArrayLike, *, centred: bool = False) -> float:
    r"""Return how alike two similarity matrices of the same samples are: their cosine,
    :math:`\langle A, B \rangle / (\|A\| \|B\|)`.

    Parameters
    ----------
    a, b : array_like, (p, p)
        What `similarities` returns.
    centred : bool
        Subtract means over the samples from both sides first: the linear CKA of [1]_.

    Returns
    -------
    float
        Between 0 and 1; 0 where one vanishes.

    Raises
    ------
    ValueError, TypeError
        If they are not square of one size.

    References
    ----------
    .. [1] S. Kornblith, M. Norouzi, H. Lee, G. Hinton, Similarity of neural network representations revisited, ICML 2019,
       arXiv:1905.00414.
    """
    first, second = validation.as_matrix("a", a), validation.as_matrix("b", b)
    validation.require_shape("a", first.shape, (len(first),) * 2, "a similarity has")
    validation.require_shape("b", second.shape, first.shape, "`a` has")
    validation.require_flags(centred=centred)
    if centred:
        first, second = (x - x.mean(0) - x.mean(1)[:, None] + x.mean() for x in (first, second))
    size = float(linalg.norm(first) * linalg.norm(second))
    return float(np.vdot(first, second)) / size if size > 0 else 0.0
