"""Recurrent layers in Haiku. Its GRU resets before the recurrent product, with the same amount of arithmetic."""

import haiku as hk
import jax
import jax.numpy as jnp

from experiments.bench.case import Work
from experiments.bench.sides.jax_sequences import work_of


def layer(kind: str, batch: int, time: int, features: int, hidden: int, train: bool) -> Work:
    """Outputs over whole sequences; with `train` all gradients too."""

    def run(x: jax.Array) -> jax.Array:
        core = {"lstm": hk.LSTM, "gru": hk.GRU}[kind](hidden)
        return hk.dynamic_unroll(core, x, core.initial_state(batch), time_major=False)[0]

    pure = hk.without_apply_rng(hk.transform(run))
    params = pure.init(jax.random.key(0), jnp.zeros((batch, time, features)))
    return work_of(pure.apply, params, (batch, time, features), train)
