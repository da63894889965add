"""Each example runs on its small data set, and the numbers that it prints are asserted."""

import importlib.util
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import lowrankflow as lrf

FOLDER = Path(__file__).parents[1] / "examples"
EPS = np.finfo(float).eps
FIGURES = {
    "fig_equivalence": "equivalence.png",
    "own_loss": "own_loss.html",
    "from_another_framework": "imbalance.png",
    "china_completion": "china_completion.png",
    "compare_metrics": "compare_metrics.png",
}

PRINTED = ("digit_classification", "poisson_completion", "robust_regression", "lqr_policy", "lora")

pytest.importorskip("sklearn")


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return tmp_path_factory.mktemp("written")


@pytest.fixture(scope="module")
def numbers(written):
    """What each example returned, run once and when it is asked for."""

    class Numbers(dict):
        def __missing__(self, name):
            options = {"out": written / name} if name in FIGURES else {}
            with pytest.MonkeyPatch.context() as patch:  # the page of a report has tests of its own
                patch.setattr(lrf, "write_html", lambda report, path: path.write_text(str(report), encoding="utf-8"))
                self[name] = load(name).main(quick=True, **options)
            return self[name]

    return Numbers()


@pytest.fixture
def wrong_depth(monkeypatch):
    """The examples then see the metric of depth N + 1; the factors, and the library itself, are left alone."""
    metric = lrf.DepthMetric
    monkeypatch.setattr(lrf, "DepthMetric", lambda depth: metric(depth + 1))


def test_every_example_is_tested():
    assert sorted([*FIGURES, *PRINTED]) == sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_written_where_asked(name, numbers, written):
    assert numbers[name]
    assert [path.name for path in (written / name).iterdir()] == [FIGURES[name]]


def test_nothing_is_written_unasked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load("from_another_framework").main(quick=True)
    assert not list(tmp_path.iterdir())


def test_equivalence_figure(numbers):
    found = numbers["fig_equivalence"]
    assert 0 < found["gap between the flows"] <= found["bound 3 (e_a + e_b) + roundoff"] < 1e-6
    assert 0 < found["gap of descent, step h / 2"] < found["gap of descent, step h"] < 1
    # Euler's method on a mode that grows at rate r lags behind by exp(-x), x = t (r - log(1 + h r) / h): to first order
    # in h, gaps 1 - exp(-x) and 1 - exp(-x / 2), whose quotient is 1 + exp(-x / 2). The next order changes the quotient
    # of the two x by h r / 3, at most 1 / 12 since h is 1 / 2 and r at most 1 / 2 natural units: 0.13 in the order
    lag = np.log2(1 + np.sqrt(1 - found["gap of descent, step h"]))
    assert found["order of descent"] == pytest.approx(lag, abs=0.13)


def test_equivalence_figure_sees_a_wrong_depth(wrong_depth):
    found = load("fig_equivalence").main(quick=True)
    assert found["gap between the flows"] > 1e3 * found["bound 3 (e_a + e_b) + roundoff"]
    assert abs(found["order of descent"]) < 0.5  # another limit: halving the step does not halve the gap


def test_own_loss(numbers):
    found = numbers["own_loss"]
    assert found["gradient error"] < 1e-6  # the bound of central differences in check_loss
    assert 0 < found["gap between the flows"] <= found["bound"] < 1e-6
    first, last = found["loss"]
    assert last < first
    verdicts = found["verdicts"]
    assert verdicts.pop("stationarity") == "not claimed"  # the run ends before
    assert set(verdicts.values()) == {"passed"}


def test_own_loss_with_a_wrong_gradient_is_refused(monkeypatch):
    example = load("own_loss")
    gradient = example.LogCosh.gradient
    monkeypatch.setattr(example.LogCosh, "gradient", lambda self, w: 1.001 * gradient(self, w))
    with pytest.raises(Exception, match="gradient"):
        example.main(quick=True)


def test_gradients_from_another_framework(numbers):
    found = numbers["from_another_framework"]
    # roundoff of three factors and of the sum over 150 samples, whose condition is below 10 here
    bound = 100 * 3 * EPS
    assert found["balanced, to the metric"] < bound
    assert found["unbalanced, to their own operator"] < bound
    assert found["rebalanced, to the metric"] < bound
    assert found["unbalanced, to the metric"] > 1e-2  # the control: same product, same gradients, no balance
    # the operator is analytic in c, so distance = a c + b c^2 and imbalance = a' c + b' c^2; at c = 2^-7, 2^-8
    # the power is 1 + O(c) with a constant of order one
    assert found["power of the imbalance"] == pytest.approx(1, abs=4 * 2.0**-7)


def test_gradients_from_another_framework_see_a_wrong_depth(wrong_depth):
    found = load("from_another_framework").main(quick=True)
    assert found["balanced, to the metric"] > 1e-2
    assert found["unbalanced, to their own operator"] < 100 * 3 * EPS  # no metric in there


