"""The matrices of fixed rank as a manifold for pymanopt's optimizers, under any spectral metric.

The only room that imports pymanopt. Points are `LowRankMatrix`, which unpacks as pymanopt's ``(u, s, vt)``; tangent
vectors are `Tangent`, ``(up, core, vp)``.

- `fixed_rank`: the manifold.
- `derivatives`: of a cost written in (u, s, vt), in the terms of W.
- `problem`: a loss on it, with a log.
- `product`: products of manifolds.
"""

from .fixed_rank import FixedRank, PositiveSemidefinite
from .problem import FixedRankProblem, Iterate
from .product import Product

__all__ = ["FixedRank", "FixedRankProblem", "Iterate", "PositiveSemidefinite", "Product"]
