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
from ..report import Control, Figure, Hypothesis
from ..statements import Measurement, claim, derived
from ..validation import Array
from .gaps import curve
from .identities import BAH
from .sides import HORIZON, REDUCTION, TIME, Runs, Sides, complete


class Limit:
    """The end of the Riemannian flow in whitened coordinates, where the square loss is ||B - Q||_F^2 / 2 + floor."""

    x: Sides
    path: Trajectory
    ratio: float

    def __init__(self, x: Sides, path: Trajectory) -> None:
        self.x, self.path = x, path
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
        return Hypothesis("J = {1, ..., r}", self.index_set == wanted, set_text(self.index_set))

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
    def near(self) -> Hypothesis:
        """Whether W is near its limit in absolute terms: the start may have been so far away that 1e-4 of it says little.

        Turned by theta from pair r towards pair r + 1, W has ||p|| = (sigma_r - sigma_{r+1}) sin(2 theta) / 2, so that
        2 ||p|| / mu <= sigma_r / 2 leaves theta below 15 degrees, or above 75, where J is another set.
        """
        reach = 2 * self.whitened_gradient / (self.gap or math.nan)
        least = float(self.spectrum.sigma[min(self.x.rank, self.spectrum.sigma.size) - 1])
        told = f"{reach:.3g} against {least / 2:.3g}"
        return Hypothesis("2 ||p|| / mu below half of sigma_r of the whitened targets", reach <= 0.5 * least, told)

    @property
    def ahead(self) -> bool:
        """Whether all that is assumed of the limit is met but that W is near it: it would be, had the run gone on."""
        return (
            self.known and self.x.full_rank_inputs.met and self.leading.met and self.separated.met and not self.near.met
        )

    @property
    def hypotheses(self) -> tuple[Hypothesis, ...]:
        """What is assumed of the limit."""
        run = complete(self.path)
        return (self.x.full_rank_inputs, run, self.stationary, self.leading, self.separated, self.near)

    @cached_property
    def whitened_gradient(self) -> float:
        """Norm of the projected gradient in whitened coordinates, G C^{-1/2} projected at B; nan where B has lower rank.

        From the gradient of the loss, which is B - Q there: the spectrum of Q has no say in it, and a wrong one is seen.
        """
        b = self.whitened.to_low_rank()
        if b.rank < self.x.rank:
            return math.nan
        b, spectrum = self.whitened.to_low_rank(self.x.rank), self.spectrum
        g = self.x.loss.gradient(self.w) @ (spectrum.basis / np.sqrt(spectrum.eigenvalues))
        return project(b, np.asarray(g)).norm()

    def pairs(self, indices: list[int]) -> Array:
        """Return sum over J of sigma_i u_i v_i^T (indices from 1)."""
        spectrum, j = self.spectrum, np.array(indices, dtype=int) - 1
        return (spectrum.u[:, j] * spectrum.sigma[j]) @ spectrum.vt[j]


def set_text(indices: list[int]) -> str:
    """Return {1, ..., r} as people write it."""
    if len(indices) > 4 and indices == list(range(indices[0], indices[-1] + 1)):
        return f"{{{indices[0]}, ..., {indices[-1]}}}"
    return "{" + ", ".join(str(i) for i in indices) + "}"


@claim(
    "stationarity",
    statement="The Riemannian flow comes to a critical point on the rank-r manifold.",
    source=f"{BAH}, Theorem 5 (convergence of the factor flow); {derived('limit')}",
    meaning=(
        "Measured: the Frobenius norm of the projected gradient at the end over that at the start, from W alone, the same"
        " ruler for every metric and depth. Bound: 1e-4. With an end time of yours, or a spent budget, a small gradient is"
        " not promised. A small gradient can also be a saddle that the flow passes slowly; which critical point it is, the"
        " next claim says."
    ),
    hypotheses=(
        "full-rank inputs (Theorem 5); the run went on until the projected gradient fell, not to an end time of yours or"
        " the budget; all runs complete"
    ),
    controls="the projected gradient at a tenth of the time",
)
def stationarity(x: Sides, runs: Runs) -> Measurement:
    """The projected gradient at the end."""
    path, ratio = runs.reference, Limit(x, runs.reference).ratio
    asked = runs.scout.status.converged
    went_on = Hypothesis("the run went on until the projected gradient fell", asked, runs.scout.message)
    tenth = int(np.argmin(np.abs(path.t - 0.1 * path.t[-1])))
    early = float(path.stationarity[tenth] / path.stationarity[0])
    return Measurement(
        ratio, "<=", REDUCTION, (x.full_rank_inputs, went_on, complete(path)),
        (Control(f"at t={path.t[tenth]:.4g}, a tenth of the time", early, REDUCTION),), f"{path.message}",
        figures=(towards_the_limit(x, runs),),
    )  # fmt: skip


def _free(limit: Limit) -> str:
    """Say why there is no control where there is none."""
    return "" if _neighbours(limit) is not None else "; there is no further pair to exchange, so there is no control"


