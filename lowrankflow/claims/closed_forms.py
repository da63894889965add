"""Claims about closed forms: critical matrices of a rank, weight decay, the flattest minimisers, learning coefficients."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import combinations, product

import numpy as np
from scipy.optimize import least_squares

from ..landscape import (
    critical_matrix,
    decayed_modes,
    decayed_network,
    learning_coefficient,
    least_sharpness,
    manifold_hessian,
    refactored,
    switch_value,
)
from ..landscape.decay import least_curvature, mode_values
from ..losses import LeastSquares
from ..matrices import LinearNetwork, random_point
from ..report import Control, Hypothesis
from ..statements import Measurement, Statement, claim, derived
from ..validation import Array
from .populations import Population, factor_gradients, factor_hessian, regression

__all__ = ["CLOSED_FORMS"]

DERIVED = derived("landscape")
BAH = "Bah, Rauhut, Terstiege, Westdickenberg (2022)"

# ---------------------------------------------------------------------------------------------------------------------
# matrices of a rank


@claim(
    "critical matrices",
    statement="On the matrices of rank r the critical points are the sums of r singular pairs, of value tr Y Y^T / 2 - sum / 2.",
    source=f"{BAH}; the converse for full-rank inputs there as well",
    meaning=(
        "In whitened coordinates, of all S. Measured: the larger of the tangent part of the gradient, over ||Y X^T||,"
        " and of the difference of the loss from the value, over tr Y Y^T / 2, both from dense arrays. Bound: 1e-12."
    ),
    hypotheses="none",
    controls="the matrices moved by a thousandth along the tangent space",
)
def critical_matrices(x: Population) -> Measurement:
    """Projected gradients and values."""
    rng, gaps, moved = x.rng("critical matrices"), [], []
    for _ in range(x.share(0.02, 3)):
        inputs, targets = regression(rng)
        loss, total = LeastSquares(inputs, targets), 0.5 * float((targets**2).sum())
        _, _, rows = np.linalg.svd(inputs, full_matrices=False)
        squares = np.linalg.svd(targets @ rows.T, compute_uv=False) ** 2
        t = int((squares > 1e-18 * squares[0]).sum())

        def tangent(w: Array, rank: int, x: Array = inputs, y: Array = targets) -> float:
            u, _, vt = np.linalg.svd(w)
            g = (w @ x - y) @ x.T
            left, right = u[:, :rank] @ u[:, :rank].T, vt[:rank].T @ vt[:rank]
            return float(np.linalg.norm(left @ g + g @ right - left @ g @ right) / np.linalg.norm(y @ x.T))

        for size in range(1, t + 1):
            for s in combinations(range(t), size):
                w = critical_matrix(loss, [i + 1 for i in s]).to_dense()
                value = 0.5 * float(((w @ inputs - targets) ** 2).sum())
                gaps.append(max(tangent(w, size), abs(value - total + 0.5 * float(squares[list(s)].sum())) / total))
                z = rng.standard_normal(w.shape)
                off = w + 1e-3 * (w @ w.T @ z + z @ w.T @ w) / float(np.linalg.norm(w) * np.linalg.norm(z))
                moved.append(tangent(off, size))
    return Measurement(
        max(gaps), "<=", 1e-12, controls=(Control("moved by a thousandth", min(moved), 1e-12),),
        detail=f"{len(gaps)} matrices",
    )  # fmt: skip


def _second_differences(sigma: Array, shape: tuple[int, int], s: tuple[int, ...], h: float = 0.02) -> Array:
    """Return the Hessian of ||B - T||^2 / 2, T = diag(sigma), along curves of rank r at B_S, by six values of a line each.

    B(c) = (U + U' X) (Z + M) (V + V' Y)^T with U' and V' the other directions, so that the rank is kept; c in coordinates in
    which B'(0) is an isometry. The value is a polynomial of degree six in c: three steps of extrapolation are exact.
    """
    p, q = shape
    r, chosen, z = len(s), list(s), np.diag(sigma[list(s)])
    rows, columns = [i for i in range(p) if i not in s], [i for i in range(q) if i not in s]
    target = np.zeros(shape)
    np.fill_diagonal(target, sigma)
    cuts = np.cumsum([r * r, (p - r) * r])

    def value(c: Array) -> float:
        m, left, right = np.split(c, cuts)
        u, v = np.zeros((p, r)), np.zeros((q, r))
        u[chosen], v[chosen] = np.eye(r), np.eye(r)
        u[rows] = left.reshape(p - r, r) / sigma[chosen]
        v[columns] = right.reshape(q - r, r) / sigma[chosen]
        return 0.5 * float(((u @ (z + m.reshape(r, r)) @ v.T - target) ** 2).sum())

    def along(c: Array) -> float:
        """Second derivative of an even part of degree six, from three steps."""
        at_zero = value(0 * c)
        second = [(value(k * h * c) - 2 * at_zero + value(-k * h * c)) / (k * h) ** 2 for k in (1, 2, 3)]
        return (15 * second[0] - 6 * second[1] + second[2]) / 10

    eye = np.eye(r * (p + q - r))
    single = np.array([along(e) for e in eye])
    hessian = np.diag(single)
    for i, j in combinations(range(eye.shape[0]), 2):
        hessian[i, j] = hessian[j, i] = 0.5 * (along(eye[i] + eye[j]) - single[i] - single[j])
    return hessian


@claim(
    "Morse index of matrices",
    statement="The Hessian at W_S on the matrices of rank r has the eigenvalues 1 -+ sigma_i / sigma_j and ones.",
    source=f"{BAH} for the strictness; the spectrum: {DERIVED}",
    meaning=(
        "i outside, j in S; its index is the number of pairs with sigma_i > sigma_j. Measured: the largest difference"
        " from the eigenvalues of the loss's second differences along curves of that rank. Bound: 1e-5, and infinite"
        " where the index is another."
    ),
    hypotheses="distinct singular values",
    controls="the spectrum of another S of that size",
)
def manifold_index(x: Population) -> Measurement:
    """Second differences along curves of the rank."""
    rng, gaps, wrong = x.rng("Morse index of matrices"), [], []
    for _ in range(x.share(0.01, 3)):
        p = int(rng.integers(2, 5))
        q = int(rng.integers(p, 5))
        sigma = np.cumsum(rng.uniform(0.3, 1.0, p))[::-1]
        t = np.zeros((p, q))
        np.fill_diagonal(t, sigma)
        loss, r = LeastSquares(np.eye(q), t), int(rng.integers(1, p))
        s = tuple(sorted(int(i) for i in rng.permutation(p)[:r]))
        found = np.asarray(np.linalg.eigvalsh(_second_differences(sigma, (p, q), s)), dtype=np.float64)

        def gap(of: tuple[int, ...], loss: LeastSquares = loss, found: Array = found) -> float:
            said, index = manifold_hessian(loss, [i + 1 for i in of])
            same = index == int((found < -1e-5).sum())
            return float(np.abs(np.sort(said) - found).max()) if same else np.inf

        gaps.append(gap(s))
        wrong.append(gap(tuple((i + 1) % p for i in s)))
    return Measurement(
        max(gaps), "<=", 1e-5, controls=(Control("another S", min(wrong), 1e-5),), detail=f"{len(gaps)} points"
    )


# ---------------------------------------------------------------------------------------------------------------------
# weight decay


def _decayed_slope(target: Array, decay: float, shapes: list[tuple[int, int]]) -> Callable[[Array], Array]:
    """Return the gradient of ||W - Y||^2 / 2 + decay ||factors||^2 / 2 in all factors, flat."""
    cuts = np.cumsum([a * b for a, b in shapes])[:-1]

    def slope(flat: Array) -> Array:
        factors = [part.reshape(shape) for part, shape in zip(np.split(flat, cuts), shapes, strict=True)]
        found = factor_gradients(factors, np.eye(target.shape[1]), target)
        return np.concatenate([g.ravel() for g in found]) + decay * flat

    return slope


@claim(
    "decayed values",
    statement="Under weight decay all critical points are balanced, with factors of singular values 0 or roots of the mode.",
    source=f"{DERIVED}; compare Chen, Jiang, Wang (arXiv 2506.20344)",
    meaning=(
        "Roots of s^(2N-2) - y s^(N-2) + gamma for each singular value y of the targets, white inputs. Critical points"
        " found from random starts by Levenberg and Marquardt, depths 2 to 5, and built ones. Measured: the largest"
        " distance of a singular value of a factor from that list, and the gradients at the built points. Bound: 1e-7."
    ),
    hypotheses="gradients at the points found are below 1e-11; a dozen of them",
    controls="the list of depth N + 1, at the largest singular value that is not zero",
)
def decayed_values(x: Population) -> Measurement:
    """Singular values of critical points, found and built."""
    rng, gaps, other, found = x.rng("decayed values"), [], [], 0
    for depth in (2, 3, 4, 5):
        y, decay = np.sort(rng.uniform(0.8, 2.0, 2))[::-1], float(rng.uniform(0.03, 0.1))
        target = random_point(2, 2, 2, rng=rng, singular_values=y)
        shapes = [(2, 2)] * depth
        slope = _decayed_slope(target.to_dense(), decay, shapes)
        allowed = np.concatenate([mode_values(float(v), depth, decay) for v in y])
        wrong = np.concatenate([mode_values(float(v), depth + 1, decay) for v in y])
        for _ in range(x.share(0.01, 8)):
            start = rng.uniform(0.3, 1.1) * rng.standard_normal(4 * depth)
            end = least_squares(slope, start, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=3000)
            if np.linalg.norm(end.fun) > 1e-11:
                continue
            found += 1
            s = np.linalg.svd(end.x.reshape(depth, 2, 2), compute_uv=False)
            gaps.append(float(np.abs(s[..., None] - allowed).min(axis=-1).max()))
            if s.max() > 1e-3:
                other.append(float(np.abs(s.max() - wrong).min()))
        counts = [mode.values.size for mode in decayed_modes(y, depth, decay)]
        for choice in product(*map(range, counts)):
            net = decayed_network(target, depth, decay, choice, widths=2, rng=rng)
            gaps.append(float(np.linalg.norm(slope(np.concatenate([f.ravel() for f in net.factors])))))
    return Measurement(
        max(gaps), "<=", 1e-7,
        (Hypothesis("critical points found", found >= 12 and bool(other), found),),
        (Control("depth N + 1", float(np.median(other)) if other else 0.0, 1e-7),), f"{found} found, {len(gaps) - found} built",
    )  # fmt: skip


@claim(
    "switch of a mode",
    statement="A mode has a value other than zero if and only if its singular value exceeds the switch value y_c.",
    source=f"{DERIVED}; compare Chen, Jiang, Wang (arXiv 2506.20344)",
    meaning=(
        "y_c = s^(2-N) gamma (2N-2)/N at s = (gamma (N-2)/N)^(1/(2N-2)), gamma at depth 2. Measured: targets within a"
        " hundredth of y_c, on either side, where the least of s^(2N-2) - y s^(N-2) + gamma on a grid of s has the"
        " other sign, or where `decayed_modes` finds another number of values. Bound: none."
    ),
    hypotheses="none",
    controls="twice the decay in y_c",
)
def decay_switch(x: Population) -> Measurement:
    """Roots on either side of the switch."""
    rng, wrong, doubled = x.rng("switch of a mode"), 0, 0
    for _ in range(x.share(0.05, 5)):
        depth, decay = int(rng.integers(2, 7)), 10.0 ** float(rng.uniform(-3, 1))
        for ratio in (1 - 10.0 ** float(rng.uniform(-3, -2)), 1 + 10.0 ** float(rng.uniform(-3, -2))):
            y = ratio * switch_value(depth, decay)
            s = y ** (1 / depth) * np.linspace(1e-6, 1.2, 40_000)
            # at depth 2 the polynomial is s^2 - y + gamma, least at zero
            root = float((s ** (2 * depth - 2) - y * s ** (depth - 2) + decay).min()) < 0
            wrong += root != (ratio > 1) or (decayed_modes([y], depth, decay)[0].values.size > 1) != root
            doubled += root != (y > switch_value(depth, 2 * decay))
    return Measurement(wrong, "<=", 0.0, controls=(Control("twice the decay", doubled, 0.0),))


@claim(
    "origin under decay",
    statement="From depth 3 on the origin is a local minimum for every decay: all Hessian eigenvalues are gamma there.",
    source=f"{DERIVED}; compare Chen, Jiang, Wang (arXiv 2506.20344)",
    meaning=(
        "Targets far above the switch value, dense Hessians. Measured: the largest difference of an eigenvalue, and of"
        " what `least_curvature` states, from gamma, over gamma. Bound: 1e-12."
    ),
    hypotheses="N >= 3",
    controls="depth 2, where the least eigenvalue is gamma - y",
)
def decay_origin(x: Population) -> Measurement:
    """Eigenvalues at zero."""
    rng, gaps, shallow = x.rng("origin under decay"), list[float](), list[float]()
    for _ in range(x.share(0.01, 3)):
        y, decay = rng.uniform(1.0, 4.0, 3), 10.0 ** float(rng.uniform(-2, -1))
        for depth in (2, 3, 4, 5):
            hessian = factor_hessian([np.zeros((3, 3))] * depth, np.eye(3), np.diag(y))
            said = least_curvature(y, depth, decay, (0, 0, 0), widths=3)
            eigenvalues = np.array([*(np.linalg.eigvalsh(hessian) + decay), said])
            (shallow if depth == 2 else gaps).append(float(np.abs(eigenvalues - decay).max()) / decay)
    return Measurement(max(gaps), "<=", 1e-12, controls=(Control("depth 2", min(shallow), 1e-12),))


# ---------------------------------------------------------------------------------------------------------------------
# flatness and volume


@claim(
    "flattest minimisers",
    statement="No factorisation of a minimiser is flatter than the balanced ones, of sharpness N sigma_1^(2-2/N).",
    source=f"{DERIVED}; compare Craciun, Ghoshdastidar (arXiv 2402.13108)",
    meaning=(
        "White inputs, random factorisations of one product. Measured: the least sharpness, by the dense Hessian, over"
        " that number, of random factorisations and of balanced ones, and 0 where a balanced one is above it. Bound: at"
        " least 1 - 1e-12."
    ),
    hypotheses="the residual is zero",
    controls="a bound one hundredth higher, at balanced factors",
)
def flattest_minimisers(x: Population) -> Measurement:
    """The sharpness of factorisations."""
    rng, ratios, balanced = x.rng("flattest minimisers"), list[float](), list[float]()
    for _ in range(x.share(0.1, 5)):
        m, n, width, depth = (int(v) for v in (*rng.integers(2, 5, 3), rng.integers(2, 6)))
        w = random_point(m, n, min(m, n, width), rng=rng)
        net = LinearNetwork.balanced(w, depth, widths=width, rng=rng)
        other = refactored(net, spread=float(rng.uniform(0.05, 0.7)), rng=rng)
        for chosen, into in ((net, balanced), (other, ratios)):
            dense = factor_hessian(chosen.factors, np.eye(n), chosen.to_dense())
            into.append(float(np.linalg.eigvalsh(dense)[-1]) / least_sharpness(w, depth))
    tight = max(balanced) <= 1 + 1e-12
    return Measurement(
        min(*ratios, *balanced) if tight else 0.0, ">=", 1 - 1e-12,
        controls=(Control("one hundredth higher", max(balanced) / 1.01, 1 - 1e-12, ">="),),
        detail=f"{len(ratios)} factorisations, from {min(ratios):.4g} to {max(ratios):.4g}",
    )  # fmt: skip


def _four_cases(m: int, h: int, n: int, r: int) -> tuple[Fraction, int]:
    """Return value and multiplicity of two layers, by the four cases of reduced rank regression."""
    if n + r <= m + h and m + r <= n + h and h + r <= m + n:
        value = Fraction(-((h + r) ** 2) - m**2 - n**2 + 2 * (h + r) * (m + n) + 2 * m * n, 8)
        return (value, 1) if (m + h + n + r) % 2 == 0 else (value + Fraction(1, 8), 2)
    if m + h < n + r:
        return Fraction(h * m - h * r + n * r, 2), 1
    if n + h < m + r:
        return Fraction(h * n - h * r + m * r, 2), 1
    return Fraction(m * n, 2), 1


@claim(
    "learning coefficient",
    statement="For two layers the learning coefficient is that of reduced rank regression; one hidden unit splits a network.",
    source=(
        "Aoyagi (2024), Aoyagi and Watanabe (2005), formulas recalled; that a unit splits: the product of independent"
        " parts"
    ),
    meaning=(
        "All widths up to 7 and all ranks, value and multiplicity; and chains with a layer of width 1 at rank zero,"
        " whose coefficient is the lesser one of its halves, with the multiplicities added where they tie. Measured:"
        " shapes that differ. Bound: none."
    ),
    hypotheses="none",
    controls="the outer widths and the hidden one exchanged",
)
def learning(x: Population) -> Measurement:
    """Fractions against fractions."""
    wrong = exchanged = count = 0
    for m, h, n in product(range(1, 8), repeat=3):
        for r in range(min(m, h, n) + 1):
            found = learning_coefficient([m, h, n], r)
            wrong += found != _four_cases(m, h, n, r)
            exchanged += found != _four_cases(h, m, n, r)
            count += 1
    for left in product(range(1, 4), repeat=2):
        for right in product(range(1, 4), repeat=2):
            a, b = learning_coefficient([*left, 1], 0), learning_coefficient([1, *right], 0)
            both = learning_coefficient([*left, 1, *right], 0)
            many = a.multiplicity + b.multiplicity if a.value == b.value else min(a, b).multiplicity
            wrong += both.value != min(a.value, b.value) or both.multiplicity != many
            count += 1
    return Measurement(
        wrong, "<=", 0.0, controls=(Control("widths exchanged", exchanged, 0.0),), detail=f"{count} shapes"
    )


CLOSED_FORMS: tuple[Statement[[Population]], ...] = (
    critical_matrices, manifold_index, decayed_values, decay_switch, decay_origin, flattest_minimisers, learning,
)  # fmt: skip
