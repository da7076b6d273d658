"""A training process that is killed at random moments ends with the numbers of one that never was."""

import json
import random
import signal
import time

import numpy as np
import pytest

from tests.train.children import start


def _start(folder, out):
    return start("-m", "tests.train.killed", str(folder), str(out))


def _finish(process):
    output, _ = process.communicate()
    return process.returncode, output


def _kill_and_compare(tmp_path, kills, seed):
    rng = random.Random(seed)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    code, output = _finish(_start(whole, tmp_path / "whole.npz"))
    assert code == 0, output
    done = while_writing = finished = 0
    while done < kills:
        process = _start(killed, tmp_path / "killed.npz")
        # Until a checkpoint newer than those that were there is begun or written, then a random moment.
        before = set((killed / "checkpoints").glob("*"))
        while process.poll() is None and not set((killed / "checkpoints").glob("[0-9]*")) - before:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        code, output = _finish(process)
        if code == 0:  # it had finished before it was killed: as good as any, and the next begins anew
            _compare(tmp_path)
            finished += 1
            killed.rename(tmp_path / f"finished-{done}-{finished}")
            killed.mkdir()
            continue
        assert code == -signal.SIGKILL, output
        done += 1
        while_writing += any("tmp" in path.name for path in (killed / "checkpoints").glob("*"))
    code, output = _finish(_start(killed, tmp_path / "killed.npz"))
    assert code == 0, output
    _compare(tmp_path)
    lines = [json.loads(line) for line in (killed / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 13))
    print(
        f"{kills} kills, {while_writing} of them while a checkpoint was being written, over {finished + 1} runs; "
        "bit for bit the same"
    )


def _compare(tmp_path):
    with np.load(tmp_path / "whole.npz") as a, np.load(tmp_path / "killed.npz") as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.slow
def test_two_kills(tmp_path):
    _kill_and_compare(tmp_path, 2, seed=0)


@pytest.mark.slow
def test_twenty_four_kills(tmp_path):
    _kill_and_compare(tmp_path, 24, seed=1)


def test_sigterm_saves_and_says_so(tmp_path):
    process = _start(tmp_path, tmp_path / "out.npz")
    while process.poll() is None and not list((tmp_path / "checkpoints").glob("[0-9]*")):
        time.sleep(0.005)
    process.terminate()
    code, output = _finish(process)
    assert code != 0
    assert "SIGTERM stopped training after step" in output
    assert "which is saved" in output
