"""What test_full_disk starts: training whose disk is full for two epochs. Prints what it saw as JSON.

python -m tests.train.full FOLDER ELSEWHERE HOW
"""

import json
import os
import resource
import shutil
import sys
import time
import warnings
from pathlib import Path

import jax
import optax

from jaxnn import train
from tests.train.toys import MLP, blobs, equal


class FileSystem:
    """A small file system that a file fills to its last byte."""

    def __init__(self, folder: Path):
        self.filling = folder / "filling"

    def fill(self) -> None:
        with open(self.filling, "wb", buffering=0) as file:
            size = 2**20
            while size:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2

    def free(self) -> None:
        self.filling.unlink()


class Limit:
    """A limit of the process by which no file can grow: the next best thing where nothing can be mounted."""

    def __init__(self, folder: Path):
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, self.before[1]))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


def main(folder: Path, elsewhere: Path, disk: FileSystem | Limit) -> None:
    run = train.RunFolder.create(folder / "run")
    seen = {}

    def fit(checkpoints: train.Checkpoints, **options):
        state = train.create_state(MLP(), optax.adam(1e-2), jax.random.key(0))
        data, loss_fn = blobs(21), train.losses.classification()
        options = {"epochs": 6, "batch_size": 8, "progress": False, "checkpoints": checkpoints, **options}
        return train.fit(state, data, loss_fn, **options)

    def on_record(record, state):
        if record["epoch"] == 2:
            while not (run / "checkpoints" / "3").exists():  # Orbax is still at it
                time.sleep(0.01)
            disk.fill()
        elif record["epoch"] == 4:
            disk.free()
            seen["metrics while full"] = [line["epoch"] for line in run.metrics()]
            shutil.copytree(run / "checkpoints" / "3", elsewhere / "3")

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", train.checkpoint.CheckpointWarning)
        state, history = fit(train.Checkpoints(run / "checkpoints"), run=run, sinks=[on_record])
    seen["warnings"] = [
        str(warning.message) for warning in told if warning.category is train.checkpoint.CheckpointWarning
    ]
    seen["metrics"] = run.metrics() == history
    seen["checkpoints"] = sorted(os.listdir(run / "checkpoints"))
    # From the one that was good while the disk was full.
    again, history = fit(train.Checkpoints(elsewhere, resume=True))
    seen["restored"] = equal(again, state), len(history)
    print(json.dumps(seen))


if __name__ == "__main__":
    folder, elsewhere, how = sys.argv[1:]
    main(Path(folder), Path(elsewhere), {"full": FileSystem, "limited": Limit}[how](Path(folder)))
