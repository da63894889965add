"""What is said of a trained network, against dense numbers of its own, on random networks, and at the command line."""

import json
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from cases import LOSSES, least_squares

import lowrankflow as lrf
from lowrankflow import cli
from lowrankflow.compare import diagnose, follow_run
from lowrankflow.descent import Adam, HeavyBall, MiniBatches, Only, WeightDecay


def numbers(report, name, key=0):
    """The rows of a table by their first column."""
    return {row[key]: row[key + 1 :] for row in report.table(name).rows}


def flat(net):
    return np.concatenate([f.ravel() for f in net.factors])


def hessian_norm(loss, net):
    """The largest eigenvalue of the Hessian of the factors, by differences of the value alone: no code of the library's."""
    shapes, x = [f.shape for f in net.factors], flat(net)

    def value(v):
        cuts = np.cumsum([a * b for a, b in shapes])[:-1]
        w = None
        for part, shape in zip(np.split(v, cuts), shapes, strict=True):
            w = part.reshape(shape) if w is None else part.reshape(shape) @ w
        return loss.value(w)

    def mixed(a, b, h=1e-4):
        ends = [(i * j, value(x + h * (i * a + j * b))) for i in (1, -1) for j in (1, -1)]
        return sum(sign * end for sign, end in ends) / (4 * h * h)

    return np.linalg.eigvalsh([[mixed(a, b) for a in np.eye(x.size)] for b in np.eye(x.size)]).max()


def test_the_numbers_are_those_of_dense_formulas(rng):
    loss = least_squares(3, 4, rng)
    first = lrf.LinearNetwork.gaussian((3, 4), 3, widths=(2, 3), rng=rng)
    net = lrf.gradient_descent(loss, first, step_size=1e-3, steps=50).points[-1]
    report = diagnose(net, loss, initial=first, step_size=1e-3)
    w1, w2, w3 = net.factors
    for j, (a, b) in enumerate(((w1, w2), (w2, w3)), 1):
        d, scale = b.T @ b - a @ a.T, max(np.linalg.norm(a, 2), np.linalg.norm(b, 2)) ** 2
        relative, least, largest, alignment = numbers(report, "joints")[f"W_{j + 1} on W_{j}"]
        assert relative == pytest.approx(np.linalg.norm(d, 2) / scale)
        assert (least, largest) == pytest.approx((np.linalg.eigvalsh(d)[0], np.linalg.eigvalsh(d)[-1]))
        assert alignment == pytest.approx(np.linalg.norm(b @ a, 2) / np.linalg.norm(a, 2) / np.linalg.norm(b, 2))
    training = numbers(report, "training")
    # asked for to a per cent; differences of the value to eps / h^2 = 1e-8 and h^2 of a fourth derivative
    assert training["sharpness"][0] == pytest.approx(hessian_norm(loss, net), rel=0.02)
    assert training["step over it"][0] == pytest.approx(1e-3 * training["sharpness"][0] / 2)
    assert training["moved"][0] == pytest.approx(np.linalg.norm(flat(net) - flat(first)) / np.linalg.norm(flat(first)))
    assert 0 < training["drift of the imbalances"][0] < 0.1  # of the order of the step
    kernel = numbers(report, "kernel")
    eye3, eye4 = np.eye(3), np.eye(4)
    k = np.kron(w3 @ w2 @ w2.T @ w3.T, eye4) + np.kron(w3 @ w3.T, w1.T @ w1) + np.kron(eye3, w1.T @ w2.T @ w2 @ w1)
    assert kernel["trace"][0] == pytest.approx(np.trace(k))
    assert kernel["alike"][0] == pytest.approx(np.trace(k) ** 2 / np.linalg.norm(k) ** 2)
    assert kernel["largest"][0] == pytest.approx(np.linalg.eigvalsh(k)[-1])
    a1, a2, a3 = first.factors
    k0 = np.kron(a3 @ a2 @ a2.T @ a3.T, eye4) + np.kron(a3 @ a3.T, a1.T @ a1) + np.kron(eye3, a1.T @ a2.T @ a2 @ a1)
    assert kernel["moved"][0] == pytest.approx(np.linalg.norm(k - k0) / np.linalg.norm(k0))
    # the theorem's metric against the network's own operator, by their definitions
    g = loss.gradient(net) @ np.eye(4)
    own = w3 @ w2 @ w2.T @ w3.T @ g + w3 @ w3.T @ g @ w1.T @ w1 + g @ w1.T @ w2.T @ w2 @ w1
    w = net.to_low_rank(2)
    metric = lrf.riemannian_gradient(w, g, lrf.DepthMetric(3)).at(w).to_dense()
    gap = np.linalg.norm(own - metric) / np.linalg.norm(own)
    assert f"misses the velocity of W by {gap:.2g} of it" in report.headline
    assert "not balanced" in report.headline and "not claimed" not in report.headline


