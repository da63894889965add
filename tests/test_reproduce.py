"""The experiments of the paper: their numbers against theory, the files, the command."""

import json
import re
from importlib import import_module
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from lowrankflow import cli, experiments
from lowrankflow.experiments import EXPERIMENTS, Compared, Result, finished, running

pytest.importorskip("sklearn")

ROOT = Path(__file__).parents[1]
SIGMA = np.array([4.0, 3.0, 2.0, 1.0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("figures") / "below" / "another"


@pytest.fixture(scope="module")
def made(folder):
    """Each experiment, its small version, made once and when it is asked for."""

    class Made(dict):
        def __missing__(self, name):
            self[name] = experiments.reproduce(name, folder, quick=True)
            return self[name]

    return Made()


def every_number(value):
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from every_number(each)
    elif isinstance(value, float | int):
        yield value


NEEDED = {"torch_run": pytest.mark.frameworks}


@pytest.mark.parametrize("name", [pytest.param(name, marks=NEEDED.get(name, ())) for name in EXPERIMENTS])
def test_figure_and_numbers_are_written_and_agree(name, made, folder):
    found = made[name]
    assert found.agrees and len(found.compared) >= 5, "\n".join(map(str, found.compared))
    picture, file = folder / f"{name}.png", folder / f"{name}.json"
    assert found.files == (picture, file)
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["numbers"] == found.numbers
    assert content["caption"] == found.caption and content["quick"] is True and content["agrees"] is True
    assert np.isfinite(list(every_number(content["numbers"]))).all()
    for each, compared in zip(content["compared"], found.compared, strict=True):
        assert (each["what"], each["found"], each["agrees"]) == (compared.what, compared.found, True)


@pytest.mark.parametrize("name", ["hessian_inertia", "kick_and_descend"])
def test_the_same_numbers_at_every_call(name, made):
    assert experiments.reproduce(name, quick=True).numbers == made[name].numbers


def test_captions_do_not_call_ours_a_papers_own():
    for name in EXPERIMENTS:
        caption = import_module(f"lowrankflow.experiments.{name}").CAPTION
        if re.search(r"\((19|20)\d\d\)|arXiv", caption):
            assert "In the setting of" in caption or "compare Chen" in caption
        assert re.search(r"ours|[Dd]erived|constructed here", caption)


# ---------------------------------------------------------------------------------------------------------------------
# the numbers, against theory written again


def test_staircase_halts_at_the_critical_values(made):
    numbers = made["saddle_staircase"].numbers
    for depth in (2, 3, 4):
        run = numbers[f"depth {depth}"]
        t, loss = np.array(run["t"]), np.array(run["loss"])
        assert np.diff(loss).max() < 1e-12  # roundoff of 15, where the loss has not begun to fall
        between = np.interp([0.05, 0.75], t, loss)  # before the first step, and between the last two
        # claim 15 of the theory: a plateau is within 2 % of the loss at zero
        assert between == pytest.approx([15.0, 0.5], abs=0.3)
        for k, stair in enumerate(run["plateaus"], start=1):
            assert stair["critical value"] == pytest.approx(0.5 * (SIGMA[k:] ** 2).sum(), abs=1e-12)
            assert stair["loss"] == pytest.approx(stair["critical value"], abs=0.3)
    # control: no other index set of as many pairs has a value as near to what was seen
    for k in (1, 2, 3):
        seen = numbers["depth 3"]["plateaus"][k - 1]["loss"]
        others = [0.5 * ((SIGMA**2).sum() - (SIGMA[list(s)] ** 2).sum()) for s in combinations(range(4), k)]
        assert sorted(abs(v - seen) for v in others)[1] > 0.3


def test_staircase_time_grows_with_depth_by_its_order(made):
    # log(1 / eps) at depth 2; eps^(2 - N) from depth 3 on: with factors of norm 1e-2 and 3e-2, of order 1e2 and 1e3
    units = [made["saddle_staircase"].numbers[f"depth {n}"]["unit of time"] for n in (2, 3, 4)]
    assert 10 < units[0] < 60 and 50 < units[1] < 1000 and 500 < units[2] < 20_000


def test_inertia_is_counted_as_known(made):
    numbers = made["hessian_inertia"].numbers
    # widths 5-5-5-4, 70 factors' entries; minimiser of rank 4: r (m + n - r) = 4 (4 + 5 - 4) positive
    assert numbers["global minimiser"]["counted"] == {"negative": 0, "zero": 50, "positive": 20}
    # Z_2 = I of size 5 - 2: k (d_y - r) = 3 * 2
    assert numbers["strict saddle"]["counted"]["negative"] == 6
    assert numbers["non-strict saddle"]["counted"]["negative"] == 0
    many = numbers["many"]
    assert many["predicted"] == many["counted"] and len(set(many["counted"])) > 5 and set(many["depth"]) == {2, 3, 4, 5}


def test_ends_of_weight_decay_solve_the_equation(made):
    for depth in (2, 3, 4, 5):
        run = made["weight_decay_switch"].numbers[f"depth {depth}"]
        y, ends = np.array(run["y"]), np.array(run["ends"]["large"])
        on = ends > 0.01
        s = ends[on] ** (1 / depth)
        # the descent ends to 1e-9 in s^N; the equation amplifies that by its slope, below 10 here
        assert np.abs(s ** (2 * depth - 2) - y[on] * s ** (depth - 2) + 0.25).max() < 1e-7
        assert np.abs(s ** (2 * depth - 2) - (y[on] + 0.05) * s ** (depth - 2) + 0.25).max() > 1e-3  # control: another y
        # a root appears where the least value over s of s^N + gamma s^(2 - N) is y
        grid = np.linspace(1e-3, 2, 200_001)
        assert run["switch"] == pytest.approx((grid**depth + 0.25 * grid ** (2 - depth)).min(), abs=1e-6)
        assert y[on].min() > run["switch"] > y[~on].max()


def test_counterexamples_have_their_numbers(made):
    numbers = made["counterexamples"].numbers
    radius, lowest = np.array(numbers["radius"]), np.array(numbers["lowest"])
    assert np.abs(lowest[radius <= 0.5] - 1).max() < 1e-12 and (np.diff(lowest[radius >= 0.5]) < -1e-3).all()
    assert numbers["Hessian eigenvalues"] == pytest.approx([0, 2, 2, 6], abs=1e-12)
    ends = {name: np.array(values) for name, values in numbers["ends"].items()}
    assert (ends["kink"] > 0.999).all() and (ends["Huber"] < 0.1).all()
    assert np.abs(ends["bottleneck"] - 1).max() < 1e-9 and ends["width 2"].max() < 1e-9
    grid, section = np.array(numbers["grid"]), np.array(numbers["section"])
    a, b = np.meshgrid(grid, grid)
    assert np.abs(section - ((a**2 - 1) ** 2 + (b**2 - 0.5) ** 2 + 8 * (a * b) ** 2)).max() < 1e-12


def test_kicks_leave_critical_points_for_the_optimum(made):
    points = made["kick_and_descend"].numbers["points"]
    assert {p["loss"] for p in points} == {"square", "cross-entropy", "Huber", "log-cosh"}
    assert {p["depth"] for p in points} == {2, 3}
    for p in points:
        assert p["factor gradient"] < 1e-7 and p["gradient end to end"] > 1e-3
        assert abs(p["after"]) < 1e-9 < 1e-3 < p["before"]
        assert abs(p["fall without it"]) < 1e-9  # control: descent alone
    zero = {p["loss"]: p["optimum"] + p["before"] for p in points if p["units"] == 0}
    assert zero["cross-entropy"] == pytest.approx(np.log(3), abs=1e-12)


def test_escape_epochs_of_a_batch_are_those_of_single_runs(made):
    import lowrankflow as lrf
    from lowrankflow.descent import Adam, MiniBatches
    from lowrankflow.experiments import escape_histogram as module

    numbers = made["escape_histogram"].numbers
    loss, x, y = module.problem()
    for name, seed in (("strict saddle", 0), ("strict saddle", 5), ("non-strict saddle", 1)):
        at = module.saddle(loss, strict=name == "strict saddle")
        rng, batches = np.random.default_rng([seed, 1]), MiniBatches(x, y, 32, rng=seed)
        noise = [0.1 * np.linalg.norm(f) / f.size**0.5 * rng.standard_normal(f.shape) for f in at.factors]
        # half of the way down to the next critical value, for the loss that is half a mean
        level = numbers[name]["value"] - 0.25 * np.linalg.svd(y @ np.linalg.svd(x)[2][:10].T / 10)[1][2] ** 2
        path = lrf.gradient_descent(
            loss, lrf.LinearNetwork([f + e for f, e in zip(at.factors, noise, strict=True)]), step_size=1e-3, steps=2000,
            rule=Adam(epsilon=1e-7), batches=batches, keep_every=4,
        )  # fmt: skip
        epoch = numbers[name]["epochs"][seed]
        assert path.loss[epoch] < level < path.loss[:epoch].min(), (name, seed)
    epochs = [np.array(run["epochs"]) for run in numbers.values()]
    assert [e.size for e in epochs] == [40, 40] and epochs[0].max() < epochs[1].min()  # the control: no overlap at all


def test_small_starts_recover_and_large_ones_do_not(made):
    numbers = made["phase_diagram"].numbers
    scale = np.array(numbers["scale"])
    for kind in ("completion", "sensing"):
        error = {depth: np.array(numbers[f"{kind}, depth {depth}"]["error"])[-1] for depth in (2, 3, 4)}
        for found in error.values():  # nine in ten measured
            assert (np.diff(found) > 0).all() and found[0] < 0.02 and found[-1] > 0.3
        # a depth more is better from small starts alone
        assert error[4][0] < error[3][0] < error[2][0] / 2
        # of the order of the scale at depth 3 and 4: less than 30 times it over three decades, where depth 2 is 60 times off
        assert all((error[depth] < 30 * scale)[:4].all() for depth in (3, 4)) and error[2][0] > 30 * scale[0] / 2
        few = np.array(numbers[f"{kind}, depth 4"]["error"])[0]
        assert (few > 0.2).all()  # the control: six measurements of fifteen dimensions


def test_time_to_loss_is_that_of_the_logistic_at_depth_2(made):
    numbers = made["time_to_loss"].numbers
    end = 1 - np.sqrt(0.1)
    for s, run in zip(numbers["scale"], numbers["one scale of W"], strict=True):
        assert run["aligned"][0] == pytest.approx(0.5 * np.log(end * (1 - s) / ((1 - end) * s)), rel=1e-10)
        # depth 3: dw = w^2 (1 - w^3) dt for w = s^(1/3), in closed form to the integral of 1 / (1 - w^3), which is below 1.5
        assert 0 < run["aligned"][1] - (s ** (-1 / 3) - end ** (-1 / 3)) < 1.5
    # factors of norm 0.2: f^(2 - N) / (N - 2) from depth 3 on, and more from random starts
    assert np.log(np.array(numbers["one scale of the factors"]["median"])[-2:]) @ [-1, 1] > np.log(25 / 3)
    assert numbers["slope"] == pytest.approx([1 - 2 / n for n in numbers["depth"]], abs=0.1)  # at depth 2 a logarithm


def test_modes_of_the_digits_are_learned_by_their_eigenvalues(made):
    from sklearn.datasets import load_digits

    numbers = made["order_of_learning"].numbers
    x = load_digits().data
    x = (x - x.mean(0)) / np.sqrt((x.std(0) ** 2).mean())  # one root mean square for all
    eigenvalues = np.linalg.eigvalsh(x.T @ x / len(x))[::-1]
    assert numbers["lambda"] == pytest.approx(eigenvalues[:3], rel=1e-6)
    times = np.array(numbers["depth 2"]["times"]["median"])
    # ln(1e24) / (2 lambda), less the logarithm of what the random frame has of the mode, which is above 1e-3
    leading = np.log(1e24) / (2 * eigenvalues[:3])
    assert (np.abs(times - leading) < np.log(1e3) / (2 * eigenvalues[:3])).all()
    assert np.abs(np.array(numbers["depth 3"]["times"]["median"]) / leading - 1).min() > 1  # control: the other law


def test_adaptation_waits_for_the_logarithm_of_the_scale(made):
    numbers = made["adaptation"].numbers
    ln, g = np.log(numbers["scale"]), numbers["g"][0]
    times = {name: np.array(t, dtype=float) for name, t in numbers["times"].items()}
    for name, decades in (("zero-b", 1), ("orthogonal", 1), ("balanced", 0.5), ("spectral", 0.5)):
        seen = ~np.isnan(times[name])
        slope = np.polyfit(ln[seen][-3:], times[name][seen][-3:], 1)[0]
        assert slope == pytest.approx(-decades / g, rel=0.02), name
        if decades == 1:  # the control: a start whose product, not a factor, has the scale
            assert slope != pytest.approx(-0.5 / g, rel=0.5)
    last = times["three layers"][-2:]
    assert last[1] / last[0] == pytest.approx(10 ** (1 / 3), rel=0.1)  # a decade of the scale, of the power -1/3
    assert np.ptp(times["ScaledGD"][-2:]) < 0.02 * times["ScaledGD"][-1]  # no scale at all
    # an update multiplies the mode by 1 + h g where the flow does by exp(h g)
    count, h = np.diff(numbers["updates"]["count"]), numbers["updates"]["step"]
    assert count == pytest.approx(-np.diff(ln) / np.log(1 + h * g), rel=0.05)


def test_bounds_of_the_misalignment_hold_for_any_factors():
    """Three hundred random networks from 1 x 1 up, scales 1e-8 to 1e8; neither could be twenty times less."""
    import lowrankflow as lrf
    from lowrankflow.experiments import layer_alignment as module

    used = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        sizes, scale = rng.integers(1, 6, 3), 10.0 ** rng.uniform(-8, 8)
        a = rng.standard_normal((sizes[1], sizes[0]))
        b = rng.standard_normal((sizes[2], sizes[1]))
        if seed % 2:  # nearly balanced and of rank one, where the second bound says something
            u = np.linalg.svd(a)[0][:, 0]
            a, b = (f * 1e-2 + f2 for f, f2 in ((a, np.outer(u, rng.standard_normal(sizes[0]))), (b, 0 * b)))
            b = b + np.linalg.norm(a, 2) * np.outer(np.eye(sizes[2])[0], u)
        net = lrf.LinearNetwork([scale * a, scale * b])
        s, r, top = (np.linalg.norm(f, 2) for f in (a, b, b @ a))
        off = 1 - (top / (s * r)) ** 2
        bounds = module.bounds(net, [net.imbalances()[0]])
        assert (off <= bounds + 1e-13).all(), seed  # roundoff of a number near 1
        used.append(off / np.maximum(bounds, 1e-12))
    assert (np.max(used, axis=0) > 0.05).all()


def test_layers_align_as_the_imbalance_allows(made):
    numbers = made["layer_alignment"].numbers
    for depth in ("2", "3", "4"):
        run = {key: np.array(value) for key, value in numbers["logistic"][depth].items()}
        assert (run["misaligned"] < run["bound"]).all() and (run["misaligned"] < run["sharper"]).all()
        assert run["misaligned"][-1] < 0.01 * run["misaligned"][0] and run["size"][-1] > 5 * run["size"][0]
        # what is left falls like the square of the imbalance over the norm
        late = run["size"] > run["size"][-1] / 2
        assert np.polyfit(np.log(run["size"][late]), np.log(run["misaligned"][late]), 1)[0] == pytest.approx(-2, abs=0.3)
        stays = np.array(numbers["square"][depth]["misaligned"])
        assert stays[-1] > 1e-3 > 1e-9 > max(np.abs(numbers["balanced, square"][depth]["misaligned"]))


def test_the_rate_known_at_the_start_is_that_of_the_margin(made):
    """2 mu N c^(2 - 2/N), c the least singular value of the whitened minimiser less the distance, in units of sqrt(lambda_1)."""
    from lowrankflow.experiments import rate_bounds as module

    numbers = made["rate_bounds"].numbers
    x = np.random.default_rng(2).standard_normal((4, 200))  # as the first draw of the experiment
    c = x @ x.T / 200
    values, vectors = np.linalg.eigh(c)
    best = module.problem(4, 4).minimiser(4).to_dense()
    least = np.linalg.svd(best @ (vectors * np.sqrt(values)) @ vectors.T)[1][-1]
    for depth in (2, 3, 4):
        run = {key: np.array(value) for key, value in numbers["depths"][str(depth)].items()}
        margin = 0.5 * least / np.sqrt(values[-1])
        rate = -run["start"][-1] / run["t"][-1]
        assert rate == pytest.approx(2 * values[0] * depth * margin ** (2 - 2 / depth), rel=1e-6)
        assert (run["loss"] <= run["start"] + 1e-6).all() and (run["loss"] <= run["kernel"] + 1e-6).all()
        assert (np.diff(numbers["slack"][str(depth)]["slack"]) > 0).all()  # the nearer the start, the better the bound
    draws = {kind: {key: np.array(value) for key, value in part.items()} for kind, part in numbers["draws"].items()}
    assert all((part["derived"] <= 1 + 1e-9).all() for part in draws.values())
    assert (draws["other"]["recalled"] > 1.1).mean() > 0.1  # not by roundoff


def test_learning_coefficients_are_those_of_the_algebra(made):
    from scipy.special import kve

    from lowrankflow.experiments import learning_coefficient as module

    numbers = made["learning_coefficient"].numbers
    # worked out by hand from the formula for two layers
    known = {"1-1-1, r = 0": 1 / 2, "2-2-2, r = 0": 3 / 2, "2-2-2, r = 1": 2, "3-2-3, r = 1": 7 / 2}
    assert set(numbers) == set(known)
    for name, value in known.items():
        run = numbers[name]
        assert run["lambda"] == value and run["fit"] == pytest.approx(value, abs=5 * run["fit error"])
        assert run["fit error"] < 0.02 * value and run["half"] - run["fit"] > 10 * run["fit error"]
    # one by one: Z = exp(z) K_0(z) / sqrt(tau) with z = 1 / (4 tau), a Bessel function
    run = numbers["1-1-1, r = 0"]["exact"]
    z = 1 / (4 * np.array(run["tau"]))
    assert run["mean"] == pytest.approx(0.5 + z - z * kve(1, z) / kve(0, z), rel=1e-9)
    # the integral is done over W_2 first, and does not see it: the transpose has the same
    for tau in (1.0, 1e4):
        assert module.integrated((1, 2, 2), tau) == pytest.approx(module.integrated((2, 2, 1), tau), rel=1e-4)
        assert module.integrated((1, 2, 2), tau) != pytest.approx(module.integrated((1, 2, 1), tau), rel=1e-2)


# ---------------------------------------------------------------------------------------------------------------------
# what is compared


@pytest.mark.parametrize(
    "each, agrees",
    [
        (Compared("a", 1.05, 1.0, 0.1), True),
        (Compared("a", 1.15, 1.0, 0.1), False),
        (Compared("a", 0.85, 1.0, 0.1), False),
        (Compared("a", 0.2, 1.0, relation="<="), True),
        (Compared("a", 1.2, 1.0, 0.1, "<="), False),
        (Compared("a", 0.95, 1.0, 0.1, ">="), True),
        (Compared("a", 0.8, 1.0, 0.1, ">="), False),
        *((Compared("a", float("nan"), 1.0, 9.0, relation), False) for relation in ("=", "<=", ">=")),
    ],
)
def test_compared(each, agrees):
    assert each.agrees is agrees
    assert ("DISAGREES" in str(each)) is not agrees


def test_an_interrupted_run_interrupts_the_experiment():
    import lowrankflow as lrf

    def interrupt(step):
        raise KeyboardInterrupt

    loss = lrf.losses.LeastSquares(np.eye(2), np.diag([2.0, 1.0]))
    net = lrf.LinearNetwork.identity((2, 2), 2, widths=2, scale=0.1)
    path = lrf.gradient_descent(loss, net, step_size=0.1, steps=9, keep_every=1, callback=interrupt)
    with pytest.raises(KeyboardInterrupt):
        finished(path)
    many = lrf.batched.gradient_descent(loss, [net, net], step_size=0.1, steps=9, callback=interrupt)
    with pytest.raises(KeyboardInterrupt):
        finished(many)
    short = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 50), max_evaluations=20)
    with pytest.raises(RuntimeError):
        finished(short)
    with pytest.raises(RuntimeError):
        finished(lrf.batched.integrate(loss, [net, net], t_span=(0, 50), max_evaluations=20))


