"""Two tasks that nothing but memory solves: adding two marked numbers, and copying symbols after a silence."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

ALPHABET, SYMBOLS = 4, 2
"""Copying: how many different symbols there are, and how many are to be kept."""
NEAR = 0.1
"""A sum is right if it is off by less."""
GUESS = {"adding": 1 - (1 - NEAR) ** 2, "copying": 1 / ALPHABET}
"""The share that is right without memory: of sums by always saying 1, of symbols by chance."""


class Batch(NamedTuple):
    """Sequences and what to say at their end.

    Attributes:
        inputs: `(batch, time, features)`.
        targets: `(batch, answers)`, for the last `answers` steps.
    """

    inputs: jax.Array
    targets: jax.Array


def adding(key: jax.Array, batch: int, delay: int) -> Batch:
    """`delay` numbers, uniform in [0, 1]; one of the first tenth and one of the second half are marked."""
    numbers, first, second = jax.random.split(key, 3)
    values = jax.random.uniform(numbers, (batch, delay))
    tenth, half = max(1, delay // 10), delay // 2
    places = jnp.stack(
        [jax.random.randint(first, (batch,), 0, tenth), jax.random.randint(second, (batch,), half, delay)], axis=-1
    )
    marks = jax.nn.one_hot(places, delay).sum(1)
    return Batch(jnp.stack([values, marks], axis=-1), jnp.sum(values * marks, axis=-1, keepdims=True))


def copying(key: jax.Array, batch: int, delay: int) -> Batch:
    """`SYMBOLS` symbols, `delay` steps of silence, and a signal while the symbols are to be said again, in order."""
    symbols = jax.random.randint(key, (batch, SYMBOLS), 0, ALPHABET)
    silence = jnp.full((batch, delay), ALPHABET)
    signal = jnp.full((batch, SYMBOLS), ALPHABET + 1)
    return Batch(jax.nn.one_hot(jnp.concatenate([symbols, silence, signal], axis=1), ALPHABET + 2), symbols)


TASKS: dict[str, Callable[[jax.Array, int, int], Batch]] = {"adding": adding, "copying": copying}
