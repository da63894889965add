"""The matrices of fixed rank as a manifold for pymanopt's optimizers, under any spectral metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike
from pymanopt.manifolds.manifold import Manifold

from .. import validation
from ..geometry.geodesics import distance, exponential, logarithm
from ..geometry.hessians import RiemannianHessian, geodesic_acceleration
from ..geometry.retractions import product_step, truncated_step
from ..gradients import project
from ..losses import Loss
from ..matrices import LowRankMatrix, Product, Tangent, random_point
from ..matrices.requirements import require_rank, require_symmetric_point
from ..metrics import BuresWassersteinMetric, DepthMetric, EmbeddedMetric, Metric, facts
from ..metrics.facts import is_symmetric
from ..metrics.requirements import require_differences, require_metric, require_positive
from ..validation import Array
from .derivatives import embedded_hessian_from_parts, motion_of_parts, projected_gradient_from_parts
from .problem import FixedRankProblem, Iterate

__all__ = ["FixedRank", "PositiveSemidefinite", "Retraction"]

Retraction = Literal["svd", "product", "geodesic"]


class Point(LowRankMatrix):
    """A LowRankMatrix that indexes like pymanopt's (u, s, vt) as well."""

    __slots__ = ()

    def __getitem__(self, i: int) -> Array:
        return (self.u, self.s, self.vt)[i]

    @classmethod
    def of(cls, w: LowRankMatrix) -> Point:
        """Return a matrix as a point, its arrays shared."""
        return cast(Point, cls._trusted(w.u, w.s, w.vt))


_TRIPLES = {  # what is told of what should be one, and its fix
    "point": ("(u, s, vt)", "LowRankMatrix.from_dense(a, rank)"),
    "tangent_vector": ("(up, core, vp)", "project"),
    "vector": ("a matrix, or (u, s, v) for u @ s @ v.T", "tangent.at(w) for a tangent vector"),
}


