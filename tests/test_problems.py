"""A problem is a value: JSON and back, one hash, one command line; what it names is told by its hash."""

import json
import pickle
import shlex
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import scipy.sparse

import lowrankflow as lrf
from lowrankflow import cli, data
from lowrankflow.cli.arguments import parser
from lowrankflow.cli.problem import read_problem
from lowrankflow.compare import check_problem, compare_problem, verify_problem
from lowrankflow.problems import InMemory, Problem

ARGUMENTS = {"a": [1, 2.5, None, True], "b": "1", "c": "x y"}
FAST = ["--natural-end", "0.1", "--rtol", "1e-5", "--quiet"]
MINE = """
import pathlib
import numpy as np

pathlib.Path(__file__).with_name("ran").touch()


class Mine:
    def __init__(self, inputs, targets, weights=(1.0,)):
        assert type(weights) is list
        self.x, self.y, self.a = inputs, targets, sum(weights)
        self.shape = targets.shape[0], inputs.shape[0]

    def value(self, w):
        return 0.5 * self.a * float(((w @ self.x - self.y) ** 2).mean())

    def gradient(self, w):
        return self.a * (w @ self.x - self.y) @ self.x.T / self.y.size
"""


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    """Files of every kind, in the working folder."""
    monkeypatch.chdir(tmp_path)
    x = rng.standard_normal((30, 4))
    np.save("x.npy", x)
    np.savetxt("y.csv", x @ rng.standard_normal((4, 3)), delimiter=",")
    entries = rng.standard_normal((9, 2)) @ rng.standard_normal((2, 8))
    scipy.sparse.save_npz("o.npz", scipy.sparse.coo_array(np.where(rng.random((9, 8)) < 0.7, entries, 0.0)))
    net = lrf.LinearNetwork.balanced(lrf.random_point(3, 4, 2, rng=rng), 3, widths=4, rng=rng)
    np.savez("f.npz", *net.factors)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def random_problem(rng):
    """A problem of any kind; nothing that it names needs to exist."""

    def perhaps(value):
        return value if rng.random() < 0.5 else None

    kind = rng.integers(5)
    missing = perhaps(float(rng.uniform(0.1, 0.9))) if kind in (0, 1) else None
    fields = [
        {"data": str(rng.choice(list(data.available())))},
        {"inputs": "a folder/it's x.npy"},
        {"inputs": "x.npy", "targets": "y.csv", "factors": perhaps("f.npz"), "preprocess": ("center",)},
        {"observed": "o.mtx"},
        {"inputs": "x.npy", "targets": "y.csv", "loss": "mine.py:Mine", "loss_args": ARGUMENTS},
    ][kind]
    return Problem(
        **{"loss": perhaps("huber"), "preprocess": perhaps(())} | fields, missing=missing,
        reduction=str(rng.choice(["mean", "sum"])), rank=perhaps(int(rng.integers(1, 9))),
        scale=perhaps(float(rng.random() + 1e-9)), seed=int(rng.integers(9)), natural_end=perhaps(10.0), clock_end=perhaps(3.0),
        rtol=perhaps(float(10 ** rng.uniform(-12, -5))), max_evaluations=perhaps(1000),
        depth=perhaps(int(rng.integers(2, 9))), widths=perhaps((5, 4)), metrics=perhaps(("embedded", 3, "inf", "lambda:0.5")),
        clock=perhaps("factors"),
    )  # fmt: skip


def test_a_problem_is_the_same_after_json_pickle_and_replace(rng):
    problems = [random_problem(rng) for _ in range(200)]
    for problem in problems:
        again = Problem.from_dict(json.loads(problem.to_json()))
        assert again == problem == pickle.loads(pickle.dumps(problem)) == replace(problem)
        assert hash(again) == hash(problem) and again.key == problem.key
    assert len({p.key for p in problems}) == len(set(problems)) > 190  # control: another problem, another key


def test_the_key_is_the_same_in_another_process():
    problem = Problem(data="iris", loss="huber", loss_args={"delta": 0.5}, metrics=["embedded", 3.0, "INF"], widths=[5, 4])
    code = f"import lowrankflow as lrf; print(lrf.Problem.from_dict({problem.to_dict()!r}).key)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == problem.key


