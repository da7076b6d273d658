"""What all convolutional and feed-forward modules share."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.modules.layers import LAYERS, NORMAL, PARAMETRIC

every_layer = pytest.mark.parametrize("layer", LAYERS, ids=str)
with_params = pytest.mark.parametrize("layer", PARAMETRIC, ids=str)


def loss(module, x):
    return jnp.sum(module(x) ** 2)


@pytest.mark.optimized
@every_layer
def test_it_is_the_function_bit_for_bit(layer):
    module, x = layer.new(), layer.x()
    np.testing.assert_array_equal(module(x), layer.expected(module, x))


@every_layer
def test_jit_split_and_merge(layer):
    module, x = layer.new(), layer.x()
    graph, state = nnx.split(module)
    plain = jax.jit(lambda state, x: nnx.merge(graph, state)(x))
    expected = jax.jit(lambda x: layer.expected(module, x))(x)
    np.testing.assert_array_equal(nnx.jit(lambda module, x: module(x))(module, x), expected)
    np.testing.assert_array_equal(plain(state, x), expected)
    assert hash(graph) == hash(nnx.split(layer.new(seed=1))[0])  # the static part is hashable, and no seed is in it


@with_params
def test_grad_is_that_of_the_function(layer):
    module, x = layer.new(), layer.x()
    gradients = nnx.jit(nnx.grad(loss))(module, x)
    bias = () if module.bias is None else (module.bias[...],)

    def plain(kernel, *bias):
        return jnp.sum(layer.call(x, kernel, *(bias or (None,))) ** 2)

    expected = jax.jit(jax.grad(plain, range(1 + len(bias))))(module.kernel[...], *bias)
    got = (gradients["kernel"][...], *((gradients["bias"][...],) if bias else ()))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * float(jnp.abs(b).max()))


@with_params
def test_an_ensemble_by_vmap_is_its_members(layer):
    @nnx.jit
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def create(rngs):
        return layer.make(rngs=rngs)

    ensemble, x = create(nnx.Rngs(0)), layer.x()
    together = nnx.jit(nnx.vmap(lambda module, x: module(x), in_axes=(0, None)))(ensemble, x)
    kernels, biases = (None if p is None else np.asarray(p[...]) for p in (ensemble.kernel, ensemble.bias))
    assert not np.allclose(kernels[0], kernels[1])
    alone = jax.jit(layer.call)
    for i in range(3):
        bias = None if biases is None else biases[i]
        np.testing.assert_allclose(together[i], alone(x, kernels[i], bias), rtol=1e-5, atol=1e-5)


@every_layer
def test_abstract_creation_has_the_shapes_of_the_real_one(layer):
    abstract = nnx.eval_shape(layer.new)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), nnx.state(abstract))
    assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), nnx.state(layer.new()))


@every_layer
def test_a_copy_is_another_of_the_same(layer):
    module, x = layer.new(), layer.x()
    y = module(x)
    for other in (copy.deepcopy(module), nnx.clone(module)):
        np.testing.assert_array_equal(other(x), y)
        if layer.has_params:
            other.kernel[...] = 0 * other.kernel[...]
            np.testing.assert_array_equal(module(x), y)


@with_params
def test_parameters_keep_their_dtype_and_the_input_decides_what_is_computed_in(layer):
    module = layer.new()
    assert module.kernel.dtype == jnp.float32
    for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
        assert jax.eval_shape(module, layer.x(dtype=dtype)).dtype == dtype


@with_params
def test_dtype_is_what_is_computed_in_and_param_dtype_what_is_kept(layer):
    module = layer.new(dtype=jnp.bfloat16)
    x = layer.x()
    y = module(x)
    assert y.dtype == jnp.bfloat16
    cast = [None if p is None else p[...].astype(jnp.bfloat16) for p in (module.kernel, module.bias)]
    np.testing.assert_array_equal(
        np.asarray(y, np.float32), np.asarray(layer.call(x.astype(jnp.bfloat16), *cast), np.float32)
    )
    gradients = nnx.eval_shape(nnx.grad(lambda module: loss(module, x).astype(jnp.float32)), module)
    assert gradients["kernel"].dtype == jnp.float32
    assert layer.new(param_dtype=jnp.bfloat16).kernel.dtype == jnp.bfloat16
    assert jax.eval_shape(layer.new(param_dtype=jnp.bfloat16, dtype=jnp.float32), x).dtype == jnp.float32


@with_params
def test_integers_are_reported_and_not_cast_to(layer):
    with pytest.raises(ValueError, match="x: expected a floating dtype, got int32"):
        layer.new()(layer.x().astype(jnp.int32))


@pytest.mark.skipif(jax.device_count() < 2, reason="needs two devices")
@with_params
@pytest.mark.parametrize("by", ["initialiser", "metadata"])
def test_sharding_metadata_passes_through(layer, by):
    spec = (None,) * (layer.new().kernel.ndim - 1) + ("model",)
    if by == "initialiser":
        options = {"kernel_init": nnx.with_partitioning(NORMAL, spec)}
    else:
        options = {"kernel_init": NORMAL, "kernel_metadata": {"out_sharding": spec, "note": "kept"}}
    mesh = jax.make_mesh((2,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh):
        module = layer.new(**options)
        assert nnx.get_partition_spec(nnx.state(module))["kernel"] == jax.sharding.PartitionSpec(*spec)
        assert module.kernel[...].sharding.spec[-1] == "model"
        if by == "metadata":
            assert module.kernel.get_metadata()["note"] == "kept"
        y = nnx.jit(lambda module, x: module(x))(module, layer.x())
    np.testing.assert_allclose(y, layer.new(kernel_init=NORMAL)(layer.x()), rtol=1e-5, atol=1e-5)
