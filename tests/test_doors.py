"""What people bring: files as programs write them, frames, tensors, labels, networks of torch; and what W answers to numpy."""

import gzip
import inspect
import sys
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import scipy.io
from scipy import sparse

import lowrankflow as lrf
from lowrankflow import data, foreign, losses

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 3)).round(3)
NAMES = ("alpha", "be ta", "gamma")


# -- files ----------------------------------------------------------------------------------------


@pytest.fixture(params=["with pandas", "without pandas"])
def readers(request, monkeypatch):
    """The two ways to read text: they must not differ."""
    if request.param == "without pandas":
        monkeypatch.setitem(sys.modules, "pandas", None)
    else:
        pytest.importorskip("pandas")


def lines(header, rows, *, separator=",", decimal="."):
    return "\n".join([*header, *(separator.join(map(str, row)).replace(".", decimal) for row in rows)]) + "\n"


NUMBERED = [[i, *row] for i, row in enumerate(X.tolist())]
COUNTED = [[i + 1, *row] for i, row in enumerate(X.tolist())]
#: name of the file, text; what it calls its features; what counts the rows
TEXTS = {
    "header": ("x.csv", lines(["alpha,be ta,gamma"], X), NAMES, None),
    "no header": ("x.csv", lines([], X), (), None),
    "index of pandas": ("x.csv", lines([",alpha,be ta,gamma"], NUMBERED), NAMES, "column 1"),
    "Obs": ("x.csv", lines(["Obs,alpha,be ta,gamma"], COUNTED), NAMES, "Obs"),
    "columns without names": ("x.csv", lines(["0,1,2"], X), ("0", "1", "2"), None),
    "index and no names": ("x.csv", lines([",0,1,2"], NUMBERED), ("0", "1", "2"), "column 1"),
    "years": ("x.csv", lines(["site,2019,2020"], X), ("site", "2019", "2020"), None),
    "decimal commas": ("x.csv", lines(["alpha;be ta;gamma"], X, separator=";", decimal=","), NAMES, None),
    "semicolons": ("x.csv", lines(["alpha;be ta;gamma"], X, separator=";"), NAMES, None),
    "tabs": ("x.tsv", lines(["alpha\tbe ta\tgamma"], X, separator="\t"), NAMES, None),
    "tabs, decimal commas": ("x.txt", lines(["alpha\tbe ta\tgamma"], X, separator="\t", decimal=","), NAMES, None),
    "spaces": ("x.txt", lines([], X, separator="   "), (), None),
    "spaces, decimal commas": ("x.dat", lines([], X, separator=" ", decimal=","), (), None),
    "comment of numpy": ("x.txt", lines(["# made by", "# a b c"], X, separator=" "), ("a", "b", "c"), None),
    "row names of R": ("x.txt", lines(['"a" "b" "c"'], [[f'"r{i}"', *x] for i, x in enumerate(X)], separator=" "),
                       ("a", "b", "c"), "column 1"),
    "quoted separators": ("x.csv", lines(['"a, b","c ""d""",e'], X), ("a, b", 'c "d"', "e"), None),
    "compressed": ("x.csv.gz", lines(["alpha,be ta,gamma"], X), NAMES, None),
}  # fmt: skip


@pytest.mark.parametrize("case", TEXTS)
def test_text_is_read_as_programs_write_it(case, tmp_path, readers):
    name, text, features, counting = TEXTS[case]
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    read = data.read_inputs(tmp_path / name)
    assert np.array_equal(read.inputs, X)  # every digit
    assert read.features == features
    assert (f"left out {counting}, which counts the rows" in read.description) == (counting is not None)


@pytest.mark.parametrize(
    "text",
    ["a,b\n0,5\n1,7\n3,9\n", "id,b\n0,5\n1,7\n3,9\n", "x,b\n0,5\n1,7\n2,9\n", "0,5\n1,7\n2,9\n"],
    ids=["no such name", "gaps", "a name of its own", "no header"],
)
def test_a_feature_that_might_count_is_kept(text, tmp_path, readers):
    """The control: only what is called like a count and counts is left out."""
    (tmp_path / "x.csv").write_text(text)
    assert data.read_inputs(tmp_path / "x.csv").inputs.shape == (3, 2)


