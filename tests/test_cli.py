"""The command line: exit status, files, bad input in one line."""

import json
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
import scipy.sparse

import lowrankflow as lrf
from lowrankflow import cli
from lowrankflow.cli.arguments import parser
from lowrankflow.cli.problem import read_problem

FAST = ["--natural-end", "0.3", "--rtol", "1e-6"]


@pytest.fixture
def table(tmp_path, rng):
    """A small regression in files: 30 samples of 4 inputs and 3 targets."""
    x = rng.standard_normal((30, 4))
    y = x @ rng.standard_normal((4, 3)) + 0.1 * rng.standard_normal((30, 3))
    np.save(tmp_path / "x.npy", x)
    np.savetxt(tmp_path / "y.csv", y, delimiter=",", header="a,b,c", comments="")
    return tmp_path


def test_a_users_own_files_give_a_report_and_status_0(table, capsys):
    out = table / "out"
    args = ["verify", "--inputs", str(table / "x.npy"), "--targets", str(table / "y.csv"), "--rank", "2", *FAST]
    assert cli.main([*args, "--out", str(out), "--json", str(table / "r.json")]) == 0
    printed = capsys.readouterr().out
    assert "trajectory" in printed and "controls caught" in printed and "natural units" in printed
    for name in ("report.html", "report.json", "trajectory.npz", "overview.png", "gap.png", "singular_values.png"):
        assert (out / name).stat().st_size > 0
    report = json.loads((out / "report.json").read_text())
    assert report == json.loads((table / "r.json").read_text())
    assert report["problem"]["data"]["preparation"]["steps"] == ["center", "scale", "range"]
    assert "/ 30" in report["problem"]["loss"]
    path = lrf.Trajectory.load(out / "trajectory.npz")
    assert path.t[-1] == pytest.approx(report["problem"]["time"]["end"])
    assert report["problem"]["time"]["end in natural units"] == pytest.approx(0.3)


def test_depth_widths_seed_and_scale_arrive(table, capsys):
    args = ["verify", "--inputs", str(table / "x.npy"), "--targets", str(table / "y.csv"), "--quiet", *FAST]
    options = ["--depth", "4", "--widths", "5,4,3", "--rank", "2", "--seed", "7", "--scale", "0.3", "--reduction", "sum"]
    assert cli.main([*args, *options, "--json", str(table / "r.json")]) == 0
    p = json.loads((table / "r.json").read_text())["problem"]
    assert (p["depth"], p["widths"], p["rank"], p["data"]["seed"]) == (4, [5, 4, 3], 2, 7)
    assert p["start"]["largest singular value"] == pytest.approx(0.3)
    assert "/ 30" not in p["loss"]
    assert capsys.readouterr().out.count("\n") == 1  # quiet: one line


