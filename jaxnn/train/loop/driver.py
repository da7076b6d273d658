"""The one training loop: run a program, fetch its metrics, make a record, show it to the sinks, save."""

import dataclasses
import os
import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import jax

from jaxnn.train.checkpoint import signals
from jaxnn.train.checkpoint.options import Checkpoints, CheckpointWarning, Position
from jaxnn.train.checkpoint.saver import Saver
from jaxnn.train.devices import distributed
from jaxnn.train.loop.sinks import STOP, Sink, check_sinks, shown
from jaxnn.train.run.claim import claim
from jaxnn.train.run.folder import RunFolder
from jaxnn.train.run.progress import Progress
from jaxnn.train.run.record import History, Record
from jaxnn.train.step.state import TrainState


class Program:
    """A kind of training for `drive`: what runs next, and the record of its metrics.

    Subclasses define `remaining`, `run` and `record`; by default the other methods do nothing. `fit` and `ensemble.fit`
    are such programs.
    """

    def remaining(self, state: TrainState) -> float:
        """Returns how many calls of `run` are left; 0 ends the run."""
        raise NotImplementedError

    def run(self, state: TrainState) -> tuple[TrainState, Any]:
        """Runs the next program, which donates `state`. Returns the new state and metrics on the device."""
        raise NotImplementedError

    def record(self, state: TrainState, metrics: Any, seconds: float, position: Position) -> Record | None:
        """Makes the record.

        Args:
            state: The state after `run`.
            metrics: What `run` returned, fetched to the host.
            seconds: How long `run` took.
            position: The position in the run: `history` without this record; `sums` and `seconds` may hold what is
                known of an epoch that has not ended.

        Returns:
            The record, or None inside an epoch.
        """
        raise NotImplementedError

    def names(self, state: TrainState) -> Collection[str] | None:
        """Returns the names in its records; None if they are unknown before the first record."""
        return None

    def compile(self, state: TrainState) -> tuple[TrainState, str]:
        """Compiles before the first `run`. Returns the state, placed on its devices, and a message for the user."""
        return state, ""

    def resume(self, state: TrainState, position: Position, display: Progress) -> None:
        """Resumes a run from a checkpoint."""

    def check(self, state: TrainState, history: History) -> None:
        """Checks the newest record, once it is on the disk; raises an error if training has to end."""

    def show(self, display: Progress, position: Position, record: Record | None, seconds_left: float) -> None:
        """Shows the newest record, or, without one, the progress of the epoch."""


