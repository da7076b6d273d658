"""What a person sees while training runs: a bar on a terminal, plain lines elsewhere."""

import sys
import warnings
from collections.abc import Mapping
from typing import Any


class Progress:
    """Shows a run of `epochs` epochs; used as a context manager.

    On a terminal, with rich installed, a bar with the time left stays below one line an epoch; otherwise
    there are the lines alone. `enabled=False` shows nothing.

    Example:
        >>> from jaxnn.train.run.progress import Progress
        >>> with Progress(epochs=2) as progress:
        ...     progress.epoch({"epoch": 1, "train_loss": 0.51234, "train_accuracy": 0.9,
        ...                     "examples_per_second": 1234.5}, seconds_left=65)
        epoch 1/2  loss 0.5123  accuracy 90.00 %  1,234 examples/s  1:05 left
    """

    def __init__(self, epochs: int, *, first: int = 0, enabled: bool = True):
        """Prepares to show epochs `first` + 1 to `first` + `epochs`."""
        self._last, self.enabled, self._bar = first + epochs, enabled, None
        self._done = 0
        self._task: Any = None
        self._silent = False
        if enabled and sys.stdout.isatty():
            self._bar = _rich_bar()
        if self._bar is not None:
            self._task = self._bar.add_task("starting", total=epochs, left="")

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def doing(self, what: str) -> None:
        """Says beside the bar what is going on; lines have no place for it."""
        if self._bar is not None:
            self._bar.update(self._task, description=what)

    def say(self, text: str) -> None:
        """Shows a line; what the output cannot show is escaped, and where it cannot be written training goes on."""
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        try:
            if self._bar is not None:
                self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
            elif self.enabled:
                print(text, flush=True)
        except OSError as error:
            if not self._silent:
                said = f"standard output cannot be written ({error.strerror}); training goes on without"
                warnings.warn(said, RuntimeWarning, stacklevel=3)
            self._silent = True

    def resume(self, epochs: int, text: str) -> None:
        """Begins after so many of the epochs."""
        self.say(text)
        if self._bar is not None:
            self._bar.update(self._task, completed=epochs)
        self._done = epochs

    def part(self, share: float, examples_per_second: float, seconds_left: float) -> None:
        """Shows on the bar how much of the epoch is done, how fast, and the time left; lines have no place for it."""
        if self._bar is not None:
            left = f"{int(examples_per_second):,} examples/s  {clock(seconds_left)} left"
            self._bar.update(self._task, completed=self._done + share, left=left)

    def epoch(self, record: Mapping[str, Any], seconds_left: float) -> None:
        """Shows the end of an epoch.

        Args:
            record: As in a history: `epoch`, `train_...`, `test_...`, `examples_per_second`.
            seconds_left: How long the rest will take.
        """
        parts = [f"epoch {record['epoch']:>{len(str(self._last))}}/{self._last}"]
        hidden = ("train_grad_norm", "train_examples", "train_penalty")
        for name, value in record.items():
            if name.startswith("train_") and name not in hidden:
                parts.append(_metric(name.removeprefix("train_"), value))
        parts += [
            _metric(name.replace("_", " ", 1), value) for name, value in record.items() if name.startswith("test_")
        ]
        parts.append(f"{int(record['examples_per_second']):,} examples/s")
        left = f"{clock(seconds_left)} left"
        if record["epoch"] < self._last and self._bar is None:
            parts.append(left)
        self.say("  ".join(parts))
        if self._bar is not None:
            finished = record["epoch"] == self._last
            speed = f"{int(record['examples_per_second']):,} examples/s  "
            self._done += 1
            self._bar.update(self._task, completed=self._done, left="" if finished else speed + left)
            if finished:
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


def _rich_bar() -> Any:
    try:
        from rich import progress
    except ImportError:
        return None
    return progress.Progress(
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TextColumn("{task.completed:.4g}/{task.total:.0f}"),
        progress.TextColumn("epochs"),
        progress.TimeElapsedColumn(),
        progress.TextColumn("{task.fields[left]}"),
    )
