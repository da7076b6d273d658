"""`fit`'s program: epochs over a data set or a stream, each followed by an evaluation."""

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxnn.data.stream import Stream
from jaxnn.train.checkpoint.options import Position
from jaxnn.train.loop import nonfinite, records
from jaxnn.train.loop.driver import Program
from jaxnn.train.run.progress import Progress
from jaxnn.train.run.record import History, Record
from jaxnn.train.step.compiling import Jitted
from jaxnn.train.step.labels import LabelCheck
from jaxnn.train.step.state import TrainState


@dataclasses.dataclass
class Epochs(Program):
    """`fit`'s program: one epoch or chunk at a time, an evaluation after each epoch.

    Epochs are counted from `start`, the step at which the run begins: it is in the middle of an epoch of these `steps`
    where the state was trained on other data before.

    Attributes:
        epoch: Trains on `data`: a `StreamedEpoch` on a `Stream`, the result of `make_epoch` on anything else.
        data: The training set, on its devices.
        evaluate: Evaluates `test_data`, from `make_evaluation`.
        test_data: The test set, on its devices; None evaluates nothing.
        labels: Describes wrong labels after a loss that is not finite.
        steps: Steps per epoch.
        chunk: Steps of one call of `epoch`.
        start: The step at which the run begins.
        epochs: Number of epochs.
        display: Shows what the run is doing.
    """

    epoch: Any
    data: Any
    evaluate: Jitted
    test_data: Any
    labels: LabelCheck
    steps: int
    chunk: int
    start: int
    epochs: int
    display: Progress

    def __post_init__(self) -> None:
        self._step = self.start
        self._lost: nonfinite.Lost | None = None
        self._lowered: Any = None

    def remaining(self, state: TrainState) -> float:
        """Returns the calls that are left, of whole epochs and of the one under way."""
        whole, rest = divmod(max(0, self.start + self.epochs * self.steps - int(state.step)), self.steps)
        return whole * -(-self.steps // self.chunk) + -(-rest // self.chunk)

    def names(self, state: TrainState) -> set[str]:
        """Traces the epoch and the evaluation, whose errors have to come before an epoch is trained."""
        self._lowered = self.epoch.lower(state, self.data)
        trained, tested = self._lowered.out_info[1], {}
        if self.test_data is not None:
            try:
                tested = self.evaluate.trace(state, self.test_data).out_info
            except Exception as error:
                error.add_note("This is the evaluation of test_data; no epoch was trained.")
                raise
        return records.names(trained, tested) | {"examples_per_second"}

    def compile(self, state: TrainState) -> tuple[TrainState, str]:
        """Compiles the epoch."""
        self._lowered.compile()
        self._lowered = None  # its text may be large
        return state, ""

    def run(self, state: TrainState) -> tuple[TrainState, Any]:
        """Trains one epoch or chunk."""
        self._step = int(state.step)
        most = (self.chunk,) if isinstance(self.data, Stream) else ()  # others are compiled for one number of steps
        result: tuple[TrainState, Any] = self.epoch(state, self.data, *most)
        return result

    def record(self, state: TrainState, metrics: Any, seconds: float, position: Position) -> Record | None:
        """Adds the steps to the sums of the epoch, and evaluates at its end."""
        before, step = self._step, int(state.step)
        self._step = step
        epoch = self.start // self.steps + (before - self.start) // self.steps + 1
        per_step = {name: values[: step - before] for name, values in metrics.items()}
        for name, total in records.sums(per_step).items():
            position.sums[name] = position.sums.get(name, 0.0) + float(total)
        position.seconds += seconds
        self._lost = nonfinite.first_lost(per_step, step)
        if (step - self.start) % self.steps and not self._lost:
            return None
        test = {}
        if self.test_data is not None and not self._lost:
            self.display.doing("evaluating")
            test = jax.device_get(self.evaluate(state, self.test_data))
            if not np.isfinite(test["loss"]):
                self._lost = step, "test loss", float(test["loss"])
        rate = position.sums["examples"] / position.seconds
        times = {"seconds": position.seconds, "examples_per_second": rate}
        record = {"epoch": epoch, "step": step, **records.means(position.sums, test), **times}
        position.sums, position.seconds = {}, 0.0
        return record

    def check(self, state: TrainState, history: History) -> None:
        """Raises if the loss is not finite."""
        if self._lost is None:
            return
        step, what, value = self._lost
        if what == "test loss":
            advice = nonfinite.advice(self.test_data, self.labels, "test")
        elif isinstance(self.data, Stream):
            batch, numbers = self.epoch.batch(state, self.data, step - 1)
            advice = nonfinite.advice(batch, self.labels, numbers=numbers)
        else:
            advice = nonfinite.advice(self.data, self.labels)
        epoch = int(history[-1]["epoch"])
        raise nonfinite.NonFiniteLossError(
            f"fit: the {what} became {value} in epoch {epoch}, step {step}, and training was stopped; {advice}",
            epoch=epoch,
            step=step,
            history=history,
        )

    def resume(self, state: TrainState, position: Position, display: Progress) -> None:
        """Shows how far the run was."""
        step = int(state.step)
        display.resume((step - self.start) // self.steps, f"resumed after step {step}")

    def show(self, display: Progress, position: Position, record: Record | None, seconds_left: float) -> None:
        """Shows the epoch, or how much of it is done."""
        if record is not None:
            display.epoch(record, seconds_left)
        else:
            share = (self._step - self.start) % self.steps / self.steps
            display.part(share, position.sums["examples"] / position.seconds, seconds_left)