def drive(
    program: Program,
    state: TrainState,
    *,
    display: Progress | None = None,
    run: RunFolder | None = None,
    after: int = 0,
    checkpoints: Checkpoints | None = None,
    identity: Mapping[str, Any] | None = None,
    sinks: Sequence[Sink] = (),
    profile: str | os.PathLike[str] | None = None,
) -> tuple[TrainState, History]:
    """Runs a program until nothing remains or a sink stops it.

    Args:
        program: What to run.
        state: The state; **donated**.
        display: Shows progress; None shows nothing.
        run: Folder for `metrics.jsonl`, one line per record, which is on the disk before the next program starts.
        after: The epoch after which the run starts; lines of `metrics.jsonl` up to it are kept.
        checkpoints: Where to save, and whether to resume. SIGTERM and Ctrl-C save and raise `Interrupted`.
        identity: What must be the same when the run is resumed, beyond `checkpoints.config`.
        sinks: Functions that receive each record.
        profile: A folder for a trace of the second call of `run`, or of the only one.

    Returns:
        The new state, and the records.

    Raises:
        Interrupted: After SIGTERM or Ctrl-C, with checkpoints.
        CheckpointError: As `train.checkpoint.Saver.restore` raises it.
        ValueError: If `sinks` is not a list of callables, records lack a name that a sink or `checkpoints.best` needs,
            or `run` is the folder of another run.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> step = train.make_step(lambda w, batch, key: ((batch @ w - 1) ** 2, {}))
        >>> class ThreeSteps(train.loop.Program):
        ...     def remaining(self, state):
        ...         return 3 - int(state.step)
        ...     def run(self, state):
        ...         return step(state, jnp.eye(2))
        ...     def record(self, state, metrics, seconds, position):
        ...         return {"step": int(state.step), "loss": round(float(metrics["loss"]), 2)}
        >>> state = train.create_state(jnp.zeros(2), optax.sgd(0.5), jax.random.key(0))
        >>> state, history = train.loop.drive(ThreeSteps(), state)
        >>> history
        [{'step': 1, 'loss': 1.0}, {'step': 2, 'loss': 0.25}, {'step': 3, 'loss': 0.06}]
    """
    display, sinks = display or Progress(0, enabled=False), check_sinks(sinks)
    position, saver, stopped = Position(), None, False
    with ExitStack() as stack:
        if checkpoints is not None:
            saver = stack.enter_context(Saver(checkpoints, identity, say=display.say if display.enabled else None))
        claim(run, after, stack, resumes=checkpoints is not None and checkpoints.resume)
        if saver is not None:
            state, position = saver.restore(state, run, after=after)
        for sink in sinks:
            if isinstance(sink, AbstractContextManager):
                stack.enter_context(sink)
        log = _Log(run, after)
        if profile is not None:
            profile = os.path.abspath(profile)  # a sink may change directories
            os.makedirs(profile, exist_ok=True)  # an error about the folder comes before training
        if position.history or position.sums:
            program.resume(state, position, display)
            answers = [sink.resume(position.history) for sink in sinks if hasattr(sink, "resume")]
            stopped = distributed.anywhere(any(answer is STOP for answer in answers))
        if program.remaining(state) > 0 and not stopped:
            state = _compiled(program, state, display, [*sinks, checkpoints])
        began, calls = time.perf_counter(), 0
        while (remaining := program.remaining(state)) > 0 and not stopped:
            if saver is not None:
                saver.stop_if_asked(state, position)
            display.doing("training")
            with _trace(profile if calls == 1 or (calls == 0 and remaining <= 1) else None):
                started = time.perf_counter()
                state, on_device = program.run(state)
                metrics = signals.fetch(on_device)
                seconds = time.perf_counter() - started
            calls += 1
            record = program.record(state, metrics, seconds, position)
            if record is not None:
                position.history.append(record)
                log(position.history)
                program.check(state, position.history)
            left = (time.perf_counter() - began) / calls * program.remaining(state)
            program.show(display, position, record, left)
            if record is not None:
                stopping = shown(sinks, record, state)
                if distributed.anywhere(bool(stopping)):
                    who = ", ".join(getattr(sink, "__name__", repr(sink)) for sink in stopping) or "another process"
                    display.say(f"stopped after step {int(state.step.max()):,} by {who}")
                    break
            if saver is not None and _is_due(saver, record):
                saver.save(state, position)
        if saver is not None:
            saver.save(state, position, wait=True)
            saver.stop_if_asked(state, position)  # a signal may also come while the last checkpoint is written
    return state, position.history


def _compiled(program: Program, state: TrainState, display: Progress, readers: Sequence[Any]) -> TrainState:
    """Compiles before training, after the sinks have checked the names, so that records time training alone."""
    display.doing("compiling")
    started = time.perf_counter()
    if (names := program.names(state)) is not None:
        for reader in readers:
            if hasattr(reader, "check_names"):
                reader.check_names(names)
    state, remark = program.compile(state)
    display.say(f"compiled in {time.perf_counter() - started:.1f} s{remark and f': {remark}'}")
    return state


@dataclasses.dataclass
class _Log:
    """Writes the newest record to the run folder; after a failed write it warns, and writes again with the next record.

    Attributes:
        run: The run folder; None writes nothing.
        after: The history begins after this epoch; earlier lines do not change.
        behind: Whether lines are missing.
    """

    run: RunFolder | None
    after: int
    behind: bool = False

    def __call__(self, history: History) -> None:
        if self.run is None:
            return
        try:
            gone = len(history) > 1 and not (self.run / "metrics.jsonl").exists()  # the folder was deleted or moved
            if self.behind or gone:
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


def _is_due(saver: Saver, record: Record | None) -> bool:
    every = saver.options.every
    if every is None or record is None or "epoch" not in record:
        return saver.due()
    return int(record["epoch"]) % every == 0


@contextmanager
def _trace(folder: str | os.PathLike[str] | None) -> Iterator[None]:
    if folder is None:
        yield
        return
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # the program, without every Python call of other threads
    jax.profiler.start_trace(os.fspath(folder), create_perfetto_trace=True, profiler_options=options)
    try:
        yield
    finally:
        try:
            jax.profiler.stop_trace()
        except (OSError, jax.errors.JaxRuntimeError) as error:
            text = f"profile: the trace could not be written to {os.fspath(folder)} ({distributed.reason(error)}); "
            warnings.warn(f"{text}training continues without it", RuntimeWarning, stacklevel=4)
