"""Data sets, files and preparation: laws, round trips, and every message."""

import io
import json
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from lowrankflow import LinearNetwork, data, random_point
from lowrankflow.data import DataSet, Observations, prepare, prepare_observed

EPS = np.finfo(float).eps

# what was measured: non-zero eigenvalues of the raw X X^T, dimension after preparation, conditions before and after
MEASURED = {
    "digits": (61, 61, 6.4954e6, 4.3425e5),
    "diabetes": (10, 10, 470.08, 470.08),
    "linnerud": (3, 3, 2281.5, 385.69),
    "breast_cancer": (30, 22, 2.2063e12, 7.7031e9),
    "iris": (4, 4, 2592.0, 177.40),
    "wine": (13, 13, 8.0429e7, 1.2092e7),
    "china": (64, 64, 2.6343e4, 6249.2),
    "flower": (64, 64, 1.5288e5, 5.6895e4),
}


def low_rank_rows(rng, p, n, eigenvalues):
    """Samples in rows whose centred X X^T has the given eigenvalues (the rest are roundoff)."""
    q = len(eigenvalues)
    left = np.linalg.qr(np.c_[np.ones(p), rng.standard_normal((p, q))])[0][:, 1:]  # orthogonal to 1: stays centred
    right = np.linalg.qr(rng.standard_normal((n, q)))[0]
    return (left * np.sqrt(eigenvalues)) @ right.T


def gram(x):
    return x.T @ x


# --- bundled data sets ---------------------------------------------------------------------------------------------


def test_every_data_set_is_measured():
    assert list(data.available()) == list(MEASURED)


@pytest.mark.parametrize("name", MEASURED)
def test_bundled_data_are_as_announced(name):
    pytest.importorskip("sklearn")
    loaded = data.load(name)
    p, n = loaded.inputs.shape
    shapes = f"{p} x {n}" if loaded.targets is None else f"{p} x {n} -> {loaded.targets.shape[1]}"
    assert data.available()[name].startswith(f"{shapes}, {loaded.task}: ")
    assert loaded.description == data.available()[name]
    x, y, done = prepare(loaded)
    rank_raw, kept, condition_raw, condition = MEASURED[name]
    assert (done.rank_raw, done.rank, done.n) == (rank_raw, kept, kept)
    # the numbers above have 5 digits; roundoff is far below: eps sqrt(condition) = 3e-10 at worst
    assert done.condition_raw == pytest.approx(condition_raw, rel=1e-4)
    assert done.condition == pytest.approx(condition, rel=1e-4)
    assert x.shape == (done.n, p) and y.shape == (done.m, p)
    assert done.dropped_share < (n - kept) * data.RANGE + EPS


def test_raw_digits_are_rank_deficient():
    """Rank 61 of 64, lambda_1 = 4.8e6, non-zero condition 6e6; three pixels are never inked."""
    pytest.importorskip("sklearn")
    x = data.load("digits").inputs.T  # integers: X X^T is exact
    eigenvalues = np.linalg.eigvalsh(x @ x.T)
    assert (np.ptp(x, axis=1) == 0).sum() == 3
    assert eigenvalues[-1] == pytest.approx(4.81e6, rel=1e-3)
    assert eigenvalues[-1] / eigenvalues[3] == pytest.approx(MEASURED["digits"][2], rel=1e-4)


def test_patches_are_squares_of_the_image():
    datasets = pytest.importorskip("sklearn.datasets")
    grey = datasets.load_sample_image("china.jpg").mean(axis=2)
    patches = data.load("china").inputs
    assert patches.shape == (53 * 80, 64)
    assert np.array_equal(patches[80 * 2 + 5].reshape(8, 8), grey[16:24, 40:48])
    assert not np.array_equal(patches[80 * 2 + 5].reshape(8, 8), grey[40:48, 16:24])  # control: rows, then columns


@pytest.mark.parametrize("missing", ["sklearn", "PIL"])
def test_missing_package_names_the_fix(monkeypatch, missing):
    pytest.importorskip("sklearn")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError) as caught:
        data.load("china")
    assert str(caught.value) == (
        'The data set china needs scikit-learn and Pillow. Run: pip install "lowrankflow[data]"'
    )
    assert data.available()["china"]


# --- preparation: laws ---------------------------------------------------------------------------------------------

shapes = given(seed=st.integers(0, 2**32 - 1), p=st.integers(3, 15), n=st.integers(2, 8))


