"""Decoding against plain Python: every sequence enumerated, every step by hand."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.functional import decoding, filter_logits

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


def test_the_state_may_be_a_python_number():
    def step(state, token):
        return jax.nn.one_hot(token + state, 5), state

    made = decoding.beam_search(step, 1, jnp.array(0), beams=1, max_length=3)
    assert made.tokens[0].tolist() == decoding.greedy(step, 1, jnp.array(0), max_length=3).tokens.tolist() == [1, 2, 3]


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


def test_a_longer_sample_begins_with_the_shorter_one_and_uses_no_key_twice():
    step, state, _ = _model(batch=(2,))
    with jax.debug_key_reuse(True):
        short, long = (decoding.sample(step, state, jnp.zeros(2, int), jax.random.key(0), max_length=n) for n in (3, 5))
    np.testing.assert_array_equal(long.tokens[:, :3], short.tokens)


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


def _near_ties(vocabulary=6, steps=50, seed=0):
    """`(step, logits)`: logits `(steps, vocabulary, vocabulary)`, the best two of each row neighbours in float32."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(steps, vocabulary, vocabulary)).astype(np.float32)
    first, second = np.sort(rng.permuted(np.tile(np.arange(vocabulary), (steps, vocabulary, 1)), axis=-1)[..., :2]).T
    best = table.max(-1).T + np.float32(0.25)
    rows = np.ix_(range(vocabulary), range(steps))
    table[rows[1], rows[0], first] = best
    table[rows[1], rows[0], second] = np.nextafter(best, np.float32(np.inf))  # the later of the two is the better one
    logits = jnp.asarray(table)

    def step(t, token):
        return logits[t % steps, token], t + 1

    return step, table


@pytest.mark.optimized
@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_one_beam_is_greedy_over_long_sequences_with_near_ties(alpha):
    step, table = _near_ties()
    state, start = jnp.zeros(3, jnp.int32), jnp.array([0, 1, 2])
    best = decoding.greedy(step, state, start, max_length=2000)
    beam = decoding.beam_search(step, state, start, beams=1, max_length=2000, length_penalty=alpha)
    np.testing.assert_array_equal(beam.tokens[:, 0], best.tokens)
    exact = np.float64(table) - np.log(np.exp(np.float64(table)).sum(-1, keepdims=True))
    for n in range(3):
        tokens = best.tokens[n].tolist()
        total = sum(exact[t % 50, a, b] for t, (a, b) in enumerate(zip([n, *tokens], tokens, strict=False)))
        np.testing.assert_allclose([best.log_probs[n], beam.log_probs[n, 0]], total, rtol=3e-7)


@pytest.mark.optimized
@pytest.mark.parametrize("seed", range(2))
def test_several_beams_over_a_long_sequence_equal_a_search_in_float64(seed):
    step, table = _near_ties(seed=seed)
    made = decoding.beam_search(step, jnp.int32(0), jnp.array(1), beams=3, max_length=400)
    exact = np.float64(table) - np.log(np.exp(np.float64(table)).sum(-1, keepdims=True))
    alive = [(0.0, [1])]
    for t in range(400):
        grown = [(total + exact[t % 50, had[-1], v], (had, v)) for total, had in alive for v in range(6)]
        alive = [(total, [*had, v]) for total, (had, v) in sorted(grown, key=lambda item: -item[0])[:3]]
    assert made.tokens.tolist() == [had[1:] for _, had in alive]
    np.testing.assert_allclose(made.log_probs, [total for total, _ in alive], rtol=3e-7)


@pytest.mark.parametrize("alpha", [-40.0, 40.0, 1e6])
def test_a_length_penalty_without_measure_still_ranks(alpha):
    step, state, _ = _model(1)
    made = decoding.beam_search(step, state, jnp.array(1), beams=4, max_length=5, end=END, length_penalty=alpha)
    assert np.isfinite(made.log_probs).all()
    assert len(set(map(tuple, made.tokens.tolist()))) == 4


