"""The structured Jacobian of a step (`Cell.jacobian`), computed by Jacobian-vector products.

A state is converted to `groups`, the form that `linear_recurrence` takes: arrays `(time, *batch, ...)` of elements that
act on themselves alone, or one array `(time, n, *batch, ...)` of blocks, whose elements are along axis 1.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.functional.recurrent.cell import Blocks, NotServedError, State
from jaxnn.kernels.accumulate import accumulator, widened
from jaxnn.kernels.platform import varying_as

Groups = list[jax.Array]


def check_structure(name: str, structure: Any) -> None:
    """Raises unless a structure of the Jacobian is valid."""
    if structure != "diagonal" and not (isinstance(structure, Blocks) and structure.size >= 1):
        raise ValueError(f"{name}: expected 'diagonal' or Blocks(n) with n of at least 1, got {structure!r}")


def check_state(structure: Any, state: State, leading: int) -> None:
    """Raises `NotServedError` if a state `(*batch, ...)` with `leading` batch axes has no such blocks."""
    leaves = jax.tree.leaves(state)
    if not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        dtypes = ", ".join(str(leaf.dtype) for leaf in leaves)
        raise NotServedError(f"no support for a state of {dtypes}, only for real floats")
    if structure == "diagonal":
        return
    shapes = [leaf.shape for leaf in leaves]
    together = len(leaves) == structure.size and len(set(shapes)) == 1
    neighbours = len(leaves) == 1 and leaves[0].ndim > leading and shapes[0][-1] % structure.size == 0
    if not together and not neighbours:
        raise NotServedError(
            f"no support for Blocks({structure.size}) in a state of {len(leaves)} arrays of shapes {shapes}: expected "
            f"{structure.size} arrays of one shape, or one array whose last axis is a multiple of {structure.size}"
        )


def groups(structure: Any, state: State) -> Groups:
    """The arrays of a state `(time, *batch, ...)` as groups, in at least float32."""
    leaves = jax.tree.leaves(state)
    if structure == "diagonal":
        return [widened(leaf) for leaf in leaves]
    if len(leaves) > 1:
        dtype = max((accumulator(leaf.dtype) for leaf in leaves), key=lambda dtype: dtype.itemsize)
        return [jnp.stack([leaf.astype(dtype) for leaf in leaves], axis=1)]
    split = widened(leaves[0]).reshape(*leaves[0].shape[:-1], -1, structure.size)
    return [jnp.moveaxis(split, -1, 1)]


def ungrouped(structure: Any, arrays: Groups, like: State) -> State:
    """Groups as a state with the shapes and dtypes of another."""
    leaves, tree = jax.tree.flatten(like)
    if structure != "diagonal":
        (blocks,) = arrays
        arrays = [blocks[:, i] for i in range(len(leaves))] if len(leaves) > 1 else [jnp.moveaxis(blocks, 1, -1)]
    return jax.tree.unflatten(
        tree, [array.reshape(leaf.shape).astype(leaf.dtype) for array, leaf in zip(arrays, leaves, strict=True)]
    )


def coefficients(structure: Any, push: Callable[[State], State], state: State) -> Groups:
    """Computes the Jacobian of every step, given its structure, by one product for each row of a block.

    Args:
        structure: `"diagonal"` or `Blocks(n)`.
        push: `tangent -> tangent`: the product of the Jacobian with trees like `state`.
        state: The states before every step, `(time, *batch, ...)`.

    Returns:
        The coefficients as `linear_recurrence` takes them.
    """
    like = groups(structure, state)

    def column(number: int | None) -> Groups:
        probe = [filled(group, float(number is None)) for group in like]
        if number is not None:
            probe = [group.at[:, number].set(1) for group in probe]
        return groups(structure, push(ungrouped(structure, probe, state)))

    if structure == "diagonal":
        return column(None)
    columns = [column(number)[0] for number in range(structure.size)]
    return [jnp.stack(columns, axis=2)]


def part_of(structure: Any, push: Callable[[State], State], state: State, leading: int) -> Groups:
    """Computes the diagonal or the blocks of any Jacobian, by one product for each element of the state.

    Args:
        structure: As in `coefficients`.
        push: As there.
        state: As there.
        leading: Number of axes of time and batch.

    Returns:
        As there.
    """
    like = groups(structure, state)
    axes = leading + (structure != "diagonal")

    def of_group(at: int) -> jax.Array:
        group = like[at]
        features = group.shape[axes:]
        count = math.prod(features)

        def column(position: jax.Array, number: int | None = None) -> jax.Array:
            chosen = (jnp.arange(count) == position).reshape((1,) * axes + features).astype(group.dtype)
            probe = [filled(other, 0.0) for other in like]
            probe[at] = filled(group, 1.0) * chosen if number is None else probe[at].at[:, number].set(1) * chosen
            out = groups(structure, push(ungrouped(structure, probe, state)))[at]
            flat = out.reshape(*out.shape[:axes], count)
            return jax.lax.dynamic_index_in_dim(flat, position, axis=axes, keepdims=False)

        def columns(position: jax.Array) -> jax.Array:
            if structure == "diagonal":
                return column(position)
            return jnp.stack([column(position, number) for number in range(structure.size)], axis=2)

        # One position after another: all at once would need the memory of the whole Jacobian.
        found = jnp.moveaxis(jax.lax.map(columns, jnp.arange(count)), 0, -1)
        return found.reshape(*found.shape[:-1], *features)

    return [of_group(at) for at in range(len(like))]


def filled(like: jax.Array, value: float) -> jax.Array:
    """An array of one value, which varies over the same axes as `like` inside `shard_map`."""
    return varying_as(like, jnp.full_like(like, value))