@pytest.mark.parametrize("seed", range(60))
def test_random_tables_come_back_to_the_bit(seed, tmp_path, readers):
    """Any shape, scale, separator and header: the numbers that were written."""
    rng = np.random.default_rng(seed)
    p, q = rng.integers(2, 9), rng.integers(1, 9)
    values = rng.standard_normal((p, q)) * 10.0 ** rng.integers(-8, 9, (p, q))
    separator, decimal = [(",", "."), (";", ","), ("\t", "."), ("\t", ","), (" ", "."), ("|", ".")][seed % 6]
    if q == 1 and decimal == ",":
        decimal = "."  # one column of decimal commas is two columns of a csv file
    header = [separator.join(f"c{k}" for k in range(q))] if rng.random() < 0.5 else []
    cells = [[repr(x).replace(".", decimal) for x in row] for row in values.tolist()]
    text = "\n".join([*header, *map(separator.join, cells)])
    (tmp_path / "x.txt").write_text(text, newline=rng.choice(["\n", "\r\n"]))
    read = data.read_inputs(tmp_path / "x.txt")
    assert np.array_equal(read.inputs, values)
    assert read.features == (tuple(f"c{k}" for k in range(q)) if header else ())


def test_columns_and_targets_of_one_table(tmp_path, readers):
    species = ["b", "a", "c", "a", "b", "c"]
    rows = [[i + 1, *row, s] for i, (row, s) in enumerate(zip(X.tolist(), species, strict=True))]
    (tmp_path / "x.csv").write_text(lines(["id,alpha,be ta,gamma,species"], rows))
    read = data.read_inputs(tmp_path / "x.csv", target_column="species")
    assert np.array_equal(read.inputs, X) and read.features == NAMES
    assert np.array_equal(read.targets, np.array(species)[:, None] == np.array(["a", "b", "c"]))
    chosen = data.read_inputs(tmp_path / "x.csv", columns="gamma,2", target_column=["be ta"])
    assert np.array_equal(chosen.inputs, X[:, [2, 0]]) and np.array_equal(chosen.targets[:, 0], X[:, 1])
    assert np.array_equal(data.read_inputs(tmp_path / "x.csv", columns="2-4").inputs, X)
    problem = lrf.Problem(inputs=str(tmp_path / "x.csv"), input_columns="gamma,2", target_column="species", rank=1)
    assert lrf.Problem.from_dict(problem.to_dict()) == problem
    assert problem.command_line("verify").endswith("--columns gamma,2 --target-column species --rank 1")
    assert problem.build().loss.shape == (3, 2)


def test_two_classes_are_one_column(tmp_path):
    (tmp_path / "x.csv").write_text("a,kind\n1,yes\n2,no\n3,yes\n")
    read = data.read_inputs(tmp_path / "x.csv", target_column="kind")
    assert read.targets.ravel().tolist() == [1, 0, 1] and "no is 0, yes is 1" in read.description


def test_missing_values_are_refused_dropped_or_completed(tmp_path, readers):
    (tmp_path / "x.csv").write_text("a,b,c\n1,2,3\n4,NA,6\n7,8,\n0,1,5\n")
    with pytest.raises(ValueError, match=r"in 2 of 4 rows, the first in line 3, column 2 \(b\)\. Leave these rows out"):
        data.read_inputs(tmp_path / "x.csv")
    kept = data.read_inputs(tmp_path / "x.csv", missing_rows="drop")
    assert kept.inputs.tolist() == [[1, 2, 3], [0, 1, 5]] and "2 of 4 rows left out" in kept.description
    seen = data.read_observed(tmp_path / "x.csv")
    assert seen.shape == (4, 3) and seen.values.tolist() == [1, 2, 3, 4, 6, 7, 8, 0, 1, 5]
    np.save(tmp_path / "y.npy", [1.0, np.nan, 3.0, 4.0])
    both = data.read_inputs(tmp_path / "x.csv", tmp_path / "y.npy", missing_rows="drop", columns=["a"])
    assert both.inputs.ravel().tolist() == [1, 7, 0] and both.targets.ravel().tolist() == [1, 3, 4]


def test_positions_from_one_are_noticed(tmp_path, readers):
    rows, cols = np.divmod(np.arange(12), 3)
    for first in (0, 1):
        (tmp_path / "o.tsv").write_text(lines(["user\titem\trating\ttime"], np.c_[rows + first, cols + first, rows + 1, rows],
                                              separator="\t"))  # fmt: skip
        seen = data.read_observed(tmp_path / "o.tsv", columns="user,item,rating")
        assert seen.shape == (4, 3) and np.array_equal(seen.values, rows + 1.0)
        assert ("positions count from one" in seen.description) == bool(first)
    np.savez(tmp_path / "o.npz", rows=[1, 2], cols=[1, 2], values=[1.0, 2.0], shape=[2, 2])
    with pytest.raises(ValueError, match=r"must have positions that count from zero, .* Subtract one\.$"):
        data.read_observed(tmp_path / "o.npz")


