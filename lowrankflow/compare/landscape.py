"""`verify_landscape`: what the theory of the landscape says, measured on random problems."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .. import validation
from ..claims import OF_THE_LANDSCAPE
from ..claims.populations import Population
from ..report import Report
from ..statements import Statement
from .equivalence import Interrupted
from .progress import Shares, silent

__all__ = ["POINTS", "verify_landscape"]

POINTS = 4000  #: random critical points, where nothing else is said: about a minute
_FEWEST = 20  # from which on no claim wants for points of its kind
_TITLE = "Is the landscape of deep linear networks what its theory says?"
_LEAD = (
    "Random data, networks, critical points and starts, of depths 2 to 5, up to 4 inputs and targets, with targets of lower rank"
    " and bottlenecks among them. Every statement is measured on all of them, by dense formulas that share no code with the"
    " library's own, and with a control that must fail. One point on the other side would flip it."
)
_KNOWN = {one.name: one for one in OF_THE_LANDSCAPE}
#: Seconds that a claim takes at 1000 points, of those that take any
_SECONDS = {
    "built points": 1.4, "values": 1.2, "index sets": 0.8, "pivots": 0.6, "depth two": 0.8, "both kinds": 0.5,
    "balanced points": 1.0, "cyclic products": 1.0, "round trip": 1.4, "minimisers": 0.8, "exchange of pairs": 0.9,
    "escape times": 1.0, "staircase": 0.4, "flat plateaus": 0.4, "decayed values": 0.6,
}  # fmt: skip


def verify_landscape(
    points: int = POINTS,
    *,
    claims: Iterable[str] | None = None,
    rng: validation.Rng = 0,
    progress: Callable[[str, float], None] | None = None,
) -> Report:
    """Measure what the theory of the landscape says on random problems: critical points, classes, ways out, any loss.

    Parameters
    ----------
    points : int
        Random critical points, 20 or more; what costs more is drawn in numbers that grow with it. Flows, descents and the
        times of escape are of a reduced size, and their claims say so.
    claims : iterable of str, optional
        Names of the claims to measure, in this order; None: all. Which others are measured changes no number.
    rng : int or numpy.random.Generator, optional
        Draws one seed, from which each claim draws by its own name.
    progress : callable, optional
        ``progress(stage, fraction)``.

    Returns
    -------
    Report
        ``lowrankflow.compare.CLAIMS`` explains each claim under its name with "landscape " before it.

    Raises
    ------
    ValueError, TypeError
        If there are too few points, or a claim is not known.
    Interrupted
        On Ctrl-C, a KeyboardInterrupt that carries the report so far.

    Examples
    --------
    >>> report = verify_landscape(50, claims=["values", "classes", "orders"])
    >>> report.passed, report["classes"].measured
    (True, 0.0)
    """
    points = validation.require_integer("points", points, low=_FEWEST)
    validation.require_callable("progress", progress)
    chosen = _chosen(claims)
    seed = int(validation.as_rng(rng).integers(2**63))
    shares = Shares(progress or silent, {one.name: _SECONDS.get(one.name, 0.1) for one in chosen})
    report = Report("landscape", {"points": points, "seed": seed}, title=_TITLE, lead=_LEAD)
    report.headline = f"{points} random critical points, and problems, networks and starts for each claim"
    if isinstance(rng, int) and claims is None:
        report.repeats = f"lowrankflow landscape --verify --points {points} --seed {rng}"
    population = Population(points, seed)
    try:
        for one in chosen:
            tell = shares.part(one.name)
            tell(one.name, 0.0)
            found = one.measure(population)
            if found is not None:
                report.claims.append(one.judged(found))
                report.tables += found.tables
            tell(one.name, 1.0)
    except KeyboardInterrupt:
        report.interrupted = True
        raise Interrupted(report) from None
    return report


def _chosen(names: Iterable[str] | None) -> list[Statement[[Population]]]:
    """Return the claims of these names."""
    if names is None:
        return list(OF_THE_LANDSCAPE)
    given = None if isinstance(names, str) else validation.as_tuple(names)
    if given is None:
        raise TypeError(f"`claims` must be a list of names, got {validation.describe(names)}.")
    chosen = [_KNOWN[validation.require_choice("claims", name, _KNOWN)] for name in given]
    if len(set(given)) < len(given) or not given:
        raise ValueError(f"`claims` must name each claim once, and one at least, got {list(given)}.")
    return chosen
