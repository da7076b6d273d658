"""The recurrent layers over whole sequences."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.functional.programs import Bound, lasting, once
from jaxnn.functional.recurrent import algorithms, check
from jaxnn.functional.recurrent.cells import Activation, gru_step, lstm_step, rnn_step
from jaxnn.functional.recurrent.params import (
    GRUParams,
    GRUState,
    LSTMParams,
    LSTMState,
    Params,
    RNNParams,
    RNNState,
    StateT,
)
from jaxnn.functional.recurrent.scan import Options
from jaxnn.functional.sharding import like_batch, mesh_of
from jaxnn.kernels.platform import varying_as


def rnn(
    params: RNNParams,
    x: jax.Array,
    state: RNNState | None = None,
    *,
    lengths: jax.typing.ArrayLike | None = None,
    reverse: bool = False,
    resets: jax.typing.ArrayLike | None = None,
    activation: Activation = jnp.tanh,
    time_major: bool = False,
    remat: int | None = None,
    truncate: int | None = None,
    algorithm: str = "auto",
) -> tuple[jax.Array, RNNState]:
    """A simple (Elman) recurrent layer: `rnn_step`, which states the formula, over every time step.

    Args:
        params: the layer's parameters.
        x: `(*batch, time, features)`.
        state: the initial state, `h` of shape `(*batch, hidden)`; zeros by default.
        lengths: as in `lstm`.
        reverse: as in `lstm`.
        resets: as in `lstm`.
        activation: as in `rnn_step`.
        time_major: as in `lstm`.
        remat: as in `lstm`.
        truncate: as in `lstm`.
        algorithm: as in `lstm`.

    Returns:
        The outputs `(*batch, time, hidden)` and the final state.

    Raises:
        ValueError: shapes, dtypes or concrete lengths do not fit, or the algorithm does not serve.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn.functional.recurrent import init_rnn, rnn
        >>> params = init_rnn(jax.random.key(0), features=3, hidden=5)
        >>> y, state = rnn(params, jnp.ones((2, 7, 3)), activation=jax.nn.relu)
        >>> y.shape, state.h.shape
        ((2, 7, 5), (2, 5))
    """
    step = Bound(rnn_step, activation=activation)
    check.params(params, RNNParams)
    return _run("rnn", algorithm, step, params, state, x, lengths, reverse, resets, time_major, remat, truncate)


def gru(
    params: GRUParams,
    x: jax.Array,
    state: GRUState | None = None,
    *,
    lengths: jax.typing.ArrayLike | None = None,
    reverse: bool = False,
    resets: jax.typing.ArrayLike | None = None,
    reset_after: bool = True,
    activation: Activation = jnp.tanh,
    gate_activation: Activation = jax.nn.sigmoid,
    time_major: bool = False,
    remat: int | None = None,
    truncate: int | None = None,
    algorithm: str = "auto",
) -> tuple[jax.Array, GRUState]:
    """A layer of gated recurrent units: `gru_step`, which states the formula, over every time step.

    Args:
        params: the layer's parameters; gates stand in the order r, z, n.
        x: `(*batch, time, features)`.
        state: the initial state, `h` of shape `(*batch, hidden)`; zeros by default.
        lengths: as in `lstm`.
        reverse: as in `lstm`.
        resets: as in `lstm`.
        reset_after: as in `gru_step`.
        activation: as in `gru_step`.
        gate_activation: as in `gru_step`.
        time_major: as in `lstm`.
        remat: as in `lstm`.
        truncate: as in `lstm`.
        algorithm: as in `lstm`.

    Returns:
        The outputs `(*batch, time, hidden)` and the final state.

    Raises:
        ValueError: shapes, dtypes or concrete lengths do not fit, or the algorithm does not serve.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn.functional.recurrent import gru, init_gru
        >>> params = init_gru(jax.random.key(0), features=3, hidden=5)
        >>> y, state = gru(params, jnp.ones((2, 7, 3)), reset_after=False)
        >>> y.shape, state.h.shape
        ((2, 7, 5), (2, 5))
    """
    step = Bound(gru_step, reset_after=bool(reset_after), activation=activation, gate_activation=gate_activation)
    check.params(params, GRUParams)
    return _run("gru", algorithm, step, params, state, x, lengths, reverse, resets, time_major, remat, truncate)


def lstm(
    params: LSTMParams,
    x: jax.Array,
    state: LSTMState | None = None,
    *,
    lengths: jax.typing.ArrayLike | None = None,
    reverse: bool = False,
    resets: jax.typing.ArrayLike | None = None,
    activation: Activation = jnp.tanh,
    gate_activation: Activation = jax.nn.sigmoid,
    time_major: bool = False,
    remat: int | None = None,
    truncate: int | None = None,
    algorithm: str = "auto",
) -> tuple[jax.Array, LSTMState]:
    """A layer of long short-term memory: `lstm_step`, which states the formula, over every time step.

    Any number of batch axes, none too. Half-precision inputs give half-precision outputs; products are summed
    and gates computed in float32, and the cell state stays float32.

    Args:
        params: the layer's parameters; gates stand in the order i, f, g, o. Peepholes, projection, coupled
            gates and layer normalisation are used where `params` holds them.
        x: `(*batch, time, features)`.
        state: the initial state, `h` of shape `(*batch, output)` and `c` of shape `(*batch, hidden)`; zeros
            by default. The final state of one chunk is the initial state of the next: a sequence cut in
            chunks gives what the whole gives, and so does a loop of `lstm_step`, up to rounding: `"scan"` is
            compiled to the same bits, but where XLA turns a product over a single feature, row or column into
            a loop of its own; `"fused"` sums the products of inputs and state in one.
        lengths: integers `(*batch,)`: how many steps of each sequence count. Past its length a sequence's
            outputs are zero, its state stays as it is, and what stands there in `x` has no effect, not even
            NaN; length 0 returns the initial state. Concrete lengths outside 0..time raise; traced ones
            cannot, and act as if clipped to that range.
        reverse: whether to go from the last step (within its length) to the first. Outputs stay beside their
            inputs: `y[t]` has seen `x[t]` and what follows; the final state is that after step 0.
        resets: bool `(*batch, time)`: true where a new sequence starts, for documents packed in one row or
            episodes. The state is set to zeros, also when `state` was given, between the steps t - 1 and t:
            going forward before step t, going back before step t - 1. So nothing passes that point in either
            direction. Going back, `resets[0]` lies after the last step and has no effect; so do resets past a
            length.
        activation: as in `lstm_step`. Outside of `jax.jit` a function that a module defines, or a jitted one, is
            compiled once, and so it is a pure function; another is traced in every call.
        gate_activation: as in `lstm_step`.
        time_major: whether `x`, `resets` and the outputs have time as their *first* axis, `(time, *batch,
            ...)`. That is the order in which the scan reads, so nothing is copied.
        remat: keep for the backward pass only the state at every `remat`-th step and compute the others
            again: memory in proportion to `time / remat + remat` instead of `time`, least near the square
            root of the time, for about one forward pass more. For 10,000 steps, batch 8 and 256 cells in
            float32 the compiled gradient needs 861 MiB without (`"scan"`: 939), 13 MiB with `remat=100`.
        truncate: stop gradients between the steps t - 1 and t wherever t is a multiple of `truncate`
            (truncated back-propagation through time); values stay as they are.
        algorithm: how it is computed. `"scan"` is the plain reference. `"fused"` computes the same, with a
            derivative that is faster on CPU: what is scanned backwards is the state's gradient alone, and each
            weight's gradient is one product over all steps; it serves the formula without variants and with
            the default activations (`rnn`: tanh, ReLU and sigmoid; `gru`: both kinds of reset), and raises for
            others. `"auto"` is `"fused"` on CPU where that serves, else `"scan"`.

    Returns:
        The outputs `(*batch, time, output)` and the final state: after each sequence's last step.

    Raises:
        ValueError: shapes, dtypes or concrete lengths do not fit, or the algorithm does not serve.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn.functional.recurrent import init_lstm, lstm
        >>> params = init_lstm(jax.random.key(0), features=3, hidden=5)
        >>> y, state = lstm(params, jnp.ones((2, 7, 3)), lengths=jnp.array([7, 4]))
        >>> y.shape, state.h.shape, state.c.shape
        ((2, 7, 5), (2, 5), (2, 5))
        >>> bool((y[1, 4:] == 0).all()), bool((y[1, 3] == state.h[1]).all())
        (True, True)
    """
    step = Bound(lstm_step, activation=activation, gate_activation=gate_activation)
    check.params(params, LSTMParams)
    return _run("lstm", algorithm, step, params, state, x, lengths, reverse, resets, time_major, remat, truncate)


def _run(
    layer: str,
    algorithm: str,
    step: Bound,
    params: Params,
    state: StateT | None,
    x: jax.Array,
    lengths: jax.typing.ArrayLike | None,
    reverse: bool,
    resets: jax.typing.ArrayLike | None,
    time_major: bool,
    remat: int | None,
    truncate: int | None,
) -> tuple[jax.Array, StateT]:
    """Checks what was given, fills in what was not, and hands over to the algorithm."""
    axes = "(time, *batch, features)" if time_major else "(*batch, time, features)"
    x = jnp.asarray(x)
    check.inputs(params, x, axes)
    time, batch = (x.shape[0], x.shape[1:-1]) if time_major else (x.shape[-2], x.shape[:-2])
    zeros = params.zero_state(batch, x.dtype)
    # Inside `shard_map` zeros must be told that they differ over the devices as the inputs do.
    start = jax.tree.map(partial(varying_as, x), zeros) if state is None else state
    check.state(params, start, batch, x.dtype)
    check.count("remat", remat)
    check.count("truncate", truncate)
    batch_like = partial(like_batch, x, time_major=time_major)
    lengths = None if lengths is None else batch_like(check.lengths(lengths, batch, time))
    resets = None if resets is None else check.resets(resets, x.shape[:-1], axes.replace(", features", ""))
    options = Options(reverse=bool(reverse), time_major=time_major, remat=remat, truncate=truncate)
    compute = partial(_compute, algorithms.choose(layer, algorithm), step, options)
    arrays = (params, batch_like(start), x, lengths, resets)
    # Where even zeros are traced, a person's program is being made, and this is a part of it. A gradient or a `vmap` in
    # an eager call traces its own arguments only.
    if isinstance(zeros.h, jax.core.Tracer):
        return compute(*arrays)
    if all(lasting(option) for option in step.keywords.values() if callable(option)):
        return _compiled(*compute.args, *arrays)
    return once(compute, *arrays)


def _compute(
    algorithm: algorithms.Algorithm,
    step: Bound,
    options: Options,
    params: Params,
    state: Any,
    x: jax.Array,
    lengths: jax.Array | None,
    resets: jax.Array | None,
) -> Any:
    with mesh_of(x):
        return algorithm(step, params, state, x, options._replace(lengths=lengths, resets=resets))


_compiled = jax.jit(_compute, static_argnums=(0, 1, 2))
