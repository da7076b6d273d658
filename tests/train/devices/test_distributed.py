"""Jobs of several real processes on this machine, over loopback."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxnn import train
from jaxnn.train.devices import distributed, sharding
from tests.train import job
from tests.train.toys import blobs

ROOT = Path(__file__).parents[3]


def begin(command, processes, devices=1, logs=Path(), **more):
    """Starts the processes of a job: `command(coordinator, id)` each; a file of output each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",  # as many devices as are asked for
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": str(ROOT),
        **more,
    }
    started = []
    for number in range(processes):
        with open(logs / f"log-{number}.txt", "w") as log:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", *command(coordinator, number)], stdout=log, stderr=log, env=environment
                )
            )
    return started


def end(started, seconds=300):
    """Waits for all, and leaves none behind."""
    deadline = time.monotonic() + seconds
    try:
        return [process.wait(max(0.1, deadline - time.monotonic())) for process in started]
    except subprocess.TimeoutExpired:
        return ["too long"]
    finally:
        for process in started:
            process.kill()
            process.wait()


def task(name, processes, folder):
    return lambda coordinator, number: ["tests.train.job", name, coordinator, str(processes), str(number), str(folder)]


def logs(folder):
    return "\n".join(path.read_text() for path in sorted(folder.glob("log-*.txt")))


@pytest.fixture(scope="module")
def alone():
    """What a single device gives."""
    return train.fit(
        job.start(),
        blobs(21),
        train.losses.classification(),
        test_data=blobs(11, seed=1),
        epochs=job.EPOCHS,
        batch_size=job.BATCH,
        progress=False,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a job of two processes, two devices each: runs that end, and one of which a process is killed."""
    folder = tmp_path_factory.mktemp("whole")
    tasks = "everything+alone_in_trouble+stopped+ended+unlike+killed"
    assert end(begin(task(tasks, 2, folder), 2, 2, folder)) == [1, -signal.SIGKILL], logs(folder)
    return folder


@pytest.fixture(scope="module")
def resumed(whole):
    """The folder of a job that resumes the killed run, without its newest checkpoint; a sink's error ends it.

    And the steps of its two newest checkpoints before.
    """
    folder = whole / "killed"
    *_, before, newest = steps(folder)
    damage(folder / "checkpoints" / str(newest))
    assert end(begin(task("trained+raised", 2, folder), 2, 2, folder), 120) == [1, 1], logs(folder)
    return folder, before, newest


@pytest.fixture
def four(monkeypatch):
    """Four of this process's devices, used as a job uses its four."""
    monkeypatch.setattr(sharding, "SMALLEST", 16)
    return train.parallel(4, shard=2)


def final(folder, number=0):
    with np.load(folder / f"final-{number}.npz") as arrays:
        return [arrays[name] for name in arrays.files]


def leaves(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state.replace(key=None))]


