"""Where a run of the square loss ended, and which plateaus it passed on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg, special
from scipy.sparse.linalg import svds

from .. import validation
from ..flow import Trajectory
from ..losses import Loss, facts
from ..losses.requirements import require_loss
from ..matrices import EPS, LinearNetwork, Matrix, Product
from ..matrices.requirements import require_depth
from ..report import Curve, Figure
from ..validation import Array
from .places import groups, inversions, is_leading, margin_of
from .whitened import Whitened

__all__ = ["Climb", "Ending", "Plateau", "follow", "place", "staircase"]

AT = 0.1  #: distance from W_S, over that of W_S from its neighbour, up to which W is at W_S
TOWARDS = 0.5  #: and up to which it is on the way: beyond, W may as well be between the two
NEAR = 1.0  #: and up to which a run passes it
BALANCED = 1e-6  #: relative imbalance up to which the predictions for balanced factors are made
_ISOTROPIC = 1e-8  # relative difference of the eigenvalues of whitened inputs
_ALIGNED = 1e-2  # of what is dormant, beside the direction that grows, relative to it
_DENSE = 300  # pairs up to which all are computed where one is looked for
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
            f"{where} {what}, S = {_set_text(self.index_set)}: excess {self.excess:.3g} over the critical value"
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
    >>> path = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), start, t_span=(0, 300))
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


class Climb(NamedTuple):
    """A run as the picture shows it."""

    label: str
    t: Array
    loss: Array
    plateaus: Sequence[Plateau]
    unit: float = 1.0  #: of the times of `t` and of the plateaus, which are divided by it


def staircase(runs: Sequence[Climb], time: str = "t") -> Figure:
    """Return the picture of one run, or of several: loss against time, and the plateaus as lines with their names.

    Parameters
    ----------
    runs : sequence of Climb
        With a plateau in one of them at least.
    time : str
        What the axis of times says.
    """
    several = len(runs) > 1
    curves = [Curve(r.label, (r.t[1:] / r.unit).tolist(), r.loss[1:].tolist(), "one" if several else "a") for r in runs]
    start = min(float(r.t[1]) / r.unit for r in runs if r.t.size > 1)
    end = max(float(r.t[-1]) / r.unit for r in runs)
    shown: dict[tuple[int, ...], Plateau] = {}
    for r in runs:
        for p in r.plateaus:
            shown.setdefault(p.index_set, p)
        if not several:
            at = [max(p.nearest_at / r.unit, start) for p in r.plateaus]
            values = np.interp(at, r.t / r.unit, r.loss).tolist()
            curves.append(Curve("nearest to a saddle", at, values, "b", points=True))
    label = "" if several else "critical values of the saddles"
    for p in shown.values():
        mark = f"rank {p.rank}" if p.leads and p.rank != 1 else f"S = {_set_text(p.index_set)}"
        curves.append(Curve(label, [start, end], [p.critical_value] * 2, "guide", mark=mark))
    caption = (
        "Loss against time, with the critical values of the saddles that W came near to. S names the singular pairs of the"
        " whitened targets that W had captured there; rank r is S = {1, ..., r}. S is read from W, not from the loss."
    )
    title = "The staircase: which plateaus " + ("the runs passed" if several else "the run passed")
    return Figure("staircase", title, caption, time, "loss", curves, "log")


def _set_text(indices: Sequence[int]) -> str:
    """Return S as people write it, four neighbours or more by the first and the last: {1, ..., 8, 10}."""
    runs: list[list[int]] = []
    for i in indices:
        if runs and i == runs[-1][-1] + 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return "{" + ", ".join(f"{r[0]}, ..., {r[-1]}" if len(r) > 3 else ", ".join(map(str, r)) for r in runs) + "}"


# ---------------------------------------------------------------------------------------------------------------------
# what W has captured


class _State(NamedTuple):
    index_set: tuple[int, ...]  # from 0
    overlaps: Array
    captured: Array
    distance: float
    excess: float


class _Seen:
    """The singular pairs of the whitened targets, and what a W has of them; nothing m x n is formed."""

    def __init__(self, problem: Whitened, loss: Loss) -> None:
        whiten = facts(loss).whiten
        assert whiten is not None
        self.problem, self.whiten, t = problem, whiten, problem.target_rank
        self.u, self.v = problem.spectrum.u[:, :t], problem.spectrum.vt[:t].T
        self.sigma = problem.spectrum.sigma[:t]
        self.tied = [g for g in groups(problem) if len(g) > 1]

    def look(self, w: Matrix) -> _State | None:
        """Return S, the overlaps and the distance of W from W_S; None where W is not finite."""
        left, right = self.whiten(w).split()
        if not (np.isfinite(left).all() and np.isfinite(right).all()):
            return None
        up, down = self.u.T @ left, right @ self.v
        overlaps = np.einsum("ik,ki->i", up, down) / self.sigma
        u, v = self.u, self.v
        for g in self.tied:  # any basis of a group will do: the one in which W is diagonal there
            block = up[g] @ down[:, g] / self.sigma[g[0]]
            values, turn = linalg.eigh(0.5 * (block + block.T), check_finite=False)
            u = u.copy() if u is self.u else u
            v = v.copy() if v is self.v else v
            u[:, g], v[:, g] = u[:, g] @ turn[:, ::-1], v[:, g] @ turn[:, ::-1]
            overlaps[g] = values[::-1]
        captured = self._captured(left, right)
        count = min(int((captured > 0.5).sum()), overlaps.size)
        s = np.sort(np.argsort(-(self.sigma**2) * overlaps, kind="stable")[:count])
        chosen = np.zeros(overlaps.size, dtype=bool)
        chosen[s] = True
        apart = Product(np.hstack([left, -u[:, s] * self.sigma[s]]), np.vstack([right, v[:, s].T]))
        distance = apart.norm()
        # ||B - Q||^2 / 2 - ||B_S - Q||^2 / 2 with B - B_S = D: ||D||^2 / 2 - <D, Q - B_S>
        excess = 0.5 * distance**2 - float((self.sigma[~chosen] ** 2 * overlaps[~chosen]).sum())
        return _State(tuple(int(i) for i in s), overlaps, captured, distance, excess)

    def _captured(self, left: Array, right: Array) -> Array:
        """Return how much of each singular direction (x, s, y) of B = left right is captured, decreasing; 1 at a critical point.

        The size over the best size along it, s / x^T Q y, or (x^T Q y)^2 / (||Q^T x|| ||Q y||) if less: whether it is one of Q.
        """
        if not self.sigma.size:
            return np.zeros(0)
        (q, upper), (p, lower) = (linalg.qr(a, mode="economic", check_finite=False) for a in (left, right.T))
        x, s, yt = linalg.svd(upper @ lower.T, full_matrices=False, check_finite=False)
        sigma = self.sigma[:, None]
        x, y = sigma * (self.u.T @ (q @ x)) / sigma[0], sigma * (self.v.T @ (p @ yt.T)) / sigma[0]
        best = np.maximum((x * y * sigma[0] / sigma).sum(axis=0), 0.0)  # over sigma_1, as the norms
        norms = linalg.norm(x, axis=0) * linalg.norm(y, axis=0)
        size, along = np.zeros_like(s), np.zeros_like(s)
        seen = norms > EPS**2
        np.divide(s / sigma[0], best, out=size, where=seen & (best > EPS))
        np.divide(best**2, norms, out=along, where=seen)
        return np.sort(np.minimum(size, along))[::-1]

    def next_pair(self, s: Sequence[int]) -> float:
        """Return the largest singular value that is not in S: the distance from W_S to the critical matrix with it."""
        left = [float(x) for i, x in enumerate(self.sigma) if i not in s]
        return max(left, default=0.0)

    def neighbour(self, s: Sequence[int], rank: int) -> float:
        """Return the distance from W_S to the nearest critical matrix that a run of this rank may mean instead.

        With the least pair less or, below that rank, with the next one more.
        """
        less = [float(self.sigma[i]) for i in s]
        more = [self.next_pair(s)] if len(s) < min(rank, self.sigma.size) else []
        return min([*less, *more], default=0.0)


def _crossing(path: Trajectory, looked: Sequence[_State | None], i: int) -> float:
    """Return when S changes between the kept times i - 1 and i: on a line, or half way where only its members do."""
    before, now, t = looked[i - 1], looked[i], path.t
    if before is None or now is None:
        return float(t[i])
    k = min(len(before.index_set), len(now.index_set))
    a, b = (float(state.captured[k]) if k < state.captured.size else 0.0 for state in (before, now))
    part = (0.5 - a) / (b - a) if (a > 0.5) != (b > 0.5) else 0.5
    return float(t[i - 1] + part * (t[i] - t[i - 1]))


def _checked(path: Trajectory, loss: Loss) -> tuple[_Seen | None, list[Any]]:
    """Return the pairs of the targets, None for a loss without, and the points."""
    if not isinstance(path, Trajectory):
        raise TypeError(f"`path` must be a Trajectory, got {validation.describe(path)}.")
    require_loss(loss)
    if not path.points:
        raise ValueError("`path` must have kept W, got a trajectory without points.")
    validation.require_shape("path.points[0]", path.points[0].shape, loss.shape)
    said = facts(loss)
    known = said.spectrum is not None and said.whiten is not None
    return (_Seen(Whitened.of(loss), loss) if known else None), path.points


def _rank(w: Any) -> int:
    return int(min(*w.shape, *w.widths) if isinstance(w, LinearNetwork) else w.rank)


def _recedes(seen: _Seen, points: Sequence[Any], last: _State) -> bool:
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


# ---------------------------------------------------------------------------------------------------------------------
# orders and times


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


def _predicted(plateau: Plateau, seen: _Seen, w: Matrix, s: Sequence[int], rank: int, depth: float | None) -> Plateau:
    """Return a plateau with the time at which theory expects the run to leave it."""
    if depth is None or not math.isfinite(depth):
        return replace(plateau, prediction="none: the depth of balanced factors is not known")
    if len(s) >= rank:
        return replace(plateau, prediction="none: W leaves by an exchange of pairs, whose time depends on the way in")
    growth = _growth(seen, w, s, depth)
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


class _Growth(NamedTuple):
    rate: float  # g, the largest singular value of the gradient beside W_S
    size: float  # of W along that pair
    limit: float
    aligned: bool  # whether that pair is, for what W has beside W_S, a singular pair
    isotropic: bool


def _growth(seen: _Seen, w: Matrix, s: Sequence[int], depth: float) -> _Growth:
    r"""Return what grows beside W_S: the top singular pair (x, y) of the gradient there, off the row and column spaces of W_S.

    At depth 2 balanced factors of the dormant part :math:`U S V^T` grow by :math:`S^{1/2} (U^T x + V^T y) / 2` alone, so that
    its squared norm is the size; :math:`x^T U S V^T y` where W is aligned, and beyond depth 2. (derived)
    """
    spectrum, chosen = seen.problem.spectrum, list(s)
    root = np.sqrt(spectrum.eigenvalues)
    others = [i for i in range(seen.sigma.size) if i not in s]
    left, right = w.split()
    inside = linalg.qr(seen.v[:, chosen] / root[:, None], mode="economic")[0] if chosen else np.zeros((root.size, 0))

    def beside(rows: Array) -> Array:
        return np.asarray(rows - (rows @ inside) @ inside.T)

    top, rate, y = _top(beside(seen.sigma[others, None] * seen.v[:, others].T * root))
    x = seen.u[:, others] @ top
    q, upper = linalg.qr(left - seen.u[:, chosen] @ (seen.u[:, chosen].T @ left), mode="economic")
    u, size, vt = linalg.svd(upper @ beside(right @ spectrum.basis), full_matrices=False)
    along, across = (q @ u).T @ x, vt @ y
    known = float((along * size) @ across)
    off = math.hypot(float(linalg.norm(size * along)), float(linalg.norm(size * across)))
    aligned = off**2 - 2 * known**2 <= 2 * _ALIGNED**2 * known**2
    if depth == 2:
        known = 0.25 * float((size * (along + across) ** 2).sum())
    curvature = float((spectrum.eigenvalues * y**2).sum())
    isotropic = not seen.problem.unseen and bool(np.ptp(spectrum.eigenvalues) <= _ISOTROPIC * spectrum.eigenvalues[0])
    return _Growth(rate, known, rate / curvature, aligned, isotropic)


def _top(a: Array) -> tuple[Array, float, Array]:
    """Return the first singular pair of an array, of a large one by iteration."""
    if min(a.shape) <= _DENSE:
        x, s, yt = linalg.svd(a, full_matrices=False, check_finite=False)
    else:
        start = np.random.default_rng(0).standard_normal(min(a.shape))  # fixed: the answer must not vary between calls
        top = float(np.abs(a).max())
        found = svds(a / top, k=1, v0=start, tol=1e-8)
        return found[0][:, 0], top * float(found[1][0]), found[2][0]
    return x[:, 0], float(s[0]), yt[0]


def mode_time(depth: float, rate: float, size: float, limit: float) -> float:
    r"""Return the time in which :math:`s' = N g s^{2-2/N} (1 - s/a)` takes a mode from a size to a/2.

    At depth 2 the logistic law, :math:`\log((a - s)/s) / (2 g)`. Beyond, with p = 2 - 2/N and F(s) = :math:`s^{1-p}/(1-p)\,
    {}_2F_1(1, 1-p; 2-p; s/a)`, :math:`(F(a/2) - F(s)) / (N g)`. (derived)

    Parameters
    ----------
    depth : float
        N, 2 or more.
    rate : float
        g, the norm of the gradient in the direction of the mode while it is dormant.
    size, limit : float
        s and a.
    """
    share = size / limit
    if depth == 2:
        return math.log((1 - share) / share) / (2 * rate)
    p = 2 - 2 / depth

    def integral(x: float) -> float:
        return float(x ** (1 - p) / (1 - p) * special.hyp2f1(1.0, 1 - p, 2 - p, x))

    return limit ** (1 - p) * (integral(0.5) - integral(share)) / (depth * rate)


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
