"""Training in stages: a state that was trained on other data trains whole epochs, however it is read."""

import jax
import optax
import pytest

from jaxnn import data, train
from tests.train.toys import MLP, blobs, equal

quiet = {"epochs": 2, "batch_size": 8, "test_data": blobs(9), "progress": False}


def after_a_first_stage():
    """A state after 2 steps, where an epoch of the second stage has 3."""
    state = train.create_state(MLP(), optax.adam(1e-2), jax.random.key(0))
    return train.fit(state, blobs(16), train.losses.classification(), epochs=1, batch_size=8, progress=False)[0]


@pytest.fixture(scope="module")
def second():
    return train.fit(after_a_first_stage(), blobs(21), train.losses.classification(), **quiet)


def test_every_example_counts_once_and_every_epoch_is_evaluated(second):
    state, history = second
    assert [record["step"] for record in history] == [5, 8]
    assert all("test_loss" in record for record in history)
    assert int(state.step) == 8


@pytest.mark.parametrize("stream", [False, True])
def test_parts_of_epochs_have_the_same_numbers(second, stream):
    state, history = second
    blob = data.Stream(blobs(21)) if stream else blobs(21)
    again, told = train.fit(after_a_first_stage(), blob, train.losses.classification(), chunk=2, **quiet)
    assert equal(state, again)
    assert [record["train_loss"] for record in told] == [record["train_loss"] for record in history]


def test_a_stage_resumes_from_its_own_start_alone(second):
    folder = "runs/stages/checkpoints"
    part = {**quiet, "epochs": 1}
    train.fit(
        after_a_first_stage(), blobs(21), train.losses.classification(), checkpoints=train.Checkpoints(folder), **part
    )
    resumed = {"checkpoints": train.Checkpoints(folder, resume=True), **quiet}
    state, _ = train.fit(after_a_first_stage(), blobs(21), train.losses.classification(), **resumed)
    assert equal(second[0], state)
    fresh = train.create_state(MLP(), optax.adam(1e-2), jax.random.key(0))
    with pytest.raises(train.checkpoint.CheckpointError, match="first step was 2 there and is nothing now"):
        train.fit(fresh, blobs(21), train.losses.classification(), **resumed)


def draws(model, batch, key):
    return model(batch.images).mean(1) + jax.random.uniform(key), {}


def of_the_batch(model, batch, key):
    return model(batch.images).mean(), {}


@pytest.mark.parametrize(
    ("loss_fn", "options", "told"),
    [
        (draws, {}, "key"),
        (of_the_batch, {"reduction": "batch"}, "test_batch_size: expected a divisor of 9"),
        (draws, {"test_data": data.Stream(blobs(9))}, "test_data: expected arrays"),
        (draws, {"test_data": (blobs(9).images, blobs(8).labels)}, "test_data: expected arrays"),
    ],
)
def test_an_evaluation_that_cannot_be_is_an_error_before_training(loss_fn, options, told):
    state = train.create_state(MLP(), optax.adam(1e-2), jax.random.key(0))
    with pytest.raises((ValueError, TypeError), match=told):
        train.fit(state, blobs(16), loss_fn, **(quiet | options))
    assert not state.step.is_deleted()


def test_training_and_evaluation_see_a_loss_as_it_is_now_hashable_or_not():
    class Loss:
        __hash__ = None
        value = 1.0

        def __call__(self, model, batch, key):
            return 0.0 * model(batch.images).mean(1) + self.value, {}

    loss_fn, state = Loss(), train.create_state(MLP(), optax.adam(1e-2), jax.random.key(0))
    for loss_fn.value in (1.0, 2.0):
        state, history = train.fit(state, blobs(16), loss_fn, **quiet)
        assert {history[-1]["train_loss"], history[-1]["test_loss"]} == {loss_fn.value}
    with pytest.raises(ValueError, match="loss_fn: expected a function that can be hashed"):
        train.evaluate(state, blobs(16), loss_fn)
