"""Precision as one choice, and the loss scale of float16."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnn import models, train
from jaxnn.train.step import LossScale
from tests.train.toys import ConvNet, blobs, copy, equal, pictures

TINY = 1e-8
"""A factor that takes gradients below what float16 can hold."""


def faint(w, batch, key):
    """Squared errors whose gradient, before it is scaled up again, is far below float16's smallest number."""
    x, y = batch
    prediction = (x.astype(jnp.float16) @ w.astype(jnp.float16)).astype(jnp.float32)
    return TINY * (prediction - y) ** 2, {}


def data():
    x = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    return x, x @ np.array([0.5, -0.25], np.float32)


def faint_state(scale):
    return train.create_state(jnp.zeros(2), optax.sgd(0.2 / TINY), jax.random.key(0), loss_scale=scale)


@pytest.mark.parametrize("name", ["float32", "bf16", "float16", "mixed"])
def test_a_choice_gives_a_model_its_dtypes(name):
    choice = train.precision(name)
    half = {"float32": jnp.float32, "float16": jnp.float16}.get(name, jnp.bfloat16)
    assert dict(**choice) == {"dtype": half, "param_dtype": jnp.float32}
    assert (choice.loss_scale is not None) == (name == "float16")
    for module in (nnx.Linear(2, 3, **choice, rngs=nnx.Rngs(0)), models.MLP((2, 3), **choice, rngs=nnx.Rngs(0))):
        assert jax.eval_shape(module, jnp.ones((1, 2))).dtype == half
        assert {p.dtype for p in jax.tree.leaves(nnx.state(module))} == {jnp.dtype(jnp.float32)}


def test_parameters_and_scale_may_be_chosen_apart():
    choice = train.precision("float16", param_dtype=jnp.float16, loss_scale=128)
    assert choice.param_dtype == jnp.float16
    assert choice.loss_scale.value == 128
    assert choice.loss_scale.period is None
    assert train.precision("float16", loss_scale=None).loss_scale is None
    assert train.precision("bf16", loss_scale="dynamic").loss_scale.period == 2000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "half"}, r"name: expected one of 'float32', 'bf16', 'float16', 'mixed', got 'half'"),
        ({"loss_scale": "big"}, r"loss_scale: expected a number from 1 to 2\^24, got 'big'"),
        ({"loss_scale": 0.5}, r"loss_scale: expected a number from 1 to 2\^24, got 0.5"),
        ({"loss_scale": True}, r"loss_scale: expected a number from 1 to 2\^24, got True"),
    ],
)
def test_a_wrong_choice_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        train.precision(**arguments)


def test_a_wrong_scale_of_a_state_is_named():
    with pytest.raises(ValueError, match=r"loss_scale: expected .*LossScale or None, got 1024; .*precision"):
        train.create_state(jnp.zeros(2), optax.sgd(0.1), jax.random.key(0), loss_scale=1024)


@pytest.mark.parametrize("scale", [LossScale.dynamic(2.0**20), LossScale.static(2.0**20)], ids=["dynamic", "static"])
def test_what_underflows_without_a_scale_trains_with_it(scale):
    epoch = train.make_epoch(train.make_step(faint), batch_size=8)
    lost, metrics = epoch(faint_state(None), data())
    assert not np.asarray(metrics["grad_norm"]).any()
    assert not np.asarray(lost.params).any()
    state = faint_state(scale)
    for _ in range(3):
        state, metrics = epoch(state, data())
    np.testing.assert_allclose(state.params, [0.5, -0.25], atol=2e-3)
    assert float(metrics["skipped"].sum()) == 0
    assert float(metrics["loss_scale"][-1]) == float(state.loss_scale.value) == 2.0**20


def test_the_gradient_is_that_of_the_loss_itself():
    """In float32 a scale that is a power of two changes no bit."""
    net = models.MLP((6, 5, 3), rngs=nnx.Rngs(0))
    step, batch = train.make_step(train.losses.classification(), penalty=train.losses.l2(1e-2)), blobs(8)
    results = []
    for scale in (None, LossScale.static(1024.0)):
        state = train.create_state(net, optax.adam(1e-2), jax.random.key(0), loss_scale=scale)
        results.append(step(state, batch))
    (plain, without), (scaled, metrics) = results
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), scaled.params, plain.params)
    for name, value in without.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-6)


def steep(w, batch, key):
    """Finite losses, whose gradient is infinite where an example is 0."""
    return jnp.sqrt(batch + w - jax.lax.stop_gradient(w)), {}


