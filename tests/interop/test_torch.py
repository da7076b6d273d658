"""PyTorch's weights: layers and whole networks compute the same on both sides, and what does not fit is named."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from safetensors.numpy import save_file

from jaxnn import functional as F
from jaxnn import interop, models, modules, train
from tests.interop.torch_networks import Digits, Sentiment, load_file, torch

RNGS = nnx.Rngs(0)


def close(ours, theirs):
    np.testing.assert_allclose(np.asarray(ours), theirs.detach().numpy(), rtol=2e-5, atol=2e-6)


def same_weights(one, other):
    weights = nnx.Any(nnx.Param, nnx.BatchStat)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(one, weights), nnx.state(other, weights))


def trained(module, seed=0):
    """A PyTorch module with weights and statistics as training leaves them: none is 0 or 1."""
    torch.manual_seed(seed)
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            torch.nn.init.uniform_(tensor.data, 0.1, 0.5)
    return module.eval()


def there_and_back(ours, theirs, **options):
    """Loads `theirs` into `ours`, gives it back to a PyTorch module of other weights, and reads it again."""
    loaded, report = interop.from_torch(ours, theirs.state_dict(), **options)
    written = interop.to_torch(loaded, **options)
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in written.items()})
    again, _ = interop.from_torch(ours, theirs.state_dict(), **options)
    same_weights(loaded, again)
    assert {name for row in report.rows for name, _ in row.theirs} == set(written)
    return loaded


def channels_first(x):
    return torch.from_numpy(np.moveaxis(np.asarray(x), -1, 1).copy())


@pytest.mark.parametrize("window", [(3,), (3, 2), (2, 3, 2)], ids=["1d", "2d", "3d"])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions(window, groups):
    n = len(window)
    x = jax.random.normal(jax.random.key(0), (2, *(5, 6, 4)[:n], 4))
    options = {"stride": 2, "groups": groups}
    convs = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    transposes = (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)
    for ours, theirs, given in ((modules.Conv, convs, {"padding": 1}), (modules.ConvTranspose, transposes, {})):
        reference = trained(theirs[n - 1](4, 6, window, **options, **given))
        padding = {"padding": given.get("padding", "VALID")}
        layer = there_and_back(ours(4, 6, window, **options, **padding, rngs=RNGS), reference)
        close(np.moveaxis(layer(x), -1, 1), reference(channels_first(x)))


def test_dense_embeddings_and_norms():
    x = jax.random.normal(jax.random.key(0), (4, 6))
    for ours, theirs in (
        (modules.Dense(6, 3, rngs=RNGS), torch.nn.Linear(6, 3)),
        (modules.Dense(6, 3, use_bias=False, rngs=RNGS), torch.nn.Linear(6, 3, bias=False)),
        (nnx.BatchNorm(6, use_running_average=True, rngs=RNGS), torch.nn.BatchNorm1d(6)),
        (
            nnx.BatchNorm(6, use_running_average=True, use_bias=False, use_scale=False, rngs=RNGS),
            torch.nn.BatchNorm1d(6, affine=False),
        ),
        (nnx.LayerNorm(6, epsilon=1e-5, rngs=RNGS), torch.nn.LayerNorm(6)),
        (nnx.RMSNorm(6, epsilon=1e-5, rngs=RNGS), torch.nn.RMSNorm(6, eps=1e-5)),
    ):
        close(there_and_back(ours, trained(theirs))(x), theirs(torch.from_numpy(np.array(x))))
    reference = trained(torch.nn.Embedding(5, 3))
    tokens = np.array([[0, 4], [2, 2]])
    close(there_and_back(nnx.Embed(5, 3, rngs=RNGS), reference)(tokens), reference(torch.from_numpy(tokens)))


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("rnn", modules.RNN, torch.nn.RNN),
        ("gru", modules.GRU, torch.nn.GRU),
        ("lstm", modules.LSTM, torch.nn.LSTM),
        ("projection", modules.LSTM, torch.nn.LSTM),
    ],
    ids=["rnn", "gru", "lstm", "projection"],
)
def test_recurrent_layers(name, ours, theirs):
    projection = name == "projection"
    reference = trained(
        theirs(3, 5, 2, bidirectional=True, batch_first=True, **({"proj_size": 2} if projection else {}))
    )
    layer = ours(3, 5, layers=2, bidirectional=True, rngs=RNGS, **({"projection": 2} if projection else {}))
    layer = there_and_back(layer, reference)
    x = jax.random.normal(jax.random.key(0), (2, 4, 3))
    y, _ = reference(torch.from_numpy(np.array(x)))
    close(layer(x), y)


def test_parameters_without_modules():
    reference = trained(torch.nn.GRU(3, 5, bidirectional=True, batch_first=True))
    patterns = "{}_l0", "{}_l0_reverse"
    params = [interop.torch.gru.read(reference.state_dict(), pattern) for pattern in patterns]
    x = jax.random.normal(jax.random.key(0), (2, 4, 3))
    y, _ = F.bidirectional(F.gru, *params, x)
    close(y, reference(torch.from_numpy(np.array(x)))[0])
    written = [interop.torch.gru.write(p, pattern) for p, pattern in zip(params, patterns, strict=True)]
    again = [interop.torch.gru.read(weights, pattern) for weights, pattern in zip(written, patterns, strict=True)]
    jax.tree.map(np.testing.assert_array_equal, params, again)
    kernel = interop.torch.conv.read({"weight": np.ones((8, 3, 5, 4))})["kernel"]
    assert kernel.shape == (5, 4, 3, 8)
    with pytest.raises(ValueError, match=r"PyTorch's GRU, weight_ih, .*got no bias_hh; scale, which it has not; give"):
        interop.torch.gru.read(
            {"scale": np.ones(1), **{k: np.ones((3, 1)) for k in ("weight_ih", "weight_hh", "bias_ih")}}
        )


class OurDigits(nnx.Module):
    def __init__(self, size, filters, hidden, rngs):
        self.conv1 = modules.Conv(1, filters[0], 3, padding="VALID", rngs=rngs)
        self.conv2 = modules.Conv(filters[0], filters[1], 3, padding="VALID", rngs=rngs)
        self.fc1 = modules.Dense(filters[1] * ((size - 4) // 2) ** 2, hidden, rngs=rngs)
        self.fc2 = modules.Dense(hidden, 10, rngs=rngs)
        self.dropout1, self.dropout2 = nnx.Dropout(0.25, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, pictures):
        y = jax.nn.relu(self.conv2(jax.nn.relu(self.conv1(pictures))))
        y = modules.Flatten()(self.dropout1(F.max_pool(y, 2)))
        return jax.nn.log_softmax(self.fc2(self.dropout2(jax.nn.relu(self.fc1(y)))))


def test_a_network_of_convolutions_is_ported():
    sizes = {"size": 12, "filters": (4, 6), "hidden": 16}
    theirs = trained(Digits(**sizes))
    ours = there_and_back(OurDigits(**sizes, rngs=nnx.Rngs(1)), theirs, flattened={"fc1": (4, 4, 6)})
    ours.eval()
    pictures = jax.random.normal(jax.random.key(0), (3, 12, 12, 1))
    close(ours(pictures), theirs(channels_first(pictures)))


class OurSentiment(nnx.Module):
    def __init__(self, vocabulary, embedding, hidden, classes, layers, rngs):
        self.words = nnx.Embed(vocabulary, embedding, rngs=rngs)
        self.reader = modules.LSTM(embedding, hidden, layers=layers, bidirectional=True, dropout=0.5, rngs=rngs)
        self.head = modules.Dense(2 * hidden, classes, rngs=rngs)

    def __call__(self, text, lengths):
        _, states = self.reader(self.words(text), lengths=lengths, return_state=True)
        return self.head(jnp.concatenate([states[-1].forward.h, states[-1].backward.h], axis=-1))


def test_a_bidirectional_classifier_of_texts_is_ported():
    sizes = {"vocabulary": 11, "embedding": 4, "hidden": 5, "classes": 2, "layers": 2}
    theirs = trained(Sentiment(**sizes))
    names = {"words": "embedding", "reader": "rnn", "head": "fc"}
    ours = there_and_back(OurSentiment(**sizes, rngs=nnx.Rngs(1)), theirs, names=names)
    ours.eval()
    text, lengths = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0], [7, 0, 0, 0, 0]]), np.array([5, 3, 1])
    close(ours(text, jnp.asarray(lengths)), theirs(torch.from_numpy(text.T.copy()), torch.from_numpy(lengths)))


class TorchLeNet(torch.nn.Module):
    """`models.LeNet` as PyTorch has it."""

    def __init__(self):
        super().__init__()
        conv, pool = torch.nn.Conv2d, torch.nn.AvgPool2d(2)
        self.features = torch.nn.Sequential(
            conv(1, 4, 3, padding=1), torch.nn.ReLU(), pool, conv(4, 6, 3, padding=1), torch.nn.ReLU(), pool
        )
        self.head = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(24, 8), torch.nn.Sigmoid(), torch.nn.Linear(8, 3)
        )

    def forward(self, x):
        return self.head(self.features(x))


def test_a_model_trained_here_is_loaded_there_and_back():
    model = models.LeNet((8, 8, 1), filters=(4, 6), hidden=8, classes=3, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (16, 8, 8, 1))
    state = train.create_state(model, optax.adam(1e-2), jax.random.key(0))
    step = train.make_step(train.losses.classification())
    batch = {"images": x, "labels": jnp.arange(16) % 3}
    for _ in range(2):
        state, _ = step(state, batch)
    model = state.model()
    options = {
        "names": {"conv1": "features.0", "conv2": "features.3", "dense1": "head.1", "dense2": "head.3"},
        "flattened": {"dense1": (2, 2, 6)},
    }
    save_file(interop.to_torch(model, **options), "lenet.safetensors")
    theirs = TorchLeNet()
    theirs.load_state_dict(load_file("lenet.safetensors"))
    model.eval()
    close(model(x), theirs(channels_first(x)))
    fresh = models.LeNet((8, 8, 1), filters=(4, 6), hidden=8, classes=3, rngs=nnx.Rngs(1))
    again, _ = interop.from_torch(fresh, theirs.state_dict(), **options)
    again.eval()
    np.testing.assert_array_equal(again(x), model(x))


def test_a_model_of_shapes_is_filled():
    theirs = trained(torch.nn.Linear(3, 2))
    ours, _ = interop.from_torch(nnx.eval_shape(lambda: modules.Dense(3, 2, rngs=nnx.Rngs(0))), theirs.state_dict())
    np.testing.assert_array_equal(ours.kernel, theirs.weight.detach().numpy().T)


def test_half_precision_and_counts_of_batches():
    theirs = trained(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)))
    net = nnx.Sequential(
        modules.Dense(3, 2, param_dtype=jnp.bfloat16, rngs=RNGS), nnx.BatchNorm(2, param_dtype=jnp.bfloat16, rngs=RNGS)
    )
    loaded, report = interop.from_torch(net, theirs.to(torch.bfloat16).state_dict())
    assert loaded.layers[0].kernel.dtype == jnp.bfloat16
    save_file(interop.to_torch(loaded), "half.safetensors")
    torch.testing.assert_close(load_file("half.safetensors")["0.weight"], theirs[0].weight.data, rtol=0, atol=0)
    assert str(report).split("\n")[0] == "0.weight bfloat16[2, 3]     ->  layers/0/kernel bfloat16[3, 2]"
    assert str(report).split("\n")[-1] == "1.num_batches_tracked  is not used"


WEIGHTS = {"a.weight": np.ones((4, 3), np.float32), "a.bias": np.ones(4, np.float32), "b.weight": np.ones((2, 4))}


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        ({**WEIGHTS, "c.bias": np.ones(2)}, {}, r"got c.bias \[2\], which no layer takes; say which"),
        ({n: w for n, w in WEIGHTS.items() if n != "a.bias"}, {}, r"got no a.bias \[4\] for a; say"),
        ({**WEIGHTS, "b.weight": np.ones((4, 2))}, {}, r"got b.weight of shape \[4, 2\], not \[2, 4\]; say"),
        ({**WEIGHTS, "b.weight": np.ones((2, 4), int)}, {}, "b.weight of dtype int64, not floats"),
        ({"x": np.ones(1)}, {}, r"no a.weight .*; no a.bias .*; no b.weight .*; x \[1\], which no layer"),
        (
            WEIGHTS,
            {"names": {"c": "d"}},
            "names: expected paths of layers of this model, 'a', 'b', or their .* got 'c'",
        ),
        (
            WEIGHTS,
            {"names": {"a": "c", "b": "c"}},
            "names: expected another name for each layer, got c.... for a and b",
        ),
        (
            {"epoch": 3, "model": WEIGHTS},
            {},
            "state_dict: expected arrays by name, got epoch of type int; give the weigh",
        ),
        ("a.pt", {}, r"state_dict: expected tensors or arrays by name, got a str; give torch_model.state_dict\(\)"),
        (WEIGHTS, {"flattened": {"a": (2, 2)}}, r"flattened: expected dense layers \('a' of 3, 'b' of 4\) .* got 'a'"),
    ],
    ids=["surplus", "missing", "shape", "dtype", "others", "names", "one name", "checkpoint", "path", "flattened"],
)
def test_weights_that_do_not_fit_are_named_and_nothing_is_loaded(weights, options, message):
    class Net(nnx.Module):
        def __init__(self):
            self.a = modules.Dense(3, 4, rngs=nnx.Rngs(0))
            self.b = modules.Dense(4, 2, use_bias=False, rngs=nnx.Rngs(0))

    net = Net()
    before = nnx.clone(net)
    interop.from_torch(net, {f"module.{n}": w for n, w in WEIGHTS.items()}, {"": "module"})
    interop.from_torch(net, WEIGHTS, {"": "unused", "a": "a", "b": "b"})
    with pytest.raises(ValueError, match=message):
        interop.from_torch(net, weights, **options)
    same_weights(net, before)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            modules.GRU(3, 5, reset_after=False, rngs=RNGS),
            "model: expected layers that PyTorch has, got gru_reset_before",
        ),
        (modules.LSTM(3, 5, peephole=True, rngs=RNGS), r"got the variable cells/0/params/\w+ of LSTMCell; convert"),
        (modules.Cell(F.mingru_cell(), F.init_mingru(jax.random.key(0), 3, 5)), "got the variable params/"),
        (nnx.ConvTranspose(3, 2, 3, rngs=RNGS), "got the variable bias of ConvTranspose; convert"),
        ({"kernel": np.ones(2)}, "model: expected a flax.nnx.Module, got dict; parameters alone are read by a layout"),
    ],
    ids=["reset before", "peephole", "other cell", "another class", "pytree"],
)
def test_models_that_torch_does_not_have_are_named(model, message):
    with pytest.raises(ValueError, match=message):
        interop.to_torch(model)
