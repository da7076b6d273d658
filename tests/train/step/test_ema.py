"""The moving average of the parameters, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import train
from jaxnn.train.step.ema import update
from tests.train.toys import MLP, blobs, quadratic

X, Y = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32), np.ones(40, np.float32)


def start(ema, dtype=jnp.float32):
    return train.create_state(jnp.zeros(2, dtype), optax.sgd(0.02), jax.random.key(0), ema=ema)


@pytest.mark.parametrize(("decay", "dtype"), [(0.0, jnp.float32), (0.6, jnp.float32), (0.999, jnp.bfloat16)])
def test_the_average_follows_the_formula(decay, dtype):
    """In half precision it is a float32 average of what the parameters were."""
    state, step = start(decay, dtype), train.make_step(lambda w, b, key: quadratic(w.astype(jnp.float32), b, key))
    average = np.zeros(2)
    for t in range(12):
        state, _ = step(state, (X[t:][:8], Y[:8]))
        d = min(decay, (1 + t) / (10 + t))
        average = d * average + (1 - d) * np.asarray(state.params, np.float64)
    assert state.ema.dtype == jnp.float32
    assert state.params.dtype == dtype
    # A compiler may average half-precision parameters before it rounds them.
    np.testing.assert_allclose(state.ema, average, rtol=1e-5 if dtype == jnp.float32 else 1e-2)
    np.testing.assert_allclose(state.model(ema=True), np.asarray(average, dtype), rtol=1e-2)
    assert state.model(ema=True).dtype == dtype


def test_a_decay_near_one_keeps_its_digits():
    """In float32 1 - 0.99999 is 1.4 % too much, and 1 - 1e-9 no decay at all."""
    for decay in (0.99999, 1 - 1e-9):
        (average,) = update([jnp.zeros(())], [jnp.ones(())], decay, jnp.int32(2**30))
        np.testing.assert_allclose(average, max(1 - decay, 9 / (10 + 2**30)), rtol=1e-6)


def test_evaluation_prediction_and_the_model_use_it_where_asked():
    loss_fn, points = train.losses.classification(), blobs(16)
    state = train.create_state(MLP(), optax.sgd(0.3), jax.random.key(0), ema=0.99)
    first = train.evaluate(state, points, loss_fn, ema=True)
    np.testing.assert_allclose(first["loss"], train.evaluate(state, points, loss_fn)["loss"], rtol=1e-6)
    state, _ = train.make_epoch(train.make_step(loss_fn), batch_size=8)(state, points)

    def logits(model, batch):
        return model(batch.images)

    for ema in (False, True):
        model = state.model(ema=ema)
        outputs = model(points.images)
        np.testing.assert_allclose(train.predict(state, points, logits, ema=ema), outputs, rtol=1e-5, atol=1e-6)
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, points.labels)
        np.testing.assert_allclose(train.evaluate(state, points, loss_fn, ema=ema)["loss"], losses.mean(), rtol=1e-5)
        stacked = jax.tree.map(lambda x: jnp.stack([x, x]), state)
        members = train.ensemble.predict(stacked, points, logits, ema=ema, devices=jax.devices()[:1])
        np.testing.assert_allclose(members[1], outputs, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(state.model().out.kernel[...], state.model(ema=True).out.kernel[...])


def test_what_is_no_decay_and_a_state_without_an_average_are_reported():
    for decay in (1.0, -0.1, True, "0.9", np.nan):
        with pytest.raises(ValueError, match=r"ema: expected a decay from 0 to below 1, for example 0\.999, got"):
            start(decay)
    with pytest.raises(
        ValueError, match=r"ema: expected a state with an average, .* create_state\(\.\.\., ema=0\.999\)"
    ):
        train.evaluate(start(None), (X, Y), quadratic, ema=True)