def test_archives_of_arrays(tmp_path):
    scipy.io.savemat(tmp_path / "m.mat", {"X": X, "y": X[:, 0], "note": "text"})
    np.savez(tmp_path / "n.npz", inputs=X, targets=X[:, 0])
    for name in ("m.mat", "n.npz"):
        read = data.read_inputs(tmp_path / name, tmp_path / name)
        assert np.array_equal(read.inputs, X) and np.array_equal(read.targets, X[:, :1])
    np.savez(tmp_path / "two.npz", a=X, b=X)
    with pytest.raises(ValueError, match=r"must be one array, or called x or inputs or data or features, got a, b"):
        data.read_inputs(tmp_path / "two.npz")


def test_pandas_reads_what_it_can(tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame(X, columns=NAMES).to_json(tmp_path / "x.json")
    read = data.read_inputs(tmp_path / "x.json")
    assert np.array_equal(read.inputs, X) and read.features == NAMES
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r'not installed\. Run: pip install "lowrankflow\[data\]"$'):
        data.read_inputs(tmp_path / "x.json")


WRONG = {
    "an unknown column": (
        dict(columns="delta"),
        "`columns` must be names or numbers of the 3 columns of alpha, be ta, gamma",
    ),
    "a number too large": (dict(columns=4), "`columns` must be names or numbers of the 3 columns"),
    "a column twice": (dict(columns="1,alpha"), "`columns` must choose a column once"),
    "the target among them": (
        dict(columns="1-3", target_column="gamma"),
        "`columns` must not have the target among them",
    ),
    "nothing left": (dict(target_column="1-3"), "`inputs` must have a column beside the target"),
    "a strange delimiter": (dict(delimiter="::"), "`delimiter` must be one character or comma, semicolon"),
    "a strange way": (dict(missing_rows="mean"), "`missing_rows` must be one of drop"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_choice(case, tmp_path):
    options, message = WRONG[case]
    (tmp_path / "x.csv").write_text(TEXTS["header"][1])
    with pytest.raises(ValueError) as caught:
        data.read_inputs(tmp_path / "x.csv", **options)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_a_slip_in_the_first_line_is_no_header(tmp_path, readers):
    (tmp_path / "x.csv").write_text("1.5,2,o.7\n3,4,5\n")
    with pytest.raises(ValueError, match=r"got 'o\.7' in line 1, column 3\."):
        data.read_inputs(tmp_path / "x.csv")


# -- frames, sparse arrays, labels ------------------------------------------------------------------


def test_frames_are_arrays():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=NAMES).assign(whole=range(6), flag=True)
    wide = frame.to_numpy(dtype=float)
    loss = losses.LeastSquares(frame, frame["alpha"], samples="rows")
    w = RNG.standard_normal((1, 5))
    assert loss.value(w) == losses.LeastSquares(wide, X[:, :1], samples="rows").value(w)
    assert losses.LeastSquares(frame.convert_dtypes(), frame["alpha"], samples="rows").value(w) == loss.value(w)
    with pytest.raises(TypeError, match=r"^`inputs` must be an array of numbers, got .* in column 'kind'\."):
        losses.LeastSquares(frame.assign(kind="a"), frame["alpha"], samples="rows")


def test_vectors_sparse_arrays_and_one_number():
    y = X[:, 0]
    full = losses.LeastSquares(X.T, y[None])
    for inputs, targets, samples in (
        (X.T, y, "columns"),
        (sparse.csr_matrix(X), y, "rows"),
        (sparse.coo_array(X.T), y, "columns"),
    ):
        assert losses.LeastSquares(inputs, targets, samples=samples).value(X[:1]) == full.value(X[:1])
    measured = losses.Measured(losses.Inputs(X.T, 1), losses.Squared(y))
    # the same sum of six squares in another order
    assert measured.value(X[:1]) == pytest.approx(full.value(X[:1]), rel=1e-14)
    assert lrf.random_point(4, 3, 2, rng=0, singular_values=0.1).s.tolist() == [0.1, 0.1]
    with pytest.raises(ValueError, match=r"^`inputs` must be an array that fits as a dense one, got a sparse one"):
        losses.LeastSquares(sparse.csr_array((10**6, 10**6)), np.ones((1, 10**6)))


def every_loss():
    rows, cols, y = [0, 2, 3], [1, 0, 2], [1.0, 2.0, 3.0]
    x, targets = RNG.standard_normal((3, 7)), RNG.standard_normal((4, 7))
    fit = losses.LeastSquares(x, targets)
    return {
        "least squares": fit,
        "completion": losses.Completion(rows, cols, y, (4, 3)),
        "inputs": losses.Measured(losses.Inputs(x, 4), losses.Huber(targets)),
        "entries": losses.Measured(losses.Entries(rows, cols, shape=(4, 3)), losses.Squared(y)),
        "bilinear": losses.Measured(losses.Bilinear(targets.T, x.T), losses.Squared(np.ones(7))),
        "sensing": losses.Measured(losses.Sensing(RNG.standard_normal((5, 4, 3))), losses.Squared(np.ones(5))),
        "function": losses.from_function(lambda w: (w * w).sum(), (4, 3)),
        "sum": losses.Sum(fit, losses.Scaled(fit, 0.5)),
        "logarithm": losses.Logarithm(fit),
        "spectral": losses.Schatten((4, 3), depth=3),
        "transport": losses.BuresWasserstein(np.eye(4), 3),
    }


LOSSES = every_loss()
FORMS = {
    "csr": sparse.csr_array, "csr matrix": sparse.csr_matrix, "coo": sparse.coo_array, "np.matrix": np.asmatrix,
    "float32": lambda w: w.astype(np.float32),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("form", FORMS)
def test_w_in_any_form(name, form):
    loss, w = LOSSES[name], lrf.random_point(4, 3, 2, rng=3).to_dense().astype(np.float32).astype(float)
    eye = np.eye(3)
    brought = FORMS[form](w)
    # roundoff of another order of sums; in single precision that of the arithmetic, on numbers up to 100
    tolerance = 1e-4 if form == "float32" else 1e-12
    assert float(loss.value(brought)) == pytest.approx(float(loss.value(w)), rel=tolerance)
    g = np.asarray(loss.gradient(w) @ eye)
    assert np.linalg.norm(np.asarray(loss.gradient(brought) @ eye) - g) <= tolerance * np.linalg.norm(g)


def test_labels_of_any_kind():
    words, flags = ["cat", "dog", "dog"], np.array([False, True, True])
    for kind in (losses.Logistic, losses.SquaredHinge):
        for labels in (words, flags, [0, 1, 1], [-1, 1, 1], np.array(words, dtype=object)):
            assert kind(labels).targets.tolist() == [-1, 1, 1]
        assert kind(words).names == ("cat", "dog")
    codes, hot = [0, 2, 1, 2], np.eye(3)[[0, 2, 1, 2]]
    for labels in (["a", "c", "b", "c"], hot, hot.T, codes):
        found = losses.Softmax(labels)
        assert found.labels.tolist() == codes and found.classes == 3
    assert losses.Softmax(np.eye(4)[:, :2]).classes == 4  # classes that no sample has
    pandas = pytest.importorskip("pandas")
    assert losses.Logistic(pandas.Series(words, dtype="category")).targets.tolist() == [-1, 1, 1]
    assert losses.Softmax(pandas.Series(["a", "c", "b", "c"])).labels.tolist() == codes


def test_frames_of_single_precision():
    u, s, vt = np.linalg.svd(RNG.standard_normal((9, 5)).astype(np.float32), full_matrices=False)
    w = lrf.LowRankMatrix(u, s, vt)
    assert np.linalg.norm(w.u.T @ w.u - np.eye(5)) < 1e-14 * 5
    # W moves by the roundoff of single precision, k columns
    assert np.linalg.norm(w.to_dense() - (u.astype(float) * s) @ vt) < 100 * 2.0**-23 * np.sqrt(5) * s[0]
    for spoilt in (
        u.astype(float),
        u * np.float32(1.001),
    ):  # controls: what claims double precision, and what no precision has
        with pytest.raises(ValueError, match=r"^`u` must be orthonormal, got a defect"):
            lrf.LowRankMatrix(spoilt, s, vt)


# -- what W answers to numpy --------------------------------------------------------------------------


START = lrf.random_point(5, 4, 2, rng=1)
POINTS = {
    "LowRankMatrix": START, "Product": lrf.Product(START.u, START.vt), "LinearNetwork": lrf.LinearNetwork.balanced(START, 3),
}  # fmt: skip


@pytest.mark.parametrize("name", POINTS)
def test_w_is_added_and_scaled(name):
    w, a = POINTS[name], POINTS[name].to_dense()
    for got, want in ((w + w, 2 * a), (2 * w, 2 * a), (w * 2, 2 * a), (w - START, a - START.to_dense()), (-w, -a), (w / 2, a / 2),
                      (np.float64(3) * w, 3 * a), (sum([w, w, START]), 2 * a + START.to_dense())):  # fmt: skip
        assert isinstance(got, lrf.Product)
        assert np.linalg.norm(got.to_dense() - want) < 1e-14 * np.linalg.norm(a) * 3
    for order in (None, "fro", 2, "nuc"):
        assert np.linalg.norm(w, order) == pytest.approx(np.linalg.norm(a, order), rel=1e-13)
    assert np.shape(w) == (5, 4) and np.ndim(w) == 2
    for call in (np.asarray, np.array, np.sum, np.linalg.svd, lambda w: np.linalg.norm(w, 1)):
        with pytest.raises(TypeError):
            call(w)
    with pytest.raises(TypeError, match=r"Use to_dense\(\), which is m x n\.$"):
        np.asarray(w)
    with pytest.raises(TypeError, match=r"^`other` must be a LowRankMatrix, Product or LinearNetwork, got an array"):
        a + w


# -- flows ---------------------------------------------------------------------------------------------


FIT = losses.LeastSquares(np.eye(4), RNG.standard_normal((5, 4)))


def test_w_at_several_times():
    path = lrf.integrate(lrf.RiemannianFlow(FIT, lrf.DepthMetric(3)), START, t_span=(0, 1), save=lrf.Save(dense=True))
    for times in ([0.1, 0.7], np.array([0.1, 0.7])):
        found = path(times)
        assert [np.array_equal(w.to_dense(), path(t).to_dense()) for w, t in zip(found, times, strict=True)] == [
            True,
            True,
        ]
    assert np.array_equal(path(np.array(0.1)).s, path(0.1).s)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lrf.RiemannianFlow(FIT, 3), "`metric` must have coefficients(s), got int 3. Pass an instance: DepthMetric(3)."),
        (lambda: lrf.RiemannianFlow(None, lrf.DepthMetric(3)),
         "`loss` must have shape, value(w) and gradient(w); None lacks shape."),
        (lambda: lrf.FactorFlow(losses.LeastSquares), "`loss` must be an object, got the class LeastSquares."
         " Pass an instance: LeastSquares(...)."),
    ],
    ids=["a depth", "no loss", "a class"],
)  # fmt: skip
def test_a_flow_is_refused_when_it_is_made(make, message):
    with pytest.raises(TypeError) as caught:
        make()
    assert str(caught.value) == message


