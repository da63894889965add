"""Claims along the flow: the two sides together, and what each conserves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy import linalg

from ..charts import Factors, System
from ..checks import Tampered
from ..flow import Status, Trajectory
from ..flows import FactorFlow, Save
from ..gradients import end_to_end_operator
from ..losses import Loss
from ..matrices import EPS, LinearNetwork, LowRankMatrix, difference, thin_qr
from ..report import Control, Figure, Hypothesis
from ..statements import Measurement, claim, derived
from ..validation import Array
from .gaps import UNBALANCED, curve, gap, gaps, orders, slope, unbalanced
from .identities import BAH
from .sides import PARTED, TIME, Runs, Sides, complete, roundoff, telling, within_horizon


@claim(
    "trajectory",
    statement="The product of the factor flow follows the Riemannian flow.",
    source=f"{BAH}; {derived('riemannian-flow')}",
    meaning=(
        "The main claim. The factor flow, a network at its full widths in its own coordinates, is integrated beside the"
        " Riemannian flow in its singular frame, both to rtol, and once more to rtol / 100. Measured: the largest relative"
        " gap of W over time, not the gap at the end: two flows with one limit agree there whatever they did before."
        " Bound: 3 (e_a + e_b) + 100 eps sqrt(evaluations), where e_a and e_b are the errors of the two sides, each"
        " measured against itself at rtol / 100, and the last term is accumulated roundoff. So the claim is that the two"
        " differ by no more than their solvers do, and it becomes sharper with rtol. The factor 3 is room for error"
        " estimates being estimates. At depth 2 with hidden layers wider than the rank only times within the validity"
        " horizon count (docs/theory.md#wide-layers), since past it roundoff alone drives the factors away. How the errors"
        " are measured: docs/theory.md#numerics."
    ),
    hypotheses=(
        "balanced factors; within the validity horizon (depth 2); all runs complete, or the flows parted by three times the"
        " bound before; W moves ten times as far as the bound, or so"
    ),
    controls="unbalanced factors with the same product; depth N + 1 on the Riemannian side; the wrong sign on the factor side",
)
def trajectory(x: Sides, runs: Runs) -> Measurement:
    """The largest relative gap between the two flows over time."""
    four = (runs.factors, runs.riemannian, runs.factor_reference, runs.reference)
    between = gaps(runs.factors, runs.riemannian, runs.times)
    e_a, e_b = runs.errors
    noise = roundoff(runs.factor_reference, runs.reference)
    # where a run ended early the flows are compared as far as all four got
    reached = np.isfinite(between) & np.isfinite(e_a) & np.isfinite(e_b)
    if reached.any():
        between, e_a, e_b = (np.where(reached, e, 0.0) for e in (between, e_a, e_b))
    bound = 3 * (float(e_a.max()) + float(e_b.max())) + noise
    parted = bool(reached.any()) and between.max() > PARTED * bound
    times, rtol, stage = runs.control_times, max(x.rtol, 1e-8), "controls of the trajectory"
    # a flow uphill blows up in finite time: a bounded number of gradients is enough to see it leave
    uphill = x.factors(rtol, times, stage, loss=Tampered(x.loss, -1.0), max_evaluations=min(2000, x.max_evaluations))
    paths = {
        UNBALANCED: x.factors(rtol, times, stage, network=unbalanced(x.network, 0.5)),
        f"depth {x.depth + 1}": runs.wrong_depth,
        "wrong sign": uphill,
    }
    curves = [
        curve("gap between the flows", x.time_axis(runs.times), between, "gap"),
        curve("error of the factor flow", x.time_axis(runs.times), e_a, "b"),
        curve("error of the Riemannian flow", x.time_axis(runs.times), e_b, "a"),
        curve("bound 3 (e_a + e_b) + roundoff", x.time_axis(runs.times[[0, -1]]), [bound, bound], "bound"),
    ]
    controls = []
    for name, path in paths.items():
        values = gaps(path, runs.riemannian, times)
        worst = _left(path, runs) if path is uphill else float(values.max())
        controls.append(Control(name, worst, bound))
        curves.append(curve(f"control: {name}", x.time_axis(times), values, "control"))
    figure = Figure(
        "gap",
        "Two flows, one trajectory",
        "Relative Frobenius distance between the product of the factor flow and the Riemannian flow, with the errors of"
        " both sides against themselves at rtol / 100. The controls start from the same W(0) and must leave the bound.",
        TIME,
        "relative gap",
        curves,
        xscale="log",
        yscale="log",
    )
    detail = (
        f"e_a={e_a.max():.2g}, e_b={e_b.max():.2g}, roundoff={noise:.2g},"
        f" {runs.times.size} times up to t={runs.times[-1]:.4g}"
    )
    return Measurement(
        float(between.max()), "<=", bound,
        (
            x.balanced, within_horizon(x, runs),
            complete(*four, *list(paths.values())[:2], parted=parted), telling(runs, bound, parted=parted),
        ), tuple(controls), detail, figures=(_singular_values(x, runs), figure),
    )  # fmt: skip


def _left(uphill: Trajectory, runs: Runs) -> float:
    """Return how far a run that may blow up is from the Riemannian flow, as far as it got; inf where it blew up.

    One that used up its budget before the first of the times is compared with W(0): it went the other way.
    """
    if uphill.status in (Status.NOT_FINITE, Status.STEP_TOO_SMALL):
        return math.inf
    values = gaps(uphill, runs.riemannian, runs.control_times)
    return float(values[np.isfinite(values)].max(initial=gap(uphill.points[-1], uphill.points[0])))


_NAMED = 12  #: singular values that are named at their ends


def _singular_values(x: Sides, runs: Runs) -> Figure:
    curves = []
    for path, name, role in ((runs.riemannian, "Riemannian flow", "a"), (runs.factors, "factor flow", "b")):
        for k in range(x.rank):
            s = path.singular_values[1:, k]
            drawn = curve(name if k == 0 else "", x.time_axis(path.t[1:]), s, role, points=role == "b")
            curves.append(replace(drawn, mark=f"$\\sigma_{{{k + 1}}}$") if role == "a" and k < _NAMED else drawn)
    return Figure(
        "singular_values",
        "Singular values of W along both flows",
        "Lines: the Riemannian gradient flow on the rank-r manifold. Markers: the product of the factors of the network.",
        TIME,
        "singular values of W",
        curves,
        xscale="log",
        yscale="log",
    )


@claim(
    "tolerance",
    statement="The gap between the flows is the solvers' own: it falls with their tolerance.",
    source=derived("numerics"),
    meaning=(
        "A bound made of error estimates could be kept by a gap that is real but small. So the two flows are integrated by"
        " RK45, whose error is proportional to its tolerance, at five, from 1e-11 to 1e-7, until half of the fall of the"
        " loss is done; by RK23 where RK45 takes fewer than twenty steps. Measured: the slope of log gap against log rtol,"
        " over the gaps above roundoff of runs of eight steps or more. A method that controls the error per step gives a"
        " slope near 1, a true difference between the flows slope 0. Bound: at least 0.7, because step control is only"
        " roughly proportional."
    ),
    hypotheses=(
        "balanced factors; within the validity horizon; a loss that is twice differentiable; all runs complete; at least"
        " three gaps above roundoff, of runs of eight steps or more"
    ),
    controls="depth N + 1 on the Riemannian side: a real difference does not fall with the tolerance",
)
def tolerance(x: Sides, runs: Runs) -> Measurement:
    """The gap must fall with the tolerance of the solvers."""
    # RK45, whose error is proportional to its tolerance; DOP853 takes so few steps that its errors scatter. At one
    # time, when half of the fall of the loss is done: landing on more of them caps the steps of the loose runs
    rtols = np.array([1e-11, 1e-10, 1e-9, 1e-8, 1e-7])
    times = runs.control_times[-1:]
    # where RK45 takes few steps they obey its guess of the first one: RK23 takes more, its error follows rtol as well
    loosest = (side(rtols[-1], times, "steps of RK45", method="RK45") for side in (x.factors, x.riemannian))
    method = "RK45" if min(path.nsteps for path in loosest) >= _MANY else "RK23"
    found, wrong, steps, paths = [], [], [], [runs.wrong_depth]
    for rtol in rtols:
        stage = f"both flows at rtol {rtol:.0e}"
        a, b = (side(rtol, times, stage, method=method) for side in (x.factors, x.riemannian))
        paths += [a, b]
        found.append(float(gaps(a, b, times).max()))
        wrong.append(float(gaps(a, runs.wrong_depth, times).max()))
        steps.append(min(a.nsteps, b.nsteps))
        if not (a.status.finished and b.status.finished):  # then nothing is claimed, and the others would take as long
            break
    rtols = rtols[: len(found)]
    values, floor = np.array(found), roundoff(a, b)
    # a run of a few steps obeys its first guess of a step, not its tolerance
    above = (values > floor) & (np.array(steps) >= 8)
    measured = slope(rtols[above], values[above])
    figure = Figure(
        "tolerance", "The gap is the solvers' own",
        "Relative gap between the flows, when half of the fall of the loss is done, at five tolerances; a true difference"
        " (control) does not fall.",
        "rtol", "relative gap",
        [
            curve("gap", rtols, values, "gap", points=True),
            curve("slope 1", rtols, values[-1] * rtols / rtols[-1], "guide"),
            curve(f"control: depth {x.depth + 1}", rtols, wrong, "control"),
            curve("roundoff", rtols[[0, -1]], [floor, floor], "bound"),
        ],
        xscale="log", yscale="log",
    )  # fmt: skip
    enough = Hypothesis("three gaps above roundoff, of eight steps or more", int(above.sum()) >= 3, float(above.sum()))
    controls = (Control(f"depth {x.depth + 1}", slope(rtols, np.array(wrong)), 0.7, ">="),)
    detail = "gaps " + ", ".join(f"{v:.1e}" for v in values) + " at rtol " + ", ".join(f"{t:.0e}" for t in rtols)
    hypotheses = (x.balanced, within_horizon(x, runs), x.smooth, complete(*paths), enough)
    return Measurement(measured, ">=", 0.7, hypotheses, controls, detail, figures=(figure,))


_MANY = 20  #: steps of RK45 at the loosest tolerance, from which on its errors are in proportion


def _factor_errors(runs: Runs) -> Array:
    """Return the error of the factors over time, max_j ||W_j - W_j^ref||_F: the flow of the factors has no gauge."""
    pairs = zip(runs.factors.points[1:], runs.factor_reference.points[1:], strict=False)
    return np.array(
        [max(float(linalg.norm(a - b)) for a, b in zip(p.factors, q.factors, strict=True)) for p, q in pairs]
    )


def _drift(path: Trajectory) -> Array:
    """Return max_j ||D_j(t) - D_j(0)||_F over time."""
    first = path.points[0].imbalances()
    return np.array(
        [
            max(float(linalg.norm(a - b)) for a, b in zip(net.imbalances(), first, strict=True))
            for net in path.points[1:]
        ]
    )


class _FirstLayerTwiceAsFast:
    """A control: the factor flow with W_1' doubled, which conserves no imbalance of the first pair."""

    def bind(self, flow: FactorFlow, start: LinearNetwork) -> System:
        system = Factors().bind(flow, start)
        velocity, size = system.velocity, start.factors[0].size

        def doubled(t: float, y: Array) -> Array:
            dy = velocity(t, y)
            dy[:size] *= 2
            return dy

        system.velocity = doubled  # type: ignore[method-assign]
        return system


