"""Greedy search and sampling: one sequence for each start token."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.functional.arguments import random_key
from jaxnn.functional.compensated import Total, plus
from jaxnn.functional.decoding.loop import Generated, SoFar, Step, checked, run
from jaxnn.functional.filtering import filter_logits


def greedy(
    step: Step, state: Any, start: jax.typing.ArrayLike, *, max_length: int, end: int | None = None
) -> Generated:
    """Takes the most probable token at every step.

    Args:
        step: `(state, token) -> (logits, state)`.
        state: The state before the first step.
        start: Integers `(*batch,)`, the token that the first step sees; not returned.
        max_length: Largest number of tokens. Static under `jax.jit`.
        end: The token that ends a sequence; the loop stops when all have ended. Static under `jax.jit`.

    Returns:
        Tokens, lengths and log-probabilities.

    Raises:
        ValueError: If `start` is not of integers, `max_length` not a whole number of at least 1, or `end` not a token
            of the vocabulary.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> def count_up(state, token):
        ...     return 9.0 * jax.nn.one_hot(token + 1, 5), state
        >>> made = F.greedy(count_up, (), jnp.array([0, 2]), max_length=5, end=4)
        >>> made.tokens.tolist(), made.lengths.tolist()
        ([[1, 2, 3, 4, 4], [3, 4, 4, 4, 4]], [3, 1])
    """
    return _generate(step, state, start, lambda logits, key: jnp.argmax(logits, axis=-1), None, max_length, end)


def sample(
    step: Step,
    state: Any,
    start: jax.typing.ArrayLike,
    key: jax.Array,
    *,
    max_length: int,
    end: int | None = None,
    temperature: jax.typing.ArrayLike = 1.0,
    top_k: int | None = None,
    top_p: jax.typing.ArrayLike | None = None,
) -> Generated:
    """Draws every token at random from the model's distribution, as `filter_logits` shapes it.

    Args:
        step: `(state, token) -> (logits, state)`.
        state: The state before the first step.
        start: Integers `(*batch,)`, the token that the first step sees; not returned.
        key: A random key.
        max_length: Largest number of tokens. Static under `jax.jit`.
        end: The token that ends a sequence; the loop stops when all have ended. Static under `jax.jit`.
        temperature: As in `filter_logits`.
        top_k: As in `filter_logits`.
        top_p: As in `filter_logits`.

    Returns:
        Tokens, lengths and log-probabilities, which are NaN where a traced temperature or `top_p` is out of range.

    Raises:
        ValueError: As `greedy` and `filter_logits`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> coin = lambda state, token: (jnp.zeros((*token.shape, 2)), state)
        >>> F.sample(coin, (), jnp.zeros(3, int), jax.random.key(0), max_length=6).tokens.shape
        (3, 6)
    """
    random_key(key)

    def shaped(logits: jax.Array) -> jax.Array:
        return filter_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p)

    def choose(logits: jax.Array, key: jax.Array) -> jax.Array:
        return jax.random.categorical(key, shaped(logits), axis=-1)

    # `categorical` draws a token even if all logits are NaN.
    sound = jnp.all(jnp.isfinite(shaped(jnp.zeros(1))))
    made = _generate(step, state, start, choose, key, max_length, end)
    return made._replace(log_probs=jnp.where(sound, made.log_probs, jnp.nan))


def _generate(step: Step, state: Any, start: Any, choose: Any, key: Any, max_length: int, end: int | None) -> Generated:
    start, max_length, end = checked(step, state, start, max_length, end)

    def extend(t: jax.Array, state: Any, token: jax.Array, so_far: SoFar) -> tuple[Any, jax.Array, SoFar]:
        logits, state = step(state, token)
        logits = logits.astype(jnp.float32)
        token = choose(logits, None if key is None else jax.random.fold_in(key, t)).astype(jnp.int32)
        token = jnp.where(so_far.done, jnp.int32(end or 0), token)
        of_token = jnp.take_along_axis(jax.nn.log_softmax(logits), token[..., None], axis=-1)[..., 0]
        return state, token, so_far._replace(total=plus(so_far.total, jnp.where(so_far.done, 0.0, of_token)))

    zeros = jnp.zeros(start.shape, jnp.float32)
    return run(extend, start, state, start, Total(zeros, zeros), max_length, end)
