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

FAST = ["--t-end", "3", "--rtol", "1e-6"]


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
    assert report["problem"]["time"]["end in natural units"] == pytest.approx(3)


def test_depth_widths_seed_and_scale_arrive(table, capsys):
    args = ["verify", "--inputs", str(table / "x.npy"), "--targets", str(table / "y.csv"), "--quiet", *FAST]
    options = ["--depth", "4", "--widths", "5,4,3", "--rank", "2", "--seed", "7", "--scale", "0.3", "--reduction", "sum"]
    assert cli.main([*args, *options, "--json", str(table / "r.json")]) == 0
    p = json.loads((table / "r.json").read_text())["problem"]
    assert (p["depth"], p["widths"], p["rank"], p["data"]["seed"]) == (4, [5, 4, 3], 2, 7)
    assert p["start"]["largest singular value"] == pytest.approx(0.3)
    assert "/ 30" not in p["loss"]
    assert capsys.readouterr().out.count("\n") == 1  # quiet: one line


@pytest.mark.parametrize("suffix", ["npz", "mtx", "csv"])
def test_sparse_observations(suffix, tmp_path, rng, capsys):
    dense = rng.standard_normal((9, 2)) @ rng.standard_normal((2, 8))
    matrix = scipy.sparse.coo_array(np.where(rng.random((9, 8)) < 0.7, dense, 0.0))
    file = tmp_path / f"ratings.{suffix}"
    if suffix == "npz":
        scipy.sparse.save_npz(file, matrix)
    elif suffix == "mtx":
        scipy.io.mmwrite(file, matrix)
    else:
        rows, cols = matrix.coords
        np.savetxt(file, np.column_stack([rows, cols, matrix.data]), delimiter=",", fmt=["%d", "%d", "%.17g"])
    args = ["verify", "--observed", str(file), "--rank", "2", "--t-end", "0.2", "--rtol", "1e-6", "--quiet"]
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
    assert cli.main(["--version"]) == 0
    assert lrf.__version__ in capsys.readouterr().out