@pytest.mark.optimized
def test_numbers_that_are_traced_and_out_of_range_show_as_nan():
    step, state, _ = _model(0, (2,))
    start, key = jnp.array([0, 1]), jax.random.key(0)

    @jax.jit
    def log_probs(temperature, top_p, alpha):
        drawn = decoding.sample(step, state, start, key, max_length=2, temperature=temperature, top_p=top_p)
        found = decoding.beam_search(step, state, start, beams=2, max_length=2, length_penalty=alpha)
        return drawn.log_probs, found.log_probs

    assert all(np.isfinite(a).all() for a in log_probs(0.0, 1.0, 0.0))
    for temperature, top_p in ((np.nan, 1.0), (-1.0, 1.0), (np.inf, 1.0), (1.0, np.nan), (1.0, 1.5), (1.0, -0.1)):
        drawn, found = log_probs(temperature, top_p, 0.0)
        assert np.isnan(drawn).all()
        assert np.isfinite(found).all()
    assert np.isnan(log_probs(1.0, 1.0, np.nan)[1]).all()


@pytest.mark.parametrize("name", ["max_length", "beams", "end"])
def test_counts_and_tokens_are_integers_known_while_tracing(name):
    step, state, _ = _model(0)

    def search(value):
        options = {"max_length": 2, "beams": 2, "end": END, name: value}
        return decoding.beam_search(step, state, jnp.array(1), **options).tokens

    np.testing.assert_array_equal(search(np.int64(2)), search(jnp.int32(2)))
    for wrong in (2.5, 2.0, True, np.bool_(True), "2", -1, np.ones(2, int)):
        with pytest.raises(ValueError, match=f"{name}: expected a whole number of at least"):
            search(wrong)
    with pytest.raises(ValueError, match=f"{name}: .* got a traced value; make it static"):
        jax.jit(search)(2)


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
        (
            lambda m, s, t: decoding.greedy(m, s, t, max_length=0),
            "max_length: .* at least 1, got 0",
        ),
        (
            lambda m, s, t: decoding.greedy(lambda s, t: m(s, t)[::-1], s, t, max_length=3),
            r"step: .* \(logits, state\), got \(\{'last': int32\[2\]\}, float32\[2,4\]\); logits come first",
        ),
        (
            lambda m, s, t: decoding.beam_search(lambda s, t: (m(s[0], t)[0], (s[0],)), [s], t, beams=2, max_length=3),
            r"step: .* a state like the one that it takes, \[.*\], got \(.*,\); return the same",
        ),
        (lambda m, s, t: decoding.greedy(m, s, t, max_length=3, end=4), r"end: .* 0\.\.3, got 4"),
        (lambda m, s, t: decoding.greedy(m, s, t.astype(jnp.float32), max_length=3), "start: expected integers"),
        (
            lambda m, s, t: decoding.beam_search(m, s, t, beams=0, max_length=3),
            "beams: .* at least 1, got 0",
        ),
        (
            lambda m, s, t: decoding.beam_search(m, s, t, beams=2, max_length=3, length_penalty=np.nan),
            "length_penalty: expected a finite number, got nan",
        ),
        (
            lambda m, s, t: decoding.beam_search(
                lambda s, t: (jnp.zeros((2, 4)), s), {"h": jnp.ones(3)}, t, beams=2, max_length=3
            ),
            r"state\['h'\]: expected the batch axes of start, \(2,\), first, got shape \(3,\)",
        ),
        (
            lambda m, s, t: filter_logits(jnp.ones(3), temperature=0.0),
            "temperature: expected a finite number above 0, got 0.0; to keep only",
        ),
        (
            lambda m, s, t: filter_logits(jnp.ones(3), top_k=0),
            "top_k: expected a whole number of at least 1, got 0",
        ),
        (
            lambda m, s, t: filter_logits(jnp.ones(3), top_p=0.0),
            r"top_p: expected a number in \(0, 1\], got 0.0",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    step, state, _ = _model(0, (2,))
    with pytest.raises(ValueError, match=message):
        call(step, state, jnp.array([0, 1]))
