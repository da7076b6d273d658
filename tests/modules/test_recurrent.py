"""Recurrent modules: each call is the function's, bit for bit; parameters, dtypes, dropout, sharding, streaming."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnn import functional as R
from jaxnn.modules import GRU, LSTM, RNN, Dense, GRUCell, LSTMCell, RNNCell
from tests.modules.own_cells import close, same

KINDS = {"rnn": (RNN, R.rnn, {}), "gru": (GRU, R.gru, {"reset_after": False}), "lstm": (LSTM, R.lstm, {})}
X = np.random.default_rng(0).normal(size=(3, 6, 2)).astype(np.float32)
LENGTHS = np.array([6, 3, 0], np.int32)


@pytest.mark.optimized
@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_call_is_the_functions_bit_for_bit(kind, both_ways):
    module, function, options = KINDS[kind]
    layer = module(2, 4, layers=2, bidirectional=both_ways, rngs=nnx.Rngs(0), **options)
    params = jax.tree.map(lambda c: c.arrays(jnp.float32), layer.cells, is_leaf=lambda c: isinstance(c, nnx.Module))
    resets, mask = jnp.zeros((3, 6), bool).at[:, 2].set(True), np.arange(18).reshape(3, 6) % 5 > 0
    state = jax.tree.map(lambda a: a + 0.5, layer.zero_state((3,)))
    run = {"lengths": LENGTHS, "resets": resets, "mask": mask}
    got = nnx.jit(lambda m, x, s: m(x, state=s, return_state=True, **run))(layer, X, state)
    same(got, jax.jit(lambda p, x, s: R.stack(function, p, x, s, **run, **options))(params, X, state))
    assert got[0].shape == (3, 6, layer.out_features)


def test_flax_prints_a_table_of_it():
    """Flax 0.12 cannot print a named tuple that a public method returns."""
    assert "[3,6,4]" in nnx.tabulate(LSTM(2, 4, rngs=nnx.Rngs(0)), X)


def test_reverse_reaches_the_function():
    layer = GRU(2, 4, rngs=nnx.Rngs(0))
    params = layer.cells[0].arrays(jnp.float32)
    same(layer(X, lengths=LENGTHS, reverse=True), R.gru(params, X, lengths=LENGTHS, reverse=True)[0])
    with pytest.raises(ValueError, match="reverse"):
        GRU(2, 4, bidirectional=True, rngs=nnx.Rngs(0))(X, reverse=True)


@pytest.mark.parametrize(("cell", "step"), [(RNNCell, R.rnn_step), (GRUCell, R.gru_step), (LSTMCell, R.lstm_step)])
def test_a_cell_is_its_step(cell, step):
    made = cell(2, 4, activation=jnp.sin, rngs=nnx.Rngs(0))
    state = made.zero_state((3,))
    want = step(made.arrays(jnp.float32), state, X[:, 0], activation=jnp.sin)
    same(made(state, X[:, 0]), (want, want.h))


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_named_and_are_what_the_initialiser_gives(kind):
    module, _, options = KINDS[kind]
    layer = module(2, 4, layers=2, bidirectional=True, rngs=nnx.Rngs(0), **options)
    state = nnx.state(layer, nnx.Param)
    paths = {"/".join(map(str, path)) for path, _ in nnx.to_flat_state(state)}
    assert {"cells/0/forward/params/w_x", "cells/1/backward/params/w_h"} <= paths
    assert layer.cells[1].forward.params.w_x.shape[0] == 8
    assert not np.allclose(layer.cells[0].forward.params.w_h[...], layer.cells[0].backward.params.w_h[...])


def test_variants_of_the_lstm_reach_their_parameters():
    layer = LSTM(2, 4, projection=3, peephole=True, coupled=True, layer_norm=True, forget_bias=2.0, rngs=nnx.Rngs(0))
    params = layer.cells[0].params
    assert params.w_h.shape == (3, 12)
    np.testing.assert_array_equal(params.b[...], [2] * 4 + [0] * 8)
    assert layer.out_features == 3
    y, (state,) = layer(X, return_state=True)
    assert y.shape == (3, 6, 3)
    assert state.c.shape == (3, 4)
    assert len(jax.tree.leaves(nnx.state(layer, nnx.Param))) == 9


def test_dtypes_are_those_asked_for():
    layer = LSTM(2, 4, layers=2, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert {p.dtype for p in jax.tree.leaves(nnx.state(layer, nnx.Param))} == {jnp.dtype(jnp.float32)}
    y, state = nnx.eval_shape(lambda m: m(X, return_state=True), layer)
    assert (y.dtype, state[0].h.dtype, state[0].c.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
    again = nnx.eval_shape(lambda m, state: m(X, state=state), layer, state)
    assert again.dtype == jnp.bfloat16
    half = LSTM(2, 4, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert half.cells[0].params.w_x.dtype == jnp.bfloat16
    assert nnx.eval_shape(lambda m: m(X), half).dtype == jnp.float32  # the input decides
    grads = nnx.eval_shape(nnx.grad(lambda m: jnp.sum(m(X).astype(jnp.float32))), layer)
    assert {g.dtype for g in jax.tree.leaves(grads)} == {jnp.dtype(jnp.float32)}


def test_dropout_follows_train_and_eval_and_its_keys():
    layer = GRU(2, 16, layers=2, dropout=0.5, rngs=nnx.Rngs(params=0, dropout=1))
    assert not np.allclose(layer(X), layer(X))
    key = jax.random.key(3)
    same(layer(X, rngs=key), layer(X, rngs=key))
    sure = layer(X, deterministic=True)
    layer.eval()
    same(layer(X), sure)
    layer.train()
    assert not np.allclose(layer(X), sure)
    same(nnx.view(layer, deterministic=True)(X), sure)


def test_one_layer_has_nothing_to_drop_and_needs_no_key():
    layer = GRU(2, 4, dropout=0.5, rngs=nnx.Rngs(0))
    same(layer(X), layer(X))


@pytest.mark.skipif(jax.device_count() < 4, reason="needs four devices")
def test_sharding_metadata_comes_with_the_initialiser():
    mesh = jax.make_mesh((4,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh):
        layer = LSTM(
            2,
            4,
            kernel_init=nnx.with_partitioning(R.per_gate(jax.nn.initializers.lecun_normal(), 4), (None, "model")),
            rngs=nnx.Rngs(0),
        )
        w_x = layer.cells[0].params.w_x
        assert w_x.get_metadata("out_sharding") == (None, "model")
        assert len(w_x[...].sharding.device_set) == 4
        y = nnx.jit(lambda m, x: m(x))(layer, X)
    want, _ = R.lstm(jax.tree.map(np.asarray, layer.cells[0].arrays(jnp.float32)), X)
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)


def test_several_models_by_vmap_equal_one_after_the_other():
    @nnx.vmap(in_axes=0)
    def create(rngs):
        return GRU(2, 4, rngs=rngs)

    several = create(nnx.Rngs(0).split(3))
    y = nnx.vmap(lambda m, x: m(x), in_axes=(0, None))(several, X)
    graph, params = nnx.split(several)
    for n in range(3):
        one = nnx.merge(graph, jax.tree.map(lambda a, n=n: a[n], params))
        np.testing.assert_allclose(y[n], one(X), rtol=1e-5, atol=1e-6)


def test_bad_input_is_named():
    layer = LSTM(2, 4, layers=2, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="2 features"):
        layer(jnp.ones((3, 6, 5)))
    with pytest.raises(ValueError, match="states: expected one for each of 2 layers, got 1"):
        layer(X, state=layer.zero_state((3,))[:1])
    with pytest.raises(
        ValueError, match=r"state: expected a tuple with the state of each layer, 2, got LSTMState; begin"
    ):
        layer.step(layer.zero_state((3,))[0], X[:, 0])  # a named tuple of as many arrays
    with pytest.raises(ValueError, match="layers: expected a whole number of at least 1, got 0"):
        LSTM(2, 4, layers=0, rngs=nnx.Rngs(0))
    for rate in (-0.1, 1.0, 1.5, np.float32(1.5), float("nan")):
        with pytest.raises(ValueError, match=rf"dropout: expected a real number in \[0, 1\), got {rate}"):
            LSTM(2, 4, dropout=rate, rngs=nnx.Rngs(0))
    both = LSTM(2, 4, bidirectional=True, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="step: expected layers of one direction"):
        both.step(both.zero_state((3,)), X[:, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_returns_its_outputs_and_the_state_on_request(kind):
    module, _, options = KINDS[kind]
    make = lambda **more: module(2, 4, layers=2, bidirectional=True, rngs=nnx.Rngs(0), **options, **more)  # noqa: E731
    alone, both = make(), make(return_state=True)
    y, states = alone(X, return_state=True)
    same(alone(X), y)
    same(alone(X, return_state=False), y)
    same(both(X), (y, states))
    same(both(X, return_state=False), y)  # a call has precedence
    assert len(states) == 2


def test_everything_after_the_input_is_named():
    layer = LSTM(2, 4, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match="positional"):
        layer(X, layer.zero_state((3,)))


def test_recurrent_layers_follow_one_another_in_a_sequence():
    rngs = nnx.Rngs(0)
    first, second, dense = LSTM(2, 4, rngs=rngs), LSTM(4, 4, rngs=rngs), Dense(4, 3, rngs=rngs)
    y, _ = R.lstm(first.cells[0].arrays(jnp.float32), X)
    y, _ = R.lstm(second.cells[0].arrays(jnp.float32), y)
    close(nnx.Sequential(first, second, dense)(X), dense(y))
