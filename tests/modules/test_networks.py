"""Modules put together."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnn.modules import LSTM, AvgPool, Conv, ConvTranspose, Decoder, Dense, Flatten, GRUCell, MaxPool


def network(rngs):
    return nnx.Sequential(
        Conv(3, 4, 3, padding=[(1, 1), (0, 2)], rngs=rngs),
        nnx.BatchNorm(4, rngs=rngs),
        jax.nn.relu,
        MaxPool(2),
        nnx.Dropout(0.5, rngs=rngs),
        ConvTranspose(4, 5, [2, 2], stride=2, rngs=rngs),
        AvgPool([2, 2]),
        Flatten(),
        Dense(4 * 4 * 5, 3, rngs=rngs),
    )


def test_a_sequence_trains_with_flaxs_own_dropout_and_batch_norm():
    net = network(nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 8, 8, 3)), jnp.float32)
    labels = jnp.arange(8) % 3
    optimizer = nnx.Optimizer(net, optax.adam(1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(net, optimizer):
        def loss(net):
            return optax.softmax_cross_entropy_with_integer_labels(net(x), labels).mean()

        value, gradients = nnx.value_and_grad(loss)(net)
        optimizer.update(net, gradients)
        return value

    # Flax's batch norm promotes Python's floats in its own way.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        values = [float(step(net, optimizer)) for _ in range(40)]
        net.eval()
        assert net(x).shape == (8, 3)
    assert values[-1] < 0.5 * values[0]


def test_flatten_joins_the_axes_it_is_told_to():
    x = jnp.arange(120.0).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(Flatten()(x), x.reshape(2, 60))
    np.testing.assert_array_equal(Flatten(2)(x), x.reshape(2, 3, 20))
    np.testing.assert_array_equal(Flatten(4)(x), x.reshape(120))
    np.testing.assert_array_equal(Flatten()(x[0]), x[0].reshape(60))
    assert Flatten()(x[:0]).shape == (0, 60)


ERRORS = {
    "no features": (
        lambda **o: Conv(0, 4, 3, **o),
        "in_features: expected a whole number of at least 1, got 0",
    ),
    "groups and inputs": (
        lambda **o: Conv(3, 4, 3, groups=2, **o),
        "groups: expected a divisor of in_features=3 and .*got 2",
    ),
    "no groups": (lambda **o: Conv(3, 4, 3, groups=0, **o), "groups: expected a whole number of at least 1, got 0"),
    "transposed groups": (
        lambda **o: ConvTranspose(4, 3, 3, groups=4, **o),
        "groups: expected a divisor of in_features=4 and out",
    ),
    "kernel of nothing": (lambda **o: Conv(3, 4, 0, **o), "kernel_size: expected at least 1 .*got 0"),
    "kernel of words": (lambda **o: ConvTranspose(3, 4, "33", **o), "kernel_size: expected an int .*got '33'"),
    "no kernel size": (lambda **o: Conv(3, 4, (), **o), r"kernel_size: expected an entry .*got \(\)"),
    "no padding": (lambda **o: Conv(3, 4, 3, padding=None, **o), "padding: expected one of .*got None"),
    "unknown padding": (lambda **o: Conv(3, 4, 3, padding="same", **o), "padding: expected one of .*got 'same'"),
    "padding of numbers": (lambda **o: Conv(3, 4, 3, padding=(1, 1), **o), r"padding: expected .*got \(1, 1\)"),
    "features of a float": (lambda **o: Dense(4.0, 2, **o), r"in_features: expected a whole number .*got 4\.0"),
    "pad mode": (lambda **o: Conv(3, 4, 3, pad_mode="mirror", **o), "pad_mode: expected one of .*got 'mirror'"),
    "stride of a bool": (lambda **o: Conv(3, 4, 3, stride=True, **o), "stride: expected an int .*got True"),
    "padding of a bool": (lambda **o: Conv(3, 4, 3, padding=True, **o), "padding: expected one of .*got True"),
    "recurrent": (lambda **o: LSTM(3, 0, **o), "^hidden_features: expected a whole number of at least 1, got 0"),
    "recurrent inputs": (lambda **o: GRUCell(None, 4, **o), "^in_features: expected a whole number .*got None"),
    "memory": (
        lambda **o: Decoder(7, 3, 4, memory_features=-1, **o),
        "^memory_features: expected a whole number of at least 1, got -1",
    ),
    "dropout": (lambda **o: Decoder(7, 3, 4, dropout="half", **o), r"^dropout: expected a real number in \[0, 1\)"),
    "dense": (lambda **o: Dense(4, 0, **o), "out_features: expected a whole number of at least 1, got 0"),
    "pool padding": (lambda **_: MaxPool(2, padding=(1, 1)), r"padding: expected .*got \(1, 1\)"),
    "flatten": (lambda **_: Flatten(0), "axes: expected a whole number of at least 1, got 0"),
}


@pytest.mark.parametrize(("make", "message"), ERRORS.values(), ids=ERRORS)
def test_what_does_not_fit_is_reported_at_creation(make, message):
    with pytest.raises(ValueError, match=message):
        make(rngs=nnx.Rngs(0))


def test_flatten_wants_its_axes():
    with pytest.raises(ValueError, match=r"x: expected at least the 3 axes to join, got shape \(4, 5\)"):
        Flatten()(jnp.ones((4, 5)))


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("layer", [Conv, ConvTranspose])
def test_a_fresh_convolution_keeps_the_variance_whatever_its_groups(layer, groups):
    """LeCun's normal, by what each output sees: the window and the channels of its own group."""
    module = layer(32, 32, (3,), padding=1, groups=groups, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(400, 32)), jnp.float32)
    assert 0.85 < np.var(module(x)[1:-1]) < 1.15  # the borders see less


def test_flax_prints_a_table_of_a_network_with_pools():
    """Its table calls every public method, and each must return arrays."""
    net = nnx.Sequential(MaxPool(2), AvgPool(2), Flatten())
    assert "[8,12]" in nnx.tabulate(net, jnp.ones((8, 8, 8, 3)))
