"""Random critical points of the square loss, and dense formulas that share no code with what is claimed of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import pairwise

import numpy as np

from ..landscape import Place, classify
from ..landscape.canonical import Canonical
from ..landscape.whitened import Whitened
from ..losses import LeastSquares
from ..matrices import LinearNetwork
from ..statements import generator
from ..validation import Array

__all__ = [
    "CriticalPoint",
    "Population",
    "chain",
    "critical_point",
    "factor_gradients",
    "factor_hessian",
    "random_basis",
    "random_cycle",
    "regression",
]

_GAP = 0.1  # of two singular values of the whitened targets, and of the least from zero, relative to the largest
_CONDITION = 20.0  # of the inputs, at most
_SEEN = 0.2  # of the norm of the targets, that the largest singular value of their predictions has
_CLEAR = 0.1  # of the norms of its blocks, that a product of them has if it does not vanish
_ROUNDOFF = 1e-13  # up to which it vanishes
SPREAD = 0.5  #: of the logarithms of singular values of a basis: conditions up to e

# ---------------------------------------------------------------------------------------------------------------------
# dense formulas


def chain(factors: Sequence[Array], size: int) -> Array:
    """Return the product of factors, the first acting first; the identity of a size where there is none."""
    return reduce(lambda product, f: f @ product, factors, np.eye(size))


def factor_gradients(factors: Sequence[Array], inputs: Array, targets: Array) -> list[Array]:
    """Return the gradients of ||W_N .. W_1 X - Y||^2 / 2, by the product rule."""
    residual = (chain(factors, inputs.shape[0]) @ inputs - targets) @ inputs.T
    return [
        chain(factors[j + 1 :], f.shape[0]).T @ residual @ chain(factors[:j], inputs.shape[0]).T
        for j, f in enumerate(factors)
    ]


def factor_hessian(factors: Sequence[Array], inputs: Array, targets: Array) -> Array:
    """Return the Hessian of ||W_N .. W_1 X - Y||^2 / 2, J^T J + G + G^T, of the factors row after row."""
    count, d = len(factors), inputs.shape[0]
    after = [chain(factors[i + 1 :], f.shape[0]) for i, f in enumerate(factors)]
    before = [chain(factors[:i], d) @ inputs for i in range(count)]
    residual = chain(factors, d) @ inputs - targets
    jacobian = np.hstack([np.kron(a, b.T) for a, b in zip(after, before, strict=True)])
    hessian = jacobian.T @ jacobian
    ends = np.cumsum([0, *(f.size for f in factors)])
    for i in range(count):
        for j in range(i):
            middle = chain(factors[j + 1 : i], factors[j].shape[0])
            outer = before[j] @ residual.T @ after[i]
            g = np.einsum("bc,da->abcd", middle, outer).reshape(factors[i].size, factors[j].size)
            hessian[ends[i] : ends[i + 1], ends[j] : ends[j + 1]] += g
            hessian[ends[j] : ends[j + 1], ends[i] : ends[i + 1]] += g.T
    return hessian


# ---------------------------------------------------------------------------------------------------------------------
# random problems and points


def regression(rng: np.random.Generator, most: int = 4) -> tuple[Array, Array]:
    """Return random inputs and targets whose whitened targets are told apart: gaps, and inputs that see them.

    Three in ten are of a teacher of lower rank.
    """
    while True:
        m, n = (int(d) for d in rng.integers(1, most + 1, 2))
        inputs = rng.standard_normal((n, int(rng.integers(max(m, n), 10))))
        targets = rng.standard_normal((m, inputs.shape[1]))
        if rng.random() < 0.3 and min(m, n) > 1:
            k = int(rng.integers(1, min(m, n)))
            targets = rng.standard_normal((m, k)) @ rng.standard_normal((k, n)) @ inputs
        _, s, vt = np.linalg.svd(inputs, full_matrices=False)
        sigma = np.linalg.svd(targets @ vt.T, compute_uv=False)
        sigma = sigma[sigma > 1e-10 * sigma[0]]
        seen = sigma[0] >= _SEEN * float(np.linalg.norm(targets))
        if seen and s[0] <= _CONDITION * s[-1] and np.diff([*sigma, 0.0]).max() < -_GAP * sigma[0]:
            return inputs, targets


def random_basis(d: int, rng: np.random.Generator, spread: float = SPREAD) -> Array:
    """Return a random invertible matrix with singular values between exp(-spread) and exp(spread)."""
    if not d:
        return np.zeros((0, 0))
    u, v = (np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2))
    return np.asarray(u * np.exp(rng.uniform(-spread, spread, d)) @ v)


def random_cycle(sizes: Sequence[int], rng: np.random.Generator) -> list[Array]:
    """Return maps around a cycle of spaces with every product of N - 1 of them zero; in general no map is zero itself.

    Arcs of up to N - 2 unit vectors, one led into the next.
    """
    n, used = len(sizes), [0] * len(sizes)
    blocks = [np.zeros((sizes[(h + 1) % n], sizes[h])) for h in range(n)]
    for _ in range(6):
        first, arrows = int(rng.integers(n)), int(rng.integers(n - 1))
        nodes = [(first + k) % n for k in range(arrows + 1)]
        if all(used[v] < sizes[v] for v in nodes):
            for a, b in pairwise(nodes):
                blocks[a][used[b], used[a]] = 1.0
            for v in nodes:
                used[v] += 1
    return blocks


@dataclass(frozen=True, eq=False)
class CriticalPoint:
    """A random critical point: the data, the network, and what it was built with.

    Attributes
    ----------
    inputs, targets : ndarray
        X (n, samples) and Y (m, samples).
    index_set : tuple of int
        S, from 0.
    """

    inputs: Array
    targets: Array
    loss: LeastSquares
    problem: Whitened
    index_set: tuple[int, ...]
    network: LinearNetwork

    @property
    def depth(self) -> int:
        return self.network.depth

    @property
    def rank(self) -> int:
        return len(self.index_set)

    @property
    def sizes(self) -> list[int]:
        """The layers in whitened coordinates, from the input on."""
        hidden = self.network.widths
        p, q = self.problem.shape
        return [q, *(hidden[::-1] if self.problem.transposed else hidden), p]

    @property
    def leading(self) -> bool:
        """Whether S is {1, ..., r}."""
        return self.index_set == tuple(range(self.rank))

    @cached_property
    def squares(self) -> Array:
        """lambda_i, positive and decreasing: the squares of the singular values of the predictions Y X^+ X."""
        row_space = np.linalg.svd(self.inputs, full_matrices=False)[2]
        s = np.linalg.svd(self.targets @ row_space.T, compute_uv=False)
        return np.asarray(s[s > 1e-10 * s[0]] ** 2)

    @cached_property
    def total(self) -> float:
        """The loss at W = 0, tr Y Y^T / 2."""
        return 0.5 * float((self.targets**2).sum())

    @cached_property
    def value(self) -> float:
        """The loss, from dense arrays."""
        w = chain(self.network.factors, self.inputs.shape[0])
        return 0.5 * float(((w @ self.inputs - self.targets) ** 2).sum())

    @cached_property
    def best_rank(self) -> int:
        """r*: the narrowest layer, or the rank of the targets if less."""
        return min(*self.sizes, self.squares.size)

    @cached_property
    def place(self) -> Place:
        """What `classify` says of it."""
        return classify(self.network, self.loss, nearby=False)

    @cached_property
    def hessian(self) -> Array:
        """The dense Hessian of the factors as they are."""
        return factor_hessian(self.network.factors, self.inputs, self.targets)

    @cached_property
    def eigenvalues(self) -> Array:
        """Of the Hessian, over `scale`."""
        return np.asarray(np.linalg.eigvalsh(self.hessian) / self.scale)

    @property
    def strict(self) -> bool:
        """Whether the Hessian has a negative eigenvalue."""
        return bool(self.eigenvalues[0] < -1e-9)

    @property
    def flat(self) -> bool:
        """Whether this is a saddle whose Hessian has none."""
        return self.leading and self.rank < self.best_rank and not self.strict

    @cached_property
    def scale(self) -> float:
        """The largest eigenvalue of the Hessian, or ||Y X^T||_2 if more: at the origin of deep networks it vanishes."""
        top = float(np.linalg.eigvalsh(self.hessian)[-1])
        return max(top, float(np.linalg.norm(self.targets @ self.inputs.T, 2)))

    def value_of(self, index_set: Sequence[int]) -> float:
        """Return the critical value of an index set from 0."""
        return self.total - 0.5 * float(self.squares[list(index_set)].sum())

    def relative_gradient(self, network: LinearNetwork | None = None) -> float:
        """Return the norm of all factor gradients over `scale`."""
        factors = (self.network if network is None else network).factors
        gradients = factor_gradients(factors, self.inputs, self.targets)
        return float(np.sqrt(sum(float((g**2).sum()) for g in gradients))) / self.scale

    def moved(self, size: float, rng: np.random.Generator) -> LinearNetwork:
        """Return the network with every factor moved by a part of its size, of a zero one that of balanced factors."""
        natural = float(self.problem.sigma[0]) ** (1 / self.depth)
        factors = []
        for f in self.network.factors:
            z = rng.standard_normal(f.shape)
            scale = max(float(np.linalg.norm(f)), natural)
            factors.append(f + z * (size * scale / float(np.linalg.norm(z))))
        return LinearNetwork(factors)


def critical_point(rng: np.random.Generator, *, clear: bool = True) -> CriticalPoint:
    """Return a random critical point: depths 2 to 5, any rank and index set, blocks with and without zeros.

    A clear one is drawn again until every product of its blocks vanishes or does not, by a clear margin: a class is as sure
    as that. The blocks of one that need not be are Gaussian, and so small now and then.
    """
    while True:
        inputs, targets = regression(rng)
        loss = LeastSquares(inputs, targets)
        problem, depth = Whitened.of(loss), int(rng.integers(2, 6))
        p, q = problem.shape
        hidden = [int(d) for d in rng.integers(1, 6, depth - 1)]
        sizes = [q, *hidden, p]
        r = int(rng.integers(0, problem.best_rank(sizes) + 1))
        pairs = rng.permutation(problem.target_rank)[:r] if rng.random() < 0.4 else range(r)
        s = tuple(sorted(int(i) for i in pairs))
        left = [q, *(d - r for d in hidden), p - r]
        blocks = [rng.standard_normal((b, a)) for a, b in pairwise(left)]
        if clear:
            blocks = [_sized(z, rng) for z in blocks]
        if r < min(sizes):
            if problem.target_rank == p and rng.random() < 0.6:
                blocks = _cyclic(problem, s, [p - r, *left[1:-1]], rng)
            else:
                for i in rng.permutation(depth)[: int(rng.integers(2, depth + 1))]:
                    blocks[i][:] = 0.0
        form = Canonical(problem, s, tuple(random_basis(d, rng) for d in hidden), tuple(blocks))
        if not clear or _clear(form.cycle()):
            return CriticalPoint(inputs, targets, loss, problem, s, problem.network(form.factors()))


def _sized(z: Array, rng: np.random.Generator) -> Array:
    """Return a block with a Frobenius norm between a half and two, as the active part has them."""
    norm = float(np.linalg.norm(z))
    return z * (rng.uniform(0.5, 2.0) / norm) if norm > 0 else z


def _cyclic(problem: Whitened, s: Sequence[int], sizes: Sequence[int], rng: np.random.Generator) -> list[Array]:
    """Return blocks of a random cycle in random bases: Z_1 from Z_1' = Z_1 T^T I_Q."""
    n, blocks = len(sizes), random_cycle(sizes, rng)
    bases = [np.eye(sizes[0]), *(random_basis(d, rng) for d in sizes[1:])]
    turned = [bases[(h + 1) % n] @ z @ np.linalg.inv(bases[h]) if z.size else z for h, z in enumerate(blocks)]
    others = [i for i in range(problem.shape[0]) if i not in s]
    first = np.zeros((turned[0].shape[0], problem.shape[1]))
    first[:, others] = turned[0] / problem.sigma[others]
    return [first, *turned[1:]]


