"""Attention of one sequence over another."""

import math

import jax
import jax.numpy as jnp

from jaxnn.functional import arguments
from jaxnn.kernels.accumulate import accumulator


def attention(
    query: jax.typing.ArrayLike,
    keys: jax.typing.ArrayLike,
    values: jax.typing.ArrayLike | None = None,
    *,
    lengths: jax.typing.ArrayLike | None = None,
    mask: jax.typing.ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    r"""Computes scaled dot-product attention.

    .. math:: a = \mathrm{softmax}\left(\frac{q k^\top}{\sqrt{d}}\right), \qquad c = a v

    Args:
        query: Array of shape `(*batch, queries, d)`.
        keys: Array of shape `(*batch, time, d)`.
        values: Array of shape `(*batch, time, features)`; the keys by default.
        lengths: Number of valid keys of each sequence, integers `(*batch,)`. The other keys and values, even NaN and
            infinity, affect neither results nor derivatives. If no key is valid, context and weights are zero.
        mask: Which keys are valid, bool `(*batch, time)`. With `lengths`, a key must be valid by both.

    Returns:
        The context `(*batch, queries, features)` and the weights `(*batch, queries, time)`, both in the dtype of
        `query`. Scores and softmax are computed in at least float32.

    Raises:
        ValueError: If shapes or dtypes do not fit each other, `mask` is not bool, or a concrete length lies outside
            0..time.

    References:
        Luong, Pham, Manning: Effective approaches to attention-based neural machine translation, 2015. Vaswani
        et al.: Attention is all you need, 2017 (the scale).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> context, weights = F.attention(jnp.ones((2, 1, 3)), jnp.ones((2, 4, 3)), lengths=jnp.array([4, 2]))
        >>> weights[1, 0]
        Array([0.5, 0.5, 0. , 0. ], dtype=float32)
    """
    query, keys = arguments.array("query", query), arguments.array("keys", keys)
    values = keys if values is None else arguments.array("values", values)
    arguments.floating(query=query)
    for name, a in (("keys", keys), ("values", values)):
        if a.ndim != query.ndim or a.shape[:-2] != query.shape[:-2]:
            advice = "; a single query needs an axis too: query[..., None, :]." if a.ndim == query.ndim + 1 else ""
            raise ValueError(
                f"{name}: expected the batch axes of query {query.shape}, {query.shape[:-2]}, got shape {a.shape}"
                + advice
            )
        if a.dtype != query.dtype:
            raise ValueError(f"{name}: expected the dtype of query, {query.dtype}, got {a.dtype}")
    if query.ndim < 2 or keys.shape[-1] != query.shape[-1]:
        raise ValueError(
            f"query, keys: expected (*batch, queries, d) and (*batch, time, d), got {query.shape} and {keys.shape}"
        )
    if values.shape[-2] != keys.shape[-2]:
        raise ValueError(f"values: expected the {keys.shape[-2]} steps of keys, got shape {values.shape}")
    inside = None if mask is None else _bools(mask, keys.shape[:-1])
    if lengths is not None:
        within = _inside(lengths, query.shape[:-2], keys.shape[-2])
        inside = within if inside is None else inside & within
    if inside is not None:
        # A weight of zero is not enough: 0 * NaN is NaN.
        keys, values = (jnp.where(inside[..., None], a, jnp.zeros_like(a)) for a in (keys, values))
    wide = accumulator(query.dtype)
    scores = jnp.einsum("...qd,...td->...qt", query, keys, preferred_element_type=wide)
    scores = scores / math.sqrt(max(1, query.shape[-1]))
    if inside is None:
        weights = jax.nn.softmax(scores, axis=-1)
    else:
        counts = jnp.broadcast_to(inside[..., None, :], scores.shape)
        weights = jax.nn.softmax(jnp.where(counts, scores, jnp.finfo(wide).min), axis=-1)
        weights = jnp.where(counts, weights, 0)  # without a valid key the softmax is uniform, not zero
    # Wide, so that the gradient of the weights, a sum over the features, does not overflow before the softmax.
    context = jnp.einsum("...qt,...tf->...qf", weights, values.astype(wide))
    return context.astype(query.dtype), weights.astype(query.dtype)


def _bools(mask: jax.typing.ArrayLike, shape: tuple[int, ...]) -> jax.Array:
    """Returns a mask as an array."""
    m = arguments.array("mask", mask)
    if m.dtype != jnp.bool_ or m.shape != shape:
        raise ValueError(
            f"mask: expected bool of shape {shape}, (*batch, time) as keys have, got {m.dtype} of shape {m.shape}; "
            "make it by a comparison, for example tokens != padding."
        )
    return m


def _inside(lengths: jax.typing.ArrayLike, batch: tuple[int, ...], time: int) -> jax.Array:
    """Returns which steps are valid: bool `(*batch, time)`."""
    n = arguments.lengths(lengths, batch, time, batch_of="query", steps="steps of keys")
    return jax.lax.broadcasted_iota(jnp.int32, (*batch, time), len(batch)) < n[..., None]
