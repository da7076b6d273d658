"""Keras's weights: layers and networks compute the same on both sides, from objects and from files."""

import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnn import functional as F
from jaxnn import interop, modules

keras = pytest.importorskip("keras", reason="the models to convert are Keras's; install keras")
L = keras.layers
RNGS = nnx.Rngs(0)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # Keras's own


@pytest.fixture(autouse=True)
def _promotion_that_keras_needs():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def trained(model):
    """A Keras model with weights and statistics as training leaves them: none is 0 or 1."""
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.1, 0.5, w.shape).astype("float32") for w in model.weights])
    return model


def there_and_back(ours, theirs, names):
    """Loads weights, and writes them where others were: the same bits, but for a GRU's two biases of its gates."""
    loaded, report = interop.from_keras(ours, theirs, names)
    assert {name for row in report.rows for name, _ in row.theirs} == {w.path for w in theirs.weights}
    theirs.set_weights(interop.to_keras(loaded, theirs, names))
    prefixed = {"": theirs.name} | {k: f"{theirs.name}/{v}" for k, v in names.items()}
    again, _ = interop.from_keras(ours, theirs.weights, prefixed)
    jax.tree.map(np.testing.assert_array_equal, *(nnx.to_pure_dict(nnx.state(m)) for m in (loaded, again)))
    return loaded


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


