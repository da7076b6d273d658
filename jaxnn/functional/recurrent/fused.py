"""The algorithm "fused": the layers' plain forms, with a derivative that is fast on CPU (`kernels.recurrence`)."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.functional.recurrent.params import GRUParams, LSTMParams, Params, RNNParams, StateT
from jaxnn.functional.recurrent.scan import Options, Step, blocks
from jaxnn.functional.sharding import sharded
from jaxnn.kernels import gru, lstm, rnn
from jaxnn.kernels.accumulate import widened
from jaxnn.kernels.recurrence import Cell, Masks, recurrence


def missing(step: "partial[Any]", params: Params) -> str | None:
    """What of this variant of a layer "fused" does not have; None where it serves."""
    activation = step.keywords["activation"]
    if isinstance(params, RNNParams):
        return None if activation in rnn.RNN else _other("activation", rnn.RNN)
    if activation is not jnp.tanh:
        return _other("activation", (jnp.tanh,))
    if step.keywords["gate_activation"] is not jax.nn.sigmoid:
        return _other("gate_activation", (jax.nn.sigmoid,))
    if isinstance(params, LSTMParams):
        held = [part for part in ("peephole", "projection", "norm") if getattr(params, part) is not None]
        if held:
            return f"no {' and no '.join(held)}"
        if params.gates == 3:
            return "no coupled gates"
    return None


def _other(name: str, served: Any) -> str:
    return f"no other {name} than {', '.join(f.__name__ for f in served)}"


def _cell(step: "partial[Any]", params: Params) -> tuple[Cell, Any]:
    """The kernel's cell, and its weights."""
    if isinstance(params, LSTMParams):
        return lstm.LSTM, lstm.LSTMWeights(params.w_x, params.w_h, params.b)
    if isinstance(params, GRUParams):
        after = step.keywords["reset_after"]
        return gru.RESET_AFTER if after else gru.RESET_BEFORE, gru.GRUWeights(*params)
    return rnn.RNN[step.keywords["activation"]], rnn.RNNWeights(*params)


def fused(
    step: Step[StateT], params: Params, state: StateT, x: jax.Array, options: Options
) -> tuple[jax.Array, StateT]:
    """As `scan.scan`, for the variants of which nothing is `missing`; raises `ValueError` for others."""
    lacks = missing(step, params)  # type: ignore[arg-type]
    if lacks is None and sharded((params, state, x)):
        lacks = "no way over the devices of an explicit mesh"
    if lacks is not None:
        raise ValueError(f"algorithm='fused' has {lacks}; use 'scan', or 'auto', which chooses what serves")
    # As in `scan.scan`: over blocks of steps the gradients of the weights are added up in float32.
    wide = jax.tree.map(widened, params)
    reverse = options.reverse
    xs = x if options.time_major else jnp.moveaxis(x, -2, 0)

    def run(carry: Any, inputs: tuple[jax.Array, Masks]) -> tuple[Any, jax.Array]:
        own = jax.tree.map(lambda a, like: a.astype(like.dtype), wide, params)
        cell, weights = _cell(step, own)  # type: ignore[arg-type]
        ys, carry = recurrence(cell, reverse, weights, carry, *inputs)
        return carry, ys

    final, ys = blocks(run, tuple(state), (xs, _masks(options, xs.shape[:-1])), reverse, options.remat)
    return ys if options.time_major else jnp.moveaxis(ys, 0, -2), type(state)(*final)


def _masks(options: Options, shape: tuple[int, ...]) -> Masks:
    """The options as masks `(time, *batch)`; cuts are numbered as in `scan.scan`."""
    lengths, reverse, resets, time_major, _, truncate = options
    time = shape[0]
    cuts = jnp.arange(time, dtype=jnp.int32) + jnp.int32(reverse)
    spread = jax.lax.broadcast_in_dim(cuts, shape, (0,))
    inside = None if lengths is None else spread - jnp.int32(reverse) < jnp.broadcast_to(lengths[None], shape)
    if resets is not None:
        resets = resets if time_major else jnp.moveaxis(resets, -1, 0)
        if reverse:
            resets = jnp.concatenate([resets[1:], jnp.zeros_like(resets[:1])])
        resets = resets if lengths is None else resets & (spread < jnp.broadcast_to(lengths[None], shape))
    apart = None if truncate is None else (cuts % truncate == 0) & (cuts > 0) & (cuts < time)
    return Masks(inside, resets, apart)
