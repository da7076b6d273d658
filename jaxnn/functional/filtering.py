"""Filters a distribution over tokens before sampling: temperature, top-k and top-p (nucleus)."""

import jax
import jax.numpy as jnp

from jaxnn.functional.arguments import array, integer, number, real

# Relative error of a sum of rounded probabilities, and half a unit in the last place of `top_p`. A boundary within
# these errors counts as reached, so that top_p=0.999 keeps 999 of 1,000 equally probable tokens.
_ROUNDING = 2.0**-20
_HALF_UNIT = 2.0**-24


def filter_logits(
    logits: jax.typing.ArrayLike,
    *,
    temperature: jax.typing.ArrayLike = 1.0,
    top_k: int | None = None,
    top_p: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Sharpens a distribution and cuts off its tail: excluded tokens get minus infinity.

    Args:
        logits: Array of shape `(*batch, vocabulary)`. A row that holds NaN becomes NaN.
        temperature: Divides the logits, before they are filtered; below 1 sharpens. May be traced; a traced 0 is the
            limit, which keeps only the most probable tokens.
        top_k: Keeps the `top_k` most probable tokens, and those that tie with the last of them. A number larger than
            the vocabulary keeps all.
        top_p: Keeps the smallest set of most probable tokens whose probabilities add up to `top_p` (nucleus sampling),
            among those that `top_k` keeps: at least one token, and all of them for 1. Ties go to the first token. May
            be traced; a traced 0 keeps one token.

    Returns:
        Logits of the same shape, float32. A traced temperature or `top_p` out of range gives NaN.

    Raises:
        ValueError: If there is no token, `temperature` is not a finite number above 0, `top_k` not a whole number of
            at least 1, or `top_p` not in (0, 1].

    References:
        Holtzman et al., The curious case of neural text degeneration, 2020.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> F.filter_logits(jnp.log(jnp.array([0.5, 0.3, 0.2])), top_p=0.7)
        Array([-0.6931472, -1.2039728,       -inf], dtype=float32)
    """
    logits = array("logits", logits)
    if logits.ndim < 1:
        raise ValueError("logits: expected (*batch, vocabulary), got a scalar; give it an axis of tokens.")
    real("logits", logits)
    if not logits.shape[-1]:
        raise ValueError(f"logits: expected at least one token, got shape {logits.shape}; widen the vocabulary.")
    # Tests every logit: XLA on CPU may lose NaN in the maximum.
    sound = ~jnp.any(jnp.isnan(logits), axis=-1, keepdims=True)
    hint = "to keep only the most probable token write top_k=1."
    temperature = number("temperature", temperature, "a finite number above 0", lambda t: t > 0, hint)
    if top_k is not None:
        top_k = integer("top_k", top_k, 1)
    logits = _cooled(logits.astype(jnp.float32), temperature)
    if top_k is not None and top_k < logits.shape[-1]:
        least = jax.lax.top_k(logits, top_k)[0][..., -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if top_p is not None:
        top_p = number("top_p", top_p, "a number in (0, 1]", lambda p: 0 < p <= 1, "None or 1.0 keeps every token.")
        logits = _nucleus(logits, top_p)
    return jnp.where(sound, logits, jnp.nan)


def _cooled(logits: jax.Array, temperature: jax.Array) -> jax.Array:
    """Divides by the temperature; if the best logit then overflows float32, divides the differences from it instead."""
    best = jnp.max(logits, axis=-1, keepdims=True)
    fits = jnp.isfinite(best / temperature) | jnp.isneginf(best)
    relative = jnp.where(logits == best, 0.0, (logits - best) / temperature)
    cooled = jnp.where(fits, logits / temperature, relative)
    sound = (temperature >= 0) & (temperature < jnp.inf)
    return jnp.where(sound, cooled, jnp.nan)


def _nucleus(logits: jax.Array, top_p: jax.Array) -> jax.Array:
    r"""Keeps a token if the probability :math:`h` of those before it has not reached `top_p`, :math:`p`.

    With :math:`t` the probability of the token and those after it, :math:`h < p` is equivalent to
    :math:`h (1 - p) < t p`, because :math:`h + t = 1`. This form needs no normalisation, and both sums have a small
    relative error even if one of them is tiny.
    """
    order = jnp.argsort(logits, axis=-1, descending=True, stable=True)
    falling = jnp.take_along_axis(logits, order, axis=-1)
    best = falling[..., :1]
    mass = jnp.where(falling == best, 1.0, jnp.exp(falling - best))
    before = jnp.cumsum(mass, axis=-1) - mass
    axis = logits.ndim - 1
    rest = jax.lax.cumsum(mass, axis, reverse=True)
    # Not `1 - top_p + _HALF_UNIT`: XLA adds the two constants first, which is 1 in float32.
    stays = before * (1 - top_p) < rest * top_p * (1 - _ROUNDING) - before * _HALF_UNIT
    first = jax.lax.broadcasted_iota(jnp.int32, logits.shape, axis) == 0
    stays = stays | first | (top_p == 1)
    kept = jnp.where(jnp.take_along_axis(stays, jnp.argsort(order, axis=-1), axis=-1), logits, -jnp.inf)
    sound = (top_p >= 0) & (top_p <= 1)
    return jnp.where(sound, kept, jnp.nan)
