"""One process of a job: what test_distributed starts several of. Not a test itself.

python -m tests.train.job TASK+TASK HOST:PORT PROCESSES PROCESS_ID FOLDER
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import optax
from orbax.checkpoint import JsonCheckpointHandler

from jaxnn import data, train
from jaxnn.train.checkpoint import manager
from jaxnn.train.checkpoint.options import Position
from jaxnn.train.checkpoint.saver import Saver
from jaxnn.train.devices import distributed, sharding
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

    def read_batch(self, indices):
        self.read += indices.tolist()
        return self[indices]


def fit(parallel, folder, epochs=EPOCHS, **options):
    """The training of every task, in chunks, with a checkpoint after each one; resumes from the newest."""
    return train.fit(
        start(),
        blobs(21),
        train.losses.classification(),
        test_data=blobs(11, seed=1),
        epochs=epochs,
        batch_size=BATCH,
        chunk=2,
        parallel=parallel,
        checkpoints=train.Checkpoints(folder / "checkpoints", resume=True, seconds=0, keep=4, best="test_loss"),
        **options,
    )


def trained(parallel, folder):
    """A fit alone; slow after the second epoch where it is to be killed."""
    pause = float(os.environ.get("JOB_PAUSE", "0"))
    state, _ = fit(parallel, folder, sinks=[lambda record, state: time.sleep(pause if record["epoch"] > 1 else 0)])
    save_final(parallel, state, folder)


def logits(model, batch):
    return model(batch.images)


def everything(parallel, folder):
    """A fit and a streamed epoch; what each process saw of them."""
    state, history = fit(parallel, folder, run=train.RunFolder(folder))
    save_final(parallel, state, folder)
    source = Recorded(blobs(24))
    epoch = train.loop.StreamedEpoch(
        train.make_step(train.losses.classification()), batch_size=BATCH, parallel=parallel
    )
    _, metrics = epoch(parallel.state(start()), data.Stream(source))
    me = jax.process_index()
    result = {
        "told": told(lambda: parallel.state(train.create_state(MLP(), optax.sgd(0.1), jax.random.key(me)))),
        "devices": jax.device_count(),
        "history": history,
        "predicted": np.asarray(train.predict(state, blobs(11), logits)).tolist(),
        "split": not state.params["hidden"]["kernel"].is_fully_replicated,
        "streamed": np.asarray(metrics["loss"]).tolist(),
        "read": source.read,
        "text": distributed.same_text(f"from process {me}"),
    }
    (folder / f"result-{me}.json").write_text(json.dumps(result))


def stopped(parallel, folder):
    """A fit that a signal to the last process alone stops; opened twice; gone on with."""
    own, me = folder / "stopped", jax.process_index()

    def stop(record, state):
        if record["epoch"] == 2 and me == jax.process_count() - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    result = {}
    try:
        fit(parallel, own, sinks=[stop])
    except train.checkpoint.Interrupted as error:
        result["stopped"] = error.signal.name, error.step, error.saved
    resumed = train.Checkpoints(own / "checkpoints", resume=True)
    with Saver(resumed):
        result["told"] = told(lambda: Saver(resumed))
    state, history = fit(parallel, own)
    save_final(parallel, state, own)
    result["epochs"] = [record["epoch"] for record in history]
    (folder / f"stopped-{me}.json").write_text(json.dumps(result))


def killed(parallel, folder):
    """A fit whose last process is killed while the checkpoint of the second epoch is written."""

    def kill(record, state):
        if record["epoch"] == 2 and jax.process_index() == jax.process_count() - 1:
            threading.Thread(target=kill_once_begun, args=(folder / "killed" / "checkpoints",), daemon=True).start()

    fit(parallel, folder / "killed", sinks=[kill])


def kill_once_begun(folder):
    while not list(folder.glob("6*")):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)


def raised(parallel, folder):
    """A fit that an error of a sink ends, in the last process alone."""

    def fail(record, state):
        if jax.process_index() == jax.process_count() - 1:
            raise RuntimeError("the logger lost its network")

    fit(parallel, folder / "raised", sinks=[fail])


def unlike(parallel, folder):
    """What processes are told that do not fit together; a run by their clocks, which differ."""
    me, loss_fn = jax.process_index(), train.losses.classification()
    result = {
        "data": told(lambda: parallel.data(blobs(21 + me))),
        "arguments": told(lambda: train.fit(start(), blobs(8), loss_fn, epochs=1 + me, parallel=parallel)),
        "alone": told(lambda: train.fit(start(), blobs(8), loss_fn, checkpoints=train.Checkpoints(folder / "alone"))),
    }
    members = train.ensemble.create(lambda key: MLP(), train.optimizer("sgd"), {"seed": [me]})
    result["members"] = told(lambda: train.ensemble.fit(members, blobs(8), loss_fn, epochs=1 + me))
    same = train.RunFolder(folder)
    result["one folder"] = told(lambda: train.ensemble.fit(members, blobs(8), loss_fn, epochs=1, run=same))
    batches = train.Generated(lambda key: jax.random.normal(key, (8, 2)), steps=10)
    step = parallel.step(train.make_step(lambda w, x, key: ((x @ w - x[:, 0]) ** 2, {})))
    late = train.loop.Budget(seconds=60, began=time.perf_counter() - 60 * me)  # is over at once in the last process
    late.seconds_per_step = 30.0
    program = train.loop.Segments(step, batches, late, lambda shares: np.float32(0.1) * (shares < 1), segment=2)
    state = parallel.state(train.create_state(np.zeros(2, np.float32), train.optimizer("sgd"), jax.random.key(0)))
    _, history = train.loop.drive(program, state)
    result["shares"] = [record["share"] for record in history]
    (folder / f"unlike-{me}.json").write_text(json.dumps(result))


class Stopping:
    """Ends the run after its second epoch, in the last process alone."""

    def __call__(self, record, state):
        last = jax.process_index() == jax.process_count() - 1
        return train.STOP if last and record["epoch"] == 2 else None

    def resume(self, history):
        return self(history[-1], None) if history else None


def ended(parallel, folder):
    """A fit that a sink of the last process alone ends; and gone on with."""
    histories = [fit(parallel, folder / "ended", sinks=[Stopping()])[1] for _ in range(2)]
    told = [[record["epoch"] for record in history] for history in histories]
    (folder / f"ended-{jax.process_index()}.json").write_text(json.dumps(told))


def alone_in_trouble(parallel, folder):
    """What the processes do about a folder that one of them cannot use."""
    me, state = jax.process_index(), parallel.state(start())
    result = {
        "apart": told(lambda: Saver(train.Checkpoints(folder / f"of-{me}"))),
        "blocked": told(lambda: Saver(train.Checkpoints(folder / ("log-0.txt/below" if me else "free")))),
        "saved": saved_on_a_full_disk(state, folder),
    }
    (folder / f"trouble-{me}.json").write_text(json.dumps(result))


def told(call):
    """What an error says."""
    try:
        call()
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def saved_on_a_full_disk(state, folder):
    """Whether a checkpoint was saved that the first process alone cannot write, and the next one that it can."""
    manager.PATIENCE = 2
    write = JsonCheckpointHandler._save_fn

    async def full(*args):
        raise OSError(28, "No space left on device")

    with Saver(train.Checkpoints(folder / "full")) as open_folder:
        if distributed.is_first():
            JsonCheckpointHandler._save_fn = full
        first = open_folder.save(state, Position(), wait=True)
        JsonCheckpointHandler._save_fn = write
        return [first, open_folder.save(state, Position(), wait=True)]


def save_final(parallel, state, folder):
    """Everything that training follows from, for each process."""
    leaves = jax.tree.leaves(parallel.replicate(state).replace(key=None))
    np.savez(folder / f"final-{jax.process_index()}.npz", *map(np.asarray, leaves))


def main():
    name, coordinator, processes, process_id, folder = sys.argv[1:]
    timeout = int(os.environ.get("JOB_TIMEOUT", "120"))
    distributed.initialize(coordinator, int(processes), int(process_id), timeout=timeout, heartbeat=60)
    sharding.SMALLEST = 16
    try:
        tasks = everything, trained, stopped, ended, alone_in_trouble, unlike, killed, raised
        for each in name.split("+"):
            {task.__name__: task for task in tasks}[each](train.parallel(shard=2), Path(folder))
    except train.devices.ProcessLostError as error:
        distributed.leave(f"stopped: {error}")


if __name__ == "__main__":
    main()
