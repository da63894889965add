"""The flow of one metric from start to end, with what its way costs and which modes it learns when."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..charts import SingularFrame
from ..claims.courses import Course, Place, degenerate_at, quietly, way_rates
from ..claims.sides import REDUCTION
from ..flow import Status, Step, Trajectory, integrate
from ..flows import Event, RiemannianFlow, Save
from ..gradients import is_symmetric, projected
from ..landscape import follow, place
from ..losses import Loss
from ..losses import facts as loss_facts
from ..matrices import LowRankMatrix
from ..metrics import DepthMetric, Metric
from ..validation import Array

_NEAR_HALF = 1e-6  # shares this close to a half belong to the crossing that was located


class Modes:
    """The singular pairs of the whitened targets of a square loss, and how much of each W has learned."""

    loss: Loss
    count: int
    u: Array
    sigma: Array
    v: Array

    def __init__(self, loss: Loss, count: int | None = None) -> None:
        said = loss_facts(loss)
        assert said.spectrum is not None and said.whiten is not None
        self.loss, self._whiten, spectrum = loss, said.whiten, said.spectrum
        positive = int((spectrum.sigma > 1e-8 * spectrum.sigma[0]).sum())
        self.count = positive if count is None else min(count, positive)
        self.u, self.sigma, self.v = (a[..., : self.count] for a in (spectrum.u, spectrum.sigma, spectrum.vt.T))

    def shares(self, w: LowRankMatrix) -> Array:
        """Return u_i^T B v_i / sigma_i for B the whitened W."""
        b = self._whiten(w)
        return np.einsum("ir,ri->i", self.u.T @ b.left, b.right @ self.v) / self.sigma

    def learned(self, w: LowRankMatrix) -> tuple[list[int], float]:
        """Return J, the pairs learned by half or more, from 1, and the distance of W from their sum, relative."""
        b, j = self._whiten(w).to_dense(), np.flatnonzero(self.shares(w) > 0.5)
        apart = np.linalg.norm(b - (self.u[:, j] * self.sigma[j]) @ self.v[:, j].T) / np.linalg.norm(b)
        return [int(i) + 1 for i in j], float(apart)

    @staticmethod
    def known(loss: Loss) -> bool:
        """Whether the loss is a square loss whose targets have modes at all."""
        said = loss_facts(loss)
        return said.whiten is not None and said.spectrum is not None and bool(said.spectrum.sigma[0] > 0)


class _Half:
    """Event function: the share of mode i above a half; remembers the loss where that was located."""

    def __init__(self, modes: Modes, i: int) -> None:
        self._modes, self._i = modes, i
        self.located: list[tuple[float, float]] = []

    def __call__(self, t: float, w: LowRankMatrix) -> float:
        value = float(self._modes.shares(w)[self._i]) - 0.5
        if abs(value) <= _NEAR_HALF:
            self.located.append((t, float(self._modes.loss.value(w))))
        return value


def run_course(
    label: str,
    metric: Metric,
    other: Metric,
    loss: Loss,
    start: LowRankMatrix,
    *,
    clock: str,
    clock_end: float | None,
    rtol: float,
    max_evaluations: int,
    measures: Mapping[str, Callable[[LowRankMatrix], float]],
    modes: Modes | None,
    progress: Callable[[float], None],
) -> Course:
    """Integrate the flow of one metric to its end, and reduce it to numbers."""
    coefficient = metric.coefficients(start.s).largest(start.shape)
    factor = coefficient if clock == "operator" else 1.0
    span = math.inf if clock_end is None else clock_end / factor
    halves = [] if modes is None else [_Half(modes, i) for i in range(modes.count)]
    events = [Event(f"mode {i + 1}", half) for i, half in enumerate(halves)]
    flow = RiemannianFlow(loss, metric)
    system = quietly(lambda: SingularFrame().bind(flow, start))
    first = system.measure(system.y0).stationarity
    if not np.isfinite(first):
        raise ValueError(f"`loss.gradient(start)` must be finite, got a projected gradient of {first:g} under {label}.")
    if not first > 0:
        raise ValueError(
            f"`start` must not be a critical point under {label}, got a projected gradient of {first:g} there."
            " Draw another with random_point."
        )
    seen = [(0.0, 0.0)]

    def told(p: Step) -> None:
        seen.append((p.t, float(p.nfev)))
        left = math.log(max(p.stationarity, REDUCTION * first) / first) / math.log(REDUCTION)
        progress(min(1.0, max(0.0, left, 0.0 if math.isinf(span) else p.t / span)))

    degenerate = degenerate_at(metric, start)
    columns: dict[str, Any] = {f"measure {i}": lambda t, w, f=f: float(f(w)) for i, f in enumerate(measures.values())}
    if degenerate or is_symmetric(metric):  # there the stationarity is that of a part
        columns["projected"] = lambda t, w: projected(w, loss.gradient(w)).norm()
    save = Save(integrals=way_rates(metric, start.shape, other=other), columns=columns)
    began = time.perf_counter()
    path = quietly(
        lambda: integrate(
            flow, start, t_span=(0.0, span), gtol=REDUCTION * first, rtol=rtol, method="auto",
            max_evaluations=max_evaluations, save=save, events=events, callback=told,
        )
    )  # fmt: skip
    seconds = time.perf_counter() - began
    if path.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    half = int(np.argmax(path.loss <= path.loss[0] - 0.5 * (path.loss[0] - path.loss[-1])))
    ended, plateaus = (None, ()) if modes is None else (place(path, loss), follow(path, loss, depth=_depth(metric)))
    middle, end, way = Place.at(path, half), path.points[-1], path.columns
    path.points = []
    return Course(
        label, metric, degenerate, factor, coefficient, path, start, end, seconds, path.loss,
        np.interp(path.t, *np.array(seen).T), way.get("projected", path.stationarity), way["length"],
        way["dissipated"], way["other"], [] if modes is None else _halves(path, halves, modes.shares(start), factor),
        {name: way[f"measure {i}"] for i, name in enumerate(measures)}, float(path.t[half]), middle,
        ended, plateaus,
    )  # fmt: skip


def _depth(metric: Metric) -> float | None:
    """Return the number of balanced factors whose flow this is; None where there is none."""
    whole = isinstance(metric, DepthMetric) and math.isfinite(metric.depth) and float(metric.depth).is_integer()
    return float(metric.depth) if whole and isinstance(metric, DepthMetric) else None


def _halves(path: Trajectory, halves: list[_Half], at_start: Array, factor: float) -> list[tuple[float, float] | None]:
    """Return normalised time and loss at which each mode was first learnt by half."""
    found: list[tuple[float, float] | None] = []
    for i, half in enumerate(halves):
        hits = path.events[f"mode {i + 1}"]
        if at_start[i] >= 0.5:
            found.append((0.0, float(path.loss[0])))
        elif not hits:
            found.append(None)
        else:
            near = min(half.located, key=lambda at: abs(at[0] - hits[0]), default=None)
            value = float(np.interp(hits[0], path.t, path.loss)) if near is None else near[1]
            found.append((hits[0] * factor, value))
    return found
