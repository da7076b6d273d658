"""Options that several experiments have: where a run is kept, how it goes on, and on which devices it trains."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.cli.checks import as_typed, expect_counts
from jaxnn import train
from jaxnn.train.devices import distributed


@dataclasses.dataclass(frozen=True)
class Kept:
    """Where a run is kept."""

    seed: int = 0
    """Everything random follows from it."""
    run: Path = Path("runs/experiment")
    """The run folder; a number is added where it exists, nothing is overwritten."""
    resume: Path | None = None
    """Go on with the run in this folder, with its options, to the same end as if it had never stopped."""
    checkpoint_every: int = 1
    """Epochs from one checkpoint to the next."""
    profile: bool = False
    """Write a trace of one compiled program, for most an epoch, to profile/ in the run folder, for Perfetto
    (perfetto_trace.json.gz) and XProf."""


@dataclasses.dataclass(frozen=True)
class Devices:
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


FREE = (
    *("run", "resume", "checkpoint_every", "data_dir", "profile", "tensorboard", "dry_run"),
    *(field.name for field in dataclasses.fields(Devices)),
)
"""Options that a run may change when it goes on: they do not change the numbers, or only how they are rounded."""


def join(options: Devices, batch_size: int) -> train.devices.Parallel | None:
    """Joins the other processes, if there are any, before any other use of JAX; returns what `chosen` does."""
    expect_counts(options, "devices", "shard_state", "processes")
    expect_counts(options, "process_id", least=0)
    if not jax.distributed.is_initialized():
        with as_typed(coordinator="--coordinator", processes="--processes", process_id="--process-id"):
            distributed.initialize(options.coordinator, options.processes, options.process_id, detect=options.detect)
        if not distributed.is_first():
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  one process speaks; errors are told by each
    return chosen(options, batch_size)


def chosen(options: Devices, batch_size: int) -> train.devices.Parallel | None:
    """The devices that the options ask for, None for the usual one; raises where the batch does not divide."""
    if options.devices is None and options.shard_state == 1 and jax.process_count() == 1:
        return None
    with as_typed(devices="--devices", shard="--shard-state"):
        parallel = train.parallel(options.devices, shard=options.shard_state)
    parallel.check_batch_size(batch_size, "--batch-size")
    return parallel


def run_folder(path: Path, config: dict[str, Any]) -> train.RunFolder:
    """A new run folder; an error names --run."""
    with as_typed(path="--run"):
        return train.run.start_run(path, config)


def to_resume(path: Path, networks: Sequence[str] = ("",)) -> train.RunFolder:
    """The folder of a run that goes on, as `train.run.resume_run` opens it; an error names --resume."""
    with as_typed(path="--resume"):
        return train.run.resume_run(path, networks)


def folder_of(options: Any, networks: Sequence[str] = ("",)) -> train.RunFolder:
    """The folder of the run that goes on, of which `to_resume` says what it must hold, or a new one."""
    if options.resume is not None:
        return to_resume(options.resume, networks)
    return run_folder(options.run, dataclasses.asdict(options))


def kept(options: Any, free: Sequence[str] = FREE) -> dict[str, Any]:
    """The options that must be the same when a run goes on: all but those that are free to change."""
    return {name: value for name, value in dataclasses.asdict(options).items() if name not in free}


def checkpoints_of(
    options: Kept, folder: Path, *, best: str | None = None, free: Sequence[str] = ()
) -> train.Checkpoints:
    """Checkpoints in the folder that belong to these options, but for those that are free to change."""
    every, resume, config = options.checkpoint_every, options.resume is not None, kept(options, (*FREE, *free))
    return train.Checkpoints(folder, resume=resume, every=every, best=best, config=config)


def keeping(options: Kept, folder: train.RunFolder | None, network: str = "", **how: Any) -> dict[str, Any]:
    """What `train.fit` and `train.ensemble.fit` take to keep a run in its folder: checkpoints, and a trace on request.

    Args:
        options: The options.
        folder: The run folder; None keeps nothing.
        network: The network's folder in it, where a run trains several.
        **how: As for `checkpoints_of`.
    """
    if folder is None:
        return {}
    profile = folder / "profile" / network if options.profile else None
    return {"checkpoints": checkpoints_of(options, folder / "checkpoints" / network, **how), "profile": profile}
