"""The one driver: scans any step over time, with lengths, resets, direction, truncation and remat.

Every option is a mask around the step, so the step itself stays its formula, and both directions and every
layer follow the same rules.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.functional.recurrent.params import Params, StateT
from jaxnn.kernels.accumulate import widened

Step = Callable[[Params, StateT, jax.Array], StateT]


class Options(NamedTuple):
    """How a sequence is run; `jaxnn.functional.lstm` says what each means. Checked, so to be trusted."""

    lengths: jax.Array | None = None
    reverse: bool = False
    resets: jax.Array | None = None
    time_major: bool = False
    remat: int | None = None
    truncate: int | None = None


def scan(step: Step[StateT], params: Params, state: StateT, x: jax.Array, options: Options) -> tuple[jax.Array, StateT]:
    """Runs `step` over the time axis of `x`.

    Args:
        step: `(params, state, x) -> state` with `x` of one step, `(*batch, features)`.
        params: the step's parameters.
        state: the initial state.
        x: `(*batch, time, features)`, or `(time, *batch, features)` where `options.time_major`.
        options: how the sequence is run.

    Returns:
        The outputs, laid out as `x`, and the final state.
    """
    lengths, reverse, resets, time_major, remat, truncate = options
    # Going back, a scan adds up what each step gives the parameters, in the dtype in which they enter it.
    wide = jax.tree.map(widened, params)
    xs = x if time_major else jnp.moveaxis(x, -2, 0)
    time = xs.shape[0]
    # Cut number k lies between the steps k - 1 and k. Going forward it comes before step k, going back before
    # step k - 1; the ends (0 going back, T) lie outside what is scanned in that direction.
    cuts = jnp.arange(time, dtype=jnp.int32) + jnp.int32(reverse)
    if resets is not None:
        resets = resets if time_major else jnp.moveaxis(resets, -1, 0)
        if reverse:
            resets = jnp.concatenate([resets[1:], jnp.zeros_like(resets[:1])])

    def body(state: StateT, inputs: tuple[jax.Array, jax.Array, jax.Array | None]) -> tuple[StateT, jax.Array]:
        x, cut, reset = inputs
        own = jax.tree.map(lambda a, like: a.astype(like.dtype), wide, params)
        if truncate is not None:
            apart = (cut % truncate == 0) & (cut > 0) & (cut < time)
            state = _where(jnp.broadcast_to(apart, x.shape[:-1]), jax.lax.stop_gradient(state), state)
        if reset is not None:
            reset = reset if lengths is None else reset & (cut < lengths)
            state = _where(reset, jax.tree.map(jnp.zeros_like, state), state)
        if lengths is None:
            new = step(own, state, x)
            return new, new.h
        inside = cut - jnp.int32(reverse) < lengths
        # What stands in the padding, NaN included, must reach neither values nor gradients.
        new = step(own, state, _where(inside, x, jnp.zeros_like(x)))
        return _where(inside, new, state), _where(inside, new.h, jnp.zeros_like(new.h))

    final, ys = blocks(partial(jax.lax.scan, body, reverse=reverse), state, (xs, cuts, resets), reverse, remat)
    return ys if time_major else jnp.moveaxis(ys, 0, -2), final


def blocks(run, state, xs, reverse, remat):  # type: ignore[no-untyped-def]
    """Does `run(state, xs) -> (state, ys)` in blocks of `remat` steps, or in one go.

    For the backward pass only the state at the start of each block is kept; the rest is computed again.
    """
    time = jax.tree.leaves(xs)[0].shape[0]
    if remat is None or time == 0:
        return run(state, xs)
    whole = time - time % remat
    blocks = jax.tree.map(lambda a: a[:whole].reshape(whole // remat, remat, *a.shape[1:]), xs)
    rest = jax.tree.map(lambda a: a[whole:], xs)
    inner = jax.checkpoint(run, prevent_cse=False)  # inside a scan nothing can be shared anyway

    def run_blocks(state):  # type: ignore[no-untyped-def]
        state, ys = jax.lax.scan(inner, state, blocks, reverse=reverse)
        return state, jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), ys)

    if whole == time:
        return run_blocks(state)
    if reverse:
        state, late = run(state, rest)
        state, early = run_blocks(state)
    else:
        state, early = run_blocks(state)
        state, late = run(state, rest)
    return state, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), early, late)


def _where(mask, new, old):  # type: ignore[no-untyped-def]
    """Chooses between two trees of `(*batch, features)` arrays by a mask of shape `(*batch)`."""
    return jax.tree.map(lambda a, b: jnp.where(mask[..., None], a, b), new, old)
