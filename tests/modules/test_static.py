"""What is static in a module is hashable, and survives a copy and a pickle: every module and model."""

import copy
import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnn import functional as R
from jaxnn import models, modules
from tests.modules.layers import LAYERS
from tests.modules.own_cells import AVERAGE, Leaky, average_params

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 2)), jnp.float32)


def _with_rngs(make, *args, **options):
    return lambda seed: make(*args, **options, rngs=nnx.Rngs(seed))


RECURRENT = {
    "RNN": _with_rngs(modules.RNN, 2, 3, activation=jax.nn.relu),
    "GRU": _with_rngs(modules.GRU, 2, 3, reset_after=False, bidirectional=True),
    "LSTM": _with_rngs(modules.LSTM, 2, 3, layers=2, dropout=0.5),
}
MODULES = {
    **{layer.name: layer.new for layer in LAYERS},
    **RECURRENT,
    "LSTM with options": _with_rngs(
        modules.LSTM, 2, 3, projection=2, peephole=True, layer_norm=True, dtype=jnp.bfloat16, return_state=True
    ),
    "RNNCell": _with_rngs(modules.RNNCell, 2, 3),
    "GRUCell": _with_rngs(modules.GRUCell, 2, 3, activation=jnp.sin),
    "LSTMCell": _with_rngs(modules.LSTMCell, 2, 3),
    "Cell": lambda seed: modules.Cell(AVERAGE, average_params(seed)),
    "Cell of a partial activation": lambda seed: modules.Cell(
        R.rnn_cell(activation=functools.partial(jax.nn.leaky_relu, negative_slope=0.1)),
        R.init_rnn(jax.random.key(seed), 2, 3),
    ),
    "Recurrent": lambda seed: modules.Recurrent(
        [Leaky(2, 3, rngs=nnx.Rngs(seed)), modules.Cell(AVERAGE, average_params(seed))]
    ),
    "Encoder": _with_rngs(modules.Encoder, 5, 2, 3, dropout=0.5),
    "Decoder": _with_rngs(modules.Decoder, 5, 2, 3, memory_features=4),
    "MLP": _with_rngs(models.MLP, (2, 3, 4), activation=jax.nn.gelu),
    "MLP of ReLU": _with_rngs(models.MLP, (2, 3, 4)),
    "LeNet": _with_rngs(models.LeNet, (8, 8, 1), filters=(2, 3), hidden=4),
    "LeNet5": _with_rngs(models.LeNet5, (28, 28, 1)),
    "Cifar10Net": _with_rngs(models.Cifar10Net, (10, 10, 3), filters=(2, 3), hidden=4),
    "LanguageModel": _with_rngs(models.LanguageModel, 5, embed_features=2, hidden_features=3, dropout=0.5),
    "RowReader": _with_rngs(models.RowReader, (8, 8, 1), hidden=3, dense=2),
    "TextClassifier": _with_rngs(models.TextClassifier, 5, 3, embed_features=2, hidden_features=3, dropout=0.5),
    "Detector": _with_rngs(models.Detector, 2, 3, width=2, blocks=2),
    "Transcriber": _with_rngs(models.Transcriber, 2, 3, hidden=3, dropout=0.5),
    "Forecaster": _with_rngs(models.Forecaster, 2, 3, kind="gru"),
}


@functools.cache
def made(name):
    """One for all tests, which change none: making one compiles its initialisers."""
    return MODULES[name](0)


def shaped(name):
    """Another one, of shapes instead of arrays."""
    return nnx.eval_shape(functools.partial(MODULES[name], 1))


def _pickled(value):
    return pickle.loads(pickle.dumps(value))


def _plain(state):
    raw = lambda a: jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a  # noqa: E731
    return [np.asarray(raw(a)) for a in jax.tree.leaves(state)]


def test_every_public_module_is_listed():
    listed = {type(shaped(name)).__name__ for name in MODULES}
    public = {n for p in (modules, models) for n in p.__all__ if isinstance(getattr(p, n), type)}
    assert {n for n in public if issubclass(getattr(modules, n, None) or getattr(models, n), nnx.Module)} <= listed


