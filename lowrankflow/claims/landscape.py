"""Claims about the place of a network: each a number that another computation gives as well."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg

from ..landscape import Escape, ExtremeEigenvalues, Place, escape, extreme_eigenvalues, random_minimiser, saddle
from ..landscape.canonical import canonical_form
from ..landscape.places import GLOBAL, NON_STRICT, STRICT, aligned
from ..landscape.whitened import Whitened
from ..losses import LeastSquares
from ..matrices import EPS, LinearNetwork
from ..report import Control, Hypothesis, Relation
from ..statements import Measurement, Statement, claim, derived, generator

__all__ = ["LANDSCAPE", "Point"]

ACHOUR = "Achour, Malgouyres, Gerchinovitz (2024)"


@dataclass(frozen=True)
class Point:
    """A network at a critical point of the square loss, and what is said of it."""

    loss: LeastSquares
    network: LinearNetwork
    place: Place
    seed: int
    products: int

    @cached_property
    def problem(self) -> Whitened:
        return Whitened.of(self.loss)

    @cached_property
    def ends(self) -> ExtremeEigenvalues:
        """Ritz values of the Hessian in whitened coordinates, where conditions of the data do not hide it."""
        network, loss = self.whitened
        rng = generator(self.seed, "hessian")
        return extreme_eigenvalues(loss, network, products=self.products, rng=rng)

    @cached_property
    def whitened(self) -> tuple[LinearNetwork, LeastSquares]:
        """The network and its loss in whitened coordinates, over the unit."""
        problem = self.problem
        return LinearNetwork(problem.factors(self.network)), LeastSquares(np.eye(problem.shape[1]), problem.target)

    @cached_property
    def line(self) -> Escape | None:
        """A line out of the saddle; None where none was found."""
        return _line(self.network, self.loss, self.place)

    @property
    def critical(self) -> Hypothesis:
        said = self.place.kind in (GLOBAL, STRICT, NON_STRICT)
        return Hypothesis("the network is at a critical point", said, f"{self.place.kind}, {self.place.gradient:.2g}")


def _line(network: LinearNetwork, loss: LeastSquares, place: Place | None = None) -> Escape | None:
    try:
        return escape(network, loss, place=place)
    except ValueError:  # at no saddle, or at one that is not in general position
        return None


def _moved(x: Point, size: float, name: str) -> LinearNetwork:
    """Return the network, each factor moved by a part of its size."""
    rng = generator(x.seed, name)
    found = []
    for f in x.network.factors:
        z = rng.standard_normal(f.shape)
        scale = float(linalg.norm(f)) or float(x.problem.sigma[0]) ** (1 / x.network.depth)
        found.append(f + z * (size * scale / float(linalg.norm(z))))
    return LinearNetwork(found)


@claim(
    "critical",
    statement="The gradient of every factor vanishes.",
    source=f"{ACHOUR}, Proposition 10",
    meaning=(
        "Measured: the largest factor gradient of the loss in whitened coordinates, over what it would be if no term"
        " cancelled another, sigma times the norms of the other factors. Bound: 1e-8."
    ),
    hypotheses="the network is at a critical point",
    controls="each factor moved by a thousandth of its size",
)
def critical(x: Point) -> Measurement:
    """The relative gradient."""
    moved = x.problem.relative_gradient(x.problem.factors(_moved(x, 1e-3, "critical")))
    return Measurement(
        x.place.gradient, "<=", x.place.threshold, (x.critical,),
        (Control("factors moved by a thousandth", moved, x.place.threshold),),
    )  # fmt: skip


@claim(
    "critical value",
    statement="The loss is the value that belongs to the index set: floor plus half the squares of the pairs left out.",
    source=f"{ACHOUR}, Proposition 1",
    meaning=(
        "Measured: the difference of the loss from that value, over the loss of the zero matrix. Bound: 1e-10, or ten times"
        " the square of the relative gradient."
    ),
    hypotheses="the network is at a critical point; the pair that the control is off by counts in the value",
    controls="the value of another index set: the last pair exchanged for the first that is not in it, or left out",
)
def critical_value(x: Point) -> Measurement:
    """The loss against the value of S."""
    problem, s = x.problem, [i - 1 for i in x.place.index_set or ()]
    scale = float(x.loss.value(np.zeros(x.loss.shape)))
    free = [i for i in range(problem.target_rank) if i not in s]
    bound = max(1e-10, 10 * x.place.gradient**2)
    other = problem.value([*s[:-1], *free[:1]])
    counts = abs(other - problem.value(s)) / scale
    return Measurement(
        abs(x.place.value - x.place.critical_value) / scale, "<=", bound,
        (x.critical, Hypothesis("the control's pair counts in the value", counts > 10 * bound, counts)),
        (Control("another index set", abs(x.place.value - other) / scale, bound),),
        f"L = {x.place.value:.10g}, S = {{{', '.join(map(str, x.place.index_set or ()))}}}",
    )  # fmt: skip


@claim(
    "canonical form",
    statement="The network is the one of its canonical form: active part, bases and blocks.",
    source=f"{ACHOUR}, Proposition 9",
    meaning="Measured: the distance of the rebuilt factors, over their size, in whitened coordinates. Bound: 1e-7.",
    hypotheses="the network is at a critical point; its product is not zero",
    controls="each factor moved by a thousandth of its size",
)
def round_trip(x: Point) -> Measurement:
    """Factors, canonical form, factors."""

    def error(network: LinearNetwork) -> float:
        factors, _, _ = aligned(x.problem, x.problem.factors(network))
        try:
            back = canonical_form(x.problem, factors, [i - 1 for i in x.place.index_set or ()]).factors()
        except np.linalg.LinAlgError:
            return float("inf")
        size = max(float(linalg.norm(f)) for f in factors) or 1.0
        return max(float(linalg.norm(a - b)) for a, b in zip(factors, back, strict=True)) / size

    moved = error(_moved(x, 1e-3, "canonical form"))
    active = Hypothesis(
        "an active part", bool(x.place.rank), str(x.place.rank)
    )  # without one every network has that form
    return Measurement(
        error(x.network), "<=", 1e-7, (x.critical, active), (Control("factors moved by a thousandth", moved, 1e-7),)
    )


@claim(
    "class",
    statement="The least eigenvalue of the Hessian has the sign that the class says.",
    source=f"{ACHOUR}, Theorem 7",
    meaning=(
        "The class comes from ranks of products of the factors; here the Hessian is asked, by Lanczos iteration under a fixed"
        " budget of products. Measured: the least Ritz value over the scale of the Hessian, which counts the targets, in"
        " whitened coordinates. A strict saddle: at most -1e-9. Else: at least -1e-9; a Ritz value is an upper bound of the"
        " least eigenvalue, so there the claim can be refuted, and is not proved."
    ),
    hypotheses="the network is at a critical point; a strict saddle bends down by more than the accuracy of the Hessian",
    controls="a network of these widths where the sign is the other one: a global minimiser, or a strict saddle",
)
def hessian_sign(x: Point) -> Measurement:
    """The sign of the least eigenvalue."""
    (network, loss), strict, bound = x.whitened, x.place.kind == STRICT, -1e-9
    relation: Relation = "<=" if strict else ">="
    low, scale = _least(x.ends, float(x.problem.sigma[0]))
    # another network, of the same problem with sigma_1 = 1 and balanced as it is built
    rng, n, unit = generator(x.seed, "another"), network.depth, _unit(x.problem)
    if strict:
        other, where = random_minimiser(unit, n, widths=network.widths, rng=rng), "a global minimiser"
    else:
        rank = x.problem.best_rank((*network.widths, *network.shape)) - 1
        other, where = saddle(unit, n, widths=network.widths, rank=rank), f"a strict saddle of rank {rank}"
    found, _ = _least(extreme_eigenvalues(unit, other, products=x.products, rng=rng), 1.0)
    # a line out of the saddle, of norm one, bends down by twice its coefficient
    line = _line(network, loss) if strict else None
    steep = np.inf if line is None else 2 * line.descent / scale
    seen = Hypothesis("bends down by more than the accuracy of the Hessian", steep > 1e-7, float(steep))
    return Measurement(
        low, relation, bound, (x.critical, seen), (Control(where, found, bound, relation),),
        f"{x.place.kind}; {x.ends.products} Hessian products, residual {float(x.ends.smallest.residuals[0]):.2g}",
    )  # fmt: skip


def _unit(problem: Whitened) -> LeastSquares:
    """Return the square loss of the whitened problem with sigma_1 = 1."""
    return LeastSquares(np.eye(problem.shape[1]), problem.target / problem.sigma[0])


def _least(ends: ExtremeEigenvalues, sigma: float) -> tuple[float, float]:
    """Return the least Ritz value over the scale of a Hessian, and that scale, no less than 2 sigma_1."""
    low = float(ends.smallest.values[0])
    scale = max(abs(float(ends.largest.values[-1])), abs(low), 2 * sigma)
    return low / scale, scale


@claim(
    "way out",
    statement="Along the line out of the saddle the loss is L - a t^m + b t^k, and no larger where more terms appear.",
    source=f"{ACHOUR}, appendices D and E, for order 2; {derived('landscape')}",
    meaning=(
        "m is the order of the saddle. Measured: the largest excess of the loss over the predicted value at ten points of the"
        " line, up to where it is least, over the fall there; the absolute difference where the identity is exact. Bound:"
        " 1e-9, and roundoff of the loss over the fall."
    ),
    hypotheses="the network is at a saddle; the fall exceeds the roundoff of the loss",
    controls="one factor changed the other way",
)
def way_out(x: Point) -> Measurement | None:
    """The loss along the line."""
    if (out := x.line) is None:
        return None
    end = min(out.best, 1e6)
    ts = np.linspace(0.1, 1.0, 10) * end
    fall = max(out.value - out.loss(end), np.finfo(float).tiny)
    i = int(np.argmax([float(linalg.norm(v)) for v in out.directions]))
    wrong = tuple(-v if j == i else v for j, v in enumerate(out.directions))

    def excess(directions: tuple[np.ndarray, ...]) -> float:
        values = []
        for t in ts:
            at = LinearNetwork([w + t * v for w, v in zip(out.network.factors, directions, strict=True)])
            apart = float(x.loss.value(at)) - out.loss(t)
            values.append(abs(apart) if out.exact else apart)
        return max(values) / fall

    bound = 1e-9 + 1000 * EPS * abs(out.value) / fall
    resolved = Hypothesis("the fall exceeds the roundoff of the loss", bound < 1e-3, fall)
    return Measurement(
        excess(out.directions), "<=", bound, (resolved,),
        (Control(f"V_{i + 1} with the other sign", excess(wrong), bound),),
        f"order {out.order}: L falls by {fall:.4g} at t = {end:.3g}",
    )  # fmt: skip


LANDSCAPE: tuple[Statement[[Point]], ...] = (critical, critical_value, round_trip, hessian_sign, way_out)
