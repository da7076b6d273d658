"""The folder of a run: a new one, or that of a run to resume."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from jaxnn.train.checkpoint.folder import saved_steps
from jaxnn.train.devices import distributed
from jaxnn.train.run.folder import RunFolder


def start_run(path: str | os.PathLike[str], config: Any = None) -> RunFolder:
    """Makes a run folder with configuration, environment and command; only the first of several processes writes.

    Args:
        path: As for `RunFolder.create`: a number is added if the folder exists.
        config: As for `RunFolder.create`.

    Returns:
        The folder, the same one in all processes of the job.

    Raises:
        ValueError: If the path has no final name, or a process does not see the folder.
        OSError: If the folder cannot be made.

    Example:
        >>> from jaxnn import train
        >>> run = train.run.start_run("runs/lenet5", {"epochs": 2})
        >>> sorted(path.name for path in run.path.iterdir() if path.suffix == ".json")
        ['config.json', 'environment.json']
    """
    made = ""
    if distributed.is_first():
        folder = RunFolder.create(path, config)
        folder.save_environment()
        if jax.process_count() == 1:
            return folder
        made = str(folder.path.absolute())
    try:
        return RunFolder(distributed.same_text(made))
    except ValueError as error:
        raise ValueError(
            f"path: expected a folder that every process sees, got one that process 0 made and process "
            f"{jax.process_index()} does not see; choose a disk that all machines share ({error})."
        ) from error


def resume_run(path: str | os.PathLike[str], networks: Sequence[str] = ("",)) -> RunFolder:
    """Opens the folder of a run to resume, and checks that it holds the checkpoints to resume from.

    Args:
        path: The run folder, with checkpoints in `checkpoints/`.
        networks: The folders in `checkpoints/`, in the order in which they are trained, where a run trains several
            networks one after another.

    Returns:
        The folder. A run that stopped before it wrote anything starts from the beginning.

    Raises:
        ValueError: If there is no such folder, or it holds results but no checkpoints: training would overwrite them.
    """
    path = Path(path)
    if not path.is_dir():
        raise ValueError(f"path: expected the folder of a run, got {path}, which is not a folder")
    folder = RunFolder(path)
    saved = [bool(saved_steps(folder / "checkpoints" / name)) for name in networks]
    results = [folder / name for name in ("metrics.jsonl", "result.json")]
    left = [file.name for file in results if file.exists() and file.stat().st_size > 0]
    # Checkpoints that must exist: all of a run that has a result, and in any run those before one that was begun.
    begun = [index for index, name in enumerate(networks) if name and (folder / "checkpoints" / name).is_dir()]
    needed = len(networks) if "result.json" in left else max([*begun, 1 if left else 0])
    gone = [name for name, there in zip(networks[:needed], saved, strict=False) if not there]
    if gone:
        left += [f"checkpoints of {name}" for name, there in zip(networks, saved, strict=True) if name and there]
        of = f" of {' and '.join(gone)}" if any(gone) else ""
        raise ValueError(
            f"path: {path} holds {' and '.join(left) or 'a run'} but no checkpoints{of}, so there is nothing to "
            f"resume from; nothing was changed: start a new run, which gets a new folder{_command(folder)}"
        )
    return folder


def _command(folder: RunFolder) -> str:
    """The command that started the run, after a colon; empty if the folder does not hold it."""
    try:
        return ": " + (folder / "command.txt").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