@shapes
def test_prepared_data_are_centred_scaled_and_diagonal(seed, p, n):
    raw = np.random.default_rng(seed).standard_normal((p, n)) + 5
    x, y, done = prepare(DataSet("d", raw))
    assert np.array_equal(x, y) and x is not y
    # sums of p terms of size 1 (their mean, their square), each with an error of a few eps
    assert abs(x.mean(axis=1)).max() < 20 * p * EPS
    # range dropped at most 1e-10 of each of n directions
    assert np.sum(x**2) / (n * p) == pytest.approx(1, abs=n * (data.RANGE + 20 * EPS))
    second = x @ x.T
    off = abs(second - np.diag(np.diag(second))).max()
    assert off < 20 * (n + p) * EPS * second[0, 0]
    assert np.all(np.diff(np.diag(second)) <= 20 * (n + p) * EPS * second[0, 0])
    assert done.rank == done.n == min(n, p - 1)  # centring takes one dimension of the samples
    control, *_ = prepare(DataSet("d", raw), steps="center,scale")  # control: without range it is not diagonal
    second = control @ control.T
    assert abs(second - np.diag(np.diag(second))).max() > 1e-6 * abs(second).max()


@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(-490, 450))
def test_scaling_the_data_changes_nothing(seed, exponent):
    raw = np.random.default_rng(seed).standard_normal((12, 5)) + 1
    x, _, done = prepare(DataSet("d", raw))
    scaled, _, scaled_done = prepare(DataSet("d", np.ldexp(raw, exponent)))
    assert np.array_equal(scaled, x)  # a power of two rounds nothing
    assert scaled_done.input_rms == np.ldexp(done.input_rms, exponent)
    assert scaled_done.condition == done.condition
    feature = raw * np.array([1, 1, 1, 1, 2.0])  # control: the unit of a single feature matters
    assert not np.allclose(gram(prepare(DataSet("d", feature))[0]), gram(x))


@shapes
def test_shifting_the_features_changes_roundoff_alone(seed, p, n):
    rng = np.random.default_rng(seed)
    raw, shift = rng.standard_normal((p, n)), rng.uniform(-100, 100, n)
    x, y = prepare(DataSet("d", raw))[0], prepare(DataSet("d", raw + shift))[0]
    # raw + shift rounds each entry by eps |shift|, against an RMS that random data of 3 samples keep above 0.01
    bound = 4 * EPS * 100 / 0.01 * n * p
    assert abs(gram(x) - gram(y)).max() < bound
    control = prepare(DataSet("d", raw + shift), steps="scale,range")[0]
    assert abs(gram(x) - gram(control)).max() > 1e3 * bound


@shapes
def test_order_of_rows_is_irrelevant(seed, p, n):
    rng = np.random.default_rng(seed)
    inputs, targets, order = rng.standard_normal((p, n)), rng.standard_normal((p, 2)), rng.permutation(p)
    x, y, done = prepare(DataSet("d", inputs, targets))
    x2, y2, done2 = prepare(DataSet("d", inputs[order], targets[order]))
    largest = max(np.linalg.norm(gram(x), 2), 1.0)
    bound = 50 * (n + p) * EPS * largest  # mean, RMS, QR and SVD: each backward stable
    assert abs(gram(x)[np.ix_(order, order)] - gram(x2)).max() < bound
    assert abs(y[:, order] - y2).max() < bound
    assert done.n == done2.n
    other = np.roll(np.arange(p), 1)  # control: samples in another order than the Gram matrix is compared in
    assert abs(gram(x)[np.ix_(other, other)] - gram(x)).max() > 1e3 * bound


@pytest.mark.parametrize("shape", [(40, 8), (9, 30)], ids=["p > n", "p < n"])
def test_range_preserves_the_gram_matrix(shape):
    rng = np.random.default_rng(3)
    eigenvalues = np.array([1.0, 1e-2, 1e-4, 1e-6, 1e-9, 1e-11, 1e-13, 1e-22])
    raw = low_rank_rows(rng, *shape, eigenvalues)
    x, _, done = prepare(DataSet("d", raw))
    full, _, before = prepare(DataSet("d", raw), steps=("center", "scale"))
    assert (done.n, done.rank, done.dropped) == (5, 5, shape[1] - 5)
    assert before.n == shape[1] and before.rank == 8 and before.input_basis is None
    largest = np.linalg.norm(full, 2) ** 2
    # what was dropped has norm 1e-11 lambda_1; roundoff of the basis moves directions of size one by eps
    bound = (1e-11 + 20 * sum(shape) * EPS) * largest
    assert np.linalg.norm(gram(x) - gram(full), 2) < 1.01 * bound
    assert np.linalg.norm(gram(x[:-1]) - gram(full), 2) > 10 * bound  # control: one direction more is seen
    basis = done.input_basis
    assert np.linalg.norm(basis.T @ basis - np.eye(5)) < 50 * EPS * 5
    assert np.array_equal(x, basis.T @ full)
    assert (basis[abs(basis).argmax(axis=0), np.arange(5)] > 0).all()
    assert done.dropped_share == pytest.approx(
        1.01e-11 / eigenvalues.sum(), rel=40 * sum(shape) * EPS / 3e-7, abs=0
    )  # singular values 3e-6 and 3e-7 of 1 known to eps
    # singular value 3e-5 of 1 known to eps: relative error of the condition 2 * 20 eps / 3e-5
    assert done.condition == pytest.approx(1e9, rel=40 * sum(shape) * EPS / 3e-5)
    assert before.condition > 9e12