def _neighbours(limit: Limit) -> list[int] | None:
    """Return {1, ..., r-1, r+1}, or None where there is no pair r + 1."""
    r = limit.x.rank
    return [*range(1, r), r + 1] if r < limit.spectrum.sigma.size else None


@claim(
    "index_set",
    statement=(
        "The limit of the Riemannian flow is a critical point with an index set J: in whitened coordinates,"
        " sum over J of sigma_i u_i v_i^T."
    ),
    source=f"{BAH}; {derived('limit')}",
    meaning=(
        "For the square loss every critical point has this form, and J names it: which singular pairs of the whitened"
        " targets the network has learned. J is read off from the overlaps of W with the pairs (above 1/2). Measured: the"
        " relative distance of the whitened W from the sum over J. Bound: twice ||p|| / mu, relative, with p the projected"
        " gradient in whitened coordinates and mu = 1 - sigma_{r+1} / sigma_r the least curvature at the best point: how"
        " far from it a point with that gradient can be, to first order; and 1e-10, for what roundoff leaves of p."
    ),
    hypotheses=(
        "the square loss with full-rank inputs; stationarity; J = {1, ..., r}, the r leading pairs; a gap behind sigma_r,"
        " without which the best point is not unique; 2 ||p|| / mu below half of sigma_r: near the limit in absolute"
        " terms, wherever the start was"
    ),
    controls="J with its last pair exchanged for the next",
)
def index_set(x: Sides, runs: Runs) -> Measurement | None:
    """The whitened W against the sum over J."""
    limit = Limit(x, runs.reference)
    if not limit.known:
        return None
    b = limit.whitened.to_dense()
    scale = float(linalg.norm(b))
    bound = 2 * limit.whitened_gradient / (limit.gap or math.nan) / scale + 1e-10
    controls: tuple[Control, ...] = ()
    if (other := _neighbours(limit)) is not None:
        wrong = float(linalg.norm(b - limit.pairs(other))) / scale
        controls = (Control(f"J = {set_text(other)}", wrong, bound),)
    measured = float(linalg.norm(b - limit.pairs(limit.index_set))) / scale
    detail = f"J = {set_text(limit.index_set)}{_free(limit)}"
    return Measurement(measured, "<=", bound, limit.hypotheses, controls, detail)


@claim(
    "best_loss",
    statement="The loss at the limit of the Riemannian flow is the least among rank-r matrices.",
    source=f"{BAH}; {derived('limit')}",
    meaning=(
        "The least value is known in closed form through whitening. Measured: L(T) minus that value. Bound: what the"
        " gradient left at T allows, ||p||^2 / mu with p the whitened projected gradient and mu = 1 - sigma_{r+1} / sigma_r,"
        " twice the asymptotic value (near the minimiser the excess is at most ||p||^2 / (2 mu)), plus 100 eps L(0),"
        " roundoff of the sum of squares at the start. So the bound is not a chosen small number: it shrinks with the square"
        " of the gradient that was reached. A run that ends at another J is a legitimate outcome of the theorem, which is"
        " about almost all starts, and reads not claimed."
    ),
    hypotheses="as index_set",
    controls="the value of the critical point with pair r exchanged for the next",
)
def best_loss(x: Sides, runs: Runs) -> Measurement | None:
    """The value at the end against the best one of its rank."""
    limit = Limit(x, runs.reference)
    if not limit.known or x.said.best_value is None:
        return None
    best = float(x.said.best_value(x.rank))
    spectrum, r, value = limit.spectrum, x.rank, float(limit.path.loss[-1])
    # near the minimiser L - L* <= ||grad||^2 / (2 mu) with mu the least Hessian eigenvalue; twice that for the
    # higher terms, and roundoff of a sum of squares
    bound = limit.whitened_gradient**2 / (limit.gap or math.nan) + 100 * EPS * float(limit.path.loss[0])
    controls: tuple[Control, ...] = ()
    if (other := _neighbours(limit)) is not None:
        worse = best + 0.5 * float(spectrum.sigma[r - 1] ** 2 - spectrum.sigma[r] ** 2)
        controls = (Control(f"J = {set_text(other)}", abs(value - worse), bound),)
    detail = f"L(T) = {value:.10g}, best rank-{r} value {best:.10g}, L(0) = {limit.path.loss[0]:.4g}{_free(limit)}"
    return Measurement(abs(value - best), "<=", bound, limit.hypotheses, controls, detail)


