"""Does a manifold keep the laws that pymanopt's optimizers rely on?

Nothing here imports pymanopt: a manifold is any object with its methods.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import validation
from ..matrices import EPS
from ..report import Control, Hypothesis, Report
from ..statements import Measurement, Statement, claim, derived, measured
from ..validation import Array
from .manifold_at import ManifoldAt, reproducible, seeded_globally, size_of_parts
from .slopes import order

__all__ = ["CLAIMS", "check_manifold"]

_SOURCE = derived("manifold")
_TITLE = "Does this manifold do what it says?"
_LEAD = (
    "A manifold of pymanopt says how vectors are measured, projected and moved, and a problem on it what its gradient and its"
    " Hessian are. Here it was asked at one point, and its answers were compared with one another. What it does not offer is"
    " not asked."
)
_FASTER = "fitted over five halvings; where the next term happens to vanish the order is higher"


@validation.quietly
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
    ValueError
        If its dimension is 0.

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
    if not int(manifold.dim) > 0:
        raise ValueError(f"`manifold` must have tangent vectors, got {manifold}, of dimension {int(manifold.dim)}.")
    with seeded_globally():
        check = ManifoldAt(reproducible(manifold), point, problem)
        claims = measured(CLAIMS, check)
    about = {"manifold": str(manifold), "dimension": int(manifold.dim)}
    headline = f"{manifold}, of dimension {about['dimension']}"
    return Report("check-manifold", about, claims, title=_TITLE, lead=_LEAD, headline=headline)


@claim(
    "inner product",
    statement="g(a, b) = g(b, a) and g(2a + c, b) = 2 g(a, b) + g(c, b).",
    source=_SOURCE,
    meaning=(
        "Measured: the larger of the two defects for random tangent vectors, relative. Bound: 1000 eps sqrt(dim),"
        " roundoff of sums over the entries of a few tangent vectors."
    ),
    hypotheses="a metric that keeps four digits",
    controls="one side plus 0.1 %",
)
def symmetric(check: ManifoldAt) -> Measurement:
    """g(a, b) = g(b, a), and bilinear."""
    a, b, c = check.a, check.b, check.c
    size = check.inner(a, a) + check.inner(b, b) + check.inner(c, c)
    mixed = check.inner(2 * a + c, b) - 2 * check.inner(a, b) - check.inner(c, b)
    imaginary = abs(np.imag(check.manifold.inner_product(check.x, a, b)))
    gap = max(abs(check.inner(a, b) - check.inner(b, a)), abs(mixed), float(imaginary)) / size
    tilted = abs(check.inner(a, b) + 1e-3 * size - check.inner(b, a)) / size
    return Measurement(
        gap, "<=", check.roundoff_of_metric, (check.told_apart,),
        (Control("one side plus 0.1 %", tilted, check.roundoff_of_metric),),
    )  # fmt: skip


@claim(
    "positive",
    statement="The Gram matrix of random tangent vectors is positive definite: its least eigenvalue.",
    source=_SOURCE,
    meaning=(
        "Of eight random tangent vectors, each scaled to length one. Measured: the least eigenvalue. Bound: the"
        " roundoff of the inner product."
    ),
    hypotheses="a metric that keeps four digits",
    controls="one square with the wrong sign",
)
def positive(check: ManifoldAt) -> Measurement:
    """The Gram matrix of random tangent vectors is positive definite."""
    gram = np.array([[check.inner(u, v) for v in check.few] for u in check.few])
    scale = 1 / np.sqrt(np.abs(np.diag(gram)))
    gram = scale[:, None] * (gram + gram.T) / 2 * scale
    flipped = gram.copy()
    flipped[0, 0] *= -1
    least = float(np.linalg.eigvalsh(gram)[0])
    return Measurement(
        least, ">=", check.roundoff_of_metric, (check.told_apart,),
        (Control("one square with the wrong sign", float(np.linalg.eigvalsh(flipped)[0]), check.roundoff_of_metric, ">="),),
    )  # fmt: skip


@claim(
    "dimension",
    statement="Random tangent vectors span as many dimensions as the manifold says.",
    source=_SOURCE,
    meaning=(
        "Where the dimension is at most 200. Measured: the number of eigenvalues of the Gram matrix of twice as many"
        " random tangent vectors above 1e-10 of the largest, or the roundoff of the metric. Bound: exactly the dimension."
    ),
    hypotheses="a metric that keeps four digits",
    controls="one direction projected out",
)
def dimension(check: ManifoldAt) -> Measurement | None:
    """The Gram matrix of many random tangent vectors has rank dim."""
    dim = int(check.manifold.dim)
    if not check.many:
        return None

    sizes = [check.inner(v, v) for v in check.many]

    def rank(vectors: list[Any]) -> float:
        gram = np.zeros((2 * dim, 2 * dim))
        for i, u in enumerate(vectors):
            gram[i, : i + 1] = [check.inner(u, v) for v in vectors[: i + 1]]
        scale = 1 / np.sqrt(np.maximum(sizes, np.finfo(np.float64).tiny))
        values = np.linalg.eigvalsh(scale[:, None] * gram * scale)  # which reads the lower triangle
        return float((values > max(1e-10, check.roundoff_of_metric) * max(1.0, values.max())).sum())

    flat = [v - check.inner(v, check.a) / check.inner(check.a, check.a) * check.a for v in check.many]
    return Measurement(
        rank(check.many), "in", (dim, dim), (check.told_apart,),
        (Control("one direction projected out", rank(flat), (dim, dim), "in"),),
        f"{2 * dim} vectors; eigenvalues of their Gram matrix above 1e-10 of the largest",
    )  # fmt: skip


@claim(
    "projection",
    statement="A tangent vector is its own projection.",
    source=_SOURCE,
    meaning=(
        "Measured: the relative change of a tangent vector by `to_tangent_space`. Bound: roundoff. Without that"
        " method there is no claim."
    ),
    hypotheses="none",
    controls="the projection times 1.001",
)
def projection(check: ManifoldAt) -> Measurement | None:
    """Tangent vectors are left as they are."""
    tangent = check.knows("to_tangent_space", check.x, check.a)
    if tangent is None:
        return None
    gap = check.relative(tangent - check.a, check.a)
    moved = check.relative(1.001 * tangent - check.a, check.a)
    return Measurement(
        gap, "<=", check.roundoff, (),
        (Control("the projection times 1.001", moved, check.roundoff),),
    )  # fmt: skip


@claim(
    "closest",
    statement="An ambient array minus its projection is orthogonal to the tangent space, entry by entry or in the metric.",
    source=_SOURCE,
    meaning=(
        "Measured: the largest cosine of what the projection of a random array leaves with four tangent vectors; where it is"
        " not roundoff and tangent vectors are arrays as they stand, the same under the inner product of the manifold. Bound:"
        " roundoff. Without an ambient form of tangent vectors there is no claim."
    ),
    hypotheses="none",
    controls="the projection moved by 0.1 %, within the tangent space",
)
def closest(check: ManifoldAt) -> Measurement | None:
    """The projection of an ambient matrix is the closest tangent vector: the rest is orthogonal to all of them."""
    if not (basis := check.lifted):
        return None
    given, ambient = check.ambient(np.random.default_rng(0))
    projected = check.knows("projection", check.x, given)
    image = None if projected is None else check.lift(projected)
    if image is None:
        return None

    def overlap(image: Array) -> float:
        rest = ambient - image
        size = float(np.linalg.norm(ambient))
        plain = max(float(abs(np.vdot(b, rest).real) / (size * np.linalg.norm(b))) for b in basis)
        if plain <= check.roundoff or not (isinstance(check.a, np.ndarray) and check.a.size == rest.size):
            return plain
        rest, whole = rest.reshape(check.a.shape), ambient.reshape(check.a.shape)
        size = np.sqrt(abs(check.inner(whole, whole)))
        return min(plain, max(abs(check.inner(rest, z)) / (size * np.sqrt(check.inner(z, z))) for z in check.basis))

    # the control moves the image within the tangent space, so that the rest overlaps with it
    wrong = image + 1e-3 * np.linalg.norm(ambient) / np.linalg.norm(basis[0]) * basis[0]
    return Measurement(
        overlap(image), "<=", check.roundoff, (),
        (Control("the projection moved by 0.1 %", overlap(wrong), check.roundoff),),
    )  # fmt: skip


@claim(
    "transport",
    statement="A transported vector is tangent at the new point.",
    source=_SOURCE,
    meaning=(
        "Measured: the size of what a projection at the new point takes away, entry by entry, relative. Bound: roundoff. Without"
        " `transport` there is no claim."
    ),
    hypotheses="the tangent spaces differ from point to point",
    controls="the vector left as it was",
)
def transport(check: ManifoldAt) -> Measurement | None:
    """What is transported is tangent at the new point."""
    y = check.manifold.retraction(check.x, 0.3 * check.step)
    moved = check.knows("transport", check.x, y, check.b)
    again = None if moved is None else check.knows("to_tangent_space", y, moved)
    if again is None:
        return None
    # entry by entry: a stiff metric would magnify the roundoff of the entries
    gap = size_of_parts(again - moved) / size_of_parts(again)
    # the vector as it stands, in the frames of the old point, is not tangent at the new one
    still = check.knows("to_tangent_space", y, check.b)
    unmoved = size_of_parts(still - check.b) / size_of_parts(check.b)
    differ = Hypothesis("the tangent spaces differ from point to point", unmoved > check.roundoff, unmoved)
    return Measurement(
        gap, "<=", check.roundoff, (differ,),
        (Control("the vector left as it was", unmoved, check.roundoff),),
    )  # fmt: skip


@claim(
    "vec and mat",
    statement="vec is an isometry to Euclidean space and mat its inverse.",
    source=_SOURCE,
    meaning=(
        "Measured: the larger of the defect of the inner product and of the round trip, relative. Bound: roundoff."
        " Without `vec` and `mat` there is no claim."
    ),
    hypotheses="a metric that keeps four digits",
    controls="coordinates times 1.001",
)
def isometry(check: ManifoldAt) -> Measurement | None:
    """Coordinates in which the inner product is Euclidean."""
    u, v = check.knows("vec", check.x, check.a), check.knows("vec", check.x, check.b)
    back = None if u is None else check.knows("mat", check.x, u)
    if u is None or v is None or back is None:
        return None
    size = np.sqrt(check.inner(check.a, check.a) * check.inner(check.b, check.b))

    def gap(u: Array) -> float:
        return (
            max(abs(float(u @ v) - check.inner(check.a, check.b)), abs(float(u @ u) - check.inner(check.a, check.a)))
            / size
        )

    measured = max(gap(u), check.relative(back - check.a, check.a))
    return Measurement(
        measured, "<=", check.roundoff_of_metric, (check.told_apart,),
        (Control("coordinates times 1.001", gap(1.001 * u), check.roundoff_of_metric),),
    )  # fmt: skip


@claim(
    "retraction",
    statement="R(tZ) - x - tZ vanishes at order 2.",
    source=_SOURCE,
    meaning=(
        "R(0) = x and D R(0) = id, as dense arrays. Measured: the order of the remainder, fitted over five halvings."
        " Bound: at least 1.95."
    ),
    hypotheses="remainders above roundoff; a steady order",
    controls="Z times 1.01",
)
def retraction(check: ManifoldAt) -> Measurement | None:
    """R(0) = x and D R(0) = id."""
    lifted, start = check.lift(check.step), check.dense(check.x)
    if lifted is None or start is None or np.shape(lifted) != np.shape(start):
        return None

    # roundoff, also that of a retraction which adds eps to singular values to keep them from zero
    still = check.dense(check.manifold.retraction(check.x, 0.0 * check.step))
    added = min(float(np.linalg.norm(still - start)), EPS * np.sqrt(start.size))  # type: ignore[operator]
    floor = 100 * max(EPS * float(np.linalg.norm(start)), added)

    def slope(factor: float) -> float:
        def rest(t: float) -> float:
            end = check.dense(check.manifold.retraction(check.x, t * check.step))
            return float(np.linalg.norm(end - start - factor * t * lifted))  # type: ignore[operator]

        return order(rest, floor=floor)

    right, wrong = slope(1.0), slope(1.01)
    return Measurement(
        right, ">=", 1.95, (_resolved(right, wrong), _steady(right)),
        (Control("Z times 1.01", wrong, 1.95, ">="),),
    )  # fmt: skip


@claim(
    "exp, log, dist",
    statement="dist(x, exp(Z)) = ||Z|| and log(exp(Z)) = Z.",
    source=_SOURCE,
    meaning=(
        "Measured: the larger relative error of the two, for a short Z, and ten times shorter where it is not"
        " within the bound: far away another geodesic may be shorter. Bound: roundoff over the square of the length, because"
        " the distance of close points is a difference of large numbers in many manifolds. Without `exp` and `dist` there is"
        " no claim."
    ),
    hypotheses="a length above the roundoff of the distance",
    controls="Z times 1.001",
)
def exponential(check: ManifoldAt) -> Measurement | None:
    """The distance to exp(Z) is the length of Z, and log is the inverse of exp."""
    # beyond the reach of the point, as close to lower rank, another geodesic is shorter: then a shorter one is asked.
    # Not much shorter: there the bound would let a retraction pass, whose length is off by its square
    found = _there_and_back(check, 0.05 * check.step)
    if found is None or exponential.judged(found).holds:
        return found
    nearer = _there_and_back(check, 0.005 * check.step)
    return nearer if nearer is not None and exponential.judged(nearer).holds else found


def _there_and_back(check: ManifoldAt, z: Any) -> Measurement | None:
    y = check.knows("exp", check.x, z)
    distance = None if y is None else check.knows("dist", check.x, y)
    if distance is None:
        return None
    length = float(check.manifold.norm(check.x, z))
    back = check.knows("log", check.x, y)
    inverse = 0.0 if back is None else check.relative(back - z, z)
    # the distance of close points is a difference of large numbers in many manifolds
    bound = float(1e4 * EPS / min(length, 0.05) ** 2 * np.sqrt(check.manifold.dim))
    resolved = Hypothesis("a length above the roundoff of the distance", bound < 5e-4, bound)
    return Measurement(
        max(abs(float(distance) / length - 1), inverse), "<=", bound, (resolved,),
        (Control("Z times 1.001", abs(float(distance) / (1.001 * length) - 1), bound),),
    )  # fmt: skip


@claim(
    "gradient",
    statement="f(R(tZ)) - f(x) - t g(grad f, Z) vanishes at order 2.",
    source=_SOURCE,
    meaning=(
        "The gradient represents the derivative of the cost: the Taylor remainder along a retraction, partly along"
        " the gradient, so that the first-order term is not small by accident. Measured: its order, fitted over five"
        " halvings; where the next term happens to vanish it is higher. Bound: at least 1.95. Without a cost there is"
        " no claim."
    ),
    hypotheses="a gradient above roundoff; remainders above roundoff; a steady order",
    controls="the gradient times 1.1",
)
def gradient(check: ManifoldAt) -> Measurement | None:
    """f(R(tZ)) - f(x) - t g(grad f, Z) is of second order."""
    if (rgrad := check.gradient) is None:
        return None
    problem, value = check.problem, float(check.problem.cost(check.x))
    # partly along the gradient, so that the first-order term is not small by accident
    size = np.sqrt(check.inner(rgrad, rgrad)) or 1.0
    z = check.within_reach(0.5 * check.a + (0.5 / size) * rgrad)
    slope = check.inner(rgrad, z)

    def remainder(factor: float) -> float:
        def rest(t: float) -> float:
            return float(problem.cost(check.manifold.retraction(check.x, t * z))) - value - factor * t * slope

        return order(rest, floor=check.roundoff_of(value) + 100 * check.last_digits * abs(slope))

    right, wrong = remainder(1.0), remainder(1.1)
    # at a critical point that of the control is above roundoff nowhere: 0.1 t slope against t^2 bend > floor, 2^5 halvings
    bend = abs(float(problem.cost(check.manifold.retraction(check.x, z))) - value - slope)
    seen = not right >= 1.95 or abs(slope) >= 1000 * np.sqrt(check.roundoff_of(value) * bend)
    told = Hypothesis("a gradient above roundoff", bool(seen), abs(slope))
    return Measurement(
        right, ">=", 1.95, (told, _resolved(right, wrong), _steady(right)),
        (Control("gradient times 1.1", wrong, 1.95, ">="),),
        _FASTER,
    )  # fmt: skip


@claim(
    "Hessian symmetric",
    statement="g(Hess[a], b) = g(a, Hess[b]).",
    source=_SOURCE,
    meaning=(
        "Measured: the difference for two random tangent vectors, relative. Bound: 1e-9; many optimizers difference"
        " gradients, analytic ones are at roundoff, 1e-15. Without a Hessian there is no claim."
    ),
    hypotheses="none",
    controls="one side plus 0.1 %",
)
def hessian_symmetric(check: ManifoldAt) -> Measurement | None:
    """The Hessian is self-adjoint."""
    if check.hessian is None:
        return None
    ha, hb = check.hessian(check.x, check.a), check.hessian(check.x, check.b)
    u, v = check.inner(ha, check.b), check.inner(check.a, hb)
    size = np.sqrt(check.inner(ha, ha) * check.inner(check.b, check.b)) + np.sqrt(
        check.inner(hb, hb) * check.inner(check.a, check.a)
    )
    return Measurement(
        abs(u - v) / size, "<=", 1e-9, (), (Control("one side plus 0.1 %", abs(u + 1e-3 * size - v) / size, 1e-9),)
    )


@claim(
    "Hessian",
    statement="f(R(tZ)) - f(x) - t g(grad f, Z) - t^2/2 g(Hess f[Z], Z) vanishes at order 3.",
    source=_SOURCE,
    meaning=(
        "The Taylor remainder of second order, along a retraction of second order for the manifold's own metric. Measured:"
        " the median order along three directions, each fitted over five halvings; where the next term happens to vanish"
        " it is higher. Bound: at least 2.95. Without a Hessian there is no claim."
    ),
    hypotheses="a retraction of second order is known; remainders above roundoff; a steady order",
    controls="the Hessian times 1.1",
)
def hessian(check: ManifoldAt) -> Measurement | None:
    """The Hessian is the second derivative."""
    if (operator := check.hessian) is None:
        return None
    step, problem, rgrad = check.second_order(), check.problem, check.gradient
    value = float(problem.cost(check.x))
    known = Hypothesis("a retraction of second order is known", step is not None, "yes" if step else "no")
    move = step or (lambda z: check.manifold.retraction(check.x, z))

    def along(z: Any, factor: float) -> float:
        slope, curvature = check.inner(rgrad, z), check.inner(operator(check.x, z), z)

        def rest(t: float) -> float:
            linear = value + t * slope + 0.5 * t * t * factor * curvature
            return float(problem.cost(move(t * z))) - linear

        return order(rest, floor=check.roundoff_of(value))

    directions = [check.within_reach(z) for z in (check.a, check.b, check.c)]

    def remainder(factor: float) -> float:
        # the median of three: along one of them the next term may be small by accident
        return float(np.nanmedian([along(z, factor) for z in directions]))

    right, wrong = remainder(1.0), remainder(1.1)
    return Measurement(
        right, ">=", 2.95, (known, _resolved(right, wrong), _steady(right)),
        (Control("Hessian times 1.1", wrong, 2.95, ">="),), _FASTER,
    )  # fmt: skip


def _resolved(order: float, wrong: float) -> Hypothesis:
    """Whether a remainder rises above roundoff, the claim's or the control's: else that of the claim says nothing."""
    return Hypothesis("remainders above roundoff", bool(np.isfinite(order) or np.isfinite(wrong)), wrong)


def _steady(right: float) -> Hypothesis:
    """Whether the remainder falls with one order over some range of steps."""
    return Hypothesis("a steady order", not np.isnan(right), right)


CLAIMS: tuple[Statement[[ManifoldAt]], ...] = (
    symmetric, positive, dimension, projection, closest, retraction, transport, isometry, exponential, gradient,
    hessian_symmetric, hessian,
)  # fmt: skip