def test_raw_map_predicts_what_least_squares_with_intercept_predicts():
    """An oracle that knows nothing of preparation: least squares on raw data with a column of ones."""
    pytest.importorskip("sklearn")
    loaded = data.load("linnerud")
    ones = np.c_[loaded.inputs, np.ones(20)]
    expected = ones @ np.linalg.lstsq(ones, loaded.targets)[0]
    x, y, done = prepare(loaded)
    w = np.linalg.lstsq(x.T, y.T)[0].T
    matrix, offset = done.to_raw(w)
    assert matrix.shape == (3, 3) and offset.shape == (3,)
    predicted = loaded.inputs @ matrix.T.to_dense() + offset
    # roundoff times the condition of [X 1] (2e3), of values up to 250
    bound = 20 * EPS * np.linalg.cond(ones) * 250
    assert abs(predicted - expected).max() < bound
    assert abs(predicted - offset - expected).max() > 1e6 * bound  # control: the offset is needed
    x, y, _ = prepare(loaded, steps="scale,range")
    without = (x.T @ np.linalg.lstsq(x.T, y.T)[0]) * np.sqrt(np.mean(loaded.targets**2))
    assert abs(without - expected).max() > 1e6 * bound  # control: without centring it is another problem


@pytest.mark.parametrize("steps", ["center,scale,range", "center", "scale,range", "none"])
@pytest.mark.parametrize("task", ["autoencoding", "regression"])
@pytest.mark.parametrize("kind", ["dense", "low rank", "network"])
def test_way_back(steps, task, kind):
    rng = np.random.default_rng(5)
    inputs = low_rank_rows(rng, 30, 7, [4.0, 1.0, 0.5]) + rng.standard_normal(7)
    loaded = DataSet("d", inputs, None if task == "autoencoding" else rng.standard_normal((30, 4)) + 2)
    x, y, done = prepare(loaded, steps=steps)
    assert (done.m, done.n, done.task) == (y.shape[0], x.shape[0], task)
    w = random_point(done.m, done.n, 2, rng=rng)
    given_w = {"dense": w.to_dense(), "low rank": w, "network": LinearNetwork.balanced(w, 3)}[kind]
    matrix, offset = done.to_raw(given_w)
    assert matrix.shape == (done.m_raw, 7)
    got = inputs @ matrix.to_dense().T + offset
    expected = w.to_dense() @ x  # the same, step by step
    if task == "autoencoding" and "range" in steps:
        expected = done.input_basis @ expected
    expected = expected.T * (done.target_rms if "scale" in steps else 1.0) + done.target_mean
    size = np.linalg.norm(matrix.to_dense(), 2) * abs(inputs).max() + abs(offset).max()
    assert abs(got - expected).max() < 100 * EPS * size
    assert abs(got - expected[::-1]).max() > 1e-3 * size  # control: samples in reverse


def test_steps_do_one_thing_each():
    rng = np.random.default_rng(6)
    raw, targets = rng.standard_normal((20, 3)) + 4, rng.standard_normal((20, 2)) * 7
    loaded = DataSet("d", raw, targets)
    x, y, done = prepare(loaded, steps=())
    assert np.array_equal(x, raw.T) and np.array_equal(y, targets.T) and done.steps == ()
    x[:] = 0
    assert loaded.inputs.all()  # a copy
    x, y, done = prepare(loaded, steps="scale")
    # one division and a mean of 60 squares
    assert np.sqrt(np.mean(x**2)) == pytest.approx(1, abs=30 * EPS)
    assert np.sqrt(np.mean(y**2)) == pytest.approx(1, abs=30 * EPS)
    assert done.input_rms != done.target_rms and not done.input_mean.any()
    for text in ("range, scale,center", ["range", "center", "scale", "scale"], data.STEPS):
        assert prepare(loaded, steps=text)[2].steps == data.STEPS  # one order, whatever was typed
    assert prepare(loaded, steps="none")[2].steps == prepare(loaded, steps="")[2].steps == ()


def test_constant_feature_is_dropped_and_not_scaled_up():
    rng = np.random.default_rng(7)
    raw = np.c_[rng.standard_normal((50, 2)), np.full(50, 0.1)]  # the mean of fifty 0.1 is not 0.1
    assert (raw[:, 2] - raw[:, 2].mean()).any()
    x, _, done = prepare(DataSet("d", raw), steps="center,scale")
    assert not x[2].any() and done.rank == 2
    centred, _, _ = prepare(DataSet("d", np.c_[np.arange(1e5), np.full(100_000, 1 / 3)]), steps="center")
    assert not centred[1].any()
    assert prepare(DataSet("d", raw))[2].n == 2


