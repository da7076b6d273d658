"""Recurrent layers in Equinox: its cells in a scan and `vmap` over the batch, as in its documentation."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from experiments.bench.case import Work
from experiments.bench.sides.jax_sequences import work_of


def layer(kind: str, batch: int, time: int, features: int, hidden: int, train: bool) -> Work:
    """Outputs over whole sequences; with `train` all gradients too."""
    zero = jnp.zeros(hidden)
    make, start = {"lstm": (eqx.nn.LSTMCell, (zero, zero)), "gru": (eqx.nn.GRUCell, zero)}[kind]
    params, static = eqx.partition(make(features, hidden, key=jax.random.key(0)), eqx.is_inexact_array)

    def one(params: Any, x: jax.Array) -> jax.Array:
        cell = eqx.combine(params, static)

        def step(state: Any, x: jax.Array) -> tuple[Any, jax.Array]:
            state = cell(x, state)
            return state, state[0] if kind == "lstm" else state

        return jax.lax.scan(step, start, x)[1]

    return work_of(jax.vmap(one, in_axes=(None, 0)), params, (batch, time, features), train)