def test_what_is_known_is_said(rng):
    """A balanced minimiser, a saddle, zero; a step beyond the edge; layers that are not wide enough."""
    loss = lrf.losses.LeastSquares(np.eye(4), np.diag([3.0, 2.0, 1.0, 0.5]))
    best = diagnose(lrf.LinearNetwork.balanced(loss.minimiser(2), 3, widths=(2, 2), rng=rng), loss, step_size=10.0)
    known = ("layers are balanced", "are aligned", "learned 2; a minimiser of its widths has 2", "Global minimiser", "beyond it")
    assert [words for words in known if words not in best.headline] == []
    theorems = numbers(best, "theorems")
    assert [row[2] for row in theorems.values()] == ["yes", "yes", "no", "no"]  # too narrow, and too long a step
    saddle = diagnose(lrf.landscape.saddle(loss, 3, widths=4, rank=1), loss)
    assert "saddle" in saddle.headline and "It would leave that saddle along" in saddle.headline
    tall = [1e-9 * rng.standard_normal((b, a)) for a, b in pairwise((6, 4, 4, 5, 1))]  # next to a saddle that no line leaves
    steep = lrf.losses.LeastSquares(0.015 * rng.standard_normal((6, 7)), 3e5 * rng.standard_normal((1, 7)))
    assert "Curves leave that saddle" in diagnose(lrf.LinearNetwork(tall), steep).headline
    zero = diagnose(lrf.LinearNetwork([np.zeros((4, 4))] * 3), loss)
    assert "W is zero." in zero.headline and "order 3" in zero.headline
    far = diagnose(lrf.LinearNetwork([100 * np.eye(4)] * 2), loss)
    assert "Nearest" not in far.headline  # no critical point is near


@pytest.mark.parametrize("make", LOSSES)
def test_of_every_loss(make, rng):
    net = lrf.LinearNetwork.gaussian((4, 5), 3, widths=3, rng=rng)
    loss = make(4, 5, rng)
    if lrf.losses.facts(loss).fixed_rank:
        return
    report = diagnose(net, loss, step_size=0.1)
    assert report.headline.count("\n") >= 5 and np.isfinite(numbers(report, "training")["sharpness"][0])


@pytest.mark.filterwarnings("error")
def test_random_networks_are_described_without_a_warning():
    """From 1 x 1, of scales 1e-8 to 1e8, with zero factors, lower ranks and equal singular values."""
    for seed in range(35):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(1, 6, rng.integers(3, 6)).tolist()
        factors = [rng.standard_normal((b, a)) * 10.0 ** rng.uniform(-4, 4) for a, b in pairwise(sizes)]
        if seed % 5 == 0:
            factors[0] = np.zeros_like(factors[0])
        if seed % 7 == 0:
            factors = [np.eye(*f.shape) for f in factors]
        scale = 10.0 ** rng.uniform(-8, 8)
        x, y = rng.standard_normal((sizes[0], 7)), scale * rng.standard_normal((sizes[-1], 7))
        loss, net = lrf.losses.LeastSquares(x, y), lrf.LinearNetwork(factors)
        report = diagnose(net, loss, initial=lrf.LinearNetwork([2 * f for f in factors]), step_size=1e-3)
        assert "nan" not in report.headline and report.headline