def test_description_is_ready_for_json():
    done = prepare(DataSet("d", np.array([[1.0, 2.0], [2.0, 4.0], [4.0, 8.0]])))[2]
    described = json.loads(json.dumps(done.describe(), allow_nan=False))
    assert described["steps"] == ["center", "scale", "range"]
    assert (described["n_raw"], described["n"], described["dropped"], described["rank"]) == (2, 1, 1, 1)
    assert str(done) == "centred, divided by RMS 1.97, 1 of 2 directions dropped; condition of X X^T 1 -> 1, rank 1"
    done = prepare(DataSet("d", np.eye(2), np.array([0.0, 3.0])), steps="scale")[2]
    assert str(done) == "divided by RMS 0.707 (targets 2.12); condition of X X^T 1 -> 1, rank 2"
    done = prepare(DataSet("d", np.eye(2)), steps="none")[2]
    assert str(done) == "as they are; condition of X X^T 1 -> 1, rank 2"


# --- observations --------------------------------------------------------------------------------------------------


def test_observed_values_are_centred_and_scaled():
    rng = np.random.default_rng(8)
    seen = Observations("o", [3, 0, 2], [1, 1, 0], rng.standard_normal(3) + 9, (5, 4))
    assert seen.rows.tolist() == [0, 2, 3] and seen.cols.tolist() == [1, 0, 1]  # sorted
    new, done = prepare_observed(seen)
    assert abs(new.values.mean()) < 10 * EPS and np.mean(new.values**2) == pytest.approx(1, abs=10 * EPS)
    # the centred values are small against the mean: their roundoff is eps |mean|
    assert np.allclose(new.values * done.rms + done.mean, seen.values, rtol=0, atol=4 * EPS * 10)
    assert not np.allclose(new.values * done.rms, seen.values)  # control: the mean is needed
    assert (done.observed, done.empty_rows, done.empty_cols) == (3, 2, 2)
    described = json.loads(json.dumps(done.describe(), allow_nan=False))
    assert described["observed_share"] == 3 / 20 and described["task"] == "completion"
    assert "3 entries, 2 rows and 2 columns without any" in str(done)
    same, done = prepare_observed(seen, steps="none")
    assert np.array_equal(same.values, seen.values) and str(done).startswith("as they are; ")


# --- files: round trips --------------------------------------------------------------------------------------------

finite = st.floats(-1e300, 1e300)


@given(rows=st.lists(st.lists(finite, min_size=3, max_size=3), min_size=1, max_size=5), header=st.booleans())
def test_csv_round_trip(rows, header):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.csv"
        lines = (["a,b,c"] if header else []) + [",".join(map(repr, row)) for row in rows]
        path.write_text("\n".join(lines) + "\n")
        assert np.array_equal(data.read_inputs(path).inputs, np.array(rows))  # repr gives every digit


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".NPY"])
def test_inputs_and_targets_round_trip(tmp_path, suffix):
    rng = np.random.default_rng(9)
    inputs, targets = rng.standard_normal((6, 3)), rng.standard_normal(6)
    for name, value in (("x", inputs), ("y", targets)):
        with open(tmp_path / f"{name}{suffix}", "wb") as file:
            if suffix == ".csv":
                np.savetxt(file, value, delimiter=",", fmt="%.17g")
            else:
                np.save(file, value)
    loaded = data.read_inputs(tmp_path / f"x{suffix}", tmp_path / f"y{suffix}")
    assert np.array_equal(loaded.inputs, inputs) and np.array_equal(loaded.targets, targets[:, None])
    assert loaded.task == "regression" and loaded.name == f"x{suffix}"
    assert loaded.description == f"6 x 3 -> 1, regression: file x{suffix}"
    alone = data.read_inputs(str(tmp_path / f"x{suffix}"))
    assert alone.targets is None and alone.description == f"6 x 3, autoencoding: file x{suffix}"


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n3,4\n",
        "a,b\n1,2\n3,4",
        "\ufeffa,b\r\n1,2\r\n3,4\r\n",
        "\ufeff1,2\n3,4",
        "# a,b\n\n1, 2\n\n 3,4\n  \n",
        '"a","b"\n"1","2"\n3,4',
    ],
    ids=["plain", "header", "bom and crlf", "bom", "comment and blank lines", "quotes"],
)
def test_dialects_of_csv(tmp_path, text):
    (tmp_path / "x.csv").write_bytes(text.encode())
    assert data.read_inputs(tmp_path / "x.csv").inputs.tolist() == [[1, 2], [3, 4]]


def observed():
    """Nine observed entries of a 7 x 5 matrix; one of them is zero, and the last row and column are empty."""
    rng = np.random.default_rng(10)
    where = rng.permutation(24)[:9]
    values = rng.standard_normal(9)
    values[4] = 0
    return where // 4, where % 4, values, (7, 5)


