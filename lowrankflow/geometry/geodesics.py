r"""Geodesics and distances in closed form, where they are known.

- The Bures-Wasserstein metric, and depth 2 between positive semidefinite matrices, at sqrt(2) the length: with
  W = Y Y^T, straight lines in Y. Transposition is an isometry of the depth-N metric, so that the symmetric matrices are
  totally geodesic; and the distance of balanced factors is at least sqrt(2) that of Y, so that no way round is shorter.
- Aligned pairs, U diag(s) V^T with one U and V, under metrics whose ``flat_coordinates(s)`` straighten that slice, for
  depth N :math:`\sqrt N\, s^{1/N}`. It is totally geodesic, and the distance where both are sorted alike: sorted
  singular values move no faster than the matrix. Elsewhere a rotation can be shorter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import linalg

from .. import validation
from ..matrices import LowRankMatrix, Tangent, thin_svd
from ..matrices.requirements import require_symmetric_point
from ..metrics import BuresWassersteinMetric, DepthMetric, Metric, facts
from ..validation import Array

__all__ = ["distance", "exponential", "logarithm"]

_CLOSE = 1e-8  #: relative gap below which frames are one, as for `LowRankMatrix`


@validation.quietly
def distance(a: LowRankMatrix, b: LowRankMatrix, metric: Metric) -> float:
    r"""Return the geodesic distance of two matrices of one rank.

    Bures-Wasserstein: :math:`d^2 = \operatorname{tr} A + \operatorname{tr} B - 2 \|A^{1/2} B^{1/2}\|_*`; depth 2 between
    positive semidefinite matrices: :math:`\sqrt 2\, d`, both also where the ranges are orthogonal and many geodesics are
    shortest; commonly sorted aligned pairs at depth N:
    :math:`\sqrt N \|s_a^{1/N} - s_b^{1/N}\|`.

    Parameters
    ----------
    a, b : LowRankMatrix, (m, n) of rank k
        The two points.
    metric : Metric
        The metric.

    Returns
    -------
    float

    Raises
    ------
    NotImplementedError
        If it is not known in closed form for these two.
    ValueError
        If a point is not symmetric under the Bures-Wasserstein metric.
    """
    if (scale := _bures_scale(metric, a, b)) is not None:
        return float(scale * np.linalg.norm(_bures_direction(a, b)[0]))
    return float(np.linalg.norm(_commonly_sorted(a, b, metric).step))


@validation.quietly
def logarithm(a: LowRankMatrix, b: LowRankMatrix, metric: Metric) -> Tangent:
    """Return the velocity at `a` of the shortest geodesic to `b` in unit time, where it is known (see `distance`).

    Raises
    ------
    NotImplementedError, ValueError
        As `distance`; if the shortest geodesic is not unique.
    """
    if _bures_scale(metric, a, b) is not None:
        root = np.sqrt(a.s)
        direction, unique = _bures_direction(a, b)
        if not unique:
            raise ValueError(
                "`point_b` must not be orthogonal to a direction of `point_a`: the geodesic is not unique."
            )
        core = a.u.T @ direction
        frame = (direction - a.u @ core) * root
        return Tangent(frame, core * root + (core * root).T, frame)
    pair = _commonly_sorted(a, b, metric)
    z = np.sqrt(np.diag(metric.coefficients(pair.a).core)) * pair.step
    return Tangent(np.zeros_like(a.u), (pair.p * z) @ pair.p.T, np.zeros_like(a.vt.T))


@validation.quietly
def exponential(w: LowRankMatrix, z: Tangent, metric: Metric) -> LowRankMatrix:
    """Return the end, at unit time, of the geodesic from `w` with velocity `z`, where it is known.

    Parameters
    ----------
    w : LowRankMatrix, (m, n) of rank k
        The start.
    z : Tangent
        The velocity: symmetric, for Bures-Wasserstein and for depth 2 at a positive semidefinite matrix; aligned
        (``up`` and ``vp`` zero, ``core`` symmetric and commuting with diag(s)) for metrics with ``flat_coordinates``.
    metric : Metric
        The metric.

    Returns
    -------
    LowRankMatrix

    Raises
    ------
    NotImplementedError
        If it is not known in closed form.
    ValueError
        If the geodesic meets matrices of lower rank on the way.
    """
    if _bures_scale(metric, w, w) is not None and _gap(z.core, z.core.T) + _gap(z.up, z.vp) <= _CLOSE * z.norm():
        root, lift = np.sqrt(w.s), z.core / (w.s[:, None] + w.s)
        if _loses_rank((lift + lift.T) / 2, z.up / w.s):
            raise ValueError(_LEAVES)
        return LowRankMatrix.from_factor((w.u + w.u @ lift + z.up / w.s) * root)
    core = (z.core + z.core.T) / 2
    twisted = _gap(core * w.s, w.s[:, None] * core) / w.s.max()
    aligned = _gap(z.core, core) + np.linalg.norm(z.up) + np.linalg.norm(z.vp) + twisted
    flat, back = facts(metric).flat_coordinates, facts(metric).from_flat_coordinates
    if flat is None or back is None or aligned > _CLOSE * z.norm():
        raise NotImplementedError(_unknown("exp", metric, "the velocity is neither"))
    p = _joint_frame(w.s, core)
    s, speed = _diagonal(p, np.diag(w.s)), _diagonal(p, core)
    end = flat(s) + speed / np.sqrt(np.diag(metric.coefficients(s).core))
    s = back(end)
    if not np.all(s > 0):
        raise ValueError(_LEAVES)
    return LowRankMatrix._trusted(w.u @ p, s, p.T @ w.vt)


def _loses_rank(lift: Array, frame: Array) -> bool:
    """Return whether Y + t Y' is singular for a t in (0, 1]: a null vector of I + t lift that the frame kills as well."""
    values, vectors = np.linalg.eigh(lift)
    size = np.abs(values).max() + np.linalg.norm(frame)
    for value in values[values <= -1 + _CLOSE]:
        # all eigenvectors that vanish at t = -1 / value; one of their combinations may escape into the frame, not all
        plane = vectors[:, np.abs(values - value) <= _CLOSE * size]
        if np.linalg.svd(frame @ plane, compute_uv=False)[-1] <= _CLOSE * size:
            return True
    return False


