"""Networks kept while PyTorch trains them, and followed."""

import shutil
from itertools import pairwise

import numpy as np
import pytest

import lowrankflow as lrf
from lowrankflow import cli, losses
from lowrankflow.data import Recorder, read_run

SIZES, COUNT = (5, 4, 3), 60


def network(torch):
    return torch.nn.Sequential(*(torch.nn.Linear(a, b, bias=False) for a, b in pairwise(SIZES)))


def train(torch, model, loss_of, x, y, lr, steps=120, every=20, folder=None, **options):
    """The loop as people write it, with one line more."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, **options)
    recorder = Recorder(model, every=every, folder=folder)
    optimizer.register_step_post_hook(recorder)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model(x), y).backward()
        optimizer.step()
    return recorder


def problems(torch, x):
    """Losses of torch, ours, and how many of ours one of torch's is."""
    nn, rng = torch.nn, np.random.default_rng(0)
    y = rng.standard_normal((COUNT, 3))
    labels, bits = rng.integers(0, 3, COUNT), rng.integers(0, 2, (COUNT, 3))
    inputs, rows = losses.Inputs(x.T, 3), torch.tensor
    single = torch.float32
    return {
        "MSELoss": (nn.MSELoss(), rows(y, dtype=single), losses.LeastSquares(x, y, samples="rows", reduction="mean"), 2 / 3),
        "MSELoss, sum": (nn.MSELoss(reduction="sum"), rows(y, dtype=single), losses.LeastSquares(x, y, samples="rows"), 2),
        "CrossEntropyLoss": (
            nn.CrossEntropyLoss(), rows(labels), losses.Measured(inputs, losses.Softmax(labels), reduction="mean"), 1,
        ),
        "BCEWithLogitsLoss": (
            nn.BCEWithLogitsLoss(), rows(bits, dtype=single),
            losses.Measured(inputs, losses.Logistic(bits.T), reduction="mean"), 1 / 3,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["MSELoss", "MSELoss, sum", "CrossEntropyLoss", "BCEWithLogitsLoss"])
def test_descent_of_torch_is_descent_on_our_loss(torch, name):
    """The table of docs/networks.md; the control: momentum, and a loss that is counted twice."""
    x = np.random.default_rng(1).standard_normal((COUNT, 5)).astype(np.float32)
    loss_of, y, loss, share = problems(torch, x.astype(float))[name]
    model = network(torch)
    found = loss_of(model(torch.tensor(x)), y).item()
    assert found == pytest.approx(share * loss.value(lrf.LinearNetwork.from_torch(model)), rel=1e-5)  # float32
    lr = 0.1 / (share * lrf.sharpness(loss, lrf.LinearNetwork.from_torch(model)))
    run = train(torch, model, loss_of, torch.tensor(x), y, lr)
    assert run.updates == list(range(0, 121, 20)) and len(run.networks) == 7
    report = lrf.follow_run(run.networks, loss, lr * share, updates=run.updates)
    assert [c.verdict for c in report.claims] == ["passed"] * 3, str(report)
    assert lrf.follow_run(run.networks, loss, 2 * lr * share, updates=run.updates).claims[0].verdict == "failed"
    moved = train(torch, network(torch), loss_of, torch.tensor(x), y, lr, momentum=0.9)
    assert lrf.follow_run(moved.networks, loss, lr * share, updates=moved.updates).claims[0].verdict == "failed"


def test_a_folder_is_what_memory_holds_and_the_shell_follows_it(torch, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x, y = (np.random.default_rng(2).standard_normal((COUNT, d)) for d in (5, 3))
    np.save("x.npy", x), np.save("y.npy", y)
    a, b = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    model = network(torch)
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    kept = train(torch, model, torch.nn.MSELoss(), a, b, 0.05)
    model.load_state_dict(first)
    written = train(torch, model, torch.nn.MSELoss(), a, b, 0.05, folder="run")
    assert written.networks == [] and written.updates == kept.updates
    updates, networks = read_run("run")
    assert updates.tolist() == kept.updates
    for found, net in zip(networks, kept.networks, strict=True):
        assert all(map(np.array_equal, found.factors, net.factors))
    line = ["--inputs", "x.npy", "--targets", "y.npy", "--preprocess", "none", "--run", "run", "--step", repr(0.05 * 2 / 3)]
    assert cli.main(["verify", *line]) == 0
    assert "7 checkpoints, 120 updates" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"^`folder` must be empty, got 'run' with files\. Choose another, or empty it\.$"):
        Recorder(model, folder="run")
    blown = network(torch)
    with torch.no_grad():
        blown[0].weight[0, 0] = 1.0
    recorder = Recorder(blown)
    recorder()
    with torch.no_grad():
        blown[0].weight[0, 0] = float("inf")
    with pytest.warns(RuntimeWarning, match=r"^Nothing of `module` is kept from update 2 on: .*finite"):
        recorder()
    recorder()  # once is enough
    assert recorder.updates == [0, 1] and recorder.ended == 2
    with pytest.raises(TypeError, match="`every` must be a whole number"):
        Recorder(model, every=1.5)
    assert not (tmp_path / "other").exists()
    with pytest.raises(ValueError, match="`module` must be a chain of Linear layers, got ReLU"):
        Recorder(torch.nn.ReLU(), folder="other")
    assert not (tmp_path / "other").exists()


def test_biases_are_kept_in_memory_and_in_a_folder(torch, tmp_path):
    x, y = (np.random.default_rng(3).standard_normal((COUNT, d)) for d in (5, 3))
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Linear(4, 3, bias=False)).double()
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    a, b = torch.tensor(x), torch.tensor(y)
    kept = train(torch, model, torch.nn.MSELoss(), a, b, 0.05)
    model.load_state_dict(first)
    train(torch, model, torch.nn.MSELoss(), a, b, 0.05, folder=tmp_path)
    _, networks = read_run(tmp_path)
    for found, net in zip(networks, kept.networks, strict=True):
        assert all(map(np.array_equal, found.weights, net.weights)) and np.array_equal(found.biases[0], net.biases[0])
        assert found.biases[1] is net.biases[1] is None
    loss = losses.LeastSquares(losses.with_constant(x, samples="rows"), y, samples="rows", reduction="mean")
    lrf.follow_run(kept.networks, loss, 0.05 * 2 / 3, updates=kept.updates).raise_if_failed()


