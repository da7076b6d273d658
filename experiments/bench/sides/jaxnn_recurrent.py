"""Recurrent layers in jaxnn."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.bench.case import Work
from experiments.bench.sides.jax_sequences import work_of
from jaxnn import functional as F

LAYERS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "lstm": (F.init_lstm, F.lstm),
    "gru": (F.init_gru, F.gru),
    "mingru": (F.init_mingru, F.mingru),
    "minlstm": (F.init_minlstm, F.minlstm),
    "lru": (F.init_lru, F.lru),
}


def layer(kind: str, batch: int, time: int, features: int, hidden: int, train: bool, algorithm: str) -> Work:
    """Outputs over whole sequences; with `train` all gradients too."""
    return work_of(*apply_of(kind, features, hidden, algorithm), (batch, time, features), train)


def apply_of(
    kind: str, features: int, hidden: int, algorithm: str, dtype: jax.typing.DTypeLike = jnp.float32
) -> tuple[Callable[[Any, jax.Array], jax.Array], Any]:
    """Returns the layer as a function of parameters and inputs, and its parameters."""
    init, run = LAYERS[kind]
    params = init(jax.random.key(0), features, hidden, dtype=dtype)
    return lambda params, x: run(params, x, algorithm=algorithm)[0], params
