"""A second equal eager call compiles nothing, and one that differs is never mistaken for it."""

import copy
import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnn import functional as F
from jaxnn import models, modules, testing
from jaxnn.functional.bound import Bound
from jaxnn.functional.programs import lasting, once

KEY = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3)), jnp.float32)
PARAMS = {"rnn": F.init_rnn(KEY, 3, 3), "gru": F.init_gru(KEY, 3, 3), "lstm": F.init_lstm(KEY, 3, 3)}
LENGTHS = jnp.array([4, 2])


def squared(a):
    return a * a


def recurrent(kind):
    layer, params = getattr(F, kind), PARAMS[kind]
    return {
        kind: lambda p: layer(p, X, lengths=LENGTHS),
        f"{kind} scanned": lambda p: layer(p, X, algorithm="scan", reverse=True, remat=2),
        f"{kind} own activation": lambda p: layer(p, X, activation=squared),
        f"{kind} bidirectional": lambda p: F.bidirectional(layer, p, p, X),
        f"{kind} stack": lambda p: F.stack(layer, [p, p], X, dropout=0.5, key=KEY),
    }, params


CASES = {name: (call, params) for calls, params in map(recurrent, PARAMS) for name, call in calls.items()}


@pytest.mark.parametrize("name", CASES)
def test_recurrent_layers_and_their_gradients(name):
    call, params = CASES[name]

    def twice():
        return call(params), jax.grad(lambda p: call(p)[0].sum())(params)

    first = twice()
    with testing.record_compilations() as compiled:
        second = twice()
    assert compiled == []
    jax.tree.map(np.testing.assert_array_equal, first, second)


def step_of(table):
    return lambda state, token: (table[token] + state[:, None], state + 1)


DECODING = {
    "greedy": F.greedy,
    "sample": partial(F.sample, key=KEY, temperature=0.7, top_k=3, top_p=0.9),
    "beam": partial(F.beam_search, beams=2, length_penalty=0.5),
}


@pytest.mark.parametrize("method", DECODING)
def test_decoding_whatever_object_the_step_is(method):
    def generate(table):
        return DECODING[method](step_of(table), jnp.zeros(2), jnp.array([0, 1]), max_length=4, end=2)

    tables = [jnp.asarray(np.random.default_rng(seed).normal(size=(4, 4)), jnp.float32) for seed in range(2)]
    first = generate(tables[0])
    with testing.record_compilations() as compiled:
        again, other = generate(tables[0]), generate(tables[1])
    assert compiled == []
    jax.tree.map(np.testing.assert_array_equal, first, again)
    with jax.disable_jit():
        expected = DECODING[method](step_of(tables[1]), jnp.zeros(2), jnp.array([0, 1]), max_length=4, end=2)
    np.testing.assert_array_equal(other.tokens, expected.tokens)
    np.testing.assert_allclose(other.log_probs, expected.log_probs, rtol=1e-5)


def test_a_model_that_has_learned_in_between_writes_by_its_new_parameters():
    model = models.LanguageModel(5, embed_features=2, hidden_features=3, rngs=nnx.Rngs(0))
    prompt = jnp.array([[1, 2]])
    first = model.generate(prompt, KEY, max_length=3)
    model.out.bias[...] = jnp.array([0.0, 0, 0, 0, 50])
    with testing.record_compilations() as compiled:
        second = model.generate(prompt, KEY, max_length=3)
    assert compiled == []
    assert second.tokens.tolist() == [[4, 4, 4]]
    assert first.tokens.tolist() != second.tokens.tolist()


def test_a_decoder_writes_without_compiling_again():
    encoder = modules.Encoder(7, 3, 4, return_state=True, rngs=nnx.Rngs(0))
    decoder = modules.Decoder(7, 3, 4, memory_features=8, rngs=nnx.Rngs(0))
    encoded = encoder(jnp.ones((2, 4), int), lengths=LENGTHS)
    decoder.generate(encoded, start=0, max_length=3)
    with testing.record_compilations() as compiled:
        decoder.generate(encoder(jnp.ones((2, 4), int), lengths=LENGTHS), start=0, max_length=3)
    assert compiled == []


