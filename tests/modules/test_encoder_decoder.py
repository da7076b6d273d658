"""Encoder and decoder: padding, teacher forcing against steps, attention, generation, learning."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnn import functional as F
from jaxnn import modules
from jaxnn.functional import decoding
from jaxnn.modules import Decoder, Dense, Encoder, LSTMCell
from jaxnn.modules.recurrent.tokens import embedding
from tests.modules.own_cells import AVERAGE, Leaky, close, learned, named

TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 7, (3, 6)), jnp.int32)
TARGET = jnp.asarray(np.random.default_rng(1).integers(0, 5, (3, 4)), jnp.int32)
LENGTHS = jnp.array([6, 3, 1])


def trees(features, hidden, *, rngs):
    params = {"decay": jnp.ones(features), "scale": jnp.ones(features)}
    return modules.Cell(AVERAGE._replace(output=lambda params, state: state), params)


def linear(features, hidden, *, rngs):
    return modules.Cell(F.lru_cell(), F.init_lru(rngs.params(), features, hidden))


def _pair(attend=True, **options):
    encoder = Encoder(7, 3, 4, return_state=True, rngs=nnx.Rngs(0), **options)
    options.pop("bidirectional", None)
    decoder = Decoder(5, 3, 4, memory_features=encoder.out_features if attend else None, rngs=nnx.Rngs(1), **options)
    return encoder, decoder


@pytest.mark.parametrize("attend", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"kind": "lstm", "layers": 2},
        {"kind": "gru"},
        {"kind": "rnn", "bidirectional": False},
        {"cell": nnx.OptimizedLSTMCell, "layers": 2},
        {"cell": functools.partial(LSTMCell, projection=3), "layers": 2},
        {"cell": Leaky},
        {"cell": learned, "layers": 2},
    ],
    ids=named,
)
def test_teacher_forcing_equals_a_loop_of_steps(options, attend):
    encoder, decoder = _pair(attend, **options)
    encoded = encoder(TOKENS, lengths=LENGTHS)
    logits, final = decoder(TARGET, encoded)
    state = encoded.state
    step = nnx.jit(lambda m, s, t, e: m.step(s, t, e))
    for t in range(4):
        out, state = step(decoder, state, TARGET[:, t], encoded)
        close(out, logits[:, t])
    close(state, final)


def test_padding_of_what_is_read_has_no_effect():
    encoder, decoder = _pair()
    other = jnp.where(jnp.arange(6)[None] < LENGTHS[:, None], TOKENS, 6)
    a, b = (decoder(TARGET, encoder(t, lengths=LENGTHS))[0] for t in (TOKENS, other))
    np.testing.assert_array_equal(a, b)
    alone, _ = decoder(TARGET[1], encoder(TOKENS[1, :3]))
    close(a[1], alone)


@pytest.mark.parametrize("options", [{"kind": "gru"}, {"cell": learned, "bidirectional": False}], ids=named)
def test_tokens_that_do_not_count_are_as_if_they_were_not_there(options):
    encoder, decoder = _pair(**options)
    counts = jnp.array([[0, 1, 1, 0, 1, 1], [1, 1, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]], bool)
    given = jnp.array([[1, 1, 0, 1], [0, 1, 1, 0], [1, 1, 1, 1]], bool)
    encoded = encoder(TOKENS, mask=counts, lengths=jnp.array([6, 4, 2]))
    logits, final = decoder(TARGET, encoded, mask=given)
    assert not encoded.outputs[2].any()
    for n, time in ((0, 6), (1, 4)):
        tokens, target = TOKENS[n, :time][counts[n, :time]], TARGET[n][given[n]]
        alone = encoder(tokens)
        close(encoded.outputs[n, :time][counts[n, :time]], alone.outputs)
        expected, state = decoder(target, alone)
        close(logits[n][given[n]], expected)
        jax.tree.map(lambda a, b, n=n: np.testing.assert_allclose(a[n], b, rtol=1e-5, atol=1e-6), final, state)
    weights = decoder.attention_weights(TARGET, encoded)
    assert not np.any(np.where(counts[:, None], 0, weights))
    assert not weights[2].any()  # nothing was read


@pytest.mark.optimized
def test_padding_that_embeds_to_nan_reaches_neither_logits_nor_gradients():
    encoder, decoder = _pair(kind="gru")

    @nnx.jit
    def run(encoder, decoder, tokens):
        def loss(models):
            logits, _ = models[1](TARGET, models[0](tokens, lengths=LENGTHS))
            return jnp.sum(jnp.sin(logits)), logits

        return nnx.grad(loss, has_aux=True)((encoder, decoder))

    def padded(token):
        return run(encoder, decoder, jnp.where(jnp.arange(6)[None] < LENGTHS[:, None], TOKENS, token))

    assert np.isnan(encoder.embed(jnp.array([99]))).all()  # a traced token cannot be refused
    for a, b in zip(*(jax.tree.leaves(padded(token)) for token in (99, 0)), strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_attention_weights_sum_to_one_inside_the_lengths():
    encoder, decoder = _pair()
    weights = decoder.attention_weights(TARGET, encoder(TOKENS, lengths=LENGTHS))
    assert weights.shape == (3, 4, 6)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
    assert not weights[1, :, 3:].any()


@pytest.mark.parametrize("method", [{}, {"method": "beam", "beams": 3}])
def test_generation_is_the_search_over_the_decoders_steps(method):
    encoder, decoder = _pair()
    encoded = encoder(TOKENS, lengths=LENGTHS)
    got = nnx.jit(lambda m, e: m.generate(e, start=0, end=1, max_length=5, **method))(decoder, encoded)
    first = got.tokens if not method else got.tokens[:, 0]
    for n in range(3):
        one = jax.tree.map(lambda a, n=n: a[n], encoded)
        search = decoding.beam_search if method else decoding.greedy
        options = {"beams": 3} if method else {}
        alone = search(
            lambda s, t, e=one: decoder.step(s, t, e), one.state, jnp.array(0), max_length=5, end=1, **options
        )
        np.testing.assert_array_equal(first[n], alone.tokens if not method else alone.tokens[0])
    # What was generated has the log-probability that teacher forcing gives it.
    shifted = jnp.concatenate([jnp.zeros((3, 1), jnp.int32), first[:, :-1]], axis=1)
    log_probs = jax.nn.log_softmax(decoder(shifted, encoded)[0])
    of_tokens = jnp.take_along_axis(log_probs, first[..., None], axis=-1)[..., 0]
    lengths = got.lengths if not method else got.lengths[:, 0]
    total = jnp.sum(jnp.where(jnp.arange(5)[None] <= lengths[:, None], of_tokens, 0), axis=1)
    np.testing.assert_allclose(total, got.log_probs if not method else got.log_probs[:, 0], rtol=1e-4)


@pytest.mark.parametrize("cell", [nnx.LSTMCell, functools.partial(LSTMCell, projection=3), Leaky], ids=str)
def test_any_cell_writes_after_a_prompt_and_after_an_encoder(cell):
    decoder = Decoder(5, 3, 4, cell=cell, layers=2, rngs=nnx.Rngs(0))
    whole = decoder.generate(start=jnp.array([0, 2]), max_length=4)
    prompt = jnp.concatenate([jnp.array([[0], [2]]), whole.tokens[:, :2]], axis=1)
    _, state = decoder(prompt[:, :-1])
    rest = decoder.generate(start=prompt[:, -1], state=state, max_length=2, method="beam", beams=1)
    np.testing.assert_array_equal(rest.tokens[:, 0], whole.tokens[:, 2:])
    encoder, decoder = _pair(cell=cell)
    assert decoder.generate(encoder(TOKENS), start=0, end=1, max_length=3).tokens.shape == (3, 3)


def test_sampling_repeats_with_its_key():
    encoder, decoder = _pair()
    encoded = encoder(TOKENS)

    def draw(seed):
        return decoder.generate(
            encoded, start=0, max_length=8, method="sample", key=jax.random.key(seed), temperature=2.0, top_k=4
        ).tokens

    np.testing.assert_array_equal(draw(0), draw(0))
    assert not np.array_equal(draw(0), draw(1))


def test_dropout_only_while_training():
    encoder = Encoder(7, 3, 4, dropout=0.5, rngs=nnx.Rngs(0))
    assert not np.allclose(encoder(TOKENS), encoder(TOKENS))
    encoder.eval()
    np.testing.assert_array_equal(encoder(TOKENS), encoder(TOKENS))


def test_half_precision_runs_through():
    encoder, decoder = _pair(dtype=jnp.bfloat16)
    encoded = encoder(TOKENS, lengths=LENGTHS)
    assert encoded.outputs.dtype == jnp.bfloat16
    assert encoded.state[0].c.dtype == jnp.float32
    assert decoder(TARGET, encoded)[0].dtype == jnp.bfloat16
    assert decoder.generate(encoded, start=0, end=1, max_length=5).tokens.shape == (3, 5)


def test_the_gradient_of_an_embedding_in_half_precision_sums_in_float32():
    """A token that stands in 1000 places: bfloat16 would stop at 256."""
    for param_dtype in (jnp.float32, jnp.bfloat16):
        embed = embedding(3, 2, jnp.bfloat16, param_dtype, nnx.Rngs(0))
        assert embed(jnp.array([0])).dtype == jnp.bfloat16
        gradient = nnx.grad(lambda e: e(jnp.ones((1000,), jnp.int32)).astype(jnp.float32).sum())(embed)
        np.testing.assert_array_equal(gradient.embedding[...].astype(jnp.float32), [[0, 0], [1000, 1000], [0, 0]])


def test_it_learns_to_reverse():
    """Random sequences of 3 letters of 5, to be written backwards."""
    vocabulary, start, time, examples = 6, 5, 3, 128
    rng = np.random.default_rng(0)
    source = jnp.asarray(rng.integers(0, 5, (examples, time)), jnp.int32)
    target = source[:, ::-1]
    rngs = nnx.Rngs(0)
    encoder = Encoder(vocabulary, 8, 16, kind="gru", rngs=rngs)
    decoder = Decoder(vocabulary, 8, 16, kind="gru", memory_features=encoder.out_features, rngs=rngs)
    graph, params = nnx.split((encoder, decoder))
    tx = optax.adam(2e-2)

    def loss(params):
        encoder, decoder = nnx.merge(graph, params)
        given = jnp.concatenate([jnp.full((examples, 1), start), target[:, :-1]], axis=1)
        logits, _ = decoder(given, encoder(source, return_state=True))
        return optax.softmax_cross_entropy_with_integer_labels(logits, target).mean()

    @jax.jit
    def train(params):
        def step(carry, _):
            params, state = carry
            updates, state = tx.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, tx.init(params)), length=200)[0][0]

    with jax.numpy_dtype_promotion("standard"):  # optax is not written for strict promotion
        encoder, decoder = nnx.merge(graph, train(params))
    fresh = jnp.asarray(rng.integers(0, 5, (64, time)), jnp.int32)
    made = decoder.generate(encoder(fresh, return_state=True), start=start, max_length=time)
    assert np.mean(np.all(made.tokens == fresh[:, ::-1], axis=1)) > 0.9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e, d: e(TOKENS + 3), r"tokens: expected tokens of the vocabulary, 0\.\.6"),
        (lambda e, d: e(TOKENS.astype(jnp.float32)), "tokens: expected integers, got float32"),
        (lambda e, d: e(TOKENS, lengths=jnp.array([7, 1, 1])), r"lengths: expected 0\.\.6"),
        (lambda e, d: d(TARGET), "encoded: expected Encoded .* got None"),
        (lambda e, d: d(TARGET[:2], e(TOKENS)), r"state\.h: expected shape \(2, 4\)"),
        (lambda e, d: d.generate(e(TOKENS), start=1.5, max_length=3), "start: expected integers"),
        (lambda e, d: d.generate(e(TOKENS), start=99, max_length=3), "start: expected tokens of the vocabulary"),
        (lambda e, d: d.generate(e(TOKENS), start=0, max_length=3, method="best"), "method: expected one of"),
        (lambda e, d: d.generate(e(TOKENS), start=0, max_length=3, method="sample"), "key: expected a random key"),
        (lambda e, d: e(TOKENS, mask=TOKENS), "mask: expected bool, got int32"),
        (lambda e, d: Encoder(7, 3, 4, cell=nnx.GRUCell(3, 4, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0)), "cell: .* a class"),
        (
            lambda e, d: Encoder(7, 3, 4, cell=trees, rngs=nnx.Rngs(0)),
            r"cell: expected one vector .* \[\(6,\), \(6,\)\]",
        ),
        (lambda e, d: Encoder(7, 3, 4, cell=linear, rngs=nnx.Rngs(0)), "bidirectional: .* got complex64"),
        (lambda e, d: Encoder(7, 3, 4, kind="cnn", rngs=nnx.Rngs(0)), "kind: expected one of 'rnn', 'gru', 'lstm'"),
        (
            lambda e, d: Encoder(7, 3, 4, dropout=1.5, rngs=nnx.Rngs(0)),
            r"dropout: expected .*, got 1.5",
        ),
        (
            lambda e, d: Decoder(5, 3, 4, dropout=-0.1, rngs=nnx.Rngs(0)),
            r"dropout: expected .*, got -0.1",
        ),
        (lambda e, d: Decoder(0, 3, 4, rngs=nnx.Rngs(0)), "vocabulary: expected a whole number of at least 1"),
        (
            lambda e, d: Decoder(5, 3, 4, rngs=nnx.Rngs(0)).attention_weights(TARGET, e(TOKENS)),
            "attention_weights: expected a decoder with attention",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(*_pair())


def test_an_encoder_returns_its_outputs_and_the_state_on_request():
    encoder, decoder = _pair()
    encoded = encoder(TOKENS, lengths=LENGTHS)
    outputs = encoder(TOKENS, lengths=LENGTHS, return_state=False)
    np.testing.assert_array_equal(outputs, encoded.outputs)
    for call in (lambda: decoder(TARGET, outputs), lambda: decoder.attention_weights(TARGET, outputs)):
        with pytest.raises(ValueError, match=r"encoded: expected Encoded, got .*; call the encoder with return_state"):
            call()
    tagger = nnx.Sequential(Encoder(7, 3, 4, rngs=nnx.Rngs(0)), Dense(8, 5, rngs=nnx.Rngs(1)))
    assert tagger(TOKENS).shape == (3, 6, 5)
