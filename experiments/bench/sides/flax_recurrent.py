"""Recurrent layers in Flax NNX: its optimised cell for the LSTM."""

from collections.abc import Callable

from flax import nnx

from experiments.bench.sides.jax_sequences import work_of


def layer(kind: str, batch: int, time: int, features: int, hidden: int, train: bool) -> Callable[[], object]:
    """Outputs over whole sequences, with all gradients where `train` says so."""
    rngs = nnx.Rngs(0)
    cell = {"lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}[kind](features, hidden, rngs=rngs)
    graph, params, *others = nnx.split(nnx.RNN(cell, rngs=rngs), nnx.Param, ...)
    return work_of(lambda params, x: nnx.merge(graph, params, *others)(x), params, (batch, time, features), train)
