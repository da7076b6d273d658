"""Event files, read back: each epoch once, whatever happened to the run."""

import errno
import importlib.util
import struct
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from experiments import lenet5
from jaxnn import train
from jaxnn.train.devices import distributed
from tests.train.toys import MLP, blobs

pytest.importorskip("tensorboardX")

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter, masked_crc32c


def events(folder):
    """The events of the one file in the folder, its check sums checked."""
    (path,) = Path(folder, "tensorboard").iterdir()
    data, found = path.read_bytes(), []
    while data:
        (length,), (check,) = struct.unpack("<Q", data[:8]), struct.unpack("<I", data[8:12])
        body, data = data[12 : 12 + length], data[12 + length :]
        assert check == masked_crc32c(struct.pack("<Q", length))
        assert struct.unpack("<I", data[:4])[0] == masked_crc32c(body)
        found.append(Event.FromString(body))
        data = data[4:]
    return found


def written(folder):
    """Of each event with scalars its step and its scalars by their tags."""
    return [
        (event.step, {value.tag: value.simple_value for value in event.summary.value})
        for event in events(folder)
        if event.summary.value
    ]


def assert_holds(folder, history):
    found = written(folder)
    assert [step for step, _ in found] == [record["step"] for record in history]
    assert [scalars["epoch"] for _, scalars in found] == list(range(1, len(history) + 1))
    for (_, scalars), record in zip(found, history, strict=True):
        for part in ("train", "test"):
            for name in ("loss", "accuracy"):
                np.testing.assert_allclose(scalars[f"{name}/{part}"], record[f"{part}_{name}"], rtol=1e-6)


def fit(run, epochs, on_record, *, resume=False):
    state = train.create_state(MLP(), optax.adam(1e-2), jax.random.key(0))
    return train.fit(
        state,
        blobs(20),
        train.losses.classification(),
        test_data=blobs(9),
        epochs=epochs,
        batch_size=8,
        progress=False,
        run=run,
        checkpoints=train.Checkpoints(run / "checkpoints", resume=resume, every=2),
        sinks=[on_record] if on_record else [],
    )


@pytest.fixture
def run():
    return train.RunFolder.create("runs/toy")


def test_each_epoch_by_its_step_and_on_the_disk_before_the_next_one(run):
    seen = []
    with train.run.TensorBoard(run) as board:

        def on_record(record, state):
            board(record)
            seen.append(len(written(run.path)))

        _, history = fit(run, 3, on_record)
    assert seen == [1, 2, 3]
    assert_holds(run.path, history)
    version, start, *rest = events(run.path)
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (3, SessionLog.START)
    times = [event.wall_time for event in rest]
    assert times == sorted(times)
    assert {tag for _, scalars in written(run.path) for tag in scalars} == {
        *("epoch", "seconds", "examples_per_second", "grad_norm/train"),
        *(f"{name}/{part}" for name in ("loss", "accuracy") for part in ("train", "test")),
    }


def test_a_run_that_continues_has_each_epoch_once(run):
    """It stops in epoch 4, after the checkpoint of epoch 2: epoch 3 is trained twice."""
    with train.run.TensorBoard(run) as board:

        def on_record(record, state):
            if record["epoch"] == 4:
                raise KeyboardInterrupt
            board(record)

        with pytest.raises(KeyboardInterrupt):
            fit(run, 6, on_record)
    assert len(written(run.path)) == 3
    with train.run.TensorBoard(run) as board:
        _, history = fit(run, 6, board, resume=True)
    assert_holds(run.path, history)
    assert run.metrics() == history


def test_epochs_from_before_it_wrote_for_tensorboard_are_there_too(run):
    fit(run, 2, None)
    (run / "tensorboard").mkdir()
    of_a_person = run / "tensorboard" / "events.out.tfevents.1.host"
    of_a_person.write_bytes(b"mine")
    with train.run.TensorBoard(run) as board:
        _, history = fit(run, 4, board, resume=True)
    assert of_a_person.read_bytes() == b"mine"
    of_a_person.unlink()
    assert_holds(run.path, history)
    times = [event.wall_time for event in events(run.path)[2:]]
    apart = [record["seconds"] for record in history[1:3]]  # the fourth was written when it was trained
    np.testing.assert_allclose(np.diff(times)[:2], apart, atol=1e-5)


def test_a_full_disk_is_reported_and_what_is_missing_is_written_later(run, monkeypatch):
    flush, full = RecordWriter.flush, [False, True, True, False]

    def sometimes(self):
        if full and full.pop(0):
            raise OSError(errno.ENOSPC, "No space left on device")
        return flush(self)

    monkeypatch.setattr(RecordWriter, "flush", sometimes)
    with (
        pytest.warns(RuntimeWarning, match=r"tensorboard could not be written to \(No space left on device\)") as told,
        train.run.TensorBoard(run) as board,
    ):
        _, history = fit(run, 4, board)
    assert len(told) == 2
    assert_holds(run.path, history)


def test_the_first_process_alone_writes(run, monkeypatch):
    monkeypatch.setattr(distributed, "is_first", lambda: False)
    with train.run.TensorBoard(run) as board:
        board({"epoch": 1, "step": 3, "train_loss": 0.5, "seconds": 1.0})
    assert list(run.path.iterdir()) == []


def test_numbers_that_were_lost_are_left_out(run):
    run.log({"epoch": 1, "step": 3, "train_loss": float("nan"), "train_accuracy": 0.5, "seconds": 1.0})
    with train.run.TensorBoard(run) as board:
        board({"epoch": 2, "step": 6, "train_loss": 0.25, "train_accuracy": 0.5, "seconds": 1.0})
    first, second = (scalars for _, scalars in written(run.path))
    assert "loss/train" not in first
    assert second["loss/train"] == 0.25


def test_records_of_other_loops_do_not_end_training(run):
    run.log({"epoch": 1, "note": "before training"})
    with train.run.TensorBoard(run) as board:
        board({"step": 3, "share": 1.0, "train_loss": 0.5})  # as of `Segments`, without epochs
    ((step, scalars),) = written(run.path)
    assert (step, scalars["loss/train"]) == (3, 0.5)


def test_members_of_an_ensemble_have_a_curve_each(run):
    states = train.ensemble.create(MLP, optax.adam(1e-2), {"seed": [0, 1]})
    with train.run.TensorBoard(run) as board:
        _, histories = train.ensemble.fit(
            states,
            blobs(20),
            train.losses.classification(),
            epochs=2,
            batch_size=8,
            run=run,
            sinks=[board],
            progress=False,
        )
    for epoch, (_, scalars) in enumerate(written(run.path)):
        for i, history in enumerate(histories):
            np.testing.assert_allclose(scalars[f"loss/train/{i}"], history[epoch]["train_loss"], rtol=1e-6)


def test_without_tensorboardx_the_extra_is_named_before_there_is_a_run_folder(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboardX" else find(name))
    with pytest.raises(
        ImportError, match=r"tensorboardX is not installed; install it with: pip install .*\[tensorboard\]"
    ):
        lenet5.main(lenet5.Options(tensorboard=True))
    assert not Path("runs").exists()
