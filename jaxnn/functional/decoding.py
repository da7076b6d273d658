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
        max_length: how many tokens at most.
        end: the token after which a sequence stops; the loop stops when all have.

    Returns:
        Tokens, lengths and log-probabilities.

    Raises:
        ValueError: `start` is not of integers, `max_length` below 1, or `end` outside the vocabulary.

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
        max_length: how many tokens at most.
        end: the token after which a sequence stops; the loop stops when all have.
        temperature: as in `filter_logits`.
        top_k: as in `filter_logits`.
        top_p: as in `filter_logits`.

    Returns:
        Tokens, lengths and log-probabilities.

    Raises:
        ValueError: as `greedy` and `filter_logits`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn.functional.decoding import sample
        >>> coin = lambda state, token: (jnp.zeros((*token.shape, 2)), state)
        >>> sample(coin, (), jnp.zeros(3, int), jax.random.key(0), max_length=6).tokens.shape
        (3, 6)
    """

    def choose(logits: jax.Array, key: jax.Array) -> jax.Array:
        shaped = filter_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p)
        return jax.random.categorical(key, shaped, axis=-1)

    return _generate(step, state, start, choose, key, max_length, end)


def filter_logits(
    logits: jax.Array,
    *,
    temperature: float | jax.Array = 1.0,
    top_k: int | None = None,
    top_p: float | jax.Array | None = None,
) -> jax.Array:
    """Sharpens a distribution and cuts off its tail: excluded tokens get minus infinity.

    Args:
        logits: `(*batch, vocabulary)`.
        temperature: divides the logits, before the filters; below 1 sharpens. May be traced.
        top_k: keep the `top_k` most probable tokens (and those equal to the last of them).
        top_p: keep the most probable tokens whose probabilities first add up to `top_p` (nucleus sampling,
            Holtzman et al. 2020), among those that `top_k` keeps; always at least one. May be traced.

    Returns:
        Logits of the same shape, float32.

    Raises:
        ValueError: a temperature that is not positive, `top_k` below 1, `top_p` outside (0, 1].

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn.functional.decoding import filter_logits
        >>> filter_logits(jnp.log(jnp.array([0.5, 0.3, 0.2])), top_p=0.7)
        Array([-0.6931472, -1.2039728,       -inf], dtype=float32)
    """
    if isinstance(temperature, int | float) and temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}; for the most probable token use greedy")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, or None, got {top_k}")
    if isinstance(top_p, int | float) and not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], or be None, got {top_p}")
    arguments.real("logits", logits)
    if not logits.shape[-1]:
        raise ValueError(f"logits: expected at least one token, got shape {logits.shape}; widen the vocabulary")
    logits = logits.astype(jnp.float32) / jnp.asarray(temperature, jnp.float32)
    if top_k is not None and top_k < logits.shape[-1]:
        least = jax.lax.top_k(logits, top_k)[0][..., -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if top_p is not None:
        order = jnp.argsort(-logits, axis=-1)
        probs = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), order, axis=-1)
        # A token stays while those before it have not added up yet; so the first always does.
        stays = jnp.cumsum(probs, axis=-1) - probs < jnp.asarray(top_p, jnp.float32)
        stays = stays.at[..., 0].set(True)  # should rounding ever say otherwise
        logits = jnp.where(jnp.take_along_axis(stays, jnp.argsort(order, axis=-1), axis=-1), logits, -jnp.inf)
    return logits


def _generate(step, state, start, choose, key, max_length, end):  # type: ignore[no-untyped-def]
    start = _check(step, state, start, max_length, end)
    fill = 0 if end is None else end
    tokens = jnp.full((*start.shape, max_length), fill, jnp.int32)
    zeros = jnp.zeros(start.shape, jnp.int32)
    keys = None if key is None else jax.random.split(key, max_length)

    def going(carry):  # type: ignore[no-untyped-def]
        t, _, _, _, _, _, done = carry
        return (t < max_length) & ~jnp.all(done)

    def body(carry):  # type: ignore[no-untyped-def]
        t, state, token, tokens, lengths, log_probs, done = carry
        logits, state = step(state, token)
        logits = logits.astype(jnp.float32)
        token = choose(logits, None if keys is None else keys[t]).astype(jnp.int32)
        token = jnp.where(done, jnp.int32(fill), token)
        of_token = jnp.take_along_axis(jax.nn.log_softmax(logits), token[..., None], axis=-1)[..., 0]
        log_probs = jnp.where(done, log_probs, log_probs + of_token)
        if end is not None:
            done = done | (token == end)
        lengths = jnp.where(done, lengths, lengths + 1)
        return t + 1, state, token, tokens.at[..., t].set(token), lengths, log_probs, done

    carry = (jnp.int32(0), state, start, tokens, zeros, zeros.astype(jnp.float32), zeros.astype(bool))
    _, _, _, tokens, lengths, log_probs, _ = jax.lax.while_loop(going, body, carry)
    return Generated(tokens, lengths, log_probs)


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
    its place until better ones push it out. With as many beams as there are sequences the search is exhaustive.

    Args:
        step: `(state, token) -> (logits, state)`; it is mapped over the beams, so it sees the same shapes as in
            `greedy` and what it holds by closure needs no axis for the beams.
        state: the state before the first step; every leaf has the batch axes of `start` first.
        start: integers `(*batch,)`, the token that the first step sees; not part of what is returned.
        beams: how many sequences are kept.
        max_length: how many tokens at most.
        end: the token after which a sequence stops; the loop stops when all have.
        length_penalty: $\alpha$; 0 ranks by probability alone, more favours longer sequences. May be traced.

    Returns:
        Tokens `(*batch, beams, max_length)`, lengths and log-probabilities `(*batch, beams)`, best first. Where
        fewer sequences exist than beams, the rest have a log-probability of minus infinity.

    Raises:
        ValueError: as `greedy`; `beams` below 1; a leaf of `state` without the batch axes.

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
    start = _check(step, state, start, max_length, end)
    if beams < 1:
        raise ValueError(f"beams must be at least 1, got {beams}")
    batch, at = start.shape, start.ndim
    for path, leaf in jax.tree.leaves_with_path(state):
        if leaf.shape[:at] != batch:
            raise ValueError(
                f"state{jax.tree_util.keystr(path)} must have the batch axes of start, {batch}, first, "
                f"got shape {leaf.shape}"
            )
    fill = 0 if end is None else end
    over_beams = jax.vmap(step, in_axes=at, out_axes=at)

    def spread(leaf: jax.Array) -> jax.Array:
        return jnp.repeat(jnp.expand_dims(leaf, at), beams, axis=at)

    def pick(leaf: jax.Array, chosen: jax.Array) -> jax.Array:
        return jnp.take_along_axis(leaf, chosen.reshape(chosen.shape + (1,) * (leaf.ndim - at - 1)), axis=at)

    def score(log_probs: jax.Array, count: jax.Array) -> jax.Array:
        alpha = jnp.asarray(length_penalty, jnp.float32)
        return log_probs / ((5 + count.astype(jnp.float32)) / 6) ** alpha

    def going(carry):  # type: ignore[no-untyped-def]
        t, *_, done = carry
        return (t < max_length) & ~jnp.all(done)

    def body(carry):  # type: ignore[no-untyped-def]
        t, state, token, tokens, lengths, log_probs, done = carry
        logits, state = over_beams(state, token)
        steps = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
        size = steps.shape[-1]
        # An ended sequence has one way to go on, at no cost: the end token again.
        idle = jnp.where(jax.lax.broadcasted_iota(jnp.int32, steps.shape, at + 1) == fill, 0.0, -jnp.inf)
        steps = jnp.where(done[..., None], idle, steps)
        totals = log_probs[..., None] + steps
        counts = jnp.broadcast_to(jnp.where(done, lengths + 1, t + 1)[..., None], totals.shape)
        _, best = jax.lax.top_k(score(totals, counts).reshape(*batch, beams * size), beams)
        log_probs = jnp.take_along_axis(totals.reshape(*batch, beams * size), best, axis=-1)
        parent, token = best // size, (best % size).astype(jnp.int32)
        state = jax.tree.map(lambda leaf: pick(leaf, parent), state)
        tokens, lengths, done = (pick(a, parent) for a in (tokens, lengths, done))
        if end is not None:
            done = done | (token == end)
        lengths = jnp.where(done, lengths, lengths + 1)
        return t + 1, state, token, tokens.at[..., t].set(token), lengths, log_probs, done

    zeros = jnp.zeros((*batch, beams), jnp.int32)
    # At first all beams are the same sequence: only one of them may be continued.
    alone = jnp.where(jax.lax.broadcasted_iota(jnp.int32, zeros.shape, at) == 0, 0.0, -jnp.inf)
    tokens = jnp.full((*batch, beams, max_length), fill, jnp.int32)
    carry = (jnp.int32(0), jax.tree.map(spread, state), spread(start), tokens, zeros, alone, zeros.astype(bool))
    _, _, _, tokens, lengths, log_probs, _ = jax.lax.while_loop(going, body, carry)
    return Generated(tokens, lengths, log_probs)


def _check(step: Step, state: Any, start: jax.Array, max_length: int, end: int | None) -> jax.Array:
    start = jnp.asarray(start)
    if not jnp.issubdtype(start.dtype, jnp.integer):
        raise ValueError(f"start must hold integers (tokens), got {start.dtype}")
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1, got {max_length}")
    start = start.astype(jnp.int32)
    logits, _ = jax.eval_shape(step, state, start)
    if logits.shape[:-1] != start.shape:
        raise ValueError(f"step must return logits of shape {(*start.shape, 'vocabulary')}, got {logits.shape}")
    arguments.real("logits", logits)
    if not logits.shape[-1]:
        raise ValueError(f"step: expected logits of at least one token, got shape {logits.shape}; widen the vocabulary")
    if end is not None and not 0 <= end < logits.shape[-1]:
        raise ValueError(f"end must be a token of the vocabulary, 0..{logits.shape[-1] - 1}, got {end}")
    return start
