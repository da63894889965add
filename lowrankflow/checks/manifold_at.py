"""One manifold of pymanopt at one point: tangent vectors drawn, and what it says of them as numbers and arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np

from ..matrices import EPS, LowRankMatrix
from ..report import Hypothesis
from ..validation import Array

__all__ = ["ManifoldAt", "parts_of", "reproducible", "seeded_globally", "size_of_parts"]

_MOST = 200  #: dimensions up to which the rank of the Gram matrix is counted
#: nobody's: from that of a given point its own numbers would come again, as a tangent vector that vanishes
_SEED = 1_618_033_989


@contextmanager
def seeded_globally() -> Iterator[None]:
    """Seed numpy's global state, from which pymanopt's manifolds draw, and put it back."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(_SEED)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def reproducible(manifold: Any) -> Any:
    """Return a manifold that draws the same points at every call, of ours without an `rng`, in products too."""
    if hasattr(manifold, "manifolds"):
        other = copy(manifold)
        other.manifolds = tuple(map(reproducible, manifold.manifolds))
        return other
    return manifold.seeded(_SEED) if callable(getattr(manifold, "seeded", None)) and manifold.rng is None else manifold


class _Fit:
    """1/2 ||(W - W_0) X - E||^2 for W_0 of any size, also where data sets may not be so small."""

    def __init__(self, w: LowRankMatrix) -> None:
        rng, self.shape = np.random.default_rng(_SEED), w.shape
        m, n = w.shape
        self._x = rng.standard_normal((n, 3 * n)) / np.sqrt(3 * n)
        self._y = w @ self._x + 0.5 * float(w.s.min()) / np.sqrt(3 * n) * rng.standard_normal((m, 3 * n))

    def value(self, w: Any) -> float:
        return 0.5 * float(np.linalg.norm(w @ self._x - self._y)) ** 2

    def gradient(self, w: Any) -> Array:
        return (w @ self._x - self._y) @ self._x.T

    def hessian(self, w: Any, z: Any) -> Array:
        return (z @ self._x) @ self._x.T


class ManifoldAt:
    """One manifold at one point, with a problem on it: one of our own has a least-squares loss where none is given."""

    def __init__(self, manifold: Any, point: Any, problem: Any) -> None:
        self.manifold = manifold
        self.x = manifold.random_point() if point is None else point
        self._weights = np.random.default_rng(_SEED)
        self.a, self.b, self.c = self._draw(3)
        self.step = self.within_reach(self.a)
        # drawn here, before any claim is measured, so that none changes what another sees
        dim = int(manifold.dim)
        self.few = self._draw(min(8, dim))
        self.many = self._draw(2 * dim if dim <= _MOST else 0)
        self.basis = self._draw(4)
        self.lifted = [e for e in map(self.lift, self.basis) if e is not None]  # all of them or none
        own = problem is None and hasattr(manifold, "problem")
        self.problem = manifold.problem(_Fit(manifold.point(self.x))) if own else problem

    def _draw(self, count: int) -> list[Any]:
        return [self._random() for _ in range(count)]

    def _random(self) -> Any:
        """Return a random tangent vector; of a product with parts of random lengths, where each comes with a given one."""
        z = self.manifold.random_tangent_vector(self.x)
        if not hasattr(self.manifold, "manifolds"):
            return z
        return type(z)([weight * part for weight, part in zip(self._weights.standard_normal(len(z)), z, strict=True)])

    def within_reach(self, z: Any) -> Any:
        """Return a tangent vector, at matrices of ours as long as a third of the distance to lower rank."""
        return min(_reach(x, part) for _, x, part in parts_of(self.manifold, self.x, z)) * z

    def inner(self, u: Any, v: Any) -> float:
        """Return the inner product of two tangent vectors; some manifolds return complex numbers without imaginary part."""
        return float(np.real(self.manifold.inner_product(self.x, u, v)))

    def relative(self, z: Any, to: Any) -> float:
        """Return ||z|| / ||to|| under the metric."""
        return float(np.sqrt(max(self.inner(z, z), 0.0) / self.inner(to, to)))

    @cached_property
    def last_digits(self) -> float:
        """What the last digits of a tangent vector do to its inner products, relative: large where the metric is stiff."""
        rng, size = np.random.default_rng(_SEED), self.inner(self.a, self.a) + self.inner(self.b, self.b)
        moved = [_perturbed(self.a, rng) for _ in range(4)]
        return max(abs(self.inner(z, x) - self.inner(self.a, x)) for z in moved for x in (self.a, self.b)) / size

    @property
    def roundoff(self) -> float:
        """Roundoff of sums over the entries of a few tangent vectors."""
        return float(1000 * EPS * np.sqrt(self.manifold.dim))

    @property
    def roundoff_of_metric(self) -> float:
        """Roundoff of inner products, which is larger where the metric is stiff."""
        return max(self.roundoff, 1000 * self.last_digits)

    @property
    def told_apart(self) -> Hypothesis:
        """Whether the metric leaves the digits in which a control differs."""
        return Hypothesis("a metric that keeps four digits", self.roundoff_of_metric < 1e-4, self.roundoff_of_metric)

    def roundoff_of(self, value: float) -> float:
        """Roundoff of a cost, with two digits of reserve: its residual may be as much smaller than W as s_k than s_1."""
        values = [np.asarray(getattr(x, "s", 1.0)) for _, x in parts_of(self.manifold, self.x)]
        return float(100 * EPS * abs(value) * (10 + max(s.max() / s.min() for s in values)))

    def knows(self, name: str, *args: Any) -> Any:
        """Return what a method returns, or None where the manifold does not have it."""
        return _known(self.manifold, name, *args)

    def lift(self, z: Any) -> Array | None:
        """Return a tangent vector as one ambient array, a product's parts one after the other; None if we do not know how."""
        return _together(_lift(*part) for part in parts_of(self.manifold, self.x, z))

    def dense(self, x: Any) -> Array | None:
        """Return a point as one ambient array; None if we do not know how."""
        return _together(_dense(part) for _, part in parts_of(self.manifold, x))

    def ambient(self, rng: np.random.Generator) -> tuple[Any, Array]:
        """Return a random ambient array as `projection` takes it, and as `lift` lays it out; only where there is a `lift`."""
        parts = [_lift(*part) for part in parts_of(self.manifold, self.x, self.a)]
        arrays = [rng.standard_normal(part.shape) for part in parts if part is not None]
        return (arrays if hasattr(self.manifold, "manifolds") else arrays[0]), np.concatenate(
            [a.ravel() for a in arrays]
        )

    def second_order(self) -> Callable[[Any], Any] | None:
        """Return a step of second order for the manifold's own metric, or None."""
        own = self.knows("second_order")
        if own is not None:
            return lambda z: own(self.x, z)
        if self.knows("exp", self.x, 0.01 * self.a) is not None:
            return lambda z: self.manifold.exp(self.x, z)
        return None

    @cached_property
    def gradient(self) -> Any:
        """The Riemannian gradient of the cost; None where there is no cost, or it has none."""
        try:
            return None if self.problem is None else self.problem.riemannian_gradient(self.x)
        except NotImplementedError:
            return None

    @cached_property
    def hessian(self) -> Callable[[Any, Any], Any] | None:
        """The Riemannian Hessian of the cost; None where there is no cost, or it has none."""
        if self.gradient is None:
            return None
        try:
            operator = self.problem.riemannian_hessian
        except TypeError:  # our way to say that there is none
            return None
        try:
            operator(self.x, self.a)
        except NotImplementedError:  # pymanopt's
            return None
        except Exception:
            # a cost is differentiated along `embedding`: where that is no motion of the point there is nothing to ask for
            if _shapes(self.knows("embedding", self.x, self.a)) == _shapes(self.x):
                raise
            return None
        return operator


