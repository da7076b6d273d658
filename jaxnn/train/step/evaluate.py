"""Losses, metrics and outputs over a whole data set, in evaluation mode, compiled."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils

from jaxnn.train.losses.types import LossFn, Metrics
from jaxnn.train.step import batching
from jaxnn.train.step.batching import Reduction
from jaxnn.train.step.compiling import Jitted, Options, jit
from jaxnn.train.step.expected import check_function, check_loss_fn, check_static, explained_errors, losses_and_metrics
from jaxnn.train.step.labels import LabelCheck
from jaxnn.train.step.state import TrainState, apply, check_state, without_optimizer
from jaxnn.train.step.step import Preprocess


def evaluate(
    state: TrainState,
    data: Any,
    loss_fn: LossFn,
    *,
    preprocess: Preprocess | None = None,
    batch_size: int = 256,
    reduction: Reduction = "examples",
    drop_last: bool = False,
    ema: bool = False,
    compiler_options: Options | None = None,
) -> Metrics:
    """Computes the mean loss and metrics over all of `data`; every example counts once.

    The model is in evaluation mode, and `loss_fn` and `preprocess` get None as the key: nothing is random. Each pair of
    `loss_fn` and `preprocess` *objects* is compiled once, so define them outside of loops.

    Args:
        state: The state to evaluate; it is neither changed nor donated.
        data: A pytree of arrays that share their leading length, the number of examples.
        loss_fn: As for `make_step`.
        preprocess: As for `make_step`.
        batch_size: Examples per batch. It does not change the result, up to rounding, unless `reduction` is `"batch"`.
        reduction: As for `make_step`. With `"batch"` the result is a mean over batches, and `batch_size` must divide
            the number of examples.
        drop_last: Whether to leave out the examples of a short last batch.
        ema: Whether to evaluate the moving average of the parameters (`create_state(..., ema=0.999)`).
        compiler_options: As for `make_step`.

    Returns:
        `loss` and the metrics of `loss_fn`, each float32 `()`.

    Raises:
        ValueError: If there are no examples, lengths differ, `batch_size` is not positive, or a label for
            `losses.classification` is not a class.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> def loss_fn(w, batch, key):
        ...     return (batch - w) ** 2, {"above": batch > w}
        >>> state = train.create_state(jnp.float32(2), optax.sgd(0.1), jax.random.key(0))
        >>> metrics = train.evaluate(state, jnp.array([1.0, 2.0, 4.0]), loss_fn, batch_size=2)
        >>> print(f"{metrics['loss']:.3f} {metrics['above']:.3f}")
        1.667 0.333
    """
    check_loss_fn(loss_fn)
    check_static(loss_fn=loss_fn, preprocess=preprocess)
    LabelCheck(state, loss_fn, preprocess, batch_size)(data)
    metrics: Metrics = _evaluate.with_options(compiler_options)(
        without_optimizer(state),
        data,
        loss_fn,
        preprocess=preprocess,
        batch_size=batch_size,
        reduction=reduction,
        drop_last=drop_last,
        ema=ema,
    )
    return metrics


def mean_metrics(
    state: TrainState,
    data: Any,
    loss_fn: LossFn,
    *,
    preprocess: Preprocess | None,
    batch_size: int,
    reduction: Reduction = "examples",
    drop_last: bool = False,
    ema: bool = False,
) -> Metrics:
    """`evaluate` inside `jit`, without the check of labels."""
    state = state.averaged() if ema else state
    used = check_batches(batching.count(data), batch_size, reduction, drop_last)

    def loss_of(model: Any, batch: Any) -> tuple[Any, Any]:
        try:
            with explained_errors(batch, preprocess):
                return losses_and_metrics(loss_fn(model, batch, None))
        except TypeError as error:
            if "None" in str(error):
                error.add_note("The key is None in evaluation: draw random numbers only where it is not.")
            raise

    def sums(batch: Any, weights: jax.Array | None) -> Metrics:
        (losses, metrics), _ = apply(state, state.params, lambda model: loss_of(model, batch), training=False)
        if reduction == "batch":
            values = batching.whole_batch(losses, metrics, batch)
            examples = values.pop("examples")
            return {name: value * examples for name, value in values.items()} | {"examples": examples}
        n = batching.check_weights(weights, batch)
        values, counted = batching.per_example(losses, metrics, batch)
        count = batching.both(weights, counted)
        totals = batching.weighted_sums(values, count)
        if counted is None and n == batch_size:
            return totals
        return totals | {"examples": jnp.float32(n) if count is None else jnp.sum(count)}

    totals = {
        name: jnp.sum(total) for name, total in _over_batches(sums, data, preprocess, batch_size, drop_last).items()
    }
    n = batching.nonzero(totals.pop("examples")) if "examples" in totals else used
    return {name: total / n for name, total in totals.items()}


def make_evaluation(loss_fn: LossFn, *, compiler_options: Options | None = None, **options: Any) -> Jitted:
    """Makes the compiled evaluation `(state, data) -> metrics` of one loss function.

    Each result is traced again, like each step of `make_step`: both use the current values that `loss_fn` closes over.
    """

    @partial(jit, compiler_options=compiler_options)
    def evaluate(state: TrainState, data: Any) -> Metrics:
        return mean_metrics(state, data, loss_fn, **options)

    return evaluate


_evaluate = jit(mean_metrics, static_argnames=("loss_fn", "preprocess", "batch_size", "reduction", "drop_last", "ema"))


def check_batches(
    examples: int, batch_size: int, reduction: Reduction, drop_last: bool, name: str = "batch_size"
) -> int:
    """Counts the examples that an evaluation uses; raises if the batch size, called `name`, does not fit."""
    batching.check_reduction(reduction)
    used = batching.steps(examples, batch_size, drop_last, name) * batch_size if drop_last else examples
    if reduction == "batch" and used % batch_size:
        raise ValueError(
            f'{name}: expected a divisor of {examples}, the number of examples, with reduction="batch", got '
            f"{batch_size}; the loss of the short last batch, {used % batch_size} examples, is not that of a full "
            f"one: take another {name}, or drop_last=True to leave it out."
        )
    return used


def predict(
    state: TrainState,
    data: Any,
    apply_fn: Callable[[Any, Any], Any],
    *,
    preprocess: Preprocess | None = None,
    batch_size: int = 256,
    ema: bool = False,
    compiler_options: Options | None = None,
) -> Any:
    """Computes the outputs of the model for every example of `data`, in order, for example logits.

    Args:
        state: The state to evaluate; it is neither changed nor donated.
        data: A pytree of arrays that share their leading length, the number of examples.
        apply_fn: `(model, batch) -> outputs`, arrays `(batch, ...)`.
        preprocess: As for `make_step`; its key is None.
        batch_size: Examples per batch.
        ema: Whether to use the moving average of the parameters (`create_state(..., ema=0.999)`).
        compiler_options: As for `make_step`.

    Returns:
        The results of `apply_fn` for all examples, `(examples, ...)`, in every process of a job.

    Raises:
        ValueError: If there are no examples, lengths differ, or `batch_size` is not positive.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> state = train.create_state(jnp.float32(2), optax.sgd(0.1), jax.random.key(0))
        >>> train.predict(state, jnp.arange(5.0), lambda w, x: w * x, batch_size=2).tolist()
        [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    check_state(state)
    check_function("apply_fn", apply_fn, "(model, batch) -> outputs", "write lambda model, batch: model(batch.images)")
    check_static(apply_fn=apply_fn, preprocess=preprocess)
    batching.count(data)
    compiled = _predict.with_options(compiler_options)
    outputs = compiled(without_optimizer(state), data, apply_fn, preprocess, batch_size, ema)
    return jax.tree.map(_readable, outputs) if jax.process_count() > 1 else outputs


def _readable(x: jax.Array) -> Any:
    """The whole array, in every process of a job."""
    if isinstance(x, jax.core.Tracer) or x.is_fully_addressable or x.is_fully_replicated:
        return x
    return multihost_utils.process_allgather(x, tiled=True)


@partial(jit, static_argnums=(2, 3, 4, 5))
def _predict(
    state: TrainState,
    data: Any,
    apply_fn: Callable[[Any, Any], Any],
    preprocess: Preprocess | None,
    batch_size: int,
    ema: bool,
) -> Any:
    state = state.averaged() if ema else state

    def outputs(batch: Any, weights: jax.Array | None) -> Any:
        with explained_errors(batch, preprocess):
            result, _ = apply(state, state.params, lambda model: apply_fn(model, batch), training=False)
        if batching.count(result, "apply_fn: outputs") != batch_size:  # that of the data, not of what preprocess made
            raise ValueError(
                f"apply_fn: expected outputs of leading length {batch_size}, one row per example, "
                f"got {jax.tree.map(jnp.shape, result)}"
            )
        return result

    n = batching.count(data)
    stacked = _over_batches(outputs, data, preprocess, batch_size)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:n], stacked)


def _over_batches(
    function: Callable[[Any, jax.Array | None], Any],
    data: Any,
    preprocess: Preprocess | None,
    batch_size: int,
    drop_last: bool = False,
) -> Any:
    """Calls `function(batch, weights)` batch by batch, in order, and stacks the results."""
    examples = batching.count(data)

    def body(number: jax.Array) -> Any:
        positions, weights = batching.positions(number, examples, batch_size, drop_last)
        batch = batching.take(data, positions)
        if preprocess is not None:
            batch = preprocess(None, batch)
        return function(batch, weights)

    return jax.lax.map(body, jnp.arange(batching.steps(examples, batch_size, drop_last)))
