"""The language model: streaming, generation, dropout, learning."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnn.models import LanguageModel
from tests.modules.own_cells import Leaky, close, learned, named

TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 7, (3, 12)), jnp.int32)


def _model(**options):
    sizes = {"embed_features": 4, "hidden_features": 6} | options
    return LanguageModel(7, **sizes, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    "options",
    [
        {"layers": 2},
        {"kind": "gru"},
        {"cell": nnx.OptimizedLSTMCell, "layers": 2},
        {"cell": learned, "layers": 2},
        {"cell": Leaky},
    ],
    ids=named,
)
def test_chunks_and_single_steps_with_the_state_carried_equal_one_long_pass(options):
    model = _model(**options)
    whole, final = model(TOKENS)
    state, parts = None, []
    for start, stop in ((0, 5), (5, 6), (6, 12)):
        logits, state = model(TOKENS[:, start:stop], state)
        parts.append(logits)
    close(jnp.concatenate(parts, 1), whole)
    close(state, final)
    state = model.zero_state((3,))
    step = nnx.jit(lambda m, s, t: m.step(s, t))
    for t in range(12):
        logits, state = step(model, state, TOKENS[:, t])
        close(logits, whole[:, t])


@pytest.mark.parametrize("options", [{}, {"cell": nnx.GRUCell}, {"cell": learned, "layers": 2}], ids=named)
def test_generation_follows_the_models_own_distribution_after_the_prompt(options):
    model = _model(**options)
    made = model.generate(TOKENS, jax.random.key(1), max_length=5, top_k=1)
    text = TOKENS
    for t in range(5):  # with top_k=1 every token is the most probable one
        best = jnp.argmax(model(text)[0][:, -1], axis=-1).astype(jnp.int32)
        np.testing.assert_array_equal(made.tokens[:, t], best)
        text = jnp.concatenate([text, best[:, None]], axis=1)


def test_generation_is_the_same_for_the_same_key_and_continues_from_a_state():
    model = _model()
    a, b, c = (model.generate(TOKENS, jax.random.key(k), max_length=9).tokens for k in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    _, state = model(TOKENS[:, :8])
    resumed = model.generate(TOKENS[:, 8:], jax.random.key(1), max_length=9, state=state).tokens
    np.testing.assert_array_equal(resumed, a)


@pytest.mark.parametrize("options", [{}, {"cell": Leaky, "layers": 2}], ids=named)
def test_generation_needs_no_batch_axes_and_ignores_dropout(options):
    model = _model(dropout=0.5, **options)
    one = model.generate(TOKENS[0], jax.random.key(0), max_length=4).tokens
    model.eval()
    np.testing.assert_array_equal(one, model.generate(TOKENS[0], jax.random.key(0), max_length=4).tokens)
    assert one.shape == (4,)


@pytest.mark.parametrize("options", [{}, {"cell": learned}], ids=named)
def test_dropout_has_one_mask_for_all_steps_of_a_call(options):
    model = _model(dropout=0.5, **options)
    model.out.kernel[...] = jnp.zeros((6, 7)).at[:6, :6].set(jnp.eye(6))  # so that logits show what was dropped
    logits, _ = model(TOKENS)
    dropped = np.asarray(logits[..., :6] == 0)
    assert (dropped == dropped[:, :1]).all()
    assert 0 < dropped.mean() < 1
    model.eval()
    assert not (model(TOKENS)[0][..., :6] == 0).any()


def test_computing_in_bfloat16_keeps_the_cell_state_in_float32():
    model = _model(dtype=jnp.bfloat16)
    logits, (state,) = model(TOKENS)
    assert (logits.dtype, state.h.dtype, state.c.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
    assert model.generate(TOKENS, jax.random.key(0), max_length=3).tokens.dtype == jnp.int32


def test_it_learns_to_count():
    model = _model(hidden_features=16)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    tx = optax.adam(0.03)
    text = (jnp.arange(20)[None] + jnp.arange(7)[:, None]) % 7

    def loss(params):
        logits, _ = nnx.merge(graphdef, params, rest)(text[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, text[:, 1:]).mean()

    @jax.jit
    def learn(params):
        def body(carry, _):
            params, state = carry
            updates, state = tx.update(jax.grad(loss)(params), state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(body, (params, tx.init(params)), None, length=60)[0][0]

    with jax.numpy_dtype_promotion("standard"):  # as Optax needs
        params = learn(params)
    nnx.update(model, params)
    made = model.generate(jnp.array([[3, 4]]), jax.random.key(0), max_length=10, temperature=0.1)
    assert made.tokens[0].tolist() == [5, 6, 0, 1, 2, 3, 4, 5, 6, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _model(dropout=1.0), "dropout: expected a real number"),
        (lambda: _model(kind="lstn"), "kind: expected one of"),
        (lambda: _model(cell=nnx.LSTMCell(4, 6, rngs=nnx.Rngs(0))), "cell: expected a function"),
        (lambda: _model(embed_features=0), "embed_features: expected a whole number of at least 1"),
        (lambda: _model()(jnp.array([[7]])), r"tokens: expected tokens of the vocabulary, 0\.\.6"),
        (lambda: _model()(jnp.ones((2, 3))), "tokens: expected integers"),
        (lambda: _model()(TOKENS, _model().zero_state((2,))), r"state\.h.* shape"),
        (lambda: _model().generate(TOKENS[:, :0], jax.random.key(0), max_length=3), "prompt: expected at least one"),
        (lambda: _model().generate(TOKENS, jax.random.key(0), max_length=0), "max_length: expected a whole number"),
        (lambda: _model().generate(TOKENS, jax.random.key(0), max_length=3, temperature=0), "temperature: expected"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
