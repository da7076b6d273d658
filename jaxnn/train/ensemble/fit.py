"""The loop that trains many runs at once: epochs, histories by member, and word of those that diverged."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.counts import check_count
from jaxnn.train.checkpoint import signals
from jaxnn.train.checkpoint.fingerprint import identity
from jaxnn.train.checkpoint.options import Checkpoints, Position
from jaxnn.train.checkpoint.saver import Saver
from jaxnn.train.devices.shortage import tell_of_shortage
from jaxnn.train.ensemble.members import count_members, hyperparameters
from jaxnn.train.ensemble.program import make_ensemble
from jaxnn.train.loop.epoch import make_epoch
from jaxnn.train.loop.nonfinite import NonFiniteLossError, advice, first_lost
from jaxnn.train.run.folder import RunFolder
from jaxnn.train.run.metrics_log import MetricsLog
from jaxnn.train.run.progress import Progress
from jaxnn.train.run.record import History, Record
from jaxnn.train.step import batching
from jaxnn.train.step.compiling import Options
from jaxnn.train.step.evaluate import evaluate
from jaxnn.train.step.labels import LabelCheck
from jaxnn.train.step.state import TrainState
from jaxnn.train.step.step import LossFn, Penalty, Preprocess, make_step


@tell_of_shortage("use a smaller members_per_chunk or batch_size (and test_batch_size)")
def fit_ensemble(
    states: TrainState,
    data: Any,
    loss_fn: LossFn,
    *,
    test_data: Any = None,
    epochs: int = 10,
    batch_size: int = 128,
    penalty: Penalty | None = None,
    preprocess: Preprocess | None = None,
    test_batch_size: int = 256,
    members_per_chunk: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    memory: int | None = None,
    run: RunFolder | None = None,
    checkpoints: Checkpoints | None = None,
    progress: bool = True,
    compiler_options: Options | None = None,
) -> tuple[TrainState, list[History]]:
    """Trains all members for some epochs, each one compiled program, evaluation included.

    What `fit` is for one state. Each member's history is the one that `fit` would give, to rounding. One whose
    loss or gradient becomes NaN or infinite has diverged: that is said, its history ends with that epoch, and the
    others go on as if it were not there.

    Args:
        states: Stacked, from `create_ensemble`; **donated**.
        data: The training set, a pytree of arrays that share their leading length; each member shuffles it by
            its own key.
        loss_fn: As for `make_step`.
        test_data: A set to evaluate on after each epoch, or None.
        epochs: How many epochs to train.
        batch_size: Examples a step.
        penalty: As for `make_step`.
        preprocess: As for `make_step`.
        test_batch_size: Examples at a time in evaluation.
        members_per_chunk: As for `make_ensemble`.
        devices: As for `make_ensemble`.
        memory: As for `make_ensemble`.
        run: Where to write `metrics.jsonl`: a line an epoch, each metric a list with one number a member.
        checkpoints: Where to save all members on the way, and whether to go on from there, as for `fit`: with the
            same devices and chunks every member ends where it would have ended, bit for bit, and one that had diverged
            stays so. Its `best` must be None, since no one number ranks all members.
        progress: Shows a bar on a terminal, a line an epoch elsewhere: the means over members.
        compiler_options: As for `make_step`.

    Returns:
        The new states, and a history for each member, as `fit` gives it but without times. `diverged` tells
        whether one ends with a lost loss.

    Raises:
        Interrupted: After SIGTERM or Ctrl-C, with checkpoints.
        CheckpointError: If the checkpoint to resume from is of other members or another model, or damaged, or gone
            while the run folder holds metrics of these epochs.
        NonFiniteLossError: If every member has diverged.
        OutOfMemoryError: If the memory of a device does not hold what training needs.
        ValueError: If a number is out of range, shapes do not fit, or one member does not fit the memory; if
            `checkpoints` cannot serve: with `best`, or in a job of several processes, which train members of their own.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> def loss_fn(w, batch, key):
        ...     x, y = batch
        ...     return (x @ w - y) ** 2, {}
        >>> x = jax.random.normal(jax.random.key(1), (100, 2))
        >>> states = train.create_ensemble(
        ...     lambda key: jax.random.normal(key, (2,)),
        ...     optax.inject_hyperparams(optax.sgd)(learning_rate=0.1),
        ...     train.grid(learning_rate=[1e-4, 0.1, 1e6], seed=[0]),
        ... )
        >>> states, histories = train.fit_ensemble(
        ...     states, (x, x @ jnp.array([1.0, -2.0])), loss_fn, epochs=5, batch_size=10)
        compiled in ...
        >>> [train.ensemble.diverged(history) for history in histories]
        [False, False, True]
        >>> min(range(2), key=lambda i: histories[i][-1]["train_loss"])
        1
    """
    epochs, test_batch_size = check_count("epochs", epochs, 0), check_count("test_batch_size", test_batch_size)
    if checkpoints is not None:
        _check(checkpoints)
    members, examples = count_members(states), batching.count(data)
    steps = batching.steps(examples, batch_size)
    one = jax.eval_shape(lambda states: jax.tree.map(lambda x: x[0], states), states)
    check = LabelCheck(one, loss_fn, preprocess, batch_size)
    check(data)
    check(test_data, "test_data")
    step_fn = make_step(loss_fn, penalty=penalty, preprocess=preprocess, compiler_options=compiler_options)
    epoch_fn = make_epoch(step_fn, batch_size=batch_size)

    def train_and_test(state: TrainState, data: Any, test_data: Any) -> tuple[TrainState, Any]:
        state, metrics = epoch_fn(state, data)
        if test_data is None:
            return state, (metrics, {})
        test = evaluate(state, test_data, loss_fn, preprocess=preprocess, batch_size=test_batch_size)
        return state, (metrics, test)

    ensemble = make_ensemble(
        train_and_test,
        members_per_chunk=members_per_chunk,
        devices=devices,
        memory=memory,
        compiler_options=compiler_options,
    )
    data, test_data = jax.tree.map(jnp.asarray, (data, test_data))
    names = _names(states)
    first = int(states.step[0]) // steps
    last, position = first + epochs, Position()
    with ExitStack() as stack:
        display = stack.enter_context(Progress(epochs, first=first, enabled=progress))
        saver = None
        if checkpoints is not None:
            same = {"batch_size": batch_size, "data": identity(data), **_who(states)}
            saver = stack.enter_context(Saver(checkpoints, same, say=display.say))
            states, position = saver.restore(states, run, after=first)
        records, log = position.history, MetricsLog(run, after=first)
        histories = [_history_of(i, records) for i in range(members)]
        epoch = first + len(records)
        if records:
            display.resume(len(records), f"going on after epoch {epoch}")

        if epoch < last:
            display.doing("compiling")
            started = time.perf_counter()
            layout = ensemble.prepare(states, data, test_data)
            # Placed once: the data is not sent to the devices again for each epoch.
            states, data, test_data = ensemble.put(states, data, test_data)
            display.say(f"compiled in {time.perf_counter() - started:.1f} s: {layout}")
        began, begin = time.perf_counter(), epoch
        while epoch < last:
            if saver is not None:
                saver.stop_if_asked(states, position)
            display.doing("training")
            started = time.perf_counter()
            states, on_device = ensemble(states, data, test_data)
            per_step, test = signals.fetch(on_device)
            seconds = time.perf_counter() - started
            epoch += 1
            where: Record = {"epoch": epoch, "step": epoch * steps}
            metrics = _means(per_step) | {f"test_{name}": values for name, values in test.items()}
            metrics = {name: metrics[name] for name in sorted(metrics, key=_order)}
            records.append({**where, **{name: values.tolist() for name, values in metrics.items()}, "seconds": seconds})
            log(records)
            for i in range(members):
                if diverged(histories[i]):
                    continue
                histories[i].append(_record_of(i, records[-1]))
                if diverged(histories[i]):
                    # Where only the test loss shows it: the last step.
                    lost = first_lost({name: values[i] for name, values in per_step.items()}, int(where["step"]))
                    step = where["step"] if lost is None else lost[0]
                    display.say(f"{names[i]} diverged in epoch {epoch}, step {step}; the others go on")
            if all(map(diverged, histories)):
                _stop(histories, advice(data, check))
            alive = [i for i in range(members) if not diverged(histories[i])]
            shown: Record = {name: float(values[alive].mean()) for name, values in metrics.items()}
            shown |= where | {"examples_per_second": members * examples / seconds}
            display.epoch(shown, (time.perf_counter() - began) / (epoch - begin) * (last - epoch))
            if saver is not None and epoch % saver.options.every == 0:
                saver.save(states, position)
        if saver is not None:
            saver.stop_if_asked(states, position)
            saver.save(states, position, wait=True)
    return states, histories


def diverged(history: History) -> bool:
    """Whether a history ends with a loss or gradient that is NaN or infinite.

    Example:
        >>> from jaxnn import train
        >>> train.ensemble.diverged([{"epoch": 1, "train_loss": float("nan")}]), train.ensemble.diverged([])
        (True, False)
    """
    watched = ("train_loss", "train_grad_norm", "test_loss")
    return bool(history) and not all(np.isfinite(history[-1].get(name, 0.0)) for name in watched)


def _check(checkpoints: Checkpoints) -> None:
    if checkpoints.best is not None:
        raise ValueError(
            f"checkpoints: best={checkpoints.best!r} ranks checkpoints by one number, and each member has its own; "
            "leave it None, and take the best member when all are trained"
        )
    if jax.process_count() > 1:
        raise ValueError(
            "checkpoints: in a job of several processes each trains members of its own, and they cannot be saved "
            "together; start processes that are no job, each with a folder of its own"
        )


def _who(states: TrainState) -> dict[str, Any]:
    """What tells these members from others: how each is trained, and what it takes its random numbers from."""
    columns = {"keys": jax.random.key_data(states.key)} | hyperparameters(states.opt_state)
    return {f"the members' {name}": np.asarray(column).tolist() for name, column in columns.items()}


def _history_of(i: int, records: list[dict[str, Any]]) -> History:
    """A member's own history, up to the epoch in which it diverged."""
    history: History = []
    for record in records:
        if diverged(history):
            break
        history.append(_record_of(i, record))
    return history