@claim(
    "conservation",
    statement="W_{j+1}^T W_{j+1} - W_j W_j^T is constant along the factor flow.",
    source=f"{BAH}; {derived('balanced-factors')}",
    meaning=(
        "True for any start and any loss; balance is not needed. Measured: the largest drift over layers and times, over"
        " the largest ||W_j||_F^2. Bound: three times what the measured error e of the factors themselves allows,"
        " 4 ||W_j||_2 e (the invariant is quadratic, two factors enter, each off by e), plus roundoff. Equation (1) of"
        " docs/theory.md#balanced-factors."
    ),
    hypotheses=(
        "all runs complete, or the drift three times the bound before they end; W moves ten times as far as the bound, or so"
    ),
    controls="the first layer trained twice as fast from the same factors: another flow of the factors, which drifts",
)
def conservation(x: Sides, runs: Runs) -> Measurement:
    """The imbalances are constant."""
    path = runs.factors
    drift, errors = _drift(path), _factor_errors(runs)
    scale = max(float(linalg.norm(f)) ** 2 for net in path.points for f in net.factors)
    spectral = max(float(linalg.norm(f, 2)) for net in path.points for f in net.factors)
    # D_j is quadratic: two factors off by e each move it by at most 2 * 2 ||W_j||_2 e
    bound = (3 * 4 * spectral * float(errors.max(initial=0.0)) + 100 * EPS * math.sqrt(path.nfev) * scale) / scale
    rtol, stage = max(x.rtol, 1e-8), "control of the conservation"
    other = x.factors(rtol, runs.control_times, stage, chart=_FirstLayerTwiceAsFast())
    measured = float(drift.max(initial=0.0)) / scale
    parted = float(drift[: errors.size].max(initial=0.0)) / scale > PARTED * bound  # as far as its bound is known
    wrong = float(_drift(other).max(initial=0.0)) / scale
    figure = Figure(
        "conservation", "What the flow conserves",
        "Drift of the imbalances W_{j+1}^T W_{j+1} - W_j W_j^T along the factor flow, relative, with its bound.",
        TIME, "relative drift",
        [
            curve("largest drift over the layers", x.time_axis(runs.times[: drift.size]), drift / scale, "gap"),
            curve("bound", x.time_axis(runs.times[[0, -1]]), [bound, bound], "bound"),
            curve("control: first layer twice as fast", x.time_axis(runs.times[[0, -1]]), [wrong, wrong], "control"),
        ],
        xscale="log", yscale="log",
    )  # fmt: skip
    return Measurement(
        measured, "<=", bound,
        (complete(path, runs.factor_reference, other, parted=parted), telling(runs, bound, parted=parted)),
        (Control("first layer trained twice as fast", wrong, bound),),
        "relative to the largest ||W_j||_F^2; bound: 3 x 4 ||W_j||_2 e, e the measured error of the factors",
        figures=(figure,),
    )  # fmt: skip


