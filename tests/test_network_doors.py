"""Networks of torch and JAX, their trees and files: what comes in is what goes out, and what is no chain is named in one line."""

import json
from itertools import pairwise

import numpy as np
import pytest

import lowrankflow as lrf
from lowrankflow import cli, losses
from lowrankflow.compare import follow_run
from lowrankflow.data import read_factors, read_network
from lowrankflow.matrices import AffineNetwork


def drawn(rng, sizes=(4, 4, 4, 2), biased=(True, False, True)):
    weights = [rng.standard_normal((b, a)) for a, b in pairwise(sizes)]
    return AffineNetwork(
        weights, [rng.standard_normal(b) if has else None for b, has in zip(sizes[1:], biased, strict=True)]
    )


def same(a, b):
    """Whether two networks have the same numbers, to the bit, and biases in the same layers."""
    pairs = zip([*a.weights, *a.biases], [*b.weights, *b.biases], strict=True)
    return all((x is None and y is None) or np.array_equal(x, y) for x, y in pairs)


def in_lines(caught):
    assert "\n" not in str(caught.value), caught.value
    return str(caught.value)


# ---------------------------------------------------------------------------------------------------------------------
# names: the layout is theirs, never the shape's; all weights here are square but the last


def test_layouts_are_told_by_names(rng):
    net = drawn(rng)
    flax = net.to_jax()
    assert list(flax["params"]) == ["Dense_0", "Dense_1", "Dense_2"] and "bias" not in flax["params"]["Dense_1"]
    x = rng.standard_normal((4, 5))
    h = x.T  # samples in rows, as Flax has them: x @ kernel + bias
    for layer in flax["params"].values():
        h = h @ layer["kernel"] + layer.get("bias", 0)
    np.testing.assert_allclose(h.T, net(x), rtol=0, atol=1e-13)
    ours = [{"weight": w} | ({} if b is None else {"bias": b}) for w, b in zip(net.weights, net.biases, strict=True)]
    haiku = {f"mlp/~/linear_{j}" if j else "mlp/~/linear": {"w": w.T} | ({} if b is None else {"b": b})
             for j, (w, b) in enumerate(zip(net.weights, net.biases, strict=True))}  # fmt: skip
    pairs = [(w,) if b is None else (w, b) for w, b in zip(net.weights, net.biases, strict=True)]
    flat = [part for pair in pairs for part in pair]
    turned = [(pair[0].T, *pair[1:]) for pair in pairs]
    for tree, layout in (
        (flax, None), (flax["params"], None), (dict(reversed(flax["params"].items())), None), ({"layers": ours}, None),
        (ours, None), (dict(enumerate(ours)), None), (haiku, None), (pairs, "out_in"), (flat, "out_in"), (turned, "in_out"),
        ([flax["params"][key] for key in flax["params"]], None),
    ):  # fmt: skip
        assert same(AffineNetwork.from_jax(tree, layout=layout), net)
    with pytest.raises(ValueError, match=r"do not chain|as long as"):
        AffineNetwork.from_jax(pairs, layout="in_out")
    linear = lrf.LinearNetwork(net.weights)
    assert all(map(np.array_equal, lrf.LinearNetwork.from_jax(linear.to_jax()).factors, net.weights))
    with pytest.raises(ValueError, match=r"`tree` must have no biases, got .*Use matrices\.AffineNetwork.from_jax"):
        lrf.LinearNetwork.from_jax(flax)


