"""Jobs of several real processes on this machine, over loopback."""

import json
import os
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
from jaxnn.train import distributed
from tests.train import job
from tests.train.toys import blobs

ROOT = Path(__file__).parents[2]


def begin(command, processes, devices=1, logs=Path(), **more):
    """Starts the processes of a job: `command(coordinator, id)` each; a file of output each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
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
    return train.fit(
        job.start(),
        blobs(21),
        train.classification_loss(),
        test_data=blobs(11, seed=1),
        epochs=job.EPOCHS,
        batch_size=job.BATCH,
        progress=False,
    )


@pytest.mark.parametrize(("processes", "devices"), [(2, 2), (4, 1)])
def test_several_processes_train_as_one_does(alone, processes, devices, tmp_path):
    state, history = alone
    codes = end(begin(task("everything", processes, tmp_path), processes, devices, tmp_path))
    assert codes == [0] * processes, logs(tmp_path)
    results = [json.loads((tmp_path / f"result-{number}.json").read_text()) for number in range(processes)]
    for result in results:
        assert result["devices"] == 4
        assert result["split"]
        assert result["text"] == "from process 0"
        assert "state: the processes of the job hold different states" in result["told"]
        np.testing.assert_allclose(result["kernel"], state.params["out"]["kernel"], rtol=1e-4, atol=1e-6)
        for record, expected in zip(result["history"], history, strict=True):
            for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
                np.testing.assert_allclose(record[name], expected[name], rtol=1e-5, err_msg=name)
        assert result["streamed"] == results[0]["streamed"]
    # Each process reads its own part of every batch, and together they read all.
    assert [len(result["read"]) for result in results] == [24 // processes] * processes
    assert sorted(number for result in results for number in result["read"]) == list(range(24))
    # One of them writes and speaks.
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == job.EPOCHS
    assert "epoch 3/3" in (tmp_path / "log-0.txt").read_text()
    assert "epoch" not in (tmp_path / "log-1.txt").read_text()


def test_a_killed_process_ends_the_job_with_a_clear_error_and_it_resumes(tmp_path):
    started = begin(task("endless", 2, tmp_path), 2, 1, tmp_path)
    try:
        wait_for("step 9", tmp_path / "log-0.txt", started)
        started[1].send_signal(signal.SIGKILL)
        assert started[0].wait(120) == 1  # of seconds; on CPU it learns at once
    finally:
        end(started, 1)
    assert "stopped: process 0 of 2 lost the connection to another one" in logs(tmp_path)
    assert "from the last checkpoint" in logs(tmp_path)

    with np.load(tmp_path / "state.npz") as saved:
        assert any(saved[name].shape == () and saved[name] == 6 for name in saved.files)
    assert end(begin(task("endless", 2, tmp_path), 2, 1, tmp_path)) == [0, 0], logs(tmp_path)
    resumed = (tmp_path / "log-0.txt").read_text()
    assert "step 9" in resumed
    assert "step 6" not in resumed
    state, _ = train.fit(
        job.start(),
        blobs(24),
        train.classification_loss(),
        epochs=job.EPOCHS,
        batch_size=job.BATCH,
        progress=False,
    )
    for number in range(2):
        np.testing.assert_allclose(
            np.load(tmp_path / f"final-{number}.npy"), state.params["out"]["kernel"], rtol=1e-4, atol=1e-6
        )


def test_checkpoints_of_two_processes_are_one_and_any_number_goes_on_from_them(tmp_path):
    assert end(begin(task("saved", 2, tmp_path), 2, 1, tmp_path)) == [0, 0], logs(tmp_path)
    for number in range(2):
        result = json.loads((tmp_path / f"result-{number}.json").read_text())
        assert result["stopped"] == ["SIGTERM", 6, True]
        assert "another process is training with" in result["told"]
        assert result["epochs"] == [1, 2, 3]
        assert result["split"]
    state, history = job.fit(train.Checkpoints(tmp_path / "checkpoints", resume=True), 4)
    alone, expected = job.fit(None, 4)
    np.testing.assert_allclose([r["train_loss"] for r in history], [r["train_loss"] for r in expected], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), state.params, alone.params)


def wait_for(text, path, started, seconds=300):
    deadline = time.monotonic() + seconds
    while text not in path.read_text():
        assert time.monotonic() < deadline, f"no {text!r} in time"
        assert all(process.poll() is None for process in started), path.read_text()
        time.sleep(0.05)


def test_a_process_that_never_comes_is_told(tmp_path):
    (process,) = begin(task("everything", 2, tmp_path), 1, 1, tmp_path, JOB_TIMEOUT="1")
    assert end([process]) == [1]
    assert "error: process 0 of 2: not all of them came to 127.0.0.1:" in logs(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("host:1", 2, None), "coordinator, processes and process_id: expected all three or none, got 'host:1', 2"),
        (("host", 2, 0), "coordinator: expected host:port, got 'host'"),
        (("host:port", 2, 0), "coordinator: expected host:port"),
        (("host:1", 0, 0), "processes: expected at least 1, got 0"),
        (("host:1", 2, 2), "process_id: expected 0 to 1, for 2 processes, got 2"),
    ],
)
def test_what_does_not_fit_is_told(arguments, message):
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
