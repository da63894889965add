"""Do the coefficients make a metric?"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from .. import validation
from ..gradients import inner_product, project, riemannian_gradient
from ..matrices import EPS, LowRankMatrix, Tangent, random_frame, random_point
from ..matrices.requirements import require_point, require_symmetric_point
from ..metrics import Coefficients, Metric, facts
from ..metrics.requirements import require_coefficients, require_metric, require_mix_differences
from ..report import Control, Hypothesis, Report
from ..statements import Measurement, Statement, claim, derived, generator, measured
from ..validation import Array
from .slopes import order
from .tables import metric_table

__all__ = ["CLAIMS", "check_metric"]

_SOURCE = derived("metrics")
_TITLE = "Do the coefficients make a metric?"
_LEAD = (
    "A metric is given by its coefficients on the blocks of a matrix in its singular frame. Here they were asked at one W"
    " whether they are symmetric and positive, keep the rank, depend on W alone and not on the frame, and give the gradient"
    " that belongs to them."
)
_NEAR = 1e-6  # relative distance over which a derivative is a difference quotient: its own error, and eps / 1e-6
_KEPT = 5  #: singular values that the Gram matrix is taken with, so that it stays small


@validation.quietly
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
        Draws one seed, from which each claim draws tangent vectors and rotations by its own name; the same at every call
        unless given. None: others at every call.

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
    check = _Check(metric, start, c, int(rng.integers(2**63)))
    (m, n), s = start.shape, start.s
    problem = {"metric": repr(metric), "shape": [m, n], "rank": start.rank, "singular values": [s.max(), s.min()]}
    return Report(
        "check-metric", problem, measured(CLAIMS, check), tables=[metric_table(check.said)],
        title=_TITLE, lead=_LEAD, headline=f"{type(metric).__name__}: W is {m} x {n}, rank {start.rank}",
    )  # fmt: skip


class _Check:
    """One metric at one point, and the claims about it."""

    def __init__(self, metric: Metric, w: LowRankMatrix, c: Coefficients, seed: int) -> None:
        self.metric, self.w, self.c, self._seed = metric, w, c, seed
        self.said = facts(metric)
        self.symmetric_points = self.said.symmetric
        spectrum = c.spectrum(w.shape, symmetric=self.symmetric_points)
        self.degenerate = not spectrum.min() > 0
        least = float(spectrum.min() / abs(spectrum).max())
        self.regular = Hypothesis("the coefficients are positive", not self.degenerate, least)

    def rng(self, name: str) -> np.random.Generator:
        """The generator from which a claim draws."""
        return generator(self._seed, name)

    def tangent(self, w: LowRankMatrix, rng: np.random.Generator) -> Tangent:
        """A random tangent vector."""
        z = project(w, rng.standard_normal(w.shape))
        return z.symmetrised() if self.symmetric_points else z

    def small_point(self, rng: np.random.Generator) -> LowRankMatrix:
        """A matrix of few rows, columns and singular values (two at least), with as many sides full as the start has."""
        (m, n), s = self.w.shape, np.sort(self.w.s)[::-1]
        kept = s[np.unique(np.linspace(0, s.size - 1, min(_KEPT, s.size)).astype(int))]
        kept = kept if kept.size > 1 else np.array([kept[0], kept[0] / 2])
        rows, cols = (kept.size + min(size - s.size, 2) for size in (m, n))
        return random_point(rows, cols, kept.size, rng=rng, singular_values=kept, symmetric=self.symmetric_points)

    @cached_property
    def divided(self) -> Array | None:
        """The divided differences of the coefficients; None where the metric has none, or is degenerate."""
        differences = self.said.differences
        return None if differences is None or self.degenerate else differences(self.w.s)

    @property
    def mix_divided(self) -> Array | None:
        """Those of the mix over s_i s_k; None where there is none."""
        if self.divided is None or self.c.mix is None:
            return None
        return require_mix_differences(self.metric)(self.w.s)


@claim(
    "symmetric",
    statement="A is self-adjoint: <A X, Y> = <X, A Y>.",
    source=_SOURCE,
    meaning=(
        "On a small matrix with singular values of the start, for two random matrices. Measured: the difference over"
        " the sizes. Bound: 100 eps."
    ),
    hypotheses="none",
    controls="the mixed coefficients made skew",
)
def symmetric(check: _Check) -> Measurement:
    """<A X, Y> = <X, A Y>."""
    rng = check.rng("symmetric")
    w = check.small_point(rng)
    c = check.metric.coefficients(w.s)
    a, b = (project(w, rng.standard_normal(w.shape)) for _ in range(2))

    def defect(c: Coefficients) -> float:
        after_a, after_b = c.apply(a), c.apply(b)
        size = after_a.norm() * b.norm() + a.norm() * after_b.norm()
        return abs(after_a.dot(b) - a.dot(after_b)) / size

    upper = np.triu(np.ones_like(c.core), 1) * np.abs(c.core).max()
    mix = upper - upper.T if c.mix is None else c.mix + upper - upper.T
    return Measurement(
        defect(c), "<=", 100 * EPS, (),
        (Control("the mixed coefficients made skew", defect(replace(c, mix=mix, determinant=None)), 100 * EPS),),
    )  # fmt: skip


@claim(
    "positive",
    statement="Every eigenvalue of A on the tangent space is positive: least over largest.",
    source=_SOURCE,
    meaning=(
        "A metric is an inner product; where an eigenvalue is zero it is degenerate, and freezes what it belongs to."
        " Measured: the least eigenvalue over the largest, from the coefficients. Bound: the smallest normal number."
    ),
    hypotheses="none",
    controls="the diagonal coefficients with the wrong sign",
)
def positive(check: _Check) -> Measurement:
    """The spectrum of A is positive."""
    spectrum = check.c.spectrum(check.w.shape, symmetric=check.symmetric_points)
    wrong = replace(check.c, core=check.c.core - 3 * _diagonal(check.c), determinant=None)
    flipped = wrong.spectrum(check.w.shape, symmetric=check.symmetric_points)
    tiny = float(np.finfo(np.float64).tiny)
    return Measurement(
        float(spectrum.min() / abs(spectrum).max()), ">=", tiny, (),
        (Control("the diagonal coefficients with the wrong sign", float(flipped.min() / abs(flipped).max()), tiny, ">="),),
    )  # fmt: skip


@claim(
    "rank",
    statement="The Gram matrix of random tangent vectors has the rank of the manifold's dimension (their ratio).",
    source=_SOURCE,
    meaning=(
        "Coefficients may be positive and still act on fewer directions than there are. On a small matrix with"
        " singular values of the start. Measured: the number of eigenvalues of the Gram matrix above 1e-9 of the"
        " largest, over the dimension. Bound: exactly 1."
    ),
    hypotheses="the coefficients are positive; no pair block whose two eigenvalues are 1e6 apart",
    controls="the diagonal coefficients zero",
)
def full_rank(check: _Check) -> Measurement:
    """The Gram matrix of random tangent vectors has as many non-zero eigenvalues as the manifold has dimensions."""
    rng = check.rng("rank")
    w = check.small_point(rng)
    (rows, cols), r = w.shape, w.rank
    dimension = rows * r - r * (r - 1) // 2 if check.symmetric_points else r * (rows + cols - r)
    c = check.metric.coefficients(w.s)
    vectors = [check.tangent(w, rng) for _ in range(2 * dimension)]

    def rank(c: Coefficients) -> float:
        # the Gram matrix <Z_a, A Z_b> of the dual metric, scaled by the coefficients: they may span many decades
        off = c.core - np.diag(np.diag(c.core)) + _diagonal(c)
        root = Coefficients(*(_inverse_root(part) for part in (off, c.up, c.vp)))
        scaled = [root.apply(z) for z in vectors]
        flat = np.array([np.concatenate([part.ravel() for part in c.apply(z)]) for z in scaled])
        plain = np.array([np.concatenate([part.ravel() for part in z]) for z in scaled])
        values = np.linalg.eigvalsh((flat @ plain.T + plain @ flat.T) / 2)
        return float((values > 1e-9 * values.max()).sum() / dimension)

    pairs = c.pair_eigenvalues()
    spread = float((np.minimum(pairs, pairs.T) / np.maximum(pairs, pairs.T)).min()) if c.mix is not None else 1.0
    told = Hypothesis("pair blocks whose two eigenvalues are within 1e6", spread > 1e-6, spread)
    off = 1 - np.eye(r)
    broken = replace(c, core=c.core * off, mix=None if c.mix is None else c.mix * off, determinant=None)
    return Measurement(
        rank(c), "in", (1.0, 1.0), (check.regular, told),
        (Control("the diagonal coefficients zero", rank(broken), (1.0, 1.0), "in"),),
        f"{rows} x {cols}, rank {r}, dimension {dimension}; eigenvalues above 1e-9 of the largest are counted",
    )  # fmt: skip


@claim(
    "order",
    statement="The coefficients go with the singular values, in whatever order they stand.",
    source=_SOURCE,
    meaning=(
        "The coefficients are a rule of the singular values, not of their places. Measured: the largest difference"
        " after the values were rolled by one, relative. Bound: 100 eps."
    ),
    hypotheses="none",
    controls="coefficients that depend on the position",
)
def places(check: _Check) -> Measurement:
    """The coefficients do not depend on the order of the singular values."""
    s = check.small_point(check.rng("order")).s
    p = np.roll(np.arange(s.size), 1)
    c, moved = check.metric.coefficients(s), check.metric.coefficients(s[p])
    size = max(float(np.abs(part).max()) for part in (c.core, c.up, c.vp)) or 1.0

    def gap(a: Coefficients, b: Coefficients) -> float:
        parts = [(a.core, b.core[np.ix_(p, p)]), (a.up, b.up[p]), (a.vp, b.vp[p])]
        if a.mix is not None and b.mix is not None:
            parts.append((a.mix, b.mix[np.ix_(p, p)]))
        return max(float(np.abs(x - y).max()) for x, y in parts) / size

    placed = replace(c, core=c.core + 1e-3 * size * np.arange(s.size)[:, None], determinant=None)
    return Measurement(
        gap(moved, c), "<=", 100 * EPS, (),
        (Control("coefficients that depend on the position", gap(moved, placed), 100 * EPS),),
    )  # fmt: skip


@claim(
    "ties",
    statement="At equal singular values, A(Q Z Q^T) = Q A(Z) Q^T: it does not see which frames were taken.",
    source=_SOURCE,
    meaning=(
        "Where singular values are equal the frames of W are not unique, and a metric must not know which were taken."
        " Measured: the relative difference for a random rotation Q and a random Z on the r x r block. Bound: 100 r"
        " eps."
    ),
    hypotheses="none",
    controls="coefficients that differ by 0.1 %",
)
def ties(check: _Check) -> Measurement:
    """At equal singular values A commutes with the rotations of the frames that leave W as it is."""
    r, rng = max(check.w.rank, 2), check.rng("ties")
    s = np.full(r, float(np.median(check.w.s)))
    c, q = check.metric.coefficients(s), random_frame(r, r, rng=rng)
    m = rng.standard_normal((r, r))

    def gap(c: Coefficients) -> float:
        there, back = c.core_block(q @ m @ q.T), q @ c.core_block(m) @ q.T
        return float(np.linalg.norm(there - back) / (np.linalg.norm(back) or 1.0))

    wrong = replace(c, core=c.core * (1 + 1e-3 * np.arange(r)[:, None]))
    bound = 100 * r * EPS
    return Measurement(
        gap(c), "<=", bound, (),
        (Control("coefficients that differ by 0.1 %", gap(wrong), bound),),
    )  # fmt: skip


@claim(
    "gradient",
    statement="L(W(t)) - L(W) - t g(grad L, W'(0)) vanishes at order 2 along a curve of fixed rank.",
    source=_SOURCE,
    meaning=(
        "The gradient represents the derivative in the metric: the Taylor remainder along the curve, of a distance to"
        " a random matrix. Measured: its order, fitted over five halvings; infinite where the remainder is roundoff."
        " Bound: at least 1.95."
    ),
    hypotheses="the coefficients are positive, and can be inverted to six digits",
    controls="the gradient times 1.1",
)
def gradient(check: _Check) -> Measurement:
    """The gradient represents the derivative: a remainder of second order."""
    w, root, rng = check.w, np.sqrt(check.w.s), check.rng("gradient")
    target = rng.standard_normal(w.shape)
    target *= 2 * w.norm() / np.linalg.norm(target)  # not of the norm of W: a 1 x 1 target could be W itself
    g = w.to_dense() - target
    # random, and partly along the gradient, so that the first-order term is not small by accident
    left = 0.5 * _unit(rng.standard_normal(w.u.shape)) + _unit(g @ w.vt.T)
    right = 0.5 * _unit(rng.standard_normal(w.vt.shape)) + _unit(w.u.T @ g)
    right = left.T if check.symmetric_points else right
    left, right = root.max() * left, root.max() * right
    first, second = (left * root) @ w.vt + (w.u * root) @ right, left @ right
    z = project(w, first)
    z = z.symmetrised() if check.symmetric_points else z
    rgrad = riemannian_gradient(w, g, check.metric)
    slope = np.nan if check.degenerate else inner_product(w, rgrad, z, check.metric)

    def remainder(factor: float) -> float:
        def rest(t: float) -> float:
            step = t * first + t * t * second
            # L(W + step) - L(W), expanded so that nothing cancels
            return float(np.vdot(step, g) + 0.5 * np.vdot(step, step)) - t * factor * slope

        return order(rest, floor=100 * EPS * float(np.linalg.norm(g) * np.linalg.norm(first)))

    # the last digits of s, by which a pair block of two very different eigenvalues is inverted wrongly
    near = LowRankMatrix._trusted(w.u, w.s * (1 + EPS * rng.choice([-1.0, 1.0], w.rank)), w.vt)
    other = np.nan if check.degenerate else inner_product(near, rgrad, z, check.metric)
    noise = abs(other / slope - 1) if slope else 0.0
    inverted = Hypothesis("a metric that is inverted to six digits", not 100 * noise > 1e-6, noise)
    return Measurement(
        remainder(1.0), ">=", 1.95, (check.regular, inverted),
        (Control("gradient times 1.1", remainder(1.1), 1.95, ">="),),
        "L = 1/2 ||W - B||^2 with a random B, W(t) = (U S^1/2 + tA)(S^1/2 V^T + tB); fitted over five halvings",
    )  # fmt: skip


@claim(
    "differences",
    statement="differences(s)[i, j, k] times s_i^2 - s_j^2 is c_ik - c_jk, the last index standing for s = 0.",
    source=_SOURCE,
    meaning=(
        "The Riemannian Hessian and the geodesic retraction take these quotients as they are given, and those of a mix over"
        " s_i s_k (`mix_differences`). Measured: the largest difference, relative. Bound: 1000 eps. Without `differences`"
        " there is no claim."
    ),
    hypotheses="none",
    controls="differences plus 0.1 %",
)
def differences(check: _Check) -> Measurement | None:
    """The divided differences are those of the coefficients."""
    if (d := check.divided) is None:
        return None
    s, c, r = check.w.s, check.c, check.w.rank
    full = np.block([[c.core, c.vp[:, None]], [c.up[None, :], np.zeros((1, 1))]])
    squares = np.append(s, 0.0) ** 2

    def gap(full: Array, d: Array, squares: Array) -> float:
        left = d[:r] * (squares[:r, None] - squares)[:, :, None]
        right = full[:r, None, :] - full[None, :, :]
        left[:, r:, r:] = right[:, r:, r:]  # between normal directions alone: used nowhere
        return float(np.abs(left - right).max() / np.abs(full).max())

    bound, measured = 1000 * EPS, gap(full, d, squares)
    if (mixed := check.mix_divided) is not None:
        measured = max(measured, gap(_over_pairs(c, s), mixed, s**2))
    wrong = gap(full, d + 1e-3 * np.abs(full).max() / squares.max(), squares)
    return Measurement(measured, "<=", bound, (), (Control("differences plus 0.1 %", wrong, bound),))


@claim(
    "differences at ties",
    statement="differences(s)[i, i, k] is the derivative of c_ik by s_i^2: its error over that of a difference quotient.",
    source=_SOURCE,
    meaning=(
        "Where s_i = s_j the quotient is a derivative, which the claim before cannot see. Measured: the error over"
        " that of a difference quotient over a relative distance of 1e-6. Bound: 100."
    ),
    hypotheses="the metric has `differences`, else there is no claim; squares of the singular values do not underflow",
    controls="differences plus 1 % of the largest",
)
def ties_of_differences(check: _Check) -> Measurement | None:
    """Where the quotient is a derivative, it is that of the coefficients."""
    if (d := check.divided) is None:
        return None
    s, c, r = check.w.s, check.c, check.w.rank
    # beside each singular value one more: c at (s_i (1 + e), s_k), the last k for s = 0
    near = s * (1 + _NEAR)
    both = check.metric.coefficients(np.concatenate([s, near]))
    there = np.hstack([both.core[r:, :r], both.vp[r:, None]])
    here = np.hstack([c.core, c.vp[:, None]])
    d = d[:r, :r]
    if (mixed := check.mix_divided) is not None:  # further columns, in units in which they are of size one
        unit = s.min() ** 2
        there = np.hstack([there, unit * _over_pairs(both, np.concatenate([s, near]))[r:, :r]])
        here = np.hstack([here, unit * _over_pairs(c, s)])
        d = np.concatenate([d, unit * mixed], axis=2)
    step = (near**2 - s**2)[:, None]
    least = float(step.min())
    squared = Hypothesis(
        "squares of the singular values that do not underflow", bool(least > np.finfo(float).tiny), least
    )
    step = np.maximum(step, np.finfo(float).tiny)
    slope = (there - here) / step
    # of first order in the distance, and the roundoff of the coefficients over it
    error = _NEAR * np.abs(slope) + 10 * EPS * np.abs(here) / step
    tied = np.abs(s[:, None] - s) <= EPS * s.max()
    # what a quotient of these coefficients may be at all, where they do not depend on s
    size = max(float(np.abs(slope).max()), float((np.abs(here) / step).max()) * _NEAR)

    def gap(d: Array) -> float:
        ratio = np.abs(d - slope[:, None, :]) / np.where(error > 0, error, 1.0)[:, None, :]
        return float(ratio[tied].max())

    bound = 100.0
    return Measurement(
        gap(d), "<=", bound, (squared,),
        (Control("differences plus 1 % of the largest", gap(d + 0.01 * size), bound),),
        f"quotient over a relative distance of {_NEAR:g}",
    )  # fmt: skip


def _over_pairs(c: Coefficients, s: Array) -> Array:
    """Return mix_ik / (s_i s_k)."""
    return np.zeros_like(c.core) if c.mix is None else c.mix / (s[:, None] * s)


def _unit(a: Array) -> Array:
    return a / np.linalg.norm(a)


def _diagonal(c: Coefficients) -> Array:
    """Return what A multiplies the diagonal of the r x r block by, as a diagonal matrix."""
    return np.diag(np.diag(c.core_block(np.eye(c.up.size))))


def _inverse_root(part: Array) -> Array:
    return np.divide(1.0, np.sqrt(np.abs(part)), out=np.zeros_like(part), where=part != 0)


CLAIMS: tuple[Statement[[_Check]], ...] = (
    symmetric, positive, full_rank, places, ties, gradient, differences, ties_of_differences,
)  # fmt: skip
