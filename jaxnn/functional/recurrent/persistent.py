"""The algorithm "persistent": an LSTM or a GRU as one GPU kernel for all time steps (`kernels.persistent`)."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.functional.recurrent.cell import Cell, NotServedError, first_leaf
from jaxnn.functional.recurrent.scan import blocks
from jaxnn.functional.recurrent.task import Options, Task
from jaxnn.functional.sharding import sharded
from jaxnn.kernels.geometry import known
from jaxnn.kernels.masks import Masks, choose, counted, zeros
from jaxnn.kernels.persistent import Persistent, fits, is_interpreted
from jaxnn.kernels.persistent import persistent as run_kernel
from jaxnn.kernels.walk import lacking


def persistent(cell: Cell, task: Task, options: Options) -> tuple[Any, Any]:
    """As `scan.scan`, for cells with a persistent form (`Cell.persistent`), in bfloat16 or float16.

    The recurrent weights stay on the chip for all steps, so they have to fit: an LSTM of at most 384 units, a GRU of at
    most 512. Derivatives are those of reverse mode; of the forward pass they keep the states alone. The gates use the
    GPU's own tanh, whose error of about 5e-4 lies below that of half precision.

    Args:
        cell: The cell.
        task: What to run.
        options: How.

    Returns:
        The outputs, time first, and the final state.

    Raises:
        NotServedError: Other than on a GPU of compute capability 9.0 (H100, H200), for other cells, dtypes, sizes and
            options, and where the installed JAX lacks what the kernel is written in.

    References:
        Diamos et al., Persistent RNNs: stashing recurrent weights on-chip, 2016.
    """
    form = _form(cell, task)
    leaves, shape = jax.tree.flatten(task.state)
    batch = leaves[0].shape[:-1]
    rows = math.prod(batch)

    def run(carry: Any, inputs: tuple[jax.Array, Masks]) -> tuple[Any, jax.Array]:
        xs, masks = inputs
        xs = counted(masks, xs)
        if 0 in (rows, xs.shape[0]):
            return carry, jnp.zeros((*xs.shape[:-1], leaves[0].shape[-1]), xs.dtype)
        inside = None if masks.inside is None else masks.inside.reshape(len(xs), rows)
        flat = tuple(a.reshape(rows, a.shape[-1]) for a in carry)
        ys, last = run_kernel(form, options.reverse, task.params, flat, xs.reshape(len(xs), rows, -1), inside)
        ys = ys.reshape(*xs.shape[:-1], ys.shape[-1])
        if masks.inside is not None:
            ys = choose(masks.inside, ys, zeros(ys))
        return tuple(a.reshape(*batch, a.shape[-1]) for a in last), ys

    final, ys = blocks(run, tuple(leaves), (task.xs, task.masks), options)
    return ys, jax.tree.unflatten(shape, final)


def _form(cell: Cell, task: Task) -> Persistent:
    if cell.persistent is None or cell.output is not first_leaf:
        raise NotServedError("no persistent form of this cell (Cell.persistent)")
    form: Persistent = cell.persistent(task.params)
    if (missing := lacking()) is not None:
        raise NotServedError(f"no {missing} in JAX {jax.__version__}, which its kernel needs")
    if not is_interpreted():
        _check_device()
    if task.xs.dtype not in (jnp.bfloat16, jnp.float16):
        raise NotServedError(f"no form for {task.xs.dtype}: bfloat16 and float16 alone")
    if not all(known(size) for size in task.xs.shape):
        raise NotServedError("no form for symbolic sizes")
    hidden = jax.tree.leaves(task.state)[0].shape[-1]
    if not fits(form, hidden):
        raise NotServedError(f"no room on the chip for the recurrent weights of {hidden} units")
    if task.masks.reset is not None:
        raise NotServedError("no resets")
    if task.masks.apart is not None:
        raise NotServedError("no truncate")
    if sharded(task):
        raise NotServedError("no way over the devices of an explicit mesh")
    return form


def _check_device() -> None:
    device = jax.config.jax_default_device or jax.devices()[0]  # type: ignore[attr-defined]
    capability = getattr(device, "compute_capability", None)
    if capability != "9.0":
        kind = getattr(device, "device_kind", device)
        raise NotServedError(f"no kernel for {kind}: GPUs of compute capability 9.0 alone (H100, H200)")
