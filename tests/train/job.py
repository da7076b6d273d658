"""One process of a job: what test_distributed starts several of. Not a test itself.

python -m tests.train.job TASK HOST:PORT PROCESSES PROCESS_ID FOLDER
"""

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import jax
import numpy as np
import optax

from jaxnn import data, train
from jaxnn.train import distributed, sharding
from tests.train.toys import MLP, Batch, blobs

EPOCHS = 3
BATCH = 8


def start():
    return train.create_state(MLP(), optax.adam(1e-2), jax.random.key(0))


class Recorded:
    """Examples that remember which of them were read."""

    def __init__(self, examples):
        self.examples, self.read = examples, []

    def __len__(self):
        return len(self.examples.labels)

    def __getitem__(self, index):
        return Batch(self.examples.images[index], self.examples.labels[index])

    def take(self, indices):
        self.read += indices.tolist()
        return self[indices]


def everything(parallel, folder):
    """A fit and a streamed epoch; what each process saw of them."""
    state, history = train.fit(
        start(),
        blobs(21),
        train.classification_loss(),
        test_data=blobs(11, seed=1),
        epochs=EPOCHS,
        batch_size=BATCH,
        parallel=parallel,
        run=train.RunFolder(folder),
    )
    source = Recorded(blobs(24))
    epoch = train.StreamedEpoch(train.make_step(train.classification_loss()), batch_size=BATCH, parallel=parallel)
    _, metrics = epoch(parallel.state(start()), data.Stream(source))
    try:
        parallel.state(train.create_state(MLP(), optax.sgd(0.1), jax.random.key(jax.process_index())))
        told = ""
    except ValueError as error:
        told = str(error)
    result = {
        "told": told,
        "devices": jax.device_count(),
        "history": history,
        "kernel": np.asarray(parallel.everywhere(state.params)["out"]["kernel"]).tolist(),
        "split": not state.params["hidden"]["kernel"].is_fully_replicated,
        "streamed": np.asarray(metrics["loss"]).tolist(),
        "read": source.read,
        "text": distributed.same_text(f"from process {jax.process_index()}"),
    }
    (folder / f"result-{jax.process_index()}.json").write_text(json.dumps(result))


def fit(checkpoints, epochs, **options):
    data, loss_fn = blobs(24), train.classification_loss()
    options = {"batch_size": BATCH, "progress": False, "checkpoints": checkpoints, **options}
    return train.fit(start(), data, loss_fn, epochs=epochs, **options)


def saved(parallel, folder):
    """Checkpoints of all processes together: opened twice, stopped by a signal to one of them, resumed."""
    resumed = train.Checkpoints(folder / "checkpoints", resume=True)

    def stop(record):
        if record["epoch"] == 2 and not distributed.is_first():
            os.kill(os.getpid(), signal.SIGTERM)

    result = {}
    try:
        fit(train.Checkpoints(folder / "checkpoints"), 3, parallel=parallel, on_record=stop)
    except train.Interrupted as error:
        result["stopped"] = error.signal.name, error.step, error.saved
    with train.Saver(resumed):
        try:
            train.Saver(resumed)
        except train.CheckpointError as error:
            result["told"] = str(error)
    state, history = fit(resumed, 3, parallel=parallel)
    result |= {
        "epochs": [r["epoch"] for r in history],
        "split": not state.params["hidden"]["kernel"].is_fully_replicated,
    }
    (folder / f"result-{jax.process_index()}.json").write_text(json.dumps(result))


@distributed.tell_of_lost_processes()
def endless(parallel, folder):
    """Epochs with a pause, the state saved after each by process 0; goes on from what is saved; ends after EPOCHS."""
    saved, state = folder / "state.npz", start()
    if saved.exists():
        with np.load(saved) as arrays:
            leaves, structure = jax.tree.flatten(_without_key(state))
            found = jax.tree.unflatten(structure, [arrays[str(i)] for i in range(len(leaves))])
        state = found.replace(key=state.key)
    epoch = train.make_epoch(train.make_step(train.classification_loss()), batch_size=BATCH, parallel=parallel)
    state, examples = parallel.state(state), parallel.data(blobs(24))
    slow = not saved.exists()
    while int(state.step) < 3 * EPOCHS or slow:
        state, _ = epoch(state, examples)
        whole = jax.tree.leaves(_without_key(parallel.everywhere(state)))
        if distributed.is_first():
            if int(state.step) <= 6:
                with train.runfolder.replacing(saved) as beside:
                    np.savez(beside, **{str(i): np.asarray(leaf) for i, leaf in enumerate(whole)})
            print("step", int(state.step), flush=True)
        time.sleep(0.05 if slow else 0)
    np.save(folder / f"final-{jax.process_index()}.npy", parallel.everywhere(state.params)["out"]["kernel"])


def _without_key(state):
    return state.replace(key=None)


def main():
    name, coordinator, processes, process_id, folder = sys.argv[1:]
    timeout = int(os.environ.get("JOB_TIMEOUT", "120"))
    distributed.initialize(coordinator, int(processes), int(process_id), timeout=timeout, heartbeat=60)
    sharding.SMALLEST = 16
    try:
        {"everything": everything, "saved": saved, "endless": endless}[name](train.parallel(shard=2), Path(folder))
    except train.ProcessLostError as error:
        distributed.leave(f"stopped: {error}")
    except Exception:
        distributed.leave(traceback.format_exc())


if __name__ == "__main__":
    main()
