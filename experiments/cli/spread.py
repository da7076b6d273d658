"""What every experiment's command line says about devices and processes, and what follows from it."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import jax

from experiments.cli.checks import as_typed, expect_counts
from jaxnn import train
from jaxnn.train.checkpoint.folder import saved_steps
from jaxnn.train.devices import distributed


@dataclasses.dataclass
class Spread:
    """Over what to spread the training; the numbers are the same, to rounding, whatever is chosen."""

    devices: int | None = None
    """Devices to split each batch over: one unless said; a job of several processes uses all it has."""
    shard_state: int = 1
    """Over how many of them one copy of parameters and optimiser state is spread; 1: each holds the whole."""
    coordinator: str | None = None
    """host:port of process 0, if there are several; not needed under SLURM, Open MPI and where --detect helps."""
    processes: int | None = None
    """How many processes there are, with --coordinator."""
    process_id: int | None = None
    """Which of them this is, from 0, with --coordinator."""
    detect: bool = False
    """Ask the machine for the other processes of the job: on the workers of a Cloud TPU pod."""


def join(options: Spread, batch_size: int) -> train.devices.Parallel | None:
    """Joins the other processes, if there are any, and chooses the devices; before any other use of JAX.

    Args:
      options: the options.
      batch_size: what has to divide over the devices.

    Returns:
      The devices, None for the usual one.
    """
    expect_counts(options, "devices", "shard_state", "processes")
    expect_counts(options, "process_id", least=0)
    if not jax.distributed.is_initialized():
        with as_typed(coordinator="--coordinator", processes="--processes", process_id="--process-id"):
            distributed.initialize(options.coordinator, options.processes, options.process_id, detect=options.detect)
        if not distributed.is_first():
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  one process speaks; errors are told by each
    return chosen(options, batch_size)


def chosen(options: Spread, batch_size: int) -> train.devices.Parallel | None:
    """The devices that the options ask for, None for the usual one."""
    if options.devices is None and options.shard_state == 1 and jax.process_count() == 1:
        return None
    with as_typed(devices="--devices", shard="--shard-state"):
        parallel = train.parallel(options.devices, shard=options.shard_state)
    parallel.check_batch_size(batch_size, "--batch-size")
    return parallel


def run_folder(path: Path, config: dict[str, Any]) -> train.RunFolder:
    """A new run folder with configuration, environment and command, which process 0 makes and all processes see."""
    if jax.process_count() == 1:
        return _new(path, config)
    made = str(_new(path, config).path.absolute()) if distributed.is_first() else ""
    try:
        return train.RunFolder(distributed.same_text(made))
    except ValueError as error:
        raise ValueError(
            f"--run: process {jax.process_index()} does not see the folder that process 0 made; it must be on a disk "
            f"that all machines share ({error})"
        ) from error


def to_resume(path: Path, networks: Sequence[str] = ("",)) -> train.RunFolder:
    """The folder of a run that goes on.

    Args:
      path: the run folder.
      networks: the folders inside of its checkpoints, in the order in which they are trained.

    Raises:
      ValueError: there is none, or only what a run left whose checkpoints are gone: it would be overwritten.
    """
    if not path.is_dir():
        raise ValueError(f"--resume: expected the folder of a run, got {path}, which is none")
    folder = train.RunFolder(path)
    saved = [bool(saved_steps(folder / "checkpoints" / name)) for name in networks]
    left = [name for name in ("metrics.jsonl", "result.json") if _is_something(folder / name)]
    # Those that must be there: all of a run that has a result, and in any run those before one that was begun.
    begun = [index for index, name in enumerate(networks) if name and (folder / "checkpoints" / name).is_dir()]
    needed = len(networks) if "result.json" in left else max([*begun, 1 if left else 0])
    gone = [name for name, there in zip(networks[:needed], saved, strict=False) if not there]
    if gone:
        left += [f"checkpoints of {name}" for name, there in zip(networks, saved, strict=True) if name and there]
        of = f" of {' and '.join(gone)}" if any(gone) else ""
        raise ValueError(
            f"--resume: {path} holds {' and '.join(left) or 'a run'} but no checkpoints{of}, so there is nothing to "
            f"resume from; nothing was changed: start a new run, which gets a folder of its own{_command(folder)}"
        )
    return folder


def _is_something(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _command(folder: train.RunFolder) -> str:
    """The line that started the run, after a colon; nothing where it was not noted."""
    try:
        return ": " + (folder / "command.txt").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


class Resumable(Protocol):
    """Options, a dataclass, of a run that can go on."""

    run: Path
    resume: Path | None


def folder_of(options: Resumable, networks: Sequence[str] = ("",)) -> train.RunFolder:
    """The folder of the run that goes on, of which `to_resume` says what it must hold, or a new one."""
    if options.resume is not None:
        return to_resume(options.resume, networks)
    return run_folder(options.run, dataclasses.asdict(options))  # type: ignore[call-overload]


def kept(options: Resumable, free: Sequence[str]) -> dict[str, Any]:
    """The options that must be the same when a run goes on: all but those that are free to change."""
    return {name: value for name, value in dataclasses.asdict(options).items() if name not in free}  # type: ignore[call-overload]


def _new(path: Path, config: dict[str, Any]) -> train.RunFolder:
    with as_typed(path="--run"):
        folder = train.RunFolder.create(path, config)
    folder.save_environment()
    return folder
