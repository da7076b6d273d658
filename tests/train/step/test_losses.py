import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import train
from tests.train.toys import Batch


def logits_and_labels(n=7, classes=5, scale=10, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, classes)).astype(np.float32) * scale, rng.integers(0, classes, n)


def softmax_oracle(logits, labels, smoothing):
    z = logits.astype(np.float64)
    q = (1 - smoothing) * np.eye(z.shape[1])[labels] + smoothing / z.shape[1]
    z = z - z.max(1, keepdims=True)
    return np.log(np.exp(z).sum(1)) - (q * z).sum(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_cross_entropy_equals_numpy(smoothing, dtype):
    logits, labels = logits_and_labels()
    loss_fn = train.classification_loss(smoothing)
    losses, metrics = loss_fn(lambda x: x, Batch(jnp.asarray(logits), jnp.asarray(labels, dtype)), None)
    np.testing.assert_allclose(losses, softmax_oracle(logits, labels, smoothing), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(metrics["accuracy"], logits.argmax(1) == labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_huge_logits_give_finite_losses_and_gradients(smoothing):
    def mean(z):
        batch = Batch(z, jnp.array([0, 1]))
        return train.classification_loss(smoothing)(lambda x: x, batch, None)[0].mean()

    value, gradient = jax.value_and_grad(mean)(jnp.array([[-1e4, 1e4], [-1e4, 1e4]]))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_half_precision_logits_are_summed_in_float32():
    logits, labels = logits_and_labels()
    half = jnp.asarray(logits, jnp.bfloat16)
    losses, _ = train.classification_loss()(lambda x: x, Batch(half, jnp.asarray(labels)), None)
    assert losses.dtype == jnp.float32
    np.testing.assert_allclose(losses, softmax_oracle(np.asarray(half, np.float32), labels, 0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_out_of_range_is_named(smoothing):
    with pytest.raises(ValueError, match="label_smoothing: expected a number from 0 to below 1"):
        train.classification_loss(smoothing)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (jnp.ones((3, 2, 2)), jnp.zeros(3, jnp.int32), r"expected logits \(batch, classes\)"),
        (jnp.ones((3, 2)), jnp.zeros((3, 1), jnp.int32), r"expected logits \(batch, classes\)"),
        (jnp.ones((3, 2)), jnp.zeros(3), "labels: expected integer class numbers, got float32"),
    ],
)
def test_wrong_shapes_and_dtypes_are_named(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        train.classification_loss()(lambda x: x, Batch(logits, labels), None)


def test_l2_leaves_biases_out_and_has_the_gradient_it_says():
    rng = np.random.default_rng(0)
    params = {"kernel": rng.normal(size=(3, 3, 2, 4)), "bias": rng.normal(size=4), "scale": np.array(3.0)}
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    penalty = train.l2(0.01)
    np.testing.assert_allclose(penalty(params), 0.01 * np.sum(np.square(params["kernel"])), rtol=1e-5)
    gradient = jax.grad(penalty)(params)
    np.testing.assert_allclose(gradient["kernel"], 0.02 * params["kernel"], rtol=1e-5)
    assert not gradient["bias"].any()
    assert not gradient["scale"].any()
    assert float(train.l2(1.0)({"bias": jnp.ones(3)})) == 0
    for scale in (-1.0, np.nan):
        with pytest.raises(ValueError, match="scale: expected a finite number that is not negative"):
            train.l2(scale)


@pytest.mark.parametrize(("name", "schedule"), [("adam", "constant"), ("adamw", "one-cycle"), ("sgd", "cosine")])
def test_every_optimiser_and_every_schedule_trains(name, schedule):
    def loss_fn(p, batch, key):
        return jnp.sum((p["w"] - 1) ** 2) * batch, {}

    decay = 0.0 if name == "adam" else 1e-4
    tx = train.optimizer(name, 0.1, steps=30, schedule=schedule, weight_decay=decay, clip_norm=1.0)
    state = train.create_state({"w": jnp.zeros((2, 2))}, tx, jax.random.key(0))
    epoch = train.make_epoch(train.make_step(loss_fn), batch_size=1)
    state, metrics = epoch(state, jnp.ones(30))
    assert float(metrics["loss"][-1]) < 0.5 * float(metrics["loss"][0])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", {0: 1, 50: 1, 99: 1}),
        ("cosine", {0: 0, 5: 0.5, 10: 1, 55: 0.5, 100: 0}),
        ("one-cycle", {0: 1 / 25, 30: 1, 100: 1 / 250_000}),
    ],
)
def test_schedules_pass_through_their_known_points(schedule, expected):
    """With gradient 1, no momentum to speak of in the first step: read off the rate from sgd's update."""
    tx = train.optimizer("sgd", 2.0, steps=100, schedule=schedule, warmup=0.1)
    params = {"w": jnp.ones((1, 1))}
    for step, share in expected.items():
        opt_state = tx.init(params)
        opt_state = jax.tree.map(
            lambda x, step=step: jnp.asarray(step, x.dtype) if x.dtype == jnp.int32 else x, opt_state
        )
        with jax.numpy_dtype_promotion("standard"):
            updates, _ = tx.update(params, opt_state, params)
        # Nesterov momentum from rest: g + 0.9 g.
        np.testing.assert_allclose(-updates["w"], 2.0 * share * 1.9, rtol=1e-4, atol=1e-6)


def test_weight_decay_spares_biases():
    tx = train.optimizer("adamw", 0.1, steps=10, weight_decay=0.5)
    state = train.create_state({"w": jnp.ones((2, 2)), "b": jnp.ones(2)}, tx, jax.random.key(0))

    def loss_fn(p, batch, key):
        return 0 * (p["w"].sum() + p["b"].sum()) * batch, {}

    state, _ = train.make_step(loss_fn)(state, jnp.ones(1))
    np.testing.assert_allclose(state.params["w"], 1 - 0.1 * 0.5, rtol=1e-6)
    np.testing.assert_array_equal(state.params["b"], np.ones(2))


def test_a_sweep_of_learning_rates_needs_no_second_compile():
    traces = []

    def loss_fn(w, batch, key):
        traces.append(1)
        return jnp.sum(w) * batch, {}

    step = train.make_step(loss_fn)
    tx = train.optimizer("sgd", 0.1, steps=10)
    start = train.create_state(jnp.zeros(1), tx, jax.random.key(0))

    def at(rate):
        hyper = start.opt_state.hyperparams | {"learning_rate": rate}
        return start.replace(opt_state=start.opt_state._replace(hyperparams=hyper))

    swept = jax.jit(lambda rates: jax.vmap(lambda r: step(at(r), jnp.ones(1))[0].params)(rates))
    rates = jnp.array([0.1, 0.2, 0.4])
    np.testing.assert_allclose(swept(rates)[:, 0], -1.9 * rates, rtol=1e-6)
    swept(rates * 2)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "adagrad"}, "name: expected one of adam, adamw, sgd, got 'adagrad'"),
        ({"schedule": "linear"}, "schedule: expected one of constant, cosine, one-cycle, got 'linear'"),
        ({"weight_decay": 0.1}, "weight_decay: expected 0 for adam, got 0.1; use adamw"),
        ({"learning_rate": -1.0}, "learning_rate: expected a finite number that is not negative, got -1"),
        ({"learning_rate": np.nan}, "learning_rate: expected a finite number"),
        ({"name": "sgd", "weight_decay": np.inf}, "weight_decay: expected a finite number"),
        ({"clip_norm": 0.0}, "clip_norm: expected a positive number or None"),
        ({"steps": 0}, "steps: expected a whole number of at least 1"),
        ({"schedule": "cosine", "warmup": 1.0}, "warmup: expected a share"),
    ],
)
def test_wrong_options_name_what_is_allowed(arguments, message):
    with pytest.raises(ValueError, match=message):
        train.optimizer(**({"steps": 10} | arguments))


def test_the_mask_fits_optax():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    tx = optax.masked(optax.set_to_zero(), train.step.weight_mask)
    updates, _ = tx.update(params, tx.init(params), params)
    assert not updates["kernel"].any()
    assert updates["bias"].all()
