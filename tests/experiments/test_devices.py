"""The options about devices: the same numbers on eight devices, and what does not fit told before there is a folder."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import lenet5
from experiments.bench import scale, stream
from jaxnn import train

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")


def test_eight_devices_leave_the_run_folder_of_one():
    options = lenet5.Options(epochs=1, batch_size=512, run=Path("runs/one"))
    lenet5.main(options)
    lenet5.main(dataclasses.replace(options, devices=8, shard_state=8, run=Path("runs/eight")))
    one, eight = (train.RunFolder(f"runs/{name}") for name in ("one", "eight"))
    assert {path.name for path in one.path.iterdir()} == {path.name for path in eight.path.iterdir()}
    for name, value in one.metrics()[0].items():
        if name not in ("seconds", "examples_per_second"):
            np.testing.assert_allclose(eight.metrics()[0][name], value, rtol=1e-4, err_msg=name)
    accuracies = [json.loads((run / "result.json").read_text())["test_accuracy"] for run in (one, eight)]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.003)  # one picture of 359


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"devices": 9}, "--devices: expected 1 to 8"),
        ({"devices": 8, "batch_size": 100}, "--batch-size: expected a multiple of the 8 devices, got 100"),
        ({"devices": 8, "shard_state": 3}, "--shard-state: expected a divisor of the 8 devices, got 3"),
        ({"processes": 2}, "--coordinator, --processes and --process-id: expected all three or none"),
    ],
)
def test_bad_options_are_reported_before_there_is_a_run_folder(change, message):
    with pytest.raises(ValueError, match=message):
        lenet5.main(dataclasses.replace(lenet5.Options(), **change))
    assert not Path("runs").exists()


def test_collectives_are_read_off_a_program():
    program = """
      %a.1 = f32[3,4]{1,0} all-reduce(%x), channel_id=1
      %b = (f32[8]{0}, bf16[2,2]{1,0}) all-reduce(%x, %y), channel_id=2
      ROOT %c = u8[16]{0} all-gather(%z), dimensions={0}
      %d = f32[] add(%e, %all-reduce.3)
    """
    found = scale.collectives(program)
    assert found == [("all-reduce", 48), ("all-reduce", 40), ("all-gather", 16)]
    assert scale.sent("all-reduce", 48, 8) == 2 * 48 * 7 / 8
    assert scale.sent("all-gather", 16, 8) == 14


def test_benchmarks_of_scale_name_what_does_not_fit():
    with pytest.raises(ValueError, match="--batch-size: expected a multiple of 8, got 12"):
        scale.main(scale.Options(devices=(), throughput=True, batch_size=12))
    with pytest.raises(ValueError, match="--rounds: expected a whole number of at least 1"):
        scale.main(scale.Options(rounds=0))
    with pytest.raises(ValueError, match="--examples: expected a whole number of at least 1, got 0"):
        stream.main(stream.Options(examples=(64, 0)))


def test_pictures_beyond_the_first_repeat_them():
    pictures = stream.random_pictures(12_803)
    np.testing.assert_array_equal(pictures.images[12_800:], pictures.images[:3])
    np.testing.assert_array_equal(pictures.labels[12_800:], pictures.labels[:3])


def test_a_process_times_an_epoch_whenever_it_is_asked():
    with scale.Timed({"task": "time", "devices": 2, "batch": 8, "examples": 8}) as worker:
        assert worker.epoch() > 0
        assert worker.epoch() > 0
