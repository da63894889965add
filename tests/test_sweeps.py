"""Sweeps: grids as values, jobs by their hash, results whole or not at all, and what is shown of them."""

import csv
import errno
import hashlib
import json
import os
import re
import struct
import threading
import time
import zlib
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import xarray

import lowrankflow as lrf
from lowrankflow import cli
from lowrankflow.render import draw_sweep, sweep_picture
from lowrankflow.sweeps import Folder, Grid, Run, open_results, summarise, sweep

pytest.importorskip("sklearn")

IRIS = {"data": "iris", "rank": 2}
SHORT = {"until": 1.0, "columns": ["loss", "effective_rank", "singular_values"]}


def tenth(**fields):
    """A result of every kind, which says of what it is."""
    if fields.get("b") == 13:
        raise ZeroDivisionError("thirteen. And more")
    text = "even" if fields["b"] % 2 == 0 else "odd"
    return {"sum": sum(fields.values()) / 10, "text": text, "pair": np.arange(2) * fields["a"]}


def numbers(**axes):
    return {"grid": {name: {"count": count} for name, count in axes.items()}}


# ---------------------------------------------------------------------------------------------------------------------
# grids


def test_the_key_is_the_hash_of_what_is_done():
    """Against the hash of JSON of a dict, with sorted names and without what has its default."""
    grid = Grid.of(
        problem=IRIS | {"loss": "huber", "loss_args": {"delta": 0.5}}, run=SHORT,
        grid={"depth": [2, 3], "reduction": ["mean", "sum"], "seed": {"count": 3}},
    )  # fmt: skip
    assert grid.size == 12 and grid.shape == (2, 2, 3)
    keys = list(grid.keys())
    for number, (depth, reduction, seed) in enumerate(product([2, 3], ["mean", "sum"], range(3))):
        problem = {"data": "iris", "rank": 2, "loss": "huber", "loss_args.delta": 0.5, "depth": depth}
        problem |= ({"reduction": reduction} if reduction == "sum" else {}) | ({"seed": seed} if seed else {})
        run = {"until": 1.0, "columns": SHORT["columns"]}
        text = json.dumps({"problem": problem, "run": run, "spec": 1}, sort_keys=True, separators=(",", ":"))
        job = grid.job(number)
        assert job.key == hashlib.sha256(text.encode()).hexdigest() == keys[number].hex()
        same = lrf.Problem(**IRIS, loss="huber", loss_args={"delta": 0.5})
        assert job.problem == replace(same, depth=depth, reduction=reduction, seed=seed)
        assert job.run == Run(**SHORT)
    assert len(set(keys)) == 12


def test_a_key_does_not_depend_on_how_a_grid_is_written():
    one = Grid.of(problem=IRIS, run={"step": 0.1, "kind": "descent"}, grid={"depth": [3], "seed": [0, 1]})
    other = Grid.of(problem=lrf.Problem(data="iris", rank=2, depth=3), run=Run(kind="descent", step=0.1), grid={"seed": [1, 0]})
    assert set(one.keys()) == set(other.keys())
    assert Grid.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    changed = Grid.of(problem=IRIS, run={"step": 0.1001, "kind": "descent"}, grid={"depth": [3], "seed": [0, 1]})
    assert not set(one.keys()) & set(changed.keys())  # control


def test_ranges_pairs_and_samples():
    grid = Grid.of(
        grid={"a": {"log": [1e-4, 1.0, 9]}, "b": {"linear": [1, 9, 3]}, "c": {"count": 3, "first": 5}},
        zip=[{"d": [1, 2], "e": ["x", "y"]}],
        random={"count": 5, "rng": 3, "f": {"log": [1e-3, 1e3]}, "g": {"whole": [1, 6]}, "h": {"choice": ["u", "v"]}},
        function="any:function",
    )  # fmt: skip
    a, b, c, pair, sample = grid.axes
    assert a.column("a") == [float(f"{10 ** (k / 2 - 4):.12g}") for k in range(9)]
    assert b.column("b") == [1, 5, 9] and all(isinstance(v, int) for v in b.column("b")) and c.column("c") == [5, 6, 7]
    assert pair.name == "d_e" and pair.values == ((1, "x"), (2, "y"))
    assert sample.name == "sample" and len(sample) == 5
    assert all(1e-3 <= v <= 1e3 for v in sample.column("f")) and set(sample.column("g")) <= set(range(1, 7))
    more = Grid.of(random={"count": 9, "rng": 3, "f": {"log": [1e-3, 1e3]}}, function="any:function").axes[0]
    assert more.column("f")[:5] == sample.column("f")  # more samples are added, none is changed
    assert more.column("f") != Grid.of(random={"count": 9, "f": {"log": [1e-3, 1e3]}}, function="f:f").axes[0].column("f")


