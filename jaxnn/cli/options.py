"""Options that scripts share: where a run is saved, how it is resumed, and on which devices it trains."""

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxnn import train
from jaxnn.cli.checks import Count, Natural, Number, as_typed, check, unused
from jaxnn.train.devices import distributed


@dataclasses.dataclass(frozen=True)
class Kept:
    """Where a run is saved."""

    seed: Natural = 0
    """Seed of all randomness."""
    run: Path = Path("runs/experiment")
    """The run folder; if it exists, a number is added, and nothing is overwritten."""
    resume: Path | None = None
    """Resume the run in this folder, with its options; the result is that of an uninterrupted run."""
    profile: bool = False
    """Write a trace of one compiled program to profile/ in the run folder, for Perfetto and XProf."""


@dataclasses.dataclass(frozen=True)
class Trained(Kept):
    """Options of a script that calls `train.fit` or `train.ensemble.fit`."""

    dry_run: bool = False
    """Print parameters, FLOPs, memory and the time to compile; train nothing and write nothing."""


@dataclasses.dataclass(frozen=True)
class Epochs(Trained):
    """Options of a script that trains by epochs."""

    epochs: Count = 10
    """Passes over the training examples."""
    batch_size: Count = 128
    """Examples per step."""
    checkpoint_every: Count = 1
    """Epochs between checkpoints."""


@dataclasses.dataclass(frozen=True)
class Cosine(Epochs):
    """Options of a script that trains by epochs with a cosine schedule."""

    learning_rate: Number = 1e-3
    """The highest learning rate, between a linear warm-up and half a cosine down to 0."""


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices to train on; results are the same up to rounding."""

    devices: Count | None = None
    """Number of devices to shard each batch over. Default: one; all of them in a job of several processes."""
    shard_state: Count = 1
    """Number of devices over which parameters and optimiser state are sharded; 1 replicates them."""
    coordinator: str | None = None
    """The host:port of process 0, if there are several; not needed with SLURM, Open MPI or --detect."""
    processes: Count | None = None
    """Number of processes, with --coordinator."""
    process_id: Natural | None = None
    """Number of this process, from 0, with --coordinator."""
    detect: bool = False
    """Detect the other processes of the job, on the workers of a Cloud TPU pod."""


FREE = (
    *("run", "resume", "checkpoint_every", "checkpoint_seconds", "data_dir", "profile", "tensorboard", "dry_run"),
    *(field.name for field in dataclasses.fields(Devices)),
)
"""Options that a resumed run may change: they change results by rounding at most."""


def join(options: Devices) -> None:
    """Joins the other processes of a job, if there are any; call it before any other use of JAX.

    Afterwards only the first of several processes prints.

    Args:
        options: The options.

    Raises:
        ValueError: If they do not determine the processes; the message names the options.
    """
    if options.coordinator is not None:
        unused(options, "detect", because="with --coordinator, which names the other processes")
    if not jax.distributed.is_initialized():
        with as_typed(coordinator="--coordinator", processes="--processes", process_id="--process-id"):
            distributed.initialize(options.coordinator, options.processes, options.process_id, detect=options.detect)
        if not distributed.is_first():
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  one process prints; each reports its errors


def parallel_of(options: Devices, batch_size: int) -> train.devices.Parallel | None:
    """Makes the `parallel` of `train.fit`.

    Args:
        options: The options.
        batch_size: Examples per step.

    Returns:
        The devices, or None for one device.

    Raises:
        ValueError: If there are fewer devices, or their number does not divide the batch; the message names the option.

    Example:
        >>> from jaxnn import cli
        >>> cli.parallel_of(cli.Devices(devices=1), batch_size=32).devices
        1
    """
    if options.devices is None and options.shard_state == 1 and jax.process_count() == 1:
        return None
    with as_typed(devices="--devices", shard="--shard-state"):
        parallel = train.parallel(options.devices, shard=options.shard_state)
    parallel.check_batch_size(batch_size, "--batch-size")
    return parallel


def check_run(options: Kept, networks: Sequence[str] = ("",)) -> None:
    """Checks all options, and that a run to resume exists, before anything is loaded.

    Args:
        options: The options.
        networks: As for `folder_of`.

    Raises:
        ValueError: As `check` and `folder_of`.
    """
    check(options)
    if options.resume is not None:
        folder_of(options, networks)


def folder_of(options: Any, networks: Sequence[str] = ("",)) -> train.RunFolder:
    """Opens the run folder: that of `--resume`, or a new one named by `--run`, with the options as `config.json`.

    Args:
        options: A dataclass with `run` and optionally `resume`, for example a `Kept`.
        networks: The folders of checkpoints, in the order of training, if a run trains several networks.

    Returns:
        The folder.

    Raises:
        ValueError: If there is nothing to resume, or the path is not a folder; the message names the option.
        OSError: If the folder cannot be created; the message names the option.

    Example:
        >>> from pathlib import Path
        >>> from jaxnn import cli
        >>> cli.folder_of(cli.Kept(run=Path("runs/line"))).path.as_posix()
        'runs/line'
    """
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
    """Makes the arguments with which `train.fit`, `train.ensemble.fit` and `train.loop.drive` save a run in its folder.

    Args:
        options: A `Kept`. With a field `checkpoint_every` checkpoints are saved by epochs, otherwise every
            `checkpoint_seconds`; `tensorboard` also writes files for TensorBoard.
        folder: The run folder.
        network: The network's folder of checkpoints, if a run trains several.
        log: Whether to write metrics and curves; only for one network of a run.
        best: As for `train.Checkpoints`.
        free: Names of further options that a resumed run may change.

    Returns:
        `checkpoints`, `profile`, `run` and `sinks`.

    Example:
        >>> from pathlib import Path
        >>> from jaxnn import cli
        >>> options = cli.Epochs(run=Path("runs/line"))
        >>> kept = cli.keeping(options, cli.folder_of(options))
        >>> kept["checkpoints"].config
        {'seed': 0, 'epochs': 10, 'batch_size': 128}
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


def dry_run(options: Trained, create: Callable[[], train.TrainState], **work: Any) -> None:
    """Prints what `train.fit` would cost: parameters by layer, FLOPs, memory and the time to compile.

    Args:
        options: The options.
        create: Makes the state; it is only traced.
        **work: The arguments of `train.fit`.
    """
    print(train.loop.dry_run(jax.eval_shape(create), **work, resume=options.resume))
