"""Progress of training: one line per epoch, and on a terminal a bar with the time left."""

import sys
from collections.abc import Mapping
from typing import Any

from jaxnn.progress import Display

_HIDDEN = ("train_grad_norm", "train_examples", "train_penalty")


class Progress(Display):
    """Shows a run on stdout, used as a context manager.

    Args:
        epochs: Number of epochs, from `first` + 1 to `first` + `epochs`.
        first: Epochs trained before.
        enabled: False shows nothing.

    Example:
        >>> from jaxnn.train.run.progress import Progress
        >>> with Progress(epochs=2) as progress:
        ...     progress.epoch({"epoch": 1, "train_loss": 0.51234, "train_accuracy": 0.9,
        ...                     "examples_per_second": 1234.5}, seconds_left=65)
        epoch 1/2  train loss 0.5123  train accuracy 90.00 %  1,234 examples/s  1:05 left
    """

    def __init__(self, epochs: int, *, first: int = 0, enabled: bool = True):
        super().__init__(sys.stdout, _columns, enabled=enabled, total=epochs, description="starting", left="")
        self._last, self._done = first + epochs, 0

    def doing(self, what: str) -> None:
        """Shows on the bar what the run is doing."""
        self.update(description=what)

    def resume(self, epochs: int, text: str) -> None:
        """Shows that `epochs` epochs are done already."""
        self.say(text)
        self.update(completed=epochs)
        self._done = epochs

    def part(self, share: float, examples_per_second: float, seconds_left: float) -> None:
        """Shows on the bar how much of the epoch is done, the speed, and the time left."""
        left = f"{int(examples_per_second):,} examples/s  {clock(seconds_left)} left"
        self.update(completed=self._done + share, left=left)

    def epoch(self, record: Mapping[str, Any], seconds_left: float) -> None:
        """Shows the end of an epoch.

        Args:
            record: As in a history: `epoch`, `train_...`, `test_...`, `examples_per_second`.
            seconds_left: The time that the other epochs will take.
        """
        last = record["epoch"] == self._last
        speed, left = f"{int(record['examples_per_second']):,} examples/s", f"{clock(seconds_left)} left"
        metrics = [name for name in record if name.startswith(("train_", "test_")) and name not in _HIDDEN]
        parts = [
            f"epoch {record['epoch']:>{len(str(self._last))}}/{self._last}",
            *(_metric(name.replace("_", " ", 1), record[name]) for name in metrics),
            speed,
        ]
        self.say("  ".join(parts if last or self.has_bar else [*parts, left]))
        self._done += 1
        self.update(completed=self._done, left="" if last else f"{speed}  {left}")
        if last:
            self.doing("done")


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, s = divmod(max(0, round(seconds)), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"


def _metric(name: str, value: float) -> str:
    if name.endswith("accuracy"):
        return f"{name} {100 * value:.2f} %"
    return f"{name} {value:.4g}"


def _columns(rich: Any) -> list[Any]:
    return [
        rich.SpinnerColumn(),
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.TextColumn("{task.completed:.4g}/{task.total:.0f}"),
        rich.TextColumn("epochs"),
        rich.TimeElapsedColumn(),
        rich.TextColumn("{task.fields[left]}"),
    ]