def test_samples_fill_their_range_evenly():
    """Mean and spread of 4000 draws: within four standard errors of those of the distribution."""
    spec = {"count": 4000, "u": {"linear": [-1.0, 3.0]}, "v": {"log": [1e-4, 1.0]}, "w": {"whole": [0, 3]}}
    axis = Grid.of(random=spec, function="f:f").axes[0]
    u, v, w = (np.array(axis.column(name)) for name in "uvw")
    assert abs(u.mean() - 1) < 4 * (4 / np.sqrt(12)) / np.sqrt(4000)
    assert abs(np.log10(v).mean() + 2) < 4 * (4 / np.sqrt(12)) / np.sqrt(4000)
    assert (abs(np.bincount(w, minlength=4) - 1000) < 4 * np.sqrt(4000 * 3 / 16)).all()
    assert abs(np.corrcoef(u, np.log(v))[0, 1]) < 4 / np.sqrt(4000)


def test_a_grid_file(tmp_path):
    (tmp_path / "grid.toml").write_text(
        '[problem]\ndata = "iris"\nloss = "huber"\n[grid]\ndepth = [2, 3]\nloss_args.delta = {log = [0.1, 10, 3]}\n'
        "[[zip]]\nrank = [1, 2]\nwidths = [[4, 4], 3]\n[run]\nuntil = 0.5\ntimes = {linear = [0.1, 0.5, 3]}\n"
    )
    grid = Grid.from_toml(tmp_path / "grid.toml")
    assert [axis.name for axis in grid.axes] == ["depth", "loss_args.delta", "rank_widths"] and grid.size == 12
    job = grid.job(11)
    assert job.problem == lrf.Problem(data="iris", loss="huber", loss_args={"delta": 10.0}, depth=3, rank=2, widths=3)
    assert job.run.times == (0.1, 0.3, 0.5)


IRIS_FILE = "[problem]\ndata = 'iris'\n"
BAD = {  # a grid file, and what is said of it
    "an unknown field": (IRIS_FILE + "depht = 3", r"`problem` must have the names .* Did you mean depth\?"),
    "an unknown axis": (IRIS_FILE + "[grid]\nranks = [1]", r"`grid` must vary .*'ranks'. Did you mean rank\?"),
    "an unknown table": ("[probelm]\ndata = 'iris'", r"`grid` must have the tables .*'probelm'. Did you mean problem\?"),
    "an unknown field of a run": (IRIS_FILE + "[run]\nkinds = 'flow'", r"`run` .*'kinds'. Did you mean kind\?"),
    "an unknown column": (IRIS_FILE + "[run]\ncolumns=['los']", r"`columns` must be of .*'los'. Did you mean loss\?"),
    "a column of factors": (IRIS_FILE + "[run]\ncolumns=['sharpness']", "`columns` 'sharpness' needs factors, .* flow = "),
    "an unknown range": (IRIS_FILE + "[grid]\nscale = {log = [1,2,3], lin = 3}", r"`scale` .*'lin'. Did you mean linear\?"),
    "an empty axis": (IRIS_FILE + "[grid]\ndepth = []", "`depth` must have a value at least, got an empty axis."),
    "a count of zero": (IRIS_FILE + "[grid]\nseed = {count = 0}", "`seed` must have a value at least"),
    "no list": (IRIS_FILE + "[grid]\ndepth = 3", r"`depth` must be a list or a range such as .*\[problem\]"),
    "a wrong type": (IRIS_FILE + "[grid]\ndepth = [2, 'three']", "`depth` must be .* got 'three'."),
    "a wrong type of a run": (IRIS_FILE + "[run]\ntimes = 'always'", "`times` must be .*"),
    "half of a range": (IRIS_FILE + "[grid]\nscale = {log = [1e-4, 1.0]}", r"`scale.log` must be \[a, b, n\]"),
    "a range below zero": (IRIS_FILE + "[grid]\nscale={log=[-1,1,3]}", "`scale.log` must be positive and finite, got -1."),
    "the same twice": (IRIS_FILE + "[grid]\ndepth = [3, 3]", "`depth` must have values that differ, got 3 twice."),
    "two places": (IRIS_FILE + "depth = 2\n[grid]\ndepth = [3]", "`depth` must stand once, got it in what all"),
    "unequal pairs": (IRIS_FILE + "[[zip]]\nrank=[1,2]\ndepth=[2]", "`zip` must pair lists of one length, got rank: 2,"),
    "no data": ("[grid]\ndepth = [2]", "A problem takes one of `data`, `inputs` and `observed`, got none of them."),
    "no such data": ("[problem]\ndata = 'irsi'", "`data` must be one of .* got 'irsi'."),
    "another kind's": (IRIS_FILE + "[run]\nstep = 0.1", "`step` is of descent, got a run of kind flow."),
    "no step": (IRIS_FILE + "[run]\nkind = 'descent'", "`step` or `edge` must be given for descent, .* got neither."),
    "a value no job can have": (IRIS_FILE + "[grid]\nloss=['huber','completion']", "`loss` must be least-squares for"),
    "arguments as an axis": (IRIS_FILE + "[grid]\nloss_args=[1]", "`loss_args` varies by its names, .* loss_args.NAME"),
    "no count": (IRIS_FILE + "[random]\nscale={log=[1,2]}", "`random` must have a count and a field at least, got scale."),
    "no TOML": ("[problem\n", "`grid` must be a file of TOML, got .*"),
    "a missing file": ("[problem]\ninputs = 'gone.npy'", "`inputs` must be an existing file, got 'gone.npy'."),
    "a loss that is code": (IRIS_FILE + "loss='own.py:Own'", "`loss` must be given again where it is a file: .* Read it"),
}