def write_observed(path, form):
    rows, cols, values, shape = observed()
    matrix = sparse.coo_array((values, (rows, cols)), shape=shape)
    if form in ("csr", "csc", "coo"):
        sparse.save_npz(path, matrix.asformat(form))
    elif form == "arrays":
        np.savez(path, rows=rows, cols=cols.astype(float), values=values, shape=shape)
    elif form == "mtx":
        scipy.io.mmwrite(path, matrix, precision=17)
    else:
        lines = [f"{i},{j},{v!r}" for i, j, v in zip(rows, cols, values.tolist(), strict=True)]
        path.write_text("\n".join((["row,col,value"] if form == "header" else []) + lines))


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "arrays", "mtx", "csv", "header"])
def test_observations_round_trip(tmp_path, form):
    path = tmp_path / ("o.mtx" if form == "mtx" else "o.csv" if form in ("csv", "header") else "o.npz")
    write_observed(path, form)
    seen = data.read_observed(path)
    rows, cols, values, shape = observed()
    order = np.lexsort((cols, rows))
    if path.suffix == ".csv":
        shape = (rows.max() + 1, cols.max() + 1)
    assert seen.shape == shape and seen.values.size == 9  # the stored zero is an observation
    assert np.array_equal(seen.rows, rows[order]) and np.array_equal(seen.cols, cols[order])
    assert np.array_equal(seen.values, values[order])
    assert seen.description == f"{shape[0]} x {shape[1]}, 9 observed, completion: file {path.name}"


def test_contradictory_sparse_matrix_is_refused(tmp_path):
    """scipy would write outside of its arrays for these row pointers."""
    np.savez(tmp_path / "o.npz", format=b"csr", shape=[3, 4], data=[1.0, 2.0], indices=[0, 1], indptr=[0, 5, 1, 2])
    with pytest.raises(ValueError, match=r"^`observed` must be a csr, csc or coo matrix .* non-decreasing"):
        data.read_observed(tmp_path / "o.npz")


@pytest.mark.parametrize("symmetry", ["symmetric", "skew-symmetric"])
@pytest.mark.parametrize("field", ["real", "integer"])
def test_matrix_market_agrees_with_scipy(tmp_path, symmetry, field):
    a = np.tril(np.arange(1, 17).reshape(4, 4), -1 if symmetry == "skew-symmetric" else 0)
    a = a + (1 if symmetry == "symmetric" else -1) * np.tril(a, -1).T
    scipy.io.mmwrite(tmp_path / "a.mtx", sparse.coo_array(a), field=field, symmetry=symmetry, comment="one\ntwo")
    seen = data.read_observed(tmp_path / "a.mtx")
    read = scipy.io.mmread(tmp_path / "a.mtx", spmatrix=False).toarray()
    assert np.array_equal(sparse.coo_array((seen.values, (seen.rows, seen.cols)), shape=seen.shape).toarray(), read)
    assert np.array_equal(read, a)


def test_matrix_market_pattern(tmp_path):
    (tmp_path / "a.mtx").write_text("%%MatrixMarket matrix coordinate pattern general\n% c\n\n3 4 2\n1 2\n3 4\n")
    seen = data.read_observed(tmp_path / "a.mtx")
    assert (seen.rows.tolist(), seen.cols.tolist(), seen.values.tolist()) == ([0, 2], [1, 3], [1, 1])


@pytest.mark.parametrize("names", ["W{}", "W_{}", "factor_{}", "factor{}", None])
def test_factors_round_trip(tmp_path, names):
    rng = np.random.default_rng(11)
    widths = rng.integers(2, 6, 13)
    factors = [rng.standard_normal((b, a)) for a, b in pairwise(widths)]
    if names is None:
        np.savez(tmp_path / "f.npz", *factors)
    else:  # twelve of them, written in reverse: W10 follows W9, not W1
        np.savez(tmp_path / "f.npz", **{names.format(j + 1): factors[j] for j in reversed(range(12))})
    read = data.read_factors(tmp_path / "f.npz")
    assert len(read) == 12 and all(map(np.array_equal, read, factors))
    assert LinearNetwork(read).shape == (widths[-1], widths[0])


@given(seed=st.integers(0, 2**32 - 1), which=st.sampled_from(["x.npy", "x.csv", "s.npz", "m.mtx", "o.csv", "f.npz"]))
def test_damaged_files_never_crash(seed, which):
    """Cut off or changed bytes: an answer, or one line that begins with the argument."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / which
        read = {"x": data.read_inputs, "f": data.read_factors}.get(which[0], data.read_observed)
        if which == "x.npy":
            np.save(path, np.eye(4))
        elif which == "f.npz":
            np.savez(path, W1=np.eye(3), W2=np.eye(3))
        elif which == "x.csv":
            path.write_text("a,b\n1,2\n3.5,-4e2\n")
        else:
            write_observed(path, {"s": "csr", "m": "mtx", "o": "csv"}[which[0]])
        read(path)
        content = bytearray(path.read_bytes())
        if rng.random() < 0.3:
            content = content[: rng.integers(len(content))]
        for _ in range(rng.integers(1, 4) if content else 0):
            content[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(content)
        try:
            read(path)
        except (ValueError, TypeError) as error:
            assert str(error).startswith("`") and "\n" not in str(error)


def test_truncated_matrix_market_file(tmp_path):
    """scipy's own reader ends the interpreter on this file."""
    (tmp_path / "a.mtx").write_text("%%MatrixMarket matrix coordinate real general\n2 2 2\n1 1 2.0\n1 2 7.8E-(")
    with pytest.raises(ValueError, match=r"^`observed` must be a Matrix Market file, .* got 'a.mtx' \(could not"):
        data.read_observed(tmp_path / "a.mtx")