def test_what_is_written_differently_is_the_same_problem():
    one = {"preprocess": "scale, center", "metrics": "Embedded,3", "widths": [5, 4], "loss_args": {"delta": np.float64(0.5)}}
    two = {"preprocess": ["center", "scale"], "metrics": ["embedded", 3], "widths": (5, 4), "loss_args": [("delta", 0.5)]}
    a, b = (Problem(data="iris", loss="huber", **fields) for fields in (one, two))
    assert a == b and a.key == b.key
    assert Problem(data="iris", preprocess="none") != Problem(data="iris")
    with pytest.raises(FrozenInstanceError):
        a.rank = 3


UNNEEDED = {  # without a word about them the command does the same
    "verify": ("clock", "clock_end"),
    "compare": ("depth", "widths", "natural_end"),
    "check-loss": ("clock", "clock_end", "depth", "widths", "natural_end", "rtol", "max_evaluations"),
}
UNSAYABLE = {"verify": ("missing", "metrics"), "compare": ("factors",), "check-loss": ("missing", "metrics", "factors")}


@pytest.mark.parametrize("command", UNNEEDED)
def test_the_command_line_states_the_problem_or_nothing(command, rng):
    said = 0
    for _ in range(300):
        problem = random_problem(rng)
        words = shlex.split(problem.command_line(command))
        if any(getattr(problem, name) is not None for name in UNSAYABLE[command]):
            assert words == []  # a line without them would state another problem
            continue
        said += 1
        assert words[:2] == ["lowrankflow", command]
        wanted = replace(problem, **dict.fromkeys(UNNEEDED[command]))
        if command == "compare" and wanted.metrics is None:
            wanted = replace(wanted, metrics=("embedded", 2, 3, "inf", "scaledgd"))  # its default
        assert read_problem(parser().parse_args(words[1:])) == wanted
    assert said > 30


RUNS = {
    "bundled": ["check-loss", "--data", "iris", "--rank", "2", "--quiet"],
    "files": ["verify", "--inputs", "x.npy", "--targets", "y.csv", "--depth", "2", "--widths", "4", "--seed", "3", *FAST],
    "loss by name": ["check-loss", "--inputs", "x.npy", "--loss", "huber", "--loss-arg", "delta=0.5", "--quiet"],
    "observed": ["check-loss", "--observed", "o.npz", "--rank", "2", "--scale", "0.2", "--quiet"],
    "factors": ["verify", "--inputs", "x.npy", "--targets", "y.csv", "--factors", "f.npz", "--preprocess", "none", *FAST],
    "metrics": ["compare", "--inputs", "x.npy", "--metrics", "embedded,3", "--clock", "factors", "--clock-end", "1", *FAST[2:]],
    "missing": ["compare", "--data", "iris", "--missing", "0.3", "--metrics", "2", "--clock-end", "1", *FAST[2:]],
    "check": ["check-loss", "--inputs", "x.npy", "--targets", "y.csv", "--seed", "5", "--quiet"],
}


def numbers(text):
    """A report without the seconds that it took."""
    report = json.loads(text)
    for table in report["tables"]:
        clocks = [i for i, head in enumerate(table["columns"]) if head == "time ratio"]
        table["rows"] = [[v for i, v in enumerate(row) if i not in clocks] for row in table["rows"]]
    return report


@pytest.mark.parametrize("name", RUNS)
def test_a_report_repeats_to_the_same_numbers(name, folder):
    command, *rest = RUNS[name]
    assert cli.main([command, *rest, "--json", "a.json"]) == 0
    first = (folder / "a.json").read_text()
    assert cli.main([command, "--problem", "a.json", "--quiet", "--json", "b.json"]) == 0
    assert numbers((folder / "b.json").read_text()) == numbers(first)


def test_the_repeating_line_repeats_and_another_seed_does_not(folder):
    assert cli.main([*RUNS["check"], "--json", "a.json"]) == 0
    first = json.loads((folder / "a.json").read_text())
    assert cli.main([*shlex.split(first["repeats"])[1:], "--quiet", "--json", "b.json"]) == 0
    assert json.loads((folder / "b.json").read_text()) == first
    assert cli.main(["check-loss", "--problem", "a.json", "--seed", "11", "--quiet", "--json", "c.json"]) == 0
    assert json.loads((folder / "c.json").read_text())["claims"] != first["claims"]