def _leak(path: Trajectory, rank: int) -> float:
    """Return the largest sigma_{r+1} / sigma_1 of the product over time; inf if sigma_r vanished."""
    worst = 0.0
    for s in path.singular_values:
        if not s[rank - 1] > 0:
            return math.inf
        worst = max(worst, float(s[rank] / s[0]) if s.size > rank else 0.0)
    return worst


@claim(
    "rank",
    statement="The product keeps its rank: sigma_{r+1} stays at roundoff, sigma_r stays positive.",
    source=f"{BAH}; {derived('balanced-factors')}",
    meaning=(
        "Measured along the factor flow, at its full widths: the largest sigma_{r+1} / sigma_1 of the product, and that"
        " sigma_r is never zero. Nothing in the factor flow knows of the rank, so this is a property of the dynamics"
        " (docs/theory.md#riemannian-flow), not of the representation. Bound: 1e-12, or 100 eps sqrt(evaluations) if"
        " larger: solvers keep the span of the live hidden directions exactly. If no width leaves room for a higher rank"
        " the statement is trivial, there is no control, and the report says so."
    ),
    hypotheses="balanced factors; within the validity horizon (depth 2); all runs complete",
    controls="balanced factors of rank r + 1 whose additional singular value is 1e-6 of the largest",
)
def rank(x: Sides, runs: Runs) -> Measurement:
    """The product stays on the manifold."""
    # solvers keep the span of the live hidden directions exactly, so only roundoff can leak out of it
    bound, path = max(1e-12, roundoff(runs.factors)), runs.factors
    controls: tuple[Control, ...] = ()
    paths = [path]
    if min(*x.network.widths, *x.start.shape) > x.rank:
        higher = _one_rank_more(x, 1e-6)
        wrong = x.factors(max(x.rtol, 1e-8), runs.control_times, "control of the rank", network=higher)
        paths.append(wrong)
        controls = (Control("factors of rank r + 1, 1e-6 away", _leak(wrong, x.rank), bound),)
    room = "" if controls else "; the widths leave no room for more, so there is no control"
    smallest = min(float(s[x.rank - 1]) for s in path.singular_values)
    detail = f"bound: 1e-12 or 100 eps sqrt(evaluations); smallest sigma_r on the way {smallest:.3g}{room}"
    hypotheses = (x.balanced, within_horizon(x, runs), complete(*paths))
    return Measurement(_leak(path, x.rank), "<=", bound, hypotheses, controls, detail)