def test_an_activation_that_holds_something_is_seen_to_change():
    class Slope:
        value = 0.5

        def __call__(self, a):
            return self.value * a

    slope = Slope()
    rnn = partial(F.rnn, PARAMS["rnn"], X)
    for value in (0.5, 0.25):
        slope.value = value
        expected, _ = rnn(activation=lambda a, value=value: value * a, algorithm="scan")
        for activation in (slope, slope.__call__):
            np.testing.assert_allclose(rnn(activation=activation)[0], expected, rtol=1e-6)


def test_an_activation_may_close_over_what_is_differentiated():
    def loss(slope):
        return F.rnn(PARAMS["rnn"], X, activation=lambda a: slope * a)[0].sum()

    eager, step = jax.grad(loss)(0.5), 1e-2
    np.testing.assert_allclose(eager, jax.jit(jax.grad(loss))(0.5), rtol=1e-5)
    np.testing.assert_allclose(eager, (loss(0.5 + step) - loss(0.5 - step)) / (2 * step), rtol=1e-3)
    mapped = jax.vmap(loss)(jnp.array([0.5, 0.25]))
    np.testing.assert_allclose(mapped, [loss(0.5), loss(0.25)], rtol=1e-5)


def test_programs_that_call_python_are_kept_apart():
    def call(factor):
        return once(lambda x: jax.pure_callback(lambda a: factor * a, x, x), jnp.ones(2))

    np.testing.assert_array_equal(call(np.float32(2)), [2, 2])
    np.testing.assert_array_equal(call(np.float32(3)), [3, 3])


def test_constants_in_a_program_tell_it_from_others():
    def call(held):
        return once(lambda x: x + held, jnp.zeros(1000))

    for seed in range(3):
        held = np.random.default_rng(seed).normal(size=1000).astype(np.float32)
        np.testing.assert_array_equal(call(held), held)


def test_which_functions_last():
    class Holder:
        def method(self, a):
            return a

        jitted = jax.jit(method, static_argnums=0)

    known = (
        partial(squared, window=((1, 2), "SAME", None)),
        jnp.tanh,
        jax.nn.relu,
        jax.nn.gelu,
        jax.lax.tanh,
        squared,
        jax.jit(lambda a: a),
    )
    assert all(map(lasting, (*known, partial(jax.nn.leaky_relu, negative_slope=0.1))))
    unknown = (lambda a: a, Holder().method, Holder().jitted, partial(squared, X), partial(squared, window=(1, X)))
    assert not any(map(lasting, unknown))


def test_equal_options_make_equal_functions():
    assert Bound(squared, a=1) == Bound(squared, a=1)
    assert hash(Bound(squared, a=1)) == hash(Bound(squared, a=1))
    assert Bound(squared, a=1) != Bound(squared, a=2)
    assert Bound(squared, a=1) != partial(squared, a=1)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda cell: pickle.loads(pickle.dumps(cell))])
@pytest.mark.parametrize("name", ["rnn", "gru", "lstm", "conv_lstm", "slstm", "mingru", "minlstm", "lru"])
def test_cells_stay_equal_when_copied_and_pickled(name, copied):
    """Those with functions of JAX too, of which `copy` makes others and which `pickle` refuses."""
    size = ((3, 3),) if name == "conv_lstm" else ()
    cells = [getattr(F, f"{name}_cell")(*size)]
    if name in ("rnn", "gru", "lstm"):
        cells.append(getattr(F, f"{name}_cell")(activation=partial(jax.nn.leaky_relu, negative_slope=0.1)))
    for cell in cells:
        assert copied(cell) == cell
        assert hash(copied(cell)) == hash(cell)
