"""Sinks: functions that receive the record of each epoch, and may stop the run."""

import enum
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from jaxnn import plots
from jaxnn.counts import check_count
from jaxnn.train.checkpoint.options import Mode, check_metric, sign
from jaxnn.train.run.folder import RunFolder
from jaxnn.train.run.record import History, Record
from jaxnn.train.step.expected import check_function
from jaxnn.train.step.state import TrainState


class Stop(enum.Enum):
    """The type of `STOP`."""

    STOP = "stop"

    def __repr__(self) -> str:
        return "train.STOP"


STOP = Stop.STOP
"""The value that a sink returns to end the run after this record.

Checkpoints and plots are written as at the planned end.
"""

Sink = Callable[[Record, TrainState], Stop | None]
"""`(record, state) -> None`, or `STOP`. The next step donates `state`: copy what has to last.

A sink that is a context manager is entered before training and left when it ends, after an error too. A method
`resume(history)` receives the records of a resumed run before training; it may return `STOP` too. A method
`check_names(names)` receives the names of the records before anything is compiled, to raise if one is missing.
"""


class EarlyStopping:
    """A sink that stops a run whose metric no longer improves; made by `early_stopping`."""

    def __init__(self, metric: str, patience: int, min_delta: float, mode: Mode):
        self._metric, self._patience, self._delta = metric, check_count("patience", patience), min_delta
        self._sign = sign("mode", mode, metric)
        self._best: Any = np.inf
        self._waited = 0

    def __repr__(self) -> str:
        return f"early_stopping({self._metric!r}, patience={self._patience})"

    def __enter__(self) -> "EarlyStopping":
        self._best, self._waited = np.inf, 0  # left from another run
        return self

    def __exit__(self, *error: object) -> None:
        """Keeps the best value."""

    def __call__(self, record: Record, state: TrainState | None = None) -> Stop | None:
        """Compares the record's metric with the best one so far."""
        self.check_names(record)
        value = self._sign * np.asarray(record[self._metric], float)  # NaN and None are never better
        better = value < self._best - self._delta
        self._best = np.where(better, value, self._best)
        self._waited = 0 if better.any() else self._waited + 1
        return STOP if self._waited >= self._patience else None

    def check_names(self, names: Collection[str]) -> None:
        """Raises if records do not have the metric."""
        check_metric("metric", self._metric, names)

    def resume(self, history: History) -> Stop | None:
        """Counts the epochs of a resumed run."""
        answer = None
        for record in history:
            answer = self(record)
        return answer


def early_stopping(
    metric: str = "test_loss", *, patience: int = 5, min_delta: float = 0.0, mode: Mode = "auto"
) -> EarlyStopping:
    """Makes a sink that stops a run once a metric has not improved for some epochs.

    Args:
        metric: A name in the record. In an ensemble the run stops once no member improves.
        patience: Epochs without improvement after which the run stops.
        min_delta: Smallest change that counts as an improvement, in the metric's unit.
        mode: `"min"` if lower is better, `"max"` if higher is better; `"auto"` means higher for names that end with
            `accuracy`, otherwise lower.

    Returns:
        The sink. A resumed run also counts the epochs before it was stopped.

    Raises:
        ValueError: If `patience` is not a positive whole number or `mode` is unknown; before training, if records do
            not have the metric.

    Example:
        >>> from jaxnn import train
        >>> stopping = train.early_stopping("test_loss", patience=2)
        >>> [stopping({"test_loss": loss}) for loss in (0.5, 0.4, 0.6, 0.41)]
        [None, None, None, train.STOP]
    """
    return EarlyStopping(metric, patience, min_delta, mode)


class TimeLimit:
    """A sink that stops a run after some minutes of training; made by `time_limit`."""

    def __init__(self, minutes: float):
        if not isinstance(minutes, int | float) or not minutes > 0:
            raise ValueError(f"minutes: expected a positive number, got {minutes!r}")
        self._minutes, self._before, self._began = minutes, 0.0, time.perf_counter()

    def __repr__(self) -> str:
        return f"time_limit({self._minutes:g})"

    def __enter__(self) -> "TimeLimit":
        self._before, self._began = 0.0, time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        """Does nothing; the clock does not stop."""

    def __call__(self, record: Record, state: TrainState | None = None) -> Stop | None:
        """Looks at the clock."""
        elapsed = self._before + time.perf_counter() - self._began
        return STOP if elapsed >= 60 * self._minutes else None

    def resume(self, history: History) -> Stop | None:
        """Adds the training time of a resumed run."""
        self._before = sum(float(record.get("seconds", 0.0)) for record in history)
        return self({})


def time_limit(minutes: float) -> TimeLimit:
    """Makes a sink that stops a run after some minutes.

    The time includes compilation and evaluation, and is checked after each epoch, so a run takes up to one epoch
    longer. For a resumed run the `seconds` of its records count too.

    Args:
        minutes: The time, in minutes.

    Returns:
        The sink.

    Raises:
        ValueError: If `minutes` is not positive.

    Example:
        >>> from jaxnn import train
        >>> train.time_limit(1e-9)({"epoch": 1})
        train.STOP
    """
    return TimeLimit(minutes)


class Curves:
    """A sink that draws `curves.png` when training ends, also after an error or Ctrl-C.

    Args:
        run: Where to draw.
        say: Called with a sentence if the curves cannot be drawn.
    """

    def __init__(self, run: RunFolder, say: Callable[[str], None]):
        self._run, self._say, self._history = run, say, History()

    def __enter__(self) -> "Curves":
        return self

    def __call__(self, record: Record, state: TrainState) -> None:
        """Keeps the record."""
        self._history.append(record)

    def resume(self, history: History) -> None:
        """Keeps the records of a resumed run."""
        self._history = list(history)

    def __exit__(self, *error: object) -> None:
        if not self._history:
            return
        try:
            plots.curves(self._history, self._run / "curves.png")
        except (ImportError, OSError) as trouble:  # the numbers are in metrics.jsonl
            self._say(f"curves.png was not drawn: {trouble}")


def check_sinks(sinks: Any) -> Sequence[Sink]:
    """Returns the sinks; raises unless they are a list or tuple of callables of a record and a state."""
    if not isinstance(sinks, Sequence) or not all(map(callable, sinks)):
        raise ValueError(
            f"sinks: expected a list of callables (record, state) -> None or train.STOP, got {sinks!r}; "
            "for example [train.early_stopping('test_loss')]."
        )
    for sink in sinks:
        check_function("sinks", sink, "(record, state) -> None or train.STOP", "give an instance")
    return sinks


def shown(sinks: Sequence[Sink], record: Record, state: TrainState) -> list[Sink]:
    """Shows a record to every sink; returns those that stop the run. A sink that returns a bool raises a ValueError."""
    stopping = []
    for sink in sinks:
        answer = sink(record, state)
        if isinstance(answer, bool):
            raise ValueError(
                f"sinks: expected None or train.STOP from {getattr(sink, '__name__', repr(sink))}, got {answer}; "
                "return train.STOP to end the run, and nothing otherwise."
            )
        if answer is STOP:
            stopping.append(sink)
    return stopping
