"""A disk that is really full: training continues, complete checkpoints stay, and missing records are written later."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.train.children import start

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows neither mounts so nor limits so")
SMALL_DISK = 'mount -t tmpfs -o size=4m tmpfs "$1" && shift && exec "$@"'


def in_a_small_disk(folder):
    """What to put before a command so that the folder is a file system of 4 MB, seen by that command alone."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        pytest.skip("needs Linux's unshare to mount a small file system")
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", SMALL_DISK, "sh", str(folder)]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {tried.stderr.strip()}")
    return command


@pytest.mark.parametrize("how", ["full", "limited"])
def test_training_continues_and_catches_up(how, tmp_path):
    folder, elsewhere = tmp_path / "disk", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    before = in_a_small_disk(folder) if how == "full" else []
    with start("-m", "tests.train.full", str(folder), str(elsewhere), how, before=before) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    lines = output.splitlines()  # each failed save is a warning of one line, and nothing else is printed
    assert len(lines) == 1, output
    seen = json.loads(lines[0])
    reason = {"full": "No space left on device", "limited": "File too large"}[how]
    checkpoints = f"{folder}/run/checkpoints"
    for step in (6, 9):
        (told,) = (text for text in seen["warnings"] if f"checkpoint of step {step} could not be written" in text)
        assert f"to {checkpoints} (" in told
        assert reason in told
        assert told.endswith("; the last good one is that of step 3")
    others = [text for text in seen["warnings"] if "checkpoint of step" not in text]
    if how == "limited":  # on a full disk a short line may still fit into the file's last block
        assert seen["metrics while full"] == [1, 2]
        assert len(others) == 2
    for told in others:
        assert told == (
            f"{folder}/run/metrics.jsonl could not be written ({reason}); training continues, and the missing lines "
            "are written with the next line"
        )
    assert seen["metrics"]
    assert seen["checkpoints"] == ["15", "18"]
    assert seen["restored"] == [True, 6]
