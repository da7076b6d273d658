"""FLOPs against what the oracles multiply, formulas, and counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.experimental import pallas as pl
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxnn import functional as F
from jaxnn import inspect, models, train
from jaxnn.data import Examples
from jaxnn.kernels import conv
from tests import oracles
from tests.kernels.convolutions import CONVOLUTIONS


def shape(*sizes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sizes, dtype)


@pytest.mark.parametrize(
    ("spec", "left", "right", "expected"),
    [
        ("mk,kn->mn", (3, 5), (5, 7), 2 * 3 * 5 * 7),
        ("bmk,bkn->bmn", (2, 3, 5), (2, 5, 7), 2 * 2 * 3 * 5 * 7),
        ("abk,bak->", (2, 3, 5), (3, 2, 5), 2 * 2 * 3 * 5),
    ],
)
def test_a_product_takes_two_for_each_multiply_add(spec, left, right, expected):
    assert inspect.flops(lambda a, b: jnp.einsum(spec, a, b), shape(*left), shape(*right)) == expected


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_a_convolution_and_its_gradients_take_what_the_oracle_multiplies(case):
    """Of ones, each product is one, and padding adds nothing: the sum of the result is how many there were."""
    x, k, g = (np.ones(array.shape) for array in case.arrays(batch=2))
    geometry = case.geometry
    products = oracles.conv(
        x, k, stride=geometry.stride, padding=geometry.padding, dilation=geometry.dilation, groups=geometry.groups
    ).sum()

    def pull(x, k, g, which):
        return jax.vjp(lambda x, k: conv.conv(x, k, geometry), x, k)[1](g)[which]

    counts = [
        inspect.flops(lambda x, k: conv.conv(x, k, geometry), x, k),
        inspect.flops(lambda x, k, g: pull(x, k, g, 0), x, k, g),
        inspect.flops(lambda x, k, g: pull(x, k, g, 1), x, k, g),
    ]
    assert counts == [2 * products] * 3


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)], ids=str)
def test_mapped_convolutions_take_as_much_as_one_after_another(axes):
    (case,) = (case for case in CONVOLUTIONS if case.name == "few, groups")
    x, k, _ = case.arrays()
    one = inspect.flops(lambda x, k: conv.conv(x, k, case.geometry), x, k)
    many = jax.vmap(lambda x, k: conv.conv(x, k, case.geometry), axes)
    arrays = (array if axis is None else jnp.stack([array] * 5) for array, axis in zip((x, k), axes, strict=True))
    assert inspect.flops(many, *arrays) == 5 * one


def test_holes_in_the_input_are_not_multiplied():
    def transposed(x, k):
        return jax.lax.conv_general_dilated(
            x, k, (1,), [(1, 2)], lhs_dilation=(3,), dimension_numbers=("NHC", "HIO", "NHC")
        )

    x, k = np.ones((2, 5, 3)), np.ones((4, 3, 2))
    assert inspect.flops(transposed, x, k) == 2 * float(transposed(x, k).sum())


def square(w):
    return w @ w


square_by_hand = jax.custom_vjp(square)
square_by_hand.defvjp(lambda w: (w @ w, w), lambda w, g: (w @ w @ g @ g,))

ONCE = 2 * 4**3


@pytest.mark.parametrize(
    ("function", "times"),
    [
        (lambda w: jax.lax.scan(lambda c, _: (square(c), None), w, length=7)[0], 7),
        (lambda w: jax.lax.scan(lambda c, _: (jax.lax.map(square, jnp.stack([c] * 3))[0], None), w, length=7)[0], 21),
        (lambda w: jax.lax.fori_loop(0, 7, lambda i, c: square(c), w), 7),
        (lambda w: jax.lax.while_loop(lambda c: c.sum() > 0, square, w), 1),
        (lambda w: jax.lax.cond(w.sum() > 0, square, lambda w: square(square(w)), w), 2),
        (jax.jit(jax.checkpoint(jax.jit(square))), 1),
        (jax.grad(lambda w: jnp.sum(jax.checkpoint(lambda w: square(jnp.sin(square(w))))(w))), 1 + 4),
        (lambda w: jax.lax.scan(lambda c, x: (c + x, square(x)), jnp.zeros((4, 4)), jnp.stack([w] * 3))[0], 0),
        (lambda w: (square(w), w)[1], 0),
        (lambda w: jnp.exp(w).sum() + w * w, 0),
        (square_by_hand, 1),
        (jax.grad(lambda w: square_by_hand(w).sum()), 3),
    ],
    ids=[
        "scan",
        "scan of map",
        "for",
        "while",
        "cond",
        "jit",
        "remat",
        "dead output",
        "dead",
        "elements",
        "custom",
        "its gradient",
    ],
)
def test_loops_branches_and_nested_functions(function, times):
    assert inspect.flops(function, shape(4, 4)) == times * ONCE


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
def test_the_parts_of_all_devices_count():
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    split = jax.shard_map(jnp.dot, mesh=mesh, in_specs=(P("a"), P()), out_specs=P("a"), axis_names={"a"})
    with jax.set_mesh(mesh):
        assert inspect.flops(jax.jit(split), shape(8, 5), shape(5, 3)) == 2 * 8 * 5 * 3


def test_all_programs_of_a_pallas_kernel_count():
    def kernel(x_ref, y_ref):
        y_ref[...] = square(x_ref[...])

    block = pl.BlockSpec((4, 4), lambda i: (i, 0))
    call = pl.pallas_call(kernel, out_shape=shape(20, 4), grid=(5,), in_specs=[block], out_specs=block, interpret=True)
    assert inspect.flops(call, shape(20, 4)) == 5 * ONCE


@pytest.mark.parametrize("algorithm", ["scan", "fused"])
def test_an_lstm_takes_its_gates_products(algorithm):
    time, batch, inputs, hidden = 6, 3, 4, 5
    params = F.init_lstm(jax.random.key(0), inputs, hidden)
    x = shape(batch, time, inputs)

    def loss(params, x):
        return F.lstm(params, x, algorithm=algorithm)[0].sum()

    forward = 2 * time * batch * 4 * hidden * (inputs + hidden)
    assert inspect.flops(loss, params, x) == forward
    assert inspect.flops(jax.grad(loss, (0, 1)), params, x) == 3 * forward


def test_a_training_step_of_the_cifar10_network_by_hand():
    """Forward, the gradient of each weight, and of each input but the pictures."""
    products = 30 * 30 * 32 * 27 + 13 * 13 * 64 * 288 + 2304 * 512 + 512 * 10
    batch, net = 4, models.Cifar10Net(rngs=nnx.Rngs(0))
    assert inspect.flops(net, shape(batch, 32, 32, 3)) == batch * 2 * products
    state = jax.eval_shape(lambda: train.create_state(net, optax.adam(1e-3), jax.random.key(0)))
    step = train.make_step(train.losses.classification(), preprocess=train.image_preprocess())

    def pictures(n):
        return Examples(shape(n, 32, 32, 3, dtype=jnp.uint8), shape(n, dtype=jnp.int32))

    once = batch * 2 * (3 * products - 30 * 30 * 32 * 27)
    assert inspect.flops(step, state, pictures(batch)) == once
    epoch = train.make_epoch(step, batch_size=batch)
    assert inspect.flops(epoch, state, pictures(10)) == 3 * once  # the last batch is filled up
