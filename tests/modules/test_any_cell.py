"""`Recurrent` of cells of any make, Flax's and a person's own: what `nnx.RNN` gives is the truth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnn import functional as F
from jaxnn import modules
from tests.modules.own_cells import AVERAGE, Leaky, Scaled, average_params, close

X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6, 2)), jnp.float32)
LENGTHS = jnp.array([6, 3, 1])
INSIDE = jnp.arange(6)[None] < LENGTHS[:, None]

MAKE = {
    "nnx.LSTMCell": lambda rngs: nnx.LSTMCell(2, 4, rngs=rngs),
    "nnx.OptimizedLSTMCell": lambda rngs: nnx.OptimizedLSTMCell(2, 4, rngs=rngs),
    "nnx.GRUCell": lambda rngs: nnx.GRUCell(2, 4, rngs=rngs),
    "nnx.SimpleCell": lambda rngs: nnx.SimpleCell(2, 4, rngs=rngs),
    "a module of one's own": lambda rngs: Leaky(2, 4, rngs=rngs),
    "a functional cell of one's own": lambda rngs: modules.Cell(AVERAGE, average_params(0, 2)),
    "a subclass of one's own": lambda rngs: Scaled(2, 4, rngs=rngs),
    "RNNCell": lambda rngs: modules.RNNCell(2, 4, rngs=rngs),
    "GRUCell": lambda rngs: modules.GRUCell(2, 4, rngs=rngs),
    "LSTMCell": lambda rngs: modules.LSTMCell(2, 4, projection=3, rngs=rngs),
}
every_cell = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
OF_FLAX = ("nnx.GRUCell", "a module of one's own")


def _carry(cell, seed=0):
    """A carry that is not zero."""
    carry = cell.initialize_carry((3, 2), nnx.Rngs(0))
    return jax.tree.map(lambda a: 0.3 * jax.random.normal(jax.random.key(seed), a.shape, a.dtype), carry)


@every_cell
def test_a_layer_of_any_cell_is_flax_rnn_of_it(make):
    cell = make(nnx.Rngs(0))
    start = _carry(cell)
    flax = nnx.RNN(cell, return_carry=True)

    @nnx.jit
    def theirs(flax, x, start):
        swapped = jnp.swapaxes(x, 0, 1)
        return (
            flax(x),
            flax(swapped, time_major=True, initial_carry=start),
            flax(x, seq_lengths=LENGTHS, initial_carry=start),
            flax(x, seq_lengths=LENGTHS, reverse=True, keep_order=True),
        )

    @nnx.jit
    def ours(layer, x, start):
        swapped = jnp.swapaxes(x, 0, 1)
        runs = (
            layer(x),
            layer(swapped, time_major=True, state=(start,)),
            layer(x, lengths=LENGTHS, state=(start,)),
            layer(x, lengths=LENGTHS, reverse=True),
        )
        return [(state, y) for y, (state,) in runs]

    want, got = theirs(flax, X, start), ours(modules.Recurrent(cell, return_state=True), X, start)
    close(tuple(got[:2]), want[:2])
    for (state, y), (want_state, want_y) in zip(got[2:], want[2:], strict=True):
        close(state, want_state)
        close(y[INSIDE], want_y[INSIDE])
        assert not y[~INSIDE].any()


@every_cell
def test_both_directions_are_flax_bidirectional(make):
    rngs = nnx.Rngs(0)
    forward, backward = make(rngs), make(rngs)
    flax = nnx.Bidirectional(nnx.RNN(forward), nnx.RNN(backward), return_carry=True)
    layer = modules.Recurrent(F.Directions(forward, backward), return_state=True)
    states, want = nnx.jit(lambda m, x: m(x, seq_lengths=LENGTHS))(flax, X)
    y, (state,) = nnx.jit(lambda m, x: m(x, lengths=LENGTHS))(layer, X)
    close(y[INSIDE], want[INSIDE])
    close(tuple(state), states)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_our_cells_are_flax_cells_of_the_same_weights_inside_nnx_rnn(kind):
    ours, theirs = {
        "lstm": (modules.LSTMCell, nnx.OptimizedLSTMCell),
        "gru": (modules.GRUCell, nnx.GRUCell),
        "rnn": (modules.RNNCell, nnx.SimpleCell),
    }[kind]
    ours, theirs = ours(2, 4, rngs=nnx.Rngs(0)), theirs(2, 4, rngs=nnx.Rngs(1))
    theirs.dense_i.kernel[...], theirs.dense_h.kernel[...] = ours.params.w_x[...], ours.params.w_h[...]
    (theirs.dense_h if kind == "lstm" else theirs.dense_i).bias[...] = ours.params.b[...]
    run = nnx.jit(lambda cell, x: nnx.RNN(cell)(x, seq_lengths=LENGTHS, reverse=True, keep_order=True))
    close(run(ours, X), run(theirs, X))


def test_the_rest_of_what_flax_offers_serves_our_cells():
    """Outputs in the order of the way back, any batch axes, another way to merge."""
    forward, backward = modules.GRUCell(2, 4, rngs=nnx.Rngs(0)), modules.GRUCell(2, 4, rngs=nnx.Rngs(1))
    several = jnp.stack([X, -X])

    @nnx.jit
    def theirs(forward, backward):
        there, back = nnx.RNN(forward), nnx.RNN(backward, time_major=True, reverse=True)
        add = nnx.Bidirectional(there, nnx.RNN(backward), merge_fn=jnp.add)
        return there(several), there(X[0]), back(jnp.swapaxes(X, 0, 1)), add(X)

    @nnx.jit
    def ours(forward, backward):
        there, back = modules.Recurrent(forward), modules.Recurrent(backward)
        behind = back(X, reverse=True)
        return there(several), there(X[0]), jnp.swapaxes(behind, 0, 1)[::-1], there(X) + behind

    close(ours(forward, backward), theirs(forward, backward))


def test_a_carry_is_what_flax_asks_for():
    cell = modules.LSTMCell(2, 4, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    carry = cell.initialize_carry((3, 5, 2), nnx.Rngs(0))
    assert (carry.h.shape, carry.h.dtype, carry.c.dtype) == ((3, 5, 4), jnp.bfloat16, jnp.float32)
    assert nnx.RNN(cell)(X).dtype == jnp.bfloat16
    drawn = cell.initialize_carry((3, 2), nnx.Rngs(0), jax.nn.initializers.normal())
    assert jax.tree.map(lambda a: a.dtype, drawn) == jax.tree.map(lambda a: a.dtype, carry)
    assert all(a.any() for a in jax.tree.leaves(drawn))
    with pytest.raises(ValueError, match="rngs: expected a stream for carry_init, got None"):
        cell.initialize_carry((3, 2), None, jax.nn.initializers.normal())
    assert isinstance(cell, nnx.RNNCellBase)
    assert cell.num_feature_axes == 1


@pytest.mark.parametrize("name", OF_FLAX)
def test_every_option_serves_a_cell_of_another_make(name):
    """Masks, resets, remat, truncation and chunks, against runs of the parts."""
    layer = modules.Recurrent(MAKE[name](nnx.Rngs(0)), return_state=True)
    run = nnx.jit(lambda m, x, **options: m(x, **options), static_argnames=("remat", "truncate"))
    y, final = run(layer, X)
    close(run(layer, X, remat=4), (y, final))
    close(run(layer, X, truncate=2), (y, final))
    first, state = run(layer, X[:, :2])
    second, last = run(layer, X[:, 2:], state=state)
    close((jnp.concatenate([first, second], axis=1), last), (y, final))
    reset, last = run(layer, X, resets=jnp.zeros((3, 6), bool).at[:, 2].set(True))
    close((reset, last), ((lambda y, s: (jnp.concatenate([first, y], axis=1), s))(*run(layer, X[:, 2:]))))
    counts = jnp.array([True, False, True, True, False, True])
    masked, last = run(layer, jnp.where(counts[:, None], X, jnp.nan), mask=jnp.broadcast_to(counts, (3, 6)))
    alone, end = run(layer, X[:, counts])
    close((masked[:, counts], last), (alone, end))
    assert not masked[:, ~counts].any()


@pytest.mark.parametrize("name", OF_FLAX)
def test_gradients_are_those_through_nnx_rnn(name):
    cell = MAKE[name](nnx.Rngs(0))

    def gradients(layer):
        return nnx.jit(nnx.grad(lambda cell, x: jnp.sum(jnp.sin(layer(cell)(x))), argnums=(0, 1)))(cell, X)

    (ours, of_x), (theirs, of_theirs) = gradients(modules.Recurrent), gradients(nnx.RNN)
    close((nnx.to_pure_dict(ours), of_x), (nnx.to_pure_dict(theirs), of_theirs))


@every_cell
def test_a_loop_of_steps_equals_the_whole_call(make):
    first = make(nnx.Rngs(0))
    second = modules.Recurrent(first)(X).shape[-1]
    cells = [first, nnx.GRUCell(second, 3, rngs=nnx.Rngs(1))]
    layer = modules.Recurrent(cells)
    y, final = nnx.jit(lambda m, x: m(x, return_state=True))(layer, X)
    state = tuple(cell.initialize_carry((3, n), nnx.Rngs(0)) for cell, n in zip(cells, (2, second), strict=True))
    step = nnx.jit(lambda m, s, x: m.step(s, x, return_output=True))
    for t in range(6):
        state, out = step(layer, state, X[:, t])
        close(out, y[:, t])
    close(state, final)
    close(layer.step(state, X[:, 0]), step(layer, state, X[:, 0])[0])


class Ones(modules.GRUCell):
    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return F.GRUState(jnp.ones((*input_shape[:-1], 4)))


def test_the_zero_state_of_flax_cells():
    layer = modules.Recurrent([nnx.LSTMCell(2, 4, rngs=nnx.Rngs(0)), modules.GRUCell(4, 3, rngs=nnx.Rngs(0))])
    (c, h), second = layer.zero_state((5,))
    assert (c.shape, h.shape, second.h.shape) == ((5, 4), (5, 4), (5, 3))
    with pytest.raises(ValueError, match="zero_state: expected cells with an attribute in_features, got Leaky without"):
        modules.Recurrent(Leaky(2, 4, rngs=nnx.Rngs(0))).zero_state((5,))
    with pytest.raises(ValueError, match="got Ones without; set self"):
        modules.Recurrent(Ones(2, 4, rngs=nnx.Rngs(0))).zero_state((5,))


def test_directions_may_be_unlike():
    rngs = nnx.Rngs(0)
    forward, backward = nnx.GRUCell(2, 3, rngs=rngs), modules.LSTMCell(2, 4, rngs=rngs)
    y = modules.Recurrent(F.Directions(forward, backward))(X)
    ways = [modules.Recurrent(forward)(X), modules.Recurrent(backward)(X, reverse=True)]
    close(y, jnp.concatenate(ways, axis=-1))


def test_features_may_have_axes():
    """A cell of pictures as Flax has them, and a functional one."""

    class Blur(nnx.Module):
        num_feature_axes = 2

        def __init__(self):
            self.decay = nnx.Param(jnp.array(0.5))

        def initialize_carry(self, input_shape, rngs=None):
            return jnp.zeros(input_shape)

        def __call__(self, carry, x):
            carry = self.decay[...] * carry + x
            return carry, carry.sum(-1)

    pictures = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6, 4, 5)), jnp.float32)
    cell = Blur()
    close(modules.Recurrent(cell)(pictures), nnx.RNN(cell)(pictures))
    functional = F.Cell(
        lambda p, batch, dtype: jnp.zeros((*batch, 4, 5), dtype), lambda p, s, x: p * s + x, feature_axes=2
    )
    cell = modules.Cell(functional, jnp.array(0.5))
    assert cell.num_feature_axes == 2
    y, state = modules.Recurrent(cell, return_state=True)(pictures)
    close(y.sum(-1), modules.Recurrent(Blur())(pictures))
    carry, outputs = nnx.RNN(cell, return_carry=True)(pictures)
    close((y, state[0]), (outputs, carry))
