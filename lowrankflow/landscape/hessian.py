r"""The spectrum of the Hessian of all factors: its ends in networks of any size, the whole of it in small ones.

What is proved and what is not. For every unit vector x, lambda_min <= x^T H x (Rayleigh), so a quotient that is negative by
more than the error of its evaluation proves a negative eigenvalue, whether or not the iteration converged; the k-th least
Ritz value bounds the k-th eigenvalue in the same way (Cauchy). The residual rho = ||H x - theta x|| says something else: there
is an eigenvalue within rho of theta. A negative value beyond its residual is therefore a proof as well, but a weaker test.
Ritz values that are not negative prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from .. import validation
from ..geometry import FactorHessian, factor_hessian
from ..losses import Loss
from ..matrices import EPS, LinearNetwork
from ..operators import MatrixLike
from ..validation import Array
from .lanczos import lanczos

__all__ = [
    "ExtremeEigenvalues",
    "HessianSpectrum",
    "RitzPairs",
    "extreme_eigenvalues",
    "factor_hessian",
    "hessian_spectrum",
    "ritz_values",
]

_LARGEST_SPECTRUM = 3000  # parameters: half a minute for the eigenvalues of a dense matrix of that size
_VISIBLE = 1e-3  # of the largest eigenvalue: what is smaller lies at zero in a picture
_CLEAR = 2.0  # a gap: the least ratio of neighbours in size


@dataclass(frozen=True, eq=False)
class RitzPairs:
    r"""Approximate eigenpairs at one end of a spectrum, the outermost first.

    Attributes
    ----------
    values : ndarray, (k,)
        :math:`\theta = x^T H x` for unit vectors x, made afresh when the iteration had ended.
    residuals : ndarray, (k,)
        :math:`\rho = \|H x - \theta x\|`: H has an eigenvalue within rho (and the error) of theta.
    errors : ndarray, (k,)
        What the computed H x may be off by: roundoff, and truncation of differences. An estimate, see
        `FactorHessian.error`.
    converged : ndarray of bool, (k,)
        Whether the residual is below the tolerance (or the error).
    vectors : ndarray, (n, k), or None
        The x, in columns, if they were asked for.
    """

    values: Array
    residuals: Array
    errors: Array
    converged: np.ndarray
    vectors: Array | None


@dataclass(frozen=True, eq=False)
class ExtremeEigenvalues:
    r"""What a fixed number of products tells about both ends of the spectrum of a symmetric operator H.

    Attributes
    ----------
    smallest, largest : RitzPairs
        Ritz pairs at either end.
    products : int
        Products with H that were made, those of residuals and errors among them.
    scale : float
        What the values are to be measured against: the largest of their sizes and, of a Hessian of factors,
        :math:`\|\nabla L(W)\|_2 \max_j \|W_N \cdots W_{j+2}\|_2 \|W_{j-1} \cdots W_1\|_2`, what the curvature of the
        product along two neighbouring factors would be if the gradient were aligned with the others.
    exact : bool
        False for a Hessian by differences, whose errors are larger.
    """

    smallest: RitzPairs
    largest: RitzPairs
    products: int
    scale: float
    exact: bool

    @property
    def upper_bound(self) -> float:
        r"""An upper bound of the least eigenvalue: the least of :math:`\theta + \mathrm{error}`."""
        return float(min((p.values + p.errors).min() for p in (self.smallest, self.largest) if p.values.size))

    @property
    def lower_bound(self) -> float:
        r"""A lower bound of the largest eigenvalue: the largest of :math:`\theta - \mathrm{error}`."""
        return float(max((p.values - p.errors).max() for p in (self.smallest, self.largest) if p.values.size))

    @property
    def negative(self) -> bool:
        r"""Whether a negative eigenvalue is proved, to the accuracy of the errors: a :math:`\theta + \mathrm{error} < 0`.

        False says that none was found, and proves nothing.
        """
        return self.upper_bound < 0

    @property
    def negatives(self) -> int:
        """How many negative eigenvalues are proved: at most as many as Ritz pairs were asked for; a lower bound.

        By Cauchy's interlacing the k-th least Ritz value of an orthonormal set is at least the k-th eigenvalue; the errors
        of the set are added as a norm.
        """
        several = int((self.smallest.values + linalg.norm(self.smallest.errors) < 0).sum())
        return max(several, int(self.negative))

    def __str__(self) -> str:
        lines = []
        for name, pairs in (("smallest", self.smallest), ("largest", self.largest)):
            for value, residual, converged in zip(pairs.values, pairs.residuals, pairs.converged, strict=True):
                state = "converged" if converged else "not converged"
                lines.append(f"{name}: Ritz value {value:.6g}, residual {residual:.1e}, {state}")
        found = f"{self.negatives} proved" if self.negative else "none found, which proves nothing"
        return "\n".join([*lines, f"negative eigenvalues: {found} ({self.products} products, scale {self.scale:.3g})"])


def extreme_eigenvalues(
    loss: Loss,
    network: LinearNetwork,
    *,
    smallest: int = 1,
    largest: int = 1,
    products: int = 100,
    tolerance: float = 1e-8,
    basis: int = 40,
    vectors: bool = False,
    exact: bool | None = None,
    rng: validation.Rng = 0,
) -> ExtremeEigenvalues:
    r"""Return the ends of the spectrum of the Hessian of :math:`(W_1, \ldots, W_N) \mapsto L(W_N \cdots W_1)`.

    Both ends come from one Krylov space. It always returns, after at most `products` products with the Hessian: at a
    minimiser of the square loss all but :math:`r (m + n - r)` eigenvalues are zero, and no iteration need converge there.

    Parameters
    ----------
    loss : Loss
        In its own normalisation, which is that of the eigenvalues.
    network : LinearNetwork, (m, n)
        Where.
    smallest, largest : int
        How many Ritz pairs at either end.
    products : int
        Largest number of products with the Hessian, at least three for each Ritz pair.
    tolerance : float
        Residual over the largest Ritz value in size at which the iteration ends before that.
    basis : int
        Vectors of the size of the network that are kept.
    vectors : bool
        Return the Ritz vectors too.
    exact : bool, optional
        As for `factor_hessian`.
    rng : int or numpy.random.Generator, optional
        Of the first vector.

    Returns
    -------
    ExtremeEigenvalues

    Raises
    ------
    ValueError, TypeError
        If loss and network do not fit, a number breaks its rule, or a product is not finite.

    Notes
    -----
    A thick-restart Lanczos iteration. A repeated eigenvalue may be found once.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    >>> origin = lrf.LinearNetwork([np.zeros((3, 3)), np.zeros((3, 3))])
    >>> found = extreme_eigenvalues(loss, origin)
    >>> found.smallest.values.round(6).tolist(), found.largest.values.round(6).tolist(), found.negative
    ([-3.0], [3.0], True)
    """
    return ritz_values(
        factor_hessian(loss, network, exact=exact),
        smallest=smallest,
        largest=largest,
        products=products,
        tolerance=tolerance,
        basis=basis,
        vectors=vectors,
        rng=rng,
    )


def ritz_values(
    operator: Any,
    *,
    smallest: int = 1,
    largest: int = 1,
    products: int = 100,
    tolerance: float = 1e-8,
    basis: int = 40,
    vectors: bool = False,
    rng: validation.Rng = 0,
) -> ExtremeEigenvalues:
    r"""Return Ritz pairs at both ends of the spectrum of a symmetric operator, with their residuals.

    Parameters
    ----------
    operator : LinearOperator, array or sparse array, (n, n)
        Symmetric. One with a method ``error(x, image)``, as `factor_hessian` makes, says itself how far a product may be
        off, for one product more a pair; else :math:`10 \sqrt{n}\, \epsilon` times the largest Ritz value is taken.
    smallest, largest : int
        How many at either end.
    products : int
        Largest number of products, at least three for each Ritz pair.
    tolerance : float
        Residual over the largest Ritz value in size at which the iteration ends before that.
    basis : int
        Vectors that are kept.
    vectors : bool
        Return the Ritz vectors too.
    rng : int or numpy.random.Generator, optional
        Of the first vector.

    Returns
    -------
    ExtremeEigenvalues

    Raises
    ------
    ValueError, TypeError
        If `operator` is not square or not symmetric, a number breaks its rule, or a product is not finite.
    """
    found_operator, n = _as_operator(operator)
    smallest = validation.require_integer("smallest", smallest, low=0)
    largest = validation.require_integer("largest", largest, low=0)
    if smallest + largest == 0:
        raise ValueError("`smallest` and `largest` must not both be 0: nothing would be looked for.")
    smallest, largest = min(smallest, n), min(largest, n)
    products = validation.require_integer("products", products, low=3 * (smallest + largest))
    basis = max(validation.require_integer("basis", basis, low=1), smallest + largest + 2)
    tolerance = validation.require_number("tolerance", tolerance)
    validation.require_flags(vectors=vectors)
    rng = validation.as_rng(rng)

    error = getattr(operator, "error", None)
    last = (smallest + largest) * (1 if error is None else 2)  # for residuals and errors
    apply = _checked(found_operator)
    found = lanczos(
        apply,
        n,
        smallest=smallest,
        largest=largest,
        products=products - last,
        tolerance=tolerance,
        basis=basis,
        rng=rng,
    )
    low, high = _rayleigh_ritz(apply, found.lowest), _rayleigh_ritz(apply, found.highest)
    size = max(float(np.abs(end.values).max(initial=0.0)) for end in (low, high))
    if error is None:
        _require_symmetric(low, high, size)
    least = 10 * np.sqrt(n) * EPS * size  # of sums of n terms
    scale = max(size, _curvature_scale(operator)) if isinstance(operator, FactorHessian) else size
    return ExtremeEigenvalues(
        smallest=low.pairs(tolerance * size, least, error, vectors),
        largest=_Space(*(part[::-1] for part in high)).pairs(tolerance * size, least, error, vectors),
        products=found.products + last,
        scale=scale,
        exact=bool(getattr(operator, "exact", True)),
    )


def _as_operator(operator: Any) -> tuple[LinearOperator, int]:
    """Return a square operator and its size."""
    try:
        found = aslinearoperator(operator)
    except (TypeError, ValueError):
        kind = validation.describe(operator)
        raise TypeError(f"`operator` must be a LinearOperator, an array or a sparse array, got {kind}.") from None
    if found.shape[0] != found.shape[1]:
        raise ValueError(f"`operator` must be square, got shape {tuple(found.shape)}.")
    if np.issubdtype(found.dtype, np.complexfloating):
        raise TypeError("`operator` must be real, got a complex one.")
    return found, int(found.shape[0])


def _checked(operator: LinearOperator) -> Callable[[Array], Array]:
    """Return the product with an operator, which must be finite."""

    def apply(x: Array) -> Array:
        image = operator @ x
        if not np.isfinite(image).all():
            raise ValueError("`operator` must be finite, got a product that is not. Start elsewhere or nearer.")
        return image

    return apply


class _Space(NamedTuple):
    """Ritz values of a space in increasing order, the unit Ritz vectors and their images, as rows."""

    values: Array
    x: Array
    images: Array

    def pairs(self, tolerance: float, least: float, error: Any, vectors: bool) -> RitzPairs:
        """Return them with residuals and errors, for which `error` is asked."""
        residuals = np.array([linalg.norm(b - t * a) for t, a, b in zip(*self, strict=True)])
        errors = np.array([least if error is None else least + error(a, b) for _, a, b in zip(*self, strict=True)])
        converged = residuals <= np.maximum(tolerance, errors)
        return RitzPairs(self.values, residuals, errors, converged, self.x.T if vectors else None)


def _rayleigh_ritz(apply: Callable[[Array], Array], x: Array) -> _Space:
    """Return the Ritz pairs of the space of orthonormal rows, from products made afresh."""
    if not x.size:
        return _Space(np.empty(0), x, x)
    images = np.stack([apply(row) for row in x])
    projected = images @ x.T
    values, s = linalg.eigh((projected + projected.T) / 2)
    return _Space(values, s.T @ x, s.T @ images)


def _require_symmetric(low: _Space, high: _Space, size: float) -> None:
    """Refuse an operator that is visibly not symmetric on the vectors whose images are known."""
    projected = np.vstack([low.x, high.x]) @ np.vstack([low.images, high.images]).T
    gap = float(np.abs(projected - projected.T).max())
    if gap > 1e-6 * max(size, float(np.abs(projected).max())):  # products by differences are symmetric to 1e-8 or so
        raise ValueError(f"`operator` must be symmetric, got |x^T A y - y^T A x| = {gap:.2g} for unit vectors.")


def _curvature_scale(hessian: FactorHessian) -> float:
    """Return ||G||_2 max_j ||W_N ... W_{j+2}||_2 ||W_{j-1} ... W_1||_2; of deep networks, at twenty places j."""
    network = hessian.network
    size = _spectral_norm(hessian.loss.gradient(network))
    if network.depth == 1 or size == 0:
        return 0.0
    places = np.unique(np.linspace(0, network.depth - 2, 20).astype(int))
    return size * max(_chain_norm(network.factors[j + 2 :]) * _chain_norm(network.factors[:j]) for j in places)


def _chain_norm(factors: tuple[Array, ...]) -> float:
    """Return the spectral norm of a product, one of none."""
    return _spectral_norm(LinearNetwork._trusted(factors)) if factors else 1.0


def _spectral_norm(a: MatrixLike, rounds: int = 10) -> float:
    """Return the spectral norm from below, to some per cent: a scale, not a bound."""
    x, size = np.random.default_rng(0).standard_normal(a.shape[1]), 0.0
    for _ in range(rounds):
        length = float(linalg.norm(x))
        if length == 0:
            return 0.0
        image = a @ (x / length)
        size, x = float(linalg.norm(image)), a.T @ image
    return size


@dataclass(frozen=True, eq=False)
class HessianSpectrum:
    r"""All eigenvalues of the Hessian of a small network, with the gap between bulk and spikes.

    Attributes
    ----------
    eigenvalues : ndarray, (n,)
        In increasing order.
    zero : float
        What is smaller in size is zero to the accuracy of the Hessian.
    gap : tuple of float, or None
        (a, b): no eigenvalue lies between a and b in size; those above are the spikes. The widest gap, by b / a, with b at
        least a thousandth of the largest eigenvalue in size and a taken for no less; None where b / a is nowhere 2.
    """

    eigenvalues: Array
    zero: float
    gap: tuple[float, float] | None

    @property
    def spikes(self) -> Array:
        """The eigenvalues above the gap in size, in increasing order; none where there is no gap."""
        return self.eigenvalues[self._above()]

    @property
    def bulk(self) -> Array:
        """The other eigenvalues, in increasing order."""
        return self.eigenvalues[~self._above()]

    @property
    def inertia(self) -> tuple[int, int, int]:
        """How many eigenvalues are negative, zero and positive, at the accuracy of the Hessian: no proof of zeros."""
        below, above = int((self.eigenvalues < -self.zero).sum()), int((self.eigenvalues > self.zero).sum())
        return below, self.eigenvalues.size - below - above, above

    def _above(self) -> np.ndarray:
        size = np.abs(self.eigenvalues)
        return np.zeros(size.shape, bool) if self.gap is None else size >= self.gap[1]


def hessian_spectrum(loss: Loss, network: LinearNetwork, *, exact: bool | None = None) -> HessianSpectrum:
    r"""Return all eigenvalues of the Hessian of :math:`(W_1, \ldots, W_N) \mapsto L(W_N \cdots W_1)`.

    Parameters
    ----------
    loss : Loss
        In its own normalisation.
    network : LinearNetwork
        Of at most 3000 parameters.
    exact : bool, optional
        As for `factor_hessian`.

    Returns
    -------
    HessianSpectrum

    Raises
    ------
    ValueError, TypeError
        If loss and network do not fit, or there are more than 3000 parameters.

    Notes
    -----
    The dense matrix is assembled column by column, one Hessian product each.

    Examples
    --------
    At a minimiser r (m + n - r) eigenvalues are positive and the others are zero.

    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    >>> found = hessian_spectrum(loss, lrf.LinearNetwork.balanced(loss.minimiser(2), 3))
    >>> found.inertia, found.spikes.size
    ((0, 8, 8), 8)
    """
    hessian = factor_hessian(loss, network, exact=exact)
    n = hessian.shape[0]
    if n > _LARGEST_SPECTRUM:
        raise ValueError(
            f"`network` must have at most {_LARGEST_SPECTRUM} parameters for the whole spectrum, got {n}."
            " Use extreme_eigenvalues."
        )
    dense = hessian @ np.eye(n)
    values = np.asarray(linalg.eigvalsh((dense + dense.T) / 2), dtype=np.float64)
    # ||E||_F from the images of random unit vectors, whose mean square is ||E||_F^2 / n; ||E||_2 bounds what moves
    tries = np.random.default_rng(0).standard_normal((4, n))
    tries /= np.linalg.norm(tries, axis=1)[:, None]
    error = float(np.sqrt(n * np.mean([hessian.error(x, dense @ x) ** 2 for x in tries])))
    zero = error + 10 * n * EPS * float(np.abs(values).max())
    return HessianSpectrum(values, zero, _widest_gap(np.abs(values), zero))


def _widest_gap(size: Array, zero: float) -> tuple[float, float] | None:
    """Return the neighbours in size with the largest ratio, what cannot be seen counted as equal."""
    floor = max(_VISIBLE * float(size.max()), zero)
    seen = np.sort(size[size > floor])
    if not seen.size:
        return None
    below = np.concatenate([[floor] if seen.size < size.size else [seen[0]], seen[:-1]])
    k = int(np.argmax(seen / below))
    if seen[k] < _CLEAR * below[k]:
        return None
    inside = size[size < seen[k]]
    return float(inside.max()), float(seen[k])
