"""Does a manifold keep the laws that pymanopt's optimizers rely on?

Nothing here imports pymanopt: a manifold is any object with its methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import validation
from ..losses import LeastSquares
from ..matrices import EPS
from ..report import Bound, Claim, Control, Hypothesis, Relation, Report
from ..validation import Array
from .slopes import order

__all__ = ["check_manifold"]

_SOURCE = "derived: docs/theory.md#manifold"
_FASTER = "fitted over five halvings; where the next term happens to vanish the order is higher"
_MOST = 200  #: dimensions up to which the rank of the Gram matrix is counted


def check_manifold(manifold: Any, problem: Any = None, *, point: Any = None) -> Report:
    r"""Check a pymanopt manifold: metric, projection, retraction, transport, and gradient and Hessian by slope.

    Parameters
    ----------
    manifold : pymanopt manifold
        Ours or any other: what it does not implement is not claimed.
    problem : pymanopt.Problem, optional
        A cost on it, whose gradient and Hessian are checked. None: for our own manifolds, a least-squares loss with
        random data; for others these claims are left out.
    point : point of the manifold, optional
        Where to check; None: ``manifold.random_point()``.

    Returns
    -------
    Report
        Each claim with its control. ``report.raise_if_failed()`` turns a failure into an exception.

    Raises
    ------
    TypeError
        If `manifold` lacks ``inner_product``, ``random_tangent_vector`` or ``retraction``.

    Notes
    -----
    Others draw from numpy's global state; it is seeded for the check and put back as it was. A Hessian shows slope 3
    only along a retraction of second order for its own metric: ours is asked for one (``second_order()``), of others
    ``exp`` is taken; without either the claim needs a critical point and is not made.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> from lowrankflow.pymanopt_manifold import FixedRank
    >>> lrf.check_manifold(FixedRank(6, 5, 2, lrf.DepthMetric(3), rng=0)).passed
    True
    """
    for name in ("inner_product", "random_tangent_vector", "retraction"):
        if isinstance(manifold, type) or not callable(getattr(manifold, name, None)):
            raise TypeError(
                f"`manifold` must be a pymanopt manifold with {name}(...), got {validation.describe(manifold)}."
            )
    if callable(getattr(manifold, "seeded", None)) and manifold.rng is None:
        manifold = manifold.seeded(0)
    with _seeded():
        check = _Check(manifold, point)
        claims = [check.symmetric(), check.positive(), check.dimension(), check.projection(), check.closest()]
        claims += [check.retraction(), check.transport(), check.isometry(), check.exponential()]
        if problem is None and hasattr(manifold, "problem"):
            problem = _fit(manifold, check.x)
        if problem is not None:
            claims += [check.gradient(problem), *check.hessian(problem)]
    about = {"manifold": str(manifold), "dimension": int(manifold.dim)}
    return Report("check-manifold", about, [claim for claim in claims if claim is not None])


@contextmanager
def _seeded() -> Iterator[None]:
    """Seed numpy's global state, from which pymanopt's manifolds draw, and put it back."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _fit(manifold: Any, point: Any) -> Any:
    """Return a problem on one of our manifolds: least squares with a residual of the size of the least singular value."""
    rng, w = np.random.default_rng(0), manifold.point(point)
    (m, n) = w.shape
    inputs = rng.standard_normal((n, 3 * n)) / np.sqrt(3 * n)
    noise = 0.5 * float(w.s.min()) * rng.standard_normal((m, 3 * n))
    return manifold.problem(LeastSquares(inputs, w @ inputs + noise, reduction="mean"))


