"""Checkpoints of training: written in the background, whole or not at all, checked when read, never of another run.

All processes of a job call everything here in the same order. Each writes its part, and an error of one process (no
write permission, a damaged file, a full disk) reaches all processes first, so that all act alike.
"""

import dataclasses
import json
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxnn.train.checkpoint import saved, signals
from jaxnn.train.checkpoint.folder import claim, damaged, set_aside
from jaxnn.train.checkpoint.manager import open_manager, rank
from jaxnn.train.checkpoint.options import CheckpointError, Checkpoints, MetricsFolder, Position
from jaxnn.train.checkpoint.trouble import DamagedError, damage, forget, quiet, reason, reason_anywhere, warn
from jaxnn.train.devices import distributed
from jaxnn.train.step.state import TrainState

_FORMAT = 1


class Saver:
    """An open folder of checkpoints, for your own training loop; `fit` uses one.

    A context manager. While it is open, a second process that opens the folder gets an error. `stop_if_asked` defers
    SIGTERM and Ctrl-C to a safe point; a second signal ends the process at once. On exit it waits until the last
    checkpoint is written.

    Args:
        options: Folder and frequency of checkpoints.
        config: More values that must be the same when the run resumes, besides `options.config`.
        say: Called with a sentence when a signal arrives; prints it by default.

    Attributes:
        options: The options.
        folder: The absolute path of the folder.

    Raises:
        CheckpointError: If another process has the folder open.
        ValueError: If the folder holds checkpoints, damaged ones too, without `resume`, or is not the same one in
            every process.
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
        import orbax.checkpoint as ocp  # takes a second to import, only for runs that save

        self._ocp, self.options, self._say = ocp, options, say or partial(print, flush=True)
        self._started, self._troubled = 0, False
        self._config = json.loads(json.dumps({**options.config, **(config or {})}, default=str))
        self.folder = Path(options.folder).absolute()
        with ExitStack() as stack:
            stack.enter_context(quiet())
            claim(
                self.folder, stack
            )  # before Orbax, which removes half-written checkpoints, also those of another process
            self._manager = open_manager(self.folder, options, self._meet)
            self._saved = self._newest()
            if not options.resume and distributed.anywhere(self._saved is not None or bool(damaged(self.folder))):
                self._manager.close()
                raise ValueError(
                    f"checkpoints: expected {self.folder} without checkpoints, got those of a run; resume=True "
                    "resumes it, another folder starts a new one."
                )
            self._stack = stack.pop_all()
        self._wish = signals.Wish()
        self._saved_at = time.perf_counter()

    def __enter__(self) -> "Saver":
        self._wish = self._stack.enter_context(signals.on_signals(self._say))
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with self._stack:  # restores signals and frees the folder
            if distributed.shows_lost_process(error):
                return  # the checkpoint that is being written can never become whole
            if error is None:
                self.wait()
            if self._troubled:
                forget()
            try:
                self._manager.close()
            except Exception as trouble:  # an earlier warning has reported it
                warn(f"{self.folder} could not be closed: {reason(trouble)}")

    def restore(
        self, state: TrainState, run: MetricsFolder | None = None, *, after: int = 0
    ) -> tuple[TrainState, Position]:
        """Restores the newest whole checkpoint, on the devices and with the shardings of `state`.

        A damaged checkpoint is renamed, with a warning, and an older one is read. Nothing else changes before a
        checkpoint is read.

        Args:
            state: A state of the same model and optimiser; returned if there is no checkpoint.
            run: The run folder of process 0 to which training writes. With `resume` its metrics are cut to the end of
                the checkpoint; without a checkpoint there must be none.
            after: The run trains the epochs after this one; earlier metrics stay.

        Returns:
            The state, and the position in the run.

        Raises:
            CheckpointError: If the checkpoint is of another model, optimiser, configuration or data, all are
                damaged, or there is none while `run` holds metrics of epochs after `after`: training would
                overwrite them.
        """
        found = self._restore(state)
        if self.options.resume and found is None:
            self._check_nothing_is_lost(run, after)
        if found is None:
            return state, Position()
        if self.options.resume and run is not None:
            run.rewind(found[1].history, after=after)
        return found

    def _restore(self, state: TrainState) -> tuple[TrainState, Position] | None:
        while (step := self._newest()) is not None:
            try:
                return self._read(step, state)
            except DamagedError as error:
                aside = set_aside(self.folder, step)
                self._manager.reload()
                self._saved = None
                warn(f"the checkpoint of step {step} is damaged ({error}); it was put aside as {aside}")
            forget()
        return None

    def _check_nothing_is_lost(self, run: MetricsFolder | None, after: int) -> None:
        """Raises if a run was trained before and its checkpoints are gone or damaged."""
        left = ", ".join(damaged(self.folder))
        if not left and run is not None and run.holds_metrics(after):
            left = str(run / "metrics.jsonl")
        if left := distributed.told(left):
            raise CheckpointError(
                f"checkpoints: expected one that is whole in {self.folder}, got none, only {left} of a run that was "
                "trained before; nothing was overwritten: start a new run in another folder."
            )

    def save(self, state: TrainState, position: Position, *, wait: bool = False) -> bool:
        """Starts to write a checkpoint when the one before is written.

        Args:
            state: The state; it may be donated when this call returns.
            position: The position in the run.
            wait: Whether to wait until the checkpoint is on the disk.

        Returns:
            Whether it succeeded as far as known; a failure gives a `CheckpointWarning`.
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
            Whether it succeeded; a failure gives a `CheckpointWarning`.
        """
        distributed.wait_together(self._manager.wait_until_finished)
        error = None
        try:
            self._manager.wait_until_finished()
        except Exception as caught:
            error = caught
        if trouble := reason_anywhere(error):
            self._failed(self._saved, trouble)
        return not trouble

    def due(self) -> bool:
        """Whether `options.seconds` have passed since the last checkpoint began; the same in all processes of a job."""
        since, seconds = time.perf_counter() - self._saved_at, self.options.seconds
        return distributed.anywhere(seconds is not None and since >= seconds)

    def stop_if_asked(self, state: TrainState, position: Position) -> None:
        """Saves and raises `Interrupted` if SIGTERM or Ctrl-C arrived, in any process of the job."""
        if distributed.anywhere(self._wish.asked is not None):
            which = self._wish.asked or signal.SIGTERM  # another process got the signal
            whole = self.save(state, position, wait=True)
            raise signals.Interrupted(which, _step(state), saved=whole, folder=Path(self.options.folder))

    def _newest(self) -> int | None:
        """Returns the step of the newest checkpoint, as the first process sees it."""
        step: int | None = json.loads(distributed.same_text(json.dumps(self._manager.latest_step())))
        return step

    def _meet(self, *, key: str, timeout_ms: int) -> None:
        """Waits, for Orbax, for the other processes without a collective.

        The name is unique to this save: after a process failed to arrive, the next save would wait for it.
        """
        self._ocp.multihost.get_barrier_sync_fn()(key=f"{key}.{self._started}", timeout_ms=timeout_ms)

    def _start(self, step: int, state: TrainState, position: Position) -> None:
        args, arrays = self._ocp.args, saved.arrays(state)
        self._started += 1
        about = {
            "format": _FORMAT,
            "config": self._config,
            "arrays": saved.shapes(arrays),
            "fingerprints": saved.fingerprints(arrays),
            **dataclasses.asdict(position),
        }
        metrics = rank(self.options.best, position)
        if distributed.is_first():
            # The rest of a failed save: the disk may be full of it.
            for half in self.folder.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(half, ignore_errors=True)
        try:
            self._manager.save(
                step,
                args=args.Composite(state=args.StandardSave(arrays), about=args.JsonSave(about)),
                metrics=metrics,
                force=True,
            )
            self._saved = step
        except Exception as error:  # file systems fail in many ways
            if jax.process_count() > 1:
                raise  # the others wait for this process, which never arrives
            self._failed(step, reason(error))

    def _failed(self, step: int | None, why: str) -> None:
        self._saved, self._troubled = None, True
        good = [s for s in self._manager.all_steps(read=True) if s != step]
        last = f"the last good one is that of step {max(good)}" if good else "there is no older one"
        warn(f"the checkpoint of step {step} could not be written to {self.folder} ({why}); {last}")

    def _read(self, step: int, state: TrainState) -> tuple[TrainState, Position]:
        # By the handlers, not the manager, which waits for the other processes, and one of them may have failed.
        folder = self.folder / str(step)
        with damage():
            about = self._ocp.JsonCheckpointHandler().restore(folder / "about")
            later = about["format"] != _FORMAT
            config, shapes = ({}, {}) if later else (about["config"], about["arrays"])
        if later:
            raise CheckpointError(f"checkpoints: {self.folder} was written by a later jaxnn; use that version.")
        saved.check_same("the run in", self.folder, config, self._config)
        saved.check_same("the model and optimiser in", self.folder, shapes, saved.shapes(saved.arrays(state)))
        with damage():
            arrays = self._ocp.StandardCheckpointHandler().restore(
                folder / "state", args=self._ocp.args.StandardRestore(saved.abstract(state))
            )
            position = Position(**{field.name: about[field.name] for field in dataclasses.fields(Position)})
        with damage():
            found = saved.fingerprints(arrays)
            if changed := [name for name, number in found.items() if number != about["fingerprints"].get(name)]:
                raise ValueError(f"{changed[0]}: expected the saved array, got another one")
        return saved.back(arrays, state), position


def _step(state: TrainState) -> int:
    return int(state.step.max())  # all members of an ensemble are at the same step
