"""Flax's layouts, and the weights of whole models: NNX's states and Linen's variables.

Kernels and matrices have the layout of this library, except in transposed convolutions. A recurrent cell has one matrix
per gate, or in NNX also one for all gates; a stack of cells is several layers.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnn import functional as F
from jaxnn.files.tensors import path_name
from jaxnn.interop import matching
from jaxnn.interop.layout import Arrays, Layout, Part, moved, same, transposed
from jaxnn.interop.report import Report

T = TypeVar("T")


def _flip(a: np.ndarray) -> np.ndarray:
    return np.flip(a, tuple(range(a.ndim - 2)))


def _gates(ours: str, *theirs: str) -> Part:
    """One array with all gates here, one array per gate there."""
    return Part((ours,), theirs, _join, lambda a: tuple(np.split(a, len(theirs), axis=-1)))


def _join(*gates: np.ndarray) -> Arrays:
    return (np.concatenate(gates, axis=-1),)


def _no_bias(b_hn: np.ndarray) -> Arrays:
    if b_hn.any():
        raise ValueError(
            "model: expected GRUs whose b_hn is zero, since nnx.GRUCell has none, got another; use Linen's GRUCell."
        )
    return ()


_bias = same("bias", "bias", optional=True)

conv = Layout("Flax's Conv", (same("kernel", "kernel"), _bias))
conv_transpose = Layout("Flax's ConvTranspose", (moved("kernel", "kernel", _flip, _flip), _bias))
conv_transpose_kernel = Layout(
    "Flax's ConvTranspose(transpose_kernel=True)", (moved("kernel", "kernel", transposed, transposed), _bias)
)
dense = Layout("Flax's Dense", (same("kernel", "kernel"), _bias))
embedding = Layout("Flax's Embed", (same("embedding", "embedding"),))
batch_norm = Layout(
    "Flax's BatchNorm",
    (same("scale", "scale", optional=True), _bias, same("mean", "mean"), same("var", "var")),
)
layer_norm = Layout("Flax's LayerNorm", (same("scale", "scale", optional=True), _bias))
rnn = Layout("Linen's SimpleCell", (same("w_x", "i/kernel"), same("w_h", "h/kernel"), same("b", "i/bias")), F.RNNParams)
rnn_nnx = Layout(
    "nnx.SimpleCell",
    (same("w_x", "dense_i/kernel"), same("w_h", "dense_h/kernel"), same("b", "dense_i/bias")),
    F.RNNParams,
)
gru = Layout(
    "Linen's GRUCell",
    (
        _gates("w_x", "ir/kernel", "iz/kernel", "in/kernel"),
        _gates("w_h", "hr/kernel", "hz/kernel", "hn/kernel"),
        _gates("b", "ir/bias", "iz/bias", "in/bias"),
        same("b_hn", "hn/bias"),
    ),
    F.GRUParams,
)
gru_nnx = Layout(
    "nnx.GRUCell",
    (
        same("w_x", "dense_i/kernel"),
        # It has no bias b_hn: that is zero.
        Part(
            ("w_h", "b_hn"),
            ("dense_h/kernel",),
            lambda w: (w, np.zeros_like(w[0, : w.shape[0]])),
            lambda w, b_hn: (w, *_no_bias(b_hn)),
        ),
        same("b", "dense_i/bias"),
    ),
    F.GRUParams,
)
lstm, lstm_nnx = (
    Layout(
        name,
        (
            _gates("w_x", "ii/kernel", f"{forget}/kernel", "ig/kernel", "io/kernel"),
            _gates("w_h", "hi/kernel", "hf/kernel", "hg/kernel", "ho/kernel"),
            _gates("b", "hi/bias", "hf/bias", "hg/bias", "ho/bias"),
        ),
        F.LSTMParams,
    )
    for name, forget in (("Linen's LSTMCell", "if"), ("nnx.LSTMCell", "if_"))
)
lstm_optimized = Layout(
    "nnx.OptimizedLSTMCell",
    (same("w_x", "dense_i/kernel"), same("w_h", "dense_h/kernel"), same("b", "dense_h/bias")),
    F.LSTMParams,
)

LAYOUTS = {
    "conv": (conv,),
    "conv_transpose": (conv_transpose,),
    "dense": (dense,),
    "embedding": (embedding,),
    "batch_norm": (batch_norm,),
    "layer_norm": (layer_norm,),
    "rms_norm": (layer_norm,),
    "rnn": (rnn, rnn_nnx),
    "gru": (gru, gru_nnx),
    "lstm": (lstm, lstm_nnx, lstm_optimized),
}


def from_flax(
    model: T, weights: Any, names: Mapping[str, str] | None = None, *, transpose_kernel: bool = False
) -> tuple[T, Report]:
    """Loads the weights of a Flax model, NNX or Linen.

    The names of layers are those of the attributes, or those that Linen gives them. A stack of recurrent layers is
    several layers there: `rnn`, `rnn_1`, and so on for `model.rnn`, each with `/forward` and `/backward` if
    bidirectional, as `nnx.Bidirectional` names them; Linen names cells alone.

    Args:
        model: The module to take the structure from. It is not changed.
        weights: A module of `flax.nnx`, its `nnx.State`, or that as nested dictionaries; or Linen's variables (`params`
            and `batch_stats`), or its `params` alone. Its random streams are not used.
        names: For layers with other names there: maps the path of a layer in the model, joined by `/`, or a prefix of
            it, to the name there, for example `{"conv1": "Conv_0", "rnn/forward": "OptimizedLSTMCell_0"}`.
        transpose_kernel: The argument of that name of Flax's transposed convolutions.

    Returns:
        A copy of the model with the weights, and a report of which weight went where.

    Raises:
        ValueError: If a weight is missing, surplus or of another shape, or a layer has no counterpart.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import interop, modules
        >>> theirs = nnx.RNN(nnx.OptimizedLSTMCell(3, 5, rngs=nnx.Rngs(0)))
        >>> ours, report = interop.from_flax(modules.LSTM(3, 5, rngs=nnx.Rngs(1)), theirs)
        >>> x = jnp.ones((2, 7, 3))
        >>> bool(jnp.allclose(ours(x), theirs(x), atol=1e-6))
        True
    """
    given = matching.given_of(_named(weights))
    return matching.read(model, _slots(model, names, transpose_kernel), given)


def to_flax(model: Any, weights: T, names: Mapping[str, str] | None = None, *, transpose_kernel: bool = False) -> T:
    """Converts a model's weights to those of a Flax model, NNX or Linen.

    Args:
        model: The module.
        weights: As in `from_flax`; not changed. Its values are not used and may be `jax.ShapeDtypeStruct`s.
        names: As in `from_flax`.
        transpose_kernel: As in `from_flax`.

    Returns:
        A copy of `weights` with the model's.

    Raises:
        ValueError: If a weight is missing, surplus or of another shape, a layer has no counterpart, or a GRU has a bias
            that `nnx.GRUCell` lacks.
    """
    if isinstance(weights, nnx.Module):
        module: Any = nnx.clone(weights)
        nnx.update(module, to_flax(model, nnx.state(module), names, transpose_kernel=transpose_kernel))
        return module
    given = matching.given_of(_named(jax.tree.map(_filled, _pure(weights))))
    written = matching.write(_slots(model, names, transpose_kernel), given)
    tree = jax.tree.map_with_path(
        lambda at, leaf: jnp.asarray(written[path_name(at)]) if path_name(at) in written else leaf, _pure(weights)
    )
    if not isinstance(weights, nnx.State):
        return tree
    state: Any = jax.tree.map(lambda leaf: leaf, weights)
    nnx.replace_by_pure_dict(state, tree)
    return state


def _slots(model: Any, names: Mapping[str, str] | None, transpose_kernel: bool) -> list[matching.Slot]:
    table = LAYOUTS | ({"conv_transpose": (conv_transpose_kernel,)} if transpose_kernel else {})
    return matching.slots_of(
        model,
        "Flax",
        table,
        lambda layer: matching.separate(layer, layer.path),
        names,
        lambda _, path: _short("/".join([*path, "{}"])),
    )


def _named(weights: Any) -> Iterator[tuple[str, str, Any]]:
    """The weights by their short name and their path."""
    tree = _pure(weights)
    linen = isinstance(tree, Mapping) and isinstance(tree.get("params"), Mapping)
    for at, leaf in jax.tree.leaves_with_path(tree):
        name = path_name(at)
        is_random = hasattr(leaf, "dtype") and not jnp.issubdtype(leaf.dtype, jnp.inexact)  # keys and their counts
        if not is_random:
            yield _short(name.split("/", 1)[-1] if linen else name), name, leaf


def _filled(leaf: Any) -> Any:
    """A shape as an array that takes no memory; any other leaf as it is."""
    is_key = jnp.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key)
    if is_key or not isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


def _pure(weights: Any) -> Any:
    """Nested dictionaries of arrays."""
    state = nnx.state(weights) if isinstance(weights, nnx.Module) else weights
    return nnx.to_pure_dict(state) if isinstance(state, nnx.State) else state


def _short(name: str) -> str:
    """The path of a weight without the names of cells, and with the names of directions used here."""
    directions = {"forward_rnn": "forward", "backward_rnn": "backward"}
    return "/".join(directions.get(part, part) for part in name.split("/") if part != "cell")