class NotANumber:
    """A loss with a gradient of NaN, in any of the forms of a gradient."""

    shape = (5, 4)

    def __init__(self, form):
        self.form = form

    def value(self, w):
        return 1.0

    def gradient(self, w):
        return self.form(np.full((5, 4), np.nan))


@pytest.mark.parametrize(
    "form", [np.asarray, sparse.csr_array, lambda a: lrf.Product(a, np.eye(4))], ids=["array", "csr", "product"]
)
def test_no_gradient_of_nan_is_returned(form):
    loss, net = NotANumber(form), POINTS["LinearNetwork"]
    g = loss.gradient(START)
    for call in (
        lambda: lrf.factor_gradients(loss, net), lambda: lrf.project(START, g), lambda: lrf.gradients.pullback(net, g),
        lambda: lrf.riemannian_gradient(START, g, lrf.DepthMetric(2)), lambda: lrf.horizontal_lift(net, g),
        lambda: lrf.end_to_end_operator(net)(g), lambda: lrf.gradient_descent(loss, net, step_size=0.1, steps=2),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"^`.*` must be finite"):
            call()
    assert lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 1)).status.name == "NOT_FINITE"


def test_a_caller_who_raises_on_underflow():
    """What underflows in here is zero, whatever the caller's errstate says of it."""
    x, tiny = RNG.standard_normal((4, 20)), lrf.random_point(5, 4, 2, rng=0, singular_values=[1e-200, 1e-250])
    metric, net = lrf.DepthMetric(3), POINTS["LinearNetwork"]
    kinds = [
        losses.Logistic(np.sign(RNG.standard_normal((5, 20)))),
        losses.Poisson(np.ones((5, 20))),
        losses.LogCosh(np.ones((5, 20))),
    ]
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        np.float64(1e-200) * np.float64(1e-200)  # the control
    with np.errstate(all="raise"):
        for loss in (FIT, *(losses.Measured(losses.Inputs(1e2 * x, 5), kind) for kind in kinds)):
            lrf.integrate(lrf.RiemannianFlow(loss, metric), START, t_span=(0, 1e-3), max_evaluations=200)
            lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 1e-3), max_evaluations=200)
            lrf.gradient_descent(loss, net, step_size=1e-6, steps=3)
            loss.value(START), lrf.factor_gradients(loss, net), lrf.sharpness(loss, net)
            lrf.check_loss(loss, START)
        for depth in (2, 3, 5, 2.5):
            lrf.DepthMetric(depth).coefficients(tiny.s)
        lrf.compare_metrics(FIT, START, [metric, lrf.EmbeddedMetric()], max_evaluations=300)


