"""A streamed epoch is the compiled one, batch by batch."""

import jax
import numpy as np
import optax
import pytest

from jaxnn import data, train
from jaxnn.train.loop.streamed import order_on_host
from tests.train.toys import MLP, Batch, Counted, blobs, equal

pytest.importorskip("grain")


def start():
    return train.create_state(MLP(), optax.adam(1e-2), jax.random.key(0))


@pytest.fixture(scope="module")
def step():
    return train.make_step(train.losses.classification())


@pytest.mark.parametrize("examples", [24, 21])
def test_it_equals_the_epoch_on_the_device(step, examples):
    epoch, streamed = train.make_epoch(step, batch_size=8), train.loop.StreamedEpoch(step, batch_size=8)
    state, other = start(), start()
    for _ in range(2):
        state, expected = epoch(state, blobs(examples))
        other, metrics = streamed(other, data.Stream(blobs(examples)))
        for name in expected:
            np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-5, err_msg=name)
    for a, b in zip(jax.tree.leaves(other.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
def test_over_eight_devices_too(step):
    _, expected = train.loop.StreamedEpoch(step, batch_size=8)(start(), data.Stream(blobs(21)))
    parallel = train.parallel(8)
    epoch = train.loop.StreamedEpoch(step, batch_size=8, parallel=parallel)
    _, metrics = epoch(parallel.state(start()), data.Stream(blobs(21)))
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-5)


def test_stopped_anywhere_it_continues_bit_for_bit(step):
    epoch, stream = train.loop.StreamedEpoch(step, batch_size=8), data.Stream(blobs(21))
    whole, metrics = epoch(start(), stream)
    parts, first = epoch(start(), stream, steps=2)
    parts, last = epoch(parts, stream, steps=5)
    assert equal(parts, whole)
    assert equal(np.concatenate([first["loss"], last["loss"]]), metrics["loss"])
    assert int(parts.step) == 3


class Opened(data.Stream):
    """Counts how often readers start, which are processes with `workers=`."""

    starts = 0

    def batches(self, indices):
        Opened.starts += 1
        return super().batches(indices)


def test_readers_start_once_an_epoch_and_never_read_for_another_state(step, monkeypatch):
    monkeypatch.setattr(Opened, "starts", 0)
    stream, options = Opened(blobs(21)), {"epochs": 2, "batch_size": 8, "progress": False}
    state, _ = train.fit(start(), stream, train.losses.classification(), chunk=1, **options)
    assert Opened.starts == 2
    assert equal(state, train.fit(start(), stream, train.losses.classification(), **options)[0])
    epoch = train.loop.StreamedEpoch(step, batch_size=8)
    epoch(start(), stream, steps=1)
    again, _ = epoch(start(), stream, steps=1)  # not the second step
    assert equal(again, epoch(start(), data.Stream(blobs(21)), steps=1)[0])


def test_the_order_is_the_epochs_own():
    key = jax.random.key(3)
    np.testing.assert_array_equal(order_on_host(key, 2, 50), train.loop.epoch_order(key, 2, 50))
    raw = jax.random.PRNGKey(3)
    np.testing.assert_array_equal(order_on_host(raw, 2, 50), train.loop.epoch_order(raw, 2, 50))


def test_fit_takes_a_stream(capsys):
    losses = Counted()
    options = {"test_data": blobs(9, seed=1), "epochs": 2, "batch_size": 8, "progress": False}
    _, history = train.fit(start(), data.Stream(blobs(21)), losses, **options)
    _, expected = train.fit(start(), blobs(21), train.losses.classification(), **options)
    for record, other in zip(history, expected, strict=True):
        for name in ("train_loss", "train_accuracy", "test_loss"):
            np.testing.assert_allclose(record[name], other[name], rtol=1e-5)
    assert (losses.training, losses.evaluation) == (1, 1)


def test_what_is_no_number_in_a_stream_is_named():
    for dtype, told in (("datetime64[D]", "leave it out, or encode"), (">i4", r"convert .*\.astype\(np\.int32\)")):
        stream = data.Stream((np.eye(2, dtype=np.float32), np.arange(2).astype(dtype)))
        with pytest.raises(ValueError, match=rf"stream\[1\]: expected arrays, .* got an array of .*; {told}"):
            train.fit(start(), stream, lambda model, batch, key: (model(batch[0])[:, 0], {}), progress=False)


def test_a_loss_that_is_lost_is_reported():
    points = blobs(16)
    bad = Batch(np.where(np.arange(16)[:, None] == 3, np.nan, points.images), points.labels)
    with pytest.raises(train.loop.NonFiniteLossError, match="the loss became nan in epoch 1"):
        train.fit(start(), data.Stream(bad), train.losses.classification(), batch_size=8, progress=False)