def test_a_step_that_overflows_is_skipped_and_halves_the_scale():
    step = train.make_step(steep)
    scale = LossScale.dynamic(8.0, period=2)
    state = train.create_state(jnp.float32(1), optax.adam(0.1), jax.random.key(0), loss_scale=scale)
    before = copy(state)
    state, metrics = step(state, jnp.zeros(1))
    assert float(metrics["skipped"]) == 1
    assert float(metrics["loss_scale"]) == 8
    assert float(metrics["grad_norm"]) == 0
    assert equal((state.params, state.opt_state), (before.params, before.opt_state))
    assert (int(state.step), float(state.loss_scale.value), int(state.loss_scale.finite)) == (1, 4, 0)
    scales = []
    for _ in range(5):  # doubled after every second one
        state, metrics = step(state, jnp.ones(1))
        scales.append(float(metrics["loss_scale"]))
    assert scales == [4, 4, 8, 8, 16]
    assert float(state.params) < 1


def test_the_scale_falls_too_where_the_optimiser_refuses_the_gradient():
    tx, scale = optax.apply_if_finite(optax.sgd(0.1), 1), LossScale.dynamic(8.0)
    state = train.create_state(jnp.float32(1), tx, jax.random.key(0), loss_scale=scale)
    step = train.make_step(steep)
    for expected in (4, 2):  # the second gradient the optimiser no longer refuses
        state, metrics = step(state, jnp.zeros(1))
        assert (float(metrics["skipped"]), float(metrics["grad_norm"])) == (1, 0)
        assert (float(state.loss_scale.value), float(state.params)) == (expected, 1)
    assert int(state.opt_state.total_notfinite) == 1


def test_where_the_scale_cannot_fall_the_gradient_is_reported():
    step = train.make_step(lambda w, batch, key: (batch * jnp.sqrt(w), {}))
    for scale in (LossScale.static(8.0), LossScale.dynamic(1.0)):
        state = train.create_state(jnp.float32(0), optax.sgd(0.1), jax.random.key(0), loss_scale=scale)
        state, metrics = step(state, jnp.ones(1))
        assert not np.isfinite(metrics["grad_norm"])
        assert float(metrics["skipped"]) == 1
        assert float(state.params) == 0


def test_scales_stay_in_their_range():
    high = LossScale.dynamic(2.0**24, period=1).after(jnp.bool_(True))
    low = LossScale.dynamic(1.0).after(jnp.bool_(False))
    assert (float(high.value), float(low.value)) == (2.0**24, 1.0)


def test_statistics_and_random_streams_of_a_skipped_step_stay():
    """All of the state but its step, dropout's keys too; and a step is compiled once."""
    scale = LossScale.dynamic(2.0**24)
    state = train.create_state(ConvNet(), optax.adam(1e-2), jax.random.key(0), loss_scale=scale)
    traces = []

    def loss_fn(model, batch, key):
        traces.append(1)
        losses, metrics = train.losses.classification()(model, batch, key)
        return losses * jnp.float32(1e38), metrics

    step = train.make_step(loss_fn, preprocess=train.image_preprocess())
    before = copy(state)
    for _ in range(2):
        state, metrics = step(state, pictures(4))
        assert float(metrics["skipped"]) == 1
    assert len(traces) == 1
    assert equal((state.params, state.opt_state, state.variables), (before.params, before.opt_state, before.variables))


def test_fit_carries_saves_and_resumes_the_scale(tmp_path):
    def start():
        return faint_state(LossScale.dynamic(2.0**20, period=8))

    options = {"batch_size": 8, "progress": False}
    whole, history = train.fit(start(), data(), faint, epochs=2, **options)
    assert history[0]["train_skipped"] == 0
    assert float(whole.loss_scale.value) > 2.0**20
    train.fit(start(), data(), faint, epochs=1, checkpoints=train.Checkpoints(tmp_path / "c"), **options)
    resumed = train.Checkpoints(tmp_path / "c", resume=True)
    state, _ = train.fit(start(), data(), faint, epochs=2, checkpoints=resumed, **options)
    assert equal(state, whole)


def test_every_member_of_an_ensemble_has_a_scale():
    states = jax.vmap(
        lambda w: train.create_state(w, optax.sgd(0.1), jax.random.key(0), loss_scale=LossScale.dynamic())
    )(jnp.array([0.0, 1.0]))
    step = jax.vmap(train.make_step(lambda w, batch, key: (batch * jnp.sqrt(w), {})), in_axes=(0, None))
    states, metrics = jax.jit(step)(states, jnp.ones(1))
    assert metrics["skipped"].tolist() == [1, 0]
    assert states.loss_scale.value.tolist() == [2.0**14, 2.0**15]
