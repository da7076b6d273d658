"""The loop that trains many runs at once: epochs, histories by member, and a report of those that diverged."""

import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxnn.counts import check_count
from jaxnn.train.checkpoint.fingerprint import identity
from jaxnn.train.checkpoint.options import Checkpoints
from jaxnn.train.devices import distributed
from jaxnn.train.devices.shortage import tell_of_shortage
from jaxnn.train.ensemble.members import count_members
from jaxnn.train.ensemble.program import make
from jaxnn.train.ensemble.training import Members
from jaxnn.train.loop.driver import drive
from jaxnn.train.loop.epoch import make_epoch
from jaxnn.train.loop.nonfinite import advice
from jaxnn.train.loop.sinks import Sink
from jaxnn.train.losses.types import LossFn, Penalty
from jaxnn.train.run.folder import RunFolder
from jaxnn.train.run.progress import Progress
from jaxnn.train.run.record import History
from jaxnn.train.step import batching
from jaxnn.train.step.batching import Reduction
from jaxnn.train.step.compiling import Options
from jaxnn.train.step.evaluate import check_batches, make_evaluation
from jaxnn.train.step.expected import check_kind
from jaxnn.train.step.hyperparameters import hyperparameters
from jaxnn.train.step.labels import LabelCheck
from jaxnn.train.step.state import TrainState
from jaxnn.train.step.step import Preprocess, make_step


