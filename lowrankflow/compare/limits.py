"""Claims about where the flow goes: stationarity, the index set, the best value, and the departure at depth 2."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from scipy import linalg

from ..flow import Trajectory
from ..gradients import project
from ..losses.least_squares import Spectrum
from ..matrices import EPS, LinearNetwork, LowRankMatrix, Product
from ..report import Claim, Control, Hypothesis
from ..validation import Array
from .claims import claim
from .experiment import HORIZON, REDUCTION, Experiment, curve
from .separable import is_separated, separable


class Limit:
    """The end of the Riemannian flow in whitened coordinates, where the square loss is ||B - Q||_F^2 / 2 + floor."""

    def __init__(self, x: Experiment) -> None:
        self.x = x
        x.stage = "limit"
        self.path = x.reference if x.times[-1] == x.all_times[-1] else x.riemannian(x.rtol, x.all_times)
        self.w: LowRankMatrix = self.path.points[-1]
        self.ratio = float(self.path.stationarity[-1] / self.path.stationarity[0])

    @property
    def known(self) -> bool:
        """Whether the loss knows its whitened coordinates."""
        return self.x.said.whiten is not None and self.x.said.spectrum is not None

    @cached_property
    def spectrum(self) -> Spectrum:
        """The whitened targets, where they are known."""
        found = self.x.said.spectrum
        assert found is not None
        return found

    @cached_property
    def whitened(self) -> Product:
        """The last W in whitened coordinates, where they are known."""
        whiten = self.x.said.whiten
        assert whiten is not None
        return whiten(self.w)

    @cached_property
    def stationary(self) -> Hypothesis:
        reached = self.ratio <= REDUCTION
        return Hypothesis(f"projected gradient below {REDUCTION:g} of its start", reached, self.ratio)

    @cached_property
    def overlaps(self) -> Array:
        """u_i^T B v_i / sigma_i: how much of each singular pair of the whitened targets W has learned."""
        spectrum, b = self.spectrum, self.whitened
        positive = spectrum.sigma > 1e-12 * spectrum.sigma[0]
        learned = np.einsum("ik,ik->k", spectrum.u, b @ spectrum.vt.T)
        return np.divide(learned, spectrum.sigma, out=np.zeros_like(learned), where=positive)

    @cached_property
    def index_set(self) -> list[int]:
        """J, counted from 1."""
        return [int(i) + 1 for i in np.flatnonzero(self.overlaps > 0.5)]

    @cached_property
    def leading(self) -> Hypothesis:
        wanted = list(range(1, self.x.rank + 1))
        return Hypothesis("J = {1, ..., r}", self.index_set == wanted, _set(self.index_set))

    @cached_property
    def gap(self) -> float:
        """1 - sigma_{r+1} / sigma_r: the least eigenvalue of the whitened Hessian at the best rank-r matrix."""
        sigma = self.spectrum.sigma
        r = self.x.rank
        if r > sigma.size or sigma[r - 1] <= 1e-12 * sigma[0]:
            return 0.0
        return 1.0 - float(sigma[r] / sigma[r - 1]) if r < sigma.size else 1.0

    @cached_property
    def separated(self) -> Hypothesis:
        return Hypothesis("a gap behind sigma_r of the whitened targets", self.gap > 1e-6, self.gap)

    @cached_property
    def whitened_gradient(self) -> float:
        """Norm of the projected gradient in whitened coordinates, B - Q projected at B."""
        spectrum = self.spectrum
        b = self.whitened.to_low_rank(self.x.rank)
        return project(b, b.to_dense() - (spectrum.u * spectrum.sigma) @ spectrum.vt).norm()

    def pairs(self, indices: list[int]) -> Array:
        """Return sum over J of sigma_i u_i v_i^T (indices from 1)."""
        spectrum, j = self.spectrum, np.array(indices, dtype=int) - 1
        return (spectrum.u[:, j] * spectrum.sigma[j]) @ spectrum.vt[j]


def _set(indices: list[int]) -> str:
    """Return {1, ..., r} as people write it."""
    if len(indices) > 4 and indices == list(range(indices[0], indices[-1] + 1)):
        return f"{{{indices[0]}, ..., {indices[-1]}}}"
    return "{" + ", ".join(str(i) for i in indices) + "}"


def limits(x: Experiment) -> list[Claim]:
    """Stationarity and, for the square loss, the index set and the best value; for separated samples, the margin."""
    limit = Limit(x)
    _draw_loss(x, limit)
    if is_separated(x, limit.w):  # there is no limit
        return separable(x, limit.w)
    asked = x.scout.status.converged
    went_on = Hypothesis("the run went on until the projected gradient fell", asked, x.scout.message)
    tenth = int(np.argmin(np.abs(limit.path.t - 0.1 * limit.path.t[-1])))
    early = float(limit.path.stationarity[tenth] / limit.path.stationarity[0])
    found = [
        claim(
            "stationarity", limit.ratio, "<=", REDUCTION, [x.full_rank_inputs, went_on],
            [Control(f"at t={limit.path.t[tenth]:.4g}, a tenth of the time", early, REDUCTION)], f"{limit.path.message}",
        )
    ]  # fmt: skip
    if limit.known:
        found.append(_index_set(x, limit))
        if x.said.best_value is not None:
            found.append(_best_loss(x, limit, float(x.said.best_value(x.rank))))
    return found


def _free(limit: Limit) -> str:
    """Say why there is no control where there is none."""
    return "" if _neighbours(limit) is not None else "; there is no further pair to exchange, so there is no control"


def _neighbours(limit: Limit) -> list[int] | None:
    """Return {1, ..., r-1, r+1}, or None where there is no pair r + 1."""
    r = limit.x.rank
    return [*range(1, r), r + 1] if r < limit.spectrum.sigma.size else None


def _index_set(x: Experiment, limit: Limit) -> Claim:
    b = limit.whitened.to_dense()
    scale = float(linalg.norm(b))
    bound = 2 * limit.whitened_gradient / (limit.gap or math.nan) / scale + 1e-10
    controls = []
    if (other := _neighbours(limit)) is not None:
        controls.append(Control(f"J = {_set(other)}", float(linalg.norm(b - limit.pairs(other))) / scale, bound))
    hypotheses = [x.full_rank_inputs, limit.stationary, limit.leading, limit.separated]
    measured = float(linalg.norm(b - limit.pairs(limit.index_set))) / scale
    return claim("index_set", measured, "<=", bound, hypotheses, controls, f"J = {_set(limit.index_set)}{_free(limit)}")


def _best_loss(x: Experiment, limit: Limit, best: float) -> Claim:
    spectrum, r, value = limit.spectrum, x.rank, float(limit.path.loss[-1])
    # near the minimiser L - L* <= ||grad||^2 / (2 mu) with mu the least Hessian eigenvalue; twice that for the
    # higher terms, and roundoff of a sum of squares
    bound = limit.whitened_gradient**2 / (limit.gap or math.nan) + 100 * EPS * float(limit.path.loss[0])
    controls = []
    if (other := _neighbours(limit)) is not None:
        worse = best + 0.5 * float(spectrum.sigma[r - 1] ** 2 - spectrum.sigma[r] ** 2)
        controls.append(Control(f"J = {_set(other)}", abs(value - worse), bound))
    hypotheses = [x.full_rank_inputs, limit.stationary, limit.leading, limit.separated]
    detail = f"L(T) = {value:.10g}, best rank-{r} value {best:.10g}, L(0) = {limit.path.loss[0]:.4g}{_free(limit)}"
    return claim("best_loss", abs(value - best), "<=", bound, hypotheses, controls, detail)


def departure(x: Experiment) -> Claim:
    """The growth of sigma_{r+1} past the validity horizon, against its prediction."""
    x.stage = "departure from the rank-r flow"
    growth, t = x.growth, x.scout.t
    if x.scout.status.converged:  # G no longer moves: the integral goes on linearly
        rate = (growth[-1] - growth[-2]) / (t[-1] - t[-2])
        growth, t = np.append(growth, 2 * HORIZON), np.append(t, t[-1] + max(0.0, 2 * HORIZON - growth[-1]) / rate)
        growth, t = np.maximum.accumulate(growth), np.maximum.accumulate(t)
    # from the horizon, where the product of dormant modes is at roundoff, until it would be of order one
    exponents = np.linspace(HORIZON, min(2 * HORIZON, float(growth[-1])), 24)
    times = np.unique(np.interp(exponents, growth, t))
    path = x.factors(max(x.rtol, 1e-10), times)
    predicted = 2 * np.interp(times, t, growth)
    observed = _next_value(path, x.rank)
    # linear growth only: above roundoff, far below the singular values that the flow has
    window = (observed > 1e-13) & (observed < 1e-4)
    enough = Hypothesis("five times with 1e-13 < sigma_{r+1}/sigma_1 < 1e-4", int(window.sum()) >= 5, int(window.sum()))
    measured = _exponent(predicted[window], observed[window])
    deeper = LinearNetwork.balanced(x.start, 3, widths=min(x.network.widths), rng=x.rng)
    control = _next_value(x.factors(max(x.rtol, 1e-8), times, network=deeper), x.rank)
    x.draw(
        "departure", "Past the horizon: the dormant modes wake up",
        "sigma_{r+1} of the product at depth 2 with wide layers, against its predicted growth from the first point.",
        x.time_label, "sigma_{r+1} / sigma_1",
        [
            curve("observed", x.time_axis(times), observed, "b", points=True),
            curve("predicted", x.time_axis(times[window]), _prediction(predicted[window], observed[window]), "a"),
            curve("control: depth 3", x.time_axis(times), control, "control"),
        ],
        yscale="log",
    )  # fmt: skip
    controls = [Control("depth 3", _exponent(predicted[window], control[window]), (0.9, 1.1), "in")]
    detail = f"horizon t={x.horizon:.4g}; exponent over {int(window.sum())} times"
    return claim("departure", measured, "in", (0.9, 1.1), [x.balanced, enough], controls, detail)


def _next_value(path: Trajectory, rank: int) -> Array:
    """Return sigma_{r+1} / sigma_1 of the product at the kept times after the first."""
    return path.singular_values[1:, rank] / path.singular_values[1:, 0]


def _exponent(predicted: Array, values: Array) -> float:
    """Return the slope of log values against the predicted exponent; nan without two points."""
    return float(np.polyfit(predicted, np.log(values), 1)[0]) if len(values) > 1 else math.nan


def _prediction(predicted: Array, values: Array) -> Array:
    return values[0] * np.exp(predicted - predicted[0]) if len(values) else values


def _draw_loss(x: Experiment, limit: Limit) -> None:
    path = limit.path
    best = x.said.best_value
    floor = float(best(x.rank)) if best is not None else None
    excess = path.loss - (floor if floor is not None else 0.0)
    name = "loss minus best rank-r value" if floor is not None else "loss"
    times = x.time_axis(path.t[1:])
    curves = [
        curve(name, times, excess[1:] / excess[0], "a"),
        curve("projected gradient", times, path.stationarity[1:] / path.stationarity[0], "gap"),
    ]
    x.draw(
        "loss", "Towards the limit", "Riemannian flow: what is left of the loss, and the Frobenius-projected gradient.",
        x.time_label, "relative to the start", curves, xscale="log", yscale="log",
    )  # fmt: skip