_LEAVES = "`tangent_vector` must be shorter: the geodesic meets matrices of lower rank on the way."


class _Pair(NamedTuple):
    """U P diag(a) (V P)^T and U P diag(b) (V P)^T in the frames U, V of the first, and the step between them."""

    p: Array
    a: Array
    b: Array
    step: Array  #: from a to b in the flat coordinates


def _bures_scale(metric: Metric, *points: LowRankMatrix) -> float | None:
    """Return the ratio of the metric's length to the Bures-Wasserstein length; None where it is none of its kind."""
    if isinstance(metric, BuresWassersteinMetric):
        for name, w in zip(("point_a", "point_b"), points, strict=False):
            require_symmetric_point(name, w, metric)
        return 1.0
    symmetric = all(w.shape[0] == w.shape[1] and _gap(w.u, w.vt.T) <= _CLOSE for w in points)
    return float(np.sqrt(2)) if metric == DepthMetric(2) and symmetric else None


def _bures_direction(a: LowRankMatrix, b: LowRankMatrix) -> tuple[Array, bool]:
    """Return Y_b Q - Y_a for a rotation Q that brings Y_b nearest to Y_a, and whether it is the only one.

    Its norm is the distance in any case: on the way (1 - t) Y_a + t Y_b Q the Gram matrix is (1 - t)^2 Y_a^T Y_a + t^2
    (Y_b Q)^T Y_b Q plus a positive semidefinite one, so that the rank is kept.
    """
    ya, yb = a.u * np.sqrt(a.s), b.u * np.sqrt(b.s)
    p, d, qt = thin_svd(ya.T @ yb)
    unique = bool(d[-1] > 10 * np.finfo(np.float64).eps * np.sqrt(a.s[0] * b.s[0]))  # roundoff of orthogonal frames
    return yb @ (p @ qt).T - ya, unique


def _commonly_sorted(a: LowRankMatrix, b: LowRankMatrix, metric: Metric) -> _Pair:
    """Return two aligned matrices in common frames, their singular values sorted alike."""
    flat = facts(metric).flat_coordinates
    if flat is None:
        raise NotImplementedError(_unknown("dist and log", metric, "it has no flat_coordinates"))
    core = (a.u.T @ b.u * b.s) @ (b.vt @ a.vt.T)
    scale = np.linalg.norm(b.s)
    outside = _gap(b.u, a.u @ (a.u.T @ b.u)) + _gap(b.vt, (b.vt @ a.vt.T) @ a.vt)
    twisted = _gap(core, core.T) / scale + _gap(core * a.s, a.s[:, None] * core) / (scale * a.s.max())
    if outside + twisted > _CLOSE:
        raise NotImplementedError(_unknown("dist and log", metric, "the points have different singular frames"))
    p = _joint_frame(a.s, core)
    first, second = _diagonal(p, np.diag(a.s)), _diagonal(p, core)
    crossed = (first[:, None] - first) * (second[:, None] - second) < -_CLOSE * a.s.max() * scale
    if not np.all(second > 0):
        raise NotImplementedError(
            _unknown("dist and log", metric, "a singular pair has the opposite sign in one of them")
        )
    if crossed.any():
        raise NotImplementedError(_unknown("dist and log", metric, "the singular values are sorted differently"))
    return _Pair(p, first, second, flat(second) - flat(first))


def _joint_frame(s: Array, core: Array) -> Array:
    """Return orthonormal P that diagonalises diag(s) and a symmetric matrix that commutes with it."""
    size = np.abs(core).max() or 1.0
    # the eigenvectors of a generic combination; the weight makes no two of them fall together but by accident
    return linalg.eigh(np.diag(s) / s.max() + np.sqrt(np.pi) / 10 * core / size)[1]


def _diagonal(p: Array, core: Array) -> Array:
    return np.einsum("ji,jk,ki->i", p, core, p)


def _gap(a: Array, b: Array) -> float:
    return float(np.linalg.norm(a - b))


def _unknown(what: str, metric: Metric, why: str) -> str:
    return (
        f"`{what}` under {metric!r} is known in closed form for aligned matrices sorted alike, and at depth 2 between"
        f" positive semidefinite ones; here {why}."
    )
