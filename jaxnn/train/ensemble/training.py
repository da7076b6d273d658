"""`ensemble.fit`'s program: epochs of all members, a history for each, and a report of those that diverged."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxnn.train.checkpoint.options import Position
from jaxnn.train.ensemble.program import Ensemble
from jaxnn.train.loop import records
from jaxnn.train.loop.driver import Program
from jaxnn.train.loop.nonfinite import NonFiniteLossError, first_lost
from jaxnn.train.run.progress import Progress
from jaxnn.train.run.record import History, Record
from jaxnn.train.step.state import TrainState


@dataclasses.dataclass
class Members(Program):
    """`ensemble.fit`'s program: an epoch and an evaluation of all members.

    Attributes:
        ensemble: Trains and evaluates them.
        data: The training set, and the test set or None.
        advise: Says what to try when all members have diverged.
        members: The name of each member.
        examples: Examples of the training set.
        steps: Steps per epoch.
        first: Epochs trained before.
        last: The last epoch.
        display: Shows who diverged.
        histories: The records of each member, up to the epoch in which it diverged.
    """

    ensemble: Ensemble
    data: Sequence[Any]
    advise: Callable[[], str]
    members: Sequence[str]
    examples: int
    steps: int
    first: int
    last: int
    display: Progress

    def __post_init__(self) -> None:
        self._per_step: Mapping[str, np.ndarray] = {}
        self.histories: list[History] = [[] for _ in self.members]

    def remaining(self, states: TrainState) -> float:
        """Returns the epochs that are left."""
        return self.last - int(states.step.max()) // self.steps

    def resume(self, states: TrainState, position: Position, display: Progress) -> None:
        """Takes the histories from the records."""
        for record in position.history:
            self._add(record)
        done = int(states.step.max()) // self.steps
        display.resume(done - self.first, f"resumed after epoch {done}")

    def names(self, states: TrainState) -> set[str]:
        """Traces the program of all members."""
        return records.names(*self.ensemble.results(states, *self.data))

    def compile(self, states: TrainState) -> tuple[TrainState, str]:
        """Chooses the layout and places states and data once."""
        layout = self.ensemble.prepare(states, *self.data)
        states, *self.data = self.ensemble.put(states, *self.data)
        return states, str(layout)

    def run(self, states: TrainState) -> tuple[TrainState, Any]:
        """Trains and evaluates all members."""
        result: tuple[TrainState, Any] = self.ensemble(states, *self.data)
        return result

    def record(self, states: TrainState, metrics: Any, seconds: float, position: Position) -> Record:
        """Makes a record whose metrics are lists, one number per member."""
        self._per_step, test = metrics
        step = int(states.step.max())
        lists = records.means(records.sums(self._per_step), test)
        return {"epoch": step // self.steps, "step": step, **lists, "seconds": seconds}

    def check(self, states: TrainState, history: History) -> None:
        """Adds to the histories, reports members that diverged, and raises if all have."""
        record = history[-1]
        for i in self._add(record):
            # Where only the test loss shows it: the last step.
            lost = first_lost({name: values[i] for name, values in self._per_step.items()}, record["step"])
            step = record["step"] if lost is None else lost[0]
            self.display.say(f"{self.members[i]} diverged in epoch {record['epoch']}, step {step}; the others train on")
        if all(map(diverged, self.histories)):
            longest = max(self.histories, key=len)
            epoch, step = (int(longest[-1][name]) for name in ("epoch", "step"))
            raise NonFiniteLossError(
                f"ensemble.fit: all {len(self.histories)} members diverged by epoch {epoch}, and training was stopped; "
                f"{self.advise()}",
                epoch=epoch,
                step=step,
                history=longest,
            )

    def _add(self, record: Record) -> list[int]:
        """Adds an epoch to the histories of the members that have not diverged; returns those that now have."""
        alive = [i for i, own in enumerate(self.histories) if not diverged(own)]
        for i in alive:
            # A member's part of the record, without the time, which is that of all.
            values = {name: value[i] if isinstance(value, list) else value for name, value in record.items()}
            del values["seconds"]
            self.histories[i].append(values)
        return [i for i in alive if diverged(self.histories[i])]

    def show(self, display: Progress, position: Position, record: Record | None, seconds_left: float) -> None:
        """Shows the means over the members that have not diverged."""
        if record is None:
            return
        alive = [i for i, history in enumerate(self.histories) if not diverged(history)]
        shown = {
            name: float(np.asarray(value)[alive].mean()) if isinstance(value, list) else value
            for name, value in record.items()
        }
        rate = len(self.members) * self.examples / float(record["seconds"])
        display.epoch(shown | {"examples_per_second": rate}, seconds_left)


def diverged(history: History) -> bool:
    """Whether a history ends with a loss or gradient that is NaN or infinite.

    Args:
        history: The records of one member.

    Returns:
        Whether it diverged; an empty history did not.

    Example:
        >>> from jaxnn import train
        >>> train.ensemble.diverged([{"epoch": 1, "train_loss": float("nan")}]), train.ensemble.diverged([])
        (True, False)
    """
    watched = ("train_loss", "train_grad_norm", "test_loss")
    return bool(history) and not all(np.isfinite(history[-1].get(name, 0.0)) for name in watched)
