"""A run's metrics on the disk, line by line, and what happens while the disk is full."""

import dataclasses
import warnings

from jaxnn.train.checkpoint.options import CheckpointWarning
from jaxnn.train.run.folder import RunFolder
from jaxnn.train.run.record import History


@dataclasses.dataclass
class MetricsLog:
    """Writes the newest record to the run folder; what a full disk refuses is told, and written with the next one.

    Attributes:
        run: Where to; None writes nothing.
        after: The history begins after this epoch; lines up to it stay as they are.
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
        """Writes the last record of a history, and before it those that are missing."""
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
                f"{self.run / 'metrics.jsonl'} could not be written ({error.strerror}); training goes on, and what "
                "is missing is written with the next line"
            )
            warnings.warn(text, CheckpointWarning, stacklevel=3)
