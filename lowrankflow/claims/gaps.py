"""How far two W lie apart, over time and as something is refined."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import LinearOperator, svds

from ..flow import Trajectory
from ..losses import Loss
from ..matrices import LinearNetwork, LowRankMatrix, Matrix, difference
from ..operators import MatrixLike
from ..report import Curve
from ..validation import Array

UNBALANCED = "unbalanced factors, same W(0)"  #: as reports call that control
_DENSE = 1_000_000  # entries up to which the gradient is formed as one array to be measured


def unbalanced(net: LinearNetwork, c: float) -> LinearNetwork:
    """Return [A W_1, W_2 A^{-1}, ...] with A = exp(c diag(-1 .. 1)): the same product, unbalanced."""
    a = np.exp(c * np.linspace(-1, 1, net.widths[0]) if net.widths[0] > 1 else np.array([c]))
    first, second, *rest = net.factors
    return LinearNetwork._trusted([a[:, None] * first, second / a, *rest])


def normal_gradient_norm(loss: Loss, w: LowRankMatrix) -> float:
    """Return ||(I - UU^T) G (I - VV^T)||_2, the growth rate of dormant modes at depth 2."""
    g, v = loss.gradient(w), w.vt.T

    def normal(x: Array) -> Array:
        y = g @ (x - v @ (w.vt @ x))
        return y - w.u @ (w.u.T @ y)

    def transposed(x: Array) -> Array:
        y = g.T @ (x - w.u @ (w.u.T @ x))
        return y - v @ (w.vt @ y)

    m, n = w.shape
    if w.rank == min(m, n):
        return 0.0
    if m * n <= _DENSE:
        return float(linalg.norm(normal(np.eye(n)), 2))
    operator = LinearOperator((m, n), matvec=normal, rmatvec=transposed, dtype=np.float64)
    v0 = np.random.default_rng(0).standard_normal(min(m, n))  # fixed: the answer must not vary between calls
    return float(svds(operator, k=1, v0=v0, tol=1e-4, return_singular_vectors=False)[0])


def as_array(egrad: MatrixLike) -> MatrixLike:
    """Return a gradient as one array where it is small, so that its own roundoff is not what is measured."""
    m, n = egrad.shape
    if m * n > _DENSE or isinstance(egrad, np.ndarray):
        return egrad
    return egrad @ np.eye(n)


def frobenius(egrad: MatrixLike, rng: np.random.Generator) -> float:
    """Return ||G||_F, estimated from 16 random products where G is not an array."""
    if isinstance(egrad, np.ndarray):
        return float(linalg.norm(egrad))
    signs = rng.choice([-1.0, 1.0], size=(egrad.shape[1], 16))  # E ||G x||^2 = ||G||_F^2
    return float(linalg.norm(egrad @ signs)) / 4


def gaps(a: Trajectory, b: Trajectory, times: Array) -> Array:
    """Return ||A_t - B_t||_F / ||B_t||_F at `times`; inf where one is not finite or was not reached."""
    at_a, at_b = (dict(zip(p.t.tolist(), p.points, strict=True)) for p in (a, b))
    values = np.full(times.size, np.inf)
    for i, t in enumerate(times.tolist()):
        if t in at_a and t in at_b:
            values[i] = gap(at_a[t], at_b[t])
    return values


def gap(a: Matrix, b: Matrix) -> float:
    """Return ||A - B||_F / ||B||_F; inf where A is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        if not all(np.isfinite(part).all() for part in a.split()):
            return math.inf
        return difference(a, b).norm() / b.norm()


def slope(x: Array, y: Array) -> float:
    """Return the slope of log y against log x by least squares; nan where a value is not positive, or x is one value."""
    if not (len(x) > 1 and np.all(np.isfinite(y)) and np.all(y > 0) and np.all(x > 0) and np.ptp(np.log(x)) > 1e-6):
        return np.nan
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def orders(values: Array) -> str:
    """Return the orders over successive halvings as text."""
    with np.errstate(all="ignore"):
        found = np.log2(values[:-1] / values[1:])
    return "orders over the halvings " + ", ".join(f"{v:.3f}" for v in found)


def refined(times: Array) -> Array:
    """Return the grid with its midpoints.

    A run lands on every time of its grid, and where the grid is finer than the tolerance asks for, that
    alone decides its error: a reference that landed on the same times would share it, whatever its rtol.
    """
    return np.sort(np.concatenate([times, (times + np.concatenate([[0.0], times[:-1]])) / 2]))


def kept(path: Trajectory, times: Array) -> Trajectory:
    """Return the trajectory at its start and at `times` alone."""
    chosen = np.flatnonzero(np.isin(path.t, np.append(path.t[0], times)))
    return path.at(chosen)


def curve(label: str, x: Iterable[float], y: Iterable[float], role: str = "a", points: bool = False) -> Curve:
    """Return a Curve of plain floats."""
    return Curve(label, [float(v) for v in x], [float(v) for v in y], role, points)
