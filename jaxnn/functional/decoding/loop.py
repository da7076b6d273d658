"""The shared parts of greedy search, sampling and beam search: arguments, result and compiled loop."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.functional.arguments import array, integer, real
from jaxnn.functional.compensated import Total
from jaxnn.functional.exportable import exportable
from jaxnn.functional.programs import once
from jaxnn.functional.sharding import like_leading
from jaxnn.kernels.platform import varying_as
from jaxnn.shapes import text

Step = Callable[[Any, jax.Array], tuple[jax.Array, Any]]
"""`(state, token) -> (logits, state)` with a token `(*batch,)` and logits `(*batch, vocabulary)`."""


@exportable
class Generated(NamedTuple):
    """Generated sequences.

    Attributes:
        tokens: Int32 `(*batch, max_length)`, or `(*batch, beams, max_length)` by beam search, best first. The end token
            fills the rest of a sequence.
        lengths: Int32, the number of tokens before the end token; `max_length` without one.
        log_probs: Float32, the log-probability of tokens and end token under the model's own distribution, before
            temperature and filters; natural logarithm.
    """

    tokens: jax.Array
    lengths: jax.Array
    log_probs: jax.Array


def checked(
    step: Step, state: Any, start: jax.typing.ArrayLike, max_length: int, end: int | None
) -> tuple[jax.Array, int, int | None]:
    """Returns the first tokens as int32, the largest length and the end token; raises if they do not fit the step."""
    start = array("start", start)
    if not jnp.issubdtype(start.dtype, jnp.integer):
        raise ValueError(f"start: expected integers (tokens), got {start.dtype}")
    max_length = integer("max_length", max_length, 1)
    start = start.astype(jnp.int32)
    state, made = jax.eval_shape(lambda state, token: (state, step(state, token)), state, start)
    if type(made) is not tuple or len(made) != 2 or not isinstance(made[0], jax.ShapeDtypeStruct):
        raise ValueError(f"step: expected it to return (logits, state), got {text(made)}; logits come first.")
    logits, new = made
    if _kinds(new) != _kinds(state):
        raise ValueError(
            f"step: expected it to return a state like the one that it takes, {text(state)}, got {text(new)}; return "
            "the same types, shapes and dtypes."
        )
    if logits.shape[:-1] != start.shape:
        raise ValueError(f"step: expected logits of shape {(*start.shape, 'vocabulary')}, got {logits.shape}")
    real("logits", logits)
    if not logits.shape[-1]:
        raise ValueError(
            f"step: expected logits of at least one token, got shape {logits.shape}; widen the vocabulary."
        )
    if end is not None:
        end = integer("end", end, 0)
        if end >= logits.shape[-1]:
            raise ValueError(f"end: expected a token of the vocabulary, 0..{logits.shape[-1] - 1}, got {end}")
    # Inside `shard_map` the parameters that a step has closed over may vary over more axes than its arguments.
    for leaf in jax.tree.leaves((logits, state, new)):
        start = varying_as(leaf, start)
    return start, max_length, end


def _kinds(tree: Any) -> Any:
    """Structure, shapes and dtypes: a loop changes none of them."""
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


class SoFar(NamedTuple):
    """The sequences while they are written: as in `Generated`, with compensated sums, and which have ended."""

    tokens: jax.Array
    lengths: jax.Array
    total: Total
    done: jax.Array


def run(
    extend: Any, start: jax.Array, state: Any, token: jax.Array, total: Total, max_length: int, end: Any
) -> Generated:
    """Writes sequences until all have ended or have the largest length; all arrays have the axes of `start` first.

    `extend(t, state, token, so_far) -> (state, token, so_far)` chooses the next tokens, which the loop writes.
    """
    zeros = jnp.zeros(token.shape, jnp.int32)
    empty = SoFar(jnp.full((*token.shape, max_length), end or 0, jnp.int32), zeros, total, zeros.astype(bool))

    def going(carry: Any) -> jax.Array:
        t, _, _, so_far = carry
        return (t < max_length) & ~jnp.all(so_far.done)

    def body(carry: Any) -> Any:
        t, *before = carry
        state, token, (tokens, lengths, total, done) = extend(t, *before)
        if end is not None:
            done = done | (token == end)
        lengths = jnp.where(done, lengths, lengths + 1)
        return t + 1, state, token, SoFar(tokens.at[..., t].set(token), lengths, total, done)

    def whole(start: jax.Array, *arrays: Any) -> Any:
        arrays = jax.tree.map(partial(varying_as, start), like_leading(start, arrays))
        return jax.lax.while_loop(going, body, (jnp.int32(0), *arrays))

    *_, made = once(whole, start, state, token, empty)
    return Generated(made.tokens, made.lengths, made.total.high)