def _clear(cycle: Sequence[Array]) -> bool:
    """Whether no product of consecutive blocks, around the cycle, is small without being zero."""
    n, norms = len(cycle), [float(np.linalg.norm(z)) for z in cycle]
    for first in range(n):
        product, size = np.eye(cycle[first].shape[1]), 1.0
        for k in range(first, first + n - 1):
            product, size = cycle[k % n] @ product, size * norms[k % n]
            if size > 0 and _ROUNDOFF * size < float(np.linalg.norm(product)) < _CLEAR * size:
                return False
    return True


class Population:
    """Random critical points that claims share, and others that a claim draws for itself.

    Parameters
    ----------
    count : int
        How many points; dearer things are drawn in numbers that grow with it.
    seed : int
        Of all that is drawn.
    """

    count: int
    seed: int

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed

    @cached_property
    def points(self) -> tuple[CriticalPoint, ...]:
        rng = self.rng("points")
        return tuple(critical_point(rng) for _ in range(self.count))

    def rng(self, name: str) -> np.random.Generator:
        """Return the generator of a claim."""
        return generator(self.seed, name)

    def share(self, part: float, least: int = 1) -> int:
        """Return a part of the number of points, no less than `least`."""
        return max(least, round(part * self.count))

    def some(self, name: str, count: int, wanted: Callable[[CriticalPoint], bool]) -> Iterator[CriticalPoint]:
        """Yield points of a kind, drawn for the claim of that name."""
        rng, found = self.rng(name), 0
        while found < count:
            if wanted(point := critical_point(rng)):
                found += 1
                yield point
