"""Generating sequences token by token: greedy, by sampling, by beam search, each as one compiled loop.

All take a `step`: `(state, token) -> (logits, state)` with a token `(*batch,)` and logits `(*batch, vocabulary)`. What
does not change from step to step (parameters, an encoder's outputs) the step holds by closure.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import export

from jaxnn.functional import arguments
from jaxnn.functional.arguments import integer, number
from jaxnn.functional.compensated import Total, plus
from jaxnn.functional.filtering import filter_logits
from jaxnn.functional.programs import once
from jaxnn.functional.sharding import like_leading

Step = Callable[[Any, jax.Array], tuple[jax.Array, Any]]


class Generated(NamedTuple):
    """Generated sequences.

    Attributes:
        tokens: int32 `(*batch, max_length)`, or `(*batch, beams, max_length)` by beam search, best first. From a
            sequence's end on, the end token.
        lengths: int32, how many tokens stand before the end token; `max_length` where none came.
        log_probs: float32, the log-probability of tokens and end token under the model's own distribution, before
            temperature and filters; natural logarithm.
    """

    tokens: jax.Array
    lengths: jax.Array
    log_probs: jax.Array


export.register_namedtuple_serialization(Generated, serialized_name="jaxnn.Generated")


def greedy(step: Step, state: Any, start: jax.Array, *, max_length: int, end: int | None = None) -> Generated:
    """Takes the most probable token at every step.

    Args:
        step: `(state, token) -> (logits, state)`.
        state: the state before the first step.
        start: integers `(*batch,)`, the token that the first step sees; not part of what is returned.
        max_length: How many tokens at most; known while tracing.
        end: The token after which a sequence stops; the loop stops when all have. Known while tracing.

    Returns:
        Tokens, lengths and log-probabilities.

    Raises:
        ValueError: If `start` is not of integers, `max_length` not an integer of at least 1, or `end` not a token of
            the vocabulary.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn.functional.decoding import greedy
        >>> def count_up(state, token):
        ...     return 9.0 * jax.nn.one_hot(token + 1, 5), state
        >>> made = greedy(count_up, (), jnp.array([0, 2]), max_length=5, end=4)
        >>> made.tokens.tolist(), made.lengths.tolist()
        ([[1, 2, 3, 4, 4], [3, 4, 4, 4, 4]], [3, 1])
    """
    return _generate(step, state, start, lambda logits, key: jnp.argmax(logits, axis=-1), None, max_length, end)


def sample(
    step: Step,
    state: Any,
    start: jax.Array,
    key: jax.Array,
    *,
    max_length: int,
    end: int | None = None,
    temperature: float | jax.Array = 1.0,
    top_k: int | None = None,
    top_p: float | jax.Array | None = None,
) -> Generated:
    """Draws every token at random from the model's distribution, as `filter_logits` shapes it.

    Args:
        step: `(state, token) -> (logits, state)`.
        state: the state before the first step.
        start: integers `(*batch,)`, the token that the first step sees; not part of what is returned.
        key: a random key.
        max_length: How many tokens at most; known while tracing.
        end: The token after which a sequence stops; the loop stops when all have. Known while tracing.
        temperature: as in `filter_logits`.
        top_k: as in `filter_logits`.
        top_p: as in `filter_logits`.

    Returns:
        Tokens, lengths and log-probabilities, which are NaN where a traced temperature or `top_p` is out of range.

    Raises:
        ValueError: As `greedy` and `filter_logits`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn.functional.decoding import sample
        >>> coin = lambda state, token: (jnp.zeros((*token.shape, 2)), state)
        >>> sample(coin, (), jnp.zeros(3, int), jax.random.key(0), max_length=6).tokens.shape
        (3, 6)
    """

    def shaped(logits: jax.Array) -> jax.Array:
        return filter_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p)

    def choose(logits: jax.Array, key: jax.Array) -> jax.Array:
        return jax.random.categorical(key, shaped(logits), axis=-1)

    # Among logits that are NaN `categorical` draws a token all the same.
    sound = jnp.all(jnp.isfinite(shaped(jnp.zeros(1))))
    made = _generate(step, state, start, choose, key, max_length, end)
    return made._replace(log_probs=jnp.where(sound, made.log_probs, jnp.nan))


def _generate(step, state, start, choose, key, max_length, end):  # type: ignore[no-untyped-def]
    start, max_length, end = _check(step, state, start, max_length, end)
    fill = 0 if end is None else end
    tokens = jnp.full((*start.shape, max_length), fill, jnp.int32)
    zeros = jnp.zeros(start.shape, jnp.int32)
    keys = None if key is None else jax.random.split(key, max_length)

    def going(carry):  # type: ignore[no-untyped-def]
        t, _, _, _, _, _, done = carry
        return (t < max_length) & ~jnp.all(done)

    def body(carry):  # type: ignore[no-untyped-def]
        t, state, token, tokens, lengths, total, done = carry
        logits, state = step(state, token)
        logits = logits.astype(jnp.float32)
        token = choose(logits, None if keys is None else keys[t]).astype(jnp.int32)
        token = jnp.where(done, jnp.int32(fill), token)
        of_token = jnp.take_along_axis(jax.nn.log_softmax(logits), token[..., None], axis=-1)[..., 0]
        total = plus(total, jnp.where(done, 0.0, of_token))
        if end is not None:
            done = done | (token == end)
        lengths = jnp.where(done, lengths, lengths + 1)
        return t + 1, state, token, tokens.at[..., t].set(token), lengths, total, done

    nothing = Total(zeros.astype(jnp.float32), zeros.astype(jnp.float32))
    carry = (jnp.int32(0), state, start, tokens, zeros, nothing, zeros.astype(bool))
    _, _, _, tokens, lengths, total, _ = _loop(going, body, start, carry)
    return Generated(tokens, lengths, total.high)


def _loop(going, body, start, carry):  # type: ignore[no-untyped-def]
    """The loop from `carry`, whose arrays other than the step count have the batch axes of `start` first."""

    def run(start, t, *arrays):  # type: ignore[no-untyped-def]
        return jax.lax.while_loop(going, body, (t, *like_leading(start, arrays)))

    return once(run, start, *carry)


def beam_search(
    step: Step,
    state: Any,
    start: jax.Array,
    *,
    beams: int,
    max_length: int,
    end: int | None = None,
    length_penalty: float | jax.Array = 0.0,
) -> Generated:
    r"""Keeps the `beams` best beginnings at every step.

    Sequences are ranked by

    $$\frac{\log p(y)}{\left((5 + |y|) / 6\right)^\alpha}$$

    with $|y|$ their number of tokens, the end token included, and $\alpha$ the length penalty. An ended sequence keeps
    its place until better ones push it out. With as many beams as there are sequences the search is exhaustive; with
    one beam it is `greedy`. Of equal continuations the first wins.

    Args:
        step: `(state, token) -> (logits, state)`; it is mapped over the beams, so it sees the same shapes as in
            `greedy` and what it holds by closure needs no axis for the beams.
        state: the state before the first step; every leaf has the batch axes of `start` first.
        start: integers `(*batch,)`, the token that the first step sees; not part of what is returned.
        beams: How many sequences are kept; known while tracing.
        max_length: How many tokens at most; known while tracing.
        end: The token after which a sequence stops; the loop stops when all have. Known while tracing.
        length_penalty: $\alpha$; 0 ranks by probability alone, more favours longer sequences. May be traced; a traced
            one that is not finite makes the log-probabilities NaN.

    Returns:
        Tokens `(*batch, beams, max_length)`, lengths and log-probabilities `(*batch, beams)`, best first. Where
        fewer sequences exist than beams, the rest have a log-probability of minus infinity.

    Raises:
        ValueError: As `greedy`; if `beams` is not an integer of at least 1, `length_penalty` not a finite number, or a
            leaf of `state` without the batch axes.

    References:
        Wu et al.: Google's neural machine translation system, 2016 (the length penalty).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn.functional.decoding import beam_search
        >>> logits = jnp.log(jnp.array([[0.6, 0.4, 0.0], [0.1, 0.0, 0.9], [0.0, 0.0, 1.0]]))
        >>> made = beam_search(lambda s, t: (logits[t], s), (), jnp.array(0), beams=2, max_length=2, end=2)
        >>> made.tokens[0].tolist(), round(float(jnp.exp(made.log_probs[0])), 2)
        ([0, 0], 0.36)
        >>> made.tokens[1].tolist(), made.lengths.tolist()
        ([1, 2], [2, 1])
    """
    start, max_length, end = _check(step, state, start, max_length, end)
    beams = integer("beams", beams, 1)
    alpha = number(
        "length_penalty", length_penalty, "a finite number", lambda _: True, "0.0 ranks by probability alone"
    )
    batch, at = start.shape, start.ndim
    for path, leaf in jax.tree.leaves_with_path(state):
        if leaf.shape[:at] != batch:
            raise ValueError(
                f"state{jax.tree_util.keystr(path)} must have the batch axes of start, {batch}, first, "
                f"got shape {leaf.shape}"
            )
    fill = 0 if end is None else end
    tiny, huge = jnp.finfo(jnp.float32).tiny, jnp.finfo(jnp.float32).max
    over_beams = jax.vmap(step, in_axes=at, out_axes=at)

    def spread(leaf: jax.Array) -> jax.Array:
        return jnp.repeat(jnp.expand_dims(leaf, at), beams, axis=at)

    def pick(leaf: jax.Array, chosen: jax.Array) -> jax.Array:
        return jnp.take_along_axis(leaf, chosen.reshape(chosen.shape + (1,) * (leaf.ndim - at - 1)), axis=at)

    def going(carry):  # type: ignore[no-untyped-def]
        t, *_, done = carry
        return (t < max_length) & ~jnp.all(done)

    def body(carry):  # type: ignore[no-untyped-def]
        t, state, token, tokens, lengths, total, done = carry
        logits, state = over_beams(state, token)
        logits = logits.astype(jnp.float32)
        size = logits.shape[-1]
        # A step adds `gains - cost`: logits below the best one, and the logarithm of what they sum to, one for a beam.
        gains = logits - jnp.max(logits, axis=-1, keepdims=True)
        cost = jnp.log(jnp.sum(jnp.exp(gains), axis=-1))
        # An ended sequence has one continuation, at no cost: the end token again. An impossible one stays impossible.
        settled = done | jnp.isneginf(total.high)
        idle = jnp.where(jax.lax.broadcasted_iota(jnp.int32, gains.shape, at + 1) == fill, 0.0, -jnp.inf)
        gains = jnp.where(settled[..., None], idle, gains)
        total = plus(total, jnp.where(settled, 0.0, -cost))
        # Totals of long sequences differ by less than their own rounding, so they are ranked by what lies between each
        # and the total of the best beam: for one beam that is `gains`, the order of the logits.
        best = jnp.argmax(total.high, axis=-1, keepdims=True)
        high, low = (jnp.take_along_axis(part, best, axis=-1) for part in total)
        high = jnp.where(jnp.isfinite(high), high, 0.0)
        lead = ((total.high - high) + (total.low - low))[..., None] + gains
        # (high + lead) * share - high, with the penalty of an ended sequence as a share of that of the others.
        share = (jnp.float32(6 + t) / (6 + lengths).astype(jnp.float32)) ** alpha
        share = jnp.where(done, jnp.clip(share, tiny, huge), 1.0)
        rank = (high * (share - 1))[..., None] + lead * share[..., None]
        _, chosen = jax.lax.top_k(rank.reshape(*batch, beams * size), beams)
        parent, token = chosen // size, (chosen % size).astype(jnp.int32)
        gain = jnp.take_along_axis(gains.reshape(*batch, beams * size), chosen, axis=-1)
        state = jax.tree.map(lambda leaf: pick(leaf, parent), state)
        tokens, lengths, total, done = jax.tree.map(lambda a: pick(a, parent), (tokens, lengths, total, done))
        if end is not None:
            done = done | (token == end)
        lengths = jnp.where(done, lengths, lengths + 1)
        return t + 1, state, token, tokens.at[..., t].set(token), lengths, plus(total, gain), done

    zeros = jnp.zeros((*batch, beams), jnp.int32)
    # At first all beams are the same sequence: only one of them may be continued.
    alone = jnp.where(jax.lax.broadcasted_iota(jnp.int32, zeros.shape, at) == 0, 0.0, -jnp.inf)
    total = Total(alone, jnp.zeros_like(alone))
    tokens = jnp.full((*batch, beams, max_length), fill, jnp.int32)
    carry = (jnp.int32(0), jax.tree.map(spread, state), spread(start), tokens, zeros, total, zeros.astype(bool))
    _, _, _, tokens, lengths, total, _ = _loop(going, body, start, carry)
    return Generated(tokens, lengths, jnp.where(jnp.isfinite(alpha), total.high, jnp.nan))


def _check(
    step: Step, state: Any, start: jax.Array, max_length: int, end: int | None
) -> tuple[jax.Array, int, int | None]:
    start = jnp.asarray(start)
    if not jnp.issubdtype(start.dtype, jnp.integer):
        raise ValueError(f"start must hold integers (tokens), got {start.dtype}")
    max_length = integer("max_length", max_length, 1)
    start = start.astype(jnp.int32)
    logits, _ = jax.eval_shape(step, state, start)
    if logits.shape[:-1] != start.shape:
        raise ValueError(f"step must return logits of shape {(*start.shape, 'vocabulary')}, got {logits.shape}")
    arguments.real("logits", logits)
    if not logits.shape[-1]:
        raise ValueError(f"step: expected logits of at least one token, got shape {logits.shape}; widen the vocabulary")
    if end is not None:
        end = integer("end", end, 0)
        if end >= logits.shape[-1]:
            raise ValueError(f"end: expected a token of the vocabulary, 0..{logits.shape[-1] - 1}, got {end}")
    return start, max_length, end
