"""A walk over all time steps as one launch of a GPU kernel, for recurrent weights that fit on the chip.

A scan launches several kernels a step, and each reads the recurrent weights again. Here a block of threads (from 192
units on a cluster of blocks) takes eight sequences through all steps: the weights stay in its registers and shared
memory, the state in registers, and only a step's operands, eight columns in half precision, are exchanged between
threads and blocks. The steps' inputs are fetched a few steps ahead.

Every array is turned over, units as rows and sequences as columns: then eight sequences fill the tensor cores' smallest
tile, 16 by 8. The kernel is written in Pallas for Mosaic GPU, whose interface changes between versions of JAX:
`lacking` says what the installed one lacks.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

ROWS = 64
"""Units of a warpgroup: its four warps hold 16 rows of a product each."""
COLUMNS = 8
"""Sequences of a tile."""
MEMORY = 226 * 1024
"""Bytes of a block's shared memory on compute capability 9.0, less 4 KiB for barriers and alignment."""
HELD = 128
"""Registers of a thread that hold weights."""
STAGES = 4
"""Steps whose inputs are on their way: reading the device's memory takes longer than a step."""
CLUSTER = 8
"""Largest number of blocks of a cluster that every such GPU can place."""

# What JAX must have: functions of `jax.experimental.pallas.mosaic_gpu`, and parameters of theirs.
_NEEDED = {
    "kernel": ("out_type", "scratch_types", "num_threads", "cluster", "interpret"),
    "load": ("layout", "optimized"),
    "async_store_smem": ("cluster_idx", "cluster_dim"),
    "mma": (),
    "copy_gmem_to_smem": (),
    "layout_cast": (),
    "commit_smem": (),
    "InterpretGPUParams": ("detect_races",),
}


class Walk(NamedTuple):
    """What a walk does in each step, elementwise, to a tile of units and sequences.

    Attributes:
        products: Number of products of a step: `m[i] = sum_j w[i * operands + j] @ values[j]`.
        operands: Number of their operands, the first of `values`.
        before: `(x, state) -> (values, rest)`: what is multiplied or written, and what else `after` needs. `x` are the
            parts of the step, then the constants.
        after: `(x, state, rest, m) -> state`.
        writes_state: Whether the new state is what a step writes, otherwise `values`, in half precision.
    """

    products: int
    operands: int
    before: Callable[..., tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]]
    after: Callable[..., tuple[jax.Array, ...]]
    writes_state: bool


class Layout(NamedTuple):
    """How a walk lies on the chip.

    Attributes:
        groups: Warpgroups of a block.
        blocks: Blocks of a cluster.
        held: How many of the weights' matrices lie in registers; the others are in shared memory.
        stages: Steps whose inputs are on their way.
    """

    groups: int
    blocks: int
    held: int
    stages: int


