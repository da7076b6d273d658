"""A whole state as one safetensors file, to keep or to send; runs are resumed from checkpoints instead."""

import os
from typing import Any, TypeVar

import jax
from flax import nnx

from jaxnn.files.tensors import path_name, read_about, read_tensors, shown, write_tensors
from jaxnn.train.step.expected import check_there
from jaxnn.train.step.state import TrainState

T = TypeVar("T")

_MODES = {"deterministic", "use_running_average"}
"""Attributes that `train` and `eval` set; they do not identify a model."""


def save(path: str | os.PathLike[str], state: Any) -> None:
    """Writes a state, or any pytree of arrays, as one safetensors file.

    `safetensors` alone can read the file. Names are paths in the state: `params/conv1/kernel`,
    `opt_state/0/mu/conv1/kernel`, `variables/...`, `step`, and `key` with the data of the random key; the metadata
    `keys` names the kind of each random key, and `static` holds the parts that are not arrays. To resume a run use
    `Checkpoints`, which also hold the position in the data and work with several processes.

    Args:
        path: The file to create or replace atomically; its name ends with `.safetensors`.
        state: A `TrainState`, of an ensemble too, or any pytree of arrays.

    Raises:
        ValueError: If the name has another ending, the state was donated, or it holds no arrays or one of a dtype
            that the format does not have.
        OSError: If the file cannot be written.

    Example:
        >>> import jax, optax
        >>> from flax import nnx
        >>> from safetensors.numpy import load_file
        >>> from jaxnn import train
        >>> model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        >>> state = train.create_state(model, optax.sgd(0.1, momentum=0.9), jax.random.key(0))
        >>> train.save("state.safetensors", state)
        >>> sorted(load_file("state.safetensors"))[:3]
        ['key', 'opt_state/0/trace/bias', 'opt_state/0/trace/kernel']
        >>> again = train.load("state.safetensors", state)
        >>> bool((again.params["kernel"] == state.params["kernel"]).all())
        True
    """
    check_there(state, "state")
    write_tensors(path, state, {"static": _static(state)})


def load(path: str | os.PathLike[str], state: T) -> T:
    """Reads a file that `save` wrote.

    Args:
        path: The file.
        state: A state like the one that was saved, made by `create_state` with the same model and optimiser: the file
            holds no code. Its arrays are not used, only their shardings.

    Returns:
        The state with the arrays of the file.

    Raises:
        ValueError: If the file is damaged, or of another model or optimiser: names, shapes or dtypes of arrays differ,
            or a part that is not an array.
        OSError: If it cannot be read.
    """
    about = read_about(path).get("static")
    before, now = about if isinstance(about, dict) else {}, _static(state)
    alone = "weights that interop.save_weights wrote are read with interop.load_weights"
    loaded = read_tensors(path, state, "the arrays of this state", None if before else alone)
    if differing := [
        f"{name} {now[name]!r}, not {before[name]!r}" for name in now if name in before and now[name] != before[name]
    ]:
        raise ValueError(
            f"path: expected a state of this model and optimiser, got {os.fspath(path)}, which should have "
            f"{shown(differing)}; build both as they were when it was saved."
        )
    return loaded


def _static(state: Any) -> dict[str, Any]:
    """The parts of a state that are not arrays, as values of JSON: the kinds of its nodes, and the model's attributes.

    Functions cannot be compared, and attributes come and go with releases of Flax and Optax: the names that two states
    share are compared.
    """
    static: dict[str, Any] = {}
    if isinstance(state, TrainState):
        static["ema_decay"] = state.ema_decay
        if state.graphdef is not None:
            model = nnx.merge(state.graphdef, state.all_params, state.variables)
            for path, node in nnx.iter_graph(model):
                hidden = any(str(part).startswith("_") for part in path) or (path and path[-1] in _MODES)
                if isinstance(node, nnx.Module):
                    static["/".join(["model", *map(str, path)])] = type(node).__qualname__
                elif not hidden and isinstance(node, bool | int | float | str):
                    static["/".join(["model", *map(str, path)])] = node
        state = state.opt_state
    _kinds(state, "opt_state" if static else "", static)
    return static


def _kinds(tree: Any, name: str, found: dict[str, Any]) -> None:
    """The classes of a pytree's nodes, except those of Python, by name."""
    children = jax.tree.leaves_with_path(tree, is_leaf=lambda node: node is not tree)
    if any(not at for at, _ in children):
        return  # an array
    if hasattr(tree, "_fields") or type(tree).__module__ != "builtins":
        found[name or "."] = type(tree).__qualname__
    for at, child in children:
        part = path_name(at)
        _kinds(child, f"{name}/{part}" if name else part, found)
