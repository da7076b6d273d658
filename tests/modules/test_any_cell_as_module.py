"""`Recurrent` of cells of any make as a module: what is refused, what compiles, dtypes, sharding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnn import functional as F
from jaxnn import modules, testing
from tests.modules.own_cells import AVERAGE, Leaky, average_params, close, same

X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6, 2)), jnp.float32)
LENGTHS = jnp.array([6, 3, 1])


class Dropping(Leaky):
    def __init__(self, *args, rngs):
        super().__init__(*args, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, carry, x):
        return super().__call__(carry, self.drop(x))


class Counting(Leaky):
    def __init__(self, *args, rngs):
        super().__init__(*args, rngs=rngs)
        self.steps = nnx.Variable(jnp.array(0))

    def __call__(self, carry, x):
        self.steps[...] += 1
        return super().__call__(carry, x)


class Random(Leaky):
    def initialize_carry(self, input_shape, rngs=None):
        return jax.random.normal(rngs(), (*input_shape[:-1], 4))


class Alone(Leaky):
    def __call__(self, carry, x):
        return F.LSTMState(*super().__call__(carry, x))


def test_what_would_be_frozen_is_refused():
    rngs = nnx.Rngs(0)
    dropping = modules.Recurrent(Dropping(2, 4, rngs=rngs))
    message = r"cell: expected {} to change nothing but its carry, got another {} after a step; keep it in the carry"
    with pytest.raises(ValueError, match=message.format("Dropping", r"drop\.rngs\.count")):
        dropping(X)
    dropping.eval()
    want = modules.Recurrent(nnx.merge(*nnx.split(Leaky(2, 4, rngs=nnx.Rngs(0)))))(X)
    close(dropping(X), want)
    with pytest.raises(ValueError, match=message.format("Counting", "steps")):
        modules.Recurrent(Counting(2, 4, rngs=rngs))(X)


def test_a_random_start_is_given_or_refused():
    cell = Random(2, 4, rngs=nnx.Rngs(0))
    layer = modules.Recurrent(cell)
    message = "cell: expected an initialize_carry that draws nothing"
    with pytest.raises(ValueError, match=message):
        layer(X)
    start = cell.initialize_carry((3, 2), nnx.Rngs(5).carry)
    close(layer(X, state=(start,)), nnx.RNN(cell)(X, initial_carry=start))
    with pytest.raises(ValueError, match=message):
        layer(X, state=(start,), resets=jnp.zeros((3, 6), bool))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: modules.Recurrent([]), "cells: expected at least one cell, got none"),
        (lambda: modules.Recurrent(F.lstm_cell()), "cells: expected module cells, got a functional Cell"),
        (lambda: modules.Recurrent(nnx.GRUCell), "with initialize_carry, got GRUCell; make an instance"),
        (lambda: modules.Recurrent([nnx.Linear(2, 2, rngs=nnx.Rngs(0))]), "with initialize_carry, got Linear"),
        (lambda: modules.Cell(F.lstm, {}), "cell: expected a functional Cell, got function"),
        (
            lambda: modules.Recurrent(Leaky(2, 4, rngs=nnx.Rngs(0)), dropout=1.0),
            r"dropout: expected a real number in \[0, 1\)",
        ),
        (
            lambda: modules.Recurrent([Leaky(2, 2, rngs=nnx.Rngs(0))] * 2, dropout=0.5)(X),
            "rngs: expected a stream for dropout, got None",
        ),
        (
            lambda: modules.Recurrent(Alone(2, 4, rngs=nnx.Rngs(0)))(X),
            r"cell: expected Alone to return \(carry, y\), got LSTMState",
        ),
        (
            lambda: modules.Recurrent(nnx.GRUCell(2, 4, rngs=nnx.Rngs(0)))(X, state=(jnp.zeros((3, 5)),)),
            r"expected shape \(3, 4\)",
        ),
        (
            lambda: modules.Recurrent(nnx.LSTMCell(2, 4, rngs=nnx.Rngs(0)))(X, state=(jnp.zeros((3, 4)),)),
            "state: expected tuple, got an array",
        ),
        (
            lambda: modules.Recurrent(nnx.GRUCell(2, 4, rngs=nnx.Rngs(0)))(X, algorithm="fused"),
            "algorithm='fused' has no fused form of this cell",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("cell", [nnx.GRUCell, Leaky, modules.LSTMCell])
def test_nothing_compiles_anew(cell):
    make = functools.partial(cell, 2, 4)
    layer = modules.Recurrent(make(rngs=nnx.Rngs(0)))
    for again in (layer, modules.Recurrent(make(rngs=nnx.Rngs(1)))):
        assert nnx.graphdef(again) == nnx.graphdef(layer)
        assert hash(nnx.graphdef(again)) == hash(nnx.graphdef(layer))
    traces = []

    @nnx.jit
    def run(layer, x):
        traces.append(x)
        return layer(x, lengths=LENGTHS)

    for _ in range(2):
        run(layer, X)
        layer(X, lengths=LENGTHS)
    assert len(traces) == 1
    other = modules.Recurrent(make(rngs=nnx.Rngs(1)))
    with testing.record_compilations() as names:
        layer(X, lengths=LENGTHS)
        other(X, lengths=LENGTHS)
        run(other, X)
    assert not names
    assert len(traces) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: modules.Recurrent([nnx.LSTMCell(2, 4, rngs=nnx.Rngs(0)), modules.GRUCell(4, 3, rngs=nnx.Rngs(0))]),
        lambda: modules.LSTM(2, 4, layers=2, bidirectional=True, rngs=nnx.Rngs(0)),
        lambda: modules.Encoder(7, 3, 4, cell=nnx.OptimizedLSTMCell, layers=2, rngs=nnx.Rngs(0)),
    ],
)
def test_a_layer_may_be_made_as_shapes_alone(make):
    abstract, real = nnx.eval_shape(make), make()
    assert nnx.graphdef(abstract) == nnx.graphdef(real)
    shapes = [jax.tree.map(lambda a: (a.shape, a.dtype), nnx.to_pure_dict(nnx.state(m))) for m in (abstract, real)]
    assert shapes[0] == shapes[1]


def test_dtypes_are_those_of_the_cell():
    init = jax.nn.initializers.normal()  # Flax's orthogonal one knows no half precision
    half = {"dtype": jnp.bfloat16, "param_dtype": jnp.bfloat16, "recurrent_kernel_init": init}
    cell = nnx.GRUCell(2, 4, **half, rngs=nnx.Rngs(0))
    y, (state,) = modules.Recurrent(cell)(X, return_state=True)
    assert (y.dtype, state.dtype) == (jnp.bfloat16, jnp.bfloat16)
    params = {"decay": jnp.ones(2), "scale": jnp.ones(2), "count": jnp.array(3)}
    half = modules.Cell(AVERAGE, params, dtype=jnp.bfloat16)
    assert {a.dtype for a in jax.tree.leaves(half.arrays(jnp.bfloat16))} == {
        jnp.dtype(jnp.bfloat16),
        jnp.dtype(jnp.int32),
    }
    assert modules.Recurrent(half)(X).dtype == jnp.bfloat16


def test_parameters_may_be_variables_that_are_not_trained():
    params = average_params(0, 2)
    cell = modules.Cell(AVERAGE, params | {"scale": nnx.BatchStat(params["scale"])})
    assert len(jax.tree.leaves(nnx.state(cell, nnx.Param))) == 1
    same(modules.Recurrent(cell)(X), F.recurrent(AVERAGE, params, X)[0])


@pytest.mark.skipif(jax.device_count() < 4, reason="needs four devices")
def test_a_cell_of_flax_is_sharded_as_it_says():
    mesh = jax.make_mesh((4,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    init = nnx.with_partitioning(jax.nn.initializers.lecun_normal(), (None, "model"))
    alone = modules.Recurrent(nnx.GRUCell(2, 4, kernel_init=jax.nn.initializers.lecun_normal(), rngs=nnx.Rngs(0)))
    with jax.set_mesh(mesh):
        layer = modules.Recurrent(nnx.GRUCell(2, 4, kernel_init=init, rngs=nnx.Rngs(0)))
        kernel = layer.cells[0].dense_i.kernel
        assert kernel.get_metadata("out_sharding") == (None, "model")
        assert len(kernel[...].sharding.device_set) == 4
        y = nnx.jit(lambda m, x: m(x))(layer, X)
    close(np.asarray(y), alone(X))


def test_equal_functional_cells_make_equal_modules():
    make = functools.partial(modules.Cell, params=average_params(0))
    assert nnx.graphdef(make(AVERAGE)) == nnx.graphdef(make(F.Cell(*AVERAGE)))
    assert make(AVERAGE).cell == AVERAGE
    lstm = modules.LSTMCell(2, 3, rngs=nnx.Rngs(0))
    assert lstm.cell == F.lstm_cell()