# --- messages ------------------------------------------------------------------------------------------------------


def npy(value, **options):
    buffer = io.BytesIO()
    np.save(buffer, value, **options)
    return buffer.getvalue()


def npz(*arrays, **named):
    buffer = io.BytesIO()
    np.savez(buffer, *arrays, **named)
    return buffer.getvalue()


def sparse_npz(matrix):
    buffer = io.BytesIO()
    sparse.save_npz(buffer, matrix)
    return buffer.getvalue()


SAVE = " Save them with numpy.savez(file, W1=..., W2=...), W1 the one that acts first."
NPY = "`inputs` must be a .npy file of numbers, as numpy.save writes it, got 'f.npy' (..."
NPZ = "` must be a .npz file of numbers, as numpy.savez writes it, got 'f.npz' "
TEXT = "`inputs` must be a table as text in UTF-8, got 'f.csv' (..."
CHOOSE = " Choose columns, or make it the target_column."
MISSING = (
    " Leave these rows out (`missing_rows` drop), or complete the matrix from its other entries (`observed`)."
)
THREE = " Choose three columns, or leave empty what was not observed."
MARKET = "`observed` must be a Matrix Market file, matrix coordinate, real, integer or pattern, got 'f.mtx' "
REMOVE = " Remove or impute them."