class FixedRank(Manifold):
    r"""The m x n matrices of rank r under a spectral metric, for pymanopt.

    Parameters
    ----------
    m, n : int
        Shape.
    rank : int
        Rank r, between 1 and min(m, n).
    metric : Metric, optional
        None: the embedded metric. A metric of the symmetric matrices (`BuresWassersteinMetric`) makes this the manifold
        of the symmetric positive semidefinite ones, of dimension n r - r (r - 1) / 2 instead of r (m + n - r).
    retraction : {"svd", "product", "geodesic"}
        How a step leads back to rank r. The best rank-r approximation of W + Z, of second order for the embedded
        metric; the product of balanced factors moved along the horizontal lift, :math:`\prod_j (W_j + \dot W_j)`, of
        second order for the depth-N metric of a whole N: one step of gradient descent on the factors; or the first
        along Z plus half the geodesic acceleration, of second order for every metric that has ``differences``.
    rng : int or numpy.random.Generator, optional
        Draws points and tangent vectors, one after the other. None: others at every call.

    Raises
    ------
    ValueError, TypeError
        If the rank does not fit the shape, the metric is not positive, or the retraction does not fit the metric.

    Notes
    -----
    Nothing of size m x n is formed. `transport` is the projection onto the new tangent space. An optimizer's
    ``min_gradient_norm`` is in the norm of the metric; the log of `problem` also has the Frobenius norm of the
    projected gradient, one ruler for all metrics.

    References
    ----------
    .. [1] B. Vandereycken, Low-rank matrix completion by Riemannian optimization, SIAM J. Optim. 23(2), 2013.
    .. [2] J. Townsend, N. Koep, S. Weichwald, Pymanopt, J. Mach. Learn. Res. 17(137), 2016.

    Examples
    --------
    >>> import pymanopt
    >>> import lowrankflow as lrf
    >>> rng = np.random.default_rng(0)
    >>> loss = lrf.losses.LeastSquares(rng.standard_normal((4, 30)), rng.standard_normal((5, 30)))
    >>> manifold = FixedRank(5, 4, 2, lrf.DepthMetric(3), rng=rng)
    >>> optimizer = pymanopt.optimizers.TrustRegions(verbosity=0)
    >>> result = optimizer.run(manifold.problem(loss), initial_point=manifold.random_point())
    >>> bool(abs(result.cost - loss.best_value(2)) < 1e-9)
    True
    """

    def __init__(
        self,
        m: int,
        n: int,
        rank: int,
        metric: Metric | None = None,
        *,
        retraction: Retraction = "svd",
        rng: validation.Rng = None,
    ) -> None:
        shape = validation.require_integer("m", m, low=1), validation.require_integer("n", n, low=1)
        self.shape, self.rank = shape, require_rank(rank, shape)
        self.metric: Metric = EmbeddedMetric() if metric is None else metric
        require_metric(self.metric)
        self.symmetric = is_symmetric(self.metric)
        if self.symmetric and m != n:
            raise ValueError(f"`m` and `n` must be equal for {type(self.metric).__name__}, got {m} and {n}.")
        require_positive(self.metric, np.linspace(1.0, 0.5, self.rank), shape)
        self._check_retraction(retraction)
        self.retraction_kind: Retraction = retraction
        self.rng = None if rng is None else validation.as_rng(rng)  # None stays: `check_manifold` seeds it
        r, (rows, cols) = self.rank, shape
        dimension = rows * r - r * (r - 1) // 2 if self.symmetric else r * (rows + cols - r)
        kind = "positive semidefinite" if self.symmetric else "real"
        super().__init__(
            f"{rows} x {cols} {kind} matrices of rank {r} under {self.metric!r}", dimension, point_layout=3
        )

    # points and tangent vectors

    def point(self, point: Any) -> LowRankMatrix:
        """Return a point as a LowRankMatrix: itself, or made of pymanopt's (u, s, vt).

        Raises
        ------
        ValueError, TypeError
            If it is no matrix of this manifold.
        """
        w = point if isinstance(point, LowRankMatrix) else LowRankMatrix(*self._parts("point", point))
        if w.shape != self.shape or w.rank != self.rank:
            raise ValueError(
                f"`point` must be {self.shape[0]} x {self.shape[1]} of rank {self.rank}, got {w.shape[0]} x {w.shape[1]}"
                f" of rank {w.rank}."
            )
        if self.symmetric:
            require_symmetric_point("point", w, self.metric)
        return w

    @staticmethod
    def _parts(name: str, value: Any) -> Any:
        """Return the three parts of a point or tangent vector."""
        parts = validation.as_tuple(value) if not isinstance(value, np.ndarray) else None
        if parts is None or len(parts) != 3:
            kind, fix = _TRIPLES[name]
            raise TypeError(f"`{name}` must be {kind}, got {validation.describe(value)}. Use {fix}.")
        return parts

    @property
    def typical_dist(self) -> float:
        """The scale from which TrustRegions takes its first radius: the dimension, as for pymanopt's own manifold."""
        return float(self.dim)

    def random_point(self) -> Point:
        """Return a random point, singular values uniform on [1/2, 1], from the manifold's `rng`."""
        m, n = self.shape
        return Point.of(random_point(m, n, self.rank, rng=self._rng(), symmetric=self.symmetric))

    def random_tangent_vector(self, point: Any) -> Tangent:
        """Return a random tangent vector of unit length, its direction uniform under the metric, from the `rng`."""
        (m, n), r = self.shape, self.rank
        z = self.mat(point, self._rng().standard_normal(r * (m + r + n)))
        return z / self.norm(point, z)

    def _check_retraction(self, retraction: str) -> None:
        validation.require_choice("retraction", retraction, ("svd", "product", "geodesic"))
        depth = self.metric.depth if isinstance(self.metric, DepthMetric) else None
        if retraction == "product" and (depth is None or not depth == np.floor(depth) < np.inf):
            raise ValueError(
                f"`retraction` must be 'svd' or 'geodesic' for {self.metric!r}, got 'product',"
                " which multiplies the factors of a DepthMetric of whole depth."
            )
        if retraction == "geodesic":
            require_differences(self.metric, "geodesics", "retraction='svd'")

    def _rng(self) -> np.random.Generator:
        return validation.as_rng(self.rng)

    def seeded(self, rng: validation.Rng) -> FixedRank:
        """Return the same manifold with another source of random points and tangent vectors."""
        other = copy(self)
        other.rng = validation.as_rng(rng)
        return other

    def zero_vector(self, point: Any) -> Tangent:
        """Return the zero tangent vector."""
        (m, n), r = self.shape, self.rank
        return Tangent(np.zeros((m, r)), np.zeros((r, r)), np.zeros((n, r)))

    # the metric

    def inner_product(self, point: Any, tangent_vector_a: Any, tangent_vector_b: Any) -> float:
        r"""Return :math:`g_W(Z_1, Z_2) = \langle A_W^{-1} Z_1, Z_2\rangle_F`."""
        _, s, _ = point
        c, (m, n), r = self.metric.coefficients(s), self.shape, self.rank
        (up_a, core_a, vp_a), (up_b, core_b, vp_b) = tangent_vector_a, tangent_vector_b
        total = np.vdot(c.solve_core(core_a), core_b)
        # column sums first: no array of size m x r beside the arguments; square frames have no complement
        if m > r:
            total += np.einsum("ik,ik->k", up_a, up_b) @ (1 / c.up)
        if n > r:
            total += np.einsum("ik,ik->k", vp_a, vp_b) @ (1 / c.vp)
        return float(total)

    def norm(self, point: Any, tangent_vector: Any) -> float:
        """Return the length of a tangent vector."""
        return float(np.sqrt(self.inner_product(point, tangent_vector, tangent_vector)))

    def projection(self, point: Any, vector: Any) -> Tangent:
        """Project an ambient matrix onto the tangent space, in the Frobenius sense.

        It is anything with ``@`` and ``.T``, or a tuple (U, S, V) for U S V^T.
        """
        if isinstance(vector, (tuple, list)) and not isinstance(vector, Tangent):
            left, middle, right = self._parts("vector", vector)
            vector = Product(left @ middle, right.T)
        return self._tangent(project(self.point(point), vector))

    def to_tangent_space(self, point: Any, vector: Any) -> Tangent:
        """Return the triple (up, core, vp) with its frames made orthogonal to those of the point."""
        u, _, vt = point
        up, core, vp = vector
        return self._tangent(Tangent(up - u @ (u.T @ up), core, vp - vt.T @ (vt @ vp)))

    def _tangent(self, z: Tangent) -> Tangent:
        return z.symmetrised() if self.symmetric else z

    def embedding(self, point: Any, tangent_vector: Any) -> list[Array]:
        """Return a motion of (u, s, vt) that moves u diag(s) vt along a tangent vector: pymanopt differentiates along it.

        The m x n matrix itself, for which pymanopt's own fixed-rank manifold uses this name, is `ambient`.
        """
        return motion_of_parts(self.point(point), Tangent(*tangent_vector))

    def ambient(self, point: Any, tangent_vector: Any) -> Product:
        """Return a tangent vector as an m x n matrix of small inner size."""
        return Tangent(*tangent_vector).at(self.point(point))

    def vec(self, point: Any, tangent_vector: Tangent) -> Array:
        """Return coordinates in which the inner product is the Euclidean one, r (m + n + r) of them."""
        _, s, _ = point
        return np.concatenate([part.ravel() for part in self.metric.coefficients(s).root().solve(tangent_vector)])

    def mat(self, point: Any, coordinates: Array) -> Tangent:
        """Return the tangent vector with given coordinates, the inverse of `vec`."""
        (m, n), r = self.shape, self.rank
        _, s, _ = point
        up, core, vp = np.split(coordinates, [m * r, (m + r) * r])
        z = Tangent(up.reshape(m, r), core.reshape(r, r), vp.reshape(n, r))
        return self.to_tangent_space(point, self.metric.coefficients(s).root().apply(z))

    # moving

    def retraction(self, point: Any, tangent_vector: Any) -> Point:
        """Return the point reached by a step, by the retraction that the manifold was made with."""
        return Point.of(self._step(self.retraction_kind, point, tangent_vector))

    def _step(self, kind: str, point: Any, tangent_vector: Any) -> LowRankMatrix:
        w, z = self.point(point), Tangent(*self._parts("tangent_vector", tangent_vector))
        if kind == "product":
            return product_step(w, z, self.metric.depth)  # type: ignore[attr-defined]
        if kind == "geodesic":
            z = z + 0.5 * self._tangent(geodesic_acceleration(w, z, self.metric))
        return truncated_step(w, z, symmetric=self.symmetric)

    def second_order(self) -> Callable[[Any, Any], LowRankMatrix]:
        """Return a retraction of second order for the metric: svd, product or geodesic, the first that is one.

        Raises
        ------
        NotImplementedError
            If the metric has no ``differences``.
        """
        if isinstance(self.metric, EmbeddedMetric):
            kind = "svd"
        elif isinstance(self.metric, DepthMetric) and self.metric.depth == np.floor(self.metric.depth) < np.inf:
            kind = "product"
        elif facts(self.metric).differences is not None:
            kind = "geodesic"
        else:
            raise NotImplementedError(f"No retraction of second order is known for {self.metric!r}.")
        return lambda point, tangent_vector: self._step(kind, point, tangent_vector)

    def transport(self, point_a: Any, point_b: Any, tangent_vector_a: Any) -> Tangent:
        """Return the projection of a tangent vector at a onto the tangent space at b, without an m x n matrix."""
        return self.projection(point_b, Tangent(*tangent_vector_a).at(self.point(point_a)))

    def exp(self, point: Any, tangent_vector: Any) -> LowRankMatrix:
        """Return the end of the geodesic, where it is known in closed form; see `geodesics.exponential`."""
        end = exponential(self.point(point), Tangent(*self._parts("tangent_vector", tangent_vector)), self.metric)
        return Point.of(end)

    def log(self, point_a: Any, point_b: Any) -> Tangent:
        """Return the start velocity of the shortest geodesic, where it is known; see `geodesics.logarithm`."""
        return cast(Tangent, self._between(logarithm, point_a, point_b))

    def dist(self, point_a: Any, point_b: Any) -> float:
        """Return the distance, where it is known; see `geodesics.distance`.

        Raises
        ------
        NotImplementedError
            If it is not: NelderMead and ParticleSwarm, which ask for it between any two points, cannot be used then.
        """
        return float(self._between(distance, point_a, point_b))

    def _between(self, known: Callable[..., Any], point_a: Any, point_b: Any) -> Any:
        """Return what is known of two points; say which optimizers need it where it is not."""
        try:
            return known(self.point(point_a), self.point(point_b), self.metric)
        except NotImplementedError as error:
            hint = "NelderMead and ParticleSwarm need it; use TrustRegions, ConjugateGradient or SteepestDescent."
            raise NotImplementedError(f"{error} {hint}") from None

    def pair_mean(self, point_a: Any, point_b: Any) -> LowRankMatrix:
        """Return the middle of the shortest geodesic, where it is known."""
        return self.exp(point_a, 0.5 * self.log(point_a, point_b))

    # derivatives

    def euclidean_to_riemannian_gradient(self, point: Any, euclidean_gradient: Sequence[ArrayLike]) -> Tangent:
        r"""Return the Riemannian gradient of a cost written in (u, s, vt), as automatic differentiation sees it.

        The cost must be computed from the product W = (u * s) @ vt, and may use s beside it.

        Raises
        ------
        ValueError
            If the derivatives contradict each other: the cost is none of W.
        """
        w = self.point(point)
        projected, _ = projected_gradient_from_parts(w, euclidean_gradient)
        return self.metric.coefficients(w.s).apply(self._tangent(projected))

    def euclidean_to_riemannian_hessian(
        self,
        point: Any,
        euclidean_gradient: Sequence[ArrayLike],
        euclidean_hessian: Sequence[ArrayLike],
        tangent_vector: Any,
    ) -> Tangent:
        r"""Return the exact Riemannian Hessian of a cost written in (u, s, vt), from second derivatives along `embedding`.

        Raises
        ------
        ValueError, TypeError
            If the cost uses s beside the product, or is none of W; if the metric has no ``differences``.
        """
        w, z = self.point(point), Tangent(*tangent_vector)
        g, beside = projected_gradient_from_parts(w, euclidean_gradient)
        if beside:
            raise ValueError(
                "`cost` must be computed from the product (u * s) @ vt alone for a Hessian, but it uses s beside it."
                " Use ConjugateGradient or SteepestDescent, or write it as a function of W."
            )
        embedded = embedded_hessian_from_parts(w, z, g, euclidean_hessian)
        return RiemannianHessian(w, self._tangent(g), self.metric)(z, self._tangent(embedded))

    def problem(
        self, loss: Loss, *, callback: Callable[[Iterate], object] | None = None, keep_points: bool = False
    ) -> FixedRankProblem:
        """Return a pymanopt problem for a loss: cost, gradient and, where there is one, the exact Hessian.

        Parameters
        ----------
        loss : Loss
            Any object with ``shape``, ``value(w)``, ``gradient(w)``; ``hessian(w, z)`` for TrustRegions.
        callback : callable, optional
            Called with an `Iterate` at every new iterate. What it raises ends the run; the log is kept.
        keep_points : bool
            Keep the iterates themselves in the log.

        Returns
        -------
        FixedRankProblem
            A ``pymanopt.Problem`` with a complete ``log``.

        Raises
        ------
        ValueError, TypeError
            If the loss is none, or is defined on another shape.
        """
        return FixedRankProblem(self, loss, callback=callback, keep_points=keep_points)


class PositiveSemidefinite(FixedRank):
    r"""The n x n symmetric positive semidefinite matrices of rank r under the Bures-Wasserstein metric.

    The same as ``FixedRank(n, n, rank, BuresWassersteinMetric())``: exp, log and dist are all known.

    Parameters
    ----------
    n : int
        Size.
    rank : int
        Rank r, between 1 and n.
    retraction : {"svd", "geodesic"}
        As for `FixedRank`.
    rng : int or numpy.random.Generator, optional
        As for `FixedRank`.

    Raises
    ------
    ValueError, TypeError
        As `FixedRank`.
    """

    def __init__(self, n: int, rank: int, *, retraction: Retraction = "svd", rng: validation.Rng = None) -> None:
        super().__init__(n, n, rank, BuresWassersteinMetric(), retraction=retraction, rng=rng)
