"""The square loss on inputs and targets."""

from __future__ import annotations

from copy import copy
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg

from .. import validation
from ..matrices import EPS, LowRankMatrix, Matrix, MatrixOrArray, Product
from ..matrices.requirements import as_operand, require_numerical_rank, require_rank
from ..operators import MatrixLike, OperatorSum
from ..validation import Array
from .protocol import Reduction, Samples

_BLOCK = 256  # samples whose residual is formed at a time


class Spectrum(NamedTuple):
    r"""The data in whitened coordinates: B = W C^{1/2} turns the loss into ||B - Q||_F^2 / 2 + floor."""

    basis: Array  #: (n, q) eigenvectors of the Hessian's C
    eigenvalues: Array  #: (q,) its non-zero eigenvalues, decreasing
    u: Array  #: left singular vectors of Q
    sigma: Array  #: singular values of Q, decreasing
    vt: Array  #: right singular vectors of Q
    floor: float  #: least value of the loss without a constraint on the rank


def _in_columns(array: Array, rows: bool) -> Array:
    """Return samples in columns."""
    return array.T if rows else array


class LeastSquares:
    r"""The square loss :math:`L(W) = \tfrac{1}{2} \|W X - Y\|_F^2`, divided by the number of samples for "mean".

    Parameters
    ----------
    inputs : array_like
        X, (n, p) with the p samples in columns, or (p, n) with ``samples="rows"``.
    targets : array_like
        Y, (m, p), or (p, m) with ``samples="rows"``. A vector is one target a sample.
    reduction : {"sum", "mean"}
        "sum" as in the papers; "mean" divides by p.
    samples : {"columns", "rows"}
        Orientation of both arrays.

    Attributes
    ----------
    shape : tuple of int
        (m, n).
    curvature : float
        Largest eigenvalue of the Hessian, that of X X^T (over p for "mean").
    spectrum : Spectrum
        The data in whitened coordinates.

    Raises
    ------
    ValueError, TypeError
        If an array is empty, not finite or not a matrix, its largest entry lies outside 1e-35 .. 1e35,
        the numbers of samples differ, all inputs are zero, or a choice is unknown.

    Notes
    -----
    With more samples than inputs the data are compressed once by a QR factorisation, X^T = Q R, to n
    samples, an exact identity: ||W X - Y||^2 = ||W R^T - Y Q||^2 + ||Y - Y Q Q^T||^2. The value is a
    sum of squares of residuals, so it keeps its digits near zero, where the expanded quadratic form
    would lose them.

    Examples
    --------
    >>> loss = LeastSquares(inputs=[[1.0, 0.0], [0.0, 2.0]], targets=[[1.0, 1.0]])
    >>> loss.shape, float(loss.value(np.zeros((1, 2)))), loss.curvature
    ((1, 2), 1.0, 4.0)
    """

    shape: tuple[int, int]
    samples: int
    reduction: str

    differentiable_by_autograd = True  #: `value` can be traced with W an autograd array
    convex = True  #: in W
    hessian_of_stacks = True  #: `hessian` takes (D, m, n) too

    def __init__(
        self,
        inputs: ArrayLike,
        targets: ArrayLike,
        *,
        reduction: Reduction = "sum",
        samples: Samples = "columns",
    ) -> None:
        validation.require_choice("reduction", reduction, ("sum", "mean"))
        validation.require_choice("samples", samples, ("columns", "rows"))
        x, y = (
            _in_columns(validation.as_matrix(name, a, column=True), np.ndim(a) == 1 or samples == "rows")
            for name, a in (("inputs", inputs), ("targets", targets))
        )
        if x.shape[1] != y.shape[1]:
            other = "rows" if samples == "columns" else "columns"
            hint = f' Did you mean samples="{other}"?' if x.shape[0] == y.shape[0] else ""
            raise ValueError(
                f"`targets` must have as many samples as `inputs`, got {y.shape[1]} and {x.shape[1]}.{hint}"
            )
        for name, a in (("inputs", x), ("targets", y)):
            validation.require_peak(name, a)
        if not x.any():
            raise ValueError("`inputs` must not be all zero: the loss would not depend on W.")
        self.shape = (y.shape[0], x.shape[0])
        self.samples, self.reduction = x.shape[1], reduction
        weight = 1.0 if reduction == "sum" else 1.0 / self.samples
        x, y = x * np.sqrt(weight), y * np.sqrt(weight)
        self._constant = 0.0
        if self.samples > x.shape[0]:
            q, r = linalg.qr(x.T, mode="economic", check_finite=False)
            yq = y @ q
            self._constant = 0.5 * float(linalg.norm(y - yq @ q.T) ** 2)
            x, y = np.ascontiguousarray(r.T), yq
        self._inputs, self._targets = validation.read_only(x), validation.read_only(y)
        # few samples: keep C = X X^T and B = Y X^T as products, so that no n x n array appears
        few = x.shape[1] < x.shape[0]
        self._gram: Any = Product(x, x.T) if few else x @ x.T
        self._minus_cross: Any = Product(validation.read_only(-y), x.T) if few else validation.read_only(-(y @ x.T))

    @property
    def compressed(self) -> tuple[Array, Array, float]:
        """The data as the loss keeps them: X and Y of at most n samples, weighted, and c; L(W) = 1/2 ||W X - Y||^2 + c."""
        return self._inputs, self._targets, self._constant

    @property
    def normalisation(self) -> str:
        """The loss in one line, with its normalisation."""
        divisor = "" if self.reduction == "sum" else f" / {self.samples}"
        return f"1/2 ||W X - Y||_F^2{divisor}, samples in columns"

    def value(self, w: MatrixOrArray) -> float:
        """Return L(W), at most 256 columns of the residual at a time."""
        w = as_operand("w", w, self.shape)
        total = self._constant
        for start in range(0, self._inputs.shape[1], _BLOCK):
            block = slice(start, start + _BLOCK)
            residual, targets = w @ self._inputs[:, block], self._targets[:, block]
            if type(residual) is np.ndarray:  # in place, which autograd's arrays are not for
                residual -= targets
                total = total + 0.5 * float(np.vdot(residual, residual))
            else:
                residual = residual - targets
                total = total + 0.5 * (residual * residual).sum()
        return total

    def gradient(self, w: MatrixOrArray) -> OperatorSum:
        """Return G = (W X - Y) X^T as an operator of shape (m, n).

        W C is multiplied out here, on the small side of W, so that g @ v and g.T @ u share it; a W of
        large inner size (wide layers) makes G an array, which costs less than to carry its terms.
        """
        w = as_operand("w", w, self.shape)
        if not hasattr(w, "split"):  # an array, autograd's too
            factored = isinstance(self._gram, Product)
            left, right = (w @ self._gram.left, self._gram.right) if factored else (w, self._gram)
        else:
            left, right = w.split()
            right = right @ self._gram
        if 2 * left.shape[1] < min(self.shape) or isinstance(self._minus_cross, Product):
            return OperatorSum(Product(left, right), self._minus_cross)
        return OperatorSum(left @ right + self._minus_cross)

    def hessian(self, w: MatrixOrArray, z: MatrixOrArray) -> MatrixLike:
        """Return the Hessian applied to Z, Z X X^T, or to each Z of a stack (D, m, n); it does not depend on W."""
        if getattr(z, "shape", ())[-2:] != self.shape or not isinstance(z, np.ndarray):
            z = as_operand("z", z, self.shape)
        if not hasattr(z, "split"):
            return z @ self._gram
        left, right = z.split()
        return Product(left, right @ self._gram)

    @cached_property
    def spectrum(self) -> Spectrum:
        u, s, vt = linalg.svd(self._inputs, full_matrices=False, check_finite=False)
        q = int((s > s[0] * max(self._inputs.shape) * EPS).sum())
        whitened = self._targets @ vt[:q].T  # Q: the targets seen from the row space of the inputs
        floor = self._constant + 0.5 * float(linalg.norm(self._targets - whitened @ vt[:q]) ** 2)
        target_u, sigma, target_vt = linalg.svd(whitened, full_matrices=False, check_finite=False)
        basis, eigenvalues, left, values, right = map(
            validation.read_only, (u[:, :q], s[:q] ** 2, target_u, sigma, target_vt)
        )
        return Spectrum(basis, eigenvalues, left, values, right, floor)

    @property
    def curvature(self) -> float:
        return float(self.spectrum.eigenvalues[0])

    def whiten(self, w: Matrix) -> Product:
        """Return B = W C^{1/2} in the eigenbasis of C, (m, q)."""
        left, right = w.split()
        return Product(left, (right @ self.spectrum.basis) * np.sqrt(self.spectrum.eigenvalues))

    def shifted(self, w0: MatrixOrArray) -> LeastSquares:
        """Return the loss of W_0 + W as one of W: its targets are Y - W_0 X."""
        w0 = as_operand("w0", w0, self.shape)
        moved, x = copy(self), self._inputs
        y = self._targets - w0 @ x
        moved.__dict__.pop("spectrum", None)
        moved._targets = validation.read_only(y)
        few = isinstance(self._gram, Product)
        moved._minus_cross = Product(validation.read_only(-y), x.T) if few else validation.read_only(-(y @ x.T))
        return moved

    def centred(self) -> LeastSquares:
        r"""Return min over b of L([W b]) as a loss of W, (m, n), where the last row of the inputs is that of the biases.

        With e the last row over its norm, X and Y the others, :math:`\|W X + b\, x_0^T - Y\|^2 = \|(W X - Y)(I - e e^T)\|^2
        + \|x_0\|^2 \|b - b(W)\|^2`, where b(W) is what makes the mean residual zero: for a row of ones
        :math:`b(W) = \bar y - W \bar x`, and the first part is the loss on centred data.

        Raises
        ------
        ValueError
            If that row is zero or the only one, or all samples have equal inputs.
        """
        x, y, constant = self.compressed
        size = float(linalg.norm(x[-1]))
        if len(x) < 2 or size == 0:
            raise ValueError("`inputs` must end with a row of ones that is not the only one. Use losses.with_constant.")
        e = x[-1] / size
        x, y, scale = x[:-1] - np.outer(x[:-1] @ e, e), y - np.outer(y @ e, e), float(linalg.norm(x[:-1]))
        if float(linalg.norm(x)) <= x.size * EPS * scale:
            raise ValueError("`inputs` must differ between samples for W to matter beside b, got equal ones.")
        found = LeastSquares(x, y)
        found.samples, found.reduction, found._constant = self.samples, self.reduction, found._constant + constant
        return found

    def best_value(self, rank: int) -> float:
        r"""Return the least value among matrices of rank at most `rank`: floor + sum_{i > rank} sigma_i^2 / 2."""
        require_rank(rank, self.shape)
        return self.spectrum.floor + 0.5 * float((self.spectrum.sigma[rank:] ** 2).sum())

    def minimiser(self, rank: int) -> LowRankMatrix:
        r"""Return a best matrix of the rank, W = Q_k C^{-1/2} with Q_k the truncated SVD of Q.

        Raises
        ------
        ValueError
            If the rank exceeds min(m, n) or the numerical rank of Q.
        """
        spectrum = self.spectrum
        rank = require_rank(rank, self.shape)
        positive = int((spectrum.sigma > spectrum.sigma[0] * max(self.shape) * EPS).sum())
        require_numerical_rank(rank, positive)
        right = (spectrum.vt[:rank] / np.sqrt(spectrum.eigenvalues)) @ spectrum.basis.T
        return Product(spectrum.u[:, :rank] * spectrum.sigma[:rank], right).to_low_rank(rank)

    def __repr__(self) -> str:
        return f"LeastSquares({self.shape[0]} x {self.shape[1]}, {self.samples} samples, reduction={self.reduction!r})"