@pytest.mark.parametrize(("text", "says"), BAD.values(), ids=BAD)
def test_a_bad_grid_file_is_one_line_and_leaves_nothing(text, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.toml").write_text(text)
    assert cli.main(["sweep", "grid.toml", "--workers", "1"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.match(rf"lowrankflow: error: {says}", error), error
    assert [p.name for p in tmp_path.iterdir()] == ["grid.toml"]


# ---------------------------------------------------------------------------------------------------------------------
# results


@pytest.fixture(scope="module")
def flows(tmp_path_factory):
    """Flows that go together as one array, and where they are."""
    folder = tmp_path_factory.mktemp("flows")
    run = SHORT | {"times": [0.25, 1.0, 4.0], "until": 2.0}
    grid = Grid.of(problem=IRIS, run=run, grid={"seed": [3, 4], "depth": [2, 3], "scale": [0.1, 1.0]})
    return sweep(grid, folder), folder


def test_flows_are_those_of_integrate(flows):
    """To the tolerance of both, 1e-8 a step over some tens of steps, and N times that for singular values: 1e-6."""
    found, _ = flows
    assert found.complete and found.dims["loss"] == ("seed", "depth", "scale", "time")
    for i, j, k in product(range(2), range(2), range(2)):
        built = lrf.Problem(**IRIS, seed=3 + i, scale=[0.1, 1.0][k]).build()
        flow = lrf.RiemannianFlow(built.loss, lrf.DepthMetric(2 + j))
        path = lrf.integrate(flow, built.start, t_span=(0, 2.0), save=lrf.Save(times=[0.25, 1.0], exact=True), rtol=1e-10)
        rows = [np.flatnonzero(path.t == t)[0] for t in (0.25, 1.0)]
        np.testing.assert_allclose(found.values["loss"][i, j, k, :2], path.loss[rows], rtol=1e-6)
        np.testing.assert_allclose(found.values["singular_values"][i, j, k, :2], path.singular_values[rows], rtol=1e-6)
        assert np.isnan(found.values["loss"][i, j, k, 2])  # after the end
        assert found.values["t"][i, j, k] == 2.0
        deeper = lrf.integrate(replace(flow, metric=lrf.DepthMetric(4)), built.start, t_span=(0, 1.0)).loss[-1]
        assert abs(found.values["loss"][i, j, k, 1] / deeper - 1) > 1e-5  # control


def test_descents_are_those_of_gradient_descent(tmp_path):
    """Together or alone: the same products in another order, roundoff over 60 updates of matrices of 4: 1e-12."""
    run = {"kind": "descent", "steps": 60, "keep_every": 20, "columns": ["loss", "imbalance"], "optimizer": "heavy-ball"}
    run |= {"optimizer_args": {"momentum": 0.5}, "start": "gaussian"}
    grid = Grid.of(problem=IRIS | {"widths": 3, "scale": 0.5}, run=run, grid={"step": [0.01, 0.02], "seed": {"count": 2}})
    found = sweep(grid, tmp_path)
    assert found.dims["loss"] == ("step", "seed", "update") and found.coordinates()["update"].values.tolist() == [0, 20, 40, 60]
    for i, j in product(range(2), range(2)):
        built = lrf.Problem(**IRIS, seed=j).build()
        net = lrf.LinearNetwork.gaussian((4, 4), 3, widths=3, scale=0.5, rng=built.rng)
        path = lrf.gradient_descent(
            built.loss, net, step_size=[0.01, 0.02][i], steps=60, keep_every=20, rule=lrf.descent.HeavyBall(0.5),
            columns=["imbalance"],
        )  # fmt: skip
        np.testing.assert_allclose(found.values["loss"][i, j], path.loss, rtol=1e-12)
        np.testing.assert_allclose(found.values["imbalance"][i, j], path.columns["imbalance"], rtol=1e-9)


def test_a_job_alone_and_one_among_others_agree(flows, tmp_path):
    found, _ = flows
    one = sweep(Grid(dict(found.grid.fixed) | {"seed": 4, "depth": 3, "scale": 0.1}), tmp_path)
    np.testing.assert_allclose(one.values["loss"], found.values["loss"][1, 1, 0], rtol=1e-6)
    assert one.job(0).key == found.job(6).key


def test_a_stiff_flow_goes_alone_where_the_array_does_not_reach_its_end(tmp_path):
    """A budget that the explicit method of an array spends, and that of a single run, which changes its method, does not."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 6)) * np.logspace(0, -1, 6)
    problem = {"inputs": x, "preprocess": "none", "rank": 2, "depth": 2, "scale": 1.0}
    grid = {"problem": problem | {"max_evaluations": 4000}, "run": {"until": 2000.0}, "grid": {"seed": {"count": 2}}}
    found = sweep(grid, tmp_path, inputs=x)
    for seed in range(2):
        built = lrf.Problem(**problem, seed=seed).build(inputs=x)
        flow = lrf.RiemannianFlow(built.loss, lrf.DepthMetric(2))
        path = lrf.integrate(flow, built.start, t_span=(0, 2000.0), max_evaluations=4000, save=lrf.Save(steps=False))
        assert found.values["status"][seed] == path.status.name
        assert found.values["loss"][seed] == path.loss[-1] and found.values["nfev"][seed] == path.nfev
    starts = [lrf.Problem(**problem, seed=seed).build(inputs=x).start for seed in range(2)]
    stack = lrf.batched.integrate(built.loss, starts, depth=2, t_span=(0, 2000.0), max_evaluations=4000)
    assert not stack.finished.any() and (found.values["status"] == "FINISHED").all()  # control: the array alone ends early


def test_reports_by_their_claims_tables_and_places(tmp_path):
    problem = {"data": "iris", "rank": 2, "natural_end": 1.0, "rtol": 1e-6}
    found = sweep({"problem": problem, "run": {"kind": "verify", "columns": ["gradient", "trajectory"]}}, tmp_path / "verify")
    report = lrf.compare.verify_problem(lrf.Problem(**problem), claims=["gradient", "trajectory"])
    assert found.values["trajectory"] == report["trajectory"].measured
    assert found.values["trajectory_verdict"] == "passed" and found.values["passed"] == 1
    compare = {"data": "iris", "rank": 2, "rtol": 1e-5, "clock_end": 1.0, "metrics": ["2", "3"]}
    found = sweep({"problem": compare, "run": {"kind": "compare"}}, tmp_path / "compare")
    rows = lrf.compare.compare_problem(lrf.Problem(**compare)).table("limits").rows
    assert found.values["loss"].tolist() == [row[2] for row in rows] and found.values["metric"].tolist() == ["depth 2", "depth 3"]
    found = sweep({"problem": problem, "run": {"kind": "landscape"}}, tmp_path / "landscape")
    place = lrf.compare.place_problem(lrf.Problem(**problem)).problem
    assert found.values["kind"] == (place["nearby"] or place["place"])["kind"]


def test_a_rerun_does_what_is_missing_and_nothing_else(tmp_path):
    calls, mended = [], []

    def counted(**fields):
        calls.append(fields)
        return {"sum": -1.0} if mended else tenth(**fields)

    first = sweep(numbers(a=3, b=14), tmp_path, function=counted)
    assert len(calls) == 42 and first.count("done") == 39 and first.count("failed") == 3 and not first.complete
    assert set(first.errors.values()) == {"ZeroDivisionError: thirteen"}
    assert repr(first).endswith("39 done, 3 failed; sum, text, pair, seconds; job 13: ZeroDivisionError: thirteen"), repr(first)
    assert sweep(numbers(a=3, b=14), tmp_path, function=counted).count("failed") == 3 and len(calls) == 42
    more = sweep(numbers(a=4, b=15), tmp_path, function=counted)  # values added at the ends of both axes
    assert len(calls) == 60 and more.count("done") == 56
    a, b = np.meshgrid(np.arange(4), np.arange(15), indexing="ij")
    expected = np.where(b == 13, np.nan, (a + b) / 10)
    np.testing.assert_array_equal(more.values["sum"], expected)
    np.testing.assert_array_equal(more.values["pair"][:, :13], np.stack([0 * a, a], -1)[:, :13])
    assert more.values["text"][2, 3] == "odd" and more.values["text"][2, 13] == ""
    sweep(numbers(a=4, b=15), tmp_path, function=counted, retry=True)
    assert len(calls) == 64
    mended.append(True)
    last = sweep(numbers(a=4, b=15), tmp_path, function=counted, retry=True)
    assert len(calls) == 68 and last.complete and (last.values["sum"][:, 13] == -1).all()
    assert sweep(numbers(a=4, b=15), tmp_path, function=counted, retry=True).complete and len(calls) == 68


def test_another_grid_is_refused_and_nothing_is_changed(tmp_path):
    sweep(numbers(a=2, b=3), tmp_path, function=tenth)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for other in (numbers(a=1, b=3), numbers(a=2, c=3), numbers(b=3, a=2) | {"run": {"c": 1}}):
        with pytest.raises(ValueError, match=r"`out` must be the folder of this grid, got .* of whose 6 jobs [36] are not among"):
            sweep(other, tmp_path, function=tenth)
    assert before == {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert sweep(numbers(b=3, a=2), tmp_path, function=tenth).complete  # the same jobs in another order


def test_the_field_that_differs_is_named(tmp_path):
    sweep({"problem": IRIS, "run": {"until": 0.1}}, tmp_path)
    with pytest.raises(ValueError, match=r"1 are not among the 1 of this one \(`rank` is 2 there and 1 here\)"):
        sweep({"problem": IRIS | {"rank": 1}, "run": {"until": 0.1}}, tmp_path)


def test_results_of_another_version_are_refused(tmp_path):
    sweep(numbers(a=1, b=2), tmp_path, function=tenth)
    spec = tmp_path / "sweep.json"
    text = spec.read_text()
    spec.write_text(text.replace(f'"version": "{lrf.__version__}"', '"version": "0.0.1"'))
    for call in (lambda: sweep(numbers(a=1, b=2), tmp_path, function=tenth), lambda: open_results(tmp_path)):
        with pytest.raises(ValueError, match=r"`out` must hold a sweep of lowrankflow .* got .* of version 0.0.1. Choose"):
            call()
    spec.write_text(text)
    (shard,) = tmp_path.glob("*.shard")
    shard.write_bytes(shard.read_bytes().replace(lrf.__version__.encode(), b"0.0.1", 1))
    with pytest.raises(ValueError, match=r"`out` must hold results of lowrankflow .* of version 0.0.1."):
        open_results(tmp_path)
    spec.write_text("{")
    with pytest.raises(ValueError, match=r"`out` must be the folder of a sweep, .* cannot be read"):
        sweep(numbers(a=1, b=2), tmp_path, function=tenth)
    with pytest.raises(ValueError, match=r"`out` must be the folder of a sweep, got .* in which there is no sweep.json"):
        open_results(tmp_path / "elsewhere")


# ---------------------------------------------------------------------------------------------------------------------
# shards


def test_a_shard_by_its_description(tmp_path):
    """Read by what the text says of the format, with nothing of the library."""
    grid = Grid.of(grid={"a": {"count": 5}, "b": [1]}, function=f"{tenth.__module__}:tenth")
    sweep(grid, tmp_path, function=tenth)
    (shard,) = tmp_path.glob("*.shard")
    head, _, content = shard.read_bytes().partition(b"\n")
    assert json.loads(head) == {"format": "lowrankflow sweep", "schema": 1, "version": lrf.__version__}
    keys, at = [], 0
    while at < len(content):
        length, check = struct.unpack_from("<II", content, at)
        body = content[at + 8 : at + 8 + length]
        assert zlib.crc32(body) == check and body[32:33] == b"+" and "sum" in json.loads(body[33:])
        keys.append(body[:32])
        at += 8 + length
    assert keys == list(grid.keys())


def test_a_torn_record_is_as_if_it_were_not_there(tmp_path):
    """Cut anywhere, or with a bit turned: what is before is kept, the rest is done again."""
    calls = []

    def counted(**fields):
        calls.append(fields)
        return {"x": float(fields["a"])}

    sweep(numbers(a=4), tmp_path, function=counted)
    (shard,) = tmp_path.glob("*.shard")
    whole = shard.read_bytes()
    line = whole.index(b"\n") + 1
    sizes = [8 + struct.unpack_from("<I", whole, line)[0]]
    for _ in range(3):
        sizes.append(8 + struct.unpack_from("<I", whole, line + sum(sizes))[0])
    ends = np.cumsum([line, *sizes])
    for cut in [*range(line, len(whole), 7), len(whole)]:
        shard.write_bytes(whole[:cut])
        found = open_results(tmp_path)
        assert found.count("done") == int((ends[1:] <= cut).sum()) and (found.torn > 0) == (cut not in ends)
    turned = bytearray(whole)
    turned[ends[2] + 20] ^= 1
    shard.write_bytes(turned)
    calls.clear()
    found = sweep(numbers(a=4), tmp_path, function=counted)
    assert found.complete and [c["a"] for c in calls] == [2, 3] and found.values["x"].tolist() == [0, 1, 2, 3]


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "grid.toml").write_text("[problem]\ndata='iris'\nrank=1\n[grid]\ndepth=[2,3,4]\n[run]\nuntil=0.1\n")
    write, left = os.write, [350]

    def full(file, content):
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = write(file, bytes(content)[: left[0]])
        left[0] -= count
        return count

    monkeypatch.setattr(os, "write", full)
    out = tmp_path / "out"
    assert cli.main(["sweep", str(tmp_path / "grid.toml"), "--out", str(out), "--workers", "1", "--quiet"]) == 2
    assert capsys.readouterr().err == "lowrankflow: error: cannot read or write: No space left on device.\n"
    monkeypatch.setattr(os, "write", write)
    before = open_results(out)
    assert 0 < before.count("done") < 3 and before.torn == 0  # what did not fit was taken back
    assert cli.main(["sweep", str(tmp_path / "grid.toml"), "--out", str(out), "--workers", "1", "--quiet"]) == 0
    assert open_results(out).values["seconds"].ravel()[0] == before.values["seconds"].ravel()[0]


def test_a_file_that_is_gone_fails_its_jobs_alone(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        np.save(tmp_path / f"{name}.npy", rng.standard_normal((20, 3)))
    paths = [str(tmp_path / f"{name}.npy") for name in ("one", "two")]
    grid = {"problem": {"rank": 1}, "run": {"until": 0.1}, "grid": {"inputs": paths}}
    two = (tmp_path / "two.npy").read_bytes()

    def gone(words, part):  # told after the first job
        (tmp_path / "two.npy").unlink(missing_ok=True)

    first = sweep(grid, tmp_path / "out", progress=gone)
    assert first.state.tolist() == [1, 2] and "`inputs` must be an existing file" in first.errors[1]
    (tmp_path / "two.npy").write_bytes(two)
    assert sweep(grid, tmp_path / "out", retry=True).complete
    (tmp_path / "moved.npy").write_bytes(two)
    grid["grid"]["inputs"][1] = str(tmp_path / "moved.npy")
    assert sweep(grid, tmp_path / "out").complete  # data are known by what they are, not by where
    np.save(tmp_path / "moved.npy", rng.standard_normal((20, 3)))
    with pytest.raises(ValueError, match="`out` must be the folder of this grid"):
        sweep(grid, tmp_path / "out")


def test_arrays_in_memory(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 2))
    grid = Grid.of(problem={"inputs": x, "targets": y, "rank": 1}, run={"until": 0.5}, grid={"seed": {"count": 2}})
    found = sweep(grid, tmp_path, inputs=x, targets=y)
    built = lrf.Problem(inputs=x, targets=y, rank=1, seed=1).build(inputs=x, targets=y)
    path = lrf.integrate(lrf.RiemannianFlow(built.loss, lrf.DepthMetric(3)), built.start, t_span=(0, 0.5))
    assert found.values["loss"][1] == pytest.approx(path.loss[-1], rel=1e-7)
    assert "handed over again" in sweep(grid, tmp_path / "other").errors[0]
    with pytest.raises(ValueError, match="`observed` must only be handed over where the grid names an array in memory"):
        sweep(grid, tmp_path, observed=x)


# ---------------------------------------------------------------------------------------------------------------------
# two at once


def test_two_drivers_of_one_folder_do_not_harm_each_other(tmp_path):
    meeting, met, calls = threading.Barrier(2), set(), []

    def slow(a):
        if threading.get_ident() not in met:  # neither is done before the other has begun
            met.add(threading.get_ident())
            meeting.wait(10)
        calls.append(a)
        time.sleep(0.006)
        return {"x": float(a)}

    found = [None, None]

    def drive(i):
        found[i] = sweep(numbers(a=250), tmp_path, function=slow)

    both = [threading.Thread(target=drive, args=(i,)) for i in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert open_results(tmp_path).values["x"].tolist() == list(range(250))
    assert all(result.complete for result in found)
    assert len(calls) < 450  # they came from both ends, and looked at what the other had done every half second


# ---------------------------------------------------------------------------------------------------------------------
# what is shown


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return sweep(numbers(a=4, b=14, seed=3), folder, function=tenth), folder


def test_the_data_set_has_the_axes_of_the_grid(made, tmp_path):
    found, _ = made
    data = found.to_xarray()
    assert dict(data.sizes) == {"a": 4, "b": 14, "seed": 3, "pair_dim_1": 2}
    assert float(data["sum"].sel(a=2, b=3, seed=1)) == 0.6 and int(data.state.sel(b=13).min()) == 2
    found.to_netcdf(tmp_path / "made.nc")
    with xarray.open_dataset(tmp_path / "made.nc", engine="h5netcdf") as again:
        assert again["sum"].identical(data["sum"]) and str(again.error.sel(a=0, b=13, seed=0).item()).startswith("ZeroDivision")
        assert str(again.text.sel(a=0, b=3, seed=0).item()) == "odd"


def test_a_result_of_the_name_of_an_axis_is_told_apart(tmp_path):
    found = sweep({"problem": IRIS, "run": {"until": 0.1}, "grid": {"loss": ["huber", "log-cosh"]}}, tmp_path)
    data = found.to_xarray()
    assert data.loss.values.tolist() == ["huber", "log-cosh"] and data.loss_found.values.tolist() == found.values["loss"].tolist()
    assert next(found.rows())[:2] == ["loss", "state"] and "loss_found" in next(found.rows())
    assert summarise(found, "loss", x="loss").centre.ravel().tolist() == found.values["loss"].tolist()
    with pytest.raises(ValueError, match=r"`seconds` must be the name of an argument, none of state, error, seconds."):
        sweep(numbers(seconds=2), tmp_path / "other", function=max)
    said = sweep(numbers(a=1), tmp_path / "third", function=lambda a: {"error": 1.0}).errors[0]
    assert said == "TypeError: A result must have a name of its own, none of state, error, seconds; got 'error'"


def test_the_table_has_a_line_for_every_job(made, tmp_path):
    found, _ = made
    found.to_csv(tmp_path / "made.csv")
    with open(tmp_path / "made.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 168 and list(rows[0])[:5] == ["a", "b", "seed", "state", "sum"]
    for row in rows:
        a, b, seed = (int(row[name]) for name in ("a", "b", "seed"))
        assert row["state"] == ("failed" if b == 13 else "done") and (row["error"] != "") == (b == 13)
        if b != 13:
            assert float(row["sum"]) == (a + b + seed) / 10 and float(row["pair_1"]) == a


def test_a_picture_says_which_runs_did_not_end_as_asked(tmp_path):
    grid = {
        "problem": {"data": "iris", "rank": 2, "depth": 2},
        "grid": {"edge": [0.1, 20.0], "seed": {"count": 3}},
        "run": {"kind": "descent", "steps": 200},
    }
    found = sweep(grid, tmp_path)
    assert (found.values["status"][1] == "NOT_FINITE").all() and (found.values["status"][0] == "FINISHED").all()
    caption = summarise(found, "loss", x="edge").caption
    assert caption.endswith("3 jobs a point; of 6 runs 3 did not end as asked (NOT_FINITE 3)"), caption
    assert not summarise(sweep(numbers(a=2, b=2), tmp_path / "b", function=tenth)).otherwise  # nothing says how it ended


def test_summaries_against_numpy(made):
    found, _ = made
    summary = summarise(found, "sum", x="b", lines="a")
    assert summary.axes == ("", "", "a", "b") and summary.over == ("seed (3)",)
    values = found.values["sum"][:, :13]
    for name, q in (("centre", 0.5), ("low", 0.1), ("high", 0.9)):
        np.testing.assert_allclose(getattr(summary, name)[0, 0, :, :13], np.quantile(values, q, axis=-1), rtol=1e-14)
    assert np.isnan(summary.centre[0, 0, :, 13]).all() and (summary.count[0, 0] == [3] * 13 + [0]).all()
    share = summarise(found, "text=odd", x="b", where={"a": "2"})
    assert share.share and share.centre.ravel()[:3].tolist() == [0, 1, 0] and share.count.max() == 3
    # Wilson 1927 for 1 of 1 among 3 with z = 1.96: 3 / (3 + z^2) = 0.4385
    assert share.low[0, 0, 0, 1] == pytest.approx(3 / (3 + 1.96**2)) and share.high[0, 0, 0, 1] == 1
    less = summarise(found, "sum<0.55", x="a", where={"b": 3})
    np.testing.assert_allclose(less.centre.ravel(), (found.values["sum"][:, 3] < 0.55).mean(-1))
    table = list(csv.reader(summary.to_csv().splitlines()))
    assert table[0] == ["a", "b", "sum", "low", "high", "jobs"] and len(table) == 57
    assert float(table[1 + 14 * 2 + 5][2]) == summary.centre[0, 0, 2, 5]


@pytest.mark.parametrize(
    ("what", "options", "says"),
    [
        ("summ", {}, "`y` must be of sum, .*'summ'. Did you mean sum?"),
        ("sum!", {}, "`y` must be NAME, NAME<NUMBER, "),
        ("sum<few", {}, "`y` must compare with a number, got 'sum<few'."),
        ("sum", {"x": "aa"}, "`axis` must be of a, b, seed; got 'aa'."),
        ("sum", {"x": "a", "lines": "a"}, "The axes of a plot must differ, got a, a."),
        ("sum", {"where": {"b": 99}}, "`where` b must be one of 0, 1, "),
    ],
)
def test_what_cannot_be_plotted_is_said(made, what, options, says):
    with pytest.raises(ValueError, match=f"^{re.escape(says).replace(chr(92) + '.' + chr(92) + '*', '.*')}"):
        summarise(made[0], what, **options)


def test_pictures_show_the_numbers(made):
    from matplotlib.figure import Figure

    found, _ = made
    page = Figure()
    draw_sweep(page, summarise(found, "sum", x="b", lines="a", columns="seed"), yscale="linear")
    assert len(page.axes) == 3 and [ax.get_title(loc="left") for ax in page.axes] == ["seed = 0", "seed = 1", "seed = 2"]
    for k, ax in enumerate(page.axes):
        for a, line in enumerate(ax.lines):
            np.testing.assert_array_equal(line.get_ydata()[:13], found.values["sum"][a, :13, k])
    page = Figure()
    draw_sweep(page, summarise(found, "sum", x="b", lines="a"), heat=True)
    (mesh,) = page.axes[0].collections
    np.testing.assert_allclose(mesh.get_array()[:, :13], np.median(found.values["sum"], -1)[:, :13])
    assert np.ma.getmaskarray(mesh.get_array())[:, 13].all()
    assert sweep_picture(summarise(found, "text=odd", x="b"))[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_command_runs_says_and_draws(flows, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(
        "[problem]\ndata='iris'\n[grid]\nrank=[1, 2, 9]\nseed={count=2}\n[run]\nuntil=0.2\ncolumns=['loss']\n"
    )
    assert cli.main(["sweep", "small.toml", "--workers", "1"]) == 1
    said = capsys.readouterr().out
    assert "2 failed: ValueError: `rank` must not exceed" in said and "4 of 6 jobs done, 2 failed, 0 missing in small" in said
    assert (tmp_path / "small/results.csv").is_file() and (tmp_path / "small/results.nc").is_file()
    assert cli.main(["sweep", "status", "small"]) == 1
    assert "4 of 6 jobs done, 2 failed, 0 missing" in capsys.readouterr().out
    assert cli.main(["sweep", "plot", "small", "--y", "loss", "--x", "rank"]) == 0
    assert (tmp_path / "small/loss.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "small/loss.csv").read_text().startswith("rank,loss,low,high,jobs\n1,")
    share = ["--y", "status=FINISHED", "--x", "rank", "--lines", "seed", "--heat", "--picture", "p.png"]
    assert cli.main(["sweep", "plot", "small", *share]) == 0
    assert (tmp_path / "p.csv").is_file()
    assert cli.main(["sweep", "plot", "small", "--y", "losses"]) == 2
    assert "Did you mean loss?" in capsys.readouterr().err
    assert cli.main(["sweep"]) == 2 and cli.main(["sweep", "status", "nowhere"]) == 2


def test_ctrl_c_keeps_what_is_done(tmp_path, capsys):
    (tmp_path / "g.toml").write_text("[problem]\ndata='iris'\nrank=1\n[grid]\ndepth=[2,3,4,5,6]\n[run]\nuntil=0.1\n")
    look, seen = Folder.look, []

    def interrupted(self):
        if look(self):
            seen.append(1)
            raise KeyboardInterrupt
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folder, "look", interrupted)
        command = ["sweep", str(tmp_path / "g.toml"), "--out", str(tmp_path / "out"), "--workers", "1"]
        assert cli.main(command) == 130
    said = capsys.readouterr().err
    assert said.startswith("lowrankflow: interrupted; ") and said.endswith("The same line goes on.\n") and seen
    assert cli.main(command) == 0