def _one_rank_more(x: Sides, size: float) -> LinearNetwork:
    """Return balanced factors of W(0) plus one more singular triple of relative size `size`."""
    w, rng = x.start, x.rng("rank")
    u = thin_qr(np.column_stack([w.u, rng.standard_normal(w.shape[0])]))[0][:, -1:]
    v = thin_qr(np.column_stack([w.vt.T, rng.standard_normal(w.shape[1])]))[0][:, -1:]
    more = LowRankMatrix._trusted(np.hstack([w.u, u]), np.append(w.s, size * w.s.max()), np.vstack([w.vt, v.T]))
    return LinearNetwork.balanced(more, x.depth, widths=x.network.widths, rng=rng)


def _spectrum_deviation(path: Trajectory, rank: int) -> float:
    """Return the largest relative deviation of the factors' singular values from sigma^(1/N)."""
    worst = 0.0
    for net, s in zip(path.points, path.singular_values, strict=True):
        expected = s[:rank] ** (1 / net.depth)
        for f in net.factors:
            found = linalg.svdvals(f)[:rank]
            worst = max(worst, float(np.abs(found - expected).max() / expected[0]))
    return worst


@claim(
    "factor_spectrum",
    statement="All factors have the singular values sigma_i^(1/N) of the product.",
    source=f"{BAH}; {derived('balanced-factors')}",
    meaning=(
        "The normal form of balanced factors, all along the factor flow. Measured: the largest deviation of the leading r"
        " singular values of any factor from sigma_i(W)^(1/N), relative to the largest. Bound: three times what the"
        " measured error of the factors allows (singular values move by at most e; the root amplifies an error of sigma by"
        " sigma^(1/N - 1) / N, most at the smallest), plus roundoff."
    ),
    hypotheses="balanced factors; within the validity horizon; all runs complete; sigma_r large enough to resolve its root",
    controls="unbalanced factors with the same product",
)
def factor_spectrum(x: Sides, runs: Runs) -> Measurement:
    """All factors share the singular values s^(1/N)."""
    path = runs.factors
    top = min(float(s[0]) for s in path.singular_values) ** (1 / x.depth)
    smallest = min(float(s[x.rank - 1]) for s in path.singular_values)
    # the factors are off by e (Weyl), and sigma^(1/N) by N ||W_j||^(N-1) e times the slope of the root at sigma_r
    largest = max(float(s[0]) for s in path.singular_values) ** (1 / x.depth)
    root_slope = smallest ** (1 / x.depth - 1) / x.depth
    error = float(_factor_errors(runs).max(initial=0.0)) * (1 + x.depth * largest ** (x.depth - 1) * root_slope)
    bound = (3 * error + 100 * EPS * math.sqrt(path.nfev) * (1 + root_slope)) / top
    other = x.factors(
        max(x.rtol, 1e-6),
        runs.control_times[:2],
        "control of the factors' spectrum",
        network=unbalanced(x.network, 0.5),
    )
    resolved = Hypothesis("sigma_r large enough to resolve its root", bound < 0.1, f"bound {bound:.2g}")
    return Measurement(
        _spectrum_deviation(path, x.rank), "<=", bound,
        (x.balanced, within_horizon(x, runs), complete(path, runs.factor_reference, other), resolved),
        (Control(UNBALANCED, _spectrum_deviation(other, x.rank), bound),),
        "bound: 3 e (1 + N ||W_j||^(N-1) times the slope of the root at sigma_r), e the measured error of the factors",
    )  # fmt: skip


