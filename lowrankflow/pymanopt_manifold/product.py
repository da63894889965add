"""Products of manifolds on which TrustRegions runs with automatic differentiation."""

from __future__ import annotations

from typing import Any

from pymanopt import manifolds

__all__ = ["Product"]


class Product(manifolds.Product):
    """pymanopt's product of manifolds, with the `embedding` of each of its parts.

    pymanopt's own takes tangent vectors for motions of the points, which is true only of manifolds whose `embedding` is the
    identity: of others the Hessian of a differentiated cost is wrong (`SpecialOrthogonalGroup`), or an error inside the
    backend (`FixedRank`). SteepestDescent and ConjugateGradient, which ask for no Hessian, run on either.

    Parameters
    ----------
    manifolds : sequence of pymanopt manifolds
        Ours, pymanopt's or both.

    Raises
    ------
    ValueError
        If one of them is a product itself.

    Examples
    --------
    >>> import autograd.numpy as anp
    >>> import numpy as np
    >>> import pymanopt
    >>> from lowrankflow.pymanopt_manifold import FixedRank
    >>> low, shift = FixedRank(5, 4, 1, rng=0), pymanopt.manifolds.Euclidean(4)
    >>> manifold = Product([low, shift])
    >>> data = np.outer(np.arange(5.0), np.ones(4)) + np.arange(4.0)
    >>> @pymanopt.function.autograd(manifold)
    ... def cost(u, s, vt, x):
    ...     return anp.sum(((u * s) @ vt + x - data) ** 2)
    >>> start = [low.random_point(), np.zeros(4)]
    >>> result = pymanopt.optimizers.TrustRegions(verbosity=0).run(pymanopt.Problem(manifold, cost), initial_point=start)
    >>> bool(result.cost < 1e-12)
    True
    """

    def embedding(self, point: Any, tangent_vector: Any) -> list[Any]:
        """Return the motion of each part of a point along its part of a tangent vector."""
        return [part.embedding(p, z) for part, p, z in zip(self.manifolds, point, tangent_vector, strict=True)]
