"""Recurrent layers in Flax NNX: its optimised cell for the LSTM."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.bench.sides.jax_sequences import work_of


def layer(kind: str, batch: int, time: int, features: int, hidden: int, train: bool) -> Callable[[], object]:
    """Outputs over whole sequences, with all gradients where `train` says so."""
    rngs = nnx.Rngs(0)
    cell = {"lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}[kind](features, hidden, rngs=rngs)
    zeros = jnp.zeros((batch, hidden))
    start = {"lstm": (zeros, zeros), "gru": zeros}[kind]
    graph, params = nnx.split(nnx.RNN(cell, rngs=False))

    def apply(params: nnx.State, x: jax.Array) -> jax.Array:
        return nnx.merge(graph, params)(x, initial_carry=start)

    return work_of(apply, params, (batch, time, features), train)
