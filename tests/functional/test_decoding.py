"""Decoding against plain Python: every sequence enumerated, every step by hand."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnn.functional import decoding

VOCABULARY, END = 4, 3


def _model(seed=0, batch=()):
    """A language model with a memory of two tokens, so that the state matters: `(state, token) -> logits, state`."""
    table = np.random.default_rng(seed).normal(size=(VOCABULARY, VOCABULARY, VOCABULARY)).astype(np.float32) * 2
    logits = jnp.asarray(table)

    def step(state, token):
        return logits[state["last"], token], {"last": token}

    state = {"last": jnp.zeros(batch, jnp.int32)}
    log_probs = np.log(np.exp(np.float64(table)) / np.exp(np.float64(table)).sum(-1, keepdims=True))
    return step, state, log_probs


def _log_prob(log_probs, start, tokens):
    """Log-probability of tokens up to the end token, and how many stand before it."""
    last, now, total = 0, start, 0.0
    for n, token in enumerate(tokens):
        total += log_probs[last, now, token]
        last, now = now, token
        if token == END:
            return total, n
    return total, len(tokens)


@pytest.mark.parametrize("seed", range(3))
def test_greedy_takes_the_most_probable_token_and_stops_each_sequence_at_its_end(seed):
    step, state, log_probs = _model(seed, (3,))
    made = jax.jit(lambda s, t: decoding.greedy(step, s, t, max_length=6, end=END))(state, jnp.array([0, 1, 2]))
    for n in range(3):
        last, now, tokens = 0, n, []
        while len(tokens) < 6 and END not in tokens:
            tokens.append(int(np.argmax(log_probs[last, now])))
            last, now = now, tokens[-1]
        total, length = _log_prob(log_probs, n, tokens)
        assert made.tokens[n].tolist() == tokens + [END] * (6 - len(tokens))
        assert made.lengths[n] == length
        np.testing.assert_allclose(made.log_probs[n], total, rtol=1e-5)


def test_the_loop_stops_when_every_sequence_has_ended():
    calls = []

    def step(state, token):
        jax.debug.callback(lambda: calls.append(None))
        return jnp.broadcast_to(jnp.array([0.0, 1.0]), (*token.shape, 2)), state

    made = decoding.greedy(step, (), jnp.zeros(2, jnp.int32), max_length=100, end=1)
    jax.block_until_ready(made)
    jax.effects_barrier()
    assert len(calls) == 1
    assert made.lengths.tolist() == [0, 0]


def test_without_an_end_token_all_are_of_full_length():
    step, state, _ = _model(0, (2,))
    made = decoding.greedy(step, state, jnp.array([0, 1]), max_length=5)
    assert made.lengths.tolist() == [5, 5]


def test_sampling_follows_the_models_distribution():
    step, state, log_probs = _model(1, (4000,))
    start = jnp.ones(4000, jnp.int32)
    made = decoding.sample(step, state, start, jax.random.key(0), max_length=2, end=END)
    for a, b in product(range(VOCABULARY), repeat=2):
        expected = np.exp(log_probs[0, 1, a]) * ((b == END) if a == END else np.exp(log_probs[1, a, b]))
        got = np.mean((made.tokens[:, 0] == a) & (made.tokens[:, 1] == b))
        assert abs(got - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000) + 1e-9
    for n in range(20):
        total, length = _log_prob(log_probs, 1, made.tokens[n].tolist())
        np.testing.assert_allclose(made.log_probs[n], total, rtol=1e-5)
        assert made.lengths[n] == length


def test_sampling_repeats_with_its_key_and_approaches_greedy_when_cold():
    step, state, _ = _model(2, (8,))
    start = jnp.zeros(8, jnp.int32)

    def draw(seed, **options):
        return decoding.sample(step, state, start, jax.random.key(seed), max_length=6, end=END, **options)

    assert np.array_equal(draw(0).tokens, draw(0).tokens)
    assert not np.array_equal(draw(0).tokens, draw(1).tokens)
    best = decoding.greedy(step, state, start, max_length=6, end=END)
    for options in ({"temperature": 1e-3}, {"top_k": 1}, {"top_p": 1e-6}):
        assert np.array_equal(draw(0, **options).tokens, best.tokens)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 99),
    k=st.none() | st.integers(1, 7),
    p=st.none() | st.floats(0.05, 1.0),
    temperature=st.floats(0.3, 3.0),
)
def test_filters_keep_what_their_definitions_say(seed, k, p, temperature):
    logits = np.random.default_rng(seed).normal(size=(2, 6)).astype(np.float32)
    got = decoding.filter_logits(jnp.asarray(logits), temperature=temperature, top_k=k, top_p=p)
    for row, row_got in zip(np.float64(logits) / temperature, np.asarray(got), strict=True):
        order = np.argsort(-row)
        kept = list(order[: k or 6])
        if p is not None:
            probs = np.exp(row[kept]) / np.exp(row[kept]).sum()
            before = np.concatenate([[0], np.cumsum(probs)[:-1]])
            if np.any(np.abs(before - p) < 1e-5):
                return  # too near to the border for float32 to say
            kept = [token for token, b in zip(kept, before, strict=True) if b < p]
        assert sorted(np.flatnonzero(np.isfinite(row_got))) == sorted(kept)
        np.testing.assert_allclose(row_got[kept], row[kept], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_wide_beam_search_finds_what_enumeration_finds(seed, alpha):
    step, state, log_probs = _model(seed, (2,))
    time, beams = 3, VOCABULARY**3
    made = jax.jit(
        lambda s, t: decoding.beam_search(step, s, t, beams=beams, max_length=time, end=END, length_penalty=alpha)
    )(state, jnp.array([0, 2]))
    for n, start in enumerate((0, 2)):
        ranked = {}
        for tokens in product(range(VOCABULARY), repeat=time):
            total, length = _log_prob(log_probs, start, tokens)
            count = min(length + 1, time)
            whole = tokens[:length] + (END,) * (time - length)
            ranked[whole] = (total / ((5 + count) / 6) ** alpha, total, length)
        want = sorted(ranked.items(), key=lambda item: -item[1][0])
        for b, (tokens, (_, total, length)) in enumerate(want[:5]):
            assert tuple(made.tokens[n, b].tolist()) == tokens
            np.testing.assert_allclose(made.log_probs[n, b], total, rtol=1e-5)
            assert made.lengths[n, b] == length
        assert np.isneginf(made.log_probs[n, len(want) :]).all()


def test_one_beam_is_greedy():
    step, state, _ = _model(4, (3,))
    start = jnp.array([0, 1, 2])
    beam = decoding.beam_search(step, state, start, beams=1, max_length=6, end=END)
    best = decoding.greedy(step, state, start, max_length=6, end=END)
    for a, b in zip(beam, best, strict=True):
        np.testing.assert_allclose(a[:, 0], b, rtol=1e-6)


def test_a_narrow_beam_equals_a_beam_search_in_plain_python():
    step, state, log_probs = _model(5)
    made = decoding.beam_search(step, state, jnp.array(1), beams=2, max_length=4, end=END)
    alive = [((), 0.0)]
    for _ in range(4):
        grown = []
        for tokens, total in alive:
            if END in tokens:
                grown.append((tokens, total))
                continue
            grown += [((*tokens, v), _log_prob(log_probs, 1, (*tokens, v))[0]) for v in range(VOCABULARY)]
        alive = sorted(grown, key=lambda item: -item[1])[:2]
    for b, (tokens, total) in enumerate(alive):
        assert tuple(made.tokens[b].tolist())[: len(tokens)] == tokens
        np.testing.assert_allclose(made.log_probs[b], total, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, s, t: decoding.greedy(m, s, t, max_length=0), "max_length must be at least 1, got 0"),
        (lambda m, s, t: decoding.greedy(m, s, t, max_length=3, end=4), r"end must be .* 0\.\.3, got 4"),
        (lambda m, s, t: decoding.greedy(m, s, t.astype(jnp.float32), max_length=3), "start must hold integers"),
        (lambda m, s, t: decoding.beam_search(m, s, t, beams=0, max_length=3), "beams must be at least 1"),
        (
            lambda m, s, t: decoding.beam_search(
                lambda s, t: (jnp.zeros((2, 4)), s), {"h": jnp.ones(3)}, t, beams=2, max_length=3
            ),
            r"state\['h'\] must have the batch axes of start, \(2,\), first, got shape \(3,\)",
        ),
        (lambda m, s, t: decoding.filter_logits(jnp.ones(3), temperature=0.0), "temperature must be positive"),
        (lambda m, s, t: decoding.filter_logits(jnp.ones(3), top_k=0), "top_k must be at least 1"),
        (lambda m, s, t: decoding.filter_logits(jnp.ones(3), top_p=0.0), r"top_p must lie in \(0, 1\]"),
    ],
)
def test_bad_input_is_named(call, message):
    step, state, _ = _model(0, (2,))
    with pytest.raises(ValueError, match=message):
        call(step, state, jnp.array([0, 1]))
