"""Claims about leaving saddles of the square loss: directions, the loss along them, and orders."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.optimize import minimize

from ..landscape import Escape, escape, saddle
from ..report import Control
from ..statements import Measurement, Statement, claim
from ..validation import Array
from .critical_points import ACHOUR, DERIVED, at, problems
from .populations import SPREAD, CriticalPoint, Population, chain, factor_gradients, factor_hessian

__all__ = ["WAYS_OUT"]


def _dense(point: CriticalPoint, directions: tuple[Array, ...], t: float) -> float:
    """Return the loss at W + t V."""
    factors = [w + t * v for w, v in zip(point.network.factors, directions, strict=True)]
    w = chain(factors, point.inputs.shape[0])
    return 0.5 * float(((w @ point.inputs - point.targets) ** 2).sum())


def _turned(out: Escape, last: bool = True) -> tuple[Array, ...]:
    """Return the directions with the sign of one factor changed, the last one that moves or the first."""
    moving = [i for i, v in enumerate(out.directions) if v.any()]
    turned = moving[-1 if last else 0]
    return tuple(-v if i == turned else v for i, v in enumerate(out.directions))


# ---------------------------------------------------------------------------------------------------------------------
# strict saddles


@claim(
    "exchange of pairs",
    statement="Where S lacks a larger pair, L(W + tV) = L - (lambda_i - lambda_j) t^2 / 2 + lambda_i t^4 / 2 on a line.",
    source=f"{ACHOUR}, appendix D",
    meaning=(
        "j is the last pair of S and i the first that is not in it; the line is scaled so that t = 1 exchanges the two."
        " Measured: the largest difference of the dense loss from that polynomial at ten t up to 1, over tr Y Y^T / 2."
        " Bound: 1e-12."
    ),
    hypotheses="S is not {1, ..., r}",
    controls="one factor changed the other way",
)
def exchange_of_pairs(x: Population) -> Measurement:
    """The loss along the line of appendix D."""
    gaps, wrong = [], []
    for p in x.some("exchange", x.share(0.1, 3), lambda p: not p.leading):
        out, top = escape(p.network, p.loss, place=p.place), p.squares
        i = min(set(range(top.size)) - set(p.index_set))
        more, less = float(top[i]), float(top[max(p.index_set)])
        unit = (2 * out.rise / more) ** 0.25  # of V, in which the coefficient of t^4 is lambda_i / 2

        def gap(
            directions: tuple[Array, ...], p: CriticalPoint = p, a: float = more, b: float = less, u: float = unit
        ) -> float:
            ts = np.linspace(0.1, 1.0, 10)
            said = p.value - 0.5 * (a - b) * ts**2 + 0.5 * a * ts**4
            return max(abs(_dense(p, directions, t / u) - v) for t, v in zip(ts, said, strict=True)) / p.total

        gaps.append(gap(out.directions))
        wrong.append(gap(_turned(out)))
    return Measurement(
        max(gaps), "<=", 1e-12, controls=(Control("one factor the other way", min(wrong), 1e-12),),
        detail=f"{len(gaps)} saddles",
    )  # fmt: skip


def _pivot_lines(p: CriticalPoint) -> Iterator[tuple[list[Array], float]]:
    """Yield V, by whitened factors, and V^T H V as the appendix has them, for every pivot that is not tightened.

    With b in the kernel of F_N .. F_{j+1} and a^T F_{i-1} .. F_{j+1} b = 1: V_i = beta u a^T, V_j = b q^T, and V^T H V =
    a beta^2 - 2 beta s for a = ||F_N .. F_{i+1} u a^T F_{i-1} .. F_1||^2 and s = q^T M u, M the outer block beside W.
    """
    f, t, r, sizes = p.problem.factors(p.network), p.problem.target, p.rank, p.sizes
    kept = np.diag([float(k not in p.index_set) for k in range(p.problem.shape[0])])
    for pivot in p.place.pivots:
        if pivot.tightened:
            continue
        i, j = pivot.i, pivot.j
        above = chain(f[j:], sizes[j])
        norm = float(np.prod([np.linalg.norm(g, 2) for g in f[j:]]))
        if j > 1 and int((np.linalg.svd(above, compute_uv=False) > 1e-9 * norm).sum()) > r:
            i, j = j, 1
            above = chain(f[1:], sizes[1])
        _, _, vt = np.linalg.svd(above)
        kernel = vt[r:].T
        u, s, vt = np.linalg.svd(chain(f[j : i - 1], sizes[j]) @ kernel)
        a, b = u[:, 0] / max(s[0], 1e-12), kernel @ vt[0]
        outer = chain(f[: j - 1], sizes[0]) @ t.T @ kept @ chain(f[i:], sizes[i])
        q, gain, pt = np.linalg.svd(outer)
        change = np.outer(pt[0], a)
        square = float(np.linalg.norm(chain(f[i:], sizes[i]) @ change @ chain(f[: i - 1], sizes[0])) ** 2)
        beta = gain[0] / square if square > 1e-12 * gain[0] else 1.0
        v = [np.zeros_like(g) for g in f]
        v[i - 1], v[j - 1] = beta * change, np.outer(b, q[:, 0])
        yield v, float(square * beta**2 - 2 * beta * gain[0])


@claim(
    "every pivot",
    statement="Every pivot that is not tightened has a direction of negative curvature, of the value that its blocks give.",
    source=f"{ACHOUR}, appendix E; p and q the top singular pair of the outer block: {DERIVED}",
    meaning=(
        "V_i = beta p a^T, V_j = b q^T at strict saddles with S = {1, ..., r}, whitened; beta the best one, so that the"
        " curvature is minus a square. Measured: the largest difference of V^T H V, H the dense Hessian, from that"
        " value, over its size. Bound: 1e-10. A pivot taken for loose without being so has no such a, b."
    ),
    hypotheses="S = {1, ..., r} and a pivot is not tightened",
    controls="V_i with the other sign",
)
def every_pivot(x: Population) -> Measurement:
    """The curvature along the directions of the appendix."""
    gaps, wrong = list[float](), list[float]()
    for p in x.some("pivot directions", x.share(0.1, 3), lambda p: p.leading and p.strict and p.depth > 2):
        factors, target = p.problem.factors(p.network), p.problem.target
        hessian = factor_hessian(factors, np.eye(target.shape[1]), target)
        for v, said in _pivot_lines(p):
            moving = [i for i, z in enumerate(v) if z.any()]
            turned = [-z if i == moving[-1] else z for i, z in enumerate(v)]
            for change, into in ((v, gaps), (turned, wrong)):
                flat = np.concatenate([z.ravel() for z in change])
                into.append(abs(float(flat @ hessian @ flat) / said - 1) if said < 0 else math.inf)
    return Measurement(
        max(gaps, default=math.inf),
        "<=",
        1e-10,
        controls=(Control("the other sign", min(wrong, default=0.0), 1e-10),),
        detail=f"{len(gaps)} pivots",
    )


@claim(
    "steepest line",
    statement="The best line out of a strict saddle is nearly as steep as the Hessian allows.",
    source=DERIVED,
    meaning=(
        "Measured: the median, over strict saddles, of the curvature along `escape`'s line over the least eigenvalue,"
        " both of the dense Hessian; 0 if the one is not negative at some saddle. Bound: at least 1/2. At 1 the line is"
        " the eigenvector."
    ),
    hypotheses="strict saddles",
    controls="one factor of the line changed the other way",
)
def steepest_line(x: Population) -> Measurement:
    """The Rayleigh quotients of the lines."""
    shares, wrong = list[float](), list[float]()
    for p in x.some("steepest", x.share(0.2, 30), lambda p: p.strict):
        out = escape(p.network, p.loss, place=p.place)
        for directions, into in ((out.directions, shares), (_turned(out), wrong)):
            v = np.concatenate([z.ravel() for z in directions])
            into.append(float(v @ p.hessian @ v) / (float(v @ v) * float(p.eigenvalues[0]) * p.scale))
    return Measurement(
        float(np.median(shares)) if min(shares) > 0 else 0.0, ">=", 0.5,
        controls=(Control("one factor the other way", float(np.median(wrong)), 0.5, ">="),),
        detail=f"{len(shares)} saddles; least {min(shares):.3g}",
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# orders


@claim(
    "orders",
    statement="At the built saddles of order m the loss is L - lambda t^m + lambda t^{2m} / 2 on a line, lambda the next one.",
    source=f"{ACHOUR}, Proposition 8, for the points; orders and lines: {DERIVED}",
    meaning=(
        "Z_1, Z_N and m - 2 more blocks are zero. The line is scaled so that t = 1 learns the pair r + 1 whole."
        " Measured: the largest difference of the dense loss from that polynomial at ten t up to 1, over tr Y Y^T / 2,"
        " and infinite where `classify` states another order. Bound: 1e-12."
    ),
    hypotheses="none",
    controls="order m + 1; one factor changed the other way",
)
def orders(x: Population) -> Measurement:
    """Lines out of the saddles of every order."""
    rng, gaps, higher, turned = x.rng("orders"), [], [], []
    for p in problems(rng, x.share(0.05, 3)):
        for depth in (2, 3, 4, 5):
            widths = [int(d) for d in rng.integers(1, 6, depth - 1)]
            rank = int(rng.integers(0, min(p.squares.size, *widths)))
            m = int(rng.integers(2, depth + 1))
            net = saddle(p.loss, depth, widths=widths, rank=rank, order=m, spread=SPREAD, rng=rng)
            here, lam = at(p, net, range(rank)), float(p.squares[rank])
            out = escape(net, p.loss, place=here.place)
            unit = (2 * out.rise / lam) ** (1 / (2 * m))

            def gap(
                directions: tuple[Array, ...], m: int = m, p: CriticalPoint = here, a: float = lam, u: float = unit
            ) -> float:
                ts = np.linspace(0.1, 1.0, 10)
                said = p.value - a * ts**m + 0.5 * a * ts ** (2 * m)
                return max(abs(_dense(p, directions, t / u) - v) for t, v in zip(ts, said, strict=True)) / p.total

            gaps.append(gap(out.directions) if here.place.order == out.order == m else math.inf)
            higher.append(gap(out.directions, m + 1))
            turned.append(gap(_turned(out)))
    return Measurement(
        max(gaps), "<=", 1e-12,
        controls=(
            Control("order m + 1", min(higher), 1e-12), Control("one factor the other way", min(turned), 1e-12),
        ),
        detail=f"{len(gaps)} saddles",
    )  # fmt: skip


def _deepest(p: CriticalPoint, start: Array, radius: float) -> tuple[float, Array]:
    """Return the largest fall of the loss found on a sphere of factors, from a direction, and the best direction."""
    old, inputs = p.network.factors, p.inputs
    ends, n = np.cumsum([f.size for f in old])[:-1], inputs.shape[0]
    base = chain(old, n) @ inputs - p.targets

    def fall(z: Array) -> tuple[float, Array]:
        size = float(np.linalg.norm(z))
        u = z / size
        steps = [radius * a.reshape(f.shape) for a, f in zip(np.split(u, ends), old, strict=True)]
        new = [f + e for f, e in zip(old, steps, strict=True)]
        # of the product, factor by factor: what does not change does not cancel
        change = sum(chain(new[j + 1 :], e.shape[0]) @ e @ chain(old[:j], n) for j, e in enumerate(steps)) @ inputs
        value = float((change * base).sum() + 0.5 * (change**2).sum())
        g = np.concatenate([a.ravel() for a in factor_gradients(new, inputs, p.targets)])
        return value / radius, (g - u * float(u @ g)) / size

    scale = abs(fall(start)[0]) or 1.0

    def scaled(z: Array) -> tuple[float, Array]:
        value, slope = fall(z)
        return value / scale, slope / scale

    options: Any = {"ftol": 0.0, "gtol": 1e-9, "maxiter": 500}
    found: Any = minimize(scaled, start, jac=True, method="L-BFGS-B", options=options)
    return -float(found.fun) * scale * radius, found.x / float(np.linalg.norm(found.x))


_RADII = {3: 0.001, 4: 0.0025, 5: 0.01}  # above roundoff of the gradients, which are of order radius^(m - 1)


def _has_exact_line(p: CriticalPoint) -> bool:
    """Whether a line leaves a saddle on which no further terms appear; of random ones, all but some in a thousand."""
    try:
        return escape(p.network, p.loss, place=p.place).exact
    except ValueError:  # curves alone
        return False


@claim(
    "falls in a ball",
    statement="Within a distance d of a non-strict saddle of order m the loss falls by a multiple of d^m, and no more.",
    source=DERIVED,
    meaning=(
        "Random saddles, in general without a block that is zero: the least loss on spheres of radius 0.001 (order 3),"
        " 0.0025 and 0.01, and a half and a quarter of that, by L-BFGS from the line out and from the best point of the"
        " sphere before. Measured: the largest difference of the fitted slope from m. Bound: 0.1, for terms of the next"
        " order are a radius times as large, up to their constant."
    ),
    hypotheses="non-strict saddles with an exact line out; the least loss on a sphere is found",
    controls="m - 1: what a saddle of one order less would do",
)
def falls_in_a_ball(x: Population) -> Measurement:
    """Slopes of the fall in the radius."""
    off, less = [], []
    for p in x.some("balls", x.share(0.01, 3), lambda p: p.flat and _has_exact_line(p)):
        out, order = escape(p.network, p.loss, place=p.place), p.place.order or 0
        best, falls, radii = (
            np.concatenate([z.ravel() for z in out.directions]),
            [],
            [_RADII[order] / k for k in (1, 2, 4)],
        )
        for radius in radii:
            fall, best = _deepest(p, best, radius)
            falls.append(fall)
        slope = float(np.polyfit(np.log(radii), np.log(np.maximum(falls, 1e-300)), 1)[0])
        off.append(abs(slope - order))
        less.append(abs(slope - order + 1))
    return Measurement(max(off), "<=", 0.1, controls=(Control("m - 1", min(less), 0.1),), detail=f"{len(off)} saddles")


WAYS_OUT: tuple[Statement[[Population]], ...] = (
    exchange_of_pairs, every_pivot, steepest_line, orders, falls_in_a_ball,
)  # fmt: skip
