"""The page of all claims, from their words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from ..batched import almost_every_start
from ..checks import LOSS_CLAIMS, MANIFOLD_CLAIMS, METRIC_CLAIMS
from ..scalar.verification import SCALAR
from ..statements import Statement
from . import ABOUT_THE_LIMIT, ALONG_THE_FLOW, AT_A_POINT, OF_DESCENT, OF_METRICS, OF_THE_LANDSCAPE
from .checkpoints import RUN
from .landscape import LANDSCAPE
from .training import TRAINING

__all__ = ["markdown", "page"]

_TOP = r"""# The claims of a report

`lowrankflow verify` and `verify_equivalence` return a list of claims, and so do `compare` and the checks. Each has one **measured** number, a **bound** it must keep, **hypotheses** that the statement needs, and
**controls**: changed inputs for which the *same* measurement must *break* the bound. The verdict is

- **passed**: the hypotheses are met, the bound holds, and every control is caught;
- **failed**: the hypotheses are met, but the bound does not hold or a control slips through;
- **not claimed**: a hypothesis is not met. The number is measured and shown, and says nothing about the theorem.

A control starts from the same $W(0)$ as the claim. A different start gives a different path in any case, so catching it would prove nothing. *Unbalanced factors* are $[A W_1, W_2 A^{-1}, W_3, \ldots]$ with the same product;
*depth $N + 1$* and *wrong sign* are put on one side only. The scale of a bound is derived, with a stated safety factor (3, 100) or accuracy (1e-9, 0.1): from roundoff for identities, from the measured error of the solvers for trajectories, from the theory for slopes and limits.

The two sides are the **factor flow**, a network at its own hidden widths in its own coordinates, and the **Riemannian flow**, $r$ singular triples in the [singular frame](theory.md#singular-frame), with the metric in
[spectral form](theory.md#spectral-coefficients). They share the loss and the solver, no formula of the dynamics. Gaps are relative Frobenius distances, $\lVert W_a - W_b \rVert / \lVert W_b \rVert$, and the largest over time counts.
eps is $2.2 \cdot 10^{-16}$; rtol is the tolerance of the report; other symbols as in [theory.md](theory.md#notation), written as in the reports.

`lowrankflow verify --explain NAME` prints the words below, which stand in the code beside what measures the claim; `python docs/claims.py` writes this page from them."""  # noqa: E501


class _Section(NamedTuple):
    title: str
    text: str
    claims: tuple[Statement[Any], ...]
    check: str = ""  #: goes before the names: they are no claim's own


_SECTIONS = (
    _Section("At a point", "", AT_A_POINT),
    _Section("Along the flow", "", ALONG_THE_FLOW),
    _Section("Gradient descent", "", OF_DESCENT),
    _Section(
        "The limit",
        "These are claims about theorems on limits, seen at a finite time. They need more hypotheses than the"
        " equivalence, and where those fail (real data often have deficient rank) they are shown without a verdict."
        " They are measured on the Riemannian side. Past the validity horizon, at depth 2 with wide layers, *departure*"
        " takes their place;"
        " where W separates the samples of a classification, *margin* does.",
        ABOUT_THE_LIMIT,
    ),
    _Section(
        "Metrics side by side",
        "`lowrankflow compare` and `compare_metrics` follow the flows of several metrics from one start. Most of what"
        " they report is measurement: tables and figures without a verdict, since the metrics *are* different and"
        " nothing says which one should win. Three statements hold for every metric, on every problem, and are claimed."
        " Each is measured"
        " under all metrics, and the worst one counts.",
        OF_METRICS,
    ),
    _Section(
        "A place in the landscape",
        "`lowrankflow landscape` and `place_report` say at which critical point of the square loss a network is, or is"
        " near, and"
        " measure it there.",
        LANDSCAPE,
        "landscape ",
    ),
    _Section(
        "The landscape at large",
        "`lowrankflow landscape --verify` and `verify_landscape` draw random problems and networks, and measure what"
        " the theory of the landscape says of all of them. The loss is half the sum of squares. Oracles are dense: the"
        " product rule, the Hessian"
        " of all factors from Kronecker products, singular values by numpy; they share no code with what they judge.",
        OF_THE_LANDSCAPE,
        "landscape ",
    ),
    _Section(
        "Descent and its theory",
        "`lowrankflow verify --descent` and `verify_descent` run gradient descent at the step that is proved for the data and the"
        " start, and measure every bound at every update.",
        TRAINING,
        "descent ",
    ),
    _Section(
        "A run made elsewhere",
        "`lowrankflow verify --run DIR --step h` and `follow_run` take the checkpoints of a run of training, made anywhere,"
        " and its step.",
        RUN,
        "run ",
    ),
    _Section(
        "Almost every start",
        "`lrf.batched.almost_every_start` integrates the flow of the factors from a thousand random starts in one array.",
        (almost_every_start,),
        "batched ",
    ),
    _Section(
        "Networks of scalars",
        "`lrf.scalar.verify` measures what Shamir's paper and the room `lrf.scalar` say of one-dimensional networks.",
        SCALAR,
        "scalar ",
    ),
    _Section("A loss", "Of `check_loss`, where they apply.", LOSS_CLAIMS, "check_loss "),
    _Section("A metric", "Of `check_metric`.", METRIC_CLAIMS, "check_metric "),
    _Section(
        "A manifold",
        "Of `check_manifold`, on ours and on any other of pymanopt: what a manifold does not implement is not claimed.",
        MANIFOLD_CLAIMS,
        "check_manifold ",
    ),
)


def page() -> str:
    """Return docs/claims.md."""
    parts = [_TOP]
    for section in _SECTIONS:
        parts += [f"## {section.title}", *([section.text] if section.text else [])]
        parts += _described(section.claims, section.check)
    return "\n\n".join(parts) + "\n"


def _described(claims: Iterable[Statement[Any]], check: str) -> Iterable[str]:
    for claim in claims:
        words = claim.words
        yield f"### {check}{claim.name}"
        yield f"*{markdown(words.statement)}*"
        yield markdown(words.meaning)
        yield markdown(f"Hypotheses: {words.hypotheses}. Controls: {words.controls}. Source: {words.source}.")


def markdown(text: str) -> str:
    """Return plain text as Markdown: code and links to the theory as such, all else to be read as it stands."""
    parts = re.split(r"(`[^`]*`|docs/theory\.md#[\w-]+)", text)
    return "".join(_link(part) if i % 2 else re.sub(r"([*_<])", r"\\\1", part) for i, part in enumerate(parts))


def _link(part: str) -> str:
    if part.startswith("`"):
        return part
    anchor = part.partition("#")[2]
    return f"[{anchor.replace('-', ' ')}](theory.md#{anchor})"