class Pictures(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = modules.Conv(2, 4, 3, padding="VALID", rngs=rngs)
        self.norm = nnx.BatchNorm(4, epsilon=1e-3, use_running_average=True, rngs=rngs)
        self.up = modules.ConvTranspose(4, 3, 2, stride=2, padding="VALID", rngs=rngs)
        self.head = modules.Dense(6 * 6 * 3, 5, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.relu(self.norm(self.conv1(x)))
        return self.head(modules.Flatten()(self.up(x)))


def test_a_network_of_convolutions():
    theirs = keras.Sequential(
        [
            keras.Input((5, 5, 2)),
            L.Conv2D(4, 3, name="conv1"),
            L.BatchNormalization(name="norm"),
            L.ReLU(),
            L.Conv2DTranspose(3, 2, strides=2, name="up"),
            L.Flatten(),
            L.Dropout(0.5),
            L.Dense(5, name="out"),
        ]
    )
    ours = there_and_back(Pictures(nnx.Rngs(1)), trained(theirs), {"head": "out"})
    x = jax.random.normal(jax.random.key(0), (3, 5, 5, 2))
    close(ours(x), theirs(x, training=False))
    theirs.save_weights("net.weights.h5")
    names = {"conv1": "conv2d", "norm": "batch_normalization", "up": "conv2d_transpose", "head": "dense"}
    from_file, report = interop.from_keras(Pictures(nnx.Rngs(1)), "net.weights.h5", names)
    assert report.rows[0].theirs[0][0] == "layers/conv2d/vars/0"
    jax.tree.map(np.testing.assert_array_equal, *(nnx.to_pure_dict(nnx.state(m)) for m in (from_file, ours)))


class Texts(nnx.Module):
    def __init__(self, rngs):
        self.words = nnx.Embed(11, 3, rngs=rngs)
        self.lstm = modules.LSTM(3, 5, bidirectional=True, layers=2, rngs=rngs)
        self.gru = modules.GRU(10, 4, rngs=rngs)
        self.old = modules.GRU(4, 4, reset_after=False, rngs=rngs)
        self.rnn = modules.RNN(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.rnn(self.old(self.gru(self.lstm(self.words(x)))))


def test_a_network_of_recurrent_layers():
    theirs = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            L.Embedding(11, 3, name="words"),
            L.Bidirectional(L.LSTM(5, return_sequences=True)),
            L.Bidirectional(L.LSTM(5, return_sequences=True)),
            L.GRU(4, return_sequences=True),
            L.GRU(4, reset_after=False, return_sequences=True),
            L.SimpleRNN(2, return_sequences=True),
        ]
    )
    bidirectional, second, gru, old, rnn = (layer.name for layer in theirs.layers[1:])
    names = {"lstm": bidirectional, "lstm_1": second, "gru": gru, "old": old, "rnn": rnn}
    ours = there_and_back(Texts(nnx.Rngs(1)), trained(theirs), names)
    tokens = jnp.array([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])
    close(ours(tokens), theirs(tokens))
    theirs.save_weights("net.weights.h5")
    names = {"lstm": "bidirectional", "lstm_1": "bidirectional_1", "words": "embedding"}
    names |= {"gru": "gru", "old": "gru_1", "rnn": "simple_rnn"}
    from_file, _ = interop.from_keras(Texts(nnx.Rngs(1)), "net.weights.h5", names)
    jax.tree.map(np.testing.assert_array_equal, *(nnx.to_pure_dict(nnx.state(m)) for m in (from_file, ours)))


class Depthwise(nnx.Module):
    def __init__(self, rngs):
        self.first = modules.Conv(2, 4, 2, groups=2, padding="VALID", use_bias=False, rngs=rngs)
        self.norm = nnx.RMSNorm(4, rngs=rngs)
        self.head = modules.Dense(4, 3, param_dtype=jnp.bfloat16, rngs=rngs)


def test_depthwise_convolutions_in_networks_in_networks_and_every_kind_of_file():
    inner = keras.Sequential(
        [
            keras.Input((3, 3, 2)),
            L.DepthwiseConv2D(2, depth_multiplier=2, use_bias=False, name="first"),
            L.RMSNormalization(name="norm"),
        ]
    )
    layers = [keras.Input((3, 3, 2)), inner, L.Dense(3, dtype="bfloat16", name="head")]
    theirs = trained(keras.Sequential(layers))
    inside = {name: f"{inner.name}/{name}" for name in ("first", "norm")}
    ours, _ = interop.from_keras(Depthwise(nnx.Rngs(1)), theirs, inside)
    x = jax.random.normal(jax.random.key(0), (2, 3, 3, 2))
    close(ours.norm(ours.first(x)), inner(x))
    written = interop.to_keras(ours, theirs, inside)
    for one, other in zip(written, theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    theirs.save_weights("net.weights.h5")
    theirs.save("net.keras")
    names = {"first": "sequential/depthwise_conv2d", "norm": "sequential/rms_normalization", "head": "dense"}
    for path in ("net.weights.h5", "net.keras"):
        from_file, _ = interop.from_keras(Depthwise(nnx.Rngs(1)), path, names)
        jax.tree.map(np.testing.assert_array_equal, *(nnx.to_pure_dict(nnx.state(m)) for m in (from_file, ours)))


def test_parameters_without_modules():
    theirs = trained(keras.Sequential([keras.Input((4, 3)), L.GRU(5, reset_after=False, return_sequences=True)]))
    params = interop.keras.gru_reset_before.read(theirs.layers[0].get_weights())
    x = jax.random.normal(jax.random.key(0), (2, 4, 3))
    close(F.gru(params, x, reset_after=False)[0], theirs(x))
    written = interop.keras.gru_reset_before.write(params)
    for name, array in zip(interop.keras.gru_reset_before.theirs, theirs.layers[0].get_weights(), strict=True):
        np.testing.assert_array_equal(written[name], array)


def test_a_file_without_its_library_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"h5py is not installed; install it with: pip install .*interop"):
        interop.from_keras(modules.Dense(3, 5, rngs=RNGS), "net.weights.h5")


def test_what_does_not_fit_is_named():
    layer = modules.GRU(3, 5, rngs=RNGS)
    theirs = keras.Sequential([keras.Input((4, 3)), L.GRU(5, reset_after=False, name="gru")])
    with pytest.raises(ValueError, match=r"weights: expected .* got .*/gru_cell/bias of shape \[15\], not \[2, 15\]"):
        interop.from_keras(layer, theirs, {"": "gru"})
    with pytest.raises(ValueError, match=r"got no gru_1/kernel \[3, 15\] for the model"):
        interop.to_keras(layer, theirs, {"": "gru_1"})
    with pytest.raises(ValueError, match=r"weights: expected variables of Keras, .*got a ndarray; give the model"):
        interop.from_keras(layer, theirs.get_weights())
    Path("a.keras").write_bytes(b"PK")
    with pytest.raises(
        ValueError, match=r"weights: expected a whole .weights.h5 or .keras file .*, got a.keras, which"
    ):
        interop.from_keras(layer, "a.keras")