@pytest.mark.parametrize("name", MODULES)
def test_a_graphdef_is_a_static_argument(name):
    graph, state = nnx.split(made(name))
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def count(graph, state):
        traces.append(graph)
        return jnp.float32(0)

    for same in (graph, nnx.graphdef(shaped(name)), _pickled(graph), copy.deepcopy(graph)):
        assert same == graph
        assert hash(same) == hash(graph)
        count(same, state)
    assert len(traces) == 1


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, _pickled])
@pytest.mark.parametrize("name", MODULES)
def test_a_copy_is_the_same_module(name, copied):
    module = made(name)
    graph, state = nnx.split(module)
    for other, rest in (nnx.split(copied(module)), copied((graph, state))):
        assert other == graph
        jax.tree.map(np.testing.assert_array_equal, _plain(rest), _plain(state))


@pytest.mark.parametrize("copied", [copy.deepcopy, _pickled])
@pytest.mark.parametrize("name", RECURRENT)
def test_a_copy_chooses_the_same_algorithm(name, copied):
    layer = made(name)
    other = copied(layer)
    call = {"algorithm": "fused", "deterministic": True}  # raises where it does not serve
    np.testing.assert_array_equal(other(X, **call), layer(X, **call))
    programs = [str(jax.make_jaxpr(functools.partial(m, deterministic=True))(X)) for m in (layer, other)]
    assert programs[0].count("custom_jvp") == programs[1].count("custom_jvp") > 0


def own(a):
    return jnp.sin(a)


@jax.jit
def compiled(a):
    return jnp.sin(a)


@pytest.mark.parametrize("function", [own, compiled, functools.partial(jax.nn.leaky_relu, negative_slope=0.3)])
def test_activations_of_ones_own_keep_working(function):
    layer = modules.RNN(2, 3, activation=function, rngs=nnx.Rngs(0))
    expected, _ = R.rnn(layer.cells[0].arrays(jnp.float32), X, activation=function)
    for other in (layer, copy.deepcopy(layer), _pickled(layer)):
        np.testing.assert_allclose(other(X), expected, rtol=1e-6, atol=1e-6)


def test_a_function_without_a_name_is_copied_but_not_pickled():
    layer = modules.RNN(2, 3, activation=jax.jit(lambda a: jnp.sin(a)), rngs=nnx.Rngs(0))
    assert nnx.graphdef(copy.deepcopy(layer)) == nnx.graphdef(layer)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(layer)


@pytest.mark.parametrize("copied", [copy.deepcopy, _pickled])
def test_parameters_and_states_survive(copied):
    key = jax.random.key(0)
    params = [R.init_rnn(key, 2, 3), R.init_gru(key, 2, 3), R.init_lstm(key, 2, 3, peephole=True, layer_norm=True)]
    states = [p.zero_state((2,), jnp.float32) for p in params]
    tree = (params, states, R.Directions(*params[:2]))
    assert jax.tree.structure(copied(tree)) == jax.tree.structure(tree)
    jax.tree.map(np.testing.assert_array_equal, copied(tree), tree)


def test_lists_and_partial_functions_are_hashable_and_equal_in_copies():
    slope = functools.partial(jax.nn.leaky_relu, negative_slope=0.1)
    for build in (
        lambda: modules.Dense(
            2, 3, kernel_metadata={"axes": ["in", "out"]}, precision=["highest"] * 2, rngs=nnx.Rngs(0)
        ),
        lambda: modules.Conv(2, 3, 3, precision=["highest"] * 2, rngs=nnx.Rngs(0)),
        lambda: modules.RNN(2, 3, activation=slope, rngs=nnx.Rngs(0)),
    ):
        graphs = [
            nnx.graphdef(m) for m in (build(), build(), copy.deepcopy(build()), pickle.loads(pickle.dumps(build())))
        ]
        assert len(set(graphs)) == 1
