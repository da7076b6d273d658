"""The input of an algorithm: the arrays of a run, time first, and the options that are known while tracing."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.kernels.masks import Masks


class Task(NamedTuple):
    """The arrays of a run: checked, and with time as their first axis.

    Attributes:
        params: The cell's parameters.
        state: The initial state.
        restart: The cell's `zero_state`, `widened`, to which `masks.reset` sets the state back; None without resets.
        xs: `(time, *batch, *features)`.
        masks: Which steps count, reset the state or stop derivatives.
    """

    params: Any
    state: Any
    restart: Any
    xs: jax.Array
    masks: Masks


class Options(NamedTuple):
    """Options of a run; `recurrent` documents them."""

    reverse: bool = False
    remat: int | None = None
    truncate: int | None = None


def masks_of(
    xs: jax.Array, lengths: jax.Array | None, mask: jax.Array | None, resets: jax.Array | None, options: Options
) -> Masks:
    """Converts the options of a call to masks.

    Args:
        xs: `(time, *batch, *features)`.
        lengths: `(*batch)`.
        mask: `(time, *batch)`: steps that count.
        resets: `(time, *batch)`.
        options: How the sequence is run.
    """
    time, reverse, truncate = xs.shape[0], options.reverse, options.truncate
    # Cut number k is between the steps k - 1 and k: before step k going forward, before step k - 1 going backward. The
    # ends (T, and 0 going backward) are outside of the scan.
    cuts = jnp.arange(time, dtype=jnp.int32) + jnp.int32(reverse)
    inside = mask
    if resets is not None and reverse:
        resets = jnp.concatenate([resets[1:], jnp.zeros_like(resets[:1])])
    if lengths is not None:
        within = jax.vmap(lambda cut: cut - jnp.int32(reverse) < lengths)(cuts)
        inside = within if mask is None else within & mask
        if resets is not None:
            resets = resets & jax.vmap(lambda cut: cut < lengths)(cuts)
    detached = None if truncate is None else (cuts % truncate == 0) & (cuts > 0) & (cuts < time)
    return Masks(inside, resets, detached)