@claim(
    "dissipation",
    statement="The loss falls by exactly what the flow dissipates: L(0) - L(t) = integral of g(W', W').",
    source=derived("dissipation"),
    meaning=(
        "The gradient flow identity, which ties loss, metric and velocity together. q' = g(W', W') is integrated as one"
        " more state of the Riemannian flow; the instantaneous form would cancel near stationarity. Measured: the largest"
        " |L(0) - L(t) - q(t)| over L(0) - L(T), or q(T) if larger. Bound: 1e-8, or 100 times the rtol of that run"
        " (rtol / 100) if larger, and the roundoff of the two values that are subtracted, 100 eps L(0) over L(0) - L(T)."
        " Where the loss has kinks it is ten times rtol for every step: an estimate of the error that supposes smoothness is"
        " no better across one."
    ),
    hypotheses="all runs complete; the loss that is lost exceeds its roundoff",
    controls="the gradient of the loss times 1.001: the length then grows faster than the loss falls",
)
def dissipation(x: Sides, runs: Runs) -> Measurement:
    """The loss lost is the length gained."""
    errors, path = _dissipation_error(x, x.loss, runs.times)
    # a gradient that is too long by c makes the loss fall (1 + c) times as fast, and the length (1 + c)^2 times
    wrong, other = _dissipation_error(x, Tampered(x.loss, 1.001), runs.control_times)
    lost = max(float(path.loss[0] - path.loss[-1]), float(path.columns["dissipated"][-1]))
    # the solver's tolerance over the run, and the roundoff of the two values that are subtracted
    noise = 100 * EPS * abs(float(path.loss[0])) / lost if lost > 0 else math.inf
    # across a kink the estimate of a step's error may be wrong by a factor, and the errors of many steps do not cancel
    kinks = 0.0 if x.smooth.met else 10 * path.nsteps * x.reference_rtol
    bound = max(1e-8, 100 * x.reference_rtol, kinks) + noise
    resolved = Hypothesis("the loss that is lost exceeds its roundoff", bound < 1e-4, f"bound {bound:.2g}")
    controls = (Control("loss gradient times 1.001", wrong, bound),)
    detail = f"relative to L(0) - L(T) = {lost:.4g}; bound: 1e-8 or 100 times the rtol of this run, and roundoff"
    return Measurement(errors, "<=", bound, (complete(path, other), resolved), controls, detail)