def test_bad_input_is_one_line(rng):
    loss = least_squares(3, 4, rng)
    net = lrf.LinearNetwork.gaussian((3, 4), 2, widths=2, rng=rng)
    with pytest.raises(ValueError, match="`network` must have two factors at least, got one"):
        diagnose(lrf.LinearNetwork([np.ones((3, 4))]), loss)
    with pytest.raises(ValueError, match="`initial` must have the widths of the network, got 4 -> 3 -> 3 instead of"):
        diagnose(net, loss, initial=lrf.LinearNetwork.gaussian((3, 4), 2, widths=3, rng=rng))
    with pytest.raises(ValueError, match="`step_size` must be positive"):
        diagnose(net, loss, step_size=-1)
    with pytest.raises(ValueError, match="`network`"):
        diagnose(lrf.LinearNetwork.gaussian((3, 3), 2, widths=2, rng=rng), loss)


def test_at_the_command_line(tmp_path, monkeypatch, capsys, rng):
    monkeypatch.chdir(tmp_path)
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 3))
    np.save("x.npy", x), np.save("y.npy", y)
    first = lrf.LinearNetwork.gaussian((3, 4), 2, widths=3, rng=rng)
    loss = lrf.losses.LeastSquares(x, y, samples="rows", reduction="mean")
    net = lrf.gradient_descent(loss, first, step_size=0.05, steps=200).points[-1]
    for name, at in (("end.npz", net), ("start.npz", first)):
        np.savez(name, **{f"W{j}": f for j, f in enumerate(at.factors, 1)})
    line = ["--inputs", "x.npy", "--targets", "y.npy", "--preprocess", "none", "--factors", "end.npz"]
    assert cli.main(["diagnose", *line, "--initial", "start.npz", "--step", "0.05", "--json", "a.json"]) == 0
    said = capsys.readouterr().out
    assert "Since its start the factors have moved by" in said and "below it" in said
    want = diagnose(net, loss, initial=first, step_size=0.05)
    assert json.loads((tmp_path / "a.json").read_text())["headline"] == want.headline
    assert cli.main(["diagnose", "--problem", "a.json", "--quiet"]) == 0  # repeats itself
    capsys.readouterr()
    assert cli.main(["diagnose", "--data", "iris", "--initial", "start.npz"]) == 2
    assert "`--initial` must come with `--factors`" in capsys.readouterr().err
    assert cli.main(["diagnose", "--data", "iris", "--natural-end", "3", "--quiet"]) == 0


# ---------------------------------------------------------------------------------------------------------------------
# a run of training


