"""A walk over all time steps as one launch of a GPU kernel, for recurrent weights that fit on the chip.

A scan launches several kernels per step, and each reads the recurrent weights again. Here a block of threads (from 129
units on, a cluster of blocks) runs eight sequences through all steps. The weights stay in its registers and shared
memory, and the state in registers. Only the operands of a step, eight columns in half precision, are exchanged between
threads and blocks. Inputs are prefetched a few steps ahead.

The kernel is written in Pallas for Mosaic GPU, whose interface changes between versions of JAX; `lacking` names what
the installed version lacks.
"""

import functools
import importlib
import inspect
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.kernels.walk import COLUMNS, ROWS, Arrays, Walk, layout_of

INTERFACE = "jax.experimental.pallas.mosaic_gpu"
NEEDED: dict[str, tuple[str, ...]] = {
    "kernel": ("out_type", "scratch_types", "num_threads", "cluster", "interpret"),
    "load": ("layout", "optimized"),
    "async_store_smem": ("cluster_idx", "cluster_dim"),
    "mma": (),
    "copy_gmem_to_smem": (),
    "layout_cast": (),
    "commit_smem": (),
    "ClusterBarrier": ("num_arrivals",),
    "InterpretGPUParams": ("detect_races",),
}
"""Functions of `INTERFACE`, and their parameters, that the kernel uses."""


@functools.cache
def lacking() -> str | None:
    """Returns what the installed JAX lacks; None if it has all that the kernel needs."""
    try:
        interface = importlib.import_module(INTERFACE)
    except ImportError:
        return INTERFACE
    for name, parameters in NEEDED.items():
        if not hasattr(interface, name):
            return f"mosaic_gpu.{name}"
        for parameter in parameters:
            if parameter not in inspect.signature(getattr(interface, name)).parameters:
                return f"mosaic_gpu.{name}({parameter}=)"
    return None


