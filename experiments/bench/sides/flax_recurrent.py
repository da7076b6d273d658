"""Recurrent layers in Flax NNX; the LSTM is its optimised cell."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.bench.case import Work
from experiments.bench.sides.jax_sequences import work_of


def layer(kind: str, batch: int, time: int, features: int, hidden: int, train: bool) -> Work:
    """Outputs over whole sequences; with `train` all gradients too."""
    return work_of(*apply_of(kind, batch, features, hidden), (batch, time, features), train)


def apply_of(
    kind: str, batch: int, features: int, hidden: int, dtype: jax.typing.DTypeLike = jnp.float32
) -> tuple[Callable[[nnx.State, jax.Array], jax.Array], nnx.State]:
    """Returns the layer as a function of parameters and inputs, and its parameters."""
    make = {"lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}[kind]
    cell = make(features, hidden, dtype=dtype, rngs=nnx.Rngs(0))
    zeros = jnp.zeros((batch, hidden), dtype)
    start = {"lstm": (zeros, zeros), "gru": zeros}[kind]
    graph, params = nnx.split(nnx.RNN(cell, rngs=False))
    # Flax cannot initialise orthogonal matrices in half precision.
    params = jax.tree.map(lambda p: p.astype(dtype), params)

    def apply(params: nnx.State, x: jax.Array) -> jax.Array:
        return nnx.merge(graph, params)(x, initial_carry=start)

    return apply, params
