"""Metrics side by side: numbers against dense flows, claims with controls, tables, and what is refused."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import oracles
import pytest
from scipy.integrate import solve_ivp

import lowrankflow as lrf
from lowrankflow.claims import courses
from lowrankflow.metrics import named_metrics
from lowrankflow.render import to_html

SHIPPED = {
    "embedded": lrf.EmbeddedMetric(),
    "depth 1.5": lrf.DepthMetric(1.5),
    "depth 2": lrf.DepthMetric(2),
    "depth 3": lrf.DepthMetric(3),
    "depth inf (degenerate)": lrf.DepthMetric(np.inf),
    "ScaledGD": lrf.metrics.ScaledGDMetric(),
    "two-factor": lrf.metrics.TwoFactorMetric(),
    "subspace projection": lrf.metrics.SubspaceProjectionMetric(),
    "polar": lrf.metrics.PolarMetric(),
    "MN": lrf.metrics.MNMetric(),
    "lambda 0.5": lrf.metrics.LambdaBalancedMetric(0.5),
    "kappa 0.1, 0.2": lrf.metrics.KappaBalancedMetric((0.1, 0.2)),
}


def problem(seed=0, m=4, n=5, rank=2, scale=0.3):
    """A small regression whose modes are well apart, as arrays and as a loss, with a start that points their way."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 3 * n)) / np.sqrt(3 * n)
    y = np.diag([3.0, 1.5, 0.6, 0.2])[:m] @ rng.standard_normal((4, n)) @ x
    toward = y @ x.T
    noise = rng.standard_normal((m, n))
    u, _, vt = np.linalg.svd(toward / np.linalg.norm(toward) + 0.5 * noise / np.linalg.norm(noise))
    start = lrf.LowRankMatrix(u[:, :rank], scale * np.linspace(1.0, 0.7, rank), vt[:rank])
    return x, y, lrf.losses.LeastSquares(x, y), start


@pytest.fixture(scope="module")
def everything():
    _, _, loss, start = problem()
    return lrf.compare_metrics(loss, start, list(SHIPPED.values()), rtol=1e-5, max_evaluations=4000)


# ---------------------------------------------------------------------------------------------------------------------
# numbers, against dense flows that share no code with the library


def dense_factor_flow(x, y, factors, t_end, pair):
    """W and arc length at the end, and the time at which half of a pair of the whitened targets is there."""
    shapes, cuts = [f.shape for f in factors], np.cumsum([f.size for f in factors])
    u, v, sigma, root = pair

    def split(z):
        return [part.reshape(shape) for part, shape in zip(np.split(z[:-1], cuts[:-1]), shapes, strict=True)]

    def velocity(t, z):
        fs = split(z)
        g = (oracles.chain(fs) @ x - y) @ x.T
        moves = []
        for j in range(len(fs)):
            left, right = oracles.sides(fs, j)
            moves.append(-left.T @ g @ right.T)
        speed = np.linalg.norm(oracles.product_derivative(fs, moves))
        return np.concatenate([*(move.ravel() for move in moves), [speed]])

    def half(t, z):
        return u @ oracles.chain(split(z)) @ root @ v / sigma - 0.5

    start = np.concatenate([*(f.ravel() for f in factors), [0.0]])
    path = solve_ivp(velocity, (0, t_end), start, method="LSODA", rtol=1e-11, atol=1e-13, events=half)
    return oracles.chain(split(path.y[:, -1])), path.y[-1, -1], path.t_events[0]


def dense_embedded_flow(x, y, w, t_end, pair):
    """The same of W' = -P_W(G), with the projector from the SVD of the dense W."""
    u, v, sigma, root = pair
    m, n, rank = *w.shape, w.rank

    def velocity(t, z):
        a = z[:-1].reshape(m, n)
        left, _, right = np.linalg.svd(a)
        p, q = left[:, :rank] @ left[:, :rank].T, right[:rank].T @ right[:rank]
        g = (a @ x - y) @ x.T
        move = -(p @ g + g @ q - p @ g @ q)
        return np.append(move, np.linalg.norm(move))

    def half(t, z):
        return u @ z[:-1].reshape(m, n) @ root @ v / sigma - 0.5

    start = np.append(w.to_dense(), 0.0)
    path = solve_ivp(velocity, (0, t_end), start, method="LSODA", rtol=1e-11, atol=1e-13, events=half)
    return path.y[:-1, -1].reshape(m, n), path.y[-1, -1], path.t_events[0]


