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
    run: Callable[..., Any] = {"lstm": F.lstm, "gru": F.gru}[kind]
    params = {"lstm": F.init_lstm, "gru": F.init_gru}[kind](jax.random.key(0), features, hidden)
    return work_of(lambda params, x: run(params, x, algorithm=algorithm)[0], params, (batch, time, features), train)