def parts_of(manifold: Any, *values: Any) -> list[tuple[Any, ...]]:
    """Return (manifold, value, ...) for each part of a product; of any other manifold, of itself."""
    if hasattr(manifold, "manifolds"):
        return list(zip(manifold.manifolds, *values, strict=True))
    return [(manifold, *values)]


def size_of_parts(z: Any) -> float:
    """Return the Euclidean norm of the parts of a tangent vector."""
    if isinstance(z, (list, tuple)):
        return float(np.sqrt(sum(size_of_parts(part) ** 2 for part in z)))
    return float(np.linalg.norm(z))


def _perturbed(z: Any, rng: np.random.Generator) -> Any:
    """Return a tangent vector with other last digits."""
    if isinstance(z, np.ndarray):
        return z * (1 + EPS * rng.choice([-1.0, 1.0], z.shape))
    if isinstance(z, (list, tuple)):
        parts = [_perturbed(part, rng) for part in z]
        return type(z)(*parts) if hasattr(z, "_fields") else type(z)(parts)
    return z


def _reach(x: Any, z: Any) -> float:
    """Return the multiple of a tangent vector that is a third of the distance to lower rank; 1 where that is not known."""
    s = getattr(x, "s", None)
    if s is None or not hasattr(z, "dot") or not z.norm() > 0:
        return 1.0
    return 0.3 * float(np.min(s)) / z.norm()


def _known(manifold: Any, name: str, *args: Any) -> Any:
    method = getattr(manifold, name, None)
    if method is None:
        return None
    try:
        return method(*args)
    except NotImplementedError:  # how pymanopt says so; any other error is a mistake, and is shown
        return None
    except ValueError:  # a step beyond where it is defined
        if name in ("exp", "log", "dist"):
            return None
        raise


def _lift(manifold: Any, x: Any, z: Any) -> Array | None:
    """Return a tangent vector as an ambient array, or None where we do not know how."""
    ambient = _known(manifold, "ambient", x, z)
    return _dense(_known(manifold, "embedding", x, z) if ambient is None else ambient)


def _dense(value: Any) -> Array | None:
    """Return an array from an array, a matrix of ours, or pymanopt's (u, s, vt) and (U, S, V); else None."""
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "to_dense"):
        return value.to_dense()
    if isinstance(value, tuple) and len(value) == 3 and all(isinstance(part, np.ndarray) for part in value):
        a, b, c = value
        return (a * b) @ c if b.ndim == 1 else a @ b @ c.T
    return None


def _together(parts: Iterator[Array | None]) -> Array | None:
    """Return arrays one after the other, or None where one is missing."""
    arrays = list(parts)
    return None if any(a is None for a in arrays) else np.concatenate([np.ravel(a) for a in arrays])  # type: ignore[arg-type]


def _shapes(value: Any) -> Any:
    """Return the shape of an array, or those of the parts of a sequence."""
    if isinstance(value, (list, tuple, LowRankMatrix)):
        return [_shapes(part) for part in value]
    return np.shape(value)
