"""Data that is computed on the device, and a state that is carried from step to step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnn import train
from jaxnn.models import LanguageModel
from jaxnn.train.loop import TBPTT, Chunk, Stateful, next_token_loss
from jaxnn.train.step.state import apply
from tests.train.toys import quadratic


def _model(vocabulary=5, **options):
    return LanguageModel(vocabulary, embed_features=4, hidden_features=8, **options, rngs=nnx.Rngs(0))


def _tokens(n, vocabulary=5):
    return jnp.asarray(np.random.default_rng(0).integers(0, vocabulary, n), jnp.int32)


def test_an_epoch_of_chunks_reads_each_streams_arc_once_and_in_order():
    text = TBPTT(jnp.arange(103), streams=4, length=6)
    number = text.steps
    assert number == 4
    for epoch in (0, 1):
        chunks = [text.batch_at(jax.random.key(0), jnp.int32(epoch * number + k)) for k in range(number)]
        assert [bool(c.fresh.all()) for c in chunks] == [True, False, False, False]
        targets = np.concatenate([c.values[:, 1:] for c in chunks], axis=1)
        inputs = np.concatenate([c.values[:, :-1] for c in chunks], axis=1)
        np.testing.assert_array_equal((inputs + 1) % 103, targets)
        assert len(np.unique(targets)) == 4 * 24  # nothing twice
        starts = inputs[:, 0]
        np.testing.assert_array_equal((starts - starts[0]) % 103, np.arange(4) * 25)
    assert len(np.unique(inputs[0])) == 24


def test_streams_forget_at_the_rate_asked_for():
    data = TBPTT(jnp.arange(900), streams=8, length=1, restart=0.25)
    fresh = [data.batch_at(jax.random.key(0), jnp.int32(k)).fresh for k in range(1, 60)]
    assert 0.15 < np.mean(fresh) < 0.35


def test_carried_state_equals_one_long_pass_except_where_a_stream_is_fresh():
    streams = Stateful(_model(), 2)
    tokens = _tokens(2 * 12).reshape(2, 12)
    no = jnp.zeros(2, bool)
    parts = [streams(tokens[:, at : at + 4], no) for at in (0, 4, 8)]
    np.testing.assert_allclose(jnp.concatenate(parts, 1), streams.model(tokens)[0], rtol=1e-5, atol=1e-6)
    logits = streams(tokens, jnp.array([True, False]))
    alone, _ = streams.model(tokens)
    np.testing.assert_allclose(logits[0], alone[0], rtol=1e-5, atol=1e-6)
    assert not np.allclose(logits[1], alone[1])


def test_no_gradient_reaches_the_chunk_before():
    state = train.create_state(Stateful(_model(), 1), train.optimizer("sgd", 1.0, steps=1), jax.random.key(0))
    tokens, no = _tokens(13).reshape(1, 13), jnp.zeros(1, bool)

    def loss(params, before, detached):
        def of(streams):
            streams(tokens[:, :6] if before else tokens[:, :0], no)
            if detached:
                for kept in streams.carried:
                    kept[...] = jax.lax.stop_gradient(kept[...])
            return next_token_loss(streams, Chunk(tokens[:, 6:], no), None)[0].sum()

        return apply(state, params, of, training=False)[0]

    grad = jax.jit(jax.grad(loss), static_argnums=(1, 2))
    jax.tree.map(np.testing.assert_array_equal, grad(state.params, True, False), grad(state.params, True, True))
    alone = grad(state.params, False, False)
    assert any(
        (a != b).any() for a, b in zip(*map(jax.tree.leaves, (alone, grad(state.params, True, False))), strict=True)
    )


def test_chunks_of_an_epoch_are_the_epoch_and_are_traced_once():
    traces = []

    def counted(*args):
        traces.append(1)
        return next_token_loss(*args)

    def run(chunk):
        tx = train.optimizer("adamw", 1e-2, steps=12, clip_norm=1.0)
        state = train.create_state(Stateful(_model(dropout=0.3), 2), tx, jax.random.key(0))
        data = TBPTT(_tokens(100), streams=2, length=8, restart=0.2)
        state, history = train.fit(state, data, counted, epochs=2, chunk=chunk, progress=False)
        return state, [record["train_loss"] for record in history]

    whole, losses = run(None)
    seen = len(traces)
    parts, same = run(4)
    assert int(whole.step) == int(parts.step) == 2 * 6
    assert len(traces) == 2 * seen
    np.testing.assert_allclose(same, losses, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), parts.params, whole.params)


def test_sequences_are_pytrees_with_any_axes():
    data = TBPTT({"x": jnp.zeros((40, 3)), "y": jnp.arange(40)}, streams=2, length=5)
    values = data.batch_at(jax.random.key(0), jnp.int32(1)).values
    assert {name: value.shape for name, value in values.items()} == {"x": (2, 6, 3), "y": (2, 6)}


def _make(key):
    x = jax.random.normal(key, (8, 3))
    return x, x @ jnp.array([1.0, -2.0, 0.5])


def _generated(epochs=3, **options):
    state = train.create_state(jnp.zeros(3), optax.sgd(0.1), jax.random.key(0))
    return train.fit(state, train.Generated(_make, steps=10), quadratic, epochs=epochs, progress=False, **options)


def test_generated_batches_are_new_in_each_step_and_follow_from_the_key():
    state, history = _generated()
    np.testing.assert_allclose(state.params, [1.0, -2.0, 0.5], atol=0.02)
    assert [record["step"] for record in history] == [10, 20, 30]
    seen = [train.Generated(_make, 10).batch_at(jax.random.key(0), jnp.int32(k))[0] for k in (0, 1, 10)]
    assert len({x.tobytes() for x in map(np.asarray, seen)}) == 3
    np.testing.assert_array_equal(state.params, _generated()[0].params)


def test_generated_batches_resume():
    whole, _ = _generated()
    _generated(2, checkpoints=train.Checkpoints("runs/generated"))
    state, history = _generated(3, checkpoints=train.Checkpoints("runs/generated", resume=True))
    np.testing.assert_array_equal(state.params, whole.params)
    assert len(history) == 3


@pytest.mark.skipif(jax.device_count() < 2, reason="needs two devices")
def test_generated_batches_split_over_devices():
    whole, _ = _generated()
    np.testing.assert_allclose(_generated(parallel=train.parallel(2))[0].params, whole.params, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: train.Generated(3, 10), "make: expected a function"),
        (lambda: train.Generated(_make, 0), "steps: expected a whole number"),
        (
            lambda: TBPTT(jnp.arange(9), 2, 5).steps,
            "streams: expected at most 1 of chunks of 5, .* got 2",
        ),
        (lambda: TBPTT(jnp.arange(9), 2, 5, restart=2.0), "restart: expected a probability"),
        (lambda: Stateful(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), 2), "model: expected a module with zero_state"),
        (
            lambda: Stateful(_model(), 2)(jnp.zeros((3, 4), int), jnp.zeros(3, bool)),
            r"x: expected 2 streams, for which Stateful\(model, 2\) was made, got 3; give",
        ),
        (
            lambda: next_token_loss(_model(), Chunk(jnp.zeros((2, 5), int), jnp.zeros(2, bool)), None),
            r"model: expected a train.loop.Stateful, got a LanguageModel; create",
        ),
    ],
)
def test_what_does_not_fit_is_reported(make, told):
    with pytest.raises(ValueError, match=told):
        make()


def test_tokens_outside_the_vocabulary_are_reported_by_their_range():
    state = train.create_state(Stateful(_model(), 2), train.optimizer("sgd", 0.1), jax.random.key(0))
    text = TBPTT(jnp.arange(100) % 5 + 99, streams=2, length=20)
    with pytest.raises(train.loop.NonFiniteLossError, match=r"first that \.sequence, from 99 to 103, are classes"):
        train.fit(state, text, next_token_loss, epochs=1, progress=False)
