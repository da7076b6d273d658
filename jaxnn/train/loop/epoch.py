"""A whole epoch as one compiled function: shuffling, gathering and all steps."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.counts import check_count
from jaxnn.train.devices.sharding import Parallel
from jaxnn.train.loop.computed import OF_DATA, Computed
from jaxnn.train.losses.types import Metrics
from jaxnn.train.step import batching
from jaxnn.train.step.compiling import Jitted, Options, jit, options_for
from jaxnn.train.step.state import TrainState, check_state


def epoch_order(key: jax.Array, epoch: jax.Array | int, examples: int) -> jax.Array:
    """Returns the order in which an epoch visits the examples.

    It depends only on the key and the number of the epoch, so a resumed run continues in the same order.

    Args:
        key: The state's key.
        epoch: The epoch's number, from 0.
        examples: Number of examples.

    Returns:
        A permutation, int32 `(examples,)`.

    Example:
        >>> import jax
        >>> from jaxnn import train
        >>> sorted(train.loop.epoch_order(jax.random.key(0), 3, 5).tolist())
        [0, 1, 2, 3, 4]
    """
    key = jax.random.fold_in(jax.random.fold_in(key, OF_DATA), epoch)
    return jax.random.permutation(key, examples)


def make_epoch(
    step: Callable[..., tuple[TrainState, Metrics]],
    *,
    batch_size: int | None = None,
    chunk: int | None = None,
    parallel: Parallel | None = None,
    drop_last: bool = False,
    start: int = 0,
    compiler_options: Options | None = None,
) -> Jitted:
    """Makes the epoch `(state, data) -> (state, metrics)`: all its steps in one compiled `jax.lax.scan`.

    Examples are shuffled and gathered on the device. Every example counts once per epoch, unless `drop_last` is set. So
    that all batches have one shape, a short last batch is filled with examples from the start of the same permutation,
    with weight zero: they add nothing to loss, gradient or metrics, but batch normalisation sees them.

    Args:
        step: From `make_step`, or any `(state, batch, weights) -> (state, metrics)`.
        batch_size: Examples per step, of all devices together; None only for a `train.loop.Computed`, whose batches
            have their size.
        chunk: Steps per call, instead of the whole epoch. A call starts at the position of the state in its epoch and
            stops at the end of the epoch. Several calls give the same results as one, and the host can save between
            them. Metrics are `(chunk,)`; `examples` is 0 for steps past the end of the epoch.
        parallel: The devices over which each batch is sharded, from `train.parallel`, which also places state and data.
            The order of the examples is the same for any number of devices.
        drop_last: Whether to leave out a short last batch, for losses that need full ones (`reduction="batch"` of
            `make_step`). Which examples that leaves out differs by epoch.
        start: A step at which an epoch begins. `chunk` needs it for a state that was trained on other data or with
            another batch size.
        compiler_options: As for `make_step`; None takes those of `step`.

    Returns:
        The epoch. `data` is a pytree of arrays that share their leading length, the number of examples, in whatever
        dtype they are stored (uint8 pictures stay uint8); keep it on the device (`jax.device_put`), so that it is not
        sent for each epoch. The data is not copied; the state is **donated**. Each metric is float32 `(steps,)`;
        weighted means by `metrics["examples"]` are those of the epoch. `data` may also be a `train.loop.Computed`.

    Raises:
        ValueError: If `batch_size` is not positive or not divisible by the number of devices, or, when called, if there
            are no examples, lengths differ, or `batch_size` is missing.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> def loss_fn(w, batch, key):
        ...     x, y = batch
        ...     return (x @ w - y) ** 2, {}
        >>> x = jax.random.normal(jax.random.key(1), (100, 2))
        >>> data = x, x @ jnp.array([1.0, -2.0])
        >>> state = train.create_state(jnp.zeros(2), optax.sgd(0.2), jax.random.key(0))
        >>> epoch = train.make_epoch(train.make_step(loss_fn), batch_size=8)
        >>> state, metrics = epoch(state, data)
        >>> metrics["examples"].tolist()
        [8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 4.0]
        >>> [round(float(x), 1) for x in state.params]
        [1.0, -2.0]
    """
    options = options_for(step, compiler_options)
    if batch_size is not None:
        batching.steps(1, batch_size)  # a wrong batch size raises here, not in the first call
    if chunk is not None:
        chunk = check_count("chunk", chunk)
    if parallel is not None:
        if batch_size is not None:
            parallel.check_batch_size(batch_size)
        step = parallel.step(step)

    @partial(jit, compiler_options=options, warn_of_retraces=True, donate_argnums=0)
    def epoch(state: TrainState, data: Any) -> tuple[TrainState, Metrics]:
        check_state(state)
        if isinstance(data, Computed):
            steps = data.steps

            def body(state: TrainState, number: jax.Array) -> tuple[TrainState, Metrics]:
                return step(state, data.batch_at(state.key, state.step))

        elif batch_size is None:
            raise ValueError("batch_size: expected examples a step for data in arrays, got None; give make_epoch one.")
        else:
            examples = batching.count(data)
            steps = batching.steps(examples, batch_size, drop_last)
            order = epoch_order(state.key, (state.step - start % steps) // steps, examples)

            def body(state: TrainState, number: jax.Array) -> tuple[TrainState, Metrics]:
                positions, weights = batching.positions(number, examples, batch_size, drop_last)
                return step(state, batching.take(data, order[positions]), weights)

        if chunk is None:
            state, metrics = jax.lax.scan(body, state, jnp.arange(steps))
        else:
            first = (state.step - start % steps) % steps
            state, metrics = _some(body, state, first, jnp.minimum(chunk, steps - first), chunk)
        return state if parallel is None else parallel.constrain(state), metrics

    return epoch


def _some(
    body: Callable[[TrainState, jax.Array], tuple[TrainState, Metrics]],
    state: TrainState,
    first: jax.Array,
    count: jax.Array,
    most: int,
) -> tuple[TrainState, Metrics]:
    """Scans over `first` to `first + count - 1`, with a traced length; the rest of the outputs is zero."""
    _, shapes = jax.eval_shape(body, state, first)
    outputs = jax.tree.map(lambda x: jnp.zeros((most, *x.shape), x.dtype), shapes)

    def one(number: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
        state, outputs = carry
        state, output = body(state, first + number)
        return state, jax.tree.map(lambda all_, x: all_.at[number].set(x), outputs, output)

    return jax.lax.fori_loop(0, count, one, (state, outputs))