def test_python_and_shell_measure_the_same(folder):
    assert cli.main([*RUNS["files"], "--json", "a.json"]) == 0
    problem = Problem(inputs="x.npy", targets="y.csv", depth=2, widths=4, seed=3, natural_end=0.1, rtol=1e-5)
    built = problem.build()
    for report in (verify_problem(built), verify_problem(built)):  # a Built is not used up
        assert report.to_json() + "\n" == (folder / "a.json").read_text()
    assert Problem.from_dict(report.given) == built.problem == replace(problem, sha256=built.problem.sha256)


@pytest.mark.parametrize(
    ("run", "file", "argument"),
    [
        ("files", "x.npy", "inputs"),
        ("files", "y.csv", "targets"),
        ("observed", "o.npz", "observed"),
        ("factors", "f.npz", "factors"),
    ],
)
def test_files_that_changed_are_refused(run, file, argument, folder, capsys):
    command = RUNS[run][0]
    (folder / "a.json").write_text(read_problem(parser().parse_args(RUNS[run])).build().problem.to_json())
    if file.endswith(".csv"):
        (folder / file).write_text((folder / file).read_text() + "\n")  # not even a line end
    elif argument == "inputs":
        np.save(file, np.load(file) * (1 + 1e-15))
    else:
        arrays = dict(np.load(file))
        np.savez(file, **arrays | {"new": np.ones(1)})
    assert cli.main([command, "--problem", "a.json", "--quiet", "--out", "out"]) == 2
    message = capsys.readouterr().err
    assert f"`--{argument}` must be what the problem names, got" in message and message.count("\n") == 1
    assert not (folder / "out").exists()


def test_files_may_have_moved(folder):
    assert cli.main([*RUNS["check"], "--json", "a.json"]) == 0
    (folder / "new").mkdir()
    (folder / "x.npy").rename(folder / "new" / "x.npy")
    assert cli.main(["check-loss", "--problem", "a.json", "--quiet"]) == 2
    assert cli.main(["check-loss", "--problem", "a.json", "--inputs", "new/x.npy", "--quiet", "--json", "b.json"]) == 0
    a, b = (json.loads((folder / name).read_text()) for name in ("a.json", "b.json"))
    assert a["claims"] == b["claims"]


def test_bundled_data_that_changed_are_refused(folder):
    problem = Problem(data="iris").build().problem
    assert replace(problem, rank=2).build().loss.shape == (4, 4)
    with pytest.raises(ValueError, match="`data` must be what the problem names, got wine with SHA-256"):
        replace(problem, data="wine").build()


def test_a_report_does_not_run_code(folder, capsys):
    run = ["check-loss", "--inputs", "x.npy", "--targets", "y.csv", "--loss", "mine.py:Mine", "--loss-arg", "weights=[0.5,0.5]"]
    assert cli.main([*run, "--quiet", "--json", "a.json"]) == 0
    first, ran = (folder / "a.json").read_text(), folder / "ran"
    ran.unlink()
    assert cli.main(["check-loss", "--problem", "a.json", "--quiet"]) == 2
    assert "`--loss` must be given again where it is a file: the problem names 'mine.py:Mine'" in capsys.readouterr().err
    with pytest.raises(ValueError, match="given again"):
        Problem.from_json("a.json").build()
    with pytest.raises(ValueError, match=r"must be the one that the problem names, 'mine\.py:Mine'"):
        Problem.from_json("a.json").build(loss="mine.py:Other")
    assert not ran.exists()
    assert cli.main(["check-loss", "--problem", "a.json", "--loss", "mine.py:Mine", "--quiet", "--json", "b.json"]) == 0
    assert (folder / "b.json").read_text() == first and ran.exists()  # control: then it runs
    (folder / "mine.py").write_text(MINE + "\n# changed\n")
    assert cli.main(["check-loss", "--problem", "a.json", "--loss", "mine.py:Mine", "--quiet"]) == 2
    assert "`--loss` must be what the problem names, got 'mine.py' with SHA-256" in capsys.readouterr().err