def test_numbers_in_names_are_numbers(rng):
    """Twelve layers, in the order of the alphabet and with gaps, as trees come back from jit."""
    sizes = rng.integers(1, 5, 13)
    net = drawn(rng, sizes, [True] * 12)
    layers = net.to_jax()["params"].values()
    for name in ("Dense_{}", "layer{}", "{}", "encoder/layers_{}", "l_{}_x"):
        tree = {name.format(3 * j): layer for j, layer in enumerate(layers)}
        assert same(AffineNetwork.from_jax(dict(sorted(tree.items()))), net), name
    nested = ("0/0", "0/1", "2", "3/5/1", "3/10", *map(str, range(4, 11)))  # a Sequential of Sequentials
    assert same(AffineNetwork.from_jax(dict(sorted(zip(nested, layers, strict=True)))), net)
    named = {"encoder": next(iter(layers)), "decoder": list(layers)[1]}
    with pytest.raises(ValueError, match="`tree` must have layers whose names differ by numbers alone") as caught:
        AffineNetwork.from_jax(named)
    assert "'encoder' and 'decoder'. Give a list of the layers" in in_lines(caught)


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ({}, "`tree` must hold weights of linear layers, got none."),
        ([], "`tree` must hold weights of linear layers, got none."),
        (3, "`tree` must be nested dicts or lists of arrays, got int."),
        ({"a": {"kernel": "x"}}, "got str at 'a/kernel'."),
        ([np.eye(2)], "`layout` must say which axis of a weight without a name is the input, got none."),
        ([np.eye(2), {"kernel": np.eye(2)}], "`tree` must name all of its arrays or none, got '0' without a name."),
        ({"Conv_0": {"kernel": np.ones((3, 3, 1, 4))}}, "got shape (3, 3, 1, 4) in 'Conv_0/kernel': a convolution"),
        ({"LayerNorm_0": {"scale": np.ones(3), "bias": np.ones(3)}}, "got a normalisation layer, 'LayerNorm_0/scale'"),
        ({"params": {"a": {"kernel": np.eye(2)}}, "batch_stats": {"b": {"mean": np.ones(2)}}}, "got a normalisation layer"),
        ({"Embed_0": {"embedding": np.eye(3)}}, "got an embedding, 'Embed_0/embedding'"),
        ({"a": {"bias": np.ones(2)}}, "`tree` must have a weight for every bias, got 'a/bias' without one."),
        ({"a": {"kernel": np.eye(2), "bias": np.ones(3)}}, "got shape (3,) in 'a/bias' for 2."),
        ({"a": {"kernel": np.eye(2), "weight": np.eye(2)}}, "`tree` must have one weight a layer, got 'a/weight' too."),
        ({"a": {"kernel": np.eye(2) * 1j}}, "`tree` must hold real numbers, got dtype complex128 in 'a/kernel'."),
        ({"a": {"kernel": np.ones((0, 2))}}, "got an empty array of shape (0, 2) in 'a/kernel'."),
        ({"a": {"theta": np.eye(2)}}, "must have names that end in weight, kernel or bias, got 'a/theta'."),
        ({"a": {"kernel": np.full((2, 2), np.inf, np.float16)}}, "in 'a/kernel': half precision (float16) overflowed."),
        ({"a": {"kernel": np.eye(2), "lora_A": np.eye(2)}}, "got LoRA factors, 'a/lora_A'. Merge them"),
        ({"d_0": {"kernel": np.ones((2, 3))}, "d_1": {"kernel": np.ones((2, 2))}}, "do not chain"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_trees_that_are_no_chain(tree, says):
    with pytest.raises((ValueError, TypeError)) as caught:
        AffineNetwork.from_jax(tree)
    assert says in in_lines(caught)


def test_a_weight_that_is_shared_is_refused_wherever_it_is():
    w = np.eye(3)
    tied = {"Dense_0": {"kernel": w}, "Dense_1": {"kernel": w}}
    with pytest.raises(ValueError, match=r"shared by 'Dense_0/kernel' and 'Dense_1/kernel'\. Untie them"):
        AffineNetwork.from_jax(tied)
    assert AffineNetwork.from_jax({name: {"kernel": w.copy()} for name in tied}).depth == 2  # the control
    with pytest.raises(ValueError, match="`layout` must be one of out_in, in_out"):
        AffineNetwork.from_jax([w], layout="io")


def test_trees_of_flax_and_arrays_of_jax(rng, jax):
    linen, nnx = pytest.importorskip("flax.linen"), pytest.importorskip("flax.nnx")
    frozen = pytest.importorskip("flax.core").freeze

    class Chain(linen.Module):
        @linen.compact
        def __call__(self, x):
            for width in (3,) * 11 + (2,):
                x = linen.Dense(width, bias_init=linen.initializers.normal())(x)
            return x

    x = jax.numpy.asarray(rng.standard_normal((5, 4)), dtype=jax.numpy.float32)
    tree = Chain().init(jax.random.PRNGKey(0), x)
    want = np.asarray(Chain().apply(tree, x)).T
    for each in (tree, frozen(tree), jax.tree_util.tree_map(lambda a: a, tree), tree["params"]):
        net = AffineNetwork.from_jax(each)
        assert net.depth == 12
        # roundoff of single precision: twelve layers with sums of at most five terms of size one
        np.testing.assert_allclose(net(np.asarray(x).T), want, rtol=0, atol=60 * 2.0**-23)
    back = Chain().apply(net.to_jax(), x)  # and the other way
    np.testing.assert_allclose(np.asarray(back).T, want, rtol=0, atol=60 * 2.0**-23)
    rngs = nnx.Rngs(0)
    module = nnx.Sequential(nnx.Linear(4, 3, rngs=rngs), nnx.Linear(3, 2, rngs=rngs, use_bias=False))
    net = AffineNetwork.from_jax(nnx.state(module))
    assert [b is None for b in net.biases] == [False, True]
    np.testing.assert_allclose(net(np.asarray(x).T), np.asarray(module(x)).T, rtol=0, atol=10 * 2.0**-23)
    half = {"a": {"kernel": jax.numpy.full((2, 2), jax.numpy.inf, dtype=jax.numpy.bfloat16)}}
    with pytest.raises(ValueError, match=r"half precision \(bfloat16\) overflowed"):
        AffineNetwork.from_jax(half)
    with pytest.raises(ValueError, match="shared"):
        AffineNetwork.from_jax({"a_0": tree["params"]["Dense_1"], "a_1": tree["params"]["Dense_1"]})


# ---------------------------------------------------------------------------------------------------------------------
# torch


def test_a_module_with_biases_and_back(torch):
    nn = torch.nn
    module = nn.Sequential(nn.Linear(4, 6), nn.Identity(), nn.Sequential(nn.Linear(6, 5, bias=False), nn.Linear(5, 3)))
    net = AffineNetwork.from_torch(module)
    assert repr(net) == "AffineNetwork(depth 3: 3 <- 5 <- 6 <- 4, biases of layers 1, 3)"
    x = torch.randn(7, 4)
    # roundoff of single precision, three layers with sums of at most seven terms of size one
    assert np.abs(net(x.numpy().T) - module(x).detach().numpy().T).max() < 3 * 7 * 2.0**-23
    state = module.state_dict()
    others = (
        state, {"epoch": torch.tensor(1), "state_dict": state}, {"epoch": 3, "model": state}, module.parameters(), net.to_torch(),
    )  # fmt: skip
    assert all(same(AffineNetwork.from_torch(other), net) for other in others)
    assert net.to_torch(dtype=torch.float32)[0].bias.dtype == torch.float32
    kept = net.biases[0].copy()
    with torch.no_grad():
        module[0].bias.zero_()
    assert np.array_equal(net.biases[0], kept)  # a copy
    zero = AffineNetwork.from_torch(module)
    assert zero.biases[0] is not None and not zero.biases[0].any()  # a bias that is zero is trained

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.decoder(self.encoder(x))

    class Doubled(Own):
        def forward(self, x):
            return self.decoder(self.encoder(x)) + self.encoder.bias

    own = Own()
    for each in (own, own.state_dict()):  # in the order of the definition, not of the alphabet
        assert np.array_equal(AffineNetwork.from_torch(each).weights[0], own.encoder.weight.detach().numpy())
    with pytest.raises(ValueError, match="in the order in which it defines them, and nothing else"):
        AffineNetwork.from_torch(Doubled())


def test_gradients_of_autograd_are_those_of_what_is_trained(torch):
    nn = torch.nn
    module = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 5, bias=False), nn.Linear(5, 3)).double()
    x, y = torch.randn(9, 4).double(), torch.randn(9, 3).double()
    value = 0.5 * ((module(x) - y) ** 2).sum()
    value.backward()
    net = AffineNetwork.from_torch(module)
    loss = losses.LeastSquares(losses.with_constant(x.numpy(), samples="rows"), y.numpy(), samples="rows")
    assert loss.value(net.augmented) == pytest.approx(value.item(), rel=1e-13)
    grads = [p.grad.numpy() for p in module.parameters()]
    theirs = AffineNetwork([g for g in grads if g.ndim == 2], [grads[1], None, grads[4]])
    for g, want, free in zip(
        lrf.factor_gradients(loss, net.augmented), theirs.augmented.factors, net.trained, strict=True
    ):
        assert np.abs(g - want)[free].max() < 1e-12 * np.abs(g).max()  # roundoff of sums of nine terms, three layers