def layout_of(walk: Walk, parts: int, hidden: int) -> Layout | None:
    """Lays a walk out; None if it does not fit.

    Args:
        walk: The walk.
        parts: Number of arrays that it reads in each step.
        hidden: Number of units, a multiple of `ROWS`.
    """
    warpgroups = hidden // ROWS
    groups, blocks = (warpgroups, 1) if warpgroups <= 2 else (1, warpgroups)
    matrices = walk.products * walk.operands
    held = min(matrices, 4 * HELD // hidden)
    weights = groups * (matrices - held) * ROWS * hidden * 2
    buffer = 2 * COLUMNS * walk.operands * hidden * 2
    stages = min(STAGES, (MEMORY - weights - buffer) // (groups * parts * ROWS * COLUMNS * 4))
    return Layout(groups, blocks, held, stages) if blocks <= CLUSTER and stages >= 2 else None


@functools.cache
def lacking() -> str | None:
    """What the installed JAX lacks; None if it has all that the kernel needs."""
    try:
        from jax.experimental.pallas import mosaic_gpu
    except ImportError:
        return "jax.experimental.pallas.mosaic_gpu"
    for name, parameters in _NEEDED.items():
        if not hasattr(mosaic_gpu, name):
            return f"mosaic_gpu.{name}"
        for parameter in parameters:
            if parameter not in inspect.signature(getattr(mosaic_gpu, name)).parameters:
                return f"mosaic_gpu.{name}({parameter}=)"
    return None


def tiled(array: jax.Array, hidden: int) -> jax.Array:
    """`(*time, batch, units)` as the kernel reads it: `(*time, tiles, hidden, COLUMNS)`, filled up with zeros."""
    *time, batch, units = array.shape
    tiles = -(-batch // COLUMNS)
    full = jnp.pad(array, [(0, 0)] * len(time) + [(0, tiles * COLUMNS - batch), (0, hidden - units)])
    return jnp.swapaxes(full.reshape(*time, tiles, COLUMNS, hidden), -1, -2)


def untiled(array: jax.Array, batch: int, units: int) -> jax.Array:
    """The inverse of `tiled`."""
    *time, tiles, hidden, _ = array.shape
    return jnp.swapaxes(array, -1, -2).reshape(*time, tiles * COLUMNS, hidden)[..., :batch, :units]


def walk_over(
    walk: Walk,
    weights: jax.Array,
    stream: jax.Array,
    constants: tuple[jax.Array, ...],
    state: tuple[jax.Array, ...],
    *,
    writes: int,
    masked: bool,
    reverse: bool,
    interpret: bool,
) -> tuple[list[jax.Array], list[jax.Array]]:
    """Runs a walk. Arrays are `tiled`.

    Args:
        walk: The walk.
        weights: `(products * operands, hidden, hidden)`, in half precision.
        stream: `(time, tiles, parts, hidden, COLUMNS)`, float32: what the steps read.
        constants: Arrays `(tiles, hidden, COLUMNS)` that all steps read, float32.
        state: Arrays `(tiles, hidden, COLUMNS)`: the state before the first step.
        writes: How many of the arrays that a step can write are wanted.
        masked: Whether the last part is 1 for the elements that count, otherwise 0: there the state stays, and values
            are zero.
        reverse: Whether to begin at the last step.
        interpret: Whether to run in Python on CPU, looking for races; `jnp.dot` stands for the tensor cores there.

    Returns:
        What the steps wrote, `(time, tiles, hidden, COLUMNS)`, and the last state.
    """
    import jax.experimental.pallas as pl
    import jax.experimental.pallas.mosaic_gpu as gpu

    time, tiles, parts, hidden, _ = stream.shape
    dtype, matrices = weights.dtype, len(weights)
    layout = layout_of(walk, parts, hidden)
    assert layout is not None
    groups, blocks, held, stages = layout
    tile = (ROWS, COLUMNS)
    of_result, of_left, of_right = gpu.Layout.MMA_ACC(dtype), gpu.Layout.MMA_LHS(dtype), gpu.Layout.MMA_RHS(dtype)
    read = functools.partial(gpu.load, optimized=False)
    # In shared memory a warpgroup's operands lie beside each other, so the weights' columns follow that order.
    groups_of_columns = weights.reshape(walk.products, walk.operands, hidden, hidden // ROWS, ROWS)
    weights = jnp.moveaxis(groups_of_columns, 1, 3).reshape(walk.products, hidden, walk.operands, hidden)
    weights = jnp.moveaxis(weights, 2, 1).reshape(matrices, hidden, hidden)

    def body(*refs: Any) -> None:
        refs = iter(refs)

        def some(count: int) -> list[Any]:
            return [next(refs) for _ in range(count)]

        stream_ref, weights_ref = some(2)
        constant_refs, state_refs, written_refs, last_refs = map(some, (len(constants), len(state), writes, len(state)))
        ring, arrived, operands_ref, exchanged, *in_memory = refs
        group, at = jax.lax.axis_index("group"), jax.lax.axis_index("tile")
        block = jax.lax.axis_index("block")
        first = (block * groups + group) * ROWS
        units = pl.ds(first, ROWS)

        def position(s: Any) -> Any:
            return time - 1 - s if reverse else s

        def fetch(s: Any, stage: Any) -> None:
            source = stream_ref.at[position(s), at, :, units, :]
            gpu.copy_gmem_to_smem(source, ring.at[group, stage], arrived.at[group * stages + stage])

        def exchange(operands: tuple[jax.Array, ...], half: Any) -> None:
            count = len(operands) * ROWS
            mine = operands_ref.at[half, :, pl.ds(first * len(operands), count)].transpose((1, 0))
            whole = jnp.concatenate(operands)
            if blocks == 1:
                mine[...] = whole
                gpu.commit_smem()
                if groups > 1:
                    gpu.barrier_arrive(exchanged.at[half])
                    gpu.barrier_wait(exchanged.at[half])
                return
            # Units are neighbours in memory, so a thread sends pairs of them.
            pairs = gpu.layout_cast(whole, gpu.Layout.WGMMA_TRANSPOSED)
            for k in range(blocks):
                peer = jax.lax.rem(block + k, blocks)
                gpu.async_store_smem(
                    pairs, mine, exchanged.at[half], cluster_idx=peer, cluster_dim="block", optimized=False
                )
            gpu.barrier_wait(exchanged.at[half])
            gpu.commit_smem()

        def product(i: int, half: Any) -> jax.Array:
            total = gpu.layout_cast(jnp.zeros(tile, jnp.float32), of_result)
            for j in range(walk.operands):
                k = i * walk.operands + j
                a = in_registers[k] if k < held else read(in_memory[0].at[group, k - held], layout=of_left)
                b = read(operands_ref.at[half, :, pl.ds(j * hidden, hidden)].transpose((1, 0)), layout=of_right)
                if interpret:
                    total = total + jnp.dot(a, b, preferred_element_type=jnp.float32)
                else:
                    total = gpu.mma(total, a, b)
            return total

        def step(s: Any, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            # The halves of the buffer take turns: nobody writes to one before all have read what it held two steps ago,
            # as nobody gets past a step before all have sent their operands.
            half, stage = jax.lax.rem(s, jnp.int32(2)), jax.lax.rem(s, jnp.int32(stages))
            gpu.barrier_wait(arrived.at[group * stages + stage])
            x = [read(ring.at[group, stage, k], layout=of_result) for k in range(parts)]
            counts = x.pop() > 0 if masked else None
            values, rest = walk.before((*x, *fixed), carry)
            if counts is not None:
                values = tuple(jnp.where(counts, a, jnp.zeros_like(a)) for a in values)
            values = tuple(a.astype(dtype) for a in values)
            exchange(values[: walk.operands], half)
            pl.when(s + stages < time)(lambda: fetch(s + stages, stage))
            new = walk.after((*x, *fixed), carry, rest, [product(i, half) for i in range(walk.products)])
            if counts is not None:
                new = tuple(jnp.where(counts, a, b) for a, b in zip(new, carry, strict=True))
            for ref, array in zip(written_refs, new if walk.writes_state else values, strict=False):
                ref[position(s), at, units, :] = array
            return new

        for s in range(min(stages, time)):
            fetch(s, s)
        in_registers = [read(weights_ref.at[k, units, :], layout=of_left) for k in range(held)]
        fixed = [read(ref.at[at, units, :], layout=of_result) for ref in constant_refs]
        if held < matrices:
            for k in range(held, matrices):
                gpu.copy_gmem_to_smem(weights_ref.at[k, units, :], in_memory[0].at[group, k - held], in_memory[1].at[group])
            gpu.barrier_wait(in_memory[1].at[group])
        start = tuple(read(ref.at[at, units, :], layout=of_result) for ref in state_refs)
        last = jax.lax.fori_loop(jnp.int32(0), jnp.int32(time), step, start)
        for ref, array in zip(last_refs, last, strict=True):
            ref[at, units, :] = array

    swizzled = (gpu.TilingTransform((8, ROWS)), gpu.SwizzleTransform(128))
    # On a cluster's barrier one thread arrives for its warpgroup, on others all 128 do, one after another.
    local = gpu.ClusterBarrier(collective_axes=("block",), num_arrivals=groups, num_barriers=2)
    scratch = [
        gpu.SMEM((groups, stages, parts, *tile), jnp.float32),
        gpu.Barrier(num_barriers=groups * stages),
        gpu.SMEM((2, COLUMNS, walk.operands * hidden), dtype, transforms=swizzled),
        local if blocks == 1 else gpu.Barrier(num_arrivals=blocks, num_barriers=2),
    ]
    if held < matrices:
        scratch.append(gpu.SMEM((groups, matrices - held, ROWS, hidden), dtype, transforms=swizzled))
        scratch.append(gpu.Barrier(num_arrivals=matrices - held, num_barriers=groups))
    written = [a.dtype for a in state] if walk.writes_state else [dtype] * writes
    shape = (time, tiles, hidden, COLUMNS)
    outputs = [jax.ShapeDtypeStruct(shape, written[k]) for k in range(writes)]
    outputs += [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in state]
    options = {"interpret": gpu.InterpretGPUParams(detect_races=True)} if interpret else {}
    semantics = gpu.LoweringSemantics.Warpgroup
    call = gpu.kernel(
        body,
        out_type=outputs,
        scratch_types=scratch,
        grid=(tiles,),
        grid_names=("tile",),
        cluster=(blocks,),
        cluster_names=("block",),
        num_threads=groups,
        thread_name="group",
        # Barriers stand where they are needed; those that Pallas would add to every access cost 5 % of the time.
        compiler_params=gpu.CompilerParams(approx_math=True, unsafe_no_auto_barriers=True, lowering_semantics=semantics),
        **options,
    )
    out = call(stream, weights, *constants, *state)
    return out[:writes], out[writes:]
