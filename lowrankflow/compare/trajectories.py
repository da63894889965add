"""Claims along the flow: the two sides together, and what each conserves."""

from __future__ import annotations

import math

import numpy as np
from scipy import linalg

from ..charts import Factors, System
from ..checks import Tampered
from ..flow import Trajectory
from ..flows import FactorFlow, Save
from ..losses import Loss
from ..matrices import EPS, LinearNetwork, LowRankMatrix, thin_qr
from ..report import Claim, Control, Hypothesis
from ..validation import Array
from .claims import claim
from .experiment import Experiment, curve, gaps, orders, slope, unbalanced
from .identities import UNBALANCED


def trajectory(x: Experiment) -> Claim:
    """The largest relative gap between the two flows over time."""
    between = gaps(x.factor_path, x.riemannian_path, x.times)
    _draw_singular_values(x)
    e_a, e_b = x.errors
    roundoff = x.roundoff(x.factor_reference, x.reference)
    bound = 3 * (float(e_a.max()) + float(e_b.max())) + roundoff
    times, rtol = x.control_times, max(x.rtol, 1e-8)
    x.stage = "controls of the trajectory"
    # a flow uphill blows up in finite time: a bounded number of gradients is enough to see it leave
    uphill = x.factors(rtol, times, loss=Tampered(x.loss, -1.0), max_evaluations=min(2000, x.max_evaluations))
    paths = {
        UNBALANCED: x.factors(rtol, times, network=unbalanced(x.network, 0.5)),
        f"depth {x.depth + 1}": x.wrong_depth_path,
        "wrong sign": uphill,
    }
    curves = [
        curve("gap between the flows", x.time_axis(x.times), between, "gap"),
        curve("error of the factor flow", x.time_axis(x.times), e_a, "b"),
        curve("error of the Riemannian flow", x.time_axis(x.times), e_b, "a"),
        curve("bound 3 (e_a + e_b) + roundoff", x.time_axis(x.times[[0, -1]]), [bound, bound], "bound"),
    ]
    controls = []
    for name, path in paths.items():
        values = gaps(path, x.riemannian_path, times)
        controls.append(Control(name, float(values.max()), bound))
        curves.append(curve(f"control: {name}", x.time_axis(times), values, "control"))
    x.draw(
        "gap",
        "Two flows, one trajectory",
        "Relative Frobenius distance between the product of the factor flow and the Riemannian flow, with the errors of"
        " both sides against themselves at rtol / 100. The controls start from the same W(0) and must leave the bound.",
        x.time_label,
        "relative gap",
        curves,
        xscale="log",
        yscale="log",
    )
    hypotheses = [x.balanced, x.within_horizon, x.complete(x.factor_path, x.riemannian_path)]
    detail = (
        f"e_a={e_a.max():.2g}, e_b={e_b.max():.2g}, roundoff={roundoff:.2g},"
        f" {x.times.size} times up to t={x.times[-1]:.4g}"
    )
    return claim("trajectory", float(between.max()), "<=", bound, hypotheses, controls, detail)


def _draw_singular_values(x: Experiment) -> None:
    curves = []
    for path, name, role in ((x.riemannian_path, "Riemannian flow", "a"), (x.factor_path, "factor flow", "b")):
        for k in range(x.rank):
            s = path.singular_values[1:, k]
            curves.append(curve(name if k == 0 else "", x.time_axis(path.t[1:]), s, role, points=role == "b"))
    x.draw(
        "singular_values",
        "Singular values of W along both flows",
        "Lines: the Riemannian gradient flow on the rank-r manifold. Markers: the product of the factors of the network.",
        x.time_label,
        "singular values of W",
        curves,
        xscale="log",
        yscale="log",
    )