def leading_pair(x, y):
    """The first singular pair of the whitened targets, by a symmetric root: B = W C^{1/2}, Q = Y X^T C^{-1/2}."""
    values, basis = np.linalg.eigh(x @ x.T)
    root = basis * np.sqrt(values) @ basis.T
    u, s, vt = np.linalg.svd(y @ x.T @ np.linalg.inv(root))
    return u[:, 0], vt[0], s[0], root


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_ends_lengths_and_times_are_those_of_a_dense_flow(depth):
    x, y, loss, start = problem()
    pair, t_end = leading_pair(x, y), 2.5
    if depth == 1:
        metric = lrf.EmbeddedMetric()
        w, length, halves = dense_embedded_flow(x, y, start, t_end, pair)
    else:
        metric = lrf.DepthMetric(depth)
        w, length, halves = dense_factor_flow(x, y, oracles.balanced_factors(start, depth), t_end, pair)
    report = lrf.compare_metrics(loss, start, {"it": metric}, clock="factors", clock_end=t_end, rtol=1e-10)
    end, cost = report.attachments["ends"]["it"].to_dense(), report.table("cost")
    # both sides to 1e-10 a step over some dozens of steps, with errors that grow while the modes do
    assert np.linalg.norm(end - w) < 1e-7 * np.linalg.norm(w)
    assert cost.column("arc length")[0] == pytest.approx(length, rel=1e-7)
    assert cost.column("time")[0] == pytest.approx(t_end, rel=1e-12)
    assert report.table("limits").column("loss")[0] == pytest.approx(0.5 * np.linalg.norm(w @ x - y) ** 2, rel=1e-6)
    assert len(halves) == 1
    # events are located on the interpolants of both solvers, a thousand times less accurate than their steps
    assert report.table("modes").rows[0][1] == pytest.approx(halves[0], rel=1e-5)
    # the control: another metric is elsewhere at that time
    other = lrf.compare_metrics(loss, start, {"it": lrf.DepthMetric(4)}, clock="factors", clock_end=t_end, rtol=1e-6)
    assert np.linalg.norm(other.attachments["ends"]["it"].to_dense() - w) > 1e-3 * np.linalg.norm(w)


def test_the_clock_of_the_operator_is_its_norm_at_the_start():
    _, _, loss, start = problem()
    basis = np.eye(start.shape[0] * start.shape[1]).reshape(-1, *start.shape)
    operator = np.array([oracles.depth_operator(start, z, 3).ravel() for z in basis])
    norm = np.linalg.norm(operator, 2)
    reports = {
        clock: lrf.compare_metrics(loss, start, [lrf.DepthMetric(3)], clock=clock, rtol=1e-8)
        for clock in ("operator", "factors")
    }
    assert reports["operator"].table("cost").column("coefficient")[0] == pytest.approx(norm, rel=1e-12)
    times = {clock: report.table("cost").column("time")[0] for clock, report in reports.items()}
    assert times["operator"] == pytest.approx(norm * times["factors"], rel=1e-12)
    lengths = {report.table("cost").column("arc length")[0] for report in reports.values()}
    assert len(lengths) == 1  # the clock is a matter of words, the path is not
    asked = lrf.compare_metrics(loss, start, [lrf.DepthMetric(3)], clock_end=0.5, rtol=1e-6)
    assert asked.table("cost").column("time")[0] == pytest.approx(0.5, rel=1e-12)
    assert asked.table("limits").column("ended by") == ("end time",)


def test_bures_wasserstein_is_depth_two_in_half_the_time(rng):
    a = rng.standard_normal((4, 4))
    loss = lrf.losses.LeastSquares(np.eye(4), a @ a.T)
    start = lrf.random_point(4, 4, 2, rng=rng, singular_values=[0.4, 0.3], symmetric=True)
    metrics = [lrf.metrics.BuresWassersteinMetric(), lrf.DepthMetric(2)]
    report = lrf.compare_metrics(loss, start, metrics, clock="factors", rtol=1e-9)
    limits, cost = report.table("limits"), report.table("cost")
    assert limits.column("limit") == ("A", "A")
    # both run until the gradient is 1e-4 of its start, which they overshoot by a step of their own
    assert cost.column("arc length")[0] == pytest.approx(cost.column("arc length")[1], rel=1e-3)
    first, second = (np.array(report.table("modes").column(name)[:2]) for name in ("Bures-Wasserstein", "depth 2"))
    np.testing.assert_allclose(second / first, 2, rtol=1e-5)