def trained(seed, count=6, every=20, share=0.1, **options):
    """A loss, a step, and the checkpoints of descent with it."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((4, 30)), rng.standard_normal((3, 30))
    loss = lrf.losses.LeastSquares(x, y, reduction="mean")
    net = lrf.LinearNetwork.gaussian((3, 4), 3, widths=4, scale=0.6, rng=rng)
    h = share * 2 / lrf.sharpness(loss, net)
    batches = {"batches": MiniBatches(x, y, 5, rng=seed)} if options.pop("noisy", False) else {}
    h_own = h * options.pop("longer", 1.0)
    run = lrf.gradient_descent(loss, net, step_size=h_own, steps=every * (count - 1), keep_every=every, **options, **batches)
    return loss, h, list(run.points), np.arange(count) * every


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_a_run_of_descent_is_followed(seed, single):
    loss, h, nets, updates = trained(seed, share=[0.02, 0.05, 0.1][seed % 3])
    if single:
        nets = [lrf.LinearNetwork([f.astype(np.float32).astype(float) for f in net.factors]) for net in nets]
    report = follow_run(nets, loss, h, updates=updates)
    assert [c.verdict for c in report.claims] == ["passed"] * 3
    # the first-order prediction is the gap that is seen: to the order of the step
    plain, _, predicted = report.attachments["followed"].gaps
    assert plain[-1] == pytest.approx(predicted[-1], rel=0.5) and plain[-1] > 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rule": HeavyBall(0.9)}, "batches, another optimizer"),
        ({"rule": Adam()}, "batches, another optimizer"),
        ({"rule": WeightDecay(0.1)}, "batches, another optimizer"),
        ({"rule": WeightDecay(0.003), "count": 3}, "batches, another optimizer"),  # along the way, but off it by more than that
        ({"noisy": True}, "batches, another optimizer"),
        ({"longer": 1.2}, r"it moves where descent does, 1\.[01]\d* times as far: another step"),
    ],
    ids=["momentum", "adam", "decay", "a little decay", "batches", "step"],
)
def test_a_run_of_something_else_is_caught(change, says):
    loss, h, nets, updates = trained(3, **change)
    update, distance, _ = follow_run(nets, loss, h, updates=updates).claims
    assert update.verdict == "failed" and re.search(says, update.detail), update.detail
    assert distance.verdict == "not claimed"


@pytest.mark.filterwarnings("error")
def test_no_run_of_descent_fails():
    """Depths 2 to 4, from 1 x 1, scales 1e-4 to 1e4, steps to half of the edge, one to sixty updates apart."""
    verdicts = Counter()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        sizes, scale = rng.integers(1, 6, rng.integers(3, 6)).tolist(), 10.0 ** rng.uniform(-4, 4)
        depth = len(sizes) - 1
        loss = lrf.losses.LeastSquares(
            rng.standard_normal((sizes[0], 9)), scale * rng.standard_normal((sizes[-1], 9)), reduction="mean"
        )
        size = rng.uniform(0.2, 1) * scale ** (1 / depth)
        net = lrf.LinearNetwork.gaussian((sizes[-1], sizes[0]), depth, widths=sizes[1:-1], scale=size, rng=rng)
        h = 10.0 ** rng.uniform(-3, -0.3) * 2 / lrf.sharpness(loss, net)
        every, count = int(rng.integers(1, 60)), int(rng.integers(2, 12))
        run = lrf.gradient_descent(loss, net, step_size=h, steps=every * count, keep_every=every)
        if run.status.finished:
            report = follow_run(run.points, loss, h, updates=every * np.arange(count + 1))
            verdicts.update((c.name, c.verdict) for c in report.claims)
    assert not [key for key in verdicts if key[1] == "failed"]
    assert min(verdicts[name, "passed"] for name in ("update", "distance", "drift")) > 5


def test_bad_runs_are_one_line(tmp_path, monkeypatch, capsys):
    loss, h, nets, updates = trained(0)
    with pytest.raises(ValueError, match="`networks` must be two checkpoints at least, in a list, got 1 of them"):
        follow_run(nets[:1], loss, h)
    with pytest.raises(ValueError, match=r"`networks` must have the same shapes, got \[\(2, 4\), \(3, 2\)\] after .* number 1"):
        follow_run([nets[0], lrf.LinearNetwork.gaussian((3, 4), 2, widths=2, rng=0)], loss, h)
    with pytest.raises(ValueError, match="`updates` must be whole numbers that increase"):
        follow_run(nets, loss, h, updates=updates[::-1])
    with pytest.raises(ValueError, match="the run has diverged"):
        follow_run([*nets, lrf.LinearNetwork([1e150 * f for f in nets[0].factors])], loss, h)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    line = ["verify", "--data", "iris", "--preprocess", "none", "--run", "run", "--step", "0.1", "--quiet"]
    for file, says in (
        (None, "two checkpoints at least, got 0"), ("start.npz", "the number of updates in their names, got 'start.npz'"),
        ("a_1.npz", "two checkpoints at least, got 1"),
        ("b_01.npz", "one file for a number of updates, got 'a_1.npz' and 'b_01.npz'"),
        ("c_2.npz", "(in 'a_1.npz' of `--run`)"),
    ):  # fmt: skip
        if file is not None:
            (tmp_path / "run" / file).write_text("no archive")
        assert cli.main(line) == 2
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1, error
        for name in ("start.npz", "b_01.npz"):
            (tmp_path / "run" / name).unlink(missing_ok=True)
    assert cli.main(line[:-3]) == 2 and "`--run` must come with the `--step`" in capsys.readouterr().err


def test_a_run_at_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 3))
    np.save("x.npy", x), np.save("y.npy", y)
    loss = lrf.losses.LeastSquares(x, y, samples="rows", reduction="mean")
    net = lrf.LinearNetwork.gaussian((3, 4), 2, widths=3, rng=rng)
    h = 0.1 / lrf.sharpness(loss, net)
    run = lrf.gradient_descent(loss, net, step_size=h, steps=60, keep_every=20)
    (tmp_path / "run").mkdir()
    for k, at in zip((0, 20, 40, 60), run.points, strict=True):
        np.savez(f"run/step_{k}.npz", **{f"W{j}": f for j, f in enumerate(at.factors, 1)})
    line = ["--inputs", "x.npy", "--targets", "y.npy", "--preprocess", "none", "--run", "run", "--step", repr(h)]
    assert cli.main(["verify", *line, "--json", "a.json", "--out", "page"]) == 0
    assert "4 checkpoints, 60 updates" in capsys.readouterr().out
    assert cli.main(["verify", "--problem", "a.json", "--quiet"]) == 0  # repeats itself
    np.savez("run/step_60.npz", **{f"W{j}": f for j, f in enumerate(net.factors, 1)})
    capsys.readouterr()
    assert cli.main(["verify", "--problem", "a.json", "--quiet"]) == 2  # another run
    assert "`--run` must be what the problem names" in capsys.readouterr().err
    assert cli.main(["verify", *line, "--quiet"]) == 1


@pytest.mark.parametrize("kind", ["safetensors", pytest.param("pt", marks=pytest.mark.frameworks)])
def test_weights_of_torch_are_read_and_nothing_is_run(kind, tmp_path, rng):
    """Twelve layers, whose names sort as texts in another order; a damaged file, biases, and a pickle that is no weights."""
    factors = [rng.standard_normal((j % 3 + 2, (j + 2) % 3 + 2)) for j in range(12)]
    file, damaged, biased = (tmp_path / f"{name}.{kind}" for name in ("net", "damaged", "biased"))
    state = {f"{j}.weight": f for j, f in enumerate(factors)}
    if kind == "safetensors":
        numpy = pytest.importorskip("safetensors.numpy")
        save = numpy.save_file
    else:
        torch = pytest.importorskip("torch")

        def save(arrays, path):
            torch.save({name: torch.tensor(a) for name, a in arrays.items()}, path)

        torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
        with pytest.raises(ValueError, match=r"`factors` must be weights of linear layers, .* got 'module\.pt'"):
            lrf.data.read_factors(tmp_path / "module.pt")
    save(state, file)
    for found, want in zip(lrf.data.read_factors(file), factors, strict=True):
        np.testing.assert_array_equal(found, want)
    damaged.write_bytes(b"no weights")
    save({**state, "0.bias": np.ones(2)}, biased)
    for path, says in (
        (damaged, f"`factors` must be weights of linear layers, .* got 'damaged.{kind}'"),
        (biased, r"`factors` must have no biases, got 0\.weight with one\. Use read_network\."),
    ):
        with pytest.raises(ValueError, match=says) as caught:
            lrf.data.read_factors(path)
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1e60, 1e100])
def test_a_network_that_has_diverged_is_refused(size):
    """Finite factors, a gradient that Huber's misfit keeps finite, and a W whose square is none; the control is let through."""
    rng = np.random.default_rng(0)
    loss = lrf.losses.Measured(lrf.losses.Inputs(rng.standard_normal((4, 9)), 3), lrf.losses.Huber(rng.standard_normal((3, 9))))
    net = lrf.LinearNetwork.gaussian((3, 4), 3, widths=3, rng=rng)
    large = lrf.LinearNetwork([size * f for f in net.factors])
    for arguments in ((large, loss), (net, loss, large)):
        name = "network" if len(arguments) == 2 else "initial"
        with pytest.raises(ValueError, match=rf"^`{name}` must be of a size that can be squared, got one that has diverged\."):
            diagnose(*arguments[:2], **dict(zip(["initial"], arguments[2:], strict=False)))
    diagnose(lrf.LinearNetwork([1e8 * f for f in net.factors]), loss)


