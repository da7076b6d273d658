"""Keras 3's layouts, and the weights of whole models. Keras itself is not imported.

Kernels and matrices have the layout of this library, transposed convolutions `(*window, out, in)`. An LSTM's gates have
our order, a GRU's are z, r, h. With `reset_after=True` a GRU has two rows of biases: ours is their sum,
except for the candidate's. With `reset_after=False` it has one row, which is written as the sum of ours.
"""

import dataclasses
import io
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np

from jaxnn import extras
from jaxnn import functional as F
from jaxnn.interop import matching
from jaxnn.interop.layout import Arrays, Layout, Part, joined_biases, moved, same, split_biases, transposed
from jaxnn.interop.report import Report

T = TypeVar("T")


def _swap(a: np.ndarray) -> np.ndarray:
    """The gates z, r, h as r, z, h, and back."""
    first, second, third = np.split(a, 3, axis=-1)
    return np.concatenate([second, first, third], axis=-1)


def _from_after(bias: np.ndarray) -> Arrays:
    return split_biases(*_swap(bias))


def _to_after(b: np.ndarray, b_hn: np.ndarray) -> Arrays:
    return (_swap(np.stack(joined_biases(b, b_hn))),)


def _from_before(bias: np.ndarray) -> Arrays:
    return _swap(bias), np.zeros_like(bias[: bias.size // 3])


def _to_before(b: np.ndarray, b_hn: np.ndarray) -> Arrays:
    inner = 2 * b_hn.size
    return (_swap(np.concatenate([b[:inner], b[inner:] + b_hn])),)


_bias = same("bias", "bias", optional=True)
_gates = (moved("w_x", "kernel", _swap, _swap), moved("w_h", "recurrent_kernel", _swap, _swap))
_classic = (same("w_x", "kernel"), same("w_h", "recurrent_kernel"), same("b", "bias"))
_affine = (same("scale", "gamma", optional=True), same("bias", "beta", optional=True))

conv = Layout("Keras's convolution", (same("kernel", "kernel"), _bias))
conv_transpose = Layout("Keras's transposed convolution", (moved("kernel", "kernel", transposed, transposed), _bias))
dense = Layout("Keras's Dense", (same("kernel", "kernel"), _bias))
embedding = Layout("Keras's Embedding", (same("embedding", "embeddings"),))
batch_norm = Layout(
    "Keras's BatchNormalization", (*_affine, same("mean", "moving_mean"), same("var", "moving_variance"))
)
layer_norm = Layout("Keras's LayerNormalization", _affine)
rms_norm = Layout("Keras's RMSNormalization", (same("scale", "scale", optional=True),))
rnn = Layout("Keras's SimpleRNN", _classic, F.RNNParams)
lstm = Layout("Keras's LSTM", _classic, F.LSTMParams)
gru = Layout(
    "Keras's GRU(reset_after=True)", (*_gates, Part(("b", "b_hn"), ("bias",), _from_after, _to_after)), F.GRUParams
)
gru_reset_before = Layout(
    "Keras's GRU(reset_after=False)", (*_gates, Part(("b", "b_hn"), ("bias",), _from_before, _to_before)), F.GRUParams
)


def _numbered(layout: Layout) -> Layout:
    """The layout in a `.weights.h5` file, where a layer's arrays have numbers."""
    names = {name: f"vars/{i}" for i, name in enumerate(layout.theirs)}
    parts = tuple(part._replace(theirs=tuple(names[name] for name in part.theirs)) for part in layout.parts)
    return dataclasses.replace(layout, parts=parts)


LAYOUTS = {
    "conv": (conv,),
    "conv_transpose": (conv_transpose,),
    "dense": (dense,),
    "embedding": (embedding,),
    "batch_norm": (batch_norm,),
    "layer_norm": (layer_norm,),
    "rms_norm": (rms_norm,),
    "rnn": (rnn,),
    "gru": (gru,),
    "gru_reset_before": (gru_reset_before,),
    "lstm": (lstm,),
}


def from_keras(model: T, weights: Any, names: Mapping[str, str] | None = None) -> tuple[T, Report]:
    """Loads a Keras 3 model's weights.

    The names of layers are those that Keras gives them, without the name of the model. A stack of recurrent layers is
    several layers there: `rnn`, `rnn_1`, and so on for `model.rnn`. Everything that is not a weight must be the same in
    both
    models: paddings, activations, and the `epsilon` of norms, which is 1e-3 in Keras.

    Args:
        model: The module to take the structure from. It is not changed.
        weights: The Keras model, its `weights`, arrays by path, or the name of a `.weights.h5` or `.keras` file. In a
            file Keras names layers by their class (`conv2d`, `conv2d_1`), or by attribute in a subclass of
            `keras.Model`.
        names: For layers with other names there: maps the path of a layer in the model, joined by `/`, or a prefix of
            it, to the name there, for example `{"conv1": "conv2d", "conv2": "conv2d_1"}`.

    Returns:
        A copy of the model with the weights, and a report of which weight went where.

    Raises:
        ValueError: If a weight is missing, surplus, of another shape or not an array, a layer has no counterpart, or
            the file is damaged or of another kind.
        ImportError: If a file is given and `h5py` is not installed.
        OSError: If it cannot be read.

    Example:
        >>> import numpy as np
        >>> from flax import nnx
        >>> from jaxnn import interop, modules
        >>> weights = {"lstm/lstm_cell/kernel": np.ones((3, 20)), "lstm/lstm_cell/recurrent_kernel": np.ones((5, 20))}
        >>> weights["lstm/lstm_cell/bias"] = np.zeros(20)
        >>> layer, report = interop.from_keras(modules.LSTM(3, 5, rngs=nnx.Rngs(0)), weights, {"": "lstm"})
        >>> float(layer.cells[0].params.w_x[0, 0])
        1.0
    """
    given = matching.given_of(_named(weights))
    return matching.read(model, _slots(model, names, given), given)


def to_keras(model: Any, weights: Any, names: Mapping[str, str] | None = None) -> list[np.ndarray]:
    """Converts a model's weights to those of a Keras model.

    Args:
        model: The module.
        weights: The Keras model, its `weights`, or arrays by path. Their values are not used.
        names: As in `from_keras`.

    Returns:
        Arrays in the order of `weights`: `keras_model.set_weights(interop.to_keras(model, keras_model))`.

    Raises:
        ValueError: If a weight is missing, surplus or of another shape, or a layer has no counterpart.
    """
    given = matching.given_of(_named(weights))
    written = matching.write(_slots(model, names, given), given)
    return [written[found.name] for found in given.values()]


def _slots(model: Any, names: Mapping[str, str] | None, given: matching.Given) -> list[matching.Slot]:
    slots = matching.slots_of(
        model,
        "Keras",
        LAYOUTS,
        lambda layer: matching.separate(layer, layer.short),
        names,
        lambda _, path: _short("/".join([*path, "{}"])),
    )
    slots = [_or_depthwise(slot) for slot in slots]
    if not any(re.search(r"(^|/)vars/\d+$", name) for name in given):
        return slots
    return [slot._replace(layouts=tuple(map(_numbered, slot.layouts))) for slot in slots]


def _or_depthwise(slot: matching.Slot) -> matching.Slot:
    """The slot; that of a depthwise convolution with the layout of `DepthwiseConv2D` too: `(*window, in, out / in)`."""
    layer = slot.layer
    if layer.kind != "conv" or layer.groups == 1 or layer.variables["kernel"][1].shape[-2] != 1:
        return slot
    kernel = moved(
        "kernel",
        "kernel",
        lambda a: a.reshape(*a.shape[:-2], 1, -1),
        lambda a: a.reshape(*a.shape[:-2], layer.groups, -1),
    )
    layout = Layout("Keras's depthwise convolution", (kernel, _bias)).of(layer.variables)
    return slot._replace(layouts=(*slot.layouts, layout))


def _named(weights: Any) -> Iterator[tuple[str, str, Any]]:
    if isinstance(weights, str | os.PathLike):
        yield from ((_short(name), name, array) for name, array in _read(os.fspath(weights)))
        return
    prefix = ""
    if not isinstance(weights, Mapping | Iterable):
        prefix, weights = f"{weights.name}/", weights.weights
    pairs = weights.items() if isinstance(weights, Mapping) else ((_path(each), each) for each in weights)
    yield from ((_short(path.removeprefix(prefix)), path, array) for path, array in pairs)


def _path(variable: Any) -> str:
    if not hasattr(variable, "path"):
        raise ValueError(
            f"weights: expected variables of Keras, which have a path, got a {type(variable).__name__}; give the "
            "model, or its weights and not get_weights()."
        )
    return str(variable.path)


def _short(name: str) -> str:
    """The path of a weight without the names of cells, and with the names of directions used here."""
    cell = r"/(?:(forward|backward)_[^/]+/)?(?:(?:lstm|gru|simple_rnn)_cell(?:_\d+)?|cell)/"
    name = re.sub(cell, lambda found: f"/{found[1]}/" if found[1] else "/", f"/{name}")
    return name.replace("/layers/", "/").removeprefix("/")


def _read(path: str) -> Iterator[tuple[str, np.ndarray]]:
    """The weights of a `.weights.h5` file, or of the one in a `.keras` file, without what training needs."""
    with extras.needed("interop.from_keras: h5py", "interop"):
        import h5py
    found: list[tuple[str, np.ndarray]] = []

    def visit(name: str, each: Any) -> None:
        if isinstance(each, h5py.Dataset) and not name.startswith("optimizer/") and "seed_generator" not in name:
            array = each[()]
            found.append((name, array.view(jnp.bfloat16) if array.dtype == "V2" else array))  # HDF5 has no bfloat16

    try:
        packed = zipfile.is_zipfile(path)
        with h5py.File(io.BytesIO(zipfile.ZipFile(path).read("model.weights.h5")) if packed else path) as file:
            if "model_weights" in file:
                raise ValueError(
                    f"weights: expected a file of Keras 3, got {path} in the format of Keras 2; load it in Keras and "
                    "give the model."
                )
            file.visititems(visit)
    except FileNotFoundError:
        raise
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"weights: expected a whole .weights.h5 or .keras file of Keras 3, got {path}, which is damaged or another "
            f"({error}); load it in Keras and give the model."
        ) from error
    yield from found
