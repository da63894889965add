"""Critical points of the square loss, built: of networks with any index set and blocks, and of matrices of fixed rank."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg

from .. import validation
from ..losses import LeastSquares
from ..matrices import LinearNetwork, LowRankMatrix, Product
from ..matrices.requirements import require_depth, require_widths
from ..validation import Array
from .canonical import Canonical
from .places import inversions
from .whitened import Whitened

__all__ = [
    "CriticalValue",
    "critical_matrix",
    "critical_network",
    "critical_values",
    "manifold_hessian",
    "random_minimiser",
    "saddle",
]


class CriticalValue(NamedTuple):
    """A critical value of the loss of factors, in the normalisation of the loss."""

    value: float
    index_set: tuple[int, ...]  #: the one that comes first, from 1
    multiplicity: int  #: index sets with this value


def _sizes(problem: Whitened, depth: int, widths: int | Iterable[int]) -> list[int]:
    """Return the layers of a network in whitened coordinates, from the input on."""
    hidden = require_widths(widths, int(require_depth(depth, integer=True)), 1)
    p, q = problem.shape
    return [q, *(hidden[::-1] if problem.transposed else hidden), p]


def _index_set(problem: Whitened, index_set: Iterable[int], most: int) -> list[int]:
    """Return S from 0, checked."""
    given = validation.as_tuple(index_set)
    if given is None:
        raise TypeError(f"`index_set` must be whole numbers from 1, got {validation.describe(index_set)}.")
    s = sorted(validation.require_integer("index_set", i, low=1) - 1 for i in given)
    t = problem.target_rank
    if len(set(s)) < len(s) or (s and s[-1] >= t):
        raise ValueError(
            f"`index_set` must name singular pairs of the targets, each once, from 1 to {t}, got {list(given)}."
        )
    if len(s) > most:
        raise ValueError(f"`index_set` must have at most {most} pairs, the narrowest layer, got {len(s)}.")
    return s


def critical_network(
    loss: LeastSquares,
    depth: int,
    *,
    widths: int | Iterable[int],
    index_set: Iterable[int],
    blocks: Sequence[ArrayLike] | None = None,
    spread: float = 0.0,
    rng: validation.Rng = None,
) -> LinearNetwork:
    r"""Return a critical point of the factor loss in canonical form.

    .. math:: W_N = [U_S,\; U_Q Z_N] D_{N-1}^{-1}, \quad W_h = D_h\, \mathrm{diag}(I_r, Z_h)\, D_{h-1}^{-1}, \quad
              W_1 = D_1 \begin{bmatrix} U_S^T R \\ Z_1 \end{bmatrix}

    with R the least-squares solution and U the left singular vectors of its predictions. (Where W has more rows than the
    inputs have directions, all of that transposed.)

    Parameters
    ----------
    loss : LeastSquares
    depth : int
        N.
    widths : int or sequence of int
        Hidden widths (d_1, ..., d_{N-1}).
    index_set : iterable of int
        S, from 1.
    blocks : sequence of array_like, optional
        Z_1, ..., Z_N, the first (d_1 - r) x q in whitened inputs; None: all zero.
    spread : float
        Each D_h is a random matrix of condition exp(2 spread) at most; 0: the identity.
    rng : int or numpy.random.Generator, optional
        Draws them.

    Returns
    -------
    LinearNetwork

    Raises
    ------
    ValueError, TypeError
        If S is no set of pairs, a block has another shape, or the blocks leave a network that is not critical.

    References
    ----------
    .. [1] E. M. Achour, F. Malgouyres, S. Gerchinovitz, The loss landscape of deep linear neural networks: a second-order
       analysis, Journal of Machine Learning Research 25(242), 2024, Propositions 2, 9 and 10.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    >>> net = critical_network(loss, 3, widths=3, index_set=[1, 3])
    >>> np.diag(net.to_dense())
    array([3., 0., 1.])
    """
    problem = Whitened.of(loss)
    sizes = _sizes(problem, depth, widths)
    s = _index_set(problem, index_set, problem.best_rank(sizes))
    shapes = _block_shapes(sizes, len(s))
    if blocks is None:
        made = [np.zeros(shape) for shape in shapes]
    else:
        made = [np.asarray(z, dtype=np.float64) for z in blocks]
        if not all(np.isfinite(z).all() for z in made):
            raise ValueError("`blocks` must be finite, got values that are not.")
        if [z.shape for z in made] != shapes:
            raise ValueError(f"`blocks` must have the shapes {shapes}, got {[z.shape for z in made]}.")
    form = _form(problem, sizes, s, made, spread, rng)
    if not form.relative_gradient() <= 1e-8:
        raise ValueError(
            "`blocks` must be such that every product of N - 1 consecutive ones around the cycle is zero, got"
            f" {form.relative_gradient():.2g} of their size. Two blocks that are zero are always enough."
        )
    return problem.network(form.factors())


def _block_shapes(sizes: Sequence[int], r: int) -> list[tuple[int, int]]:
    left = [sizes[0], *(d - r for d in sizes[1:])]
    return [(b, a) for a, b in pairwise(left)]


def _form(
    problem: Whitened,
    sizes: Sequence[int],
    s: Sequence[int],
    blocks: Sequence[Array],
    spread: float,
    rng: validation.Rng,
) -> Canonical:
    spread = validation.require_number("spread", spread, positive=False)
    if spread > 10:
        raise ValueError(
            f"`spread` must be at most 10, got {spread:g}: the bases would be singular in double precision."
        )
    rng = validation.as_rng(rng)
    bases = [_basis(d, spread, rng) for d in sizes[1:-1]]
    return Canonical(problem, tuple(s), tuple(bases), tuple(blocks))


def _basis(d: int, spread: float, rng: np.random.Generator) -> Array:
    """Return a random invertible matrix with singular values between exp(-spread) and exp(spread)."""
    if spread == 0:
        return np.eye(d)
    u, v = (linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2))
    return np.asarray((u * np.exp(rng.uniform(-spread, spread, d))) @ v)


def saddle(
    loss: LeastSquares,
    depth: int,
    *,
    widths: int | Iterable[int],
    rank: int,
    order: int = 2,
    spread: float = 0.0,
    rng: validation.Rng = None,
) -> LinearNetwork:
    """Return a saddle at the best matrix of a rank, of a given order: 2 is strict, 3 to N are not.

    S = {1, ..., r}, Z_1 and Z_N zero, `order` - 2 of the other blocks zero, from the input on, and the rest (rectangular)
    identities: [1]_, Proposition 8, where the orders are derived here.

    Parameters
    ----------
    loss, depth, widths, spread, rng
        As of `critical_network`.
    rank : int
        r, from 0 to below that of a global minimiser.
    order : int
        Between 2 and N.

    Raises
    ------
    ValueError, TypeError
        If there is no such saddle.

    References
    ----------
    .. [1] As of `critical_network`.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> from lowrankflow.landscape import classify
    >>> loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    >>> [classify(saddle(loss, 4, widths=3, rank=1, order=m), loss).order for m in (2, 3, 4)]
    [2, 3, 4]
    """
    problem = Whitened.of(loss)
    sizes = _sizes(problem, depth, widths)
    best = problem.best_rank(sizes)
    rank = validation.require_integer("rank", rank, low=0)
    if rank >= best:
        raise ValueError(f"`rank` must be below {best}, that of a global minimiser, got {rank}.")
    order = validation.require_integer("order", order, low=2)
    if order > depth:
        raise ValueError(f"`order` must not exceed the depth, {depth}, got {order}.")
    shapes = _block_shapes(sizes, rank)
    blocks = [
        np.zeros(shape) if h in (0, depth - 1) or h <= order - 2 else np.eye(*shape) for h, shape in enumerate(shapes)
    ]
    form = _form(problem, sizes, list(range(rank)), blocks, spread, rng)
    return problem.network(form.factors())


def random_minimiser(
    loss: LeastSquares, depth: int, *, widths: int | Iterable[int], spread: float = 0.5, rng: validation.Rng = None
) -> LinearNetwork:
    """Return a random global minimiser of the factor loss: all of them have this form.

    Canonical form with S = {1, ..., r*}, any D_h, and any blocks where the narrowest layer has rank r*; where the targets
    have less rank than every layer, blocks with product zero. [1]_, Proposition 11.

    Parameters
    ----------
    loss, depth, widths, spread, rng
        As of `critical_network`; the blocks that are free are Gaussian.

    Returns
    -------
    LinearNetwork

    References
    ----------
    .. [1] As of `critical_network`.
    """
    problem = Whitened.of(loss)
    sizes = _sizes(problem, depth, widths)
    rng = validation.as_rng(rng)
    r = problem.best_rank(sizes)
    blocks = [rng.standard_normal(shape) / np.sqrt(max(1, *shape)) for shape in _block_shapes(sizes, r)]
    if r < min(sizes):  # targets of lower rank: one block of the chain is zero, and the product with it
        blocks[int(rng.integers(depth))][:] = 0.0
    return problem.network(_form(problem, sizes, list(range(r)), blocks, spread, rng).factors())


def critical_values(
    loss: LeastSquares, rank: int, *, only: bool = False, tied: float = 1e-12
) -> Iterator[CriticalValue]:
    """Yield the critical values of the loss of networks, or of matrices, from the least on, each when it is asked for.

    Parameters
    ----------
    loss : LeastSquares
    rank : int
        Largest rank: the narrowest layer of a network.
    only : bool
        Whether index sets of exactly this size count, the critical points on the manifold of that rank, or smaller ones
        as well, those of a network.
    tied : float
        Relative difference up to which values are one.

    Yields
    ------
    CriticalValue
        On 64 pairs there are more than 1e11 of them up to rank 10: take as many as are needed.
    """
    problem = Whitened.of(loss)
    tied = validation.require_number("tied", tied, positive=False)
    rank = min(validation.require_integer("rank", rank, low=0), problem.target_rank)
    squares = problem.unit * problem.sigma[: problem.target_rank] ** 2
    streams = (_by_sum(squares, k) for k in (range(rank, rank + 1) if only else range(rank, -1, -1)))
    total, scale = problem.unit * float((problem.sigma**2).sum()), float(squares.sum()) or 1.0
    kept: CriticalValue | None = None
    for captured, s in heapq.merge(*streams, key=lambda found: -found[0]):
        value = problem.floor + 0.5 * (total - captured)
        if kept is not None and value - kept.value <= tied * scale:
            kept = kept._replace(multiplicity=kept.multiplicity + 1)
            continue
        if kept is not None:
            yield kept
        kept = CriticalValue(value, tuple(i + 1 for i in s), 1)
    if kept is not None:
        yield kept


def _by_sum(squares: Array, size: int) -> Iterator[tuple[float, tuple[int, ...]]]:
    """Yield the sets of a size by the sum of what they hold, the largest first."""
    first = tuple(range(size))
    if size > squares.size:
        return
    heap, seen = [(-float(squares[:size].sum()), first)], {first}
    while heap:
        total, s = heapq.heappop(heap)
        yield -total, s
        for k, i in enumerate(s):
            if i + 1 < squares.size and (k + 1 == size or s[k + 1] > i + 1):
                moved = (*s[:k], i + 1, *s[k + 1 :])
                if moved not in seen:
                    seen.add(moved)
                    heapq.heappush(heap, (-float(squares[list(moved)].sum()), moved))


def critical_matrix(loss: LeastSquares, index_set: Iterable[int]) -> LowRankMatrix:
    """Return the critical point of the loss on the manifold of matrices of rank r with an index set of r pairs, from 1.

    In whitened coordinates the sum of the pairs. [1]_

    Raises
    ------
    ValueError
        If S is empty, or no set of pairs.

    References
    ----------
    .. [1] B. Bah, H. Rauhut, U. Terstiege, M. Westdickenberg, Learning deep linear neural networks: Riemannian gradient flows
       and convergence to global minimizers, Information and Inference 11(1), 2022.
    """
    problem = Whitened.of(loss)
    s = _index_set(problem, index_set, problem.target_rank)
    if not s:
        raise ValueError("`index_set` must name one pair at least: the zero matrix has no manifold of its rank.")
    spectrum = problem.spectrum
    right = (spectrum.vt[s] / np.sqrt(spectrum.eigenvalues)) @ spectrum.basis.T
    return Product(spectrum.u[:, s] * spectrum.sigma[s], right).to_low_rank(len(s))


def manifold_hessian(loss: LeastSquares, index_set: Iterable[int]) -> tuple[Array, int]:
    r"""Return the Hessian spectrum at `critical_matrix`, in whitened coordinates, and its Morse index.

    1, :math:`r^2` times; for j in S and i not in S :math:`1 - \sigma_i/\sigma_j` and :math:`1 + \sigma_i/\sigma_j`; 1 in the
    directions that are left. The index is the number of pairs i outside, j in S with :math:`\sigma_i > \sigma_j`; it is the
    same under every metric. (The form of the spectrum is derived; docs/theory.md#landscape.)

    Returns
    -------
    eigenvalues : ndarray, increasing
    index : int
    """
    problem = Whitened.of(loss)
    s = _index_set(problem, index_set, problem.target_rank)
    sigma, (p, q), r = problem.sigma, problem.shape, len(s)
    ratios = np.array([sigma[i] / sigma[j] for j in s for i in range(p) if i not in s])
    ones = np.ones(r * (p + q - r) - 2 * ratios.size)
    return np.sort(np.concatenate([1 - ratios, 1 + ratios, ones])), inversions(problem, s)
