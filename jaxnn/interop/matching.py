"""Matches the weights of another framework to the arrays of a model: either all are loaded, or none."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnn.files.tensors import described, shown
from jaxnn.interop.layers import Layer, layers_of
from jaxnn.interop.layout import Layout, to_numpy
from jaxnn.interop.report import Report, Row

T = TypeVar("T")


class Slot(NamedTuple):
    """A layer of a model and its arrays in another framework.

    Attributes:
        layer: The layer.
        layouts: Its possible layouts in the other framework, for the parameters that the layer has.
        pattern: The names there, with `{}` for a name of a layout.
    """

    layer: Layer
    layouts: tuple[Layout, ...]
    pattern: str

    def name(self, theirs: str) -> str:
        """The full name of an array there."""
        return self.pattern.replace("{}", theirs)

    def expected(self, layout: Layout) -> dict[str, tuple[int, ...]]:
        """The shape of each array there."""
        zeros = {name: np.zeros(v.shape, np.float32) for name, (_, v) in self.layer.variables.items()}
        return {self.name(theirs): array.shape for theirs, array in layout.written(zeros)}


class Found(NamedTuple):
    """A weight of another framework.

    Attributes:
        name: Its name there.
        array: The weight.
        described: Its dtype and shape there.
    """

    name: str
    array: np.ndarray
    described: str


Given = Mapping[str, Found]
"""Weights by the names that slots use."""


def slots_of(
    model: Any,
    framework: str,
    table: Mapping[str, tuple[Layout, ...]],
    path_of: Callable[[Layer], tuple[str, ...]],
    names: Mapping[str, str] | None,
    join: Callable[[Layer, list[str]], str],
) -> list[Slot]:
    """Finds the layers of a model and names their arrays in another framework.

    Args:
        model: The model.
        framework: The framework's name, for errors.
        table: The layouts of each kind of layer.
        path_of: The path of a layer that `names` may rename.
        names: The name there of each renamed path or prefix of a path, joined by `/`.
        join: Makes the pattern of a slot from the layer and the path there.

    Returns:
        One slot per layer.

    Raises:
        ValueError: If the model is no module, the framework lacks a kind of layer, or `names` names no layer, or two
            alike.
    """
    if not isinstance(model, nnx.Module):
        raise ValueError(
            f"model: expected a flax.nnx.Module, got {type(model).__name__}; parameters alone are read by a layout: "
            "interop.torch.lstm.read, for example."
        )
    names = names or {}
    slots, paths = [], []
    for layer in layers_of(model):
        if layer.kind not in table:
            raise ValueError(
                f"model: expected layers that {framework} has, got {layer.kind} at {'/'.join(layer.path)}; build it "
                "another way."
            )
        path = path_of(layer)
        paths.append("/".join(path))
        layouts = tuple(layout.of(layer.variables) for layout in table[layer.kind])
        slots.append(Slot(layer, layouts, join(layer, _renamed(path, names))))
    _check_apart(slots)
    if unknown := [key for key in names if key and not any(f"{path}/".startswith(f"{key}/") for path in paths)]:
        raise ValueError(
            f"names: expected paths of layers of this model, {', '.join(map(repr, paths))}, or their beginnings, got "
            f"{', '.join(map(repr, unknown))}; the model's names are the keys."
        )
    return slots


def read(
    model: T, slots: list[Slot], given: Given, argument: str = "weights", ignored: Collection[str] = ()
) -> tuple[T, Report]:
    """Loads weights into a copy of a model.

    Args:
        model: The model that the slots are of; it is not changed.
        slots: Its layers.
        given: The weights.
        argument: What the weights are called in an error.
        ignored: Names of weights there that no layer needs.

    Returns:
        The copy, and the report.

    Raises:
        ValueError: If a weight is missing, surplus, or of another shape or kind.
    """
    chosen = _matched(slots, given, argument, ignored)
    rows, arrays = [], {}
    for slot, layout in chosen:
        for part in layout.parts:
            theirs = [given[slot.name(name)] for name in part.theirs]
            values = part.read(*(each.array for each in theirs))
            for name, value in zip(part.ours, values, strict=True):
                path, variable = slot.layer.variables[name]
                arrays[path] = jnp.asarray(value.astype(variable.dtype))
            ours = [slot.layer.variables[name] for name in part.ours]
            rows.append(
                Row(
                    tuple((each.name, each.described) for each in theirs),
                    tuple((path, described(variable)) for path, variable in ours),
                )
            )
    copy: Any = nnx.clone(model)
    for layer in layers_of(copy):
        for path, variable in layer.variables.values():
            variable.set_value(arrays[path])
    unused = tuple(found.name for name, found in given.items() if name in ignored)
    return copy, Report(tuple(rows), unused)


def write(slots: list[Slot], given: Given) -> dict[str, np.ndarray]:
    """Converts the weights of a model to those of another that is given.

    Args:
        slots: The layers of the model.
        given: The weights of the other, for their names and shapes.

    Returns:
        Arrays by their names there.

    Raises:
        ValueError: If a weight is missing, surplus, or of another shape or kind.
    """
    written = {}
    for slot, layout in _matched(slots, given, "weights", ()):
        for name, array in layout.written(values_of(slot.layer)):
            found = given[slot.name(name)]
            written[found.name] = array.astype(found.array.dtype)
    return written


def _check_apart(slots: list[Slot]) -> None:
    """Raises if two layers have one name there: one would be written over the other."""
    seen: dict[str, Layer] = {}
    for slot in slots:
        other = seen.setdefault(slot.pattern, slot.layer)
        if other is not slot.layer:
            raise ValueError(
                f"names: expected another name for each layer, got {slot.name('...')} for {'/'.join(other.path)} and "
                f"{'/'.join(slot.layer.path)}; rename one."
            )


def values_of(layer: Layer) -> dict[str, np.ndarray]:
    """The arrays of a layer by its own names."""
    return {name: np.asarray(variable[...]) for name, (_, variable) in layer.variables.items()}


def given_of(named: Iterable[tuple[str, str, Any]], argument: str = "weights") -> Given:
    """Weights by the names that slots use.

    Args:
        named: The name that slots use, the name there, and the weight, for each.
        argument: What the weights are called in an error.

    Returns:
        The weights.

    Raises:
        ValueError: If two have the same name, or one is not an array.
    """
    given: dict[str, Found] = {}
    for name, theirs, weight in named:
        if name in given:
            raise ValueError(
                f"{argument}: expected different layers, got {theirs} beside {given[name].name}; name the layers."
            )
        array = to_numpy(weight)
        if not hasattr(weight, "dtype") or array.dtype == object:
            raise ValueError(
                f"{argument}: expected arrays by name, got {theirs or argument} of type {type(weight).__name__}; give "
                "the weights alone, without what else a checkpoint holds."
            )
        given[name] = Found(theirs, array, described(weight))
    return given


def separate(layer: Layer, path: tuple[str, ...]) -> tuple[str, ...]:
    """A layer's path where each layer of a recurrent stack has a separate one: `rnn`, `rnn_1`, `rnn_1/forward`."""
    if layer.number:
        path = (*path[:-1], f"{path[-1]}_{layer.number}") if path else (str(layer.number),)
    return (*path, layer.direction) if layer.direction else path


