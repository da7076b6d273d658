"""The algorithm "fused": the layers' plain forms, with a derivative that is fast on CPU (`jaxnn.kernels.recurrence`)."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.functional.recurrent.params import LSTMParams, Params, StateT
from jaxnn.functional.recurrent.scan import Options, Step, blocks
from jaxnn.kernels import lstm
from jaxnn.kernels.recurrence import Cell, Masks, recurrence


def cell(step: "partial[Any]", params: Params) -> tuple[Cell, Any]:
    """The kernel's cell and its weights; raises `ValueError` where there is none for this variant."""
    options = step.keywords
    if isinstance(params, LSTMParams):
        _only(options, activation=jnp.tanh, gate_activation=jax.nn.sigmoid)
        for part in ("peephole", "projection", "norm"):
            if getattr(params, part) is not None:
                raise ValueError(f"algorithm='fused' has no {part}; use 'scan', or 'auto', which knows")
        if params.gates == 3:
            raise ValueError("algorithm='fused' has no coupled gates; use 'scan', or 'auto', which knows")
        return lstm.LSTM, lstm.LSTMWeights(params.w_x, params.w_h, params.b)
    raise ValueError("algorithm='fused' does not know this layer")


def _only(options: dict[str, Any], **served: Any) -> None:
    for name, value in served.items():
        if options[name] is not value:
            raise ValueError(
                f"algorithm='fused' knows no other {name} than {value.__name__}; use 'scan', or 'auto', which knows"
            )


def fused(
    step: Step[StateT], params: Params, state: StateT, x: jax.Array, options: Options
) -> tuple[jax.Array, StateT]:
    """As `scan.scan`."""
    kernel, weights = cell(step, params)  # type: ignore[arg-type]
    reverse = options.reverse
    xs = x if options.time_major else jnp.moveaxis(x, -2, 0)

    def run(carry: Any, inputs: tuple[jax.Array, Masks]) -> tuple[Any, jax.Array]:
        ys, carry = recurrence(kernel, reverse, weights, carry, *inputs)
        return carry, ys

    final, ys = blocks(run, tuple(state), (xs, _masks(options, xs.shape[:-1])), reverse, options.remat)
    return ys if options.time_major else jnp.moveaxis(ys, 0, -2), type(state)(*final)


def _masks(options: Options, shape: tuple[int, ...]) -> Masks:
    """The options as masks `(time, *batch)`; cuts are numbered as in `scan.scan`."""
    lengths, reverse, resets, time_major, _, truncate = options
    time, batch = shape[0], shape[1:]
    cuts = jnp.arange(time, dtype=jnp.int32) + jnp.int32(reverse)
    spread = jax.lax.broadcast_in_dim(cuts, shape, (0,))
    inside = None if lengths is None else spread - jnp.int32(reverse) < jnp.broadcast_to(lengths[None], shape)
    if resets is not None:
        resets = resets if time_major else jnp.moveaxis(resets, -1, 0)
        if reverse:
            resets = jnp.concatenate([resets[1:], jnp.zeros((1, *batch), bool)])
        resets = resets if lengths is None else resets & (spread < jnp.broadcast_to(lengths[None], shape))
    apart = None if truncate is None else (cuts % truncate == 0) & (cuts > 0) & (cuts < time)
    return Masks(inside, resets, apart)
