"""Options that several experiments have: where a run is kept, how it is resumed, and on which devices it trains."""

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.cli.checks import Count, Natural, Number, as_typed, check
from jaxnn import train
from jaxnn.train.devices import distributed
from jaxnn.train.run import History


@dataclasses.dataclass(frozen=True)
class Kept:
    """Where a run is kept."""

    seed: Natural = 0
    """Everything random follows from it."""
    run: Path = Path("runs/experiment")
    """The run folder; a number is added where it exists, nothing is overwritten."""
    resume: Path | None = None
    """Resume the run in this folder, with its options, to the same end as if it had never stopped."""
    profile: bool = False
    """Write a trace of one compiled program, for most experiments an epoch, to profile/ in the run folder, for Perfetto
    (perfetto_trace.json.gz) and XProf."""


@dataclasses.dataclass(frozen=True)
class Trained(Kept):
    """How a training by `train.fit` or `train.ensemble.fit` is kept, or foretold."""

    checkpoint_every: Count = 1
    """Epochs from one checkpoint to the next."""
    dry_run: bool = False
    """Tell parameters, FLOPs, memory and the time to compile; train nothing and write nothing."""


@dataclasses.dataclass(frozen=True)
class Epochs(Trained):
    """How long a training by epochs is."""

    epochs: Count = 10
    """Passes over the training examples."""
    batch_size: Count = 128
    """Examples a step."""


@dataclasses.dataclass(frozen=True)
class Cosine(Epochs):
    """The learning rate of a training by epochs."""

    learning_rate: Number = 1e-3
    """The highest learning rate of the run: it warms up, then falls as half a cosine."""


@dataclasses.dataclass(frozen=True)
class Devices:
    """Over what to spread the training; the numbers are the same, to rounding, whatever is chosen."""

    devices: Count | None = None
    """Devices to split each batch over: one unless said; a job of several processes uses all it has."""
    shard_state: Count = 1
    """Over how many of them one copy of parameters and optimiser state is spread; 1: each holds the whole."""
    coordinator: str | None = None
    """The host:port of process 0, if there are several; not needed under SLURM, Open MPI and where --detect helps."""
    processes: Count | None = None
    """How many processes there are, with --coordinator."""
    process_id: Natural | None = None
    """Which of them this is, from 0, with --coordinator."""
    detect: bool = False
    """Ask the machine for the other processes of the job: on the workers of a Cloud TPU pod."""


FREE = (
    *("run", "resume", "checkpoint_every", "checkpoint_seconds", "data_dir", "resize"),
    *("profile", "tensorboard", "dry_run"),
    *(field.name for field in dataclasses.fields(Devices)),
)
"""Options that a resumed run may change: they do not change the numbers, or only how they are rounded."""


def join(options: Devices) -> None:
    """Joins the other processes, if there are any, before any other use of JAX."""
    if not jax.distributed.is_initialized():
        with as_typed(coordinator="--coordinator", processes="--processes", process_id="--process-id"):
            distributed.initialize(options.coordinator, options.processes, options.process_id, detect=options.detect)
        if not distributed.is_first():
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  one process speaks; each says its errors


def parallel_of(options: Devices, batch_size: int) -> train.devices.Parallel | None:
    """The devices that the options ask for, None for the usual one; raises where the batch does not divide."""
    if options.devices is None and options.shard_state == 1 and jax.process_count() == 1:
        return None
    with as_typed(devices="--devices", shard="--shard-state"):
        parallel = train.parallel(options.devices, shard=options.shard_state)
    parallel.check_batch_size(batch_size, "--batch-size")
    return parallel


def check_run(options: Kept, networks: Sequence[str] = ("",)) -> None:
    """Raises where an option makes no sense, or there is nothing to resume, before anything is loaded."""
    check(options)
    if options.resume is not None:
        folder_of(options, networks)


def folder_of(options: Any, networks: Sequence[str] = ("",)) -> train.RunFolder:
    """The folder of the run to resume, which holds checkpoints of its networks, or a new one with these options."""
    resume = getattr(options, "resume", None)
    with as_typed(path="--run" if resume is None else "--resume"):
        if resume is None:
            return train.run.start_run(options.run, options)
        return train.run.resume_run(resume, networks)


def keeping(
    options: Any,
    folder: train.RunFolder,
    network: str = "",
    *,
    log: bool = True,
    best: str | None = None,
    free: Sequence[str] = (),
) -> dict[str, Any]:
    """Arguments of `train.fit`, `train.ensemble.fit` and `train.loop.drive` that keep a run in its folder.

    Args:
        options: The options.
        folder: The run folder.
        network: The network's folder in it, where a run trains several.
        log: Whether to write metrics and curves: those of one network.
        best: As for `train.Checkpoints`.
        free: More options that a resumed run may change.
    """
    fixed = {name: value for name, value in dataclasses.asdict(options).items() if name not in (*FREE, *free)}
    return {
        "checkpoints": train.Checkpoints(
            folder / "checkpoints" / network,
            resume=options.resume is not None,
            every=getattr(options, "checkpoint_every", None),
            seconds=getattr(options, "checkpoint_seconds", 60.0),
            best=best,
            config=fixed,
        ),
        "profile": folder / "profile" / network if options.profile else None,
        "run": folder if log else None,
        "sinks": [train.run.TensorBoard(folder)] if log and getattr(options, "tensorboard", False) else [],
    }


def seconds_of(history: History) -> float:
    """The seconds of training alone; of a run that was resumed, those before too."""
    return sum(record["seconds"] for record in history)


def foretell(options: Trained, create: Callable[[], train.TrainState], **work: Any) -> None:
    """Says what `train.fit` would cost with these arguments; `create` makes its state."""
    print(train.loop.dry_run(jax.eval_shape(create), **work, resume=options.resume))
