r"""Derivatives of a cost written in (u, s, vt), as automatic differentiation sees it, in the terms of W = (u * s) @ vt.

With G the derivative in W, ``du = G V S`` and ``dvt = S U^T G``, so that G V and G^T U are known and no difference of
singular values is divided by.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..matrices import LowRankMatrix, Tangent
from ..validation import Array

__all__ = ["embedded_hessian_from_parts", "motion_of_parts", "projected_gradient_from_parts"]

_CONTRADICTION = 1e-4  #: over the whole gradient: roundoff reaches it where that has fallen to 1e-12 of its terms
#: absolute, as the 1e-6 at which pymanopt's optimizers stop: TrustRegions goes on to roundoff from there
_VANISHED = 1e-8


def motion_of_parts(w: LowRankMatrix, z: Tangent) -> list[Array]:
    r"""Return a motion of (u, s, vt) that moves u diag(s) vt along a tangent vector.

    :math:`\dot u = (U_p + U C) S^{-1}`, :math:`\dot s = 0`, :math:`\dot v^T = S^{-1} V_p^T`: costs that are functions of
    the product cannot tell it from another. It has no differences of singular values.
    """
    return [(z.up + w.u @ z.core) / w.s, np.zeros_like(w.s), (z.vp / w.s).T]


def projected_gradient_from_parts(w: LowRankMatrix, gradient: Sequence[ArrayLike]) -> tuple[Tangent, bool]:
    """Return the projected gradient, not symmetrised, and whether the cost uses s beside the product.

    What ``ds`` has beyond the diagonal of U^T G V is the derivative in s alone, and moves that diagonal.

    Raises
    ------
    ValueError
        If the derivatives contradict each other: the cost is none of W. Below 1e-8 they are not judged.
    """
    du, ds, dvt = (np.asarray(part) for part in gradient)
    gv, gu = du / w.s, dvt.T / w.s
    core = w.u.T @ gv
    own = ds - np.diag(core)
    # U^T G V twice: from du and from dvt; its diagonal from ds too, unless the cost uses s beside the product
    scale = max(_CONTRADICTION * sum(float(np.linalg.norm(part)) for part in (gv, gu, ds)), _VANISHED)
    gap = float(np.linalg.norm(core - (w.vt @ gu).T))
    if gap > scale:
        raise ValueError(
            f"`cost` must be computed from the product (u * s) @ vt, and s, but its derivatives contradict each other by"
            f" {gap:.2g}. Write it as a function of W, or use pymanopt's FixedRankEmbedded."
        )
    beside = bool(np.linalg.norm(own) > scale)
    moved = core + np.diag(own) if beside else core
    return Tangent(gv - w.u @ core, moved, gu - w.vt.T @ core.T), beside


def embedded_hessian_from_parts(
    w: LowRankMatrix, z: Tangent, gradient: Tangent, second: Sequence[ArrayLike]
) -> Tangent:
    """Return the Hessian along z under the embedded metric, from second derivatives along `motion_of_parts`.

    There ``D du = (D^2 f[Z]) V S + G Z_v`` and ``D dvt = S U^T D^2 f[Z] + (U_p + U C)^T G``: with the gradient's own
    G V and G^T U they hold all that the Hessian needs.
    """
    ddu, _, ddvt = (np.asarray(part) for part in second)
    (u, s, vt), g = w, gradient
    hv = ddu / s  # (D^2 f[Z]) V + (G Z_v) / s
    hu = ddvt.T / s - (g.vp @ z.core + vt.T @ (g.core.T @ z.core)) / s  # (D^2 f[Z])^T U + (G^T U_p) / s
    core = u.T @ hv - g.vp.T @ z.vp / s
    return Tangent(hv - u @ (u.T @ hv), core, hu - vt.T @ (vt @ hu))
