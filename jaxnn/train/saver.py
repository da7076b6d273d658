"""Checkpoints of training: written beside it, whole or not at all, checked when read, and never of another run."""

import dataclasses
import json
import math
import os
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import jax

from jaxnn.data.lock import locked
from jaxnn.train import interrupt, saved
from jaxnn.train.checkpoints import CheckpointError, Checkpoints, CheckpointWarning, Position
from jaxnn.train.state import TrainState

_FORMAT = 1


class Saver:
    """An open folder of checkpoints, for a training loop of your own; `fit` has one of these.

    A context manager. While it is open the folder is its own: a second process that opens it gets an error. SIGTERM
    and Ctrl-C become a wish that `stop_if_asked` grants; a second signal ends the process at once. On leaving it waits
    for the last checkpoint to be written.

    Attributes:
        options: What it was opened with.
        folder: Where the checkpoints are, as a path from the root.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> def loss_fn(w, batch, key):
        ...     return (batch @ w - 1) ** 2, {}
        >>> step = train.make_step(loss_fn)
        >>> def run(steps, resume):
        ...     state = train.create_state(jnp.zeros(2), optax.adam(0.1), jax.random.key(0))
        ...     with train.Saver(train.Checkpoints("runs/own/checkpoints", resume=resume)) as saver:
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
        """Opens the folder.

        Args:
            options: Where and how often to save.
            config: What must be the same when the run is taken up again, beyond `options.config`.
            say: Called with a sentence when a signal comes; printed unless given.

        Raises:
            CheckpointError: If another process has it open.
            ValueError: If the folder holds checkpoints and `resume` was not asked for.
            OSError: If it cannot be written to.
        """
        import orbax.checkpoint as ocp  # a second of importing that only those pay who save

        self._ocp, self.options, self._say = ocp, options, say or partial(print, flush=True)
        self._config = json.loads(json.dumps({**options.config, **(config or {})}, default=str))
        self.folder = Path(options.folder).absolute()
        _check_writable(self.folder)
        with ExitStack() as stack:
            _lock(self.folder, stack)  # before Orbax: it removes what looks half-written, and may be being written
            self._manager = self._open()
            stack.callback(self._close)
            if self._manager.all_steps() and not options.resume:
                raise ValueError(
                    f"checkpoints: {self.folder} holds those of a run already; resume=True goes on with that run, "
                    "another folder starts a new one"
                )
            self._stack = stack.pop_all()
        self._wish = interrupt.Wish()
        self._saved: int | None = self._manager.latest_step()
        self._saved_at = time.perf_counter()

    def _open(self) -> Any:
        from orbax.checkpoint.checkpoint_managers import preservation_policy as policy

        kept = [policy.LatestN(self.options.keep)]
        if self.options.best is not None:
            kept.append(
                policy.BestN(
                    get_metric_fn=lambda metrics: metrics["rank"],
                    reverse=True,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        return self._ocp.CheckpointManager(
            self.folder,
            options=self._ocp.CheckpointManagerOptions(
                preservation_policy=policy.AnyPreservationPolicy(kept), cleanup_tmp_directories=True
            ),
        )

    def _close(self) -> None:
        try:
            self._manager.close()
        except Exception as trouble:  # what could not be written was told already
            _warn(f"{self.folder} could not be closed: {_reason(trouble)}")

    def __enter__(self) -> "Saver":
        self._wish = self._stack.enter_context(interrupt.on_signals(self._say))
        self._stack.callback(self.wait)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def restore(self, state: TrainState) -> tuple[TrainState, Position]:
        """The newest checkpoint that is whole, on the devices and in the shardings of `state`.

        A damaged one is put aside under another name, and told, and an older one is taken.

        Args:
            state: A state of the same model and optimiser; it is returned where there is no checkpoint.

        Returns:
            The state, and the position in the run.

        Raises:
            CheckpointError: If the checkpoint is of another model, optimiser, configuration or data, or
                all are damaged.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                return self._read(step, state)
            except CheckpointError as error:
                if not isinstance(error, _DamagedError):
                    raise
                aside = self._set_aside(step)
                _warn(f"the checkpoint of step {step} is damaged ({error}); it was put aside as {aside}")
        if steps:
            raise CheckpointError(f"checkpoints: all of those in {self.folder} were damaged; start a new run")
        return state, Position()

    def save(self, state: TrainState, position: Position, *, wait: bool = False) -> bool:
        """Starts to write a checkpoint, once the one before is written; `wait` stays until it is on the disk.

        Returns:
            Whether it went well as far as is known; what went wrong is a `CheckpointWarning`.
        """
        step = int(state.step)
        self._saved_at = time.perf_counter()
        if self._saved != step:
            self.wait()
            self._start(step, state, position)
        return (not wait or self.wait()) and self._saved == step

    def wait(self) -> bool:
        """Waits until the checkpoint that is being written is on the disk; False, and a warning, if it could not be."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._failed(self._saved, error)
            return False
        return True

    def due(self) -> bool:
        """Whether `options.seconds` went by since the last checkpoint was begun; the same in all processes of a job."""
        since = time.perf_counter() - self._saved_at
        return interrupt.anywhere(self.options.seconds is not None and since >= self.options.seconds)

    def stop_if_asked(self, state: TrainState, position: Position) -> None:
        """Saves and raises where SIGTERM or Ctrl-C came, in this process or in another one of the job.

        Raises:
            Interrupted: Then.
        """
        if interrupt.anywhere(self._wish.asked is not None):
            which = self._wish.asked or signal.SIGTERM  # another process was asked
            whole = self.save(state, position, wait=True)
            raise interrupt.Interrupted(which, int(state.step), saved=whole, folder=Path(self.options.folder))

    def _start(self, step: int, state: TrainState, position: Position) -> None:
        args, arrays = self._ocp.args, saved.arrays(state)
        about = {
            "format": _FORMAT,
            "config": self._config,
            "arrays": saved.shapes(arrays),
            "fingerprints": saved.fingerprints(arrays),
            **dataclasses.asdict(position),
        }
        rank = self._rank(position)
        if jax.process_index() == 0:
            for half in self.folder.glob(
                "*.orbax-checkpoint-tmp*"
            ):  # of a save that failed: the disk may be full of it
                shutil.rmtree(half, ignore_errors=True)
        try:
            self._manager.save(
                step,
                args=args.Composite(state=args.StandardSave(arrays), about=args.JsonSave(about)),
                metrics=rank,
                force=True,
            )
            self._saved = step
        except Exception as error:  # a disk can fail in as many ways as there are file systems
            self._failed(step, error)

    def _failed(self, step: int | None, error: Exception) -> None:
        self._saved = None
        good = [s for s in self._manager.all_steps(read=True) if s != step]
        last = f"the last good one is that of step {max(good)}" if good else "there is no older one"
        _warn(f"the checkpoint of step {step} could not be written to {self.folder} ({_reason(error)}); {last}")

    def _rank(self, position: Position) -> dict[str, float] | None:
        name = self.options.best
        if name is None or position.sums or not position.history:
            return None
        if name not in position.history[-1]:
            raise ValueError(f"best: the history has no {name!r}; choose one of {sorted(position.history[-1])}")
        value = position.history[-1][name]
        value = math.inf if value is None or not math.isfinite(value) else float(value)
        return {"rank": -value if name.endswith("accuracy") else value}

    def _read(self, step: int, state: TrainState) -> tuple[TrainState, Position]:
        args = self._ocp.args
        try:
            about = self._manager.restore(step, args=args.Composite(about=args.JsonRestore()))["about"]
            if about["format"] != _FORMAT:
                raise CheckpointError(f"checkpoints: {self.folder} was written by a later jaxnn; use that one")
            config, shapes = about["config"], about["arrays"]
        except CheckpointError:
            raise
        except Exception as error:
            raise _DamagedError(_reason(error)) from error
        saved.check_same("the run in", self.folder, config, self._config)
        saved.check_same("the model and optimiser in", self.folder, shapes, saved.shapes(saved.arrays(state)))
        try:
            arrays = self._manager.restore(
                step, args=args.Composite(state=args.StandardRestore(saved.abstract(state)))
            )["state"]
            position = Position(**{field.name: about[field.name] for field in dataclasses.fields(Position)})
            found = saved.fingerprints(arrays)
        except Exception as error:
            raise _DamagedError(_reason(error)) from error
        if changed := [name for name, number in found.items() if number != about["fingerprints"].get(name)]:
            raise _DamagedError(f"{changed[0]} is not what was saved")
        return saved.back(arrays, state), position

    def _set_aside(self, step: int) -> str:
        aside, number = self.folder / f"damaged-{step}", 1
        while aside.exists():
            number += 1
            aside = self.folder / f"damaged-{step}-{number}"
        if jax.process_index() == 0:
            os.replace(self.folder / str(step), aside)
        self._manager.reload()
        self._saved = None
        return aside.name


class _DamagedError(CheckpointError):
    """This checkpoint cannot be read, whichever run it is of."""


def _lock(folder: Path, stack: ExitStack) -> None:
    """Makes the folder this job's own until the stack is left; the first process takes it for all."""
    free = True
    if jax.process_index() == 0:
        try:
            stack.enter_context(locked(folder / ".lock", _give_up))
        except BlockingIOError:
            free = False
    if interrupt.anywhere(not free):
        raise CheckpointError(
            f"checkpoints: another process is training with {folder}; wait until it has ended, or stop it, "
            "or start a new run in another folder"
        )


def _give_up() -> NoReturn:
    raise BlockingIOError


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".can-write-{jax.process_index()}-{os.getpid()}"
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise OSError(
            f"checkpoints: {folder} cannot be written to ({error.strerror}); choose a folder that can"
        ) from error


def _reason(error: BaseException) -> str:
    """The first line of the first cause, short enough to read."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) < 200 else line[:200] + "…"


def _warn(text: str) -> None:
    warnings.warn(text, CheckpointWarning, stacklevel=3)
