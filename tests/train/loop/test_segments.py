"""Segments of steps, whose learning rate follows a budget of steps or of time."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import train
from jaxnn.train.loop import Budget, cosine


def test_the_learning_rate_warms_up_and_ends_at_zero_with_the_steps():
    shares = np.concatenate([Budget(steps=50).shares(done, 20) for done in (0, 20, 40)])
    np.testing.assert_allclose(shares[:50], np.arange(1, 51) / 50)
    assert (shares[50:] == 1).all()
    rates = cosine(shares, 2.0)
    assert rates.argmax() == 2
    assert rates[0] < 1 < rates[2]
    np.testing.assert_allclose(rates[49:], 0, atol=1e-6)
    assert cosine(shares, 2.0, warmup=0.2).argmax() > 4
    np.testing.assert_allclose(cosine(np.array([0, 0.5]), 2.0, warmup=0), [2, 1])


def test_by_the_clock_the_run_ends_with_a_whole_segment():
    budget = Budget(seconds=1000.0, seconds_per_step=1.0)
    budget.began -= 900
    assert budget.shares(900, 60)[-1] == pytest.approx(0.95, abs=1e-3)
    assert budget.shares(900, 90)[-1] == pytest.approx(1.0)
    assert Budget(seconds=1000.0).shares(0, 3).shape == (3,)
    again = Budget(seconds=1000.0)
    again.resume(900)
    np.testing.assert_allclose(again.shares(900, 3), 0.9, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "seconds: expected a finite positive number without steps, got inf"),
        ({"seconds": 0}, "seconds: expected a finite positive number without steps, got 0"),
        ({"steps": 0}, "steps: expected a whole number of at least 1, got 0"),
    ],
)
def test_a_budget_that_makes_no_sense_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        Budget(**options)


DATA = train.Generated(lambda key: jax.random.normal(key, (4, 2)), steps=10)


def loss_fn(w, x, key):
    return (x @ w - x[:, 0]) ** 2, {}


def trained(rate, steps=12, segment=5, tx="adam", **report):
    program = train.loop.Segments(train.make_step(loss_fn), DATA, Budget(steps=steps), rate, segment=segment, **report)
    state = train.create_state(jnp.zeros(2), train.optimizer(tx), jax.random.key(0))
    return train.loop.drive(program, state)


def test_segments_are_single_steps_with_the_planned_learning_rates():
    rate = partial(cosine, highest=0.1)
    state, history = trained(rate, report=lambda state: {"seen": int(state.step)}, reports=(0.3, 0.4, 1.0))
    assert [r.get("seen") for r in history] == [5, None, 15]
    assert [(r["step"], r["share"]) for r in history] == [
        (5, pytest.approx(5 / 12)),
        (10, pytest.approx(10 / 12)),
        (15, 1),
    ]
    assert history[-1]["epochs"] == 1.5
    rates = iter(np.concatenate([rate(Budget(steps=12).shares(done, 5)) for done in (0, 5, 10)]))
    w, key = jnp.zeros(2), train.create_state(jnp.zeros(2), train.optimizer("adam"), jax.random.key(0)).key
    adam = optax.adam(1.0)
    moments = adam.init(w)
    with jax.numpy_dtype_promotion("standard"):
        for step, learning_rate in enumerate(rates):
            x = DATA.batch_at(key, jnp.asarray(step))
            updates, moments = adam.update(jax.grad(lambda w, x=x: loss_fn(w, x, None)[0].mean())(w), moments)
            w = w + learning_rate * updates
    np.testing.assert_allclose(state.params, w, rtol=1e-5)


def test_a_loss_that_is_not_finite_ends_the_run_with_advice():
    with pytest.raises(
        train.loop.NonFiniteLossError, match=r"drive: the loss became (inf|nan) before step .* try a lower"
    ) as lost:
        trained(lambda shares: np.full(shares.shape, 1e30, np.float32), steps=100, segment=20, tx="sgd")
    assert lost.value.step >= 20