# reader, name of the file, content, exact message; one ending in ... is compared up to there (numpy's words follow)
FILES = [
    ("inputs", "f.pkl", b"1",
     "`inputs` must end in .npy, .npz, .mat, .csv, .tsv, .txt, .dat, perhaps .gz, or in a suffix of pandas, got 'f.pkl'."),
    ("inputs", "f.csv", b"", "`inputs` must not be empty, got '{path}' with 0 bytes."),
    ("inputs", "f.csv", b"a,b\n", "`inputs` must hold numbers, got 'f.csv' without a line of numbers."),
    ("inputs", "f.csv", b"a,b\n1,2\n3,x\n", "`inputs` must hold numbers, got 'x' in line 3, column 2 (b)." + CHOOSE),
    ("inputs", "f.csv", b"1,x\n3,4\n", "`inputs` must hold numbers, got 'x' in line 1, column 2." + CHOOSE),
    ("inputs", "f.csv", b"a,b\nc,d\n", "`inputs` must hold numbers, got 'c' in line 2, column 1 (a)." + CHOOSE),
    ("inputs", "f.csv", b"1,2\n3,\n",
     "`inputs` must have no missing values, got some in 1 of 2 rows, the first in line 2, column 2." + MISSING),
    ("inputs", "f.csv", b"1,2\n3,4,5\n",
     "`inputs` must have equally many cells in each line, got 3 in line 2 and 2 in line 1."),
    ("inputs", "f.csv", b"1,2\n3,4\n-inf,1\n",
     "`inputs` must be finite, got 1 NaN or infinite of 6 values, the first at index (2, 0)." + REMOVE),
    ("inputs", "f.csv", b"\xff\xfe1", TEXT),
    ("inputs", "f.npy", b"1,2\n", NPY),
    ("inputs", "f.npy", npy(np.array([1, None]), allow_pickle=True),
     NPY),
    ("inputs", "f.npy", npz(np.eye(2)),
     NPY),
    ("inputs", "f.npy", npy(np.zeros((0, 3))), "`inputs` must not be empty, got shape (0, 3)."),
    ("inputs", "f.npy", npy(np.zeros((2, 2, 2))),
     "`inputs` must be a matrix with 2 dimensions, got shape (2, 2, 2)."),
    ("inputs", "f.npy", npy(np.array(["a"])), "`inputs` must be an array of numbers, got dtype <U1."),
    ("inputs", "f.npy", npy(np.array([1j])), "`inputs` must be real, got dtype complex128."),
    ("observed", "f.npy", npy(np.eye(2)), "`observed` must have 3 cells row,col,value in each line, got 2." + THREE),
    ("observed", "f.csv", b"0,1\n", "`observed` must have 3 cells row,col,value in each line, got 2." + THREE),
    ("observed", "f.csv", b"0,0.5,1\n", "`cols` must be whole numbers, got 0.5 at index 0."),
    ("observed", "f.csv", b"0,1,1\n1e300,0,1\n", "`rows` must be whole numbers, got 1e+300 at index 1."),
    ("observed", "f.csv", b"-1,1,1\n2,0,1\n", "`rows` must lie between 0 and 2, got -1 .. 2."),
    ("observed", "f.csv", b"0,12345678,1\n",
     "`shape` must not exceed 10000000 rows or columns, got (1, 12345679)."
     " Number the rows and columns from zero, without gaps."),
    ("observed", "f.csv", b"0,1,1\n0,1,2\n",
     "`rows`, `cols` must name each position once, got (0, 1) twice. Average repeated observations first."),
    ("observed", "f.csv", b"0,1,0\n",
     "`values` must not be all zero: the best matrix is zero, which has no rank-k part."),
    ("observed", "f.csv", b"0,1,nan\n",
     "`observed` must have no missing values, got one in line 1, column 3. Leave out what was not observed."),
    ("observed", "f.npz", b"PK", "`observed" + NPZ + "(..."),
    ("observed", "f.npz", npy(np.eye(2)),
     "`observed" + NPZ + "(it holds a single array)."),
    ("observed", "f.npz", npz(a=[1], b=[2]),
     "`observed` must hold rows, cols, values, or a matrix of scipy.sparse.save_npz; got a, b in 'f.npz'."),
    ("observed", "f.npz", npz(),
     "`observed` must hold rows, cols, values, or a matrix of scipy.sparse.save_npz; got no arrays in 'f.npz'."),
    ("observed", "f.npz", npz(rows=[0], cols=[0], values=[1.0], shape=[3]),
     "`shape` must be two whole numbers (m, n), got shape (1,)."),
    ("observed", "f.npz", npz(rows=[5], cols=[0], values=[1.0], shape=[3, 3]),
     "`rows` must lie between 0 and 2, got 5 .. 5."),
    ("observed", "f.npz", npz(rows=["a"], cols=[0], values=[1.0]),
     "`rows` must be a vector of whole numbers, got shape (1,) and dtype <U1."),
    ("observed", "f.npz", npz(rows=[0, 1], cols=[0], values=[1.0]),
     "`rows`, `cols` and `values` must have one shape (p,), got (2,), (1,) and (1,)."),
    ("observed", "f.npz", sparse_npz(sparse.dia_array(np.eye(3))),
     "`observed` must be a csr, csc or coo matrix of scipy.sparse.save_npz, got 'f.npz' (format dia, shape (3, 3))."),
    ("observed", "f.mtx", b"%%MatrixMarket matrix array real general\n1 1\n5\n",
     MARKET + "(its first line says matrix array real)."),
    ("observed", "f.mtx", b"%%MatrixMarket matrix coordinate complex general\n1 1 1\n1 1 1 1\n",
     MARKET + "(its first line says matrix coordinate complex)."),
    ("observed", "f.mtx", b"hello", MARKET + "(its first line says)."),
    ("observed", "f.mtx", b"%%MatrixMarket matrix coordinate real general\n2 2 2\n1 1 5\n",
     MARKET + "(2 x 3 numbers are announced, 1 x 3 are there)."),
    ("observed", "f.mtx", b"%%MatrixMarket matrix coordinate real general\n2 2 0\n",
     "`values` must not be empty, got shape (0, 1)."),
    ("observed", "f.mtx", b"%%MatrixMarket matrix coordinate real general\n2 2 1\n0 1 5\n",
     "`rows` must lie between 0 and 1, got -1 .. -1."),
    ("factors", "f.npy", npy(np.eye(2)), "`factors` must end in .npz or .safetensors or .pt or .pth, got 'f.npy'."),
    ("factors", "f.npz", b"PK\x03\x04", "`factors" + NPZ + "(..."),
    ("factors", "f.npz", npz(), "`factors` must be arrays W1, W2, ..., got no arrays in 'f.npz'." + SAVE),
    ("factors", "f.npz", npz(W1=np.eye(2), bias=np.eye(2)),
     "`factors` must be arrays W1, W2, ..., got W1, bias in 'f.npz'." + SAVE),
    ("factors", "f.npz", npz(np.eye(2), W1=np.eye(2)),
     "`factors` must be arrays W1, W2, ..., got W1, arr_0 in 'f.npz'." + SAVE),
    ("factors", "f.npz", npz(W0=np.eye(2), W1=np.eye(2)),
     "`factors` must be arrays W1, W2, ..., got W0, W1 in 'f.npz'." + SAVE),
    ("factors", "f.npz", npz(**{f"layer{j}": np.eye(2) for j in range(8)}),
     "`factors` must be arrays W1, W2, ...,"
     " got layer0, layer1, layer2, layer3, layer4, layer5, ... in 'f.npz'." + SAVE),
    ("factors", "f.npz", npz(W1=np.eye(2), W3=np.eye(2)),
     "`factors` must be numbered without gaps, W2 is missing in 'f.npz'." + SAVE),
    ("factors", "f.npz", npz(W1=np.eye(2)), "`factors` must hold at least 2 matrices, got 1."),
    ("factors", "f.npz", npz(W1=np.ones((3, 4)), W2=np.ones((4, 2))),
     "`factors` do not chain: factors[1] has shape (4, 2) but factors[0] has 3 rows."
     " Are they in reverse order? factors[0] is W_1, the one that acts first."),
    ("factors", "f.npz", npz(W1=np.ones((3, 4)), W2=np.ones((5, 2))),
     "`factors` do not chain: factors[1] has shape (5, 2) but factors[0] has 3 rows."),
    ("factors", "f.npz", npz(W1=np.eye(2), W2=np.full((2, 2), np.nan)),
     "`factors[1]` must be finite, got 4 NaN or infinite of 4 values, the first at index (0, 0)." + REMOVE),
]  # fmt: skip


