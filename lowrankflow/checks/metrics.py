"""Do the coefficients make a metric?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .. import validation
from ..gradients import inner_product, project, riemannian_gradient
from ..matrices import EPS, LowRankMatrix, Tangent, random_frame, random_point
from ..matrices.requirements import require_point, require_symmetric_point
from ..metrics import Coefficients, Metric, facts
from ..metrics.requirements import require_coefficients, require_metric
from ..report import Bound, Claim, Control, Hypothesis, Relation, Report
from ..validation import Array
from .slopes import order
from .tables import metric_table

__all__ = ["check_metric"]

_SOURCE = "derived: docs/theory.md#metrics"
_NEAR = 1e-6  # relative distance over which a derivative is a difference quotient: its own error, and eps / 1e-6
_KEPT = 5  #: singular values that the Gram matrix is taken with, so that it stays small


def check_metric(metric: Metric, start: LowRankMatrix, *, rng: validation.Rng = 0) -> Report:
    r"""Check a metric at a matrix: symmetric, positive, of full rank, the same in every frame, right gradient.

    Parameters
    ----------
    metric : Metric
        An object with ``coefficients(s)``; ``differences(s)`` is checked if present. All that `lowrankflow.metrics.Metric`
        lists is shown.
    start : LowRankMatrix, (m, n) of rank k
        Where to check.
    rng : int or numpy.random.Generator, optional
        Draws tangent vectors and rotations; the same at every call unless given. None: others at every call.

    Returns
    -------
    Report
        Claims ``symmetric``, ``positive``, ``rank``, ``order``, ``ties``, ``gradient``, ``differences`` and ``differences at
        ties``, each with a control; the table "facts" of what the metric can do. ``report.raise_if_failed()`` turns a
        failure into an exception.

    Raises
    ------
    ValueError, TypeError
        If `metric` has no ``coefficients`` or they do not fit, or `start` is not a LowRankMatrix (symmetric positive
        semidefinite, for a metric of those).

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> w = lrf.random_point(6, 5, 3, rng=0)
    >>> lrf.check_metric(lrf.DepthMetric(2.5), w).passed
    True
    """
    require_metric(metric)
    require_point("start", start)
    if facts(metric).symmetric:
        require_symmetric_point("start", start, metric)
    rng = validation.as_rng(rng)
    c = require_coefficients(metric, start.s)
    check = _Check(metric, start, c, rng)
    (m, n), s = start.shape, start.s
    problem = {"metric": repr(metric), "shape": [m, n], "rank": start.rank, "singular values": [s.max(), s.min()]}
    claims = [check.symmetric(), check.positive(), check.full_rank(), check.order(), check.ties(), check.gradient()]
    if check.said.differences is not None and not check.degenerate:
        d = check.said.differences(start.s)
        claims += [check.differences(d), check.ties_of_differences(d)]
    return Report("check-metric", problem, claims, tables=[metric_table(check.said)])


class _Check:
    """One metric at one point, and the claims about it."""

    def __init__(self, metric: Metric, w: LowRankMatrix, c: Coefficients, rng: np.random.Generator) -> None:
        self.metric, self.w, self.c, self.rng = metric, w, c, rng
        self.said = facts(metric)
        self.symmetric_points = self.said.symmetric
        spectrum = c.spectrum(w.shape, symmetric=self.symmetric_points)
        self.degenerate = not spectrum.min() > 0
        least = float(spectrum.min() / abs(spectrum).max())
        self.regular = Hypothesis("the coefficients are positive", not self.degenerate, least)

    def tangent(self, w: LowRankMatrix) -> Tangent:
        """A random tangent vector."""
        z = project(w, self.rng.standard_normal(w.shape))
        return z.symmetrised() if self.symmetric_points else z

    def small_point(self) -> LowRankMatrix:
        """A matrix of few rows, columns and singular values (two at least), with as many sides full as the start has."""
        (m, n), s = self.w.shape, np.sort(self.w.s)[::-1]
        kept = s[np.unique(np.linspace(0, s.size - 1, min(_KEPT, s.size)).astype(int))]
        kept = kept if kept.size > 1 else np.array([kept[0], kept[0] / 2])
        rows, cols = (kept.size + min(size - s.size, 2) for size in (m, n))
        return random_point(rows, cols, kept.size, rng=self.rng, singular_values=kept, symmetric=self.symmetric_points)

    def symmetric(self) -> Claim:
        """<A X, Y> = <X, A Y>."""
        w = self.small_point()
        c = self.metric.coefficients(w.s)
        x, y = (project(w, self.rng.standard_normal(w.shape)) for _ in range(2))

        def defect(c: Coefficients) -> float:
            ax, ay = c.apply(x), c.apply(y)
            return abs(ax.dot(y) - x.dot(ay)) / (ax.norm() * y.norm() + x.norm() * ay.norm())

        upper = np.triu(np.ones_like(c.core), 1) * np.abs(c.core).max()
        mix = upper - upper.T if c.mix is None else c.mix + upper - upper.T
        return _claim(
            "symmetric",
            "A is self-adjoint: <A X, Y> = <X, A Y>.",
            defect(c),
            "<=",
            100 * EPS,
            [],
            Control("the mixed coefficients made skew", defect(replace(c, mix=mix, determinant=None)), 100 * EPS),
        )

    def positive(self) -> Claim:
        """The spectrum of A is positive."""
        spectrum = self.c.spectrum(self.w.shape, symmetric=self.symmetric_points)
        wrong = replace(self.c, core=self.c.core - 3 * _diagonal(self.c), determinant=None)
        flipped = wrong.spectrum(self.w.shape, symmetric=self.symmetric_points)
        tiny = float(np.finfo(np.float64).tiny)
        return _claim(
            "positive",
            "Every eigenvalue of A on the tangent space is positive: least over largest.",
            float(spectrum.min() / abs(spectrum).max()),
            ">=",
            tiny,
            [],
            Control(
                "the diagonal coefficients with the wrong sign", float(flipped.min() / abs(flipped).max()), tiny, ">="
            ),
        )

    def full_rank(self) -> Claim:
        """The Gram matrix of random tangent vectors has as many non-zero eigenvalues as the manifold has dimensions."""
        w = self.small_point()
        (rows, cols), r = w.shape, w.rank
        dimension = rows * r - r * (r - 1) // 2 if self.symmetric_points else r * (rows + cols - r)
        c = self.metric.coefficients(w.s)
        vectors = [self.tangent(w) for _ in range(2 * dimension)]

        def rank(c: Coefficients) -> float:
            # the Gram matrix <Z_a, A Z_b> of the dual metric, scaled by the coefficients: they may span many decades
            off = c.core - np.diag(np.diag(c.core)) + _diagonal(c)
            root = Coefficients(*(_inverse_root(part) for part in (off, c.up, c.vp)))
            scaled = [root.apply(z) for z in vectors]
            flat = np.array([np.concatenate([part.ravel() for part in c.apply(z)]) for z in scaled])
            plain = np.array([np.concatenate([part.ravel() for part in z]) for z in scaled])
            values = np.linalg.eigvalsh((flat @ plain.T + plain @ flat.T) / 2)
            return float((values > 1e-9 * values.max()).sum() / dimension)

        off = 1 - np.eye(r)
        broken = replace(c, core=c.core * off, mix=None if c.mix is None else c.mix * off, determinant=None)
        return _claim(
            "rank",
            "The Gram matrix of random tangent vectors has the rank of the manifold's dimension (their ratio).",
            rank(c),
            "in",
            (1.0, 1.0),
            [self.regular],
            Control("the diagonal coefficients zero", rank(broken), (1.0, 1.0), "in"),
            f"{rows} x {cols}, rank {r}, dimension {dimension}; eigenvalues above 1e-9 of the largest are counted",
        )

    def order(self) -> Claim:
        """The coefficients do not depend on the order of the singular values."""
        s = self.small_point().s
        p = np.roll(np.arange(s.size), 1)
        c, moved = self.metric.coefficients(s), self.metric.coefficients(s[p])
        size = max(float(np.abs(part).max()) for part in (c.core, c.up, c.vp)) or 1.0

        def gap(a: Coefficients, b: Coefficients) -> float:
            parts = [(a.core, b.core[np.ix_(p, p)]), (a.up, b.up[p]), (a.vp, b.vp[p])]
            if a.mix is not None and b.mix is not None:
                parts.append((a.mix, b.mix[np.ix_(p, p)]))
            return max(float(np.abs(x - y).max()) for x, y in parts) / size

        placed = replace(c, core=c.core + 1e-3 * size * np.arange(s.size)[:, None], determinant=None)
        return _claim(
            "order",
            "The coefficients go with the singular values, in whatever order they stand.",
            gap(moved, c),
            "<=",
            100 * EPS,
            [],
            Control("coefficients that depend on the position", gap(moved, placed), 100 * EPS),
        )

    def ties(self) -> Claim:
        """At equal singular values A commutes with the rotations of the frames that leave W as it is."""
        r = max(self.w.rank, 2)
        s = np.full(r, float(np.median(self.w.s)))
        c, q = self.metric.coefficients(s), random_frame(r, r, rng=self.rng)
        m = self.rng.standard_normal((r, r))

        def gap(c: Coefficients) -> float:
            there, back = c.core_block(q @ m @ q.T), q @ c.core_block(m) @ q.T
            return float(np.linalg.norm(there - back) / (np.linalg.norm(back) or 1.0))

        wrong = replace(c, core=c.core * (1 + 1e-3 * np.arange(r)[:, None]))
        bound = 100 * r * EPS
        return _claim(
            "ties",
            "At equal singular values, A(Q Z Q^T) = Q A(Z) Q^T: it does not see which frames were taken.",
            gap(c),
            "<=",
            bound,
            [],
            Control("coefficients that differ by 0.1 %", gap(wrong), bound),
        )

    def gradient(self) -> Claim:
        """The gradient represents the derivative: a remainder of second order."""
        w, root, rng = self.w, np.sqrt(self.w.s), self.rng
        target = rng.standard_normal(w.shape)
        target *= w.norm() / np.linalg.norm(target)
        g = w.to_dense() - target
        # random, and partly along the gradient, so that the first-order term is not small by accident
        left = _unit(rng.standard_normal(w.u.shape)) + _unit(g @ w.vt.T)
        right = _unit(rng.standard_normal(w.vt.shape)) + _unit(w.u.T @ g)
        right = left.T if self.symmetric_points else right
        left, right = root.max() * left, root.max() * right
        first, second = (left * root) @ w.vt + (w.u * root) @ right, left @ right
        z = project(w, first)
        z = z.symmetrised() if self.symmetric_points else z
        rgrad = riemannian_gradient(w, g, self.metric)
        slope = np.nan if self.degenerate else inner_product(w, rgrad, z, self.metric)

        def remainder(factor: float) -> float:
            def rest(t: float) -> float:
                step = t * first + t * t * second
                # L(W + step) - L(W), expanded so that nothing cancels
                return float(np.vdot(step, g) + 0.5 * np.vdot(step, step)) - t * factor * slope

            return order(rest, floor=100 * EPS * float(np.linalg.norm(g) * np.linalg.norm(first)))

        return _claim(
            "gradient",
            "L(W(t)) - L(W) - t g(grad L, W'(0)) vanishes at order 2 along a curve of fixed rank.",
            remainder(1.0),
            ">=",
            1.95,
            [self.regular],
            Control("gradient times 1.1", remainder(1.1), 1.95, ">="),
            "L = 1/2 ||W - B||^2 with a random B, W(t) = (U S^1/2 + tA)(S^1/2 V^T + tB); fitted over five halvings",
        )

    def differences(self, d: Array) -> Claim:
        """The divided differences are those of the coefficients."""
        s, c, r = self.w.s, self.c, self.w.rank
        full = np.block([[c.core, c.vp[:, None]], [c.up[None, :], np.zeros((1, 1))]])
        x = np.append(s, 0.0) ** 2

        def gap(d: Array) -> float:
            left = d[:r, :, :] * (x[:r, None] - x)[:, :, None]
            right = full[:r, None, :] - full[None, :, :]
            left[:, r, r] = right[:, r, r]  # between normal directions alone: used nowhere
            return float(np.abs(left - right).max() / np.abs(full).max())

        bound = 1000 * EPS
        return _claim(
            "differences",
            "differences(s)[i, j, k] times s_i^2 - s_j^2 is c_ik - c_jk, the last index standing for s = 0.",
            gap(d),
            "<=",
            bound,
            [],
            Control("differences plus 0.1 %", gap(d + 1e-3 * np.abs(full).max() / x.max()), bound),
        )

    def ties_of_differences(self, d: Array) -> Claim:
        """Where the quotient is a derivative, it is that of the coefficients."""
        s, c, r = self.w.s, self.c, self.w.rank
        # beside each singular value one more: c at (s_i (1 + e), s_k), the last k for s = 0
        near = s * (1 + _NEAR)
        both = self.metric.coefficients(np.concatenate([s, near]))
        there = np.hstack([both.core[r:, :r], both.vp[r:, None]])
        here = np.hstack([c.core, c.vp[:, None]])
        step = (near**2 - s**2)[:, None]
        slope = (there - here) / step
        # of first order in the distance, and the roundoff of the coefficients over it
        error = _NEAR * np.abs(slope) + 10 * EPS * np.abs(here) / step
        tied = np.abs(s[:, None] - s) <= EPS * s.max()

        def gap(d: Array) -> float:
            ratio = np.abs(d[:r, :r] - slope[:, None, :]) / np.where(error > 0, error, 1.0)[:, None, :]
            return float(ratio[tied].max())

        bound = 100.0
        return _claim(
            "differences at ties",
            "differences(s)[i, i, k] is the derivative of c_ik by s_i^2: its error over that of a difference quotient.",
            gap(d),
            "<=",
            bound,
            [],
            Control("differences plus 1 % of the largest", gap(d + 0.01 * (np.abs(slope).max() or 1.0)), bound),
            f"quotient over a relative distance of {_NEAR:g}",
        )


def _unit(a: Array) -> Array:
    return a / np.linalg.norm(a)


def _diagonal(c: Coefficients) -> Array:
    """Return what A multiplies the diagonal of the r x r block by, as a diagonal matrix."""
    return np.diag(np.diag(c.core_block(np.eye(c.up.size))))


def _inverse_root(part: Array) -> Array:
    return np.divide(1.0, np.sqrt(np.abs(part)), out=np.zeros_like(part), where=part != 0)


def _claim(
    name: str,
    statement: str,
    measured: float,
    relation: Relation,
    bound: Bound,
    hypotheses: list[Hypothesis],
    control: Control,
    detail: str = "",
) -> Claim:
    limit = bound if isinstance(bound, tuple) else float(bound)
    return Claim(name, statement, _SOURCE, float(measured), relation, limit, tuple(hypotheses), (control,), detail)