@distributed.tell_of_lost_processes()
@tell_of_shortage("use a smaller members_per_chunk or batch_size (and test_batch_size)")
def fit(
    states: TrainState,
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
    members_per_chunk: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    memory: int | None = None,
    run: RunFolder | None = None,
    checkpoints: Checkpoints | None = None,
    profile: str | os.PathLike[str] | None = None,
    sinks: Sequence[Sink] = (),
    progress: bool = True,
    compiler_options: Options | None = None,
) -> tuple[TrainState, list[History]]:
    """Trains all members for some epochs; training and evaluation of an epoch are one compiled program.

    Each member's history is that of `train.fit`, up to rounding. A member whose loss or gradient becomes NaN or
    infinite has diverged: a line reports it, its history ends with that epoch, and the others continue.

    Args:
        states: Stacked, from `ensemble.create`; **donated**.
        data: The training set, a pytree of arrays that share their leading length; each member shuffles it with its
            key.
        loss_fn: As for `make_step`.
        test_data: The data to evaluate on after each epoch, or None.
        epochs: Number of epochs to train.
        batch_size: Examples per step.
        penalty: As for `make_step`.
        preprocess: As for `make_step`.
        reduction: As for `train.fit`.
        drop_last: As for `train.fit`.
        ema: As for `train.fit`.
        test_batch_size: Examples per batch in evaluation.
        members_per_chunk: As for `ensemble.make`.
        devices: As for `ensemble.make`.
        memory: As for `ensemble.make`.
        run: Where to write `metrics.jsonl`: one line per epoch, each metric a list with one number per member.
            Processes of a job train different members, each with its own folder.
        checkpoints: Where to save all members, and whether to resume from there, as for `train.fit`: with the same
            devices and chunks every member ends as in an uninterrupted run, bit for bit, and diverged members stay
            diverged. Its `best` must be None, because no single number ranks all members.
        profile: As for `train.fit`.
        sinks: As for `train.fit`; each metric of a record is a list, one number per member.
        progress: Whether to show progress, with means over members: a bar on a terminal, one line per epoch elsewhere.
        compiler_options: As for `make_step`.

    Returns:
        The new states, and a history for each member as of `train.fit` but without times. `diverged` tells whether a
        history ends with a loss that is not finite.

    Raises:
        Interrupted: After SIGTERM or Ctrl-C, with checkpoints.
        CheckpointError: If the checkpoint to resume from is damaged, of other members or another model, or missing
            while the run folder holds metrics of these epochs.
        NonFiniteLossError: If every member has diverged.
        OutOfMemoryError: If training needs more memory than a device has.
        ProcessLostError: If another process of the job died.
        ValueError: If a number is out of range, shapes do not fit, or one member does not fit the memory; if
            `checkpoints` has `best` or there are several processes, which train different members; or if `run` is the
            folder of another run or process.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> def loss_fn(w, batch, key):
        ...     x, y = batch
        ...     return (x @ w - y) ** 2, {}
        >>> x = jax.random.normal(jax.random.key(1), (100, 2))
        >>> states = train.ensemble.create(
        ...     lambda key: jax.random.normal(key, (2,)),
        ...     optax.inject_hyperparams(optax.sgd)(learning_rate=0.1),
        ...     train.ensemble.grid(learning_rate=[1e-4, 0.1, 1e6], seed=[0]),
        ... )
        >>> states, histories = train.ensemble.fit(
        ...     states, (x, x @ jnp.array([1.0, -2.0])), loss_fn, epochs=5, batch_size=10)
        compiled in ...
        >>> [train.ensemble.diverged(history) for history in histories]
        [False, False, True]
        >>> min(range(2), key=lambda i: histories[i][-1]["train_loss"])
        1
    """
    epochs, test_batch_size = check_count("epochs", epochs, 0), check_count("test_batch_size", test_batch_size)
    check_kind("run", run, RunFolder, "train.run.start_run('runs/a')")
    check_kind("checkpoints", checkpoints, Checkpoints, "train.Checkpoints('runs/a/checkpoints')")
    if checkpoints is not None:
        _check(checkpoints)
    count_members(states)
    examples = batching.count(data)
    steps = batching.steps(examples, batch_size, drop_last)
    one = jax.eval_shape(lambda states: jax.tree.map(lambda x: x[0], states), states)
    check = LabelCheck(one, loss_fn, preprocess, batch_size)
    check(data)
    if test_data is not None:
        tested = batching.count(test_data, "test_data")
        check_batches(tested, test_batch_size, reduction, drop_last and reduction == "batch", "test_batch_size")
        check(test_data, "test_data")
    step_fn = make_step(
        loss_fn, penalty=penalty, preprocess=preprocess, reduction=reduction, compiler_options=compiler_options
    )
    epoch_fn = make_epoch(step_fn, batch_size=batch_size, drop_last=drop_last)
    evaluate = make_evaluation(
        loss_fn,
        preprocess=preprocess,
        batch_size=test_batch_size,
        reduction=reduction,
        drop_last=drop_last and reduction == "batch",
        ema=ema,
    )

    def train_and_test(state: TrainState, data: Any, test_data: Any) -> tuple[TrainState, Any]:
        state, metrics = epoch_fn(state, data)
        if test_data is None:
            return state, (metrics, {})
        return state, (metrics, evaluate(state, test_data))

    ensemble = make(
        train_and_test,
        members_per_chunk=members_per_chunk,
        devices=devices,
        memory=memory,
        compiler_options=compiler_options,
    )
    data, test_data = batching.placed((data, test_data))
    first = int(states.step.max()) // steps
    distributed.check_same("ensemble.fit", f"{epochs=}, {first=}", "give every process as many epochs, of its members")
    same = {"batch_size": batch_size} | ({"drop_last": True} if drop_last else {})
    with Progress(epochs, first=first, enabled=progress) as display:
        program = Members(
            ensemble,
            (data, test_data),
            lambda: advice(data, check),
            members=_names(states),
            examples=examples,
            steps=steps,
            first=first,
            last=first + epochs,
            display=display,
        )
        states, _ = drive(
            program,
            states,
            display=display,
            run=run,
            after=first,
            checkpoints=checkpoints,
            identity={} if checkpoints is None else same | {"data": identity(data), **_who(states)},
            sinks=sinks,
            profile=profile,
        )
    return states, program.histories


def _check(checkpoints: Checkpoints) -> None:
    if checkpoints.best is not None:
        raise ValueError(
            f"checkpoints: expected best=None, since no number ranks all members, got best={checkpoints.best!r}; take "
            "the best member when all are trained."
        )
    if jax.process_count() > 1:
        raise ValueError(
            f"checkpoints: expected one process, got a job of {jax.process_count()}, each of which trains different "
            "members; start independent processes instead of a job, each with its own folder."
        )


def _who(states: TrainState) -> dict[str, Any]:
    """Identifies these members: by how each is trained, and by the key of its random numbers."""
    columns = {"keys": jax.random.key_data(states.key)} | hyperparameters(states.opt_state)
    return {f"the members' {name}": np.asarray(column).tolist() for name, column in columns.items()}


def _names(states: TrainState) -> list[str]:
    """The members by number, and by those of their hyper-parameters that differ."""
    columns = {name: np.asarray(column) for name, column in hyperparameters(states.opt_state).items()}
    differing = {name: column for name, column in columns.items() if column.ndim == 1 and np.ptp(column)}
    names = []
    for i in range(count_members(states)):
        told = ", ".join(f"{name} {column[i]:.3g}" for name, column in differing.items())
        names.append(f"member {i} ({told})" if told else f"member {i}")
    return names
