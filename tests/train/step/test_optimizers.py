"""Every named optimiser in every dtype: its state keeps its types, and its updates are those of NumPy in float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import train
from tests.train.toys import Counted

OPTIMIZERS = ["adam", "adamw", "sgd"]
SCHEDULES = ["constant", "cosine", "one-cycle"]
DTYPES = ["bfloat16", "float16", "float32", "float64"]
RATE, DECAY, CLIP, STEPS = 0.05, 0.1, 0.5, 40


def dot(w, batch, key):
    """Losses whose gradient with respect to `w` is the mean of the batch."""
    return jnp.sum(w["w"][None] * batch, axis=(1, 2)), {}


def make(name, schedule="constant", clip=None):
    decay = 0.0 if name == "adam" else DECAY
    return train.optimizer(name, RATE, steps=STEPS, schedule=schedule, weight_decay=decay, clip_norm=clip)


def start(tx, dtype, values=None):
    values = np.ones((2, 3)) if values is None else values
    return train.create_state({"w": jnp.asarray(values, dtype)}, tx, jax.random.key(0))


def described(tree):
    return [(x.dtype, x.shape, x.aval.weak_type if isinstance(x, jax.Array) else x.weak_type) for x in tree]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_keeps_every_type(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        for schedule, clip in itertools.product(SCHEDULES, [None, CLIP]):
            state = start(make(name, schedule, clip), dtype)
            after, _ = jax.eval_shape(train.make_step(dot), state, jnp.ones((4, 2, 3), dtype))
            assert described(jax.tree.leaves(after)) == described(jax.tree.leaves(state)), (schedule, clip)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_equal_numpy_and_compile_once(name, dtype):
    rng = np.random.default_rng(0)
    with jax.enable_x64(dtype == "float64"):
        tx, loss_fn = make(name, "cosine", CLIP), Counted(dot)
        step = train.make_step(loss_fn)
        state = start(tx, dtype, rng.normal(size=(2, 3)))
        expected = Oracle(name, np.asarray(state.params["w"], np.float64))
        for number in range(8):
            batch = jnp.asarray(rng.normal(size=(4, 2, 3)) * (5 if number == 3 else 0.2), dtype)
            before = expected.w = np.asarray(state.params["w"], np.float64)
            state, _ = step(state, batch)
            gradient = jax.grad(lambda w, batch=batch: dot({"w": w}, batch, None)[0].mean())(state.params["w"])
            update = expected.step(np.asarray(gradient, np.float64), number)
            # One rounding of the sum, and float32's of what leads to it.
            allowed = float(jnp.finfo(dtype).eps) * np.abs(before + update) + 2e-5 * np.abs(update) + 1e-9
            assert (np.abs(np.asarray(state.params["w"], np.float64) - before - update) <= allowed).all()
        assert loss_fn.training == 1


class Oracle:
    """Adam, AdamW and Nesterov's momentum as their papers write them, in float64."""

    def __init__(self, name, w):
        self.name, self.w, self.m, self.v = name, w, np.zeros_like(w), np.zeros_like(w)

    def step(self, g, t):
        g = g * min(1.0, CLIP / np.linalg.norm(g))
        warm = round(0.05 * STEPS)
        rate = RATE * (t / warm if t < warm else 0.5 * (1 + np.cos(np.pi * (t - warm) / (STEPS - warm))))
        if self.name == "sgd":
            g = g + DECAY * self.w
            self.m = g + 0.9 * self.m
            return -rate * (g + 0.9 * self.m)
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.999 * self.v + 0.001 * g**2
        direction = self.m / (1 - 0.9 ** (t + 1)) / (np.sqrt(self.v / (1 - 0.999 ** (t + 1))) + 1e-8)
        return -rate * (direction + (DECAY * self.w if self.name == "adamw" else 0))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_half_precision_trains_in_one_program(name, dtype):
    """A scan over steps carries the state, alone and in an ensemble whose rates vary."""
    tx, data = make(name, "one-cycle", CLIP), jnp.ones((4, 2, 3), dtype)
    state, _ = train.make_epoch(train.make_step(dot), batch_size=2)(start(tx, dtype), data)
    accumulators = [x for x in jax.tree.leaves(state.opt_state) if x.shape == (2, 3)]
    assert accumulators
    assert {x.dtype for x in accumulators} == {jnp.dtype(jnp.float32)}
    states = train.ensemble.create(
        lambda key: {"w": jax.random.normal(key, (2, 3)).astype(dtype)},
        tx,
        train.ensemble.grid(learning_rate=[0.0625, 0.5]) | {"seed": [0, 0]},
    )
    before = states.params["w"].astype(jnp.float32)
    states, _ = train.ensemble.fit(states, data, dot, epochs=1, batch_size=2, progress=False)
    moved = np.abs(states.params["w"].astype(jnp.float32) - before).max((1, 2))
    assert states.params["w"].dtype == dtype
    assert moved[1] > 4 * moved[0] > 0


def test_an_optimiser_whose_state_changes_its_type_is_named():
    wide = optax.chain(optax.add_decayed_weights(jnp.float32(0.1)), optax.trace(0.9))
    state = start(wide, "bfloat16")
    told = r"opt_state\[1\]\.trace\['w'\] as bfloat16 \(2, 3\) before and float32 \(2, 3\) after; use train.optimizer"
    with pytest.raises(ValueError, match=told):
        train.make_epoch(train.make_step(dot), batch_size=2)(state, jnp.ones((4, 2, 3), jnp.bfloat16))


def test_a_constant_rate_needs_no_number_of_steps_and_a_schedule_names_it():
    assert float(train.optimizer("sgd", RATE).init({"w": jnp.ones(1)}).hyperparams["learning_rate"]) == np.float32(RATE)
    for schedule in SCHEDULES[1:]:
        with pytest.raises(ValueError, match=f"steps: expected the steps of the whole run for a {schedule} schedule"):
            train.optimizer("adam", RATE, schedule=schedule)


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


def test_a_run_of_few_steps_warms_up_in_all_but_the_last():
    opt_state = train.optimizer("sgd", steps=3, schedule="cosine", warmup=0.9).init(jnp.ones(2))
    assert float(opt_state.hyperparams["learning_rate"]) == np.float32(1e-3)


def test_weight_decay_spares_biases():
    tx = train.optimizer("adamw", 0.1, steps=10, weight_decay=0.5)
    state = train.create_state({"w": jnp.ones((2, 2)), "b": jnp.ones(2)}, tx, jax.random.key(0))

    def loss_fn(p, batch, key):
        return 0 * (p["w"].sum() + p["b"].sum()) * batch, {}

    state, _ = train.make_step(loss_fn)(state, jnp.ones(1))
    np.testing.assert_allclose(state.params["w"], 1 - 0.1 * 0.5, rtol=1e-6)
    np.testing.assert_array_equal(state.params["b"], np.ones(2))


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
