"""Metrics of a run on the disk, line by line, also after a full disk."""

import dataclasses
import warnings
from contextlib import ExitStack
from typing import NoReturn

from jaxnn.files import locked
from jaxnn.train.checkpoint.options import CheckpointWarning
from jaxnn.train.devices import distributed
from jaxnn.train.run.folder import RunFolder
from jaxnn.train.run.record import History


@dataclasses.dataclass
class MetricsLog:
    """Writes the newest record to the run folder; after a failed write it warns, and writes again with the next record.

    Attributes:
        run: The run folder; None writes nothing.
        after: The history begins after this epoch; earlier lines do not change.
        behind: Whether lines are missing.

    Example:
        >>> from jaxnn import train
        >>> from jaxnn.train.run.metrics_log import MetricsLog
        >>> log = MetricsLog(train.RunFolder.create("runs/own"))
        >>> log([{"epoch": 1, "train_loss": 0.5}])
        >>> log.run.metrics()
        [{'epoch': 1, 'train_loss': 0.5}]
    """

    run: RunFolder | None
    after: int = 0
    behind: bool = False

    def __call__(self, history: History) -> None:
        """Writes the last record of a history, and the missing ones before it."""
        if self.run is None:
            return
        try:
            if self.behind:
                self.run.rewind(history, after=self.after)
            else:
                self.run.log(history[-1])
            self.behind = False
        except OSError as error:
            self.behind = True
            text = (
                f"{self.run / 'metrics.jsonl'} could not be written ({error.strerror or error}); training continues, "
                "and the missing lines are written with the next line"
            )
            warnings.warn(text, CheckpointWarning, stacklevel=3)


def claim(run: RunFolder | None, after: int, stack: ExitStack, *, resumes: bool) -> None:
    """Locks the metrics of a run folder until the stack is closed, so that lines of two trainings do not mix.

    Args:
        run: The run folder; None locks nothing. All processes of a job call this.
        after: The run trains the epochs after this one.
        stack: Holds the lock.
        resumes: Whether checkpoints decide which lines stay. If not, the folder must hold none of these epochs.

    Raises:
        ValueError: In every process, if another training writes to the folder of one, or it holds such lines.
    """
    trouble = ""
    if run is not None:
        try:
            stack.enter_context(locked(run / ".lock", _give_up))
            epochs = [] if resumes else [record.get("epoch") for record in run.metrics()]
            if any(isinstance(epoch, int | float) and epoch > after for epoch in epochs):
                trouble = f"metrics.jsonl in {run.path} holds epochs after {after} already"
        except BlockingIOError:
            trouble = f"another training writes to {run.path}"
        except (OSError, ValueError) as error:
            trouble = str(error)
    if trouble := distributed.told(trouble):
        raise ValueError(
            f"run: expected a folder of this training alone, got one that it shares ({trouble}); give each its own."
        )


def _give_up() -> NoReturn:
    raise BlockingIOError
