"""Metrics of a run on the disk, line by line, also after a full disk."""

import dataclasses
import warnings

from jaxnn.train.checkpoint.options import CheckpointWarning
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