def assert_near(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def check_everything(folder, processes, alone):
    state, history = alone
    results = [json.loads((folder / f"result-{number}.json").read_text()) for number in range(processes)]
    for number, result in enumerate(results):
        assert result["devices"] == 4
        assert result["split"]
        np.testing.assert_allclose(result["predicted"], train.predict(state, blobs(11), job.logits), rtol=1e-4)
        assert result["text"] == "from process 0"
        assert "state: expected the same in all processes of the job, got different ones" in result["told"]
        assert_near(final(folder, number), leaves(state))
        for record, expected in zip(result["history"], history, strict=True):
            for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
                np.testing.assert_allclose(record[name], expected[name], rtol=1e-5, err_msg=name)
        assert result["streamed"] == results[0]["streamed"]
    # Each process reads its own part of every batch, and together they read all.
    assert [len(result["read"]) for result in results] == [24 // processes] * processes
    assert sorted(number for result in results for number in result["read"]) == list(range(24))
    # One of them writes and speaks.
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == job.EPOCHS
    assert "epoch 3/3" in (folder / "log-0.txt").read_text()
    assert "epoch" not in (folder / "log-1.txt").read_text()


def test_two_processes_train_as_one_does(alone, whole):
    check_everything(whole, 2, alone)


def test_a_sink_that_stops_in_one_process_stops_all_of_them_and_the_resumed_run_too(whole):
    assert [json.loads((whole / f"ended-{number}.json").read_text()) for number in range(2)] == [[[1, 2], [1, 2]]] * 2


def test_what_one_process_cannot_write_all_know(whole):
    for number in range(2):
        result = json.loads((whole / f"trouble-{number}.json").read_text())
        assert "on a disk that all processes share, got one that is not (process 1: does not see" in result["apart"]
        assert "cannot be written to (process 1: Not a directory); choose a folder that can" in result["blocked"]
        assert result["saved"] == [False, True]
    first, second = ((whole / f"log-{number}.txt").read_text() for number in range(2))
    assert "could not be written to" in first
    assert "(process 0: [Errno 28] No space left on device); there is no older one" in first
    assert "CheckpointWarning" not in second


def test_processes_that_do_not_fit_together_are_reported_and_one_clock_decides(whole):
    first, last = (json.loads((whole / f"unlike-{number}.json").read_text()) for number in range(2))
    assert first == last
    assert "(21,) in process 0 and" in first["data"]
    assert "fit: expected the same in all processes of the job, got different ones, epochs=1," in first["arguments"]
    assert "got one on those of this process alone; place it" in first["alone"]
    assert (
        "ensemble.fit: expected the same in all processes of the job, got different ones, epochs=1," in first["members"]
    )
    assert "another training writes to" in first["one folder"] or "holds epochs" in first["one folder"]
    assert first["shares"][-1] == 1


def test_an_error_that_nobody_catches_ends_its_process_and_so_the_job(resumed):
    first, second = ((resumed[0] / f"log-{number}.txt").read_text() for number in range(2))
    assert "RuntimeError: the logger lost its network" in second
    assert "process 0 of 2 lost the connection to another one" in first


def test_a_signal_to_one_process_stops_and_saves_all(whole):
    for number in range(2):
        result = json.loads((whole / f"stopped-{number}.json").read_text())
        assert result["stopped"] == ["SIGTERM", 6, True]
        assert "another process is training with" in result["told"]
        assert result["epochs"] == [1, 2, 3]
        for one, other in zip(final(whole / "stopped", number), final(whole, number), strict=True):
            np.testing.assert_array_equal(one, other)


def test_four_processes_go_on_with_what_one_has_saved(alone, four, tmp_path):
    job.fit(four, tmp_path, epochs=1, progress=False)
    assert end(begin(task("everything", 4, tmp_path), 4, 1, tmp_path)) == [0] * 4, logs(tmp_path)
    assert "resumed after step 3" in logs(tmp_path)
    check_everything(tmp_path, 4, alone)


def test_one_process_continues_with_what_two_have_saved(whole, four, tmp_path):
    shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints")
    state, _ = job.fit(four, tmp_path, progress=False)
    for one, other in zip(leaves(state), final(whole), strict=True):
        np.testing.assert_array_equal(one, other)
    for newer in steps(tmp_path)[-2:]:
        shutil.rmtree(tmp_path / "checkpoints" / str(newer))
    assert steps(tmp_path)[-1] == 6
    state, history = job.fit(four, tmp_path, progress=False)
    assert [record["epoch"] for record in history] == [1, 2, 3]
    assert_near(leaves(state), final(whole))


def test_a_killed_process_ends_the_job_with_a_clear_error_and_it_resumes_bit_for_bit(whole, resumed):
    assert "stopped: process 0 of 2 lost the connection to another one" in logs(whole)
    assert "from the last checkpoint" in logs(whole)
    folder, before, newest = resumed
    assert f"the checkpoint of step {newest} is damaged" in (folder / "log-0.txt").read_text()
    assert f"resumed after step {before}" in (folder / "log-0.txt").read_text()
    assert (folder / "checkpoints" / f"damaged-{newest}").is_dir()
    check_final(folder, whole)


@pytest.mark.slow
def test_twelve_kills_at_random_moments(whole, tmp_path):
    """Of either process, checkpoint writing included; the first one has the job's coordinator, which dies with it."""
    rng, finished = random.Random(0), 0
    for kill in range(12):
        before = set(tmp_path.glob("checkpoints/[0-9]*"))
        started = begin(task("trained", 2, tmp_path), 2, 2, tmp_path, JOB_PAUSE="0.3")
        while not set(tmp_path.glob("checkpoints/[0-9]*")) - before and started[0].poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.8))
        rng.choice(started).kill()
        codes = end(started, 120)
        if codes == [0, 0]:  # it had finished before: as good as any, and the next one begins anew
            finished += 1
            check_final(tmp_path, whole)
            (tmp_path / "checkpoints").rename(tmp_path / f"finished-{kill}")
        else:
            assert -signal.SIGKILL in codes, logs(tmp_path)
            assert "too long" not in codes, logs(tmp_path)
    assert end(begin(task("trained", 2, tmp_path), 2, 2, tmp_path)) == [0, 0], logs(tmp_path)
    check_final(tmp_path, whole)
    print(f"{12 - finished} kills of 12 before the end; bit for bit the same")


def check_final(folder, whole):
    for number in range(2):
        for one, other in zip(final(folder, number), final(whole, number), strict=True):
            np.testing.assert_array_equal(one, other)


def steps(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit())


def damage(checkpoint):
    """Changes a byte of what one process wrote."""
    path = max(
        (path for path in checkpoint.rglob("*") if path.parent.name == "d"), key=lambda path: path.stat().st_size
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def test_a_process_that_never_comes_is_reported(tmp_path):
    (process,) = begin(task("everything", 2, tmp_path), 1, 1, tmp_path, JOB_TIMEOUT="1")
    assert end([process]) == [1]
    assert "error: process 0 of 2: not all of them came to 127.0.0.1:" in logs(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("host:1", 2, None), "coordinator, processes and process_id: expected all three or none, got 'host:1', 2"),
        (("host", 2, 0), "coordinator: expected host:port, got 'host'"),
        (("host:port", 2, 0), "coordinator: expected host:port"),
        (("host:1", 0, 0), "processes: expected a whole number of at least 1, got 0"),
        (("host:1", 2, 2), "process_id: expected 0 to 1, for 2 processes, got 2"),
    ],
)
def test_what_does_not_fit_is_reported(arguments, message):
    with pytest.raises(ValueError, match=message):
        distributed.initialize(*arguments)


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, False),  # salloc or sbatch, without srun
        ({"SLURM_STEP_NUM_TASKS": "4"}, True),
        ({"SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "t0,t1"}, True),
    ],
)
def test_jobs_are_recognised_by_their_environment(environment, several):
    assert distributed._several(environment) == several


def test_alone_nothing_changes():
    assert not distributed.initialize()
    assert distributed.is_first()
    assert distributed.same_text("here") == "here"
    with pytest.raises(ValueError, match="text: expected at most 4096 bytes"):
        distributed.same_text("x" * 5000)
    with pytest.raises(ValueError, match="connection closed by peer"), distributed.tell_of_lost_processes():
        raise ValueError("connection closed by peer")  # of no job: left alone
