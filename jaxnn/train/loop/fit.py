"""The training loop: epochs, progress, metrics, plots, checkpoints, and a stop at a loss that is not finite."""

import os
from collections.abc import Sequence
from typing import Any

from jaxnn.counts import check_count
from jaxnn.data.stream import Stream
from jaxnn.train.checkpoint.fingerprint import identity
from jaxnn.train.checkpoint.options import Checkpoints
from jaxnn.train.devices import distributed
from jaxnn.train.devices.sharding import Parallel
from jaxnn.train.devices.shortage import tell_of_shortage
from jaxnn.train.loop.computed import Computed, Generated
from jaxnn.train.loop.driver import drive
from jaxnn.train.loop.epoch import make_epoch
from jaxnn.train.loop.epochs import Epochs
from jaxnn.train.loop.sinks import Curves, Sink, check_sinks
from jaxnn.train.loop.streamed import StreamedEpoch
from jaxnn.train.losses.types import LossFn, Penalty
from jaxnn.train.run.folder import RunFolder
from jaxnn.train.run.progress import Progress
from jaxnn.train.run.record import History
from jaxnn.train.step import batching
from jaxnn.train.step.batching import Reduction
from jaxnn.train.step.compiling import Options
from jaxnn.train.step.evaluate import check_batches, make_evaluation
from jaxnn.train.step.expected import check_kind
from jaxnn.train.step.labels import LabelCheck
from jaxnn.train.step.state import TrainState
from jaxnn.train.step.step import Preprocess, make_step


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
    reduction: Reduction = "examples",
    drop_last: bool = False,
    ema: bool = False,
    test_batch_size: int = 256,
    run: RunFolder | None = None,
    checkpoints: Checkpoints | None = None,
    chunk: int | None = None,
    profile: str | os.PathLike[str] | None = None,
    sinks: Sequence[Sink] = (),
    progress: bool = True,
    parallel: Parallel | None = None,
    compiler_options: Options | None = None,
) -> tuple[TrainState, History]:
    """Trains for some epochs, each one compiled program, and evaluates after each.

    Step, epoch and evaluation are compiled once. The host reads the metrics once per epoch. All randomness follows from
    the state's key. The state is **donated**: use the returned one. A state that was trained before, also on other
    data, trains `epochs` more.

    Args:
        state: From `create_state`.
        data: The training set, a pytree of arrays that share their leading length; a `data.Stream`, which reads it
            batch by batch in the same order if it does not fit on the device; or a `train.Generated` or
            `train.loop.TBPTT`, which compute batches on the device.
        loss_fn: As for `make_step`.
        test_data: The data to evaluate on after each epoch, or None.
        epochs: Number of epochs to train.
        batch_size: Examples per step; not used for computed batches, which have their size.
        penalty: As for `make_step`.
        preprocess: As for `make_step`.
        reduction: As for `make_step`: `"batch"` for a loss of the whole batch.
        drop_last: As for `make_epoch`: whether to leave out a short last batch, also in evaluation if `reduction` is
            `"batch"`.
        ema: Whether to evaluate the moving average of the parameters (`create_state(..., ema=0.999)`).
        test_batch_size: Examples per batch in evaluation.
        run: Folder for `metrics.jsonl`, one line per epoch, which is on the disk before the next epoch starts, and for
            `curves.png`, written at the end, also after an error or Ctrl-C.
        checkpoints: Where to save the state, and whether to resume from there. A resumed run ends with the same state
            as an uninterrupted one, bit for bit; `epochs` counts from the state that is passed in. SIGTERM and Ctrl-C
            save and then raise `Interrupted`.
        chunk: Steps per compiled program, to save and to show progress inside long epochs; None compiles the whole
            epoch as one. The results are the same.
        profile: A folder for a trace of one program (the second, if there is one), for Perfetto and XProf.
        sinks: Functions that receive each record, `(record, state) -> None`: `train.run.TensorBoard(run)`,
            `train.early_stopping("test_loss")`, or your own. One that returns `train.STOP` ends the run.
        progress: Whether to show progress: a bar on a terminal, one line per epoch elsewhere.
        parallel: The devices to train on, from `train.parallel`; each batch is sharded over them. One device by
            default. Results are the same for any number of devices, up to rounding. Several processes all call this
            with the same arguments, and the first one alone writes and prints.
        compiler_options: As for `make_step`, also for evaluation.

    Returns:
        The new state, and the history, one record per epoch: `epoch` and `step` (counted from the state's first step),
        `train_loss` and other training metrics (means over the epoch, while the parameters change), `test_loss` and
        other test metrics, `seconds` (of training, without compilation) and `examples_per_second`.

    Raises:
        Interrupted: After SIGTERM or Ctrl-C, with checkpoints.
        CheckpointError: If the checkpoint to resume from is damaged, of another run or another model, or missing while
            the run folder holds metrics of these epochs.
        NonFiniteLossError: If the loss or gradient is NaN or infinite; the message names the step, and what to try.
        OutOfMemoryError: If training needs more memory than a device has.
        ProcessLostError: If another process of the job died.
        ValueError: If a number is out of range, shapes do not fit, a label for `losses.classification` is not a class,
            or `run` is the folder of another run.

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
    check_sinks(sinks)
    check_kind("run", run, RunFolder, "train.run.start_run('runs/a')")
    check_kind("checkpoints", checkpoints, Checkpoints, "train.Checkpoints('runs/a/checkpoints')")
    check_kind("parallel", parallel, Parallel, "train.parallel()")
    epochs, test_batch_size = check_count("epochs", epochs, 0), check_count("test_batch_size", test_batch_size)
    if isinstance(data, Computed):
        steps = data.steps
    else:
        examples = data.examples if isinstance(data, Stream) else batching.count(data)
        steps = batching.steps(examples, batch_size, drop_last)
    step_fn = make_step(
        loss_fn, penalty=penalty, preprocess=preprocess, reduction=reduction, compiler_options=compiler_options
    )
    check = LabelCheck(state, loss_fn, preprocess, batch_size)
    left_out = drop_last and reduction == "batch"
    if test_data is not None:
        _check_is_whole(test_data)
        test_batch_size = test_batch_size if parallel is None else parallel.round_up(test_batch_size)
        check_batches(batching.count(test_data, "test_data"), test_batch_size, reduction, left_out, "test_batch_size")
        check(test_data, "test_data")
    start = int(state.step)
    distributed.check_same(
        "fit",
        f"{epochs=}, {batch_size=}, {chunk=}, {drop_last=}, {start=}, test_data={test_data is not None}, "
        f"checkpoints={checkpoints is not None}",
        "give every process the same arguments",
    )
    if not isinstance(data, Stream | Computed):
        check(data)
    epoch: Any
    if isinstance(data, Stream):
        epoch = StreamedEpoch(
            step_fn,
            batch_size=batch_size,
            parallel=parallel,
            check=lambda batch, numbers: check(batch, numbers=numbers),
            drop_last=drop_last,
            start=start,
        )
    else:
        size = None if isinstance(data, Computed) else batch_size
        epoch = make_epoch(step_fn, batch_size=size, chunk=chunk, parallel=parallel, drop_last=drop_last, start=start)
        data = _placed(data, parallel)
    test_data = _placed(test_data, parallel)
    if parallel is not None:
        state, preprocess = parallel.state(state), parallel.preprocess(preprocess)
    evaluate = make_evaluation(
        loss_fn,
        preprocess=preprocess,
        batch_size=test_batch_size,
        reduction=reduction,
        drop_last=left_out,
        ema=ema,
        compiler_options=compiler_options,
    )
    if not distributed.is_first():
        run, progress, profile = None, False, None
    same = None
    if checkpoints is not None:
        same = {"batch_size": batch_size, "chunk": chunk, "data": _identity(data)}
        # Absent where they change nothing, and from older checkpoints.
        same |= ({"drop_last": True} if drop_last else {}) | ({"first step": start} if start % steps else {})
    with Progress(epochs, first=start // steps, enabled=progress) as display:
        program = Epochs(
            epoch, data, evaluate, test_data, check, steps, chunk or steps, start=start, epochs=epochs, display=display
        )
        return drive(
            program,
            state,
            display=display,
            run=run,
            after=start // steps,
            checkpoints=checkpoints,
            identity=same,
            sinks=sinks if run is None else [*sinks, Curves(run, display.say)],
            profile=profile,
        )


def _placed(data: Any, parallel: Parallel | None) -> Any:
    """The arrays on their devices."""
    return batching.placed(data) if parallel is None else parallel.data(data)


def _identity(data: Any) -> str:
    """Identifies the data by every bit of what is on the device, or by what is known without reading it."""
    if isinstance(data, Stream):
        return f"a stream of {data.examples} examples"
    if isinstance(data, Generated):
        return f"generated batches, {data.steps} steps per epoch"
    return identity(data)


def _check_is_whole(test_data: Any) -> None:
    if isinstance(test_data, Computed | Stream):
        raise ValueError(
            f"test_data: expected arrays, which are evaluated on the device, got a {type(test_data).__name__}; read "
            "examples of it into arrays, or evaluate batch by batch in a sink, with train.evaluate."
        )
