"""Checkpoints of training: written in the background, whole or not at all, and never over those of another run.

In a job of several processes all make the same calls. Each writes its own part. A failure that only one of them sees (a
folder that it cannot write to, a damaged file, a full disk) is sent to all first, so that all decide alike.
"""

import dataclasses
import json
import math
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxnn.train.checkpoint import manager, signals
from jaxnn.train.checkpoint.fingerprint import arrays, filled, fingerprints, shapes
from jaxnn.train.checkpoint.folder import check_nothing_is_lost, check_reaches_all, claim, damaged
from jaxnn.train.checkpoint.options import Checkpoints, CheckpointWarning, MetricsFolder, Position, criterion, sign
from jaxnn.train.checkpoint.restoring import FORMAT, DamagedError, read, set_aside
from jaxnn.train.devices import distributed
from jaxnn.train.step.state import TrainState


class Saver:
    """An open folder of checkpoints, for your own training loop; `fit` uses one.

    A context manager. While it is open, a second process that opens the folder gets an error. SIGTERM and Ctrl-C are
    deferred to the next call of `stop_if_asked`; a second signal ends the process at once. On exit it waits until the
    last checkpoint is written; a signal that came after the last `stop_if_asked` is then raised again.

    Args:
        options: Where and how often to save.
        config: What must be the same when the run is resumed, beyond `options.config`.
        say: Called with a sentence when a signal comes; `print` by default.

    Attributes:
        options: The options.
        folder: The absolute path of the checkpoints.

    Raises:
        CheckpointError: If another process has the folder open.
        ValueError: If the folder holds checkpoints (also damaged ones) and `resume` is false, its path contains one of
            `*?[` or a backslash, or processes pass different folders.
        OSError: If the folder cannot be written to.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> def loss_fn(w, batch, key):
        ...     return (batch @ w - 1) ** 2, {}
        >>> step = train.make_step(loss_fn)
        >>> def run(steps, resume):
        ...     state = train.create_state(jnp.zeros(2), optax.adam(0.1), jax.random.key(0))
        ...     with train.checkpoint.Saver(train.Checkpoints("runs/own/checkpoints", resume=resume)) as saver:
        ...         state, position = saver.restore(state)
        ...         while state.step < steps:
        ...             state, metrics = step(state, jnp.eye(2))
        ...             position.history.append({"loss": float(metrics["loss"])})
        ...             if saver.due():
        ...                 saver.save(state, position)
        ...             saver.stop_if_asked(state, position)
        ...         saver.save(state, position, wait=True)
        ...     return position.history
        >>> len(run(2, resume=False)), len(run(5, resume=True))  # the second trains three steps
        (2, 5)
    """

    def __init__(
        self,
        options: Checkpoints,
        config: Mapping[str, Any] | None = None,
        *,
        say: Callable[[str], None] | None = None,
    ):
        import orbax.checkpoint as ocp  # takes a second to import

        self._ocp, self.options, self._say = ocp, options, say or partial(print, flush=True)
        self._started, self._troubled = 0, False
        self._config = json.loads(json.dumps({**options.config, **(config or {})}, default=str))
        self.folder = Path(options.folder).absolute()
        with ExitStack() as stack:
            stack.enter_context(manager.quiet())
            # Before Orbax, which removes half-written checkpoints: another process may be writing them.
            claim(self.folder, stack)
            self._manager = manager.open_folder(self.folder, options, self._meet)
            self._saved = self._newest()
            if not options.resume and distributed.anywhere(self._saved is not None or bool(damaged(self.folder))):
                self._manager.close()
                raise ValueError(
                    f"checkpoints: {self.folder} holds those of a run already; resume=True resumes that run, "
                    "another folder starts a new one."
                )
            self._stack = stack.pop_all()
        self._stop = signals.StopRequest()
        self._saved_at = time.perf_counter()

    def __enter__(self) -> "Saver":
        self._stop = self._stack.enter_context(signals.on_signals(self._say))
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with self._stack:  # restores the signal handlers and unlocks the folder
            if distributed.shows_lost_process(error):
                return  # the checkpoint in progress can never become whole
            if error is None:
                self.wait()
            if self._troubled:
                manager.forget()
            try:
                self._manager.close()
            except Exception as trouble:  # what could not be written was reported already
                _warn(f"{self.folder} could not be closed: {distributed.reason(trouble)}")
        if error is None and self._stop.received is not None:
            signal.raise_signal(self._stop.received)  # came after the last `stop_if_asked`: do not lose it

    def restore(
        self, state: TrainState, run: MetricsFolder | None = None, *, after: int = 0
    ) -> tuple[TrainState, Position]:
        """Restores the newest complete checkpoint, on the devices and in the shardings of `state`.

        A damaged checkpoint is renamed, with a warning, and an older one is restored. Nothing else changes until a
        checkpoint was read.

        Args:
            state: A state of the same model and optimiser; returned if there is no checkpoint.
            run: The run folder that process 0 writes to. With `resume` its metrics are cut at the checkpoint; without a
                checkpoint it must not hold any of these epochs.
            after: The run trains the epochs after this one: metrics up to it stay.

        Returns:
            The state, and the position in the run.

        Raises:
            CheckpointError: If the checkpoint is of another model, optimiser, configuration or data, all are
                damaged, or there is none while `run` holds metrics of epochs after `after`: training would
                overwrite them.
            ValueError: If there are several processes and the state is on devices of this process alone.
        """
        check_reaches_all(state)
        found = self._newest_whole(state)
        if self.options.resume and found is None:
            check_nothing_is_lost(self.folder, run, after)
        if found is None:
            return state, Position()
        if self.options.resume and run is not None:
            run.rewind(found[1].history, after=after)
        return found

    def _newest_whole(self, state: TrainState) -> tuple[TrainState, Position] | None:
        while (step := self._newest()) is not None:
            try:
                return read(self.folder / str(step), state, self._config)
            except DamagedError as error:
                aside = set_aside(self.folder, step)
                self._manager.reload()
                self._saved = None
                _warn(f"the checkpoint of step {step} is damaged ({error}); it was put aside as {aside}")
            manager.forget()
        return None

    def save(self, state: TrainState, position: Position, *, wait: bool = False) -> bool:
        """Starts to write a checkpoint, after the previous one is written; with `wait` returns when it is on the disk.

        Args:
            state: The state; it may be donated as soon as this returns.
            position: The position in the run.
            wait: Whether to wait.

        Returns:
            False if a save failed, which also gives a `CheckpointWarning`.
        """
        step = _step(state)
        self._saved_at = time.perf_counter()
        if self._saved != step:
            self.wait()
            self._start(step, state, position)
        return (not wait or self.wait()) and self._saved == step

    def wait(self) -> bool:
        """Waits until every process has written its part of the checkpoint that is being written.

        Returns:
            Whether all parts were written; a failure gives a `CheckpointWarning`.
        """
        error = None
        try:
            self._manager.wait_until_finished()
        except Exception as caught:
            error = caught
        if told := distributed.reason_anywhere(error):
            self._failed(self._saved, told)
        return not told

    def due(self) -> bool:
        """Whether `options.seconds` went by since the last checkpoint was begun; the same in all processes of a job."""
        since = time.perf_counter() - self._saved_at
        return distributed.anywhere(self.options.seconds is not None and since >= self.options.seconds)

    def stop_if_asked(self, state: TrainState, position: Position) -> None:
        """Saves and raises if SIGTERM or Ctrl-C came, in this process or in another one of the job.

        Args:
            state: The state to save.
            position: The position in the run.

        Raises:
            Interrupted: If a signal came.
        """
        if distributed.anywhere(self._stop.received is not None):
            which = self._stop.received or signal.SIGTERM  # another process got the signal
            whole = self.save(state, position, wait=True)
            raise signals.Interrupted(which, _step(state), saved=whole, folder=Path(self.options.folder))

    def _newest(self) -> int | None:
        """The step of the newest checkpoint, as the first process sees it."""
        step: int | None = json.loads(distributed.same_text(json.dumps(self._manager.latest_step())))
        return step

    def _meet(self, *, key: str, timeout_ms: int) -> None:
        """Waits for the other processes, for Orbax, where no collective can be used.

        Each save has its own name: after a process failed to arrive, the next save must not wait at the same barrier.
        """
        self._ocp.multihost.get_barrier_sync_fn()(key=f"{key}.{self._started}", timeout_ms=timeout_ms)

    def _start(self, step: int, state: TrainState, position: Position) -> None:
        args, named = self._ocp.args, arrays(state)
        self._started += 1
        rank, by = self._rank(position), criterion(self.options)
        about = {
            "format": FORMAT,
            "config": self._config,
            "arrays": shapes(named),
            "fingerprints": fingerprints(named),
            "rank": rank,
            "best": by,
            **dataclasses.asdict(position),
        }
        if distributed.is_first():
            # Left by a save that failed: it may fill the disk.
            for half in self.folder.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(half, ignore_errors=True)
        try:
            self._manager.save(
                step,
                args=args.Composite(state=args.StandardSave(filled(named)), about=args.JsonSave(about)),
                metrics=None if by is None else {} if rank is None else {by: rank},
                force=True,
            )
            self._saved = step
        except Exception as error:  # every file system fails in its own way
            if jax.process_count() > 1:
                raise  # the others would wait for this process forever
            self._failed(step, distributed.reason(error))

    def _failed(self, step: int | None, why: str) -> None:
        self._saved, self._troubled = None, True
        good = [s for s in self._manager.all_steps(read=True) if s != step]
        last = f"the last good one is that of step {max(good)}" if good else "there is no older one"
        _warn(f"the checkpoint of step {step} could not be written to {self.folder} ({why}); {last}")

    def _rank(self, position: Position) -> float | None:
        """The number whose lowest value marks the best checkpoint; None if this one cannot be the best."""
        name = self.options.best
        if name is None or position.sums or not position.history:
            return None
        self.options.check_names(position.history[-1])
        value = position.history[-1][name]
        if value is None or not math.isfinite(value):
            return math.inf
        return sign("best_mode", self.options.best_mode, name) * float(value)


def _step(state: TrainState) -> int:
    return int(state.step.max())  # of an ensemble all members are at the same one


def _warn(text: str) -> None:
    """Warns in the first process alone."""
    if distributed.is_first():
        warnings.warn(text, CheckpointWarning, stacklevel=3)
