"""A random problem of `verify_equivalence` from its number, and the claims whose hypotheses hold there by construction.

Two in five are *plain*: full-rank, well-conditioned data, generic balanced starts, ample budgets, and then *not claimed* is
no way out. The others are *hostile*: anything that a user may bring.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow.losses import facts

from .losses import LOSSES, Draw

__all__ = ["Problem", "draw", "plain"]

PLAIN_LOSSES = {"well conditioned": 0.6, "LogCosh of inputs": 0.15, "completion, mean": 0.15, "function": 0.1}
AMPLE = 200_000
PAST_THE_HORIZON = 1000.0  #: natural units of time in which the dormant modes of a wide network of depth 2 wake up
LARGE_DEPTHS = (6, 8, 10, 20)  # for small matrices: a second or two becomes half a minute at depth 20


@dataclass(frozen=True)
class Problem:
    """What is verified. Every number and array follows from `seed` and `number`."""

    seed: int
    number: int
    plain: bool
    loss: str
    shape: tuple[int, int]
    rank: int
    depth: int
    width: int | None  #: of all hidden layers; None: the library's choice
    start: str  #: the kind of W(0)
    a: float  #: scale of the inputs
    b: float  #: scale of the targets
    span: float | None  #: end time in natural units; None: until the gradient is small
    max_evaluations: int
    rtol: float

    def __str__(self) -> str:
        m, n = self.shape
        width = "" if self.width is None else f", width {self.width}"
        span = "" if self.span is None else f", to t = {self.span:g} units"
        return (
            f"{self.loss} {m} x {n}, rank {self.rank}, depth {self.depth}{width}, start {self.start}, scales {self.a:.1e} and"
            f" {self.b:.1e}, rtol {self.rtol:.0e}, budget {self.max_evaluations}{span}"
        )

    @property
    def wide(self) -> bool:
        """Whether dormant modes of the factors can grow: depth 2, a layer wider than the rank."""
        return self.depth == 2 and self.width is not None and min(self.width, *self.shape) > self.rank

    @property
    def size(self) -> float:
        """The natural size of W."""
        return LOSSES[self.loss].size(self.a, self.b)

    def build(self) -> tuple[Any, dict[str, Any]]:
        """Return the loss and the arguments of `verify_equivalence`."""
        rng = np.random.default_rng([self.seed, self.number, 1])
        teacher = generic(self, None, rng)
        loss = LOSSES[self.loss].make(Draw(*self.shape, self.a, self.b, rng, teacher))
        options: dict[str, Any] = {"rtol": self.rtol, "max_evaluations": self.max_evaluations, "rng": self.number}
        start: lrf.LowRankMatrix | None = teacher
        if self.start == "unbalanced":
            width = self.rank if self.width is None else self.width
            size = (self.size / np.sqrt(max(self.shape))) ** (1 / self.depth)
            start = None
            options["network"] = lrf.LinearNetwork.gaussian(self.shape, self.depth, widths=width, scale=size, rng=rng)
        else:
            start = teacher if self.start == "fit" else STARTS[self.start](self, loss, rng)
            options |= {"depth": self.depth, "widths": self.width}
        if self.span is not None:
            w = options["network"].to_low_rank() if start is None else start
            options["t_end"] = self.span * lrf.natural_time_unit(loss, w, self.depth)
        return loss, {"start": start, **options}

    @property
    def expected(self) -> frozenset[str]:
        """Return the claims whose hypotheses hold by construction."""
        if not self.plain:
            return frozenset()
        names = {
            "gradient", "pointwise", "one_step", "lift", "trajectory", "tolerance", "conservation", "rank",
            "factor_spectrum", "dissipation", "imbalance", "discrete", "rebalancing",
        }  # fmt: skip
        n = self.shape[1]
        if self.shape == (1, 1):  # equal factors stay equal: nothing to rebalance
            names -= {"rebalancing"}
        if self.shape == (1, 1) or (n == 1 and self.depth >= 3):  # the linear term vanishes, flow.md, claim 27
            names -= {"imbalance"}
        if self.loss == "well conditioned" and self.span is None and not self.wide:
            names |= {"stationarity", "index_set", "best_loss"}
        if self.span == PAST_THE_HORIZON:
            names |= {"departure"}
        return frozenset(names)


# ---------------------------------------------------------------------------------------------------------------------
# W(0)


def generic(p: Problem, loss: Any, rng: np.random.Generator) -> lrf.LowRankMatrix:
    """Random frames, singular values between 0.3 and 0.6 of the natural size."""
    return with_values(p, rng, rng.uniform(0.3, 0.6, p.rank))


def with_values(p: Problem, rng: np.random.Generator, s: Any) -> lrf.LowRankMatrix:
    return lrf.random_point(*p.shape, p.rank, rng=rng, singular_values=p.size * np.asarray(s))


def aligned(p: Problem, loss: Any, rng: np.random.Generator) -> lrf.LowRankMatrix:
    """A generic start; square and of full rank with the sign of det W that the best matrix has, which the flow keeps."""
    w = generic(p, loss, rng)
    if p.shape != (p.rank, p.rank) or facts(loss).minimiser is None:
        return w
    best = facts(loss).minimiser(p.rank)  # type: ignore[misc]
    if np.linalg.slogdet(best.to_dense())[0] != np.linalg.slogdet(w.to_dense())[0]:
        w = lrf.LowRankMatrix(w.u * np.where(np.arange(p.rank) == 0, -1.0, 1.0), w.s, w.vt)
    return w


def critical(p: Problem, loss: Any, rng: np.random.Generator, *, best: bool) -> lrf.LowRankMatrix:
    """A critical point of a square loss, the best one or another; generic where the loss does not tell."""
    said = facts(loss)
    if said.spectrum is None:
        return generic(p, loss, rng)
    spectrum = said.spectrum
    there = int((spectrum.sigma > 1e-12 * spectrum.sigma[0]).sum())
    if there < p.rank:
        return generic(p, loss, rng)
    j = np.arange(p.rank) if best else np.sort(rng.permutation(there)[: p.rank])
    right = (spectrum.vt[j] / np.sqrt(spectrum.eigenvalues)) @ spectrum.basis.T
    return lrf.matrices.Product(spectrum.u[:, j] * spectrum.sigma[j], right).to_low_rank(p.rank)


def beside(p: Problem, loss: Any, rng: np.random.Generator) -> lrf.LowRankMatrix:
    """A hundred-millionth beside a critical point."""
    w = critical(p, loss, rng, best=bool(rng.integers(2)))
    moved = w.to_dense() + 1e-8 * w.norm() * rng.standard_normal(p.shape)
    return lrf.LowRankMatrix.from_dense(moved, p.rank)


Start = Callable[[Problem, Any, np.random.Generator], lrf.LowRankMatrix]
STARTS: Mapping[str, Start] = {
    "generic": generic,
    "aligned": aligned,
    "tied": lambda p, loss, rng: with_values(p, rng, np.full(p.rank, 0.3)),
    "small": lambda p, loss, rng: with_values(p, rng, 10 ** rng.uniform(-6, -3) * rng.uniform(0.5, 1.0, p.rank)),
    "large": lambda p, loss, rng: with_values(p, rng, rng.uniform(10.0, 30.0, p.rank)),
    "spread": lambda p, loss, rng: with_values(p, rng, np.geomspace(1.0, 1e-6, p.rank)),
    "tiny last": lambda p, loss, rng: with_values(p, rng, [*[0.5] * (p.rank - 1), 10 ** rng.uniform(-10, -3)]),
    "vanishing": lambda p, loss, rng: with_values(p, rng, np.full(p.rank, 10 ** rng.uniform(-100, -20))),
    "saddle": lambda p, loss, rng: critical(p, loss, rng, best=False),
    "optimum": lambda p, loss, rng: critical(p, loss, rng, best=True),
    "beside a critical point": beside,
    "fit": generic,  # not used: W(0) is the teacher, which made the data
}


# ---------------------------------------------------------------------------------------------------------------------
# the draw


def draw(number: int, seed: int = 0) -> Problem:
    """Return a problem by its number."""
    return plain(number, seed) if number % 5 < 2 else hostile(number, seed)


def plain(number: int, seed: int = 0) -> Problem:
    """Return a problem with nothing the matter."""
    rng = np.random.default_rng([seed, number])
    loss = pick(rng, PLAIN_LOSSES)
    depth = pick(rng, {2: 0.3, 3: 0.35, 4: 0.15, 5: 0.15, int(rng.choice(LARGE_DEPTHS)): 0.05})
    shape, rank = sizes(rng, depth)
    width = None
    if rng.random() < 0.4:
        width = rank + int(rng.integers(1, 4))
    a, b = scales(rng) if loss == "well conditioned" else (1.0, 1.0)
    rtol = float(rng.choice([1e-9, 1e-8, 1e-7]))
    problem = Problem(seed, number, True, loss, shape, rank, depth, width, "aligned", a, b, None, AMPLE, rtol)
    past = problem.wide and loss == "well conditioned" and rng.random() < 0.5
    return replace(problem, span=PAST_THE_HORIZON) if past else problem


def hostile(number: int, seed: int = 0) -> Problem:
    """Return a problem of any kind."""
    rng = np.random.default_rng([seed, number])
    loss = str(rng.choice(list(LOSSES)))
    depth = pick(rng, {2: 0.35, 3: 0.25, 4: 0.15, 5: 0.15, int(rng.choice(LARGE_DEPTHS)): 0.1})
    (m, n), rank = sizes(rng, depth)
    m = max(m, LOSSES[loss].rows)
    if LOSSES[loss].square:
        m = n = max(m, n)
    width = pick(rng, {"default": 0.5, "rank": 0.2, "wide": 0.3})
    widths = {"default": None, "rank": rank, "wide": rank + int(rng.integers(1, 5))}
    start = str(rng.choice([*STARTS, "unbalanced"]))
    if start == "fit":
        loss = str(rng.choice(["exact fit", "exact completion"]))
    a, b = scales(rng)
    span = pick(rng, {None: 0.75, 0.01: 0.05, 1.0: 0.1, 100.0: 0.1})
    budget = pick(rng, {100: 0.1, 1000: 0.15, 3000: 0.15, 10_000: 0.2, AMPLE: 0.4})
    rtol = float(10 ** rng.uniform(-12, -5)) if rng.random() < 0.5 else 1e-8
    return Problem(seed, number, False, loss, (m, n), rank, depth, widths[width], start, a, b, span, budget, rtol)


def sizes(rng: np.random.Generator, depth: int) -> tuple[tuple[int, int], int]:
    """Return a shape and a rank; deep networks are small."""
    most = 3 if depth >= 6 else 7
    kind = pick(rng, {"1 x 1": 0.06, "row": 0.1, "column": 0.1, "square": 0.3, "any": 0.44})
    m, n = (int(v) for v in rng.integers(2, most + 1, 2))
    m, n = {"1 x 1": (1, 1), "row": (1, n), "column": (m, 1), "square": (n, n), "any": (m, n)}[kind]
    return (m, n), int(rng.integers(1, min(m, n) + 1))


def scales(rng: np.random.Generator) -> tuple[float, float]:
    """Return scales of inputs and targets: 1, or anything between 1e-8 and 1e8."""
    if rng.random() < 0.5:
        return 1.0, 1.0
    a, b = 10 ** rng.uniform(-8, 8, 2)
    return float(a), float(b)


def pick(rng: np.random.Generator, shares: Mapping[Any, float]) -> Any:
    """Return a key, by its share."""
    shares_ = np.array(list(shares.values()))
    return list(shares)[int(rng.choice(shares_.size, p=shares_ / shares_.sum()))]
