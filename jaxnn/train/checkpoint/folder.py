"""Checks of a folder for checkpoints: writable, shared by all processes, and used by one job at a time."""

import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax

from jaxnn.files import locked
from jaxnn.train.checkpoint.options import CheckpointError, MetricsFolder
from jaxnn.train.devices import distributed


def claim(folder: Path, stack: ExitStack) -> None:
    """Makes the folder, and locks it for this job until the stack is closed.

    Raises:
        CheckpointError: If another job has it.
        ValueError: If its path reads as a pattern, or the processes of this job do not see the same one.
        OSError: If one of them cannot write to it.
    """
    _check_path(folder)
    _check_writable(folder)
    _check_shared(folder)
    _lock(folder, stack)


def saved_steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder, ascending; damaged and half-written ones are left out."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())


def damaged(folder: Path) -> list[str]:
    """The names of the checkpoints that were put aside because they could not be read."""
    return sorted(path.name for path in folder.glob("damaged-*"))


def check_nothing_is_lost(folder: Path, run: MetricsFolder | None, after: int) -> None:
    """Raises if a checkpoint is damaged, or there is none while `run` holds metrics of epochs later than `after`."""
    left = ", ".join(damaged(folder))
    if not left and run is not None and run.holds_metrics(after):
        left = str(run / "metrics.jsonl")
    if left := distributed.told(left):
        raise CheckpointError(
            f"checkpoints: expected one that is whole in {folder}, got none, only {left} of a run that was "
            "trained before; nothing of it was overwritten: start a new run in another folder."
        )


def check_reaches_all(state: Any) -> None:
    """Raises if there are several processes, and an array of the state is on devices of this one alone."""
    if jax.process_count() > 1 and any(getattr(leaf, "is_fully_addressable", True) for leaf in jax.tree.leaves(state)):
        raise ValueError(
            "checkpoints: expected a state on the devices of all processes, got one on those of this process alone; "
            "place it, fit(parallel=train.parallel()) or train.parallel().state(state), or train without checkpoints."
        )


def _check_path(folder: Path) -> None:
    """Raises where Orbax would look for its files by a pattern, or TensorStore write them to another folder."""
    if set("*?[\\").intersection("".join(folder.relative_to(folder.anchor).parts)):
        raise ValueError(
            f"checkpoints: expected a folder whose path has no * ? [ or backslash, got {folder}; Orbax would not find "
            "there what it wrote: choose another name."
        )


def _check_writable(folder: Path) -> None:
    error = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".can-write-{uuid.uuid4().hex}"
        trial.touch()
        trial.unlink()
    except OSError as caught:
        error = caught
    if reason := distributed.told("" if error is None else error.strerror or type(error).__name__):
        raise OSError(f"checkpoints: {folder} cannot be written to ({reason}); choose a folder that can.") from error


def _check_shared(folder: Path) -> None:
    """Raises where processes do not see the same folder: each writes its own part of a checkpoint."""
    if jax.process_count() == 1:
        return
    trial = folder / f".shared-{uuid.uuid4().hex}"
    if distributed.is_first():
        trial.touch()
    trial = folder / distributed.same_text(trial.name)
    reason = distributed.told("" if trial.exists() else "does not see what process 0 writes there")
    if distributed.is_first():
        trial.unlink()
    if reason:
        raise ValueError(
            f"checkpoints: expected {folder} on a disk that all processes share, got one that is not ({reason})"
        )


def _lock(folder: Path, stack: ExitStack) -> None:
    """Locks the folder for this job until the stack is closed; the first process locks it for all."""
    free = True
    if distributed.is_first():
        try:
            stack.enter_context(locked(folder / ".lock"))
        except BlockingIOError:
            free = False
    if distributed.anywhere(not free):
        raise CheckpointError(
            f"checkpoints: another process is training with {folder}; wait until it has ended, or stop it, "
            "or start a new run in another folder."
        )
