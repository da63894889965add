"""`place_report`: the place of a network in the landscape, verified."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

import numpy as np

from .. import validation
from ..claims.gaps import curve
from ..claims.landscape import LANDSCAPE, Point
from ..claims.limits import set_text
from ..landscape import Place, classify, critical_values, hessian_spectrum
from ..landscape.places import GLOBAL, NON_STRICT, STRICT
from ..landscape.whitened import Whitened
from ..losses import Loss, facts
from ..matrices import LinearNetwork, singular_values
from ..report import Figure, Report, Table
from ..statements import measured

__all__ = ["place_report", "sentences"]

_TITLE = "At which critical point is this network?"
_LEAD = (
    "The loss of a deep linear network is not convex: it has saddles, and plateaus before them. For the square loss every"
    " critical point is known, and which one this is follows from ranks of products of the factors. What follows from what, and"
    " by which margin, is said below."
)
_SHOWN = 300  # critical values that are drawn, at most
_SMALL = 400  # parameters up to which the whole Hessian spectrum is drawn


def place_report(
    network: LinearNetwork,
    loss: Loss,
    *,
    products: int = 100,
    rng: validation.Rng = 0,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Report:
    """Say at which critical point a network is, or which one is nearby, and verify it there.

    Parameters
    ----------
    network : LinearNetwork, (m, n)
    loss : Loss
        Exact theory for `LeastSquares`; any other loss is judged by numbers, and nothing is claimed.
    products : int
        Budget of Hessian products of each question about eigenvalues.
    rng : int or numpy.random.Generator, optional
        Draws one seed, from which each claim draws by its own name.
    about : mapping, optional
        What the report should say of the data, JSON-ready.
    progress : callable, optional
        ``progress(stage, fraction)``.

    Returns
    -------
    Report
        ``report.attachments["place"]``: what `lowrankflow.landscape.classify` returns. The claims are about the network, or
        about the critical point nearby where it is at none.

    Raises
    ------
    ValueError, TypeError
        As `lowrankflow.landscape.classify` does.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    >>> report = place_report(lrf.landscape.saddle(loss, 3, widths=3, rank=1), loss)
    >>> report.passed, report.attachments["place"].kind
    (True, 'strict saddle')
    """
    validation.require_callable("progress", progress)
    tell = progress or (lambda stage, fraction: None)
    generator = validation.as_rng(rng)
    seed = int(generator.integers(2**63))
    tell("which critical point", 0.0)
    here = classify(network, loss, products=products, rng=seed)
    problem: dict[str, Any] = {
        "data": dict(about or {}), "loss": facts(loss).normalisation, "shape": list(network.shape),
        "depth": network.depth, "widths": list(network.widths), "place": _page(here),
        "nearby": None if here.nearby is None else _page(here.nearby),
    }  # fmt: skip
    report = Report("landscape", problem, title=_TITLE, lead=_LEAD)
    report.attachments["place"] = here
    report.headline = "\n".join(sentences(here))
    report.tables = [_deciding(here, "decisions", "What decides, here")] if here.decided_by else []
    if here.nearby is not None:
        report.tables.append(_deciding(here.nearby, "decisions nearby", "What decides, at the critical point nearby"))
    at, there = (network, here) if here.nearby is None else (here.nearby.network, here.nearby)
    settled = there.exact and there.kind in (GLOBAL, STRICT, NON_STRICT)
    if (
        settled and at is not None and Whitened.of(loss).target_rank
    ):  # else the loss has one critical value, and no scale
        tell("verifying", 0.3)
        report.claims += measured(LANDSCAPE, Point(loss, at, there, seed, products))  # type: ignore[arg-type]
    if here.exact:
        report.figures.append(_values(here, network, loss))
    if sum(f.size for f in network.factors) <= _SMALL:
        tell("Hessian spectrum", 0.8)
        report.figures.append(_spectrum(network if at is None else at, loss, there))
    tell("done", 1.0)
    return report


def sentences(here: Place) -> list[str]:
    """Say it in words."""
    found = [
        f"{here.kind[0].upper()}{here.kind[1:]}, relative gradient {here.gradient:.2g} (threshold {here.threshold:.2g})"
    ]
    found += _details(here)
    if (near := here.nearby) is not None:
        found.append(f"Nearest critical point found: {near.kind}, at distance {near.distance:.4g} of the factors")
        found += _details(near)
    return found


def _details(place: Place) -> list[str]:
    found = []
    if place.index_set is not None:
        order = "" if place.order is None else f", order {place.order}"
        found.append(
            f"  rank {place.rank}, S = {set_text(list(place.index_set))}, critical value {place.critical_value:.6g}"
            f"{order}; closest decision by a factor of {place.margin:.3g}"
        )
    if place.morse_index is not None:
        zero = "" if place.nullity is None else f", {place.nullity} zero"
        found.append(f"  Hessian: {place.morse_index} negative eigenvalues{zero}")
    return found + [f"  {note}" for note in place.notes]


def _page(place: Place) -> dict[str, Any]:
    """Return a place, JSON-ready."""
    return {
        "kind": place.kind, "exact": place.exact, "rank": place.rank,
        "index set": None if place.index_set is None else list(place.index_set), "loss": place.value,
        "critical value": place.critical_value, "order": place.order, "Morse index": place.morse_index,
        "nullity": place.nullity, "relative gradient": place.gradient, "threshold": place.threshold,
        "margin": place.margin, "distance": float(place.distance), "notes": list(place.notes),
    }  # fmt: skip


def _deciding(place: Place, name: str, title: str) -> Table:
    """Return the numbers that decide, the closest ones first."""
    closest = sorted(place.decided_by.items(), key=lambda item: abs(math.log(item[1][0] / item[1][1])))[:12]
    rows = [(what, float(v), float(t), float(max(v / t, t / v))) for what, (v, t) in closest]
    caption = "The factor by which a number would have to change to reach its threshold; the closest ones first."
    return Table(name, title, caption, ("number", "value", "threshold", "factor to flip it"), tuple(rows))


def _values(here: Place, network: LinearNetwork, loss: Loss) -> Figure:
    """Return the critical values by the size of their index sets, with the network and what is nearby."""
    sizes = min(*network.widths, *network.shape)
    values = list(islice(critical_values(loss, sizes), _SHOWN))  # type: ignore[arg-type]
    spectrum = facts(loss).spectrum
    assert spectrum is not None
    squares = spectrum.sigma**2
    ranks = range(min(sizes, int((squares > 1e-20 * squares[0]).sum())) + 1)
    near = here.nearby if here.nearby is not None and here.nearby.rank is not None else None
    best = [(r, spectrum.floor + 0.5 * float(squares[r:].sum())) for r in ranks if near is None or r != near.rank]
    s = singular_values(network)
    rank = int((s > 1e-8 * s.max(initial=0.0)).sum())
    curves = [
        curve("critical values", [len(v.index_set) for v in values], [v.value for v in values], "guide", points=True),
        curve("S = {1, ..., r}", [r for r, _ in best], [v for _, v in best], "a", points=True),
        curve("this network", [rank], [here.value], "b", points=True),
    ]
    if near is not None and near.rank is not None:
        curves.append(curve(f"nearest found: {near.kind}", [near.rank], [near.critical_value], "control", points=True))
    first = f"the {_SHOWN} least" if len(values) == _SHOWN else "all"
    return Figure(
        "place", "Where the network sits",
        f"Critical values of the loss ({first}), by how many singular pairs of the targets are learned; the lowest of each size"
        " are those of the best matrices of a rank.",
        "pairs learned (rank)", "loss", curves,
    )  # fmt: skip


def _spectrum(network: LinearNetwork, loss: Loss, place: Place) -> Figure:
    """Return the eigenvalues of the Hessian in order."""
    found = hessian_spectrum(loss, network)
    index = np.arange(1, found.eigenvalues.size + 1)
    negative = found.eigenvalues < -found.zero
    curves = [curve("eigenvalues", index, found.eigenvalues, "a", points=True)]
    if negative.any():
        curves.append(curve("negative", index[negative], found.eigenvalues[negative], "control", points=True))
    return Figure(
        "hessian", "Hessian of the factors",
        f"All eigenvalues at the critical point, a {place.kind}: {int(negative.sum())} of them are negative.",
        "number", "eigenvalue", curves,
    )  # fmt: skip
