"""The loop that a person wants: epochs, progress, metrics, plots, checkpoints, and a stop when the loss is lost."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import plots
from jaxnn.counts import check_count
from jaxnn.data.stream import Stream
from jaxnn.train.checkpoint import signals
from jaxnn.train.checkpoint.fingerprint import identity
from jaxnn.train.checkpoint.options import Checkpoints, Position
from jaxnn.train.checkpoint.saver import Saver
from jaxnn.train.devices import distributed
from jaxnn.train.devices.sharding import Parallel
from jaxnn.train.devices.shortage import tell_of_shortage
from jaxnn.train.loop import nonfinite
from jaxnn.train.loop.epoch import make_epoch
from jaxnn.train.loop.nonfinite import NonFiniteLossError
from jaxnn.train.loop.streamed import StreamedEpoch
from jaxnn.train.run.folder import RunFolder
from jaxnn.train.run.metrics_log import MetricsLog
from jaxnn.train.run.progress import Progress
from jaxnn.train.run.record import History, Record
from jaxnn.train.step import batching
from jaxnn.train.step.compiling import Options
from jaxnn.train.step.evaluate import evaluate_unchecked
from jaxnn.train.step.labels import LabelCheck
from jaxnn.train.step.state import TrainState
from jaxnn.train.step.step import LossFn, Penalty, Preprocess, make_step

__all__ = ["History", "NonFiniteLossError", "Record", "fit"]


@distributed.tell_of_lost_processes()
@tell_of_shortage(
    "use a smaller batch_size (and test_batch_size), recompute activations in the gradient (flax.nnx.remat, "
    "jax.checkpoint), read the data from a data.Stream, or use more devices (train.parallel)"
)
def fit(
    state: TrainState,
    data: Any,
    loss_fn: LossFn,
    *,
    test_data: Any = None,
    epochs: int = 10,
    batch_size: int = 128,
    penalty: Penalty | None = None,
    preprocess: Preprocess | None = None,
    test_batch_size: int = 256,
    run: RunFolder | None = None,
    checkpoints: Checkpoints | None = None,
    chunk: int | None = None,
    profile: str | os.PathLike[str] | None = None,
    on_record: Callable[[Record], None] | None = None,
    progress: bool = True,
    parallel: Parallel | None = None,
    compiler_options: Options | None = None,
) -> tuple[TrainState, History]:
    """Trains for some epochs, each one compiled program, and evaluates after each.

    Step, epoch and evaluation are compiled once. The host looks at the metrics once an epoch. Everything
    random follows from the state's key. The state is **donated**: use the returned one. A state that has
    trained before goes on with the next epoch.

    Args:
        state: From `create_state`.
        data: The training set, a pytree of arrays that share their leading length; or a `data.Stream`, where it
            does not fit on the device: the same order of examples, read batch by batch.
        loss_fn: As for `make_step`.
        test_data: A set to evaluate on after each epoch, or None.
        epochs: How many epochs to train.
        batch_size: Examples a step.
        penalty: As for `make_step`.
        preprocess: As for `make_step`.
        test_batch_size: Examples at a time in evaluation.
        run: Where to write `metrics.jsonl`, a line an epoch and on the disk before the next one starts, and
            `curves.png` at the end, also after an error or Ctrl-C.
        checkpoints: Where to save the state on the way, and whether to go on from there: the run then ends
            where it would have ended, bit for bit, and `epochs` still counts from the state that is passed in.
            SIGTERM and Ctrl-C save and then raise `Interrupted`.
        chunk: Steps a compiled program, to save and to show progress inside long epochs; None makes the whole
            epoch one. The numbers are the same.
        profile: A folder for a trace of one program (the second, if there is one) for Perfetto and XProf.
        on_record: Called with each record, to write it elsewhere too: `train.run.TensorBoard(run)`, or your own.
        progress: Shows a bar on a terminal, a line an epoch elsewhere.
        parallel: The devices to train on, from `train.parallel`: each batch is split over them. One device
            without. The numbers are the same for any number of devices, to rounding. With several processes all call
            this with the same arguments, and the first one alone writes and shows.
        compiler_options: As for `make_step`, for evaluation too.

    Returns:
        The new state, and the history, one record an epoch: `epoch` and `step` (counted from the state's
        first step), `train_loss` and the other training metrics (means over the epoch, while the parameters
        change), `test_loss` and the others, `seconds` (training alone, compilation left out) and
        `examples_per_second`.

    Raises:
        Interrupted: After SIGTERM or Ctrl-C, with checkpoints.
        CheckpointError: If the checkpoint to resume from is of another run or another model, or damaged, or gone
            while the run folder holds metrics of these epochs.
        NonFiniteLossError: If the loss or gradient is NaN or infinite; it tells where, and what to try.
        OutOfMemoryError: If the memory of a device does not hold what training needs.
        ProcessLostError: If another process of the job died.
        ValueError: If a number is out of range, shapes do not fit, or a label for `classification_loss` is no class.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> def loss_fn(w, batch, key):
        ...     x, y = batch
        ...     return (x @ w - y) ** 2, {}
        >>> x = jax.random.normal(jax.random.key(1), (100, 2))
        >>> data = x, x @ jnp.array([1.0, -2.0])
        >>> state = train.create_state(jnp.zeros(2), optax.sgd(0.1), jax.random.key(0))
        >>> state, history = train.fit(state, data, loss_fn, epochs=3, batch_size=8, progress=False)
        >>> history[-1]["train_loss"] < history[0]["train_loss"] / 1000
        True
    """
    epochs, test_batch_size = check_count("epochs", epochs, 0), check_count("test_batch_size", test_batch_size)
    examples = data.examples if isinstance(data, Stream) else batching.count(data)
    steps = batching.steps(examples, batch_size)
    step_fn = make_step(loss_fn, penalty=penalty, preprocess=preprocess, compiler_options=compiler_options)
    evaluate_fn = evaluate_unchecked.with_options(compiler_options)
    epoch_fn: Callable[..., tuple[TrainState, Any]]
    compile_fn: Callable[[TrainState, Any], Any]
    check = LabelCheck(state, loss_fn, preprocess, batch_size)
    check(test_data, "test_data")
    if isinstance(data, Stream):
        streamed = StreamedEpoch(
            step_fn,
            batch_size=batch_size,
            parallel=parallel,
            check=lambda batch, numbers: check(batch, numbers=numbers),
        )
        epoch_fn, compile_fn = partial(streamed, steps=chunk), streamed.compile
    else:
        check(data)
        compiled = make_epoch(step_fn, batch_size=batch_size, chunk=chunk, parallel=parallel)
        epoch_fn, compile_fn = compiled, lambda state, data: compiled.lower(state, data).compile()
        # To the device, once.
        data = jax.tree.map(jnp.asarray, data) if parallel is None else parallel.data(data)
    if parallel is None:
        test_data = jax.tree.map(jnp.asarray, test_data)
    else:
        state, test_data = parallel.state(state), parallel.data(test_data)
        preprocess = parallel.preprocess(preprocess)
        test_batch_size = parallel.up(test_batch_size)
    if not distributed.is_first():
        run, progress, profile = None, False, None
    step = int(state.step)
    first, last = step // steps, step // steps + epochs
    position = Position()
    with ExitStack() as stack:
        display = stack.enter_context(Progress(epochs, first=first, enabled=progress))
        saver = None
        if checkpoints is not None:
            same = {"batch_size": batch_size, "chunk": chunk, "data": _identity(data)}
            saver = stack.enter_context(Saver(checkpoints, same, say=display.say if progress else None))
            state, position = saver.restore(state, run, after=first)
            step = int(state.step)
        history = position.history
        if history or position.sums:
            display.resume(step // steps - first, f"going on after step {step}")
        log = MetricsLog(run, first)
        if run is not None:
            stack.callback(lambda: _draw(run, history, display))

        if step // steps < last:
            display.doing("compiling")
            started = time.perf_counter()
            # Compiled ahead, so that the first epoch's time is training alone; the calls below find it
            # done.
            compile_fn(state, data)
            display.say(f"compiled in {time.perf_counter() - started:.1f} s")
        began, begin, calls = time.perf_counter(), step, 0
        while step // steps < last:
            if saver is not None:
                saver.stop_if_asked(state, position)
            display.doing("training")
            taken = steps if chunk is None else min(chunk, steps - step % steps)
            epoch, only = step // steps + 1, last - step // steps == 1 and (chunk is None or chunk >= steps)
            with _trace(profile if calls == 1 or (calls == 0 and only) else None):
                started = time.perf_counter()
                state, on_device = epoch_fn(state, data)
                per_step = signals.fetch(on_device)
                position.seconds += time.perf_counter() - started
            per_step = {name: values[:taken] for name, values in per_step.items()}
            calls, step = calls + 1, step + len(per_step["examples"])
            position.sums = _add(position.sums, per_step)
            lost = nonfinite.first_lost(per_step, step)
            whole = chunk is None or step % steps == 0
            now = time.perf_counter()
            left = (now - began) * (last * steps - step) / (step - begin)
            if whole or lost:
                record = _record(epoch, step, position)
                if test_data is not None and not lost:
                    display.doing("evaluating")
                    test = evaluate_fn(state, test_data, loss_fn, preprocess=preprocess, batch_size=test_batch_size)
                    record = _with_test(record, jax.device_get(test))
                    if not np.isfinite(record["test_loss"]):
                        lost = step, "test loss", record["test_loss"]
                position.history.append(record)
                position.sums, position.seconds = {}, 0.0
                log(position.history)
                if lost:
                    if lost[1] == "test loss":
                        advice = nonfinite.advice(test_data, check, "test")
                    elif isinstance(data, Stream):
                        batch, numbers = streamed.batch(state, data, lost[0] - 1)
                        advice = nonfinite.advice(batch, check, numbers=numbers)
                    else:
                        advice = nonfinite.advice(data, check)
                    nonfinite.stop(lost, position.history, advice)
                display.epoch(record, left)
                if on_record is not None:
                    on_record(record)
            else:
                display.part(step % steps / steps, position.sums["examples"] / position.seconds, left)
            if saver is not None and (epoch % saver.options.every == 0 if whole else saver.due()):
                saver.save(state, position)
        if saver is not None:
            saver.stop_if_asked(state, position)
            saver.save(state, position, wait=True)
    return state, position.history


def _identity(data: Any) -> str:
    """What tells one training set from another: how many examples, and every bit of what is on the device."""
    return f"a stream of {data.examples} examples" if isinstance(data, Stream) else identity(data)


def _add(sums: Mapping[str, float], per_step: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The sums over an epoch's examples, further steps of it added."""
    weights = np.asarray(per_step["examples"], np.float64)
    more = {name: float(np.sum(weights * values)) for name, values in per_step.items() if name != "examples"}
    more["examples"] = float(weights.sum())
    return {name: sums.get(name, 0.0) + value for name, value in more.items()}


