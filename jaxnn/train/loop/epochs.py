"""`fit`'s program: epochs over a data set or a stream, each followed by an evaluation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.data.stream import Stream
from jaxnn.train.checkpoint.fingerprint import identity
from jaxnn.train.checkpoint.options import Position
from jaxnn.train.devices.sharding import Parallel
from jaxnn.train.loop import nonfinite, records
from jaxnn.train.loop.computed import Computed, Generated
from jaxnn.train.loop.driver import Program
from jaxnn.train.loop.epoch import make_epoch
from jaxnn.train.loop.streamed import StreamedEpoch
from jaxnn.train.run.progress import Progress
from jaxnn.train.run.record import History, Record
from jaxnn.train.step.labels import LabelCheck
from jaxnn.train.step.state import TrainState


class Whole:
    """Training on data that is on the device as a whole."""

    def __init__(
        self,
        data: Any,
        step: Any,
        batch_size: int,
        chunk: int | None,
        parallel: Parallel | None,
        check: LabelCheck,
        drop_last: bool,
        start: int,
    ):
        given = None if isinstance(data, Computed) else batch_size
        self._epoch = make_epoch(
            step, batch_size=given, chunk=chunk, drop_last=drop_last, parallel=parallel, start=start
        )
        # To the device, once.
        self._data = jax.tree.map(jnp.asarray, data) if parallel is None else parallel.data(data)
        self._check = check

    @property
    def identity(self) -> str:
        """Identifies the data by every bit of what is on the device."""
        if isinstance(self._data, Generated):
            return f"generated batches, {self._data.steps} steps per epoch"
        return identity(self._data)

    def lower(self, state: TrainState) -> jax.stages.Lowered:
        """Lowers the epoch."""
        return self._epoch.lower(state, self._data)

    def run(self, state: TrainState) -> tuple[TrainState, Any]:
        """Trains one epoch or chunk."""
        return self._epoch(state, self._data)

    def advice(self, state: TrainState, step: int) -> str:
        """Advises what to try after a step whose loss is not finite."""
        return nonfinite.advice(self._data, self._check)


class Streamed:
    """Training on data that is read batch by batch."""

    def __init__(
        self,
        stream: Stream,
        step: Any,
        batch_size: int,
        chunk: int | None,
        parallel: Parallel | None,
        check: LabelCheck,
        drop_last: bool,
        start: int,
    ):
        def check_batch(batch: Any, numbers: np.ndarray) -> None:
            check(batch, numbers=numbers)

        self._epoch = StreamedEpoch(
            step, batch_size=batch_size, drop_last=drop_last, parallel=parallel, check=check_batch, start=start
        )
        self._stream, self._chunk, self._check = stream, chunk, check

    @property
    def identity(self) -> str:
        """Identifies the data by what is known without reading it."""
        return f"a stream of {self._stream.examples} examples"

    def lower(self, state: TrainState) -> jax.stages.Lowered:
        """Lowers the step."""
        return self._epoch.lower(state, self._stream)

    def run(self, state: TrainState) -> tuple[TrainState, Any]:
        """Trains one epoch or chunk."""
        return self._epoch(state, self._stream, self._chunk)

    def advice(self, state: TrainState, step: int) -> str:
        """Advises what to try after a step whose loss is not finite."""
        batch, numbers = self._epoch.batch(state, self._stream, step - 1)
        return nonfinite.advice(batch, self._check, numbers=numbers)


class Epochs(Program):
    """`fit`'s program: one epoch or chunk at a time, an evaluation after each epoch.

    Epochs are counted from `start`, the step at which the run begins: it is in the middle of an epoch of these `steps`
    where the state was trained on other data before.
    """

    evaluate: Callable[[TrainState], Any] | None = None
    trace_evaluation: Callable[[TrainState], Any]
    _lowered: jax.stages.Lowered
    lost_in_test: Callable[[], str]

    def __init__(
        self, training: Whole | Streamed, *, steps: int, chunk: int | None, start: int, epochs: int, display: Progress
    ):
        self._training, self._steps, self._chunk = training, steps, chunk or steps
        self._start, self._epochs, self._display = start, epochs, display
        self._step = start
        self._lost: nonfinite.Lost | None = None

    def remaining(self, state: TrainState) -> float:
        """Returns the calls that are left, of whole epochs and of the one under way."""
        whole, rest = divmod(max(0, self._start + self._epochs * self._steps - int(state.step)), self._steps)
        return whole * -(-self._steps // self._chunk) + -(-rest // self._chunk)

    def names(self, state: TrainState) -> set[str]:
        """Traces the epoch and the evaluation, whose errors have to come before an epoch is trained."""
        self._lowered = self._training.lower(state)
        trained, tested = self._lowered.out_info[1], {}
        if self.evaluate is not None:
            try:
                tested = self.trace_evaluation(state).out_info
            except Exception as error:
                error.add_note("This is the evaluation of test_data; no epoch was trained.")
                raise
        return records.names(trained, tested) | {"examples_per_second"}

    def compile(self, state: TrainState) -> tuple[TrainState, str]:
        """Compiles the epoch."""
        self._lowered.compile()
        del self._lowered  # its text may be large
        return state, ""

    def run(self, state: TrainState) -> tuple[TrainState, Any]:
        """Trains one epoch or chunk."""
        self._step = int(state.step)
        return self._training.run(state)

    def record(self, state: TrainState, metrics: Any, seconds: float, position: Position) -> Record | None:
        """Adds the steps to the sums of the epoch, and evaluates at its end."""
        before, step = self._step, int(state.step)
        self._step = step
        epoch = self._start // self._steps + (before - self._start) // self._steps + 1
        per_step = {name: values[: step - before] for name, values in metrics.items()}
        position.sums = records.added(position.sums, per_step)
        position.seconds += seconds
        self._lost = nonfinite.first_lost(per_step, step)
        if (step - self._start) % self._steps and not self._lost:
            return None
        test = {}
        if self.evaluate is not None and not self._lost:
            self._display.doing("evaluating")
            test = jax.device_get(self.evaluate(state))
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
        step, what, _ = self._lost
        advice = self.lost_in_test() if what == "test loss" else self._training.advice(state, step)
        nonfinite.stop(self._lost, history, advice)

    def resume(self, state: TrainState, position: Position, display: Progress) -> None:
        """Shows how far the run was."""
        step = int(state.step)
        display.resume((step - self._start) // self._steps, f"resumed after step {step}")

    def show(self, display: Progress, position: Position, record: Record | None, seconds_left: float) -> None:
        """Shows the epoch, or how much of it is done."""
        if record is not None:
            display.epoch(record, seconds_left)
        else:
            share = (self._step - self._start) % self._steps / self._steps
            display.part(share, position.sums["examples"] / position.seconds, seconds_left)