def test_china_completion(numbers):
    found = numbers["china_completion"]
    error = found["rms"]
    # chosen on held-out pixels and measured on others; the floor has seen those, and no rank-r matrix is nearer to all
    assert error["floor"] < error["flow, stopped"] < error["rescaled SVD"] < error["mean"]
    # rank 4 of so small a picture is overfitted at the end, see the curve of the held-out pixels
    assert error["flow, stopped"] < 0.9 * error["flow, to the end"]
    assert 0 < found["stopped at"] < found["end"]
    size = error["mean"] / found["relative"]["mean"]
    assert found["relative"] == pytest.approx({name: value / size for name, value in error.items()}, rel=100 * EPS)


def test_china_completion_never_sees_the_unseen_pixels():
    example = load("china_completion")
    image = example.photograph(quick=True)
    mask = np.random.default_rng(0).random(image.shape) < 0.3
    units = np.array([50.0, 100.0])
    blind = np.where(mask, image, np.nan)
    for make in (lambda a: example.flow(a, mask, 2, units)[0], lambda a: example.rescaled_svd(a, mask, 2)):
        np.testing.assert_array_equal(make(blind), make(image))


def test_china_completion_without_structure_recovers_nothing(monkeypatch):
    """The control: the same grey values in no order have no low-rank part to be found."""
    example = load("china_completion")
    image = example.photograph(quick=True)
    shuffled = np.random.default_rng(0).permutation(image.ravel()).reshape(image.shape)
    monkeypatch.setattr(example, "photograph", lambda quick: shuffled)
    found = {}
    monkeypatch.setattr(example, "report", lambda numbers, shape: found.update(numbers))
    with pytest.raises(AssertionError):
        example.main(quick=True)
    error = found["rms"]
    assert error["flow, stopped"] > 0.99 * error["mean"]
    assert error["flow, to the end"] > error["mean"]


def test_compare_metrics(numbers):
    found = numbers["compare_metrics"]
    assert set(found["limits"].values()) == {"A"}  # one limit,
    lengths = list(found["arc length"].values())
    assert max(lengths) > 1.2 * min(lengths)  # by other ways
    times, depths = found["times"], np.array(load("compare_metrics").DEPTHS[:2])  # the quick ones
    # W -> c W makes A c^(2-2/N) times as large and leaves G as linear as it was: the path is scaled, and only the clock
    # of the factors sees it. Events are located on interpolants, a thousand times less accurate than rtol = 1e-8
    np.testing.assert_allclose(times["operator"][100], times["operator"][1], rtol=1e-5)
    slower = times["factors"][1] / times["factors"][100]
    np.testing.assert_allclose(slower, np.tile(100 ** (2 - 2 / depths), (3, 1)), rtol=1e-5)
    # so what depth does reverses: slower where the singular values lie below 1, faster above
    assert np.all(np.diff(times["factors"][1][0]) > 0) and np.all(np.diff(times["factors"][100][0]) < 0)


def test_compare_metrics_sees_wrong_depths(wrong_depth, monkeypatch):
    monkeypatch.setattr(lrf, "compare_metrics", partial(lrf.compare_metrics, rtol=1e-5))
    example = load("compare_metrics")
    slower = example.in_units(1, "factors") / example.in_units(100, "factors")
    assert np.abs(slower / 100 ** (2 - 2 / np.array(example.DEPTHS)) - 1).min() > 0.1


def test_digit_classification(numbers):
    found = numbers["digit_classification"]
    reference, *flows = found["accuracy"].values()
    assert min(flows) > reference - 0.02
    learnt, losses, accuracies = zip(*found["course"], strict=True)
    assert learnt == tuple(range(learnt[-1] + 1))  # one direction after the other,
    assert np.all(np.diff(losses) < 0)
    assert accuracies[0] < 0.6 < 0.9 < accuracies[-1]  # and worth something


def test_digit_classification_needs_its_directions(monkeypatch):
    """The control: a single direction never comes to the training loss of scikit-learn."""
    example = load("digit_classification")
    monkeypatch.setattr(example, "RANK", 1)
    with pytest.raises(AssertionError, match=r"max_evaluations|stationarity"):
        example.main(quick=True)


def test_poisson_completion(numbers):
    found = numbers["poisson_completion"]
    # measured over five masks: 0.66 to 0.74 of the deviance of rows x columns with 400 digits, 0.54 to 0.55 with all
    assert 0 < found["flow"] < 0.8 * found["rows x columns"] < found["mean"]


def test_poisson_completion_never_sees_the_unseen_counts():
    example = load("poisson_completion")
    rng = np.random.default_rng(0)
    counts, units = rng.poisson(3.0, (40, 12)).astype(float), np.array([100.0, 200.0])
    mask = rng.random(counts.shape) < 0.7
    blind = np.where(mask, counts, np.nan)
    np.testing.assert_array_equal(example.flow(blind, mask, 2, units)[0], example.flow(counts, mask, 2, units)[0])
    np.testing.assert_array_equal(example.rows_times_columns(blind, mask), example.rows_times_columns(counts, mask))