# -- torch and JAX --------------------------------------------------------------------------------------


def chain(torch, sizes, **options):
    return torch.nn.Sequential(*(torch.nn.Linear(a, b, bias=False, **options) for a, b in pairwise(sizes)))


def test_a_network_of_torch_and_back(torch):
    module = torch.nn.Sequential(chain(torch, (4, 6, 3)), torch.nn.Identity(), chain(torch, (3, 5)))
    net = lrf.LinearNetwork.from_torch(module)
    assert net.shape == (5, 4) and net.widths == (6, 3)
    x = torch.randn(7, 4)
    # roundoff of single precision, three products with sums of at most six terms of size one
    assert np.abs(net @ x.numpy().T - module(x).detach().numpy().T).max() < 3 * 6 * 2.0**-23
    for other in (module.state_dict(), module.parameters(), list(module.parameters())):
        assert all(map(np.array_equal, lrf.LinearNetwork.from_torch(other).factors, net.factors))
    assert all(map(np.array_equal, lrf.LinearNetwork(module.parameters()).factors, net.factors))
    assert all(map(np.array_equal, lrf.LinearNetwork.from_torch(net.to_torch()).factors, net.factors))
    assert net.to_torch(dtype=torch.float32)[0].weight.dtype == torch.float32
    kept = net.factors[0].copy()
    with torch.no_grad():
        module[0][0].weight.zero_()
    assert np.array_equal(net.factors[0], kept)  # a copy


