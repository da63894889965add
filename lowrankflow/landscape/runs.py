"""Where a run of the square loss ended, and which plateaus it passed on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
from scipy import linalg

from .. import validation
from ..flow import Trajectory
from ..losses import Loss, facts
from ..losses.requirements import require_loss
from ..matrices import EPS, LinearNetwork, Matrix
from ..matrices.requirements import require_depth
from .modes import Seen, State, growth_beside, mode_time, set_text
from .places import groups, inversions, is_leading, margin_of
from .whitened import Whitened

__all__ = ["Ending", "Plateau", "follow", "place"]

AT = 0.1  #: distance from W_S, over that of W_S from its neighbour, up to which W is at W_S
TOWARDS = 0.5  #: and up to which it is on the way: beyond, W may as well be between the two
NEAR = 1.0  #: and up to which a run passes it
BALANCED = 1e-6  #: relative imbalance up to which the predictions for balanced factors are made
_SMALL = 0.25  # of its limit, up to which a mode is taken for dormant

MINIMISER, SADDLE, UNDECIDED = "minimiser of its rank", "saddle", "undecided"


@dataclass(frozen=True)
class Ending:
    r"""Where a run ended: the critical matrix W_S that is nearest, and how near.

    In whitened coordinates :math:`W_S = \sum_{i \in S} \sigma_i u_i v_i^T`, with the singular pairs of the whitened targets.

    Attributes
    ----------
    kind : str
        What W_S is on the matrices of its rank: "minimiser of its rank", or "saddle": S does not lead, or has fewer pairs than
        the run has rank. "undecided" where nothing can be said, and then `notes` say why.
    where : str
        "at", "on the way to", "leaving" (a saddle, from which the last steps lead away), or "undecided": W lies about as far
        from W_S as W_S does from its neighbour.
    exact : bool
        Whether the exact theory of the square loss says so; for any other loss only the gradient is known.
    index_set : tuple of int or None
        S, from 1: the pairs that W has captured. B, the whitened W, has captured a singular direction (x, y) of its own if its
        singular value is above half of the best one there, :math:`x^T Q y`; S are as many pairs, those of which B has most,
        :math:`\sigma_i u_i^T B v_i`. Of tied pairs those that come first are named.
    rank : int
        r of the run: the rank of W, or the narrowest layer.
    value, critical_value, excess : float
        The loss at the end, at W_S, and the difference, without cancellation, in the normalisation of the loss.
    distance, relative_distance : float
        Frobenius distance from W_S in whitened coordinates; over the norm of W_S, over sigma_1 where S is empty, and
        over the norm of W(0) where the targets vanish.
    index : int or None
        Negative eigenvalues of the Hessian at W_S on the matrices of its rank |S|.
    gradient : float
        Norm of the projected gradient at the end over that at the start.
    decided_by : dict
        Each number that decides, with its threshold.
    margin : float
        The factor by which the closest of them would have to change to flip the answer.
    obstruction : str
        Why W cannot come to the best matrix of its rank; empty where nothing is known to prevent it.
    notes : tuple of str
        What of the theory does not apply.
    """

    kind: str
    where: str
    exact: bool = True
    index_set: tuple[int, ...] | None = None
    rank: int = 0
    value: float = math.nan
    critical_value: float = math.nan
    excess: float = math.nan
    distance: float = math.nan
    relative_distance: float = math.nan
    index: int | None = None
    gradient: float = math.nan
    decided_by: dict[str, tuple[float, float]] = field(default_factory=dict, repr=False)
    margin: float = math.nan
    obstruction: str = ""
    notes: tuple[str, ...] = ()

    @property
    def at_minimiser(self) -> bool:
        """Whether the run ended at the best matrix of its rank."""
        return self.kind == MINIMISER and self.where == "at"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        return {
            "kind": self.kind, "where": self.where, "exact": self.exact,
            "index set": None if self.index_set is None else list(self.index_set), "rank": self.rank, "value": self.value,
            "critical value": self.critical_value, "excess": self.excess, "distance": self.distance,
            "relative distance": self.relative_distance, "index": self.index, "gradient": self.gradient,
            "decided by": {name: {"value": v, "threshold": t} for name, (v, t) in self.decided_by.items()},
            "margin": self.margin, "obstruction": self.obstruction or None, "notes": list(self.notes),
        }  # fmt: skip

    def __str__(self) -> str:
        if not self.exact or self.index_set is None:
            return "; ".join(self.notes)
        index = f" of index {self.index}" if self.kind == SADDLE and self.index else ""
        fewer = f" of rank {len(self.index_set)}" if len(self.index_set) < self.rank else ""
        what = {MINIMISER: "the minimiser of its rank", SADDLE: f"a saddle{index}{fewer}"}[self.kind]
        where = "between critical points, the nearest" if self.where == UNDECIDED else self.where
        said = (
            f"{where} {what}, S = {set_text(self.index_set)}: excess {self.excess:.3g} over the critical value"
            f" {self.critical_value:.6g}, relative distance {self.relative_distance:.2g}"
        )
        return f"{said}; {self.obstruction}" if self.obstruction else said


@dataclass(frozen=True)
class Plateau:
    r"""A critical matrix W_S that a run passed.

    Attributes
    ----------
    index_set : tuple of int
        S, from 1: the pairs that W had captured.
    critical_value : float
        The loss at W_S.
    distance : float
        Smallest Frobenius distance of W from W_S, in whitened coordinates, at the times that were kept.
    nearness : float
        That over the distance of W_S from the critical matrix with one pair more, at most 1; above 1/2 the run goes by rather
        than stands.
    highest, lowest : float
        The loss between entry and exit.
    entered, left : float
        S is nearest from the one time up to the other, found between kept points by a line; None where the run ends here.
    nearest_at : float
        Time of the smallest distance.
    order : int or None
        Order m of the saddle of balanced factors of that depth; None where depth or balance is not known.
    escape : float or None
        Observed time from the nearest point until the next pair is captured.
    predicted : float or None
        That time by theory: for the direction of steepest descent beside W_S, a dormant mode of size s and limit a,
        :math:`s' = N g s^{2-2/N} (1 - s/a)`, from the s at the nearest point to a/2. To leading order log(a/s) / (2 g) at
        depth 2, and :math:`s^{-(N-2)/N} / ((N-2) g)` beyond.
    prediction : str
        Whether its assumptions hold, or why there is none.
    """

    index_set: tuple[int, ...]
    critical_value: float
    distance: float
    nearness: float
    highest: float
    lowest: float
    entered: float
    left: float | None
    nearest_at: float
    order: int | None = None
    escape: float | None = None
    predicted: float | None = None
    prediction: str = ""

    @property
    def rank(self) -> int:
        return len(self.index_set)

    @property
    def leads(self) -> bool:
        """Whether S is {1, ..., r}."""
        return self.index_set == tuple(range(1, self.rank + 1))


@validation.quietly
def place(path: Trajectory, loss: Loss) -> Ending:
    r"""Say where a run ended: at which critical matrix of the square loss, how near, minimiser or saddle.

    Parameters
    ----------
    path : Trajectory
        Of the Riemannian flow, of the factor flow, or of gradient descent, with its last point.
    loss : Loss
        That of the run. `LeastSquares` for the exact theory [1]_; for any other loss the gradient is reported, no more.

    Returns
    -------
    Ending

    Raises
    ------
    ValueError, TypeError
        If the path has no points, or they do not fit the loss.

    References
    ----------
    .. [1] B. Bah, H. Rauhut, U. Terstiege, M. Westdickenberg, Learning deep linear neural networks: Riemannian gradient flows
       and convergence to global minimizers, Information and Inference 11(1), 2022.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(2), np.diag([2.0, 1.0]))
    >>> path = lrf.gradient_descent(loss, lrf.LinearNetwork.identity((2, 2), 2, widths=2), step_size=0.1, steps=200)
    >>> here = place(path, loss)
    >>> here.where, here.kind, here.index_set, here.critical_value
    ('at', 'minimiser of its rank', (1, 2), 0.0)
    """
    seen, points = _checked(path, loss)
    value, first = float(path.loss[-1]), float(path.stationarity[0])
    gradient = float(path.stationarity[-1]) / first if first > 0 else float(path.stationarity[-1])
    rank = _rank(points[-1])
    here = Ending(UNDECIDED, UNDECIDED, exact=seen is not None, rank=rank, value=value, gradient=gradient)
    if seen is None:
        why = f"no exact theory for this loss: its gradient is {gradient:.2g} of that at the start, which is all that is said"
        return replace(here, notes=(why,))
    last = seen.look(points[-1])
    if last is None:
        return replace(here, notes=("the last W is not finite",))
    problem, s = seen.problem, last.index_set
    best = len(s) == min(rank, problem.target_rank) and is_leading(problem, s)
    # targets that vanish have no scale and one critical matrix, zero: it is the start that W leaves
    first_norm = seen.whiten(points[0]).norm() if not seen.sigma.size else 0.0
    neighbour = seen.neighbour(s, rank) if seen.sigma.size else first_norm
    ratio = last.distance / neighbour if neighbour > 0 else (0.0 if last.distance == 0 else math.inf)
    where = "at" if ratio <= AT else "on the way to" if ratio <= TOWARDS else UNDECIDED
    if where == "on the way to" and not best and _recedes(seen, points, last):
        where = "leaving"
    decided = {
        "distance over that of its neighbour": (max(ratio, EPS), AT if ratio <= math.sqrt(AT * TOWARDS) else TOWARDS)
    }
    half = last.captured[int(np.argmin(np.abs(last.captured - 0.5)))] if last.captured.size else 0.0
    off = float(1 - half if half > 0.5 else half)
    decided["direction captured, off 0 or 1 towards the other"] = (max(off, EPS), 0.5)
    norm = float(linalg.norm(problem.spectrum.sigma[list(s)])) if s else float(problem.spectrum.sigma[0]) or first_norm
    return replace(
        here, kind=MINIMISER if best else SADDLE, where=where, index_set=tuple(i + 1 for i in s),
        critical_value=problem.value(s), excess=last.excess, distance=last.distance,
        relative_distance=last.distance / norm if norm > 0 else last.distance, index=inversions(problem, s),
        decided_by=decided, margin=margin_of(decided), obstruction=_obstruction(problem, loss, points[0], rank, best),
        notes=_notes(problem),
    )  # fmt: skip


@validation.quietly
def follow(path: Trajectory, loss: Loss, *, depth: float | None = None) -> tuple[Plateau, ...]:
    r"""Return the plateaus that a run of the square loss passed, in order.

    S is read from what W has captured, as in `Ending`. W_S counts as passed if W comes nearer to it than it lies to the
    critical matrix with the next pair more. Values of the loss have no say: nearly every one is close to some critical
    value. The best matrix of the rank of the run is no plateau; a saddle at which the run ends is one, with ``left`` None.

    Parameters
    ----------
    path : Trajectory
        Of the Riemannian flow, of the factor flow, or of gradient descent; what lies between kept points is not seen.
    loss : Loss
    depth : float, optional
        N of the flow, for orders and predictions; None: that of the networks, none for other points.

    Returns
    -------
    tuple of Plateau
        Empty for a loss that is no square loss.

    Raises
    ------
    ValueError, TypeError
        As of `place`, or if the depth is no depth.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(2), np.diag([2.0, 1.0]))
    >>> start = lrf.random_point(2, 2, 2, rng=0, singular_values=[1e-4, 1e-4])
    >>> path = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), start, t_span=(0, 20))
    >>> [(p.index_set, p.critical_value, p.order) for p in follow(path, loss, depth=3)]
    [((), 2.5, 3), ((1,), 0.5, 3)]
    """
    seen, points = _checked(path, loss)
    depth = None if depth is None else require_depth(depth)
    if seen is None:
        return ()
    looked = [seen.look(w) for w in points]
    states = [(i, state) for i, state in enumerate(looked) if state is not None]
    rank, problem = max(map(_rank, points)), seen.problem
    known = _flow_depth(points[0], depth)
    found: list[Plateau] = []
    for s, members in groupby(states, key=lambda at: at[1].index_set):
        stay = list(members)
        if len(s) >= min(rank, problem.target_rank) and is_leading(problem, s):
            continue
        at, nearest = min(stay, key=lambda state: state[1].distance)
        scale = seen.next_pair(s)
        if not nearest.distance <= NEAR * scale:
            continue
        first, after = stay[0][0], stay[-1][0] + 1
        entered = _crossing(path, looked, first) if first > 0 else float(path.t[0])
        left = _crossing(path, looked, after) if after < len(points) else None
        values = path.loss[first:after]
        plateau = Plateau(
            tuple(i + 1 for i in s), problem.value(s), nearest.distance, nearest.distance / scale, float(values.max()),
            float(values.min()), entered, left, float(path.t[at]), _order(problem, s, known),
            None if left is None else left - float(path.t[at]),
        )  # fmt: skip
        plateau = _predicted(plateau, seen, points[at], s, rank, known)
        if found and found[-1].index_set == plateau.index_set:
            plateau = _joined(found.pop(), plateau)
        found.append(plateau)
    return tuple(found)


def _crossing(path: Trajectory, looked: Sequence[State | None], i: int) -> float:
    """Return when S changes between the kept times i - 1 and i: on a line, or half way where only its members do."""
    before, now, t = looked[i - 1], looked[i], path.t
    if before is None or now is None:
        return float(t[i])
    k = min(len(before.index_set), len(now.index_set))
    a, b = (float(state.captured[k]) if k < state.captured.size else 0.0 for state in (before, now))
    part = (0.5 - a) / (b - a) if (a > 0.5) != (b > 0.5) else 0.5
    return float(t[i - 1] + part * (t[i] - t[i - 1]))


def _checked(path: Trajectory, loss: Loss) -> tuple[Seen | None, Sequence[Any]]:
    """Return the pairs of the targets, None for a loss without, and the points."""
    if not isinstance(path, Trajectory):
        raise TypeError(f"`path` must be a Trajectory, got {validation.describe(path)}.")
    require_loss(loss)
    if not path.points:
        raise ValueError("`path` must have kept W, got a trajectory without points.")
    validation.require_shape("path.points[0]", path.points[0].shape, loss.shape)
    said = facts(loss)
    known = said.spectrum is not None and said.whiten is not None
    return (Seen(Whitened.of(loss), loss) if known else None), path.points


def _rank(w: Any) -> int:
    return int(min(*w.shape, *w.widths) if isinstance(w, LinearNetwork) else w.rank)


def _recedes(seen: Seen, points: Sequence[Any], last: State) -> bool:
    """Whether the last kept step led away from W_S."""
    before = seen.look(points[-2]) if len(points) > 1 else None
    return before is not None and before.index_set == last.index_set and before.distance < last.distance


def _obstruction(problem: Whitened, loss: Loss, start: Any, rank: int, best: bool) -> str:
    """Say that the sign of det W keeps a square W of full rank from the best matrix, where it does."""
    m, n = problem.size
    if m != n or rank < n or problem.target_rank < n or best:
        return ""
    if isinstance(start, LinearNetwork) and not start.relative_imbalance() <= BALANCED:
        return ""  # the sign is kept along balanced factors
    minimiser = facts(loss).minimiser
    assert minimiser is not None
    signs = [np.linalg.slogdet(w.to_dense())[0] for w in (start, minimiser(n))]
    if signs[0] * signs[1] >= 0:
        return ""
    words = ["positive" if sign > 0 else "negative" for sign in signs]
    return f"the flow keeps the sign of det W, {words[0]} at the start; that of the best matrix is {words[1]}"


def _notes(problem: Whitened) -> tuple[str, ...]:
    found = []
    if problem.unseen:
        found.append("inputs without full rank: what no sample has was left out")
    if problem.target_rank < problem.shape[0]:
        found.append(f"whitened targets of rank {problem.target_rank}: that is the largest rank of use")
    if any(len(g) > 1 for g in groups(problem)):
        found.append("equal singular values of the whitened targets: of tied pairs the first are named")
    return tuple(found)


def _flow_depth(first: Any, depth: float | None) -> float | None:
    """Return the depth of the flow of balanced factors; None where it is not known, or they are not balanced."""
    if isinstance(first, LinearNetwork):
        return float(first.depth) if first.depth > 1 and first.relative_imbalance() <= BALANCED else None
    return depth


def _order(problem: Whitened, s: Sequence[int], depth: float | None) -> int | None:
    """Return the order of the saddle at balanced factors of W_S: 2 where S does not lead, else the depth."""
    if not is_leading(problem, s):
        return 2
    return int(depth) if depth is not None and math.isfinite(depth) and float(depth).is_integer() else None


def _predicted(plateau: Plateau, seen: Seen, w: Matrix, s: Sequence[int], rank: int, depth: float | None) -> Plateau:
    """Return a plateau with the time at which theory expects the run to leave it."""
    if depth is None or not math.isfinite(depth):
        return replace(plateau, prediction="none: the depth of balanced factors is not known")
    if len(s) >= rank:
        return replace(plateau, prediction="none: W leaves by an exchange of pairs, whose time depends on the way in")
    growth = growth_beside(seen, w, s, depth)
    if not 0 < growth.size <= _SMALL * growth.limit:
        return replace(plateau, prediction="none: the next mode is not small and positive at the nearest point")
    if not growth.aligned and depth > 2:
        return replace(
            plateau, prediction="none: several dormant modes are mixed, and beyond depth 2 that has no closed form"
        )
    exact = growth.aligned and growth.isotropic
    if not growth.aligned and depth > 2:
        return replace(
            plateau, prediction="none: several dormant modes are mixed, and beyond depth 2 that has no closed form"
        )
    if not exact and plateau.nearness > TOWARDS:
        return replace(plateau, prediction="none: W does not come near enough for the leading order")
    words = "closed form for one mode: whitened inputs, and W aligned with the pairs" if exact else "to leading order"
    return replace(plateau, predicted=mode_time(depth, growth.rate, growth.size, growth.limit), prediction=words)


def _joined(a: Plateau, b: Plateau) -> Plateau:
    """Return one plateau in place of two visits without another between them."""
    near = a if a.distance <= b.distance else b
    escape = None if b.left is None else b.left - near.nearest_at
    return replace(
        near,
        highest=max(a.highest, b.highest),
        lowest=min(a.lowest, b.lowest),
        entered=a.entered,
        left=b.left,
        escape=escape,
    )
