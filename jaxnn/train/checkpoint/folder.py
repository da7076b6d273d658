"""Checks of a checkpoint folder before use: writable, shared by all processes, used by one job at a time."""

import os
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import jax

from jaxnn.files import locked
from jaxnn.train.checkpoint.options import CheckpointError
from jaxnn.train.devices import distributed


def claim(folder: Path, stack: ExitStack) -> None:
    """Makes the folder and locks it for this job until the stack closes.

    Args:
        folder: The folder of checkpoints.
        stack: Releases the lock.

    Raises:
        CheckpointError: If another job uses the folder.
        ValueError: If the processes of this job do not see the same folder.
        OSError: If one of them cannot write to it.
    """
    _check_writable(folder)
    _check_shared(folder)
    _lock(folder, stack)


def saved_steps(folder: Path) -> list[int]:
    """Lists the steps of the checkpoints in a folder, ascending, without damaged and half-written ones.

    Args:
        folder: A folder of checkpoints, which need not exist.
    """
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())


def damaged(folder: Path) -> list[str]:
    """Lists the names of damaged checkpoints, which were put aside."""
    return sorted(path.name for path in folder.glob("damaged-*"))


def set_aside(folder: Path, step: int) -> str:
    """Renames a damaged checkpoint, in the first process, before any process reads the folder again."""
    aside, number = folder / f"damaged-{step}", 1
    if distributed.is_first():
        while aside.exists():
            number += 1
            aside = folder / f"damaged-{step}-{number}"
        os.replace(folder / str(step), aside)
    return distributed.same_text(aside.name)


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
        raise OSError(f"checkpoints: {folder} cannot be written to ({reason}); choose another folder.") from error


def _check_shared(folder: Path) -> None:
    """Raises if processes do not see the same folder: each writes its part of a checkpoint."""
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
    """Locks the folder for this job until the stack closes; the first process locks it for all."""
    free = True
    if distributed.is_first():
        try:
            stack.enter_context(locked(folder / ".lock", _give_up))
        except BlockingIOError:
            free = False
    if distributed.anywhere(not free):
        raise CheckpointError(
            f"checkpoints: another process is training with {folder}; wait until it has ended, or stop it, "
            "or start a new run in another folder."
        )


def _give_up() -> NoReturn:
    raise BlockingIOError
