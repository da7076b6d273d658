"""The parameters of a model as a table, one line per layer."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn.inspect.memory import readable


def summary(model: Any) -> str:
    """Formats the parameters of a model as a table: names, shapes, dtypes, counts and bytes by layer.

    Args:
        model: A `flax.nnx.Module`, of which the `nnx.Param`s count; or any pytree of arrays: a functional model's
            parameters, `all_params` of a `TrainState`, or their shapes (`jax.eval_shape`).

    Returns:
        The lines, in the order in which JAX flattens the parameters; the last one is the total.

    Raises:
        ValueError: If there are no parameters.

    Example:
        >>> from flax import nnx
        >>> from jaxnn import inspect, models, train
        >>> print(inspect.summary(models.LeNet((8, 8, 1), rngs=nnx.Rngs(0))))
        layer   parameters                         dtype      count      bytes
        conv1   kernel (3, 3, 1, 32), bias (32,)   float32      320    1.2 KiB
        conv2   kernel (3, 3, 32, 64), bias (64,)  float32   18,496   72.2 KiB
        dense1  kernel (256, 512), bias (512,)     float32  131,584  514.0 KiB
        dense2  kernel (512, 10), bias (10,)       float32    5,130   20.0 KiB
        total                                               155,530  607.5 KiB
    """
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param)) if isinstance(model, nnx.Module) else model
    layers: dict[str, list[tuple[str, Any]]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not hasattr(leaf, "dtype") or jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            raise ValueError(
                f"model: expected a flax.nnx.Module or parameters, arrays of numbers, got {type(model).__name__} with "
                f"{_name(path)} as {type(leaf).__name__}; of a train state give state.all_params."
            )
        layers.setdefault(_name(path[:-1]), []).append((_name(path[-1:]), leaf))
    if not layers:
        raise ValueError("model: expected parameters to list, got none")
    rows = [["layer", "parameters", "dtype", "count", "bytes"]]
    for layer, arrays in layers.items():
        arrays = sorted(arrays, key=lambda array: -len(array[1].shape))  # the kernel before its bias
        shapes = ", ".join(f"{name} {tuple(array.shape)}" for name, array in arrays)
        dtypes = ", ".join(dict.fromkeys(str(array.dtype) for _, array in arrays))
        rows.append([layer, shapes, dtypes, *_size([array for _, array in arrays])])
    rows.append(["total", "", "", *_size(jax.tree.leaves(params))])
    return aligned(rows, "lllrr")


def _name(path: Sequence[Any]) -> str:
    return jax.tree_util.keystr(tuple(path), simple=True, separator=".")


def _size(arrays: Sequence[Any]) -> list[str]:
    counts = [math.prod(array.shape) for array in arrays]
    size = sum(n * jnp.dtype(array.dtype).itemsize for n, array in zip(counts, arrays, strict=True))
    return [f"{sum(counts):,}", readable(size)]


def aligned(rows: Sequence[Sequence[str]], sides: str) -> str:
    """Formats rows of cells as lines with aligned columns; `sides` is l or r for each.

    Example:
        >>> from jaxnn.inspect.summary import aligned
        >>> print(aligned([["weights", "5"], ["bias", "10"]], "lr"))
        weights   5
        bias     10
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(row, widths, sides, strict=True)
        ).rstrip()
        for row in rows
    )