def tolerance(x: Experiment) -> Claim:
    """The gap must fall with the tolerance of the solvers."""
    # RK45, whose error is proportional to its tolerance; DOP853 takes so few steps that its errors scatter. At one
    # time, when half of the loss is lost: landing on more of them caps the steps of the loose runs
    rtols = np.maximum(min(x.rtol, 1e-8) * 10.0 ** np.arange(-2, 2), 3e-14)
    times = x.control_times[-1:]
    found, wrong, steps = [], [], []
    for rtol in rtols:
        x.stage = f"both flows at rtol {rtol:.0e}"
        a, b = x.factors(rtol, times, method="RK45"), x.riemannian(rtol, times, method="RK45")
        found.append(float(gaps(a, b, times).max()))
        wrong.append(float(gaps(a, x.wrong_depth_path, times).max()))
        steps.append(min(a.nsteps, b.nsteps))
    values, floor = np.array(found), x.roundoff(a, b)
    # a run of a few steps obeys its first guess of a step, not its tolerance
    above = (values > floor) & (np.array(steps) >= 8)
    measured = slope(rtols[above], values[above])
    x.draw(
        "tolerance", "The gap is the solvers' own",
        "Relative gap between the flows, when half of the loss is lost, at four tolerances; a true difference (control)"
        " does not fall.",
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
    controls = [Control(f"depth {x.depth + 1}", slope(rtols, np.array(wrong)), 0.7, ">=")]
    detail = "gaps " + ", ".join(f"{v:.1e}" for v in values) + " at rtol " + ", ".join(f"{t:.0e}" for t in rtols)
    return claim("tolerance", measured, ">=", 0.7, [x.balanced, x.within_horizon, x.smooth, enough], controls, detail)


def _factor_errors(x: Experiment) -> Array:
    """Return the error of the factors over time, max_j ||W_j - W_j^ref||_F: the flow of the factors has no gauge."""
    pairs = zip(x.factor_path.points[1:], x.factor_reference.points[1:], strict=False)
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


def conservation(x: Experiment) -> Claim:
    """The imbalances are constant."""
    path = x.factor_path
    drift, errors = _drift(path), _factor_errors(x)
    scale = max(float(linalg.norm(f)) ** 2 for net in path.points for f in net.factors)
    spectral = max(float(linalg.norm(f, 2)) for net in path.points for f in net.factors)
    # D_j is quadratic: two factors off by e each move it by at most 2 * 2 ||W_j||_2 e
    bound = (3 * 4 * spectral * float(errors.max()) + 100 * EPS * math.sqrt(path.nfev) * scale) / scale
    x.stage = "control of the conservation"
    rtol = max(x.rtol, 1e-8)
    wrong = float(_drift(x.factors(rtol, x.control_times, chart=_FirstLayerTwiceAsFast())).max()) / scale
    x.draw(
        "conservation", "What the flow conserves",
        "Drift of the imbalances W_{j+1}^T W_{j+1} - W_j W_j^T along the factor flow, relative, with its bound.",
        x.time_label, "relative drift",
        [
            curve("largest drift over the layers", x.time_axis(x.times[: drift.size]), drift / scale, "gap"),
            curve("bound", x.time_axis(x.times[[0, -1]]), [bound, bound], "bound"),
            curve("control: first layer twice as fast", x.time_axis(x.times[[0, -1]]), [wrong, wrong], "control"),
        ],
        xscale="log", yscale="log",
    )  # fmt: skip
    controls = [Control("first layer trained twice as fast", wrong, bound)]
    measured, detail = (
        float(drift.max()) / scale,
        "relative to the largest ||W_j||_F^2; bound: 3 x 4 ||W_j||_2 e, e the measured error of the factors",
    )
    return claim("conservation", measured, "<=", bound, [x.complete(path)], controls, detail)


def _leak(path: Trajectory, rank: int) -> float:
    """Return the largest sigma_{r+1} / sigma_1 of the product over time; inf if sigma_r vanished."""
    worst = 0.0
    for s in path.singular_values:
        if not s[rank - 1] > 0:
            return math.inf
        worst = max(worst, float(s[rank] / s[0]) if s.size > rank else 0.0)
    return worst


def rank(x: Experiment) -> Claim:
    """The product stays on the manifold."""
    # solvers keep the span of the live hidden directions exactly, so only roundoff can leak out of it
    bound = max(1e-12, x.roundoff(x.factor_path))
    x.stage = "control of the rank"
    controls = []
    if min(*x.network.widths, *x.start.shape) > x.rank:
        higher = _one_rank_more(x, 1e-6)
        path = x.factors(max(x.rtol, 1e-8), x.control_times, network=higher)
        controls.append(Control("factors of rank r + 1, 1e-6 away", _leak(path, x.rank), bound))
    hypotheses = [x.balanced, x.within_horizon]
    room = "" if controls else "; the widths leave no room for more, so there is no control"
    smallest = min(float(s[x.rank - 1]) for s in x.factor_path.singular_values)
    detail = f"bound: 1e-12 or 100 eps sqrt(evaluations); smallest sigma_r on the way {smallest:.3g}{room}"
    return claim("rank", _leak(x.factor_path, x.rank), "<=", bound, hypotheses, controls, detail)


def _one_rank_more(x: Experiment, size: float) -> LinearNetwork:
    """Return balanced factors of W(0) plus one more singular triple of relative size `size`."""
    w = x.start
    u = thin_qr(np.column_stack([w.u, x.rng.standard_normal(w.shape[0])]))[0][:, -1:]
    v = thin_qr(np.column_stack([w.vt.T, x.rng.standard_normal(w.shape[1])]))[0][:, -1:]
    more = LowRankMatrix._trusted(np.hstack([w.u, u]), np.append(w.s, size * w.s.max()), np.vstack([w.vt, v.T]))
    return LinearNetwork.balanced(more, x.depth, widths=x.network.widths, rng=x.rng)


def _spectrum_deviation(path: Trajectory, rank: int) -> float:
    """Return the largest relative deviation of the factors' singular values from sigma^(1/N)."""
    worst = 0.0
    for net, s in zip(path.points, path.singular_values, strict=True):
        expected = s[:rank] ** (1 / net.depth)
        for f in net.factors:
            found = linalg.svdvals(f)[:rank]
            worst = max(worst, float(np.abs(found - expected).max() / expected[0]))
    return worst


def factor_spectrum(x: Experiment) -> Claim:
    """All factors share the singular values s^(1/N)."""
    path = x.factor_path
    top = min(float(s[0]) for s in path.singular_values) ** (1 / x.depth)
    smallest = min(float(s[x.rank - 1]) for s in path.singular_values)
    # the factors are off by e (Weyl), and sigma^(1/N) by N ||W_j||^(N-1) e times the slope of the root at sigma_r
    largest = max(float(s[0]) for s in path.singular_values) ** (1 / x.depth)
    root_slope = smallest ** (1 / x.depth - 1) / x.depth
    error = float(_factor_errors(x).max()) * (1 + x.depth * largest ** (x.depth - 1) * root_slope)
    roundoff = 100 * EPS * math.sqrt(path.nfev) * (1 + root_slope)
    bound = (3 * error + roundoff) / top
    wrong = _spectrum_deviation(
        x.factors(max(x.rtol, 1e-6), x.control_times[:2], network=unbalanced(x.network, 0.5)), x.rank
    )
    resolved = Hypothesis("sigma_r large enough to resolve its root", bound < 0.1, f"bound {bound:.2g}")
    hypotheses = [x.balanced, x.within_horizon, resolved]
    measured = _spectrum_deviation(path, x.rank)
    detail = (
        "bound: 3 e (1 + N ||W_j||^(N-1) times the slope of the root at sigma_r), e the measured error of the factors"
    )
    return claim("factor_spectrum", measured, "<=", bound, hypotheses, [Control(UNBALANCED, wrong, bound)], detail)


def dissipation(x: Experiment) -> Claim:
    """The loss lost is the length gained."""
    x.stage = "dissipation"
    errors, path = _dissipation_error(x, x.loss, x.times)
    # a gradient that is too long by c makes the loss fall (1 + c) times as fast, and the length (1 + c)^2 times
    wrong, _ = _dissipation_error(x, Tampered(x.loss, 1.001), x.control_times)
    lost = float(path.loss[0] - path.loss[-1])
    # the solver's tolerance over the run, and the roundoff of the two values that are subtracted
    roundoff = 100 * EPS * abs(float(path.loss[0])) / lost if lost > 0 else math.inf
    bound = max(1e-8, 100 * x.reference_rtol) + roundoff
    resolved = Hypothesis("the loss that is lost exceeds its roundoff", bound < 1e-4, f"bound {bound:.2g}")
    controls = [Control("loss gradient times 1.001", wrong, bound)]
    detail = f"relative to L(0) - L(T) = {lost:.4g}; bound: 1e-8 or 100 times the rtol of this run, and roundoff"
    return claim("dissipation", errors, "<=", bound, [x.complete(path), resolved], controls, detail)


def _dissipation_error(x: Experiment, loss: Loss, times: Array) -> tuple[float, Trajectory]:
    """Return the largest |L(0) - L(t) - q(t)| over L(0) - L(T) along the Riemannian flow of a loss, and the path."""
    save = Save(times=times, exact=True, steps=False, integrals={"dissipated": lambda at: at.power}, controlled=True)
    path = x.riemannian(x.reference_rtol, times, loss=loss, save=save)
    lost = float(path.loss[0] - path.loss[-1])
    errors = np.abs(path.loss[0] - path.loss - path.columns["dissipated"])
    return float(errors.max()) / lost if lost > 0 else math.inf, path


def imbalance(x: Experiment) -> Claim:
    """The gap goes to zero linearly in the imbalance."""
    sizes, found, wrong = [], [], []
    reference, times = x.reference, x.control_times
    for k in range(6):
        x.stage = f"imbalance {k + 1} of 6"
        net = unbalanced(x.network, 0.05 / 2**k)
        path = x.factors(max(x.rtol / 10, 1e-10), times, network=net)
        sizes.append(net.relative_imbalance())
        found.append(float(gaps(path, reference, times).max()))
        wrong.append(float(gaps(path, x.wrong_depth_path, times).max()))
    size, values = np.array(sizes), np.array(found)
    x.draw(
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
    controls = [Control(f"depth {x.depth + 1}", slope(size, np.array(wrong)), (0.9, 1.1), "in")]
    # the finest three halvings: where the first-order constant happens to be small, the second order holds on longer
    with np.errstate(all="ignore"):
        last = np.log2(values[-3:-1] / values[-2:])
    settled = Hypothesis("the order has settled", bool(abs(last[1] - last[0]) <= 0.1), orders(values))
    detail = f"{orders(values)}; fitted to the finest three, up to t={times[-1]:.4g}, where half of the loss is lost"
    hypotheses = [x.balanced, x.smooth, settled]
    return claim("imbalance", slope(size[-4:], values[-4:]), "in", (0.9, 1.1), hypotheses, controls, detail)