X, Y = "{d}/x.npy", "{d}/y.csv"
BAD = {
    "no command": ([], "a command is missing, choose verify or datasets"),
    "unknown command": (["verfy"], "invalid choice: 'verfy'"),
    "no data": (["verify"], "takes one of --data, --inputs and --observed, got none of them. Try --data digits."),
    "two data": (["verify", "--data", "iris", "--inputs", X], "got --data and --inputs"),
    "unknown data": (["verify", "--data", "mnist"], "mnist"),
    "unknown claim": (["verify", "--explain", "x"], "`claim` must be one of gradient, pointwise"),
    "targets alone": (["verify", "--data", "iris", "--targets", Y], "`--targets` must come with --inputs"),
    "missing file": (["verify", "--inputs", "{d}/none.npy"], "must be an existing file"),
    "empty file": (["verify", "--inputs", "{d}/empty.csv"], "must not be empty"),
    "samples differ": (["verify", "--inputs", X, "--targets", "{d}/short.npy"], "30"),
    "nan": (["verify", "--inputs", "{d}/nan.npy"], "must be finite"),
    "constant": (["verify", "--inputs", "{d}/constant.npy"], "constant"),
    "depth 1": (["verify", "--inputs", X, "--depth", "1"], "`depth` must be greater than 1, got 1"),
    "depth word": (["verify", "--inputs", X, "--depth", "deep"], "`depth` must be a whole number of factors"),
    "depth 2.5": (["verify", "--inputs", X, "--depth", "2.5"], "`depth` must be a whole number of factors here, got 2.5"),
    "rank too large": (["verify", "--inputs", X, "--rank", "9"], "`rank` must not exceed min(m, n), got rank=9"),
    "rank above numerical": (["verify", "--inputs", "{d}/deficient.npy", "--preprocess", "none", "--rank", "4"],
                             "`rank` must not exceed the numerical rank"),
    "rank 0": (["verify", "--inputs", X, "--rank", "0"], "`rank` must be at least 1, got 0"),
    "widths below rank": (["verify", "--inputs", X, "--rank", "3", "--widths", "2"],
                          "`widths` must be at least the rank 3, got 2"),
    "widths count": (["verify", "--inputs", X, "--widths", "4,4,4"], "`widths` must hold one number for each of the 2"),
    "widths word": (["verify", "--inputs", X, "--widths", "big"], "`widths` must be whole numbers separated by commas"),
    "negative end": (["verify", "--inputs", X, "--t-end", "-1"], "`t-end` must be positive and finite, got -1"),
    "rtol": (["verify", "--inputs", X, "--rtol", "1e-15"], "`rtol` must lie between 1e-12 and 1e-5, got 1e-15: roundoff hides"),
    "rtol nan": (["verify", "--inputs", X, "--rtol", "nan"], "`rtol` must be positive and finite, got nan"),
    "scale": (["verify", "--inputs", X, "--scale", "0"], "`scale` must be positive and finite, got 0"),
    "seed": (["verify", "--inputs", X, "--seed", "-1"], "`seed` must be at least 0, got -1"),
    "budget": (["verify", "--inputs", X, "--max-evaluations", "3"], "`max_evaluations` must be at least 100, got 3"),
    "steps": (["verify", "--inputs", X, "--preprocess", "whiten"], "whiten"),
    "loss": (["verify", "--inputs", X, "--loss", "completion"], "`--loss` must be least-squares for --inputs"),
    "out is a file": (["verify", "--inputs", X, "--out", X], "`out` must be a folder that can be written"),
    "factors shape": (["verify", "--inputs", X, "--targets", Y, "--factors", "{d}/f.npz", "--preprocess", "center"],
                      "have the product shape (3, 9) but the prepared data ask for (3, 4)"),
    "factors unprepared": (["verify", "--inputs", X, "--factors", "{d}/g.npz"], "`--factors` need an explicit --preprocess"),
    "factors and widths": (["verify", "--inputs", X, "--factors", "{d}/g.npz", "--preprocess", "none", "--widths", "4"],
                           "`widths` must not be given with `network`"),
    "factors and depth": (["verify", "--inputs", X, "--factors", "{d}/g.npz", "--preprocess", "none", "--depth", "4"],
                          "`depth` must be the number of factors of `network`, got 4 for 2"),
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
    if arguments[:1] == ["verify"] and "--out" not in arguments:
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
            from lowrankflow.checks.losses import _Scaled

            return _Scaled(super().gradient(w), 1.01)

    monkeypatch.setattr(cli.losses, "LeastSquares", Wrong)
    args = ["verify", "--inputs", str(table / "x.npy"), "--targets", str(table / "y.csv"), "--quiet", *FAST]
    assert cli.main(args) == 1


def test_interruption_is_status_130_and_keeps_what_was_computed(table, monkeypatch, capsys):
    from lowrankflow.compare import equivalence

    def interrupt(x):
        raise KeyboardInterrupt

    monkeypatch.setattr(equivalence, "_MEASURES", [*equivalence._MEASURES[:2], interrupt])
    args = ["verify", "--inputs", str(table / "x.npy"), "--targets", str(table / "y.csv"), *FAST]
    assert cli.main([*args, "--out", str(table / "out")]) == 130
    report = lrf.Report.from_json(table / "out" / "report.json")
    assert report.interrupted and [c.name for c in report] == ["gradient", "pointwise"]
    assert (table / "out" / "trajectory.npz").exists() and (table / "out" / "report.html").exists()
    assert "interrupted" in capsys.readouterr().err


def test_the_module_runs_as_a_program_without_a_traceback(table):
    command = [sys.executable, "-m", "lowrankflow", "verify", "--inputs", "nowhere.npy"]
    done = subprocess.run(command, cwd=table, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "lowrankflow: error: `inputs` must be an existing file, got 'nowhere.npy'.\n"
