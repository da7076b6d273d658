"""Compensated summation: long sums in float32 with almost no rounding error."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Total(NamedTuple):
    """A sum with its rounding error: `high + low`, with `high` the nearest float32 of the sum."""

    high: jax.Array
    low: jax.Array


def plus(total: Total, term: jax.Array) -> Total:
    """Adds a term by Knuth's two-sum; only the rounding error of `low` itself remains."""
    high = total.high + term
    of_term = high - total.high
    lost = (total.high - (high - of_term)) + (term - of_term)
    low = total.low + jnp.where(jnp.isfinite(high), lost, 0.0)
    rounded = high + low
    return Total(rounded, jnp.where(jnp.isfinite(rounded), low - (rounded - high), 0.0))