def test_gradients_of_autograd_are_those_of_the_loss(torch):
    module = chain(torch, (4, 6, 5), dtype=torch.float64)
    x, y = torch.randn(4, 9, dtype=torch.float64), torch.randn(5, 9, dtype=torch.float64)
    (0.5 * ((module(x.T).T - y) ** 2).sum()).backward()
    net, loss = lrf.LinearNetwork.from_torch(module), losses.LeastSquares(x, y)
    own = lrf.riemannian_gradient_from_factors(net, lrf.factor_gradients(loss, net))
    theirs = lrf.riemannian_gradient_from_factors(net, (p.grad for p in module.parameters()))
    assert (own - theirs).norm() < 1e-13 * own.norm()  # roundoff of sums of nine terms, twice
    for kind in (
        torch.float32,
        torch.bfloat16,
    ):  # and a loss that answers with tensors, in precisions that numpy has not

        class Tensors:
            shape = (5, 4)

            def value(self, w):
                return torch.tensor(loss.value(w), requires_grad=True)

            def gradient(self, w):
                return torch.tensor(loss.gradient(w) @ np.eye(4), dtype=kind, requires_grad=True)  # noqa: B023

        path = lrf.integrate(lrf.FactorFlow(Tensors()), net, t_span=(0, 0.1), rtol=1e-3, max_evaluations=50)
        assert path.loss[-1] < path.loss[0]
        lrf.check_loss(Tensors(), START), lrf.gradient_descent(Tensors(), net, step_size=1e-3, steps=2)
    assert loss.value(torch.tensor(START.to_dense(), requires_grad=True)) == loss.value(START.to_dense())