@claim(
    "departure",
    statement="At depth 2 with wide layers the rank-r limit is unstable in factor space: sigma_{r+1} grows as predicted.",
    source=derived("wide-layers"),
    meaning=(
        "Roundoff seeds the dormant modes, which grow like e^I, I(t) = integral of ||(I - UU^T) G (I - VV^T)||_2 dt,"
        " whatever the tolerance; sigma_{r+1} of the product grows with twice that exponent. The horizon, up to which the"
        " other claims run, is I = ln(1/eps) / 2, about 18: there the modes are eps^(1/2) in the factors and at roundoff in"
        " the product. Measured past it: the slope of ln sigma_{r+1} of the factor flow against 2 I(t) of the Riemannian"
        " flow, over the window in which sigma_{r+1} / sigma_1 is above roundoff and still far below the singular values"
        " that the flow has (1e-13 to 1e-4). Bound: 1 +- 0.1; the margin is for the top direction turning, and slopes seen"
        " were within 0.02 of 1."
    ),
    hypotheses=(
        "depth 2, hidden width above r, the horizon lies within the run; balanced factors; all runs complete; enough"
        " times within the window"
    ),
    controls="the same problem at depth 3, where the dormant modes do not grow: exponent 0",
)
def departure(x: Sides, runs: Runs) -> Measurement:
    """The growth of sigma_{r+1} past the validity horizon, against its prediction."""
    stage = "departure from the rank-r flow"
    growth, t = runs.growth, runs.scout.t
    if runs.scout.status.converged:  # G no longer moves: the integral goes on linearly
        rate = max(float((growth[-1] - growth[-2]) / (t[-1] - t[-2])), np.finfo(float).tiny)
        growth, t = np.append(growth, 4 * HORIZON), np.append(t, t[-1] + max(0.0, 4 * HORIZON - growth[-1]) / rate)
        growth, t = np.maximum.accumulate(growth), np.maximum.accumulate(t)
    # from the horizon, where the product of dormant modes is at roundoff, until it would be of order one; and once more as
    # far where it is not by then: a prediction that is too fast
    for last in (2, 4):
        exponents = np.linspace(HORIZON, min(last * HORIZON, float(growth[-1])), 12 * last)
        times = np.unique(np.interp(exponents, growth, t))
        path = x.factors(max(x.rtol, 1e-10), times, stage)
        predicted = 2 * np.interp(times, t, growth)
        observed = _next_value(path, x.rank, times)
        # linear growth only: above roundoff, far below the singular values that the flow has
        window = (observed > 1e-13) & (observed < 1e-4)
        if window.sum() >= 5 or not path.status.finished:
            break
    enough = Hypothesis("five times with 1e-13 < sigma_{r+1}/sigma_1 < 1e-4", int(window.sum()) >= 5, int(window.sum()))
    measured = _exponent(predicted[window], observed[window])
    deeper = LinearNetwork.balanced(x.start, 3, widths=min(x.network.widths), rng=x.rng("departure"))
    other = x.factors(max(x.rtol, 1e-8), times, stage, network=deeper)
    control = _next_value(other, x.rank, times)
    figure = Figure(
        "departure", "Past the horizon: the dormant modes wake up",
        "sigma_{r+1} of the product at depth 2 with wide layers, against its predicted growth from the first point.",
        TIME, "sigma_{r+1} / sigma_1",
        [
            curve("observed", x.time_axis(times), observed, "b", points=True),
            curve("predicted", x.time_axis(times[window]), _prediction(predicted[window], observed[window]), "a"),
            curve("control: depth 3", x.time_axis(times), control, "control"),
        ],
        yscale="log",
    )  # fmt: skip
    controls = (Control("depth 3", _exponent(predicted[window], control[window]), (0.9, 1.1), "in"),)
    detail = f"horizon t={runs.horizon:.4g}; exponent over {int(window.sum())} times"
    return Measurement(
        measured, "in", (0.9, 1.1), (x.balanced, complete(path, other), enough), controls, detail, figures=(figure,)
    )


def _next_value(path: Trajectory, rank: int, times: Array) -> Array:
    """Return sigma_{r+1} / sigma_1 of the product at `times`; nan where the run did not get."""
    found, reached = np.full(times.size, np.nan), path.singular_values[np.isin(path.t, times)]
    found[np.isin(times, path.t)] = reached[:, rank] / reached[:, 0]
    return found


def _exponent(predicted: Array, values: Array) -> float:
    """Return the slope of log values against the predicted exponent; nan without two points that are positive."""
    known = len(values) > 1 and bool((values > 0).all())
    return float(np.polyfit(predicted, np.log(values), 1)[0]) if known else math.nan


def _prediction(predicted: Array, values: Array) -> Array:
    return values[0] * np.exp(predicted - predicted[0]) if len(values) else values


def towards_the_limit(x: Sides, runs: Runs) -> Figure:
    """Return the figure of what is left of the loss and of the projected gradient."""
    path, best = runs.reference, x.said.best_value
    floor = float(best(x.rank)) if best is not None else None
    excess = path.loss - (floor if floor is not None else 0.0)
    name = "loss minus best rank-r value" if floor is not None else "loss"
    times = x.time_axis(path.t[1:])
    curves = [
        curve(name, times, excess[1:] / (excess[0] or 1.0), "a"),
        curve("projected gradient", times, path.stationarity[1:] / path.stationarity[0], "gap"),
    ]
    return Figure(
        "loss", "Towards the limit", "Riemannian flow: what is left of the loss, and the Frobenius-projected gradient.",
        TIME, "relative to the start", curves, xscale="log", yscale="log",
    )  # fmt: skip
