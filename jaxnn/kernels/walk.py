"""Walks: the work of a cell in each step, tile by tile, for the GPU kernel over all steps (`kernels.walk_gpu`).

A tile is `ROWS` units, as rows, by `COLUMNS` sequences. A walk defines the elementwise work of a step, and the products
with the recurrent weights in between. The kernel decides where tiles, weights and operands are stored.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

ROWS = 64
"""Units of a warpgroup: each of its four warps holds 16 rows of a product."""
COLUMNS = 8
"""Sequences of a tile: the columns of the tensor cores' smallest product. With 16 a step of an LSTM of 64 units took
0.82 microseconds, with 8 it takes 0.47, and tiles run beside each other (H200, bfloat16, as below)."""
MEMORY = 226 * 1024
"""Bytes of a block's shared memory on compute capability 9.0, without the barriers'."""
HELD = 128
"""Registers of a thread that hold weights. With none a step of 64 units took 0.70 microseconds, of 256 units 2.5; with
these 0.47 and 2.1."""
STAGES = 4
"""Number of steps whose inputs are prefetched: a read of device memory takes longer than a step."""
CLUSTER = 8
"""Largest number of blocks of a cluster that every such GPU supports."""

Arrays = tuple[jax.Array, ...]


class Walk(NamedTuple):
    """One direction of a recurrence.

    Attributes:
        products: Number of products of a step: `m[i] = sum_j w[i * operands + j] @ values[j]`.
        operands: Number of their operands, the first of `values`.
        parts: Number of arrays that each step reads.
        before: `(x, state) -> (values, rest)`: the arrays to multiply or write, and whatever else `after` needs. `x`
            are the parts, then the constants.
        after: `(x, state, rest, m) -> state`.
        writes: Number of arrays that each step writes: of the new state, or all `values`, in half precision.
        writes_state: Whether the new state is written.
    """

    products: int
    operands: int
    parts: int
    before: Callable[[Arrays, Arrays], tuple[Arrays, Arrays]]
    after: Callable[[Arrays, Arrays, Arrays, Arrays], Arrays]
    writes: int
    writes_state: bool


class Walks(NamedTuple):
    """The forward and backward walks of a cell of `kernels.recurrence`, whose other functions do the rest.

    Attributes:
        forward: The walk of the state. Its parts are those of `project`, and it has one product for each gate.
        constants: `(weights) -> arrays (hidden,)` that the forward steps also read.
        back: The walk of the cotangents. Its parts are the coefficients and the output's cotangent.
        coefficients: `(saved) -> arrays`: the coefficients, from what `step` saves.
        outside: `(written) -> e`: the cotangent of `outside`, from what `back` writes.
    """

    forward: Walk
    constants: Callable[[Any], Arrays]
    back: Walk
    coefficients: Callable[[Any], Arrays]
    outside: Callable[[list[jax.Array]], Any]


class Layout(NamedTuple):
    """The layout of a walk on the chip.

    Attributes:
        groups: Warpgroups of a block.
        blocks: Blocks of a cluster.
        held: Number of weight matrices in registers; the others are in shared memory.
        stages: Number of steps whose inputs are prefetched.
    """

    groups: int
    blocks: int
    held: int
    stages: int


def layout_of(walk: Walk, parts: int, hidden: int) -> Layout | None:
    """Chooses the layout of a walk; None if it does not fit.

    Args:
        walk: The walk.
        parts: Number of arrays that each step reads.
        hidden: Number of units, a multiple of `ROWS`.
    """
    warpgroups = hidden // ROWS
    groups, blocks = (warpgroups, 1) if warpgroups <= 2 else (1, warpgroups)
    matrices = walk.products * walk.operands
    held = min(matrices, 4 * HELD // hidden)
    weights = groups * (matrices - held) * ROWS * hidden * 2
    operands = 2 * COLUMNS * walk.operands * hidden * 2
    stages = min(STAGES, (MEMORY - weights - operands) // (groups * parts * ROWS * COLUMNS * 4))
    return Layout(groups, blocks, held, stages) if blocks <= CLUSTER and stages >= 2 else None


def fits(walks: Walks, units: int) -> bool:
    """Whether both directions fit on the chip, with masks."""
    return all(layout_of(walk, walk.parts + 1, padded(units)) is not None for walk in (walks.forward, walks.back))


def padded(units: int) -> int:
    """The number of units, padded to whole warpgroups."""
    return -(-units // ROWS) * ROWS


def tiled(array: jax.Array) -> jax.Array:
    """Transposes `(*time, batch, units)` to `(*time, tiles, hidden, COLUMNS)`, padded with zeros."""
    *time, batch, units = array.shape
    tiles, hidden = -(-batch // COLUMNS), padded(units)
    full = jnp.pad(array, [(0, 0)] * len(time) + [(0, tiles * COLUMNS - batch), (0, hidden - units)])
    return jnp.swapaxes(full.reshape(*time, tiles, COLUMNS, hidden), -1, -2)


def untiled(array: jax.Array, batch: int, units: int) -> jax.Array:
    """The inverse of `tiled`."""
    *time, tiles, hidden, _ = array.shape
    return jnp.swapaxes(array, -1, -2).reshape(*time, tiles * COLUMNS, hidden)[..., :batch, :units]


def logistic(a: jax.Array) -> jax.Array:
    """The sigmoid by tanh, which these GPUs compute in one instruction."""
    return 0.5 * jnp.tanh(0.5 * a) + 0.5


def state_is_operand(x: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
    """The `before` of a step whose only operand is the first array of the state."""
    return state[:1], ()