def test_modules_that_are_no_chain_are_refused_by_name(torch):
    nn = torch.nn
    shared = nn.Linear(4, 4, bias=False)

    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.b, self.a = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)

        def forward(self, x):
            return self.b(self.a(x))

    class Hidden(Backwards):
        def forward(self, x):
            return self.a(torch.relu(self.b(x)))

    class Plain(Backwards):
        def forward(self, x):
            return self.a(self.b(x))

    for module, words in (
        (nn.Sequential(shared, nn.ReLU(), nn.Linear(4, 2, bias=False)), "got ReLU '1'"),
        (nn.Sequential(nn.Linear(4, 3)), "got Linear '0' with one. Use matrices.AffineNetwork.from_torch."),
        (nn.Linear(4, 3).state_dict(), "got weight with one"),
        (nn.Sequential(nn.Conv1d(1, 1, 1)), "got Conv1d '0'"),
        (nn.Sequential(shared, shared), "a weight of its own"),
        (Backwards(), "in the order in which it defines them"),
        (Hidden(), "in the order in which it defines them"),
        (nn.Sequential(), "got none"),
        (nn.ReLU(), "got ReLU"),
    ):
        with pytest.raises((ValueError, TypeError)) as caught:
            lrf.LinearNetwork.from_torch(module)
        assert (
            str(caught.value).startswith("`module` must")
            and words in str(caught.value)
            and "\n" not in str(caught.value)
        )
    assert lrf.LinearNetwork.from_torch(Plain()).depth == 2  # the control
    with pytest.raises(ValueError, match=r"^`factors` do not chain: factors\[1\] has shape \(3, 4\)"):
        lrf.LinearNetwork.from_torch(nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(4, 3, bias=False)))
    large = chain(torch, (2,) * 7)
    with torch.no_grad():
        for layer in large:
            layer.weight.fill_(1e8)  # in single precision its forward overflows; it is a chain all the same
    assert lrf.LinearNetwork.from_torch(large).depth == 6
    with pytest.raises(
        TypeError, match=r"^`module` must be a torch\.nn\.Module, a state dict or a list of weights, got int\.$"
    ):
        lrf.LinearNetwork.from_torch(3)


def test_arrays_of_jax(jax):
    jnp = jax.numpy
    w = [jnp.ones((3, 4)), jnp.ones((5, 3), dtype=jnp.bfloat16)]
    assert lrf.LinearNetwork(w).to_dense().tolist() == np.full((5, 4), 3.0).tolist()
    assert np.array_equal(foreign.as_array("g", w[1]), np.ones((5, 3)))
    g = lrf.project(START, jnp.ones((5, 4), dtype=jnp.float32))
    assert all(map(np.array_equal, g, lrf.project(START, np.ones((5, 4), dtype=np.float32))))
    with pytest.raises(TypeError, match=r"^`a` must be an array of numbers, got a JAX tracer\."):
        jax.jit(lambda a: lrf.LowRankMatrix.from_dense(a).s)(jnp.ones((2, 2)))


def test_nothing_is_imported_before_it_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"^`to_torch` needs torch\. Run: pip install torch$"):
        POINTS["LinearNetwork"].to_torch()


# -- types ---------------------------------------------------------------------------------------------


LOSS_TAKERS = [
    lrf.check_loss, lrf.verify_equivalence, lrf.compare_metrics, lrf.gradient_descent, lrf.factor_gradients, lrf.sharpness,
    lrf.RiemannianFlow.__init__, lrf.FactorFlow.__init__, lrf.natural_time_unit, lrf.landscape.classify,
]  # fmt: skip


@pytest.mark.parametrize("function", LOSS_TAKERS, ids=lambda f: f.__qualname__)
def test_a_loss_is_typed_as_the_protocol(function):
    """So that a type checker refuses what is none, as the function itself does."""
    annotation = inspect.signature(function).parameters["loss"].annotation
    assert annotation in ("Loss", losses.Loss)


def test_the_methods_of_the_type_are_those_of_the_function():
    from lowrankflow.flow.methods import Name

    for name in get_args(Name):
        step = {"step_size": 0.01} if name in ("Euler", "RK4") else {}
        lrf.integrate(lrf.FactorFlow(FIT), POINTS["LinearNetwork"], t_span=(0, 0.05), rtol=1e-4, method=name, **step)
    with pytest.raises(ValueError, match=r"^`method` must be"):
        lrf.integrate(lrf.FactorFlow(FIT), POINTS["LinearNetwork"], t_span=(0, 0.05), method="DOP583")