def _renamed(path: tuple[str, ...], names: Mapping[str, str]) -> list[str]:
    """A path whose longest prefix in `names` is replaced by the name there."""
    for size in range(len(path), -1, -1):
        if (name := names.get("/".join(path[:size]))) is not None:
            return [*([name] if name else []), *path[size:]]
    return [*path]


def _matched(slots: list[Slot], given: Given, argument: str, ignored: Collection[str]) -> list[tuple[Slot, Layout]]:
    """The layout of each layer; raises if the weights are not those of the layers, all faults in one error."""
    chosen = [(slot, _layout(slot, given)) for slot in slots]
    missing, wrong, taken = [], [], set(ignored)
    for slot, layout in chosen:
        for name, shape in slot.expected(layout).items():
            taken.add(name)
            if name not in given:
                missing.append(f"no {name} {list(shape)} for {'/'.join(slot.layer.path) or 'the model'}")
                continue
            array = given[name].array
            if array.shape != shape:
                wrong.append(f"{given[name].name} of shape {list(array.shape)}, not {list(shape)}")
            elif not jnp.issubdtype(array.dtype, jnp.floating):
                wrong.append(f"{given[name].name} of dtype {array.dtype}, not floats")
    surplus = [
        f"{found.name} {list(found.array.shape)}, which no layer takes"
        for name, found in given.items()
        if name not in taken
    ]
    if missing or surplus or wrong:
        raise ValueError(
            f"{argument}: expected one weight for each of this model's, got "
            f"{'; '.join(shown(each) for each in (missing, surplus, wrong) if each)}; say which layer is which with "
            "names={'ours': 'theirs'}, and leave out what the model does not have."
        )
    return chosen


def _layout(slot: Slot, given: Given) -> Layout:
    """The layout with the most weights among those given, by name, then by shape; the first of several."""

    def share(layout: Layout) -> tuple[float, int]:
        found = {name: given[name].array.shape for name in map(slot.name, layout.theirs) if name in given}
        shaped = sum(found.get(name) == shape for name, shape in slot.expected(layout).items())
        return len(found) / len(layout.theirs) if layout.theirs else math.inf, shaped

    return max(slot.layouts, key=share)