def test_following_a_thousand_checkpoints_reads_each_once(tmp_path, monkeypatch, capsys):
    from lowrankflow.data import checkpoints

    read, plain = Counter(), checkpoints.read_network
    monkeypatch.setattr(checkpoints, "read_network", lambda file: (read.update([file.name]), plain(file))[1])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    x = np.random.default_rng(0).standard_normal((30, 3))
    np.save("x.npy", x)
    loss = lrf.losses.LeastSquares(x, x, samples="rows", reduction="mean")
    start = lrf.LinearNetwork.gaussian((3, 3), 2, widths=2, rng=0)
    run = lrf.gradient_descent(loss, start, step_size=0.01, steps=999, keep_every=1)
    for k, net in enumerate(run.points):
        np.savez(f"run/step_{k}.npz", W1=net.factors[0], W2=net.factors[1])
    assert cli.main(["verify", "--inputs", "x.npy", "--preprocess", "none", "--run", "run", "--step", "0.01"]) == 0
    assert "1000 checkpoints, 999 updates" in capsys.readouterr().out
    assert len(read) == 1000 and set(read.values()) == {1}


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1e-2, 1.0])
@pytest.mark.parametrize("sizes", [(4, 5, 3), (3, 4, 4, 2), (1, 4, 5, 3, 7)])
def test_tiny_starts_with_biases_do_not_fail(sizes, scale):
    """Where activations are tiny a layer ten times as large shows nothing: the one that shows most is the control, or none."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((sizes[0], 30)), rng.standard_normal((sizes[-1], 30))
    weights = [scale * rng.standard_normal((b, a)) / np.sqrt(a) for a, b in pairwise(sizes)]
    net = lrf.matrices.AffineNetwork(weights, [scale * rng.standard_normal(len(w)) for w in weights])
    loss = lrf.losses.LeastSquares(lrf.losses.with_constant(x), y, reduction="mean")
    h = 0.02 / lrf.sharpness(loss, net.augmented, trained=net.trained)
    run = lrf.gradient_descent(loss, net.augmented, step_size=h, steps=120, keep_every=20, rule=Only(net.trained))
    kept = [lrf.matrices.AffineNetwork.from_augmented(point, like=net) for point in run.points]
    report = follow_run(kept, loss, h, updates=np.arange(0, 121, 20))
    assert "failed" not in [c.verdict for c in report.claims], str(report)
    if scale >= 1e-2:
        assert report["update"].verdict == report["drift"].verdict == "passed"
    if scale and sizes == (3, 4, 4, 2):  # W_1 ten times as large shows a tenth of that
        assert report["drift"].controls[0].change == "W_2 times ten"


def test_the_learning_coefficient_is_of_what_the_loss_sees():
    """Inputs of rank 5: as many directions count as the Hessian at a minimiser has (a regular point: half of them)."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((10, 5)), rng.standard_normal((8, 5))
    loss = lrf.losses.LeastSquares(x, y)
    net = lrf.LinearNetwork.gaussian((8, 10), 2, widths=12, rng=rng)
    letter = diagnose(net, loss).headline
    j = np.hstack([np.kron((net.factors[0] @ x).T, np.eye(8)), np.kron(x.T, net.factors[1])])
    assert np.linalg.matrix_rank(j) == 40 and "its learning coefficient would be 20," in letter
    logits = lrf.losses.Measured(lrf.losses.Inputs(x, 8), lrf.losses.Softmax(rng.integers(0, 8, 5), 8))
    assert "learning coefficient" not in diagnose(net, logits).headline  # blind to a constant added to all rows


def test_a_network_that_never_moved():
    loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    net = lrf.LinearNetwork([np.zeros((3, 3))] * 3)
    letter = diagnose(net, loss, initial=net).headline
    assert "W_1 is zero, so that nothing can be aligned with it." in letter and "have moved by 0 of" in letter
    assert "lazy" not in letter and "inf of" not in letter


def test_options_that_a_run_does_not_take_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    line = ["verify", "--data", "iris", "--preprocess", "none", "--run", "run", "--step", "0.1"]
    for option, value in (("--depth", "3"), ("--rank", "2"), ("--factors", "a.npz"), ("--rtol", "1e-5")):
        assert cli.main([*line, option, value]) == 2
        error = capsys.readouterr().err
        assert f"`{option}` must be left out with `--run`" in error and error.count("\n") == 1
