"""Metrics of a run for TensorBoard, written by tensorboardX."""

import contextlib
import importlib.util
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from jaxnn import extras
from jaxnn.train.devices import distributed
from jaxnn.train.run.folder import RunFolder

_OURS = ".jaxnn"  # suffix of these files, so that files of others are not removed


class TensorBoard:
    """Writes the records of a run to `tensorboard/` in its folder: a sink of `fit`.

    Scalars are written by step. `train_loss` is `loss/train` and `test_loss` is `loss/test`, so that TensorBoard shows
    both in one chart; member 2 of an ensemble is `loss/train/2`. `epoch`, `seconds` and `examples_per_second` keep
    their names. A record is on the disk before the next epoch starts. When a run resumes, the file is rewritten from
    the run's `metrics.jsonl`, so that each epoch occurs once; wall times are derived from the training times of earlier
    epochs. Only the first of several processes writes. A failed write, for example to a full disk, gives a warning, and
    the record is written with the next one.

    Args:
        run: The folder to which `fit` logs.

    Raises:
        ImportError: If tensorboardX is not installed.

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
        ...     state, history = train.fit(state, data, loss_fn, run=run, sinks=[board], progress=False)
        >>> len(list((run / "tensorboard").iterdir()))
        1
    """

    def __init__(self, run: RunFolder):
        need_tensorboardx()
        self._run = run
        self._writer: Any = None

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __call__(self, record: Mapping[str, Any], state: Any = None) -> None:
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
                f"{self._run / 'tensorboard'} could not be written to ({error.strerror}); training continues, and the "
                "missing records are written with the next epoch"
            )
            warnings.warn(text, RuntimeWarning, stacklevel=2)

    def close(self) -> None:
        """Closes the file; a later record writes a new one."""
        if self._writer is not None:
            with contextlib.suppress(OSError):  # a warning was given, and metrics.jsonl has the numbers
                self._writer.close()
            self._writer = None

    def _start(self, record: Mapping[str, Any]) -> None:
        """Writes a file of the whole run, and then removes the older ones."""
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.record_writer import RecordWriter

        history = [r for r in self._run.metrics() if r.get("step", math.inf) < record["step"]] + [record]
        folder = self._run / "tensorboard"
        folder.mkdir(exist_ok=True)
        before = list(folder.glob(f"events.out.tfevents.*{_OURS}"))
        # Not SummaryWriter: a full disk ends the thread it writes in, and its full queue then blocks training forever.
        self._writer = RecordWriter(str(folder / f"events.out.tfevents.{time.time_ns()}{_OURS}"))
        first = history[0]["step"]
        for event in (
            Event(wall_time=time.time(), file_version="brain.Event:2"),
            # An open TensorBoard drops the contents of the older files.
            Event(wall_time=time.time(), step=first, session_log=SessionLog(status=SessionLog.START)),
        ):
            self._writer.write(event.SerializeToString())
        self._write(history)
        for path in before:
            path.unlink()

    def _write(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Appends records, the last one with the present time, and flushes them to the disk."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        at = time.time() - sum(record.get("seconds", 0.0) for record in history)
        for record in history:
            at += record.get("seconds", 0.0)
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars(record)]
            event = Event(wall_time=at, step=record["step"], summary=Summary(value=values))
            self._writer.write(event.SerializeToString())
        self._writer.flush()


def need_tensorboardx() -> None:
    """Raises an ImportError with the command to install tensorboardX, if it is missing."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise extras.missing("train.run.TensorBoard: tensorboardX", "tensorboard")


def scalars(record: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Returns tags and numbers of a record, without NaN and infinity; a list has a number for each member.

    Example:
        >>> from jaxnn.train.run.tensorboard import scalars
        >>> scalars({"epoch": 1, "step": 45, "train_loss": 0.5, "train_grad_norm": None, "test_loss": 0.7})
        [('epoch', 1.0), ('loss/train', 0.5), ('loss/test', 0.7)]
        >>> scalars({"train_loss": [0.5, 0.7]})
        [('loss/train/0', 0.5), ('loss/train/1', 0.7)]
    """
    made = []
    for name, value in record.items():
        part, _, metric = name.partition("_")
        tag = f"{metric}/{part}" if part in ("train", "test") else name
        members = [(f"{tag}/{i}", v) for i, v in enumerate(value)] if isinstance(value, list) else [(tag, value)]
        made += [(each, float(v)) for each, v in members if name != "step" and v is not None]
    return made
