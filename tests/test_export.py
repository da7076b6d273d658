"""A program written to a file runs as it ran, on the platforms that it names, at sizes that were not known then."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export

from jaxnn import functional as F
from jaxnn import models, modules
from tests.cases import CASES, RECURRENT
from tests.test_cases import float32

pytest.importorskip("flatbuffers", reason="JAX writes exported programs with flatbuffers")

PLATFORMS = ("cpu", "cuda", "tpu")


def written(function, *specs):
    """The function as a program that was written to a file and read again."""
    exported = export.export(jax.jit(function), platforms=PLATFORMS)(*specs)
    return export.deserialize(bytearray(exported.serialize())).call


def assert_same(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def like(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def symbolic(tree, other, size):
    """The shapes of a tree, with a symbolic size where the shapes of the other one differ."""

    def leaf(a, b):
        return jax.ShapeDtypeStruct([n if n == m else size for n, m in zip(a.shape, b.shape, strict=True)], a.dtype)

    return jax.tree.map(leaf, tree, other)


def with_gradients(function):
    """The function and its gradient in every floating argument."""

    def run(*args):
        leaves, tree = jax.tree.flatten(args)
        at = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]

        def of_floats(*floats):
            given = list(leaves)
            for i, leaf in zip(at, floats, strict=True):
                given[i] = leaf
            return function(*jax.tree.unflatten(tree, given))

        y, pull = jax.vjp(of_floats, *(leaves[i] for i in at))
        return y, pull(jax.tree.map(jnp.ones_like, y))

    return run


@pytest.mark.parametrize("case", [case for case in CASES if case.suites == "all" or case in RECURRENT], ids=str)
def test_one_program_serves_every_batch(case):
    (b,) = export.symbolic_shape("b")
    # Derivatives of recurrent layers take long to compile; those that differ are below.
    program = case.function if case in RECURRENT else with_gradients(case.function)
    one, three = (float32(case.args(batch=(batch,))) for batch in (1, 3))
    assert_same(written(program, *symbolic(one, three, b))(*three), jax.jit(program)(*three))


def network(kernel, x):
    x = F.max_pool(jnp.tanh(F.conv(x, kernel)), 2)
    return F.avg_pool(F.conv_transpose(x, kernel[:, :, :, :3].swapaxes(-1, -2), stride=2)[..., :1], 2)


def test_a_network_of_known_sizes_and_its_gradient():
    rng = np.random.default_rng(0)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 3)), jnp.float32)
    x = jnp.asarray(rng.normal(size=(2, 8, 8, 3)), jnp.float32)
    gradient = jax.jit(jax.value_and_grad(lambda kernel, x: jnp.sum(network(kernel, x) ** 2)))
    assert_same(written(gradient, kernel, x)(kernel, x), gradient(kernel, x))


def test_a_convolution_whose_columns_are_large():
    """`6912 * b <= 5242880` has no answer."""
    (b,) = export.symbolic_shape("b")
    x, kernel = np.ones((3, 32, 32, 3), np.float32), np.ones((3, 3, 3, 8), np.float32)
    program = with_gradients(F.conv)
    call = written(program, jax.ShapeDtypeStruct((b, *x.shape[1:]), x.dtype), like(kernel))
    for batch in (1, 3):
        assert_same(call(x[:batch], kernel), jax.jit(program)(x[:batch], kernel))


def test_strided_convolutions_of_pictures_of_any_size():
    """Where a size is unknown, `jax.lax` derives no strided convolution by its kernel."""
    b, n = export.symbolic_shape("b, n", constraints=["n >= 4"])
    x, kernel = np.random.default_rng(0).normal(size=(3, 9, 9, 4)).astype(np.float32), np.ones((3, 3, 2, 6), np.float32)
    program = with_gradients(lambda x, kernel: jnp.sin(F.conv(x, kernel, stride=2, padding="SAME", groups=2)))
    call = written(program, jax.ShapeDtypeStruct((b, n, n, 4), x.dtype), like(kernel))
    for size in (8, 9):
        assert_same(call(x[:, :size, :size], kernel), jax.jit(program)(x[:, :size, :size], kernel))


# Recurrent layers: the batch, the time, and the parameters themselves as arguments.


def recurrent(layer, algorithm, **options):
    function = getattr(F, layer)

    def run(params, x, lengths):
        y, state = function(params, x, lengths=lengths, algorithm=algorithm, **options)
        return y, state

    return run


def sequences(batch, time):
    x = np.random.default_rng(0).normal(size=(batch, time, 3)).astype(np.float32)
    return x, np.arange(batch, dtype=np.int32) % (time + 1)


@pytest.mark.parametrize("algorithm", ["auto", "scan"])
@pytest.mark.parametrize("layer", ["rnn", "gru", "lstm"])
def test_one_recurrent_program_serves_every_batch_and_every_time(layer, algorithm):
    b, t = export.symbolic_shape("b, t")
    params = getattr(F, f"init_{layer}")(jax.random.key(0), 3, 4)
    specs = like(params), jax.ShapeDtypeStruct((b, t, 3), jnp.float32), jax.ShapeDtypeStruct((b,), jnp.int32)
    program = with_gradients(recurrent(layer, algorithm, reverse=True, truncate=2))
    call = written(program, *specs)
    for batch, time in ((1, 5), (4, 3)):
        assert_same(call(params, *sequences(batch, time)), jax.jit(program)(params, *sequences(batch, time)))


def test_recomputing_blocks_of_steps_needs_whole_blocks():
    b, t = export.symbolic_shape("b, t")
    params, (x, lengths) = F.init_gru(jax.random.key(0), 3, 4), sequences(2, 6)
    specs = like(params), jax.ShapeDtypeStruct((b, 2 * t, 3), jnp.float32), jax.ShapeDtypeStruct((b,), jnp.int32)
    program = with_gradients(recurrent("gru", "auto", remat=2))
    assert_same(written(program, *specs)(params, x, lengths), jax.jit(program)(params, x, lengths))


def test_concrete_lengths_and_a_symbolic_time():
    (t,) = export.symbolic_shape("t")
    params, (x, lengths) = F.init_lstm(jax.random.key(0), 3, 4), sequences(2, 6)

    def run(x):
        return F.lstm(params, x, lengths=lengths)

    assert_same(written(run, jax.ShapeDtypeStruct((2, t, 3), jnp.float32))(x), run(x))


def test_pictures_of_any_size_in_time():
    t, n = export.symbolic_shape("t, n")
    params = F.init_conv_lstm(jax.random.key(0), 2, 3, (3,))

    def run(params, x):
        return F.conv_lstm(params, x)

    call = written(run, like(params), jax.ShapeDtypeStruct((2, t, n, 2), jnp.float32))
    for shape in ((2, 3, 5, 2), (2, 4, 6, 2)):
        x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
        assert_same(call(params, x), run(params, x))


PARTS = {
    "every option of an LSTM": F.init_lstm(jax.random.key(0), 3, 4, peephole=True, projection=2, layer_norm=True),
    "both directions": F.Directions(*(F.init_rnn(key, 3, 4) for key in jax.random.split(jax.random.key(0)))),
    "RNN": F.init_rnn(jax.random.key(0), 3, 4),
    "GRU": F.init_gru(jax.random.key(0), 3, 4),
    "minGRU": F.init_mingru(jax.random.key(0), 3, 4),
    "minLSTM": F.init_minlstm(jax.random.key(0), 3, 4),
    "LRU": F.init_lru(jax.random.key(0), 3, 4),
    "RNN state": F.RNNState(jnp.ones((2, 4))),
    "GRU state": F.GRUState(jnp.ones((2, 4))),
    "LSTM state": F.LSTMState(jnp.ones((2, 4)), jnp.ones((2, 4))),
    "minGRU state": F.MinGRUState(jnp.ones((2, 4))),
    "minLSTM state": F.MinLSTMState(jnp.ones((2, 4))),
    "LRU state": F.LRUState(jnp.ones((2, 4), jnp.complex64), jnp.ones((2, 3))),
    "heads": F.init_gru(jax.random.key(0), 3, 4, heads=2),
    "sLSTM": F.init_slstm(jax.random.key(0), 3, 4, heads=2),
    "sLSTM state": F.SLSTMState(*(jnp.ones((2, 4)),) * 4),
    "ConvLSTM": F.init_conv_lstm(jax.random.key(0), 3, 4, (3,), peephole=(5,)),
    "ConvLSTM state": F.ConvLSTMState(jnp.ones((2, 5, 4)), jnp.ones((2, 5, 4))),
    "what a decoder made": F.Generated(jnp.ones((2, 3), int), jnp.ones(2, int), jnp.ones(2)),
    "what an encoder read": modules.Encoded(jnp.ones((2, 5, 3)), (F.GRUState(jnp.ones((2, 4))),), None),
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_parameters_and_states_are_arguments_and_results(part):
    def twice(part):
        return jax.tree.map(lambda leaf: leaf + leaf, part)

    assert_same(written(twice, part)(part), twice(part))


def test_a_stack_in_both_directions_with_dropout():
    b, t = export.symbolic_shape("b, t")
    first, back, second = (
        F.init_gru(key, n, 4) for key, n in zip(jax.random.split(jax.random.key(0), 3), (3, 3, 8), strict=True)
    )
    layers, (x, _) = (F.Directions(first, back), second), sequences(2, 3)
    key = jax.random.key_data(jax.random.key(1))

    def run(layers, x, key):
        return F.stack(F.gru, layers, x, dropout=0.5, key=jax.random.wrap_key_data(key))

    call = written(run, like(layers), jax.ShapeDtypeStruct((b, t, 3), jnp.float32), like(key))
    assert_same(call(layers, x, key), run(layers, x, key))


DECODERS = {
    "greedy": lambda step, state, start, key: F.greedy(step, state, start, max_length=4, end=2),
    "sample": lambda step, state, start, key: F.sample(
        step, state, start, jax.random.wrap_key_data(key), max_length=4, end=2, top_k=3, top_p=0.9
    ),
    "beam search": lambda step, state, start, key: F.beam_search(step, state, start, beams=2, max_length=4, end=2),
}


@pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS)
def test_decoding(decode):
    (b,) = export.symbolic_shape("b")
    table = jnp.asarray(np.random.default_rng(0).normal(size=(5, 5)), jnp.float32)
    key = jax.random.key_data(jax.random.key(1))

    def run(state, start, key):
        return decode(lambda state, token: (jnp.take(table, token, axis=0) + state, state), state, start, key)

    specs = jax.ShapeDtypeStruct((b, 5), jnp.float32), jax.ShapeDtypeStruct((b,), jnp.int32), like(key)
    args = jnp.ones((3, 5)), jnp.arange(3, dtype=jnp.int32), key
    assert_same(written(run, *specs)(*args), run(*args))


def test_attention_over_lengths():
    b, t = export.symbolic_shape("b, t")
    rng = np.random.default_rng(0)
    args = (
        rng.normal(size=(2, 2, 3)).astype(np.float32),
        rng.normal(size=(2, 5, 3)).astype(np.float32),
        np.array([3, 0], np.int32),
    )
    specs = (
        jax.ShapeDtypeStruct((b, 2, 3), jnp.float32),
        jax.ShapeDtypeStruct((b, t, 3), jnp.float32),
        jax.ShapeDtypeStruct((b,), jnp.int32),
    )
    program = with_gradients(lambda query, keys, lengths: F.attention(query, keys, lengths=lengths))
    assert_same(written(program, *specs)(*args), jax.jit(program)(*args))


# Spatial sizes: layers and their gradients.

KERNEL, DEPTHWISE = (np.random.default_rng(0).normal(size=(3, 3, n, 4)).astype(np.float32) for n in (2, 1))
SPATIAL = {
    "conv": lambda x: F.conv(x, KERNEL),
    "conv of pairs, dilated": lambda x: F.conv(x, KERNEL, padding=((1, 3), (2, 2)), dilation=2),
    "conv without padding": lambda x: F.conv(x, KERNEL, padding="VALID"),
    "strided conv": lambda x: F.conv(x, KERNEL, stride=2),
    "strided conv, low": lambda x: F.conv(x, KERNEL, stride=(3, 2), padding="SAME_LOWER"),
    "conv, stride beyond the window": lambda x: F.conv(x, KERNEL[:1, :2], stride=2),
    "depthwise": lambda x: F.conv(jnp.concatenate([x, x], -1), DEPTHWISE, groups=4),
    "replicate": lambda x: F.conv(x, KERNEL, pad_mode="replicate"),
    "reflect": lambda x: F.conv(x, KERNEL, pad_mode="reflect"),
    "circular, and back": lambda x: F.conv_transpose(
        F.conv(x, KERNEL, stride=2, pad_mode="circular"), KERNEL.swapaxes(2, 3), stride=2, pad_mode="circular"
    ),
    "conv_transpose": lambda x: F.conv_transpose(x, KERNEL, stride=2),
    "strided and back": lambda x: F.conv_transpose(F.conv(x, KERNEL, stride=2), KERNEL.swapaxes(2, 3), stride=2),
    "conv_transpose of pairs": lambda x: F.conv_transpose(x, KERNEL, stride=2, padding=1, output_padding=1),
    "max_pool": lambda x: F.max_pool(x, 2),
    "overlapping max_pool": lambda x: F.max_pool(x, 3, stride=2, padding="SAME"),
    "avg_pool": lambda x: F.avg_pool(x, 2),
    "overlapping avg_pool": lambda x: F.avg_pool(x, 3, stride=2, padding="SAME"),
    "avg_pool, padding counted": lambda x: F.avg_pool(x, 3, stride=2, padding=1, count_include_pad=True),
    "avg_pool, ceil mode": lambda x: F.avg_pool(x, 3, stride=2, padding=1, ceil_mode=True),
    "lp_pool": lambda x: F.lp_pool(x, 2),
    "global_max_pool": F.global_max_pool,
    "global_avg_pool": F.global_avg_pool,
}


@pytest.mark.parametrize("layer", SPATIAL.values(), ids=SPATIAL)
def test_one_program_serves_every_picture(layer):
    b, h, w = export.symbolic_shape("b, h, w", constraints=("h >= 4", "w >= 4"))
    program = with_gradients(layer)
    call = written(program, jax.ShapeDtypeStruct((b, h, w, 2), jnp.float32))
    for shape in ((1, 5, 8, 2), (3, 12, 7, 2)):
        x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        assert_same(call(x), jax.jit(program)(x))


def test_adaptive_pools_say_that_they_cannot():
    h, w = export.symbolic_shape("h, w")
    for pool in (F.adaptive_avg_pool, F.adaptive_max_pool):
        with pytest.raises(ValueError, match=r"known size.*export a program for each size"):
            jax.eval_shape(lambda x, pool=pool: pool(x, 2), jax.ShapeDtypeStruct((2, h, w, 3), jnp.float32))


def rngs():
    return nnx.Rngs(0)


MODELS = {
    "LeNet": (lambda: models.LeNet((8, 8, 1), filters=(2, 3), hidden=4, rngs=rngs()), (8, 8, 1)),
    "LeNet5": (lambda: models.LeNet5(rngs=rngs()), (32, 32, 1)),
    "LSTM": (lambda: modules.LSTM(3, 4, rngs=rngs()), (5, 3)),
    "GRU": (lambda: modules.GRU(3, 4, rngs=rngs()), (5, 3)),
}


@pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)
def test_modules_and_models(make, shape):
    (b,) = export.symbolic_shape("b")
    model = make()
    call = written(lambda x: model(x), jax.ShapeDtypeStruct((b, *shape), jnp.float32))
    for batch in (1, 3):
        x = np.random.default_rng(0).normal(size=(batch, *shape)).astype(np.float32)
        assert_same(call(x), model(x))