# ---------------------------------------------------------------------------------------------------------------------
# the command


class Small:
    """A stand-in for an experiment: quick, and it can be told to fail."""

    __doc__ = "A title.\n\nMore."
    CAPTION, SIZE = "What it shows.", (4.0, 3.0)

    def __init__(self, found=1.0, error=None):
        self.found, self.error = found, error

    def measure(self, quick, tell):
        tell("half", 0.5)
        if self.error is not None:
            raise self.error
        return Result({"x": np.arange(3), "y": np.float64(2)}, [Compared("y", self.found, 1.0)])

    def draw(self, figure, numbers):
        figure.subplots().plot(numbers["x"])


@pytest.fixture
def stand_ins(monkeypatch):
    """Let every experiment be a stand-in; those of the dictionary as it says."""
    chosen = {}
    monkeypatch.setattr(running, "import_module", lambda name, package: chosen.get(name[1:], Small()))
    return chosen


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_list(capsys):
    assert cli.main(["reproduce", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(EXPERIMENTS)
    assert all(len(line.split()) > 4 for line in lines)


def test_all_go_to_the_folder(stand_ins, tmp_path, capsys):
    assert cli.main(["reproduce", "--all", "--out", str(tmp_path / "new")]) == 0
    assert names(tmp_path / "new") == sorted(f"{name}.{end}" for name in EXPERIMENTS for end in ("json", "png"))
    out = capsys.readouterr().out
    assert out.count("1 of 1 numbers as predicted") == len(EXPERIMENTS) and out.count("wrote") == 2 * len(EXPERIMENTS)


def test_here_by_default_and_one_line_when_quiet(stand_ins, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reproduce", "kick_and_descend", "kick_and_descend", "--quiet"]) == 0
    assert names(tmp_path) == ["kick_and_descend.json", "kick_and_descend.png"]
    assert capsys.readouterr().out == "kick_and_descend: 1 of 1 numbers as predicted\n"


def test_a_number_that_disagrees_is_status_1_and_written(stand_ins, tmp_path, capsys):
    stand_ins["hessian_inertia"] = Small(found=2.0)
    assert cli.main(["reproduce", "hessian_inertia", "counterexamples", "--out", str(tmp_path)]) == 1
    assert "y: 2 = 1   DISAGREES" in capsys.readouterr().out
    assert json.loads((tmp_path / "hessian_inertia.json").read_text())["agrees"] is False
    assert (tmp_path / "counterexamples.json").exists()


def test_a_missing_package_does_not_keep_others_from_being_made(stand_ins, tmp_path, capsys):
    stand_ins["saddle_staircase"] = Small(error=ImportError("The data set digits needs scikit-learn."))
    assert cli.main(["reproduce", "--all", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "lowrankflow: error: saddle_staircase: The data set digits needs scikit-learn.\n"
    assert len(names(tmp_path)) == 2 * (len(EXPERIMENTS) - 1)


def test_an_interrupt_keeps_what_was_made(stand_ins, tmp_path, capsys):
    stand_ins["weight_decay_switch"] = Small(error=KeyboardInterrupt())
    assert cli.main(["reproduce", "--all", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "lowrankflow: interrupted; made before: saddle_staircase, hessian_inertia.\n"
    assert names(tmp_path) == sorted(f"{n}.{e}" for n in EXPERIMENTS[:2] for e in ("json", "png"))
    assert cli.main(["reproduce", "weight_decay_switch", "--out", str(tmp_path / "new")]) == 130
    assert "nothing was made" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_nothing_is_written_if_drawing_fails(stand_ins, tmp_path):
    class Undrawn(Small):
        def draw(self, figure, numbers):
            raise KeyboardInterrupt

    stand_ins["counterexamples"] = Undrawn()
    assert cli.main(["reproduce", "counterexamples", "--out", str(tmp_path)]) == 130
    assert names(tmp_path) == []


BAD = {
    "none": ([], "`reproduce` must be given the names of experiments, or --all, got none. --list lists them."),
    "both": (["--all", "kick_and_descend"], "got both a name and --all."),
    "unknown": (["kick"], f"`name` must be one of {', '.join(EXPERIMENTS)}, got 'kick'."),
    "one of two": (["kick_and_descend", "kick"], "got 'kick'."),
    "a folder below a file": (["kick_and_descend", "--out", "{file}/x"], "`--out` must be a folder that can be written"),
    "a file": (["kick_and_descend", "--out", "{file}"], "`--out` must be a folder that can be written"),
    "an empty name": (["kick_and_descend", "--out", ""], "`--out` must be the name of a folder, got an empty one."),
    "an option": (["kick_and_descend", "--fast"], "unrecognized arguments: --fast"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case, stand_ins, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "file"
    file.touch()
    args, words = BAD[case]
    assert cli.main(["reproduce", *(a.format(file=file) for a in args)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("lowrankflow: error: ") and words in err and err.count("\n") == 1
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: experiments.reproduce("kick"), "`name` must be one of"),
        (lambda: experiments.reproduce(3), "`name` must be one of"),
        (lambda: experiments.reproduce("kick_and_descend", quick=1), "`quick` must be"),
        (lambda: experiments.reproduce("kick_and_descend", progress=1), "`progress` must be"),
    ],
)
def test_bad_calls(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()


def test_progress_only_grows():
    told = []
    experiments.reproduce("kick_and_descend", quick=True, progress=lambda stage, fraction: told.append(fraction))
    assert len(told) > 5 and told == sorted(told) and told[0] >= 0 and told[-1] < 1


def test_a_run_that_is_interrupted_stops_the_real_thing(tmp_path, monkeypatch, capsys):
    def interrupt(stage, fraction):
        if fraction > 0.3:
            raise KeyboardInterrupt

    from contextlib import nullcontext

    monkeypatch.setattr(cli.reproduce, "progress_bar", lambda quiet: nullcontext(interrupt))
    assert cli.main(["reproduce", "hessian_inertia", "kick_and_descend", "--quick", "--out", str(tmp_path)]) == 130
    assert "interrupted" in capsys.readouterr().err and not names(tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# the pages


def test_the_readers_page_lists_what_there_is():
    text = (ROOT / "paper" / "experiments" / "README.md").read_text(encoding="utf-8")
    linked = re.findall(r"^\| \[`(\w+)`\]\(([^)]*)\)", text, flags=re.MULTILINE)
    assert [name for name, _ in linked] == list(EXPERIMENTS)
    for name, path in linked:
        assert (ROOT / "paper" / "experiments" / path).resolve() == ROOT / "lowrankflow" / "experiments" / f"{name}.py"


def test_every_script_is_listed():
    others = {"__init__", "look", "result", "running"}
    assert {path.stem for path in Path(experiments.__file__).parent.glob("*.py")} - others == set(EXPERIMENTS)


def test_the_blocks_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
    namespace = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, "docs/reproduce.md", "exec"), namespace)
    for line in re.findall(r"^lowrankflow (reproduce .*)$", text, flags=re.MULTILINE):
        cli.arguments.parser().parse_args(line.split())
