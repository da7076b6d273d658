"""Recurrent layers in jaxnn."""

from collections.abc import Callable
from typing import Any

import jax

from experiments.bench.sides.jax_sequences import work_of
from jaxnn import functional as F


def layer(
    kind: str, batch: int, time: int, features: int, hidden: int, train: bool, algorithm: str
) -> Callable[[], object]:
    """Outputs over whole sequences, with all gradients where `train` says so."""
    layers: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
        "lstm": (F.init_lstm, F.lstm),
        "gru": (F.init_gru, F.gru),
    }
    init, run = layers[kind]
    params = init(jax.random.key(0), features, hidden)
    return work_of(lambda params, x: run(params, x, algorithm=algorithm)[0], params, (batch, time, features), train)
