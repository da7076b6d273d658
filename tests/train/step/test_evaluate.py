import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import train
from tests.train.toys import MLP, ConvNet, Counted, blobs, copy, equal, pictures


@pytest.mark.parametrize("batch_size", [1, 4, 10, 16, 64])
def test_means_are_exact_for_every_batch_size(batch_size):
    data = blobs(20)
    state = train.create_state(MLP(), optax.sgd(0.1), jax.random.key(0))
    logits = np.asarray(state.model()(data.images), np.float64)
    log_sum = np.log(np.exp(logits).sum(1))
    expected = np.mean(log_sum - logits[np.arange(20), data.labels])
    metrics = train.evaluate(state, data, train.losses.classification(), batch_size=batch_size)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], np.mean(logits.argmax(1) == data.labels), rtol=1e-6)
    assert set(metrics) == {"loss", "accuracy"}


def test_evaluation_changes_nothing_and_draws_nothing():
    data, loss_fn = pictures(20), train.losses.classification()
    state = train.create_state(ConvNet(), optax.adam(1e-2), jax.random.key(0))
    step = train.make_step(loss_fn, preprocess=train.image_preprocess())
    state, _ = step(state, data)
    before = copy(state)
    evaluate = [
        train.evaluate(state, data, loss_fn, preprocess=train.image_preprocess(), batch_size=8) for _ in range(2)
    ]
    assert equal(*evaluate)
    assert equal(state, before)
    model = state.model()
    model.eval()
    logits = model(jnp.asarray(data.images, jnp.float32) / 255)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(data.labels))
    np.testing.assert_allclose(evaluate[0]["loss"], losses.mean(), rtol=1e-5)


def test_keys_are_none():
    seen = []

    def loss_fn(w, batch, key):
        seen.append(key)
        return w * batch, {}

    def preprocess(key, batch):
        seen.append(key)
        return batch

    state = train.create_state(jnp.float32(1), optax.sgd(0.1), jax.random.key(0))
    train.evaluate(state, jnp.ones(4), loss_fn, preprocess=preprocess)
    assert seen == [None, None]


def test_one_trace_for_many_evaluations():
    loss_fn, data = Counted(), blobs(20)
    state = train.create_state(MLP(), optax.adam(1e-2), jax.random.key(0))
    step = train.make_step(loss_fn)
    for _ in range(3):
        train.evaluate(state, data, loss_fn, batch_size=8)
        state, _ = step(state, data)
        state = train.create_state(state.model(), optax.adam(1e-2), jax.random.key(0))  # an equal optimiser
    assert loss_fn.evaluation == 1


@pytest.mark.parametrize("batch_size", [7, 10, 32])
def test_predictions_come_in_order(batch_size):
    data = blobs(20)
    state = train.create_state(MLP(), optax.sgd(0.1), jax.random.key(0))

    def both(model, batch):
        logits = model(batch.images)
        return {"logits": logits, "label": batch.labels}

    out = train.predict(state, data, both, batch_size=batch_size)
    np.testing.assert_array_equal(out["label"], data.labels)
    np.testing.assert_allclose(out["logits"], state.model()(data.images), rtol=1e-5, atol=1e-6)


def test_predictions_where_a_person_debugs_without_jit():
    state = train.create_state(jnp.float32(2), optax.sgd(0.1), jax.random.key(0))
    with jax.disable_jit():
        out = train.predict(state, np.arange(3, dtype=np.float32), lambda w, x: w * x, batch_size=2)
    assert out.tolist() == [0, 2, 4]


def test_predictions_that_lost_the_batch_are_named():
    state = train.create_state(jnp.float32(1), optax.sgd(0.1), jax.random.key(0))
    with pytest.raises(ValueError, match="apply_fn: expected outputs of leading length 4"):
        train.predict(state, jnp.ones(8), lambda w, x: (w * x)[:2], batch_size=4)


def test_no_examples_are_an_error():
    state = train.create_state(MLP(), optax.sgd(0.1), jax.random.key(0))
    with pytest.raises(ValueError, match="at least one example"):
        train.evaluate(state, blobs(0), train.losses.classification())


def test_preprocessing_may_make_more_examples_where_batches_are_full():
    """Several crops of each picture, for instance: means are over all of them, predictions of the examples."""
    state = train.create_state(jnp.float32(1), optax.sgd(0.1), jax.random.key(0))

    def views(key, x):
        return jnp.concatenate([x, 3 * x])

    def loss_fn(w, x, key):
        return w * x, {}

    def mean_view(w, x):
        return w * x.reshape(2, -1).mean(0)

    x = jnp.arange(8.0)
    np.testing.assert_allclose(train.evaluate(state, x, loss_fn, preprocess=views, batch_size=4)["loss"], 7.0)
    np.testing.assert_allclose(train.predict(state, x, mean_view, preprocess=views, batch_size=3), 2 * x)
    with pytest.raises(ValueError, match=r"apply_fn: expected outputs of leading length 4, .* got \(8,\)"):
        train.predict(state, x, lambda w, x: w * x, preprocess=views, batch_size=4)
    with pytest.raises(ValueError, match=r"weights: expected one for each example .* shape \(6,\), got \(3,\)"):
        train.evaluate(state, x, loss_fn, preprocess=views, batch_size=3)