def walk_over(
    walk: Walk,
    weights: jax.Array,
    stream: jax.Array,
    constants: Arrays,
    state: Arrays,
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
        stream: `(time, tiles, parts, hidden, COLUMNS)`, float32: the parts that each step reads.
        constants: Arrays `(tiles, hidden, COLUMNS)` that all steps read, float32.
        state: Arrays `(tiles, hidden, COLUMNS)`: the state before the first step.
        writes: Number of arrays to write, of those that a step can write.
        masked: Whether the last part is a mask: 1 for elements that count, 0 where the state is kept and values are
            zero.
        reverse: Whether to begin at the last step.
        interpret: Whether to run in Python on CPU, looking for races; there `jnp.dot` replaces the tensor cores.

    Returns:
        What the steps wrote, `(time, tiles, hidden, COLUMNS)`, and the last state.
    """
    # Imported here, since it takes time; and its types differ between versions of JAX.
    gpu: Any = importlib.import_module(INTERFACE)
    pl: Any = importlib.import_module("jax.experimental.pallas")
    time, tiles, parts, hidden, _ = stream.shape
    dtype, matrices = weights.dtype, len(weights)
    layout = layout_of(walk, parts, hidden)
    assert layout is not None
    groups, blocks, held, stages = layout
    tile = (ROWS, COLUMNS)
    of_result, of_left, of_right = gpu.Layout.MMA_ACC(dtype), gpu.Layout.MMA_LHS(dtype), gpu.Layout.MMA_RHS(dtype)
    read = functools.partial(gpu.load, optimized=False)

    def multiply_add(total: jax.Array, a: jax.Array, b: jax.Array) -> Any:
        return total + jnp.dot(a, b, preferred_element_type=jnp.float32) if interpret else gpu.mma(total, a, b)

    # In shared memory the operands of a warpgroup are adjacent, so the columns of the weights follow that order.
    groups_of_columns = weights.reshape(walk.products, walk.operands, hidden, hidden // ROWS, ROWS)
    weights = jnp.moveaxis(groups_of_columns, 1, 3).reshape(walk.products, hidden, walk.operands, hidden)
    weights = jnp.moveaxis(weights, 2, 1).reshape(matrices, hidden, hidden)

    def body(*refs: Any) -> None:
        rest = iter(refs)
        counts = (2, len(constants), len(state), writes, len(state))
        main, constant_refs, state_refs, written_refs, last_refs = ([next(rest) for _ in range(n)] for n in counts)
        (stream_ref, weights_ref), (ring, arrived, operands_ref, exchanged, *in_memory) = main, rest
        group, at = jax.lax.axis_index("group"), jax.lax.axis_index("tile")
        block = jax.lax.axis_index("block")
        first = (block * groups + group) * ROWS
        units = pl.ds(first, ROWS)

        def position(s: Any) -> Any:
            return time - 1 - s if reverse else s

        def fetch(s: Any, stage: Any) -> None:
            source = stream_ref.at[position(s), at, :, units, :]
            gpu.copy_gmem_to_smem(source, ring.at[group, stage], arrived.at[group * stages + stage])

        def exchange(operands: Arrays, half: Any) -> None:
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
            # Units are adjacent in memory, so a thread sends pairs of them.
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
                total = multiply_add(total, a, b)
            return total

        def step(s: Any, carry: Arrays) -> Arrays:
            # The halves of the buffer alternate. Nobody overwrites one before all have read it, because nobody passes a
            # step before all have sent their operands.
            half, stage = jax.lax.rem(s, jnp.int32(2)), jax.lax.rem(s, jnp.int32(stages))
            gpu.barrier_wait(arrived.at[group * stages + stage])
            x = [read(ring.at[group, stage, k], layout=of_result) for k in range(parts)]
            inside = x.pop() > 0 if masked else None
            values, others = walk.before((*x, *fixed), carry)
            if inside is not None:
                values = tuple(jnp.where(inside, a, jnp.zeros_like(a)) for a in values)
            values = tuple(a.astype(dtype) for a in values)
            exchange(values[: walk.operands], half)
            pl.when(s + stages < time)(lambda: fetch(s + stages, stage))
            new = walk.after((*x, *fixed), carry, others, tuple(product(i, half) for i in range(walk.products)))
            if inside is not None:
                new = tuple(jnp.where(inside, a, b) for a, b in zip(new, carry, strict=True))
            for ref, array in zip(written_refs, new if walk.writes_state else values, strict=False):
                ref[position(s), at, units, :] = array
            return new

        for s in range(min(stages, time)):
            fetch(s, s)
        in_registers = [read(weights_ref.at[k, units, :], layout=of_left) for k in range(held)]
        fixed = [read(ref.at[at, units, :], layout=of_result) for ref in constant_refs]
        if held < matrices:
            for k in range(held, matrices):
                source, target = weights_ref.at[k, units, :], in_memory[0].at[group, k - held]
                gpu.copy_gmem_to_smem(source, target, in_memory[1].at[group])
            gpu.barrier_wait(in_memory[1].at[group])
        start = tuple(read(ref.at[at, units, :], layout=of_result) for ref in state_refs)
        last = jax.lax.fori_loop(jnp.int32(0), jnp.int32(time), step, start)
        for ref, array in zip(last_refs, last, strict=True):
            ref[at, units, :] = array

    swizzled = (gpu.TilingTransform((8, ROWS)), gpu.SwizzleTransform(128))
    # At a cluster barrier one thread arrives for its warpgroup; at others all 128 threads do, one after another.
    local = gpu.ClusterBarrier(collective_axes=("block",), num_arrivals=groups, num_barriers=2)
    scratch: list[Any] = [
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
        interpret=gpu.InterpretGPUParams(detect_races=True) if interpret else None,
        # The body has all barriers that it needs; those that Pallas would add to every access cost 5 % of the time.
        compiler_params=gpu.CompilerParams(
            approx_math=True,
            unsafe_no_auto_barriers=True,
            lowering_semantics=gpu.LoweringSemantics.Warpgroup,
        ),
    )
    out = call(stream, weights, *constants, *state)
    return out[:writes], out[writes:]
