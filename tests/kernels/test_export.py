"""A network written to a file runs as it ran, on the platforms it was written for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxnn import functional as F


def network(kernel, x):
    x = F.max_pool(jnp.tanh(F.conv(x, kernel)), 2)
    return F.avg_pool(F.conv_transpose(x, kernel[:, :, :, :3].swapaxes(-1, -2), stride=2)[..., :1], 2)


def test_a_network_and_its_gradient_survive_export():
    rng = np.random.default_rng(0)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 3)), jnp.float32)
    x = jnp.asarray(rng.normal(size=(2, 8, 8, 3)), jnp.float32)
    gradient = jax.jit(jax.value_and_grad(lambda kernel, x: jnp.sum(network(kernel, x) ** 2)))
    exported = export.export(gradient, platforms=["cpu", "cuda", "tpu"])(kernel, x)
    expected = gradient(kernel, x)
    assert_close(exported.call(kernel, x), expected)

    pytest.importorskip("flatbuffers", reason="JAX writes exported programs with flatbuffers")
    assert_close(export.deserialize(bytearray(exported.serialize())).call(kernel, x), expected)


def assert_close(got, expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)
