"""The tables and figures of metrics side by side: they take courses and integrate nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from ..claims.courses import Course
from ..claims.gaps import curve, gap
from ..claims.limits import set_text
from ..landscape import Climb, staircase
from ..losses import Loss, facts
from ..matrices import LowRankMatrix, Matrix
from ..metrics import DepthMetric
from ..report import Cell, Curve, Figure, Table
from ..validation import Array
from .courses import Modes

_SAME = 0.01  # relative distance of two ends that count as one limit
_LEARNED = 0.05  # relative distance from the sum over J that lets J be named
_DEPTH = (
    "By the clock of its factors depth N moves a mode at N sigma^(2-2/N): below singular values of 1 more depth slows it"
    " down, above 1 it speeds it up; the clock of the operator takes that scale out. The order depends on the data and the"
    " start as well: this is what was seen here, no law."
)
_FROZEN = (
    "A metric marked degenerate is so below full rank: the row and column spaces stay those of the start, and only the"
    " r x r block can move."
)


def tables(courses: list[Course], modes: Modes | None, loss: Loss) -> list[Table]:
    """Return the tables: where each flow ends, what it costs, how far the ends lie apart, and the modes."""
    found = [_limits(courses, loss), _cost(courses)]
    if len(courses) > 1:
        found.append(_distances(courses))
    if modes is not None:
        found += [_modes(courses, 0), _modes(courses, 1)]
    return found


def groups(courses: list[Course], loss: Loss) -> list[str]:
    """Return a letter for the limit of each flow that came to rest, the same one where a chain of near ends joins them."""
    whiten = facts(loss).whiten if Modes.known(loss) else None

    def seen(w: LowRankMatrix) -> Matrix:
        return w if whiten is None else whiten(w)

    rested = [course for course in courses if course.ending in ("gradient", "stalled")]
    letters: dict[int, str] = {}
    for course in rested:
        if id(course) in letters:
            continue
        chain, letter = [course], _letter(len(set(letters.values())))
        while chain:
            member = chain.pop()
            letters[id(member)] = letter
            near = (c for c in rested if id(c) not in letters and gap(seen(c.end), seen(member.end)) <= _SAME)
            chain += list(near)
    return [letters.get(id(course), "-") for course in courses]


def _letter(i: int) -> str:
    return chr(ord("A") + i) if i < 26 else f"{i + 1}"


def _limits(courses: list[Course], loss: Loss) -> Table:
    columns = ["metric", "ended by", "loss", "limit"]
    known = Modes.known(loss)
    if known:
        every = Modes(loss)
        columns += ["J", "from J"]
    columns += ["gradient", "rank, nuclear", "rank, entropy"]
    for name in courses[0].measures:
        columns += [name, f"{name}, least"]
    rows = []
    for course, letter in zip(courses, groups(courses, loss), strict=True):
        row: list[Cell] = [course.label, course.ending, float(course.loss[-1]), letter]
        if known:
            j, apart = every.learned(course.end)
            row += [set_text(j) if j and apart <= _LEARNED else "none", apart]
        row.append(float(course.projected[-1] / course.projected[0]))
        row += [float(course.effective_rank[-1]), float(course.entropy_rank[-1])]
        for values in course.measures.values():
            row += [float(values[-1]), float(values.min())]
        rows.append(tuple(row))
    caption = (
        f"Limit: a chain of ends nearer than {_SAME:g}, relative, shares a letter; none where the flow had not come to rest."
        " Gradient: Frobenius norm of the projected gradient"
        " over that at the start, one ruler for all. Rank: nuclear over spectral norm of W; exp of the entropy of its"
        " singular values."
    )
    if known:
        caption += (
            " Ends are compared, here, as whitened matrices, that is by what they predict."
            " J: the singular pairs of the whitened targets that W has learnt by half or more, named where W is within"
            f" {_LEARNED:g} of their sum; from J: the distance from that sum, relative."
        )
    caption += _frozen(courses)
    return Table("limits", "Where each flow ends", caption, tuple(columns), tuple(rows))


def _frozen(courses: list[Course]) -> str:
    text = f" {_FROZEN}" if any(course.degenerate for course in courses) else ""
    if any(isinstance(course.metric, DepthMetric) and course.metric.depth < 2 for course in courses):
        text += " Below depth 2 the frames turn at a speed that is not bounded as a singular value vanishes."
    return text


def _cost(courses: list[Course]) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            course.label, course.coefficient, float(course.time[-1]), float(course.length[-1]),
            float(course.length[-1] / max(gap(course.end, course.start) * course.start.norm(), 1e-300)),
            course.path.nfev, course.path.nsteps, course.seconds / courses[0].seconds,
            ", ".join(dict.fromkeys(re.findall(r"DOP853|ROCK4|RKC", course.path.method))),
        )
        for course in courses
    )  # fmt: skip
    columns = (
        "metric",
        "coefficient",
        "time",
        "arc length",
        "over chord",
        "gradients",
        "steps",
        "time ratio",
        "methods",
    )
    caption = (
        "Coefficient: the largest of A at the start. Time: of the clock that was chosen. Arc length: of W, in the"
        " Frobenius norm; over the distance from start to end. Time ratio: of the run, to the first metric."
    )
    return Table("cost", "What the way costs", caption, columns, rows)


def _distances(courses: list[Course]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (a.label, *(gap(b.end, a.end) if a is not b else 0.0 for b in courses)) for a in courses
    ]
    caption = (
        "||W_column - W_row|| / ||W_row|| in the Frobenius norm, at the ends. Flows with one limit can still lie apart in"
        " directions that the data hardly see, where the loss is flat and all are slow."
    )
    return Table(
        "distances", "How far the ends lie apart", caption, ("metric", *(c.label for c in courses)), tuple(rows)
    )


def _modes(courses: list[Course], what: int) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (f"mode {i + 1}", *(half[what] if half is not None else None for half in halves))
        for i, halves in enumerate(zip(*(course.halves for course in courses), strict=True))
    ]
    if what == 0:
        rows.append(("order", *(" ".join(map(str, course.order)) or "-" for course in courses)))
        title, name = "When each mode is learnt", "modes"
        caption = (
            "Time at which W first holds half of each singular pair of the whitened targets, the strongest first; the last"
            f" row is the order in which that happens. {_DEPTH}"
        )
    else:
        title, name = "At which loss each mode is learnt", "mode_losses"
        caption = "The loss at that moment, which no clock can distort."
    return Table(name, title, caption, ("mode", *(course.label for course in courses)), tuple(rows))


# ----------------------------------------------------------------------------------------------------------------------
# figures


def figures(courses: list[Course], modes: Modes | None, loss: Loss, clock: str) -> list[Figure]:
    """Return the data of the pictures."""
    excess, ylabel = _excess(courses, loss)
    time = "time, by the largest coefficient at the start" if clock == "operator" else "time of the factors"
    first = courses[0].label
    found = [
        _singular_values(courses),  # first: what no clock can distort
        Figure(
            "loss_time", "Loss against time", f"By the clock that was chosen ({clock}); flow time alone can be stretched"
            " at will, so compare with the next two.", time, ylabel,
            _curves(courses, lambda c: c.time[1:], lambda c: excess(c)[1:]), "log", "log",
        ),
        Figure(
            "loss_length", "Loss against arc length", "How far W has gone, in the Frobenius norm: a length of the path,"
            " whatever the clock.", "Frobenius arc length of W", ylabel,
            _curves(courses, lambda c: c.length, excess), "linear", "log",
        ),
        Figure(
            "loss_evaluations", "Loss against gradient evaluations", "What was paid, at one tolerance and by methods"
            f" chosen by measured stiffness. Time ratios to {first} stand in the table.", "gradient evaluations", ylabel,
            _curves(courses, lambda c: c.evaluations[1:], lambda c: excess(c)[1:]), "log", "log",
        ),
        Figure(
            "effective_rank", "Effective rank on the way", "Nuclear over spectral norm of W, against the share of the"
            " deepest fall of the loss: a picture of the path alone.", _FALLEN, "nuclear / spectral norm",
            _curves(courses, lambda c: _fallen(courses, c), lambda c: c.effective_rank),
        ),
        Figure(
            "gradient", "Projected gradient against evaluations", "Frobenius norm of the projected gradient over its start,"
            " the same for all metrics: peaks are saddles that were left." + _frozen(courses), "gradient evaluations",
            "projected gradient, relative",
            _curves(courses, lambda c: c.evaluations[1:], lambda c: (c.projected / c.projected[0])[1:]), "log", "log",
        ),
    ]  # fmt: skip
    if any(course.plateaus for course in courses):
        runs = [Climb(c.label, c.path.t, c.loss, c.plateaus, 1 / c.factor) for c in courses]
        found.insert(1, staircase(runs, time))
    if courses[0].path.singular_values.shape[1] == 1:  # of rank one: a constant
        found = [figure for figure in found if figure.name != "effective_rank"]
    if modes is not None and modes.count > 1:
        found[4:4] = [
            Figure(
                "modes", "When each mode is learnt", f"Time at which half of a mode is learnt. {_DEPTH}",
                "mode, the strongest first", time, _half_curves(courses, 0), "linear", "log",
            ),
            Figure(
                "mode_losses", "At which loss each mode is learnt", "The share of the deepest fall of the loss that is done"
                " when half of a mode is learnt; lines that rise learn the modes in their order.",
                "mode, the strongest first", _FALLEN, _half_curves(courses, 1),
            ),
        ]  # fmt: skip
    for name in courses[0].measures:
        found.append(
            Figure(
                f"measure_{name}", name[:1].upper() + name[1:], "Along each path, against the share of the deepest fall of"
                " the loss.", _FALLEN, name,
                _curves(courses, lambda c: _fallen(courses, c), partial(_measure, name)),
            )
        )  # fmt: skip
    return found


_FALLEN = "share of the deepest fall of the loss"


def _measure(name: str, course: Course) -> Array:
    return course.measures[name]


def _curves(courses: list[Course], x: Callable[[Course], Array], y: Callable[[Course], Array]) -> list[Curve]:
    return [curve(c.label, x(c), y(c), "one") for c in courses]


def _excess(courses: list[Course], loss: Loss) -> tuple[Callable[[Course], Array], str]:
    """Return what to draw on a logarithmic axis: the loss above the best of the rank where that is known."""
    least = min(float(c.loss.min()) for c in courses)
    best = facts(loss).best_value
    if best is not None:
        floor = float(best(courses[0].end.rank))
        return lambda c: c.loss - floor, "loss above the best of that rank"
    if least > 0:
        return lambda c: c.loss, "loss"
    return lambda c: c.loss - least, "loss above the least seen"


def _fallen(courses: list[Course], course: Course, loss: ArrayLike | None = None) -> Array:
    """Return (L(0) - L) over the deepest fall of all flows."""
    values = course.loss if loss is None else np.asarray(loss, dtype=float)
    deepest = max((c.fall for c in courses if c.fall > 0), default=1.0)
    return (course.loss[0] - values) / deepest


def _singular_values(courses: list[Course]) -> Figure:
    shown = min(courses[0].end.rank, 3 if len(courses) <= 6 else 2)
    curves = [
        curve(c.label if k == 0 else "", _fallen(courses, c), c.singular_values[:, k], "one")
        for c in courses
        for k in range(shown)
    ]
    curves[:shown] = [
        replace(c, mark=f"$\\sigma_{k + 1}$") for k, c in enumerate(curves[:shown])
    ]  # of the first metric
    return Figure(
        "singular_values", "Singular values against the loss",
        f"The {shown} largest of each W against the share of the deepest fall of the loss: a picture of the path alone,"
        " which no clock can distort.", _FALLEN, "singular values of W", curves, "linear", "log",
    )  # fmt: skip


def _half_curves(courses: list[Course], what: int) -> list[Curve]:
    found = []
    for c in courses:
        reached = [(i + 1.0, half[what]) for i, half in enumerate(c.halves) if half is not None]
        x, y = (list(v) for v in zip(*reached, strict=True)) if reached else ([], [])
        found.append(curve(c.label, x, _fallen(courses, c, y) if what else y, "one"))
    return found
