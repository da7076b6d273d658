"""Convolution and pooling over several devices give what one gives."""

import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnn import functional as F
from jaxnn.kernels import blocks

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")


def network(params, x):
    k1, k2, k3, b = params
    x = F.max_pool(jnp.tanh(F.conv(x, k1, b)), 2)
    x = F.avg_pool(F.conv(x, k2, stride=2, groups=2), 3, stride=1, padding="SAME")
    return F.conv_transpose(F.lp_pool(x, 2, stride=1), k3, stride=2)


def loss(params, x):
    return jnp.mean(network(params, x) ** 2)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    shapes = (3, 3, 2, 6), (3, 2, 3, 4), (3, 3, 4, 2), (6,)
    params = tuple(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)
    return params, jnp.asarray(rng.normal(size=(24, 10, 9, 2)), jnp.float32)


@pytest.fixture(scope="module")
def expected(data):
    return jax.jit(jax.value_and_grad(loss, (0, 1)))(*data)


def assert_same(got, expected):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6 * float(jnp.abs(b).max()))


@pytest.mark.parametrize("small_blocks", [False, True], ids=["whole", "in blocks"])
def test_shard_map_over_the_batch(data, expected, small_blocks, monkeypatch):
    """With `check_vma`, so that the gradient of replicated weights is summed over the devices by itself."""
    if small_blocks:
        monkeypatch.setattr(blocks, "_block", lambda batch, *_: min(batch, 2))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("data")), out_specs=(P(), (P(), P("data"))))
    def sharded(params, x):
        return jax.value_and_grad(lambda params, x: jax.lax.pmean(loss(params, x), "data"), (0, 1))(params, x)

    assert_same(sharded(*data), expected)


def two_axes(kind):
    """The batch is spread over the first; XLA sums the gradient of a grouped kernel of `jax.lax` over both."""
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind,) * 2)


def test_jit_with_the_batch_sharded(data, expected):
    params, x = data
    mesh = two_axes(AxisType.Auto)
    x = jax.device_put(x, NamedSharding(mesh, P("data")))
    params = jax.device_put(params, NamedSharding(mesh, P()))
    assert_same(jax.jit(jax.value_and_grad(loss, (0, 1)))(params, x), expected)


@pytest.mark.parametrize("set_mesh", [False, True], ids=["mesh of the arrays", "mesh set"])
def test_explicit_axes(data, expected, set_mesh):
    """Where shardings are part of types, the batch's stays on the way."""
    params, x = data
    mesh = two_axes(AxisType.Explicit)
    with jax.set_mesh(mesh) if set_mesh else contextlib.nullcontext():
        x = jax.device_put(x, NamedSharding(mesh, P("data")))
        params = jax.device_put(params, NamedSharding(mesh, P()))
        got = jax.jit(jax.value_and_grad(loss, (0, 1)))(params, x)
    assert_same(got, expected)
    assert got[1][1].sharding.spec[0] == "data"


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_an_ensemble_on_a_sharded_batch(data, kind):
    params, x = data
    ensemble = jax.tree.map(lambda p: jnp.stack([p, p * 1.1]), params)
    gradient = jax.jit(jax.vmap(jax.grad(loss), (0, None)))
    mesh = two_axes(kind)
    spread = jax.device_put(ensemble, NamedSharding(mesh, P())), jax.device_put(x, NamedSharding(mesh, P("data")))
    assert_same(gradient(*spread), gradient(ensemble, x))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_no_grouped_gradient_is_left_to_the_partitioner(kind):
    """On other platforms too, which nothing runs here."""
    mesh = two_axes(kind)
    x = jax.device_put(jnp.ones((8, 5, 5, 4)), NamedSharding(mesh, P("data")))
    kernel = jax.device_put(jnp.ones((3, 3, 2, 4)), NamedSharding(mesh, P()))
    traced = jax.jit(jax.grad(lambda kernel, x: F.conv(x, kernel, groups=2).sum())).trace(kernel, x)
    program = traced.lower(lowering_platforms=("cpu", "cuda", "tpu")).as_text()
    assert "batch_group_count = 2" not in program


@pytest.mark.parametrize("layer", [F.conv, partial(F.conv_transpose, stride=2)], ids=["conv", "transposed"])
def test_the_gradient_of_a_kernel_counts_a_sharded_space_once(layer):
    """XLA multiplies that of `jax.lax` by the length of an axis of the mesh over which nothing is sharded."""
    mesh, rng = two_axes(AxisType.Explicit), np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((2, 8, 3), (3, 3, 3)))
    gradient = jax.jit(jax.grad(lambda kernel, x: jnp.sum(layer(x, kernel) ** 2)))
    sharded = jax.device_put(x, NamedSharding(mesh, P(None, "data")))
    assert_same(gradient(jax.device_put(kernel, NamedSharding(mesh, P())), sharded), gradient(kernel, x))


OVERLAPPING = {
    "max_pool": partial(F.max_pool, window=(3,), stride=2, padding=1),
    "avg_pool": partial(F.avg_pool, window=(3,), stride=2, padding=1),
    "conv": lambda x: F.conv(x, jnp.ones((3, 3, 3)), stride=2, padding=((4, 5),)),
    "depthwise": lambda x: F.conv(x, jnp.ones((3, 1, 3)), stride=2, padding=1, groups=3),
}


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize("layer", OVERLAPPING.values(), ids=OVERLAPPING)
def test_windows_that_skip_and_see_padding_over_a_sharded_space(layer, kind):
    """XLA ends the process where one `lax.pad` dilates a sharded axis and crops its beginning."""
    mesh = jax.make_mesh((2,), ("space",), axis_types=(kind,), devices=jax.devices()[:2])
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 3)), jnp.float32)
    program = jax.jit(jax.value_and_grad(lambda x: jnp.sum(layer(x) ** 2)))
    assert_same(program(jax.device_put(x, NamedSharding(mesh, P(None, "space")))), program(x))


def test_an_ensemble_over_devices(data):
    """Each device trains its own members."""
    params, x = data
    ensemble = jax.tree.map(lambda p: jnp.stack([p * (1 + i / 16) for i in range(16)]), params)
    gradient = jax.vmap(jax.grad(loss), (0, None))
    mesh = jax.make_mesh((8,), ("members",), axis_types=(AxisType.Auto,))
    sharded = jax.shard_map(gradient, mesh=mesh, in_specs=(P("members"), P()), out_specs=P("members"))
    assert_same(jax.jit(sharded)(ensemble, x), jax.jit(gradient)(ensemble, x))


def test_a_batch_spread_by_jit_is_never_gathered():
    """Where XLA spreads the batch over devices, the gradient of the weights is summed over them; nothing else moves."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(64, 16, 16, 32)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 32, 64)), jnp.float32)

    def loss(kernel, x):
        return jnp.sum(F.max_pool(F.conv(x, kernel), 2) ** 2)

    spread = jax.device_put(x, NamedSharding(mesh, P("data"))), jax.device_put(kernel, NamedSharding(mesh, P()))
    gradient = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*spread[::-1]).compile()
    program = gradient.as_text()
    assert "all-reduce(" in program
    assert not any(f"{op}(" in program for op in ("all-gather", "all-to-all", "collective-permute"))