def test_a_loop_of_torch_is_followed_and_a_faulty_one_is_not(tmp_path, monkeypatch, capsys, torch):
    nn = torch.nn
    x, y = torch.randn(30, 4) + 1, torch.randn(30, 3) - 1
    loss = losses.LeastSquares(losses.with_constant(x.numpy().T), y.numpy().T, reduction="mean")
    for options, verdict in (({}, "passed"), ({"momentum": 0.9}, "failed"), ({"weight_decay": 0.3}, "failed")):
        model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3))
        first = AffineNetwork.from_torch(model)
        h = 0.05 * 2 / lrf.sharpness(loss, first.augmented, trained=first.trained)
        optimizer, kept = torch.optim.SGD(model.parameters(), lr=h, **options), [first]
        folder = tmp_path / f"run{len(options)}{verdict}{next(iter(options), '')}"
        folder.mkdir()
        torch.save(model.state_dict(), folder / "step_0.pt")
        for k in range(1, 101):
            optimizer.zero_grad()
            (0.5 * ((model(x) - y) ** 2).sum() / 30).backward()
            optimizer.step()
            if k % 20 == 0:
                kept.append(AffineNetwork.from_torch(model))
                state = {"step": k, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save(state, folder / f"step_{k}.pt")
        report = follow_run(kept, loss, h, updates=np.arange(0, 101, 20))
        assert report["update"].verdict == verdict
        if verdict == "passed":
            assert report.passed and len(report.claims) == 3
        monkeypatch.chdir(tmp_path)
        np.save("x.npy", x.numpy()), np.save("y.npy", y.numpy())
        line = ["verify", "--inputs", "x.npy", "--targets", "y.npy", "--preprocess", "none", "--run", folder.name]
        status = cli.main([*line, "--step", repr(h), "--json", "a.json", "--quiet"])
        assert status == (0 if verdict == "passed" else 1), capsys.readouterr()
        found = {claim["name"]: claim["verdict"] for claim in json.loads((tmp_path / "a.json").read_text())["claims"]}
        assert found["update"] == verdict


def bad_modules(torch):
    """What is no chain of linear layers, and what is said of it."""
    nn = torch.nn

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    class Lora(nn.Module):  # as adapters wrap a layer
        def __init__(self):
            super().__init__()
            self.base_layer, self.lora_A = nn.Linear(4, 4), nn.ModuleDict({"default": nn.Linear(4, 2, bias=False)})
            self.lora_B = nn.ModuleDict({"default": nn.Linear(2, 4, bias=False)})

        def forward(self, x):
            return self.base_layer(x) + self.lora_B["default"](self.lora_A["default"](x))

    hooked = nn.Sequential(nn.Linear(4, 4))
    hooked[0].register_forward_hook(lambda module, inputs, output: torch.relu(output))
    half = nn.Linear(2, 2).half()
    with torch.no_grad():
        half.weight.fill_(65504.0).mul_(2.0)
    bias_half = nn.Linear(2, 2).bfloat16()
    with torch.no_grad():
        bias_half.bias.fill_(float("nan"))
    quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), {nn.Linear})
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    optimizer = torch.optim.Adam(nn.Linear(2, 2).parameters())
    state = nn.Linear(2, 2).state_dict()
    return {
        "nonlinearity": (nn.Sequential(nn.Linear(4, 4), nn.Tanh()), "got Tanh '1'"),
        "convolution": (nn.Sequential(nn.Conv2d(1, 1, 3)), "got Conv2d '0'"),
        "embedding": (nn.Sequential(nn.Embedding(4, 4), nn.Linear(4, 2)), "got Embedding '0'"),
        "normalisation": (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), "got LayerNorm '1'"),
        "batch norm": (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), "got BatchNorm1d '1'"),
        "shared": (tied, "a weight of its own in each layer"), "shared, own": (Tied(), "a weight of its own in each layer"),
        "shared state": (tied.state_dict(), "shared by '0.weight' and '1.weight'"),
        "quantised": (quantised, "got quantised Linear '0'"),
        "quantised state": (quantised.state_dict(), "got a quantised layer, '0.zero_point'"),
        "spectral norm": (nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)), "whose weight is a parametrised one"),
        "spectral state": (nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)).state_dict(), "got a parametrised weight"),
        "weight norm": (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))), "is a parametrised one"),
        "old weight norm": ({"0.weight_g": torch.ones(4, 1), "0.weight_v": torch.eye(4)}, "got a parametrised weight"),
        "adapter": (Lora(), "got ModuleDict 'lora_A'"), "adapter state": (Lora().state_dict(), "got LoRA factors, 'base_layer"),
        "hook": (hooked, "and nothing else; its forward does not"),
        "half": (half, "in 'weight': half precision (float16) overflowed"), "half bias": (bias_half, "(bfloat16) overflowed"),
        "complex": (nn.Linear(2, 2, dtype=torch.complex64), "must hold real numbers, got dtype complex64"),
        "meta": (nn.Linear(2, 2, device="meta"), "without data (a meta tensor)"),
        "lazy": (nn.Sequential(nn.LazyLinear(3)), "without data"),
        "empty": (nn.Sequential(), "got none"), "empty state": ({}, "got none"),
        "norm state": (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)).state_dict(), "got shape (4,) in '1.weight'"),
        "batch norm state": (nn.BatchNorm1d(4).state_dict(), "a normalisation layer"),
        "conv state": (nn.Conv2d(1, 1, 3).state_dict(), "got shape (1, 1, 3, 3) in 'weight': a convolution"),
        "embedding state": ({"embed.weight": torch.eye(3)}, "got an embedding, 'embed.weight'"),
        "optimizer": (optimizer.state_dict(), "got the state of an optimizer, 'state'. Take model.state_dict()."),
        "two models": ({"a": state, "b": state}, "must hold one state dict, got 'a' and 'b'. Take the one"),
        "no chain": (nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 3)), "do not chain"),
        "bias of another length": ({"0.weight": torch.eye(3), "0.bias": torch.ones(2)}, "got shape (2,) in '0.bias' for 3"),
        "bias alone": ({"0.bias": torch.ones(2)}, "must have a weight for every bias"),
        "strange name": ({"0.theta": torch.eye(2)}, "must have names that end in weight, kernel or bias, got '0.theta'"),
        "a number": (3, "must be a torch.nn.Module, a state dict or a list of weights, got int"),
        "a text": ("net.pt", "must be a torch.nn.Module, a state dict or a list of weights, got str"),
        "an array": (np.eye(2), "must be a torch.nn.Module, a state dict or a list of weights, got ndarray"),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # torch deprecates its own quantisation
