"""Losses that a batch has as a whole: steps of full batches, and what becomes of a short last one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import data, train
from jaxnn.train.loop import StreamedEpoch, epoch_order
from tests.train.toys import copy, equal

X = np.random.default_rng(0).normal(size=(10, 2, 3)).astype(np.float32)


def contrastive(w, batch, key):
    """InfoNCE between the two views of each example; the other examples of the batch are what it is told from."""
    left, right = batch[:, 0] @ w, batch[:, 1] @ w
    logits = left @ right.T
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.arange(len(batch)))
    return losses.mean(), {"accuracy": jnp.argmax(logits, 1) == jnp.arange(len(batch)), "scale": jnp.sum(w**2)}


def start():
    return train.create_state(jnp.eye(3), optax.sgd(0.1), jax.random.key(0))


STEP = train.make_step(contrastive, reduction="batch")


def test_a_step_is_gradient_descent_on_the_loss_of_the_batch():
    loss, gradient = jax.value_and_grad(lambda w: contrastive(w, jnp.asarray(X), None)[0])(jnp.eye(3))
    state, metrics = STEP(start(), X)
    np.testing.assert_allclose(state.params, jnp.eye(3) - 0.1 * gradient, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6)
    assert {name: value.shape for name, value in metrics.items()} == dict.fromkeys(
        ("loss", "accuracy", "scale", "examples", "grad_norm"), ()
    )
    assert float(metrics["scale"]) == 3
    assert float(metrics["examples"]) == 10


def test_epochs_of_full_batches_leave_the_last_examples_of_their_order_out():
    expected = start()
    for number in range(6):
        order = epoch_order(expected.key, number // 3, 10)
        expected, _ = STEP(expected, X[order][number % 3 * 3 :][:3])
    epoch = train.make_epoch(STEP, batch_size=3, drop_last=True)
    state, _ = epoch(start(), X)
    state, metrics = epoch(state, X)
    assert metrics["examples"].tolist() == [3, 3, 3]
    np.testing.assert_allclose(state.params, expected.params, rtol=1e-5)
    streamed = StreamedEpoch(STEP, batch_size=3, drop_last=True)
    other, _ = streamed(start(), data.Stream(X))
    other, _ = streamed(other, data.Stream(X), steps=2)
    other, metrics = streamed(other, data.Stream(X))
    assert metrics["examples"].tolist() == [3]
    np.testing.assert_allclose(other.params, expected.params, rtol=1e-5)
    chunked = train.make_epoch(STEP, batch_size=3, drop_last=True, chunk=2)
    other, _ = chunked(start(), X)
    other, metrics = chunked(other, X)
    assert metrics["examples"].tolist() == [3, 0]


@pytest.mark.skipif(jax.device_count() < 2, reason="needs two devices")
def test_a_batch_over_devices_is_one_batch():
    """Examples are told from those on the other devices too."""
    parallel = train.parallel(2)
    alone, _ = train.make_epoch(STEP, batch_size=4, drop_last=True)(start(), X)
    spread, _ = train.make_epoch(STEP, batch_size=4, drop_last=True, parallel=parallel)(
        parallel.state(start()), parallel.data(X)
    )
    np.testing.assert_allclose(spread.params, alone.params, rtol=1e-5)


def test_evaluation_is_the_mean_over_full_batches():
    losses = [contrastive(jnp.eye(3), jnp.asarray(part), None)[0] for part in (X[:5], X[5:])]
    found = train.evaluate(start(), X, contrastive, reduction="batch", batch_size=5)
    np.testing.assert_allclose(found["loss"], np.mean(losses), rtol=1e-6)
    assert set(found) == {"loss", "accuracy", "scale"}
    found = train.evaluate(start(), X, contrastive, reduction="batch", batch_size=6, drop_last=True)
    np.testing.assert_allclose(found["loss"], contrastive(jnp.eye(3), jnp.asarray(X[:6]), None)[0], rtol=1e-6)
    mean = train.evaluate(start(), X, lambda w, x, key: (x[:, 0, 0], {}), batch_size=4, drop_last=True)
    np.testing.assert_allclose(mean["loss"], X[:8, 0, 0].mean(), rtol=1e-5)


def test_a_loss_of_each_example_is_the_same_in_both_forms_where_batches_are_full():
    def squares(w, batch, key):
        return jnp.square(batch[:, 0] @ w).sum(1), {}

    def mean(w, batch, key):
        return squares(w, batch, key)[0].mean(), {}

    ours, _ = train.make_step(squares)(start(), X)
    other, _ = train.make_step(mean, reduction="batch")(start(), X)
    np.testing.assert_allclose(ours.params, other.params, rtol=1e-6)


def test_a_batch_that_counts_less_says_so():
    state = start()
    before = copy(state.params)
    step = train.make_step(lambda w, x, key: (jnp.sum(w) * 0, {"examples": 2.5}), reduction="batch")
    state, metrics = step(state, X)
    assert float(metrics["examples"]) == 2.5
    assert equal(state.params, before)


def test_parts_of_a_whole_batch_may_have_different_lengths():
    """A graph of nodes and edges, and a number; called by the person, and drawn inside a compiled epoch."""
    graph = {"nodes": jnp.asarray(X[:5, 0]), "senders": jnp.arange(4), "receivers": jnp.arange(4) + 1, "scale": 2.0}

    def flow(w, graph, key):
        edges = (graph["nodes"][graph["receivers"]] - graph["nodes"][graph["senders"]]) @ w
        return graph["scale"] * jnp.mean(edges**2), {}

    expected = jnp.eye(3) - 0.1 * jax.grad(lambda w: flow(w, graph, None)[0])(jnp.eye(3))
    step = train.make_step(flow, reduction="batch")
    state, metrics = step(start(), graph)
    np.testing.assert_allclose(state.params, expected, rtol=1e-5)
    assert float(metrics["examples"]) == 1
    state, metrics = train.make_epoch(step)(start(), train.Generated(lambda key: graph, steps=1))
    np.testing.assert_allclose(state.params, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="share one leading length") as raised:
        train.make_step(flow)(start(), graph)
    assert 'reduction="batch"' in raised.value.__notes__[0]


@pytest.mark.skipif(jax.device_count() < 2, reason="needs two devices")
def test_parts_of_different_lengths_over_devices():
    parts = {"inside": jnp.asarray(X[:, 0]), "boundary": jnp.asarray(X[:4, 1]), "weight": 2.0}

    def equation(w, parts, key):
        return jnp.mean((parts["inside"] @ w) ** 2) + parts["weight"] * jnp.mean((parts["boundary"] @ w) ** 2), {}

    step, drawn = train.make_step(equation, reduction="batch"), train.Generated(lambda key: parts, steps=2)
    parallel = train.parallel(2)
    alone, _ = train.make_epoch(step)(start(), drawn)
    spread, _ = train.make_epoch(step, parallel=parallel)(parallel.state(start()), drawn)
    np.testing.assert_allclose(spread.params, alone.params, rtol=1e-5)
    placed = parallel.batch(jax.tree.map(np.asarray, parts))
    assert [placed[name].sharding.is_fully_replicated for name in parts] == [False, False, True]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: STEP(start(), X, np.ones(10, np.float32)), 'weights: expected None with reduction="batch"'),
        (lambda: train.make_epoch(STEP, batch_size=3)(start(), X), "a short last batch, .* pass drop_last=True, or a"),
        (
            lambda: train.make_epoch(STEP, batch_size=11, drop_last=True)(start(), X),
            "batch_size: expected at most 10, the number of examples, with drop_last=True, got 11",
        ),
        (lambda: StreamedEpoch(STEP, batch_size=3)(start(), data.Stream(X)), "a short last batch"),
        (
            lambda: train.evaluate(start(), X, contrastive, reduction="batch", batch_size=4),
            r"batch_size: expected a divisor of 10, .* got 4; the loss of the short last batch, 2 examples",
        ),
        (lambda: train.make_step(contrastive, reduction="sum"), "reduction: expected 'examples' or 'batch', got 'sum'"),
        (lambda: train.make_step(contrastive)(start(), X), 'expected a loss for each example, .* reduction="batch"'),
        (
            lambda: train.make_step(lambda w, x, key: (x[:, 0, 0], {}), reduction="batch")(start(), X),
            r'expected a loss of shape \(\) with reduction="batch", got \(10,\); leave reduction out',
        ),
    ],
)
def test_what_is_no_full_batch_or_no_loss_of_one_is_reported(call, message):
    with pytest.raises(ValueError, match=message):
        call()
