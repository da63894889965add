"""Each example runs on its small data set, and the numbers that it prints are asserted."""

import importlib.util
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
    """Each example once: its module, and what it returned."""
    return {name: load(name).main(quick=True, out=written / name) for name in FIGURES}


@pytest.fixture
def wrong_depth(monkeypatch):
    """The examples then see the metric of depth N + 1; the factors, and the library itself, are left alone."""
    metric = lrf.DepthMetric
    monkeypatch.setattr(lrf, "DepthMetric", lambda depth: metric(depth + 1))


def test_every_example_is_tested():
    assert sorted(FIGURES) == sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_written_where_asked(name, numbers, written):
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
    error = example.main(quick=True)["rms"]
    assert error["flow, stopped"] > 0.99 * error["mean"]
    assert error["flow, to the end"] > error["mean"]


def test_compare_metrics(numbers):
    found = numbers["compare_metrics"]
    assert set(found["limits"].values()) == {"A"}  # one limit,
    lengths = list(found["arc length"].values())
    assert max(lengths) > 1.2 * min(lengths)  # by other ways
    times, depths = found["times"], np.array(load("compare_metrics").DEPTHS)
    # W -> c W makes A c^(2-2/N) times as large and leaves G as linear as it was: the path is scaled, and only the clock
    # of the factors sees it. Events are located on interpolants, a thousand times less accurate than rtol = 1e-8
    np.testing.assert_allclose(times["operator"][100], times["operator"][1], rtol=1e-5)
    slower = times["factors"][1] / times["factors"][100]
    np.testing.assert_allclose(slower, np.tile(100 ** (2 - 2 / depths), (3, 1)), rtol=1e-5)
    # so what depth does reverses: slower where the singular values lie below 1, faster above
    assert np.all(np.diff(times["factors"][1][0]) > 0) and np.all(np.diff(times["factors"][100][0]) < 0)


def test_compare_metrics_sees_wrong_depths(wrong_depth):
    example = load("compare_metrics")
    slower = example.in_units(1, "factors") / example.in_units(100, "factors")
    assert np.abs(slower / 100 ** (2 - 2 / np.array(example.DEPTHS)) - 1).min() > 0.1