def test_what_is_no_chain_of_torch_is_named(torch):
    for name, (module, says) in bad_modules(torch).items():
        for door in (AffineNetwork.from_torch, lrf.LinearNetwork.from_torch):
            with pytest.raises((ValueError, TypeError)) as caught:
                door(module)
            got = in_lines(caught)
            biased = door is not AffineNetwork.from_torch and "must have no biases" in got
            assert biased or says in got, (name, got)
            assert got.startswith(("`module` must", "`factors` do", "`weights` do")), (name, got)


# ---------------------------------------------------------------------------------------------------------------------
# files


def by_name(net, style):
    """The arrays of a network under the names of a library."""
    found = {}
    for j, (w, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        weight, bias, array = {
            "torch": (f"{j}.weight", f"{j}.bias", w), "flax": (f"params/Dense_{j}/kernel", f"params/Dense_{j}/bias", w.T),
            "ours": (f"W{j + 1}", f"b{j + 1}", w),
        }[style]  # fmt: skip
        found |= {weight: np.ascontiguousarray(array)} | ({} if b is None else {bias: b})
    return dict(sorted(found.items(), reverse=True))


@pytest.mark.parametrize("style", ["torch", "flax", "ours"])
@pytest.mark.parametrize("kind", ["npz", "safetensors", pytest.param("pt", marks=pytest.mark.frameworks)])
def test_files_with_biases(kind, style, tmp_path, rng):
    net, file = drawn(rng, rng.integers(1, 5, 13), rng.random(12) < 0.6), tmp_path / f"net.{kind}"
    arrays = by_name(net, style)
    if kind == "npz":
        np.savez(file, **arrays)
    elif kind == "safetensors":
        pytest.importorskip("safetensors.numpy").save_file(arrays, file)
    else:
        torch = pytest.importorskip("torch")
        torch.save({name: torch.tensor(array) for name, array in arrays.items()}, file)
    found = read_network(file)
    assert same(found, net)
    with pytest.raises(ValueError, match=r"`factors` must have no biases, got .* Use read_network"):
        read_factors(file)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"W1": np.eye(2), "W2": np.eye(2), "b3": np.ones(2)}, "a weight for every bias, got 'b3' without one"),
        ({"W1": np.eye(2), "W2": np.eye(2), "b1": np.ones(3)}, "got shape (3,) in 'b1' for 2"),
        ({"W1": np.eye(2), "W2": np.eye(2), "b1": np.full(2, np.nan)}, "`biases[0]` must be finite"),
        ({"W1": np.eye(2), "W3": np.eye(2), "b1": np.ones(2)}, "W2 is missing in 'f.npz'"),
        ({"W1": np.eye(2), "W2": np.eye(2), "c1": np.ones(2)}, "must be arrays W1, W2, ..., got W1, W2, c1"),
        ({"b1": np.ones(2)}, "must be arrays W1, W2, ..., got b1"),
        ({"W1": np.full((2, 2), np.inf, np.float16), "W2": np.eye(2)}, "half precision (float16) overflowed"),
        ({"0.weight": np.eye(2)}, "must hold at least 2 matrices, got 1"),
        ({"x/kernel": np.eye(2), "y/kernel": np.eye(2)}, "differ by numbers alone, so that their order is known"),
        ({"0.weight": np.eye(2), "1.lora_A": np.eye(2)}, "got LoRA factors, '1.lora_A' (in 'f.npz'). Merge them"),
    ],
    ids=range(10),
)
def test_archives_that_are_no_chain(arrays, says, tmp_path):
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises((ValueError, TypeError)) as caught:
        read_network(tmp_path / "f.npz")
    assert says in in_lines(caught) and str(caught.value).startswith(("`factors", "`biases"))


def test_files_of_torch_that_are_no_weights(tmp_path, monkeypatch, torch):
    """A pickled module, an optimizer, code: nothing of them is run."""

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "went off"), "w"))

    torch.save({"0.weight": Bomb()}, tmp_path / "bomb.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    torch.save(torch.optim.Adam(torch.nn.Linear(2, 2).parameters()).state_dict(), tmp_path / "adam.pt")
    torch.save(torch.eye(2), tmp_path / "tensor.pt")
    for name, says in (
        ("bomb.pt", "damaged, or something else"), ("module.pt", "damaged, or something else"),
        ("adam.pt", "got the state of an optimizer, 'state' (in 'adam.pt'). Take model.state_dict()."),
        ("tensor.pt", "a state dict or a list of weights, got Tensor (in 'tensor.pt')."),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError)) as caught:
            read_network(tmp_path / name)
        assert says in in_lines(caught)
    assert not (tmp_path / "went off").exists()