def test_sparse_observations(tmp_path, rng, capsys):
    dense = rng.standard_normal((9, 2)) @ rng.standard_normal((2, 8))
    matrix = scipy.sparse.coo_array(np.where(rng.random((9, 8)) < 0.7, dense, 0.0))
    rows, cols = matrix.coords
    scipy.sparse.save_npz(tmp_path / "ratings.npz", matrix)
    scipy.io.mmwrite(tmp_path / "ratings.mtx", matrix)
    np.savetxt(tmp_path / "ratings.csv", np.column_stack([rows, cols, matrix.data]), delimiter=",", fmt=["%d", "%d", "%.17g"])
    losses = {}
    for file in sorted(tmp_path.iterdir()):
        args = ["verify", "--observed", str(file), "--rank", "2", "--natural-end", "0.1", "--rtol", "1e-6", "--quiet"]
        losses[file.suffix] = read_problem(parser().parse_args(args)).build().loss
    for loss in losses.values():
        np.testing.assert_array_equal([loss.rows, loss.cols], [losses[".npz"].rows, losses[".npz"].cols])
        np.testing.assert_allclose(loss.values, losses[".npz"].values, rtol=1e-14)
    assert cli.main([*args, "--json", str(tmp_path / "r.json")]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert f"{matrix.nnz} observed" in report["problem"]["loss"]
    assert "failed" not in {c["verdict"] for c in report["claims"]}


def test_a_users_own_factors(table, rng, capsys):
    start = lrf.random_point(3, 4, 2, rng=rng)
    net = lrf.LinearNetwork.balanced(start, 3, widths=5, rng=rng)
    np.savez(table / "f.npz", **{f"W{j + 1}": f for j, f in enumerate(net.factors)})
    args = ["verify", "--inputs", str(table / "x.npy"), "--targets", str(table / "y.csv"), "--quiet", *FAST]
    assert cli.main([*args, "--preprocess", "none", "--factors", str(table / "f.npz"), "--json", str(table / "r.json")]) == 0
    p = json.loads((table / "r.json").read_text())["problem"]
    assert (p["depth"], p["widths"], p["rank"]) == (3, [5, 5], 2)
    # unbalanced ones are measured; what needs balance is not claimed, the rest is
    trained = lrf.LinearNetwork.gaussian((3, 4), 3, widths=5, rng=rng)
    np.savez(table / "g.npz", *trained.factors)
    assert cli.main([*args, "--preprocess", "none", "--factors", str(table / "g.npz"), "--json", str(table / "r.json")]) == 0
    verdicts = {c["name"]: c["verdict"] for c in json.loads((table / "r.json").read_text())["claims"]}
    assert verdicts["trajectory"] == "not claimed" and verdicts["conservation"] == "passed"


def test_datasets_and_explain_and_version(capsys):
    assert cli.main(["datasets"]) == 0
    assert "1797 x 64" in capsys.readouterr().out
    assert cli.main(["verify", "--explain", "one_step"]) == 0
    printed = capsys.readouterr().out
    assert "product retraction" in printed and "Hypotheses" in printed and "Source" in printed
    assert cli.main(["verify", "--explain", "check_loss gradient order"]) == 0
    assert "Taylor remainder" in capsys.readouterr().out
    assert cli.main(["--version"]) == 0
    assert lrf.__version__ in capsys.readouterr().out


X, Y = "{d}/x.npy", "{d}/y.csv"
BAD = {
    "no command": ([], "a command is missing, choose verify, compare, check-loss, landscape, diagnose, reproduce, sweep or"),
    "unknown command": (["verfy"], "invalid choice: 'verfy'"),
    "no data": (["verify"], "one of `--data`, `--inputs` and `--observed`, got none of them. Try the data digits."),
    "two data": (["verify", "--data", "iris", "--inputs", X], "got `--data` and `--inputs`"),
    "unknown data": (["verify", "--data", "mnist"], "mnist"),
    "unknown claim": (["verify", "--explain", "x"], "`--explain` must be one of gradient, pointwise"),
    "targets alone": (["verify", "--data", "iris", "--targets", Y], "`--targets` must come with `--inputs`"),
    "missing file": (["verify", "--inputs", "{d}/none.npy"], "must be an existing file"),
    "empty file": (["verify", "--inputs", "{d}/empty.csv"], "must not be empty"),
    "samples differ": (["verify", "--inputs", X, "--targets", "{d}/short.npy"], "30"),
    "nan": (["verify", "--inputs", "{d}/nan.npy"], "`--inputs` must have no missing values"),
    "constant": (["verify", "--inputs", "{d}/constant.npy"], "constant"),
    "depth 1": (["verify", "--inputs", X, "--depth", "1"], "`--depth` must be greater than 1, got 1"),
    "depth word": (["verify", "--inputs", X, "--depth", "deep"], "`--depth` must be a whole number of factors"),
    "depth 2.5": (["verify", "--inputs", X, "--depth", "2.5"], "`--depth` must be a whole number of factors here, got 2.5"),
    "rank too large": (["verify", "--inputs", X, "--rank", "9"], "`--rank` must not exceed min(m, n), got --rank 9"),
    "rank above numerical": (["verify", "--inputs", "{d}/deficient.npy", "--preprocess", "none", "--rank", "4"],
                             "`--rank` must not exceed the numerical rank"),
    "rank 0": (["verify", "--inputs", X, "--rank", "0"], "`--rank` must be at least 1, got 0"),
    "widths below rank": (["verify", "--inputs", X, "--rank", "3", "--widths", "2"],
                          "`--widths` must be at least the rank 3, got 2"),
    "widths count": (["verify", "--inputs", X, "--widths", "4,4,4"], "`--widths` must hold one number for each of the 2"),
    "widths word": (["verify", "--inputs", X, "--widths", "big"], "`--widths` must be whole numbers separated by commas"),
    "negative end": (["verify", "--inputs", X, "--natural-end", "-1"], "`--natural-end` must be positive and finite, got -1"),
    "rtol": (["verify", "--inputs", X, "--rtol", "1e-15"], "`--rtol` must lie between 1e-12 and 1e-5, got 1e-15: roundoff hides"),
    "rtol nan": (["verify", "--inputs", X, "--rtol", "nan"], "`--rtol` must be positive and finite, got nan"),
    "scale": (["verify", "--inputs", X, "--scale", "0"], "`--scale` must be positive and finite, got 0"),
    "seed": (["verify", "--inputs", X, "--seed", "-1"], "`--seed` must be at least 0, got -1"),
    "budget": (["verify", "--inputs", X, "--max-evaluations", "3"], "`--max-evaluations` must be at least 100, got 3"),
    "steps": (["verify", "--inputs", X, "--preprocess", "whiten"], "whiten"),
    "loss": (["verify", "--inputs", X, "--loss", "completion"], "`--loss` must be least-squares for `--inputs`"),
    "out is a file": (["verify", "--inputs", X, "--out", X], "`--out` must be a folder that can be written"),
    "factors shape": (["verify", "--inputs", X, "--targets", Y, "--factors", "{d}/f.npz", "--preprocess", "center"],
                      "must have the product shape (3, 4) of the prepared data, got (3, 9)"),
    "factors unprepared": (["verify", "--inputs", X, "--factors", "{d}/g.npz"], "`--factors` must come with `--preprocess`"),
    "factors and widths": (["verify", "--inputs", X, "--factors", "{d}/g.npz", "--preprocess", "none", "--widths", "4"],
                           "`--widths` must not be given with `network`"),
    "factors and depth": (["verify", "--inputs", X, "--factors", "{d}/g.npz", "--preprocess", "none", "--depth", "4"],
                          "`--depth` must be the number of factors of `network`, got 4 for 2"),
    "compare nothing": (["compare"], "A problem takes one of `--data`, `--inputs` and `--observed`, got none of them"),
    "unknown metric": (["compare", "--inputs", X, "--metrics", "embedded,riemann"],
                       "`--metrics` must be one of embedded, scaledgd, twofactor, subspace, polar, mn, r3mc, bures-wasserstein"),
    "metric of depth 1": (["compare", "--inputs", X, "--metrics", "2,1"], "`depth` must be greater than 1, got 1"),
    "metric twice": (["compare", "--inputs", X, "--metrics", "2,3,2.0"],
                     "`--metrics` must name each metric once, got depth 2 twice"),
    "no metric": (["compare", "--inputs", X, "--metrics", ""], "`--metrics` must be names separated by commas, got ''"),
    "kappa without": (["compare", "--inputs", X, "--metrics", "kappa"], "or kappa:NUMBER:..., got 'kappa'"),
    "kappa word": (["compare", "--inputs", X, "--metrics", "kappa:much"], "got 'kappa:much'"),
    "two numbers": (["compare", "--inputs", X, "--metrics", "2:3"], "got '2:3'"),
    "symmetric, not square": (["compare", "--inputs", X, "--targets", Y, "--metrics", "bures-wasserstein"],
                              "`m` and `n` must be equal for a symmetric matrix, got 3 and 4"),
    "all missing": (["compare", "--inputs", X, "--missing", "1"], "`--missing` must hide some of the 120 entries and leave some"),
    "less than none missing": (["compare", "--inputs", X, "--missing", "-0.5"],
                               "`--missing` must be positive and finite, got -0.5"),
    "missing targets": (["compare", "--inputs", X, "--targets", Y, "--missing", "0.5"], "so it takes no `--targets`"),
    "compare rtol": (["compare", "--inputs", X, "--rtol", "0.1"], "`--rtol` must lie between 1e-12 and 1e-05, got 0.1"),
    "compare clock": (["compare", "--inputs", X, "--clock", "sun"], "invalid choice: 'sun'"),
    "compare end": (["compare", "--inputs", X, "--clock-end", "0"], "`--clock-end` must be positive and finite, got 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_status_2_and_nothing_left_behind(name, table, capsys):
    rng = np.random.default_rng(0)
    (table / "empty.csv").touch()
    np.save(table / "short.npy", np.ones((7, 2)))
    np.save(table / "nan.npy", np.full((5, 2), np.nan))
    np.save(table / "constant.npy", np.ones((5, 2)))
    np.save(table / "deficient.npy", rng.standard_normal((9, 2)) @ rng.standard_normal((2, 5)))
    np.savez(table / "f.npz", W1=np.ones((2, 9)), W2=np.ones((3, 2)))
    np.savez(table / "g.npz", W1=rng.standard_normal((4, 4)), W2=rng.standard_normal((4, 4)))
    arguments, message = BAD[name]
    before = sorted(table.iterdir())
    arguments = [a.replace("{d}", str(table)) for a in arguments]
    if arguments[:1] in (["verify"], ["compare"]) and "--out" not in arguments:
        arguments += ["--out", str(table / "out")]
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("lowrankflow: error: ") and captured.err.count("\n") == 1
    assert message in captured.err
    assert sorted(table.iterdir()) == before  # no report folder, no temporary file


def test_a_failed_claim_is_status_1(table, monkeypatch):
    class Wrong(lrf.losses.LeastSquares):
        def gradient(self, w):
            from lowrankflow.operators import Multiple as _Scaled

            return _Scaled(super().gradient(w), 1.01)

    monkeypatch.setattr(lrf.losses, "LeastSquares", Wrong)
    args = ["verify", "--inputs", str(table / "x.npy"), "--targets", str(table / "y.csv"), "--quiet", *FAST]
    assert cli.main(args) == 1


@pytest.mark.parametrize(("command", "now"), [("verify", "natural_end"), ("compare", "clock_end")])
def test_the_end_by_its_name_of_before(command, now, capsys):
    args = parser().parse_args([command, "--t-end", "3"])
    assert getattr(args, now) == 3.0
    assert capsys.readouterr().err == f"lowrankflow: --t-end is called --{now.replace('_', '-')} now.\n"


def test_interruption_is_status_130_and_keeps_what_was_computed(table, monkeypatch, capsys):
    def tell(stage, fraction):
        if stage == "one_step":
            raise KeyboardInterrupt

    def interrupted(problem, progress, workers):
        return lrf.compare.verify_problem(problem, progress=tell)

    monkeypatch.setattr(cli, "verify_problem", interrupted)
    args = ["verify", "--inputs", str(table / "x.npy"), "--targets", str(table / "y.csv"), *FAST]
    assert cli.main([*args, "--out", str(table / "out")]) == 130
    report = lrf.Report.from_json(table / "out" / "report.json")
    assert report.interrupted and [c.name for c in report] == ["gradient", "pointwise"]
    assert (table / "out" / "trajectory.npz").exists() and (table / "out" / "report.html").exists()
    assert "interrupted" in capsys.readouterr().err


QUICK = ["--rtol", "1e-5", "--quiet"]


def test_compare_writes_tables_figures_and_a_page(table, capsys):
    out = table / "out"
    args = ["compare", "--inputs", str(table / "x.npy"), "--targets", str(table / "y.csv"), "--rank", "2", "--rtol", "1e-5"]
    assert cli.main([*args, "--metrics", "embedded,2,lambda:0.5", "--scale", "0.2", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "Where each flow ends" in printed and "lambda 0.5" in printed and "clock operator" in printed
    for name in ("report.html", "report.json", "overview.png", "loss_length.png", "singular_values.png", "modes.png"):
        assert (out / name).stat().st_size > 0
    report = lrf.Report.from_json(out / "report.json")
    assert report.command == "compare" and report.problem["start"]["largest singular value"] == pytest.approx(0.2)
    assert report.table("limits").column("ended by") == ("gradient",) * 3
    assert "Where each flow ends" in (out / "report.html").read_text()


def test_compare_and_verify_begin_at_the_same_point(table):
    starts = []
    for command in ("verify", "compare"):
        args = [command, "--inputs", str(table / "x.npy"), "--rank", "2", "--seed", "3"]
        parsed = cli.parser().parse_args(args)
        starts.append(read_problem(parsed).build().start.to_dense())
    np.testing.assert_array_equal(*starts)


def test_compare_on_digits_in_the_clock_of_the_factors(tmp_path):
    pytest.importorskip("sklearn")
    args = ["compare", "--data", "digits", "--metrics", "embedded,3", "--rank", "2", "--clock", "factors", "--clock-end", "9"]
    assert cli.main([*args, *QUICK, "--json", str(tmp_path / "r.json")]) == 0
    report = lrf.Report.from_json(tmp_path / "r.json")
    assert report.problem["clock"]["name"] == "factors" and report.problem["shape"] == [61, 61]
    assert report.table("cost").column("time") == pytest.approx((9, 9), rel=1e-12)
    assert report.table("limits").column("ended by") == ("end time", "end time")


@pytest.mark.parametrize("structure", [True, False])
def test_missing_entries_are_found_where_there_is_structure(structure, tmp_path, rng):
    a = rng.standard_normal((20, 2)) @ rng.standard_normal((2, 15))
    np.save(tmp_path / "a.npy", a if structure else rng.permutation(a.ravel()).reshape(a.shape))
    args = ["compare", "--inputs", str(tmp_path / "a.npy"), "--missing", "0.4", "--rank", "2", "--metrics", "embedded,2"]
    assert cli.main([*args, *QUICK, "--preprocess", "scale", "--clock-end", "30000", "--json", str(tmp_path / "r.json")]) == 0
    report = lrf.Report.from_json(tmp_path / "r.json")
    assert report.problem["data"]["hidden entries"] == pytest.approx(120, abs=43)  # five standard deviations of 300 draws
    errors = np.array(report.table("limits").column("hidden error"))
    # exact data: the error is what is left of the gradient; without structure no better than zero
    assert np.all(errors < 0.01) if structure else np.all(errors > 0.9)


def test_hidden_labels_and_counts_are_judged_by_their_loss(tmp_path, rng):
    a = rng.standard_normal((30, 2)) @ rng.standard_normal((2, 20))
    labels = np.sign(a)
    for name, values in {"structure": labels, "none": rng.permutation(labels.ravel()).reshape(a.shape)}.items():
        np.save(tmp_path / f"{name}.npy", values)
        args = ["compare", "--inputs", str(tmp_path / f"{name}.npy"), "--missing", "0.4", "--rank", "2", "--loss", "logistic"]
        out = ["--metrics", "embedded,2", "--clock-end", "3000", *QUICK, "--json", str(tmp_path / f"{name}.json")]
        assert cli.main([*args, *out]) == 0
        table = lrf.Report.from_json(tmp_path / f"{name}.json").table("limits")
        assert "hidden error" not in table.columns
        found = np.array(table.column("hidden loss")) < np.log(2)  # of W = 0, which knows nothing
        assert np.all(found) if name == "structure" else not np.any(found)
    # Poisson: seen and hidden sums of e^w - y w make that of all entries
    counts = rng.poisson(np.exp(a))
    np.save(tmp_path / "counts.npy", counts)
    args = ["compare", "--inputs", str(tmp_path / "counts.npy"), "--missing", "0.4", "--rank", "2", "--loss", "poisson"]
    problem = read_problem(parser().parse_args(args)).build()
    w, seen = problem.start.to_dense(), problem.loss.misfit.targets.size
    whole = seen * problem.loss.value(problem.start) + (w.size - seen) * problem.measures["hidden loss"](problem.start)
    np.testing.assert_allclose(whole, np.sum(np.exp(w) - counts * w), rtol=1e-13)


def test_observed_entries_can_be_held_out(tmp_path, rng):
    dense = rng.standard_normal((20, 1)) @ rng.standard_normal((1, 15))
    scipy.sparse.save_npz(tmp_path / "o.npz", scipy.sparse.coo_array(np.where(rng.random(dense.shape) < 0.7, dense, 0.0)))
    args = ["compare", "--observed", str(tmp_path / "o.npz"), "--metrics", "3", "--preprocess", "none", "--rank", "1", *QUICK]
    assert cli.main([*args, "--json", str(tmp_path / "all.json")]) == 0
    assert "hidden error" not in lrf.Report.from_json(tmp_path / "all.json").table("limits").columns
    assert cli.main([*args, "--missing", "0.2", "--json", str(tmp_path / "r.json")]) == 0
    assert lrf.Report.from_json(tmp_path / "r.json").table("limits").column("hidden error")[0] < 0.01


def test_bures_wasserstein_makes_the_start_symmetric(table):
    args = ["compare", "--inputs", str(table / "x.npy"), "--rank", "2", "--metrics", "bures-wasserstein,2", *QUICK]
    assert cli.main([*args, "--json", str(table / "r.json")]) == 0
    assert lrf.Report.from_json(table / "r.json").table("limits").column("limit") == ("A", "A")


def test_an_interrupted_comparison_keeps_the_metrics_that_were_finished(table, monkeypatch, capsys):
    from lowrankflow.compare import metrics

    run = metrics.run_course

    def interrupt(label, *args, **options):
        if label == "depth 3":
            raise KeyboardInterrupt
        return run(label, *args, **options)

    monkeypatch.setattr(metrics, "run_course", interrupt)
    args = ["compare", "--inputs", str(table / "x.npy"), "--rank", "2", "--metrics", "2,3", *QUICK]
    assert cli.main([*args, "--json", str(table / "r.json")]) == 130
    report = lrf.Report.from_json(table / "r.json")
    assert report.interrupted and report.table("cost").column("metric") == ("depth 2",)
    assert "interrupted" in capsys.readouterr().err


def test_a_failed_claim_of_a_comparison_is_status_1(table, monkeypatch):
    from lowrankflow.claims.comparisons import Comparison

    monkeypatch.setattr(Comparison, "another", lambda self, metric: metric)
    args = ["compare", "--inputs", str(table / "x.npy"), "--rank", "2", "--metrics", "2", *QUICK]
    assert cli.main(args) == 1


def test_the_module_runs_as_a_program_without_a_traceback(table):
    command = [sys.executable, "-m", "lowrankflow", "verify", "--inputs", "nowhere.npy"]
    done = subprocess.run(command, cwd=table, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "lowrankflow: error: `--inputs` must be an existing file, got 'nowhere.npy'.\n"


# ---------------------------------------------------------------------------------------------------------------------
# losses of the user's own

MINE = '''
import numpy as np


class Good:
    def __init__(self, inputs, targets, delta=1.0):
        self.x, self.y, self.delta = inputs, targets, delta
        self.shape = (targets.shape[0], inputs.shape[0])

    def value(self, w):
        e = (w @ self.x - self.y) / self.delta
        return float(self.delta**2 * np.sum(np.sqrt(1 + e**2) - 1))

    def gradient(self, w):
        e = w @ self.x - self.y
        return (e / np.sqrt(1 + (e / self.delta) ** 2)) @ self.x.T


class Wrong(Good):
    def gradient(self, w):
        return 1.01 * super().gradient(w)


class Turned(Good):
    def __init__(self, inputs, targets):
        super().__init__(inputs, targets)
        self.shape = self.shape[::-1]


class Raises(Good):
    def value(self, w):
        return 1 / 0


class NotANumber(Good):
    def value(self, w):
        return float("nan")


class Observed:
    def __init__(self, rows, cols, values, shape):
        self.r, self.c, self.v, self.shape = rows, cols, values, shape

    def value(self, w):
        return 0.5 * float(((w.entries(self.r, self.c) - self.v) ** 2).sum())

    def gradient(self, w):
        g = np.zeros(self.shape)
        np.add.at(g, (self.r, self.c), w.entries(self.r, self.c) - self.v)
        return g
'''


@pytest.fixture
def mine(table):
    (table / "mine.py").write_text(MINE)
    (table / "broken.py").write_text("class (")
    (table / "labels.csv").write_text("\n".join(str(i % 3) for i in range(30)))
    (table / "negative.csv").write_text("\n".join(f"{i},{j},-1" for i in range(5) for j in range(4)))
    return table


def test_check_loss_and_verify_take_a_file(mine, capsys):
    data = ["--inputs", str(mine / "x.npy"), "--targets", str(mine / "y.csv"), "--quiet"]
    good, wrong = (["--loss", f"{mine}/mine.py:{name}"] for name in ("Good", "Wrong"))
    assert cli.main(["check-loss", *good, "--loss-arg", "delta=0.5", *data, "--json", str(mine / "c.json")]) == 0
    report = lrf.Report.from_json(mine / "c.json")
    assert report["gradient"].verdict == "passed" and report.problem["data"]["name"] == "x.npy"
    assert cli.main(["check-loss", *wrong, *data]) == 1
    assert cli.main(["verify", *good, *data, "--rank", "2", *FAST, "--json", str(mine / "v.json")]) == 0
    assert lrf.Report.from_json(mine / "v.json").table("theory").rows
    assert cli.main(["verify", *wrong, *data, "--rank", "2", *FAST]) == 1  # control
    assert cli.main(["compare", *good, *data, "--metrics", "2", "--clock-end", "1", "--rtol", "1e-5"]) == 0
    capsys.readouterr()


def test_losses_by_name(mine, capsys):
    x = ["--inputs", str(mine / "x.npy"), "--quiet"]
    labels, y = ["--targets", str(mine / "labels.csv")], ["--targets", str(mine / "y.csv")]
    assert cli.main(["check-loss", "--loss", "softmax", *x, *labels]) == 0
    for name, *options in (("huber", "--loss-arg", "delta=0.3"), ("log-cosh",), ("squared",)):
        assert cli.main(["check-loss", "--loss", name, *options, *x, *y]) == 0
    (mine / "counts.csv").write_text("\n".join(f"{i},{j},{(i * j) % 5}" for i in range(6) for j in range(5)))
    assert cli.main(["check-loss", "--loss", "poisson", "--observed", str(mine / "counts.csv"), "--quiet"]) == 0
    assert cli.main(["check-loss", "--loss", f"{mine}/mine.py:Observed", "--observed", str(mine / "counts.csv"), "--quiet"]) == 0
    capsys.readouterr()


XY = ["--inputs", "{d}/x.npy", "--targets", "{d}/y.csv"]
BAD_LOSSES = {
    "no such name": (["--loss", "{d}/mine.py:Gone", *XY],
                     "which defines Good, Wrong, Turned, Raises, NotANumber, Observed; got 'Gone'"),
    "no such file": (["--loss", "{d}/gone.py:Good", *XY], "`--loss` must be an existing file"),
    "not Python": (["--loss", "{d}/broken.py:Good", *XY], "raises SyntaxError in line 1"),
    "not a .py file": (["--loss", "{d}/y.csv:Good", *XY], "`--loss` must name a .py file"),
    "no name": (["--loss", "{d}/mine.py", *XY], "or FILE.py:Name, got"),
    "unknown loss": (["--loss", "nope", *XY], "`--loss` must be one of least-squares, completion, squared, huber"),
    "cannot be called": (["--loss", "{d}/mine.py:Good", "--loss-arg", "epsilon=1", *XY],
                         "`--loss` Good must be callable with inputs="),
    "turned": (["--loss", "{d}/mine.py:Turned", *XY], "but the data ask for (3, 4). Did you mean the transpose?"),
    "raises": (["--loss", "{d}/mine.py:Raises", *XY], "raises ZeroDivisionError: division by zero"),
    "nan": (["--loss", "{d}/mine.py:NotANumber", *XY], "`loss.value(w)` must be finite at"),
    "hinge": (["--loss", "hinge", *XY], "Use squared-hinge."),
    "absolute": (["--loss", "absolute", *XY], "Use huber or log-cosh."),
    "argument without =": (["--loss", "huber", "--loss-arg", "delta", *XY], "`--loss-arg` must be KEY=VALUE, got 'delta'"),
    "argument twice": (["--loss", "huber", "--loss-arg", "delta=1", "--loss-arg", "delta=2", *XY], "must name each keyword once"),
    "argument unknown": (["--loss", "huber", "--loss-arg", "foo=1", *XY], "`--loss-arg` foo: huber takes delta."),
    "argument without a loss": (["--loss-arg", "delta=1", *XY], "`--loss-arg` must come with a loss that takes them"),
    "softmax without labels": (["--loss", "softmax", "--inputs", "{d}/x.npy"], "needs targets of its own"),
    "softmax of numbers": (["--loss", "softmax", *XY], "`labels` must"),
    "softmax of entries": (["--loss", "softmax", "--observed", "{d}/negative.csv"], "it has one label a sample"),
    "logistic labels": (["--loss", "logistic", *XY[:3], "{d}/labels.csv"], "`labels` must be -1 or 1"),
    "counts centred": (
        ["--loss", "poisson", "--observed", "{d}/negative.csv", "--preprocess", "center"],
        "`--preprocess` must be none for the loss poisson, whose values are taken as they stand, got center."),
    "negative counts": (["--loss", "poisson", "--observed", "{d}/negative.csv"], "`counts` must be non-negative"),
    "completion of inputs": (["--loss", "completion", *XY], "`--loss` must be least-squares for `--inputs`"),
}  # fmt: skip


@pytest.mark.parametrize("command", ["check-loss", "verify"])
@pytest.mark.parametrize("name", BAD_LOSSES)
def test_bad_losses_are_one_line_and_leave_nothing(name, command, mine, capsys):
    arguments, message = BAD_LOSSES[name]
    before = sorted(mine.iterdir())
    arguments = [a.replace("{d}", str(mine)) for a in arguments]
    assert cli.main([command, *arguments, "--out", str(mine / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and message in captured.err, captured.err
    assert sorted(p for p in mine.iterdir() if p.name != "__pycache__") == before