class _Check:
    """One manifold at one point, and the claims about it."""

    def __init__(self, manifold: Any, point: Any) -> None:
        self.manifold = manifold
        self.x = manifold.random_point() if point is None else point
        self.a, self.b, self.c = (manifold.random_tangent_vector(self.x) for _ in range(3))
        self.step = self._within_reach(self.a)

    def _within_reach(self, z: Any) -> Any:
        """Return a tangent vector cut, at a matrix of ours, to a third of the distance to lower rank."""
        s = getattr(self.x, "s", None)
        if s is None or not hasattr(z, "dot") or not z.norm() > 0:
            return z
        return min(1.0, 0.3 * float(np.min(s)) / z.norm()) * z

    def inner(self, u: Any, v: Any) -> float:
        return float(self.manifold.inner_product(self.x, u, v))

    def roundoff_of(self, value: float) -> float:
        """Roundoff of a cost, with two digits of reserve: its residual may be as much smaller than W as s_k than s_1."""
        s = np.asarray(getattr(self.x, "s", 1.0))
        return float(100 * EPS * abs(value) * (10 + s.max() / s.min()))

    def knows(self, name: str, *args: Any) -> Any:
        """Return what a method returns, or None where the manifold does not have it."""
        method = getattr(self.manifold, name, None)
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

    def lift(self, z: Any) -> Array | None:
        """Return a tangent vector as an ambient array, or None where we do not know how."""
        ambient = self.knows("ambient", self.x, z)
        return _dense(self.knows("embedding", self.x, z) if ambient is None else ambient)

    # the metric

    def symmetric(self) -> Claim:
        """g(a, b) = g(b, a), and bilinear."""
        a, b, c = self.a, self.b, self.c
        size = self.inner(a, a) + self.inner(b, b) + self.inner(c, c)
        mixed = self.inner(2 * a + c, b) - 2 * self.inner(a, b) - self.inner(c, b)
        gap = max(abs(self.inner(a, b) - self.inner(b, a)), abs(mixed)) / size
        tilted = abs(self.inner(a, b) + 1e-3 * size - self.inner(b, a)) / size
        return _claim(
            "inner product", "g(a, b) = g(b, a) and g(2a + c, b) = 2 g(a, b) + g(c, b).",
            gap, "<=", self.roundoff, Control("one side plus 0.1 %", tilted, self.roundoff),
        )  # fmt: skip

    @property
    def roundoff(self) -> float:
        """Roundoff of sums over the entries of a few tangent vectors."""
        return float(1000 * EPS * np.sqrt(self.manifold.dim))

    def positive(self) -> Claim:
        """The Gram matrix of random tangent vectors is positive definite."""
        vectors = [self.manifold.random_tangent_vector(self.x) for _ in range(min(8, int(self.manifold.dim)))]
        gram = np.array([[self.inner(u, v) for v in vectors] for u in vectors])
        scale = 1 / np.sqrt(np.abs(np.diag(gram)))
        gram = scale[:, None] * (gram + gram.T) / 2 * scale
        flipped = gram.copy()
        flipped[0, 0] *= -1
        least = float(np.linalg.eigvalsh(gram)[0])
        return _claim(
            "positive", "The Gram matrix of random tangent vectors is positive definite: its least eigenvalue.",
            least, ">=", self.roundoff,
            Control("one square with the wrong sign", float(np.linalg.eigvalsh(flipped)[0]), self.roundoff, ">="),
        )  # fmt: skip

    def dimension(self) -> Claim | None:
        """The Gram matrix of many random tangent vectors has rank dim."""
        dim = int(self.manifold.dim)
        if dim > _MOST:
            return None
        vectors = [self.manifold.random_tangent_vector(self.x) for _ in range(2 * dim)]

        def rank(vectors: list[Any]) -> float:
            gram = np.zeros((2 * dim, 2 * dim))
            for i, u in enumerate(vectors):
                gram[i, : i + 1] = [self.inner(u, v) for v in vectors[: i + 1]]
            scale = 1 / np.sqrt(np.maximum(np.diag(gram), np.finfo(np.float64).tiny))
            values = np.linalg.eigvalsh(scale[:, None] * gram * scale)  # which reads the lower triangle
            return float((values > 1e-10 * values.max()).sum())

        flat = [v - self.inner(v, self.a) / self.inner(self.a, self.a) * self.a for v in vectors]
        return _claim(
            "dimension", "Random tangent vectors span as many dimensions as the manifold says.",
            rank(vectors), "in", (dim, dim), Control("one direction projected out", rank(flat), (dim, dim), "in"),
            f"{2 * dim} vectors; eigenvalues of their Gram matrix above 1e-10 of the largest",
        )  # fmt: skip

    # projection and transport

    def projection(self) -> Claim | None:
        """Tangent vectors are left as they are."""
        tangent = self.knows("to_tangent_space", self.x, self.a)
        if tangent is None:
            return None
        gap = self.relative(tangent - self.a, self.a)
        moved = self.relative(1.001 * tangent - self.a, self.a)
        return _claim(
            "projection", "A tangent vector is its own projection.",
            gap, "<=", self.roundoff, Control("the projection times 1.001", moved, self.roundoff),
        )  # fmt: skip

    def relative(self, z: Any, to: Any) -> float:
        """Return ||z|| / ||to|| under the metric."""
        return float(np.sqrt(max(self.inner(z, z), 0.0) / self.inner(to, to)))

    def closest(self) -> Claim | None:
        """The projection of an ambient matrix is the closest tangent vector: the rest is orthogonal to all of them."""
        lifted = (self.lift(self.manifold.random_tangent_vector(self.x)) for _ in range(4))
        basis = [z for z in lifted if z is not None]
        if not basis:
            return None
        ambient = np.random.default_rng(0).standard_normal(basis[0].shape)
        projected = self.knows("projection", self.x, ambient)
        image = None if projected is None else self.lift(projected)
        if image is None:
            return None

        def overlap(image: Array) -> float:
            rest = ambient - image
            size = float(np.linalg.norm(ambient))
            return max(float(abs((rest * b.conj()).sum().real) / (size * np.linalg.norm(b))) for b in basis)

        # the control moves the image within the tangent space, so that the rest overlaps with it
        wrong = image + 1e-3 * np.linalg.norm(ambient) / np.linalg.norm(basis[0]) * basis[0]
        return _claim(
            "closest", "An ambient array minus its projection is orthogonal to the tangent space.",
            overlap(image), "<=", self.roundoff, Control("the projection moved by 0.1 %", overlap(wrong), self.roundoff),
        )  # fmt: skip

    def transport(self) -> Claim | None:
        """What is transported is tangent at the new point."""
        y = self.manifold.retraction(self.x, 0.3 * self.a)
        moved = self.knows("transport", self.x, y, self.b)
        again = None if moved is None else self.knows("to_tangent_space", y, moved)
        if again is None:
            return None
        size = float(self.manifold.norm(y, again))
        gap = float(self.manifold.norm(y, again - moved)) / size
        # the vector as it stands, in the frames of the old point, is not tangent at the new one
        still = self.knows("to_tangent_space", y, self.b)
        unmoved = _norm(still - self.b) / _norm(self.b)
        differ = Hypothesis("the tangent spaces differ from point to point", unmoved > self.roundoff, unmoved)
        return _claim(
            "transport", "A transported vector is tangent at the new point.",
            gap, "<=", self.roundoff, Control("the vector left as it was", unmoved, self.roundoff),
            hypotheses=(differ,),
        )  # fmt: skip

    def isometry(self) -> Claim | None:
        """Coordinates in which the inner product is Euclidean."""
        u, v = self.knows("vec", self.x, self.a), self.knows("vec", self.x, self.b)
        back = None if u is None else self.knows("mat", self.x, u)
        if u is None or v is None or back is None:
            return None
        size = np.sqrt(self.inner(self.a, self.a) * self.inner(self.b, self.b))

        def gap(u: Array) -> float:
            return (
                max(abs(float(u @ v) - self.inner(self.a, self.b)), abs(float(u @ u) - self.inner(self.a, self.a)))
                / size
            )

        measured = max(gap(u), self.relative(back - self.a, self.a))
        return _claim(
            "vec and mat", "vec is an isometry to Euclidean space and mat its inverse.",
            measured, "<=", self.roundoff, Control("coordinates times 1.001", gap(1.001 * u), self.roundoff),
        )  # fmt: skip

    # moving

    def retraction(self) -> Claim | None:
        """R(0) = x and D R(0) = id."""
        lifted, start = self.lift(self.step), _dense(self.x)
        if lifted is None or start is None or np.shape(lifted) != np.shape(start):
            return None

        def slope(factor: float) -> float:
            def rest(t: float) -> float:
                end = _dense(self.manifold.retraction(self.x, t * self.step))
                return float(np.linalg.norm(end - start - factor * t * lifted))  # type: ignore[operator]

            return order(rest, floor=100 * EPS * float(np.linalg.norm(start)))

        right, wrong = slope(1.0), slope(1.01)
        return _claim(
            "retraction", "R(tZ) - x - tZ vanishes at order 2.",
            right, ">=", 1.95, Control("Z times 1.01", wrong, 1.95, ">="), hypotheses=(_resolved(wrong), _steady(right)),
        )  # fmt: skip

    def exponential(self) -> Claim | None:
        """The distance to exp(Z) is the length of Z, and log is the inverse of exp."""
        z = 0.05 * self.step
        y = self.knows("exp", self.x, z)
        distance = None if y is None else self.knows("dist", self.x, y)
        if distance is None:
            return None
        length = float(self.manifold.norm(self.x, z))
        back = self.knows("log", self.x, y)
        inverse = 0.0 if back is None else self.relative(back - z, z)
        # the distance of close points is a difference of large numbers in many manifolds
        bound = 1e4 * EPS / min(length, 0.05) ** 2 * np.sqrt(self.manifold.dim)
        resolved = Hypothesis("a length above the roundoff of the distance", bound < 5e-4, bound)
        return _claim(
            "exp, log, dist", "dist(x, exp(Z)) = ||Z|| and log(exp(Z)) = Z.",
            max(abs(float(distance) / length - 1), inverse), "<=", bound,
            Control("Z times 1.001", abs(float(distance) / (1.001 * length) - 1), bound), hypotheses=(resolved,),
        )  # fmt: skip

    # a cost

    def gradient(self, problem: Any) -> Claim:
        """f(R(tZ)) - f(x) - t g(grad f, Z) is of second order."""
        value, rgrad = float(problem.cost(self.x)), problem.riemannian_gradient(self.x)
        # partly along the gradient, so that the first-order term is not small by accident
        size = np.sqrt(self.inner(rgrad, rgrad)) or 1.0
        z = self._within_reach(0.5 * self.a + (0.5 / size) * rgrad)
        slope = self.inner(rgrad, z)

        def remainder(factor: float) -> float:
            def rest(t: float) -> float:
                return float(problem.cost(self.manifold.retraction(self.x, t * z))) - value - factor * t * slope

            return order(rest, floor=self.roundoff_of(value))

        right, wrong = remainder(1.0), remainder(1.1)
        return _claim(
            "gradient", "f(R(tZ)) - f(x) - t g(grad f, Z) vanishes at order 2.",
            right, ">=", 1.95, Control("gradient times 1.1", wrong, 1.95, ">="), _FASTER,
            (_resolved(wrong), _steady(right)),
        )  # fmt: skip

    def hessian(self, problem: Any) -> list[Claim]:
        """The Hessian is self-adjoint and the second derivative."""
        try:
            operator = problem.riemannian_hessian
        except TypeError:  # our way to say that there is none
            return []
        try:
            ha, hb = operator(self.x, self.a), operator(self.x, self.b)
        except NotImplementedError:  # pymanopt's
            return []
        u, v = self.inner(ha, self.b), self.inner(self.a, hb)
        size = np.sqrt(self.inner(ha, ha) * self.inner(self.b, self.b)) + np.sqrt(
            self.inner(hb, hb) * self.inner(self.a, self.a)
        )
        tilted = abs(self.inner(ha, self.b) + 1e-3 * size - v) / size
        bound = 1e-9  # many optimizers difference gradients: analytic ones are at roundoff, 1e-15
        claims = [
            _claim(
                "Hessian symmetric", "g(Hess[a], b) = g(a, Hess[b]).",
                abs(u - v) / size, "<=", bound, Control("one side plus 0.1 %", tilted, bound),
            )
        ]  # fmt: skip
        step = self.second_order()
        value, rgrad = float(problem.cost(self.x)), problem.riemannian_gradient(self.x)
        known = Hypothesis("a retraction of second order is known", step is not None, "yes" if step else "no")
        move = step or (lambda z: self.manifold.retraction(self.x, z))

        def along(z: Any, factor: float) -> float:
            slope, curvature = self.inner(rgrad, z), self.inner(operator(self.x, z), z)

            def rest(t: float) -> float:
                linear = value + t * slope + 0.5 * t * t * factor * curvature
                return float(problem.cost(move(t * z))) - linear

            return order(rest, floor=self.roundoff_of(value))

        directions = [self._within_reach(z) for z in (self.a, self.b, self.c)]

        def remainder(factor: float) -> float:
            # the median of three: along one of them the next term may be small by accident
            return float(np.nanmedian([along(z, factor) for z in directions]))

        right, wrong = remainder(1.0), remainder(1.1)
        claims.append(
            _claim(
                "Hessian", "f(R(tZ)) - f(x) - t g(grad f, Z) - t^2/2 g(Hess f[Z], Z) vanishes at order 3.",
                right, ">=", 2.95, Control("Hessian times 1.1", wrong, 2.95, ">="), _FASTER,
                (known, _resolved(wrong), _steady(right)),
            )
        )  # fmt: skip
        return claims

    def second_order(self) -> Callable[[Any], Any] | None:
        """Return a step of second order for the manifold's own metric, or None."""
        own = self.knows("second_order")
        if own is not None:
            return lambda z: own(self.x, z)
        if self.knows("exp", self.x, 0.01 * self.a) is not None:
            return lambda z: self.manifold.exp(self.x, z)
        return None


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


def _resolved(wrong: float) -> Hypothesis:
    """Whether the remainder of the control rises above roundoff: else that of the claim says nothing."""
    return Hypothesis("remainders above roundoff", bool(np.isfinite(wrong)), wrong)


def _steady(right: float) -> Hypothesis:
    """Whether the remainder falls with one order over some range of steps."""
    return Hypothesis("a steady order", not np.isnan(right), right)


def _norm(z: Any) -> float:
    """Return the Euclidean norm of the parts of a tangent vector."""
    parts = z if isinstance(z, (list, tuple)) else [z]
    return float(np.sqrt(sum(np.vdot(part, part).real for part in parts)))


def _claim(
    name: str,
    statement: str,
    measured: float,
    relation: Relation,
    bound: Bound,
    control: Control,
    detail: str = "",
    hypotheses: tuple[Hypothesis, ...] = (),
) -> Claim:
    return Claim(name, statement, _SOURCE, float(measured), relation, bound, hypotheses, (control,), detail)