def test_poisson_completion_without_structure_is_no_better(monkeypatch):
    """The control: counts in any order have nothing beyond a mean, and the example's own assertion fails."""
    example = load("poisson_completion")
    digits = example.load_digits()
    digits.data = np.random.default_rng(0).permutation(digits.data[:400].ravel()).reshape(400, -1)
    monkeypatch.setattr(example, "load_digits", lambda: digits)
    with pytest.raises(AssertionError):
        example.main(quick=True)


def test_rows_times_columns_has_the_sums_of_what_was_seen():
    """The conditions of the likelihood: rates and counts agree in every row's and column's sum over the seen entries."""
    rng = np.random.default_rng(0)
    counts, mask = rng.poisson(3.0, (30, 9)), rng.random((30, 9)) < 0.8
    gap = np.where(mask, load("poisson_completion").rows_times_columns(counts, mask) - counts, 0)
    # column sums are matched last; the fixed point converges linearly, to roundoff of sums of 30 terms of up to 10
    assert max(np.abs(gap.sum(axis=axis)).max() for axis in (0, 1)) < 30 * 10 * 10 * EPS


def test_robust_regression(numbers):
    found = numbers["robust_regression"]
    assert found["largest excess of the loss"] < 1e-8 and found["largest gap to HuberRegressor"] < 1e-3
    rms = found["rms"]
    assert rms["flow, Huber"] < 0.75 * rms["flow, square"]
    assert rms["flow, Huber"] < 1.05 * rms["least squares without the mistyped"]


def test_robust_regression_gains_nothing_without_errors(monkeypatch):
    example = load("robust_regression")
    monkeypatch.setattr(example, "MISTYPED", 0)
    errors, _ = example.one_split(0)
    assert errors["flow, Huber"] > 0.95 * errors["flow, square"]
    # the control: the flow's square against LAPACK. A stationarity of 1e-6 of the first, under a condition of X X^T
    # below 1000, leaves 1e-3 of W
    assert errors["flow, square"] == pytest.approx(errors["least squares without the mistyped"], rel=1e-3)


def test_lora(numbers):
    found = numbers["lora"]
    # the update of rank 4 makes good most of what mirroring costs, and no more than one of any rank
    assert found["trained"] < found["full"] + 0.1 < found["best"] + 0.1 < found["before"]
    for name, course in found["courses"].items():
        assert 0 <= course["end"] < 0.05 < 0.5 < course["start"], name
        assert course["drift"] is None or course["drift"] < 1e-4  # rtol 1e-6 a step; conserved
    ends = {name: course["end"] for name, course in found["courses"].items()}
    assert ends["ScaledGD"] < 0.5 * ends["spectral"]  # from the same start, preconditioned


def test_lora_knows_its_best_update():
    """By hand: the residual beside W_0 + W, whitened by a QR factorisation and cut off by an SVD."""
    example = load("lora")
    loss = example.digits(mirrored=True, quick=True)
    x, y, constant = loss.compressed
    w0 = np.random.default_rng(0).standard_normal(loss.shape)
    vt = np.linalg.svd(x, full_matrices=False)[2]
    residual = y - w0 @ x
    seen = np.linalg.svd(residual @ vt.T @ vt, compute_uv=False)
    unseen = 0.5 * np.linalg.norm(residual - residual @ vt.T @ vt) ** 2
    best = lrf.losses.Shifted(loss, w0).best_value(example.RANK)
    assert best == pytest.approx(0.5 * (seen[example.RANK :] ** 2).sum() + unseen + constant, rel=1e-10)


def test_lqr_policy(numbers):
    found = numbers["lqr_policy"]
    assert abs(found["gap at full rank"]) < 1e-8
    flow, truncated = (list(found[name].values()) for name in ("flow", "truncated optimum"))
    assert flow[-1] < flow[1] < flow[0] < found["no policy"]
    assert all(ours < theirs for ours, theirs in zip(flow[:-1], truncated[:-1], strict=True))
    assert "not finite" in found["from an unstable policy"]


def test_lqr_policy_costs_what_a_simulation_says():
    """The cost by Lyapunov equations against the sum over time, from each start; the oracle solves no equation."""
    loss = load("lqr_policy").chain(2)
    k = np.random.default_rng(0).standard_normal(loss.shape) / 10
    x, u, cost = np.eye(4), 0, 0.0
    for _ in range(3000):  # the slowest motion decays by DAMPING * TIME_STEP / 2 = 1 % a step: exp(-60) in squares
        u = -k @ x
        cost += np.vdot(x, loss.q @ x) + np.vdot(u, loss.r @ u)
        x = loss.a @ x + loss.b @ u
    assert np.abs(x).max() < 1e-8
    assert loss.value(k) == pytest.approx(cost, rel=1e-10)


def test_lqr_policy_with_a_wrong_gradient_is_refused(monkeypatch):
    example = load("lqr_policy")
    right = example.PolicyCost.value_and_gradient

    def wrong(self, w):
        value, gradient = right(self, w)
        return value, 1.01 * gradient

    monkeypatch.setattr(example.PolicyCost, "value_and_gradient", wrong)
    with pytest.raises(Exception, match="gradient"):
        example.main(quick=True)