def test_arrays_in_memory_are_named_and_handed_over_again(rng):
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 3))
    problem = Problem(inputs=x, targets=y, rank=2)
    assert problem.inputs.shape == (30, 4) and "sha256" in problem.to_json()
    report = check_problem(problem.build(inputs=x, targets=y))
    assert report.repeats == "" and report.problem["data"]["description"].startswith("30 x 4 -> 3, regression")
    again = Problem.from_dict(report.given)
    assert again == problem
    assert check_problem(again.build(inputs=x.copy(), targets=np.asfortranarray(y))).to_json() == report.to_json()
    with pytest.raises(ValueError, match=r"`targets` must be handed over again: the problem names an array of 30 x 3"):
        again.build(inputs=x)
    with pytest.raises(ValueError, match="`inputs` must be the array that the problem names"):
        again.build(inputs=x + 1e-12, targets=y)
    observed = scipy.sparse.random_array((9, 8), density=0.8, rng=rng)
    factors = [rng.standard_normal((5, 4)), rng.standard_normal((3, 5))]
    compared = compare_problem(Problem(observed=observed, rank=1, metrics="2", clock_end=1.0).build(observed=observed))
    assert compared.problem["data"]["description"] == "" and Problem.from_dict(compared.given).observed.shape == (9, 8)
    net = Problem(inputs=x, targets=y, factors=factors, preprocess="none")
    assert net.build(inputs=x, targets=y, factors=factors).network.shape == (3, 4)
    with pytest.raises(ValueError, match="`factors` must be the array that the problem names"):
        net.build(inputs=x, targets=y, factors=[factors[0], 2 * factors[1]])


def test_a_report_of_objects_in_memory_names_no_problem(tmp_path, rng):
    loss = lrf.losses.LeastSquares(np.eye(3), rng.standard_normal((3, 3)))
    report = lrf.check_loss(loss, lrf.random_point(3, 3, 1, rng=rng))
    report.to_json(tmp_path / "r.json")
    assert report.given is None and lrf.Report.from_json(tmp_path / "r.json").given is None
    with pytest.raises(ValueError, match="must be a report that carries its problem"):
        Problem.from_json(tmp_path / "r.json")


def test_a_problem_alone_may_be_a_file(tmp_path):
    problem = Problem(data="iris", rank=2, natural_end=1.0, rtol=1e-5)
    (tmp_path / "p.json").write_text(problem.to_json())
    assert Problem.from_json(tmp_path / "p.json") == problem
    assert cli.main(["check-loss", "--problem", str(tmp_path / "p.json"), "--quiet"]) == 0
    assert check_problem(problem).given["sha256"]


def test_what_is_compared_by_default_is_stated_before_w0_is_made(folder):
    """The rank that observations afford depends on it: a quarter of them to compare, a half to verify."""
    problem = Problem(observed="o.npz", rtol=1e-5, clock_end=1e-3)
    with pytest.raises(ValueError, match="`problem` must name its metrics before it is built"):
        compare_problem(problem.build())
    report = compare_problem(problem)
    assert cli.main([*shlex.split(report.repeats)[1:], "--quiet", "--json", "a.json"]) == 0
    assert numbers((folder / "a.json").read_text()) == numbers(report.to_json())
    assert cli.main(["compare", "--problem", "a.json", "--quiet", "--json", "b.json"]) == 0
    assert numbers((folder / "b.json").read_text()) == numbers(report.to_json())


def test_a_problem_of_another_command_begins_at_the_same_w0(folder):
    assert cli.main([*RUNS["missing"], "--json", "a.json"]) == 0
    assert cli.main(["check-loss", "--problem", "a.json", "--quiet", "--json", "b.json"]) == 0
    a, b = (json.loads((folder / name).read_text()) for name in ("a.json", "b.json"))
    assert b["given"] == a["given"]
    assert all(b["problem"][name] == a["problem"][name] for name in ("data", "rank"))
    assert b["repeats"] == ""  # check-loss has no --missing: the report alone repeats it
    assert cli.main(["check-loss", "--problem", "b.json", "--quiet", "--json", "c.json"]) == 0
    assert (folder / "c.json").read_text() == (folder / "b.json").read_text()


def test_an_interrupted_report_carries_its_problem():
    def tell(stage, fraction):
        if stage == "pointwise":
            raise KeyboardInterrupt

    with pytest.raises(lrf.Interrupted) as caught:
        verify_problem(Problem(data="iris", rank=2, natural_end=0.1, rtol=1e-5), progress=tell)
    assert caught.value.report.given["data"] == "iris" and caught.value.report.repeats.startswith("lowrankflow verify")


