"""A run's metrics for TensorBoard, written by tensorboardX."""

import contextlib
import importlib.util
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from jaxnn import extras
from jaxnn.train.devices import distributed
from jaxnn.train.run.folder import RunFolder

_OURS = ".jaxnn"  # how the names of our files end, so that none of another's is removed
_PARTS = ("train_", "test_")


class TensorBoard:
    """Writes the records of a run to `tensorboard/` in its folder: what `fit` takes as `on_record`.

    Scalars go by the step. `train_loss` is called `loss/train` and `test_loss` is `loss/test`, so that both stand side
    by side; `epoch`, `seconds` and `examples_per_second` keep their names. A record is on the disk before the next
    epoch starts. A run that goes on has each epoch once, also those from before it wrote for TensorBoard: the file is
    written anew from the run's `metrics.jsonl`, with earlier epochs as far apart in time as they took to train. Of
    several processes the first one writes. What cannot be written, to a full disk for instance, is a warning, and is
    written with the next record.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> def loss_fn(w, batch, key):
        ...     x, y = batch
        ...     return (x @ w - y) ** 2, {}
        >>> data = jnp.eye(2), jnp.ones(2)
        >>> state = train.create_state(jnp.zeros(2), optax.adam(0.1), jax.random.key(0))
        >>> run = train.RunFolder.create("runs/toy")
        >>> with train.run.TensorBoard(run) as board:
        ...     state, history = train.fit(state, data, loss_fn, run=run, on_record=board, progress=False)
        >>> len(list((run / "tensorboard").iterdir()))
        1
    """

    def __init__(self, run: RunFolder):
        """Prepares to write; there is no file before the first record.

        Args:
            run: The folder that `fit` logs to.

        Raises:
            ImportError: If tensorboardX is not installed.
        """
        need_tensorboardx()
        self._run, self._folder = run, run / "tensorboard"
        self._writer: Any = None

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Writes a record."""
        if not distributed.is_first():
            return
        try:
            if self._writer is None:
                self._start(record)
            else:
                self._write([record])
        except OSError as error:
            self.close()
            text = (
                f"{self._folder} could not be written to ({error.strerror}); training goes on, and what is missing is "
                "written with the next epoch"
            )
            warnings.warn(text, RuntimeWarning, stacklevel=2)

    def close(self) -> None:
        """Closes the file; a record that comes afterwards writes a new one."""
        if self._writer is not None:
            with contextlib.suppress(OSError):  # it was told already, and metrics.jsonl has the numbers
                self._writer.close()
            self._writer = None

    def _start(self, record: Mapping[str, Any]) -> None:
        """Opens a file that has the whole run, and only then removes those in whose place it stands."""
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.record_writer import RecordWriter

        history = [r for r in self._run.metrics() if r.get("epoch", 0) < record["epoch"]] + [record]
        self._folder.mkdir(exist_ok=True)
        before = list(self._folder.glob(f"events.out.tfevents.*{_OURS}"))
        # Not SummaryWriter: a full disk ends the thread in which it writes, and its queue of ten then blocks training.
        self._writer = RecordWriter(str(self._folder / f"events.out.tfevents.{time.time_ns()}{_OURS}"))
        first = history[0]["step"]
        for event in (
            Event(wall_time=time.time(), file_version="brain.Event:2"),
            # A TensorBoard that is open on the run forgets what it read in the files of before.
            Event(wall_time=time.time(), step=first, session_log=SessionLog(status=SessionLog.START)),
        ):
            self._writer.write(event.SerializeToString())
        self._write(history)
        for path in before:
            path.unlink()

    def _write(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Appends records, of which the last one is of now, and puts them on the disk."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        at = time.time() - sum(record["seconds"] for record in history)
        for record in history:
            at += record["seconds"]
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars(record)]
            event = Event(wall_time=at, step=record["step"], summary=Summary(value=values))
            self._writer.write(event.SerializeToString())
        self._writer.flush()


def need_tensorboardx() -> None:
    """Raises an ImportError that says what to install, where tensorboardX is missing."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise ImportError(f"writing for TensorBoard needs tensorboardX: {extras.install('tensorboard')}")


def scalars(record: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Tags and numbers of a record; what was NaN or infinite in `metrics.jsonl` is left out.

    Example:
        >>> from jaxnn.train.run.tensorboard import scalars
        >>> scalars({"epoch": 1, "step": 45, "train_loss": 0.5, "train_grad_norm": None, "test_loss": 0.7})
        [('epoch', 1.0), ('loss/train', 0.5), ('loss/test', 0.7)]
    """
    tags = {name: f"{name.split('_', 1)[1]}/{name.split('_', 1)[0]}" for name in record if name.startswith(_PARTS)}
    return [
        (tags.get(name, name), float(value)) for name, value in record.items() if name != "step" and value is not None
    ]
