"""Beam search: extends several partial sequences side by side and keeps the best."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.functional.arguments import integer, number
from jaxnn.functional.compensated import Total, plus
from jaxnn.functional.decoding.loop import Generated, SoFar, Step, checked, run


def beam_search(
    step: Step,
    state: Any,
    start: jax.typing.ArrayLike,
    *,
    beams: int,
    max_length: int,
    end: int | None = None,
    length_penalty: jax.typing.ArrayLike = 0.0,
) -> Generated:
    r"""Keeps the `beams` best partial sequences at every step.

    Sequences are ranked by

    .. math:: \frac{\log p(y)}{\left((5 + |y|) / 6\right)^\alpha}

    where :math:`|y|` is the number of tokens, the end token included, and :math:`\alpha` the length penalty. An ended
    sequence keeps its place until better ones replace it. With one beam per possible sequence the search is exhaustive;
    with one beam it is `greedy`. Ties go to the first continuation.

    Args:
        step: `(state, token) -> (logits, state)`. It is mapped over the beams, so it sees the same shapes as in
            `greedy`, and arrays in its closure need no axis for the beams.
        state: The state before the first step; every leaf has the batch axes of `start` first.
        start: Integers `(*batch,)`, the token that the first step sees; not returned.
        beams: Number of sequences to keep. Static under `jax.jit`.
        max_length: Largest number of tokens. Static under `jax.jit`.
        end: The token that ends a sequence; the loop stops when all have ended. Static under `jax.jit`.
        length_penalty: :math:`\alpha`; 0 ranks by probability alone, a larger value favours longer sequences. May be
            traced; a traced value that is not finite makes the log-probabilities NaN.

    Returns:
        Tokens `(*batch, beams, max_length)`, lengths and log-probabilities `(*batch, beams)`, best first. Where
        fewer sequences exist than beams, the rest have a log-probability of minus infinity.

    Raises:
        ValueError: As `greedy`; if `beams` is not a whole number of at least 1, `length_penalty` not a finite number,
            or a leaf of `state` without the batch axes.

    References:
        Wu et al.: Google's neural machine translation system, 2016 (the length penalty).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> logits = jnp.log(jnp.array([[0.6, 0.4, 0.0], [0.1, 0.0, 0.9], [0.0, 0.0, 1.0]]))
        >>> made = F.beam_search(lambda s, t: (logits[t], s), (), jnp.array(0), beams=2, max_length=2, end=2)
        >>> made.tokens[0].tolist(), round(float(jnp.exp(made.log_probs[0])), 2)
        ([0, 0], 0.36)
        >>> made.tokens[1].tolist(), made.lengths.tolist()
        ([1, 2], [2, 1])
    """
    start, max_length, end = checked(step, state, start, max_length, end)
    beams = integer("beams", beams, 1)
    alpha = number(
        "length_penalty", length_penalty, "a finite number", lambda _: True, "0.0 ranks by probability alone."
    )
    batch, at = start.shape, start.ndim
    for path, leaf in jax.tree.leaves_with_path(state):
        if jnp.shape(leaf)[:at] != batch:
            raise ValueError(
                f"state{jax.tree_util.keystr(path)}: expected the batch axes of start, {batch}, first, "
                f"got shape {jnp.shape(leaf)}"
            )
    tiny, huge = jnp.finfo(jnp.float32).tiny, jnp.finfo(jnp.float32).max
    over_beams = jax.vmap(step, in_axes=at, out_axes=at)

    def broadcast(leaf: jax.Array) -> jax.Array:
        return jnp.repeat(jnp.expand_dims(leaf, at), beams, axis=at)

    def pick(leaf: jax.Array, chosen: jax.Array) -> jax.Array:
        return jnp.take_along_axis(leaf, chosen.reshape(chosen.shape + (1,) * (leaf.ndim - at - 1)), axis=at)

    def extend(t: jax.Array, state: Any, token: jax.Array, so_far: SoFar) -> tuple[Any, jax.Array, SoFar]:
        _, lengths, total, done = so_far
        logits, state = over_beams(state, token)
        logits = logits.astype(jnp.float32)
        size = logits.shape[-1]
        # A step adds `gains - cost`: logits below the best one, and the logarithm of their sum, one per beam.
        gains = logits - jnp.max(logits, axis=-1, keepdims=True)
        cost = jnp.log(jnp.sum(jnp.exp(gains), axis=-1))
        # An ended sequence has one continuation, at no cost: the end token again. So has a beam of probability zero.
        settled = done | jnp.isneginf(total.high)
        idle = jnp.where(jax.lax.broadcasted_iota(jnp.int32, gains.shape, at + 1) == (end or 0), 0.0, -jnp.inf)
        gains = jnp.where(settled[..., None], idle, gains)
        total = plus(total, jnp.where(settled, 0.0, -cost))
        # Totals of long sequences differ by less than their rounding, so they are ranked by their differences to the
        # total of the best beam: for one beam that is `gains`, the order of the logits.
        best = jnp.argmax(total.high, axis=-1, keepdims=True)
        high, low = (jnp.take_along_axis(part, best, axis=-1) for part in total)
        high = jnp.where(jnp.isfinite(high), high, 0.0)
        lead = ((total.high - high) + (total.low - low))[..., None] + gains
        # (high + lead) * share - high, with the penalty of an ended sequence relative to that of the others.
        share = (jnp.float32(6 + t) / (6 + lengths).astype(jnp.float32)) ** alpha
        share = jnp.where(done, jnp.clip(share, tiny, huge), 1.0)
        rank = (high * (share - 1))[..., None] + lead * share[..., None]
        _, chosen = jax.lax.top_k(rank.reshape(*batch, beams * size), beams)
        parent, token = chosen // size, (chosen % size).astype(jnp.int32)
        gain = jnp.take_along_axis(gains.reshape(*batch, beams * size), chosen, axis=-1)
        state = jax.tree.map(lambda leaf: pick(leaf, parent), state)
        picked = jax.tree.map(lambda a: pick(a, parent), so_far._replace(total=total))
        return state, token, picked._replace(total=plus(picked.total, gain))

    # At first all beams hold the same sequence, so only one of them may be continued.
    alone = jnp.where(jax.lax.broadcasted_iota(jnp.int32, (*batch, beams), at) == 0, 0.0, -jnp.inf)
    total = Total(alone, jnp.zeros_like(alone))
    made = run(extend, start, jax.tree.map(broadcast, state), broadcast(start), total, max_length, end)
    return made._replace(log_probs=jnp.where(jnp.isfinite(alpha), made.log_probs, jnp.nan))