def _record_of(i: int, record: Mapping[str, Any]) -> Record:
    """A member's part of an epoch's record, without the time, which is that of all."""
    own = {name: value[i] if isinstance(value, list) else value for name, value in record.items()}
    del own["seconds"]
    return own


def _stop(histories: list[History], what_to_try: str) -> NoReturn:
    history = max(histories, key=len)
    epoch, step = (int(history[-1][name]) for name in ("epoch", "step"))
    raise NonFiniteLossError(
        f"every one of the {len(histories)} members diverged by epoch {epoch}, and training was stopped; {what_to_try}",
        epoch=epoch,
        step=step,
        history=history,
    )


def _means(per_step: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Means over an epoch's steps, `(members, steps) -> (members,)`, every example counting once."""
    weights = per_step["examples"]
    examples = weights.sum(axis=1)
    return {
        f"train_{name}": (values * weights).sum(axis=1) / np.where(examples == 0, 1, examples)
        for name, values in per_step.items()
        if name != "examples"
    }


def _order(name: str) -> tuple[bool, bool, str]:
    """Training first, the loss first: JAX returns dictionaries sorted."""
    return name.startswith("test_"), not name.endswith("_loss"), name


def _names(states: TrainState) -> list[str]:
    """The members by number, and by those of their hyper-parameters that differ."""
    columns = {name: np.asarray(column) for name, column in hyperparameters(states.opt_state).items()}
    differing = {name: column for name, column in columns.items() if column.ndim == 1 and np.ptp(column)}
    names = []
    for i in range(count_members(states)):
        told = ", ".join(f"{name} {column[i]:.3g}" for name, column in differing.items())
        names.append(f"member {i} ({told})" if told else f"member {i}")
    return names