@pytest.mark.parametrize(
    ("reader", "name", "content", "message"), FILES, ids=[f"{case[0]} {i}" for i, case in enumerate(FILES)]
)
def test_messages_of_the_readers(tmp_path, reader, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises((ValueError, TypeError)) as caught:
        getattr(data, f"read_{reader}")(path)
    got, want = str(caught.value), message.replace("{path}", str(path))
    assert "\n" not in got
    assert got.startswith(want[:-3]) if want.endswith("(...") else got == want


@pytest.mark.parametrize("reader", ["inputs", "observed", "factors"])
def test_missing_file(tmp_path, reader):
    path = str(tmp_path / "none.npz")
    with pytest.raises(ValueError) as caught:
        getattr(data, f"read_{reader}")(path)
    assert str(caught.value) == f"`{reader}` must be an existing file, got {path!r}."


@pytest.mark.parametrize(
    ("targets", "hint"),
    [(np.ones((3, 1)), ""), (np.ones((2, 5)), " Did you mean the transpose? One sample is one row.")],
)
def test_numbers_of_samples_must_agree(tmp_path, targets, hint):
    np.save(tmp_path / "x.npy", np.ones((5, 2)))
    np.save(tmp_path / "y.npy", targets)
    with pytest.raises(ValueError) as caught:
        data.read_inputs(tmp_path / "x.npy", tmp_path / "y.npy")
    count = targets.shape[0]
    assert str(caught.value) == f"`targets` must have as many rows (samples) as `inputs`, got {count} and 5.{hint}"


CONSTANT = " must not be constant, nothing is left after centring. Leave out the step center."
some = np.arange(6.0).reshape(3, 2)
CALLS = [
    (lambda: data.load("mnist"), ValueError,
     "`name` must be one of digits, diabetes, linnerud, breast_cancer, iris, wine, china, flower; got 'mnist'."),
    (lambda: prepare(DataSet("d", some), steps="center,whiten"), ValueError,
     "`steps` must be made of center, scale, range, or be none; got 'whiten'."),
    (lambda: prepare(DataSet("d", some), steps=3), TypeError, "`steps` must be names or a text, got int 3."),
    (lambda: prepare(DataSet("d", some[:1])), ValueError,
     "`inputs` must hold at least 2 samples, got 1. A sample is a row."),
    (lambda: prepare(DataSet("d", np.full((50, 2), 0.1))), ValueError, "`inputs`" + CONSTANT),
    (lambda: prepare(DataSet("d", some, np.full(3, 0.1))), ValueError, "`targets`" + CONSTANT),
    (lambda: prepare(DataSet("d", 0 * some)), ValueError, "`inputs` must not be all zero."),
    (lambda: prepare(DataSet("d", some, 0 * some), steps="none"), ValueError, "`targets` must not be all zero."),
    (lambda: prepare(DataSet("d", 1e200 * some)), ValueError,
     "`inputs` must stay below 1e+150 in size, got 5e+200. Change the unit."),
    (lambda: DataSet("d", np.zeros((0, 3))), ValueError, "`inputs` must not be empty, got shape (0, 3)."),
    (lambda: DataSet("d", some, np.ones(2)), ValueError,
     "`targets` must have as many rows (samples) as `inputs`, got 2 and 3."),
    (lambda: prepare_observed(Observations("o", [0], [0], [2.0], (2, 2)), steps="range"), ValueError,
     "`steps` must be made of center, scale, or be none; got 'range'."),
    (lambda: prepare_observed(Observations("o", [0, 1], [0, 1], [2.0, 2.0], (2, 2))), ValueError,
     "`values`" + CONSTANT),
    (lambda: prepare(DataSet("d", some + np.eye(3, 2)))[2].to_raw(np.ones((2, 3))), ValueError,
     "`w` has shape (2, 3) but the prepared data ask for (2, 2)."),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), CALLS, ids=[str(i) for i in range(len(CALLS))])
def test_messages(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
