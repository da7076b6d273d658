"""PyTorch's layouts, and the `state_dict`s of whole models. PyTorch itself is not imported.

Kernels are `(out, in, *window)`, those of transposed convolutions `(in, out, *window)`, matrices `(out, in)`. Recurrent
layers have two biases: ours is their sum, except for a GRU's candidate, whose biases stay separate. Written back, the
first is ours and the second is zero.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np

from jaxnn import functional as F
from jaxnn.interop import matching
from jaxnn.interop.layers import Layer
from jaxnn.interop.layout import Layout, Part, joined_biases, moved, same, split_biases, transposed
from jaxnn.interop.report import Report

T = TypeVar("T")


def _kernel(*ours: int) -> Part:
    """A kernel whose first two axes are at other places here."""
    to_ours = partial(np.moveaxis, source=(0, 1), destination=ours)
    return moved("kernel", "weight", to_ours, partial(np.moveaxis, source=ours, destination=(0, 1)))


_products = (
    moved("w_x", "weight_ih", transposed, transposed),
    moved("w_h", "weight_hh", transposed, transposed),
)
_biases = Part(("b",), ("bias_ih", "bias_hh"), lambda a, b: (a + b,), lambda b: (b, np.zeros_like(b)))

_bias = same("bias", "bias", optional=True)
_affine = (same("scale", "weight", optional=True), _bias)

conv = Layout("PyTorch's convolution", (_kernel(-1, -2), _bias))
conv_transpose = Layout("PyTorch's transposed convolution", (_kernel(-2, -1), _bias))
dense = Layout("PyTorch's Linear", (moved("kernel", "weight", transposed, transposed), _bias))
embedding = Layout("PyTorch's Embedding", (same("embedding", "weight"),))
batch_norm = Layout("PyTorch's BatchNorm", (*_affine, same("mean", "running_mean"), same("var", "running_var")))
layer_norm = Layout("PyTorch's LayerNorm", _affine)
rnn = Layout("PyTorch's RNN", (*_products, _biases), F.RNNParams)
gru = Layout(
    "PyTorch's GRU",
    (*_products, Part(("b", "b_hn"), ("bias_ih", "bias_hh"), split_biases, joined_biases)),
    F.GRUParams,
)
lstm = Layout(
    "PyTorch's LSTM",
    (*_products, _biases, moved("projection", "weight_hr", transposed, transposed, optional=True)),
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
    "rnn": (rnn,),
    "gru": (gru,),
    "lstm": (lstm,),
}


def from_torch(
    model: T,
    state_dict: Mapping[str, Any],
    names: Mapping[str, str] | None = None,
    *,
    flattened: Mapping[str, tuple[int, ...]] | None = None,
) -> tuple[T, Report]:
    """Loads a PyTorch model's weights.

    The names of layers are those of the attributes, `encoder.conv1.weight` for `model.encoder.conv1`; modules in
    `nnx.Sequential` have numbers, as in PyTorch's. Everything that is not a weight must be the same in both models:
    paddings, activations, and the `epsilon` of norms.

    Args:
        model: The module to take the structure from. It is not changed.
        state_dict: Weights by name, tensors or arrays. Floats are converted to the dtype of the model.
        names: For layers with other names there: maps the path of a layer in the model, joined by `/`, or a prefix of
            it, to the name there, for example `{"conv1": "features.0", "head": "classifier"}`.
        flattened: Dense layers that take flattened pictures or volumes, by path: the shape `(*spatial, channels)`
            before `modules.Flatten`. PyTorch flattens with the channels first, so rows of the kernel are permuted.

    Returns:
        A copy of the model with the weights, and a report of which weight went where.

    Raises:
        ValueError: If a weight is missing, surplus, of another shape or not an array, or a layer has no counterpart.

    Example:
        >>> import numpy as np
        >>> from flax import nnx
        >>> from jaxnn import interop, modules
        >>> net = nnx.Sequential(modules.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0)), modules.Flatten())
        >>> weights = {"features.weight": np.ones((2, 1, 3, 3)), "features.bias": np.zeros(2)}
        >>> net, report = interop.from_torch(net, weights, {"0": "features"})
        >>> net.layers[0].kernel.shape
        (3, 3, 1, 2)
    """
    if not isinstance(state_dict, Mapping):
        raise ValueError(
            f"state_dict: expected tensors or arrays by name, got a {type(state_dict).__name__}; give "
            "torch_model.state_dict(), or what torch.load or safetensors.numpy.load_file returns."
        )
    slots = _slots(model, names, flattened)
    given = matching.given_of(((name, name, array) for name, array in state_dict.items()), "state_dict")
    # Only PyTorch's average over all batches (momentum=None) reads the count.
    ignored = {slot.name("num_batches_tracked") for slot in slots if slot.layer.kind == "batch_norm"}
    return matching.read(model, slots, given, "state_dict", ignored)


def to_torch(
    model: Any,
    names: Mapping[str, str] | None = None,
    *,
    flattened: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, np.ndarray]:
    """Converts a model's weights to a PyTorch `state_dict`.

    Args:
        model: The module.
        names: As in `from_torch`.
        flattened: As in `from_torch`.

    Returns:
        Arrays by name. `torch_model.load_state_dict({name: torch.from_numpy(array) for name, array in ...})` loads and
        checks them.

    Raises:
        ValueError: If PyTorch lacks a kind of layer, or `names` or `flattened` does not fit the model.

    Example:
        >>> from flax import nnx
        >>> from jaxnn import interop, modules
        >>> weights = interop.to_torch(modules.GRU(3, 5, bidirectional=True, rngs=nnx.Rngs(0)), {"": "rnn"})
        >>> weights["rnn.weight_ih_l0_reverse"].shape
        (15, 3)
    """
    return {
        slot.name(name): np.array(array, order="C")  # own memory: the caller may write to it
        for slot in _slots(model, names, flattened)
        for name, array in slot.layouts[0].written(matching.values_of(slot.layer))
    }


def _slots(
    model: Any, names: Mapping[str, str] | None, flattened: Mapping[str, tuple[int, ...]] | None
) -> list[matching.Slot]:
    slots = matching.slots_of(model, "PyTorch", LAYOUTS, lambda layer: layer.short, names, _join)
    flattened = flattened or {}
    rows = {
        "/".join(slot.layer.short): slot.layer.variables["kernel"][1].shape[0]
        for slot in slots
        if slot.layer.kind == "dense"
    }
    for name, shape in flattened.items():
        if rows.get(name) != np.prod(shape):
            sizes = ", ".join(f"{path!r} of {size}" for path, size in rows.items())
            raise ValueError(
                f"flattened: expected dense layers ({sizes or 'none in this model'}) and shapes of as many values, got "
                f"{name!r} and {tuple(shape)}; give (*spatial, channels)."
            )

    def permuted(slot: matching.Slot) -> matching.Slot:
        shape = flattened.get("/".join(slot.layer.short))
        return slot if shape is None else slot._replace(layouts=(_after(tuple(shape), slot.layouts[0]),))

    return list(map(permuted, slots))


def _after(shape: tuple[int, ...], layout: Layout) -> Layout:
    """The layout of a dense layer whose rows are flattened features, with the channels first there."""
    first = (shape[-1], *shape[:-1])

    def from_rows(a: np.ndarray) -> np.ndarray:
        return np.moveaxis(transposed(a).reshape(*first, -1), 0, len(shape) - 1).reshape(a.shape[1], -1)

    def to_rows(a: np.ndarray) -> np.ndarray:
        return transposed(np.moveaxis(a.reshape(*shape, -1), len(shape) - 1, 0).reshape(a.shape))

    return Layout(layout.name, (moved("kernel", "weight", from_rows, to_rows), *layout.parts[1:]))


def _join(layer: Layer, path: list[str]) -> str:
    suffix = "" if layer.number is None else f"_l{layer.number}" + ("_reverse" if layer.direction == "backward" else "")
    return ".".join([*path, "{}" + suffix])