def test_the_limit_is_named_by_its_modes_and_effective_ranks_are_right(everything):
    limits = everything.table("limits")
    for label, w in everything.attachments["ends"].items():
        s = np.linalg.svd(w.to_dense(), compute_uv=False)[:2]
        row = dict(zip(limits.columns, limits.rows[limits.column("metric").index(label)], strict=True))
        assert row["rank, nuclear"] == pytest.approx(s.sum() / s[0], rel=1e-12)
        p = s / s.sum()
        assert row["rank, entropy"] == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-12)
        if "degenerate" not in label:
            assert row["J"] == "{1, 2}" and row["from J"] < 0.01 and row["limit"] == "A"
            assert row["gradient"] <= 1e-4
    frozen = limits.rows[limits.column("metric").index("depth inf (degenerate)")]
    assert frozen[1] == "gradient" and frozen[3] != "A"  # at rest on the r x r block, not on the manifold
    assert dict(zip(limits.columns, frozen, strict=True))["gradient"] > 1e-2
    # its row and column spaces are those of the start
    start, end = problem()[3], everything.attachments["ends"]["depth inf (degenerate)"]
    np.testing.assert_allclose(start.u @ (start.u.T @ end.u), end.u, atol=1e-10)


def test_loss_at_the_half_lies_on_the_path(everything):
    for label in ("embedded", "depth 3", "polar"):
        times = everything.table("modes").column(label)[:2]
        losses = everything.table("mode_losses").column(label)[:2]
        figure = next(f for f in everything.figures if f.name == "loss_time")
        curve = next(c for c in figure.curves if c.label == label)
        floor = problem()[2].best_value(2)
        for t, value in zip(times, losses, strict=True):
            i = np.searchsorted(curve.x, t)
            assert curve.y[i] <= value - floor <= curve.y[i - 1]  # the loss falls


