"""The layers of a model that have parameters, each with its kind and its variables."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

from flax import nnx

from jaxnn import functional as F
from jaxnn import modules
from jaxnn.interop.weights import PASSING

KINDS: dict[type[nnx.Module], str] = {
    modules.Conv: "conv",
    modules.ConvTranspose: "conv_transpose",
    modules.Dense: "dense",
    nnx.Conv: "conv",
    nnx.Linear: "dense",
    nnx.Embed: "embedding",
    nnx.BatchNorm: "batch_norm",
    nnx.LayerNorm: "layer_norm",
    nnx.GroupNorm: "layer_norm",
    nnx.InstanceNorm: "layer_norm",
    nnx.RMSNorm: "rms_norm",
}
"""Layers by their class; recurrent cells are known by their parameters."""


class Layer(NamedTuple):
    """A layer of a model.

    Attributes:
        path: Attributes and indices that lead to the layer; to the whole stack for a recurrent layer.
        short: The path without `layers` of `nnx.Sequential`, which other frameworks do not name.
        variables: The variables by the layer's own names, and their names in the model.
        kind: A key of the frameworks' tables.
        groups: Number of groups of a convolution's channels.
        number: Which layer of a recurrent stack it is; None outside of one.
        direction: `forward`, `backward`, or empty if the layer goes one way.
    """

    path: tuple[str, ...]
    short: tuple[str, ...]
    variables: dict[str, tuple[str, nnx.Variable]]
    kind: str
    groups: int = 1
    number: int | None = None
    direction: str = ""


def layers_of(model: nnx.Module) -> Iterator[Layer]:
    """Finds every layer that has parameters or batch statistics.

    Args:
        model: The model.

    Yields:
        The layers, in Flax's order: by the names of attributes.

    Raises:
        ValueError: If a parameter belongs to no layer that has a kind.
    """
    nodes: dict[tuple[Any, ...], Any] = {
        path: node for path, node in nnx.iter_graph(model) if isinstance(node, nnx.Module | nnx.Variable)
    }
    owned: set[tuple[Any, ...]] = set()
    for path, node in nodes.items():
        kind = _kind(node) if isinstance(node, nnx.Module) else None
        if kind is None:
            continue
        cell = isinstance(node, modules.Cell)
        inside = (*path, "params") if cell else path
        held = {at[-1]: at for at, each in nodes.items() if at[:-1] == inside and isinstance(each, nnx.Variable)}
        owned.update(held.values())
        variables = {name: ("/".join(map(str, at)), nodes[at]) for name, at in held.items()}
        owner, number, direction = _place(path, nodes) if cell else (path, None, "")
        short = tuple(
            str(name)
            for i, name in enumerate(owner)
            if not (name == "layers" and isinstance(nodes.get(owner[:i]), nnx.Sequential))
        )
        groups = getattr(node, "feature_group_count", 1) if isinstance(node, nnx.Conv) else getattr(node, "groups", 1)
        yield Layer(tuple(map(str, owner)), short, variables, kind, groups, number, direction)
    for path, node in nodes.items():
        if isinstance(node, nnx.Variable) and not isinstance(node, PASSING) and path not in owned:
            holder = next(nodes[path[:size]] for size in reversed(range(len(path))) if path[:size] in nodes)
            raise ValueError(
                f"model: expected layers of kinds that are converted ({', '.join(_names())}), got the variable "
                f"{'/'.join(map(str, path))} of {type(holder).__name__}; convert the model's parts one by one."
            )


def _names() -> list[str]:
    ours = [each.__name__ for each in KINDS if each.__module__.startswith("jaxnn.")]
    flax = [f"nnx.{each.__name__}" for each in KINDS if not each.__module__.startswith("jaxnn.")]
    return [*ours, "RNN", "GRU", "LSTM", *flax]


def _kind(module: nnx.Module) -> str | None:
    if isinstance(module, modules.Cell):
        return _kind_of_cell(module)
    return next((kind for each, kind in KINDS.items() if isinstance(module, each)), None)


def _kind_of_cell(module: modules.Cell) -> str | None:
    """The kind of a cell: one of the classic three, without what no other framework has (heads, peepholes, ...)."""
    params = module.params
    if not isinstance(params, F.RNNParams | F.GRUParams | F.LSTMParams) or params.w_h.ndim != 2:
        return None
    if isinstance(params, F.RNNParams):
        return "rnn"
    if isinstance(params, F.GRUParams):
        step = module.cell.step
        after = not isinstance(step, functools.partial) or step.keywords.get("reset_after", True)
        return "gru" if after else "gru_reset_before"
    plain = params.gates == 4 and params.peephole is None and params.norm is None
    return "lstm" if plain else None


def _place(path: tuple[Any, ...], nodes: dict[tuple[Any, ...], Any]) -> tuple[tuple[Any, ...], int | None, str]:
    """The stack that a cell belongs to, its number and direction in it; the cell itself outside of a stack."""
    direction = path[-1] if path and path[-1] in ("forward", "backward") else ""
    at = path[:-1] if direction else path
    if len(at) >= 2 and at[-2] == "cells" and isinstance(nodes.get(at[:-2]), modules.Recurrent):
        return at[:-2], int(at[-1]), direction
    return path, None, ""
