"""The loop that a person wants: epochs, progress, metrics, plots, and a stop when the loss is lost."""

import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.data.stream import Stream
from jaxnn.train import batching, distributed, plots
from jaxnn.train.epoch import make_epoch
from jaxnn.train.evaluate import evaluate
from jaxnn.train.progress import Progress
from jaxnn.train.runfolder import RunFolder
from jaxnn.train.sharding import Parallel
from jaxnn.train.state import TrainState
from jaxnn.train.step import LossFn, Penalty, Preprocess, make_step
from jaxnn.train.streaming import StreamedEpoch

Record = dict[str, int | float]
History = list[Record]


class NonFiniteLossError(RuntimeError):
    """The loss or gradient became NaN or infinite.

    Attributes:
        epoch: The epoch in which it did, from 1.
        step: The step in which it did, from 1; the last of the epoch if only the test loss shows it.
        history: The records of the epochs so far, that one included.
    """

    def __init__(self, message: str, *, epoch: int, step: int, history: History):
        super().__init__(message)
        self.epoch, self.step, self.history = epoch, step, history


@distributed.tell_of_lost_processes()
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
    progress: bool = True,
    parallel: Parallel | None = None,
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
        progress: Shows a bar on a terminal, a line an epoch elsewhere.
        parallel: The devices to train on, from `train.parallel`: each batch is split over them. One device
            without. The numbers are the same for any number of devices, to rounding. With several processes all call
            this with the same arguments, and the first one alone writes and shows.

    Returns:
        The new state, and the history, one record an epoch: `epoch` and `step` (counted from the state's
        first step), `train_loss` and the other training metrics (means over the epoch, while the parameters
        change), `test_loss` and the others, `seconds` (training alone, compilation left out) and
        `examples_per_second`.

    Raises:
        NonFiniteLossError: If the loss or gradient is NaN or infinite; it tells where, and what to try.
        ProcessLostError: If another process of the job died.
        ValueError: If a number is out of range or shapes do not fit.

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
    if epochs < 0:
        raise ValueError(f"epochs: expected a number that is not negative, got {epochs}")
    examples = data.examples if isinstance(data, Stream) else batching.count(data)
    steps = batching.steps(examples, batch_size)
    step = make_step(loss_fn, penalty=penalty, preprocess=preprocess)
    epoch_fn: Any
    if isinstance(data, Stream):
        epoch_fn = StreamedEpoch(step, batch_size=batch_size, parallel=parallel)
    else:
        epoch_fn = make_epoch(step, batch_size=batch_size, parallel=parallel)
        # To the device, once.
        data = jax.tree.map(jnp.asarray, data) if parallel is None else parallel.data(data)
    if parallel is None:
        test_data = jax.tree.map(jnp.asarray, test_data)
    else:
        state, test_data = parallel.state(state), parallel.data(test_data)
        preprocess = parallel.preprocess(preprocess)
        test_batch_size = parallel.up(test_batch_size)
    if not distributed.is_first():
        run, progress = None, False
    first = int(state.step) // steps
    history: History = []
    with Progress(epochs, first=first, enabled=progress) as display:
        try:
            if epochs:
                display.doing("compiling")
                started = time.perf_counter()
                # Compiled ahead, so that the first epoch's time is training alone; the calls below find it
                # done.
                if isinstance(data, Stream):
                    epoch_fn.compile(state, data)
                else:
                    epoch_fn.lower(state, data).compile()
                display.say(f"compiled in {time.perf_counter() - started:.1f} s")
            began = time.perf_counter()
            for done in range(1, epochs + 1):
                display.doing("training")
                started = time.perf_counter()
                state, on_device = epoch_fn(state, data)
                per_step: dict[str, np.ndarray] = jax.device_get(on_device)
                seconds = time.perf_counter() - started
                record: Record = {"epoch": first + done, "step": int(state.step)}
                weights = per_step.pop("examples")
                means = {name: np.average(values, weights=weights) for name, values in per_step.items()}
                record |= _named("train", means)
                if test_data is not None:
                    display.doing("evaluating")
                    test = evaluate(state, test_data, loss_fn, preprocess=preprocess, batch_size=test_batch_size)
                    record |= _named("test", jax.device_get(test))
                record |= {"seconds": seconds, "examples_per_second": examples / seconds}
                history.append(record)
                if run is not None:
                    run.log(record)
                _stop_if_not_finite(record, per_step, history, data)
                display.epoch(record, (time.perf_counter() - began) / done * (epochs - done))
        finally:
            if run is not None and history:
                _draw(run, history, display)
    return state, history


def _named(part: str, metrics: Mapping[str, Any]) -> Record:
    """Metrics as numbers of a record, the loss first: JAX returns dictionaries sorted."""
    names = sorted(metrics, key=lambda name: (name != "loss", name))
    return {f"{part}_{name}": float(metrics[name]) for name in names}


def _stop_if_not_finite(record: Record, per_step: Mapping[str, np.ndarray], history: History, data: Any) -> None:
    epoch, last = int(record["epoch"]), int(record["step"])
    lost = ~(np.isfinite(per_step["loss"]) & np.isfinite(per_step["grad_norm"]))
    if lost.any():
        index = int(lost.argmax())
        step = last - len(lost) + 1 + index
        what = "loss" if not np.isfinite(per_step["loss"][index]) else "gradient"
        value = per_step["loss" if what == "loss" else "grad_norm"][index]
    elif not np.isfinite(record.get("test_loss", 0.0)):
        step, what, value = last, "test loss", record["test_loss"]
    else:
        return
    if _has_non_finite(data):
        advice = "the training data itself holds NaN or infinity: clean it first"
    else:
        advice = (
            "try a learning rate 3 to 10 times lower, a warm-up, or optax.clip_by_global_norm(1.0) before "
            "the optimiser; "
            "jax.config.update('jax_debug_nans', True) shows the operation that made the first NaN"
        )
    raise NonFiniteLossError(
        f"the {what} became {value} in epoch {epoch}, step {step}, and training was stopped; {advice}",
        epoch=epoch,
        step=step,
        history=history,
    )


def _has_non_finite(data: Any) -> bool:
    if isinstance(data, Stream):
        return False  # it would have to be read whole
    floats = [x for x in jax.tree.leaves(data) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return not all(bool(jnp.isfinite(x).all()) for x in floats)


def _draw(run: RunFolder, history: History, display: Progress) -> None:
    try:
        plots.curves(history, run / "curves.png")
    except ImportError as error:  # the numbers are safe in metrics.jsonl; a missing plot is no reason to fail
        display.say(f"curves.png was not drawn: {error}")