X = {"inputs": "x.npy"}
HUBER = X | {"loss": "huber"}
BAD = {
    "nothing": ({}, ValueError, "A problem takes one of `data`, `inputs` and `observed`, got none of them. Try the data digits."),
    "unknown data": ({"data": "mnist"}, ValueError, "`data` must be one of digits,"),
    "bytes": ({"inputs": b"x.npy"}, ValueError, "`inputs` must be the path of a file or an array, got bytes."),
    "no array": ({"inputs": object()}, TypeError, "`inputs` must be an array of numbers"),
    "dense entries": ({"observed": np.eye(3)}, TypeError, "`observed` must be a file, Observations or a sparse array"),
    "share": (X | {"missing": 0.0}, ValueError, "`missing` must be positive and finite, got 0."),
    "steps": (X | {"preprocess": 3}, TypeError, "`preprocess` must be names or a text, got int 3."),
    "loss": (X | {"loss": "nope"}, ValueError, "`loss` must be one of least-squares, completion, squared"),
    "loss that is no text": (X | {"loss": 3}, TypeError, "`loss` must be a text, got int 3."),
    "arguments alone": (X | {"loss_args": {"a": 1}}, ValueError, "`loss_args` must come with a loss that takes them, got 'a'."),
    "arguments": (HUBER | {"loss_args": {"delta": np.ones(2)}}, TypeError, "`loss_args` must be texts, finite numbers"),
    "infinite argument": (HUBER | {"loss_args": {"delta": np.inf}}, TypeError, "`loss_args` must be texts, finite numbers"),
    "no mapping": (HUBER | {"loss_args": "delta=1"}, TypeError, "`loss_args` must be a mapping of names to values"),
    "reduction": (X | {"reduction": "median"}, ValueError, "`reduction` must be one of mean, sum; got 'median'."),
    "rank": (X | {"rank": 0}, ValueError, "`rank` must be at least 1, got 0."),
    "scale": (X | {"scale": -1.0}, ValueError, "`scale` must be positive and finite, got -1."),
    "seed": (X | {"seed": None}, TypeError, "`seed` must be a whole number"),
    "depth": (X | {"depth": 1}, ValueError, "`depth` must be greater than 1, got 1."),
    "widths": (X | {"widths": "wide"}, TypeError, "`widths` must be whole numbers, one a hidden layer, got 'wide'."),
    "metrics": (X | {"metrics": [lrf.DepthMetric(3)]}, TypeError, "`metrics` must be names and depths, got list."),
    "clock": (X | {"clock": "sun"}, ValueError, "`clock` must be one of operator, factors; got 'sun'."),
    "budget": (X | {"max_evaluations": 3}, ValueError, "`max_evaluations` must be at least 100, got 3."),
    "hash": (X | {"sha256": {"inputs": "abc"}}, ValueError, "`sha256` must be 64 hexadecimal digits, got 'abc'."),
    "hash of what": (X | {"sha256": {"weights": "0" * 64}}, ValueError, "`sha256` must be one of data, inputs,"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_problem_that_is_none_is_refused(name):
    fields, kind, message = BAD[name]
    with pytest.raises(kind) as caught:
        Problem(**fields)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


FILES = {
    "no JSON": ("{", "`--problem` must be a file of JSON, got"),
    "a list": ("[]", "`--problem` must be a problem or a report, got"),
    "another schema": ('{"schema": 9, "data": "iris"}', "`entries` must be a problem of schema 1, got 9."),
    "unknown name": ('{"schema": 1, "data": "iris", "colour": 1}', "`entries` must have the names of a problem, got 'colour'."),
    "half an array": ('{"schema": 1, "inputs": {"shape": [3, 4]}}', "`--inputs` must have shape and sha256, got shape."),
    "a wrong value": ('{"schema": 1, "data": "iris", "rank": -1}', "`--rank` must be at least 1, got -1."),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_none_is_one_line(name, tmp_path, capsys):
    text, message = FILES[name]
    (tmp_path / "p.json").write_text(text)
    assert cli.main(["verify", "--problem", str(tmp_path / "p.json")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_what_is_handed_over_is_looked_at(rng):
    problem = Problem(data="iris")
    with pytest.raises(ValueError, match="`inputs` must only be handed over where the problem names an array in memory"):
        problem.build(inputs=np.eye(3))
    with pytest.raises(TypeError, match="`arrays` must be inputs, targets, observed or factors, got weights"):
        problem.build(weights=np.eye(3))
    with pytest.raises(ValueError, match=r"`loss` must only be given again where the problem names FILE\.py:Name"):
        problem.build(loss="huber")
    with pytest.raises(TypeError, match="`problem` must be a Problem, got 'iris'"):
        verify_problem("iris")
    assert InMemory((3, 3), "0" * 64) != Problem(inputs=np.eye(3)).inputs