def test_a_mode_is_learnt_at_the_start_or_never():
    loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    e = np.eye(3)
    start = lrf.LowRankMatrix(e[:, :2], [2.9, 0.5], e[:2])  # aligned: mode 3 cannot come in
    report = lrf.compare_metrics(loss, start, [lrf.DepthMetric(2)], rtol=1e-6)
    first, second, third, order = report.table("modes").column("depth 2")
    assert first == 0.0 and second > 0 and third is None and order == "1 2"
    assert report.table("mode_losses").column("depth 2")[0] == pytest.approx(float(loss.value(start)), rel=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# claims


def test_every_claim_holds_for_every_metric_and_its_control_is_caught(everything):
    assert [claim.name for claim in everything] == ["power", "conversion", "clock"]
    for claim in everything:
        assert claim.verdict == "passed" and claim.controls
        assert all(not control.measured <= control.bound for control in claim.controls)
    everything.raise_if_failed()


@dataclasses.dataclass(frozen=True)
class Contradictory:
    """Coefficients of the embedded metric, but frames that turn at half the speed they say."""

    def coefficients(self, s):
        return lrf.EmbeddedMetric().coefficients(s)

    def frame_rates(self, s):
        return 0.5 / s, 0.5 / s


def test_a_metric_that_contradicts_itself_fails_the_claim_of_its_power():
    _, _, loss, start = problem()
    report = lrf.compare_metrics(loss, start, [lrf.DepthMetric(2), Contradictory()], rtol=1e-6)
    claim = report["power"]
    assert claim.verdict == "failed" and claim.measured > 1e2 * claim.bound and "Contradictory" in claim.detail


class TwiceEmbedded:
    """A metric of a user: no more than its coefficients, and equal to nothing but itself."""

    def coefficients(self, s):
        two = np.full_like(s, 2.0)
        return lrf.Coefficients(core=np.full((s.size, s.size), 2.0), up=two, vp=two)


class Restless:
    """A metric that is no function of W: its frames slow down with every call."""

    def __init__(self):
        self.calls = 0

    def coefficients(self, s):
        self.calls += 1
        one = np.ones_like(s) / (1 + 1e-3 * self.calls)
        return lrf.Coefficients(core=np.ones((s.size, s.size)), up=one, vp=one)


def test_a_metric_that_is_no_function_of_w_fails_the_claim_of_the_clock():
    _, _, loss, start = problem()
    report = lrf.compare_metrics(loss, start, [Restless()], rtol=1e-5, max_evaluations=200)
    assert report["clock"].verdict != "passed"


def test_a_control_that_changes_nothing_is_not_caught(monkeypatch):
    from lowrankflow.claims.comparisons import Comparison

    monkeypatch.setattr(Comparison, "another", lambda self, metric: metric)
    _, _, loss, start = problem()
    report = lrf.compare_metrics(loss, start, [lrf.DepthMetric(2)], rtol=1e-6)
    assert report["power"].verdict == report["clock"].verdict == "failed"
    assert report["power"].holds and report["clock"].holds


def test_on_a_single_entry_all_metrics_are_one_and_rank_is_lost():
    loss = lrf.losses.LeastSquares([[1.0]], [[-1.0]])
    start = lrf.LowRankMatrix([[1.0]], [1.0], [[1.0]])
    report = lrf.compare_metrics(loss, start, [lrf.EmbeddedMetric()], rtol=1e-6)
    assert report.table("limits").column("ended by") == ("rank lost",)
    assert {claim.verdict for claim in report} == {"not claimed"}
    assert report["power"].hypotheses[0].value == "embedded"


def test_sources_of_the_claims_exist_and_the_claims_are_described(everything):
    docs = Path(__file__).parents[1] / "docs"
    headings = re.findall(r"^#+ (.*)$", (docs / "theory.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    slugs = {heading.strip().lower().replace(" ", "-") for heading in headings}
    described = (docs / "claims.md").read_text(encoding="utf-8")
    for claim in everything:
        assert re.fullmatch(r"derived: docs/theory\.md#(.+)", claim.source).group(1) in slugs
        assert f"### {claim.name}" in described


def test_one_metric_under_two_names_proves_nothing_about_conversion():
    _, _, loss, start = problem()
    report = lrf.compare_metrics(loss, start, [lrf.metrics.KappaBalancedMetric((0, 0)), lrf.DepthMetric(3)], rtol=1e-5)
    assert [claim.verdict for claim in report] == ["passed", "not claimed", "passed"]
    assert report.table("cost").column("metric") == ("kappa 0, 0", "depth 3")
    # the root of p and the polynomial itself give the coefficients to roundoff, and the flows choose steps of their own
    assert report.table("cost").column("arc length")[0] == pytest.approx(report.table("cost").column("arc length")[1], rel=1e-3)


def test_a_run_that_loses_its_rank_is_left_out_of_the_clock():
    # W' = Y - W goes straight to Y and loses both signs on its way, one after the other; depth 2 turns instead
    loss = lrf.losses.LeastSquares(np.eye(2), np.array([[-1.0, 0.1], [-0.1, -1.4]]))
    start = lrf.LowRankMatrix(np.eye(2), [1.0, 0.5], np.eye(2))
    report = lrf.compare_metrics(loss, start, [lrf.EmbeddedMetric(), lrf.DepthMetric(2)], rtol=1e-6, max_evaluations=3000)
    assert report.table("limits").column("ended by")[0] == "rank lost"
    assert report["clock"].verdict == "passed" and "depth 2" in report["clock"].detail


# ---------------------------------------------------------------------------------------------------------------------
# the report


def test_json_and_back_and_the_page_hold_the_tables(everything, tmp_path):
    everything.to_json(tmp_path / "r.json")
    again = lrf.Report.from_json(tmp_path / "r.json")
    assert again.to_dict() == everything.to_dict() and again.tables == everything.tables
    text, html = str(everything), to_html(dataclasses.replace(again, figures=[]))
    for table in everything.tables:
        assert table.title in text and table.title in html
    assert "What does the metric do?" in html and "two-factor" in html
    assert "0.0…" not in text  # digits are not cut off, however many metrics there are


def test_colours_mean_the_same_metric_in_all_figures(everything):
    labels = [list(dict.fromkeys(c.label for c in f.curves if c.label)) for f in everything.figures]
    assert all(names == list(SHIPPED) for names in labels)
    assert {c.role for f in everything.figures for c in f.curves if not c.mark} == {"one"}  # named lines are no metric's


def test_own_measures_are_followed_with_their_least_value():
    _, _, loss, start = problem()
    report = lrf.compare_metrics(
        loss, start, {"mine": lrf.DepthMetric(2)}, measures={"size": lambda w: w.norm()}, rtol=1e-6
    )
    row = dict(zip(report.table("limits").columns, report.table("limits").rows[0], strict=True))
    assert row["size"] == pytest.approx(report.attachments["ends"]["mine"].norm(), rel=1e-12)
    assert row["size, least"] <= start.norm() * (1 + 4 * oracles.EPS) < row["size"]
    assert report.figures[-1].name == "measure_size" and report.figures[-1].curves[0].label == "mine"


def test_two_metrics_of_one_class_keep_their_own_names():
    _, _, loss, start = problem()
    report = lrf.compare_metrics(loss, start, [TwiceEmbedded(), TwiceEmbedded()], rtol=1e-5)
    assert report.table("cost").column("metric") == ("TwiceEmbedded", "TwiceEmbedded'")


def test_a_loss_without_modes_and_with_negative_values():
    class Shifted:
        shape = (4, 3)

        def value(self, w):
            return float(0.5 * np.sum((w.to_dense() - 1) ** 2) - 100)

        def gradient(self, w):
            return w.to_dense() - 1

    start = lrf.random_point(4, 3, 2, rng=np.random.default_rng(0))
    report = lrf.compare_metrics(Shifted(), start, [lrf.DepthMetric(2), lrf.EmbeddedMetric()], clock_end=1.0, rtol=1e-7)
    assert [table.name for table in report.tables] == ["limits", "cost", "distances"]
    assert report["power"].verdict == "passed"
    drawn = next(f for f in report.figures if f.name == "loss_time")
    assert "least seen" in drawn.ylabel


@pytest.mark.parametrize("stop", ["depth 3", "clocks"])
def test_ctrl_c_keeps_the_metrics_that_were_finished(stop):
    _, _, loss, start = problem()

    def progress(stage, fraction):
        if stage == stop:
            raise KeyboardInterrupt

    metrics = [lrf.DepthMetric(2), lrf.DepthMetric(3)]
    with pytest.raises(lrf.Interrupted) as caught:
        lrf.compare_metrics(loss, start, metrics, rtol=1e-6, progress=progress)
    report = caught.value.report
    finished = ("depth 2",) if stop == "depth 3" else ("depth 2", "depth 3")
    assert report.interrupted and report.table("cost").column("metric") == finished
    assert set(report.attachments["ends"]) == set(finished)


def test_progress_rises_over_all_metrics():
    _, _, loss, start = problem()
    told = []
    metrics = [lrf.DepthMetric(2), lrf.DepthMetric(3)]
    lrf.compare_metrics(loss, start, metrics, rtol=1e-5, progress=lambda stage, part: told.append((stage, part)))
    parts = [part for stage, part in told if stage != "clocks"]
    assert min(parts) >= 0 and max(parts) <= 1 and len(parts) > 10
    assert list(dict.fromkeys(stage for stage, _ in told)) == ["depth 2", "depth 3", "clocks"]


# ---------------------------------------------------------------------------------------------------------------------
# what is refused

LOSS, START = problem()[2:]
class Infinite:
    """A loss whose gradient is nan from its second call on: past the checks of the start."""

    def __init__(self):
        self.shape, self.calls = LOSS.shape, 0

    def value(self, w):
        return LOSS.value(w)

    def gradient(self, w):
        self.calls += 1
        return (1.0 if self.calls < 2 else np.nan) * w.to_dense()


CRITICAL = lrf.losses.LeastSquares(np.eye(2), np.eye(2))
REFUSED = {
    "no metric": (
        lambda: lrf.compare_metrics(LOSS, START, []), ValueError,
        "`metrics` must not be empty. Pass for instance [EmbeddedMetric(), DepthMetric(3)]."),
    "not a sequence": (
        lambda: lrf.compare_metrics(LOSS, START, lrf.DepthMetric(2)), TypeError,
        "`metrics` must be a sequence of metrics, got DepthMetric."),
    "not a metric": (
        lambda: lrf.compare_metrics(LOSS, START, [[3]]), TypeError,
        "`metric` must have coefficients(s), got list. Pass an instance: DepthMetric(3)."),
    "not a number": (
        lambda: lrf.compare_metrics(LOSS, START, [True]), TypeError,
        "`metric` must have coefficients(s), got bool True. Pass an instance: DepthMetric(3)."),
    "not a name": (
        lambda: lrf.compare_metrics(LOSS, START, ["embedded", "deep"]), ValueError,
        "`metrics` must be one of embedded, scaledgd, twofactor, subspace, polar, mn, r3mc, bures-wasserstein, a depth,"
        " lambda:NUMBER or kappa:NUMBER:..., got 'deep'."),
    "depth one by number": (
        lambda: lrf.compare_metrics(LOSS, START, [1]), ValueError,
        "`depth` must be greater than 1, got 1."
        " A depth-1 flow does not preserve rank; use EmbeddedMetric() for the projected flow."),
    "twice by name": (
        lambda: lrf.compare_metrics(LOSS, START, [lrf.DepthMetric(2), "2"]), ValueError,
        "`metrics` must name each metric once, got depth 2 twice."),
    "twice": (
        lambda: lrf.compare_metrics(LOSS, START, [lrf.DepthMetric(2), lrf.DepthMetric(2.0)]), ValueError,
        "`metrics` must name each metric once, got depth 2 twice."),
    "clock": (
        lambda: lrf.compare_metrics(LOSS, START, [lrf.DepthMetric(2)], clock="mine"), ValueError,
        "`clock` must be one of operator, factors; got 'mine'."),
    "rtol": (
        lambda: lrf.compare_metrics(LOSS, START, [lrf.DepthMetric(2)], rtol=1e-2), ValueError,
        "`rtol` must lie between 1e-12 and 1e-05, got 0.01."),
    "measures": (
        lambda: lrf.compare_metrics(LOSS, START, [lrf.DepthMetric(2)], measures=[1]), TypeError,
        "`measures` must be a mapping of names to functions, got list."),
    "measure": (
        lambda: lrf.compare_metrics(LOSS, START, [lrf.DepthMetric(2)], measures={"a": 1}), TypeError,
        "`measures['a']` must be callable, got int 1."),
    "about": (
        lambda: lrf.compare_metrics(LOSS, START, [lrf.DepthMetric(2)], about=1), TypeError,
        "`about` must be a mapping of JSON values, got int 1."),
    "shape": (
        lambda: lrf.compare_metrics(LOSS, START.T, [lrf.DepthMetric(2)]), ValueError,
        "`start` has shape (5, 4) but the loss is defined on (4, 5). Did you mean the transpose?"),
    "not symmetric": (
        lambda: lrf.compare_metrics(LOSS, START, [lrf.metrics.BuresWassersteinMetric()]), ValueError,
        "`start` must be symmetric positive semidefinite under BuresWassersteinMetric, got shape (4, 5)."),
    "critical": (
        lambda: lrf.compare_metrics(CRITICAL, lrf.LowRankMatrix.from_dense(np.eye(2)), [lrf.DepthMetric(2)]), ValueError,
        "`start` must not be a critical point, the one of the singular pairs J = {1, 2}, got a projected gradient of 0,"
        " which is roundoff: nothing moves. Start elsewhere, for instance at random_point(m, n, rank, rng=0)."),
    "nan": (
        lambda: lrf.compare_metrics(Infinite(), START, [lrf.DepthMetric(2)]), ValueError,
        "`loss.gradient(start)` must be finite, got a projected gradient of nan under depth 2."),
    "name": (
        lambda: named_metrics("embedded,deep"), ValueError,
        "`metrics` must be one of embedded, scaledgd, twofactor, subspace, polar, mn, r3mc, bures-wasserstein, a depth,"
        " lambda:NUMBER or kappa:NUMBER:..., got 'deep'."),
    "empty name": (
        lambda: named_metrics("2,,3"), ValueError, "`metrics` must be names separated by commas, got '2,,3'."),
    "ragged table": (
        lambda: lrf.report.Table("a", "b", "c", ("x", "y"), ((1.0,),)), ValueError,
        "`rows` must have one value for each of the 2 columns, got 1."),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name):
    call, kind, message = REFUSED[name]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


def test_names_of_the_command_line():
    found = named_metrics(
        "embedded, 2,2.5,INF,scaledgd,twofactor,subspace,polar,mn,lambda:-0.5,kappa:0.1:0.2,bures-wasserstein"
    )
    assert found == [
        lrf.EmbeddedMetric(), lrf.DepthMetric(2), lrf.DepthMetric(2.5), lrf.DepthMetric(math.inf), lrf.metrics.ScaledGDMetric(),
        lrf.metrics.TwoFactorMetric(), lrf.metrics.SubspaceProjectionMetric(), lrf.metrics.PolarMetric(), lrf.metrics.MNMetric(),
        lrf.metrics.LambdaBalancedMetric(-0.5), lrf.metrics.KappaBalancedMetric((0.1, 0.2)), lrf.metrics.BuresWassersteinMetric(),
    ]  # fmt: skip


def test_names_and_depths_stand_for_their_metrics():
    loss, start = problem()[2:]
    named = ["Embedded", 3, np.float64(2.5), math.inf, " scaledgd ", "lambda:0.1"]
    metrics = [lrf.EmbeddedMetric(), lrf.DepthMetric(3), lrf.DepthMetric(2.5), lrf.DepthMetric(math.inf)]
    metrics += [lrf.metrics.ScaledGDMetric(), lrf.metrics.LambdaBalancedMetric(0.1)]
    a, b = (lrf.compare_metrics(loss, start, chosen, clock_end=0.1, rtol=1e-5) for chosen in (named, metrics))
    assert list(a.attachments["ends"]) == list(b.attachments["ends"])
    assert [c.measured for c in a.claims] == [c.measured for c in b.claims]
    labelled = lrf.compare_metrics(loss, start, {"mine": "mn", "deep": 2}, clock_end=0.1, rtol=1e-5)
    assert list(labelled.attachments["ends"]) == ["mine", "deep"]


def test_depth_inf_is_marked_only_where_it_is_degenerate():
    square, tall = (lrf.random_point(*shape, 2, rng=np.random.default_rng(0)) for shape in ((2, 2), (3, 2)))
    from lowrankflow.compare.metrics import metric_label

    assert metric_label(lrf.DepthMetric(math.inf), square) == "depth inf"
    assert metric_label(lrf.DepthMetric(math.inf), tall) == "depth inf (degenerate)"
    assert not courses.degenerate_at(lrf.DepthMetric(3), tall)


class _Coefficients:
    """A metric of given parts."""

    def __init__(self, **changes):
        self.changes = changes

    def coefficients(self, s):
        parts = {"core": np.ones((s.size, s.size)), "up": np.ones_like(s), "vp": np.ones_like(s)}
        return lrf.Coefficients(**(parts | {name: change(s) for name, change in self.changes.items()}))


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (_Coefficients(core=lambda s: np.full((s.size, s.size), np.nan)), r"`coefficients\(s\).core` must be finite"),
        (_Coefficients(core=lambda s: -np.ones((s.size, s.size))), "`metric` must be positive on the tangent space"),
        (_Coefficients(up=lambda s: np.ones(1)), r"`metric` must have coefficients\(s\).up of shape"),
        (_Coefficients(mix=lambda s: np.triu(np.full((s.size, s.size), 0.1), 1)), "`metric` must have a symmetric mix"),
        (type("Tuple", (), {"coefficients": lambda self, s: (s, s, s)})(), r"`metric` must return Coefficients\(core"),
    ],
)
def test_what_is_no_metric_is_refused_before_anything_runs(metric, message, rng):
    loss = lrf.losses.LeastSquares(np.eye(4), np.diag([4.0, 3.0, 2.0, 1.0]))
    start = lrf.random_point(4, 4, 2, rng=rng)
    for call in (
        lambda: lrf.compare_metrics(loss, start, [lrf.EmbeddedMetric(), metric]),
        lambda: lrf.integrate(lrf.RiemannianFlow(loss, metric), start, t_span=(0, 1))
        if "positive" not in message
        else lrf.compare_metrics(loss, start, [metric]),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            call()


@pytest.mark.parametrize("function", [lambda w: "x", lambda w: w.s, lambda w: 1 / 0])
def test_measures_are_asked_before_anything_runs(function, rng):
    loss = lrf.losses.LeastSquares(np.eye(4), np.diag([4.0, 3.0, 2.0, 1.0]))
    with pytest.raises(ValueError, match=r"`measures\['mine'\]` must return a number at `start`, but raises"):
        lrf.compare_metrics(loss, lrf.random_point(4, 4, 2, rng=rng), [lrf.DepthMetric(2)], measures={"mine": function})