def _dissipation_error(x: Sides, loss: Loss, times: Array) -> tuple[float, Trajectory]:
    """Return the largest |L(0) - L(t) - q(t)| over L(0) - L(T) along the Riemannian flow of a loss, and the path."""
    save = Save(times=times, exact=True, steps=False, integrals={"dissipated": lambda at: at.power}, controlled=True)
    path = x.riemannian(x.reference_rtol, times, "dissipation", loss=loss, save=save)
    length = path.columns["dissipated"]
    errors = np.abs(path.loss[0] - path.loss - length)
    # of the two that should be equal the larger: of a velocity that is none of a gradient flow the loss may even rise
    lost = max(float(path.loss[0] - path.loss[-1]), float(length[-1]))
    return float(errors.max()) / lost if lost > 0 else math.inf, path


@claim(
    "imbalance",
    statement="From unbalanced factors with the same product the gap goes to zero linearly in the imbalance.",
    source=derived("imbalance"),
    meaning=(
        "The theorem is continuous in its main hypothesis, with a rate. The factors are [A W_1, W_2 A^{-1}, ...] with"
        " A = exp(c D), D diagonal, c halved until the gap is below 0.02, two successive orders agree to 0.03 and the linear"
        " term of the end-to-end operator, ||(op_c - op_{-c})(G)|| / 2c along the path, is five times the quadratic one."
        " Measured: the order over the last halving. Bound: 1 +- 0.1. Where the linear term vanishes (1 x 1; one input from"
        " depth 3 on; a core that commutes) the order is 2, and 2 +- 0.1 is claimed."
    ),
    hypotheses=(
        "balanced factors to begin with; a loss that is twice differentiable; within the validity horizon; all runs"
        " complete; the linear term is told from the quadratic one, or vanishes; the order has settled above the solvers'"
        " errors; W moves ten times as far as the last gap"
    ),
    controls="depth N + 1 on the Riemannian side: that gap does not go to zero",
)
def imbalance(x: Sides, runs: Runs) -> Measurement:
    """The gap goes to zero linearly in the imbalance."""
    times, ratio = runs.control_times, _linear_over_quadratic(x, runs)
    vanishes = ratio <= 1e-6  # central differences of roundoff at c = 1e-4
    errors = max(float(e[: times.size].max()) for e in runs.errors)
    floor = _FAR_ABOVE * max(errors, roundoff(runs.factor_reference, runs.reference))
    sizes, found, wrong, paths, order = [], [], [], [], math.nan
    settled, cs = False, 0.05 / 2.0 ** np.arange(_MOST_HALVINGS)
    for k, c in enumerate(cs):
        net = unbalanced(x.network, c)
        path = x.factors(max(x.rtol / 10, 1e-10), times, f"imbalance {k + 1}, at most {cs.size}", network=net)
        paths.append(path)
        sizes.append(net.relative_imbalance())
        found.append(float(gaps(path, runs.reference, times).max()))
        wrong.append(float(gaps(path, runs.wrong_depth, times).max()))
        if not (path.status.finished and found[-1] > floor):
            break
        if k > 0:
            last, order = order, slope(np.array(sizes[-2:]), np.array(found[-2:]))
            small = found[-1] <= 0.02 and (vanishes or ratio >= 5 * c)  # the next terms, of W and of A
            settled = bool(small and abs(order - last) <= 0.03)
        if settled:
            break
    size, values = np.array(sizes), np.array(found)
    figure = Figure(
        "imbalance", "The theorem is continuous in its hypothesis",
        "Largest relative gap to the Riemannian flow from unbalanced factors with the same product.",
        "relative imbalance", "largest relative gap",
        [
            curve("gap", size, values, "gap", points=True),
            curve("slope 1", size, values[-1] * size / size[-1], "guide"),
            curve(f"control: depth {x.depth + 1}", size, wrong, "control"),
        ],
        xscale="log", yscale="log",
    )  # fmt: skip
    wanted = 2.0 if vanishes else 1.0
    bound = (wanted - 0.1, wanted + 0.1)
    controls = (Control(f"depth {x.depth + 1}", slope(size[-2:], np.array(wrong[-2:])), bound, "in"),)
    told = Hypothesis("the linear term is told from the quadratic one, or vanishes", vanishes or ratio > 1e-3, ratio)
    says = Hypothesis("the order has settled, above the solvers' errors", settled, orders(values))
    detail = f"{orders(values)}; of the last one, up to t={times[-1]:.4g}, where half of the fall of the loss is done"
    if vanishes:
        detail = f"the linear term vanishes here, so order 2 is claimed; {detail}"
    return Measurement(
        order, "in", bound,
        (
            x.balanced, x.smooth, within_horizon(x, runs), complete(*paths, runs.reference, runs.wrong_depth), told, says,
            telling(runs, found[-1]),
        ),
        controls, detail, figures=(figure,),
    )  # fmt: skip


_FAR_ABOVE = 30  # times the solvers' errors: they then change an order by less than 0.1
_MOST_HALVINGS = 12


def _linear_over_quadratic(x: Sides, runs: Runs) -> float:
    """Return the largest ratio, along the path, of the terms in c and c^2 by which an imbalance c changes the velocity."""
    c, ratio = 1e-4, 0.0
    points = runs.factor_reference.points[: 1 + runs.control_times.size]
    for net in points[:: max(1, len(points) // 8)]:
        g = x.loss.gradient(net)
        up, down, at = (end_to_end_operator(unbalanced(net, by))(g) for by in (c, -c, 0.0))
        linear = difference(up, down).norm() / (2 * c)
        # a difference of this size has lost half of its digits to roundoff, and keeps the other half
        quadratic = max(difference(up + down, at * 2.0).norm() / (2 * c**2), at.norm())
        ratio = max(ratio, linear / quadratic if quadratic > 0 else 0.0)
    return ratio
