"""Runs any cell over time: checks the arguments, fills in defaults, and calls an algorithm."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypedDict

import jax
import jax.numpy as jnp

from jaxnn.functional.programs import lasting, once
from jaxnn.functional.recurrent import algorithms, check
from jaxnn.functional.recurrent.cell import Cell, NotServedError
from jaxnn.functional.recurrent.newton import Newton
from jaxnn.functional.recurrent.task import Options, Task, masks_of
from jaxnn.functional.sharding import like_batch, mesh_of
from jaxnn.kernels.accumulate import widened
from jaxnn.kernels.platform import varying_alike


class RunOptions(TypedDict, total=False):
    """Options of a run; `recurrent` documents them."""

    lengths: jax.typing.ArrayLike | None
    mask: jax.typing.ArrayLike | None
    reverse: bool
    resets: jax.typing.ArrayLike | None
    time_major: bool
    remat: int | None
    truncate: int | None
    algorithm: str | Newton


def recurrent(
    cell: Cell,
    params: Any,
    x: jax.typing.ArrayLike,
    state: Any = None,
    *,
    lengths: jax.typing.ArrayLike | None = None,
    mask: jax.typing.ArrayLike | None = None,
    reverse: bool = False,
    resets: jax.typing.ArrayLike | None = None,
    time_major: bool = False,
    remat: int | None = None,
    truncate: int | None = None,
    algorithm: str | Newton = "auto",
) -> tuple[Any, Any]:
    """Runs a recurrent cell over every time step.

    Accepts any number of batch axes, including none. `algorithm` chooses how the steps are computed. All algorithms
    agree up to rounding; each raises an error for cells and options that it does not support:

    - `"scan"`: a loop over the steps (`jax.lax.scan`), for every cell; the reference.
    - `"fused"`: the same loop with a derivative that is faster on CPU: the backward scan computes the state's gradient
      alone, and each weight's gradient is one product over all steps. For cells with a `fused` form (`rnn`, `gru` and
      `lstm` without variants).
    - `"associative"`: all states at once by a parallel prefix scan, in O(log time) sequential steps. Fast on GPUs, many
      times slower than a loop on a CPU. For cells with an `affine` form (`lru`, `mingru`, `minlstm`), without `remat`.
    - `"newton"`: all states at once by Newton's method, for cells that declare their `jacobian`; `"quasi-newton"` uses
      the diagonal of the Jacobian, for any cell. `Newton` says when this is faster.
    - `"cudnn"`: the LSTM of NVIDIA's library (`jax.experimental.rnn`), on NVIDIA GPUs in float32, with `lengths`,
      `mask`, `reverse` and `remat`. Products are rounded to TF32 unless `jax.default_matmul_precision` is `"highest"`.
      Each direction of each layer is one call, which waits until its lengths are on the host. If XLA partitions the
      program over devices, each device computes the whole batch; inside `jax.shard_map` each computes its part. Forward
      mode, second derivatives, `vmap` over weights and gradients inside `vmap` use the code of `"fused"`.
    - `"persistent"`: all steps in one GPU kernel that keeps the recurrent weights on the chip: `lstm` of at most 384
      units and `gru` of at most 512, in bfloat16 or float16 on an H100 or H200, with reverse-mode derivatives, without
      `resets` and `truncate`.
    - `"auto"`, the default: `"fused"` if it supports the cell, otherwise `"scan"`. Programs for NVIDIA GPUs prefer
      `"associative"` to both, except with `remat`.

    Args:
        cell: The cell: `lstm_cell()`, `gru_cell()`, `rnn_cell()` or another; see `Cell`.
        params: The cell's parameters.
        x: `(*batch, time, *features)`; `(*batch, time, features)` unless the cell has other `feature_axes`.
        state: The initial state; the cell's `zero_state` by default. To process a sequence in chunks, pass the final
            state of each chunk as the initial state of the next: the results are those of the whole sequence. So are
            those of a loop of `recurrent_step`, up to rounding: `"scan"` gives the same bits, except where XLA turns a
            product over a single feature, row or column into a loop; `"fused"` sums the products of inputs and state as
            one.
        lengths: Number of steps of each sequence that count, integers `(*batch,)`. Past its length the outputs of a
            sequence are zero, its state does not change, and `x` has no effect, not even NaN. Length 0 returns the
            initial state. Concrete lengths outside 0..time raise an error; traced ones act as if clipped to that range.
        mask: Bool `(*batch, time)`: which steps count, anywhere in the sequence. A step that does not count keeps the
            state, outputs zero, and ignores its input. With `lengths`, a step counts if both include it.
        reverse: Whether to run from the last step (within its length) to the first. Outputs keep the positions of their
            inputs: `y[t]` depends on `x[t]` and later steps. The final state is that after step 0.
        resets: Bool `(*batch, time)`: true where a new sequence starts, for documents packed into one row, or episodes.
            Between the steps t - 1 and t the state is set to the cell's `zero_state`, even if `state` was given: before
            step t going forward, before step t - 1 going backward. Nothing passes that point in either direction,
            whether the step counts or not. Going backward, `resets[0]` comes after the last step and has no effect.
            Resets past a length have none either.
        time_major: Whether `x`, `mask`, `resets` and the outputs have time as their *first* axis,
            `(time, *batch, ...)`. The scan reads in that order, so nothing is copied.
        remat: Keep only every `remat`-th state for the backward pass and recompute the others. Memory is proportional
            to `time / remat + remat` instead of `time`, and least if `remat` is near the square root of `time`. It
            costs about one more forward pass. For 10,000 steps of an LSTM with batch 8 and 256 cells in float32, the
            compiled gradient needs 861 MiB without it (`"scan"`: 939) and 13 MiB with `remat=100`.
        truncate: Stop gradients between the steps t - 1 and t wherever t is a multiple of `truncate` (truncated
            back-propagation through time); values stay as they are.
        algorithm: The algorithm, one of the names above or a `Newton` with other settings.

    Returns:
        The outputs `(*batch, time, ...)` and the final state, that after each sequence's last step.

    Raises:
        ValueError: If shapes, dtypes or concrete lengths do not fit, the cell's step changes the state's shapes or
            dtypes, or the algorithm does not support the cell or an option.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_lstm(jax.random.key(0), features=3, hidden=5)
        >>> y, state = F.recurrent(F.lstm_cell(), params, jnp.ones((2, 7, 3)), lengths=jnp.array([7, 4]))
        >>> y.shape, state.h.shape, state.c.shape
        ((2, 7, 5), (2, 5), (2, 5))
        >>> bool((y[1, 4:] == 0).all()), bool((y[1, 3] == state.h[1]).all())
        (True, True)
    """
    params, x = check.arrays("params", params), check.array(x)
    time, batch = check.inputs(cell, params, x, time=1, time_major=time_major)
    at = 0 if time_major else len(batch)
    zeros = check.zero_state(cell, params, batch, x.dtype)
    start = zeros if state is None else check.arrays("state", state)
    check.state(start, zeros, batch, x.dtype)
    place = partial(like_batch, x, len(batch), time_major=time_major)
    steps = x.shape[: len(batch) + 1]
    arrays = (
        params,
        place(start),
        None if resets is None else place(zeros),
        x,
        None if lengths is None else place(check.lengths(lengths, batch, time)),
        None if mask is None else check.steps("mask", mask, steps, time_major),
        None if resets is None else check.steps("resets", resets, steps, time_major),
    )
    arrays = varying_alike(arrays)
    options = Options(bool(reverse), check.count("remat", remat), check.count("truncate", truncate))
    compute = partial(_compute, algorithm, cell, options, at)
    # If even zeros are traced, the caller is tracing a program that includes this call. A gradient or a `vmap` in an
    # eager call traces only its arguments.
    if isinstance(jnp.zeros(()), jax.core.Tracer):
        return compute(*arrays)
    if all(lasting(part) for part in cell if callable(part)):
        return _compiled(*compute.args, *arrays)
    return once(compute, *arrays)


def _compute(
    algorithm: str | Newton,
    cell: Cell,
    options: Options,
    at: int,
    params: Any,
    state: Any,
    restart: Any,
    x: jax.Array,
    lengths: jax.Array | None,
    mask: jax.Array | None,
    resets: jax.Array | None,
) -> Any:
    if at > 0:
        x, mask, resets = jax.tree.map(lambda a: jnp.moveaxis(a, at, 0), (x, mask, resets))
    with mesh_of(x):
        task = Task(params, state, jax.tree.map(widened, restart), x, masks_of(x, lengths, mask, resets, options))
        check.step(cell, task)
        try:
            ys, final = algorithms.choose(algorithm)(cell, task, options)
        except NotServedError as lacks:
            raise NotServedError(
                f"algorithm={algorithm!r} has {lacks}; use 'scan', or 'auto', which chooses a supported one."
            ) from None
        return jax.tree.map(lambda y: y if at == 0 else jnp.moveaxis(y, 0, at), ys), final


_compiled: Callable[..., Any] = jax.jit(_compute, static_argnums=(0, 1, 2, 3))


def recurrent_step(cell: Cell, params: Any, state: Any, x: jax.typing.ArrayLike) -> Any:
    """Runs one step of a recurrent cell, for streaming: a loop of these steps equals `recurrent`.

    Args:
        cell: The cell.
        params: The cell's parameters.
        state: The state before the step; initially `cell.zero_state(params, batch, x.dtype)`.
        x: `(*batch, *features)`.

    Returns:
        The new state; `cell.output(params, state)` is the output.

    Raises:
        ValueError: If shapes or dtypes do not fit.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> cell, params = F.gru_cell(), F.init_gru(jax.random.key(0), features=3, hidden=5)
        >>> state = cell.zero_state(params, (2,), jnp.float32)
        >>> F.recurrent_step(cell, params, state, jnp.ones((2, 3))).h.shape
        (2, 5)
    """
    params, x = check.arrays("params", params), check.array(x)
    _, batch = check.inputs(cell, params, x, time=0)
    state = check.arrays("state", state)
    check.state(state, check.zero_state(cell, params, batch, x.dtype), batch, x.dtype)
    return cell.step(params, state, x)