def _record(epoch: int, step: int, position: Position) -> Record:
    sums = dict(position.sums)
    examples = sums.pop("examples")
    means = {name: total / (examples or 1.0) for name, total in sums.items()}
    times = {"seconds": position.seconds, "examples_per_second": examples / position.seconds}
    return {"epoch": epoch, "step": step, **_named("train", means), **times}


def _with_test(record: Record, test: Mapping[str, Any]) -> Record:
    """The record with the test's metrics, before the times."""
    times = {name: record[name] for name in ("seconds", "examples_per_second")}
    return {**{name: value for name, value in record.items() if name not in times}, **_named("test", test), **times}


def _named(part: str, metrics: Mapping[str, Any]) -> Record:
    """Metrics as numbers of a record, the loss first: JAX returns dictionaries sorted."""
    names = sorted(metrics, key=lambda name: (name != "loss", name))
    return {f"{part}_{name}": float(metrics[name]) for name in names}


def _trace(folder: str | os.PathLike[str] | None) -> AbstractContextManager[Any]:
    if folder is None:
        return nullcontext()
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # the program, and not each call of Python in the threads beside it
    return jax.profiler.trace(os.fspath(folder), create_perfetto_trace=True, profiler_options=options)


def _draw(run: RunFolder, history: History, display: Progress) -> None:
    if not history:
        return
    try:
        plots.curves(history, run / "curves.png")
    except (ImportError, OSError) as error:  # the numbers are in metrics.jsonl; a missing plot is no reason to fail
        display.say(f"curves.png was not drawn: {error}")