def test_a_state_dict_is_kept_as_a_module_is():
    """Without any framework: arrays by name, changed in place between the updates."""
    state = {"0.weight": np.zeros((2, 3)), "1.weight": np.ones((1, 2)), "1.bias": np.zeros(1)}
    recorder = Recorder(state, every=3)
    for k in range(1, 8):
        state["0.weight"] += 1.0
        recorder(k, "whatever an optimizer hands over")
    assert recorder.updates == [0, 3, 6] and repr(recorder) == "Recorder(3 checkpoints after 7 updates)"
    assert [net.weights[0][0, 0] for net in recorder.networks] == [0.0, 3.0, 6.0]


def test_a_recorder_that_can_keep_no_more_lets_the_training_go_on(tmp_path):
    """A folder that is gone, and a network that has diverged: each is said once, and what was kept before stays."""
    state = {"0.weight": np.ones((2, 3)), "1.weight": np.ones((1, 2))}
    gone, blown = Recorder(state, folder=tmp_path / "run"), Recorder(state)
    blown()
    shutil.rmtree(tmp_path / "run")
    with pytest.warns(RuntimeWarning, match=r"^Nothing of `module` is kept from update 1 on: .*can be written"):
        gone()
    state["0.weight"][0, 0] = np.inf
    with pytest.warns(RuntimeWarning, match=r"^Nothing of `module` is kept from update 2 on: .*finite"):
        blown()
    gone(), blown()  # in silence
    assert (gone.updates, gone.ended) == ([0], 1) and (blown.updates, blown.ended) == ([0, 1], 2) and len(blown.networks) == 2
