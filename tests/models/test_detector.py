"""The detector: what it takes, what it gives, and that it looks the same everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnn import models


def network(**options):
    return models.Detector(3, 2, **({"width": 2, "blocks": 2} | options), rngs=nnx.Rngs(0))


def test_maps_of_any_picture_and_batch():
    net = network()
    maps = jax.eval_shape(net, jax.ShapeDtypeStruct((4, 5, 32, 48, 3), jnp.float32))
    assert [each.shape for each in maps] == [(4, 5, 8, 12, 2)] * 3
    assert [each.dtype for each in jax.eval_shape(net, jnp.ones((8, 8, 3), jnp.bfloat16))] == [jnp.bfloat16] * 3
    half = network(dtype=jnp.bfloat16)
    assert jax.eval_shape(half, jnp.ones((8, 8, 3))).heat.dtype == jnp.bfloat16


def test_what_moves_by_a_cell_is_found_a_cell_further():
    net = network()
    picture = np.zeros((2, 56, 56, 3), np.float32)
    picture[0, 24:32, 24:32] = np.random.default_rng(0).normal(size=(8, 8, 3))
    picture[1] = np.roll(picture[0], (4, -8), (0, 1))
    maps = nnx.jit(lambda net, x: net(x))(net, picture)
    for each in maps:
        np.testing.assert_allclose(np.roll(each[0], (1, -2), (0, 1))[4:-4, 4:-4], each[1][4:-4, 4:-4], atol=1e-5)


def test_it_starts_sure_that_cells_are_empty_and_learns_with_all_parameters():
    net = network()
    x = jax.device_put(np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype(np.float32))

    def loss(net, x):
        return sum(jnp.mean(jnp.square(each)) for each in net(x))

    value, gradients = nnx.jit(nnx.value_and_grad(loss))(net, x)
    assert np.isfinite(value)
    assert all(np.mean(np.asarray(leaf) != 0) > 0.4 for leaf in jax.tree.leaves(gradients))
    np.testing.assert_allclose(jax.nn.sigmoid(net.heat.bias[...]), 0.1, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 30, 32, 3), r"x: expected \(\*batch, height, width, 3\) with sides that are multiples of 4, got \(2, 30"),
        ((2, 32, 32, 1), r"got \(2, 32, 32, 1\)"),
        ((2, 3, 32, 32), r"channels come last: jnp\.moveaxis"),
    ],
)
def test_pictures_that_do_not_fit_are_named(shape, message):
    with pytest.raises(ValueError, match=message):
        network()(jnp.ones(shape))
